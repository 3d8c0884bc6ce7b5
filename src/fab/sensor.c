#include "fab/plan.h"

#include "chart/elementary.h"

#include <math.h>
#include <stdio.h>

/* The sensors of an etcher, again and again for as many as the fab has. */
struct kind {
    const char *name;
    enum fab_shape shape;
    int group; /* within the block: those of one number move together */
    double span;
    double noise; /* part of the span */
    double rest;  /* part of the first set point */
    bool off_at_ends;
    int decimals;
    double seconds; /* to rise; of a ramp, for its whole span */
    double shared;  /* part of the noise's variance that the group shares */
    double ageing, season;
};

static const struct kind kinds[] = {
    {"Pressure", FAB_SHAPE_CONTROL, 0, 80, 0.003, 0.1, false, 2, 2.0, 0.4, 0.5, 0},
    {"RF_Fwd_Power", FAB_SHAPE_CONTROL, 1, 1200, 0.002, 0, true, 1, 0.6, 0.3, 0, 0},
    {"RF_Refl_Power", FAB_SHAPE_DECAY, 1, 40, 0.01, 0, true, 2, 3.0, 0.3, 1.5, 0},
    {"Gas_Flow", FAB_SHAPE_CONTROL, 0, 200, 0.002, 0, false, 2, 1.2, 0.1, 0, 0},
    {"Throttle_Position", FAB_SHAPE_CONTROL, 0, 90, 0.004, 0.5, false, 2, 2.5, 0.7, 1.5, 0},
    {"Chuck_Temp", FAB_SHAPE_RAMP, 2, 80, 0.002, 0.9, false, 2, 40, 0.2, 0.3, 1.0},
    {"Bias_Voltage", FAB_SHAPE_CONTROL, 1, 600, 0.004, 0, true, 1, 0.8, 0.6, 1.0, 0},
    {"He_Flow", FAB_SHAPE_DECAY, 2, 20, 0.006, 0, false, 3, 5.0, 0.2, 1.0, 0},
    {"Emission", FAB_SHAPE_DECAY, 1, 4000, 0.004, 0, true, 0, 8.0, 0.4, 2.0, 0},
    {"Valve", FAB_SHAPE_SWITCH, 2, 1, 0, 0, false, 0, 0, 0, 0, 0},
    {"Wall_Temp", FAB_SHAPE_RAMP, 2, 120, 0.002, 0.95, false, 1, 60, 0.3, 0.2, 1.5},
};

enum { KINDS = sizeof kinds / sizeof *kinds, GROUPS_PER_BLOCK = 3 };

double fab_wave(double turns)
{
    double x = turns - floor(turns);     /* [0, 1) */
    double half = x < 0.5 ? x : x - 0.5; /* within its half */
    double y = 16 * half * (0.5 - half); /* 0 to 1 to 0 */
    y = y * (0.775 + 0.225 * y);         /* the usual correction towards a sine */
    return x < 0.5 ? y : -y;
}

/* Samples of e'' + 2 z w e' + w^2 e = 0 obey e(n+1) = 2 r cos(t) e(n) - r^2 e(n-1) with r = exp(-z w T),
 * t = w sqrt(1 - z^2) T: exact at any sampling interval T, so that a slow sampling is never unstable. */
static void set_control(struct fab_sensor *sensor, double rise_s, double damping, double interval_s)
{
    double w = 2 / rise_s;
    double radius = elementary_exp(-damping * w * interval_s);
    double turns = w * sqrt(1 - damping * damping) * interval_s / 6.283185307179586;
    sensor->back1 = 2 * radius * fab_wave(turns + 0.25);
    sensor->back2 = radius * radius;
}

static void draw_sensor(struct fab *fab, size_t index)
{
    const struct kind *kind = &kinds[index % KINDS];
    size_t block = index / KINDS;
    struct fab_sensor *sensor = &fab->sensors[index];
    struct fab_random random = fab_random_of(fab, FAB_FOR_SENSOR, index, 0, 0);
    double interval_s = (double)fab->sample_us * 1e-6;
    double seconds = kind->seconds * (0.8 + 0.4 * fab_random_uniform(&random));
    double damping = 0.45 + 0.3 * fab_random_uniform(&random);
    *sensor = (struct fab_sensor){.shape = kind->shape,
                                  .group = block * GROUPS_PER_BLOCK + (size_t)kind->group,
                                  .span = kind->span,
                                  .rest = kind->rest,
                                  .off_at_ends = kind->off_at_ends,
                                  .sigma = kind->span * kind->noise,
                                  .own = sqrt(1 - kind->shared),
                                  .shared = sqrt(kind->shared),
                                  .scale = elementary_power(10, kind->decimals),
                                  .ageing = kind->ageing * (0.5 + fab_random_uniform(&random)),
                                  .season = kind->season,
                                  .season_phase = 0.1 * fab_random_uniform(&random)};
    if (fab_random_bits(&random) % 2)
        sensor->ageing = -sensor->ageing;
    if (block == 0)
        snprintf(sensor->name, sizeof sensor->name, "%s", kind->name);
    else
        snprintf(sensor->name, sizeof sensor->name, "%s_%zu", kind->name, block + 1);
    if (kind->shape == FAB_SHAPE_CONTROL)
        set_control(sensor, seconds, damping, interval_s);
    else if (kind->shape == FAB_SHAPE_DECAY)
        sensor->back1 = elementary_exp(-interval_s / seconds);
    else if (kind->shape == FAB_SHAPE_RAMP)
        sensor->back1 = interval_s / seconds;
}

/* Set points as an engineer would write them: hundredths of the span. */
static double draw_target(const struct fab *fab, size_t index, size_t recipe, size_t step)
{
    const struct fab_sensor *sensor = &fab->sensors[index];
    struct fab_random random = fab_random_of(fab, FAB_FOR_TARGET, index, recipe, step);
    bool end = step == 0 || step + 1 == fab->recipes[recipe].step_count;
    if (sensor->off_at_ends && end)
        return 0;
    if (sensor->shape == FAB_SHAPE_SWITCH)
        return (double)(fab_random_bits(&random) % 2);
    if (sensor->shape == FAB_SHAPE_RAMP) { /* temperatures of one recipe lie close together */
        struct fab_random base = fab_random_of(fab, FAB_FOR_TARGET, index, recipe, FAB_STEPS_MAX);
        return sensor->span * (double)(40 + fab_random_below(&base, 50) + fab_random_below(&random, 10)) /
               100;
    }
    return sensor->span * (double)(20 + fab_random_below(&random, 80)) / 100;
}

void fab_draw_sensors(struct fab *fab)
{
    const struct fab_options *options = &fab->options;
    fab->groups = (options->sensors + KINDS - 1) / KINDS * GROUPS_PER_BLOCK;
    double *target = fab->targets;
    for (size_t s = 0; s < options->sensors; s++) {
        draw_sensor(fab, s);
        for (size_t r = 0; r < options->recipes; r++)
            for (size_t step = 0; step < FAB_STEPS_MAX; step++)
                *target++ = step < fab->recipes[r].step_count ? draw_target(fab, s, r, step) : 0;
    }
}
