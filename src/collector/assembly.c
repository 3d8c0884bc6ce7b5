/* The step: a context's next operation, by what was answered and by what time brings. The parts that it is
 * made of are in assembly_parts.h. */
#include "collector/assembly_parts.h"

#include <stdlib.h>
#include <string.h>

enum { PRESSURE_QUARTERS = 3 };

/* --- answers --- */

static void search(struct assembly *a, struct context_entry *context)
{
    assembly_act(a, ASSEMBLY_FIND, context);
    context->operation = OP_FIND;
}

static void on_looked_up(struct assembly *a, struct context_entry *context,
                         const struct assembly_event *event)
{
    context->looked_up = true;
    context->revision = event->revision;
    context->note_text = event->text ? assembly_need(strdup(event->text)) : NULL;
    if (context->started)
        assembly_adopt_note(a, context);
}

static void on_found(struct assembly *a, struct context_entry *context, const struct assembly_event *event)
{
    context->searched = true;
    if (event->code == 0)
        assembly_settle_context(a, context, event->text ? event->text : "{}");
    else if (context->refused) /* the store refused as if it were complete: begin again from the stream */
        assembly_forget_context(a, context);
}

static void on_noted(struct assembly *a, struct context_entry *context, const struct assembly_event *event)
{
    if (event->code) { /* another writes this context: what is not stored comes again, here or there */
        a->counts->conflicts++;
        assembly_forget_context(a, context);
        return;
    }
    context->revision = event->revision;
    assembly_acknowledge_all(a, &context->unconfirmed);
    if (context->piece == NULL)
        return; /* it only confirmed what was stored */
    struct piece *piece = context->piece;
    int64_t *last_us = context->piece_last_us;
    context->piece = NULL;
    context->piece_last_us = NULL;
    assembly_close_chunk(a, context, piece, last_us, piece->disordered, context->piece_to);
    assembly_put_chunk(a, context, piece);
}

static void on_stored(struct assembly *a, struct context_entry *context, const struct assembly_event *event)
{
    if (event->code == ERR_CONFLICT) {
        a->counts->conflicts++;
        context->refused = true;
        search(a, context);
    } else if (event->code) {
        assembly_refuse_context(a, context, "store", event->text ? event->text : "the store refuses it");
    } else if (event->kind == ASSEMBLE_PUT) {
        a->counts->chunks++;
        context->chunk++;
    } else {
        assembly_announce_context(a, context);
    }
}

static void on_answer(struct assembly *a, struct context_entry *context, const struct assembly_event *event)
{
    context->operation = OP_NONE;
    switch (event->kind) {
    case ASSEMBLE_LOOKED_UP:
        on_looked_up(a, context, event);
        break;
    case ASSEMBLE_FOUND:
        on_found(a, context, event);
        break;
    case ASSEMBLE_NOTED:
        on_noted(a, context, event);
        break;
    case ASSEMBLE_PUT:
    case ASSEMBLE_COMPLETED:
        on_stored(a, context, event);
        break;
    default:
        assembly_end_context(a, context);
        break;
    }
}

/* --- what time brings --- */

static void watch_gap(struct assembly *a, struct context_entry *context)
{
    uint32_t upper = context->pinned ? context->pin_to : assembly_known_batches(context);
    uint32_t missing = assembly_first_missing(context, upper);
    if (missing == upper) {
        context->gap_us = 0;
    } else if (context->gap_us == 0 || context->gap_at != missing) {
        context->gap_us = a->now_us;
        context->gap_at = missing;
    } else if (a->now_us - context->gap_us >= a->options.gap_us) {
        assembly_give_up_missing(a, context, upper);
        context->gap_us = 0;
    }
}

/* A context that will have no end. */
static void watch_silence(struct assembly *a, struct context_entry *context)
{
    if (context->ended || context->cut)
        return;
    bool superseded = context->superseded_us && a->now_us - context->superseded_us >= a->options.gap_us;
    if (!superseded && a->now_us - context->heard_us < a->options.silent_us)
        return;
    context->cut = true;
    context->cut_reason = superseded ? "the chamber began another context" : "the tool fell silent";
    if (!superseded)
        context->superseded_us = 0;
    assembly_give_up_missing(a, context, assembly_known_batches(context));
}

static void advance_without_start(struct assembly *a, struct context_entry *context)
{
    if (!context->searched) {
        search(a, context);
    } else if (context->gap_us == 0) {
        context->gap_us = a->now_us;
    } else if (a->now_us - context->gap_us >= a->options.gap_us) {
        a->counts->no_start += (int64_t)context->waiting_count;
        assembly_refuse_context(a, context, "no_start", "its start never came");
    }
}

/* What is left of a context that was completed long ago (its acknowledgements were lost, or equipment has
 * said something twice) looks like one with a gap, or like a start that nothing follows. The store knows. */
static bool is_in_doubt(const struct assembly *a, const struct context_entry *context)
{
    if (context->searched)
        return false;
    bool bare = context->highest == 0 && a->now_us - context->heard_us >= a->options.flush_us;
    return context->gap_us != 0 || bare;
}

static bool is_pressed(const struct assembly *a, const struct context_entry *context)
{
    return a->bytes / PRESSURE_QUARTERS >= a->options.buffer_bytes / 4 &&
           context->held_bytes >= a->options.buffer_bytes / (4 * (a->open + 1));
}

static bool is_due(struct assembly *a, const struct context_entry *context)
{
    if (context->held_count == 0)
        return false;
    if (context->held_points >= ASSEMBLY_CHUNK_POINTS)
        return true;
    if (is_pressed(a, context)) {
        a->counts->pressed++;
        return true;
    }
    return a->now_us >= context->flush_after_us &&
           a->now_us - context->held[0]->arrived_us >= a->options.flush_us;
}

