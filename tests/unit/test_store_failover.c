/* The failover store over two SQLite files. The primary's faults are real to it: they sit below SQLite, in a
 * VFS that fails, or stands still, at the locks of files whose name has "primary" in it. */
#include "cmocka_setup.h"

#include "base/clock.h"
#include "store/failover.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 20000 };

#define QUICK                                                                                                \
    "fail_ms=200,open_ms=200,open_max_ms=2000,calm_ms=5000,probe_ms=50,good_ms=200,call_ms=400,give_up_ms="  \
    "800,"                                                                                                   \
    "poll_ms=100,grace_ms=200,hold_ms=2000"

/* --- the primary's faults --- */

enum fault { FAULT_NONE, FAULT_ALL, FAULT_WRITES, FAULT_HANG };

static atomic_int fault;
static sqlite3_vfs *system_vfs;
static sqlite3_vfs fault_vfs;
static pthread_mutex_t methods_lock = PTHREAD_MUTEX_INITIALIZER;
static const sqlite3_io_methods *system_methods;
static sqlite3_io_methods primary_methods;

static void sleep_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000},
              NULL);
}

/* Every transaction, reading or writing, begins with one of these. */
static int primary_lock(sqlite3_file *file, int offset, int n, int flags)
{
    bool writes = (flags & SQLITE_SHM_EXCLUSIVE) && offset == 0;
    while ((flags & SQLITE_SHM_LOCK) && atomic_load(&fault) == FAULT_HANG)
        sleep_ms(1);
    int now = atomic_load(&fault);
    if ((flags & SQLITE_SHM_LOCK) && (now == FAULT_ALL || (now == FAULT_WRITES && writes)))
        return SQLITE_IOERR_SHMLOCK;
    return system_methods->xShmLock(file, offset, n, flags);
}

static int fault_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    bool primary = name && strstr(name, "primary") && (flags & SQLITE_OPEN_MAIN_DB);
    if (primary && atomic_load(&fault) != FAULT_NONE)
        return SQLITE_CANTOPEN;
    int result = system_vfs->xOpen(system_vfs, name, file, flags, out_flags);
    if (result != SQLITE_OK || !primary)
        return result;
    pthread_mutex_lock(&methods_lock);
    if (system_methods == NULL) {
        system_methods = file->pMethods;
        primary_methods = *file->pMethods;
        primary_methods.xShmLock = primary_lock;
    }
    file->pMethods = &primary_methods;
    pthread_mutex_unlock(&methods_lock);
    return result;
}

/* --- the stage --- */

struct stage {
    char folder[200];
    char url[900];
    struct store *store;
};

static struct stage stage;

static void open_stage(void)
{
    struct error err;
    int code = store_open(stage.url, NULL, &stage.store, &err);
    if (code)
        fprintf(stderr, "%s\n", err.text);
    assert_int_equal(code, 0);
}

static int set_stage(void **state)
{
    (void)state;
    atomic_store(&fault, FAULT_NONE);
    const char *tmp = getenv("TMPDIR");
    snprintf(stage.folder, sizeof stage.folder, "%s/store-failover-XXXXXX", tmp ? tmp : "/tmp");
    if (mkdtemp(stage.folder) == NULL)
        return -1;
    snprintf(stage.url, sizeof stage.url, "failover:sqlite:%s/primary.db,,sqlite:%s/standby.db,," QUICK,
             stage.folder, stage.folder);
    stage.store = NULL;
    return 0;
}

static int clear_stage(void **state)
{
    (void)state;
    atomic_store(&fault, FAULT_NONE);
    store_close(stage.store);
    stage.store = NULL;
    static const char *const names[] = {"primary.db", "standby.db"};
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 6; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/%s%s", stage.folder, names[i / 3], ends[i % 3]);
        unlink(path);
    }
    return rmdir(stage.folder);
}

static struct store_health health(void)
{
    struct store_health now;
    store_health(stage.store, &now);
    return now;
}

static void wait_for_mode(enum store_mode mode)
{
    int64_t end_ns = clock_mono_ns() + PATIENCE_MS * INT64_C(1000000);
    while (health().mode != mode) {
        if (clock_mono_ns() > end_ns)
            fail_msg("waited for %s; it is %s, %lld debts", store_mode_name(mode),
                     store_mode_name(health().mode), (long long)health().debts_known);
        sleep_ms(2);
    }
}

