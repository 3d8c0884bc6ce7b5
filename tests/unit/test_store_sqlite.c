/* What is particular to the SQLite store: locks, damage, other processes, being killed, the WAL, query plans.
 */
#include "cmocka_setup.h"

#include "store/sqlite_connection.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 400, KILL_ROUNDS = 8, PROCESSES = 30, WRITES_A_PROCESS = 8 };

struct fixture {
    char folder[200];
    char path[PATH_BYTES];
    char url[PATH_BYTES + 16];
};

static struct fixture fix;

static void remove_file(const char *name)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", fix.folder, name);
    unlink(path);
}

static int set_up(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(fix.folder, sizeof fix.folder, "%s/store-sqlite-XXXXXX", tmp ? tmp : "/tmp");
    if (mkdtemp(fix.folder) == NULL)
        return -1;
    snprintf(fix.path, sizeof fix.path, "%s/store.db", fix.folder);
    snprintf(fix.url, sizeof fix.url, "sqlite:%s", fix.path);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_file("store.db");
    remove_file("store.db-wal");
    remove_file("store.db-shm");
    return rmdir(fix.folder);
}

/* --- the small language of these tests --- */

static struct store *open_store(const struct store_options *options)
{
    struct store *store = NULL;
    struct error err = {0};
    if (store_open(fix.url, options, &store, &err))
        fail_msg("%s", err.text);
    return store;
}

static int finish(struct store_wait *wait, struct error *err)
{
    struct store_reply *reply = store_wait_reply(wait);
    int code = reply->code;
    if (err)
        *err = reply->error;
    store_reply_free(reply);
    store_wait_free(wait);
    return code;
}

static struct store_key key_of(const char *id)
{
    return (struct store_key){.tool = "T", .chamber = "A", .context_id = id};
}

static int complete(struct store *store, const char *id, const void *bytes, size_t length, struct error *err)
{
    struct store_completion completion = {.key = key_of(id),
                                          .recipe = "R",
                                          .end_us = 1000,
                                          .completed_us = 2000,
                                          .chunk_count = 1,
                                          .announcement = "{}"};
    struct store_chunk chunk = {.index = 0, .bytes = bytes, .length = length};
    struct store_wait *wait = store_wait_new();
    store_complete(store, &completion, &chunk, 1, store_wait_done, wait);
    return finish(wait, err);
}

static int put_uchart(struct store *store, const char *id, struct error *err)
{
    struct store_uchart uchart = {.key = key_of(id),
                                  .recipe = "R",
                                  .end_us = 1000,
                                  .judged_us = 3000,
                                  .points = id,
                                  .points_length = strlen(id),
                                  .verdicts = "v",
                                  .verdicts_length = 1};
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

static sqlite3 *open_raw(void)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(fix.path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, 5000);
    return db;
}

static void execute_raw(sqlite3 *db, const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
}

/* The first column of the first row, as text. */
static const char *ask_raw(sqlite3 *db, const char *sql)
{
    static char text[400];
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    snprintf(text, sizeof text, "%s", (const char *)sqlite3_column_text(statement, 0));
    sqlite3_finalize(statement);
    return text;
}

/* --- locks --- */

static void a_lock_held_elsewhere_is_unavailable_then_goes_on(void **state)
{
    (void)state;
    struct store_options options = {.busy_timeout_ms = 50};
    struct store *store = open_store(&options);
    assert_int_equal(complete(store, "before", "x", 1, NULL), 0);
    sqlite3 *other = open_raw();
    execute_raw(other, "BEGIN IMMEDIATE");
    struct error err;
    assert_int_equal(complete(store, "during", "x", 1, &err), ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, fix.path));
    assert_non_null(strstr(err.text, "try again"));
    assert_int_equal(fetch(store, "before", NULL), 0); /* readers do not mind */
    execute_raw(other, "COMMIT");
    assert_int_equal(complete(store, "during", "x", 1, NULL), 0);
    sqlite3_close(other);
    store_close(store);
}

