/* The calls that read. Each fills the reply's arena; what it does not reach is left NULL and 0. */
#include "store/sqlite_connection.h"

#include "base/hash.h"

#include <string.h>

enum { ROWS_FIRST = 32 };

static int no_memory(struct store_reply *reply)
{
    return error_set(&reply->error, ERR_NO_MEMORY, "store: out of memory for a reply");
}

/* Doubles an array in the arena when it is full. False: out of memory. */
static bool grow(struct arena *arena, void **items, size_t size, size_t count, size_t *capacity)
{
    if (count < *capacity)
        return true;
    size_t wanted = *capacity ? *capacity * 2 : ROWS_FIRST;
    void *larger = arena_calloc(arena, wanted, size);
    if (larger == NULL)
        return false;
    if (count > 0)
        memcpy(larger, *items, count * size);
    *items = larger;
    *capacity = wanted;
    return true;
}

static const char *column_text(struct arena *arena, sqlite3_stmt *statement, int column)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return arena_strndup(arena, text ? text : "", (size_t)sqlite3_column_bytes(statement, column));
}

/* A copy of a blob; NULL only when out of memory. */
static const void *column_bytes(struct arena *arena, sqlite3_stmt *statement, int column, size_t *length)
{
    const void *bytes = sqlite3_column_blob(statement, column);
    *length = (size_t)sqlite3_column_bytes(statement, column);
    void *copy = arena_alloc(arena, *length);
    if (copy && *length > 0)
        memcpy(copy, bytes, *length);
    return copy;
}

static int step(struct sqlite_connection *connection, sqlite3_stmt *statement, bool *row, const char *what,
                struct error *err)
{
    int result = sqlite3_step(statement);
    *row = result == SQLITE_ROW;
    if (result == SQLITE_ROW || result == SQLITE_DONE)
        return 0;
    return sqlite_error(connection, sqlite3_extended_errcode(connection->db), what, err);
}

static enum store_state state_of(const char *text)
{
    if (text && strcmp(text, "judged") == 0)
        return STORE_JUDGED;
    return text && strcmp(text, "dead") == 0 ? STORE_DEAD : STORE_PENDING;
}

/* The columns are CONTEXT_COLUMNS of sqlite_schema.c. False: out of memory. */
static bool read_completion(sqlite3_stmt *statement, struct arena *arena, struct store_completion *completion)
{
    bool completed = sqlite3_column_int(statement, 2) != 0;
    *completion = (struct store_completion){
        .state = state_of((const char *)sqlite3_column_text(statement, 1)),
        /* A context that is only known by its dead mark has no event time of its own. */
        .end_us = completed ? sqlite3_column_int64(statement, 4) : 0,
        .completed_us = completed ? sqlite3_column_int64(statement, 5) : 0,
        .chunk_count = sqlite3_column_int(statement, 6),
        .recipe = column_text(arena, statement, 7),
        .lot = column_text(arena, statement, 8),
        .dead_reason = column_text(arena, statement, 9),
        .announcement = column_text(arena, statement, 10),
        .key = {.tool = column_text(arena, statement, 11),
                .chamber = column_text(arena, statement, 12),
                .context_id = column_text(arena, statement, 13)},
    };
    return completion->recipe && completion->lot && completion->dead_reason && completion->announcement &&
           completion->key.tool && completion->key.chamber && completion->key.context_id;
}

/* Every row of `statement` into reply->completions. */
static int read_completions(struct sqlite_connection *connection, sqlite3_stmt *statement,
                            struct store_reply *reply, const char *what)
{
    size_t capacity = 0;
    void *items = NULL;
    for (;;) {
        bool row = false;
        int code = step(connection, statement, &row, what, &reply->error);
        if (code || !row)
            return code;
        if (!grow(&reply->arena, &items, sizeof *reply->completions, reply->completion_count, &capacity))
            return no_memory(reply);
        reply->completions = items;
        if (!read_completion(statement, &reply->arena, &reply->completions[reply->completion_count]))
            return no_memory(reply);
        reply->completion_count++;
    }
}

