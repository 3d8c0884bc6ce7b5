/* The samples of one context while a file is read, and what becomes of them at its end. */
#ifndef CHAMBERLAIN_COLLECTOR_SERIES_H
#define CHAMBERLAIN_COLLECTOR_SERIES_H

#include "base/arena.h"
#include "collector/mapping.h"
#include "collector/report.h"
#include "collector/runs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The columns that a file's contexts have. */
struct series_layout {
    const char *const *names;
    size_t count;
    size_t step; /* SIZE_MAX: none */
};

struct series {
    const char *name[MAPPING_NAMES]; /* in the file's arena; "" where there is none */
    const char *attributes_json;     /* members of a JSON object, without its braces */
    size_t line;                     /* of the first row */
    int64_t origin_us;               /* relative times count from here */
    bool origin_known;

    int64_t *time_us;
    size_t *line_of; /* by sample */
    double *values;  /* samples x columns */
    size_t count;
    size_t capacity;

    size_t bad_cells;
    size_t bad_rows;
    size_t changed_line[MAPPING_NAMES]; /* where a name first differs from the first row's; 0: nowhere */

    /* set by series_order */
    size_t tail_cut;
    size_t out_of_order;
    size_t repeated;
    size_t tail_line; /* of the first of each */
    size_t out_of_order_line;
    size_t repeated_line;
};

/* Where findings go while a file is read. */
struct series_notes {
    const char *file;
    const struct import_sink *sink;
    struct import_summary *summary;
    size_t reported[IMPORT_EVENTS];
};

/* Counts and reports a finding of `series` (NULL: of none). `column` may be NULL. */
void series_note(struct series_notes *notes, const struct series *series, enum import_event event,
                 size_t line, const char *column, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

/* Room for one more sample; `*bytes` grows by what was allocated. ERR_NO_MEMORY. */
int series_reserve(struct series *series, size_t columns, size_t *bytes);

/* Gives the samples back; the names are the arena's. */
void series_free(struct series *series);

/* Takes out what does not follow in time, and repeated records; reports both. ERR_NO_MEMORY. */
int series_order(struct series *series, const struct series_layout *layout, const struct quality_rules *rules,
                 struct series_notes *notes);

/* Judges the quality of an ordered series and gives it to the sink as a context; an empty one, or one whose
 * names cannot be used, is reported instead. `arena` takes what lives as long as the call. Returns what the
 * sink returns, or ERR_NO_MEMORY. */
int series_deliver(struct series *series, const struct series_layout *layout,
                   const struct quality_rules *rules, struct series_notes *notes, struct arena *arena,
                   struct error *err);

#endif
