#include "chart/chartset.h"

#include "base/hash.h"
#include "chart/chartset_reader.h"
#include "chart/chartset_struct.h"
#include "chart/glob.h"
#include "chart/nearest.h"
#include "chart/yamltree.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
struct chart_template {
    struct chart chart;
    struct limits_read limits;
};

static void chart_template_init(struct chart_template *own)
{
    *own = (struct chart_template){
        .chart = {.recipe = "*",
                  .unit = "",
                  .notes = "",
                  .baseline = DEFAULT_BASELINE,
                  .baseline_count = CHART_DEFAULT_BASELINE_COUNT,
                  .severity = SEVERITY_WARNING},
    };
    limits_spec_default(&own->limits.spec);
    rules_spec_default(&own->chart.rules);
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
static void check_attribute(struct chart_reader *reader, const struct yaml_node *node)
{
    static const char *const known[] = {"tool", "chamber", "recipe", "lot", "wafer"};
    const char *nearest = nearest_name(node->text, known, 5);
    if (!baseline_has(known, 5, node->text) && nearest)
        reader_warn(
            reader, node,
            "the attribute '%.100s' is looked up among the announcement's own fields; did you mean '%s'?",
            node->text, nearest);
}

static void read_baseline(struct chart_reader *reader, const struct yaml_node *node, struct chart *chart)
{
    if (node->kind != YAML_LIST || node->count > CHART_BASELINE_MAX) {
        reader_wrong(reader, node,
                     "baseline must be a list of at most %d attributes, as in [tool, chamber, recipe]",
                     CHART_BASELINE_MAX);
        return;
    }
    const char **names = arena_calloc(&reader->set->arena, node->count, sizeof *names);
    size_t count = 0;
    if (names == NULL) {
        reader_no_memory(reader);
        return;
    }
    for (const struct yaml_node *item = node->first; item; item = item->next) {
        const char *name = reader_text(reader, item, "a baseline attribute", CHART_NAME_MAX_BYTES, false);
        if (name == NULL)
            continue;
        if (baseline_has(names, count, name)) {
            reader_wrong(reader, item, "the attribute '%s' is given a second time", name);
            continue;
        }
        check_attribute(reader, item);
        names[count++] = name;
    }
    for (size_t i = 0; i < CHART_DEFAULT_BASELINE_COUNT; i++) {
        if (!baseline_has(names, count, DEFAULT_BASELINE[i]))
            reader_wrong(
                reader, node,
                "the baseline lacks '%s': histories are kept by tool, chamber and recipe, and can only be "
                "divided "
                "further",
                DEFAULT_BASELINE[i]);
    }
    chart->baseline = names;
    chart->baseline_count = count;
}

static void read_recipe(struct chart_reader *reader, const struct yaml_node *node, struct chart *chart)
{
    struct error err;
    const char *recipe = reader_text(reader, node, "recipe", CHART_NAME_MAX_BYTES, false);
    if (recipe == NULL)
        return;
    if (glob_check(recipe, &err))
        reader_wrong(reader, node, "%s", err.text);
    chart->recipe = recipe;
}

static void read_equation(struct chart_reader *reader, const struct yaml_node *node, struct chart *chart)
{
    struct equation_problems problems;
    if (node->kind != YAML_SCALAR || node->length == 0) {
        reader_wrong(reader, node, "equation must be a text such as mean(Pressure, step 4..5)");
        return;
    }
    chart->equation_line = node->line;
    chart->equation_column = node->column;
    int code =
        equation_compile(node->text, node->length, &reader->set->arena, &chart->equation, &problems, NULL);
    if (code == ERR_NO_MEMORY) {
        reader_no_memory(reader);
        return;
    }
    for (size_t i = 0; i < problems.count; i++) {
        size_t line, column;
        yaml_tree_locate(reader->set->text, reader->set->length, node, problems.items[i].offset, &line,
                         &column);
        chart_problems_add(reader->problems, line, column, false, problems.items[i].message);
    }
}

/* The keys that charts and defaults share. */
static void read_common(struct chart_reader *reader, const struct yaml_node **values,
                        struct chart_template *own)
{
    struct chart *chart = &own->chart;
    if (values[CHART_KEY_RECIPE])
        read_recipe(reader, values[CHART_KEY_RECIPE], chart);
    if (values[CHART_KEY_BASELINE])
        read_baseline(reader, values[CHART_KEY_BASELINE], chart);
    if (values[CHART_KEY_UNIT]) {
        const char *unit = reader_text(reader, values[CHART_KEY_UNIT], "unit", CHART_NAME_MAX_BYTES, true);
        chart->unit = unit ? unit : chart->unit;
    }
    if (values[CHART_KEY_NOTES]) {
        const char *notes =
            reader_text(reader, values[CHART_KEY_NOTES], "notes", CHART_NOTES_MAX_BYTES, true);
        chart->notes = notes ? notes : chart->notes;
    }
    if (values[CHART_KEY_MIN_SAMPLES])
        reader_size(reader, values[CHART_KEY_MIN_SAMPLES], "min_samples", 1, CHART_MIN_SAMPLES_MAX,
                    &chart->min_samples);
    if (values[CHART_KEY_LIMITS])
        reader_limits(reader, values[CHART_KEY_LIMITS], &own->limits);
    if (values[CHART_KEY_RULES])
        reader_rules(reader, values[CHART_KEY_RULES], &chart->rules);
    if (values[CHART_KEY_SEVERITY])
        reader_severity(reader, values[CHART_KEY_SEVERITY], &chart->severity);
}

/* The rules must be able to work with the limits. */
static void check_rules(struct chart_reader *reader, const struct yaml_node *node, const struct chart *chart)
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
        reader_wrong(
            reader, node,
            "the rule '%s' needs a centre and a deviation: give both 'lower' and 'upper', or 'target' "
            "and 'stdev'",
            rule_name(rule));
    }
    if (limits->method == LIMITS_FIXED && !(chart->rules.enabled & 1u << RULE_LIMITS))
        reader_warn(reader, node, "no rule looks at the fixed limits; add 'limits' to the rules");
}

