/* The tables of the SQLite store, and the text of every statement on them. docs/store.md describes them for
 * people. */
#include "store/sqlite_connection.h"

#include "base/clock.h"

#include <stdio.h>
#include <time.h>

/* "Chmb": marks the file as ours for file(1) and for sqlite_schema_ensure. */
#define SCHEMA_APPLICATION_ID 0x43686d62
#define SCHEMA_VERSION 2

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

/* What version 2 has beyond version 1. Run on a new file too. */
static const char schema_sql_2[] = "CREATE TABLE debts ("
                                   "  kind INTEGER NOT NULL, at_us INTEGER NOT NULL, tool TEXT NOT NULL,"
                                   "  chamber TEXT NOT NULL, context_id TEXT NOT NULL,"
                                   "  put_us INTEGER NOT NULL, owner INTEGER NOT NULL,"
                                   "  PRIMARY KEY (kind, at_us, tool, chamber, context_id, put_us)"
                                   ") WITHOUT ROWID;"
                                   "PRAGMA user_version = " TEXT(SCHEMA_VERSION) ";";

/* `contexts` is the hub: one row for whatever is known of a context; the other tables hang on context_no.
 * The state decides what a context waits for, so that the outbox is an index and not a second truth.
 * u_charts is clustered by the history's key: a look-up reads neighbouring pages, and never the verdicts. */
static const char schema_sql[] =
    "CREATE TABLE contexts ("
    "  context_no INTEGER PRIMARY KEY,"
    "  context_id TEXT NOT NULL, tool TEXT NOT NULL, chamber TEXT NOT NULL,"
    "  state TEXT NOT NULL CHECK (state IN ('receiving', 'pending', 'judged', 'dead')),"
    "  completed INTEGER NOT NULL DEFAULT 0,"
    "  has_tchart INTEGER NOT NULL DEFAULT 0,"
    "  end_us INTEGER NOT NULL,"
    "  ingest_us INTEGER NOT NULL,"
    "  recipe TEXT NOT NULL DEFAULT '', lot TEXT NOT NULL DEFAULT '',"
    "  chunk_count INTEGER NOT NULL DEFAULT 0,"
    "  chunk_hashes BLOB,"
    "  dead_reason TEXT NOT NULL DEFAULT '',"
    "  announcement TEXT NOT NULL DEFAULT '',"
    "  UNIQUE (context_id, tool, chamber));"
    "CREATE INDEX contexts_by_event ON contexts (end_us, context_id);"
    "CREATE INDEX contexts_by_chamber ON contexts (tool, chamber, end_us, context_id);"
    "CREATE INDEX contexts_by_lot ON contexts (lot, end_us, context_id);"
    "CREATE INDEX contexts_by_ingest ON contexts (ingest_us);"
    "CREATE INDEX contexts_outbox ON contexts (ingest_us, context_no) WHERE state = 'pending';"
    "CREATE INDEX contexts_tchart_by_ingest ON contexts (ingest_us) WHERE has_tchart;"
    "CREATE INDEX contexts_tchart_by_event ON contexts (end_us) WHERE has_tchart;"
    "CREATE TABLE t_chart_chunks ("
    "  context_no INTEGER NOT NULL, chunk_index INTEGER NOT NULL,"
    "  bytes_hash INTEGER NOT NULL, bytes BLOB NOT NULL,"
    "  PRIMARY KEY (context_no, chunk_index)) WITHOUT ROWID;"
    "CREATE TABLE u_charts ("
    "  tool TEXT NOT NULL, chamber TEXT NOT NULL, recipe TEXT NOT NULL,"
    "  end_us INTEGER NOT NULL, context_id TEXT NOT NULL,"
    "  context_no INTEGER NOT NULL, judged_us INTEGER NOT NULL, chart_set INTEGER NOT NULL,"
    "  alarm_count INTEGER NOT NULL, severity INTEGER NOT NULL,"
    "  points_hash INTEGER NOT NULL, points BLOB NOT NULL,"
    "  PRIMARY KEY (tool, chamber, recipe, end_us, context_id)) WITHOUT ROWID;"
    "CREATE TABLE u_chart_verdicts ("
    "  context_no INTEGER PRIMARY KEY, recipe TEXT NOT NULL, end_us INTEGER NOT NULL, verdicts BLOB NOT "
    "NULL);"
    "CREATE TABLE chart_sets ("
    "  id INTEGER PRIMARY KEY, put_us INTEGER NOT NULL, yaml TEXT NOT NULL);"
    "CREATE TABLE current_chart_set (one INTEGER PRIMARY KEY CHECK (one = 1), id INTEGER NOT NULL);"
    "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO counters VALUES ('completed', 0), ('judged', 0), ('dead', 0);"
    "CREATE TRIGGER contexts_counted_in AFTER INSERT ON contexts"
    " WHEN NEW.completed OR NEW.state IN ('judged', 'dead') BEGIN"
    "  UPDATE counters SET value = value + CASE name WHEN 'completed' THEN NEW.completed ELSE NEW.state = "
    "name END;"
    " END;"
    "CREATE TRIGGER contexts_counted_over AFTER UPDATE OF state, completed ON contexts"
    " WHEN OLD.completed <> NEW.completed OR OLD.state <> NEW.state BEGIN"
    "  UPDATE counters SET value = value"
    "    + CASE name WHEN 'completed' THEN NEW.completed ELSE NEW.state = name END"
    "    - CASE name WHEN 'completed' THEN OLD.completed ELSE OLD.state = name END;"
    " END;"
    "CREATE TRIGGER contexts_counted_out AFTER DELETE ON contexts"
    " WHEN OLD.completed OR OLD.state IN ('judged', 'dead') BEGIN"
    "  UPDATE counters SET value = value - CASE name WHEN 'completed' THEN OLD.completed ELSE OLD.state = "
    "name END;"
    " END;"
    "CREATE VIEW outbox AS"
    "  SELECT context_id, tool, chamber, recipe, lot, datetime(end_us / 1000000, 'unixepoch') AS ended,"
    "    datetime(ingest_us / 1000000, 'unixepoch') AS completed, chunk_count"
    "  FROM contexts WHERE state = 'pending' ORDER BY ingest_us, context_no;"
    "CREATE VIEW judged AS"
    "  SELECT context_id, tool, chamber, recipe, datetime(end_us / 1000000, 'unixepoch') AS ended,"
    "    datetime(judged_us / 1000000, 'unixepoch') AS judged, printf('%016x', chart_set) AS chart_set,"
    "    alarm_count, severity, length(points) AS points_bytes FROM u_charts;"
    "PRAGMA application_id = " TEXT(SCHEMA_APPLICATION_ID) ";";

