/* The messages of equipment: what is written reads back to the bit in either form; what is wrong is named. */
#include "cmocka_setup.h"

#include "base/hash.h"
#include "collector/batch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SENSORS = 6, SAMPLES = 9 };

static const char *const NAMES[SENSORS] = {"Pressure", "RF \"Power\"", "Gas/Ar", "Step", "T", "never"};

static const char GOLDEN[] = /* a binary batch, byte for byte: other programs write this */
    "CHB1"
    "\x07\x00\x00\x00"
    "\x01\x00"
    "\x02\x00"
    "c7"
    "\x03\x02"
    "\x00\xe0\xbd\x0c\x3c\x5f\x05\x00"          /* 1512086400000000: 2017-12-01T00:00:00Z */
    "\x01\xa0\x8d\x06"                          /* every 100,000 us */
    "\x00\x04\x96\x01\x02\x02"                  /* sensor 0, 1 place: 7.5 7.6 7.7 */
    "\x01\x02\x00\x00\x00\x00\x00\x00\xf8\x7f"; /* sensor 2: not a number, three times */

struct fixture {
    struct arena arena;
    struct strbuf text;
    struct batch_sensors sensors;
    struct error err;
};

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    arena_init(&fixture->arena, 0);
    strbuf_init(&fixture->text);
    assert_int_equal(batch_sensors_index(NAMES, SENSORS, &fixture->arena, &fixture->sensors, &fixture->err),
                     0);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    arena_free(&fixture->arena);
    strbuf_free(&fixture->text);
    free(fixture);
    return 0;
}

static const int64_t TIMES[SAMPLES] = {1700000000000000, 1700000000100000, 1700000000200000,
                                       1700000000300000, 1700000000400000, 1700000000500000,
                                       1700000000600000, 1700000000700000, 1700000000700000};
static const int64_t SLOW[3] = {1700000000000000, 1700000000000001, 1700000000999999};

static void fill(struct batch_data *data, struct batch_group groups[2], struct batch_column columns[5],
                 double values[5][SAMPLES], bool infinite)
{
    for (int i = 0; i < SAMPLES; i++) {
        values[0][i] = (1227 + i % 3) / 10.0;
        values[1][i] = i * 0.1 + 1.0 / 3;
        values[2][i] = i == 4 ? (double)NAN : -0.0;
        values[3][i] = i < 5 ? 1 : 2;
        values[4][i] = i == 1 ? 9007199254740993e3 : infinite && i == 2 ? -(double)INFINITY : -1e-300;
    }
    for (uint32_t c = 0; c < 5; c++)
        columns[c] = (struct batch_column){.sensor = c, .value = values[c]};
    groups[0] = (struct batch_group){
        .sample_count = SAMPLES, .time_us = TIMES, .column_count = 4, .columns = columns};
    groups[1] =
        (struct batch_group){.sample_count = 3, .time_us = SLOW, .column_count = 1, .columns = columns + 4};
    *data = (struct batch_data){
        .context_id = "lot-1/wafer 3", .sequence = 41, .group_count = 2, .groups = groups};
}

static void expect_same(const struct batch_data *a, const struct batch_data *b)
{
    assert_string_equal(a->context_id, b->context_id);
    assert_int_equal(a->sequence, b->sequence);
    assert_int_equal(a->group_count, b->group_count);
    for (size_t g = 0; g < a->group_count; g++) {
        const struct batch_group *x = &a->groups[g], *y = &b->groups[g];
        assert_int_equal(x->sample_count, y->sample_count);
        assert_memory_equal(x->time_us, y->time_us, x->sample_count * sizeof(int64_t));
        assert_int_equal(x->column_count, y->column_count);
        for (size_t c = 0; c < x->column_count; c++) {
            assert_int_equal(x->columns[c].sensor, y->columns[c].sensor);
            assert_memory_equal(x->columns[c].value, y->columns[c].value, x->sample_count * sizeof(double));
        }
    }
}

static void a_batch_reads_back_to_the_bit(void **state)
{
    struct fixture *f = *state;
    struct batch_group groups[2];
    struct batch_column columns[5];
    double values[5][SAMPLES];
    for (int binary = 0; binary < 2; binary++) {
        struct batch_data data, back;
        struct batch_label label;
        fill(&data, groups, columns, values, binary);
        strbuf_clear(&f->text);
        int code = binary ? batch_data_write(&data, &f->text, &f->err)
                          : batch_data_write_json(&data, &f->sensors, &f->text, &f->err);
        if (code)
            fail_msg("%s", f->err.text);
        if (batch_data_read(f->text.text, f->text.length, &f->sensors, &f->arena, &back, &f->err))
            fail_msg("%s in %s", f->err.text, f->text.text);
        expect_same(&data, &back);
        assert_int_equal(batch_label_read(f->text.text, f->text.length, &f->arena, &label, &f->err), 0);
        assert_string_equal(label.context_id, "lot-1/wafer 3");
        assert_int_equal(label.sequence, 41);
        assert_int_equal(label.binary, binary);
    }
}