static void a_lock_that_is_released_in_time_is_waited_for(void **state)
{
    (void)state;
    struct store *store = open_store(NULL);
    sqlite3 *other = open_raw();
    execute_raw(other, "BEGIN IMMEDIATE");
    struct store_key key = key_of("a");
    struct store_wait *wait = store_wait_new();
    store_mark_dead(store, &key, "broken", 1, store_wait_done, wait);
    usleep(150000);
    execute_raw(other, "COMMIT");
    assert_int_equal(finish(wait, NULL), 0);
    sqlite3_close(other);
    store_close(store);
}

/* --- files that are not ours, or damaged --- */

static int open_code(const struct store_options *options, struct error *err)
{
    struct store *store = NULL;
    int code = store_open(fix.url, options, &store, err);
    assert_true(code != 0 || store != NULL);
    store_close(store);
    return code;
}

static void write_file(off_t offset, const void *bytes, size_t length)
{
    int fd = open(fix.path, O_WRONLY | O_CREAT, 0644);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, length, offset), length);
    close(fd);
}

static void what_is_not_a_database_is_refused(void **state)
{
    (void)state;
    char text[8192];
    memset(text, 'x', sizeof text);
    write_file(0, text, sizeof text);
    struct error err;
    assert_int_equal(open_code(NULL, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, fix.path));
    assert_non_null(strstr(err.text, "restore"));
}

static void another_applications_database_is_refused(void **state)
{
    (void)state;
    sqlite3 *db = open_raw();
    execute_raw(db, "CREATE TABLE theirs (x); PRAGMA application_id = 77");
    sqlite3_close(db);
    struct error err;
    assert_int_equal(open_code(NULL, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "another application"));
}

static void a_newer_versions_database_is_refused(void **state)
{
    (void)state;
    store_close(open_store(NULL));
    sqlite3 *db = open_raw();
    execute_raw(db, "PRAGMA user_version = 99");
    sqlite3_close(db);
    struct error err;
    assert_int_equal(open_code(NULL, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "upgrade"));
}

static void an_older_versions_database_is_brought_up_to_date(void **state)
{
    (void)state;
    struct store *store = open_store(NULL);
    assert_int_equal(complete(store, "a", "trace", 5, NULL), 0);
    store_close(store);
    sqlite3 *db = open_raw();
    execute_raw(db, "DROP TABLE debts; PRAGMA user_version = 1");
    sqlite3_close(db);
    struct store_options options = {.read_only = true};
    struct error err;
    assert_int_equal(open_code(&options, &err), ERR_UNSUPPORTED);
    assert_non_null(strstr(err.text, "open it for writing"));

    store = open_store(NULL);
    struct store_debt debt = {.kind = STORE_DEBT_JUDGE, .key = {"T", "A", "a"}, .at_us = 1, .put_us = 2};
    struct store_wait *wait = store_wait_new();
    store_put_debt(store, &debt, store_wait_done, wait);
    struct store_reply *reply = store_wait_reply(wait);
    assert_int_equal(reply->code, 0);
    store_reply_free(reply);
    store_find_context(store, "a", store_wait_done, wait);
    reply = store_wait_reply(wait);
    assert_int_equal(reply->code, 0);
    store_reply_free(reply);
    store_wait_free(wait);
    store_close(store);
    assert_int_equal(open_code(&options, &err), 0);
}

