/* The store's rows of what is required of process time, on any store: fetch, history and write, for a typical
 * context (100 sensors x 1,200 samples, 100 indicators) and a long one (200 x 18,000, 200 indicators), beside
 * a bare loop of the same statements on the driver in one thread.
 *
 *     bench_rows sqlite:PATH | cassandra:HOST[:PORT]/KEYSPACE        (an empty store; see ./run) */
#include "base/clock.h"
#include "store/sqlite_connection.h"
#include "store/store.h"
#ifdef HAVE_CASSANDRA
#include "store/cassandra_session.h"
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_BYTES = 350 * 1000,
    HISTORY = 100,
    KEYS = 10,
    COPY_BYTES = 32 * 1000 * 1000,
    VERDICTS_BYTES = 9000
};

struct size {
    const char *name;
    int chunks; /* of CHUNK_BYTES: what 100 x 1,200 samples come to; 200 x 18,000 are thirty times as many */
    size_t points_bytes;
    int contexts, fetches, calls;
};

static const struct size sizes[] = {{"typical", 1, 2000, 200, 400, 600}, {"long", 30, 4000, 12, 60, 200}};

struct bench {
    const char *url;
    struct store *store;
    struct store_wait *wait;
    unsigned char *chunk, *copy;
    const struct size *size;
    struct sqlite_connection sqlite;
#ifdef HAVE_CASSANDRA
    struct cassandra_session cassandra;
#endif
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_rows: %s: %s\n", what, why);
    exit(1);
}

static int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Times `calls` of `call`, one after the other; returns the median in ms. */
static double run(struct bench *bench, const char *what, int calls, void (*call)(struct bench *, int))
{
    int64_t *ns = calloc((size_t)calls, sizeof *ns);
    for (int i = 0; i < calls; i++) {
        int64_t begin = clock_mono_ns();
        call(bench, i);
        ns[i] = clock_mono_ns() - begin;
    }
    qsort(ns, (size_t)calls, sizeof *ns, compare_ns);
    double median = (double)ns[calls / 2] / 1e6;
    printf("%-8s %-34s %9.3f %9.3f %9.3f\n", bench->size->name, what, median,
           (double)ns[calls * 95 / 100] / 1e6, (double)ns[calls * 99 / 100] / 1e6);
    fflush(stdout);
    free(ns);
    return median;
}

/* --- the contexts --- */

static struct store_key key_of(const struct bench *bench, char id[static 48], char tool[static 32], int i)
{
    snprintf(id, 48, "%s-%08d", bench->size->name, i);
    snprintf(tool, 32, "TOOL-%s-%d", bench->size->name, i % KEYS);
    return (struct store_key){.tool = tool, .chamber = "A", .context_id = id};
}

static int64_t end_us(int i)
{
    return INT64_C(1767600000000000) + (int64_t)i * 1000000;
}

static void take(struct bench *bench)
{
    struct store_reply *reply = store_wait_reply(bench->wait);
    if (reply->code)
        die("store", reply->error.text);
    store_reply_free(reply);
}

static void complete(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct store_chunk chunks[32];
    struct store_completion completion = {.key = key_of(bench, id, tool, i),
                                          .recipe = "ETCH",
                                          .lot = "LOT",
                                          .end_us = end_us(i),
                                          .completed_us = end_us(i),
                                          .chunk_count = bench->size->chunks,
                                          .announcement = "{}"};
    for (int c = 0; c < bench->size->chunks; c++)
        chunks[c] = (struct store_chunk){.index = c, .bytes = bench->chunk, .length = CHUNK_BYTES};
    store_complete(bench->store, &completion, chunks, (size_t)bench->size->chunks, store_wait_done,
                   bench->wait);
    take(bench);
}

static int spread(const struct bench *bench, int i)
{
    return (int)((unsigned)i * 2654435761u % (unsigned)bench->size->contexts);
}

static void fetch(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct store_key key = key_of(bench, id, tool, spread(bench, i));
    store_fetch_tchart(bench->store, &key, store_wait_done, bench->wait);
    take(bench);
}

static void put_uchart(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct store_uchart uchart = {.key = key_of(bench, id, tool, i),
                                  .recipe = "ETCH",
                                  .end_us = end_us(i),
                                  .judged_us = end_us(i),
                                  .points = bench->chunk,
                                  .points_length = bench->size->points_bytes,
                                  .verdicts = bench->chunk,
                                  .verdicts_length = VERDICTS_BYTES};
    store_put_uchart(bench->store, &uchart, store_wait_done, bench->wait);
    take(bench);
}

static void history(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct store_key key = key_of(bench, id, tool, i);
    struct store_history_query query = {.tool = key.tool,
                                        .chamber = "A",
                                        .recipe = "ETCH",
                                        .end_us = INT64_MAX,
                                        .context_id = "",
                                        .limit = HISTORY};
    store_fetch_history(bench->store, &query, store_wait_done, bench->wait);
    take(bench);
}

