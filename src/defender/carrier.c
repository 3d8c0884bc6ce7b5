#include "defender/carrier_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/kv.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    BUCKET_RETRY_MS = 250,
    DRAIN_POLL_MS = 5,
    PAUSE_MS = 3000 /* a loop that stood still so long was stopped: what it holds may be another's by now */
};

static int64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

void *carrier_must_calloc(size_t size)
{
    void *memory;
    while ((memory = calloc(1, size)) == NULL)
        uv_sleep(1);
    return memory;
}

void carrier_free_if_done(struct carrier *carrier)
{
    if (!carrier->closing || carrier->open_errands > 0 || carrier->open_handles > 0)
        return;
    cluster_destroy(carrier->cluster);
    arena_free(&carrier->owned.arena);
    arena_free(&carrier->wanted.arena);
    free(carrier);
}

/* --- carrying out --- */

/* Into the log, and to whoever watches (`status --watch`). */
static void tell_decision(struct carrier *carrier, const char *what)
{
    struct cluster_status status;
    char subject[NAMES_BYTES], when[CLOCK_RFC3339_BYTES];
    cluster_read_status(carrier->cluster, &status);
    LOG_INFO(what, LOG_STR("id", status.id));
    struct strbuf json;
    strbuf_init(&json);
    strbuf_printf(&json, "{\"at\":\"%s\",\"id\":", clock_format_rfc3339(clock_wall_us() / 1000 * 1000, when));
    strbuf_add_json(&json, status.id);
    strbuf_add(&json, ",\"what\":");
    strbuf_add_json(&json, what);
    strbuf_add_char(&json, '}');
    bus_publish(carrier->ports.bus, names_subject(carrier->cell, "cluster.events", subject), json.text,
                json.length, NULL);
    strbuf_free(&json);
}

static void begin_drain(struct carrier *carrier)
{
    carrier->draining = true;
    carrier->pulling = false;
    carrier_apply_want(carrier);
    carrier->ports.worker.stop(carrier->ports.worker.arg);
}

static void carry_out(struct carrier *carrier, const struct cluster_action *action)
{
    switch (action->kind) {
    case ACTION_KV_CREATE:
    case ACTION_KV_UPDATE:
    case ACTION_KV_PUT:
    case ACTION_KV_DELETE:
        carrier_write_key(carrier, action);
        break;
    case ACTION_HEARTBEAT:
        carrier_publish_heartbeat(carrier, action->heartbeat);
        break;
    case ACTION_PROBE:
        carrier_probe_member(carrier, action);
        break;
    case ACTION_FENCE:
        carrier_fence_consumer(carrier, action);
        break;
    case ACTION_SET_FILTERS:
        carrier_hold_chambers(carrier, action);
        break;
    case ACTION_KEEP_CONSUMER:
        carrier_keep_consumer(carrier);
        break;
    case ACTION_LIST_SUBJECTS:
        carrier_list_subjects(carrier, action);
        break;
    case ACTION_WATCH:
        carrier_watch_key(carrier, action);
        break;
    case ACTION_LISTEN:
        carrier_hear_heartbeats(carrier, action->value != NULL);
        break;
    case ACTION_DRAIN:
        begin_drain(carrier);
        break;
    case ACTION_STATE:
        if (carrier->ports.changed)
            carrier->ports.changed(carrier->ports.arg);
        break;
    case ACTION_TRACE:
        tell_decision(carrier, action->trace);
        break;
    }
}

/* --- events in --- */

static void on_tick(uv_timer_t *timer);

static void schedule(struct carrier *carrier)
{
    int64_t due_ms = cluster_next_tick_ms(carrier->cluster) - now_ms();
    uv_update_time(carrier->ports.loop);
    uv_timer_start(&carrier->timer, on_tick, due_ms > 0 ? (uint64_t)due_ms : 0, 0);
}

static void tell_if_stopped(struct carrier *carrier)
{
    struct cluster_status status;
    cluster_read_status(carrier->cluster, &status);
    if (status.state != CLUSTER_STOPPED || carrier->stopped)
        return;
    carrier->stopped = true;
    uv_timer_stop(&carrier->timer);
    if (carrier->ports.stopped)
        carrier->ports.stopped(carrier->ports.arg);
}

void carrier_feed(struct carrier *carrier, const struct cluster_event *event)
{
    if (carrier->closing || carrier->stopped)
        return;
    struct cluster_actions actions;
    struct error err;
    cluster_actions_init(&actions);
    if (cluster_step(carrier->cluster, now_ms(), event, &actions, &err)) {
        /* It no longer knows where it stands. A crash is what the others know how to handle. */
        LOG_ERROR("the cluster's machine failed: ending this process", LOG_STR("error", err.text));
        abort();
    }
    for (size_t i = 0; i < actions.count; i++)
        carry_out(carrier, &actions.items[i]);
    cluster_actions_free(&actions);
    carrier_hold_again(carrier);
    schedule(carrier);
    tell_if_stopped(carrier);
}

static void on_tick(uv_timer_t *timer)
{
    carrier_feed(timer->data, &(struct cluster_event){.kind = EVENT_TICK});
}

/* A process that was stopped (SIGSTOP, a swapped-out machine) wakes with an old view: before anything of it
 * is written, it lets go of what it holds. The stream delivers it again, here or elsewhere. */
static void on_pulse(uv_timer_t *timer)
{
    struct carrier *carrier = timer->data;
    int64_t now = now_ms(), gap_ms = now - carrier->last_pulse_ms;
    carrier->last_pulse_ms = now;
    if (gap_ms < PAUSE_MS)
        return;
    LOG_WARN("stood still; letting go of what is held", LOG_INT("ms", gap_ms));
    carrier->ports.worker.abandon_all(carrier->ports.worker.arg);
}