static void random_values_read_back_to_the_bit(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 88172645463325252u;
    static double values[256];
    static int64_t times[256];
    for (int round = 0; round < 2000; round++) {
        size_t count = 1 + seed % 256;
        for (size_t i = 0; i < count; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            times[i] = (i ? times[i - 1] : 1600000000000000) + (round % 3 ? 1000 : (int64_t)(seed % 5000));
            if (round % 4 == 0)
                memcpy(&values[i], &seed, sizeof values[i]); /* any bits, not-a-numbers among them */
            else
                values[i] = (double)(int64_t)(seed % 2000001 - 1000000) / pow(10, round % 12);
        }
        struct batch_column column = {.sensor = (uint32_t)(round % SENSORS), .value = values};
        struct batch_group group = {
            .sample_count = count, .time_us = times, .column_count = 1, .columns = &column};
        struct batch_data back, data = {.context_id = "x", .group_count = 1, .groups = &group};
        arena_reset(&f->arena);
        assert_int_equal(batch_sensors_index(NAMES, SENSORS, &f->arena, &f->sensors, &f->err), 0);
        strbuf_clear(&f->text);
        assert_int_equal(batch_data_write(&data, &f->text, &f->err), 0);
        assert_true(f->text.length <= 12 + 1 + 8 + 13 + 10 * count + 12 + 8 * count);
        assert_int_equal(
            batch_data_read(f->text.text, f->text.length, &f->sensors, &f->arena, &back, &f->err), 0);
        expect_same(&data, &back);
    }
}

static void the_binary_form_is_as_documented(void **state)
{
    struct fixture *f = *state;
    size_t length = sizeof GOLDEN - 1;
    static char message[sizeof GOLDEN + 8];
    memcpy(message, GOLDEN, length);
    uint64_t sum = hash64(message, length);
    for (int i = 0; i < 8; i++)
        message[length + (size_t)i] = (char)(sum >> 8 * i);
    struct batch_data data;
    if (batch_data_read(message, length + 8, &f->sensors, &f->arena, &data, &f->err))
        fail_msg("%s", f->err.text);
    assert_string_equal(data.context_id, "c7");
    assert_int_equal(data.sequence, 7);
    assert_int_equal(data.groups[0].time_us[2], 1512086400200000);
    assert_true(data.groups[0].columns[0].value[2] == 7.7);
    assert_int_equal(data.groups[0].columns[1].sensor, 2);
    assert_true(isnan(data.groups[0].columns[1].value[2]));
    assert_int_equal(batch_data_write(&data, &f->text, &f->err), 0);
    assert_int_equal(f->text.length, length + 8);
    assert_memory_equal(f->text.text, message, length + 8);
}

static void start_and_end_read_back(void **state)
{
    struct fixture *f = *state;
    struct batch_start back, start = {.context = {.id = "c-1",
                                                  .tool = "ETCH.1",
                                                  .chamber = "A",
                                                  .recipe = "R",
                                                  .lot = "L",
                                                  .wafer = "7",
                                                  .start_us = 1700000000123456,
                                                  .end_us = 1700000000123456,
                                                  .extra_json = "{\"product\":\"P\",\"hours\":0.1}"},
                                      .sensors = f->sensors};
    assert_int_equal(batch_start_write(&start, &f->text, &f->err), 0);
    if (batch_start_read(f->text.text, f->text.length, "ETCH.1", "A", &f->arena, &back, &f->err))
        fail_msg("%s", f->err.text);
    assert_string_equal(back.context.id, "c-1");
    assert_string_equal(back.context.lot, "L");
    assert_string_equal(back.context.wafer, "7");
    assert_string_equal(back.context.extra_json, "{\"product\":\"P\",\"hours\":0.1}");
    assert_int_equal(back.context.start_us, 1700000000123456);
    assert_int_equal(back.context.svid_count, SENSORS);
    for (int i = 0; i < SENSORS; i++)
        assert_string_equal(back.sensors.names[i], NAMES[i]);
    struct batch_end end_back, end = {.context_id = "c-1", .end_us = 1700000001000000, .batches = 12};
    strbuf_clear(&f->text);
    assert_int_equal(batch_end_write(&end, &f->text, &f->err), 0);
    assert_int_equal(batch_end_read(f->text.text, f->text.length, &f->arena, &end_back, &f->err), 0);
    assert_string_equal(end_back.context_id, "c-1");
    assert_int_equal(end_back.end_us, end.end_us);
    assert_int_equal(end_back.batches, 12);
}

