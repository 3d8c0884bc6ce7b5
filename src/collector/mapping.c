#include "collector/mapping.h"

#include "base/clock.h"
#include "collector/mapping_text.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

static const char *const name_keys[MAPPING_NAMES] = {"context", "tool", "chamber", "recipe", "lot", "wafer"};

/* A mapping being read. */
struct reading {
    struct mapping *mapping;
    yaml_document_t *document;
    struct error *err;
};

/* Reads the value of one key; `arg` is the key's index in its table. */
typedef int key_reader(struct reading *reading, yaml_node_t *value, void *arg);

struct key {
    const char *name;
    key_reader *read;
};

static int fail(struct reading *reading, const yaml_node_t *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int fail(struct reading *reading, const yaml_node_t *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int code = error_vset(reading->err, ERR_INVALID, format, args);
    va_end(args);
    return error_prefix(reading->err, code, "%s:%zu:%zu", reading->mapping->source, node->start_mark.line + 1,
                        node->start_mark.column + 1);
}

static int no_memory(struct reading *reading)
{
    return error_set(reading->err, ERR_NO_MEMORY, "%s: no memory for the mapping", reading->mapping->source);
}

static yaml_node_t *node_at(struct reading *reading, int index)
{
    return yaml_document_get_node(reading->document, index);
}

static const char *scalar(const yaml_node_t *node)
{
    return (const char *)node->data.scalar.value;
}

/* A text that is not empty, copied into the mapping. */
static int read_text(struct reading *reading, const yaml_node_t *node, const char *what, const char **text)
{
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.length == 0)
        return fail(reading, node, "%s must be a text", what);
    if (strlen(scalar(node)) != node->data.scalar.length)
        return fail(reading, node, "%s has a zero byte", what);
    *text = arena_strdup(&reading->mapping->arena, scalar(node));
    return *text == NULL ? no_memory(reading) : 0;
}

static int read_number(struct reading *reading, const yaml_node_t *node, const char *what, double low,
                       double high, double *value)
{
    if (node->type != YAML_SCALAR_NODE || !number_parse(scalar(node), node->data.scalar.length, '.', value) ||
        *value < low || *value > high)
        return fail(reading, node, "%s must be a number from %g to %g", what, low, high);
    return 0;
}

static int read_size(struct reading *reading, const yaml_node_t *node, const char *what, size_t *value)
{
    double number = 0;
    int code = read_number(reading, node, what, 0, 1e6, &number);
    if (code != 0)
        return code;
    if (number != trunc(number))
        return fail(reading, node, "%s must be a whole number", what);
    *value = (size_t)number;
    return 0;
}

static void list_keys(const struct key *keys, struct strbuf *out)
{
    for (; keys->name != NULL; keys++)
        strbuf_printf(out, "%s%s", out->length > 0 ? ", " : "", keys->name);
}

static int unknown_key(struct reading *reading, const yaml_node_t *node, const struct key *keys,
                       const char *what)
{
    struct strbuf known;
    strbuf_init(&known);
    list_keys(keys, &known);
    int code = fail(reading, node, "%s has no key \"%.60s\"; it can have %s", what,
                    node->type == YAML_SCALAR_NODE ? scalar(node) : "(not a text)", known.text);
    strbuf_free(&known);
    return code;
}

/* Reads a table by its `keys` (the last one has no name). Each may be given once. */
static int read_table(struct reading *reading, const yaml_node_t *node, const struct key *keys,
                      const char *what)
{
    if (node->type != YAML_MAPPING_NODE)
        return fail(reading, node, "%s must be a table of keys and values", what);
    uint64_t seen = 0; /* a bit a key: no table has 64 */
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        yaml_node_t *key = node_at(reading, pair->key);
        size_t i = 0;
        while (keys[i].name != NULL &&
               (key->type != YAML_SCALAR_NODE || strcmp(keys[i].name, scalar(key)) != 0))
            i++;
        if (keys[i].name == NULL)
            return unknown_key(reading, key, keys, what);
        if ((seen >> i & 1) != 0)
            return fail(reading, key, "%s is given twice", keys[i].name);
        seen |= UINT64_C(1) << i;
        int code = keys[i].read(reading, node_at(reading, pair->value), &i);
        if (code != 0)
            return code;
    }
    return 0;
}

