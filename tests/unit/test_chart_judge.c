/* From values and history to verdicts. */
#include "chart_fixture.h"

#include "base/clock.h"
#include "base/hash.h"
#include "chart/chartset.h"
#include "chart/judge.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { HISTORY_MAX = 400, CHARTS = 16 };

/* One chamber whose contexts are judged one after another. */
struct chamber {
    struct arena arena;
    struct chart_set *set;
    const struct judge_plan *plan;
    struct context context;
    struct judge_history_row rows[HISTORY_MAX]; /* newest first */
    size_t row_count;
    bool degraded;
};

static void use(struct chamber *c, const char *charts)
{
    struct error err;
    chart_set_free(c->set);
    if (chart_set_parse(charts, strlen(charts), "charts", &c->set, NULL, &err))
        fail_msg("%s", err.text);
    assert_int_equal(judge_plan_for(c->set, c->context.recipe, &c->plan, &err), 0);
}

/* Judges the next context, whose indicators have these values, and keeps it as history. */
static struct uchart judge_all(struct chamber *c, const double *values)
{
    struct uchart uchart;
    struct uchart_bytes bytes;
    struct error err;
    const char *reasons[CHARTS];
    for (size_t i = 0; i < CHARTS; i++)
        reasons[i] = "the reason";
    if (judge_verdicts(c->plan, &c->context, values, reasons, c->rows, c->row_count, c->degraded, &c->arena,
                       &uchart, &err))
        fail_msg("%s", err.text);
    assert_int_equal(uchart_encode(&uchart, &c->arena, &bytes, &err), 0);
    assert_true(c->row_count < HISTORY_MAX);
    memmove(c->rows + 1, c->rows, c->row_count++ * sizeof *c->rows);
    c->rows[0] = (struct judge_history_row){bytes.points, bytes.points_length};
    return uchart;
}

static struct uchart_point judge_next(struct chamber *c, double value)
{
    return judge_all(c, &value).points[0];
}

static int setup(void **state)
{
    struct chamber *c = calloc(1, sizeof *c);
    arena_init(&c->arena, 0);
    c->context = (struct context){.id = "c",
                                  .tool = "T1",
                                  .chamber = "2",
                                  .recipe = "ETCH_1",
                                  .lot = "L1",
                                  .wafer = "",
                                  .extra_json = "{}"};
    *state = c;
    return 0;
}

static int teardown(void **state)
{
    struct chamber *c = *state;
    chart_set_free(c->set);
    arena_free(&c->arena);
    free(c);
    return 0;
}

#define ONE_CHART "charts:\n- {name: a, unit: V, equation: mean(P), severity: critical, "

static void a_chart_learns_then_judges(void **state)
{
    struct chamber *c = *state;
    use(c, ONE_CHART "limits: {history: 10, min_history: 4}}\n");
    for (int i = 0; i < 4; i++) {
        struct uchart_point p = judge_next(c, i % 2 ? 11 : 9);
        assert_int_equal(p.state, VERDICT_LEARNING);
        assert_int_equal(p.history_count, i);
        assert_true(isnan(p.centre) && isnan(p.lower) && isnan(p.upper));
        assert_int_equal(p.flags, 0);
    }
    struct uchart_point p = judge_next(c, 10);
    assert_int_equal(p.state, VERDICT_NORMAL);
    assert_int_equal(p.history_count, 4);
    assert_near(p.centre, 10, 0);
    /* s = sqrt(4/3), c4(4) = 0.921318 */
    assert_near(p.upper, 10 + 3 * sqrt(4.0 / 3) / 0.9213177, 1e-5);
    assert_near(p.lower + p.upper, 20, 1e-12);
    assert_string_equal(p.chart, "a");
    assert_string_equal(p.unit, "V");
    assert_string_equal(p.reason, "");

    p = judge_next(c, 50);
    assert_int_equal(p.state, VERDICT_ALARM);
    assert_int_equal(p.rules, 1u << RULE_LIMITS);
    assert_int_equal(p.severity, SEVERITY_CRITICAL);
    assert_int_equal(p.flags, POINT_ALARMED);

    /* The alarmed point is left out of the next limits. */
    p = judge_next(c, 10);
    assert_int_equal(p.state, VERDICT_NORMAL);
    assert_int_equal(p.history_count, 5);
    assert_near(p.centre, 10, 0);
}

