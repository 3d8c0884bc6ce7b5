#include "cli/terminal_chart.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SCALE_COLUMNS = 12, /* "  1234.56 |" and one space */
    DOTS_ACROSS = 2,    /* a braille character is 2 dots wide */
    DOTS_DOWN = 4       /* and 4 high */
};

/* What a character cell shows: the highest wins. */
enum cell_mark {
    MARK_NONE,
    MARK_LIMIT,
    MARK_CENTRE,
    MARK_VALUE,
    MARK_ALARM,
    MARK_ALARM_ABOVE,
    MARK_ALARM_BELOW
};

struct cell {
    uint8_t mark; /* enum cell_mark */
    uint8_t dots; /* braille dots of the line through the values */
};

struct canvas {
    const struct terminal_chart_style *style;
    size_t columns, rows; /* of the plot */
    double low, high;     /* of the scale */
    size_t point_count;
    struct cell *cells; /* row by row, the top one first */
};

static size_t clamp(size_t value, size_t least, size_t most)
{
    return value < least ? least : value > most ? most : value;
}

static void widen(double value, double *low, double *high)
{
    if (!isfinite(value))
        return;
    *low = value < *low ? value : *low;
    *high = value > *high ? value : *high;
}

/* False when there is nothing to draw. */
static bool choose_scale(const struct terminal_chart_point *points, size_t count, double *low, double *high)
{
    double limit_low = INFINITY, limit_high = -INFINITY;
    *low = INFINITY;
    *high = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        widen(points[i].value, low, high);
        widen(points[i].lower, &limit_low, &limit_high);
        widen(points[i].centre, &limit_low, &limit_high);
        widen(points[i].upper, &limit_low, &limit_high);
    }
    if (*low > *high)
        return false;
    double height = limit_high - limit_low;
    if (height > 0 && isfinite(height)) {
        *low = fmin(fmax(*low, limit_low - height), limit_low);
        *high = fmax(fmin(*high, limit_high + height), limit_high);
    }
    double margin = (*high - *low) * 0.04;
    if (!(margin > 0))
        margin = fmax(fabs(*high) * 0.01, 1e-9);
    *low -= margin;
    *high += margin;
    return isfinite(*high - *low);
}

/* A dot's place from the top, 0 to dots - 1. */
static size_t place_down(const struct canvas *canvas, double value, size_t dots)
{
    double fraction = (canvas->high - value) / (canvas->high - canvas->low);
    double place = floor(fraction * (double)dots);
    return place <= 0 ? 0 : place >= (double)dots ? dots - 1 : (size_t)place;
}

static size_t place_across(const struct canvas *canvas, size_t point, size_t dots)
{
    if (canvas->point_count <= 1)
        return dots / 2;
    return (size_t)((double)point * (double)(dots - 1) / (double)(canvas->point_count - 1) + 0.5);
}

static struct cell *cell_at(struct canvas *canvas, size_t column, size_t row)
{
    return &canvas->cells[row * canvas->columns + column];
}

static void mark_cell(struct cell *cell, enum cell_mark mark)
{
    cell->mark = mark > cell->mark ? (uint8_t)mark : cell->mark;
}

/* Unicode's dot numbers: 1 2 3 7 down the left column, 4 5 6 8 down the right one. */
static void set_dot(struct canvas *canvas, size_t x, size_t y)
{
    static const uint8_t bits[DOTS_DOWN][DOTS_ACROSS] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    struct cell *cell = cell_at(canvas, x / DOTS_ACROSS, y / DOTS_DOWN);
    cell->dots |= bits[y % DOTS_DOWN][x % DOTS_ACROSS];
    mark_cell(cell, MARK_VALUE);
}

/* Dots from one value to the next, one for each column and as many as it is steep in each. */
static void draw_stroke(struct canvas *canvas, size_t x0, size_t y0, size_t x1, size_t y1)
{
    size_t across = x1 - x0, down = y1 > y0 ? y1 - y0 : y0 - y1;
    size_t steps = across > down ? across : down;
    for (size_t i = 0; i <= steps && steps > 0; i++) {
        double t = (double)i / (double)steps;
        set_dot(canvas, x0 + (size_t)(t * (double)across + 0.5),
                (size_t)((double)y0 + t * ((double)y1 - (double)y0) + 0.5));
    }
}

static void draw_level(struct canvas *canvas, double value, size_t from, size_t to, enum cell_mark mark)
{
    if (!isfinite(value) || value < canvas->low || value > canvas->high)
        return;
    size_t row = place_down(canvas, value, canvas->rows);
    for (size_t column = from; column <= to; column++)
        mark_cell(cell_at(canvas, column, row), mark);
}

