#include "cmocka_setup.h"

#include "http/url.h"

#include <stdio.h>
#include <string.h>

static void unescapes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *expected; /* NULL: refused */
        bool query;
    } cases[] = {{"ETCH01", "ETCH01", false},
                 {"PM%2E1%2Fa", "PM.1/a", false},
                 {"a+b", "a+b", false},
                 {"a+b%2Bc", "a b+c", true},
                 {"%C3%A9", "\xC3\xA9", false},
                 {"\xE2\x82\xAC", "\xE2\x82\xAC", false},
                 {"", "", false},
                 {"%", NULL, false},
                 {"%2", NULL, false},
                 {"%zz", NULL, false},
                 {"%00", NULL, false},
                 {"a%0Ab", NULL, false},
                 {"%7F", NULL, false},
                 {"%FF", NULL, false},
                 {"%C0%AF", NULL, false},       /* an overlong slash */
                 {"%ED%A0%80", NULL, false},    /* a surrogate */
                 {"%F4%90%80%80", NULL, false}, /* beyond U+10FFFF */
                 {"%C3", NULL, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[64];
        bool done = url_unescape(cases[i].text, strlen(cases[i].text), cases[i].query, out);
        assert_int_equal(done, cases[i].expected != NULL);
        if (done)
            assert_string_equal(out, cases[i].expected);
    }
}

static void takes_queries_apart(void **state)
{
    (void)state;
    struct http_parameter parameters[3];
    char text[] = "tool=A%20B&&empty&limit=10";
    assert_int_equal(url_parse_query(text, parameters, 3), 3);
    assert_string_equal(parameters[0].name, "tool");
    assert_string_equal(parameters[0].value, "A B");
    assert_string_equal(parameters[1].name, "empty");
    assert_string_equal(parameters[1].value, "");
    assert_string_equal(parameters[2].value, "10");
    char many[] = "a=1&b=2&c=3&d=4";
    assert_int_equal(url_parse_query(many, parameters, 3), -1);
    char broken[] = "a=%G0";
    assert_int_equal(url_parse_query(broken, parameters, 3), -1);
    char nothing[] = "";
    assert_int_equal(url_parse_query(nothing, parameters, 3), 0);
}

static void matches_paths(void **state)
{
    (void)state;
    char id[HTTP_ID_MAX_BYTES];
    assert_true(url_match("/metrics", "/metrics", id));
    assert_string_equal(id, "");
    assert_false(url_match("/metrics", "/metrics/", id));
    assert_true(url_match("/c/{id}", "/c/A%2F..%2FB", id)); /* an id, and no way up */
    assert_string_equal(id, "A/../B");
    assert_false(url_match("/c/{id}", "/c/", id));
    assert_false(url_match("/c/{id}", "/c/a/b", id));
    assert_false(url_match("/c/{id}", "/c/%00", id));
    assert_true(url_match("/c/{id}/acknowledge", "/c/12/acknowledge", id));
    assert_string_equal(id, "12");
    assert_false(url_match("/c/{id}/acknowledge", "/c/12", id));
    char longest[3 + 3 * HTTP_ID_MAX_BYTES];
    memset(longest, 'x', sizeof longest);
    memcpy(longest, "/c/", 3);
    longest[3 + HTTP_ID_MAX_BYTES] = '\0';
    assert_false(url_match("/c/{id}", longest, id));
    longest[3 + HTTP_ID_MAX_BYTES - 1] = '\0';
    assert_true(url_match("/c/{id}", longest, id));
}

static void knows_what_is_local(void **state)
{
    (void)state;
    const char *const local[] = {"localhost", "LOCALHOST:8080", "127.0.0.1:9",
                                 "127.3.2.1", "[::1]:80",       "[::1]"};
    const char *const other[] = {
        "example.org", "127.0.0.1.example.org", "localhost.example.org", "10.0.0.1", "", "[::2]:80", "[",
        "127.evil"};
    for (size_t i = 0; i < sizeof local / sizeof *local; i++)
        assert_true(url_host_is_local(local[i]));
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        assert_false(url_host_is_local(other[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unescapes),
        cmocka_unit_test(takes_queries_apart),
        cmocka_unit_test(matches_paths),
        cmocka_unit_test(knows_what_is_local),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
