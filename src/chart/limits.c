#include "chart/limits.h"

#include "chart/constants.h"
#include "chart/statistics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of the centre's size: what rounding alone may move an indicator that does not vary. */
static const double RELATIVE_SIGMA_FLOOR = 1e-9;

static const char *const METHOD_NAMES[LIMITS_METHOD_COUNT] = {"shewhart", "individuals", "robust", "fixed",
                                                              "tracked"};
static const char *const SIDE_NAMES[] = {"both", "lower", "upper"};

void limits_spec_default(struct limits_spec *spec)
{
    *spec = (struct limits_spec){
        .method = LIMITS_SHEWHART,
        .side = LIMITS_BOTH,
        .sigma = 3,
        .history = LIMITS_DEFAULT_HISTORY,
        .min_history = LIMITS_DEFAULT_MIN_HISTORY,
        .lower = (double)NAN,
        .upper = (double)NAN,
        .target = (double)NAN,
        .stdev = (double)NAN,
        .sigma_floor = 0,
        .resolution = 0,
        .lambda = 0.3,
    };
}

static int compare_stdev(const void *key, const void *entry)
{
    return strcmp(key, ((const struct limits_stdev *)entry)->value);
}

double limits_stdev_for(const struct limits_spec *spec, const char *value)
{
    if (value == NULL || spec->stdev_count == 0)
        return spec->stdev;
    const struct limits_stdev *found =
        bsearch(value, spec->stdev_values, spec->stdev_count, sizeof *spec->stdev_values, compare_stdev);
    return found ? found->stdev : spec->stdev;
}

bool limits_need_history(const struct limits_spec *spec)
{
    return spec->method != LIMITS_FIXED && (isnan(spec->target) || isnan(spec->stdev));
}

/* s / c4 of the values about their mean. */
static void from_deviation(const double *values, size_t count, struct limits *limits)
{
    struct statistics statistics;
    statistics_begin(&statistics);
    statistics_add(&statistics, values, count, true);
    limits->centre = statistics_mean(&statistics);
    limits->sigma = count > 1 ? statistics_std(&statistics) / control_c4(count) : 0;
}

static void from_moving_range(const double *values, size_t count, struct limits *limits)
{
    struct statistics statistics;
    statistics_begin(&statistics);
    statistics_add(&statistics, values, count, false);
    limits->centre = statistics_mean(&statistics);
    double sum = 0;
    for (size_t i = 1; i < count; i++)
        sum += fabs(values[i] - values[i - 1]);
    limits->sigma = count > 1 ? sum / (double)(count - 1) / CONTROL_D2_OF_2 : 0;
}

static void from_median(const double *values, size_t count, double *scratch, struct limits *limits)
{
    memcpy(scratch, values, count * sizeof *values);
    limits->centre = statistics_median(scratch, count);
    for (size_t i = 0; i < count; i++)
        scratch[i] = fabs(values[i] - limits->centre);
    limits->sigma = statistics_median(scratch, count) * CONTROL_MAD_TO_SIGMA;
}

static void estimate(const struct limits_spec *spec, const double *values, size_t count, double *scratch,
                     struct limits *limits)
{
    switch (spec->method) {
    case LIMITS_SHEWHART:
        from_deviation(values, count, limits);
        break;
    case LIMITS_INDIVIDUALS:
        from_moving_range(values, count, limits);
        break;
    case LIMITS_ROBUST:
        from_median(values, count, scratch, limits);
        break;
    case LIMITS_FIXED:
    case LIMITS_TRACKED:
        break;
    }
    limits->sigma = fmax(limits->sigma, RELATIVE_SIGMA_FLOOR * fabs(limits->centre));
}

/* Fixed limits are taken to be 3 deviations from the middle, unless the file says otherwise. */
static void fixed(const struct limits_spec *spec, struct limits *limits)
{
    limits->lower = spec->lower;
    limits->upper = spec->upper;
    limits->centre = isnan(spec->target) ? spec->lower + (spec->upper - spec->lower) / 2 : spec->target;
    limits->sigma = isnan(spec->stdev) ? (spec->upper - spec->lower) / 6 : spec->stdev;
}

/* The centre after `count` >= spec->min_history values; a value beyond `width` is cut to one deviation. */
static double track(const struct limits_spec *spec, const double *values, size_t count, double width,
                    double *scratch)
{
    memcpy(scratch, values, spec->min_history * sizeof *values);
    double centre = statistics_median(scratch, spec->min_history);
    for (size_t i = 0; i < count; i++) {
        double value = values[i];
        if (fabs(value - centre) > width)
            value = centre + copysign(spec->stdev, value - centre);
        centre += spec->lambda * (value - centre);
    }
    return centre;
}

static void tracked(const struct limits_spec *spec, const double *values, size_t count, double *scratch,
                    struct limits *limits)
{
    double spread = sqrt(1 + spec->lambda / (2 - spec->lambda));
    double width = fmax(spec->sigma * spec->stdev * spread, spec->floor);
    limits->centre = track(spec, values, count, width, scratch);
    limits->sigma = width / spec->sigma;
    limits->lower = spec->side == LIMITS_UPPER ? (double)NAN : limits->centre - width;
    limits->upper = spec->side == LIMITS_LOWER ? (double)NAN : limits->centre + width;
}

void limits_compute(const struct limits_spec *spec, const double *values, size_t count, double *scratch,
                    struct limits *limits)
{
    const double nan = (double)NAN;
    *limits = (struct limits){.centre = nan, .sigma = nan, .lower = nan, .upper = nan};
    if (spec->method == LIMITS_FIXED) {
        fixed(spec, limits);
        return;
    }
    if (limits_need_history(spec)) {
        if (count > spec->history) {
            values += count - spec->history;
            count = spec->history;
        }
        limits->history_count = count;
        if (count < spec->min_history || count == 0) {
            limits->learning = true;
            return;
        }
        if (spec->method == LIMITS_TRACKED) {
            tracked(spec, values, count, scratch, limits);
            return;
        }
        estimate(spec, values, count, scratch, limits);
    }
    if (!isnan(spec->target))
        limits->centre = spec->target;
    if (!isnan(spec->stdev))
        limits->sigma = spec->stdev;
    limits->sigma = fmax(limits->sigma, spec->sigma_floor);
    double width = fmax(spec->sigma * limits->sigma, 1.5 * spec->resolution);
    /* The run rules share the widening, so that one step of the resolution is not "beyond 2 sigma" either. */
    limits->sigma = width / spec->sigma;
    limits->lower = spec->side == LIMITS_UPPER ? nan : limits->centre - width;
    limits->upper = spec->side == LIMITS_LOWER ? nan : limits->centre + width;
}

const char *limits_method_name(enum limits_method method)
{
    return METHOD_NAMES[method];
}

const char *limits_side_name(enum limits_side side)
{
    return SIDE_NAMES[side];
}