static void advance(struct assembly *a, struct context_entry *context)
{
    if (context->finished || context->operation != OP_NONE)
        return;
    if (!context->looked_up) {
        assembly_act(a, ASSEMBLY_LOOK_UP, context);
        context->operation = OP_LOOK_UP;
        return;
    }
    if (!context->started) {
        advance_without_start(a, context);
        return;
    }
    watch_gap(a, context);
    if (is_in_doubt(a, context)) {
        search(a, context);
        return;
    }
    if (context->pinned) {
        assembly_rewrite_chunk(a, context);
        return;
    }
    watch_silence(a, context);
    uint32_t batches = assembly_known_batches(context);
    if ((context->ended || context->cut) && assembly_first_missing(context, batches) == batches)
        assembly_complete_context(a, context);
    else if (is_due(a, context))
        assembly_flush_context(a, context);
}

/* Too much is held, and nothing of the largest context can be stored: it comes again later. */
static void relieve(struct assembly *a)
{
    struct context_entry *largest = NULL, *next;
    if (a->bytes < a->options.buffer_bytes)
        return;
    for (struct context_entry *context = a->contexts; context; context = next) {
        next = context->hh.next;
        size_t bytes = context->held_bytes;
        for (size_t i = 0; i < context->waiting_count; i++)
            bytes += context->waiting[i].length;
        if (context->finished || context->operation != OP_NONE || bytes == 0)
            continue;
        if (largest == NULL || bytes > largest->held_bytes)
            largest = context;
    }
    if (largest == NULL)
        return;
    a->counts->pressed++;
    assembly_forget_context(a, largest);
}

static void on_time(struct assembly *a, bool blind)
{
    for (struct context_entry *context = a->contexts, *next; context; context = next) {
        next = context->hh.next;
        if (blind) {
            context->heard_us = a->now_us;
            context->gap_us = context->gap_us ? a->now_us : 0;
            context->superseded_us = context->superseded_us ? a->now_us : 0;
        }
        advance(a, context);
    }
    relieve(a);
}

static void forget_all(struct assembly *a)
{
    while (a->chambers)
        assembly_forget_chamber(a, a->chambers);
}

static void on_message(struct assembly *a, const struct assembly_event *event)
{
    a->counts->messages++;
    a->counts->bytes += (int64_t)event->length;
    a->messages++;
    switch (event->subject_kind) {
    case NAMES_SAMPLE_START:
        assembly_take_start(a, event);
        break;
    case NAMES_SAMPLE_DATA:
        assembly_take_data(a, event);
        break;
    case NAMES_SAMPLE_END:
        assembly_take_end(a, event);
        break;
    }
    struct chamber *chamber;
    HASH_FIND_STR(a->chambers, event->token, chamber);
    for (struct context_entry *context = chamber ? chamber->contexts : NULL, *next; context; context = next) {
        next = context->sibling;
        advance(a, context);
    }
}

static struct context_entry *context_by_number(struct assembly *a, uint64_t number)
{
    struct context_entry *context;
    HASH_FIND(hh, a->contexts, &number, sizeof number, context);
    return context;
}

void assembly_step(struct assembly *a, int64_t now_us, const struct assembly_event *event,
                   struct assembly_actions *actions)
{
    struct chamber *chamber;
    struct context_entry *context;
    a->now_us = now_us;
    a->actions = actions;
    switch (event->kind) {
    case ASSEMBLE_MESSAGE:
        on_message(a, event);
        break;
    case ASSEMBLE_TICK:
    case ASSEMBLE_BLIND:
        on_time(a, event->kind == ASSEMBLE_BLIND);
        break;
    case ASSEMBLE_RELEASE:
        HASH_FIND_STR(a->chambers, event->token, chamber);
        if (chamber)
            assembly_forget_chamber(a, chamber);
        break;
    case ASSEMBLE_ABANDON:
        forget_all(a);
        break;
    default:
        context = context_by_number(a, event->context);
        if (context && !context->finished) {
            on_answer(a, context, event);
            context = context_by_number(a, event->context);
            if (context)
                advance(a, context);
        }
        break;
    }
    a->actions = NULL;
}

bool assembly_flush(struct assembly *a, int64_t now_us, struct assembly_actions *actions)
{
    bool under_way = false;
    a->now_us = now_us;
    a->actions = actions;
    for (struct context_entry *context = a->contexts, *next; context; context = next) {
        next = context->hh.next;
        if (!context->finished && context->started && context->looked_up && !context->pinned &&
            context->operation == OP_NONE) {
            assembly_flush_context(a, context);
            if (context->operation == OP_NONE && context->unconfirmed.count > 0)
                assembly_note_chunk(a, context, context->next);
        }
        under_way |= context->operation != OP_NONE;
    }
    a->actions = NULL;
    return under_way;
}

/* --- life --- */

int assembly_create(const struct assembly_options *options, struct collect_counts *counts,
                    struct assembly **assembly, struct error *err)
{
    struct assembly *made = calloc(1, sizeof *made);
    if (made == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a collector");
    made->options = *options;
    made->counts = counts;
    *assembly = made;
    return 0;
}

void assembly_free(struct assembly *a)
{
    struct assembly_actions actions;
    assembly_actions_init(&actions);
    a->actions = &actions;
    forget_all(a);
    assembly_actions_free(&actions);
    free(a);
}

size_t assembly_bytes(const struct assembly *a)
{
    return a->bytes;
}

size_t assembly_contexts(const struct assembly *a)
{
    return a->open;
}

size_t assembly_messages(const struct assembly *a)
{
    return a->messages;
}
