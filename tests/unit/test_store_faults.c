/* A failing disk and a failing allocator, at every step: each call either is answered with an error that says
 * which, or has done all that it should; and the file is good afterwards. The faults sit below SQLite: a VFS
 * that wraps the system's, and an allocator that wraps malloc. */
#include "cmocka_setup.h"

#include "store/cache.h"
#include "store/sqlite_connection.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

enum { PATH_BYTES = 300, TRACE_BYTES = 50000, STEPS_MAX = 3000 };

/* --- the failing disk --- */

/* The n-th change to a file from now on fails, and so do all after it, until the disk is mended. */
static atomic_int disk_countdown = -1; /* below 0: never */
static atomic_int disk_error = SQLITE_OK;
static atomic_bool disk_failed;

static int disk_step(void)
{
    if (atomic_load(&disk_failed))
        return atomic_load(&disk_error);
    if (atomic_load(&disk_countdown) < 0 || atomic_fetch_sub(&disk_countdown, 1) > 0)
        return SQLITE_OK;
    atomic_store(&disk_failed, true);
    return atomic_load(&disk_error);
}

static void break_disk(int after, int error)
{
    atomic_store(&disk_failed, false);
    atomic_store(&disk_error, error);
    atomic_store(&disk_countdown, after);
}

static void mend_disk(void)
{
    atomic_store(&disk_countdown, -1);
    atomic_store(&disk_failed, false);
}

/* A file of the system's VFS whose table of methods is a copy with three of them replaced. SQLite keeps one
 * table for each kind of file, so one copy of each is enough. */
static const sqlite3_io_methods *system_methods[8];
static sqlite3_io_methods wrapped_methods[8];
static pthread_mutex_t methods_lock = PTHREAD_MUTEX_INITIALIZER;

static const sqlite3_io_methods *methods_of(sqlite3_file *file)
{
    for (size_t i = 0; i < 8; i++)
        if (file->pMethods == &wrapped_methods[i])
            return system_methods[i];
    abort();
}

static int fault_write(sqlite3_file *file, const void *bytes, int length, sqlite3_int64 offset)
{
    int fault = disk_step();
    return fault ? fault : methods_of(file)->xWrite(file, bytes, length, offset);
}

static int fault_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int fault = disk_step();
    return fault ? fault : methods_of(file)->xTruncate(file, size);
}

static int fault_sync(sqlite3_file *file, int flags)
{
    /* A full disk is told by writes; a sync can only break. */
    int fault = disk_step();
    if (fault)
        return fault == SQLITE_FULL ? SQLITE_IOERR_FSYNC : fault;
    return methods_of(file)->xSync(file, flags);
}

static void wrap_methods(sqlite3_file *file)
{
    pthread_mutex_lock(&methods_lock);
    size_t i = 0;
    while (i < 8 && system_methods[i] && system_methods[i] != file->pMethods)
        i++;
    if (i == 8)
        abort();
    if (system_methods[i] == NULL) {
        wrapped_methods[i] = *file->pMethods;
        wrapped_methods[i].xWrite = fault_write;
        wrapped_methods[i].xTruncate = fault_truncate;
        wrapped_methods[i].xSync = fault_sync;
        system_methods[i] = file->pMethods;
    }
    file->pMethods = &wrapped_methods[i];
    pthread_mutex_unlock(&methods_lock);
}

static sqlite3_vfs *system_vfs;
static sqlite3_vfs fault_vfs;

static int fault_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    int result = system_vfs->xOpen(system_vfs, name, file, flags, out_flags);
    if (file->pMethods)
        wrap_methods(file);
    return result;
}

/* --- the failing allocator --- */

static sqlite3_mem_methods system_memory;
static atomic_int memory_countdown = -1;

static bool memory_fails(void)
{
    return atomic_load(&memory_countdown) >= 0 && atomic_fetch_sub(&memory_countdown, 1) <= 0;
}

static void *fault_malloc(int bytes)
{
    if (memory_fails()) {
        atomic_store(&memory_countdown, -1); /* once */
        return NULL;
    }
    return system_memory.xMalloc(bytes);
}

