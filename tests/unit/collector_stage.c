#include "cmocka_setup.h"

#include "collector_stage.h"

#include "base/hash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAST = 2, SENSORS = 3, SAMPLES = 10 };
static const char *const NAMES[SENSORS] = {"Pressure", "Power", "Temperature"};
#define START_US INT64_C(1700000000000000)

static double value_of(const char *id, uint32_t sequence, size_t sensor, size_t sample)
{
    char key[128];
    snprintf(key, sizeof key, "%s/%u/%zu/%zu", id, sequence, sensor, sample);
    uint64_t bits = hash64_text(key);
    return bits % 17 == 0 ? (double)NAN : (double)(bits % 100000) / 100;
}

struct made_batch {
    int64_t times[SAMPLES], slow[1];
    double values[FAST][SAMPLES], slow_value[1];
    struct batch_column columns[SENSORS];
    struct batch_group groups[2];
    struct batch_data data;
};

static void make_batch(const char *id, uint32_t sequence, struct made_batch *made)
{
    int64_t begin_us = START_US + (int64_t)sequence * STAGE_SECOND;
    for (size_t i = 0; i < SAMPLES; i++) {
        made->times[i] = begin_us + (int64_t)i * 100000;
        for (size_t s = 0; s < FAST; s++)
            made->values[s][i] = value_of(id, sequence, s, i);
    }
    made->slow[0] = begin_us + 333;
    made->slow_value[0] = value_of(id, sequence, FAST, 0);
    for (uint32_t s = 0; s < SENSORS; s++)
        made->columns[s] =
            (struct batch_column){.sensor = s, .value = s < FAST ? made->values[s] : made->slow_value};
    made->groups[0] = (struct batch_group){
        .sample_count = SAMPLES, .time_us = made->times, .column_count = FAST, .columns = made->columns};
    made->groups[1] = (struct batch_group){
        .sample_count = 1, .time_us = made->slow, .column_count = 1, .columns = made->columns + FAST};
    made->data =
        (struct batch_data){.context_id = id, .sequence = sequence, .group_count = 2, .groups = made->groups};
}

struct stage *stage_new(void)
{
    struct stage *stage = calloc(1, sizeof *stage);
    struct error err;
    stage->options = (struct assembly_options){.flush_us = 5 * STAGE_SECOND,
                                               .gap_us = 30 * STAGE_SECOND,
                                               .silent_us = 120 * STAGE_SECOND,
                                               .context_max_us = INT64_C(7200) * STAGE_SECOND,
                                               .buffer_bytes = 64 << 20};
    stage->now_us = STAGE_SECOND;
    assert_int_equal(assembly_create(&stage->options, &stage->counts, &stage->assembly, &err), 0);
    assembly_actions_init(&stage->actions);
    return stage;
}

static void drop_errand(struct stage *stage, size_t errand)
{
    free(stage->errands[errand].text);
    memmove(&stage->errands[errand], &stage->errands[errand + 1],
            (stage->errand_count - errand - 1) * sizeof *stage->errands);
    stage->errand_count--;
}

void stage_free(struct stage *stage)
{
    assembly_free(stage->assembly);
    assembly_actions_free(&stage->actions);
    while (stage->errand_count > 0) {
        if (stage->errands[0].piece)
            piece_free(stage->errands[0].piece);
        drop_errand(stage, 0);
    }
    for (size_t i = 0; i < stage->stream_count; i++)
        free(stage->stream[i].bytes);
    for (size_t i = 0; i < stage->context_count; i++) {
        for (size_t k = 0; k < STAGE_CHUNKS; k++)
            free(stage->contexts[i].chunks[k]);
        free(stage->contexts[i].note);
        free(stage->contexts[i].announcement);
    }
    free(stage);
}

