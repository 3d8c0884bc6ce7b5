/* The calls that write. A call checks before it changes anything, where it can; what it has changed when it
 * fails is taken back by sqlite_write_group. */
#include "store/sqlite_connection.h"

#include "base/clock.h"
#include "base/hash.h"

#include <string.h>

/* Rows that one store_expire removes at a time of each kind: a bound on how long it keeps others from
 * writing. */
enum { EXPIRE_SLICE = 200 };

/* What a write needs to know of its context. */
struct known_context {
    int64_t context_no; /* 0: nothing is known of it */
    bool completed;
    enum { KNOWN_RECEIVING, KNOWN_PENDING, KNOWN_JUDGED, KNOWN_DEAD } state;
    int64_t end_us;
    int32_t chunk_count;
    bool same_announcement; /* recipe, lot, end and announcement are those of the completion asked about */
    uint64_t *hashes;       /* of its chunks, once completed; in the reply's arena */
};

static int no_memory(struct store_call *call)
{
    return error_set(&call->reply.error, ERR_NO_MEMORY, "store: out of memory for a write");
}

static bool column_equals(sqlite3_stmt *statement, int column, const char *text)
{
    const char *stored = (const char *)sqlite3_column_text(statement, column);
    return stored && strcmp(stored, text) == 0;
}

static int read_known(sqlite3_stmt *statement, struct store_call *call,
                      const struct store_completion *completion, struct known_context *known)
{
    known->context_no = sqlite3_column_int64(statement, 0);
    known->state = column_equals(statement, 1, "pending")  ? KNOWN_PENDING
                   : column_equals(statement, 1, "judged") ? KNOWN_JUDGED
                   : column_equals(statement, 1, "dead")   ? KNOWN_DEAD
                                                           : KNOWN_RECEIVING;
    known->completed = sqlite3_column_int(statement, 2) != 0;
    known->end_us = sqlite3_column_int64(statement, 4);
    known->chunk_count = sqlite3_column_int(statement, 6);
    if (completion)
        known->same_announcement = known->end_us == completion->end_us &&
                                   column_equals(statement, 7, completion->recipe) &&
                                   column_equals(statement, 8, completion->lot) &&
                                   column_equals(statement, 10, completion->announcement);
    if (!known->completed)
        return 0;
    size_t length = (size_t)known->chunk_count * sizeof *known->hashes;
    known->hashes = arena_calloc(&call->reply.arena, (size_t)known->chunk_count, sizeof *known->hashes);
    const void *hashes = sqlite3_column_blob(statement, 14);
    if (known->hashes == NULL)
        return no_memory(call);
    if ((size_t)sqlite3_column_bytes(statement, 14) != length)
        return error_set(
            &call->reply.error, ERR_CORRUPT,
            "store: context %s: chunk_hashes has not one hash for each of %d chunks; restore a backup",
            call->key.context_id, known->chunk_count);
    if (length > 0)
        memcpy(known->hashes, hashes, length);
    return 0;
}

/* Looks a context up; `completion`, when given, is compared with what is stored. */
static int find_known(struct sqlite_connection *connection, struct store_call *call,
                      const struct store_key *key, const struct store_completion *completion,
                      struct known_context *known)
{
    *known = (struct known_context){0};
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_FIND_KEY, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite_bind_key(statement, key);
    int result = sqlite3_step(statement);
    int code = 0;
    if (result == SQLITE_ROW)
        code = read_known(statement, call, completion, known);
    else if (result != SQLITE_DONE)
        code = sqlite_error(connection, sqlite3_extended_errcode(connection->db), "finding a context",
                            &call->reply.error);
    sqlite3_reset(statement);
    return code;
}

struct new_context {
    const char *state;
    bool has_tchart;
    int64_t end_us, ingest_us;
    const char *recipe, *dead_reason;
};

