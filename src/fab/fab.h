/* A simulated fab: tools with chambers that run recipes, wafer after wafer, and the traces that their sensors
 * would give, with faults at known times. It makes load, and it makes data whose truth is known.
 *
 * Everything is a function of the options (the seed among them) and of which run of which chamber is meant:
 * nothing depends on what was asked for before. So runs can be made in any order, by any number of threads,
 * and again. The same options give the same bits on every machine: the C library's sin, exp and log are not
 * used.
 *
 * Pure: no clock, no thread, no file. A fab is constant once made; any number of threads may share it. */
#ifndef CHAMBERLAIN_FAB_FAB_H
#define CHAMBERLAIN_FAB_FAB_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "chart/context.h"
#include "collector/pack.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAB_TOOLS_MAX = 50000,
    FAB_CHAMBERS_PER_TOOL_MAX = 4,
    FAB_SENSORS_MAX = 2000,
    FAB_RECIPES_MAX = 200,
    FAB_STEPS_MAX = 8, /* of a recipe; it has at least FAB_STEPS_MIN */
    FAB_STEPS_MIN = 4,
    FAB_SAMPLES_MAX = 200000, /* of one sensor in one run */
    FAB_RUNS_MAX = 100000000, /* of one chamber */
    FAB_LOT_WAFERS = 25,
    FAB_NAME_BYTES = 32, /* of a tool, chamber, recipe, wafer */
    FAB_TEXT_BYTES = 128 /* of an id, a lot, further fields */
};

/* What can go wrong in a run. docs/simulate.md says what each does to the trace. */
enum fab_fault_kind {
    FAB_SPIKE,        /* one to three samples of a sensor far out */
    FAB_SHIFT,        /* a sensor is off by a constant, from a moment on */
    FAB_DRIFT,        /* a sensor leaves, further and further, from a moment on */
    FAB_STUCK,        /* a sensor repeats its last value, from a moment on */
    FAB_MISSING_STEP, /* a step of the recipe is left out */
    FAB_SWAPPED,      /* two sensors stand under each other's name, the whole run */
    FAB_NOISY,        /* a sensor's noise is several times as large, from a moment on */
    FAB_DROPOUT,      /* a sensor gives nothing for a while */
    FAB_FAULT_KINDS,
    FAB_NO_FAULT = FAB_FAULT_KINDS
};

#define FAB_FAULTS_ALL ((1U << FAB_FAULT_KINDS) - 1)

struct fab_options {
    uint64_t seed;
    size_t tools;
    size_t chambers_per_tool; /* 1 to FAB_CHAMBERS_PER_TOOL_MAX */
    size_t sensors;           /* of a tool, the step not counted */
    size_t recipes;
    double hz;               /* samples a second */
    int64_t run_us;          /* a recipe's length; recipes lie within a fifth of it */
    int64_t period_us;       /* from one run of a chamber to its next; 0: fab_shortest_period_us */
    int64_t start_us;        /* when the fab opens, microseconds since the Unix epoch */
    size_t maintenance_runs; /* runs of a chamber from one maintenance to the next */
    double fault_rate;       /* fraction of the runs that have a fault */
    uint32_t fault_kinds;    /* bit (1 << enum fab_fault_kind) of those that happen, equally often */
    double fault_size;       /* of spikes, shifts, drifts and noise, in standard deviations of the sensor's
                                noise; half to twice of it happens */
};

/* 20 tools of 2 chambers, 20 sensors at 1 Hz, 3 recipes of 5 minutes, no faults; all kinds, size 10. */
void fab_options_default(struct fab_options *options);

struct fab;

/* ERR_INVALID names the option that is out of range and its bounds; ERR_NO_MEMORY. */
int fab_create(const struct fab_options *options, struct fab **fab, struct error *err);
void fab_free(struct fab *fab);

size_t fab_chambers(const struct fab *fab); /* tools x chambers_per_tool */
size_t fab_sensors(const struct fab *fab);
const char *fab_sensor_name(const struct fab *fab, size_t sensor);
int64_t fab_period_us(const struct fab *fab); /* from one run of a chamber to its next */

