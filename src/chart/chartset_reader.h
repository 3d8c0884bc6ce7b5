/* Inside of reading a chart file: values of the YAML tree into values of the engine, with a complaint for
 * whatever is wrong. chartset.c reads the file and its charts, chartset_limits.c and chartset_rules.c what
 * stands under those keys. */
#ifndef CHAMBERLAIN_CHART_CHARTSET_READER_H
#define CHAMBERLAIN_CHART_CHARTSET_READER_H

#include "chart/chartset.h"
#include "chart/yamltree.h"

struct chart_reader {
    struct chart_set *set;
    struct arena scratch; /* the YAML tree */
    struct chart_problems *problems;
    int code; /* 0, or ERR_NO_MEMORY or ERR_LIMIT */
    struct error *err;
};

/* A mistake, or a thing worth a second look, at a node's place. */
void reader_wrong(struct chart_reader *reader, const struct yaml_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void reader_warn(struct chart_reader *reader, const struct yaml_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Out of memory: reading ends. */
void reader_no_memory(struct chart_reader *reader);

/* A copy in the set's arena; "" when out of memory, which is then noted. */
const char *reader_keep(struct chart_reader *reader, const char *text, size_t length);

/* "a list", "a mapping", "a single value". */
const char *reader_kind_name(const struct yaml_node *node);

/* Sorts the values of a mapping by the list of known keys: values[i] is that of keys[i] or NULL. `where`
 * names the mapping. False when the node is no mapping. */
bool reader_mapping(struct chart_reader *reader, const struct yaml_node *node, const char *where,
                    const char *const *keys, size_t count, const struct yaml_node **values);

/* A text of 1 (or 0, when `empty`) to `most` bytes without control characters; NULL after a complaint. */
const char *reader_text(struct chart_reader *reader, const struct yaml_node *node, const char *key,
                        size_t most, bool empty);

/* A number in low..high; low itself does not belong to it when `open`. After a complaint *number is as
 * before; likewise below. */
void reader_bounded(struct chart_reader *reader, const struct yaml_node *node, const char *key, double low,
                    double high, bool open, double *number);
void reader_size(struct chart_reader *reader, const struct yaml_node *node, const char *key, size_t low,
                 size_t high, size_t *size);
void reader_boolean(struct chart_reader *reader, const struct yaml_node *node, const char *key, bool *value);
void reader_severity(struct chart_reader *reader, const struct yaml_node *node, enum severity *severity);

/* The index of a scalar among names; `count` after a complaint. */
size_t reader_choice(struct chart_reader *reader, const struct yaml_node *node, const char *kind,
                     const char *const *names, size_t count);

enum limits_key {
    LIMITS_KEY_METHOD,
    LIMITS_KEY_FIXED,
    LIMITS_KEY_SIDE,
    LIMITS_KEY_SIGMA,
    LIMITS_KEY_HISTORY,
    LIMITS_KEY_MIN_HISTORY,
    LIMITS_KEY_LOWER,
    LIMITS_KEY_UPPER,
    LIMITS_KEY_TARGET,
    LIMITS_KEY_STDEV,
    LIMITS_KEY_SIGMA_FLOOR,
    LIMITS_KEY_RESOLUTION,
    LIMITS_KEY_LAMBDA,
    LIMITS_KEY_FLOOR,
    LIMITS_KEY_STDEV_BY,
    LIMITS_KEY_COUNT
};

/* What has been said so far, by the defaults and then by the chart. */
struct limits_read {
    struct limits_spec spec;
    bool given[LIMITS_KEY_COUNT];
    const struct yaml_node *node; /* the mapping; NULL when there is none */
};

void reader_limits(struct chart_reader *reader, const struct yaml_node *node, struct limits_read *read);

void reader_rules(struct chart_reader *reader, const struct yaml_node *node, struct rules_spec *spec);

/* Keeps one problem, or counts it when there are too many; puts those from `first` on in the order of the
 * file. */
void chart_problems_add(struct chart_problems *problems, size_t line, size_t column, bool warning,
                        const char *text);
void chart_problems_sort(struct chart_problems *problems, size_t first);

#endif
