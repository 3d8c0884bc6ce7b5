/* The calls that read. */
#include "store/cassandra_session.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum {
    TCHART_PAGE_ROWS = 4, /* of at most 1 MiB: bounds what one fetch has on its way */
    HISTORY_PAGE_ROWS = 500,
    QUERIES_AHEAD = 8 /* of a bulk fetch */
};

static int no_memory(struct store_call *call)
{
    return error_set(&call->reply.error, ERR_NO_MEMORY, "store: out of memory for a reply");
}

/* --- T-charts --- */

struct trace {
    struct store_call *call;
    const struct cassandra_context *context;
    char **buffers;
    size_t *filled;
    int32_t *lengths;
};

static int take_part(struct trace *trace, const CassRow *row)
{
    int32_t index = cassandra_int32(row, 0), part = cassandra_int32(row, 2), length = cassandra_int32(row, 3);
    if (index < 0 || index >= trace->context->chunk_count ||
        (uint64_t)cassandra_int64(row, 1) != trace->context->hashes[index])
        return 0; /* left over from another attempt */
    size_t got, offset = (size_t)part * CASSANDRA_PART_BYTES;
    const void *bytes = cassandra_bytes(row, 4, &got);
    bool first = trace->buffers[index] == NULL;
    if (part < 0 || length < 0 || length > STORE_CHUNK_MAX_BYTES || offset + got > (size_t)length ||
        (!first && length != trace->lengths[index]))
        return error_set(&trace->call->reply.error, ERR_CORRUPT,
                         "store: context %s, chunk %d: a part does not fit", trace->context->key.context_id,
                         index);
    if (first) {
        trace->buffers[index] = arena_alloc(&trace->call->reply.arena, (size_t)length);
        trace->lengths[index] = length;
    }
    if (trace->buffers[index] == NULL)
        return no_memory(trace->call);
    if (got > 0)
        memcpy(trace->buffers[index] + offset, bytes, got);
    trace->filled[index] += got;
    return 0;
}

static int read_parts(struct cassandra_session *session, struct trace *trace)
{
    const struct store_key *key = &trace->call->key;
    CassStatement *statement =
        cassandra_bind(session, CQL_CHUNKS, "ttt", key->tool, key->chamber, key->context_id);
    cass_statement_set_paging_size(statement, TCHART_PAGE_ROWS);
    int code = 0;
    for (bool more = true; more && code == 0;) {
        const CassResult *page = NULL;
        code = cassandra_receive(session, cass_session_execute(session->session, statement),
                                 "reading a T-chart", &page, &trace->call->reply.error);
        if (code)
            break;
        CassIterator *rows = cass_iterator_from_result(page);
        while (code == 0 && cass_iterator_next(rows))
            code = take_part(trace, cass_iterator_get_row(rows));
        cass_iterator_free(rows);
        more = cass_result_has_more_pages(page) == cass_true;
        if (more)
            cass_statement_set_paging_state(statement, page);
        cass_result_free(page);
    }
    cass_statement_free(statement);
    return code;
}

static int expired(struct store_call *call)
{
    return error_set(&call->reply.error, ERR_NOT_FOUND, "the T-chart of context %s of %s:%s has expired",
                     call->key.context_id, call->key.tool, call->key.chamber);
}

static int check_chunks(struct trace *trace)
{
    struct store_call *call = trace->call;
    int32_t count = trace->context->chunk_count, there = 0;
    for (int32_t i = 0; i < count; i++)
        there += trace->buffers[i] != NULL && trace->filled[i] == (size_t)trace->lengths[i];
    if (there == 0 && count > 0)
        return expired(call);
    if (there < count)
        return error_set(
            &call->reply.error, ERR_UNAVAILABLE,
            "context %s of %s:%s: only %d of %d chunks can be read; a replica lacks some: try again, or "
            "repair the keyspace",
            call->key.context_id, call->key.tool, call->key.chamber, there, count);
    for (int32_t i = 0; i < count; i++) {
        struct store_chunk *chunk = &call->reply.chunks[i];
        *chunk = (struct store_chunk){.index = i, .bytes = trace->buffers[i], .length = trace->filled[i]};
        if (hash64(chunk->bytes, chunk->length) != trace->context->hashes[i])
            return error_set(
                &call->reply.error, ERR_CORRUPT,
                "context %s of %s:%s: chunk %d does not match its hash; the stored bytes are damaged",
                call->key.context_id, call->key.tool, call->key.chamber, i);
    }
    call->reply.chunk_count = (size_t)count;
    return 0;
}

