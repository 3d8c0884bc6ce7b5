#include "cmocka_setup.h"

#include "web/board.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct stage {
    struct events *events;
    struct board *board;
    uint64_t sequence;
};

static int set_up(void **state)
{
    struct stage *stage = calloc(1, sizeof *stage);
    stage->events = events_new();
    stage->board = board_new("1", "", "sqlite", stage->events);
    *state = stage;
    return 0;
}

static int tear_down(void **state)
{
    struct stage *stage = *state;
    board_free(stage->board);
    events_free(stage->events);
    free(stage);
    return 0;
}

static void raise_alarm(struct stage *stage, uint64_t id, const char *severity, const char *chamber,
                        int second)
{
    char text[512];
    int length = snprintf(
        text, sizeof text,
        "{\"alarm_id\":\"%016llx\",\"severity\":\"%s\",\"context_id\":\"c%llu\",\"tool_id\":\"T\\\"1\","
        "\"chamber_id\":\"%s\",\"raised_at\":\"2026-01-01T00:00:%02dZ\"}",
        (unsigned long long)id, severity, (unsigned long long)id, chamber, second);
    board_on_alarm(stage->board, text, (size_t)length, ++stage->sequence, true);
}

static void judge(struct stage *stage, const char *chamber, const char *context, int minute, int alarms)
{
    char text[512];
    int length =
        snprintf(text, sizeof text,
                 "{\"context_id\":\"%s\",\"tool_id\":\"T\\\"1\",\"chamber_id\":\"%s\",\"ended_at\":"
                 "\"2026-01-01T00:%02d:00Z\",\"judged_at\":\"2026-01-01T01:00:00Z\",\"severity\":\"%s\","
                 "\"alarms\":%d,\"again\":false,\"process_ms\":12.5}",
                 context, chamber, minute, alarms ? "warning" : "none", alarms);
    board_on_judged(stage->board, text, (size_t)length, 60000000);
}

/* The row of a chamber; the caller decrefs. */
static json_t *row_of(struct stage *stage, const char *chamber)
{
    struct strbuf out;
    struct board_chamber_filter filter = {0};
    strbuf_init(&out);
    board_write_chambers(stage->board, &filter, 0, &out);
    json_t *all = json_loads(out.text, 0, NULL), *found = NULL, *row;
    assert_non_null(all);
    size_t i;
    json_array_foreach(json_object_get(all, "chambers"), i, row)
    {
        if (strcmp(json_string_value(json_object_get(row, "chamber_id")), chamber) == 0)
            found = json_incref(row);
    }
    json_decref(all);
    strbuf_free(&out);
    return found;
}

static void assert_row(struct stage *stage, const char *chamber, const char *severity, int open,
                       const char *since)
{
    json_t *row = row_of(stage, chamber);
    assert_non_null(row);
    assert_string_equal(json_string_value(json_object_get(row, "severity")), severity);
    assert_int_equal(json_integer_value(json_object_get(row, "open")), open);
    const char *shown = json_string_value(json_object_get(row, "since"));
    assert_string_equal(shown ? shown : "", since);
    json_decref(row);
}

static size_t count_alarms(struct stage *stage, struct board_alarm_filter filter, bool *more)
{
    struct strbuf out;
    strbuf_init(&out);
    board_write_alarms(stage->board, &filter, &out);
    json_t *list = json_loads(out.text, 0, NULL);
    assert_non_null(list);
    size_t count = json_array_size(json_object_get(list, "alarms"));
    *more = json_is_string(json_object_get(list, "next"));
    json_decref(list);
    strbuf_free(&out);
    return count;
}

static void the_worst_open_alarm_shows_until_it_is_acknowledged(void **state)
{
    struct stage *stage = *state;
    raise_alarm(stage, 1, "warning", "PM1", 1);
    raise_alarm(stage, 2, "critical", "PM1", 2);
    raise_alarm(stage, 3, "critical", "PM1", 3);
    raise_alarm(stage, 4, "info", "PM2", 4);
    assert_row(stage, "PM1", "critical", 3, "2026-01-01T00:00:02Z");
    assert_row(stage, "PM2", "info", 1, "2026-01-01T00:00:04Z");
    board_on_acknowledged(stage->board, "0000000000000002", "Kim", "", 5);
    assert_row(stage, "PM1", "critical", 2, "2026-01-01T00:00:03Z");
    board_on_acknowledged(stage->board, "0000000000000003", "Kim", "", 5);
    assert_row(stage, "PM1", "warning", 1, "2026-01-01T00:00:01Z");
    board_on_acknowledged(stage->board, "0000000000000001", "Kim", "", 5);
    assert_row(stage, "PM1", "none", 0, "");
    board_on_acknowledged(stage->board, "0000000000000002", NULL, NULL, 0); /* taken back */
    assert_row(stage, "PM1", "critical", 1, "2026-01-01T00:00:02Z");
}

