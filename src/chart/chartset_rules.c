#include "chart/chartset_reader.h"

enum { GROUP_COUNT = 2 };

static const struct {
    const char *name;
    enum rule first, last;
} GROUPS[GROUP_COUNT] = {
    {"western_electric", RULE_WESTERN_ELECTRIC_1, RULE_WESTERN_ELECTRIC_4},
    {"nelson", RULE_NELSON_1, RULE_NELSON_8},
};

/* Which rules a name stands for; false after a complaint. */
static bool rule_range(struct chart_reader *reader, const struct yaml_node *node, size_t *first, size_t *last)
{
    const char *names[RULE_COUNT + GROUP_COUNT];
    for (size_t i = 0; i < RULE_COUNT; i++)
        names[i] = rule_name((enum rule)i);
    for (size_t i = 0; i < GROUP_COUNT; i++)
        names[RULE_COUNT + i] = GROUPS[i].name;
    size_t i = reader_choice(reader, node, "rule", names, RULE_COUNT + GROUP_COUNT);
    if (i == RULE_COUNT + GROUP_COUNT)
        return false;
    *first = i < RULE_COUNT ? i : (size_t)GROUPS[i - RULE_COUNT].first;
    *last = i < RULE_COUNT ? i : (size_t)GROUPS[i - RULE_COUNT].last;
    return true;
}

static void read_ewma(struct chart_reader *reader, const struct yaml_node *node, struct rules_spec *spec,
                      enum severity *severity)
{
    static const char *const keys[] = {"lambda", "limit", "steady", "restart", "severity"};
    const struct yaml_node *values[5];
    if (!reader_mapping(reader, node, "ewma", keys, 5, values))
        return;
    if (values[0])
        reader_bounded(reader, values[0], "lambda", 0, 1, true, &spec->ewma_lambda);
    if (values[1])
        reader_bounded(reader, values[1], "limit", 0, 1000, true, &spec->ewma_limit);
    if (values[2])
        reader_boolean(reader, values[2], "steady", &spec->ewma_steady);
    if (values[3])
        reader_boolean(reader, values[3], "restart", &spec->ewma_restart);
    if (values[4])
        reader_severity(reader, values[4], severity);
}

static void read_cusum(struct chart_reader *reader, const struct yaml_node *node, struct rules_spec *spec,
                       enum severity *severity)
{
    static const char *const keys[] = {"k", "h", "restart", "severity"};
    const struct yaml_node *values[4];
    if (!reader_mapping(reader, node, "cusum", keys, 4, values))
        return;
    if (values[0])
        reader_bounded(reader, values[0], "k", 0, 1000, false, &spec->cusum_k);
    if (values[1])
        reader_bounded(reader, values[1], "h", 0, 1e6, true, &spec->cusum_h);
    if (values[2])
        reader_boolean(reader, values[2], "restart", &spec->cusum_restart);
    if (values[3])
        reader_severity(reader, values[3], severity);
}

/* What stands under a rule's name: its parameters. */
static void read_parameters(struct chart_reader *reader, const struct yaml_node *node, const char *name,
                            size_t rule, struct rules_spec *spec, enum severity *severity)
{
    static const char *const keys[] = {"severity"};
    const struct yaml_node *values[1];
    if (node->kind == YAML_SCALAR && node->length == 0)
        return;
    if (rule == RULE_EWMA)
        read_ewma(reader, node, spec, severity);
    else if (rule == RULE_CUSUM)
        read_cusum(reader, node, spec, severity);
    else if (reader_mapping(reader, node, name, keys, 1, values) && values[0])
        reader_severity(reader, values[0], severity);
}

/* One entry: a name, or a name with parameters. */
static void read_rule(struct chart_reader *reader, const struct yaml_node *entry, struct rules_spec *spec)
{
    const struct yaml_node *name = entry, *parameters = NULL;
    if (entry->kind == YAML_MAPPING && entry->count == 1 && entry->first->kind == YAML_SCALAR) {
        name = entry->first;
        parameters = name->next;
    } else if (entry->kind != YAML_SCALAR) {
        reader_wrong(reader, entry,
                     "a rule is a name, or one name with its parameters, as in 'ewma: {lambda: 0.2}'");
        return;
    }
    size_t first, last;
    enum severity severity = SEVERITY_NONE;
    if (!rule_range(reader, name, &first, &last))
        return;
    if (parameters)
        read_parameters(reader, parameters, name->text, first, spec, &severity);
    for (size_t i = first; i <= last; i++) {
        if (spec->enabled & 1u << i && first == last && severity == SEVERITY_NONE)
            reader_warn(reader, name, "the rule '%s' is given a second time", name->text);
        spec->enabled |= 1u << i;
        if (severity != SEVERITY_NONE)
            spec->severity[i] = severity;
    }
}

void reader_rules(struct chart_reader *reader, const struct yaml_node *node, struct rules_spec *spec)
{
    rules_spec_default(spec);
    spec->enabled = 0;
    if (node->kind == YAML_SCALAR && node->length > 0) {
        read_rule(reader, node, spec);
        return;
    }
    if (node->kind != YAML_LIST) {
        reader_wrong(reader, node, "rules must be a list, as in [limits, western_electric]");
        return;
    }
    for (const struct yaml_node *entry = node->first; entry; entry = entry->next)
        read_rule(reader, entry, spec);
}
