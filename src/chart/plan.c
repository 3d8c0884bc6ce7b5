#include "chart/plan.h"

#include "base/hash.h"
#include "base/strbuf.h"
#include "chart/chartset_struct.h"
#include "chart/glob.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLAN_RECIPES_MAX =
        65536 /* recipes whose plan is remembered; the plan of any other is found by matching anew */
};

struct plan_recipe {
    const char *recipe;
    const struct judge_plan *plan;
};

/* A plan and the charts it is made of, so that recipes that match the same charts share it. */
struct plan_entry {
    struct plan_entry *next;
    uint64_t hash;
    const size_t *charts;
    size_t count;
    const struct judge_plan *plan;
};

struct plan_cache {
    pthread_mutex_t lock; /* guards everything below; plans are immutable once they are here */
    struct arena arena;
    struct plan_recipe *recipes; /* open addressing by recipe */
    size_t recipe_count, slot_count;
    struct plan_entry *entries;
};

int plan_cache_new(struct plan_cache **cache, struct error *err)
{
    *cache = calloc(1, sizeof **cache);
    if (*cache == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for a plan cache");
    if (pthread_mutex_init(&(*cache)->lock, NULL)) {
        free(*cache);
        *cache = NULL;
        return error_set(err, ERR_NO_MEMORY, "no resources for a plan cache's lock");
    }
    arena_init(&(*cache)->arena, 0);
    return 0;
}

void plan_cache_free(struct plan_cache *cache)
{
    if (cache == NULL)
        return;
    pthread_mutex_destroy(&cache->lock);
    arena_free(&cache->arena);
    free(cache->recipes);
    free(cache);
}

/* ---- compiling ---- */

/* A term and the chart that asks for it. */
struct wanted {
    const struct equation_term *term;
    size_t *index; /* where the chart keeps the plan's index of it */
};

struct compiler {
    struct arena *arena;
    struct judge_plan *plan;
    struct wanted *wanted;
    size_t wanted_count;
    bool out_of_memory;
};

static void *allocate(struct compiler *compiler, size_t count, size_t size)
{
    void *memory = arena_calloc(compiler->arena, count, size);
    compiler->out_of_memory = compiler->out_of_memory || memory == NULL;
    return memory;
}

#define COMPARE(a, b)                                                                                        \
    do {                                                                                                     \
        if ((a) != (b))                                                                                      \
            return (a) < (b) ? -1 : 1;                                                                       \
    } while (0)

static int window_compare(const struct window *a, const struct window *b)
{
    COMPARE(a->kind, b->kind);
    COMPARE(a->step_first, b->step_first);
    COMPARE(a->step_last, b->step_last);
    COMPARE(a->from, b->from);
    COMPARE(a->to, b->to);
    COMPARE(a->visit, b->visit);
    COMPARE(a->skip.us, b->skip.us);
    COMPARE(a->skip.samples, b->skip.samples);
    COMPARE(a->drop.us, b->drop.us);
    COMPARE(a->drop.samples, b->drop.samples);
    return 0;
}

static int group_compare(const struct equation_term *a, const struct equation_term *b)
{
    COMPARE(a->sensor.id, b->sensor.id);
    return window_compare(&a->window, &b->window);
}

static int term_compare(const struct equation_term *a, const struct equation_term *b)
{
    int order = group_compare(a, b);
    if (order)
        return order;
    COMPARE(a->statistic, b->statistic);
    COMPARE(a->parameter, b->parameter);
    COMPARE(a->other.id, b->other.id);
    return 0;
}

static int wanted_compare(const void *a, const void *b)
{
    return term_compare(((const struct wanted *)a)->term, ((const struct wanted *)b)->term);
}

struct sensor_ref {
    uint64_t id;
    const char *name;
};

static int sensor_compare(const void *a, const void *b)
{
    COMPARE(((const struct sensor_ref *)a)->id, ((const struct sensor_ref *)b)->id);
    return 0;
}

static int window_ref_compare(const void *a, const void *b)
{
    return window_compare(*(const struct window *const *)a, *(const struct window *const *)b);
}

static size_t sensor_index(const struct judge_plan *plan, uint64_t id)
{
    size_t low = 0, high = plan->sensor_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (plan->sensors[mid] < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static void compile_sensors(struct compiler *compiler)
{
    struct judge_plan *plan = compiler->plan;
    size_t most = 2 * compiler->wanted_count + 1, count = 0;
    uint64_t step = hash64_text(TRACE_STEP_NAME);
    bool needs_step = false;
    struct sensor_ref *refs = allocate(compiler, most, sizeof *refs);
    plan->sensors = allocate(compiler, most, sizeof *plan->sensors);
    plan->sensor_names = allocate(compiler, most, sizeof *plan->sensor_names);
    if (compiler->out_of_memory)
        return;
    for (size_t i = 0; i < compiler->wanted_count; i++) {
        const struct equation_term *term = compiler->wanted[i].term;
        refs[count++] = (struct sensor_ref){term->sensor.id, term->sensor.name};
        if (term->other.name)
            refs[count++] = (struct sensor_ref){term->other.id, term->other.name};
        needs_step = needs_step || term->window.kind == WINDOW_STEP;
    }
    if (needs_step)
        refs[count++] = (struct sensor_ref){step, TRACE_STEP_NAME};
    qsort(refs, count, sizeof *refs, sensor_compare);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && refs[i].id == refs[i - 1].id)
            continue;
        plan->sensor_names[plan->sensor_count] = refs[i].name;
        plan->sensors[plan->sensor_count++] = refs[i].id;
    }
    plan->step_sensor = needs_step ? sensor_index(plan, step) : plan->sensor_count;
}

static const char *window_text(struct compiler *compiler, const struct window *window)
{
    struct strbuf text;
    strbuf_init(&text);
    window_format(window, &text);
    /* The format begins with ", ". */
    const char *copy = arena_strdup(compiler->arena, text.length > 2 ? text.text + 2 : "the trace");
    compiler->out_of_memory = compiler->out_of_memory || text.failed || copy == NULL;
    strbuf_free(&text);
    return copy;
}

static void compile_windows(struct compiler *compiler)
{
    struct judge_plan *plan = compiler->plan;
    const struct window **refs = allocate(compiler, compiler->wanted_count, sizeof *refs);
    plan->windows = allocate(compiler, compiler->wanted_count, sizeof *plan->windows);
    if (compiler->out_of_memory)
        return;
    for (size_t i = 0; i < compiler->wanted_count; i++)
        refs[i] = &compiler->wanted[i].term->window;
    if (compiler->wanted_count > 0)
        qsort(refs, compiler->wanted_count, sizeof *refs, window_ref_compare);
    for (size_t i = 0; i < compiler->wanted_count; i++) {
        if (i > 0 && window_compare(refs[i], refs[i - 1]) == 0)
            continue;
        plan->windows[plan->window_count++] =
            (struct plan_window){.window = refs[i], .text = window_text(compiler, refs[i])};
    }
}

static size_t window_index(const struct judge_plan *plan, const struct window *window)
{
    size_t low = 0, high = plan->window_count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (window_compare(plan->windows[mid].window, window) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static uint32_t needs_of(enum statistic statistic)
{
    if (statistic_reads_two(statistic))
        return 0;
    bool squares = statistic == STATISTIC_STD || statistic == STATISTIC_RMS;
    return squares ? PLAN_SUMMARY | PLAN_SQUARES : PLAN_SUMMARY;
}

/* Terms and groups from the wanted terms in their order. */
static void compile_groups(struct compiler *compiler)
{
    struct judge_plan *plan = compiler->plan;
    size_t count = compiler->wanted_count;
    plan->terms = allocate(compiler, count, sizeof *plan->terms);
    plan->groups = allocate(compiler, count, sizeof *plan->groups);
    if (compiler->out_of_memory)
        return;
    if (count > 0)
        qsort(compiler->wanted, count, sizeof *compiler->wanted, wanted_compare);
    for (size_t i = 0; i < count; i++) {
        const struct equation_term *term = compiler->wanted[i].term;
        const struct equation_term *before = i > 0 ? compiler->wanted[i - 1].term : NULL;
        if (before == NULL || group_compare(before, term) != 0)
            plan->groups[plan->group_count++] =
                (struct plan_group){.sensor = sensor_index(plan, term->sensor.id),
                                    .window = window_index(plan, &term->window),
                                    .first_term = plan->term_count};
        if (before == NULL || term_compare(before, term) != 0) {
            struct plan_group *group = &plan->groups[plan->group_count - 1];
            group->needs |= needs_of(term->statistic);
            group->term_count++;
            plan->terms[plan->term_count++] =
                (struct plan_term){.term = term,
                                   .other = term->other.name ? sensor_index(plan, term->other.id) : 0,
                                   .window = group->window};
        }
        *compiler->wanted[i].index = plan->term_count - 1;
    }
}

static int text_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool baseline_equal(const struct plan_baseline *a, const struct plan_baseline *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (strcmp(a->attributes[i], b->attributes[i]) != 0)
            return false;
    }
    return true;
}

static size_t compile_baseline(struct compiler *compiler, const struct chart *chart)
{
    struct judge_plan *plan = compiler->plan;
    const char *sorted[CHART_BASELINE_MAX];
    struct plan_baseline baseline = {sorted, chart->baseline_count};
    memcpy(sorted, chart->baseline, chart->baseline_count * sizeof *sorted);
    qsort(sorted, chart->baseline_count, sizeof *sorted, text_compare);
    for (size_t i = 0; i < plan->baseline_count; i++) {
        if (baseline_equal(&plan->baselines[i], &baseline))
            return i;
    }
    baseline.attributes = allocate(compiler, baseline.count, sizeof *baseline.attributes);
    if (baseline.attributes == NULL)
        return 0;
    memcpy(baseline.attributes, sorted, baseline.count * sizeof *sorted);
    plan->baselines[plan->baseline_count] = baseline;
    return plan->baseline_count++;
}

size_t plan_chart_memory(const struct chart *chart)
{
    size_t memory = limits_need_history(&chart->limits) ? chart->limits.history : 0;
    if (rules_need_history(&chart->rules)) {
        size_t rules = chart->limits.history;
        rules = rules < RULES_RUN_MEMORY ? RULES_RUN_MEMORY : rules;
        memory = memory < rules ? rules : memory;
    }
    return memory;
}

/* Alarmed and missing points are left out of limits, so a quarter more contexts are asked for than points are
 * wanted; four times as many where a further baseline attribute divides the contexts among series. The file's
 * own word goes first. */
static size_t chart_lookback(const struct chart_set *set, const struct chart *chart)
{
    size_t memory = plan_chart_memory(chart);
    if (memory > 0 && set->lookback > 0)
        return set->lookback;
    size_t lookback = chart->baseline_count > CHART_DEFAULT_BASELINE_COUNT ? 4 * memory : memory + memory / 4;
    return lookback < CHART_LOOKBACK_MAX ? lookback : CHART_LOOKBACK_MAX;
}

static void compile_charts(struct compiler *compiler, const struct chart_set *set, const size_t *list,
                           size_t count)
{
    struct judge_plan *plan = compiler->plan;
    plan->charts = allocate(compiler, count, sizeof *plan->charts);
    plan->baselines = allocate(compiler, count, sizeof *plan->baselines);
    size_t terms = 0;
    for (size_t i = 0; i < count; i++)
        terms += set->charts[list[i]].equation.term_count;
    compiler->wanted = allocate(compiler, terms, sizeof *compiler->wanted);
    size_t *indices = allocate(compiler, terms, sizeof *indices);
    if (compiler->out_of_memory)
        return;
    for (size_t i = 0; i < count; i++) {
        const struct chart *chart = &set->charts[list[i]];
        plan->charts[plan->chart_count++] =
            (struct plan_chart){.chart = chart,
                                .terms = indices + compiler->wanted_count,
                                .series = hash64_texts(chart->name, chart->equation.canonical, NULL),
                                .baseline = compile_baseline(compiler, chart),
                                .lookback = chart_lookback(set, chart)};
        for (size_t j = 0; j < chart->equation.term_count; j++, compiler->wanted_count++)
            compiler->wanted[compiler->wanted_count] =
                (struct wanted){&chart->equation.terms[j], &indices[compiler->wanted_count]};
        size_t lookback = plan->charts[i].lookback;
        plan->lookback = lookback > plan->lookback ? lookback : plan->lookback;
    }
}

static const struct judge_plan *compile(const struct chart_set *set, struct arena *arena, const size_t *list,
                                        size_t count)
{
    struct compiler compiler = {.arena = arena};
    compiler.plan = allocate(&compiler, 1, sizeof *compiler.plan);
    if (compiler.plan == NULL)
        return NULL;
    compiler.plan->set = set;
    compile_charts(&compiler, set, list, count);
    if (!compiler.out_of_memory)
        compile_sensors(&compiler);
    if (!compiler.out_of_memory)
        compile_windows(&compiler);
    if (!compiler.out_of_memory)
        compile_groups(&compiler);
    return compiler.out_of_memory ? NULL : compiler.plan;
}

/* ---- finding ---- */

static struct plan_recipe *recipe_slot(const struct plan_cache *cache, const char *recipe)
{
    size_t mask = cache->slot_count - 1, i = (size_t)hash64_text(recipe) & mask;
    while (cache->recipes[i].recipe && strcmp(cache->recipes[i].recipe, recipe) != 0)
        i = (i + 1) & mask;
    return &cache->recipes[i];
}

static int grow_recipes(struct plan_cache *cache)
{
    struct plan_cache larger = *cache;
    larger.slot_count = cache->slot_count ? cache->slot_count * 2 : 64;
    larger.recipes = calloc(larger.slot_count, sizeof *larger.recipes);
    if (larger.recipes == NULL)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < cache->slot_count; i++) {
        if (cache->recipes[i].recipe)
            *recipe_slot(&larger, cache->recipes[i].recipe) = cache->recipes[i];
    }
    free(cache->recipes);
    cache->recipes = larger.recipes;
    cache->slot_count = larger.slot_count;
    return 0;
}

static int remember(struct plan_cache *cache, const char *recipe, const struct judge_plan *plan)
{
    if (cache->recipe_count == PLAN_RECIPES_MAX)
        return 0;
    if (2 * (cache->recipe_count + 1) > cache->slot_count && grow_recipes(cache))
        return ERR_NO_MEMORY;
    const char *copy = arena_strdup(&cache->arena, recipe);
    if (copy == NULL)
        return ERR_NO_MEMORY;
    *recipe_slot(cache, recipe) = (struct plan_recipe){copy, plan};
    cache->recipe_count++;
    return 0;
}

/* The plan of these charts, made if there is none yet; NULL when out of memory. */
static const struct judge_plan *plan_of(const struct chart_set *set, struct plan_cache *cache,
                                        const size_t *list, size_t count)
{
    uint64_t hash = hash64(list, count * sizeof *list);
    for (const struct plan_entry *entry = cache->entries; entry; entry = entry->next) {
        if (entry->hash == hash && entry->count == count &&
            memcmp(entry->charts, list, count * sizeof *list) == 0)
            return entry->plan;
    }
    struct plan_entry *entry = arena_calloc(&cache->arena, 1, sizeof *entry);
    size_t *charts = arena_calloc(&cache->arena, count, sizeof *charts);
    const struct judge_plan *plan = entry && charts ? compile(set, &cache->arena, list, count) : NULL;
    if (plan == NULL)
        return NULL;
    memcpy(charts, list, count * sizeof *charts);
    *entry = (struct plan_entry){cache->entries, hash, charts, count, plan};
    cache->entries = entry;
    return plan;
}

static const struct judge_plan *find_or_make(const struct chart_set *set, struct plan_cache *cache,
                                             const char *recipe)
{
    if (cache->slot_count > 0 && recipe_slot(cache, recipe)->plan)
        return recipe_slot(cache, recipe)->plan;
    size_t count = 0, *list = malloc((set->count + 1) * sizeof *list);
    if (list == NULL)
        return NULL;
    for (size_t i = 0; i < set->count; i++) {
        if (glob_match(set->charts[i].recipe, recipe))
            list[count++] = i;
    }
    const struct judge_plan *plan = plan_of(set, cache, list, count);
    free(list);
    return plan && remember(cache, recipe, plan) == 0 ? plan : NULL;
}

int judge_plan_for(struct chart_set *set, const char *recipe, const struct judge_plan **plan,
                   struct error *err)
{
    pthread_mutex_lock(&set->plans->lock);
    *plan = find_or_make(set, set->plans, recipe);
    pthread_mutex_unlock(&set->plans->lock);
    return *plan ? 0 : error_set(err, ERR_NO_MEMORY, "out of memory for the plan of recipe '%s'", recipe);
}

size_t judge_plan_chart_count(const struct judge_plan *plan)
{
    return plan->chart_count;
}

const uint64_t *judge_plan_sensors(const struct judge_plan *plan, size_t *count)
{
    *count = plan->sensor_count;
    return plan->sensors;
}

size_t judge_plan_lookback(const struct judge_plan *plan)
{
    return plan->lookback;
}
