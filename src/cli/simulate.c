/* `chamberlain simulate`: a fab that makes load, and faults whose truth is known. Runs are made by a pool of
 * threads, stored in the order in which they end, and announced; a bounded number is on its way at a time. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/terminal.h"

#include "base/clock.h"
#include "bus/jetstream.h"
#include "bus/kv.h"
#include "bus/names.h"
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
    RETRY_MS = 200,
    PATIENCE_MS = 120 * 1000, /* for a store or NATS that is away */
    PACE_MS = 200,            /* at most, between two looks at the clock (and at Ctrl-C) */
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

struct shipment;

struct simulator {
    struct session session;
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
    bool *registered; /* by chamber */

    /* on their way */
    size_t in_flight, in_flight_max;
    struct shipment *making, **making_end; /* not yet given to the store, in the order of their ends */
    struct shipment *idle;
    uv_timer_t pace;
    size_t shipments_open; /* that have a timer to close */

    /* what came of it */
    uint64_t started, announced, existed, conflicts;
    uint64_t faults[FAB_FAULT_KINDS];
    uint64_t points, bytes;
    int64_t make_ns; /* of the threads, in sum */
    int64_t first_end_us, last_end_us;
    int64_t start_ns, end_ns, behind_max_ns;
    bool told_waiting;
    int failed;
    struct error error;
};

/* One run on its way into the store and onto the stream. */
struct shipment {
    struct simulator *simulator;
    struct shipment *next; /* in `making` or `idle` */
    size_t chamber;
    uint64_t number;
    bool made;
    uv_work_t work;
    uv_timer_t timer;
    int64_t give_up_ns, make_ns;