static void people_write_json_in_several_ways(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {
        "{\"context_id\":\"c\",\"seq\":0,\"times\":[\"2026-01-31T08:00:00Z\",\"2026-01-31T08:00:00.5Z\"],"
        "\"values\":{\"T\":[1,null],\"Pressure\":[2.5,3e0]}}",
        "{\"context_id\":\"c\",\"seq\":0,\"first\":\"2026-01-31T09:00:00+01:00\",\"interval_us\":500000,"
        "\"values\":{\"T\":[1,null],\"Pressure\":[2.5,3]}}",
        " {\"seq\":0,\"context_id\":\"c\",\"groups\":[{\"times\":[1769846400000000,1769846400500000],"
        "\"values\":{\"T\":[1,null],\"Pressure\":[2.5,3]}}]}"};
    for (size_t i = 0; i < 3; i++) {
        struct batch_data data;
        if (batch_data_read(texts[i], strlen(texts[i]), &f->sensors, &f->arena, &data, &f->err))
            fail_msg("%s", f->err.text);
        assert_int_equal(data.group_count, 1);
        assert_int_equal(data.groups[0].time_us[0], 1769846400000000);
        assert_int_equal(data.groups[0].time_us[1], 1769846400500000);
        assert_int_equal(data.groups[0].columns[0].sensor, 4);
        assert_true(isnan(data.groups[0].columns[0].value[1]));
        assert_true(data.groups[0].columns[1].value[1] == 3);
    }
}

static void what_is_wrong_in_json_is_named(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *says;
    } wrong[] = {
        {"{", "not JSON at byte"},
        {"[1]", "not a JSON object"},
        {"{\"seq\":0}", "context_id must be a string"},
        {"{\"context_id\":\"\",\"seq\":0}", "context_id is empty"},
        {"{\"context_id\":\"a\\u0001\",\"seq\":0}", "control character"},
        {"{\"context_id\":\"c\"}", "seq must be a whole number"},
        {"{\"context_id\":\"c\",\"seq\":-1}", "seq must be a whole number"},
        {"{\"context_id\":\"c\",\"seq\":10000000}", "seq is above"},
        {"{\"context_id\":\"c\",\"seq\":0}", "values must be an object"},
        {"{\"context_id\":\"c\",\"seq\":0,\"values\":{\"T\":[1]}}", "first (0) must be a time"},
        {"{\"context_id\":\"c\",\"seq\":0,\"times\":5,\"values\":{\"T\":[1]}}", "times must be an array"},
        {"{\"context_id\":\"c\",\"seq\":0,\"times\":[],\"values\":{\"T\":[]}}", "without samples"},
        {"{\"context_id\":\"c\",\"seq\":0,\"times\":[5],\"values\":{\"T\":[1,2]}}", "array of 1 numbers"},
        {"{\"context_id\":\"c\",\"seq\":0,\"times\":[5],\"values\":{\"X\":[1]}}",
         "'X' is not in the start's"},
        {"{\"context_id\":\"c\",\"seq\":0,\"times\":[5],\"values\":{\"T\":[\"1\"]}}", "must be a number"},
        {"{\"context_id\":\"c\",\"seq\":0,\"times\":[6,5],\"values\":{\"T\":[1,1]}}", "earlier than the one"},
        {"{\"context_id\":\"c\",\"seq\":0,\"times\":[-6],\"values\":{\"T\":[1]}}", "outside the years"},
        {"{\"context_id\":\"c\",\"seq\":0,\"times\":[\"today\"],\"values\":{\"T\":[1]}}", "times (0)"},
        {"{\"context_id\":\"c\",\"seq\":0,\"first\":5,\"interval_us\":-1,\"values\":{\"T\":[1]}}",
         "interval_us must be"},
        {"{\"context_id\":\"c\",\"seq\":0,\"groups\":[{\"times\":[5],\"values\":{\"T\":[1]}},{\"times\":[5],"
         "\"values\":{\"T\":[1]}}]}",
         "comes a second time"},
        {"{\"context_id\":\"c\",\"seq\":0,\"groups\":[3]}", "groups[0]: values must be"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct batch_data data;
        int code =
            batch_data_read(wrong[i].text, strlen(wrong[i].text), &f->sensors, &f->arena, &data, &f->err);
        assert_true(code == ERR_INVALID || code == ERR_LIMIT);
        if (strstr(f->err.text, wrong[i].says) == NULL)
            fail_msg("%s: '%s' does not say '%s'", wrong[i].text, f->err.text, wrong[i].says);
    }
}

