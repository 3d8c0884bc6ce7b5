#include "chart/statistics.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { LANES = 16 };

void statistics_begin(struct statistics *statistics)
{
    *statistics = (struct statistics){
        .min = (double)INFINITY, .max = -(double)INFINITY, .first = (double)NAN, .last = (double)NAN};
}

/* The lanes of one statistic, folded in halves: 16 -> 8 -> 4 -> 2 -> 1. */
static inline __attribute__((always_inline)) double fold_sum(double lanes[LANES])
{
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    }
    return lanes[0];
}

/* The body of both block functions; compiled twice, for SSE2 and for AVX2. `x < min ? x : min` is what minpd
 * does. */
static inline __attribute__((always_inline)) void block_body(const double *values, size_t count, bool squares,
                                                             struct statistics_block *block)
{
    double sum[LANES] = {0}, min[LANES], max[LANES];
    for (size_t j = 0; j < LANES; j++) {
        min[j] = (double)INFINITY;
        max[j] = -(double)INFINITY;
    }
    size_t whole = count - count % LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            double x = values[i + j];
            sum[j] += x;
            min[j] = x < min[j] ? x : min[j];
            max[j] = x > max[j] ? x : max[j];
        }
    }
    for (size_t i = whole; i < count; i++) {
        double x = values[i];
        size_t j = i - whole;
        sum[j] += x;
        min[j] = x < min[j] ? x : min[j];
        max[j] = x > max[j] ? x : max[j];
    }
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t j = 0; j < half; j++) {
            min[j] = min[j + half] < min[j] ? min[j + half] : min[j];
            max[j] = max[j + half] > max[j] ? max[j + half] : max[j];
        }
    }
    block->sum = fold_sum(sum);
    block->min = min[0];
    block->max = max[0];
    block->m2 = block->rest = 0;
    if (!squares || count == 0)
        return;

    double mean = block->sum / (double)count;
    double square[LANES] = {0}, rest[LANES] = {0};
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            double d = values[i + j] - mean;
            square[j] += d * d;
            rest[j] += d;
        }
    }
    for (size_t i = whole; i < count; i++) {
        double d = values[i] - mean;
        square[i - whole] += d * d;
        rest[i - whole] += d;
    }
    /* The mean is rounded; what is left of the deviations corrects for it (corrected two-pass algorithm). */
    block->rest = fold_sum(rest);
    double m2 = fold_sum(square) - block->rest * block->rest / (double)count;
    block->m2 = m2 > 0 || !isfinite(m2) ? m2 : 0;
}

void statistics_block_portable(const double *values, size_t count, bool squares,
                               struct statistics_block *block)
{
    block_body(values, count, squares, block);
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("avx2"))) static void block_avx2(const double *values, size_t count, bool squares,
                                                       struct statistics_block *block)
{
    block_body(values, count, squares, block);
}

bool statistics_block_avx2(const double *values, size_t count, bool squares, struct statistics_block *block)
{
    if (!__builtin_cpu_supports("avx2"))
        return false;
    block_avx2(values, count, squares, block);
    return true;
}
#else
bool statistics_block_avx2(const double *values, size_t count, bool squares, struct statistics_block *block)
{
    (void)values, (void)count, (void)squares, (void)block;
    return false;
}
#endif

static void block_compute(const double *values, size_t count, bool squares, struct statistics_block *block)
{
    if (!statistics_block_avx2(values, count, squares, block))
        statistics_block_portable(values, count, squares, block);
}

size_t statistics_compact(const double *values, size_t count, double *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        out[kept] = values[i];
        kept += isfinite(values[i]) ? 1 : 0;
    }
    return kept;
}

static void sum_add(struct statistics *statistics, double x)
{
    double sum = statistics->sum + x;
    if (fabs(statistics->sum) >= fabs(x))
        statistics->carry += (statistics->sum - sum) + x;
    else
        statistics->carry += (x - sum) + statistics->sum;
    statistics->sum = sum;
}

/* The means are compared as distances from the first one: near 1e9 their own roundings would be all that
 * differs. */
static void merge(struct statistics *into, const struct statistics_block *block, size_t count)
{
    double m = (double)count, mean = block->sum / m;
    if (into->count == 0) {
        into->m2 = block->m2;
        into->shift = mean;
        into->shifted = block->rest;
    } else {
        double n = (double)into->count, distance = mean - into->shift;
        double delta = distance + (block->rest / m - into->shifted / n);
        into->m2 += block->m2 + delta * delta * (n * m / (n + m));
        into->shifted += distance * m + block->rest;
    }
    sum_add(into, block->sum);
    into->min = block->min < into->min ? block->min : into->min;
    into->max = block->max > into->max ? block->max : into->max;
    into->count += count;
}

static void add_block(struct statistics *statistics, const double *values, size_t count, bool squares)
{
    double dense[STATISTICS_BLOCK];
    struct statistics_block block;
    block_compute(values, count, squares, &block);
    /* One missing sample makes the sum NaN or infinite: then, and only then, the block is looked at sample by
     * sample. */
    if (!isfinite(block.sum)) {
        count = statistics_compact(values, count, dense);
        if (count == 0)
            return;
        values = dense;
        block_compute(values, count, squares, &block);
    }
    if (statistics->count == 0)
        statistics->first = values[0];
    statistics->last = values[count - 1];
    merge(statistics, &block, count);
}

