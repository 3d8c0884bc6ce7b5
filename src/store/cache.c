#include "store/cache.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    /* What a row and a history take beside their texts and points: keys, the B-tree's share, half-full pages.
     */
    ROW_OVERHEAD_BYTES = 128,
    HISTORY_OVERHEAD_BYTES = 512,
    /* Rows kept of a history beyond the most that was asked for, for contexts that come late: an eighth, and
     */
    ROWS_SPARE = 8
};

/* `histories` says of which stretch of a key's history the cache knows everything:
 *
 *     from (or the beginning, when from_start) <= known < to (or for ever, when open_ended)
 *
 * and `points` holds the rows of that stretch, and none besides. */
static const char cache_schema[] =
    "PRAGMA page_size = 16384; PRAGMA journal_mode = MEMORY; PRAGMA temp_store = MEMORY; PRAGMA "
    "secure_delete = OFF;"
    "CREATE TABLE histories ("
    "  history_no INTEGER PRIMARY KEY, tool TEXT NOT NULL, chamber TEXT NOT NULL, recipe TEXT NOT NULL,"
    "  from_start INTEGER NOT NULL, from_end_us INTEGER NOT NULL, from_id TEXT NOT NULL,"
    "  open_ended INTEGER NOT NULL, to_end_us INTEGER NOT NULL, to_id TEXT NOT NULL,"
    "  most_asked INTEGER NOT NULL, row_count INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0,"
    "  used INTEGER NOT NULL, UNIQUE (tool, chamber, recipe));"
    "CREATE INDEX histories_by_use ON histories (used);"
    "CREATE TABLE points ("
    "  history_no INTEGER NOT NULL, end_us INTEGER NOT NULL, context_id TEXT NOT NULL,"
    "  judged_us INTEGER NOT NULL, chart_set INTEGER NOT NULL, alarm_count INTEGER NOT NULL,"
    "  severity INTEGER NOT NULL, points BLOB NOT NULL,"
    "  PRIMARY KEY (history_no, end_us, context_id)) WITHOUT ROWID;";

enum statement {
    CACHE_BEGIN,
    CACHE_COMMIT,
    CACHE_ROLLBACK,
    CACHE_FIND,
    CACHE_TOUCH,
    CACHE_ROWS,
    CACHE_ADD_HISTORY,
    CACHE_SET_RANGE,
    CACHE_SET_SIZE,
    CACHE_OLD_LENGTH,
    CACHE_PUT_ROW,
    CACHE_OLDEST,
    CACHE_DROP_ROW,
    CACHE_DROP_ROWS,
    CACHE_DROP_HISTORY,
    CACHE_LEAST_USED,
    CACHE_OF_CHAMBER,
    CACHE_STATEMENTS
};

