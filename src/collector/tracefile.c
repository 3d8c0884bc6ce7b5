#include "collector/tracefile.h"

#include "base/clock.h"
#include "base/hash.h"
#include "collector/csv.h"
#include "collector/series.h"
#include "chart/trace.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_COLUMN SIZE_MAX

/* A file being read. */
struct tracefile {
    const struct tracefile_options *options;
    const struct mapping *mapping;
    struct series_notes notes;
    struct arena arena;   /* names: as long as the file */
    struct arena scratch; /* one context's delivery */
    struct csv_reader *reader;
    struct error *err;

    const char **header;
    size_t header_count;
    size_t time_column;
    size_t origin_column;
    struct series_layout layout;
    size_t *source;      /* by layout column: the file's column */
    size_t *name_source; /* the file's columns that names are made of */
    size_t name_source_count;
    const char *stem;
    const char *dir;
    struct stamp_rule time;
    struct stamp_rule origin_time;

    const struct csv_row *row;
    struct strbuf key;      /* the name columns' cells of the current row */
    struct strbuf last_key; /* and of the row before, whose series is `current` */
    struct strbuf name;     /* being rendered */
    struct series *current;

    struct series **series; /* in the order of their first rows */
    size_t series_count;
    size_t series_capacity;
    size_t *index; /* series by their id's hash, + 1 */
    size_t index_size;
    size_t bytes;
};

/* --- names of files --- */

