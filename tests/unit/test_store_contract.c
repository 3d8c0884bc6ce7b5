/* What every kind of store promises in store.h. Runs on the store that STORE_TEST_URL names (an empty one: it
 * is written to), or on a new SQLite file and then on a failover store over two of them. Names are made fresh
 * for each test, so that tests do not meet. */
#include "cmocka_setup.h"

#include "base/clock.h"
#include "base/strbuf.h"
#include "store/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4, CALLS_A_THREAD = 60 };

struct fixture {
    char url[600];
    bool failover;
    char folder[200]; /* "" when the store is not ours to remove */
    struct store *store;
    char tool[40]; /* of the running test */
    int tests;
};

static struct fixture fix;

/* --- the small language of these tests --- */

typedef void call_fn(struct store_wait *wait, void *arg);

static struct store_key key_of(const char *context_id)
{
    return (struct store_key){.tool = fix.tool, .chamber = "A", .context_id = context_id};
}

static const char *id_of(const char *name)
{
    static char ids[8][80];
    static int next;
    char *id = ids[next++ % 8];
    snprintf(id, sizeof ids[0], "%s-%s", fix.tool, name);
    return id;
}

static struct store_reply *wait_for(struct store_wait *wait)
{
    struct store_reply *reply = store_wait_reply(wait);
    store_wait_free(wait);
    return reply;
}

static int code_of(struct store_reply *reply)
{
    int code = reply->code;
    if (code)
        assert_int_equal(reply->error.code, code);
    if (code)
        assert_true(strlen(reply->error.text) > 0);
    store_reply_free(reply);
    return code;
}

static struct store_completion completion_of(const char *id, int64_t end_us, int32_t chunk_count)
{
    return (struct store_completion){.key = key_of(id),
                                     .recipe = "ETCH_1",
                                     .lot = "lot-7",
                                     .end_us = end_us,
                                     .completed_us = end_us + 1000,
                                     .chunk_count = chunk_count,
                                     .announcement = "{\"context_id\":\"x\"}"};
}

static struct store_reply *complete(const struct store_completion *completion,
                                    const struct store_chunk *chunks, size_t count)
{
    struct store_wait *wait = store_wait_new();
    store_complete(fix.store, completion, chunks, count, store_wait_done, wait);
    return wait_for(wait);
}

static int complete_one(const char *id, int64_t end_us, const char *bytes)
{
    struct store_completion completion = completion_of(id, end_us, 1);
    struct store_chunk chunk = {.index = 0, .bytes = bytes, .length = strlen(bytes)};
    return code_of(complete(&completion, &chunk, 1));
}

static int put_chunk(const char *id, int32_t index, const char *bytes)
{
    struct store_key key = key_of(id);
    struct store_chunk chunk = {.index = index, .bytes = bytes, .length = strlen(bytes)};
    struct store_wait *wait = store_wait_new();
    store_put_chunk(fix.store, &key, &chunk, store_wait_done, wait);
    return code_of(wait_for(wait));
}

static struct store_reply *fetch(const char *id)
{
    struct store_key key = key_of(id);
    struct store_wait *wait = store_wait_new();
    store_fetch_tchart(fix.store, &key, store_wait_done, wait);
    return wait_for(wait);
}

static struct store_reply *find(const char *id)
{
    struct store_wait *wait = store_wait_new();
    store_find_context(fix.store, id, store_wait_done, wait);
    return wait_for(wait);
}

static int mark_dead(const char *id, const char *reason)
{
    struct store_key key = key_of(id);
    struct store_wait *wait = store_wait_new();
    store_mark_dead(fix.store, &key, reason, 77, store_wait_done, wait);
    return code_of(wait_for(wait));
}

static struct store_uchart uchart_of(const char *id, int64_t end_us, const char *points)
{
    return (struct store_uchart){.key = key_of(id),
                                 .recipe = "ETCH_1",
                                 .end_us = end_us,
                                 .judged_us = end_us + 5000,
                                 .chart_set = UINT64_C(0xfedcba9876543210),
                                 .alarm_count = 2,
                                 .severity = 3,
                                 .points = points,
                                 .points_length = strlen(points),
                                 .verdicts = "verdicts",
                                 .verdicts_length = 8};
}

static int put_uchart(const char *id, int64_t end_us, const char *points)
{
    struct store_uchart uchart = uchart_of(id, end_us, points);
    struct store_wait *wait = store_wait_new();
    store_put_uchart(fix.store, &uchart, store_wait_done, wait);
    return code_of(wait_for(wait));
}

static struct store_reply *fetch_uchart(const char *id)
{
    struct store_key key = key_of(id);
    struct store_wait *wait = store_wait_new();
    store_fetch_uchart(fix.store, &key, store_wait_done, wait);
    return wait_for(wait);
}

static struct store_history_query query_of(int64_t end_us, const char *id, size_t limit)
{
    return (struct store_history_query){.tool = fix.tool,
                                        .chamber = "A",
                                        .recipe = "ETCH_1",
                                        .end_us = end_us,
                                        .context_id = id,
                                        .limit = limit};
}

static struct store_reply *history(struct store_history_query query)
{
    struct store_wait *wait = store_wait_new();
    store_fetch_history(fix.store, &query, store_wait_done, wait);
    return wait_for(wait);
}

static struct store_counts counts(void)
{
    struct store_wait *wait = store_wait_new();
    store_count(fix.store, store_wait_done, wait);
    struct store_reply *reply = wait_for(wait);
    assert_int_equal(reply->code, 0);
    struct store_counts result = reply->counts;
    store_reply_free(reply);
    return result;
}

/* How many of this test's contexts wait in the outbox. */
static size_t waiting(int64_t before_us)
{
    struct store_wait *wait = store_wait_new();
    store_list_outbox(fix.store, before_us, STORE_LIST_MAX, store_wait_done, wait);
    struct store_reply *reply = wait_for(wait);
    assert_int_equal(reply->code, 0);
    size_t count = 0;
    for (size_t i = 0; i < reply->completion_count; i++) {
        if (i > 0)
            assert_true(reply->completions[i - 1].completed_us <= reply->completions[i].completed_us);
        assert_int_equal(reply->completions[i].state, STORE_PENDING);
        count += strcmp(reply->completions[i].key.tool, fix.tool) == 0;
    }
    store_reply_free(reply);
    return count;
}