static off_t file_size(const char *suffix)
{
    char path[PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s%s", fix.path, suffix);
    struct stat info;
    return stat(path, &info) == 0 ? info.st_size : 0;
}

static void fill_store(size_t contexts, size_t bytes_each)
{
    struct store *store = open_store(NULL);
    unsigned char *bytes = malloc(bytes_each);
    assert_non_null(bytes);
    memset(bytes, 0x5a, bytes_each);
    for (size_t i = 0; i < contexts; i++) {
        char id[32];
        snprintf(id, sizeof id, "c%zu", i);
        assert_int_equal(complete(store, id, bytes, bytes_each, NULL), 0);
        assert_int_equal(put_uchart(store, id, NULL), 0);
    }
    free(bytes);
    store_close(store);
}

static void a_truncated_file_is_corrupt(void **state)
{
    (void)state;
    fill_store(10, 100000);
    assert_int_equal(truncate(fix.path, file_size("") / 2), 0);
    struct error err;
    int code = open_code(NULL, &err);
    if (code == 0) { /* some versions of SQLite notice only when they come to the missing pages */
        struct store *store = open_store(NULL);
        for (int i = 0; i < 10 && code == 0; i++) {
            char id[32];
            snprintf(id, sizeof id, "c%d", i);
            code = fetch(store, id, &err);
        }
        store_close(store);
    }
    assert_int_equal(code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, fix.path));
}

static void a_flipped_bit_in_a_trace_is_found(void **state)
{
    (void)state;
    fill_store(1, 100000);
    off_t size = file_size("");
    unsigned char *image = malloc((size_t)size);
    int fd = open(fix.path, O_RDONLY);
    assert_int_equal(read(fd, image, (size_t)size), size);
    close(fd);
    off_t run = 0, at = -1; /* the middle of a long run of the trace's bytes */
    for (off_t i = 0; i < size && at < 0; i++) {
        run = image[i] == 0x5a ? run + 1 : 0;
        if (run == 5000)
            at = i - 2500;
    }
    free(image);
    assert_true(at > 0);
    write_file(at, "\x5b", 1);
    struct store *store = open_store(NULL);
    struct error err;
    assert_int_equal(fetch(store, "c0", &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "c0"));
    store_close(store);
}

/* Every page in turn is overwritten with noise: any answer is right but a crash, or a trace that is not the
 * one written (the hash stands for that: it cannot come back with code 0). */
static void noise_in_any_page_never_crashes(void **state)
{
    (void)state;
    fill_store(6, 40000);
    off_t size = file_size("");
    unsigned char *image = malloc((size_t)size), noise[16384];
    int fd = open(fix.path, O_RDWR);
    assert_int_equal(pread(fd, image, (size_t)size, 0), size);
    int corrupt = 0;
    for (off_t page = 0; page < size / 16384; page++) {
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (unsigned char)((i + (size_t)page) * 2654435761u >> 11);
        assert_int_equal(pwrite(fd, noise, sizeof noise, page * 16384), sizeof noise);
        struct store *store = NULL;
        struct error err;
        int code = store_open(fix.url, NULL, &store, &err);
        corrupt += code == ERR_CORRUPT;
        for (int i = 0; i < 6 && code == 0; i++) {
            char id[32];
            snprintf(id, sizeof id, "c%d", i);
            int fetched = fetch(store, id, &err);
            assert_true(fetched == 0 || fetched == ERR_CORRUPT || fetched == ERR_NOT_FOUND);
            corrupt += fetched == ERR_CORRUPT;
            put_uchart(store, id, NULL);
        }
        store_close(store);
        remove_file("store.db-wal");
        remove_file("store.db-shm");
        assert_int_equal(ftruncate(fd, size), 0);
        assert_int_equal(pwrite(fd, image, (size_t)size, 0), size);
    }
    close(fd);
    free(image);
    assert_true(corrupt > 0);
}

static void folders_that_cannot_be_used_are_io_errors(void **state)
{
    (void)state;
    struct store *store = NULL;
    struct error err;
    assert_int_equal(store_open("sqlite:/nonexistent/folder/store.db", NULL, &store, &err), ERR_IO);
    assert_non_null(strstr(err.text, "/nonexistent/folder/store.db"));
    char url[PATH_BYTES];
    snprintf(url, sizeof url, "sqlite:%s", fix.folder);
    assert_int_equal(store_open(url, NULL, &store, &err), ERR_IO);
}

