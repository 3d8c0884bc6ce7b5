#include "fab/plan.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

static const int64_t day_us = INT64_C(86400) * 1000000;

/* Of the step whose length the process decides: deviation, the most of it in deviations, and how much longer
 * it takes before maintenance. All but the second as part of its length. */
static const double endpoint_spread = 0.015, endpoint_most = 3, endpoint_ageing = 0.02;

enum { STEP_SAMPLES_MIN = 3 };

void fab_options_default(struct fab_options *options)
{
    *options = (struct fab_options){.seed = 1,
                                    .tools = 20,
                                    .chambers_per_tool = 2,
                                    .sensors = 20,
                                    .recipes = 3,
                                    .hz = 1,
                                    .run_us = INT64_C(300) * 1000000,
                                    .start_us = INT64_C(1767571200) * 1000000, /* 2026-01-05, a Monday */
                                    .maintenance_runs = 200,
                                    .fault_kinds = FAB_FAULTS_ALL,
                                    .fault_size = 10};
}

struct fab_random fab_random_of(const struct fab *fab, enum fab_purpose purpose, uint64_t a, uint64_t b,
                                uint64_t c)
{
    return fab_random_for(fab->options.seed, purpose, a, b, c);
}

const double *fab_targets(const struct fab *fab, size_t sensor, size_t recipe)
{
    return fab->targets + (sensor * fab->options.recipes + recipe) * FAB_STEPS_MAX;
}

/* --- options --- */

static int check_count(const char *name, size_t value, size_t most, struct error *err)
{
    if (value >= 1 && value <= most)
        return 0;
    return error_set(err, ERR_INVALID, "%s must be 1 to %zu, not %zu", name, most, value);
}

static int check_sizes(const struct fab_options *options, struct error *err)
{
    int code = check_count("tools", options->tools, FAB_TOOLS_MAX, err);
    if (code == 0)
        code = check_count("chambers of a tool", options->chambers_per_tool, FAB_CHAMBERS_PER_TOOL_MAX, err);
    if (code == 0)
        code = check_count("sensors", options->sensors, FAB_SENSORS_MAX, err);
    if (code == 0)
        code = check_count("recipes", options->recipes, FAB_RECIPES_MAX, err);
    if (code == 0)
        code = check_count("runs between maintenances", options->maintenance_runs, FAB_RUNS_MAX, err);
    return code;
}

static int check_times(const struct fab_options *options, struct error *err)
{
    if (!(options->hz >= 0.01 && options->hz <= 1000))
        return error_set(err, ERR_INVALID, "sampling must be 0.01 to 1000 Hz, not %g", options->hz);
    if (options->run_us <= 0 || options->run_us > day_us)
        return error_set(err, ERR_INVALID, "a run must take more than 0 and at most 24 h");
    double samples = (double)options->run_us * 1e-6 * options->hz;
    if (samples < 40 || samples > FAB_SAMPLES_MAX / 2.0)
        return error_set(
            err, ERR_INVALID,
            "a run must have 40 to %d samples of a sensor, not %.0f: change the length or the rate",
            FAB_SAMPLES_MAX / 2, samples);
    if (options->start_us < 0 || options->start_us > INT64_C(4102444800) * 1000000)
        return error_set(err, ERR_INVALID, "the fab must open between 1970 and 2100");
    if (options->period_us < 0 || options->period_us > 30 * day_us)
        return error_set(err, ERR_INVALID, "a chamber must start a run at least every 30 days");
    return 0;
}

static int check_faults(const struct fab_options *options, struct error *err)
{
    if (!(options->fault_rate >= 0 && options->fault_rate <= 1))
        return error_set(err, ERR_INVALID, "the fault rate must be 0 to 1, not %g", options->fault_rate);
    if (options->fault_kinds & ~FAB_FAULTS_ALL)
        return error_set(err, ERR_INVALID, "there is no such kind of fault");
    if (!(options->fault_size >= 0 && options->fault_size <= 1e6))
        return error_set(err, ERR_INVALID, "the size of faults must be 0 to 1000000, not %g",
                         options->fault_size);
    return 0;
}

/* --- recipes --- */

