#include "cmocka_setup.h"

#include "import_recorder.h"

#include "base/clock.h"
#include "collector/csv.h"
#include "collector/import.h"
#include "collector/quality.h"
#include "collector/tracefile.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static const struct import_column *find_column(const struct import_context *context, const char *name)
{
    for (size_t i = 0; i < context->column_count; i++)
        if (strcmp(context->columns[i].name, name) == 0)
            return &context->columns[i];
    fail_msg("no column %s", name);
    return NULL;
}

static const struct import_context *find_context(const struct recorder *recorder, const char *id)
{
    for (size_t i = 0; i < recorder->count; i++)
        if (strcmp(recorder->contexts[i].context.id, id) == 0)
            return &recorder->contexts[i];
    fail_msg("no context %s", id);
    return NULL;
}

static double sum(const struct import_context *context, const char *column)
{
    double total = 0;
    const struct import_column *found = find_column(context, column);
    for (size_t i = 0; i < context->sample_count; i++)
        total += found->value[i];
    return total;
}

/* Reads text by a mapping given as YAML (NULL: the default, with the names of `run`). */
static int read_text(struct recorder *recorder, const char *yaml, const char *text)
{
    struct mapping *mapping = NULL;
    struct error err;
    const char *const names[] = {"t1", "TOOL", "PM1", "R", "L", "W", "", "", ""};
    struct runs runs = {.file = "runs.csv"};
    struct runs_row run = {.line = 2};
    memcpy(run.field, names, sizeof(names));
    if (yaml == NULL)
        mapping = mapping_default();
    else
        assert_int_equal(mapping_parse("m.yaml", yaml, strlen(yaml), &mapping, &err), 0);
    struct tracefile_options options = {
        .mapping = mapping, .runs = yaml == NULL ? &runs : NULL, .run = yaml == NULL ? &run : NULL};
    struct import_sink sink = recorder_sink(recorder);
    int code = tracefile_read_bytes("dir/t1.csv", text, strlen(text), &options, &sink, &recorder->summary,
                                    &recorder->err);
    mapping_free(mapping);
    return code;
}

/* A text of `count` good samples, one a second from 1970-01-12 on, value = number. */
static void add_samples(struct strbuf *text, int from, int count)
{
    for (int i = from; i < from + count; i++)
        strbuf_printf(text, "%d,%d\n", 1000000000 + i, i);
}

/* Reads "time,p", `before` samples, `middle`, `after` samples; returns the only context. */
static const struct import_context *read_with(struct recorder *recorder, int before, const char *middle,
                                              int after)
{
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "time,p\n");
    add_samples(&text, 0, before);
    strbuf_add(&text, middle);
    add_samples(&text, before, after);
    assert_int_equal(read_text(recorder, NULL, text.text), 0);
    strbuf_free(&text);
    assert_int_equal(recorder->count, 1);
    return &recorder->contexts[0];
}

static bool told(const struct recorder *recorder, const char *text)
{
    return strstr(recorder->reports.text, text) != NULL;
}

/* --- the two sets --- */

