/* Aligned text tables for people. Pure: the table is appended to a text. */
#ifndef CHAMBERLAIN_CLI_TABLE_H
#define CHAMBERLAIN_CLI_TABLE_H

#include "base/arena.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>

struct table_column {
    const char *title;
    bool right; /* numbers: aligned to the right */
};

struct table {
    struct arena arena;
    const struct table_column *columns; /* borrowed */
    size_t column_count;
    const char **cells; /* row by row */
    size_t cell_count, cell_capacity;
    bool failed; /* out of memory: table_format writes what there is */
};

void table_init(struct table *table, const struct table_column *columns, size_t column_count);
void table_free(struct table *table);

/* The next cell, left to right; after the last column a new row begins. NULL is an empty cell. Control
 * characters, which a terminal could obey, become question marks. */
void table_add(struct table *table, const char *text);
void table_addf(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A number in at most 6 digits; "-" for NaN. */
void table_add_number(struct table *table, double value);

size_t table_rows(const struct table *table);

/* Title line, then the rows; two spaces between columns, none at a line's end. `indent` spaces before each
 * line. */
void table_format(const struct table *table, size_t indent, struct strbuf *out);

/* Characters that a UTF-8 text takes on a terminal, wide ones counted once. */
size_t table_text_width(const char *text);

#endif
