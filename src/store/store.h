/* The store: T-charts, the outbox of completed contexts, U-charts and chart sets, behind one interface.
 *
 * Every call is asynchronous: it returns at once, and `done(arg, reply)` runs exactly once, on a thread of
 * the store, with a reply that the receiver owns and gives back with store_reply_free. (Only when there is no
 * memory for the call itself does `done` run before it returns, with ERR_NO_MEMORY.) No lock is held while
 * `done` runs, but the calls behind it wait for it: it hands the reply on and returns. It may make further
 * calls; it may not close the store. What a call is given (texts, bytes, arrays) is borrowed until `done`
 * runs; a single key, query, completion, chunk or U-chart struct is copied, what it points to is not. Calls
 * may come from any thread. Calls of one thread on the same context are carried out in their order. All
 * writes are idempotent: the same call again gives the same state. At most STORE_QUEUE_MAX_CALLS reads and as
 * many writes wait at a time: beyond that a call is answered ERR_UNAVAILABLE.
 *
 * The store is the truth about what must be judged (the announcement is only a hint): a context enters the
 * outbox together with its last chunk, and leaves it together with its U-chart or its dead mark, each in one
 * atomic step.
 *
 * Errors in a reply: ERR_UNAVAILABLE (away, busy, locked: try again), ERR_TIMEOUT (perhaps done: try again),
 * ERR_IO (disk full, permission, broken device: the text says which), ERR_CORRUPT (stored data cannot be
 * read), ERR_NOT_FOUND, ERR_CONFLICT, ERR_LIMIT, ERR_INVALID, ERR_NO_MEMORY, ERR_CLOSED. A failed write has
 * left nothing half written. */
#ifndef CHAMBERLAIN_STORE_STORE_H
#define CHAMBERLAIN_STORE_STORE_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    STORE_CHUNK_MAX_BYTES = 8 * 1024 * 1024, /* of one T-chart blob */
    STORE_CHUNKS_MAX = 4096,                 /* of one context */
    STORE_LIST_MAX = 10000,                  /* rows of one reply: page with the cursor */
    STORE_BULK_MAX_ROWS = 100000, /* rows of one fetch_history_bulk: ask for fewer keys at a time */
    STORE_QUEUE_MAX_CALLS = 4096  /* reads, or writes, that wait for a thread of the store */
};

struct store;

/* Which context: tool and chamber say where it is kept. */
struct store_key {
    const char *tool;
    const char *chamber;
    const char *context_id;
};

struct store_chunk {
    int32_t index; /* 0, 1, 2, ... */
    const void *bytes;
    size_t length;
};

enum store_state { STORE_PENDING, STORE_JUDGED, STORE_DEAD };

/* A completed context: what the outbox holds. */
struct store_completion {
    struct store_key key;
    const char *recipe;
    const char *lot;
    int64_t end_us;       /* of the run: event time */
    int64_t completed_us; /* wall clock when it was completed: ingest time; 0: now */
    int32_t chunk_count;
    const char *announcement; /* the context as JSON (context.h) */
    enum store_state state;   /* in replies only */
    const char *dead_reason;  /* in replies only; "" unless dead */
};

/* A stored U-chart: see uchart.h for the two byte strings. */
struct store_uchart {
    struct store_key key;
    const char *recipe;
    int64_t end_us;
    int64_t judged_us;   /* wall clock; not part of what verify compares */
    uint64_t chart_set;  /* id of the chart file that judged it */
    int32_t alarm_count; /* indicators that alarmed */
    int32_t severity;    /* the worst (enum severity) */
    const void *points;
    size_t points_length;
    const void *verdicts; /* NULL in history replies that did not ask for them */
    size_t verdicts_length;
    bool degraded; /* given to a write: judged from degraded replies, to be judged again (a failover store) */
};

/* What is owed: a row that outlives every process, until it is cleared. A failover store (failover.h) writes
 * and pays them; any store keeps them. */
enum store_debt_kind {
    STORE_DEBT_COPY,      /* what this store has of the context is to be copied to the primary */
    STORE_DEBT_CHART_SET, /* the same for a chart set: context_id is its id in hexadecimal digits */
    STORE_DEBT_JUDGE, /* the context is to be judged again: its verdict was made from less than everything */
    STORE_DEBT_PROBE  /* nothing is owed: written to see whether the store takes writes */
};

struct store_debt {
    enum store_debt_kind kind;
    struct store_key key;
    int64_t at_us;  /* its place in lists: when it was put, or (JUDGE) the end of the run */
    int64_t put_us; /* wall clock */
    uint64_t owner; /* who put it */
};

