#include "defender/workplace.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "bus/names.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { STORE_RETRY_MS = 1000 };

/* --- ending --- */

static void stop_loop(struct workplace *place, int code, const struct error *error)
{
    if (place->finished)
        return;
    place->finished = true;
    place->exit_code = code;
    if (error)
        place->exit_error = *error;
    uv_stop(&place->loop);
}

static void on_cluster_stopped(void *arg)
{
    stop_loop(arg, 0, NULL);
}

static void on_drain_timeout(uv_timer_t *timer)
{
    struct workplace *place = timer->data;
    struct error err;
    int code = place->role.overdue(place->role.arg, &err);
    stop_loop(place, code, &err);
}

/* Ready from its first place (a standby has one too) until it stops. That it is degraded, or asks for its ID
 * again, is no reason to take it away: no other would do better (http/role.h). */
static void tell_health(struct workplace *place)
{
    enum cluster_state state = place->cluster.state;
    place->placed |= state == CLUSTER_STANDBY || state == CLUSTER_FOLLOWER || state == CLUSTER_LEADER;
    if (place->http == NULL)
        return;
    bool stopping = place->stopping || state == CLUSTER_SHUTDOWN || state == CLUSTER_STOPPED;
    http_role_set_health(place->http,
                         stopping        ? HTTP_STOPPING
                         : place->placed ? HTTP_READY
                                         : HTTP_STARTING,
                         cluster_state_name(state));
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct workplace *place = handle->data;
    if (place->stopping)
        return;
    place->stopping = true;
    tell_health(place);
    place->role.stopping(place->role.arg, number);
    uv_timer_start(&place->drain_timer, on_drain_timeout, (uint64_t)place->role.drain_ms, 0);
    carrier_stop(place->carrier);
}

/* --- NATS and streams --- */

void workplace_on_capacity(struct workplace *place)
{
    if (place->carrier)
        carrier_on_capacity(place->carrier);
}

static void on_streams_ready(void *arg)
{
    struct workplace *place = arg;
    place->working = true;
    place->role.streams_ready(place->role.arg);
}

static void on_streams_refused(void *arg, int code, const struct error *error)
{
    struct workplace *place = arg;
    if (!place->working)
        stop_loop(place, code, error);
    else
        LOG_ERROR("a stream has other settings now", LOG_STR("error", error->text));
}

static void on_stream_replaced(void *arg)
{
    struct workplace *place = arg;
    place->role.stream_replaced(place->role.arg);
}

static void on_connected(void *arg)
{
    struct workplace *place = arg;
    LOG_INFO("connected to NATS", LOG_STR("url", place->options->nats_url));
    place->role.connected(place->role.arg);
}

static void on_disconnected(void *arg)
{
    struct workplace *place = arg;
    LOG_WARN("NATS is away; keeping what is here, and trying again");
    provision_on_disconnected(place->provision);
    carrier_on_disconnected(place->carrier);
}

/* --- questions --- */

static void add_text_member(struct strbuf *json, const char *key, const char *value)
{
    strbuf_printf(json, ",\"%s\":", key);
    strbuf_add_json(json, value);
}

static void format_status(struct workplace *place, struct strbuf *json)
{
    char when[CLOCK_RFC3339_BYTES];
    const struct cluster_status *cluster = &place->cluster;
    carrier_status(place->carrier, &place->cluster);
    strbuf_add(json, "{\"id\":");
    strbuf_add_json(json, cluster->id);
    add_text_member(json, "version", place->options->version);
    add_text_member(json, "group", place->options->group);
    strbuf_printf(json, ",\"pid\":%ld,\"started_at\":\"%s\"", (long)getpid(),
                  clock_format_rfc3339(place->started_us, when));
    add_text_member(json, "state", cluster_state_name(cluster->state));
    add_text_member(json, "lifecycle", cluster_lifecycle_name(cluster->lifecycle));
    add_text_member(json, "leader", cluster->leader);
    strbuf_printf(json,
                  ",\"leads\":%s,\"map_version\":%llu,\"assignment\":%llu,\"chambers\":%zu,"
                  "\"members_alive\":%zu",
                  cluster->leads ? "true" : "false", (unsigned long long)cluster->map_version,
                  (unsigned long long)cluster->assignment, cluster->chambers, cluster->members_alive);
    place->role.add_status(place->role.arg, json);
    strbuf_add_char(json, '}');
}

