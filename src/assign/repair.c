/* Mends what greedy placement left outside the bounds, by giving single chambers away or exchanging two. */
#include "assign/plan.h"

#include <string.h>

enum {
    BAG_ROOM = 8,                /* spare places of a new bag */
    PARTNERS_MAX = 64,           /* members asked to lift one that is below its floor */
    LIKES_MAX = 8,               /* chambers of about the right weight that are compared by cost */
    REPAIR_PROBES_MAX = 4000000, /* chambers looked at in one repair */
    COST_NONE = 3                /* more than any exchange costs */
};

/* The chambers of one member by rank, heaviest first. */
struct bag {
    uint32_t *ranks;
    size_t count, capacity;
};

struct repair {
    struct plan *plan;
    struct bag *bags;
    size_t *guests; /* chambers of each member that have moved to it, or that nobody owned */
    size_t moved, probes;
    bool frozen;
};

/* Chamber `out` goes from the giver to the taker and `back`, if there is one, the other way. */
struct exchange {
    size_t giver, taker;
    uint32_t out, back;
    bool has_back;
    int64_t weight; /* that the giver loses */
    int cost;       /* how many moves more (or fewer) there are then */
};

static int bags_init(struct repair *repair, struct error *err)
{
    const struct plan *plan = repair->plan;
    repair->bags = arena_calloc(plan->arena, plan->members, sizeof *repair->bags);
    repair->guests = arena_calloc(plan->arena, plan->members, sizeof *repair->guests);
    bool enough = repair->bags != NULL && repair->guests != NULL;
    for (size_t j = 0; enough && j < plan->members; j++) {
        struct bag *bag = &repair->bags[j];
        bag->capacity = plan->count[j] + BAG_ROOM;
        bag->ranks = arena_alloc(plan->arena, bag->capacity * sizeof *bag->ranks);
        enough = bag->ranks != NULL;
    }
    if (!enough)
        return error_set(err, ERR_NO_MEMORY, "no memory to mend the loads of %zu defenders", plan->members);
    for (size_t r = 0; r < plan->chambers; r++) {
        struct bag *bag = &repair->bags[plan->now[r]];
        bag->ranks[bag->count++] = (uint32_t)r;
        repair->guests[plan->now[r]] += plan->home[r] != plan->now[r];
    }
    return 0;
}

