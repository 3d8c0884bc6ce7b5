/* Rules and limits against published worked examples. The data are those of the NIST/SEMATECH e-Handbook
 * (6.3.2.3, 6.3.2.4) and of Montgomery, Introduction to Statistical Quality Control (piston rings,
 * viscosity), with the figures that the R package qcc prints for them. */
#include "chart_fixture.h"

#include "chart/constants.h"
#include "chart/limits.h"
#include "chart/rules.h"
#include "chart/statistics.h"

#include <string.h>

static const double NAN_ = (double)NAN;

static void ewma_of_the_nist_handbook(void **state)
{
    (void)state;
    static const double x[] = {52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5,
                               49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1};
    static const double printed[] = {50.60, 49.52, 50.56, 50.18, 50.16, 49.21, 49.75, 49.85, 50.26, 50.33,
                                     50.11, 49.36, 49.52, 50.05, 49.38, 49.92, 50.73, 51.23, 51.94, 51.99};
    static const double exact[] = {51.8485, 52.2564, 52.4314, 52.5127, 52.5516, 52.5705};
    double average = 50;
    for (size_t i = 0; i < 20; i++) {
        average = ewma_next(average, x[i], 0.3);
        assert_near(average, printed[i], 0.0051);
    }
    assert_near(50 + 2.0539 * ewma_limit(0.3, 3, 1, true), 52.588432, 1e-6);
    assert_near(50 - 2.0539 * ewma_limit(0.3, 3, 1, true), 47.411568, 1e-6);
    for (size_t t = 1; t <= 6; t++)
        assert_near(50 + 2.0539 * ewma_limit(0.3, 3, t, false), exact[t - 1], 5e-5);
    assert_near(ewma_limit(0.3, 3, 500, false), ewma_limit(0.3, 3, 500, true), 1e-15);

    /* In control throughout, by the rule itself as by the handbook. */
    struct rules_spec spec;
    struct limits limits = {.centre = 50, .sigma = 2.0539, .lower = NAN_, .upper = NAN_};
    rules_spec_default(&spec);
    spec.enabled = 1u << RULE_EWMA;
    spec.ewma_lambda = 0.3;
    double z[20];
    for (size_t i = 0; i < 20; i++) {
        z[i] = rules_z(x[i], limits.centre, limits.sigma);
        for (int steady = 0; steady < 2; steady++) {
            spec.ewma_steady = steady;
            assert_int_equal(rules_fired(&spec, &limits, x[i], z, i + 1, 0), 0);
        }
    }
}

static void cusum_of_the_nist_handbook(void **state)
{
    (void)state;
    static const double x[] = {324.925, 324.675, 324.725, 324.350, 325.350, 325.225, 324.125,
                               324.525, 325.225, 324.600, 324.625, 325.150, 328.325, 327.250,
                               327.825, 328.500, 326.675, 327.775, 326.875, 328.350};
    static const double high[] = {0, 0, 0,    0,    0.03, 0,     0,     0,     0,     0,
                                  0, 0, 3.01, 4.94, 7.45, 10.63, 11.99, 14.44, 16.00, 19.04};
    static const double low[] = {0,    0.01, 0, 0.33, 0, 0, 0.56, 0.72, 0.17, 0.25,
                                 0.31, 0,    0, 0,    0, 0, 0,    0,    0,    0};
    struct rules_spec spec;
    struct limits limits = {.centre = 325, .sigma = 0.635, .lower = NAN_, .upper = NAN_};
    struct cusum raw = {0};
    double z[20];
    rules_spec_default(&spec);
    spec.enabled = 1u << RULE_CUSUM;
    spec.cusum_k = 0.5;
    spec.cusum_h = 4.1959 / 0.635;
    for (size_t i = 0; i < 20; i++) {
        cusum_next(&raw, x[i] - 325, 0.3175); /* in units of the measurement, as the handbook has it */
        assert_near(raw.high, high[i], 0.0051);
        assert_near(raw.low, low[i], 0.0051);
        z[i] = rules_z(x[i], 325, 0.635);
        uint32_t fired = rules_fired(&spec, &limits, x[i], z, i + 1, 0);
        assert_int_equal(fired != 0, i + 1 >= 14); /* the first signal is group 14 */
    }
}

