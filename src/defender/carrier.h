/* Carries the cluster's actions out on NATS, and brings it what happens: buckets, heartbeats, probes, the
 * consumer. The protocol itself is src/cluster, pure; this is its shell. Loop thread.
 *
 * What the members share is a stream in which each chamber has subjects of its own: defenders share
 * dc-notifications, collectors eqp-samples. Each such cluster has its own buckets, IDs and heartbeats. */
#ifndef CHAMBERLAIN_DEFENDER_CARRIER_H
#define CHAMBERLAIN_DEFENDER_CARRIER_H

#include "base/histogram.h"
#include "bus/bus.h"
#include "bus/consumer.h"
#include "cluster/cluster.h"
#include "defender/prewarm.h"

struct carrier;

/* What the members of a cluster share, and under which names. Constant texts. */
struct carrier_kind {
    const char *stream;         /* "dc-notifications" */
    const char *subject_prefix; /* before a chamber's "{tool}.{chamber}": "dc." */
    const char *subject_suffix; /* after it: ".completed", or ".>" */
    const char *bucket_prefix;  /* "" or "collector-": of its buckets' names */
    const char *heartbeats;     /* "cluster.heartbeat": subject of heartbeats, without the ID */
};

/* Who works on the messages. */
struct carrier_worker {
    void (*receive)(void *arg, const struct consumer_message *message);
    int64_t (*capacity)(void *arg); /* how many more messages it would take now */
    /* That chamber is another's from now on. `subject` is what its consumer filtered on. */
    void (*release_chamber)(void *arg, const char *subject);
    void (*abandon_all)(void *arg); /* this process stood still: what it holds may be another's */
    void (*stop)(void *arg);        /* take nothing new, come to an end */
    bool (*idle)(void *arg);        /* nothing is held or under way */
    void *arg;
};

struct carrier_options {
    struct cluster_config cluster;
    struct carrier_kind kind;
    const char *cell;
    int64_t ack_wait_ms;
    int64_t max_ack_pending;
    int replicas;
};

struct carrier_ports {
    uv_loop_t *loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct carrier_worker worker;
    struct prewarm *prewarm;           /* NULL: there is nothing to warm */
    struct histogram *acquire, *renew; /* of the leader's lease: from the write to its answer */
    struct histogram *filters;         /* until the consumer's filters are in force */
    int64_t *heartbeat_errors;         /* heartbeats that could not be sent */
    void (*changed)(void *arg);        /* state, leadership or ownership changed: carrier_status has it */
    void (*stopped)(void *arg);        /* after carrier_stop: everything is released */
    void *arg;
};

/* Nothing is sent before carrier_on_connected. ERR_NO_MEMORY, ERR_INVALID. */
int carrier_open(const struct carrier_options *options, const struct carrier_ports *ports,
                 struct carrier **carrier, struct error *err);
void carrier_close(struct carrier *carrier);

/* The streams are there. Makes the buckets that are absent, then tells the cluster. */
void carrier_on_connected(struct carrier *carrier);
void carrier_on_disconnected(struct carrier *carrier);

/* The worker's capacity has changed: pull more or less. Also tells of the end of a drain. */
void carrier_on_capacity(struct carrier *carrier);

/* Leaves gracefully: drain, release; ports.stopped follows. */
void carrier_stop(struct carrier *carrier);

void carrier_status(const struct carrier *carrier, struct cluster_status *status);

/* As cluster_owns: `chamber` is "{tool}.{chamber}" as subject tokens. */
bool carrier_owns(const struct carrier *carrier, const char *chamber);

#endif
