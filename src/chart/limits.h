/* Control limits: where the centre of an indicator is, how much it varies, and what is too far. */
#ifndef CHAMBERLAIN_CHART_LIMITS_H
#define CHAMBERLAIN_CHART_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LIMITS_HISTORY_MAX = 10000, /* points that a chart may look back */
    LIMITS_DEFAULT_HISTORY = 100,
    LIMITS_DEFAULT_MIN_HISTORY = 20,
    LIMITS_TRACKED_MIN_HISTORY = 5
};

enum limits_method {
    LIMITS_SHEWHART,    /* mean of the history +- sigma * sd / c4 */
    LIMITS_INDIVIDUALS, /* mean +- sigma * (mean moving range) / d2(2) */
    LIMITS_ROBUST,      /* median +- sigma * 1.4826 * (median absolute deviation) */
    LIMITS_FIXED,       /* what the file says */
    LIMITS_TRACKED      /* a centre that follows the process, with a learned deviation */
};

enum { LIMITS_METHOD_COUNT = LIMITS_TRACKED + 1 };

enum limits_side { LIMITS_BOTH, LIMITS_LOWER, LIMITS_UPPER };

/* A deviation learned for one value of a context attribute. */
struct limits_stdev {
    const char *value;
    double stdev;
};

/* What a chart says about its limits. NaN: not said. */
struct limits_spec {
    enum limits_method method;
    enum limits_side side; /* the other limit is left out */
    double sigma;          /* how many deviations from the centre a limit lies */
    size_t history;        /* the newest good points that the limits come from, at most */
    size_t min_history;    /* and at least, otherwise the chart is learning */
    double lower, upper;   /* LIMITS_FIXED */
    double target;         /* a given centre */
    double stdev;          /* a given deviation */
    double sigma_floor;    /* the deviation is taken to be at least this */
    double resolution;     /* a limit is at least 1.5 of this from the centre */

    /* LIMITS_TRACKED */
    double lambda; /* how much of its distance to the newest point the centre moves; over 0 to 1 */
    double floor;  /* a limit is at least this far from the centre */
    const char *stdev_attribute; /* `stdev` depends on this attribute of the context; NULL: on none */
    const struct limits_stdev *stdev_values; /* ascending by value; any other value has `stdev` */
    size_t stdev_count;
};

/* What is in force for one point. NaN: there is none. */
struct limits {
    double centre, sigma; /* sigma: one deviation, already floored */
    double lower, upper;
    size_t history_count; /* points they came from */
    bool learning;        /* too few points: nothing above is set */
};

/* The deviation for a context whose attribute has that value (NULL: it has none). */
double limits_stdev_for(const struct limits_spec *spec, const char *value);

/* The defaults of a spec: shewhart, 3 sigma, the history sizes above, nothing given. */
void limits_spec_default(struct limits_spec *spec);

/* True when the centre or the deviation come from history. */
bool limits_need_history(const struct limits_spec *spec);

/* The limits from `count` good values, oldest first; only the last spec->history of them are read. `scratch`
 * has room for as many doubles (used by LIMITS_ROBUST; may be NULL for the others). A deviation taken from
 * history is never below 1e-9 of the centre's size, so that rounding in an indicator that does not vary is no
 * alarm.
 *
 * LIMITS_TRACKED takes every value that is there, alarmed ones too, and spec->stdev for the deviation s. The
 * limits lie w = max(sigma s sqrt(1 + lambda / (2 - lambda)), floor) from the centre: the root is what an
 * exponentially weighted average with that lambda adds to the spread of a point about it (Roberts 1959). The
 * centre starts from the median of the first spec->min_history values and takes in every value x in turn,
 * those first ones again: x farther than w from the centre counts as one s away on its side; centre += lambda
 * (x - centre). So a fault moves the centre by lambda s at most, and a process that has really moved is
 * followed within some tens of contexts, where leaving alarmed points out would alarm for ever. `scratch` is
 * used. */
void limits_compute(const struct limits_spec *spec, const double *values, size_t count, double *scratch,
                    struct limits *limits);

const char *limits_method_name(enum limits_method method);
const char *limits_side_name(enum limits_side side);

#endif
