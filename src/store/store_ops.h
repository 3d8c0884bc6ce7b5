/* What a kind of store implements, and how a call travels to it. Internal to src/store.
 *
 * store.c turns every function of store.h into one `struct store_call`, checks its arguments, and submits it.
 * The store owns the call from then on, fills call->reply, and ends it exactly once with store_call_finish,
 * on a thread of its own. A store that wraps others (failover) submits calls of its own to them and ends its
 * call with their reply. */
#ifndef CHAMBERLAIN_STORE_STORE_OPS_H
#define CHAMBERLAIN_STORE_STORE_OPS_H

#include "store/store.h"

enum store_op {
    STORE_OP_PUT_CHUNK,
    STORE_OP_COMPLETE,
    STORE_OP_MARK_DEAD,
    STORE_OP_PUT_UCHARTS,
    STORE_OP_PUT_CHART_SET,
    STORE_OP_PUT_DEBT,
    STORE_OP_CLEAR_DEBT,
    STORE_OP_EXPIRE, /* the last that writes */
    STORE_OP_FETCH_TCHART,
    STORE_OP_LIST_OUTBOX,
    STORE_OP_LIST_CONTEXTS,
    STORE_OP_FIND_CONTEXT,
    STORE_OP_COUNT,
    STORE_OP_FETCH_UCHART,
    STORE_OP_FETCH_HISTORY,
    STORE_OP_LIST_HEADS,
    STORE_OP_FETCH_CHART_SET,
    STORE_OP_LIST_DEBTS
};

/* One call. `reply` is first, so that the receiver's store_reply_free gives the whole call back. Structs that
 * a caller passes by pointer are copied here; texts, bytes and arrays stay the caller's. NULL recipes and
 * lots have become "". */
struct store_call {
    struct store_reply reply; /* code other than 0 at submission: only to be finished */
    enum store_op op;
    store_done *done;
    void *arg;
    struct store_call *next; /* the store's, while it owns the call */

    struct store_key
        key; /* PUT_CHUNK, COMPLETE, MARK_DEAD, FETCH_TCHART, FETCH_UCHART; only the id in FIND_CONTEXT */
    union {
        struct store_chunk chunk; /* PUT_CHUNK */
        struct {
            bool received; /* FETCH_TCHART: the chunks that are there, if the context is not complete */
        } tchart;
        struct {
            struct store_completion completion;
            const struct store_chunk *chunks;
            size_t count;
            uint64_t *hashes; /* the store's: one a chunk, in the reply's arena */
        } complete;
        struct {
            const char *reason;
            int64_t when_us;
        } dead;
        struct {
            const struct store_uchart *items; /* NULL: `one` */
            struct store_uchart one;
            size_t count;
        } ucharts;
        struct {
            const struct store_history_query *items; /* NULL: `one` */
            struct store_history_query one;
            size_t count;
        } history;
        struct {
            const struct store_key *items;
            size_t count;
        } heads;
        struct {
            int64_t completed_before_us;
            size_t limit;
        } outbox;
        struct store_list_query list;
        struct store_debt debt; /* PUT_DEBT, CLEAR_DEBT */
        struct {
            enum store_debt_kind kind;
            size_t limit;
        } debts;
        struct {
            uint64_t id;
            const char *text;
            bool current;
            int64_t when_us;
        } chart_set;
        struct {
            struct store_retention retention;
            int64_t now_us;
            size_t limit;
        } expire;
    } u;
};

static inline bool store_op_writes(enum store_op op)
{
    return op <= STORE_OP_EXPIRE;
}

static inline const struct store_uchart *store_call_ucharts(const struct store_call *call)
{
    return call->u.ucharts.items ? call->u.ucharts.items : &call->u.ucharts.one;
}

static inline const struct store_history_query *store_call_queries(const struct store_call *call)
{
    return call->u.history.items ? call->u.history.items : &call->u.history.one;
}

/* Hands the reply to the caller. The call is the receiver's afterwards. */
static inline void store_call_finish(struct store_call *call)
{
    call->done(call->arg, &call->reply);
}

/* How a store stands when a call comes to it. */
struct store_door {
    const char *kind, *place; /* together what messages call it: "cassandra:" and "10.0.0.1/fab" */
    bool closing, read_only;
    size_t waiting; /* calls in the queue that this one would go to */
};

/* Whether a call may come in: 0; or the code that its reply has now: ERR_CLOSED, ERR_INVALID (it writes),
 * ERR_UNAVAILABLE (STORE_QUEUE_MAX_CALLS wait), or what the reply had before. */
int store_call_refuse(struct store_call *call, const struct store_door *door);

struct store_ops {
    const char *scheme; /* "sqlite": what stands before the first colon of the URL */

    /* `place` is what stands after it. On success sets *store, with `ops` set; store.c sets the name. */
    int (*open)(const char *place, const struct store_options *options, struct store **store,
                struct error *err);
    void (*submit)(struct store *store, struct store_call *call);

    /* Waits until every call has ended; calls submitted meanwhile end with ERR_CLOSED. Frees *store. */
    void (*close)(struct store *store);
};

/* What every kind of store starts with. */
struct store {
    const struct store_ops *ops;
    char *name;
    struct store_reply out_of_memory; /* given when a call cannot even be allocated */
};

extern const struct store_ops store_sqlite_ops;
extern const struct store_ops store_failover_ops;
extern const struct store_ops store_cassandra_ops; /* in a build without the driver: says so when opened */

#endif