static void limits_look_back_so_far_and_no_farther(void **state)
{
    struct chamber *c = *state;
    use(c, ONE_CHART "limits: {history: 10, min_history: 2}, rules: []}\n");
    for (int i = 0; i < 30; i++)
        judge_next(c, 1000);
    for (int i = 0; i < 10; i++)
        judge_next(c, i % 2 ? 11 : 9);
    struct uchart_point p = judge_next(c, 10);
    assert_near(p.centre, 10, 0);
    assert_int_equal(p.history_count, 10);
    assert_int_equal(judge_plan_lookback(c->plan), 12);
}

static void missing_and_low_quality_points_do_not_count(void **state)
{
    struct chamber *c = *state;
    use(c, ONE_CHART "limits: {history: 10, min_history: 4}, rules: [limits, nelson_2]}\n");
    struct uchart_point p = judge_next(c, (double)NAN);
    assert_int_equal(p.state, VERDICT_MISSING);
    assert_int_equal(p.flags, POINT_MISSING);
    assert_int_equal(p.severity, SEVERITY_NONE);
    assert_string_equal(p.reason, "the reason");
    for (int i = 0; i < 4; i++)
        judge_next(c, i % 2 ? 11 : 9);
    assert_int_equal(judge_next(c, (double)INFINITY).state, VERDICT_MISSING);

    c->context.extra_json = "{\"quality\":\"low\"}";
    p = judge_next(c, 1e6);
    assert_int_equal(p.state, VERDICT_ALARM);
    assert_int_equal(p.flags, POINT_ALARMED | POINT_LOW_QUALITY);
    assert_string_equal(p.reason, "the trace is of low quality");
    p = judge_next(c, 10.5);
    assert_int_equal(p.flags, POINT_LOW_QUALITY);
    c->context.extra_json = "{}";
    c->degraded = true;
    p = judge_next(c, 10.5);
    assert_string_equal(p.reason, "the history came from a standby store");
    assert_int_equal(p.flags, POINT_LOW_QUALITY);
    c->degraded = false;
    p = judge_next(c, 10);
    assert_int_equal(p.history_count, 4);
    assert_near(p.centre, 10, 0);
}

static void run_rules_see_the_points_before(void **state)
{
    struct chamber *c = *state;
    use(c, ONE_CHART "limits: {target: 0, stdev: 1}, rules: [western_electric]}\n");
    uint32_t expected[] = {0, 0, 0, 1u << RULE_WESTERN_ELECTRIC_3, 1u << RULE_WESTERN_ELECTRIC_3};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(judge_next(c, 1.5).rules, expected[i]);
    judge_next(c, -0.1);
    for (int i = 0; i < 7; i++)
        assert_int_equal(judge_next(c, 0.5).rules, 0);
    /* A missing value does not break a run: it is as if the context had not been. */
    assert_int_equal(judge_next(c, (double)NAN).state, VERDICT_MISSING);
    struct uchart_point p = judge_next(c, 0.5);
    assert_int_equal(p.rules, 1u << RULE_WESTERN_ELECTRIC_4);
    assert_near(p.upper, 3, 0);
    assert_int_equal(p.history_count, 0);
}

static void a_sum_remembers_until_it_alarms(void **state)
{
    struct chamber *c = *state;
    use(c, ONE_CHART "limits: {target: 0, stdev: 1}, rules: [cusum]}\n");
    uint32_t fired = 0;
    size_t contexts = 0;
    while (!fired && contexts < 30) {
        fired = judge_next(c, 1).rules;
        contexts++;
    }
    assert_int_equal(contexts, 11); /* 0.5 a point, over 5 */
    assert_int_equal(fired, 1u << RULE_CUSUM);
    assert_int_equal(judge_next(c, 1).rules, 0); /* begins anew */

    use(c, ONE_CHART "limits: {target: 0, stdev: 1}, rules: [cusum: {restart: false}]}\n");
    assert_int_equal(judge_next(c, 1).rules, 1u << RULE_CUSUM);
}

