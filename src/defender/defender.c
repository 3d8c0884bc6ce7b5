#include "defender/defender.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "defender/carrier.h"
#include "defender/exposition.h"
#include "defender/pipeline.h"
#include "defender/prewarm.h"
#include "defender/provision.h"
#include "defender/seat.h"
#include "defender/rejudge.h"
#include "defender/sweep.h"
#include "defender/weigher.h"
#include "http/role.h"
#include "store/failover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STORE_RETRY_MS = 1000, EXPIRE_BATCH = 200 };

struct defender {
    const struct defender_options *options;
    const char *cell;
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct store *store;
    struct cache *cache;
    struct chartsets *chartsets;
    struct pipeline *pipeline;
    struct prewarm *prewarm;
    struct provision *provision;
    struct carrier *carrier;
    struct sweep *sweep;
    struct rejudge *rejudge;
    struct weigher *weigher;
    struct metrics metrics;
    struct http_role *http; /* NULL: no port was given */
    int64_t rebalance_ns;   /* when the change under way began, 0: none */
    struct seat seat;
    struct cluster_status cluster; /* as of the last change */
    char id[CLUSTER_NAME_BYTES];   /* whose questions are answered; "" for none */
    struct bus_subscription *questions;
    int64_t started_us;

    bool charts_known; /* which chart file is in force, or that none is: before that nothing may be judged */
    bool working;      /* the streams were there once: a conflict after that is not fatal */
    bool placed;       /* it has had an ID, or stood by for one */
    bool stopping;
    uv_signal_t term, interrupt;
    uv_timer_t charts_poll, expire_timer, drain_timer;
    bool expiring, finished;
    int exit_code;
    struct error exit_error;
};

/* --- ending --- */

static void stop_loop(struct defender *defender, int code, const struct error *error)
{
    if (defender->finished)
        return;
    defender->finished = true;
    defender->exit_code = code;
    if (error)
        defender->exit_error = *error;
    uv_stop(&defender->loop);
}

static void on_cluster_stopped(void *arg)
{
    stop_loop(arg, 0, NULL);
}

static void tell_health(struct defender *defender);

static void on_drain_timeout(uv_timer_t *timer)
{
    struct defender *defender = timer->data;
    struct error err;
    error_set(&err, ERR_TIMEOUT,
              "%lld contexts were still in flight after %d s; they will be delivered again",
              (long long)pipeline_in_flight(defender->pipeline), DEFENDER_DRAIN_MS / 1000);
    stop_loop(defender, ERR_TIMEOUT, &err);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct defender *defender = handle->data;
    if (defender->stopping)
        return;
    defender->stopping = true;
    tell_health(defender);
    LOG_INFO("stopping: finishing what is in flight", LOG_INT("signal", number),
             LOG_INT("in_flight", pipeline_in_flight(defender->pipeline)));
    uv_timer_start(&defender->drain_timer, on_drain_timeout, DEFENDER_DRAIN_MS, 0);
    carrier_stop(defender->carrier);
}

/* --- streams and cluster --- */

static void on_capacity_changed(void *arg)
{
    struct defender *defender = arg;
    if (defender->carrier)
        carrier_on_capacity(defender->carrier);
}

static void on_stream_missing(void *arg)
{
    struct defender *defender = arg;
    provision_begin(defender->provision);
}

static void on_streams_ready(void *arg)
{
    struct defender *defender = arg;
    defender->working = true;
    carrier_on_connected(defender->carrier);
}

static void on_streams_refused(void *arg, int code, const struct error *error)
{
    struct defender *defender = arg;
    if (!defender->working)
        stop_loop(defender, code, error);
    else
        LOG_ERROR("a stream has other settings now", LOG_STR("error", error->text));
}

static void on_stream_replaced(void *arg)
{
    struct defender *defender = arg;
    pipeline_on_stream_replaced(defender->pipeline);
}

static void begin_work(struct defender *defender)
{
    if (defender->charts_known)
        provision_begin(defender->provision);
}

static void on_connected(void *arg)
{
    struct defender *defender = arg;
    LOG_INFO("connected to NATS", LOG_STR("url", defender->options->nats_url));
    begin_work(defender);
}

