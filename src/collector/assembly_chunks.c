/* Chunks: cut from the batches in order, noted before they are written, and taken over from another's note
 * (progress.h says why that is exact). */
#include "collector/assembly_parts.h"
#include "collector/progress.h"

#include <stdlib.h>
#include <string.h>

static void push_message(struct messages *messages, uint64_t message)
{
    messages->items =
        assembly_grow(messages->items, messages->count, &messages->capacity, sizeof *messages->items);
    messages->items[messages->count++] = message;
}

uint64_t assembly_samples_kept(const struct piece *piece)
{
    return piece ? piece->points : 0;
}

struct piece *assembly_make_piece(struct context_entry *context, uint32_t to, int64_t **last_us,
                                  size_t *left_out)
{
    size_t sensors = context->start.sensors.count, count = assembly_find_held(context, to);
    const struct batch_data **batches = assembly_need(malloc((count + 1) * sizeof *batches));
    struct piece *piece;
    for (size_t i = 0; i < count; i++)
        batches[i] = &context->held[i]->data;
    *last_us = assembly_need(malloc(sensors * sizeof **last_us));
    memcpy(*last_us, context->last_us, sensors * sizeof **last_us);
    if (piece_make(&context->start.sensors, batches, count, *last_us, &piece, NULL))
        abort();
    free(batches);
    *left_out = piece->disordered;
    if (piece->points > 0)
        return piece;
    piece_free(piece);
    return NULL;
}

void assembly_note_chunk(struct assembly *a, struct context_entry *context, uint32_t to)
{
    struct strbuf json;
    strbuf_init(&json);
    struct progress_note progress = {.context_id = context->id,
                                     .chunk = (uint32_t)context->chunk,
                                     .from = context->next,
                                     .to = to,
                                     .points = context->points,
                                     .lost = context->lost,
                                     .disordered = context->disordered,
                                     .lost_here = context->given_up.items,
                                     .lost_here_count = assembly_find_given_up(context, to),
                                     .last_us = context->last_us,
                                     .sensor_count = context->start.sensors.count};
    progress_note_format(&progress, &json);
    if (json.failed)
        abort();
    struct assembly_action *action = assembly_act(a, ASSEMBLY_NOTE, context);
    action->text = assembly_keep_bytes(a, json.text, json.length);
    action->length = json.length;
    action->revision = context->revision;
    context->operation = OP_NOTE;
    context->piece_to = to;
    strbuf_free(&json);
}

void assembly_close_chunk(struct assembly *a, struct context_entry *context, struct piece *piece,
                          int64_t *last_us, size_t left_out, uint32_t to)
{
    size_t lost = assembly_find_given_up(context, to), count = assembly_find_held(context, to);
    context->points += assembly_samples_kept(piece);
    context->disordered += left_out;
    a->counts->disordered += (int64_t)left_out;
    if (piece && piece->last_us > context->newest_us)
        context->newest_us = piece->last_us;
    context->lost += lost;
    context->given_up.count -= lost;
    if (lost > 0)
        memmove(context->given_up.items, context->given_up.items + lost,
                context->given_up.count * sizeof *context->given_up.items);
    for (size_t i = 0; i < count; i++) {
        push_message(&context->unconfirmed, context->held[i]->message);
        assembly_free_held(a, context, context->held[i]);
    }
    assembly_take_out_held(context, count);
    free(context->last_us);
    context->last_us = last_us;
    context->next = to;
    context->flush_after_us = a->now_us + a->options.flush_us;
}

void assembly_put_chunk(struct assembly *a, struct context_entry *context, struct piece *piece)
{
    struct assembly_action *action = assembly_act(a, ASSEMBLY_PUT, context);
    action->piece = piece;
    action->chunk = context->chunk;
    context->operation = OP_PUT;
}

void assembly_flush_context(struct assembly *a, struct context_entry *context)
{
    uint32_t to = assembly_first_missing(context, assembly_known_batches(context));
    if (assembly_find_held(context, to) == 0)
        return;
    size_t left_out;
    context->piece = assembly_make_piece(context, to, &context->piece_last_us, &left_out);
    if (context->piece == NULL) { /* nothing to store in it yet; it goes with what comes */
        free(context->piece_last_us);
        context->piece_last_us = NULL;
        context->flush_after_us = a->now_us + a->options.flush_us;
        return;
    }
    assembly_note_chunk(a, context, to);
}

/* --- recovery from a note --- */

void assembly_adopt_note(struct assembly *a, struct context_entry *context)
{
    struct progress_note found;
    struct error err;
    size_t sensors = context->start.sensors.count;
    if (context->note_text == NULL)
        return;
    int code = progress_note_parse(context->note_text, strlen(context->note_text), sensors, &context->arena,
                                   &found, &err);
    free(context->note_text);
    context->note_text = NULL;
    if (code || strcmp(found.context_id, context->id) != 0)
        return; /* what is stored cannot be known: it is stored again */
    a->counts->taken_over++;
    context->chunk = (int32_t)found.chunk;
    context->next = found.from;
    context->pinned = found.to > found.from;
    context->pin_to = found.to;
    context->points = found.points;
    context->lost = found.lost;
    context->disordered = found.disordered;
    memcpy(context->last_us, found.last_us, sensors * sizeof *context->last_us);
    for (size_t i = 0; i < found.lost_here_count; i++)
        assembly_give_up(context, found.lost_here[i]);
    for (size_t i = 0; i < sensors; i++)
        if (context->last_us[i] > context->newest_us)
            context->newest_us = context->last_us[i];
    size_t stored = assembly_find_held(context, context->next);
    for (size_t i = 0; i < stored; i++) {
        assembly_take_duplicate(a, context->held[i]->message);
        assembly_free_held(a, context, context->held[i]);
    }
    assembly_take_out_held(context, stored);
}

void assembly_rewrite_chunk(struct assembly *a, struct context_entry *context)
{
    int64_t *last_us;
    size_t left_out;
    if (assembly_first_missing(context, context->pin_to) < context->pin_to)
        return;
    struct piece *piece = assembly_make_piece(context, context->pin_to, &last_us, &left_out);
    context->pinned = false;
    assembly_close_chunk(a, context, piece, last_us, left_out, context->pin_to);
    if (piece)
        assembly_put_chunk(a, context, piece);
    else /* none of its batches came again: whether it is stored, the completion will tell */
        context->chunk++;
}
