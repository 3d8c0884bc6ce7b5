/* What a blob holds comes out of it, and what is written is what the Go library writes. */
#include "test_mebo_vectors.h"

#include "base/hash.h"

#include <math.h>

/* Decodes `metric` of `blob` and compares bits. */
static void assert_series(struct mebo_blob *blob, uint32_t metric, const struct mebo_series *series,
                          bool tags)
{
    struct error err = {0};
    const struct mebo_metric *m = &blob->metrics[metric];
    assert_int_equal(m->count, series->count);
    double *values = malloc(m->count * sizeof *values);
    int64_t *times = malloc(m->count * sizeof *times);
    const int64_t *cached;
    if (mebo_blob_values(blob, metric, values, &err) ||
        mebo_blob_read_timestamps(blob, metric, times, &err) ||
        mebo_blob_timestamps(blob, metric, &cached, &err))
        fail_msg("%s", err.text);
    assert_memory_equal(values, series->values, m->count * sizeof *values);
    assert_memory_equal(times, series->times_us, m->count * sizeof *times);
    assert_memory_equal(cached, times, m->count * sizeof *times);
    if (tags) {
        struct mebo_text *got = malloc(m->count * sizeof *got);
        assert_int_equal(mebo_blob_tags(blob, metric, got, &err), 0);
        for (uint32_t i = 0; i < m->count; i++) {
            struct mebo_text want = series->tags ? series->tags[i] : (struct mebo_text){"", 0};
            assert_int_equal(got[i].length, want.length);
            assert_memory_equal(got[i].text, want.text, want.length);
        }
        free(got);
    }
    free(values);
    free(times);
}

static void every_vector_decodes_bit_by_bit(void **state)
{
    struct vectors *vectors = *state;
    for (size_t n = 0; n < VECTOR_COUNT; n++) {
        const struct vector *v = &vectors->items[n];
        struct arena arena;
        struct mebo_blob blob;
        struct error err = {0};
        arena_init(&arena, 1);
        if (mebo_blob_open(&blob, v->bytes, v->length, &arena, NULL, &err) != 0)
            fail_msg("%s: %s", v->name, err.text);
        assert_int_equal(blob.header.version, v->magic);
        assert_int_equal(blob.header.start_time_us, v->start_time_us);
        assert_int_equal(blob.header.times_encoding, v->options.times_encoding);
        assert_int_equal(blob.header.values_encoding, v->options.values_encoding);
        assert_int_equal(blob.header.times_codec, v->options.times_codec);
        assert_int_equal(blob.header.values_codec, v->options.values_codec);
        assert_int_equal(blob.header.big_endian, v->options.big_endian);
        assert_int_equal(blob.header.has_names, v->options.names);
        assert_int_equal(blob.header.has_tags, v->has_tags);
        assert_int_equal(blob.header.has_shared_timestamps, v->options.shared_timestamps);
        assert_int_equal(blob.header.metric_count, v->count);
        for (uint32_t i = 0; i < v->count; i++) {
            uint32_t found;
            assert_int_equal(blob.metrics[i].id, v->series[i].id);
            assert_int_equal(mebo_blob_find(&blob, v->series[i].id, &found), 0);
            assert_int_equal(found, i);
            if (v->series[i].name) {
                assert_int_equal(mebo_blob_find_name(&blob, v->series[i].name, &found), 0);
                assert_int_equal(found, i);
            }
            if (v->options.names)
                assert_string_equal(blob.metrics[i].name, v->series[i].name);
            assert_series(&blob, i, &v->series[i], true);
        }
        arena_free(&arena);
    }
}

