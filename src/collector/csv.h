/* Rows out of a delimited text file: CSV, TSV or semicolons, plain or gzip (told by its first bytes, not its
 * name).
 *
 * RFC 4180 quoting: a field may stand in double quotes, "" inside is one quote, and delimiters and line ends
 * inside belong to the field. Beyond the RFC: LF and CRLF ends, a UTF-8 byte order mark is skipped, blank
 * lines are skipped, a quote inside an unquoted field is an ordinary character, and blanks around an unquoted
 * field are not part of it.
 *
 * A row that cannot be read is handed out like any other, with its problem, so that the caller can report and
 * count it and go on; after an unclosed quote reading resumes at the line after the one that opened it. The
 * file is read in a stream: memory is bounded by the longest line. Used by one thread at a time. */
#ifndef CHAMBERLAIN_COLLECTOR_CSV_H
#define CHAMBERLAIN_COLLECTOR_CSV_H

#include "base/error.h"

#include <stddef.h>

enum {
    CSV_LINE_MAX_BYTES = 1024 * 1024, /* of one record, its line ends included */
    CSV_COLUMNS_MAX = 4096,
    CSV_QUOTED_LINES_MAX = 100 /* lines one record may span: bounds what an unclosed quote costs */
};

enum csv_problem {
    CSV_FINE,
    CSV_LINE_TOO_LONG,
    CSV_TOO_MANY_COLUMNS,
    CSV_QUOTE_OPEN,  /* a quote is never closed */
    CSV_QUOTE_STRAY, /* text between a closing quote and the delimiter */
    CSV_ZERO_BYTE    /* binary data */
};

/* Zero in each member means the default. */
struct csv_options {
    char delimiter;     /* 0: the most frequent of tab, comma and semicolon in the first line */
    size_t skip_lines;  /* lines before the first record (an equipment's preamble) */
    size_t max_bytes;   /* of a record; 0: CSV_LINE_MAX_BYTES */
    size_t max_columns; /* 0: CSV_COLUMNS_MAX */
};

struct csv_field {
    const char *text; /* terminated */
    size_t length;
};

struct csv_row {
    const struct csv_field *fields; /* valid until the next call on the reader */
    size_t count;                   /* 0 when there is a problem */
    size_t line;                    /* 1-based line on which the record starts */
    enum csv_problem problem;
    size_t problem_column; /* 1-based column in which the problem lies; 0 when it is the whole line */
};

struct csv_reader;

/* Opens a file. ERR_NOT_FOUND, ERR_IO; ERR_INVALID for UTF-16 text, which must be converted first. */
int csv_open(const char *path, const struct csv_options *options, struct csv_reader **reader,
             struct error *err);

/* Reads `length` bytes of memory instead (plain text only); they are borrowed until csv_close. `name` stands
 * in messages. */
int csv_open_bytes(const char *name, const void *bytes, size_t length, const struct csv_options *options,
                   struct csv_reader **reader, struct error *err);

void csv_close(struct csv_reader *reader);

/* 1: `row` is filled (look at its problem first); 0: end of file. Negative: ERR_CORRUPT (damaged or cut gzip
 * data), ERR_IO, ERR_NO_MEMORY; the reader gives nothing more then. */
int csv_next(struct csv_reader *reader, struct csv_row *row, struct error *err);

/* The delimiter in use; only known after the first csv_next. */
char csv_delimiter(const struct csv_reader *reader);

/* What is wrong and how to mend it, in words: "a quote is opened and never closed; close it or double it". */
const char *csv_problem_text(enum csv_problem problem);

#endif