/* A probe only wants to know that somebody is there. */
static void on_question(void *arg, const struct bus_message *message)
{
    struct workplace *place = arg;
    struct strbuf json;
    if (*message->reply == '\0')
        return;
    if (message->length == strlen("probe") && memcmp(message->data, "probe", message->length) == 0) {
        bus_publish(place->bus, message->reply, "{}", 2, NULL);
        return;
    }
    strbuf_init(&json);
    format_status(place, &json);
    bus_publish(place->bus, message->reply, json.text, json.length, NULL);
    strbuf_free(&json);
}

static int listen_as(struct workplace *place, const char *id, struct bus_subscription **subscription,
                     struct error *err)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    snprintf(own, sizeof own, "cluster.ask.%s", id);
    return bus_subscribe(place->bus, names_subject(place->options->cell, own, subject), on_question, place,
                         subscription, err);
}

/* Asked by its number too: whoever started the process does not know which ID it will get. */
static int listen_as_process(struct workplace *place, struct error *err)
{
    char process[64];
    struct bus_subscription *subscription;
    snprintf(process, sizeof process, "pid-%ld", (long)getpid());
    return listen_as(place, process, &subscription, err);
}

static void answer_as(struct workplace *place, const char *id)
{
    struct error err;
    if (place->questions)
        bus_unsubscribe(place->questions);
    place->questions = NULL;
    snprintf(place->id, sizeof place->id, "%s", id);
    if (*id && listen_as(place, id, &place->questions, &err))
        LOG_WARN("questions cannot be answered", LOG_STR("error", err.text));
}

/* The cluster's state as others see it: in the log, and on the subject of the ID. */
static void on_cluster_changed(void *arg)
{
    struct workplace *place = arg;
    struct cluster_status before = place->cluster;
    carrier_status(place->carrier, &place->cluster);
    if (place->role.changed)
        place->role.changed(place->role.arg, &before);
    tell_health(place);
    if (before.state != place->cluster.state)
        LOG_INFO("state", LOG_STR("from", cluster_state_name(before.state)),
                 LOG_STR("to", cluster_state_name(place->cluster.state)), LOG_STR("id", place->cluster.id));
    if (strcmp(place->id, place->cluster.id) != 0)
        answer_as(place, place->cluster.id);
}

/* --- life --- */

int workplace_settle_options(struct workplace_options *options, struct error *err)
{
    if (options->cell == NULL)
        options->cell = "";
    if (options->group == NULL)
        options->group = "";
    if (options->replicas <= 0)
        options->replicas = 1;
    return names_check_cell(options->cell, err);
}

static int open_store_patiently(struct workplace *place, struct error *err)
{
    for (;;) {
        int code = store_open(place->options->store_url, NULL, &place->store, err);
        if (!error_is_transient(code) || code == ERR_IO)
            return code;
        LOG_WARN("the store is away; trying again", LOG_STR("error", err->text));
        uv_sleep(STORE_RETRY_MS);
    }
}

static int open_bus(struct workplace *place, struct error *err)
{
    const struct workplace_options *options = place->options;
    char name[64];
    snprintf(name, sizeof name, "chamberlain-%s-%ld", place->role.name, (long)getpid());
    struct bus_options bus_options = {.url = options->nats_url,
                                      .name = name,
                                      .credentials_file = options->credentials_file,
                                      .ca_file = options->ca_file,
                                      .certificate_file = options->certificate_file,
                                      .key_file = options->key_file};
    struct bus_events events = {.connected = on_connected, .disconnected = on_disconnected, .arg = place};
    return bus_open(&bus_options, &place->loop, place->mailbox, &events, &place->bus, err);
}

int workplace_open(struct workplace *place, const struct workplace_options *options,
                   const struct workplace_role *role, struct error *err)
{
    place->options = options;
    place->role = *role;
    place->started_us = clock_wall_us();
    uv_loop_init(&place->loop);
    int code = open_store_patiently(place, err);
    if (code == 0)
        code = mailbox_open(&place->loop, &place->mailbox, err);
    return code ? code : open_bus(place, err);
}

