/* Group commit: the writes that wait together become one transaction, so that they share one sync of the
 * disk. A call that fails is taken back alone, by its savepoint. When the transaction itself breaks (the disk
 * is full, an I/O error), each call is tried again on its own, so that those that can succeed do. */
#include "store/sqlite_connection.h"

#include "base/hash.h"

/* What must survive a power failure once it is answered: whatever no one could make again. Chunks count only
 * together with their completion, whose sync covers them. A U-chart that is lost with its transaction puts
 * its context back into the outbox, and is judged again, to the same bits. */
static bool must_be_durable(const struct store_call *call)
{
    return call->op == STORE_OP_COMPLETE || call->op == STORE_OP_PUT_CHART_SET ||
           call->op == STORE_OP_PUT_DEBT;
}

/* Hashes before the transaction begins: others wait for its lock. */
static int hash_chunks(struct store_call *call)
{
    if (call->op != STORE_OP_COMPLETE)
        return 0;
    size_t count = call->u.complete.count;
    uint64_t *hashes = arena_calloc(&call->reply.arena, count, sizeof *hashes);
    if (hashes == NULL)
        return error_set(&call->reply.error, ERR_NO_MEMORY, "store: out of memory for a write");
    for (size_t i = 0; i < count; i++)
        hashes[i] = hash64(call->u.complete.chunks[i].bytes, call->u.complete.chunks[i].length);
    call->u.complete.hashes = hashes;
    return 0;
}

static void fail_all(struct store_call *const *calls, size_t count, const struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        calls[i]->reply.code = err->code;
        calls[i]->reply.error = *err;
    }
}

static bool transaction_is_open(const struct sqlite_connection *connection)
{
    return sqlite3_get_autocommit(connection->db) == 0;
}

static void roll_back(struct sqlite_connection *connection)
{
    struct error err;
    if (transaction_is_open(connection))
        sqlite_run_plain(connection, STATEMENT_ROLLBACK, "rolling back", &err);
}

/* One call between savepoints. False when the whole transaction is gone (or its state not known) with it. */
static bool run_guarded(struct sqlite_connection *connection, struct store_call *call)
{
    struct error err;
    if (sqlite_run_plain(connection, STATEMENT_SAVEPOINT, "marking a call", &err))
        return false;
    int code = sqlite_write_call(connection, call);
    if (!transaction_is_open(connection))
        return false;
    if (code && sqlite_run_plain(connection, STATEMENT_ROLLBACK_TO, "taking back a call", &err))
        return false;
    return sqlite_run_plain(connection, STATEMENT_RELEASE, "ending a call", &err) == 0;
}

/* All calls as one transaction. False: nothing of it was done, and the calls' replies mean nothing. */
static bool try_together(struct sqlite_connection *connection, struct store_call *const *calls, size_t count)
{
    struct error err;
    bool good = true;
    for (size_t i = 0; i < count && good; i++)
        good = run_guarded(connection, calls[i]);
    if (good && sqlite_run_plain(connection, STATEMENT_COMMIT, "committing", &err) == 0)
        return true;
    roll_back(connection);
    return false;
}

static void run_alone(struct sqlite_connection *connection, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    if (sqlite_write_call(connection, call) == 0)
        reply->code = sqlite_run_plain(connection, STATEMENT_COMMIT, "committing", &reply->error);
    roll_back(connection);
    if (reply->code) {
        reply->existed = false;
        reply->more = false;
        reply->removed = 0;
    }
}

/* Begins a transaction with the durability these calls need. */
static int begin(struct sqlite_connection *connection, struct store_call *const *calls, size_t count,
                 struct error *err)
{
    bool durable = false;
    for (size_t i = 0; i < count; i++)
        durable = durable || must_be_durable(calls[i]);
    int code = sqlite_set_durable(connection, durable, err);
    return code ? code : sqlite_run_plain(connection, STATEMENT_BEGIN_WRITE, "beginning to write", err);
}

static void begin_and_run_alone(struct sqlite_connection *connection, struct store_call *call)
{
    struct error err;
    if (begin(connection, &call, 1, &err))
        fail_all(&call, 1, &err);
    else
        run_alone(connection, call);
}

void sqlite_write_group(struct sqlite_connection *connection, struct store_call *const *calls, size_t count)
{
    struct store_call *ready[GROUP_MAX_CALLS];
    size_t ready_count = 0;
    for (size_t i = 0; i < count; i++) {
        calls[i]->reply.code = hash_chunks(calls[i]);
        if (calls[i]->reply.code == 0)
            ready[ready_count++] = calls[i];
    }
    if (ready_count == 1)
        begin_and_run_alone(connection, ready[0]);
    if (ready_count < 2)
        return;
    struct error err;
    if (begin(connection, ready, ready_count, &err)) {
        fail_all(ready, ready_count, &err);
        return;
    }
    if (try_together(connection, ready, ready_count))
        return;
    for (size_t i = 0; i < ready_count; i++)
        begin_and_run_alone(connection, ready[i]);
}
