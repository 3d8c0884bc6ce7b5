/* One connection to the store's SQLite file: opening, its schema, its prepared statements, its errors.
 * A connection belongs to one thread. Internal to src/store. */
#ifndef CHAMBERLAIN_STORE_SQLITE_CONNECTION_H
#define CHAMBERLAIN_STORE_SQLITE_CONNECTION_H

#include "store/store_ops.h"

#include <sqlite3.h>

enum sqlite_statement {
    STATEMENT_BEGIN_READ,
    STATEMENT_BEGIN_WRITE,
    STATEMENT_COMMIT,
    STATEMENT_ROLLBACK,
    STATEMENT_SAVEPOINT,
    STATEMENT_RELEASE,
    STATEMENT_ROLLBACK_TO,

    /* contexts */
    STATEMENT_FIND_KEY,
    STATEMENT_FIND_ID,
    STATEMENT_INSERT_CONTEXT,
    STATEMENT_COMPLETE_CONTEXT,
    STATEMENT_SET_STATE,
    STATEMENT_OUTBOX,
    STATEMENT_COUNTERS,

    /* T-charts */
    STATEMENT_PUT_CHUNK,
    STATEMENT_TCHART_RECEIVED,
    STATEMENT_CHUNK_HASHES,
    STATEMENT_DROP_CHUNKS_FROM,
    STATEMENT_CHUNKS,

    /* U-charts */
    STATEMENT_OLD_UCHART,
    STATEMENT_DELETE_UCHART,
    STATEMENT_PUT_UCHART,
    STATEMENT_PUT_VERDICTS,
    STATEMENT_FETCH_UCHART,
    STATEMENT_EARLIER,
    STATEMENT_EARLIER_VERDICTS,
    STATEMENT_LATER,
    STATEMENT_LATER_VERDICTS,
    STATEMENT_ANY_LATER,
    STATEMENT_NEXT_RECIPE,

    /* chart sets */
    STATEMENT_PUT_CHART_SET,
    STATEMENT_PUT_CURRENT,
    STATEMENT_CHART_SET,
    STATEMENT_CURRENT_CHART_SET,

    /* debts */
    STATEMENT_PUT_DEBT,
    STATEMENT_LIST_DEBTS,
    STATEMENT_CLEAR_DEBT,

    /* retention */
    STATEMENT_OLD_TCHARTS_BY_INGEST,
    STATEMENT_OLD_TCHARTS_BY_EVENT,
    STATEMENT_OLD_CONTEXTS_BY_INGEST,
    STATEMENT_OLD_CONTEXTS_BY_EVENT,
    STATEMENT_DELETE_CHUNKS,
    STATEMENT_TCHART_EXPIRED,
    STATEMENT_DELETE_VERDICTS,
    STATEMENT_DELETE_CONTEXT,

    /* one for each set of filters (enum sqlite_filter) */
    STATEMENT_LIST,
    STATEMENT_COUNT = STATEMENT_LIST + 16
};

enum sqlite_filter { FILTER_BY_TOOL = 1, FILTER_BY_CHAMBER = 2, FILTER_BY_RECIPE = 4, FILTER_BY_LOT = 8 };

struct sqlite_connection {
    sqlite3 *db;
    const char *path; /* borrowed */
    int64_t busy_timeout_ms;
    int64_t busy_since_ns; /* when the lock was first found taken */
    uint32_t jitter;
    int wal_pages; /* after the last commit of this connection */
    bool durable;  /* commits are synced (PRAGMA synchronous=FULL) */
    sqlite3_stmt *statements[STATEMENT_COUNT];
};

enum sqlite_mode {
    SQL_MODE_CREATE,   /* creates the file and its schema when absent */
    SQL_MODE_WRITE,    /* the schema is there */
    SQL_MODE_READ,     /* reads only, on a file that this process may write */
    SQL_MODE_READ_ONLY /* never writes, not even the schema */
};

/* Opens `path`, checks that it is a store of this version. ERR_IO, ERR_CORRUPT, ERR_INVALID (another
 * application's file), ERR_UNSUPPORTED (a newer version's), ERR_UNAVAILABLE (locked), ERR_NO_MEMORY. `path`
 * is borrowed. */
int sqlite_connection_open(struct sqlite_connection *connection, const char *path, enum sqlite_mode mode,
                           int64_t busy_timeout_ms, struct error *err);
void sqlite_connection_close(struct sqlite_connection *connection);

/* The statement, prepared at its first use, ready for binding; NULL with `err` set. sqlite3_reset it after
 * use. */
sqlite3_stmt *sqlite_statement(struct sqlite_connection *connection, int which, struct error *err);

/* Steps a statement that gives no rows, and resets it. */
int sqlite_run(struct sqlite_connection *connection, sqlite3_stmt *statement, const char *what,
               struct error *err);

/* A statement without parameters. */
int sqlite_run_plain(struct sqlite_connection *connection, int which, const char *what, struct error *err);

/* Runs SQL text as it is. */
int sqlite_execute(struct sqlite_connection *connection, const char *sql, const char *what,
                   struct error *err);

/* Translates SQLite's result code into an error that says what failed, on which file, and what to do about
 * it. */
int sqlite_error(struct sqlite_connection *connection, int result, const char *what, struct error *err);

/* Whether the next commits must survive a power failure. */
int sqlite_set_durable(struct sqlite_connection *connection, bool durable, struct error *err);

/* sqlite_schema.c: creates the tables in an empty file, or checks the version of those that are there. */
int sqlite_schema_ensure(struct sqlite_connection *connection, bool create, struct error *err);

/* The text of a statement; for the lists, of one set of filters, built in `buffer`. */
enum { SQL_MAX_BYTES = 1024 };
const char *sqlite_statement_text(int which, char buffer[static SQL_MAX_BYTES]);

/* Small binders and readers. Bound texts and bytes are borrowed until the statement is reset. */
static inline void sqlite_bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
}

static inline void sqlite_bind_bytes(sqlite3_stmt *statement, int index, const void *bytes, size_t length)
{
    sqlite3_bind_blob64(statement, index, bytes ? bytes : "", length, SQLITE_STATIC);
}

static inline void sqlite_bind_key(sqlite3_stmt *statement, const struct store_key *key)
{
    sqlite_bind_text(statement, 1, key->context_id);
    sqlite_bind_text(statement, 2, key->tool);
    sqlite_bind_text(statement, 3, key->chamber);
}

/* sqlite_read.c, sqlite_write.c: carry out one call on a connection and fill its reply. A write runs inside
 * the transaction that its caller has begun. Both return the reply's code. */
int sqlite_read_call(struct sqlite_connection *connection, struct store_call *call);
int sqlite_write_call(struct sqlite_connection *connection, struct store_call *call);

/* sqlite_group.c: carries out up to GROUP_MAX_CALLS writes as one transaction (or, if that breaks,
 * each as its own), and fills their replies. */
enum { GROUP_MAX_CALLS = 256 };
void sqlite_write_group(struct sqlite_connection *connection, struct store_call *const *calls, size_t count);

#endif
