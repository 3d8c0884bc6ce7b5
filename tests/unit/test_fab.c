#include "cmocka_setup.h"

#include "fab/plan.h"

#include "base/hash.h"
#include "chart/trace.h"
#include "collector/labels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct fab *make_fab(const struct fab_options *options)
{
    struct fab *fab;
    struct error err;
    if (fab_create(options, &fab, &err))
        fail_msg("%s", err.text);
    return fab;
}

static void make_run(const struct fab *fab, size_t chamber, uint64_t number, struct arena *arena,
                     struct fab_run *run, struct fab_trace *trace)
{
    struct error err;
    fab_describe_run(fab, chamber, number, run);
    assert_int_equal(fab_make_trace(fab, run, arena, trace, &err), 0);
    assert_int_equal(trace->sample_count, run->sample_count);
    assert_int_equal(trace->column_count, fab_sensors(fab) + 1);
}

static uint64_t trace_hash(const struct fab_run *run, const struct fab_trace *trace)
{
    struct arena arena;
    arena_init(&arena, 0);
    uint64_t *parts = arena_calloc(&arena, trace->column_count + 2, sizeof *parts);
    assert_non_null(parts);
    parts[0] = hash64_text(run->id);
    parts[1] = hash64(trace->time_us, trace->sample_count * sizeof *trace->time_us);
    for (size_t c = 0; c < trace->column_count; c++)
        parts[c + 2] = hash64(trace->columns[c].value, trace->sample_count * sizeof(double));
    uint64_t hash = hash64(parts, (trace->column_count + 2) * sizeof *parts);
    arena_free(&arena);
    return hash;
}

static uint64_t run_hash(const struct fab *fab, size_t chamber, uint64_t number)
{
    struct arena arena;
    struct fab_run run;
    struct fab_trace trace;
    arena_init(&arena, 0);
    make_run(fab, chamber, number, &arena, &run, &trace);
    uint64_t hash = trace_hash(&run, &trace);
    arena_free(&arena);
    return hash;
}

static struct fab_options with_faults(void)
{
    struct fab_options options;
    fab_options_default(&options);
    options.fault_rate = 0.3;
    return options;
}

/* --- numbers --- */

static void normal_numbers_are_normal(void **state)
{
    (void)state;
    enum { DRAWS = 2000000 };
    struct fab_normal normal;
    struct fab_random random = fab_random_for(1, 2, 3, 4, 5);
    double sum[5] = {0};
    size_t beyond[6] = {0};
    fab_normal_fill(&normal);
    for (int i = 0; i < DRAWS; i++) {
        double z = fab_random_normal(&random, &normal), power = 1;
        for (int p = 1; p <= 4; p++)
            sum[p] += power *= z;
        for (int limit = 1; limit <= 5; limit++)
            beyond[limit] += fabs(z) > limit;
    }
    /* Each within five of its own standard errors. */
    assert_true(fabs(sum[1] / DRAWS) < 5 * sqrt(1.0 / DRAWS));
    assert_true(fabs(sum[2] / DRAWS - 1) < 5 * sqrt(2.0 / DRAWS));
    assert_true(fabs(sum[3] / DRAWS) < 5 * sqrt(15.0 / DRAWS));
    assert_true(fabs(sum[4] / DRAWS - 3) < 5 * sqrt(96.0 / DRAWS));
    for (int limit = 1; limit <= 5; limit++) {
        double expected = DRAWS * erfc(limit / sqrt(2));
        assert_true(fabs((double)beyond[limit] - expected) < 5 * sqrt(expected));
    }
}

static void every_key_has_numbers_of_its_own(void **state)
{
    (void)state;
    enum { KEYS = 20000 };
    double sum = 0, product = 0, before = 0.5;
    for (uint64_t i = 0; i < KEYS; i++) {
        struct fab_random random = fab_random_for(1, 2, i / 100, i % 100, 0);
        double u = fab_random_uniform(&random);
        assert_true(u >= 0 && u < 1);
        sum += u;
        product += (u - 0.5) * (before - 0.5);
        before = u;
    }
    assert_true(fabs(sum / KEYS - 0.5) < 5 * sqrt(1.0 / 12 / KEYS));
    assert_true(fabs(product / KEYS) <
                5 * (1.0 / 12) / sqrt(KEYS)); /* neighbours know nothing of each other */
}

