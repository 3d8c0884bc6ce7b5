/* The calls that write.
 *
 * Cassandra has no transaction over several rows, so each call writes rows in an order in which any prefix,
 * left by a crash or an error, loses nothing, and in which the same call again completes it. The row of
 * `contexts` is the one truth about a context's state; everything else is an index that is written before it
 * and cleared after it:
 *
 *   complete     chunks, outbox row, timeline rows -> their buckets -> contexts.completed_us
 *                A crash before the last step: the context is not complete, the caller has had no answer and
 * calls again. Rows in the outbox and the timeline whose context says otherwise are passed over. After it:
 * the context is in the outbox. So no context is complete without its outbox row. put_uchart   u_charts row
 * -> contexts.judged_end_us -> outbox row deleted Before the second step: still pending, judged again, to the
 * same row. After it: judged; a row left in the outbox is passed over and deleted by the next listing.
 *   mark_dead    contexts.dead_reason -> outbox row deleted: the same.
 *
 * A U-chart that moves in the history (another recipe or end) has its old row deleted in one logged batch
 * with the new judged_end_us, which the servers carry out as a whole.
 *
 * Chunks are stored under their hash: one written again with other bytes does not overwrite the first. Those
 * whose hashes the completion names are the trace. The counters are the exception to idempotence
 * (docs/cassandra.md). */
#include "store/cassandra_session.h"

#include "base/clock.h"
#include "base/hash.h"

#include <string.h>

static int no_memory(struct store_call *call)
{
    return error_set(&call->reply.error, ERR_NO_MEMORY, "store: out of memory for a write");
}

static int find(struct cassandra_session *session, struct store_call *call, const struct store_key *key,
                struct cassandra_context *context)
{
    CassFuture *future = cassandra_send(session, cassandra_context_statement(session, key));
    return cassandra_context_receive(session, future, &call->reply.arena, context, &call->reply.error);
}

/* Rows by time for a context at its ingest and at its end. */
struct places {
    struct store_key key;
    int64_t ingest_us, end_us;
    const char *recipe, *lot;
    bool known, tchart, completed;
};

static const enum cassandra_kind timeline_kinds[] = {KIND_INGEST, KIND_EVENT, KIND_TCHART_INGEST,
                                                     KIND_TCHART_EVENT};

static bool has_place(const struct places *places, enum cassandra_kind kind)
{
    bool of_tchart = kind == KIND_TCHART_INGEST || kind == KIND_TCHART_EVENT;
    return of_tchart ? places->tchart : places->known;
}

static struct cassandra_entry entry_of(const struct places *places, enum cassandra_kind kind)
{
    bool by_ingest = kind == KIND_INGEST || kind == KIND_TCHART_INGEST || kind == KIND_OUTBOX;
    return (struct cassandra_entry){.at_us = by_ingest ? places->ingest_us : places->end_us,
                                    .key = places->key,
                                    .recipe = places->recipe,
                                    .lot = places->lot};
}

static void put_places(struct cassandra_wave *wave, const struct places *places)
{
    for (size_t i = 0; i < sizeof timeline_kinds / sizeof *timeline_kinds; i++) {
        struct cassandra_entry entry = entry_of(places, timeline_kinds[i]);
        if (has_place(places, timeline_kinds[i]))
            cassandra_put_entry(wave, timeline_kinds[i], &entry);
    }
    struct cassandra_entry entry = entry_of(places, KIND_TOOL);
    if (places->completed)
        cassandra_put_entry(wave, KIND_TOOL, &entry);
}

static void put_place_buckets(struct cassandra_wave *wave, const struct places *places)
{
    for (size_t i = 0; i < sizeof timeline_kinds / sizeof *timeline_kinds; i++)
        if (has_place(places, timeline_kinds[i]))
            cassandra_put_bucket(wave, timeline_kinds[i], entry_of(places, timeline_kinds[i]).at_us);
}

/* --- counters: nothing that is judged depends on them, and they cannot be sent twice. When a server has just
 * died, one may time out while every other write went to those that live: that fails no call. --- */

enum { COUNT_PATIENCE_MS = 300 };

struct counting {
    CassFuture *futures[2];
    size_t count;
};

