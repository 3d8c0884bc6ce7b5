/* S2 blocks by hand: each element, the repeats that Snappy has not, and everything that may not stand in a
 * block. */
#include "cmocka_setup.h"

#include "mebo/codec.h"

#include <stdlib.h>
#include <string.h>

static int decode(const unsigned char *block, size_t block_length, unsigned char **out, size_t *length,
                  struct error *err)
{
    uint64_t stated;
    size_t at;
    unsigned char *exact = malloc(block_length ? block_length : 1);
    memcpy(exact, block, block_length);
    struct mebo_bytes in = {exact, block_length};
    *out = NULL;
    int rc = mebo_s2_length(in, &stated, &at, err);
    if (rc == 0) {
        *length = (size_t)stated;
        *out = malloc(*length ? *length : 1);
        rc = mebo_s2_decode(in, at, *out, *length, err);
    }
    free(exact);
    return rc;
}

static void assert_decodes(const unsigned char *block, size_t block_length, const char *want)
{
    struct error err = {0};
    unsigned char *out;
    size_t length = 0;
    if (decode(block, block_length, &out, &length, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(length, strlen(want));
    assert_memory_equal(out, want, length);
    free(out);
}

static void assert_refused(const unsigned char *block, size_t block_length, const char *words)
{
    struct error err = {0};
    unsigned char *out;
    size_t length;
    int rc = decode(block, block_length, &out, &length, &err);
    if (rc != ERR_CORRUPT || strstr(err.text, words) == NULL)
        fail_msg("expected \"%s\", got %d \"%s\"", words, rc, err.text);
    free(out);
}

static void each_element_is_read(void **state)
{
    (void)state;
    static const unsigned char literal[] = {3, 2 << 2, 'a', 'b', 'c'};
    static const unsigned char literal_1[] = {3, 60 << 2, 2, 'a', 'b', 'c'};
    static const unsigned char literal_2[] = {3, 61 << 2, 2, 0, 'a', 'b', 'c'};
    static const unsigned char literal_3[] = {3, 62 << 2, 2, 0, 0, 'a', 'b', 'c'};
    static const unsigned char literal_4[] = {3, 63 << 2, 2, 0, 0, 0, 'a', 'b', 'c'};
    static const unsigned char copy_1[] = {8, 2 << 2, 'a', 'b', 'c', (1 << 2) | 1, 3};
    static const unsigned char copy_2[] = {5, 2 << 2, 'a', 'b', 'c', (1 << 2) | 2, 3, 0};
    static const unsigned char copy_4[] = {4, 2 << 2, 'a', 'b', 'c', (0 << 2) | 3, 2, 0, 0, 0};
    static const unsigned char run[] = {12, 0, 'x', (7 << 2) | 1, 1};
    static const unsigned char nothing[] = {0};
    assert_decodes(literal, sizeof literal, "abc");
    assert_decodes(literal_1, sizeof literal_1, "abc");
    assert_decodes(literal_2, sizeof literal_2, "abc");
    assert_decodes(literal_3, sizeof literal_3, "abc");
    assert_decodes(literal_4, sizeof literal_4, "abc");
    assert_decodes(copy_1, sizeof copy_1, "abcabcab");
    assert_decodes(copy_2, sizeof copy_2, "abcab");
    assert_decodes(copy_4, sizeof copy_4, "abcb");
    assert_decodes(run, sizeof run, "xxxxxxxxxxxx");
    assert_decodes(nothing, sizeof nothing, "");
}

static void a_repeat_takes_the_last_offset(void **state)
{
    (void)state;
    /* "abcd", then 4 from 4 back, a literal "!", 5 more from 4 back */
    static const unsigned char block[] = {14, 3 << 2, 'a', 'b', 'c', 'd', 1, 4, 0, '!', (1 << 2) | 1, 0};
    assert_decodes(block, sizeof block, "abcdabcd!bcd!b");
}

/* The three long forms: 8 + u8, 260 + u16, 65540 + u24. */
static void long_repeats_are_read(void **state)
{
    (void)state;
    static const struct {
        unsigned char bytes[8];
        size_t count, length;
    } forms[] = {{{(4 << 2) | 1, 0}, 2, 8},
                 {{(5 << 2) | 1, 0, 255}, 3, 263},
                 {{(6 << 2) | 1, 0, 0x34, 0x12}, 4, 260 + 0x1234},
                 {{(7 << 2) | 1, 0, 0x03, 0x00, 0x01}, 5, 65540 + 0x10003}};
    for (size_t f = 0; f < sizeof forms / sizeof forms[0]; f++) {
        unsigned char block[32], *out;
        size_t total = 3 + 4 + forms[f].length, length, n = 0;
        for (size_t v = total; v || n == 0; v >>= 7)
            block[n++] = (unsigned char)((v & 0x7F) | (v >> 7 ? 0x80 : 0));
        memcpy(block + n, "\x08xyz\x01\x03", 6);
        memcpy(block + n + 6, forms[f].bytes, forms[f].count);
        assert_int_equal(decode(block, n + 6 + forms[f].count, &out, &length, NULL), 0);
        assert_int_equal(length, total);
        for (size_t i = 0; i < total; i++)
            assert_int_equal(out[i], "xyz"[i % 3]);
        free(out);
    }
}

static void what_may_not_stand_in_a_block_is_refused(void **state)
{
    (void)state;
    static const unsigned char repeat_first[] = {5, 0, 'a', 1, 0};
    static const unsigned char too_far[] = {5, 0, 'a', 1, 2};
    static const unsigned char zero_offset[] = {5, 0, 'a', (3 << 2) | 2, 0, 0};
    static const unsigned char too_long[] = {4, 0, 'a', 1, 1};
    static const unsigned char too_short[] = {9, 0, 'a', 1, 1};
    static const unsigned char cut_literal[] = {3, 2 << 2, 'a', 'b'};
    static const unsigned char cut_length[] = {3, 61 << 2, 2};
    static const unsigned char cut_copy[] = {8, 0, 'a', (3 << 2) | 3, 1, 0, 0};
    static const unsigned char cut_repeat[] = {100, 0, 'a', 1, 1, (7 << 2) | 1, 0, 1, 1};
    static const unsigned char no_length[] = {0x80};
    assert_refused(repeat_first, sizeof repeat_first, "byte 3: an S2 copy from 0 bytes back");
    assert_refused(too_far, sizeof too_far, "byte 3: an S2 copy from 2 bytes back, where 1 are written");
    assert_refused(zero_offset, sizeof zero_offset, "copy from 0 bytes back");
    assert_refused(too_long, sizeof too_long, "only 3 of 4 are missing");
    assert_refused(too_short, sizeof too_short, "ends after 5 of 9 bytes");
    assert_refused(cut_literal, sizeof cut_literal, "byte 1: an S2 literal of 3 bytes is cut");
    assert_refused(cut_length, sizeof cut_length, "byte 1: an S2 element is cut");
    assert_refused(cut_copy, sizeof cut_copy, "byte 3: an S2 element is cut");
    assert_refused(cut_repeat, sizeof cut_repeat, "byte 5: an S2 element is cut");
    assert_refused(no_length, sizeof no_length, "byte 0: the decoded length is cut");
}

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static void assert_round_trip(const unsigned char *data, size_t length)
{
    unsigned char *block = malloc(mebo_s2_bound(length)), *out;
    size_t got;
    struct error err = {0};
    size_t block_length = mebo_s2_encode(data, length, block);
    assert_true(block_length <= mebo_s2_bound(length));
    if (decode(block, block_length, &out, &got, &err) != 0)
        fail_msg("%zu bytes: %s", length, err.text);
    assert_int_equal(got, length);
    assert_memory_equal(out, data, length);
    free(out);
    free(block);
}

static void blocks_make_the_round_trip(void **state)
{
    (void)state;
    enum { BYTES = 300000, BIG = 20000000 };
    uint64_t random = 3;
    unsigned char *data = malloc(BIG);
    for (size_t i = 0; i < BYTES; i++) /* noise, with runs and copies from near and far */
        data[i] = i % 1000 < 200   ? (unsigned char)random_next(&random)
                  : i % 1000 < 500 ? data[i - 150]
                  : i > 100000     ? data[i - 99000]
                                   : (unsigned char)(i / 1000);
    for (size_t length = 0; length < 300; length++)
        assert_round_trip(data, length);
    for (size_t length = 300; length < BYTES; length = length * 3 / 2)
        assert_round_trip(data + (length & 15), length - (length & 15));
    memset(data, 7, BIG); /* longer than one repeat can say */
    assert_round_trip(data, BIG);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_element_is_read),
        cmocka_unit_test(a_repeat_takes_the_last_offset),
        cmocka_unit_test(long_repeats_are_read),
        cmocka_unit_test(what_may_not_stand_in_a_block_is_refused),
        cmocka_unit_test(blocks_make_the_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
