/* Inside the carrier: what it holds, and what its parts ask of each other. Only carrier*.c include this. Loop
 * thread. */
#ifndef CHAMBERLAIN_DEFENDER_CARRIER_PARTS_H
#define CHAMBERLAIN_DEFENDER_CARRIER_PARTS_H

#include "bus/names.h"
#include "defender/carrier.h"

/* One watch on a bucket. */
struct carrier_watch {
    struct carrier *carrier;
    enum cluster_bucket bucket;
    char pattern[CLUSTER_KEY_BYTES];
    struct kv_watch *native;
    struct carrier_watch *next;
};

/* One request on its way: its answer becomes an event. */
struct errand {
    struct carrier *carrier;
    uint64_t token;
    struct histogram *timing; /* NULL, or takes how long the answer took */
    int64_t begun_ns;
};

/* Which chambers to own, step by step: shrink, warm, grow, confirm. */
enum holding { HOLDING_IDLE, HOLDING_SHRINK, HOLDING_WARM, HOLDING_GROW, HOLDING_CONFIRM };

struct chamber_list {
    struct arena arena;
    const char **tokens; /* "{tool}.{chamber}", sorted */
    size_t count;
};

struct carrier {
    struct carrier_options options;
    struct carrier_ports ports;
    char cell[64];
    char stream[NAMES_BYTES];
    char buckets[BUCKET_COUNT][NAMES_BYTES];
    struct cluster *cluster;
    uv_timer_t timer; /* the cluster's next tick */
    uv_timer_t retry; /* buckets that could not be made */
    uv_timer_t pulse; /* notices that the process was stopped */
    int64_t last_pulse_ms;
    size_t buckets_made;
    bool connected; /* the cluster has been told so */
    bool draining, stopped;
    struct carrier_watch *watches;
    struct bus_subscription *heartbeats;
    char id[CLUSTER_NAME_BYTES]; /* whose consumer `consumer` is */
    struct consumer *consumer;
    bool pulling;
    bool interrupted; /* the connection was lost since the filters were last set: nothing is pulled until then
                       */

    enum holding holding;
    uint64_t version;
    struct chamber_list owned;  /* the server's consumer filters on these */
    struct chamber_list wanted; /* and is to filter on these */
    int64_t filters_set_ns;     /* when it was last asked to */
    int open_errands;
    int open_handles;
    bool closing;
};

/* --- carrier.c --- */

/* Steps the cluster and carries out what it asks for. An action may feed the next event at once (an answer
 * that needs no network): the list of actions is then taken apart first. */
void carrier_feed(struct carrier *carrier, const struct cluster_event *event);

/* Zeroed; waits until there is memory. */
void *carrier_must_calloc(size_t size);

/* Frees the carrier once it is closing and nothing of it is open any more. */
void carrier_free_if_done(struct carrier *carrier);

/* --- carrier_holding.c: which chambers to own --- */

/* ACTION_SET_FILTERS: takes hold of exactly these chambers; EVENT_FILTERS_IN_FORCE follows. */
void carrier_hold_chambers(struct carrier *carrier, const struct cluster_action *action);

/* After the connection was lost the same chambers are taken up again, as soon as it is certain that no other
 * process has got the ID meanwhile. */
void carrier_hold_again(struct carrier *carrier);

/* ACTION_KEEP_CONSUMER: lets every chamber go; at the server the consumer stays as it is. */
void carrier_keep_consumer(struct carrier *carrier);

/* Pulls as much as the worker would take now, or nothing. */
void carrier_apply_want(struct carrier *carrier);

int carrier_compare_tokens(const void *a, const void *b); /* for lists of "{tool}.{chamber}" */

/* --- carrier_errands.c: requests whose answers become events --- */

struct errand *carrier_begin_errand(struct carrier *carrier, uint64_t token);

/* The carrier, unless it is closing; then the errand's answer is of no use to anyone. */
struct carrier *carrier_end_errand(struct errand *errand);

void carrier_write_key(struct carrier *carrier, const struct cluster_action *action);
void carrier_probe_member(struct carrier *carrier, const struct cluster_action *action);
void carrier_fence_consumer(struct carrier *carrier, const struct cluster_action *action);
void carrier_list_subjects(struct carrier *carrier, const struct cluster_action *action);

/* --- carrier_watches.c: what is heard --- */

/* Begins a watch on the key or pattern, or ends it when the action has no value. */
void carrier_watch_key(struct carrier *carrier, const struct cluster_action *action);

/* Watches rest while the connection is away, and begin anew after the cluster has heard that it is back: what
 * they give then is the newest, and their "current" is never mistaken for one from before. */
void carrier_rest_watches(struct carrier *carrier);
void carrier_resume_watches(struct carrier *carrier);
void carrier_end_watches(struct carrier *carrier);

void carrier_hear_heartbeats(struct carrier *carrier, bool on);
void carrier_publish_heartbeat(struct carrier *carrier, const struct cluster_heartbeat *heartbeat);

#endif
