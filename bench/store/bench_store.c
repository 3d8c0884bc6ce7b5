/* How long the SQLite store and the history cache take, beside bare loops of the same SQL in one thread: the
 * limit.
 *
 *     bench_store [FOLDER]     writes about 400 MB under FOLDER (or TMPDIR, or /tmp) and removes it again */
#include "base/clock.h"
#include "store/cache.h"
#include "store/sqlite_connection.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CONTEXTS = 600,            /* T-charts that are written, then read */
    TCHART_BYTES = 350 * 1000, /* a typical context: 100 sensors x 1,200 samples */
    KEYS = 40,                 /* histories: more than stays in a connection's page cache */
    ROWS = 130,                /* of each */
    HISTORY = 100,             /* that are asked for */
    POINTS_BYTES = 2000,       /* 100 indicators */
    VERDICTS_BYTES = 9000,
    READS = 2000,
    WRITES = 600,
    THREADS_MAX = 4,
    PATH_BYTES = 400
};

struct bench {
    char path[PATH_BYTES];
    char url[PATH_BYTES + 16];
    struct store *store;
    unsigned char *tchart;
    unsigned char points[POINTS_BYTES], verdicts[VERDICTS_BYTES];
};

struct worker {
    struct bench *bench;
    pthread_t thread;
    int number, of;
    int64_t *ns; /* one a call */
    int count;
    void (*call)(struct bench *bench, struct store_wait *wait, int i);
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_store: %s: %s\n", what, why);
    exit(1);
}

static int compare_ns(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

static void print_row(const char *what, int threads, int64_t *ns, size_t count, int64_t total_ns)
{
    qsort(ns, count, sizeof *ns, compare_ns);
    printf("%-44s %7d %9.3f %9.3f %9.3f %9.0f\n", what, threads, (double)ns[count / 2] / 1e6,
           (double)ns[count * 95 / 100] / 1e6, (double)ns[count * 99 / 100] / 1e6,
           (double)count / ((double)total_ns / 1e9));
    fflush(stdout);
}

/* --- through store.h --- */

static void take(struct store_wait *wait)
{
    struct store_reply *reply = store_wait_reply(wait);
    if (reply->code)
        die("store", reply->error.text);
    store_reply_free(reply);
}

static void context_id(char text[static 32], int i)
{
    snprintf(text, 32, "context-%08d", i);
}

static struct store_completion completion_of(const char *id, int i)
{
    return (struct store_completion){.key = {.tool = "TOOL-1", .chamber = "A", .context_id = id},
                                     .recipe = "ETCH",
                                     .lot = "LOT",
                                     .end_us = (int64_t)i * 1000000,
                                     .chunk_count = 1,
                                     .announcement = "{\"context_id\":\"...\",\"tool_id\":\"TOOL-1\"}"};
}

static void call_complete(struct bench *bench, struct store_wait *wait, int i)
{
    char id[32];
    context_id(id, i);
    struct store_completion completion = completion_of(id, i);
    struct store_chunk chunk = {.index = 0, .bytes = bench->tchart, .length = TCHART_BYTES};
    store_complete(bench->store, &completion, &chunk, 1, store_wait_done, wait);
    take(wait);
}

static void call_fetch(struct bench *bench, struct store_wait *wait, int i)
{
    char id[32];
    context_id(id, (int)((unsigned)i * 2654435761u % CONTEXTS));
    struct store_key key = {.tool = "TOOL-1", .chamber = "A", .context_id = id};
    store_fetch_tchart(bench->store, &key, store_wait_done, wait);
    take(wait);
}

static struct store_uchart uchart_of(struct bench *bench, char id[static 32], char tool[static 32], int i)
{
    context_id(id, 1000000 + i);
    snprintf(tool, 32, "TOOL-%d", i % KEYS);
    return (struct store_uchart){.key = {.tool = tool, .chamber = "A", .context_id = id},
                                 .recipe = "ETCH",
                                 .end_us = (int64_t)i * 1000000,
                                 .judged_us = (int64_t)i * 1000000,
                                 .points = bench->points,
                                 .points_length = POINTS_BYTES,
                                 .verdicts = bench->verdicts,
                                 .verdicts_length = VERDICTS_BYTES};
}

static void call_put_uchart(struct bench *bench, struct store_wait *wait, int i)
{
    char id[32], tool[32];
    struct store_uchart uchart = uchart_of(bench, id, tool, KEYS * ROWS + i);
    store_put_uchart(bench->store, &uchart, store_wait_done, wait);
    take(wait);
}

static struct store_history_query query_of(char tool[static 32], int i)
{
    snprintf(tool, 32, "TOOL-%d", i % KEYS);
    return (struct store_history_query){.tool = tool,
                                        .chamber = "A",
                                        .recipe = "ETCH",
                                        .end_us = INT64_MAX,
                                        .context_id = "",
                                        .limit = HISTORY};
}

static void call_history(struct bench *bench, struct store_wait *wait, int i)
{
    char tool[32];
    struct store_history_query query = query_of(tool, i);
    store_fetch_history(bench->store, &query, store_wait_done, wait);
    take(wait);
}

static void *run_worker(void *arg)
{
    struct worker *worker = arg;
    struct store_wait *wait = store_wait_new();
    if (wait == NULL)
        die("store_wait_new", "out of memory");
    for (int i = 0; i < worker->count; i++) {
        int64_t begin = clock_mono_ns();
        worker->call(worker->bench, wait, i * worker->of + worker->number);
        worker->ns[i] = clock_mono_ns() - begin;
    }
    store_wait_free(wait);
    return NULL;
}

static void run_threads(struct bench *bench, const char *what, int threads, int calls,
                        void (*call)(struct bench *, struct store_wait *, int))
{
    int64_t *ns = calloc((size_t)calls, sizeof *ns);
    struct worker workers[THREADS_MAX];
    int64_t begin = clock_mono_ns();
    for (int i = 0; i < threads; i++) {
        workers[i] = (struct worker){.bench = bench,
                                     .number = i,
                                     .of = threads,
                                     .call = call,
                                     .count = calls / threads,
                                     .ns = ns + i * (calls / threads)};
        pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]);
    }
    for (int i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    print_row(what, threads, ns, (size_t)(calls / threads * threads), clock_mono_ns() - begin);
    free(ns);
}

