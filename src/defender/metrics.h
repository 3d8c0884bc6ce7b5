/* What a defender counts and times. Belongs to the loop's thread. */
#ifndef CHAMBERLAIN_DEFENDER_METRICS_H
#define CHAMBERLAIN_DEFENDER_METRICS_H

#include "base/histogram.h"
#include "base/strbuf.h"
#include "chart/uchart.h"
#include "cluster/cluster.h"

#include <stdint.h>

/* The steps of one context, in their order; the last is the whole: from receipt to acknowledgement. */
enum metrics_step {
    STEP_FETCH,     /* the T-chart, from the store */
    STEP_HISTORY,   /* the U-chart history, from the cache or the store */
    STEP_DECODE,    /* Mebo */
    STEP_CALCULATE, /* indicators */
    STEP_EVALUATE,  /* limits and rules */
    STEP_ALARM,     /* published and acknowledged */
    STEP_STORE,     /* the U-chart, written */
    STEP_CACHE,     /* updated */
    STEP_TOTAL,
    STEP_COUNT
};

struct metrics {
    struct histogram steps[STEP_COUNT];
    struct histogram cache_hit, cache_miss; /* history look-ups apart */
    struct histogram acquire, renew;        /* of the leader's lease: from the write to its answer */
    struct histogram delivery; /* from when the stream had taken a message until it came here first; by both
                                  machines' clocks */
    struct histogram announcement;            /* likewise from when its announcer sent it */
    struct histogram store_read, store_write; /* calls to the store for contexts being judged */
    struct histogram filters;                 /* a change of the consumer's filters, until it is in force */
    struct histogram rebalance; /* from a change of the assignment begun until all have it in force */
    int64_t received;           /* messages, redeliveries left out */
    int64_t redelivered;
    int64_t judged;                           /* contexts whose U-chart was written */
    int64_t repeated;                         /* announced again, judged already, nothing to do */
    int64_t rejudged;                         /* judged again because an earlier context came late */
    int64_t dead;                             /* dead-lettered */
    int64_t missing;                          /* ... of them those without a T-chart */
    int64_t retried;                          /* attempts put off: store away, or T-chart not there yet */
    int64_t alarms;                           /* published */
    int64_t alarms_of[SEVERITY_CRITICAL + 1]; /* ... by severity */
    int64_t store_read_errors, store_write_errors;
    int64_t heartbeat_errors;                        /* heartbeats that could not be sent */
    int64_t state_entered[CLUSTER_STOPPED + 1];      /* how often each state was come to */
    int64_t triggered[LIFECYCLE_EMERGENCY + 1];      /* how often the leader's controller came to each */
    int64_t swept;                                   /* announced again from the outbox */
    int64_t first_received_us, last_acknowledged_us; /* wall clock: throughput */
};

const char *metrics_step_name(enum metrics_step step);

/* The counts and the percentiles of each step, as the members of a JSON object (without the braces). */
void metrics_format(const struct metrics *metrics, struct strbuf *json);

#endif
