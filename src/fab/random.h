/* Random numbers that can be had anywhere: a generator starts from a key that is made of what it is for. */
#ifndef CHAMBERLAIN_FAB_RANDOM_H
#define CHAMBERLAIN_FAB_RANDOM_H

#include <stdint.h>

struct fab_random {
    uint64_t state;
};

/* A generator for the thing that `a`, `b` and `c` name among those of `purpose`. */
struct fab_random fab_random_for(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b, uint64_t c);

uint64_t fab_random_bits(struct fab_random *random);
double fab_random_uniform(struct fab_random *random);                 /* [0, 1) */
uint64_t fab_random_below(struct fab_random *random, uint64_t bound); /* 0 to bound - 1; bound below 2^32 */

enum { FAB_NORMAL_LAYERS = 256 };

/* What a normal number is drawn by. Constant once filled. */
struct fab_normal {
    double edge[FAB_NORMAL_LAYERS + 1];   /* of layer i: its right end; the last is 0 */
    double height[FAB_NORMAL_LAYERS + 1]; /* exp(-edge^2 / 2) */
    double inside[FAB_NORMAL_LAYERS];     /* the part of layer i that lies below the curve for sure */
};

void fab_normal_fill(struct fab_normal *normal);

/* Mean 0, deviation 1. */
double fab_random_normal(struct fab_random *random, const struct fab_normal *normal);

#endif
