/* Control limits: where the centre of an indicator is, how much it varies, and what is too far. */
#ifndef CHAMBERLAIN_CHART_LIMITS_H
#define CHAMBERLAIN_CHART_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LIMITS_HISTORY_MAX = 10000, /* points that a chart may look back */
    LIMITS_DEFAULT_HISTORY = 100,
    LIMITS_DEFAULT_MIN_HISTORY = 20
};

enum limits_method {
    LIMITS_SHEWHART,    /* mean of the history +- sigma * sd / c4 */
    LIMITS_INDIVIDUALS, /* mean +- sigma * (mean moving range) / d2(2) */
    LIMITS_ROBUST,      /* median +- sigma * 1.4826 * (median absolute deviation) */
    LIMITS_FIXED        /* what the file says */
};

enum { LIMITS_METHOD_COUNT = LIMITS_FIXED + 1 };

enum limits_side { LIMITS_BOTH, LIMITS_LOWER, LIMITS_UPPER };

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
};

/* What is in force for one point. NaN: there is none. */
struct limits {
    double centre, sigma; /* sigma: one deviation, already floored */
    double lower, upper;
    size_t history_count; /* points they came from */
    bool learning;        /* too few points: nothing above is set */
};

/* The defaults of a spec: shewhart, 3 sigma, the history sizes above, nothing given. */
void limits_spec_default(struct limits_spec *spec);

/* True when the centre or the deviation come from history. */
bool limits_need_history(const struct limits_spec *spec);

/* The limits from `count` good values, oldest first; only the last spec->history of them are read. `scratch`
 * has room for as many doubles (used by LIMITS_ROBUST; may be NULL for the others). A deviation taken from
 * history is never below 1e-9 of the centre's size, so that rounding in an indicator that does not vary is no
 * alarm. */
void limits_compute(const struct limits_spec *spec, const double *values, size_t count, double *scratch,
                    struct limits *limits);

const char *limits_method_name(enum limits_method method);
const char *limits_side_name(enum limits_side side);

#endif
