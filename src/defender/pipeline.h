/* The pipeline: messages in, judged contexts out, each acknowledged only after everything about it is stored.
 *
 *   receive -> wait for the chamber -> fetch T-chart, history, earlier U-chart -> decode, calculate, evaluate
 * (a pool of threads) -> publish alarms -> write U-chart -> update cache -> judge later contexts again if
 * this one came late -> ack
 *
 * Contexts of different chambers run side by side, `max_in_flight` at most; those of one chamber one after
 * the other, in stream order. Everything here belongs to the loop's thread.
 *
 * A failure has a class, and each class one answer: transient (store or NATS away): back off and try again
 * for ever, and want no more messages meanwhile; missing (no T-chart): try again a few times, then as poison;
 * poison (cannot be judged): dead-letter with the reason, mark in the store, terminate. */
#ifndef CHAMBERLAIN_DEFENDER_PIPELINE_H
#define CHAMBERLAIN_DEFENDER_PIPELINE_H

#include "bus/bus.h"
#include "bus/consumer.h"
#include "defender/chartsets.h"
#include "defender/metrics.h"
#include "store/cache.h"
#include "store/store.h"

enum {
    PIPELINE_MAX_IN_FLIGHT = 64,
    PIPELINE_HELD_PER_IN_FLIGHT = 4,  /* messages waiting here for their chamber, for each one at work */
    PIPELINE_MISSING_ATTEMPTS = 4,    /* the first and three more */
    PIPELINE_MISSING_DELAY_MS = 1000, /* doubled each time */
    PIPELINE_BACKOFF_MIN_MS = 100,
    PIPELINE_BACKOFF_MAX_MS = 5000,
    PIPELINE_POSTPONE_MS =
        5000 /* what only the primary store has, while it is away, is given back for so long */
};

/* A message with this header asks for a context to be judged again although it has a U-chart. Its value says
 * how loud: "quiet" raises no alarms, "alarms" does, "owed" (rejudge.h) those that were not raised before.
 * PIPELINE_HEADER_RIPPLE: "no" says that the later contexts are coming as well. */
#define PIPELINE_HEADER_REPLAY "Chamberlain-Replay"
#define PIPELINE_HEADER_RIPPLE "Chamberlain-Ripple"

struct pipeline;

struct pipeline_options {
    const char *cell;
    const char *defender_id;  /* for the dead letters */
    int max_in_flight;        /* 0: PIPELINE_MAX_IN_FLIGHT */
    int64_t missing_delay_ms; /* 0: PIPELINE_MISSING_DELAY_MS */
    int64_t ack_wait_ms;      /* messages held are extended three times as often */
};

/* What the pipeline works with; all outlive it. */
struct pipeline_ports {
    uv_loop_t *loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct store *store;
    struct cache *cache;
    struct chartsets *chartsets;
    struct metrics *metrics;
    void (*capacity_changed)(void *arg); /* pipeline_capacity may have changed */
    void (*stream_missing)(void *arg);   /* a stream that should be there is not */
    /* A context of `points` samples, announced on `subject`, was judged: by its own announcement, not a
     * replay's, and for the first time. */
    void (*judged)(void *arg, const char *subject, int64_t points);
    void *arg;
};

/* ERR_NO_MEMORY. */
int pipeline_open(const struct pipeline_options *options, const struct pipeline_ports *ports,
                  struct pipeline **pipeline, struct error *err);

/* Only when pipeline_idle. */
void pipeline_close(struct pipeline *pipeline);

/* Takes a message. One that is held already (by its stream sequence) only renews the acknowledgement's
 * address. */
void pipeline_receive(struct pipeline *pipeline, const struct consumer_message *message);

/* How many more messages it would take now; 0 while the store or NATS is away, and after pipeline_stop. */
int64_t pipeline_capacity(const struct pipeline *pipeline);

/* Starts nothing new, and forgets what waits unstarted: the stream still has it. */
void pipeline_stop(struct pipeline *pipeline);

/* Nothing is held or under way. */
bool pipeline_idle(const struct pipeline *pipeline);

int64_t pipeline_held(const struct pipeline *pipeline);
int64_t pipeline_in_flight(const struct pipeline *pipeline);

/* True when a context of that id is held. */
bool pipeline_holds(const struct pipeline *pipeline, const char *context_id);

/* The stream was created anew: acknowledgements of what is held would hit other messages, and are not sent.
 */
void pipeline_on_stream_replaced(struct pipeline *pipeline);

/* The chamber behind a subject belongs to another from now on: what waits here unstarted is dropped (its new
 * owner gets it from the stream), and what is known of its history is forgotten, the cache included. What is
 * at work ends as it would. */
void pipeline_release_chamber(struct pipeline *pipeline, const char *subject);

/* Lets go of everything that has not been written yet, without an acknowledgement: this process stood still,
 * and what it holds may be another's by now. */
void pipeline_abandon_all(struct pipeline *pipeline);

#endif
