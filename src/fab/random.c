#include "fab/random.h"

#include "chart/elementary.h"

#include <math.h>

/* The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static const uint64_t golden = UINT64_C(0x9E3779B97F4A7C15);

struct fab_random fab_random_for(uint64_t seed, uint64_t purpose, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t key = mix(seed + golden);
    key = mix((key ^ purpose) + golden);
    key = mix((key ^ a) + golden);
    key = mix((key ^ b) + golden);
    return (struct fab_random){mix((key ^ c) + golden)};
}

uint64_t fab_random_bits(struct fab_random *random)
{
    return mix(random->state += golden);
}

double fab_random_uniform(struct fab_random *random)
{
    return (double)(fab_random_bits(random) >> 11) * 0x1p-53;
}

uint64_t fab_random_below(struct fab_random *random, uint64_t bound)
{
    return ((fab_random_bits(random) >> 32) * bound) >> 32;
}

/* --- the normal distribution by the ziggurat: 256 layers of one area under exp(-x^2/2) (Marsaglia, Tsang:
 * The ziggurat method for generating random variables, 2000; the right end of the lowest layer and the area
 * are those of Doornik, 2005) --- */

static const double tail_start = 3.6541528853610088;
static const double layer_area = 0.00492867323399;

void fab_normal_fill(struct fab_normal *normal)
{
    double height = elementary_exp(-0.5 * tail_start * tail_start);
    normal->edge[0] = layer_area / height; /* as wide as a rectangle with the tail's area would be */
    normal->edge[1] = tail_start;
    for (int i = 2; i < FAB_NORMAL_LAYERS; i++) {
        height += layer_area / normal->edge[i - 1];
        normal->edge[i] = sqrt(-2 * elementary_log(height));
    }
    normal->edge[FAB_NORMAL_LAYERS] = 0;
    for (int i = 0; i <= FAB_NORMAL_LAYERS; i++)
        normal->height[i] = elementary_exp(-0.5 * normal->edge[i] * normal->edge[i]);
    for (int i = 0; i < FAB_NORMAL_LAYERS; i++)
        normal->inside[i] = normal->edge[i + 1] / normal->edge[i];
}

/* Beyond tail_start (Marsaglia 1964). */
static double tail(struct fab_random *random)
{
    for (;;) {
        double x = -elementary_log(1 - fab_random_uniform(random)) / tail_start;
        double y = -elementary_log(1 - fab_random_uniform(random));
        if (2 * y >= x * x)
            return tail_start + x;
    }
}

double fab_random_normal(struct fab_random *random, const struct fab_normal *normal)
{
    for (;;) {
        uint64_t bits = fab_random_bits(random);
        unsigned layer = bits % FAB_NORMAL_LAYERS;
        double u = (double)(bits >> 11) * 0x1p-52 - 1; /* of other bits than the layer */
        if (fabs(u) < normal->inside[layer])
            return u * normal->edge[layer];
        if (layer == 0)
            return u < 0 ? -tail(random) : tail(random);
        double x = u * normal->edge[layer];
        double low = normal->height[layer], high = normal->height[layer + 1];
        if (low + fab_random_uniform(random) * (high - low) < elementary_exp(-0.5 * x * x))
            return x;
    }
}
