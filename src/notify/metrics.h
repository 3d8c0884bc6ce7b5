/* What the notifier counts, and how Prometheus is told. */
#ifndef CHAMBERLAIN_NOTIFY_METRICS_H
#define CHAMBERLAIN_NOTIFY_METRICS_H

#include "base/histogram.h"
#include "base/strbuf.h"
#include "notify/config.h"

/* Of one sink, since the process started. */
struct notify_sink_metrics {
    const char *sink; /* its name */
    enum sink_kind kind;
    uint64_t received;                  /* alarms, redeliveries and repetitions included */
    uint64_t told;                      /* alarms in messages that were accepted */
    uint64_t counted;                   /* ... of them those that were not listed but counted */
    uint64_t messages;                  /* accepted */
    uint64_t failures;                  /* attempts that failed */
    uint64_t buried;                    /* alarms whose message was refused for good and dead-lettered */
    uint64_t settled;                   /* alarms acknowledged before their escalation was due */
    uint64_t repeated;                  /* deliveries of alarms that were known */
    uint64_t unrouted;                  /* alarms that no route leads here */
    uint64_t unreadable;                /* messages of the stream that are no alarms */
    uint64_t early;                     /* alarms told before their cool-down was over, for want of room */
    uint64_t held, cooling, escalating; /* now */
    unsigned attempt;                   /* of the message under way; 0: there is none */
    int64_t accepted_us;                /* when a message was accepted last, wall clock; 0 */
    struct histogram send;              /* each attempt */
};

struct notify_metrics {
    bool active; /* this process is the one at work */
    const struct notify_sink_metrics *sinks;
    size_t sink_count;
};

/* The metrics notify_* in the text format. `sink` is the only label: there are NOTIFY_SINKS_MAX at most. */
void notify_metrics_write(const struct notify_metrics *metrics, struct strbuf *out);

#endif
