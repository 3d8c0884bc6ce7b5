/* The last word on small inputs: depth-first, heaviest chamber first, its owner first, cut by moves and by
 * room. */
#include "assign/plan.h"

#include <string.h>

enum {
    SEARCH_CHAMBERS_MAX = 64,
    SEARCH_MEMBERS_MAX = 64,
    SEARCH_NODES_MAX = 200000 /* about 10 ms */
};

struct search {
    struct plan *plan;
    int32_t best[SEARCH_CHAMBERS_MAX];
    size_t best_moves; /* SIZE_MAX before anything was found */
    size_t nodes;
    bool frozen;
    int64_t rest[SEARCH_CHAMBERS_MAX + 1]; /* weight of the chambers from here on */
    uint32_t homes[SEARCH_MEMBERS_MAX];    /* chambers not yet placed whose home this member is */
};

static int64_t search_room(const struct plan *plan)
{
    int64_t room = 0;
    for (size_t j = 0; j < plan->members; j++)
        room += plan->cap[j] > plan->load[j] ? plan->cap[j] - plan->load[j] : 0;
    return room;
}

/* Members with the same load and bounds, to which no waiting chamber would return, are one and the same. */
static bool search_seen(const struct search *search, size_t member, int32_t home)
{
    const struct plan *plan = search->plan;
    if (search->homes[member] > 0)
        return false;
    for (size_t j = 0; j < member; j++)
        if ((int32_t)j != home && search->homes[j] == 0 && plan->load[j] == plan->load[member] &&
            plan->cap[j] == plan->cap[member])
            return true;
    return false;
}

static void search_from(struct search *search, size_t rank, size_t moves);

static void search_give(struct search *search, size_t rank, size_t member, size_t moves)
{
    struct plan *plan = search->plan;
    int32_t home = plan->home[rank];
    moves += home != PLAN_NOBODY && home != (int32_t)member;
    if (plan->load[member] + plan->weight[rank] > plan->cap[member] || moves >= search->best_moves)
        return;
    plan_give(plan, rank, member);
    search_from(search, rank + 1, moves);
    plan_take(plan, rank);
}

static void search_from(struct search *search, size_t rank, size_t moves)
{
    struct plan *plan = search->plan;
    if (rank == plan->chambers) {
        search->best_moves = moves;
        memcpy(search->best, plan->now, plan->chambers * sizeof *search->best);
        return;
    }
    if (search->nodes >= SEARCH_NODES_MAX || search->rest[rank] > search_room(plan))
        return;
    search->nodes++;
    if (plan->now[rank] != PLAN_NOBODY) { /* frozen where it is */
        search_from(search, rank + 1, moves);
        return;
    }
    int32_t home = plan->home[rank];
    if (home >= 0) {
        search->homes[home]--;
        search_give(search, rank, (size_t)home, moves);
    }
    for (size_t j = 0; j < plan->members; j++)
        if ((int32_t)j != home && !search_seen(search, j, home))
            search_give(search, rank, j, moves);
    if (home >= 0)
        search->homes[home]++;
}

int plan_search(struct plan *plan, bool frozen, bool *found, bool *exhausted, struct error *err)
{
    *found = *exhausted = false;
    if (plan->chambers > SEARCH_CHAMBERS_MAX || plan->members > SEARCH_MEMBERS_MAX)
        return 0;
    struct search *search = arena_calloc(plan->arena, 1, sizeof *search);
    int32_t *kept = arena_alloc(plan->arena, plan->chambers * sizeof *kept);
    if (search == NULL || kept == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to search an assignment of %zu chambers",
                         plan->chambers);
    search->plan = plan;
    search->frozen = frozen;
    search->best_moves = SIZE_MAX;
    memcpy(kept, plan->now, plan->chambers * sizeof *kept);
    for (size_t r = plan->chambers; r-- > 0;) {
        bool stays = frozen ? plan->before[r] >= 0 : plan->giant[plan->now[r]] == (int32_t)r;
        search->rest[r] = search->rest[r + 1] + (stays ? 0 : plan->weight[r]);
        if (stays)
            continue;
        plan_take(plan, r);
        if (plan->home[r] >= 0)
            search->homes[plan->home[r]]++;
    }
    search_from(search, 0, 0);
    *found = search->best_moves != SIZE_MAX;
    *exhausted = search->nodes < SEARCH_NODES_MAX;
    const int32_t *chosen = *found ? search->best : kept;
    for (size_t r = 0; r < plan->chambers; r++)
        if (plan->now[r] == PLAN_NOBODY)
            plan_give(plan, r, (size_t)chosen[r]);
    return 0;
}