struct stage_context *stage_context(struct stage *stage, const char *id)
{
    for (size_t i = 0; i < stage->context_count; i++)
        if (strcmp(stage->contexts[i].id, id) == 0)
            return &stage->contexts[i];
    assert_true(stage->context_count < STAGE_CONTEXTS);
    struct stage_context *made = &stage->contexts[stage->context_count++];
    snprintf(made->id, sizeof made->id, "%s", id);
    return made;
}

/* --- publishing --- */

static void publish(struct stage *stage, enum names_sample_kind kind, struct strbuf *body)
{
    assert_true(stage->stream_count < STAGE_MESSAGES);
    struct stage_message *message = &stage->stream[stage->stream_count++];
    *message = (struct stage_message){.kind = kind, .length = body->length};
    message->bytes = malloc(body->length + 1);
    memcpy(message->bytes, body->text, body->length + 1);
    strbuf_free(body);
}

void stage_publish_text(struct stage *stage, enum names_sample_kind kind, const char *text)
{
    struct strbuf body;
    strbuf_init(&body);
    strbuf_add(&body, text);
    publish(stage, kind, &body);
}

void stage_publish_start(struct stage *stage, const char *id)
{
    struct strbuf body;
    strbuf_init(&body);
    struct batch_start start = {.context = {.id = id,
                                            .tool = "T.1",
                                            .chamber = "A",
                                            .recipe = "R",
                                            .lot = "L",
                                            .wafer = "",
                                            .start_us = START_US,
                                            .end_us = START_US,
                                            .extra_json = "{\"product\":\"P\"}"},
                                .sensors = {.names = NAMES, .count = SENSORS}};
    assert_int_equal(batch_start_write(&start, &body, NULL), 0);
    publish(stage, NAMES_SAMPLE_START, &body);
}

void stage_publish_data(struct stage *stage, const char *id, uint32_t sequence, bool binary)
{
    struct made_batch made;
    struct batch_sensors sensors = {.names = NAMES, .count = SENSORS};
    struct strbuf body;
    strbuf_init(&body);
    make_batch(id, sequence, &made);
    assert_int_equal(binary ? batch_data_write(&made.data, &body, NULL)
                            : batch_data_write_json(&made.data, &sensors, &body, NULL),
                     0);
    publish(stage, NAMES_SAMPLE_DATA, &body);
}

void stage_publish_end(struct stage *stage, const char *id, uint32_t batches)
{
    struct strbuf body;
    struct batch_end end = {
        .context_id = id, .end_us = START_US + (int64_t)batches * STAGE_SECOND, .batches = batches};
    strbuf_init(&body);
    assert_int_equal(batch_end_write(&end, &body, NULL), 0);
    publish(stage, NAMES_SAMPLE_END, &body);
}

/* --- carrying --- */

static void take_errand(struct stage *stage, const struct assembly_action *action)
{
    assert_true(stage->errand_count < STAGE_ERRANDS);
    struct stage_errand *errand = &stage->errands[stage->errand_count++];
    *errand = (struct stage_errand){.kind = action->kind,
                                    .context = action->context,
                                    .piece = action->piece,
                                    .chunk = action->chunk,
                                    .chunk_count = action->completion.chunk_count,
                                    .revision = action->revision,
                                    .crew = stage->crew};
    snprintf(errand->id, sizeof errand->id, "%s", action->context_id);
    const char *text = action->kind == ASSEMBLY_NOTE ? action->text : action->completion.announcement;
    errand->text = text ? strdup(text) : NULL;
}

static void carry_out(struct stage *stage, const struct assembly_action *action)
{
    switch (action->kind) {
    case ASSEMBLY_BURY:
        assert_true(stage->grave_count < 64);
        snprintf(stage->graves[stage->grave_count++], 64, "%s", action->reason_class);
        assert_int_equal(action->length, stage->stream[action->message - 1].length);
        __attribute__((fallthrough));
    case ASSEMBLY_ACK:
        assert_false(stage->stream[action->message - 1].taken);
        stage->stream[action->message - 1].taken = true;
        break;
    case ASSEMBLY_FORGET:
        stage->stream[action->message - 1].delivered = false;
        break;
    case ASSEMBLY_REGISTER:
        stage_context(stage, action->context_id)->weight = action->weight;
        break;
    case ASSEMBLY_DROP_NOTE:
        free(stage_context(stage, action->context_id)->note);
        stage_context(stage, action->context_id)->note = NULL;
        stage_context(stage, action->context_id)->revision = 0;
        break;
    default:
        take_errand(stage, action);
        break;
    }
}

