#include "http/role.h"

#include "base/clock.h"
#include "base/prometheus.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PULSE_MS = 500 };

struct http_role {
    struct http_role_options options;
    struct mailbox *mailbox;
    struct http_server *own;           /* NULL with http_role_open_routes */
    const struct http_server *counted; /* whose requests are counted */
    struct http_route routes[HTTP_ROLE_ROUTES];
    uv_timer_t pulse;
    atomic_int_fast64_t pulse_ns; /* when the loop last turned */

    pthread_mutex_t lock; /* guards what is below */
    pthread_cond_t answered;
    enum http_health health;
    char state[HTTP_STATE_BYTES];
    bool interrupted;
};

/* Somebody waits for the metrics. It belongs to both until each has let go of it. */
struct question {
    struct http_role *role;
    struct strbuf text;
    bool answered;
    int holders;
};

/* Under the lock. */
static void let_go(struct question *question)
{
    if (--question->holders > 0)
        return;
    strbuf_free(&question->text);
    free(question);
}

/* On the loop's thread. Nobody else touches the text before `answered`. */
static void run_question(void *target, void *argument)
{
    struct http_role *role = target;
    struct question *question = argument;
    if (!role->interrupted)
        role->options.write_metrics(role->options.arg, &question->text);
    pthread_mutex_lock(&role->lock);
    question->answered = true;
    pthread_cond_broadcast(&role->answered);
    let_go(question);
    pthread_mutex_unlock(&role->lock);
}

static struct timespec in_ms(int64_t ms)
{
    struct timespec when;
    clock_gettime(CLOCK_MONOTONIC, &when);
    int64_t ns = when.tv_nsec + ms * 1000000;
    when.tv_sec += (time_t)(ns / 1000000000);
    when.tv_nsec = (long)(ns % 1000000000);
    return when;
}

/* Waits for the answer and moves it into `out`. */
static bool ask(struct http_role *role, struct strbuf *out)
{
    struct question *question = calloc(1, sizeof *question);
    if (question == NULL)
        return false;
    *question = (struct question){.role = role, .holders = 2};
    strbuf_init(&question->text);
    struct timespec patience = in_ms(HTTP_METRICS_WAIT_MS);
    pthread_mutex_lock(&role->lock);
    bool go = !role->interrupted;
    if (go)
        mailbox_post(role->mailbox, run_question, role, question);
    else
        question->holders = 1;
    for (int waited = 0; go && !question->answered && !role->interrupted && waited == 0;)
        waited = pthread_cond_timedwait(&role->answered, &role->lock, &patience);
    bool answered = question->answered && !role->interrupted && !question->text.failed;
    if (answered) {
        strbuf_free(out);
        *out = question->text;
        strbuf_init(&question->text);
    }
    let_go(question);
    pthread_mutex_unlock(&role->lock);
    return answered;
}

static void add_server_metrics(const struct http_role *role, struct strbuf *out)
{
    static const char *const classes[] = {"other", "1xx", "2xx", "3xx", "4xx", "5xx"};
    struct http_statistics statistics;
    if (role->counted == NULL)
        return;
    http_server_statistics(role->counted, &statistics);
    prometheus_begin(out, "http_requests_total", PROMETHEUS_COUNTER, "Requests answered, by status.");
    for (size_t i = 2; i < sizeof classes / sizeof *classes; i++) {
        struct prometheus_label label = {"code", classes[i]};
        prometheus_add(out, "http_requests_total", &label, 1, (double)statistics.requests[i]);
    }
    prometheus_single(out, "http_connections", PROMETHEUS_GAUGE, "Connections open now.",
                      (double)statistics.connections);
}

static void on_metrics(void *arg, const struct http_request *request, struct http_response *response)
{
    (void)request;
    struct http_role *role = arg;
    if (!ask(role, &response->body)) {
        http_problem(response, 503, "the process is too busy to tell its metrics, or stopping");
        return;
    }
    response->content_type = "text/plain; version=0.0.4; charset=utf-8";
    add_server_metrics(role, &response->body);
}

/* --- health --- */

static void answer_health(struct http_response *response, bool well, const char *status, const char *state)
{
    response->status = well ? 200 : 503;
    response->content_type = "application/json";
    strbuf_printf(&response->body, "{\"status\":\"%s\",\"state\":", status);
    strbuf_add_json(&response->body, state);
    strbuf_add(&response->body, "}\n");
}

static void read_state(struct http_role *role, enum http_health *health, char state[static HTTP_STATE_BYTES])
{
    pthread_mutex_lock(&role->lock);
    *health = role->health;
    memcpy(state, role->state, HTTP_STATE_BYTES);
    pthread_mutex_unlock(&role->lock);
}

