/* How a context ends: completed and announced with what is to be said of its quality, refused, or found to be
 * complete already. */
#include "collector/assembly_parts.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void finish(struct assembly *a, struct context_entry *context, uint32_t batches, bool whole)
{
    assembly_empty_context(a, context);
    context->operation = OP_NONE;
    context->finished = true;
    context->finished_batches = batches;
    context->finished_whole = whole;
    a->open--;
    assembly_trim_finished(a, context->chamber);
}

static void bury_held(struct assembly *a, struct context_entry *context, const struct held *held,
                      const char *reason_class, const char *reason)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    if (batch_data_write(&held->data, &bytes, NULL) && bytes.failed)
        abort();
    assembly_bury(a, context->chamber, context->id, held->message, NAMES_SAMPLE_DATA, bytes.text,
                  bytes.length, reason_class, reason);
    strbuf_free(&bytes);
}

void assembly_refuse_context(struct assembly *a, struct context_entry *context, const char *reason_class,
                             const char *why)
{
    char reason[ASSEMBLY_REASON_BYTES];
    snprintf(reason, sizeof reason, "context %s: %s", context->id, why);
    for (size_t i = 0; i < context->held_count; i++)
        bury_held(a, context, context->held[i], reason_class, reason);
    for (size_t i = 0; i < context->waiting_count; i++)
        assembly_bury(a, context->chamber, context->id, context->waiting[i].message, context->waiting[i].kind,
                      context->waiting[i].bytes, context->waiting[i].length, reason_class, reason);
    assembly_acknowledge_all(a, &context->unconfirmed);
    if (context->ended)
        assembly_acknowledge(a, context->end_message);
    if (context->started)
        assembly_bury(a, context->chamber, context->id, context->start_message, NAMES_SAMPLE_START,
                      context->start_bytes, context->start_length, reason_class, reason);
    if (context->revision)
        assembly_act(a, ASSEMBLY_DROP_NOTE, context);
    assembly_remove_context(a, context);
}

static bool end_is_nonsense(const struct assembly *a, const struct context_entry *context)
{
    int64_t start_us = context->start.context.start_us;
    return context->ended &&
           (context->end_us < start_us || context->end_us > start_us + a->options.context_max_us);
}