/* Runs in a child without privileges, because root may write everywhere. Exit code 0: as expected. */
static void open_unprivileged(void)
{
    struct error err = {0};
    struct store *store = NULL;
    if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
        _exit(2);
    int code = store_open(fix.url, NULL, &store, &err);
    _exit(code == ERR_IO && strstr(err.text, fix.path) && strstr(err.text, "this user") ? 0 : 1);
}

static int child_status(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void a_read_only_folder_is_an_io_error(void **state)
{
    (void)state;
    assert_int_equal(chmod(fix.folder, 0555), 0);
    pid_t child = fork();
    if (child == 0)
        open_unprivileged();
    int status = child_status(child);
    chmod(fix.folder, 0755);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void read_only_reads_beside_a_writer_and_never_writes(void **state)
{
    (void)state;
    struct store_options options = {.read_only = true};
    struct error err;
    assert_int_equal(open_code(&options, &err), ERR_IO);
    assert_int_equal(access(fix.path, F_OK), -1); /* nothing was created */
    struct store *writer = open_store(NULL);
    assert_int_equal(complete(writer, "a", "x", 1, NULL), 0);
    struct store *reader = open_store(&options);
    assert_int_equal(fetch(reader, "a", NULL), 0);
    assert_int_equal(complete(writer, "b", "x", 1, NULL), 0);
    assert_int_equal(fetch(reader, "b", NULL), 0);
    assert_int_equal(complete(reader, "c", "x", 1, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "reading only"));
    store_close(reader);
    store_close(writer);
}

/* --- other processes --- */

/* What must hold of the file at any moment, said in SQL. */
static const char *const invariants[] = {
    "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
    "SELECT count(*) FROM contexts c WHERE completed AND has_tchart AND chunk_count <>"
    " (SELECT count(*) FROM t_chart_chunks t WHERE t.context_no = c.context_no)",
    "SELECT count(*) FROM contexts WHERE completed AND length(chunk_hashes) <> 8 * chunk_count",
    "SELECT count(*) FROM contexts c WHERE (state = 'judged') <>"
    " EXISTS (SELECT 1 FROM u_chart_verdicts v WHERE v.context_no = c.context_no)",
    "SELECT count(*) FROM u_charts u LEFT JOIN u_chart_verdicts v USING (context_no)"
    " WHERE v.context_no IS NULL OR v.end_us <> u.end_us OR v.recipe <> u.recipe",
    "SELECT (SELECT count(*) FROM u_charts) <> (SELECT count(*) FROM u_chart_verdicts)",
    "SELECT count(*) FROM contexts WHERE state = 'pending' AND NOT completed",
    "SELECT count(*) FROM t_chart_chunks WHERE context_no NOT IN (SELECT context_no FROM contexts)",
    "SELECT (SELECT value FROM counters WHERE name = 'completed') <> (SELECT count(*) FROM contexts WHERE "
    "completed)",
    "SELECT (SELECT value FROM counters WHERE name = 'judged') <> (SELECT count(*) FROM contexts WHERE"
    " state = 'judged')",
    "SELECT (SELECT value FROM counters WHERE name = 'dead') <> (SELECT count(*) FROM contexts WHERE state = "
    "'dead')",
};

static void check_invariants(void)
{
    sqlite3 *db = open_raw();
    for (size_t i = 0; i < sizeof invariants / sizeof *invariants; i++)
        if (strcmp(ask_raw(db, invariants[i]), "0") != 0)
            fail_msg("does not hold: %s", invariants[i]);
    sqlite3_close(db);
}

/* Writes contexts of process `number` until killed, or `rounds` of them; says the number of each that was
 * answered. */
static void write_load(int number, int rounds, int pipe_fd)
{
    struct store *store = NULL;
    struct error err;
    if (store_open(fix.url, NULL, &store, &err)) {
        fprintf(stderr, "%s\n", err.text);
        _exit(3);
    }
    static unsigned char bytes[60000];
    for (int i = 0; i < rounds; i++) {
        char id[32];
        snprintf(id, sizeof id, "p%d-%d", number, i);
        struct store_key key = key_of(id);
        struct store_wait *wait = store_wait_new();
        if (complete(store, id, bytes, sizeof bytes, &err) || (i % 3 != 2 && put_uchart(store, id, &err))) {
            fprintf(stderr, "%s\n", err.text);
            _exit(4);
        }
        store_mark_dead(store, &key, "second look", 1, store_wait_done, wait);
        if (finish(wait, &err))
            _exit(5);
        if (pipe_fd >= 0 && write(pipe_fd, &i, sizeof i) != sizeof i)
            _exit(6);
    }
    store_close(store);
    _exit(0);
}

/* Everything that was answered before the kill is there afterwards. */
static void check_answered(int number, int last)
{
    struct store *store = open_store(NULL);
    for (int i = 0; i <= last; i++) {
        char id[32];
        snprintf(id, sizeof id, "p%d-%d", number, i);
        struct error err;
        if (fetch(store, id, &err))
            fail_msg("answered, then lost: %s", err.text);
    }
    store_close(store);
}

static void a_process_killed_at_any_moment_leaves_a_good_file(void **state)
{
    (void)state;
    int answered = 0;
    for (int round = 0; round < KILL_ROUNDS; round++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0)
            write_load(round, 100000, ends[1]);
        close(ends[1]);
        usleep((useconds_t)(60000 + round * 23457));
        kill(child, SIGKILL);
        assert_true(WIFSIGNALED(child_status(child)));
        int last = -1, number;
        while (read(ends[0], &number, sizeof number) == sizeof number)
            last = number;
        close(ends[0]);
        check_answered(round, last);
        check_invariants();
        answered += last + 1;
    }
    assert_true(answered > 0);
}

static void many_processes_share_one_file(void **state)
{
    (void)state;
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) { /* the file is not there yet: they also race to create it */
        children[i] = fork();
        if (children[i] == 0)
            write_load(i, WRITES_A_PROCESS, -1);
    }
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(child_status(children[i]), 0);
    for (int i = 0; i < PROCESSES; i++)
        check_answered(i, WRITES_A_PROCESS - 1);
    check_invariants();
    sqlite3 *db = open_raw();
    assert_int_equal(atoi(ask_raw(db, "SELECT count(*) FROM contexts")), PROCESSES * WRITES_A_PROCESS);
    sqlite3_close(db);
}

