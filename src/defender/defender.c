#include "defender/defender.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/consumer.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "defender/ownership.h"
#include "defender/pipeline.h"
#include "defender/sweep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    PROVISION_RETRY_MS = 500,
    STORE_RETRY_MS = 1000,
    EXPIRE_BATCH = 200,
    STREAM_DUPLICATE_WINDOW_S = 120,
    ALARM_DUPLICATE_WINDOW_S = 3600,
    ALARM_MAX_AGE_S = 90 * 86400,
    DEAD_MAX_AGE_S = 365 * 86400,
    STREAM_COUNT = 3
};

enum defender_state { STATE_INIT, STATE_DEGRADED, STATE_STABLE, STATE_SHUTDOWN };

static const char *const state_names[] = {"INIT", "DEGRADED", "STABLE", "SHUTDOWN"};

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
    struct consumer *consumer;
    struct sweep *sweep;
    struct metrics metrics;
    struct ownership ownership;
    enum defender_state state;
    int64_t started_us;

    bool charts_known;  /* which chart file is in force, or that none is: before that nothing may be judged */
    size_t provisioned; /* streams that are known to be there, in the order of stream_spec_at */
    bool provisioning;
    char stream_created[64]; /* of dc-notifications: another value is another stream */

    uv_signal_t term, interrupt;
    uv_timer_t retry, charts_poll, expire_timer, drain_timer;
    bool expiring, finished;
    int exit_code;
    struct error exit_error;
};

static void provision(struct defender *defender);

static void set_state(struct defender *defender, enum defender_state state)
{
    if (defender->state == state || defender->state == STATE_SHUTDOWN)
        return;
    LOG_INFO("state", LOG_STR("from", state_names[defender->state]), LOG_STR("to", state_names[state]));
    defender->state = state;
}

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

static void finish_if_idle(struct defender *defender)
{
    if (defender->state == STATE_SHUTDOWN && pipeline_idle(defender->pipeline))
        stop_loop(defender, 0, NULL);
}

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
    if (defender->state == STATE_SHUTDOWN)
        return;
    LOG_INFO("stopping: finishing what is in flight", LOG_INT("signal", number),
             LOG_INT("in_flight", pipeline_in_flight(defender->pipeline)));
    set_state(defender, STATE_SHUTDOWN);
    if (defender->consumer)
        consumer_want(defender->consumer, 0);
    pipeline_stop(defender->pipeline);
    uv_timer_start(&defender->drain_timer, on_drain_timeout, DEFENDER_DRAIN_MS, 0);
    finish_if_idle(defender);
}

/* --- the message flow --- */

static void on_capacity_changed(void *arg)
{
    struct defender *defender = arg;
    if (defender->state == STATE_STABLE)
        consumer_want(defender->consumer, pipeline_capacity(defender->pipeline));
    finish_if_idle(defender);
}

static void on_message(void *arg, const struct consumer_message *message)
{
    struct defender *defender = arg;
    pipeline_receive(defender->pipeline, message);
}

static void on_consumer_lost(void *arg, const char *reason)
{
    struct defender *defender = arg;
    if (defender->state == STATE_SHUTDOWN)
        return;
    LOG_WARN("consumer lost; making it anew", LOG_STR("reason", reason));
    set_state(defender, STATE_DEGRADED);
    provision(defender);
}

static void on_stream_missing(void *arg)
{
    struct defender *defender = arg;
    if (defender->state != STATE_SHUTDOWN && bus_is_connected(defender->bus))
        provision(defender);
}

/* --- streams and consumer: made when absent, at every connection --- */

static struct stream_spec stream_spec_at(const struct defender *defender, size_t i,
                                         char name[static NAMES_BYTES], char subject[static NAMES_BYTES])
{
    static const struct {
        const char *name, *subject, *retention;
        int64_t max_age_s, duplicate_window_s;
    } streams[STREAM_COUNT] = {
        {STREAM_NOTIFICATIONS, "dc.>", "workqueue", 0, STREAM_DUPLICATE_WINDOW_S},
        {STREAM_DEAD, "dead.>", "limits", DEAD_MAX_AGE_S, STREAM_DUPLICATE_WINDOW_S},
        {STREAM_ALARMS, "alarms.>", "limits", ALARM_MAX_AGE_S, ALARM_DUPLICATE_WINDOW_S},
    };
    return (struct stream_spec){.name = names_stream(defender->cell, streams[i].name, name),
                                .subject = names_subject(defender->cell, streams[i].subject, subject),
                                .retention = streams[i].retention,
                                .max_age_s = streams[i].max_age_s,
                                .duplicate_window_s = streams[i].duplicate_window_s,
                                .replicas = defender->options->replicas};
}

