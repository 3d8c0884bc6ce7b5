#include "assign/plan.h"

#include <math.h>
#include <string.h>

/* A round starts from the result of the one before; more than one is needed only where bounds are hard to
 * keep. */
enum { ROUNDS_MAX = 8 };

struct assign_options assign_options_default(void)
{
    return (struct assign_options){.balance_max = 1.20, .balance_min = 0.80, .movement_budget = 0.20};
}

static int assign_check(const struct assign_input *input, struct error *err)
{
    const struct assign_options *options = &input->options;
    if (input->chamber_count > ASSIGN_CHAMBERS_MAX)
        return error_set(err, ERR_LIMIT, "%zu chambers: at most %d can be assigned; cut the fab into cells",
                         input->chamber_count, ASSIGN_CHAMBERS_MAX);
    if (input->defender_count > ASSIGN_DEFENDERS_MAX)
        return error_set(err, ERR_LIMIT,
                         "%zu defenders: at most %d can be assigned to; cut the fab into cells",
                         input->defender_count, ASSIGN_DEFENDERS_MAX);
    if (!(options->balance_max >= 1 && options->balance_max <= 1e6))
        return error_set(err, ERR_INVALID, "balance_max is %g: it must be from 1 to 1e6, such as 1.20",
                         options->balance_max);
    if (!(options->balance_min >= 0 && options->balance_min <= 1))
        return error_set(err, ERR_INVALID, "balance_min is %g: it must be from 0 to 1, such as 0.80",
                         options->balance_min);
    if (!(options->movement_budget >= 0 && options->movement_budget <= 1))
        return error_set(err, ERR_INVALID, "movement_budget is %g: it must be from 0 to 1, such as 0.20",
                         options->movement_budget);
    for (size_t j = 0; j < input->defender_count; j++) {
        const struct assign_defender *defender = &input->defenders[j];
        if (defender->number < 0 || defender->number > ASSIGN_NUMBER_MAX)
            return error_set(err, ERR_INVALID, "defender %zu has number %d: it must be from 0 to %d", j,
                             defender->number, ASSIGN_NUMBER_MAX);
        if (!(defender->share >= 0 && defender->share <= 1))
            return error_set(err, ERR_INVALID,
                             "defender-%d has share %g: it must be above 0 and up to 1, or 0 for none",
                             defender->number, defender->share);
    }
    return 0;
}

static int plan_allocate(struct plan *plan, struct error *err)
{
    size_t n = plan->chambers, m = plan->members;
    struct arena *arena = plan->arena;
    plan->source = arena_calloc(arena, n, sizeof *plan->source);
    plan->hash = arena_calloc(arena, n, sizeof *plan->hash);
    plan->weight = arena_calloc(arena, n, sizeof *plan->weight);
    plan->home = arena_calloc(arena, n, sizeof *plan->home);
    plan->before = arena_calloc(arena, n, sizeof *plan->before);
    plan->now = arena_calloc(arena, n, sizeof *plan->now);
    plan->held = arena_calloc(arena, n, sizeof *plan->held);
    plan->number = arena_calloc(arena, m, sizeof *plan->number);
    plan->share = arena_calloc(arena, m, sizeof *plan->share);
    plan->load = arena_calloc(arena, m, sizeof *plan->load);
    plan->fair = arena_calloc(arena, m, sizeof *plan->fair);
    plan->cap = arena_calloc(arena, m, sizeof *plan->cap);
    plan->floor = arena_calloc(arena, m, sizeof *plan->floor);
    plan->count = arena_calloc(arena, m, sizeof *plan->count);
    plan->restricted = arena_calloc(arena, m, sizeof *plan->restricted);
    plan->giant = arena_calloc(arena, m, sizeof *plan->giant);
    plan->start = arena_calloc(arena, m + 1, sizeof *plan->start);
    if (!plan->source || !plan->hash || !plan->weight || !plan->home || !plan->before || !plan->now ||
        !plan->held || !plan->number || !plan->share || !plan->load || !plan->fair || !plan->cap ||
        !plan->floor || !plan->count || !plan->restricted || !plan->giant || !plan->start)
        return error_set(err, ERR_NO_MEMORY, "no memory to assign %zu chambers to %zu defenders", n, m);
    return 0;
}

