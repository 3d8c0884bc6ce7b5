/* Removing what is too old, by the timeline. The tables' time to live removes the same by itself if no one
 * calls this; called, it also keeps the counters right.
 *
 * A timeline row that its context does not bear out (it was completed at another time, or removed) is passed
 * over. By ingest it is also dropped once it is older than STALE_AFTER_US: a younger one may belong to a call
 * that is just writing. By event its age says nothing (old runs are imported), and it stays until its time to
 * live is over. */
#include "store/cassandra_session.h"

#include "base/clock.h"

enum { EXPIRE_SLICE = 200 };

#define STALE_AFTER_US (INT64_C(24) * 3600 * 1000000)

struct expiry {
    struct cassandra_session *session;
    enum cassandra_kind kind;
    size_t limit, removed;
};

static bool of_tchart(enum cassandra_kind kind)
{
    return kind == KIND_TCHART_EVENT || kind == KIND_TCHART_INGEST;
}

static bool by_event(enum cassandra_kind kind)
{
    return kind == KIND_TCHART_EVENT || kind == KIND_EVENT;
}

static void delete_tchart(struct cassandra_wave *wave, const struct cassandra_context *context)
{
    cassandra_wave_add(wave, cassandra_bind(wave->session, CQL_DELETE_TCHART, "ttt", context->key.tool,
                                            context->key.chamber, context->key.context_id));
}

static void delete_tchart_entries(struct cassandra_wave *wave, const struct cassandra_context *context)
{
    struct cassandra_entry entry = {.at_us = context->ingest_us, .key = context->key};
    cassandra_delete_entry(wave, KIND_TCHART_INGEST, &entry);
    entry.at_us = context->end_us;
    cassandra_delete_entry(wave, KIND_TCHART_EVENT, &entry);
}

/* What hangs on the context goes first, then the context, then the rows by which it is found again. */
static int remove_context(struct expiry *expiry, const struct cassandra_context *context, struct error *err)
{
    struct cassandra_session *session = expiry->session;
    const struct store_key *key = &context->key;
    struct cassandra_wave wave = cassandra_wave_of(session, "removing a context", err);
    if (context->has_tchart)
        delete_tchart(&wave, context);
    if (context->judged)
        cassandra_wave_add(&wave,
                           cassandra_bind(session, CQL_DELETE_UCHART, "tttlt", key->tool, key->chamber,
                                          context->judged_recipe, context->judged_end_us, key->context_id));
    if (cassandra_wave_end(&wave))
        return wave.code;
    cassandra_wave_add(
        &wave, cassandra_bind(session, CQL_DELETE_CONTEXT, "ttt", key->context_id, key->tool, key->chamber));
    if (cassandra_wave_end(&wave))
        return wave.code;
    if (context->has_tchart)
        delete_tchart_entries(&wave, context);
    struct cassandra_entry entry = {.at_us = context->ingest_us, .key = context->key};
    cassandra_delete_entry(&wave, KIND_INGEST, &entry);
    entry.at_us = context->end_us;
    cassandra_delete_entry(&wave, KIND_EVENT, &entry);
    if (context->completed)
        cassandra_delete_entry(&wave, KIND_TOOL, &entry);
    const bool counted[] = {context->completed, context->judged, context->dead};
    static const char *const names[] = {"completed", "judged", "dead"};
    for (size_t i = 0; i < 3; i++)
        if (counted[i])
            cassandra_wave_add(&wave, cassandra_bind(session, CQL_ADD_COUNT, "lt", INT64_C(-1), names[i]));
    return cassandra_wave_end(&wave);
}

static int remove_tchart(struct expiry *expiry, const struct cassandra_context *context, struct error *err)
{
    struct cassandra_session *session = expiry->session;
    const struct store_key *key = &context->key;
    if (!context->completed && !context->judged && !context->dead) /* nothing but chunks */
        return remove_context(expiry, context, err);
    struct cassandra_wave wave = cassandra_wave_of(session, "removing a T-chart", err);
    delete_tchart(&wave, context);
    cassandra_wave_add(
        &wave, cassandra_bind(session, CQL_SET_TCHART, "ottt", 0, key->context_id, key->tool, key->chamber));
    if (cassandra_wave_end(&wave))
        return wave.code;
    delete_tchart_entries(&wave, context);
    return cassandra_wave_end(&wave);
}

static int drop_stale(struct expiry *expiry, const struct cassandra_entry *entry, struct error *err)
{
    if (by_event(expiry->kind) || clock_wall_us() - entry->at_us < STALE_AFTER_US)
        return 0;
    struct cassandra_wave wave = cassandra_wave_of(expiry->session, "dropping a stale row", err);
    cassandra_delete_entry(&wave, expiry->kind, entry);
    return cassandra_wave_end(&wave);
}

static int visit(void *arg, const struct cassandra_entry *entry, const struct cassandra_context *context,
                 struct error *err)
{
    struct expiry *expiry = arg;
    if (expiry->removed == expiry->limit)
        return 1;
    int64_t at_us = by_event(expiry->kind) ? context->end_us : context->ingest_us;
    bool stands =
        context->known && at_us == entry->at_us && (!of_tchart(expiry->kind) || context->has_tchart);
    if (!stands)
        return drop_stale(expiry, entry, err);
    if (context->completed && !context->judged && !context->dead) /* waits in the outbox */
        return 0;
    int code =
        of_tchart(expiry->kind) ? remove_tchart(expiry, context, err) : remove_context(expiry, context, err);
    if (code == 0)
        expiry->removed++;
    return code ? code : expiry->removed == expiry->limit;
}

static int64_t cut_off(int64_t now_us, int64_t retention_us)
{
    int64_t before;
    return __builtin_sub_overflow(now_us, retention_us, &before) ? INT64_MIN : before;
}

int cassandra_expire(struct cassandra_session *session, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    const struct store_retention *retention = &call->u.expire.retention;
    bool event = retention->clock == STORE_RETAIN_BY_EVENT;
    size_t limit = call->u.expire.limit < EXPIRE_SLICE ? call->u.expire.limit : EXPIRE_SLICE;
    const enum cassandra_kind kinds[] = {event ? KIND_EVENT : KIND_INGEST,
                                         event ? KIND_TCHART_EVENT : KIND_TCHART_INGEST};
    const int64_t kept_us[] = {retention->uchart_us, retention->tchart_us};
    for (size_t i = 0; i < 2 && limit > 0; i++) {
        struct expiry expiry = {.session = session, .kind = kinds[i], .limit = limit};
        struct cassandra_walk walk = {.session = session,
                                      .arena = &reply->arena,
                                      .kind = kinds[i],
                                      .from_us = INT64_MIN,
                                      .to_us = cut_off(call->u.expire.now_us, kept_us[i]),
                                      .arg = &expiry,
                                      .visit = visit};
        int code = cassandra_walk(&walk, &reply->error);
        reply->removed += (int64_t)expiry.removed;
        if (code)
            return code;
        reply->more = reply->more || expiry.removed == limit;
    }
    return 0;
}