static void the_whole_ewma_example_by_way_of_history(void **state)
{
    struct chamber *c = *state;
    static const double x[] = {52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5,
                               49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1};
    use(c, ONE_CHART
        "limits: {target: 50, stdev: 2.0539}, rules: [ewma: {lambda: 0.3, limit: 2.2, steady: true}]}\n");
    /* 51.9403 and 51.9882 at the end, with limits at 50 +- 2.2 * 2.0539 * sqrt(0.3/1.7) = 51.898. */
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(judge_next(c, x[i]).rules != 0, i == 18);
    use(c, ONE_CHART "limits: {target: 50, stdev: 2.0539}, "
                     "rules: [ewma: {lambda: 0.3, limit: 2.2, steady: true, restart: false}]}\n");
    c->row_count = 0;
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(judge_next(c, x[i]).rules != 0, i >= 18);
}

static void each_series_has_its_own_history(void **state)
{
    struct chamber *c = *state;
    use(c, ONE_CHART
        "baseline: [tool, chamber, recipe, lot], limits: {history: 10, min_history: 2}, rules: []}\n");
    for (int i = 0; i < 8; i++) {
        c->context.lot = i % 2 ? "L1" : "L2";
        judge_next(c, i % 2 ? 10 : 20);
    }
    c->context.lot = "L1";
    struct uchart_point one = judge_next(c, 10);
    c->context.lot = "L2";
    struct uchart_point two = judge_next(c, 10);
    assert_near(one.centre, 10, 0);
    assert_near(two.centre, 20, 0);
    assert_true(one.series != two.series);
    assert_int_equal(judge_plan_lookback(c->plan), 40);
    c->context.lot = "L3";
    assert_int_equal(judge_next(c, 1).state, VERDICT_LEARNING);
}

static uint64_t series_of(struct chamber *c, const char *charts)
{
    use(c, charts);
    uint64_t series = judge_next(c, 1).series;
    c->row_count = 0;
    return series;
}

static void what_makes_a_series(void **state)
{
    struct chamber *c = *state;
    uint64_t first = series_of(c, "charts: [{name: a, equation: mean(P)}]");
    /* Writing the same thing otherwise, or judging it otherwise, goes on with the same history. */
    assert_true(first ==
                series_of(c, "charts: [{name: a, equation: ( mean( 'P' ) ), unit: V, severity: info}]"));
    assert_true(first ==
                series_of(c, "charts: [{name: a, equation: mean(P), limits: {sigma: 4}, rules: [nelson]}]"));
    assert_true(first ==
                series_of(c, "charts: [{name: a, equation: mean(P), baseline: [recipe, chamber, tool]}]"));
    /* Another name, equation or baseline begins a new one. */
    assert_true(first != series_of(c, "charts: [{name: b, equation: mean(P)}]"));
    assert_true(first != series_of(c, "charts: [{name: a, equation: mean(Q)}]"));
    assert_true(first != series_of(c, "charts: [{name: a, equation: 'mean(P, step 1)'}]"));
    assert_true(
        first !=
        series_of(c, "charts: [{name: a, equation: mean(P), baseline: [tool, chamber, recipe, lot]}]"));
    c->context.chamber = "3";
    assert_true(first != series_of(c, "charts: [{name: a, equation: mean(P)}]"));
    c->context.chamber = "2";
    /* An attribute that is absent counts as empty. */
    static const char product[] =
        "charts: [{name: a, equation: mean(P), baseline: [tool, chamber, recipe, product]}]";
    uint64_t absent = series_of(c, product);
    c->context.extra_json = "{\"product\":\"\"}";
    assert_true(absent == series_of(c, product));
    c->context.extra_json = "{\"product\":7}";
    uint64_t seven = series_of(c, product);
    c->context.extra_json = "{\"product\":\"7\"}";
    assert_true(absent != seven && seven == series_of(c, product));
}

