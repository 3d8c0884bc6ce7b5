/* The consumers of a work queue: how chambers change hands, and how messages flow. A and B are two defenders.
 */
#include "nats_fixture.h"

#include "cmocka_setup.h"

#include "base/clock.h"
#include "bus/consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MESSAGES_MAX = 4000, ACK_WAIT_MS = 30000, SHORT_ACK_WAIT_MS = 700, CALL_MAX_BYTES = 256 };

struct message {
    char subject[32];
    char data[32];
    char ack_reply[192];
    uint64_t sequence;
    uint64_t deliveries;
    int64_t stored_us;
};

struct party {
    struct story *story;
    struct consumer *consumer;
    struct message messages[MESSAGES_MAX];
    int count;
    int lost;
    char lost_reason[128];
    bool acknowledges;
    bool free_at_next;
    /* the changes of filters */
    int done;
    int code;
    char text[ERROR_TEXT_BYTES];
};

struct story {
    struct nats_server *server;
    struct nats_client client;
    struct party a, b;
    struct heard heard;
    /* what was sent to the consumers' API, in order: "A{1,2} B{3} -B R:B" */
    char calls[2048];
};

static int open_server(void **state)
{
    struct nats_server *server = calloc(1, sizeof *server);
    *state = server;
    return server ? nats_server_open(server, NULL) : -1;
}

static int close_server(void **state)
{
    nats_server_close(*state);
    free(*state);
    return 0;
}

/* Listens to what the consumers ask of the server, beside the server. */
static void on_api_call(void *arg, const struct bus_message *message)
{
    struct story *story = arg;
    size_t used = strlen(story->calls);
    char *out = story->calls + used;
    size_t room = sizeof story->calls - used;
    if (room < CALL_MAX_BYTES)
        return;
    const char *name = strrchr(message->subject, '.') + 1;
    if (strstr(message->subject, ".CONSUMER.CREATE.q.")) {
        json_t *body = json_loadb(message->data, message->length, 0, NULL);
        const json_t *filters = json_object_get(json_object_get(body, "config"), "filter_subjects");
        int length = snprintf(out, room, "%s{", name);
        for (size_t i = 0; i < json_array_size(filters); i++)
            length += snprintf(out + length, room - (size_t)length, "%s%s", i ? "," : "",
                               json_string_value(json_array_get(filters, i)) + 2);
        snprintf(out + length, room - (size_t)length, "} ");
        json_decref(body);
    } else if (strstr(message->subject, ".CONSUMER.DELETE.q.")) {
        snprintf(out, room, "-%s ", name);
    } else if (strstr(message->subject, ".CONSUMER.RESET.q.")) {
        snprintf(out, room, "R:%s ", name);
    }
}

static int open_story(void **state)
{
    struct story *story = calloc(1, sizeof *story);
    story->server = *state;
    *state = story;
    story->a.story = story->b.story = story;
    if (story->server->pid == 0 && nats_server_start(story->server))
        return -1;
    nats_client_open(&story->client, story->server->url);
    RUN_UNTIL(&story->client, bus_is_connected(story->client.bus));
    nats_client_make_queue(&story->client, "q", "q.>");
    struct bus_subscription *spy;
    assert_int_equal(bus_subscribe(story->client.bus, "$JS.API.CONSUMER.>", on_api_call, story, &spy, NULL),
                     0);
    return 0;
}

static int close_story(void **state)
{
    struct story *story = *state;
    if (story->a.consumer)
        consumer_free(story->a.consumer);
    if (story->b.consumer)
        consumer_free(story->b.consumer);
    nats_client_close(&story->client);
    heard_forget(&story->heard);
    *state = story->server;
    free(story);
    return 0;
}

/* --- a party --- */

static void on_message(void *arg, const struct consumer_message *message)
{
    struct party *party = arg;
    assert_true(party->count < MESSAGES_MAX);
    struct message *kept = &party->messages[party->count++];
    snprintf(kept->subject, sizeof kept->subject, "%s", message->bus->subject);
    snprintf(kept->data, sizeof kept->data, "%s", message->bus->data);
    snprintf(kept->ack_reply, sizeof kept->ack_reply, "%s", message->ack_reply);
    kept->sequence = message->stream_sequence;
    kept->deliveries = message->deliveries;
    kept->stored_us = message->stored_us;
    if (party->acknowledges)
        consumer_ack(party->story->client.bus, message->ack_reply);
    if (party->free_at_next) {
        consumer_free(party->consumer);
        party->consumer = NULL;
    }
}

static void on_lost(void *arg, const char *reason)
{
    struct party *party = arg;
    party->lost++;
    snprintf(party->lost_reason, sizeof party->lost_reason, "%s", reason);
}

