#include "chart/constants.h"

#include <math.h>

/* By n, from n = 2. */
static const struct {
    double d2, d3;
} RANGE_TABLE[] = {
    {1.128379167096, 0.852502466}, {1.692568750643, 0.888368004}, {2.058750746008, 0.879808203},
    {2.325928947281, 0.864081941}, {2.534412721223, 0.848039686}, {2.704356751214, 0.833205336},
    {2.847200612091, 0.819831490}, {2.970026324418, 0.807834275}, {3.077505461670, 0.797050674},
    {3.172872703816, 0.787314621}, {3.258455279744, 0.778478341}, {3.335980354098, 0.770416202},
    {3.406763108200, 0.763023096}, {3.471826889882, 0.756211430}, {3.531982786110, 0.749908089},
    {3.587883961765, 0.744051784}, {3.640063757937, 0.738590853}, {3.688963023208, 0.733481496},
    {3.734950119597, 0.728686346}, {3.778335829843, 0.724173341}, {3.819384643363, 0.719914808},
    {3.858323423285, 0.715886735}, {3.895348148451, 0.712068175}, {3.930629219507, 0.708440766},
};

double control_c4(size_t n)
{
    if (n < 2)
        return (double)NAN;
    if (n <= CONSTANTS_MAX_N) {
        /* g(n) = Gamma(n/2) / Gamma((n-1)/2); g(2) = 1/sqrt(pi) and g(n) g(n+1) = (n-1)/2. */
        double g = 0.56418958354775629;
        for (size_t i = 2; i < n; i++)
            g = (double)(i - 1) / 2 / g;
        return sqrt(2 / (double)(n - 1)) * g;
    }
    /* The asymptotic series of Gamma(x + 1/2) / (Gamma(x) sqrt(x)) at x = m/2; right to 1e-9 and better from
     * n = 26. */
    double m = (double)(n - 1), u = 1 / m;
    return 1 - u * (1.0 / 4 - u * (1.0 / 32 + u * (5.0 / 128 - u * (21.0 / 2048 + u * 399.0 / 8192))));
}

bool control_constants(size_t n, struct control_constants *constants)
{
    if (n < CONSTANTS_MIN_N || n > CONSTANTS_MAX_N)
        return false;
    double d2 = RANGE_TABLE[n - CONSTANTS_MIN_N].d2, d3 = RANGE_TABLE[n - CONSTANTS_MIN_N].d3;
    double c4 = control_c4(n), root = sqrt((double)n);
    double s_width = 3 * sqrt(1 - c4 * c4) / c4, r_width = 3 * d3 / d2;
    *constants = (struct control_constants){
        .d2 = d2,
        .d3 = d3,
        .c4 = c4,
        .a2 = 3 / (d2 * root),
        .a3 = 3 / (c4 * root),
        .b3 = s_width < 1 ? 1 - s_width : 0,
        .b4 = 1 + s_width,
        .d3_lower = r_width < 1 ? 1 - r_width : 0,
        .d4_upper = 1 + r_width,
        .e2 = 3 / d2,
    };
    return true;
}
