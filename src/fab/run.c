#include "fab/plan.h"

#include <assert.h>
#include <stdio.h>

/* The wafer a chamber's run is on: the chambers of a tool take a lot's wafers in turn. */
static uint64_t wafer_of(const struct fab *fab, size_t chamber, uint64_t number)
{
    size_t each = fab->options.chambers_per_tool;
    return number * each + chamber % each;
}

static void draw_maintenance(const struct fab *fab, struct fab_run *run)
{
    /* Chambers are not all maintained at once: each is somewhere between two maintenances when the fab opens.
     */
    struct fab_random random = fab_random_of(fab, FAB_FOR_CHAMBER, run->chamber, 1, 0);
    uint64_t every = fab->options.maintenance_runs;
    uint64_t count = run->number + fab_random_below(&random, every);
    run->maintenance = count / every;
    run->runs_since_maintenance = count % every;
}

static void draw_steps(const struct fab *fab, struct fab_run *run, struct fab_random *random)
{
    const struct fab_recipe *recipe = &fab->recipes[run->recipe];
    double age = (double)run->runs_since_maintenance / (double)fab->options.maintenance_runs;
    run->step_count = recipe->step_count;
    run->sample_count = 0;
    for (size_t i = 0; i < recipe->step_count; i++) {
        run->step_samples[i] = recipe->step_samples[i];
        if (i == recipe->endpoint_step)
            run->step_samples[i] =
                fab_endpoint_samples(recipe->step_samples[i], fab_random_normal(random, &fab->normal), age);
        run->sample_count += run->step_samples[i];
    }
}

/* Each run has a slot of one period to itself, and starts somewhere in the part of it that it does not need.
 * So runs of a chamber never overlap, and the start of any is known without the ones before. */
static void draw_times(const struct fab *fab, struct fab_run *run, struct fab_random *random)
{
    struct fab_random of_chamber = fab_random_of(fab, FAB_FOR_CHAMBER, run->chamber, 0, 0);
    int64_t period_us = fab->options.period_us;
    double spare = (double)(period_us - fab->longest_us);
    int64_t slot = (int64_t)(fab_random_uniform(&of_chamber) * (double)period_us);
    run->start_us = fab->options.start_us + slot + (int64_t)run->number * period_us +
                    (int64_t)(fab_random_uniform(random) * spare);
}

static void draw_run(const struct fab *fab, size_t chamber, uint64_t number, struct fab_run *run)
{
    assert(chamber < fab_chambers(fab) && number < FAB_RUNS_MAX);
    run->chamber = chamber;
    run->number = number;
    uint64_t lot = wafer_of(fab, chamber, number) / FAB_LOT_WAFERS;
    struct fab_random of_lot =
        fab_random_of(fab, FAB_FOR_LOT, chamber / fab->options.chambers_per_tool, lot, 0);
    struct fab_random random = fab_random_of(fab, FAB_FOR_RUN, chamber, number, 0);
    run->recipe = (size_t)fab_random_below(&of_lot, fab->options.recipes);
    draw_maintenance(fab, run);
    draw_steps(fab, run, &random);
    draw_times(fab, run, &random);
    fab_draw_fault(fab, run);
    run->end_us = run->start_us + (int64_t)run->sample_count * fab->sample_us;
}

void fab_describe_run(const struct fab *fab, size_t chamber, uint64_t number, struct fab_run *run)
{
    draw_run(fab, chamber, number, run);
    size_t each = fab->options.chambers_per_tool;
    uint64_t wafer = wafer_of(fab, chamber, number);
    snprintf(run->tool, sizeof run->tool, "T%04zu", chamber / each + 1);
    snprintf(run->chamber_name, sizeof run->chamber_name, "PM%zu", chamber % each + 1);
    snprintf(run->recipe_name, sizeof run->recipe_name, "RECIPE_%02zu", run->recipe + 1);
    snprintf(run->lot, sizeof run->lot, "%s-L%05llu", run->tool,
             (unsigned long long)(wafer / FAB_LOT_WAFERS + 1));
    snprintf(run->wafer, sizeof run->wafer, "%llu", (unsigned long long)(wafer % FAB_LOT_WAFERS + 1));
    snprintf(run->id, sizeof run->id, "fab%llu-%s-%s-%06llu", (unsigned long long)fab->options.seed,
             run->tool, run->chamber_name, (unsigned long long)number);
    snprintf(run->extra_json, sizeof run->extra_json,
             "{\"maintenance\":%llu,\"runs_since_maintenance\":%llu}", (unsigned long long)run->maintenance,
             (unsigned long long)run->runs_since_maintenance);
}

int64_t fab_run_end_us(const struct fab *fab, size_t chamber, uint64_t number)
{
    struct fab_run run;
    draw_run(fab, chamber, number, &run);
    return run.end_us;
}

void fab_context(const struct fab *fab, const struct fab_run *run, struct context *context)
{
    int64_t columns = (int64_t)fab->options.sensors + 1;
    *context = (struct context){.id = run->id,
                                .tool = run->tool,
                                .chamber = run->chamber_name,
                                .recipe = run->recipe_name,
                                .lot = run->lot,
                                .wafer = run->wafer,
                                .start_us = run->start_us,
                                .end_us = run->end_us,
                                .svid_count = columns,
                                .point_count = columns * (int64_t)run->sample_count,
                                .extra_json = run->extra_json};
}