/* A stretch of one chamber's history, by event order (end_us, context_id). */
struct store_history_query {
    const char *tool;
    const char *chamber;
    const char *recipe;
    int64_t end_us; /* the context the stretch starts from; itself never included */
    const char *context_id;
    bool later;    /* false: earlier contexts, newest first. true: later ones, oldest first */
    bool verdicts; /* give the verdicts too */
    size_t limit;  /* at most STORE_LIST_MAX */
};

/* Which completed contexts to list, by event order. NULL or 0 where it does not matter. */
struct store_list_query {
    const char *tool, *chamber, *recipe, *lot;
    int64_t from_end_us, to_end_us; /* from <= end_us < to; to 0: no bound */
    int64_t after_end_us;           /* cursor: the last row of the page before */
    const char *after_context_id;   /* NULL: first page */
    size_t limit;
};

struct store_counts {
    int64_t completed; /* contexts the store has been told are complete (and has not removed since) */
    int64_t judged;    /* contexts that have a U-chart */
    int64_t dead;      /* contexts that have a dead mark */
};

struct store_reply {
    int code; /* 0 or an error code; `error` has the words */
    struct error error;
    struct arena arena; /* holds everything below */

    struct store_completion *completions; /* fetch_tchart and find: one; list, outbox: many */
    size_t completion_count;
    struct store_chunk *chunks; /* fetch_tchart: ascending by index */
    size_t chunk_count;
    struct store_uchart *ucharts; /* fetch_history, fetch_uchart */
    size_t uchart_count;
    struct store_debt *debts; /* list_debts */
    size_t debt_count;
    size_t *query_counts; /* fetch_history_bulk: how many of `ucharts` belong to each query, in order */
    bool more;            /* list: there is a next page */
    bool existed;         /* complete: it was complete already, with the same content */
    char *text;           /* fetch_chart_set */
    uint64_t id;          /* fetch_chart_set: which one */
    int64_t when_us;      /* fetch_chart_set: when it was put */
    struct store_counts counts;
    int64_t removed; /* expire: contexts and U-charts removed */
    bool degraded;   /* answered by a standby: verdicts made from it are of low quality */
    bool newest; /* fetch_history, earlier: no other context of the key ended after the start (cache_fill) */
    bool shared; /* the store's own, for want of memory: store_reply_free leaves it */
};

typedef void store_done(void *arg, struct store_reply *reply);

void store_reply_free(struct store_reply *reply);

struct store_options {
    int64_t busy_timeout_ms; /* how long a locked database is waited for; 0: 5,000 */
    bool read_only;          /* never creates or changes anything; a write is answered ERR_INVALID */
    int reader_threads;      /* 0: 2; at most 64 */
};

/* Opens "sqlite:PATH" (created when absent, unless read_only). ERR_INVALID: no such kind of store; ERR_IO,
 * ERR_CORRUPT, ERR_UNSUPPORTED (written by a newer version) with what to do. */
int store_open(const char *url, const struct store_options *options, struct store **store, struct error *err);

/* Waits until every call has had its `done`, then closes. New calls meanwhile are answered with ERR_CLOSED.
 */
void store_close(struct store *store);

/* The kind and place for people: "sqlite:/var/lib/chamberlain/store.db". */
const char *store_name(const struct store *store);

/* --- T-charts and the outbox --- */

/* Writes one chunk of a context that is not complete yet (ERR_CONFLICT when it is, with other content). */
void store_put_chunk(struct store *store, const struct store_key *key, const struct store_chunk *chunk,
                     store_done *done, void *arg);

/* Writes `chunks` (the last ones, or all) and completes the context: it is in the outbox from now on. A
 * context that is complete already, with the same announcement and chunks, is left as it is (reply->existed);
 * with different ones it is ERR_CONFLICT, and nothing changes: a judged trace is never replaced. ERR_INVALID
 * when a chunk below chunk_count is missing. */
void store_complete(struct store *store, const struct store_completion *completion,
                    const struct store_chunk *chunks, size_t count, store_done *done, void *arg);

/* The completion and every chunk; ERR_NOT_FOUND when the context is not complete, or its T-chart has expired
 * (the text tells which). */
void store_fetch_tchart(struct store *store, const struct store_key *key, store_done *done, void *arg);

/* The outbox: contexts completed before `completed_before_us` (ingest time) that have neither a U-chart nor a
 * dead mark, oldest first. */
void store_list_outbox(struct store *store, int64_t completed_before_us, size_t limit, store_done *done,
                       void *arg);

