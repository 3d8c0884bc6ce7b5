#include "queue.h"

#include "memory.h"

#include <stdlib.h>

void sim_queue_free(struct sim_queue *queue)
{
    free(queue->items);
    *queue = (struct sim_queue){0};
}

static bool earlier(const struct sim_item *a, const struct sim_item *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_queue_add(struct sim_queue *queue, int64_t at_us, sim_call *call, void *target, uint64_t argument)
{
    if (queue->count == queue->capacity)
        queue->items = sim_grow(queue->items, &queue->capacity, sizeof *queue->items);
    struct sim_item item = {at_us, queue->added++, call, target, argument};
    size_t at = queue->count++;
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (!earlier(&item, &queue->items[parent]))
            break;
        queue->items[at] = queue->items[parent];
        at = parent;
    }
    queue->items[at] = item;
}

bool sim_queue_take(struct sim_queue *queue, struct sim_item *item)
{
    if (queue->count == 0)
        return false;
    *item = queue->items[0];
    struct sim_item last = queue->items[--queue->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= queue->count)
            break;
        if (child + 1 < queue->count && earlier(&queue->items[child + 1], &queue->items[child]))
            child++;
        if (!earlier(&queue->items[child], &last))
            break;
        queue->items[at] = queue->items[child];
        at = child;
    }
    if (queue->count > 0)
        queue->items[at] = last;
    return true;
}