static void on_done(void *arg, int code, const struct error *error)
{
    struct party *party = arg;
    party->done++;
    party->code = code;
    snprintf(party->text, sizeof party->text, "%s", error->text);
}

static void join_with(struct party *party, const char *name, enum consumer_reset reset, int64_t ack_wait_ms,
                      int64_t max_ack_pending)
{
    struct consumer_options options = {.stream = "q",
                                       .durable = name,
                                       .ack_wait_ms = ack_wait_ms,
                                       .max_ack_pending = max_ack_pending,
                                       .replicas = 1,
                                       .reset = reset};
    struct consumer_events events = {.message = on_message, .lost = on_lost, .arg = party};
    struct error err;
    if (consumer_new(party->story->client.bus, &options, &events, &party->consumer, &err))
        fail_msg("%s", err.text);
}

static void join(struct party *party, const char *name)
{
    join_with(party, name, CONSUMER_RESET_AUTO, ACK_WAIT_MS, 10000);
}

/* "1 3" asks for q.1 and q.3. */
static void ask_filters(struct party *party, const char *words)
{
    char text[256], subjects[64][32];
    const char *filters[64];
    size_t count = 0;
    snprintf(text, sizeof text, "%s", words);
    char *rest = text;
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word) {
            snprintf(subjects[count], sizeof subjects[count], "q.%s", word);
            filters[count] = subjects[count];
            count++;
        }
    consumer_set_filters(party->consumer, filters, count, on_done, party);
}

static void set_filters(struct party *party, const char *words)
{
    int before = party->done;
    ask_filters(party, words);
    RUN_UNTIL(&party->story->client, party->done == before + 1);
    if (party->code)
        fail_msg("filters %s: %s", words, party->text);
}

static uint64_t publish(struct story *story, const char *subject, const char *data)
{
    return nats_client_publish(&story->client, subject, data);
}

static void publish_many(struct story *story, const char *subject, int count)
{
    struct heard heard = {0};
    for (int i = 0; i < count; i++) {
        char data[16];
        snprintf(data, sizeof data, "%d", i);
        jetstream_publish(story->client.bus, subject, NULL, 0, data, strlen(data), heard_answer, &heard);
    }
    RUN_UNTIL(&story->client, heard.count == count);
    assert_int_equal(heard.code, 0);
    heard_forget(&heard);
}

static int64_t info(struct story *story, const char *consumer, const char *field)
{
    char call[64];
    snprintf(call, sizeof call, "CONSUMER.INFO.q.%s", consumer);
    if (nats_client_call(&story->client, call, NULL, &story->heard))
        return -1;
    return json_integer_value(json_object_get(story->heard.response, field));
}

static void delete_at_server(struct story *story, const char *consumer)
{
    char call[64];
    snprintf(call, sizeof call, "CONSUMER.DELETE.q.%s", consumer);
    assert_int_equal(nats_client_call(&story->client, call, NULL, &story->heard), 0);
}

/* --- changing hands --- */

static void wait_for_a_and_take_over(struct story *story, enum consumer_reset reset)
{
    struct nats_client *client = &story->client;
    struct party *a = &story->a, *b = &story->b;
    join_with(a, "A", reset, ACK_WAIT_MS, 1000);
    join_with(b, "B", reset, ACK_WAIT_MS, 1000);
    set_filters(a, "1 2");
    set_filters(b, "3");
    b->acknowledges = true;
    consumer_want(b->consumer, 100);
    /* A has stalled: 1 and 2 pile up, while B goes past them with 3. */
    for (int i = 0; i < 3; i++) {
        publish(story, "q.1", "one");
        publish(story, "q.3", "three");
    }
    publish(story, "q.2", "two");
    RUN_UNTIL(client, b->count == 3);

    int before = b->done;
    ask_filters(b, "1 3");
    RUN_FOR(client, 400);
    assert_int_equal(b->done, before); /* refused, and asked again, while A holds it */
    assert_int_equal(b->lost, 0);
    publish(story, "q.3", "still mine");
    RUN_UNTIL(client, b->count == 4); /* meanwhile what it holds flows */

    set_filters(a, "2");
    RUN_UNTIL(client, b->done == before + 1);
    assert_int_equal(b->code, 0);
    RUN_UNTIL(client, b->count == 7); /* the three that waited: a growing consumer had gone past them */
    for (int i = 4; i < 7; i++)
        assert_string_equal(b->messages[i].subject, "q.1");
    publish(story, "q.1", "new");
    RUN_UNTIL(client, b->count == 8);
    assert_int_equal(a->lost + b->lost, 0);
    RUN_UNTIL(client, nats_client_count(client, "q") == 1); /* q.2, which is A's */
    consumer_want(a->consumer, 10);
    RUN_UNTIL(client, a->count == 1);
    assert_string_equal(a->messages[0].data, "two");
}

