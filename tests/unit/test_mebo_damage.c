/* No input makes the reader crash, read outside the blob or take more than its limits allow. Blobs are copied
 * to their exact size and the arena's blocks are as small as each allocation, so that an address sanitizer
 * sees a step outside. */
#include "test_mebo_vectors.h"

enum { MUTATIONS = 100000, MAX_CHANGES = 4 };

/* Opens a blob and decodes everything; the first error ends it. Returns that error. */
static int read_all(const unsigned char *bytes, size_t length, const struct mebo_limits *limits,
                    struct error *err)
{
    struct arena arena;
    struct mebo_blob blob;
    arena_init(&arena, 1);
    int rc = mebo_blob_open(&blob, bytes, length, &arena, limits, err);
    for (uint32_t i = 0; rc == 0 && i < blob.header.metric_count; i++) {
        uint32_t count = blob.metrics[i].count;
        double *values = malloc(count * sizeof *values + 1);
        int64_t *times = malloc(count * sizeof *times + 1);
        struct mebo_text *tags = malloc(count * sizeof *tags + 1);
        const int64_t *cached;
        rc = mebo_blob_values(&blob, i, values, err);
        if (rc == 0)
            rc = mebo_blob_read_timestamps(&blob, i, times, err);
        if (rc == 0)
            rc = mebo_blob_timestamps(&blob, i, &cached, err);
        if (rc == 0)
            rc = mebo_blob_tags(&blob, i, tags, err);
        free(values);
        free(times);
        free(tags);
    }
    arena_free(&arena);
    return rc;
}

static int read_copy(const unsigned char *bytes, size_t length, struct error *err)
{
    unsigned char *exact = malloc(length ? length : 1);
    memcpy(exact, bytes, length);
    int rc = read_all(exact, length, NULL, err);
    free(exact);
    return rc;
}

static void every_truncation_of_every_vector_is_an_error(void **state)
{
    struct vectors *vectors = *state;
    for (size_t n = 0; n < VECTOR_COUNT; n++) {
        const struct vector *v = &vectors->items[n];
        for (size_t length = 0; length < v->length; length++) {
            struct error err = {0};
            int rc = read_copy(v->bytes, length, &err);
            if (rc != ERR_CORRUPT || strstr(err.text, "offset") == NULL)
                fail_msg("%s cut to %zu bytes: %d %s", v->name, length, rc, err.text);
        }
        assert_int_equal(read_copy(v->bytes, v->length, NULL), 0);
    }
}

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Changes 1..4 bytes, every second time in the part before the payloads, where a byte means most. */
static void mutate(unsigned char *bytes, size_t length, size_t front, uint64_t *random)
{
    unsigned changes = 1 + (unsigned)(random_next(random) % MAX_CHANGES);
    size_t range = random_next(random) % 2 ? front : length;
    for (unsigned i = 0; i < changes; i++) {
        uint64_t r = random_next(random);
        size_t at = (size_t)(r >> 32) % range;
        switch (r % 4) {
        case 0:
            bytes[at] ^= (unsigned char)(1U << (r >> 8) % 8);
            break;
        case 1:
            bytes[at] = (unsigned char)(r >> 8);
            break;
        case 2:
            bytes[at] = 0xFF;
            break;
        default:
            bytes[at] = (unsigned char)(bytes[at] + 1);
        }
    }
}

/* The vectors, and each once more without compression, so that damage reaches the columns. */
struct corpus {
    struct mebo_bytes blobs[2 * VECTOR_COUNT];
    size_t front[2 * VECTOR_COUNT];
    struct arena arena;
};

static void corpus_fill(struct corpus *corpus, const struct vectors *vectors)
{
    arena_init(&corpus->arena, 0);
    for (size_t n = 0; n < VECTOR_COUNT; n++) {
        const struct vector *v = &vectors->items[n];
        struct mebo_options plain = v->options;
        struct mebo_blob blob;
        plain.times_codec = plain.values_codec = MEBO_NONE;
        corpus->blobs[2 * n] = (struct mebo_bytes){v->bytes, v->length};
        corpus->blobs[2 * n + 1] =
            series_encode(&corpus->arena, &plain, v->start_time_us, v->series, v->count);
        assert_int_equal(mebo_blob_open(&blob, v->bytes, v->length, &corpus->arena, NULL, NULL), 0);
        corpus->front[2 * n] = corpus->front[2 * n + 1] = blob.header.times_offset;
    }
}

