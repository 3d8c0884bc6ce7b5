#include "notify/lane.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/kv.h"
#include "bus/names.h"
#include "notify/acknowledge.h"
#include "notify/feed.h"
#include "notify/grouper.h"
#include "notify/sink.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

enum { TIMER_MOST_MS = 1000 };

enum lane_state { LANE_STOPPED, LANE_LOADING, LANE_WORKING };

enum journal_state {
    JOURNAL_IDLE,
    JOURNAL_WRITING,
    JOURNAL_DOUBT, /* a write has failed: what stands there is to be read */
    JOURNAL_READING
};

/* How the server is told of a delivery. */
struct delivery {
    uint64_t handle; /* stream sequence */
    char *reply;
    UT_hash_handle hh;
};

struct lane {
    struct lane_options options;
    struct lane_events events;
    const struct sink_config *config;
    char bucket[NAMES_BYTES];
    enum lane_state state;
    uint64_t epoch; /* of this start: answers to an earlier one do not count */
    struct feed *feed;
    struct grouper *grouper; /* while working */
    struct sink *sink;
    struct delivery *deliveries;

    enum journal_state journal;
    bool dirty; /* the state has changed since the write under way began */
    uint64_t revision;
    struct strbuf written; /* what was written last */
    int64_t retry_ns;      /* when doubt is looked into */

    bool has_pending; /* a message to go out once the journal has it */
    struct grouper_action pending;
    char reason[SINK_REASON_BYTES]; /* why it was refused */

    struct notify_sink_metrics metrics;
    struct grouper_status before; /* counts of earlier groupers */
    bool failing;                 /* the sink; told once */
    uv_timer_t timer, extend;
    int open_calls, open_handles;
    bool closing;
};

struct lane_call {
    struct lane *lane;
    uint64_t epoch;
    uint64_t id;
};

static int64_t now_ms(void)
{
    return clock_wall_us() / 1000;
}

static void free_if_done(struct lane *lane)
{
    if (!lane->closing || lane->open_calls > 0 || lane->open_handles > 0)
        return;
    strbuf_free(&lane->written);
    free(lane);
}

static struct lane_call *begin_call(struct lane *lane, uint64_t id)
{
    struct lane_call *call;
    while ((call = malloc(sizeof *call)) == NULL)
        uv_sleep(1);
    *call = (struct lane_call){lane, lane->epoch, id};
    lane->open_calls++;
    return call;
}

/* The lane, if the answer still counts. */
static struct lane *end_call(struct lane_call *call)
{
    struct lane *lane = call->lane;
    bool counts = !lane->closing && call->epoch == lane->epoch;
    free(call);
    lane->open_calls--;
    free_if_done(lane);
    return counts ? lane : NULL;
}

/* --- deliveries --- */

static void note_delivery(struct lane *lane, uint64_t handle, const char *reply)
{
    struct delivery *delivery;
    HASH_FIND(hh, lane->deliveries, &handle, sizeof handle, delivery);
    char *copy;
    while ((copy = strdup(reply)) == NULL)
        uv_sleep(1);
    if (delivery) { /* delivered again: the newest answer counts */
        free(delivery->reply);
        delivery->reply = copy;
        return;
    }
    while ((delivery = malloc(sizeof *delivery)) == NULL)
        uv_sleep(1);
    delivery->handle = handle;
    delivery->reply = copy;
    HASH_ADD(hh, lane->deliveries, handle, sizeof delivery->handle, delivery);
}

static void forget_delivery(struct lane *lane, struct delivery *delivery)
{
    HASH_DEL(lane->deliveries, delivery);
    free(delivery->reply);
    free(delivery);
}

static void step(struct lane *lane, const struct grouper_event *event);

/* Without a confirmation it is delivered again, known, and acknowledged again. */
static void on_confirmed(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    (void)error;
    (void)message;
    struct lane_call *call = arg;
    uint64_t id = call->id;
    struct lane *lane = end_call(call);
    if (lane && lane->state == LANE_WORKING && code == 0)
        step(lane, &(struct grouper_event){.kind = GROUPER_CONFIRMED, .id = id});
}

static void acknowledge(struct lane *lane, uint64_t handle, uint64_t id)
{
    struct delivery *delivery;
    HASH_FIND(hh, lane->deliveries, &handle, sizeof handle, delivery);
    if (delivery == NULL)
        return;
    bus_request(lane->options.bus, delivery->reply, NULL, 0, "+ACK", 4, 0, on_confirmed,
                begin_call(lane, id));
    forget_delivery(lane, delivery);
}