static int add_completion(struct store_reply *reply, const struct cassandra_context *context)
{
    reply->completions = arena_calloc(&reply->arena, 1, sizeof *reply->completions);
    if (reply->completions == NULL)
        return error_set(&reply->error, ERR_NO_MEMORY, "store: out of memory for a reply");
    cassandra_context_completion(context, reply->completions);
    reply->completion_count = 1;
    return 0;
}

static int find(struct cassandra_session *session, struct store_call *call, struct cassandra_context *context)
{
    CassFuture *future = cassandra_send(session, cassandra_context_statement(session, &call->key));
    return cassandra_context_receive(session, future, &call->reply.arena, context, &call->reply.error);
}

static bool allocate_trace(struct trace *trace)
{
    struct arena *arena = &trace->call->reply.arena;
    size_t count = (size_t)trace->context->chunk_count;
    trace->buffers = arena_calloc(arena, count, sizeof *trace->buffers);
    trace->filled = arena_calloc(arena, count, sizeof *trace->filled);
    trace->lengths = arena_calloc(arena, count, sizeof *trace->lengths);
    trace->call->reply.chunks = arena_calloc(arena, count, sizeof *trace->call->reply.chunks);
    return trace->buffers && trace->filled && trace->lengths && trace->call->reply.chunks;
}

/* The chunks that have come of a context that is not complete; no completion. */
static int fetch_received(struct cassandra_session *session, struct store_call *call,
                          struct cassandra_context *context)
{
    struct arena *arena = &call->reply.arena;
    struct cassandra_versions versions = {
        .hashes = arena_calloc(arena, STORE_CHUNKS_MAX, sizeof *versions.hashes),
        .put_us = arena_calloc(arena, STORE_CHUNKS_MAX, sizeof *versions.put_us),
        .there = arena_calloc(arena, STORE_CHUNKS_MAX, sizeof *versions.there),
        .count = STORE_CHUNKS_MAX};
    context->chunk_count = STORE_CHUNKS_MAX;
    context->hashes = versions.hashes;
    struct trace trace = {.call = call, .context = context};
    if (versions.hashes == NULL || versions.put_us == NULL || versions.there == NULL ||
        !allocate_trace(&trace))
        return no_memory(call);
    int code = cassandra_read_versions(session, call, &versions);
    if (code == 0)
        code = read_parts(session, &trace);
    for (int32_t i = 0; i < STORE_CHUNKS_MAX && code == 0; i++)
        if (versions.there[i] && trace.buffers[i] && trace.filled[i] == (size_t)trace.lengths[i])
            call->reply.chunks[call->reply.chunk_count++] =
                (struct store_chunk){.index = i, .bytes = trace.buffers[i], .length = trace.filled[i]};
    return code;
}

static int fetch_tchart(struct cassandra_session *session, struct store_call *call)
{
    struct cassandra_context context;
    int code = find(session, call, &context);
    if (code)
        return code;
    if (!context.completed && context.has_tchart && call->u.tchart.received)
        return fetch_received(session, call, &context);
    if (!context.completed)
        return error_set(&call->reply.error, ERR_NOT_FOUND,
                         "context %s of %s:%s is not complete in the store", call->key.context_id,
                         call->key.tool, call->key.chamber);
    if (!context.has_tchart)
        return expired(call);
    struct trace trace = {.call = call, .context = &context};
    if (!allocate_trace(&trace))
        return no_memory(call);
    code = context.chunk_count ? read_parts(session, &trace) : 0;
    if (code == 0)
        code = check_chunks(&trace);
    return code ? code : add_completion(&call->reply, &context);
}

/* --- lists --- */

struct listing {
    struct cassandra_session *session;
    struct store_call *call;
    size_t limit, capacity;
    bool read_only;
};

