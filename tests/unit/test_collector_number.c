#include "cmocka_setup.h"

#include "collector/number.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double number(const char *text)
{
    double value = 12345.678;
    assert_true(number_parse(text, strlen(text), '.', &value));
    return value;
}

static void numbers_are_rounded_as_strtod_does(void **state)
{
    (void)state;
    static const char *const texts[] = {"0",
                                        "-0",
                                        "1",
                                        "-1.5",
                                        "+2",
                                        ".5",
                                        "5.",
                                        "9007199254740993",
                                        "0.1",
                                        "1e22",
                                        "1e23",
                                        "1e-22",
                                        "1.7976931348623157e308",
                                        "4.9e-324",
                                        "123456789012345678901234567890",
                                        "3.141592653589793238462643383279",
                                        "1E5",
                                        "481637082.333",
                                        "0.000000000000000000000000001",
                                        "92.380952381",
                                        "1e-400",
                                        "18446744073709551616"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        double got = number(texts[i]);
        double expected = strtod(texts[i], NULL);
        assert_memory_equal(&got, &expected, sizeof(got));
    }
}

static void many_random_numbers_read_back_to_the_bit(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252u;
    static const char *const formats[] = {"%.17g", "%.6g", "%.3f", "%.15e"};
    for (int i = 0; i < 200000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        double value;
        memcpy(&value, &seed, sizeof(value));
        if (i % 2 == 0)
            value = (double)(int64_t)seed / 1e13;
        char text[400];
        int length = snprintf(text, sizeof(text), formats[i / 2 % 4], value);
        if (!isfinite(value) || length > 64)
            continue;
        double got = 0;
        double expected = strtod(text, NULL);
        assert_true(number_parse(text, (size_t)length, '.', &got));
        assert_memory_equal(&got, &expected, sizeof(got));
    }
}

static void what_is_no_number(void **state)
{
    (void)state;
    static const char *const texts[] = {"",      "-",      ".",   "e5",  "1e",      "1e+", "1.2.3",
                                        "0x10",  "inf",    "nan", "1 ",  " 1",      "1,5", "--1",
                                        "1e999", "-1e999", "1f",  "+-1", "1e123456"};
    double value;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        assert_false(number_parse(texts[i], strlen(texts[i]), '.', &value));
    char longer[66];
    memset(longer, '1', 65);
    assert_false(number_parse(longer, 65, '.', &value));
    assert_true(number_parse(longer, 64, '.', &value));
}

static void the_locale_does_not_matter(void **state)
{
    (void)state;
    double value;
    /* Where no such locale is installed, this still checks the decimal comma of the file itself. */
    setlocale(LC_ALL, "de_DE.UTF-8");
    assert_true(number_parse("1.5", 3, '.', &value) && value == 1.5);
    assert_true(number_parse("1.2345678901234567890123", 24, '.', &value) &&
                value == 1.2345678901234567890123);
    assert_true(number_parse("1,5", 3, ',', &value) && value == 1.5);
    assert_true(number_parse("1,2345678901234567890123", 24, ',', &value) &&
                value == 1.2345678901234567890123);
    assert_false(number_parse("1.5", 3, ',', &value));
    setlocale(LC_ALL, "C");
}

static int64_t stamp(struct stamp_rule rule, const char *text)
{
    int64_t us = -1;
    assert_true(stamp_parse(&rule, text, strlen(text), &us));
    return us;
}

static bool is_stamp(struct stamp_rule rule, const char *text)
{
    int64_t us;
    return stamp_parse(&rule, text, strlen(text), &us);
}

