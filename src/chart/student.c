#include "chart/student.h"

#include <math.h>

enum { FRACTION_MAX_TERMS = 100000, BISECTIONS_MAX = 2000 };

static const double QUANTILE_MAX = 1e150;
static const double FRACTION_PRECISION = 1e-16;

/* One step of Lentz's method: a denominator of zero is nudged, which the next step makes good. */
static double away_from_zero(double x)
{
    return fabs(x) < 1e-300 ? 1e-300 : x;
}

/* The continued fraction of the incomplete beta function; it converges fast for x < (a + 1) / (a + b + 2). */
static double beta_fraction(double a, double b, double x)
{
    double c = 1;
    double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
    double value = d;
    for (int i = 1; i < FRACTION_MAX_TERMS; i++) {
        double m = i;
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        d = 1 / away_from_zero(1 + even * d);
        c = away_from_zero(1 + even / c);
        value *= d * c;
        double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        d = 1 / away_from_zero(1 + odd * d);
        c = away_from_zero(1 + odd / c);
        value *= d * c;
        if (fabs(d * c - 1) < FRACTION_PRECISION)
            break;
    }
    return value;
}

/* log Gamma(x) for x > 0. lgamma itself writes a global. */
static double log_gamma(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

double student_tail(double t, double nu)
{
    if (!(t >= 0) || !(nu > 0) || isinf(nu))
        return (double)NAN;
    if (t == 0)
        return 0.5;
    if (isinf(t))
        return 0;
    /* x and 1 - x each by a quotient of its own, so that neither is lost beside 1. Over t^2 when t is large.
     */
    double ratio = t > 1 ? nu / t / t : nu;
    double x = t > 1 ? ratio / (ratio + 1) : nu / (nu + t * t);
    double rest = t > 1 ? 1 / (ratio + 1) : t * t / (nu + t * t);
    double a = nu / 2, b = 0.5;
    double front = exp(log_gamma(a + b) - log_gamma(a) - log_gamma(b) + a * log(x) + b * log(rest));
    if (x < (a + 1) / (a + b + 2))
        return front * beta_fraction(a, b, x) / a / 2;
    return (1 - front * beta_fraction(b, a, rest) / b) / 2;
}

double student_quantile(double p, double nu)
{
    if (!(p > 0 && p <= 0.5) || !(nu > 0) || isinf(nu))
        return (double)NAN;
    if (p == 0.5)
        return 0;
    double low = 0, high = 1;
    while (student_tail(high, nu) > p) {
        low = high;
        high *= 2;
        if (high > QUANTILE_MAX)
            return (double)INFINITY;
    }
    for (int i = 0; i < BISECTIONS_MAX; i++) {
        double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high)
            break;
        if (student_tail(middle, nu) > p)
            low = middle;
        else
            high = middle;
    }
    return high;
}
