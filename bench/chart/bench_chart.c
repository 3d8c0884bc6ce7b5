/* How long the chart engine takes: statistics by the point, contexts by the trace, verdicts by the U-chart.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/strbuf.h"
#include "chart/chartset.h"
#include "chart/judge.h"
#include "chart/statistics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS_MAX = 20000, RUNS_MIN = 15, ROWS = 125 };

static const int64_t BUDGET_NS = INT64_C(500000000); /* of one measurement */

/* A fab's trace in memory: sensors sampled together at 1 Hz in 10 steps. */
struct trace_data {
    size_t sensors, samples;
    int64_t *time_us;
    double *values; /* sensor by sensor; the step column comes last */
    struct trace_column *columns;
    struct trace trace;
};

static void die(const char *what)
{
    fprintf(stderr, "bench_chart: %s\n", what);
    exit(1);
}

static void *checked(void *memory)
{
    if (memory == NULL)
        die("out of memory");
    return memory;
}

static double next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) / 9007199254740992.0;
}

static int by_sensor(const void *a, const void *b)
{
    uint64_t x = ((const struct trace_column *)a)->sensor, y = ((const struct trace_column *)b)->sensor;
    return (x > y) - (x < y);
}

static void trace_make(struct trace_data *data, size_t sensors, size_t samples)
{
    uint64_t seed = 1;
    char name[32];
    *data = (struct trace_data){.sensors = sensors, .samples = samples};
    data->time_us = checked(malloc(samples * sizeof(int64_t)));
    data->values = checked(malloc((sensors + 1) * samples * sizeof(double)));
    data->columns = checked(calloc(sensors + 1, sizeof *data->columns));
    for (size_t i = 0; i < samples; i++)
        data->time_us[i] = (int64_t)i * 1000000;
    for (size_t s = 0; s <= sensors; s++) {
        double *values = data->values + s * samples;
        snprintf(name, sizeof name, "SVID%zu", s);
        for (size_t i = 0; i < samples; i++)
            values[i] =
                s == sensors ? (double)(1 + i * 10 / samples) : 100 + next_random(&seed) + next_random(&seed);
        data->columns[s] = (struct trace_column){hash64_text(s == sensors ? TRACE_STEP_NAME : name), samples,
                                                 data->time_us, values};
    }
    qsort(data->columns, sensors + 1, sizeof *data->columns, by_sensor);
    data->trace = (struct trace){data->columns, sensors + 1, 0, (int64_t)samples * 1000000};
}

