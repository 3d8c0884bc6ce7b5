#include "collector/csv.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { FIRST_BUFFER_BYTES = 64 * 1024, GZ_BUFFER_BYTES = 128 * 1024 };

struct csv_reader {
    char *name;
    gzFile file;       /* NULL: reads from `bytes` */
    const char *bytes; /* borrowed */
    size_t bytes_left;

    char *buffer; /* [start, end) is read and not yet handed out; one spare byte behind for a terminator */
    size_t capacity;
    size_t start;
    size_t end;
    bool eof;
    int failure; /* sticky */
    bool begun;  /* byte order mark, preamble and delimiter are behind us */
    size_t line; /* of the byte at `start` */

    struct csv_field *fields;
    size_t field_capacity;
    char delimiter;
    size_t skip_lines;
    size_t max_bytes;
    size_t max_columns;
};

static struct csv_reader *reader_new(const char *name, const struct csv_options *options)
{
    static const struct csv_options defaults;
    struct csv_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return NULL;
    if (options == NULL)
        options = &defaults;
    reader->delimiter = options->delimiter;
    reader->skip_lines = options->skip_lines;
    reader->max_bytes = options->max_bytes > 0 ? options->max_bytes : CSV_LINE_MAX_BYTES;
    reader->max_columns = options->max_columns > 0 ? options->max_columns : CSV_COLUMNS_MAX;
    reader->line = 1;
    reader->capacity = FIRST_BUFFER_BYTES;
    reader->buffer = malloc(reader->capacity + 1);
    reader->name = strdup(name);
    if (reader->buffer == NULL || reader->name == NULL) {
        csv_close(reader);
        return NULL;
    }
    return reader;
}

int csv_open(const char *path, const struct csv_options *options, struct csv_reader **reader,
             struct error *err)
{
    *reader = NULL;
    struct csv_reader *made = reader_new(path, options);
    if (made == NULL)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for a reader", path);
    made->file = gzopen(path, "rbe");
    if (made->file == NULL) {
        int reason = errno;
        csv_close(made);
        return error_set(err, reason == ENOENT ? ERR_NOT_FOUND : ERR_IO, "%s: cannot be opened: %s", path,
                         strerror(reason));
    }
    gzbuffer(made->file, GZ_BUFFER_BYTES);
    *reader = made;
    return 0;
}

int csv_open_bytes(const char *name, const void *bytes, size_t length, const struct csv_options *options,
                   struct csv_reader **reader, struct error *err)
{
    *reader = reader_new(name, options);
    if (*reader == NULL)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for a reader", name);
    (*reader)->bytes = bytes;
    (*reader)->bytes_left = length;
    return 0;
}

void csv_close(struct csv_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->file != NULL)
        gzclose_r(reader->file);
    free(reader->buffer);
    free(reader->fields);
    free(reader->name);
    free(reader);
}

char csv_delimiter(const struct csv_reader *reader)
{
    return reader->delimiter;
}

const char *csv_problem_text(enum csv_problem problem)
{
    switch (problem) {
    case CSV_FINE:
        break;
    case CSV_LINE_TOO_LONG:
        return "the line is longer than a record may be; check for missing line ends";
    case CSV_TOO_MANY_COLUMNS:
        return "the line has more columns than a file may have; check the delimiter";
    case CSV_QUOTE_OPEN:
        return "a quote is opened and never closed; close it, or double it where it is meant as text";
    case CSV_QUOTE_STRAY:
        return "text follows a closing quote; put the whole field in quotes and double those inside";
    case CSV_ZERO_BYTE:
        return "a zero byte: this is binary data or UTF-16; export the file as UTF-8 text";
    }
    return "no problem";
}