static void a_new_chart_file_finds_the_old_history(void **state)
{
    struct chamber *c = *state;
    use(c,
        "defaults: {limits: {min_history: 3}}\n"
        "charts: [{name: a, equation: mean(A)}, {name: b, equation: mean(B)}, {name: c, equation: mean(C)}]");
    for (int i = 0; i < 5; i++)
        judge_all(c, (double[]){1 + i % 2, 10 + i % 2, 100 + i % 2});
    /* b moves to the front, a is gone, d is new. */
    use(c,
        "defaults: {limits: {min_history: 3}}\n"
        "charts: [{name: b, equation: mean(B)}, {name: d, equation: mean(D)}, {name: c, equation: mean(C)}]");
    struct uchart u = judge_all(c, (double[]){10.5, 5, 100.5});
    assert_near(u.points[0].centre, 10.4, 1e-12);
    assert_int_equal(u.points[1].state, VERDICT_LEARNING);
    assert_near(u.points[2].centre, 100.4, 1e-12);
    assert_int_equal(u.points[2].history_count, 5);
    /* And back: the row of the new file lies among those of the old one. */
    use(c,
        "defaults: {limits: {min_history: 3}}\n"
        "charts: [{name: a, equation: mean(A)}, {name: b, equation: mean(B)}, {name: c, equation: mean(C)}]");
    u = judge_all(c, (double[]){1, 10, 100});
    assert_int_equal(u.points[0].history_count, 5);
    assert_int_equal(u.points[1].history_count, 6);
    assert_int_equal(u.points[2].history_count, 6);
}

static void a_damaged_row_is_named(void **state)
{
    struct chamber *c = *state;
    struct uchart uchart;
    struct error err;
    double value = 1;
    use(c, ONE_CHART "limits: {min_history: 2}}\n");
    for (int i = 0; i < 4; i++)
        judge_next(c, i);
    ((unsigned char *)(uintptr_t)c->rows[2].points)[30] ^= 1;
    assert_int_equal(judge_verdicts(c->plan, &c->context, &value, NULL, c->rows, c->row_count, 0, &c->arena,
                                    &uchart, &err),
                     ERR_CORRUPT);
    assert_non_null(strstr(err.text, "history row 2"));
}

static void the_worst_rule_decides_the_severity(void **state)
{
    struct chamber *c = *state;
    use(c, "charts: [{name: a, equation: mean(P), severity: info, limits: {target: 0, stdev: 1}, "
           "rules: [western_electric, limits: {severity: critical}, nelson_1: {severity: warning}]}]");
    assert_int_equal(judge_next(c, 2.5).severity, SEVERITY_NONE);
    assert_int_equal(judge_next(c, 2.5).severity, SEVERITY_INFO); /* 2 of 3 beyond 2 sigma */
    struct uchart_point p = judge_next(c, 9);
    assert_int_equal(p.severity, SEVERITY_CRITICAL);
    assert_true(p.rules & 1u << RULE_NELSON_1);
}

static void fixed_limits_need_no_history(void **state)
{
    struct chamber *c = *state;
    use(c, "charts: [{name: a, equation: mean(P), limits: {lower: 1, upper: 2}}]");
    assert_int_equal(judge_plan_lookback(c->plan), 0);
    assert_int_equal(judge_next(c, 1.5).state, VERDICT_NORMAL);
    assert_int_equal(judge_next(c, 2).state, VERDICT_NORMAL); /* on the limit is not beyond it */
    assert_int_equal(judge_next(c, 2.0001).state, VERDICT_ALARM);
    struct uchart_point p = judge_next(c, 0.5);
    assert_int_equal(p.state, VERDICT_ALARM);
    assert_near(p.centre, 1.5, 0);
    use(c, "charts: [{name: a, equation: mean(P), limits: {fixed: {upper: 2}}}]");
    p = judge_next(c, -1e9);
    assert_int_equal(p.state, VERDICT_NORMAL);
    assert_true(isnan(p.lower) && isnan(p.centre) && p.upper == 2);
}

static void judging_again_gives_the_same_bytes(void **state)
{
    struct chamber *c = *state;
    uint64_t seed = 12;
    use(c, "charts: [{name: a, equation: mean(P), rules: [limits, nelson, western_electric, ewma, cusum]}, "
           "{name: b, equation: mean(P), limits: {method: robust}, rules: [limits, ewma: {steady: true}]}]");
    for (int i = 0; i < 150; i++) {
        double values[2] = {random_normal(&seed), random_normal(&seed)};
        struct judge_history_row before[HISTORY_MAX];
        size_t count = c->row_count;
        memcpy(before, c->rows, sizeof before);
        struct uchart first = judge_all(c, values), second;
        struct uchart_bytes a, b;
        assert_int_equal(
            judge_verdicts(c->plan, &c->context, values, NULL, before, count, 0, &c->arena, &second, NULL),
            0);
        assert_int_equal(uchart_encode(&first, &c->arena, &a, NULL), 0);
        assert_int_equal(uchart_encode(&second, &c->arena, &b, NULL), 0);
        assert_memory_equal(a.points, b.points, a.points_length);
        assert_int_equal(a.verdicts_length, b.verdicts_length);
        assert_memory_equal(a.verdicts, b.verdicts, a.verdicts_length);
    }
}

