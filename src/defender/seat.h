/* A seat: a small file that a defender process keeps locked while it lives, with its incarnation in it.
 * Whoever gets the lock knows that the process before it on this seat has ended, and may take over its claims
 * at once instead of waiting for them to run out: a defender that its supervisor restarts is back in its
 * place within moments. */
#ifndef CHAMBERLAIN_DEFENDER_SEAT_H
#define CHAMBERLAIN_DEFENDER_SEAT_H

#include "base/error.h"

#include <stdint.h>

struct seat {
    int file;             /* open and locked until the process ends */
    uint64_t predecessor; /* incarnation of the process before; 0 when there was none */
};

/* Takes the seat at `path` (made when absent) and writes `incarnation` into it. ERR_CONFLICT: another process
 * sits there; ERR_IO. */
int seat_take(const char *path, uint64_t incarnation, struct seat *seat, struct error *err);

#endif