static int add_to_list(struct listing *listing, const struct cassandra_context *context)
{
    struct store_reply *reply = &listing->call->reply;
    if (reply->completion_count == listing->capacity) {
        size_t capacity = listing->capacity ? 2 * listing->capacity : 64;
        struct store_completion *items = arena_calloc(&reply->arena, capacity, sizeof *items);
        if (items == NULL)
            return no_memory(listing->call);
        if (reply->completion_count > 0)
            memcpy(items, reply->completions, reply->completion_count * sizeof *items);
        reply->completions = items;
        listing->capacity = capacity;
    }
    cassandra_context_completion(context, &reply->completions[reply->completion_count++]);
    return 0;
}

/* A row whose context is judged or dead was left by a call that was cut short: it goes now. */
static int visit_outbox(void *arg, const struct cassandra_entry *entry,
                        const struct cassandra_context *context, struct error *err)
{
    struct listing *listing = arg;
    bool current = context->completed && context->ingest_us == entry->at_us;
    if (current && !context->judged && !context->dead) {
        int code = add_to_list(listing, context);
        return code ? code : listing->call->reply.completion_count == listing->limit;
    }
    if (!current || listing->read_only)
        return 0; /* perhaps being written just now; or an attempt that was told again at another time */
    struct cassandra_wave wave = cassandra_wave_of(listing->session, "clearing the outbox", err);
    cassandra_delete_entry(&wave, KIND_OUTBOX, entry);
    return cassandra_wave_end(&wave);
}

static int list_outbox(struct cassandra_session *session, struct store_call *call, bool read_only)
{
    struct listing listing = {
        .session = session, .call = call, .limit = call->u.outbox.limit, .read_only = read_only};
    struct cassandra_walk walk = {.session = session,
                                  .arena = &call->reply.arena,
                                  .kind = KIND_OUTBOX,
                                  .from_us = INT64_MIN,
                                  .to_us = call->u.outbox.completed_before_us,
                                  .keep_buckets = read_only,
                                  .arg = &listing,
                                  .visit = visit_outbox};
    return listing.limit ? cassandra_walk(&walk, &call->reply.error) : 0;
}

static bool matches(const char *wanted, const char *text)
{
    return wanted == NULL || strcmp(wanted, text) == 0;
}

static bool wants_context(void *arg, const struct cassandra_entry *entry)
{
    const struct listing *listing = arg;
    const struct store_list_query *query = &listing->call->u.list;
    bool behind_cursor =
        query->after_context_id == NULL || entry->at_us > query->after_end_us ||
        (entry->at_us == query->after_end_us && strcmp(entry->key.context_id, query->after_context_id) > 0);
    return behind_cursor && matches(query->tool, entry->key.tool) &&
           matches(query->chamber, entry->key.chamber) && matches(query->recipe, entry->recipe) &&
           matches(query->lot, entry->lot);
}

static int visit_context(void *arg, const struct cassandra_entry *entry,
                         const struct cassandra_context *context, struct error *err)
{
    (void)err;
    struct listing *listing = arg;
    struct store_reply *reply = &listing->call->reply;
    if (!context->completed || context->end_us != entry->at_us ||
        strcmp(context->recipe, entry->recipe) != 0 || strcmp(context->lot, entry->lot) != 0)
        return 0;
    reply->more = reply->completion_count == listing->limit;
    return reply->more ? 1 : add_to_list(listing, context);
}

static int list_contexts(struct cassandra_session *session, struct store_call *call, bool read_only)
{
    const struct store_list_query *query = &call->u.list;
    struct listing listing = {.session = session, .call = call, .limit = query->limit};
    int64_t from_us = query->from_end_us ? query->from_end_us : INT64_MIN;
    if (query->after_context_id && query->after_end_us > from_us)
        from_us = query->after_end_us;
    struct cassandra_walk walk = {.session = session,
                                  .arena = &call->reply.arena,
                                  .kind = query->tool ? KIND_TOOL : KIND_EVENT,
                                  .tool = query->tool,
                                  .from_us = from_us,
                                  .to_us = query->to_end_us ? query->to_end_us : INT64_MAX,
                                  .keep_buckets = read_only,
                                  .arg = &listing,
                                  .wants = wants_context,
                                  .visit = visit_context};
    return cassandra_walk(&walk, &call->reply.error);
}