static int expire(enum store_retention_clock clock, int64_t tchart_us, int64_t uchart_us, int64_t now_us,
                  size_t limit, int64_t *removed)
{
    struct store_retention retention = {.clock = clock, .tchart_us = tchart_us, .uchart_us = uchart_us};
    *removed = 0;
    for (bool more = true; more;) {
        struct store_wait *wait = store_wait_new();
        store_expire(fix.store, &retention, now_us, limit, store_wait_done, wait);
        struct store_reply *reply = wait_for(wait);
        *removed += reply->removed;
        more = reply->more;
        assert_true(reply->removed <= (int64_t)(2 * limit));
        int code = code_of(reply);
        if (code)
            return code;
    }
    return 0;
}

/* --- T-charts and the outbox --- */

static void complete_context_is_fetched_as_it_was_given(void **state)
{
    (void)state;
    const char *id = id_of("a");
    assert_int_equal(put_chunk(id, 1, "second"), 0);
    assert_int_equal(put_chunk(id, 0, "first, to be replaced"), 0);
    assert_int_equal(put_chunk(id, 0, "first"), 0);
    assert_int_equal(code_of(fetch(id)), ERR_NOT_FOUND);
    assert_int_equal(code_of(find(id)), ERR_NOT_FOUND);

    struct store_completion completion = completion_of(id, 5000, 3);
    struct store_chunk last = {.index = 2, .bytes = "\0\1", .length = 2};
    struct store_reply *reply = complete(&completion, &last, 1);
    assert_int_equal(reply->code, 0);
    assert_false(reply->existed);
    store_reply_free(reply);

    reply = fetch(id);
    assert_int_equal(reply->code, 0);
    assert_int_equal(reply->completion_count, 1);
    assert_string_equal(reply->completions->key.context_id, id);
    assert_string_equal(reply->completions->key.tool, fix.tool);
    assert_string_equal(reply->completions->key.chamber, "A");
    assert_string_equal(reply->completions->recipe, "ETCH_1");
    assert_string_equal(reply->completions->lot, "lot-7");
    assert_string_equal(reply->completions->announcement, completion.announcement);
    assert_int_equal(reply->completions->end_us, 5000);
    assert_int_equal(reply->completions->completed_us, 6000);
    assert_int_equal(reply->completions->state, STORE_PENDING);
    assert_string_equal(reply->completions->dead_reason, "");
    assert_int_equal(reply->chunk_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(reply->chunks[i].index, i);
    assert_int_equal(reply->chunks[0].length, 5);
    assert_memory_equal(reply->chunks[0].bytes, "first", 5);
    assert_memory_equal(reply->chunks[1].bytes, "second", 6);
    assert_memory_equal(reply->chunks[2].bytes, "\0\1", 2);
    store_reply_free(reply);
}

static void complete_again_changes_nothing_and_other_content_is_a_conflict(void **state)
{
    (void)state;
    const char *id = id_of("a");
    assert_int_equal(put_chunk(id, 0, "zero"), 0);
    struct store_completion completion = completion_of(id, 5000, 2);
    struct store_chunk last = {.index = 1, .bytes = "one", .length = 3};
    assert_int_equal(code_of(complete(&completion, &last, 1)), 0);
    struct store_counts before = counts();

    completion.completed_us += 99; /* when it is told again does not matter */
    struct store_reply *reply = complete(&completion, &last, 1);
    assert_int_equal(reply->code, 0);
    assert_true(reply->existed);
    store_reply_free(reply);
    assert_int_equal(put_chunk(id, 0, "zero"), 0);
    assert_int_equal(put_chunk(id, 0, "ZERO"), ERR_CONFLICT);
    assert_int_equal(put_chunk(id, 2, "two"), ERR_CONFLICT);

    last.bytes = "ONE";
    assert_int_equal(code_of(complete(&completion, &last, 1)), ERR_CONFLICT);
    last.bytes = "one";
    struct store_completion other = completion;
    other.announcement = "{}";
    assert_int_equal(code_of(complete(&other, &last, 1)), ERR_CONFLICT);
    other = completion;
    other.end_us++;
    assert_int_equal(code_of(complete(&other, &last, 1)), ERR_CONFLICT);
    other = completion;
    other.recipe = "ETCH_2";
    assert_int_equal(code_of(complete(&other, &last, 1)), ERR_CONFLICT);

    reply = fetch(id);
    assert_memory_equal(reply->chunks[0].bytes, "zero", 4);
    assert_memory_equal(reply->chunks[1].bytes, "one", 3);
    assert_int_equal(reply->completions->completed_us, 6000);
    store_reply_free(reply);
    struct store_counts after = counts();
    assert_memory_equal(&before, &after, sizeof before);
}

static void a_missing_chunk_is_not_completed(void **state)
{
    (void)state;
    const char *id = id_of("a");
    struct store_completion completion = completion_of(id, 5000, 3);
    struct store_chunk chunks[] = {{.index = 0, .bytes = "a", .length = 1},
                                   {.index = 2, .bytes = "c", .length = 1}};
    assert_int_equal(code_of(complete(&completion, chunks, 2)), ERR_INVALID);
    assert_int_equal(code_of(fetch(id)), ERR_NOT_FOUND);
    assert_int_equal(waiting(INT64_MAX), 0);
    /* Nothing of the failed call was kept: chunk 1 alone does not make it whole. */
    chunks[0].index = 1;
    assert_int_equal(code_of(complete(&completion, chunks, 1)), ERR_INVALID);
    chunks[0].index = 0;
    assert_int_equal(put_chunk(id, 1, "b"), 0);
    assert_int_equal(code_of(complete(&completion, chunks, 2)), 0);
    assert_int_equal(waiting(INT64_MAX), 1);
}

static void chunks_left_over_from_an_earlier_attempt_are_dropped(void **state)
{
    (void)state;
    const char *id = id_of("a");
    assert_int_equal(put_chunk(id, 0, "zero"), 0);
    assert_int_equal(put_chunk(id, 1, "one"), 0);
    assert_int_equal(complete_one(id, 5000, "only"), 0);
    struct store_reply *reply = fetch(id);
    assert_int_equal(reply->code, 0);
    assert_int_equal(reply->chunk_count, 1);
    assert_memory_equal(reply->chunks[0].bytes, "only", 4);
    store_reply_free(reply);
}

static void outbox_gives_what_waits_oldest_first(void **state)
{
    (void)state;
    assert_int_equal(complete_one(id_of("b"), 20000, "b"), 0);
    assert_int_equal(complete_one(id_of("a"), 10000, "a"), 0);
    assert_int_equal(complete_one(id_of("c"), 30000, "c"), 0);
    assert_int_equal(complete_one(id_of("d"), 40000, "d"), 0);
    assert_int_equal(waiting(INT64_MAX), 4);
    assert_int_equal(waiting(21000), 1); /* b was completed at 21,000: not before it */
    assert_int_equal(waiting(21001), 2);

    assert_int_equal(put_uchart(id_of("a"), 10000, "points"), 0);
    assert_int_equal(mark_dead(id_of("b"), "no such sensor"), 0);
    assert_int_equal(waiting(INT64_MAX), 2);

    struct store_reply *reply = find(id_of("b"));
    assert_int_equal(reply->completions->state, STORE_DEAD);
    assert_string_equal(reply->completions->dead_reason, "no such sensor");
    store_reply_free(reply);
    reply = find(id_of("a"));
    assert_int_equal(reply->completions->state, STORE_JUDGED);
    store_reply_free(reply);
    /* Telling again that it is complete does not raise it. */
    assert_int_equal(complete_one(id_of("a"), 10000, "a"), 0);
    assert_int_equal(complete_one(id_of("b"), 20000, "b"), 0);
    assert_int_equal(waiting(INT64_MAX), 2);
}

static void dead_marks_and_ucharts_leave_exact_counts(void **state)
{
    (void)state;
    struct store_counts start = counts();
    assert_int_equal(complete_one(id_of("a"), 10000, "a"), 0);
    assert_int_equal(mark_dead(id_of("a"), "one"), 0);
    assert_int_equal(mark_dead(id_of("a"), "one"), 0);
    assert_int_equal(mark_dead(id_of("unseen"), "never came"), 0);
    struct store_counts now = counts();
    assert_int_equal(now.completed - start.completed, 1);
    assert_int_equal(now.dead - start.dead, 2);
    assert_int_equal(now.judged - start.judged, 0);

    assert_int_equal(put_uchart(id_of("a"), 10000, "points"), 0);
    assert_int_equal(put_uchart(id_of("a"), 10000, "points"), 0);
    assert_int_equal(put_uchart(id_of("never-completed"), 11000, "points"), 0);
    assert_int_equal(mark_dead(id_of("a"), "too late"), 0);
    now = counts();
    assert_int_equal(now.completed - start.completed, 1);
    assert_int_equal(now.dead - start.dead, 1);
    assert_int_equal(now.judged - start.judged, 2);

    struct store_reply *reply = find(id_of("a"));
    assert_int_equal(reply->completions->state, STORE_JUDGED);
    assert_string_equal(reply->completions->dead_reason, "");
    store_reply_free(reply);
}

static void a_context_that_died_unseen_is_judged_when_it_comes(void **state)
{
    (void)state;
    const char *id = id_of("late");
    assert_int_equal(mark_dead(id, "no T-chart"), 0);
    struct store_reply *reply = find(id);
    assert_int_equal(reply->code, 0);
    assert_int_equal(reply->completions->state, STORE_DEAD);
    assert_string_equal(reply->completions->dead_reason, "no T-chart");
    store_reply_free(reply);
    assert_int_equal(code_of(fetch(id)), ERR_NOT_FOUND);

    assert_int_equal(complete_one(id, 9000, "here at last"), 0);
    assert_int_equal(waiting(INT64_MAX), 1);
    reply = find(id);
    assert_int_equal(reply->completions->state, STORE_PENDING);
    assert_string_equal(reply->completions->dead_reason, "");
    store_reply_free(reply);
}

static struct store_reply *list(struct store_list_query query)
{
    struct store_wait *wait = store_wait_new();
    store_list_contexts(fix.store, &query, store_wait_done, wait);
    return wait_for(wait);
}

static void complete_for_list(const char *name, const char *chamber, const char *recipe, const char *lot,
                              int64_t end_us)
{
    struct store_completion completion = completion_of(id_of(name), end_us, 0);
    completion.key.chamber = chamber;
    completion.recipe = recipe;
    completion.lot = lot;
    assert_int_equal(code_of(complete(&completion, NULL, 0)), 0);
}

/* The names of a page, joined: "a b c", with "+" behind when there is more. */
static char *names_of(struct store_reply *reply)
{
    static char text[400];
    assert_int_equal(reply->code, 0);
    text[0] = '\0';
    for (size_t i = 0; i < reply->completion_count; i++) {
        const char *id = reply->completions[i].key.context_id + strlen(fix.tool) + 1;
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "", id);
    }
    if (reply->more)
        strcat(text, "+");
    store_reply_free(reply);
    return text;
}

