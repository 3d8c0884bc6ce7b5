#include "chart/learn.h"

#include "base/hash.h"
#include "chart/judge.h"
#include "chart/learn_parts.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK_BYTES = 1024 * 1024 };

void learn_options_default(struct learn_options *options)
{
    *options = (struct learn_options){
        .false_alarms = LEARN_FALSE_ALARMS,
        .statistics = 1u << STATISTIC_MEAN | 1u << STATISTIC_STD | 1u << STATISTIC_COUNT,
    };
}

/* Statistics of one sensor without a parameter. */
static const uint32_t LEARNABLE = 1u << STATISTIC_COUNT | 1u << STATISTIC_MEAN | 1u << STATISTIC_STD |
                                  1u << STATISTIC_MIN | 1u << STATISTIC_MAX | 1u << STATISTIC_RANGE |
                                  1u << STATISTIC_MEDIAN | 1u << STATISTIC_FIRST | 1u << STATISTIC_LAST |
                                  1u << STATISTIC_SUM | 1u << STATISTIC_INTEGRAL | 1u << STATISTIC_SLOPE |
                                  1u << STATISTIC_RMS | 1u << STATISTIC_DURATION;

static int out_of_memory(struct error *err)
{
    return error_set(err, ERR_NO_MEMORY, "out of memory while learning charts; learn from fewer contexts");
}

int learn_create(const struct learn_options *options, struct learn **learn, struct error *err)
{
    if (!(options->false_alarms > 0 && options->false_alarms < 1))
        return error_set(err, ERR_INVALID,
                         "false alarms on %g of the contexts: give a fraction over 0 and below 1",
                         options->false_alarms);
    if (options->statistics == 0 || (options->statistics & ~LEARNABLE) != 0)
        return error_set(err, ERR_INVALID,
                         "charts are learned for statistics of one sensor without a parameter "
                         "(mean, std, count, min, max, ...); give one or more of those");
    if (options->group != NULL && options->group[0] == '\0')
        return error_set(err, ERR_INVALID,
                         "the attribute to group by has no name; give one such as lot, or none");
    struct learn *made = calloc(1, sizeof *made);
    if (made == NULL)
        return out_of_memory(err);
    made->options = *options;
    arena_init(&made->arena, ARENA_BLOCK_BYTES);
    *learn = made;
    return 0;
}

void learn_free(struct learn *learn)
{
    if (learn == NULL)
        return;
    for (size_t i = 0; i < learn->recipe_count; i++) {
        struct learn_recipe *recipe = &learn->recipes[i];
        for (size_t k = 0; k < recipe->sensor_count; k++)
            free(recipe->sensors[k].distinct);
        free(recipe->sensors);
        free(recipe->by_id);
        free(recipe->steps);
        free(recipe->slots);
        free(recipe->rows);
        chart_set_free(recipe->probe);
    }
    free(learn->recipes);
    arena_free(&learn->arena);
    free(learn);
}

/* `items` with room for `need`, moved if need be; NULL, and nothing changed, when out of memory. */
static void *grown(void *items, size_t *capacity, size_t need, size_t item_bytes)
{
    if (need <= *capacity)
        return items;
    size_t wanted = *capacity ? *capacity * 2 : 16;
    while (wanted < need)
        wanted *= 2;
    void *moved = realloc(items, wanted * item_bytes);
    if (moved != NULL)
        *capacity = wanted;
    return moved;
}

static struct learn_recipe *recipe_find(const struct learn *learn, const char *name)
{
    for (size_t i = 0; i < learn->recipe_count; i++) {
        if (strcmp(learn->recipes[i].name, name) == 0)
            return &learn->recipes[i];
    }
    return NULL;
}

/* Appends a recipe that is not there yet. */
static int recipe_add(struct learn *learn, const char *name, struct error *err)
{
    if (learn->recipe_count == LEARN_RECIPES_MAX)
        return error_set(err, ERR_LIMIT,
                         "contexts of more than %d recipes; learn a file for some of them at a time",
                         LEARN_RECIPES_MAX);
    void *moved =
        grown(learn->recipes, &learn->recipe_capacity, learn->recipe_count + 1, sizeof *learn->recipes);
    const char *copy = arena_strdup(&learn->arena, name);
    if (moved != NULL)
        learn->recipes = moved;
    if (moved == NULL || copy == NULL)
        return out_of_memory(err);
    learn->recipes[learn->recipe_count++] = (struct learn_recipe){.name = copy};
    return 0;
}

