/* A defender: the worker process. Wires cache, charts and pipeline together on a workplace (workplace.h),
 * which keeps the streams and the consumer in being, and ends gracefully. */
#ifndef CHAMBERLAIN_DEFENDER_DEFENDER_H
#define CHAMBERLAIN_DEFENDER_DEFENDER_H

#include "defender/workplace.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    DEFENDER_ACK_WAIT_MS = 30 * 1000,
    DEFENDER_ID_TTL_MS = 10 * 1000,   /* a claimed ID that is not renewed is free after this */
    DEFENDER_LEASE_TTL_MS = 3 * 1000, /* likewise the leader's lease */
    DEFENDER_DRAIN_MS = 25 * 1000,    /* a graceful stop takes this long at most */
    DEFENDER_CHARTS_POLL_MS = 5 * 1000,
    DEFENDER_EXPIRE_INTERVAL_MS = 10 * 60 * 1000
};

/* Defaults stand beside the fields; 0 and NULL choose them. */
struct defender_options {
    struct workplace_options place;
    double share; /* none: the part of all weight that this defender may hold */
    int max_in_flight;
    int compute_threads; /* the number of cores */
    int64_t cache_bytes;
    int64_t ack_wait_ms;
    int64_t sweep_age_ms, sweep_interval_ms;
    int64_t missing_delay_ms;
    int64_t load_memory_ms; /* the load of chambers is observed over this time: 2 h */
    int64_t reweigh_ms;     /* chambers move for changed weights alone at most this often: 1 h */
    int64_t tchart_retention_us, uchart_retention_us; /* 3 days, 1 year */
    bool retain_by_event;                             /* by the run's end instead of when the store took it */
};

/* Runs until SIGTERM or SIGINT. Returns 0 after a graceful stop; ERR_TIMEOUT when something was still in
 * flight after DEFENDER_DRAIN_MS (it is not lost: the stream delivers it again); otherwise what was fatal,
 * with how to mend it. */
int defender_run(const struct defender_options *options, struct error *err);

#endif