static void every_vector_is_written_again_byte_by_byte(void **state)
{
    struct vectors *vectors = *state;
    unsigned whole = 0;
    for (size_t n = 0; n < VECTOR_COUNT; n++) {
        const struct vector *v = &vectors->items[n];
        struct arena arena;
        struct mebo_blob ours, theirs;
        struct mebo_options plain = v->options;
        arena_init(&arena, 0);
        plain.times_codec = plain.values_codec = MEBO_NONE;
        struct mebo_bytes blob = series_encode(&arena, &plain, v->start_time_us, v->series, v->count);
        assert_int_equal(mebo_blob_open(&ours, blob.data, blob.length, &arena, NULL, NULL), 0);
        assert_int_equal(mebo_blob_open(&theirs, v->bytes, v->length, &arena, NULL, NULL), 0);
        assert_int_equal(ours.header.version, theirs.header.version);
        assert_int_equal(ours.times.length, theirs.times.length);
        assert_int_equal(ours.values.length, theirs.values.length);
        assert_int_equal(ours.tags.length, theirs.tags.length);
        assert_memory_equal(ours.times.data, theirs.times.data, ours.times.length);
        assert_memory_equal(ours.values.data, theirs.values.data, ours.values.length);
        if (ours.tags.length)
            assert_memory_equal(ours.tags.data, theirs.tags.data, ours.tags.length);
        /* Header, names, index, shared table: the same but for the payloads' offsets and codecs. */
        assert_int_equal(ours.header.times_offset, theirs.header.times_offset);
        assert_memory_equal((const unsigned char *)blob.data + 32, v->bytes + 32,
                            ours.header.times_offset - 32);
        if (v->options.times_codec == MEBO_NONE && v->options.values_codec == MEBO_NONE && !v->has_tags) {
            assert_int_equal(blob.length, v->length);
            assert_memory_equal(blob.data, v->bytes, v->length);
            whole++;
        }
        arena_free(&arena);
    }
    assert_true(whole >= 8);
}

/* ---- round trips of every combination ---- */

enum { TRIP_SERIES = 9, TRIP_POINTS = 150 };

struct trip {
    struct mebo_series series[TRIP_SERIES];
    int64_t regular[TRIP_POINTS], jitter[TRIP_POINTS], wild[TRIP_POINTS];
    double values[TRIP_SERIES][TRIP_POINTS];
    struct mebo_text tags[TRIP_POINTS];
};

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static double special_value(unsigned i)
{
    static const uint64_t patterns[] = {0,
                                        UINT64_C(0x8000000000000000),
                                        UINT64_C(0x7FF0000000000000),
                                        UINT64_C(0xFFF0000000000000),
                                        UINT64_C(0x7FF8000000000001),
                                        UINT64_C(0xFFF4000000000123),
                                        1,
                                        UINT64_MAX,
                                        UINT64_C(0x7FEFFFFFFFFFFFFF),
                                        UINT64_C(0x43E0000000000000),
                                        UINT64_C(0x4330000000000001)};
    double value;
    memcpy(&value, &patterns[i % (sizeof patterns / sizeof patterns[0])], sizeof value);
    return value;
}

static void trip_fill(struct trip *trip)
{
    static const char *const names[TRIP_SERIES] = {"const",   "dec", "dec3", "walk", "bits",
                                                   "special", "one", "two",  "three"};
    static const uint32_t counts[TRIP_SERIES] = {
        TRIP_POINTS, TRIP_POINTS, TRIP_POINTS, TRIP_POINTS, TRIP_POINTS, 61, 1, 2, 3};
    uint64_t state = 7;
    double walk = 88.5;
    for (unsigned i = 0; i < TRIP_POINTS; i++) {
        trip->regular[i] = 1764028807000021 + 100000 * (int64_t)i;
        trip->jitter[i] = trip->regular[i] + (int64_t)(random_next(&state) % 70000) - 35000;
        trip->wild[i] = (int64_t)random_next(&state) >> 4;
        walk += (double)(int64_t)(random_next(&state) >> 40) * 1e-9 - 0.008;
        trip->values[0][i] = 53.9;
        trip->values[1][i] = (double)(int)(random_next(&state) % 4000) / 10;
        trip->values[2][i] = i % 40 == 7 ? walk * 1e-7 : (double)(int)(random_next(&state) % 900000) / 1000;
        trip->values[3][i] = walk;
        uint64_t bits = random_next(&state);
        memcpy(&trip->values[4][i], &bits, sizeof bits);
        for (unsigned s = 5; s < TRIP_SERIES; s++)
            trip->values[s][i] = special_value(i + s);
        trip->tags[i] = i % 3 ? (struct mebo_text){"", 0} : (struct mebo_text){"step=4", 6};
    }
    for (unsigned s = 0; s < TRIP_SERIES; s++)
        trip->series[s] = (struct mebo_series){.name = names[s],
                                               .count = counts[s],
                                               .times_us = s < 3    ? trip->regular
                                                           : s == 5 ? trip->wild
                                                                    : trip->jitter,
                                               .values = trip->values[s]};
    trip->series[2].tags = trip->tags;
    trip->series[8].tags = trip->tags;
}

