/* Student's t: against printed tables, closed forms and an independent implementation. */
#include "chart/student.h"
#include "cmocka_setup.h"

#include <math.h>

static void assert_near(double found, double expected, double relative)
{
    if (!(fabs(found - expected) <= relative * fabs(expected)))
        fail_msg("%.17g, expected %.17g", found, expected);
}

/* Abramowitz and Stegun, table 26.10, and any textbook: three decimals. */
static void quantiles_match_printed_tables(void **state)
{
    (void)state;
    static const struct {
        double p, nu, t;
    } table[] = {
        {0.05, 1, 6.314},   {0.025, 1, 12.706},  {0.005, 1, 63.657},  {0.1, 2, 1.886},
        {0.025, 2, 4.303},  {0.0005, 2, 31.599}, {0.05, 5, 2.015},    {0.005, 5, 4.032},
        {0.0005, 5, 6.869}, {0.025, 10, 2.228},  {0.005, 10, 3.169},  {0.001, 10, 4.144},
        {0.025, 20, 2.086}, {0.0005, 20, 3.850}, {0.025, 30, 2.042},  {0.0005, 30, 3.646},
        {0.025, 60, 2.000}, {0.0005, 60, 3.460}, {0.025, 120, 1.980}, {0.0005, 120, 3.373},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        double t = student_quantile(table[i].p, table[i].nu);
        if (fabs(t - table[i].t) > 0.00051)
            fail_msg("p %g nu %g: %.6f, printed %.3f", table[i].p, table[i].nu, t, table[i].t);
    }
}

/* One degree of freedom: t = 1 / tan(pi p). Two: t = (1 - 2p) / sqrt(2 p (1 - p)). */
static void quantiles_match_closed_forms(void **state)
{
    (void)state;
    static const double p[] = {0.45, 0.3, 0.1, 0.01, 1e-4, 1e-8, 1e-12};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) {
        assert_near(student_quantile(p[i], 1), 1 / tan(3.14159265358979323846 * p[i]), 1e-13);
        assert_near(student_quantile(p[i], 2), (1 - 2 * p[i]) / sqrt(2 * p[i] * (1 - p[i])), 1e-13);
    }
}

/* From another implementation of the distribution (SciPy 1.17.1, stats.t.isf), degrees of freedom that are
 * not whole. */
static void quantiles_match_another_implementation(void **state)
{
    (void)state;
    static const struct {
        double p, nu, t;
    } table[] = {
        {0.3, 0.6, 0.9034514595057501},         {0.01, 0.6, 312.43805148038376},
        {0.01 / 156, 0.6, 1412447.798093771},   {1e-09, 0.6, 145021171359421.53},
        {0.3, 3.7, 0.5724353841388498},         {0.01, 3.7, 3.920507819208549},
        {0.01 / 156, 3.7, 16.692740361282247},  {1e-09, 3.7, 334.2256705824837},
        {0.3, 5.4, 0.5567315167125348},         {0.01, 5.4, 3.2631772021592274},
        {0.01 / 156, 5.4, 9.700425866806025},   {1e-09, 5.4, 77.13838024955783},
        {0.3, 11.4, 0.5393814527468533},        {0.01, 11.4, 2.7023574655583067},
        {0.01 / 156, 11.4, 5.659803834969583},  {1e-09, 11.4, 16.899014449542264},
        {0.3, 23.4, 0.531620397848992},         {0.01, 23.4, 2.4966995093423474},
        {0.01 / 156, 23.4, 4.578350036887405},  {1e-09, 23.4, 9.415211561065268},
        {0.3, 599.4, 0.5246794966513739},       {0.01, 599.4, 2.3325851703756686},
        {0.01 / 156, 599.4, 3.855055457445585}, {1e-09, 599.4, 6.091537795348047},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        assert_near(student_quantile(table[i].p, table[i].nu), table[i].t, 1e-11);
}

static void tail_inverts_the_quantile(void **state)
{
    (void)state;
    static const double nu[] = {0.5, 0.85, 1.4, 2.5, 4.2, 7.1, 12, 21, 35, 59, 101, 171, 291, 494};
    static const double p[] = {0.49, 0.07, 0.01, 1.4e-3, 2e-4, 3e-5, 4e-6, 6e-7, 1e-8, 1e-10, 1e-12, 1e-14};
    for (size_t i = 0; i < sizeof nu / sizeof *nu; i++) {
        for (size_t k = 0; k < sizeof p / sizeof *p; k++)
            assert_near(student_tail(student_quantile(p[k], nu[i]), nu[i]), p[k], 1e-11);
    }
}

/* A million degrees of freedom are nearly the normal distribution: 1.959964 + (1.96^3 + 1.96) / (4 nu). */
static void many_degrees_of_freedom_are_normal(void **state)
{
    (void)state;
    assert_near(student_quantile(0.025, 1e6), 1.9599639845400545 + (7.5291 + 1.96) / 4e6, 1e-9);
}

static void edges_are_defined(void **state)
{
    (void)state;
    assert_true(student_quantile(0.5, 7) == 0);
    assert_true(student_tail(0, 7) == 0.5);
    assert_true(student_tail((double)INFINITY, 7) == 0);
    assert_true(isinf(student_quantile(1e-300, 0.1)));
    assert_true(isnan(student_quantile(0, 5)) && isnan(student_quantile(0.6, 5)) &&
                isnan(student_quantile(0.1, 0)));
    assert_true(isnan(student_quantile((double)NAN, 5)) && isnan(student_tail(-1, 5)));
    assert_true(isnan(student_tail(1, (double)INFINITY)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_match_printed_tables),
        cmocka_unit_test(quantiles_match_closed_forms),
        cmocka_unit_test(quantiles_match_another_implementation),
        cmocka_unit_test(tail_inverts_the_quantile),
        cmocka_unit_test(many_degrees_of_freedom_are_normal),
        cmocka_unit_test(edges_are_defined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