/* --- the WAL --- */

static void the_wal_stays_bounded_under_load(void **state)
{
    (void)state;
    struct store *store = open_store(NULL);
    size_t length = 1000000;
    unsigned char *bytes = calloc(1, length);
    assert_non_null(bytes);
    off_t largest = 0;
    for (int i = 0; i < 300; i++) { /* 300 MB through the WAL */
        char id[32];
        snprintf(id, sizeof id, "c%d", i);
        assert_int_equal(complete(store, id, bytes, length, NULL), 0);
        assert_int_equal(fetch(store, id, NULL), 0);
        off_t size = file_size("-wal");
        largest = size > largest ? size : largest;
    }
    free(bytes);
    store_close(store);
    assert_true(largest > 0);
    assert_true(largest < (off_t)200 * 1000 * 1000);
    assert_int_equal(file_size("-wal"), 0); /* closed cleanly: nothing is left beside the file */
}

/* --- query plans --- */

static void explain(sqlite3 *db, const char *sql, char *plan, size_t size)
{
    char text[2048];
    snprintf(text, sizeof text, "EXPLAIN QUERY PLAN %s", sql);
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_prepare_v2(db, text, -1, &statement, NULL), SQLITE_OK);
    plan[0] = '\0';
    while (sqlite3_step(statement) == SQLITE_ROW)
        snprintf(plan + strlen(plan), size - strlen(plan), "%s; ",
                 (const char *)sqlite3_column_text(statement, 3));
    sqlite3_finalize(statement);
}