/* A number out of one of the files, past the product. */
static int64_t number_in(const char *file, const char *sql)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s.db", stage.folder, file);
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, "unix"), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    int64_t value = sqlite3_step(statement) == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : -1;
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

static int64_t copy_debts(void)
{
    return number_in("standby", "SELECT count(*) FROM debts WHERE kind < 2");
}

/* --- calls --- */

struct outcome {
    int code;
    bool degraded;
};

static struct store_key key_of(const char *id)
{
    return (struct store_key){"T1", "A", id};
}

static struct outcome outcome_of(struct store_wait *wait)
{
    struct store_reply *reply = store_wait_reply(wait);
    struct outcome outcome = {reply->code, reply->degraded};
    store_reply_free(reply);
    store_wait_free(wait);
    return outcome;
}

static struct outcome complete(const char *id, int64_t end_us, const char *bytes)
{
    struct store_chunk chunk = {.index = 0, .bytes = bytes, .length = strlen(bytes)};
    struct store_completion completion = {.key = key_of(id),
                                          .recipe = "R",
                                          .lot = "L",
                                          .end_us = end_us,
                                          .completed_us = end_us + 1,
                                          .chunk_count = 1,
                                          .announcement = "{}"};
    struct store_wait *wait = store_wait_new();
    store_complete(stage.store, &completion, &chunk, 1, store_wait_done, wait);
    return outcome_of(wait);
}

static struct outcome put_chunk(const char *id, int32_t index, const char *bytes)
{
    struct store_key key = key_of(id);
    struct store_chunk chunk = {.index = index, .bytes = bytes, .length = strlen(bytes)};
    struct store_wait *wait = store_wait_new();
    store_put_chunk(stage.store, &key, &chunk, store_wait_done, wait);
    return outcome_of(wait);
}

static struct outcome put_uchart(const char *id, int64_t end_us, const char *points, bool degraded)
{
    struct store_uchart uchart = {.key = key_of(id),
                                  .recipe = "R",
                                  .end_us = end_us,
                                  .judged_us = clock_wall_us(),
                                  .chart_set = 1,
                                  .points = points,
                                  .points_length = strlen(points),
                                  .verdicts = "v",
                                  .verdicts_length = 1,
                                  .degraded = degraded};
    struct store_wait *wait = store_wait_new();
    store_put_uchart(stage.store, &uchart, store_wait_done, wait);
    return outcome_of(wait);
}

static struct outcome mark_dead(const char *id)
{
    struct store_key key = key_of(id);
    struct store_wait *wait = store_wait_new();
    store_mark_dead(stage.store, &key, "cannot be read", 5, store_wait_done, wait);
    return outcome_of(wait);
}

static struct outcome fetch(const char *id)
{
    struct store_key key = key_of(id);
    struct store_wait *wait = store_wait_new();
    store_fetch_tchart(stage.store, &key, store_wait_done, wait);
    return outcome_of(wait);
}

static struct outcome fetch_history(size_t *count)
{
    struct store_history_query query = {
        .tool = "T1", .chamber = "A", .recipe = "R", .end_us = INT64_MAX, .context_id = "", .limit = 100};
    struct store_wait *wait = store_wait_new();
    store_fetch_history(stage.store, &query, store_wait_done, wait);
    struct store_reply *reply = store_wait_reply(wait);
    struct outcome outcome = {reply->code, reply->degraded};
    *count = reply->uchart_count;
    store_reply_free(reply);
    store_wait_free(wait);
    return outcome;
}

static struct outcome put_chart_set(uint64_t id)
{
    struct store_wait *wait = store_wait_new();
    store_put_chart_set(stage.store, id, "charts: []", true, clock_wall_us(), store_wait_done, wait);
    return outcome_of(wait);
}

#define GOOD(call)                                                                                           \
    do {                                                                                                     \
        struct outcome outcome_ = (call);                                                                    \
        assert_int_equal(outcome_.code, 0);                                                                  \
        assert_false(outcome_.degraded);                                                                     \
    } while (0)

#define DEGRADED(call, expected)                                                                             \
    do {                                                                                                     \
        struct outcome outcome_ = (call);                                                                    \
        assert_int_equal(outcome_.code, expected);                                                           \
        assert_true(outcome_.degraded);                                                                      \
    } while (0)

/* --- stories --- */

static void lose_primary(enum fault how)
{
    atomic_store(&fault, how);
    mark_dead("the call that finds out");
    wait_for_mode(STORE_MODE_STANDBY);
}

