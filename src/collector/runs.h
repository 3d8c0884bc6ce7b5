/* runs.csv: one row a run, beside the trace files of the runs.
 *
 *     context_id,tool,chamber,recipe,lot,wafer,label,fault
 *     l2901,LAM9600,PM1,AL_STACK_ETCH,exp29,1,normal,
 *
 * context_id, tool and chamber must be there (tool_id and chamber_id are the same columns); the others may.
 * started_at is where a trace with relative times begins. label and fault are what is known about the run
 * afterwards: they are for evaluation and never travel with a context. Any other column becomes an attribute
 * of the context. */
#ifndef CHAMBERLAIN_COLLECTOR_RUNS_H
#define CHAMBERLAIN_COLLECTOR_RUNS_H

#include "base/arena.h"
#include "base/error.h"
#include "collector/report.h"

#include <stdbool.h>
#include <stddef.h>

enum { RUNS_MAX = 1000000, RUNS_BYTES_MAX = 512 * 1024 * 1024 };

enum runs_field {
    RUNS_CONTEXT_ID,
    RUNS_TOOL,
    RUNS_CHAMBER,
    RUNS_RECIPE,
    RUNS_LOT,
    RUNS_WAFER,
    RUNS_LABEL,
    RUNS_FAULT,
    RUNS_STARTED_AT,
    RUNS_FIELDS
};

struct runs_row {
    const char *field[RUNS_FIELDS]; /* "" when there is no such column or it is empty */
    const char *const *extra;       /* as many as the file's extra_names */
    size_t line;
};

struct runs {
    struct arena arena;
    const char *file;
    struct runs_row *rows; /* in the file's order */
    size_t count;
    const char *const *extra_names;
    size_t extra_count;
    bool present[RUNS_FIELDS]; /* the file has the column */
    size_t *index;             /* private: rows by their id's hash, + 1 */
    size_t index_size;
};

/* Reads a whole runs.csv. A bad row (wrong columns, no id, an id for the second time) is reported, counted
 * and skipped. ERR_NOT_FOUND, ERR_IO, ERR_CORRUPT; ERR_INVALID when a column that must be there is not, or
 * comes twice; ERR_LIMIT over RUNS_MAX rows; ERR_NO_MEMORY. Give it back with runs_free, also after an error.
 */
int runs_load(const char *path, const struct import_sink *sink, struct import_summary *summary,
              struct runs *runs, struct error *err);

void runs_free(struct runs *runs);

/* Which field a column of this name is (an enum runs_field), or -1. */
int runs_field(const char *name);

/* NULL when there is no such run. */
const struct runs_row *runs_find(const struct runs *runs, const char *context_id);

#endif