static void list_filters_and_pages_in_event_order(void **state)
{
    (void)state;
    complete_for_list("d", "B", "ETCH_1", "lot-1", 4000);
    complete_for_list("b", "A", "ETCH_1", "lot-1", 2000);
    complete_for_list("a", "A", "ETCH_1", "lot-2", 1000);
    complete_for_list("c2", "B", "ETCH_2", "lot-1", 3000);
    complete_for_list("c1", "A", "ETCH_2", "lot-2", 3000);
    struct store_list_query query = {.tool = fix.tool, .limit = 100};
    assert_string_equal(names_of(list(query)), "a b c1 c2 d");
    query.chamber = "B";
    assert_string_equal(names_of(list(query)), "c2 d");
    query.chamber = NULL;
    query.recipe = "ETCH_2";
    assert_string_equal(names_of(list(query)), "c1 c2");
    query.lot = "lot-2";
    assert_string_equal(names_of(list(query)), "c1");
    query.recipe = NULL;
    assert_string_equal(names_of(list(query)), "a c1");
    query.lot = NULL;
    query.from_end_us = 2000;
    query.to_end_us = 4000;
    assert_string_equal(names_of(list(query)), "b c1 c2");

    query.limit = 2;
    assert_string_equal(names_of(list(query)), "b c1+");
    query.after_end_us = 3000;
    query.after_context_id = id_of("c1");
    assert_string_equal(names_of(list(query)), "c2");
    query.limit = 1; /* a full last page has nothing behind it */
    assert_string_equal(names_of(list(query)), "c2");
    query = (struct store_list_query){.tool = fix.tool, .limit = STORE_LIST_MAX + 1};
    assert_int_equal(code_of(list(query)), ERR_LIMIT);
}

/* --- U-charts --- */

