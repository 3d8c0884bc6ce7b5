#include "chart/plan.h"
#include "chart/statistics.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* The newest resolution of a window: columns that were sampled together share their times, and so the ranges.
 */
struct resolved {
    const int64_t *time_us; /* NULL: not resolved yet */
    size_t count;
    struct window_ranges ranges;
};

/* One computation under way. */
struct computer {
    const struct judge_plan *plan;
    const struct trace *trace;
    struct arena *arena;
    struct error *err;
    const struct trace_column **columns; /* by the plan's sensors; NULL where the trace has none */
    struct window_steps steps;
    bool has_steps;
    struct resolved *resolved; /* by the plan's windows */
    size_t scratch_count;      /* samples of the longest column */
    double *x, *y;             /* scratch, allocated at first use */
    double *seconds;           /* times of one sampling after its first, likewise */
    const int64_t *seconds_of; /* which sampling, and how many of it */
    size_t seconds_count;
    double *values;  /* by the plan's terms */
    size_t *samples; /* that are there in a term's window, likewise */
    const char **reasons;
};

/* The samples of one sensor in one window. */
struct selection {
    const struct trace_column *column;
    struct window_ranges ranges;
    size_t count;                 /* samples in the ranges */
    struct statistics statistics; /* of those that are there; begun only without PLAN_SUMMARY */
    bool complete;                /* none is missing */
};

/* Samples in time, with those missing left out: either columns as they are or copies. */
struct dense {
    const double *seconds;
    const double *value;
    size_t count;
};

static int no_memory(struct computer *computer)
{
    return error_set(computer->err, ERR_NO_MEMORY, "out of memory while computing indicators");
}

static int check_times(struct computer *computer, const struct trace_column *column, const char *name)
{
    uint64_t backwards = 0;
    for (size_t i = 1; i < column->count; i++)
        backwards |= (uint64_t)(column->time_us[i] < column->time_us[i - 1]);
    if (!backwards)
        return 0;
    size_t i = 1;
    while (column->time_us[i] >= column->time_us[i - 1])
        i++;
    return error_set(computer->err, ERR_INVALID,
                     "sensor %s: sample %zu lies %" PRIu64 " us before sample %zu", name, i,
                     (uint64_t)column->time_us[i - 1] - (uint64_t)column->time_us[i], i - 1);
}

static int check_order(struct computer *computer)
{
    const struct trace *trace = computer->trace;
    for (size_t i = 1; i < trace->count; i++) {
        if (trace->columns[i].sensor <= trace->columns[i - 1].sensor)
            return error_set(computer->err, ERR_INVALID,
                             "the trace's columns are not ascending by sensor (column %zu)", i);
    }
    return 0;
}

/* Finds the needed columns and checks each sampling once. */
static int find_columns(struct computer *computer)
{
    const struct judge_plan *plan = computer->plan;
    const struct trace_column *before = NULL, *step = NULL;
    int code = check_order(computer);
    if (plan->step_sensor < plan->sensor_count)
        step = trace_find(computer->trace, plan->sensors[plan->step_sensor]);
    for (size_t i = 0; code == 0 && i < plan->sensor_count; i++) {
        const struct trace_column *column = trace_find(computer->trace, plan->sensors[i]);
        computer->columns[i] = column;
        if (column == NULL)
            continue;
        if ((before && column->time_us == before->time_us && column->count != before->count) ||
            (step && column->time_us == step->time_us && column->count != step->count))
            return error_set(
                computer->err, ERR_INVALID,
                "sensor %s has %zu samples, but another one sampled with it has a different number",
                plan->sensor_names[i], column->count);
        if (before == NULL || column->time_us != before->time_us)
            code = check_times(computer, column, plan->sensor_names[i]);
        if (column->count > computer->scratch_count)
            computer->scratch_count = column->count;
        before = column;
    }
    if (code == 0 && step) {
        code = window_scan_steps(step, computer->arena, &computer->steps, computer->err);
        computer->has_steps = true;
    }
    return code;
}

