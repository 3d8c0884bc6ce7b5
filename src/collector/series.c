#include "collector/series.h"

#include "collector/quality.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void series_note(struct series_notes *notes, const struct series *series, enum import_event event,
                 size_t line, const char *column, const char *format, ...)
{
    char text[ERROR_TEXT_BYTES];
    struct error words;
    va_list args;
    va_start(args, format);
    error_vset(&words, ERR_INVALID, format, args);
    va_end(args);
    memcpy(text, words.text, sizeof(text));
    struct import_report report = {.event = event,
                                   .file = notes->file,
                                   .line = line,
                                   .column = column,
                                   .context_id = series != NULL ? series->name[MAPPING_CONTEXT] : NULL,
                                   .text = text};
    import_note(notes->sink, notes->summary, notes->reported, &report);
}

int series_reserve(struct series *series, size_t columns, size_t *bytes)
{
    if (series->count < series->capacity)
        return 0;
    size_t capacity = series->capacity == 0 ? 128 : series->capacity * 2;
    int64_t *time_us = realloc(series->time_us, capacity * sizeof(*time_us));
    if (time_us != NULL)
        series->time_us = time_us;
    size_t *line_of = realloc(series->line_of, capacity * sizeof(*line_of));
    if (line_of != NULL)
        series->line_of = line_of;
    double *values = realloc(series->values, capacity * columns * sizeof(*values));
    if (values != NULL)
        series->values = values;
    if (time_us == NULL || line_of == NULL || values == NULL)
        return ERR_NO_MEMORY;
    *bytes +=
        (capacity - series->capacity) * (sizeof(*time_us) + sizeof(*line_of) + columns * sizeof(*values));
    series->capacity = capacity;
    return 0;
}

void series_free(struct series *series)
{
    free(series->time_us);
    free(series->line_of);
    free(series->values);
    series->time_us = NULL;
    series->line_of = NULL;
    series->values = NULL;
    series->count = series->capacity = 0;
}

/* Moves the kept samples together. */
static void compact(struct series *series, size_t columns, const unsigned char *keep)
{
    size_t kept = 0;
    for (size_t i = 0; i < series->count; i++) {
        if (keep[i] == 0)
            continue;
        series->time_us[kept] = series->time_us[i];
        series->line_of[kept] = series->line_of[i];
        memmove(series->values + kept * columns, series->values + i * columns,
                columns * sizeof(*series->values));
        kept++;
    }
    series->count = kept;
}

static size_t first_dropped_line(const struct series *series, const unsigned char *keep)
{
    const unsigned char *at = memchr(keep, 0, series->count);
    return at == NULL ? 0 : series->line_of[at - keep];
}

static struct quality_series quality_view(const struct series *series, const struct series_layout *layout)
{
    return (struct quality_series){.time_us = series->time_us,
                                   .values = series->values,
                                   .count = series->count,
                                   .columns = layout->count,
                                   .step_column = layout->step};
}

static void drop_out_of_order(struct series *series, const struct series_layout *layout,
                              const struct quality_rules *rules, struct series_notes *notes,
                              unsigned char *keep, size_t kept)
{
    size_t dropped = series->count - kept;
    size_t line = first_dropped_line(series, keep);
    if (dropped == 0)
        return;
    if (quality_is_tail(keep, series->count, rules->tail_cut_samples)) {
        series->tail_cut = dropped;
        series->tail_line = line;
        notes->summary->samples_tail_cut += dropped;
        series_note(notes, series, IMPORT_TAIL_CUT, line, NULL,
                    "cut at the end: %zu, whose time lies before the samples ahead: part of another run",
                    dropped);
    } else {
        series->out_of_order = dropped;
        series->out_of_order_line = line;
        notes->summary->samples_out_of_order += dropped;
        series_note(notes, series, IMPORT_OUT_OF_ORDER, line, NULL,
                    "time goes backwards: samples out of order cut: %zu; quality low", dropped);
    }
    compact(series, layout->count, keep);
}

int series_order(struct series *series, const struct series_layout *layout, const struct quality_rules *rules,
                 struct series_notes *notes)
{
    if (series->count == 0)
        return 0;
    unsigned char *keep = malloc(series->count);
    size_t kept = keep != NULL ? quality_keep_ordered(series->time_us, series->count, keep) : SIZE_MAX;
    if (kept == SIZE_MAX) {
        free(keep);
        return ERR_NO_MEMORY;
    }
    drop_out_of_order(series, layout, rules, notes, keep, kept);
    memset(keep, 1, series->count);
    struct quality_series view = quality_view(series, layout);
    series->repeated = quality_drop_repeated(&view, keep);
    if (series->repeated > 0) {
        series->repeated_line = first_dropped_line(series, keep);
        notes->summary->samples_repeated += series->repeated;
        series_note(notes, series, IMPORT_REPEATED, series->repeated_line, NULL,
                    "samples that repeat the one before in every column cut: %zu", series->repeated);
        compact(series, layout->count, keep);
    }
    free(keep);
    return 0;
}

