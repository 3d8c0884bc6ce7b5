#include "cmocka_setup.h"

#include "notify/config.h"
#include "notify/render.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Problems as "line:column message\n". */
static void on_problem(void *arg, size_t line, size_t column, const char *message)
{
    char *all = arg;
    size_t used = strlen(all);
    snprintf(all + used, 4096 - used, "%zu:%zu %s\n", line, column, message);
}

static int parse(const char *text, struct notify_config *config, char problems[static 4096])
{
    problems[0] = '\0';
    return notify_config_parse(text, strlen(text), on_problem, problems, config, NULL);
}

static void expect_problem(const char *text, const char *problem)
{
    struct notify_config config;
    char problems[4096];
    assert_int_equal(parse(text, &config, problems), ERR_INVALID);
    notify_config_free(&config);
    if (strstr(problems, problem) == NULL)
        fail_msg("wanted: %s\ngot: %s", problem, problems);
}

static const char good[] =
    "sinks:\n"
    "  - name: pager\n"
    "    type: webhook\n"
    "    url: https://pager.example/hook\n"
    "    secret_file: /etc/secret\n"
    "    group_by: [tool, severity]\n"
    "    group_wait: 2s\n"
    "    cool_down: 1h\n"
    "    timeout: 500ms\n"
    "  - {name: duty, type: alertmanager, url: 'http://127.0.0.1:9093/'}\n"
    "  - {name: log, type: file, path: alarms.jsonl, rotate_size: 10MB, rotate_keep: 3}\n"
    "  - {name: screen, type: terminal}\n"
    "routes:\n"
    "  - severity: [critical, warning]\n"
    "    tool: 'ETCH*'\n"
    "    sinks: [pager]\n"
    "    escalate: {after: 15min, to: [duty]}\n"
    "  - {chart: '*pressure*', sinks: [screen], escalate: {after: 5min, to: [duty]}}\n"
    "  - {sinks: [log]}\n";

static void everything_that_can_be_said_is_read(void **state)
{
    (void)state;
    struct notify_config config;
    char problems[4096];
    assert_int_equal(parse(good, &config, problems), 0);
    assert_string_equal(problems, "");
    assert_int_equal(config.sink_count, 4);
    assert_int_equal(config.route_count, 3);
    const struct sink_config *pager = &config.sinks[0], *log = &config.sinks[2];
    assert_int_equal(pager->kind, SINK_WEBHOOK);
    assert_string_equal(pager->secret_file, "/etc/secret");
    assert_int_equal(pager->group_by, 1u << NOTICE_BY_TOOL | 1u << NOTICE_BY_SEVERITY);
    assert_int_equal(pager->group_wait_ms, 2000);
    assert_int_equal(pager->cool_down_ms, 3600000);
    assert_int_equal(pager->timeout_ms, 500);
    assert_int_equal(log->rotate_bytes, 10000000);
    assert_int_equal(log->rotate_keep, 3);
    assert_int_equal(log->cool_down_ms, 0); /* a file has every alarm */
    assert_int_equal(config.routes[0].escalate_after_ms, 900000);
    notify_config_free(&config);
}

static struct notice *notice_of(const char *severity, const char *tool, const char *chart)
{
    char json[512];
    snprintf(
        json, sizeof json,
        "{\"alarm_id\":\"00000000000000ab\",\"severity\":\"%s\",\"tool_id\":\"%s\",\"chamber_id\":\"PM1\","
        "\"chart\":\"%s\",\"rule\":\"limits\",\"raised_at\":\"2026-01-02T03:04:05Z\"}",
        severity, tool, chart);
    struct notice *notice;
    assert_int_equal(notice_parse(json, strlen(json), 5, &notice, NULL), 0);
    return notice;
}