/* Reads more input behind `end`; at the end of input sets `eof`. */
static int reader_read(struct csv_reader *reader, struct error *err)
{
    size_t room = reader->capacity - reader->end;
    if (reader->file == NULL) {
        size_t take = room < reader->bytes_left ? room : reader->bytes_left;
        if (take > 0)
            memcpy(reader->buffer + reader->end, reader->bytes, take);
        reader->bytes += take;
        reader->bytes_left -= take;
        reader->end += take;
        reader->eof = take == 0;
        return 0;
    }
    int got = gzread(reader->file, reader->buffer + reader->end, (unsigned)room);
    if (got > 0) {
        reader->end += (size_t)got;
        return 0;
    }
    int code = Z_OK;
    const char *text = gzerror(reader->file, &code);
    if (code == Z_ERRNO)
        return reader->failure = error_set(err, ERR_IO, "%s: line %zu: cannot be read: %s", reader->name,
                                           reader->line, strerror(errno));
    if (got < 0 || code == Z_BUF_ERROR)
        return reader->failure =
                   error_set(err, ERR_CORRUPT,
                             "%s: line %zu: the gzip data is damaged or cut off (%s); copy the file "
                             "again, or test it with gzip -t",
                             reader->name, reader->line, text);
    reader->eof = true;
    return 0;
}

/* Makes room for more of the record at `start` and reads. `*full` is set when the record is at its bound
 * already. */
static int reader_fill(struct csv_reader *reader, bool *full, struct error *err)
{
    *full = false;
    if (reader->start > 0) {
        memmove(reader->buffer, reader->buffer + reader->start, reader->end - reader->start);
        reader->end -= reader->start;
        reader->start = 0;
    }
    if (reader->end >= reader->max_bytes) {
        *full = true;
        return 0;
    }
    if (reader->end == reader->capacity) {
        size_t larger = reader->capacity * 2;
        char *buffer = realloc(reader->buffer, larger + 1);
        if (buffer == NULL)
            return reader->failure =
                       error_set(err, ERR_NO_MEMORY, "%s: line %zu: no memory for a line of %zu bytes",
                                 reader->name, reader->line, larger);
        reader->buffer = buffer;
        reader->capacity = larger;
    }
    return reader_read(reader, err);
}

enum scan_state { SCAN_FIELD_START, SCAN_PLAIN, SCAN_QUOTED, SCAN_QUOTE_SEEN };

/* Where the search for a record's end stands: it resumes when more input has come. */
struct scan {
    size_t offset; /* from `start` */
    size_t lines;  /* line ends seen inside quotes */
    enum scan_state state;
    bool found; /* offset is at the record's line end */
};

/* Outside quotes: a quote counts only where a field starts, so that 5" opens nothing. */
static enum scan_state scan_outside(enum scan_state state, char c, char delimiter)
{
    if (c == delimiter)
        return SCAN_FIELD_START;
    if (c == '"' && state == SCAN_FIELD_START)
        return SCAN_QUOTED;
    return state == SCAN_FIELD_START && c == ' ' ? SCAN_FIELD_START : SCAN_PLAIN;
}

/* Advances the scan over what the buffer holds. */
static void scan_record(const struct csv_reader *reader, struct scan *scan)
{
    const char *text = reader->buffer + reader->start;
    size_t length = reader->end - reader->start;
    for (; scan->offset < length; scan->offset++) {
        char c = text[scan->offset];
        if (scan->state == SCAN_QUOTED) {
            if (c == '"')
                scan->state = SCAN_QUOTE_SEEN;
            else if (c == '\n' && ++scan->lines >= CSV_QUOTED_LINES_MAX)
                return;
        } else if (scan->state == SCAN_QUOTE_SEEN && c == '"') {
            scan->state = SCAN_QUOTED;
        } else if (c == '\n') {
            scan->found = true;
            return;
        } else {
            scan->state = scan_outside(scan->state, c, reader->delimiter);
        }
    }
}

/* Drops input up to and including the next line end. */
static int skip_line(struct csv_reader *reader, struct error *err)
{
    for (;;) {
        char *at = reader->buffer + reader->start;
        char *end = memchr(at, '\n', reader->end - reader->start);
        if (end != NULL) {
            reader->start += (size_t)(end - at) + 1;
            reader->line++;
            return 0;
        }
        reader->start = reader->end = 0;
        if (reader->eof)
            return 0;
        int code = reader_read(reader, err);
        if (code != 0)
            return code;
    }
}

static char sniff_delimiter(const char *text, size_t length)
{
    static const char candidates[] = {',', '\t', ';'};
    size_t counts[sizeof(candidates)] = {0};
    bool quoted = false;
    for (size_t i = 0; i < length && (quoted || text[i] != '\n'); i++) {
        if (text[i] == '"')
            quoted = !quoted;
        for (size_t k = 0; k < sizeof(candidates) && !quoted; k++)
            counts[k] += text[i] == candidates[k];
    }
    size_t best = 0;
    for (size_t k = 1; k < sizeof(candidates); k++)
        best = counts[k] > counts[best] ? k : best;
    return candidates[best];
}

