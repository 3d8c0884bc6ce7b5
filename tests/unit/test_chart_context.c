#include "cmocka_setup.h"

#include "base/clock.h"
#include "chart/context.h"

#include <stdio.h>
#include <string.h>

static const char ANNOUNCEMENT[] =
    "{\"context_id\":\"T1-1-0001\",\"tool_id\":\"T1\",\"chamber_id\":\"1\",\"recipe\":\"ETCH_A\",\"lot\":"
    "\"L7\","
    "\"wafer\":\"3\",\"started_at\":\"2026-03-01T10:00:00Z\",\"ended_at\":\"2026-03-01T10:05:00.250Z\","
    "\"svid_count\":21,\"point_count\":9007199254740993,\"chunk_count\":1,"
    "\"product\":\"P9\",\"big\":9007199254740993,\"ratio\":0.1,\"whole\":2.0,\"hot\":true,"
    "\"nested\":{\"b\":[1,null,\"x\xC3\xA9\"],\"a\":{}},\"none\":null}";

static int parse(struct arena *arena, const char *json, struct context *context, struct error *err)
{
    return context_parse(json, strlen(json), arena, context, err);
}

static void an_announcement_is_read_and_written_alike(void **state)
{
    (void)state;
    struct arena arena;
    struct context c, again;
    struct error err;
    struct strbuf text;
    arena_init(&arena, 0);
    strbuf_init(&text);
    assert_int_equal(parse(&arena, ANNOUNCEMENT, &c, &err), 0);
    assert_string_equal(c.id, "T1-1-0001");
    assert_string_equal(c.tool, "T1");
    assert_string_equal(c.chamber, "1");
    assert_string_equal(c.recipe, "ETCH_A");
    assert_string_equal(c.lot, "L7");
    assert_string_equal(c.wafer, "3");
    assert_int_equal(c.end_us - c.start_us, 300250000);
    assert_true(c.point_count == INT64_C(9007199254740993)); /* more than a double can hold */
    assert_int_equal(c.svid_count, 21);

    context_format(&c, &text);
    assert_string_equal(text.text, ANNOUNCEMENT);
    assert_int_equal(context_parse(text.text, text.length, &arena, &again, &err), 0);
    assert_string_equal(again.extra_json, c.extra_json);
    strbuf_free(&text);
    arena_free(&arena);
}

static void unknown_fields_are_attributes(void **state)
{
    (void)state;
    struct arena arena;
    struct context c;
    arena_init(&arena, 0);
    assert_int_equal(parse(&arena, ANNOUNCEMENT, &c, NULL), 0);
    assert_string_equal(context_attribute(&c, "tool", &arena), "T1");
    assert_string_equal(context_attribute(&c, "chamber", &arena), "1");
    assert_string_equal(context_attribute(&c, "product", &arena), "P9");
    assert_string_equal(context_attribute(&c, "big", &arena), "9007199254740993");
    assert_string_equal(context_attribute(&c, "ratio", &arena), "0.1");
    assert_string_equal(context_attribute(&c, "whole", &arena), "2.0");
    assert_string_equal(context_attribute(&c, "hot", &arena), "true");
    assert_null(context_attribute(&c, "nested", &arena));
    assert_null(context_attribute(&c, "none", &arena));
    assert_null(context_attribute(&c, "absent", &arena));
    assert_false(context_is_low_quality(&c));
    c.extra_json = "{\"quality\":\"low\"}";
    assert_true(context_is_low_quality(&c));
    c.extra_json = "{}";
    assert_null(context_attribute(&c, "product", &arena));
    arena_free(&arena);
}

#define HEAD "{\"context_id\":\"i\",\"tool_id\":\"t\",\"chamber_id\":\"c\","
#define TIMES "\"started_at\":\"2026-03-01T10:00:00Z\",\"ended_at\":\"2026-03-01T10:05:00Z\""

static void optional_fields_may_be_absent_null_or_numbers(void **state)
{
    (void)state;
    struct arena arena;
    struct context c;
    struct error err;
    arena_init(&arena, 0);
    assert_int_equal(parse(&arena, HEAD TIMES "}", &c, &err), 0);
    assert_string_equal(c.recipe, "");
    assert_string_equal(c.extra_json, "{}");
    assert_int_equal(c.chunk_count, 0);
    assert_int_equal(parse(&arena, HEAD "\"lot\":null,\"wafer\":12," TIMES "}", &c, &err), 0);
    assert_string_equal(c.lot, "");
    assert_string_equal(c.wafer, "12");
    arena_free(&arena);
}

