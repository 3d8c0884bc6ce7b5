/* A store that wraps two: "failover:PRIMARY,,STANDBY[,,OPTIONS]", where PRIMARY and STANDBY are addresses of
 * any kinds of stores (docs/store.md). What a breaker (breaker.h) says of the primary decides where calls go:
 *
 *     PRIMARY      to the primary. A call that fails because it is away is made again, until it succeeds or
 *                  the breaker opens
 *     STANDBY      to the standby, whose replies are marked degraded. Before a write goes there, a debt is
 *                  put into the standby: what the primary has missed outlives every process
 *     RECONCILING  the primary is well again. Still to the standby, while what is owed is copied. When
 * nothing is left, calls are held for a moment, the last of it is copied, and the primary has them
 *
 * While the primary is away what only it can have is not "not found" but ERR_UNAVAILABLE (with
 * reply->degraded). Debts that other processes left are looked for by each process, and paid. A U-chart that
 * was copied is followed by a debt of kind JUDGE in the primary: it, and what came after it, are judged again
 * from everything there is. */
#ifndef CHAMBERLAIN_STORE_FAILOVER_H
#define CHAMBERLAIN_STORE_FAILOVER_H

#include "store/store.h"

enum store_mode { STORE_MODE_SINGLE, STORE_MODE_PRIMARY, STORE_MODE_STANDBY, STORE_MODE_RECONCILING };

struct store_side_health {
    bool open;           /* the store could be opened */
    int64_t calls;       /* made on it */
    int64_t failures;    /* of these, because it was away */
    int64_t failed_us;   /* wall clock of the last such failure; 0: none */
    struct error failed; /* and its words */
};

struct store_health {
    enum store_mode mode; /* SINGLE: not a failover store, and the rest is 0 */
    int64_t since_us;     /* wall clock */
    int64_t opened;       /* how often the primary was given up */
    int64_t
        debts_known; /* owed to the primary as last listed, at most STORE_DEBTS_LISTED; -1: not listed yet */
    int64_t debts_paid;  /* by this process */
    int64_t debts_stuck; /* could not be copied for another reason than that a store was away */
    int64_t abandoned;   /* calls that the primary has not answered yet, and that went to the standby */
    struct store_side_health primary, standby;
};

enum { STORE_DEBTS_LISTED = 1024 };

/* The state of any store, for people and metrics. */
void store_health(struct store *store, struct store_health *health);

const char *store_mode_name(enum store_mode mode); /* "single", "primary", "standby", "reconciling" */

#endif
