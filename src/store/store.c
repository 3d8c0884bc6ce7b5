#include "store/store_ops.h"

#include <stdlib.h>
#include <string.h>

enum { STORE_NAME_MAX_BYTES = 1024, STORE_READER_THREADS_MAX = 64 };

static const struct store_ops *const store_kinds[] = {&store_sqlite_ops, &store_cassandra_ops,
                                                      &store_failover_ops};

static const struct store_ops *store_find_kind(const char *url, const char **place)
{
    for (size_t i = 0; i < sizeof store_kinds / sizeof *store_kinds; i++) {
        size_t length = strlen(store_kinds[i]->scheme);
        if (strncmp(url, store_kinds[i]->scheme, length) == 0 && url[length] == ':') {
            *place = url + length + 1;
            return store_kinds[i];
        }
    }
    return NULL;
}

int store_open(const char *url, const struct store_options *options, struct store **store, struct error *err)
{
    *store = NULL;
    struct store_options defaults = {0};
    if (options == NULL)
        options = &defaults;
    if (options->reader_threads < 0 || options->reader_threads > STORE_READER_THREADS_MAX)
        return error_set(err, ERR_INVALID, "store: %d reader threads; 1 to %d are possible",
                         options->reader_threads, STORE_READER_THREADS_MAX);
    if (options->busy_timeout_ms < 0)
        return error_set(err, ERR_INVALID, "store: the busy timeout is negative");
    const char *place = NULL;
    const struct store_ops *ops = url ? store_find_kind(url, &place) : NULL;
    if (ops == NULL || *place == '\0')
        return error_set(err, ERR_INVALID,
                         "store \"%s\": not a store's address; write sqlite:PATH, "
                         "cassandra:HOST,HOST[:PORT]/KEYSPACE or failover:PRIMARY,,STANDBY",
                         url ? url : "");
    char *name = strdup(url);
    if (name == NULL)
        return error_set(err, ERR_NO_MEMORY, "store %s: out of memory", url);
    int code = ops->open(place, options, store, err);
    if (code) {
        free(name);
        return code;
    }
    struct store *opened = *store;
    opened->name = name;
    opened->out_of_memory.shared = true;
    opened->out_of_memory.code =
        error_set(&opened->out_of_memory.error, ERR_NO_MEMORY, "%s: out of memory for a call", name);
    return 0;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    char *name = store->name;
    store->ops->close(store);
    free(name);
}

const char *store_name(const struct store *store)
{
    return store->name;
}

void store_reply_free(struct store_reply *reply)
{
    if (reply == NULL || reply->shared)
        return;
    arena_free(&reply->arena);
    free(reply); /* the first member of its call */
}

int store_call_refuse(struct store_call *call, const struct store_door *door)
{
    struct store_reply *reply = &call->reply;
    if (reply->code)
        return reply->code;
    if (door->closing)
        reply->code = error_set(&reply->error, ERR_CLOSED, "store %s%s is closing", door->kind, door->place);
    else if (door->read_only && store_op_writes(call->op))
        reply->code = error_set(&reply->error, ERR_INVALID, "store %s%s was opened for reading only",
                                door->kind, door->place);
    else if (door->waiting >= STORE_QUEUE_MAX_CALLS)
        reply->code = error_set(&reply->error, ERR_UNAVAILABLE,
                                "store %s%s: %d calls are waiting already; try again when some have ended",
                                door->kind, door->place, STORE_QUEUE_MAX_CALLS);
    return reply->code;
}

/* A new call, or NULL after `done` has been told that there is no memory for it. */
static struct store_call *call_new(struct store *store, enum store_op op, store_done *done, void *arg)
{
    struct store_call *call = calloc(1, sizeof *call);
    if (call == NULL) {
        done(arg, &store->out_of_memory);
        return NULL;
    }
    call->op = op;
    call->done = done;
    call->arg = arg;
    arena_init(&call->reply.arena, 0);
    return call;
}

static void call_submit(struct store *store, struct store_call *call)
{
    store->ops->submit(store, call);
}

/* The first thing that is wrong with a call is what its reply says. */
static void call_fail(struct store_call *call, int code, const char *what, const char *detail)
{
    if (call->reply.code == 0)
        call->reply.code = error_set(&call->reply.error, code, "store: %s%s", what, detail);
}

static void check_name(struct store_call *call, const char *what, const char *name)
{
    if (name == NULL || *name == '\0')
        call_fail(call, ERR_INVALID, what, " is empty");
    else if (strlen(name) > STORE_NAME_MAX_BYTES)
        call_fail(call, ERR_LIMIT, what, " is longer than 1024 bytes");
}

static void check_key(struct store_call *call, const struct store_key *key)
{
    check_name(call, "tool", key->tool);
    check_name(call, "chamber", key->chamber);
    check_name(call, "context_id", key->context_id);
}

