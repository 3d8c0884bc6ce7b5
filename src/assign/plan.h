/* The working state of one assignment, shared by the files of this room.
 *
 * Chambers are known by rank: heaviest first, then by hash, then by name. Defenders are members, by ascending
 * number. So nothing after plan_order() can depend on the order of the input. */
#ifndef CHAMBERLAIN_ASSIGN_PLAN_H
#define CHAMBERLAIN_ASSIGN_PLAN_H

#include "assign/assign.h"

enum {
    PLAN_NOBODY = -1, /* never owned */
    PLAN_GONE = -2    /* owned by a defender that is not a member */
};

struct plan {
    struct arena *arena;
    struct assign_options options;
    enum assign_mode mode;
    size_t chambers, members;

    /* By rank. */
    uint32_t *source; /* place in the input */
    uint64_t *hash;
    int64_t *weight; /* in units of 2^shift */
    int32_t *home;   /* the member that owned it when the caller asked, PLAN_NOBODY or PLAN_GONE */
    int32_t *before; /* the same at the start of this round */
    int32_t *now;    /* PLAN_NOBODY while it waits to be placed */

    /* By member. */
    int32_t *number;
    double *share;
    int64_t *load, *fair, *cap, *floor;
    size_t *count;
    bool *restricted; /* its share is below the mean */
    int32_t *giant;   /* rank of the giant it keeps to itself, or PLAN_NOBODY */

    /* The chambers of member j by `before`, heaviest first: held[start[j] .. start[j + 1]). */
    uint32_t *start, *held;

    int64_t total;    /* of all weights */
    unsigned shift;   /* so that every sum fits int64_t with room to spare */
    double level;     /* what an unrestricted member without a giant is meant to hold */
    size_t giants;    /* ranks 0 .. giants-1 */
    size_t moves_max; /* lifting stops here */
    bool reachable, shares_kept, budget_spent;
};

/* order.c: fills source, hash, weight, home; ERR_INVALID for bad chambers, ERR_NO_MEMORY. `member_of` maps
 * numbers below `numbers` to members or PLAN_GONE. */
int plan_order(struct plan *plan, const struct assign_input *input, const int32_t *member_of, size_t numbers,
               struct error *err);

/* A key and what it stands for, sorted by key with plan_sort(): ascending, stable, by the bits from `low` to
 * `high`. `spare` has room for as many; returns the one of the two arrays that holds the result. */
struct plan_key {
    uint64_t key;
    uint32_t index;
};
struct plan_key *plan_sort(struct plan_key *keys, struct plan_key *spare, size_t count, unsigned low,
                           unsigned high);

/* level.c: fair, cap and floor of every member, the level and the giants. */
int plan_level(struct plan *plan, struct error *err);

/* Groups the chambers by `before` into start and held, and sets load, count and now from them. */
void plan_settle(struct plan *plan);

/* Gives chamber `rank` (which must be waiting) to a member, or takes it away from the one that has it. */
void plan_give(struct plan *plan, size_t rank, size_t member);
void plan_take(struct plan *plan, size_t rank);

/* Chambers whose owner differs from a previous one. */
size_t plan_moved(const struct plan *plan);

/* Sum over members of the weight above their caps. */
int64_t plan_excess(const struct plan *plan);

/* shed.c: makes wait what must leave: all that share a member with a giant, and the fewest, heaviest chambers
 * of members above their caps. Giants are placed. Returns the number of chambers taken away. */
size_t plan_shed(struct plan *plan);

/* lift.c: makes wait the heaviest chambers that members can spare, as many as the members below their floors
 * need beside what waits already, within the budget. */
int plan_lift(struct plan *plan, struct error *err);

/* lightest.c: a tournament of the members, won by the one furthest below its fair weight, the lowest number
 * first. */
struct lightest {
    size_t leaves;   /* a power of two */
    int32_t *winner; /* [2 * leaves], the root at 1; leaves that are no member hold PLAN_NOBODY */
};
int lightest_init(struct lightest *lightest, const struct plan *plan, struct error *err);
/* To be called after a member's load has changed. */
void lightest_update(struct lightest *lightest, const struct plan *plan, size_t member);
/* The member to take `weight`: the winner if that stays within its cap, else the one with the most room. */
size_t lightest_pick(const struct lightest *lightest, const struct plan *plan, int64_t weight);

/* place.c: gives every waiting chamber to the member that is furthest below its fair weight, heaviest first.
 */
int plan_place(struct plan *plan, struct error *err);

/* ring.c: gives every waiting chamber by consistent hashing with bounded loads. */
int plan_place_first(struct plan *plan, struct error *err);

/* repair.c: brings members below their caps by giving chambers away or exchanging them, then, with `lift`,
 * members above their floors, at no cost in moves where that is possible. With `frozen`, only chambers
 * without a living owner are touched. */
int plan_repair(struct plan *plan, bool lift, bool frozen, struct error *err);

/* Sends home again what need not have moved. */
void plan_return(struct plan *plan);

/* search.c: looks for the assignment within the caps that moves least, by branch and bound. Sets `now` when
 * it finds one
 * (*found) and *exhausted when it has seen them all. */
int plan_search(struct plan *plan, bool frozen, bool *found, bool *exhausted, struct error *err);

/* fresh.c: places everything anew, then names the parts after the members whose chambers they hold. */
int plan_place_anew(struct plan *plan, struct error *err);

/* bound.c: the lower bound of movement for the caps and for floors no higher than what is held now. */
int plan_moved_least(struct plan *plan, size_t *least, struct error *err);

#endif
