/* The last resort of large inputs: everything is placed anew, and the parts are named after those who hold
 * most of them. */
#include "assign/plan.h"

#include <stdlib.h>

/* How many chambers of a part have their home at a member. */
struct overlap {
    uint32_t chambers;
    int32_t part, member;
};

static int overlap_by_place(const void *a, const void *b)
{
    const struct overlap *x = a, *y = b;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return (x->member > y->member) - (x->member < y->member);
}

static int overlap_largest(const void *a, const void *b)
{
    const struct overlap *x = a, *y = b;
    if (x->chambers != y->chambers)
        return x->chambers > y->chambers ? -1 : 1;
    return overlap_by_place(a, b);
}

/* Only members with the same cap can take each other's parts, and only those without a giant. */
static bool may_rename(const struct plan *plan, int32_t part, int32_t member)
{
    return plan->giant[part] == PLAN_NOBODY && plan->giant[member] == PLAN_NOBODY &&
           plan->cap[part] == plan->cap[member] && plan->floor[part] == plan->floor[member];
}

static size_t overlaps_count(const struct plan *plan, struct overlap *overlaps)
{
    size_t pairs = 0, count = 0;
    for (size_t r = 0; r < plan->chambers; r++)
        if (plan->home[r] >= 0 && may_rename(plan, plan->now[r], plan->home[r]))
            overlaps[pairs++] = (struct overlap){1, plan->now[r], plan->home[r]};
    qsort(overlaps, pairs, sizeof *overlaps, overlap_by_place);
    for (size_t i = 0; i < pairs; i++) {
        if (count > 0 && overlap_by_place(&overlaps[count - 1], &overlaps[i]) == 0)
            overlaps[count - 1].chambers++;
        else
            overlaps[count++] = overlaps[i];
    }
    qsort(overlaps, count, sizeof *overlaps, overlap_largest);
    return count;
}

/* Fills `name` so that it is a permutation of the members that keeps caps. */
static void parts_name(const struct plan *plan, const struct overlap *overlaps, size_t count, int32_t *name,
                       int32_t *used)
{
    for (size_t j = 0; j < plan->members; j++)
        name[j] = used[j] = PLAN_NOBODY;
    for (size_t i = 0; i < count; i++) {
        const struct overlap *overlap = &overlaps[i];
        if (name[overlap->part] != PLAN_NOBODY || used[overlap->member] != PLAN_NOBODY)
            continue;
        name[overlap->part] = overlap->member;
        used[overlap->member] = overlap->part;
    }
    for (size_t j = 0; j < plan->members; j++) {
        /* A part without a name takes its own, or follows the chain of those who took it to the one left
         * over. */
        int32_t member = (int32_t)j;
        if (name[j] != PLAN_NOBODY)
            continue;
        while (used[member] != PLAN_NOBODY)
            member = used[member];
        name[j] = member;
        used[member] = (int32_t)j;
    }
}

int plan_place_anew(struct plan *plan, struct error *err)
{
    struct overlap *overlaps = arena_alloc(plan->arena, plan->chambers * sizeof *overlaps);
    int32_t *name = arena_alloc(plan->arena, plan->members * sizeof *name);
    int32_t *used = arena_alloc(plan->arena, plan->members * sizeof *used);
    if (overlaps == NULL || name == NULL || used == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to place %zu chambers anew", plan->chambers);
    for (size_t r = 0; r < plan->chambers; r++)
        if (plan->now[r] != PLAN_NOBODY && plan->giant[plan->now[r]] != (int32_t)r)
            plan_take(plan, r);
    int code = plan_place(plan, err);
    if (code)
        return code;
    parts_name(plan, overlaps, overlaps_count(plan, overlaps), name, used);
    for (size_t r = 0; r < plan->chambers; r++) {
        int32_t to = name[plan->now[r]];
        plan_take(plan, r);
        plan_give(plan, r, (size_t)to);
    }
    return plan_repair(plan, false, false, err);
}