static void cusum_by_hand(void **state)
{
    (void)state;
    const double z[] = {0, 0, 0, 1, 2, 3}, high[] = {0, 0, 0, 0.5, 2.0, 4.5};
    struct rules_spec spec;
    struct limits limits = {.centre = 10, .sigma = 1};
    struct cusum sums = {0};
    rules_spec_default(&spec);
    spec.enabled = 1u << RULE_CUSUM;
    spec.cusum_h = 4;
    for (size_t i = 0; i < 6; i++) {
        cusum_next(&sums, z[i], 0.5);
        assert_near(sums.high, high[i], 0);
        assert_int_equal(rules_fired(&spec, &limits, 10 + z[i], z, i + 1, 0) != 0, i == 5);
    }
}

/* Means of 40 groups of 5 rings; the first 25 are phase I. */
static const double RING_MEANS[] = {74.0102, 74.0006, 74.0080, 74.0030, 74.0034, 73.9956, 74.0000, 73.9968,
                                    74.0042, 73.9980, 73.9942, 74.0014, 73.9984, 73.9902, 74.0060, 73.9966,
                                    74.0008, 74.0074, 73.9982, 74.0092, 73.9998, 74.0016, 74.0024, 74.0052,
                                    73.9982, 74.0086, 74.0022, 73.9922, 74.0036, 73.9974, 74.0072, 74.0056,
                                    73.9978, 74.0112, 74.0126, 74.0040, 74.0166, 74.0196, 74.0234, 74.0128};

/* Phase I: 25 groups of 5 diameters, in thousandths of a millimetre over 73.9. */
static const int RINGS[25][5] = {
    {130, 102, 119, 92, 108}, {95, 92, 101, 111, 104},   {88, 124, 121, 105, 102}, {102, 96, 93, 115, 109},
    {92, 107, 115, 89, 114},  {109, 94, 97, 85, 93},     {95, 106, 94, 100, 105},  {85, 103, 93, 115, 88},
    {108, 95, 109, 105, 104}, {98, 100, 90, 107, 95},    {94, 98, 94, 95, 90},     {104, 100, 107, 100, 96},
    {83, 102, 98, 97, 112},   {106, 67, 94, 100, 84},    {112, 114, 98, 99, 107},  {100, 84, 105, 98, 96},
    {94, 112, 86, 105, 107},  {106, 110, 118, 103, 100}, {84, 102, 103, 105, 97},  {100, 110, 113, 120, 103},
    {88, 101, 109, 105, 96},  {104, 99, 90, 106, 109},   {110, 89, 90, 109, 114},  {115, 108, 93, 100, 110},
    {82, 84, 95, 117, 113}};

static const double RING_CENTRE = 74.001176, RING_SIGMA = 0.009785338; /* of one ring, by the mean range */

static void mean_range_and_deviation_charts_of_the_piston_rings(void **state)
{
    (void)state;
    struct control_constants c;
    assert_true(control_constants(5, &c));
    double mean = 0, range = 0, deviation = 0;
    for (size_t g = 0; g < 25; g++) {
        double x[5];
        for (size_t i = 0; i < 5; i++)
            x[i] = 73.9 + RINGS[g][i] / 1000.0;
        struct statistics s;
        statistics_begin(&s);
        statistics_add(&s, x, 5, true);
        assert_near(statistics_mean(&s), RING_MEANS[g], 1e-9);
        mean += statistics_mean(&s) / 25;
        range += (s.max - s.min) / 25;
        deviation += statistics_std(&s) / 25;
    }
    assert_near(mean, 74.00118, 5e-6);
    assert_near(range, 0.02276, 1e-9);
    assert_near(range / c.d2, RING_SIGMA, 1e-8);
    assert_near(mean - c.a2 * range, 73.98805, 5e-6);
    assert_near(mean + c.a2 * range, 74.01430, 5e-6);
    assert_near(c.d3_lower * range, 0, 0);
    assert_near(c.d4_upper * range, 0.04812607, 2e-7);
    assert_near(deviation, 0.009240037, 1e-9);
    assert_near(deviation / c.c4, 0.009829977, 1e-8);
    assert_near(c.b3 * deviation, 0, 0);
    assert_near(c.b4 * deviation, 0.01930242, 1e-8);
}

