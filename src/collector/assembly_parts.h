/* Inside the assembly: what it knows of chambers and contexts, and what its parts ask of each other. Only
 * assembly*.c include this. One thread, the caller's; `actions` is there while a step is under way. */
#ifndef CHAMBERLAIN_COLLECTOR_ASSEMBLY_PARTS_H
#define CHAMBERLAIN_COLLECTOR_ASSEMBLY_PARTS_H

#include "collector/assembly.h"

#include <uthash.h>

enum { ASSEMBLY_BATCH_OVERHEAD_BYTES = 512, ASSEMBLY_ARENA_MIN_BYTES = 1024 };

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

/* --- assembly_actions.c: what a step asks for --- */

/* The next action, its names those of `context`, which may be NULL. Valid until the next one. */
struct assembly_action *assembly_act(struct assembly *a, enum assembly_action_kind kind,
                                     const struct context_entry *context);

/* A copy that lives as long as the actions do. */
const void *assembly_keep_bytes(struct assembly *a, const void *bytes, size_t length);

void assembly_acknowledge(struct assembly *a, uint64_t message);
void assembly_acknowledge_all(struct assembly *a, struct messages *messages); /* and empties the list */
void assembly_forget_message(struct assembly *a, uint64_t message);           /* it comes again */

/* To the dead letters. `chamber` and `context_id` may be NULL; `reason_class` is constant. */
void assembly_bury(struct assembly *a, const struct chamber *chamber, const char *context_id,
                   uint64_t message, enum names_sample_kind kind, const void *bytes, size_t length,
                   const char *reason_class, const char *reason);

/* --- assembly_context.c: chambers, their contexts, and the batches these hold --- */

/* `memory`, or the end of the process. There is no way to go on without it, and a crash loses nothing: the
 * stream gives everything again. */
void *assembly_need(void *memory);

/* Room for one more item of `size` bytes; returns the items, moved perhaps. */
void *assembly_grow(void *items, size_t count, size_t *capacity, size_t size);

/* The chamber, the context of that name; new when there was none. */
struct chamber *assembly_have_chamber(struct assembly *a, const struct assembly_event *event);
struct context_entry *assembly_have_context(struct assembly *a, struct chamber *chamber, const char *id);

/* Gives back all that an open context holds; its messages are the caller's to settle before. */
void assembly_empty_context(struct assembly *a, struct context_entry *context);
void assembly_remove_context(struct assembly *a, struct context_entry *context);

/* Lets go of a context: what was not acknowledged comes again. */
void assembly_forget_context(struct assembly *a, struct context_entry *context);
void assembly_forget_chamber(struct assembly *a, struct chamber *chamber);

/* The oldest finished contexts of a chamber are not remembered for ever. */
void assembly_trim_finished(struct assembly *a, struct chamber *chamber);

/* Every message that an open context holds, the start last. */
void assembly_each_message(struct context_entry *context, struct assembly *a,
                           void (*settle)(struct assembly *a, uint64_t message));
void assembly_drop_waiting(struct assembly *a, struct context_entry *context);

void assembly_hold_batch(struct assembly *a, struct context_entry *context, struct held *held);
void assembly_free_held(struct assembly *a, struct context_entry *context, struct held *held);
bool assembly_is_held(const struct context_entry *context, uint32_t sequence);

/* Takes the first `count` out, without freeing them. */
void assembly_take_out_held(struct context_entry *context, size_t count);

/* `sequence` will not come, or what is missing below `upper`. */
void assembly_give_up(struct context_entry *context, uint32_t sequence);
void assembly_give_up_missing(struct assembly *a, struct context_entry *context, uint32_t upper);
bool assembly_is_given_up(const struct context_entry *context, uint32_t sequence);

/* How many of those held, or given up, are below `sequence`: where it is in the list, or would be. */
size_t assembly_find_held(const struct context_entry *context, uint32_t sequence);
size_t assembly_find_given_up(const struct context_entry *context, uint32_t sequence);

/* The first number in [next, upper) that is neither held nor given up; `upper` when there is none. */
uint32_t assembly_first_missing(const struct context_entry *context, uint32_t upper);

/* How many batches there are, as far as is known. */
uint32_t assembly_known_batches(const struct context_entry *context);

/* --- assembly_intake.c: messages taken in --- */

void assembly_take_start(struct assembly *a, const struct assembly_event *event);
void assembly_take_data(struct assembly *a, const struct assembly_event *event);
void assembly_take_end(struct assembly *a, const struct assembly_event *event);

void assembly_take_duplicate(struct assembly *a, uint64_t message);

/* A batch for a context that is complete with `batches`, or below what is stored of it. */
void assembly_take_settled(struct assembly *a, struct context_entry *context, uint32_t sequence,
                           uint32_t batches, bool whole, uint64_t message, const void *bytes, size_t length);

/* --- assembly_chunks.c: chunks, and the notes that they are begun with --- */

/* Begins a chunk of what can be stored now: notes it first. */
void assembly_flush_context(struct assembly *a, struct context_entry *context);

/* Batches [next, to) as one piece; NULL when no sample of them is kept. *last_us is a copy brought up to
 * date, the caller's; *left_out how many samples were not kept. */
struct piece *assembly_make_piece(struct context_entry *context, uint32_t to, int64_t **last_us,
                                  size_t *left_out);

/* Asks for the note of a chunk of [next, to). */
void assembly_note_chunk(struct assembly *a, struct context_entry *context, uint32_t to);

/* The batches of [next, to) are in `piece`: they become the newest chunk's, whose messages are kept back
 * until it is certain that it is stored. Takes last_us. */
void assembly_close_chunk(struct assembly *a, struct context_entry *context, struct piece *piece,
                          int64_t *last_us, size_t left_out, uint32_t to);

/* Asks for the next chunk to be written; takes the piece. */
void assembly_put_chunk(struct assembly *a, struct context_entry *context, struct piece *piece);
uint64_t assembly_samples_kept(const struct piece *piece); /* NULL: none */

/* Goes on from where the note found says that someone came to. The start is known. */
void assembly_adopt_note(struct assembly *a, struct context_entry *context);

/* A chunk that someone began before: once all its batches are here it is written again. */
void assembly_rewrite_chunk(struct assembly *a, struct context_entry *context);

/* --- assembly_completion.c: how a context ends --- */

/* Everything is here, or given up: the rest becomes the last chunk, together with the completion. */
void assembly_complete_context(struct assembly *a, struct context_entry *context);

/* It is stored as complete: asks for its announcement; once that is made, acknowledges what is left. */
void assembly_announce_context(struct assembly *a, struct context_entry *context);
void assembly_end_context(struct assembly *a, struct context_entry *context);

/* Everything that is held of a context goes to the dead letters: it cannot become a T-chart. */
void assembly_refuse_context(struct assembly *a, struct context_entry *context, const char *reason_class,
                             const char *why);

/* The context is complete: what is held of it says again what is stored, or came too late. */
void assembly_settle_context(struct assembly *a, struct context_entry *context, const char *announcement);

#endif
