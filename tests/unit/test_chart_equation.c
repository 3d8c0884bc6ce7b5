#include "chart_fixture.h"

#include "base/hash.h"
#include "chart/chartset.h"
#include "chart/equation.h"
#include "chart/judge.h"

#include <stdlib.h>
#include <string.h>

/* A small trace: 1 sample a second for 12 s. Step 4 is visited twice.
 *
 *   second    0  1  2  3  4  5  6  7  8  9  10 11
 *   step      1  1  4  4  4  5  5  4  4  6  6  6
 *   P         0  1  2  3  4  5  6  7  8  9  10 11
 *   Q         0  2  4  6  8 10 12 14 16 18  20 22    (= 2 P)
 *   gaps      .  1  .  3  4  .  .  7  8  .  10 .     (a missing sample is NaN)
 *   square    0  0 10 10  0  0 10 10  0  0  10 10
 *   slow      sampled at 0, 4, 8 s: 0 4 8            (times of its own) */
enum { COUNT = 12, COLUMNS = 8 };

struct fixture {
    int64_t time_us[COUNT], slow_us[3];
    double step[COUNT], p[COUNT], q[COUNT], gaps[COUNT], square[COUNT], none[COUNT], flat[COUNT], slow[3];
    struct trace_column columns[COLUMNS];
    struct trace trace;
    struct arena arena;
};

static int by_sensor(const void *a, const void *b)
{
    uint64_t x = ((const struct trace_column *)a)->sensor, y = ((const struct trace_column *)b)->sensor;
    return (x > y) - (x < y);
}

