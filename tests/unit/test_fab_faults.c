/* Each kind of fault beside the same run without it: what changes, and that nothing else does. */
#include "cmocka_setup.h"

#include "fab/plan.h"

#include <math.h>
#include <string.h>

enum { RUNS = 60, CHAMBERS = 40 };

/* The same run in two fabs that differ in their faults only. */
struct pair {
    struct fab *faulty, *clean;
    struct arena arena;
    struct fab_run run, clean_run;
    struct fab_trace trace, clean_trace;
};

static void pair_open(struct pair *pair, enum fab_fault_kind kind)
{
    struct fab_options options;
    struct error err;
    fab_options_default(&options);
    assert_int_equal(fab_create(&options, &pair->clean, &err), 0);
    options.fault_rate = 1;
    options.fault_kinds = 1U << kind;
    assert_int_equal(fab_create(&options, &pair->faulty, &err), 0);
    arena_init(&pair->arena, 0);
}

static void pair_close(struct pair *pair)
{
    arena_free(&pair->arena);
    fab_free(pair->faulty);
    fab_free(pair->clean);
}

static void pair_make(struct pair *pair, size_t nth)
{
    struct error err;
    arena_reset(&pair->arena);
    fab_describe_run(pair->faulty, nth % CHAMBERS, nth / 3, &pair->run);
    fab_describe_run(pair->clean, nth % CHAMBERS, nth / 3, &pair->clean_run);
    assert_int_equal(fab_make_trace(pair->faulty, &pair->run, &pair->arena, &pair->trace, &err), 0);
    assert_int_equal(fab_make_trace(pair->clean, &pair->clean_run, &pair->arena, &pair->clean_trace, &err),
                     0);
    assert_int_equal(pair->clean_run.fault.kind, FAB_NO_FAULT);
    assert_int_equal(pair->run.start_us, pair->clean_run.start_us);
    assert_string_equal(pair->run.id, pair->clean_run.id);
}

static bool is_same(const struct pair *pair, size_t column, size_t from, size_t to)
{
    return memcmp(pair->trace.columns[column].value + from, pair->clean_trace.columns[column].value + from,
                  (to - from) * sizeof(double)) == 0;
}

/* Everything but the fault's sensor in the fault's stretch is as it was, to the bit. */
static void expect_only_the_fault(const struct pair *pair)
{
    const struct fab_fault *fault = &pair->run.fault;
    assert_int_equal(pair->trace.sample_count, pair->clean_trace.sample_count);
    assert_true(fault->from < fault->to && fault->to <= pair->trace.sample_count);
    assert_memory_equal(pair->trace.time_us, pair->clean_trace.time_us,
                        pair->trace.sample_count * sizeof(int64_t));
    for (size_t c = 0; c < pair->trace.column_count; c++) {
        if (c != fault->sensor) {
            assert_true(is_same(pair, c, 0, pair->trace.sample_count));
            continue;
        }
        assert_true(is_same(pair, c, 0, fault->from));
        assert_true(is_same(pair, c, fault->to, pair->trace.sample_count));
    }
}

/* How much the fault added at a sample, exact but for the rounding of both. */
static double added(const struct pair *pair, size_t sample)
{
    size_t sensor = pair->run.fault.sensor;
    return pair->trace.columns[sensor].value[sample] - pair->clean_trace.columns[sensor].value[sample];
}

static double rounding(const struct pair *pair)
{
    return 1.001 / pair->faulty->sensors[pair->run.fault.sensor].scale;
}

static void expect_size(const struct pair *pair, double factor)
{
    double unit = factor * 10 * pair->faulty->sensors[pair->run.fault.sensor].sigma;
    assert_true(fabs(pair->run.fault.size) >= 0.5 * unit * 0.999);
    assert_true(fabs(pair->run.fault.size) <= 2 * unit * 1.001);
}