static void uchart_comes_back_bit_for_bit(void **state)
{
    (void)state;
    const char *id = id_of("a");
    assert_int_equal(code_of(fetch_uchart(id)), ERR_NOT_FOUND);
    struct store_uchart uchart = uchart_of(id, 5000, "");
    uchart.points = "\0\xff points";
    uchart.points_length = 9;
    struct store_wait *wait = store_wait_new();
    store_put_uchart(fix.store, &uchart, store_wait_done, wait);
    assert_int_equal(code_of(wait_for(wait)), 0);

    struct store_reply *reply = fetch_uchart(id);
    assert_int_equal(reply->code, 0);
    assert_int_equal(reply->uchart_count, 1);
    const struct store_uchart *got = reply->ucharts;
    assert_string_equal(got->key.tool, fix.tool);
    assert_string_equal(got->key.chamber, "A");
    assert_string_equal(got->key.context_id, id);
    assert_string_equal(got->recipe, "ETCH_1");
    assert_int_equal(got->end_us, 5000);
    assert_int_equal(got->judged_us, 10000);
    assert_true(got->chart_set == uchart.chart_set);
    assert_int_equal(got->alarm_count, 2);
    assert_int_equal(got->severity, 3);
    assert_int_equal(got->points_length, 9);
    assert_memory_equal(got->points, uchart.points, 9);
    assert_int_equal(got->verdicts_length, 8);
    assert_memory_equal(got->verdicts, "verdicts", 8);
    store_reply_free(reply);
}

/* Names of a history, as names_of. */
static char *history_names(struct store_reply *reply)
{
    static char text[400];
    assert_int_equal(reply->code, 0);
    text[0] = '\0';
    for (size_t i = 0; i < reply->uchart_count; i++) {
        assert_string_equal(reply->ucharts[i].recipe, "ETCH_1");
        assert_string_equal(reply->ucharts[i].key.tool, fix.tool);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
                 reply->ucharts[i].key.context_id + strlen(fix.tool) + 1);
    }
    store_reply_free(reply);
    return text;
}

static void put_history(void)
{
    assert_int_equal(put_uchart(id_of("c"), 3000, "pc"), 0);
    assert_int_equal(put_uchart(id_of("a"), 1000, "pa"), 0);
    assert_int_equal(put_uchart(id_of("b2"), 2000, "pb2"), 0);
    assert_int_equal(put_uchart(id_of("b1"), 2000, "pb1"), 0);
    struct store_uchart other = uchart_of(id_of("other"), 1500, "po");
    other.recipe = "ETCH_2";
    struct store_wait *wait = store_wait_new();
    store_put_uchart(fix.store, &other, store_wait_done, wait);
    assert_int_equal(code_of(wait_for(wait)), 0);
}

static void history_is_by_event_order_without_the_start_itself(void **state)
{
    (void)state;
    put_history();
    assert_string_equal(history_names(history(query_of(INT64_MAX, "", 10))), "c b2 b1 a");
    assert_string_equal(history_names(history(query_of(INT64_MAX, "", 2))), "c b2");
    assert_string_equal(history_names(history(query_of(2000, id_of("b2"), 10))), "b1 a");
    assert_string_equal(history_names(history(query_of(2000, NULL, 10))), "a");
    assert_string_equal(history_names(history(query_of(INT64_MIN, "", 10))), "");
    assert_string_equal(history_names(history(query_of(INT64_MAX, "", 0))), "");

    struct store_history_query later = query_of(2000, id_of("b1"), 10);
    later.later = true;
    assert_string_equal(history_names(history(later)), "b2 c");
    later.limit = 1;
    assert_string_equal(history_names(history(later)), "b2");
}

static void history_says_whether_anything_is_newer(void **state)
{
    (void)state;
    put_history();
    struct store_reply *reply = history(query_of(3000, id_of("c"), 1));
    assert_true(reply->newest);
    store_reply_free(reply);
    reply = history(query_of(2000, id_of("b2"), 10));
    assert_false(reply->newest);
    store_reply_free(reply);
    reply = history(query_of(INT64_MAX, "", 10));
    assert_true(reply->newest);
    store_reply_free(reply);
}

static void history_gives_verdicts_only_when_asked(void **state)
{
    (void)state;
    put_history();
    struct store_reply *reply = history(query_of(INT64_MAX, "", 1));
    assert_int_equal(reply->ucharts->points_length, 2);
    assert_memory_equal(reply->ucharts->points, "pc", 2);
    assert_null(reply->ucharts->verdicts);
    assert_int_equal(reply->ucharts->verdicts_length, 0);
    store_reply_free(reply);
    struct store_history_query query = query_of(INT64_MAX, "", 1);
    query.verdicts = true;
    reply = history(query);
    assert_int_equal(reply->ucharts->verdicts_length, 8);
    assert_memory_equal(reply->ucharts->verdicts, "verdicts", 8);
    store_reply_free(reply);
    query.later = true;
    query.end_us = 0;
    reply = history(query);
    assert_string_equal(reply->ucharts->key.context_id, id_of("a"));
    assert_memory_equal(reply->ucharts->verdicts, "verdicts", 8);
    store_reply_free(reply);
}

static void history_in_bulk_is_each_stretch_in_order(void **state)
{
    (void)state;
    put_history();
    struct store_history_query queries[3] = {query_of(INT64_MAX, "", 2), query_of(1000, id_of("a"), 5),
                                             query_of(3000, id_of("c"), 5)};
    struct store_wait *wait = store_wait_new();
    store_fetch_history_bulk(fix.store, queries, 3, store_wait_done, wait);
    struct store_reply *reply = wait_for(wait);
    assert_int_equal(reply->code, 0);
    assert_int_equal(reply->query_counts[0], 2);
    assert_int_equal(reply->query_counts[1], 0);
    assert_int_equal(reply->query_counts[2], 3);
    assert_int_equal(reply->uchart_count, 5);
    assert_string_equal(history_names(reply), "c b2 b2 b1 a");
}