static int list_length(struct reading *reading, const yaml_node_t *node, const char *what, size_t *count)
{
    if (node->type != YAML_SEQUENCE_NODE)
        return fail(reading, node, "%s must be a list", what);
    *count = (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    if (*count > MAPPING_LIST_MAX)
        return fail(reading, node, "%s has more than %d entries", what, MAPPING_LIST_MAX);
    return 0;
}

static int read_texts(struct reading *reading, const yaml_node_t *node, const char *what,
                      const char *const **texts, size_t *count)
{
    int code = list_length(reading, node, what, count);
    if (code != 0)
        return code;
    const char **list = arena_calloc(&reading->mapping->arena, *count, sizeof(*list));
    if (list == NULL)
        return no_memory(reading);
    for (size_t i = 0; i < *count; i++)
        if ((code = read_text(reading, node_at(reading, node->data.sequence.items.start[i]), what,
                              &list[i])) != 0)
            return code;
    *texts = list;
    return 0;
}

/* A table of texts to texts: {"1": "1-3"}. */
static int read_pairs(struct reading *reading, const yaml_node_t *node, const char *what,
                      const struct mapping_pair **pairs, size_t *count)
{
    if (node->type != YAML_MAPPING_NODE)
        return fail(reading, node, "%s must be a table of texts", what);
    yaml_node_pair_t *from = node->data.mapping.pairs.start;
    *count = (size_t)(node->data.mapping.pairs.top - from);
    if (*count > MAPPING_LIST_MAX)
        return fail(reading, node, "%s has more than %d entries", what, MAPPING_LIST_MAX);
    struct mapping_pair *list = arena_calloc(&reading->mapping->arena, *count, sizeof(*list));
    if (list == NULL)
        return no_memory(reading);
    for (size_t i = 0; i < *count; i++) {
        int code = read_text(reading, node_at(reading, from[i].key), what, &list[i].from);
        if (code == 0)
            code = read_text(reading, node_at(reading, from[i].value), what, &list[i].to);
        if (code != 0)
            return code;
    }
    *pairs = list;
    return 0;
}

/* --- names and attributes --- */

static int read_name_source(struct reading *reading, const yaml_node_t *node, struct mapping_text *text)
{
    const char *source = NULL;
    int code = read_text(reading, node, "a name", &source);
    if (code != 0)
        return code;
    code = mapping_text_parse(source, &reading->mapping->arena, text, reading->err);
    if (code != 0)
        error_prefix(reading->err, code, "%s:%zu:%zu", reading->mapping->source, node->start_mark.line + 1,
                     node->start_mark.column + 1);
    return code;
}

/* "TEXT", or {text: "TEXT", values: {...}}. */
static int read_name_text(struct reading *reading, const yaml_node_t *node, struct mapping_text *text)
{
    if (node->type != YAML_MAPPING_NODE)
        return read_name_source(reading, node, text);
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        yaml_node_t *key = node_at(reading, pair->key);
        yaml_node_t *value = node_at(reading, pair->value);
        int code;
        if (key->type == YAML_SCALAR_NODE && strcmp(scalar(key), "text") == 0)
            code = read_name_source(reading, value, text);
        else if (key->type == YAML_SCALAR_NODE && strcmp(scalar(key), "values") == 0)
            code = read_pairs(reading, value, "values", &text->values, &text->value_count);
        else
            code = fail(reading, key, "a name can have the keys text and values only");
        if (code != 0)
            return code;
    }
    return text->count > 0 ? 0 : fail(reading, node, "a name needs the key text");
}

static int read_name(struct reading *reading, yaml_node_t *value, void *arg)
{
    return read_name_text(reading, value, &reading->mapping->names[*(size_t *)arg]);
}