static void on_disconnected(void *arg)
{
    struct defender *defender = arg;
    LOG_WARN("NATS is away; keeping what is here, and trying again");
    provision_on_disconnected(defender->provision);
    carrier_on_disconnected(defender->carrier);
}

static bool leads(void *arg)
{
    const struct defender *defender = arg;
    struct cluster_status now; /* whether it may act changes with time alone */
    carrier_status(defender->carrier, &now);
    return now.leads;
}

static void answer_as(struct defender *defender, const char *id);

/* A defender is ready from its first place (a standby has one too) until it stops. That it is degraded, or
 * asks for its ID again, is no reason to take it away: no other would do better (http/role.h). */
static void tell_health(struct defender *defender)
{
    enum cluster_state state = defender->cluster.state;
    bool placed = state == CLUSTER_STANDBY || state == CLUSTER_FOLLOWER || state == CLUSTER_LEADER;
    defender->placed |= placed;
    if (defender->http == NULL)
        return;
    bool stopping = defender->stopping || state == CLUSTER_SHUTDOWN || state == CLUSTER_STOPPED;
    http_role_set_health(defender->http,
                         stopping           ? HTTP_STOPPING
                         : defender->placed ? HTTP_READY
                                            : HTTP_STARTING,
                         cluster_state_name(state));
}

/* A change of the assignment lasts from the first sign of it until the leader is stable again. */
static void count_lifecycle(struct defender *defender, const struct cluster_status *before)
{
    const struct cluster_status *now = &defender->cluster;
    if (!now->leads) {
        defender->rebalance_ns = 0;
        return;
    }
    if (before->leads && before->lifecycle == now->lifecycle)
        return;
    defender->metrics.triggered[now->lifecycle]++;
    if (now->lifecycle == LIFECYCLE_STABLE && defender->rebalance_ns)
        histogram_record(&defender->metrics.rebalance, clock_mono_ns() - defender->rebalance_ns);
    if (now->lifecycle == LIFECYCLE_STABLE)
        defender->rebalance_ns = 0;
    else if (defender->rebalance_ns == 0)
        defender->rebalance_ns = clock_mono_ns();
}

/* The cluster's state as others see it: in the log, and on the subject of the ID. */
static void on_cluster_changed(void *arg)
{
    struct defender *defender = arg;
    struct cluster_status past = defender->cluster;
    enum cluster_state before = past.state;
    carrier_status(defender->carrier, &defender->cluster);
    count_lifecycle(defender, &past);
    if (before != defender->cluster.state)
        defender->metrics.state_entered[defender->cluster.state]++;
    tell_health(defender);
    if (before != defender->cluster.state)
        LOG_INFO("state", LOG_STR("from", cluster_state_name(before)),
                 LOG_STR("to", cluster_state_name(defender->cluster.state)),
                 LOG_STR("id", defender->cluster.id));
    if (strcmp(defender->id, defender->cluster.id) != 0)
        answer_as(defender, defender->cluster.id);
}

/* --- charts, retention, questions --- */

static void on_charts_refreshed(void *arg, int code, const struct error *error)
{
    struct defender *defender = arg;
    if (code == ERR_CLOSED)
        return;
    if (code)
        LOG_WARN("chart file not loaded; trying again", LOG_STR("error", error->text));
    if (code == 0 && !defender->charts_known) {
        defender->charts_known = true;
        begin_work(defender);
    }
}

static void on_charts_poll(uv_timer_t *timer)
{
    struct defender *defender = timer->data;
    chartsets_refresh(defender->chartsets, on_charts_refreshed, defender);
}

static void on_charts_notice(void *arg, const struct bus_message *message)
{
    (void)message;
    struct defender *defender = arg;
    chartsets_refresh(defender->chartsets, on_charts_refreshed, defender);
}

static void begin_expire(struct defender *defender);

static void run_expired(void *target, void *argument)
{
    struct defender *defender = target;
    struct store_reply *reply = argument;
    bool more = reply->code == 0 && reply->more;
    if (reply->code && reply->code != ERR_CLOSED)
        LOG_WARN("retention put off", LOG_STR("error", reply->error.text));
    else if (reply->removed > 0)
        LOG_INFO("removed what is past its retention", LOG_INT("removed", reply->removed));
    store_reply_free(reply);
    defender->expiring = false;
    if (more && !defender->stopping)
        begin_expire(defender);
}

