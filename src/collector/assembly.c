#include "collector/assembly.h"

#include "base/clock.h"
#include "collector/progress.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

enum {
    BATCH_OVERHEAD_BYTES = 512,
    ARENA_MIN_BYTES = 1024,
    ARENA_MAX_BYTES = 64 * 1024,
    BEFORE_START_US = 60 * 1000 * 1000, /* samples may be so much older than their start */
    PRESSURE_QUARTERS = 3
};

enum operation { OP_NONE, OP_LOOK_UP, OP_FIND, OP_NOTE, OP_PUT, OP_COMPLETE, OP_ANNOUNCE };

/* One batch, decoded. */
struct held {
    uint32_t sequence;
    uint64_t message;
    int64_t arrived_us;
    size_t bytes;
    size_t points;
    struct batch_data data;
    struct arena arena;
};

/* A message that cannot be used yet: its start has not come. */
struct waiting {
    uint64_t message;
    enum names_sample_kind kind;
    void *bytes;
    size_t length;
};

struct sequences {
    uint32_t *items; /* ascending */
    size_t count, capacity;
};

struct messages {
    uint64_t *items;
    size_t count, capacity;
};

struct chamber;

struct context_entry {
    uint64_t number; /* how the carrier names it */
    struct chamber *chamber;
    struct context_entry *sibling; /* of the chamber: the newest first */
    char *id;
    UT_hash_handle hh;

    bool finished; /* complete: what comes for it is a duplicate, or late */
    uint32_t finished_batches;
    bool finished_whole; /* no batch of it was given up */

    enum operation operation;
    bool looked_up, searched; /* its note; whether it is complete */
    bool refused;             /* the store takes it for complete */
    bool closing;             /* its completion is under way: it takes no more batches */
    uint32_t batches;         /* while closing: how many it has */
    char *note_text;          /* as found, until the start is known */
    uint64_t revision;        /* of its note; 0: there is none */
    bool pinned;              /* a chunk was begun by someone before: [next, pin_to) are its batches */
    uint32_t pin_to;

    struct arena arena; /* of the start */
    bool started;
    struct batch_start start;
    uint64_t start_message;
    void *start_bytes;
    size_t start_length;
    bool ended;
    int64_t end_us;
    uint32_t end_batches;
    uint64_t end_message;

    uint32_t next; /* batches below are in chunks that were noted */
    int32_t chunk; /* the next chunk's number */
    uint64_t points, lost, disordered;
    int64_t *last_us; /* by sensor */
    int64_t newest_us;
    struct held **held; /* ascending by number; all of them are `next` or above */
    size_t held_count, held_capacity;
    size_t held_points, held_bytes;
    struct sequences given_up;   /* `next` or above */
    struct messages unconfirmed; /* of the newest chunk: acknowledged when it is certain that it is stored */
    struct waiting *waiting;
    size_t waiting_count, waiting_capacity;
    uint32_t highest; /* number of a batch taken, + 1 */

    struct piece *piece; /* made, while its note is being written */
    uint32_t piece_to;
    int64_t *piece_last_us;

    int64_t heard_us, flush_after_us;
    int64_t gap_us; /* since when the first missing batch is waited for; 0: none is missing */
    uint32_t gap_at;
    int64_t superseded_us; /* 0, or when a later start of the chamber came */
    bool cut;              /* no end will come: silent or superseded */
    const char *cut_reason;
    char *announcement;
};

struct chamber {
    char *token, *tool, *name;
    struct context_entry *contexts;
    int64_t weight;
    UT_hash_handle hh;
};

struct assembly {
    struct assembly_options options;
    struct collect_counts *counts;
    struct chamber *chambers;
    struct context_entry *contexts; /* by number */
    uint64_t last_number;
    size_t bytes, open, messages;
    int64_t now_us;
    struct assembly_actions *actions; /* of the step under way */
};

/* --- memory --- */

