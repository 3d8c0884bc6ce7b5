/* What a collector counts. Belongs to the loop's thread. */
#ifndef CHAMBERLAIN_COLLECTOR_COUNTS_H
#define CHAMBERLAIN_COLLECTOR_COUNTS_H

#include "base/strbuf.h"

#include <stdint.h>

/* X(name, what it counts): each is a field, a member of the status JSON and, as collector_NAME_total, a
 * metric. */
#define COLLECT_COUNTS(X)                                                                                    \
    X(messages, "Messages received, redeliveries of what is held left out.")                                 \
    X(redelivered, "Messages received again while they were held.")                                          \
    X(bytes, "Bytes of messages received.")                                                                  \
    X(batches, "Batches taken.")                                                                             \
    X(batches_json, "Batches taken that were JSON.")                                                         \
    X(points, "Samples taken.")                                                                              \
    X(contexts, "Contexts completed and announced.")                                                         \
    X(low_quality, "Contexts completed with low quality.")                                                   \
    X(chunks, "Chunks stored before their context was complete.")                                            \
    X(taken_over, "Contexts that another collector, or this one before a restart, had begun.")               \
    X(duplicates, "Messages that said again what was known.")                                                \
    X(out_of_order, "Batches that came after one of a higher number.")                                       \
    X(lost_batches, "Batches given up after the wait for them.")                                             \
    X(late, "Batches that came after their context was complete, or after they were given up.")              \
    X(disordered, "Samples left out because time ran back.")                                                 \
    X(clock, "Batches and ends whose times make no sense.")                                                  \
    X(undecodable, "Messages that cannot be read.")                                                          \
    X(no_start, "Messages whose start never came.")                                                          \
    X(silent, "Contexts cut because the tool fell silent.")                                                  \
    X(superseded, "Contexts cut because the chamber began another.")                                         \
    X(empty, "Contexts without a single sample.")                                                            \
    X(dead, "Messages put into the dead letters.")                                                           \
    X(conflicts, "Contexts that another completed or wrote.")                                                \
    X(pressed, "Flushes and drops for want of memory.")                                                      \
    X(store_retries, "Store calls tried again.")                                                             \
    X(bus_retries, "NATS calls tried again.")

struct collect_counts {
#define COLLECT_FIELD(name, help) int64_t name;
    COLLECT_COUNTS(COLLECT_FIELD)
#undef COLLECT_FIELD
};

/* The counts as the members of a JSON object (without the braces). */
void collect_counts_format(const struct collect_counts *counts, struct strbuf *json);

#endif