static void rfc3339_and_what_exporters_make_of_it(void **state)
{
    (void)state;
    struct stamp_rule rule = {.format = STAMP_RFC3339};
    /* Expected values: date -u -d ... +%s */
    assert_int_equal(stamp(rule, "1995-03-06T08:10:11.946Z"), 794477411946000);
    assert_int_equal(stamp(rule, "1995-03-06T17:10:11.946+09:00"), 794477411946000);
    assert_int_equal(stamp(rule, "1995-03-06 08:10:11.946123789"), 794477411946123);
    assert_int_equal(stamp(rule, "1969-12-31T23:59:59Z"), -1000000);
    assert_int_equal(stamp(rule, "2024-02-29T00:00:00-00:30"), 1709166600000000);
    rule.utc_offset_us = INT64_C(9) * 3600 * 1000000;
    assert_int_equal(stamp(rule, "1995-03-06T17:10:11"), 794477411000000);
    assert_int_equal(stamp(rule, "1995-03-06T08:10:11Z"), 794477411000000);
    static const char *const bad[] = {"1995-03-06",
                                      "1995-13-06T08:10:11Z",
                                      "2023-02-29T00:00:00Z",
                                      "1995-03-06T24:10:11Z",
                                      "1995-03-06T08:10:11.",
                                      "1995-03-06T08:10:11X",
                                      "1995-03-06T08:10:11Z ",
                                      "95-03-06T08:10:11Z00",
                                      "1995-03-06T08:10:11+24:00",
                                      "1995-03-06T08:10:11.0123456789Z"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(is_stamp(rule, bad[i]));
}

static void counts_keep_every_microsecond(void **state)
{
    (void)state;
    struct stamp_rule rule = {.format = STAMP_SECONDS, .origin_us = 978307200000000};
    assert_int_equal(stamp(rule, "481637082.333"), 1459944282333000);
    assert_int_equal(stamp(rule, "-0.0000019"), 978307199999999);
    assert_int_equal(stamp(rule, "4.81637082333e8"), 1459944282333000);
    assert_int_equal(stamp(rule, "0.00000049999999999999999999"), 978307200000000);
    assert_false(is_stamp(rule, "1e300"));
    assert_false(is_stamp(rule, "9e18"));
    assert_false(is_stamp(rule, "253402300800"));
    assert_false(is_stamp(rule, "12:00"));
    rule = (struct stamp_rule){.format = STAMP_MS};
    assert_int_equal(stamp(rule, "1700000000123.456"), 1700000000123456);
    rule.format = STAMP_US;
    assert_int_equal(stamp(rule, "1700000000123456"), 1700000000123456);
    rule.format = STAMP_NS;
    assert_int_equal(stamp(rule, "1700000000123456789"), 1700000000123456);
    rule = (struct stamp_rule){.format = STAMP_SECONDS, .decimal = ','};
    assert_int_equal(stamp(rule, "1,5"), 1500000);
}

static void the_first_value_tells_the_format(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum stamp_format format;
    } cases[] = {{"1995-03-06T08:10:11.946Z", STAMP_RFC3339},
                 {"1700000000.5", STAMP_SECONDS},
                 {"1700000000123", STAMP_MS},
                 {"1700000000123456", STAMP_US},
                 {"1700000000123456789", STAMP_NS}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct stamp_rule rule = {.format = STAMP_AUTO};
        assert_true(stamp_resolve(&rule, cases[i].text, strlen(cases[i].text)));
        assert_int_equal(rule.format, cases[i].format);
    }
    struct stamp_rule rule = {.format = STAMP_AUTO};
    assert_false(stamp_resolve(&rule, "12.5", 4));
    rule.format = STAMP_AUTO;
    assert_false(stamp_resolve(&rule, "06/03/1995", 10));
}

static void patterns_read_what_strptime_reads(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        int64_t us;
    } cases[] = {{"%d.%m.%Y %H:%M:%S", "06.03.1995 08:10:11", 794477411000000},
                 {"%m/%d/%y %I:%M:%S.%f %p", "3/6/95 08:10:11.946 AM", 794477411946000},
                 {"%m/%d/%Y %I:%M:%S %p", "03/06/1995 12:10:11 am", 794448611000000},
                 {"%m/%d/%Y %I:%M:%S %p", "03/06/1995 12:10:11 PM", 794491811000000},
                 {"%d-%b-%Y %H:%M:%S%z", "06-Mar-1995 10:10:11+0200", 794477411000000},
                 {"%Y%j %H%M%S", "1995065 081011", 794477411000000},
                 {"%Y-%m-%d 100%%", "1970-01-02 100%", 86400000000}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct stamp_rule rule = {.format = STAMP_PATTERN, .pattern = cases[i].pattern};
        assert_int_equal(stamp_check_pattern(cases[i].pattern, NULL), 0);
        assert_int_equal(stamp(rule, cases[i].text), cases[i].us);
    }
    struct stamp_rule rule = {.format = STAMP_PATTERN, .pattern = "%d.%m.%Y"};
    assert_false(is_stamp(rule, "31.02.1995"));
    assert_false(is_stamp(rule, "1.2.1995 "));
    assert_false(is_stamp(rule, "1.2"));
    struct error err;
    assert_int_equal(stamp_check_pattern("%Y-%m-%d %Q", &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "%Q"));
    assert_int_equal(stamp_check_pattern("%H:%M:%S", &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "no year"));
    assert_int_equal(stamp_check_pattern("%Y-%m-%d %", &err), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_rounded_as_strtod_does),
        cmocka_unit_test(many_random_numbers_read_back_to_the_bit),
        cmocka_unit_test(what_is_no_number),
        cmocka_unit_test(the_locale_does_not_matter),
        cmocka_unit_test(rfc3339_and_what_exporters_make_of_it),
        cmocka_unit_test(counts_keep_every_microsecond),
        cmocka_unit_test(the_first_value_tells_the_format),
        cmocka_unit_test(patterns_read_what_strptime_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
