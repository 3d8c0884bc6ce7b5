#include "chart/statistics.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#endif

enum { LANES = 8 };

/* The lanes of a pass over a block. */
struct sweep {
    double sum[LANES], min[LANES], max[LANES];
};

struct products {
    double xx[LANES], yy[LANES], xy[LANES];
};

#if defined(__x86_64__) && defined(__GNUC__)
#define LANES_NAME(x) sse2_##x
#define LANES_TARGET
#define VECTOR __m128d
#define WIDTH 2
#define V_LOAD _mm_loadu_pd
#define V_STORE _mm_storeu_pd
#define V_SET _mm_set1_pd
#define V_ADD _mm_add_pd
#define V_SUB _mm_sub_pd
#define V_MUL _mm_mul_pd
#define V_MIN _mm_min_pd
#define V_MAX _mm_max_pd
#include "chart/statistics_lanes.h"

#define LANES_NAME(x) avx2_##x
#define LANES_TARGET __attribute__((target("avx2")))
#define VECTOR __m256d
#define WIDTH 4
#define V_LOAD _mm256_loadu_pd
#define V_STORE _mm256_storeu_pd
#define V_SET _mm256_set1_pd
#define V_ADD _mm256_add_pd
#define V_SUB _mm256_sub_pd
#define V_MUL _mm256_mul_pd
#define V_MIN _mm256_min_pd
#define V_MAX _mm256_max_pd
#include "chart/statistics_lanes.h"
#else
#define LANES_NAME(x) scalar_##x
#define LANES_TARGET
#define VECTOR double
#define WIDTH 1
#define V_LOAD(p) (*(p))
#define V_STORE(p, x) (*(p) = (x))
#define V_SET(x) (x)
#define V_ADD(a, b) ((a) + (b))
#define V_SUB(a, b) ((a) - (b))
#define V_MUL(a, b) ((a) * (b))
#define V_MIN(a, b) ((a) < (b) ? (a) : (b))
#define V_MAX(a, b) ((a) > (b) ? (a) : (b))
#include "chart/statistics_lanes.h"
#endif

/* One instruction set's loops. */
struct kernel {
    void (*sweep)(const double *values, size_t whole, struct sweep *sweep);
    void (*deviations)(const double *values, size_t whole, double mean, double *square, double *rest);
    void (*products)(const double *x, const double *y, size_t whole, double mean_x, double mean_y,
                     struct products *products);
    void (*trapezoids)(const double *x, const double *y, size_t whole, double *area);
};

#if defined(__x86_64__) && defined(__GNUC__)
static const struct kernel PORTABLE = {sse2_sweep, sse2_deviations, sse2_products, sse2_trapezoids};
static const struct kernel AVX2 = {avx2_sweep, avx2_deviations, avx2_products, avx2_trapezoids};

static const struct kernel *wide_kernel(void)
{
    return __builtin_cpu_supports("avx2") ? &AVX2 : NULL;
}
#else
static const struct kernel PORTABLE = {scalar_sweep, scalar_deviations, scalar_products, scalar_trapezoids};

static const struct kernel *wide_kernel(void)
{
    return NULL;
}
#endif

static const struct kernel *best_kernel(void)
{
    const struct kernel *wide = wide_kernel();
    return wide ? wide : &PORTABLE;
}

void statistics_begin(struct statistics *statistics)
{
    *statistics = (struct statistics){
        .min = (double)INFINITY, .max = -(double)INFINITY, .first = (double)NAN, .last = (double)NAN};
}

