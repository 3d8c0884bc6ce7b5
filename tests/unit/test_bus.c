#include "nats_fixture.h"

#include "cmocka_setup.h"

#include "base/clock.h"
#include "cli/natsserver.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reply {
    int count;
    int code;
    char text[ERROR_TEXT_BYTES];
    char data[256];
};

struct story {
    struct nats_server *server;
    struct nats_client client;
    struct reply replies[64];
    int received;
    char seen[1024]; /* "subject=data;" of every message */
    struct bus_subscription *echo;
    struct bus *bus_again; /* for answers that ask again */
    char order[256];
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

static int open_story(void **state)
{
    struct story *story = calloc(1, sizeof *story);
    story->server = *state;
    *state = story;
    if (story->server->pid == 0 && nats_server_start(story->server))
        return -1;
    nats_client_open(&story->client, story->server->url);
    RUN_UNTIL(&story->client, bus_is_connected(story->client.bus));
    return 0;
}

static int close_story(void **state)
{
    struct story *story = *state;
    nats_client_close(&story->client);
    *state = story->server;
    free(story);
    return 0;
}

static void on_reply(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    struct reply *reply = arg;
    reply->count++;
    reply->code = code;
    snprintf(reply->text, sizeof reply->text, "%s", error->text);
    if (message)
        snprintf(reply->data, sizeof reply->data, "%s", message->data);
    assert_true((code == 0) == (message != NULL));
}

static void on_echo(void *arg, const struct bus_message *message)
{
    struct story *story = arg;
    story->received++;
    size_t used = strlen(story->seen);
    snprintf(story->seen + used, sizeof story->seen - used, "%s=%s;", message->subject, message->data);
    const char *colour = bus_message_header(message, "Colour");
    if (*message->reply)
        bus_publish(story->client.bus, message->reply, colour ? colour : message->data,
                    colour ? strlen(colour) : message->length, NULL);
}

static void ask(struct story *story, const char *subject, const char *question, int64_t timeout_ms, int i)
{
    bus_request(story->client.bus, subject, NULL, 0, question, strlen(question), timeout_ms, on_reply,
                &story->replies[i]);
}

static void listen_on(struct story *story, const char *subject)
{
    struct error err;
    assert_int_equal(bus_subscribe(story->client.bus, subject, on_echo, story, &story->echo, &err), 0);
}

static void a_request_is_answered_once_and_never_before_it_returns(void **state)
{
    struct story *story = *state;
    listen_on(story, "test.echo");
    ask(story, "test.echo", "hello", 0, 0);
    assert_int_equal(story->replies[0].count, 0);
    RUN_UNTIL(&story->client, story->replies[0].count);
    assert_int_equal(story->replies[0].code, 0);
    assert_string_equal(story->replies[0].data, "hello");
    for (int i = 1; i < 64; i++) {
        char question[16];
        snprintf(question, sizeof question, "q%d", i);
        ask(story, "test.echo", question, 0, i);
    }
    RUN_UNTIL(&story->client, story->received == 64);
    RUN_UNTIL(&story->client, story->replies[63].count);
    for (int i = 1; i < 64; i++) {
        char question[16];
        snprintf(question, sizeof question, "q%d", i);
        assert_int_equal(story->replies[i].count, 1);
        assert_string_equal(story->replies[i].data, question);
    }
}

static void headers_arrive(void **state)
{
    struct story *story = *state;
    listen_on(story, "test.echo");
    const struct bus_header headers[] = {{"Colour", "blue: \xc3\xa9"}, {"Other", "x"}};
    bus_request(story->client.bus, "test.echo", headers, 2, "data", 4, 0, on_reply, &story->replies[0]);
    RUN_UNTIL(&story->client, story->replies[0].count);
    assert_string_equal(story->replies[0].data, "blue: \xc3\xa9");
    assert_string_equal(story->seen, "test.echo=data;");
    /* A line break would smuggle in another header. */
    const struct bus_header broken = {"Colour", "blue\r\nNats-Msg-Id: 1"};
    bus_request(story->client.bus, "test.echo", &broken, 1, "data", 4, 0, on_reply, &story->replies[1]);
    RUN_UNTIL(&story->client, story->replies[1].count);
    assert_int_equal(story->replies[1].code, ERR_INVALID);
}

static void a_request_that_nobody_hears_fails_at_once(void **state)
{
    struct story *story = *state;
    int64_t start_ns = clock_mono_ns();
    ask(story, "test.nobody", "", 30000, 0);
    RUN_UNTIL(&story->client, story->replies[0].count);
    assert_int_equal(story->replies[0].code, ERR_UNAVAILABLE);
    assert_non_null(strstr(story->replies[0].text, "no responders"));
    assert_true(clock_mono_ns() - start_ns < INT64_C(5000000000));
}

static void on_silence(void *arg, const struct bus_message *message)
{
    (void)message;
    ((struct story *)arg)->received++;
}

static void a_request_without_an_answer_times_out(void **state)
{
    struct story *story = *state;
    struct bus_subscription *subscription;
    assert_int_equal(bus_subscribe(story->client.bus, "test.mute", on_silence, story, &subscription, NULL),
                     0);
    int64_t start_ns = clock_mono_ns();
    ask(story, "test.mute", "", 300, 0);
    ask(story, "test.mute", "", 20000, 1);
    RUN_UNTIL(&story->client, story->replies[0].count);
    assert_int_equal(story->replies[0].code, ERR_TIMEOUT);
    assert_true(clock_mono_ns() - start_ns >= INT64_C(300000000));
    assert_int_equal(story->replies[1].count, 0); /* not yet */
    assert_int_equal(story->received, 2);
}

static void a_message_that_is_too_large_is_the_callers_fault(void **state)
{
    struct story *story = *state;
    size_t length = 2 << 20; /* the server takes 1 MiB */
    char *large = calloc(1, length), subject[BUS_SUBJECT_MAX_BYTES + 1];
    memset(subject, 'a', sizeof subject);
    subject[BUS_SUBJECT_MAX_BYTES] = '\0';
    bus_request(story->client.bus, "test.echo", NULL, 0, large, length, 0, on_reply, &story->replies[0]);
    bus_request(story->client.bus, subject, NULL, 0, "", 0, 0, on_reply, &story->replies[1]);
    RUN_UNTIL(&story->client, story->replies[0].count && story->replies[1].count);
    assert_int_equal(story->replies[0].code, ERR_LIMIT);
    assert_int_equal(story->replies[1].code, ERR_LIMIT);
    struct error err;
    assert_int_equal(bus_publish(story->client.bus, "test.echo", large, length, &err), ERR_LIMIT);
    assert_int_equal(bus_publish(story->client.bus, subject, "", 0, &err), ERR_LIMIT);
    free(large);
    assert_true(bus_is_connected(story->client.bus));
}

static void wildcards_hear_what_matches_until_they_are_let_go(void **state)
{
    struct story *story = *state;
    struct bus *bus = story->client.bus;
    listen_on(story, "w.*.x.>");
    bus_publish(bus, "w.a.x.1", "1", 1, NULL);
    bus_publish(bus, "w.a.y.1", "2", 1, NULL);
    bus_publish(bus, "w.b.x.1.2", "3", 1, NULL);
    bus_publish(bus, "w.b.x", "4", 1, NULL);
    bus_publish(bus, "w.c.x.9", "5", 1, NULL);
    RUN_UNTIL(&story->client, story->received == 3);
    assert_string_equal(story->seen, "w.a.x.1=1;w.b.x.1.2=3;w.c.x.9=5;");
    bus_publish(bus, "w.a.x.1", "6", 1, NULL);
    bus_unsubscribe(story->echo);
    RUN_FOR(&story->client, 200);
    assert_int_equal(story->received, 3);
}

static void many_subscriptions_come_and_go(void **state)
{
    struct story *story = *state;
    for (int i = 0; i < 200; i++) {
        listen_on(story, "churn.>");
        bus_publish(story->client.bus, "churn.x", "", 0, NULL);
        if (i % 10 == 0)
            RUN_FOR(&story->client, 5);
        bus_unsubscribe(story->echo);
    }
    int before = story->received;
    bus_publish(story->client.bus, "churn.x", "", 0, NULL);
    RUN_FOR(&story->client, 100);
    assert_int_equal(story->received, before);
}

static void a_lost_connection_answers_what_is_in_flight_and_comes_back(void **state)
{
    struct story *story = *state;
    struct nats_client *client = &story->client;
    struct bus_subscription *mute;
    listen_on(story, "test.echo");
    assert_int_equal(bus_subscribe(client->bus, "test.mute", on_silence, story, &mute, NULL), 0);
    ask(story, "test.mute", "", 60000, 0);
    ask(story, "test.mute", "", 60000, 1);
    RUN_UNTIL(client, story->received == 2);
    uint64_t connections = bus_connections(client->bus);
    nats_server_kill(story->server);
    RUN_UNTIL(client, strcmp(client->trace, "cd") == 0);
    assert_false(bus_is_connected(client->bus));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(story->replies[i].count, 1);
        assert_int_equal(story->replies[i].code, ERR_UNAVAILABLE);
    }
    /* While it is away: refused, at once but not before returning, and nothing is kept for later. */
    ask(story, "test.echo", "while away", 60000, 2);
    assert_int_equal(story->replies[2].count, 0);
    struct error err;
    assert_int_equal(bus_publish(client->bus, "test.echo", "p", 1, &err), ERR_UNAVAILABLE);
    RUN_UNTIL(client, story->replies[2].count);
    assert_int_equal(story->replies[2].code, ERR_UNAVAILABLE);

