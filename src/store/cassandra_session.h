/* The connection to a Cassandra cluster, its prepared statements, and what is known of a context. Internal to
 * the Cassandra store. A session may be used from any thread. */
#ifndef CHAMBERLAIN_STORE_CASSANDRA_SESSION_H
#define CHAMBERLAIN_STORE_CASSANDRA_SESSION_H

#include "store/store_ops.h"

#include <cassandra.h>
#include <pthread.h>

enum {
    CASSANDRA_PLACE_MAX_BYTES = 512,
    CASSANDRA_PART_BYTES = 1024 * 1024, /* of a chunk, in one row */
    CASSANDRA_WAVE = 32,                /* requests that one call has in flight at most */
    CASSANDRA_BUCKET_CACHE = 256,
    CASSANDRA_NAME_BYTES = 64, /* of a keyspace or a datacentre, the end included */
    CASSANDRA_DEBT_SHARDS = 8,
    CASSANDRA_SCHEMA_VERSION = 2
};

#define CASSANDRA_TCHART_TTL_US (INT64_C(259200) * 1000000) /* as in schema.cql */

/* In the order of statement_texts (cassandra_session.c). */
enum cassandra_statement {
    CQL_CONTEXT,
    CQL_CONTEXTS_OF_ID,
    CQL_SEE_CONTEXT,
    CQL_SET_TCHART,
    CQL_COMPLETE_CONTEXT,
    CQL_MARK_DEAD,
    CQL_MARK_JUDGED,
    CQL_DELETE_CONTEXT,
    CQL_PUT_PART,
    CQL_CHUNK_VERSIONS,
    CQL_CHUNKS,
    CQL_DELETE_TCHART,
    CQL_PUT_UCHART,
    CQL_UCHART,
    CQL_DELETE_UCHART,
    CQL_EARLIER,
    CQL_EARLIER_VERDICTS,
    CQL_LATER,
    CQL_LATER_VERDICTS,
    CQL_ANY_LATER,
    CQL_PUT_RECIPE,
    CQL_RECIPES,
    CQL_PUT_OUTBOX,
    CQL_DELETE_OUTBOX,
    CQL_OUTBOX,
    CQL_PUT_TIMELINE,
    CQL_DELETE_TIMELINE,
    CQL_TIMELINE,
    CQL_PUT_BY_TOOL,
    CQL_DELETE_BY_TOOL,
    CQL_BY_TOOL,
    CQL_PUT_BUCKET,
    CQL_DELETE_BUCKET,
    CQL_BUCKETS,
    CQL_ADD_COUNT,
    CQL_COUNTS,
    CQL_PUT_CHART_SET,
    CQL_CHART_SET,
    CQL_PUT_CURRENT,
    CQL_CURRENT,
    CQL_PUT_DEBT,
    CQL_DEBTS,
    CQL_CLEAR_DEBT,
    CQL_STATEMENTS
};

struct cassandra_session {
    char place[CASSANDRA_PLACE_MAX_BYTES]; /* for messages */
    CassCluster *cluster;
    CassSession *session;
    const CassPrepared *prepared[CQL_STATEMENTS];
    pthread_mutex_t lock; /* guards `put` */
    struct {
        const char *kind;
        int64_t bucket, put_us;
    } put[CASSANDRA_BUCKET_CACHE]; /* rows of `buckets` that were written a short while ago */
};

/* Connects (to the keyspace of `place` when `with_keyspace`) with the options of the environment.
 * ERR_INVALID, ERR_UNAVAILABLE, ERR_TIMEOUT, ERR_IO (credentials, files), ERR_NO_MEMORY. On failure nothing
 * is left open. */
int cassandra_session_open(struct cassandra_session *session, const char *place, bool with_keyspace,
                           struct error *err);
void cassandra_session_close(struct cassandra_session *session);

/* The parts of "HOSTS/KEYSPACE[?datacentre=NAME]", checked; `datacentre` "" when none is named. ERR_INVALID.
 */
struct cassandra_place {
    char keyspace[CASSANDRA_NAME_BYTES];
    char datacentre[CASSANDRA_NAME_BYTES];
};
int cassandra_place_parse(const char *place, struct cassandra_place *parts, struct error *err);

/* Prepares every statement: the tables must be there. */
int cassandra_session_prepare(struct cassandra_session *session, struct error *err);

/* cassandra_schema.c: ERR_NOT_FOUND (store init was not run), ERR_UNSUPPORTED (a newer version's). */
int cassandra_schema_check(struct cassandra_session *session, struct error *err);

/* --- requests --- */

/* A prepared statement with its values: one letter of `types` for each: t const char *, l int64_t, i int, o
 * bool (int), b const void * and size_t. Never NULL (the driver aborts without memory). */
CassStatement *cassandra_bind(struct cassandra_session *session, enum cassandra_statement which,
                              const char *types, ...);

/* Sends a statement and frees it. */
CassFuture *cassandra_send(struct cassandra_session *session, CassStatement *statement);

