#include "defender/defender.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "defender/exposition.h"
#include "defender/pipeline.h"
#include "defender/prewarm.h"
#include "defender/rejudge.h"
#include "defender/sweep.h"
#include "defender/weigher.h"
#include "store/failover.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXPIRE_BATCH = 200 };

struct defender {
    struct workplace place;
    const struct defender_options *options;
    struct cache *cache;
    struct chartsets *chartsets;
    struct pipeline *pipeline;
    struct prewarm *prewarm;
    struct sweep *sweep;
    struct rejudge *rejudge;
    struct weigher *weigher;
    struct metrics metrics;
    int64_t rebalance_ns; /* when the change under way began, 0: none */

    bool charts_known; /* which chart file is in force, or that none is: before that nothing may be judged */
    bool expiring;
    uv_timer_t charts_poll, expire_timer;
};

/* --- cluster --- */

static void on_stopping(void *arg, int signal)
{
    struct defender *defender = arg;
    LOG_INFO("stopping: finishing what is in flight", LOG_INT("signal", signal),
             LOG_INT("in_flight", pipeline_in_flight(defender->pipeline)));
}

static int say_overdue(void *arg, struct error *err)
{
    struct defender *defender = arg;
    return error_set(err, ERR_TIMEOUT,
                     "%lld contexts were still in flight after %d s; they will be delivered again",
                     (long long)pipeline_in_flight(defender->pipeline), DEFENDER_DRAIN_MS / 1000);
}

static void on_capacity_changed(void *arg)
{
    struct defender *defender = arg;
    workplace_on_capacity(&defender->place);
}

static void on_stream_missing(void *arg)
{
    struct defender *defender = arg;
    provision_begin(defender->place.provision);
}

static void on_streams_ready(void *arg)
{
    struct defender *defender = arg;
    carrier_on_connected(defender->place.carrier);
}

static void on_stream_replaced(void *arg)
{
    struct defender *defender = arg;
    pipeline_on_stream_replaced(defender->pipeline);
}

static void begin_work(void *arg)
{
    struct defender *defender = arg;
    if (defender->charts_known)
        provision_begin(defender->place.provision);
}

static bool leads(void *arg)
{
    const struct defender *defender = arg;
    struct cluster_status now; /* whether it may act changes with time alone */
    carrier_status(defender->place.carrier, &now);
    return now.leads;
}

/* A change of the assignment lasts from the first sign of it until the leader is stable again. */
static void count_lifecycle(struct defender *defender, const struct cluster_status *before)
{
    const struct cluster_status *now = &defender->place.cluster;
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

static void on_cluster_changed(void *arg, const struct cluster_status *before)
{
    struct defender *defender = arg;
    const struct cluster_status *now = &defender->place.cluster;
    count_lifecycle(defender, before);
    if (before->state != now->state)
        defender->metrics.state_entered[now->state]++;
}

/* --- charts and retention --- */

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
    if (more && !defender->place.stopping)
        begin_expire(defender);
}

static void on_expired(void *arg, struct store_reply *reply)
{
    struct defender *defender = arg;
    mailbox_post(defender->place.mailbox, run_expired, defender, reply);
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
    store_expire(defender->place.store, &retention, clock_wall_us(), EXPIRE_BATCH, on_expired, defender);
}

static void on_expire_timer(uv_timer_t *timer)
{
    begin_expire(timer->data);
}

/* --- status and metrics --- */

