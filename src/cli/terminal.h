/* The terminal, if there is one: its width, whether colour is welcome, and a line of progress on standard
 * error. */
#ifndef CHAMBERLAIN_CLI_TERMINAL_H
#define CHAMBERLAIN_CLI_TERMINAL_H

#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TERMINAL_DEFAULT_COLUMNS = 80,
    PROGRESS_FIRST_MS = 300,       /* shorter work shows nothing */
    PROGRESS_TERMINAL_MS = 200,    /* between two lines on a terminal */
    PROGRESS_FILE_FIRST_MS = 2000, /* elsewhere only long work shows progress, */
    PROGRESS_FILE_MS = 10000       /* and seldom */
};

/* Of the terminal on standard output; COLUMNS if that is none; else TERMINAL_DEFAULT_COLUMNS. */
size_t terminal_columns(void);

/* Standard output is a terminal, and NO_COLOR is not set. */
bool terminal_colour(void);

/* Writes all of `text` to standard output. Returns 0, or EXIT_FAILED with the reason on standard error
 * (`failed` text included: it would be cut). */
int terminal_print(const struct strbuf *text);

struct progress {
    const char *what; /* "verified" */
    int64_t total;    /* 0: not known */
    bool terminal;
    bool shown; /* a line stands on the terminal */
    int64_t start_ns, next_ns;
};

void progress_begin(struct progress *progress, const char *what, int64_t total);
void progress_update(struct progress *progress, int64_t done);
void progress_end(struct progress *progress); /* takes the line away */

#endif