/* A chart looks back as far by itself as in company, and finds the same among rows of any arrangement. */
static void verdicts_do_not_depend_on_the_company(void **state)
{
    struct chamber *c = *state;
    static const char alone[] =
        "charts:\n- {name: a, equation: mean(A), limits: {history: 20, min_history: 5}, "
        "rules: [limits, nelson, ewma, cusum]}\n";
    static const char company[] = "charts:\n- {name: b, equation: mean(B), limits: {history: 100}}\n"
                                  "- {name: a, equation: mean(A), limits: {history: 20, min_history: 5}, "
                                  "rules: [limits, nelson, ewma, cusum]}\n";
    static struct judge_history_row own[HISTORY_MAX], mixed[HISTORY_MAX];
    uint64_t seed = 15;
    size_t alarms = 0;
    for (size_t i = 0; i < 200; i++) {
        /* Stretches without alarm, with many, and with gaps. */
        double x = random_normal(&seed) * (i / 50 == 1 ? 3 : 1);
        x = i / 50 == 2 && i % 3 == 0 ? (double)NAN : x;
        use(c, alone);
        memcpy(c->rows, own, sizeof own);
        c->row_count = i;
        struct uchart_point first = judge_next(c, x);
        memcpy(own, c->rows, sizeof own);
        /* The other history has rows of both files. */
        use(c, company);
        memcpy(c->rows, mixed, sizeof mixed);
        c->row_count = i;
        struct uchart_point second = judge_all(c, (double[]){1, x}).points[1];
        memcpy(mixed, c->rows, sizeof mixed);
        if (i % 7 == 0)
            mixed[0] = own[0];
        assert_true(first.series == second.series && first.rules == second.rules &&
                    first.flags == second.flags);
        assert_int_equal(first.history_count, second.history_count);
        assert_true(first.upper == second.upper || (isnan(first.upper) && isnan(second.upper)));
        alarms += first.state == VERDICT_ALARM ? 1 : 0;
    }
    assert_true(alarms > 3);
}

/* A chart's value must not depend on what other charts ask of the same samples. */
static void charts_do_not_disturb_each_other(void **state)
{
    struct chamber *c = *state;
    enum { SAMPLES = 3000 };
    static int64_t time_us[SAMPLES];
    static double p[SAMPLES], q[SAMPLES], step[SAMPLES];
    static const char *const equations[] = {"mean(P)",
                                            "std(P)",
                                            "rms(P)",
                                            "median(P)",
                                            "percentile(P, 90)",
                                            "slope(P)",
                                            "integral(P)",
                                            "sum(P)",
                                            "corr(P, Q)",
                                            "mean(P, step 2)",
                                            "median(P, step 2)",
                                            "duration_above(P, 0)",
                                            "mean_diff(P, Q)",
                                            "median(Q)",
                                            "max_abs_diff(Q, P)",
                                            "percentile(P, 10)"};
    uint64_t seed = 13;
    for (int i = 0; i < SAMPLES; i++) {
        time_us[i] = i * 100000;
        p[i] = i % 17 == 3 ? (double)NAN : random_normal(&seed);
        q[i] = 1e6 + random_normal(&seed);
        step[i] = i / 500;
    }
    struct trace_column columns[3] = {{hash64_text("P"), SAMPLES, time_us, p},
                                      {hash64_text("Q"), SAMPLES, time_us, q},
                                      {hash64_text("step"), SAMPLES, time_us, step}};
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j + 1 < 3; j++) {
            if (columns[j].sensor > columns[j + 1].sensor) {
                struct trace_column swap = columns[j];
                columns[j] = columns[j + 1];
                columns[j + 1] = swap;
            }
        }
    }
    struct trace trace = {columns, 3, 0, 300000000};
    char file[4096] = "charts:\n", line[200];
    double together[CHARTS], alone;
    const char *reasons[CHARTS], *reason;
    assert_int_equal(sizeof equations / sizeof *equations, CHARTS);
    for (size_t i = 0; i < CHARTS; i++) {
        snprintf(line, sizeof line, "- {name: '%zu', equation: '%s'}\n", i, equations[i]);
        strcat(file, line);
    }
    use(c, file);
    assert_int_equal(judge_compute(c->plan, &trace, &c->arena, together, reasons, NULL), 0);
    for (size_t i = 0; i < CHARTS; i++) {
        snprintf(file, sizeof file, "charts:\n- {name: a, equation: '%s'}\n", equations[i]);
        use(c, file);
        assert_int_equal(judge_compute(c->plan, &trace, &c->arena, &alone, &reason, NULL), 0);
        assert_string_equal(reasons[i], "");
        if (memcmp(&alone, &together[i], sizeof alone) != 0)
            fail_msg("%s is %.17g alone and %.17g in company", equations[i], alone, together[i]);
    }
}

