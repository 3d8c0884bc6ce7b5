#include "cmocka_setup.h"

#include "import_recorder.h"

#include "base/hash.h"
#include "collector/import.h"
#include "collector/pack.h"

#include <math.h>

/* Opens packed blobs again and compares them with the columns they were made of, to the bit. */
static void expect_round_trip(const struct tchart_column *columns, size_t count, size_t chunk_points,
                              size_t expected_blobs)
{
    struct arena arena;
    struct tchart_blobs blobs;
    struct mebo_set set;
    struct error err = {.text = ""};
    arena_init(&arena, 0);
    if (tchart_pack(columns, count, chunk_points, &arena, &blobs, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(blobs.count, expected_blobs);
    size_t bytes = 0;
    for (size_t i = 0; i < blobs.count; i++)
        bytes += blobs.blobs[i].length;
    assert_int_equal(bytes, blobs.bytes);
    assert_int_equal(mebo_set_open(&set, blobs.blobs, blobs.count, &arena, NULL, &err), 0);
    for (size_t i = 0; i < count; i++) {
        uint64_t id = hash64_text(columns[i].name);
        struct mebo_column column;
        assert_int_equal(mebo_set_columns(&set, &id, 1, &column, &err), 0);
        assert_int_equal(column.found, columns[i].count > 0);
        assert_int_equal(column.count, columns[i].count);
        if (column.count == 0)
            continue;
        assert_memory_equal(column.times_us, columns[i].time_us, column.count * sizeof(int64_t));
        assert_memory_equal(column.values, columns[i].value, column.count * sizeof(double));
    }
    arena_free(&arena);
}

enum { SAMPLES = 5000 };

static void large_traces_become_several_blobs(void **state)
{
    (void)state;
    static int64_t time_us[SAMPLES];
    static int64_t slow_us[SAMPLES / 10];
    static double a[SAMPLES];
    static double b[SAMPLES];
    for (int i = 0; i < SAMPLES; i++) {
        time_us[i] = 1700000000000000 + (i / 2) * INT64_C(100000); /* every time twice: none is cut apart */
        a[i] = sin(i);
        b[i] = i % 7 == 0 ? (double)NAN : i;
    }
    for (int i = 0; i < SAMPLES / 10; i++)
        slow_us[i] = 1700000000000000 + i * INT64_C(500000) + 77;
    struct tchart_column columns[] = {
        {.name = "a", .count = SAMPLES, .time_us = time_us, .value = a},
        {.name = "empty"},
        {.name = "b", .count = SAMPLES, .time_us = time_us, .value = b},
        {.name = "slow", .count = SAMPLES / 10, .time_us = slow_us, .value = a}};
    expect_round_trip(columns, 4, 0, 1);
    expect_round_trip(columns, 4, 10500, 1);
    expect_round_trip(columns, 4, 10499, 2);
    expect_round_trip(columns, 4, 1000, 11);
    expect_round_trip(columns, 4, 1, SAMPLES / 2); /* as many as there are different times */
    columns[0].count = columns[2].count = columns[3].count = 1;
    expect_round_trip(columns, 4, 1,
                      1); /* one sample of each column is one stretch, however small the bound */
}

static void nothing_and_twice_the_same_are_refused(void **state)
{
    (void)state;
    struct arena arena;
    struct tchart_blobs blobs;
    struct error err;
    arena_init(&arena, 0);
    static const int64_t time_us[] = {5};
    static const double value[] = {1};
    struct tchart_column columns[] = {{.name = "a", .count = 1, .time_us = time_us, .value = value},
                                      {.name = "a", .count = 1, .time_us = time_us, .value = value}};
    assert_int_equal(tchart_pack(columns, 0, 0, &arena, &blobs, &err), ERR_INVALID);
    assert_int_equal(tchart_pack(columns, 2, 0, &arena, &blobs, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "chunk 0"));
    arena_free(&arena);
}

static void every_lam_wafer_is_packed(void **state)
{
    (void)state;
    struct recorder *recorder = recorder_new();
    struct import_sink sink = recorder_sink(recorder);
    assert_int_equal(
        import_path(PROJECT_ROOT "/data/lam9600", NULL, &sink, &recorder->summary, &recorder->err), 0);
    size_t bytes = 0;
    for (size_t i = 0; i < recorder->count; i++) {
        const struct import_context *context = &recorder->contexts[i];
        struct arena arena;
        struct tchart_blobs blobs;
        struct mebo_set set;
        arena_init(&arena, 0);
        assert_int_equal(tchart_pack_import(context, &arena, &blobs, &recorder->err), 0);
        assert_int_equal(blobs.count, 1);
        assert_int_equal(mebo_set_open(&set, blobs.blobs, 1, &arena, NULL, &recorder->err), 0);
        assert_int_equal(set.points, context->context.point_count);
        assert_true(set.blobs[0].header.has_names);
        uint32_t metric;
        assert_int_equal(mebo_blob_find_name(&set.blobs[0], "step", &metric), 0);
        bytes += blobs.bytes;
        arena_free(&arena);
    }
    /* 8 bytes a value would be 1.36 MB without any times. */
    assert_in_range(bytes, 100000, 700000);
    recorder_free(recorder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_traces_become_several_blobs),
        cmocka_unit_test(nothing_and_twice_the_same_are_refused),
        cmocka_unit_test(every_lam_wafer_is_packed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
