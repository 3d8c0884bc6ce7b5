/* Learning charts and judging with them: on recorded wafers (data/lam9600), on simulated ones, on odd input.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "chart/chartset.h"
#include "chart/judge.h"
#include "chart/learn.h"
#include "chart/limits.h"
#include "chart/rules.h"
#include "cmocka_setup.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO ((double)NAN)

enum { WAFERS_MAX = 100, SENSORS_MAX = 32, SAMPLES_MAX = 4000, LINE_MAX_BYTES = 4096 };

static void must(int code, const struct error *err)
{
    if (code != 0)
        fail_msg("%s: %s", error_name(code), err->text);
}

/* ---- traces ---- */

/* A trace in the making: columns in the order of their names' hashes. */
struct table {
    struct arena arena;
    const char *names[SENSORS_MAX];
    struct trace_column columns[SENSORS_MAX];
    struct trace trace;
};

static void table_add(struct table *table, const char *name, const int64_t *time_us, const double *values,
                      size_t count)
{
    assert_true(table->trace.count < SENSORS_MAX);
    uint64_t id = hash64_text(name);
    size_t i = table->trace.count++;
    while (i > 0 && table->columns[i - 1].sensor > id) {
        table->columns[i] = table->columns[i - 1];
        table->names[i] = table->names[i - 1];
        i--;
    }
    table->names[i] = arena_strdup(&table->arena, name);
    table->columns[i] =
        (struct trace_column){.sensor = id, .count = count, .time_us = time_us, .value = values};
    table->trace.columns = table->columns;
}

static void table_init(struct table *table)
{
    *table = (struct table){0};
    arena_init(&table->arena, 0);
}

struct wafer {
    struct context context;
    struct table table;
    bool fault;
};

/* ---- data/lam9600 ---- */

struct lam {
    struct wafer wafers[WAFERS_MAX];
    size_t count;
    struct arena arena;
};

static size_t split(char *line, char **fields, size_t most)
{
    size_t count = 0;
    line[strcspn(line, "\r\n")] = '\0';
    for (char *p = line; p != NULL && count < most;) {
        fields[count++] = p;
        p = strchr(p, ',');
        if (p != NULL)
            *p++ = '\0';
    }
    return count;
}

/* The wafer's samples up to the first whose time does not go on (the last row of each file carries an older
 * time). */
static void wafer_read(struct wafer *wafer, const char *path)
{
    char line[LINE_MAX_BYTES], header[LINE_MAX_BYTES];
    char *names[SENSORS_MAX], *fields[SENSORS_MAX];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(header, sizeof header, file));
    size_t columns = split(header, names, SENSORS_MAX), count = 0;
    table_init(&wafer->table);
    int64_t *time_us = arena_alloc(&wafer->table.arena, SAMPLES_MAX * sizeof *time_us);
    double *values = arena_alloc(&wafer->table.arena, sizeof *values * SENSORS_MAX * SAMPLES_MAX);
    while (fgets(line, sizeof line, file) && count < SAMPLES_MAX) {
        assert_int_equal(split(line, fields, SENSORS_MAX), columns);
        must(clock_parse_rfc3339(fields[0], &time_us[count], NULL), &(struct error){.text = "time"});
        if (count > 0 && time_us[count] <= time_us[count - 1])
            break;
        for (size_t k = 1; k < columns; k++)
            values[k * SAMPLES_MAX + count] = fields[k][0] ? strtod(fields[k], NULL) : NO;
        count++;
    }
    fclose(file);
    assert_true(count > 0);
    for (size_t k = 1; k < columns; k++)
        table_add(&wafer->table, names[k], time_us, values + k * SAMPLES_MAX, count);
    wafer->context.start_us = wafer->table.trace.start_us = time_us[0];
    wafer->context.end_us = wafer->table.trace.end_us = time_us[count - 1];
}

static int lam_setup(void **state)
{
    struct lam *lam = calloc(1, sizeof *lam);
    assert_non_null(lam);
    arena_init(&lam->arena, 0);
    char line[LINE_MAX_BYTES], path[LINE_MAX_BYTES];
    char *fields[16] = {NULL};
    FILE *runs = fopen(PROJECT_ROOT "/data/lam9600/runs.csv", "r");
    assert_non_null(runs);
    assert_non_null(
        fgets(line, sizeof line, runs)); /* context_id,tool,chamber,recipe,lot,wafer,label,fault */
    while (fgets(line, sizeof line, runs)) {
        assert_true(lam->count < WAFERS_MAX);
        struct wafer *wafer = &lam->wafers[lam->count++];
        assert_int_equal(split(line, fields, 16), 8);
        for (size_t i = 0; i < 8; i++)
            fields[i] = arena_strdup(&lam->arena, fields[i]);
        wafer->context = (struct context){.id = fields[0],
                                          .tool = fields[1],
                                          .chamber = fields[2],
                                          .recipe = fields[3],
                                          .lot = fields[4],
                                          .wafer = fields[5],
                                          .extra_json = "{}"};
        wafer->fault = strcmp(fields[6], "fault") == 0;
        snprintf(path, sizeof path, "%s/data/lam9600/%s.csv", PROJECT_ROOT, fields[0]);
        wafer_read(wafer, path);
    }
    fclose(runs);
    assert_int_equal(lam->count, 86);
    *state = lam;
    return 0;
}

static int lam_teardown(void **state)
{
    struct lam *lam = *state;
    for (size_t i = 0; i < lam->count; i++)
        arena_free(&lam->wafers[i].table.arena);
    arena_free(&lam->arena);
    free(lam);
    return 0;
}

/* Marks the first `most` normal wafers of each lot. */
static size_t mark_learned(const struct lam *lam, size_t most, bool *learned)
{
    size_t total = 0;
    for (size_t i = 0; i < lam->count; i++) {
        size_t before = 0;
        for (size_t k = 0; k < i; k++)
            before += learned[k] && strcmp(lam->wafers[k].context.lot, lam->wafers[i].context.lot) == 0;
        learned[i] = !lam->wafers[i].fault && before < most;
        total += learned[i];
    }
    return total;
}

static void learn_wafers(const struct lam *lam, const bool *learned, bool backwards, struct strbuf *yaml,
                         struct learn_result *result)
{
    struct learn_options options;
    struct learn *learn;
    struct error err;
    learn_options_default(&options);
    options.group = "lot";
    must(learn_create(&options, &learn, &err), &err);
    for (size_t n = 0; n < lam->count; n++) {
        size_t i = backwards ? lam->count - 1 - n : n;
        const struct wafer *wafer = &lam->wafers[i];
        if (learned[i])
            must(learn_add(learn, &wafer->context, &wafer->table.trace, wafer->table.names, &err), &err);
    }
    must(learn_write(learn, yaml, result, &err), &err);
    learn_free(learn);
}

