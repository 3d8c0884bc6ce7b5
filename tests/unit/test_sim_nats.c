/* The simulation's NATS server against what was measured of the real one (docs/protocol.md). */
#include "cmocka_setup.h"

#include "../sim/nats.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TTL_US = 10000000, ACK_WAIT_US = 30000000, A = 1, B = 2, ALICE = 11, BOB = 12 };

/* What the server has told, in the words of a story. */
struct story {
    struct nats *nats;
    char told[2048];
};

static void say(struct story *story, const char *format, ...)
{
    va_list args;
    size_t length = strlen(story->told);
    va_start(args, format);
    vsnprintf(story->told + length, sizeof story->told - length, format, args);
    va_end(args);
}

static void on_entry(void *context, uint64_t client, uint64_t watch, const struct nats_entry *entry)
{
    (void)watch;
    say(context, "%d sees %s=%s; ", (int)client, entry->key, entry->value ? entry->value->text : "deleted");
}

static void on_current(void *context, uint64_t client, uint64_t watch)
{
    (void)watch;
    say(context, "%d is current; ", (int)client);
}

static void on_message(void *context, uint64_t client, int consumer, uint64_t sequence, uint32_t chamber,
                       uint64_t deliveries)
{
    say(context, "%d gets %d of chamber %u from %d (%d); ", (int)client, (int)sequence, chamber, consumer,
        (int)deliveries);
}

static void on_deleted(void *context, uint64_t client, int consumer)
{
    say(context, "%d hears that %d is gone; ", (int)client, consumer);
}

static int open_story(void **state)
{
    struct story *story = calloc(1, sizeof *story);
    struct nats_config config = {.ttl_us = {TTL_US},
                                 .ack_wait_us = ACK_WAIT_US,
                                 .max_ack_pending = 100,
                                 .chambers = 10,
                                 .consumers = 4};
    struct nats_hooks hooks = {on_entry, on_current, on_message, on_deleted, story};
    story->nats = nats_new(&config, &hooks);
    *state = story;
    return 0;
}

static int close_story(void **state)
{
    struct story *story = *state;
    nats_free(story->nats);
    free(story);
    return 0;
}

static void assert_told(struct story *story, const char *words)
{
    assert_string_equal(story->told, words);
    story->told[0] = '\0';
}

static int write_text(struct story *story, int64_t now_us, const char *key, const char *text,
                      uint64_t expected, uint64_t *revision)
{
    struct nats_value *value = nats_value_new(text, strlen(text));
    int code = expected ? nats_kv_update(story->nats, now_us, 0, key, value, expected, revision)
                        : nats_kv_create(story->nats, now_us, 0, key, value, revision);
    nats_value_drop(value);
    return code;
}

static void test_writes_compare_revisions(void **state)
{
    struct story *story = *state;
    uint64_t first = 0, second = 0, none = 0;
    assert_int_equal(write_text(story, 0, "k", "one", 0, &first), 0);
    assert_int_equal(write_text(story, 1, "k", "again", 0, &none), ERR_CONFLICT);
    assert_int_equal(write_text(story, 2, "k", "two", first, &second), 0);
    assert_true(second > first);
    assert_int_equal(write_text(story, 3, "k", "late", first, &none), ERR_CONFLICT);
    assert_int_equal(nats_kv_delete(story->nats, 4, 0, "k", first, &none), ERR_CONFLICT);
    assert_int_equal(nats_kv_delete(story->nats, 5, 0, "k", second, &none), 0);
    assert_null(nats_kv_get(story->nats, 6, 0, "k"));
    assert_int_equal(write_text(story, 7, "k", "over the marker", 0, &none), 0);
}

static void test_expiry_is_silent(void **state)
{
    struct story *story = *state;
    uint64_t revision = 0, none = 0;
    nats_watch(story->nats, 0, ALICE, 1, 0, ">");
    assert_int_equal(write_text(story, 0, "k", "v", 0, &revision), 0);
    assert_told(story, "11 is current; 11 sees k=v; ");
    assert_non_null(nats_kv_get(story->nats, TTL_US - 1, 0, "k"));
    assert_null(nats_kv_get(story->nats, TTL_US, 0, "k"));
    assert_told(story, "");
    assert_int_equal(write_text(story, TTL_US, "k", "late renewal", revision, &none), ERR_CONFLICT);
    assert_int_equal(write_text(story, TTL_US, "k", "new", 0, &none), 0);
    assert_told(story, "11 sees k=new; ");
}

static void test_watch_gives_what_is_there_then_changes(void **state)
{
    struct story *story = *state;
    uint64_t none = 0;
    write_text(story, 0, "to.a", "1", 0, &none);
    write_text(story, 0, "map", "2", 0, &none);
    write_text(story, 0, "to.b", "3", 0, &none);
    nats_kv_delete(story->nats, 0, 0, "to.b", 0, &none);
    nats_watch(story->nats, 1, ALICE, 1, 0, "to.>");
    assert_told(story, "11 sees to.a=1; 11 sees to.b=deleted; 11 is current; ");
    write_text(story, 2, "to.c", "4", 0, &none);
    write_text(story, 2, "other", "5", 0, &none);
    assert_told(story, "11 sees to.c=4; ");
    nats_client_gone(story->nats, ALICE);
    write_text(story, 3, "to.d", "6", 0, &none);
    assert_told(story, "");
}

static int filter(struct story *story, int consumer, bool create, const char *chambers)
{
    uint32_t list[10];
    size_t count = 0;
    for (; *chambers; chambers++)
        list[count++] = (uint32_t)(*chambers - '0');
    return nats_consumer_set(story->nats, 0, consumer, create, list, count);
}