static int read_chunk(sqlite3_stmt *statement, const struct store_key *key, const char *path,
                      struct store_reply *reply)
{
    int64_t index = sqlite3_column_int64(statement, 0);
    if (reply->completions && (reply->chunk_count >= (size_t)reply->completions->chunk_count ||
                               index != (int64_t)reply->chunk_count))
        return error_set(
            &reply->error, ERR_CORRUPT,
            "store %s: context %s: its chunks are not numbered 0 to %d; restore a backup, or import the "
            "context again under another id",
            path, key->context_id, reply->completions->chunk_count - 1);
    struct store_chunk *chunk = &reply->chunks[reply->chunk_count];
    chunk->index = (int32_t)index;
    chunk->bytes = column_bytes(&reply->arena, statement, 2, &chunk->length);
    if (chunk->bytes == NULL)
        return no_memory(reply);
    if ((int64_t)hash64(chunk->bytes, chunk->length) != sqlite3_column_int64(statement, 1))
        return error_set(
            &reply->error, ERR_CORRUPT,
            "store %s: context %s, chunk %d: the bytes are not those that were written (xxHash64 "
            "differs); check the disk and restore a backup",
            path, key->context_id, chunk->index);
    reply->chunk_count++;
    return 0;
}

static int read_chunks(struct sqlite_connection *connection, int64_t context_no, const struct store_key *key,
                       struct store_reply *reply)
{
    size_t expected = reply->completions ? (size_t)reply->completions->chunk_count : STORE_CHUNKS_MAX;
    reply->chunks = arena_calloc(&reply->arena, expected, sizeof *reply->chunks);
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_CHUNKS, &reply->error);
    if (statement == NULL || reply->chunks == NULL)
        return statement ? no_memory(reply) : reply->error.code;
    sqlite3_bind_int64(statement, 1, context_no);
    bool row = true;
    int code = 0;
    while (code == 0 && row) {
        code = step(connection, statement, &row, "reading a T-chart", &reply->error);
        if (code == 0 && row)
            code = read_chunk(statement, key, connection->path, reply);
    }
    sqlite3_reset(statement);
    if (code == 0 && reply->completions && reply->chunk_count != expected)
        code = error_set(&reply->error, ERR_CORRUPT, "store %s: context %s: %zu of its %zu chunks are there",
                         connection->path, key->context_id, reply->chunk_count, expected);
    return code;
}

/* What is known of the context, into reply->completions. With `received` one that is not complete is found
 * too, and has no completion. */
static int find_tchart(struct sqlite_connection *connection, const struct store_key *key, bool received,
                       struct store_reply *reply, int64_t *context_no)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_FIND_KEY, &reply->error);
    if (statement == NULL)
        return reply->error.code;
    sqlite_bind_key(statement, key);
    bool row = false;
    int code = step(connection, statement, &row, "finding a context", &reply->error);
    bool completed = row && sqlite3_column_int(statement, 2);
    if (code == 0 && !completed && !(row && received))
        code = error_set(&reply->error, ERR_NOT_FOUND, "context %s of %s:%s is not complete in store %s",
                         key->context_id, key->tool, key->chamber, connection->path);
    else if (code == 0 && !sqlite3_column_int(statement, 3))
        code = error_set(&reply->error, ERR_NOT_FOUND, "the T-chart of context %s of %s:%s has expired",
                         key->context_id, key->tool, key->chamber);
    if (code == 0)
        *context_no = sqlite3_column_int64(statement, 0);
    if (code == 0 && completed) {
        reply->completions = arena_calloc(&reply->arena, 1, sizeof *reply->completions);
        if (reply->completions == NULL || !read_completion(statement, &reply->arena, reply->completions))
            code = no_memory(reply);
        else
            reply->completion_count = 1;
    }
    sqlite3_reset(statement);
    return code;
}

static int fetch_tchart(struct sqlite_connection *connection, struct store_call *call)
{
    int64_t context_no = 0;
    int code = find_tchart(connection, &call->key, call->u.tchart.received, &call->reply, &context_no);
    return code ? code : read_chunks(connection, context_no, &call->key, &call->reply);
}

static int list_outbox(struct sqlite_connection *connection, struct store_call *call)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_OUTBOX, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite3_bind_int64(statement, 1, call->u.outbox.completed_before_us);
    sqlite3_bind_int64(statement, 2, (int64_t)call->u.outbox.limit);
    int code = read_completions(connection, statement, &call->reply, "listing the outbox");
    sqlite3_reset(statement);
    return code;
}

