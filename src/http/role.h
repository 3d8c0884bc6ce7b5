/* The doors that every role has: /metrics, /health/live, /health/ready. For a process that works on one libuv
 * loop.
 *
 * Whoever asks for /metrics is answered from the loop's own thread: a letter goes to its mailbox, the loop
 * writes the text, and the asking thread takes it. So what is counted needs no lock, costs nothing when
 * nobody asks, and is as of now.
 *
 * live    200 as long as the loop turns; 503 `stuck` after HTTP_STUCK_MS without: restart it.
 * ready   200 from http_role_set_health(READY) until STOPPING: the process has begun its work. That NATS or
 * the store is away does not change it: no other process would do better, and the orchestrator must not take
 * all away at once for what none of them can mend. */
#ifndef CHAMBERLAIN_HTTP_ROLE_H
#define CHAMBERLAIN_HTTP_ROLE_H

#include "base/mailbox.h"
#include "http/server.h"

enum {
    HTTP_STUCK_MS = 10 * 1000,
    HTTP_METRICS_WAIT_MS = 2000, /* for the loop to write them; then 503 */
    HTTP_STATE_BYTES = 32
};

struct http_role;

enum http_health { HTTP_STARTING, HTTP_READY, HTTP_STOPPING };

struct http_role_options {
    const char *bind; /* NULL: 127.0.0.1 */
    int port;         /* 0: a free one */
    int64_t stuck_ms; /* 0: HTTP_STUCK_MS */

    /* On the loop's thread: writes everything for /metrics. What the server itself counted is added. */
    void (*write_metrics)(void *arg, struct strbuf *out);
    void *arg;
};

/* Listens from now on; `starting`. Errors as http_server_open. */
int http_role_open(const struct http_role_options *options, uv_loop_t *loop, struct mailbox *mailbox,
                   struct http_role **role, struct error *err);

int http_role_port(const struct http_role *role);

/* What the probes are told; `state` is for people ("FOLLOWER"), cut to HTTP_STATE_BYTES. On the loop's
 * thread. */
void http_role_set_health(struct http_role *role, enum http_health health, const char *state);

/* On the loop's thread, before the mailbox is closed. Whoever waits for metrics gets 503. */
void http_role_close(struct http_role *role);

/* --- the parts, for a server with more routes (src/web) --- */

/* The three routes; valid until the role is closed. */
enum { HTTP_ROLE_ROUTES = 3 };

/* As http_role_open without a server of its own: `routes` takes the three. */
int http_role_open_routes(const struct http_role_options *options, uv_loop_t *loop, struct mailbox *mailbox,
                          struct http_route routes[static HTTP_ROLE_ROUTES], struct http_role **role,
                          struct error *err);

/* The server whose counts belong into the metrics, closed by whoever opened it: after
 * http_role_interrupt, before http_role_close. */
void http_role_count(struct http_role *role, const struct http_server *server);

/* Nobody waits for the loop any more from now on. */
void http_role_interrupt(struct http_role *role);

#endif