static int find_context(struct cassandra_session *session, struct store_call *call)
{
    CassStatement *statement = cassandra_bind(session, CQL_CONTEXTS_OF_ID, "t", call->key.context_id);
    const CassResult *result = NULL;
    int code = cassandra_receive(session, cassandra_send(session, statement), "finding a context", &result,
                                 &call->reply.error);
    if (code)
        return code;
    struct cassandra_context context = {0};
    CassIterator *rows = cass_iterator_from_result(result);
    bool found = false;
    while (code == 0 && !found && cass_iterator_next(rows)) {
        code = cassandra_context_of_row(cass_iterator_get_row(rows), &call->reply.arena, &context,
                                        &call->reply.error);
        found = code == 0 && (context.completed || context.dead);
    }
    cass_iterator_free(rows);
    cass_result_free(result);
    if (code)
        return code;
    if (!found)
        return error_set(&call->reply.error, ERR_NOT_FOUND, "the store knows no context %s",
                         call->key.context_id);
    return add_completion(&call->reply, &context);
}

static int count(struct cassandra_session *session, struct store_call *call)
{
    const CassResult *result = NULL;
    CassStatement *statement = cassandra_bind(session, CQL_COUNTS, "");
    int code = cassandra_receive(session, cassandra_send(session, statement), "reading the counters", &result,
                                 &call->reply.error);
    if (code)
        return code;
    struct store_counts *counts = &call->reply.counts;
    CassIterator *rows = cass_iterator_from_result(result);
    while (cass_iterator_next(rows)) {
        const CassRow *row = cass_iterator_get_row(rows);
        const char *name = "";
        size_t length = 0;
        cass_value_get_string(cass_row_get_column(row, 0), &name, &length);
        int64_t *value = length == 9 ? &counts->completed : length == 6 ? &counts->judged : &counts->dead;
        *value = cassandra_int64(row, 1);
    }
    cass_iterator_free(rows);
    cass_result_free(result);
    return 0;
}

/* --- U-charts --- */

struct uchart_list {
    struct store_call *call;
    size_t capacity;
};

static int copy_bytes(struct store_call *call, const CassRow *row, size_t column, const void **copy,
                      size_t *length)
{
    const void *bytes = cassandra_bytes(row, column, length);
    char *place = arena_alloc(&call->reply.arena, *length);
    if (place == NULL)
        return no_memory(call);
    if (*length > 0)
        memcpy(place, bytes, *length);
    *copy = place;
    return 0;
}

static int read_uchart(struct store_call *call, const CassRow *row, const struct store_history_query *query,
                       struct store_uchart *uchart)
{
    struct arena *arena = &call->reply.arena;
    *uchart = (struct store_uchart){.key = {.tool = arena_strdup(arena, query->tool),
                                            .chamber = arena_strdup(arena, query->chamber),
                                            .context_id = cassandra_text(row, 0, arena)},
                                    .recipe = arena_strdup(arena, query->recipe),
                                    .end_us = cassandra_int64(row, 1),
                                    .judged_us = cassandra_int64(row, 2),
                                    .chart_set = (uint64_t)cassandra_int64(row, 3),
                                    .alarm_count = cassandra_int32(row, 4),
                                    .severity = cassandra_int32(row, 5)};
    if (uchart->key.tool == NULL || uchart->key.chamber == NULL || uchart->key.context_id == NULL ||
        uchart->recipe == NULL)
        return no_memory(call);
    int code = copy_bytes(call, row, 7, &uchart->points, &uchart->points_length);
    if (code == 0 && query->verdicts)
        code = copy_bytes(call, row, 8, &uchart->verdicts, &uchart->verdicts_length);
    if (code)
        return code;
    if (hash64(uchart->points, uchart->points_length) != (uint64_t)cassandra_int64(row, 6))
        return error_set(
            &call->reply.error, ERR_CORRUPT,
            "the U-chart of context %s of %s:%s does not match its hash; the stored bytes are damaged",
            uchart->key.context_id, uchart->key.tool, uchart->key.chamber);
    return 0;
}

