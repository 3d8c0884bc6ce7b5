#include "collector/import.h"

#include "collector/runs.h"
#include "collector/tracefile.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One path being imported. */
struct import {
    const struct mapping *mapping;
    const struct import_sink *sink;
    struct import_summary *summary;
    struct arena arena;
    struct error *err;
};

static int no_memory(struct import *import, const char *path)
{
    return error_set(import->err, ERR_NO_MEMORY, "%s: no memory", path);
}

/* True for what is wrong with one file, after which the next one is still worth reading. */
static bool is_of_the_file(int code)
{
    return code == ERR_INVALID || code == ERR_CORRUPT || code == ERR_IO || code == ERR_LIMIT ||
           code == ERR_NOT_FOUND;
}

/* Reads one file. An error of its own has been counted in files_failed; one of the sink or of memory ends the
 * import. */
static int read_one(struct import *import, const char *path, const struct runs *runs,
                    const struct runs_row *run)
{
    struct tracefile_options options = {.mapping = import->mapping, .runs = runs, .run = run};
    size_t failed = import->summary->files_failed;
    int code = tracefile_read(path, &options, import->sink, import->summary, import->err);
    bool of_the_file = import->summary->files_failed > failed && is_of_the_file(code);
    return of_the_file ? 0 : code;
}

/* Where the trace of a run is; NULL when no such file exists. `*code` is ERR_NO_MEMORY then if that is why.
 */
static const char *find_trace(struct import *import, const char *folder, const char *id, int *code)
{
    static const char *const endings[] = {".csv", ".csv.gz", ".tsv", ".tsv.gz"};
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
        const char *path = arena_printf(&import->arena, "%s/%s%s", folder, id, endings[i]);
        if (path == NULL) {
            *code = no_memory(import, folder);
            return NULL;
        }
        if (access(path, F_OK) == 0)
            return path;
    }
    return NULL;
}

/* An id is part of a path here, so it must not lead out of the folder. */
static bool id_is_file_name(const char *id)
{
    return strchr(id, '/') == NULL && id[0] != '.';
}

static void note_missing_trace(struct import *import, const struct runs *runs, const struct runs_row *run,
                               size_t reported[IMPORT_EVENTS])
{
    const char *id = run->field[RUNS_CONTEXT_ID];
    struct import_report report = {
        .event = IMPORT_MISSING_TRACE,
        .file = runs->file,
        .line = run->line,
        .context_id = id,
        .text = id_is_file_name(id)
                    ? "the run has no trace file <context_id>.csv or .tsv (also .gz) beside runs.csv"
                    : "the context_id cannot be a file's name: no '/' in it, no '.' first"};
    import_note(import->sink, import->summary, reported, &report);
}

static int read_runs(struct import *import, const char *folder, const struct runs *runs)
{
    size_t reported[IMPORT_EVENTS] = {0};
    int code = 0;
    for (size_t i = 0; i < runs->count && code == 0; i++) {
        const struct runs_row *run = &runs->rows[i];
        const char *id = run->field[RUNS_CONTEXT_ID];
        arena_reset(&import->arena);
        const char *path = id_is_file_name(id) ? find_trace(import, folder, id, &code) : NULL;
        if (path != NULL)
            code = read_one(import, path, runs, run);
        else if (code == 0)
            note_missing_trace(import, runs, run, reported);
    }
    return code;
}

static int import_runs(struct import *import, const char *folder, const char *runs_path)
{
    struct runs runs;
    int code = runs_load(runs_path, import->sink, import->summary, &runs, import->err);
    if (code == 0)
        code = read_runs(import, folder, &runs);
    runs_free(&runs);
    return code;
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* The names of a folder's trace files, malloc'ed, in order. */
static int list_folder(struct import *import, const char *folder, char ***names, size_t *count)
{
    size_t capacity = 0;
    DIR *dir = opendir(folder);
    int code = 0;
    if (dir == NULL)
        return error_set(import->err, ERR_IO, "%s: cannot be listed: %s", folder, strerror(errno));
    for (struct dirent *entry = readdir(dir); entry != NULL && code == 0; entry = readdir(dir)) {
        if (!tracefile_is_name(entry->d_name) || !mapping_fits(import->mapping, entry->d_name))
            continue;
        if (*count == capacity) {
            capacity = capacity == 0 ? 64 : capacity * 2;
            char **larger = realloc(*names, capacity * sizeof(*larger));
            if (larger == NULL) {
                code = no_memory(import, folder);
                break;
            }
            *names = larger;
        }
        (*names)[*count] = strdup(entry->d_name);
        if ((*names)[*count] == NULL)
            code = no_memory(import, folder);
        else if (++*count > IMPORT_FOLDER_FILES_MAX)
            code = error_set(import->err, ERR_LIMIT, "%s: more than %d files; import subfolders one by one",
                             folder, IMPORT_FOLDER_FILES_MAX);
    }
    closedir(dir);
    return code;
}

static int import_folder(struct import *import, const char *folder)
{
    char **names = NULL;
    size_t count = 0;
    int code = list_folder(import, folder, &names, &count);
    if (code == 0 && count == 0)
        code = error_set(
            import->err, ERR_NOT_FOUND,
            "%s: there is no trace file (.csv, .tsv or .txt, each also .gz) that %s is for, and no runs.csv",
            folder, import->mapping->source);
    if (count > 0)
        qsort(names, count, sizeof(*names), compare_names);
    for (size_t i = 0; i < count && code == 0; i++) {
        arena_reset(&import->arena);
        const char *path = arena_printf(&import->arena, "%s/%s", folder, names[i]);
        code = path == NULL ? no_memory(import, folder) : read_one(import, path, NULL, NULL);
    }
    for (size_t i = 0; i < count; i++)
        free(names[i]);
    free(names);
    return code;
}

/* The folder of a path; "." when it has none. */
static char *folder_of(const char *path, struct arena *arena)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL)
        return arena_strdup(arena, ".");
    return arena_strndup(arena, path, slash == path ? 1 : (size_t)(slash - path));
}

