#include "collector/watch.h"

#include "base/arena.h"
#include "collector/tracefile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { HASH_BLOCK_BYTES = 256 * 1024, LEDGER_VERSION = 1 };

/* A file of the folder that is not in the ledger as it stands. */
struct pending {
    char *name;
    int64_t size;
    int64_t changed_us;
    int64_t since_us;   /* has looked like this from then on */
    int64_t retry_us;   /* not given again before; 0: at once */
    int64_t backoff_us; /* the last wait */
    uint64_t hash;
    bool hashed;
    bool again;
    char *path; /* set while it is given */
};

struct watch {
    char *dir;
    const struct mapping *mapping; /* borrowed; may be NULL */
    int64_t settle_us;
    char *ledger;
    sqlite3 *db;
    sqlite3_stmt *find;
    sqlite3_stmt *enter;
    sqlite3_stmt *touch;
    struct pending *pending; /* in the order of names */
    size_t pending_count;
    size_t waiting;
};

/* What the ledger says about a file. */
enum ledger_answer {
    LEDGER_UNKNOWN,
    LEDGER_DONE,   /* entered as it is now */
    LEDGER_TAKEN,  /* taken with another size or time of change */
    LEDGER_REFUSED /* refused with another size or time of change */
};

/* --- the ledger --- */

static int ledger_error(const struct watch *watch, const char *what, struct error *err)
{
    int result = sqlite3_extended_errcode(watch->db) & 0xFF;
    const char *text = sqlite3_errmsg(watch->db);
    switch (result) {
    case SQLITE_NOMEM:
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for the ledger", watch->ledger);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(
            err, ERR_CONFLICT,
            "%s: another process has this ledger; stop the other import --watch of the folder first",
            watch->ledger);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return error_set(
            err, ERR_CORRUPT,
            "%s: the ledger is damaged (%s); move it away: every file is then read once more, which changes "
            "nothing that is stored",
            watch->ledger, text);
    default:
        return error_set(err, ERR_IO, "%s: %s: %s", watch->ledger, what, text);
    }
}

