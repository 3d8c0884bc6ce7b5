/* Statistics of one sensor in one pass, numerically stable, with the same bits on every processor.
 *
 * Samples are taken in blocks of STATISTICS_BLOCK: a block is summed in 8 independent lanes that are
 * combined in a fixed order, its squares are taken about the block's own mean, and blocks are merged by the
 * pairwise update of Chan, Golub and LeVeque (1979). The sum over blocks is compensated (Neumaier 1974).
 * Since the lanes are part of the definition, a wide register only computes more of them at once: AVX2 and
 * plain SSE2 give equal bits.
 *
 * A sample that is not finite (NaN, infinity) is missing: it is left out and not counted. */
#ifndef CHAMBERLAIN_CHART_STATISTICS_H
#define CHAMBERLAIN_CHART_STATISTICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STATISTICS_BLOCK = 512 /* samples: 4 KiB, so that the second look at a block finds it in the L1 cache */
};

/* Everything that one pass knows. Start with statistics_begin. */
struct statistics {
    size_t count; /* samples that are not missing */
    double sum;   /* with `carry`: the compensated sum; read it with statistics_sum */
    double carry;
    double m2;      /* sum of squared deviations from the mean */
    double shift;   /* the first block's mean, and */
    double shifted; /* the sum of the deviations from it: the mean to more places than one number holds */
    double min, max;
    double first, last;
};

void statistics_begin(struct statistics *statistics);

/* Takes `count` more samples. With `squares` false m2 stays as it is (cheaper; do not mix within one
 * summary). */
void statistics_add(struct statistics *statistics, const double *values, size_t count, bool squares);

/* NaN where the statistic is not defined: count 0, and for the deviation count 1. */
double statistics_sum(const struct statistics *statistics);
double statistics_mean(const struct statistics *statistics);
double statistics_std(const struct statistics *statistics); /* n - 1 in the denominator */
double statistics_rms(const struct statistics *statistics); /* root of the mean square */
double statistics_min(const struct statistics *statistics);
double statistics_max(const struct statistics *statistics);

/* The p-th percentile (0 to 100) of `values` by linear interpolation between the closest ranks (Hyndman and
 * Fan's type 7: the rank of p is (n - 1) p / 100, counted from 0). Reorders `values`; none may be NaN. NaN
 * when count is 0. */
double statistics_percentile(double *values, size_t count, double p);
double statistics_median(double *values, size_t count);

/* Copies the finite ones of `count` values to `out` and returns how many there were. */
size_t statistics_compact(const double *values, size_t count, double *out);

/* What one block adds. The two functions have equal results; the tests hold them against each other. */
struct statistics_block {
    double sum, min, max;
    double m2;   /* about the block's mean; 0 unless asked for */
    double rest; /* sum of the deviations from the block's rounded mean; likewise */
};

void statistics_block_portable(const double *values, size_t count, bool squares,
                               struct statistics_block *block);

/* False, and nothing done, where this processor or build has no AVX2. */
bool statistics_block_avx2(const double *values, size_t count, bool squares, struct statistics_block *block);

/* Sums over pairs (x, y) about their means: count >= 1, no value missing. Fixed lanes, as above. */
struct statistics_pair {
    double mean_x, mean_y;
    double sxx, syy, sxy;
};

void statistics_pairs(const double *x, const double *y, size_t count, struct statistics_pair *pair);

/* The area under the straight lines between the points (x ascending), by trapezoids; 0 for fewer than two
 * points. Fixed lanes, as above. */
double statistics_area(const double *x, const double *y, size_t count);

#endif
