/* What the chart tests share: comparison with a tolerance, and random numbers that are the same on every
 * machine. */
#ifndef CHAMBERLAIN_TESTS_CHART_FIXTURE_H
#define CHAMBERLAIN_TESTS_CHART_FIXTURE_H

#include "cmocka_setup.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

/* Fails with both numbers printed when they differ by more than `tolerance`. */
#define assert_near(actual, expected, tolerance)                                                             \
    do {                                                                                                     \
        double near_a = (actual), near_e = (expected);                                                       \
        if (!(fabs(near_a - near_e) <= (tolerance)))                                                         \
            fail_msg("%s is %.17g, expected %.17g within %g", #actual, near_a, near_e, (double)(tolerance)); \
    } while (0)

static inline uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Over 0, at most 1. */
static inline double random_unit(uint64_t *state)
{
    return ((double)(random_bits(state) >> 11) + 1) / 9007199254740992.0;
}

/* Standard normal (Box and Muller). */
static inline double random_normal(uint64_t *state)
{
    double radius = sqrt(-2 * log(random_unit(state)));
    return radius * cos(6.283185307179586 * random_unit(state));
}

#endif
