/* Control-chart constants for samples from a normal distribution. */
#ifndef CHAMBERLAIN_CHART_CONSTANTS_H
#define CHAMBERLAIN_CHART_CONSTANTS_H

#include <stdbool.h>
#include <stddef.h>

enum { CONSTANTS_MIN_N = 2, CONSTANTS_MAX_N = 25 };

/* The constants of a subgroup size. n is the size, R the range, s the standard deviation of a subgroup. */
struct control_constants {
    double d2, d3;             /* mean and standard deviation of R / sigma */
    double c4;                 /* mean of s / sigma */
    double a2, a3;             /* limits of the mean chart from the mean R, from the mean s */
    double b3, b4;             /* limits of the s chart */
    double d3_lower, d4_upper; /* limits of the R chart, D3 and D4 in the tables */
    double e2;                 /* limits of the individuals chart from the mean R */
};

/* False when n is outside CONSTANTS_MIN_N .. CONSTANTS_MAX_N. d2 and d3 come from a table computed by
 * quadrature of E[R] = integral of 1 - F^n - (1-F)^n and the double integral for E[R^2]; the others follow
 * from them and c4. */
bool control_constants(size_t n, struct control_constants *constants);

/* c4(n) = sqrt(2/(n-1)) Gamma(n/2) / Gamma((n-1)/2), for any n >= 2; NaN below. */
double control_c4(size_t n);

/* The mean range of two: d2(2) = 2 / sqrt(pi). */
#define CONTROL_D2_OF_2 1.1283791670955126

/* A deviation is about 1.4826 median absolute deviations: 1 / Phi^-1(3/4). */
#define CONTROL_MAD_TO_SIGMA 1.4826022185056018

#endif
