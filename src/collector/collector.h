/* A collector: the process that makes T-charts of what equipment publishes. Wires bus, store and cluster to
 * the heart (assembly.h) and its hands (hands.h), and ends gracefully. Collectors share the chambers as
 * defenders do, with the same cluster code, in a cluster of their own. */
#ifndef CHAMBERLAIN_COLLECTOR_COLLECTOR_H
#define CHAMBERLAIN_COLLECTOR_COLLECTOR_H

#include "base/error.h"

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
    const char *version;   /* shown in status */
    const char *nats_url;  /* required */
    const char *store_url; /* required */
    const char *cell;      /* "" */
    const char *seat;      /* none: a file of this collector's place (defender/seat.h) */
    const char *group;     /* "" */
    int pool;              /* 1,000 */
    int expected_members;  /* not known */
    int replicas;          /* of streams and buckets: 1 */
    const char *credentials_file, *ca_file, *certificate_file, *key_file; /* none */
    int64_t ack_wait_ms;
    int64_t flush_us;       /* samples are stored when the oldest has waited so long */
    int64_t gap_us;         /* a missing batch, start or end is waited for so long: twice ack_wait at least */
    int64_t silent_us;      /* a context whose tool says nothing for so long is cut */
    int64_t context_max_us; /* samples lie within so long after the start */
    int64_t buffer_bytes;   /* samples in memory */
    int64_t stream_bytes;   /* eqp-samples refuses more than that */
    int64_t stream_age_us;  /* eqp-samples forgets what is older: no context may last so long */
    const char *http_bind;  /* 127.0.0.1 */
    int http_port;          /* 0: no metrics and no health over HTTP */
};

/* Runs until SIGTERM or SIGINT. Returns 0 after a graceful stop; ERR_TIMEOUT when something was still under
 * way after COLLECTOR_DRAIN_MS (it is not lost); otherwise what was fatal, with how to mend it. */
int collector_run(const struct collector_options *options, struct error *err);

#endif