static void count(struct counting *counting, struct cassandra_session *session, const char *name, int64_t by)
{
    counting->futures[counting->count++] =
        cassandra_send(session, cassandra_bind(session, CQL_ADD_COUNT, "lt", by, name));
}

/* Waits a moment, so that who counts after the call counts it. */
static void end_counting(struct counting *counting)
{
    for (size_t i = 0; i < counting->count; i++) {
        cass_future_wait_timed(counting->futures[i], COUNT_PATIENCE_MS * UINT64_C(1000));
        cass_future_free(counting->futures[i]);
    }
}

/* --- T-charts --- */

static void put_parts(struct cassandra_wave *wave, const struct store_key *key,
                      const struct store_chunk *chunk, uint64_t hash)
{
    int64_t now = clock_wall_us();
    size_t offset = 0;
    int part = 0;
    do {
        size_t length = chunk->length - offset;
        if (length > CASSANDRA_PART_BYTES)
            length = CASSANDRA_PART_BYTES;
        const char *bytes = chunk->bytes;
        cassandra_wave_add(wave,
                           cassandra_bind(wave->session, CQL_PUT_PART, "tttiliilb", key->tool, key->chamber,
                                          key->context_id, (int)chunk->index, (int64_t)hash, part++,
                                          (int)chunk->length, now, bytes ? bytes + offset : NULL, length));
        offset += length;
    } while (offset < chunk->length);
}

static int conflict(struct store_call *call, const char *what)
{
    return error_set(
        &call->reply.error, ERR_CONFLICT,
        "context %s of %s:%s is complete already, with %s; a stored trace is never replaced: give the "
        "new one another context_id",
        call->key.context_id, call->key.tool, call->key.chamber, what);
}

/* A row for a context of which only chunks are there. Its end is not known: until it is completed, retention
 * by event goes by the time of its first chunk. */
static int begin_receiving(struct cassandra_session *session, struct store_call *call,
                           const struct cassandra_context *known)
{
    int64_t now = clock_wall_us();
    struct places places = {.key = call->key,
                            .ingest_us = known->known ? known->ingest_us : now,
                            .end_us = known->known ? known->end_us : now,
                            .recipe = "",
                            .lot = "",
                            .known = !known->known,
                            .tchart = true};
    struct cassandra_wave wave = cassandra_wave_of(session, "receiving a T-chart", &call->reply.error);
    put_places(&wave, &places);
    if (cassandra_wave_end(&wave))
        return wave.code;
    put_place_buckets(&wave, &places);
    if (cassandra_wave_end(&wave))
        return wave.code;
    if (!known->known)
        cassandra_wave_add(&wave, cassandra_bind(session, CQL_SEE_CONTEXT, "llttt", now, now,
                                                 call->key.context_id, call->key.tool, call->key.chamber));
    cassandra_wave_add(&wave, cassandra_bind(session, CQL_SET_TCHART, "ottt", 1, call->key.context_id,
                                             call->key.tool, call->key.chamber));
    return cassandra_wave_end(&wave);
}

static int put_chunk(struct cassandra_session *session, struct store_call *call)
{
    const struct store_chunk *chunk = &call->u.chunk;
    uint64_t hash = hash64(chunk->bytes, chunk->length);
    struct cassandra_context known;
    int code = find(session, call, &call->key, &known);
    if (code)
        return code;
    if (known.completed && (chunk->index >= known.chunk_count || known.hashes[chunk->index] != hash))
        return conflict(call, "other chunks");
    if (known.completed)
        return 0;
    if (!known.has_tchart)
        code = begin_receiving(session, call, &known);
    if (code)
        return code;
    struct cassandra_wave wave = cassandra_wave_of(session, "writing a chunk", &call->reply.error);
    put_parts(&wave, &call->key, chunk, hash);
    return cassandra_wave_end(&wave);
}

/* Rows come by (index, hash, part). */
struct version {
    int32_t index;
    int64_t hash, put_us;
    int32_t length, parts;
};