static void on_retry(uv_timer_t *timer)
{
    provision(timer->data);
}

static void provision_failed(struct defender *defender, int code, const struct error *error)
{
    defender->provisioning = false;
    if (defender->state == STATE_SHUTDOWN || code == ERR_CLOSED)
        return;
    if (code == ERR_CONFLICT && defender->state == STATE_INIT) {
        stop_loop(defender, code, error);
        return;
    }
    LOG_WARN("streams or consumer not ready; trying again", LOG_STR("error", error->text));
    uv_timer_start(&defender->retry, on_retry, PROVISION_RETRY_MS, 0);
}

static void on_filters_in_force(void *arg, int code, const struct error *error)
{
    struct defender *defender = arg;
    if (code) {
        provision_failed(defender, code, error);
        return;
    }
    defender->provisioning = false;
    set_state(defender, STATE_STABLE);
    on_capacity_changed(defender);
}

static void make_consumer(struct defender *defender)
{
    if (defender->consumer == NULL) {
        char stream[NAMES_BYTES];
        struct error err;
        struct consumer_options options = {
            .stream = names_stream(defender->cell, STREAM_NOTIFICATIONS, stream),
            .durable = defender->options->id,
            .ack_wait_ms = defender->options->ack_wait_ms,
            .max_ack_pending = (int64_t)defender->options->max_in_flight * PIPELINE_HELD_PER_IN_FLIGHT * 2,
            .replicas = defender->options->replicas};
        struct consumer_events events = {.message = on_message, .lost = on_consumer_lost, .arg = defender};
        int code = consumer_new(defender->bus, &options, &events, &defender->consumer, &err);
        if (code) {
            provision_failed(defender, code, &err);
            return;
        }
    }
    consumer_set_filters(defender->consumer, defender->ownership.filters, defender->ownership.count,
                         on_filters_in_force, defender);
}

/* A stream with another birthday is another stream: its sequences mean other messages. */
static void note_stream(struct defender *defender, const json_t *response)
{
    const char *created = json_string_value(json_object_get(response, "created"));
    if (created == NULL)
        return;
    if (defender->stream_created[0] && strcmp(defender->stream_created, created) != 0) {
        LOG_WARN("the notification stream was created anew; what was waiting comes from the store's outbox");
        pipeline_on_stream_replaced(defender->pipeline);
    }
    snprintf(defender->stream_created, sizeof defender->stream_created, "%s", created);
}

static void next_stream(struct defender *defender);

static void on_stream_ready(void *arg, int code, int api_error, const struct error *error,
                            const json_t *response)
{
    (void)api_error;
    struct defender *defender = arg;
    if (code) {
        provision_failed(defender, code, error);
        return;
    }
    if (defender->provisioned == 0)
        note_stream(defender, response);
    defender->provisioned++;
    next_stream(defender);
}

static void next_stream(struct defender *defender)
{
    if (defender->provisioned == STREAM_COUNT) {
        make_consumer(defender);
        return;
    }
    char name[NAMES_BYTES], subject[NAMES_BYTES];
    struct stream_spec spec = stream_spec_at(defender, defender->provisioned, name, subject);
    stream_ensure(defender->bus, &spec, on_stream_ready, defender);
}

static void provision(struct defender *defender)
{
    if (defender->provisioning || defender->state == STATE_SHUTDOWN || !defender->charts_known ||
        !bus_is_connected(defender->bus))
        return;
    uv_timer_stop(&defender->retry);
    defender->provisioning = true;
    defender->provisioned = 0;
    next_stream(defender);
}

static void on_connected(void *arg)
{
    struct defender *defender = arg;
    LOG_INFO("connected to NATS", LOG_STR("url", defender->options->nats_url));
    provision(defender);
}