static void every_lam_wafer_as_counted_by_hand(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    struct import_sink sink = recorder_sink(recorder);
    struct mapping *mapping = NULL;
    struct error err;
    assert_int_equal(mapping_load(PROJECT_ROOT "/data/mappings/lam9600.yaml", &mapping, &err), 0);
    assert_int_equal(import_path(PROJECT_ROOT "/data/lam9600", mapping, &sink, &recorder->summary, &err), 0);
    assert_int_equal(recorder->count, 86);
    assert_int_equal(recorder->summary.samples_tail_cut, 86);
    assert_int_equal(recorder->summary.rows, recorder->summary.samples + 86);

    struct csv_reader *reader = NULL;
    struct csv_row row;
    assert_int_equal(csv_open(TEST_DATA "/import/lam9600_expected.csv", NULL, &reader, &err), 0);
    assert_int_equal(csv_next(reader, &row, &err), 1);
    size_t i = 0;
    while (csv_next(reader, &row, &err) == 1) {
        const struct import_context *context = &recorder->contexts[i++]; /* the order of runs.csv */
        char stamp[CLOCK_RFC3339_BYTES];
        assert_string_equal(context->context.id, row.fields[0].text);
        assert_int_equal(context->sample_count, strtoul(row.fields[1].text, NULL, 10));
        assert_string_equal(clock_format_rfc3339(context->context.start_us, stamp), row.fields[2].text);
        assert_string_equal(clock_format_rfc3339(context->context.end_us, stamp), row.fields[3].text);
        assert_true(fabs(sum(context, "Pressure") - strtod(row.fields[5].text, NULL)) < 1e-6);
        assert_true(find_column(context, "Vat_Valve")->value[context->sample_count - 1] ==
                    strtod(row.fields[6].text, NULL));
        assert_int_equal(context->column_count, 20);
        assert_string_equal(context->columns[19].name, "step");
        assert_int_equal(context->context.svid_count, 20);
        assert_int_equal(context->context.point_count, 20 * context->sample_count);
        assert_null(strstr(context->context.extra_json, "fault"));
        assert_null(strstr(context->context.extra_json, "label"));
        assert_int_equal(context_is_low_quality(&context->context), context->low_quality);
        /* All but one are good history, although nearly all lost their last sample. */
        assert_int_equal(context->low_quality, strcmp(context->context.id, "l3125") == 0);
    }
    assert_int_equal(i, 86);
    csv_close(reader);
    const struct import_context *stub = find_context(recorder, "l3125");
    assert_int_equal(stub->sample_count, 2);
    assert_string_equal(stub->context.extra_json,
                        "{\"quality\":\"low\",\"quality_reasons\":[\"too_few: 2 of at least 10 samples\","
                        "\"missing_step: 5\"],\"quality_notes\":[\"tail_cut: 1, first at line 4\"]}");
    assert_int_equal(find_context(recorder, "l3122")->sample_count, 55);
    assert_string_equal(recorder->contexts[0].context.lot, "exp29");
    assert_string_equal(recorder->contexts[0].context.wafer, "1");
    mapping_free(mapping);
    recorder_free(recorder);
}

static void many_contexts_of_one_file_in_the_order_of_their_ends(void **state)
{
    (void)state;
    /* Expected values: computed from the file in Python; TIMESTAMP + 978307200 (2001-01-01). */
    static const struct {
        const char *id, *chamber, *recipe;
        size_t samples;
        int64_t start_us, end_us;
        double rotation;
    } expected[] = {
        {"cmp_-4113511818_A", "4-6", "CMP_STAGE_A", 356, 1459941609667000, 1459941983667000,
         4999.76744185858},
        {"cmp_-4224160580_B", "4-6", "CMP_STAGE_B", 350, 1459942933333000, 1459943300333000,
         5102.32558139339},
        {"cmp_371447024_A", "1-3", "CMP_STAGE_A", 286, 1459944282333000, 1459944583333000,
         1978.1395348833998},
        {"cmp_-4027511782_B", "4-6", "CMP_STAGE_B", 112, 1461146400000000, 1461146513000000, 1215.348837209}};
    struct recorder *recorder = recorder_new();
    struct import_sink sink = recorder_sink(recorder);
    struct mapping *mapping = NULL;
    struct error err;
    assert_int_equal(mapping_load(PROJECT_ROOT "/data/mappings/phm2016_cmp.yaml", &mapping, &err), 0);
    assert_int_equal(import_path(TEST_DATA "/import", mapping, &sink, &recorder->summary, &err), 0);
    assert_int_equal(recorder->count, 4);
    for (size_t i = 0; i < 4; i++) {
        const struct import_context *context = &recorder->contexts[i];
        assert_string_equal(context->context.id, expected[i].id);
        assert_string_equal(context->context.tool, "CMP-2");
        assert_string_equal(context->context.chamber, expected[i].chamber);
        assert_string_equal(context->context.recipe, expected[i].recipe);
        assert_int_equal(context->sample_count, expected[i].samples);
        assert_int_equal(context->context.start_us, expected[i].start_us);
        assert_int_equal(context->context.end_us, expected[i].end_us);
        assert_true(fabs(sum(context, "WAFER_ROTATION") - expected[i].rotation) < 1e-6);
        assert_int_equal(context->column_count, 20);
    }
    assert_true(find_column(&recorder->contexts[2], "step")->value[0] == 1);
    assert_true(find_column(&recorder->contexts[2], "step")->value[285] == 3);
    assert_string_equal(recorder->contexts[0].context.extra_json, "{\"stage\":\"A\"}");
    assert_string_equal(recorder->contexts[3].context.extra_json,
                        "{\"stage\":\"B\",\"quality\":\"low\",\"quality_reasons\":[\"missing_step: 4\"]}");
    assert_int_equal(recorder->summary.samples_repeated, 1);
    mapping_free(mapping);
    recorder_free(recorder);
}

