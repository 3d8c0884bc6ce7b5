#include "cmocka_setup.h"

#include "collector/mapping.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct mapping *parse(const char *text)
{
    struct mapping *mapping = NULL;
    struct error err = {.text = ""};
    if (mapping_parse("m.yaml", text, strlen(text), &mapping, &err) != 0)
        fail_msg("%s", err.text);
    return mapping;
}

static void shipped_mappings_are_read(void **state)
{
    (void)state;
    struct mapping *mapping = NULL;
    struct error err;
    assert_int_equal(mapping_load(PROJECT_ROOT "/data/mappings/lam9600.yaml", &mapping, &err), 0);
    assert_string_equal(mapping->name, "lam9600");
    assert_string_equal(mapping->time_column, "time");
    assert_int_equal(mapping->time.format, STAMP_RFC3339);
    assert_int_equal(mapping->quality.step_set_count, 1);
    assert_true(mapping->quality.step_sets[0].steps[1] == 5);
    assert_true(mapping_fits(mapping, "l2901.csv.gz"));
    assert_false(mapping_fits(mapping, "runs.csv"));
    mapping_free(mapping);

    assert_int_equal(mapping_load(PROJECT_ROOT "/data/mappings/phm2016_cmp.yaml", &mapping, &err), 0);
    assert_int_equal(mapping->delimiter, '\t');
    assert_int_equal(mapping->time.origin_us, 978307200000000);
    assert_int_equal(mapping->quality.max_gap_us, 60000000);
    assert_int_equal(mapping->quality.step_set_count, 2);
    assert_int_equal(mapping->names[MAPPING_CHAMBER].value_count, 6);
    assert_int_equal(mapping->except_count, 1);
    mapping_free(mapping);
    assert_int_equal(mapping_load("/nowhere/x.yaml", &mapping, &err), ERR_NOT_FOUND);
}

static void every_key_is_read(void **state)
{
    (void)state;
    struct mapping *m =
        parse("name: all\n"
              "description: of them\n"
              "files: 'x*.csv'\n"
              "delimiter: semicolon\n"
              "decimal: ','\n"
              "skip_lines: 3\n"
              "context: '{A}'\n"
              "tool: T\n"
              "chamber: {text: '{B}', values: {x: y}}\n"
              "recipe: R\nlot: L\nwafer: W\n"
              "attributes: {product: '{P}'}\n"
              "time: {column: t, pattern: '%d.%m.%Y %H:%M:%S', utc_offset: '+09:00'}\n"
              "step: {column: phase, values: {ETCH: 4, STRIP: 5.5}}\n"
              "sensors: [p, {column: q, as: Flow}]\n"
              "missing: ['#N/A']\n"
              "quality: {min_samples: 3, tail_cut_samples: 0, max_gap_s: 1.5, max_bad_fraction: 0.5, "
              "steps: [[4], [5.5]]}\n");
    assert_int_equal(m->delimiter, ';');
    assert_int_equal(m->decimal, ',');
    assert_int_equal(m->time.decimal, ',');
    assert_int_equal(m->skip_lines, 3);
    assert_int_equal(m->time.format, STAMP_PATTERN);
    assert_int_equal(m->time.utc_offset_us, INT64_C(9) * 3600 * 1000000);
    assert_true(m->step_values[1].to == 5.5);
    assert_false(m->all_sensors);
    assert_string_equal(m->sensors[1].column, "q");
    assert_string_equal(m->sensors[1].name, "Flow");
    assert_string_equal(m->missing[0], "#N/A");
    assert_int_equal(m->quality.min_samples, 3);
    assert_int_equal(m->quality.tail_cut_samples, 0);
    assert_int_equal(m->quality.max_gap_us, 1500000);
    assert_string_equal(m->attributes[0].name, "product");
    mapping_free(m);
    m = parse("time: {column: t, format: seconds, origin: {column: s, format: rfc3339}}\nsensors: {except: "
              "[a], rename: "
              "{b: c}}\n");
    assert_int_equal(m->origin, ORIGIN_COLUMN);
    assert_string_equal(m->origin_column, "s");
    assert_true(m->all_sensors);
    assert_string_equal(m->sensors[0].name, "c");
    mapping_free(m);
}