static int insert_context(struct sqlite_connection *connection, struct store_call *call,
                          const struct store_key *key, const struct new_context *context, int64_t *context_no)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_INSERT_CONTEXT, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite_bind_key(statement, key);
    sqlite_bind_text(statement, 4, context->state);
    sqlite3_bind_int(statement, 5, context->has_tchart);
    sqlite3_bind_int64(statement, 6, context->end_us);
    sqlite3_bind_int64(statement, 7, context->ingest_us);
    sqlite_bind_text(statement, 8, context->recipe);
    sqlite_bind_text(statement, 9, context->dead_reason);
    int code = sqlite_run(connection, statement, "adding a context", &call->reply.error);
    *context_no = sqlite3_last_insert_rowid(connection->db);
    return code;
}

static int set_state(struct sqlite_connection *connection, struct store_call *call, int64_t context_no,
                     const char *state, const char *reason)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_SET_STATE, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, context_no);
    sqlite_bind_text(statement, 2, state);
    sqlite_bind_text(statement, 3, reason);
    return sqlite_run(connection, statement, "changing a context's state", &call->reply.error);
}

static int run_with_number(struct sqlite_connection *connection, struct store_call *call, int which,
                           int64_t context_no, const char *what)
{
    sqlite3_stmt *statement = sqlite_statement(connection, which, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, context_no);
    return sqlite_run(connection, statement, what, &call->reply.error);
}

/* --- T-charts --- */

static int write_chunk(struct sqlite_connection *connection, struct store_call *call, int64_t context_no,
                       const struct store_chunk *chunk, uint64_t hash)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_PUT_CHUNK, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, context_no);
    sqlite3_bind_int64(statement, 2, chunk->index);
    sqlite3_bind_int64(statement, 3, (int64_t)hash);
    sqlite_bind_bytes(statement, 4, chunk->bytes, chunk->length);
    return sqlite_run(connection, statement, "writing a chunk", &call->reply.error);
}

static int conflict(struct store_call *call, const char *what)
{
    return error_set(
        &call->reply.error, ERR_CONFLICT,
        "context %s of %s:%s is complete already, with %s; a stored trace is never replaced: give the "
        "new one another context_id",
        call->key.context_id, call->key.tool, call->key.chamber, what);
}

/* A row to hang chunks on, for a context that nothing is known of yet. Its end is not known either: until it
 * is completed, retention by event goes by the time of its first chunk. */
static int begin_receiving(struct sqlite_connection *connection, struct store_call *call, int64_t *context_no)
{
    int64_t now = clock_wall_us();
    struct new_context context = {.state = "receiving",
                                  .has_tchart = true,
                                  .end_us = now,
                                  .ingest_us = now,
                                  .recipe = "",
                                  .dead_reason = ""};
    return insert_context(connection, call, &call->key, &context, context_no);
}

static int put_chunk(struct sqlite_connection *connection, struct store_call *call)
{
    const struct store_chunk *chunk = &call->u.chunk;
    uint64_t hash = hash64(chunk->bytes, chunk->length);
    struct known_context known;
    int code = find_known(connection, call, &call->key, NULL, &known);
    if (code)
        return code;
    if (known.completed && (chunk->index >= known.chunk_count || known.hashes[chunk->index] != hash))
        return conflict(call, "other chunks");
    if (known.completed)
        return 0;
    if (known.context_no == 0)
        code = begin_receiving(connection, call, &known.context_no);
    else
        code = run_with_number(connection, call, STATEMENT_TCHART_RECEIVED, known.context_no,
                               "receiving a T-chart");
    return code ? code : write_chunk(connection, call, known.context_no, chunk, hash);
}

/* Chunks that are complete already, with the same bytes, are left; anything else is a conflict. */
static int compare_complete(struct store_call *call, const struct known_context *known)
{
    const struct store_completion *completion = &call->u.complete.completion;
    if (!known->same_announcement || known->chunk_count != completion->chunk_count)
        return conflict(call, "another announcement");
    for (size_t i = 0; i < call->u.complete.count; i++)
        if (known->hashes[call->u.complete.chunks[i].index] != call->u.complete.hashes[i])
            return conflict(call, "other chunks");
    call->reply.existed = true;
    return 0;
}

