#include "fab/plan.h"

#include "chart/trace.h"

#include <math.h>

/* Noise that the sensors of a group share is slow: each sample keeps this much of the one before. */
static const double common_memory = 0.7;

static const double decay_excess = 0.6; /* at a step's start, as part of its set point */

static void fill_common(const struct fab *fab, const struct fab_run *run, size_t group, double *common)
{
    struct fab_random random = fab_random_of(fab, FAB_FOR_COMMON, run->chamber, run->number, group);
    double fresh = sqrt(1 - common_memory * common_memory);
    double value = fab_random_normal(&random, &fab->normal);
    for (size_t i = 0; i < run->sample_count; i++) {
        common[i] = value;
        value = common_memory * value + fresh * fab_random_normal(&random, &fab->normal);
    }
}

/* The process without noise. `gain` is how far this run's chamber reads from the set points. */
static void fill_shape(const struct fab *fab, const struct fab_run *run, size_t index, double gain,
                       double *values)
{
    const struct fab_sensor *sensor = &fab->sensors[index];
    const double *targets = fab_targets(fab, index, run->recipe);
    double y1 = targets[0] * gain * sensor->rest, y2 = y1, excess = 0;
    double *value = values;
    for (size_t step = 0; step < run->step_count; step++) {
        double target = targets[step] * gain;
        excess = target * decay_excess;
        for (size_t i = 0; i < run->step_samples[step]; i++) {
            double y = target;
            if (sensor->shape == FAB_SHAPE_CONTROL) {
                y = target + sensor->back1 * (y1 - target) - sensor->back2 * (y2 - target);
            } else if (sensor->shape == FAB_SHAPE_RAMP) {
                double most = sensor->back1 * sensor->span;
                y = fabs(target - y1) <= most ? target : target > y1 ? y1 + most : y1 - most;
            } else if (sensor->shape == FAB_SHAPE_DECAY) {
                y = target + excess;
                excess *= sensor->back1;
            }
            *value++ = y;
            y2 = y1;
            y1 = y;
        }
    }
}

static void add_noise(const struct fab *fab, const struct fab_run *run, size_t index, const double *common,
                      double *values)
{
    const struct fab_sensor *sensor = &fab->sensors[index];
    struct fab_random random = fab_random_of(fab, FAB_FOR_SAMPLES, run->chamber, run->number, index);
    double own = sensor->sigma * sensor->own, shared = sensor->sigma * sensor->shared;
    for (size_t i = 0; i < run->sample_count; i++)
        values[i] += own * fab_random_normal(&random, &fab->normal) + shared * common[i];
}

/* To the converter's steps: the double nearest to a decimal. Adding and taking away 1.5 x 2^52 rounds to a
 * whole number, for all numbers below 2^51. */
static void quantise(double scale, double *values, size_t count)
{
    static const double rounder = 0x1.8p52;
    for (size_t i = 0; i < count; i++)
        values[i] = ((values[i] * scale + rounder) - rounder) / scale;
}

static void fill_sensor(const struct fab *fab, const struct fab_run *run, size_t index, const double *common,
                        double *values)
{
    const struct fab_sensor *sensor = &fab->sensors[index];
    double gain = 1;
    if (sensor->shape != FAB_SHAPE_SWITCH)
        gain += fab_level(fab, run, index) * sensor->sigma / sensor->span;
    fill_shape(fab, run, index, gain, values);
    if (sensor->shape != FAB_SHAPE_SWITCH)
        add_noise(fab, run, index, common, values);
    if (run->fault.kind != FAB_NO_FAULT && run->fault.sensor == index)
        fab_apply_fault(fab, run, values);
    quantise(sensor->scale, values, run->sample_count);
}

static void fill_steps(const struct fab_run *run, double *values)
{
    for (size_t step = 0; step < run->step_count; step++)
        for (size_t i = 0; i < run->step_samples[step]; i++)
            *values++ = (double)(step + 1);
}

int fab_make_trace(const struct fab *fab, const struct fab_run *run, struct arena *arena,
                   struct fab_trace *trace, struct error *err)
{
    size_t sensors = fab->options.sensors, count = run->sample_count;
    int64_t *time_us = arena_alloc(arena, count * sizeof *time_us);
    double *values = arena_alloc(arena, count * (sensors + 1) * sizeof *values);
    double *common = arena_alloc(arena, count * fab->groups * sizeof *common);
    struct tchart_column *columns = arena_alloc(arena, (sensors + 1) * sizeof *columns);
    if (time_us == NULL || values == NULL || common == NULL || columns == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the %zu x %zu samples of run %s", sensors, count,
                         run->id);
    for (size_t i = 0; i < count; i++)
        time_us[i] = run->start_us + (int64_t)i * fab->sample_us;
    for (size_t group = 0; group < fab->groups; group++)
        fill_common(fab, run, group, common + group * count);
    for (size_t s = 0; s < sensors; s++) {
        double *own = values + s * count;
        fill_sensor(fab, run, s, common + fab->sensors[s].group * count, own);
        columns[s] = (struct tchart_column){
            .name = fab->sensors[s].name, .count = count, .time_us = time_us, .value = own};
    }
    fill_steps(run, values + sensors * count);
    columns[sensors] = (struct tchart_column){
        .name = TRACE_STEP_NAME, .count = count, .time_us = time_us, .value = values + sensors * count};
    if (run->fault.kind == FAB_SWAPPED) {
        const double *swapped = columns[run->fault.sensor].value;
        columns[run->fault.sensor].value = columns[run->fault.other_sensor].value;
        columns[run->fault.other_sensor].value = swapped;
    }
    *trace = (struct fab_trace){count, time_us, sensors + 1, columns};
    return 0;
}