static void take_version(struct cassandra_versions *versions, const struct version *version)
{
    int32_t expected = version->length / CASSANDRA_PART_BYTES + (version->length % CASSANDRA_PART_BYTES != 0);
    int32_t i = version->index;
    if (version->parts == 0 || i < 0 || i >= versions->count || version->parts != (expected ? expected : 1))
        return;
    if (versions->there[i] && versions->put_us[i] > version->put_us)
        return;
    versions->there[i] = true;
    versions->hashes[i] = (uint64_t)version->hash;
    versions->put_us[i] = version->put_us;
}

static void take_rows(struct cassandra_versions *versions, struct version *version, const CassResult *page)
{
    CassIterator *rows = cass_iterator_from_result(page);
    while (cass_iterator_next(rows)) {
        const CassRow *row = cass_iterator_get_row(rows);
        int32_t index = cassandra_int32(row, 0);
        int64_t hash = cassandra_int64(row, 1);
        if (version->parts == 0 || version->index != index || version->hash != hash) {
            take_version(versions, version);
            *version = (struct version){.index = index,
                                        .hash = hash,
                                        .length = cassandra_int32(row, 2),
                                        .put_us = cassandra_int64(row, 3)};
        }
        version->parts++;
    }
    cass_iterator_free(rows);
}

int cassandra_read_versions(struct cassandra_session *session, struct store_call *call,
                            struct cassandra_versions *versions)
{
    struct version version = {0};
    CassStatement *statement = cassandra_bind(session, CQL_CHUNK_VERSIONS, "ttt", call->key.tool,
                                              call->key.chamber, call->key.context_id);
    while (statement) {
        cass_statement_set_paging_size(statement, 1000);
        const CassResult *page = NULL;
        int code = cassandra_receive(session, cass_session_execute(session->session, statement),
                                     "reading a T-chart's chunks", &page, &call->reply.error);
        if (code == 0)
            take_rows(versions, &version, page);
        bool more = code == 0 && cass_result_has_more_pages(page);
        if (more)
            cass_statement_set_paging_state(statement, page);
        if (page)
            cass_result_free(page);
        if (more)
            continue;
        cass_statement_free(statement);
        if (code)
            return code;
        statement = NULL;
    }
    take_version(versions, &version);
    return 0;
}

/* The hash of every chunk of the trace: those of the call, and before it those that are stored. */
static int collect_hashes(struct cassandra_session *session, struct store_call *call, uint64_t **hashes)
{
    int32_t count = call->u.complete.completion.chunk_count;
    struct arena *arena = &call->reply.arena;
    struct cassandra_versions versions = {
        .hashes = arena_calloc(arena, (size_t)count, sizeof *versions.hashes),
        .put_us = arena_calloc(arena, (size_t)count, sizeof *versions.put_us),
        .there = arena_calloc(arena, (size_t)count, sizeof *versions.there),
        .count = count};
    if (versions.hashes == NULL || versions.put_us == NULL || versions.there == NULL)
        return no_memory(call);
    for (size_t i = 0; i < call->u.complete.count; i++)
        versions.there[call->u.complete.chunks[i].index] = true;
    bool all = true;
    for (int32_t i = 0; i < count; i++) {
        all = all && versions.there[i];
        versions.there[i] = false;
    }
    int code = all ? 0 : cassandra_read_versions(session, call, &versions);
    if (code)
        return code;
    for (size_t i = 0; i < call->u.complete.count; i++) {
        versions.there[call->u.complete.chunks[i].index] = true;
        versions.hashes[call->u.complete.chunks[i].index] = call->u.complete.hashes[i];
    }
    for (int32_t i = 0; i < count; i++)
        if (!versions.there[i])
            return error_set(&call->reply.error, ERR_INVALID,
                             "context %s of %s:%s cannot be completed: chunk %d of %d was never written",
                             call->key.context_id, call->key.tool, call->key.chamber, i, count);
    *hashes = versions.hashes;
    return 0;
}

static int compare_complete(struct store_call *call, const struct cassandra_context *known)
{
    const struct store_completion *completion = &call->u.complete.completion;
    if (known->end_us != completion->end_us || known->chunk_count != completion->chunk_count ||
        strcmp(known->recipe, completion->recipe) != 0 || strcmp(known->lot, completion->lot) != 0 ||
        strcmp(known->announcement, completion->announcement) != 0)
        return conflict(call, "another announcement");
    for (size_t i = 0; i < call->u.complete.count; i++)
        if (known->hashes[call->u.complete.chunks[i].index] != call->u.complete.hashes[i])
            return conflict(call, "other chunks");
    call->reply.existed = true;
    return 0;
}