static void spikes_and_shifts_add_their_size(void **state)
{
    (void)state;
    static const enum fab_fault_kind kinds[] = {FAB_SPIKE, FAB_SHIFT};
    for (size_t which = 0; which < 2; which++) {
        struct pair pair;
        size_t up = 0;
        pair_open(&pair, kinds[which]);
        for (size_t nth = 0; nth < RUNS; nth++) {
            pair_make(&pair, nth);
            const struct fab_fault *fault = &pair.run.fault;
            assert_int_equal(fault->kind, kinds[which]);
            expect_only_the_fault(&pair);
            expect_size(&pair, fault->kind == FAB_SPIKE ? 5 : 1);
            for (size_t i = fault->from; i < fault->to; i++)
                assert_true(fabs(added(&pair, i) - fault->size) <= rounding(&pair));
            if (fault->kind == FAB_SPIKE)
                assert_in_range(fault->to - fault->from, 1, 3);
            else
                assert_int_equal(fault->to, pair.run.sample_count);
            up += fault->size > 0;
        }
        assert_in_range(up, RUNS / 5, RUNS * 4 / 5);
        pair_close(&pair);
    }
}

static void drifts_grow_to_their_size(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, FAB_DRIFT);
    for (size_t nth = 0; nth < RUNS; nth++) {
        pair_make(&pair, nth);
        const struct fab_fault *fault = &pair.run.fault;
        double length = (double)(fault->to - fault->from);
        assert_int_equal(fault->kind, FAB_DRIFT);
        expect_only_the_fault(&pair);
        expect_size(&pair, 1.5);
        for (size_t i = fault->from; i < fault->to; i++)
            assert_true(fabs(added(&pair, i) - fault->size * (double)(i - fault->from + 1) / length) <=
                        rounding(&pair));
        assert_true(fabs(added(&pair, pair.run.sample_count - 1) - fault->size) <= rounding(&pair));
    }
    pair_close(&pair);
}

static void a_stuck_sensor_repeats_its_last_value(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, FAB_STUCK);
    for (size_t nth = 0; nth < RUNS; nth++) {
        pair_make(&pair, nth);
        const struct fab_fault *fault = &pair.run.fault;
        const double *value = pair.trace.columns[fault->sensor].value;
        assert_int_equal(fault->kind, FAB_STUCK);
        expect_only_the_fault(&pair);
        assert_true(is_same(&pair, fault->sensor, fault->from, fault->from + 1));
        assert_false(is_same(&pair, fault->sensor, fault->from, fault->to));
        for (size_t i = fault->from; i < pair.run.sample_count; i++)
            assert_true(value[i] == value[fault->from]);
        assert_true(fault->size == 0);
    }
    pair_close(&pair);
}

static void a_noisy_sensor_has_its_noise_around_the_same_values(void **state)
{
    (void)state;
    struct pair pair;
    double sum = 0, squares = 0, count = 0;
    pair_open(&pair, FAB_NOISY);
    for (size_t nth = 0; nth < RUNS; nth++) {
        pair_make(&pair, nth);
        const struct fab_fault *fault = &pair.run.fault;
        assert_int_equal(fault->kind, FAB_NOISY);
        expect_only_the_fault(&pair);
        expect_size(&pair, 0.5);
        assert_int_equal(fault->to, pair.run.sample_count);
        for (size_t i = fault->from; i < fault->to; i++) {
            double z = added(&pair, i) / fault->size;
            sum += z;
            squares += z * z;
            count++;
        }
    }
    assert_true(count > 5000);
    assert_true(fabs(sum / count) < 5 / sqrt(count));
    assert_true(fabs(squares / count - 1) < 0.02 + 5 * sqrt(2 / count));
    pair_close(&pair);
}

static void a_dropout_leaves_no_values(void **state)
{
    (void)state;
    struct pair pair;
    size_t comes_back = 0;
    pair_open(&pair, FAB_DROPOUT);
    for (size_t nth = 0; nth < RUNS; nth++) {
        pair_make(&pair, nth);
        const struct fab_fault *fault = &pair.run.fault;
        assert_int_equal(fault->kind, FAB_DROPOUT);
        expect_only_the_fault(&pair);
        for (size_t i = fault->from; i < fault->to; i++)
            assert_true(isnan(pair.trace.columns[fault->sensor].value[i]));
        comes_back += fault->to < pair.run.sample_count;
    }
    assert_in_range(comes_back, RUNS / 2, RUNS);
    pair_close(&pair);
}