static void growing_waits_for_the_other_and_gets_what_waited_by_reset(void **state)
{
    struct story *story = *state;
    wait_for_a_and_take_over(story, CONSUMER_RESET_BY_API);
    const char *grown = strstr(story->calls, "B{1,3} ");
    assert_non_null(grown);
    assert_non_null(strstr(grown, "R:B "));
    assert_null(strstr(grown, "-B ")); /* only at its first start was it made anew */
}

static void growing_waits_for_the_other_and_gets_what_waited_by_creation(void **state)
{
    struct story *story = *state;
    wait_for_a_and_take_over(story, CONSUMER_RESET_BY_CREATE);
    assert_null(strstr(story->calls, "R:"));
}

/* Several of one subject in hand when another is gained. */
static void in_flight_comes_again(struct story *story, enum consumer_reset reset)
{
    struct nats_client *client = &story->client;
    struct party *b = &story->b;
    join_with(b, "B", reset, ACK_WAIT_MS, 1000);
    set_filters(b, "3");
    publish(story, "q.1", "waits");
    uint64_t in_hand = publish(story, "q.3", "in hand");
    consumer_want(b->consumer, 100);
    RUN_UNTIL(client, b->count == 1);
    set_filters(b, "1 3");
    RUN_UNTIL(client, b->count == 3);
    struct message *first = &b->messages[0], *again = NULL;
    for (int i = 1; i < 3; i++)
        if (strcmp(b->messages[i].subject, "q.3") == 0)
            again = &b->messages[i];
    assert_non_null(again);
    assert_int_equal(first->sequence, in_hand);
    assert_int_equal(again->sequence, in_hand); /* recognisable */
    assert_int_equal(again->stored_us, first->stored_us);
    /* The acknowledgement of the first delivery is late, and good. */
    consumer_ack(client->bus, first->ack_reply);
    RUN_UNTIL(client, nats_client_count(client, "q") == 1);
    RUN_UNTIL(client, info(story, "B", "num_ack_pending") == 1);
    for (int i = 1; i < 3; i++)
        consumer_ack(client->bus, b->messages[i].ack_reply);
    RUN_UNTIL(client, nats_client_count(client, "q") == 0);
    RUN_UNTIL(client, info(story, "B", "num_ack_pending") == 0);
    assert_int_equal(b->lost, 0);
}

static void what_is_in_flight_comes_again_and_a_late_ack_counts(void **state)
{
    in_flight_comes_again(*state, CONSUMER_RESET_BY_API);
}

static void what_is_in_flight_comes_again_after_creation_too(void **state)
{
    in_flight_comes_again(*state, CONSUMER_RESET_BY_CREATE);
}

static void a_swap_shrinks_both_before_it_grows_either(void **state)
{
    struct story *story = *state;
    struct party *a = &story->a, *b = &story->b;
    join(a, "A");
    join(b, "B");
    set_filters(a, "1 2");
    set_filters(b, "3 4");
    story->calls[0] = '\0';
    ask_filters(a, "1 3"); /* each wants what the other must first let go */
    ask_filters(b, "2 4");
    RUN_UNTIL(&story->client, a->done == 2 && b->done == 2);
    assert_int_equal(a->code, 0);
    assert_int_equal(b->code, 0);
    RUN_FOR(&story->client, 50);
    assert_ptr_equal(strstr(story->calls, "A{1} "), story->calls);
    assert_non_null(strstr(story->calls, "B{4} "));
    assert_true(strstr(story->calls, "B{4} ") < strstr(story->calls, "B{2,4} "));
    assert_true(strstr(story->calls, "A{1} ") < strstr(story->calls, "A{1,3} "));
    assert_true(strstr(story->calls, "A{1,3} ") < strstr(story->calls, "R:A"));
}

/* The first change is replaced while its own growing is at the server: what it may have gained is let go
 * first. */
static void a_replaced_change_lets_go_of_what_it_may_have_gained(void **state)
{
    struct story *story = *state;
    struct party *a = &story->a, *b = &story->b;
    join(a, "A");
    join(b, "B");
    set_filters(a, "1");
    set_filters(b, "2");
    story->calls[0] = '\0';
    ask_filters(a, "1 3");
    ask_filters(a, "1 4"); /* the update to {1,3} is on its way */
    assert_int_equal(a->done, 2);
    assert_int_equal(a->code, ERR_CLOSED); /* the first; the second is under way */
    RUN_UNTIL(&story->client, a->done == 3);
    assert_int_equal(a->code, 0);
    RUN_FOR(&story->client, 50);
    const char *order[] = {"A{1,3} ", "A{1} ", "A{1,4} ", "R:A"};
    const char *at = story->calls;
    for (size_t i = 0; i < 4; i++) {
        at = strstr(at, order[i]);
        if (at == NULL)
            fail_msg("no %s at its place in: %s", order[i], story->calls);
    }
    set_filters(b, "2 3"); /* 3 is free */
    /* The reset that the first change owed is not forgotten with it. */
    publish(story, "q.4", "x");
    consumer_want(a->consumer, 10);
    RUN_UNTIL(&story->client, a->count == 1);
}