/* The hashes of the chunks that are stored now; ERR_INVALID when one is missing. */
static int collect_hashes(struct sqlite_connection *connection, struct store_call *call, int64_t context_no,
                          uint64_t *hashes)
{
    int32_t expected = call->u.complete.completion.chunk_count, found = 0;
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_CHUNK_HASHES, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, context_no);
    int result;
    while ((result = sqlite3_step(statement)) == SQLITE_ROW && found < expected &&
           sqlite3_column_int(statement, 0) == found)
        hashes[found++] = (uint64_t)sqlite3_column_int64(statement, 1);
    int code = 0;
    if (result != SQLITE_ROW && result != SQLITE_DONE)
        code = sqlite_error(connection, sqlite3_extended_errcode(connection->db),
                            "reading a T-chart's chunks", &call->reply.error);
    else if (found < expected)
        code = error_set(&call->reply.error, ERR_INVALID,
                         "context %s of %s:%s cannot be completed: chunk %d of %d was never written",
                         call->key.context_id, call->key.tool, call->key.chamber, found, expected);
    sqlite3_reset(statement);
    return code;
}

static int drop_surplus_chunks(struct sqlite_connection *connection, struct store_call *call,
                               int64_t context_no)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_DROP_CHUNKS_FROM, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, context_no);
    sqlite3_bind_int64(statement, 2, call->u.complete.completion.chunk_count);
    return sqlite_run(connection, statement, "dropping left-over chunks", &call->reply.error);
}

static int write_completion(struct sqlite_connection *connection, struct store_call *call,
                            const struct known_context *known)
{
    const struct store_completion *completion = &call->u.complete.completion;
    size_t count = (size_t)completion->chunk_count;
    uint64_t *hashes = arena_calloc(&call->reply.arena, count, sizeof *hashes);
    if (hashes == NULL)
        return no_memory(call);
    int code = collect_hashes(connection, call, known->context_no, hashes);
    if (code == 0)
        code = drop_surplus_chunks(connection, call, known->context_no);
    sqlite3_stmt *statement =
        code ? NULL : sqlite_statement(connection, STATEMENT_COMPLETE_CONTEXT, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, known->context_no);
    /* A context that was marked dead before its T-chart came is judged now. One that has a U-chart keeps it.
     */
    sqlite_bind_text(statement, 2, known->state == KNOWN_JUDGED ? "judged" : "pending");
    sqlite3_bind_int64(statement, 3, completion->end_us);
    sqlite3_bind_int64(statement, 4, completion->completed_us ? completion->completed_us : clock_wall_us());
    sqlite_bind_text(statement, 5, completion->recipe);
    sqlite_bind_text(statement, 6, completion->lot);
    sqlite3_bind_int(statement, 7, completion->chunk_count);
    sqlite_bind_bytes(statement, 8, hashes, count * sizeof *hashes);
    sqlite_bind_text(statement, 9, completion->announcement);
    return sqlite_run(connection, statement, "completing a context", &call->reply.error);
}

static int complete(struct sqlite_connection *connection, struct store_call *call)
{
    struct known_context known;
    int code = find_known(connection, call, &call->key, &call->u.complete.completion, &known);
    if (code)
        return code;
    if (known.completed)
        return compare_complete(call, &known);
    if (known.context_no == 0)
        code = begin_receiving(connection, call, &known.context_no);
    for (size_t i = 0; i < call->u.complete.count && code == 0; i++)
        code = write_chunk(connection, call, known.context_no, &call->u.complete.chunks[i],
                           call->u.complete.hashes[i]);
    return code ? code : write_completion(connection, call, &known);
}

/* --- verdicts --- */

static int mark_dead(struct sqlite_connection *connection, struct store_call *call)
{
    struct known_context known;
    int code = find_known(connection, call, &call->key, NULL, &known);
    if (code || known.state == KNOWN_JUDGED)
        return code;
    if (known.context_no)
        return set_state(connection, call, known.context_no, "dead", call->u.dead.reason);
    struct new_context context = {.state = "dead",
                                  .end_us = call->u.dead.when_us,
                                  .ingest_us = call->u.dead.when_us,
                                  .recipe = "",
                                  .dead_reason = call->u.dead.reason};
    return insert_context(connection, call, &call->key, &context, &known.context_no);
}