static void three_groups_of_rings_lie_beyond_the_limits(void **state)
{
    (void)state;
    struct limits_spec given;
    struct limits limits;
    struct rules_spec rules;
    limits_spec_default(&given);
    rules_spec_default(&rules);
    given.target = RING_CENTRE;
    given.stdev = RING_SIGMA / sqrt(5);
    limits_compute(&given, NULL, 0, NULL, &limits);
    assert_false(limits.learning);
    assert_near(limits.lower, 73.988048, 1e-6);
    assert_near(limits.upper, 74.014304, 1e-6);
    for (size_t i = 0; i < 40; i++) {
        double z = rules_z(RING_MEANS[i], limits.centre, limits.sigma);
        bool beyond = rules_fired(&rules, &limits, RING_MEANS[i], &z, 1, 0) != 0;
        assert_int_equal(beyond, i + 1 >= 37 && i + 1 <= 39);
    }
}

static void ewma_of_the_piston_rings(void **state)
{
    (void)state;
    static const struct {
        size_t group;
        double average;
    } averages[] = {{1, 74.002981},  {2, 74.002505},  {3, 74.003604}, {25, 74.001606},
                    {36, 74.005090}, {37, 74.007392}, {40, 74.012597}};
    static const struct {
        double limit;
        size_t step;
        double lower, upper;
    } widths[] = {{3, 1, 73.99855, 74.00380},   {3, 2, 73.99781, 74.00454},   {3, 25, 73.99680, 74.00555},
                  {2.7, 1, 73.99881, 74.00354}, {2.7, 2, 73.99815, 74.00420}, {2.7, 40, 73.99724, 74.00511}};
    double average = RING_CENTRE, sigma = RING_SIGMA / sqrt(5);
    size_t next = 0;
    for (size_t i = 0; i < 40; i++) {
        average = ewma_next(average, RING_MEANS[i], 0.2);
        if (averages[next].group == i + 1)
            assert_near(average, averages[next++].average, 2e-6);
    }
    assert_int_equal(next, 7);
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        double width = sigma * ewma_limit(0.2, widths[i].limit, widths[i].step, false);
        assert_near(RING_CENTRE - width, widths[i].lower, 6e-6);
        assert_near(RING_CENTRE + width, widths[i].upper, 6e-6);
    }
}

static void cusum_of_the_piston_rings(void **state)
{
    (void)state;
    static const struct {
        size_t group;
        double high, low;
    } sums[] = {{1, 1.5621, -1},  {3, 1.9898, -1},   {14, -1, 2.9112},  {35, 4.0172, -1}, {36, 4.1625, -1},
                {37, 7.1871, -1}, {38, 10.8972, -1}, {39, 15.4756, -1}, {40, 17.6318, -1}};
    struct rules_spec spec;
    struct limits limits = {.centre = RING_CENTRE, .sigma = RING_SIGMA / sqrt(5)};
    struct cusum cusum = {0};
    double z[40];
    size_t next = 0;
    rules_spec_default(&spec);
    spec.enabled = 1u << RULE_CUSUM;
    for (size_t i = 0; i < 40; i++) {
        z[i] = rules_z(RING_MEANS[i], limits.centre, limits.sigma);
        cusum_next(&cusum, z[i], 0.5);
        if (next < 9 && sums[next].group == i + 1) {
            if (sums[next].high >= 0)
                assert_near(cusum.high, sums[next].high, 5e-4);
            if (sums[next].low >= 0)
                assert_near(cusum.low, sums[next].low, 5e-4);
            next++;
        }
        bool fired = rules_fired(&spec, &limits, RING_MEANS[i], z, i + 1, 0) != 0;
        assert_int_equal(fired, i + 1 >= 37);
    }
    assert_int_equal(next, 9);
}

