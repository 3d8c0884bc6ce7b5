/* A collector: the process that makes T-charts of what equipment publishes. Wires the heart (assembly.h) and
 * its hands (hands.h) to a workplace (defender/workplace.h), and ends gracefully. Collectors share the
 * chambers as defenders do, with the same cluster code, in a cluster of their own. */
#ifndef CHAMBERLAIN_COLLECTOR_COLLECTOR_H
#define CHAMBERLAIN_COLLECTOR_COLLECTOR_H

#include "defender/workplace.h"

#include <stdint.h>

enum {
    COLLECTOR_ACK_WAIT_MS = 60 * 1000,
    COLLECTOR_ID_TTL_MS = 10 * 1000,
    COLLECTOR_LEASE_TTL_MS = 3 * 1000,
    COLLECTOR_DRAIN_MS = 25 * 1000, /* a graceful stop takes this long at most */
    COLLECTOR_TICK_MS = 200,
    COLLECTOR_MAX_ACK_PENDING = 500000 /* messages held: those of two chunks of every chamber */
};

#define COLLECTOR_FLUSH_US (INT64_C(15) * 1000000)
#define COLLECTOR_GAP_US (INT64_C(150) * 1000000)
#define COLLECTOR_SILENT_US (INT64_C(600) * 1000000)
#define COLLECTOR_CONTEXT_MAX_US (INT64_C(24) * 3600 * 1000000)
#define COLLECTOR_BUFFER_BYTES (INT64_C(256) * 1000 * 1000)
#define COLLECTOR_STREAM_BYTES (INT64_C(1024) * 1000 * 1000)
#define COLLECTOR_STREAM_AGE_US (INT64_C(48) * 3600 * 1000000)

/* Defaults are those above, or stand beside the fields; 0 and NULL choose them. */
struct collector_options {
    struct workplace_options place;
    int64_t ack_wait_ms;
    int64_t flush_us;       /* samples are stored when the oldest has waited so long */
    int64_t gap_us;         /* a missing batch, start or end is waited for so long: twice ack_wait at least */
    int64_t silent_us;      /* a context whose tool says nothing for so long is cut */
    int64_t context_max_us; /* samples lie within so long after the start */
    int64_t buffer_bytes;   /* samples in memory */
    int64_t stream_bytes;   /* eqp-samples refuses more than that */
    int64_t stream_age_us;  /* eqp-samples forgets what is older: no context may last so long */
};

/* Runs until SIGTERM or SIGINT. Returns 0 after a graceful stop; ERR_TIMEOUT when something was still under
 * way after COLLECTOR_DRAIN_MS (it is not lost); otherwise what was fatal, with how to mend it. */
int collector_run(const struct collector_options *options, struct error *err);

#endif