/* Binds the filters and the later of the two lower bounds: the cursor, or the start. Ids are never empty, so
 * that (end, "") lies before every context that ended at `end`. */
static void bind_list(sqlite3_stmt *statement, const struct store_list_query *query)
{
    bool cursor = query->after_context_id && query->after_end_us >= query->from_end_us;
    bool unbounded = !cursor && query->from_end_us == 0;
    sqlite3_bind_int64(statement, 1,
                       cursor      ? query->after_end_us
                       : unbounded ? INT64_MIN
                                   : query->from_end_us);
    sqlite_bind_text(statement, 2, cursor ? query->after_context_id : "");
    sqlite3_bind_int64(statement, 3, query->to_end_us ? query->to_end_us : INT64_MAX);
    /* One more than asked for tells whether there is a next page. */
    sqlite3_bind_int64(statement, 4, (int64_t)query->limit + 1);
    const char *filters[] = {query->tool, query->chamber, query->recipe, query->lot};
    for (int i = 0; i < 4; i++)
        if (filters[i])
            sqlite_bind_text(statement, 5 + i, filters[i]);
}

static int list_contexts(struct sqlite_connection *connection, struct store_call *call)
{
    const struct store_list_query *query = &call->u.list;
    int filters = (query->tool ? FILTER_BY_TOOL : 0) | (query->chamber ? FILTER_BY_CHAMBER : 0) |
                  (query->recipe ? FILTER_BY_RECIPE : 0) | (query->lot ? FILTER_BY_LOT : 0);
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_LIST + filters, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    bind_list(statement, query);
    int code = read_completions(connection, statement, &call->reply, "listing contexts");
    sqlite3_reset(statement);
    call->reply.more = call->reply.completion_count > query->limit;
    if (call->reply.more)
        call->reply.completion_count = query->limit;
    return code;
}

static int find_context(struct sqlite_connection *connection, struct store_call *call)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_FIND_ID, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    sqlite_bind_text(statement, 1, call->key.context_id);
    int code = read_completions(connection, statement, &call->reply, "finding a context");
    sqlite3_reset(statement);
    if (code == 0 && call->reply.completion_count == 0)
        code = error_set(&call->reply.error, ERR_NOT_FOUND, "no completed context %s in store %s",
                         call->key.context_id, connection->path);
    return code;
}

static int count(struct sqlite_connection *connection, struct store_call *call)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_COUNTERS, &call->reply.error);
    if (statement == NULL)
        return call->reply.error.code;
    struct store_counts *counts = &call->reply.counts;
    bool row = true;
    int code = 0;
    while (code == 0 && row) {
        code = step(connection, statement, &row, "counting contexts", &call->reply.error);
        if (code || !row)
            continue;
        const char *name = (const char *)sqlite3_column_text(statement, 0);
        int64_t value = sqlite3_column_int64(statement, 1);
        if (name && strcmp(name, "completed") == 0)
            counts->completed = value;
        else if (name && strcmp(name, "judged") == 0)
            counts->judged = value;
        else
            counts->dead = value;
    }
    sqlite3_reset(statement);
    return code;
}

/* The columns are UCHART_COLUMNS, then the verdicts where `verdicts`. Key and recipe are the caller's. */
static int read_uchart(struct sqlite_connection *connection, sqlite3_stmt *statement, bool verdicts,
                       struct store_reply *reply, struct store_uchart *uchart)
{
    struct arena *arena = &reply->arena;
    uchart->key.context_id = column_text(arena, statement, 0);
    uchart->end_us = sqlite3_column_int64(statement, 1);
    uchart->judged_us = sqlite3_column_int64(statement, 2);
    uchart->chart_set = (uint64_t)sqlite3_column_int64(statement, 3);
    uchart->alarm_count = sqlite3_column_int(statement, 4);
    uchart->severity = sqlite3_column_int(statement, 5);
    uchart->points = column_bytes(arena, statement, 7, &uchart->points_length);
    if (verdicts)
        uchart->verdicts = column_bytes(arena, statement, 8, &uchart->verdicts_length);
    if (uchart->key.context_id == NULL || uchart->points == NULL || (verdicts && uchart->verdicts == NULL))
        return no_memory(reply);
    if ((int64_t)hash64(uchart->points, uchart->points_length) != sqlite3_column_int64(statement, 6))
        return error_set(
            &reply->error, ERR_CORRUPT,
            "store %s: the U-chart of context %s: its points are not those that were written (xxHash64 "
            "differs); check the disk, restore a backup, or judge the context again",
            connection->path, uchart->key.context_id);
    return 0;
}