static void a_reset_that_was_replaced_is_made_up_for(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "3");
    consumer_want(b->consumer, 100);
    b->acknowledges = true;
    publish(story, "q.1", "waits");
    publish(story, "q.3", "x");
    RUN_UNTIL(&story->client, b->count == 1);
    for (int i = 0; i < 30; i++) { /* replaced at every moment of the change */
        ask_filters(b, i % 2 ? "1 3 4" : "1 3");
        for (int turns = 0; turns < i % 5; turns++)
            nats_client_turn(&story->client, 0);
    }
    RUN_UNTIL(&story->client, b->done == 31);
    assert_int_equal(b->code, 0);
    RUN_UNTIL(&story->client, b->count == 2);
    assert_string_equal(b->messages[1].subject, "q.1");
    assert_int_equal(b->lost, 0);
}

static void replacing_all_filters_never_passes_through_the_empty_set(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1 2");
    publish(story, "q.3", "three");
    publish(story, "q.5", "nobody's");
    consumer_want(b->consumer, 100);
    b->acknowledges = true;
    story->calls[0] = '\0';
    set_filters(b, "3 4");
    RUN_UNTIL(&story->client, b->count == 1);
    assert_string_equal(b->messages[0].subject, "q.3");
    RUN_FOR(&story->client, 200);
    assert_int_equal(b->count, 1);
    assert_int_equal(b->lost, 0); /* its own deletion is no loss */
    assert_string_equal(story->calls, "-B B{3,4} ");
}

static void an_empty_set_receives_nothing_instead_of_everything(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1");
    consumer_want(b->consumer, 100);
    set_filters(b, "");
    assert_int_equal(info(story, "B", "num_pending"), -1); /* not there */
    publish(story, "q.1", "x");
    publish(story, "q.2", "x");
    RUN_FOR(&story->client, 300);
    assert_int_equal(b->count, 0);
    assert_int_equal(b->lost, 0);
    int before = b->done;
    consumer_release(b->consumer, on_done, b); /* once more: it is not there, and that is fine */
    RUN_UNTIL(&story->client, b->done == before + 1);
    assert_int_equal(b->code, 0);
    set_filters(b, "2");
    RUN_UNTIL(&story->client, b->count == 1);
    assert_string_equal(b->messages[0].subject, "q.2");
}

static void shrinking_keeps_what_flows_and_does_not_read_again(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1 2");
    consumer_want(b->consumer, 100);
    publish(story, "q.1", "in hand");
    RUN_UNTIL(&story->client, b->count == 1);
    story->calls[0] = '\0';
    set_filters(b, "1");
    publish(story, "q.2", "no longer mine");
    publish(story, "q.1", "mine");
    RUN_UNTIL(&story->client, b->count == 2);
    RUN_FOR(&story->client, 200);
    assert_int_equal(b->count, 2);
    assert_string_equal(b->messages[1].data, "mine");
    assert_string_equal(story->calls, "B{1} ");
    set_filters(b, "1"); /* nothing to change: proved, not read again */
    RUN_FOR(&story->client, 100);
    assert_int_equal(b->count, 2);
}

/* An earlier process of the same name left a consumer with a subject that is another's now. */
static void what_an_earlier_process_left_is_let_go(void **state)
{
    struct story *story = *state;
    struct party *a = &story->a, *b = &story->b;
    join(b, "B");
    set_filters(b, "1 2");
    consumer_free(b->consumer);
    join(a, "A");
    ask_filters(a, "1");
    RUN_FOR(&story->client, 150);
    assert_int_equal(a->done, 0); /* B's consumer is still there */
    join(b, "B");
    ask_filters(b, "2 3");
    RUN_UNTIL(&story->client, a->done == 1 && b->done == 2);
    assert_int_equal(a->code, 0);
    assert_int_equal(b->code, 0);
}

static void without_a_stream_the_change_says_so(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    assert_int_equal(nats_client_call(&story->client, "STREAM.DELETE.q", NULL, &story->heard), 0);
    ask_filters(b, "1");
    RUN_UNTIL(&story->client, b->done == 1);
    assert_int_equal(b->code, ERR_NOT_FOUND);
    assert_int_equal(b->lost, 0);
}