static void the_wave_is_nearly_a_sine(void **state)
{
    (void)state;
    for (int i = -2000; i <= 2000; i++) {
        double turns = i / 500.0;
        assert_true(fabs(fab_wave(turns) - sin(2 * acos(-1) * turns)) < 0.002);
    }
}

/* --- any run, at once --- */

static void a_run_does_not_depend_on_what_was_made_before(void **state)
{
    (void)state;
    struct fab_options options = with_faults();
    struct fab *in_order = make_fab(&options), *backwards = make_fab(&options);
    enum { CHAMBERS = 5, RUNS = 8 };
    uint64_t hashes[CHAMBERS][RUNS];
    for (size_t c = 0; c < CHAMBERS; c++)
        for (size_t k = 0; k < RUNS; k++)
            hashes[c][k] = run_hash(in_order, c, k);
    for (size_t c = CHAMBERS; c-- > 0;)
        for (size_t k = RUNS; k-- > 0;)
            assert_int_equal(run_hash(backwards, c, k), hashes[c][k]);
    for (size_t a = 0; a < CHAMBERS * RUNS; a++)
        for (size_t b = 0; b < a; b++)
            assert_int_not_equal(hashes[a / RUNS][a % RUNS], hashes[b / RUNS][b % RUNS]);
    fab_free(in_order);
    fab_free(backwards);
}

static void a_seed_is_a_fab_with_the_same_bits_everywhere(void **state)
{
    (void)state;
    struct fab_options options = with_faults();
    struct fab *fab = make_fab(&options);
    uint64_t first = run_hash(fab, 0, 0), far = run_hash(fab, 39, 1234567);
    fab_free(fab);
    options.seed = 2;
    fab = make_fab(&options);
    assert_int_not_equal(run_hash(fab, 0, 0), first);
    fab_free(fab);
    /* Written down once: a change of these is a change of everyone's data. */
    assert_int_equal(first, UINT64_C(0xd0cf3df5f969e6b3));
    assert_int_equal(far, UINT64_C(0xfb5c21d941e823d5));
}

static void runs_of_a_chamber_follow_one_another(void **state)
{
    (void)state;
    struct fab_options options = with_faults();
    struct fab *fab = make_fab(&options);
    for (size_t c = 0; c < fab_chambers(fab); c++) {
        struct fab_run run, before = {.end_us = options.start_us};
        for (uint64_t k = 0; k < 60; k++) {
            fab_describe_run(fab, c, k, &run);
            assert_true(run.start_us >= before.end_us);
            assert_int_equal(run.end_us, fab_run_end_us(fab, c, k));
            size_t samples = 0;
            for (size_t i = 0; i < run.step_count; i++)
                samples += run.step_samples[i];
            assert_int_equal(run.sample_count, samples);
            assert_int_equal(run.end_us - run.start_us, (int64_t)samples * 1000000);
            if (k > 0 && run.maintenance == before.maintenance)
                assert_int_equal(run.runs_since_maintenance, before.runs_since_maintenance + 1);
            else if (k > 0)
                assert_int_equal(run.runs_since_maintenance, 0);
            if (k > 0 && strcmp(run.lot, before.lot) == 0)
                assert_string_equal(run.recipe_name, before.recipe_name);
            before = run;
        }
    }
    fab_free(fab);
}

static void the_chambers_of_a_tool_share_its_lots(void **state)
{
    (void)state;
    struct fab_options options;
    fab_options_default(&options);
    options.tools = 1;
    struct fab *fab = make_fab(&options);
    bool seen[FAB_LOT_WAFERS + 1] = {false};
    for (uint64_t k = 0; k < 13; k++)
        for (size_t c = 0; c < 2; c++) {
            struct fab_run run;
            fab_describe_run(fab, c, k, &run);
            int wafer = atoi(run.wafer);
            if (strcmp(run.lot, "T0001-L00001") != 0)
                continue;
            assert_in_range(wafer, 1, FAB_LOT_WAFERS);
            assert_false(seen[wafer]);
            seen[wafer] = true;
        }
    for (int wafer = 1; wafer <= FAB_LOT_WAFERS; wafer++)
        assert_true(seen[wafer]);
    fab_free(fab);
}

