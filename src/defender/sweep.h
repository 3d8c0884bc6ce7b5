/* The sweep: the announcement is a hint, the store is the truth. Whatever was completed more than `age` ago
 * and has neither a U-chart nor a dead mark is announced again; the broker may lose its whole disk, and every
 * context is still judged. Done by the leader. Loop thread. */
#ifndef CHAMBERLAIN_DEFENDER_SWEEP_H
#define CHAMBERLAIN_DEFENDER_SWEEP_H

#include "bus/bus.h"
#include "defender/metrics.h"
#include "defender/pipeline.h"
#include "store/store.h"

enum {
    SWEEP_AGE_MS = 60 * 1000,
    SWEEP_INTERVAL_MS = 10 * 1000,
    SWEEP_BATCH = 1000,              /* contexts announced again in one round */
    SWEEP_INSIST_MS = 10 * 60 * 1000 /* older ones are announced even when their chamber's queue is not empty,
                                      * once in this time */
};

struct sweep;

struct sweep_ports {
    uv_loop_t *loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct store *store;
    struct pipeline *pipeline;
    struct metrics *metrics;
    bool (*leads)(void *arg); /* only the leader sweeps */
    void *arg;
};

/* Sweeps every `interval_ms` what is older than `age_ms` (0: the defaults). ERR_NO_MEMORY. */
int sweep_open(const struct sweep_ports *ports, const char *cell, int64_t age_ms, int64_t interval_ms,
               struct sweep **sweep, struct error *err);

/* No round is begun any more. Freed when the one under way has ended. */
void sweep_close(struct sweep *sweep);

#endif