static void add_reason(struct strbuf *reasons, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_reason(struct strbuf *reasons, const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    strbuf_add(reasons, reasons->length ? "," : "");
    strbuf_add_json(reasons, text);
}

/* The start's further fields, and what the collector has to say. */
static void format_extra(const struct assembly *a, const struct context_entry *context, uint32_t batches,
                         struct strbuf *extra)
{
    struct strbuf reasons;
    strbuf_init(&reasons);
    if (context->lost > 0)
        add_reason(&reasons, "gap: %" PRIu64 " of %u batches never came", context->lost, batches);
    if (context->cut)
        add_reason(&reasons, "truncated: %s", context->cut_reason);
    if (context->disordered > 0)
        add_reason(&reasons, "out_of_order: %" PRIu64 " samples", context->disordered);
    if (end_is_nonsense(a, context))
        add_reason(&reasons, "clock: ended_at does not fit started_at");
    const char *given = context->start.context.extra_json;
    size_t length = given ? strlen(given) : 0;
    strbuf_add_char(extra, '{');
    if (length > 2) {
        strbuf_add_bytes(extra, given + 1, length - 2);
        strbuf_add_char(extra, ',');
    }
    strbuf_printf(extra, "\"batches\":%u,\"batches_lost\":%" PRIu64, batches, context->lost);
    if (reasons.length > 0)
        strbuf_printf(extra, ",\"quality\":\"low\",\"quality_reasons\":[%s]", reasons.text);
    strbuf_add_char(extra, '}');
    if (reasons.failed || extra->failed)
        abort();
    strbuf_free(&reasons);
}

static bool is_low(const struct assembly *a, const struct context_entry *context)
{
    return context->lost > 0 || context->cut || context->disordered > 0 || end_is_nonsense(a, context);
}

static void format_announcement(struct assembly *a, struct context_entry *context, uint32_t batches)
{
    struct strbuf extra, json;
    struct context announced = context->start.context;
    int64_t newest_us = context->newest_us > announced.start_us ? context->newest_us : announced.start_us;
    strbuf_init(&extra);
    strbuf_init(&json);
    format_extra(a, context, batches, &extra);
    announced.end_us = context->ended && !end_is_nonsense(a, context) ? context->end_us : newest_us;
    announced.point_count = (int64_t)context->points;
    announced.chunk_count = context->chunk;
    announced.extra_json = extra.text;
    context_format(&announced, &json);
    if (json.failed)
        abort();
    context->end_us = announced.end_us;
    context->announcement = assembly_need(strbuf_take(&json));
    strbuf_free(&extra);
}

static void set_completion(struct assembly *a, const struct context_entry *context,
                           struct assembly_action *action)
{
    struct arena *arena = &a->actions->arena;
    action->completion = (struct assembly_completion){
        .recipe = assembly_need(arena_strdup(arena, context->start.context.recipe)),
        .lot = assembly_need(arena_strdup(arena, context->start.context.lot)),
        .end_us = context->end_us,
        .chunk_count = context->chunk,
        .announcement = assembly_need(arena_strdup(arena, context->announcement))};
}

/* What is held stays, in case the store knows the context as complete already, with less. */
void assembly_complete_context(struct assembly *a, struct context_entry *context)
{
    int64_t *last_us;
    struct piece *piece;
    context->batches = assembly_known_batches(context);
    size_t left_out;
    piece = assembly_make_piece(context, context->batches, &last_us, &left_out);
    free(last_us);
    if (piece == NULL && context->points == 0) {
        a->counts->empty++;
        assembly_refuse_context(a, context, "empty", "it has not a single sample");
        return;
    }
    context->closing = true;
    context->lost += context->given_up.count;
    context->points += assembly_samples_kept(piece);
    context->disordered += left_out;
    a->counts->disordered += (int64_t)left_out;
    if (piece && piece->last_us > context->newest_us)
        context->newest_us = piece->last_us;
    struct assembly_action *action = assembly_act(a, ASSEMBLY_COMPLETE, context);
    action->piece = piece;
    action->chunk = context->chunk;
    context->chunk += piece != NULL;
    format_announcement(a, context, context->batches);
    set_completion(a, context, action);
    context->operation = OP_COMPLETE;
}

void assembly_announce_context(struct assembly *a, struct context_entry *context)
{
    struct assembly_action *action = assembly_act(a, ASSEMBLY_ANNOUNCE, context);
    set_completion(a, context, action);
    context->operation = OP_ANNOUNCE;
}

/* A weight that has changed little is not worth a write. */
static void register_weight(struct assembly *a, struct context_entry *context)
{
    struct chamber *chamber = context->chamber;
    int64_t weight = (int64_t)context->points, difference = weight - chamber->weight;
    if ((difference < 0 ? -difference : difference) * 10 <= chamber->weight)
        return;
    chamber->weight = weight;
    assembly_act(a, ASSEMBLY_REGISTER, context)->weight = weight;
}

void assembly_end_context(struct assembly *a, struct context_entry *context)
{
    uint32_t batches = context->batches;
    bool whole = context->lost == 0;
    a->counts->contexts++;
    a->counts->low_quality += is_low(a, context);
    a->counts->silent += context->cut && context->superseded_us == 0;
    a->counts->superseded += context->cut && context->superseded_us != 0;
    register_weight(a, context);
    assembly_each_message(context, a, assembly_acknowledge);
    if (context->revision)
        assembly_act(a, ASSEMBLY_DROP_NOTE, context);
    finish(a, context, batches, whole);
}

void assembly_settle_context(struct assembly *a, struct context_entry *context, const char *announcement)
{
    json_t *root = json_loads(announcement, 0, NULL);
    const json_t *count = json_object_get(root, "batches"), *lost = json_object_get(root, "batches_lost");
    uint32_t batches = (uint32_t)json_integer_value(count);
    bool whole = json_is_integer(lost) && json_integer_value(lost) == 0;
    json_decref(root);
    struct strbuf bytes;
    struct arena arena;
    struct batch_label label;
    strbuf_init(&bytes);
    arena_init(&arena, ASSEMBLY_ARENA_MIN_BYTES);
    for (size_t i = 0; i < context->held_count; i++) {
        const struct held *held = context->held[i];
        strbuf_clear(&bytes);
        if (batch_data_write(&held->data, &bytes, NULL) && bytes.failed)
            abort();
        assembly_take_settled(a, context, held->sequence, batches, whole, held->message, bytes.text,
                              bytes.length);
    }
    for (size_t i = 0; i < context->waiting_count; i++) {
        const struct waiting *waiting = &context->waiting[i];
        if (waiting->kind == NAMES_SAMPLE_END)
            assembly_take_duplicate(a, waiting->message);
        else if (batch_label_read(waiting->bytes, waiting->length, &arena, &label, NULL) == 0)
            assembly_take_settled(a, context, label.sequence, batches, whole, waiting->message,
                                  waiting->bytes, waiting->length);
    }
    strbuf_free(&bytes);
    arena_free(&arena);
    assembly_acknowledge_all(a, &context->unconfirmed);
    if (context->ended)
        assembly_take_duplicate(a, context->end_message);
    if (context->started)
        assembly_take_duplicate(a, context->start_message);
    if (context->revision)
        assembly_act(a, ASSEMBLY_DROP_NOTE, context);
    finish(a, context, batches, whole);
}