static void the_schedule_has_every_run_once_in_the_order_of_their_ends(void **state)
{
    (void)state;
    struct fab_options options = with_faults();
    struct fab *fab = make_fab(&options);
    struct fab_schedule *schedule;
    struct error err;
    enum { FIRST = 7, RUNS = 11 };
    size_t chambers = fab_chambers(fab), chamber, count = 0;
    uint64_t number, *next = calloc(chambers, sizeof *next);
    int64_t end_us, before_us = 0;
    assert_non_null(next);
    assert_int_equal(fab_schedule_create(fab, FIRST, RUNS, &schedule, &err), 0);
    while (fab_schedule_next(schedule, &chamber, &number, &end_us)) {
        assert_true(end_us >= before_us);
        assert_int_equal(number, FIRST + next[chamber]++);
        assert_int_equal(end_us, fab_run_end_us(fab, chamber, number));
        before_us = end_us;
        count++;
    }
    assert_int_equal(count, RUNS * chambers);
    fab_schedule_free(schedule);
    assert_int_equal(fab_schedule_create(fab, FAB_RUNS_MAX - 1, 2, &schedule, &err), ERR_INVALID);
    free(next);
    fab_free(fab);
}

/* --- what the sensors show --- */

/* Sums over the settled halves of the longest steps of many runs. */
struct moments {
    double count, xx, yy, xy;
};

static void add_settled(const struct fab_run *run, const double *x, const double *y, struct moments *moments)
{
    size_t at = 0, from = 0, length = 0;
    for (size_t i = 0; i < run->step_count; i++) {
        if (run->step_samples[i] > length) {
            length = run->step_samples[i];
            from = at;
        }
        at += run->step_samples[i];
    }
    from += length / 2;
    length -= length / 2;
    double x_mean = 0, y_mean = 0;
    for (size_t i = from; i < from + length; i++) {
        x_mean += x[i] / (double)length;
        y_mean += y[i] / (double)length;
    }
    for (size_t i = from; i < from + length; i++) {
        moments->xx += (x[i] - x_mean) * (x[i] - x_mean);
        moments->yy += (y[i] - y_mean) * (y[i] - y_mean);
        moments->xy += (x[i] - x_mean) * (y[i] - y_mean);
    }
    moments->count += (double)(length - 1);
}

static struct moments settled(size_t x, size_t y)
{
    struct fab_options options;
    fab_options_default(&options);
    options.run_us = INT64_C(3600) * 1000000;
    struct fab *fab = make_fab(&options);
    struct moments moments = {0};
    struct arena arena;
    arena_init(&arena, 0);
    for (size_t c = 0; c < 40; c++) {
        struct fab_run run;
        struct fab_trace trace;
        arena_reset(&arena);
        make_run(fab, c, 3 * c, &arena, &run, &trace);
        add_settled(&run, trace.columns[x].value, trace.columns[y].value, &moments);
    }
    assert_true(moments.count > 10000);
    arena_free(&arena);
    fab_free(fab);
    return moments;
}

enum { PRESSURE = 0, GAS_FLOW = 3, THROTTLE = 4, CHUCK_TEMP = 5, EMISSION = 8, VALVE = 9, WALL_TEMP = 10 };

static void noise_has_its_deviation_and_its_correlation(void **state)
{
    (void)state;
    struct moments together = settled(PRESSURE, THROTTLE), apart = settled(PRESSURE, CHUCK_TEMP);
    /* 0.3 % of 80 and 0.4 % of 90; the group's slow part varies a little less within a step. */
    assert_true(fabs(sqrt(together.xx / together.count) / 0.24 - 1) < 0.03);
    assert_true(fabs(sqrt(together.yy / together.count) / 0.36 - 1) < 0.03);
    /* They share 0.4 and 0.7 of their variances. */
    assert_true(fabs(together.xy / sqrt(together.xx * together.yy) - sqrt(0.4 * 0.7)) < 0.03);
    assert_true(fabs(apart.xy / sqrt(apart.xx * apart.yy)) < 0.05);
}

