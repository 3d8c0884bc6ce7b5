/* Contexts by time: the outbox, the timeline, and the contexts of one tool.
 *
 * Time is cut into buckets (a minute of the outbox, an hour of the timeline), each a partition, so that none
 * grows without end; the table `buckets` lists those that may hold rows. Taking an empty bucket off that list
 * must not lose a row that is being written: a writer writes the row first and its bucket's line after it,
 * again when the line is older than PUT_AGAIN_US; and a line goes only when it is older than BUCKET_GRACE_US,
 * with a deletion dated back by as much, which a line written meanwhile outlives. The grace is as long as the
 * servers keep hints, so that a row which some replica has missed has reached it by then. */
#include "store/cassandra_session.h"

#include "base/clock.h"
#include "base/hash.h"

#include <stdlib.h>

enum { AHEAD = 16, ENTRIES_PAGE = 1000 };

#define MINUTE_US (INT64_C(60) * 1000000)
#define HOUR_US (60 * MINUTE_US)
#define PUT_AGAIN_US (10 * MINUTE_US)
#define BUCKET_GRACE_US (3 * HOUR_US)

static const char *const kind_names[] = {"outbox",       "event",         "ingest",
                                         "tchart_event", "tchart_ingest", "tool"};

static int64_t bucket_of(enum cassandra_kind kind, int64_t at_us)
{
    int64_t width = kind == KIND_OUTBOX ? MINUTE_US : HOUR_US;
    return at_us / width - (at_us % width < 0);
}

void cassandra_put_entry(struct cassandra_wave *wave, enum cassandra_kind kind,
                         const struct cassandra_entry *entry)
{
    const struct store_key *key = &entry->key;
    if (kind == KIND_OUTBOX)
        cassandra_wave_add(wave, cassandra_bind(wave->session, CQL_PUT_OUTBOX, "llttt",
                                                bucket_of(kind, entry->at_us), entry->at_us, key->context_id,
                                                key->tool, key->chamber));
    else if (kind == KIND_TOOL)
        cassandra_wave_add(wave,
                           cassandra_bind(wave->session, CQL_PUT_BY_TOOL, "tltttt", key->tool, entry->at_us,
                                          key->context_id, key->chamber, entry->recipe, entry->lot));
    else
        cassandra_wave_add(wave, cassandra_bind(wave->session, CQL_PUT_TIMELINE, "tllttttt", kind_names[kind],
                                                bucket_of(kind, entry->at_us), entry->at_us, key->context_id,
                                                key->tool, key->chamber, entry->recipe, entry->lot));
}

void cassandra_delete_entry(struct cassandra_wave *wave, enum cassandra_kind kind,
                            const struct cassandra_entry *entry)
{
    const struct store_key *key = &entry->key;
    if (kind == KIND_OUTBOX)
        cassandra_wave_add(wave, cassandra_bind(wave->session, CQL_DELETE_OUTBOX, "llttt",
                                                bucket_of(kind, entry->at_us), entry->at_us, key->context_id,
                                                key->tool, key->chamber));
    else if (kind == KIND_TOOL)
        cassandra_wave_add(wave, cassandra_bind(wave->session, CQL_DELETE_BY_TOOL, "tltt", key->tool,
                                                entry->at_us, key->context_id, key->chamber));
    else
        cassandra_wave_add(wave, cassandra_bind(wave->session, CQL_DELETE_TIMELINE, "tllttt",
                                                kind_names[kind], bucket_of(kind, entry->at_us), entry->at_us,
                                                key->context_id, key->tool, key->chamber));
}