/* Where a sensor stands or belongs in by_id. */
static size_t sensor_place(const struct learn_recipe *recipe, uint64_t id, bool *found)
{
    size_t low = 0, high = recipe->sensor_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (recipe->sensors[recipe->by_id[middle]].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    *found = low < recipe->sensor_count && recipe->sensors[recipe->by_id[low]].id == id;
    return low;
}

static size_t step_find(const struct learn_recipe *recipe, double step)
{
    for (size_t i = 0; i < recipe->step_count; i++) {
        if (recipe->steps[i] == step || (isnan(step) && isnan(recipe->steps[i])))
            return i;
    }
    return recipe->step_count;
}

static int step_add(struct learn_recipe *recipe, double step, struct error *err)
{
    if (step_find(recipe, step) < recipe->step_count)
        return 0;
    if (recipe->step_count == LEARN_STEPS_MAX)
        return error_set(err, ERR_LIMIT,
                         "recipe '%s' has more than %d different steps: the column '%s' does not seem to "
                         "hold recipe steps; import it under another name",
                         recipe->name, LEARN_STEPS_MAX, TRACE_STEP_NAME);
    double *moved = grown(recipe->steps, &recipe->step_capacity, recipe->step_count + 1, sizeof *moved);
    if (moved == NULL)
        return out_of_memory(err);
    recipe->steps = moved;
    recipe->steps[recipe->step_count++] = step;
    return 0;
}

/* Adds the steps of a trace that are not known yet. */
static int steps_add(struct learn_recipe *recipe, const struct trace *trace, struct error *err)
{
    const struct trace_column *column = trace_find(trace, hash64_text(TRACE_STEP_NAME));
    if (column == NULL)
        return step_add(recipe, (double)NAN, err);
    double last = (double)NAN;
    for (size_t i = 0; i < column->count; i++) {
        double step = column->value[i];
        if (!isfinite(step) || step == last)
            continue;
        int code = step_add(recipe, step, err);
        if (code != 0)
            return code;
        last = step;
    }
    return 0;
}

/* No equation can hold a name with both kinds of quotes, no chart's name a control character. */
static bool name_is_writable(const char *name)
{
    size_t length = strlen(name);
    for (const char *p = name; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7F)
            return false;
    }
    return length > 0 && length <= SENSOR_NAME_MAX_BYTES &&
           (strchr(name, '"') == NULL || strchr(name, '\'') == NULL);
}

static int sensor_add(struct learn *learn, struct learn_recipe *recipe, uint64_t id, const char *name,
                      struct error *err)
{
    bool found;
    size_t place = sensor_place(recipe, id, &found);
    if (found)
        return 0;
    if (recipe->sensor_count == LEARN_SENSORS_MAX)
        return error_set(err, ERR_LIMIT, "recipe '%s' has more than %d sensors", recipe->name,
                         LEARN_SENSORS_MAX);
    size_t capacity = recipe->sensor_capacity;
    struct learn_sensor *sensors =
        grown(recipe->sensors, &recipe->sensor_capacity, recipe->sensor_count + 1, sizeof *sensors);
    if (sensors == NULL)
        return out_of_memory(err);
    recipe->sensors = sensors;
    size_t *by_id = grown(recipe->by_id, &capacity, recipe->sensor_count + 1, sizeof *by_id);
    const char *copy = arena_strdup(&learn->arena, name);
    if (by_id != NULL)
        recipe->by_id = by_id;
    if (by_id == NULL || copy == NULL)
        return out_of_memory(err);
    memmove(by_id + place + 1, by_id + place, (recipe->sensor_count - place) * sizeof *by_id);
    by_id[place] = recipe->sensor_count;
    sensors[recipe->sensor_count++] = (struct learn_sensor){
        .name = copy,
        .id = id,
        .is_step = strcmp(name, TRACE_STEP_NAME) == 0,
        .unwritable = !name_is_writable(name),
    };
    return 0;
}