static void values_are_what_a_converter_gives(void **state)
{
    (void)state;
    struct fab_options options;
    fab_options_default(&options);
    struct fab *fab = make_fab(&options);
    struct fab_run run;
    struct fab_trace trace;
    struct arena arena;
    arena_init(&arena, 0);
    make_run(fab, 3, 5, &arena, &run, &trace);
    for (size_t s = 0; s < options.sensors; s++) {
        char text[64];
        int decimals = (int)(log10(fab->sensors[s].scale) + 0.5);
        for (size_t i = 0; i < trace.sample_count; i++) {
            snprintf(text, sizeof text, "%.*f", decimals, trace.columns[s].value[i]);
            assert_true(strtod(text, NULL) == trace.columns[s].value[i]);
        }
    }
    for (size_t i = 0; i < trace.sample_count; i++) {
        assert_true(trace.columns[VALVE].value[i] == 0 || trace.columns[VALVE].value[i] == 1);
        assert_int_equal(trace.time_us[i], run.start_us + (int64_t)i * 1000000);
    }
    assert_string_equal(trace.columns[options.sensors].name, TRACE_STEP_NAME);
    arena_free(&arena);
    fab_free(fab);
}

static void a_set_point_is_reached_with_overshoot(void **state)
{
    (void)state;
    struct fab_options options;
    fab_options_default(&options);
    options.hz = 10;
    struct fab *fab = make_fab(&options);
    struct fab_run run;
    struct fab_trace trace;
    struct arena arena;
    arena_init(&arena, 0);
    make_run(fab, 0, 0, &arena, &run, &trace);
    const double *gas = trace.columns[GAS_FLOW].value;
    const double target = fab_targets(fab, GAS_FLOW, run.recipe)[0];
    double most = 0;
    for (size_t i = 0; i < run.step_samples[0]; i++)
        most = gas[i] > most ? gas[i] : most;
    assert_true(gas[0] < 0.2 * target); /* starts from nothing */
    assert_true(most > 1.02 * target && most < 1.4 * target);
    for (size_t i = run.step_samples[0] / 2; i < run.step_samples[0]; i++)
        assert_true(fabs(gas[i] / target - 1) < 0.15);
    arena_free(&arena);
    fab_free(fab);
}

/* The mean level of a sensor over all chambers, at runs that `choose` says. */
static double mean_level(const struct fab *fab, size_t sensor, bool (*choose)(const struct fab_run *run),
                         double *error)
{
    double sum = 0, squares = 0, count = 0;
    for (size_t c = 0; c < fab_chambers(fab); c++)
        for (uint64_t k = 0; k < 200; k++) {
            struct fab_run run;
            fab_describe_run(fab, c, k, &run);
            if (!choose(&run))
                continue;
            double level = fab_level(fab, &run, sensor);
            sum += level;
            squares += level * level;
            count++;
        }
    assert_true(count > 500);
    *error = sqrt(squares / count / (count / 10)); /* up to ten neighbouring runs of a chamber are alike */
    return sum / count;
}

static bool is_fresh(const struct fab_run *run)
{
    return run->runs_since_maintenance < 10;
}

static bool is_old(const struct fab_run *run)
{
    return run->runs_since_maintenance >= 190;
}

static int64_t hour_of(const struct fab_run *run)
{
    return run->start_us / (INT64_C(3600) * 1000000) % 24;
}

static bool is_morning(const struct fab_run *run)
{
    return hour_of(run) >= 4 && hour_of(run) < 7;
}

static bool is_evening(const struct fab_run *run)
{
    return hour_of(run) >= 16 && hour_of(run) < 19;
}

static void chambers_age_until_maintenance_and_days_are_seen(void **state)
{
    (void)state;
    struct fab_options options;
    fab_options_default(&options);
    options.tools = 200;
    struct fab *fab = make_fab(&options);
    double fresh_error, old_error;
    double aged =
        mean_level(fab, EMISSION, is_old, &old_error) - mean_level(fab, EMISSION, is_fresh, &fresh_error);
    double ageing = 0.95 * fab->sensors[EMISSION].ageing; /* run 195 against run 5 */
    assert_true(fabs(ageing) > 0.9);
    assert_true(fabs(aged - ageing) < 4 * hypot(fresh_error, old_error));
    double day = mean_level(fab, WALL_TEMP, is_morning, &fresh_error) -
                 mean_level(fab, WALL_TEMP, is_evening, &old_error);
    assert_true(day > 1.5); /* 1.5 up and 1.5 down, and the chambers' own differences cancel */
    fab_free(fab);
}

