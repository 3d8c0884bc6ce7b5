/* The assignment of chambers: its promises on worked examples, and as properties of thousands of generated
 * fabs. */
#include "assign/assign.h"
#include "base/arena.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmocka_setup.h"

enum { CHAMBERS_MAX = 12000, DEFENDERS_MAX = 400, NAME_BYTES = 24, SMALL_CHAMBERS = 9, SMALL_DEFENDERS = 4 };

static const double ROUNDING = 1e-9;

struct fab {
    struct assign_chamber chambers[CHAMBERS_MAX];
    struct assign_defender defenders[DEFENDERS_MAX];
    char names[CHAMBERS_MAX][NAME_BYTES];
    struct assign_input input;
    struct assign_result result;
    struct arena arena;
    uint64_t seed;
    int32_t joined; /* defenders that came later have numbers of their own */
};

static double next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*seed >> 11) / 9007199254740992.0;
}

static size_t next_below(uint64_t *seed, size_t bound)
{
    return (size_t)(next_random(seed) * (double)bound);
}

/* Weights from 100 to 100 * skew, spread evenly over the logarithm. */
static void fab_make(struct fab *fab, size_t chambers, size_t defenders, double skew)
{
    assert_true(chambers <= CHAMBERS_MAX && defenders <= DEFENDERS_MAX);
    for (size_t i = 0; i < chambers; i++) {
        snprintf(fab->names[i], NAME_BYTES, "T%04zu:%zu", i / 4, i % 4);
        int64_t weight = (int64_t)(100 * pow(skew, next_random(&fab->seed)));
        fab->chambers[i] = (struct assign_chamber){fab->names[i], weight, ASSIGN_NOBODY};
    }
    for (size_t j = 0; j < defenders; j++)
        fab->defenders[j] = (struct assign_defender){.number = (int32_t)j};
    fab->input = (struct assign_input){.chambers = fab->chambers,
                                       .chamber_count = chambers,
                                       .defenders = fab->defenders,
                                       .defender_count = defenders,
                                       .options = assign_options_default(),
                                       .mode = ASSIGN_NORMAL};
}

static const struct assign_statistics *fab_assign(struct fab *fab)
{
    struct error err = {0};
    arena_reset(&fab->arena);
    if (assign_compute(&fab->input, &fab->arena, &fab->result, &err))
        fail_msg("%s", err.text);
    return &fab->result.statistics;
}

/* Makes the result the assignment in force. */
static void fab_commit(struct fab *fab)
{
    for (size_t i = 0; i < fab->input.chamber_count; i++)
        fab->chambers[i].owner = fab->result.owners[i];
}

static double fab_total(const struct fab *fab)
{
    double total = 0;
    for (size_t i = 0; i < fab->input.chamber_count; i++)
        total += (double)fab->chambers[i].weight;
    return total;
}

static double fab_mean(const struct fab *fab)
{
    return fab_total(fab) / (double)fab->input.defender_count;
}

static size_t defender_at(const struct fab *fab, int32_t number)
{
    for (size_t j = 0; j < fab->input.defender_count; j++)
        if (fab->input.defenders[j].number == number)
            return j;
    fail_msg("defender-%d owns a chamber and is none of the defenders", number);
    return 0;
}

