/* The fewest moves with which any assignment could keep the same bounds: the formula and its proof stand in
 * assign.h. */
#include "assign/plan.h"

#include <string.h>

/* One member that can lose weight: how much at most, and how much its `taken` heaviest chambers already
 * account for. */
struct loser {
    int64_t spare, lost;
    uint32_t at, end; /* in plan.held */
};

struct losers {
    struct loser *heap; /* the largest next loss on top */
    size_t count;
};

static int64_t loser_next(const struct plan *plan, const struct loser *loser)
{
    if (loser->at >= loser->end)
        return 0;
    int64_t weight = plan->weight[plan->held[loser->at]], left = loser->spare - loser->lost;
    return weight < left ? weight : left;
}

static void losers_sink(const struct plan *plan, struct losers *losers, size_t at)
{
    struct loser *heap = losers->heap;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= losers->count)
            return;
        if (child + 1 < losers->count && loser_next(plan, &heap[child + 1]) > loser_next(plan, &heap[child]))
            child++;
        if (loser_next(plan, &heap[at]) >= loser_next(plan, &heap[child]))
            return;
        struct loser swap = heap[at];
        heap[at] = heap[child];
        heap[child] = swap;
        at = child;
    }
}

/* Takes the chambers that must leave for the cap (for a giant's house: all the others). */
static size_t loser_forced(const struct plan *plan, size_t member, int64_t held, struct loser *loser)
{
    size_t forced = 0;
    int64_t weight = 0, cap = plan->load[member] > plan->cap[member] ? plan->load[member] : plan->cap[member];
    int64_t excess = held - cap;
    while (loser->at < loser->end && weight < excess) {
        uint32_t rank = plan->held[loser->at++];
        if (plan->giant[member] == (int32_t)rank)
            continue;
        weight += plan->weight[rank];
        forced++;
    }
    loser->lost = weight < loser->spare ? weight : loser->spare;
    return forced;
}

static size_t losers_take(const struct plan *plan, struct losers *losers, int64_t needed)
{
    size_t taken = 0;
    for (size_t i = losers->count / 2; i-- > 0;)
        losers_sink(plan, losers, i);
    while (needed > 0 && losers->count > 0) {
        int64_t next = loser_next(plan, &losers->heap[0]);
        if (next <= 0)
            break;
        needed -= next;
        losers->heap[0].lost += next;
        losers->heap[0].at++;
        taken++;
        losers_sink(plan, losers, 0);
    }
    return taken;
}

/* The fewest of the heaviest chambers that weigh `lack`; `sums` are the sums of the heaviest. */
static size_t arrivals_least(const int64_t *sums, size_t count, int64_t lack)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (sums[middle] < lack)
            low = middle + 1;
        else
            high = middle;
    }
    return low + 1;
}

struct homeless {
    size_t gone, unowned;
    int64_t weight;
};

/* Groups chambers by home, so that plan.start, held describe what the caller gave. Loads are not touched. */
static struct homeless homes_group(struct plan *plan, int64_t *sums)
{
    struct homeless homeless = {0};
    memset(plan->start, 0, (plan->members + 1) * sizeof *plan->start);
    int64_t sum = 0;
    for (size_t r = 0; r < plan->chambers; r++) {
        sums[r] = sum += plan->weight[r];
        if (plan->home[r] >= 0) {
            plan->start[plan->home[r] + 1]++;
            continue;
        }
        homeless.gone += plan->home[r] == PLAN_GONE;
        homeless.unowned += plan->home[r] == PLAN_NOBODY;
        homeless.weight += plan->weight[r];
    }
    for (size_t j = 0; j < plan->members; j++)
        plan->start[j + 1] += plan->start[j];
    for (size_t r = 0; r < plan->chambers; r++)
        if (plan->home[r] >= 0)
            plan->held[plan->start[plan->home[r]]++] = (uint32_t)r;
    for (size_t j = plan->members; j > 0; j--)
        plan->start[j] = plan->start[j - 1];
    plan->start[0] = 0;
    return homeless;
}

int plan_moved_least(struct plan *plan, size_t *least, struct error *err)
{
    int64_t *sums = arena_alloc(plan->arena, plan->chambers * sizeof *sums);
    struct losers losers = {.heap = arena_alloc(plan->arena, plan->members * sizeof *losers.heap)};
    if (sums == NULL || losers.heap == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the lower bound of %zu defenders", plan->members);
    struct homeless homeless = homes_group(plan, sums);
    size_t leavers = 0, arrivals = 0;
    int64_t needed = -homeless.weight;
    for (size_t j = 0; j < plan->members; j++) {
        struct loser loser = {.at = plan->start[j], .end = plan->start[j + 1]};
        int64_t held = 0, floor = plan->load[j] < plan->floor[j] ? plan->load[j] : plan->floor[j];
        for (uint32_t i = loser.at; i < loser.end; i++)
            held += plan->weight[plan->held[i]];
        loser.spare = held > floor ? held - floor : 0;
        leavers += loser_forced(plan, j, held, &loser);
        needed -= loser.lost;
        if (held >= floor) {
            losers.heap[losers.count++] = loser;
            continue;
        }
        needed += floor - held;
        arrivals += arrivals_least(sums, plan->chambers, floor - held);
    }
    leavers += losers_take(plan, &losers, needed) + homeless.gone;
    arrivals = arrivals > homeless.unowned ? arrivals - homeless.unowned : 0;
    *least = plan->mode == ASSIGN_EMERGENCY ? homeless.gone : leavers > arrivals ? leavers : arrivals;
    return 0;
}
