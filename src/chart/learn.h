/* Learning charts: from a set of contexts known to be normal to a chart file (docs/charts.md, "Learning
 * charts").
 *
 * For every recipe, every step it runs through and every sensor, a chart of each wanted statistic, and one
 * chart of the number of samples a step. The centre of such a chart is tracked, not learned; what is learned
 * is how much the indicator varies from one context to the next, and how far out the limits must lie so that
 * all charts of a recipe together raise false alarms on a stated fraction of the contexts: by Student's t,
 * and further where they would not keep to it on the contexts that were added.
 *
 * Pure: the same contexts give the same text. Contexts may be added in any order. Used by one thread at a
 * time. */
#ifndef CHAMBERLAIN_CHART_LEARN_H
#define CHAMBERLAIN_CHART_LEARN_H

#include "base/error.h"
#include "base/strbuf.h"
#include "chart/context.h"
#include "chart/trace.h"

#include <stddef.h>
#include <stdint.h>

enum {
    LEARN_CONTEXTS_MAX = 20000,
    LEARN_RECIPES_MAX = 500,
    LEARN_SENSORS_MAX = 4000,     /* of one recipe */
    LEARN_STEPS_MAX = 500,        /* of one recipe */
    LEARN_GROUPS_MAX = 256,       /* of one recipe */
    LEARN_INDICATORS_MAX = 50000, /* of one recipe: steps x sensors x statistics, sample counts included */
    LEARN_VALUES_MAX = 1 << 26,   /* indicator values kept, 512 MiB */
    LEARN_DISTINCT_MAX = 4096,    /* values of a sensor, beyond which it is taken to be continuous */
    LEARN_MIN_VALUES = 10,        /* of an indicator in a group, for a deviation of its own */
    LEARN_MIN_HISTORY = 5,        /* contexts before a learned chart judges */
    LEARN_HISTORY = 100           /* contexts a learned chart looks back */
};

#define LEARN_LAMBDA 0.3
#define LEARN_FALSE_ALARMS 0.01

struct learn_options {
    double false_alarms; /* fraction of the contexts, over all charts of a recipe together; over 0, below 1 */
    const char *group;   /* context attribute, such as "lot", whose values each get deviations of their own;
                          * NULL: none.   Borrowed until learn_free. */
    uint32_t statistics; /* bit (1 << enum statistic), of those that take one sensor and no parameter. Besides
                          * them, the number of samples of every step is charted when the bit of
                          * STATISTIC_COUNT is set. */
};

/* 1 % of the contexts, no group; mean, std and count. */
void learn_options_default(struct learn_options *options);

struct learn;

/* ERR_INVALID for options out of range; ERR_NO_MEMORY. */
int learn_create(const struct learn_options *options, struct learn **learn, struct error *err);
void learn_free(struct learn *learn);

/* Takes one normal context. names[i] is the name of trace->columns[i]; all is copied. ERR_INVALID for a trace
 * no equation can be applied to; ERR_LIMIT for one of the bounds above, and what to do; ERR_NO_MEMORY. After
 * an error the context is not part of what is learned, but for ERR_NO_MEMORY, after which only learn_free may
 * follow. */
int learn_add(struct learn *learn, const struct context *context, const struct trace *trace,
              const char *const *names, struct error *err);

/* What learn_write did. */
struct learn_result {
    size_t contexts, recipes, groups;
    size_t charts;
    size_t left_out; /* indicators that got no chart; the text says why */
};

/* Appends the chart file. It has been parsed once when this returns 0. ERR_INVALID when nothing can be
 * learned (with the reason) or a context was given twice; ERR_LIMIT when the text would be longer than a
 * chart file may be; ERR_NO_MEMORY. */
int learn_write(struct learn *learn, struct strbuf *yaml, struct learn_result *result, struct error *err);

#endif
