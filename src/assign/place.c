#include "assign/plan.h"

void plan_give(struct plan *plan, size_t rank, size_t member)
{
    plan->now[rank] = (int32_t)member;
    plan->load[member] += plan->weight[rank];
    plan->count[member]++;
}

void plan_take(struct plan *plan, size_t rank)
{
    size_t member = (size_t)plan->now[rank];
    plan->load[member] -= plan->weight[rank];
    plan->count[member]--;
    plan->now[rank] = PLAN_NOBODY;
}

void plan_settle(struct plan *plan)
{
    size_t m = plan->members;
    for (size_t j = 0; j <= m; j++)
        plan->start[j] = 0;
    for (size_t j = 0; j < m; j++) {
        plan->load[j] = 0;
        plan->count[j] = 0;
    }
    for (size_t r = 0; r < plan->chambers; r++) {
        plan->now[r] = PLAN_NOBODY;
        if (plan->before[r] >= 0)
            plan_give(plan, r, (size_t)plan->before[r]);
    }
    for (size_t j = 0; j < m; j++)
        plan->start[j + 1] = plan->start[j] + (uint32_t)plan->count[j];
    /* Filling moves each start to the next member's; shifted back afterwards. */
    for (size_t r = 0; r < plan->chambers; r++)
        if (plan->before[r] >= 0)
            plan->held[plan->start[plan->before[r]]++] = (uint32_t)r;
    for (size_t j = m; j > 0; j--)
        plan->start[j] = plan->start[j - 1];
    plan->start[0] = 0;
}

size_t plan_moved(const struct plan *plan)
{
    size_t moved = 0;
    for (size_t r = 0; r < plan->chambers; r++)
        moved += plan->home[r] != PLAN_NOBODY && plan->now[r] != plan->home[r];
    return moved;
}

int64_t plan_excess(const struct plan *plan)
{
    int64_t excess = 0;
    for (size_t j = 0; j < plan->members; j++)
        if (plan->load[j] > plan->cap[j])
            excess += plan->load[j] - plan->cap[j];
    return excess;
}

int plan_place(struct plan *plan, struct error *err)
{
    struct lightest lightest;
    int code = lightest_init(&lightest, plan, err);
    for (size_t r = 0; code == 0 && r < plan->chambers; r++) {
        if (plan->now[r] != PLAN_NOBODY)
            continue;
        size_t member = lightest_pick(&lightest, plan, plan->weight[r]);
        plan_give(plan, r, member);
        lightest_update(&lightest, plan, member);
    }
    return code;
}

void plan_return(struct plan *plan)
{
    /* Lightest first: they fit most easily, and each spares one move whatever its weight. */
    for (size_t r = plan->chambers; r-- > 0;) {
        int32_t home = plan->home[r], now = plan->now[r];
        if (home < 0 || home == now)
            continue;
        int64_t weight = plan->weight[r];
        if (plan->giant[home] != PLAN_NOBODY || plan->giant[now] == (int32_t)r)
            continue;
        if (plan->load[home] + weight > plan->cap[home] || plan->load[now] - weight < plan->floor[now])
            continue;
        plan_take(plan, r);
        plan_give(plan, r, (size_t)home);
    }
}