/* What must hold for every result, computed from the owners alone. */
static void check_result(const struct fab *fab)
{
    static double loads[DEFENDERS_MAX];
    static size_t counts[DEFENDERS_MAX];
    const struct assign_statistics *s = &fab->result.statistics;
    size_t moved = 0, placed = 0, m = fab->input.defender_count;
    double moved_weight = 0, heaviest = 0, lightest = INFINITY, mean = fab_mean(fab);
    memset(loads, 0, sizeof loads);
    memset(counts, 0, sizeof counts);
    for (size_t i = 0; i < fab->input.chamber_count; i++) {
        const struct assign_chamber *chamber = &fab->chambers[i];
        size_t owner = defender_at(fab, fab->result.owners[i]);
        bool had = chamber->owner != ASSIGN_NOBODY && fab->input.mode != ASSIGN_FIRST;
        loads[owner] += (double)chamber->weight;
        counts[owner]++;
        placed += !had;
        if (had && chamber->owner != fab->result.owners[i]) {
            moved++;
            moved_weight += (double)chamber->weight;
        }
    }
    for (size_t j = 0; j < m; j++) {
        size_t at = defender_at(fab, fab->result.loads[j].number);
        assert_true(j == 0 || fab->result.loads[j - 1].number < fab->result.loads[j].number);
        assert_int_equal(fab->result.loads[j].chambers, counts[at]);
        assert_true(fabs((double)fab->result.loads[j].weight - loads[at]) <= ROUNDING * loads[at]);
        heaviest = fmax(heaviest, loads[j]);
        lightest = fmin(lightest, loads[j]);
    }
    assert_int_equal(s->moved, moved);
    assert_int_equal(s->placed, placed);
    assert_true(fabs((double)s->moved_weight - moved_weight) <= ROUNDING * moved_weight);
    assert_true(fabs(s->heaviest - heaviest / mean) <= 1e-6 * s->heaviest);
    assert_true(fabs(s->lightest - lightest / mean) <= 1e-6);
    assert_true(s->moved >= s->moved_least);
    if (s->bound_kept && s->bound_reachable)
        for (size_t j = 0; j < m; j++)
            if (fab->input.defenders[j].share <= 0 && fab->result.statistics.mean <= mean * (1 + ROUNDING))
                assert_true(loads[j] <= fab->input.options.balance_max * mean * (1 + ROUNDING));
}

static void check_idempotent(struct fab *fab)
{
    enum assign_mode mode = fab->input.mode;
    fab_commit(fab);
    fab->input.mode = ASSIGN_NORMAL;
    const struct assign_statistics *s = fab_assign(fab);
    if (s->moved > 0)
        fail_msg("moves %zu of %zu chambers on %zu defenders again: kept %d reachable %d", s->moved,
                 fab->input.chamber_count, fab->input.defender_count, s->bound_kept, s->bound_reachable);
    fab->input.mode = mode;
}

/* Any assignment within balance_max, by trying them all. With `frozen`, owned chambers stay. */
static bool exists_within(const struct fab *fab, double cap, bool frozen, size_t chamber, double *loads)
{
    if (chamber == fab->input.chamber_count)
        return true;
    const struct assign_chamber *c = &fab->chambers[chamber];
    for (size_t j = 0; j < fab->input.defender_count; j++) {
        bool empty_before = false;
        if (frozen && c->owner >= 0 && c->owner != fab->defenders[j].number)
            continue;
        for (size_t k = 0; k < j && !frozen; k++)
            empty_before = empty_before || loads[k] <= 0;
        if ((empty_before && loads[j] <= 0) || loads[j] + (double)c->weight > cap * (1 + ROUNDING))
            continue;
        loads[j] += (double)c->weight;
        bool found = exists_within(fab, cap, frozen, chamber + 1, loads);
        loads[j] -= (double)c->weight;
        if (found)
            return true;
    }
    return false;
}

/* Heaviest first onto the least loaded: what a sensible person would do from nothing. Returns the largest
 * load. */
static double largest_first(struct fab *fab)
{
    static double loads[DEFENDERS_MAX];
    static int64_t weights[CHAMBERS_MAX];
    double largest = 0;
    size_t n = fab->input.chamber_count, m = fab->input.defender_count;
    memset(loads, 0, sizeof loads);
    for (size_t i = 0; i < n; i++) {
        size_t at = i;
        for (; at > 0 && weights[at - 1] < fab->chambers[i].weight; at--)
            weights[at] = weights[at - 1];
        weights[at] = fab->chambers[i].weight;
    }
    for (size_t i = 0; i < n; i++) {
        size_t least = 0;
        for (size_t j = 1; j < m; j++)
            least = loads[j] < loads[least] ? j : least;
        loads[least] += (double)weights[i];
        largest = fmax(largest, loads[least]);
    }
    return largest;
}

static int setup(void **state)
{
    struct fab *fab = calloc(1, sizeof *fab);
    assert_non_null(fab);
    arena_init(&fab->arena, 0);
    fab->seed = 42;
    *state = fab;
    return 0;
}

static int teardown(void **state)
{
    struct fab *fab = *state;
    arena_free(&fab->arena);
    free(fab);
    return 0;
}

/* ---- worked examples ---- */

static void test_new_defenders_get_heavy_chambers(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 2400, 30, 120);
    fab_assign(fab);
    check_result(fab);
    fab_commit(fab);
    for (int32_t j = 30; j < 45; j++)
        fab->defenders[j].number = j;
    fab->input.defender_count = 45;
    const struct assign_statistics *s = fab_assign(fab);
    check_result(fab);
    assert_true(s->heaviest <= 1.2 && s->lightest >= 0.8);
    assert_true(s->moved < 2400 / 10); /* heavy ones, so half of what the budget allows */
    assert_true((double)s->moved <= 1.05 * (double)s->moved_least);
    check_idempotent(fab);
}