void statistics_add(struct statistics *statistics, const double *values, size_t count, bool squares)
{
    while (count > 0) {
        size_t n = count < STATISTICS_BLOCK ? count : STATISTICS_BLOCK;
        add_block(statistics, values, n, squares);
        values += n;
        count -= n;
    }
}

double statistics_sum(const struct statistics *statistics)
{
    return statistics->count > 0 ? statistics->sum + statistics->carry : (double)NAN;
}

double statistics_mean(const struct statistics *statistics)
{
    return statistics->count > 0 ? statistics_sum(statistics) / (double)statistics->count : (double)NAN;
}

double statistics_std(const struct statistics *statistics)
{
    return statistics->count > 1 ? sqrt(statistics->m2 / (double)(statistics->count - 1)) : (double)NAN;
}

double statistics_rms(const struct statistics *statistics)
{
    /* The mean of the squares is the square of the mean plus the variance: nothing cancels. */
    double mean = statistics_mean(statistics);
    return statistics->count > 0 ? sqrt(mean * mean + statistics->m2 / (double)statistics->count)
                                 : (double)NAN;
}

double statistics_min(const struct statistics *statistics)
{
    return statistics->count > 0 ? statistics->min : (double)NAN;
}

double statistics_max(const struct statistics *statistics)
{
    return statistics->count > 0 ? statistics->max : (double)NAN;
}

static inline void swap(double *a, double *b)
{
    double t = *a;
    *a = *b;
    *b = t;
}

/* Moves the k-th smallest to index k, smaller or equal ones before it, larger or equal ones after it (Hoare).
 */
static void select_rank(double *v, size_t count, size_t k)
{
    size_t low = 0, high = count - 1;
    while (high > low) {
        size_t mid = low + (high - low) / 2;
        if (v[mid] < v[low])
            swap(&v[mid], &v[low]);
        if (v[high] < v[low])
            swap(&v[high], &v[low]);
        if (v[high] < v[mid])
            swap(&v[high], &v[mid]);
        double pivot = v[mid];
        size_t i = low, j = high;
        for (;;) {
            while (v[i] < pivot)
                i++;
            while (pivot < v[j])
                j--;
            if (i >= j)
                break;
            swap(&v[i++], &v[j--]);
        }
        /* After the loop everything up to j is <= pivot and everything from j + 1 is >= pivot. */
        if (i == j && k == j)
            return;
        if (k <= j)
            high = j;
        else
            low = j + 1;
    }
}

double statistics_percentile(double *values, size_t count, double p)
{
    assert(p >= 0 && p <= 100);
    if (count == 0)
        return (double)NAN;
    double rank = (double)(count - 1) * p / 100;
    size_t below = (size_t)rank;
    if (below >= count - 1)
        below = count - 1;
    select_rank(values, count, below);
    double low = values[below], part = rank - (double)below;
    if (part <= 0 || below + 1 >= count)
        return low;
    double high = values[below + 1];
    for (size_t i = below + 2; i < count; i++)
        high = values[i] < high ? values[i] : high;
    return low + part * (high - low);
}

double statistics_median(double *values, size_t count)
{
    return statistics_percentile(values, count, 50);
}

static double lane_sum(const double *x, size_t count)
{
    double lanes[LANES] = {0};
    size_t whole = count - count % LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += x[i + j];
    }
    for (size_t i = whole; i < count; i++)
        lanes[i - whole] += x[i];
    return fold_sum(lanes);
}

/* One rounding of the mean is mended by the mean of what is left. */
static double lane_mean(const double *x, size_t count)
{
    double mean = lane_sum(x, count) / (double)count, lanes[LANES] = {0};
    size_t whole = count - count % LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t j = 0; j < LANES; j++)
            lanes[j] += x[i + j] - mean;
    }
    for (size_t i = whole; i < count; i++)
        lanes[i - whole] += x[i] - mean;
    return mean + fold_sum(lanes) / (double)count;
}

void statistics_pairs(const double *x, const double *y, size_t count, struct statistics_pair *pair)
{
    double mx = lane_mean(x, count), my = lane_mean(y, count);
    double xx[LANES] = {0}, yy[LANES] = {0}, xy[LANES] = {0};
    size_t whole = count - count % LANES;
    for (size_t i = 0; i < whole; i += LANES) {
        for (size_t j = 0; j < LANES; j++) {
            double dx = x[i + j] - mx, dy = y[i + j] - my;
            xx[j] += dx * dx;
            yy[j] += dy * dy;
            xy[j] += dx * dy;
        }
    }
    for (size_t i = whole; i < count; i++) {
        double dx = x[i] - mx, dy = y[i] - my;
        xx[i - whole] += dx * dx;
        yy[i - whole] += dy * dy;
        xy[i - whole] += dx * dy;
    }
    *pair = (struct statistics_pair){mx, my, fold_sum(xx), fold_sum(yy), fold_sum(xy)};
}