static void draw_recipe(struct fab *fab, size_t index)
{
    struct fab_recipe *recipe = &fab->recipes[index];
    struct fab_random random = fab_random_of(fab, FAB_FOR_RECIPE, index, 0, 0);
    double samples =
        (double)fab->options.run_us * 1e-6 * fab->options.hz * (0.8 + 0.4 * fab_random_uniform(&random));
    double share[FAB_STEPS_MAX], sum = 0;
    recipe->step_count = FAB_STEPS_MIN + (size_t)fab_random_below(&random, FAB_STEPS_MAX - FAB_STEPS_MIN + 1);
    for (size_t i = 0; i < recipe->step_count; i++)
        sum += share[i] = 0.3 + fab_random_uniform(&random);
    for (size_t i = 0; i < recipe->step_count; i++) {
        size_t count = (size_t)(samples * share[i] / sum + 0.5);
        recipe->step_samples[i] = count > STEP_SAMPLES_MIN ? count : STEP_SAMPLES_MIN;
        bool inner = i > 0 && i + 1 < recipe->step_count;
        if (inner && (recipe->endpoint_step == 0 ||
                      recipe->step_samples[i] > recipe->step_samples[recipe->endpoint_step]))
            recipe->endpoint_step = i;
    }
}

static int64_t longest_run_us(const struct fab *fab)
{
    size_t longest = 0;
    for (size_t r = 0; r < fab->options.recipes; r++) {
        const struct fab_recipe *recipe = &fab->recipes[r];
        size_t samples = 1;
        for (size_t i = 0; i < recipe->step_count; i++)
            samples += recipe->step_samples[i];
        samples += (size_t)((double)recipe->step_samples[recipe->endpoint_step] *
                            (endpoint_spread * endpoint_most + endpoint_ageing));
        longest = samples > longest ? samples : longest;
    }
    return (int64_t)longest * fab->sample_us;
}

/* --- the fab --- */

static int build(struct fab *fab, struct error *err)
{
    struct fab_options *options = &fab->options;
    fab->recipes = calloc(options->recipes, sizeof *fab->recipes);
    fab->sensors = calloc(options->sensors, sizeof *fab->sensors);
    fab->targets = calloc(options->sensors * options->recipes * FAB_STEPS_MAX, sizeof *fab->targets);
    if (fab->recipes == NULL || fab->sensors == NULL || fab->targets == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a fab of %zu sensors", options->sensors);
    fab_normal_fill(&fab->normal);
    fab->sample_us = (int64_t)(1e6 / options->hz + 0.5);
    for (size_t r = 0; r < options->recipes; r++)
        draw_recipe(fab, r);
    fab_draw_sensors(fab);
    fab->longest_us = longest_run_us(fab);
    if (options->period_us == 0)
        options->period_us = fab_shortest_period_us(fab);
    if (options->period_us < fab_shortest_period_us(fab))
        return error_set(err, ERR_INVALID,
                         "a chamber cannot start a run every %.1f s: its runs take up to %.1f s and the "
                         "robot a tenth of it",
                         (double)options->period_us * 1e-6, (double)fab->longest_us * 1e-6);
    return 0;
}

int fab_create(const struct fab_options *options, struct fab **out, struct error *err)
{
    *out = NULL;
    int code = check_sizes(options, err);
    if (code == 0)
        code = check_times(options, err);
    if (code == 0)
        code = check_faults(options, err);
    if (code)
        return code;
    struct fab *fab = calloc(1, sizeof *fab);
    if (fab == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a fab");
    fab->options = *options;
    code = build(fab, err);
    if (code)
        fab_free(fab);
    else
        *out = fab;
    return code;
}

void fab_free(struct fab *fab)
{
    if (fab == NULL)
        return;
    free(fab->recipes);
    free(fab->sensors);
    free(fab->targets);
    free(fab);
}

size_t fab_chambers(const struct fab *fab)
{
    return fab->options.tools * fab->options.chambers_per_tool;
}

size_t fab_sensors(const struct fab *fab)
{
    return fab->options.sensors;
}

const char *fab_sensor_name(const struct fab *fab, size_t sensor)
{
    assert(sensor < fab->options.sensors);
    return fab->sensors[sensor].name;
}

int64_t fab_period_us(const struct fab *fab)
{
    return fab->options.period_us;
}

int64_t fab_shortest_period_us(const struct fab *fab)
{
    return fab->longest_us + fab->longest_us / 10;
}

size_t fab_endpoint_samples(size_t samples, double normal, double age)
{
    double z = normal > endpoint_most ? endpoint_most : normal < -endpoint_most ? -endpoint_most : normal;
    return (size_t)((double)samples * (1 + endpoint_spread * z + endpoint_ageing * age) + 0.5);
}