static void names_that_would_be_other_subjects_are_refused(void **state)
{
    struct story *story = *state;
    struct consumer_events events = {.message = on_message, .lost = on_lost, .arg = &story->b};
    struct consumer *consumer = NULL;
    struct error err;
    char longer[300];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    const struct {
        const char *stream, *durable;
        int code;
    } cases[] = {{"q", "a.b", ERR_INVALID}, {"q", "", ERR_INVALID},    {"q", "*", ERR_INVALID},
                 {"q.x", "B", ERR_INVALID}, {"q", "a b", ERR_INVALID}, {"q", longer, ERR_LIMIT},
                 {longer, "B", ERR_LIMIT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct consumer_options options = {.stream = cases[i].stream, .durable = cases[i].durable};
        assert_int_equal(consumer_new(story->client.bus, &options, &events, &consumer, &err), cases[i].code);
        assert_null(consumer);
    }
}

/* --- fencing --- */

static void a_deletion_by_another_is_noticed_while_a_pull_waits(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1");
    consumer_want(b->consumer, 10);
    RUN_FOR(&story->client, 100);
    int64_t start_ns = clock_mono_ns();
    delete_at_server(story, "B");
    RUN_UNTIL(&story->client, b->lost == 1);
    assert_true(clock_mono_ns() - start_ns < INT64_C(3000000000));
    assert_string_equal(b->lost_reason, "the consumer was deleted");
    publish(story, "q.1", "x");
    RUN_FOR(&story->client, 1500); /* a tick passes, too */
    assert_int_equal(b->count, 0);
    assert_int_equal(b->lost, 1);
    assert_int_equal(info(story, "B", "num_pending"), -1); /* nothing brings it back by itself */
    set_filters(b, "1");
    RUN_UNTIL(&story->client, b->count == 1);
}

static void a_fenced_defender_that_was_growing_does_not_come_back(void **state)
{
    struct story *story = *state;
    struct party *a = &story->a, *b = &story->b;
    for (int pulls = 0; pulls < 2; pulls++) { /* with and without a pull that hears of it */
        join(a, "A");
        join(b, "B");
        set_filters(a, "1");
        set_filters(b, "3");
        if (pulls)
            consumer_want(b->consumer, 10);
        int before = b->done, lost = b->lost;
        ask_filters(b, "1 3");
        RUN_FOR(&story->client, 150);
        delete_at_server(story, "B");
        RUN_UNTIL(&story->client, b->lost == lost + 1);
        assert_int_equal(b->done, before + 1);
        assert_int_equal(b->code, ERR_NOT_FOUND);
        set_filters(a, "3"); /* both subjects are free now: B must not take them */
        RUN_FOR(&story->client, 200);
        assert_int_equal(info(story, "B", "num_pending"), -1);
        consumer_release(a->consumer, NULL, NULL);
        RUN_UNTIL(&story->client, info(story, "A", "num_pending") == -1);
        consumer_free(a->consumer);
        consumer_free(b->consumer);
        a->consumer = b->consumer = NULL;
    }
}

static void a_lost_stream_is_a_lost_consumer(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1");
    consumer_want(b->consumer, 10);
    RUN_FOR(&story->client, 50);
    assert_int_equal(nats_client_call(&story->client, "STREAM.DELETE.q", NULL, &story->heard), 0);
    RUN_UNTIL(&story->client, b->lost == 1);
    nats_client_make_queue(&story->client, "q", "q.>");
    set_filters(b, "1");
    publish(story, "q.1", "x");
    RUN_UNTIL(&story->client, b->count == 1);
}

/* --- pulling --- */

static void never_more_than_wanted_is_delivered(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1");
    publish_many(story, "q.1", 1000);
    RUN_FOR(&story->client, 100);
    assert_int_equal(b->count, 0); /* nothing was wanted */
    b->acknowledges = true;
    consumer_want(b->consumer, 7);
    RUN_UNTIL(&story->client, b->count == 7);
    RUN_FOR(&story->client, 1300);
    assert_int_equal(b->count, 7);
    consumer_want(b->consumer, 100);
    consumer_want(b->consumer, 100); /* the number replaces, it does not add */
    RUN_UNTIL(&story->client, b->count == 107);
    RUN_FOR(&story->client, 200);
    assert_int_equal(b->count, 107);
    consumer_want(b->consumer, 0);
    RUN_FOR(&story->client, 1300);
    assert_int_equal(b->count, 107);
    for (int i = 1; i <= 300; i++) { /* one at a time, as a pipeline that is full does */
        consumer_want(b->consumer, 1);
        RUN_UNTIL(&story->client, b->count == 107 + i);
    }
    consumer_want(b->consumer, 10000);
    RUN_UNTIL(&story->client, b->count == 1000);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(b->messages[i].deliveries, 1);
        assert_int_equal(atoi(b->messages[i].data), i);
    }
    RUN_UNTIL(&story->client, nats_client_count(&story->client, "q") == 0);
}