    assert_int_equal(nats_server_start(story->server), 0);
    RUN_UNTIL(client, strcmp(client->trace, "cdc") == 0);
    assert_true(bus_connections(client->bus) > connections);
    ask(story, "test.echo", "back", 0, 3); /* subscriptions are there again */
    RUN_UNTIL(client, story->replies[3].count);
    assert_string_equal(story->replies[3].data, "back");
    assert_string_equal(story->seen, "test.echo=back;");
}

/* NATS's own threads know of the loss before the loop has heard of it. What is sent in between is not kept
 * for the next connection: a pull request would come a second time there. */
static void what_is_sent_to_a_connection_just_lost_is_not_sent_later(void **state)
{
    struct story *story = *state;
    struct nats_client *client = &story->client;
    listen_on(story, "test.echo");
    RUN_FOR(client, 50);
    nats_server_kill(story->server);
    uv_sleep(500); /* the loop stands still */
    assert_true(bus_is_connected(client->bus));
    struct error err;
    assert_int_equal(bus_publish(client->bus, "test.echo", "late", 4, &err), ERR_UNAVAILABLE);
    ask(story, "test.echo", "late", 0, 0);
    RUN_UNTIL(client, story->replies[0].count);
    assert_int_equal(story->replies[0].code, ERR_UNAVAILABLE);
    assert_int_equal(nats_server_start(story->server), 0);
    RUN_UNTIL(client, strcmp(client->trace, "cdc") == 0);
    ask(story, "test.echo", "new", 0, 1);
    RUN_UNTIL(client, story->replies[1].count);
    assert_string_equal(story->seen, "test.echo=new;");
}