static const double VISCOSITY[] = {34.05, 34.40, 33.59, 35.96, 34.70, 33.51, 33.79, 34.04, 34.52,
                                   33.75, 33.27, 33.71, 34.03, 34.58, 34.02, 33.97, 34.05, 34.04,
                                   33.73, 34.05, 34.39, 33.75, 33.40, 33.27, 34.65, 34.80, 34.55,
                                   35.40, 34.75, 34.50, 34.70, 34.29, 34.61, 34.49, 35.03};

static void viscosity_as_individuals(void **state)
{
    (void)state;
    struct limits_spec spec;
    struct limits limits;
    limits_spec_default(&spec);
    spec.method = LIMITS_INDIVIDUALS;
    limits_compute(&spec, VISCOSITY, 20, NULL, &limits);
    assert_near(limits.centre, 34.088, 1e-9);
    /* The printed figures rest on d2 = 1.128, rounded as in the old tables. */
    const double rounding = CONTROL_D2_OF_2 / 1.128;
    assert_near(limits.sigma * rounding, 0.5076521, 5e-7);
    assert_near(limits.centre - 3 * limits.sigma * rounding, 32.56504, 1e-5);
    assert_near(limits.centre + 3 * limits.sigma * rounding, 35.61096, 1e-5);
    assert_near(limits.upper, 35.61096, 6e-4);
    assert_true(VISCOSITY[3] > limits.upper); /* batch 4 */

    spec.method = LIMITS_SHEWHART;
    limits_compute(&spec, VISCOSITY, 20, NULL, &limits);
    assert_near(limits.sigma, 0.5769854, 5e-7);
    assert_near(limits.lower, 32.35704, 1e-5);
    assert_near(limits.upper, 35.81896, 1e-5);

    /* Without batch 4 the moving range goes from batch 3 to batch 5. */
    double without[19];
    memcpy(without, VISCOSITY, 3 * sizeof(double));
    memcpy(without + 3, VISCOSITY + 4, 16 * sizeof(double));
    spec.method = LIMITS_INDIVIDUALS;
    spec.min_history = 19;
    limits_compute(&spec, without, 19, NULL, &limits);
    assert_near(limits.centre, 33.98947, 5e-6);
    assert_near(limits.sigma * rounding, 0.4117415, 5e-7);
    assert_near(limits.centre - 3 * limits.sigma * rounding, 32.75425, 1e-5);
    assert_near(limits.centre + 3 * limits.sigma * rounding, 35.2247, 5e-5);

    static const struct {
        size_t step;
        double lower, upper;
    } widths[] = {{1, 33.81387, 34.36213}, {2, 33.73694, 34.43906}, {35, 33.63111, 34.54489}};
    for (size_t i = 0; i < 3; i++) {
        double width = 0.5076521 * ewma_limit(0.2, 2.7, widths[i].step, false);
        assert_near(34.088 - width, widths[i].lower, 1e-5);
        assert_near(34.088 + width, widths[i].upper, 1e-5);
    }
}

static void eight_on_one_side_is_western_electric_nine_is_nelson(void **state)
{
    (void)state;
    double z[9];
    for (size_t i = 0; i < 9; i++)
        z[i] = 0.5;
    assert_int_equal(rules_run(z, 7), 0);
    assert_int_equal(rules_run(z, 8), 1u << RULE_WESTERN_ELECTRIC_4);
    assert_int_equal(rules_run(z, 9), 1u << RULE_WESTERN_ELECTRIC_4 | 1u << RULE_NELSON_2);
    z[4] = 0; /* a point on the centre is on neither side */
    assert_int_equal(rules_run(z, 9), 0);
}

/* Which rules the last point of a sequence fires. */
static void expect_rules(const double *z, size_t count, uint32_t expected)
{
    uint32_t mirrored_fired;
    double mirrored[20];
    uint32_t fired = rules_run(z, count);
    for (size_t i = 0; i < count; i++)
        mirrored[i] = -z[i];
    mirrored_fired = rules_run(mirrored, count);
    assert_int_equal(fired, expected);
    assert_int_equal(mirrored_fired, expected);
}