/* --- bare SQL --- */

struct bare {
    struct sqlite_connection connection;
    unsigned char *copy; /* where a reader puts what it reads */
};

static sqlite3_stmt *bare_statement(struct bare *bare, int which)
{
    struct error err;
    sqlite3_stmt *statement = sqlite_statement(&bare->connection, which, &err);
    if (statement == NULL)
        die("bare", err.text);
    sqlite3_reset(statement);
    return statement;
}

static void bare_step(struct bare *bare, sqlite3_stmt *statement)
{
    if (sqlite3_step(statement) != SQLITE_DONE)
        die("bare", sqlite3_errmsg(bare->connection.db));
    sqlite3_reset(statement);
}

static void bare_run(struct bare *bare, int which)
{
    bare_step(bare, bare_statement(bare, which));
}

static void bare_fetch(struct bench *bench, struct bare *bare, int i)
{
    (void)bench;
    char id[32];
    context_id(id, (int)((unsigned)i * 2654435761u % CONTEXTS));
    sqlite3_stmt *find = bare_statement(bare, STATEMENT_FIND_KEY),
                 *chunks = bare_statement(bare, STATEMENT_CHUNKS);
    bare_run(bare, STATEMENT_BEGIN_READ);
    sqlite_bind_key(find, &(struct store_key){.tool = "TOOL-1", .chamber = "A", .context_id = id});
    if (sqlite3_step(find) != SQLITE_ROW)
        die("bare fetch", "no row");
    sqlite3_bind_int64(chunks, 1, sqlite3_column_int64(find, 0));
    while (sqlite3_step(chunks) == SQLITE_ROW)
        memcpy(bare->copy, sqlite3_column_blob(chunks, 2), (size_t)sqlite3_column_bytes(chunks, 2));
    sqlite3_reset(find);
    sqlite3_reset(chunks);
    bare_run(bare, STATEMENT_COMMIT);
}

static void bare_history(struct bench *bench, struct bare *bare, int i)
{
    (void)bench;
    char tool[32];
    struct store_history_query query = query_of(tool, i);
    sqlite3_stmt *rows = bare_statement(bare, STATEMENT_EARLIER);
    sqlite_bind_text(rows, 1, query.tool);
    sqlite_bind_text(rows, 2, query.chamber);
    sqlite_bind_text(rows, 3, query.recipe);
    sqlite3_bind_int64(rows, 4, query.end_us);
    sqlite_bind_text(rows, 5, query.context_id);
    sqlite3_bind_int64(rows, 6, HISTORY);
    size_t used = 0;
    while (sqlite3_step(rows) == SQLITE_ROW) {
        memcpy(bare->copy + used, sqlite3_column_blob(rows, 7), (size_t)sqlite3_column_bytes(rows, 7));
        used += (size_t)sqlite3_column_bytes(rows, 7);
    }
    sqlite3_reset(rows);
}

