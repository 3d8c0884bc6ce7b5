/* The collector's heart: from what equipment says to what is stored, announced and acknowledged. Pure.
 *
 *     assembly_step(assembly, now, event, actions)        event in, actions out; no clock, thread, socket
 *
 * A context's batches are put in the order of their numbers and cut into chunks. For each chunk
 *
 *     note it (compare-and-set) ──► messages of the chunk before are acknowledged ──► write it
 *
 * and at the end the rest is written together with the completion, the context is announced, and then
 * everything that is left is acknowledged, the start last. So whatever was not acknowledged comes again, here
 * or at another collector, and is put together again exactly (progress.h says why).
 *
 * One operation of a context is under way at a time. A message is known by its sequence in the stream. */
#ifndef CHAMBERLAIN_COLLECTOR_ASSEMBLY_H
#define CHAMBERLAIN_COLLECTOR_ASSEMBLY_H

#include "bus/names.h"
#include "collector/counts.h"
#include "collector/piece.h"

enum {
    ASSEMBLY_FINISHED_KEPT = 8,      /* of a chamber: finished contexts that are remembered */
    ASSEMBLY_CHUNK_POINTS = 262144,  /* so many are flushed at once, however young */
    ASSEMBLY_NOT_READY_MAX = 100000, /* messages of one context whose start has not come */
    ASSEMBLY_REASON_BYTES = ERROR_TEXT_BYTES
};

struct assembly_options {
    int64_t flush_us;       /* samples are stored when the oldest has waited so long */
    int64_t gap_us;         /* how long a missing batch, start or end is waited for */
    int64_t silent_us;      /* a tool that says nothing for so long has stopped */
    int64_t context_max_us; /* samples lie within so long after the start, and a minute before it */
    size_t buffer_bytes;    /* of all contexts; from three quarters on samples are flushed early */
};

enum assembly_event_kind {
    ASSEMBLE_MESSAGE,   /* message, subject_*, bytes */
    ASSEMBLE_TICK,      /* time has passed */
    ASSEMBLE_BLIND,     /* time has passed in which nothing could come: no silence counts */
    ASSEMBLE_LOOKED_UP, /* context, code; text: the note, NULL for none; revision */
    ASSEMBLE_NOTED,     /* context, code (ERR_CONFLICT: another writes this context's notes), revision */
    ASSEMBLE_PUT,       /* context, code (ERR_CONFLICT: the context is complete) */
    ASSEMBLE_FOUND,     /* context, code (ERR_NOT_FOUND), text: the announcement of the complete context */
    ASSEMBLE_COMPLETED, /* context, code (ERR_CONFLICT: complete with other content; ERR_INVALID: a chunk is
                           missing) */
    ASSEMBLE_ANNOUNCED, /* context */
    ASSEMBLE_RELEASE,   /* chamber: another has it now */
    ASSEMBLE_ABANDON    /* everything held may be another's */
};

struct assembly_event {
    enum assembly_event_kind kind;
    uint64_t message;
    const char *tool, *chamber, *token; /* the names, and "{tool}.{chamber}" as in subjects */
    enum names_sample_kind subject_kind;
    const void *bytes;
    size_t length;
    uint64_t context;
    int code;
    const char *text;
    uint64_t revision;
};

enum assembly_action_kind {
    ASSEMBLY_ACK,     /* message */
    ASSEMBLY_FORGET,  /* message: it is not held any more, and was not acknowledged: it comes again */
    ASSEMBLY_BURY,    /* message, subject_kind, bytes, reason_class, reason: to the dead letters, then ack */
    ASSEMBLY_LOOK_UP, /* context: read its note */
    ASSEMBLY_NOTE, /* context, text, revision: write its note if `revision` is the newest (0: none is there)
                    */
    ASSEMBLY_PUT,  /* context, piece, chunk: pack and store */
    ASSEMBLY_FIND, /* context: is it complete? */
    ASSEMBLY_COMPLETE, /* context, piece (may be NULL), chunk, completion */
    ASSEMBLY_ANNOUNCE, /* context, completion */
    ASSEMBLY_REGISTER, /* token, weight: what a run of the chamber weighs */
    ASSEMBLY_DROP_NOTE /* token, context_id: its note is of no use any more */
};

/* A complete context, for the store and for everyone. */
struct assembly_completion {
    const char *recipe, *lot;
    int64_t end_us;
    int32_t chunk_count;
    const char *announcement;
};

/* Texts and bytes live until the next assembly_actions_clear; a piece is the carrier's from then on. */
struct assembly_action {
    enum assembly_action_kind kind;
    uint64_t message, context, revision;
    const char *tool, *chamber, *context_id, *token;
    enum names_sample_kind subject_kind;
    const void *bytes;
    size_t length;
    const char *text, *reason, *reason_class;
    struct piece *piece;
    int32_t chunk;
    int64_t weight;
    struct assembly_completion completion;
};

struct assembly_actions {
    struct arena arena;
    struct assembly_action *items;
    size_t count, capacity;
};

void assembly_actions_init(struct assembly_actions *actions);
void assembly_actions_clear(struct assembly_actions *actions);
void assembly_actions_free(struct assembly_actions *actions);

struct assembly;

/* ERR_NO_MEMORY. Later, when memory is short, the process is aborted: nothing is lost by it, and the stream
 * gives everything again. */
int assembly_create(const struct assembly_options *options, struct collect_counts *counts,
                    struct assembly **assembly, struct error *err);
void assembly_free(struct assembly *assembly);

/* `now_us` is monotonic. Answers for contexts that are not known any more are ignored. */
void assembly_step(struct assembly *assembly, int64_t now_us, const struct assembly_event *event,
                   struct assembly_actions *actions);

size_t assembly_bytes(const struct assembly *assembly);    /* held in memory */
size_t assembly_contexts(const struct assembly *assembly); /* open: not finished */
size_t assembly_messages(const struct assembly *assembly); /* held: neither acknowledged nor forgotten */

/* Flushes what can be, whatever its age: the collector is stopping. True while an operation is under way. */
bool assembly_flush(struct assembly *assembly, int64_t now_us, struct assembly_actions *actions);

#endif