/* Orders the defenders by number and maps numbers to members. */
static int plan_enlist(struct plan *plan, const struct assign_input *input, int32_t **member_of,
                       size_t *numbers, struct error *err)
{
    *numbers = 0;
    for (size_t i = 0; i < plan->members; i++)
        if ((size_t)input->defenders[i].number >= *numbers)
            *numbers = (size_t)input->defenders[i].number + 1;
    int32_t *map = arena_alloc(plan->arena, *numbers * sizeof *map);
    if (map == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu defender numbers", *numbers);
    for (size_t i = 0; i < *numbers; i++)
        map[i] = PLAN_GONE;
    for (size_t i = 0; i < plan->members; i++) {
        int32_t number = input->defenders[i].number;
        if (map[number] != PLAN_GONE)
            return error_set(err, ERR_INVALID, "defender-%d is listed twice: list each once", number);
        map[number] = (int32_t)i;
    }
    size_t member = 0;
    for (size_t i = 0; i < *numbers; i++) {
        if (map[i] == PLAN_GONE)
            continue;
        plan->number[member] = (int32_t)i;
        plan->share[member] = input->defenders[map[i]].share;
        map[i] = (int32_t)member++;
    }
    *member_of = map;
    return 0;
}

/* Waiting chambers go where there is room; nothing else moves. */
static int round_frozen(struct plan *plan, struct error *err)
{
    int code = plan_place(plan, err);
    return code ? code : plan_repair(plan, false, true, err);
}

static int round_first(struct plan *plan, struct error *err)
{
    plan_shed(plan); /* nobody holds anything: this houses the giants */
    int code = plan_place_first(plan, err);
    return code ? code : plan_repair(plan, true, false, err);
}

/* Members that could own something and own nothing. */
static size_t plan_idle(const struct plan *plan)
{
    size_t idle = 0;
    for (size_t j = 0; j < plan->members; j++)
        idle += plan->count[j] == 0 && plan->floor[j] > 0;
    return idle;
}

static size_t plan_waiting(const struct plan *plan)
{
    size_t waiting = 0;
    for (size_t r = 0; r < plan->chambers; r++)
        waiting += plan->now[r] == PLAN_NOBODY;
    return waiting;
}

static int round_sticky(struct plan *plan, size_t waiting, struct error *err)
{
    bool change = plan_shed(plan) + waiting > 0;
    size_t idle = plan_idle(plan), moved = plan_moved(plan);
    bool lift = plan->mode == ASSIGN_RELEVEL || change || idle > 0;
    /* Whoever owns nothing gets a chamber whatever the budget: the next run would see an idle member as a
     * change. */
    waiting = plan_waiting(plan);
    if (idle > waiting && moved + idle - waiting > plan->moves_max)
        plan->moves_max = moved + idle - waiting;
    int code = lift ? plan_lift(plan, err) : 0;
    if (code == 0)
        code = plan_place(plan, err);
    if (code == 0)
        code = plan_repair(plan, lift, false, err);
    if (code == 0)
        plan_return(plan);
    return code;
}

static void plan_restore(struct plan *plan, const int32_t *owners)
{
    for (size_t r = 0; r < plan->chambers; r++) {
        if (plan->now[r] != PLAN_NOBODY)
            plan_take(plan, r);
        plan_give(plan, r, (size_t)owners[r]);
    }
}

/* Greedy placement and exchanges have left some member above its cap. Tries what is dearer, and moves nothing
 * in vain: the result is kept only if less lies above the caps than if nothing but waiting chambers had
 * moved. */
static int round_rescue(struct plan *plan, bool frozen, struct error *err)
{
    bool found = false, exhausted = false;
    int64_t excess = plan_excess(plan);
    int code = plan_search(plan, frozen, &found, &exhausted, err);
    if (code || found)
        return code;
    if (exhausted && !frozen)
        plan->reachable = false;
    if (frozen)
        return 0;
    int32_t *kept = arena_alloc(plan->arena, plan->chambers * sizeof *kept);
    if (kept == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to keep an assignment of %zu chambers",
                         plan->chambers);
    memcpy(kept, plan->now, plan->chambers * sizeof *kept);
    if (!exhausted) {
        code = plan_place_anew(plan, err);
        if (code || plan_excess(plan) == 0)
            return code;
        plan_restore(plan, kept);
    }
    plan_settle(plan);
    code = round_frozen(plan, err);
    if (code == 0 && plan_excess(plan) > excess)
        plan_restore(plan, kept);
    return code;
}

static int plan_round(struct plan *plan, bool *again, struct error *err)
{
    bool frozen = plan->mode == ASSIGN_EMERGENCY;
    plan_settle(plan);
    size_t waiting = plan_waiting(plan);
    int code = waiting == plan->chambers ? round_first(plan, err)
               : frozen                  ? round_frozen(plan, err)
                                         : round_sticky(plan, waiting, err);
    *again = false;
    if (code || plan_excess(plan) == 0)
        return code;
    code = round_rescue(plan, frozen && waiting < plan->chambers, err);
    *again = !frozen && memcmp(plan->now, plan->before, plan->chambers * sizeof *plan->now) != 0;
    return code;
}

static int plan_run(struct plan *plan, struct error *err)
{
    bool again = plan->chambers > 0 && plan->members > 0;
    memcpy(plan->before, plan->home, plan->chambers * sizeof *plan->before);
    for (int round = 0; again && round < ROUNDS_MAX; round++) {
        for (size_t j = 0; j < plan->members; j++)
            plan->restricted[j] = false;
        plan->giants = 0;
        int code = plan_level(plan, err);
        if (code == 0)
            code = plan_round(plan, &again, err);
        if (code)
            return code;
        if (again)
            memcpy(plan->before, plan->now, plan->chambers * sizeof *plan->before);
    }
    return 0;
}

static int64_t weight_add(int64_t sum, int64_t weight)
{
    return sum > INT64_MAX - weight ? INT64_MAX : sum + weight;
}

static void result_loads(const struct plan *plan, const struct assign_input *input,
                         struct assign_result *result)
{
    struct assign_statistics *statistics = &result->statistics;
    for (size_t j = 0; j < plan->members; j++)
        result->loads[j] = (struct assign_load){
            .number = plan->number[j],
            .chambers = plan->count[j],
            .ratio = plan->fair[j] > 0 ? (double)plan->load[j] / (double)plan->fair[j] : 0};
    for (size_t r = 0; r < plan->chambers; r++) {
        int32_t home = plan->home[r], now = plan->now[r];
        int64_t weight = input->chambers[plan->source[r]].weight;
        result->owners[plan->source[r]] = now == PLAN_NOBODY ? ASSIGN_NOBODY : plan->number[now];
        if (now == PLAN_NOBODY)
            continue;
        result->loads[now].weight = weight_add(result->loads[now].weight, weight);
        statistics->placed += home == PLAN_NOBODY;
        if (home == PLAN_NOBODY || home == now)
            continue;
        statistics->moved++;
        statistics->moved_weight = weight_add(statistics->moved_weight, weight);
    }
}

static void result_balance(const struct plan *plan, struct assign_statistics *statistics)
{
    double mean = (double)plan->total / (double)plan->members, squares = 0;
    int64_t heaviest = 0, lightest = INT64_MAX;
    for (size_t j = 0; j < plan->members; j++) {
        double off = (double)plan->load[j] / mean - 1;
        squares += off * off;
        heaviest = plan->load[j] > heaviest ? plan->load[j] : heaviest;
        lightest = plan->load[j] < lightest ? plan->load[j] : lightest;
    }
    statistics->mean = ldexp(plan->level, (int)plan->shift);
    statistics->heaviest = (double)heaviest / mean;
    statistics->lightest = (double)lightest / mean;
    statistics->variance_percent = 100 * sqrt(squares / (double)plan->members);
    statistics->bound_reachable = plan->reachable;
    statistics->bound_kept = plan_excess(plan) == 0;
    statistics->shares_kept = plan->shares_kept;
    for (size_t j = 0; j < plan->members; j++)
        statistics->budget_spent |= plan->budget_spent && plan->load[j] < plan->floor[j];
}

static int result_fill(struct plan *plan, const struct assign_input *input, struct assign_result *result,
                       struct error *err)
{
    *result = (struct assign_result){0};
    result->owners = arena_calloc(plan->arena, plan->chambers, sizeof *result->owners);
    result->loads = arena_calloc(plan->arena, plan->members, sizeof *result->loads);
    if (result->owners == NULL || result->loads == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the assignment of %zu chambers", plan->chambers);
    if (plan->members == 0)
        memset(plan->now, 0xff, plan->chambers * sizeof *plan->now); /* PLAN_NOBODY */
    result_loads(plan, input, result);
    if (plan->members == 0 || plan->chambers == 0) {
        result->statistics.bound_reachable = result->statistics.bound_kept = plan->chambers == 0;
        result->statistics.shares_kept = true;
        return 0;
    }
    result_balance(plan, &result->statistics);
    return plan_moved_least(plan, &result->statistics.moved_least, err);
}

int assign_compute(const struct assign_input *input, struct arena *arena, struct assign_result *result,
                   struct error *err)
{
    struct plan plan = {.arena = arena,
                        .options = input->options,
                        .mode = input->mode,
                        .chambers = input->chamber_count,
                        .members = input->defender_count};
    int32_t *member_of = NULL;
    size_t numbers = 0;
    int code = assign_check(input, err);
    if (code == 0)
        code = plan_allocate(&plan, err);
    if (code == 0)
        code = plan_enlist(&plan, input, &member_of, &numbers, err);
    if (code == 0)
        code = plan_order(&plan, input, member_of, numbers, err);
    plan.moves_max = (size_t)floor(plan.options.movement_budget * (double)plan.chambers * (1 + 1e-12));
    if (code == 0)
        code = plan_run(&plan, err);
    return code ? code : result_fill(&plan, input, result, err);
}