/* The lanes of one statistic, folded in halves: 8 -> 4 -> 2 -> 1. */
static double fold_sum(double lanes[LANES])
{
    for (size_t half = LANES / 2; half > 0; half /= 2) {
        for (size_t j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    }
    return lanes[0];
}

static double fold_min(double lanes[LANES])
{
    for (size_t j = 1; j < LANES; j++)
        lanes[0] = lanes[j] < lanes[0] ? lanes[j] : lanes[0];
    return lanes[0];
}

static double fold_max(double lanes[LANES])
{
    for (size_t j = 1; j < LANES; j++)
        lanes[0] = lanes[j] > lanes[0] ? lanes[j] : lanes[0];
    return lanes[0];
}

static void block_deviations(const struct kernel *kernel, const double *values, size_t count,
                             struct statistics_block *block)
{
    double mean = block->sum / (double)count, square[LANES], rest[LANES];
    size_t whole = count - count % LANES;
    kernel->deviations(values, whole, mean, square, rest);
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

static void block_with(const struct kernel *kernel, const double *values, size_t count, bool squares,
                       struct statistics_block *block)
{
    struct sweep sweep;
    size_t whole = count - count % LANES;
    kernel->sweep(values, whole, &sweep);
    for (size_t i = whole; i < count; i++) {
        double x = values[i];
        size_t j = i - whole;
        sweep.sum[j] += x;
        sweep.min[j] = x < sweep.min[j] ? x : sweep.min[j];
        sweep.max[j] = x > sweep.max[j] ? x : sweep.max[j];
    }
    *block = (struct statistics_block){
        .sum = fold_sum(sweep.sum), .min = fold_min(sweep.min), .max = fold_max(sweep.max)};
    if (squares && count > 0)
        block_deviations(kernel, values, count, block);
}

void statistics_block_portable(const double *values, size_t count, bool squares,
                               struct statistics_block *block)
{
    block_with(&PORTABLE, values, count, squares, block);
}

bool statistics_block_avx2(const double *values, size_t count, bool squares, struct statistics_block *block)
{
    const struct kernel *kernel = wide_kernel();
    if (kernel)
        block_with(kernel, values, count, squares, block);
    return kernel != NULL;
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

static void add_block(struct statistics *statistics, const struct kernel *kernel, const double *values,
                      size_t count, bool squares)
{
    double dense[STATISTICS_BLOCK];
    struct statistics_block block;
    block_with(kernel, values, count, squares, &block);
    /* One missing sample makes the sum NaN or infinite: then, and only then, the block is looked at sample by
     * sample. */
    if (!isfinite(block.sum)) {
        count = statistics_compact(values, count, dense);
        if (count == 0)
            return;
        values = dense;
        block_with(kernel, values, count, squares, &block);
    }
    if (statistics->count == 0)
        statistics->first = values[0];
    statistics->last = values[count - 1];
    merge(statistics, &block, count);
}

void statistics_add(struct statistics *statistics, const double *values, size_t count, bool squares)
{
    const struct kernel *kernel = best_kernel();
    while (count > 0) {
        size_t n = count < STATISTICS_BLOCK ? count : STATISTICS_BLOCK;
        add_block(statistics, kernel, values, n, squares);
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

static void order(double *a, double *b)
{
    if (*b < *a) {
        double t = *a;
        *a = *b;
        *b = t;
    }
}

static double median_of_three(double a, double b, double c)
{
    order(&a, &b);
    order(&b, &c);
    order(&a, &b);
    return b;
}

/* The median of three medians of three, from places scattered by a multiplicative hash: traces are ramps and
 * waves, and a regular pattern of places could meet a regular pattern of values. */
static double pivot_of(const double *v, size_t count)
{
    double sample[9];
    uint64_t place = UINT64_C(0x9e3779b97f4a7c15) ^ count;
    for (size_t i = 0; i < 9; i++) {
        place = place * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        sample[i] = v[(place >> 33) % count];
    }
    return median_of_three(median_of_three(sample[0], sample[1], sample[2]),
                           median_of_three(sample[3], sample[4], sample[5]),
                           median_of_three(sample[6], sample[7], sample[8]));
}

/* Moves what is below the pivot (or equal to it, with `equal`) to the front and returns how many that are.
 * Without a branch on the values, which no processor could foresee. */
static size_t partition(double *v, size_t count, double pivot, bool equal)
{
    size_t front = 0;
    for (size_t i = 0; i < count; i++) {
        double x = v[i];
        v[i] = v[front];
        v[front] = x;
        front += equal ? x <= pivot : x < pivot;
    }
    return front;
}

static void insertion_sort(double *v, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        double x = v[i];
        size_t j = i;
        for (; j > 0 && x < v[j - 1]; j--)
            v[j] = v[j - 1];
        v[j] = x;
    }
}

/* Moves the k-th smallest to index k, smaller or equal ones before it, larger or equal ones after it. */
static void select_rank(double *v, size_t count, size_t k)
{
    enum { SMALL = 16 };
    while (count > SMALL) {
        double pivot = pivot_of(v, count);
        size_t below = partition(v, count, pivot, false);
        if (k < below) {
            count = below;
            continue;
        }
        /* Sensors count in steps: many samples may equal the pivot, and are done with at once. */
        size_t equal = partition(v + below, count - below, pivot, true);
        if (k < below + equal)
            return;
        v += below + equal;
        count -= below + equal;
        k -= below + equal;
    }
    insertion_sort(v, count);
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

/* One rounding of the mean is mended by the mean of what is left. */
static double lane_mean(const struct kernel *kernel, const double *x, size_t count)
{
    struct sweep sweep;
    double square[LANES], rest[LANES];
    size_t whole = count - count % LANES;
    kernel->sweep(x, whole, &sweep);
    for (size_t i = whole; i < count; i++)
        sweep.sum[i - whole] += x[i];
    double mean = fold_sum(sweep.sum) / (double)count;
    kernel->deviations(x, whole, mean, square, rest);
    for (size_t i = whole; i < count; i++)
        rest[i - whole] += x[i] - mean;
    return mean + fold_sum(rest) / (double)count;
}

void statistics_pairs(const double *x, const double *y, size_t count, struct statistics_pair *pair)
{
    const struct kernel *kernel = best_kernel();
    double mean_x = lane_mean(kernel, x, count), mean_y = lane_mean(kernel, y, count);
    struct products products;
    size_t whole = count - count % LANES;
    kernel->products(x, y, whole, mean_x, mean_y, &products);
    for (size_t i = whole; i < count; i++) {
        double dx = x[i] - mean_x, dy = y[i] - mean_y;
        products.xx[i - whole] += dx * dx;
        products.yy[i - whole] += dy * dy;
        products.xy[i - whole] += dx * dy;
    }
    *pair = (struct statistics_pair){mean_x, mean_y, fold_sum(products.xx), fold_sum(products.yy),
                                     fold_sum(products.xy)};
}

double statistics_area(const double *x, const double *y, size_t count)
{
    double area[LANES];
    size_t pairs = count > 0 ? count - 1 : 0, whole = pairs - pairs % LANES;
    best_kernel()->trapezoids(x, y, whole, area);
    for (size_t i = whole; i < pairs; i++)
        area[i - whole] += (x[i + 1] - x[i]) * (y[i] + y[i + 1]);
    return fold_sum(area) / 2;
}