static int fetch_uchart(struct sqlite_connection *connection, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_FETCH_UCHART, &reply->error);
    if (statement == NULL)
        return reply->error.code;
    sqlite_bind_key(statement, &call->key);
    bool row = false;
    int code = step(connection, statement, &row, "reading a U-chart", &reply->error);
    if (code == 0 && !row)
        code = error_set(&reply->error, ERR_NOT_FOUND, "context %s of %s:%s has no U-chart in store %s",
                         call->key.context_id, call->key.tool, call->key.chamber, connection->path);
    struct store_uchart *uchart = code ? NULL : arena_calloc(&reply->arena, 1, sizeof *uchart);
    if (uchart) {
        uchart->key.tool = arena_strdup(&reply->arena, call->key.tool);
        uchart->key.chamber = arena_strdup(&reply->arena, call->key.chamber);
        uchart->recipe = column_text(&reply->arena, statement, 9);
        code = read_uchart(connection, statement, true, reply, uchart);
        reply->ucharts = uchart;
        reply->uchart_count = 1;
    }
    if (code == 0 && (uchart == NULL || !uchart->key.tool || !uchart->key.chamber || !uchart->recipe))
        code = no_memory(reply);
    sqlite3_reset(statement);
    return code;
}

static void bind_history(sqlite3_stmt *statement, const struct store_history_query *query)
{
    sqlite_bind_text(statement, 1, query->tool);
    sqlite_bind_text(statement, 2, query->chamber);
    sqlite_bind_text(statement, 3, query->recipe);
    sqlite3_bind_int64(statement, 4, query->end_us);
    sqlite_bind_text(statement, 5, query->context_id ? query->context_id : "");
}

static int history_statement(const struct store_history_query *query)
{
    if (query->later)
        return query->verdicts ? STATEMENT_LATER_VERDICTS : STATEMENT_LATER;
    return query->verdicts ? STATEMENT_EARLIER_VERDICTS : STATEMENT_EARLIER;
}

/* Appends one stretch to reply->ucharts. */
static int read_stretch(struct sqlite_connection *connection, const struct store_history_query *query,
                        struct store_reply *reply, size_t *capacity)
{
    struct store_uchart shared = {.key = {.tool = arena_strdup(&reply->arena, query->tool),
                                          .chamber = arena_strdup(&reply->arena, query->chamber)},
                                  .recipe = arena_strdup(&reply->arena, query->recipe)};
    if (shared.key.tool == NULL || shared.key.chamber == NULL || shared.recipe == NULL)
        return no_memory(reply);
    sqlite3_stmt *statement = sqlite_statement(connection, history_statement(query), &reply->error);
    if (statement == NULL)
        return reply->error.code;
    bind_history(statement, query);
    sqlite3_bind_int64(statement, 6, (int64_t)query->limit);
    bool row = true;
    int code = 0;
    while (code == 0 && row) {
        code = step(connection, statement, &row, "reading a history", &reply->error);
        if (code || !row)
            continue;
        void *items = reply->ucharts;
        if (reply->uchart_count == STORE_BULK_MAX_ROWS) {
            code = error_set(&reply->error, ERR_LIMIT,
                             "store: more than %d U-charts in one look-up; ask for fewer keys at a time",
                             STORE_BULK_MAX_ROWS);
        } else if (!grow(&reply->arena, &items, sizeof *reply->ucharts, reply->uchart_count, capacity)) {
            code = no_memory(reply);
        } else {
            reply->ucharts = items;
            reply->ucharts[reply->uchart_count] = shared;
            code = read_uchart(connection, statement, query->verdicts, reply,
                               &reply->ucharts[reply->uchart_count]);
            reply->uchart_count++;
        }
    }
    sqlite3_reset(statement);
    return code;
}

