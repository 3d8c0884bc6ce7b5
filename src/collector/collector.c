#include "collector/collector.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/prometheus.h"
#include "bus/names.h"
#include "collector/hands.h"
#include "defender/carrier.h"
#include "defender/provision.h"
#include "defender/seat.h"
#include "http/role.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    STORE_RETRY_MS = 1000,
    DUPLICATE_WINDOW_S = 120,
    DEAD_MAX_AGE_S = 30 * 86400,
    DEAD_MAX_BYTES = 256 * 1000 * 1000,
    STREAM_COUNT = 3
};

struct collector {
    const struct collector_options *options;
    const char *cell;
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct store *store;
    struct hands *hands;
    struct provision *provision;
    struct provision_stream streams[STREAM_COUNT];
    struct carrier *carrier;
    struct http_role *http; /* NULL: no port was given */
    struct collect_counts counts;
    struct histogram acquire, renew, filters;
    int64_t heartbeat_errors;
    struct seat seat;
    struct cluster_status cluster; /* as of the last change */
    char id[CLUSTER_NAME_BYTES];   /* whose questions are answered; "" for none */
    struct bus_subscription *questions;
    int64_t started_us;
    bool working; /* the streams were there once: a conflict after that is not fatal */
    bool placed;
    bool stopping, finished;
    uv_signal_t term, interrupt;
    uv_timer_t tick, drain_timer;
    int exit_code;
    struct error exit_error;
};

/* --- ending --- */

static void stop_loop(struct collector *collector, int code, const struct error *error)
{
    if (collector->finished)
        return;
    collector->finished = true;
    collector->exit_code = code;
    if (error)
        collector->exit_error = *error;
    uv_stop(&collector->loop);
}

static void on_cluster_stopped(void *arg)
{
    stop_loop(arg, 0, NULL);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    struct collector *collector = timer->data;
    struct error err;
    error_set(&err, ERR_TIMEOUT,
              "%zu contexts were still open after %d s; what is not stored will be delivered again",
              assembly_contexts(hands_assembly(collector->hands)), COLLECTOR_DRAIN_MS / 1000);
    stop_loop(collector, ERR_TIMEOUT, &err);
}

static void tell_health(struct collector *collector)
{
    enum cluster_state state = collector->cluster.state;
    collector->placed |= state == CLUSTER_STANDBY || state == CLUSTER_FOLLOWER || state == CLUSTER_LEADER;
    if (collector->http == NULL)
        return;
    bool stopping = collector->stopping || state == CLUSTER_SHUTDOWN || state == CLUSTER_STOPPED;
    http_role_set_health(collector->http,
                         stopping            ? HTTP_STOPPING
                         : collector->placed ? HTTP_READY
                                             : HTTP_STARTING,
                         cluster_state_name(state));
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct collector *collector = handle->data;
    if (collector->stopping)
        return;
    collector->stopping = true;
    tell_health(collector);
    LOG_INFO("stopping: storing what is held", LOG_INT("signal", number),
             LOG_INT("open", assembly_contexts(hands_assembly(collector->hands))));
    uv_timer_start(&collector->drain_timer, on_drain_timeout, COLLECTOR_DRAIN_MS, 0);
    carrier_stop(collector->carrier);
}

/* --- streams and cluster --- */

static void on_capacity_changed(void *arg)
{
    struct collector *collector = arg;
    if (collector->carrier)
        carrier_on_capacity(collector->carrier);
}

static void on_notes_ready(void *arg)
{
    struct collector *collector = arg;
    carrier_on_connected(collector->carrier);
}

static void on_streams_ready(void *arg)
{
    struct collector *collector = arg;
    collector->working = true;
    hands_on_connected(collector->hands, on_notes_ready, collector);
}

static void on_streams_refused(void *arg, int code, const struct error *error)
{
    struct collector *collector = arg;
    if (!collector->working)
        stop_loop(collector, code, error);
    else
        LOG_ERROR("a stream has other settings now", LOG_STR("error", error->text));
}

static void on_stream_replaced(void *arg)
{
    struct collector *collector = arg;
    hands_abandon_all(collector->hands);
}

static void on_connected(void *arg)
{
    struct collector *collector = arg;
    LOG_INFO("connected to NATS", LOG_STR("url", collector->options->nats_url));
    provision_begin(collector->provision);
}

static void on_disconnected(void *arg)
{
    struct collector *collector = arg;
    LOG_WARN("NATS is away; keeping what is here, and trying again");
    provision_on_disconnected(collector->provision);
    carrier_on_disconnected(collector->carrier);
}