static void on_extend(uv_timer_t *timer)
{
    struct lane *lane = timer->data;
    for (const struct delivery *delivery = lane->deliveries; delivery; delivery = delivery->hh.next)
        consumer_extend(lane->options.bus, delivery->reply);
}

/* --- the machine --- */

static void save(struct lane *lane);
static void look_into_doubt(struct lane *lane);
static void begin_pending(struct lane *lane);
static void on_timer(uv_timer_t *timer);

static void rearm(struct lane *lane)
{
    int64_t wait_ms = grouper_next_ms(lane->grouper);
    wait_ms = wait_ms == INT64_MAX ? TIMER_MOST_MS : wait_ms - now_ms();
    bool soon = lane->has_pending || lane->journal == JOURNAL_DOUBT;
    int64_t most_ms = soon ? LANE_RETRY_MS / 2 : TIMER_MOST_MS;
    wait_ms = wait_ms > most_ms ? most_ms : wait_ms < 1 ? 1 : wait_ms;
    uv_timer_stop(&lane->timer);
    uv_timer_start(&lane->timer, on_timer, (uint64_t)wait_ms, 0);
}

static void on_acknowledged(void *arg, int code, const struct error *error,
                            const struct acknowledgement *seen)
{
    (void)error;
    (void)seen;
    struct lane_call *call = arg;
    uint64_t id = call->id;
    struct lane *lane = end_call(call);
    if (lane && lane->state == LANE_WORKING)
        step(lane, &(struct grouper_event){.kind = GROUPER_CHECKED, .id = id, .code = code});
}

static void check(struct lane *lane, uint64_t id)
{
    char text[ACKNOWLEDGE_ID_BYTES];
    snprintf(text, sizeof text, "%016" PRIx64, id);
    acknowledge_get(lane->options.bus, lane->options.cell, text, on_acknowledged, begin_call(lane, id));
}

static void on_released(struct lane *lane, const struct grouper_action *action)
{
    struct notify_sink_metrics *metrics = &lane->metrics;
    metrics->told += action->why == GROUPER_WAS_TOLD;
    metrics->buried += action->why == GROUPER_WAS_BURIED;
    metrics->settled += action->why == GROUPER_WAS_SETTLED;
    metrics->repeated += action->why == GROUPER_WAS_REPEATED;
    acknowledge(lane, action->handle, action->id);
}

/* True when the journal must have it before anything else is done. */
static bool carry_out(struct lane *lane, const struct grouper_action *action)
{
    switch (action->kind) {
    case GROUPER_RELEASE:
        on_released(lane, action);
        return false;
    case GROUPER_CHECK:
        check(lane, action->id);
        return false;
    default:
        lane->has_pending = true;
        lane->pending = *action;
        return action->attempt == 1;
    }
}

static void step(struct lane *lane, const struct grouper_event *event)
{
    struct grouper_actions actions = {0};
    struct error err;
    int code = grouper_step(lane->grouper, now_ms(), event, &actions, &err);
    bool must_save = event->kind == GROUPER_ACCEPTED || event->kind == GROUPER_BURIED;
    for (size_t i = 0; i < actions.count; i++)
        must_save |= carry_out(lane, &actions.items[i]);
    free(actions.items);
    if (code) {
        lane->events.failed(lane->events.arg, &err);
        return;
    }
    if (must_save)
        save(lane);
    begin_pending(lane);
    rearm(lane);
    feed_want(lane->feed, grouper_room(lane->grouper));
}

static void on_timer(uv_timer_t *timer)
{
    struct lane *lane = timer->data;
    if (lane->state != LANE_WORKING)
        return;
    look_into_doubt(lane);
    step(lane, &(struct grouper_event){.kind = GROUPER_TICK});
}

static void on_message(void *arg, const struct consumer_message *message)
{
    struct lane *lane = arg;
    struct notice *notice;
    struct error err;
    if (lane->state != LANE_WORKING)
        return;
    lane->metrics.received++;
    int code =
        notice_parse(message->bus->data, message->bus->length, message->stored_us / 1000, &notice, &err);
    if (code == ERR_NO_MEMORY)
        return; /* it comes again */
    if (code) {
        lane->metrics.unreadable++;
        LOG_WARN("a message of the alarms stream is passed over", LOG_STR("sink", lane->config->name),
                 LOG_INT("sequence", message->stream_sequence), LOG_STR("error", err.text));
        consumer_ack(lane->options.bus, message->ack_reply);
        return;
    }
    int64_t after_ms;
    if (!notify_config_route(lane->options.config, lane->options.sink, notice, &after_ms)) {
        lane->metrics.unrouted++;
        consumer_ack(lane->options.bus, message->ack_reply);
        free(notice);
        return;
    }
    note_delivery(lane, message->stream_sequence, message->ack_reply);
    step(lane, &(struct grouper_event){.kind = GROUPER_ALARM,
                                       .notice = notice,
                                       .handle = message->stream_sequence,
                                       .after_ms = after_ms});
}

