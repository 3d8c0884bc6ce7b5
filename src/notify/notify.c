#include "notify/notify.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/prometheus.h"
#include "bus/bus.h"
#include "bus/kv.h"
#include "bus/names.h"
#include "http/role.h"
#include "notify/acknowledge.h"
#include "notify/lane.h"
#include "notify/owner.h"

#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { BUCKETS = 2, BUCKET_RETRY_MS = 500 };

struct notify {
    struct notify_options options;
    uv_loop_t loop;
    uv_signal_t signals[2];
    uv_timer_t retry;
    struct mailbox *mailbox;
    struct bus *bus;
    struct owner *owner;
    struct http_role *role;
    struct lane *lanes[NOTIFY_SINKS_MAX];
    size_t lane_count;
    struct notify_sink_metrics *metrics; /* one a lane, for /metrics */
    int64_t started_us;
    size_t buckets_made;
    bool active, stopping;
    int code;
    struct error error;
};

static void stop(struct notify *notify);

/* --- being the one at work --- */

static void set_health(struct notify *notify)
{
    if (notify->role && !notify->stopping)
        http_role_set_health(notify->role, HTTP_READY, notify->active ? "ACTIVE" : "STANDBY");
}

static void make_buckets(struct notify *notify);
static void on_retry(uv_timer_t *timer);

static void on_bucket(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    struct notify *notify = arg;
    if (notify->stopping || !owner_holds(notify->owner))
        return;
    if (code) {
        LOG_WARN("the notifier's buckets are not ready; trying again", LOG_STR("error", error->text));
        uv_timer_start(&notify->retry, on_retry, BUCKET_RETRY_MS, 0);
        return;
    }
    notify->buckets_made++;
    make_buckets(notify);
}

static void make_buckets(struct notify *notify)
{
    const char *cell = notify->options.cell;
    char bucket[NAMES_BYTES];
    if (notify->buckets_made == BUCKETS) {
        for (size_t i = 0; i < notify->lane_count; i++)
            lane_start(notify->lanes[i]);
        return;
    }
    const struct kv_spec journal = {.bucket = names_stream(cell, LANE_BUCKET, bucket),
                                    .replicas = notify->options.replicas};
    if (notify->buckets_made == 0)
        acknowledge_ensure(notify->bus, cell, notify->options.replicas, on_bucket, notify);
    else
        kv_ensure(notify->bus, &journal, on_bucket, notify);
}

static void on_retry(uv_timer_t *timer)
{
    make_buckets(timer->data);
}

static void on_won(void *arg)
{
    struct notify *notify = arg;
    LOG_INFO("at work", LOG_INT("sinks", notify->lane_count));
    notify->active = true;
    notify->buckets_made = 0;
    set_health(notify);
    make_buckets(notify);
}

static void stand_by(struct notify *notify)
{
    notify->active = false;
    uv_timer_stop(&notify->retry);
    for (size_t i = 0; i < notify->lane_count; i++)
        lane_stop(notify->lanes[i]);
    set_health(notify);
}

static void on_lost(void *arg, const char *reason)
{
    LOG_WARN("standing by: the place was lost", LOG_STR("reason", reason));
    stand_by(arg);
}

static void on_superseded(void *arg, const char *sink)
{
    struct notify *notify = arg;
    LOG_WARN("standing by: another notifier has told this sink", LOG_STR("sink", sink));
    stand_by(notify);
    owner_resign(notify->owner);
}

static void on_failed(void *arg, const struct error *error)
{
    struct notify *notify = arg;
    if (notify->code == 0) {
        notify->code = error->code;
        notify->error = *error;
    }
    stop(notify);
}

/* --- metrics --- */

static void write_metrics(void *arg, struct strbuf *out)
{
    struct notify *notify = arg;
    for (size_t i = 0; i < notify->lane_count; i++)
        lane_read_metrics(notify->lanes[i], &notify->metrics[i]);
    const struct notify_metrics metrics = {notify->active, notify->metrics, notify->lane_count};
    notify_metrics_write(&metrics, out);
    prometheus_add_process(out, notify->started_us);
}

/* --- from start to end --- */

static void close_rest(void *arg)
{
    struct notify *notify = arg;
    if (notify->role)
        http_role_close(notify->role);
    notify->role = NULL;
    bus_close(notify->bus);
    mailbox_close(notify->mailbox);
}

static void stop(struct notify *notify)
{
    if (notify->stopping)
        return;
    notify->stopping = true;
    if (notify->role)
        http_role_set_health(notify->role, HTTP_STOPPING, "STOPPING");
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&notify->signals[i], NULL);
    uv_close((uv_handle_t *)&notify->retry, NULL);
    size_t count = notify->lane_count;
    notify->lane_count = 0;
    for (size_t i = 0; i < count; i++)
        lane_close(notify->lanes[i]);
    owner_close(notify->owner, close_rest, notify);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    stop(handle->data);
}