/* Waits, frees the future, and gives the result (NULL: not wanted) or the error. */
int cassandra_receive(struct cassandra_session *session, CassFuture *future, const char *what,
                      const CassResult **result, struct error *err);

/* Several requests in flight whose results do not matter; the first error is kept. */
struct cassandra_wave {
    struct cassandra_session *session;
    const char *what;
    CassFuture *futures[CASSANDRA_WAVE];
    size_t count;
    int code;
    struct error *err;
};

static inline struct cassandra_wave cassandra_wave_of(struct cassandra_session *session, const char *what,
                                                      struct error *err)
{
    return (struct cassandra_wave){.session = session, .what = what, .err = err};
}

void cassandra_wave_add(struct cassandra_wave *wave, CassStatement *statement);
int cassandra_wave_end(struct cassandra_wave *wave); /* may be used again afterwards unless it failed */

/* --- values of a row: 0, false, "" for null --- */

int64_t cassandra_int64(const CassRow *row, size_t column);
int32_t cassandra_int32(const CassRow *row, size_t column);
bool cassandra_bool(const CassRow *row, size_t column);
bool cassandra_is_null(const CassRow *row, size_t column);
const char *cassandra_text(const CassRow *row, size_t column, struct arena *arena); /* NULL: no memory */
const void *cassandra_bytes(const CassRow *row, size_t column, size_t *length);     /* the result's own */

/* --- contexts --- */

struct cassandra_context {
    struct store_key key;
    bool known, completed, judged, dead, has_tchart;
    int64_t end_us, ingest_us; /* of the completion, or as first seen */
    const char *recipe, *lot, *announcement, *dead_reason, *judged_recipe;
    int64_t judged_end_us;
    int32_t chunk_count;
    uint64_t *hashes; /* one a chunk, when completed */
};

CassStatement *cassandra_context_statement(struct cassandra_session *session, const struct store_key *key);

/* Reads one row of CQL_CONTEXT or CQL_CONTEXTS_OF_ID. ERR_NO_MEMORY, ERR_CORRUPT. */
int cassandra_context_of_row(const CassRow *row, struct arena *arena, struct cassandra_context *context,
                             struct error *err);

/* As above of a request that was sent; `known` false when there is no row. Frees the future. */
int cassandra_context_receive(struct cassandra_session *session, CassFuture *future, struct arena *arena,
                              struct cassandra_context *context, struct error *err);

void cassandra_context_completion(const struct cassandra_context *context,
                                  struct store_completion *completion);

/* The newest whole version of each chunk that is stored, whether its context is complete or not. Arrays of
 * `count`. */
struct cassandra_versions {
    uint64_t *hashes;
    int64_t *put_us;
    bool *there;
    int32_t count;
};

/* cassandra_write.c */
int cassandra_read_versions(struct cassandra_session *session, struct store_call *call,
                            struct cassandra_versions *versions);

/* --- what is kept by time (cassandra_walk.c) --- */

enum cassandra_kind {
    KIND_OUTBOX,
    KIND_EVENT,
    KIND_INGEST,
    KIND_TCHART_EVENT,
    KIND_TCHART_INGEST,
    KIND_TOOL
};

struct cassandra_entry {
    int64_t at_us;
    struct store_key key;
    const char *recipe, *lot; /* "" in the outbox */
};

/* Adds a row to the wave. The row's bucket is to be written once the wave has ended: cassandra_put_bucket. */
void cassandra_put_entry(struct cassandra_wave *wave, enum cassandra_kind kind,
                         const struct cassandra_entry *entry);
void cassandra_put_bucket(struct cassandra_wave *wave, enum cassandra_kind kind, int64_t at_us);
void cassandra_delete_entry(struct cassandra_wave *wave, enum cassandra_kind kind,
                            const struct cassandra_entry *entry);

struct cassandra_walk {
    struct cassandra_session *session;
    struct arena *arena; /* what is read goes there */
    enum cassandra_kind kind;
    const char *tool;       /* KIND_TOOL */
    int64_t from_us, to_us; /* from <= at < to */
    bool keep_buckets;      /* empty ones are not taken off the list: a read-only store */
    void *arg;
    bool (*wants)(void *arg, const struct cassandra_entry *entry); /* NULL: all. Before the context is read */
    /* 0: go on; 1: enough; negative: an error, in `err`. */
    int (*visit)(void *arg, const struct cassandra_entry *entry, const struct cassandra_context *context,
                 struct error *err);
};

/* Visits entries in the order of (at_us, context_id). */
int cassandra_walk(const struct cassandra_walk *walk, struct error *err);

/* --- carrying out calls; both return the reply's code --- */

/* The partition of a debt. */
int cassandra_debt_shard(const struct store_key *key);

int cassandra_read_call(struct cassandra_session *session, struct store_call *call, bool read_only);
int cassandra_write_call(struct cassandra_session *session, struct store_call *call);
int cassandra_expire(struct cassandra_session *session, struct store_call *call); /* cassandra_expire.c */

#endif