/* Requests that wait survive a change of filters: they count, and are not made a second time. */
static void a_change_of_filters_does_not_double_what_is_wanted(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join_with(b, "B", CONSUMER_RESET_BY_API, ACK_WAIT_MS, 1000);
    set_filters(b, "1");
    consumer_want(b->consumer, 10);
    set_filters(b, "1 2");
    set_filters(b, "2");
    set_filters(b, "1 2 3");
    publish_many(story, "q.2", 100);
    RUN_UNTIL(&story->client, b->count == 10);
    RUN_FOR(&story->client, 300);
    assert_int_equal(b->count, 10);
    consumer_want(b->consumer, 5);
    RUN_UNTIL(&story->client, b->count == 15);
    RUN_FOR(&story->client, 200);
    assert_int_equal(b->count, 15);
}

static void pulling_goes_on_when_little_by_little_is_wanted(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1");
    b->acknowledges = true;
    /* A window of 64 that is moved on with every few messages: requests of many sizes wait side by side. */
    int published = 0;
    for (int round = 0; round < 100; round++) {
        publish_many(story, "q.1", 1 + round % 13);
        published += 1 + round % 13;
        consumer_want(b->consumer, 64);
        RUN_UNTIL(&story->client, b->count == published);
    }
    consumer_want(b->consumer, 64);
    publish_many(story, "q.1", 500);
    RUN_UNTIL(&story->client, b->count == published + 64);
    RUN_FOR(&story->client, 200);
    assert_int_equal(b->count, published + 64);
}

static void on_ignored(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    (void)arg;
    (void)code;
    (void)error;
    (void)message;
}

static void on_pull(void *arg, const struct bus_message *message)
{
    snprintf(arg, 256, "%s", message->reply);
}

/* A request that ends early says how many of its messages did not come: so many are asked for again, and no
 * more. */
static void a_request_that_expires_is_replaced_by_what_it_left(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    char pull[256] = "";
    struct bus_subscription *spy;
    join(b, "B");
    set_filters(b, "1");
    assert_int_equal(
        bus_subscribe(story->client.bus, "$JS.API.CONSUMER.MSG.NEXT.q.B", on_pull, pull, &spy, NULL), 0);
    consumer_want(b->consumer, 10);
    RUN_UNTIL(&story->client, pull[0]);
    char first[256];
    snprintf(first, sizeof first, "%s", pull);
    /* The server's own words for it, long before its time. The server goes on with the first request: 10
     * more. */
    const struct bus_header expired[] = {
        {"Status", "408"}, {"Description", "Request Timeout"}, {"Nats-Pending-Messages", "10"}};
    pull[0] = '\0';
    bus_request(story->client.bus, first, expired, 3, "", 0, 1, on_ignored, NULL);
    RUN_UNTIL(&story->client, pull[0]);
    assert_string_not_equal(pull, first);
    publish_many(story, "q.1", 100);
    RUN_UNTIL(&story->client, b->count == 20);
    RUN_FOR(&story->client, 200);
    assert_int_equal(b->count, 20); /* two requests of ten, and nothing beyond */
}

/* A publisher's own headers are no status of the server. */
static void a_message_that_looks_like_a_status_is_a_message(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1");
    consumer_want(b->consumer, 10);
    const struct bus_header odd[] = {{"Status", "409"}, {"Description", "Consumer Deleted"}};
    struct heard heard = {0};
    jetstream_publish(story->client.bus, "q.1", odd, 2, "", 0, heard_answer, &heard);
    RUN_UNTIL(&story->client, heard.count);
    heard_forget(&heard);
    RUN_UNTIL(&story->client, b->count == 1);
    assert_int_equal(b->lost, 0);
}

static void pass_disconnection(void *arg)
{
    struct story *story = arg;
    if (story->a.consumer)
        consumer_on_disconnected(story->a.consumer);
    if (story->b.consumer)
        consumer_on_disconnected(story->b.consumer);
}

static void pass_connection(void *arg)
{
    struct story *story = arg;
    if (story->b.consumer)
        ask_filters(&story->b, "1");
}

static void pulling_survives_a_server_restart(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join(b, "B");
    set_filters(b, "1");
    story->client.on_disconnected = pass_disconnection;
    story->client.on_connected = pass_connection;
    story->client.arg = story;
    consumer_want(b->consumer, 50);
    publish(story, "q.1", "in hand");
    RUN_UNTIL(&story->client, b->count == 1);
    nats_server_kill(story->server);
    RUN_UNTIL(&story->client, !bus_is_connected(story->client.bus));
    consumer_want(b->consumer, 50); /* refused silently, and remembered */
    assert_int_equal(nats_server_start(story->server), 0);
    RUN_UNTIL(&story->client, b->done == 2);
    assert_int_equal(b->code, 0);
    assert_int_equal(b->lost, 0);
    RUN_UNTIL(&story->client, b->count == 2); /* what was in hand comes again, without waiting for ack_wait */
    assert_int_equal(b->messages[1].sequence, b->messages[0].sequence);
    publish_many(story, "q.1", 100);
    RUN_UNTIL(&story->client, b->count == 51);
    RUN_FOR(&story->client, 300);
    assert_int_equal(b->count, 51); /* fifty since the want, over one request */
}