static void every_run_rule_fires_on_its_pattern_and_not_one_short(void **state)
{
    (void)state;
    const uint32_t one = 1u << RULE_WESTERN_ELECTRIC_1 | 1u << RULE_NELSON_1;
    const uint32_t two = 1u << RULE_WESTERN_ELECTRIC_2 | 1u << RULE_NELSON_5;
    const uint32_t four = 1u << RULE_WESTERN_ELECTRIC_3 | 1u << RULE_NELSON_6;
    expect_rules((double[]){3.0}, 1, 0);
    expect_rules((double[]){3.01}, 1, one);

    expect_rules((double[]){2.1, 0, 2.1}, 3, two);
    expect_rules((double[]){2.1, 2.1}, 2, two);
    expect_rules((double[]){2.1, 0, 0, 2.1}, 4, 0);
    expect_rules((double[]){-2.1, 0, 2.1}, 3, 0); /* not on one side */
    expect_rules((double[]){2.1, 2.1, 0}, 3, 0);  /* the judged point is not one of the two */

    expect_rules((double[]){1.1, 1.2, 0, 1.1, 1.3}, 5, four);
    expect_rules((double[]){1.1, 0, 0, 1.1, 1.3}, 5, 0);
    expect_rules((double[]){1.1, 1.2, -1.1, 1.2, 0.9}, 5, 0);

    expect_rules((double[]){-0.5, -0.3, -0.1, 0.1, 0.3, 0.5}, 6, 1u << RULE_NELSON_3);
    expect_rules((double[]){-0.3, -0.1, 0.1, 0.3, 0.5}, 5, 0);
    expect_rules((double[]){-0.5, -0.3, -0.1, -0.1, 0.3, 0.5}, 6, 0); /* a pause */

    double z[20];
    for (size_t i = 0; i < 20; i++)
        z[i] = (i % 2 ? 0.6 : -0.6) + 0.02 * (double)i; /* while it drifts */
    expect_rules(z + 1, 13, 0);
    assert_true(rules_run(z + 1, 14) & 1u << RULE_NELSON_4);

    for (size_t i = 0; i < 20; i++)
        z[i] = i % 3 == 0 ? 0.9 : i % 3 == 1 ? -0.2 : 0.1;
    expect_rules(z, 14, 0);
    expect_rules(z, 15, 1u << RULE_NELSON_7);
    z[7] = 1.0; /* within means less than one sigma */
    expect_rules(z, 15, 0);

    static const double avoids[] = {1.2, -1.3, -1.1, 1.4, 1.1, -1.2, -1.6, 1.3};
    expect_rules(avoids, 8, 1u << RULE_NELSON_8);
    expect_rules(avoids + 1, 7, 0);
    static const double one_sided[] = {1.2, 1.3, 1.1, 1.4, 1.1, 1.2, 1.6, 1.3};
    assert_false(rules_run(one_sided, 8) & 1u << RULE_NELSON_8);
}

/* Chances per point on a process that is stable and normal with known centre and deviation. Published
 * simulations of 200,000 points give 0.0027 for the first rule, 0.016 for the four of Western Electric and
 * 0.023 for Nelson's eight. */
static void false_alarms_of_the_rules_are_as_published(void **state)
{
    (void)state;
    enum { POINTS = 400000 };
    static double z[POINTS];
    uint64_t seed = 20;
    size_t first = 0, western = 0, nelson = 0;
    const uint32_t western_mask = 15u << RULE_WESTERN_ELECTRIC_1, nelson_mask = 255u << RULE_NELSON_1;
    for (size_t i = 0; i < POINTS; i++) {
        z[i] = random_normal(&seed);
        uint32_t fired = rules_run(z, i + 1);
        first += (fired & 1u << RULE_NELSON_1) ? 1 : 0;
        western += (fired & western_mask) ? 1 : 0;
        nelson += (fired & nelson_mask) ? 1 : 0;
    }
    print_message("false alarms a point: rule 1 %.5f, Western Electric %.4f, Nelson %.4f\n",
                  (double)first / POINTS, (double)western / POINTS, (double)nelson / POINTS);
    assert_near((double)first / POINTS, 0.0027, 0.0003);
    assert_near((double)western / POINTS, 0.016, 0.004);
    assert_near((double)nelson / POINTS, 0.023, 0.004);
}