static void trip_once(const struct trip *trip, const struct mebo_options *options)
{
    struct arena arena;
    struct mebo_blob blob;
    struct error err = {0};
    arena_init(&arena, 1);
    struct mebo_bytes bytes = series_encode(&arena, options, -5, trip->series, TRIP_SERIES);
    if (mebo_blob_open(&blob, bytes.data, bytes.length, &arena, NULL, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(blob.header.version, options->version);
    assert_int_equal(blob.header.start_time_us, -5);
    assert_int_equal(blob.header.has_shared_timestamps, options->shared_timestamps);
    for (unsigned s = 0; s < TRIP_SERIES; s++) {
        uint32_t metric;
        assert_int_equal(mebo_blob_find_name(&blob, trip->series[s].name, &metric), 0);
        assert_series(&blob, metric, &trip->series[s], true);
    }
    arena_free(&arena);
}

static void every_combination_makes_the_round_trip(void **state)
{
    (void)state;
    static const enum mebo_encoding times[] = {MEBO_RAW, MEBO_DELTA, MEBO_DELTA_PACKED};
    static const enum mebo_encoding values[] = {MEBO_RAW, MEBO_GORILLA, MEBO_CHIMP, MEBO_ALP};
    static const enum mebo_version versions[] = {MEBO_V1, MEBO_V2, MEBO_V2_EXTENDED};
    struct trip *trip = calloc(1, sizeof *trip);
    unsigned trips = 0;
    trip_fill(trip);
    for (unsigned n = 0; n < 3 * 4 * 4 * 4 * 2 * 3 * 2; n++) {
        unsigned k = n;
        struct mebo_options o = {.times_encoding = times[k % 3], .values_encoding = values[k / 3 % 4]};
        k /= 12;
        o.times_codec = (enum mebo_codec)(1 + k % 4);
        o.values_codec = (enum mebo_codec)(1 + k / 4 % 4);
        k /= 16;
        o.big_endian = k % 2;
        o.version = versions[k / 2 % 3];
        o.shared_timestamps = k / 6;
        o.names = n % 5 == 0;
        if (o.shared_timestamps && o.version == MEBO_V1)
            continue;
        trip_once(trip, &o);
        trips++;
    }
    assert_int_equal(trips, 12 * 16 * 2 * 5);
    free(trip);
}

/* Lengths around every word and group size, for the paths that treat a column's last bytes differently. */
static void columns_of_every_short_length_make_the_round_trip(void **state)
{
    (void)state;
    struct trip *trip = calloc(1, sizeof *trip);
    trip_fill(trip);
    for (uint32_t count = 1; count <= TRIP_POINTS; count++) {
        for (unsigned s = 0; s < TRIP_SERIES; s++)
            trip->series[s].count = count;
        static const enum mebo_encoding values[] = {MEBO_GORILLA, MEBO_CHIMP, MEBO_ALP, MEBO_RAW};
        for (unsigned e = 0; e < 4; e++) {
            struct mebo_options o = mebo_options_default();
            o.times_encoding = e % 2 ? MEBO_DELTA : MEBO_DELTA_PACKED;
            o.values_encoding = values[e];
            trip_once(trip, &o);
        }
    }
    free(trip);
}

/* ALP packs codes of any width: every one of them. */
static void alp_codes_of_every_width_make_the_round_trip(void **state)
{
    (void)state;
    enum { POINTS = 67 };
    static int64_t times[POINTS];
    static double values[POINTS];
    for (unsigned width = 0; width <= 62; width++) {
        for (unsigned i = 0; i < POINTS; i++) {
            uint64_t top = width ? UINT64_C(1) << (width - 1) : 0;
            uint64_t code =
                width > 52
                    ? (i % 2 ? top + (uint64_t)i * 4096 * (width > 56 ? 64 : 1) : i) /* exact doubles */
                    : (width ? (i * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - width) | (i == 3 ? top : 0) : 5);
            values[i] = (double)code;
            times[i] = (int64_t)i;
        }
        struct mebo_series series = {.id = 9, .count = POINTS, .times_us = times, .values = values};
        struct arena arena;
        struct mebo_blob blob;
        struct mebo_options o = mebo_options_default();
        o.values_encoding = MEBO_ALP;
        o.big_endian = width % 2;
        arena_init(&arena, 1);
        struct mebo_bytes bytes = series_encode(&arena, &o, 0, &series, 1);
        assert_int_equal(mebo_blob_open(&blob, bytes.data, bytes.length, &arena, NULL, NULL), 0);
        assert_series(&blob, 0, &series, false);
        arena_free(&arena);
    }
}

/* ---- index and versions ---- */

static void v2_takes_the_wide_index_only_where_needed(void **state)
{
    (void)state;
    enum { POINTS = 70000 };
    int64_t *times = calloc(POINTS, sizeof *times);
    double *values = calloc(POINTS, sizeof *values);
    struct arena arena;
    arena_init(&arena, 0);
    for (int i = 0; i < POINTS; i++)
        times[i] = i;
    struct mebo_options o = mebo_options_tchart();
    struct mebo_series series[2] = {{.name = "a", .count = POINTS, .times_us = times, .values = values},
                                    {.name = "b", .count = 10, .times_us = times, .values = values}};
    struct mebo_blob blob;
    struct mebo_bytes bytes = series_encode(&arena, &o, 0, series, 2);
    assert_int_equal(mebo_blob_open(&blob, bytes.data, bytes.length, &arena, NULL, NULL), 0);
    assert_int_equal(blob.header.version, MEBO_V2_EXTENDED);
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t at;
        assert_int_equal(mebo_blob_find_name(&blob, series[i].name, &at), 0);
        assert_series(&blob, at, &series[i], false);
    }
    series[0].count =
        60000; /* raw columns of 480,000 bytes: the count fits, the length does not, unless it is last */
    o.values_encoding = MEBO_RAW;
    bytes = series_encode(&arena, &o, 0, series, 1);
    assert_int_equal(mebo_blob_open(&blob, bytes.data, bytes.length, &arena, NULL, NULL), 0);
    assert_int_equal(blob.header.version, MEBO_V2);
    bytes = series_encode(&arena, &o, 0, series, 2);
    assert_int_equal(mebo_blob_open(&blob, bytes.data, bytes.length, &arena, NULL, NULL), 0);
    bool long_one_is_last = hash64_text("a") > hash64_text("b");
    assert_int_equal(blob.header.version, long_one_is_last ? MEBO_V2 : MEBO_V2_EXTENDED);
    arena_free(&arena);
    free(times);
    free(values);
}

/* 65,536 metrics, all sharing one column: the last index and the member count just fit their 16 bits. */
static void the_most_metrics_fit(void **state)
{
    (void)state;
    enum { MOST = 65536 };
    static const int64_t times[2] = {7, 8};
    static const double values[2] = {1, 2};
    for (int v1 = 0; v1 < 2; v1++) {
        struct arena arena;
        struct mebo_encoder encoder;
        struct mebo_bytes bytes;
        struct mebo_blob blob;
        struct error err = {0};
        struct mebo_options o = v1 ? mebo_options_default() : mebo_options_tchart();
        o.names = false;
        arena_init(&arena, 0);
        mebo_encoder_init(&encoder, &o, 0, &arena);
        struct mebo_series series = {.count = 2, .times_us = times, .values = values};
        for (uint64_t i = 0; i < MOST; i++) {
            series.id = (i + 1) * UINT64_C(0x9E3779B97F4A7C15); /* odd factor: all different, in no order */
            assert_int_equal(mebo_encoder_add(&encoder, &series, &err), 0);
        }
        series.id = 1;
        assert_int_equal(mebo_encoder_add(&encoder, &series, &err), ERR_LIMIT);
        assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err), 0);
        if (mebo_blob_open(&blob, bytes.data, bytes.length, &arena, NULL, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(blob.header.metric_count, MOST);
        assert_int_equal(blob.header.has_shared_timestamps, !v1);
        for (uint64_t i = 0; i < MOST; i += 4369) {
            uint32_t metric;
            assert_int_equal(mebo_blob_find(&blob, (i + 1) * UINT64_C(0x9E3779B97F4A7C15), &metric), 0);
            series.id = blob.metrics[metric].id;
            assert_series(&blob, metric, &series, false);
        }
        arena_free(&arena);
    }
}

static void v1_says_what_to_do_when_a_column_is_too_long(void **state)
{
    (void)state;
    enum { POINTS = 9000 };
    int64_t *times = calloc(POINTS, sizeof *times);
    double *values = calloc(POINTS, sizeof *values);
    struct arena arena;
    arena_init(&arena, 0);
    struct mebo_options o = mebo_options_default();
    o.values_encoding = MEBO_RAW;
    struct mebo_series series[2] = {{.id = 1, .count = POINTS, .times_us = times, .values = values},
                                    {.id = 2, .count = POINTS, .times_us = times, .values = values}};
    struct mebo_encoder encoder;
    struct mebo_bytes bytes;
    struct error err;
    mebo_encoder_init(&encoder, &o, 0, &arena);
    assert_int_equal(mebo_encoder_add(&encoder, &series[0], &err), 0);
    assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err),
                     0); /* the last column's length is not in the index */
    assert_int_equal(mebo_encoder_add(&encoder, &series[1], &err), 0);
    assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "write V2 or shorter blobs"));
    arena_free(&arena);
    free(times);
    free(values);
}