static void fill(struct fixture *f)
{
    static const double steps[COUNT] = {1, 1, 4, 4, 4, 5, 5, 4, 4, 6, 6, 6};
    const int64_t start = INT64_C(1700000000000000);
    for (int i = 0; i < COUNT; i++) {
        f->time_us[i] = start + i * INT64_C(1000000);
        f->step[i] = steps[i];
        f->p[i] = i;
        f->q[i] = 2 * i;
        f->gaps[i] = i == 1 || i == 3 || i == 4 || i == 7 || i == 8 || i == 10 ? i : (double)NAN;
        f->square[i] = i % 4 >= 2 ? 10 : 0;
        f->none[i] = (double)NAN;
        f->flat[i] = 3;
    }
    for (int i = 0; i < 3; i++) {
        f->slow_us[i] = start + i * INT64_C(4000000);
        f->slow[i] = 4 * i;
    }
    const struct trace_column columns[COLUMNS] = {{hash64_text("step"), COUNT, f->time_us, f->step},
                                                  {hash64_text("P"), COUNT, f->time_us, f->p},
                                                  {hash64_text("Q"), COUNT, f->time_us, f->q},
                                                  {hash64_text("gaps"), COUNT, f->time_us, f->gaps},
                                                  {hash64_text("square"), COUNT, f->time_us, f->square},
                                                  {hash64_text("none"), COUNT, f->time_us, f->none},
                                                  {hash64_text("flat"), COUNT, f->time_us, f->flat},
                                                  {hash64_text("slow"), 3, f->slow_us, f->slow}};
    memcpy(f->columns, columns, sizeof columns);
    qsort(f->columns, COLUMNS, sizeof *columns, by_sensor);
    f->trace = (struct trace){f->columns, COLUMNS, start, start + 12000000};
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    fill(f);
    arena_init(&f->arena, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    arena_free(&f->arena);
    free(f);
    return 0;
}

/* The value of one equation over the trace, by the whole way: file, plan, computation. */
static double value_of(struct fixture *f, const char *equation, const char **reason)
{
    char file[8192];
    struct chart_set *set;
    struct error err;
    const struct judge_plan *plan;
    const char *own;
    double value;
    int length = snprintf(file, sizeof file, "charts:\n  - name: x\n    equation: >-\n      %s\n", equation);
    if (chart_set_parse(file, (size_t)length, "test", &set, NULL, &err))
        fail_msg("%s: %s", equation, err.text);
    assert_int_equal(judge_plan_for(set, "any", &plan, &err), 0);
    if (judge_compute(plan, &f->trace, &f->arena, &value, &own, &err))
        fail_msg("%s: %s", equation, err.text);
    if (reason)
        *reason = *own ? arena_strdup(&f->arena, own) : "";
    else if (*own)
        fail_msg("%s: %s", equation, own);
    chart_set_free(set);
    return value;
}

static void every_statistic_over_the_whole_trace(void **state)
{
    struct fixture *f = *state;
    assert_near(value_of(f, "count(P)", NULL), 12, 0);
    assert_near(value_of(f, "mean(P)", NULL), 5.5, 0);
    assert_near(value_of(f, "std(P)", NULL), sqrt(13), 1e-15);
    assert_near(value_of(f, "min(P)", NULL), 0, 0);
    assert_near(value_of(f, "max(P)", NULL), 11, 0);
    assert_near(value_of(f, "range(P)", NULL), 11, 0);
    assert_near(value_of(f, "median(P)", NULL), 5.5, 0);
    assert_near(value_of(f, "percentile(P, 25)", NULL), 2.75, 0);
    assert_near(value_of(f, "first(P)", NULL), 0, 0);
    assert_near(value_of(f, "last(P)", NULL), 11, 0);
    assert_near(value_of(f, "sum(P)", NULL), 66, 0);
    assert_near(value_of(f, "integral(P)", NULL), 60.5, 1e-12);
    assert_near(value_of(f, "slope(Q)", NULL), 2, 1e-14);
    assert_near(value_of(f, "rms(P)", NULL), sqrt(506.0 / 12), 1e-14);
    assert_near(value_of(f, "duration(P)", NULL), 11, 1e-12);
    assert_near(value_of(f, "corr(P, Q)", NULL), 1, 1e-15);
    assert_near(value_of(f, "corr(P, Q) + corr(P, square)", NULL), 1 + value_of(f, "corr(square, P)", NULL),
                1e-15);
    assert_near(value_of(f, "max_abs_diff(P, Q)", NULL), 11, 0);
    assert_near(value_of(f, "mean_diff(Q, P)", NULL), 5.5, 0);
}

static void time_over_a_level_goes_by_the_line_between_samples(void **state)
{
    struct fixture *f = *state;
    /* square rises at 1..2, falls at 3..4, rises at 5..6, falls at 7..8, rises at 9..10. */
    assert_near(value_of(f, "duration_above(square, 5)", NULL), 2 + 2 + 1.5, 1e-12);
    assert_near(value_of(f, "duration_below(square, 5)", NULL), 1.5 + 2 + 2, 1e-12);
    assert_near(value_of(f, "duration_above(square, 7.5)", NULL), 1.5 + 1.5 + 1.25, 1e-12);
    assert_near(value_of(f, "duration_above(P, 100)", NULL), 0, 0);
    assert_near(value_of(f, "duration_above(P, -1)", NULL), 11, 1e-12);
    assert_near(value_of(f, "duration_above(flat, 3) + duration_below(flat, 3)", NULL), 0,
                0); /* on it is neither */
    assert_near(value_of(f, "duration_above(P, 1.5) + duration_below(P, 1.5)", NULL), 11, 1e-12);
}

static void windows_choose_samples(void **state)
{
    struct fixture *f = *state;
    assert_near(value_of(f, "sum(P, step 1)", NULL), 1, 0);
    assert_near(value_of(f, "sum(P, step 5..6)", NULL), 5 + 6 + 9 + 10 + 11, 0);
    assert_near(value_of(f, "sum(P, step 5..)", NULL), 5 + 6 + 9 + 10 + 11, 0);
    assert_near(value_of(f, "sum(P, step ..1)", NULL), 1, 0);
    assert_near(value_of(f, "sum(P, time 2s..4s)", NULL), 2 + 3, 0); /* from 2 s on, before 4 s */
    assert_near(value_of(f, "sum(P, time 9500ms..)", NULL), 10 + 11, 0);
    assert_near(value_of(f, "sum(P, time ..0.05min)", NULL), 0 + 1 + 2, 0);
    assert_near(value_of(f, "sum(P, samples 0..3)", NULL), 6, 0);
    assert_near(value_of(f, "sum(P, samples 10..)", NULL), 21, 0);
    assert_near(value_of(f, "sum(P, samples 5)", NULL), 5, 0);
    assert_near(value_of(f, "sum(P, samples 10..99)", NULL), 21, 0);
}

static void a_step_that_recurs_counts_every_visit(void **state)
{
    struct fixture *f = *state;
    assert_near(value_of(f, "sum(P, step 4)", NULL), 2 + 3 + 4 + 7 + 8, 0);
    assert_near(value_of(f, "sum(P, step 4, visit 1)", NULL), 9, 0);
    assert_near(value_of(f, "sum(P, step 4, visit 2)", NULL), 15, 0);
    assert_near(value_of(f, "sum(P, step 4, visit last)", NULL), 15, 0);
    assert_near(value_of(f, "sum(P, step 4..5)", NULL), 2 + 3 + 4 + 5 + 6 + 7 + 8,
                0); /* one visit: never left */
    assert_near(value_of(f, "count(P, step 4..5, visit 1)", NULL), 7, 0);
    /* What lies between two visits belongs to none of them. */
    assert_near(value_of(f, "duration(P, step 4)", NULL), 2 + 1, 1e-12);
    assert_near(value_of(f, "integral(flat, step 4)", NULL), 3 * 3, 1e-12);
    assert_near(value_of(f, "slope(P, step 4)", NULL), 1, 1e-14); /* one line through both */
    const char *reason;
    assert_true(isnan(value_of(f, "sum(P, step 4, visit 3)", &reason)));
    assert_string_equal(reason, "no sample of P in step 4, visit 3");
}

static void visits_are_cut_at_their_ends(void **state)
{
    struct fixture *f = *state;
    assert_near(value_of(f, "sum(P, step 4, skip 1 sample)", NULL), 3 + 4 + 8, 0);
    assert_near(value_of(f, "sum(P, step 4, drop 1 samples)", NULL), 2 + 3 + 7, 0);
    assert_near(value_of(f, "sum(P, step 4, skip 1s)", NULL), 3 + 4 + 8, 0);
    assert_near(value_of(f, "sum(P, step 4, drop 1s)", NULL), 2 + 3 + 7, 0);
    assert_near(value_of(f, "sum(P, step 4, trim 1s)", NULL), 3, 0);
    assert_near(value_of(f, "sum(P, trim 5 samples)", NULL), 5 + 6, 0);
    assert_near(value_of(f, "sum(P, skip 10s)", NULL), 21, 0);
    assert_near(value_of(f, "sum(P, skip 9s, skip 1 sample)", NULL), 21, 0);
    assert_near(value_of(f, "sum(P, time 2s..9s, trim 2s)", NULL), 4 + 5 + 6, 0);
    const char *reason;
    assert_true(isnan(value_of(f, "sum(P, trim 6 samples)", &reason)));
    assert_string_equal(reason, "no sample of P in skip 6 samples, drop 6 samples");
}

static void missing_samples_are_left_out_of_everything(void **state)
{
    struct fixture *f = *state;
    assert_near(value_of(f, "count(gaps)", NULL), 6, 0);
    assert_near(value_of(f, "mean(gaps)", NULL), 33.0 / 6, 1e-15);
    assert_near(value_of(f, "median(gaps)", NULL), 5.5, 0);
    assert_near(value_of(f, "first(gaps)", NULL), 1, 0);
    assert_near(value_of(f, "last(gaps)", NULL), 10, 0);
    assert_near(value_of(f, "slope(gaps)", NULL), 1, 1e-14);
    assert_near(value_of(f, "duration(gaps)", NULL), 9, 1e-12);
    assert_near(value_of(f, "integral(gaps)", NULL), (100 - 1) / 2.0,
                1e-12); /* the line bridges what is missing */
    assert_near(value_of(f, "max_abs_diff(gaps, Q)", NULL), 10, 0);
    assert_near(value_of(f, "count(gaps, samples 0..3)", NULL), 2, 0); /* numbers count missing samples too */
    const char *reason;
    assert_true(isnan(value_of(f, "mean(none)", &reason)));
    assert_string_equal(reason, "every sample of none in the trace is missing");
    assert_true(isnan(value_of(f, "slope(none)", &reason)));
    assert_string_equal(reason, "every sample of none in the trace is missing");
    assert_true(isnan(value_of(f, "median(none, step 4)", &reason)));
    assert_string_equal(reason, "every sample of none in step 4 is missing");
    /* A number of samples is known even where there is none. */
    assert_near(value_of(f, "count(none)", NULL), 0, 0);
    assert_near(value_of(f, "count(P, step 9)", NULL), 0, 0);
    assert_true(isnan(value_of(f, "duration(none)", &reason)));
    assert_true(isnan(value_of(f, "sum(none)", &reason)));
}

static void a_missing_step_reading_keeps_the_step(void **state)
{
    struct fixture *f = *state;
    f->step[3] = f->step[0] = (double)NAN;
    assert_near(value_of(f, "sum(P, step 4, visit 1)", NULL), 2 + 3 + 4, 0);
    assert_near(value_of(f, "sum(P, step 1)", NULL), 1, 0); /* sample 0 lies before the first step is known */
}

static void sensors_of_another_sampling_go_by_time(void **state)
{
    struct fixture *f = *state;
    assert_near(value_of(f, "sum(slow, step 4)", NULL), 4 + 8, 0);
    assert_near(value_of(f, "sum(slow, step 4, visit 1)", NULL), 4, 0);
    const char *reason;
    assert_true(isnan(value_of(f, "sum(slow, step 6)", &reason)));
    assert_string_equal(reason, "no sample of slow in step 6");
}

static void pairs_need_equal_times(void **state)
{
    struct fixture *f = *state;
    assert_near(value_of(f, "max_abs_diff(P, slow)", NULL), 0, 0);
    assert_near(value_of(f, "max_abs_diff(slow, Q)", NULL), 8, 0);
    assert_near(value_of(f, "mean_diff(Q, slow, time 1s..)", NULL), 6, 0);
    assert_near(value_of(f, "corr(P, slow)", NULL), 1, 1e-15);
    const char *reason;
    assert_true(isnan(value_of(f, "corr(P, slow, time 1s..3s)", &reason)));
    assert_string_equal(reason, "P and slow have no samples at the same time in time 1s..3s");
    assert_true(isnan(value_of(f, "corr(P, flat)", &reason)));
    assert_string_equal(reason, "P or flat does not vary in the trace");
    assert_true(isnan(value_of(f, "corr(P, Nope)", &reason)));
    assert_string_equal(reason, "sensor Nope is not in the trace");
}

static void arithmetic_has_the_usual_order(void **state)
{
    struct fixture *f = *state;
    assert_near(value_of(f, "1 + 2 * 3 - 8 / 4 / 2 + 0 * max(P)", NULL), 6, 0);
    assert_near(value_of(f, "(1 + 2) * 3 + 0 * max(P)", NULL), 9, 0);
    assert_near(value_of(f, "-2^2 + 0 * max(P)", NULL), -4, 0);
    assert_near(value_of(f, "(-2)^2 + 2^-1 + 0 * max(P)", NULL), 4.5, 0);
    assert_near(value_of(f, "10 - 4 - 3 + 0 * max(P)", NULL), 3, 0);
    assert_near(value_of(f, "2 - -3 + 0 * max(P)", NULL), 5, 0);
    assert_near(value_of(f, "max(P)-min(P)", NULL), 11, 0); /* a dash is a minus, never part of a bare name */
    assert_near(value_of(f, "abs(-3) + sqrt(16) + log(exp(2)) + min2(1, 2) + max2(1, 2) + 0 * max(P)", NULL),
                12, 1e-14);
    assert_near(value_of(f, "1e3 + 1.5e-1 + .5 + 0 * max(P)", NULL), 1000.65, 1e-12);
}

static void results_that_are_no_numbers_are_missing_with_a_reason(void **state)
{
    struct fixture *f = *state;
    const char *reason;
    assert_true(isnan(value_of(f, "mean(P) / min(P)", &reason)));
    assert_string_equal(reason, "division by zero");
    assert_true(isnan(value_of(f, "sqrt(0 - max(P))", &reason)));
    assert_string_equal(reason, "square root of a negative number");
    assert_true(isnan(value_of(f, "log(min(P))", &reason)));
    assert_string_equal(reason, "logarithm of a number that is not positive");
    assert_true(isnan(value_of(f, "exp(1000 * max(P))", &reason)));
    assert_string_equal(reason, "the result is too large");
    assert_true(isnan(value_of(f, "min(P)^-1", &reason)));
    assert_string_equal(reason, "zero to a negative power");
    assert_true(isnan(value_of(f, "mean(P) + mean(Pressure)", &reason)));
    assert_string_equal(reason, "sensor Pressure is not in the trace");
    assert_true(isnan(value_of(f, "mean(P, step 9)", &reason)));
    assert_string_equal(reason, "no sample of P in step 9");
    assert_true(isnan(value_of(f, "std(P, samples 3)", &reason)));
    assert_string_equal(reason, "std needs two samples of P in samples 3..3");
    assert_true(isnan(value_of(f, "slope(P, samples 3)", &reason)));
    f->trace.columns = NULL;
    f->trace.count = 0;
    assert_true(isnan(value_of(f, "mean(P)", &reason)));
}

static void without_a_step_column_step_windows_are_empty(void **state)
{
    struct fixture *f = *state;
    const char *reason;
    for (size_t i = 0; i < COLUMNS; i++) {
        if (f->columns[i].sensor == hash64_text("step")) {
            memmove(f->columns + i, f->columns + i + 1, (COLUMNS - 1 - i) * sizeof *f->columns);
            break;
        }
    }
    f->trace.count = COLUMNS - 1;
    assert_true(isnan(value_of(f, "mean(P, step 4)", &reason)));
    assert_string_equal(reason, "the trace has no step column");
    assert_near(value_of(f, "mean(P)", NULL), 5.5, 0);
}

static int compile(struct arena *arena, const char *text, struct equation *equation,
                   struct equation_problems *problems)
{
    struct error err;
    return equation_compile(text, strlen(text), arena, equation, problems, &err);
}

static void equal_equations_have_one_canonical_text(void **state)
{
    struct fixture *f = *state;
    static const char *const pairs[][2] = {
        {"mean( P,step 4 )", "mean(P, step 4..4)"},
        {"((mean('P')))+1", "(mean(P) + 1)"},
        {"mean(P, trim 2s)", "mean(P, skip 2s, drop 2000ms)"},
        {"mean(P, time 1min..)", "mean(P, time 60s..)"},
        {"percentile(P, 50.0)", "percentile(P, 50)"},
        {"mean(\"a b\")", "mean( 'a b' )"},
        {"mean(P, drop 1 sample, step 4)", "mean(P, step 4, drop 1 samples)"},
    };
    struct equation a, b;
    struct equation_problems problems;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_int_equal(compile(&f->arena, pairs[i][0], &a, &problems), 0);
        assert_int_equal(compile(&f->arena, pairs[i][1], &b, &problems), 0);
        assert_string_equal(a.canonical, b.canonical);
        /* What it says compiles to itself. */
        assert_int_equal(compile(&f->arena, a.canonical, &b, &problems), 0);
        assert_string_equal(a.canonical, b.canonical);
    }
    assert_int_equal(compile(&f->arena, "1 - (mean(P) - 2) / min2(3, -(max(Q)))^2", &a, &problems), 0);
    assert_string_equal(a.canonical, "(1 - ((mean(P) - 2) / (min2(3, -(max(Q))))^2))");
    assert_int_equal(compile(&f->arena, a.canonical, &b, &problems), 0);
    assert_string_equal(a.canonical, b.canonical);
}