/* --- what becomes of bad data --- */

static void a_sound_trace_says_nothing(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    const struct import_context *context = read_with(recorder, 20, "", 0);
    assert_int_equal(context->sample_count, 20);
    assert_string_equal(context->context.extra_json, "{}");
    assert_string_equal(context->context.id, "t1");
    assert_string_equal(context->context.tool, "TOOL");
    assert_int_equal(context->context.start_us, 1000000000000000);
    assert_int_equal(context->line, 2);
    assert_string_equal(recorder->reports.text, "");
    recorder_free(recorder);
}

static void two_samples_at_the_end_are_cut_and_three_lower_the_quality(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    const struct import_context *context = read_with(recorder, 20, "1000000003,7\n1000000004,7\n", 0);
    assert_int_equal(context->sample_count, 20);
    assert_false(context->low_quality);
    assert_string_equal(context->context.extra_json,
                        "{\"quality_notes\":[\"tail_cut: 2, first at line 22\"]}");
    assert_true(told(recorder, "[tail_cut] dir/t1.csv:22: "));
    recorder_free(recorder);

    recorder = recorder_new();
    context = read_with(recorder, 20, "1000000003,7\n1000000004,7\n1000000005,7\n", 0);
    assert_int_equal(context->sample_count, 20);
    assert_true(context->low_quality);
    assert_int_equal(recorder->summary.samples_out_of_order, 3);
    recorder_free(recorder);
}

static void one_stray_time_costs_one_sample(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    const struct import_context *context = read_with(recorder, 10, "999999999,7\n", 10);
    assert_int_equal(context->sample_count, 20);
    assert_string_equal(context->context.extra_json,
                        "{\"quality\":\"low\",\"quality_reasons\":[\"out_of_order: 1, first at line 12\"]}");
    recorder_free(recorder);
    /* A clock that leaps forward once must not cost everything behind it. */
    recorder = recorder_new();
    context = read_with(recorder, 10, "1500000000,7\n", 10);
    assert_int_equal(context->sample_count, 20);
    assert_int_equal(context->context.end_us, 1000000019000000);
    assert_true(context->low_quality);
    assert_true(told(recorder, "[out_of_order] dir/t1.csv:12: time goes backwards"));
    recorder_free(recorder);
}

static void equal_times_stay_and_repeated_records_go(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    const struct import_context *context = read_with(recorder, 10, "1000000009,9\n1000000009,9.5\n", 10);
    assert_int_equal(context->sample_count, 21);
    assert_int_equal(context->time_us[9], context->time_us[10]);
    assert_true(context->columns[0].value[10] == 9.5);
    assert_false(context->low_quality);
    assert_string_equal(context->context.extra_json,
                        "{\"quality_notes\":[\"repeated: 1, first at line 12\"]}");
    recorder_free(recorder);
}

static void cells_that_are_no_numbers_are_missing_samples(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    const struct import_context *context =
        read_with(recorder, 100, "1000000099.1,volt\n1000000099.2,NA\n1000000099.3,\n", 100);
    assert_int_equal(context->sample_count, 203);
    for (size_t i = 0; i < 203; i++)
        assert_int_equal(isnan(context->columns[0].value[i]) != 0, i >= 100 && i < 103);
    assert_false(context->low_quality);
    assert_int_equal(recorder->summary.events[IMPORT_BAD_CELL], 1);
    assert_int_equal(recorder->summary.cells_missing, 2);
    assert_true(told(recorder, "[bad_cell] dir/t1.csv:102: column p: \"volt\" is no number"));
    recorder_free(recorder);
    recorder = recorder_new();
    context = read_with(recorder, 10, "1000000010,volt\n", 0);
    assert_string_equal(context->context.extra_json,
                        "{\"quality\":\"low\",\"quality_reasons\":[\"unreadable: 1 cells and 0 rows\"]}");
    assert_true(told(recorder, "[unreadable] "));
    recorder_free(recorder);
}