static void on_expired(void *arg, struct store_reply *reply)
{
    struct defender *defender = arg;
    mailbox_post(defender->mailbox, run_expired, defender, reply);
}

static void begin_expire(struct defender *defender)
{
    const struct defender_options *options = defender->options;
    if (defender->expiring || !leads(defender))
        return;
    struct store_retention retention = {.clock = options->retain_by_event ? STORE_RETAIN_BY_EVENT
                                                                          : STORE_RETAIN_BY_INGEST,
                                        .tchart_us = options->tchart_retention_us,
                                        .uchart_us = options->uchart_retention_us};
    defender->expiring = true;
    store_expire(defender->store, &retention, clock_wall_us(), EXPIRE_BATCH, on_expired, defender);
}

static void on_expire_timer(uv_timer_t *timer)
{
    begin_expire(timer->data);
}

static void add_text_member(struct strbuf *json, const char *key, const char *value)
{
    strbuf_printf(json, ",\"%s\":", key);
    strbuf_add_json(json, value);
}

static void format_cluster(const struct defender *defender, struct strbuf *json)
{
    const struct cluster_status *cluster = &defender->cluster;
    add_text_member(json, "state", cluster_state_name(cluster->state));
    add_text_member(json, "lifecycle", cluster_lifecycle_name(cluster->lifecycle));
    add_text_member(json, "leader", cluster->leader);
    strbuf_printf(
        json,
        ",\"leads\":%s,\"map_version\":%llu,\"assignment\":%llu,\"chambers\":%zu,\"members_alive\":%zu,"
        "\"rebalances\":%llu,\"emergencies\":%llu,\"moved\":%llu",
        cluster->leads ? "true" : "false", (unsigned long long)cluster->map_version,
        (unsigned long long)cluster->assignment, cluster->chambers, cluster->members_alive,
        (unsigned long long)cluster->rebalances, (unsigned long long)cluster->emergencies,
        (unsigned long long)cluster->moved);
}

/* Which store answers, and what is owed (failover.h). */
static void format_store(struct defender *defender, struct strbuf *json)
{
    char when[CLOCK_RFC3339_BYTES];
    struct store_health health;
    store_health(defender->store, &health);
    strbuf_printf(json, "\"store\":{\"mode\":\"%s\"", store_mode_name(health.mode));
    if (health.mode != STORE_MODE_SINGLE) {
        strbuf_printf(json,
                      ",\"since\":\"%s\",\"opened\":%lld,\"debts\":%lld,\"debts_paid\":%lld,"
                      "\"debts_stuck\":%lld,\"primary_failures\":%lld,\"standby_failures\":%lld,\"error\":",
                      clock_format_rfc3339(health.since_us, when), (long long)health.opened,
                      (long long)health.debts_known, (long long)health.debts_paid,
                      (long long)health.debts_stuck, (long long)health.primary.failures,
                      (long long)health.standby.failures);
        strbuf_add_json(json, health.primary.failed.text);
    }
    strbuf_add(json, "},");
}

static void format_status(struct defender *defender, struct strbuf *json)
{
    char when[CLOCK_RFC3339_BYTES];
    struct cache_statistics cache;
    cache_read_statistics(defender->cache, &cache);
    carrier_status(defender->carrier, &defender->cluster);
    strbuf_add(json, "{\"id\":");
    strbuf_add_json(json, defender->cluster.id);
    add_text_member(json, "version", defender->options->version);
    add_text_member(json, "group", defender->options->group);
    strbuf_printf(json, ",\"pid\":%ld,\"started_at\":\"%s\"", (long)getpid(),
                  clock_format_rfc3339(defender->started_us, when));
    format_cluster(defender, json);
    strbuf_printf(json, ",\"chart_set\":\"%016" PRIx64 "\",\"held\":%lld,\"in_flight\":%lld,",
                  chartsets_current_id(defender->chartsets), (long long)pipeline_held(defender->pipeline),
                  (long long)pipeline_in_flight(defender->pipeline));
    strbuf_printf(
        json, "\"cache\":{\"hits\":%lld,\"misses\":%lld,\"evictions\":%lld,\"rows\":%lld,\"bytes\":%lld},",
        (long long)cache.hits, (long long)cache.misses, (long long)cache.evictions, (long long)cache.rows,
        (long long)cache.bytes);
    format_store(defender, json);
    metrics_format(&defender->metrics, json);
    strbuf_add_char(json, '}');
}

