/* Announces stored contexts again, so that they are judged again, and waits for it.
 *
 * A context that is judged again changes the history of the later ones of its (tool, chamber, recipe). The
 * defender follows that up by itself, unless it is told that the next one in event order is coming as well:
 * so each announcement waits here until it is known whether it does. */
#ifndef CHAMBERLAIN_CLI_ANNOUNCER_H
#define CHAMBERLAIN_CLI_ANNOUNCER_H

#include "cli/session.h"
#include "cli/terminal.h"

enum {
    ANNOUNCER_IN_FLIGHT_MAX = 256, /* publishes whose acknowledgement is still to come */
    ANNOUNCER_RETRY_MS = 200,
    ANNOUNCER_PATIENCE_MS = 60 * 1000, /* for a NATS that is away */
    ANNOUNCER_STALL_MS = 2 * 60 * 1000 /* without any progress, after which waiting ends */
};

struct announcement;

struct announcer {
    struct session *session; /* with store and NATS */
    bool alarms;             /* the judgement may raise alarms */
    size_t in_flight, announced;
    size_t skipped;            /* they have no stored announcement */
    uint64_t last_sequence;    /* in the stream, of those announced */
    int64_t last_id_us;        /* makes message ids unique */
    struct announcement *held; /* by (tool, chamber, recipe): the newest selected context seen */
    struct progress progress;
    int code; /* the first failure: nothing is sent any more */
    struct error error;
};

void announcer_begin(struct announcer *announcer, struct session *session, bool alarms);

/* To be called for every context of the histories concerned, in event order; those `selected` are announced.
 * Blocks while ANNOUNCER_IN_FLIGHT_MAX are on their way. ERR_NO_MEMORY, ERR_INVALID (a name that cannot stand
 * in a subject) or what publishing met. */
int announcer_offer(struct announcer *announcer, const struct store_completion *completion, bool selected,
                    struct error *err);

/* Announces what is held and waits until the stream has everything. To be called once, also after an error
 * (which it gives again). */
int announcer_finish(struct announcer *announcer, struct error *err);

/* 0 when a defender answers; ERR_UNAVAILABLE says how to start one. */
int announcer_check_defenders(struct session *session, struct error *err);

/* Waits until everything announced has been judged, with progress. ERR_UNAVAILABLE: no defender is running;
 * ERR_TIMEOUT: nothing moved for ANNOUNCER_STALL_MS. */
int announcer_wait(struct announcer *announcer, struct error *err);

#endif