static void bad_rows_are_reported_counted_and_skipped(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    const struct import_context *context =
        read_with(recorder, 200, "1000000200\n1,2,3\nyesterday,5\n\"x\"y,1\n", 200);
    assert_int_equal(context->sample_count, 400);
    assert_int_equal(recorder->summary.rows, 404);
    assert_int_equal(recorder->summary.events[IMPORT_BAD_ROW], 4);
    assert_false(context->low_quality); /* 4 of 404 is under 1 % */
    assert_string_equal(context->context.extra_json,
                        "{\"quality_notes\":[\"unreadable: 0 cells and 4 rows\"]}");
    assert_true(told(recorder, "[bad_row] dir/t1.csv:202: the row has 1 columns, the first line has 2; the "
                               "row is skipped (context t1)"));
    assert_true(told(recorder, "dir/t1.csv:203: the row has 3 columns"));
    assert_true(told(recorder, "dir/t1.csv:204: column time: the time \"yesterday\" is no number"));
    assert_true(told(recorder, "dir/t1.csv:205: column 1: text follows a closing quote"));
    recorder_free(recorder);
    recorder = recorder_new();
    context = read_with(recorder, 20, "1,2,3\n", 0);
    assert_true(context->low_quality);
    recorder_free(recorder);
}

static void reports_of_one_kind_are_bounded_and_counts_are_not(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    struct strbuf bad;
    strbuf_init(&bad);
    for (int i = 0; i < 500; i++)
        strbuf_add(&bad, "1,2,3\n");
    read_with(recorder, 20, bad.text, 0);
    strbuf_free(&bad);
    assert_int_equal(recorder->summary.events[IMPORT_BAD_ROW], 500);
    size_t lines = 0;
    for (const char *at = recorder->reports.text; (at = strstr(at, "[bad_row]")) != NULL; at++)
        lines++;
    assert_int_equal(lines, IMPORT_REPORTS_PER_FILE_MAX);
    assert_true(told(recorder, "counted only"));
    recorder_free(recorder);
}

static void few_samples_gaps_and_missing_steps_lower_the_quality(void **state)
{
    (void)state;
    static const char yaml[] = "context: c1\ntool: T\nchamber: C\ntime: t\nstep: s\n"
                               "quality: {min_samples: 4, max_gap_s: 2, steps: [[1, 2], [7]]}\n";
    static const struct {
        const char *rows, *extra;
    } cases[] = {
        {"1e9,1,0\n1000000001,1,1\n1000000002,2,2\n1000000003,2,3\n", "{}"},
        {"1e9,7,0\n1000000001,7,1\n1000000002,7,2\n1000000003,7,3\n", "{}"},
        {"1e9,1,0\n1000000001,1,1\n1000000002,1,2\n1000000003,3,3\n",
         "{\"quality\":\"low\",\"quality_reasons\":[\"missing_step: 2\"]}"},
        {"1e9,1,0\n1000000001,2,1\n1000000002,2,2\n",
         "{\"quality\":\"low\",\"quality_reasons\":[\"too_few: 3 of at least 4 samples\"]}"},
        {"1e9,1,0\n1000000001,2,1\n1000000002,2,2\n1000000004.001,2,3\n",
         "{\"quality\":\"low\",\"quality_reasons\":[\"gap: 2.001 s before line 5\"]}"},
        {"1e9,1,0\n1000000001,2,1\n1000000002,2,2\n1000000004,2,3\n", "{}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct recorder *recorder = recorder_new();
        struct strbuf text;
        strbuf_init(&text);
        strbuf_printf(&text, "t,s,p\n%s", cases[i].rows);
        assert_int_equal(read_text(recorder, yaml, text.text), 0);
        strbuf_free(&text);
        assert_int_equal(recorder->count, 1);
        assert_string_equal(recorder->contexts[0].context.extra_json, cases[i].extra);
        recorder_free(recorder);
    }
}

static void empty_contexts_and_files_are_told(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "time,p\n", "time,p\nnever,1\n", "\n\n"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct recorder *recorder = recorder_new();
        assert_int_equal(read_text(recorder, NULL, texts[i]), 0);
        assert_int_equal(recorder->count, 0);
        assert_int_equal(recorder->summary.events[IMPORT_EMPTY], 1);
        assert_true(told(recorder, "(context t1)"));
        recorder_free(recorder);
    }
}