/* Requests in a stream while the server dies: each gets exactly one answer. */
static void every_request_is_answered_once_whenever_the_server_dies(void **state)
{
    struct story *story = *state;
    struct nats_client *client = &story->client;
    listen_on(story, "test.echo");
    for (int i = 0; i < 64; i++) {
        ask(story, "test.echo", "x", 3000, i);
        if (i == 20)
            nats_server_kill(story->server);
        if (i % 2)
            RUN_FOR(client, 1);
    }
    for (int i = 0; i < 64; i++)
        RUN_UNTIL(client, story->replies[i].count);
    RUN_FOR(client, 100);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(story->replies[i].count, 1);
        int code = story->replies[i].code;
        assert_true(code == 0 || code == ERR_UNAVAILABLE);
    }
    assert_int_equal(story->replies[63].code, ERR_UNAVAILABLE);
}

static void a_server_that_freezes_is_a_time_out(void **state)
{
    struct story *story = *state;
    listen_on(story, "test.echo");
    kill(story->server->pid, SIGSTOP);
    ask(story, "test.echo", "x", 200, 0);
    RUN_UNTIL(&story->client, story->replies[0].count);
    kill(story->server->pid, SIGCONT);
    assert_int_equal(story->replies[0].code, ERR_TIMEOUT);
    RUN_UNTIL(&story->client,
              story->received == 1); /* it was done nevertheless; the late answer is ignored */
    RUN_FOR(&story->client, 100);
    assert_int_equal(story->replies[0].count, 1);
}

