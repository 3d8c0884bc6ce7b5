#include "fab/plan.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* How a spike and a growing noise compare with a shift of the same size, so that one --fault-size means
 * something for each. */
static const double spike_factor = 5, noise_factor = 0.5, drift_factor = 1.5;

static const char *const names[] = {"spike",   "shift", "drift",   "stuck", "missing_step",
                                    "swapped", "noisy", "dropout", ""};

const char *fab_fault_name(enum fab_fault_kind kind)
{
    assert(kind <= FAB_NO_FAULT);
    return names[kind];
}

bool fab_fault_parse(const char *name, size_t length, enum fab_fault_kind *kind)
{
    for (int i = 0; i < FAB_FAULT_KINDS; i++)
        if (strlen(names[i]) == length && memcmp(names[i], name, length) == 0) {
            *kind = (enum fab_fault_kind)i;
            return true;
        }
    return false;
}

static enum fab_fault_kind draw_kind(const struct fab *fab, struct fab_random *random)
{
    uint32_t kinds = fab->options.fault_kinds;
    uint64_t nth = fab_random_below(random, (uint64_t)__builtin_popcount(kinds));
    for (int kind = 0; kind < FAB_FAULT_KINDS; kind++)
        if ((kinds >> kind & 1) && nth-- == 0)
            return (enum fab_fault_kind)kind;
    return FAB_NO_FAULT;
}

/* A sensor that has noise (a switch that is stuck looks like any other). `except` is not chosen. False when
 * there is none. */
static bool draw_sensor(const struct fab *fab, struct fab_random *random, size_t except, size_t *chosen)
{
    size_t count = fab->options.sensors;
    size_t first = (size_t)fab_random_below(random, count);
    for (size_t i = 0; i < count; i++) {
        size_t s = (first + i) % count;
        if (s != except && fab->sensors[s].shape != FAB_SHAPE_SWITCH) {
            *chosen = s;
            return true;
        }
    }
    return false;
}

/* Takes a step out that is neither the first nor the last. */
static void leave_step_out(struct fab_run *run, struct fab_random *random)
{
    size_t step = 1 + (size_t)fab_random_below(random, run->step_count - 2);
    size_t from = 0;
    for (size_t i = 0; i < step; i++)
        from += run->step_samples[i];
    run->sample_count -= run->step_samples[step];
    run->step_samples[step] = 0;
    run->fault.step = step + 1;
    run->fault.from = from;
    run->fault.to = run->sample_count;
}

/* How long it lasts, in samples; the rest of the run by default. */
static size_t draw_length(enum fab_fault_kind kind, size_t left, struct fab_random *random)
{
    if (kind == FAB_SPIKE) {
        size_t length = 1 + (size_t)fab_random_below(random, 3);
        return length < left ? length : left;
    }
    if (kind == FAB_DROPOUT) /* a quarter to three quarters of what is left */
        return 1 + left / 4 + (size_t)fab_random_below(random, left / 2 + 1) % left;
    return left;
}

static double draw_size(const struct fab *fab, struct fab_fault *fault, struct fab_random *random)
{
    /* Half to twice, as often below as above. */
    double u = fab_random_uniform(random);
    double factor = u < 0.5 ? 0.5 + u : 1 + 2 * (u - 0.5);
    double size = fab->options.fault_size * factor * fab->sensors[fault->sensor].sigma;
    bool down = fab_random_bits(random) % 2;
    switch (fault->kind) {
    case FAB_SPIKE:
        size *= spike_factor;
        break;
    case FAB_DRIFT:
        size *= drift_factor;
        break;
    case FAB_NOISY:
        return size * noise_factor;
    case FAB_SHIFT:
        break;
    default:
        return 0;
    }
    return down ? -size : size;
}

void fab_draw_fault(const struct fab *fab, struct fab_run *run)
{
    struct fab_fault *fault = &run->fault;
    struct fab_random random = fab_random_of(fab, FAB_FOR_FAULT, run->chamber, run->number, 0);
    *fault = (struct fab_fault){.kind = FAB_NO_FAULT};
    if (fab->options.fault_kinds == 0 || !(fab_random_uniform(&random) < fab->options.fault_rate))
        return;
    enum fab_fault_kind kind = draw_kind(fab, &random);
    if (kind == FAB_MISSING_STEP) {
        fault->kind = kind;
        leave_step_out(run, &random);
        return;
    }
    if (!draw_sensor(fab, &random, SIZE_MAX, &fault->sensor) ||
        (kind == FAB_SWAPPED && !draw_sensor(fab, &random, fault->sensor, &fault->other_sensor)))
        return;
    fault->kind = kind;
    size_t count = run->sample_count;
    if (kind != FAB_SWAPPED) /* from the second tenth to the seventh */
        fault->from = count / 10 + (size_t)fab_random_below(&random, count * 6 / 10 + 1);
    size_t left = count - fault->from;
    size_t length = draw_length(kind, left, &random);
    fault->to = fault->from + (length < left ? length : left);
    fault->size = draw_size(fab, fault, &random);
}

void fab_apply_fault(const struct fab *fab, const struct fab_run *run, double *values)
{
    const struct fab_fault *fault = &run->fault;
    struct fab_random random = fab_random_of(fab, FAB_FOR_EXTRA_NOISE, run->chamber, run->number, 0);
    double length = (double)(fault->to - fault->from);
    for (size_t i = fault->from; i < fault->to; i++)
        switch (fault->kind) {
        case FAB_SPIKE:
        case FAB_SHIFT:
            values[i] += fault->size;
            break;
        case FAB_DRIFT:
            values[i] += fault->size * (double)(i - fault->from + 1) / length;
            break;
        case FAB_STUCK:
            values[i] = values[fault->from];
            break;
        case FAB_NOISY:
            values[i] += fault->size * fab_random_normal(&random, &fab->normal);
            break;
        case FAB_DROPOUT:
            values[i] = NAN;
            break;
        case FAB_MISSING_STEP:
        case FAB_SWAPPED:
        case FAB_NO_FAULT:
            return;
        }
}