static void trace_free(struct trace_data *data)
{
    free(data->time_us);
    free(data->values);
    free(data->columns);
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

struct timing {
    double median_ns, p95_ns;
};

/* Runs `work` until the budget is spent. */
static struct timing measure(void (*work)(void *), void *arg)
{
    static int64_t times[RUNS_MAX];
    size_t count = 0;
    int64_t begin = clock_mono_ns();
    work(arg);
    while (count < RUNS_MAX && (count < RUNS_MIN || clock_mono_ns() - begin < BUDGET_NS)) {
        int64_t start = clock_mono_ns();
        work(arg);
        times[count++] = clock_mono_ns() - start;
    }
    qsort(times, count, sizeof *times, ascending);
    return (struct timing){(double)times[count / 2], (double)times[count * 95 / 100]};
}

/* ---- statistics ---- */

struct one_pass {
    const struct trace_data *data;
    double sink;
};

static void run_statistics(void *arg)
{
    struct one_pass *pass = arg;
    for (size_t s = 0; s < pass->data->sensors; s++) {
        struct statistics statistics;
        statistics_begin(&statistics);
        statistics_add(&statistics, pass->data->values + s * pass->data->samples, pass->data->samples, true);
        pass->sink +=
            statistics_mean(&statistics) + statistics_std(&statistics) + statistics.min + statistics.max;
    }
}

/* The blocks alone, without AVX2. */
static void run_portable(void *arg)
{
    struct one_pass *pass = arg;
    for (size_t s = 0; s < pass->data->sensors; s++) {
        const double *values = pass->data->values + s * pass->data->samples;
        for (size_t i = 0; i < pass->data->samples; i += STATISTICS_BLOCK) {
            struct statistics_block block;
            size_t left = pass->data->samples - i;
            statistics_block_portable(values + i, left < STATISTICS_BLOCK ? left : STATISTICS_BLOCK, true,
                                      &block);
            pass->sink += block.sum + block.m2;
        }
    }
}

static void bench_statistics(const struct trace_data *data)
{
    struct one_pass pass = {.data = data};
    double points = (double)(data->sensors * data->samples);
    struct timing best = measure(run_statistics, &pass), plain = measure(run_portable, &pass);
    printf("  %4zu x %6zu  in one pass %6.3f   blocks without AVX2 %6.3f\n", data->sensors, data->samples,
           best.median_ns / points, plain.median_ns / points);
    if (!isfinite(pass.sink))
        die("the statistics are not finite");
}

/* ---- contexts ---- */

struct calculation {
    const struct judge_plan *plan;
    const struct trace *trace;
    struct arena arena;
    double *values;
    const char **reasons;
};

static void run_calculation(void *arg)
{
    struct calculation *c = arg;
    struct error err;
    arena_reset(&c->arena);
    if (judge_compute(c->plan, c->trace, &c->arena, c->values, c->reasons, &err))
        die(err.text);
}

static struct chart_set *charts_make(size_t sensors, const char *const *equations, size_t count,
                                     const char *rest)
{
    struct strbuf text;
    struct chart_set *set;
    struct error err;
    strbuf_init(&text);
    strbuf_add(&text, "charts:\n");
    for (size_t s = 0; s < sensors; s++) {
        for (size_t i = 0; i < count; i++) {
            strbuf_printf(&text, "- name: chart.%zu.%zu\n  equation: ", s, i);
            strbuf_printf(&text, equations[i], s);
            strbuf_printf(&text, "\n%s", rest);
        }
    }
    if (text.failed || chart_set_parse(text.text, text.length, "bench", &set, NULL, &err))
        die(text.failed ? "out of memory" : err.text);
    strbuf_free(&text);
    return set;
}

static void bench_calculation(const char *name, const struct trace_data *data, const char *const *equations,
                              size_t count)
{
    struct chart_set *set = charts_make(data->sensors, equations, count, "");
    struct calculation c = {.trace = &data->trace};
    struct error err;
    arena_init(&c.arena, 1 << 20);
    if (judge_plan_for(set, "R", &c.plan, &err))
        die(err.text);
    c.values = checked(calloc(data->sensors * count, sizeof *c.values));
    c.reasons = checked(calloc(data->sensors * count, sizeof *c.reasons));
    struct timing t = measure(run_calculation, &c);
    for (size_t i = 0; i < data->sensors * count; i++) {
        if (!isfinite(c.values[i]))
            die(c.reasons[i]);
    }
    printf("  %4zu x %6zu  %-44s %8.3f ms  p95 %8.3f ms\n", data->sensors, data->samples, name,
           t.median_ns / 1e6, t.p95_ns / 1e6);
    free(c.values);
    free(c.reasons);
    arena_free(&c.arena);
    chart_set_free(set);
}

static void bench_contexts(const struct trace_data *data)
{
    static const char *const plain[] = {"mean(SVID%zu)", "std(SVID%zu)", "min(SVID%zu)", "max(SVID%zu)"};
    static const char *const steps[] = {"mean(SVID%zu, step 4..5)", "std(SVID%zu, step 4..5)",
                                        "max(SVID%zu, step 2, trim 2s)", "range(SVID%zu, step 8..9)"};
    static const char *const mixed[] = {"mean(SVID%zu, step 2..9)", "median(SVID%zu, step 2..9)",
                                        "slope(SVID%zu, step 2..9)", "integral(SVID%zu, step 2..9)"};
    bench_calculation("mean, std, min, max", data, plain, 4);
    bench_calculation("mean, std, max, range of steps", data, steps, 4);
    bench_calculation("mean, median, slope, integral of 8 steps", data, mixed, 4);
}

/* ---- verdicts ---- */

struct judging {
    const struct judge_plan *plan;
    struct context context;
    struct judge_history_row rows[ROWS]; /* newest first */
    size_t row_count;
    struct arena arena, kept;
    double *values;
    struct uchart uchart;
};

static void run_judging(void *arg)
{
    struct judging *j = arg;
    struct error err;
    arena_reset(&j->arena);
    if (judge_verdicts(j->plan, &j->context, j->values, NULL, j->rows, j->row_count, 0, &j->arena, &j->uchart,
                       &err))
        die(err.text);
}

static void bench_judging(const char *name, const char *rest)
{
    static const char *const equations[] = {"mean(SVID%zu)"};
    enum { CHARTS = 100 };
    struct chart_set *set = charts_make(CHARTS, equations, 1, rest);
    struct judging j = {.context = {.id = "c",
                                    .tool = "T",
                                    .chamber = "1",
                                    .recipe = "R",
                                    .lot = "",
                                    .wafer = "",
                                    .extra_json = "{}"}};
    struct error err;
    struct uchart_bytes bytes;
    uint64_t seed = 2;
    arena_init(&j.arena, 1 << 20);
    arena_init(&j.kept, 1 << 20);
    j.values = checked(calloc(CHARTS, sizeof *j.values));
    if (judge_plan_for(set, "R", &j.plan, &err))
        die(err.text);
    for (size_t r = 0; r < ROWS; r++) {
        for (size_t i = 0; i < CHARTS; i++)
            j.values[i] = 100 + next_random(&seed) + next_random(&seed);
        run_judging(&j);
        if (uchart_encode(&j.uchart, &j.kept, &bytes, &err))
            die(err.text);
        memmove(j.rows + 1, j.rows, r * sizeof *j.rows);
        j.rows[0] = (struct judge_history_row){bytes.points, bytes.points_length};
        j.row_count = r + 1;
    }
    struct timing t = measure(run_judging, &j);
    printf("  %-44s %8.4f ms  p95 %8.4f ms\n", name, t.median_ns / 1e6, t.p95_ns / 1e6);
    free(j.values);
    arena_free(&j.arena);
    arena_free(&j.kept);
    chart_set_free(set);
}

int main(void)
{
    struct trace_data typical, longest;
    trace_make(&typical, 100, 1200);
    trace_make(&longest, 200, 18000);
    printf("mean, std, min, max of every sensor, ns a point (median)\n");
    bench_statistics(&typical);
    bench_statistics(&longest);
    printf("\ncalculation of a context, 4 charts a sensor (median)\n");
    bench_contexts(&typical);
    bench_contexts(&longest);
    printf("\nverdicts on 100 indicators with 100 points of history each (median)\n");
    bench_judging("shewhart, limits", "");
    bench_judging("shewhart, limits, western_electric, nelson",
                  "  rules: [limits, western_electric, nelson]\n");
    bench_judging("robust, limits", "  limits: {method: robust}\n");
    bench_judging("individuals, limits, ewma, cusum",
                  "  limits: {method: individuals}\n  rules: [limits, ewma, cusum]\n");
    trace_free(&typical);
    trace_free(&longest);
    return 0;
}