static void no_statement_scans_or_sorts(void **state)
{
    (void)state;
    store_close(open_store(NULL));
    sqlite3 *db = open_raw();
    char buffer[SQL_MAX_BYTES], plan[1024];
    for (int i = STATEMENT_FIND_KEY; i < STATEMENT_COUNT; i++) {
        explain(db, sqlite_statement_text(i, buffer), plan, sizeof plan);
        bool small = i == STATEMENT_COUNTERS || i == STATEMENT_CURRENT_CHART_SET;
        bool by_tool = i >= STATEMENT_LIST && (i - STATEMENT_LIST) & FILTER_BY_TOOL;
        bool walks = strstr(plan, "SCAN") && strstr(plan, "USING INDEX") == NULL;
        if (walks && !small)
            fail_msg("%s\n  %s", sqlite_statement_text(i, buffer), plan);
        /* One tool's contexts of several chambers are few: they may be sorted. */
        if (strstr(plan, "TEMP B-TREE") && !by_tool)
            fail_msg("%s\n  %s", sqlite_statement_text(i, buffer), plan);
    }
    explain(db, sqlite_statement_text(STATEMENT_EARLIER, buffer), plan, sizeof plan);
    assert_string_equal(plan, "SEARCH u USING PRIMARY KEY (tool=? AND chamber=? AND recipe=? AND"
                              " (end_us,context_id)<(?,?)); ");
    explain(db, sqlite_statement_text(STATEMENT_OUTBOX, buffer), plan, sizeof plan);
    assert_non_null(strstr(plan, "contexts_outbox"));
    explain(db, sqlite_statement_text(STATEMENT_LIST, buffer), plan, sizeof plan);
    assert_non_null(strstr(plan, "contexts_by_event"));
    explain(db, sqlite_statement_text(STATEMENT_LIST + FILTER_BY_TOOL + FILTER_BY_CHAMBER, buffer), plan,
            sizeof plan);
    assert_non_null(strstr(plan, "contexts_by_chamber (tool=? AND chamber=? AND (end_us"));
    explain(db, sqlite_statement_text(STATEMENT_LIST + FILTER_BY_LOT, buffer), plan, sizeof plan);
    assert_non_null(strstr(plan, "contexts_by_lot (lot=? AND (end_us"));
    sqlite3_close(db);
}

static void people_can_read_it(void **state)
{
    (void)state;
    struct store *store = open_store(NULL);
    assert_int_equal(complete(store, "waits", "x", 1, NULL), 0);
    assert_int_equal(complete(store, "done", "x", 1, NULL), 0);
    assert_int_equal(put_uchart(store, "done", NULL), 0);
    sqlite3 *db = open_raw();
    assert_string_equal(ask_raw(db, "SELECT context_id FROM outbox"), "waits");
    assert_string_equal(ask_raw(db, "SELECT ended FROM outbox"), "1970-01-01 00:00:00");
    assert_string_equal(ask_raw(db, "SELECT context_id FROM judged"), "done");
    sqlite3_close(db);
    store_close(store);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_lock_held_elsewhere_is_unavailable_then_goes_on),
        STORY(a_lock_that_is_released_in_time_is_waited_for),
        STORY(what_is_not_a_database_is_refused),
        STORY(another_applications_database_is_refused),
        STORY(a_newer_versions_database_is_refused),
        STORY(an_older_versions_database_is_brought_up_to_date),
        STORY(a_truncated_file_is_corrupt),
        STORY(a_flipped_bit_in_a_trace_is_found),
        STORY(noise_in_any_page_never_crashes),
        STORY(folders_that_cannot_be_used_are_io_errors),
        STORY(a_read_only_folder_is_an_io_error),
        STORY(read_only_reads_beside_a_writer_and_never_writes),
        STORY(a_process_killed_at_any_moment_leaves_a_good_file),
        STORY(many_processes_share_one_file),
        STORY(the_wal_stays_bounded_under_load),
        STORY(no_statement_scans_or_sorts),
        STORY(people_can_read_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