static void test_budget_limits_lifting_but_not_the_cap(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 2400, 30, 1);
    for (size_t i = 0; i < 2400; i++)
        fab->chambers[i].owner = (int32_t)(i % 30); /* 80 each */
    for (int32_t j = 30; j < 45; j++)
        fab->defenders[j].number = j;
    fab->input.defender_count = 45;
    const struct assign_statistics *s = fab_assign(fab);
    /* The cap is 64 of a mean of 53.3: 16 leave each of 30, which is the whole budget; the new ones get 32
     * each. */
    check_result(fab);
    assert_int_equal(s->moved, 480);
    assert_int_equal(s->moved_least, 480);
    assert_true(s->budget_spent && s->bound_kept && s->bound_reachable);
    for (size_t j = 0; j < 45; j++)
        assert_int_equal(fab->result.loads[j].chambers, j < 30 ? 64 : 32);
    check_idempotent(fab);
    /* Asked to, it goes on to the floor: 43 of 53.3. */
    fab->input.mode = ASSIGN_RELEVEL;
    s = fab_assign(fab);
    check_result(fab);
    assert_int_equal(s->moved, 15 * 11);
    assert_int_equal(s->moved_least, 15 * 11);
    assert_false(s->budget_spent);
}

static void test_only_those_of_the_gone_move_when_scaling_in(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 2400, 45, 120);
    fab_assign(fab);
    fab_commit(fab);
    fab->input.defender_count = 30;
    const struct assign_statistics *s = fab_assign(fab);
    check_result(fab);
    assert_true(s->bound_kept);
    for (size_t i = 0; i < 2400; i++)
        if (fab->chambers[i].owner < 30)
            assert_int_equal(fab->result.owners[i], fab->chambers[i].owner);
    assert_int_equal(s->moved, s->moved_least);
    check_idempotent(fab);
}

static void test_fewest_chambers_leave_an_overloaded_one(void **state)
{
    struct fab *fab = *state;
    static const int64_t weights[] = {50, 30, 20, 20, 60, 60};
    fab_make(fab, 6, 3, 1);
    for (size_t i = 0; i < 6; i++) {
        fab->chambers[i].weight = weights[i];
        fab->chambers[i].owner = i < 4 ? 0 : (int32_t)i - 3;
    }
    /* The mean is 80, the cap 96, and defender-0 holds 120: one must leave, and 30 is enough. The floor is
     * 64; lifting the other light one would be a second move of 6, more than the budget. */
    const struct assign_statistics *s = fab_assign(fab);
    check_result(fab);
    assert_int_equal(s->moved, 1);
    assert_int_equal(s->moved_least, 1);
    assert_true(s->budget_spent && s->heaviest <= 1.2);
    fab->input.options.movement_budget = 0.5;
    s = fab_assign(fab);
    check_result(fab);
    assert_int_equal(s->moved, 2);
    assert_int_equal(s->moved_least, 2);
    assert_true(s->heaviest <= 1.2 && s->lightest >= 0.8);
}

static void test_giant_lives_alone_and_nothing_thrashes(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 40, 4, 1);
    for (size_t i = 0; i < 40; i++)
        fab->chambers[i].owner = (int32_t)(i % 4);
    fab->chambers[0].weight = 39 * 100;
    const struct assign_statistics *s = fab_assign(fab);
    check_result(fab);
    assert_false(s->bound_reachable);
    assert_int_equal(fab->result.owners[0], 0);
    assert_int_equal(fab->result.loads[0].chambers, 1);
    for (size_t j = 1; j < 4; j++)
        assert_int_equal(fab->result.loads[j].chambers, 13);
    assert_int_equal(s->moved, 9);
    check_idempotent(fab);
}

static void test_giant_moves_where_that_is_cheaper(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 40, 4, 1);
    for (size_t i = 0; i < 40; i++)
        fab->chambers[i].owner = (int32_t)(i % 3);
    fab->chambers[0].weight = 39 * 100;
    const struct assign_statistics *s = fab_assign(fab);
    check_result(fab);
    assert_int_equal(fab->result.owners[0], 3);
    assert_int_equal(s->moved, 1);
    check_idempotent(fab);
}