void stage_step(struct stage *stage, const struct assembly_event *event)
{
    assembly_actions_clear(&stage->actions);
    assembly_step(stage->assembly, stage->now_us, event, &stage->actions);
    for (size_t i = 0; i < stage->actions.count; i++)
        carry_out(stage, &stage->actions.items[i]);
    while (!stage->by_hand && stage->errand_count > 0)
        stage_work(stage, 0, false);
}

static void keep_chunk(struct stage_context *context, int32_t chunk, const struct piece *piece)
{
    struct arena arena;
    struct tchart_blobs blobs;
    struct error err;
    arena_init(&arena, 0);
    if (tchart_pack(piece->columns, piece->column_count, SIZE_MAX, &arena, &blobs, &err))
        fail_msg("%s", err.text);
    assert_int_equal(blobs.count, 1);
    assert_true(chunk < STAGE_CHUNKS);
    free(context->chunks[chunk]);
    context->chunks[chunk] = malloc(blobs.blobs[0].length);
    context->lengths[chunk] = blobs.blobs[0].length;
    memcpy(context->chunks[chunk], blobs.blobs[0].data, blobs.blobs[0].length);
    arena_free(&arena);
}

static int complete(struct stage_context *context, const struct stage_errand *errand)
{
    if (context->announcement)
        return strcmp(context->announcement, errand->text) == 0 ? 0 : ERR_CONFLICT;
    if (errand->piece)
        keep_chunk(context, errand->chunk, errand->piece);
    for (int32_t k = 0; k < errand->chunk_count; k++)
        if (context->chunks[k] == NULL)
            return ERR_INVALID;
    context->announcement = strdup(errand->text);
    context->chunk_count = errand->chunk_count;
    return 0;
}

static int write_note(struct stage *stage, struct stage_context *context, const struct stage_errand *errand)
{
    if (context->revision != errand->revision)
        return ERR_CONFLICT;
    free(context->note);
    context->note = strdup(errand->text);
    context->revision = ++stage->last_revision;
    return 0;
}

void stage_work(struct stage *stage, size_t number, bool silently)
{
    struct stage_errand errand = stage->errands[number];
    struct stage_context *context = stage_context(stage, errand.id);
    struct assembly_event event = {.context = errand.context};
    char *text = NULL;
    stage->errands[number].text = NULL;
    drop_errand(stage, number);
    switch (errand.kind) {
    case ASSEMBLY_LOOK_UP:
        event.kind = ASSEMBLE_LOOKED_UP;
        text = context->note ? strdup(context->note) : NULL;
        event.revision = context->revision;
        break;
    case ASSEMBLY_NOTE:
        event.kind = ASSEMBLE_NOTED;
        event.code = write_note(stage, context, &errand);
        event.revision = context->revision;
        break;
    case ASSEMBLY_PUT:
        event.kind = ASSEMBLE_PUT;
        event.code = context->announcement ? ERR_CONFLICT : 0;
        if (event.code == 0)
            keep_chunk(context, errand.chunk, errand.piece);
        break;
    case ASSEMBLY_FIND:
        event.kind = ASSEMBLE_FOUND;
        event.code = context->announcement ? 0 : ERR_NOT_FOUND;
        text = context->announcement ? strdup(context->announcement) : NULL;
        break;
    case ASSEMBLY_COMPLETE:
        event.kind = ASSEMBLE_COMPLETED;
        event.code = complete(context, &errand);
        break;
    default:
        event.kind = ASSEMBLE_ANNOUNCED;
        context->announced++;
        break;
    }
    event.text = text;
    if (errand.piece)
        piece_free(errand.piece);
    free(errand.text);
    if (!silently && errand.crew == stage->crew)
        stage_step(stage, &event);
    free(text);
}

