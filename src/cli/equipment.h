/* Simulated equipment: it says on the samples' stream what its runs do, as they go on: a start, batches of
 * samples, an end (docs/collect.md). A collector makes contexts of that.
 *
 * Messages go out in the order of the fab's time, ties in the order in which the runs were begun; a bounded
 * number waits for the stream's acknowledgement, and one that was not acknowledged is sent again, which may
 * be later than its successors. Thread of the session's loop. */
#ifndef CHAMBERLAIN_CLI_EQUIPMENT_H
#define CHAMBERLAIN_CLI_EQUIPMENT_H

#include "cli/session.h"
#include "fab/fab.h"

#include <signal.h>

enum {
    EQUIPMENT_IN_FLIGHT_MAX = 512, /* messages that wait for their acknowledgement */
    EQUIPMENT_RETRY_MS = 200,
    EQUIPMENT_PATIENCE_MS = 120 * 1000 /* for a NATS or a stream that is away */
};

enum equipment_form { EQUIPMENT_BINARY, EQUIPMENT_JSON };

struct equipment_run;

struct equipment {
    struct session *session; /* with NATS */
    const struct fab *fab;
    const char *command;                /* as messages name it */
    const volatile sig_atomic_t *hurry; /* not 0: nothing is sent again any more */
    enum equipment_form form;
    int64_t batch_us; /* of the fab's time that a batch spans; at least one sample */

    size_t in_flight;                 /* messages */
    uint64_t contexts;                /* of which everything is acknowledged */
    uint64_t messages, points, bytes; /* acknowledged; points of whole contexts */
    int failed;                       /* the first error that ended a message, or 0 */
    struct error error;

    struct equipment_run **runs; /* not all sent: a heap by the time of the next message */
    size_t run_count, run_capacity;
    uint64_t begun;
    struct equipment_message *again; /* to be sent again */
    uv_timer_t retry;
    bool told_waiting;
    bool no_roster; /* one was asked for and is not there */
};

/* `form` and `batch_us` as above; the rest is borrowed until equipment_end. */
void equipment_begin(struct equipment *equipment, struct session *session, const struct fab *fab,
                     const char *command, const volatile sig_atomic_t *hurry, enum equipment_form form,
                     int64_t batch_us);

/* Tells the collectors' roster and the defenders' of every chamber of the fab, with what a run of it weighs:
 * they are all owned before the first message comes, instead of each after its first. A chamber that is known
 * stays as it is, and where there are no rosters yet nothing is told: chambers are then found by their
 * messages. */
void equipment_register(struct equipment *equipment);

/* Makes the messages of a run; nothing is sent yet. ERR_NO_MEMORY; ERR_INVALID and ERR_LIMIT as
 * collector/batch.h. */
int equipment_start(struct equipment *equipment, const struct fab_run *plan, struct error *err);

/* When the next message is due, in the fab's time. False: all that was begun is sent. */
bool equipment_next(const struct equipment *equipment, int64_t *due_us);

/* Sends that message, after waiting for its turn. Returns `failed`, with `err`. */
int equipment_send(struct equipment *equipment, struct error *err);

/* Waits until everything sent is acknowledged. Returns `failed`, with `err`. */
int equipment_drain(struct equipment *equipment, struct error *err);

/* What was not sent is not. Nothing may be in flight. The loop must run once more. */
void equipment_end(struct equipment *equipment);

#endif