static void each_mistake_in_an_equation_has_its_place(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        size_t offset;
        const char *says;
    } cases[] = {
        {"", 0, "the equation ends"},
        {"   ", 3, "the equation ends"},
        {"1 + 2", 0, "reads no sensor"},
        {"men(P)", 0, "did you mean 'mean'"},
        {"frobnicate(P)", 0, "unknown function 'frobnicate'"},
        {"1 + Pressure", 4, "stands alone"},
        {"1 + \"a b\"", 4, "read by a statistic"},
        {"mean(P", 6, "expected ',' or ')'"},
        {"mean(P))", 7, "expected an operator"},
        {"mean(P) mean(Q)", 8, "expected an operator"},
        {"mean(P * 2)", 7, "a statistic takes one sensor"},
        {"mean()", 5, "expected the name of a sensor"},
        {"mean(RF-Power)", 7, "in quotes"},
        {"mean('P)", 5, "not closed"},
        {"mean('')", 5, "must not be empty"},
        {"mean(P) + ?", 10, "unexpected character '?'"},
        {"mean(P, stpe 4)", 8, "did you mean 'step'"},
        {"mean(P, 4)", 8, "expected a window"},
        {"mean(P, step)", 12, "expected a step number"},
        {"mean(P, step ..)", 8, "needs a first or a last step"},
        {"mean(P, step 5..4)", 8, "before its first"},
        {"mean(P, time 10s)", 16, "expected '..'"},
        {"mean(P, time 10..20)", 15, "expected a unit"},
        {"mean(P, time 20s..10s)", 8, "empty"},
        {"mean(P, time ..)", 8, "needs a beginning or an end"},
        {"mean(P, time 1e9h..)", 13, "a time of more than"},
        {"mean(P, samples 5..2)", 8, "before its first"},
        {"mean(P, samples 1.5)", 16, "whole"},
        {"mean(P, samples -1..2)", 16, "whole"},
        {"mean(P, step 4, time 1s..2s)", 16, "a second window"},
        {"mean(P, visit 1)", 0, "needs a step window"},
        {"mean(P, step 4, visit 0)", 16, "counted from 1"},
        {"mean(P, trim 5)", 14, "samples"},
        {"mean(P, skip -1s)", 13, "cannot be negative"},
        {"percentile(P)", 12, "needs a percentage"},
        {"percentile(P, 101)", 14, "between 0 and 100"},
        {"percentile(P, -1)", 14, "between 0 and 100"},
        {"duration_above(P, step 4)", 18, "a level"},
        {"corr(P)", 6, "two sensors"},
        {"min2(1)", 6, "two values"},
        {"abs(mean(P), 1)", 11, "expected ')'"},
        {"mean(P) ^ 0.5", 10, "an exponent must be whole"},
        {"mean(P) ^ max(P)", 10, "a whole exponent"},
        {"1e999 * mean(P)", 0, "too large"},
        {"mean(P) / 1..2", 11, "expected an operator"},
    };
    struct equation equation;
    struct equation_problems problems;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (compile(&f->arena, cases[i].text, &equation, &problems) != ERR_INVALID)
            fail_msg("'%s' compiles", cases[i].text);
        if (problems.items[0].offset != cases[i].offset || !strstr(problems.items[0].message, cases[i].says))
            fail_msg("'%s': at %zu '%s', expected at %zu '%s'", cases[i].text, problems.items[0].offset,
                     problems.items[0].message, cases[i].offset, cases[i].says);
    }
}