/* The shortest period that options of this kind allow: the longest run, and a tenth for the robot. Needs
 * options that fab_create takes. */
int64_t fab_shortest_period_us(const struct fab *fab);

/* "spike", "shift", "drift", "stuck", "missing_step", "swapped", "noisy", "dropout"; "" for FAB_NO_FAULT. */
const char *fab_fault_name(enum fab_fault_kind kind);
bool fab_fault_parse(const char *name, size_t length, enum fab_fault_kind *kind);

struct fab_fault {
    enum fab_fault_kind kind;
    size_t sensor;       /* not for FAB_MISSING_STEP */
    size_t other_sensor; /* FAB_SWAPPED */
    size_t step;         /* FAB_MISSING_STEP: 1, 2, 3, ... */
    size_t from, to;     /* samples: the trace is as without the fault before `from` and, but for a missing
                            step, from `to` on */
    double size;         /* in units of the sensor; 0 where it has no meaning */
};

/* One run, all but its samples. */
struct fab_run {
    size_t chamber;  /* 0, 1, 2, ... in the whole fab */
    uint64_t number; /* 0, 1, 2, ... in its chamber */
    char id[FAB_TEXT_BYTES], lot[FAB_TEXT_BYTES], extra_json[FAB_TEXT_BYTES];
    char tool[FAB_NAME_BYTES], chamber_name[FAB_NAME_BYTES], recipe_name[FAB_NAME_BYTES],
        wafer[FAB_NAME_BYTES];
    size_t recipe;
    uint64_t maintenance;            /* how many the chamber has had */
    uint64_t runs_since_maintenance; /* 0: the first after one */
    int64_t start_us, end_us;        /* end: one sampling interval after the last sample */
    size_t step_count;
    size_t step_samples[FAB_STEPS_MAX]; /* 0: left out */
    size_t sample_count;
    struct fab_fault fault;
};

/* Run `number` (below FAB_RUNS_MAX) of chamber `chamber` (below fab_chambers). */
void fab_describe_run(const struct fab *fab, size_t chamber, uint64_t number, struct fab_run *run);

/* When it ends, without the rest. */
int64_t fab_run_end_us(const struct fab *fab, size_t chamber, uint64_t number);

/* The announcement's context, borrowing from `run`. chunk_count is 0: packing decides it. */
void fab_context(const struct fab *fab, const struct fab_run *run, struct context *context);

struct fab_trace {
    size_t sample_count;
    const int64_t *time_us; /* shared by all columns */
    size_t column_count;    /* sensors, then the step */
    struct tchart_column *columns;
};

/* The samples of a run, in `arena`; names are borrowed from the fab. ERR_NO_MEMORY. */
int fab_make_trace(const struct fab *fab, const struct fab_run *run, struct arena *arena,
                   struct fab_trace *trace, struct error *err);

/* --- the fab's runs in the order in which they end, ties by chamber --- */

struct fab_schedule;

/* Runs `first` to `first + runs - 1` of every chamber. ERR_INVALID beyond FAB_RUNS_MAX, ERR_NO_MEMORY.
 * Borrows the fab. */
int fab_schedule_create(const struct fab *fab, uint64_t first, uint64_t runs, struct fab_schedule **schedule,
                        struct error *err);
void fab_schedule_free(struct fab_schedule *schedule);

/* False when there is none left. */
bool fab_schedule_next(struct fab_schedule *schedule, size_t *chamber, uint64_t *number, int64_t *end_us);

/* --- the truth, as a runs.csv (collector/runs.h) --- */

/* The header line: context_id,tool,chamber,recipe,lot,wafer,label,fault and, for people,
 * fault_sensor,fault_from,fault_size. */
void fab_truth_begin(struct strbuf *csv);

/* The line of one run. */
void fab_truth_add(const struct fab *fab, const struct fab_run *run, struct strbuf *csv);

#endif
