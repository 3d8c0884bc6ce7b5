/* The simulation's one source of chance: xoshiro256** seeded by splitmix64 (Blackman and Vigna, public
 * domain), so that a seed is a whole world. */
#ifndef CHAMBERLAIN_SIM_RANDOM_H
#define CHAMBERLAIN_SIM_RANDOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_random {
    uint64_t state[4];
};

void sim_random_seed(struct sim_random *random, uint64_t seed);
uint64_t sim_random_next(struct sim_random *random);

/* 0 to count-1; count above 0. */
size_t sim_random_below(struct sim_random *random, size_t count);

/* low to high, both included. */
int64_t sim_random_between(struct sim_random *random, int64_t low, int64_t high);

/* True with that probability. */
bool sim_random_chance(struct sim_random *random, double probability);

/* 0 up to, not including, 1. */
double sim_random_unit(struct sim_random *random);

#endif