static void heads_are_the_newest_of_each_recipe(void **state)
{
    (void)state;
    put_history(); /* four contexts of one recipe, one of another */
    struct store_uchart any = uchart_of("", 0, "");
    struct store_key chambers[2] = {{"nobody", "nowhere", NULL}, {any.key.tool, any.key.chamber, NULL}};
    struct store_wait *wait = store_wait_new();
    store_list_heads(fix.store, chambers, 2, store_wait_done, wait);
    struct store_reply *reply = wait_for(wait);
    assert_int_equal(reply->code, 0);
    assert_int_equal(reply->query_counts[0], 0);
    assert_int_equal(reply->query_counts[1], 2);
    assert_string_equal(reply->ucharts[0].key.context_id, id_of("c"));
    assert_memory_equal(reply->ucharts[0].points, "pc", 2);
    assert_string_equal(reply->ucharts[1].key.context_id, id_of("other"));
    assert_string_equal(reply->ucharts[1].recipe, "ETCH_2");
    store_reply_free(reply);
}

static void replacing_a_uchart_moves_it_in_the_history(void **state)
{
    (void)state;
    assert_int_equal(put_uchart(id_of("a"), 1000, "old"), 0);
    assert_int_equal(put_uchart(id_of("a"), 1000, "new"), 0);
    struct store_reply *reply = history(query_of(INT64_MAX, "", 10));
    assert_int_equal(reply->uchart_count, 1);
    assert_memory_equal(reply->ucharts->points, "new", 3);
    store_reply_free(reply);
    assert_int_equal(put_uchart(id_of("a"), 1500, "moved"), 0);
    reply = history(query_of(INT64_MAX, "", 10));
    assert_int_equal(reply->uchart_count, 1);
    assert_int_equal(reply->ucharts->end_us, 1500);
    store_reply_free(reply);
}

static void several_ucharts_are_written_all_or_none(void **state)
{
    (void)state;
    assert_int_equal(complete_one(id_of("a"), 1000, "a"), 0);
    struct store_uchart ucharts[3] = {uchart_of(id_of("a"), 1000, "pa"), uchart_of(id_of("b"), 2000, "pb"),
                                      uchart_of("", 3000, "pc")};
    struct store_wait *wait = store_wait_new();
    store_put_ucharts(fix.store, ucharts, 3, store_wait_done, wait);
    assert_int_equal(code_of(wait_for(wait)), ERR_INVALID);
    assert_string_equal(history_names(history(query_of(INT64_MAX, "", 10))), "");
    assert_int_equal(waiting(INT64_MAX), 1);
    wait = store_wait_new();
    store_put_ucharts(fix.store, ucharts, 2, store_wait_done, wait);
    assert_int_equal(code_of(wait_for(wait)), 0);
    assert_string_equal(history_names(history(query_of(INT64_MAX, "", 10))), "b a");
    assert_int_equal(waiting(INT64_MAX), 0);
}

/* --- chart sets --- */

static struct store_reply *fetch_chart_set(uint64_t id)
{
    struct store_wait *wait = store_wait_new();
    store_fetch_chart_set(fix.store, id, store_wait_done, wait);
    return wait_for(wait);
}

static void chart_sets_are_kept_and_one_is_in_force(void **state)
{
    (void)state;
    uint64_t one = UINT64_C(0xf000000000000000) + (uint64_t)fix.tests * 2, two = one + 1;
    assert_int_equal(code_of(fetch_chart_set(one)), ERR_NOT_FOUND);
    struct store_wait *wait = store_wait_new();
    store_put_chart_set(fix.store, one, "charts: [one]", true, 11, store_wait_done, wait);
    assert_int_equal(code_of(store_wait_reply(wait)), 0);
    store_put_chart_set(fix.store, two, "charts: [two]", false, 22, store_wait_done, wait);
    assert_int_equal(code_of(wait_for(wait)), 0);

    struct store_reply *reply = fetch_chart_set(0);
    assert_int_equal(reply->code, 0);
    assert_true(reply->id == one);
    assert_string_equal(reply->text, "charts: [one]");
    assert_int_equal(reply->when_us, 11);
    store_reply_free(reply);
    reply = fetch_chart_set(two);
    assert_string_equal(reply->text, "charts: [two]");
    assert_int_equal(reply->when_us, 22);
    store_reply_free(reply);

    wait = store_wait_new();
    store_put_chart_set(fix.store, two, "charts: [two]", true, 33, store_wait_done, wait);
    assert_int_equal(code_of(wait_for(wait)), 0);
    reply = fetch_chart_set(0);
    assert_true(reply->id == two);
    assert_int_equal(reply->when_us, 33);
    store_reply_free(reply);
}

/* --- retention --- */

/* Far from the times of the other tests, which removal would touch: these run last. */
enum { SECOND_US = 1000000 };

static void retention_by_ingest_spares_what_waits(void **state)
{
    (void)state;
    int64_t base = INT64_C(1000) * SECOND_US, removed;
    assert_int_equal(expire(STORE_RETAIN_BY_INGEST, 0, 0, base, 100, &removed),
                     0); /* what other tests left */
    assert_int_equal(complete_one(id_of("old"), base - 10, "old"), 0);
    assert_int_equal(put_uchart(id_of("old"), base - 10, "points"), 0);
    assert_int_equal(complete_one(id_of("waits"), base - 10, "waits"), 0);
    assert_int_equal(complete_one(id_of("dead"), base - 10, "dead"), 0);
    assert_int_equal(mark_dead(id_of("dead"), "broken"), 0);
    assert_int_equal(complete_one(id_of("young"), base + 2 * SECOND_US, "young"), 0);
    assert_int_equal(put_uchart(id_of("young"), base + 2 * SECOND_US, "points"), 0);
    struct store_counts start = counts();

    assert_int_equal(
        expire(STORE_RETAIN_BY_INGEST, SECOND_US, 10 * SECOND_US, base + 2 * SECOND_US, 1, &removed), 0);
    assert_int_equal(removed, 2);
    struct store_reply *reply = fetch(id_of("old"));
    assert_int_equal(reply->code, ERR_NOT_FOUND);
    assert_non_null(strstr(reply->error.text, "expired"));
    store_reply_free(reply);
    assert_int_equal(code_of(fetch(id_of("waits"))), 0);
    assert_int_equal(code_of(fetch(id_of("young"))), 0);
    assert_int_equal(code_of(fetch_uchart(id_of("old"))), 0);
    assert_int_equal(code_of(find(id_of("dead"))), 0);
    /* The context is still known: the same completion exists, another is a conflict. */
    assert_int_equal(complete_one(id_of("old"), base - 10, "old"), 0);
    assert_int_equal(complete_one(id_of("old"), base - 10, "other"), ERR_CONFLICT);
    struct store_counts now = counts();
    assert_memory_equal(&start, &now, sizeof now);

    assert_int_equal(
        expire(STORE_RETAIN_BY_INGEST, SECOND_US, 10 * SECOND_US, base + 11 * SECOND_US, 100, &removed), 0);
    assert_int_equal(code_of(fetch_uchart(id_of("old"))), ERR_NOT_FOUND);
    assert_int_equal(code_of(find(id_of("old"))), ERR_NOT_FOUND);
    assert_int_equal(code_of(find(id_of("dead"))), ERR_NOT_FOUND);
    assert_int_equal(code_of(fetch(id_of("waits"))), 0);
    assert_int_equal(waiting(INT64_MAX), 1);
    assert_int_equal(code_of(fetch_uchart(id_of("young"))), 0);
    assert_string_equal(history_names(history(query_of(INT64_MAX, "", 10))), "young");
    now = counts();
    assert_int_equal(start.completed - now.completed, 2);
    assert_int_equal(start.judged - now.judged, 1);
    assert_int_equal(start.dead - now.dead, 1);
}