void cassandra_put_bucket(struct cassandra_wave *wave, enum cassandra_kind kind, int64_t at_us)
{
    if (kind == KIND_TOOL)
        return;
    struct cassandra_session *session = wave->session;
    int64_t bucket = bucket_of(kind, at_us), now = clock_wall_us();
    const char *name = kind_names[kind];
    size_t slot = (hash64(&bucket, sizeof bucket) + (size_t)kind) % CASSANDRA_BUCKET_CACHE;
    pthread_mutex_lock(&session->lock);
    bool fresh = session->put[slot].kind == name && session->put[slot].bucket == bucket &&
                 now - session->put[slot].put_us < PUT_AGAIN_US && now >= session->put[slot].put_us;
    pthread_mutex_unlock(&session->lock);
    if (fresh)
        return;
    /* Not remembered before it is written: another thread would then not wait for it. */
    struct error err;
    CassFuture *future =
        cassandra_send(session, cassandra_bind(session, CQL_PUT_BUCKET, "tll", name, bucket, now));
    int code = cassandra_receive(session, future, "listing a bucket", NULL, &err);
    if (code && wave->code == 0) {
        wave->code = code;
        if (wave->err)
            *wave->err = err;
    }
    if (code)
        return;
    pthread_mutex_lock(&session->lock);
    session->put[slot].kind = name;
    session->put[slot].bucket = bucket;
    session->put[slot].put_us = now;
    pthread_mutex_unlock(&session->lock);
}

/* --- walking --- */

struct bucket {
    int64_t number, put_us;
};

struct bucket_list {
    struct bucket *items;
    size_t count, capacity;
};

static int add_bucket(struct bucket_list *list, int64_t number, int64_t put_us, struct error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        struct bucket *items = realloc(list->items, capacity * sizeof *items);
        if (items == NULL)
            return error_set(err, ERR_NO_MEMORY, "store: out of memory for a list");
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = (struct bucket){.number = number, .put_us = put_us};
    return 0;
}

static int list_buckets(const struct cassandra_walk *walk, struct bucket_list *list, struct error *err)
{
    if (walk->kind == KIND_TOOL)
        return add_bucket(list, 0, 0, err);
    struct cassandra_session *session = walk->session;
    CassStatement *statement =
        cassandra_bind(session, CQL_BUCKETS, "tll", kind_names[walk->kind],
                       bucket_of(walk->kind, walk->from_us), bucket_of(walk->kind, walk->to_us));
    const CassResult *result = NULL;
    int code =
        cassandra_receive(session, cassandra_send(session, statement), "listing buckets", &result, err);
    if (code)
        return code;
    CassIterator *rows = cass_iterator_from_result(result);
    while (code == 0 && cass_iterator_next(rows)) {
        const CassRow *row = cass_iterator_get_row(rows);
        code = add_bucket(list, cassandra_int64(row, 0), cassandra_int64(row, 1), err);
    }
    cass_iterator_free(rows);
    cass_result_free(result);
    return code;
}

static CassStatement *entries_statement(const struct cassandra_walk *walk, int64_t bucket)
{
    struct cassandra_session *session = walk->session;
    CassStatement *statement;
    if (walk->kind == KIND_TOOL)
        statement = cassandra_bind(session, CQL_BY_TOOL, "tll", walk->tool, walk->from_us, walk->to_us);
    else if (walk->kind == KIND_OUTBOX)
        statement = cassandra_bind(session, CQL_OUTBOX, "lll", bucket, walk->from_us, walk->to_us);
    else
        statement = cassandra_bind(session, CQL_TIMELINE, "tlll", kind_names[walk->kind], bucket,
                                   walk->from_us, walk->to_us);
    cass_statement_set_paging_size(statement, ENTRIES_PAGE);
    return statement;
}

/* Entries whose contexts are being read. */
struct batch {
    struct cassandra_entry entries[CASSANDRA_WAVE];
    CassFuture *futures[CASSANDRA_WAVE];
    size_t count;
};

/* 0, 1 (enough) or an error. Every future is received, whatever happens. */
static int visit_batch(const struct cassandra_walk *walk, struct batch *batch, struct error *err)
{
    int code = 0;
    struct cassandra_context context;
    for (size_t i = 0; i < batch->count; i++) {
        if (code) {
            cass_future_free(batch->futures[i]);
            continue;
        }
        code = cassandra_context_receive(walk->session, batch->futures[i], walk->arena, &context, err);
        if (code == 0)
            code = walk->visit(walk->arg, &batch->entries[i], &context, err);
    }
    batch->count = 0;
    return code;
}