/* There is no way to go on without it, and a crash loses nothing: the stream gives everything again. */
static void *need(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

static void *grow(void *items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity ? 2 * *capacity : 8;
    return need(realloc(items, *capacity * size));
}

static void push_message(struct messages *messages, uint64_t message)
{
    messages->items = grow(messages->items, messages->count, &messages->capacity, sizeof *messages->items);
    messages->items[messages->count++] = message;
}

/* --- actions --- */

void assembly_actions_init(struct assembly_actions *actions)
{
    *actions = (struct assembly_actions){.count = 0};
    arena_init(&actions->arena, 16 * 1024);
}

void assembly_actions_clear(struct assembly_actions *actions)
{
    actions->count = 0;
    arena_reset(&actions->arena);
}

void assembly_actions_free(struct assembly_actions *actions)
{
    arena_free(&actions->arena);
    free(actions->items);
}

static struct assembly_action *act(struct assembly *a, enum assembly_action_kind kind,
                                   const struct context_entry *context)
{
    struct assembly_actions *actions = a->actions;
    actions->items = grow(actions->items, actions->count, &actions->capacity, sizeof *actions->items);
    struct assembly_action *action = &actions->items[actions->count++];
    *action = (struct assembly_action){.kind = kind};
    if (context) {
        action->context = context->number;
        action->tool = need(arena_strdup(&actions->arena, context->chamber->tool));
        action->chamber = need(arena_strdup(&actions->arena, context->chamber->name));
        action->token = need(arena_strdup(&actions->arena, context->chamber->token));
        action->context_id = need(arena_strdup(&actions->arena, context->id));
    }
    return action;
}

static const void *keep_bytes(struct assembly *a, const void *bytes, size_t length)
{
    void *copy = need(arena_alloc(&a->actions->arena, length + 1));
    memcpy(copy, bytes, length);
    ((char *)copy)[length] = '\0';
    return copy;
}

static void acknowledge(struct assembly *a, uint64_t message)
{
    act(a, ASSEMBLY_ACK, NULL)->message = message;
    a->messages--;
}

static void acknowledge_all(struct assembly *a, struct messages *messages)
{
    for (size_t i = 0; i < messages->count; i++)
        acknowledge(a, messages->items[i]);
    messages->count = 0;
}

static void bury(struct assembly *a, const struct chamber *chamber, const char *context_id, uint64_t message,
                 enum names_sample_kind kind, const void *bytes, size_t length, const char *reason_class,
                 const char *reason)
{
    struct assembly_action *action = act(a, ASSEMBLY_BURY, NULL);
    struct arena *arena = &a->actions->arena;
    action->message = message;
    action->tool = chamber ? need(arena_strdup(arena, chamber->tool)) : NULL;
    action->chamber = chamber ? need(arena_strdup(arena, chamber->name)) : NULL;
    action->context_id = context_id ? need(arena_strdup(arena, context_id)) : NULL;
    action->subject_kind = kind;
    action->bytes = keep_bytes(a, bytes, length);
    action->length = length;
    action->reason_class = reason_class;
    action->reason = need(arena_strdup(arena, reason));
    a->counts->dead++;
    a->messages--;
}

/* --- chambers and contexts --- */

static struct chamber *chamber_of(struct assembly *a, const struct assembly_event *event)
{
    struct chamber *chamber;
    HASH_FIND_STR(a->chambers, event->token, chamber);
    if (chamber)
        return chamber;
    chamber = need(calloc(1, sizeof *chamber));
    chamber->token = need(strdup(event->token));
    chamber->tool = need(strdup(event->tool));
    chamber->name = need(strdup(event->chamber));
    HASH_ADD_KEYPTR(hh, a->chambers, chamber->token, strlen(chamber->token), chamber);
    return chamber;
}

static struct context_entry *context_by_number(struct assembly *a, uint64_t number)
{
    struct context_entry *context;
    HASH_FIND(hh, a->contexts, &number, sizeof number, context);
    return context;
}

static void held_free(struct assembly *a, struct context_entry *context, struct held *held)
{
    a->bytes -= held->bytes;
    context->held_bytes -= held->bytes;
    context->held_points -= held->points;
    arena_free(&held->arena);
    free(held);
}

static void drop_waiting(struct assembly *a, struct context_entry *context)
{
    for (size_t i = 0; i < context->waiting_count; i++) {
        a->bytes -= context->waiting[i].length + BATCH_OVERHEAD_BYTES;
        free(context->waiting[i].bytes);
    }
    context->waiting_count = 0;
}

/* Gives back all that an open context holds; its messages are the caller's to settle before. */
static void empty_context(struct assembly *a, struct context_entry *context)
{
    for (size_t i = 0; i < context->held_count; i++)
        held_free(a, context, context->held[i]);
    context->held_count = 0;
    drop_waiting(a, context);
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

static void remove_context(struct assembly *a, struct context_entry *context)
{
    struct context_entry **link = &context->chamber->contexts;
    while (*link != context)
        link = &(*link)->sibling;
    *link = context->sibling;
    HASH_DEL(a->contexts, context);
    if (!context->finished)
        a->open--;
    empty_context(a, context);
    free(context->id);
    free(context);
}

/* Every message that an open context holds. */
static void each_message(struct context_entry *context, struct assembly *a,
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

static void forget_message(struct assembly *a, uint64_t message)
{
    act(a, ASSEMBLY_FORGET, NULL)->message = message;
    a->messages--;
}

/* Lets go of a context: what was not acknowledged comes again. */
static void forget_context(struct assembly *a, struct context_entry *context)
{
    if (!context->finished)
        each_message(context, a, forget_message);
    remove_context(a, context);
}

/* The oldest finished contexts of a chamber are not remembered for ever. */
static void trim_finished(struct assembly *a, struct chamber *chamber)
{
    int kept = 0;
    for (struct context_entry *context = chamber->contexts, *sibling; context; context = sibling) {
        sibling = context->sibling;
        if (context->finished && ++kept > ASSEMBLY_FINISHED_KEPT)
            remove_context(a, context);
    }
}

static struct context_entry *context_of(struct assembly *a, struct chamber *chamber, const char *id)
{
    for (struct context_entry *context = chamber->contexts; context; context = context->sibling)
        if (strcmp(context->id, id) == 0)
            return context;
    struct context_entry *context = need(calloc(1, sizeof *context));
    context->number = ++a->last_number;
    context->chamber = chamber;
    context->id = need(strdup(id));
    context->newest_us = INT64_MIN;
    context->heard_us = a->now_us;
    context->flush_after_us = a->now_us;
    context->sibling = chamber->contexts;
    chamber->contexts = context;
    arena_init(&context->arena, ARENA_MIN_BYTES);
    HASH_ADD(hh, a->contexts, number, sizeof context->number, context);
    a->open++;
    return context;
}

/* --- batches by number --- */

static size_t held_place(const struct context_entry *context, uint32_t sequence)
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

static bool is_held(const struct context_entry *context, uint32_t sequence)
{
    size_t place = held_place(context, sequence);
    return place < context->held_count && context->held[place]->sequence == sequence;
}

static void hold(struct assembly *a, struct context_entry *context, struct held *held)
{
    size_t place = held_place(context, held->sequence);
    context->held = grow(context->held, context->held_count, &context->held_capacity, sizeof *context->held);
    memmove(context->held + place + 1, context->held + place,
            (context->held_count - place) * sizeof *context->held);
    context->held[place] = held;
    context->held_count++;
    context->held_bytes += held->bytes;
    context->held_points += held->points;
    a->bytes += held->bytes;
}

/* Takes the first `count` out, without freeing them. */
static void take_out(struct context_entry *context, size_t count)
{
    context->held_count -= count;
    if (count > 0)
        memmove(context->held, context->held + count, context->held_count * sizeof *context->held);
}

static size_t given_up_place(const struct context_entry *context, uint32_t sequence)
{
    size_t place = 0;
    while (place < context->given_up.count && context->given_up.items[place] < sequence)
        place++;
    return place;
}

static bool is_given_up(const struct context_entry *context, uint32_t sequence)
{
    size_t place = given_up_place(context, sequence);
    return place < context->given_up.count && context->given_up.items[place] == sequence;
}

static void give_up(struct context_entry *context, uint32_t sequence)
{
    struct sequences *list = &context->given_up;
    size_t place = given_up_place(context, sequence);
    if (is_given_up(context, sequence))
        return;
    list->items = grow(list->items, list->count, &list->capacity, sizeof *list->items);
    memmove(list->items + place + 1, list->items + place, (list->count - place) * sizeof *list->items);
    list->items[place] = sequence;
    list->count++;
}

/* The first number in [next, upper) that is neither held nor given up; `upper` when there is none. */
static uint32_t first_missing(const struct context_entry *context, uint32_t upper)
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

static void give_up_missing(struct assembly *a, struct context_entry *context, uint32_t upper)
{
    for (uint32_t missing; (missing = first_missing(context, upper)) < upper;) {
        give_up(context, missing);
        a->counts->lost_batches++;
    }
}

/* How many batches there are, as far as is known. */
static uint32_t known_batches(const struct context_entry *context)
{
    uint32_t upper = context->highest > context->next ? context->highest : context->next;
    if (context->ended && context->end_batches > upper)
        upper = context->end_batches;
    return context->pinned && context->pin_to > upper ? context->pin_to : upper;
}

/* --- taking messages --- */

static void take_duplicate(struct assembly *a, uint64_t message)
{
    a->counts->duplicates++;
    acknowledge(a, message);
}

static void bury_late(struct assembly *a, struct context_entry *context, uint64_t message, const void *bytes,
                      size_t length, const char *why)
{
    char reason[ASSEMBLY_REASON_BYTES];
    snprintf(reason, sizeof reason, "context %s: %s", context->id, why);
    a->counts->late++;
    bury(a, context->chamber, context->id, message, NAMES_SAMPLE_DATA, bytes, length, "late", reason);
}

/* A batch for a context that is complete, or below what is stored of it. */
static void take_settled(struct assembly *a, struct context_entry *context, uint32_t sequence,
                         uint32_t batches, bool whole, uint64_t message, const void *bytes, size_t length)
{
    if (sequence < batches && whole)
        take_duplicate(a, message);
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
    give_up(context, sequence);
    if (sequence >= context->highest)
        context->highest = sequence + 1;
    a->counts->lost_batches++;
    bury(a, context->chamber, context->id, message, NAMES_SAMPLE_DATA, bytes, length, reason_class, reason);
}

static void take_new_batch(struct assembly *a, struct context_entry *context, const struct batch_label *label,
                           uint64_t message, const void *bytes, size_t length)
{
    struct held *held = need(calloc(1, sizeof *held));
    struct error err;
    size_t block = 3 * length < ARENA_MIN_BYTES   ? ARENA_MIN_BYTES
                   : 3 * length > ARENA_MAX_BYTES ? ARENA_MAX_BYTES
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
    held->bytes = held->arena.used_bytes + block / 2 + BATCH_OVERHEAD_BYTES;
    held->points = count_points(&held->data);
    a->counts->batches++;
    a->counts->batches_json += !label->binary;
    a->counts->points += (int64_t)held->points;
    a->counts->out_of_order += label->sequence + 1 < context->highest;
    if (label->sequence >= context->highest)
        context->highest = label->sequence + 1;
    hold(a, context, held);
}

static void take_batch(struct assembly *a, struct context_entry *context, const struct batch_label *label,
                       uint64_t message, const void *bytes, size_t length)
{
    if (label->sequence < context->next)
        take_settled(a, context, label->sequence, context->next, context->lost == 0, message, bytes, length);
    else if (is_given_up(context, label->sequence))
        bury_late(a, context, message, bytes, length, "the batch was given up before it came");
    else if (is_held(context, label->sequence))
        take_duplicate(a, message);
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
    context->waiting =
        grow(context->waiting, context->waiting_count, &context->waiting_capacity, sizeof *context->waiting);
    struct waiting *waiting = &context->waiting[context->waiting_count++];
    *waiting = (struct waiting){
        .message = message, .kind = kind, .bytes = need(malloc(length + 1)), .length = length};
    memcpy(waiting->bytes, bytes, length);
    a->bytes += length + BATCH_OVERHEAD_BYTES;
}

static void take_end(struct assembly *a, struct context_entry *context, const struct batch_end *end,
                     uint64_t message)
{
    if (context->ended) {
        take_duplicate(a, message);
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
    bury(a, &names, NULL, event->message, event->subject_kind, event->bytes, event->length, "undecodable",
         err->text);
}

static void on_data(struct assembly *a, const struct assembly_event *event)
{
    struct arena arena;
    struct batch_label label;
    struct error err;
    arena_init(&arena, ARENA_MIN_BYTES);
    int code = batch_label_read(event->bytes, event->length, &arena, &label, &err);
    if (code) {
        bury_undecodable(a, event, &err);
    } else {
        struct context_entry *context = context_of(a, chamber_of(a, event), label.context_id);
        context->heard_us = a->now_us;
        if (context->finished)
            take_settled(a, context, label.sequence, context->finished_batches, context->finished_whole,
                         event->message, event->bytes, event->length);
        else if (context->started)
            take_batch(a, context, &label, event->message, event->bytes, event->length);
        else if (context->waiting_count < ASSEMBLY_NOT_READY_MAX)
            wait_for_start(a, context, NAMES_SAMPLE_DATA, event->message, event->bytes, event->length);
        else
            forget_message(a, event->message);
    }
    arena_free(&arena);
}

static void on_end(struct assembly *a, const struct assembly_event *event)
{
    struct arena arena;
    struct batch_end end;
    struct error err;
    arena_init(&arena, ARENA_MIN_BYTES);
    int code = batch_end_read(event->bytes, event->length, &arena, &end, &err);
    if (code) {
        bury_undecodable(a, event, &err);
    } else {
        struct context_entry *context = context_of(a, chamber_of(a, event), end.context_id);
        context->heard_us = a->now_us;
        if (context->finished)
            take_duplicate(a, event->message);
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
    arena_init(&arena, ARENA_MIN_BYTES);
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
    drop_waiting(a, context);
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

static void adopt_note(struct assembly *a, struct context_entry *context);

static void begin_context(struct assembly *a, struct context_entry *context,
                          const struct assembly_event *event, struct arena *arena,
                          const struct batch_start *start)
{
    arena_free(&context->arena);
    context->arena = *arena;
    context->started = true;
    context->start = *start;
    context->start_message = event->message;
    context->start_bytes = need(arena_alloc(&context->arena, event->length + 1));
    memcpy(context->start_bytes, event->bytes, event->length);
    context->start_length = event->length;
    a->bytes += event->length;
    context->last_us = need(malloc(start->sensors.count * sizeof *context->last_us));
    for (size_t i = 0; i < start->sensors.count; i++)
        context->last_us[i] = INT64_MIN;
    context->gap_us = 0;
    if (context->looked_up)
        adopt_note(a, context);
    take_waiting(a, context);
    supersede(a, context);
}

static void on_start(struct assembly *a, const struct assembly_event *event)
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
    struct context_entry *context = context_of(a, chamber_of(a, event), start.context.id);
    context->heard_us = a->now_us;
    if (context->finished || context->started) {
        take_duplicate(a, event->message);
        arena_free(&arena);
        return;
    }
    begin_context(a, context, event, &arena, &start);
}

/* --- chunks --- */

/* Batches [next, to) as one piece; NULL when no sample of them is kept. last_us is a copy brought up to date,
 * left_out how many samples were not kept. */
static struct piece *make_piece(struct context_entry *context, uint32_t to, int64_t **last_us,
                                size_t *left_out)
{
    size_t sensors = context->start.sensors.count, count = held_place(context, to);
    const struct batch_data **batches = need(malloc((count + 1) * sizeof *batches));
    struct piece *piece;
    for (size_t i = 0; i < count; i++)
        batches[i] = &context->held[i]->data;
    *last_us = need(malloc(sensors * sizeof **last_us));
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

static void note(struct assembly *a, struct context_entry *context, uint32_t to)
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
                                     .lost_here_count = given_up_place(context, to),
                                     .last_us = context->last_us,
                                     .sensor_count = context->start.sensors.count};
    progress_note_format(&progress, &json);
    if (json.failed)
        abort();
    struct assembly_action *action = act(a, ASSEMBLY_NOTE, context);
    action->text = keep_bytes(a, json.text, json.length);
    action->length = json.length;
    action->revision = context->revision;
    context->operation = OP_NOTE;
    context->piece_to = to;
    strbuf_free(&json);
}

static uint64_t samples_kept(const struct piece *piece)
{
    return piece ? piece->points : 0;
}

/* The batches of [next, to) are in `piece`: they become the newest chunk's, whose messages are kept back
 * until it is certain that it is stored. */
static void close_chunk(struct assembly *a, struct context_entry *context, struct piece *piece,
                        int64_t *last_us, size_t left_out, uint32_t to)
{
    size_t lost = given_up_place(context, to), count = held_place(context, to);
    context->points += samples_kept(piece);
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
        held_free(a, context, context->held[i]);
    }
    take_out(context, count);
    free(context->last_us);
    context->last_us = last_us;
    context->next = to;
    context->flush_after_us = a->now_us + a->options.flush_us;
}

static void put(struct assembly *a, struct context_entry *context, struct piece *piece)
{
    struct assembly_action *action = act(a, ASSEMBLY_PUT, context);
    action->piece = piece;
    action->chunk = context->chunk;
    context->operation = OP_PUT;
}

/* Begins a chunk of what can be stored now: notes it first. */
static void flush(struct assembly *a, struct context_entry *context)
{
    uint32_t to = first_missing(context, known_batches(context));
    if (held_place(context, to) == 0)
        return;
    size_t left_out;
    context->piece = make_piece(context, to, &context->piece_last_us, &left_out);
    if (context->piece == NULL) { /* nothing to store in it yet; it goes with what comes */
        free(context->piece_last_us);
        context->piece_last_us = NULL;
        context->flush_after_us = a->now_us + a->options.flush_us;
        return;
    }
    note(a, context, to);
}

/* A chunk that someone began before: once all its batches are here it is written again. */
static void advance_pinned(struct assembly *a, struct context_entry *context)
{
    int64_t *last_us;
    size_t left_out;
    if (first_missing(context, context->pin_to) < context->pin_to)
        return;
    struct piece *piece = make_piece(context, context->pin_to, &last_us, &left_out);
    context->pinned = false;
    close_chunk(a, context, piece, last_us, left_out, context->pin_to);
    if (piece)
        put(a, context, piece);
    else /* none of its batches came again: whether it is stored, the completion will tell */
        context->chunk++;
}

static void adopt_note(struct assembly *a, struct context_entry *context)
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
        give_up(context, found.lost_here[i]);
    for (size_t i = 0; i < sensors; i++)
        if (context->last_us[i] > context->newest_us)
            context->newest_us = context->last_us[i];
    size_t stored = held_place(context, context->next);
    for (size_t i = 0; i < stored; i++) {
        take_duplicate(a, context->held[i]->message);
        held_free(a, context, context->held[i]);
    }
    take_out(context, stored);
}

/* --- the end of a context --- */

static void finish(struct assembly *a, struct context_entry *context, uint32_t batches, bool whole)
{
    empty_context(a, context);
    context->operation = OP_NONE;
    context->finished = true;
    context->finished_batches = batches;
    context->finished_whole = whole;
    a->open--;
    trim_finished(a, context->chamber);
}

static void bury_held(struct assembly *a, struct context_entry *context, const struct held *held,
                      const char *reason_class, const char *reason)
{
    struct strbuf bytes;
    strbuf_init(&bytes);
    if (batch_data_write(&held->data, &bytes, NULL) && bytes.failed)
        abort();
    bury(a, context->chamber, context->id, held->message, NAMES_SAMPLE_DATA, bytes.text, bytes.length,
         reason_class, reason);
    strbuf_free(&bytes);
}

/* Everything that is held of a context goes to the dead letters: it cannot become a T-chart. */
static void refuse_context(struct assembly *a, struct context_entry *context, const char *reason_class,
                           const char *why)
{
    char reason[ASSEMBLY_REASON_BYTES];
    snprintf(reason, sizeof reason, "context %s: %s", context->id, why);
    for (size_t i = 0; i < context->held_count; i++)
        bury_held(a, context, context->held[i], reason_class, reason);
    for (size_t i = 0; i < context->waiting_count; i++)
        bury(a, context->chamber, context->id, context->waiting[i].message, context->waiting[i].kind,
             context->waiting[i].bytes, context->waiting[i].length, reason_class, reason);
    acknowledge_all(a, &context->unconfirmed);
    if (context->ended)
        acknowledge(a, context->end_message);
    if (context->started)
        bury(a, context->chamber, context->id, context->start_message, NAMES_SAMPLE_START,
             context->start_bytes, context->start_length, reason_class, reason);
    if (context->revision)
        act(a, ASSEMBLY_DROP_NOTE, context);
    remove_context(a, context);
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
    context->announcement = need(strbuf_take(&json));
    strbuf_free(&extra);
}

static void set_completion(struct assembly *a, const struct context_entry *context,
                           struct assembly_action *action)
{
    struct arena *arena = &a->actions->arena;
    action->completion =
        (struct assembly_completion){.recipe = need(arena_strdup(arena, context->start.context.recipe)),
                                     .lot = need(arena_strdup(arena, context->start.context.lot)),
                                     .end_us = context->end_us,
                                     .chunk_count = context->chunk,
                                     .announcement = need(arena_strdup(arena, context->announcement))};
}

/* Everything is here, or given up: the rest becomes the last chunk, together with the completion. What is
 * held stays, in case the store knows the context as complete already, with less. */
static void complete(struct assembly *a, struct context_entry *context)
{
    int64_t *last_us;
    struct piece *piece;
    context->batches = known_batches(context);
    size_t left_out;
    piece = make_piece(context, context->batches, &last_us, &left_out);
    free(last_us);
    if (piece == NULL && context->points == 0) {
        a->counts->empty++;
        refuse_context(a, context, "empty", "it has not a single sample");
        return;
    }
    context->closing = true;
    context->lost += context->given_up.count;
    context->points += samples_kept(piece);
    context->disordered += left_out;
    a->counts->disordered += (int64_t)left_out;
    if (piece && piece->last_us > context->newest_us)
        context->newest_us = piece->last_us;
    struct assembly_action *action = act(a, ASSEMBLY_COMPLETE, context);
    action->piece = piece;
    action->chunk = context->chunk;
    context->chunk += piece != NULL;
    format_announcement(a, context, context->batches);
    set_completion(a, context, action);
    context->operation = OP_COMPLETE;
}

static void announce(struct assembly *a, struct context_entry *context)
{
    struct assembly_action *action = act(a, ASSEMBLY_ANNOUNCE, context);
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
    act(a, ASSEMBLY_REGISTER, context)->weight = weight;
}

static void on_announced(struct assembly *a, struct context_entry *context)
{
    uint32_t batches = context->batches;
    bool whole = context->lost == 0;
    a->counts->contexts++;
    a->counts->low_quality += is_low(a, context);
    a->counts->silent += context->cut && context->superseded_us == 0;
    a->counts->superseded += context->cut && context->superseded_us != 0;
    register_weight(a, context);
    each_message(context, a, acknowledge);
    if (context->revision)
        act(a, ASSEMBLY_DROP_NOTE, context);
    finish(a, context, batches, whole);
}

/* --- answers --- */

/* The context is complete: what is held of it says again what is stored, or came too late. */
static void settle_complete(struct assembly *a, struct context_entry *context, const char *announcement)
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
    arena_init(&arena, ARENA_MIN_BYTES);
    for (size_t i = 0; i < context->held_count; i++) {
        const struct held *held = context->held[i];
        strbuf_clear(&bytes);
        if (batch_data_write(&held->data, &bytes, NULL) && bytes.failed)
            abort();
        take_settled(a, context, held->sequence, batches, whole, held->message, bytes.text, bytes.length);
    }
    for (size_t i = 0; i < context->waiting_count; i++) {
        const struct waiting *waiting = &context->waiting[i];
        if (waiting->kind == NAMES_SAMPLE_END)
            take_duplicate(a, waiting->message);
        else if (batch_label_read(waiting->bytes, waiting->length, &arena, &label, NULL) == 0)
            take_settled(a, context, label.sequence, batches, whole, waiting->message, waiting->bytes,
                         waiting->length);
    }
    strbuf_free(&bytes);
    arena_free(&arena);
    acknowledge_all(a, &context->unconfirmed);
    if (context->ended)
        take_duplicate(a, context->end_message);
    if (context->started)
        take_duplicate(a, context->start_message);
    if (context->revision)
        act(a, ASSEMBLY_DROP_NOTE, context);
    finish(a, context, batches, whole);
}

static void search(struct assembly *a, struct context_entry *context)
{
    act(a, ASSEMBLY_FIND, context);
    context->operation = OP_FIND;
}

static void on_looked_up(struct assembly *a, struct context_entry *context,
                         const struct assembly_event *event)
{
    context->looked_up = true;
    context->revision = event->revision;
    context->note_text = event->text ? need(strdup(event->text)) : NULL;
    if (context->started)
        adopt_note(a, context);
}

static void on_found(struct assembly *a, struct context_entry *context, const struct assembly_event *event)
{
    context->searched = true;
    if (event->code == 0)
        settle_complete(a, context, event->text ? event->text : "{}");
    else if (context->refused) /* the store refused as if it were complete: begin again from the stream */
        forget_context(a, context);
}

static void on_noted(struct assembly *a, struct context_entry *context, const struct assembly_event *event)
{
    if (event->code) { /* another writes this context: what is not stored comes again, here or there */
        a->counts->conflicts++;
        forget_context(a, context);
        return;
    }
    context->revision = event->revision;
    acknowledge_all(a, &context->unconfirmed);
    if (context->piece == NULL)
        return; /* it only confirmed what was stored */
    struct piece *piece = context->piece;
    int64_t *last_us = context->piece_last_us;
    context->piece = NULL;
    context->piece_last_us = NULL;
    close_chunk(a, context, piece, last_us, piece->disordered, context->piece_to);
    put(a, context, piece);
}

static void on_stored(struct assembly *a, struct context_entry *context, const struct assembly_event *event)
{
    if (event->code == ERR_CONFLICT) {
        a->counts->conflicts++;
        context->refused = true;
        search(a, context);
    } else if (event->code) {
        refuse_context(a, context, "store", event->text ? event->text : "the store refuses it");
    } else if (event->kind == ASSEMBLE_PUT) {
        a->counts->chunks++;
        context->chunk++;
    } else {
        announce(a, context);
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
        on_announced(a, context);
        break;
    }
}

/* --- what time brings --- */

static void watch_gap(struct assembly *a, struct context_entry *context)
{
    uint32_t upper = context->pinned ? context->pin_to : known_batches(context);
    uint32_t missing = first_missing(context, upper);
    if (missing == upper) {
        context->gap_us = 0;
    } else if (context->gap_us == 0 || context->gap_at != missing) {
        context->gap_us = a->now_us;
        context->gap_at = missing;
    } else if (a->now_us - context->gap_us >= a->options.gap_us) {
        give_up_missing(a, context, upper);
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
    give_up_missing(a, context, known_batches(context));
}

static void advance_without_start(struct assembly *a, struct context_entry *context)
{
    if (!context->searched) {
        search(a, context);
    } else if (context->gap_us == 0) {
        context->gap_us = a->now_us;
    } else if (a->now_us - context->gap_us >= a->options.gap_us) {
        a->counts->no_start += (int64_t)context->waiting_count;
        refuse_context(a, context, "no_start", "its start never came");
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
        act(a, ASSEMBLY_LOOK_UP, context);
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
        advance_pinned(a, context);
        return;
    }
    watch_silence(a, context);
    uint32_t batches = known_batches(context);
    if ((context->ended || context->cut) && first_missing(context, batches) == batches)
        complete(a, context);
    else if (is_due(a, context))
        flush(a, context);
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
    forget_context(a, largest);
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

static void forget_chamber(struct assembly *a, struct chamber *chamber)
{
    while (chamber->contexts)
        forget_context(a, chamber->contexts);
    HASH_DEL(a->chambers, chamber);
    free(chamber->token);
    free(chamber->tool);
    free(chamber->name);
    free(chamber);
}

static void forget_all(struct assembly *a)
{
    while (a->chambers)
        forget_chamber(a, a->chambers);
}

static void on_message(struct assembly *a, const struct assembly_event *event)
{
    a->counts->messages++;
    a->counts->bytes += (int64_t)event->length;
    a->messages++;
    switch (event->subject_kind) {
    case NAMES_SAMPLE_START:
        on_start(a, event);
        break;
    case NAMES_SAMPLE_DATA:
        on_data(a, event);
        break;
    case NAMES_SAMPLE_END:
        on_end(a, event);
        break;
    }
    struct chamber *chamber;
    HASH_FIND_STR(a->chambers, event->token, chamber);
    for (struct context_entry *context = chamber ? chamber->contexts : NULL, *next; context; context = next) {
        next = context->sibling;
        advance(a, context);
    }
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
            forget_chamber(a, chamber);
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
            flush(a, context);
            if (context->operation == OP_NONE && context->unconfirmed.count > 0)
                note(a, context, context->next);
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