/* Reads until the first line is in the buffer, or as much of it as may be. */
static int read_first_line(struct csv_reader *reader, struct error *err)
{
    bool full = false;
    while (!reader->eof && !full &&
           memchr(reader->buffer + reader->start, '\n', reader->end - reader->start) == NULL) {
        int code = reader_fill(reader, &full, err);
        if (code != 0)
            return code;
    }
    return 0;
}

/* Byte order mark, preamble, delimiter. */
static int reader_begin(struct csv_reader *reader, struct error *err)
{
    reader->begun = true;
    int code = read_first_line(reader, err);
    if (code != 0)
        return code;
    const unsigned char *head = (const unsigned char *)reader->buffer;
    if (reader->end >= 2 && ((head[0] == 0xFF && head[1] == 0xFE) || (head[0] == 0xFE && head[1] == 0xFF)))
        return reader->failure = error_set(err, ERR_INVALID,
                                           "%s: the file is UTF-16 text; convert it to UTF-8 first "
                                           "(iconv -f UTF-16 -t UTF-8)",
                                           reader->name);
    if (reader->end >= 3 && memcmp(head, "\xEF\xBB\xBF", 3) == 0)
        reader->start = 3;
    for (size_t i = 0; i < reader->skip_lines; i++)
        if ((code = skip_line(reader, err)) != 0)
            return code;
    if ((code = read_first_line(reader, err)) != 0)
        return code;
    if (reader->delimiter == '\0')
        reader->delimiter = sniff_delimiter(reader->buffer + reader->start, reader->end - reader->start);
    return 0;
}

static int fields_reserve(struct csv_reader *reader, size_t count)
{
    if (count <= reader->field_capacity)
        return 0;
    size_t larger = reader->field_capacity == 0 ? 64 : reader->field_capacity * 2;
    struct csv_field *fields = realloc(reader->fields, larger * sizeof(*fields));
    if (fields == NULL)
        return ERR_NO_MEMORY;
    reader->fields = fields;
    reader->field_capacity = larger;
    return 0;
}

/* Takes a quoted field's quotes away in place. `*text` is behind the opening quote; afterwards it is at the
 * delimiter or at `end`. */
static enum csv_problem unquote(char **text, const char *end, char delimiter, struct csv_field *field)
{
    char *out = *text;
    char *in = *text;
    field->text = out;
    for (;;) {
        char *quote = memchr(in, '"', (size_t)(end - in));
        if (quote == NULL)
            return CSV_QUOTE_OPEN;
        memmove(out, in, (size_t)(quote - in));
        out += quote - in;
        in = quote + 1;
        if (in == end || *in != '"')
            break;
        *out++ = '"';
        in++;
    }
    field->length = (size_t)(out - field->text);
    while (in < end && *in == ' ' && *in != delimiter)
        in++;
    if (in < end && *in != delimiter)
        return CSV_QUOTE_STRAY;
    *text = in;
    *out = '\0';
    return CSV_FINE;
}

/* Finds an unquoted field's end and trims the blanks around it. */
static void take_plain(char **text, char *end, char delimiter, struct csv_field *field)
{
    char *stop = *text < end ? memchr(*text, delimiter, (size_t)(end - *text)) : NULL;
    if (stop == NULL)
        stop = end;
    char *from = *text;
    char *to = stop;
    while (from < to && *from == ' ')
        from++;
    while (to > from && to[-1] == ' ')
        to--;
    field->text = from;
    field->length = (size_t)(to - from);
    *text = stop;
    *to = '\0'; /* over a blank, the delimiter or the line end, which nothing reads any more */
}

