#include "chart/chartset.h"

#include "base/hash.h"
#include "chart/chartset_struct.h"
#include "chart/glob.h"
#include "chart/nearest.h"
#include "chart/yamltree.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- problems ---- */

void chart_problems_init(struct chart_problems *problems)
{
    *problems = (struct chart_problems){0};
    arena_init(&problems->arena, 0);
}

void chart_problems_free(struct chart_problems *problems)
{
    arena_free(&problems->arena);
    chart_problems_init(problems);
}

/* Room for one more; the old array stays in the arena, at most as much again. */
static bool problems_grow(struct chart_problems *problems)
{
    if (problems->count < problems->capacity)
        return true;
    size_t capacity = problems->capacity ? problems->capacity * 2 : 8;
    struct chart_problem *items = arena_calloc(&problems->arena, capacity, sizeof *items);
    if (items == NULL)
        return false;
    if (problems->count > 0)
        memcpy(items, problems->items, problems->count * sizeof *items);
    problems->items = items;
    problems->capacity = capacity;
    return true;
}

static void problems_add(struct chart_problems *problems, size_t line, size_t column, bool warning,
                         const char *text)
{
    if (warning)
        problems->warnings++;
    else
        problems->errors++;
    if (problems->count > CHART_PROBLEMS_MAX)
        return;
    if (problems->count == CHART_PROBLEMS_MAX)
        text = "there are more problems, which are not listed";
    const char *message = arena_strdup(&problems->arena, text);
    if (message == NULL || !problems_grow(problems)) {
        problems->failed = true;
        return;
    }
    problems->failed = problems->failed || problems->count == CHART_PROBLEMS_MAX;
    problems->items[problems->count++] = (struct chart_problem){line, column, warning, message};
}

static int problem_compare(const void *a, const void *b)
{
    const struct chart_problem *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return (x->column > y->column) - (x->column < y->column);
}

/* ---- reading ---- */

struct loader {
    struct chart_set *set;
    struct arena scratch; /* the YAML tree */
    struct chart_problems *problems;
    int code; /* 0, or ERR_NO_MEMORY or ERR_LIMIT */
    struct error *err;
};

static void complain(struct loader *loader, const struct yaml_node *node, bool warning, const char *format,
                     va_list args) __attribute__((format(printf, 4, 0)));

static void complain(struct loader *loader, const struct yaml_node *node, bool warning, const char *format,
                     va_list args)
{
    struct error text;
    error_vset(&text, ERR_INVALID, format, args);
    problems_add(loader->problems, node->line, node->column, warning, text.text);
}

