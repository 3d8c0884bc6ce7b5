#include "collector/collector.h"

#include "base/log.h"
#include "base/prometheus.h"
#include "bus/names.h"
#include "collector/hands.h"

#include <stdlib.h>

enum {
    DUPLICATE_WINDOW_S = 120,
    DEAD_MAX_AGE_S = 30 * 86400,
    DEAD_MAX_BYTES = 256 * 1000 * 1000,
    STREAM_COUNT = 3
};

struct collector {
    struct workplace place;
    const struct collector_options *options;
    struct hands *hands;
    struct provision_stream streams[STREAM_COUNT];
    struct collect_counts counts;
    struct histogram acquire, renew, filters;
    int64_t heartbeat_errors;
    uv_timer_t tick;
};

/* --- streams and cluster --- */

static void on_stopping(void *arg, int signal)
{
    struct collector *collector = arg;
    LOG_INFO("stopping: storing what is held", LOG_INT("signal", signal),
             LOG_INT("open", assembly_contexts(hands_assembly(collector->hands))));
}

static int say_overdue(void *arg, struct error *err)
{
    struct collector *collector = arg;
    return error_set(err, ERR_TIMEOUT,
                     "%zu contexts were still open after %d s; what is not stored will be delivered again",
                     assembly_contexts(hands_assembly(collector->hands)), COLLECTOR_DRAIN_MS / 1000);
}

static void on_connected(void *arg)
{
    struct collector *collector = arg;
    provision_begin(collector->place.provision);
}

static void on_notes_ready(void *arg)
{
    struct collector *collector = arg;
    carrier_on_connected(collector->place.carrier);
}

static void on_streams_ready(void *arg)
{
    struct collector *collector = arg;
    hands_on_connected(collector->hands, on_notes_ready, collector);
}

static void on_capacity_changed(void *arg)
{
    struct collector *collector = arg;
    workplace_on_capacity(&collector->place);
}

static void on_stream_replaced(void *arg)
{
    struct collector *collector = arg;
    hands_abandon_all(collector->hands);
}

/* Silence counts only while messages could come. */
static void on_tick(uv_timer_t *timer)
{
    struct collector *collector = timer->data;
    bool blind = !bus_is_connected(collector->place.bus) || collector->place.cluster.chambers == 0 ||
                 hands_capacity(collector->hands) == 0;
    hands_tick(collector->hands, blind);
}

/* --- status and metrics --- */

static void add_status(void *arg, struct strbuf *json)
{
    struct collector *collector = arg;
    strbuf_add(json, ",\"role\":\"collect\",");
    hands_format(collector->hands, json);
    strbuf_add(json, ",\"counts\":{");
    collect_counts_format(&collector->counts, json);
    strbuf_add_char(json, '}');
}

static void add_gauge(struct strbuf *out, const char *name, const char *help, double value)
{
    prometheus_single(out, name, PROMETHEUS_GAUGE, help, value);
}

static void write_metrics(void *arg, struct strbuf *out)
{
    struct collector *collector = arg;
    struct workplace *place = &collector->place;
    const struct assembly *assembly = hands_assembly(collector->hands);
    carrier_status(place->carrier, &place->cluster);
    struct prometheus_label labels[] = {{"version", place->options->version},
                                        {"group", place->options->group},
                                        {"role", "collect"},
                                        {"store", store_name(place->store)}};
    prometheus_begin(out, "chamberlain_build_info", PROMETHEUS_GAUGE,
                     "Always 1; the labels say which version and group this is.");
    prometheus_add(out, "chamberlain_build_info", labels, sizeof labels / sizeof *labels, 1);
    add_gauge(out, "collector_is_leader", "1 while this collector may act as leader.", place->cluster.leads);
    add_gauge(out, "collector_assigned_chambers", "Chambers owned here.", (double)place->cluster.chambers);
    add_gauge(out, "collector_nats_connected", "1 while connected to NATS.", bus_is_connected(place->bus));
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
    prometheus_add_process(out, place->started_us);
}

/* --- life --- */

