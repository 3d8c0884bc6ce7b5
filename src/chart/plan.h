/* Inside of a plan: what plan.c compiles, compute.c and verdicts.c carry out. */
#ifndef CHAMBERLAIN_CHART_PLAN_H
#define CHAMBERLAIN_CHART_PLAN_H

#include "chart/chartset.h"
#include "chart/judge.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a group must know of its samples. */
enum plan_need {
    PLAN_SUMMARY = 1, /* how many are there, sum, minimum, maximum, first, last */
    PLAN_SQUARES = 2  /* squared deviations */
};

/* One statistic that charts ask for; charts that ask for the same share it. */
struct plan_term {
    const struct equation_term *term;
    size_t other;  /* index of the second sensor */
    size_t window; /* index into windows */
};

/* The terms over one sensor in one window: their samples are read together. */
struct plan_group {
    size_t sensor; /* index into sensors */
    size_t window; /* index into windows */
    uint32_t needs;
    size_t first_term, term_count;
};

struct plan_window {
    const struct window *window;
    const char *text; /* "step 4..5", for messages; "the trace" for the whole of it */
};

struct plan_chart {
    const struct chart *chart;
    const size_t *terms; /* per term of the equation: its index in judge_plan.terms */
    uint64_t series;     /* hash of name and canonical equation */
    size_t baseline;     /* index into baselines */
    size_t lookback;     /* contexts it looks back, whatever the other charts of the plan do */
};

struct plan_baseline {
    const char **attributes; /* in the order of their names */
    size_t count;
};

struct judge_plan {
    const struct chart_set *set;
    struct plan_chart *charts;
    size_t chart_count;
    uint64_t *sensors; /* ascending, the step column among them when it is needed */
    const char **sensor_names;
    size_t sensor_count;
    size_t step_sensor; /* index, or sensor_count when no window needs the step */
    struct plan_window *windows;
    size_t window_count;
    struct plan_group *groups; /* by sensor, then window */
    size_t group_count;
    struct plan_term *terms;
    size_t term_count;
    struct plan_baseline *baselines;
    size_t baseline_count;
    size_t lookback;
};

/* Points of a chart that its rules and limits read, at most. */
size_t plan_chart_memory(const struct chart *chart);

#endif