static void wrong(struct loader *loader, const struct yaml_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void wrong(struct loader *loader, const struct yaml_node *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(loader, node, false, format, args);
    va_end(args);
}

static void warn(struct loader *loader, const struct yaml_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void warn(struct loader *loader, const struct yaml_node *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(loader, node, true, format, args);
    va_end(args);
}

static void no_memory(struct loader *loader)
{
    loader->code = error_set(loader->err, ERR_NO_MEMORY, "out of memory while reading a chart file");
}

static const char *keep(struct loader *loader, const char *text, size_t length)
{
    const char *copy = arena_strndup(&loader->set->arena, text, length);
    if (copy == NULL)
        no_memory(loader);
    return copy ? copy : "";
}

static const char *kind_name(const struct yaml_node *node)
{
    return node->kind == YAML_LIST ? "a list" : node->kind == YAML_MAPPING ? "a mapping" : "a single value";
}

/* "unknown KIND 'NAME'; did you mean 'X'?" */
static void unknown(struct loader *loader, const struct yaml_node *node, const char *kind,
                    const char *const *names, size_t count)
{
    const char *nearest = nearest_name(node->text, names, count);
    char known[256] = "";
    for (size_t i = 0, used = 0; nearest == NULL && i < count; i++) {
        size_t room = sizeof known - used;
        int written = snprintf(known + used, room, "%s%s", i ? ", " : "", names[i]);
        if (written < 0 || (size_t)written >= room)
            break;
        used += (size_t)written;
    }
    if (nearest)
        wrong(loader, node, "unknown %s '%.100s'; did you mean '%s'?", kind, node->text, nearest);
    else
        wrong(loader, node, "unknown %s '%.100s' (known: %s)", kind, node->text, known);
}

/* Sorts the values of a mapping by the list of known keys: values[i] is that of keys[i] or NULL. `where`
 * names the mapping. False when the node is no mapping. */
static bool read_mapping(struct loader *loader, const struct yaml_node *node, const char *where,
                         const char *const *keys, size_t count, const struct yaml_node **values)
{
    for (size_t i = 0; i < count; i++)
        values[i] = NULL;
    if (node->kind != YAML_MAPPING) {
        wrong(loader, node, "%s must be a mapping of keys and values, but is %s", where, kind_name(node));
        return false;
    }
    for (const struct yaml_node *key = node->first; key; key = key->next->next) {
        if (key->kind != YAML_SCALAR)
            continue; /* reported by the tree */
        size_t i = 0;
        while (i < count && strcmp(key->text, keys[i]) != 0)
            i++;
        char kind[64];
        snprintf(kind, sizeof kind, "key in %s", where);
        if (i == count)
            unknown(loader, key, kind, keys, count);
        else if (values[i] == NULL)
            values[i] = key->next;
    }
    return true;
}

/* A text of 1 (or 0, when `empty`) to `most` bytes without control characters; NULL after a complaint. */
static const char *read_text(struct loader *loader, const struct yaml_node *node, const char *key,
                             size_t most, bool empty)
{
    if (node->kind != YAML_SCALAR) {
        wrong(loader, node, "%s must be a text, but is %s", key, kind_name(node));
        return NULL;
    }
    if (node->length == 0 && !empty) {
        wrong(loader, node, "%s must not be empty", key);
        return NULL;
    }
    if (node->length > most) {
        wrong(loader, node, "%s has %zu bytes; at most %zu are allowed", key, node->length, most);
        return NULL;
    }
    for (const char *p = node->text; *p; p++) {
        if (((unsigned char)*p < 0x20 && !(*p == '\n' && most == CHART_NOTES_MAX_BYTES)) || *p == 0x7f) {
            wrong(loader, node, "%s must not contain control characters", key);
            return NULL;
        }
    }
    return keep(loader, node->text, node->length);
}

static bool read_number(struct loader *loader, const struct yaml_node *node, const char *key, double *number)
{
    bool plain = node->kind == YAML_SCALAR && node->style == YAML_PLAIN && node->length > 0;
    char *end = NULL;
    double value = plain ? strtod(node->text, &end) : 0;
    /* strtod also reads hexadecimal, "inf" and "nan". */
    if (!plain || *end != '\0' || !isfinite(value) || strpbrk(node->text, "xXnN \t\n")) {
        wrong(loader, node, "%s must be a number, but is %s%.60s%s", key,
              node->kind == YAML_SCALAR ? "'" : "", node->kind == YAML_SCALAR ? node->text : kind_name(node),
              node->kind == YAML_SCALAR ? "'" : "");
        return false;
    }
    *number = value;
    return true;
}

/* A number in low..high; the bounds themselves belong to it unless `open`. */
static void read_bounded(struct loader *loader, const struct yaml_node *node, const char *key, double low,
                         double high, bool open, double *number)
{
    double value;
    if (!read_number(loader, node, key, &value))
        return;
    if (open ? value <= low || value > high : value < low || value > high)
        wrong(loader, node, "%s is %g; it must be %s %g and at most %g", key, value,
              open ? "over" : "at least", low, high);
    else
        *number = value;
}

static void read_size(struct loader *loader, const struct yaml_node *node, const char *key, size_t low,
                      size_t high, size_t *size)
{
    double value;
    if (!read_number(loader, node, key, &value))
        return;
    if (value != floor(value) || value < (double)low || value > (double)high)
        wrong(loader, node, "%s is %g; it must be a whole number from %zu to %zu", key, value, low, high);
    else
        *size = (size_t)value;
}

static void read_boolean(struct loader *loader, const struct yaml_node *node, const char *key, bool *value)
{
    bool yes = node->kind == YAML_SCALAR && strcmp(node->text, "true") == 0;
    bool no = node->kind == YAML_SCALAR && strcmp(node->text, "false") == 0;
    if (!yes && !no)
        wrong(loader, node, "%s must be true or false", key);
    else
        *value = yes;
}

/* The index of a scalar among names; `count` after a complaint. */
static size_t read_choice(struct loader *loader, const struct yaml_node *node, const char *kind,
                          const char *const *names, size_t count)
{
    if (node->kind != YAML_SCALAR) {
        wrong(loader, node, "%s must be one word, but is %s", kind, kind_name(node));
        return count;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(node->text, names[i]) == 0)
            return i;
    }
    unknown(loader, node, kind, names, count);
    return count;
}

static void read_severity(struct loader *loader, const struct yaml_node *node, enum severity *severity)
{
    static const char *const names[] = {"info", "warning", "critical"};
    size_t i = read_choice(loader, node, "severity", names, 3);
    if (i < 3)
        *severity = (enum severity)(SEVERITY_INFO + i);
}

/* ---- limits ---- */

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

static const char *const LIMITS_KEYS[LIMITS_KEY_COUNT] = {
    "method", "fixed", "side",        "sigma",      "history", "min_history", "lower",   "upper",
    "target", "stdev", "sigma_floor", "resolution", "lambda",  "floor",       "stdev_by"};

/* What has been said so far, by the defaults and then by the chart. */
struct limits_read {
    struct limits_spec spec;
    bool given[LIMITS_KEY_COUNT];
    const struct yaml_node *node; /* the mapping; NULL when there is none */
};

static const double LARGEST = 1e300;

/* The method a mapping asks for; LIMITS_METHOD_COUNT when it does not say or is wrong about it. */
static size_t read_method(struct loader *loader, const struct yaml_node **values)
{
    const char *names[LIMITS_METHOD_COUNT];
    for (size_t i = 0; i < LIMITS_METHOD_COUNT; i++)
        names[i] = limits_method_name((enum limits_method)i);
    if (values[LIMITS_KEY_METHOD])
        return read_choice(loader, values[LIMITS_KEY_METHOD], "limits method", names, LIMITS_METHOD_COUNT);
    if (values[LIMITS_KEY_FIXED] || values[LIMITS_KEY_LOWER] || values[LIMITS_KEY_UPPER])
        return LIMITS_FIXED;
    return LIMITS_METHOD_COUNT;
}

static int compare_stdev_values(const void *a, const void *b)
{
    return strcmp(((const struct limits_stdev *)a)->value, ((const struct limits_stdev *)b)->value);
}

/* `stdev_by: {lot: {A1: 0.61, A2: 0.59}}`. */
static void read_stdev_by(struct loader *loader, const struct yaml_node *node, struct limits_spec *spec)
{
    const struct yaml_node *attribute = node->first;
    if (node->kind != YAML_MAPPING || node->count != 1 || attribute->kind != YAML_SCALAR ||
        attribute->next->kind != YAML_MAPPING) {
        wrong(loader, node,
              "stdev_by must name one attribute and its values' deviations, as in {lot: {A1: 0.61}}");
        return;
    }
    spec->stdev_attribute = read_text(loader, attribute, "an attribute", CHART_NAME_MAX_BYTES, false);
    const struct yaml_node *table = attribute->next;
    struct limits_stdev *values = arena_calloc(&loader->set->arena, table->count, sizeof *values);
    if (values == NULL) {
        no_memory(loader);
        return;
    }
    spec->stdev_values = values;
    spec->stdev_count = 0;
    for (const struct yaml_node *key = table->first; key; key = key->next->next) {
        if (key->kind != YAML_SCALAR)
            continue; /* reported by the tree */
        struct limits_stdev *value = &values[spec->stdev_count++];
        value->value = keep(loader, key->text, key->length);
        read_bounded(loader, key->next, "a deviation in stdev_by", 0, LARGEST, false, &value->stdev);
    }
    qsort(values, spec->stdev_count, sizeof *values, compare_stdev_values);
}

static void read_limit_values(struct loader *loader, const struct yaml_node **values,
                              struct limits_spec *spec)
{
    static const char *const sides[] = {"both", "lower", "upper"};
    if (values[LIMITS_KEY_SIDE]) {
        size_t side = read_choice(loader, values[LIMITS_KEY_SIDE], "side", sides, 3);
        if (side < 3)
            spec->side = (enum limits_side)side;
    }
    if (values[LIMITS_KEY_SIGMA])
        read_bounded(loader, values[LIMITS_KEY_SIGMA], "sigma", 0, 1000, true, &spec->sigma);
    if (values[LIMITS_KEY_HISTORY])
        read_size(loader, values[LIMITS_KEY_HISTORY], "history", 2, LIMITS_HISTORY_MAX, &spec->history);
    if (values[LIMITS_KEY_MIN_HISTORY])
        read_size(loader, values[LIMITS_KEY_MIN_HISTORY], "min_history", 2, LIMITS_HISTORY_MAX,
                  &spec->min_history);
    if (values[LIMITS_KEY_LOWER])
        read_bounded(loader, values[LIMITS_KEY_LOWER], "lower", -LARGEST, LARGEST, false, &spec->lower);
    if (values[LIMITS_KEY_UPPER])
        read_bounded(loader, values[LIMITS_KEY_UPPER], "upper", -LARGEST, LARGEST, false, &spec->upper);
    if (values[LIMITS_KEY_TARGET])
        read_bounded(loader, values[LIMITS_KEY_TARGET], "target", -LARGEST, LARGEST, false, &spec->target);
    if (values[LIMITS_KEY_STDEV])
        read_bounded(loader, values[LIMITS_KEY_STDEV], "stdev", 0, LARGEST, spec->method != LIMITS_TRACKED,
                     &spec->stdev);
    if (values[LIMITS_KEY_SIGMA_FLOOR])
        read_bounded(loader, values[LIMITS_KEY_SIGMA_FLOOR], "sigma_floor", 0, LARGEST, false,
                     &spec->sigma_floor);
    if (values[LIMITS_KEY_RESOLUTION])
        read_bounded(loader, values[LIMITS_KEY_RESOLUTION], "resolution", 0, LARGEST, false,
                     &spec->resolution);
    if (values[LIMITS_KEY_LAMBDA])
        read_bounded(loader, values[LIMITS_KEY_LAMBDA], "lambda", 0, 1, true, &spec->lambda);
    if (values[LIMITS_KEY_FLOOR])
        read_bounded(loader, values[LIMITS_KEY_FLOOR], "floor", 0, LARGEST, false, &spec->floor);
    if (values[LIMITS_KEY_STDEV_BY])
        read_stdev_by(loader, values[LIMITS_KEY_STDEV_BY], spec);
}

/* `fixed: {lower: , upper: }` inside of limits. */
static void read_fixed(struct loader *loader, const struct yaml_node *node, const struct yaml_node **values)
{
    static const char *const keys[] = {"lower", "upper", "target", "stdev"};
    const struct yaml_node *inner[4];
    if (!read_mapping(loader, node, "fixed", keys, 4, inner))
        return;
    for (size_t i = 0; i < 4; i++) {
        if (inner[i])
            values[LIMITS_KEY_LOWER + i] = inner[i];
    }
}

/* Keys that the method has no use for are mistakes: whoever wrote them expects something of them. */
static void check_keys(struct loader *loader, const struct yaml_node **values, const struct limits_spec *spec)
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
            wrong(loader, values[i], "'%s' has no meaning for limits of the method '%s'", LIMITS_KEYS[i],
                  limits_method_name(spec->method));
    }
}

