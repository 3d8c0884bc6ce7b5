#include "cli/equipment.h"

#include "base/clock.h"
#include "bus/jetstream.h"
#include "bus/kv.h"
#include "bus/names.h"
#include "collector/batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One message of a run. */
struct equipment_message {
    struct equipment_run *run;
    struct equipment_message *next; /* in `again` */
    enum names_sample_kind kind;
    int64_t due_us;     /* in the fab's time */
    int64_t give_up_ns; /* when it was first sent, and the patience */
    const char *bytes;
    size_t length;
};

struct equipment_run {
    struct arena arena;
    struct equipment *equipment;
    uint64_t order; /* in which it was begun */
    struct fab_run plan;
    struct equipment_message *messages;
    size_t count, sent, settled; /* settled: acknowledged, or given up */
    bool failed;
    size_t points;
};

void equipment_begin(struct equipment *equipment, struct session *session, const struct fab *fab,
                     const char *command, const volatile sig_atomic_t *hurry, enum equipment_form form,
                     int64_t batch_us)
{
    *equipment = (struct equipment){.session = session,
                                    .fab = fab,
                                    .command = command,
                                    .hurry = hurry,
                                    .form = form,
                                    .batch_us = batch_us};
    uv_timer_init(&session->loop, &equipment->retry);
    equipment->retry.data = equipment;
}

static void run_free(struct equipment_run *run)
{
    arena_free(&run->arena);
    free(run);
}

/* --- the rosters --- */

static void on_registered(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)error;
    (void)revision;
    struct equipment *equipment = arg;
    equipment->in_flight--;
    equipment->no_roster |= code && code != ERR_CONFLICT;
}

static void register_chamber(struct equipment *equipment, const char *roster, const struct fab_run *run)
{
    char key[NAMES_BYTES], bucket[NAMES_BYTES], value[64];
    if (names_chamber_key(run->tool, run->chamber_name, key, NULL))
        return;
    /* Points a run: sensors, and the step, x frequency x duration. */
    int length = snprintf(value, sizeof value, "{\"weight\":%zu}",
                          run->sample_count * (fab_sensors(equipment->fab) + 1));
    while (equipment->in_flight >= EQUIPMENT_IN_FLIGHT_MAX)
        uv_run(&equipment->session->loop, UV_RUN_ONCE);
    equipment->in_flight++;
    kv_create(equipment->session->bus, names_stream(equipment->session->cell, roster, bucket), key, value,
              (size_t)length, on_registered, equipment);
}

void equipment_register(struct equipment *equipment)
{
    static const char *const rosters[] = {"collector-chambers", "chambers"};
    for (size_t roster = 0; roster < 2; roster++) {
        equipment->no_roster = false;
        for (size_t chamber = 0; chamber < fab_chambers(equipment->fab); chamber++) {
            struct fab_run run;
            fab_describe_run(equipment->fab, chamber, 0, &run);
            if (!equipment->no_roster && !*equipment->hurry)
                register_chamber(equipment, rosters[roster], &run);
        }
        while (equipment->in_flight > 0)
            uv_run(&equipment->session->loop, UV_RUN_ONCE);
    }
}

/* --- the heap of runs --- */

static int64_t due_of(const struct equipment_run *run)
{
    return run->messages[run->sent].due_us;
}

static bool comes_before(const struct equipment_run *a, const struct equipment_run *b)
{
    return due_of(a) != due_of(b) ? due_of(a) < due_of(b) : a->order < b->order;
}

static void sink_first(struct equipment *equipment)
{
    struct equipment_run **runs = equipment->runs;
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < equipment->run_count; child++)
            if (comes_before(runs[child], runs[least]))
                least = child;
        if (least == at)
            return;
        struct equipment_run *run = runs[at];
        runs[at] = runs[least];
        runs[least] = run;
        at = least;
    }
}

static bool heap_add(struct equipment *equipment, struct equipment_run *run)
{
    if (equipment->run_count == equipment->run_capacity) {
        size_t capacity = equipment->run_capacity ? 2 * equipment->run_capacity : 64;
        struct equipment_run **runs = realloc(equipment->runs, capacity * sizeof(struct equipment_run *));
        if (runs == NULL)
            return false;
        equipment->runs = runs;
        equipment->run_capacity = capacity;
    }
    size_t at = equipment->run_count++;
    for (; at > 0 && comes_before(run, equipment->runs[(at - 1) / 2]); at = (at - 1) / 2)
        equipment->runs[at] = equipment->runs[(at - 1) / 2];
    equipment->runs[at] = run;
    return true;
}

/* --- the messages of a run --- */