static int write_completion(struct cassandra_session *session, struct store_call *call,
                            const struct cassandra_context *known, const uint64_t *hashes)
{
    const struct store_completion *completion = &call->u.complete.completion;
    struct places places = {.key = call->key,
                            .ingest_us =
                                completion->completed_us ? completion->completed_us : clock_wall_us(),
                            .end_us = completion->end_us,
                            .recipe = completion->recipe,
                            .lot = completion->lot,
                            .known = true,
                            .tchart = true,
                            .completed = true};
    struct cassandra_entry outbox = entry_of(&places, KIND_OUTBOX);
    struct cassandra_wave wave = cassandra_wave_of(session, "completing a context", &call->reply.error);
    for (size_t i = 0; i < call->u.complete.count; i++)
        put_parts(&wave, &call->key, &call->u.complete.chunks[i], call->u.complete.hashes[i]);
    put_places(&wave, &places);
    if (!known->judged)
        cassandra_put_entry(&wave, KIND_OUTBOX, &outbox);
    if (cassandra_wave_end(&wave))
        return wave.code;
    put_place_buckets(&wave, &places);
    if (!known->judged)
        cassandra_put_bucket(&wave, KIND_OUTBOX, places.ingest_us);
    if (cassandra_wave_end(&wave))
        return wave.code;
    cassandra_wave_add(
        &wave, cassandra_bind(session, CQL_COMPLETE_CONTEXT, "llttibtttt", places.ingest_us, places.end_us,
                              places.recipe, places.lot, (int)completion->chunk_count, (const void *)hashes,
                              (size_t)completion->chunk_count * sizeof *hashes, completion->announcement,
                              call->key.context_id, call->key.tool, call->key.chamber));
    if (cassandra_wave_end(&wave))
        return wave.code;
    struct counting counting = {0};
    count(&counting, session, "completed", 1);
    /* Marked dead before its T-chart came: it is judged now. */
    if (known->dead)
        count(&counting, session, "dead", -1);
    end_counting(&counting);
    return 0;
}

static int complete(struct cassandra_session *session, struct store_call *call)
{
    size_t count = call->u.complete.count;
    call->u.complete.hashes = arena_calloc(&call->reply.arena, count, sizeof *call->u.complete.hashes);
    if (call->u.complete.hashes == NULL)
        return no_memory(call);
    for (size_t i = 0; i < count; i++)
        call->u.complete.hashes[i] =
            hash64(call->u.complete.chunks[i].bytes, call->u.complete.chunks[i].length);
    struct cassandra_context known;
    int code = find(session, call, &call->key, &known);
    if (code)
        return code;
    if (known.completed)
        return compare_complete(call, &known);
    uint64_t *hashes = NULL;
    code = collect_hashes(session, call, &hashes);
    return code ? code : write_completion(session, call, &known, hashes);
}

/* --- verdicts --- */

/* Timeline rows and a contexts row for a context that is first heard of by its verdict. */
static int see_context(struct cassandra_session *session, struct store_call *call,
                       const struct places *places)
{
    struct cassandra_wave wave = cassandra_wave_of(session, "adding a context", &call->reply.error);
    put_places(&wave, places);
    if (cassandra_wave_end(&wave))
        return wave.code;
    put_place_buckets(&wave, places);
    if (cassandra_wave_end(&wave))
        return wave.code;
    cassandra_wave_add(&wave,
                       cassandra_bind(session, CQL_SEE_CONTEXT, "llttt", places->ingest_us, places->end_us,
                                      places->key.context_id, places->key.tool, places->key.chamber));
    return cassandra_wave_end(&wave);
}

