/* What each member is meant to hold, at most and at least. */
#include "assign/plan.h"

#include <math.h>
#include <stdlib.h>

/* A member with a share is meant to hold a little less than it may, so that whole chambers fit under it. */
static const double SHARE_FILL = 0.9;
/* Bounds are products of rounded numbers: 1.2 x 160/3 must be 64, not a hair below. */
static const double ROUNDING = 1e-12;

static int64_t round_down(double value)
{
    return (int64_t)floor(value * (1 + ROUNDING));
}

static int64_t round_up(double value)
{
    return (int64_t)ceil(value * (1 - ROUNDING));
}

struct share {
    double share;
    size_t member;
};

static int share_ascending(const void *a, const void *b)
{
    const struct share *x = a, *y = b;
    if (x->share < y->share || x->share > y->share)
        return x->share < y->share ? -1 : 1;
    return (x->member > y->member) - (x->member < y->member);
}

/* Members whose share is below the level get their share; the rest share the rest. */
static double level_fill(const struct plan *plan, const struct share *shares, size_t shared, double weight,
                         size_t members, size_t *restricted)
{
    size_t at = 0;
    for (; at < shared && members > 0; at++) {
        double meant = SHARE_FILL * shares[at].share * (double)plan->total;
        if (meant >= weight / (double)members)
            break;
        weight -= meant;
        members--;
    }
    *restricted = at;
    return members > 0 ? weight / (double)members : 0;
}

/* Every member has a share, and nine tenths of them all are less than the whole. */
static void level_by_shares(struct plan *plan)
{
    double sum = 0, mean = (double)plan->total / (double)plan->members;
    for (size_t j = 0; j < plan->members; j++)
        sum += plan->share[j];
    plan->shares_kept = sum * (1 + ROUNDING) >= 1;
    plan->level = mean;
    for (size_t j = 0; j < plan->members; j++) {
        double fair = (double)plan->total * plan->share[j] / sum;
        double most = plan->options.balance_max * fair, may = plan->share[j] * (double)plan->total;
        plan->restricted[j] = true;
        plan->fair[j] = (int64_t)fair;
        plan->cap[j] = round_down(plan->shares_kept && may < most ? may : most);
        plan->floor[j] = round_up(plan->options.balance_min * fair);
    }
}

/* Of the k*m+1 heaviest chambers on m members, k+1 share one: the least cap that any assignment can keep. */
static int64_t least_cap(const struct plan *plan, size_t members)
{
    int64_t least = 0;
    if (members == 0)
        return 0;
    for (size_t k = 0; plan->giants + k * members < plan->chambers; k++) {
        int64_t together = (int64_t)(k + 1) * plan->weight[plan->giants + k * members];
        least = together > least ? together : least;
    }
    return least;
}

/* With `restricted` of the shares below the level. */
static void level_apply(struct plan *plan)
{
    double most = plan->options.balance_max * plan->level;
    int64_t cap = round_down(most), lightest = plan->weight[plan->chambers - 1];
    int64_t least = least_cap(plan, plan->members - plan->giants);
    if (least > cap)
        plan->reachable = false;
    cap = least > cap ? least : cap;
    for (size_t j = 0; j < plan->members; j++) {
        double may = plan->share[j] * (double)plan->total;
        double fair = plan->restricted[j] ? SHARE_FILL * may : plan->level;
        plan->fair[j] = (int64_t)fair;
        plan->cap[j] = plan->share[j] > 0 && round_down(may) < cap ? round_down(may) : cap;
        plan->floor[j] = round_up(plan->options.balance_min * fair);
        /* One that cannot hold even the lightest chamber lacks nothing. */
        if (plan->cap[j] < lightest)
            plan->floor[j] = 0;
        if (plan->floor[j] > plan->cap[j])
            plan->floor[j] = plan->cap[j];
    }
}

int plan_level(struct plan *plan, struct error *err)
{
    size_t shared = 0, restricted = 0;
    struct share *shares = arena_alloc(plan->arena, plan->members * sizeof *shares);
    if (shares == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the shares of %zu defenders", plan->members);
    for (size_t j = 0; j < plan->members; j++) {
        plan->giant[j] = PLAN_NOBODY;
        if (plan->share[j] > 0)
            shares[shared++] = (struct share){plan->share[j], j};
    }
    qsort(shares, shared, sizeof *shares, share_ascending);
    double rest = (double)plan->total;
    plan->reachable = plan->shares_kept = true;
    plan->level = level_fill(plan, shares, shared, rest, plan->members, &restricted);
    if (restricted == plan->members) {
        level_by_shares(plan);
        return 0;
    }
    /* Each giant takes itself and a member out of the mean, which may make a giant of the next. */
    while (plan->giants < plan->chambers && plan->giants + restricted + 1 < plan->members &&
           plan->weight[plan->giants] > round_down(plan->options.balance_max * plan->level)) {
        rest -= (double)plan->weight[plan->giants++];
        plan->level = level_fill(plan, shares, shared, rest, plan->members - plan->giants, &restricted);
        plan->reachable = false;
    }
    for (size_t i = 0; i < restricted; i++)
        plan->restricted[shares[i].member] = true;
    level_apply(plan);
    return 0;
}
