/* What the commands draw and write: control charts, tables, JSON, verdicts in words. */
#include "cmocka_setup.h"

#include "chart/rules.h"
#include "base/json_writer.h"
#include "cli/table.h"
#include "cli/terminal_chart.h"
#include "view/verdict_text.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static struct terminal_chart_point point(double value, bool alarmed)
{
    return (struct terminal_chart_point){
        .value = value, .centre = 10, .lower = 7, .upper = 13, .alarmed = alarmed};
}

static void draw(const struct terminal_chart_point *points, size_t count, size_t columns, size_t rows,
                 bool ascii, struct strbuf *out)
{
    struct error err;
    struct terminal_chart_style style = {.columns = columns, .rows = rows, .ascii = ascii};
    strbuf_init(out);
    assert_int_equal(terminal_chart_draw(points, count, &style, out, &err), 0);
}

static size_t count_of(const char *text, const char *part)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, part)) != NULL; at += strlen(part))
        count++;
    return count;
}

static void chart_shows_values_between_their_limits(void **state)
{
    (void)state;
    const struct terminal_chart_point points[] = {point(10, false), point(12, false), point(8, false),
                                                  point(14, true), point(10, false)};
    struct strbuf out;
    draw(points, 5, 30, 4, true, &out);
    /* 7 to 14 and 4 % of that on each side: 1.89 a row. 18 columns for 5 points: at 0, 4, 9, 13 and 17. */
    assert_string_equal(out.text, "    13.335 |.............X....\n"
                                  "           |    o\n"
                                  "           |o----------------o\n"
                                  "     7.665 |.........o........\n");
    strbuf_free(&out);
}

static void chart_in_unicode_connects_values_and_marks_alarms(void **state)
{
    (void)state;
    const struct terminal_chart_point points[] = {point(8, false), point(14, true), point(10, false)};
    struct strbuf out;
    draw(points, 3, 40, 8, false, &out);
    assert_int_equal(count_of(out.text, "\u2716"), 1);
    assert_int_equal(count_of(out.text, "\n"), 8);
    assert_true(count_of(out.text, "\u2500") > 10);
    assert_true(count_of(out.text, "\u254c") > 20);
    /* The stroke from 8 to 14 passes through every row between them. */
    size_t rows_with_dots = 0;
    for (const char *line = out.text; *line; line = strchr(line, '\n') + 1) {
        size_t length = strcspn(line, "\n");
        bool dots = false;
        for (size_t i = 0; i + 2 < length; i++)
            dots |= (unsigned char)line[i] == 0xE2 && (unsigned char)line[i + 1] >= 0xA0 &&
                    (unsigned char)line[i + 1] <= 0xA3;
        rows_with_dots += dots;
    }
    assert_true(rows_with_dots >= 6);
    strbuf_free(&out);
}

static void chart_leaves_a_gap_where_there_is_no_value(void **state)
{
    (void)state;
    struct terminal_chart_point points[3] = {point(10, false), point(NAN, false), point(10, false)};
    for (int i = 0; i < 3; i++)
        points[i].centre = points[i].lower = points[i].upper = NAN;
    struct strbuf out;
    draw(points, 3, 30, 4, false, &out);
    size_t dotted = 0;
    for (const char *at = out.text; *at; at++)
        dotted +=
            (unsigned char)at[0] == 0xE2 && (unsigned char)at[1] >= 0xA0 && (unsigned char)at[1] <= 0xA3;
    assert_int_equal(dotted, 2); /* two points and no stroke between them */
    strbuf_free(&out);
}

/* One fault far out must not press everything else into one row. */
static void chart_draws_values_far_out_as_arrows(void **state)
{
    (void)state;
    const struct terminal_chart_point points[] = {point(10, false), point(1e9, true), point(10, false),
                                                  point(-1e9, true)};
    struct strbuf out;
    draw(points, 4, 40, 10, true, &out);
    assert_int_equal(count_of(out.text, "^"), 1);
    assert_int_equal(count_of(out.text, "v"), 1);
    assert_int_equal(count_of(out.text, "o"), 2);
    assert_true(strchr(out.text, '^') < strchr(out.text, '\n'));
    strbuf_free(&out);
}

