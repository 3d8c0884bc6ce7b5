/* What an import tells while it works: contexts, findings about the data, and their sums. This is the seam
 * between reading files and what is done with them: reading knows no store and no bus. */
#ifndef CHAMBERLAIN_COLLECTOR_REPORT_H
#define CHAMBERLAIN_COLLECTOR_REPORT_H

#include "base/error.h"
#include "base/log.h"
#include "base/strbuf.h"
#include "chart/context.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One sensor of a context (or its step), beside the times of its context. */
struct import_column {
    const char *name;
    const double *value; /* NaN: a missing or unreadable sample */
};

/* A context as read. Everything is borrowed for the time of the call it is given to. */
struct import_context {
    struct context
        context; /* svid_count: columns, the step included; point_count: columns x samples; chunk_count: 0 */
    const char *file;
    size_t line; /* of its first row */
    bool low_quality;
    size_t sample_count;                 /* at least 1 */
    const int64_t *time_us;              /* never descending */
    size_t column_count;                 /* at least 1 */
    const struct import_column *columns; /* in the file's order, the step last */
};

/* What can be found. docs/import.md says what becomes of each. */
enum import_event {
    IMPORT_BAD_ROW,       /* skipped: wrong number of columns, broken quotes, unreadable time or name */
    IMPORT_BAD_CELL,      /* a missing sample: the cell is no number */
    IMPORT_TAIL_CUT,      /* cut: the last samples lie before their predecessors, as the next run's do */
    IMPORT_OUT_OF_ORDER,  /* cut, quality low: time goes backwards elsewhere */
    IMPORT_REPEATED,      /* cut: the same record twice */
    IMPORT_TOO_FEW,       /* quality low */
    IMPORT_MISSING_STEP,  /* quality low */
    IMPORT_GAP,           /* quality low */
    IMPORT_UNREADABLE,    /* quality low: too many bad cells or rows */
    IMPORT_NAME_CHANGED,  /* quality low: tool, chamber, ... change within the context */
    IMPORT_EMPTY,         /* no context: no readable sample */
    IMPORT_REFUSED,       /* no context: its names cannot be used */
    IMPORT_CONFLICT,      /* no context: one of its id is stored already, with other content */
    IMPORT_MISSING_TRACE, /* runs.csv names a run that has no file */
    IMPORT_BAD_FILE,      /* the file cannot be read at all: nothing of it is taken */
    IMPORT_EVENTS
};

struct import_report {
    enum import_event event;
    const char *file;
    size_t line;            /* 0: the file as a whole */
    const char *column;     /* NULL: the row as a whole */
    const char *context_id; /* NULL: of no context, or not known */
    const char *text;       /* what is wrong, and where it helps, how to mend it */
};

struct import_sink {
    /* Takes a context: packs, stores and announces it. One that is stored already, with the same content, is
     * taken (0). ERR_CONFLICT, when another content is stored under its id, is reported, counted, and passed
     * over; any other error stops the import. */
    int (*take)(void *arg, const struct import_context *context, struct error *err);
    /* Takes a finding; NULL: findings are only counted. */
    void (*report)(void *arg, const struct import_report *report);
    void *arg;
};

struct import_summary {
    size_t files;
    size_t files_failed;
    size_t contexts; /* given to `take` */
    size_t contexts_low;
    size_t rows;    /* read, the header not counted */
    size_t samples; /* in the contexts given */
    size_t samples_tail_cut;
    size_t samples_out_of_order;
    size_t samples_repeated;
    size_t cells_missing;         /* empty or marked as missing: no fault */
    size_t events[IMPORT_EVENTS]; /* how often each was found (rows, cells, contexts or files, as its line
                                     above says) */
};

enum { IMPORT_REPORTS_PER_FILE_MAX = 20 }; /* of one kind: the others are counted only */

/* The name of an event in reports and in the summary: "bad_row", ... */
const char *import_event_name(enum import_event event);

/* How loud a finding is: info for what is cut as a matter of course (tail_cut, repeated), error for what is
 * not taken at all (refused, conflict, empty,
 * missing_trace, bad_file), else a warning. */
enum log_level import_event_level(enum import_event event);

/* Counts an event and, unless it is over its bound for this file, reports it. `reported` counts by event
 * since the file was opened; the report that reaches the bound says that it is the last. */
void import_note(const struct import_sink *sink, struct import_summary *summary,
                 size_t reported[IMPORT_EVENTS], const struct import_report *report);

/* "FILE:LINE: column NAME: TEXT (context ID)", as far as known. */
void import_report_format(const struct import_report *report, struct strbuf *text);

/* The summary as one JSON object. */
void import_summary_format(const struct import_summary *summary, struct strbuf *json);

#endif