static void plans_are_shared_by_recipes_that_match_the_same_charts(void **state)
{
    struct chamber *c = *state;
    const struct judge_plan *plan, *other;
    use(c, "charts:\n"
           "- {name: a, recipe: 'ETCH_*', equation: 'mean(P, step 4) + max(Q)'}\n"
           "- {name: b, recipe: '*', equation: mean(P)}\n");
    assert_int_equal(judge_plan_for(c->set, "ETCH_1", &plan, NULL), 0);
    assert_int_equal(judge_plan_for(c->set, "ETCH_2", &other, NULL), 0);
    assert_ptr_equal(plan, other);
    assert_int_equal(judge_plan_chart_count(plan), 2);
    size_t count;
    const uint64_t *sensors = judge_plan_sensors(plan, &count);
    assert_int_equal(count, 3); /* P, Q and the step column */
    assert_true(sensors[0] < sensors[1] && sensors[1] < sensors[2]);
    assert_int_equal(judge_plan_for(c->set, "DEPO", &other, NULL), 0);
    assert_int_equal(judge_plan_chart_count(other), 1);
    judge_plan_sensors(other, &count);
    assert_int_equal(count, 1);
    use(c, "charts: [{name: a, recipe: X, equation: mean(P)}]");
    assert_int_equal(judge_plan_for(c->set, "", &plan, NULL), 0);
    assert_int_equal(judge_plan_chart_count(plan), 0);
    assert_int_equal(judge_plan_lookback(plan), 0);
    c->plan = plan;
    assert_int_equal(judge_all(c, NULL).count, 0);
}

static void *ask_for_plans(void *arg)
{
    struct chart_set *set = arg;
    size_t wrong = 0;
    for (int i = 0; i < 3000; i++) {
        const struct judge_plan *plan;
        char recipe[32];
        snprintf(recipe, sizeof recipe, "R%d", i % 700);
        wrong += judge_plan_for(set, recipe, &plan, NULL) != 0 ||
                 judge_plan_chart_count(plan) != (i % 700 < 10 ? 2 : 1);
    }
    return wrong ? set : NULL;
}

static void plans_may_be_asked_for_from_many_threads(void **state)
{
    struct chamber *c = *state;
    use(c, "charts: [{name: a, recipe: 'R?', equation: mean(P)}, {name: b, equation: mean(Q)}]");
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_for_plans, c->set), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

/* A shift of two deviations, as a chart sees it: quiet before, an alarm soon after, by the rules that are
 * made for it. */
static void a_small_shift_is_found_by_the_sums_first(void **state)
{
    struct chamber *c = *state;
    uint64_t seed = 14;
    use(c, "defaults: {limits: {history: 60, min_history: 60}}\n"
           "charts: [{name: limits, equation: mean(P)}, {name: ewma, equation: mean(P), rules: [ewma: "
           "{limit: 3.5}]}, "
           "{name: cusum, equation: mean(P), rules: [cusum]}]");
    size_t first[3] = {0, 0, 0};
    for (size_t i = 0; i < 100; i++) {
        double x = random_normal(&seed) + (i >= 70 ? 2 : 0);
        struct uchart u = judge_all(c, (double[]){x, x, x});
        for (size_t j = 0; j < 3; j++)
            first[j] = first[j] == 0 && u.points[j].state == VERDICT_ALARM ? i : first[j];
    }
    assert_true(first[1] >= 70 && first[1] < 82);
    assert_true(first[2] >= 70 && first[2] < 82);
}