static void names_that_change_within_a_context_are_told(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    static const char yaml[] =
        "context: '{w}'\ntool: T\nchamber: 'PM{c}'\ntime: t\nquality: {min_samples: 1}\n";
    assert_int_equal(
        read_text(recorder, yaml, "t,w,c,p\n1e9,a,1,0\n1e9,b,2,5\n1000000001,a,3,1\n1000000002,b,2,6\n"), 0);
    assert_int_equal(recorder->count, 2);
    assert_string_equal(recorder->contexts[0].context.chamber, "PM1");
    assert_string_equal(recorder->contexts[0].context.extra_json,
                        "{\"quality\":\"low\",\"quality_reasons\":[\"name_changed: chamber at line 4\"]}");
    assert_string_equal(recorder->contexts[1].context.extra_json, "{}");
    assert_int_equal(recorder->contexts[1].column_count, 1);
    recorder_free(recorder);
}

static void contexts_without_usable_names_are_refused_not_dropped(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    static const char yaml[] = "context: '{w}'\ntool: '{k}'\nchamber: C\ntime: t\nsensors: [p]\n";
    assert_int_equal(read_text(recorder, yaml, "t,w,k,p\n1e9,a,,0\n1e9,,T,0\n1e9,c,T,0\n"), 0);
    assert_int_equal(recorder->count, 1);
    assert_string_equal(recorder->contexts[0].context.id, "c");
    assert_int_equal(recorder->summary.events[IMPORT_REFUSED], 2);
    recorder_free(recorder);
}

static void a_file_that_does_not_fit_its_mapping_says_so(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *text, *what;
    } cases[] = {
        {"context: a\ntool: T\nchamber: C\ntime: when\n", "t,p\n1,2\n",
         "no column \"when\", which m.yaml gives as the time"},
        {"context: a\ntool: '{k}'\nchamber: C\ntime: t\n", "t,p\n1,2\n",
         "no column \"k\", which m.yaml gives as the tool"},
        {"context: a\ntool: T\nchamber: C\ntime: t\nstep: s\n", "t,p\n1,2\n",
         "\"s\", which m.yaml gives as the step"},
        {"context: a\ntool: T\nchamber: C\ntime: t\nsensors: [q]\n", "t,p\n1,2\n",
         "the file has t, p (delimiter ',')"},
        {"context: a\ntool: T\nchamber: C\ntime: t\n", "t\n1\n", "no column is left for a sensor"},
        {"context: a\ntool: T\nchamber: C\ntime: t\nsensors: {rename: {p: q}}\n", "t,p,q\n1,2,3\n",
         "called \"q\""},
        {"context: a\ntool: T\nchamber: C\ntime: t\n", "t,p,p\n1,2,3\n", "comes twice (2 and 3)"},
        {"context: a\nchamber: C\ntime: t\n", "t,p\n1,2\n", "gives no tool"},
        {"context: a\ntool: T\nchamber: C\ntime: {column: t, format: seconds, origin: run}\n", "t,p\n1,2\n",
         "no started_at"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct recorder *recorder = recorder_new();
        assert_int_equal(read_text(recorder, cases[i].yaml, cases[i].text), ERR_INVALID);
        if (strstr(recorder->err.text, cases[i].what) == NULL)
            fail_msg("%s", recorder->err.text);
        assert_int_equal(recorder->summary.files_failed, 1);
        assert_true(told(recorder, "[bad_file] dir/t1.csv:"));
        recorder_free(recorder);
    }
}

static void relative_times_count_from_their_origin(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    static const char yaml[] = "context: '{w}'\ntool: T\nchamber: C\nquality: {min_samples: 1}\n"
                               "time: {column: t, format: ms, origin: {column: s, format: rfc3339}}\n";
    assert_int_equal(read_text(recorder, yaml,
                               "s,w,t,p\n2026-01-01T00:00:00Z,a,0,1\n2026-01-02T00:00:00Z,b,1.5,2\n,a,2,3\n"),
                     0);
    assert_int_equal(recorder->count, 2);
    assert_int_equal(recorder->contexts[0].time_us[1], 1767225600002000);
    assert_int_equal(recorder->contexts[1].time_us[0], 1767312000001500);
    recorder_free(recorder);
}