static void chambers_differ_more_than_their_runs(void **state)
{
    (void)state;
    struct fab_options options;
    fab_options_default(&options);
    struct fab *fab = make_fab(&options);
    double between = 0, within = 0;
    for (size_t c = 0; c < 40; c++) {
        struct fab_run run;
        fab_describe_run(fab, c, 5, &run);
        double level = fab_level(fab, &run, GAS_FLOW);
        fab_describe_run(fab, c, 6, &run);
        double next = fab_level(fab, &run, GAS_FLOW);
        between += level * level / 40;
        within += (next - level) * (next - level) / 2 / 40;
    }
    assert_true(sqrt(between) > 2 && sqrt(between) < 5);
    assert_true(sqrt(within) > 0.4 && sqrt(within) < 1);
    fab_free(fab);
}

/* --- what leaves the fab --- */

static void traces_come_out_of_their_blobs(void **state)
{
    (void)state;
    struct fab_options options = with_faults();
    options.fault_rate = 1;
    options.fault_kinds = 1U << FAB_DROPOUT;
    struct fab *fab = make_fab(&options);
    struct arena arena;
    arena_init(&arena, 0);
    for (size_t c = 0; c < 4; c++) {
        struct fab_run run;
        struct fab_trace trace;
        struct tchart_blobs blobs;
        struct mebo_set set;
        struct error err;
        arena_reset(&arena);
        make_run(fab, c, 1, &arena, &run, &trace);
        assert_int_equal(tchart_pack(trace.columns, trace.column_count, 0, &arena, &blobs, &err), 0);
        assert_int_equal(mebo_set_open(&set, blobs.blobs, blobs.count, &arena, NULL, &err), 0);
        for (size_t i = 0; i < trace.column_count; i++) {
            uint64_t id = hash64_text(trace.columns[i].name);
            struct mebo_column column;
            assert_int_equal(mebo_set_columns(&set, &id, 1, &column, &err), 0);
            assert_int_equal(column.count, trace.sample_count);
            assert_memory_equal(column.times_us, trace.time_us, trace.sample_count * sizeof(int64_t));
            assert_memory_equal(column.values, trace.columns[i].value, trace.sample_count * sizeof(double));
        }
    }
    arena_free(&arena);
    fab_free(fab);
}

static void the_context_is_one_that_can_be_announced(void **state)
{
    (void)state;
    struct fab_options options = with_faults();
    options.seed = UINT64_MAX;
    options.chambers_per_tool = 4;
    options.tools = FAB_TOOLS_MAX;
    struct fab *fab = make_fab(&options);
    struct fab_run run;
    struct context context, read;
    struct error err;
    struct strbuf json;
    struct arena arena;
    arena_init(&arena, 0);
    strbuf_init(&json);
    fab_describe_run(fab, fab_chambers(fab) - 1, FAB_RUNS_MAX - 1, &run);
    fab_context(fab, &run, &context);
    assert_int_equal(context_check(&context, &err), 0);
    context_format(&context, &json);
    assert_int_equal(context_parse(json.text, json.length, &arena, &read, &err), 0);
    assert_string_equal(read.id, "fab18446744073709551615-T50000-PM4-99999999");
    assert_int_equal(read.point_count, 21 * (int64_t)run.sample_count);
    char number[32];
    snprintf(number, sizeof number, "%llu", (unsigned long long)run.maintenance);
    assert_string_equal(context_attribute(&read, "maintenance", &arena), number);
    strbuf_free(&json);
    arena_free(&arena);
    fab_free(fab);
}