static int resolve(struct computer *computer, const struct plan_group *group,
                   const struct trace_column *column, struct window_ranges *ranges)
{
    struct resolved *resolved = &computer->resolved[group->window];
    if (resolved->time_us != column->time_us || resolved->count != column->count || column->time_us == NULL) {
        int code = window_resolve(computer->plan->windows[group->window].window, computer->trace,
                                  computer->has_steps ? &computer->steps : NULL, column, computer->arena,
                                  &resolved->ranges, computer->err);
        if (code)
            return code;
        resolved->time_us = column->time_us;
        resolved->count = column->count;
    }
    *ranges = resolved->ranges;
    return 0;
}

static int need_scratch(struct computer *computer)
{
    if (computer->x)
        return 0;
    computer->x = arena_alloc(computer->arena, computer->scratch_count * sizeof *computer->x);
    computer->y = arena_alloc(computer->arena, computer->scratch_count * sizeof *computer->y);
    computer->seconds = arena_alloc(computer->arena, computer->scratch_count * sizeof *computer->seconds);
    return computer->x && computer->y && computer->seconds ? 0 : no_memory(computer);
}

/* Sensors that were sampled together share their times, and so the seconds. */
static const double *seconds_of(struct computer *computer, const struct trace_column *column)
{
    if (computer->seconds_of == column->time_us && computer->seconds_count >= column->count)
        return computer->seconds;
    for (size_t i = 0; i < column->count; i++) {
        uint64_t us = (uint64_t)column->time_us[i] - (uint64_t)column->time_us[0];
        computer->seconds[i] = (double)(int64_t)us * 1e-6;
    }
    computer->seconds_of = column->time_us;
    computer->seconds_count = column->count;
    return computer->seconds;
}

/* The samples of one range. */
static struct dense dense_range(struct computer *computer, const struct selection *selection,
                                struct window_range range)
{
    const double *seconds = seconds_of(computer, selection->column) + range.begin;
    const double *value = selection->column->value + range.begin;
    size_t count = range.end - range.begin, kept = 0;
    if (selection->complete)
        return (struct dense){seconds, value, count};
    for (size_t i = 0; i < count; i++) {
        computer->x[kept] = seconds[i];
        computer->y[kept] = value[i];
        kept += isfinite(value[i]) ? 1 : 0;
    }
    return (struct dense){computer->x, computer->y, kept};
}

/* The samples of all ranges. */
static struct dense dense_all(struct computer *computer, const struct selection *selection)
{
    const double *seconds = seconds_of(computer, selection->column), *value = selection->column->value;
    size_t kept = 0;
    if (selection->complete && selection->ranges.count == 1)
        return dense_range(computer, selection, selection->ranges.ranges[0]);
    for (size_t r = 0; r < selection->ranges.count; r++) {
        for (size_t i = selection->ranges.ranges[r].begin; i < selection->ranges.ranges[r].end; i++) {
            computer->x[kept] = seconds[i];
            computer->y[kept] = value[i];
            kept += isfinite(value[i]) ? 1 : 0;
        }
    }
    return (struct dense){computer->x, computer->y, kept};
}

/* Seconds during which sign * (the line through the samples - level) is positive. */
static double time_beyond(const struct dense *dense, double level, double sign)
{
    double total = 0;
    for (size_t i = 1; i < dense->count; i++) {
        double a = sign * (dense->value[i - 1] - level), b = sign * (dense->value[i] - level);
        double width = dense->seconds[i] - dense->seconds[i - 1];
        if (a > 0 && b > 0)
            total += width;
        else if (a > 0 || b > 0)
            total += width * ((a > 0 ? a : b) / (fabs(a) + fabs(b)));
    }
    return total;
}

/* The statistics that go by time, summed over the visits: what lies between two visits belongs to none. */
static double by_time(struct computer *computer, const struct selection *selection,
                      const struct equation_term *term)
{
    double total = 0;
    for (size_t i = 0; i < selection->ranges.count; i++) {
        struct dense dense = dense_range(computer, selection, selection->ranges.ranges[i]);
        if (dense.count == 0)
            continue;
        if (term->statistic == STATISTIC_INTEGRAL)
            total += statistics_area(dense.seconds, dense.value, dense.count);
        else if (term->statistic == STATISTIC_DURATION)
            total += dense.seconds[dense.count - 1] - dense.seconds[0];
        else
            total +=
                time_beyond(&dense, term->parameter, term->statistic == STATISTIC_DURATION_ABOVE ? 1 : -1);
    }
    return total;
}