/* Silence counts only while messages could come. */
static void on_tick(uv_timer_t *timer)
{
    struct collector *collector = timer->data;
    bool blind = !bus_is_connected(collector->bus) || collector->cluster.chambers == 0 ||
                 hands_capacity(collector->hands) == 0;
    hands_tick(collector->hands, blind);
}

/* --- questions --- */

static void add_text_member(struct strbuf *json, const char *key, const char *value)
{
    strbuf_printf(json, ",\"%s\":", key);
    strbuf_add_json(json, value);
}

static void format_status(struct collector *collector, struct strbuf *json)
{
    char when[CLOCK_RFC3339_BYTES];
    const struct cluster_status *cluster = &collector->cluster;
    carrier_status(collector->carrier, &collector->cluster);
    strbuf_add(json, "{\"id\":");
    strbuf_add_json(json, cluster->id);
    add_text_member(json, "role", "collect");
    add_text_member(json, "version", collector->options->version);
    add_text_member(json, "group", collector->options->group);
    strbuf_printf(json, ",\"pid\":%ld,\"started_at\":\"%s\"", (long)getpid(),
                  clock_format_rfc3339(collector->started_us, when));
    add_text_member(json, "state", cluster_state_name(cluster->state));
    add_text_member(json, "lifecycle", cluster_lifecycle_name(cluster->lifecycle));
    add_text_member(json, "leader", cluster->leader);
    strbuf_printf(json,
                  ",\"leads\":%s,\"map_version\":%llu,\"assignment\":%llu,\"chambers\":%zu,"
                  "\"members_alive\":%zu,",
                  cluster->leads ? "true" : "false", (unsigned long long)cluster->map_version,
                  (unsigned long long)cluster->assignment, cluster->chambers, cluster->members_alive);
    hands_format(collector->hands, json);
    strbuf_add(json, ",\"counts\":{");
    collect_counts_format(&collector->counts, json);
    strbuf_add(json, "}}");
}

/* A probe only wants to know that somebody is there. */
static void on_question(void *arg, const struct bus_message *message)
{
    struct collector *collector = arg;
    struct strbuf json;
    if (*message->reply == '\0')
        return;
    if (message->length == strlen("probe") && memcmp(message->data, "probe", message->length) == 0) {
        bus_publish(collector->bus, message->reply, "{}", 2, NULL);
        return;
    }
    strbuf_init(&json);
    format_status(collector, &json);
    bus_publish(collector->bus, message->reply, json.text, json.length, NULL);
    strbuf_free(&json);
}

static int listen_as(struct collector *collector, const char *id, struct bus_subscription **subscription,
                     struct error *err)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    snprintf(own, sizeof own, "cluster.ask.%s", id);
    return bus_subscribe(collector->bus, names_subject(collector->cell, own, subject), on_question, collector,
                         subscription, err);
}

static void answer_as(struct collector *collector, const char *id)
{
    struct error err;
    if (collector->questions)
        bus_unsubscribe(collector->questions);
    collector->questions = NULL;
    snprintf(collector->id, sizeof collector->id, "%s", id);
    if (*id && listen_as(collector, id, &collector->questions, &err))
        LOG_WARN("questions cannot be answered", LOG_STR("error", err.text));
}

static void on_cluster_changed(void *arg)
{
    struct collector *collector = arg;
    enum cluster_state before = collector->cluster.state;
    carrier_status(collector->carrier, &collector->cluster);
    tell_health(collector);
    if (before != collector->cluster.state)
        LOG_INFO("state", LOG_STR("from", cluster_state_name(before)),
                 LOG_STR("to", cluster_state_name(collector->cluster.state)),
                 LOG_STR("id", collector->cluster.id));
    if (strcmp(collector->id, collector->cluster.id) != 0)
        answer_as(collector, collector->cluster.id);
}

/* --- metrics --- */

static void add_gauge(struct strbuf *out, const char *name, const char *help, double value)
{
    prometheus_single(out, name, PROMETHEUS_GAUGE, help, value);
}

