/* A command's way to a running cluster: where its NATS and store are, and calls that wait for their answer.
 */
#ifndef CHAMBERLAIN_CLI_SESSION_H
#define CHAMBERLAIN_CLI_SESSION_H

#include "bus/bus.h"
#include "chart/chartset.h"
#include "store/store.h"

#include <jansson.h>

enum { SESSION_PATH_BYTES = 4096, SESSION_DEFAULT_TIMEOUT_MS = 5000 };

struct session {
    char nats_url[SESSION_PATH_BYTES];
    char store_url[SESSION_PATH_BYTES];
    char dir[SESSION_PATH_BYTES]; /* "" when the cluster was found by the environment */
    char cell[64];
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct bus *bus;     /* NULL when not asked for */
    struct store *store; /* likewise */
    struct store_wait *wait;
};

enum session_needs { SESSION_STORE = 1, SESSION_NATS = 2 };

/* Fills in only where the cluster is (nats_url, store_url, cell, dir), as session_open finds it.
 * ERR_NOT_FOUND, ERR_INVALID, ERR_CORRUPT. */
int session_locate(struct session *session, const char *dir, struct error *err);

/* Where the cluster is: `dir` (as `chamberlain up --dir` made it) when given, else CHAMBERLAIN_NATS and
 * CHAMBERLAIN_STORE, else the directory ./chamberlain-data. Then opens what is needed (bits of enum
 * session_needs). Errors say what to do. */
int session_open(struct session *session, const char *dir, int needs, struct error *err);
void session_close(struct session *session);

/* --- NATS, waiting --- */

/* The parsed answer of the JetStream API (the caller decrefs), or NULL with `err` set. `body` may be NULL;
 * not stolen. */
json_t *session_call(struct session *session, const char *call, const json_t *body, struct error *err);

/* One request with a JSON answer. ERR_UNAVAILABLE when nobody answers. */
json_t *session_ask(struct session *session, const char *subject, const char *question, int64_t timeout_ms,
                    struct error *err);

/* Runs the loop until *done or the time is over; false then. For callers that use session->bus themselves. */
bool session_run_until(struct session *session, const bool *done, int64_t timeout_ms);

/* Messages that wait in (or are on their way through) the notification stream. */
int session_waiting_messages(struct session *session, int64_t *count, struct error *err);

/* The status of the defenders (a JSON array; the caller decrefs). An empty array when none answers. */
json_t *session_defenders(struct session *session, struct error *err);

/* Likewise the collectors, who are a cluster of their own. */
json_t *session_collectors(struct session *session, struct error *err);

/* --- the store, waiting: the reply of the call just made, never NULL (the caller frees it) --- */

/* Usage: store_count(session.store, store_wait_done, session.wait); reply = session_reply(&session); */
struct store_reply *session_reply(struct session *session);

/* Calls `visit` for every completed context that matches `query` (paging; its cursor and limit are set here),
 * in event order. `visit` returns 0 to go on, anything else ends and is returned. Errors of the store are
 * returned with `err`. */
typedef int session_visit(void *arg, const struct store_completion *completion);
int session_each_context(struct session *session, const struct store_list_query *query, session_visit *visit,
                         void *arg, struct error *err);

#endif
