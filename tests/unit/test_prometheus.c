#include "cmocka_setup.h"

#include "base/clock.h"
#include "base/prometheus.h"

#include <math.h>
#include <string.h>

static void assert_text(struct strbuf *out, const char *expected)
{
    assert_false(out->failed);
    assert_string_equal(out->text, expected);
    strbuf_free(out);
}

static void writes_a_metric_with_labels(void **state)
{
    (void)state;
    struct strbuf out;
    strbuf_init(&out);
    struct prometheus_label labels[] = {{"state", "LEADER"}, {"group", ""}};
    prometheus_begin(&out, "x_total", PROMETHEUS_COUNTER, "What it is.");
    prometheus_add(&out, "x_total", labels, 2, 3);
    prometheus_add(&out, "x_total", NULL, 0, 0.25);
    assert_text(&out, "# HELP x_total What it is.\n# TYPE x_total counter\n"
                      "x_total{state=\"LEADER\",group=\"\"} 3\nx_total 0.25\n");
}

static void escapes_label_values(void **state)
{
    (void)state;
    struct strbuf out;
    strbuf_init(&out);
    struct prometheus_label label = {"version", "a\"b\\c\nd \xC3\xA9"};
    prometheus_add(&out, "x", &label, 1, 1);
    assert_text(&out, "x{version=\"a\\\"b\\\\c\\nd \xC3\xA9\"} 1\n");
}

static void writes_numbers_that_are_read_back(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "x 0\n"},
                 {-1, "x -1\n"},
                 {1e15, "x 1000000000000000\n"},
                 {1764033000.25, "x 1764033000.25\n"},
                 {0.001, "x 0.001\n"},
                 {(double)NAN, "x NaN\n"},
                 {(double)INFINITY, "x +Inf\n"},
                 {-(double)INFINITY, "x -Inf\n"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct strbuf out;
        strbuf_init(&out);
        prometheus_add(&out, "x", NULL, 0, cases[i].value);
        assert_text(&out, cases[i].text);
    }
}

/* Every bucket holds all that lie below its bound; the last one holds all. */
static void writes_cumulative_buckets(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    histogram_record(&histogram, 40 * 1000);             /* within 0.05 ms */
    histogram_record(&histogram, INT64_C(900000));       /* within 1 ms */
    histogram_record(&histogram, INT64_C(4000000000));   /* within 5 s */
    histogram_record(&histogram, INT64_C(100000000000)); /* beyond every bound */
    struct strbuf out;
    strbuf_init(&out);
    prometheus_single_histogram(&out, "t_seconds", "Time.", &histogram);
    assert_false(out.failed);
    assert_non_null(strstr(out.text, "# TYPE t_seconds histogram\n"));
    assert_non_null(strstr(out.text, "t_seconds_bucket{le=\"5e-05\"} 1\n"));
    assert_non_null(strstr(out.text, "t_seconds_bucket{le=\"0.0005\"} 1\n"));
    assert_non_null(strstr(out.text, "t_seconds_bucket{le=\"0.001\"} 2\n"));
    assert_non_null(strstr(out.text, "t_seconds_bucket{le=\"3\"} 2\n"));
    assert_non_null(strstr(out.text, "t_seconds_bucket{le=\"5\"} 3\n"));
    assert_non_null(strstr(out.text, "t_seconds_bucket{le=\"60\"} 3\n"));
    assert_non_null(strstr(out.text, "t_seconds_bucket{le=\"+Inf\"} 4\n"));
    assert_non_null(strstr(out.text, "t_seconds_count 4\n"));
    assert_non_null(strstr(out.text, "t_seconds_sum 104.00094\n"));
    strbuf_free(&out);
}

static void bounds_ascend_and_have_what_alerts_name(void **state)
{
    (void)state;
    static const double named_s[] = {0.001, 0.02, 0.1, 0.5, 1, 1.5, 2, 3, 5, 7, 8, 10, 12, 15};
    for (size_t i = 1; i < PROMETHEUS_BOUNDS; i++)
        assert_true(prometheus_bounds_ns[i] > prometheus_bounds_ns[i - 1]);
    for (size_t k = 0; k < sizeof named_s / sizeof *named_s; k++) {
        bool found = false;
        for (size_t i = 0; i < PROMETHEUS_BOUNDS; i++)
            found |= prometheus_bounds_ns[i] == (int64_t)(named_s[k] * 1e9);
        assert_true(found);
    }
}

static void tells_of_the_process(void **state)
{
    (void)state;
    struct strbuf out;
    strbuf_init(&out);
    prometheus_add_process(&out, 1500000 * CLOCK_US_PER_SECOND);
    assert_false(out.failed);
    assert_non_null(strstr(out.text, "process_start_time_seconds 1500000\n"));
    const char *const names[] = {"\nprocess_cpu_seconds_total ", "\nprocess_resident_memory_bytes ",
                                 "\nprocess_threads ", "\nprocess_open_fds "};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_non_null(strstr(out.text, names[i]));
    strbuf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_a_metric_with_labels),
        cmocka_unit_test(escapes_label_values),
        cmocka_unit_test(writes_numbers_that_are_read_back),
        cmocka_unit_test(writes_cumulative_buckets),
        cmocka_unit_test(bounds_ascend_and_have_what_alerts_name),
        cmocka_unit_test(tells_of_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