static void write_metrics(void *arg, struct strbuf *out)
{
    struct collector *collector = arg;
    const struct assembly *assembly = hands_assembly(collector->hands);
    carrier_status(collector->carrier, &collector->cluster);
    struct prometheus_label labels[] = {{"version", collector->options->version},
                                        {"group", collector->options->group},
                                        {"role", "collect"},
                                        {"store", store_name(collector->store)}};
    prometheus_begin(out, "chamberlain_build_info", PROMETHEUS_GAUGE,
                     "Always 1; the labels say which version and group this is.");
    prometheus_add(out, "chamberlain_build_info", labels, sizeof labels / sizeof *labels, 1);
    add_gauge(out, "collector_is_leader", "1 while this collector may act as leader.",
              collector->cluster.leads);
    add_gauge(out, "collector_assigned_chambers", "Chambers owned here.",
              (double)collector->cluster.chambers);
    add_gauge(out, "collector_nats_connected", "1 while connected to NATS.",
              bus_is_connected(collector->bus));
    add_gauge(out, "collector_open_contexts", "Contexts that are not complete.",
              (double)assembly_contexts(assembly));
    add_gauge(out, "collector_held_messages", "Messages that are not acknowledged yet.",
              (double)assembly_messages(assembly));
    add_gauge(out, "collector_held_bytes", "Memory for samples that are not stored yet.",
              (double)assembly_bytes(assembly));
#define COLLECT_METRIC(name, help)                                                                           \
    prometheus_single(out, "collector_" #name "_total", PROMETHEUS_COUNTER, help,                            \
                      (double)collector->counts.name);
    COLLECT_COUNTS(COLLECT_METRIC)
#undef COLLECT_METRIC
    prometheus_add_process(out, collector->started_us);
}

static int open_http(struct collector *collector, struct error *err)
{
    const struct collector_options *options = collector->options;
    if (options->http_port == 0)
        return 0;
    struct http_role_options http_options = {.bind = options->http_bind,
                                             .port = options->http_port,
                                             .write_metrics = write_metrics,
                                             .arg = collector};
    int code = http_role_open(&http_options, &collector->loop, collector->mailbox, &collector->http, err);
    if (code == 0)
        tell_health(collector);
    return code;
}

/* --- life --- */

static int open_store_patiently(struct collector *collector, struct error *err)
{
    for (;;) {
        int code = store_open(collector->options->store_url, NULL, &collector->store, err);
        if (!error_is_transient(code) || code == ERR_IO)
            return code;
        LOG_WARN("the store is away; trying again", LOG_STR("error", err->text));
        uv_sleep(STORE_RETRY_MS);
    }
}

static int open_bus(struct collector *collector, struct error *err)
{
    const struct collector_options *options = collector->options;
    char name[64];
    snprintf(name, sizeof name, "chamberlain-collect-%ld", (long)getpid());
    struct bus_options bus_options = {.url = options->nats_url,
                                      .name = name,
                                      .credentials_file = options->credentials_file,
                                      .ca_file = options->ca_file,
                                      .certificate_file = options->certificate_file,
                                      .key_file = options->key_file};
    struct bus_events events = {.connected = on_connected, .disconnected = on_disconnected, .arg = collector};
    return bus_open(&bus_options, &collector->loop, collector->mailbox, &events, &collector->bus, err);
}

static int open_hands(struct collector *collector, struct error *err)
{
    const struct collector_options *options = collector->options;
    struct hands_options hands_options = {.cell = collector->cell,
                                          .ack_wait_ms = options->ack_wait_ms,
                                          .replicas = options->replicas,
                                          .assembly = {.flush_us = options->flush_us,
                                                       .gap_us = options->gap_us,
                                                       .silent_us = options->silent_us,
                                                       .context_max_us = options->context_max_us,
                                                       .buffer_bytes = (size_t)options->buffer_bytes}};
    struct hands_ports ports = {.loop = &collector->loop,
                                .mailbox = collector->mailbox,
                                .bus = collector->bus,
                                .store = collector->store,
                                .counts = &collector->counts,
                                .capacity_changed = on_capacity_changed,
                                .arg = collector};
    return hands_open(&hands_options, &ports, &collector->hands, err);
}