static struct chart_set *parse_clean(const struct strbuf *yaml)
{
    struct chart_problems problems;
    struct chart_set *set;
    struct error err;
    chart_problems_init(&problems);
    must(chart_set_parse(yaml->text, yaml->length, "learned.yaml", &set, &problems, &err), &err);
    if (problems.count > 0)
        fail_msg("line %zu: %s", problems.items[0].line, problems.items[0].message);
    chart_problems_free(&problems);
    return set;
}

/* ---- judging in event order ---- */

enum { HISTORY_MAX = 700 };

struct story {
    struct arena arena;
    struct judge_history_row rows[HISTORY_MAX]; /* newest last */
    size_t count;
};

/* Judges a context against all that went before it, and adds it to that. The U-chart lives in the story's
 * arena. */
static void judge_next(struct story *story, struct chart_set *set, const struct context *context,
                       const struct trace *trace, struct uchart *uchart)
{
    struct error err;
    const struct judge_plan *plan;
    must(judge_plan_for(set, context->recipe, &plan, &err), &err);
    size_t charts = judge_plan_chart_count(plan);
    double *values = arena_calloc(&story->arena, charts, sizeof *values);
    const char **reasons = arena_calloc(&story->arena, charts, sizeof *reasons);
    must(judge_compute(plan, trace, &story->arena, values, reasons, &err), &err);
    struct judge_history_row newest_first[HISTORY_MAX];
    size_t count = 0, lookback = judge_plan_lookback(plan);
    while (count < story->count && count < lookback) {
        newest_first[count] = story->rows[story->count - 1 - count];
        count++;
    }
    must(judge_verdicts(plan, context, values, reasons, newest_first, count, 0, &story->arena, uchart, &err),
         &err);
    struct uchart_bytes bytes;
    must(uchart_encode(uchart, &story->arena, &bytes, &err), &err);
    assert_true(story->count < HISTORY_MAX);
    story->rows[story->count++] = (struct judge_history_row){bytes.points, bytes.points_length};
}

static size_t alarms_of(const struct uchart *uchart)
{
    size_t alarms = 0;
    for (size_t i = 0; i < uchart->count; i++)
        alarms += uchart->points[i].state == VERDICT_ALARM;
    return alarms;
}

static const struct uchart_point *point_of(const struct uchart *uchart, const char *chart)
{
    for (size_t i = 0; i < uchart->count; i++) {
        if (strcmp(uchart->points[i].chart, chart) == 0)
            return &uchart->points[i];
    }
    fail_msg("no chart %s", chart);
    return NULL;
}

static double ratio_of(const struct uchart_point *point)
{
    return fabs(point->value - point->centre) / (point->upper - point->centre);
}

static void assert_close(double found, double expected, double relative, const char *what)
{
    if (isnan(expected) ? !isnan(found) : !(fabs(found - expected) <= relative * fabs(expected)))
        fail_msg("%s: %.17g, expected %.17g", what, found, expected);
}

/* ---- the recorded wafers ---- */

/* Computed independently, by a program in another language on the same files. */
static const double LAM_SIGMA = 5.6598038349695825;

static const struct {
    const char *chart;
    double exp29, exp31; /* deviations learned */
} LAM_STDEVS[] = {
    {"Pressure.mean.step4", 0.61923523618715159, 0.59230611398687372},
    {"Pressure.std.step4", 0.68158438493487106, 1.0198842301805706},
    {"RF_Load.mean.step4", 3.4935483831558174, 5.2410347809363982},
    {"Vat_Valve.mean.step5", 0.015550006211821486, 0.05647088329702684},
    {"He_Press.std.step4", 0.078969380395121719, 0.054243512827508444},
    {"Endpt_A.mean.step5", 3.3799688046994665, 6.1255422880365495},
    {"step.count.step4", 0.55972226870700503, 0.93287044784500839},
    {"RF_Tuner.mean.step4", 6.8777632288662147, 5.8242389577971467},
};

static const struct {
    const char *wafer, *chart;
    double value, centre, half_width, ratio;
} LAM_POINTS[] = {
    {"l2906", "Pressure.mean.step4", 1189.4693877551019, 1188.0632767488225, 3.8014350717165772,
     0.36988952323324698},
    {"l2906", "Pressure.std.step4", 14.354299647399971, 13.203111498393671, 4.1841914571584757,
     0.27512798130611427},
    {"l2906", "RF_Load.mean.step4", 9046.0204081632655, 9054.873813728349, 21.446611194543681,
     0.41281139872279121},
    {"l2906", "Vat_Valve.mean.step5", 49.877192982456137, 49.892488262711865, 0.5, 0.030590560511456033},
    {"l2906", "He_Press.std.step4", 0.70890833004568599, 0.76202989875472316, 0.5, 0.10624313741807434},
    {"l2906", "Endpt_A.mean.step5", 906.47368421052636, 893.83973015600918, 20.749355341286222,
     0.6088841723857632},
    {"l2906", "step.count.step4", 49, 49.108989999999999, 3.4360897738715068, 0.031719194541648288},
    {"l2917", "Pressure.mean.step4", 1189.1914893617022, 1187.3030851085139, 3.8014350717165772,
     0.49676088570825616},
    {"l2917", "Pressure.std.step4", 16.391458934287993, 12.190363185949929, 4.1841914571584757,
     1.0040400376877276},
    {"l2917", "RF_Load.mean.step4", 9080.6382978723395, 9049.2086545811762, 21.446611194543681,
     1.4654829616699279},
    {"l2917", "Vat_Valve.mean.step5", 49.962962962962962, 49.807038665589737, 0.5, 0.31184859474645066},
    {"l2917", "He_Press.std.step4", 0.68077878894833455, 0.78854206649238767, 0.5, 0.21552655508810625},
    {"l2917", "Endpt_A.mean.step5", 911.18518518518522, 907.20148352922342, 20.749355341286222,
     0.19199158674752598},
    {"l2917", "step.count.step4", 47, 48.212803098417197, 3.4360897738715068, 0.35296024790723357},
    {"l2940", "Pressure.mean.step4", 1188.2444444444445, 1188.285941638025, 3.8014350717165772,
     0.01091619159542492},
    {"l2940", "Pressure.std.step4", 13.494368447540616, 12.851324594675026, 4.1841914571584757,
     0.15368413693533214},
    {"l2940", "RF_Load.mean.step4", 9041.3555555555558, 9055.833446941182, 21.446611194543681,
     0.67506662261446626},
    {"l2940", "Vat_Valve.mean.step5", 49.886792452830186, 49.882599634419208, 0.5, 0.0083856368219556998},
    {"l2940", "He_Press.std.step4", 1.5170421879167337, 0.58835421696887402, 0.5, 1.8573759418957194},
    {"l2940", "Endpt_A.mean.step5", 886.20754716981128, 898.20758131736, 20.749355341286222,
     0.57833286625881519},
    {"l2940", "step.count.step4", 45, 47.432471115751895, 3.4360897738715068, 0.70791838276425001},
    {"l3121", "Pressure.mean.step4", 1193.7954545454545, 1190.3780657242714, 3.6361193667948069,
     0.93984505910086558},
    {"l3121", "Pressure.std.step4", 28.956727575498004, 21.194528131235412, 6.2609868675614733,
     1.2397725164508786},
    {"l3121", "RF_Load.mean.step4", 9020.863636363636, 9027.6657234774229, 32.174288968137084,
     0.21141375091530909},
    {"l3121", "Vat_Valve.mean.step5", 50.920000000000002, 50.696178817217508, 0.5, 0.44764236556498815},
    {"l3121", "He_Press.std.step4", 0.62834727339512397, 0.69759684850624959, 0.5, 0.13849915022225123},
    {"l3121", "Endpt_A.mean.step5", 1457.0999999999999, 1491.062345024355, 37.604209073121055,
     0.90315275500983316},
    {"l3121", "step.count.step4", 44, 46.417220721130661, 5.7268162897858446, 0.42208805011642059},
    {"l3122", "Pressure.mean.step4", NO, NO, NO, NO},
    {"l3122", "Pressure.std.step4", NO, NO, NO, NO},
    {"l3122", "RF_Load.mean.step4", NO, NO, NO, NO},
    {"l3122", "Vat_Valve.mean.step5", 50.60377358490566, 50.763325172052255, 0.5, 0.3191031742931898},
    {"l3122", "He_Press.std.step4", NO, NO, NO, NO},
    {"l3122", "Endpt_A.mean.step5", 1481.1509433962265, 1480.8736415170483, 37.604209073121055,
     0.0073742244821298746},
    {"l3122", "step.count.step4", 2, 45.692054504791464, 5.7268162897858446, 7.629379448179459},
    {"l3131", "Pressure.mean.step4", 1189.9782608695652, 1190.9248348267124, 3.6361193667948069,
     0.26032532534308928},
    {"l3131", "Pressure.std.step4", 20.27421913052774, 21.994926992820957, 6.2609868675614733,
     0.27483013440074472},
    {"l3131", "RF_Load.mean.step4", 9015.782608695652, 9023.8581648087638, 32.174288968137084,
     0.25099408167525378},
    {"l3131", "Vat_Valve.mean.step5", 50.679245283018865, 50.704518463228155, 0.5, 0.050546360418579184},
    {"l3131", "He_Press.std.step4", 0.76896316415423105, 0.64655336777891748, 0.5, 0.24481959275062715},
    {"l3131", "Endpt_A.mean.step5", 1442.7169811320755, 1448.8866770945613, 37.604209073121055,
     0.16406929209676649},
    {"l3131", "step.count.step4", 46, 45.297976335636271, 5.7268162897858446, 0.12258532993555854},
    {"l3131", "RF_Tuner.mean.step4", 9492.173913043478, 9457.1735742808651, 35.754532278483843,
     0.97890635206757437},
};

