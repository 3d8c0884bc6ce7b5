/* Contexts on their way from this process into the store and onto the stream: stored first, announced when
 * that is done, tried again while something is away, and so many at a time as the caller allows.
 *
 *     struct shipment *shipment = shipping_take(&shipping);    an empty one, with an arena
 *     shipment_pack(shipment, &context, &blobs, &err);         on any thread
 *     shipment_send(shipment);                                 it ends by itself
 *
 * Everything but shipment_pack belongs to the thread that runs the session's loop. */
#ifndef CHAMBERLAIN_CLI_SHIPMENT_H
#define CHAMBERLAIN_CLI_SHIPMENT_H

#include "base/arena.h"
#include "chart/context.h"
#include "cli/session.h"
#include "collector/pack.h"

#include <signal.h>

enum {
    SHIPMENT_RETRY_MS = 200,
    SHIPMENT_PATIENCE_MS = 120 * 1000 /* for a store or NATS that is away, from the taking on */
};

struct known_chamber;
struct shipment;

struct shipping {
    struct session *session;                /* with store and NATS */
    const char *command;                    /* as messages name it: "import" */
    const volatile sig_atomic_t *hurry;     /* not 0: nothing is tried again any more. May be NULL */
    size_t in_flight;                       /* taken and not yet ended */
    uint64_t announced, existed, conflicts; /* existed: of those announced, stored before */
    uint64_t points, bytes;                 /* of those announced */
    int failed;                             /* the first error that ended a shipment, or 0 */
    struct error error;                     /* its words; names the context */

    struct known_chamber *chambers; /* those that the roster has been told of */
    struct shipment *idle;          /* to be used again, with their memory */
    size_t open;                    /* that exist */
    bool told_waiting;              /* that something is away */
};

struct shipment {
    struct shipping *shipping;
    struct arena arena; /* empty when taken; what it holds lives until the shipment ends */
    struct store_completion completion;
    struct store_chunk *chunks;
    size_t chunk_count;
    size_t points, bytes;
    int64_t give_up_ns;
    uv_timer_t timer; /* between two attempts */
    struct shipment *next;
};

/* `session`, `command` and `hurry` are borrowed until shipping_end. */
void shipping_begin(struct shipping *shipping, struct session *session, const char *command,
                    const volatile sig_atomic_t *hurry);

/* Runs the loop until fewer than `most` are on their way or one has failed. Returns `failed` (then with
 * `err`). */
int shipping_wait_below(struct shipping *shipping, size_t most, struct error *err);

/* Runs the loop until none is on its way. Returns `failed`, likewise. */
int shipping_drain(struct shipping *shipping, struct error *err);

/* Gives everything back. Nothing may be on its way. */
void shipping_end(struct shipping *shipping);

/* An empty shipment, which counts as on its way until it ends. NULL: no memory. */
struct shipment *shipping_take(struct shipping *shipping);

/* Makes the shipment that of `context` with `blobs`, which give its chunk_count. Texts are copied; the blobs'
 * bytes are borrowed until the shipment ends (they may live in its arena). ERR_NO_MEMORY. */
int shipment_pack(struct shipment *shipment, const struct context *context, const struct tchart_blobs *blobs,
                  struct error *err);

/* Tells the roster of a new chamber, stores, announces. A context that is stored already with another trace
 * is a conflict: that is said, counted, and no failure. */
void shipment_send(struct shipment *shipment);

/* Ends one that is not to be sent. With `error` it counts as failed. */
void shipment_drop(struct shipment *shipment, const struct error *error);

#endif