static void swapped_sensors_stand_under_each_others_name(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, FAB_SWAPPED);
    for (size_t nth = 0; nth < RUNS; nth++) {
        pair_make(&pair, nth);
        const struct fab_fault *fault = &pair.run.fault;
        size_t a = fault->sensor, b = fault->other_sensor, bytes = pair.run.sample_count * sizeof(double);
        assert_int_equal(fault->kind, FAB_SWAPPED);
        assert_int_not_equal(a, b);
        assert_int_equal(fault->from, 0);
        assert_int_equal(fault->to, pair.run.sample_count);
        assert_memory_equal(pair.trace.columns[a].value, pair.clean_trace.columns[b].value, bytes);
        assert_memory_equal(pair.trace.columns[b].value, pair.clean_trace.columns[a].value, bytes);
        for (size_t c = 0; c < pair.trace.column_count; c++) {
            assert_string_equal(pair.trace.columns[c].name, pair.clean_trace.columns[c].name);
            if (c != a && c != b)
                assert_true(is_same(&pair, c, 0, pair.run.sample_count));
        }
    }
    pair_close(&pair);
}

static void a_missing_step_is_not_run(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, FAB_MISSING_STEP);
    for (size_t nth = 0; nth < RUNS; nth++) {
        pair_make(&pair, nth);
        const struct fab_fault *fault = &pair.run.fault;
        const double *step = pair.trace.columns[pair.trace.column_count - 1].value;
        assert_int_equal(fault->kind, FAB_MISSING_STEP);
        assert_in_range(fault->step, 2, pair.run.step_count - 1);
        assert_int_equal(pair.trace.sample_count,
                         pair.clean_trace.sample_count - pair.clean_run.step_samples[fault->step - 1]);
        assert_int_equal(pair.run.end_us - pair.run.start_us, (int64_t)pair.trace.sample_count * 1000000);
        for (size_t c = 0; c < pair.trace.column_count; c++)
            assert_true(is_same(&pair, c, 0, fault->from));
        for (size_t i = 0; i < pair.trace.sample_count; i++)
            assert_true(i < fault->from ? step[i] < (double)fault->step : step[i] > (double)fault->step);
    }
    pair_close(&pair);
}

static void faults_are_as_frequent_as_asked_and_equally_often_of_each_kind(void **state)
{
    (void)state;
    struct fab_options options;
    struct fab *fab;
    struct error err;
    enum { ASKED = 40000 };
    size_t counts[FAB_FAULT_KINDS + 1] = {0};
    fab_options_default(&options);
    options.fault_rate = 0.02;
    assert_int_equal(fab_create(&options, &fab, &err), 0);
    for (size_t i = 0; i < ASKED; i++) {
        struct fab_run run;
        fab_describe_run(fab, i % CHAMBERS, i / CHAMBERS, &run);
        counts[run.fault.kind]++;
    }
    double faults = ASKED - (double)counts[FAB_NO_FAULT];
    assert_true(fabs(faults - 800) < 5 * sqrt(800));
    for (int kind = 0; kind < FAB_FAULT_KINDS; kind++)
        assert_true(fabs((double)counts[kind] - 100) < 5 * sqrt(100));
    fab_free(fab);
}

static void names_of_faults_are_read_back(void **state)
{
    (void)state;
    enum fab_fault_kind kind;
    for (int i = 0; i < FAB_FAULT_KINDS; i++) {
        const char *name = fab_fault_name((enum fab_fault_kind)i);
        assert_true(fab_fault_parse(name, strlen(name), &kind));
        assert_int_equal(kind, i);
    }
    assert_false(fab_fault_parse("", 0, &kind));
    assert_false(fab_fault_parse("spik", 4, &kind));
    assert_false(fab_fault_parse("spikes", 6, &kind));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spikes_and_shifts_add_their_size),
        cmocka_unit_test(drifts_grow_to_their_size),
        cmocka_unit_test(a_stuck_sensor_repeats_its_last_value),
        cmocka_unit_test(a_noisy_sensor_has_its_noise_around_the_same_values),
        cmocka_unit_test(a_dropout_leaves_no_values),
        cmocka_unit_test(swapped_sensors_stand_under_each_others_name),
        cmocka_unit_test(a_missing_step_is_not_run),
        cmocka_unit_test(faults_are_as_frequent_as_asked_and_equally_often_of_each_kind),
        cmocka_unit_test(names_of_faults_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
