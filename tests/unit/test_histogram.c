#include "cmocka_setup.h"

#include "base/histogram.h"

#include <stdlib.h>
#include <string.h>

static int open_histogram(void **state)
{
    *state = calloc(2, sizeof(struct histogram));
    return *state ? 0 : -1;
}

static int close_histogram(void **state)
{
    free(*state);
    return 0;
}

static void an_empty_one_has_no_quantile(void **state)
{
    struct histogram *histogram = *state;
    assert_int_equal(histogram_quantile_ns(histogram, 0.0), 0);
    assert_int_equal(histogram_quantile_ns(histogram, 0.5), 0);
    assert_int_equal(histogram_quantile_ns(histogram, 1.0), 0);
}

static void small_durations_are_exact(void **state)
{
    struct histogram *histogram = *state;
    for (int64_t ns = 0; ns < HISTOGRAM_STEPS; ns++)
        histogram_record(histogram, ns);
    for (int i = 1; i <= HISTOGRAM_STEPS; i++)
        assert_int_equal(histogram_quantile_ns(histogram, (double)i / HISTOGRAM_STEPS), i - 1);
}

/* At every size: no less than what was recorded, and at most 1/32 more. */
static void a_quantile_is_never_too_small_and_at_most_a_step_too_large(void **state)
{
    struct histogram *histogram = *state;
    for (int64_t ns = 1; ns < INT64_C(1) << 43; ns += ns / 7 + 1) {
        memset(histogram, 0, sizeof *histogram);
        histogram_record(histogram, ns);
        histogram_record(histogram, INT64_C(1) << 43); /* so that the maximum does not cut the answer */
        int64_t median = histogram_quantile_ns(histogram, 0.5);
        assert_true(median >= ns);
        assert_true(median - ns <= ns / HISTOGRAM_STEPS);
    }
}

static void buckets_meet_at_their_edges(void **state)
{
    struct histogram *histogram = *state;
    for (int octave = 6; octave < 44; octave++) {
        int64_t edge = INT64_C(1) << octave;
        memset(histogram, 0, sizeof *histogram);
        histogram_record(histogram, edge - 1);
        histogram_record(histogram, edge);
        assert_int_equal(histogram_quantile_ns(histogram, 0.5),
                         edge - 1); /* a bucket's top is its last value */
        assert_int_equal(histogram_quantile_ns(histogram, 1.0), edge);
    }
}

static void quantiles_of_many_are_at_their_ranks(void **state)
{
    struct histogram *histogram = *state;
    int64_t sum = 0;
    for (int64_t i = 1; i <= 1000; i++) {
        histogram_record(histogram, i * 1000);
        sum += i * 1000;
    }
    assert_int_equal(histogram->count, 1000);
    assert_int_equal(histogram->sum_ns, sum);
    assert_int_equal(histogram->max_ns, 1000000);
    static const double fractions[] = {0.001, 0.01, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof fractions / sizeof *fractions; i++) {
        double exact = fractions[i] * 1e6;
        double got = (double)histogram_quantile_ns(histogram, fractions[i]);
        assert_true(got >= exact - 1e-6 && got <= exact * (1 + 1.0 / HISTOGRAM_STEPS));
    }
    assert_int_equal(histogram_quantile_ns(histogram, 1.0), 1000000);
}

static void what_is_out_of_range_is_counted_and_not_understated(void **state)
{
    struct histogram *histogram = *state;
    histogram_record(histogram, -5);
    histogram_record(histogram, INT64_C(1) << 50);
    histogram_record(histogram, INT64_C(1) << 51);
    assert_int_equal(histogram->count, 3);
    assert_int_equal(histogram_quantile_ns(histogram, 0.3), 0);
    assert_int_equal(histogram->sum_ns, (INT64_C(1) << 50) + (INT64_C(1) << 51));
    assert_int_equal(histogram_quantile_ns(histogram, 0.6), INT64_C(1)
                                                                << 51); /* the last bucket has no top */
    assert_int_equal(histogram_quantile_ns(histogram, 1.0), INT64_C(1) << 51);
}

static void adding_is_the_same_as_recording_together(void **state)
{
    struct histogram *parts = *state;
    struct histogram *whole = calloc(1, sizeof *whole);
    assert_non_null(whole);
    for (int64_t i = 0; i < 5000; i++) {
        int64_t ns = (i * 7919) % 10007 * 31;
        histogram_record(&parts[i % 2], ns);
        histogram_record(whole, ns);
    }
    histogram_add(&parts[0], &parts[1]);
    int same = memcmp(&parts[0], whole, sizeof *whole);
    free(whole);
    assert_int_equal(same, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_one_has_no_quantile, open_histogram, close_histogram),
        cmocka_unit_test_setup_teardown(small_durations_are_exact, open_histogram, close_histogram),
        cmocka_unit_test_setup_teardown(a_quantile_is_never_too_small_and_at_most_a_step_too_large,
                                        open_histogram, close_histogram),
        cmocka_unit_test_setup_teardown(buckets_meet_at_their_edges, open_histogram, close_histogram),
        cmocka_unit_test_setup_teardown(quantiles_of_many_are_at_their_ranks, open_histogram,
                                        close_histogram),
        cmocka_unit_test_setup_teardown(what_is_out_of_range_is_counted_and_not_understated, open_histogram,
                                        close_histogram),
        cmocka_unit_test_setup_teardown(adding_is_the_same_as_recording_together, open_histogram,
                                        close_histogram),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
