/* A control chart drawn with characters: values in time order, the limits they were judged by, alarms marked.
 * Pure. */
#ifndef CHAMBERLAIN_CLI_TERMINAL_CHART_H
#define CHAMBERLAIN_CLI_TERMINAL_CHART_H

#include "base/error.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    TERMINAL_CHART_MIN_COLUMNS = 30,
    TERMINAL_CHART_MAX_COLUMNS = 400,
    TERMINAL_CHART_MIN_ROWS = 4,
    TERMINAL_CHART_MAX_ROWS = 100
};

struct terminal_chart_point {
    double value;                /* NaN: no value, a gap */
    double centre, lower, upper; /* NaN: none */
    bool alarmed;
};

struct terminal_chart_style {
    size_t columns; /* of the whole drawing, the scale included; cut to the bounds above */
    size_t rows;    /* of the plot; likewise */
    bool ascii;     /* no character beyond ASCII */
    bool colour;    /* alarms red, limits faint, by ANSI sequences */
};

/* Appends the drawing, lines with their ends. The scale holds every value, but no more than the limits' own
 * height beyond the limits: values further out are drawn as arrows at the edge. Without a finite value one
 * line says so. ERR_NO_MEMORY. */
int terminal_chart_draw(const struct terminal_chart_point *points, size_t count,
                        const struct terminal_chart_style *style, struct strbuf *out, struct error *err);

#endif
