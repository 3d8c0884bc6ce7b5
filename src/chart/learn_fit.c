#include "chart/constants.h"
#include "chart/learn_parts.h"
#include "chart/statistics.h"
#include "chart/student.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The mean moving range of n - 1 neighbours is about as sure as a standard deviation with 0.6 (n - 1) degrees
 * of freedom: by Satterthwaite's rule from its variance, (0.5708 (n - 1) + 0.2556 (n - 2)) / (n - 1)^2
 * relative to its square, which gives 0.615 at n = 20 and 0.605 for large n. */
static const double FREEDOM_PER_RANGE = 0.6;

/* Below this share of the usual number of samples a window says little about the process. */
static const double SHORT_WINDOW = 0.5;

/* Half a step of the resolution is the least half width: a value that flips between two neighbours is no
 * fault. */
static const double FLOOR_IN_RESOLUTIONS = 0.5;

/* What one group knows of one indicator. */
struct moving_range {
    double sum;
    size_t ranges, values;
};

static bool same_series(const struct learn_row *a, const struct learn_row *b)
{
    return strcmp(a->group, b->group) == 0 && strcmp(a->tool, b->tool) == 0 &&
           strcmp(a->chamber, b->chamber) == 0;
}

static bool find_groups(const struct learn_recipe *recipe, struct arena *arena, struct learn_fit *fit)
{
    fit->groups = arena_calloc(arena, recipe->row_count, sizeof *fit->groups);
    if (fit->groups == NULL)
        return false;
    for (size_t i = 0; i < recipe->row_count; i++) {
        const struct learn_row *row = &recipe->rows[i];
        if (fit->group_count == 0 || strcmp(fit->groups[fit->group_count - 1].value, row->group) != 0)
            fit->groups[fit->group_count++] = (struct learn_group){.value = row->group, .begin = i};
        struct learn_group *group = &fit->groups[fit->group_count - 1];
        group->end = i + 1;
        group->ranges += i > group->begin && same_series(row, row - 1);
    }
    return true;
}

/* Half the median number of samples of a window, rounded up; at least `least`. */
static size_t min_samples(const struct learn_recipe *recipe, size_t count_slot, size_t least, double *scratch)
{
    for (size_t i = 0; i < recipe->row_count; i++) {
        double samples = learn_value(recipe, &recipe->rows[i], count_slot);
        scratch[i] = isnan(samples) ? 0 : samples;
    }
    double half = ceil(SHORT_WINDOW * statistics_median(scratch, recipe->row_count));
    return half > (double)least ? (size_t)half : least;
}

/* The value as it will be judged: NaN for a window that is too short. */
static double usable_value(const struct learn_recipe *recipe, const struct learn_row *row, size_t slot,
                           size_t least)
{
    double value = learn_value(recipe, row, slot);
    if (least == 0)
        return value;
    double samples = learn_value(recipe, row, recipe->slots[slot].count_slot);
    return samples >= (double)least ? value : (double)NAN;
}

/* Sums |differences| between neighbours of one series; a missing value is passed over. */
static struct moving_range range_of(const struct learn_recipe *recipe, const struct learn_group *group,
                                    size_t slot, size_t least)
{
    struct moving_range range = {0};
    double last = (double)NAN;
    for (size_t i = group->begin; i < group->end; i++) {
        if (i > group->begin && !same_series(&recipe->rows[i], &recipe->rows[i - 1]))
            last = (double)NAN;
        double value = usable_value(recipe, &recipe->rows[i], slot, least);
        if (isnan(value))
            continue;
        range.values++;
        if (!isnan(last)) {
            range.sum += fabs(value - last);
            range.ranges++;
        }
        last = value;
    }
    return range;
}

static bool enough(size_t ranges, size_t values, size_t contexts)
{
    return ranges + 1 >= LEARN_MIN_VALUES && 2 * values >= contexts;
}

/* The deviations of one indicator: each group's own where it has enough values, and over all groups the root
 * of the mean square, each group weighted by its ranges. */
