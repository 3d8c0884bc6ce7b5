/* Mutations of small trace files, runs.csv and mappings: nothing may crash or read outside (build with
 * -Db_sanitize), no row may vanish unaccounted, and what comes out must be what the interface promises.
 * FUZZ_ROUNDS sets how many. */
#include "cmocka_setup.h"

#include "chart/context.h"
#include "collector/labels.h"
#include "collector/tracefile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char lam_seed[] = "time,step,BCl3_Flow,\"Endpt \"\"A\"\"\",Pressure\r\n"
                               "1995-03-06T08:10:11.946Z,4,751,626,1227\r\n"
                               "1995-03-06T08:10:13.028Z,4,751,620,1229.25\r\n"
                               "1995-03-06T08:10:14.028Z,5,,620,NA\r\n"
                               "1995-03-06T08:10:14.028Z,5,1e3,-620,0.5\r\n"
                               "1995-03-06T08:10:10.378Z,4,752,643,1230\r\n";

static const char cmp_seed[] = "MACHINE_ID\tTIMESTAMP\tWAFER_ID\tSTAGE\tCHAMBER\tMACHINE_DATA\tFLOW\n"
                               "2\t481637082.333\t371447024\tA\t1.0\t1\t2.5\n"
                               "2\t481637083.333\t371447024\tA\t1.0\t1\t2.5\n"
                               "2\t481634409.667\t-4113511818\tA\t4.0\t5\t0\n"
                               "2\t481637084.667\t371447024\tA\t2.0\t1\t2.25\n"
                               "2\t481634410.667\t-4113511818\tA\t4.0\t5\t1\n";

static const char mapping_seed[] =
    "name: m\nfiles: '*.csv'\ndelimiter: auto\ncontext: '{A:int}-{B}'\ntool: T\nchamber: {text: '{C}', "
    "values: {a: b}}\n"
    "attributes: {p: '{@file}'}\ntime: {column: t, format: seconds, origin: '2001-01-01T00:00:00Z'}\n"
    "step: {column: s, values: {ETCH: 4}}\nsensors: {except: [x], rename: {y: z}}\nmissing: [NA]\n"
    "quality: {min_samples: 3, steps: [[1, 2], [4]], max_gap_s: 2.5}\n";

struct random {
    uint64_t state;
};

static uint32_t next_random(struct random *random, uint32_t below)
{
    random->state = random->state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random->state >> 33) % below);
}

/* A mutated copy of `seed` in `out` (room for twice its length and 64 bytes more); returns its length. */
static size_t mutate(struct random *random, const char *seed, size_t length, char *out)
{
    static const char *const pieces[] = {
        "\"", "\n", "\r\n", ",",    "\t",   "\0", "1e308", "-",   "nan", "9999999999999999999",
        "{",  "}",  ": ",   "\xFF", "\"\"", " ",  "[",     "&a ", "*a",  "4.0"};
    memcpy(out, seed, length);
    uint32_t edits = 1 + next_random(random, 6);
    for (uint32_t e = 0; e < edits && length > 0; e++) {
        size_t at = next_random(random, (uint32_t)length);
        switch (next_random(random, 5)) {
        case 0:
            out[at] = (char)next_random(random, 256);
            break;
        case 1:
            length = at; /* cut off */
            break;
        case 2: { /* a piece out */
            size_t count = 1 + next_random(random, 20);
            count = count < length - at ? count : length - at;
            memmove(out + at, out + at + count, length - at - count);
            length -= count;
            break;
        }
        case 3: { /* a piece in */
            const char *piece = pieces[next_random(random, sizeof(pieces) / sizeof(pieces[0]))];
            size_t count = piece[0] == '\0' ? 1 : strlen(piece);
            memmove(out + at + count, out + at, length - at);
            memcpy(out + at, piece, count);
            length += count;
            break;
        }
        default: { /* swapped */
            size_t other = next_random(random, (uint32_t)length);
            char c = out[at];
            out[at] = out[other];
            out[other] = c;
        }
        }
    }
    return length;
}

/* What one file gave. */
struct outcome {
    size_t samples;
    size_t reports;
};

static int check_context(void *arg, const struct import_context *context, struct error *err)
{
    struct outcome *outcome = arg;
    (void)err;
    struct strbuf json;
    struct arena arena;
    struct context read;
    struct error words = {.text = ""};
    assert_true(context->sample_count > 0 && context->column_count > 0);
    for (size_t i = 1; i < context->sample_count; i++)
        assert_true(context->time_us[i] >= context->time_us[i - 1]);
    assert_int_equal(context->context.point_count, context->sample_count * context->column_count);
    /* The announcement must read back. */
    strbuf_init(&json);
    arena_init(&arena, 0);
    context_format(&context->context, &json);
    if (context_parse(json.text, json.length, &arena, &read, &words) != 0)
        fail_msg("%s: %s", words.text, json.text);
    assert_int_equal(context_is_low_quality(&read), context->low_quality);
    arena_free(&arena);
    strbuf_free(&json);
    outcome->samples += context->sample_count;
    return 0;
}

static void count_report(void *arg, const struct import_report *report)
{
    struct outcome *outcome = arg;
    assert_non_null(report->text);
    outcome->reports++;
}

