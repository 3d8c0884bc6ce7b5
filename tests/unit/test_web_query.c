#include "cmocka_setup.h"

#include "web/query.h"

#include <stdlib.h>
#include <string.h>

static const char *const allowed[] = {"name", "n", "when", "kind", "flag", "cursor", "many", NULL};

/* One parameter, or two of one name. */
struct asked {
    struct http_parameter parameters[2];
    struct http_request request;
    struct http_response response;
};

static struct query ask(struct asked *asked, const char *name, const char *value, size_t times)
{
    *asked = (struct asked){0};
    asked->parameters[0] = asked->parameters[1] = (struct http_parameter){name, value};
    asked->request = (struct http_request){.parameters = asked->parameters, .parameter_count = times};
    strbuf_init(&asked->response.body);
    return query_open(&asked->request, &asked->response, allowed, "many");
}

static void assert_refused(struct query *query, struct asked *asked, const char *words)
{
    assert_true(query->failed);
    assert_int_equal(asked->response.status, 400);
    assert_string_equal(asked->response.content_type, "application/problem+json");
    assert_non_null(strstr(asked->response.body.text, words));
    strbuf_free(&asked->response.body);
}

static void reads_what_is_meant(void **state)
{
    (void)state;
    static const char *const kinds[] = {"a", "b", NULL};
    struct asked asked;
    struct query query = ask(&asked, "name", "\xC3\x84tz 1", 1);
    assert_string_equal(query_name(&query, "name", true), "\xC3\x84tz 1");
    assert_int_equal(query_integer(&query, "n", 1, 5, 3), 3);
    assert_int_equal(query_time(&query, "when", 7), 7);
    assert_int_equal(query_choice(&query, "kind", kinds, -1), -1);
    assert_false(query_flag(&query, "flag"));
    assert_false(query.failed);
    query = ask(&asked, "n", "5", 1);
    assert_int_equal(query_integer(&query, "n", 1, 5, 3), 5);
    query = ask(&asked, "when", "1970-01-01T00:00:01Z", 1);
    assert_int_equal(query_time(&query, "when", 0), 1000000);
    query = ask(&asked, "kind", "b", 1);
    assert_int_equal(query_choice(&query, "kind", kinds, -1), 1);
    query = ask(&asked, "flag", "true", 1);
    assert_true(query_flag(&query, "flag"));
    query = ask(&asked, "many", "x", 2);
    assert_false(query.failed);
    int64_t end_us;
    const char *id;
    query = ask(&asked, "cursor", "-12~a~b", 1);
    assert_true(query_cursor(&query, &end_us, &id));
    assert_int_equal(end_us, -12);
    assert_string_equal(id, "a~b");
}

static void refuses_what_cannot_be_meant(void **state)
{
    (void)state;
    static const char *const kinds[] = {"a", "b", NULL};
    static const char *const numbers[] = {"", "0", "6", "3x", " 3", "03", "-", "99999999999999999999", "3.0"};
    struct asked asked;
    struct query query = ask(&asked, "odd", "1", 1);
    assert_refused(&query, &asked, "no parameter 'odd'");
    query = ask(&asked, "name", "x", 2);
    assert_refused(&query, &asked, "twice");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        query = ask(&asked, "n", numbers[i], 1);
        assert_int_equal(query_integer(&query, "n", 1, 5, 3), 3);
        assert_refused(&query, &asked, "1 to 5");
    }
    query = ask(&asked, "name", "", 1);
    assert_null(query_name(&query, "name", false));
    assert_refused(&query, &asked, "empty");
    query = ask(&asked, "n", "1", 1);
    assert_null(query_name(&query, "name", true));
    assert_refused(&query, &asked, "is needed");
    query = ask(&asked, "kind", "c", 1);
    query_choice(&query, "kind", kinds, -1);
    assert_refused(&query, &asked, "a, b");
    query = ask(&asked, "when", "yesterday", 1);
    query_time(&query, "when", 0);
    assert_refused(&query, &asked, "RFC 3339");
    static const char *const cursors[] = {"", "5", "~x", "5~", "x~y", "99999999999999999999~x"};
    for (size_t i = 0; i < sizeof cursors / sizeof *cursors; i++) {
        int64_t end_us;
        const char *id;
        query = ask(&asked, "cursor", cursors[i], 1);
        assert_false(query_cursor(&query, &end_us, &id));
        assert_refused(&query, &asked, "cursor");
    }
}

static void a_name_is_measured_in_characters(void **state)
{
    (void)state;
    char text[2 * QUERY_NAME_MAX + 3];
    struct asked asked;
    for (size_t i = 0; i < QUERY_NAME_MAX; i++)
        memcpy(text + 2 * i, "\xC3\xA9", 2);
    text[2 * QUERY_NAME_MAX] = '\0';
    struct query query = ask(&asked, "name", text, 1);
    assert_non_null(query_name(&query, "name", true));
    strcat(text, "x");
    query = ask(&asked, "name", text, 1);
    assert_null(query_name(&query, "name", true));
    assert_refused(&query, &asked, "longer");
}

static void errors_have_their_status(void **state)
{
    (void)state;
    static const struct {
        int code, status;
    } cases[] = {{ERR_NOT_FOUND, 404}, {ERR_INVALID, 400}, {ERR_LIMIT, 400},   {ERR_UNAVAILABLE, 503},
                 {ERR_TIMEOUT, 503},   {ERR_IO, 503},      {ERR_CORRUPT, 500}, {ERR_NO_MEMORY, 500}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_response response = {0};
        struct error err = {.code = cases[i].code, .text = "what \"is\" wrong"};
        strbuf_init(&response.body);
        query_fail(&response, &err);
        assert_int_equal(response.status, cases[i].status);
        assert_int_equal(response.retry_after_s > 0, cases[i].status == 503);
        assert_non_null(strstr(response.body.text, "what \\\"is\\\" wrong"));
        strbuf_free(&response.body);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_meant),
        cmocka_unit_test(refuses_what_cannot_be_meant),
        cmocka_unit_test(a_name_is_measured_in_characters),
        cmocka_unit_test(errors_have_their_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