static void ask_again(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    struct story *story = arg;
    on_reply(&story->replies[0], code, error, message);
    bus_request(story->bus_again, "test.mute", NULL, 0, "", 0, 0, on_reply, &story->replies[1]);
}

static void closing_answers_what_is_pending_and_what_that_asks(void **state)
{
    struct story *story = *state;
    struct bus_subscription *mute;
    assert_int_equal(bus_subscribe(story->client.bus, "test.mute", on_silence, story, &mute, NULL), 0);
    story->bus_again = story->client.bus;
    bus_request(story->client.bus, "test.mute", NULL, 0, "", 0, 60000, ask_again, story);
    RUN_UNTIL(&story->client, story->received == 1);
    struct bus *bus = story->client.bus;
    story->client.bus = NULL;
    bus_close(bus);
    assert_int_equal(story->replies[0].count, 1);
    assert_int_equal(story->replies[0].code, ERR_CLOSED);
    assert_int_equal(story->replies[1].count, 1);
    assert_int_equal(story->replies[1].code, ERR_CLOSED);
    assert_string_equal(story->client.trace, "c"); /* closing is no disconnection */
}

static void close_in_answer(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    struct story *story = arg;
    on_reply(&story->replies[0], code, error, message);
    struct bus *bus = story->client.bus;
    story->client.bus = NULL;
    bus_close(bus);
}

static void a_bus_may_be_closed_from_an_answer(void **state)
{
    struct story *story = *state;
    struct bus_subscription *mute;
    assert_int_equal(bus_subscribe(story->client.bus, "test.mute", on_silence, story, &mute, NULL), 0);
    bus_request(story->client.bus, "test.nobody", NULL, 0, "", 0, 0, close_in_answer, story);
    for (int i = 1; i < 20; i++)
        ask(story, i % 2 ? "test.nobody" : "test.mute", "", 0, i);
    RUN_UNTIL(&story->client, story->client.bus == NULL);
    for (int i = 0; i < 20; i++)
        assert_int_equal(story->replies[i].count, 1);
    RUN_FOR(&story->client, 50);
}

static void closing_in_the_middle_of_messages_is_clean(void **state)
{
    struct story *story = *state;
    for (int round = 0; round < 20; round++) {
        listen_on(story, "flood.>");
        for (int i = 0; i < 500; i++)
            bus_publish(story->client.bus, "flood.x", "data", 4, NULL);
        RUN_FOR(&story->client, round % 4);
        bus_close(story->client.bus);
        story->client.bus = NULL;
        nats_client_close(&story->client);
        nats_client_open(&story->client, story->server->url);
        if (round % 2)
            RUN_UNTIL(&story->client, bus_is_connected(story->client.bus));
    }
    assert_true(story->received > 0);
}

static void a_bus_that_waits_for_its_server_can_be_closed(void **state)
{
    struct story *story = *state;
    nats_server_kill(story->server);
    RUN_UNTIL(&story->client, !bus_is_connected(story->client.bus));
    int64_t start_ns = clock_mono_ns();
    nats_client_close(&story->client);
    assert_true(clock_mono_ns() - start_ns < INT64_C(5000000000));
}

static void must_be_there_fails_with_words_that_help(void **state)
{
    struct story *story = *state;
    struct error err = {0};
    char url[64];
    snprintf(url, sizeof url, "nats://127.0.0.1:%d", natsserver_choose_port(0));
    struct bus_options options = {.url = url, .name = "test", .must_be_there = true};
    struct bus *bus = NULL;
    assert_int_equal(bus_open(&options, &story->client.loop, story->client.mailbox, NULL, &bus, &err),
                     ERR_UNAVAILABLE);
    assert_null(bus);
    assert_non_null(strstr(err.text, url));
    assert_non_null(strstr(err.text, "chamberlain up"));
    options.url = "nats://[";
    assert_true(bus_open(&options, &story->client.loop, story->client.mailbox, NULL, &bus, &err) != 0);
    options.url = story->server->url;
    options.credentials_file = "/nonexistent.creds";
    assert_true(bus_open(&options, &story->client.loop, story->client.mailbox, NULL, &bus, &err) != 0);
    options.credentials_file = NULL;
    options.ca_file = "/nonexistent.pem";
    assert_int_equal(bus_open(&options, &story->client.loop, story->client.mailbox, NULL, &bus, &err),
                     ERR_INVALID);
}