/* A probe only wants to know that somebody is there. */
static void on_question(void *arg, const struct bus_message *message)
{
    struct defender *defender = arg;
    if (*message->reply == '\0')
        return;
    if (message->length == strlen("probe") && memcmp(message->data, "probe", message->length) == 0) {
        bus_publish(defender->bus, message->reply, "{}", 2, NULL);
        return;
    }
    struct strbuf json;
    strbuf_init(&json);
    format_status(defender, &json);
    bus_publish(defender->bus, message->reply, json.text, json.length, NULL);
    strbuf_free(&json);
}

static void answer_as(struct defender *defender, const char *id)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    struct error err;
    if (defender->questions)
        bus_unsubscribe(defender->questions);
    defender->questions = NULL;
    snprintf(defender->id, sizeof defender->id, "%s", id);
    if (*id == '\0')
        return;
    snprintf(own, sizeof own, "cluster.ask.%s", id);
    if (bus_subscribe(defender->bus, names_subject(defender->cell, own, subject), on_question, defender,
                      &defender->questions, &err))
        LOG_WARN("questions cannot be answered", LOG_STR("error", err.text));
}

/* The process is asked by its number too: whoever started it does not know which ID it will get. */
static int listen_always(struct defender *defender, struct error *err)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    struct bus_subscription *subscription;
    snprintf(own, sizeof own, "cluster.ask.pid-%ld", (long)getpid());
    int code = bus_subscribe(defender->bus, names_subject(defender->cell, own, subject), on_question,
                             defender, &subscription, err);
    if (code == 0)
        code = bus_subscribe(defender->bus, names_subject(defender->cell, "cluster.charts", subject),
                             on_charts_notice, defender, &subscription, err);
    return code;
}

/* --- HTTP --- */

static void write_metrics(void *arg, struct strbuf *out)
{
    struct defender *defender = arg;
    struct cache_statistics cache;
    struct cluster_status cluster;
    cache_read_statistics(defender->cache, &cache);
    carrier_status(defender->carrier, &cluster);
    struct store_health health;
    store_health(defender->store, &health);
    const char *store = defender->options->store_url;
    bool sqlite = strncmp(store, "sqlite:", strlen("sqlite:")) == 0;
    uint64_t connections = bus_connections(defender->bus);
    int64_t since_ns = defender->rebalance_ns;
    struct exposition exposition = {.metrics = &defender->metrics,
                                    .cluster = &cluster,
                                    .cache = &cache,
                                    .store_health = &health,
                                    .version = defender->options->version,
                                    .group = defender->options->group,
                                    .store = strncmp(store, "failover:", strlen("failover:")) == 0
                                                 ? "failover"
                                             : sqlite ? "sqlite"
                                                      : "cassandra",
                                    .started_us = defender->started_us,
                                    .rebalancing_ns = since_ns ? clock_mono_ns() - since_ns : 0,
                                    .held = pipeline_held(defender->pipeline),
                                    .in_flight = pipeline_in_flight(defender->pipeline),
                                    .connected = bus_is_connected(defender->bus),
                                    .reconnects = (int64_t)connections - (connections > 0),
                                    .pending = (int64_t)bus_pending_requests(defender->bus)};
    exposition_write(&exposition, out);
}

static int open_http(struct defender *defender, struct error *err)
{
    const struct defender_options *options = defender->options;
    if (options->http_port == 0)
        return 0;
    struct http_role_options http_options = {.bind = options->http_bind,
                                             .port = options->http_port,
                                             .write_metrics = write_metrics,
                                             .arg = defender};
    int code = http_role_open(&http_options, &defender->loop, defender->mailbox, &defender->http, err);
    if (code)
        return code;
    LOG_INFO("metrics and health over HTTP",
             LOG_STR("bind", options->http_bind ? options->http_bind : "127.0.0.1"),
             LOG_INT("port", http_role_port(defender->http)));
    tell_health(defender);
    return 0;
}

