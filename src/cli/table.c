#include "cli/table.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CELLS = 64, GAP = 2, CELL_MAX_BYTES = 1024 };

void table_init(struct table *table, const struct table_column *columns, size_t column_count)
{
    *table = (struct table){.columns = columns, .column_count = column_count};
    arena_init(&table->arena, 0);
}

void table_free(struct table *table)
{
    free(table->cells);
    arena_free(&table->arena);
    *table = (struct table){0};
}

static char *printable_copy(struct arena *arena, const char *text)
{
    char *copy = arena_strdup(arena, text);
    for (char *c = copy; c && *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            *c = '?';
    return copy;
}

void table_add(struct table *table, const char *text)
{
    if (table->cell_count == table->cell_capacity) {
        size_t capacity = table->cell_capacity ? table->cell_capacity * 2 : FIRST_CELLS;
        const char **cells = realloc(table->cells, capacity * sizeof *cells);
        if (cells == NULL) {
            table->failed = true;
            return;
        }
        table->cells = cells;
        table->cell_capacity = capacity;
    }
    char *copy = printable_copy(&table->arena, text ? text : "");
    table->failed |= copy == NULL;
    table->cells[table->cell_count++] = copy ? copy : "";
}

void table_addf(struct table *table, const char *format, ...)
{
    char text[CELL_MAX_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    table_add(table, text);
}

void table_add_number(struct table *table, double value)
{
    if (isnan(value))
        table_add(table, "-");
    else
        table_addf(table, "%.6g", value);
}

size_t table_rows(const struct table *table)
{
    return table->cell_count / table->column_count;
}

size_t table_text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xC0) != 0x80;
    return width;
}

static size_t column_width(const struct table *table, size_t column)
{
    size_t width = table_text_width(table->columns[column].title);
    for (size_t i = column; i < table->cell_count; i += table->column_count) {
        size_t cell = table_text_width(table->cells[i]);
        width = cell > width ? cell : width;
    }
    return width;
}

static void add_spaces(struct strbuf *out, size_t count)
{
    strbuf_printf(out, "%*s", (int)count, "");
}

static void add_line(const struct table *table, const size_t *widths, const char *const *cells, size_t indent,
                     struct strbuf *out)
{
    size_t last = table->column_count;
    while (last > 0 && *cells[last - 1] == '\0')
        last--;
    add_spaces(out, indent);
    for (size_t i = 0; i < last; i++) {
        size_t padding = widths[i] - table_text_width(cells[i]);
        if (table->columns[i].right)
            add_spaces(out, padding);
        strbuf_add(out, cells[i]);
        if (i + 1 < last)
            add_spaces(out, GAP + (table->columns[i].right ? 0 : padding));
    }
    strbuf_add_char(out, '\n');
}

void table_format(const struct table *table, size_t indent, struct strbuf *out)
{
    size_t *widths = calloc(table->column_count, sizeof *widths);
    const char **titles = calloc(table->column_count, sizeof *titles);
    if (widths && titles) {
        for (size_t i = 0; i < table->column_count; i++) {
            widths[i] = column_width(table, i);
            titles[i] = table->columns[i].title;
        }
        add_line(table, widths, titles, indent, out);
        for (size_t row = 0; row < table_rows(table); row++)
            add_line(table, widths, table->cells + row * table->column_count, indent, out);
    } else {
        out->failed = true;
    }
    free(titles);
    free(widths);
}