/* The slope of the least-squares line; NaN when the samples lie at one time. */
static double slope(struct computer *computer, const struct selection *selection)
{
    struct dense dense = dense_all(computer, selection);
    struct statistics_pair pair;
    if (dense.count < 2)
        return (double)NAN;
    statistics_pairs(dense.seconds, dense.value, dense.count, &pair);
    return pair.sxx > 0 ? pair.sxy / pair.sxx : (double)NAN;
}

/* A copy of the samples that are there, to be reordered. */
static void copy_samples(struct computer *computer, const struct selection *selection)
{
    size_t kept = 0;
    for (size_t i = 0; i < selection->ranges.count; i++) {
        struct window_range range = selection->ranges.ranges[i];
        const double *value = selection->column->value + range.begin;
        size_t count = range.end - range.begin;
        if (selection->complete)
            memcpy(computer->x + kept, value, count * sizeof *value);
        kept += selection->complete ? count : statistics_compact(value, count, computer->x + kept);
    }
}

/* Pairs of samples of two sensors with equal times, both there. */
static size_t pair_up(struct computer *computer, const struct trace_column *a, const struct trace_column *b,
                      const struct window_ranges *ranges)
{
    size_t kept = 0, j = 0;
    bool together = a->time_us == b->time_us && a->count == b->count;
    for (size_t r = 0; r < ranges->count; r++) {
        for (size_t i = ranges->ranges[r].begin; i < ranges->ranges[r].end; i++) {
            if (together)
                j = i;
            while (j < b->count && b->time_us[j] < a->time_us[i])
                j++;
            if (j == b->count)
                return kept;
            if (b->time_us[j] != a->time_us[i])
                continue;
            computer->x[kept] = a->value[i];
            computer->y[kept] = b->value[j];
            kept += isfinite(a->value[i]) && isfinite(b->value[j]) ? 1 : 0;
            j++;
        }
    }
    return kept;
}

static double largest_difference(const double *x, const double *y, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs(x[i] - y[i]);
        largest = difference > largest ? difference : largest;
    }
    return largest;
}

static double mean_difference(double *x, const double *y, size_t count)
{
    struct statistics statistics;
    for (size_t i = 0; i < count; i++)
        x[i] -= y[i];
    statistics_begin(&statistics);
    statistics_add(&statistics, x, count, false);
    return statistics_mean(&statistics);
}

static double correlation(const double *x, const double *y, size_t count)
{
    struct statistics_pair pair;
    statistics_pairs(x, y, count, &pair);
    double r = pair.sxy / (sqrt(pair.sxx) * sqrt(pair.syy));
    return r > 1 ? 1 : r < -1 ? -1 : r;
}

/* A reason that was printed into the arena; the verdict is right without its words. */
static const char *say(const char *text)
{
    return text ? text : "no value (and no memory to say why)";
}

/* A statistic over two sensors. */
static void two_sensors(struct computer *computer, const struct plan_group *group,
                        const struct trace_column *a, const struct window_ranges *ranges, size_t index)
{
    const struct judge_plan *plan = computer->plan;
    const struct equation_term *term = plan->terms[index].term;
    const struct trace_column *b = computer->columns[plan->terms[index].other];
    const char *where = plan->windows[group->window].text;
    if (b == NULL) {
        computer->reasons[index] =
            say(arena_printf(computer->arena, "sensor %s is not in the trace", term->other.name));
        return;
    }
    size_t pairs = pair_up(computer, a, b, ranges);
    computer->samples[index] = pairs;
    if (pairs == 0) {
        computer->reasons[index] =
            say(arena_printf(computer->arena, "%s and %s have no samples at the same time in %s",
                             term->sensor.name, term->other.name, where));
        return;
    }
    double value;
    if (term->statistic == STATISTIC_CORR)
        value = correlation(computer->x, computer->y, pairs);
    else if (term->statistic == STATISTIC_MAX_ABS_DIFF)
        value = largest_difference(computer->x, computer->y, pairs);
    else
        value = mean_difference(computer->x, computer->y, pairs);
    computer->values[index] = value;
    if (!isfinite(value))
        computer->reasons[index] = say(arena_printf(computer->arena, "%s or %s does not vary in %s",
                                                    term->sensor.name, term->other.name, where));
}