static void test_bound_that_counting_forbids(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 3, 2, 1);
    const struct assign_statistics *s = fab_assign(fab);
    assert_false(s->bound_reachable); /* two of three equal chambers on one of two: 4/3 of the mean */
    check_result(fab);
    check_idempotent(fab);
}

static void test_share_is_an_upper_limit(void **state)
{
    struct fab *fab = *state;
    for (double skew = 1; skew <= 120; skew += 119) {
        fab_make(fab, 2400, 5, skew);
        fab->defenders[4].share = 0.10;
        fab_assign(fab);
        check_result(fab);
        double canary = (double)fab->result.loads[4].weight / fab_total(fab);
        assert_true(canary <= 0.10 && canary >= 0.07);
        fab_commit(fab);
        /* The share is cut: chambers leave at once, and only the canary's. */
        fab->defenders[4].share = 0.05;
        const struct assign_statistics *s = fab_assign(fab);
        check_result(fab);
        canary = (double)fab->result.loads[4].weight / fab_total(fab);
        assert_true(canary <= 0.05 && canary >= 0.02);
        assert_int_equal(s->moved, s->moved_least);
        assert_true(s->shares_kept);
        check_idempotent(fab);
    }
}

static void test_shares_that_are_less_than_the_whole(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 400, 2, 1);
    fab->defenders[0].share = 0.1;
    fab->defenders[1].share = 0.3;
    const struct assign_statistics *s = fab_assign(fab);
    check_result(fab);
    assert_false(s->shares_kept);
    assert_true(fab->result.loads[0].chambers >= 80 && fab->result.loads[0].chambers <= 120);
    check_idempotent(fab);
}

static void test_share_too_small_for_any_chamber(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 100, 3, 1);
    fab->defenders[1].share = 0.001;
    fab_assign(fab);
    check_result(fab);
    assert_int_equal(fab->result.loads[1].chambers, 0);
    check_idempotent(fab);
}

static void test_nobody_to_own(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 10, 0, 1);
    fab->chambers[3].owner = 7;
    const struct assign_statistics *s = fab_assign(fab);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(fab->result.owners[i], ASSIGN_NOBODY);
    assert_false(s->bound_kept);
    assert_int_equal(s->moved, 0);
}

static void test_nothing_to_own(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 0, 3, 1);
    const struct assign_statistics *s = fab_assign(fab);
    assert_true(s->bound_kept && s->bound_reachable);
    for (size_t j = 0; j < 3; j++)
        assert_int_equal(fab->result.loads[j].chambers, 0);
}

static void test_one_defender_owns_all(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 100, 1, 120);
    const struct assign_statistics *s = fab_assign(fab);
    check_result(fab);
    assert_true(s->bound_kept && s->bound_reachable && s->heaviest <= 1);
    check_idempotent(fab);
}

static void test_more_defenders_than_chambers(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 7, 30, 120);
    fab_assign(fab);
    check_result(fab);
    for (size_t j = 0; j < 30; j++)
        assert_true(fab->result.loads[j].chambers <= 1);
    check_idempotent(fab);
}

static void test_huge_weights_do_not_overflow(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 1000, 10, 1);
    for (size_t i = 0; i < 1000; i++)
        fab->chambers[i].weight = INT64_MAX - (int64_t)i;
    const struct assign_statistics *s = fab_assign(fab);
    assert_true(s->bound_kept && s->heaviest <= 1.2 && s->lightest >= 0.8);
    for (size_t j = 0; j < 10; j++)
        assert_int_equal(fab->result.loads[j].weight, INT64_MAX); /* saturated */
    assert_true(fabs(s->mean / (100 * (double)INT64_MAX) - 1) < 1e-9);
    check_idempotent(fab);
    /* The lightest there can be beside the heaviest. */
    for (size_t i = 1; i < 1000; i++)
        fab->chambers[i].weight = 1;
    fab->input.mode = ASSIGN_FIRST;
    s = fab_assign(fab);
    assert_false(s->bound_reachable);
    check_idempotent(fab);
}