/* --- sending --- */

static void on_sent(void *arg, const struct sink_result *result)
{
    struct lane *lane = arg;
    struct notify_sink_metrics *metrics = &lane->metrics;
    histogram_record(&metrics->send, result->duration_ns);
    if (result->outcome == SINK_ACCEPTED) {
        metrics->messages++;
        metrics->accepted_us = clock_wall_us();
        if (lane->failing)
            LOG_INFO("the sink takes messages again", LOG_STR("sink", lane->config->name));
        lane->failing = false;
        step(lane, &(struct grouper_event){.kind = GROUPER_ACCEPTED});
    } else if (result->outcome == SINK_REFUSED) {
        snprintf(lane->reason, sizeof lane->reason, "%s", result->reason);
        LOG_ERROR("the sink refuses a message; it becomes a dead letter", LOG_STR("sink", lane->config->name),
                  LOG_STR("reason", result->reason));
        step(lane, &(struct grouper_event){.kind = GROUPER_REFUSED});
    } else {
        metrics->failures++;
        LOG_AT(lane->failing ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, "the sink cannot be told; it is tried again",
               LOG_STR("sink", lane->config->name), LOG_STR("reason", result->reason));
        lane->failing = true;
        step(lane, &(struct grouper_event){.kind = GROUPER_FAILED, .retry_after_ms = result->retry_after_ms});
    }
}

static void on_buried(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)response;
    struct lane *lane = end_call(arg);
    if (lane == NULL || lane->state != LANE_WORKING)
        return;
    if (code)
        LOG_WARN("a dead letter cannot be written; it is tried again", LOG_STR("sink", lane->config->name),
                 LOG_STR("error", error->text));
    step(lane, &(struct grouper_event){.kind = code ? GROUPER_FAILED : GROUPER_BURIED});
}

/* dead.{tool}.{chamber} of the first alarm. */
static void dead_subject(const struct lane *lane, const json_t *message, char subject[static NAMES_BYTES])
{
    const json_t *alarm = json_object_get(json_array_get(json_object_get(message, "alarms"), 0), "alarm");
    const char *tool = json_string_value(json_object_get(alarm, "tool_id"));
    const char *chamber = json_string_value(json_object_get(alarm, "chamber_id"));
    if (names_for_chamber(lane->options.cell, "dead", tool ? tool : "unknown", chamber ? chamber : "unknown",
                          subject, NULL))
        names_for_chamber(lane->options.cell, "dead", "unknown", "unknown", subject, NULL);
}

static void bury(struct lane *lane, const struct grouper_action *action)
{
    char subject[NAMES_BYTES], when[CLOCK_RFC3339_BYTES], id[64];
    const char *reason = *lane->reason ? lane->reason : "refused before a restart";
    struct strbuf body;
    json_t *message = json_loads(action->message, 0, NULL);
    dead_subject(lane, message, subject);
    json_decref(message);
    do {
        strbuf_init(&body);
        strbuf_add(&body, "{\"reason\":");
        strbuf_add_json(&body, reason);
        strbuf_printf(&body, ",\"class\":\"refused\",\"sink\":\"%s\",\"at\":\"%s\",\"message\":%s}",
                      lane->config->name, clock_format_rfc3339(clock_wall_us(), when), action->message);
    } while (body.failed && (strbuf_free(&body), uv_sleep(1), true));
    snprintf(id, sizeof id, "%s-%s", lane->config->name, action->key);
    const struct bus_header headers[] = {
        {"Nats-Msg-Id", id}, {"Chamberlain-Class", "refused"}, {"Chamberlain-Reason", reason}};
    jetstream_publish(lane->options.bus, subject, headers, 3, body.text, body.length, on_buried,
                      begin_call(lane, 0));
    strbuf_free(&body);
}