/* Why a statistic of samples that are there has no value. */
static const char *undefined(struct computer *computer, const struct plan_group *group,
                             const struct equation_term *term)
{
    const char *where = computer->plan->windows[group->window].text;
    if (term->statistic == STATISTIC_STD)
        return say(
            arena_printf(computer->arena, "std needs two samples of %s in %s", term->sensor.name, where));
    if (term->statistic == STATISTIC_SLOPE)
        return say(arena_printf(computer->arena, "slope needs samples of %s at two times in %s",
                                term->sensor.name, where));
    return "the result is too large";
}

static double from_summary(const struct statistics *statistics, enum statistic statistic)
{
    switch (statistic) {
    case STATISTIC_COUNT:
        return (double)statistics->count;
    case STATISTIC_MEAN:
        return statistics_mean(statistics);
    case STATISTIC_STD:
        return statistics_std(statistics);
    case STATISTIC_MIN:
        return statistics->min;
    case STATISTIC_MAX:
        return statistics->max;
    case STATISTIC_RANGE:
        return statistics->max - statistics->min;
    case STATISTIC_FIRST:
        return statistics->first;
    case STATISTIC_LAST:
        return statistics->last;
    case STATISTIC_SUM:
        return statistics_sum(statistics);
    case STATISTIC_RMS:
        return statistics_rms(statistics);
    default:
        return (double)NAN;
    }
}

static double term_value(struct computer *computer, const struct selection *selection,
                         const struct equation_term *term)
{
    switch (term->statistic) {
    case STATISTIC_MEDIAN:
        return statistics_median(computer->x, selection->statistics.count);
    case STATISTIC_PERCENTILE:
        return statistics_percentile(computer->x, selection->statistics.count, term->parameter);
    case STATISTIC_SLOPE:
        return slope(computer, selection);
    case STATISTIC_INTEGRAL:
    case STATISTIC_DURATION:
    case STATISTIC_DURATION_ABOVE:
    case STATISTIC_DURATION_BELOW:
        return by_time(computer, selection, term);
    default:
        return from_summary(&selection->statistics, term->statistic);
    }
}

static bool needs_copy(enum statistic statistic)
{
    return statistic == STATISTIC_MEDIAN || statistic == STATISTIC_PERCENTILE;
}

/* Reads the samples of one sensor in one window, once for all its terms. */
static void select_samples(const struct plan_group *group, const struct trace_column *column,
                           const struct window_ranges *ranges, struct selection *selection)
{
    *selection = (struct selection){.column = column, .ranges = *ranges};
    statistics_begin(&selection->statistics);
    for (size_t i = 0; i < ranges->count; i++) {
        size_t begin = ranges->ranges[i].begin, count = ranges->ranges[i].end - begin;
        selection->count += count;
        if (group->needs & PLAN_SUMMARY)
            statistics_add(&selection->statistics, column->value + begin, count,
                           (group->needs & PLAN_SQUARES) != 0);
    }
    selection->complete = selection->statistics.count == selection->count;
}

/* Every term of one sensor in one window that has samples. */
static void compute_terms(struct computer *computer, const struct plan_group *group,
                          const struct trace_column *column, const struct window_ranges *ranges)
{
    const struct judge_plan *plan = computer->plan;
    struct selection selection;
    bool has_copy = false;
    select_samples(group, column, ranges, &selection);
    size_t there = selection.statistics.count;
    for (size_t i = group->first_term; i < group->first_term + group->term_count; i++) {
        const struct equation_term *term = plan->terms[i].term;
        if (statistic_reads_two(term->statistic)) {
            two_sensors(computer, group, column, ranges, i);
            has_copy = false;
            continue;
        }
        computer->samples[i] = there;
        /* The other statistics use the scratch too: the copy is made again after them. */
        if (needs_copy(term->statistic) && !has_copy)
            copy_samples(computer, &selection);
        has_copy = needs_copy(term->statistic);
        double value = (double)NAN;
        if (there > 0 || term->statistic == STATISTIC_COUNT)
            value = term_value(computer, &selection, term);
        computer->values[i] = value;
        if (!isfinite(value) && there == 0)
            computer->reasons[i] = say(arena_printf(computer->arena, "every sample of %s in %s is missing",
                                                    term->sensor.name, plan->windows[group->window].text));
        else if (!isfinite(value))
            computer->reasons[i] = undefined(computer, group, term);
    }
}

