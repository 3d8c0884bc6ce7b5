#include "chart/chartset_reader.h"
#include "chart/chartset_struct.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const LIMITS_KEYS[LIMITS_KEY_COUNT] = {
    "method", "fixed", "side",        "sigma",      "history", "min_history", "lower",   "upper",
    "target", "stdev", "sigma_floor", "resolution", "lambda",  "floor",       "stdev_by"};

static const double LARGEST = 1e300;

/* The method a mapping asks for; LIMITS_METHOD_COUNT when it does not say or is wrong about it. */
static size_t read_method(struct chart_reader *reader, const struct yaml_node **values)
{
    const char *names[LIMITS_METHOD_COUNT];
    for (size_t i = 0; i < LIMITS_METHOD_COUNT; i++)
        names[i] = limits_method_name((enum limits_method)i);
    if (values[LIMITS_KEY_METHOD])
        return reader_choice(reader, values[LIMITS_KEY_METHOD], "limits method", names, LIMITS_METHOD_COUNT);
    if (values[LIMITS_KEY_FIXED] || values[LIMITS_KEY_LOWER] || values[LIMITS_KEY_UPPER])
        return LIMITS_FIXED;
    return LIMITS_METHOD_COUNT;
}

static int compare_stdev_values(const void *a, const void *b)
{
    return strcmp(((const struct limits_stdev *)a)->value, ((const struct limits_stdev *)b)->value);
}

/* `stdev_by: {lot: {A1: 0.61, A2: 0.59}}`. */
static void read_stdev_by(struct chart_reader *reader, const struct yaml_node *node, struct limits_spec *spec)
{
    const struct yaml_node *attribute = node->first;
    if (node->kind != YAML_MAPPING || node->count != 1 || attribute->kind != YAML_SCALAR ||
        attribute->next->kind != YAML_MAPPING) {
        reader_wrong(reader, node,
                     "stdev_by must name one attribute and its values' deviations, as in {lot: {A1: 0.61}}");
        return;
    }
    spec->stdev_attribute = reader_text(reader, attribute, "an attribute", CHART_NAME_MAX_BYTES, false);
    const struct yaml_node *table = attribute->next;
    struct limits_stdev *values = arena_calloc(&reader->set->arena, table->count, sizeof *values);
    if (values == NULL) {
        reader_no_memory(reader);
        return;
    }
    spec->stdev_values = values;
    spec->stdev_count = 0;
    for (const struct yaml_node *key = table->first; key; key = key->next->next) {
        if (key->kind != YAML_SCALAR)
            continue; /* reported by the tree */
        struct limits_stdev *value = &values[spec->stdev_count++];
        value->value = reader_keep(reader, key->text, key->length);
        reader_bounded(reader, key->next, "a deviation in stdev_by", 0, LARGEST, false, &value->stdev);
    }
    qsort(values, spec->stdev_count, sizeof *values, compare_stdev_values);
}

static void read_limit_values(struct chart_reader *reader, const struct yaml_node **values,
                              struct limits_spec *spec)
{
    static const char *const sides[] = {"both", "lower", "upper"};
    if (values[LIMITS_KEY_SIDE]) {
        size_t side = reader_choice(reader, values[LIMITS_KEY_SIDE], "side", sides, 3);
        if (side < 3)
            spec->side = (enum limits_side)side;
    }
    if (values[LIMITS_KEY_SIGMA])
        reader_bounded(reader, values[LIMITS_KEY_SIGMA], "sigma", 0, 1000, true, &spec->sigma);
    if (values[LIMITS_KEY_HISTORY])
        reader_size(reader, values[LIMITS_KEY_HISTORY], "history", 2, LIMITS_HISTORY_MAX, &spec->history);
    if (values[LIMITS_KEY_MIN_HISTORY])
        reader_size(reader, values[LIMITS_KEY_MIN_HISTORY], "min_history", 2, LIMITS_HISTORY_MAX,
                    &spec->min_history);
    if (values[LIMITS_KEY_LOWER])
        reader_bounded(reader, values[LIMITS_KEY_LOWER], "lower", -LARGEST, LARGEST, false, &spec->lower);
    if (values[LIMITS_KEY_UPPER])
        reader_bounded(reader, values[LIMITS_KEY_UPPER], "upper", -LARGEST, LARGEST, false, &spec->upper);
    if (values[LIMITS_KEY_TARGET])
        reader_bounded(reader, values[LIMITS_KEY_TARGET], "target", -LARGEST, LARGEST, false, &spec->target);
    if (values[LIMITS_KEY_STDEV])
        reader_bounded(reader, values[LIMITS_KEY_STDEV], "stdev", 0, LARGEST, spec->method != LIMITS_TRACKED,
                       &spec->stdev);
    if (values[LIMITS_KEY_SIGMA_FLOOR])
        reader_bounded(reader, values[LIMITS_KEY_SIGMA_FLOOR], "sigma_floor", 0, LARGEST, false,
                       &spec->sigma_floor);
    if (values[LIMITS_KEY_RESOLUTION])
        reader_bounded(reader, values[LIMITS_KEY_RESOLUTION], "resolution", 0, LARGEST, false,
                       &spec->resolution);
    if (values[LIMITS_KEY_LAMBDA])
        reader_bounded(reader, values[LIMITS_KEY_LAMBDA], "lambda", 0, 1, true, &spec->lambda);
    if (values[LIMITS_KEY_FLOOR])
        reader_bounded(reader, values[LIMITS_KEY_FLOOR], "floor", 0, LARGEST, false, &spec->floor);
    if (values[LIMITS_KEY_STDEV_BY])
        read_stdev_by(reader, values[LIMITS_KEY_STDEV_BY], spec);
}