/* Fields of the announcement that the import fills itself, and what must not travel with a context. */
static bool is_reserved(const char *name)
{
    static const char *const names[] = {
        "context_id",  "tool_id", "chamber_id",      "started_at",    "ended_at", "svid_count", "point_count",
        "chunk_count", "quality", "quality_reasons", "quality_notes", "label",    "fault"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    for (size_t i = 0; i < MAPPING_NAMES; i++)
        if (strcmp(name_keys[i], name) == 0)
            return true;
    return false;
}

static int read_attributes(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    if (node->type != YAML_MAPPING_NODE)
        return fail(reading, node, "attributes must be a table of names and texts");
    yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    size_t count = (size_t)(node->data.mapping.pairs.top - pairs);
    if (count > MAPPING_LIST_MAX)
        return fail(reading, node, "attributes has more than %d entries", MAPPING_LIST_MAX);
    struct mapping_attribute *list = arena_calloc(&reading->mapping->arena, count, sizeof(*list));
    if (list == NULL)
        return no_memory(reading);
    for (size_t i = 0; i < count; i++) {
        int code = read_text(reading, node_at(reading, pairs[i].key), "an attribute", &list[i].name);
        if (code == 0 && is_reserved(list[i].name))
            code = fail(reading, node_at(reading, pairs[i].key),
                        "an attribute cannot be called %s, which the import fills itself or keeps back",
                        list[i].name);
        if (code == 0)
            code = read_name_text(reading, node_at(reading, pairs[i].value), &list[i].text);
        if (code != 0)
            return code;
    }
    reading->mapping->attributes = list;
    reading->mapping->attribute_count = count;
    return 0;
}

/* --- time --- */

/* What a table of time keys is read into: the time itself, or its origin. */
struct time_target {
    const char **column;
    struct stamp_rule *rule;
};

static int read_format(struct reading *reading, const yaml_node_t *node, struct stamp_rule *rule)
{
    if (node->type != YAML_SCALAR_NODE || !stamp_format_parse(scalar(node), &rule->format))
        return fail(reading, node,
                    "format must be rfc3339, seconds, ms, us, ns or auto; for anything else give a pattern");
    return 0;
}

static int read_pattern(struct reading *reading, const yaml_node_t *node, struct stamp_rule *rule)
{
    int code = read_text(reading, node, "pattern", &rule->pattern);
    if (code != 0)
        return code;
    rule->format = STAMP_PATTERN;
    code = stamp_check_pattern(rule->pattern, reading->err);
    if (code != 0)
        error_prefix(reading->err, code, "%s:%zu:%zu", reading->mapping->source, node->start_mark.line + 1,
                     node->start_mark.column + 1);
    return code;
}

/* "+09:00": by way of a whole date, so that there is one parser of offsets. */
static int read_utc_offset(struct reading *reading, const yaml_node_t *node, struct stamp_rule *rule)
{
    static const struct stamp_rule epoch = {.format = STAMP_RFC3339};
    char date[64];
    int64_t us = 0;
    if (node->type == YAML_SCALAR_NODE && node->data.scalar.length < 16) {
        int length = snprintf(date, sizeof(date), "1970-01-02T00:00:00%s", scalar(node));
        if (stamp_parse(&epoch, date, (size_t)length, &us)) {
            rule->utc_offset_us = INT64_C(86400) * CLOCK_US_PER_SECOND - us;
            return 0;
        }
    }
    return fail(reading, node, "utc_offset must be like \"+09:00\", \"-05:30\" or \"Z\" (in quotes)");
}

static int read_origin(struct reading *reading, yaml_node_t *node);

static int read_time_key(struct reading *reading, yaml_node_t *key, yaml_node_t *value,
                         const struct time_target *target, bool with_origin)
{
    const char *name = key->type == YAML_SCALAR_NODE ? scalar(key) : "";
    if (strcmp(name, "column") == 0)
        return read_text(reading, value, "column", target->column);
    if (strcmp(name, "format") == 0)
        return read_format(reading, value, target->rule);
    if (strcmp(name, "pattern") == 0)
        return read_pattern(reading, value, target->rule);
    if (strcmp(name, "utc_offset") == 0)
        return read_utc_offset(reading, value, target->rule);
    if (with_origin && strcmp(name, "origin") == 0)
        return read_origin(reading, value);
    return fail(reading, key,
                "a time has no key \"%.60s\"; it can have column, format, pattern, utc_offset%s", name,
                with_origin ? ", origin" : "");
}

/* "COLUMN", or a table. */
static int read_time_target(struct reading *reading, yaml_node_t *node, const struct time_target *target,
                            bool with_origin)
{
    if (node->type == YAML_SCALAR_NODE)
        return read_text(reading, node, "time", target->column);
    if (node->type != YAML_MAPPING_NODE)
        return fail(reading, node, "a time must be a column's name or a table");
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        int code = read_time_key(reading, node_at(reading, pair->key), node_at(reading, pair->value), target,
                                 with_origin);
        if (code != 0)
            return code;
    }
    return *target->column != NULL ? 0 : fail(reading, node, "a time needs the key column");
}