static void an_acknowledgement_may_come_before_its_alarm(void **state)
{
    struct stage *stage = *state;
    bool more;
    board_on_acknowledged(stage->board, "0000000000000007", "Kim", "seen \"it\"", 5);
    raise_alarm(stage, 7, "critical", "PM1", 1);
    assert_row(stage, "PM1", "none", 0, "");
    assert_int_equal(count_alarms(stage,
                                  (struct board_alarm_filter){.state = BOARD_ALARM_ACKNOWLEDGED, .limit = 10},
                                  &more),
                     1);
    assert_int_equal(
        count_alarms(stage, (struct board_alarm_filter){.state = BOARD_ALARM_OPEN, .limit = 10}, &more), 0);
}

static void an_alarm_that_comes_again_counts_once(void **state)
{
    struct stage *stage = *state;
    raise_alarm(stage, 1, "warning", "PM1", 1);
    raise_alarm(stage, 1, "warning", "PM1", 1);
    stage->sequence = 0; /* a consumer made anew gives what was given */
    raise_alarm(stage, 9, "warning", "PM1", 1);
    assert_row(stage, "PM1", "warning", 1, "2026-01-01T00:00:01Z");
}

static void what_is_no_alarm_is_passed_over(void **state)
{
    struct stage *stage = *state;
    static const char *const others[] = {"",
                                         "{",
                                         "[]",
                                         "7",
                                         "{}",
                                         "{\"alarm_id\":\"x\"}",
                                         "{\"alarm_id\":\"0123456789abcdef\",\"severity\":\"odd\"}"};
    bool more;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        board_on_alarm(stage->board, others[i], strlen(others[i]), ++stage->sequence, true);
    assert_int_equal(count_alarms(stage, (struct board_alarm_filter){.limit = 10}, &more), 0);
}

static void alarms_are_paged_and_the_oldest_forgotten(void **state)
{
    struct stage *stage = *state;
    bool more;
    for (uint64_t i = 1; i <= BOARD_ALARMS_MAX + 10; i++)
        raise_alarm(stage, i, i <= 10 ? "critical" : "info", i <= 10 ? "PM1" : "PM2", 1);
    assert_row(stage, "PM1", "none", 0, "");
    assert_row(stage, "PM2", "info", BOARD_ALARMS_MAX, "2026-01-01T00:00:01Z");
    assert_int_equal(count_alarms(stage, (struct board_alarm_filter){.limit = 100}, &more), 100);
    assert_true(more);
    assert_int_equal(count_alarms(stage, (struct board_alarm_filter){.limit = 100, .before = 21}, &more), 10);
    assert_false(more);
}

static void the_newest_run_is_the_last_verdict(void **state)
{
    struct stage *stage = *state;
    judge(stage, "PM1", "b", 20, 2);
    judge(stage, "PM1", "a", 10, 0); /* came late */
    json_t *row = row_of(stage, "PM1"), *last = json_object_get(row, "last");
    assert_string_equal(json_string_value(json_object_get(last, "context_id")), "b");
    assert_int_equal(json_integer_value(json_object_get(last, "alarms")), 2);
    json_decref(row);
    struct store_uchart head = {
        .key = {"T\"1", "PM1", "c"}, .end_us = 1, .severity = SEVERITY_CRITICAL, .alarm_count = 9};
    board_on_heads(stage->board, &head, 1); /* the store's is older than what was told */
    judge(stage, "PM1", "b", 20, 0);        /* judged again */
    row = row_of(stage, "PM1");
    last = json_object_get(row, "last");
    assert_int_equal(json_integer_value(json_object_get(last, "alarms")), 0);
    json_decref(row);
}

