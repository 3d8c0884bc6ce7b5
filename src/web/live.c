#include "web/live.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/kv.h"
#include "bus/names.h"
#include "web/follow.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TELL_MS = 500,    /* changed chambers */
    SECOND_MS = 1000, /* silence, counts */
    STATUS_EVERY = 5, /* seconds: each defender is asked, readers are told */
    COUNT_EVERY = 2,  /* seconds: the store is asked */
    ASK_TIMEOUT_MS = 2000,
    ASK_MEMBERS_MAX = 1024, /* of one round */
    HEADS_AT_ONCE = 200     /* chambers of one question to the store */
};

enum { WATCH_MAP, WATCH_ASSIGNED, WATCH_CHAMBERS, WATCH_COUNT };

struct live {
    struct live_ports ports;
    struct kv_watch *watches[WATCH_COUNT];
    struct follow *alarms;
    struct bus_subscription *subscriptions[3];
    uv_timer_t tell, second;
    uint64_t seconds;
    bool counting, looking; /* the store is being asked */
    struct arena looked_for;
    struct store_key keys[HEADS_AT_ONCE];
    bool closing;
};

/* --- what NATS tells --- */

static void on_heartbeat(void *arg, const struct bus_message *message)
{
    struct live *live = arg;
    struct cluster_heartbeat heartbeat;
    if (cluster_heartbeat_parse(message->data, message->length, &heartbeat, NULL) == 0)
        board_on_heartbeat(live->ports.board, &heartbeat, clock_wall_us());
}

static void on_judged(void *arg, const struct bus_message *message)
{
    struct live *live = arg;
    board_on_judged(live->ports.board, message->data, message->length, clock_wall_us());
}

static void on_decision(void *arg, const struct bus_message *message)
{
    struct live *live = arg;
    board_on_cluster_event(live->ports.board, message->data, message->length);
}

static void on_alarm(void *arg, const struct bus_message *message, uint64_t sequence, uint64_t behind)
{
    struct live *live = arg;
    board_on_alarm(live->ports.board, message->data, message->length, sequence, behind == 0);
}

static void on_map(void *arg, const struct kv_entry *entry)
{
    struct live *live = arg;
    board_on_map(live->ports.board, entry->operation == KV_PUT ? entry->value : NULL, entry->length);
}

static void on_assigned(void *arg, const struct kv_entry *entry)
{
    struct live *live = arg;
    const char *dot = strchr(entry->key, '.');
    if (dot)
        board_on_assigned(live->ports.board, dot + 1, entry->operation == KV_PUT ? entry->value : NULL,
                          entry->length);
}

static void on_chamber(void *arg, const struct kv_entry *entry)
{
    struct live *live = arg;
    const char *dot = strchr(entry->key, '.');
    if (dot == NULL || entry->operation != KV_PUT)
        return;
    json_t *document = json_loadb(entry->value, entry->length, 0, NULL);
    const json_t *weight = json_object_get(document, "weight");
    board_on_chamber(live->ports.board, entry->key, dot + 1, (size_t)(dot - entry->key),
                     json_is_integer(weight) ? json_integer_value(weight) : -1);
    json_decref(document);
}

static int watch(struct live *live, int which, const char *bucket, const char *pattern,
                 void (*entry)(void *arg, const struct kv_entry *entry), struct error *err)
{
    char name[NAMES_BYTES];
    struct kv_watch_events events = {.entry = entry, .arg = live};
    return kv_watch_start(live->ports.bus, names_stream(live->ports.cell, bucket, name), pattern, &events,
                          &live->watches[which], err);
}

static int hear(struct live *live, int which, const char *subject, bus_handler *handler, struct error *err)
{
    char full[NAMES_BYTES];
    return bus_subscribe(live->ports.bus, names_subject(live->ports.cell, subject, full), handler, live,
                         &live->subscriptions[which], err);
}

/* --- what is asked --- */

static void on_status(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    (void)error;
    struct live *live = arg;
    if (code == 0 && !live->closing)
        board_on_status(live->ports.board, message->data, message->length, clock_wall_us());
}

static void ask_members(struct live *live)
{
    char ids[ASK_MEMBERS_MAX][CLUSTER_NAME_BYTES];
    size_t count = board_list_alive(live->ports.board, ids, ASK_MEMBERS_MAX);
    for (size_t i = 0; i < count; i++) {
        char own[NAMES_BYTES], subject[NAMES_BYTES];
        snprintf(own, sizeof own, "cluster.ask.%s", ids[i]);
        bus_request(live->ports.bus, names_subject(live->ports.cell, own, subject), NULL, 0, "status",
                    strlen("status"), ASK_TIMEOUT_MS, on_status, live);
    }
}

static void on_waiting(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)error;
    struct live *live = arg;
    if (live->closing)
        return;
    const json_t *messages = json_object_get(json_object_get(response, "state"), "messages");
    board_on_waiting(live->ports.board, code ? -1 : json_integer_value(messages));
}

static void ask_waiting(struct live *live)
{
    char stream[NAMES_BYTES], call[NAMES_BYTES + 16];
    snprintf(call, sizeof call, "STREAM.INFO.%s",
             names_stream(live->ports.cell, STREAM_NOTIFICATIONS, stream));
    jetstream_call(live->ports.bus, call, NULL, ASK_TIMEOUT_MS, on_waiting, live);
}

