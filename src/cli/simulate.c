/* `chamberlain simulate`: a fab that makes load, and faults whose truth is known. Runs are made by a pool of
 * threads, stored in the order in which they end, and announced; a bounded number is on its way at a time. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/shipment.h"
#include "cli/terminal.h"

#include "base/clock.h"
#include "fab/fab.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    IN_FLIGHT_MAX = 512,            /* contexts */
    IN_FLIGHT_POINTS = 4 * 1048576, /* samples of them all: about 100 MB */
    IN_FLIGHT_MIN = 8,
    PACE_MS = 200, /* at most, between two looks at the clock (and at Ctrl-C) */
    RATE_MAX = 5000,
    RUNS_DEFAULT = 10
};

static const struct command command = {
    .name = "simulate",
    .operands = "",
    .summary = "Simulates a fab: recipes run in the chambers of many tools, wafer after wafer; each run is "
               "stored and "
               "announced\n"
               "as a completed context. A part of them can have a fault; --truth says afterwards which "
               "(docs/simulate.md).\n"
               "The same options make the same traces, bit by bit.",
    .examples =
        "  chamberlain simulate --dir fab --direct --tools 20 --runs 50 --truth normal.csv\n"
        "  chamberlain simulate --dir fab --direct --tools 20 --first 50 --runs 50 --faults 2% --truth "
        "later.csv\n"
        "  chamberlain simulate --dir fab --direct --tools 2000 --rate 20 --duration 5min\n"
        "  chamberlain simulate --dir fab --direct --sensors 10 --run-time 100s --rate 3000 --duration 1min",
};

struct run;

struct simulator {
    struct session session;
    struct shipping shipping;
    struct fab_options options;
    struct fab *fab;
    struct fab_schedule *schedule;

    /* what was asked for */
    const char *hz_text, *speed_text, *start_text, *kinds_text, *size_text, *truth_path;
    int64_t tools, chambers_per_tool, sensors, recipes, runs, first, rate, seed, maintenance;
    int64_t duration_us; /* of the wall clock; 0: by runs */
    bool direct, json, quiet;
    double speed; /* seconds of the fab in one of ours; 0: as fast as it goes */
    double asked_rate;
    uint64_t total; /* contexts */

    FILE *truth;
    struct strbuf line;

    size_t in_flight_max;
    struct run *making, **making_end; /* not yet given to the store, in the order of their beginnings */
    uv_timer_t pace;

    /* what came of it */
    uint64_t started;
    uint64_t faults[FAB_FAULT_KINDS];
    int64_t make_ns; /* of the threads, in sum */
    int64_t first_end_us, last_end_us;
    int64_t start_ns, end_ns, behind_max_ns;
};