static const char *const statement_texts[CACHE_STATEMENTS] = {
    [CACHE_BEGIN] = "BEGIN",
    [CACHE_COMMIT] = "COMMIT",
    [CACHE_ROLLBACK] = "ROLLBACK",
    [CACHE_FIND] =
        "SELECT history_no, from_start, from_end_us, from_id, open_ended, to_end_us, to_id, most_asked,"
        " row_count, bytes FROM histories WHERE tool = ?1 AND chamber = ?2 AND recipe = ?3",
    [CACHE_TOUCH] = "UPDATE histories SET used = ?2 WHERE history_no = ?1",
    [CACHE_ROWS] =
        "SELECT context_id, end_us, judged_us, chart_set, alarm_count, severity, points FROM points"
        " WHERE history_no = ?1 AND (end_us, context_id) < (?2, ?3)"
        " ORDER BY end_us DESC, context_id DESC LIMIT ?4",
    [CACHE_ADD_HISTORY] =
        "INSERT INTO histories (tool, chamber, recipe, from_start, from_end_us, from_id, open_ended,"
        " to_end_us, to_id, most_asked, used) VALUES (?1, ?2, ?3, 0, 0, '', 0, 0, '', 0, 0)",
    [CACHE_SET_RANGE] =
        "UPDATE histories SET from_start = ?2, from_end_us = ?3, from_id = ?4, open_ended = ?5,"
        " to_end_us = ?6, to_id = ?7, most_asked = ?8, used = ?9 WHERE history_no = ?1",
    [CACHE_SET_SIZE] = "UPDATE histories SET row_count = ?2, bytes = ?3 WHERE history_no = ?1",
    [CACHE_OLD_LENGTH] =
        "SELECT length(points) FROM points WHERE history_no = ?1 AND end_us = ?2 AND context_id = ?3",
    [CACHE_PUT_ROW] = "INSERT OR REPLACE INTO points (history_no, end_us, context_id, judged_us, chart_set,"
                      " alarm_count, severity, points) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [CACHE_OLDEST] = "SELECT end_us, context_id, length(points) FROM points WHERE history_no = ?1"
                     " ORDER BY end_us, context_id LIMIT 1",
    [CACHE_DROP_ROW] = "DELETE FROM points WHERE history_no = ?1 AND end_us = ?2 AND context_id = ?3",
    [CACHE_DROP_ROWS] = "DELETE FROM points WHERE history_no = ?1",
    [CACHE_DROP_HISTORY] = "DELETE FROM histories WHERE history_no = ?1",
    [CACHE_LEAST_USED] = "SELECT history_no, row_count, bytes FROM histories ORDER BY used LIMIT 1",
    [CACHE_OF_CHAMBER] = "SELECT history_no, row_count, bytes FROM histories"
                         " WHERE tool = ?1 AND chamber = ?2 AND (?3 IS NULL OR recipe = ?3) LIMIT 1",
};

struct cache {
    sqlite3 *db;
    sqlite3_stmt *statements[CACHE_STATEMENTS];
    int64_t budget_bytes;
    int64_t uses;  /* counts up: who was used last has the highest */
    bool doubtful; /* a history that lacks a context could not be dropped: nothing is vouched for until all
                      are */
    struct cache_statistics statistics;
};

/* A place in a history's order. */
struct position {
    int64_t end_us;
    char id[256]; /* longer ids are not cached */
};

/* One row of `histories`. */
struct history {
    int64_t history_no;
    bool from_start, open_ended;
    struct position from, to;
    int64_t most_asked, row_count, bytes;
};

static int position_compare(const struct position *a, const struct position *b)
{
    if (a->end_us != b->end_us)
        return a->end_us < b->end_us ? -1 : 1;
    return strcmp(a->id, b->id);
}

/* False when the id does not fit. */
static bool position_set(struct position *position, int64_t end_us, const char *id)
{
    position->end_us = end_us;
    int length = snprintf(position->id, sizeof position->id, "%s", id ? id : "");
    return length >= 0 && (size_t)length < sizeof position->id;
}

/* --- statements --- */

static int failed(struct cache *cache, const char *what, struct error *err)
{
    int code = (sqlite3_errcode(cache->db) & 0xff) == SQLITE_NOMEM ? ERR_NO_MEMORY : ERR_IO;
    return error_set(err, code, "history cache: %s: %s", what, sqlite3_errmsg(cache->db));
}

/* Steps and resets a statement that gives no rows. */
static int run(struct cache *cache, enum statement which, const char *what, struct error *err)
{
    sqlite3_stmt *statement = cache->statements[which];
    int result = sqlite3_step(statement);
    int code = result == SQLITE_DONE ? 0 : failed(cache, what, err);
    sqlite3_reset(statement);
    return code;
}

static sqlite3_stmt *with_number(struct cache *cache, enum statement which, int64_t number)
{
    sqlite3_stmt *statement = cache->statements[which];
    sqlite3_bind_int64(statement, 1, number);
    return statement;
}

static void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
}

static void bind_key(sqlite3_stmt *statement, const char *tool, const char *chamber, const char *recipe)
{
    bind_text(statement, 1, tool);
    bind_text(statement, 2, chamber);
    bind_text(statement, 3, recipe);
}

static int end_transaction(struct cache *cache, int code, struct error *err)
{
    if (code == 0)
        code = run(cache, CACHE_COMMIT, "committing", err);
    if (code && !sqlite3_get_autocommit(cache->db))
        run(cache, CACHE_ROLLBACK, "rolling back", NULL);
    return code;
}

/* --- opening --- */

