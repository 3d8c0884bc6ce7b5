/* The bus: one NATS connection, used from one libuv loop.
 *
 * Everything here is called on the loop's thread and calls back on it, through the mailbox; NATS's own
 * threads are not seen. Requests never block. The connection is kept for ever: when the server is away the
 * bus says so, answers requests at once with ERR_UNAVAILABLE, and tries again until it is back.
 *
 * Each answer has a code: 0; ERR_UNAVAILABLE (not connected, or nobody listens on that subject); ERR_TIMEOUT
 * (perhaps done); or what the JetStream API said (jetstream.h). */
#ifndef CHAMBERLAIN_BUS_BUS_H
#define CHAMBERLAIN_BUS_BUS_H

#include "base/error.h"
#include "base/mailbox.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BUS_DEFAULT_TIMEOUT_MS = 5000,
    BUS_TIMEOUT_MAX_MS = 24 * 3600 * 1000,
    BUS_RECONNECT_WAIT_MS = 100,
    BUS_SUBJECT_MAX_BYTES = 1024 /* with the terminator */
};

struct bus;
struct bus_subscription;

struct bus_options {
    const char *url;              /* "nats://127.0.0.1:4222", several separated by commas */
    const char *name;             /* shown by the server's monitoring: "defender-0" */
    const char *credentials_file; /* NULL or a .creds file (JWT and nkey) */
    const char *ca_file;          /* NULL or PEM files for TLS */
    const char *certificate_file;
    const char *key_file;
    bool
        must_be_there; /* fail when the server cannot be reached now (commands); else keep trying (daemons) */
};

struct bus_events {
    void (*connected)(void *arg);    /* first connection and every later one */
    void (*disconnected)(void *arg); /* every request in flight has been answered before this is called */
    void *arg;
};

/* A message, valid during the call it is given to. */
struct bus_message {
    const char *subject;
    const char *reply; /* "" when none is wanted */
    const char *data;  /* `length` bytes, and a terminating zero */
    size_t length;
    void *native; /* for bus_message_header */
};

struct bus_header {
    const char *key;
    const char *value;
};

/* ERR_UNAVAILABLE (must_be_there only; the text says what to check), ERR_INVALID (URL, files), ERR_NO_MEMORY.
 */
int bus_open(const struct bus_options *options, uv_loop_t *loop, struct mailbox *mailbox,
             const struct bus_events *events, struct bus **bus, struct error *err);

/* Sends what is buffered (at most a second), answers what is in flight with ERR_CLOSED, and frees, once the
 * loop turns. Drains the mailbox. Consumers and watches of this bus must have been let go of before. May be
 * called from any event or answer of the bus. */
void bus_close(struct bus *bus);

bool bus_is_connected(const struct bus *bus);

/* Grows with every connection that replaces a lost one. */
uint64_t bus_connections(const struct bus *bus);

/* Requests that wait for their answers. */
size_t bus_pending_requests(const struct bus *bus);

uv_loop_t *bus_loop(struct bus *bus);

/* The header's value, or NULL. */
const char *bus_message_header(const struct bus_message *message, const char *key);

/* The status of a message without content (100, 404, 408, 409, 503), 0 for an ordinary one. */
int bus_message_status(const struct bus_message *message);

/* Fire and forget. ERR_UNAVAILABLE when not connected (nothing is kept for later), ERR_LIMIT when too long.
 */
int bus_publish(struct bus *bus, const char *subject, const void *data, size_t length, struct error *err);

/* As bus_publish, naming where answers should go. */
int bus_publish_with_reply(struct bus *bus, const char *subject, const char *reply, const void *data,
                           size_t length, struct error *err);

/* `message` is NULL unless code is 0. */
typedef void bus_answer(void *arg, int code, const struct error *error, const struct bus_message *message);

/* Publishes with `header_count` headers and waits for one answer, timeout_ms at most (0:
 * BUS_DEFAULT_TIMEOUT_MS). `answer` runs exactly once, never before this returns. */
void bus_request(struct bus *bus, const char *subject, const struct bus_header *headers, size_t header_count,
                 const void *data, size_t length, int64_t timeout_ms, bus_answer *answer, void *arg);

typedef void bus_handler(void *arg, const struct bus_message *message);

/* Messages on `subject` (wildcards allowed) are given to `handler` until bus_unsubscribe; none comes after
 * it. */
int bus_subscribe(struct bus *bus, const char *subject, bus_handler *handler, void *arg,
                  struct bus_subscription **subscription, struct error *err);
void bus_unsubscribe(struct bus_subscription *subscription);

/* A new subject that only this connection knows, for answers: "_INBOX.x.y". */
void bus_new_inbox(struct bus *bus, char inbox[static BUS_SUBJECT_MAX_BYTES]);

#endif