/* The first place in the bag whose chamber weighs `most` or less. */
static size_t bag_find(const struct plan *plan, const struct bag *bag, int64_t most)
{
    size_t low = 0, high = bag->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (plan->weight[bag->ranks[middle]] > most)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t bag_place(const struct bag *bag, uint32_t rank)
{
    size_t low = 0, high = bag->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (bag->ranks[middle] < rank)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int bag_move(struct repair *repair, size_t from, size_t to, uint32_t rank, struct error *err)
{
    struct bag *giver = &repair->bags[from], *taker = &repair->bags[to];
    if (taker->count == taker->capacity) {
        uint32_t *ranks = arena_alloc(repair->plan->arena, 2 * taker->capacity * sizeof *ranks);
        if (ranks == NULL)
            return error_set(err, ERR_NO_MEMORY, "no memory to move a chamber");
        memcpy(ranks, taker->ranks, taker->count * sizeof *ranks);
        taker->ranks = ranks;
        taker->capacity *= 2;
    }
    size_t at = bag_place(giver, rank);
    memmove(giver->ranks + at, giver->ranks + at + 1, (giver->count - at - 1) * sizeof *giver->ranks);
    giver->count--;
    at = bag_place(taker, rank);
    memmove(taker->ranks + at + 1, taker->ranks + at, (taker->count - at) * sizeof *taker->ranks);
    taker->ranks[at] = rank;
    taker->count++;
    repair->guests[from] -= repair->plan->home[rank] != (int32_t)from;
    repair->guests[to] += repair->plan->home[rank] != (int32_t)to;
    plan_take(repair->plan, rank);
    plan_give(repair->plan, rank, to);
    return 0;
}

static int exchange_apply(struct repair *repair, const struct exchange *exchange, struct error *err)
{
    int code = bag_move(repair, exchange->giver, exchange->taker, exchange->out, err);
    if (code == 0 && exchange->has_back)
        code = bag_move(repair, exchange->taker, exchange->giver, exchange->back, err);
    repair->moved = (size_t)((int64_t)repair->moved + exchange->cost);
    return code;
}

static bool may_move(const struct repair *repair, uint32_t rank)
{
    const struct plan *plan = repair->plan;
    if (plan->giant[plan->now[rank]] != PLAN_NOBODY)
        return false;
    return !repair->frozen || plan->before[rank] < 0;
}

static int move_cost(const struct plan *plan, uint32_t rank, size_t to)
{
    int32_t home = plan->home[rank];
    if (home == PLAN_NOBODY)
        return 0;
    return (home != (int32_t)to) - (home != plan->now[rank]);
}

static void exchange_better(struct exchange *best, const struct exchange *other)
{
    if (other->cost < best->cost)
        *best = *other;
}

/* The cheapest exchange with `out` in which the giver loses between `low` and `high`, kept in `best` if it is
 * cheaper. */
static void exchange_try(struct repair *repair, struct exchange *best, size_t giver, size_t taker,
                         uint32_t out, int64_t low, int64_t high)
{
    const struct plan *plan = repair->plan;
    const struct bag *bag = &repair->bags[taker];
    int64_t weight = plan->weight[out];
    struct exchange exchange = {.giver = giver, .taker = taker, .out = out, .weight = weight};
    exchange.cost = move_cost(plan, out, taker);
    if (weight <= high)
        exchange_better(best, &exchange);
    int out_cost = exchange.cost;
    size_t from = bag_find(plan, bag, weight - low);
    exchange.has_back = true;
    for (size_t i = from; i < bag->count && i < from + LIKES_MAX; i++) {
        uint32_t back = bag->ranks[i];
        if (plan->weight[back] < weight - high)
            return;
        if (!may_move(repair, back))
            continue;
        exchange.back = back;
        exchange.weight = weight - plan->weight[back];
        exchange.cost = out_cost + move_cost(plan, back, giver);
        exchange_better(best, &exchange);
    }
}

/* The cheapest of all such exchanges, or the first that costs `enough` or less. */
static void exchange_find(struct repair *repair, struct exchange *best, size_t giver, size_t taker,
                          int64_t low, int64_t high, int enough)
{
    const struct plan *plan = repair->plan;
    const struct bag *bag = &repair->bags[giver];
    if (low > high || plan->giant[taker] != PLAN_NOBODY)
        return;
    for (size_t i = 0; i < bag->count && best->cost > enough && repair->probes < REPAIR_PROBES_MAX; i++) {
        if (plan->weight[bag->ranks[i]] < low)
            return;
        repair->probes++;
        if (may_move(repair, bag->ranks[i]))
            exchange_try(repair, best, giver, taker, bag->ranks[i], low, high);
    }
}

/* The exchange with `out` in which the giver loses most, but no more than `high`, and that costs `cost_max`
 * or less. */
static void exchange_try_most(const struct repair *repair, struct exchange *best, size_t giver, size_t taker,
                              uint32_t out, int64_t high, int cost_max)
{
    const struct plan *plan = repair->plan;
    const struct bag *bag = &repair->bags[taker];
    int64_t weight = plan->weight[out];
    struct exchange exchange = {.giver = giver, .taker = taker, .out = out, .weight = weight};
    exchange.cost = move_cost(plan, out, taker);
    if (weight <= high) {
        if (exchange.cost <= cost_max && weight > best->weight)
            *best = exchange;
        return;
    }
    int out_cost = exchange.cost;
    size_t after = bag_find(plan, bag, weight - high - 1);
    exchange.has_back = true;
    for (size_t i = after; i > 0 && i + LIKES_MAX > after; i--) {
        uint32_t back = bag->ranks[i - 1];
        exchange.weight = weight - plan->weight[back];
        if (exchange.weight <= best->weight)
            return;
        exchange.back = back;
        exchange.cost = out_cost + move_cost(plan, back, giver);
        if (exchange.cost > cost_max || !may_move(repair, back))
            continue;
        *best = exchange;
        return;
    }
}

static void exchange_most(struct repair *repair, struct exchange *best, size_t giver, size_t taker,
                          int64_t high, int cost_max)
{
    const struct bag *bag = &repair->bags[giver];
    if (high <= best->weight || repair->plan->giant[taker] != PLAN_NOBODY)
        return;
    for (size_t i = 0; i < bag->count && repair->probes < REPAIR_PROBES_MAX; i++) {
        if (repair->plan->weight[bag->ranks[i]] <= best->weight)
            return;
        repair->probes++;
        if (may_move(repair, bag->ranks[i]))
            exchange_try_most(repair, best, giver, taker, bag->ranks[i], high, cost_max);
    }
}

/* Brings `member` below its cap, or nearer to it. */
static int repair_over(struct repair *repair, size_t member, bool *done, struct error *err)
{
    struct plan *plan = repair->plan;
    int64_t excess = plan->load[member] - plan->cap[member];
    struct exchange best = {.cost = COST_NONE};
    for (size_t j = 0; j < plan->members; j++)
        if (j != member)
            exchange_find(repair, &best, member, j, excess, plan->cap[j] - plan->load[j], 0);
    if (best.cost == COST_NONE)
        for (size_t j = 0; j < plan->members; j++) {
            int64_t room = plan->cap[j] - plan->load[j];
            if (j != member)
                exchange_most(repair, &best, member, j, room < excess ? room : excess, COST_NONE);
        }
    *done = best.weight == 0;
    return *done ? 0 : exchange_apply(repair, &best, err);
}

/* The most that a member without a giant can give without falling below its floor. */
static int64_t largest_spare(const struct plan *plan)
{
    int64_t most = 0;
    for (size_t j = 0; j < plan->members; j++)
        if (plan->giant[j] == PLAN_NOBODY && plan->load[j] - plan->floor[j] > most)
            most = plan->load[j] - plan->floor[j];
    return most;
}

/* The exchange that lifts `member` by `lack`, or if there is none that lifts it part of the way, and costs
 * `cost_max` moves or less. Partners are members above their floors, from the next number on: those with
 * guests where it must cost nothing, those who can give enough where it may. */
static struct exchange lift_find(struct repair *repair, size_t member, int cost_max)
{
    const struct plan *plan = repair->plan;
    int64_t lack = plan->floor[member] - plan->load[member], room = plan->cap[member] - plan->load[member];
    int64_t least = cost_max > 0 ? largest_spare(plan) / 2 : 0;
    struct exchange whole = {.cost = cost_max + 1}, part = {.cost = 0};
    size_t tries = 0;
    for (size_t i = 1; i < plan->members && tries < PARTNERS_MAX && whole.cost > cost_max; i++) {
        size_t j = (member + i) % plan->members;
        int64_t spare = plan->load[j] - plan->floor[j], high = spare < room ? spare : room;
        if (spare <= 0 || spare < least || plan->giant[j] != PLAN_NOBODY)
            continue;
        if (cost_max == 0 && repair->guests[j] == 0)
            continue;
        tries++;
        exchange_find(repair, &whole, j, member, lack, high, cost_max);
        exchange_most(repair, &part, j, member, high < lack ? high : lack, cost_max);
    }
    return whole.cost <= cost_max ? whole : part;
}

/* Brings `member` above its floor, or nearer to it: at no cost, or at a move if the budget allows. */
static int repair_under(struct repair *repair, size_t member, bool *done, struct error *err)
{
    struct plan *plan = repair->plan;
    struct exchange exchange = lift_find(repair, member, 0);
    if (exchange.weight == 0 && repair->moved < plan->moves_max)
        exchange = lift_find(repair, member, 1);
    else if (exchange.weight == 0)
        plan->budget_spent = true;
    *done = exchange.weight == 0;
    return *done ? 0 : exchange_apply(repair, &exchange, err);
}

static int repair_all(struct repair *repair, bool over, struct error *err)
{
    struct plan *plan = repair->plan;
    for (size_t j = 0; j < plan->members; j++) {
        bool done = false;
        while (!done && (over ? plan->load[j] > plan->cap[j] : plan->load[j] < plan->floor[j])) {
            int code = over ? repair_over(repair, j, &done, err) : repair_under(repair, j, &done, err);
            if (code)
                return code;
        }
    }
    return 0;
}

int plan_repair(struct plan *plan, bool lift, bool frozen, struct error *err)
{
    bool over = false, under = false;
    for (size_t j = 0; j < plan->members; j++) {
        over = over || plan->load[j] > plan->cap[j];
        under = under || plan->load[j] < plan->floor[j];
    }
    if (!over && !(lift && under))
        return 0;
    struct repair repair = {.plan = plan, .frozen = frozen, .moved = plan_moved(plan)};
    int code = bags_init(&repair, err);
    if (code == 0 && over)
        code = repair_all(&repair, true, err);
    if (code == 0 && lift)
        code = repair_all(&repair, false, err);
    return code;
}
