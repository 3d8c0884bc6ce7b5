#include "collector/runs.h"

#include "base/hash.h"
#include "collector/csv.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The columns of the file: which field each is, or which extra. */
struct layout {
    size_t columns;
    size_t field[RUNS_FIELDS]; /* SIZE_MAX: no such column */
    size_t *extra;
};

/* A load in progress. */
struct loading {
    struct runs *runs;
    const struct import_sink *sink;
    struct import_summary *summary;
    size_t reported[IMPORT_EVENTS];
    struct layout layout;
    size_t capacity;
};

/* Each field's names; the first is the one that messages use. */
static const char *const field_names[RUNS_FIELDS][3] = {[RUNS_CONTEXT_ID] = {"context_id", "context"},
                                                        [RUNS_TOOL] = {"tool", "tool_id"},
                                                        [RUNS_CHAMBER] = {"chamber", "chamber_id"},
                                                        [RUNS_RECIPE] = {"recipe", "recipe_id"},
                                                        [RUNS_LOT] = {"lot", "lot_id"},
                                                        [RUNS_WAFER] = {"wafer", "wafer_id"},
                                                        [RUNS_LABEL] = {"label"},
                                                        [RUNS_FAULT] = {"fault"},
                                                        [RUNS_STARTED_AT] = {"started_at", "start"}};

int runs_field(const char *name)
{
    for (int f = 0; f < RUNS_FIELDS; f++)
        for (size_t i = 0; i < 3 && field_names[f][i] != NULL; i++)
            if (strcmp(field_names[f][i], name) == 0)
                return f;
    return -1;
}