static void must_be_there_is_usable_as_soon_as_it_is_open(void **state)
{
    struct story *story = *state;
    struct error err = {0};
    char urls[160];
    /* The second of two servers is there. */
    snprintf(urls, sizeof urls, "nats://127.0.0.1:%d,%s", natsserver_choose_port(0), story->server->url);
    struct bus_options options = {.url = urls, .name = "test", .must_be_there = true};
    struct bus *bus = NULL;
    if (bus_open(&options, &story->client.loop, story->client.mailbox, NULL, &bus, &err))
        fail_msg("%s", err.text);
    assert_true(bus_is_connected(bus));
    listen_on(story, "test.echo");
    RUN_FOR(&story->client, 50);
    bus_request(bus, "test.echo", NULL, 0, "hi", 2, 0, on_reply, &story->replies[0]);
    RUN_UNTIL(&story->client, story->replies[0].count);
    bus_close(bus);
    assert_int_equal(story->replies[0].code, 0);
}

static void a_bus_opened_before_its_server_connects_when_it_comes(void **state)
{
    struct story *story = *state;
    struct nats_client *late = calloc(1, sizeof *late);
    nats_server_kill(story->server);
    nats_client_open(late, story->server->url);
    struct bus_subscription *subscription;
    assert_int_equal(bus_subscribe(late->bus, "test.echo", on_echo, story, &subscription, NULL), 0);
    RUN_FOR(late, 300);
    assert_string_equal(late->trace, "");
    assert_false(bus_is_connected(late->bus));
    assert_int_equal(nats_server_start(story->server), 0);
    RUN_UNTIL(late, strcmp(late->trace, "c") == 0);
    assert_true(bus_is_connected(late->bus));
    RUN_UNTIL(&story->client, strcmp(story->client.trace, "cdc") == 0);
    /* The subscription may reach the server a moment after the connection is told of: say it until it is
     * heard. */
    for (int tries = 0; tries < 100 && story->received == 0; tries++) {
        bus_publish(story->client.bus, "test.echo", "early bird", 10, NULL);
        RUN_FOR(&story->client, 50);
        RUN_FOR(late, 50);
    }
    assert_true(story->received >= 1);
    nats_client_close(late);
    free(late);
}

/* --- JetStream --- */

static struct heard ensure(struct story *story, const struct stream_spec *spec)
{
    struct heard *heard = calloc(1, sizeof *heard);
    stream_ensure(story->client.bus, spec, heard_answer, heard);
    RUN_UNTIL(&story->client, heard->count);
    struct heard copy = *heard;
    free(heard);
    return copy;
}

static void a_stream_is_made_once_and_recognised_afterwards(void **state)
{
    struct story *story = *state;
    struct stream_spec spec = {.name = "made",
                               .subject = "made.>",
                               .retention = "workqueue",
                               .max_bytes = 1 << 20,
                               .duplicate_window_s = 60,
                               .replicas = 1};
    struct heard heard = ensure(story, &spec);
    assert_int_equal(heard.code, 0);
    const json_t *config = json_object_get(heard.response, "config");
    assert_string_equal(json_string_value(json_object_get(config, "retention")), "workqueue");
    assert_string_equal(json_string_value(json_object_get(config, "storage")), "file");
    assert_string_equal(json_string_value(json_object_get(config, "discard")), "new");
    assert_int_equal(json_integer_value(json_object_get(config, "duplicate_window")), INT64_C(60000000000));
    heard_forget(&heard);
    heard = ensure(story, &spec); /* the very same */
    assert_int_equal(heard.code, 0);
    assert_non_null(json_object_get(heard.response, "created"));
    heard_forget(&heard);
    spec.duplicate_window_s = 120; /* what an operator may have chosen otherwise is left alone */
    spec.max_bytes = 1 << 21;
    heard = ensure(story, &spec);
    assert_int_equal(heard.code, 0);
    config = json_object_get(heard.response, "config");
    assert_int_equal(json_integer_value(json_object_get(config, "max_bytes")), 1 << 20);
    heard_forget(&heard);
}