static void routes_lead_where_they_match(void **state)
{
    (void)state;
    struct notify_config config;
    char problems[4096];
    enum { PAGER, DUTY, LOG, SCREEN };
    int64_t after_ms;
    assert_int_equal(parse(good, &config, problems), 0);

    struct notice *etch = notice_of("critical", "ETCH1", "chamber_pressure");
    assert_true(notify_config_route(&config, PAGER, etch, &after_ms));
    assert_int_equal(after_ms, 0);
    assert_true(notify_config_route(&config, DUTY, etch, &after_ms));
    assert_int_equal(after_ms, 300000); /* the sooner of two */
    assert_true(notify_config_route(&config, SCREEN, etch, &after_ms));

    struct notice *other = notice_of("info", "CVD1", "flow");
    assert_false(notify_config_route(&config, PAGER, other, &after_ms));
    assert_false(notify_config_route(&config, DUTY, other, &after_ms));
    assert_true(notify_config_route(&config, LOG, other, &after_ms));
    free(etch);
    free(other);
    notify_config_free(&config);
}

static void each_mistake_is_shown_at_its_place(void **state)
{
    (void)state;
    expect_problem("", "1:1 a configuration is a mapping");
    expect_problem("sinks: []\n", "1:8 'sinks:' wants a list of 1 to 32");
    expect_problem("sinks:\n  - {name: a, type: smoke}\nroutes:\n  - {sinks: [a]}\n",
                   "2:21 no sinks of type 'smoke'");
    expect_problem("sinks:\n  - {name: A b, type: terminal}\nroutes: []\n",
                   "2:12 the name of a sink has 1 to 32");
    expect_problem("sinks:\n  - {name: a, type: webhook}\nroutes:\n  - {sinks: [a]}\n",
                   "2:5 the sink 'a' needs a 'url'");
    expect_problem("sinks:\n  - {name: a, type: terminal, url: 'http://x'}\nroutes:\n  - {sinks: [a]}\n",
                   "2:31 a sink of type terminal has no 'url'");
    expect_problem("sinks:\n  - {name: a, type: webhook, url: 'ftp://x'}\nroutes:\n  - {sinks: [a]}\n",
                   "2:35 'url' begins with https:// or http://");
    expect_problem(
        "sinks:\n  - {name: a, type: webhook, url: 'https://me:pw@x/'}\nroutes:\n  - {sinks: [a]}\n",
        "2:35 'url' holds a name or password");
    expect_problem("sinks:\n  - {name: a, type: terminal, cool_down: 10}\nroutes:\n  - {sinks: [a]}\n",
                   "2:42 'cool_down' wants a time");
    expect_problem("sinks:\n  - {name: a, type: terminal, group_by: [fab]}\nroutes:\n  - {sinks: [a]}\n",
                   "2:42 group_by: no field of that name");
    expect_problem("sinks:\n  - {name: a, type: terminal}\nroutes:\n  - {sinks: [b]}\n",
                   "4:14 no sink is called 'b'");
    expect_problem("sinks:\n  - {name: a, type: terminal}\nroutes:\n  - {tool: '[', sinks: [a]}\n",
                   "4:12 'tool': ");
    expect_problem("sinks:\n  - {name: a, type: terminal}\nroutes:\n  - {severity: bad, sinks: [a]}\n",
                   "4:16 'severity' is info, warning or critical");
    expect_problem("sinks:\n  - {name: a, type: terminal}\nroutes:\n  - {tool: x}\n",
                   "4:5 a route needs 'sinks'");
    expect_problem(
        "sinks:\n  - {name: a, type: terminal}\n  - {name: b, type: terminal}\nroutes:\n  - {sinks: [a]}\n",
        "no route leads to the sink 'b'");
    expect_problem(
        "sinks:\n  - {name: a, type: terminal}\n  - {name: a, type: terminal}\nroutes:\n  - {sinks: [a]}\n",
        "3:12 another sink is called 'a' already");
    expect_problem("sinks:\n\t- x\n", "2:1 not YAML");
}

