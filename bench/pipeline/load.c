/* Load for the pipeline benchmark: makes contexts of a stated size, stores them, and announces them at a
 * stated rate.
 *
 *     load --dir DIR --contexts 2000 --chambers 40 --sensors 100 --samples 1200 --rate 100
 *     load --charts FILE --sensors 100        writes a chart file for such contexts: mean and deviation of
 * each sensor
 *
 * The traces are recipe-like: five steps with a set point each, noise on top; deterministic from the
 * context's number. */
#include "cli/command.h"
#include "cli/session.h"

#include "base/clock.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "chart/context.h"
#include "chart/trace.h"
#include "collector/pack.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = 5, STORE_BATCH = 32, IN_FLIGHT_MAX = 1000 };

static const struct command command = {
    .name = "bench load",
    .operands = "",
    .summary = "Stores and announces made-up contexts, or writes a chart file for them.",
    .examples = "  load --dir fab --contexts 2000 --chambers 40 --sensors 100 --samples 1200 --rate 100",
};

struct load {
    struct session session;
    int64_t contexts, chambers, sensors, samples, rate, first;
    bool store_only;
    size_t waiting;
    size_t failed;
    struct error error;
};

/* A cheap generator of our own (splitmix64), so that a run can be repeated anywhere. */
static double noise(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53 - 0.5;
}

static int write_charts(const char *path, int64_t sensors)
{
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return 1;
    fprintf(file, "defaults:\n  recipe: BENCH\n  severity: warning\n"
                  "  limits: { method: shewhart, sigma: 6, history: 100, min_history: 20 }\n"
                  "  rules: [ western_electric_1, nelson_2 ]\ncharts:\n");
    for (int64_t i = 0; i < sensors; i++)
        fprintf(file,
                "  - { name: s%03lld.mean, equation: \"mean(S%03lld, step 2..4)\" }\n"
                "  - { name: s%03lld.std, equation: \"std(S%03lld, step 3)\" }\n",
                (long long)i, (long long)i, (long long)i, (long long)i);
    return fclose(file) ? 1 : 0;
}

static void fill_trace(const struct load *load, int64_t number, int64_t start_us, int64_t *times,
                       double *values)
{
    size_t samples = (size_t)load->samples;
    uint64_t state = (uint64_t)number * 7919;
    for (size_t t = 0; t < samples; t++)
        times[t] = start_us + (int64_t)t * 1000000;
    for (int64_t s = 0; s < load->sensors; s++)
        for (size_t t = 0; t < samples; t++) {
            size_t step = t * STEPS / samples;
            double level = 100.0 * (double)(s % 17 + 1) + 25.0 * (double)step;
            values[(size_t)s * samples + t] = round((level + noise(&state)) * 10) / 10;
        }
    for (size_t t = 0; t < samples; t++)
        values[(size_t)load->sensors * samples + t] = (double)(t * STEPS / samples + 1);
}

