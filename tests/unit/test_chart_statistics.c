#include "chart_fixture.h"

#include "chart/constants.h"
#include "chart/elementary.h"
#include "chart/statistics.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST = 5000 };

/* The definitions, in extended precision and in two passes. */
struct naive {
    size_t count;
    long double sum, mean, m2, square_sum;
    double min, max, first, last;
};

static struct naive naive_of(const double *values, size_t count)
{
    struct naive n = {.min = (double)INFINITY, .max = -(double)INFINITY};
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i]))
            continue;
        n.first = n.count == 0 ? values[i] : n.first;
        n.last = values[i];
        n.count++;
        n.sum += (long double)values[i];
        n.square_sum += (long double)values[i] * (long double)values[i];
        n.min = fmin(n.min, values[i]);
        n.max = fmax(n.max, values[i]);
    }
    n.mean = n.sum / (long double)n.count;
    for (size_t i = 0; i < count; i++) {
        if (isfinite(values[i]))
            n.m2 += ((long double)values[i] - n.mean) * ((long double)values[i] - n.mean);
    }
    return n;
}

static struct statistics statistics_of(const double *values, size_t count)
{
    struct statistics s;
    statistics_begin(&s);
    statistics_add(&s, values, count, true);
    return s;
}

static void a_hand_example(void **state)
{
    (void)state;
    const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};
    struct statistics s = statistics_of(x, 8);
    assert_int_equal(s.count, 8);
    assert_near(statistics_mean(&s), 5, 0);
    assert_near(statistics_std(&s), sqrt(32.0 / 7), 1e-15);
    assert_near(statistics_sum(&s), 40, 0);
    assert_near(statistics_rms(&s), sqrt(29), 1e-15);
    assert_near(statistics_min(&s), 2, 0);
    assert_near(statistics_max(&s), 9, 0);
    assert_near(s.first, 2, 0);
    assert_near(s.last, 9, 0);
}

static void agrees_with_the_definition_whatever_the_length(void **state)
{
    (void)state;
    uint64_t seed = 1;
    double *x = malloc(LONGEST * sizeof *x);
    for (size_t round = 0; round < 400; round++) {
        size_t count = round < 100 ? round + 1 : (size_t)(random_bits(&seed) % LONGEST) + 1;
        double offset = random_normal(&seed) * 100, scale = exp(random_normal(&seed) * 3);
        for (size_t i = 0; i < count; i++)
            x[i] = offset + scale * random_normal(&seed);
        struct statistics s = statistics_of(x, count);
        struct naive n = naive_of(x, count);
        double size = fmax(fabs(offset), scale);
        assert_int_equal(s.count, count);
        assert_near(statistics_mean(&s), (double)n.mean, 4e-16 * size);
        assert_near(statistics_sum(&s), (double)n.sum, 4e-16 * size * (double)count);
        if (count > 1)
            assert_near(statistics_std(&s) / sqrt((double)(n.m2 / (long double)(count - 1))), 1, 1e-13);
        assert_near(statistics_rms(&s) / sqrt((double)(n.square_sum / (long double)count)), 1, 1e-14);
        assert_true(s.min == n.min && s.max == n.max && s.first == n.first && s.last == n.last);
    }
    free(x);
}

static void small_noise_on_a_huge_offset_keeps_its_deviation(void **state)
{
    (void)state;
    uint64_t seed = 2;
    static double x[LONGEST];
    for (size_t i = 0; i < LONGEST; i++)
        x[i] = 1e9 + 1e-3 * random_normal(&seed);
    struct naive n = naive_of(x, LONGEST);
    struct statistics s = statistics_of(x, LONGEST);
    assert_near(statistics_std(&s) / sqrt((double)n.m2 / (LONGEST - 1)), 1, 1e-9);
    /* The textbook formula, sum of squares minus square of the sum, loses everything here. */
    double sum = 0, squares = 0;
    for (size_t i = 0; i < LONGEST; i++) {
        sum += x[i];
        squares += x[i] * x[i];
    }
    double textbook = (squares - sum * sum / LONGEST) / (LONGEST - 1);
    assert_true(fabs(textbook - 1e-6) > 1e-6);

    /* A first sample far away must not help either: a shift by it would cancel. */
    x[0] = 0;
    n = naive_of(x, LONGEST);
    s = statistics_of(x, LONGEST);
    assert_near(statistics_std(&s) / sqrt((double)n.m2 / (LONGEST - 1)), 1, 1e-12);

    for (size_t i = 0; i < LONGEST; i++)
        x[i] = 1e9;
    s = statistics_of(x, LONGEST);
    assert_true(statistics_std(&s) == 0 && statistics_mean(&s) == 1e9);
}