static void the_encoder_refuses_what_no_blob_can_hold(void **state)
{
    (void)state;
    const int64_t times[3] = {0, INT64_MAX, INT64_MIN};
    const double values[3] = {1, 2, 3};
    struct mebo_series good = {.id = 5, .count = 1, .times_us = times, .values = values}, bad;
    struct mebo_encoder encoder;
    struct mebo_options o = mebo_options_default();
    struct mebo_bytes bytes;
    struct error err;
    struct arena arena;
    arena_init(&arena, 0);
    mebo_encoder_init(&encoder, &o, 0, &arena);
    assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err), ERR_INVALID);
    bad = good;
    bad.count = 0;
    assert_int_equal(mebo_encoder_add(&encoder, &bad, &err), ERR_INVALID);
    bad = good;
    bad.id = 0;
    assert_int_equal(mebo_encoder_add(&encoder, &bad, &err), ERR_INVALID);
    bad.id = 5;
    bad.name = "x";
    assert_int_equal(mebo_encoder_add(&encoder, &bad, &err), ERR_INVALID);
    assert_int_equal(mebo_encoder_add(&encoder, &good, &err), 0);
    assert_int_equal(mebo_encoder_add(&encoder, &good, &err), 0);
    assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "0000000000000005"));
    mebo_encoder_init(&encoder, &o, 0, &arena); /* Go's reader would stop at such a jump */
    good.count = 3;
    assert_int_equal(mebo_encoder_add(&encoder, &good, &err), 0);
    assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err), ERR_INVALID);
    encoder.options.times_encoding = MEBO_DELTA_PACKED;
    assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err), 0);
    encoder.options.values_encoding = MEBO_DELTA;
    assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err), ERR_INVALID);
    encoder.options = o;
    encoder.options.shared_timestamps = true;
    assert_int_equal(mebo_encoder_finish(&encoder, &bytes, &err), ERR_INVALID);
    arena_free(&arena);
}