static void chart_stays_within_its_columns(void **state)
{
    (void)state;
    struct terminal_chart_point points[1000];
    for (int i = 0; i < 1000; i++)
        points[i] = point(10 + sin(i / 20.0) * 2, i == 500);
    for (size_t columns = 1; columns < 500; columns += 7) {
        struct strbuf out;
        draw(points, 1000, columns, columns % 40, columns % 2 == 0, &out);
        size_t most = columns < TERMINAL_CHART_MIN_COLUMNS   ? TERMINAL_CHART_MIN_COLUMNS
                      : columns > TERMINAL_CHART_MAX_COLUMNS ? TERMINAL_CHART_MAX_COLUMNS
                                                             : columns;
        char *rest = NULL;
        for (char *line = strtok_r(out.text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
            assert_true(table_text_width(line) <= most);
        strbuf_free(&out);
    }
}

static void chart_bears_any_number(void **state)
{
    (void)state;
    const double odd[] = {0, -0.0, 1e308, -1e308, 5e-324, INFINITY, -INFINITY, NAN, 1};
    const size_t count = sizeof odd / sizeof *odd;
    for (size_t a = 0; a < count; a++)
        for (size_t b = 0; b < count; b++)
            for (size_t c = 0; c < count; c++) {
                const struct terminal_chart_point points[] = {
                    {.value = odd[a], .centre = odd[b], .lower = odd[c], .upper = odd[b]},
                    {.value = odd[c], .centre = odd[a], .lower = odd[b], .upper = odd[c], .alarmed = true}};
                struct strbuf out;
                draw(points, 2, 30, 5, a % 2 == 0, &out);
                assert_true(out.length > 0);
                strbuf_free(&out);
            }
}

static void chart_without_values_says_so(void **state)
{
    (void)state;
    const struct terminal_chart_point points[] = {point(NAN, false), point(NAN, false)};
    struct strbuf out;
    draw(points, 2, 80, 10, false, &out);
    assert_string_equal(out.text, "(no value to draw)\n");
    strbuf_free(&out);
    draw(NULL, 0, 80, 10, false, &out);
    assert_string_equal(out.text, "(no value to draw)\n");
    strbuf_free(&out);
}

static void table_aligns_its_columns(void **state)
{
    (void)state;
    static const struct table_column columns[] = {{"name", false}, {"value", true}, {"rule", false}};
    struct table table;
    struct strbuf out;
    strbuf_init(&out);
    table_init(&table, columns, 3);
    table_add(&table, "Dr\u00fcck"); /* counted in characters, not in bytes */
    table_add_number(&table, 1.5);
    table_add(&table, NULL);
    table_add(&table, "a\033[31m\nb");
    table_add_number(&table, NAN);
    table_addf(&table, "%s", "limits");
    table_format(&table, 2, &out);
    assert_string_equal(out.text, "  name      value  rule\n"
                                  "  Dr\u00fcck       1.5\n"
                                  "  a?[31m?b      -  limits\n");
    assert_int_equal(table_rows(&table), 2);
    table_free(&table);
    strbuf_free(&out);
}

static void json_is_json(void **state)
{
    (void)state;
    struct strbuf out;
    struct json_writer json = {.out = &out};
    strbuf_init(&out);
    json_begin_object(&json, NULL);
    json_add_text(&json, "text", "a\"b");
    json_add_text(&json, "none", NULL);
    json_begin_array(&json, "empty");
    json_end_array(&json);
    json_begin_array(&json, "list");
    json_add_integer(&json, NULL, -1);
    json_begin_object(&json, NULL);
    json_end_object(&json);
    json_add_double(&json, NULL, 0.1);
    json_add_double(&json, NULL, NAN);
    json_end_array(&json);
    json_add_size(&json, "size", 7);
    json_add_bool(&json, "yes", true);
    json_add_id(&json, "id", 255);
    json_add_time(&json, "at", 0);
    json_add_raw(&json, "raw", "{\"a\":1}");
    json_end_object(&json);
    assert_string_equal(
        out.text, "{\"text\":\"a\\\"b\",\"none\":null,\"empty\":[],\"list\":[-1,{},0.1,null],\"size\":7,"
                  "\"yes\":true,\"id\":\"00000000000000ff\",\"at\":\"1970-01-01T00:00:00Z\","
                  "\"raw\":{\"a\":1}}");
    json_t *read = json_loads(out.text, 0, NULL);
    assert_non_null(read);
    json_decref(read);
    strbuf_free(&out);
}

static void ratio_is_the_distance_in_half_widths(void **state)
{
    (void)state;
    struct uchart_point p = {.value = 14, .centre = 10, .lower = 9, .upper = 12};
    assert_float_equal(verdict_ratio(&p), 2.0, 0); /* the side on which the value lies */
    p.value = 8;
    assert_float_equal(verdict_ratio(&p), 2.0, 0);
    p.value = 12;
    assert_float_equal(verdict_ratio(&p), 1.0, 0);
    p = (struct uchart_point){.value = 4, .centre = 10, .lower = NAN, .upper = 12};
    assert_float_equal(verdict_ratio(&p), 3.0, 0); /* one-sided limits */
    p = (struct uchart_point){.value = 10, .centre = 10, .lower = 10, .upper = 10};
    assert_float_equal(verdict_ratio(&p), 0.0, 0);
    p.value = 11;
    assert_true(isinf(verdict_ratio(&p)));
    p = (struct uchart_point){.value = 11, .centre = NAN, .lower = 1, .upper = 2};
    assert_true(isnan(verdict_ratio(&p)));
    p = (struct uchart_point){.value = NAN, .centre = 1, .lower = 0, .upper = 2};
    assert_true(isnan(verdict_ratio(&p)));
}

/* The chart file's own words come back. */
static void charts_are_told_in_words(void **state)
{
    (void)state;
    static const char yaml[] =
        "charts:\n"
        "  - {name: a, recipe: '*', equation: mean(P), limits: {method: shewhart, sigma: 3, history: 50,"
        " min_history: 10}, rules: [limits, western_electric, nelson_3], severity: critical}\n"
        "  - {name: b, recipe: '*', equation: mean(P), limits: {fixed: {lower: 1, upper: 2.5}}, rules: "
        "[limits],"
        " severity: info}\n"
        "  - {name: c, recipe: '*', equation: mean(P), limits: {method: robust, side: upper}, rules: "
        "[nelson],"
        " severity: warning}\n";
    struct chart_set *set;
    struct error err;
    struct strbuf out;
    strbuf_init(&out);
    assert_int_equal(chart_set_parse(yaml, sizeof yaml - 1, "f.yaml", &set, NULL, &err), 0);
    for (size_t i = 0; i < 3; i++) {
        verdict_add_limits(&chart_set_at(set, i)->limits, &out);
        strbuf_add(&out, " | ");
        verdict_add_chart_rules(chart_set_at(set, i), &out);
        strbuf_add_char(&out, '\n');
    }
    assert_string_equal(out.text,
                        "mean +- 3 sigma of the last 50 (10 at least) | limits, western_electric, nelson_3\n"
                        "fixed 1 to 2.5 | limits\n"
                        "median + 3 sigma of the last 100 (20 at least) | nelson\n");
    strbuf_free(&out);
    chart_set_free(set);
}

static void rules_are_named(void **state)
{
    (void)state;
    struct strbuf out;
    strbuf_init(&out);
    verdict_add_rules(1u << RULE_LIMITS | 1u << RULE_NELSON_3 | 1u << RULE_CUSUM, &out);
    assert_string_equal(out.text, "limits, nelson_3, cusum");
    strbuf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chart_shows_values_between_their_limits),
        cmocka_unit_test(chart_in_unicode_connects_values_and_marks_alarms),
        cmocka_unit_test(chart_leaves_a_gap_where_there_is_no_value),
        cmocka_unit_test(chart_draws_values_far_out_as_arrows),
        cmocka_unit_test(chart_stays_within_its_columns),
        cmocka_unit_test(chart_bears_any_number),
        cmocka_unit_test(chart_without_values_says_so),
        cmocka_unit_test(table_aligns_its_columns),
        cmocka_unit_test(json_is_json),
        cmocka_unit_test(ratio_is_the_distance_in_half_widths),
        cmocka_unit_test(charts_are_told_in_words),
        cmocka_unit_test(rules_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