static void on_disconnected(void *arg)
{
    struct defender *defender = arg;
    LOG_WARN("NATS is away; keeping what is here, and trying again");
    defender->provisioning = false;
    if (defender->consumer)
        consumer_on_disconnected(defender->consumer);
    set_state(defender, STATE_DEGRADED);
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
        provision(defender);
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
    if (more && defender->state != STATE_SHUTDOWN)
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
    if (defender->expiring || !defender->ownership.leads)
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

static void format_status(struct defender *defender, struct strbuf *json)
{
    char when[CLOCK_RFC3339_BYTES];
    struct cache_statistics cache;
    cache_read_statistics(defender->cache, &cache);
    strbuf_add(json, "{\"id\":");
    strbuf_add_json(json, defender->options->id);
    strbuf_add(json, ",\"version\":");
    strbuf_add_json(json, defender->options->version);
    strbuf_printf(json, ",\"pid\":%ld,\"state\":\"%s\",\"leads\":%s,\"started_at\":\"%s\"", (long)getpid(),
                  state_names[defender->state], defender->ownership.leads ? "true" : "false",
                  clock_format_rfc3339(defender->started_us, when));
    strbuf_printf(json, ",\"chart_set\":\"%016" PRIx64 "\",\"held\":%lld,\"in_flight\":%lld,",
                  chartsets_current_id(defender->chartsets), (long long)pipeline_held(defender->pipeline),
                  (long long)pipeline_in_flight(defender->pipeline));
    strbuf_printf(
        json, "\"cache\":{\"hits\":%lld,\"misses\":%lld,\"evictions\":%lld,\"rows\":%lld,\"bytes\":%lld},",
        (long long)cache.hits, (long long)cache.misses, (long long)cache.evictions, (long long)cache.rows,
        (long long)cache.bytes);
    metrics_format(&defender->metrics, json);
    strbuf_add_char(json, '}');
}

static void on_question(void *arg, const struct bus_message *message)
{
    struct defender *defender = arg;
    struct strbuf json;
    strbuf_init(&json);
    format_status(defender, &json);
    if (*message->reply)
        bus_publish(defender->bus, message->reply, json.text, json.length, NULL);
    strbuf_free(&json);
}

static int listen_for_questions(struct defender *defender, struct error *err)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    struct bus_subscription *subscription;
    snprintf(own, sizeof own, "cluster.ask.%s", defender->options->id);
    int code = bus_subscribe(defender->bus, names_subject(defender->cell, own, subject), on_question,
                             defender, &subscription, err);
    if (code == 0)
        code = bus_subscribe(defender->bus, names_subject(defender->cell, "cluster.charts", subject),
                             on_charts_notice, defender, &subscription, err);
    return code;
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

static int open_parts(struct defender *defender, struct error *err)
{
    const struct defender_options *options = defender->options;
    int code = open_store_patiently(defender, err);
    if (code == 0)
        code = cache_open((size_t)options->cache_bytes, &defender->cache, err);
    if (code == 0)
        code = mailbox_open(&defender->loop, &defender->mailbox, err);
    if (code == 0)
        code = chartsets_open(defender->store, defender->mailbox, &defender->chartsets, err);
    if (code)
        return code;
    struct bus_options bus_options = {.url = options->nats_url,
                                      .name = options->id,
                                      .credentials_file = options->credentials_file,
                                      .ca_file = options->ca_file,
                                      .certificate_file = options->certificate_file,
                                      .key_file = options->key_file};
    struct bus_events events = {.connected = on_connected, .disconnected = on_disconnected, .arg = defender};
    code = bus_open(&bus_options, &defender->loop, defender->mailbox, &events, &defender->bus, err);
    if (code)
        return code;
    struct pipeline_options pipeline_options = {.cell = defender->cell,
                                                .defender_id = options->id,
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
                                   .arg = defender};
    code = pipeline_open(&pipeline_options, &ports, &defender->pipeline, err);
    struct sweep_ports sweep_ports = {&defender->loop, defender->mailbox,  defender->bus,
                                      defender->store, defender->pipeline, &defender->metrics};
    if (code == 0 && defender->ownership.leads)
        code = sweep_open(&sweep_ports, defender->cell, options->sweep_age_ms, options->sweep_interval_ms,
                          &defender->sweep, err);
    return code ? code : listen_for_questions(defender, err);
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
    start_timer(defender, &defender->retry, NULL, 0);
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
    if (defender->sweep)
        sweep_close(defender->sweep);
    if (defender->consumer)
        consumer_free(defender->consumer);
    if (defender->bus)
        bus_close(defender->bus);
    uv_timer_t *timers[] = {&defender->retry, &defender->drain_timer, &defender->charts_poll,
                            &defender->expire_timer};
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
    if (options->id == NULL)
        options->id = "defender-0";
    if (options->cell == NULL)
        options->cell = "";
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
    ownership_take_all(&defender->ownership, options.cell);
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