static void *fault_realloc(void *memory, int bytes)
{
    if (memory_fails()) {
        atomic_store(&memory_countdown, -1);
        return NULL;
    }
    return system_memory.xRealloc(memory, bytes);
}

static int install_faults(void)
{
    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &system_memory) != SQLITE_OK)
        return -1;
    sqlite3_mem_methods memory = system_memory;
    memory.xMalloc = fault_malloc;
    memory.xRealloc = fault_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &memory) != SQLITE_OK || sqlite3_initialize() != SQLITE_OK)
        return -1;
    system_vfs = sqlite3_vfs_find(NULL);
    fault_vfs = *system_vfs;
    fault_vfs.zName = "fault";
    fault_vfs.xOpen = fault_open;
    return sqlite3_vfs_register(&fault_vfs, 1) == SQLITE_OK ? 0 : -1;
}

/* --- stores --- */

struct fixture {
    char folder[200];
    char path[PATH_BYTES];
    char url[PATH_BYTES + 16];
    unsigned char trace[TRACE_BYTES];
};

static struct fixture fix;

static void remove_store(void)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        char path[PATH_BYTES + 8];
        snprintf(path, sizeof path, "%s%s", fix.path, suffixes[i]);
        unlink(path);
    }
}

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(fix.folder, sizeof fix.folder, "%s/store-faults-XXXXXX", tmp ? tmp : "/tmp");
    if (mkdtemp(fix.folder) == NULL)
        return -1;
    snprintf(fix.path, sizeof fix.path, "%s/store.db", fix.folder);
    snprintf(fix.url, sizeof fix.url, "sqlite:%s", fix.path);
    for (size_t i = 0; i < TRACE_BYTES; i++)
        fix.trace[i] = (unsigned char)(i * 2654435761u >> 9);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mend_disk();
    atomic_store(&memory_countdown, -1);
    remove_store();
    return rmdir(fix.folder);
}

static int finish(struct store_wait *wait, struct error *err)
{
    struct store_reply *reply = store_wait_reply(wait);
    int code = reply->code;
    if (code)
        *err = reply->error;
    store_reply_free(reply);
    store_wait_free(wait);
    return code;
}

static struct store_key key_of(const char *id)
{
    return (struct store_key){.tool = "T", .chamber = "A", .context_id = id};
}

static int complete(struct store *store, const char *id, struct error *err)
{
    struct store_completion completion = {.key = key_of(id),
                                          .recipe = "R",
                                          .end_us = 1000,
                                          .completed_us = 1,
                                          .chunk_count = 1,
                                          .announcement = "{}"};
    struct store_chunk chunk = {.index = 0, .bytes = fix.trace, .length = TRACE_BYTES};
    struct store_wait *wait = store_wait_new();
    store_complete(store, &completion, &chunk, 1, store_wait_done, wait);
    return finish(wait, err);
}

static int put_uchart(struct store *store, const char *id, struct error *err)
{
    struct store_uchart uchart = {.key = key_of(id),
                                  .recipe = "R",
                                  .end_us = 1000,
                                  .judged_us = 5,
                                  .points = fix.trace,
                                  .points_length = 2000,
                                  .verdicts = fix.trace,
                                  .verdicts_length = 9000};
    struct store_wait *wait = store_wait_new();
    store_put_uchart(store, &uchart, store_wait_done, wait);
    return finish(wait, err);
}

static int fetch(struct store *store, const char *id, struct error *err)
{
    struct store_key key = key_of(id);
    struct store_wait *wait = store_wait_new();
    store_fetch_tchart(store, &key, store_wait_done, wait);
    return finish(wait, err);
}

static int fetch_uchart(struct store *store, const char *id, struct error *err)
{
    struct store_key key = key_of(id);
    struct store_wait *wait = store_wait_new();
    store_fetch_uchart(store, &key, store_wait_done, wait);
    return finish(wait, err);
}

static int expire_all(struct store *store, struct error *err)
{
    struct store_retention retention = {.clock = STORE_RETAIN_BY_EVENT};
    struct store_wait *wait = store_wait_new();
    store_expire(store, &retention, INT64_MAX, 100, store_wait_done, wait);
    return finish(wait, err);
}