/* ---- sharing and sets ---- */

static void equal_timestamps_are_decoded_once(void **state)
{
    (void)state;
    struct trip *trip = calloc(1, sizeof *trip);
    trip_fill(trip);
    for (int shared = 0; shared < 2; shared++) {
        struct arena arena;
        struct mebo_blob blob;
        struct mebo_options o = mebo_options_tchart();
        o.shared_timestamps = shared; /* without a table the columns are still the same bytes */
        arena_init(&arena, 0);
        struct mebo_bytes bytes = series_encode(&arena, &o, 0, trip->series, TRIP_SERIES);
        assert_int_equal(mebo_blob_open(&blob, bytes.data, bytes.length, &arena, NULL, NULL), 0);
        const int64_t *times[3];
        for (unsigned s = 0; s < 3; s++) {
            uint32_t metric;
            assert_int_equal(mebo_blob_find_name(&blob, trip->series[s].name, &metric), 0);
            assert_int_equal(mebo_blob_timestamps(&blob, metric, &times[s], NULL), 0);
        }
        assert_ptr_equal(times[0], times[1]);
        assert_ptr_equal(times[0], times[2]);
        arena_free(&arena);
    }
    free(trip);
}

static void a_set_joins_blobs_in_time_order(void **state)
{
    (void)state;
    enum { BLOBS = 3, POINTS = 20 };
    int64_t times[BLOBS][POINTS];
    double values[BLOBS][2][POINTS];
    struct arena arena;
    struct mebo_bytes chunks[BLOBS];
    struct mebo_options o = mebo_options_tchart();
    arena_init(&arena, 0);
    for (int b = 0; b < BLOBS; b++) {
        struct mebo_series series[3];
        for (int i = 0; i < POINTS; i++) {
            times[b][i] = (b * POINTS + i) * 100;
            values[b][0][i] = b * POINTS + i;
            values[b][1][i] = -values[b][0][i];
        }
        series[0] =
            (struct mebo_series){.name = "p", .count = POINTS, .times_us = times[b], .values = values[b][0]};
        series[1] =
            (struct mebo_series){.name = "q", .count = POINTS, .times_us = times[b], .values = values[b][1]};
        series[2] =
            (struct mebo_series){.name = "only", .count = 2, .times_us = times[b], .values = values[b][0]};
        chunks[BLOBS - 1 - b] =
            series_encode(&arena, &o, times[b][0], series, b == 1 ? 3 : 2); /* given backwards */
    }
    struct mebo_set set;
    struct error err;
    assert_int_equal(mebo_set_open(&set, chunks, BLOBS, &arena, NULL, &err), 0);
    assert_int_equal(set.points, 2 * BLOBS * POINTS + 2);
    uint64_t ids[4] = {hash64_text("p"), hash64_text("none"), hash64_text("q"), hash64_text("only")};
    struct mebo_column columns[4];
    assert_int_equal(mebo_set_columns(&set, ids, 4, columns, &err), 0);
    assert_int_equal(columns[0].count, BLOBS * POINTS);
    for (int i = 0; i < BLOBS * POINTS; i++) {
        assert_int_equal(columns[0].times_us[i], i * 100);
        assert_true(columns[0].values[i] == i && columns[2].values[i] == -i);
    }
    assert_ptr_equal(columns[0].times_us, columns[2].times_us);
    assert_false(columns[1].found);
    assert_null(columns[1].values);
    assert_true(columns[3].found);
    assert_int_equal(columns[3].count, 2);
    assert_int_equal(columns[3].times_us[0], POINTS * 100);
    struct mebo_limits limits = mebo_limits_default();
    limits.points = 3 * POINTS; /* enough for one blob, not for all */
    assert_int_equal(mebo_set_open(&set, chunks, BLOBS, &arena, &limits, &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "chunk 1 of 3"));
    assert_int_equal(mebo_set_open(&set, chunks, 0, &arena, NULL, &err), ERR_INVALID);
    arena_free(&arena);
}