#define CONTEXT_COLUMNS                                                                                      \
    "context_no, state, completed, has_tchart, end_us, ingest_us, chunk_count, recipe, lot, dead_reason, "   \
    "announcement, tool, chamber, context_id"

#define UCHART_COLUMNS                                                                                       \
    "u.context_id, u.end_us, u.judged_us, u.chart_set, u.alarm_count, u.severity, u.points_hash, u.points"

#define UCHART_KEY "u.tool = ?1 AND u.chamber = ?2 AND u.recipe = ?3"
#define WITH_VERDICTS " JOIN u_chart_verdicts v ON v.context_no = u.context_no"

static const char *const statement_texts[STATEMENT_COUNT] = {
    [STATEMENT_BEGIN_READ] = "BEGIN",
    [STATEMENT_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [STATEMENT_COMMIT] = "COMMIT",
    [STATEMENT_ROLLBACK] = "ROLLBACK",
    [STATEMENT_SAVEPOINT] = "SAVEPOINT call",
    [STATEMENT_RELEASE] = "RELEASE call",
    [STATEMENT_ROLLBACK_TO] = "ROLLBACK TO call",

    [STATEMENT_FIND_KEY] = "SELECT " CONTEXT_COLUMNS ", chunk_hashes FROM contexts"
                           " WHERE context_id = ?1 AND tool = ?2 AND chamber = ?3",
    [STATEMENT_FIND_ID] =
        "SELECT " CONTEXT_COLUMNS " FROM contexts"
        " WHERE context_id = ?1 AND (completed OR state = 'dead') ORDER BY tool, chamber LIMIT 1",
    [STATEMENT_INSERT_CONTEXT] =
        "INSERT INTO contexts (context_id, tool, chamber, state, has_tchart, end_us, ingest_us,"
        " recipe, dead_reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    [STATEMENT_COMPLETE_CONTEXT] =
        "UPDATE contexts SET state = ?2, completed = 1, has_tchart = 1, end_us = ?3,"
        " ingest_us = ?4, recipe = ?5, lot = ?6, chunk_count = ?7, chunk_hashes = ?8,"
        " dead_reason = '', announcement = ?9 WHERE context_no = ?1",
    [STATEMENT_SET_STATE] = "UPDATE contexts SET state = ?2, dead_reason = ?3 WHERE context_no = ?1",
    [STATEMENT_OUTBOX] =
        "SELECT " CONTEXT_COLUMNS " FROM contexts"
        " WHERE state = 'pending' AND ingest_us < ?1 ORDER BY ingest_us, context_no LIMIT ?2",
    [STATEMENT_COUNTERS] = "SELECT name, value FROM counters",

    [STATEMENT_PUT_CHUNK] =
        "INSERT OR REPLACE INTO t_chart_chunks (context_no, chunk_index, bytes_hash, bytes)"
        " VALUES (?1, ?2, ?3, ?4)",
    [STATEMENT_CHUNK_HASHES] = "SELECT chunk_index, bytes_hash FROM t_chart_chunks WHERE context_no = ?1"
                               " ORDER BY chunk_index",
    [STATEMENT_DROP_CHUNKS_FROM] = "DELETE FROM t_chart_chunks WHERE context_no = ?1 AND chunk_index >= ?2",
    [STATEMENT_CHUNKS] = "SELECT chunk_index, bytes_hash, bytes FROM t_chart_chunks WHERE context_no = ?1"
                         " ORDER BY chunk_index",

    [STATEMENT_OLD_UCHART] = "SELECT recipe, end_us FROM u_chart_verdicts WHERE context_no = ?1",
    [STATEMENT_DELETE_UCHART] = "DELETE FROM u_charts WHERE tool = ?1 AND chamber = ?2 AND recipe = ?3"
                                " AND end_us = ?4 AND context_id = ?5",
    [STATEMENT_PUT_UCHART] =
        "INSERT OR REPLACE INTO u_charts (tool, chamber, recipe, end_us, context_id, context_no,"
        " judged_us, chart_set, alarm_count, severity, points_hash, points)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [STATEMENT_PUT_VERDICTS] =
        "INSERT OR REPLACE INTO u_chart_verdicts (context_no, recipe, end_us, verdicts)"
        " VALUES (?1, ?2, ?3, ?4)",
    [STATEMENT_FETCH_UCHART] =
        "SELECT " UCHART_COLUMNS ", v.verdicts, u.recipe FROM contexts c"
        " JOIN u_chart_verdicts v ON v.context_no = c.context_no"
        " JOIN u_charts u ON u.tool = c.tool AND u.chamber = c.chamber AND u.recipe = v.recipe"
        " AND u.end_us = v.end_us AND u.context_id = c.context_id"
        " WHERE c.context_id = ?1 AND c.tool = ?2 AND c.chamber = ?3",
    [STATEMENT_EARLIER] =
        "SELECT " UCHART_COLUMNS " FROM u_charts u WHERE " UCHART_KEY
        " AND (u.end_us, u.context_id) < (?4, ?5) ORDER BY u.end_us DESC, u.context_id DESC LIMIT ?6",
    [STATEMENT_EARLIER_VERDICTS] =
        "SELECT " UCHART_COLUMNS ", v.verdicts FROM u_charts u" WITH_VERDICTS " WHERE " UCHART_KEY
        " AND (u.end_us, u.context_id) < (?4, ?5) ORDER BY u.end_us DESC, u.context_id DESC LIMIT ?6",
    [STATEMENT_LATER] = "SELECT " UCHART_COLUMNS " FROM u_charts u WHERE " UCHART_KEY
                        " AND (u.end_us, u.context_id) > (?4, ?5) ORDER BY u.end_us, u.context_id LIMIT ?6",
    [STATEMENT_LATER_VERDICTS] =
        "SELECT " UCHART_COLUMNS ", v.verdicts FROM u_charts u" WITH_VERDICTS " WHERE " UCHART_KEY
        " AND (u.end_us, u.context_id) > (?4, ?5) ORDER BY u.end_us, u.context_id LIMIT ?6",
    [STATEMENT_ANY_LATER] =
        "SELECT 1 FROM u_charts u WHERE " UCHART_KEY " AND (u.end_us, u.context_id) > (?4, ?5) LIMIT 1",

    [STATEMENT_NEXT_RECIPE] = "SELECT recipe FROM u_charts WHERE tool = ?1 AND chamber = ?2 AND recipe >= ?3"
                              " ORDER BY recipe LIMIT 1",

    [STATEMENT_PUT_CHART_SET] =
        "INSERT INTO chart_sets (id, put_us, yaml) VALUES (?1, ?2, ?3)"
        " ON CONFLICT (id) DO UPDATE SET put_us = excluded.put_us, yaml = excluded.yaml",
    [STATEMENT_PUT_CURRENT] = "INSERT OR REPLACE INTO current_chart_set (one, id) VALUES (1, ?1)",
    [STATEMENT_CHART_SET] = "SELECT id, put_us, yaml FROM chart_sets WHERE id = ?1",
    [STATEMENT_CURRENT_CHART_SET] = "SELECT s.id, s.put_us, s.yaml FROM current_chart_set c"
                                    " JOIN chart_sets s ON s.id = c.id",

    [STATEMENT_PUT_DEBT] =
        "INSERT OR REPLACE INTO debts (kind, at_us, tool, chamber, context_id, put_us, owner)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    [STATEMENT_LIST_DEBTS] = "SELECT at_us, tool, chamber, context_id, put_us, owner FROM debts"
                             " WHERE kind = ?1 ORDER BY at_us, tool, chamber, context_id, put_us LIMIT ?2",
    [STATEMENT_CLEAR_DEBT] = "DELETE FROM debts WHERE kind = ?1 AND at_us = ?2 AND tool = ?3"
                             " AND chamber = ?4 AND context_id = ?5 AND put_us <= ?6",

    [STATEMENT_OLD_TCHARTS_BY_INGEST] =
        "SELECT context_no, state = 'receiving' FROM contexts WHERE has_tchart"
        " AND ingest_us < ?1 AND state <> 'pending' ORDER BY ingest_us LIMIT ?2",
    [STATEMENT_OLD_TCHARTS_BY_EVENT] = "SELECT context_no, state = 'receiving' FROM contexts WHERE has_tchart"
                                       " AND end_us < ?1 AND state <> 'pending' ORDER BY end_us LIMIT ?2",
    [STATEMENT_OLD_CONTEXTS_BY_INGEST] =
        "SELECT context_no, 0, tool, chamber, context_id FROM contexts"
        " WHERE ingest_us < ?1 AND state <> 'pending' ORDER BY ingest_us LIMIT ?2",
    [STATEMENT_OLD_CONTEXTS_BY_EVENT] = "SELECT context_no, 0, tool, chamber, context_id FROM contexts"
                                        " WHERE end_us < ?1 AND state <> 'pending' ORDER BY end_us LIMIT ?2",
    [STATEMENT_DELETE_CHUNKS] = "DELETE FROM t_chart_chunks WHERE context_no = ?1",
    [STATEMENT_TCHART_RECEIVED] =
        "UPDATE contexts SET has_tchart = 1 WHERE context_no = ?1 AND NOT has_tchart",
    [STATEMENT_TCHART_EXPIRED] = "UPDATE contexts SET has_tchart = 0 WHERE context_no = ?1",
    [STATEMENT_DELETE_VERDICTS] = "DELETE FROM u_chart_verdicts WHERE context_no = ?1",
    [STATEMENT_DELETE_CONTEXT] = "DELETE FROM contexts WHERE context_no = ?1",
};

const char *sqlite_statement_text(int which, char buffer[static SQL_MAX_BYTES])
{
    if (which < STATEMENT_LIST)
        return statement_texts[which];
    int filters = which - STATEMENT_LIST;
    snprintf(buffer, SQL_MAX_BYTES,
             "SELECT " CONTEXT_COLUMNS " FROM contexts WHERE completed AND (end_us, context_id) > (?1, ?2)"
             " AND end_us < ?3%s%s%s%s ORDER BY end_us, context_id LIMIT ?4",
             filters & FILTER_BY_TOOL ? " AND tool = ?5" : "",
             filters & FILTER_BY_CHAMBER ? " AND chamber = ?6" : "",
             filters & FILTER_BY_RECIPE ? " AND recipe = ?7" : "",
             filters & FILTER_BY_LOT ? " AND lot = ?8" : "");
    return buffer;
}

static int read_number(struct sqlite_connection *connection, const char *sql, int64_t *number,
                       struct error *err)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    if (result == SQLITE_ROW)
        *number = sqlite3_column_int64(statement, 0);
    int code = result == SQLITE_ROW ? 0 : sqlite_error(connection, result, "reading the schema", err);
    sqlite3_finalize(statement);
    return code;
}

