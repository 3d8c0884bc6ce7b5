#include "assign/plan.h"

static int32_t lightest_of(const struct plan *plan, int32_t a, int32_t b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    int64_t over_a = plan->load[a] - plan->fair[a], over_b = plan->load[b] - plan->fair[b];
    return over_b < over_a ? b : a;
}

int lightest_init(struct lightest *lightest, const struct plan *plan, struct error *err)
{
    lightest->leaves = 1;
    while (lightest->leaves < plan->members)
        lightest->leaves *= 2;
    lightest->winner = arena_alloc(plan->arena, 2 * lightest->leaves * sizeof *lightest->winner);
    if (lightest->winner == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to rank %zu defenders", plan->members);
    for (size_t i = 0; i < lightest->leaves; i++)
        lightest->winner[lightest->leaves + i] = i < plan->members ? (int32_t)i : PLAN_NOBODY;
    for (size_t i = lightest->leaves; i-- > 1;)
        lightest->winner[i] = lightest_of(plan, lightest->winner[2 * i], lightest->winner[2 * i + 1]);
    return 0;
}

void lightest_update(struct lightest *lightest, const struct plan *plan, size_t member)
{
    for (size_t i = (lightest->leaves + member) / 2; i > 0; i /= 2)
        lightest->winner[i] = lightest_of(plan, lightest->winner[2 * i], lightest->winner[2 * i + 1]);
}

size_t lightest_pick(const struct lightest *lightest, const struct plan *plan, int64_t weight)
{
    size_t winner = (size_t)lightest->winner[1], best = winner;
    if (plan->load[winner] + weight <= plan->cap[winner])
        return winner;
    for (size_t j = 0; j < plan->members; j++)
        if (plan->cap[j] - plan->load[j] > plan->cap[best] - plan->load[best])
            best = j;
    return best;
}
