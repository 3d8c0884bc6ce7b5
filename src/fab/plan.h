/* A fab's inside: what is drawn once, when it is made. */
#ifndef CHAMBERLAIN_FAB_PLAN_H
#define CHAMBERLAIN_FAB_PLAN_H

#include "fab/fab.h"
#include "fab/random.h"

/* How a sensor follows its recipe. */
enum fab_shape {
    FAB_SHAPE_CONTROL, /* towards each step's set point with rise and overshoot: a system of second order */
    FAB_SHAPE_RAMP,    /* towards it at a bounded rate */
    FAB_SHAPE_DECAY,   /* above it at each step's start, and back by an exponential */
    FAB_SHAPE_SWITCH   /* on or off: no noise, no drift */
};

/* What generators are for (the second part of their key). */
enum fab_purpose {
    FAB_FOR_RECIPE,
    FAB_FOR_TARGET,
    FAB_FOR_SENSOR,
    FAB_FOR_CHAMBER,
    FAB_FOR_LOT,
    FAB_FOR_RUN,
    FAB_FOR_FAULT,
    FAB_FOR_MATCHING,
    FAB_FOR_MAINTENANCE,
    FAB_FOR_WANDER,
    FAB_FOR_GROUP,
    FAB_FOR_COMMON,
    FAB_FOR_SAMPLES,
    FAB_FOR_EXTRA_NOISE
};

struct fab_sensor {
    char name[FAB_TEXT_BYTES];
    enum fab_shape shape;
    size_t group;        /* sensors that share a part of their noise */
    double span;         /* the largest set point */
    double rest;         /* where it stands between runs, as part of the first step's set point */
    bool off_at_ends;    /* 0 in the first and the last step */
    double sigma;        /* of its noise, in its unit */
    double own, shared;  /* parts of the noise: own^2 + shared^2 = 1 */
    double scale;        /* 10^decimals: values are multiples of 1/scale */
    double back1, back2; /* control: the recurrence of its error; decay: back1 is the part left a sample
                            later; ramp: back1 is the largest change a sample, as part of the span */
    double ageing;       /* how far it goes until maintenance, in sigma */
    double season;       /* how far a day moves it, in sigma */
    double season_phase; /* turns */
};

struct fab_recipe {
    size_t step_count;
    size_t step_samples[FAB_STEPS_MAX];
    size_t endpoint_step; /* whose length the process decides, not the recipe */
};

struct fab {
    struct fab_options options;
    struct fab_normal normal;
    int64_t sample_us; /* from one sample to the next */
    int64_t longest_us;
    struct fab_recipe *recipes;
    struct fab_sensor *sensors;
    double *targets; /* [sensor][recipe][step] */
    size_t groups;
};

struct fab_random fab_random_of(const struct fab *fab, enum fab_purpose purpose, uint64_t a, uint64_t b,
                                uint64_t c);

/* The targets of a sensor in a recipe: FAB_STEPS_MAX of them. */
const double *fab_targets(const struct fab *fab, size_t sensor, size_t recipe);

/* How long the endpoint step of `samples` takes in a run: `normal` is its place in a normal distribution,
 * `age` 0 to 1 between maintenances. */
size_t fab_endpoint_samples(size_t samples, double normal, double age);

/* sensor.c: fills fab->sensors and fab->targets, whose memory is there. */
void fab_draw_sensors(struct fab *fab);

/* An even wave of period 1, amplitude 1: a parabola for each half, made rounder once; within 0.002 of a sine.
 */
double fab_wave(double turns);

/* level.c: how far the sensor stands from its set points in this run, in sigma. */
double fab_level(const struct fab *fab, const struct fab_run *run, size_t sensor);

/* fault.c: decides about a fault of the run, whose steps are drawn; leaves a missing step out. */
void fab_draw_fault(const struct fab *fab, struct fab_run *run);

/* Puts the run's fault into the raw values (before they are rounded) of its sensor. */
void fab_apply_fault(const struct fab *fab, const struct fab_run *run, double *values);

#endif