static int read_origin(struct reading *reading, yaml_node_t *node)
{
    struct mapping *mapping = reading->mapping;
    if (node->type != YAML_SCALAR_NODE) {
        struct time_target target = {&mapping->origin_column, &mapping->origin_time};
        mapping->origin = ORIGIN_COLUMN;
        return read_time_target(reading, node, &target, false);
    }
    if (strcmp(scalar(node), "run") == 0) {
        mapping->origin = ORIGIN_RUN;
        return 0;
    }
    static const struct stamp_rule rule = {.format = STAMP_RFC3339};
    if (!stamp_parse(&rule, scalar(node), node->data.scalar.length, &mapping->time.origin_us))
        return fail(reading, node,
                    "origin must be a date and time such as \"2001-01-01T00:00:00Z\" (in quotes), run, or "
                    "{column: NAME}");
    return 0;
}

static int read_time(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    struct mapping *mapping = reading->mapping;
    struct time_target target = {&mapping->time_column, &mapping->time};
    int code = read_time_target(reading, node, &target, true);
    if (code != 0)
        return code;
    bool counts = mapping->time.format >= STAMP_SECONDS && mapping->time.format <= STAMP_NS;
    if (!counts && (mapping->origin != ORIGIN_FIXED || mapping->time.origin_us != 0))
        return fail(reading, node, "origin goes with the formats seconds, ms, us and ns only");
    return 0;
}

/* --- step and sensors --- */

static int read_step_values(struct reading *reading, const yaml_node_t *node)
{
    const struct mapping_pair *pairs = NULL;
    size_t count = 0;
    int code = read_pairs(reading, node, "values", &pairs, &count);
    if (code != 0)
        return code;
    struct mapping_step_value *list = arena_calloc(&reading->mapping->arena, count, sizeof(*list));
    if (list == NULL)
        return no_memory(reading);
    for (size_t i = 0; i < count; i++) {
        list[i].from = pairs[i].from;
        if (!number_parse(pairs[i].to, strlen(pairs[i].to), '.', &list[i].to))
            return fail(reading, node, "the step \"%.60s\" must be given a number", pairs[i].from);
    }
    reading->mapping->step_values = list;
    reading->mapping->step_value_count = count;
    return 0;
}

/* "COLUMN", or {column: COLUMN, values: {ETCH: 4}}. */
static int read_step(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    struct mapping *mapping = reading->mapping;
    mapping->step_required = true;
    if (node->type == YAML_SCALAR_NODE)
        return read_text(reading, node, "step", &mapping->step_column);
    if (node->type != YAML_MAPPING_NODE)
        return fail(reading, node, "step must be a column's name or a table");
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        yaml_node_t *key = node_at(reading, pair->key);
        const char *name = key->type == YAML_SCALAR_NODE ? scalar(key) : "";
        int code;
        if (strcmp(name, "column") == 0)
            code = read_text(reading, node_at(reading, pair->value), "column", &mapping->step_column);
        else if (strcmp(name, "values") == 0)
            code = read_step_values(reading, node_at(reading, pair->value));
        else
            code = fail(reading, key, "step can have the keys column and values only");
        if (code != 0)
            return code;
    }
    return mapping->step_column != NULL ? 0 : fail(reading, node, "step needs the key column");
}

/* "COLUMN", or {column: COLUMN, as: NAME}. */
static int read_sensor(struct reading *reading, const yaml_node_t *node, struct mapping_sensor *sensor)
{
    if (node->type == YAML_SCALAR_NODE) {
        int code = read_text(reading, node, "a sensor", &sensor->column);
        sensor->name = sensor->column;
        return code;
    }
    if (node->type != YAML_MAPPING_NODE)
        return fail(reading, node, "a sensor must be a column's name or {column: COLUMN, as: NAME}");
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        yaml_node_t *key = node_at(reading, pair->key);
        const char *name = key->type == YAML_SCALAR_NODE ? scalar(key) : "";
        const char **text = strcmp(name, "column") == 0 ? &sensor->column
                            : strcmp(name, "as") == 0   ? &sensor->name
                                                        : NULL;
        if (text == NULL)
            return fail(reading, key, "a sensor can have the keys column and as only");
        int code = read_text(reading, node_at(reading, pair->value), name, text);
        if (code != 0)
            return code;
    }
    if (sensor->column == NULL)
        return fail(reading, node, "a sensor needs the key column");
    sensor->name = sensor->name == NULL ? sensor->column : sensor->name;
    return 0;
}