static void a_stream_of_another_make_is_a_conflict_that_names_it(void **state)
{
    struct story *story = *state;
    struct stream_spec spec = {.name = "other", .subject = "other.>", .retention = "limits", .replicas = 1};
    struct heard heard = ensure(story, &spec);
    assert_int_equal(heard.code, 0);
    heard_forget(&heard);
    spec.retention = "workqueue";
    heard = ensure(story, &spec);
    assert_int_equal(heard.code, ERR_CONFLICT);
    assert_null(heard.response);
    assert_non_null(strstr(heard.error.text, "stream other exists with other retention"));
    assert_non_null(strstr(heard.error.text, "nats stream edit"));
    heard_forget(&heard);
    spec.retention = "limits";
    spec.subject = "another.>";
    heard = ensure(story, &spec);
    assert_int_equal(heard.code, ERR_CONFLICT);
    assert_non_null(strstr(heard.error.text, "other subjects"));
    heard_forget(&heard);
    json_t *memory = json_pack("{s:s, s:[s], s:s}", "name", "ram", "subjects", "ram.>", "storage", "memory");
    assert_int_equal(nats_client_call(&story->client, "STREAM.CREATE.ram", memory, &heard), 0);
    heard_forget(&heard);
    spec = (struct stream_spec){.name = "ram", .subject = "ram.>", .retention = "limits", .replicas = 1};
    heard = ensure(story, &spec);
    assert_int_equal(heard.code, ERR_CONFLICT);
    assert_non_null(strstr(heard.error.text, "other storage"));
    heard_forget(&heard);
}

static void the_same_message_id_is_taken_once(void **state)
{
    struct story *story = *state;
    struct nats_client *client = &story->client;
    nats_client_make_queue(client, "ids", "ids.>");
    const struct bus_header id = {"Nats-Msg-Id", "context-1"};
    struct heard heard = {0};
    jetstream_publish(client->bus, "ids.a", &id, 1, "data", 4, heard_answer, &heard);
    RUN_UNTIL(client, heard.count == 1);
    assert_int_equal(heard.code, 0);
    assert_false(json_is_true(json_object_get(heard.response, "duplicate")));
    json_int_t sequence = json_integer_value(json_object_get(heard.response, "seq"));
    jetstream_publish(client->bus, "ids.a", &id, 1, "data", 4, heard_answer, &heard);
    RUN_UNTIL(client, heard.count == 2);
    assert_int_equal(heard.code, 0);
    assert_true(json_is_true(json_object_get(heard.response, "duplicate")));
    assert_int_equal(json_integer_value(json_object_get(heard.response, "seq")), sequence);
    assert_int_equal(nats_client_count(client, "ids"), 1);
    heard_forget(&heard);
    /* A subject that no stream takes. */
    jetstream_publish(client->bus, "nostream.a", NULL, 0, "data", 4, heard_answer, &heard);
    RUN_UNTIL(client, heard.count == 1);
    assert_int_equal(heard.code, ERR_UNAVAILABLE);
    assert_non_null(strstr(heard.error.text, "nostream.a"));
    heard_forget(&heard);
}

