/* `chamberlain simulate`: a fab that makes load, and faults whose truth is known. Its equipment says what its
 * runs do, for a collector (equipment.h). Or, with --direct, runs are made whole by a pool of threads, stored
 * in the order in which they end, and announced (shipment.h). A bounded number is on its way at a time. */
#include "cli/command.h"
#include "cli/equipment.h"
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
    BATCH_US = 10 * 1000 * 1000,
    RUNS_DEFAULT = 10
};

static const struct command command = {
    .name = "simulate",
    .operands = "",
    .summary = "Simulates a fab: recipes run in the chambers of many tools, wafer after wafer. Its equipment "
               "publishes\n"
               "their samples for a collector; with --direct each run is stored and announced from here. A "
               "part of the\n"
               "runs can have a fault; --truth says afterwards which (docs/simulate.md). The same options "
               "make the same\n"
               "traces, bit by bit.",
    .examples =
        "  chamberlain simulate --dir fab --tools 20 --runs 50 --speed 1000 --truth normal.csv\n"
        "  chamberlain simulate --dir fab --direct --tools 20 --first 50 --runs 50 --faults 2% --truth "
        "later.csv\n"
        "  chamberlain simulate --dir fab --direct --tools 2000 --rate 20 --duration 5min\n"
        "  chamberlain simulate --dir fab --direct --sensors 10 --run-time 100s --rate 3000 --duration 1min",
};

struct run;

struct simulator {
    struct session session;
    struct shipping shipping;   /* --direct */
    struct equipment equipment; /* otherwise */
    struct fab_options options;
    struct fab *fab;
    struct fab_schedule *schedule;

    /* what was asked for */
    const char *hz_text, *speed_text, *start_text, *kinds_text, *size_text, *form_text, *truth_path;
    int64_t tools, chambers_per_tool, sensors, recipes, runs, first, rate, seed, maintenance;
    int64_t duration_us; /* of the wall clock; 0: by runs */
    int64_t batch_us;
    enum equipment_form form;
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
    uint64_t started, done, points, bytes;
    uint64_t faults[FAB_FAULT_KINDS];
    int64_t make_ns; /* of the threads, in sum */
    int64_t first_end_us, last_end_us;
    int64_t pace_us; /* the fab's time at start_ns */
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

/* What the next run of the schedule is; it counts as started. */
static int plan_run(struct simulator *simulator, size_t chamber, uint64_t number, int64_t end_us,
                    struct fab_run *plan, struct error *err)
{
    if (simulator->started++ == 0)
        simulator->first_end_us = end_us;
    simulator->last_end_us = end_us;
    fab_describe_run(simulator->fab, chamber, number, plan);
    if (simulator->truth)
        fab_truth_add(simulator->fab, plan, &simulator->line);
    if (plan->fault.kind != FAB_NO_FAULT)
        simulator->faults[plan->fault.kind]++;
    return write_truth(simulator, err);
}

static int ship_run(struct simulator *simulator, const struct fab_run *plan, struct error *err)
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
    run->plan = *plan;
    run->work.data = run;
    *simulator->making_end = run;
    simulator->making_end = &run->next;
    uv_queue_work(&simulator->session.loop, &run->work, make, on_made);
    return 0;
}

static void on_pace(uv_timer_t *timer)
{
    (void)timer; /* wakes the loop */
}

