/* Carries the cluster's actions out on NATS, and brings it what happens: buckets, heartbeats, probes, the
 * consumer. The protocol itself is src/cluster, pure; this is its shell. Loop thread. */
#ifndef CHAMBERLAIN_DEFENDER_CARRIER_H
#define CHAMBERLAIN_DEFENDER_CARRIER_H

#include "bus/bus.h"
#include "bus/consumer.h"
#include "cluster/cluster.h"
#include "defender/pipeline.h"
#include "defender/prewarm.h"

struct carrier;

struct carrier_options {
    struct cluster_config cluster;
    const char *cell;
    int64_t ack_wait_ms;
    int64_t max_ack_pending;
    int replicas;
};

struct carrier_ports {
    uv_loop_t *loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct pipeline *pipeline;
    struct prewarm *prewarm;
    struct metrics *metrics;
    void (*changed)(void *arg); /* state, leadership or ownership changed: carrier_status has it */
    void (*stopped)(void *arg); /* after carrier_stop: everything is released */
    void *arg;
};

/* Nothing is sent before carrier_on_connected. ERR_NO_MEMORY, ERR_INVALID. */
int carrier_open(const struct carrier_options *options, const struct carrier_ports *ports,
                 struct carrier **carrier, struct error *err);
void carrier_close(struct carrier *carrier);

/* The streams are there. Makes the buckets that are absent, then tells the cluster. */
void carrier_on_connected(struct carrier *carrier);
void carrier_on_disconnected(struct carrier *carrier);

/* The pipeline's capacity has changed: pull more or less. Also tells of the end of a drain. */
void carrier_on_capacity(struct carrier *carrier);

/* Leaves gracefully: drain, release; ports.stopped follows. */
void carrier_stop(struct carrier *carrier);

void carrier_status(const struct carrier *carrier, struct cluster_status *status);

#endif
