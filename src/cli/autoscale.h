/* When a cluster needs one defender more, or one less: R1's rule as a machine without a clock. Pure: whoever
 * drives it asks the defenders what they have counted, and starts and stops processes.
 *
 *     process-time p95 over a window
 *     ───────────────────────────────────────── p95_ns       above it for `after_us`: one more
 *                    (nothing happens here)
 *     ───────────────────────────────────────── idle_p95_ns  below it, nothing waiting, and the others would
 * have no more than `idle_at_work` contexts at work on average, for `idle_us`: one less
 *
 * Each change is a rebalance, so at most `changes` are made within `per_us`, and both times begin again after
 * each. The percentile is that of the window, from the differences of what the defenders have counted since
 * their start, and is read from buckets as Prometheus's histogram_quantile does. So it agrees with the alert
 * rules. */
#ifndef CHAMBERLAIN_CLI_AUTOSCALE_H
#define CHAMBERLAIN_CLI_AUTOSCALE_H

#include "base/prometheus.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    AUTOSCALE_MEMBERS_MAX = 1024, /* with those that have gone since all answered */
    AUTOSCALE_SLOTS = 12,         /* of the window; observe at least once in each */
    AUTOSCALE_CHANGES_MAX = 8
};

struct autoscale_settings {
    size_t least, most; /* defenders */
    int64_t p95_ns;
    int64_t after_us;
    int64_t idle_p95_ns; /* at most p95_ns: what lies between is hysteresis */
    double idle_at_work; /* contexts at work at a time, in each that would be left */
    int64_t idle_us;
    int64_t window_us; /* of the percentile */
    int64_t per_us;    /* at most `changes` in such a time */
    size_t changes;    /* 1 to AUTOSCALE_CHANGES_MAX */
};

/* R1 and R5: over 5 s for 5 min, two rebalances an hour; idle is 10 min of under 1 s with under half a
 * context at work. The window is 1 min. */
struct autoscale_settings autoscale_standard(size_t least, size_t most);

/* What one process has counted since it started. */
struct autoscale_sample {
    int64_t process;                    /* who: another number counts from zero */
    uint64_t count;                     /* contexts acknowledged */
    uint64_t within[PROMETHEUS_BOUNDS]; /* ... of them within each of prometheus_bounds_ns */
    int64_t sum_ns;                     /* of their process times */
};

struct autoscale_observation {
    const struct autoscale_sample *samples;
    size_t sample_count;
    size_t running;  /* defenders that there should be; not all need to have answered */
    int64_t waiting; /* messages in the stream that are not acknowledged; below 0 when not known */
};

enum autoscale_decision {
    AUTOSCALE_STAY,
    AUTOSCALE_OUT,     /* start one; the machine takes it as done */
    AUTOSCALE_IN,      /* stop one; likewise */
    AUTOSCALE_AT_MOST, /* one more is needed, and there are `most` */
    AUTOSCALE_HELD     /* a change is due, and has to wait for `per_us` */
};

struct autoscale_slot {
    int64_t at_us;
    uint64_t count;
    uint64_t within[PROMETHEUS_BOUNDS];
    int64_t sum_ns;
};

/* Zeroed but for the settings at the start. */
struct autoscale {
    struct autoscale_settings settings;
    struct autoscale_sample last[AUTOSCALE_MEMBERS_MAX]; /* what each had counted when it was asked last */
    size_t last_count;
    struct autoscale_slot slots[AUTOSCALE_SLOTS];
    int64_t first_us;                          /* the first observation; 0 before it */
    int64_t over_since_us, idle_since_us;      /* 0: it is not so */
    int64_t changed_us[AUTOSCALE_CHANGES_MAX]; /* the newest changes, a ring */
    size_t changed_count;                      /* ever */
    int64_t p95_ns;                            /* of the window; below 0 when nothing ended in it */
    double at_work;                            /* contexts at work in all, on average over the window */
};

/* Takes what was observed at `now_us` (any clock that does not jump) and says what to do. */
enum autoscale_decision autoscale_step(struct autoscale *autoscale, int64_t now_us,
                                       const struct autoscale_observation *observation);

#endif