static void the_servers_refusals_become_codes(void **state)
{
    struct story *story = *state;
    struct nats_client *client = &story->client;
    struct heard heard = {0};
    nats_client_make_queue(client, "codes", "codes.>");
    assert_int_equal(nats_client_call(client, "STREAM.INFO.nothere", NULL, &heard), ERR_NOT_FOUND);
    assert_int_equal(heard.api_error, JETSTREAM_STREAM_NOT_FOUND);
    assert_non_null(strstr(heard.error.text, "STREAM.INFO.nothere"));
    assert_null(heard.response);
    assert_int_equal(nats_client_call(client, "CONSUMER.INFO.codes.nothere", NULL, &heard), ERR_NOT_FOUND);
    assert_int_equal(heard.api_error, JETSTREAM_CONSUMER_NOT_FOUND);
    assert_int_equal(nats_client_call(client, "STREAM.MSG.GET.codes", json_pack("{s:i}", "seq", 9), &heard),
                     ERR_NOT_FOUND);
    assert_int_equal(heard.api_error, JETSTREAM_NO_MESSAGE_FOUND);
    json_t *update = json_pack("{s:s, s:s, s:{s:s, s:s}}", "stream_name", "codes", "action", "update",
                               "config", "durable_name", "x", "ack_policy", "explicit");
    assert_int_equal(nats_client_call(client, "CONSUMER.CREATE.codes.x", update, &heard), ERR_NOT_FOUND);
    assert_int_equal(heard.api_error, JETSTREAM_CONSUMER_DOES_NOT_EXIST);
    for (int i = 0; i < 2; i++) { /* two consumers of everything on a work queue */
        char call[64], name[2] = {(char)('a' + i), '\0'};
        snprintf(call, sizeof call, "CONSUMER.CREATE.codes.%s", name);
        json_t *create =
            json_pack("{s:s, s:{s:s, s:s, s:[s]}}", "stream_name", "codes", "config", "durable_name", name,
                      "ack_policy", "explicit", "filter_subjects", "codes.1");
        assert_int_equal(nats_client_call(client, call, create, &heard), i ? ERR_CONFLICT : 0);
    }
    assert_int_equal(heard.api_error, JETSTREAM_WORK_QUEUE_CONSUMER_NOT_UNIQUE);
    assert_int_equal(nats_client_call(client, "STREAM.CREATE.codes", json_pack("{s:i}", "name", 3), &heard),
                     ERR_INVALID);
    const struct bus_header expected = {"Nats-Expected-Last-Subject-Sequence", "77"};
    heard_forget(&heard);
    jetstream_publish(client->bus, "codes.1", &expected, 1, "", 0, heard_answer, &heard);
    RUN_UNTIL(client, heard.count);
    assert_int_equal(heard.code, ERR_CONFLICT);
    assert_true(heard.api_error == JETSTREAM_WRONG_LAST_SEQUENCE ||
                heard.api_error == JETSTREAM_WRONG_LAST_SEQUENCE_CONSTANT);
    heard_forget(&heard);
    /* An answer that is no JSON. */
    listen_on(story, "test.echo");
    jetstream_publish(client->bus, "test.echo", NULL, 0, "{broken", 7, heard_answer, &heard);
    RUN_UNTIL(client, heard.count);
    assert_int_equal(heard.code, ERR_CORRUPT);
    heard_forget(&heard);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, open_story, close_story)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_request_is_answered_once_and_never_before_it_returns),
        STORY(headers_arrive),
        STORY(a_request_that_nobody_hears_fails_at_once),
        STORY(a_request_without_an_answer_times_out),
        STORY(a_message_that_is_too_large_is_the_callers_fault),
        STORY(wildcards_hear_what_matches_until_they_are_let_go),
        STORY(many_subscriptions_come_and_go),
        STORY(a_lost_connection_answers_what_is_in_flight_and_comes_back),
        STORY(what_is_sent_to_a_connection_just_lost_is_not_sent_later),
        STORY(every_request_is_answered_once_whenever_the_server_dies),
        STORY(a_server_that_freezes_is_a_time_out),
        STORY(closing_answers_what_is_pending_and_what_that_asks),
        STORY(a_bus_may_be_closed_from_an_answer),
        STORY(closing_in_the_middle_of_messages_is_clean),
        STORY(a_bus_that_waits_for_its_server_can_be_closed),
        STORY(must_be_there_fails_with_words_that_help),
        STORY(must_be_there_is_usable_as_soon_as_it_is_open),
        STORY(a_bus_opened_before_its_server_connects_when_it_comes),
        STORY(a_stream_is_made_once_and_recognised_afterwards),
        STORY(a_stream_of_another_make_is_a_conflict_that_names_it),
        STORY(the_same_message_id_is_taken_once),
        STORY(the_servers_refusals_become_codes),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