static void regain_primary(void)
{
    atomic_store(&fault, FAULT_NONE);
    wait_for_mode(STORE_MODE_PRIMARY);
}

static void a_lost_primary_is_stood_in_for_and_caught_up(enum fault how)
{
    open_stage();
    GOOD(complete("before", 1, "trace"));
    GOOD(put_uchart("before", 1, "p", false));
    GOOD(complete("pending", 2, "trace 2"));
    lose_primary(how);
    DEGRADED(fetch("before"), ERR_UNAVAILABLE); /* the primary has it: not "not found" */
    DEGRADED(complete("meanwhile", 3, "trace 3"), 0);
    DEGRADED(fetch("meanwhile"), 0);
    DEGRADED(put_uchart("meanwhile", 3, "q", true), 0);
    DEGRADED(put_uchart("pending", 2, "r", true), 0);
    DEGRADED(put_chunk("in parts", 0, "first"), 0);
    size_t count;
    DEGRADED(fetch_history(&count), 0);
    assert_int_equal(count, 2);
    assert_true(copy_debts() >= 5);
    regain_primary();
    GOOD(fetch("before"));
    GOOD(fetch("meanwhile"));
    GOOD(fetch_history(&count));
    assert_int_equal(count, 3);
    GOOD(put_chunk("in parts", 1, "second"));
    GOOD(complete("in parts", 4, "first"));
    assert_int_equal(copy_debts(), 0);
    assert_int_equal(number_in("primary", "SELECT count(*) FROM contexts WHERE state = 'judged'"), 3);
    assert_int_equal(
        number_in("primary", "SELECT count(*) FROM contexts WHERE dead_reason = 'cannot be read'"), 1);
    /* Both verdicts of that time are to be made again, in event order. */
    assert_int_equal(number_in("primary", "SELECT count(DISTINCT context_id) FROM debts WHERE kind = 2"), 2);
    assert_int_equal(number_in("primary", "SELECT min(at_us) FROM debts WHERE kind = 2"), 2);
    assert_int_equal(health().opened, 1);
    assert_true(health().debts_paid >= 5);
    assert_true(health().primary.failures > 0);
}

static void a_primary_that_fails(void **state)
{
    (void)state;
    a_lost_primary_is_stood_in_for_and_caught_up(FAULT_ALL);
}

static void a_primary_that_takes_no_writes(void **state)
{
    (void)state;
    a_lost_primary_is_stood_in_for_and_caught_up(FAULT_WRITES);
}

static void a_primary_that_stands_still(void **state)
{
    (void)state;
    a_lost_primary_is_stood_in_for_and_caught_up(FAULT_HANG);
}

static void a_blip_is_waited_out(void **state)
{
    (void)state;
    open_stage();
    for (int i = 0; i < 5; i++) {
        char id[20];
        snprintf(id, sizeof id, "c%d", i);
        atomic_store(&fault, FAULT_ALL);
        struct store_wait *wait = store_wait_new();
        struct store_key key = key_of(id);
        store_mark_dead(stage.store, &key, "x", 1, store_wait_done, wait);
        sleep_ms(60);
        atomic_store(&fault, FAULT_NONE);
        GOOD(outcome_of(wait));
        sleep_ms(300);
    }
    assert_int_equal(health().mode, STORE_MODE_PRIMARY);
    assert_int_equal(health().opened, 0);
    assert_int_equal(copy_debts(), 0);
    assert_true(health().primary.failures >= 5);
}

static void a_primary_that_comes_and_goes_does_not_flap(void **state)
{
    (void)state;
    open_stage();
    int64_t end_ns = clock_mono_ns() + INT64_C(8000000000);
    for (int i = 0; clock_mono_ns() < end_ns; i++) {
        char id[20];
        snprintf(id, sizeof id, "c%d", i);
        atomic_store(&fault, (clock_mono_ns() / 350000000) % 2 ? FAULT_ALL : FAULT_NONE);
        assert_int_equal(mark_dead(id).code, 0);
        sleep_ms(5);
    }
    assert_in_range(health().opened, 1, 4);
    regain_primary();
    assert_int_equal(copy_debts(), 0);
}

static void the_primary_may_be_away_at_the_start(void **state)
{
    (void)state;
    atomic_store(&fault, FAULT_ALL);
    open_stage();
    assert_int_equal(health().mode, STORE_MODE_STANDBY);
    assert_false(health().primary.open);
    DEGRADED(complete("a", 1, "trace"), 0);
    regain_primary();
    GOOD(fetch("a"));
    assert_int_equal(number_in("primary", "SELECT count(*) FROM contexts WHERE state = 'pending'"), 1);
}