static void test_overlap_refuses_the_whole_update(void **state)
{
    struct story *story = *state;
    assert_int_equal(filter(story, A, true, "12"), 0);
    assert_int_equal(filter(story, B, true, "3"), 0);
    assert_int_equal(filter(story, B, false, "324"), ERR_CONFLICT);
    assert_int_equal(nats_holder(story->nats, 2), A);
    assert_int_equal(nats_holder(story->nats, 4), NATS_NOBODY);
    assert_int_equal(filter(story, A, false, "1"), 0);
    assert_int_equal(filter(story, B, false, "324"), 0);
    assert_int_equal(nats_holder(story->nats, 2), B);
    assert_int_equal(filter(story, 3, false, "5"), ERR_NOT_FOUND);
}

/* strand.py: what waited for a chamber is not delivered to the consumer that gains it; a reset delivers it.
 */
static void test_a_gained_filter_strands_until_reset(void **state)
{
    struct story *story = *state;
    filter(story, A, true, "1");
    filter(story, B, true, "3");
    nats_publish(story->nats, 0, 1);
    nats_publish(story->nats, 0, 3);
    nats_pull(story->nats, 0, B, BOB, 10);
    assert_told(story, "12 gets 2 of chamber 3 from 2 (1); ");
    nats_ack(story->nats, 0, B, 2);
    assert_int_equal(nats_consumer_delete(story->nats, A), 0);
    assert_int_equal(filter(story, B, false, "13"), 0);
    assert_told(story, "");
    nats_publish(story->nats, 0, 1);
    assert_told(story, "12 gets 3 of chamber 1 from 2 (1); ");
    assert_int_equal(nats_consumer_reset(story->nats, 0, B), 0);
    assert_told(story, "12 gets 1 of chamber 1 from 2 (1); 12 gets 3 of chamber 1 from 2 (1); ");
    nats_ack(story->nats, 0, B, 1);
    nats_ack(story->nats, 0, B, 3);
    assert_int_equal(nats_waiting(story->nats), 0);
}

static void test_a_new_consumer_begins_at_the_beginning(void **state)
{
    struct story *story = *state;
    nats_publish(story->nats, 0, 1);
    filter(story, A, true, "1");
    nats_pull(story->nats, 0, A, ALICE, 1);
    assert_told(story, "11 gets 1 of chamber 1 from 1 (1); ");
}

static void test_without_filters_it_receives_everything(void **state)
{
    struct story *story = *state;
    filter(story, A, true, "1");
    filter(story, A, false, "");
    nats_publish(story->nats, 0, 7);
    nats_pull(story->nats, 0, A, ALICE, 1);
    assert_told(story, "11 gets 1 of chamber 7 from 1 (1); ");
}

static void test_ack_wait_redelivers_and_extending_prevents_it(void **state)
{
    struct story *story = *state;
    filter(story, A, true, "12");
    nats_publish(story->nats, 0, 1);
    nats_publish(story->nats, 0, 2);
    nats_pull(story->nats, 0, A, ALICE, 10);
    story->told[0] = '\0';
    nats_extend(story->nats, ACK_WAIT_US / 2, A, 2);
    nats_expire(story->nats, ACK_WAIT_US);
    assert_told(story, "11 gets 1 of chamber 1 from 1 (2); ");
    nats_ack(story->nats, ACK_WAIT_US, A, 1); /* late, and accepted */
    nats_ack(story->nats, ACK_WAIT_US, A, 2);
    nats_expire(story->nats, 3 * (int64_t)ACK_WAIT_US);
    assert_told(story, "");
    assert_int_equal(nats_waiting(story->nats), 0);
}

static void test_deletion_answers_waiting_pulls(void **state)
{
    struct story *story = *state;
    filter(story, A, true, "1");
    nats_pull(story->nats, 0, A, ALICE, 5);
    nats_consumer_delete(story->nats, A);
    assert_told(story, "11 hears that 1 is gone; ");
    nats_pull(story->nats, 0, A, ALICE, 5);
    assert_told(story, "11 hears that 1 is gone; ");
    assert_int_equal(nats_consumer_delete(story->nats, A), ERR_NOT_FOUND);
}

static void test_a_stall_holds_deliveries_back(void **state)
{
    struct story *story = *state;
    filter(story, A, true, "1");
    nats_pull(story->nats, 0, A, ALICE, 5);
    nats_stall(story->nats, 0, true);
    nats_publish(story->nats, 0, 1);
    assert_told(story, "");
    nats_stall(story->nats, 1, false);
    assert_told(story, "11 gets 1 of chamber 1 from 1 (1); ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_writes_compare_revisions, open_story, close_story),
        cmocka_unit_test_setup_teardown(test_expiry_is_silent, open_story, close_story),
        cmocka_unit_test_setup_teardown(test_watch_gives_what_is_there_then_changes, open_story, close_story),
        cmocka_unit_test_setup_teardown(test_overlap_refuses_the_whole_update, open_story, close_story),
        cmocka_unit_test_setup_teardown(test_a_gained_filter_strands_until_reset, open_story, close_story),
        cmocka_unit_test_setup_teardown(test_a_new_consumer_begins_at_the_beginning, open_story, close_story),
        cmocka_unit_test_setup_teardown(test_without_filters_it_receives_everything, open_story, close_story),
        cmocka_unit_test_setup_teardown(test_ack_wait_redelivers_and_extending_prevents_it, open_story,
                                        close_story),
        cmocka_unit_test_setup_teardown(test_deletion_answers_waiting_pulls, open_story, close_story),
        cmocka_unit_test_setup_teardown(test_a_stall_holds_deliveries_back, open_story, close_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