/* Each point's limits reach halfway to its neighbours. */
static void draw_limits(struct canvas *canvas, const struct terminal_chart_point *points)
{
    size_t from = 0;
    for (size_t i = 0; i < canvas->point_count; i++) {
        size_t here = place_across(canvas, i, canvas->columns), to = canvas->columns - 1;
        if (i + 1 < canvas->point_count)
            to = (here + place_across(canvas, i + 1, canvas->columns)) / 2;
        draw_level(canvas, points[i].lower, from, to, MARK_LIMIT);
        draw_level(canvas, points[i].upper, from, to, MARK_LIMIT);
        draw_level(canvas, points[i].centre, from, to, MARK_CENTRE);
        from = to + 1 < canvas->columns ? to + 1 : to;
    }
}

static void draw_values(struct canvas *canvas, const struct terminal_chart_point *points)
{
    size_t dots_across = canvas->columns * DOTS_ACROSS, dots_down = canvas->rows * DOTS_DOWN;
    size_t last_x = 0, last_y = 0;
    bool connect = false;
    for (size_t i = 0; i < canvas->point_count; i++) {
        double value = points[i].value;
        if (!isfinite(value)) {
            connect = false;
            continue;
        }
        size_t x = place_across(canvas, i, dots_across), y = place_down(canvas, value, dots_down);
        if (connect && !canvas->style->ascii)
            draw_stroke(canvas, last_x, last_y, x, y);
        set_dot(canvas, x, y);
        bool above = value > canvas->high, below = value < canvas->low;
        if (points[i].alarmed || above || below)
            mark_cell(cell_at(canvas, x / DOTS_ACROSS, y / DOTS_DOWN), above   ? MARK_ALARM_ABOVE
                                                                       : below ? MARK_ALARM_BELOW
                                                                               : MARK_ALARM);
        last_x = x;
        last_y = y;
        connect = true;
    }
}

static void format_braille(uint8_t dots, char text[static 4])
{
    unsigned code = 0x2800u + dots;
    text[0] = (char)(0xE0 | (code >> 12));
    text[1] = (char)(0x80 | ((code >> 6) & 0x3F));
    text[2] = (char)(0x80 | (code & 0x3F));
    text[3] = '\0';
}

static void write_cell(const struct canvas *canvas, const struct cell *cell, struct strbuf *out)
{
    static const char *const ascii[] = {" ", ".", "-", "o", "X", "^", "v"};
    static const char *const unicode[] = {" ", "\u254c", "\u2500", "", "\u2716", "\u25b2", "\u25bc"};
    char braille[4];
    format_braille(cell->dots, braille);
    const char *text = canvas->style->ascii       ? ascii[cell->mark]
                       : cell->mark == MARK_VALUE ? braille
                                                  : unicode[cell->mark];
    bool red = canvas->style->colour && cell->mark >= MARK_ALARM;
    bool faint = canvas->style->colour && (cell->mark == MARK_LIMIT || cell->mark == MARK_CENTRE);
    strbuf_add(out, red ? "\033[31m" : faint ? "\033[2m" : "");
    strbuf_add(out, text);
    strbuf_add(out, red || faint ? "\033[0m" : "");
}

/* The value in the middle of a row. */
static double row_value(const struct canvas *canvas, size_t row)
{
    return canvas->high - ((double)row + 0.5) / (double)canvas->rows * (canvas->high - canvas->low);
}

static void write_row(const struct canvas *canvas, size_t row, struct strbuf *out)
{
    char scale[24] = "";
    if (row == 0 || row + 1 == canvas->rows || row % 4 == 0)
        snprintf(scale, sizeof scale, "%.5g", row_value(canvas, row));
    strbuf_printf(out, "%*s %s", SCALE_COLUMNS - 2, scale, canvas->style->ascii ? "|" : "\u2502");
    size_t used = canvas->columns;
    while (used > 0 && canvas->cells[row * canvas->columns + used - 1].mark == MARK_NONE)
        used--;
    for (size_t column = 0; column < used; column++)
        write_cell(canvas, &canvas->cells[row * canvas->columns + column], out);
    strbuf_add_char(out, '\n');
}

int terminal_chart_draw(const struct terminal_chart_point *points, size_t count,
                        const struct terminal_chart_style *style, struct strbuf *out, struct error *err)
{
    struct canvas canvas = {.style = style, .point_count = count};
    canvas.columns =
        clamp(style->columns, TERMINAL_CHART_MIN_COLUMNS, TERMINAL_CHART_MAX_COLUMNS) - SCALE_COLUMNS;
    canvas.rows = clamp(style->rows, TERMINAL_CHART_MIN_ROWS, TERMINAL_CHART_MAX_ROWS);
    if (!choose_scale(points, count, &canvas.low, &canvas.high)) {
        strbuf_add(out, "(no value to draw)\n");
        return out->failed ? error_set(err, ERR_NO_MEMORY, "no memory for the drawing") : 0;
    }
    canvas.cells = calloc(canvas.columns * canvas.rows, sizeof *canvas.cells);
    if (canvas.cells == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the drawing");
    draw_limits(&canvas, points);
    draw_values(&canvas, points);
    for (size_t row = 0; row < canvas.rows; row++)
        write_row(&canvas, row, out);
    free(canvas.cells);
    return out->failed ? error_set(err, ERR_NO_MEMORY, "no memory for the drawing") : 0;
}