static void missing_samples_are_left_out(void **state)
{
    (void)state;
    uint64_t seed = 3;
    static double x[LONGEST], dense[LONGEST];
    for (size_t round = 0; round < 60; round++) {
        size_t count = (size_t)(random_bits(&seed) % LONGEST) + 1, kept = 0;
        double rate = random_unit(&seed);
        for (size_t i = 0; i < count; i++) {
            x[i] = random_normal(&seed);
            if (random_unit(&seed) < rate * rate)
                x[i] = i % 3 == 0 ? (double)NAN : i % 3 == 1 ? (double)INFINITY : -(double)INFINITY;
            else
                dense[kept++] = x[i];
        }
        struct statistics s = statistics_of(x, count);
        struct naive n = naive_of(dense, kept);
        assert_int_equal(s.count, kept);
        if (kept > 1) {
            assert_near(statistics_mean(&s), (double)n.mean, 1e-14);
            assert_near(statistics_std(&s), sqrt((double)n.m2 / (double)(kept - 1)), 1e-13);
            assert_true(s.first == dense[0] && s.last == dense[kept - 1] && s.min == n.min && s.max == n.max);
        }
    }
}

static void nothing_gives_nan(void **state)
{
    (void)state;
    const double none[] = {(double)NAN, (double)NAN};
    struct statistics s = statistics_of(none, 2);
    assert_int_equal(s.count, 0);
    assert_true(isnan(statistics_mean(&s)) && isnan(statistics_sum(&s)) && isnan(statistics_min(&s)));
    assert_true(isnan(statistics_max(&s)) && isnan(statistics_rms(&s)) && isnan(s.first));
    const double one = 3;
    s = statistics_of(&one, 1);
    assert_true(isnan(statistics_std(&s)));
    assert_near(statistics_mean(&s), 3, 0);
}

static void a_summary_may_be_built_range_by_range(void **state)
{
    (void)state;
    uint64_t seed = 4;
    static double x[LONGEST];
    for (size_t i = 0; i < LONGEST; i++)
        x[i] = 1e6 + random_normal(&seed);
    struct statistics s;
    statistics_begin(&s);
    for (size_t i = 0; i < LONGEST;) {
        size_t n = (size_t)(random_bits(&seed) % 700);
        n = n < LONGEST - i ? n : LONGEST - i;
        statistics_add(&s, x + i, n, true);
        i += n;
    }
    struct naive n = naive_of(x, LONGEST);
    assert_int_equal(s.count, LONGEST);
    assert_near(statistics_mean(&s), (double)n.mean, 1e-9);
    assert_near(statistics_std(&s), sqrt((double)n.m2 / (LONGEST - 1)), 1e-12);
}

static void both_forms_of_a_block_have_equal_bits(void **state)
{
    (void)state;
    uint64_t seed = 5;
    double x[STATISTICS_BLOCK] = {0};
    struct statistics_block plain, wide;
    memset(&plain, 0, sizeof plain);
    memset(&wide, 0, sizeof wide);
    if (!statistics_block_avx2(x, 0, false, &wide))
        skip();
    for (size_t round = 0; round < 2000; round++) {
        size_t count = (size_t)(random_bits(&seed) % STATISTICS_BLOCK) + 1;
        for (size_t i = 0; i < count; i++)
            x[i] = random_normal(&seed) * exp(random_normal(&seed) * 8);
        if (round % 10 == 0)
            x[random_bits(&seed) % count] = -0.0;
        statistics_block_portable(x, count, round % 2, &plain);
        statistics_block_avx2(x, count, round % 2, &wide);
        assert_memory_equal(&plain, &wide, sizeof plain);
    }
}

