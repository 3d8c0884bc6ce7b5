#include "notify/feed.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 250, STATUS_HEARTBEAT = 100, STATUS_NONE = 404, STATUS_OVER = 408 };

enum feed_state {
    FEED_STOPPED,
    FEED_LOST,   /* is the consumer there? to be asked */
    FEED_ASKING, /* a call is under way */
    FEED_IDLE,   /* it is there; nothing is asked for */
    FEED_PULLING
};

struct feed {
    struct bus *bus;
    struct feed_events events;
    char stream[NAMES_BYTES], durable[NAMES_BYTES];
    int64_t ack_wait_ms, max_ack_pending, since_us;
    int replicas;
    enum feed_state state;
    size_t wanted;
    size_t remaining; /* of the pull under way */
    uint64_t pull;    /* counts them: statuses of an earlier one mean nothing */
    int64_t heard_ns, ask_ns;
    bool told; /* that it waits for the stream */
    struct bus_subscription *subscription;
    char inbox[BUS_SUBJECT_MAX_BYTES];
    uv_timer_t timer;
    int open_calls;
    uint64_t life; /* of the answers that count */
    bool closing, timer_closed;
};

struct feed_call {
    struct feed *feed;
    uint64_t life;
};

static void free_if_done(struct feed *feed)
{
    if (feed->closing && feed->timer_closed && feed->open_calls == 0)
        free(feed);
}

static void lose(struct feed *feed, int64_t pause_ms)
{
    feed->state = FEED_LOST;
    feed->ask_ns = clock_mono_ns() + pause_ms * 1000000;
}

/* --- the consumer --- */

static json_t *consumer_config(const struct feed *feed)
{
    char when[CLOCK_RFC3339_BYTES];
    return json_pack("{s:s, s:s, s:s, s:s, s:I, s:i, s:I, s:s, s:i}", "durable_name", feed->durable,
                     "ack_policy", "explicit", "deliver_policy", "by_start_time", "opt_start_time",
                     clock_format_rfc3339(feed->since_us, when), "ack_wait",
                     (json_int_t)(feed->ack_wait_ms * 1000000), "max_deliver", -1, "max_ack_pending",
                     (json_int_t)feed->max_ack_pending, "replay_policy", "instant", "num_replicas",
                     feed->replicas);
}

static void call(struct feed *feed, const char *verb, const json_t *body, jetstream_answer *answer)
{
    char name[2 * NAMES_BYTES + 32];
    struct feed_call *call;
    snprintf(name, sizeof name, "CONSUMER.%s.%s.%s", verb, feed->stream, feed->durable);
    while ((call = malloc(sizeof *call)) == NULL)
        uv_sleep(1);
    *call = (struct feed_call){feed, feed->life};
    feed->state = FEED_ASKING;
    feed->open_calls++;
    jetstream_call(feed->bus, name, body, 0, answer, call);
}

/* The feed, if the answer still counts. */
static struct feed *end_call(struct feed_call *call)
{
    struct feed *feed = call->feed;
    bool counts = !feed->closing && call->life == feed->life && feed->state == FEED_ASKING;
    free(call);
    feed->open_calls--;
    free_if_done(feed);
    return counts ? feed : NULL;
}

static void pull(struct feed *feed);

static void ready(struct feed *feed)
{
    feed->state = FEED_IDLE;
    feed->told = false;
    pull(feed);
}

static void on_created(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)response;
    struct feed *feed = end_call(arg);
    if (feed == NULL)
        return;
    if (code == 0) {
        ready(feed);
        return;
    }
    if (!feed->told)
        LOG_INFO(api_error == JETSTREAM_STREAM_NOT_FOUND
                     ? "waiting for the alarms stream: a defender creates it"
                     : "the consumer is not there yet; trying again",
                 LOG_STR("consumer", feed->durable), LOG_STR("error", error->text));
    feed->told = true;
    lose(feed, FEED_RETRY_MS);
}

static void send_config(struct feed *feed, json_t *config, const char *action)
{
    json_t *body =
        json_pack("{s:s, s:s, s:o}", "stream_name", feed->stream, "action", action, "config", config);
    call(feed, "CREATE", body, on_created);
    json_decref(body);
}

/* What the command line says now holds, whatever the consumer was made with. */
static bool differs(const struct feed *feed, const json_t *config)
{
    return json_integer_value(json_object_get(config, "ack_wait")) != feed->ack_wait_ms * 1000000 ||
           json_integer_value(json_object_get(config, "max_ack_pending")) != feed->max_ack_pending;
}

static void on_info(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)error;
    (void)api_error;
    struct feed *feed = end_call(arg);
    if (feed == NULL)
        return;
    const json_t *config = json_object_get(response, "config");
    if (code == 0 && differs(feed, config)) {
        json_t *changed = json_deep_copy(config);
        json_object_set_new(changed, "ack_wait", json_integer(feed->ack_wait_ms * 1000000));
        json_object_set_new(changed, "max_ack_pending", json_integer(feed->max_ack_pending));
        send_config(feed, changed, "update");
    } else if (code == 0) {
        ready(feed);
    } else if (code == ERR_NOT_FOUND) {
        send_config(feed, consumer_config(feed), "create");
    } else {
        lose(feed, FEED_RETRY_MS);
    }
}

