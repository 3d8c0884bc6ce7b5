/* A histogram of durations in nanoseconds: fixed memory, no loss of range, 3 % resolution (32 steps an
 * octave). Not thread-safe. */
#ifndef CHAMBERLAIN_BASE_HISTOGRAM_H
#define CHAMBERLAIN_BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
    HISTOGRAM_STEPS = 32,
    HISTOGRAM_OCTAVES = 40,
    HISTOGRAM_BUCKETS = HISTOGRAM_STEPS * HISTOGRAM_OCTAVES
};

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t count;
    int64_t sum_ns;
    int64_t max_ns;
};

/* Durations below zero count as zero; those beyond 2^44 ns (5 hours) fall into the last bucket. */
void histogram_record(struct histogram *histogram, int64_t ns);

/* The duration that a fraction (0 to 1) of the recorded ones do not exceed; 0 when there are none. */
int64_t histogram_quantile_ns(const struct histogram *histogram, double fraction);

/* How many of the recorded durations lie wholly within each bound (ascending, ns), by the upper ends of their
 * steps: up to 3 % below a bound a duration may already count as beyond it. */
void histogram_count_until(const struct histogram *histogram, const int64_t *bounds_ns, size_t count,
                           uint64_t *counts);

/* Adds `other`'s counts: percentiles of several processes together. */
void histogram_add(struct histogram *histogram, const struct histogram *other);

#endif