static struct store *open_good(void)
{
    struct store *store = NULL;
    struct error err;
    if (store_open(fix.url, NULL, &store, &err))
        fail_msg("%s", err.text);
    return store;
}

static void check_integrity(void)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(fix.path, &db), SQLITE_OK);
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(statement, 0), "ok");
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

/* The three writes, each under the fault; returns whether any failed. */
static bool run_writes(struct store *store, int allowed, int also_allowed)
{
    struct error err = {0};
    int codes[3] = {complete(store, "new", &err), put_uchart(store, "new", &err), expire_all(store, &err)};
    bool failed = false;
    for (int i = 0; i < 3; i++) {
        if (codes[i] && codes[i] != allowed && codes[i] != also_allowed)
            fail_msg("write %d: %s", i, err.text);
        failed = failed || codes[i] != 0;
    }
    return failed;
}

/* What holds whatever happened: a context is wholly there or not at all, and the file goes on. */
static void check_afterwards(void)
{
    struct store *store = open_good();
    struct error err;
    int fetched = fetch(store, "new", &err), judged = fetch_uchart(store, "new", &err);
    assert_true(fetched == 0 || fetched == ERR_NOT_FOUND);
    assert_true(judged == 0 || judged == ERR_NOT_FOUND);
    assert_int_equal(complete(store, "after", &err), 0);
    assert_int_equal(put_uchart(store, "after", &err), 0);
    assert_int_equal(fetch(store, "after", &err), 0);
    store_close(store);
    check_integrity();
}

static void break_at_every_step(int error, int code)
{
    bool failed = true;
    int step = 0;
    for (; failed && step < STEPS_MAX; step++) {
        struct store *store = open_good();
        struct error err;
        assert_int_equal(complete(store, "old", &err), 0);
        break_disk(step, error);
        failed = run_writes(store, code, code);
        mend_disk();
        assert_int_equal(complete(store, "mended", &err), 0); /* the same store goes on */
        store_close(store);
        check_afterwards();
        remove_store();
    }
    assert_false(failed); /* it came to a run that no fault reached */
    assert_true(step > 5);
}

static void a_full_disk_at_every_step(void **state)
{
    (void)state;
    break_at_every_step(SQLITE_FULL, ERR_IO);
}

static void a_broken_disk_at_every_step(void **state)
{
    (void)state;
    break_at_every_step(SQLITE_IOERR_WRITE, ERR_IO);
}

static void a_full_disk_says_so(void **state)
{
    (void)state;
    struct store *store = open_good();
    struct error err;
    break_disk(0, SQLITE_FULL);
    assert_int_equal(complete(store, "a", &err), ERR_IO);
    assert_non_null(strstr(err.text, fix.path));
    assert_non_null(strstr(err.text, "make room"));
    mend_disk();
    assert_int_equal(complete(store, "a", &err), 0);
    store_close(store);
}

static void opening_on_a_full_disk_fails_cleanly(void **state)
{
    (void)state;
    int step = 0, code = -1;
    for (; code != 0 && step < STEPS_MAX; step++) {
        struct store *store = NULL;
        struct error err;
        break_disk(step, SQLITE_FULL);
        code = store_open(fix.url, NULL, &store, &err);
        mend_disk();
        if (code && code != ERR_IO)
            fail_msg("%s", err.text);
        store_close(store);
        store_close(open_good()); /* what was left behind does no harm */
        remove_store();
    }
    assert_true(step > 1);
}