static void check_refused(struct fab *fab, int code, const char *words)
{
    struct error err = {0};
    arena_reset(&fab->arena);
    assert_int_equal(assign_compute(&fab->input, &fab->arena, &fab->result, &err), code);
    if (strstr(err.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.text, words);
}

static void test_bad_input_is_named(void **state)
{
    struct fab *fab = *state;
    fab_make(fab, 20, 3, 1);
    fab->chambers[3].weight = 0;
    check_refused(fab, ERR_INVALID, "T0000:3 has weight 0");
    fab->chambers[3].weight = 5;
    fab->chambers[4].owner = -2;
    check_refused(fab, ERR_INVALID, "T0001:0 has owner -2");
    fab->chambers[4].owner = 2;
    fab->chambers[5].name = NULL;
    check_refused(fab, ERR_INVALID, "chamber 5 has no name");
    fab->chambers[5].name = "T0000:2";
    fab->chambers[5].weight = 77; /* found though it is not next to its twin by weight */
    check_refused(fab, ERR_INVALID, "T0000:2 is listed twice");
    fab->chambers[5].name = "x";
    fab->defenders[2].number = 1;
    check_refused(fab, ERR_INVALID, "defender-1 is listed twice");
    fab->defenders[2].number = ASSIGN_NUMBER_MAX + 1;
    check_refused(fab, ERR_INVALID, "number");
    fab->defenders[2] = (struct assign_defender){.number = 2, .share = 1.5};
    check_refused(fab, ERR_INVALID, "share 1.5");
    fab->defenders[2].share = NAN;
    check_refused(fab, ERR_INVALID, "share");
    fab->defenders[2].share = 0;
    fab->input.options.balance_max = 0.9;
    check_refused(fab, ERR_INVALID, "balance_max");
    fab->input.options = (struct assign_options){1.2, 1.1, 0.2};
    check_refused(fab, ERR_INVALID, "balance_min");
    fab->input.options = (struct assign_options){1.2, 0.8, 20};
    check_refused(fab, ERR_INVALID, "movement_budget");
    fab->input.options = assign_options_default();
    fab->input.chamber_count = ASSIGN_CHAMBERS_MAX + 1;
    check_refused(fab, ERR_LIMIT, "chambers");
}

/* ---- properties ---- */

/* One random change: members go or come, weights drift, or chambers are new. */
static void fab_change(struct fab *fab)
{
    size_t m = fab->input.defender_count, kind = next_below(&fab->seed, 4),
           half = 1 + next_below(&fab->seed, m / 2 + 1);
    for (size_t i = 0; kind == 0 && i < half && m > 2; i++) {
        m--;
        fab->defenders[next_below(&fab->seed, m + 1)] = fab->defenders[m];
    }
    for (size_t i = 0; kind == 1 && i < half && m < DEFENDERS_MAX; i++)
        fab->defenders[m++] = (struct assign_defender){.number = DEFENDERS_MAX + fab->joined++};
    fab->input.defender_count = m;
    for (size_t i = 0; i < fab->input.chamber_count; i++) {
        if (kind == 2 && next_below(&fab->seed, 3) == 0)
            fab->chambers[i].weight =
                1 + (int64_t)((double)fab->chambers[i].weight * 2 * next_random(&fab->seed));
        if (kind == 3 && next_below(&fab->seed, 10) == 0)
            fab->chambers[i].owner = ASSIGN_NOBODY;
    }
}

static void fab_shuffle(struct fab *fab)
{
    for (size_t i = fab->input.chamber_count; i > 1; i--) {
        size_t j = next_below(&fab->seed, i);
        struct assign_chamber swap = fab->chambers[i - 1];
        fab->chambers[i - 1] = fab->chambers[j];
        fab->chambers[j] = swap;
    }
    for (size_t i = fab->input.defender_count; i > 1; i--) {
        size_t j = next_below(&fab->seed, i);
        struct assign_defender swap = fab->defenders[i - 1];
        fab->defenders[i - 1] = fab->defenders[j];
        fab->defenders[j] = swap;
    }
}

static int32_t owner_of(const struct fab *fab, const char *name)
{
    for (size_t i = 0; i < fab->input.chamber_count; i++)
        if (fab->chambers[i].name == name)
            return fab->result.owners[i];
    fail();
    return 0;
}

static void test_order_of_input_is_nothing(void **state)
{
    struct fab *fab = *state;
    static int32_t owners[300];
    for (int round = 0; round < 300; round++) {
        fab_make(fab, 1 + next_below(&fab->seed, 300), 1 + next_below(&fab->seed, 20), round % 2 ? 120 : 1);
        for (int change = 0; change < 4; change++) {
            fab->input.mode = (enum assign_mode)next_below(&fab->seed, 4);
            fab_assign(fab);
            check_result(fab);
            for (size_t i = 0; i < fab->input.chamber_count; i++)
                owners[i] = owner_of(fab, fab->names[i]);
            fab_shuffle(fab);
            fab_assign(fab);
            for (size_t i = 0; i < fab->input.chamber_count; i++)
                assert_int_equal(owner_of(fab, fab->names[i]), owners[i]);
            fab_commit(fab);
            fab_change(fab);
        }
    }
}

/* Small fabs, where every assignment can be tried. */
static void test_cap_is_kept_whenever_any_assignment_could(void **state)
{
    struct fab *fab = *state;
    static const double caps[] = {1.0, 1.05, 1.2, 1.5};
    size_t possible = 0, impossible = 0;
    for (int round = 0; round < 6000; round++) {
        size_t n = 1 + next_below(&fab->seed, SMALL_CHAMBERS);
        fab_make(fab, n, 1 + next_below(&fab->seed, SMALL_DEFENDERS), round % 3 ? 12 : 1);
        fab->input.options.balance_max = caps[round % 4];
        fab->input.mode = round % 5 == 0 ? ASSIGN_EMERGENCY : round % 7 == 0 ? ASSIGN_FIRST : ASSIGN_NORMAL;
        for (size_t i = 0; i < n; i++) {
            fab->chambers[i].weight = fab->chambers[i].weight / 100 + (int64_t)next_below(&fab->seed, 4);
            fab->chambers[i].owner = (int32_t)next_below(&fab->seed, SMALL_DEFENDERS + 1) - 1;
        }
        bool alive = false;
        for (size_t i = 0; i < n; i++)
            alive = alive || (fab->chambers[i].owner >= 0 &&
                              (size_t)fab->chambers[i].owner < fab->input.defender_count);
        for (size_t i = 0; i < n; i++)
            if ((size_t)fab->chambers[i].owner >= fab->input.defender_count)
                fab->chambers[i].owner = ASSIGN_NOBODY;
        const struct assign_statistics *s = fab_assign(fab);
        check_result(fab);
        double loads[SMALL_DEFENDERS] = {0}, cap = caps[round % 4] * fab_mean(fab);
        bool exists = exists_within(fab, cap, alive && fab->input.mode == ASSIGN_EMERGENCY, 0, loads);
        bool within = s->heaviest <= caps[round % 4] * (1 + ROUNDING);
        if (exists != within)
            fail_msg("round %d: %zu chambers on %zu, heaviest %.3f of %.2f; possible: %d", round, n,
                     fab->input.defender_count, s->heaviest, caps[round % 4], exists);
        if (exists)
            assert_true(s->bound_kept);
        if (fab->input.mode != ASSIGN_EMERGENCY) {
            assert_int_equal(s->bound_reachable, exists);
            check_idempotent(fab);
        }
        possible += exists;
        impossible += !exists;
    }
    assert_true(possible > 1000 && impossible > 1000);
}

/* Large fabs: what largest-first placement can do from nothing is done with history, at tight bounds too. */
static void test_cap_is_kept_where_placing_anew_would(void **state)
{
    struct fab *fab = *state;
    static const double caps[] = {1.02, 1.05, 1.2};
    size_t compared = 0;
    for (int round = 0; round < 120; round++) {
        size_t m = 2 + next_below(&fab->seed, 40);
        fab_make(fab, m * (1 + next_below(&fab->seed, 30)), m, round % 2 ? 120 : 8);
        fab->input.options.balance_max = caps[round % 3];
        fab_assign(fab);
        fab_commit(fab);
        for (int change = 0; change < 4; change++) {
            fab_change(fab);
            const struct assign_statistics *s = fab_assign(fab);
            check_result(fab);
            if (largest_first(fab) <= fab->input.options.balance_max * fab_mean(fab)) {
                assert_true(s->bound_kept && s->bound_reachable);
                assert_true(s->heaviest <= fab->input.options.balance_max * (1 + ROUNDING));
                compared++;
            }
            check_idempotent(fab);
            fab_commit(fab);
        }
    }
    assert_true(compared > 100);
}

/* Fabs of the size that is deployed: 40 to 100 chambers a defender. Where few chambers move the bound itself
 * is loose, as whole chambers do not divide as it supposes (test_small_fabs_move_hardly_more_than_the_least
 * shows by how much). */
static void test_movement_is_near_its_lower_bound(void **state)
{
    struct fab *fab = *state;
    static const double skews[] = {1, 10, 120};
    size_t moved = 0, least = 0, changes = 0, exact = 0;
    for (int round = 0; round < 120; round++) {
        size_t m = 10 + next_below(&fab->seed, 50);
        fab_make(fab, m * (40 + next_below(&fab->seed, 60)), m, skews[round % 3]);
        fab->input.options.balance_max = round % 4 == 0 ? 1.05 : 1.2;
        fab->input.mode = round % 5 < 3 ? ASSIGN_RELEVEL : ASSIGN_NORMAL;
        fab_assign(fab);
        check_result(fab);
        fab_commit(fab);
        for (int change = 0; change < 6; change++) {
            fab_change(fab);
            const struct assign_statistics *s = fab_assign(fab);
            check_result(fab);
            assert_true(s->bound_kept && s->bound_reachable);
            if (fab->input.mode == ASSIGN_RELEVEL)
                assert_true(s->lightest >= 0.8 * (1 - ROUNDING) || s->budget_spent);
            if (s->budget_spent)
                assert_true(s->moved + 1 >= fab->input.chamber_count / 5);
            if ((double)s->moved > 1.05 * (double)s->moved_least + (s->moved_least < 200 ? 6 : 0))
                fail_msg("round %d change %d: %zu of %zu on %zu moved, least %zu", round, change, s->moved,
                         fab->input.chamber_count, fab->input.defender_count, s->moved_least);
            moved += s->moved;
            least += s->moved_least;
            changes++;
            exact += s->moved == s->moved_least;
            check_idempotent(fab);
            fab_commit(fab);
        }
    }
    print_message("%zu of %zu changes move no more than the lower bound; together %.4f x it\n", exact,
                  changes, (double)moved / (double)least);
    assert_true((double)moved <= 1.001 * (double)least);
}

/* The fewest moves that keep every load between floor and cap, by trying all assignments. */
static void least_moves(const struct fab *fab, const double bounds[2], size_t chamber, double *loads,
                        size_t moves, size_t *best)
{
    if (moves >= *best)
        return;
    if (chamber == fab->input.chamber_count) {
        for (size_t j = 0; j < fab->input.defender_count; j++)
            if (loads[j] < bounds[0] * (1 - ROUNDING))
                return;
        *best = moves;
        return;
    }
    const struct assign_chamber *c = &fab->chambers[chamber];
    for (size_t j = 0; j < fab->input.defender_count; j++) {
        if (loads[j] + (double)c->weight > bounds[1] * (1 + ROUNDING))
            continue;
        loads[j] += (double)c->weight;
        least_moves(fab, bounds, chamber + 1, loads,
                    moves + (c->owner >= 0 && c->owner != fab->defenders[j].number), best);
        loads[j] -= (double)c->weight;
    }
}

static void check_small_fabs(struct fab *fab, double balance_min)
{
    size_t moved = 0, least = 0, bound = 0, compared = 0;
    for (int round = 0; round < 2000; round++) {
        size_t n = 3 + next_below(&fab->seed, SMALL_CHAMBERS - 2),
               m = 2 + next_below(&fab->seed, SMALL_DEFENDERS - 1);
        fab_make(fab, n, m, 12);
        fab->input.mode = ASSIGN_RELEVEL;
        fab->input.options.balance_min = balance_min;
        fab->input.options.movement_budget = 1;
        for (size_t i = 0; i < n; i++) {
            fab->chambers[i].weight = fab->chambers[i].weight / 100 + (int64_t)next_below(&fab->seed, 4);
            fab->chambers[i].owner = (int32_t)next_below(&fab->seed, m);
        }
        const struct assign_statistics *s = fab_assign(fab);
        check_result(fab);
        if (!s->bound_reachable || s->lightest < balance_min * (1 - ROUNDING))
            continue;
        double loads[SMALL_DEFENDERS] = {0}, bounds[2] = {balance_min * fab_mean(fab), 1.2 * fab_mean(fab)};
        size_t best = SIZE_MAX;
        least_moves(fab, bounds, 0, loads, 0, &best);
        assert_true(s->moved >= best && best >= s->moved_least);
        moved += s->moved;
        least += best;
        bound += s->moved_least;
        compared++;
    }
    print_message("%zu small fabs, floor %.2f: moved %zu, least by exhaustion %zu, lower bound %zu\n",
                  compared, balance_min, moved, least, bound);
    assert_true(compared > 300 && (double)moved <= (balance_min > 0 ? 1.04 : 1.02) * (double)least);
}

static void test_small_fabs_move_hardly_more_than_the_least(void **state)
{
    check_small_fabs(*state, 0);
    check_small_fabs(*state, 0.8);
}

static void test_emergency_moves_only_those_of_the_dead(void **state)
{
    struct fab *fab = *state;
    for (int round = 0; round < 200; round++) {
        size_t m = 2 + next_below(&fab->seed, 30);
        fab_make(fab, 1 + next_below(&fab->seed, 2000), m, round % 2 ? 120 : 1);
        fab_assign(fab);
        fab_commit(fab);
        if (round % 3 == 0)
            for (size_t i = 0; i < fab->input.chamber_count; i++) /* unbalanced as can be */
                fab->chambers[i].owner = (int32_t)next_below(&fab->seed, 2);
        int32_t dead = fab->defenders[next_below(&fab->seed, m)].number;
        fab->defenders[dead] = fab->defenders[m - 1];
        fab->input.defender_count--;
        fab->input.mode = ASSIGN_EMERGENCY;
        const struct assign_statistics *s = fab_assign(fab);
        check_result(fab);
        size_t orphans = 0;
        for (size_t i = 0; i < fab->input.chamber_count; i++) {
            orphans += fab->chambers[i].owner == dead;
            if (fab->chambers[i].owner != dead)
                assert_int_equal(fab->result.owners[i], fab->chambers[i].owner);
        }
        assert_int_equal(s->moved, orphans);
        assert_int_equal(s->moved_least, orphans);
    }
}

static void test_first_placement_hardly_depends_on_the_roster(void **state)
{
    struct fab *fab = *state;
    static int32_t owners[4000];
    fab_make(fab, 4000, 40, 120);
    fab_assign(fab);
    memcpy(owners, fab->result.owners, sizeof owners);
    fab->input.chamber_count = 3999; /* one is not known to the other leader */
    fab_assign(fab);
    size_t differ = 0;
    for (size_t i = 0; i < 3999; i++)
        differ += fab->result.owners[i] != owners[i];
    print_message("%zu of 3,999 differ\n", differ);
    assert_true(differ < 400);
}

static void test_random_changes_with_shares(void **state)
{
    struct fab *fab = *state;
    for (int round = 0; round < 150; round++) {
        size_t m = 3 + next_below(&fab->seed, 12);
        fab_make(fab, m * (20 + next_below(&fab->seed, 60)), m, round % 2 ? 120 : 1);
        for (int change = 0; change < 4; change++) {
            fab->defenders[0].share = 0.02 + 0.2 * next_random(&fab->seed);
            fab->input.mode = round % 3 == 0 ? ASSIGN_RELEVEL : ASSIGN_NORMAL;
            const struct assign_statistics *s = fab_assign(fab);
            check_result(fab);
            assert_true(s->bound_kept && s->shares_kept);
            for (size_t j = 0; j < fab->input.defender_count; j++)
                if (fab->result.loads[j].number == fab->defenders[0].number)
                    assert_true((double)fab->result.loads[j].weight <=
                                fab->defenders[0].share * fab_total(fab) * (1 + ROUNDING));
            check_idempotent(fab);
            fab_commit(fab);
            fab_change(fab);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_new_defenders_get_heavy_chambers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_budget_limits_lifting_but_not_the_cap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_those_of_the_gone_move_when_scaling_in, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fewest_chambers_leave_an_overloaded_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_giant_lives_alone_and_nothing_thrashes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_giant_moves_where_that_is_cheaper, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound_that_counting_forbids, setup, teardown),
        cmocka_unit_test_setup_teardown(test_share_is_an_upper_limit, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shares_that_are_less_than_the_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(test_share_too_small_for_any_chamber, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nobody_to_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_to_own, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_defender_owns_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_more_defenders_than_chambers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_huge_weights_do_not_overflow, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_input_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order_of_input_is_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cap_is_kept_whenever_any_assignment_could, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cap_is_kept_where_placing_anew_would, setup, teardown),
        cmocka_unit_test_setup_teardown(test_movement_is_near_its_lower_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_fabs_move_hardly_more_than_the_least, setup, teardown),
        cmocka_unit_test_setup_teardown(test_emergency_moves_only_those_of_the_dead, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_placement_hardly_depends_on_the_roster, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_changes_with_shares, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