static int add_uchart(struct uchart_list *list, const CassRow *row, const struct store_history_query *query)
{
    struct store_reply *reply = &list->call->reply;
    if (reply->uchart_count == STORE_BULK_MAX_ROWS)
        return error_set(&reply->error, ERR_LIMIT,
                         "store: more than %d U-charts in one reply; ask for fewer keys",
                         STORE_BULK_MAX_ROWS);
    if (reply->uchart_count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 128;
        struct store_uchart *items = arena_calloc(&reply->arena, capacity, sizeof *items);
        if (items == NULL)
            return no_memory(list->call);
        if (reply->uchart_count > 0)
            memcpy(items, reply->ucharts, reply->uchart_count * sizeof *items);
        reply->ucharts = items;
        list->capacity = capacity;
    }
    int code = read_uchart(list->call, row, query, &reply->ucharts[reply->uchart_count]);
    reply->uchart_count += code == 0;
    return code;
}

static CassStatement *history_statement(struct cassandra_session *session,
                                        const struct store_history_query *query)
{
    enum cassandra_statement which = query->later      ? query->verdicts ? CQL_LATER_VERDICTS : CQL_LATER
                                     : query->verdicts ? CQL_EARLIER_VERDICTS
                                                       : CQL_EARLIER;
    CassStatement *statement =
        cassandra_bind(session, which, "tttlti", query->tool, query->chamber, query->recipe, query->end_us,
                       query->context_id ? query->context_id : "", (int)query->limit);
    cass_statement_set_paging_size(statement, HISTORY_PAGE_ROWS);
    return statement;
}

/* The pages of one stretch, whose first was asked for already. */
static int receive_history(struct cassandra_session *session, struct uchart_list *list,
                           const struct store_history_query *query, CassFuture *future)
{
    int code = 0;
    while (future) {
        const CassResult *page = NULL;
        code = cassandra_receive(session, future, "reading a history", &page, &list->call->reply.error);
        if (code)
            return code;
        CassIterator *rows = cass_iterator_from_result(page);
        while (code == 0 && cass_iterator_next(rows))
            code = add_uchart(list, cass_iterator_get_row(rows), query);
        cass_iterator_free(rows);
        future = NULL;
        if (code == 0 && cass_result_has_more_pages(page)) {
            CassStatement *next = history_statement(session, query);
            cass_statement_set_paging_state(next, page);
            future = cassandra_send(session, next);
        }
        cass_result_free(page);
    }
    return code;
}

static int check_newest(struct cassandra_session *session, struct store_call *call,
                        const struct store_history_query *query)
{
    CassStatement *statement =
        cassandra_bind(session, CQL_ANY_LATER, "tttlt", query->tool, query->chamber, query->recipe,
                       query->end_us, query->context_id ? query->context_id : "");
    const CassResult *result = NULL;
    int code = cassandra_receive(session, cassandra_send(session, statement), "reading a history", &result,
                                 &call->reply.error);
    if (code)
        return code;
    call->reply.newest = cass_result_row_count(result) == 0;
    cass_result_free(result);
    return 0;
}

/* Whether there is anything newer is asked first: what comes in between is then in the history, or makes it
 * false. */
static int fetch_histories(struct cassandra_session *session, struct store_call *call)
{
    const struct store_history_query *queries = store_call_queries(call);
    size_t count = call->u.history.count, sent = 0, i = 0;
    struct uchart_list list = {.call = call};
    struct store_reply *reply = &call->reply;
    reply->query_counts = arena_calloc(&reply->arena, count, sizeof *reply->query_counts);
    if (reply->query_counts == NULL)
        return no_memory(call);
    int code = 0;
    if (call->u.history.items == NULL && !queries->later)
        code = check_newest(session, call, queries);
    CassFuture *ahead[QUERIES_AHEAD];
    for (; i < count && code == 0; i++) {
        for (; sent < count && sent < i + QUERIES_AHEAD; sent++)
            ahead[sent % QUERIES_AHEAD] =
                queries[sent].limit ? cassandra_send(session, history_statement(session, &queries[sent]))
                                    : NULL;
        size_t before = reply->uchart_count;
        code = receive_history(session, &list, &queries[i], ahead[i % QUERIES_AHEAD]);
        reply->query_counts[i] = reply->uchart_count - before;
    }
    for (; i < sent; i++)
        if (ahead[i % QUERIES_AHEAD])
            cass_future_free(ahead[i % QUERIES_AHEAD]);
    return code;
}