/* Known fields of a context that the import finds out itself: not attributes, whoever wrote them. */
static bool is_computed(const char *name)
{
    static const char *const names[] = {"ended_at",    "end",     "svid_count",      "point_count",
                                        "chunk_count", "quality", "quality_reasons", "quality_notes"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

static int place_column(struct loading *loading, const struct csv_row *row, size_t column,
                        const char **extra_names, struct error *err)
{
    struct runs *runs = loading->runs;
    const char *name = row->fields[column].text;
    int field = runs_field(name);
    if (field >= 0) {
        if (loading->layout.field[field] != SIZE_MAX)
            return error_set(err, ERR_INVALID,
                             "%s:%zu: the column %s comes twice (columns %zu and %zu); remove one",
                             runs->file, row->line, name, loading->layout.field[field] + 1, column + 1);
        loading->layout.field[field] = column;
        runs->present[field] = true;
        return 0;
    }
    if (name[0] == '\0' || is_computed(name))
        return 0;
    for (size_t i = 0; i < runs->extra_count; i++)
        if (strcmp(extra_names[i], name) == 0)
            return error_set(err, ERR_INVALID, "%s:%zu: the column %s comes twice; remove one", runs->file,
                             row->line, name);
    extra_names[runs->extra_count] = arena_strdup(&runs->arena, name);
    if (extra_names[runs->extra_count] == NULL)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory", runs->file);
    loading->layout.extra[runs->extra_count++] = column;
    return 0;
}

static int read_header(struct loading *loading, const struct csv_row *row, struct error *err)
{
    struct runs *runs = loading->runs;
    const char **extra_names = arena_calloc(&runs->arena, row->count, sizeof(*extra_names));
    loading->layout.extra = arena_calloc(&runs->arena, row->count, sizeof(*loading->layout.extra));
    if (extra_names == NULL || loading->layout.extra == NULL)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory", runs->file);
    loading->layout.columns = row->count;
    for (int f = 0; f < RUNS_FIELDS; f++)
        loading->layout.field[f] = SIZE_MAX;
    for (size_t i = 0; i < row->count; i++) {
        int code = place_column(loading, row, i, extra_names, err);
        if (code != 0)
            return code;
    }
    runs->extra_names = extra_names;
    for (int f = 0; f <= RUNS_CHAMBER; f++)
        if (loading->layout.field[f] == SIZE_MAX)
            return error_set(
                err, ERR_INVALID,
                "%s:%zu: there is no column %s; the first line must name context_id, tool and chamber",
                runs->file, row->line, field_names[f][0]);
    return 0;
}

static void bad_row(struct loading *loading, size_t line, const char *column, const char *text)
{
    struct import_report report = {
        .event = IMPORT_BAD_ROW, .file = loading->runs->file, .line = line, .column = column, .text = text};
    import_note(loading->sink, loading->summary, loading->reported, &report);
}

static size_t index_slot(const struct runs *runs, const char *id)
{
    size_t slot = (size_t)hash64_text(id) & (runs->index_size - 1);
    while (runs->index[slot] != 0 &&
           strcmp(runs->rows[runs->index[slot] - 1].field[RUNS_CONTEXT_ID], id) != 0)
        slot = (slot + 1) & (runs->index_size - 1);
    return slot;
}

/* Room for one more row, and an index that is at most half full. */
static int reserve_row(struct loading *loading)
{
    struct runs *runs = loading->runs;
    if (runs->count < loading->capacity)
        return 0;
    size_t capacity = loading->capacity == 0 ? 64 : loading->capacity * 2;
    struct runs_row *rows = realloc(runs->rows, capacity * sizeof(*rows));
    size_t *index = calloc(capacity * 2, sizeof(*index));
    if (rows != NULL)
        runs->rows = rows;
    if (rows == NULL || index == NULL) {
        free(index);
        return ERR_NO_MEMORY;
    }
    free(runs->index);
    runs->index = index;
    runs->index_size = capacity * 2;
    loading->capacity = capacity;
    for (size_t i = 0; i < runs->count; i++)
        runs->index[index_slot(runs, runs->rows[i].field[RUNS_CONTEXT_ID])] = i + 1;
    return 0;
}

static int store_row(struct loading *loading, const struct csv_row *row, struct error *err)
{
    struct runs *runs = loading->runs;
    struct runs_row *made = &runs->rows[runs->count];
    const char **extra = arena_calloc(&runs->arena, runs->extra_count, sizeof(*extra));
    bool failed = extra == NULL;
    *made = (struct runs_row){.extra = extra, .line = row->line};
    for (int f = 0; f < RUNS_FIELDS && !failed; f++) {
        size_t column = loading->layout.field[f];
        made->field[f] = column == SIZE_MAX ? "" : arena_strdup(&runs->arena, row->fields[column].text);
        failed = made->field[f] == NULL;
    }
    for (size_t i = 0; i < runs->extra_count && !failed; i++) {
        extra[i] = arena_strdup(&runs->arena, row->fields[loading->layout.extra[i]].text);
        failed = extra[i] == NULL;
    }
    if (failed)
        return error_set(err, ERR_NO_MEMORY, "%s:%zu: no memory", runs->file, row->line);
    runs->index[index_slot(runs, made->field[RUNS_CONTEXT_ID])] = runs->count + 1;
    runs->count++;
    return 0;
}

static int read_row(struct loading *loading, const struct csv_row *row, struct error *err)
{
    struct runs *runs = loading->runs;
    if (row->problem != CSV_FINE) {
        bad_row(loading, row->line, NULL, csv_problem_text(row->problem));
        return 0;
    }
    if (row->count != loading->layout.columns) {
        char text[160];
        snprintf(text, sizeof(text), "the row has %zu columns, the first line has %zu; the run is skipped",
                 row->count, loading->layout.columns);
        bad_row(loading, row->line, NULL, text);
        return 0;
    }
    if (runs->count == RUNS_MAX || runs->arena.used_bytes > RUNS_BYTES_MAX)
        return error_set(err, ERR_LIMIT, "%s:%zu: more than %d runs; split the file", runs->file, row->line,
                         RUNS_MAX);
    if (reserve_row(loading) != 0)
        return error_set(err, ERR_NO_MEMORY, "%s:%zu: no memory", runs->file, row->line);
    const char *id = row->fields[loading->layout.field[RUNS_CONTEXT_ID]].text;
    if (id[0] == '\0') {
        bad_row(loading, row->line, "context_id", "the run has no context_id; it is skipped");
        return 0;
    }
    if (runs->index[index_slot(runs, id)] != 0) {
        bad_row(loading, row->line, "context_id",
                "this context_id has come before; the second row is skipped");
        return 0;
    }
    return store_row(loading, row, err);
}

int runs_load(const char *path, const struct import_sink *sink, struct import_summary *summary,
              struct runs *runs, struct error *err)
{
    struct loading loading = {.runs = runs, .sink = sink, .summary = summary};
    struct csv_reader *reader = NULL;
    struct csv_row row;
    *runs = (struct runs){.count = 0};
    arena_init(&runs->arena, 0);
    runs->file = arena_strdup(&runs->arena, path);
    if (runs->file == NULL)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory", path);
    int code = csv_open(path, NULL, &reader, err);
    if (code != 0)
        return code;
    int got = csv_next(reader, &row, err);
    if (got == 1 && row.problem != CSV_FINE)
        code = error_set(err, ERR_INVALID, "%s:%zu: %s", path, row.line, csv_problem_text(row.problem));
    else if (got == 0)
        code =
            error_set(err, ERR_INVALID, "%s: the file is empty; its first line must name the columns", path);
    else if (got == 1)
        code = read_header(&loading, &row, err);
    while (code == 0 && got == 1 && (got = csv_next(reader, &row, err)) == 1)
        code = read_row(&loading, &row, err);
    csv_close(reader);
    return code != 0 ? code : got;
}

void runs_free(struct runs *runs)
{
    arena_free(&runs->arena);
    free(runs->rows);
    free(runs->index);
    *runs = (struct runs){.count = 0};
}

const struct runs_row *runs_find(const struct runs *runs, const char *context_id)
{
    if (runs->index_size == 0)
        return NULL;
    size_t at = runs->index[index_slot(runs, context_id)];
    return at == 0 ? NULL : &runs->rows[at - 1];
}
