/* What is known while contexts are put together: chambers, their contexts, and of each context the batches
 * that it holds, lacks and has given up. */
#include "collector/assembly_parts.h"

#include <stdlib.h>
#include <string.h>

/* --- memory --- */

void *assembly_need(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

void *assembly_grow(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity ? 2 * *capacity : 8;
    return assembly_need(realloc(items, *capacity * size));
}

/* --- chambers and contexts --- */

struct chamber *assembly_have_chamber(struct assembly *a, const struct assembly_event *event)
{
    struct chamber *chamber;
    HASH_FIND_STR(a->chambers, event->token, chamber);
    if (chamber)
        return chamber;
    chamber = assembly_need(calloc(1, sizeof *chamber));
    chamber->token = assembly_need(strdup(event->token));
    chamber->tool = assembly_need(strdup(event->tool));
    chamber->name = assembly_need(strdup(event->chamber));
    HASH_ADD_KEYPTR(hh, a->chambers, chamber->token, strlen(chamber->token), chamber);
    return chamber;
}

void assembly_free_held(struct assembly *a, struct context_entry *context, struct held *held)
{
    a->bytes -= held->bytes;
    context->held_bytes -= held->bytes;
    context->held_points -= held->points;
    arena_free(&held->arena);
    free(held);
}

void assembly_drop_waiting(struct assembly *a, struct context_entry *context)
{
    for (size_t i = 0; i < context->waiting_count; i++) {
        a->bytes -= context->waiting[i].length + ASSEMBLY_BATCH_OVERHEAD_BYTES;
        free(context->waiting[i].bytes);
    }
    context->waiting_count = 0;
}

void assembly_empty_context(struct assembly *a, struct context_entry *context)
{
    for (size_t i = 0; i < context->held_count; i++)
        assembly_free_held(a, context, context->held[i]);
    context->held_count = 0;
    assembly_drop_waiting(a, context);
    if (context->piece)
        piece_free(context->piece);
    a->bytes -= context->start_length;
    context->start_length = 0;
    arena_free(&context->arena);
    void *blocks[] = {context->note_text,      context->last_us,           context->held,
                      context->given_up.items, context->unconfirmed.items, context->waiting,
                      context->piece_last_us,  context->announcement};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
    context->note_text = NULL;
    context->last_us = context->piece_last_us = NULL;
    context->held = NULL;
    context->given_up = (struct sequences){0};
    context->unconfirmed = (struct messages){0};
    context->waiting = NULL;
    context->piece = NULL;
    context->announcement = NULL;
    context->held_capacity = context->waiting_capacity = 0;
    context->started = context->ended = false;
}

void assembly_remove_context(struct assembly *a, struct context_entry *context)
{
    struct context_entry **link = &context->chamber->contexts;
    while (*link != context)
        link = &(*link)->sibling;
    *link = context->sibling;
    HASH_DEL(a->contexts, context);
    if (!context->finished)
        a->open--;
    assembly_empty_context(a, context);
    free(context->id);
    free(context);
}

void assembly_each_message(struct context_entry *context, struct assembly *a,
                           void (*settle)(struct assembly *a, uint64_t message))
{
    for (size_t i = 0; i < context->held_count; i++)
        settle(a, context->held[i]->message);
    for (size_t i = 0; i < context->unconfirmed.count; i++)
        settle(a, context->unconfirmed.items[i]);
    for (size_t i = 0; i < context->waiting_count; i++)
        settle(a, context->waiting[i].message);
    if (context->ended)
        settle(a, context->end_message);
    if (context->started)
        settle(a, context->start_message);
}

void assembly_forget_context(struct assembly *a, struct context_entry *context)
{
    if (!context->finished)
        assembly_each_message(context, a, assembly_forget_message);
    assembly_remove_context(a, context);
}

void assembly_trim_finished(struct assembly *a, struct chamber *chamber)
{
    int kept = 0;
    for (struct context_entry *context = chamber->contexts, *sibling; context; context = sibling) {
        sibling = context->sibling;
        if (context->finished && ++kept > ASSEMBLY_FINISHED_KEPT)
            assembly_remove_context(a, context);
    }
}

struct context_entry *assembly_have_context(struct assembly *a, struct chamber *chamber, const char *id)
{
    for (struct context_entry *context = chamber->contexts; context; context = context->sibling)
        if (strcmp(context->id, id) == 0)
            return context;
    struct context_entry *context = assembly_need(calloc(1, sizeof *context));
    context->number = ++a->last_number;
    context->chamber = chamber;
    context->id = assembly_need(strdup(id));
    context->newest_us = INT64_MIN;
    context->heard_us = a->now_us;
    context->flush_after_us = a->now_us;
    context->sibling = chamber->contexts;
    chamber->contexts = context;
    arena_init(&context->arena, ASSEMBLY_ARENA_MIN_BYTES);
    HASH_ADD(hh, a->contexts, number, sizeof context->number, context);
    a->open++;
    return context;
}

void assembly_forget_chamber(struct assembly *a, struct chamber *chamber)
{
    while (chamber->contexts)
        assembly_forget_context(a, chamber->contexts);
    HASH_DEL(a->chambers, chamber);
    free(chamber->token);
    free(chamber->tool);
    free(chamber->name);
    free(chamber);
}

/* --- batches by number --- */

size_t assembly_find_held(const struct context_entry *context, uint32_t sequence)
{
    size_t low = 0, high = context->held_count;
    if (high > 0 && context->held[high - 1]->sequence < sequence)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (context->held[middle]->sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool assembly_is_held(const struct context_entry *context, uint32_t sequence)
{
    size_t place = assembly_find_held(context, sequence);
    return place < context->held_count && context->held[place]->sequence == sequence;
}

void assembly_hold_batch(struct assembly *a, struct context_entry *context, struct held *held)
{
    size_t place = assembly_find_held(context, held->sequence);
    context->held =
        assembly_grow(context->held, context->held_count, &context->held_capacity, sizeof *context->held);
    memmove(context->held + place + 1, context->held + place,
            (context->held_count - place) * sizeof *context->held);
    context->held[place] = held;
    context->held_count++;
    context->held_bytes += held->bytes;
    context->held_points += held->points;
    a->bytes += held->bytes;
}

/* Takes the first `count` out, without freeing them. */
void assembly_take_out_held(struct context_entry *context, size_t count)
{
    context->held_count -= count;
    if (count > 0)
        memmove(context->held, context->held + count, context->held_count * sizeof *context->held);
}

size_t assembly_find_given_up(const struct context_entry *context, uint32_t sequence)
{
    size_t place = 0;
    while (place < context->given_up.count && context->given_up.items[place] < sequence)
        place++;
    return place;
}

bool assembly_is_given_up(const struct context_entry *context, uint32_t sequence)
{
    size_t place = assembly_find_given_up(context, sequence);
    return place < context->given_up.count && context->given_up.items[place] == sequence;
}

void assembly_give_up(struct context_entry *context, uint32_t sequence)
{
    struct sequences *list = &context->given_up;
    size_t place = assembly_find_given_up(context, sequence);
    if (assembly_is_given_up(context, sequence))
        return;
    list->items = assembly_grow(list->items, list->count, &list->capacity, sizeof *list->items);
    memmove(list->items + place + 1, list->items + place, (list->count - place) * sizeof *list->items);
    list->items[place] = sequence;
    list->count++;
}

uint32_t assembly_first_missing(const struct context_entry *context, uint32_t upper)
{
    uint32_t sequence = context->next;
    for (size_t h = 0, g = 0; sequence < upper; sequence++) {
        if (h < context->held_count && context->held[h]->sequence == sequence)
            h++;
        else if (g < context->given_up.count && context->given_up.items[g] == sequence)
            g++;
        else
            break;
    }
    return sequence;
}

void assembly_give_up_missing(struct assembly *a, struct context_entry *context, uint32_t upper)
{
    for (uint32_t missing; (missing = assembly_first_missing(context, upper)) < upper;) {
        assembly_give_up(context, missing);
        a->counts->lost_batches++;
    }
}

uint32_t assembly_known_batches(const struct context_entry *context)
{
    uint32_t upper = context->highest > context->next ? context->highest : context->next;
    if (context->ended && context->end_batches > upper)
        upper = context->end_batches;
    return context->pinned && context->pin_to > upper ? context->pin_to : upper;
}