/* Never the same twice, also for processes that start at one moment on one machine. */
static uint64_t make_incarnation(void)
{
    char text[64], process[32];
    snprintf(text, sizeof text, "%lld", (long long)clock_wall_us());
    snprintf(process, sizeof process, "%ld", (long)getpid());
    return hash64_texts(text, process, NULL) | 1;
}

static int open_cluster(struct workplace *place, const struct carrier_options *owners_options,
                        const struct carrier_ports *owners_ports, struct error *err)
{
    const struct workplace_options *options = place->options;
    struct carrier_options cluster = *owners_options;
    struct carrier_ports ports = *owners_ports;
    uint64_t incarnation = make_incarnation();
    int code = options->seat ? seat_take(options->seat, incarnation, &place->seat, err) : 0;
    if (code)
        return code;
    cluster.cell = options->cell;
    cluster.replicas = options->replicas;
    cluster.cluster.incarnation = incarnation;
    cluster.cluster.predecessor = place->seat.predecessor;
    cluster.cluster.version = options->version;
    cluster.cluster.group = options->group;
    cluster.cluster.pool = options->pool;
    cluster.cluster.expected_members = options->expected_members;
    ports.loop = &place->loop;
    ports.mailbox = place->mailbox;
    ports.bus = place->bus;
    ports.changed = on_cluster_changed;
    ports.stopped = on_cluster_stopped;
    ports.arg = place;
    code = carrier_open(&cluster, &ports, &place->carrier, err);
    if (code == 0)
        carrier_status(place->carrier, &place->cluster);
    return code;
}

static int open_http(struct workplace *place, struct error *err)
{
    const struct workplace_options *options = place->options;
    if (options->http_port == 0)
        return 0;
    struct http_role_options http_options = {.bind = options->http_bind,
                                             .port = options->http_port,
                                             .write_metrics = place->role.write_metrics,
                                             .arg = place->role.arg};
    int code = http_role_open(&http_options, &place->loop, place->mailbox, &place->http, err);
    if (code == 0)
        tell_health(place);
    return code;
}

int workplace_join(struct workplace *place, const struct provision_stream *streams, size_t stream_count,
                   const struct carrier_options *cluster, const struct carrier_ports *ports,
                   struct error *err)
{
    struct provision_events events = {.ready = on_streams_ready,
                                      .refused = on_streams_refused,
                                      .replaced = on_stream_replaced,
                                      .arg = place};
    int code = provision_open(place->bus, &place->loop, place->options->cell, place->options->replicas,
                              streams, stream_count, &events, &place->provision, err);
    if (code == 0)
        code = open_cluster(place, cluster, ports, err);
    if (code == 0)
        code = open_http(place, err);
    return code ? code : listen_as_process(place, err);
}

static void start_signals(struct workplace *place)
{
    uv_timer_init(&place->loop, &place->drain_timer);
    uv_signal_init(&place->loop, &place->term);
    uv_signal_init(&place->loop, &place->interrupt);
    place->drain_timer.data = place->term.data = place->interrupt.data = place;
    uv_signal_start(&place->term, on_signal, SIGTERM);
    uv_signal_start(&place->interrupt, on_signal, SIGINT);
}

int workplace_run(struct workplace *place, struct error *err)
{
    start_signals(place);
    uv_run(&place->loop, UV_RUN_DEFAULT);
    if (place->exit_code && err)
        *err = place->exit_error;
    return place->exit_code;
}

void workplace_leave(struct workplace *place)
{
    if (place->http)
        http_role_close(place->http);
    if (place->carrier)
        carrier_close(place->carrier);
    if (place->provision)
        provision_close(place->provision);
}

void workplace_disconnect(struct workplace *place)
{
    if (place->bus)
        bus_close(place->bus);
    if (place->drain_timer.loop) {
        uv_close((uv_handle_t *)&place->drain_timer, NULL);
        uv_close((uv_handle_t *)&place->term, NULL);
        uv_close((uv_handle_t *)&place->interrupt, NULL);
    }
    if (place->store)
        store_close(place->store);
}

void workplace_close(struct workplace *place)
{
    if (place->mailbox)
        mailbox_close(place->mailbox);
    uv_run(&place->loop, UV_RUN_DEFAULT);
    uv_loop_close(&place->loop);
}