/* What is wrong only when seen together. */
static void check_limits(struct loader *loader, const struct yaml_node *node, const struct limits_read *read)
{
    const struct limits_spec *spec = &read->spec;
    if (spec->method == LIMITS_FIXED && isnan(spec->lower) && isnan(spec->upper))
        wrong(loader, node, "fixed limits need 'lower', 'upper' or both");
    if (spec->method == LIMITS_TRACKED && isnan(spec->stdev))
        wrong(loader, node, "tracked limits need 'stdev', the deviation that was learned");
    if (spec->lower >= spec->upper)
        wrong(loader, node, "the lower limit %g is not below the upper limit %g", spec->lower, spec->upper);
    if (spec->target < spec->lower || spec->target > spec->upper)
        wrong(loader, node, "the target %g lies outside the limits", spec->target);
    if (spec->min_history > spec->history)
        wrong(loader, node, "min_history %zu is more than history %zu: the chart would never stop learning",
              spec->min_history, spec->history);
}

static void read_limits(struct loader *loader, const struct yaml_node *node, struct limits_read *read)
{
    const struct yaml_node *values[LIMITS_KEY_COUNT];
    if (!read_mapping(loader, node, "limits", LIMITS_KEYS, LIMITS_KEY_COUNT, values))
        return;
    size_t method = read_method(loader, values);
    if (method < LIMITS_METHOD_COUNT && (enum limits_method)method != read->spec.method) {
        /* Another method: what the defaults say about theirs does not apply. */
        limits_spec_default(&read->spec);
        memset(read->given, 0, sizeof read->given);
        read->spec.method = (enum limits_method)method;
    }
    if (values[LIMITS_KEY_FIXED])
        read_fixed(loader, values[LIMITS_KEY_FIXED], values);
    read_limit_values(loader, values, &read->spec);
    for (size_t i = 0; i < LIMITS_KEY_COUNT; i++)
        read->given[i] = read->given[i] || values[i];
    size_t min_history =
        read->spec.method == LIMITS_TRACKED ? LIMITS_TRACKED_MIN_HISTORY : LIMITS_DEFAULT_MIN_HISTORY;
    if (!read->given[LIMITS_KEY_MIN_HISTORY])
        read->spec.min_history = read->spec.history < min_history ? read->spec.history : min_history;
    read->node = node;
    check_keys(loader, values, &read->spec);
    check_limits(loader, node, read);
}