/* What comes after a verdict: out of the outbox, and counted. */
static int leave_outbox(struct cassandra_session *session, struct store_call *call,
                        const struct cassandra_context *known, const struct store_key *key, bool judged)
{
    struct cassandra_wave wave = cassandra_wave_of(session, "leaving the outbox", &call->reply.error);
    struct cassandra_entry outbox = {.at_us = known->ingest_us, .key = *key};
    if (known->completed && !known->judged && !known->dead)
        cassandra_delete_entry(&wave, KIND_OUTBOX, &outbox);
    struct counting counting = {0};
    if (judged && !known->judged)
        count(&counting, session, "judged", 1);
    if (judged && known->dead)
        count(&counting, session, "dead", -1);
    if (!judged && !known->dead)
        count(&counting, session, "dead", 1);
    int code = cassandra_wave_end(&wave);
    end_counting(&counting);
    return code;
}

static int mark_dead(struct cassandra_session *session, struct store_call *call)
{
    struct cassandra_context known;
    int code = find(session, call, &call->key, &known);
    if (code || known.judged)
        return code;
    int64_t when_us = call->u.dead.when_us;
    if (!known.known) {
        struct places places = {.key = call->key,
                                .ingest_us = when_us,
                                .end_us = when_us,
                                .recipe = "",
                                .lot = "",
                                .known = true};
        code = see_context(session, call, &places);
    }
    if (code)
        return code;
    CassStatement *statement =
        cassandra_bind(session, CQL_MARK_DEAD, "ltottt", when_us, call->u.dead.reason, (int)known.completed,
                       call->key.context_id, call->key.tool, call->key.chamber);
    code = cassandra_receive(session, cassandra_send(session, statement), "marking a context dead", NULL,
                             &call->reply.error);
    return code ? code : leave_outbox(session, call, &known, &call->key, false);
}

static CassStatement *judged_statement(struct cassandra_session *session, const struct store_uchart *uchart)
{
    return cassandra_bind(session, CQL_MARK_JUDGED, "tlttt", uchart->recipe, uchart->end_us,
                          uchart->key.context_id, uchart->key.tool, uchart->key.chamber);
}

/* Points the context at its U-chart; one that stood elsewhere in the history goes in the same step. */
static int mark_judged(struct cassandra_session *session, struct store_call *call,
                       const struct store_uchart *uchart, const struct cassandra_context *known)
{
    bool moved = known->judged && (known->judged_end_us != uchart->end_us ||
                                   strcmp(known->judged_recipe, uchart->recipe) != 0);
    if (!moved)
        return cassandra_receive(session, cassandra_send(session, judged_statement(session, uchart)),
                                 "marking a context judged", NULL, &call->reply.error);
    CassBatch *batch = cass_batch_new(CASS_BATCH_TYPE_LOGGED);
    CassStatement *parts[2] = {judged_statement(session, uchart),
                               cassandra_bind(session, CQL_DELETE_UCHART, "tttlt", uchart->key.tool,
                                              uchart->key.chamber, known->judged_recipe, known->judged_end_us,
                                              uchart->key.context_id)};
    for (size_t i = 0; i < 2; i++) {
        cass_batch_add_statement(batch, parts[i]);
        cass_statement_free(parts[i]);
    }
    cass_batch_set_is_idempotent(batch, cass_true);
    CassFuture *future = cass_session_execute_batch(session->session, batch);
    cass_batch_free(batch);
    return cassandra_receive(session, future, "moving a U-chart", NULL, &call->reply.error);
}

static int put_uchart(struct cassandra_session *session, struct store_call *call,
                      const struct store_uchart *uchart)
{
    if (uchart->points_length + uchart->verdicts_length > STORE_CHUNK_MAX_BYTES)
        return error_set(
            &call->reply.error, ERR_LIMIT,
            "store: the U-chart of context %s has more than 8 MiB of points and verdicts together",
            uchart->key.context_id);
    const struct store_key *key = &uchart->key;
    struct cassandra_context known;
    int code = find(session, call, key, &known);
    if (code)
        return code;
    struct cassandra_wave wave = cassandra_wave_of(session, "writing a U-chart", &call->reply.error);
    cassandra_wave_add(
        &wave, cassandra_bind(session, CQL_PUT_UCHART, "tttltlliilbb", key->tool, key->chamber,
                              uchart->recipe, uchart->end_us, key->context_id, uchart->judged_us,
                              (int64_t)uchart->chart_set, (int)uchart->alarm_count, (int)uchart->severity,
                              (int64_t)hash64(uchart->points, uchart->points_length), uchart->points,
                              uchart->points_length, uchart->verdicts, uchart->verdicts_length));
    cassandra_wave_add(
        &wave, cassandra_bind(session, CQL_PUT_RECIPE, "ttt", key->tool, key->chamber, uchart->recipe));
    code = cassandra_wave_end(&wave);
    if (code == 0 && !known.known) {
        struct places places = {.key = *key,
                                .ingest_us = uchart->judged_us,
                                .end_us = uchart->end_us,
                                .recipe = uchart->recipe,
                                .lot = "",
                                .known = true};
        code = see_context(session, call, &places);
    }
    if (code == 0)
        code = mark_judged(session, call, uchart, &known);
    return code ? code : leave_outbox(session, call, &known, key, true);
}

