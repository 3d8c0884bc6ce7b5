/* What is known about runs afterwards: the labels of a runs.csv, for `evaluate` and `charts learn`. They are
 * kept away from contexts on purpose: nothing that judges may see them. */
#ifndef CHAMBERLAIN_COLLECTOR_LABELS_H
#define CHAMBERLAIN_COLLECTOR_LABELS_H

#include "base/arena.h"
#include "base/error.h"
#include "collector/runs.h"

#include <stdbool.h>
#include <stddef.h>

struct label {
    const char *context_id;
    const char *label; /* "normal", "fault", or whatever the file says; "" when nothing is known */
    const char *fault; /* which fault, in words; "" */
    const char *lot;
    size_t order; /* 0, 1, 2, ...: the position in the file */
};

struct labels {
    struct runs runs; /* owns the texts */
    struct label *rows;
    size_t count;
};

/* Which runs to choose; zero in each member means all. */
struct labels_choice {
    const char *only; /* those with this label */
    size_t limit;     /* the first so many of each group */
    const char *per; /* what makes a group: tool, chamber, recipe, lot, wafer, label, fault or another column;
                        NULL: all are one group */
};

/* Reads a runs.csv. Bad rows are counted in `summary` and, where `sink` (may be NULL) has a report, reported.
 * Errors as runs_load, and ERR_INVALID when the file has no column label. Give it back with labels_free, also
 * after an error. */
int labels_load(const char *path, const struct import_sink *sink, struct import_summary *summary,
                struct labels *labels, struct error *err);

void labels_free(struct labels *labels);

/* NULL when the file does not have the run. */
const struct label *labels_find(const struct labels *labels, const char *context_id);

/* The chosen runs in the file's order, an array in `arena`. Finding none is no error. ERR_INVALID: there is
 * no column of the name `per`; ERR_NO_MEMORY. */
int labels_choose(const struct labels *labels, const struct labels_choice *choice, struct arena *arena,
                  const struct label ***chosen, size_t *count, struct error *err);

#endif
