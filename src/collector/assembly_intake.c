/* Messages taken in: starts, batches and ends, each once, in whatever order they come; what cannot be used
 * goes to the dead letters with its reason. */
#include "collector/assembly_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ARENA_MAX_BYTES = 64 * 1024,
    BEFORE_START_US = 60 * 1000 * 1000 /* samples may be so much older than their start */
};

void assembly_take_duplicate(struct assembly *a, uint64_t message)
{
    a->counts->duplicates++;
    assembly_acknowledge(a, message);
}

static void bury_late(struct assembly *a, struct context_entry *context, uint64_t message, const void *bytes,
                      size_t length, const char *why)
{
    char reason[ASSEMBLY_REASON_BYTES];
    snprintf(reason, sizeof reason, "context %s: %s", context->id, why);
    a->counts->late++;
    assembly_bury(a, context->chamber, context->id, message, NAMES_SAMPLE_DATA, bytes, length, "late",
                  reason);
}

/* A batch for a context that is complete, or below what is stored of it. */
void assembly_take_settled(struct assembly *a, struct context_entry *context, uint32_t sequence,
                           uint32_t batches, bool whole, uint64_t message, const void *bytes, size_t length)
{
    if (sequence < batches && whole)
        assembly_take_duplicate(a, message);
    else
        bury_late(a, context, message, bytes, length,
                  sequence < batches ? "some of its batches were given up, and this may be one of them"
                                     : "the batch came after the context was complete");
}

static int check_times(const struct assembly *a, const struct context_entry *context,
                       const struct batch_data *data, struct error *err)
{
    int64_t from_us = context->start.context.start_us - BEFORE_START_US;
    int64_t to_us = context->start.context.start_us + a->options.context_max_us;
    for (size_t g = 0; g < data->group_count; g++) {
        const struct batch_group *group = &data->groups[g];
        if (group->time_us[0] < from_us || group->time_us[group->sample_count - 1] > to_us)
            return error_set(err, ERR_INVALID,
                             "samples lie before the context's start or more than %lld s after it; set the "
                             "equipment's clock",
                             (long long)(a->options.context_max_us / 1000000));
    }
    return 0;
}

static size_t count_points(const struct batch_data *data)
{
    size_t points = 0;
    for (size_t g = 0; g < data->group_count; g++)
        points += data->groups[g].sample_count * data->groups[g].column_count;
    return points;
}

/* A batch that cannot be used is as good as lost, and known to be. */
static void refuse_batch(struct assembly *a, struct context_entry *context, uint32_t sequence,
                         uint64_t message, const void *bytes, size_t length, const char *reason_class,
                         const struct error *err)
{
    char reason[ASSEMBLY_REASON_BYTES];
    snprintf(reason, sizeof reason, "context %.100s, batch %u: %.350s", context->id, sequence, err->text);
    assembly_give_up(context, sequence);
    if (sequence >= context->highest)
        context->highest = sequence + 1;
    a->counts->lost_batches++;
    assembly_bury(a, context->chamber, context->id, message, NAMES_SAMPLE_DATA, bytes, length, reason_class,
                  reason);
}

static void take_new_batch(struct assembly *a, struct context_entry *context, const struct batch_label *label,
                           uint64_t message, const void *bytes, size_t length)
{
    struct held *held = assembly_need(calloc(1, sizeof *held));
    struct error err;
    size_t block = 3 * length < ASSEMBLY_ARENA_MIN_BYTES ? ASSEMBLY_ARENA_MIN_BYTES
                   : 3 * length > ARENA_MAX_BYTES        ? ARENA_MAX_BYTES
                                                         : 3 * length;
    arena_init(&held->arena, block);
    int code = batch_data_read(bytes, length, &context->start.sensors, &held->arena, &held->data, &err);
    if (code == ERR_NO_MEMORY)
        abort();
    bool clock = code == 0 && check_times(a, context, &held->data, &err) != 0;
    if (code || clock) {
        *(clock ? &a->counts->clock : &a->counts->undecodable) += 1;
        arena_free(&held->arena);
        free(held);
        refuse_batch(a, context, label->sequence, message, bytes, length, clock ? "clock" : "undecodable",
                     &err);
        return;
    }
    held->sequence = label->sequence;
    held->message = message;
    held->arrived_us = a->now_us;
    held->bytes = held->arena.used_bytes + block / 2 + ASSEMBLY_BATCH_OVERHEAD_BYTES;
    held->points = count_points(&held->data);
    a->counts->batches++;
    a->counts->batches_json += !label->binary;
    a->counts->points += (int64_t)held->points;
    a->counts->out_of_order += label->sequence + 1 < context->highest;
    if (label->sequence >= context->highest)
        context->highest = label->sequence + 1;
    assembly_hold_batch(a, context, held);
}