/* Average run lengths: points from the start until the first signal. */
static double run_length(const struct rules_spec *spec, double shift, size_t runs, uint64_t seed)
{
    enum { LONGEST_RUN = 20000 };
    static double z[LONGEST_RUN];
    const struct limits limits = {.centre = 0, .sigma = 1, .lower = -3, .upper = 3};
    size_t total = 0;
    for (size_t run = 0; run < runs; run++) {
        size_t i = 0, begin = 0;
        do {
            z[i] = shift + random_normal(&seed);
            /* Sums that are zero have forgotten the past: begin anew there, so that the test does not take
             * all day. */
            struct cusum cusum = {0};
            for (size_t j = begin; j <= i; j++) {
                cusum_next(&cusum, z[j], spec->cusum_k);
                if (j == i && cusum.high == 0 && cusum.low == 0)
                    begin = i;
            }
            i++;
        } while (!rules_fired(spec, &limits, z[i - 1], z + begin, i - begin, 0) && i < LONGEST_RUN);
        total += i;
    }
    return (double)total / (double)runs;
}

static void run_lengths_are_as_published(void **state)
{
    (void)state;
    struct rules_spec spec;
    rules_spec_default(&spec);
    assert_near(run_length(&spec, 0, 2000, 21), 370, 30);
    assert_near(run_length(&spec, 1, 2000, 22), 43.9, 4);
    spec.enabled = 1u << RULE_CUSUM;
    assert_near(run_length(&spec, 0, 1000, 23), 465, 60);
    assert_near(run_length(&spec, 1, 2000, 24), 10.4, 0.6);
}

static void a_constant_history_tolerates_rounding_but_no_change(void **state)
{
    (void)state;
    double history[30];
    struct limits_spec spec;
    struct limits limits;
    for (size_t i = 0; i < 30; i++)
        history[i] = 751;
    limits_spec_default(&spec);
    limits_compute(&spec, history, 30, NULL, &limits);
    assert_true(751 * (1 + 1e-12) < limits.upper && 752 > limits.upper);

    spec.resolution = 1; /* the sensor counts in ones: the next count is no alarm, the one after is */
    limits_compute(&spec, history, 30, NULL, &limits);
    assert_true(752 < limits.upper && 753 > limits.upper && 750 > limits.lower && 749 < limits.lower);
    assert_true(rules_z(752, limits.centre, limits.sigma) <= 2);

    spec.resolution = 0;
    spec.sigma_floor = 10;
    limits_compute(&spec, history, 30, NULL, &limits);
    assert_near(limits.upper, 781, 1e-9);
    assert_true(rules_z(1, 0, 0) == RULES_Z_MAX && rules_z(-1, 0, 0) == -RULES_Z_MAX &&
                rules_z(0, 0, 0) == 0);
}

static void robust_limits_shrug_off_what_others_do_not(void **state)
{
    (void)state;
    uint64_t seed = 25;
    double history[100], scratch[100];
    struct limits_spec spec;
    struct limits robust, shewhart;
    for (size_t i = 0; i < 100; i++)
        history[i] = 10 + random_normal(&seed);
    for (size_t i = 0; i < 10; i++)
        history[i * 10] = 1000;
    limits_spec_default(&spec);
    limits_compute(&spec, history, 100, scratch, &shewhart);
    spec.method = LIMITS_ROBUST;
    limits_compute(&spec, history, 100, scratch, &robust);
    assert_near(robust.centre, 10, 0.4);
    assert_near(robust.sigma, 1, 0.4);
    assert_true(shewhart.sigma > 100);
    double five[] = {1, 2, 3, 4, 100}; /* median 3, deviations 2 1 0 1 97: median 1 */
    spec.min_history = 5;
    limits_compute(&spec, five, 5, scratch, &robust);
    assert_near(robust.centre, 3, 0);
    assert_near(robust.sigma, 1.4826022185056018, 1e-15);
}

