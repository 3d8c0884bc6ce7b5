/* A chart set: what an engineer's chart file (YAML, docs/charts.md) says, checked and compiled.
 *
 * A set is immutable once parsed, but for its cache of plans (judge.h), which a mutex guards: it may be used
 * from any number of threads until it is freed. */
#ifndef CHAMBERLAIN_CHART_CHARTSET_H
#define CHAMBERLAIN_CHART_CHARTSET_H

#include "base/arena.h"
#include "base/error.h"
#include "chart/equation.h"
#include "chart/limits.h"
#include "chart/rules.h"
#include "chart/uchart.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHART_FILE_MAX_BYTES = 64 * 1024 * 1024,
    CHARTS_MAX = 100000,          /* in one file */
    CHART_NAME_MAX_BYTES = 200,   /* of a name, recipe pattern, unit or attribute */
    CHART_NOTES_MAX_BYTES = 4096, /* of a note */
    CHART_BASELINE_MAX = 16,      /* attributes */
    CHART_MIN_SAMPLES_MAX = 1000000000,
    CHART_LEARNED_MAX = 100000, /* contexts that a file was learned from */
    CHART_LOOKBACK_MAX = 20000, /* contexts */
    CHART_PROBLEMS_MAX = 1000,  /* collected for one file */
    CHART_DEFAULT_BASELINE_COUNT = 3
};

/* One mistake, or one thing worth a second look. */
struct chart_problem {
    size_t line, column; /* counted from 1, in characters */
    bool warning;        /* the file can be used as it is */
    const char *message;
};

/* Everything found in one file, in the order of the file. Start with chart_problems_init. */
struct chart_problems {
    struct arena arena; /* holds the messages and the items */
    struct chart_problem *items;
    size_t count, capacity;
    size_t errors, warnings;
    bool
        failed; /* a problem could not be kept: out of memory or over CHART_PROBLEMS_MAX (one item says so) */
};

void chart_problems_init(struct chart_problems *problems);
void chart_problems_free(struct chart_problems *problems);

struct chart {
    const char *name;
    const char *recipe; /* pattern: * any text, ? one character, [abc], [a-z], [!a-z] */
    const char *unit;   /* "" when not said; likewise notes */
    const char *notes;
    const char *const *baseline; /* attributes, as written */
    size_t baseline_count;
    struct equation equation;
    struct limits_spec limits;
    struct rules_spec rules;
    enum severity severity; /* of rules that do not say one of their own */
    size_t min_samples;     /* of each window but count's, for the indicator to have a value; 0: any */
    size_t line;            /* where the chart begins in its file */
    size_t equation_line, equation_column;
};

struct chart_set;

/* Parses the chart file `text`. `file_name` is for messages only. Every problem is appended to `problems`
 * (may be NULL). Returns 0 with *set made (free it with chart_set_free) when there is no error; warnings may
 * have been found. ERR_INVALID: the file has errors, *set is NULL, `err` has the first as "file:line:column:
 * what" and their number. ERR_LIMIT: longer than CHART_FILE_MAX_BYTES or more than CHARTS_MAX charts.
 * ERR_NO_MEMORY. */
int chart_set_parse(const char *text, size_t length, const char *file_name, struct chart_set **set,
                    struct chart_problems *problems, struct error *err);

/* Checks the sensors that the equations name against those that exist; a sensor not among `names` is a
 * warning with the nearest name. ERR_NO_MEMORY. */
int chart_set_check_sensors(const struct chart_set *set, const char *const *names, size_t count,
                            struct chart_problems *problems, struct error *err);

void chart_set_free(struct chart_set *set);

/* hash64 of the file's text: equal files are equal sets. */
uint64_t chart_set_id(const struct chart_set *set);

size_t chart_set_count(const struct chart_set *set);
const struct chart *chart_set_at(const struct chart_set *set, size_t i); /* in the order of the file */

/* The chart of that name, NULL when there is none. */
const struct chart *chart_set_find(const struct chart_set *set, const char *name);

/* The file's text as parsed, for storing and handing on. */
const char *chart_set_text(const struct chart_set *set, size_t *length);

/* Contexts of history asked for by the file's `lookback:`; 0 when it does not say. */
size_t chart_set_lookback(const struct chart_set *set);

/* The contexts that the file was learned from, by its `learned: {contexts: [...]}`; *count is 0 when it does
 * not say. */
const char *const *chart_set_learned(const struct chart_set *set, size_t *count);

#endif
