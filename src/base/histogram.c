#include "base/histogram.h"

/* Bucket 0..31 hold 0..31 ns exactly. From there, octave o >= 1 covers [32 << (o-1), 32 << o) in 32 equal
 * steps: the bucket is the octave and the five bits after the leading one. */
static unsigned bucket_of(int64_t ns)
{
    if (ns < HISTOGRAM_STEPS)
        return ns < 0 ? 0 : (unsigned)ns;
    unsigned top = 63 - (unsigned)__builtin_clzll((unsigned long long)ns); /* >= 5 */
    unsigned octave = top - 4;
    unsigned step = (unsigned)(ns >> (top - 5)) & (HISTOGRAM_STEPS - 1);
    unsigned bucket = octave * HISTOGRAM_STEPS + step;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The largest duration that falls into the bucket. */
static int64_t bucket_top_ns(unsigned bucket)
{
    if (bucket < HISTOGRAM_STEPS)
        return bucket;
    unsigned octave = bucket / HISTOGRAM_STEPS;
    int64_t step = HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS;
    return ((step + 1) << (octave - 1)) - 1;
}

void histogram_record(struct histogram *histogram, int64_t ns)
{
    histogram->counts[bucket_of(ns)]++;
    histogram->count++;
    if (ns > 0)
        histogram->sum_ns += ns;
    if (ns > histogram->max_ns)
        histogram->max_ns = ns;
}

int64_t histogram_quantile_ns(const struct histogram *histogram, double fraction)
{
    uint64_t rank = (uint64_t)(fraction * (double)histogram->count);
    if ((double)rank < fraction * (double)histogram->count)
        rank++;
    if (rank == 0)
        rank = 1;
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->counts[bucket];
        if (seen >= rank && bucket < HISTOGRAM_BUCKETS - 1) /* the last one has no top: it is open */
            return bucket_top_ns(bucket) < histogram->max_ns ? bucket_top_ns(bucket) : histogram->max_ns;
    }
    return histogram->max_ns;
}

void histogram_count_until(const struct histogram *histogram, const int64_t *bounds_ns, size_t count,
                           uint64_t *counts)
{
    uint64_t seen = 0;
    unsigned bucket = 0;
    for (size_t i = 0; i < count; i++) {
        /* The last bucket has no top: it is beyond every bound. */
        for (; bucket < HISTOGRAM_BUCKETS - 1 && bucket_top_ns(bucket) <= bounds_ns[i]; bucket++)
            seen += histogram->counts[bucket];
        counts[i] = seen;
    }
}

void histogram_add(struct histogram *histogram, const struct histogram *other)
{
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++)
        histogram->counts[bucket] += other->counts[bucket];
    histogram->count += other->count;
    histogram->sum_ns += other->sum_ns;
    if (other->max_ns > histogram->max_ns)
        histogram->max_ns = other->max_ns;
}
