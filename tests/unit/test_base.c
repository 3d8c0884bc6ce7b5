#include "cmocka_setup.h"

#include "base/arena.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/strbuf.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void error_keeps_code_and_gains_context(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(error_set(&err, ERR_CORRUPT, "offset %d: bad magic", 2), ERR_CORRUPT);
    assert_int_equal(error_prefix(&err, ERR_CORRUPT, "chunk %d", 7), ERR_CORRUPT);
    assert_string_equal(err.text, "chunk 7: offset 2: bad magic");
    assert_int_equal(error_set(NULL, ERR_IO, "unheard"), ERR_IO);
    assert_string_equal(error_name(ERR_NOT_FOUND), "not_found");
    assert_true(error_is_transient(ERR_TIMEOUT));
    assert_false(error_is_transient(ERR_INVALID));
}

static void arena_aligns_grows_and_reuses(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 128);
    char *a = arena_alloc(&arena, 1);
    char *b = arena_alloc(&arena, 1);
    assert_int_equal((uintptr_t)a % 16, 0);
    assert_int_equal(b - a, 16);
    char *big = arena_alloc(&arena, 1000);
    memset(big, 1, 1000);
    assert_null(arena_calloc(&arena, SIZE_MAX / 2, 4));
    assert_string_equal(arena_printf(&arena, "%s-%d", "x", 5), "x-5");
    arena_reset(&arena);
    assert_ptr_equal(arena_alloc(&arena, 1), a);
    assert_ptr_equal(arena_alloc(&arena, 900), big);
    arena_free(&arena);
}

static void strbuf_writes_json_that_is_safe(void **state)
{
    (void)state;
    struct strbuf buf;
    strbuf_init(&buf);
    strbuf_add_json(&buf, "a\"b\\\n\xC3\xA9\xFF");
    assert_string_equal(buf.text, "\"a\\\"b\\\\\\u000a\xC3\xA9\\ufffd\"");
    strbuf_clear(&buf);
    strbuf_add_json_double(&buf, 0.1);
    strbuf_add_char(&buf, ' ');
    strbuf_add_json_double(&buf, 0.1 + 0.2);
    strbuf_add_char(&buf, ' ');
    strbuf_add_json_double(&buf, (double)NAN);
    assert_string_equal(buf.text, "0.1 0.30000000000000004 null");
    char *text = strbuf_take(&buf);
    assert_string_equal(buf.text, "");
    free(text);
    strbuf_free(&buf);
}

static void clock_round_trips_rfc3339(void **state)
{
    (void)state;
    static const struct {
        const char *in;
        int64_t us;
        const char *out;
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"},
        {"1995-03-06T08:10:11.946Z", INT64_C(794477411946000), "1995-03-06T08:10:11.946Z"},
        {"1995-03-06T10:10:11.946+02:00", INT64_C(794477411946000), "1995-03-06T08:10:11.946Z"},
        {"1969-12-31T23:59:59.999999Z", -1, "1969-12-31T23:59:59.999999Z"},
        {"2000-02-29 23:59:59Z", INT64_C(951868799000000), "2000-02-29T23:59:59Z"},
        {"0000-01-01T00:00:00Z", INT64_C(-62167219200000000), "0000-01-01T00:00:00Z"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t us = 1;
        char text[CLOCK_RFC3339_BYTES];
        assert_int_equal(clock_parse_rfc3339(cases[i].in, &us, NULL), 0);
        assert_true(us == cases[i].us);
        assert_string_equal(clock_format_rfc3339(us, text), cases[i].out);
    }
    static const char *const bad[] = {"",
                                      "2001-02-29T00:00:00Z",
                                      "2001-01-01T24:00:00Z",
                                      "2001-01-01T00:00:00",
                                      "2001-01-01T00:00:00.Z",
                                      "2001-1-01T00:00:00Z",
                                      "2001-01-01T00:00:00Z "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t us;
        assert_int_equal(clock_parse_rfc3339(bad[i], &us, NULL), ERR_INVALID);
    }
}

static void hash_matches_the_published_vectors(void **state)
{
    (void)state;
    /* XXH64("", 0) and XXH64("abc", 0): the xxHash specification's reference implementation. */
    assert_true(hash64("", 0) == UINT64_C(0xEF46DB3751D8E999));
    assert_true(hash64_text("abc") == UINT64_C(0x44BC2CF5AD770999));
    assert_true(hash64_texts("a", "bc", NULL) != hash64_texts("ab", "c", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_keeps_code_and_gains_context), cmocka_unit_test(arena_aligns_grows_and_reuses),
        cmocka_unit_test(strbuf_writes_json_that_is_safe),    cmocka_unit_test(clock_round_trips_rfc3339),
        cmocka_unit_test(hash_matches_the_published_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
