#include "base/clock.h"
#include "base/hash.h"
#include "chart/chartset.h"
#include "chart/learn_parts.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    HEADER_GROUPS_MAX = 50,    /* groups named in the header */
    HEADER_LEFT_OUT_MAX = 200, /* lines about what was left out, of one recipe */
    IDS_PER_LINE = 8
};

/* Text that YAML reads as something else than a text. */
static bool is_yaml_word(const char *text)
{
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcasecmp(text, words[i]) == 0)
            return true;
    }
    return false;
}

static bool is_plain(const char *text)
{
    if (!(isalpha((unsigned char)text[0]) || text[0] == '_') || is_yaml_word(text))
        return false;
    for (const char *p = text; *p; p++) {
        if (!isalnum((unsigned char)*p) && strchr("_.-", *p) == NULL)
            return false;
    }
    return true;
}

/* JSON allows characters raw that YAML does not allow, or takes for the end of a line: C1 controls, the line
 * and paragraph separators, the byte order mark, U+FFFE and U+FFFF. Returns the bytes of the one at `s`, 0
 * when it is none. */
static size_t yaml_forbidden(const unsigned char *s, unsigned *code_point)
{
    if (s[0] == 0xC2 && s[1] >= 0x80 && s[1] < 0xA0) {
        *code_point = s[1];
        return 2;
    }
    if ((s[0] & 0xF0) != 0xE0)
        return 0;
    *code_point = (s[0] & 0x0Fu) << 12 | (s[1] & 0x3Fu) << 6 | (s[2] & 0x3Fu);
    switch (*code_point) {
    case 0x2028:
    case 0x2029:
    case 0xFEFF:
    case 0xFFFE:
    case 0xFFFF:
        return 3;
    default:
        return 0;
    }
}

static void format_quoted(struct strbuf *yaml, const char *text)
{
    struct strbuf json;
    strbuf_init(&json);
    strbuf_add_json(&json, text);
    yaml->failed |= json.failed;
    for (const unsigned char *s = (const unsigned char *)json.text; *s && !json.failed;) {
        unsigned code_point;
        size_t bytes = yaml_forbidden(s, &code_point);
        if (bytes > 0)
            strbuf_printf(yaml, "\\u%04x", code_point);
        else
            strbuf_add_char(yaml, (char)*s);
        s += bytes > 0 ? bytes : 1;
    }
    strbuf_free(&json);
}

void learn_format_scalar(struct strbuf *yaml, const char *text)
{
    if (is_plain(text))
        strbuf_add(yaml, text);
    else
        format_quoted(yaml, text);
}

void learn_format_equation(const struct learn_recipe *recipe, const struct learn_slot *slot,
                           struct strbuf *text)
{
    const char *name = recipe->sensors[slot->sensor].name;
    bool plain = isalpha((unsigned char)name[0]) || name[0] == '_';
    for (const char *p = name; *p && plain; p++)
        plain = isalnum((unsigned char)*p) || *p == '_';
    const char *quote = plain ? "" : strchr(name, '"') == NULL ? "\"" : "'";
    strbuf_printf(text, "%s(%s%s%s", statistic_name(slot->statistic), quote, name, quote);
    if (!isnan(recipe->steps[slot->step])) {
        strbuf_add(text, ", step ");
        strbuf_add_json_double(text, recipe->steps[slot->step]);
    }
    strbuf_add_char(text, ')');
}

/* RF_Load.mean.step4, with the recipe before it when the file has several. Long names are cut, and told apart
 * by a hash. */
static void format_name(const struct learn *learn, const struct learn_recipe *recipe,
                        const struct learn_slot *slot, struct strbuf *name)
{
    strbuf_clear(name);
    if (learn->recipe_count > 1)
        strbuf_printf(name, "%s.", recipe->name[0] ? recipe->name : "no_recipe");
    strbuf_printf(name, "%s.%s", recipe->sensors[slot->sensor].name, statistic_name(slot->statistic));
    if (!isnan(recipe->steps[slot->step])) {
        strbuf_add(name, ".step");
        strbuf_add_json_double(name, recipe->steps[slot->step]);
    }
    if (name->failed || name->length <= CHART_NAME_MAX_BYTES)
        return;
    char hash[32];
    snprintf(hash, sizeof hash, "~%016" PRIx64, hash64_text(name->text));
    size_t keep = CHART_NAME_MAX_BYTES - strlen(hash);
    while (keep > 0 && ((unsigned char)name->text[keep] & 0xC0) == 0x80) /* not inside a character */
        keep--;
    name->text[keep] = '\0';
    name->length = keep;
    strbuf_add(name, hash);
}