void stage_deliver(struct stage *stage, size_t message)
{
    struct stage_message *given = &stage->stream[message];
    assert_false(given->taken || given->delivered);
    given->delivered = true;
    stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_MESSAGE,
                                               .message = message + 1,
                                               .tool = "T.1",
                                               .chamber = "A",
                                               .token = "T%2E1.A",
                                               .subject_kind = given->kind,
                                               .bytes = given->bytes,
                                               .length = given->length});
}

void stage_deliver_all(struct stage *stage)
{
    for (size_t i = 0; i < stage->stream_count; i++)
        if (!stage->stream[i].taken && !stage->stream[i].delivered)
            stage_deliver(stage, i);
}

void stage_pass(struct stage *stage, int64_t us)
{
    for (int64_t end = stage->now_us + us; stage->now_us < end;) {
        stage->now_us += 100000;
        stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_TICK});
    }
}

void stage_crash(struct stage *stage)
{
    struct error err;
    assembly_free(stage->assembly);
    stage->crew++;
    assert_int_equal(assembly_create(&stage->options, &stage->counts, &stage->assembly, &err), 0);
    for (size_t i = 0; i < stage->stream_count; i++)
        stage->stream[i].delivered = false;
}

size_t stage_waiting(const struct stage *stage)
{
    size_t waiting = 0;
    for (size_t i = 0; i < stage->stream_count; i++)
        waiting += !stage->stream[i].taken;
    return waiting;
}

/* --- what is stored --- */

static bool listed(const int *list, uint32_t sequence)
{
    for (; list && *list >= 0; list++)
        if ((uint32_t)*list == sequence)
            return true;
    return false;
}

static size_t expected_column(const char *id, uint32_t batches, const int *without, size_t sensor,
                              int64_t *times, double *values)
{
    size_t count = 0;
    struct made_batch made;
    for (uint32_t b = 0; b < batches; b++) {
        if (listed(without, b))
            continue;
        make_batch(id, b, &made);
        const struct batch_group *group = &made.groups[sensor >= FAST];
        for (size_t i = 0; i < group->sample_count; i++) {
            times[count] = group->time_us[i];
            values[count++] = sensor < FAST ? made.values[sensor][i] : made.slow_value[0];
        }
    }
    return count;
}

void stage_expect_trace(struct stage *stage, const char *id, uint32_t batches, const int *without)
{
    struct stage_context *context = stage_context(stage, id);
    struct arena arena;
    struct mebo_set set;
    struct error err;
    struct mebo_bytes chunks[STAGE_CHUNKS];
    uint64_t ids[SENSORS];
    struct mebo_column columns[SENSORS];
    assert_non_null(context->announcement);
    arena_init(&arena, 0);
    for (int32_t k = 0; k < context->chunk_count; k++)
        chunks[k] = (struct mebo_bytes){.data = context->chunks[k], .length = context->lengths[k]};
    if (mebo_set_open(&set, chunks, (size_t)context->chunk_count, &arena, NULL, &err))
        fail_msg("%s", err.text);
    for (size_t s = 0; s < SENSORS; s++)
        ids[s] = hash64_text(NAMES[s]);
    assert_int_equal(mebo_set_columns(&set, ids, SENSORS, columns, &err), 0);
    int64_t *times = malloc(batches * SAMPLES * sizeof *times);
    double *values = malloc(batches * SAMPLES * sizeof *values);
    for (size_t s = 0; s < SENSORS; s++) {
        size_t count = expected_column(id, batches, without, s, times, values);
        assert_int_equal(columns[s].count, count);
        assert_memory_equal(columns[s].times_us, times, count * sizeof *times);
        assert_memory_equal(columns[s].values, values, count * sizeof *values);
    }
    free(times);
    free(values);
    arena_free(&arena);
}