/* A U-chart that was written under another recipe or end before must not stay in that history. */
static int drop_moved_uchart(struct sqlite_connection *connection, struct store_call *call,
                             const struct store_uchart *uchart, int64_t context_no)
{
    sqlite3_stmt *old = sqlite_statement(connection, STATEMENT_OLD_UCHART, &call->reply.error);
    sqlite3_stmt *drop =
        old ? sqlite_statement(connection, STATEMENT_DELETE_UCHART, &call->reply.error) : NULL;
    if (drop == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(old, 1, context_no);
    int code = 0;
    int result = sqlite3_step(old);
    if (result == SQLITE_ROW &&
        (!column_equals(old, 0, uchart->recipe) || sqlite3_column_int64(old, 1) != uchart->end_us)) {
        sqlite_bind_text(drop, 1, uchart->key.tool);
        sqlite_bind_text(drop, 2, uchart->key.chamber);
        sqlite3_bind_value(drop, 3, sqlite3_column_value(old, 0));
        sqlite3_bind_int64(drop, 4, sqlite3_column_int64(old, 1));
        sqlite_bind_text(drop, 5, uchart->key.context_id);
        code = sqlite_run(connection, drop, "removing a U-chart", &call->reply.error);
    } else if (result != SQLITE_ROW && result != SQLITE_DONE) {
        code = sqlite_error(connection, sqlite3_extended_errcode(connection->db), "finding a U-chart",
                            &call->reply.error);
    }
    sqlite3_reset(old);
    return code;
}

static int write_points(struct sqlite_connection *connection, struct store_call *call,
                        const struct store_uchart *uchart, int64_t context_no)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_PUT_UCHART, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite_bind_text(statement, 1, uchart->key.tool);
    sqlite_bind_text(statement, 2, uchart->key.chamber);
    sqlite_bind_text(statement, 3, uchart->recipe);
    sqlite3_bind_int64(statement, 4, uchart->end_us);
    sqlite_bind_text(statement, 5, uchart->key.context_id);
    sqlite3_bind_int64(statement, 6, context_no);
    sqlite3_bind_int64(statement, 7, uchart->judged_us);
    sqlite3_bind_int64(statement, 8, (int64_t)uchart->chart_set);
    sqlite3_bind_int(statement, 9, uchart->alarm_count);
    sqlite3_bind_int(statement, 10, uchart->severity);
    sqlite3_bind_int64(statement, 11, (int64_t)hash64(uchart->points, uchart->points_length));
    sqlite_bind_bytes(statement, 12, uchart->points, uchart->points_length);
    return sqlite_run(connection, statement, "writing a U-chart", &call->reply.error);
}

static int write_verdicts(struct sqlite_connection *connection, struct store_call *call,
                          const struct store_uchart *uchart, int64_t context_no)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_PUT_VERDICTS, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, context_no);
    sqlite_bind_text(statement, 2, uchart->recipe);
    sqlite3_bind_int64(statement, 3, uchart->end_us);
    sqlite_bind_bytes(statement, 4, uchart->verdicts, uchart->verdicts_length);
    return sqlite_run(connection, statement, "writing verdicts", &call->reply.error);
}

static int put_uchart(struct sqlite_connection *connection, struct store_call *call,
                      const struct store_uchart *uchart)
{
    struct known_context known;
    int code = find_known(connection, call, &uchart->key, NULL, &known);
    if (code)
        return code;
    if (known.context_no == 0) {
        struct new_context context = {.state = "judged",
                                      .end_us = uchart->end_us,
                                      .ingest_us = uchart->judged_us,
                                      .recipe = uchart->recipe,
                                      .dead_reason = ""};
        code = insert_context(connection, call, &uchart->key, &context, &known.context_no);
    } else if (known.state != KNOWN_JUDGED) {
        code = set_state(connection, call, known.context_no, "judged", "");
    } else {
        code = drop_moved_uchart(connection, call, uchart, known.context_no);
    }
    if (code == 0)
        code = write_points(connection, call, uchart, known.context_no);
    return code ? code : write_verdicts(connection, call, uchart, known.context_no);
}