static double stdev_of(const struct chart *chart, const char *lot)
{
    assert_string_equal(chart->limits.stdev_attribute, "lot");
    for (size_t i = 0; i < chart->limits.stdev_count; i++) {
        if (strcmp(chart->limits.stdev_values[i].value, lot) == 0)
            return chart->limits.stdev_values[i].stdev;
    }
    return NO;
}

static void lam_charts_have_the_reference_deviations(void **state)
{
    const struct lam *lam = *state;
    bool learned[WAFERS_MAX] = {false};
    struct strbuf yaml;
    struct learn_result result;
    strbuf_init(&yaml);
    assert_int_equal(mark_learned(lam, 20, learned), 40);
    learn_wafers(lam, learned, false, &yaml, &result);
    struct chart_set *set = parse_clean(&yaml);
    assert_int_equal(result.contexts, 40);
    assert_int_equal(result.groups, 2);
    assert_int_equal(result.charts, 78); /* 19 sensors x 2 steps x 2 statistics + 2 counts */
    assert_int_equal(chart_set_count(set), 78);
    for (size_t i = 0; i < sizeof LAM_STDEVS / sizeof *LAM_STDEVS; i++) {
        const char *name = LAM_STDEVS[i].chart;
        const struct chart *chart = chart_set_find(set, name);
        assert_non_null(chart);
        double a = LAM_STDEVS[i].exp29, b = LAM_STDEVS[i].exp31;
        assert_int_equal(chart->limits.method, LIMITS_TRACKED);
        assert_close(stdev_of(chart, "exp29"), a, 1e-9, name);
        assert_close(stdev_of(chart, "exp31"), b, 1e-9, name);
        assert_close(chart->limits.stdev, sqrt((a * a + b * b) / 2), 1e-9, name);
        assert_close(chart->limits.sigma, LAM_SIGMA, 1e-9, name);
        assert_close(chart->limits.floor, 0.5, 0, name);
        assert_string_equal(chart->recipe, "AL_STACK_ETCH");
        assert_int_equal(chart->baseline_count, 4);
        assert_string_equal(chart->baseline[3], "lot");
    }
    /* Half the median number of samples over both lots, which have 47 and 48 (step 4), 54 and 55 (step 5). */
    assert_int_equal(chart_set_find(set, "Pressure.mean.step4")->min_samples, 24);
    assert_int_equal(chart_set_find(set, "step.count.step4")->min_samples, 0);

    size_t count;
    const char *const *ids = chart_set_learned(set, &count);
    assert_int_equal(count, 40);
    for (size_t i = 0, k = 0; i < lam->count; i++) {
        if (learned[i])
            assert_string_equal(ids[k++], lam->wafers[i].context.id);
    }
    chart_set_free(set);
    strbuf_free(&yaml);
}

static void lam_text_does_not_depend_on_the_order_of_adding(void **state)
{
    const struct lam *lam = *state;
    bool learned[WAFERS_MAX] = {false};
    struct strbuf forwards, backwards;
    struct learn_result result;
    strbuf_init(&forwards);
    strbuf_init(&backwards);
    mark_learned(lam, 20, learned);
    learn_wafers(lam, learned, false, &forwards, &result);
    learn_wafers(lam, learned, true, &backwards, &result);
    assert_string_equal(forwards.text, backwards.text);
    strbuf_free(&forwards);
    strbuf_free(&backwards);
}

static void check_lam_points(const struct wafer *wafer, const struct uchart *uchart)
{
    for (size_t i = 0; i < sizeof LAM_POINTS / sizeof *LAM_POINTS; i++) {
        if (strcmp(LAM_POINTS[i].wafer, wafer->context.id) != 0)
            continue;
        char what[200];
        snprintf(what, sizeof what, "%s %s", wafer->context.id, LAM_POINTS[i].chart);
        const struct uchart_point *point = point_of(uchart, LAM_POINTS[i].chart);
        assert_close(point->value, LAM_POINTS[i].value, 1e-9, what);
        if (isnan(LAM_POINTS[i].value)) {
            assert_int_equal(point->state, VERDICT_MISSING);
            continue;
        }
        double half = LAM_POINTS[i].half_width;
        assert_close(point->centre, LAM_POINTS[i].centre, 1e-9, what);
        assert_close(point->lower, LAM_POINTS[i].centre - half, 1e-9, what);
        assert_close(point->upper, LAM_POINTS[i].centre + half, 1e-9, what);
        assert_close((point->upper - point->lower) / 2, half, 1e-9, what);
        if (LAM_POINTS[i].ratio >
            1e-3) /* below, the difference value - centre has lost digits to cancellation */
            assert_close(ratio_of(point), LAM_POINTS[i].ratio, 1e-9, what);
        assert_int_equal(point->state, LAM_POINTS[i].ratio > 1 ? VERDICT_ALARM : VERDICT_NORMAL);
        assert_int_equal(point->rules, LAM_POINTS[i].ratio > 1 ? 1u << RULE_LIMITS : 0);
    }
}