/* --- life --- */

static int open_store_patiently(struct defender *defender, struct error *err)
{
    for (;;) {
        int code = store_open(defender->options->store_url, NULL, &defender->store, err);
        if (!error_is_transient(code) || code == ERR_IO)
            return code;
        LOG_WARN("the store is away; trying again", LOG_STR("error", err->text));
        uv_sleep(STORE_RETRY_MS);
    }
}

static int open_data(struct defender *defender, struct error *err)
{
    int code = open_store_patiently(defender, err);
    if (code == 0)
        code = cache_open((size_t)defender->options->cache_bytes, &defender->cache, err);
    if (code == 0)
        code = mailbox_open(&defender->loop, &defender->mailbox, err);
    if (code == 0)
        code = chartsets_open(defender->store, defender->mailbox, &defender->chartsets, err);
    if (code == 0)
        code = prewarm_open(&defender->loop, defender->mailbox, defender->store, defender->cache,
                            defender->chartsets, &defender->prewarm, err);
    return code;
}

static int open_bus(struct defender *defender, struct error *err)
{
    const struct defender_options *options = defender->options;
    char name[64];
    snprintf(name, sizeof name, "chamberlain-defend-%ld", (long)getpid());
    struct bus_options bus_options = {.url = options->nats_url,
                                      .name = name,
                                      .credentials_file = options->credentials_file,
                                      .ca_file = options->ca_file,
                                      .certificate_file = options->certificate_file,
                                      .key_file = options->key_file};
    struct bus_events events = {.connected = on_connected, .disconnected = on_disconnected, .arg = defender};
    return bus_open(&bus_options, &defender->loop, defender->mailbox, &events, &defender->bus, err);
}

static void on_judged(void *arg, const char *subject, int64_t points)
{
    struct defender *defender = arg;
    weigher_note(defender->weigher, subject, points);
}

static bool owns(void *arg, const char *chamber)
{
    struct defender *defender = arg;
    return carrier_owns(defender->carrier, chamber);
}

static int open_pipeline(struct defender *defender, struct error *err)
{
    const struct defender_options *options = defender->options;
    struct pipeline_options pipeline_options = {.cell = defender->cell,
                                                .defender_id = defender->id,
                                                .max_in_flight = options->max_in_flight,
                                                .missing_delay_ms = options->missing_delay_ms,
                                                .ack_wait_ms = options->ack_wait_ms};
    struct pipeline_ports ports = {.loop = &defender->loop,
                                   .mailbox = defender->mailbox,
                                   .bus = defender->bus,
                                   .store = defender->store,
                                   .cache = defender->cache,
                                   .chartsets = defender->chartsets,
                                   .metrics = &defender->metrics,
                                   .capacity_changed = on_capacity_changed,
                                   .stream_missing = on_stream_missing,
                                   .judged = on_judged,
                                   .arg = defender};
    int code = pipeline_open(&pipeline_options, &ports, &defender->pipeline, err);
    struct sweep_ports sweep_ports = {.loop = &defender->loop,
                                      .mailbox = defender->mailbox,
                                      .bus = defender->bus,
                                      .store = defender->store,
                                      .pipeline = defender->pipeline,
                                      .metrics = &defender->metrics,
                                      .leads = leads,
                                      .arg = defender};
    if (code == 0)
        code = sweep_open(&sweep_ports, defender->cell, options->sweep_age_ms, options->sweep_interval_ms,
                          &defender->sweep, err);
    if (code == 0)
        code = rejudge_open(&sweep_ports, defender->cell, &defender->rejudge, err);
    return code;
}

static void worker_receive(void *arg, const struct consumer_message *message)
{
    pipeline_receive(arg, message);
}

static int64_t worker_capacity(void *arg)
{
    return pipeline_capacity(arg);
}

static void worker_release_chamber(void *arg, const char *subject)
{
    pipeline_release_chamber(arg, subject);
}

static void worker_abandon_all(void *arg)
{
    pipeline_abandon_all(arg);
}

static void worker_stop(void *arg)
{
    pipeline_stop(arg);
}

static bool worker_idle(void *arg)
{
    return pipeline_idle(arg);
}