/* What waits for the journal goes out once the journal has it, and the sink is free of what was abandoned. */
static void begin_pending(struct lane *lane)
{
    if (!lane->has_pending || lane->journal != JOURNAL_IDLE || sink_is_busy(lane->sink))
        return;
    lane->has_pending = false;
    if (lane->pending.kind == GROUPER_BURY)
        bury(lane, &lane->pending);
    else
        sink_send(lane->sink, lane->pending.message, lane->pending.key, on_sent, lane);
}

/* --- the journal --- */

static void on_saved(void *arg, int code, const struct error *error, uint64_t revision)
{
    struct lane *lane = end_call(arg);
    if (lane == NULL || lane->state != LANE_WORKING)
        return;
    if (code) {
        LOG_DEBUG("the notifier's journal was not written; looking into it", LOG_STR("error", error->text));
        lane->journal = JOURNAL_DOUBT;
        lane->retry_ns = code == ERR_CONFLICT ? 0 : clock_mono_ns() + LANE_RETRY_MS * INT64_C(1000000);
        look_into_doubt(lane);
        rearm(lane);
        return;
    }
    lane->revision = revision;
    lane->journal = JOURNAL_IDLE;
    if (lane->dirty)
        save(lane);
    begin_pending(lane);
}

static void save(struct lane *lane)
{
    if (lane->journal != JOURNAL_IDLE) {
        lane->dirty = true;
        return;
    }
    lane->dirty = false;
    do {
        strbuf_clear(&lane->written);
        lane->written.failed = false;
        grouper_save(lane->grouper, &lane->written);
    } while (lane->written.failed && (uv_sleep(1), true));
    lane->journal = JOURNAL_WRITING;
    if (lane->revision == 0)
        kv_create(lane->options.bus, lane->bucket, lane->config->name, lane->written.text,
                  lane->written.length, on_saved, begin_call(lane, 0));
    else
        kv_update(lane->options.bus, lane->bucket, lane->config->name, lane->written.text,
                  lane->written.length, lane->revision, on_saved, begin_call(lane, 0));
}

/* A write without a good answer: it was done after all, or not, or another notifier was first. */
static void on_reread(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    (void)error;
    struct lane *lane = end_call(arg);
    if (lane == NULL || lane->state != LANE_WORKING)
        return;
    uint64_t revision = code == 0 ? entry->revision : 0;
    bool ours = code == 0 && entry->length == lane->written.length &&
                memcmp(entry->value, lane->written.text, entry->length) == 0;
    if (code && code != ERR_NOT_FOUND) {
        lane->journal = JOURNAL_DOUBT;
        lane->retry_ns = clock_mono_ns() + LANE_RETRY_MS * INT64_C(1000000);
        rearm(lane);
    } else if (ours || revision == lane->revision || code == ERR_NOT_FOUND) {
        lane->journal = JOURNAL_IDLE; /* gone: the server was emptied, and there is nothing to contradict */
        lane->revision = revision;
        if (!ours || lane->dirty)
            save(lane);
        begin_pending(lane);
    } else {
        lane->events.superseded(lane->events.arg, lane->config->name);
    }
}

static void look_into_doubt(struct lane *lane)
{
    if (lane->journal != JOURNAL_DOUBT || clock_mono_ns() < lane->retry_ns)
        return;
    lane->journal = JOURNAL_READING;
    kv_get(lane->options.bus, lane->bucket, lane->config->name, on_reread, begin_call(lane, 0));
}

/* --- starting and stopping --- */

static int make_grouper(struct lane *lane, struct error *err)
{
    const struct sink_config *config = lane->config;
    const struct grouper_policy policy = {.sink = config->name,
                                          .group_by = config->group_by,
                                          .group_wait_ms = config->group_wait_ms,
                                          .cool_down_ms = config->cool_down_ms,
                                          .group_max = (size_t)config->group_max,
                                          .held_max = LANE_HELD_MAX,
                                          .retry_first_ms = config->retry_first_ms,
                                          .retry_most_ms = config->retry_most_ms,
                                          .seed = lane->options.seed};
    return grouper_create(&policy, &lane->grouper, err);
}

static void on_load_retry(uv_timer_t *timer);

static void on_loaded(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    struct lane *lane = end_call(arg);
    struct error err = *error;
    if (lane == NULL || lane->state != LANE_LOADING)
        return;
    if (code && code != ERR_NOT_FOUND) {
        uv_timer_start(&lane->timer, on_load_retry, LANE_RETRY_MS, 0);
        return;
    }
    lane->revision = code == 0 ? entry->revision : 0;
    int made = make_grouper(lane, &err);
    if (made == 0 && code == 0) {
        made = grouper_restore(lane->grouper, entry->value, entry->length, &err);
        if (made == ERR_CORRUPT) {
            LOG_ERROR("the journal is not readable and is begun anew", LOG_STR("sink", lane->config->name),
                      LOG_STR("error", err.text));
            made = 0;
        }
    }
    if (made) {
        lane->events.failed(lane->events.arg, &err);
        return;
    }
    lane->state = LANE_WORKING;
    feed_start(lane->feed);
    step(lane, &(struct grouper_event){.kind = GROUPER_TICK});
}