/* Marks a context as not judgeable, with the reason. Works for one the store has never seen too (when it is
 * completed later, it enters the outbox all the same). A context that has a U-chart keeps it and gets no
 * mark. */
void store_mark_dead(struct store *store, const struct store_key *key, const char *reason, int64_t when_us,
                     store_done *done, void *arg);

/* Completed contexts by event order. */
void store_list_contexts(struct store *store, const struct store_list_query *query, store_done *done,
                         void *arg);

/* A completed (or dead) context by its id alone. ERR_NOT_FOUND. Of several with that id, the first by tool
 * and chamber. */
void store_find_context(struct store *store, const char *context_id, store_done *done, void *arg);

void store_count(struct store *store, store_done *done, void *arg);

/* --- U-charts --- */

/* Writes (or replaces) a context's U-chart, and takes the context out of the outbox and out of the dead.
 * Works for a context that was never completed too. */
void store_put_uchart(struct store *store, const struct store_uchart *uchart, store_done *done, void *arg);

/* As store_put_uchart for several U-charts, all or none. */
void store_put_ucharts(struct store *store, const struct store_uchart *ucharts, size_t count,
                       store_done *done, void *arg);

/* One context's U-chart with its verdicts. ERR_NOT_FOUND. */
void store_fetch_uchart(struct store *store, const struct store_key *key, store_done *done, void *arg);

void store_fetch_history(struct store *store, const struct store_history_query *query, store_done *done,
                         void *arg);

/* Several stretches in one go (taking over chambers): reply->ucharts one after the other, reply->query_counts
 * says how many each has. ERR_LIMIT when they are more than STORE_BULK_MAX_ROWS together. */
void store_fetch_history_bulk(struct store *store, const struct store_history_query *queries, size_t count,
                              store_done *done, void *arg);

/* Where the histories of these chambers end: the newest U-chart of each of their recipes (with its points,
 * without verdicts). reply->ucharts one chamber after the other, reply->query_counts says how many each has.
 * `chambers[i].context_id` is not read. ERR_LIMIT as in bulk. */
void store_list_heads(struct store *store, const struct store_key *chambers, size_t count, store_done *done,
                      void *arg);

/* --- chart sets: every version of the chart file that ever judged --- */

/* Keeps `text` under `id` and, when `current`, makes it the one in force. */
void store_put_chart_set(struct store *store, uint64_t id, const char *text, bool current, int64_t when_us,
                         store_done *done, void *arg);

/* By id, or the one in force when id is 0. ERR_NOT_FOUND. */
void store_fetch_chart_set(struct store *store, uint64_t id, store_done *done, void *arg);

/* --- debts --- */

/* Keeps a debt; one of the same kind, key, at_us and put_us is replaced. Survives a power failure. */
void store_put_debt(struct store *store, const struct store_debt *debt, store_done *done, void *arg);

/* The debts of a kind, by at_us, at most `limit`. */
void store_list_debts(struct store *store, enum store_debt_kind kind, size_t limit, store_done *done,
                      void *arg);

/* Removes the debts of this kind, key and at_us that were put at put_us or before. None is no error. */
void store_clear_debt(struct store *store, const struct store_debt *debt, store_done *done, void *arg);

/* --- retention --- */

enum store_retention_clock { STORE_RETAIN_BY_INGEST, STORE_RETAIN_BY_EVENT };

struct store_retention {
    enum store_retention_clock clock;
    int64_t tchart_us; /* 3 days by default (STORE_TCHART_RETENTION_US) */
    int64_t uchart_us; /* 1 year by default */
};

#define STORE_TCHART_RETENTION_US (INT64_C(3) * 86400 * 1000000)
#define STORE_UCHART_RETENTION_US (INT64_C(365) * 86400 * 1000000)

/* Removes at most `limit` T-charts and `limit` U-charts (with what is known of their contexts) that are older
 * than `retention` at `now_us`: by the end of the run, or by the time when it was completed (first seen, if
 * it never was). A context that still waits in the outbox is never removed. One call may do less than
 * `limit`, so as not to hold up others: call again while reply->more. */
void store_expire(struct store *store, const struct store_retention *retention, int64_t now_us, size_t limit,
                  store_done *done, void *arg);

/* --- waiting for a reply, for callers that have nothing else to do (commands, tests) --- */

struct store_wait; /* one call at a time */
struct store_wait *store_wait_new(void);
void store_wait_free(struct store_wait *wait);
void store_wait_done(void *wait, struct store_reply *reply); /* give it as `done`, with the wait as `arg` */

/* Blocks until the reply is there; the caller owns it. */
struct store_reply *store_wait_reply(struct store_wait *wait);

#endif