/* One run being made, in the memory of the shipment that it becomes. */
struct run {
    struct simulator *simulator;
    struct shipment *shipment;
    struct run *next; /* in `making` */
    struct fab_run plan;
    uv_work_t work;
    bool made;
    int64_t make_ns;
    int code;
    struct error error;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* --- making a run, on a thread of the pool --- */

static int pack(struct run *run, struct error *err)
{
    const struct fab *fab = run->simulator->fab;
    struct arena *arena = &run->shipment->arena;
    struct fab_trace trace;
    struct tchart_blobs blobs;
    struct context context;
    int code = fab_make_trace(fab, &run->plan, arena, &trace, err);
    if (code == 0)
        code = tchart_pack(trace.columns, trace.column_count, 0, arena, &blobs, err);
    if (code)
        return error_prefix(err, code, "context %s", run->plan.id);
    fab_context(fab, &run->plan, &context);
    return shipment_pack(run->shipment, &context, &blobs, err);
}

static int64_t thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void make(uv_work_t *work)
{
    struct run *run = work->data;
    int64_t start_ns = thread_cpu_ns();
    run->code = pack(run, &run->error);
    run->make_ns = thread_cpu_ns() - start_ns;
}

/* The pool ends runs in any order; they go on in that in which they were begun. */
static void on_made(uv_work_t *work, int status)
{
    (void)status; /* work is never cancelled */
    struct run *run = work->data;
    struct simulator *simulator = run->simulator;
    run->made = true;
    while ((run = simulator->making) != NULL && run->made) {
        simulator->making = run->next;
        if (run->next == NULL)
            simulator->making_end = &simulator->making;
        simulator->make_ns += run->make_ns;
        if (run->code)
            shipment_drop(run->shipment, &run->error);
        else
            shipment_send(run->shipment);
    }
}

/* --- the fab's day --- */

static int write_truth(struct simulator *simulator, struct error *err)
{
    struct strbuf *line = &simulator->line;
    if (simulator->truth == NULL)
        return 0;
    if (line->failed)
        return error_set(err, ERR_NO_MEMORY, "no memory for the truth");
    bool written = fwrite(line->text, 1, line->length, simulator->truth) == line->length;
    strbuf_clear(line);
    return written ? 0
                   : error_set(err, ERR_IO, "cannot write %s: %s", simulator->truth_path, strerror(errno));
}

static int start_run(struct simulator *simulator, size_t chamber, uint64_t number, struct error *err)
{
    struct shipment *shipment = shipping_take(&simulator->shipping);
    struct run *run = shipment ? arena_calloc(&shipment->arena, 1, sizeof *run) : NULL;
    if (run == NULL) {
        if (shipment)
            shipment_drop(shipment, NULL);
        return error_set(err, ERR_NO_MEMORY, "no memory for a run");
    }
    run->simulator = simulator;
    run->shipment = shipment;
    run->work.data = run;
    fab_describe_run(simulator->fab, chamber, number, &run->plan);
    if (simulator->truth)
        fab_truth_add(simulator->fab, &run->plan, &simulator->line);
    if (run->plan.fault.kind != FAB_NO_FAULT)
        simulator->faults[run->plan.fault.kind]++;
    int code = write_truth(simulator, err);
    if (code) {
        shipment_drop(shipment, NULL);
        return code;
    }
    *simulator->making_end = run;
    simulator->making_end = &run->next;
    simulator->started++;
    uv_queue_work(&simulator->session.loop, &run->work, make, on_made);
    return 0;
}

static void on_pace(uv_timer_t *timer)
{
    (void)timer; /* wakes the loop */
}

/* Waits for the moment of a run that ends at `end_us` in the fab's time. A late one is not waited for. */
static void wait_for(struct simulator *simulator, int64_t end_us)
{
    if (!(simulator->speed > 0))
        return;
    double fab_us = (double)(end_us - simulator->first_end_us);
    int64_t due_ns = simulator->start_ns + (int64_t)(fab_us * 1000 / simulator->speed);
    for (int64_t early_ms; !interrupted && (early_ms = (due_ns - clock_mono_ns()) / 1000000) > 0;) {
        /* It repeats, because the loop may run a timer that is due and then still wait for something else. */
        uv_timer_start(&simulator->pace, on_pace, (uint64_t)(early_ms < PACE_MS ? early_ms : PACE_MS), 1);
        uv_run(&simulator->session.loop, UV_RUN_ONCE);
    }
    uv_timer_stop(&simulator->pace);
    int64_t behind_ns = clock_mono_ns() - due_ns;
    if (behind_ns > simulator->behind_max_ns)
        simulator->behind_max_ns = behind_ns;
}

static int run_fab(struct simulator *simulator, struct error *err)
{
    struct progress progress;
    size_t chamber;
    uint64_t number;
    int64_t end_us;
    int code = 0;
    progress_begin(&progress, "contexts announced", (int64_t)simulator->total);
    simulator->start_ns = clock_mono_ns();
    while (code == 0 && !interrupted && simulator->started < simulator->total &&
           fab_schedule_next(simulator->schedule, &chamber, &number, &end_us)) {
        if (simulator->started == 0)
            simulator->first_end_us = end_us;
        simulator->last_end_us = end_us;
        wait_for(simulator, end_us);
        code = shipping_wait_below(&simulator->shipping, simulator->in_flight_max, err);
        if (code == 0)
            code = start_run(simulator, chamber, number, err);
        uv_run(&simulator->session.loop, UV_RUN_NOWAIT);
        if (!simulator->quiet)
            progress_update(&progress, (int64_t)simulator->shipping.announced);
    }
    int shipped = shipping_drain(&simulator->shipping, code ? NULL : err);
    simulator->end_ns = clock_mono_ns();
    progress_end(&progress);
    return code ? code : shipped;
}

/* --- what came of it --- */

static uint64_t fault_count(const struct simulator *simulator)
{
    uint64_t count = 0;
    for (int kind = 0; kind < FAB_FAULT_KINDS; kind++)
        count += simulator->faults[kind];
    return count;
}

static void print_json(const struct simulator *simulator, double seconds, double made_s)
{
    struct strbuf json;
    char from[CLOCK_RFC3339_BYTES], to[CLOCK_RFC3339_BYTES];
    strbuf_init(&json);
    strbuf_printf(
        &json,
        "{\"announced\":%llu,\"existed\":%llu,\"conflicts\":%llu,\"chambers\":%zu,\"points\":%llu,"
        "\"bytes\":%llu,\"faults\":{",
        (unsigned long long)simulator->shipping.announced, (unsigned long long)simulator->shipping.existed,
        (unsigned long long)simulator->shipping.conflicts, fab_chambers(simulator->fab),
        (unsigned long long)simulator->shipping.points, (unsigned long long)simulator->shipping.bytes);
    for (int kind = 0; kind < FAB_FAULT_KINDS; kind++)
        strbuf_printf(&json, "%s\"%s\":%llu", kind ? "," : "", fab_fault_name((enum fab_fault_kind)kind),
                      (unsigned long long)simulator->faults[kind]);
    strbuf_add(&json, "},\"seconds\":");
    strbuf_add_json_double(&json, seconds);
    strbuf_add(&json, ",\"rate\":");
    strbuf_add_json_double(&json, (double)simulator->shipping.announced / seconds);
    strbuf_add(&json, ",\"asked_rate\":");
    if (simulator->speed > 0)
        strbuf_add_json_double(&json, simulator->asked_rate);
    else
        strbuf_add(&json, "null");
    strbuf_add(&json, ",\"behind_max_seconds\":");
    strbuf_add_json_double(&json, (double)simulator->behind_max_ns * 1e-9);
    strbuf_add(&json, ",\"make_seconds\":");
    strbuf_add_json_double(&json, made_s);
    strbuf_printf(&json, ",\"from\":\"%s\",\"to\":\"%s\",\"interrupted\":%s}\n",
                  clock_format_rfc3339(simulator->first_end_us, from),
                  clock_format_rfc3339(simulator->last_end_us, to), interrupted ? "true" : "false");
    terminal_print(&json);
    strbuf_free(&json);
}

static void print_text(const struct simulator *simulator, double seconds, double made_s)
{
    uint64_t faults = fault_count(simulator);
    char from[CLOCK_RFC3339_BYTES], to[CLOCK_RFC3339_BYTES];
    printf("%llu contexts of %zu chambers announced in %.1f s (%.0f a second",
           (unsigned long long)simulator->shipping.announced, fab_chambers(simulator->fab), seconds,
           (double)simulator->shipping.announced / seconds);
    if (simulator->speed > 0)
        printf("; asked for %.3g, at most %.1f s behind", simulator->asked_rate,
               (double)simulator->behind_max_ns * 1e-9);
    printf(")\nruns that ended %s to %s; %llu samples in %.1f MB, made in %.1f s of processor time\n",
           clock_format_rfc3339(simulator->first_end_us, from),
           clock_format_rfc3339(simulator->last_end_us, to), (unsigned long long)simulator->shipping.points,
           (double)simulator->shipping.bytes * 1e-6, made_s);
    if (faults) {
        printf("%llu have a fault:", (unsigned long long)faults);
        const char *before = " ";
        for (int kind = 0; kind < FAB_FAULT_KINDS; kind++)
            if (simulator->faults[kind]) {
                printf("%s%llu %s", before, (unsigned long long)simulator->faults[kind],
                       fab_fault_name((enum fab_fault_kind)kind));
                before = ", ";
            }
        putchar('\n');
    }
    if (simulator->truth_path)
        printf("which is what: %s\n", simulator->truth_path);
    if (simulator->shipping.existed)
        printf("%llu of them were stored before\n", (unsigned long long)simulator->shipping.existed);
    if (simulator->shipping.conflicts)
        printf("%llu refused: another trace is stored under their names; another --seed has other names\n",
               (unsigned long long)simulator->shipping.conflicts);
}

/* --- the command --- */

static bool parse_number(const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0;
}

static int parse_kinds(const char *text, uint32_t *kinds, struct error *err)
{
    *kinds = 0;
    for (const char *at = text; *at;) {
        size_t length = strcspn(at, ",");
        enum fab_fault_kind kind;
        if (!fab_fault_parse(at, length, &kind))
            return error_set(err, ERR_INVALID,
                             "--fault-kinds: no fault '%.*s'; there are spike, shift, drift, stuck, "
                             "missing_step, swapped, noisy and dropout",
                             (int)length, at);
        *kinds |= 1U << kind;
        at += length + (at[length] == ',');
    }
    return *kinds ? 0 : error_set(err, ERR_INVALID, "--fault-kinds names none");
}

static int read_texts(struct simulator *simulator, struct error *err)
{
    struct fab_options *options = &simulator->options;
    if (simulator->hz_text && !parse_number(simulator->hz_text, &options->hz))
        return error_set(err, ERR_INVALID, "--hz takes a number, not '%s'", simulator->hz_text);
    if (simulator->size_text && !parse_number(simulator->size_text, &options->fault_size))
        return error_set(err, ERR_INVALID, "--fault-size takes a number, not '%s'", simulator->size_text);
    if (simulator->speed_text && (!parse_number(simulator->speed_text, &simulator->speed) ||
                                  !(simulator->speed > 0 && simulator->speed <= 1e9)))
        return error_set(err, ERR_INVALID, "--speed takes a number over 0, at most 1e9, not '%s'",
                         simulator->speed_text);
    if (simulator->start_text && clock_parse_rfc3339(simulator->start_text, &options->start_us, err))
        return error_prefix(err, ERR_INVALID, "--start");
    if (simulator->kinds_text)
        return parse_kinds(simulator->kinds_text, &options->fault_kinds, err);
    return 0;
}

/* How often chambers run, how fast time goes, and how many contexts that makes. */
static int plan_time(struct simulator *simulator, struct error *err)
{
    struct fab_options *options = &simulator->options;
    double chambers = (double)(options->tools * options->chambers_per_tool);
    if (simulator->rate > RATE_MAX)
        return error_set(err, ERR_INVALID, "--rate is at most %d contexts a second", RATE_MAX);
    if (simulator->rate && simulator->speed > 0) {
        double period_us = chambers * simulator->speed * 1e6 / (double)simulator->rate;
        options->period_us = period_us < 9e15 ? (int64_t)period_us : INT64_MAX;
    }
    int code = fab_create(options, &simulator->fab, err);
    if (code)
        return code;
    double period_s = (double)fab_period_us(simulator->fab) * 1e-6;
    if (simulator->rate && !(simulator->speed > 0))
        simulator->speed = (double)simulator->rate * period_s / chambers;
    simulator->asked_rate = chambers * simulator->speed / period_s;
    if (simulator->duration_us && !(simulator->speed > 0))
        return error_set(err, ERR_INVALID,
                         "--duration needs --rate or --speed: how much is made in that time?");
    if (simulator->duration_us && simulator->runs)
        return error_set(err, ERR_INVALID, "--duration and --runs both say how much to make: give one");
    uint64_t runs = simulator->runs ? (uint64_t)simulator->runs : RUNS_DEFAULT;
    simulator->total = UINT64_MAX;
    if (simulator->duration_us) {
        double total = simulator->asked_rate * (double)simulator->duration_us * 1e-6;
        simulator->total = total < 1 ? 1 : (uint64_t)(total + 0.5);
        runs = simulator->first < FAB_RUNS_MAX ? FAB_RUNS_MAX - (uint64_t)simulator->first : 0;
    } else if (runs <= FAB_RUNS_MAX) {
        simulator->total = runs * fab_chambers(simulator->fab);
    }
    return fab_schedule_create(simulator->fab, (uint64_t)simulator->first, runs, &simulator->schedule, err);
}

static int prepare(struct simulator *simulator, struct error *err)
{
    struct fab_options *options = &simulator->options;
    options->seed = (uint64_t)simulator->seed;
    options->tools = (size_t)simulator->tools;
    options->chambers_per_tool = (size_t)simulator->chambers_per_tool;
    options->sensors = (size_t)simulator->sensors;
    options->recipes = (size_t)simulator->recipes;
    options->maintenance_runs = (size_t)simulator->maintenance;
    int code = read_texts(simulator, err);
    if (code == 0)
        code = plan_time(simulator, err);
    if (code)
        return code;
    double points = (double)options->run_us * 1e-6 * options->hz * (double)(options->sensors + 1);
    double most = IN_FLIGHT_POINTS / points;
    simulator->in_flight_max = most < IN_FLIGHT_MIN   ? IN_FLIGHT_MIN
                               : most > IN_FLIGHT_MAX ? IN_FLIGHT_MAX
                                                      : (size_t)most;
    simulator->making_end = &simulator->making;
    return 0;
}

static int open_truth(struct simulator *simulator, struct error *err)
{
    if (simulator->truth_path == NULL)
        return 0;
    simulator->truth = fopen(simulator->truth_path, "w");
    if (simulator->truth == NULL)
        return error_set(err, ERR_IO, "cannot write %s: %s", simulator->truth_path, strerror(errno));
    fab_truth_begin(&simulator->line);
    return write_truth(simulator, err);
}

static int close_truth(struct simulator *simulator, struct error *err)
{
    if (simulator->truth && fclose(simulator->truth))
        return error_set(err, ERR_IO, "cannot write %s: %s", simulator->truth_path, strerror(errno));
    return 0;
}

static int simulate(struct simulator *simulator, const char *dir, struct error *err)
{
    int code = session_open(&simulator->session, dir, SESSION_STORE | SESSION_NATS, err);
    if (code)
        return code;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    uv_timer_init(&simulator->session.loop, &simulator->pace);
    shipping_begin(&simulator->shipping, &simulator->session, command.name, &interrupted);
    code = open_truth(simulator, err);
    bool begun = code == 0;
    if (begun)
        code = run_fab(simulator, err);
    int closed = close_truth(simulator, code ? NULL : err);
    if (begun) {
        double seconds = (double)(simulator->end_ns - simulator->start_ns) * 1e-9;
        double made_s = (double)simulator->make_ns * 1e-9;
        simulator->json ? print_json(simulator, seconds, made_s) : print_text(simulator, seconds, made_s);
    }
    uv_close((uv_handle_t *)&simulator->pace, NULL);
    shipping_end(&simulator->shipping);
    session_close(&simulator->session);
    return code ? code : closed;
}

int cli_simulate(int argc, char **argv)
{
    struct simulator simulator = {
        .chambers_per_tool = 2, .tools = 20, .sensors = 20, .recipes = 3, .seed = 1, .maintenance = 200};
    const char *dir = NULL;
    fab_options_default(&simulator.options);
    const struct command_option table[] = {
        OPTION_DIR(&dir),
        {"direct", OPTION_FLAG, &simulator.direct, NULL,
         "store and announce the contexts here, without a collector"},
        {"tools", OPTION_INTEGER, &simulator.tools, "N", "how many tools (default 20)"},
        {"chambers-per-tool", OPTION_INTEGER, &simulator.chambers_per_tool, "M", "1 to 4 (default 2)"},
        {"sensors", OPTION_INTEGER, &simulator.sensors, "S", "of a tool (default 20)"},
        {"hz", OPTION_TEXT, &simulator.hz_text, "F", "samples a second (default 1)"},
        {"run-time", OPTION_DURATION, &simulator.options.run_us, "TIME",
         "length of a run, within a fifth (default 5min)"},
        {"recipes", OPTION_INTEGER, &simulator.recipes, "R", "how many recipes (default 3)"},
        {"runs", OPTION_INTEGER, &simulator.runs, "N", "runs of each chamber (default 10)"},
        {"first", OPTION_INTEGER, &simulator.first, "K",
         "begin with each chamber's run K: to go on later (default 0)"},
        {"duration", OPTION_DURATION, &simulator.duration_us, "TIME",
         "instead of --runs: as much as belongs into this time"},
        {"rate", OPTION_INTEGER, &simulator.rate, "N",
         "contexts a second, 1 to 5000 (default: as fast as it goes)"},
        {"speed", OPTION_TEXT, &simulator.speed_text, "X", "the fab's time goes X times as fast as ours"},
        {"start", OPTION_TEXT, &simulator.start_text, "TIME",
         "when the fab opens (default 2026-01-05T00:00:00Z)"},
        {"faults", OPTION_FRACTION, &simulator.options.fault_rate, "2%",
         "part of the runs that have a fault (default 0)"},
        {"fault-kinds", OPTION_TEXT, &simulator.kinds_text, "A,B",
         "only these: spike, shift, drift, stuck, ..."},
        {"fault-size", OPTION_TEXT, &simulator.size_text, "Z",
         "in deviations of the sensor's noise (default 10)"},
        {"maintenance", OPTION_INTEGER, &simulator.maintenance, "N",
         "runs between two maintenances (default 200)"},
        {"seed", OPTION_INTEGER, &simulator.seed, "S", "another fab (default 1)"},
        {"truth", OPTION_TEXT, &simulator.truth_path, "FILE",
         "write what each run was, for `evaluate --labels`"},
        {"quiet", OPTION_FLAG, &simulator.quiet, NULL, "no progress"},
        OPTION_JSON(&simulator.json),
    };
    enum command_next next = command_parse(&command, table, OPTION_COUNT(table), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    if (!simulator.direct) {
        fprintf(
            stderr,
            "chamberlain simulate: the way through a collector is not there yet (it comes with `collect`); "
            "give --direct to store and announce the contexts from here\n");
        return EXIT_USAGE;
    }
    struct error err;
    strbuf_init(&simulator.line);
    int code = prepare(&simulator, &err);
    bool usage = code == ERR_INVALID;
    if (code == 0)
        code = simulate(&simulator, dir, &err);
    fab_schedule_free(simulator.schedule);
    fab_free(simulator.fab);
    strbuf_free(&simulator.line);
    if (code)
        command_failed(&command, &err);
    if (usage)
        return EXIT_USAGE;
    return code || simulator.shipping.conflicts || interrupted ? EXIT_FAILED : 0;
}