static void no_memory_at_every_step(void **state)
{
    (void)state;
    struct store *store = open_good();
    struct error err;
    assert_int_equal(complete(store, "old", &err), 0);
    assert_int_equal(put_uchart(store, "old", &err), 0);
    int reached = 0;
    for (int step = 0; step < 400; step++) {
        char id[32];
        snprintf(id, sizeof id, "c%d", step);
        atomic_store(&memory_countdown, step);
        int codes[4] = {complete(store, id, &err), put_uchart(store, id, &err), fetch(store, "old", &err),
                        fetch_uchart(store, "old", &err)};
        reached += atomic_load(&memory_countdown) < 0;
        atomic_store(&memory_countdown, -1);
        for (int i = 0; i < 4; i++)
            if (codes[i] != 0 && codes[i] != ERR_NO_MEMORY)
                fail_msg("step %d, call %d: %s", step, i, err.text);
        assert_int_equal(complete(store, id, &err), 0);
        assert_int_equal(put_uchart(store, id, &err), 0);
        assert_int_equal(fetch(store, id, &err), 0);
        assert_int_equal(fetch_uchart(store, id, &err), 0);
    }
    assert_true(reached > 20);
    store_close(store);
    check_integrity();
}

static void opening_without_memory_fails_cleanly(void **state)
{
    (void)state;
    store_close(open_good());
    int failures = 0;
    for (int step = 0; step < 600; step += 3) {
        struct store *store = NULL;
        struct error err;
        atomic_store(&memory_countdown, step);
        int code = store_open(fix.url, NULL, &store, &err);
        atomic_store(&memory_countdown, -1);
        if (code && code != ERR_NO_MEMORY)
            fail_msg("step %d: %s", step, err.text);
        failures += code != 0;
        store_close(store);
    }
    assert_true(failures > 20);
}

/* A cache that could not take a context must not vouch for a history without it. */
static void a_cache_without_memory_never_lies(void **state)
{
    (void)state;
    struct store_history_query query = {
        .tool = "T", .chamber = "A", .recipe = "R", .end_us = INT64_MAX, .context_id = "", .limit = 10};
    int failures = 0;
    for (int step = 0; step < 60; step++) {
        struct cache *cache;
        struct error err;
        assert_int_equal(cache_open(0, &cache, &err), 0);
        assert_int_equal(cache_fill(cache, &query, NULL, 0, true, &err), 0);
        for (int i = 0; i < 20; i++) { /* fill pages, so that allocations are needed */
            char id[8];
            snprintf(id, sizeof id, "c%02d", i);
            struct store_uchart row = {
                .key = key_of(id), .recipe = "R", .end_us = i, .points = fix.trace, .points_length = 9000};
            if (i == 10)
                atomic_store(&memory_countdown, step);
            failures += cache_put(cache, &row, &err) != 0;
        }
        atomic_store(&memory_countdown, -1);
        struct arena arena;
        arena_init(&arena, 0);
        struct store_uchart *rows;
        size_t count;
        int code = cache_lookup(cache, &query, &arena, &rows, &count, &err);
        if (code == 0) {
            assert_int_equal(count, 10);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(rows[i].end_us, 19 - (int64_t)i);
        }
        arena_free(&arena);
        cache_close(cache);
    }
    assert_true(failures > 0);
}

/* A limit of the system's own, not a simulated one. In a child: the limit is the process's. */
static void a_file_size_limit_is_an_io_error(void **state)
{
    (void)state;
    store_close(open_good());
    pid_t child = fork();
    if (child == 0) {
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){600000, 600000});
        struct store *store = NULL;
        struct error err;
        if (store_open(fix.url, NULL, &store, &err))
            _exit(2);
        int code = 0;
        for (int i = 0; i < 100 && code == 0; i++) {
            char id[32];
            snprintf(id, sizeof id, "c%d", i);
            code = complete(store, id, &err);
        }
        bool said = code == ERR_IO && strstr(err.text, fix.path) && strstr(err.text, "file size limit");
        store_close(store);
        _exit(said ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    check_afterwards();
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    if (install_faults())
        return 1;
    const struct CMUnitTest tests[] = {
        STORY(a_full_disk_says_so),
        STORY(a_full_disk_at_every_step),
        STORY(a_broken_disk_at_every_step),
        STORY(opening_on_a_full_disk_fails_cleanly),
        STORY(no_memory_at_every_step),
        STORY(opening_without_memory_fails_cleanly),
        STORY(a_cache_without_memory_never_lies),
        STORY(a_file_size_limit_is_an_io_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