static void a_change_under_way_survives_a_server_restart(void **state)
{
    struct story *story = *state;
    struct party *a = &story->a, *b = &story->b;
    join(a, "A");
    join(b, "B");
    set_filters(a, "1");
    set_filters(b, "3");
    story->client.on_disconnected = pass_disconnection;
    story->client.arg = story;
    ask_filters(b, "1 3");
    RUN_FOR(&story->client, 120);
    nats_server_kill(story->server);
    RUN_UNTIL(&story->client, !bus_is_connected(story->client.bus));
    RUN_FOR(&story->client, 300);
    assert_int_equal(b->done, 1);
    assert_int_equal(nats_server_start(story->server), 0);
    RUN_UNTIL(&story->client, bus_is_connected(story->client.bus));
    set_filters(a, "2");
    RUN_UNTIL(&story->client, b->done == 2);
    assert_int_equal(b->code, 0);
}

/* --- acknowledging --- */

static void what_is_not_acknowledged_comes_again(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join_with(b, "B", CONSUMER_RESET_AUTO, SHORT_ACK_WAIT_MS, 100);
    set_filters(b, "1");
    publish(story, "q.1", "x");
    consumer_want(b->consumer, 10);
    RUN_UNTIL(&story->client, b->count == 2);
    assert_int_equal(b->messages[0].deliveries, 1);
    assert_int_equal(b->messages[1].deliveries, 2);
    assert_int_equal(b->messages[1].sequence, b->messages[0].sequence);
    consumer_ack(story->client.bus, b->messages[1].ack_reply);
    RUN_UNTIL(&story->client, nats_client_count(&story->client, "q") == 0);
}

static void a_message_still_at_work_does_not_come_again(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join_with(b, "B", CONSUMER_RESET_AUTO, 1500, 100);
    set_filters(b, "1");
    publish(story, "q.1", "slow");
    consumer_want(b->consumer, 10);
    RUN_UNTIL(&story->client, b->count == 1);
    for (int i = 0; i < 12; i++) { /* 3.6 s: more than twice ack_wait */
        RUN_FOR(&story->client, 300);
        consumer_extend(story->client.bus, b->messages[0].ack_reply);
    }
    assert_int_equal(b->count, 1);
    RUN_UNTIL(&story->client, b->count == 2); /* left alone, it does */
}

/* On a work queue a terminated message is gone from the stream, like an acknowledged one. */
static void a_terminated_message_is_gone_from_the_work_queue(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join_with(b, "B", CONSUMER_RESET_AUTO, SHORT_ACK_WAIT_MS, 100);
    set_filters(b, "1");
    publish(story, "q.1", "poison");
    consumer_want(b->consumer, 10);
    RUN_UNTIL(&story->client, b->count == 1);
    consumer_terminate(story->client.bus, b->messages[0].ack_reply);
    RUN_UNTIL(&story->client, nats_client_count(&story->client, "q") == 0);
    RUN_FOR(&story->client, 3 * SHORT_ACK_WAIT_MS);
    assert_int_equal(b->count, 1);
    assert_int_equal(info(story, "B", "num_ack_pending"), 0);
}

static void max_ack_pending_holds_the_server_back(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    join_with(b, "B", CONSUMER_RESET_AUTO, ACK_WAIT_MS, 20);
    set_filters(b, "1");
    publish_many(story, "q.1", 100);
    consumer_want(b->consumer, 1000);
    RUN_UNTIL(&story->client, b->count == 20);
    RUN_FOR(&story->client, 200);
    assert_int_equal(b->count, 20);
    b->acknowledges = true;
    for (int i = 0; i < 20; i++)
        consumer_ack(story->client.bus, b->messages[i].ack_reply);
    RUN_UNTIL(&story->client, b->count == 100);
}

/* --- ending --- */