int cache_open(size_t budget_bytes, struct cache **opened, struct error *err)
{
    *opened = NULL;
    struct cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return error_set(err, ERR_NO_MEMORY, "history cache: out of memory");
    cache->budget_bytes = budget_bytes ? (int64_t)budget_bytes : CACHE_DEFAULT_BUDGET_BYTES;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_MEMORY;
    int result = sqlite3_open_v2(":memory:", &cache->db, flags, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_exec(cache->db, cache_schema, NULL, NULL, NULL);
    for (int i = 0; i < CACHE_STATEMENTS && result == SQLITE_OK; i++)
        result = sqlite3_prepare_v3(cache->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                    &cache->statements[i], NULL);
    if (result == SQLITE_OK) {
        *opened = cache;
        return 0;
    }
    int code = failed(cache, "opening", err);
    cache_close(cache);
    return code;
}

void cache_close(struct cache *cache)
{
    if (cache == NULL)
        return;
    for (int i = 0; i < CACHE_STATEMENTS; i++)
        sqlite3_finalize(cache->statements[i]);
    sqlite3_close_v2(cache->db);
    free(cache);
}

void cache_read_statistics(const struct cache *cache, struct cache_statistics *statistics)
{
    *statistics = cache->statistics;
}

/* --- histories --- */

static void read_history(sqlite3_stmt *statement, struct history *history)
{
    history->history_no = sqlite3_column_int64(statement, 0);
    history->from_start = sqlite3_column_int(statement, 1) != 0;
    position_set(&history->from, sqlite3_column_int64(statement, 2),
                 (const char *)sqlite3_column_text(statement, 3));
    history->open_ended = sqlite3_column_int(statement, 4) != 0;
    position_set(&history->to, sqlite3_column_int64(statement, 5),
                 (const char *)sqlite3_column_text(statement, 6));
    history->most_asked = sqlite3_column_int64(statement, 7);
    history->row_count = sqlite3_column_int64(statement, 8);
    history->bytes = sqlite3_column_int64(statement, 9);
}

/* *found tells whether the key is cached. */
static int find_history(struct cache *cache, const char *tool, const char *chamber, const char *recipe,
                        struct history *history, bool *found, struct error *err)
{
    sqlite3_stmt *statement = cache->statements[CACHE_FIND];
    bind_key(statement, tool, chamber, recipe);
    int result = sqlite3_step(statement);
    *found = result == SQLITE_ROW;
    if (*found)
        read_history(statement, history);
    int code = result == SQLITE_ROW || result == SQLITE_DONE ? 0 : failed(cache, "finding a history", err);
    sqlite3_reset(statement);
    return code;
}

static int drop_history(struct cache *cache, int64_t history_no, int64_t row_count, int64_t bytes,
                        struct error *err)
{
    with_number(cache, CACHE_DROP_ROWS, history_no);
    int code = run(cache, CACHE_DROP_ROWS, "dropping a history", err);
    if (code)
        return code;
    with_number(cache, CACHE_DROP_HISTORY, history_no);
    code = run(cache, CACHE_DROP_HISTORY, "dropping a history", err);
    if (code == 0) {
        cache->statistics.rows -= row_count;
        cache->statistics.bytes -= bytes;
    }
    return code;
}

/* The history that `statement` finds, dropped. *found tells whether there was one. */
static int drop_found(struct cache *cache, enum statement which, bool *found, struct error *err)
{
    sqlite3_stmt *statement = cache->statements[which];
    int result = sqlite3_step(statement);
    *found = result == SQLITE_ROW;
    int64_t history_no = sqlite3_column_int64(statement, 0);
    int64_t row_count = sqlite3_column_int64(statement, 1), bytes = sqlite3_column_int64(statement, 2);
    int code = result == SQLITE_ROW || result == SQLITE_DONE ? 0 : failed(cache, "finding a history", err);
    sqlite3_reset(statement);
    return code || !*found ? code : drop_history(cache, history_no, row_count, bytes, err);
}

static int evict(struct cache *cache, struct error *err)
{
    int code = 0;
    bool found = true;
    while (cache->statistics.bytes > cache->budget_bytes && found && code == 0) {
        code = drop_found(cache, CACHE_LEAST_USED, &found, err);
        cache->statistics.evictions += code == 0 && found;
    }
    return code;
}

static int save_range(struct cache *cache, const struct history *history, struct error *err)
{
    sqlite3_stmt *statement = with_number(cache, CACHE_SET_RANGE, history->history_no);
    sqlite3_bind_int(statement, 2, history->from_start);
    sqlite3_bind_int64(statement, 3, history->from.end_us);
    bind_text(statement, 4, history->from.id);
    sqlite3_bind_int(statement, 5, history->open_ended);
    sqlite3_bind_int64(statement, 6, history->to.end_us);
    bind_text(statement, 7, history->to.id);
    sqlite3_bind_int64(statement, 8, history->most_asked);
    sqlite3_bind_int64(statement, 9, ++cache->uses);
    return run(cache, CACHE_SET_RANGE, "noting a history's range", err);
}

static int save_size(struct cache *cache, const struct history *history, struct error *err)
{
    sqlite3_stmt *statement = with_number(cache, CACHE_SET_SIZE, history->history_no);
    sqlite3_bind_int64(statement, 2, history->row_count);
    sqlite3_bind_int64(statement, 3, history->bytes);
    return run(cache, CACHE_SET_SIZE, "noting a history's size", err);
}

static void resize(struct cache *cache, struct history *history, int64_t rows, int64_t bytes)
{
    history->row_count += rows;
    history->bytes += bytes;
    cache->statistics.rows += rows;
    cache->statistics.bytes += bytes;
}

/* --- rows --- */

/* Memory of a row: a quarter more than what it holds, because the B-tree's pages are about 80 % full.
 * Measured with 46,000 rows of 2 KB: within 2 % of SQLITE_DBSTATUS_CACHE_USED. */
static int64_t row_bytes(int64_t points_length, const char *id)
{
    return (points_length + (int64_t)strlen(id) + ROW_OVERHEAD_BYTES) * 5 / 4;
}

static int put_row(struct cache *cache, struct history *history, const struct store_uchart *uchart,
                   struct error *err)
{
    sqlite3_stmt *old = with_number(cache, CACHE_OLD_LENGTH, history->history_no);
    sqlite3_bind_int64(old, 2, uchart->end_us);
    bind_text(old, 3, uchart->key.context_id);
    int result = sqlite3_step(old);
    bool replaces = result == SQLITE_ROW;
    int64_t old_length = replaces ? sqlite3_column_int64(old, 0) : 0;
    sqlite3_reset(old);
    if (result != SQLITE_ROW && result != SQLITE_DONE)
        return failed(cache, "finding a row", err);

    sqlite3_stmt *statement = with_number(cache, CACHE_PUT_ROW, history->history_no);
    sqlite3_bind_int64(statement, 2, uchart->end_us);
    bind_text(statement, 3, uchart->key.context_id);
    sqlite3_bind_int64(statement, 4, uchart->judged_us);
    sqlite3_bind_int64(statement, 5, (int64_t)uchart->chart_set);
    sqlite3_bind_int(statement, 6, uchart->alarm_count);
    sqlite3_bind_int(statement, 7, uchart->severity);
    sqlite3_bind_blob64(statement, 8, uchart->points ? uchart->points : "", uchart->points_length,
                        SQLITE_STATIC);
    int code = run(cache, CACHE_PUT_ROW, "adding a row", err);
    if (code == 0 && replaces)
        resize(cache, history, 0,
               row_bytes((int64_t)uchart->points_length, uchart->key.context_id) -
                   row_bytes(old_length, uchart->key.context_id));
    else if (code == 0)
        resize(cache, history, 1, row_bytes((int64_t)uchart->points_length, uchart->key.context_id));
    return code;
}

/* The oldest row, its place and size. *found is false when there is none. */
static int read_oldest(struct cache *cache, const struct history *history, struct position *oldest,
                       int64_t *points_length, bool *found, struct error *err)
{
    sqlite3_stmt *statement = with_number(cache, CACHE_OLDEST, history->history_no);
    int result = sqlite3_step(statement);
    *found = result == SQLITE_ROW;
    if (*found) {
        position_set(oldest, sqlite3_column_int64(statement, 0),
                     (const char *)sqlite3_column_text(statement, 1));
        *points_length = sqlite3_column_int64(statement, 2);
    }
    int code =
        result == SQLITE_ROW || result == SQLITE_DONE ? 0 : failed(cache, "finding the oldest row", err);
    sqlite3_reset(statement);
    return code;
}

/* Drops the oldest rows beyond what look-ups ask for; the range then begins at the oldest that is left. */
static int trim(struct cache *cache, struct history *history, bool *trimmed, struct error *err)
{
    int64_t keep = history->most_asked + history->most_asked / 8 + ROWS_SPARE;
    int code = 0;
    *trimmed = history->row_count > keep;
    bool found = true;
    int64_t length = 0;
    while (history->row_count > keep && code == 0 && found) {
        struct position oldest;
        code = read_oldest(cache, history, &oldest, &length, &found, err);
        if (code || !found)
            break;
        sqlite3_stmt *statement = with_number(cache, CACHE_DROP_ROW, history->history_no);
        sqlite3_bind_int64(statement, 2, oldest.end_us);
        bind_text(statement, 3, oldest.id);
        code = run(cache, CACHE_DROP_ROW, "trimming a history", err);
        if (code == 0)
            resize(cache, history, -1, -row_bytes(length, oldest.id));
    }
    if (code || !*trimmed)
        return code;
    history->from_start = false;
    return read_oldest(cache, history, &history->from, &length, &found, err);
}

/* --- look-up --- */

/* Whether everything before `start`, down to the range's beginning, is known. */
static bool reaches(const struct history *history, const struct position *start)
{
    return history->open_ended || position_compare(start, &history->to) <= 0;
}

static bool read_row(sqlite3_stmt *statement, const struct store_history_query *query, struct arena *arena,
                     struct store_uchart *row)
{
    const char *id = (const char *)sqlite3_column_text(statement, 0);
    size_t id_length = (size_t)sqlite3_column_bytes(statement, 0);
    const void *points = sqlite3_column_blob(statement, 6);
    size_t length = (size_t)sqlite3_column_bytes(statement, 6);
    char *memory = arena_alloc(arena, length + id_length + 1);
    if (memory == NULL)
        return false;
    if (length > 0)
        memcpy(memory, points, length);
    memcpy(memory + length, id, id_length + 1);
    *row = (struct store_uchart){
        .key = {.tool = query->tool, .chamber = query->chamber, .context_id = memory + length},
        .recipe = query->recipe,
        .end_us = sqlite3_column_int64(statement, 1),
        .judged_us = sqlite3_column_int64(statement, 2),
        .chart_set = (uint64_t)sqlite3_column_int64(statement, 3),
        .alarm_count = sqlite3_column_int(statement, 4),
        .severity = sqlite3_column_int(statement, 5),
        .points = memory,
        .points_length = length,
    };
    return true;
}

static int read_rows(struct cache *cache, const struct history *history,
                     const struct store_history_query *query, struct arena *arena, struct store_uchart **rows,
                     size_t *count, struct error *err)
{
    size_t most = query->limit < (size_t)history->row_count ? query->limit : (size_t)history->row_count;
    struct store_history_query key = {.tool = arena_strdup(arena, query->tool),
                                      .chamber = arena_strdup(arena, query->chamber),
                                      .recipe = arena_strdup(arena, query->recipe)};
    *rows = arena_alloc(arena, most * sizeof **rows);
    if (*rows == NULL || key.tool == NULL || key.chamber == NULL || key.recipe == NULL)
        return error_set(err, ERR_NO_MEMORY, "history cache: out of memory for a look-up");
    sqlite3_stmt *statement = with_number(cache, CACHE_ROWS, history->history_no);
    sqlite3_bind_int64(statement, 2, query->end_us);
    bind_text(statement, 3, query->context_id ? query->context_id : "");
    sqlite3_bind_int64(statement, 4, (int64_t)most);
    int result, code = 0;
    while (code == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW) {
        if (!read_row(statement, &key, arena, &(*rows)[*count]))
            code = error_set(err, ERR_NO_MEMORY, "history cache: out of memory for a look-up");
        else
            (*count)++;
    }
    if (code == 0 && result != SQLITE_DONE)
        code = failed(cache, "reading a history", err);
    sqlite3_reset(statement);
    return code;
}

/* 0 and rows, or ERR_NOT_FOUND when the cache cannot vouch for them. */
static int look_up(struct cache *cache, const struct store_history_query *query, struct arena *arena,
                   struct store_uchart **rows, size_t *count, struct error *err)
{
    struct history history;
    struct position start;
    bool found = false;
    bool answerable =
        !query->later && !query->verdicts && position_set(&start, query->end_us, query->context_id);
    int code = answerable
                   ? find_history(cache, query->tool, query->chamber, query->recipe, &history, &found, err)
                   : 0;
    if (code == 0 && (!found || !reaches(&history, &start)))
        code = error_set(err, ERR_NOT_FOUND, "history cache: not held");
    if (code == 0)
        code = read_rows(cache, &history, query, arena, rows, count, err);
    if (code == 0 && *count < query->limit && !history.from_start)
        code = error_set(err, ERR_NOT_FOUND, "history cache: does not reach back far enough");
    if (code)
        return code;
    sqlite3_bind_int64(with_number(cache, CACHE_TOUCH, history.history_no), 2, ++cache->uses);
    return run(cache, CACHE_TOUCH, "noting a use", err);
}

/* Begins a transaction, once the cache is beyond doubt. */
static int begin(struct cache *cache, struct error *err)
{
    if (cache->doubtful) {
        if (sqlite3_exec(cache->db, "DELETE FROM points; DELETE FROM histories", NULL, NULL, NULL) !=
            SQLITE_OK)
            return failed(cache, "dropping everything", err);
        cache->doubtful = false;
        cache->statistics.rows = 0;
        cache->statistics.bytes = 0;
    }
    return run(cache, CACHE_BEGIN, "beginning", err);
}

int cache_lookup(struct cache *cache, const struct store_history_query *query, struct arena *arena,
                 struct store_uchart **rows, size_t *count, struct error *err)
{
    *rows = NULL;
    *count = 0;
    int code = begin(cache, err);
    if (code == 0)
        code = end_transaction(cache, look_up(cache, query, arena, rows, count, err), err);
    if (code == 0)
        cache->statistics.hits++;
    else
        cache->statistics.misses++;
    if (code)
        *count = 0;
    return code;
}

/* --- filling --- */

/* The stretch that a store's reply covers. False when the cache cannot hold it. */
static bool covered_stretch(const struct store_history_query *query, const struct store_uchart *rows,
                            size_t count, bool newest, struct history *stretch)
{
    *stretch = (struct history){.from_start = count < query->limit,
                                .open_ended = newest || query->end_us == INT64_MAX,
                                .most_asked = (int64_t)query->limit};
    bool fits = position_set(&stretch->to, query->end_us, query->context_id);
    for (size_t i = 0; i < count && fits; i++) /* the last is the oldest */
        fits = position_set(&stretch->from, rows[i].end_us, rows[i].key.context_id);
    return fits;
}

/* a begins before b ends, or where it ends. */
static bool begins_before_end(const struct history *a, const struct history *b)
{
    return a->from_start || b->open_ended || position_compare(&a->from, &b->to) <= 0;
}

static void widen(struct history *history, const struct history *stretch)
{
    if (!history->from_start && !stretch->from_start && position_compare(&stretch->from, &history->from) < 0)
        history->from = stretch->from;
    history->from_start = history->from_start || stretch->from_start;
    if (position_compare(&stretch->to, &history->to) > 0)
        history->to = stretch->to;
    history->open_ended = history->open_ended || stretch->open_ended;
    if (stretch->most_asked > history->most_asked)
        history->most_asked = stretch->most_asked;
}

static int add_history(struct cache *cache, const struct store_history_query *query, struct history *history,
                       struct error *err)
{
    bind_key(cache->statements[CACHE_ADD_HISTORY], query->tool, query->chamber, query->recipe);
    int code = run(cache, CACHE_ADD_HISTORY, "adding a history", err);
    history->history_no = sqlite3_last_insert_rowid(cache->db);
    resize(cache, history, 0, HISTORY_OVERHEAD_BYTES);
    return code;
}

/* Takes `history` (what is held) to `stretch` (what came): joined where they meet; where they do not, the one
 * that goes on to the newest is worth more. *keep is false when what came is not to be taken. */
static int join(struct cache *cache, const struct store_history_query *query, const struct history *stretch,
                struct history *history, bool found, bool *keep, struct error *err)
{
    *keep = true;
    if (found && begins_before_end(history, stretch) && begins_before_end(stretch, history)) {
        widen(history, stretch);
        return 0;
    }
    if (found && history->open_ended) {
        *keep = false;
        return 0;
    }
    int code = found ? drop_history(cache, history->history_no, history->row_count, history->bytes, err) : 0;
    *history = *stretch;
    return code ? code : add_history(cache, query, history, err);
}

static int fill(struct cache *cache, const struct store_history_query *query, const struct store_uchart *rows,
                size_t count, const struct history *stretch, struct error *err)
{
    struct history history = {0};
    bool found = false, keep = false, trimmed = false;
    int code = find_history(cache, query->tool, query->chamber, query->recipe, &history, &found, err);
    if (code == 0)
        code = join(cache, query, stretch, &history, found, &keep, err);
    if (code || !keep)
        return code;
    for (size_t i = 0; i < count && code == 0; i++)
        code = put_row(cache, &history, &rows[i], err);
    if (code == 0)
        code = trim(cache, &history, &trimmed, err);
    if (code == 0)
        code = save_range(cache, &history, err);
    if (code == 0)
        code = save_size(cache, &history, err);
    return code ? code : evict(cache, err);
}

int cache_fill(struct cache *cache, const struct store_history_query *query, const struct store_uchart *rows,
               size_t count, bool newest, struct error *err)
{
    struct history stretch;
    if (query->later || count > query->limit)
        return error_set(err, ERR_INVALID,
                         "history cache: takes only replies to queries for earlier contexts");
    if (query->limit == 0 || !covered_stretch(query, rows, count, newest, &stretch))
        return 0;
    struct cache_statistics before = cache->statistics;
    int code = begin(cache, err);
    if (code == 0)
        code = end_transaction(cache, fill(cache, query, rows, count, &stretch, err), err);
    if (code)
        cache->statistics = before;
    return code;
}

/* --- keeping up --- */

static int put(struct cache *cache, const struct store_uchart *uchart, struct error *err)
{
    struct history history;
    struct position place;
    bool found = false, trimmed = false;
    int code =
        find_history(cache, uchart->key.tool, uchart->key.chamber, uchart->recipe, &history, &found, err);
    if (code || !found)
        return code;
    /* With a hole in it the history could not be vouched for. */
    if (!position_set(&place, uchart->end_us, uchart->key.context_id))
        return drop_history(cache, history.history_no, history.row_count, history.bytes, err);
    bool before = !history.from_start && position_compare(&place, &history.from) < 0;
    bool beyond = !history.open_ended && position_compare(&place, &history.to) >= 0;
    if (before || beyond)
        return 0;
    code = put_row(cache, &history, uchart, err);
    if (code == 0)
        code = trim(cache, &history, &trimmed, err);
    if (code == 0 && trimmed)
        code = save_range(cache, &history, err);
    if (code == 0)
        code = save_size(cache, &history, err);
    return code ? code : evict(cache, err);
}

int cache_put(struct cache *cache, const struct store_uchart *uchart, struct error *err)
{
    struct cache_statistics before = cache->statistics;
    int code = begin(cache, err);
    if (code == 0)
        code = end_transaction(cache, put(cache, uchart, err), err);
    if (code == 0)
        return 0;
    cache->statistics = before;
    /* What is held lacks this context now. */
    cache_forget(cache, uchart->key.tool, uchart->key.chamber, uchart->recipe);
    return code;
}

void cache_forget(struct cache *cache, const char *tool, const char *chamber, const char *recipe)
{
    bool found = true;
    int code = 0;
    while (found && code == 0) {
        bind_key(cache->statements[CACHE_OF_CHAMBER], tool, chamber, recipe);
        code = drop_found(cache, CACHE_OF_CHAMBER, &found, NULL);
    }
    cache->doubtful = cache->doubtful || code != 0;
}