/* A recipe's name as the pattern that matches it alone. */
static void format_pattern(struct strbuf *yaml, const char *recipe)
{
    struct strbuf pattern;
    if (recipe[0] == '\0') { /* no contexts of a recipe were learned from */
        strbuf_add(yaml, "\"*\"");
        return;
    }
    strbuf_init(&pattern);
    for (const char *p = recipe; *p; p++) {
        if (strchr("*?[\\", *p) != NULL)
            strbuf_add_char(&pattern, '\\');
        strbuf_add_char(&pattern, *p);
    }
    yaml->failed |= pattern.failed;
    learn_format_scalar(yaml, pattern.text);
    strbuf_free(&pattern);
}

static void format_dates(const struct learn_recipe *recipe, size_t begin, size_t end, struct strbuf *yaml)
{
    int64_t first = INT64_MAX, last = INT64_MIN;
    for (size_t i = begin; i < end; i++) {
        first = recipe->rows[i].end_us < first ? recipe->rows[i].end_us : first;
        last = recipe->rows[i].end_us > last ? recipe->rows[i].end_us : last;
    }
    char from[CLOCK_RFC3339_BYTES], to[CLOCK_RFC3339_BYTES];
    strbuf_printf(yaml, "%zu contexts that ended %s to %s\n", end - begin, clock_format_rfc3339(first, from),
                  clock_format_rfc3339(last, to));
}

static void format_groups(const struct learn *learn, const struct learn_recipe *recipe,
                          const struct learn_fit *fit, struct strbuf *yaml)
{
    if (learn->options.group == NULL)
        return;
    for (size_t g = 0; g < fit->group_count && g < HEADER_GROUPS_MAX; g++) {
        strbuf_add(yaml, "#     ");
        learn_format_scalar(yaml, learn->options.group);
        strbuf_add_char(yaml, ' ');
        learn_format_scalar(yaml, fit->groups[g].value);
        strbuf_add(yaml, ": ");
        format_dates(recipe, fit->groups[g].begin, fit->groups[g].end, yaml);
    }
    if (fit->group_count > HEADER_GROUPS_MAX)
        strbuf_printf(yaml, "#     and %zu more\n", fit->group_count - HEADER_GROUPS_MAX);
}

/* Where a slot's chart stands in the file. */
struct chart_order {
    const struct learn_recipe *recipe;
    size_t slot;
};

static int compare_order(const void *a, const void *b)
{
    const struct chart_order *x = a, *y = b;
    const struct learn_slot *s = &x->recipe->slots[x->slot], *t = &y->recipe->slots[y->slot];
    double x_step = x->recipe->steps[s->step], y_step = y->recipe->steps[t->step];
    if (isnan(x_step) != isnan(y_step))
        return isnan(x_step) ? 1 : -1;
    if (x_step != y_step && !isnan(x_step))
        return x_step < y_step ? -1 : 1;
    bool x_counts = s->statistic == STATISTIC_COUNT, y_counts = t->statistic == STATISTIC_COUNT;
    if (x_counts != y_counts)
        return x_counts ? -1 : 1;
    int order = strcmp(x->recipe->sensors[s->sensor].name, y->recipe->sensors[t->sensor].name);
    return order != 0 ? order : (int)s->statistic - (int)t->statistic;
}