static int open_streams(struct collector *collector, struct error *err)
{
    const struct collector_options *options = collector->options;
    collector->streams[0] = (struct provision_stream){.name = STREAM_SAMPLES,
                                                      .subject = "eqp.>",
                                                      .retention = "workqueue",
                                                      .max_age_s = options->stream_age_us / 1000000,
                                                      .max_bytes = options->stream_bytes,
                                                      .duplicate_window_s = DUPLICATE_WINDOW_S};
    collector->streams[1] = (struct provision_stream){.name = STREAM_SAMPLES_DEAD,
                                                      .subject = STREAM_SAMPLES_DEAD ".>",
                                                      .retention = "limits",
                                                      .max_age_s = DEAD_MAX_AGE_S,
                                                      .max_bytes = DEAD_MAX_BYTES,
                                                      .duplicate_window_s = DUPLICATE_WINDOW_S};
    collector->streams[2] = provision_context_streams[0];
    struct provision_events events = {.ready = on_streams_ready,
                                      .refused = on_streams_refused,
                                      .replaced = on_stream_replaced,
                                      .arg = collector};
    return provision_open(collector->bus, &collector->loop, collector->cell, options->replicas,
                          collector->streams, STREAM_COUNT, &events, &collector->provision, err);
}

static void worker_receive(void *arg, const struct consumer_message *message)
{
    hands_receive(arg, message);
}

static int64_t worker_capacity(void *arg)
{
    return hands_capacity(arg);
}

static void worker_release_chamber(void *arg, const char *subject)
{
    hands_release_chamber(arg, subject);
}

static void worker_abandon_all(void *arg)
{
    hands_abandon_all(arg);
}

static void worker_stop(void *arg)
{
    hands_stop(arg);
}

static bool worker_idle(void *arg)
{
    return hands_idle(arg);
}

/* Never the same twice, also for processes that start at one moment on one machine. */
static uint64_t make_incarnation(void)
{
    char text[64], process[32];
    snprintf(text, sizeof text, "%lld", (long long)clock_wall_us());
    snprintf(process, sizeof process, "%ld", (long)getpid());
    return hash64_texts(text, process, NULL) | 1;
}

static int open_cluster(struct collector *collector, struct error *err)
{
    const struct collector_options *options = collector->options;
    uint64_t incarnation = make_incarnation();
    int code = options->seat ? seat_take(options->seat, incarnation, &collector->seat, err) : 0;
    struct carrier_options carrier_options = {.kind = {.stream = STREAM_SAMPLES,
                                                       .subject_prefix = "eqp.",
                                                       .subject_suffix = ".>",
                                                       .bucket_prefix = "collector-",
                                                       .heartbeats = "cluster.collector-heartbeat"},
                                              .cluster = {.incarnation = incarnation,
                                                          .predecessor = collector->seat.predecessor,
                                                          .version = options->version,
                                                          .group = options->group,
                                                          .role = "collector",
                                                          .pool = options->pool,
                                                          .expected_members = options->expected_members,
                                                          .id_ttl_ms = COLLECTOR_ID_TTL_MS,
                                                          .lease_ttl_ms = COLLECTOR_LEASE_TTL_MS},
                                              .cell = collector->cell,
                                              .ack_wait_ms = options->ack_wait_ms,
                                              .max_ack_pending = COLLECTOR_MAX_ACK_PENDING,
                                              .replicas = options->replicas};
    struct carrier_ports ports = {.loop = &collector->loop,
                                  .mailbox = collector->mailbox,
                                  .bus = collector->bus,
                                  .worker = {.receive = worker_receive,
                                             .capacity = worker_capacity,
                                             .release_chamber = worker_release_chamber,
                                             .abandon_all = worker_abandon_all,
                                             .stop = worker_stop,
                                             .idle = worker_idle,
                                             .arg = collector->hands},
                                  .acquire = &collector->acquire,
                                  .renew = &collector->renew,
                                  .filters = &collector->filters,
                                  .heartbeat_errors = &collector->heartbeat_errors,
                                  .changed = on_cluster_changed,
                                  .stopped = on_cluster_stopped,
                                  .arg = collector};
    if (code == 0)
        code = carrier_open(&carrier_options, &ports, &collector->carrier, err);
    if (code == 0)
        carrier_status(collector->carrier, &collector->cluster);
    return code;
}

static int open_parts(struct collector *collector, struct error *err)
{
    char process[64];
    struct bus_subscription *subscription;
    int code = open_store_patiently(collector, err);
    if (code == 0)
        code = mailbox_open(&collector->loop, &collector->mailbox, err);
    if (code == 0)
        code = open_bus(collector, err);
    if (code == 0)
        code = open_hands(collector, err);
    if (code == 0)
        code = open_streams(collector, err);
    if (code == 0)
        code = open_cluster(collector, err);
    if (code == 0)
        code = open_http(collector, err);
    if (code)
        return code;
    /* Asked by its number too: whoever started it does not know which ID it will get. */
    snprintf(process, sizeof process, "pid-%ld", (long)getpid());
    return listen_as(collector, process, &subscription, err);
}

