/* Which chambers this defender judges: the one seam between the pipeline and the cluster.
 *
 * Today one defender owns every chamber of its cell, and with that the duties of a leader. */
#ifndef CHAMBERLAIN_DEFENDER_OWNERSHIP_H
#define CHAMBERLAIN_DEFENDER_OWNERSHIP_H

#include "bus/names.h"

#include <stdbool.h>
#include <stddef.h>

struct ownership {
    char all[NAMES_BYTES]; /* the one filter */
    const char *filters[1];
    size_t count;
    bool leads; /* sweeps the outbox and removes what is past its retention */
};

void ownership_take_all(struct ownership *ownership, const char *cell);

#endif