static void a_consumer_can_be_freed_at_every_moment(void **state)
{
    struct story *story = *state;
    struct party *b = &story->b;
    publish_many(story, "q.1", 50);
    for (int i = 0; i < 25; i++) {
        join(b, "B");
        int before = b->done;
        ask_filters(b, "1 2 3");
        consumer_want(b->consumer, 10);
        for (int turns = 0; turns < i; turns++)
            nats_client_turn(&story->client, 0);
        int heard = b->done;
        consumer_free(b->consumer);
        b->consumer = NULL;
        assert_int_equal(b->done, before + 1); /* told, at the latest now */
        if (heard == before)
            assert_int_equal(b->code, ERR_CLOSED);
    }
    RUN_FOR(&story->client, 100);
    join(b, "B");
    set_filters(b, "1");
    int before = b->count;
    b->free_at_next = true; /* from its own event */
    consumer_want(b->consumer, 50);
    RUN_UNTIL(&story->client, b->consumer == NULL);
    RUN_FOR(&story->client, 100);
    assert_int_equal(b->count, before + 1);
}

static void a_bus_closes_under_a_consumer_with_calls_under_way(void **state)
{
    struct story *story = *state;
    struct party *a = &story->a, *b = &story->b;
    join(a, "A");
    join(b, "B");
    set_filters(a, "1");
    ask_filters(b, "1");
    RUN_FOR(&story->client, 70);
    consumer_free(a->consumer);
    consumer_free(b->consumer);
    a->consumer = b->consumer = NULL;
    assert_int_equal(b->code, ERR_CLOSED);
    nats_client_close(&story->client); /* asserts that nothing is left; the sanitizer, that all is freed */
}

/* --- an older server --- */

static void a_server_without_reset_is_served_by_delete_and_create(void **state)
{
    struct story *story = *state;
    char path[NATS_FIXTURE_PATH_BYTES];
    if (nats_server_find_old(path) == NULL) {
        print_message("no older nats-server in the cache (scripts/setup test fetches one): skipped\n");
        skip();
    }
    struct nats_server *old = calloc(1, sizeof *old);
    struct story *other = calloc(1, sizeof *other);
    other->a.story = other->b.story = other;
    assert_int_equal(nats_server_open(old, path), 0);
    nats_client_open(&other->client, old->url);
    RUN_UNTIL(&other->client, bus_is_connected(other->client.bus));
    nats_client_make_queue(&other->client, "q", "q.>");
    struct bus_subscription *spy;
    bus_subscribe(other->client.bus, "$JS.API.CONSUMER.>", on_api_call, other, &spy, NULL);
    wait_for_a_and_take_over(other, CONSUMER_RESET_AUTO);
    assert_non_null(strstr(other->calls, "-B B{1,3} "));
    set_filters(&other->b, "1 3 4");
    RUN_FOR(&other->client, 50);
    assert_null(strstr(other->calls, "R:B ")); /* the level of its API has told */
    assert_int_equal(other->b.lost, 0);
    consumer_free(other->a.consumer);
    consumer_free(other->b.consumer);
    nats_client_close(&other->client);
    nats_server_close(old);
    heard_forget(&other->heard);
    free(other);
    free(old);
    (void)story;
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, open_story, close_story)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(growing_waits_for_the_other_and_gets_what_waited_by_reset),
        STORY(growing_waits_for_the_other_and_gets_what_waited_by_creation),
        STORY(what_is_in_flight_comes_again_and_a_late_ack_counts),
        STORY(what_is_in_flight_comes_again_after_creation_too),
        STORY(a_swap_shrinks_both_before_it_grows_either),
        STORY(a_replaced_change_lets_go_of_what_it_may_have_gained),
        STORY(a_reset_that_was_replaced_is_made_up_for),
        STORY(replacing_all_filters_never_passes_through_the_empty_set),
        STORY(an_empty_set_receives_nothing_instead_of_everything),
        STORY(shrinking_keeps_what_flows_and_does_not_read_again),
        STORY(what_an_earlier_process_left_is_let_go),
        STORY(without_a_stream_the_change_says_so),
        STORY(names_that_would_be_other_subjects_are_refused),
        STORY(a_deletion_by_another_is_noticed_while_a_pull_waits),
        STORY(a_fenced_defender_that_was_growing_does_not_come_back),
        STORY(a_lost_stream_is_a_lost_consumer),
        STORY(never_more_than_wanted_is_delivered),
        STORY(a_change_of_filters_does_not_double_what_is_wanted),
        STORY(pulling_goes_on_when_little_by_little_is_wanted),
        STORY(a_request_that_expires_is_replaced_by_what_it_left),
        STORY(a_message_that_looks_like_a_status_is_a_message),
        STORY(pulling_survives_a_server_restart),
        STORY(a_change_under_way_survives_a_server_restart),
        STORY(what_is_not_acknowledged_comes_again),
        STORY(a_message_still_at_work_does_not_come_again),
        STORY(a_terminated_message_is_gone_from_the_work_queue),
        STORY(max_ack_pending_holds_the_server_back),
        STORY(a_consumer_can_be_freed_at_every_moment),
        STORY(a_bus_closes_under_a_consumer_with_calls_under_way),
        STORY(a_server_without_reset_is_served_by_delete_and_create),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
