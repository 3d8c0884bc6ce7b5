/* A defender's metrics for Prometheus (docs/metrics.md). */
#ifndef CHAMBERLAIN_DEFENDER_EXPOSITION_H
#define CHAMBERLAIN_DEFENDER_EXPOSITION_H

#include "base/strbuf.h"
#include "cluster/cluster.h"
#include "defender/metrics.h"
#include "store/cache.h"
#include "store/failover.h"

/* What they are made of; all borrowed during the call. */
struct exposition {
    const struct metrics *metrics;
    const struct cluster_status *cluster;
    const struct cache_statistics *cache;
    const struct store_health *store_health;
    const char *version, *group;
    const char *store; /* "sqlite" or "cassandra" */
    int64_t started_us;
    int64_t rebalancing_ns; /* how long a change of the assignment has been under way; 0: none, or led
                               elsewhere */
    int64_t held, in_flight;
    bool connected;     /* to NATS */
    int64_t reconnects; /* connections to NATS that replaced a lost one */
    int64_t pending;    /* requests to NATS that are not answered yet */
};

void exposition_write(const struct exposition *exposition, struct strbuf *out);

#endif