/* Splits the record [text, end) in place. */
static int split_record(struct csv_reader *reader, char *text, char *end, struct csv_row *row,
                        struct error *err)
{
    size_t count = 0;
    bool more = true;
    while (more) {
        if (count == reader->max_columns) {
            row->problem = CSV_TOO_MANY_COLUMNS;
            row->problem_column = count + 1;
            return 0;
        }
        if (fields_reserve(reader, count + 1) != 0)
            return reader->failure = error_set(err, ERR_NO_MEMORY, "%s: line %zu: no memory for %zu columns",
                                               reader->name, row->line, count + 1);
        struct csv_field *field = &reader->fields[count++];
        char *first = text;
        while (first < end && *first == ' ' && *first != reader->delimiter)
            first++;
        if (first < end && *first == '"') {
            text = first + 1;
            row->problem = unquote(&text, end, reader->delimiter, field);
            if (row->problem != CSV_FINE) {
                row->problem_column = count;
                return 0;
            }
        } else {
            take_plain(&text, end, reader->delimiter, field);
        }
        more = text < end;
        text++;
    }
    row->fields = reader->fields;
    row->count = count;
    return 0;
}

/* Finds the end of the record at `start`: `*length` without its line end, `*next` with it. Sets row->problem
 * when there is none within the bounds; `*length` is then the first line of it. */
static int find_record(struct csv_reader *reader, struct csv_row *row, size_t *length, size_t *next,
                       struct error *err)
{
    struct scan scan = {.state = SCAN_FIELD_START};
    bool full = false;
    for (;;) {
        scan_record(reader, &scan);
        if (scan.found || scan.lines >= CSV_QUOTED_LINES_MAX || reader->eof || full)
            break;
        int code = reader_fill(reader, &full, err);
        if (code != 0)
            return code;
    }
    size_t left = reader->end - reader->start;
    *length = scan.offset;
    *next = scan.found ? scan.offset + 1 : scan.offset;
    if (scan.found && *next <= reader->max_bytes)
        return 0;
    if (scan.state != SCAN_QUOTED && reader->eof && left <= reader->max_bytes)
        return 0;
    row->problem = scan.state == SCAN_QUOTED ? CSV_QUOTE_OPEN : CSV_LINE_TOO_LONG;
    const char *line_end = memchr(reader->buffer + reader->start, '\n', left);
    *length = line_end != NULL ? (size_t)(line_end - (reader->buffer + reader->start)) : left;
    *next = line_end != NULL ? *length + 1 : left;
    return 0;
}

static size_t count_lines(const char *text, size_t length)
{
    size_t lines = 0;
    const char *end = text + length;
    while ((text = memchr(text, '\n', (size_t)(end - text))) != NULL) {
        lines++;
        text++;
    }
    return lines;
}

/* Takes the record at `start` into `row`; `*blank` is set when there is nothing in it. */
static int take_record(struct csv_reader *reader, struct csv_row *row, bool *blank, struct error *err)
{
    size_t length = 0;
    size_t next = 0;
    *row = (struct csv_row){.line = reader->line};
    int code = find_record(reader, row, &length, &next, err);
    if (code != 0)
        return code;
    char *text = reader->buffer + reader->start;
    if (row->problem == CSV_LINE_TOO_LONG)
        return skip_line(reader, err);
    reader->start += next;
    reader->line += count_lines(text, next);
    if (row->problem != CSV_FINE)
        return 0;
    if (length > 0 && text[length - 1] == '\r')
        length--;
    size_t spaces = 0;
    while (spaces < length && text[spaces] == ' ')
        spaces++;
    *blank = spaces == length;
    if (*blank)
        return 0;
    if (memchr(text, '\0', length) != NULL) {
        row->problem = CSV_ZERO_BYTE;
        return 0;
    }
    return split_record(reader, text, text + length, row, err);
}

int csv_next(struct csv_reader *reader, struct csv_row *row, struct error *err)
{
    assert(reader != NULL && row != NULL);
    if (reader->failure != 0)
        return error_set(err, reader->failure, "%s: reading has failed before", reader->name);
    if (!reader->begun) {
        int code = reader_begin(reader, err);
        if (code != 0)
            return code;
    }
    for (;;) {
        bool full = false;
        int code = 0;
        while (reader->start == reader->end && !reader->eof && code == 0)
            code = reader_fill(reader, &full, err);
        if (code != 0 || reader->start == reader->end)
            return code;
        bool blank = false;
        code = take_record(reader, row, &blank, err);
        if (code != 0)
            return code;
        if (!blank)
            return 1;
    }
}