static bool fit_deviations(const struct learn_recipe *recipe, const struct learn_fit *fit, size_t slot,
                           struct learn_chart *chart)
{
    double squares = 0;
    size_t ranges = 0;
    bool learned = false;
    for (size_t g = 0; g < fit->group_count; g++) {
        const struct learn_group *group = &fit->groups[g];
        struct moving_range range = range_of(recipe, group, slot, chart->min_samples);
        chart->values += range.values;
        chart->group_stdev[g] = (double)NAN;
        if (range.ranges == 0)
            continue;
        double stdev = range.sum / (double)range.ranges / CONTROL_D2_OF_2;
        squares += (double)range.ranges * stdev * stdev;
        ranges += range.ranges;
        if (enough(range.ranges, range.values, group->end - group->begin)) {
            chart->group_stdev[g] = stdev;
            learned = true;
        }
    }
    chart->stdev = ranges > 0 ? sqrt(squares / (double)ranges) : 0;
    return learned || enough(ranges, chart->values, recipe->row_count);
}

/* The column that counts a window's samples: the step column, or for whole runs without one the first sensor
 * by name. */
static bool counts_window(const struct learn_recipe *recipe, const struct learn_slot *slot)
{
    const struct learn_sensor *sensor = &recipe->sensors[slot->sensor];
    if (!isnan(recipe->steps[slot->step]))
        return sensor->is_step;
    for (size_t i = 0; i < recipe->sensor_count; i++) {
        const struct learn_sensor *other = &recipe->sensors[i];
        if (!other->is_step && !other->unwritable && strcmp(other->name, sensor->name) < 0)
            return false;
    }
    return true;
}

static void fit_slot(const struct learn *learn, const struct learn_recipe *recipe,
                     const struct learn_fit *fit, size_t index, double *scratch, struct learn_chart *chart)
{
    const struct learn_slot *slot = &recipe->slots[index];
    const struct learn_sensor *sensor = &recipe->sensors[slot->sensor];
    bool count = slot->statistic == STATISTIC_COUNT;
    if (count && ((learn->options.statistics >> STATISTIC_COUNT & 1) == 0 || !counts_window(recipe, slot))) {
        chart->reason = LEARN_NOT_ASKED;
        return;
    }
    if (!count)
        chart->min_samples = min_samples(recipe, slot->count_slot, 2, scratch);
    bool deviates = fit_deviations(recipe, fit, index, chart);
    chart->floor = FLOOR_IN_RESOLUTIONS * (count ? 1 : sensor->resolution);
    if (!count && sensor->resolution == 0)
        chart->reason = LEARN_CONSTANT;
    else if (!deviates)
        chart->reason = LEARN_TOO_FEW;
    else
        chart->reason = LEARN_CHARTED;
}

/* Of the least sure deviation that some chart uses on its own; of all groups together where none does. */
static double freedom(const struct learn_recipe *recipe, const struct learn_fit *fit)
{
    size_t least = SIZE_MAX, all = 0;
    for (size_t g = 0; g < fit->group_count; g++) {
        bool used = false;
        for (size_t i = 0; !used && i < recipe->slot_count; i++)
            used = fit->charts[i].reason == LEARN_CHARTED && !isnan(fit->charts[i].group_stdev[g]);
        all += fit->groups[g].ranges;
        if (used && fit->groups[g].ranges < least)
            least = fit->groups[g].ranges;
    }
    return FREEDOM_PER_RANGE * (double)(least != SIZE_MAX ? least : all);
}

/* ---- the rehearsal ---- */

/* The centre of tracked limits (limits.h) after one more value. */
static double tracked_step(double centre, double value, double stdev, double width)
{
    if (fabs(value - centre) > width)
        value = value > centre ? centre + stdev : centre - stdev;
    return centre + LEARN_LAMBDA * (value - centre);
}

/* ... and after the first LEARN_MIN_HISTORY. */
static double tracked_start(const double first[static LEARN_MIN_HISTORY], double stdev, double width)
{
    double sorted[LEARN_MIN_HISTORY];
    memcpy(sorted, first, sizeof sorted);
    double centre = statistics_median(sorted, LEARN_MIN_HISTORY);
    for (size_t i = 0; i < LEARN_MIN_HISTORY; i++)
        centre = tracked_step(centre, first[i], stdev, width);
    return centre;
}