static void lam_faults_are_found(void **state)
{
    const struct lam *lam = *state;
    bool learned[WAFERS_MAX] = {false};
    struct strbuf yaml;
    struct learn_result result;
    struct story story = {.count = 0};
    strbuf_init(&yaml);
    arena_init(&story.arena, 0);
    mark_learned(lam, 20, learned);
    learn_wafers(lam, learned, false, &yaml, &result);
    struct chart_set *set = parse_clean(&yaml);
    size_t faults = 0, found = 0, later = 0, false_alarms = 0, learned_alarms = 0;
    for (size_t i = 0, in_lot = 0; i < lam->count; i++) {
        const struct wafer *wafer = &lam->wafers[i];
        struct uchart uchart;
        in_lot = i > 0 && strcmp(wafer->context.lot, lam->wafers[i - 1].context.lot) == 0 ? in_lot + 1 : 0;
        judge_next(&story, set, &wafer->context, &wafer->table.trace, &uchart);
        check_lam_points(wafer, &uchart);
        bool alarm = alarms_of(&uchart) > 0;
        if (in_lot < LEARN_MIN_HISTORY) {
            for (size_t k = 0; k < uchart.count; k++)
                assert_int_equal(uchart.points[k].state, VERDICT_LEARNING); /* a new lot has no history */
        }
        faults += wafer->fault;
        found += wafer->fault && alarm;
        learned_alarms += learned[i] && alarm;
        later += !wafer->fault && !learned[i];
        false_alarms += !wafer->fault && !learned[i] && alarm;
        if (!wafer->fault && !learned[i] && alarm) /* truncated: 2 samples in step 4, no step 5 */
            assert_string_equal(wafer->context.id, "l3125");
        if (strcmp(wafer->context.id, "l3125") == 0) {
            const struct uchart_point *count = point_of(&uchart, "step.count.step5");
            assert_close(count->value, 0, 0, "samples in step 5");
            assert_int_equal(count->state, VERDICT_ALARM);
            assert_int_equal(point_of(&uchart, "Pressure.mean.step4")->state, VERDICT_MISSING);
            assert_string_equal(point_of(&uchart, "Pressure.mean.step4")->reason,
                                "only 2 samples of Pressure in step 4, 24 needed");
        }
    }
    assert_int_equal(faults, 15);
    assert_int_equal(found, 15);
    assert_int_equal(later, 31);
    assert_int_equal(false_alarms, 1);
    assert_int_equal(learned_alarms, 0);
    chart_set_free(set);
    arena_free(&story.arena);
    strbuf_free(&yaml);
}
/* ---- simulated normal contexts ---- */

struct dice {
    uint64_t state;
};