static const char message[] = "{\"key\":\"k\",\"alarms\":[{\"count\":3,\"first_raised_at\":\"2026-01-01T00:"
                              "00:00Z\",\"alarm\":{\"alarm_id\":"
                              "\"ab\",\"severity\":\"critical\",\"tool_id\":\"E1\",\"chamber_id\":\"PM1\","
                              "\"chart\":\"c\",\"rule\":\"limits\","
                              "\"recipe\":\"\",\"context_id\":\"w1\\u001b[2J\",\"value\":12.5,\"lower\":null,"
                              "\"upper\":12,\"unit\":\"mTorr\","
                              "\"rule_text\":\"beyond a limit\"}}]}";

static void alertmanager_gets_labels_and_an_end(void **state)
{
    (void)state;
    struct strbuf body;
    strbuf_init(&body);
    assert_int_equal(render_alertmanager(message, INT64_C(1767225600000), 60000, &body, NULL), 0);
    json_t *alerts = json_loads(body.text, 0, NULL);
    const json_t *alert = json_array_get(alerts, 0), *labels = json_object_get(alert, "labels");
    assert_string_equal(json_string_value(json_object_get(labels, "tool")), "E1");
    assert_null(json_object_get(labels, "recipe")); /* an empty label is none */
    assert_null(json_object_get(labels, "context"));
    assert_string_equal(json_string_value(json_object_get(json_object_get(alert, "annotations"), "summary")),
                        "E1:PM1 c is 12.5 mTorr (limits - to 12): beyond a limit");
    assert_string_equal(json_string_value(json_object_get(alert, "startsAt")), "2026-01-01T00:00:00Z");
    assert_string_equal(json_string_value(json_object_get(alert, "endsAt")), "2026-01-01T00:01:00Z");
    json_decref(alerts);
    strbuf_free(&body);
}

static void no_control_character_reaches_the_terminal(void **state)
{
    (void)state;
    struct strbuf lines;
    strbuf_init(&lines);
    assert_int_equal(render_terminal(message, false, &lines, NULL), 0);
    assert_null(strchr(lines.text, '\033'));
    assert_non_null(strstr(lines.text, "E1:PM1  w1?[2J  c 12.5 mTorr (limits - to 12)  limits  (3 times)\n"));
    strbuf_free(&lines);
    assert_int_equal(render_terminal("[]", false, &lines, NULL), ERR_CORRUPT);
}

/* Computed with Python's hmac module. */
static void the_signature_is_hmac_sha256_of_time_and_body(void **state)
{
    (void)state;
    char signature[SIGNATURE_BYTES];
    assert_int_equal(render_signature("key", 3, 1700000000, "{\"a\":1}", signature, NULL), 0);
    assert_string_equal(signature,
                        "t=1700000000,v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03");
}

static void what_is_no_alarm_is_told_apart(void **state)
{
    (void)state;
    struct notice *notice;
    assert_int_equal(notice_parse("nonsense", 8, 0, &notice, NULL), ERR_CORRUPT);
    assert_int_equal(notice_parse("[]", 2, 0, &notice, NULL), ERR_CORRUPT);
    assert_int_equal(notice_parse("{\"severity\":\"loud\"}", 19, 0, &notice, NULL), ERR_CORRUPT);
    notice = notice_of("warning", "T", "c");
    assert_int_equal(notice->id, 0xab);
    assert_int_equal(notice->severity, NOTICE_WARNING);
    assert_int_equal(notice->raised_ms, INT64_C(1767323045000));
    free(notice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_that_can_be_said_is_read),
        cmocka_unit_test(routes_lead_where_they_match),
        cmocka_unit_test(each_mistake_is_shown_at_its_place),
        cmocka_unit_test(alertmanager_gets_labels_and_an_end),
        cmocka_unit_test(no_control_character_reaches_the_terminal),
        cmocka_unit_test(the_signature_is_hmac_sha256_of_time_and_body),
        cmocka_unit_test(what_is_no_alarm_is_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