/* Waits for a moment in the fab's time. One that is past is not waited for. */
static void wait_for(struct simulator *simulator, int64_t moment_us)
{
    if (!(simulator->speed > 0))
        return;
    double fab_us = (double)(moment_us - simulator->pace_us);
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

static bool next_run(struct simulator *simulator, size_t *chamber, uint64_t *number, int64_t *end_us)
{
    return !interrupted && simulator->started < simulator->total &&
           fab_schedule_next(simulator->schedule, chamber, number, end_us);
}

/* Each run is shipped at its end. */
static int run_direct(struct simulator *simulator, struct progress *progress, struct error *err)
{
    size_t chamber;
    uint64_t number;
    int64_t end_us;
    int code = 0;
    while (code == 0 && next_run(simulator, &chamber, &number, &end_us)) {
        struct fab_run plan;
        if (simulator->started == 0)
            simulator->pace_us = end_us;
        wait_for(simulator, end_us);
        code = shipping_wait_below(&simulator->shipping, simulator->in_flight_max, err);
        if (code == 0)
            code = plan_run(simulator, chamber, number, end_us, &plan, err);
        if (code == 0)
            code = ship_run(simulator, &plan, err);
        uv_run(&simulator->session.loop, UV_RUN_NOWAIT);
        if (!simulator->quiet)
            progress_update(progress, (int64_t)simulator->shipping.announced);
    }
    int shipped = shipping_drain(&simulator->shipping, code ? NULL : err);
    simulator->done = simulator->shipping.announced;
    simulator->points = simulator->shipping.points;
    simulator->bytes = simulator->shipping.bytes;
    return code ? code : shipped;
}

static int begin_run(struct simulator *simulator, size_t chamber, uint64_t number, int64_t end_us,
                     struct error *err)
{
    struct fab_run plan;
    int64_t start_ns = thread_cpu_ns();
    int code = plan_run(simulator, chamber, number, end_us, &plan, err);
    if (code == 0)
        code = equipment_start(&simulator->equipment, &plan, err);
    simulator->make_ns += thread_cpu_ns() - start_ns;
    return code;
}

/* The equipment's messages in the order of the fab's time. The schedule gives runs by their ends: one that is
 * not given yet begins no earlier than the longest run before the end of the next. After Ctrl-C the runs that
 * have begun are said to the end, without waiting. */
static int run_equipment(struct simulator *simulator, struct progress *progress, struct error *err)
{
    struct equipment *equipment = &simulator->equipment;
    int64_t longest_us = fab_shortest_period_us(simulator->fab), end_us = 0, due_us = 0;
    size_t chamber;
    uint64_t number;
    bool more = next_run(simulator, &chamber, &number, &end_us), paced = false;
    int code = 0;
    while (code == 0) {
        bool waits = equipment_next(equipment, &due_us);
        if (more && !interrupted && (!waits || end_us - longest_us <= due_us)) {
            code = begin_run(simulator, chamber, number, end_us, err);
            more = code == 0 && next_run(simulator, &chamber, &number, &end_us);
            continue;
        }
        if (!waits)
            break;
        if (!paced)
            simulator->pace_us = due_us;
        paced = true;
        wait_for(simulator, due_us);
        code = equipment_send(equipment, err);
        uv_run(&simulator->session.loop, UV_RUN_NOWAIT);
        if (!simulator->quiet)
            progress_update(progress, (int64_t)equipment->contexts);
    }
    int said = equipment_drain(equipment, code ? NULL : err);
    simulator->done = equipment->contexts;
    simulator->points = equipment->points;
    simulator->bytes = equipment->bytes;
    return code ? code : said;
}

static int run_fab(struct simulator *simulator, struct error *err)
{
    struct progress progress;
    progress_begin(&progress, simulator->direct ? "contexts announced" : "runs published",
                   (int64_t)simulator->total);
    simulator->start_ns = clock_mono_ns();
    int code =
        simulator->direct ? run_direct(simulator, &progress, err) : run_equipment(simulator, &progress, err);
    simulator->end_ns = clock_mono_ns();
    progress_end(&progress);
    return code;
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
        "{\"%s\":%llu,\"messages\":%llu,\"existed\":%llu,\"conflicts\":%llu,\"chambers\":%zu,\"points\":%llu,"
        "\"bytes\":%llu,\"faults\":{",
        simulator->direct ? "announced" : "published", (unsigned long long)simulator->done,
        (unsigned long long)simulator->equipment.messages, (unsigned long long)simulator->shipping.existed,
        (unsigned long long)simulator->shipping.conflicts, fab_chambers(simulator->fab),
        (unsigned long long)simulator->points, (unsigned long long)simulator->bytes);
    for (int kind = 0; kind < FAB_FAULT_KINDS; kind++)
        strbuf_printf(&json, "%s\"%s\":%llu", kind ? "," : "", fab_fault_name((enum fab_fault_kind)kind),
                      (unsigned long long)simulator->faults[kind]);
    strbuf_add(&json, "},\"seconds\":");
    strbuf_add_json_double(&json, seconds);
    strbuf_add(&json, ",\"rate\":");
    strbuf_add_json_double(&json, (double)simulator->done / seconds);
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
    printf("%llu contexts of %zu chambers %s in %.1f s (%.0f a second", (unsigned long long)simulator->done,
           fab_chambers(simulator->fab), simulator->direct ? "announced" : "published", seconds,
           (double)simulator->done / seconds);
    if (simulator->speed > 0)
        printf("; asked for %.3g, at most %.1f s behind", simulator->asked_rate,
               (double)simulator->behind_max_ns * 1e-9);
    printf(")\nruns that ended %s to %s; %llu samples in %.1f MB, made in %.1f s of processor time\n",
           clock_format_rfc3339(simulator->first_end_us, from),
           clock_format_rfc3339(simulator->last_end_us, to), (unsigned long long)simulator->points,
           (double)simulator->bytes * 1e-6, made_s);
    if (!simulator->direct)
        printf("in %llu messages; a collector stores and announces what is complete\n",
               (unsigned long long)simulator->equipment.messages);
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
    const char *form = simulator->form_text ? simulator->form_text : "binary";
    if (strcmp(form, "binary") != 0 && strcmp(form, "json") != 0)
        return error_set(err, ERR_INVALID, "--form is json or binary, not '%s'", form);
    simulator->form = *form == 'j' ? EQUIPMENT_JSON : EQUIPMENT_BINARY;
    if (simulator->direct && (simulator->form_text || simulator->batch_us))
        return error_set(err, ERR_INVALID,
                         "--form and --batch say how equipment tells a collector: not with --direct");
    if (simulator->batch_us == 0)
        simulator->batch_us = BATCH_US;
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
    int needs = simulator->direct ? SESSION_STORE | SESSION_NATS : SESSION_NATS;
    int code = session_open(&simulator->session, dir, needs, err);
    if (code)
        return code;
    struct sigaction action = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    uv_timer_init(&simulator->session.loop, &simulator->pace);
    shipping_begin(&simulator->shipping, &simulator->session, command.name, &interrupted);
    equipment_begin(&simulator->equipment, &simulator->session, simulator->fab, command.name, &interrupted,
                    simulator->form, simulator->batch_us);
    code = open_truth(simulator, err);
    bool begun = code == 0;
    if (begun && !simulator->direct)
        equipment_register(&simulator->equipment);
    if (begun)
        code = run_fab(simulator, err);
    int closed = close_truth(simulator, code ? NULL : err);
    if (begun) {
        double seconds = (double)(simulator->end_ns - simulator->start_ns) * 1e-9;
        double made_s = (double)simulator->make_ns * 1e-9;
        simulator->json ? print_json(simulator, seconds, made_s) : print_text(simulator, seconds, made_s);
    }
    uv_close((uv_handle_t *)&simulator->pace, NULL);
    equipment_end(&simulator->equipment);
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
        {"form", OPTION_TEXT, &simulator.form_text, "FORM",
         "of the samples for the collector: binary or json (default binary)"},
        {"batch", OPTION_DURATION, &simulator.batch_us, "TIME",
         "of a run that one message has, in the fab's time (default 10s)"},
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