static void the_standby_may_be_away_at_the_start(void **state)
{
    (void)state;
    char url[900], folder[250], path[300];
    snprintf(folder, sizeof folder, "%s/later", stage.folder);
    snprintf(path, sizeof path, "%s/standby.db", folder);
    snprintf(url, sizeof url, "failover:sqlite:%s/primary.db,,sqlite:%s,," QUICK, stage.folder, path);
    struct error err;
    assert_int_equal(store_open(url, NULL, &stage.store, &err), 0);
    GOOD(complete("a", 1, "trace"));
    assert_false(health().standby.open);
    /* Without a standby a failure is the caller's, and passes with its cause. */
    atomic_store(&fault, FAULT_ALL);
    assert_int_equal(mark_dead("b").code, ERR_IO);
    assert_int_equal(health().mode, STORE_MODE_PRIMARY);
    atomic_store(&fault, FAULT_NONE);
    GOOD(mark_dead("b"));
    char command[400];
    snprintf(command, sizeof command, "mkdir %s", folder);
    assert_int_equal(system(command), 0);
    for (int i = 0; i < PATIENCE_MS && !health().standby.open; i++)
        sleep_ms(1);
    assert_true(health().standby.open);
    lose_primary(FAULT_ALL);
    DEGRADED(complete("c", 2, "trace"), 0);
    regain_primary();
    store_close(stage.store);
    stage.store = NULL;
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

static void other_content_in_the_primary_stays(void **state)
{
    (void)state;
    open_stage();
    GOOD(complete("twice", 1, "the first"));
    lose_primary(FAULT_ALL);
    DEGRADED(complete("twice", 1, "the second"), 0);
    DEGRADED(put_uchart("twice", 1, "of the second", true), 0);
    regain_primary();
    assert_int_equal(copy_debts(), 0);
    assert_int_equal(
        number_in("primary", "SELECT count(*) FROM t_chart_chunks WHERE bytes = CAST('the first' AS BLOB)"),
        1);
    assert_int_equal(number_in("primary", "SELECT count(*) FROM u_charts"), 0);
    assert_int_equal(health().debts_stuck, 0);
}

static void a_verdict_from_degraded_answers_is_to_be_made_again(void **state)
{
    (void)state;
    open_stage();
    GOOD(put_uchart("a", 7, "p", true));
    GOOD(put_uchart("b", 8, "p", false));
    assert_int_equal(number_in("primary", "SELECT count(*) FROM debts WHERE kind = 2 AND at_us = 7"), 1);
    assert_int_equal(number_in("primary", "SELECT count(*) FROM debts"), 1);
}

static void a_newer_verdict_in_the_primary_stays(void **state)
{
    (void)state;
    open_stage();
    lose_primary(FAULT_ALL);
    DEGRADED(put_uchart("a", 7, "old", true), 0);
    store_close(stage.store);
    char url[400];
    struct error err;
    snprintf(url, sizeof url, "sqlite:%s/primary.db", stage.folder);
    atomic_store(&fault, FAULT_NONE);
    assert_int_equal(store_open(url, NULL, &stage.store, &err), 0);
    GOOD(put_uchart("a", 7, "new", false));
    store_close(stage.store);
    open_stage();
    wait_for_mode(STORE_MODE_PRIMARY);
    assert_int_equal(copy_debts(), 0);
    assert_int_equal(number_in("primary", "SELECT count(*) FROM u_charts WHERE points = CAST('new' AS BLOB)"),
                     1);
}

static void chart_files_are_in_both(void **state)
{
    (void)state;
    open_stage();
    GOOD(put_chart_set(11));
    store_close(stage.store);
    open_stage(); /* looks at its start */
    for (int i = 0;
         i < PATIENCE_MS && number_in("standby", "SELECT count(*) FROM current_chart_set WHERE id = 11") < 1;
         i += 10)
        sleep_ms(10);
    assert_int_equal(number_in("standby", "SELECT id FROM current_chart_set"), 11);
    lose_primary(FAULT_ALL);
    DEGRADED(put_chart_set(12), 0);
    regain_primary();
    assert_int_equal(number_in("primary", "SELECT id FROM current_chart_set"), 12);
    assert_int_equal(copy_debts(), 0);
}

/* --- what others left --- */

/* Runs in a process of its own: pays, and dies in the middle of it. */
static int die_while_paying(const char *url)
{
    struct store *store;
    struct error err;
    if (store_open(url, NULL, &store, &err))
        return 1;
    for (;;) {
        struct store_health now;
        store_health(store, &now);
        if (now.debts_paid >= 20)
            kill(getpid(), SIGKILL);
        sleep_ms(1);
    }
}

static const char *own_path;

static void who_is_killed_while_paying_is_stood_in_for(void **state)
{
    (void)state;
    enum { CONTEXTS = 300 };
    open_stage();
    lose_primary(FAULT_ALL);
    for (int i = 0; i < CONTEXTS; i++) {
        char id[20];
        snprintf(id, sizeof id, "c%d", i);
        assert_int_equal(complete(id, i + 1, id).code, 0);
        assert_int_equal(put_uchart(id, i + 1, id, true).code, 0);
    }
    store_close(stage.store);
    stage.store = NULL;
    atomic_store(&fault, FAULT_NONE);
    int64_t owed = copy_debts(), left = owed;
    assert_true(owed >= 2 * CONTEXTS);
    for (int deaths = 0; deaths < 3; deaths++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            execl(own_path, own_path, "--die-while-paying", stage.url, (char *)NULL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGKILL);
        int64_t now_left = copy_debts();
        assert_true(now_left < left);
        left = now_left;
    }
    assert_true(left > 0);
    open_stage();
    assert_int_not_equal(health().mode, STORE_MODE_PRIMARY); /* there would be holes in the history */
    wait_for_mode(STORE_MODE_PRIMARY);
    assert_int_equal(copy_debts(), 0);
    assert_int_equal(number_in("primary", "SELECT count(*) FROM contexts WHERE state = 'judged'"), CONTEXTS);
    assert_int_equal(number_in("primary", "SELECT count(DISTINCT context_id) FROM debts WHERE kind = 2"),
                     CONTEXTS);
}

static void debts_of_another_process_are_found_and_paid(void **state)
{
    (void)state;
    open_stage();
    wait_for_mode(STORE_MODE_PRIMARY);
    char url[400];
    struct error err;
    struct store *mine = stage.store;
    snprintf(url, sizeof url, "sqlite:%s/standby.db", stage.folder);
    assert_int_equal(store_open(url, NULL, &stage.store, &err), 0);
    /* As another process does it that has not noticed yet that the primary is back. */
    struct store_debt debt = {.kind = STORE_DEBT_COPY, .key = key_of("theirs"), .owner = 77};
    debt.at_us = debt.put_us = clock_wall_us();
    struct store_wait *wait = store_wait_new();
    store_put_debt(stage.store, &debt, store_wait_done, wait);
    GOOD(outcome_of(wait));
    sleep_ms(100); /* its write takes a while: the debt must not be taken for paid meanwhile */
    GOOD(complete("theirs", 5, "trace"));
    store_close(stage.store);
    stage.store = mine;
    for (int i = 0; i < PATIENCE_MS && copy_debts() > 0; i += 10)
        sleep_ms(10);
    assert_int_equal(copy_debts(), 0);
    assert_int_equal(
        number_in("primary", "SELECT count(*) FROM contexts WHERE context_id = 'theirs' AND completed"), 1);
    assert_int_equal(health().opened, 0);
}

/* --- under load --- */

enum { WORKERS = 4, WORKER_CALLS = 400 };

struct worker {
    pthread_t thread;
    int number;
    int failed;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < WORKER_CALLS; i++) {
        char id[40];
        snprintf(id, sizeof id, "w%d-%d", worker->number, i);
        int64_t end_us = worker->number * 1000 + i + 1;
        worker->failed += complete(id, end_us, id).code != 0;
        worker->failed += put_uchart(id, end_us, id, false).code != 0;
        sleep_ms(3);
    }
    return NULL;
}

