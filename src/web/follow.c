#include "web/follow.h"

#include "base/log.h"
#include "bus/consumer.h"
#include "bus/jetstream.h"
#include "bus/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 500, HEARTBEAT_MS = 3000, SILENCE_MS = 7000, INACTIVE_S = 60 };

struct follow {
    struct bus *bus;
    struct follow_events events;
    char stream[NAMES_BYTES];
    uint64_t newest;
    uint64_t last;                         /* stream sequence of the last message given; 0: none yet */
    struct bus_subscription *subscription; /* of the present consumer */
    uint64_t generation;                   /* of the present consumer */
    uint64_t next_delivery;                /* of the present consumer */
    uint64_t connection;                   /* bus_connections when it was asked for */
    int64_t silent_ms;
    bool asking; /* for the stream's state, or for a consumer */
    int open_calls;
    bool stopped, closed;
    uv_timer_t tick;
};

struct follow_call {
    struct follow *follow;
    uint64_t generation;
};

static void free_if_done(struct follow *follow)
{
    if (follow->closed && follow->open_calls == 0)
        free(follow);
}

static struct follow_call *call_new(struct follow *follow)
{
    struct follow_call *call;
    while ((call = malloc(sizeof *call)) == NULL)
        uv_sleep(1);
    *call = (struct follow_call){follow, follow->generation};
    follow->open_calls++;
    return call;
}

/* The follow, if the call's answer still matters. */
static struct follow *call_end(struct follow_call *call)
{
    struct follow *follow = call->follow;
    bool current = !follow->stopped && call->generation == follow->generation;
    free(call);
    follow->open_calls--;
    if (!current)
        free_if_done(follow);
    return current ? follow : NULL;
}

static void begin(struct follow *follow);

static void on_message(void *arg, const struct bus_message *message)
{
    struct follow *follow = arg;
    follow->silent_ms = 0;
    if (strncmp(message->reply, "$JS.ACK.", 8) != 0 && bus_message_status(message) == 100) {
        const char *stalled = bus_message_header(message, "Nats-Consumer-Stalled");
        const char *last = bus_message_header(message, "Nats-Last-Consumer");
        if (*message->reply) /* flow control: the server waits for this echo */
            bus_publish(follow->bus, message->reply, "", 0, NULL);
        else if (stalled)
            bus_publish(follow->bus, stalled, "", 0, NULL);
        if (last && strtoull(last, NULL, 10) >= follow->next_delivery)
            begin(follow); /* something was sent that has not come */
        return;
    }
    struct consumer_message meta = {0};
    if (consumer_parse_ack(message->reply, &meta, NULL))
        return;
    if (meta.consumer_sequence != follow->next_delivery) {
        begin(follow);
        return;
    }
    follow->next_delivery++;
    follow->last = meta.stream_sequence;
    const char *pending = strrchr(message->reply, '.');
    follow->events.message(follow->events.arg, message, meta.stream_sequence,
                           pending ? strtoull(pending + 1, NULL, 10) : 0);
}

static void on_created(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)response;
    struct follow *follow = call_end(arg);
    if (follow == NULL)
        return;
    follow->asking = false;
    follow->silent_ms = code ? SILENCE_MS : 0; /* the tick tries again */
    if (code)
        LOG_DEBUG("stream cannot be followed yet", LOG_STR("stream", follow->stream),
                  LOG_STR("error", error->text));
}

static void create_consumer(struct follow *follow, uint64_t from)
{
    char inbox[BUS_SUBJECT_MAX_BYTES], verb[NAMES_BYTES + 32];
    bus_new_inbox(follow->bus, inbox);
    if (bus_subscribe(follow->bus, inbox, on_message, follow, &follow->subscription, NULL)) {
        follow->asking = false;
        follow->silent_ms = SILENCE_MS;
        return;
    }
    snprintf(verb, sizeof verb, "CONSUMER.CREATE.%s", follow->stream);
    json_t *body = json_pack("{s:s, s:{s:s, s:s, s:I, s:s, s:s, s:b, s:I, s:I, s:b, s:i}}", "stream_name",
                             follow->stream, "config", "deliver_subject", inbox, "deliver_policy",
                             "by_start_sequence", "opt_start_seq", (json_int_t)from, "ack_policy", "none",
                             "replay_policy", "instant", "flow_control", 1, "idle_heartbeat",
                             (json_int_t)HEARTBEAT_MS * 1000000, "inactive_threshold",
                             (json_int_t)INACTIVE_S * 1000000000, "mem_storage", 1, "num_replicas", 1);
    jetstream_call(follow->bus, verb, body, 0, on_created, call_new(follow));
    json_decref(body);
}

static void on_state(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)error;
    struct follow *follow = call_end(arg);
    if (follow == NULL)
        return;
    if (code) {
        follow->asking = false;
        follow->silent_ms = SILENCE_MS;
        return;
    }
    const json_t *state = json_object_get(response, "state");
    uint64_t last = (uint64_t)json_integer_value(json_object_get(state, "last_seq"));
    uint64_t from = last > follow->newest ? last - follow->newest + 1 : 1;
    if (follow->last > last) /* another stream of that name, made anew */
        follow->last = 0;
    if (follow->last >= from)
        from = follow->last + 1;
    create_consumer(follow, from);
}

/* Asks where the stream is, then for a consumer that begins after the last message given. */
static void begin(struct follow *follow)
{
    char verb[NAMES_BYTES + 32];
    if (follow->subscription)
        bus_unsubscribe(follow->subscription);
    follow->subscription = NULL;
    follow->generation++;
    follow->next_delivery = 1;
    follow->connection = bus_connections(follow->bus);
    follow->silent_ms = 0;
    follow->asking = true;
    snprintf(verb, sizeof verb, "STREAM.INFO.%s", follow->stream);
    jetstream_call(follow->bus, verb, NULL, 0, on_state, call_new(follow));
}

static void on_tick(uv_timer_t *timer)
{
    struct follow *follow = timer->data;
    follow->silent_ms += TICK_MS;
    bool reconnected = bus_connections(follow->bus) != follow->connection;
    bool silent = !follow->asking && follow->silent_ms > SILENCE_MS;
    if (bus_is_connected(follow->bus) && (reconnected || silent))
        begin(follow);
}

int follow_start(struct bus *bus, const char *stream, uint64_t newest, const struct follow_events *events,
                 struct follow **out, struct error *err)
{
    if (strlen(stream) >= NAMES_BYTES)
        return error_set(err, ERR_LIMIT, "the stream's name is longer than %d bytes", NAMES_BYTES - 1);
    struct follow *follow = calloc(1, sizeof *follow);
    if (follow == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to follow %s", stream);
    follow->bus = bus;
    follow->events = *events;
    follow->newest = newest;
    snprintf(follow->stream, sizeof follow->stream, "%s", stream);
    uv_timer_init(bus_loop(bus), &follow->tick);
    follow->tick.data = follow;
    uv_timer_start(&follow->tick, on_tick, TICK_MS, TICK_MS);
    begin(follow);
    *out = follow;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct follow *follow = handle->data;
    follow->closed = true;
    free_if_done(follow);
}

void follow_stop(struct follow *follow)
{
    follow->stopped = true;
    if (follow->subscription)
        bus_unsubscribe(follow->subscription);
    follow->subscription = NULL;
    uv_close((uv_handle_t *)&follow->tick, on_closed);
}