static void what_is_wrong_in_start_and_end_is_named(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *says;
        bool end;
    } wrong[] = {
        {"{\"context_id\":\"c\",\"started_at\":1}", "sensors must be an array", false},
        {"{\"context_id\":\"c\",\"started_at\":1,\"sensors\":[]}", "sensors is empty", false},
        {"{\"context_id\":\"c\",\"started_at\":1,\"sensors\":[\"a\",\"a\"]}", "are both 'a'", false},
        {"{\"context_id\":\"c\",\"started_at\":1,\"sensors\":[\"\"]}", "needs a name", false},
        {"{\"context_id\":\"c\",\"started_at\":1,\"sensors\":[1]}", "sensors[0] must be a string", false},
        {"{\"context_id\":\"c\",\"sensors\":[\"a\"]}", "started_at", false},
        {"{\"context_id\":\"c\",\"tool_id\":\"U\",\"started_at\":1,\"sensors\":[\"a\"]}",
         "tool_id is not 'T' as in the subject", false},
        {"{\"context_id\":\"c\",\"recipe\":[],\"started_at\":1,\"sensors\":[\"a\"]}", "recipe", false},
        {"{\"context_id\":\"c\",\"batches\":1}", "ended_at (0) must be a time", true},
        {"{\"context_id\":\"c\",\"ended_at\":1}", "batches must be a whole number", true},
        {"{\"context_id\":\"c\",\"ended_at\":1,\"batches\":-1}", "batches must be a whole number", true},
        {"{\"context_id\":\"c\",\"ended_at\":-1,\"batches\":1}", "outside the years", true},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct batch_start start;
        struct batch_end end;
        size_t length = strlen(wrong[i].text);
        int code = wrong[i].end
                       ? batch_end_read(wrong[i].text, length, &f->arena, &end, &f->err)
                       : batch_start_read(wrong[i].text, length, "T", "C", &f->arena, &start, &f->err);
        assert_int_not_equal(code, 0);
        if (strstr(f->err.text, wrong[i].says) == NULL)
            fail_msg("%s: '%s' does not say '%s'", wrong[i].text, f->err.text, wrong[i].says);
    }
}

static void writers_refuse_what_readers_would(void **state)
{
    struct fixture *f = *state;
    struct batch_group groups[2];
    struct batch_column columns[5];
    double values[5][SAMPLES];
    struct batch_data data;
    fill(&data, groups, columns, values, true);
    assert_int_equal(batch_data_write_json(&data, &f->sensors, &f->text, &f->err), ERR_INVALID);
    assert_non_null(strstr(f->err.text, "infinite"));
    columns[4].sensor = 0;
    assert_int_equal(batch_data_write(&data, &f->text, &f->err), ERR_INVALID);
    columns[4].sensor = 4;
    columns[1].sensor = 0;
    columns[0].sensor = 1;
    assert_int_equal(batch_data_write(&data, &f->text, &f->err), ERR_INVALID);
    assert_non_null(strstr(f->err.text, "ascending order"));
    data.sequence = BATCH_SEQUENCE_MAX + 1;
    assert_int_equal(batch_data_write(&data, &f->text, &f->err), ERR_LIMIT);
}

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
    return *seed;
}

/* Each cut and each flipped bit of a binary batch is noticed; with the checksum made right again nothing may
 * crash, and what is accepted must be writable again. */