static struct carrier_worker worker_of(struct defender *defender)
{
    return (struct carrier_worker){.receive = worker_receive,
                                   .capacity = worker_capacity,
                                   .release_chamber = worker_release_chamber,
                                   .abandon_all = worker_abandon_all,
                                   .stop = worker_stop,
                                   .idle = worker_idle,
                                   .arg = defender->pipeline};
}

/* Never the same twice, also for processes that start at one moment on one machine. */
static uint64_t make_incarnation(void)
{
    char text[64], process[32];
    snprintf(text, sizeof text, "%lld", (long long)clock_wall_us());
    snprintf(process, sizeof process, "%ld", (long)getpid());
    return hash64_texts(text, process, NULL) | 1;
}

static int open_cluster(struct defender *defender, struct error *err)
{
    const struct defender_options *options = defender->options;
    struct provision_events events = {.ready = on_streams_ready,
                                      .refused = on_streams_refused,
                                      .replaced = on_stream_replaced,
                                      .arg = defender};
    uint64_t incarnation = make_incarnation();
    int code = options->seat ? seat_take(options->seat, incarnation, &defender->seat, err) : 0;
    if (code == 0)
        code = provision_open(defender->bus, &defender->loop, defender->cell, options->replicas,
                              provision_context_streams, PROVISION_CONTEXT_STREAMS, &events,
                              &defender->provision, err);
    static const struct carrier_kind kind = {.stream = STREAM_NOTIFICATIONS,
                                             .subject_prefix = "dc.",
                                             .subject_suffix = ".completed",
                                             .bucket_prefix = "",
                                             .heartbeats = "cluster.heartbeat"};
    struct carrier_options carrier_options = {.kind = kind,
                                              .cluster = {.incarnation = incarnation,
                                                          .predecessor = defender->seat.predecessor,
                                                          .version = options->version,
                                                          .group = options->group,
                                                          .share = options->share,
                                                          .pool = options->pool,
                                                          .expected_members = options->expected_members,
                                                          .id_ttl_ms = DEFENDER_ID_TTL_MS,
                                                          .lease_ttl_ms = DEFENDER_LEASE_TTL_MS,
                                                          .reweigh_ms = options->reweigh_ms},
                                              .cell = defender->cell,
                                              .ack_wait_ms = options->ack_wait_ms,
                                              .max_ack_pending = (int64_t)options->max_in_flight *
                                                                 PIPELINE_HELD_PER_IN_FLIGHT * 2,
                                              .replicas = options->replicas};
    struct carrier_ports ports = {.loop = &defender->loop,
                                  .mailbox = defender->mailbox,
                                  .bus = defender->bus,
                                  .worker = worker_of(defender),
                                  .prewarm = defender->prewarm,
                                  .acquire = &defender->metrics.acquire,
                                  .renew = &defender->metrics.renew,
                                  .filters = &defender->metrics.filters,
                                  .heartbeat_errors = &defender->metrics.heartbeat_errors,
                                  .changed = on_cluster_changed,
                                  .stopped = on_cluster_stopped,
                                  .arg = defender};
    if (code == 0)
        code = carrier_open(&carrier_options, &ports, &defender->carrier, err);
    struct weigher_ports weigher_ports = {
        .loop = &defender->loop, .bus = defender->bus, .owns = owns, .arg = defender};
    if (code == 0)
        code = weigher_open(&weigher_ports, defender->cell, options->load_memory_ms, &defender->weigher, err);
    if (code == 0)
        carrier_status(defender->carrier, &defender->cluster);
    return code;
}

static int open_parts(struct defender *defender, struct error *err)
{
    int code = open_data(defender, err);
    if (code == 0)
        code = open_bus(defender, err);
    if (code == 0)
        code = open_pipeline(defender, err);
    if (code == 0)
        code = open_cluster(defender, err);
    if (code == 0)
        code = open_http(defender, err);
    return code ? code : listen_always(defender, err);
}

static void start_timer(struct defender *defender, uv_timer_t *timer, uv_timer_cb run, uint64_t every_ms)
{
    uv_timer_init(&defender->loop, timer);
    timer->data = defender;
    if (run)
        uv_timer_start(timer, run, every_ms, every_ms);
}