/* ---- rules ---- */

enum { GROUP_COUNT = 2 };

static const struct {
    const char *name;
    enum rule first, last;
} GROUPS[GROUP_COUNT] = {
    {"western_electric", RULE_WESTERN_ELECTRIC_1, RULE_WESTERN_ELECTRIC_4},
    {"nelson", RULE_NELSON_1, RULE_NELSON_8},
};

/* Which rules a name stands for; false after a complaint. */
static bool rule_range(struct loader *loader, const struct yaml_node *node, size_t *first, size_t *last)
{
    const char *names[RULE_COUNT + GROUP_COUNT];
    for (size_t i = 0; i < RULE_COUNT; i++)
        names[i] = rule_name((enum rule)i);
    for (size_t i = 0; i < GROUP_COUNT; i++)
        names[RULE_COUNT + i] = GROUPS[i].name;
    size_t i = read_choice(loader, node, "rule", names, RULE_COUNT + GROUP_COUNT);
    if (i == RULE_COUNT + GROUP_COUNT)
        return false;
    *first = i < RULE_COUNT ? i : (size_t)GROUPS[i - RULE_COUNT].first;
    *last = i < RULE_COUNT ? i : (size_t)GROUPS[i - RULE_COUNT].last;
    return true;
}

static void read_ewma(struct loader *loader, const struct yaml_node *node, struct rules_spec *spec,
                      enum severity *severity)
{
    static const char *const keys[] = {"lambda", "limit", "steady", "restart", "severity"};
    const struct yaml_node *values[5];
    if (!read_mapping(loader, node, "ewma", keys, 5, values))
        return;
    if (values[0])
        read_bounded(loader, values[0], "lambda", 0, 1, true, &spec->ewma_lambda);
    if (values[1])
        read_bounded(loader, values[1], "limit", 0, 1000, true, &spec->ewma_limit);
    if (values[2])
        read_boolean(loader, values[2], "steady", &spec->ewma_steady);
    if (values[3])
        read_boolean(loader, values[3], "restart", &spec->ewma_restart);
    if (values[4])
        read_severity(loader, values[4], severity);
}

static void read_cusum(struct loader *loader, const struct yaml_node *node, struct rules_spec *spec,
                       enum severity *severity)
{
    static const char *const keys[] = {"k", "h", "restart", "severity"};
    const struct yaml_node *values[4];
    if (!read_mapping(loader, node, "cusum", keys, 4, values))
        return;
    if (values[0])
        read_bounded(loader, values[0], "k", 0, 1000, false, &spec->cusum_k);
    if (values[1])
        read_bounded(loader, values[1], "h", 0, 1e6, true, &spec->cusum_h);
    if (values[2])
        read_boolean(loader, values[2], "restart", &spec->cusum_restart);
    if (values[3])
        read_severity(loader, values[3], severity);
}

/* What stands under a rule's name: its parameters. */
static void read_parameters(struct loader *loader, const struct yaml_node *node, const char *name,
                            size_t rule, struct rules_spec *spec, enum severity *severity)
{
    static const char *const keys[] = {"severity"};
    const struct yaml_node *values[1];
    if (node->kind == YAML_SCALAR && node->length == 0)
        return;
    if (rule == RULE_EWMA)
        read_ewma(loader, node, spec, severity);
    else if (rule == RULE_CUSUM)
        read_cusum(loader, node, spec, severity);
    else if (read_mapping(loader, node, name, keys, 1, values) && values[0])
        read_severity(loader, values[0], severity);
}

