/* Windows: which samples of a sensor an indicator looks at. */
#ifndef CHAMBERLAIN_CHART_WINDOW_H
#define CHAMBERLAIN_CHART_WINDOW_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "chart/trace.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum window_kind {
    WINDOW_ALL,
    WINDOW_STEP,   /* recipe steps first..last, both included */
    WINDOW_TIME,   /* from <= time since the context's start < to */
    WINDOW_SAMPLES /* sample numbers from..to, both included, counted from 0 */
};

/* How much is cut off each visit of the window, by time or by samples. */
struct window_cut {
    int64_t us;      /* 0: none */
    int64_t samples; /* 0: none */
};

struct window {
    enum window_kind kind;
    double step_first, step_last; /* WINDOW_STEP; infinite where open */
    int64_t from, to;             /* microseconds or sample numbers; INT64_MIN, INT64_MAX where open */
    int32_t visit;                /* of WINDOW_STEP: 0 every visit, n the n-th, -1 the last */
    struct window_cut skip, drop; /* at the start, at the end of each visit */
};

/* Half-open index range [begin, end) of a column. */
struct window_range {
    size_t begin, end;
};

struct window_ranges {
    size_t count;
    const struct window_range *ranges; /* ascending, none empty, none overlapping */
};

/* The whole trace. */
void window_init(struct window *window);

bool window_equal(const struct window *a, const struct window *b);

/* Appends the window as an equation writes it, with a leading ", "; nothing for the whole trace without cuts.
 */
void window_format(const struct window *window, struct strbuf *text);

/* The step column cut into stretches of one step. */
struct window_stretch {
    double step;
    size_t begin; /* index of its first sample; it ends where the next one begins */
};

struct window_steps {
    const struct trace_column *column;
    size_t count;
    const struct window_stretch *stretches;
};

/* Reads the step column once for all step windows of a trace. A missing reading keeps the step before it.
 * ERR_NO_MEMORY. */
int window_scan_steps(const struct trace_column *column, struct arena *arena, struct window_steps *steps,
                      struct error *err);

/* The ranges of `column` in the window. `steps` is NULL when the trace has no step column: a step window is
 * then empty. The step at a time is the last reading at or before it. A visit is an unbroken stay in
 * step_first..step_last. ERR_NO_MEMORY. */
int window_resolve(const struct window *window, const struct trace *trace, const struct window_steps *steps,
                   const struct trace_column *column, struct arena *arena, struct window_ranges *ranges,
                   struct error *err);

#endif