static int slot_add(struct learn_recipe *recipe, size_t sensor, size_t step, enum statistic statistic,
                    struct error *err)
{
    if (recipe->slot_count == LEARN_INDICATORS_MAX)
        return error_set(err, ERR_LIMIT,
                         "recipe '%s' has more than %d indicators (steps x sensors x statistics); learn "
                         "fewer statistics, or name the steps' column otherwise to chart whole runs",
                         recipe->name, LEARN_INDICATORS_MAX);
    struct learn_slot *slots =
        grown(recipe->slots, &recipe->slot_capacity, recipe->slot_count + 1, sizeof *slots);
    if (slots == NULL)
        return out_of_memory(err);
    recipe->slots = slots;
    /* The count of a window is always the first of its slots. */
    size_t count_slot =
        statistic == STATISTIC_COUNT ? recipe->slot_count : recipe->slots[recipe->slot_count - 1].count_slot;
    slots[recipe->slot_count++] = (struct learn_slot){sensor, step, statistic, count_slot};
    return 0;
}

/* The slots of one sensor in one step. */
static int pair_add(const struct learn *learn, struct learn_recipe *recipe, size_t sensor, size_t step,
                    struct error *err)
{
    const struct learn_sensor *of = &recipe->sensors[sensor];
    if (of->unwritable || (of->is_step && isnan(recipe->steps[step])))
        return 0;
    int code = slot_add(recipe, sensor, step, STATISTIC_COUNT, err);
    for (int s = 0; code == 0 && s < STATISTIC_KINDS && !of->is_step; s++) {
        if (s != STATISTIC_COUNT && (learn->options.statistics >> s & 1) != 0)
            code = slot_add(recipe, sensor, step, (enum statistic)s, err);
    }
    return code;
}

/* The slots that sensors from `sensor` on or steps from `step` on bring. */
static int slots_add(const struct learn *learn, struct learn_recipe *recipe, size_t sensor, size_t step,
                     struct error *err)
{
    int code = 0;
    for (size_t k = 0; code == 0 && k < recipe->sensor_count; k++) {
        for (size_t s = k < sensor ? step : 0; code == 0 && s < recipe->step_count; s++)
            code = pair_add(learn, recipe, k, s, err);
    }
    return code;
}

/* The chart set that computes every slot. */
static int probe_make(struct learn_recipe *recipe, struct error *err)
{
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "charts:\n");
    struct strbuf equation;
    strbuf_init(&equation);
    for (size_t i = 0; i < recipe->slot_count; i++) {
        strbuf_clear(&equation);
        learn_format_equation(recipe, &recipe->slots[i], &equation);
        text.failed |= equation.failed; /* clearing it forgets that */
        strbuf_printf(&text, "- name: \"%zu\"\n  recipe: \"*\"\n  equation: ", i);
        learn_format_scalar(&text, equation.text);
        strbuf_add_char(&text, '\n');
    }
    struct chart_set *probe = NULL;
    int code = text.failed || equation.failed
                   ? out_of_memory(err)
                   : chart_set_parse(text.text, text.length, "learning", &probe, NULL, err);
    strbuf_free(&equation);
    strbuf_free(&text);
    if (code != 0)
        return code;
    chart_set_free(recipe->probe);
    recipe->probe = probe;
    return 0;
}

/* Makes sensors, steps and slots for what the trace brings. On failure the recipe is as it was, out of memory
 * aside. */
