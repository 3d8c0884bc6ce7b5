/* Which run ends next: a heap of the chambers by the end of their next run. */
#include "fab/fab.h"

#include <stdlib.h>

struct entry {
    int64_t end_us;
    size_t chamber;
    uint64_t number;
};

struct fab_schedule {
    const struct fab *fab;
    uint64_t last; /* of each chamber */
    struct entry *heap;
    size_t count;
};

static bool earlier(const struct entry *a, const struct entry *b)
{
    return a->end_us != b->end_us ? a->end_us < b->end_us : a->chamber < b->chamber;
}

static void sink(struct fab_schedule *schedule, size_t at)
{
    struct entry entry = schedule->heap[at];
    for (size_t child; (child = 2 * at + 1) < schedule->count; at = child) {
        if (child + 1 < schedule->count && earlier(&schedule->heap[child + 1], &schedule->heap[child]))
            child++;
        if (!earlier(&schedule->heap[child], &entry))
            break;
        schedule->heap[at] = schedule->heap[child];
    }
    schedule->heap[at] = entry;
}

int fab_schedule_create(const struct fab *fab, uint64_t first, uint64_t runs, struct fab_schedule **out,
                        struct error *err)
{
    *out = NULL;
    if (runs == 0 || first >= FAB_RUNS_MAX || runs > FAB_RUNS_MAX - first)
        return error_set(err, ERR_INVALID, "runs of a chamber must be 1 or more, and end before number %d",
                         FAB_RUNS_MAX);
    struct fab_schedule *schedule = calloc(1, sizeof *schedule);
    size_t chambers = fab_chambers(fab);
    struct entry *heap = calloc(chambers, sizeof *heap);
    if (schedule == NULL || heap == NULL) {
        free(schedule);
        free(heap);
        return error_set(err, ERR_NO_MEMORY, "no memory for the schedule of %zu chambers", chambers);
    }
    *schedule = (struct fab_schedule){fab, first + runs - 1, heap, chambers};
    for (size_t c = 0; c < chambers; c++)
        heap[c] = (struct entry){fab_run_end_us(fab, c, first), c, first};
    for (size_t i = chambers / 2; i-- > 0;)
        sink(schedule, i);
    *out = schedule;
    return 0;
}

void fab_schedule_free(struct fab_schedule *schedule)
{
    if (schedule == NULL)
        return;
    free(schedule->heap);
    free(schedule);
}

bool fab_schedule_next(struct fab_schedule *schedule, size_t *chamber, uint64_t *number, int64_t *end_us)
{
    if (schedule->count == 0)
        return false;
    struct entry *top = &schedule->heap[0];
    *chamber = top->chamber;
    *number = top->number;
    *end_us = top->end_us;
    if (top->number < schedule->last) {
        top->number++;
        top->end_us = fab_run_end_us(schedule->fab, top->chamber, top->number);
    } else {
        *top = schedule->heap[--schedule->count];
    }
    if (schedule->count > 0)
        sink(schedule, 0);
    return true;
}