static void the_truth_is_a_runs_csv(void **state)
{
    (void)state;
    struct fab_options options = with_faults();
    struct fab *fab = make_fab(&options);
    struct strbuf csv;
    strbuf_init(&csv);
    fab_truth_begin(&csv);
    enum { RUNS = 400 };
    for (uint64_t k = 0; k < RUNS; k++) {
        struct fab_run run;
        fab_describe_run(fab, k % 40, k / 40, &run);
        fab_truth_add(fab, &run, &csv);
    }
    assert_false(csv.failed);
    char path[] = "truth-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(write(file, csv.text, csv.length), csv.length);
    close(file);
    struct labels labels;
    struct import_summary summary = {0};
    struct error err;
    int code = labels_load(path, NULL, &summary, &labels, &err);
    unlink(path);
    assert_int_equal(code, 0);
    assert_int_equal(labels.count, RUNS);
    for (size_t event = 0; event < IMPORT_EVENTS; event++)
        assert_int_equal(summary.events[event], 0);
    size_t faults = 0;
    for (uint64_t k = 0; k < RUNS; k++) {
        struct fab_run run;
        fab_describe_run(fab, k % 40, k / 40, &run);
        const struct label *label = labels_find(&labels, run.id);
        bool any = run.fault.kind != FAB_NO_FAULT;
        assert_non_null(label);
        assert_string_equal(label->label, any ? "fault" : "normal");
        assert_string_equal(label->fault, fab_fault_name(run.fault.kind));
        assert_string_equal(label->lot, run.lot);
        faults += any;
    }
    assert_in_range(faults, 80, 160);
    labels_free(&labels);
    strbuf_free(&csv);
    fab_free(fab);
}

static void options_out_of_range_are_named(void **state)
{
    (void)state;
    struct fab_options good;
    fab_options_default(&good);
    struct {
        struct fab_options options;
        const char *word;
    } wrong[12];
    size_t count = 0;
#define WRONG(member, value, text)                                                                           \
    do {                                                                                                     \
        wrong[count].options = good;                                                                         \
        wrong[count].options.member = (value);                                                               \
        wrong[count++].word = (text);                                                                        \
    } while (0)
    WRONG(tools, 0, "tools");
    WRONG(tools, FAB_TOOLS_MAX + 1, "50000");
    WRONG(chambers_per_tool, 5, "chambers");
    WRONG(sensors, 0, "sensors");
    WRONG(recipes, FAB_RECIPES_MAX + 1, "recipes");
    WRONG(hz, NAN, "Hz");
    WRONG(hz, 0.01, "samples");
    WRONG(run_us, 0, "24 h");
    WRONG(maintenance_runs, 0, "maintenance");
    WRONG(fault_rate, NAN, "rate");
    WRONG(fault_kinds, 1U << FAB_FAULT_KINDS, "fault");
    WRONG(period_us, 1000000, "robot");
    for (size_t i = 0; i < count; i++) {
        struct fab *fab = NULL;
        struct error err;
        assert_int_equal(fab_create(&wrong[i].options, &fab, &err), ERR_INVALID);
        assert_null(fab);
        if (strstr(err.text, wrong[i].word) == NULL)
            fail_msg("'%s' does not name %s", err.text, wrong[i].word);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_numbers_are_normal),
        cmocka_unit_test(every_key_has_numbers_of_its_own),
        cmocka_unit_test(the_wave_is_nearly_a_sine),
        cmocka_unit_test(a_run_does_not_depend_on_what_was_made_before),
        cmocka_unit_test(a_seed_is_a_fab_with_the_same_bits_everywhere),
        cmocka_unit_test(runs_of_a_chamber_follow_one_another),
        cmocka_unit_test(the_chambers_of_a_tool_share_its_lots),
        cmocka_unit_test(the_schedule_has_every_run_once_in_the_order_of_their_ends),
        cmocka_unit_test(noise_has_its_deviation_and_its_correlation),
        cmocka_unit_test(values_are_what_a_converter_gives),
        cmocka_unit_test(a_set_point_is_reached_with_overshoot),
        cmocka_unit_test(chambers_age_until_maintenance_and_days_are_seen),
        cmocka_unit_test(chambers_differ_more_than_their_runs),
        cmocka_unit_test(traces_come_out_of_their_blobs),
        cmocka_unit_test(the_context_is_one_that_can_be_announced),
        cmocka_unit_test(the_truth_is_a_runs_csv),
        cmocka_unit_test(options_out_of_range_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
