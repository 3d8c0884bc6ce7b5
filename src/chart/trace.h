/* A decoded T-chart as the chart engine reads it: one column of times and values a sensor. */
#ifndef CHAMBERLAIN_CHART_TRACE_H
#define CHAMBERLAIN_CHART_TRACE_H

#include <stddef.h>
#include <stdint.h>

/* The recipe step that was running at each sample is an ordinary column of this name. */
#define TRACE_STEP_NAME "step"

struct trace_column {
    uint64_t sensor;        /* hash64_text(name): a Mebo metric id */
    size_t count;           /* samples */
    const int64_t *time_us; /* ascending; columns that were sampled together may share one array */
    const double *value;    /* NaN: a missing sample */
};

struct trace {
    const struct trace_column *columns; /* ascending by sensor, so that one is found by bisection */
    size_t count;
    int64_t start_us; /* of the context: time windows are relative to it */
    int64_t end_us;
};

/* NULL when the trace has no such sensor. */
const struct trace_column *trace_find(const struct trace *trace, uint64_t sensor);

#endif