static int read_sensor_list(struct reading *reading, const yaml_node_t *node)
{
    struct mapping *mapping = reading->mapping;
    int code = list_length(reading, node, "sensors", &mapping->sensor_count);
    if (code != 0)
        return code;
    struct mapping_sensor *list = arena_calloc(&mapping->arena, mapping->sensor_count, sizeof(*list));
    if (list == NULL)
        return no_memory(reading);
    for (size_t i = 0; i < mapping->sensor_count; i++)
        if ((code = read_sensor(reading, node_at(reading, node->data.sequence.items.start[i]), &list[i])) !=
            0)
            return code;
    mapping->sensors = list;
    mapping->all_sensors = false;
    return mapping->sensor_count > 0
               ? 0
               : fail(reading, node, "sensors is an empty list; list columns, or write all");
}

static int read_sensor_names(struct reading *reading, const yaml_node_t *node)
{
    struct mapping *mapping = reading->mapping;
    const struct mapping_pair *pairs = NULL;
    int code = read_pairs(reading, node, "rename", &pairs, &mapping->sensor_count);
    if (code != 0)
        return code;
    struct mapping_sensor *list = arena_calloc(&mapping->arena, mapping->sensor_count, sizeof(*list));
    if (list == NULL)
        return no_memory(reading);
    for (size_t i = 0; i < mapping->sensor_count; i++)
        list[i] = (struct mapping_sensor){pairs[i].from, pairs[i].to};
    mapping->sensors = list;
    return 0;
}

/* all, a list, or {except: [...], rename: {...}} (all the others). */
static int read_sensors(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    struct mapping *mapping = reading->mapping;
    if (node->type == YAML_SEQUENCE_NODE)
        return read_sensor_list(reading, node);
    if (node->type == YAML_SCALAR_NODE && strcmp(scalar(node), "all") == 0)
        return 0;
    if (node->type != YAML_MAPPING_NODE)
        return fail(reading, node,
                    "sensors must be all, a list of columns, or {except: [...], rename: {...}}");
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top;
         pair++) {
        yaml_node_t *key = node_at(reading, pair->key);
        yaml_node_t *value = node_at(reading, pair->value);
        const char *name = key->type == YAML_SCALAR_NODE ? scalar(key) : "";
        int code;
        if (strcmp(name, "except") == 0)
            code = read_texts(reading, value, "except", &mapping->except, &mapping->except_count);
        else if (strcmp(name, "rename") == 0)
            code = read_sensor_names(reading, value);
        else
            code = fail(reading, key, "sensors can have the keys except and rename only");
        if (code != 0)
            return code;
    }
    return 0;
}

/* --- quality --- */

static int read_min_samples(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    return read_size(reading, node, "min_samples", &reading->mapping->quality.min_samples);
}

static int read_tail_cut(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    return read_size(reading, node, "tail_cut_samples", &reading->mapping->quality.tail_cut_samples);
}

static int read_max_gap(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    double seconds = 0;
    int code = read_number(reading, node, "max_gap_s", 0, 1e9, &seconds);
    reading->mapping->quality.max_gap_us = (int64_t)llround(seconds * 1e6);
    return code;
}

static int read_max_bad(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    return read_number(reading, node, "max_bad_fraction", 0, 1, &reading->mapping->quality.max_bad_fraction);
}

static int read_step_set(struct reading *reading, const yaml_node_t *node, struct mapping_step_set *set)
{
    int code = list_length(reading, node, "steps", &set->count);
    if (code != 0)
        return code;
    double *steps = arena_calloc(&reading->mapping->arena, set->count, sizeof(*steps));
    if (steps == NULL)
        return no_memory(reading);
    set->steps = steps;
    for (size_t i = 0; i < set->count && code == 0; i++)
        code = read_number(reading, node_at(reading, node->data.sequence.items.start[i]), "a step", -1e9, 1e9,
                           &steps[i]);
    return code;
}