/* All slots in the order of the file; to be freed. NULL when out of memory. */
static struct chart_order *make_order(const struct learn_recipe *recipe)
{
    size_t count = recipe->slot_count;
    struct chart_order *order = calloc(count ? count : 1, sizeof *order);
    if (order == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        order[i] = (struct chart_order){recipe, i};
    qsort(order, count, sizeof *order, compare_order);
    return order;
}

/* The lines about what got no chart. */
struct left_out {
    const struct learn_recipe *recipe;
    const struct learn_fit *fit;
    struct strbuf *yaml;
    size_t lines;
};

static bool one_more(struct left_out *left)
{
    if (left->lines++ >= HEADER_LEFT_OUT_MAX)
        return false;
    strbuf_add(left->yaml, "#   left out: ");
    return true;
}

static void format_step(struct strbuf *yaml, double step)
{
    if (isnan(step)) {
        strbuf_add(yaml, "the whole run");
        return;
    }
    strbuf_add(yaml, "step ");
    strbuf_add_json_double(yaml, step);
}

struct sensor_order {
    const struct learn_sensor *sensor;
};

static int compare_sensors(const void *a, const void *b)
{
    const struct sensor_order *x = a, *y = b;
    return strcmp(x->sensor->name, y->sensor->name);
}

static bool left_out_sensors(struct left_out *left)
{
    size_t count = left->recipe->sensor_count;
    struct sensor_order *order = calloc(count ? count : 1, sizeof *order);
    if (order == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        order[i].sensor = &left->recipe->sensors[i];
    qsort(order, count, sizeof *order, compare_sensors);
    for (size_t i = 0; i < count; i++) {
        const struct learn_sensor *sensor = order[i].sensor;
        bool constant = sensor->resolution == 0 && !sensor->is_step;
        if ((!constant && !sensor->unwritable) || !one_more(left))
            continue;
        format_quoted(left->yaml, sensor->name);
        if (sensor->unwritable)
            strbuf_add(left->yaml, ": an equation cannot hold such a name\n");
        else if (sensor->distinct_count == 0)
            strbuf_add(left->yaml, ": no values\n");
        else
            strbuf_printf(left->yaml, ": constant at %.15g\n", sensor->distinct[0]);
    }
    free(order);
    return true;
}

/* Indicators that vary and have too few values: one line a step where that is all of them, else one a sensor.
 */
static void left_out_indicators(struct left_out *left, const struct chart_order *order)
{
    bool charted[LEARN_STEPS_MAX] = {false};
    for (size_t i = 0; i < left->recipe->slot_count; i++)
        charted[left->recipe->slots[i].step] |= left->fit->charts[i].reason == LEARN_CHARTED;
    const struct learn_slot *last = NULL;
    for (size_t i = 0; i < left->recipe->slot_count; i++) {
        const struct learn_slot *slot = &left->recipe->slots[order[i].slot];
        const struct learn_chart *chart = &left->fit->charts[order[i].slot];
        if (chart->reason != LEARN_TOO_FEW)
            continue;
        bool said = last != NULL && slot->step == last->step &&
                    (!charted[slot->step] || slot->sensor == last->sensor);
        last = slot;
        if (said || !one_more(left))
            continue;
        if (charted[slot->step]) {
            format_quoted(left->yaml, left->recipe->sensors[slot->sensor].name);
            strbuf_add(left->yaml, " in ");
        }
        format_step(left->yaml, left->recipe->steps[slot->step]);
        strbuf_printf(left->yaml, ": values in only %zu of %zu contexts\n", chart->values,
                      left->recipe->row_count);
    }
}

static bool format_left_out(const struct learn_recipe *recipe, const struct learn_fit *fit,
                            struct strbuf *yaml)
{
    struct left_out left = {.recipe = recipe, .fit = fit, .yaml = yaml};
    struct chart_order *order = make_order(recipe);
    bool fine = order != NULL && left_out_sensors(&left);
    if (fine)
        left_out_indicators(&left, order);
    if (left.lines > HEADER_LEFT_OUT_MAX)
        strbuf_printf(yaml, "#   left out: and %zu more\n", left.lines - HEADER_LEFT_OUT_MAX);
    free(order);
    return fine;
}

static bool format_header(const struct learn *learn, const struct learn_fit *fits, struct strbuf *yaml)
{
    strbuf_printf(
        yaml,
        "# Charts learned from %zu contexts taken to be normal. Their centre follows the process; what is\n"
        "# learned is how much each indicator varies, and how far out the limits lie so that all charts of "
        "a\n"
        "# recipe together raise false alarms on %g %% of the contexts at most, as long as it varies like "
        "that.\n",
        learn->contexts, learn->options.false_alarms * 100);
    for (size_t i = 0; i < learn->recipe_count; i++) {
        const struct learn_recipe *recipe = &learn->recipes[i];
        if (recipe->row_count == 0)
            continue;
        strbuf_add(yaml, "# recipe ");
        learn_format_scalar(yaml, recipe->name);
        strbuf_add(yaml, ": ");
        format_dates(recipe, 0, recipe->row_count, yaml);
        format_groups(learn, recipe, &fits[i], yaml);
        if (fits[i].chart_count > 0)
            strbuf_printf(
                yaml, "#   %zu charts, limits at %.4f deviations (Student's t, %.1f degrees of freedom%s)\n",
                fits[i].chart_count, fits[i].sigma, fits[i].freedom,
                fits[i].widened ? "; widened to where these contexts keep to the budget" : "");
        else
            strbuf_printf(yaml, "#   no chart: each indicator needs %d values that vary\n", LEARN_MIN_VALUES);
        if (!format_left_out(recipe, &fits[i], yaml))
            return false;
    }
    return true;
}

static void format_baseline(const struct learn *learn, struct strbuf *yaml)
{
    const char *group = learn->options.group;
    strbuf_add(yaml, "  baseline: [tool, chamber, recipe");
    if (group != NULL && strcmp(group, "tool") != 0 && strcmp(group, "chamber") != 0 &&
        strcmp(group, "recipe") != 0) {
        strbuf_add(yaml, ", ");
        learn_format_scalar(yaml, group);
    }
    strbuf_add(yaml, "]\n");
}

static void format_group_stdevs(const struct learn *learn, const struct learn_fit *fit,
                                const struct learn_chart *chart, struct strbuf *yaml)
{
    if (learn->options.group == NULL)
        return;
    size_t written = 0;
    for (size_t g = 0; g < fit->group_count; g++) {
        if (isnan(chart->group_stdev[g]) || fit->groups[g].value[0] == '\0')
            continue;
        if (written++ == 0) {
            strbuf_add(yaml, ", stdev_by: {");
            learn_format_scalar(yaml, learn->options.group);
            strbuf_add(yaml, ": {");
        } else {
            strbuf_add(yaml, ", ");
        }
        learn_format_scalar(yaml, fit->groups[g].value);
        strbuf_add(yaml, ": ");
        strbuf_add_json_double(yaml, chart->group_stdev[g]);
    }
    if (written > 0)
        strbuf_add(yaml, "}}");
}

static void format_chart(const struct learn *learn, const struct learn_recipe *recipe,
                         const struct learn_fit *fit, size_t index, struct strbuf *name, struct strbuf *yaml)
{
    const struct learn_slot *slot = &recipe->slots[index];
    const struct learn_chart *chart = &fit->charts[index];
    format_name(learn, recipe, slot, name);
    yaml->failed |= name->failed; /* clearing it forgets that */
    strbuf_add(yaml, "- name: ");
    learn_format_scalar(yaml, name->text);
    strbuf_add(yaml, "\n  recipe: ");
    format_pattern(yaml, recipe->name);
    strbuf_add_char(yaml, '\n');
    format_baseline(learn, yaml);
    strbuf_clear(name);
    learn_format_equation(recipe, slot, name);
    yaml->failed |= name->failed;
    strbuf_add(yaml, "  equation: ");
    format_quoted(yaml, name->text);
    strbuf_add_char(yaml, '\n');
    if (chart->min_samples > 0)
        strbuf_printf(yaml, "  min_samples: %zu\n", chart->min_samples);
    strbuf_add(yaml, "  limits: {method: tracked, stdev: ");
    strbuf_add_json_double(yaml, chart->stdev);
    format_group_stdevs(learn, fit, chart, yaml);
    strbuf_add(yaml, ", sigma: ");
    strbuf_add_json_double(yaml, fit->sigma);
    strbuf_printf(yaml, ", lambda: %g, floor: ", LEARN_LAMBDA);
    strbuf_add_json_double(yaml, chart->floor);
    strbuf_printf(yaml, ", min_history: %d, history: %d}\n", LEARN_MIN_HISTORY, LEARN_HISTORY);
    strbuf_add(yaml, "  rules: [limits]\n  severity: warning\n");
}

static bool format_charts(const struct learn *learn, const struct learn_recipe *recipe,
                          const struct learn_fit *fit, struct strbuf *yaml)
{
    if (fit->chart_count == 0)
        return true;
    struct chart_order *order = make_order(recipe);
    if (order == NULL)
        return false;
    struct strbuf name;
    strbuf_init(&name);
    for (size_t i = 0; i < recipe->slot_count; i++) {
        if (fit->charts[order[i].slot].reason == LEARN_CHARTED)
            format_chart(learn, recipe, fit, order[i].slot, &name, yaml);
    }
    strbuf_free(&name);
    free(order);
    return true;
}

/* The contexts learned from, so that a later evaluation can leave them out of its count. */
static void format_learned(const struct learn *learn, struct strbuf *yaml)
{
    size_t count = 0;
    strbuf_add(yaml, "learned:\n  contexts: [");
    for (size_t i = 0; i < learn->recipe_count; i++) {
        for (size_t k = 0; k < learn->recipes[i].row_count; k++, count++) {
            strbuf_add(yaml, count == 0 ? "" : count % IDS_PER_LINE == 0 ? ",\n    " : ", ");
            learn_format_scalar(yaml, learn->recipes[i].rows[k].id);
        }
    }
    strbuf_add(yaml, "]\n");
}

int learn_format(const struct learn *learn, const struct learn_fit *fits, struct strbuf *yaml,
                 struct error *err)
{
    bool fine = format_header(learn, fits, yaml);
    strbuf_add(yaml, "charts:\n");
    for (size_t i = 0; i < learn->recipe_count && fine; i++)
        fine = format_charts(learn, &learn->recipes[i], &fits[i], yaml);
    format_learned(learn, yaml);
    if (!fine || yaml->failed)
        return error_set(err, ERR_NO_MEMORY, "out of memory while writing the learned chart file");
    return 0;
}