/* One entry: a name, or a name with parameters. */
static void read_rule(struct loader *loader, const struct yaml_node *entry, struct rules_spec *spec)
{
    const struct yaml_node *name = entry, *parameters = NULL;
    if (entry->kind == YAML_MAPPING && entry->count == 1 && entry->first->kind == YAML_SCALAR) {
        name = entry->first;
        parameters = name->next;
    } else if (entry->kind != YAML_SCALAR) {
        wrong(loader, entry,
              "a rule is a name, or one name with its parameters, as in 'ewma: {lambda: 0.2}'");
        return;
    }
    size_t first, last;
    enum severity severity = SEVERITY_NONE;
    if (!rule_range(loader, name, &first, &last))
        return;
    if (parameters)
        read_parameters(loader, parameters, name->text, first, spec, &severity);
    for (size_t i = first; i <= last; i++) {
        if (spec->enabled & 1u << i && first == last && severity == SEVERITY_NONE)
            warn(loader, name, "the rule '%s' is given a second time", name->text);
        spec->enabled |= 1u << i;
        if (severity != SEVERITY_NONE)
            spec->severity[i] = severity;
    }
}

static void read_rules(struct loader *loader, const struct yaml_node *node, struct rules_spec *spec)
{
    rules_spec_default(spec);
    spec->enabled = 0;
    if (node->kind == YAML_SCALAR && node->length > 0) {
        read_rule(loader, node, spec);
        return;
    }
    if (node->kind != YAML_LIST) {
        wrong(loader, node, "rules must be a list, as in [limits, western_electric]");
        return;
    }
    for (const struct yaml_node *entry = node->first; entry; entry = entry->next)
        read_rule(loader, entry, spec);
}

/* ---- charts ---- */

enum chart_key {
    CHART_KEY_NAME,
    CHART_KEY_EQUATION,
    CHART_KEY_RECIPE,
    CHART_KEY_BASELINE,
    CHART_KEY_UNIT,
    CHART_KEY_LIMITS,
    CHART_KEY_RULES,
    CHART_KEY_SEVERITY,
    CHART_KEY_NOTES,
    CHART_KEY_MIN_SAMPLES,
    CHART_KEY_COUNT
};

static const char *const CHART_KEYS[CHART_KEY_COUNT] = {
    "name", "equation", "recipe", "baseline", "unit", "limits", "rules", "severity", "notes", "min_samples"};

static const char *const DEFAULT_BASELINE[CHART_DEFAULT_BASELINE_COUNT] = {"tool", "chamber", "recipe"};

/* What a chart is before it says anything itself. */
struct template
{
    struct chart chart;
    struct limits_read limits;
};

static void template_init(struct template *template)
{
    *template = (struct template){
        .chart = {.recipe = "*",
                  .unit = "",
                  .notes = "",
                  .baseline = DEFAULT_BASELINE,
                  .baseline_count = CHART_DEFAULT_BASELINE_COUNT,
                  .severity = SEVERITY_WARNING},
    };
    limits_spec_default(&template->limits.spec);
    rules_spec_default(&template->chart.rules);
}