static void steps_by_name_and_decimal_commas(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    static const char yaml[] =
        "context: '{@file}'\ntool: T\nchamber: '{@dir}'\ndecimal: ','\nquality: {min_samples: 1}\n"
        "time: {column: t, pattern: '%d.%m.%Y %H:%M:%S'}\n"
        "step: {column: s, values: {ETCH: 4}}\nsensors: [{column: p, as: Pressure}]\n";
    assert_int_equal(
        read_text(recorder, yaml, "t;s;p\n12.01.1970 13:46:40;ETCH;1,5\n12.01.1970 13:46:41;5;2\n"), 0);
    assert_int_equal(recorder->count, 1);
    const struct import_context *context = &recorder->contexts[0];
    assert_string_equal(context->context.id, "t1");
    assert_string_equal(context->context.chamber, "dir");
    assert_int_equal(context->time_us[0], 1000000000000);
    assert_true(find_column(context, "Pressure")->value[0] == 1.5);
    assert_true(find_column(context, "step")->value[0] == 4);
    assert_true(find_column(context, "step")->value[1] == 5);
    recorder_free(recorder);
}

static void memory_is_bounded_and_the_sink_can_stop(void **state)
{
    (void)state;
    struct mapping *mapping = mapping_default();
    struct recorder *recorder = recorder_new();
    const char *const names[] = {"t1", "TOOL", "PM1", "R", "L", "W", "", "", ""};
    struct runs runs = {.file = "runs.csv"};
    struct runs_row run = {.line = 2};
    memcpy(run.field, names, sizeof(names));
    struct tracefile_options options = {.mapping = mapping, .runs = &runs, .run = &run, .max_bytes = 10000};
    struct import_sink sink = recorder_sink(recorder);
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "time,p\n");
    add_samples(&text, 0, 1000);
    assert_int_equal(tracefile_read_bytes("big.csv", text.text, text.length, &options, &sink,
                                          &recorder->summary, &recorder->err),
                     ERR_LIMIT);
    assert_non_null(strstr(recorder->err.text, "split the file"));
    strbuf_free(&text);
    recorder_free(recorder);
    mapping_free(mapping);
    recorder = recorder_new();
    recorder->refuse_after = 3;
    recorder->refusal = ERR_UNAVAILABLE;
    sink = recorder_sink(recorder);
    assert_int_equal(
        import_path(PROJECT_ROOT "/data/lam9600", NULL, &sink, &recorder->summary, &recorder->err),
        ERR_UNAVAILABLE);
    assert_int_equal(recorder->summary.contexts, 3);
    assert_int_equal(recorder->summary.files_failed, 0);
    recorder_free(recorder);
    /* Another content under the same id is told and counted, and the others are taken. */
    recorder = recorder_new();
    recorder->refuse_after = 3;
    recorder->refusal = ERR_CONFLICT;
    sink = recorder_sink(recorder);
    assert_int_equal(
        import_path(PROJECT_ROOT "/data/lam9600", NULL, &sink, &recorder->summary, &recorder->err), 0);
    assert_int_equal(recorder->summary.contexts, 3);
    assert_int_equal(recorder->summary.events[IMPORT_CONFLICT], 83);
    assert_true(told(recorder, "[conflict] "));
    recorder_free(recorder);
}

/* --- paths --- */

static char *make_folder(void)
{
    const char *dir = getenv("TMPDIR");
    char *path = NULL;
    assert_true(asprintf(&path, "%s/test_collector_import_XXXXXX", dir != NULL ? dir : "/tmp") > 0);
    assert_non_null(mkdtemp(path));
    return path;
}

static void put_file(const char *folder, const char *name, const char *text, bool gzip)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    gzFile file = gzopen(path, gzip ? "wb" : "wbT");
    assert_int_equal(gzwrite(file, text, (unsigned)strlen(text)), (int)strlen(text));
    gzclose(file);
}

static void remove_folder(char *folder)
{
    static const char *const names[] = {"runs.csv", "a.csv", "b.tsv.gz", "d.csv", "e.csv.gz", "z.csv"};
    char path[4096];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
    free(folder);
}

