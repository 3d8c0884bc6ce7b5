#include "chart/elementary.h"

#include <math.h>

/* ln 2 in two parts: k * LN2_HIGH is exact for every exponent k a double can have. */
static const double LN2_HIGH = 0x1.62e42fee00000p-1;
static const double LN2_LOW = 0x1.a39ef35793c76p-33;

double elementary_log(double x)
{
    if (isnan(x) || x < 0)
        return (double)NAN;
    if (x == 0)
        return -(double)INFINITY;
    if (isinf(x))
        return x;
    int k;
    double m = frexp(x, &k);
    if (m < 0.70710678118654752) {
        m *= 2;
        k--;
    }
    /* log(1 + f) = 2 atanh(s) with s = f / (2 + f), |s| < 0.172. Written as f - (f^2/2 - s (f^2/2 + R)) so
     * that the large term f is exact and only small ones are rounded. R is the odd series' rest: 2 (s^2/3 +
     * s^4/5 + ...). */
    double f = m - 1, s = f / (2 + f), z = s * s;
    double r = 0;
    for (int n = 23; n >= 3; n -= 2)
        r = z * (2.0 / n + r);
    double half = 0.5 * f * f;
    return k * LN2_HIGH - ((half - (s * (half + r) + k * LN2_LOW)) - f);
}

double elementary_exp(double x)
{
    if (isnan(x))
        return x;
    if (x > 709.8)
        return (double)INFINITY;
    if (x < -745.2)
        return 0;
    double k = floor(x * 1.4426950408889634 + 0.5);
    double high = x - k * LN2_HIGH, low = k * LN2_LOW;
    double r = high - low;
    /* Taylor up to r^13 / 13!, |r| < 0.35: the first term left out is below 2^-60. */
    double t = 0;
    for (int n = 13; n >= 2; n--)
        t = (t + 1) * r / n;
    /* 1 + r + r t, with the rounding of r = high - low given back. */
    double error = (high - r) - low;
    double e = 1 + (r + (r * t + error));
    int exponent = (int)k;
    /* In two steps, so that a result near the ends of the range is rounded once. */
    return exponent > 1000 ? ldexp(ldexp(e, 1000), exponent - 1000) : ldexp(e, exponent);
}

double elementary_power(double x, int exponent)
{
    unsigned n = exponent < 0 ? 0u - (unsigned)exponent : (unsigned)exponent;
    double result = 1;
    for (; n > 0; n /= 2) {
        if (n % 2)
            result *= x;
        x *= x;
    }
    return exponent < 0 ? 1 / result : result;
}