/* No term of the group has a value: all for one reason. */
static void refuse(struct computer *computer, const struct plan_group *group, const char *reason)
{
    for (size_t i = group->first_term; i < group->first_term + group->term_count; i++)
        computer->reasons[i] = say(reason);
}

/* Of samples that are not there the number is known all the same: 0. */
static void count_nothing(struct computer *computer, const struct plan_group *group)
{
    for (size_t i = group->first_term; i < group->first_term + group->term_count; i++) {
        if (computer->plan->terms[i].term->statistic != STATISTIC_COUNT)
            continue;
        computer->values[i] = 0;
        computer->reasons[i] = NULL;
    }
}

static int compute_group(struct computer *computer, const struct plan_group *group)
{
    const struct judge_plan *plan = computer->plan;
    const struct plan_window *window = &plan->windows[group->window];
    const struct trace_column *column = computer->columns[group->sensor];
    const char *name = plan->sensor_names[group->sensor];
    struct window_ranges ranges;
    if (column == NULL) {
        refuse(computer, group, arena_printf(computer->arena, "sensor %s is not in the trace", name));
        return 0;
    }
    int code = resolve(computer, group, column, &ranges);
    if (code)
        return code;
    if (ranges.count == 0) {
        bool no_step = window->window->kind == WINDOW_STEP && !computer->has_steps;
        refuse(computer, group,
               no_step ? "the trace has no step column"
                       : arena_printf(computer->arena, "no sample of %s in %s", name, window->text));
        if (!no_step)
            count_nothing(computer, group);
        return 0;
    }
    code = need_scratch(computer);
    if (code == 0)
        compute_terms(computer, group, column, &ranges);
    return code;
}

/* NULL, or why a term has too few samples for a chart. A number of samples is never too few to be told. */
static const char *too_few(const struct computer *computer, const struct plan_chart *chart, size_t index)
{
    const struct plan_term *term = &computer->plan->terms[index];
    if (computer->samples[index] >= chart->chart->min_samples || term->term->statistic == STATISTIC_COUNT)
        return NULL;
    return say(arena_printf(computer->arena, "only %zu samples of %s in %s, %zu needed",
                            computer->samples[index], term->term->sensor.name,
                            computer->plan->windows[term->window].text, chart->chart->min_samples));
}

/* An equation's terms into its value. */
static double combine(const struct computer *computer, const struct plan_chart *chart, const char **reason)
{
    const struct equation *equation = &chart->chart->equation;
    double terms[EQUATION_MAX_TERMS];
    for (size_t i = 0; i < equation->term_count; i++) {
        terms[i] = computer->values[chart->terms[i]];
        if (computer->reasons[chart->terms[i]]) {
            *reason = computer->reasons[chart->terms[i]];
            return (double)NAN;
        }
        const char *few = too_few(computer, chart, chart->terms[i]);
        if (few) {
            *reason = few;
            return (double)NAN;
        }
    }
    return equation_combine(equation, terms, reason);
}

int judge_compute(const struct judge_plan *plan, const struct trace *trace, struct arena *arena,
                  double *values, const char **reasons, struct error *err)
{
    struct computer computer = {.plan = plan, .trace = trace, .arena = arena, .err = err};
    computer.columns = arena_calloc(arena, plan->sensor_count, sizeof *computer.columns);
    computer.resolved = arena_calloc(arena, plan->window_count, sizeof *computer.resolved);
    computer.values = arena_calloc(arena, plan->term_count, sizeof *computer.values);
    computer.reasons = arena_calloc(arena, plan->term_count, sizeof *computer.reasons);
    computer.samples = arena_calloc(arena, plan->term_count, sizeof *computer.samples);
    if (!computer.columns || !computer.resolved || !computer.values || !computer.reasons || !computer.samples)
        return no_memory(&computer);
    int code = find_columns(&computer);
    for (size_t i = 0; code == 0 && i < plan->group_count; i++)
        code = compute_group(&computer, &plan->groups[i]);
    for (size_t i = 0; code == 0 && i < plan->chart_count; i++) {
        reasons[i] = "";
        values[i] = combine(&computer, &plan->charts[i], &reasons[i]);
    }
    return code;
}
