/* What must leave the members that hold too much. */
#include "assign/plan.h"

/* Whether the heaviest giant that `member` held is another one than `rank`. */
static bool holds_other_giant(const struct plan *plan, size_t member, size_t rank)
{
    uint32_t first = plan->start[member];
    if (plan->giant[member] != PLAN_NOBODY)
        return true;
    return first < plan->start[member + 1] && plan->held[first] < plan->giants && plan->held[first] != rank;
}

/* The member to keep giant `rank` to itself, where that moves least: its owner if that has little else, or
 * the one that has least to give away. */
static size_t giant_house(const struct plan *plan, size_t rank)
{
    size_t best = plan->members, least = SIZE_MAX;
    int32_t owner = plan->before[rank];
    for (size_t j = 0; j < plan->members; j++) {
        if (plan->restricted[j] || holds_other_giant(plan, j, rank))
            continue;
        size_t held = plan->start[j + 1] - plan->start[j];
        size_t moves = (int32_t)j == owner ? held - 1 : held + 1;
        if (moves < least || (moves == least && (int32_t)j == owner)) {
            least = moves;
            best = j;
        }
    }
    return best;
}

static size_t shed_for_giant(struct plan *plan, size_t member, size_t rank)
{
    size_t shed = 0;
    for (uint32_t i = plan->start[member]; i < plan->start[member + 1]; i++) {
        uint32_t other = plan->held[i];
        if (other == rank || plan->now[other] != (int32_t)member)
            continue;
        plan_take(plan, other);
        shed++;
    }
    return shed;
}

static size_t shed_giants(struct plan *plan)
{
    size_t shed = 0;
    for (size_t rank = 0; rank < plan->giants; rank++) {
        size_t member = giant_house(plan, rank);
        if (member == plan->members)
            continue;
        shed += shed_for_giant(plan, member, rank);
        if (plan->now[rank] != (int32_t)member) {
            if (plan->now[rank] != PLAN_NOBODY)
                plan_take(plan, rank);
            plan_give(plan, rank, member);
            shed++;
        }
        plan->giant[member] = (int32_t)rank;
        plan->fair[member] = plan->cap[member] = plan->floor[member] = plan->weight[rank];
    }
    return shed;
}

/* The fewest chambers of `member` whose leaving brings it below its cap. */
static size_t shed_count(const struct plan *plan, size_t member)
{
    int64_t excess = plan->load[member] - plan->cap[member];
    size_t count = 0;
    for (uint32_t i = plan->start[member]; i < plan->start[member + 1] && excess > 0; i++) {
        uint32_t rank = plan->held[i];
        if (plan->now[rank] != (int32_t)member)
            continue;
        excess -= plan->weight[rank];
        count++;
    }
    return count;
}

/* The weight of the `count` heaviest chambers that `member` still has, but for the one at `except`. */
static int64_t heaviest_but(const struct plan *plan, size_t member, size_t count, uint32_t except)
{
    int64_t sum = 0;
    for (uint32_t i = plan->start[member]; i < plan->start[member + 1] && count > 0; i++) {
        if (i == except || plan->now[plan->held[i]] != (int32_t)member)
            continue;
        sum += plan->weight[plan->held[i]];
        count--;
    }
    return sum;
}

/* Picks the next of `left` chambers to leave: the heaviest that does not take the member below its fair
 * weight, as heavy ones fill those that lack weight in few moves; if that would leave too much for the
 * others, the lightest that will do. */
static uint32_t shed_pick(const struct plan *plan, size_t member, size_t left)
{
    uint32_t last = plan->start[member];
    int64_t excess = plan->load[member] - plan->cap[member];
    for (uint32_t i = plan->start[member]; i < plan->start[member + 1]; i++) {
        uint32_t rank = plan->held[i];
        if (plan->now[rank] != (int32_t)member)
            continue;
        if (plan->weight[rank] + heaviest_but(plan, member, left - 1, i) < excess)
            break;
        last = rank;
        if (plan->load[member] - plan->weight[rank] >= plan->fair[member])
            break;
    }
    return last;
}

size_t plan_shed(struct plan *plan)
{
    size_t shed = shed_giants(plan);
    for (size_t j = 0; j < plan->members; j++) {
        if (plan->load[j] <= plan->cap[j] || plan->giant[j] != PLAN_NOBODY)
            continue;
        size_t count = shed_count(plan, j);
        shed += count;
        for (; count > 0 && plan->load[j] > plan->cap[j]; count--)
            plan_take(plan, shed_pick(plan, j, count));
    }
    return shed;
}