static void take_batch(struct assembly *a, struct context_entry *context, const struct batch_label *label,
                       uint64_t message, const void *bytes, size_t length)
{
    if (label->sequence < context->next)
        assembly_take_settled(a, context, label->sequence, context->next, context->lost == 0, message, bytes,
                              length);
    else if (assembly_is_given_up(context, label->sequence))
        bury_late(a, context, message, bytes, length, "the batch was given up before it came");
    else if (assembly_is_held(context, label->sequence))
        assembly_take_duplicate(a, message);
    else if (context->closing)
        bury_late(a, context, message, bytes, length, "the context was being completed when it came");
    else if (context->ended && label->sequence >= context->end_batches)
        bury_late(a, context, message, bytes, length, "its end says that there is no batch of this number");
    else
        take_new_batch(a, context, label, message, bytes, length);
}

static void wait_for_start(struct assembly *a, struct context_entry *context, enum names_sample_kind kind,
                           uint64_t message, const void *bytes, size_t length)
{
    context->waiting = assembly_grow(context->waiting, context->waiting_count, &context->waiting_capacity,
                                     sizeof *context->waiting);
    struct waiting *waiting = &context->waiting[context->waiting_count++];
    *waiting = (struct waiting){
        .message = message, .kind = kind, .bytes = assembly_need(malloc(length + 1)), .length = length};
    memcpy(waiting->bytes, bytes, length);
    a->bytes += length + ASSEMBLY_BATCH_OVERHEAD_BYTES;
}

static void take_end(struct assembly *a, struct context_entry *context, const struct batch_end *end,
                     uint64_t message)
{
    if (context->ended) {
        assembly_take_duplicate(a, message);
        return;
    }
    context->ended = true;
    context->end_message = message;
    context->end_us = end->end_us;
    /* More may have come than it says: they are kept. */
    context->end_batches = end->batches > context->highest ? end->batches : context->highest;
}

static void bury_undecodable(struct assembly *a, const struct assembly_event *event, const struct error *err)
{
    struct chamber names = {.tool = (char *)(uintptr_t)event->tool,
                            .name = (char *)(uintptr_t)event->chamber};
    a->counts->undecodable++;
    assembly_bury(a, &names, NULL, event->message, event->subject_kind, event->bytes, event->length,
                  "undecodable", err->text);
}

void assembly_take_data(struct assembly *a, const struct assembly_event *event)
{
    struct arena arena;
    struct batch_label label;
    struct error err;
    arena_init(&arena, ASSEMBLY_ARENA_MIN_BYTES);
    int code = batch_label_read(event->bytes, event->length, &arena, &label, &err);
    if (code) {
        bury_undecodable(a, event, &err);
    } else {
        struct context_entry *context =
            assembly_have_context(a, assembly_have_chamber(a, event), label.context_id);
        context->heard_us = a->now_us;
        if (context->finished)
            assembly_take_settled(a, context, label.sequence, context->finished_batches,
                                  context->finished_whole, event->message, event->bytes, event->length);
        else if (context->started)
            take_batch(a, context, &label, event->message, event->bytes, event->length);
        else if (context->waiting_count < ASSEMBLY_NOT_READY_MAX)
            wait_for_start(a, context, NAMES_SAMPLE_DATA, event->message, event->bytes, event->length);
        else
            assembly_forget_message(a, event->message);
    }
    arena_free(&arena);
}