static void warn_lookback(struct chart_reader *reader, const struct yaml_node *node,
                          const struct chart *chart)
{
    size_t lookback = reader->set->lookback;
    if (lookback > 0 && lookback < chart->limits.history && limits_need_history(&chart->limits))
        reader_warn(reader, node,
                    "the chart wants %zu points of history, but the file's lookback is %zu contexts",
                    chart->limits.history, lookback);
}

static size_t *name_slot(const struct chart_set *set, const char *name)
{
    size_t mask = set->slot_count - 1, i = (size_t)hash64_text(name) & mask;
    while (set->slots[i] && strcmp(set->charts[set->slots[i] - 1].name, name) != 0)
        i = (i + 1) & mask;
    return &set->slots[i];
}

static void read_name(struct chart_reader *reader, const struct yaml_node *node, struct chart *chart)
{
    const char *name = reader_text(reader, node, "name", CHART_NAME_MAX_BYTES, false);
    if (name == NULL)
        return;
    const struct chart *other = chart_set_find(reader->set, name);
    if (other) {
        reader_wrong(reader, node, "a second chart named '%s' (first in line %zu)", name, other->line);
        return;
    }
    chart->name = name;
}

static void read_chart(struct chart_reader *reader, const struct yaml_node *node,
                       const struct chart_template *defaults)
{
    const struct yaml_node *values[CHART_KEY_COUNT];
    struct chart_template own = *defaults;
    struct chart *chart = &own.chart;
    chart->line = node->line;
    if (!reader_mapping(reader, node, "a chart", CHART_KEYS, CHART_KEY_COUNT, values))
        return;
    if (values[CHART_KEY_NAME])
        read_name(reader, values[CHART_KEY_NAME], chart);
    else
        reader_wrong(reader, node, "the chart has no 'name'");
    if (values[CHART_KEY_EQUATION])
        read_equation(reader, values[CHART_KEY_EQUATION], chart);
    else
        reader_wrong(reader, node, "the chart has no 'equation'");
    read_common(reader, values, &own);
    chart->limits = own.limits.spec;
    check_rules(reader, values[CHART_KEY_RULES] ? values[CHART_KEY_RULES] : node, chart);
    warn_lookback(reader, values[CHART_KEY_LIMITS] ? values[CHART_KEY_LIMITS] : node, chart);
    if (chart->name == NULL || reader->code)
        return;
    struct chart_set *set = reader->set;
    set->charts[set->count] = *chart;
    size_t *slot = name_slot(set, chart->name);
    *slot = ++set->count;
}

static void read_charts(struct chart_reader *reader, const struct yaml_node *node,
                        const struct chart_template *defaults)
{
    struct chart_set *set = reader->set;
    if (node->kind != YAML_LIST) {
        reader_wrong(reader, node,
                     "'charts' must be a list (each chart begins with '- name: ...'), but is %s",
                     reader_kind_name(node));
        return;
    }
    if (node->count > CHARTS_MAX) {
        reader->code = error_set(reader->err, ERR_LIMIT, "%zu charts in one file; at most %d are read",
                                 node->count, CHARTS_MAX);
        return;
    }
    if (node->count == 0)
        reader_warn(reader, node, "the file has no charts");
    set->charts = arena_calloc(&set->arena, node->count, sizeof *set->charts);
    set->slot_count = 2;
    while (set->slot_count < 2 * node->count)
        set->slot_count *= 2;
    set->slots = arena_calloc(&set->arena, set->slot_count, sizeof *set->slots);
    if (set->charts == NULL || set->slots == NULL) {
        reader_no_memory(reader);
        return;
    }
    for (const struct yaml_node *item = node->first; item && reader->code == 0; item = item->next)
        read_chart(reader, item, defaults);
}