static int check_newest(struct sqlite_connection *connection, const struct store_history_query *query,
                        struct store_reply *reply)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_ANY_LATER, &reply->error);
    if (statement == NULL)
        return reply->error.code;
    bind_history(statement, query);
    bool later = false;
    int code = step(connection, statement, &later, "reading a history", &reply->error);
    sqlite3_reset(statement);
    reply->newest = !later;
    return code;
}

static int fetch_history(struct sqlite_connection *connection, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    const struct store_history_query *queries = store_call_queries(call);
    size_t query_count = call->u.history.count, capacity = 0;
    reply->query_counts = arena_calloc(&reply->arena, query_count, sizeof *reply->query_counts);
    if (reply->query_counts == NULL)
        return no_memory(reply);
    int code = 0;
    for (size_t i = 0; i < query_count && code == 0; i++) {
        size_t before = reply->uchart_count;
        code = read_stretch(connection, &queries[i], reply, &capacity);
        reply->query_counts[i] = reply->uchart_count - before;
    }
    if (code == 0 && query_count == 1 && !queries->later)
        code = check_newest(connection, queries, reply);
    return code;
}

/* The chamber's first recipe at or after `from`, in the reply's arena; NULL when there is none. */
static int next_recipe(struct sqlite_connection *connection, const struct store_key *chamber,
                       const char *from, struct store_reply *reply, const char **recipe)
{
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_NEXT_RECIPE, &reply->error);
    if (statement == NULL)
        return reply->error.code;
    sqlite_bind_text(statement, 1, chamber->tool);
    sqlite_bind_text(statement, 2, chamber->chamber);
    sqlite_bind_text(statement, 3, from);
    bool row = false;
    *recipe = NULL;
    int code = step(connection, statement, &row, "reading a chamber's recipes", &reply->error);
    if (code == 0 && row && (*recipe = column_text(&reply->arena, statement, 0)) == NULL)
        code = no_memory(reply);
    sqlite3_reset(statement);
    return code;
}

/* Skips from recipe to recipe, so that a chamber's rows are not read for their names alone. */
static int read_heads(struct sqlite_connection *connection, const struct store_key *chamber,
                      struct store_reply *reply, size_t *capacity)
{
    const char *from = "", *recipe;
    int code = next_recipe(connection, chamber, from, reply, &recipe);
    while (code == 0 && recipe) {
        struct store_history_query query = {.tool = chamber->tool,
                                            .chamber = chamber->chamber,
                                            .recipe = recipe,
                                            .end_us = INT64_MAX,
                                            .context_id = "",
                                            .limit = 1};
        code = read_stretch(connection, &query, reply, capacity);
        /* No text lies between a recipe and the recipe with the smallest character behind it. */
        from = arena_printf(&reply->arena, "%s\x01", recipe);
        if (code == 0 && from == NULL)
            code = no_memory(reply);
        if (code == 0)
            code = next_recipe(connection, chamber, from, reply, &recipe);
    }
    return code;
}

static int list_heads(struct sqlite_connection *connection, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    size_t capacity = 0;
    reply->query_counts = arena_calloc(&reply->arena, call->u.heads.count, sizeof *reply->query_counts);
    if (reply->query_counts == NULL)
        return no_memory(reply);
    int code = 0;
    for (size_t i = 0; i < call->u.heads.count && code == 0; i++) {
        size_t before = reply->uchart_count;
        code = read_heads(connection, &call->u.heads.items[i], reply, &capacity);
        reply->query_counts[i] = reply->uchart_count - before;
    }
    return code;
}

static int fetch_chart_set(struct sqlite_connection *connection, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    uint64_t id = call->u.chart_set.id;
    sqlite3_stmt *statement =
        sqlite_statement(connection, id ? STATEMENT_CHART_SET : STATEMENT_CURRENT_CHART_SET, &reply->error);
    if (statement == NULL)
        return reply->error.code;
    if (id)
        sqlite3_bind_int64(statement, 1, (int64_t)id);
    bool row = false;
    int code = step(connection, statement, &row, "reading a chart set", &reply->error);
    if (code == 0 && !row && id)
        code = error_set(&reply->error, ERR_NOT_FOUND, "no chart set %016llx in store %s",
                         (unsigned long long)id, connection->path);
    else if (code == 0 && !row)
        code = error_set(&reply->error, ERR_NOT_FOUND,
                         "no chart set is in force in store %s; give one with `chamberlain charts use`",
                         connection->path);
    if (code == 0) {
        reply->id = (uint64_t)sqlite3_column_int64(statement, 0);
        reply->when_us = sqlite3_column_int64(statement, 1);
        const char *text = (const char *)sqlite3_column_text(statement, 2);
        reply->text = arena_strdup(&reply->arena, text ? text : "");
        if (reply->text == NULL)
            code = no_memory(reply);
    }
    sqlite3_reset(statement);
    return code;
}