/* [4, 5], or a list of such lists of which one must be there. */
static int read_steps(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    size_t count = 0;
    int code = list_length(reading, node, "steps", &count);
    if (code != 0)
        return code;
    if (count == 0)
        return fail(reading, node, "steps is an empty list; list the steps, or leave the key out");
    bool nested = node_at(reading, node->data.sequence.items.start[0])->type == YAML_SEQUENCE_NODE;
    size_t sets = nested ? count : 1;
    struct mapping_step_set *list = arena_calloc(&reading->mapping->arena, sets, sizeof(*list));
    if (list == NULL)
        return no_memory(reading);
    for (size_t i = 0; i < sets && code == 0; i++)
        code = read_step_set(reading, nested ? node_at(reading, node->data.sequence.items.start[i]) : node,
                             &list[i]);
    reading->mapping->quality.step_sets = list;
    reading->mapping->quality.step_set_count = sets;
    return code;
}

static int read_quality(struct reading *reading, yaml_node_t *node, void *arg)
{
    static const struct key keys[] = {{"min_samples", read_min_samples},
                                      {"tail_cut_samples", read_tail_cut},
                                      {"max_gap_s", read_max_gap},
                                      {"max_bad_fraction", read_max_bad},
                                      {"steps", read_steps},
                                      {NULL, NULL}};
    (void)arg;
    return read_table(reading, node, keys, "quality");
}

/* --- the file --- */

static int read_title(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    return read_text(reading, node, "name", &reading->mapping->name);
}

static int read_description(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    return node->type == YAML_SCALAR_NODE ? 0 : fail(reading, node, "description must be a text");
}

static int read_files(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    return read_text(reading, node, "files", &reading->mapping->files);
}

static int read_delimiter(struct reading *reading, yaml_node_t *node, void *arg)
{
    static const struct {
        const char *name;
        char delimiter;
    } names[] = {{"auto", '\0'}, {"comma", ','}, {"tab", '\t'}, {"semicolon", ';'}, {"pipe", '|'},
                 {",", ','},     {"\t", '\t'},   {";", ';'},    {"|", '|'}};
    (void)arg;
    for (size_t i = 0; node->type == YAML_SCALAR_NODE && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i].name, scalar(node)) == 0) {
            reading->mapping->delimiter = names[i].delimiter;
            return 0;
        }
    }
    return fail(reading, node, "delimiter must be auto, comma, tab, semicolon or pipe");
}

static int read_decimal(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    if (node->type != YAML_SCALAR_NODE || (strcmp(scalar(node), ".") != 0 && strcmp(scalar(node), ",") != 0))
        return fail(reading, node, "decimal must be \".\" or \",\" (in quotes)");
    reading->mapping->decimal = scalar(node)[0];
    return 0;
}

static int read_skip_lines(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    return read_size(reading, node, "skip_lines", &reading->mapping->skip_lines);
}

static int read_missing(struct reading *reading, yaml_node_t *node, void *arg)
{
    (void)arg;
    return read_texts(reading, node, "missing", &reading->mapping->missing, &reading->mapping->missing_count);
}

/* The names come first, in the order of enum mapping_name, so that a key's index is the name's. */
static const struct key mapping_keys[] = {{"context", read_name},
                                          {"tool", read_name},
                                          {"chamber", read_name},
                                          {"recipe", read_name},
                                          {"lot", read_name},
                                          {"wafer", read_name},
                                          {"name", read_title},
                                          {"description", read_description},
                                          {"files", read_files},
                                          {"delimiter", read_delimiter},
                                          {"decimal", read_decimal},
                                          {"skip_lines", read_skip_lines},
                                          {"attributes", read_attributes},
                                          {"time", read_time},
                                          {"step", read_step},
                                          {"sensors", read_sensors},
                                          {"missing", read_missing},
                                          {"quality", read_quality},
                                          {NULL, NULL}};