static void read_defaults(struct chart_reader *reader, const struct yaml_node *node,
                          struct chart_template *defaults)
{
    const struct yaml_node *values[CHART_KEY_COUNT];
    if (!reader_mapping(reader, node, "defaults", CHART_KEYS, CHART_KEY_COUNT, values))
        return;
    if (values[CHART_KEY_NAME])
        reader_wrong(reader, values[CHART_KEY_NAME], "'name' cannot be a default: every chart has its own");
    if (values[CHART_KEY_EQUATION])
        reader_wrong(reader, values[CHART_KEY_EQUATION],
                     "'equation' cannot be a default: every chart has its own");
    read_common(reader, values, defaults);
}

/* `learned: {contexts: [...]}`: what a learned file says about itself. */
static void read_learned(struct chart_reader *reader, const struct yaml_node *node)
{
    static const char *const keys[] = {"contexts"};
    const struct yaml_node *values[1];
    struct chart_set *set = reader->set;
    if (!reader_mapping(reader, node, "learned", keys, 1, values) || values[0] == NULL)
        return;
    if (values[0]->kind != YAML_LIST || values[0]->count > CHART_LEARNED_MAX) {
        reader_wrong(reader, values[0], "the contexts of 'learned' must be a list of at most %d ids",
                     CHART_LEARNED_MAX);
        return;
    }
    set->learned = arena_calloc(&set->arena, values[0]->count, sizeof *set->learned);
    if (set->learned == NULL) {
        reader_no_memory(reader);
        return;
    }
    for (const struct yaml_node *item = values[0]->first; item && reader->code == 0; item = item->next) {
        const char *id = reader_text(reader, item, "a context's id", CHART_NAME_MAX_BYTES, false);
        if (id != NULL)
            set->learned[set->learned_count++] = id;
    }
}

static void read_file(struct chart_reader *reader, const struct yaml_node *root)
{
    static const char *const keys[] = {"charts", "defaults", "lookback", "notes", "learned"};
    const struct yaml_node *values[5];
    struct chart_template defaults;
    if (!reader_mapping(reader, root, "the file", keys, 5, values))
        return;
    chart_template_init(&defaults);
    if (values[2])
        reader_size(reader, values[2], "lookback", 1, CHART_LOOKBACK_MAX, &reader->set->lookback);
    if (values[3])
        reader_text(reader, values[3], "notes", CHART_NOTES_MAX_BYTES, true);
    if (values[4])
        read_learned(reader, values[4]);
    if (values[1])
        read_defaults(reader, values[1], &defaults);
    if (values[0])
        read_charts(reader, values[0], &defaults);
    else
        reader_wrong(reader, root, "the file has no 'charts:' list");
}

static void report_yaml(void *arg, size_t line, size_t column, const char *message)
{
    struct chart_reader *reader = arg;
    chart_problems_add(reader->problems, line, column, false, message);
}

static void load(struct chart_reader *reader)
{
    struct chart_set *set = reader->set;
    struct yaml_node *root;
    int code = yaml_tree_parse(set->text, set->length, &reader->scratch, report_yaml, reader, &root, NULL);
    if (code == ERR_NO_MEMORY)
        reader_no_memory(reader);
    else if (root)
        read_file(reader, root);
    else if (code == 0)
        chart_problems_add(reader->problems, 1, 1, false, "the file is empty; it needs a 'charts:' list");
    struct chart_problems *problems = reader->problems;
    if (problems->failed && problems->count < CHART_PROBLEMS_MAX)
        reader_no_memory(reader);
}

/* The reader's outcome as a code and one message. */
static int conclude(struct chart_reader *reader, size_t before, const char *file_name)
{
    struct chart_problems *problems = reader->problems;
    chart_problems_sort(problems, before);
    if (reader->code)
        return error_prefix(reader->err, reader->code, "%s", file_name);
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
    return error_set(reader->err, ERR_INVALID, "%s:%zu:%zu: %s%s", file_name, first->line, first->column,
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
    struct chart_reader reader = {.problems = problems ? problems : &own, .err = err ? err : &unheard};
    arena_init(&reader.scratch, 0);
    size_t before = reader.problems->count;
    reader.set = set_new(text, length);
    if (reader.set)
        load(&reader);
    else
        reader_no_memory(&reader);
    int code = conclude(&reader, before, file_name);
    arena_free(&reader.scratch);
    chart_problems_free(&own);
    if (code) {
        chart_set_free(reader.set);
        return code;
    }
    *set = reader.set;
    return 0;
}

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
