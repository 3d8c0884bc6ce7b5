/* What will happen: a binary heap of calls by simulated time. Calls of the same microsecond run in the order
 * in which they were added, so that a seed replays exactly. */
#ifndef CHAMBERLAIN_SIM_QUEUE_H
#define CHAMBERLAIN_SIM_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef void sim_call(void *world, void *target, uint64_t argument);

struct sim_item {
    int64_t at_us;
    uint64_t order;
    sim_call *call;
    void *target;
    uint64_t argument;
};

struct sim_queue {
    struct sim_item *items;
    size_t count, capacity;
    uint64_t added;
};

void sim_queue_free(struct sim_queue *queue);
void sim_queue_add(struct sim_queue *queue, int64_t at_us, sim_call *call, void *target, uint64_t argument);

/* False when nothing is left. */
bool sim_queue_take(struct sim_queue *queue, struct sim_item *item);

#endif