static void load(struct lane *lane)
{
    if (lane->state == LANE_LOADING)
        kv_get(lane->options.bus, lane->bucket, lane->config->name, on_loaded, begin_call(lane, 0));
}

static void on_load_retry(uv_timer_t *timer)
{
    load(timer->data);
}

void lane_start(struct lane *lane)
{
    if (lane->state != LANE_STOPPED)
        return;
    lane->epoch++;
    lane->state = LANE_LOADING;
    lane->journal = JOURNAL_IDLE;
    lane->dirty = lane->has_pending = false;
    lane->reason[0] = '\0';
    load(lane);
}

void lane_stop(struct lane *lane)
{
    lane->epoch++;
    lane->state = LANE_STOPPED;
    uv_timer_stop(&lane->timer);
    feed_stop(lane->feed);
    sink_abandon(lane->sink);
    while (lane->deliveries)
        forget_delivery(lane, lane->deliveries);
    if (lane->grouper) {
        struct grouper_status status;
        grouper_read_status(lane->grouper, &status);
        lane->before.counted += status.counted;
        lane->before.early += status.early;
        grouper_destroy(lane->grouper);
    }
    lane->grouper = NULL;
}

void lane_read_metrics(const struct lane *lane, struct notify_sink_metrics *metrics)
{
    struct grouper_status status = {0};
    if (lane->grouper)
        grouper_read_status(lane->grouper, &status);
    *metrics = lane->metrics;
    metrics->counted = lane->before.counted + status.counted;
    metrics->early = lane->before.early + status.early;
    metrics->held = status.held;
    metrics->cooling = status.cooling;
    metrics->escalating = status.escalating;
    metrics->attempt = status.sending ? status.attempt : 0;
}

static int open_feed(struct lane *lane, struct error *err)
{
    char stream[NAMES_BYTES], durable[NOTIFY_NAME_MAX_BYTES + 16];
    snprintf(durable, sizeof durable, "notify-%s", lane->config->name);
    const struct feed_options options = {.stream = names_stream(lane->options.cell, STREAM_ALARMS, stream),
                                         .durable = durable,
                                         .ack_wait_ms = lane->options.ack_wait_ms,
                                         .max_ack_pending = LANE_HELD_MAX,
                                         .since_us = clock_wall_us() - lane->config->since_ms * 1000,
                                         .replicas = lane->options.replicas};
    const struct feed_events events = {on_message, lane};
    return feed_open(lane->options.bus, &options, &events, &lane->feed, err);
}

int lane_open(const struct lane_options *options, const struct lane_events *events, struct lane **out,
              struct error *err)
{
    struct lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a sink");
    lane->options = *options;
    lane->events = *events;
    lane->config = &options->config->sinks[options->sink];
    lane->metrics.sink = lane->config->name;
    lane->metrics.kind = lane->config->kind;
    names_stream(options->cell, LANE_BUCKET, lane->bucket);
    strbuf_init(&lane->written);
    int code = sink_open(lane->config, options->mailbox, &lane->sink, err);
    if (code == 0 && (code = open_feed(lane, err)) != 0)
        sink_close(lane->sink);
    if (code) {
        free(lane);
        return code;
    }
    uv_loop_t *loop = bus_loop(options->bus);
    uv_timer_init(loop, &lane->timer);
    uv_timer_init(loop, &lane->extend);
    lane->timer.data = lane->extend.data = lane;
    lane->open_handles = 2;
    uint64_t every_ms = (uint64_t)options->ack_wait_ms / 3;
    uv_timer_start(&lane->extend, on_extend, every_ms, every_ms);
    *out = lane;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct lane *lane = handle->data;
    lane->open_handles--;
    free_if_done(lane);
}

void lane_close(struct lane *lane)
{
    lane_stop(lane);
    sink_close(lane->sink);
    feed_close(lane->feed);
    lane->closing = true;
    uv_close((uv_handle_t *)&lane->timer, on_handle_closed);
    uv_close((uv_handle_t *)&lane->extend, on_handle_closed);
}