static void names_and_codes_translate_both_ways(void **state)
{
    (void)state;
    enum mebo_encoding encoding;
    enum mebo_codec codec;
    for (unsigned e = MEBO_RAW; e <= MEBO_ALP; e++) {
        assert_true(mebo_encoding_parse(mebo_encoding_name((enum mebo_encoding)e), &encoding));
        assert_int_equal(encoding, e);
    }
    for (unsigned c = MEBO_NONE; c <= MEBO_LZ4; c++) {
        assert_true(mebo_codec_parse(mebo_codec_name((enum mebo_codec)c), &codec));
        assert_int_equal(codec, c);
    }
    assert_false(mebo_encoding_parse("?", &encoding));
    assert_false(mebo_codec_parse("gzip", &codec));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_decodes_bit_by_bit),
        cmocka_unit_test(every_vector_is_written_again_byte_by_byte),
        cmocka_unit_test(every_combination_makes_the_round_trip),
        cmocka_unit_test(columns_of_every_short_length_make_the_round_trip),
        cmocka_unit_test(alp_codes_of_every_width_make_the_round_trip),
        cmocka_unit_test(v2_takes_the_wide_index_only_where_needed),
        cmocka_unit_test(the_most_metrics_fit),
        cmocka_unit_test(v1_says_what_to_do_when_a_column_is_too_long),
        cmocka_unit_test(the_encoder_refuses_what_no_blob_can_hold),
        cmocka_unit_test(equal_timestamps_are_decoded_once),
        cmocka_unit_test(a_set_joins_blobs_in_time_order),
        cmocka_unit_test(names_and_codes_translate_both_ways),
    };
    return cmocka_run_group_tests(tests, vectors_setup, vectors_teardown);
}