static void bare_put_uchart(struct bench *bench, struct bare *bare, int i)
{
    char id[32], tool[32];
    struct store_uchart uchart =
        uchart_of(bench, id, tool, (bare->connection.durable ? 20 : 10) * KEYS * ROWS + i);
    bare_run(bare, STATEMENT_BEGIN_WRITE);
    sqlite3_stmt *insert = bare_statement(bare, STATEMENT_INSERT_CONTEXT);
    sqlite_bind_key(insert, &uchart.key);
    sqlite_bind_text(insert, 4, "judged");
    sqlite3_bind_int(insert, 5, 0);
    sqlite3_bind_int64(insert, 6, uchart.end_us);
    sqlite3_bind_int64(insert, 7, uchart.judged_us);
    sqlite_bind_text(insert, 8, "ETCH");
    sqlite_bind_text(insert, 9, "");
    bare_step(bare, insert);
    int64_t context_no = sqlite3_last_insert_rowid(bare->connection.db);
    sqlite3_stmt *put = bare_statement(bare, STATEMENT_PUT_UCHART);
    sqlite_bind_text(put, 1, tool);
    sqlite_bind_text(put, 2, "A");
    sqlite_bind_text(put, 3, "ETCH");
    sqlite3_bind_int64(put, 4, uchart.end_us);
    sqlite_bind_text(put, 5, id);
    for (int column = 6; column <= 11; column++)
        sqlite3_bind_int64(put, column, context_no);
    sqlite_bind_bytes(put, 12, uchart.points, uchart.points_length);
    bare_step(bare, put);
    sqlite3_stmt *verdicts = bare_statement(bare, STATEMENT_PUT_VERDICTS);
    sqlite3_bind_int64(verdicts, 1, context_no);
    sqlite_bind_text(verdicts, 2, "ETCH");
    sqlite3_bind_int64(verdicts, 3, uchart.end_us);
    sqlite_bind_bytes(verdicts, 4, uchart.verdicts, uchart.verdicts_length);
    bare_step(bare, verdicts);
    bare_run(bare, STATEMENT_COMMIT);
}

static void bare_complete(struct bench *bench, struct bare *bare, int i)
{
    char id[32];
    context_id(id, 2000000 + i);
    struct store_key key = {.tool = "TOOL-1", .chamber = "A", .context_id = id};
    bare_run(bare, STATEMENT_BEGIN_WRITE);
    sqlite3_stmt *insert = bare_statement(bare, STATEMENT_INSERT_CONTEXT);
    sqlite_bind_key(insert, &key);
    sqlite_bind_text(insert, 4, "receiving");
    sqlite3_bind_int(insert, 5, 1);
    sqlite3_bind_int64(insert, 6, i);
    sqlite3_bind_int64(insert, 7, i);
    sqlite_bind_text(insert, 8, "ETCH");
    sqlite_bind_text(insert, 9, "");
    bare_step(bare, insert);
    sqlite3_stmt *put = bare_statement(bare, STATEMENT_PUT_CHUNK);
    sqlite3_bind_int64(put, 1, sqlite3_last_insert_rowid(bare->connection.db));
    sqlite3_bind_int64(put, 2, 0);
    sqlite3_bind_int64(put, 3, 0);
    sqlite_bind_bytes(put, 4, bench->tchart, TCHART_BYTES);
    bare_step(bare, put);
    bare_run(bare, STATEMENT_COMMIT);
}

