#include "cmocka_setup.h"

#include "web/thin.h"

#include <math.h>
#include <stdlib.h>

enum { COUNT = 10000, PIXELS = 50 };

static void a_short_trace_stays_whole(void **state)
{
    (void)state;
    const int64_t times[] = {0, 10, 20};
    const double values[] = {1, (double)NAN, 3};
    size_t kept[3];
    assert_int_equal(thin_trace(times, values, 3, 0, 20, 16, kept), 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(kept[i], i);
}

/* A single sample that stands out is what a fault looks like: it must never be thinned away. */
static void each_stretch_keeps_its_extremes(void **state)
{
    (void)state;
    int64_t *times = calloc(COUNT, sizeof *times);
    double *values = calloc(COUNT, sizeof *values);
    size_t kept[2 * PIXELS];
    for (size_t i = 0; i < COUNT; i++) {
        times[i] = (int64_t)i * 1000;
        values[i] = sin((double)i / 300);
    }
    values[4321] = 100;
    values[4325] = -100;
    values[COUNT - 1] = 50;
    size_t count = thin_trace(times, values, COUNT, 0, (COUNT - 1) * 1000, PIXELS, kept);
    assert_true(count <= 2 * PIXELS && count > PIXELS);
    for (size_t pixel = 0; pixel < PIXELS; pixel++) {
        double least = (double)INFINITY, greatest = -(double)INFINITY, kept_least = least,
               kept_greatest = greatest;
        for (size_t i = 0; i < COUNT; i++)
            if ((size_t)((double)times[i] / (double)times[COUNT - 1] * PIXELS) == pixel) {
                least = fmin(least, values[i]);
                greatest = fmax(greatest, values[i]);
            }
        for (size_t k = 0; k < count; k++)
            if ((size_t)((double)times[kept[k]] / (double)times[COUNT - 1] * PIXELS) == pixel) {
                kept_least = fmin(kept_least, values[kept[k]]);
                kept_greatest = fmax(kept_greatest, values[kept[k]]);
            }
        if (pixel < PIXELS - 1) { /* the very last sample falls to the last stretch */
            assert_true(kept_least == least);
            assert_true(kept_greatest == greatest);
        }
    }
    assert_int_equal(kept[count - 1], COUNT - 1);
    for (size_t k = 1; k < count; k++)
        assert_true(kept[k] > kept[k - 1]);
    free(times);
    free(values);
}

static void a_gap_stays_a_gap(void **state)
{
    (void)state;
    int64_t times[400];
    double values[400];
    size_t kept[40];
    for (size_t i = 0; i < 400; i++) {
        times[i] = (int64_t)i;
        values[i] = i >= 100 && i < 200 ? (double)NAN : 1.0 + (double)(i % 7);
    }
    size_t count = thin_trace(times, values, 400, 0, 399, 20, kept), missing = 0;
    for (size_t k = 0; k < count; k++)
        missing += isnan(values[kept[k]]) ? 1 : 0;
    assert_true(missing >= 4 && missing <= 6); /* one a stretch that has nothing else */
}

static void samples_outside_the_run_are_kept_within_bounds(void **state)
{
    (void)state;
    int64_t times[200];
    double values[200];
    size_t kept[32];
    for (size_t i = 0; i < 200; i++) {
        times[i] = (int64_t)i - 50; /* begins before, ends after */
        values[i] = (double)i;
    }
    size_t count = thin_trace(times, values, 200, 0, 60, 16, kept);
    assert_true(count <= 32);
    assert_int_equal(kept[0], 0);
    assert_int_equal(kept[count - 1], 199);
    assert_true(thin_trace(times, values, 200, 60, 0, 16, kept) <= 32); /* a run without length */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_short_trace_stays_whole),
        cmocka_unit_test(each_stretch_keeps_its_extremes),
        cmocka_unit_test(a_gap_stays_a_gap),
        cmocka_unit_test(samples_outside_the_run_are_kept_within_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
