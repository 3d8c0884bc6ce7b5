#include "assign/plan.h"

#include "base/hash.h"

#include <stdio.h>
#include <string.h>

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS, HASH_LOW_BIT = 31, WEIGHT_BITS = 62 };

struct plan_key *plan_sort(struct plan_key *keys, struct plan_key *spare, size_t count, unsigned low,
                           unsigned high)
{
    for (unsigned bit = low; bit < high; bit += DIGIT_BITS) {
        uint32_t begin[DIGITS] = {0};
        for (size_t i = 0; i < count; i++)
            begin[keys[i].key >> bit & (DIGITS - 1)]++;
        uint32_t sum = 0;
        for (size_t d = 0; d < DIGITS; d++) {
            uint32_t here = begin[d];
            begin[d] = sum;
            sum += here;
        }
        for (size_t i = 0; i < count; i++)
            spare[begin[keys[i].key >> bit & (DIGITS - 1)]++] = keys[i];
        struct plan_key *sorted = spare;
        spare = keys;
        keys = sorted;
    }
    return keys;
}

/* Checks the chambers, sums their weights, and finds how far weights must be shifted for the sum to fit. */
static int order_check(struct plan *plan, const struct assign_chamber *chambers, int64_t *heaviest,
                       struct error *err)
{
    double sum = 0;
    for (size_t i = 0; i < plan->chambers; i++) {
        const struct assign_chamber *chamber = &chambers[i];
        if (chamber->name == NULL)
            return error_set(err, ERR_INVALID, "chamber %zu has no name: give it its tool:chamber", i);
        if (chamber->weight < 1)
            return error_set(err, ERR_INVALID, "chamber %s has weight %lld: it must be 1 or more",
                             chamber->name, (long long)chamber->weight);
        if (chamber->owner < ASSIGN_NOBODY)
            return error_set(err, ERR_INVALID,
                             "chamber %s has owner %d: it must be a defender's number, or %d for nobody",
                             chamber->name, chamber->owner, ASSIGN_NOBODY);
        sum += (double)chamber->weight;
        *heaviest = chamber->weight > *heaviest ? chamber->weight : *heaviest;
    }
    /* The + 1 a chamber is for weights that are rounded up to 1. */
    while (sum / (double)(UINT64_C(1) << plan->shift) + (double)plan->chambers >
           (double)(INT64_C(1) << (WEIGHT_BITS - 2)))
        plan->shift++;
    return 0;
}

/* Keys that agree in the sorted bits may be out of order by the rest: there are next to none. */
static int order_by_hash(struct plan_key *keys, size_t count, const struct assign_chamber *chambers,
                         struct error *err)
{
    for (size_t i = 1; i < count; i++) {
        struct plan_key key = keys[i];
        const char *name = chambers[key.index].name;
        size_t to = i;
        for (; to > 0 && keys[to - 1].key >= key.key; to--) {
            if (keys[to - 1].key > key.key) {
                keys[to] = keys[to - 1];
                continue;
            }
            int order = strcmp(chambers[keys[to - 1].index].name, name);
            if (order == 0)
                return error_set(err, ERR_INVALID, "chamber %s is listed twice: list each once", name);
            if (order < 0)
                break;
            keys[to] = keys[to - 1];
        }
        keys[to] = key;
    }
    return 0;
}

int plan_order(struct plan *plan, const struct assign_input *input, const int32_t *member_of, size_t numbers,
               struct error *err)
{
    size_t n = plan->chambers;
    const struct assign_chamber *chambers = input->chambers;
    int64_t heaviest = 1;
    int code = order_check(plan, chambers, &heaviest, err);
    if (code)
        return code;
    struct plan_key *keys = arena_alloc(plan->arena, n * sizeof *keys);
    struct plan_key *spare = arena_alloc(plan->arena, n * sizeof *spare);
    uint64_t *hash = arena_alloc(plan->arena, n * sizeof *hash);
    if (keys == NULL || spare == NULL || hash == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to order %zu chambers", n);
    for (size_t i = 0; i < n; i++) {
        hash[i] = hash64_text(chambers[i].name);
        keys[i] = (struct plan_key){hash[i], (uint32_t)i};
    }
    struct plan_key *sorted = plan_sort(keys, spare, n, HASH_LOW_BIT, 64);
    code = order_by_hash(sorted, n, chambers, err);
    if (code)
        return code;
    unsigned bits = 0;
    for (size_t i = 0; i < n; i++)
        sorted[i].key = (uint64_t)(heaviest - chambers[sorted[i].index].weight);
    for (size_t i = 0; i < n; i++)
        while (bits < 64 && sorted[i].key >> bits)
            bits++;
    sorted = plan_sort(sorted, sorted == keys ? spare : keys, n, 0, bits);
    for (size_t r = 0; r < n; r++) {
        uint32_t i = sorted[r].index;
        int64_t weight = chambers[i].weight >> plan->shift;
        int32_t owner = chambers[i].owner;
        plan->source[r] = i;
        plan->hash[r] = hash[i];
        plan->weight[r] = weight > 0 ? weight : 1;
        plan->total += plan->weight[r];
        plan->home[r] = owner == ASSIGN_NOBODY || plan->mode == ASSIGN_FIRST ? PLAN_NOBODY
                        : (size_t)owner < numbers                            ? member_of[owner]
                                                                             : PLAN_GONE;
    }
    return 0;
}