/* Which store answers, and what is owed (failover.h). */
static void format_store(struct defender *defender, struct strbuf *json)
{
    char when[CLOCK_RFC3339_BYTES];
    struct store_health health;
    store_health(defender->place.store, &health);
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

static void add_status(void *arg, struct strbuf *json)
{
    struct defender *defender = arg;
    const struct cluster_status *cluster = &defender->place.cluster;
    struct cache_statistics cache;
    cache_read_statistics(defender->cache, &cache);
    strbuf_printf(json, ",\"rebalances\":%llu,\"emergencies\":%llu,\"moved\":%llu",
                  (unsigned long long)cluster->rebalances, (unsigned long long)cluster->emergencies,
                  (unsigned long long)cluster->moved);
    strbuf_printf(json, ",\"chart_set\":\"%016" PRIx64 "\",\"held\":%lld,\"in_flight\":%lld,",
                  chartsets_current_id(defender->chartsets), (long long)pipeline_held(defender->pipeline),
                  (long long)pipeline_in_flight(defender->pipeline));
    strbuf_printf(
        json, "\"cache\":{\"hits\":%lld,\"misses\":%lld,\"evictions\":%lld,\"rows\":%lld,\"bytes\":%lld},",
        (long long)cache.hits, (long long)cache.misses, (long long)cache.evictions, (long long)cache.rows,
        (long long)cache.bytes);
    format_store(defender, json);
    metrics_format(&defender->metrics, json);
}

static void write_metrics(void *arg, struct strbuf *out)
{
    struct defender *defender = arg;
    struct cache_statistics cache;
    struct cluster_status cluster;
    cache_read_statistics(defender->cache, &cache);
    carrier_status(defender->place.carrier, &cluster);
    struct store_health health;
    store_health(defender->place.store, &health);
    const char *store = defender->place.options->store_url;
    bool sqlite = strncmp(store, "sqlite:", strlen("sqlite:")) == 0;
    uint64_t connections = bus_connections(defender->place.bus);
    int64_t since_ns = defender->rebalance_ns;
    struct exposition exposition = {.metrics = &defender->metrics,
                                    .cluster = &cluster,
                                    .cache = &cache,
                                    .store_health = &health,
                                    .version = defender->place.options->version,
                                    .group = defender->place.options->group,
                                    .store = strncmp(store, "failover:", strlen("failover:")) == 0
                                                 ? "failover"
                                             : sqlite ? "sqlite"
                                                      : "cassandra",
                                    .started_us = defender->place.started_us,
                                    .rebalancing_ns = since_ns ? clock_mono_ns() - since_ns : 0,
                                    .held = pipeline_held(defender->pipeline),
                                    .in_flight = pipeline_in_flight(defender->pipeline),
                                    .connected = bus_is_connected(defender->place.bus),
                                    .reconnects = (int64_t)connections - (connections > 0),
                                    .pending = (int64_t)bus_pending_requests(defender->place.bus)};
    exposition_write(&exposition, out);
}

/* --- life --- */

static int open_charts(struct defender *defender, struct error *err)
{
    struct workplace *place = &defender->place;
    int code = cache_open((size_t)defender->options->cache_bytes, &defender->cache, err);
    if (code == 0)
        code = chartsets_open(place->store, place->mailbox, &defender->chartsets, err);
    if (code == 0)
        code = prewarm_open(&place->loop, place->mailbox, place->store, defender->cache, defender->chartsets,
                            &defender->prewarm, err);
    return code;
}

static void on_judged(void *arg, const char *subject, int64_t points)
{
    struct defender *defender = arg;
    weigher_note(defender->weigher, subject, points);
}

static bool owns(void *arg, const char *chamber)
{
    struct defender *defender = arg;
    return carrier_owns(defender->place.carrier, chamber);
}

static int open_pipeline(struct defender *defender, struct error *err)
{
    const struct defender_options *options = defender->options;
    struct workplace *place = &defender->place;
    struct pipeline_options pipeline_options = {.cell = options->place.cell,
                                                .defender_id = place->id,
                                                .max_in_flight = options->max_in_flight,
                                                .missing_delay_ms = options->missing_delay_ms,
                                                .ack_wait_ms = options->ack_wait_ms};
    struct pipeline_ports ports = {.loop = &place->loop,
                                   .mailbox = place->mailbox,
                                   .bus = place->bus,
                                   .store = place->store,
                                   .cache = defender->cache,
                                   .chartsets = defender->chartsets,
                                   .metrics = &defender->metrics,
                                   .capacity_changed = on_capacity_changed,
                                   .stream_missing = on_stream_missing,
                                   .judged = on_judged,
                                   .arg = defender};
    int code = pipeline_open(&pipeline_options, &ports, &defender->pipeline, err);
    struct sweep_ports sweep_ports = {.loop = &place->loop,
                                      .mailbox = place->mailbox,
                                      .bus = place->bus,
                                      .store = place->store,
                                      .pipeline = defender->pipeline,
                                      .metrics = &defender->metrics,
                                      .leads = leads,
                                      .arg = defender};
    if (code == 0)
        code = sweep_open(&sweep_ports, options->place.cell, options->sweep_age_ms,
                          options->sweep_interval_ms, &defender->sweep, err);
    if (code == 0)
        code = rejudge_open(&sweep_ports, options->place.cell, &defender->rejudge, err);
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

static int join_cluster(struct defender *defender, struct error *err)
{
    const struct defender_options *options = defender->options;
    struct carrier_options cluster = {.kind = {.stream = STREAM_NOTIFICATIONS,
                                               .subject_prefix = "dc.",
                                               .subject_suffix = ".completed",
                                               .bucket_prefix = "",
                                               .heartbeats = "cluster.heartbeat"},
                                      .cluster = {.share = options->share,
                                                  .id_ttl_ms = DEFENDER_ID_TTL_MS,
                                                  .lease_ttl_ms = DEFENDER_LEASE_TTL_MS,
                                                  .reweigh_ms = options->reweigh_ms},
                                      .ack_wait_ms = options->ack_wait_ms,
                                      .max_ack_pending =
                                          (int64_t)options->max_in_flight * PIPELINE_HELD_PER_IN_FLIGHT * 2};
    struct carrier_ports ports = {.worker = worker_of(defender),
                                  .prewarm = defender->prewarm,
                                  .acquire = &defender->metrics.acquire,
                                  .renew = &defender->metrics.renew,
                                  .filters = &defender->metrics.filters,
                                  .heartbeat_errors = &defender->metrics.heartbeat_errors};
    int code = workplace_join(&defender->place, provision_context_streams, PROVISION_CONTEXT_STREAMS,
                              &cluster, &ports, err);
    if (code == 0 && defender->place.http)
        LOG_INFO("metrics and health over HTTP",
                 LOG_STR("bind", options->place.http_bind ? options->place.http_bind : "127.0.0.1"),
                 LOG_INT("port", http_role_port(defender->place.http)));
    return code;
}

static int open_weigher(struct defender *defender, struct error *err)
{
    struct weigher_ports ports = {
        .loop = &defender->place.loop, .bus = defender->place.bus, .owns = owns, .arg = defender};
    return weigher_open(&ports, defender->options->place.cell, defender->options->load_memory_ms,
                        &defender->weigher, err);
}

static int listen_for_charts(struct defender *defender, struct error *err)
{
    char subject[NAMES_BYTES];
    struct bus_subscription *subscription;
    return bus_subscribe(defender->place.bus,
                         names_subject(defender->options->place.cell, "cluster.charts", subject),
                         on_charts_notice, defender, &subscription, err);
}

static int open_parts(struct defender *defender, struct error *err)
{
    struct workplace_role role = {.name = "defend",
                                  .drain_ms = DEFENDER_DRAIN_MS,
                                  .connected = begin_work,
                                  .streams_ready = on_streams_ready,
                                  .stream_replaced = on_stream_replaced,
                                  .changed = on_cluster_changed,
                                  .stopping = on_stopping,
                                  .overdue = say_overdue,
                                  .add_status = add_status,
                                  .write_metrics = write_metrics,
                                  .arg = defender};
    int code = workplace_open(&defender->place, &defender->options->place, &role, err);
    if (code == 0)
        code = open_charts(defender, err);
    if (code == 0)
        code = open_pipeline(defender, err);
    if (code == 0)
        code = join_cluster(defender, err);
    if (code == 0)
        code = open_weigher(defender, err);
    return code ? code : listen_for_charts(defender, err);
}

static void start_timer(struct defender *defender, uv_timer_t *timer, uv_timer_cb run, uint64_t every_ms)
{
    uv_timer_init(&defender->place.loop, timer);
    timer->data = defender;
    uv_timer_start(timer, run, every_ms, every_ms);
}

static int work(struct defender *defender, struct error *err)
{
    start_timer(defender, &defender->charts_poll, on_charts_poll, DEFENDER_CHARTS_POLL_MS);
    start_timer(defender, &defender->expire_timer, on_expire_timer, DEFENDER_EXPIRE_INTERVAL_MS);
    chartsets_refresh(defender->chartsets, on_charts_refreshed, defender);
    return workplace_run(&defender->place, err);
}

/* False when work is still under way on threads: the process is to end, and with it all that is left. */
static bool close_parts(struct defender *defender)
{
    if (defender->sweep)
        sweep_close(defender->sweep);
    if (defender->rejudge)
        rejudge_close(defender->rejudge);
    workplace_leave(&defender->place);
    if (defender->charts_poll.loop) {
        uv_close((uv_handle_t *)&defender->charts_poll, NULL);
        uv_close((uv_handle_t *)&defender->expire_timer, NULL);
    }
    workplace_disconnect(&defender->place);
    if (defender->weigher)
        weigher_close(defender->weigher);
    if (defender->place.mailbox)
        mailbox_drain(defender->place.mailbox);
    if (defender->prewarm)
        prewarm_close(defender->prewarm);
    if (defender->pipeline && !pipeline_idle(defender->pipeline))
        return false;
    if (defender->pipeline)
        pipeline_close(defender->pipeline);
    workplace_close(&defender->place);
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
    if (options->max_in_flight <= 0)
        options->max_in_flight = PIPELINE_MAX_IN_FLIGHT;
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
    int code = workplace_settle_options(&options.place, err);
    if (code)
        return code;
    struct defender *defender = calloc(1, sizeof *defender);
    if (defender == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a defender");
    defender->options = &options;
    set_compute_threads(options.compute_threads);
    code = open_parts(defender, err);
    if (code == 0)
        code = work(defender, err);
    LOG_INFO("stopped", LOG_INT("judged", defender->metrics.judged), LOG_INT("code", code));
    if (close_parts(defender))
        free(defender);
    return code;
}