static void fuzz_file(const struct tracefile_options *options, const char *seed, size_t length, int rounds)
{
    struct random random = {.state = 20240607};
    char *bytes = malloc(length * 2 + 64);
    size_t given = 0;
    for (int i = 0; i < rounds; i++) {
        size_t mutated = mutate(&random, seed, length, bytes);
        struct outcome outcome = {.samples = 0};
        struct import_summary summary = {.files = 0};
        struct import_sink sink = {.take = check_context, .report = count_report, .arg = &outcome};
        struct error err;
        /* An exact allocation, so that a read behind its end is seen. */
        char *exact = malloc(mutated + 1);
        memcpy(exact, bytes, mutated);
        exact = realloc(exact, mutated > 0 ? mutated : 1);
        int code = tracefile_read_bytes("fuzz.csv", exact, mutated, options, &sink, &summary, &err);
        free(exact);
        assert_true(code == 0 || code == ERR_INVALID || code == ERR_CORRUPT);
        assert_int_equal(summary.samples, outcome.samples);
        if (code != 0) {
            assert_int_equal(summary.files_failed, 1);
            assert_int_equal(outcome.samples, 0);
        } else if (summary.events[IMPORT_REFUSED] == 0) {
            assert_int_equal(summary.rows, summary.samples + summary.events[IMPORT_BAD_ROW] +
                                               summary.samples_tail_cut + summary.samples_out_of_order +
                                               summary.samples_repeated);
        }
        given += outcome.samples > 0;
    }
    assert_true(given > (size_t)rounds / 10); /* the mutations are not so wild that nothing is left to test */
    free(bytes);
}

static int rounds(void)
{
    const char *text = getenv("FUZZ_ROUNDS");
    return text != NULL ? atoi(text) : 20000;
}

static void mutated_trace_files(void **state)
{
    (void)state;
    struct mapping *mapping = mapping_default();
    struct runs runs = {.file = "runs.csv"};
    struct runs_row run = {.field = {"c1", "T", "PM1", "R", "L", "W", "", "", ""}, .line = 2};
    struct tracefile_options options = {.mapping = mapping, .runs = &runs, .run = &run};
    fuzz_file(&options, lam_seed, sizeof(lam_seed) - 1, rounds());
    mapping_free(mapping);
    assert_int_equal(mapping_load(PROJECT_ROOT "/data/mappings/phm2016_cmp.yaml", &mapping, NULL), 0);
    options = (struct tracefile_options){.mapping = mapping};
    fuzz_file(&options, cmp_seed, sizeof(cmp_seed) - 1, rounds());
    mapping_free(mapping);
}

static void mutated_mappings(void **state)
{
    (void)state;
    struct random random = {.state = 1};
    static char bytes[2 * sizeof(mapping_seed) + 64];
    int good = 0;
    for (int i = 0; i < rounds(); i++) {
        size_t length = mutate(&random, mapping_seed, sizeof(mapping_seed) - 1, bytes);
        struct mapping *mapping = NULL;
        struct error err = {.text = ""};
        int code = mapping_parse("fuzz.yaml", bytes, length, &mapping, &err);
        assert_true(code == 0 || code == ERR_INVALID || code == ERR_LIMIT);
        assert_true((code == 0) == (mapping != NULL));
        if (code != 0)
            assert_int_equal(strncmp(err.text, "fuzz.yaml", 9), 0);
        if (code == 0) {
            struct outcome outcome = {.samples = 0};
            struct import_summary summary = {.files = 0};
            struct import_sink sink = {.take = check_context, .report = count_report, .arg = &outcome};
            struct tracefile_options options = {.mapping = mapping};
            static const char text[] = "t,A,B,C,s,x,y\n1,1,b,c,ETCH,5,6\n2,1.0,b,a,4,5,x\n";
            tracefile_read_bytes("fuzz.csv", text, sizeof(text) - 1, &options, &sink, &summary, &err);
            good += outcome.samples > 0;
        }
        mapping_free(mapping);
    }
    assert_true(good > 0);
}

static void mutated_runs(void **state)
{
    (void)state;
    static const char seed[] =
        "context_id,tool,chamber,recipe,lot,wafer,label,fault,kit\n"
        "l1,T,P,R,L,1,normal,,K1\n\"l,2\",T,P,R,L,2,fault,\"TCP\n+50\",K1\nl3,T,P,R,L,3,,,\n";
    static char bytes[2 * sizeof(seed) + 64];
    struct random random = {.state = 7};
    const char *dir = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof(path), "%s/test_collector_fuzz_%d.csv", dir != NULL ? dir : "/tmp", (int)getpid());
    int good = 0;
    for (int i = 0; i < rounds() / 10; i++) {
        size_t length = mutate(&random, seed, sizeof(seed) - 1, bytes);
        FILE *file = fopen(path, "wb");
        assert_int_equal(fwrite(bytes, 1, length, file), length);
        fclose(file);
        struct labels labels;
        struct error err = {.text = ""};
        int code = labels_load(path, NULL, NULL, &labels, &err);
        assert_true(code == 0 || code == ERR_INVALID || code == ERR_CORRUPT);
        for (size_t k = 0; k < labels.count; k++)
            assert_ptr_equal(labels_find(&labels, labels.rows[k].context_id), &labels.rows[k]);
        good += labels.count > 0;
        labels_free(&labels);
    }
    unlink(path);
    assert_true(good > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutated_trace_files),
        cmocka_unit_test(mutated_mappings),
        cmocka_unit_test(mutated_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
