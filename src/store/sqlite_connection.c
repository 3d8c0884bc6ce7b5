#include "store/sqlite_connection.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BUSY_FIRST_WAIT_US = 200,
    BUSY_LONGEST_WAIT_US = 10000,
    WAL_KEPT_BYTES = 64 * 1024 * 1024 /* what is left of the WAL file after a checkpoint has emptied it */
};

/* SQLite's own handler backs off to 100 ms and in step for everyone, so that of 30 processes the late ones
 * starve. Here the waits stay short, and random, up to the time-out. */
static int wait_for_lock(void *arg, int attempt)
{
    struct sqlite_connection *connection = arg;
    int64_t now = clock_mono_ns();
    if (attempt == 0)
        connection->busy_since_ns = now;
    if (now - connection->busy_since_ns >= connection->busy_timeout_ms * 1000000)
        return 0;
    int64_t longest = BUSY_LONGEST_WAIT_US;
    if (attempt < 5)
        longest = (int64_t)BUSY_FIRST_WAIT_US << attempt;
    connection->jitter = connection->jitter * 1664525u + 1013904223u;
    int64_t wait_us = longest / 2 + (int64_t)(connection->jitter >> 8) % (longest / 2);
    nanosleep(&(struct timespec){.tv_nsec = wait_us * 1000}, NULL);
    return 1;
}

static int count_wal_pages(void *arg, sqlite3 *db, const char *schema, int pages)
{
    (void)db;
    (void)schema;
    ((struct sqlite_connection *)arg)->wal_pages = pages;
    return SQLITE_OK;
}

static int code_of(int result)
{
    switch (result & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ERR_UNAVAILABLE;
    case SQLITE_NOMEM:
        return ERR_NO_MEMORY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* a table or column that should be there is not */
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_FORMAT:
        return ERR_CORRUPT;
    case SQLITE_TOOBIG:
        return ERR_LIMIT;
    default:
        return result == SQLITE_IOERR_NOMEM ? ERR_NO_MEMORY : ERR_IO;
    }
}

static const char *advice_for(int result)
{
    switch (result & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "another process holds the lock; try again, or end what holds it";
    case SQLITE_FULL:
        return "the disk (or a quota or file size limit) is full; make room, then it goes on by itself";
    case SQLITE_CANTOPEN:
        return "check that the folder exists and that this user may read and write it";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return "check that this user may write the file and its folder";
    case SQLITE_NOMEM:
        return "free memory";
    case SQLITE_NOTADB:
        return "the file is not an SQLite database, or its header is damaged: restore it from a backup, or "
               "give "
               "another path";
    case SQLITE_CORRUPT:
    case SQLITE_ERROR:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_FORMAT:
        return "the file is damaged: end every process that uses it, then restore a backup or salvage it "
               "with "
               "sqlite3's .recover (docs/store.md)";
    default:
        return "check the disk, quotas and file size limits, and the system's log";
    }
}

int sqlite_error(struct sqlite_connection *connection, int result, const char *what, struct error *err)
{
    int code = code_of(result);
    int number = connection->db ? sqlite3_system_errno(connection->db) : 0;
    const char *words = connection->db && (sqlite3_errcode(connection->db) & 0xff) == (result & 0xff)
                            ? sqlite3_errmsg(connection->db)
                            : sqlite3_errstr(result);
    /* When a file cannot be opened, errno is that of SQLite's last attempt of several, which misleads. */
    bool system = code == ERR_IO && number != 0 && (result & 0xff) != SQLITE_CANTOPEN;
    return error_set(err, code, "store %s: %s: %s (SQLite %d%s%s); %s", connection->path, what, words, result,
                     system ? ", " : "", system ? strerror(number) : "", advice_for(result));
}

int sqlite_execute(struct sqlite_connection *connection, const char *sql, const char *what, struct error *err)
{
    int result = sqlite3_exec(connection->db, sql, NULL, NULL, NULL);
    if (result == SQLITE_OK)
        return 0;
    return sqlite_error(connection, sqlite3_extended_errcode(connection->db), what, err);
}

