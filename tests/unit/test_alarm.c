#include "cmocka_setup.h"

#include "chart/rules.h"
#include "defender/alarm.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

static const struct context wafer = {.id = "w1",
                                     .tool = "ETCH.1",
                                     .chamber = "PM1",
                                     .recipe = "R",
                                     .lot = "L",
                                     .wafer = "7",
                                     .end_us = INT64_C(794477411946000),
                                     .extra_json = "{}"};

static struct uchart_point point(const char *chart, uint32_t rules, enum severity severity)
{
    return (struct uchart_point){.chart = chart,
                                 .unit = "mTorr",
                                 .value = 12.5,
                                 .centre = 10,
                                 .lower = (double)NAN,
                                 .upper = 12,
                                 .rules = rules,
                                 .state = rules ? VERDICT_ALARM : VERDICT_NORMAL,
                                 .severity = rules ? severity : SEVERITY_NONE,
                                 .reason = ""};
}

static size_t list(const struct uchart *now, const struct uchart *before, struct arena *arena,
                   struct alarm **alarms)
{
    size_t count = 99;
    assert_int_equal(alarm_list("west", &wafer, now, before, 1000000, arena, alarms, &count, NULL), 0);
    return count;
}

static void each_fired_rule_is_an_alarm_of_its_own(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 0);
    struct uchart_point points[] = {point("a", 1u << RULE_LIMITS | 1u << RULE_NELSON_2, SEVERITY_CRITICAL),
                                    point("b", 0, SEVERITY_NONE), point("c", 1u << RULE_EWMA, SEVERITY_INFO)};
    struct uchart uchart = {.count = 3, .points = points};
    struct alarm *alarms;
    assert_int_equal(list(&uchart, NULL, &arena, &alarms), 3);
    assert_string_equal(alarms[0].subject, "west.alarms.critical.ETCH%2E1.PM1");
    assert_string_equal(alarms[2].subject, "west.alarms.info.ETCH%2E1.PM1");
    assert_string_not_equal(alarms[0].id, alarms[1].id);

    json_t *json = json_loads(alarms[1].json, 0, NULL);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "rule")), "nelson_2");
    assert_string_equal(json_string_value(json_object_get(json, "tool_id")), "ETCH.1");
    assert_string_equal(json_string_value(json_object_get(json, "ended_at")), "1995-03-06T08:10:11.946Z");
    assert_true(json_is_null(json_object_get(json, "lower"))); /* no limit there */
    assert_true(json_real_value(json_object_get(json, "value")) == 12.5);
    json_decref(json);
    arena_free(&arena);
}

static void an_alarm_has_the_same_id_whenever_it_is_judged(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 0);
    struct uchart_point once[] = {point("a", 1u << RULE_LIMITS, SEVERITY_CRITICAL)};
    struct uchart_point again[] = {point("a", 1u << RULE_LIMITS, SEVERITY_WARNING)};
    again[0].value = 99;
    struct uchart first = {.count = 1, .points = once}, second = {.count = 1, .points = again};
    struct alarm *a, *b;
    assert_int_equal(list(&first, NULL, &arena, &a), 1);
    assert_int_equal(list(&second, NULL, &arena, &b), 1);
    assert_string_equal(a[0].id, b[0].id);
    arena_free(&arena);
}

static void what_was_raised_before_is_not_raised_again(void **state)
{
    (void)state;
    struct arena arena;
    arena_init(&arena, 0);
    struct uchart_point old[] = {point("b", 1u << RULE_LIMITS, SEVERITY_CRITICAL),
                                 point("a", 0, SEVERITY_NONE)};
    struct uchart_point new[] = {point("a", 1u << RULE_LIMITS, SEVERITY_CRITICAL),
                                 point("b", 1u << RULE_LIMITS | 1u << RULE_CUSUM, SEVERITY_CRITICAL)};
    struct uchart before = {.count = 2, .points = old}, now = {.count = 2, .points = new};
    struct alarm *alarms;
    assert_int_equal(list(&now, &before, &arena, &alarms), 2);
    assert_non_null(strstr(alarms[0].json, "\"chart\":\"a\""));
    assert_non_null(strstr(alarms[1].json, "\"rule\":\"cusum\""));
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_fired_rule_is_an_alarm_of_its_own),
        cmocka_unit_test(an_alarm_has_the_same_id_whenever_it_is_judged),
        cmocka_unit_test(what_was_raised_before_is_not_raised_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