static void retention_by_event_goes_by_the_end_of_the_run(void **state)
{
    (void)state;
    int64_t base = INT64_C(2000) * SECOND_US, removed;
    struct store_completion completion = completion_of(id_of("imported"), base - SECOND_US, 1);
    completion.completed_us = base + 5 * SECOND_US; /* long after the run */
    struct store_chunk chunk = {.index = 0, .bytes = "x", .length = 1};
    assert_int_equal(code_of(complete(&completion, &chunk, 1)), 0);
    assert_int_equal(put_uchart(id_of("imported"), base - SECOND_US, "points"), 0);

    int64_t year = 100 * (int64_t)SECOND_US;
    assert_int_equal(expire(STORE_RETAIN_BY_INGEST, SECOND_US, year, base + SECOND_US, 100, &removed), 0);
    assert_int_equal(code_of(fetch(id_of("imported"))), 0);
    assert_int_equal(expire(STORE_RETAIN_BY_EVENT, SECOND_US, year, base + SECOND_US, 100, &removed), 0);
    assert_int_equal(code_of(fetch(id_of("imported"))), ERR_NOT_FOUND);
    assert_int_equal(code_of(fetch_uchart(id_of("imported"))), 0);
    assert_int_equal(expire(STORE_RETAIN_BY_EVENT, SECOND_US, year, base + year, 100, &removed), 0);
    assert_int_equal(code_of(fetch_uchart(id_of("imported"))), ERR_NOT_FOUND);
}

static void chunks_that_were_never_completed_expire(void **state)
{
    (void)state;
    int64_t removed, now = clock_wall_us();
    assert_int_equal(put_chunk(id_of("abandoned"), 0, "zero"), 0);
    assert_int_equal(expire(STORE_RETAIN_BY_INGEST, SECOND_US, 2 * SECOND_US, now, 100, &removed), 0);
    struct store_completion completion = completion_of(id_of("abandoned"), 5000, 1);
    assert_int_equal(
        expire(STORE_RETAIN_BY_INGEST, SECOND_US, INT64_MAX, now + 2 * (int64_t)SECOND_US, 100, &removed), 0);
    assert_true(removed >= 1);
    assert_int_equal(code_of(complete(&completion, NULL, 0)), ERR_INVALID);
}

/* --- arguments --- */

static int debt_call(struct store_debt debt, bool put)
{
    struct store_wait *wait = store_wait_new();
    (put ? store_put_debt : store_clear_debt)(fix.store, &debt, store_wait_done, wait);
    return code_of(wait_for(wait));
}

/* The debts of this test, in the list's order, as "id@put_us id@put_us". */
static void debts_are(const char *expected)
{
    struct store_wait *wait = store_wait_new();
    store_list_debts(fix.store, STORE_DEBT_JUDGE, 1000, store_wait_done, wait);
    struct store_reply *reply = wait_for(wait);
    assert_int_equal(reply->code, 0);
    char text[400] = "";
    for (size_t i = 0; i < reply->debt_count; i++) {
        const struct store_debt *debt = &reply->debts[i];
        assert_true(i == 0 || debt[-1].at_us <= debt->at_us);
        if (strcmp(debt->key.tool, fix.tool) != 0)
            continue;
        assert_int_equal(debt->kind, STORE_DEBT_JUDGE);
        assert_string_equal(debt->key.chamber, "A");
        assert_true(debt->owner == UINT64_C(0xf00000000000000f));
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%s%s@%lld", used ? " " : "",
                 debt->key.context_id + strlen(fix.tool) + 1, (long long)debt->put_us);
    }
    store_reply_free(reply);
    assert_string_equal(text, expected);
}

static struct store_debt debt_of(const char *id, int64_t at_us, int64_t put_us)
{
    return (struct store_debt){.kind = STORE_DEBT_JUDGE,
                               .key = key_of(id),
                               .at_us = at_us,
                               .put_us = put_us,
                               .owner = UINT64_C(0xf00000000000000f)};
}

static void debts_stay_until_they_are_cleared(void **state)
{
    (void)state;
    const char *a = id_of("a"), *b = id_of("b");
    debts_are("");
    assert_int_equal(debt_call(debt_of(b, 10, 3), true), 0);
    assert_int_equal(debt_call(debt_of(a, 20, 1), true), 0);
    assert_int_equal(debt_call(debt_of(a, 20, 2), true), 0);
    assert_int_equal(debt_call(debt_of(a, 20, 2), true), 0); /* again: the same one */
    debts_are("b@3 a@1 a@2");
    assert_int_equal(debt_call(debt_of(a, 21, 9), false), 0); /* at another place: another debt */
    assert_int_equal(debt_call(debt_of(b, 10, 2), false), 0); /* put later than what is cleared */
    debts_are("b@3 a@1 a@2");
    assert_int_equal(debt_call(debt_of(a, 20, 1), false), 0);
    debts_are("b@3 a@2");
    assert_int_equal(debt_call(debt_of(a, 20, 7), false), 0);
    assert_int_equal(debt_call(debt_of(b, 10, 3), false), 0);
    assert_int_equal(debt_call(debt_of(b, 10, 3), false), 0);
    debts_are("");
    struct store_debt nameless = debt_of("", 1, 1);
    assert_int_equal(debt_call(nameless, true), ERR_INVALID);
}