/* 0 and *empty, or an error when the file is not a store of this version. */
static int check_version(struct sqlite_connection *connection, bool *empty, int64_t *found, struct error *err)
{
    int64_t application = 0, version = 0, tables = 0;
    *found = 0;
    int code = read_number(connection, "PRAGMA application_id", &application, err);
    if (code == 0)
        code = read_number(connection, "PRAGMA user_version", &version, err);
    if (code == 0)
        code = read_number(connection, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (code)
        return code;
    *empty = application == 0 && version == 0 && tables == 0;
    if (*empty)
        return 0;
    if (application != SCHEMA_APPLICATION_ID)
        return error_set(
            err, ERR_INVALID,
            "store %s: this SQLite file belongs to another application; give the path of a store, or of "
            "a file that does not exist yet",
            connection->path);
    if (version > SCHEMA_VERSION)
        return error_set(
            err, ERR_UNSUPPORTED,
            "store %s: written by a newer version of chamberlain (schema %lld, this one knows %d); "
            "upgrade this program, or open a backup taken before the upgrade",
            connection->path, (long long)version, SCHEMA_VERSION);
    *found = version;
    return 0;
}

/* The switch needs the file for itself for a moment and does not ask the busy handler when it cannot have it.
 */
static int switch_to_wal(struct sqlite_connection *connection, struct error *err)
{
    int64_t give_up_ns = clock_mono_ns() + connection->busy_timeout_ms * 1000000;
    for (;;) {
        int code = sqlite_execute(connection, "PRAGMA journal_mode = WAL", "switching to WAL", err);
        if (code != ERR_UNAVAILABLE || clock_mono_ns() >= give_up_ns)
            return code;
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
}

static int create_tables(struct sqlite_connection *connection, struct error *err)
{
    /* 16 KiB pages: about seven contexts' points lie on one page of u_charts without overflow
     * (docs/store.md). It must be said before the file has its first page. */
    int code = sqlite_execute(connection, "PRAGMA page_size = 16384", "setting the page size", err);
    if (code == 0)
        code = switch_to_wal(connection, err);
    if (code == 0)
        code = sqlite_execute(connection, "BEGIN IMMEDIATE", "creating the tables", err);
    if (code)
        return code;
    /* Another process may have created them while this one waited for the lock. */
    bool empty = false;
    int64_t version = 0;
    code = check_version(connection, &empty, &version, err);
    if (code == 0 && empty)
        code = sqlite_execute(connection, schema_sql, "creating the tables", err);
    if (code == 0 && version < SCHEMA_VERSION)
        code = sqlite_execute(connection, schema_sql_2, "bringing the tables up to date", err);
    if (code == 0)
        code = sqlite_execute(connection, "COMMIT", "creating the tables", err);
    if (code && !sqlite3_get_autocommit(connection->db))
        sqlite3_exec(connection->db, "ROLLBACK", NULL, NULL, NULL);
    return code;
}

int sqlite_schema_ensure(struct sqlite_connection *connection, bool create, struct error *err)
{
    /* In one transaction: another process may be creating the tables between one look and the next. */
    bool empty = false;
    int64_t version = 0;
    int code = sqlite_execute(connection, "BEGIN", "reading the schema", err);
    if (code == 0)
        code = check_version(connection, &empty, &version, err);
    if (!sqlite3_get_autocommit(connection->db))
        sqlite3_exec(connection->db, "ROLLBACK", NULL, NULL, NULL);
    bool older = !empty && version < SCHEMA_VERSION;
    if (code == 0 && create && !empty && !older) /* a restored copy may be in another mode */
        return switch_to_wal(connection, err);
    if (code == 0 && older && !create)
        return error_set(err, ERR_UNSUPPORTED,
                         "store %s: written by an older version of chamberlain (schema %lld, this one knows "
                         "%d); open it for writing once, so that its tables are brought up to date",
                         connection->path, (long long)version, SCHEMA_VERSION);
    if (code || !(empty || older))
        return code;
    if (!create)
        return error_set(
            err, ERR_NOT_FOUND,
            "store %s: the file is empty; open it for writing once, so that the tables are created",
            connection->path);
    return create_tables(connection, err);
}
