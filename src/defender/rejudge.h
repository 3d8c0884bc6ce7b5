/* Judging again what is owed: while a standby store stood in for the primary, verdicts were made from less
 * than everything, and the store keeps a debt for each (store.h, STORE_DEBT_JUDGE). Here they are announced
 * again, the oldest of each chamber: the pipeline judges it, and what came after it, and clears their debts.
 * Done by the leader. Loop thread. */
#ifndef CHAMBERLAIN_DEFENDER_REJUDGE_H
#define CHAMBERLAIN_DEFENDER_REJUDGE_H

#include "defender/sweep.h"

enum {
    REJUDGE_INTERVAL_MS = 2000,
    REJUDGE_LISTED = 1000,        /* debts looked at in one round */
    REJUDGE_CHAMBERS = 100,       /* announced in one round */
    REJUDGE_INSIST_MS = 30 * 1000 /* one that is still owed is announced once in this time */
};

struct rejudge;

/* ERR_NO_MEMORY. Uses of `ports` what it needs. */
int rejudge_open(const struct sweep_ports *ports, const char *cell, struct rejudge **rejudge,
                 struct error *err);

/* No round is begun any more. Freed when the one under way has ended. */
void rejudge_close(struct rejudge *rejudge);

#endif