static void several_mistakes_are_found_at_once(void **state)
{
    struct fixture *f = *state;
    struct equation equation;
    struct equation_problems problems;
    assert_int_equal(compile(&f->arena, "men(P) + percentile(P, 200) + mean(P, step 5..4) + slop(P)",
                             &equation, &problems),
                     ERR_INVALID);
    assert_int_equal(problems.count, 4);
    assert_int_equal(problems.items[3].offset, 51);
}

static void depth_length_and_number_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct equation equation;
    struct equation_problems problems;
    static char text[2 * EQUATION_MAX_BYTES];
    memset(text, '(', 1000);
    assert_int_equal(compile(&f->arena, text, &equation, &problems), ERR_INVALID);
    assert_non_null(strstr(problems.items[0].message, "nested deeper"));
    memset(text, '-', 1000);
    assert_int_equal(compile(&f->arena, text, &equation, &problems), ERR_INVALID);
    assert_non_null(strstr(problems.items[0].message, "nested deeper"));
    memset(text, 'a', EQUATION_MAX_BYTES + 1);
    assert_int_equal(compile(&f->arena, text, &equation, &problems), ERR_INVALID);
    assert_non_null(strstr(problems.items[0].message, "at most 4096"));
    memset(text, 0, sizeof text);
    for (size_t i = 0; i <= EQUATION_MAX_TERMS; i++)
        strcat(text, i ? "+max(P)" : "max(P)");
    assert_int_equal(compile(&f->arena, text, &equation, &problems), ERR_INVALID);
    assert_non_null(strstr(problems.items[0].message, "more than 256"));
    text[strlen(text) - strlen("+max(P)")] = '\0';
    assert_int_equal(compile(&f->arena, text, &equation, &problems), 0);
    /* The longest sums go through as well. */
    memset(text, 0, sizeof text);
    strcpy(text, "max(P)");
    while (strlen(text) + 2 <= EQUATION_MAX_BYTES)
        strcat(text, "+1");
    assert_int_equal(compile(&f->arena, text, &equation, &problems), 0);
    const char *reason = NULL;
    assert_near(equation_combine(&equation, (double[]){0}, &reason), (double)((strlen(text) - 6) / 2), 0);
}