static int fetch_uchart(struct cassandra_session *session, struct store_call *call)
{
    const struct store_key *key = &call->key;
    struct cassandra_context context;
    int code = find(session, call, &context);
    if (code)
        return code;
    const CassResult *result = NULL;
    if (context.judged) {
        CassStatement *statement =
            cassandra_bind(session, CQL_UCHART, "tttlt", key->tool, key->chamber, context.judged_recipe,
                           context.judged_end_us, key->context_id);
        code = cassandra_receive(session, cassandra_send(session, statement), "reading a U-chart", &result,
                                 &call->reply.error);
    }
    if (code)
        return code;
    const CassRow *row = result ? cass_result_first_row(result) : NULL;
    if (row) {
        struct store_history_query query = {
            .tool = key->tool, .chamber = key->chamber, .recipe = context.judged_recipe, .verdicts = true};
        struct uchart_list list = {.call = call};
        code = add_uchart(&list, row, &query);
    } else {
        code = error_set(&call->reply.error, ERR_NOT_FOUND, "context %s of %s:%s has no U-chart",
                         key->context_id, key->tool, key->chamber);
    }
    if (result)
        cass_result_free(result);
    return code;
}

/* The newest of each recipe of one chamber. */
static int list_heads_of(struct cassandra_session *session, struct uchart_list *list,
                         const struct store_key *chamber)
{
    struct store_call *call = list->call;
    CassStatement *statement = cassandra_bind(session, CQL_RECIPES, "tt", chamber->tool, chamber->chamber);
    const CassResult *result = NULL;
    int code = cassandra_receive(session, cassandra_send(session, statement), "listing recipes", &result,
                                 &call->reply.error);
    if (code)
        return code;
    CassIterator *rows = cass_iterator_from_result(result);
    while (code == 0 && cass_iterator_next(rows)) {
        struct store_history_query query = {
            .tool = chamber->tool,
            .chamber = chamber->chamber,
            .recipe = cassandra_text(cass_iterator_get_row(rows), 0, &call->reply.arena),
            .end_us = INT64_MAX,
            .context_id = "",
            .limit = 1};
        if (query.recipe == NULL)
            code = no_memory(call);
        else
            code = receive_history(session, list, &query,
                                   cassandra_send(session, history_statement(session, &query)));
    }
    cass_iterator_free(rows);
    cass_result_free(result);
    return code;
}

static int list_heads(struct cassandra_session *session, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    struct uchart_list list = {.call = call};
    reply->query_counts = arena_calloc(&reply->arena, call->u.heads.count, sizeof *reply->query_counts);
    if (reply->query_counts == NULL)
        return no_memory(call);
    int code = 0;
    for (size_t i = 0; i < call->u.heads.count && code == 0; i++) {
        size_t before = reply->uchart_count;
        code = list_heads_of(session, &list, &call->u.heads.items[i]);
        reply->query_counts[i] = reply->uchart_count - before;
    }
    return code;
}

/* --- chart sets --- */

static int current_chart_set(struct cassandra_session *session, struct store_call *call, int64_t *id)
{
    const CassResult *result = NULL;
    CassStatement *statement = cassandra_bind(session, CQL_CURRENT, "");
    int code = cassandra_receive(session, cassandra_send(session, statement),
                                 "reading the chart set in force", &result, &call->reply.error);
    if (code)
        return code;
    const CassRow *row = cass_result_first_row(result);
    if (row)
        *id = cassandra_int64(row, 0);
    cass_result_free(result);
    return 0;
}

static int fetch_chart_set(struct cassandra_session *session, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    int64_t id = (int64_t)call->u.chart_set.id;
    int code = id ? 0 : current_chart_set(session, call, &id);
    if (code)
        return code;
    const CassResult *result = NULL;
    CassStatement *statement = cassandra_bind(session, CQL_CHART_SET, "l", id);
    code = cassandra_receive(session, cassandra_send(session, statement), "reading a chart set", &result,
                             &reply->error);
    if (code)
        return code;
    const CassRow *row = cass_result_first_row(result);
    if (row) {
        reply->id = (uint64_t)cassandra_int64(row, 0);
        reply->when_us = cassandra_int64(row, 1);
        const char *text = "";
        size_t length = 0;
        cass_value_get_string(cass_row_get_column(row, 2), &text, &length);
        reply->text = arena_strndup(&reply->arena, text, length);
        code = reply->text ? 0 : no_memory(call);
    } else {
        code = error_set(&reply->error, ERR_NOT_FOUND,
                         id ? "the store has no chart set of that id" : "no chart set is in force yet");
    }
    cass_result_free(result);
    return code;
}