static int list_debts(struct sqlite_connection *connection, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    struct arena *arena = &reply->arena;
    sqlite3_stmt *statement = sqlite_statement(connection, STATEMENT_LIST_DEBTS, &reply->error);
    if (statement == NULL)
        return reply->error.code;
    sqlite3_bind_int(statement, 1, (int)call->u.debts.kind);
    sqlite3_bind_int64(statement, 2, (int64_t)call->u.debts.limit);
    size_t capacity = 0;
    void *items = NULL;
    bool row = true;
    int code = 0;
    while (code == 0 && row) {
        code = step(connection, statement, &row, "listing debts", &reply->error);
        if (code || !row)
            continue;
        if (!grow(arena, &items, sizeof *reply->debts, reply->debt_count, &capacity)) {
            code = no_memory(reply);
            continue;
        }
        reply->debts = items;
        struct store_debt *debt = &reply->debts[reply->debt_count++];
        *debt = (struct store_debt){.kind = call->u.debts.kind,
                                    .at_us = sqlite3_column_int64(statement, 0),
                                    .key = {.tool = column_text(arena, statement, 1),
                                            .chamber = column_text(arena, statement, 2),
                                            .context_id = column_text(arena, statement, 3)},
                                    .put_us = sqlite3_column_int64(statement, 4),
                                    .owner = (uint64_t)sqlite3_column_int64(statement, 5)};
        if (debt->key.tool == NULL || debt->key.chamber == NULL || debt->key.context_id == NULL)
            code = no_memory(reply);
    }
    sqlite3_reset(statement);
    return code;
}

static int dispatch(struct sqlite_connection *connection, struct store_call *call)
{
    switch (call->op) {
    case STORE_OP_FETCH_TCHART:
        return fetch_tchart(connection, call);
    case STORE_OP_LIST_OUTBOX:
        return list_outbox(connection, call);
    case STORE_OP_LIST_CONTEXTS:
        return list_contexts(connection, call);
    case STORE_OP_FIND_CONTEXT:
        return find_context(connection, call);
    case STORE_OP_COUNT:
        return count(connection, call);
    case STORE_OP_FETCH_UCHART:
        return fetch_uchart(connection, call);
    case STORE_OP_FETCH_HISTORY:
        return fetch_history(connection, call);
    case STORE_OP_LIST_HEADS:
        return list_heads(connection, call);
    case STORE_OP_FETCH_CHART_SET:
        return fetch_chart_set(connection, call);
    case STORE_OP_LIST_DEBTS:
        return list_debts(connection, call);
    default:
        return error_set(&call->reply.error, ERR_INVALID, "store: operation %d does not read", (int)call->op);
    }
}

/* A failed read gives no half results. */
static void forget_results(struct store_reply *reply)
{
    reply->completions = NULL;
    reply->completion_count = 0;
    reply->chunks = NULL;
    reply->chunk_count = 0;
    reply->ucharts = NULL;
    reply->uchart_count = 0;
    reply->query_counts = NULL;
    reply->debts = NULL;
    reply->debt_count = 0;
    reply->more = false;
    reply->newest = false;
}

int sqlite_read_call(struct sqlite_connection *connection, struct store_call *call)
{
    /* One transaction, so that all statements of the call see the same moment. */
    struct store_reply *reply = &call->reply;
    reply->code = sqlite_run_plain(connection, STATEMENT_BEGIN_READ, "beginning to read", &reply->error);
    if (reply->code == 0) {
        reply->code = dispatch(connection, call);
        struct error ending;
        sqlite_run_plain(connection, STATEMENT_COMMIT, "ending to read", &ending);
    }
    if (reply->code)
        forget_results(reply);
    return reply->code;
}