/* A chart set's debt names no tool. */
static void check_debt_key(struct store_call *call)
{
    check_name(call, "context_id", call->key.context_id);
    if (call->key.tool == NULL || call->key.chamber == NULL)
        call_fail(call, ERR_INVALID, "a debt's tool or chamber", " is NULL; it may be \"\"");
}

static void check_chunk(struct store_call *call, const struct store_chunk *chunk)
{
    if (chunk->index < 0 || chunk->index >= STORE_CHUNKS_MAX)
        call_fail(call, ERR_LIMIT, "a chunk's index", " is not within 0 to 4095");
    if (chunk->length > STORE_CHUNK_MAX_BYTES)
        call_fail(call, ERR_LIMIT, "a chunk", " is longer than 8 MiB; split the T-chart into more chunks");
    if (chunk->bytes == NULL && chunk->length > 0)
        call_fail(call, ERR_INVALID, "a chunk", " has a length but no bytes");
}

static void check_limit(struct store_call *call, size_t limit)
{
    if (limit > STORE_LIST_MAX)
        call_fail(call, ERR_LIMIT, "more than 10,000 rows were asked for", "; ask in pages");
}

static void check_uchart(struct store_call *call, const struct store_uchart *uchart)
{
    check_key(call, &uchart->key);
    if (uchart->recipe == NULL)
        call_fail(call, ERR_INVALID, "a U-chart's recipe", " is NULL; it may be \"\"");
    if ((uchart->points == NULL && uchart->points_length > 0) ||
        (uchart->verdicts == NULL && uchart->verdicts_length > 0))
        call_fail(call, ERR_INVALID, "a U-chart", " has a length but no bytes");
    if (uchart->points_length > STORE_CHUNK_MAX_BYTES || uchart->verdicts_length > STORE_CHUNK_MAX_BYTES)
        call_fail(call, ERR_LIMIT, "a U-chart", " is longer than 8 MiB");
}

static void check_query(struct store_call *call, const struct store_history_query *query)
{
    check_name(call, "tool", query->tool);
    check_name(call, "chamber", query->chamber);
    if (query->recipe == NULL)
        call_fail(call, ERR_INVALID, "a history's recipe", " is NULL; it may be \"\"");
    check_limit(call, query->limit);
}

void store_put_chunk(struct store *store, const struct store_key *key, const struct store_chunk *chunk,
                     store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_PUT_CHUNK, done, arg);
    if (call == NULL)
        return;
    call->key = *key;
    call->u.chunk = *chunk;
    check_key(call, key);
    check_chunk(call, chunk);
    call_submit(store, call);
}

void store_complete(struct store *store, const struct store_completion *completion,
                    const struct store_chunk *chunks, size_t count, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_COMPLETE, done, arg);
    if (call == NULL)
        return;
    call->key = completion->key;
    call->u.complete.completion = *completion;
    call->u.complete.chunks = chunks;
    call->u.complete.count = count;
    struct store_completion *copy = &call->u.complete.completion;
    copy->recipe = copy->recipe ? copy->recipe : "";
    copy->lot = copy->lot ? copy->lot : "";
    check_key(call, &copy->key);
    if (copy->announcement == NULL)
        call_fail(call, ERR_INVALID, "a completion", " has no announcement");
    if (copy->chunk_count < 0 || copy->chunk_count > STORE_CHUNKS_MAX)
        call_fail(call, ERR_LIMIT, "chunk_count", " is not within 0 to 4096");
    for (size_t i = 0; i < count; i++) {
        check_chunk(call, &chunks[i]);
        if (chunks[i].index >= copy->chunk_count)
            call_fail(call, ERR_INVALID, "a chunk's index", " is not below the completion's chunk_count");
    }
    call_submit(store, call);
}

void store_fetch_tchart(struct store *store, const struct store_key *key, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_FETCH_TCHART, done, arg);
    if (call == NULL)
        return;
    call->key = *key;
    check_key(call, key);
    call_submit(store, call);
}

void store_list_outbox(struct store *store, int64_t completed_before_us, size_t limit, store_done *done,
                       void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_LIST_OUTBOX, done, arg);
    if (call == NULL)
        return;
    call->u.outbox.completed_before_us = completed_before_us;
    call->u.outbox.limit = limit;
    check_limit(call, limit);
    call_submit(store, call);
}

void store_mark_dead(struct store *store, const struct store_key *key, const char *reason, int64_t when_us,
                     store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_MARK_DEAD, done, arg);
    if (call == NULL)
        return;
    call->key = *key;
    call->u.dead.reason = reason ? reason : "";
    call->u.dead.when_us = when_us;
    check_key(call, key);
    call_submit(store, call);
}

