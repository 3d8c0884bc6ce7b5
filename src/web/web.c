#include "web/web.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/prometheus.h"
#include "bus/names.h"
#include "http/role.h"
#include "notify/acknowledge.h"
#include "web/api.h"
#include "web/files.h"
#include "web/live.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { STORE_RETRY_MS = 1000, BUCKET_RETRY_MS = 2000, READER_THREADS = 4 };

struct web {
    const struct web_options *options;
    const char *cell;
    int64_t started_us;
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct store *store;
    struct stored_charts charts;
    bool charts_open;
    struct events *events;
    struct board *board;
    struct live *live;
    struct kv_watch *acknowledged;
    struct api api;
    struct http_role *role;
    struct http_server *server;
    struct http_route routes[API_ROUTES_MAX + HTTP_ROLE_ROUTES + 1];
    uv_signal_t term, interrupt;
    uv_timer_t bucket_retry;
};

/* --- the bucket of acknowledgements --- */

static void make_bucket(struct web *web);

static void on_bucket_retry(uv_timer_t *timer)
{
    struct web *web = timer->data;
    if (bus_is_connected(web->bus))
        make_bucket(web);
}

static void on_bucket(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    struct web *web = arg;
    if (code == 0 || code == ERR_CLOSED || !web->bucket_retry.loop ||
        uv_is_closing((uv_handle_t *)&web->bucket_retry))
        return;
    LOG_DEBUG("no bucket for acknowledgements yet", LOG_STR("error", error->text));
    uv_timer_start(&web->bucket_retry, on_bucket_retry, BUCKET_RETRY_MS, 0);
}

static void make_bucket(struct web *web)
{
    acknowledge_ensure(web->bus, web->cell, 1, on_bucket, web);
}

static void on_acknowledged(void *arg, const struct kv_entry *entry)
{
    struct web *web = arg;
    struct acknowledgement acknowledgement;
    if (entry->operation != KV_PUT)
        board_on_acknowledged(web->board, entry->key, NULL, NULL, 0);
    else if (acknowledge_parse(entry->value, entry->length, &acknowledgement, NULL) == 0)
        board_on_acknowledged(web->board, entry->key, acknowledgement.by, acknowledgement.comment,
                              acknowledgement.at_us);
}

static int watch_acknowledged(struct web *web, struct error *err)
{
    char bucket[NAMES_BYTES];
    struct kv_watch_events events = {.entry = on_acknowledged, .arg = web};
    return kv_watch_start(web->bus, names_stream(web->cell, ACKNOWLEDGE_BUCKET, bucket), ">", &events,
                          &web->acknowledged, err);
}

/* --- NATS --- */

static void on_connected(void *arg)
{
    struct web *web = arg;
    LOG_INFO("connected to NATS", LOG_STR("url", web->options->nats_url));
    make_bucket(web);
    if (web->live)
        live_on_connected(web->live);
}

static void on_disconnected(void *arg)
{
    struct web *web = arg;
    LOG_WARN("NATS is away; showing what was last known, and trying again");
    if (web->live)
        live_on_disconnected(web->live);
}

static int open_bus(struct web *web, struct error *err)
{
    const struct web_options *options = web->options;
    struct bus_options bus_options = {.url = options->nats_url,
                                      .name = "chamberlain-web",
                                      .credentials_file = options->credentials_file,
                                      .ca_file = options->ca_file,
                                      .certificate_file = options->certificate_file,
                                      .key_file = options->key_file};
    struct bus_events events = {.connected = on_connected, .disconnected = on_disconnected, .arg = web};
    return bus_open(&bus_options, &web->loop, web->mailbox, &events, &web->bus, err);
}

static int open_live(struct web *web, struct error *err)
{
    struct live_ports ports = {.loop = &web->loop,
                               .mailbox = web->mailbox,
                               .bus = web->bus,
                               .store = web->store,
                               .board = web->board,
                               .cell = web->cell};
    int code = live_open(&ports, &web->live, err);
    if (code == 0 && bus_is_connected(web->bus))
        live_on_connected(web->live);
    return code ? code : watch_acknowledged(web, err);
}

/* --- metrics --- */

static void write_metrics(void *arg, struct strbuf *out)
{
    struct web *web = arg;
    struct prometheus_label labels[] = {{"version", web->options->version}, {"group", ""}, {"role", "web"}};
    prometheus_begin(out, "chamberlain_build_info", PROMETHEUS_GAUGE,
                     "Always 1; the labels say which version and group this is.");
    prometheus_add(out, "chamberlain_build_info", labels, sizeof labels / sizeof *labels, 1);
    board_write_metrics(web->board, clock_wall_us(), out);
    prometheus_single(out, "web_event_readers", PROMETHEUS_GAUGE, "Readers of /api/v1/events.",
                      (double)events_readers(web->events));
    prometheus_add_process(out, web->started_us);
}

/* --- HTTP --- */