static void errors_say_where_and_what_is_allowed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *where, *what;
    } cases[] = {
        {"time: t\ntol: x\n", "m.yaml:2:1: ", "it can have context, tool, chamber"},
        {"time: t\ntime: u\n", "m.yaml:2:1: ", "time is given twice"},
        {"tool: x\n", "m.yaml:1:1: ", "needs the key time"},
        {"", "m.yaml: ", "empty"},
        {"- a\n", "m.yaml:1:1: ", "table"},
        {"time: {column: [\n", "m.yaml:2:1: ", "no YAML"},
        {"time: t\ntool: '{A'\n", "m.yaml:2:7: ", "never closed"},
        {"time: t\ntool: 'A}'\n", "m.yaml:2:7: ", "not opened"},
        {"time: t\ntool: '{A:hex}'\n", "m.yaml:2:7: ", "\"hex\" is no format"},
        {"time: t\ntool: '{}'\n", "m.yaml:2:7: ", "name no column"},
        {"time: t\ntool: {values: {a: b}}\n", "m.yaml:2:7: ", "needs the key text"},
        {"time: {column: t, format: iso}\n", "m.yaml:1:27: ", "rfc3339, seconds"},
        {"time: {column: t, pattern: '%H'}\n", "m.yaml:1:28: ", "no year"},
        {"time: {format: us}\n", "m.yaml:1:7: ", "needs the key column"},
        {"time: {column: t, origin: '2001-01-01T00:00:00Z'}\n", "m.yaml:1:7: ", "origin goes with"},
        {"time: {column: t, format: seconds, origin: 2001}\n", "m.yaml:1:44: ", "date and time"},
        {"time: {column: t, utc_offset: Tokyo}\n", "m.yaml:1:31: ", "+09:00"},
        {"time: t\ndelimiter: x\n", "m.yaml:2:12: ", "comma, tab"},
        {"time: t\nsensors: []\n", "m.yaml:2:10: ", "empty list"},
        {"time: t\nsensors: [{as: x}]\n", "m.yaml:2:11: ", "needs the key column"},
        {"time: t\nquality: {min_samples: -1}\n", "m.yaml:2:24: ", "from 0"},
        {"time: t\nquality: {min_samples: 1.5}\n", "m.yaml:2:24: ", "whole number"},
        {"time: t\nquality: {steps: [a]}\n", "m.yaml:2:19: ", "a step must be a number"},
        {"time: t\nquality: {steps: []}\n", "m.yaml:2:18: ", "empty list"},
        {"time: t\nquality: {minimum: 3}\n", "m.yaml:2:11: ", "min_samples"},
        {"time: t\nattributes: {label: '{L}'}\n", "m.yaml:2:14: ", "label"},
        {"time: t\nstep: {values: {A: b}, column: x}\n", "m.yaml:2:16: ", "\"A\" must be given a number"},
        {"time: t\nskip_lines: many\n", "m.yaml:2:13: ", "number"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mapping *mapping = NULL;
        struct error err = {.text = ""};
        int code = mapping_parse("m.yaml", cases[i].text, strlen(cases[i].text), &mapping, &err);
        if (code != ERR_INVALID || strncmp(err.text, cases[i].where, strlen(cases[i].where)) != 0 ||
            strstr(err.text, cases[i].what) == NULL)
            fail_msg("%s gave %s: %s", cases[i].text, error_name(code), err.text);
        assert_null(mapping);
    }
}

/* A row of two columns. */
static const char *lookup(void *arg, const char *column)
{
    const char *const *cells = arg;
    return strcmp(column, "A") == 0 ? cells[0] : strcmp(column, "B:C") == 0 ? cells[1] : NULL;
}

static void texts_are_rendered(void **state)
{
    (void)state;
    static const struct {
        const char *text, *a, *b, *result;
    } cases[] = {{"x-{A}-{{y}}", "1", "", "x-1-{y}"},
                 {"{A:int}", "1.0", "", "1"},
                 {"{A:int}", "-411351e4", "", "-4113510000"},
                 {"{A:03}/{B:C:lower}", "7", "ÄBC", "007/Äbc"},
                 {"{B:C:upper}", "", "pm1", "PM1"},
                 {"{@file}+{@dir}", "", "", "l1+lam"},
                 {"{A}", "", "", ""}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char yaml[200];
        snprintf(yaml, sizeof(yaml), "time: t\ntool: '%s'\n", cases[i].text);
        struct mapping *mapping = parse(yaml);
        const char *cells[] = {cases[i].a, cases[i].b};
        struct strbuf out;
        struct error err;
        strbuf_init(&out);
        assert_int_equal(
            mapping_text_render(&mapping->names[MAPPING_TOOL], lookup, cells, "l1", "lam", &out, &err), 0);
        assert_string_equal(out.text, cases[i].result);
        strbuf_free(&out);
        mapping_free(mapping);
    }
}

static void values_replace_whole_texts(void **state)
{
    (void)state;
    struct mapping *mapping = parse("time: t\ntool: {text: '{A:int}', values: {'1': '1-3', '10': x}}\n");
    static const char *const in[] = {"1.0", "10", "2"};
    static const char *const out[] = {"1-3", "x", "2"};
    for (size_t i = 0; i < 3; i++) {
        const char *cells[] = {in[i], ""};
        struct strbuf text;
        strbuf_init(&text);
        assert_int_equal(
            mapping_text_render(&mapping->names[MAPPING_TOOL], lookup, cells, "", "", &text, NULL), 0);
        assert_string_equal(text.text, out[i]);
        strbuf_free(&text);
    }
    const char *cells[] = {"1.5", ""};
    struct strbuf text;
    struct error err;
    strbuf_init(&text);
    assert_int_equal(mapping_text_render(&mapping->names[MAPPING_TOOL], lookup, cells, "", "", &text, &err),
                     ERR_INVALID);
    assert_non_null(strstr(err.text, "\"1.5\""));
    strbuf_free(&text);
    mapping_free(mapping);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_mappings_are_read),
        cmocka_unit_test(every_key_is_read),
        cmocka_unit_test(errors_say_where_and_what_is_allowed),
        cmocka_unit_test(texts_are_rendered),
        cmocka_unit_test(values_replace_whole_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