void assembly_take_end(struct assembly *a, const struct assembly_event *event)
{
    struct arena arena;
    struct batch_end end;
    struct error err;
    arena_init(&arena, ASSEMBLY_ARENA_MIN_BYTES);
    int code = batch_end_read(event->bytes, event->length, &arena, &end, &err);
    if (code) {
        bury_undecodable(a, event, &err);
    } else {
        struct context_entry *context =
            assembly_have_context(a, assembly_have_chamber(a, event), end.context_id);
        context->heard_us = a->now_us;
        if (context->finished)
            assembly_take_duplicate(a, event->message);
        else if (context->started)
            take_end(a, context, &end, event->message);
        else
            wait_for_start(a, context, NAMES_SAMPLE_END, event->message, event->bytes, event->length);
    }
    arena_free(&arena);
}

/* What came before the start did. */
static void take_waiting(struct assembly *a, struct context_entry *context)
{
    struct arena arena;
    arena_init(&arena, ASSEMBLY_ARENA_MIN_BYTES);
    for (size_t i = 0; i < context->waiting_count; i++) {
        const struct waiting *waiting = &context->waiting[i];
        struct batch_label label;
        struct batch_end end;
        struct error err;
        arena_reset(&arena);
        int code = waiting->kind == NAMES_SAMPLE_END
                       ? batch_end_read(waiting->bytes, waiting->length, &arena, &end, &err)
                       : batch_label_read(waiting->bytes, waiting->length, &arena, &label, &err);
        if (code) /* it was read before: only memory can be wanting */
            abort();
        if (waiting->kind == NAMES_SAMPLE_END)
            take_end(a, context, &end, waiting->message);
        else
            take_batch(a, context, &label, waiting->message, waiting->bytes, waiting->length);
    }
    assembly_drop_waiting(a, context);
    arena_free(&arena);
}

/* Of two contexts of a chamber the one that was started first is over, though its end may still be on its
 * way. */
static void supersede(struct assembly *a, struct context_entry *started)
{
    for (struct context_entry *other = started->chamber->contexts; other; other = other->sibling) {
        if (other == started || other->finished || !other->started)
            continue;
        struct context_entry *older = other->start_message < started->start_message ? other : started;
        if (older->superseded_us == 0)
            older->superseded_us = a->now_us;
    }
}

static void begin_context(struct assembly *a, struct context_entry *context,
                          const struct assembly_event *event, struct arena *arena,
                          const struct batch_start *start)
{
    arena_free(&context->arena);
    context->arena = *arena;
    context->started = true;
    context->start = *start;
    context->start_message = event->message;
    context->start_bytes = assembly_need(arena_alloc(&context->arena, event->length + 1));
    memcpy(context->start_bytes, event->bytes, event->length);
    context->start_length = event->length;
    a->bytes += event->length;
    context->last_us = assembly_need(malloc(start->sensors.count * sizeof *context->last_us));
    for (size_t i = 0; i < start->sensors.count; i++)
        context->last_us[i] = INT64_MIN;
    context->gap_us = 0;
    if (context->looked_up)
        assembly_adopt_note(a, context);
    take_waiting(a, context);
    supersede(a, context);
}

void assembly_take_start(struct assembly *a, const struct assembly_event *event)
{
    struct arena arena;
    struct batch_start start;
    struct error err;
    arena_init(&arena, 0);
    int code =
        batch_start_read(event->bytes, event->length, event->tool, event->chamber, &arena, &start, &err);
    if (code) {
        bury_undecodable(a, event, &err);
        arena_free(&arena);
        return;
    }
    struct context_entry *context =
        assembly_have_context(a, assembly_have_chamber(a, event), start.context.id);
    context->heard_us = a->now_us;
    if (context->finished || context->started) {
        assembly_take_duplicate(a, event->message);
        arena_free(&arena);
        return;
    }
    begin_context(a, context, event, &arena, &start);
}