/* splitmix64, Steele, Lea and Flood (2014). */
static uint64_t dice_next(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static double dice_normal(struct dice *dice)
{
    double u = (double)((dice_next(dice) >> 11) + 1) / 9007199254740993.0;
    double v = (double)(dice_next(dice) >> 11) / 9007199254740992.0;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

enum { SIM_SENSORS = 10, SIM_SAMPLES = 8, SIM_LEARNED = 20, SIM_JUDGED = 60, SIM_WORLDS = 150 };

/* What is learned from, and what is judged after. Every `stretch` contexts (0: never) the process jumps: all
 * means of the sensors by `jump`, up and down in turn. */
struct world {
    size_t learned, judged, stretch;
    double jump;
};

/* One context of two steps in which every sensor's mean and deviation are independent normal variables: the
 * samples of a step are +-1 times a deviation about a mean, so that those two are met exactly. */
static void simulate(struct dice *dice, size_t number, double offset, struct context *context,
                     struct table *table)
{
    const double unit = sqrt((SIM_SAMPLES - 1.0) / SIM_SAMPLES);
    table_init(table);
    size_t samples = 2 * (size_t)SIM_SAMPLES;
    int64_t *time_us = arena_alloc(&table->arena, samples * sizeof *time_us);
    double *step = arena_alloc(&table->arena, samples * sizeof *step);
    for (size_t i = 0; i < samples; i++) {
        time_us[i] = (int64_t)(number * 100 + i) * CLOCK_US_PER_SECOND;
        step[i] = i < SIM_SAMPLES ? 1 : 2;
    }
    table_add(table, TRACE_STEP_NAME, time_us, step, samples);
    for (size_t s = 0; s < SIM_SENSORS; s++) {
        double *values = arena_alloc(&table->arena, samples * sizeof *values);
        for (size_t half = 0; half < 2; half++) {
            double mean = 100 + offset + dice_normal(dice), deviation = 5 + 0.1 * dice_normal(dice);
            for (size_t i = 0; i < SIM_SAMPLES; i++)
                values[half * SIM_SAMPLES + i] = mean + deviation * unit * (i % 2 ? 1 : -1);
        }
        table_add(table, arena_printf(&table->arena, "s%zu", s), time_us, values, samples);
    }
    table->trace.start_us = time_us[0];
    table->trace.end_us = time_us[samples - 1];
    *context = (struct context){.id = arena_printf(&table->arena, "c%zu", number),
                                .tool = "T",
                                .chamber = "1",
                                .recipe = "R",
                                .lot = "",
                                .wafer = "",
                                .start_us = time_us[0],
                                .end_us = time_us[samples - 1],
                                .extra_json = "{}"};
}

/* Learns on the first contexts of a world and returns how many of the later ones raise an alarm. */
static size_t simulate_world(struct dice *dice, const struct world *world, double budget)
{
    size_t all = world->learned + world->judged;
    struct learn_options options;
    struct learn *learn;
    struct learn_result result;
    struct error err;
    struct strbuf yaml;
    struct story *story = calloc(1, sizeof *story);
    struct table *tables = calloc(all, sizeof *tables);
    struct context *contexts = calloc(all, sizeof *contexts);
    learn_options_default(&options);
    options.false_alarms = budget;
    must(learn_create(&options, &learn, &err), &err);
    for (size_t i = 0; i < all; i++) {
        bool up = world->stretch && i / world->stretch % 2;
        simulate(dice, i, up ? world->jump : 0, &contexts[i], &tables[i]);
        if (i < world->learned)
            must(learn_add(learn, &contexts[i], &tables[i].trace, tables[i].names, &err), &err);
    }
    strbuf_init(&yaml);
    must(learn_write(learn, &yaml, &result, &err), &err);
    assert_int_equal(result.charts, SIM_SENSORS * 4 + 2);
    struct chart_set *set = parse_clean(&yaml);
    size_t alarmed = 0;
    arena_init(&story->arena, 0);
    for (size_t i = 0; i < all; i++) {
        struct uchart uchart;
        judge_next(story, set, &contexts[i], &tables[i].trace, &uchart);
        alarmed += i >= world->learned && alarms_of(&uchart) > 0;
        arena_free(&tables[i].arena);
    }
    arena_free(&story->arena);
    free(story);
    free(tables);
    free(contexts);
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
    return alarmed;
}

/* The share of false alarms among the contexts judged in `worlds` worlds. */
static double false_alarms(size_t worlds, const struct world *world, double budget)
{
    struct dice dice = {.state = 1995};
    size_t alarmed = 0;
    for (size_t i = 0; i < worlds; i++)
        alarmed += simulate_world(&dice, world, budget);
    double share = (double)alarmed / (double)(worlds * world->judged);
    print_message("budget %g %%: false alarms on %.2f %% of %zu simulated contexts\n", 100 * budget,
                  100 * share, worlds * world->judged);
    return share;
}

/* The budget is an upper bound that is nearly used up where it is wide. Far out in the tail it is used by
 * half: the mean moving range comes out much too small more rarely than the chi distribution that stands in
 * for it. Drawing 20 normal values a million times gives 0.49 % for a budget of 1 % (40 of 42 charts can
 * alarm here). Contexts of one world share their deviations, so a count scatters more than a Poisson count:
 * by about a quarter for 45 of 9,000. */
static void false_alarms_keep_to_the_budget(void **state)
{
    (void)state;
    const struct world even = {.learned = SIM_LEARNED, .judged = SIM_JUDGED};
    double share = false_alarms(SIM_WORLDS, &even, 0.01);
    assert_true(share > 0.003 && share < 0.0075);
    share = false_alarms(SIM_WORLDS / 4, &even, 0.1);
    assert_true(share > 0.05 && share < 0.09);
}

/* A process that jumps by three deviations every 25 contexts: each jump and what follows would alarm until
 * the centre is there. With enough contexts to learn from, that is seen, and the limits lie so far out that
 * the budget is kept about as well as it can be told from 3 of 300; with too few it is not. */
static void limits_hold_for_jumps_that_were_learned_from(void **state)
{
    (void)state;
    const struct world enough = {.learned = 300, .judged = 300, .stretch = 25, .jump = 3};
    const struct world few = {.learned = 90, .judged = 300, .stretch = 25, .jump = 3};
    double share = false_alarms(10, &enough, 0.01);
    assert_true(share > 0.002 && share < 0.02);
    assert_true(false_alarms(10, &few, 0.01) > 0.04);
}

/* ---- small made-up contexts ---- */

/* A context of `steps` x 4 samples; sensor k has the value base + k + number % 3 + sample % 2. */
static void small_wafer(struct wafer *wafer, const char *recipe, const char *lot, size_t number, size_t steps,
                        const char *const *names, size_t sensors)
{
    *wafer = (struct wafer){0};
    struct table *table = &wafer->table;
    table_init(table);
    size_t samples = 4 * (steps ? steps : 1);
    int64_t *time_us = arena_alloc(&table->arena, samples * sizeof *time_us);
    double *step = arena_alloc(&table->arena, samples * sizeof *step);
    for (size_t i = 0; i < samples; i++) {
        time_us[i] = (int64_t)(number * 1000 + i) * CLOCK_US_PER_SECOND;
        size_t number_of_step = i / 4 + 1;
        step[i] = (double)number_of_step;
    }
    if (steps > 0)
        table_add(table, TRACE_STEP_NAME, time_us, step, samples);
    for (size_t k = 0; k < sensors; k++) {
        double *values = arena_alloc(&table->arena, samples * sizeof *values);
        for (size_t i = 0; i < samples; i++)
            values[i] = 10 + (double)k + (double)(number % 3) + (double)(i % 2);
        table_add(table, names[k], time_us, values, samples);
    }
    table->trace.start_us = time_us[0];
    table->trace.end_us = time_us[samples - 1];
    wafer->context = (struct context){.id = arena_printf(&table->arena, "%s-%zu", recipe, number),
                                      .tool = "T",
                                      .chamber = "1",
                                      .recipe = recipe,
                                      .lot = lot,
                                      .wafer = "",
                                      .start_us = time_us[0],
                                      .end_us = time_us[samples - 1],
                                      .extra_json = "{}"};
}

static struct learn *learn_new(const char *group, uint32_t statistics)
{
    struct learn_options options;
    struct learn *learn;
    struct error err;
    learn_options_default(&options);
    options.group = group;
    if (statistics)
        options.statistics = statistics;
    must(learn_create(&options, &learn, &err), &err);
    return learn;
}

static void add_small(struct learn *learn, const char *recipe, const char *lot, size_t number, size_t steps,
                      const char *const *names, size_t sensors)
{
    struct wafer wafer;
    struct error err;
    small_wafer(&wafer, recipe, lot, number, steps, names, sensors);
    must(learn_add(learn, &wafer.context, &wafer.table.trace, wafer.table.names, &err), &err);
    arena_free(&wafer.table.arena);
}

static struct chart_set *learned_set(struct learn *learn, struct strbuf *yaml, struct learn_result *result)
{
    struct error err;
    strbuf_init(yaml);
    must(learn_write(learn, yaml, result, &err), &err);
    return parse_clean(yaml);
}

static void odd_names_survive(void **state)
{
    (void)state;
    static const char *const names[] = {"RF Power (W)", "it's",
                                        "say \"x\"",    "\xE2\x80\xA8line",
                                        "\xC3\xA9tch",  "both \" and '\xE2\x80\xA8x: 1",
                                        "true",         "tab\there"};
    static const char recipe[] = "E[1]*?\\ x: #";
    struct learn *learn = learn_new("lot", 0);
    for (size_t i = 0; i < 12; i++)
        add_small(learn, recipe, "lot: \"1\", {\n", i, 1, names, 8);
    struct strbuf yaml;
    struct learn_result result;
    struct chart_set *set = learned_set(learn, &yaml, &result);
    /* Two names cannot stand in an equation or in a chart's name; the file says so. */
    assert_int_equal(result.charts, 6 * 2 + 1);
    assert_non_null(strstr(
        yaml.text, "#   left out: \"both \\\" and '\\u2028x: 1\": an equation cannot hold such a name\n"));
    assert_non_null(
        strstr(yaml.text, "#   left out: \"tab\\u0009here\": an equation cannot hold such a name\n"));
    const struct chart *chart = chart_set_find(set, "\xE2\x80\xA8line.mean.step1");
    assert_non_null(chart);
    assert_string_equal(chart->equation.terms[0].sensor.name, "\xE2\x80\xA8line");
    assert_string_equal(chart->limits.stdev_values[0].value, "lot: \"1\", {\n");

    /* The pattern matches this recipe, and not what its wildcards would. */
    const struct judge_plan *plan;
    assert_int_equal(judge_plan_for(set, recipe, &plan, NULL), 0);
    assert_int_equal(judge_plan_chart_count(plan), 13);
    assert_int_equal(judge_plan_for(set, "E1anything\\ x: #", &plan, NULL), 0);
    assert_int_equal(judge_plan_chart_count(plan), 0);
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
}

static void each_recipe_has_its_own_charts(void **state)
{
    (void)state;
    static const char *const names[] = {"A", "B"};
    struct learn *learn = learn_new(NULL, 1u << STATISTIC_MEAN);
    for (size_t i = 0; i < 12; i++) {
        add_small(learn, "R1", "", i, 1, names, 2);
        add_small(learn, "R2", "", i, 2, names, 1);
    }
    for (size_t i = 0; i < 4; i++)
        add_small(learn, "R3", "", i, 1, names, 1);
    struct strbuf yaml;
    struct learn_result result;
    struct chart_set *set = learned_set(learn, &yaml, &result);
    assert_int_equal(result.recipes, 3);
    assert_int_equal(result.charts, 4);
    assert_non_null(chart_set_find(set, "R1.A.mean.step1"));
    assert_non_null(chart_set_find(set, "R1.B.mean.step1"));
    assert_non_null(chart_set_find(set, "R2.A.mean.step1"));
    const struct chart *chart = chart_set_find(set, "R2.A.mean.step2");
    assert_non_null(chart);
    assert_string_equal(chart->recipe, "R2");
    assert_int_equal(chart->baseline_count, 3);
    assert_null(chart->limits.stdev_attribute);
    /* Means go 0 1 2 0 1 2 ...: |differences| are 1 1 2 1 1 2 1 1 2 1 1, mean 14/11. */
    assert_close(chart->limits.stdev, 14.0 / 11 / 1.1283791670955126, 1e-14, "stdev");
    assert_non_null(strstr(yaml.text,
                           "# recipe R3: 4 contexts that ended 1970-01-01T00:00:03Z to 1970-01-01T00:50:03Z\n"
                           "#   no chart: each indicator needs 10 values that vary\n"
                           "#   left out: step 1: values in only 4 of 4 contexts\n"));
    size_t count;
    chart_set_learned(set, &count);
    assert_int_equal(count, 28);
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
}

static void runs_without_steps_are_charted_whole(void **state)
{
    (void)state;
    static const char *const names[] = {"B", "A"};
    struct learn *learn = learn_new(NULL, 0);
    for (size_t i = 0; i < 12; i++)
        add_small(learn, "R", "", i, 0, names, 2);
    struct strbuf yaml;
    struct learn_result result;
    struct chart_set *set = learned_set(learn, &yaml, &result);
    assert_int_equal(result.charts, 5);
    assert_non_null(chart_set_find(set, "A.count"));
    assert_non_null(chart_set_find(set, "A.mean"));
    assert_non_null(chart_set_find(set, "B.std"));
    assert_null(chart_set_find(set, "B.count"));
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
}

/* Lot a has enough contexts for deviations of its own, lot b has not, lot c was never seen. */
static void lots_share_a_deviation_where_they_have_none(void **state)
{
    (void)state;
    static const char *const names[] = {"A"};
    struct learn *learn = learn_new("lot", 1u << STATISTIC_MEAN);
    for (size_t i = 0; i < 12; i++)
        add_small(learn, "R", "a", i, 1, names, 1);
    for (size_t i = 12; i < 16; i++) /* means 0 1 2 0: |differences| 1 1 2 */
        add_small(learn, "R", "b", i, 1, names, 1);
    struct strbuf yaml;
    struct learn_result result;
    struct chart_set *set = learned_set(learn, &yaml, &result);
    const struct chart *chart = chart_set_find(set, "A.mean.step1");
    assert_non_null(chart);
    const double d2 = 1.1283791670955126, a = 14.0 / 11 / d2, b = 4.0 / 3 / d2;
    assert_int_equal(chart->limits.stdev_count, 1);
    assert_close(stdev_of(chart, "a"), a, 1e-14, "a");
    assert_close(chart->limits.stdev, sqrt((11 * a * a + 3 * b * b) / 14), 1e-14, "all");
    assert_close(limits_stdev_for(&chart->limits, "a"), a, 1e-14, "a");
    assert_close(limits_stdev_for(&chart->limits, "b"), chart->limits.stdev, 0, "b");
    assert_close(limits_stdev_for(&chart->limits, "c"), chart->limits.stdev, 0, "c");
    assert_close(limits_stdev_for(&chart->limits, NULL), chart->limits.stdev, 0, "no lot");
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
}

/* Contexts of two chambers, whose means go 0 1 2 0 1 2 ... in the one, 1000 1002 1004 1000 ... in the other.
 */
static struct learn *learn_two_chambers(const char *group)
{
    static const char *const names[] = {"A"};
    struct learn *learn = learn_new(group, 1u << STATISTIC_MEAN);
    for (size_t i = 0; i < 24; i++) {
        struct wafer wafer;
        struct error err;
        bool second = i % 2 != 0;
        small_wafer(&wafer, "R", "", i / 2, 1, names, 1);
        wafer.context.chamber = second ? "2" : "1";
        wafer.context.id = arena_printf(&wafer.table.arena, "c%zu", i);
        double *values = arena_alloc(&wafer.table.arena, 4 * sizeof *values);
        size_t phase = i / 2 % 3;
        for (size_t k = 0; k < 4; k++)
            values[k] = second ? 1000 + 2 * (double)phase : (double)phase;
        for (size_t k = 0; k < wafer.table.trace.count; k++) {
            if (strcmp(wafer.table.names[k], "A") == 0)
                wafer.table.columns[k].value = values;
        }
        must(learn_add(learn, &wafer.context, &wafer.table.trace, wafer.table.names, &err), &err);
        arena_free(&wafer.table.arena);
    }
    return learn;
}

/* Each chamber is a series of its own: what lies between chambers is no variation from one context to the
 * next. */
static void chambers_are_not_compared(void **state)
{
    (void)state;
    const double one = 14.0 / 11 / 1.1283791670955126;
    struct learn *learn = learn_two_chambers(NULL);
    struct strbuf yaml;
    struct learn_result result;
    struct chart_set *set = learned_set(learn, &yaml, &result);
    const struct chart *chart = chart_set_find(set, "A.mean.step1");
    assert_close(chart->limits.stdev, 1.5 * one, 1e-14, "mean of all differences");
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);

    learn = learn_two_chambers("chamber");
    set = learned_set(learn, &yaml, &result);
    chart = chart_set_find(set, "A.mean.step1");
    assert_int_equal(chart->baseline_count, 3); /* the chamber belongs to it anyway */
    assert_close(limits_stdev_for(&chart->limits, "1"), one, 1e-14, "chamber 1");
    assert_close(limits_stdev_for(&chart->limits, "2"), 2 * one, 1e-14, "chamber 2");
    assert_close(chart->limits.stdev, one * sqrt(2.5), 1e-14, "root of the mean square");
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
}

/* A sensor that half of the contexts have gets charts, one that fewer have does not. */
static void rare_sensors_are_left_out(void **state)
{
    (void)state;
    static const char *const names[] = {"A", "half", "rare"};
    struct learn *learn = learn_new(NULL, 1u << STATISTIC_MEAN);
    for (size_t i = 0; i < 26; i++)
        add_small(learn, "R", "", i, 1, names, i < 12 ? 3 : i < 13 ? 2 : 1);
    struct strbuf yaml;
    struct learn_result result;
    struct chart_set *set = learned_set(learn, &yaml, &result);
    assert_non_null(chart_set_find(set, "half.mean.step1"));
    assert_null(chart_set_find(set, "rare.mean.step1"));
    assert_non_null(
        strstr(yaml.text, "#   left out: \"rare\" in step 1: values in only 12 of 26 contexts\n"));
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
}

static void constant_sensors_are_left_out(void **state)
{
    (void)state;
    struct learn *learn = learn_new(NULL, 0);
    struct error err;
    for (size_t i = 0; i < 12; i++) {
        static const char *const names[] = {"A"};
        struct wafer wafer;
        small_wafer(&wafer, "R", "", i, 1, names, 1);
        static const double zeros[4] = {0, 0, 0, 0}, nothing[4] = {NAN, NAN, NAN, NAN};
        table_add(&wafer.table, "Z", wafer.table.columns[0].time_us, zeros, 4);
        table_add(&wafer.table, "N", wafer.table.columns[0].time_us, nothing, 4);
        must(learn_add(learn, &wafer.context, &wafer.table.trace, wafer.table.names, &err), &err);
        arena_free(&wafer.table.arena);
    }
    struct strbuf yaml;
    struct learn_result result;
    struct chart_set *set = learned_set(learn, &yaml, &result);
    assert_int_equal(result.charts, 3);
    assert_int_equal(result.left_out, 4);
    assert_non_null(
        strstr(yaml.text, "#   left out: \"N\": no values\n#   left out: \"Z\": constant at 0\n"));
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
}

static void what_cannot_be_learned_is_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"A"};
    struct learn_options options;
    struct learn *learn = NULL;
    struct learn_result result;
    struct error err;
    struct strbuf yaml;
    strbuf_init(&yaml);
    learn_options_default(&options);
    options.false_alarms = 0;
    assert_int_equal(learn_create(&options, &learn, &err), ERR_INVALID);
    options.false_alarms = 1;
    assert_int_equal(learn_create(&options, &learn, &err), ERR_INVALID);
    options.false_alarms = 0.01;
    options.statistics = 1u << STATISTIC_CORR;
    assert_int_equal(learn_create(&options, &learn, &err), ERR_INVALID);

    learn = learn_new(NULL, 0);
    assert_int_equal(learn_write(learn, &yaml, &result, &err), ERR_INVALID);
    for (size_t i = 0; i < 9; i++)
        add_small(learn, "R", "", i, 1, names, 1);
    assert_int_equal(learn_write(learn, &yaml, &result, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "nothing can be learned from these 9 contexts"));
    add_small(learn, "R", "", 9, 1, names, 1);
    assert_int_equal(learn_write(learn, &yaml, &result, &err), 0);
    add_small(learn, "R", "", 9, 1, names, 1);
    assert_int_equal(learn_write(learn, &yaml, &result, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "context 'R-9' was given twice"));
    learn_free(learn);
    strbuf_free(&yaml);

    /* A name that is not the column's is a mistake of the caller. */
    struct wafer wafer;
    static const char *const wrong[] = {"A", "A"};
    learn = learn_new(NULL, 0);
    small_wafer(&wafer, "R", "", 0, 1, names, 1);
    assert_int_equal(learn_add(learn, &wafer.context, &wafer.table.trace, wrong, &err), ERR_INVALID);
    arena_free(&wafer.table.arena);
    learn_free(learn);
}