/* One wafer of data/lam9600: time, step and TCP_Top_Pwr, without the last sample, whose time jumps back. */
enum { WAFER_MAX = 200, POWER_COLUMN = 17 };

struct wafer {
    size_t count;
    int64_t time_us[WAFER_MAX];
    double step[WAFER_MAX], power[WAFER_MAX];
};

static void read_wafer(int number, struct wafer *wafer)
{
    char path[300], line[1000];
    snprintf(path, sizeof path, PROJECT_ROOT "/data/lam9600/l%d.csv", number);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    wafer->count = 0;
    for (bool header = true; fgets(line, sizeof line, file); header = false) {
        char *rest = line, *field = strsep(&rest, ",");
        if (header)
            continue;
        assert_int_equal(clock_parse_rfc3339(field, &wafer->time_us[wafer->count], NULL), 0);
        wafer->step[wafer->count] = atof(strsep(&rest, ","));
        for (int i = 2; i <= POWER_COLUMN; i++)
            field = strsep(&rest, ",");
        wafer->power[wafer->count++] = atof(field);
    }
    fclose(file);
    wafer->count--;
}

static double power_of(struct chamber *c, int number)
{
    static struct wafer wafer;
    double value;
    const char *reason;
    read_wafer(number, &wafer);
    struct trace_column columns[2] = {{hash64_text("TCP_Top_Pwr"), wafer.count, wafer.time_us, wafer.power},
                                      {hash64_text("step"), wafer.count, wafer.time_us, wafer.step}};
    if (columns[0].sensor > columns[1].sensor)
        columns[0] = (struct trace_column){columns[1].sensor, wafer.count, wafer.time_us, wafer.step},
        columns[1] =
            (struct trace_column){hash64_text("TCP_Top_Pwr"), wafer.count, wafer.time_us, wafer.power};
    struct trace trace = {columns, 2, wafer.time_us[0], wafer.time_us[wafer.count - 1]};
    assert_int_equal(judge_compute(c->plan, &trace, &c->arena, &value, &reason, NULL), 0);
    assert_string_equal(reason, "");
    return value;
}

/* The guide's story: 14 normal wafers, then one whose pressure was off. */
static void the_etcher_of_the_guide(void **state)
{
    struct chamber *c = *state;
    use(c, "charts:\n"
           "- name: etch.tcp.power\n"
           "  equation: mean(TCP_Top_Pwr, step 5, trim 2s)\n"
           "  limits: {method: individuals, history: 50, min_history: 10}\n");
    for (int number = 2901; number <= 2914; number++) {
        struct uchart_point p = judge_next(c, power_of(c, number));
        assert_int_equal(p.state, number <= 2910 ? VERDICT_LEARNING : VERDICT_NORMAL);
        assert_true(p.value > 348.9 && p.value < 350.8);
    }
    struct uchart_point p = judge_next(c, power_of(c, 2918));
    assert_int_equal(p.state, VERDICT_ALARM);
    assert_near(p.value, 347.2, 0.05);
    assert_near(p.centre, 349.6, 0.05);
    assert_near(p.lower, 348.3, 0.05);
    assert_near(p.upper, 351.0, 0.05);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_chart_learns_then_judges),
        TEST(limits_look_back_so_far_and_no_farther),
        TEST(missing_and_low_quality_points_do_not_count),
        TEST(run_rules_see_the_points_before),
        TEST(a_sum_remembers_until_it_alarms),
        TEST(the_whole_ewma_example_by_way_of_history),
        TEST(each_series_has_its_own_history),
        TEST(what_makes_a_series),
        TEST(a_new_chart_file_finds_the_old_history),
        TEST(a_damaged_row_is_named),
        TEST(the_worst_rule_decides_the_severity),
        TEST(fixed_limits_need_no_history),
        TEST(judging_again_gives_the_same_bytes),
        TEST(charts_do_not_disturb_each_other),
        TEST(verdicts_do_not_depend_on_the_company),
        TEST(plans_are_shared_by_recipes_that_match_the_same_charts),
        TEST(plans_may_be_asked_for_from_many_threads),
        TEST(the_etcher_of_the_guide),
        TEST(a_small_shift_is_found_by_the_sums_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