static void limits_wait_for_history_and_forget_what_is_old(void **state)
{
    (void)state;
    double history[40];
    struct limits_spec spec;
    struct limits limits;
    for (size_t i = 0; i < 40; i++)
        history[i] = i < 20 ? 1000 : (i % 2 ? 9 : 11);
    limits_spec_default(&spec);
    spec.history = 20;
    limits_compute(&spec, history, 19, NULL, &limits);
    assert_true(limits.learning && isnan(limits.centre) && isnan(limits.upper));
    assert_int_equal(limits.history_count, 19);
    limits_compute(&spec, history, 40, NULL, &limits);
    assert_false(limits.learning);
    assert_near(limits.centre, 10, 0);
    assert_int_equal(limits.history_count, 20);
    assert_near(limits.sigma, sqrt(20.0 / 19) / control_c4(20), 1e-12);

    spec.side = LIMITS_UPPER;
    limits_compute(&spec, history, 40, NULL, &limits);
    assert_true(isnan(limits.lower) && limits.upper > 13);

    spec.target = 8; /* a given centre, with the deviation from history */
    limits_compute(&spec, history, 40, NULL, &limits);
    assert_near(limits.centre, 8, 0);
    assert_near(limits.sigma, sqrt(20.0 / 19) / control_c4(20), 1e-12);

    limits_spec_default(&spec);
    spec.method = LIMITS_FIXED;
    spec.lower = 4;
    spec.upper = 10;
    limits_compute(&spec, NULL, 0, NULL, &limits);
    assert_true(limits.centre == 7 && limits.sigma == 1 && !limits.learning && limits.history_count == 0);
}

static void sums_begin_anew_after_an_alarm_unless_told_otherwise(void **state)
{
    (void)state;
    struct rules_spec spec;
    const struct limits limits = {.centre = 0, .sigma = 1, .lower = -3, .upper = 3};
    const double z[] = {0, 0, 50, 0.1, -0.1};
    rules_spec_default(&spec);
    spec.enabled = 1u << RULE_EWMA | 1u << RULE_CUSUM;
    assert_int_equal(rules_fired(&spec, &limits, 0, z, 5, 3), 0);
    spec.ewma_restart = spec.cusum_restart = false;
    assert_int_equal(rules_fired(&spec, &limits, 0, z, 5, 3), 1u << RULE_EWMA | 1u << RULE_CUSUM);
}

static void rules_have_names(void **state)
{
    (void)state;
    for (size_t i = 0; i < RULE_COUNT; i++) {
        assert_non_null(rule_name((enum rule)i));
        assert_true(strlen(rule_description((enum rule)i)) > 5);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(rule_name((enum rule)i), rule_name((enum rule)j));
    }
    assert_null(rule_name(RULE_COUNT));
    assert_string_equal(rule_name(RULE_NELSON_8), "nelson_8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ewma_of_the_nist_handbook),
        cmocka_unit_test(cusum_of_the_nist_handbook),
        cmocka_unit_test(cusum_by_hand),
        cmocka_unit_test(mean_range_and_deviation_charts_of_the_piston_rings),
        cmocka_unit_test(three_groups_of_rings_lie_beyond_the_limits),
        cmocka_unit_test(ewma_of_the_piston_rings),
        cmocka_unit_test(cusum_of_the_piston_rings),
        cmocka_unit_test(viscosity_as_individuals),
        cmocka_unit_test(eight_on_one_side_is_western_electric_nine_is_nelson),
        cmocka_unit_test(every_run_rule_fires_on_its_pattern_and_not_one_short),
        cmocka_unit_test(false_alarms_of_the_rules_are_as_published),
        cmocka_unit_test(run_lengths_are_as_published),
        cmocka_unit_test(a_constant_history_tolerates_rounding_but_no_change),
        cmocka_unit_test(robust_limits_shrug_off_what_others_do_not),
        cmocka_unit_test(limits_wait_for_history_and_forget_what_is_old),
        cmocka_unit_test(sums_begin_anew_after_an_alarm_unless_told_otherwise),
        cmocka_unit_test(rules_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