static void steps_have_a_bound(void **state)
{
    (void)state;
    static const char *const names[] = {"A"};
    struct learn *learn = learn_new(NULL, 1u << STATISTIC_MEAN);
    struct learn_result result;
    struct error err;
    struct wafer wafer;
    for (size_t i = 0; i < 12; i++)
        add_small(learn, "R", "", i, 2, names, 1);
    small_wafer(&wafer, "R", "", 12, LEARN_STEPS_MAX + 1, names, 1);
    assert_int_equal(learn_add(learn, &wafer.context, &wafer.table.trace, wafer.table.names, &err),
                     ERR_LIMIT);
    arena_free(&wafer.table.arena);
    /* What was learned before is untouched, and learning goes on. */
    struct strbuf yaml;
    struct chart_set *set = learned_set(learn, &yaml, &result);
    assert_int_equal(result.contexts, 12);
    assert_int_equal(result.charts, 2);
    chart_set_free(set);
    strbuf_free(&yaml);
    for (size_t i = 13; i < 25; i++)
        add_small(learn, "R", "", i, 3, names, 1);
    set = learned_set(learn, &yaml, &result);
    assert_int_equal(result.contexts, 24);
    assert_int_equal(result.charts, 3);
    chart_set_free(set);
    strbuf_free(&yaml);
    learn_free(learn);
}

