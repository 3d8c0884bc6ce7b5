#include "chart/rules.h"

#include <assert.h>
#include <math.h>

static const struct {
    const char *name, *description;
} RULES[RULE_COUNT] = {
    [RULE_LIMITS] = {"limits", "beyond a control limit"},
    [RULE_WESTERN_ELECTRIC_1] = {"western_electric_1", "1 point beyond 3 sigma"},
    [RULE_WESTERN_ELECTRIC_2] = {"western_electric_2", "2 of 3 points beyond 2 sigma on one side"},
    [RULE_WESTERN_ELECTRIC_3] = {"western_electric_3", "4 of 5 points beyond 1 sigma on one side"},
    [RULE_WESTERN_ELECTRIC_4] = {"western_electric_4", "8 points in a row on one side of the centre"},
    [RULE_NELSON_1] = {"nelson_1", "1 point beyond 3 sigma"},
    [RULE_NELSON_2] = {"nelson_2", "9 points in a row on one side of the centre"},
    [RULE_NELSON_3] = {"nelson_3", "6 points in a row steadily rising or falling"},
    [RULE_NELSON_4] = {"nelson_4", "14 points in a row alternating up and down"},
    [RULE_NELSON_5] = {"nelson_5", "2 of 3 points beyond 2 sigma on one side"},
    [RULE_NELSON_6] = {"nelson_6", "4 of 5 points beyond 1 sigma on one side"},
    [RULE_NELSON_7] = {"nelson_7", "15 points in a row within 1 sigma of the centre"},
    [RULE_NELSON_8] = {"nelson_8", "8 points in a row on both sides, none within 1 sigma"},
    [RULE_EWMA] = {"ewma", "the exponentially weighted moving average is beyond its limit"},
    [RULE_CUSUM] = {"cusum", "the cumulative sum is beyond its decision interval"},
};

static const uint32_t RUN_RULES = ((1u << (RULE_NELSON_8 + 1)) - 1) & ~(1u << RULE_LIMITS);

void rules_spec_default(struct rules_spec *spec)
{
    *spec = (struct rules_spec){
        .enabled = 1u << RULE_LIMITS,
        .ewma_lambda = 0.2,
        .ewma_limit = 3,
        .ewma_restart = true,
        .cusum_k = 0.5,
        .cusum_h = 5,
        .cusum_restart = true,
    };
}

bool rules_need_history(const struct rules_spec *spec)
{
    uint32_t alone = 1u << RULE_LIMITS | 1u << RULE_WESTERN_ELECTRIC_1 | 1u << RULE_NELSON_1;
    return (spec->enabled & ~alone) != 0;
}

double rules_z(double value, double centre, double sigma)
{
    double distance = value - centre;
    if (distance == 0)
        return 0;
    double z = distance / sigma;
    return z > RULES_Z_MAX ? RULES_Z_MAX : z < -RULES_Z_MAX ? -RULES_Z_MAX : z;
}

/* How many of the last `among` points are beyond `bound` on the judged point's side; 0 when it is not beyond
 * itself. */
static size_t beyond(const double *z, size_t count, size_t among, double bound)
{
    double side = z[count - 1] < 0 ? -1 : 1;
    if (!(side * z[count - 1] > bound))
        return 0;
    size_t found = 0;
    for (size_t i = 0; i < among && i < count; i++)
        found += side * z[count - 1 - i] > bound ? 1 : 0;
    return found;
}

/* How many points in a row, up to the judged one and at most `most`, lie on its side of the centre. */
static size_t one_side(const double *z, size_t count, size_t most)
{
    double side = z[count - 1] < 0 ? -1 : 1;
    size_t run = 0;
    while (run < most && run < count && side * z[count - 1 - run] > 0)
        run++;
    return run;
}

/* Points in a row that rise, or fall, without a pause. */
static size_t trend(const double *z, size_t count, size_t most)
{
    if (count < 2 || z[count - 1] == z[count - 2])
        return 1;
    double sign = z[count - 1] > z[count - 2] ? 1 : -1;
    size_t run = 2;
    while (run < most && run < count && sign * z[count - run] > sign * z[count - run - 1])
        run++;
    return run;
}

static size_t alternation(const double *z, size_t count, size_t most)
{
    if (count < 2 || z[count - 1] == z[count - 2])
        return 1;
    double sign = z[count - 1] > z[count - 2] ? 1 : -1;
    size_t run = 2;
    while (run < most && run < count) {
        sign = -sign;
        if (!(sign * z[count - run] > sign * z[count - run - 1]))
            break;
        run++;
    }
    return run;
}