/* --- pulling --- */

static void pull(struct feed *feed)
{
    char subject[2 * NAMES_BYTES + 64], reply[BUS_SUBJECT_MAX_BYTES + 24], body[128];
    if (feed->state != FEED_IDLE || feed->wanted == 0)
        return;
    feed->remaining = feed->wanted < FEED_BATCH_MAX ? feed->wanted : FEED_BATCH_MAX;
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", feed->stream, feed->durable);
    size_t prefix = strlen(feed->inbox) - 1; /* without the wildcard */
    snprintf(reply, sizeof reply, "%.*s%llu", (int)prefix, feed->inbox, (unsigned long long)++feed->pull);
    snprintf(body, sizeof body, "{\"batch\":%zu,\"expires\":%d000000,\"idle_heartbeat\":%d000000}",
             feed->remaining, FEED_EXPIRES_MS, FEED_HEARTBEAT_MS);
    if (bus_publish_with_reply(feed->bus, subject, reply, body, strlen(body), NULL)) {
        lose(feed, FEED_RETRY_MS);
        return;
    }
    feed->state = FEED_PULLING;
    feed->heard_ns = clock_mono_ns();
}

static void on_status(struct feed *feed, int status, const char *subject)
{
    const char *number = strrchr(subject, '.');
    if (feed->state != FEED_PULLING || number == NULL || strtoull(number + 1, NULL, 10) != feed->pull)
        return;
    if (status == STATUS_HEARTBEAT)
        return;
    if (status == STATUS_NONE || status == STATUS_OVER) {
        feed->state = FEED_IDLE;
        pull(feed);
    } else {
        lose(feed, status == 409 ? FEED_RETRY_MS : 0);
    }
}

static void on_message(void *arg, const struct bus_message *message)
{
    struct feed *feed = arg;
    struct consumer_message parsed = {0};
    if (feed->closing || feed->state == FEED_STOPPED)
        return;
    feed->heard_ns = clock_mono_ns();
    int status = bus_message_status(message);
    if (status) {
        on_status(feed, status, message->subject);
        return;
    }
    if (consumer_parse_ack(message->reply, &parsed, NULL))
        return;
    parsed.bus = message;
    if (feed->remaining > 0)
        feed->remaining--;
    feed->events.message(feed->events.arg, &parsed); /* may stop the feed, or change `wanted` */
    if (feed->state == FEED_PULLING && feed->remaining == 0) {
        feed->state = FEED_IDLE;
        pull(feed);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct feed *feed = timer->data;
    int64_t now_ns = clock_mono_ns();
    if (!bus_is_connected(feed->bus)) {
        if (feed->state != FEED_STOPPED) {
            feed->life++;
            lose(feed, 0);
        }
        return;
    }
    if (feed->state == FEED_PULLING && now_ns - feed->heard_ns > (int64_t)FEED_SILENCE_MS * 1000000)
        lose(feed, 0);
    if (feed->state == FEED_LOST && now_ns >= feed->ask_ns)
        call(feed, "INFO", NULL, on_info);
    pull(feed);
}

void feed_want(struct feed *feed, size_t wanted)
{
    feed->wanted = wanted;
    pull(feed);
}

void feed_start(struct feed *feed)
{
    feed->life++;
    lose(feed, 0);
    on_tick(&feed->timer);
}

void feed_stop(struct feed *feed)
{
    feed->life++;
    feed->state = FEED_STOPPED;
}

int feed_open(struct bus *bus, const struct feed_options *options, const struct feed_events *events,
              struct feed **out, struct error *err)
{
    struct feed *feed = calloc(1, sizeof *feed);
    if (feed == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for consumer %s", options->durable);
    feed->bus = bus;
    feed->events = *events;
    feed->ack_wait_ms = options->ack_wait_ms;
    feed->max_ack_pending = options->max_ack_pending;
    feed->since_us = options->since_us;
    feed->replicas = options->replicas;
    snprintf(feed->stream, sizeof feed->stream, "%s", options->stream);
    snprintf(feed->durable, sizeof feed->durable, "%s", options->durable);
    bus_new_inbox(bus, feed->inbox);
    strncat(feed->inbox, ".*", sizeof feed->inbox - strlen(feed->inbox) - 1);
    int code = bus_subscribe(bus, feed->inbox, on_message, feed, &feed->subscription, err);
    if (code) {
        free(feed);
        return code;
    }
    uv_timer_init(bus_loop(bus), &feed->timer);
    feed->timer.data = feed;
    uv_timer_start(&feed->timer, on_tick, TICK_MS, TICK_MS);
    *out = feed;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct feed *feed = handle->data;
    feed->timer_closed = true;
    free_if_done(feed);
}

void feed_close(struct feed *feed)
{
    feed->closing = true;
    bus_unsubscribe(feed->subscription);
    uv_close((uv_handle_t *)&feed->timer, on_timer_closed);
}