static int put_ucharts(struct sqlite_connection *connection, struct store_call *call)
{
    const struct store_uchart *ucharts = store_call_ucharts(call);
    int code = 0;
    for (size_t i = 0; i < call->u.ucharts.count && code == 0; i++)
        code = put_uchart(connection, call, &ucharts[i]);
    return code;
}

static int put_chart_set(struct sqlite_connection *connection, struct store_call *call)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_PUT_CHART_SET, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, (int64_t)call->u.chart_set.id);
    sqlite3_bind_int64(statement, 2, call->u.chart_set.when_us);
    sqlite_bind_text(statement, 3, call->u.chart_set.text);
    int code = sqlite_run(connection, statement, "writing a chart set", &call->reply.error);
    if (code || !call->u.chart_set.current)
        return code;
    return run_with_number(connection, call, STATEMENT_PUT_CURRENT, (int64_t)call->u.chart_set.id,
                           "putting a chart set in force");
}

/* --- debts --- */

static int bind_debt_and_run(struct sqlite_connection *connection, struct store_call *call, int which,
                             const char *what)
{
    const struct store_debt *debt = &call->u.debt;
    sqlite3_stmt *statement = sqlite_statement(connection, which, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int(statement, 1, (int)debt->kind);
    sqlite3_bind_int64(statement, 2, debt->at_us);
    sqlite_bind_text(statement, 3, debt->key.tool);
    sqlite_bind_text(statement, 4, debt->key.chamber);
    sqlite_bind_text(statement, 5, debt->key.context_id);
    sqlite3_bind_int64(statement, 6, debt->put_us);
    if (which == STATEMENT_PUT_DEBT)
        sqlite3_bind_int64(statement, 7, (int64_t)debt->owner);
    return sqlite_run(connection, statement, what, &call->reply.error);
}

/* --- retention --- */

/* What one row that is to be removed has. */
struct old_context {
    int64_t context_no;
    bool receiving; /* nothing but chunks of a context that was never completed */
    struct store_key key;
};

/* Reads the rows first: what is being walked over must not be changed meanwhile. */
static int list_old(struct sqlite_connection *connection, struct store_call *call, int which,
                    int64_t before_us, size_t limit, struct old_context *rows, size_t *count)
{
    sqlite3_stmt *statement = sqlite_statement(connection, which, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, before_us);
    sqlite3_bind_int64(statement, 2, (int64_t)limit);
    struct arena *arena = &call->reply.arena;
    int result, code = 0;
    *count = 0;
    while (code == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        struct old_context *row = &rows[(*count)++];
        *row = (struct old_context){.context_no = sqlite3_column_int64(statement, 0),
                                    .receiving = sqlite3_column_int(statement, 1) != 0};
        if (sqlite3_column_count(statement) < 5)
            continue;
        row->key.tool = arena_strdup(arena, (const char *)sqlite3_column_text(statement, 2));
        row->key.chamber = arena_strdup(arena, (const char *)sqlite3_column_text(statement, 3));
        row->key.context_id = arena_strdup(arena, (const char *)sqlite3_column_text(statement, 4));
        if (row->key.tool == NULL || row->key.chamber == NULL || row->key.context_id == NULL)
            code = no_memory(call);
    }
    if (code == 0 && result != SQLITE_DONE)
        code = sqlite_error(connection, sqlite3_extended_errcode(connection->db), "listing what has expired",
                            &call->reply.error);
    sqlite3_reset(statement);
    return code;
}

static int drop_uchart(struct sqlite_connection *connection, struct store_call *call,
                       const struct old_context *row)
{
    sqlite3_stmt *old = sqlite_statement(connection, STATEMENT_OLD_UCHART, &call->reply.error);
    sqlite3_stmt *drop =
        old ? sqlite_statement(connection, STATEMENT_DELETE_UCHART, &call->reply.error) : NULL;
    if (drop == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(old, 1, row->context_no);
    int code = 0;
    if (sqlite3_step(old) == SQLITE_ROW) {
        sqlite_bind_text(drop, 1, row->key.tool);
        sqlite_bind_text(drop, 2, row->key.chamber);
        sqlite3_bind_value(drop, 3, sqlite3_column_value(old, 0));
        sqlite3_bind_int64(drop, 4, sqlite3_column_int64(old, 1));
        sqlite_bind_text(drop, 5, row->key.context_id);
        code = sqlite_run(connection, drop, "removing a U-chart", &call->reply.error);
    }
    sqlite3_reset(old);
    if (code)
        return code;
    return run_with_number(connection, call, STATEMENT_DELETE_VERDICTS, row->context_no, "removing verdicts");
}

static int expire_tchart(struct sqlite_connection *connection, struct store_call *call,
                         const struct old_context *row)
{
    int code =
        run_with_number(connection, call, STATEMENT_DELETE_CHUNKS, row->context_no, "removing a T-chart");
    if (code)
        return code;
    return run_with_number(connection, call,
                           row->receiving ? STATEMENT_DELETE_CONTEXT : STATEMENT_TCHART_EXPIRED,
                           row->context_no, "removing a T-chart");
}

static int expire_context(struct sqlite_connection *connection, struct store_call *call,
                          const struct old_context *row)
{
    int code = drop_uchart(connection, call, row);
    if (code == 0)
        code =
            run_with_number(connection, call, STATEMENT_DELETE_CHUNKS, row->context_no, "removing a T-chart");
    if (code == 0)
        code = run_with_number(connection, call, STATEMENT_DELETE_CONTEXT, row->context_no,
                               "removing a context");
    return code;
}

static int64_t cut_off(int64_t now_us, int64_t retention_us)
{
    int64_t before;
    return __builtin_sub_overflow(now_us, retention_us, &before) ? INT64_MIN : before;
}

static int expire(struct sqlite_connection *connection, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    const struct store_retention *retention = &call->u.expire.retention;
    bool by_event = retention->clock == STORE_RETAIN_BY_EVENT;
    size_t limit = call->u.expire.limit < EXPIRE_SLICE ? call->u.expire.limit : EXPIRE_SLICE;
    struct old_context *rows = arena_calloc(&reply->arena, EXPIRE_SLICE, sizeof *rows);
    if (rows == NULL)
        return no_memory(call);
    size_t contexts = 0, tcharts = 0;
    int code = list_old(connection, call,
                        by_event ? STATEMENT_OLD_CONTEXTS_BY_EVENT : STATEMENT_OLD_CONTEXTS_BY_INGEST,
                        cut_off(call->u.expire.now_us, retention->uchart_us), limit, rows, &contexts);
    for (size_t i = 0; i < contexts && code == 0; i++)
        code = expire_context(connection, call, &rows[i]);
    if (code == 0)
        code = list_old(connection, call,
                        by_event ? STATEMENT_OLD_TCHARTS_BY_EVENT : STATEMENT_OLD_TCHARTS_BY_INGEST,
                        cut_off(call->u.expire.now_us, retention->tchart_us), limit, rows, &tcharts);
    for (size_t i = 0; i < tcharts && code == 0; i++)
        code = expire_tchart(connection, call, &rows[i]);
    reply->removed = (int64_t)(contexts + tcharts);
    reply->more = limit > 0 && (contexts == limit || tcharts == limit);
    return code;
}

int sqlite_write_call(struct sqlite_connection *connection, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    switch (call->op) {
    case STORE_OP_PUT_CHUNK:
        return reply->code = put_chunk(connection, call);
    case STORE_OP_COMPLETE:
        return reply->code = complete(connection, call);
    case STORE_OP_MARK_DEAD:
        return reply->code = mark_dead(connection, call);
    case STORE_OP_PUT_UCHARTS:
        return reply->code = put_ucharts(connection, call);
    case STORE_OP_PUT_CHART_SET:
        return reply->code = put_chart_set(connection, call);
    case STORE_OP_PUT_DEBT:
        return reply->code = bind_debt_and_run(connection, call, STATEMENT_PUT_DEBT, "noting a debt");
    case STORE_OP_CLEAR_DEBT:
        return reply->code = bind_debt_and_run(connection, call, STATEMENT_CLEAR_DEBT, "clearing a debt");
    case STORE_OP_EXPIRE:
        return reply->code = expire(connection, call);
    default:
        return reply->code =
                   error_set(&reply->error, ERR_INVALID, "store: operation %d does not write", (int)call->op);
    }
}