static void each_mistake_names_its_field(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int code;
        const char *says;
    } cases[] = {
        {"[]", ERR_INVALID, "object"},
        {"{", ERR_INVALID, "not JSON"},
        {"", ERR_INVALID, "not JSON"},
        {"{}", ERR_INVALID, "context_id"},
        {"{\"context_id\":\"\",\"tool_id\":\"t\",\"chamber_id\":\"c\"," TIMES "}", ERR_INVALID, "context_id"},
        {"{\"context_id\":5,\"tool_id\":\"t\",\"chamber_id\":\"c\"," TIMES "}", ERR_INVALID, "context_id"},
        {"{\"context_id\":\"i\",\"chamber_id\":\"c\"," TIMES "}", ERR_INVALID, "tool_id"},
        {HEAD "\"recipe\":[]," TIMES "}", ERR_INVALID, "recipe"},
        {HEAD "\"ended_at\":\"2026-03-01T10:05:00Z\"}", ERR_INVALID, "started_at"},
        {HEAD "\"started_at\":\"yesterday\",\"ended_at\":\"2026-03-01T10:05:00Z\"}", ERR_INVALID,
         "started_at"},
        {HEAD "\"started_at\":\"2026-03-01T10:06:00Z\",\"ended_at\":\"2026-03-01T10:05:00Z\"}", ERR_INVALID,
         "before started_at"},
        {HEAD "\"svid_count\":-1," TIMES "}", ERR_INVALID, "svid_count"},
        {HEAD "\"point_count\":1.5," TIMES "}", ERR_INVALID, "point_count"},
        {HEAD "\"point_count\":99999999999999999999," TIMES "}", ERR_INVALID, "not JSON"},
        {HEAD "\"tool_id\":\"u\"," TIMES "}", ERR_INVALID, "duplicate"},
        {HEAD "\"x\":1,\"x\":2," TIMES "}", ERR_INVALID, "duplicate"},
        {HEAD "\"lot\":\"a\\u0000b\"," TIMES "}", ERR_INVALID, "not JSON"},
        {HEAD "\"lot\":\"a\\nb\"," TIMES "}", ERR_INVALID, "lot"},
        {HEAD TIMES "} trailing", ERR_INVALID, "not JSON"},
    };
    struct arena arena;
    struct context c;
    struct error err;
    arena_init(&arena, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(&arena, cases[i].json, &c, &err), cases[i].code);
        if (strstr(err.text, cases[i].says) == NULL)
            fail_msg("case %zu: '%s' does not say '%s'", i, err.text, cases[i].says);
    }
    arena_free(&arena);
}

static void bounds_hold(void **state)
{
    (void)state;
    struct arena arena;
    struct context c;
    struct error err;
    static char big[CONTEXT_JSON_MAX_BYTES + 2];
    char name[CONTEXT_NAME_MAX_BYTES + 2], json[1024];
    arena_init(&arena, 0);
    memset(big, ' ', sizeof big);
    assert_int_equal(context_parse(big, sizeof big, &arena, &c, &err), ERR_LIMIT);
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    snprintf(json, sizeof json, HEAD "\"lot\":\"%s\"," TIMES "}", name);
    assert_int_equal(parse(&arena, json, &c, &err), ERR_LIMIT);
    name[sizeof name - 2] = '\0';
    snprintf(json, sizeof json, HEAD "\"lot\":\"%s\"," TIMES "}", name);
    assert_int_equal(parse(&arena, json, &c, &err), 0);
    /* Deep nesting ends in an error, not in a stack overflow. */
    memset(big, '[', CONTEXT_JSON_MAX_BYTES);
    assert_int_equal(context_parse(big, CONTEXT_JSON_MAX_BYTES, &arena, &c, &err), ERR_INVALID);
    arena_free(&arena);
}

static void history_is_ordered_by_end_then_id(void **state)
{
    (void)state;
    assert_true(context_compare_event(1, "b", 2, "a") < 0);
    assert_true(context_compare_event(3, "b", 2, "a") > 0);
    assert_true(context_compare_event(2, "a", 2, "b") < 0);
    assert_int_equal(context_compare_event(2, "a", 2, "a"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_announcement_is_read_and_written_alike),
        cmocka_unit_test(unknown_fields_are_attributes),
        cmocka_unit_test(optional_fields_may_be_absent_null_or_numbers),
        cmocka_unit_test(each_mistake_names_its_field),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(history_is_ordered_by_end_then_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