    struct arena arena;
    struct fab_run run;
    struct store_completion completion;
    struct store_chunk *chunks;
    size_t chunk_count, points, bytes;
    int code;
    struct error error;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void ship_to_store(struct shipment *shipment);
static void ship_to_stream(struct shipment *shipment);

/* --- making a run, on a thread of the pool --- */

static int pack(struct shipment *shipment, struct error *err)
{
    const struct fab *fab = shipment->simulator->fab;
    struct arena *arena = &shipment->arena;
    struct fab_trace trace;
    struct tchart_blobs blobs;
    struct context context;
    struct strbuf json;
    int code = fab_make_trace(fab, &shipment->run, arena, &trace, err);
    if (code == 0)
        code = tchart_pack(trace.columns, trace.column_count, 0, arena, &blobs, err);
    if (code)
        return code;
    fab_context(fab, &shipment->run, &context);
    context.chunk_count = (int64_t)blobs.count;
    strbuf_init(&json);
    context_format(&context, &json);
    const char *announcement = json.failed ? NULL : arena_strdup(arena, json.text);
    strbuf_free(&json);
    shipment->chunks = arena_calloc(arena, blobs.count, sizeof *shipment->chunks);
    if (announcement == NULL || shipment->chunks == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory");
    for (size_t i = 0; i < blobs.count; i++)
        shipment->chunks[i] = (struct store_chunk){
            .index = (int32_t)i, .bytes = blobs.blobs[i].data, .length = blobs.blobs[i].length};
    shipment->chunk_count = blobs.count;
    shipment->points = (size_t)context.point_count;
    shipment->bytes = blobs.bytes;
    shipment->completion = (struct store_completion){.key = {context.tool, context.chamber, context.id},
                                                     .recipe = context.recipe,
                                                     .lot = context.lot,
                                                     .end_us = context.end_us,
                                                     .chunk_count = (int32_t)blobs.count,
                                                     .announcement = announcement};
    return 0;
}

static int64_t thread_cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void make(uv_work_t *work)
{
    struct shipment *shipment = work->data;
    int64_t start_ns = thread_cpu_ns();
    shipment->code = pack(shipment, &shipment->error);
    shipment->make_ns = thread_cpu_ns() - start_ns;
}

/* --- shipments: used again and again, with their memory --- */

static struct shipment *shipment_take(struct simulator *simulator)
{
    struct shipment *shipment = simulator->idle;
    if (shipment) {
        simulator->idle = shipment->next;
        arena_reset(&shipment->arena);
        return shipment;
    }
    shipment = calloc(1, sizeof *shipment);
    if (shipment == NULL)
        return NULL;
    shipment->simulator = simulator;
    shipment->work.data = shipment;
    arena_init(&shipment->arena, 0);
    uv_timer_init(&simulator->session.loop, &shipment->timer);
    shipment->timer.data = shipment;
    simulator->shipments_open++;
    return shipment;
}

static void shipment_end(struct shipment *shipment)
{
    struct simulator *simulator = shipment->simulator;
    simulator->in_flight--;
    shipment->next = simulator->idle;
    simulator->idle = shipment;
}

static void on_shipment_closed(uv_handle_t *handle)
{
    struct shipment *shipment = handle->data;
    shipment->simulator->shipments_open--;
    arena_free(&shipment->arena);
    free(shipment);
}

static void close_shipments(struct simulator *simulator)
{
    for (struct shipment *shipment = simulator->idle, *next; shipment; shipment = next) {
        next = shipment->next;
        uv_close((uv_handle_t *)&shipment->timer, on_shipment_closed);
    }
    simulator->idle = NULL;
    while (simulator->shipments_open > 0)
        uv_run(&simulator->session.loop, UV_RUN_ONCE);
}

static void shipment_failed(struct shipment *shipment, int code, const struct error *error)
{
    struct simulator *simulator = shipment->simulator;
    if (simulator->failed == 0) {
        simulator->failed = code;
        simulator->error = *error;
        error_prefix(&simulator->error, code, "context %s", shipment->run.id);
    }
    shipment_end(shipment);
}

static void on_retry_store(uv_timer_t *timer)
{
    ship_to_store(timer->data);
}

static void on_retry_stream(uv_timer_t *timer)
{
    ship_to_stream(timer->data);
}

static void retry_or_fail(struct shipment *shipment, uv_timer_cb again, int code, const struct error *error)
{
    struct simulator *simulator = shipment->simulator;
    if (!error_is_transient(code) || interrupted || clock_mono_ns() >= shipment->give_up_ns) {
        shipment_failed(shipment, code, error);
        return;
    }
    if (!simulator->told_waiting)
        fprintf(stderr, "chamberlain simulate: %s; trying again for %d s\n", error->text, PATIENCE_MS / 1000);
    simulator->told_waiting = true;
    uv_timer_start(&shipment->timer, again, RETRY_MS, 0);
}

/* --- the roster: so that a new chamber is owned before its first announcement comes --- */

static void on_registered(void *arg, int code, const struct error *error, uint64_t revision)
{
    /* A chamber that is not registered is found by its messages, a moment later. */
    (void)arg;
    (void)code;
    (void)error;
    (void)revision;
}

static void register_chamber(struct simulator *simulator, const struct shipment *shipment)
{
    char bucket[NAMES_BYTES], key[NAMES_BYTES], value[64];
    const struct fab_run *run = &shipment->run;
    if (simulator->registered[run->chamber] ||
        names_for_chamber("", "x", run->tool, run->chamber_name, key, NULL))
        return;
    simulator->registered[run->chamber] = true;
    int length = snprintf(value, sizeof value, "{\"weight\":%zu}", shipment->points);
    kv_create(simulator->session.bus, names_stream(simulator->session.cell, "chambers", bucket),
              key + strlen("x."), value, (size_t)length, on_registered, NULL);
}

/* --- shipping --- */

static void on_announced(void *arg, int code, int api_error, const struct error *error,
                         const json_t *response)
{
    (void)api_error;
    (void)response;
    struct shipment *shipment = arg;
    if (code == ERR_NOT_FOUND)
        code = ERR_UNAVAILABLE; /* no stream yet: a defender makes it */
    if (code) {
        struct error copy = *error;
        error_prefix(&copy, code, "stored, but not announced");
        retry_or_fail(shipment, on_retry_stream, code, &copy);
        return;
    }
    shipment->simulator->announced++;
    shipment->simulator->points += shipment->points;
    shipment->simulator->bytes += shipment->bytes;
    shipment_end(shipment);
}

static void ship_to_stream(struct shipment *shipment)
{
    struct session *session = &shipment->simulator->session;
    const struct store_completion *completion = &shipment->completion;
    char subject[NAMES_BYTES];
    struct error err;
    int code = names_completed(session->cell, completion->key.tool, completion->key.chamber, subject, &err);
    if (code) {
        shipment_failed(shipment, code, &err);
        return;
    }
    struct bus_header header = {"Nats-Msg-Id", completion->key.context_id};
    jetstream_publish(session->bus, subject, &header, 1, completion->announcement,
                      strlen(completion->announcement), on_announced, shipment);
}

static void run_stored(void *target, void *argument)
{
    struct shipment *shipment = target;
    struct simulator *simulator = shipment->simulator;
    struct store_reply *reply = argument;
    struct error err = reply->error;
    int code = reply->code;
    if (code == 0 && reply->existed)
        simulator->existed++;
    store_reply_free(reply);
    if (code == ERR_CONFLICT) { /* another trace under this name: the stored one stands */
        if (simulator->conflicts++ == 0)
            fprintf(stderr, "chamberlain simulate: %s\n", err.text);
        shipment_end(shipment);
    } else if (code) {
        retry_or_fail(shipment, on_retry_store, code, &err);
    } else {
        ship_to_stream(shipment);
    }
}

static void on_stored(void *arg, struct store_reply *reply)
{
    struct shipment *shipment = arg;
    mailbox_post(shipment->simulator->session.mailbox, run_stored, shipment, reply);
}

static void ship_to_store(struct shipment *shipment)
{
    store_complete(shipment->simulator->session.store, &shipment->completion, shipment->chunks,
                   shipment->chunk_count, on_stored, shipment);
}

/* The pool ends runs in any order; they go on in that in which they were begun. */
static void on_made(uv_work_t *work, int status)
{
    (void)status; /* work is never cancelled */
    struct simulator *simulator = ((struct shipment *)work->data)->simulator;
    ((struct shipment *)work->data)->made = true;
    while (simulator->making && simulator->making->made) {
        struct shipment *shipment = simulator->making;
        simulator->making = shipment->next;
        if (simulator->making == NULL)
            simulator->making_end = &simulator->making;
        simulator->make_ns += shipment->make_ns;
        if (shipment->code) {
            shipment_failed(shipment, shipment->code, &shipment->error);
            continue;
        }
        register_chamber(simulator, shipment);
        ship_to_store(shipment);
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
    struct shipment *shipment = shipment_take(simulator);
    if (shipment == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a run");
    simulator->in_flight++;
    fab_describe_run(simulator->fab, chamber, number, &shipment->run);
    if (simulator->truth)
        fab_truth_add(simulator->fab, &shipment->run, &simulator->line);
    if (shipment->run.fault.kind != FAB_NO_FAULT)
        simulator->faults[shipment->run.fault.kind]++;
    int code = write_truth(simulator, err);
    if (code) {
        shipment_end(shipment);
        return code;
    }
    shipment->give_up_ns = clock_mono_ns() + PATIENCE_MS * INT64_C(1000000);
    shipment->made = false;
    shipment->next = NULL;
    *simulator->making_end = shipment;
    simulator->making_end = &shipment->next;
    simulator->started++;
    uv_queue_work(&simulator->session.loop, &shipment->work, make, on_made);
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
    while (code == 0 && !interrupted && simulator->failed == 0 && simulator->started < simulator->total &&
           fab_schedule_next(simulator->schedule, &chamber, &number, &end_us)) {
        if (simulator->started == 0)
            simulator->first_end_us = end_us;
        simulator->last_end_us = end_us;
        wait_for(simulator, end_us);
        while (simulator->in_flight >= simulator->in_flight_max)
            uv_run(&simulator->session.loop, UV_RUN_ONCE);
        code = start_run(simulator, chamber, number, err);
        uv_run(&simulator->session.loop, UV_RUN_NOWAIT);
        if (!simulator->quiet)
            progress_update(&progress, (int64_t)simulator->announced);
    }
    while (simulator->in_flight > 0)
        uv_run(&simulator->session.loop, UV_RUN_ONCE);
    simulator->end_ns = clock_mono_ns();
    progress_end(&progress);
    if (code == 0 && simulator->failed) {
        code = simulator->failed;
        *err = simulator->error;
    }
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
    strbuf_printf(&json,
                  "{\"announced\":%llu,\"existed\":%llu,\"conflicts\":%llu,\"chambers\":%zu,\"points\":%llu,"
                  "\"bytes\":%llu,\"faults\":{",
                  (unsigned long long)simulator->announced, (unsigned long long)simulator->existed,
                  (unsigned long long)simulator->conflicts, fab_chambers(simulator->fab),
                  (unsigned long long)simulator->points, (unsigned long long)simulator->bytes);
    for (int kind = 0; kind < FAB_FAULT_KINDS; kind++)
        strbuf_printf(&json, "%s\"%s\":%llu", kind ? "," : "", fab_fault_name((enum fab_fault_kind)kind),
                      (unsigned long long)simulator->faults[kind]);
    strbuf_add(&json, "},\"seconds\":");
    strbuf_add_json_double(&json, seconds);
    strbuf_add(&json, ",\"rate\":");
    strbuf_add_json_double(&json, (double)simulator->announced / seconds);
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
           (unsigned long long)simulator->announced, fab_chambers(simulator->fab), seconds,
           (double)simulator->announced / seconds);
    if (simulator->speed > 0)
        printf("; asked for %.3g, at most %.1f s behind", simulator->asked_rate,
               (double)simulator->behind_max_ns * 1e-9);
    printf(")\nruns that ended %s to %s; %llu samples in %.1f MB, made in %.1f s of processor time\n",
           clock_format_rfc3339(simulator->first_end_us, from),
           clock_format_rfc3339(simulator->last_end_us, to), (unsigned long long)simulator->points,
           (double)simulator->bytes * 1e-6, made_s);
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
    if (simulator->existed)
        printf("%llu of them were stored before\n", (unsigned long long)simulator->existed);
    if (simulator->conflicts)
        printf("%llu refused: another trace is stored under their names; another --seed has other names\n",
               (unsigned long long)simulator->conflicts);
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
    simulator->registered = calloc(fab_chambers(simulator->fab), sizeof *simulator->registered);
    if (simulator->registered == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu chambers", fab_chambers(simulator->fab));
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
    close_shipments(simulator);
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
    free(simulator.registered);
    strbuf_free(&simulator.line);
    if (code)
        command_failed(&command, &err);
    if (usage)
        return EXIT_USAGE;
    return code || simulator.conflicts || interrupted ? EXIT_FAILED : 0;
}