static struct mapping *mapping_new(const char *source)
{
    static const char *const missing[] = {"NA", "N/A", "NaN", "nan", "null", "NULL", "-"};
    struct mapping *mapping = calloc(1, sizeof(*mapping));
    if (mapping == NULL)
        return NULL;
    arena_init(&mapping->arena, 4096);
    mapping->name = "default";
    mapping->decimal = '.';
    mapping->all_sensors = true;
    mapping->missing = missing;
    mapping->missing_count = sizeof(missing) / sizeof(missing[0]);
    mapping->quality.min_samples = MAPPING_MIN_SAMPLES;
    mapping->quality.tail_cut_samples = MAPPING_TAIL_CUT_SAMPLES;
    mapping->quality.max_bad_fraction = 0.01;
    mapping->source = arena_strdup(&mapping->arena, source);
    if (mapping->source == NULL) {
        mapping_free(mapping);
        return NULL;
    }
    return mapping;
}

struct mapping *mapping_default(void)
{
    struct mapping *mapping = mapping_new("the default mapping");
    if (mapping != NULL) {
        mapping->time_column = "time";
        mapping->step_column = "step";
    }
    return mapping;
}

void mapping_free(struct mapping *mapping)
{
    if (mapping == NULL)
        return;
    arena_free(&mapping->arena);
    free(mapping);
}

static int syntax_error(const struct mapping *mapping, const yaml_parser_t *parser, struct error *err)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for the mapping", mapping->source);
    return error_set(err, ERR_INVALID, "%s:%zu:%zu: this is no YAML: %s%s%s", mapping->source,
                     parser->problem_mark.line + 1, parser->problem_mark.column + 1,
                     parser->problem != NULL ? parser->problem : "cannot be read",
                     parser->context != NULL ? ", " : "", parser->context != NULL ? parser->context : "");
}

static int read_document(struct mapping *mapping, yaml_document_t *document, struct error *err)
{
    struct reading reading = {.mapping = mapping, .document = document, .err = err};
    yaml_node_t *root = yaml_document_get_root_node(document);
    if (root == NULL)
        return error_set(err, ERR_INVALID, "%s: the mapping is empty; docs/import.md shows one",
                         mapping->source);
    int code = read_table(&reading, root, mapping_keys, "a mapping");
    if (code != 0)
        return code;
    mapping->time.decimal = mapping->decimal;
    mapping->origin_time.decimal = mapping->decimal;
    return mapping->time_column != NULL ? 0 : fail(&reading, root, "a mapping needs the key time");
}

int mapping_parse(const char *source, const char *text, size_t length, struct mapping **mapping,
                  struct error *err)
{
    *mapping = NULL;
    if (length > MAPPING_FILE_MAX_BYTES)
        return error_set(err, ERR_LIMIT, "%s: a mapping has at most %d bytes", source,
                         MAPPING_FILE_MAX_BYTES);
    yaml_parser_t parser;
    yaml_document_t document;
    struct mapping *made = mapping_new(source);
    if (made == NULL || !yaml_parser_initialize(&parser)) {
        mapping_free(made);
        return error_set(err, ERR_NO_MEMORY, "%s: no memory for the mapping", source);
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    int code;
    if (!yaml_parser_load(&parser, &document)) {
        code = syntax_error(made, &parser, err);
    } else {
        code = read_document(made, &document, err);
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    if (code != 0) {
        mapping_free(made);
        return code;
    }
    *mapping = made;
    return 0;
}

int mapping_load(const char *path, struct mapping **mapping, struct error *err)
{
    *mapping = NULL;
    FILE *file = fopen(path, "rbe");
    if (file == NULL)
        return error_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO,
                         "%s: the mapping cannot be opened: %s", path, strerror(errno));
    char *text = malloc(MAPPING_FILE_MAX_BYTES + 1);
    int code;
    if (text == NULL) {
        code = error_set(err, ERR_NO_MEMORY, "%s: no memory for the mapping", path);
    } else {
        size_t length = fread(text, 1, MAPPING_FILE_MAX_BYTES + 1, file);
        code = ferror(file)
                   ? error_set(err, ERR_IO, "%s: the mapping cannot be read: %s", path, strerror(errno))
                   : mapping_parse(path, text, length, mapping, err);
    }
    free(text);
    fclose(file);
    return code;
}

const char *mapping_name_key(enum mapping_name name)
{
    return name_keys[name];
}

bool mapping_fits(const struct mapping *mapping, const char *file_name)
{
    return mapping->files == NULL || fnmatch(mapping->files, file_name, 0) == 0;
}