/* `fixed: {lower: , upper: }` inside of limits. */
static void read_fixed(struct chart_reader *reader, const struct yaml_node *node,
                       const struct yaml_node **values)
{
    static const char *const keys[] = {"lower", "upper", "target", "stdev"};
    const struct yaml_node *inner[4];
    if (!reader_mapping(reader, node, "fixed", keys, 4, inner))
        return;
    for (size_t i = 0; i < 4; i++) {
        if (inner[i])
            values[LIMITS_KEY_LOWER + i] = inner[i];
    }
}

/* Keys that the method has no use for are mistakes: whoever wrote them expects something of them. */
static void check_keys(struct chart_reader *reader, const struct yaml_node **values,
                       const struct limits_spec *spec)
{
    for (size_t i = 0; i < LIMITS_KEY_COUNT; i++) {
        bool tracked_only = i == LIMITS_KEY_LAMBDA || i == LIMITS_KEY_FLOOR || i == LIMITS_KEY_STDEV_BY;
        bool never_tracked =
            i == LIMITS_KEY_TARGET || i == LIMITS_KEY_SIGMA_FLOOR || i == LIMITS_KEY_RESOLUTION;
        bool fixed_only = i == LIMITS_KEY_LOWER || i == LIMITS_KEY_UPPER || i == LIMITS_KEY_FIXED;
        bool never_fixed = i == LIMITS_KEY_SIDE || i == LIMITS_KEY_SIGMA || i == LIMITS_KEY_MIN_HISTORY ||
                           i == LIMITS_KEY_SIGMA_FLOOR || i == LIMITS_KEY_RESOLUTION;
        if (values[i] == NULL)
            continue;
        bool tracked = spec->method == LIMITS_TRACKED;
        if ((spec->method == LIMITS_FIXED ? never_fixed : fixed_only) ||
            (tracked ? never_tracked : tracked_only))
            reader_wrong(reader, values[i], "'%s' has no meaning for limits of the method '%s'",
                         LIMITS_KEYS[i], limits_method_name(spec->method));
    }
}

/* What is wrong only when seen together. */
static void check_limits(struct chart_reader *reader, const struct yaml_node *node,
                         const struct limits_read *read)
{
    const struct limits_spec *spec = &read->spec;
    if (spec->method == LIMITS_FIXED && isnan(spec->lower) && isnan(spec->upper))
        reader_wrong(reader, node, "fixed limits need 'lower', 'upper' or both");
    if (spec->method == LIMITS_TRACKED && isnan(spec->stdev))
        reader_wrong(reader, node, "tracked limits need 'stdev', the deviation that was learned");
    if (spec->lower >= spec->upper)
        reader_wrong(reader, node, "the lower limit %g is not below the upper limit %g", spec->lower,
                     spec->upper);
    if (spec->target < spec->lower || spec->target > spec->upper)
        reader_wrong(reader, node, "the target %g lies outside the limits", spec->target);
    if (spec->min_history > spec->history)
        reader_wrong(reader, node,
                     "min_history %zu is more than history %zu: the chart would never stop learning",
                     spec->min_history, spec->history);
}

void reader_limits(struct chart_reader *reader, const struct yaml_node *node, struct limits_read *read)
{
    const struct yaml_node *values[LIMITS_KEY_COUNT];
    if (!reader_mapping(reader, node, "limits", LIMITS_KEYS, LIMITS_KEY_COUNT, values))
        return;
    size_t method = read_method(reader, values);
    if (method < LIMITS_METHOD_COUNT && (enum limits_method)method != read->spec.method) {
        /* Another method: what the defaults say about theirs does not apply. */
        limits_spec_default(&read->spec);
        memset(read->given, 0, sizeof read->given);
        read->spec.method = (enum limits_method)method;
    }
    if (values[LIMITS_KEY_FIXED])
        read_fixed(reader, values[LIMITS_KEY_FIXED], values);
    read_limit_values(reader, values, &read->spec);
    for (size_t i = 0; i < LIMITS_KEY_COUNT; i++)
        read->given[i] = read->given[i] || values[i];
    size_t min_history =
        read->spec.method == LIMITS_TRACKED ? LIMITS_TRACKED_MIN_HISTORY : LIMITS_DEFAULT_MIN_HISTORY;
    if (!read->given[LIMITS_KEY_MIN_HISTORY])
        read->spec.min_history = read->spec.history < min_history ? read->spec.history : min_history;
    read->node = node;
    check_keys(reader, values, &read->spec);
    check_limits(reader, node, read);
}
