/* What the three parts of learning share: gathering values (learn.c), fitting deviations and limits
 * (learn_fit.c), and writing the chart file (learn_text.c). */
#ifndef CHAMBERLAIN_CHART_LEARN_PARTS_H
#define CHAMBERLAIN_CHART_LEARN_PARTS_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "chart/chartset.h"
#include "chart/equation.h"
#include "chart/learn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct learn_sensor {
    const char *name;
    uint64_t id;
    double *distinct; /* values seen, ascending; NULL once there are too many */
    size_t distinct_count;
    double resolution; /* least difference of two values seen; 0 while there is but one */
    bool is_step;      /* the step column: only its samples are counted */
    bool unwritable;   /* a name that no equation can hold */
};

/* One indicator that may become a chart. */
struct learn_slot {
    size_t sensor, step; /* indices */
    enum statistic statistic;
    size_t count_slot; /* the slot that counts the samples in the same window */
};

/* One context. */
struct learn_row {
    const char *id, *tool, *chamber;
    const char *group; /* value of the group attribute; "" when there is none */
    int64_t end_us;
    const double *values; /* of the first `count` slots: those that were known then */
    size_t count;
};

struct learn_recipe {
    const char *name;
    struct learn_sensor *sensors;
    size_t sensor_count, sensor_capacity;
    size_t *by_id; /* sensors ascending by id */
    double *steps; /* NaN stands for the whole trace of contexts without a step column */
    size_t step_count, step_capacity;
    struct learn_slot *slots;
    size_t slot_count, slot_capacity;
    struct learn_row *rows;
    size_t row_count, row_capacity;
    struct chart_set
        *probe; /* one chart a slot, to compute the values with the engine that will judge them */
};

struct learn {
    struct learn_options options;
    struct arena arena; /* names and values */
    struct learn_recipe *recipes;
    size_t recipe_count, recipe_capacity;
    size_t contexts, values;
};

/* A run of rows of one group, in row order. */
struct learn_group {
    const char *value;
    size_t begin, end; /* rows */
    size_t ranges;     /* pairs of neighbours: rows less series */
};

enum learn_reason {
    LEARN_CHARTED,
    LEARN_CONSTANT, /* the sensor has but one value */
    LEARN_TOO_FEW,  /* values */
    LEARN_NOT_ASKED /* a sample count that only serves min_samples */
};

/* What was made of one slot. */
struct learn_chart {
    enum learn_reason reason;
    size_t values;       /* usable ones */
    size_t min_samples;  /* 0: not asked for */
    double stdev;        /* over all groups */
    double *group_stdev; /* of each group; NaN where it has too few values for one of its own */
    double floor;        /* half width never below */
};

struct learn_fit {
    struct learn_group *groups;
    size_t group_count;
    struct learn_chart *charts; /* one a slot */
    size_t chart_count;         /* those with LEARN_CHARTED */
    double freedom;             /* degrees of freedom of the deviations */
    double sigma;               /* deviations from centre to limit; NaN when there is no chart */
    bool widened;               /* beyond Student's t, by what the rehearsal showed */
};

/* The value of a slot in a row; NaN where it has none. A sample count that was not asked for then was 0. */
double learn_value(const struct learn_recipe *recipe, const struct learn_row *row, size_t slot);

/* Fits one recipe with at least one row; rows are sorted by group, series and event. Everything lives in
 * `arena`. ERR_NO_MEMORY. */
int learn_fit_recipe(const struct learn *learn, const struct learn_recipe *recipe, struct arena *arena,
                     struct learn_fit *fit, struct error *err);

/* Appends an equation without its chart. */
void learn_format_equation(const struct learn_recipe *recipe, const struct learn_slot *slot,
                           struct strbuf *text);

/* Appends `text` as a YAML scalar: plain where that is safe, else in double quotes. */
void learn_format_scalar(struct strbuf *yaml, const char *text);

/* fits[i] belongs to learn->recipes[i]. ERR_NO_MEMORY. */
int learn_format(const struct learn *learn, const struct learn_fit *fits, struct strbuf *yaml,
                 struct error *err);

#endif