static void start_loop(struct collector *collector)
{
    uv_timer_init(&collector->loop, &collector->tick);
    uv_timer_init(&collector->loop, &collector->drain_timer);
    collector->tick.data = collector->drain_timer.data = collector;
    uv_timer_start(&collector->tick, on_tick, COLLECTOR_TICK_MS, COLLECTOR_TICK_MS);
    uv_signal_init(&collector->loop, &collector->term);
    uv_signal_init(&collector->loop, &collector->interrupt);
    collector->term.data = collector->interrupt.data = collector;
    uv_signal_start(&collector->term, on_signal, SIGTERM);
    uv_signal_start(&collector->interrupt, on_signal, SIGINT);
}

/* False when work is still under way on threads: the process is to end, and with it all that is left. */
static bool close_parts(struct collector *collector)
{
    bool idle = collector->hands == NULL || hands_idle(collector->hands);
    if (collector->carrier)
        carrier_close(collector->carrier);
    if (collector->provision)
        provision_close(collector->provision);
    if (collector->http)
        http_role_close(collector->http);
    if (!idle)
        return false;
    if (collector->bus)
        bus_close(collector->bus);
    if (collector->tick.loop) {
        uv_close((uv_handle_t *)&collector->tick, NULL);
        uv_close((uv_handle_t *)&collector->drain_timer, NULL);
        uv_close((uv_handle_t *)&collector->term, NULL);
        uv_close((uv_handle_t *)&collector->interrupt, NULL);
    }
    if (collector->store)
        store_close(collector->store);
    if (collector->hands)
        hands_close(collector->hands);
    if (collector->mailbox)
        mailbox_close(collector->mailbox);
    uv_run(&collector->loop, UV_RUN_DEFAULT);
    uv_loop_close(&collector->loop);
    return true;
}

static int64_t or_default(int64_t value, int64_t otherwise)
{
    return value > 0 ? value : otherwise;
}

static int settle_options(struct collector_options *options, struct error *err)
{
    options->cell = options->cell ? options->cell : "";
    options->group = options->group ? options->group : "";
    options->replicas = (int)or_default(options->replicas, 1);
    options->ack_wait_ms = or_default(options->ack_wait_ms, COLLECTOR_ACK_WAIT_MS);
    options->flush_us = or_default(options->flush_us, COLLECTOR_FLUSH_US);
    options->gap_us = or_default(options->gap_us, COLLECTOR_GAP_US);
    options->silent_us = or_default(options->silent_us, COLLECTOR_SILENT_US);
    options->context_max_us = or_default(options->context_max_us, COLLECTOR_CONTEXT_MAX_US);
    options->buffer_bytes = or_default(options->buffer_bytes, COLLECTOR_BUFFER_BYTES);
    options->stream_bytes = or_default(options->stream_bytes, COLLECTOR_STREAM_BYTES);
    options->stream_age_us = or_default(options->stream_age_us, COLLECTOR_STREAM_AGE_US);
    if (options->gap_us < 2 * options->ack_wait_ms * 1000)
        return error_set(
            err, ERR_INVALID,
            "a missing batch must be waited for at least twice as long as ack-wait (%lld ms): it may "
            "only have to be delivered again",
            (long long)options->ack_wait_ms);
    if (options->stream_age_us <= options->context_max_us)
        return error_set(
            err, ERR_INVALID,
            "the stream's age must exceed the longest context (%lld s): its start stays there until "
            "the end",
            (long long)(options->context_max_us / 1000000));
    return names_check_cell(options->cell, err);
}

int collector_run(const struct collector_options *given, struct error *err)
{
    struct collector_options options = *given;
    int code = settle_options(&options, err);
    if (code)
        return code;
    struct collector *collector = calloc(1, sizeof *collector);
    if (collector == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a collector");
    collector->options = &options;
    collector->cell = options.cell;
    collector->started_us = clock_wall_us();
    uv_loop_init(&collector->loop);
    code = open_parts(collector, err);
    if (code == 0) {
        start_loop(collector);
        uv_run(&collector->loop, UV_RUN_DEFAULT);
        code = collector->exit_code;
        if (code && err)
            *err = collector->exit_error;
    }
    LOG_INFO("stopped", LOG_INT("contexts", collector->counts.contexts), LOG_INT("code", code));
    if (close_parts(collector))
        free(collector);
    return code;
}
