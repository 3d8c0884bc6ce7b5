/* What a collector counts. Belongs to the loop's thread. */
#ifndef CHAMBERLAIN_COLLECTOR_COUNTS_H
#define CHAMBERLAIN_COLLECTOR_COUNTS_H

#include "base/strbuf.h"

#include <stdint.h>

/* X(name): each is a field, a member of the status JSON and, as chamberlain_collector_NAME_total, a metric.
 */
#define COLLECT_COUNTS(X)                                                                                    \
    X(messages)      /* received, redeliveries of what is held left out */                                   \
    X(redelivered)   /* received again while held */                                                         \
    X(bytes)         /* of messages */                                                                       \
    X(batches)       /* taken */                                                                             \
    X(batches_json)  /* of them in JSON */                                                                   \
    X(points)        /* taken */                                                                             \
    X(contexts)      /* completed and announced */                                                           \
    X(low_quality)   /* of them with a reason for low quality */                                             \
    X(chunks)        /* stored before their context was complete */                                          \
    X(taken_over)    /* contexts that another collector, or this one before a restart, had begun */          \
    X(duplicates)    /* messages that said again what was known */                                           \
    X(out_of_order)  /* batches that came after one of a higher number */                                    \
    X(lost_batches)  /* given up after the wait for them */                                                  \
    X(late)          /* batches that came after their context was complete, or after they were given up */   \
    X(disordered)    /* samples left out because time ran back */                                            \
    X(clock)         /* batches and ends whose times make no sense */                                        \
    X(undecodable)   /* messages that cannot be read */                                                      \
    X(no_start)      /* messages whose start never came */                                                   \
    X(silent)        /* contexts cut because the tool fell silent */                                         \
    X(superseded)    /* contexts cut because the chamber began another */                                    \
    X(empty)         /* contexts without a single sample */                                                  \
    X(dead)          /* messages put into the dead letters */                                                \
    X(conflicts)     /* contexts that another completed or wrote */                                          \
    X(pressed)       /* flushes and drops for want of memory */                                              \
    X(store_retries) /* store calls tried again */                                                           \
    X(bus_retries)   /* NATS calls tried again */

struct collect_counts {
#define COLLECT_FIELD(name) int64_t name;
    COLLECT_COUNTS(COLLECT_FIELD)
#undef COLLECT_FIELD
};

/* The counts as the members of a JSON object (without the braces). */
void collect_counts_format(const struct collect_counts *counts, struct strbuf *json);

#endif