static void on_live(void *arg, const struct http_request *request, struct http_response *response)
{
    (void)request;
    struct http_role *role = arg;
    enum http_health health;
    char state[HTTP_STATE_BYTES];
    read_state(role, &health, state);
    int64_t silent_ns = clock_mono_ns() - atomic_load(&role->pulse_ns);
    bool live = silent_ns < role->options.stuck_ms * INT64_C(1000000);
    answer_health(response, live, live ? "live" : "stuck", state);
}

static void on_ready(void *arg, const struct http_request *request, struct http_response *response)
{
    (void)request;
    static const char *const names[] = {
        [HTTP_STARTING] = "starting", [HTTP_READY] = "ready", [HTTP_STOPPING] = "stopping"};
    struct http_role *role = arg;
    enum http_health health;
    char state[HTTP_STATE_BYTES];
    read_state(role, &health, state);
    answer_health(response, health == HTTP_READY, names[health], state);
}

void http_role_set_health(struct http_role *role, enum http_health health, const char *state)
{
    pthread_mutex_lock(&role->lock);
    role->health = health;
    snprintf(role->state, sizeof role->state, "%s", state);
    pthread_mutex_unlock(&role->lock);
}

/* --- life --- */

static void on_pulse(uv_timer_t *timer)
{
    struct http_role *role = timer->data;
    atomic_store(&role->pulse_ns, clock_mono_ns());
}

static struct http_role *role_new(const struct http_role_options *options, uv_loop_t *loop,
                                  struct mailbox *mailbox)
{
    struct http_role *role = calloc(1, sizeof *role);
    if (role == NULL)
        return NULL;
    role->options = *options;
    if (role->options.stuck_ms <= 0)
        role->options.stuck_ms = HTTP_STUCK_MS;
    role->mailbox = mailbox;
    role->routes[0] = (struct http_route){"GET", "/metrics", on_metrics, role};
    role->routes[1] = (struct http_route){"GET", "/health/live", on_live, role};
    role->routes[2] = (struct http_route){"GET", "/health/ready", on_ready, role};
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&role->answered, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&role->lock, NULL);
    atomic_store(&role->pulse_ns, clock_mono_ns());
    uv_timer_init(loop, &role->pulse);
    role->pulse.data = role;
    uv_timer_start(&role->pulse, on_pulse, PULSE_MS, PULSE_MS);
    uv_unref((uv_handle_t *)&role->pulse);
    return role;
}

int http_role_open_routes(const struct http_role_options *options, uv_loop_t *loop, struct mailbox *mailbox,
                          struct http_route routes[static HTTP_ROLE_ROUTES], struct http_role **out,
                          struct error *err)
{
    struct http_role *role = role_new(options, loop, mailbox);
    if (role == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the HTTP server");
    memcpy(routes, role->routes, sizeof role->routes);
    *out = role;
    return 0;
}

int http_role_open(const struct http_role_options *options, uv_loop_t *loop, struct mailbox *mailbox,
                   struct http_role **out, struct error *err)
{
    struct http_role *role = role_new(options, loop, mailbox);
    if (role == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the HTTP server");
    struct http_server_options server_options = {.bind = options->bind,
                                                 .port = options->port,
                                                 .threads = HTTP_ONE_THREAD,
                                                 .routes = role->routes,
                                                 .route_count = HTTP_ROLE_ROUTES};
    int code = http_server_open(&server_options, &role->own, err);
    if (code) {
        http_role_close(role);
        return code;
    }
    role->counted = role->own;
    *out = role;
    return 0;
}

int http_role_port(const struct http_role *role)
{
    return role->own ? http_server_port(role->own) : 0;
}

void http_role_count(struct http_role *role, const struct http_server *server)
{
    role->counted = server;
}

void http_role_interrupt(struct http_role *role)
{
    pthread_mutex_lock(&role->lock);
    role->interrupted = true;
    pthread_cond_broadcast(&role->answered);
    pthread_mutex_unlock(&role->lock);
}

static void on_closed(uv_handle_t *handle)
{
    struct http_role *role = handle->data;
    pthread_cond_destroy(&role->answered);
    pthread_mutex_destroy(&role->lock);
    free(role);
}

void http_role_close(struct http_role *role)
{
    http_role_interrupt(role);
    if (role->own)
        http_server_close(role->own);
    mailbox_drain(role->mailbox); /* questions name the role */
    uv_close((uv_handle_t *)&role->pulse, on_closed);
}