/* One after the other: two of the same context keep their order. */
static int put_ucharts(struct cassandra_session *session, struct store_call *call)
{
    const struct store_uchart *ucharts = store_call_ucharts(call);
    int code = 0;
    for (size_t i = 0; i < call->u.ucharts.count && code == 0; i++)
        code = put_uchart(session, call, &ucharts[i]);
    return code;
}

static int put_chart_set(struct cassandra_session *session, struct store_call *call)
{
    if (strlen(call->u.chart_set.text) > STORE_CHUNK_MAX_BYTES)
        return error_set(&call->reply.error, ERR_LIMIT, "store: the chart file is longer than 8 MiB");
    struct cassandra_wave wave = cassandra_wave_of(session, "writing a chart set", &call->reply.error);
    int64_t id = (int64_t)call->u.chart_set.id;
    cassandra_wave_add(&wave, cassandra_bind(session, CQL_PUT_CHART_SET, "llt", id, call->u.chart_set.when_us,
                                             call->u.chart_set.text));
    if (cassandra_wave_end(&wave) || !call->u.chart_set.current)
        return wave.code;
    cassandra_wave_add(&wave, cassandra_bind(session, CQL_PUT_CURRENT, "l", id));
    return cassandra_wave_end(&wave);
}

/* --- debts --- */

static int put_debt(struct cassandra_session *session, struct store_call *call)
{
    const struct store_debt *debt = &call->u.debt;
    const struct store_key *key = &debt->key;
    CassStatement *statement = cassandra_bind(session, CQL_PUT_DEBT, "iiltttll", (int)debt->kind,
                                              cassandra_debt_shard(key), debt->at_us, key->tool, key->chamber,
                                              key->context_id, debt->put_us, (int64_t)debt->owner);
    return cassandra_receive(session, cassandra_send(session, statement), "noting a debt", NULL,
                             &call->reply.error);
}

static int clear_debt(struct cassandra_session *session, struct store_call *call)
{
    const struct store_debt *debt = &call->u.debt;
    const struct store_key *key = &debt->key;
    CassStatement *statement =
        cassandra_bind(session, CQL_CLEAR_DEBT, "iiltttl", (int)debt->kind, cassandra_debt_shard(key),
                       debt->at_us, key->tool, key->chamber, key->context_id, debt->put_us);
    return cassandra_receive(session, cassandra_send(session, statement), "clearing a debt", NULL,
                             &call->reply.error);
}

int cassandra_write_call(struct cassandra_session *session, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    switch (call->op) {
    case STORE_OP_PUT_CHUNK:
        return reply->code = put_chunk(session, call);
    case STORE_OP_COMPLETE:
        return reply->code = complete(session, call);
    case STORE_OP_MARK_DEAD:
        return reply->code = mark_dead(session, call);
    case STORE_OP_PUT_UCHARTS:
        return reply->code = put_ucharts(session, call);
    case STORE_OP_PUT_CHART_SET:
        return reply->code = put_chart_set(session, call);
    case STORE_OP_PUT_DEBT:
        return reply->code = put_debt(session, call);
    case STORE_OP_CLEAR_DEBT:
        return reply->code = clear_debt(session, call);
    case STORE_OP_EXPIRE:
        return reply->code = cassandra_expire(session, call);
    default:
        return reply->code =
                   error_set(&reply->error, ERR_INVALID, "store: operation %d does not write", (int)call->op);
    }
}