static void damaged_batches_are_refused(void **state)
{
    struct fixture *f = *state;
    struct batch_group groups[2];
    struct batch_column columns[5];
    double values[5][SAMPLES];
    struct batch_data data;
    fill(&data, groups, columns, values, true);
    assert_int_equal(batch_data_write(&data, &f->text, &f->err), 0);
    size_t length = f->text.length;
    const char *rounds_text = getenv("FUZZ_ROUNDS");
    long rounds = rounds_text ? atol(rounds_text) : 100000, accepted = 0;
    uint64_t seed = 0x9e3779b97f4a7c15u;
    char *copy = malloc(length); /* exactly as long, so that a sanitizer sees a read beyond it */
    struct arena arena;
    arena_init(&arena, 0);
    for (size_t cut = 0; cut < length; cut++)
        assert_int_not_equal(batch_data_read(f->text.text, cut, &f->sensors, &arena, &data, &f->err), 0);
    for (long round = 0; round < rounds; round++) {
        bool mend = round % 2;
        memcpy(copy, f->text.text, length);
        for (uint64_t edits = 1 + next(&seed) % 4; edits > 0; edits--)
            copy[next(&seed) % length] ^= (char)(1 << next(&seed) % 8);
        if (mend) {
            uint64_t sum = hash64(copy, length - 8);
            for (int i = 0; i < 8; i++)
                copy[length - 8 + (size_t)i] = (char)(sum >> 8 * i);
        }
        struct batch_data back;
        arena_reset(&arena);
        int code = batch_data_read(copy, length, &f->sensors, &arena, &back, &f->err);
        if (!mend && memcmp(copy, f->text.text, length) != 0)
            assert_int_not_equal(code, 0);
        if (code)
            continue;
        struct strbuf again;
        strbuf_init(&again);
        assert_int_equal(batch_data_write(&back, &again, &f->err), 0);
        strbuf_free(&again);
        accepted++;
    }
    assert_true(accepted > 0);
    arena_free(&arena);
    free(copy);
}

static void mutated_json_never_crashes(void **state)
{
    struct fixture *f = *state;
    static const char *const seeds[] = {
        "{\"context_id\":\"c\",\"seq\":0,\"times\":[1769846400000000,\"2026-01-31T08:00:01Z\"],\"values\":{"
        "\"T\":[1,"
        "null],\"Pressure\":[2.5,-3e-7]}}",
        "{\"context_id\":\"c\",\"recipe\":\"R\",\"started_at\":\"2026-01-31T08:00:00Z\",\"sensors\":[\"T\","
        "\"P\"],"
        "\"x\":{\"y\":[1.5]}}",
        "{\"context_id\":\"c\",\"ended_at\":\"2026-01-31T08:00:00Z\",\"batches\":12}"};
    uint64_t seed = 7;
    struct arena arena;
    arena_init(&arena, 0);
    for (int round = 0; round < 30000; round++) {
        const char *text = seeds[round % 3];
        size_t length = strlen(text);
        char *copy = malloc(length);
        memcpy(copy, text, length);
        for (uint64_t edits = 1 + next(&seed) % 3; edits > 0; edits--)
            copy[next(&seed) % length] =
                next(&seed) % 3 ? "{}[]\",:0-e.n"[next(&seed) % 12] : (char)next(&seed);
        struct batch_data data;
        struct batch_start start;
        struct batch_end end;
        arena_reset(&arena);
        if (batch_data_read(copy, length, &f->sensors, &arena, &data, &f->err) == 0)
            assert_true(data.sequence <= BATCH_SEQUENCE_MAX);
        if (batch_start_read(copy, length, "T", "C", &arena, &start, &f->err) == 0)
            assert_true(start.sensors.count > 0);
        if (batch_end_read(copy, length, &arena, &end, &f->err) == 0)
            assert_true(end.batches <= BATCH_SEQUENCE_MAX + 1);
        free(copy);
    }
    arena_free(&arena);
}

/* A sensor count below the batch's places: the start has changed, or was another. */
static void places_beyond_the_list_are_refused(void **state)
{
    struct fixture *f = *state;
    struct batch_sensors few;
    struct batch_group groups[2];
    struct batch_column columns[5];
    double values[5][SAMPLES];
    struct batch_data data, back;
    fill(&data, groups, columns, values, true);
    assert_int_equal(batch_data_write(&data, &f->text, &f->err), 0);
    assert_int_equal(batch_sensors_index(NAMES, 4, &f->arena, &few, &f->err), 0);
    assert_int_equal(batch_data_read(f->text.text, f->text.length, &few, &f->arena, &back, &f->err),
                     ERR_INVALID);
    assert_non_null(strstr(f->err.text, "sensor 4, but the start lists 4"));
    f->text.text[3] = '2';
    assert_int_equal(batch_data_read(f->text.text, f->text.length, &f->sensors, &f->arena, &back, &f->err),
                     ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_batch_reads_back_to_the_bit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(random_values_read_back_to_the_bit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_binary_form_is_as_documented, set_up, tear_down),
        cmocka_unit_test_setup_teardown(start_and_end_read_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(people_write_json_in_several_ways, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_wrong_in_json_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_wrong_in_start_and_end_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writers_refuse_what_readers_would, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_batches_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mutated_json_never_crashes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(places_beyond_the_list_are_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("collector_batch", tests, NULL, NULL);
}