static int open_hands(struct collector *collector, struct error *err)
{
    const struct collector_options *options = collector->options;
    struct workplace *place = &collector->place;
    struct hands_options hands_options = {.cell = options->place.cell,
                                          .ack_wait_ms = options->ack_wait_ms,
                                          .replicas = options->place.replicas,
                                          .assembly = {.flush_us = options->flush_us,
                                                       .gap_us = options->gap_us,
                                                       .silent_us = options->silent_us,
                                                       .context_max_us = options->context_max_us,
                                                       .buffer_bytes = (size_t)options->buffer_bytes}};
    struct hands_ports ports = {.loop = &place->loop,
                                .mailbox = place->mailbox,
                                .bus = place->bus,
                                .store = place->store,
                                .counts = &collector->counts,
                                .capacity_changed = on_capacity_changed,
                                .arg = collector};
    return hands_open(&hands_options, &ports, &collector->hands, err);
}

static void choose_streams(struct collector *collector)
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

static int join_cluster(struct collector *collector, struct error *err)
{
    struct carrier_options cluster = {.kind = {.stream = STREAM_SAMPLES,
                                               .subject_prefix = "eqp.",
                                               .subject_suffix = ".>",
                                               .bucket_prefix = "collector-",
                                               .heartbeats = "cluster.collector-heartbeat"},
                                      .cluster = {.role = "collector",
                                                  .id_ttl_ms = COLLECTOR_ID_TTL_MS,
                                                  .lease_ttl_ms = COLLECTOR_LEASE_TTL_MS},
                                      .ack_wait_ms = collector->options->ack_wait_ms,
                                      .max_ack_pending = COLLECTOR_MAX_ACK_PENDING};
    struct carrier_ports ports = {.worker = {.receive = worker_receive,
                                             .capacity = worker_capacity,
                                             .release_chamber = worker_release_chamber,
                                             .abandon_all = worker_abandon_all,
                                             .stop = worker_stop,
                                             .idle = worker_idle,
                                             .arg = collector->hands},
                                  .acquire = &collector->acquire,
                                  .renew = &collector->renew,
                                  .filters = &collector->filters,
                                  .heartbeat_errors = &collector->heartbeat_errors};
    choose_streams(collector);
    return workplace_join(&collector->place, collector->streams, STREAM_COUNT, &cluster, &ports, err);
}

static int open_parts(struct collector *collector, struct error *err)
{
    struct workplace_role role = {.name = "collect",
                                  .drain_ms = COLLECTOR_DRAIN_MS,
                                  .connected = on_connected,
                                  .streams_ready = on_streams_ready,
                                  .stream_replaced = on_stream_replaced,
                                  .stopping = on_stopping,
                                  .overdue = say_overdue,
                                  .add_status = add_status,
                                  .write_metrics = write_metrics,
                                  .arg = collector};
    int code = workplace_open(&collector->place, &collector->options->place, &role, err);
    if (code == 0)
        code = open_hands(collector, err);
    return code ? code : join_cluster(collector, err);
}

static int work(struct collector *collector, struct error *err)
{
    uv_timer_init(&collector->place.loop, &collector->tick);
    collector->tick.data = collector;
    uv_timer_start(&collector->tick, on_tick, COLLECTOR_TICK_MS, COLLECTOR_TICK_MS);
    return workplace_run(&collector->place, err);
}

/* False when work is still under way on threads: the process is to end, and with it all that is left. */
static bool close_parts(struct collector *collector)
{
    bool idle = collector->hands == NULL || hands_idle(collector->hands);
    workplace_leave(&collector->place);
    if (!idle)
        return false;
    if (collector->tick.loop)
        uv_close((uv_handle_t *)&collector->tick, NULL);
    workplace_disconnect(&collector->place);
    if (collector->hands)
        hands_close(collector->hands);
    workplace_close(&collector->place);
    return true;
}

static int64_t or_default(int64_t value, int64_t otherwise)
{
    return value > 0 ? value : otherwise;
}

static int settle_options(struct collector_options *options, struct error *err)
{
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
    return workplace_settle_options(&options->place, err);
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
    code = open_parts(collector, err);
    if (code == 0)
        code = work(collector, err);
    LOG_INFO("stopped", LOG_INT("contexts", collector->counts.contexts), LOG_INT("code", code));
    if (close_parts(collector))
        free(collector);
    return code;
}