/* Any bytes at all give an equation or problems, never anything else. */
static void noise_is_refused_in_good_order(void **state)
{
    struct fixture *f = *state;
    static const char *const pieces[] = {"mean(P)",
                                         "max(P,step 4)",
                                         "mean",
                                         "(",
                                         ")",
                                         "P",
                                         ",",
                                         "step ",
                                         "4",
                                         "..",
                                         "5",
                                         "time ",
                                         "10s",
                                         "+",
                                         "-",
                                         "*",
                                         "^",
                                         "/",
                                         "'",
                                         "\"",
                                         " ",
                                         "e",
                                         "corr(",
                                         "visit ",
                                         "1",
                                         "skip ",
                                         "\xC3",
                                         "\n",
                                         "2 samples",
                                         "mean(P)",
                                         "max(P,step 4)",
                                         "min2(",
                                         "percentile(P,",
                                         "trim 1s",
                                         "\x01",
                                         "1e"};
    uint64_t seed = 9;
    size_t good = 0;
    for (size_t round = 0; round < 50000; round++) {
        char text[256] = "";
        size_t parts = (size_t)(random_bits(&seed) % 16);
        for (size_t i = 0; i < parts; i++)
            strcat(text, pieces[random_bits(&seed) % (sizeof pieces / sizeof *pieces)]);
        struct equation equation, again;
        struct equation_problems problems;
        int code = compile(&f->arena, text, &equation, &problems);
        assert_true(code == (problems.count > 0 ? ERR_INVALID : 0));
        for (size_t i = 0; i < problems.count; i++)
            assert_true(problems.items[i].offset <= strlen(text));
        if (code == 0) {
            good++;
            assert_int_equal(compile(&f->arena, equation.canonical, &again, &problems), 0);
            assert_string_equal(equation.canonical, again.canonical);
        }
        arena_reset(&f->arena);
    }
    assert_true(good > 0);
}