/* --- debts --- */

int cassandra_debt_shard(const struct store_key *key)
{
    return (int)(hash64_text(key->context_id) % CASSANDRA_DEBT_SHARDS);
}

static int by_at(const void *a, const void *b)
{
    const struct store_debt *first = a, *second = b;
    if (first->at_us != second->at_us)
        return first->at_us < second->at_us ? -1 : 1;
    return strcmp(first->key.context_id, second->key.context_id);
}

static int take_debts(struct store_call *call, const CassResult *result)
{
    struct store_reply *reply = &call->reply;
    struct arena *arena = &reply->arena;
    CassIterator *rows = cass_iterator_from_result(result);
    int code = 0;
    while (code == 0 && cass_iterator_next(rows)) {
        const CassRow *row = cass_iterator_get_row(rows);
        struct store_debt *debt = &reply->debts[reply->debt_count++];
        *debt = (struct store_debt){.kind = call->u.debts.kind,
                                    .at_us = cassandra_int64(row, 0),
                                    .key = {.tool = cassandra_text(row, 1, arena),
                                            .chamber = cassandra_text(row, 2, arena),
                                            .context_id = cassandra_text(row, 3, arena)},
                                    .put_us = cassandra_int64(row, 4),
                                    .owner = (uint64_t)cassandra_int64(row, 5)};
        if (debt->key.tool == NULL || debt->key.chamber == NULL || debt->key.context_id == NULL)
            code = no_memory(call);
    }
    cass_iterator_free(rows);
    return code;
}

/* The first `limit` of each partition, of which the first `limit` are kept. */
static int list_debts(struct cassandra_session *session, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    size_t limit = call->u.debts.limit;
    reply->debts = arena_calloc(&reply->arena, CASSANDRA_DEBT_SHARDS * limit, sizeof *reply->debts);
    if (reply->debts == NULL)
        return no_memory(call);
    int code = 0;
    for (int shard = 0; shard < CASSANDRA_DEBT_SHARDS && code == 0 && limit > 0; shard++) {
        CassStatement *statement =
            cassandra_bind(session, CQL_DEBTS, "iii", (int)call->u.debts.kind, shard, (int)limit);
        cass_statement_set_paging_size(statement, (int)limit);
        const CassResult *result = NULL;
        code = cassandra_receive(session, cassandra_send(session, statement), "listing debts", &result,
                                 &reply->error);
        if (code == 0)
            code = take_debts(call, result);
        if (result)
            cass_result_free(result);
    }
    if (code == 0 && reply->debt_count > 0)
        qsort(reply->debts, reply->debt_count, sizeof *reply->debts, by_at);
    if (reply->debt_count > limit)
        reply->debt_count = limit;
    return code;
}

int cassandra_read_call(struct cassandra_session *session, struct store_call *call, bool read_only)
{
    struct store_reply *reply = &call->reply;
    switch (call->op) {
    case STORE_OP_FETCH_TCHART:
        return reply->code = fetch_tchart(session, call);
    case STORE_OP_LIST_OUTBOX:
        return reply->code = list_outbox(session, call, read_only);
    case STORE_OP_LIST_CONTEXTS:
        return reply->code = list_contexts(session, call, read_only);
    case STORE_OP_FIND_CONTEXT:
        return reply->code = find_context(session, call);
    case STORE_OP_COUNT:
        return reply->code = count(session, call);
    case STORE_OP_FETCH_UCHART:
        return reply->code = fetch_uchart(session, call);
    case STORE_OP_FETCH_HISTORY:
        return reply->code = fetch_histories(session, call);
    case STORE_OP_LIST_HEADS:
        return reply->code = list_heads(session, call);
    case STORE_OP_FETCH_CHART_SET:
        return reply->code = fetch_chart_set(session, call);
    case STORE_OP_LIST_DEBTS:
        return reply->code = list_debts(session, call);
    default:
        return reply->code =
                   error_set(&reply->error, ERR_INVALID, "store: operation %d does not read", (int)call->op);
    }
}