/* The findings about one context, as members of two JSON arrays. */
struct findings {
    struct strbuf reasons; /* of low quality */
    struct strbuf notes;   /* that do not lower it */
};

static void add_finding(struct strbuf *list, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_finding(struct strbuf *list, const char *format, ...)
{
    struct error words;
    va_list args;
    va_start(args, format);
    error_vset(&words, ERR_INVALID, format, args);
    va_end(args);
    if (list->length > 0)
        strbuf_add_char(list, ',');
    strbuf_add_json(list, words.text);
}

static void judge_order(const struct series *series, struct findings *findings)
{
    if (series->tail_cut > 0)
        add_finding(&findings->notes, "tail_cut: %zu, first at line %zu", series->tail_cut,
                    series->tail_line);
    if (series->repeated > 0)
        add_finding(&findings->notes, "repeated: %zu, first at line %zu", series->repeated,
                    series->repeated_line);
    if (series->out_of_order > 0)
        add_finding(&findings->reasons, "out_of_order: %zu, first at line %zu", series->out_of_order,
                    series->out_of_order_line);
}

static void judge_samples(const struct series *series, const struct series_layout *layout,
                          const struct quality_rules *rules, struct series_notes *notes,
                          struct findings *findings)
{
    struct quality_series view = quality_view(series, layout);
    double step = 0;
    size_t at = 0;
    int64_t gap_us = quality_longest_gap(series->time_us, series->count, &at);
    if (series->count < rules->min_samples) {
        add_finding(&findings->reasons, "too_few: %zu of at least %zu samples", series->count,
                    rules->min_samples);
        series_note(notes, series, IMPORT_TOO_FEW, series->line, NULL,
                    "samples: %zu, and a sound context has at least %zu: quality low", series->count,
                    rules->min_samples);
    }
    if (quality_missing_step(rules, &view, &step)) {
        add_finding(&findings->reasons, "missing_step: %g", step);
        series_note(notes, series, IMPORT_MISSING_STEP, series->line, NULL, "step %g is missing: quality low",
                    step);
    }
    if (rules->max_gap_us > 0 && gap_us > rules->max_gap_us) {
        add_finding(&findings->reasons, "gap: %.3f s before line %zu", (double)gap_us / 1e6,
                    series->line_of[at]);
        series_note(notes, series, IMPORT_GAP, series->line_of[at], NULL,
                    "%.3f s without a sample, and %.3f s are allowed: quality low", (double)gap_us / 1e6,
                    (double)rules->max_gap_us / 1e6);
    }
}

static void judge_reading(const struct series *series, const struct series_layout *layout,
                          const struct quality_rules *rules, struct series_notes *notes,
                          struct findings *findings)
{
    double cells = (double)series->count * (double)layout->count;
    double rows = (double)(series->count + series->bad_rows);
    bool low = (double)series->bad_cells > rules->max_bad_fraction * cells ||
               (double)series->bad_rows > rules->max_bad_fraction * rows;
    if (series->bad_cells == 0 && series->bad_rows == 0)
        return;
    add_finding(low ? &findings->reasons : &findings->notes, "unreadable: %zu cells and %zu rows",
                series->bad_cells, series->bad_rows);
    if (low)
        series_note(notes, series, IMPORT_UNREADABLE, series->line, NULL,
                    "%zu cells and %zu rows are unreadable, more than %g of all: quality low",
                    series->bad_cells, series->bad_rows, rules->max_bad_fraction);
}

static void judge_names(const struct series *series, struct series_notes *notes, struct findings *findings)
{
    for (int i = 0; i < MAPPING_NAMES; i++) {
        if (series->changed_line[i] == 0)
            continue;
        const char *key = mapping_name_key((enum mapping_name)i);
        add_finding(&findings->reasons, "name_changed: %s at line %zu", key, series->changed_line[i]);
        series_note(notes, series, IMPORT_NAME_CHANGED, series->changed_line[i], NULL,
                    "the %s changes within the context; the first is kept, quality low. Make it part of the "
                    "context's "
                    "name in the mapping if these are two runs",
                    key);
    }
}

static char *format_extra(const struct series *series, const struct findings *findings, struct arena *arena)
{
    bool low = findings->reasons.length > 0;
    bool noted = findings->notes.length > 0;
    bool attributes = series->attributes_json[0] != '\0';
    return arena_printf(
        arena, "{%s%s%s%s%s%s%s%s%s}", series->attributes_json, attributes && (low || noted) ? "," : "",
        low ? "\"quality\":\"low\",\"quality_reasons\":[" : "", findings->reasons.text, low ? "]" : "",
        low && noted ? "," : "", noted ? "\"quality_notes\":[" : "", findings->notes.text, noted ? "]" : "");
}

/* Row by row into column by column. */
static const struct import_column *transpose(const struct series *series, const struct series_layout *layout,
                                             struct arena *arena)
{
    struct import_column *columns = arena_calloc(arena, layout->count, sizeof(*columns));
    double *values = arena_calloc(arena, layout->count * series->count, sizeof(*values));
    if (columns == NULL || values == NULL)
        return NULL;
    for (size_t c = 0; c < layout->count; c++) {
        double *column = values + c * series->count;
        for (size_t i = 0; i < series->count; i++)
            column[i] = series->values[i * layout->count + c];
        columns[c] = (struct import_column){.name = layout->names[c], .value = column};
    }
    return columns;
}

static void fill_context(const struct series *series, const struct series_layout *layout, const char *extra,
                         struct context *context)
{
    *context = (struct context){.id = series->name[MAPPING_CONTEXT],
                                .tool = series->name[MAPPING_TOOL],
                                .chamber = series->name[MAPPING_CHAMBER],
                                .recipe = series->name[MAPPING_RECIPE],
                                .lot = series->name[MAPPING_LOT],
                                .wafer = series->name[MAPPING_WAFER],
                                .start_us = series->time_us[0],
                                .end_us = series->time_us[series->count - 1],
                                .svid_count = (int64_t)layout->count,
                                .point_count = (int64_t)(layout->count * series->count),
                                .extra_json = extra};
}

/* True when the names make an announcement; else `err` says what is wrong with them. */
static bool names_are_usable(const struct context *context, struct error *err)
{
    if (strlen(context->extra_json) > CONTEXT_JSON_MAX_BYTES / 2) {
        error_set(err, ERR_LIMIT, "its attributes have more than %d bytes", CONTEXT_JSON_MAX_BYTES / 2);
        return false;
    }
    return context_check(context, err) == 0;
}

static int deliver(struct series *series, const struct series_layout *layout, struct series_notes *notes,
                   struct findings *findings, struct arena *arena, struct error *err)
{
    struct import_context made = {.file = notes->file,
                                  .line = series->line,
                                  .low_quality = findings->reasons.length > 0,
                                  .sample_count = series->count,
                                  .time_us = series->time_us,
                                  .column_count = layout->count};
    const char *extra = format_extra(series, findings, arena);
    made.columns = transpose(series, layout, arena);
    if (extra == NULL || made.columns == NULL || findings->reasons.failed || findings->notes.failed)
        return error_set(err, ERR_NO_MEMORY, "%s:%zu: no memory for a context", notes->file, series->line);
    fill_context(series, layout, extra, &made.context);
    struct error refusal;
    if (!names_are_usable(&made.context, &refusal)) {
        series_note(notes, series, IMPORT_REFUSED, series->line, NULL, "the context is not taken: %s",
                    refusal.text);
        return 0;
    }
    int code = notes->sink->take(notes->sink->arg, &made, err);
    if (code == ERR_CONFLICT) {
        series_note(notes, series, IMPORT_CONFLICT, series->line, NULL, "the context is not taken: %s",
                    err->text);
        return 0;
    }
    if (code != 0)
        return code;
    notes->summary->contexts++;
    notes->summary->contexts_low += made.low_quality;
    notes->summary->samples += series->count;
    return 0;
}

int series_deliver(struct series *series, const struct series_layout *layout,
                   const struct quality_rules *rules, struct series_notes *notes, struct arena *arena,
                   struct error *err)
{
    if (series->count == 0) {
        series_note(notes, series, IMPORT_EMPTY, series->line, NULL,
                    "the context has no readable sample: not taken");
        return 0;
    }
    struct findings findings;
    strbuf_init(&findings.reasons);
    strbuf_init(&findings.notes);
    judge_order(series, &findings);
    judge_samples(series, layout, rules, notes, &findings);
    judge_reading(series, layout, rules, notes, &findings);
    judge_names(series, notes, &findings);
    int code = deliver(series, layout, notes, &findings, arena, err);
    strbuf_free(&findings.reasons);
    strbuf_free(&findings.notes);
    return code;
}