/* What a row's worst chart needs for it not to alarm: deviations from the centre. Negative: not judged. */
static void rehearse_slot(const struct learn_recipe *recipe, const struct learn_fit *fit, size_t slot,
                          double *worst)
{
    const struct learn_chart *chart = &fit->charts[slot];
    const double root = sqrt(1 + LEARN_LAMBDA / (2 - LEARN_LAMBDA));
    for (size_t g = 0; g < fit->group_count; g++) {
        const struct learn_group *group = &fit->groups[g];
        double stdev = isnan(chart->group_stdev[g]) ? chart->stdev : chart->group_stdev[g];
        double width = fmax(fit->sigma * stdev * root, chart->floor);
        double first[LEARN_MIN_HISTORY], centre = 0;
        size_t seen = 0;
        for (size_t i = group->begin; i < group->end; i++) {
            if (i > group->begin && !same_series(&recipe->rows[i], &recipe->rows[i - 1]))
                seen = 0;
            double value = usable_value(recipe, &recipe->rows[i], slot, chart->min_samples);
            if (isnan(value))
                continue;
            if (seen < LEARN_MIN_HISTORY) {
                first[seen++] = value;
                if (seen == LEARN_MIN_HISTORY)
                    centre = tracked_start(first, stdev, width);
                continue;
            }
            double off = fabs(value - centre),
                   needed = off > chart->floor && stdev > 0 ? off / (stdev * root) : 0;
            worst[i] = fmax(worst[i], needed);
            centre = tracked_step(centre, value, stdev, width);
        }
    }
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Wider limits, where the charts would alarm on more of the contexts they are learned from than they may:
 * neighbours are nearer to each other than runs are before and after a maintenance, in another lot, by day
 * and by night. Needs so many judged contexts that one of them may alarm. */
static void rehearse(const struct learn *learn, const struct learn_recipe *recipe, struct learn_fit *fit,
                     double *worst)
{
    for (size_t i = 0; i < recipe->row_count; i++)
        worst[i] = -1;
    for (size_t i = 0; i < recipe->slot_count; i++)
        if (fit->charts[i].reason == LEARN_CHARTED)
            rehearse_slot(recipe, fit, i, worst);
    qsort(worst, recipe->row_count, sizeof *worst, descending);
    size_t judged = 0;
    while (judged < recipe->row_count && worst[judged] >= 0)
        judged++;
    size_t may = (size_t)(learn->options.false_alarms * (double)judged);
    fit->widened = may >= 1 && may < judged && worst[may] > fit->sigma;
    if (fit->widened)
        fit->sigma = worst[may];
}

int learn_fit_recipe(const struct learn *learn, const struct learn_recipe *recipe, struct arena *arena,
                     struct learn_fit *fit, struct error *err)
{
    *fit = (struct learn_fit){.sigma = (double)NAN, .freedom = (double)NAN};
    bool fine = find_groups(recipe, arena, fit);
    double *scratch = arena_calloc(arena, recipe->row_count, sizeof *scratch);
    double *deviations =
        fine ? arena_calloc(arena, recipe->slot_count * fit->group_count, sizeof *deviations) : NULL;
    fit->charts = arena_calloc(arena, recipe->slot_count, sizeof *fit->charts);
    if (!fine || scratch == NULL || deviations == NULL || fit->charts == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory while fitting the charts of recipe '%s'",
                         recipe->name);
    for (size_t i = 0; i < recipe->slot_count; i++) {
        fit->charts[i].group_stdev = deviations + i * fit->group_count;
        fit_slot(learn, recipe, fit, i, scratch, &fit->charts[i]);
        fit->chart_count += fit->charts[i].reason == LEARN_CHARTED;
    }
    if (fit->chart_count == 0)
        return 0;
    fit->freedom = freedom(recipe, fit);
    /* Bonferroni: each side of each chart gets an equal share of the false alarms. */
    fit->sigma = student_quantile(learn->options.false_alarms / (2 * (double)fit->chart_count), fit->freedom);
    rehearse(learn, recipe, fit, scratch);
    return 0;
}