void store_list_contexts(struct store *store, const struct store_list_query *query, store_done *done,
                         void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_LIST_CONTEXTS, done, arg);
    if (call == NULL)
        return;
    call->u.list = *query;
    check_limit(call, query->limit);
    call_submit(store, call);
}

void store_find_context(struct store *store, const char *context_id, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_FIND_CONTEXT, done, arg);
    if (call == NULL)
        return;
    call->key.context_id = context_id;
    check_name(call, "context_id", context_id);
    call_submit(store, call);
}

void store_count(struct store *store, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_COUNT, done, arg);
    if (call)
        call_submit(store, call);
}

void store_put_uchart(struct store *store, const struct store_uchart *uchart, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_PUT_UCHARTS, done, arg);
    if (call == NULL)
        return;
    call->u.ucharts.one = *uchart;
    call->u.ucharts.count = 1;
    check_uchart(call, uchart);
    call_submit(store, call);
}

void store_put_ucharts(struct store *store, const struct store_uchart *ucharts, size_t count,
                       store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_PUT_UCHARTS, done, arg);
    if (call == NULL)
        return;
    call->u.ucharts.items = ucharts;
    call->u.ucharts.count = count;
    check_limit(call, count);
    for (size_t i = 0; i < count && call->reply.code == 0; i++)
        check_uchart(call, &ucharts[i]);
    call_submit(store, call);
}

void store_fetch_uchart(struct store *store, const struct store_key *key, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_FETCH_UCHART, done, arg);
    if (call == NULL)
        return;
    call->key = *key;
    check_key(call, key);
    call_submit(store, call);
}

void store_fetch_history(struct store *store, const struct store_history_query *query, store_done *done,
                         void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_FETCH_HISTORY, done, arg);
    if (call == NULL)
        return;
    call->u.history.one = *query;
    call->u.history.count = 1;
    check_query(call, query);
    call_submit(store, call);
}

void store_list_heads(struct store *store, const struct store_key *chambers, size_t count, store_done *done,
                      void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_LIST_HEADS, done, arg);
    if (call == NULL)
        return;
    call->u.heads.items = chambers;
    call->u.heads.count = count;
    check_limit(call, count);
    call_submit(store, call);
}

void store_fetch_history_bulk(struct store *store, const struct store_history_query *queries, size_t count,
                              store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_FETCH_HISTORY, done, arg);
    if (call == NULL)
        return;
    call->u.history.items = queries;
    call->u.history.count = count;
    check_limit(call, count);
    for (size_t i = 0; i < count && call->reply.code == 0; i++)
        check_query(call, &queries[i]);
    call_submit(store, call);
}

void store_put_chart_set(struct store *store, uint64_t id, const char *text, bool current, int64_t when_us,
                         store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_PUT_CHART_SET, done, arg);
    if (call == NULL)
        return;
    call->u.chart_set.id = id;
    call->u.chart_set.text = text;
    call->u.chart_set.current = current;
    call->u.chart_set.when_us = when_us;
    if (id == 0 || text == NULL)
        call_fail(call, ERR_INVALID, "a chart set", " needs an id other than 0 and a text");
    call_submit(store, call);
}

void store_fetch_chart_set(struct store *store, uint64_t id, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_FETCH_CHART_SET, done, arg);
    if (call == NULL)
        return;
    call->u.chart_set.id = id;
    call_submit(store, call);
}

void store_put_debt(struct store *store, const struct store_debt *debt, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_PUT_DEBT, done, arg);
    if (call == NULL)
        return;
    call->u.debt = *debt;
    call->key = debt->key;
    check_debt_key(call);
    call_submit(store, call);
}

void store_list_debts(struct store *store, enum store_debt_kind kind, size_t limit, store_done *done,
                      void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_LIST_DEBTS, done, arg);
    if (call == NULL)
        return;
    call->u.debts.kind = kind;
    call->u.debts.limit = limit;
    check_limit(call, limit);
    call_submit(store, call);
}

void store_clear_debt(struct store *store, const struct store_debt *debt, store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_CLEAR_DEBT, done, arg);
    if (call == NULL)
        return;
    call->u.debt = *debt;
    call->key = debt->key;
    check_debt_key(call);
    call_submit(store, call);
}

void store_expire(struct store *store, const struct store_retention *retention, int64_t now_us, size_t limit,
                  store_done *done, void *arg)
{
    struct store_call *call = call_new(store, STORE_OP_EXPIRE, done, arg);
    if (call == NULL)
        return;
    call->u.expire.retention = *retention;
    call->u.expire.now_us = now_us;
    call->u.expire.limit = limit;
    if (retention->tchart_us < 0 || retention->uchart_us < 0)
        call_fail(call, ERR_INVALID, "retention", " is negative");
    call_submit(store, call);
}
