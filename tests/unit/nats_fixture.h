/* A real nats-server for a test program, and a connection to it that a test can step through.
 *
 * The server is found as `chamberlain up` finds it, listens on a free loopback port, keeps its streams in a
 * temporary folder and flushes every write. It is ended with the test program, however that ends. */
#ifndef CHAMBERLAIN_TESTS_NATS_FIXTURE_H
#define CHAMBERLAIN_TESTS_NATS_FIXTURE_H

#include "bus/bus.h"
#include "bus/jetstream.h"

#include <sys/types.h>
#include <uv.h>

enum { NATS_FIXTURE_PATIENCE_MS = 15000, NATS_FIXTURE_PATH_BYTES = 4096 };

struct nats_server {
    char program[NATS_FIXTURE_PATH_BYTES];
    char folder[256];
    int port;
    pid_t pid; /* 0 while it is down */
    char url[64];
};

/* Starts `program` (NULL: the one that is found) and waits until it greets. 0, or -1 after saying why on
 * standard error. */
int nats_server_open(struct nats_server *server, const char *program);
/* Ends it and removes its folder. May be called for one that never started. */
void nats_server_close(struct nats_server *server);

/* As nats_server_open, without starting: the port is chosen and free. */
int nats_server_prepare(struct nats_server *server, const char *program);
int nats_server_start(struct nats_server *server);
void nats_server_stop(struct nats_server *server); /* SIGTERM, and waits */
void nats_server_kill(struct nats_server *server); /* SIGKILL, and waits */
void nats_server_wipe(struct nats_server *server); /* forgets every stream; only while it is down */

/* The older server that scripts/setup puts into the cache for tests; NULL when it is not there. */
const char *nats_server_find_old(char path[static NATS_FIXTURE_PATH_BYTES]);

/* A loop with a bus on it. `trace` gets a letter an event: c(onnected), d(isconnected). */
struct nats_client {
    uv_loop_t loop;
    uv_timer_t pulse; /* so that the loop wakes up while a test waits */
    struct mailbox *mailbox;
    struct bus *bus;
    char trace[64];
    void (*on_connected)(void *arg); /* for a test that listens too; may be NULL */
    void (*on_disconnected)(void *arg);
    void *arg;
};

/* Opens without waiting for the connection. */
void nats_client_open(struct nats_client *client, const char *url);
/* Closes what is open and asserts that nothing is left on the loop. */
void nats_client_close(struct nats_client *client);

/* Turns the loop once, for a few milliseconds at most; false when it is later than `end_ns` (clock_mono_ns).
 */
bool nats_client_turn(struct nats_client *client, int64_t end_ns);
int64_t nats_client_end_ns(int64_t after_ms);

/* Turns the loop until the condition holds; fails the test when it does not within the patience. */
#define RUN_UNTIL(client, condition)                                                                         \
    do {                                                                                                     \
        int64_t end_ns_ = nats_client_end_ns(NATS_FIXTURE_PATIENCE_MS);                                      \
        while (!(condition))                                                                                 \
            if (!nats_client_turn((client), end_ns_))                                                        \
                fail_msg("waited in vain for: %s", #condition);                                              \
    } while (0)

#define RUN_FOR(client, ms)                                                                                  \
    do {                                                                                                     \
        int64_t end_ns_ = nats_client_end_ns(ms);                                                            \
        while (nats_client_turn((client), end_ns_)) {                                                        \
        }                                                                                                    \
    } while (0)

/* The answer to one call. */
struct heard {
    int count; /* of answers: must become 1 */
    int code;
    int api_error;
    struct error error;
    json_t *response; /* owned; see heard_forget */
};

void heard_forget(struct heard *heard);
void heard_answer(void *arg, int code, int api_error, const struct error *error, const json_t *response);

/* Calls the JetStream API and waits; returns the code. */
int nats_client_call(struct nats_client *client, const char *call, json_t *body_owned, struct heard *heard);
/* Makes a work-queue stream of a subject (deleting an earlier one of the name); asserts that it worked. */
void nats_client_make_queue(struct nats_client *client, const char *stream, const char *subject);
/* Publishes to a stream and waits; the message's sequence. */
uint64_t nats_client_publish(struct nats_client *client, const char *subject, const char *data);
/* How many messages the stream holds. */
int64_t nats_client_count(struct nats_client *client, const char *stream);

#endif