static bool baseline_has(const char *const *names, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

/* An attribute that resembles a known one is probably meant to be it; any other may be a field of the
 * announcement. */
static void check_attribute(struct loader *loader, const struct yaml_node *node)
{
    static const char *const known[] = {"tool", "chamber", "recipe", "lot", "wafer"};
    const char *nearest = nearest_name(node->text, known, 5);
    if (!baseline_has(known, 5, node->text) && nearest)
        warn(loader, node,
             "the attribute '%.100s' is looked up among the announcement's own fields; did you mean '%s'?",
             node->text, nearest);
}

static void read_baseline(struct loader *loader, const struct yaml_node *node, struct chart *chart)
{
    if (node->kind != YAML_LIST || node->count > CHART_BASELINE_MAX) {
        wrong(loader, node, "baseline must be a list of at most %d attributes, as in [tool, chamber, recipe]",
              CHART_BASELINE_MAX);
        return;
    }
    const char **names = arena_calloc(&loader->set->arena, node->count, sizeof *names);
    size_t count = 0;
    if (names == NULL) {
        no_memory(loader);
        return;
    }
    for (const struct yaml_node *item = node->first; item; item = item->next) {
        const char *name = read_text(loader, item, "a baseline attribute", CHART_NAME_MAX_BYTES, false);
        if (name == NULL)
            continue;
        if (baseline_has(names, count, name)) {
            wrong(loader, item, "the attribute '%s' is given a second time", name);
            continue;
        }
        check_attribute(loader, item);
        names[count++] = name;
    }
    for (size_t i = 0; i < CHART_DEFAULT_BASELINE_COUNT; i++) {
        if (!baseline_has(names, count, DEFAULT_BASELINE[i]))
            wrong(loader, node,
                  "the baseline lacks '%s': histories are kept by tool, chamber and recipe, and can only be "
                  "divided "
                  "further",
                  DEFAULT_BASELINE[i]);
    }
    chart->baseline = names;
    chart->baseline_count = count;
}

static void read_recipe(struct loader *loader, const struct yaml_node *node, struct chart *chart)
{
    struct error err;
    const char *recipe = read_text(loader, node, "recipe", CHART_NAME_MAX_BYTES, false);
    if (recipe == NULL)
        return;
    if (glob_check(recipe, &err))
        wrong(loader, node, "%s", err.text);
    chart->recipe = recipe;
}

static void read_equation(struct loader *loader, const struct yaml_node *node, struct chart *chart)
{
    struct equation_problems problems;
    if (node->kind != YAML_SCALAR || node->length == 0) {
        wrong(loader, node, "equation must be a text such as mean(Pressure, step 4..5)");
        return;
    }
    chart->equation_line = node->line;
    chart->equation_column = node->column;
    int code =
        equation_compile(node->text, node->length, &loader->set->arena, &chart->equation, &problems, NULL);
    if (code == ERR_NO_MEMORY) {
        no_memory(loader);
        return;
    }
    for (size_t i = 0; i < problems.count; i++) {
        size_t line, column;
        yaml_tree_locate(loader->set->text, loader->set->length, node, problems.items[i].offset, &line,
                         &column);
        problems_add(loader->problems, line, column, false, problems.items[i].message);
    }
}

/* The keys that charts and defaults share. */
static void read_common(struct loader *loader, const struct yaml_node **values, struct template *template)
{
    struct chart *chart = &template->chart;
    if (values[CHART_KEY_RECIPE])
        read_recipe(loader, values[CHART_KEY_RECIPE], chart);
    if (values[CHART_KEY_BASELINE])
        read_baseline(loader, values[CHART_KEY_BASELINE], chart);
    if (values[CHART_KEY_UNIT]) {
        const char *unit = read_text(loader, values[CHART_KEY_UNIT], "unit", CHART_NAME_MAX_BYTES, true);
        chart->unit = unit ? unit : chart->unit;
    }
    if (values[CHART_KEY_NOTES]) {
        const char *notes = read_text(loader, values[CHART_KEY_NOTES], "notes", CHART_NOTES_MAX_BYTES, true);
        chart->notes = notes ? notes : chart->notes;
    }
    if (values[CHART_KEY_MIN_SAMPLES])
        read_size(loader, values[CHART_KEY_MIN_SAMPLES], "min_samples", 1, CHART_MIN_SAMPLES_MAX,
                  &chart->min_samples);
    if (values[CHART_KEY_LIMITS])
        read_limits(loader, values[CHART_KEY_LIMITS], &template->limits);
    if (values[CHART_KEY_RULES])
        read_rules(loader, values[CHART_KEY_RULES], &chart->rules);
    if (values[CHART_KEY_SEVERITY])
        read_severity(loader, values[CHART_KEY_SEVERITY], &chart->severity);
}

/* The rules must be able to work with the limits. */
static void check_rules(struct loader *loader, const struct yaml_node *node, const struct chart *chart)
{
    const struct limits_spec *limits = &chart->limits;
    bool both = !isnan(limits->lower) && !isnan(limits->upper);
    bool centre = limits->method != LIMITS_FIXED || !isnan(limits->target) || both;
    bool sigma = limits->method != LIMITS_FIXED || !isnan(limits->stdev) || both;
    uint32_t others = chart->rules.enabled & ~(1u << RULE_LIMITS);
    if (others && !(centre && sigma)) {
        enum rule rule = RULE_LIMITS;
        while (!(others & 1u << rule))
            rule++;
        wrong(loader, node,
              "the rule '%s' needs a centre and a deviation: give both 'lower' and 'upper', or 'target' "
              "and 'stdev'",
              rule_name(rule));
    }
    if (limits->method == LIMITS_FIXED && !(chart->rules.enabled & 1u << RULE_LIMITS))
        warn(loader, node, "no rule looks at the fixed limits; add 'limits' to the rules");
}

static void warn_lookback(struct loader *loader, const struct yaml_node *node, const struct chart *chart)
{
    size_t lookback = loader->set->lookback;
    if (lookback > 0 && lookback < chart->limits.history && limits_need_history(&chart->limits))
        warn(loader, node, "the chart wants %zu points of history, but the file's lookback is %zu contexts",
             chart->limits.history, lookback);
}

static size_t *name_slot(const struct chart_set *set, const char *name)
{
    size_t mask = set->slot_count - 1, i = (size_t)hash64_text(name) & mask;
    while (set->slots[i] && strcmp(set->charts[set->slots[i] - 1].name, name) != 0)
        i = (i + 1) & mask;
    return &set->slots[i];
}

static void read_name(struct loader *loader, const struct yaml_node *node, struct chart *chart)
{
    const char *name = read_text(loader, node, "name", CHART_NAME_MAX_BYTES, false);
    if (name == NULL)
        return;
    const struct chart *other = chart_set_find(loader->set, name);
    if (other) {
        wrong(loader, node, "a second chart named '%s' (first in line %zu)", name, other->line);
        return;
    }
    chart->name = name;
}

static void read_chart(struct loader *loader, const struct yaml_node *node, const struct template *defaults)
{
    const struct yaml_node *values[CHART_KEY_COUNT];
    struct template own = *defaults;
    struct chart *chart = &own.chart;
    chart->line = node->line;
    if (!read_mapping(loader, node, "a chart", CHART_KEYS, CHART_KEY_COUNT, values))
        return;
    if (values[CHART_KEY_NAME])
        read_name(loader, values[CHART_KEY_NAME], chart);
    else
        wrong(loader, node, "the chart has no 'name'");
    if (values[CHART_KEY_EQUATION])
        read_equation(loader, values[CHART_KEY_EQUATION], chart);
    else
        wrong(loader, node, "the chart has no 'equation'");
    read_common(loader, values, &own);
    chart->limits = own.limits.spec;
    check_rules(loader, values[CHART_KEY_RULES] ? values[CHART_KEY_RULES] : node, chart);
    warn_lookback(loader, values[CHART_KEY_LIMITS] ? values[CHART_KEY_LIMITS] : node, chart);
    if (chart->name == NULL || loader->code)
        return;
    struct chart_set *set = loader->set;
    set->charts[set->count] = *chart;
    size_t *slot = name_slot(set, chart->name);
    *slot = ++set->count;
}

static void read_charts(struct loader *loader, const struct yaml_node *node, const struct template *defaults)
{
    struct chart_set *set = loader->set;
    if (node->kind != YAML_LIST) {
        wrong(loader, node, "'charts' must be a list (each chart begins with '- name: ...'), but is %s",
              kind_name(node));
        return;
    }
    if (node->count > CHARTS_MAX) {
        loader->code = error_set(loader->err, ERR_LIMIT, "%zu charts in one file; at most %d are read",
                                 node->count, CHARTS_MAX);
        return;
    }
    if (node->count == 0)
        warn(loader, node, "the file has no charts");
    set->charts = arena_calloc(&set->arena, node->count, sizeof *set->charts);
    set->slot_count = 2;
    while (set->slot_count < 2 * node->count)
        set->slot_count *= 2;
    set->slots = arena_calloc(&set->arena, set->slot_count, sizeof *set->slots);
    if (set->charts == NULL || set->slots == NULL) {
        no_memory(loader);
        return;
    }
    for (const struct yaml_node *item = node->first; item && loader->code == 0; item = item->next)
        read_chart(loader, item, defaults);
}

static void read_defaults(struct loader *loader, const struct yaml_node *node, struct template *defaults)
{
    const struct yaml_node *values[CHART_KEY_COUNT];
    if (!read_mapping(loader, node, "defaults", CHART_KEYS, CHART_KEY_COUNT, values))
        return;
    if (values[CHART_KEY_NAME])
        wrong(loader, values[CHART_KEY_NAME], "'name' cannot be a default: every chart has its own");
    if (values[CHART_KEY_EQUATION])
        wrong(loader, values[CHART_KEY_EQUATION], "'equation' cannot be a default: every chart has its own");
    read_common(loader, values, defaults);
}

/* `learned: {contexts: [...]}`: what a learned file says about itself. */
static void read_learned(struct loader *loader, const struct yaml_node *node)
{
    static const char *const keys[] = {"contexts"};
    const struct yaml_node *values[1];
    struct chart_set *set = loader->set;
    if (!read_mapping(loader, node, "learned", keys, 1, values) || values[0] == NULL)
        return;
    if (values[0]->kind != YAML_LIST || values[0]->count > CHART_LEARNED_MAX) {
        wrong(loader, values[0], "the contexts of 'learned' must be a list of at most %d ids",
              CHART_LEARNED_MAX);
        return;
    }
    set->learned = arena_calloc(&set->arena, values[0]->count, sizeof *set->learned);
    if (set->learned == NULL) {
        no_memory(loader);
        return;
    }
    for (const struct yaml_node *item = values[0]->first; item && loader->code == 0; item = item->next) {
        const char *id = read_text(loader, item, "a context's id", CHART_NAME_MAX_BYTES, false);
        if (id != NULL)
            set->learned[set->learned_count++] = id;
    }
}

static void read_file(struct loader *loader, const struct yaml_node *root)
{
    static const char *const keys[] = {"charts", "defaults", "lookback", "notes", "learned"};
    const struct yaml_node *values[5];
    struct template defaults;
    if (!read_mapping(loader, root, "the file", keys, 5, values))
        return;
    template_init(&defaults);
    if (values[2])
        read_size(loader, values[2], "lookback", 1, CHART_LOOKBACK_MAX, &loader->set->lookback);
    if (values[3])
        read_text(loader, values[3], "notes", CHART_NOTES_MAX_BYTES, true);
    if (values[4])
        read_learned(loader, values[4]);
    if (values[1])
        read_defaults(loader, values[1], &defaults);
    if (values[0])
        read_charts(loader, values[0], &defaults);
    else
        wrong(loader, root, "the file has no 'charts:' list");
}

static void report_yaml(void *arg, size_t line, size_t column, const char *message)
{
    struct loader *loader = arg;
    problems_add(loader->problems, line, column, false, message);
}

static void load(struct loader *loader)
{
    struct chart_set *set = loader->set;
    struct yaml_node *root;
    int code = yaml_tree_parse(set->text, set->length, &loader->scratch, report_yaml, loader, &root, NULL);
    if (code == ERR_NO_MEMORY)
        no_memory(loader);
    else if (root)
        read_file(loader, root);
    else if (code == 0)
        problems_add(loader->problems, 1, 1, false, "the file is empty; it needs a 'charts:' list");
    struct chart_problems *problems = loader->problems;
    if (problems->failed && problems->count < CHART_PROBLEMS_MAX)
        no_memory(loader);
}

/* The loader's outcome as a code and one message. */
static int conclude(struct loader *loader, size_t before, const char *file_name)
{
    struct chart_problems *problems = loader->problems;
    if (problems->count > before)
        qsort(problems->items + before, problems->count - before, sizeof *problems->items, problem_compare);
    if (loader->code)
        return error_prefix(loader->err, loader->code, "%s", file_name);
    size_t errors = 0;
    const struct chart_problem *first = NULL;
    for (size_t i = before; i < problems->count; i++) {
        if (problems->items[i].warning)
            continue;
        first = first ? first : &problems->items[i];
        errors++;
    }
    if (first == NULL)
        return 0;
    char more[64] = "";
    if (errors > 1)
        snprintf(more, sizeof more, " (and %zu more)", errors - 1);
    return error_set(loader->err, ERR_INVALID, "%s:%zu:%zu: %s%s", file_name, first->line, first->column,
                     first->message, more);
}

static struct chart_set *set_new(const char *text, size_t length)
{
    struct chart_set *set = calloc(1, sizeof *set);
    if (set == NULL)
        return NULL;
    arena_init(&set->arena, 0);
    set->text = arena_strndup(&set->arena, text, length);
    set->length = length;
    set->id = hash64(text, length);
    if (set->text == NULL || plan_cache_new(&set->plans, NULL)) {
        chart_set_free(set);
        return NULL;
    }
    return set;
}

int chart_set_parse(const char *text, size_t length, const char *file_name, struct chart_set **set,
                    struct chart_problems *problems, struct error *err)
{
    struct chart_problems own;
    struct error unheard;
    *set = NULL;
    if (length > CHART_FILE_MAX_BYTES)
        return error_set(err, ERR_LIMIT, "%s: the chart file has %zu bytes; at most %d are read", file_name,
                         length, CHART_FILE_MAX_BYTES);
    chart_problems_init(&own);
    struct loader loader = {.problems = problems ? problems : &own, .err = err ? err : &unheard};
    arena_init(&loader.scratch, 0);
    size_t before = loader.problems->count;
    loader.set = set_new(text, length);
    if (loader.set)
        load(&loader);
    else
        no_memory(&loader);
    int code = conclude(&loader, before, file_name);
    arena_free(&loader.scratch);
    chart_problems_free(&own);
    if (code) {
        chart_set_free(loader.set);
        return code;
    }
    *set = loader.set;
    return 0;
}

/* ---- sensors that exist ---- */

/* As the YAML scalar that it was, as far as locating needs it. */
static void locate_sensor(const struct chart_set *set, const struct chart *chart,
                          const struct equation_sensor *sensor, size_t *line, size_t *column)
{
    struct yaml_node scalar = {.kind = YAML_SCALAR,
                               .line = chart->equation_line,
                               .column = chart->equation_column,
                               .text = chart->equation.text,
                               .length = strlen(chart->equation.text)};
    yaml_tree_locate(set->text, set->length, &scalar, 0, line, column);
    const char *p = set->text;
    for (size_t i = 1; i < *line; i++)
        p = strchr(p, '\n') + 1;
    size_t characters = 1;
    for (; characters < *column; p++)
        characters += ((unsigned char)p[1] & 0xC0) != 0x80 ? 1 : 0;
    scalar.style = *p == '\'' ? YAML_SINGLE_QUOTED : *p == '"' ? YAML_DOUBLE_QUOTED : YAML_PLAIN;
    if (*p == '|' || *p == '>')
        scalar.style = YAML_BLOCK;
    yaml_tree_locate(set->text, set->length, &scalar, sensor->offset, line, column);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void check_sensor(const struct chart_set *set, const struct chart *chart,
                         const struct equation_sensor *sensor, const char **sorted, size_t count,
                         struct chart_problems *problems)
{
    if (sensor->name == NULL || bsearch(&sensor->name, sorted, count, sizeof *sorted, compare_names))
        return;
    size_t line, column;
    struct error text;
    const char *nearest = nearest_name(sensor->name, sorted, count);
    locate_sensor(set, chart, sensor, &line, &column);
    error_set(&text, ERR_INVALID, "no sensor '%s' is known%s%s%s", sensor->name,
              nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
    problems_add(problems, line, column, true, text.text);
}

int chart_set_check_sensors(const struct chart_set *set, const char *const *names, size_t count,
                            struct chart_problems *problems, struct error *err)
{
    const char **sorted = malloc((count + 1) * sizeof *sorted);
    if (sorted == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for %zu sensor names", count);
    if (count > 0)
        memcpy(sorted, names, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_names);
    for (size_t i = 0; i < set->count; i++) {
        const struct chart *chart = &set->charts[i];
        for (size_t j = 0; j < chart->equation.term_count; j++) {
            check_sensor(set, chart, &chart->equation.terms[j].sensor, sorted, count, problems);
            check_sensor(set, chart, &chart->equation.terms[j].other, sorted, count, problems);
        }
    }
    free(sorted);
    return 0;
}

/* ---- the set ---- */

void chart_set_free(struct chart_set *set)
{
    if (set == NULL)
        return;
    plan_cache_free(set->plans);
    arena_free(&set->arena);
    free(set);
}

uint64_t chart_set_id(const struct chart_set *set)
{
    return set->id;
}

size_t chart_set_count(const struct chart_set *set)
{
    return set->count;
}

const struct chart *chart_set_at(const struct chart_set *set, size_t i)
{
    return &set->charts[i];
}

const struct chart *chart_set_find(const struct chart_set *set, const char *name)
{
    if (set->slots == NULL)
        return NULL;
    size_t slot = *name_slot(set, name);
    return slot ? &set->charts[slot - 1] : NULL;
}

const char *chart_set_text(const struct chart_set *set, size_t *length)
{
    *length = set->length;
    return set->text;
}

size_t chart_set_lookback(const struct chart_set *set)
{
    return set->lookback;
}

const char *const *chart_set_learned(const struct chart_set *set, size_t *count)
{
    *count = set->learned_count;
    return set->learned;
}