static bool hugs_centre(const double *z, size_t count, size_t run)
{
    for (size_t i = 0; i < run; i++) {
        if (i >= count || !(fabs(z[count - 1 - i]) < 1))
            return false;
    }
    return true;
}

static bool avoids_centre(const double *z, size_t count, size_t run)
{
    bool above = false, below = false;
    for (size_t i = 0; i < run; i++) {
        if (i >= count || !(fabs(z[count - 1 - i]) > 1))
            return false;
        above = above || z[count - 1 - i] > 0;
        below = below || z[count - 1 - i] < 0;
    }
    return above && below;
}

static uint32_t bit(bool fired, enum rule rule)
{
    return fired ? 1u << rule : 0;
}

uint32_t rules_run(const double *z, size_t count)
{
    assert(count > 0);
    bool beyond_3 = fabs(z[count - 1]) > 3;
    bool two_of_three = beyond(z, count, 3, 2) >= 2;
    bool four_of_five = beyond(z, count, 5, 1) >= 4;
    size_t side = one_side(z, count, 9);
    return bit(beyond_3, RULE_WESTERN_ELECTRIC_1) | bit(two_of_three, RULE_WESTERN_ELECTRIC_2) |
           bit(four_of_five, RULE_WESTERN_ELECTRIC_3) | bit(side >= 8, RULE_WESTERN_ELECTRIC_4) |
           bit(beyond_3, RULE_NELSON_1) | bit(side >= 9, RULE_NELSON_2) |
           bit(trend(z, count, 6) >= 6, RULE_NELSON_3) | bit(alternation(z, count, 14) >= 14, RULE_NELSON_4) |
           bit(two_of_three, RULE_NELSON_5) | bit(four_of_five, RULE_NELSON_6) |
           bit(hugs_centre(z, count, 15), RULE_NELSON_7) | bit(avoids_centre(z, count, 8), RULE_NELSON_8);
}

double ewma_next(double average, double value, double lambda)
{
    return lambda * value + (1 - lambda) * average;
}

double ewma_limit(double lambda, double limit, size_t step, bool steady)
{
    double left = 1;
    if (!steady) {
        /* (1 - lambda)^(2 step) by squaring; the C library's pow differs in its last bits between processors.
         */
        double power = (1 - lambda) * (1 - lambda), memory = 1;
        for (size_t n = step; n > 0; n /= 2) {
            if (n % 2)
                memory *= power;
            power *= power;
        }
        left = 1 - memory;
    }
    return limit * sqrt(lambda / (2 - lambda) * left);
}

void cusum_next(struct cusum *cusum, double z, double k)
{
    double high = cusum->high + z - k, low = cusum->low - z - k;
    cusum->high = high > 0 ? high : 0;
    cusum->low = low > 0 ? low : 0;
}

static bool ewma_fires(const struct rules_spec *spec, const double *z, size_t count)
{
    double average = 0;
    for (size_t i = 0; i < count; i++)
        average = ewma_next(average, z[i], spec->ewma_lambda);
    return fabs(average) > ewma_limit(spec->ewma_lambda, spec->ewma_limit, count, spec->ewma_steady);
}

static bool cusum_fires(const struct rules_spec *spec, const double *z, size_t count)
{
    struct cusum cusum = {0};
    for (size_t i = 0; i < count; i++)
        cusum_next(&cusum, z[i], spec->cusum_k);
    return cusum.high > spec->cusum_h || cusum.low > spec->cusum_h;
}

uint32_t rules_fired(const struct rules_spec *spec, const struct limits *limits, double value,
                     const double *z, size_t count, size_t restart)
{
    assert(count > 0 && restart < count);
    uint32_t fired = 0;
    if (spec->enabled & 1u << RULE_LIMITS)
        fired |= bit(value < limits->lower || value > limits->upper, RULE_LIMITS);
    if (spec->enabled & RUN_RULES)
        fired |= rules_run(z, count) & spec->enabled;
    if (spec->enabled & 1u << RULE_EWMA) {
        size_t begin = spec->ewma_restart ? restart : 0;
        fired |= bit(ewma_fires(spec, z + begin, count - begin), RULE_EWMA);
    }
    if (spec->enabled & 1u << RULE_CUSUM) {
        size_t begin = spec->cusum_restart ? restart : 0;
        fired |= bit(cusum_fires(spec, z + begin, count - begin), RULE_CUSUM);
    }
    return fired;
}

const char *rule_name(enum rule rule)
{
    return (unsigned)rule < RULE_COUNT ? RULES[rule].name : NULL;
}

const char *rule_description(enum rule rule)
{
    return (unsigned)rule < RULE_COUNT ? RULES[rule].description : NULL;
}