/* Eight lanes, folded in halves: what the sums are, whatever registers compute them. */
static double lanes_of(const double *terms, size_t count)
{
    double lanes[8] = {0};
    for (size_t i = 0; i < count; i++)
        lanes[i % 8] += terms[i];
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

static void sums_are_defined_by_their_lanes(void **state)
{
    (void)state;
    uint64_t seed = 16;
    double x[STATISTICS_BLOCK], y[STATISTICS_BLOCK], terms[STATISTICS_BLOCK];
    for (size_t round = 0; round < 500; round++) {
        size_t count = (size_t)(random_bits(&seed) % STATISTICS_BLOCK) + 1;
        for (size_t i = 0; i < count; i++) {
            x[i] = (double)i + random_unit(&seed);
            y[i] = 1e4 + random_normal(&seed) * exp(random_normal(&seed) * 3);
        }
        struct statistics_block block;
        struct statistics_pair pair;
        statistics_block_portable(y, count, true, &block);
        double sum = lanes_of(y, count), mean = sum / (double)count;
        assert_memory_equal(&block.sum, &sum, sizeof sum);
        for (size_t i = 0; i < count; i++)
            terms[i] = y[i] - mean;
        double rest = lanes_of(terms, count);
        assert_memory_equal(&block.rest, &rest, sizeof rest);

        statistics_pairs(x, y, count, &pair);
        for (size_t i = 0; i < count; i++)
            terms[i] = (x[i] - pair.mean_x) * (y[i] - pair.mean_y);
        double products = lanes_of(terms, count);
        assert_memory_equal(&pair.sxy, &products, sizeof products);

        for (size_t i = 0; i + 1 < count; i++)
            terms[i] = (x[i + 1] - x[i]) * (y[i] + y[i + 1]);
        double area = lanes_of(terms, count - 1) / 2, found = statistics_area(x, y, count);
        assert_memory_equal(&found, &area, sizeof area);
    }
    assert_true(statistics_area(x, y, 0) == 0 && statistics_area(x, y, 1) == 0);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void percentiles_interpolate_between_ranks(void **state)
{
    (void)state;
    double x[] = {40, 10, 30, 20};
    assert_near(statistics_median(x, 4), 25, 0);
    assert_near(statistics_percentile(x, 4, 0), 10, 0);
    assert_near(statistics_percentile(x, 4, 100), 40, 0);
    assert_near(statistics_percentile(x, 4, 95), 38.5, 1e-14);
    assert_near(statistics_percentile(x, 1, 73), x[0], 0);
    assert_true(isnan(statistics_percentile(x, 0, 50)));

    uint64_t seed = 6;
    static double v[LONGEST], sorted[LONGEST];
    for (size_t round = 0; round < 300; round++) {
        size_t count = (size_t)(random_bits(&seed) % (round < 200 ? 40 : LONGEST)) + 1;
        for (size_t i = 0; i < count; i++) /* every third round with many ties */
            v[i] = round % 3 ? random_normal(&seed) : (double)(random_bits(&seed) % 4);
        memcpy(sorted, v, count * sizeof *v);
        qsort(sorted, count, sizeof *sorted, ascending);
        double p = round % 5 ? 100 * random_unit(&seed) : 50;
        double rank = (double)(count - 1) * p / 100;
        size_t below = (size_t)rank;
        double above = sorted[below + 1 < count ? below + 1 : below];
        assert_near(statistics_percentile(v, count, p),
                    sorted[below] + (rank - (double)below) * (above - sorted[below]), 0);
    }
    /* Orders that are hard on a careless choice of pivot: this returns in time or not at all. */
    for (size_t i = 0; i < LONGEST; i++)
        v[i] = (double)(i < LONGEST / 2 ? i : LONGEST - i);
    assert_near(statistics_percentile(v, LONGEST, 100), LONGEST / 2, 0);
    for (size_t i = 0; i < LONGEST; i++)
        v[i] = 7;
    assert_near(statistics_median(v, LONGEST), 7, 0);
}

static void sums_over_pairs_find_a_line(void **state)
{
    (void)state;
    uint64_t seed = 7;
    static double x[1000], y[1000];
    for (size_t i = 0; i < 1000; i++) {
        x[i] = 1e7 + (double)i * 0.1;
        y[i] = 3 - 0.25 * (x[i] - 1e7) + 1e-3 * random_normal(&seed);
    }
    struct statistics_pair pair;
    statistics_pairs(x, y, 1000, &pair);
    assert_near(pair.sxy / pair.sxx, -0.25, 1e-5);
    assert_near(pair.sxy / sqrt(pair.sxx * pair.syy), -1, 1e-6);
    assert_near(pair.mean_x, 1e7 + 49.95, 1e-8);
}

/* Computed from the formulas to 6 decimals; d3 comes from a quadrature of its own there, hence the wider
 * tolerance. */
static const struct {
    size_t n;
    double d2, d3, c4, a2, a3, b3, b4, D3, D4, e2;
} TABLE[] = {
    {2, 1.128379, 0.852505, 0.797885, 1.879971, 2.658681, 0, 3.266532, 0, 3.266538, 2.658681},
    {3, 1.692569, 0.888370, 0.886227, 1.023327, 1.954410, 0, 2.568170, 0, 2.574595, 1.772454},
    {4, 2.058751, 0.879811, 0.921318, 0.728597, 1.628103, 0, 2.266047, 0, 2.282055, 1.457194},
    {5, 2.325929, 0.864084, 0.939986, 0.576819, 1.427299, 0, 2.088998, 0, 2.114502, 1.289807},
    {6, 2.534413, 0.848042, 0.951533, 0.483246, 1.287128, 0.030363, 1.969637, 0, 2.003833, 1.183706},
    {7, 2.704357, 0.833208, 0.959369, 0.419284, 1.181916, 0.117685, 1.882315, 0.075705, 1.924295, 1.109321},
    {8, 2.847201, 0.819834, 0.965030, 0.372527, 1.099095, 0.185090, 1.814910, 0.136168, 1.863832, 1.053667},
    {9, 2.970026, 0.807837, 0.969311, 0.336697, 1.031661, 0.239133, 1.760867, 0.184010, 1.815990, 1.010092},
    {10, 3.077505, 0.797053, 0.972659, 0.308264, 0.975350, 0.283706, 1.716294, 0.223020, 1.776980, 0.974815},
    {11, 3.172873, 0.787317, 0.975350, 0.285084, 0.927394, 0.321280, 1.678720, 0.255579, 1.744421, 0.945515},
    {12, 3.258455, 0.778481, 0.977559, 0.265778, 0.885906, 0.353512, 1.646488, 0.283267, 1.716733, 0.920682},
    {13, 3.335980, 0.770419, 0.979406, 0.249417, 0.849546, 0.381556, 1.618444, 0.307173, 1.692827, 0.899286},
    {14, 3.406763, 0.763026, 0.980971, 0.235351, 0.817336, 0.406245, 1.593755, 0.328078, 1.671922, 0.880601},
    {15, 3.471827, 0.756214, 0.982316, 0.223109, 0.788541, 0.428200, 1.571800, 0.346557, 1.653443, 0.864098},
    {16, 3.531983, 0.749911, 0.983484, 0.212345, 0.762595, 0.447888, 1.552112, 0.363040, 1.636960, 0.849381},
    {17, 3.587884, 0.744055, 0.984506, 0.202796, 0.739058, 0.465676, 1.534324, 0.377861, 1.622139, 0.836147},
    {18, 3.640064, 0.738594, 0.985410, 0.194257, 0.717576, 0.481849, 1.518151, 0.391280, 1.608720, 0.824161},
    {19, 3.688963, 0.733484, 0.986214, 0.186569, 0.697868, 0.496638, 1.503362, 0.403504, 1.596496, 0.813237},
    {20, 3.734950, 0.728689, 0.986934, 0.179606, 0.679701, 0.510231, 1.489769, 0.414700, 1.585300, 0.803224},
    {21, 3.778336, 0.724176, 0.987583, 0.173265, 0.662885, 0.522779, 1.477221, 0.425004, 1.574996, 0.794000},
    {22, 3.819385, 0.719918, 0.988170, 0.167462, 0.647259, 0.534410, 1.465590, 0.434529, 1.565471, 0.785467},
    {23, 3.858323, 0.715890, 0.988705, 0.162128, 0.632690, 0.545230, 1.454770, 0.443367, 1.556633, 0.777540},
    {24, 3.895348, 0.712071, 0.989193, 0.157206, 0.619063, 0.555330, 1.444670, 0.451599, 1.548401, 0.770149},
    {25, 3.930629, 0.708444, 0.989640, 0.152647, 0.606281, 0.564786, 1.435214, 0.459290, 1.540710, 0.763237},
};

static void constants_match_the_published_tables(void **state)
{
    (void)state;
    struct control_constants c;
    assert_false(control_constants(1, &c));
    assert_false(control_constants(26, &c));
    assert_int_equal(sizeof TABLE / sizeof *TABLE, 24);
    for (size_t i = 0; i < 24; i++) {
        assert_true(control_constants(TABLE[i].n, &c));
        assert_near(c.d2, TABLE[i].d2, 1e-6);
        assert_near(c.d3, TABLE[i].d3, 5e-6);
        assert_near(c.c4, TABLE[i].c4, 1e-6);
        assert_near(c.a2, TABLE[i].a2, 1e-6);
        assert_near(c.a3, TABLE[i].a3, 1e-6);
        assert_near(c.b3, TABLE[i].b3, 1e-6);
        assert_near(c.b4, TABLE[i].b4, 1e-6);
        assert_near(c.d3_lower, TABLE[i].D3, 2e-5);
        assert_near(c.d4_upper, TABLE[i].D4, 2e-5);
        assert_near(c.e2, TABLE[i].e2, 1e-6);
    }
    control_constants(2, &c);
    assert_near(c.d2, CONTROL_D2_OF_2, 1e-11);
    assert_near(c.d3, sqrt(2 - 4 / 3.14159265358979324), 1e-8); /* known in closed form */
    assert_near(c.e2, 2.658681, 1e-6);                          /* tables print 2.660 */
}

static void c4_is_right_beyond_the_tables(void **state)
{
    (void)state;
    for (size_t n = 2; n < 2000; n += 7) {
        long double c4 = sqrtl(2.0L / (long double)(n - 1)) *
                         expl(lgammal((long double)n / 2) - lgammal((long double)(n - 1) / 2));
        assert_near(control_c4(n), (double)c4, 2e-9);
    }
    assert_true(isnan(control_c4(1)));
}

static void log_and_exp_are_right_to_the_last_places(void **state)
{
    (void)state;
    uint64_t seed = 8;
    for (size_t i = 0; i < 200000; i++) {
        double x = exp(700 * (2 * random_unit(&seed) - 1)), y = 1400 * random_unit(&seed) - 700;
        if (i % 2) {
            x = 1 + 0.5 * (random_unit(&seed) - 0.5);
            y /= 700;
        }
        double log_x = (double)logl((long double)x), exp_y = (double)expl((long double)y);
        assert_near(elementary_log(x), log_x, 2 * (nextafter(fabs(log_x), INFINITY) - fabs(log_x)));
        assert_near(elementary_exp(y), exp_y, 2 * (nextafter(exp_y, INFINITY) - exp_y));
    }
    assert_true(elementary_log(1) == 0 && elementary_exp(0) == 1);
    assert_true(isnan(elementary_log(-1)) && isinf(elementary_log(0)) && isinf(elementary_exp(1000)));
    assert_true(elementary_exp(-1000) == 0 && isnan(elementary_exp((double)NAN)));
    assert_near(elementary_log(5e-324), -744.44007192138122, 1e-12);
    assert_true(elementary_exp(-745) > 0);
    assert_true(elementary_power(2, 10) == 1024 && elementary_power(2, -2) == 0.25 &&
                elementary_power(-3, 3) == -27);
    assert_true(elementary_power(5, 0) == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hand_example),
        cmocka_unit_test(agrees_with_the_definition_whatever_the_length),
        cmocka_unit_test(small_noise_on_a_huge_offset_keeps_its_deviation),
        cmocka_unit_test(missing_samples_are_left_out),
        cmocka_unit_test(nothing_gives_nan),
        cmocka_unit_test(a_summary_may_be_built_range_by_range),
        cmocka_unit_test(both_forms_of_a_block_have_equal_bits),
        cmocka_unit_test(sums_are_defined_by_their_lanes),
        cmocka_unit_test(percentiles_interpolate_between_ranks),
        cmocka_unit_test(sums_over_pairs_find_a_line),
        cmocka_unit_test(constants_match_the_published_tables),
        cmocka_unit_test(c4_is_right_beyond_the_tables),
        cmocka_unit_test(log_and_exp_are_right_to_the_last_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
