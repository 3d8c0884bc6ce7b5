/* A U-chart: the indicators of one context with their verdicts, and its two stored forms.
 *
 * It is stored as two byte strings, because a history look-up reads hundreds of contexts and needs only the
 * first: points    what history needs: series key, value and flags of every indicator, column by column;
 *   verdicts  what a reader needs: chart name, unit, centre, limits, rules fired, severity, quality, reason.
 * Both are little-endian and versioned; equal U-charts have equal bytes, which is what `chamberlain verify`
 * compares. */
#ifndef CHAMBERLAIN_CHART_UCHART_H
#define CHAMBERLAIN_CHART_UCHART_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum point_flag {
    POINT_ALARMED =
        1, /* a rule fired: the point is left out of later limits, tracked ones aside (docs/charts.md) */
    POINT_LOW_QUALITY = 2, /* the data or the history was degraded */
    POINT_MISSING = 4      /* the window held no usable sample: value is NaN, nothing was judged */
};

enum severity { SEVERITY_NONE = 0, SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_CRITICAL };

enum verdict_state {
    VERDICT_NORMAL,   /* judged, no rule fired */
    VERDICT_ALARM,    /* judged, at least one rule fired */
    VERDICT_LEARNING, /* fewer history points than min_history: no limits yet, not judged */
    VERDICT_MISSING   /* no value: the sensor, the step or every sample is missing */
};

/* One indicator of one context. */
struct uchart_point {
    uint64_t series; /* hash of chart name, equation and baseline values: equal series share a history */
    double value;
    uint32_t flags; /* enum point_flag */

    const char *chart; /* name */
    const char *unit;
    double centre, lower, upper; /* NaN where there is no limit */
    uint32_t rules;              /* bit (1 << enum rule), see rules.h */
    uint32_t history_count;      /* points that the limits came from */
    enum verdict_state state;
    enum severity severity; /* SEVERITY_NONE unless state is VERDICT_ALARM */
    const char *reason;     /* why missing or of low quality; "" otherwise */
};

struct uchart {
    uint64_t chart_set; /* the chart file's id (chart_set_id) */
    size_t count;
    struct uchart_point *points;
};

/* Bytes in an arena. */
struct uchart_bytes {
    const void *points;
    size_t points_length;
    const void *verdicts;
    size_t verdicts_length;
};

/* Both stored forms of `uchart`, allocated in `arena`. ERR_NO_MEMORY; ERR_LIMIT for a text of 64 KiB or more.
 */
int uchart_encode(const struct uchart *uchart, struct arena *arena, struct uchart_bytes *bytes,
                  struct error *err);

/* The whole U-chart from its two forms; texts and points live in `arena`. ERR_CORRUPT with the offset;
 * ERR_NO_MEMORY. */
int uchart_decode(const struct uchart_bytes *bytes, struct arena *arena, struct uchart *uchart,
                  struct error *err);

/* A read-only view into a stored `points` form, without copying. The columns may be unaligned: read them with
 * the functions below. */
struct uchart_view {
    uint64_t chart_set;
    size_t count;
    const unsigned char *series, *values, *flags;
};

/* ERR_CORRUPT when the bytes are not a points form. The view borrows `points`. */
int uchart_view_open(const void *points, size_t length, struct uchart_view *view, struct error *err);
uint64_t uchart_view_series(const struct uchart_view *view, size_t i);
double uchart_view_value(const struct uchart_view *view, size_t i);
uint32_t uchart_view_flags(const struct uchart_view *view, size_t i);

/* The values of points first..first+count-1. */
void uchart_view_values(const struct uchart_view *view, size_t first, size_t count, double *values);

/* True when the view begins with points of just these series. */
bool uchart_view_begins_with(const struct uchart_view *view, const uint64_t *series, size_t count);

/* The worst severity among the alarms of a U-chart; SEVERITY_NONE when nothing fired. */
enum severity uchart_worst_severity(const struct uchart *uchart);

const char *severity_name(enum severity severity); /* "none", "info", "warning", "critical" */
const char *verdict_state_name(enum verdict_state state);

#endif