static void bad_arguments_are_told_apart(void **state)
{
    (void)state;
    assert_int_equal(put_chunk("", 0, "x"), ERR_INVALID);
    assert_int_equal(put_chunk(id_of("a"), -1, "x"), ERR_LIMIT);
    assert_int_equal(put_chunk(id_of("a"), STORE_CHUNKS_MAX, "x"), ERR_LIMIT);
    struct store_completion completion = completion_of(id_of("a"), 1, 1);
    struct store_chunk chunk = {.index = 0, .bytes = "x", .length = STORE_CHUNK_MAX_BYTES + 1};
    assert_int_equal(code_of(complete(&completion, &chunk, 1)), ERR_LIMIT);
    chunk = (struct store_chunk){.index = 1, .bytes = "x", .length = 1};
    assert_int_equal(code_of(complete(&completion, &chunk, 1)), ERR_INVALID);
    assert_int_equal(code_of(find(NULL)), ERR_INVALID);
    assert_int_equal(code_of(fetch_uchart("")), ERR_INVALID);
    struct store *none = NULL;
    struct error err;
    assert_int_equal(store_open("nothing:here", NULL, &none, &err), ERR_INVALID);
    assert_int_equal(store_open(NULL, NULL, &none, &err), ERR_INVALID);
    assert_null(none);
}

