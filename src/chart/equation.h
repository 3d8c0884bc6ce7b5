/* Equations: `mean(Pressure, step 4..5) / max(Pressure)`. The language is described in docs/charts.md.
 *
 * An equation is compiled once into terms (each one windowed statistic over one or two sensors) and a postfix
 * program that combines their values. */
#ifndef CHAMBERLAIN_CHART_EQUATION_H
#define CHAMBERLAIN_CHART_EQUATION_H

#include "base/arena.h"
#include "base/error.h"
#include "chart/window.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    EQUATION_MAX_BYTES = 4096,
    EQUATION_MAX_DEPTH = 64,    /* of parentheses and function calls */
    EQUATION_MAX_TERMS = 256,   /* windowed statistics */
    EQUATION_MAX_PROBLEMS = 16, /* reported for one equation */
    SENSOR_NAME_MAX_BYTES = 200
};

enum statistic {
    STATISTIC_COUNT,
    STATISTIC_MEAN,
    STATISTIC_STD,
    STATISTIC_MIN,
    STATISTIC_MAX,
    STATISTIC_RANGE,
    STATISTIC_MEDIAN,
    STATISTIC_PERCENTILE,
    STATISTIC_FIRST,
    STATISTIC_LAST,
    STATISTIC_SUM,
    STATISTIC_INTEGRAL,
    STATISTIC_SLOPE,
    STATISTIC_RMS,
    STATISTIC_DURATION,
    STATISTIC_DURATION_ABOVE,
    STATISTIC_DURATION_BELOW,
    STATISTIC_CORR,
    STATISTIC_MAX_ABS_DIFF,
    STATISTIC_MEAN_DIFF,
    STATISTIC_KINDS
};

/* A sensor as named in an equation. */
struct equation_sensor {
    const char *name;
    uint64_t id;   /* hash64_text(name) */
    size_t offset; /* of the name in the equation's text, bytes */
};

struct equation_term {
    enum statistic statistic;
    struct equation_sensor sensor, other; /* other.name NULL unless the statistic reads two */
    struct window window;
    double parameter; /* percentile or level; 0 otherwise */
};

enum equation_op {
    EQUATION_CONSTANT,
    EQUATION_TERM,
    EQUATION_ADD,
    EQUATION_SUBTRACT,
    EQUATION_MULTIPLY,
    EQUATION_DIVIDE,
    EQUATION_POWER, /* by a constant whole exponent */
    EQUATION_NEGATE,
    EQUATION_ABS,
    EQUATION_SQRT,
    EQUATION_LOG,
    EQUATION_EXP,
    EQUATION_MIN2,
    EQUATION_MAX2
};

struct equation_instruction {
    enum equation_op op;
    int32_t index; /* of the term, or the exponent of EQUATION_POWER */
    double constant;
};

struct equation {
    const char *text; /* as written */
    const char
        *canonical; /* equal for equations that differ only in spaces, quotes and superfluous parentheses */
    const struct equation_term *terms;
    size_t term_count;
    const struct equation_instruction *program;
    size_t program_length;
};

struct equation_problem {
    size_t offset; /* in the text, bytes */
    const char *message;
};

struct equation_problems {
    size_t count;
    struct equation_problem items[EQUATION_MAX_PROBLEMS];
};

/* Compiles `text`; everything lives in `arena`. ERR_INVALID with every problem found in `problems` (messages
 * in the arena) and the first one in `err`; ERR_NO_MEMORY. */
int equation_compile(const char *text, size_t length, struct arena *arena, struct equation *equation,
                     struct equation_problems *problems, struct error *err);

/* Combines the values of the terms (each finite). NaN with *reason set to a static text where the result is
 * not finite: division by zero, root of a negative number, ... */
double equation_combine(const struct equation *equation, const double *terms, const char **reason);

const char *statistic_name(enum statistic statistic);
bool statistic_reads_two(enum statistic statistic);

#endif