static int read_entry(const struct cassandra_walk *walk, const CassRow *row, struct cassandra_entry *entry,
                      struct error *err)
{
    bool texts = walk->kind != KIND_OUTBOX;
    *entry = (struct cassandra_entry){.at_us = cassandra_int64(row, 0),
                                      .key = {.context_id = cassandra_text(row, 1, walk->arena),
                                              .tool = cassandra_text(row, 2, walk->arena),
                                              .chamber = cassandra_text(row, 3, walk->arena)},
                                      .recipe = texts ? cassandra_text(row, 4, walk->arena) : "",
                                      .lot = texts ? cassandra_text(row, 5, walk->arena) : ""};
    if (entry->key.context_id == NULL || entry->key.tool == NULL || entry->key.chamber == NULL ||
        entry->recipe == NULL || entry->lot == NULL)
        return error_set(err, ERR_NO_MEMORY, "store: out of memory for a list");
    return 0;
}

static int visit_page(const struct cassandra_walk *walk, const CassResult *page, struct error *err)
{
    struct batch batch = {.count = 0};
    CassIterator *rows = cass_iterator_from_result(page);
    int code = 0;
    while (code == 0 && cass_iterator_next(rows)) {
        struct cassandra_entry *entry = &batch.entries[batch.count];
        code = read_entry(walk, cass_iterator_get_row(rows), entry, err);
        if (code || (walk->wants && !walk->wants(walk->arg, entry)))
            continue;
        batch.futures[batch.count++] =
            cassandra_send(walk->session, cassandra_context_statement(walk->session, &entry->key));
        if (batch.count == CASSANDRA_WAVE)
            code = visit_batch(walk, &batch, err);
    }
    if (code) {
        for (size_t i = 0; i < batch.count; i++)
            cass_future_free(batch.futures[i]);
        batch.count = 0;
    }
    cass_iterator_free(rows);
    return code ? code : visit_batch(walk, &batch, err);
}

static void drop_bucket(const struct cassandra_walk *walk, const struct bucket *bucket)
{
    int64_t before_us = clock_wall_us() - BUCKET_GRACE_US;
    if (walk->keep_buckets || walk->kind == KIND_TOOL || bucket->put_us >= before_us)
        return;
    CassStatement *statement =
        cassandra_bind(walk->session, CQL_DELETE_BUCKET, "tl", kind_names[walk->kind], bucket->number);
    cass_statement_set_timestamp(statement, before_us);
    /* If it fails, the bucket is read once more the next time. */
    cassandra_receive(walk->session, cassandra_send(walk->session, statement), "dropping a bucket", NULL,
                      NULL);
}

/* The pages of one bucket, whose first was asked for already. Only a bucket that lies wholly within from and
 * to can be known to be empty. */
static int visit_bucket(const struct cassandra_walk *walk, const struct bucket *bucket, CassFuture *future,
                        struct error *err)
{
    struct cassandra_session *session = walk->session;
    bool whole = bucket_of(walk->kind, walk->from_us) < bucket->number &&
                 bucket_of(walk->kind, walk->to_us) > bucket->number;
    for (bool first = true;; first = false) {
        const CassResult *page = NULL;
        int code = cassandra_receive(session, future, "reading contexts by time", &page, err);
        if (code)
            return code;
        bool more = cass_result_has_more_pages(page) == cass_true;
        if (first && whole && !more && cass_result_row_count(page) == 0)
            drop_bucket(walk, bucket);
        code = visit_page(walk, page, err);
        CassStatement *next = code == 0 && more ? entries_statement(walk, bucket->number) : NULL;
        if (next)
            cass_statement_set_paging_state(next, page);
        cass_result_free(page);
        if (next == NULL)
            return code;
        future = cassandra_send(session, next);
    }
}

int cassandra_walk(const struct cassandra_walk *walk, struct error *err)
{
    if (walk->from_us >= walk->to_us)
        return 0;
    struct bucket_list list = {0};
    CassFuture *ahead[AHEAD];
    int code = list_buckets(walk, &list, err);
    size_t sent = 0, i = 0;
    for (; i < list.count && code == 0; i++) {
        for (; sent < list.count && sent < i + AHEAD; sent++)
            ahead[sent % AHEAD] =
                cassandra_send(walk->session, entries_statement(walk, list.items[sent].number));
        code = visit_bucket(walk, &list.items[i], ahead[i % AHEAD], err);
    }
    for (; i < sent; i++)
        cass_future_free(ahead[i % AHEAD]);
    free(list.items);
    return code < 0 ? code : 0;
}