static void run_counted(void *target, void *argument)
{
    struct live *live = target;
    struct store_reply *reply = argument;
    live->counting = false;
    if (reply->code != ERR_CLOSED)
        board_on_counts(live->ports.board, reply);
    store_reply_free(reply);
}

static void on_counted(void *arg, struct store_reply *reply)
{
    struct live *live = arg;
    mailbox_post(live->ports.mailbox, run_counted, live, reply);
}

static void look_further(struct live *live);

static void run_heads(void *target, void *argument)
{
    struct live *live = target;
    struct store_reply *reply = argument;
    live->looking = false;
    if (reply->code == 0)
        board_on_heads(live->ports.board, reply->ucharts, reply->uchart_count);
    else if (reply->code != ERR_CLOSED)
        LOG_WARN("the newest verdicts of some chambers could not be read; they show with the next run",
                 LOG_STR("error", reply->error.text));
    bool more = reply->code == 0;
    store_reply_free(reply);
    arena_reset(&live->looked_for);
    if (more && !live->closing)
        look_further(live);
}

static void on_heads(void *arg, struct store_reply *reply)
{
    struct live *live = arg;
    mailbox_post(live->ports.mailbox, run_heads, live, reply);
}

/* Chambers that the board has met and whose newest verdict it does not know are looked up in the store. */
static void look_further(struct live *live)
{
    if (live->looking)
        return;
    size_t count = board_take_unknown(live->ports.board, &live->looked_for, live->keys, HEADS_AT_ONCE);
    if (count == 0)
        return;
    live->looking = true;
    store_list_heads(live->ports.store, live->keys, count, on_heads, live);
}

/* --- time --- */

static void on_tell(uv_timer_t *timer)
{
    struct live *live = timer->data;
    board_tell_chambers(live->ports.board);
    look_further(live);
}

static void on_second(uv_timer_t *timer)
{
    struct live *live = timer->data;
    bool connected = bus_is_connected(live->ports.bus);
    live->seconds++;
    board_on_second(live->ports.board, clock_wall_us());
    if (live->seconds % COUNT_EVERY == 1 && !live->counting) {
        live->counting = true;
        store_count(live->ports.store, on_counted, live);
    }
    if (live->seconds % COUNT_EVERY == 1 && connected)
        ask_waiting(live);
    if (live->seconds % STATUS_EVERY == 2 && connected)
        ask_members(live);
    if (live->seconds % STATUS_EVERY == 3)
        board_tell_status(live->ports.board, clock_wall_us());
}

void live_on_connected(struct live *live)
{
    board_on_nats(live->ports.board, true, clock_wall_us());
}

void live_on_disconnected(struct live *live)
{
    board_on_nats(live->ports.board, false, clock_wall_us());
    board_on_waiting(live->ports.board, -1);
}

/* --- life --- */

static int begin(struct live *live, struct error *err)
{
    int code = watch(live, WATCH_MAP, "assignments", "map", on_map, err);
    if (code == 0)
        code = watch(live, WATCH_ASSIGNED, "assignments", "to.>", on_assigned, err);
    if (code == 0)
        code = watch(live, WATCH_CHAMBERS, "chambers", ">", on_chamber, err);
    if (code == 0)
        code = hear(live, 0, "cluster.heartbeat.*", on_heartbeat, err);
    if (code == 0)
        code = hear(live, 1, "cluster.judged.>", on_judged, err);
    if (code == 0)
        code = hear(live, 2, "cluster.events", on_decision, err);
    char stream[NAMES_BYTES];
    struct follow_events events = {.message = on_alarm, .arg = live};
    if (code == 0)
        code = follow_start(live->ports.bus, names_stream(live->ports.cell, STREAM_ALARMS, stream),
                            BOARD_ALARMS_MAX, &events, &live->alarms, err);
    return code;
}

int live_open(const struct live_ports *ports, struct live **out, struct error *err)
{
    struct live *live = calloc(1, sizeof *live);
    if (live == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to follow the cluster");
    live->ports = *ports;
    arena_init(&live->looked_for, 0);
    uv_timer_init(ports->loop, &live->tell);
    uv_timer_init(ports->loop, &live->second);
    live->tell.data = live->second.data = live;
    *out = live;
    int code = begin(live, err);
    if (code)
        return code;
    uv_timer_start(&live->tell, on_tell, TELL_MS, TELL_MS);
    uv_timer_start(&live->second, on_second, 0, SECOND_MS);
    return 0;
}

void live_close(struct live *live)
{
    live->closing = true;
    for (int i = 0; i < WATCH_COUNT; i++)
        if (live->watches[i])
            kv_watch_stop(live->watches[i]);
    if (live->alarms)
        follow_stop(live->alarms);
    for (size_t i = 0; i < sizeof live->subscriptions / sizeof *live->subscriptions; i++)
        if (live->subscriptions[i])
            bus_unsubscribe(live->subscriptions[i]);
    uv_close((uv_handle_t *)&live->tell, NULL);
    uv_close((uv_handle_t *)&live->second, NULL);
}

void live_free(struct live *live)
{
    arena_free(&live->looked_for);
    free(live);
}
