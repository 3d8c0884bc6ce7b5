#include "random.h"

void sim_random_seed(struct sim_random *random, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        random->state[i] = z ^ (z >> 31);
    }
}

static uint64_t rotate_left(uint64_t x, int by)
{
    return (x << by) | (x >> (64 - by));
}

uint64_t sim_random_next(struct sim_random *random)
{
    uint64_t *s = random->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

size_t sim_random_below(struct sim_random *random, size_t count)
{
    return (size_t)(sim_random_next(random) % count); /* the bias is below count / 2^64 */
}

int64_t sim_random_between(struct sim_random *random, int64_t low, int64_t high)
{
    return low + (int64_t)sim_random_below(random, (size_t)(high - low) + 1);
}

double sim_random_unit(struct sim_random *random)
{
    return (double)(sim_random_next(random) >> 11) * 0x1.0p-53;
}

bool sim_random_chance(struct sim_random *random, double probability)
{
    return sim_random_unit(random) < probability;
}