static void start_loop(struct defender *defender)
{
    start_timer(defender, &defender->drain_timer, NULL, 0);
    start_timer(defender, &defender->charts_poll, on_charts_poll, DEFENDER_CHARTS_POLL_MS);
    start_timer(defender, &defender->expire_timer, on_expire_timer, DEFENDER_EXPIRE_INTERVAL_MS);
    uv_signal_init(&defender->loop, &defender->term);
    uv_signal_init(&defender->loop, &defender->interrupt);
    defender->term.data = defender->interrupt.data = defender;
    uv_signal_start(&defender->term, on_signal, SIGTERM);
    uv_signal_start(&defender->interrupt, on_signal, SIGINT);
}

/* False when work is still under way on threads: the process is to end, and with it all that is left. */
static bool close_parts(struct defender *defender)
{
    if (defender->http)
        http_role_close(defender->http);
    if (defender->sweep)
        sweep_close(defender->sweep);
    if (defender->rejudge)
        rejudge_close(defender->rejudge);
    if (defender->carrier)
        carrier_close(defender->carrier);
    if (defender->provision)
        provision_close(defender->provision);
    if (defender->bus)
        bus_close(defender->bus);
    if (defender->weigher)
        weigher_close(defender->weigher);
    uv_timer_t *timers[] = {&defender->drain_timer, &defender->charts_poll, &defender->expire_timer};
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++)
        if (timers[i]->loop)
            uv_close((uv_handle_t *)timers[i], NULL);
    if (defender->term.loop) {
        uv_close((uv_handle_t *)&defender->term, NULL);
        uv_close((uv_handle_t *)&defender->interrupt, NULL);
    }
    if (defender->store)
        store_close(defender->store);
    if (defender->mailbox)
        mailbox_drain(defender->mailbox);
    if (defender->prewarm)
        prewarm_close(defender->prewarm);
    bool idle = defender->pipeline == NULL || pipeline_idle(defender->pipeline);
    if (defender->pipeline && idle)
        pipeline_close(defender->pipeline);
    if (defender->mailbox)
        mailbox_close(defender->mailbox);
    if (!idle)
        return false;
    uv_run(&defender->loop, UV_RUN_DEFAULT);
    uv_loop_close(&defender->loop);
    chartsets_close(defender->chartsets);
    if (defender->cache)
        cache_close(defender->cache);
    return true;
}

static void set_compute_threads(int threads)
{
    char text[16];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(text, sizeof text, "%d", threads > 0 ? threads : cores > 0 ? (int)cores : 2);
    setenv("UV_THREADPOOL_SIZE", text, 1); /* read by libuv at its first use */
}

static void fill_defaults(struct defender_options *options)
{
    if (options->cell == NULL)
        options->cell = "";
    if (options->group == NULL)
        options->group = "";
    if (options->max_in_flight <= 0)
        options->max_in_flight = PIPELINE_MAX_IN_FLIGHT;
    if (options->replicas <= 0)
        options->replicas = 1;
    if (options->ack_wait_ms <= 0)
        options->ack_wait_ms = DEFENDER_ACK_WAIT_MS;
    if (options->tchart_retention_us <= 0)
        options->tchart_retention_us = STORE_TCHART_RETENTION_US;
    if (options->uchart_retention_us <= 0)
        options->uchart_retention_us = STORE_UCHART_RETENTION_US;
}

int defender_run(const struct defender_options *given, struct error *err)
{
    struct defender_options options = *given;
    fill_defaults(&options);
    int code = names_check_cell(options.cell, err);
    if (code)
        return code;
    struct defender *defender = calloc(1, sizeof *defender);
    if (defender == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a defender");
    defender->options = &options;
    defender->cell = options.cell;
    defender->started_us = clock_wall_us();
    set_compute_threads(options.compute_threads);
    uv_loop_init(&defender->loop);
    code = open_parts(defender, err);
    if (code == 0) {
        start_loop(defender);
        chartsets_refresh(defender->chartsets, on_charts_refreshed, defender);
        uv_run(&defender->loop, UV_RUN_DEFAULT);
        code = defender->exit_code;
        if (code && err)
            *err = defender->exit_error;
    }
    LOG_INFO("stopped", LOG_INT("judged", defender->metrics.judged), LOG_INT("code", code));
    if (close_parts(defender))
        free(defender);
    return code;
}