/* --- connection --- */

static void make_next_bucket(struct carrier *carrier);

static void on_bucket_retry(uv_timer_t *timer)
{
    make_next_bucket(timer->data);
}

static void on_bucket_made(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    struct carrier *carrier = carrier_end_errand(arg);
    if (carrier == NULL || !bus_is_connected(carrier->ports.bus))
        return;
    if (code) {
        LOG_WARN("bucket not ready; trying again", LOG_STR("error", error->text));
        uv_timer_start(&carrier->retry, on_bucket_retry, BUCKET_RETRY_MS, 0);
        return;
    }
    carrier->buckets_made++;
    make_next_bucket(carrier);
}

static int64_t bucket_ttl_ms(const struct carrier *carrier, enum cluster_bucket bucket)
{
    switch (bucket) {
    case BUCKET_STABLE_IDS:
        return carrier->options.cluster.id_ttl_ms;
    case BUCKET_ELECTION:
        return carrier->options.cluster.lease_ttl_ms;
    default:
        return 0;
    }
}

static void make_next_bucket(struct carrier *carrier)
{
    if (carrier->buckets_made == BUCKET_COUNT) {
        if (!carrier->connected) {
            carrier->connected = true;
            carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_CONNECTED});
            carrier_resume_watches(carrier);
        }
        return;
    }
    enum cluster_bucket bucket = (enum cluster_bucket)carrier->buckets_made;
    struct kv_spec spec = {.bucket = carrier->buckets[bucket],
                           .ttl_ms = bucket_ttl_ms(carrier, bucket),
                           .replicas = carrier->options.replicas};
    kv_ensure(carrier->ports.bus, &spec, on_bucket_made, carrier_begin_errand(carrier, 0));
}

void carrier_on_connected(struct carrier *carrier)
{
    if (carrier->connected)
        return;
    uv_timer_stop(&carrier->retry);
    carrier->buckets_made = 0; /* the broker may have lost them with its disk */
    make_next_bucket(carrier);
}

void carrier_on_disconnected(struct carrier *carrier)
{
    if (carrier->consumer) {
        consumer_on_disconnected(carrier->consumer);
        carrier->interrupted = true;
    }
    if (!carrier->connected)
        return;
    carrier->connected = false;
    carrier_rest_watches(carrier);
    carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_DISCONNECTED});
}

/* --- the doors --- */

void carrier_on_capacity(struct carrier *carrier)
{
    carrier_apply_want(carrier);
    if (carrier->draining && !carrier->stopped && carrier->ports.worker.idle(carrier->ports.worker.arg)) {
        carrier->draining = false;
        carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_DRAINED});
    }
}

static void on_drain_check(uv_timer_t *timer)
{
    struct carrier *carrier = timer->data;
    carrier_on_capacity(carrier);
    if (!carrier->draining)
        uv_timer_stop(timer);
}

void carrier_stop(struct carrier *carrier)
{
    carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_STOP});
    if (carrier->draining) /* nothing may be in flight at all: then no capacity changes any more */
        uv_timer_start(&carrier->retry, on_drain_check, DRAIN_POLL_MS, DRAIN_POLL_MS);
}

void carrier_status(const struct carrier *carrier, struct cluster_status *status)
{
    cluster_read_status(carrier->cluster, status);
}

bool carrier_owns(const struct carrier *carrier, const char *chamber)
{
    return cluster_owns(carrier->cluster, chamber);
}

static void init_timer(struct carrier *carrier, uv_timer_t *timer)
{
    uv_timer_init(carrier->ports.loop, timer);
    timer->data = carrier;
    carrier->open_handles++;
}

int carrier_open(const struct carrier_options *options, const struct carrier_ports *ports,
                 struct carrier **out, struct error *err)
{
    struct carrier *carrier = calloc(1, sizeof *carrier);
    if (carrier == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the cluster");
    carrier->options = *options;
    carrier->ports = *ports;
    snprintf(carrier->cell, sizeof carrier->cell, "%s", options->cell);
    names_stream(carrier->cell, options->kind.stream, carrier->stream);
    for (int bucket = 0; bucket < BUCKET_COUNT; bucket++) {
        char name[NAMES_BYTES];
        snprintf(name, sizeof name, "%s%s", options->kind.bucket_prefix,
                 cluster_bucket_name((enum cluster_bucket)bucket));
        names_stream(carrier->cell, name, carrier->buckets[bucket]);
    }
    arena_init(&carrier->owned.arena, 0);
    arena_init(&carrier->wanted.arena, 0);
    int code = cluster_create(&options->cluster, &carrier->cluster, err);
    if (code) {
        free(carrier);
        return code;
    }
    init_timer(carrier, &carrier->timer);
    init_timer(carrier, &carrier->retry);
    init_timer(carrier, &carrier->pulse);
    carrier->last_pulse_ms = now_ms();
    uv_timer_start(&carrier->pulse, on_pulse, PAUSE_MS / 10, PAUSE_MS / 10);
    *out = carrier;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct carrier *carrier = handle->data;
    carrier->open_handles--;
    carrier_free_if_done(carrier);
}

void carrier_close(struct carrier *carrier)
{
    carrier->closing = true;
    carrier_hear_heartbeats(carrier, false);
    carrier_end_watches(carrier);
    if (carrier->consumer)
        consumer_free(carrier->consumer);
    uv_close((uv_handle_t *)&carrier->timer, on_handle_closed);
    uv_close((uv_handle_t *)&carrier->retry, on_handle_closed);
    uv_close((uv_handle_t *)&carrier->pulse, on_handle_closed);
}