static void large_chunks_survive(void **state)
{
    (void)state;
    size_t length = STORE_CHUNK_MAX_BYTES;
    unsigned char *bytes = malloc(length);
    assert_non_null(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    struct store_completion completion = completion_of(id_of("large"), 5000, 1);
    struct store_chunk chunk = {.index = 0, .bytes = bytes, .length = length};
    assert_int_equal(code_of(complete(&completion, &chunk, 1)), 0);
    struct store_reply *reply = fetch(id_of("large"));
    assert_int_equal(reply->code, 0);
    assert_int_equal(reply->chunks->length, length);
    assert_memory_equal(reply->chunks->bytes, bytes, length);
    store_reply_free(reply);
    free(bytes);
}

/* --- many at once --- */

struct tally {
    atomic_int answered, failed;
};

static void count_answer(void *arg, struct store_reply *reply)
{
    struct tally *tally = arg;
    if (reply->code)
        atomic_fetch_add(&tally->failed, 1);
    atomic_fetch_add(&tally->answered, 1);
    store_reply_free(reply);
}

static void wait_until_answered(struct tally *tally, int expected)
{
    for (int i = 0; i < 6000 && atomic_load(&tally->answered) < expected; i++)
        usleep(5000);
    assert_int_equal(atomic_load(&tally->answered), expected);
}

struct ordered_read {
    struct tally *tally;
    char expected[32];
};

static void check_ordered_read(void *arg, struct store_reply *reply)
{
    struct ordered_read *read = arg;
    bool good = reply->code == 0 && reply->uchart_count == 1 &&
                reply->ucharts->points_length == strlen(read->expected) &&
                memcmp(reply->ucharts->points, read->expected, strlen(read->expected)) == 0;
    if (!good)
        atomic_fetch_add(&read->tally->failed, 1);
    atomic_fetch_add(&read->tally->answered, 1);
    store_reply_free(reply);
}

/* Nothing is waited for between the calls: each read must see the write before it and not the one after it.
 */
static void calls_on_one_context_keep_their_order(void **state)
{
    (void)state;
    enum { ROUNDS = 200 };
    struct tally writes = {0}, reads = {0};
    static struct ordered_read expected[ROUNDS];
    const char *id = id_of("a");
    for (int i = 0; i < ROUNDS; i++) {
        expected[i].tally = &reads;
        snprintf(expected[i].expected, sizeof expected[i].expected, "points %d", i);
        struct store_uchart uchart = uchart_of(id, 1000, expected[i].expected);
        struct store_key key = key_of(id);
        store_put_uchart(fix.store, &uchart, count_answer, &writes);
        store_fetch_uchart(fix.store, &key, check_ordered_read, &expected[i]);
    }
    wait_until_answered(&writes, ROUNDS);
    wait_until_answered(&reads, ROUNDS);
    assert_int_equal(atomic_load(&writes.failed), 0);
    assert_int_equal(atomic_load(&reads.failed), 0);
}

struct worker {
    pthread_t thread;
    int number;
    atomic_int failures;
};

static int wait_code(struct store_wait *wait)
{
    struct store_reply *reply = store_wait_reply(wait);
    int code = reply->code;
    store_reply_free(reply);
    return code;
}

/* cmocka's assertions are for its own thread: failures are counted. */
static void *work(void *arg)
{
    struct worker *worker = arg;
    struct store_wait *wait = store_wait_new();
    for (int i = 0; i < CALLS_A_THREAD; i++) {
        char id[100];
        snprintf(id, sizeof id, "%s-w%d-%d", fix.tool, worker->number, i);
        struct store_completion completion = completion_of(id, 1000 + i, 1);
        struct store_chunk chunk = {.index = 0, .bytes = id, .length = strlen(id)};
        store_complete(fix.store, &completion, &chunk, 1, store_wait_done, wait);
        worker->failures += wait_code(wait) != 0;
        struct store_key key = key_of(id);
        store_fetch_tchart(fix.store, &key, store_wait_done, wait);
        worker->failures += wait_code(wait) != 0;
        struct store_uchart uchart = uchart_of(id, 1000 + i, id);
        store_put_uchart(fix.store, &uchart, store_wait_done, wait);
        worker->failures += wait_code(wait) != 0;
        struct store_history_query query = query_of(1000 + i, id, 50);
        store_fetch_history(fix.store, &query, store_wait_done, wait);
        worker->failures += wait_code(wait) != 0;
    }
    store_wait_free(wait);
    return NULL;
}

static void many_threads_share_one_store(void **state)
{
    (void)state;
    struct worker workers[THREADS] = {0};
    struct store_counts start = counts();
    for (int i = 0; i < THREADS; i++) {
        workers[i].number = i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(atomic_load(&workers[i].failures), 0);
    }
    struct store_counts now = counts();
    assert_int_equal(now.completed - start.completed, THREADS * CALLS_A_THREAD);
    assert_int_equal(now.judged - start.judged, THREADS * CALLS_A_THREAD);
    assert_int_equal(waiting(INT64_MAX), 0);
}

static void a_failing_call_takes_no_other_down(void **state)
{
    (void)state;
    enum { CALLS = 120 };
    struct tally good = {0}, bad = {0};
    static char ids[CALLS][80];
    struct store_chunk first = {.index = 0, .bytes = "0", .length = 1};
    for (int i = 0; i < CALLS; i++) {
        snprintf(ids[i], sizeof ids[i], "%s-%d", fix.tool, i);
        struct store_completion completion =
            completion_of(ids[i], 1000 + i, i % 2 ? 2 : 1); /* odd: chunk 1 is missing */
        store_complete(fix.store, &completion, &first, 1, count_answer, i % 2 ? &bad : &good);
    }
    wait_until_answered(&good, CALLS / 2);
    wait_until_answered(&bad, CALLS / 2);
    assert_int_equal(atomic_load(&good.failed), 0);
    assert_int_equal(atomic_load(&bad.failed), CALLS / 2);
    assert_int_equal(waiting(INT64_MAX), CALLS / 2);
}

static void more_calls_than_the_bound_are_all_answered(void **state)
{
    (void)state;
    struct tally tally = {0};
    int calls = 2 * STORE_QUEUE_MAX_CALLS;
    for (int i = 0; i < calls; i++)
        store_count(fix.store, count_answer, &tally);
    wait_until_answered(&tally, calls); /* some may be told that too many wait; none is forgotten */
    assert_int_equal(counts().dead >= 0, 1);
}

struct closing_reads {
    struct tally tally;
    atomic_int closed;
};

static void count_closed(void *arg, struct store_reply *reply)
{
    struct closing_reads *reads = arg;
    if (reply->code == ERR_CLOSED)
        atomic_fetch_add(&reads->closed, 1);
    count_answer(&reads->tally, reply);
}

/* Makes one more call from within `done`, while the store is closing or not. */
static void call_again(void *arg, struct store_reply *reply)
{
    struct closing_reads *reads = arg;
    store_count(fix.store, count_closed, reads);
    count_answer(&reads->tally, reply);
}

static void close_answers_everything(void **state)
{
    (void)state;
    struct closing_reads reads = {0};
    static char ids[100][80];
    struct tally writes = {0};
    for (int i = 0; i < 100; i++) {
        snprintf(ids[i], sizeof ids[i], "%s-%d", fix.tool, i);
        struct store_completion completion = completion_of(ids[i], 1000 + i, 0);
        store_complete(fix.store, &completion, NULL, 0, count_answer, &writes);
        store_count(fix.store, call_again, &reads);
    }
    store_close(fix.store);
    assert_int_equal(atomic_load(&writes.answered), 100);
    assert_int_equal(atomic_load(&writes.failed), 0);
    assert_int_equal(atomic_load(&reads.tally.answered), 200);
    assert_int_equal(atomic_load(&reads.tally.failed), atomic_load(&reads.closed));

    struct error err;
    assert_int_equal(store_open(fix.url, NULL, &fix.store, &err), 0);
    assert_string_equal(store_name(fix.store), fix.url);
    assert_int_equal(waiting(INT64_MAX), 100); /* and it was all kept */
}

/* --- running --- */

static int start_test(void **state)
{
    (void)state;
    snprintf(fix.tool, sizeof fix.tool, "T%lld-%d", (long long)clock_wall_us(), fix.tests++);
    return 0;
}

static int open_store(void **state)
{
    (void)state;
    const char *url = getenv("STORE_TEST_URL");
    if (url) {
        snprintf(fix.url, sizeof fix.url, "%s", url);
    } else {
        const char *tmp = getenv("TMPDIR");
        snprintf(fix.folder, sizeof fix.folder, "%s/store-contract-XXXXXX", tmp ? tmp : "/tmp");
        if (mkdtemp(fix.folder) == NULL)
            return -1;
        if (fix.failover)
            snprintf(fix.url, sizeof fix.url, "failover:sqlite:%s/store.db,,sqlite:%s/standby.db", fix.folder,
                     fix.folder);
        else
            snprintf(fix.url, sizeof fix.url, "sqlite:%s/store.db", fix.folder);
    }
    struct error err;
    if (store_open(fix.url, NULL, &fix.store, &err) == 0)
        return 0;
    fprintf(stderr, "%s\n", err.text);
    return -1;
}

static int close_store(void **state)
{
    (void)state;
    store_close(fix.store);
    if (fix.folder[0] == '\0')
        return 0;
    static const char *const names[] = {"store.db",   "store.db-wal",   "store.db-shm",
                                        "standby.db", "standby.db-wal", "standby.db-shm"};
    for (size_t i = 0; i < 6; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/%s", fix.folder, names[i]);
        unlink(path);
    }
    return rmdir(fix.folder);
}

#define STORY(f) cmocka_unit_test_setup(f, start_test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(complete_context_is_fetched_as_it_was_given),
        STORY(complete_again_changes_nothing_and_other_content_is_a_conflict),
        STORY(a_missing_chunk_is_not_completed),
        STORY(chunks_left_over_from_an_earlier_attempt_are_dropped),
        STORY(outbox_gives_what_waits_oldest_first),
        STORY(dead_marks_and_ucharts_leave_exact_counts),
        STORY(a_context_that_died_unseen_is_judged_when_it_comes),
        STORY(list_filters_and_pages_in_event_order),
        STORY(uchart_comes_back_bit_for_bit),
        STORY(history_is_by_event_order_without_the_start_itself),
        STORY(history_says_whether_anything_is_newer),
        STORY(history_gives_verdicts_only_when_asked),
        STORY(history_in_bulk_is_each_stretch_in_order),
        STORY(heads_are_the_newest_of_each_recipe),
        STORY(replacing_a_uchart_moves_it_in_the_history),
        STORY(several_ucharts_are_written_all_or_none),
        STORY(chart_sets_are_kept_and_one_is_in_force),
        STORY(debts_stay_until_they_are_cleared),
        STORY(bad_arguments_are_told_apart),
        STORY(large_chunks_survive),
        STORY(calls_on_one_context_keep_their_order),
        STORY(many_threads_share_one_store),
        STORY(a_failing_call_takes_no_other_down),
        STORY(more_calls_than_the_bound_are_all_answered),
        STORY(close_answers_everything),
        STORY(retention_by_ingest_spares_what_waits),
        STORY(retention_by_event_goes_by_the_end_of_the_run),
        STORY(chunks_that_were_never_completed_expire),
    };
    int failed = cmocka_run_group_tests(tests, open_store, close_store);
    if (getenv("STORE_TEST_URL"))
        return failed;
    fix.failover = true;
    return failed + cmocka_run_group_tests_name("failover", tests, open_store, close_store);
}