static void chambers_change_hands(void **state)
{
    struct stage *stage = *state;
    static const char both[] = "{\"version\":1,\"chambers\":[\"T1.PM%2E1\",\"T1.PM2\"]}",
                      one[] = "{\"chambers\":[\"T1.PM2\"]}";
    board_on_chamber(stage->board, "T1.PM%2E1", "PM%2E1", 2, 1200);
    board_on_assigned(stage->board, "defender-0", both, strlen(both));
    json_t *row = row_of(stage, "PM.1");
    assert_string_equal(json_string_value(json_object_get(row, "owner")), "defender-0");
    assert_int_equal(json_integer_value(json_object_get(row, "weight")), 1200);
    json_decref(row);
    board_on_assigned(stage->board, "defender-0", one, strlen(one));
    row = row_of(stage, "PM.1");
    assert_true(json_is_null(json_object_get(row, "owner")));
    json_decref(row);
    board_on_assigned(stage->board, "defender-0", NULL, 0);
    row = row_of(stage, "PM2");
    assert_true(json_is_null(json_object_get(row, "owner")));
    json_decref(row);
}

static void each_chamber_is_looked_up_once(void **state)
{
    struct stage *stage = *state;
    struct store_key keys[8];
    struct arena arena;
    arena_init(&arena, 0);
    for (int i = 0; i < 5; i++) {
        char name[8];
        snprintf(name, sizeof name, "PM%d", i);
        raise_alarm(stage, (uint64_t)i + 1, "info", name, 1);
    }
    assert_int_equal(board_take_unknown(stage->board, &arena, keys, 3), 3);
    assert_int_equal(board_take_unknown(stage->board, &arena, keys, 8), 2);
    assert_int_equal(board_take_unknown(stage->board, &arena, keys, 8), 0);
    arena_free(&arena);
}

static size_t count_alive(struct stage *stage)
{
    char ids[8][CLUSTER_NAME_BYTES];
    return board_list_alive(stage->board, ids, 8);
}

static void silence_counts_only_while_nats_is_there(void **state)
{
    struct stage *stage = *state;
    struct cluster_heartbeat heartbeat = {.id = "defender-0", .state = CLUSTER_LEADER};
    int64_t late_us = (BOARD_MEMBER_ALIVE_MS + 1000) * INT64_C(1000);
    board_on_nats(stage->board, true, 0);
    board_on_heartbeat(stage->board, &heartbeat, 0);
    assert_int_equal(count_alive(stage), 1);
    board_on_nats(stage->board, false, 0);
    board_on_second(stage->board, late_us);
    assert_int_equal(count_alive(stage), 1);
    board_on_nats(stage->board, true, 0);
    board_on_second(stage->board, late_us);
    assert_int_equal(count_alive(stage), 0);
    board_on_heartbeat(stage->board, &heartbeat, late_us);
    assert_int_equal(count_alive(stage), 1);
}

static void throughput_is_counted_by_the_minute(void **state)
{
    struct stage *stage = *state;
    struct strbuf out;
    judge(stage, "PM1", "a", 1, 0);
    judge(stage, "PM1", "b", 2, 1);
    strbuf_init(&out);
    board_write_throughput(stage->board, 2, 60000000, &out); /* the minute from second 60 */
    json_t *minutes = json_loads(out.text, 0, NULL);
    const json_t *now = json_array_get(json_object_get(minutes, "minutes"), 1);
    assert_int_equal(json_integer_value(json_object_get(now, "judged")), 2);
    assert_int_equal(json_integer_value(json_object_get(now, "alarmed")), 1);
    assert_true(json_number_value(json_object_get(now, "p50_ms")) > 12 &&
                json_number_value(json_object_get(now, "p50_ms")) < 13);
    assert_true(
        json_is_null(json_object_get(json_array_get(json_object_get(minutes, "minutes"), 0), "p50_ms")));
    json_decref(minutes);
    strbuf_free(&out);
}

#define STAGED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STAGED(the_worst_open_alarm_shows_until_it_is_acknowledged),
        STAGED(an_acknowledgement_may_come_before_its_alarm),
        STAGED(an_alarm_that_comes_again_counts_once),
        STAGED(what_is_no_alarm_is_passed_over),
        STAGED(alarms_are_paged_and_the_oldest_forgotten),
        STAGED(the_newest_run_is_the_last_verdict),
        STAGED(chambers_change_hands),
        STAGED(each_chamber_is_looked_up_once),
        STAGED(silence_counts_only_while_nats_is_there),
        STAGED(throughput_is_counted_by_the_minute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