/* --- bare SQLite --- */

static sqlite3_stmt *sql(struct bench *bench, int which)
{
    struct error err;
    sqlite3_stmt *statement = sqlite_statement(&bench->sqlite, which, &err);
    if (statement == NULL)
        die("bare SQL", err.text);
    sqlite3_reset(statement);
    return statement;
}

static void sql_run(struct bench *bench, int which)
{
    sqlite3_stmt *statement = sql(bench, which);
    if (sqlite3_step(statement) != SQLITE_DONE)
        die("bare SQL", sqlite3_errmsg(bench->sqlite.db));
    sqlite3_reset(statement);
}

static void sql_fetch(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct store_key key = key_of(bench, id, tool, spread(bench, i));
    sqlite3_stmt *find = sql(bench, STATEMENT_FIND_KEY), *chunks = sql(bench, STATEMENT_CHUNKS);
    sql_run(bench, STATEMENT_BEGIN_READ);
    sqlite_bind_key(find, &key);
    if (sqlite3_step(find) != SQLITE_ROW)
        die("bare SQL", "no such context");
    sqlite3_bind_int64(chunks, 1, sqlite3_column_int64(find, 0));
    for (size_t used = 0; sqlite3_step(chunks) == SQLITE_ROW; used += CHUNK_BYTES)
        memcpy(bench->copy + used, sqlite3_column_blob(chunks, 2), (size_t)sqlite3_column_bytes(chunks, 2));
    sqlite3_reset(find);
    sqlite3_reset(chunks);
    sql_run(bench, STATEMENT_COMMIT);
}

static void sql_history(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct store_key key = key_of(bench, id, tool, i);
    sqlite3_stmt *rows = sql(bench, STATEMENT_EARLIER);
    sqlite_bind_text(rows, 1, key.tool);
    sqlite_bind_text(rows, 2, "A");
    sqlite_bind_text(rows, 3, "ETCH");
    sqlite3_bind_int64(rows, 4, INT64_MAX);
    sqlite_bind_text(rows, 5, "");
    sqlite3_bind_int64(rows, 6, HISTORY);
    size_t used = 0;
    while (sqlite3_step(rows) == SQLITE_ROW) {
        memcpy(bench->copy + used, sqlite3_column_blob(rows, 7), (size_t)sqlite3_column_bytes(rows, 7));
        used += (size_t)sqlite3_column_bytes(rows, 7);
    }
    sqlite3_reset(rows);
}

static void run_bare_sqlite(struct bench *bench)
{
    struct error err;
    if (sqlite_connection_open(&bench->sqlite, bench->url + strlen("sqlite:"), SQL_MODE_WRITE, 5000, &err))
        die("bare SQL", err.text);
    run(bench, "  bare SQL: fetch", bench->size->fetches, sql_fetch);
    run(bench, "  bare SQL: history of 100", bench->size->calls, sql_history);
    sqlite_connection_close(&bench->sqlite);
}

/* --- the bare driver --- */

#ifdef HAVE_CASSANDRA
static const CassResult *await(CassFuture *future)
{
    if (cass_future_error_code(future) != CASS_OK)
        die("bare driver", cass_error_desc(cass_future_error_code(future)));
    const CassResult *result = cass_future_get_result(future);
    cass_future_free(future);
    return result;
}

static CassFuture *send_context(struct bench *bench, const struct store_key *key)
{
    return cassandra_send(&bench->cassandra, cassandra_context_statement(&bench->cassandra, key));
}

static size_t copy_column(struct bench *bench, const CassResult *result, size_t column, size_t used)
{
    CassIterator *rows = cass_iterator_from_result(result);
    while (cass_iterator_next(rows)) {
        const cass_byte_t *bytes;
        size_t length;
        cass_value_get_bytes(cass_row_get_column(cass_iterator_get_row(rows), column), &bytes, &length);
        memcpy(bench->copy + used, bytes, length);
        used += length;
    }
    cass_iterator_free(rows);
    return used;
}

static void cql_fetch(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct store_key key = key_of(bench, id, tool, spread(bench, i));
    cass_result_free(await(send_context(bench, &key)));
    CassStatement *statement =
        cassandra_bind(&bench->cassandra, CQL_CHUNKS, "ttt", key.tool, key.chamber, key.context_id);
    cass_statement_set_paging_size(statement, 4);
    size_t used = 0;
    for (bool more = true; more;) {
        const CassResult *page = await(cass_session_execute(bench->cassandra.session, statement));
        used = copy_column(bench, page, 4, used);
        more = cass_result_has_more_pages(page) == cass_true;
        if (more)
            cass_statement_set_paging_state(statement, page);
        cass_result_free(page);
    }
    cass_statement_free(statement);
}

