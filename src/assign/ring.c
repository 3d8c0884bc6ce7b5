/* First placement: consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016), heavy
 * chambers first. Leaders whose rosters differ by a few chambers or defenders place nearly all the others
 * alike. */
#include "assign/plan.h"

#include "base/hash.h"

enum {
    RING_POINTS = 40,  /* of each member */
    RING_LOW_BIT = 31, /* points are ordered by the bits above: 2^33 places for at most 2^20 points */
    RING_PROBES_MAX = 32
};

struct ring {
    struct plan_key *points; /* [count] ascending */
    size_t count;
    uint32_t *first; /* [2^bits + 1] the first point at or after a prefix of so many bits */
    unsigned bits;
    int64_t *room; /* [members] below the bound of first placement */
};

/* The bytes are written one by one, so that every machine hashes the same. */
static uint64_t ring_hash(int32_t number, unsigned point)
{
    unsigned char bytes[16] = "defender";
    for (unsigned i = 0; i < 4; i++) {
        bytes[8 + i] = (unsigned char)((uint32_t)number >> (8 * i));
        bytes[12 + i] = (unsigned char)(point >> (8 * i));
    }
    return hash64(bytes, sizeof bytes);
}

/* A little above the fair weight, far below the cap: so tight a bound leaves no one light, and whoever joins
 * later is filled with fewer moves. */
static int64_t ring_bound(const struct plan *plan, size_t member)
{
    return plan->fair[member] + (plan->cap[member] - plan->fair[member]) / 16;
}

static int ring_init(struct ring *ring, const struct plan *plan, struct error *err)
{
    ring->count = plan->members * RING_POINTS;
    for (ring->bits = 1; (size_t)1 << ring->bits < ring->count; ring->bits++)
        ;
    size_t prefixes = (size_t)1 << ring->bits;
    struct plan_key *points = arena_alloc(plan->arena, ring->count * sizeof *points);
    struct plan_key *spare = arena_alloc(plan->arena, ring->count * sizeof *spare);
    ring->first = arena_alloc(plan->arena, (prefixes + 1) * sizeof *ring->first);
    ring->room = arena_alloc(plan->arena, plan->members * sizeof *ring->room);
    if (points == NULL || spare == NULL || ring->first == NULL || ring->room == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a hash ring of %zu points", ring->count);
    for (size_t j = 0; j < plan->members; j++)
        for (unsigned p = 0; p < RING_POINTS; p++)
            points[j * RING_POINTS + p] = (struct plan_key){ring_hash(plan->number[j], p), (uint32_t)j};
    ring->points = plan_sort(points, spare, ring->count, RING_LOW_BIT, 64);
    for (size_t j = 0; j < plan->members; j++)
        ring->room[j] = ring_bound(plan, j) - plan->load[j];
    size_t at = 0;
    for (size_t prefix = 0; prefix <= prefixes; prefix++) {
        while (at < ring->count && ring->points[at].key >> (64 - ring->bits) < prefix)
            at++;
        ring->first[prefix] = (uint32_t)at;
    }
    return 0;
}

static size_t ring_find(const struct ring *ring, uint64_t hash)
{
    size_t at = ring->first[hash >> (64 - ring->bits)];
    while (at < ring->count && ring->points[at].key < hash)
        at++;
    return at < ring->count ? at : 0;
}

static size_t ring_pick(const struct ring *ring, const struct plan *plan, size_t rank)
{
    size_t at = ring_find(ring, plan->hash[rank]);
    for (unsigned probe = 0; probe < RING_PROBES_MAX; probe++) {
        size_t member = ring->points[at].index;
        if (plan->weight[rank] <= ring->room[member])
            return member;
        at = at + 1 < ring->count ? at + 1 : 0;
    }
    return plan->members;
}

int plan_place_first(struct plan *plan, struct error *err)
{
    struct ring ring = {0};
    struct lightest lightest;
    int code = ring_init(&ring, plan, err);
    if (code == 0)
        code = lightest_init(&lightest, plan, err);
    for (size_t r = 0; code == 0 && r < plan->chambers; r++) {
        if (plan->now[r] != PLAN_NOBODY)
            continue;
        size_t member = ring_pick(&ring, plan, r);
        if (member == plan->members)
            member = lightest_pick(&lightest, plan, plan->weight[r]);
        plan_give(plan, r, member);
        ring.room[member] -= plan->weight[r];
        lightest_update(&lightest, plan, member);
    }
    return code;
}
