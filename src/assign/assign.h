/* Which defender judges which chamber: balanced, sticky, with next to the fewest moves, the same on every
 * machine.
 *
 * Pure: no clock, no thread, no globals; memory comes from the caller's arena. The result depends on the
 * names, weights, owners and defenders alone, never on the order in which they are given.
 *
 * The bounds. Let the mean be the total weight over the number of defenders. No defender is to hold more than
 * balance_max times the mean (the cap); one that holds less than balance_min times the mean (the floor) is
 * lifted while the movement budget lasts. Three things change a bound:
 * - A defender with a `share` never holds more than that part of the total weight. It is meant to hold nine
 *   tenths of it, and the mean of the others is taken over what is left.
 * - A chamber heavier than the cap gets a defender of its own; the mean is then that of the other chambers
 *   and defenders.
 * - When chambers are so few and heavy that some defender must hold more (k+1 of the k*m+1 heaviest chambers
 *   on m defenders share one), the cap is the least that this forces.
 * In the last two cases bound_reachable is false.
 *
 * The movement and its lower bound. `moved` counts chambers whose owner was another defender, alive or gone;
 * a chamber that nobody owned is placed, not moved. No assignment that keeps the caps (or, where they are not
 * kept, lets no defender hold more than this one does) and gives every defender at least what this one gives
 * it, up to its floor, moves fewer chambers than `moved_least`. With h(j) the weight that defender j held,
 * C(j) the larger of its cap and what it holds now, L(j) the smaller of its floor and what it holds now,
 * top(j,k) the weight of its k heaviest chambers:
 *
 *   moved_least = max(gone + min sum k(j),  sum a(i) - unowned)
 *     over integers k(j) with      top(j,k(j)) >= h(j) - C(j)                               for every j,
 *     and  sum over h(j)>=L(j) of  min(top(j,k(j)), h(j) - L(j))  >=  sum over h(i)<L(i) of (L(i) - h(i))
 *                                                                       - weight of gone and unowned
 *   a(i): the fewest chambers, were the heaviest of all at hand, that weigh L(i) - h(i).
 *
 * Why: the chambers of gone defenders move in any case. j ends at or below C(j) only if what leaves weighs
 * h(j) - C(j), and k leavers weigh top(j,k) at most. What the light ones gain is what the others lose plus
 * what was homeless; j loses no more than its leavers weigh, and no more than brings it down to L(j). Each
 * term is concave in k(j), so taking the largest next gain first finds the minimum. The second form counts
 * arrivals. */
#ifndef CHAMBERLAIN_ASSIGN_ASSIGN_H
#define CHAMBERLAIN_ASSIGN_ASSIGN_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    ASSIGN_NOBODY = -1,             /* the owner of a chamber that has none */
    ASSIGN_CHAMBERS_MAX = 1 << 20,  /* chambers in one assignment */
    ASSIGN_DEFENDERS_MAX = 1 << 14, /* defenders in one assignment */
    ASSIGN_NUMBER_MAX = 1 << 20     /* largest N of a defender-N */
};

enum assign_mode {
    /* Keeps the bounds. Lifts light defenders only when the input shows a change (a chamber without a living
     * owner, a defender above its cap, one that owns nothing), so that running again on the result moves
     * nothing. */
    ASSIGN_NORMAL,
    /* As normal, and lifts light defenders in any case: what an operator asks for, or drifted weights. */
    ASSIGN_RELEVEL,
    /* Moves nothing but the chambers without a living owner, even where a bound breaks. */
    ASSIGN_EMERGENCY,
    /* Places every chamber as if nobody owned any: consistent hashing with bounded loads. What an assignment
     * without any living owner does in every mode. */
    ASSIGN_FIRST
};

struct assign_chamber {
    const char *name; /* "tool:chamber", unique in the input */
    int64_t weight;   /* above 0; any unit, the same for all */
    int32_t owner;    /* N of the defender-N that owns it now, ASSIGN_NOBODY if none does */
};

struct assign_defender {
    int32_t number; /* N of defender-N, unique in the input, 0 to ASSIGN_NUMBER_MAX */
    double share;   /* the part of the total weight that it may hold, above 0 and up to 1; 0: no such limit */
};

struct assign_options {
    double balance_max; /* 1 or more */
    double balance_min; /* 0 to 1; 0: nobody is lifted */
    /* 0 to 1: lifting stops when this part of the chambers moves, those that had to move counted. A defender
     * that owns nothing gets a chamber whatever the budget, if one can be spared. */
    double movement_budget;
};

/* 1.20, 0.80, 0.20. */
struct assign_options assign_options_default(void);

struct assign_input {
    const struct assign_chamber *chambers;
    size_t chamber_count; /* up to ASSIGN_CHAMBERS_MAX */
    const struct assign_defender *defenders;
    size_t defender_count; /* up to ASSIGN_DEFENDERS_MAX; with 0 every chamber ends with ASSIGN_NOBODY */
    struct assign_options options;
    enum assign_mode mode;
};

struct assign_load {
    int32_t number;  /* of the defender */
    size_t chambers; /* how many it owns */
    int64_t weight;  /* their sum, INT64_MAX if it is more */
    /* The weight over what it is meant to hold, which is the mean or nine tenths of its share; 0 if that is
     * 0. */
    double ratio;
};

/* "Mean" without more is the total weight over the number of defenders. */
struct assign_statistics {
    size_t moved;            /* chambers that another defender owned before */
    int64_t moved_weight;    /* their weight, INT64_MAX if it is more */
    size_t placed;           /* chambers that nobody owned before */
    size_t moved_least;      /* the lower bound of `moved`; in an emergency, the chambers of the gone */
    double mean;             /* what one without share or giant is meant to hold, in the input's unit */
    double heaviest;         /* largest weight of a defender over the mean */
    double lightest;         /* smallest weight of a defender over the mean */
    double variance_percent; /* standard deviation of the defenders' weights in percent of the mean */
    /* False: it is proved that no assignment keeps balance_max. */
    bool bound_reachable;
    /* False: some defender is above its cap (raised where the bound is not reachable), as nothing better was
     * found, or allowed in an emergency. Up to 64 chambers and defenders the search is exhaustive within
     * 200,000 steps. */
    bool bound_kept;
    /* False: every defender has a share, and together they are less than the whole; they count as
     * proportions. */
    bool shares_kept;
    /* A defender stayed below its floor because the movement budget was used up. */
    bool budget_spent;
};

struct assign_result {
    int32_t *owners; /* [chamber_count] in the input's order: N of the new owner, or ASSIGN_NOBODY */
    struct assign_load *loads; /* [defender_count] by ascending number */
    struct assign_statistics statistics;
};

/* Computes the new assignment into `result`, whose arrays live in `arena`, as does all working memory (about
 * 100 bytes a chamber and 200 a defender). Chambers' names are hashed with xxHash64; nothing of the input is
 * kept.
 *
 * ERR_INVALID: a weight below 1, a chamber without a name or named twice, an owner below ASSIGN_NOBODY, a
 * defender listed twice, a number or share out of range, an option out of range; the message names it.
 * ERR_LIMIT: more chambers or defenders than the maxima. ERR_NO_MEMORY. On an error nothing in `result` is
 * valid. */
int assign_compute(const struct assign_input *input, struct arena *arena, struct assign_result *result,
                   struct error *err);

#endif