static void cql_history(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct store_key key = key_of(bench, id, tool, i);
    const CassResult *rows = await(
        cassandra_send(&bench->cassandra, cassandra_bind(&bench->cassandra, CQL_EARLIER, "tttlti", key.tool,
                                                         "A", "ETCH", INT64_MAX, "", HISTORY)));
    copy_column(bench, rows, 7, 0);
    cass_result_free(rows);
}

/* Of a context that is complete: read it; row and recipe; the mark; out of the outbox, with the counter. */
static void cql_put_uchart(struct bench *bench, int i)
{
    char id[48], tool[32];
    struct cassandra_session *session = &bench->cassandra;
    struct store_key key = key_of(bench, id, tool, i);
    size_t points = bench->size->points_bytes, verdicts = VERDICTS_BYTES;
    cass_result_free(await(send_context(bench, &key)));
    CassFuture *row =
        cassandra_send(session, cassandra_bind(session, CQL_PUT_UCHART, "tttltlliilbb", key.tool, "A", "ETCH",
                                               end_us(i), id, end_us(i), INT64_C(0), 0, 0, INT64_C(0),
                                               bench->chunk, points, bench->chunk, verdicts));
    CassFuture *recipe =
        cassandra_send(session, cassandra_bind(session, CQL_PUT_RECIPE, "ttt", key.tool, "A", "ETCH"));
    cass_result_free(await(row));
    cass_result_free(await(recipe));
    cass_result_free(await(cassandra_send(
        session, cassandra_bind(session, CQL_MARK_JUDGED, "tlttt", "ETCH", end_us(i), id, key.tool, "A"))));
    struct cassandra_wave wave = cassandra_wave_of(session, "the outbox", NULL);
    cassandra_delete_entry(&wave, KIND_OUTBOX, &(struct cassandra_entry){.at_us = end_us(i), .key = key});
    cassandra_wave_add(&wave, cassandra_bind(session, CQL_ADD_COUNT, "lt", INT64_C(1), "judged"));
    if (cassandra_wave_end(&wave))
        die("bare driver", "the outbox");
}

static void run_bare_cassandra(struct bench *bench, double fetch_ms, double history_ms, double write_ms)
{
    struct error err;
    if (cassandra_session_open(&bench->cassandra, bench->url + strlen("cassandra:"), true, &err) ||
        cassandra_session_prepare(&bench->cassandra, &err))
        die("bare driver", err.text);
    double bare = run(bench, "  bare driver: fetch", bench->size->fetches, cql_fetch);
    printf("%-8s   the store takes %+.0f %%\n", "", 100 * (fetch_ms / bare - 1));
    bare = run(bench, "  bare driver: history of 100", bench->size->calls, cql_history);
    printf("%-8s   the store takes %+.0f %%\n", "", 100 * (history_ms / bare - 1));
    bare = run(bench, "  bare driver: write U-chart", bench->size->contexts, cql_put_uchart);
    printf("%-8s   the store takes %+.0f %%\n", "", 100 * (write_ms / bare - 1));
    cassandra_session_close(&bench->cassandra);
}
#endif

static void run_size(struct bench *bench)
{
    int contexts = bench->size->contexts;
    run(bench, "complete a context", contexts, complete);
    double fetch_ms = run(bench, "fetch T-chart", bench->size->fetches, fetch);
    double write_ms = run(bench, "write U-chart", contexts, put_uchart);
    for (int i = 0; i < HISTORY * KEYS; i++)
        put_uchart(bench, contexts + i);
    double history_ms = run(bench, "history of 100 (cache miss)", bench->size->calls, history);
    if (strncmp(bench->url, "sqlite:", 7) == 0)
        run_bare_sqlite(bench);
#ifdef HAVE_CASSANDRA
    else
        run_bare_cassandra(bench, fetch_ms, history_ms, write_ms);
#else
    (void)fetch_ms, (void)write_ms, (void)history_ms;
#endif
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: bench_rows sqlite:PATH | cassandra:HOST[:PORT]/KEYSPACE\n");
        return 2;
    }
    struct error err;
    struct bench bench = {.url = argv[1], .chunk = malloc(CHUNK_BYTES), .copy = malloc(COPY_BYTES)};
    for (size_t i = 0; i < CHUNK_BYTES; i++)
        bench.chunk[i] = (unsigned char)(i * 2654435761u >> 15);
    if (store_open(bench.url, NULL, &bench.store, &err))
        die("open", err.text);
    bench.wait = store_wait_new();
    printf("%.60s (ms)\n%-8s %-34s %9s %9s %9s\n", bench.url, "context", "", "p50", "p95", "p99");
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        bench.size = &sizes[i];
        run_size(&bench);
    }
    store_wait_free(bench.wait);
    store_close(bench.store);
    free(bench.chunk);
    free(bench.copy);
    return 0;
}