/* ---- the tracked centre ---- */

static void tracked_centre_follows_and_alarmed_points_are_cut(void **state)
{
    (void)state;
    struct limits_spec spec;
    struct limits limits;
    double scratch[16];
    limits_spec_default(&spec);
    spec.method = LIMITS_TRACKED;
    spec.stdev = 1;
    spec.sigma = 3;
    spec.lambda = 0.5;
    spec.min_history = 5;
    /* Half width 3 sqrt(1 + 0.5 / 1.5) = 3.4641. The median of the first five is 10; 10, 10, 10, 10 leave it
     * there; 20 is too far and taken as 11: 10.5; then 12.5, within: 11.5. */
    const double values[] = {10, 10, 10, 10, 10, 20, 12.5};
    limits_compute(&spec, values, 4, scratch, &limits);
    assert_true(limits.learning);
    limits_compute(&spec, values, 5, scratch, &limits);
    assert_false(limits.learning);
    assert_close(limits.centre, 10, 0, "centre of five");
    limits_compute(&spec, values, 6, scratch, &limits);
    assert_close(limits.centre, 10.5, 0, "after the alarm");
    limits_compute(&spec, values, 7, scratch, &limits);
    assert_close(limits.centre, 11.5, 0, "following");
    assert_close(limits.upper - limits.centre, 3 * sqrt(4.0 / 3), 1e-15, "half width");
    assert_close(limits.centre - limits.lower, 3 * sqrt(4.0 / 3), 1e-15, "half width");
    assert_int_equal(limits.history_count, 7);
    /* The first value is a fault: the median is not moved by it, and it comes in cut, as 9. */
    const double bad_start[] = {-50, 10, 10, 10, 10};
    limits_compute(&spec, bad_start, 5, scratch, &limits);
    assert_close(limits.centre, 10 - 0.5 / 16, 1e-15, "a fault first");
    /* The floor, for an indicator that hardly ever changes. */
    spec.floor = 4;
    limits_compute(&spec, values, 5, scratch, &limits);
    assert_close(limits.upper, 14, 0, "floor");
    spec.floor = 0.5;
    spec.stdev = 0;
    limits_compute(&spec, values, 5, scratch, &limits);
    assert_close(limits.lower, 9.5, 0, "a deviation of nothing");
    /* Only the last `history` values are looked at. */
    spec.stdev = 1;
    spec.history = 5;
    const double moved[] = {10, 10, 10, 10, 10, 30, 30, 30, 30, 30};
    limits_compute(&spec, moved, 10, scratch, &limits);
    assert_close(limits.centre, 30, 0, "window");
}