static void a_folder_with_runs_in_their_order(void **state)
{
    (void)state;
    char *folder = make_folder();
    put_file(folder, "runs.csv",
             "context_id,tool_id,chamber,lot,product,label,fault,ended_at\n"
             "b,T,1,L1,P7,fault,TCP,2020\na,T,2,L1,,normal,,2020\nmissing,T,1,L2,P,normal,,\n../"
             "d,T,1,L2,P,normal,,\n"
             "d,T,1\na,T,2,L1,P,normal,,\n,T,2,L1,P,normal,,\ne,T,1,L2,P,normal,,\n",
             false);
    put_file(folder, "a.csv", "time,p\n1000000000,1\n", false);
    put_file(folder, "b.tsv.gz", "time\tp\n1000000009\t1\n", true);
    put_file(folder, "d.csv", "time,p\n1000000000,1\n", false);
    put_file(folder, "e.csv.gz", "time,q\nnothing\n", true);
    struct recorder *recorder = recorder_new();
    struct import_sink sink = recorder_sink(recorder);
    assert_int_equal(import_path(folder, NULL, &sink, &recorder->summary, &recorder->err), 0);
    assert_int_equal(recorder->count, 2);
    assert_string_equal(recorder->contexts[0].context.id, "b");
    assert_string_equal(recorder->contexts[1].context.id, "a");
    /* label, fault and what the import computes stay behind; other columns travel. */
    assert_non_null(
        strstr(recorder->contexts[0].context.extra_json, "{\"product\":\"P7\",\"quality\":\"low\""));
    assert_null(strstr(recorder->contexts[0].context.extra_json, "TCP"));
    assert_null(strstr(recorder->contexts[0].context.extra_json, "2020"));
    assert_int_equal(recorder->summary.events[IMPORT_MISSING_TRACE], 2);
    assert_int_equal(recorder->summary.events[IMPORT_BAD_ROW], 4);
    assert_int_equal(recorder->summary.events[IMPORT_EMPTY], 1);
    assert_true(told(recorder, "/runs.csv:4: the run has no trace file"));
    assert_true(told(recorder, "/runs.csv:5: the context_id cannot be a file's name"));
    assert_true(told(recorder, "/runs.csv:6: the row has 3 columns, the first line has 8"));
    assert_true(told(recorder, "/runs.csv:7: column context_id: this context_id has come before"));
    assert_true(told(recorder, "/runs.csv:8: column context_id: the run has no context_id"));
    recorder_free(recorder);

    /* One file of it, and the list itself. */
    char path[4096];
    snprintf(path, sizeof(path), "%s/a.csv", folder);
    recorder = recorder_new();
    sink = recorder_sink(recorder);
    assert_int_equal(import_path(path, NULL, &sink, &recorder->summary, &recorder->err), 0);
    assert_int_equal(recorder->count, 1);
    assert_string_equal(recorder->contexts[0].context.chamber, "2");
    snprintf(path, sizeof(path), "%s/runs.csv", folder);
    assert_int_equal(import_path(path, NULL, &sink, &recorder->summary, &recorder->err), 0);
    assert_int_equal(recorder->count, 3);
    snprintf(path, sizeof(path), "%s/d.csv", folder);
    assert_int_equal(import_file(path, NULL, &sink, &recorder->summary, &recorder->err), ERR_NOT_FOUND);
    assert_non_null(strstr(recorder->err.text, "no run with the context_id d"));
    recorder_free(recorder);
    remove_folder(folder);
}

static void one_bad_file_does_not_hold_up_the_others(void **state)
{
    (void)state;
    char *folder = make_folder();
    struct mapping *mapping = NULL;
    static const char yaml[] = "context: '{@file}'\ntool: T\nchamber: C\ntime: time\n";
    assert_int_equal(mapping_parse("m.yaml", yaml, strlen(yaml), &mapping, NULL), 0);
    put_file(folder, "a.csv", "time,p\n1000000000,1\n", false);
    put_file(folder, "d.csv", "when,p\n1000000000,1\n", false);
    put_file(folder, "z.csv", "time,p\n1000000000,1\n", false);
    struct recorder *recorder = recorder_new();
    struct import_sink sink = recorder_sink(recorder);
    assert_int_equal(import_path(folder, mapping, &sink, &recorder->summary, &recorder->err), 0);
    assert_int_equal(recorder->count, 2);
    assert_int_equal(recorder->summary.files, 3);
    assert_int_equal(recorder->summary.files_failed, 1);
    assert_string_equal(recorder->contexts[1].context.id, "z");
    struct strbuf json;
    strbuf_init(&json);
    import_summary_format(&recorder->summary, &json);
    assert_non_null(strstr(json.text, "\"files_failed\":1,\"contexts\":2"));
    assert_non_null(strstr(json.text, "\"bad_file\":1}}"));
    strbuf_free(&json);
    recorder_free(recorder);
    mapping_free(mapping);
    remove_folder(folder);
}