static void no_call_is_lost_whatever_the_primary_does(void **state)
{
    (void)state;
    open_stage();
    struct worker workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.number = i};
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    static const enum fault faults[] = {FAULT_ALL,  FAULT_NONE,   FAULT_HANG,
                                        FAULT_NONE, FAULT_WRITES, FAULT_NONE};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        atomic_store(&fault, faults[i]);
        sleep_ms(faults[i] == FAULT_NONE ? 1500 : 1000);
    }
    int failed = 0;
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        failed += workers[i].failed;
    }
    assert_int_equal(failed, 0);
    regain_primary();
    assert_true(health().opened >= 1);
    assert_int_equal(copy_debts(), 0);
    assert_int_equal(
        number_in("primary", "SELECT count(*) FROM contexts WHERE state = 'judged' AND completed"),
        WORKERS * WORKER_CALLS);
}

struct tally {
    atomic_int answered;
};

static void count_answer(void *arg, struct store_reply *reply)
{
    store_reply_free(reply);
    atomic_fetch_add(&((struct tally *)arg)->answered, 1);
}

static void close_answers_all_though_the_primary_stands_still(void **state)
{
    (void)state;
    enum { CALLS = 200 };
    open_stage();
    GOOD(mark_dead("a"));
    atomic_store(&fault, FAULT_HANG);
    struct tally tally = {0};
    static char ids[CALLS][20];
    for (int i = 0; i < CALLS; i++) {
        snprintf(ids[i], sizeof ids[i], "c%d", i % 50);
        struct store_key key = key_of(ids[i]);
        if (i % 2)
            store_mark_dead(stage.store, &key, "x", 1, count_answer, &tally);
        else
            store_fetch_tchart(stage.store, &key, count_answer, &tally);
    }
    wait_for_mode(STORE_MODE_STANDBY);
    for (int i = 0; i < PATIENCE_MS && atomic_load(&tally.answered) < CALLS; i++)
        sleep_ms(1);
    assert_int_equal(atomic_load(&tally.answered), CALLS);
    assert_true(health().abandoned > 0);
    atomic_store(&fault,
                 FAULT_NONE); /* what it was asked then must still be answered before it can be closed */
    store_close(stage.store);
    stage.store = NULL;
    assert_int_equal(atomic_load(&tally.answered), CALLS);
}