static int open_http(struct web *web, struct error *err)
{
    struct http_role_options role_options = {.write_metrics = write_metrics, .arg = web};
    web->api = (struct api){.board = web->board,
                            .events = web->events,
                            .store = web->store,
                            .charts = &web->charts,
                            .mailbox = web->mailbox,
                            .bus = web->bus,
                            .cell = web->cell};
    size_t count = api_routes(&web->api, web->routes);
    int code =
        http_role_open_routes(&role_options, &web->loop, web->mailbox, web->routes + count, &web->role, err);
    if (code)
        return code;
    count += HTTP_ROLE_ROUTES;
    web->routes[count++] = (struct http_route){"GET", "*", files_answer, NULL};
    struct http_server_options options = {.bind = web->options->bind,
                                          .port = web->options->port,
                                          .threads = HTTP_THREAD_PER_CONNECTION,
                                          .routes = web->routes,
                                          .route_count = count};
    code = http_server_open(&options, &web->server, err);
    if (code)
        return code;
    http_role_count(web->role, web->server);
    http_role_set_health(web->role, HTTP_READY, "SERVING");
    LOG_INFO("serving", LOG_STR("bind", options.bind ? options.bind : "127.0.0.1"),
             LOG_INT("port", http_server_port(web->server)));
    if (web->options->listening)
        web->options->listening(web->options->arg, http_server_port(web->server));
    return 0;
}

/* --- life --- */

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct web *web = handle->data;
    http_role_set_health(web->role, HTTP_STOPPING, "STOPPING");
    uv_stop(&web->loop);
}

static int open_store_patiently(struct web *web, struct error *err)
{
    struct store_options options = {.reader_threads = READER_THREADS};
    for (;;) {
        int code = store_open(web->options->store_url, &options, &web->store, err);
        if (!error_is_transient(code) || code == ERR_IO)
            return code;
        LOG_WARN("the store is away; trying again", LOG_STR("error", err->text));
        uv_sleep(STORE_RETRY_MS);
    }
}

static int open_parts(struct web *web, struct error *err)
{
    const char *store = web->options->store_url;
    const char *kind = strncmp(store, "sqlite:", strlen("sqlite:")) == 0 ? "sqlite" : "cassandra";
    web->events = events_new();
    web->board = web->events ? board_new(web->options->version, web->cell, kind, web->events) : NULL;
    if (web->board == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the web server");
    int code = open_store_patiently(web, err);
    if (code == 0)
        code = mailbox_open(&web->loop, &web->mailbox, err);
    if (code)
        return code;
    stored_charts_init(&web->charts, web->store);
    web->charts_open = true;
    code = open_bus(web, err);
    if (code == 0)
        code = open_live(web, err);
    return code ? code : open_http(web, err);
}

static void start_loop(struct web *web)
{
    uv_signal_init(&web->loop, &web->term);
    uv_signal_init(&web->loop, &web->interrupt);
    web->term.data = web->interrupt.data = web;
    uv_signal_start(&web->term, on_signal, SIGTERM);
    uv_signal_start(&web->interrupt, on_signal, SIGINT);
}

/* From the outside in: first nobody asks any more, then nothing is told, then what was asked comes to its
 * end. */
static void close_parts(struct web *web)
{
    if (web->events)
        events_stop(web->events);
    if (web->role)
        http_role_interrupt(web->role);
    if (web->server)
        http_server_close(web->server);
    if (web->role)
        http_role_close(web->role);
    if (web->live)
        live_close(web->live);
    if (web->acknowledged)
        kv_watch_stop(web->acknowledged);
    if (web->bus)
        bus_close(web->bus);
    if (web->term.loop) {
        uv_close((uv_handle_t *)&web->term, NULL);
        uv_close((uv_handle_t *)&web->interrupt, NULL);
    }
    uv_close((uv_handle_t *)&web->bucket_retry, NULL);
    if (web->store)
        store_close(web->store);
    if (web->mailbox)
        mailbox_close(web->mailbox);
    uv_run(&web->loop, UV_RUN_DEFAULT);
    uv_loop_close(&web->loop);
    if (web->live)
        live_free(web->live);
    if (web->charts_open)
        stored_charts_free(&web->charts);
    if (web->board)
        board_free(web->board);
    if (web->events)
        events_free(web->events);
}

int web_run(const struct web_options *options, struct error *err)
{
    const char *cell = options->cell ? options->cell : "";
    int code = names_check_cell(cell, err);
    if (code)
        return code;
    struct web *web = calloc(1, sizeof *web);
    if (web == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the web server");
    web->options = options;
    web->cell = cell;
    web->started_us = clock_wall_us();
    uv_loop_init(&web->loop);
    uv_timer_init(&web->loop, &web->bucket_retry);
    web->bucket_retry.data = web;
    code = open_parts(web, err);
    if (code == 0) {
        start_loop(web);
        uv_run(&web->loop, UV_RUN_DEFAULT);
    }
    close_parts(web);
    free(web);
    return code;
}
