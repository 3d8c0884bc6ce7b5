/* What must hold, whatever goes wrong (docs/simulation.md states each in full). The first that does not ends
 * the run. */
#ifndef CHAMBERLAIN_SIM_INVARIANTS_H
#define CHAMBERLAIN_SIM_INVARIANTS_H

#include "faults.h"
#include "world.h"

enum invariant {
    INVARIANT_ONE_JUDGE,   /* no chamber is judged by two that both believe they own it */
    INVARIANT_ONE_ID,      /* no ID is held for certain by two */
    INVARIANT_HOLDER_ONLY, /* a consumer is shaped only by who holds its ID */
    INVARIANT_FILTERED,    /* no consumer is left without filters: it would receive everything */
    INVARIANT_LEASE,       /* whoever acts as leader holds the newest lease */
    INVARIANT_COMMIT,      /* the map's version grows, its token never falls, each chamber is given to one */
    INVARIANT_MOVEMENT,    /* no commit moves more than it may; an emergency only what the dead had */
    INVARIANT_ROLL,        /* a rolling update left in peace moves nothing */
    INVARIANT_ALIVE,       /* nobody is declared dead who is well */
    INVARIANT_LEADER,      /* there is a leader within the bound */
    INVARIANT_OWNED,       /* every chamber is served by its owner within the bound after the last fault */
    INVARIANT_DELIVERED,   /* every context is judged and acknowledged within the bound */
    INVARIANT_COUNT
};

struct invariants;

struct invariants *invariants_open(struct world *world);
void invariants_close(struct invariants *invariants);
const char *invariant_name(enum invariant invariant);
int invariant_parse(const char *name); /* -1: no such name */
uint64_t invariants_checked(const struct invariants *invariants, enum invariant invariant);

/* The worst and the sum of times in which chambers were not served after a single fault in a settled world.
 */
struct recovery {
    uint64_t count;
    double sum_s, worst_s;
};
const struct recovery *invariants_recovery(const struct invariants *invariants, enum fault_kind kind);

/* Something is wrong, or changes: everything is to be in order so long after. */
void invariants_disturbed(struct world *world, int64_t bound_ms);
bool invariants_settled(const struct world *world);
void invariants_injected(struct world *world, enum fault_kind kind, bool settled);
void invariants_rolling(struct world *world);
void invariants_rolled(struct world *world);

/* Called as things happen. */
void invariants_asked(struct world *world, struct process *process, const struct cluster_action *action);
void invariants_stepped(struct world *world, struct process *process);
void invariants_written(struct world *world, const struct packet *packet, uint64_t revision);
void invariants_consumer_changed(struct world *world, const struct packet *packet);
void invariants_judging(struct world *world, struct process *process, const struct job *job);
void invariants_judged(struct world *world, struct process *process, const struct job *job);
void invariants_died(struct world *world, struct process *process);

#endif