static int keep_message(struct equipment_run *run, enum names_sample_kind kind, int64_t due_us,
                        const struct strbuf *text, struct error *err)
{
    char *bytes = text->failed ? NULL : arena_alloc(&run->arena, text->length);
    if (bytes == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the messages of %s", run->plan.id);
    memcpy(bytes, text->text, text->length);
    run->messages[run->count++] = (struct equipment_message){
        .run = run, .kind = kind, .due_us = due_us, .bytes = bytes, .length = text->length};
    return 0;
}

/* Samples `from` to before `to` of all columns: they were taken together. */
static int make_data(struct equipment_run *run, const struct fab_trace *trace,
                     const struct batch_sensors *sensors, struct batch_column *columns, size_t from,
                     size_t to, uint32_t sequence, struct error *err)
{
    for (size_t c = 0; c < trace->column_count; c++)
        columns[c] = (struct batch_column){.sensor = (uint32_t)c, .value = trace->columns[c].value + from};
    struct batch_group group = {.sample_count = to - from,
                                .time_us = trace->time_us + from,
                                .column_count = trace->column_count,
                                .columns = columns};
    struct batch_data data = {
        .context_id = run->plan.id, .sequence = sequence, .group_count = 1, .groups = &group};
    struct strbuf text;
    strbuf_init(&text);
    int code = run->equipment->form == EQUIPMENT_JSON ? batch_data_write_json(&data, sensors, &text, err)
                                                      : batch_data_write(&data, &text, err);
    if (code == 0)
        code = keep_message(run, NAMES_SAMPLE_DATA, trace->time_us[to - 1], &text, err);
    strbuf_free(&text);
    return code;
}

static int make_start(struct equipment_run *run, const struct batch_sensors *sensors, struct error *err)
{
    struct batch_start start = {.sensors = *sensors};
    fab_context(run->equipment->fab, &run->plan, &start.context);
    run->points = (size_t)start.context.point_count;
    start.context.end_us = start.context.start_us;
    start.context.svid_count = (int64_t)sensors->count;
    start.context.point_count = 0;
    struct strbuf text;
    strbuf_init(&text);
    int code = batch_start_write(&start, &text, err);
    if (code == 0)
        code = keep_message(run, NAMES_SAMPLE_START, run->plan.start_us, &text, err);
    strbuf_free(&text);
    return code;
}

static int make_end(struct equipment_run *run, uint32_t batches, struct error *err)
{
    struct batch_end end = {.context_id = run->plan.id, .end_us = run->plan.end_us, .batches = batches};
    struct strbuf text;
    strbuf_init(&text);
    int code = batch_end_write(&end, &text, err);
    if (code == 0)
        code = keep_message(run, NAMES_SAMPLE_END, run->plan.end_us, &text, err);
    strbuf_free(&text);
    return code;
}

static size_t samples_of_a_batch(const struct equipment *equipment, const struct fab_trace *trace)
{
    if (trace->sample_count < 2)
        return 1;
    int64_t interval_us = trace->time_us[1] - trace->time_us[0];
    int64_t samples = interval_us > 0 ? equipment->batch_us / interval_us : 1;
    return samples > 1 ? (size_t)samples : 1;
}

static int make_messages(struct equipment_run *run, struct error *err)
{
    struct arena scratch;
    struct fab_trace trace;
    arena_init(&scratch, 0);
    int code = fab_make_trace(run->equipment->fab, &run->plan, &scratch, &trace, err);
    if (code) {
        arena_free(&scratch);
        return code;
    }
    size_t samples = samples_of_a_batch(run->equipment, &trace);
    size_t batches = (trace.sample_count + samples - 1) / samples;
    const char **names = arena_calloc(&scratch, trace.column_count, sizeof *names);
    struct batch_column *columns = arena_calloc(&scratch, trace.column_count, sizeof *columns);
    run->messages = arena_calloc(&run->arena, batches + 2, sizeof *run->messages);
    if (names == NULL || columns == NULL || run->messages == NULL)
        code = error_set(err, ERR_NO_MEMORY, "no memory for the messages of %s", run->plan.id);
    for (size_t c = 0; code == 0 && c < trace.column_count; c++)
        names[c] = trace.columns[c].name;
    struct batch_sensors sensors = {0};
    if (code == 0)
        code = batch_sensors_index(names, trace.column_count, &scratch, &sensors, err);
    if (code == 0)
        code = make_start(run, &sensors, err);
    for (size_t b = 0; code == 0 && b < batches; b++) {
        size_t to = (b + 1) * samples < trace.sample_count ? (b + 1) * samples : trace.sample_count;
        code = make_data(run, &trace, &sensors, columns, b * samples, to, (uint32_t)b, err);
    }
    if (code == 0)
        code = make_end(run, (uint32_t)batches, err);
    arena_free(&scratch);
    return code;
}

int equipment_start(struct equipment *equipment, const struct fab_run *plan, struct error *err)
{
    struct equipment_run *run = calloc(1, sizeof *run);
    if (run == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a run");
    arena_init(&run->arena, 4096);
    run->equipment = equipment;
    run->order = equipment->begun++;
    run->plan = *plan;
    int code = make_messages(run, err);
    if (code == 0 && !heap_add(equipment, run))
        code = error_set(err, ERR_NO_MEMORY, "no memory for a run");
    if (code)
        run_free(run);
    return code;
}

bool equipment_next(const struct equipment *equipment, int64_t *due_us)
{
    if (equipment->run_count == 0)
        return false;
    *due_us = due_of(equipment->runs[0]);
    return true;
}

/* --- sending --- */

static void send_message(struct equipment_message *message);

static void on_retry(uv_timer_t *timer)
{
    struct equipment *equipment = timer->data;
    struct equipment_message *message = equipment->again, *next;
    equipment->again = NULL;
    for (; message; message = next) {
        next = message->next;
        send_message(message);
    }
}

static void message_settled(struct equipment_message *message)
{
    struct equipment_run *run = message->run;
    struct equipment *equipment = run->equipment;
    equipment->in_flight--;
    if (++run->settled < run->count)
        return;
    if (!run->failed) {
        equipment->contexts++;
        equipment->points += run->points;
    }
    run_free(run);
}

static void message_failed(struct equipment_message *message, int code, const struct error *error)
{
    struct equipment *equipment = message->run->equipment;
    if (equipment->failed == 0) {
        equipment->failed = code;
        equipment->error = *error;
        equipment->error.code = code;
        error_prefix(&equipment->error, code, "context %s", message->run->plan.id);
    }
    message->run->failed = true;
    message_settled(message);
}

static void on_acknowledged(void *arg, int code, int api_error, const struct error *error,
                            const json_t *response)
{
    (void)api_error;
    (void)response;
    struct equipment_message *message = arg;
    struct equipment *equipment = message->run->equipment;
    if (code == 0) {
        equipment->messages++;
        equipment->bytes += message->length;
        message_settled(message);
        return;
    }
    bool away = error_is_transient(code) || code == ERR_NOT_FOUND; /* no stream yet: a collector makes it */
    if (!away || *equipment->hurry || clock_mono_ns() >= message->give_up_ns) {
        message_failed(message, code, error);
        return;
    }
    if (!equipment->told_waiting)
        fprintf(
            stderr,
            "chamberlain %s: %s; trying again for %d s (is a collector running? `chamberlain collect` makes "
            "the stream)\n",
            equipment->command, error->text, EQUIPMENT_PATIENCE_MS / 1000);
    equipment->told_waiting = true;
    message->next = equipment->again;
    equipment->again = message;
    if (!uv_is_active((uv_handle_t *)&equipment->retry))
        uv_timer_start(&equipment->retry, on_retry, EQUIPMENT_RETRY_MS, 0);
}

static void send_message(struct equipment_message *message)
{
    struct equipment *equipment = message->run->equipment;
    const struct fab_run *plan = &message->run->plan;
    char subject[NAMES_BYTES];
    struct error err;
    int code =
        names_samples(equipment->session->cell, plan->tool, plan->chamber_name, message->kind, subject, &err);
    if (code)
        message_failed(message, code, &err);
    else
        jetstream_publish(equipment->session->bus, subject, NULL, 0, message->bytes, message->length,
                          on_acknowledged, message);
}

int equipment_send(struct equipment *equipment, struct error *err)
{
    while (equipment->in_flight >= EQUIPMENT_IN_FLIGHT_MAX && equipment->failed == 0)
        uv_run(&equipment->session->loop, UV_RUN_ONCE);
    if (equipment->failed) {
        *err = equipment->error;
        return equipment->failed;
    }
    struct equipment_run *run = equipment->runs[0];
    struct equipment_message *message = &run->messages[run->sent++];
    if (run->sent == run->count)
        equipment->runs[0] = equipment->runs[--equipment->run_count];
    sink_first(equipment);
    message->give_up_ns = clock_mono_ns() + EQUIPMENT_PATIENCE_MS * INT64_C(1000000);
    equipment->in_flight++;
    send_message(message);
    return 0;
}

int equipment_drain(struct equipment *equipment, struct error *err)
{
    while (equipment->in_flight > 0)
        uv_run(&equipment->session->loop, UV_RUN_ONCE);
    if (equipment->failed && err)
        *err = equipment->error;
    return equipment->failed;
}

void equipment_end(struct equipment *equipment)
{
    for (size_t i = 0; i < equipment->run_count; i++)
        run_free(equipment->runs[i]);
    free(equipment->runs);
    uv_close((uv_handle_t *)&equipment->retry, NULL);
}