/* Random windows over a random trace, against a look at every sample by itself. */
static void windows_agree_with_a_look_at_every_sample(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 10;
    for (size_t round = 0; round < 300; round++) {
        for (size_t i = 0; i < COUNT; i++)
            f->step[i] = random_bits(&seed) % 5 == 0 ? (double)NAN : (double)(random_bits(&seed) % 4);
        int first = (int)(random_bits(&seed) % 4), last = first + (int)(random_bits(&seed) % 2);
        char equation[100];
        snprintf(equation, sizeof equation, "sum(P, step %d..%d)", first, last);
        double expected = 0, current = (double)NAN;
        size_t count = 0;
        for (size_t i = 0; i < COUNT; i++) {
            current = isnan(f->step[i]) ? current : f->step[i];
            if (current >= first && current <= last) {
                expected += f->p[i];
                count++;
            }
        }
        const char *reason;
        double value = value_of(f, equation, &reason);
        if (count == 0)
            assert_true(isnan(value));
        else
            assert_near(value, expected, 0);
    }
}

static void traces_that_make_no_sense_are_refused(void **state)
{
    struct fixture *f = *state;
    static const char file[] = "charts:\n  - name: x\n    equation: mean(P, step 4) + mean(slow)\n";
    struct chart_set *set;
    struct error err;
    const struct judge_plan *plan;
    double value;
    const char *reason;
    assert_int_equal(chart_set_parse(file, strlen(file), "test", &set, NULL, &err), 0);
    assert_int_equal(judge_plan_for(set, "", &plan, &err), 0);
    assert_int_equal(judge_compute(plan, &f->trace, &f->arena, &value, &reason, &err), 0);

    f->slow_us[1] = f->slow_us[2] + 1;
    assert_int_equal(judge_compute(plan, &f->trace, &f->arena, &value, &reason, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "slow: sample 2 lies 1 us before sample 1"));
    f->slow_us[1] = f->slow_us[2];
    assert_int_equal(judge_compute(plan, &f->trace, &f->arena, &value, &reason, &err), 0);

    for (size_t i = 0; i < COLUMNS; i++)
        f->columns[i].count -= f->columns[i].sensor == hash64_text("P") ? 1 : 0;
    assert_int_equal(judge_compute(plan, &f->trace, &f->arena, &value, &reason, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "different number"));
    for (size_t i = 0; i < COLUMNS; i++)
        f->columns[i].count += f->columns[i].sensor == hash64_text("P") ? 1 : 0;

    struct trace_column swap = f->columns[0];
    f->columns[0] = f->columns[1];
    f->columns[1] = swap;
    assert_int_equal(judge_compute(plan, &f->trace, &f->arena, &value, &reason, &err), ERR_INVALID);
    chart_set_free(set);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(every_statistic_over_the_whole_trace),
        TEST(time_over_a_level_goes_by_the_line_between_samples),
        TEST(windows_choose_samples),
        TEST(a_step_that_recurs_counts_every_visit),
        TEST(visits_are_cut_at_their_ends),
        TEST(missing_samples_are_left_out_of_everything),
        TEST(a_missing_step_reading_keeps_the_step),
        TEST(sensors_of_another_sampling_go_by_time),
        TEST(pairs_need_equal_times),
        TEST(arithmetic_has_the_usual_order),
        TEST(results_that_are_no_numbers_are_missing_with_a_reason),
        TEST(without_a_step_column_step_windows_are_empty),
        TEST(equal_equations_have_one_canonical_text),
        TEST(each_mistake_in_an_equation_has_its_place),
        TEST(several_mistakes_are_found_at_once),
        TEST(depth_length_and_number_are_bounded),
        TEST(noise_is_refused_in_good_order),
        TEST(windows_agree_with_a_look_at_every_sample),
        TEST(traces_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