static int open_bus(struct notify *notify, struct error *err)
{
    const struct notify_options *options = &notify->options;
    const struct bus_options bus = {.url = options->nats_url,
                                    .name = "chamberlain-notify",
                                    .credentials_file = options->credentials_file,
                                    .ca_file = options->ca_file,
                                    .certificate_file = options->certificate_file,
                                    .key_file = options->key_file};
    int code = mailbox_open(&notify->loop, &notify->mailbox, err);
    if (code)
        return code;
    return bus_open(&bus, &notify->loop, notify->mailbox, NULL, &notify->bus, err);
}

static int open_role(struct notify *notify, struct error *err)
{
    const struct http_role_options options = {.bind = notify->options.http_bind,
                                              .port = notify->options.http_port,
                                              .write_metrics = write_metrics,
                                              .arg = notify};
    if (notify->options.http_port < 0)
        return 0;
    int code = http_role_open(&options, &notify->loop, notify->mailbox, &notify->role, err);
    if (code == 0)
        LOG_INFO("metrics over HTTP", LOG_INT("port", http_role_port(notify->role)));
    return code;
}

static int open_lanes(struct notify *notify, struct error *err)
{
    const struct lane_events events = {on_superseded, on_failed, notify};
    struct lane_options options = {.bus = notify->bus,
                                   .mailbox = notify->mailbox,
                                   .cell = notify->options.cell,
                                   .config = notify->options.config,
                                   .replicas = notify->options.replicas,
                                   .ack_wait_ms = notify->options.ack_wait_ms};
    int code = 0;
    while (code == 0 && notify->lane_count < notify->options.config->sink_count) {
        options.sink = notify->lane_count;
        if (getrandom(&options.seed, sizeof options.seed, 0) != (ssize_t)sizeof options.seed)
            options.seed = (uint64_t)clock_mono_ns();
        code = lane_open(&options, &events, &notify->lanes[notify->lane_count], err);
        notify->lane_count += code == 0;
    }
    return code;
}

static int open_owner(struct notify *notify, struct error *err)
{
    const struct owner_events events = {on_won, on_lost, notify};
    char host[64] = "", name[128];
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "{\"pid\":%ld,\"host\":", (long)getpid());
    struct strbuf json;
    strbuf_init(&json);
    strbuf_add(&json, name);
    strbuf_add_json(&json, host);
    strbuf_add_char(&json, '}');
    int code = owner_open(notify->bus, notify->options.cell, notify->options.replicas, json.text, &events,
                          &notify->owner, err);
    strbuf_free(&json);
    return code;
}

/* What was opened before the owner, when opening has failed. */
static void close_early(struct notify *notify)
{
    for (size_t i = 0; i < notify->lane_count; i++)
        lane_close(notify->lanes[i]);
    notify->lane_count = 0;
    if (notify->role)
        http_role_close(notify->role);
    if (notify->bus)
        bus_close(notify->bus);
    if (notify->mailbox)
        mailbox_close(notify->mailbox);
    uv_run(&notify->loop, UV_RUN_DEFAULT);
}

static int open_parts(struct notify *notify, struct error *err)
{
    int code = open_bus(notify, err);
    if (code == 0)
        code = open_role(notify, err);
    if (code == 0)
        code = open_lanes(notify, err);
    if (code == 0)
        code = open_owner(notify, err);
    if (code)
        close_early(notify);
    return code;
}

static void start_loop(struct notify *notify)
{
    const int numbers[2] = {SIGINT, SIGTERM};
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&notify->loop, &notify->signals[i]);
        notify->signals[i].data = notify;
        uv_signal_start(&notify->signals[i], on_signal, numbers[i]);
    }
    uv_timer_init(&notify->loop, &notify->retry);
    notify->retry.data = notify;
    set_health(notify);
    uv_run(&notify->loop, UV_RUN_DEFAULT);
}

static void fill_defaults(struct notify_options *options)
{
    options->cell = options->cell ? options->cell : "";
    options->replicas = options->replicas ? options->replicas : 1;
    options->ack_wait_ms = options->ack_wait_ms ? options->ack_wait_ms : NOTIFY_ACK_WAIT_MS;
}

static int check_options(const struct notify_options *options, struct error *err)
{
    if (options->ack_wait_ms < NOTIFY_ACK_WAIT_LEAST_MS)
        return error_set(err, ERR_INVALID, "the ack wait must be at least %d ms", NOTIFY_ACK_WAIT_LEAST_MS);
    return names_check_cell(options->cell, err);
}

int notify_run(const struct notify_options *options, struct error *err)
{
    struct notify *notify = calloc(1, sizeof *notify);
    if (notify == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a notifier");
    notify->options = *options;
    fill_defaults(&notify->options);
    notify->started_us = clock_wall_us();
    notify->metrics = calloc(options->config->sink_count, sizeof *notify->metrics);
    int code = notify->metrics ? check_options(&notify->options, err)
                               : error_set(err, ERR_NO_MEMORY, "no memory for a notifier");
    uv_loop_init(&notify->loop);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (code == 0)
        code = open_parts(notify, err);
    if (code == 0) {
        start_loop(notify);
        code = notify->code;
        if (code && err)
            *err = notify->error;
        LOG_INFO("stopped", LOG_INT("code", code));
    }
    uv_loop_close(&notify->loop);
    curl_global_cleanup();
    free(notify->metrics);
    free(notify);
    return code;
}