static bool ends_with(const char *text, size_t length, const char *ending)
{
    size_t ending_length = strlen(ending);
    return length > ending_length && memcmp(text + length - ending_length, ending, ending_length) == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

char *tracefile_stem(const char *path, struct arena *arena)
{
    const char *name = base_name(path);
    size_t length = strlen(name);
    if (ends_with(name, length, ".gz"))
        length -= 3;
    for (size_t i = length; i > 1; i--) {
        if (name[i - 1] == '.') {
            length = i - 1;
            break;
        }
    }
    return arena_strndup(arena, name, length);
}

bool tracefile_is_name(const char *file_name)
{
    static const char *const endings[] = {".csv", ".tsv", ".txt"};
    size_t length = strlen(file_name);
    if (ends_with(file_name, length, ".gz"))
        length -= 3;
    if (file_name[0] == '.' || strcmp(file_name, "runs.csv") == 0 || strcmp(file_name, "runs.csv.gz") == 0)
        return false;
    for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
        if (ends_with(file_name, length, endings[i]))
            return true;
    return false;
}

static char *dir_name(const char *path, struct arena *arena)
{
    const char *base = base_name(path);
    size_t length = (size_t)(base - path);
    while (length > 0 && path[length - 1] == '/')
        length--;
    size_t from = length;
    while (from > 0 && path[from - 1] != '/')
        from--;
    return arena_strndup(arena, path + from, length - from);
}

/* --- the header: which column is what --- */

static int no_memory(struct tracefile *file)
{
    return error_set(file->err, ERR_NO_MEMORY, "%s: no memory", file->notes.file);
}

static size_t find_column(const struct tracefile *file, const char *name)
{
    for (size_t i = 0; i < file->header_count; i++)
        if (strcmp(file->header[i], name) == 0)
            return i;
    return NO_COLUMN;
}

static int missing_column(struct tracefile *file, const char *use, const char *name)
{
    struct strbuf known;
    strbuf_init(&known);
    for (size_t i = 0; i < file->header_count && known.length < 200; i++)
        strbuf_printf(&known, "%s%s", i > 0 ? ", " : "", file->header[i]);
    int code = error_set(
        file->err, ERR_INVALID,
        "%s:1: there is no column \"%s\", which %s gives as the %s; the file has %s (delimiter '%c')",
        file->notes.file, name, file->mapping->source, use, known.text,
        csv_delimiter(file->reader) == '\t' ? 't' : csv_delimiter(file->reader));
    strbuf_free(&known);
    return code;
}

static int take_header(struct tracefile *file, const struct csv_row *row)
{
    if (row->problem != CSV_FINE)
        return error_set(file->err, ERR_INVALID, "%s:%zu: the line of column names cannot be read: %s",
                         file->notes.file, row->line, csv_problem_text(row->problem));
    file->header = arena_calloc(&file->arena, row->count, sizeof(*file->header));
    if (file->header == NULL)
        return no_memory(file);
    for (size_t i = 0; i < row->count; i++) {
        const char *name = row->fields[i].text;
        if (name[0] != '\0' && find_column(file, name) != NO_COLUMN)
            return error_set(file->err, ERR_INVALID,
                             "%s:%zu: the column \"%s\" comes twice (%zu and %zu); rename one",
                             file->notes.file, row->line, name, find_column(file, name) + 1, i + 1);
        file->header[i] = arena_strdup(&file->arena, name);
        if (file->header[i] == NULL)
            return no_memory(file);
        file->header_count = i + 1;
    }
    return 0;
}

/* Remembers the columns that one name is made of. */
static int bind_text(struct tracefile *file, const struct mapping_text *text, const char *use, bool *used)
{
    for (size_t i = 0; i < text->count; i++) {
        if (text->pieces[i].kind != PIECE_COLUMN)
            continue;
        size_t column = find_column(file, text->pieces[i].text);
        if (column == NO_COLUMN)
            return missing_column(file, use, text->pieces[i].text);
        used[column] = true;
    }
    return 0;
}

static bool name_is_from_run(const struct tracefile *file, enum mapping_name name)
{
    return file->options->run != NULL &&
           (name == MAPPING_CONTEXT || file->options->run->field[RUNS_CONTEXT_ID + (int)name][0] != '\0');
}

/* Every name must come from somewhere: the run, or the mapping. */
static int bind_names(struct tracefile *file, bool *used)
{
    _Static_assert((int)RUNS_WAFER == (int)MAPPING_WAFER,
                   "the names of runs.csv and of mappings have one order");
    for (int i = 0; i < MAPPING_NAMES; i++) {
        if (name_is_from_run(file, (enum mapping_name)i))
            continue;
        const struct mapping_text *text = &file->mapping->names[i];
        if (text->count == 0 && i <= MAPPING_CHAMBER)
            return error_set(
                file->err, ERR_INVALID,
                "%s: %s gives no %s, and there is no runs.csv that does; add the key %s to the mapping, or "
                "a runs.csv beside the file",
                file->notes.file, file->mapping->source, mapping_name_key((enum mapping_name)i),
                mapping_name_key((enum mapping_name)i));
        int code = bind_text(file, text, mapping_name_key((enum mapping_name)i), used);
        if (code != 0)
            return code;
    }
    for (size_t i = 0; i < file->mapping->attribute_count; i++) {
        int code =
            bind_text(file, &file->mapping->attributes[i].text, file->mapping->attributes[i].name, used);
        if (code != 0)
            return code;
    }
    file->name_source = arena_calloc(&file->arena, file->header_count, sizeof(*file->name_source));
    if (file->name_source == NULL)
        return no_memory(file);
    for (size_t i = 0; i < file->header_count; i++)
        if (used[i])
            file->name_source[file->name_source_count++] = i;
    return 0;
}

static int bind_time(struct tracefile *file, bool *used)
{
    const struct mapping *mapping = file->mapping;
    file->time = mapping->time;
    file->origin_time = mapping->origin_time;
    file->origin_column = NO_COLUMN;
    file->time_column = find_column(file, mapping->time_column);
    if (file->time_column == NO_COLUMN)
        return missing_column(file, "time", mapping->time_column);
    used[file->time_column] = true;
    if (mapping->origin == ORIGIN_COLUMN) {
        file->origin_column = find_column(file, mapping->origin_column);
        if (file->origin_column == NO_COLUMN)
            return missing_column(file, "origin of time", mapping->origin_column);
        used[file->origin_column] = true;
    }
    if (mapping->origin == ORIGIN_RUN &&
        (file->options->run == NULL || file->options->run->field[RUNS_STARTED_AT][0] == '\0'))
        return error_set(
            file->err, ERR_INVALID,
            "%s: %s says that times count from the run's start, and runs.csv has no started_at for it",
            file->notes.file, mapping->source);
    return 0;
}

static bool is_excepted(const struct mapping *mapping, const char *column)
{
    for (size_t i = 0; i < mapping->except_count; i++)
        if (strcmp(mapping->except[i], column) == 0)
            return true;
    return false;
}

static const char *sensor_name(const struct mapping *mapping, const char *column)
{
    for (size_t i = 0; i < mapping->sensor_count; i++)
        if (strcmp(mapping->sensors[i].column, column) == 0)
            return mapping->sensors[i].name;
    return column;
}

static int add_column(struct tracefile *file, const char **names, const char *name, size_t column)
{
    for (size_t i = 0; i < file->layout.count; i++)
        if (strcmp(names[i], name) == 0)
            return error_set(
                file->err, ERR_INVALID,
                "%s: two sensors would be called \"%s\"; give one another name with `as` or `rename` in %s",
                file->notes.file, name, file->mapping->source);
    names[file->layout.count] = name;
    file->source[file->layout.count++] = column;
    return 0;
}

static int bind_listed_sensors(struct tracefile *file, const char **names)
{
    int code = 0;
    for (size_t i = 0; i < file->mapping->sensor_count && code == 0; i++) {
        size_t column = find_column(file, file->mapping->sensors[i].column);
        if (column == NO_COLUMN)
            return missing_column(file, "sensor", file->mapping->sensors[i].column);
        code = add_column(file, names, file->mapping->sensors[i].name, column);
    }
    return code;
}

static int bind_sensors(struct tracefile *file, bool *used)
{
    const struct mapping *mapping = file->mapping;
    size_t most = file->header_count + mapping->sensor_count + 1;
    const char **names = arena_calloc(&file->arena, most, sizeof(*names));
    file->source = arena_calloc(&file->arena, most, sizeof(*file->source));
    if (names == NULL || file->source == NULL)
        return no_memory(file);
    size_t step = mapping->step_column == NULL ? NO_COLUMN : find_column(file, mapping->step_column);
    if (step == NO_COLUMN && mapping->step_required)
        return missing_column(file, "step", mapping->step_column);
    int code = mapping->all_sensors ? 0 : bind_listed_sensors(file, names);
    for (size_t i = 0; i < file->header_count && mapping->all_sensors && code == 0; i++)
        if (i != step && !used[i] && file->header[i][0] != '\0' && !is_excepted(mapping, file->header[i]))
            code = add_column(file, names, sensor_name(mapping, file->header[i]), i);
    if (code == 0 && file->layout.count == 0)
        code = error_set(file->err, ERR_INVALID,
                         "%s:1: no column is left for a sensor; check the delimiter and %s", file->notes.file,
                         mapping->source);
    file->layout.step = NO_COLUMN;
    if (code == 0 && step != NO_COLUMN) {
        file->layout.step = file->layout.count;
        code = add_column(file, names, TRACE_STEP_NAME, step);
    }
    file->layout.names = names;
    return code;
}

static int bind_columns(struct tracefile *file)
{
    bool *used = arena_calloc(&file->arena, file->header_count, sizeof(*used));
    if (used == NULL)
        return no_memory(file);
    int code = bind_names(file, used);
    if (code == 0)
        code = bind_time(file, used);
    return code == 0 ? bind_sensors(file, used) : code;
}

/* --- rows: to which context, at which time --- */

static const char *lookup_cell(void *arg, const char *column)
{
    struct tracefile *file = arg;
    size_t at = find_column(file, column);
    return at == NO_COLUMN ? NULL : file->row->fields[at].text;
}

static void bad_row(struct tracefile *file, const char *column, const char *text)
{
    series_note(&file->notes, file->current, IMPORT_BAD_ROW, file->row->line, column,
                "%s; the row is skipped", text);
    if (file->current != NULL)
        file->current->bad_rows++;
}

/* Renders a name of the current row into file->name. ERR_INVALID: the row is bad, and has been reported. */
static int render_text(struct tracefile *file, const struct mapping_text *text, const char *use)
{
    struct error words;
    strbuf_clear(&file->name);
    int code = mapping_text_render(text, lookup_cell, file, file->stem, file->dir, &file->name, &words);
    if (code == ERR_NO_MEMORY)
        return no_memory(file);
    if (code != 0)
        bad_row(file, use, words.text);
    return code;
}

static int render_name(struct tracefile *file, enum mapping_name name)
{
    if (!name_is_from_run(file, name))
        return render_text(file, &file->mapping->names[name], mapping_name_key(name));
    strbuf_clear(&file->name);
    strbuf_add(&file->name, file->options->run->field[RUNS_CONTEXT_ID + (int)name]);
    return file->name.failed ? no_memory(file) : 0;
}

static bool is_run_attribute(const struct tracefile *file, const char *name)
{
    const struct runs *runs = file->options->runs;
    for (size_t i = 0; runs != NULL && file->options->run != NULL && i < runs->extra_count; i++)
        if (strcmp(runs->extra_names[i], name) == 0)
            return file->options->run->extra[i][0] != '\0';
    return false;
}

static void add_attribute(struct strbuf *json, const char *name, const char *value)
{
    if (value[0] == '\0')
        return;
    if (json->length > 0)
        strbuf_add_char(json, ',');
    strbuf_add_json(json, name);
    strbuf_add_char(json, ':');
    strbuf_add_json(json, value);
}

/* The mapping's attributes, and runs.csv's, which go first where both have one. */
static int render_attributes(struct tracefile *file, struct series *series)
{
    struct strbuf json;
    int code = 0;
    strbuf_init(&json);
    for (size_t i = 0; i < file->mapping->attribute_count && code == 0; i++) {
        const struct mapping_attribute *attribute = &file->mapping->attributes[i];
        if (is_run_attribute(file, attribute->name))
            continue;
        code = render_text(file, &attribute->text, attribute->name);
        if (code == 0)
            add_attribute(&json, attribute->name, file->name.text);
    }
    for (size_t i = 0; file->options->run != NULL && i < file->options->runs->extra_count && code == 0; i++)
        add_attribute(&json, file->options->runs->extra_names[i], file->options->run->extra[i]);
    series->attributes_json = arena_strdup(&file->arena, json.text);
    if (code == 0 && (json.failed || series->attributes_json == NULL))
        code = no_memory(file);
    strbuf_free(&json);
    return code;
}

static size_t index_slot(const struct tracefile *file, const char *id)
{
    size_t slot = (size_t)hash64_text(id) & (file->index_size - 1);
    while (file->index[slot] != 0 &&
           strcmp(file->series[file->index[slot] - 1]->name[MAPPING_CONTEXT], id) != 0)
        slot = (slot + 1) & (file->index_size - 1);
    return slot;
}

/* Room for one more series, and an index that is at most half full. */
static int reserve_series(struct tracefile *file)
{
    if (file->series_count < file->series_capacity)
        return 0;
    size_t capacity = file->series_capacity == 0 ? 32 : file->series_capacity * 2;
    struct series **list = realloc(file->series, capacity * sizeof(*list));
    size_t *index = calloc(capacity * 2, sizeof(*index));
    if (list != NULL)
        file->series = list;
    if (list == NULL || index == NULL) {
        free(index);
        return no_memory(file);
    }
    free(file->index);
    file->index = index;
    file->index_size = capacity * 2;
    file->series_capacity = capacity;
    for (size_t i = 0; i < file->series_count; i++)
        file->index[index_slot(file, file->series[i]->name[MAPPING_CONTEXT])] = i + 1;
    return 0;
}

/* A new series that is named by the current row; its id is in file->name. */
static int add_series(struct tracefile *file, struct series **added)
{
    if (file->series_count == TRACEFILE_CONTEXTS_MAX)
        return error_set(file->err, ERR_LIMIT, "%s:%zu: more than %d contexts in one file; split it",
                         file->notes.file, file->row->line, TRACEFILE_CONTEXTS_MAX);
    struct series *series = arena_calloc(&file->arena, 1, sizeof(*series));
    if (series == NULL)
        return no_memory(file);
    series->line = file->row->line;
    for (int i = 0; i < MAPPING_NAMES; i++) {
        int code = render_name(file, (enum mapping_name)i);
        if (code != 0)
            return code;
        series->name[i] = arena_strdup(&file->arena, file->name.text);
        if (series->name[i] == NULL)
            return no_memory(file);
    }
    int code = render_attributes(file, series);
    if (code == 0)
        code = reserve_series(file);
    if (code != 0)
        return code;
    file->series[file->series_count++] = series;
    file->index[index_slot(file, series->name[MAPPING_CONTEXT])] = file->series_count;
    *added = series;
    return 0;
}

/* Notes names of the current row that are not its series' own. */
static int compare_names(struct tracefile *file, struct series *series)
{
    for (int i = MAPPING_TOOL; i < MAPPING_NAMES; i++) {
        if (series->changed_line[i] != 0)
            continue;
        int code = render_name(file, (enum mapping_name)i);
        if (code != 0)
            return code;
        if (strcmp(file->name.text, series->name[i]) != 0)
            series->changed_line[i] = file->row->line;
    }
    return 0;
}

/* Finds or makes the current row's series. Only a row whose name columns differ from those of the row before
 * is looked up. */
static int find_series(struct tracefile *file)
{
    strbuf_clear(&file->key);
    for (size_t i = 0; i < file->name_source_count; i++) {
        strbuf_add(&file->key, file->row->fields[file->name_source[i]].text);
        strbuf_add_char(&file->key, '\x1f');
    }
    if (file->current != NULL && strcmp(file->key.text, file->last_key.text) == 0)
        return 0;
    int code = render_name(file, MAPPING_CONTEXT);
    if (code != 0)
        return code;
    size_t found = file->index_size == 0 ? 0 : file->index[index_slot(file, file->name.text)];
    struct series *series = found == 0 ? NULL : file->series[found - 1];
    code = series == NULL ? add_series(file, &series) : compare_names(file, series);
    if (code != 0)
        return code;
    file->current = series;
    strbuf_clear(&file->last_key);
    strbuf_add(&file->last_key, file->key.text);
    return file->key.failed || file->last_key.failed ? no_memory(file) : 0;
}

/* A time cell by its rule, which its first value settles. */
static bool read_stamp(struct stamp_rule *rule, const struct csv_field *field, int64_t *us)
{
    if (rule->format == STAMP_AUTO && !stamp_resolve(rule, field->text, field->length))
        return false;
    return stamp_parse(rule, field->text, field->length, us);
}

/* Where the current series' relative times begin. */
static bool find_origin(struct tracefile *file)
{
    struct series *series = file->current;
    if (series->origin_known || file->mapping->origin == ORIGIN_FIXED)
        return true;
    struct csv_field cell = {.text = ""};
    struct stamp_rule run_time = {.format = STAMP_AUTO};
    if (file->mapping->origin == ORIGIN_COLUMN) {
        cell = file->row->fields[file->origin_column];
    } else {
        cell.text = file->options->run->field[RUNS_STARTED_AT];
        cell.length = strlen(cell.text);
    }
    series->origin_known = read_stamp(file->mapping->origin == ORIGIN_COLUMN ? &file->origin_time : &run_time,
                                      &cell, &series->origin_us);
    return series->origin_known;
}

static const char *time_expectation(const struct stamp_rule *rule)
{
    switch (rule->format) {
    case STAMP_AUTO:
        return "neither a date and time nor a count since 1970; say its format in a mapping";
    case STAMP_RFC3339:
        return "no date and time such as 2026-01-31T08:10:11.946Z";
    case STAMP_PATTERN:
        return "not what the mapping's pattern says";
    case STAMP_SECONDS:
    case STAMP_MS:
    case STAMP_US:
    case STAMP_NS:
        break;
    }
    return "no number, or no time within the years 0 to 9999";
}

static bool read_time(struct tracefile *file, int64_t *time_us)
{
    const struct csv_field *cell = &file->row->fields[file->time_column];
    char text[200];
    if (!find_origin(file)) {
        bad_row(file, file->mapping->origin == ORIGIN_COLUMN ? file->mapping->origin_column : NULL,
                "the time that the run's times count from cannot be read");
        return false;
    }
    if (file->mapping->origin != ORIGIN_FIXED)
        file->time.origin_us = file->current->origin_us;
    if (read_stamp(&file->time, cell, time_us))
        return true;
    snprintf(text, sizeof(text), "the time \"%.40s\" is %s", cell->text, time_expectation(&file->time));
    bad_row(file, file->mapping->time_column, text);
    return false;
}

/* --- cells --- */

static bool is_missing(const struct mapping *mapping, const struct csv_field *cell)
{
    if (cell->length == 0)
        return true;
    if ((cell->text[0] >= '0' && cell->text[0] <= '9') || cell->length > 64)
        return false;
    for (size_t i = 0; i < mapping->missing_count; i++)
        if (strcmp(mapping->missing[i], cell->text) == 0)
            return true;
    return false;
}

static bool step_value(const struct mapping *mapping, const char *text, double *value)
{
    for (size_t i = 0; i < mapping->step_value_count; i++) {
        if (strcmp(mapping->step_values[i].from, text) == 0) {
            *value = mapping->step_values[i].to;
            return true;
        }
    }
    return false;
}

static double read_cell(struct tracefile *file, size_t column)
{
    const struct csv_field *cell = &file->row->fields[file->source[column]];
    bool is_step = column == file->layout.step;
    double value;
    if (is_step && step_value(file->mapping, cell->text, &value))
        return value;
    if (number_parse(cell->text, cell->length, file->mapping->decimal, &value))
        return value;
    if (is_missing(file->mapping, cell)) {
        file->notes.summary->cells_missing++;
        return (double)NAN;
    }
    file->current->bad_cells++;
    series_note(&file->notes, file->current, IMPORT_BAD_CELL, file->row->line, file->layout.names[column],
                "\"%.40s\" is no number%s; the sample is taken as missing", cell->text,
                is_step ? " (name the steps under step.values in a mapping)" : "");
    return (double)NAN;
}

static int take_sample(struct tracefile *file, int64_t time_us)
{
    struct series *series = file->current;
    size_t columns = file->layout.count;
    size_t most = file->options->max_bytes > 0 ? file->options->max_bytes : TRACEFILE_BYTES_MAX;
    if (series_reserve(series, columns, &file->bytes) != 0)
        return no_memory(file);
    if (file->bytes > most)
        return error_set(file->err, ERR_LIMIT,
                         "%s:%zu: the file's samples take more than %zu bytes; split the file",
                         file->notes.file, file->row->line, most);
    series->time_us[series->count] = time_us;
    series->line_of[series->count] = file->row->line;
    for (size_t c = 0; c < columns; c++)
        series->values[series->count * columns + c] = read_cell(file, c);
    series->count++;
    return 0;
}

static int take_row(struct tracefile *file, const struct csv_row *row)
{
    char text[160];
    int64_t time_us;
    file->row = row;
    file->notes.summary->rows++;
    if (row->problem != CSV_FINE) {
        snprintf(text, sizeof(text), "column %zu: %s", row->problem_column, csv_problem_text(row->problem));
        bad_row(file, NULL, row->problem_column > 0 ? text : csv_problem_text(row->problem));
        return 0;
    }
    if (row->count != file->header_count) {
        snprintf(text, sizeof(text), "the row has %zu columns, the first line has %zu", row->count,
                 file->header_count);
        bad_row(file, NULL, text);
        return 0;
    }
    int code = find_series(file);
    if (code != 0)
        return code == ERR_INVALID ? 0 : code; /* reported as a bad row */
    return read_time(file, &time_us) ? take_sample(file, time_us) : 0;
}

/* --- the file as a whole --- */

static int compare_series(const void *left, const void *right)
{
    const struct series *a = *(struct series *const *)left;
    const struct series *b = *(struct series *const *)right;
    int64_t a_end = a->count > 0 ? a->time_us[a->count - 1] : INT64_MAX;
    int64_t b_end = b->count > 0 ? b->time_us[b->count - 1] : INT64_MAX;
    return context_compare_event(a_end, a->name[MAPPING_CONTEXT], b_end, b->name[MAPPING_CONTEXT]);
}

static int deliver_all(struct tracefile *file)
{
    const struct quality_rules *rules = &file->mapping->quality;
    for (size_t i = 0; i < file->series_count; i++)
        if (series_order(file->series[i], &file->layout, rules, &file->notes) != 0)
            return no_memory(file);
    if (file->series_count > 1)
        qsort(file->series, file->series_count, sizeof(struct series *), compare_series);
    for (size_t i = 0; i < file->series_count; i++) {
        arena_reset(&file->scratch);
        int code =
            series_deliver(file->series[i], &file->layout, rules, &file->notes, &file->scratch, file->err);
        if (code != 0)
            return code;
        series_free(file->series[i]);
    }
    return 0;
}

static int read_rows(struct tracefile *file)
{
    struct csv_row row;
    int got = csv_next(file->reader, &row, file->err);
    if (got < 0)
        return got;
    if (got == 1) {
        int code = take_header(file, &row);
        if (code == 0)
            code = bind_columns(file);
        if (code != 0)
            return code;
    }
    while (got == 1 && (got = csv_next(file->reader, &row, file->err)) == 1) {
        int code = take_row(file, &row);
        if (code != 0)
            return code;
    }
    return got;
}

static void note_empty_file(struct tracefile *file)
{
    if (file->series_count > 0)
        return;
    struct series named = {
        .name = {file->options->run != NULL ? file->options->run->field[RUNS_CONTEXT_ID] : NULL}};
    series_note(&file->notes, &named, IMPORT_EMPTY, 0, NULL,
                "the file has no readable row: no context is taken");
}

static void close_file(struct tracefile *file)
{
    csv_close(file->reader);
    for (size_t i = 0; i < file->series_count; i++)
        series_free(file->series[i]);
    free(file->series);
    free(file->index);
    strbuf_free(&file->key);
    strbuf_free(&file->last_key);
    strbuf_free(&file->name);
    arena_free(&file->scratch);
    arena_free(&file->arena);
}

/* Reads from an opened reader (NULL: opening has failed with `code`), and closes it. */
static int read_file(const char *path, struct csv_reader *reader, int code,
                     const struct tracefile_options *options, const struct import_sink *sink,
                     struct import_summary *summary, struct error *err)
{
    struct error own;
    struct tracefile file = {.options = options,
                             .mapping = options->mapping,
                             .reader = reader,
                             .err = err != NULL ? err : &own,
                             .notes = {.file = path, .sink = sink, .summary = summary}};
    arena_init(&file.arena, 0);
    arena_init(&file.scratch, 0);
    strbuf_init(&file.key);
    strbuf_init(&file.last_key);
    strbuf_init(&file.name);
    summary->files++;
    if (code == 0) {
        file.stem = tracefile_stem(path, &file.arena);
        file.dir = dir_name(path, &file.arena);
        code = file.stem == NULL || file.dir == NULL ? no_memory(&file) : read_rows(&file);
    }
    if (code != 0) {
        summary->files_failed++;
        series_note(&file.notes, NULL, IMPORT_BAD_FILE, 0, NULL, "%s", file.err->text);
    } else {
        note_empty_file(&file);
        code = deliver_all(&file);
    }
    close_file(&file);
    return code;
}

static struct csv_options reading_options(const struct mapping *mapping)
{
    return (struct csv_options){.delimiter = mapping->delimiter, .skip_lines = mapping->skip_lines};
}

int tracefile_read(const char *path, const struct tracefile_options *options, const struct import_sink *sink,
                   struct import_summary *summary, struct error *err)
{
    struct csv_options reading = reading_options(options->mapping);
    struct csv_reader *reader = NULL;
    struct error own;
    struct error *words = err != NULL ? err : &own;
    int code = csv_open(path, &reading, &reader, words);
    return read_file(path, reader, code, options, sink, summary, words);
}

int tracefile_read_bytes(const char *name, const void *bytes, size_t length,
                         const struct tracefile_options *options, const struct import_sink *sink,
                         struct import_summary *summary, struct error *err)
{
    struct csv_options reading = reading_options(options->mapping);
    struct csv_reader *reader = NULL;
    struct error own;
    struct error *words = err != NULL ? err : &own;
    int code = csv_open_bytes(name, bytes, length, &reading, &reader, words);
    return read_file(name, reader, code, options, sink, summary, words);
}