static int recipe_extend(struct learn *learn, struct learn_recipe *recipe, const struct trace *trace,
                         const char *const *names, struct error *err)
{
    size_t sensors = recipe->sensor_count, steps = recipe->step_count, slots = recipe->slot_count;
    int code = steps_add(recipe, trace, err);
    for (size_t i = 0; code == 0 && i < trace->count; i++) {
        if (hash64_text(names[i]) != trace->columns[i].sensor)
            code = error_set(err, ERR_INVALID,
                             "column %zu of the trace is not the sensor '%s' it is said to be", i, names[i]);
        else
            code = sensor_add(learn, recipe, trace->columns[i].sensor, names[i], err);
    }
    if (code == 0 && (recipe->sensor_count > sensors || recipe->step_count > steps))
        code = slots_add(learn, recipe, sensors, steps, err);
    if (code == 0 && recipe->slot_count > slots)
        code = probe_make(recipe, err);
    if (code == 0)
        return 0;
    recipe->step_count = steps;
    recipe->slot_count = slots;
    size_t kept = 0;
    for (size_t i = 0; i < recipe->sensor_count; i++) {
        if (recipe->by_id[i] < sensors)
            recipe->by_id[kept++] = recipe->by_id[i];
    }
    recipe->sensor_count = sensors;
    return code;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool distinct_has(const struct learn_sensor *sensor, double value)
{
    return sensor->distinct_count > 0 &&
           bsearch(&value, sensor->distinct, sensor->distinct_count, sizeof value, compare_doubles) != NULL;
}

/* Merges `count` values into those seen. ERR_NO_MEMORY. */
static int distinct_merge(struct learn_sensor *sensor, const double *fresh, size_t count)
{
    size_t total = sensor->distinct_count + count;
    double *all = malloc((total ? total : 1) * sizeof *all);
    if (all == NULL)
        return ERR_NO_MEMORY;
    if (sensor->distinct_count > 0)
        memcpy(all, sensor->distinct, sensor->distinct_count * sizeof *all);
    memcpy(all + sensor->distinct_count, fresh, count * sizeof *all);
    qsort(all, total, sizeof *all, compare_doubles);
    size_t kept = 0;
    for (size_t i = 0; i < total; i++) {
        if (kept > 0 && all[i] == all[kept - 1])
            continue;
        all[kept++] = all[i];
        double step = kept > 1 ? all[kept - 1] - all[kept - 2] : 0;
        if (step > 0 && (sensor->resolution == 0 || step < sensor->resolution))
            sensor->resolution = step;
    }
    free(sensor->distinct);
    sensor->distinct = all;
    sensor->distinct_count = kept;
    return 0;
}

/* Notes the values of one context, for the sensor's resolution. Once a sensor has shown too many different
 * values it is as good as continuous, and the step found so far stands. */
static int sensor_note(struct learn_sensor *sensor, const struct trace_column *column, double *fresh)
{
    size_t count = 0;
    double last = (double)NAN;
    for (size_t i = 0; i < column->count && sensor->distinct_count <= LEARN_DISTINCT_MAX; i++) {
        double value = column->value[i];
        if (!isfinite(value) || value == last || distinct_has(sensor, value))
            continue;
        last = value;
        fresh[count++] = value;
        if (count == LEARN_DISTINCT_MAX) {
            if (distinct_merge(sensor, fresh, count) != 0)
                return ERR_NO_MEMORY;
            count = 0;
        }
    }
    if (count == 0)
        return 0;
    return distinct_merge(sensor, fresh, count);
}

static int trace_note(struct learn_recipe *recipe, const struct trace *trace)
{
    double *fresh = malloc(LEARN_DISTINCT_MAX * sizeof *fresh);
    if (fresh == NULL)
        return ERR_NO_MEMORY;
    int code = 0;
    for (size_t i = 0; code == 0 && i < trace->count; i++) {
        bool found;
        size_t place = sensor_place(recipe, trace->columns[i].sensor, &found);
        assert(found);
        code = sensor_note(&recipe->sensors[recipe->by_id[place]], &trace->columns[i], fresh);
    }
    free(fresh);
    return code;
}

/* The context's texts, copied. False when out of memory. */
static bool row_init(struct learn *learn, const struct context *context, struct learn_row *row)
{
    struct arena *arena = &learn->arena;
    const char *group = "";
    if (learn->options.group != NULL) {
        const char *value = context_attribute(context, learn->options.group, arena);
        group = value != NULL ? value : "";
    }
    *row = (struct learn_row){
        .id = arena_strdup(arena, context->id),
        .tool = arena_strdup(arena, context->tool),
        .chamber = arena_strdup(arena, context->chamber),
        .group = arena_strdup(arena, group),
        .end_us = context->end_us,
    };
    return row->id != NULL && row->tool != NULL && row->chamber != NULL && row->group != NULL;
}

/* Computes every slot of the recipe on the trace. */
static int row_compute(struct learn *learn, const struct learn_recipe *recipe, const struct trace *trace,
                       struct learn_row *row, struct error *err)
{
    row->count = recipe->slot_count;
    if (row->count == 0)
        return 0;
    const struct judge_plan *plan;
    int code = judge_plan_for(recipe->probe, recipe->name, &plan, err);
    if (code != 0)
        return code;
    assert(judge_plan_chart_count(plan) == row->count);
    double *values = arena_alloc(&learn->arena, row->count * sizeof *values);
    struct arena scratch;
    arena_init(&scratch, 0);
    const char **reasons = arena_calloc(&scratch, row->count, sizeof *reasons);
    code = values == NULL || reasons == NULL ? out_of_memory(err)
                                             : judge_compute(plan, trace, &scratch, values, reasons, err);
    arena_free(&scratch);
    row->values = values;
    return code;
}

int learn_add(struct learn *learn, const struct context *context, const struct trace *trace,
              const char *const *names, struct error *err)
{
    if (learn->contexts == LEARN_CONTEXTS_MAX)
        return error_set(err, ERR_LIMIT,
                         "more than %d contexts to learn from; limit how many are taken of each group",
                         LEARN_CONTEXTS_MAX);
    int code = 0;
    struct learn_recipe *recipe = recipe_find(learn, context->recipe);
    if (recipe == NULL) {
        code = recipe_add(learn, context->recipe, err);
        if (code != 0)
            return code;
        recipe = &learn->recipes[learn->recipe_count - 1];
    }
    code = recipe_extend(learn, recipe, trace, names, err);
    if (code != 0)
        return error_prefix(err, code, "context '%s'", context->id);
    if (learn->values + recipe->slot_count > LEARN_VALUES_MAX)
        return error_set(err, ERR_LIMIT,
                         "more than %d indicator values to learn from; limit how many contexts are taken",
                         LEARN_VALUES_MAX);
    struct learn_row *rows = grown(recipe->rows, &recipe->row_capacity, recipe->row_count + 1, sizeof *rows);
    if (rows == NULL)
        return out_of_memory(err);
    recipe->rows = rows;
    struct learn_row *row = &rows[recipe->row_count];
    if (!row_init(learn, context, row))
        return out_of_memory(err);
    code = row_compute(learn, recipe, trace, row, err);
    if (code != 0)
        return error_prefix(err, code, "context '%s'", context->id);
    if (trace_note(recipe, trace) != 0)
        return out_of_memory(err);
    recipe->row_count++;
    learn->contexts++;
    learn->values += row->count;
    return 0;
}

double learn_value(const struct learn_recipe *recipe, const struct learn_row *row, size_t slot)
{
    if (slot < row->count)
        return row->values[slot];
    return recipe->slots[slot].statistic == STATISTIC_COUNT ? 0 : (double)NAN;
}

static int compare_rows(const void *a, const void *b)
{
    const struct learn_row *x = a, *y = b;
    int order = strcmp(x->group, y->group);
    if (order == 0)
        order = strcmp(x->tool, y->tool);
    if (order == 0)
        order = strcmp(x->chamber, y->chamber);
    return order != 0 ? order : context_compare_event(x->end_us, x->id, y->end_us, y->id);
}

static int compare_recipes(const void *a, const void *b)
{
    return strcmp(((const struct learn_recipe *)a)->name, ((const struct learn_recipe *)b)->name);
}

static int compare_ids(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A context counted twice would make the deviations look smaller than they are. */
static int check_ids(const struct learn *learn, struct arena *arena, struct error *err)
{
    const char **ids = arena_calloc(arena, learn->contexts, sizeof *ids);
    if (ids == NULL)
        return out_of_memory(err);
    size_t count = 0;
    for (size_t i = 0; i < learn->recipe_count; i++) {
        for (size_t k = 0; k < learn->recipes[i].row_count; k++)
            ids[count++] = learn->recipes[i].rows[k].id;
    }
    qsort(ids, count, sizeof *ids, compare_ids);
    for (size_t i = 1; i < count; i++) {
        if (strcmp(ids[i], ids[i - 1]) == 0)
            return error_set(err, ERR_INVALID, "context '%s' was given twice; name each context once",
                             ids[i]);
    }
    return 0;
}

static int nothing_learned(const struct learn *learn, struct error *err)
{
    return error_set(
        err, ERR_INVALID,
        "nothing can be learned from these %zu contexts: a chart needs %d values of an indicator that vary, "
        "from contexts of one recipe%s%s; give more normal contexts",
        learn->contexts, LEARN_MIN_VALUES, learn->options.group ? " and one " : "",
        learn->options.group ? learn->options.group : "");
}

/* What a chart file cannot say. */
static int check_recipe(const struct learn *learn, const struct learn_recipe *recipe,
                        const struct learn_fit *fit, struct error *err)
{
    if (recipe->name[0] == '\0' && learn->recipe_count > 1)
        return error_set(
            err, ERR_INVALID,
            "some contexts, such as '%s', have no recipe, others have; a chart cannot be for contexts "
            "without one alone: learn them apart, or leave them out",
            recipe->rows[0].id);
    if (learn->options.group != NULL && fit->group_count > LEARN_GROUPS_MAX)
        return error_set(err, ERR_LIMIT,
                         "%zu values of '%s' for recipe '%s', at most %d can be learned; take fewer, or "
                         "learn without groups",
                         fit->group_count, learn->options.group, recipe->name, LEARN_GROUPS_MAX);
    return 0;
}

/* Writes the fits and parses the result, so that no file that cannot be used leaves here. */
static int write_checked(const struct learn *learn, const struct learn_fit *fits, struct strbuf *yaml,
                         struct error *err)
{
    struct strbuf text;
    strbuf_init(&text);
    int code = learn_format(learn, fits, &text, err);
    if (code == 0 && text.length > CHART_FILE_MAX_BYTES)
        code = error_set(err, ERR_LIMIT,
                         "the learned chart file would have %zu bytes, more than the %d of a chart file; "
                         "learn fewer groups or statistics at a time",
                         text.length, CHART_FILE_MAX_BYTES);
    struct chart_set *set = NULL;
    if (code == 0)
        code = chart_set_parse(text.text, text.length, "learned charts", &set, NULL, err);
    if (code == 0) {
        strbuf_add_bytes(yaml, text.text, text.length);
        if (yaml->failed)
            code = out_of_memory(err);
    }
    chart_set_free(set);
    strbuf_free(&text);
    return code;
}

/* Fits every recipe, and counts. */
static int fit_recipes(struct learn *learn, struct learn_fit *fits, struct arena *arena,
                       struct learn_result *result, struct error *err)
{
    for (size_t i = 0; i < learn->recipe_count; i++) {
        struct learn_recipe *recipe = &learn->recipes[i];
        if (recipe->row_count == 0) /* its only contexts were refused */
            continue;
        qsort(recipe->rows, recipe->row_count, sizeof *recipe->rows, compare_rows);
        int code = learn_fit_recipe(learn, recipe, arena, &fits[i], err);
        if (code == 0)
            code = check_recipe(learn, recipe, &fits[i], err);
        if (code != 0)
            return code;
        result->recipes++;
        result->charts += fits[i].chart_count;
        result->groups += fits[i].group_count;
        for (size_t k = 0; k < recipe->slot_count; k++) {
            enum learn_reason reason = fits[i].charts[k].reason;
            result->left_out += reason == LEARN_CONSTANT || reason == LEARN_TOO_FEW;
        }
    }
    return result->charts > 0 ? 0 : nothing_learned(learn, err);
}

static int write_all(struct learn *learn, struct learn_fit *fits, struct arena *arena, struct strbuf *yaml,
                     struct learn_result *result, struct error *err)
{
    int code = check_ids(learn, arena, err);
    if (code == 0)
        code = fit_recipes(learn, fits, arena, result, err);
    if (code == 0)
        code = write_checked(learn, fits, yaml, err);
    return code;
}

int learn_write(struct learn *learn, struct strbuf *yaml, struct learn_result *result, struct error *err)
{
    *result = (struct learn_result){.contexts = learn->contexts};
    if (learn->contexts == 0)
        return error_set(err, ERR_INVALID, "no context to learn from");
    struct arena arena;
    arena_init(&arena, 0);
    qsort(learn->recipes, learn->recipe_count, sizeof *learn->recipes, compare_recipes);
    struct learn_fit *fits = arena_calloc(&arena, learn->recipe_count, sizeof *fits);
    int code = fits == NULL ? out_of_memory(err) : write_all(learn, fits, &arena, yaml, result, err);
    arena_free(&arena);
    return code;
}