static void run_bare(struct bench *bench, const char *what, int calls, bool durable,
                     void (*call)(struct bench *, struct bare *, int))
{
    struct bare bare = {.copy = malloc(TCHART_BYTES)};
    struct error err;
    if (sqlite_connection_open(&bare.connection, bench->path, SQL_MODE_WRITE, 5000, &err) ||
        sqlite_set_durable(&bare.connection, durable, &err))
        die("bare", err.text);
    int64_t *ns = calloc((size_t)calls, sizeof *ns);
    int64_t start = clock_mono_ns();
    for (int i = 0; i < calls; i++) {
        int64_t begin = clock_mono_ns();
        call(bench, &bare, i);
        ns[i] = clock_mono_ns() - begin;
    }
    print_row(what, 1, ns, (size_t)calls, clock_mono_ns() - start);
    sqlite3_wal_checkpoint_v2(bare.connection.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    sqlite_connection_close(&bare.connection);
    free(bare.copy);
    free(ns);
}

/* --- the cache --- */

static void run_cache(struct bench *bench)
{
    struct cache *cache;
    struct error err;
    if (cache_open(0, &cache, &err))
        die("cache", err.text);
    struct store_uchart rows[HISTORY];
    char ids[HISTORY][32], tool[32];
    for (int key = 0; key < KEYS; key++) {
        for (int i = 0; i < HISTORY; i++) {
            rows[i] = uchart_of(bench, ids[i], tool, (HISTORY - i) * KEYS + key);
            rows[i].verdicts = NULL;
        }
        struct store_history_query query = query_of(tool, key);
        if (cache_fill(cache, &query, rows, HISTORY, true, &err))
            die("cache", err.text);
    }
    int64_t *ns = calloc(READS, sizeof *ns);
    struct arena arena;
    arena_init(&arena, 0);
    int64_t total = 0;
    for (int i = 0; i < READS; i++) {
        struct store_history_query query = query_of(tool, i * 7);
        struct store_uchart *got;
        size_t count;
        arena_reset(&arena);
        int64_t begin = clock_mono_ns();
        int code = cache_lookup(cache, &query, &arena, &got, &count, &err);
        ns[i] = clock_mono_ns() - begin;
        total += ns[i];
        if (code || count != HISTORY)
            die("cache", "no hit");
    }
    print_row("history, cache hit (100 x 2 KB)", 1, ns, READS, total);
    total = 0;
    for (int i = 0; i < READS; i++) {
        char id[32];
        struct store_uchart row = uchart_of(bench, id, tool, (HISTORY + 1) * KEYS + i);
        int64_t begin = clock_mono_ns();
        if (cache_put(cache, &row, &err))
            die("cache", err.text);
        ns[i] = clock_mono_ns() - begin;
        total += ns[i];
    }
    print_row("cache update", 1, ns, READS, total);
    arena_free(&arena);
    free(ns);
    cache_close(cache);
}

/* --- running --- */

static void remove_store(const struct bench *bench)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_BYTES + 8];
        snprintf(path, sizeof path, "%s%s", bench->path, suffixes[i]);
        unlink(path);
    }
}

static void write_histories(struct bench *bench)
{
    struct store_uchart *ucharts = calloc(ROWS, sizeof *ucharts);
    char ids[ROWS][32], tools[ROWS][32];
    struct store_wait *wait = store_wait_new();
    for (int begin = 0; begin < KEYS * ROWS; begin += ROWS) {
        for (int i = 0; i < ROWS; i++)
            ucharts[i] = uchart_of(bench, ids[i], tools[i], begin + i);
        store_put_ucharts(bench->store, ucharts, ROWS, store_wait_done, wait);
        take(wait);
    }
    store_wait_free(wait);
    free(ucharts);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : getenv("TMPDIR");
    struct bench bench = {0};
    snprintf(bench.path, sizeof bench.path, "%s/bench-store-%d.db", folder ? folder : "/tmp", (int)getpid());
    snprintf(bench.url, sizeof bench.url, "sqlite:%s", bench.path);
    bench.tchart = malloc(TCHART_BYTES);
    for (size_t i = 0; i < TCHART_BYTES; i++)
        bench.tchart[i] = (unsigned char)(i * 2654435761u >> 15);
    struct error err;
    struct store_options options = {.reader_threads = 4};
    if (store_open(bench.url, &options, &bench.store, &err))
        die("open", err.text);
    printf("%-44s %7s %9s %9s %9s %9s\n", "SQLite store (ms)", "threads", "p50", "p95", "p99", "calls/s");
    run_threads(&bench, "complete (350 KB, synced)", 1, CONTEXTS, call_complete);
    write_histories(&bench);
    run_threads(&bench, "fetch T-chart (350 KB)", 1, READS, call_fetch);
    run_threads(&bench, "fetch T-chart (350 KB)", 4, READS, call_fetch);
    run_bare(&bench, "  bare SQL", READS, false, bare_fetch);
    run_cache(&bench);
    run_threads(&bench, "history, cache miss (100 x 2 KB)", 1, READS, call_history);
    run_threads(&bench, "history, cache miss (100 x 2 KB)", 4, READS, call_history);
    run_bare(&bench, "  bare SQL", READS, false, bare_history);
    run_threads(&bench, "write U-chart", 1, WRITES, call_put_uchart);
    run_threads(&bench, "write U-chart", 4, WRITES, call_put_uchart);
    run_bare(&bench, "  bare SQL (new context each)", WRITES, false, bare_put_uchart);
    run_bare(&bench, "  bare SQL, synced", WRITES, true, bare_put_uchart);
    run_bare(&bench, "  bare SQL: insert a 350 KB chunk, synced", 300, true, bare_complete);
    store_close(bench.store);
    remove_store(&bench);
    free(bench.tchart);
    return 0;
}