static void random_damage_is_an_error_or_other_data(void **state)
{
    struct corpus corpus;
    uint64_t random = 20260901;
    unsigned refused = 0;
    corpus_fill(&corpus, *state);
    for (unsigned n = 0; n < MUTATIONS; n++) {
        const struct mebo_bytes *blob = &corpus.blobs[n % (2 * VECTOR_COUNT)];
        struct error err = {0};
        unsigned char *bytes = malloc(blob->length);
        memcpy(bytes, blob->data, blob->length);
        mutate(bytes, blob->length, corpus.front[n % (2 * VECTOR_COUNT)], &random);
        int rc = read_all(bytes, blob->length, NULL, &err);
        if (rc != 0 && (rc != err.code || err.text[0] == '\0' ||
                        (rc != ERR_CORRUPT && rc != ERR_UNSUPPORTED && rc != ERR_LIMIT)))
            fail_msg("mutation %u: code %d, message %d %s", n, rc, err.code, err.text);
        refused += rc != 0;
        free(bytes);
    }
    assert_true(refused > MUTATIONS / 2);
    arena_free(&corpus.arena);
}

/* ---- damage of a known kind, and the words for it ---- */

static void store32(unsigned char *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

static void assert_refused(const unsigned char *bytes, size_t length, int code, const char *words)
{
    struct error err = {0};
    int rc = read_copy(bytes, length, &err);
    if (rc != code || strstr(err.text, words) == NULL)
        fail_msg("expected %d \"%s\", got %d \"%s\"", code, words, rc, err.text);
}

/* A little-endian blob of two metrics with two points, shared timestamps and names. */
static struct mebo_bytes small_blob(struct arena *arena, bool shared, enum mebo_encoding values)
{
    static const int64_t times[4] = {1000, 1100, 1200, 1300};
    static const double numbers[4] = {1.5, 2.5, 1.5, 3.25};
    struct mebo_options o = mebo_options_tchart();
    o.shared_timestamps = shared;
    o.values_encoding = values;
    struct mebo_series series[2] = {{.name = "a", .count = 4, .times_us = times, .values = numbers},
                                    {.name = "b", .count = 4, .times_us = times, .values = numbers}};
    return series_encode(arena, &o, 0, series, 2);
}

static void messages_name_the_offset_and_the_reason(void **state)
{
    (void)state;
    struct arena arena;
    unsigned char b[1024];
    arena_init(&arena, 0);
    struct mebo_bytes good = small_blob(&arena, true, MEBO_GORILLA);
    assert_true(good.length < sizeof b);
#define DAMAGE(statement, code, words)                                                                       \
    do {                                                                                                     \
        memcpy(b, good.data, good.length);                                                                   \
        statement;                                                                                           \
        assert_refused(b, good.length, code, words);                                                         \
    } while (0)
    DAMAGE(store32(b + 16, 70000), ERR_CORRUPT, "offset 16: index offset 70000 is beyond the blob's");
    DAMAGE(store32(b + 12, 0), ERR_CORRUPT, "offset 12: 0 metrics");
    DAMAGE(store32(b + 12, 70000), ERR_CORRUPT, "offset 12: 70000 metrics");
    DAMAGE(b[0] = (unsigned char)(b[0] & 0x0F) | 0x40, ERR_CORRUPT, "offset 0: magic ea40");
    DAMAGE((b[0] = (unsigned char)(b[0] & 0x0F) | 0x10, b[1] = 0xEB), ERR_UNSUPPORTED, "text blob");
    DAMAGE((b[0] = (unsigned char)(b[0] & 0x0F) | 0x10), ERR_CORRUPT, "shared timestamps in a V1 blob");
    DAMAGE(b[2] = 0x33, ERR_UNSUPPORTED, "offset 2: encodings 3");
    DAMAGE(b[3] = 0x51, ERR_UNSUPPORTED, "offset 3: codecs 1 (times) and 5");
    DAMAGE(b[36] ^= 1, ERR_CORRUPT, "not the hash of its name");
    DAMAGE(b[32] = 3, ERR_CORRUPT, "offset 32: 3 names for 2 metrics");
    /* names end at 32 + 2 + 3 + 3 = 40; entries at 40 and 56; the table at 72: groups, canonical, members,
     * member */
    DAMAGE(b[50] = 1, ERR_CORRUPT, "offset 40: the first metric's columns do not begin at 0");
    DAMAGE(b[72] = 0, ERR_CORRUPT, "offset 72: a shared timestamp table without groups");
    DAMAGE(b[74] = 9, ERR_CORRUPT, "metric 9 in the shared timestamp table of 2 metrics");
    DAMAGE(b[78] = 0, ERR_CORRUPT, "offset 78: metric 0 stands twice");
    DAMAGE(b[76] = 7, ERR_CORRUPT, "offset 78: the shared timestamp table is cut");
    DAMAGE(b[48] = 5, ERR_CORRUPT, "shares the timestamps of metric 0");
    DAMAGE(store32(b + 28, (uint32_t)good.length - 1), ERR_CORRUPT, "offset 28: the payloads end at");
#undef DAMAGE
    arena_free(&arena);
}

/* A V1 blob of one metric around hand-made columns. */
static size_t one_metric_blob(unsigned char *b, enum mebo_encoding values, uint32_t count,
                              const unsigned char *times, size_t times_length, const unsigned char *column,
                              size_t length)
{
    memset(b, 0, 48);
    b[0] = 0x10;
    b[1] = 0xEA;
    b[2] = (unsigned char)(MEBO_DELTA | values << 4);
    b[3] = MEBO_NONE | MEBO_NONE << 4;
    store32(b + 12, 1);
    store32(b + 16, 32);
    store32(b + 20, 48);
    store32(b + 24, (uint32_t)(48 + times_length));
    store32(b + 28, (uint32_t)(48 + times_length + length));
    b[32] = 1;
    b[40] = (unsigned char)count;
    memcpy(b + 48, times, times_length);
    memcpy(b + 48 + times_length, column, length);
    return 48 + times_length + length;
}

static void damaged_columns_are_explained(void **state)
{
    (void)state;
    static const unsigned char two_times[] = {10, 20}, three_times[] = {10, 20, 0};
    static const unsigned char long_varint[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                                                0x80, 0x80, 0x80, 0x80, 0x01};
    static const unsigned char reuse_first[] = {0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0};
    static const unsigned char wide_window[] = {0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char cut_window[] = {0, 0, 0, 0, 0, 0, 0, 0, 0xC1, 0xF8, 0xFF};
    static const unsigned char longer[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char split_codes[] = {1, 63, 3, 1, 0, 0, 0, 0, 0, 0, 0x08, 0, 0, 0,
                                                0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0,    0, 0, 0};
    static const unsigned char main_exceptions[] = {0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                                    0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                                    1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char main_exponent[] = {0, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const unsigned char scheme3[] = {3};
    const struct {
        enum mebo_encoding values;
        const unsigned char *times;
        size_t times_length;
        const unsigned char *column;
        size_t length;
        const char *words;
    } cases[] = {
        {MEBO_GORILLA, two_times, 1, longer, 9, "point 1 is cut"},
        {MEBO_GORILLA, two_times, 1, longer, 9,
         "timestamp column, payload offset 0, 1 bytes: byte 1: the varint"},
        {MEBO_GORILLA, three_times, 3, longer, 9, "1 bytes are left after the last of 2 points"},
        {MEBO_GORILLA, long_varint, 11, longer, 9, "the varint of point 0"},
        {MEBO_GORILLA, two_times, 2, longer, 7, "the first value is cut"},
        {MEBO_GORILLA, two_times, 2, longer, 8, "point 1 is cut"},
        {MEBO_GORILLA, two_times, 2, longer, 10, "1 bytes are left after the last of 2 points"},
        {MEBO_GORILLA, two_times, 2, reuse_first, 10,
         "bit 64: point 1: reuse of a window before there is one"},
        {MEBO_GORILLA, two_times, 2, wide_window, 18, "bit 64: point 1: window wider than 64 bits"},
        {MEBO_GORILLA, two_times, 2, cut_window, 11, "is cut by the column's end (11 bytes)"},
        {MEBO_CHIMP, two_times, 2, reuse_first, 10,
         "bit 64: point 1: reuse of leading zeros that are not stored"},
        {MEBO_CHIMP, two_times, 2, longer, 8, "point 1 is cut"},
        {MEBO_RAW, two_times, 2, longer, 10, "raw column of 10 bytes for 2 points, which need 16"},
        {MEBO_ALP, two_times, 2, longer, 0, "an empty column for 2 points"},
        {MEBO_ALP, two_times, 2, scheme3, 1, "ALP scheme 3"},
        {MEBO_ALP, two_times, 2, main_exponent, 16, "exponents 19 and 0"},
        {MEBO_ALP, two_times, 2, longer, 10, "the fixed fields need 16"},
        {MEBO_ALP, two_times, 2, main_exceptions, 40, "byte 28: exception position 1 is not ascending"},
        {MEBO_ALP, two_times, 2, main_exceptions, 39, "need 40 bytes, not 39"},
        {MEBO_ALP, two_times, 2, split_codes, 27, "a code above the dictionary's 1 entries"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned char b[256];
        size_t length = one_metric_blob(b, cases[i].values, 2, cases[i].times, cases[i].times_length,
                                        cases[i].column, cases[i].length);
        assert_refused(b, length, ERR_CORRUPT, cases[i].words);
    }
}

/* ---- bombs ---- */

static void a_small_payload_that_grows_is_refused(void **state)
{
    (void)state;
    enum { POINTS = 500000 };
    int64_t *times = calloc(POINTS, sizeof *times);
    double *values = calloc(POINTS, sizeof *values);
    const struct mebo_series series = {.id = 1, .count = POINTS, .times_us = times, .values = values};
    for (enum mebo_codec codec = MEBO_NONE; codec <= MEBO_LZ4; codec++) {
        struct arena arena, reader;
        struct mebo_blob blob;
        struct error err = {0};
        struct mebo_limits limits = mebo_limits_default();
        struct mebo_options o = mebo_options_tchart();
        o.names = false;
        o.version = MEBO_V2_EXTENDED;
        o.times_encoding = o.values_encoding = MEBO_RAW;
        o.values_codec = codec;
        arena_init(&arena, 0);
        arena_init(&reader, 1);
        struct mebo_bytes bytes = series_encode(&arena, &o, 0, &series, 1);
        assert_true(codec == MEBO_NONE || bytes.length < (size_t)POINTS * 8 + 30000);
        limits.payload_bytes = (size_t)POINTS * 8;
        assert_int_equal(mebo_blob_open(&blob, bytes.data, bytes.length, &reader, &limits, &err), 0);
        arena_free(&reader);
        limits.payload_bytes -= 1;
        o.times_encoding = MEBO_DELTA; /* so that only the value payload is too large */
        bytes = series_encode(&arena, &o, 0, &series, 1);
        assert_int_equal(mebo_blob_open(&blob, bytes.data, bytes.length, &reader, &limits, &err), ERR_LIMIT);
        assert_non_null(strstr(err.text, "value payload at offset"));
        assert_true(reader.used_bytes < 4096); /* refused before memory was taken */
        arena_free(&reader);
        arena_free(&arena);
    }
    free(times);
    free(values);
}

/* Sizes that the compressed bytes only claim. */
static void a_claimed_size_takes_no_memory(void **state)
{
    (void)state;
    static const unsigned char s2_claim[] = {0xFF, 0xFF, 0xFF, 0xFF, 0x0F, 0x00, 0x41};
    static const unsigned char zstd_claim[] = {0x28, 0xB5, 0x2F, 0xFD, 0xE0, 0,    0, 0,
                                               0,    0,    1,    0,    0,    0x01, 0, 0};
    unsigned char lz4_claim[64];
    lz4_claim[0] = 0x1F; /* one literal, then a match as long as the 255s add up to */
    lz4_claim[1] = 'A';
    lz4_claim[2] = 1;
    lz4_claim[3] = 0;
    memset(lz4_claim + 4, 0xFF, 40);
    lz4_claim[44] = 0;
    const struct {
        enum mebo_codec codec;
        const unsigned char *bytes;
        size_t length;
    } cases[] = {{MEBO_S2, s2_claim, sizeof s2_claim},
                 {MEBO_ZSTD, zstd_claim, sizeof zstd_claim},
                 {MEBO_LZ4, lz4_claim, 45}};
    for (size_t i = 0; i < 3; i++) {
        static const unsigned char times[] = {10, 20};
        unsigned char b[256];
        struct arena arena;
        struct mebo_blob blob;
        struct mebo_limits limits = mebo_limits_default();
        limits.payload_bytes = 8000;
        arena_init(&arena, 1);
        size_t length = one_metric_blob(b, MEBO_RAW, 2, times, 2, cases[i].bytes, cases[i].length);
        b[3] = (unsigned char)(MEBO_NONE | cases[i].codec << 4);
        assert_int_equal(mebo_blob_open(&blob, b, length, &arena, &limits, NULL), ERR_LIMIT);
        assert_true(arena.used_bytes < 1024);
        arena_free(&arena);
    }
}

static void counts_above_the_limits_are_refused(void **state)
{
    (void)state;
    struct arena arena;
    struct error err = {0};
    struct mebo_limits limits = mebo_limits_default();
    arena_init(&arena, 0);
    struct mebo_bytes good = small_blob(&arena, true, MEBO_GORILLA);
    limits.points = 7;
    assert_int_equal(read_all(good.data, good.length, &limits, &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "8 points in 2 metrics, the limit is 7"));
    limits = mebo_limits_default();
    limits.metrics = 1;
    assert_int_equal(read_all(good.data, good.length, &limits, &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "offset 12: 2 metrics, the limit is 1"));
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_of_every_vector_is_an_error),
        cmocka_unit_test(random_damage_is_an_error_or_other_data),
        cmocka_unit_test(messages_name_the_offset_and_the_reason),
        cmocka_unit_test(damaged_columns_are_explained),
        cmocka_unit_test(a_small_payload_that_grows_is_refused),
        cmocka_unit_test(a_claimed_size_takes_no_memory),
        cmocka_unit_test(counts_above_the_limits_are_refused),
    };
    return cmocka_run_group_tests(tests, vectors_setup, vectors_teardown);
}