static void paths_that_are_not_there(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    struct import_sink sink = recorder_sink(recorder);
    assert_int_equal(import_path("/nowhere/x", NULL, &sink, &recorder->summary, &recorder->err),
                     ERR_NOT_FOUND);
    char *folder = make_folder();
    assert_int_equal(import_path(folder, NULL, &sink, &recorder->summary, &recorder->err), ERR_NOT_FOUND);
    assert_non_null(strstr(recorder->err.text, "no trace file"));
    put_file(folder, "runs.csv", "context_id,tool\n", false);
    assert_int_equal(import_path(folder, NULL, &sink, &recorder->summary, &recorder->err), ERR_INVALID);
    assert_non_null(strstr(recorder->err.text, "no column chamber"));
    remove_folder(folder);
    recorder_free(recorder);
}

/* --- order, by brute force --- */

static void the_longest_ordered_run_is_kept(void **state)
{
    (void)state;
    unsigned seed = 12345;
    for (int round = 0; round < 3000; round++) {
        int64_t time_us[10];
        unsigned char keep[10];
        size_t count = 1 + (size_t)(round % 10);
        for (size_t i = 0; i < count; i++) {
            seed = seed * 1103515245u + 12345u;
            time_us[i] = seed >> 16 & 7;
        }
        size_t best = 0;
        for (unsigned mask = 1; mask < 1u << count; mask++) {
            size_t length = 0;
            int64_t last = -1;
            bool ordered = true;
            for (size_t i = 0; i < count && ordered; i++) {
                if ((mask >> i & 1) == 0)
                    continue;
                ordered = time_us[i] >= last;
                last = time_us[i];
                length++;
            }
            best = ordered && length > best ? length : best;
        }
        assert_int_equal(quality_keep_ordered(time_us, count, keep), best);
        size_t kept = 0;
        int64_t last = -1;
        for (size_t i = 0; i < count; i++) {
            if (keep[i] == 0)
                continue;
            assert_true(time_us[i] >= last);
            last = time_us[i];
            kept++;
        }
        assert_int_equal(kept, best);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_lam_wafer_as_counted_by_hand),
        cmocka_unit_test(many_contexts_of_one_file_in_the_order_of_their_ends),
        cmocka_unit_test(a_sound_trace_says_nothing),
        cmocka_unit_test(two_samples_at_the_end_are_cut_and_three_lower_the_quality),
        cmocka_unit_test(one_stray_time_costs_one_sample),
        cmocka_unit_test(equal_times_stay_and_repeated_records_go),
        cmocka_unit_test(cells_that_are_no_numbers_are_missing_samples),
        cmocka_unit_test(bad_rows_are_reported_counted_and_skipped),
        cmocka_unit_test(reports_of_one_kind_are_bounded_and_counts_are_not),
        cmocka_unit_test(few_samples_gaps_and_missing_steps_lower_the_quality),
        cmocka_unit_test(empty_contexts_and_files_are_told),
        cmocka_unit_test(names_that_change_within_a_context_are_told),
        cmocka_unit_test(contexts_without_usable_names_are_refused_not_dropped),
        cmocka_unit_test(a_file_that_does_not_fit_its_mapping_says_so),
        cmocka_unit_test(relative_times_count_from_their_origin),
        cmocka_unit_test(steps_by_name_and_decimal_commas),
        cmocka_unit_test(memory_is_bounded_and_the_sink_can_stop),
        cmocka_unit_test(a_folder_with_runs_in_their_order),
        cmocka_unit_test(one_bad_file_does_not_hold_up_the_others),
        cmocka_unit_test(paths_that_are_not_there),
        cmocka_unit_test(the_longest_ordered_run_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