static struct chart_set *parse_text(const char *text, struct error *err)
{
    struct chart_set *set = NULL;
    int code = chart_set_parse(text, strlen(text), "f", &set, NULL, err);
    assert_true((code == 0) == (set != NULL));
    return set;
}

static void tracked_charts_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *limits, *says;
    } bad[] = {
        {"{method: tracked}", "stdev"},
        {"{method: tracked, stdev: -1}", "stdev"},
        {"{method: tracked, stdev: 1, lambda: 0}", "lambda"},
        {"{method: tracked, stdev: 1, lambda: 1.5}", "lambda"},
        {"{method: tracked, stdev: 1, floor: -1}", "floor"},
        {"{method: tracked, stdev: 1, target: 5}", "target"},
        {"{method: tracked, stdev: 1, stdev_by: 3}", "stdev_by"},
        {"{method: tracked, stdev: 1, stdev_by: {lot: 3}}", "stdev_by"},
        {"{method: tracked, stdev: 1, stdev_by: {lot: {a: 1}, wafer: {b: 1}}}", "one attribute"},
        {"{method: tracked, stdev: 1, stdev_by: {lot: {a: x}}}", "a number"},
        {"{method: shewhart, lambda: 0.3}", "lambda"},
        {"{method: shewhart, stdev_by: {lot: {a: 1}}}", "stdev_by"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[500];
        struct error err;
        snprintf(text, sizeof text, "charts:\n- name: a\n  equation: mean(A)\n  limits: %s\n", bad[i].limits);
        assert_null(parse_text(text, &err));
        if (strstr(err.text, bad[i].says) == NULL || strstr(err.text, "f:4:") == NULL)
            fail_msg("%s: %s", bad[i].limits, err.text);
    }
    struct error err;
    struct chart_set *set =
        parse_text("charts:\n- name: a\n  equation: mean(A)\n"
                   "  limits: {method: tracked, stdev: 2, stdev_by: {lot: {b: 3, a: 0}}}\n",
                   &err);
    must(set == NULL ? err.code : 0, &err);
    const struct limits_spec *spec = &chart_set_at(set, 0)->limits;
    assert_int_equal(spec->min_history, 5);
    assert_close(spec->lambda, 0.3, 0, "default lambda");
    assert_close(limits_stdev_for(spec, "a"), 0, 0, "a");
    assert_close(limits_stdev_for(spec, "b"), 3, 0, "b");
    assert_close(limits_stdev_for(spec, "ab"), 2, 0, "unknown");
    chart_set_free(set);
    assert_null(parse_text("charts: []\nlearned: {contexts: 3}\n", &err));
    assert_null(parse_text("charts:\n- name: a\n  equation: mean(A)\n  min_samples: 0.5\n", &err));
}

/* ---- short windows ---- */

static void short_windows_are_not_judged(void **state)
{
    (void)state;
    static const char *const names[] = {"A"};
    struct error err;
    struct chart_set *set =
        parse_text("charts:\n"
                   "- {name: mean, equation: 'mean(A, step 1)', min_samples: 5}\n"
                   "- {name: fine, equation: 'mean(A, step 1)', min_samples: 4}\n"
                   "- {name: both, equation: 'mean(A, step 1) + mean(A)', min_samples: 6}\n"
                   "- {name: count, equation: 'count(A, step 1)', min_samples: 5}\n"
                   "- {name: none, equation: 'count(A, step 9)'}\n",
                   &err);
    must(set == NULL ? err.code : 0, &err);
    struct wafer wafer;
    struct uchart uchart;
    struct story story = {.count = 0};
    arena_init(&story.arena, 0);
    small_wafer(&wafer, "R", "", 0, 2, names, 1);
    judge_next(&story, set, &wafer.context, &wafer.table.trace, &uchart);
    const struct uchart_point *mean = point_of(&uchart, "mean");
    assert_int_equal(mean->state, VERDICT_MISSING);
    assert_true(isnan(mean->value));
    assert_int_equal(mean->flags, POINT_MISSING);
    assert_string_equal(mean->reason, "only 4 samples of A in step 1, 5 needed");
    assert_close(point_of(&uchart, "fine")->value, 10.5, 0, "fine");
    assert_string_equal(point_of(&uchart, "both")->reason, "only 4 samples of A in step 1, 6 needed");
    assert_close(point_of(&uchart, "count")->value, 4, 0, "count");
    /* A step that the run never came to has 0 samples: that is what tells of a broken-off run. */
    assert_int_equal(point_of(&uchart, "none")->state, VERDICT_LEARNING);
    assert_close(point_of(&uchart, "none")->value, 0, 0, "none");
    arena_free(&story.arena);
    arena_free(&wafer.table.arena);
    chart_set_free(set);
}

int main(void)
{
    const struct CMUnitTest lam[] = {
        cmocka_unit_test(lam_charts_have_the_reference_deviations),
        cmocka_unit_test(lam_text_does_not_depend_on_the_order_of_adding),
        cmocka_unit_test(lam_faults_are_found),
    };
    const struct CMUnitTest made[] = {
        cmocka_unit_test(tracked_centre_follows_and_alarmed_points_are_cut),
        cmocka_unit_test(tracked_charts_are_checked),
        cmocka_unit_test(short_windows_are_not_judged),
        cmocka_unit_test(odd_names_survive),
        cmocka_unit_test(each_recipe_has_its_own_charts),
        cmocka_unit_test(runs_without_steps_are_charted_whole),
        cmocka_unit_test(lots_share_a_deviation_where_they_have_none),
        cmocka_unit_test(constant_sensors_are_left_out),
        cmocka_unit_test(chambers_are_not_compared),
        cmocka_unit_test(rare_sensors_are_left_out),
        cmocka_unit_test(what_cannot_be_learned_is_refused),
        cmocka_unit_test(steps_have_a_bound),
        cmocka_unit_test(false_alarms_keep_to_the_budget),
        cmocka_unit_test(limits_hold_for_jumps_that_were_learned_from),
    };
    int failed = cmocka_run_group_tests_name("recorded wafers", lam, lam_setup, lam_teardown);
    return failed + cmocka_run_group_tests_name("made contexts", made, NULL, NULL);
}