static int ledger_execute(const struct watch *watch, const char *sql, struct error *err)
{
    if (sqlite3_exec(watch->db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return 0;
    return ledger_error(watch, "cannot be set up", err);
}

static int ledger_check_version(const struct watch *watch, struct error *err)
{
    sqlite3_stmt *statement = NULL;
    int version = 0;
    if (sqlite3_prepare_v2(watch->db, "PRAGMA user_version", -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        sqlite3_finalize(statement);
        return ledger_error(watch, "cannot be read", err);
    }
    version = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    if (version > LEDGER_VERSION)
        return error_set(err, ERR_UNSUPPORTED, "%s: the ledger was written by a newer version; use that one",
                         watch->ledger);
    return 0;
}

static int ledger_open(struct watch *watch, struct error *err)
{
    /* One process owns the ledger: the exclusive lock is taken by the first write and kept. */
    static const char set_up[] = "PRAGMA locking_mode = EXCLUSIVE;"
                                 "PRAGMA journal_mode = WAL;"
                                 "PRAGMA synchronous = FULL;"
                                 "BEGIN IMMEDIATE;"
                                 "CREATE TABLE IF NOT EXISTS files ("
                                 " name TEXT PRIMARY KEY, size INTEGER NOT NULL, changed_us INTEGER NOT NULL,"
                                 " hash INTEGER NOT NULL, contexts INTEGER NOT NULL, refused TEXT,"
                                 " entered_us INTEGER NOT NULL) WITHOUT ROWID;"
                                 "PRAGMA user_version = 1;"
                                 "COMMIT;";
    if (sqlite3_open_v2(watch->ledger, &watch->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL) !=
        SQLITE_OK)
        return ledger_error(watch, "cannot be opened", err);
    sqlite3_busy_timeout(watch->db, 1000);
    int code = ledger_check_version(watch, err);
    if (code == 0)
        code = ledger_execute(watch, set_up, err);
    if (code != 0)
        return code;
    const struct {
        const char *sql;
        sqlite3_stmt **statement;
    } statements[] = {
        {"SELECT size, changed_us, hash, refused FROM files WHERE name = ?1", &watch->find},
        {"INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", &watch->enter},
        {"UPDATE files SET size = ?1, changed_us = ?2 WHERE name = ?3", &watch->touch},
    };
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
        if (sqlite3_prepare_v2(watch->db, statements[i].sql, -1, statements[i].statement, NULL) != SQLITE_OK)
            return ledger_error(watch, "cannot be read", err);
    return 0;
}

/* An enum ledger_answer, with the hash of the content that was entered; negative: an error. */
static int ledger_find(const struct watch *watch, const char *name, int64_t size, int64_t changed_us,
                       uint64_t *hash, struct error *err)
{
    int answer = LEDGER_UNKNOWN;
    sqlite3_bind_text(watch->find, 1, name, -1, SQLITE_STATIC);
    int result = sqlite3_step(watch->find);
    if (result == SQLITE_ROW) {
        bool same = sqlite3_column_int64(watch->find, 0) == size &&
                    sqlite3_column_int64(watch->find, 1) == changed_us;
        *hash = (uint64_t)sqlite3_column_int64(watch->find, 2);
        bool refused = sqlite3_column_type(watch->find, 3) != SQLITE_NULL;
        answer = same ? LEDGER_DONE : refused ? LEDGER_REFUSED : LEDGER_TAKEN;
    } else if (result != SQLITE_DONE) {
        answer = ledger_error(watch, "cannot be read", err);
    }
    sqlite3_reset(watch->find);
    return answer;
}

static int ledger_enter(const struct watch *watch, const struct watch_file *file, size_t contexts,
                        const char *refused, int64_t now_us, struct error *err)
{
    sqlite3_stmt *enter = watch->enter;
    sqlite3_bind_text(enter, 1, file->name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(enter, 2, file->size);
    sqlite3_bind_int64(enter, 3, file->changed_us);
    sqlite3_bind_int64(enter, 4, (sqlite3_int64)file->hash);
    sqlite3_bind_int64(enter, 5, (sqlite3_int64)contexts);
    if (refused == NULL)
        sqlite3_bind_null(enter, 6);
    else
        sqlite3_bind_text(enter, 6, refused, -1, SQLITE_STATIC);
    sqlite3_bind_int64(enter, 7, now_us);
    int result = sqlite3_step(enter);
    int code = result == SQLITE_DONE ? 0 : ledger_error(watch, "a file cannot be entered", err);
    sqlite3_reset(enter);
    sqlite3_clear_bindings(enter);
    return code;
}

/* Notes the new time of a taken file whose content has stayed. */
static int ledger_touch(const struct watch *watch, const struct watch_file *file, struct error *err)
{
    sqlite3_bind_int64(watch->touch, 1, file->size);
    sqlite3_bind_int64(watch->touch, 2, file->changed_us);
    sqlite3_bind_text(watch->touch, 3, file->name, -1, SQLITE_STATIC);
    int result = sqlite3_step(watch->touch);
    int code = result == SQLITE_DONE ? 0 : ledger_error(watch, "a file cannot be entered", err);
    sqlite3_reset(watch->touch);
    return code;
}

/* --- opening and closing --- */

int watch_open(const struct watch_options *options, struct watch **watch, struct error *err)
{
    struct stat info;
    *watch = NULL;
    if (stat(options->dir, &info) != 0 || !S_ISDIR(info.st_mode))
        return error_set(err, ERR_NOT_FOUND, "%s: there is no such folder to watch; make it first",
                         options->dir);
    struct watch *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory to watch it", options->dir);
    made->dir = strdup(options->dir);
    made->ledger = strdup(options->ledger);
    made->mapping = options->mapping;
    made->settle_us = options->settle_us > 0 ? options->settle_us : WATCH_SETTLE_US;
    int code = made->dir == NULL || made->ledger == NULL
                   ? error_set(err, ERR_NO_MEMORY, "%s: no memory to watch it", options->dir)
                   : ledger_open(made, err);
    if (code != 0) {
        watch_close(made);
        return code;
    }
    *watch = made;
    return 0;
}

static void pending_free(struct pending *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(list[i].name);
        free(list[i].path);
    }
    free(list);
}

void watch_close(struct watch *watch)
{
    if (watch == NULL)
        return;
    sqlite3_finalize(watch->find);
    sqlite3_finalize(watch->enter);
    sqlite3_finalize(watch->touch);
    sqlite3_close(watch->db);
    pending_free(watch->pending, watch->pending_count);
    free(watch->dir);
    free(watch->ledger);
    free(watch);
}

/* --- scanning --- */

static int compare_pending(const void *left, const void *right)
{
    return strcmp(((const struct pending *)left)->name, ((const struct pending *)right)->name);
}

static int compare_name(const void *name, const void *pending)
{
    return strcmp(name, ((const struct pending *)pending)->name);
}

static struct pending *find_pending(const struct watch *watch, const char *name)
{
    if (watch->pending_count == 0)
        return NULL;
    return bsearch(name, watch->pending, watch->pending_count, sizeof(*watch->pending), compare_name);
}

/* The files of one look at the folder. */
struct look {
    struct pending *list;
    size_t count;
    size_t capacity;
};

static int look_add(const struct watch *watch, struct look *look, const char *name, const struct stat *info,
                    int64_t now_us, struct error *err)
{
    if (look->count == WATCH_FILES_MAX)
        return error_set(err, ERR_LIMIT, "%s: more than %d files; move those away that have been taken",
                         watch->dir, WATCH_FILES_MAX);
    if (look->count == look->capacity) {
        size_t capacity = look->capacity == 0 ? 32 : look->capacity * 2;
        struct pending *list = realloc(look->list, capacity * sizeof(*list));
        if (list == NULL)
            return error_set(err, ERR_NO_MEMORY, "%s: no memory for %zu files", watch->dir, capacity);
        look->list = list;
        look->capacity = capacity;
    }
    struct pending *file = &look->list[look->count];
    *file =
        (struct pending){.name = strdup(name),
                         .size = info->st_size,
                         .changed_us = info->st_mtim.tv_sec * INT64_C(1000000) + info->st_mtim.tv_nsec / 1000,
                         .since_us = now_us};
    if (file->name == NULL)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for a name", watch->dir);
    look->count++;
    const struct pending *before = find_pending(watch, name);
    if (before == NULL || before->size != file->size || before->changed_us != file->changed_us)
        return 0;
    file->since_us =
        before->since_us < now_us ? before->since_us : now_us; /* the clock may have been set back */
    file->retry_us = before->retry_us;
    file->backoff_us = before->backoff_us;
    file->hash = before->hash;
    file->hashed = before->hashed;
    return 0;
}

/* Looks at one name of the folder: adds it unless the ledger has it. */
static int look_at(const struct watch *watch, struct look *look, int folder, const char *name, int64_t now_us,
                   struct error *err)
{
    struct stat info;
    uint64_t hash = 0;
    if (!tracefile_is_name(name) || (watch->mapping != NULL && !mapping_fits(watch->mapping, name)))
        return 0;
    if (fstatat(folder, name, &info, 0) != 0 || !S_ISREG(info.st_mode))
        return 0; /* gone again, or no file */
    int64_t changed_us = info.st_mtim.tv_sec * INT64_C(1000000) + info.st_mtim.tv_nsec / 1000;
    int answer = ledger_find(watch, name, info.st_size, changed_us, &hash, err);
    if (answer < 0 || answer == LEDGER_DONE)
        return answer < 0 ? answer : 0;
    int code = look_add(watch, look, name, &info, now_us, err);
    if (code == 0)
        look->list[look->count - 1].again = answer == LEDGER_TAKEN;
    return code;
}

static int look_around(const struct watch *watch, struct look *look, int64_t now_us, struct error *err)
{
    DIR *folder = opendir(watch->dir);
    int code = 0;
    if (folder == NULL)
        return error_set(err, ERR_IO, "%s: cannot be listed: %s", watch->dir, strerror(errno));
    for (struct dirent *entry = readdir(folder); entry != NULL && code == 0; entry = readdir(folder))
        code = look_at(watch, look, dirfd(folder), entry->d_name, now_us, err);
    closedir(folder);
    if (look->count > 0)
        qsort(look->list, look->count, sizeof(*look->list), compare_pending);
    return code;
}

/* The hash of a file's content; false when it cannot be read, as one that has just gone. */
static bool hash_file(const char *path, uint64_t *hash)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    char *block = malloc(HASH_BLOCK_BYTES);
    XXH64_state_t *state = XXH64_createState();
    ssize_t got = -1;
    if (block != NULL && state != NULL) {
        XXH64_reset(state, 0);
        while ((got = read(fd, block, HASH_BLOCK_BYTES)) > 0)
            XXH64_update(state, block, (size_t)got);
        *hash = XXH64_digest(state);
    }
    XXH64_freeState(state);
    free(block);
    close(fd);
    return got == 0;
}

/* Decides about one file that has settled: 1: it is given; 0: it is not (touched only, or unreadable). */
static int settle(const struct watch *watch, struct pending *file, struct watch_file *given,
                  struct error *err)
{
    uint64_t taken_hash = 0;
    free(file->path);
    file->path = NULL;
    if (asprintf(&file->path, "%s/%s", watch->dir, file->name) < 0) {
        file->path = NULL;
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for a path", watch->dir);
    }
    if (!file->hashed && !hash_file(file->path, &file->hash))
        return 0;
    file->hashed = true;
    *given = (struct watch_file){.path = file->path,
                                 .name = file->name,
                                 .size = file->size,
                                 .changed_us = file->changed_us,
                                 .hash = file->hash,
                                 .again = file->again};
    int answer = ledger_find(watch, file->name, file->size, file->changed_us, &taken_hash, err);
    if (answer < 0)
        return answer;
    if (answer == LEDGER_TAKEN && taken_hash == file->hash)
        return ledger_touch(watch, given, err);
    return 1; /* a refused file is tried again even if it was only touched: its mapping may have been mended
               */
}

int watch_scan(struct watch *watch, int64_t now_us, struct watch_file *files, size_t limit, size_t *count,
               struct error *err)
{
    struct look look = {.list = NULL};
    *count = 0;
    int code = look_around(watch, &look, now_us, err);
    if (code != 0) {
        pending_free(look.list, look.count);
        return code;
    }
    pending_free(watch->pending, watch->pending_count);
    watch->pending = look.list;
    watch->pending_count = look.count;
    watch->waiting = 0;
    for (size_t i = 0; i < look.count && *count < limit; i++) {
        struct pending *file = &watch->pending[i];
        if (now_us - file->since_us < watch->settle_us || now_us < file->retry_us) {
            watch->waiting++;
            continue;
        }
        int given = settle(watch, file, &files[*count], err);
        if (given < 0)
            return given;
        *count += (size_t)given;
    }
    return 0;
}

int watch_taken(struct watch *watch, const struct watch_file *file, size_t contexts, int64_t now_us,
                struct error *err)
{
    return ledger_enter(watch, file, contexts, NULL, now_us, err);
}

int watch_failed(struct watch *watch, const struct watch_file *file, int code, const char *reason,
                 int64_t now_us, struct error *err)
{
    bool of_the_file =
        code == ERR_INVALID || code == ERR_CORRUPT || code == ERR_LIMIT || code == ERR_UNSUPPORTED;
    if (of_the_file)
        return ledger_enter(watch, file, 0, reason, now_us, err);
    struct pending *pending = find_pending(watch, file->name);
    if (pending == NULL)
        return 0;
    pending->backoff_us = pending->backoff_us == 0 ? WATCH_RETRY_FIRST_US : pending->backoff_us * 2;
    if (pending->backoff_us > WATCH_RETRY_MOST_US)
        pending->backoff_us = WATCH_RETRY_MOST_US;
    pending->retry_us = now_us + pending->backoff_us;
    return 0;
}

size_t watch_waiting(const struct watch *watch)
{
    return watch->waiting;
}