static void addresses_that_cannot_be_read(void **state)
{
    (void)state;
    static const char *const urls[] = {"failover:",
                                       "failover:sqlite:/tmp/a",
                                       "failover:,,sqlite:/tmp/a",
                                       "failover:sqlite:/tmp/a,,",
                                       "failover:sqlite:/tmp/a,,nothing:/tmp/b",
                                       "failover:failover:sqlite:/tmp/a,,sqlite:/tmp/b",
                                       "failover:sqlite:/tmp/a,,sqlite:/tmp/b,,fail_ms=0",
                                       "failover:sqlite:/tmp/a,,sqlite:/tmp/b,,fail_ms",
                                       "failover:sqlite:/tmp/a,,sqlite:/tmp/b,,fail_ms=5x",
                                       "failover:sqlite:/tmp/a,,sqlite:/tmp/b,,unheard_of=5"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct error err;
        assert_int_equal(store_open(urls[i], NULL, &stage.store, &err), ERR_INVALID);
        assert_null(stage.store);
    }
    struct error err;
    assert_int_equal(store_open("failover:sqlite:/nowhere/a,,sqlite:/nowhere/b", NULL, &stage.store, &err),
                     ERR_UNAVAILABLE);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, set_stage, clear_stage)

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--die-while-paying") == 0)
        return die_while_paying(argv[2]);
    own_path = argv[0];
    system_vfs = sqlite3_vfs_find(NULL);
    fault_vfs = *system_vfs;
    fault_vfs.zName = "fault";
    fault_vfs.xOpen = fault_open;
    sqlite3_vfs_register(&fault_vfs, 1);
    const struct CMUnitTest tests[] = {
        STORY(a_primary_that_fails),
        STORY(a_primary_that_takes_no_writes),
        STORY(a_primary_that_stands_still),
        STORY(a_blip_is_waited_out),
        STORY(a_primary_that_comes_and_goes_does_not_flap),
        STORY(the_primary_may_be_away_at_the_start),
        STORY(the_standby_may_be_away_at_the_start),
        STORY(other_content_in_the_primary_stays),
        STORY(a_verdict_from_degraded_answers_is_to_be_made_again),
        STORY(a_newer_verdict_in_the_primary_stays),
        STORY(chart_files_are_in_both),
        STORY(who_is_killed_while_paying_is_stood_in_for),
        STORY(debts_of_another_process_are_found_and_paid),
        STORY(no_call_is_lost_whatever_the_primary_does),
        STORY(close_answers_all_though_the_primary_stands_still),
        STORY(addresses_that_cannot_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