static bool uses_runs(const struct mapping *mapping)
{
    return mapping->names[MAPPING_CONTEXT].count == 0;
}

/* One file by its row in the folder's runs.csv. */
static int import_listed_file(struct import *import, const char *path, const char *runs_path)
{
    struct runs runs;
    int code = runs_load(runs_path, import->sink, import->summary, &runs, import->err);
    char *stem = tracefile_stem(path, &import->arena);
    const struct runs_row *run = code == 0 && stem != NULL ? runs_find(&runs, stem) : NULL;
    struct tracefile_options options = {.mapping = import->mapping, .runs = &runs, .run = run};
    if (code == 0 && stem == NULL)
        code = no_memory(import, path);
    else if (code == 0 && run == NULL)
        code = error_set(import->err, ERR_NOT_FOUND, "%s: %s has no run with the context_id %s; add its row",
                         path, runs_path, stem);
    else if (code == 0)
        code = tracefile_read(path, &options, import->sink, import->summary, import->err);
    runs_free(&runs);
    return code;
}

static int import_any_file(struct import *import, const char *path)
{
    struct tracefile_options options = {.mapping = import->mapping};
    if (!uses_runs(import->mapping))
        return tracefile_read(path, &options, import->sink, import->summary, import->err);
    const char *folder = folder_of(path, &import->arena);
    const char *runs_path = folder != NULL ? arena_printf(&import->arena, "%s/runs.csv", folder) : NULL;
    if (runs_path == NULL)
        return no_memory(import, path);
    if (access(runs_path, F_OK) == 0)
        return import_listed_file(import, path, runs_path);
    return tracefile_read(path, &options, import->sink, import->summary, import->err);
}

static int import_any_path(struct import *import, const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return error_set(import->err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: cannot be found: %s",
                         path, strerror(errno));
    const char *slash = strrchr(path, '/');
    if (!S_ISDIR(info.st_mode)) {
        if (strcmp(slash == NULL ? path : slash + 1, "runs.csv") == 0) {
            char *folder = strdup(slash == NULL ? "." : path);
            if (folder != NULL && slash != NULL)
                folder[slash == path ? 1 : slash - path] = '\0';
            int code = folder == NULL ? no_memory(import, path) : import_runs(import, folder, path);
            free(folder);
            return code;
        }
        size_t failed = import->summary->files_failed;
        int code = import_any_file(import, path);
        return import->summary->files_failed > failed && is_of_the_file(code) ? 0 : code;
    }
    char *runs_path = NULL;
    if (asprintf(&runs_path, "%s/runs.csv", path) < 0)
        return no_memory(import, path);
    bool listed = uses_runs(import->mapping) && access(runs_path, F_OK) == 0;
    int code = listed ? import_runs(import, path, runs_path) : import_folder(import, path);
    free(runs_path);
    return code;
}

typedef int import_reader(struct import *import, const char *path);

static int run_import(const char *path, const struct mapping *mapping, const struct import_sink *sink,
                      struct import_summary *summary, struct error *err, import_reader *reader)
{
    struct error own;
    struct mapping *made = mapping == NULL ? mapping_default() : NULL;
    struct import import = {.mapping = mapping != NULL ? mapping : made,
                            .sink = sink,
                            .summary = summary,
                            .err = err != NULL ? err : &own};
    arena_init(&import.arena, 0);
    int code = import.mapping == NULL ? no_memory(&import, path) : reader(&import, path);
    arena_free(&import.arena);
    mapping_free(made);
    return code;
}

int import_path(const char *path, const struct mapping *mapping, const struct import_sink *sink,
                struct import_summary *summary, struct error *err)
{
    return run_import(path, mapping, sink, summary, err, import_any_path);
}

int import_file(const char *path, const struct mapping *mapping, const struct import_sink *sink,
                struct import_summary *summary, struct error *err)
{
    return run_import(path, mapping, sink, summary, err, import_any_file);
}
