/* Planted bugs. The simulation is only worth its name if it finds a bug that is there: built with
 * -DCLUSTER_PLANTS (by the tests alone, never by the product) one of these can be switched on, and tests/sim
 * must find it. Elsewhere PLANTED is false. */
#ifndef CHAMBERLAIN_CLUSTER_PLANT_H
#define CHAMBERLAIN_CLUSTER_PLANT_H

#include <stdbool.h>

#ifdef CLUSTER_PLANTS

enum plant {
    PLANT_NONE,
    PLANT_NO_FENCE,      /* an emergency assigns without having deleted the dead one's consumer */
    PLANT_NO_RESET,      /* a consumer that has gained chambers is not set back */
    PLANT_TRUST_ABSENCE, /* silence counts although NATS was away or has only just come back */
    PLANT_NO_CAS,        /* the map is written without compare-and-set */
    PLANT_GROW_FIRST,    /* filters grow before they shrink */
    PLANT_LATE_LEADER,   /* a leader that could not renew goes on acting */
    PLANT_EARLY_CLAIM,   /* an ID is taken over before its TTL has passed */
    PLANT_DEAF,          /* an ID that is lost is held on to */
    PLANT_KEEP_JUDGING,  /* contexts in hand of chambers that were let go are still judged */
    PLANT_NO_CAMPAIGN,   /* nobody tries for a lease that has run out */
    PLANT_ROLL_MOVES,    /* an ID that changes hands loses its chambers */
    PLANT_EMERGENCY_ALL, /* an emergency also levels the others */
    PLANT_NO_ORPHANS,    /* chambers outside the roster are not looked for */
    PLANT_EMPTY_FILTERS, /* a consumer that loses its last chamber is updated, not deleted */
    PLANT_COUNT
};

extern enum plant plant_chosen;

#define PLANTED(name) (plant_chosen == (name))

#else
#define PLANTED(name) false
#endif

/* False when no plant is called so, or none is built in. */
bool plant_choose(const char *name);

/* Prints the names, each with the invariant of the simulation that it breaks. */
void plant_list(void);

#endif