sqlite3_stmt *sqlite_statement(struct sqlite_connection *connection, int which, struct error *err)
{
    sqlite3_stmt **statement = &connection->statements[which];
    if (*statement)
        return *statement;
    char buffer[SQL_MAX_BYTES];
    const char *sql = sqlite_statement_text(which, buffer);
    int result = sqlite3_prepare_v3(connection->db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
    if (result != SQLITE_OK)
        sqlite_error(connection, sqlite3_extended_errcode(connection->db), "preparing a statement", err);
    return *statement;
}

int sqlite_run(struct sqlite_connection *connection, sqlite3_stmt *statement, const char *what,
               struct error *err)
{
    int result = sqlite3_step(statement);
    int code = 0;
    if (result != SQLITE_DONE && result != SQLITE_ROW)
        code = sqlite_error(connection, sqlite3_extended_errcode(connection->db), what, err);
    sqlite3_reset(statement);
    return code;
}

int sqlite_run_plain(struct sqlite_connection *connection, int which, const char *what, struct error *err)
{
    sqlite3_stmt *statement = sqlite_statement(connection, which, err);
    return statement ? sqlite_run(connection, statement, what, err) : err->code;
}

int sqlite_set_durable(struct sqlite_connection *connection, bool durable, struct error *err)
{
    if (connection->durable == durable)
        return 0;
    int code =
        sqlite_execute(connection, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
                       "choosing the durability", err);
    if (code == 0)
        connection->durable = durable;
    return code;
}

static int configure(struct sqlite_connection *connection, enum sqlite_mode mode, struct error *err)
{
    char sql[256];
    /* secure_delete is on by default in some builds of SQLite and would write zeros over every expired
     * T-chart. */
    snprintf(sql, sizeof sql,
             "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA secure_delete = OFF;"
             "PRAGMA journal_size_limit = %d; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = %d;",
             WAL_KEPT_BYTES, mode <= SQL_MODE_WRITE ? -16384 : -8192);
    int code = sqlite_execute(connection, sql, "configuring the connection", err);
    if (code == 0 && mode == SQL_MODE_READ)
        code = sqlite_execute(connection, "PRAGMA query_only = ON", "configuring the connection", err);
    connection->durable = true;
    if (code == 0)
        sqlite3_wal_hook(connection->db, count_wal_pages, connection);
    return code;
}

int sqlite_connection_open(struct sqlite_connection *connection, const char *path, enum sqlite_mode mode,
                           int64_t busy_timeout_ms, struct error *err)
{
    *connection = (struct sqlite_connection){.path = path, .busy_timeout_ms = busy_timeout_ms};
    connection->jitter = (uint32_t)getpid() * 2654435761u ^ (uint32_t)clock_mono_ns();
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (mode == SQL_MODE_READ_ONLY)
        flags |= SQLITE_OPEN_READONLY;
    else
        flags |= SQLITE_OPEN_READWRITE | (mode == SQL_MODE_CREATE ? SQLITE_OPEN_CREATE : 0);
    int result = sqlite3_open_v2(path, &connection->db, flags, NULL);
    int code = result == SQLITE_OK ? 0 : sqlite_error(connection, result, "opening", err);
    if (code == 0) {
        sqlite3_busy_handler(connection->db, wait_for_lock, connection);
        code = sqlite_schema_ensure(connection, mode == SQL_MODE_CREATE, err);
    }
    if (code == 0)
        code = configure(connection, mode, err);
    if (code)
        sqlite_connection_close(connection);
    return code;
}

void sqlite_connection_close(struct sqlite_connection *connection)
{
    for (size_t i = 0; i < STATEMENT_COUNT; i++) {
        sqlite3_finalize(connection->statements[i]);
        connection->statements[i] = NULL;
    }
    sqlite3_close_v2(connection->db);
    connection->db = NULL;
}