static int pack(const struct load *load, int64_t number, const struct context *context, struct arena *arena,
                struct tchart_blobs *blobs, struct error *err)
{
    size_t samples = (size_t)load->samples, columns = (size_t)load->sensors + 1;
    int64_t *times = arena_calloc(arena, samples, sizeof *times);
    double *values = arena_calloc(arena, samples * columns, sizeof *values);
    struct tchart_column *column = arena_calloc(arena, columns, sizeof *column);
    if (times == NULL || values == NULL || column == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory");
    fill_trace(load, number, context->start_us, times, values);
    for (size_t c = 0; c < columns; c++)
        column[c] = (struct tchart_column){.name = c + 1 < columns ? arena_printf(arena, "S%03zu", c)
                                                                   : TRACE_STEP_NAME,
                                           .count = samples,
                                           .time_us = times,
                                           .value = values + c * samples};
    return tchart_pack(column, columns, 0, arena, blobs, err);
}

static struct context make_context(const struct load *load, int64_t number, struct arena *arena)
{
    int64_t chamber = number % load->chambers;
    int64_t start_us = INT64_C(1700000000000000) + number * 1000000;
    return (struct context){.id = arena_printf(arena, "bench-%07lld", (long long)number),
                            .tool = arena_printf(arena, "T%04lld", (long long)(chamber / 2)),
                            .chamber = arena_printf(arena, "PM%lld", (long long)(chamber % 2)),
                            .recipe = "BENCH",
                            .lot = "bench",
                            .wafer = "1",
                            .start_us = start_us,
                            .end_us = start_us + load->samples * 1000000,
                            .svid_count = load->sensors + 1,
                            .point_count = (load->sensors + 1) * load->samples,
                            .chunk_count = 1,
                            .extra_json = "{}"};
}

static int store_one(struct load *load, int64_t number, struct arena *arena, struct error *err)
{
    struct context context = make_context(load, number, arena);
    struct tchart_blobs blobs;
    int code = pack(load, number, &context, arena, &blobs, err);
    if (code)
        return code;
    context.chunk_count = (int64_t)blobs.count;
    struct strbuf json;
    strbuf_init(&json);
    context_format(&context, &json);
    struct store_chunk *chunks = arena_calloc(arena, blobs.count, sizeof *chunks);
    for (size_t i = 0; i < blobs.count; i++)
        chunks[i] = (struct store_chunk){(int32_t)i, blobs.blobs[i].data, blobs.blobs[i].length};
    struct store_completion completion = {.key = {context.tool, context.chamber, context.id},
                                          .recipe = context.recipe,
                                          .lot = context.lot,
                                          .end_us = context.end_us,
                                          .chunk_count = (int32_t)blobs.count,
                                          .announcement = json.text};
    store_complete(load->session.store, &completion, chunks, blobs.count, store_wait_done,
                   load->session.wait);
    struct store_reply *reply = session_reply(&load->session);
    code = reply->code;
    if (code)
        *err = reply->error;
    store_reply_free(reply);
    strbuf_free(&json);
    return code;
}

static void on_announced(void *arg, int code, int api_error, const struct error *error,
                         const json_t *response)
{
    (void)api_error;
    (void)response;
    struct load *load = arg;
    load->waiting--;
    if (code) {
        load->failed++;
        load->error = *error;
    }
}

static void announce_one(struct load *load, int64_t number, struct arena *arena)
{
    char subject[NAMES_BYTES];
    struct context context = make_context(load, number, arena);
    struct strbuf json;
    strbuf_init(&json);
    context_format(&context, &json);
    names_completed(load->session.cell, context.tool, context.chamber, subject, NULL);
    struct bus_header header = {"Nats-Msg-Id", context.id};
    load->waiting++;
    jetstream_publish(load->session.bus, subject, &header, 1, json.text, json.length, on_announced, load);
    strbuf_free(&json);
}

/* Announces number i at i/rate seconds after the start: late ones are not spread out again. */
static void announce_all(struct load *load, struct arena *arena)
{
    int64_t start_ns = clock_mono_ns();
    bool never = false;
    for (int64_t i = 0; i < load->contexts; i++) {
        arena_reset(arena);
        announce_one(load, load->first + i, arena);
        uv_run(&load->session.loop, UV_RUN_NOWAIT);
        while (load->waiting >= IN_FLIGHT_MAX)
            uv_run(&load->session.loop, UV_RUN_ONCE);
        int64_t due_ns = load->rate ? start_ns + (i + 1) * INT64_C(1000000000) / load->rate : 0;
        int64_t early_ms = (due_ns - clock_mono_ns()) / 1000000;
        if (early_ms > 0)
            session_run_until(&load->session, &never, early_ms);
    }
    while (load->waiting > 0)
        uv_run(&load->session.loop, UV_RUN_ONCE);
    double seconds = (double)(clock_mono_ns() - start_ns) / 1e9;
    printf("announced %lld contexts in %.2f s (%.0f a second)\n", (long long)load->contexts, seconds,
           (double)load->contexts / seconds);
}

int main(int argc, char **argv)
{
    const char *dir = NULL, *charts = NULL;
    struct load load = {.contexts = 1000, .chambers = 20, .sensors = 100, .samples = 1200};
    const struct command_option table[] = {
        {"dir", OPTION_TEXT, &dir, "DIR", "the cluster's directory"},
        {"charts", OPTION_TEXT, &charts, "FILE", "write a chart file instead"},
        {"contexts", OPTION_INTEGER, &load.contexts, "N", "how many (default 1000)"},
        {"first", OPTION_INTEGER, &load.first, "N", "number of the first (default 0)"},
        {"chambers", OPTION_INTEGER, &load.chambers, "N", "over how many chambers (default 20)"},
        {"sensors", OPTION_INTEGER, &load.sensors, "N", "in each context (default 100)"},
        {"samples", OPTION_INTEGER, &load.samples, "N", "of each sensor (default 1200)"},
        {"rate", OPTION_INTEGER, &load.rate, "N", "announcements a second (default 0: as fast as it goes)"},
        {"store-only", OPTION_FLAG, &load.store_only, NULL, "announce nothing: another will"},
    };
    enum command_next next = command_parse(&command, table, sizeof table / sizeof *table, argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    if (charts)
        return write_charts(charts, load.sensors);
    struct error err;
    int needs = load.store_only ? SESSION_STORE : SESSION_STORE | SESSION_NATS;
    int code = session_open(&load.session, dir, needs, &err);
    if (code)
        return command_failed(&command, &err);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    for (int64_t i = 0; code == 0 && i < load.contexts; i++) {
        arena_reset(&arena);
        code = store_one(&load, load.first + i, &arena, &err);
    }
    if (code == 0 && !load.store_only)
        announce_all(&load, &arena);
    if (code == 0 && load.failed)
        code = error_prefix(&load.error, ERR_UNAVAILABLE, "%zu announcements failed", load.failed),
        err = load.error;
    arena_free(&arena);
    session_close(&load.session);
    return code ? command_failed(&command, &err) : 0;
}
