/* What members give away to lift those below their floors. */
#include "assign/plan.h"

/* Donors by the chamber that each would give next: a heap with the lowest rank, the heaviest chamber, on top.
 */
struct donors {
    uint32_t *offer; /* [count] ranks */
    size_t count;
};

static void donors_sink(struct donors *donors, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= donors->count)
            return;
        if (child + 1 < donors->count && donors->offer[child + 1] < donors->offer[child])
            child++;
        if (donors->offer[at] <= donors->offer[child])
            return;
        uint32_t swap = donors->offer[at];
        donors->offer[at] = donors->offer[child];
        donors->offer[child] = swap;
        at = child;
    }
}

/* Moves `at` to the heaviest chamber of the member, from there on, that leaves it above its floor and is no
 * heavier than `room`. A chamber that is too heavy once is too heavy for good: loads of donors only fall. */
static bool donor_next(const struct plan *plan, size_t member, uint32_t *at, int64_t room)
{
    int64_t spare = plan->load[member] - plan->floor[member];
    int64_t most = spare < room ? spare : room;
    for (; *at < plan->start[member + 1]; (*at)++) {
        uint32_t rank = plan->held[*at];
        if (plan->now[rank] == (int32_t)member && plan->weight[rank] <= most)
            return true;
    }
    return false;
}

struct lack {
    int64_t weight; /* that members lack to their floors, beside what waits */
    int64_t room;   /* the largest room of one of them */
};

static struct lack lift_lack(const struct plan *plan)
{
    struct lack lack = {0};
    for (size_t r = 0; r < plan->chambers; r++)
        if (plan->now[r] == PLAN_NOBODY)
            lack.weight -= plan->weight[r];
    for (size_t j = 0; j < plan->members; j++) {
        if (plan->load[j] >= plan->floor[j])
            continue;
        int64_t room = plan->cap[j] - plan->load[j];
        lack.weight += plan->floor[j] - plan->load[j];
        lack.room = room > lack.room ? room : lack.room;
    }
    return lack;
}

static void lift_take(struct plan *plan, struct donors *donors, uint32_t *at, struct lack lack)
{
    size_t moved = plan_moved(plan);
    while (donors->count > 0 && lack.weight > 0) {
        uint32_t rank = donors->offer[0];
        size_t member = (size_t)plan->now[rank];
        bool moves = plan->home[rank] == (int32_t)member;
        if (moves && moved >= plan->moves_max) {
            plan->budget_spent = true;
            return;
        }
        moved += moves;
        lack.weight -= plan->weight[rank];
        plan_take(plan, rank);
        if (donor_next(plan, member, &at[member], lack.room))
            donors->offer[0] = plan->held[at[member]];
        else
            donors->offer[0] = donors->offer[--donors->count];
        donors_sink(donors, 0);
    }
}

int plan_lift(struct plan *plan, struct error *err)
{
    struct lack lack = lift_lack(plan);
    if (lack.weight <= 0)
        return 0;
    /* Whole chambers do not divide evenly: a little more than is lacking, so that every member gets its part.
     */
    lack.weight += lack.weight / 200;
    struct donors donors = {.offer = arena_alloc(plan->arena, plan->members * sizeof *donors.offer)};
    uint32_t *at = arena_alloc(plan->arena, plan->members * sizeof *at);
    if (donors.offer == NULL || at == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to lift %zu defenders", plan->members);
    for (size_t j = 0; j < plan->members; j++) {
        at[j] = plan->start[j];
        if (plan->load[j] > plan->floor[j] && donor_next(plan, j, &at[j], lack.room))
            donors.offer[donors.count++] = plan->held[at[j]];
    }
    for (size_t i = donors.count / 2; i-- > 0;)
        donors_sink(&donors, i);
    lift_take(plan, &donors, at, lack);
    return 0;
}
