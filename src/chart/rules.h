/* Rules: when is a point, seen with those before it, out of control?
 *
 * Every rule but `limits` reads z = (value - centre) / sigma of the points in time order, the judged one
 * last. A run rule is fired by the point that completes the run, so the judged point itself always belongs to
 * it: in "2 of 3 beyond 2 sigma" it is one of the two. */
#ifndef CHAMBERLAIN_CHART_RULES_H
#define CHAMBERLAIN_CHART_RULES_H

#include "chart/limits.h"
#include "chart/uchart.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bit numbers of uchart_point.rules: stored, so never renumbered. */
enum rule {
    RULE_LIMITS = 0, /* beyond a control limit */

    RULE_WESTERN_ELECTRIC_1 = 1, /* 1 point beyond 3 sigma */
    RULE_WESTERN_ELECTRIC_2 = 2, /* 2 of 3 beyond 2 sigma on one side */
    RULE_WESTERN_ELECTRIC_3 = 3, /* 4 of 5 beyond 1 sigma on one side */
    RULE_WESTERN_ELECTRIC_4 = 4, /* 8 in a row on one side of the centre */

    RULE_NELSON_1 = 5,  /* 1 point beyond 3 sigma */
    RULE_NELSON_2 = 6,  /* 9 in a row on one side of the centre */
    RULE_NELSON_3 = 7,  /* 6 in a row steadily rising or falling */
    RULE_NELSON_4 = 8,  /* 14 in a row alternating up and down */
    RULE_NELSON_5 = 9,  /* 2 of 3 beyond 2 sigma on one side */
    RULE_NELSON_6 = 10, /* 4 of 5 beyond 1 sigma on one side */
    RULE_NELSON_7 = 11, /* 15 in a row within 1 sigma */
    RULE_NELSON_8 = 12, /* 8 in a row, none within 1 sigma, on both sides */

    RULE_EWMA = 13,  /* exponentially weighted moving average beyond its limit */
    RULE_CUSUM = 14, /* tabular cumulative sum beyond its decision interval */

    RULE_COUNT = 15
};

enum {
    RULES_RUN_MEMORY = 15,   /* points the longest run rule reads, the judged one included */
    RULES_Z_MAX = 1000000000 /* |z| is cut here, so that sigma 0 leaves finite sums */
};

/* What a chart says about its rules. */
struct rules_spec {
    uint32_t enabled; /* bit (1 << enum rule) */
    enum severity severity[RULE_COUNT];

    double ewma_lambda; /* weight of the newest point, over 0 to 1 */
    double ewma_limit;  /* in deviations of the average */
    bool ewma_steady;   /* limits of an average that has run for ever, instead of the exact ones */
    bool ewma_restart;  /* begins anew after an alarmed point */

    double cusum_k; /* slack, in sigma */
    double cusum_h; /* decision interval, in sigma */
    bool cusum_restart;
};

/* Only RULE_LIMITS, and the parameters' defaults: lambda 0.2, limit 3, exact, k 0.5, h 5, both restarting. */
void rules_spec_default(struct rules_spec *spec);

/* True when a rule is enabled that reads earlier points. */
bool rules_need_history(const struct rules_spec *spec);

/* z of a value under limits, cut to RULES_Z_MAX; 0 for value == centre even when sigma is 0. */
double rules_z(double value, double centre, double sigma);

/* The rules fired by the last of `count` >= 1 points. z[count-1] belongs to `value`; `restart` is the index
 * in z after the newest alarmed point (0 when there is none). Bits of rules that are not enabled stay 0. */
uint32_t rules_fired(const struct rules_spec *spec, const struct limits *limits, double value,
                     const double *z, size_t count, size_t restart);

/* The run rules alone (Western Electric, Nelson), all of them, for the last point of z. */
uint32_t rules_run(const double *z, size_t count);

/* One step of an exponentially weighted average (start: the centre). */
double ewma_next(double average, double value, double lambda);

/* How far the average may be from the centre after its `step`-th point (1, 2, ...), in units of sigma:
 * limit * sqrt(lambda / (2 - lambda) * (1 - (1 - lambda)^(2 step))), without the last factor when `steady`.
 */
double ewma_limit(double lambda, double limit, size_t step, bool steady);

/* One step of the tabular CUSUM (start: both 0): high = max(0, high + z - k), low = max(0, low - z - k). */
struct cusum {
    double high, low;
};
void cusum_next(struct cusum *cusum, double z, double k);

/* "limits", "western_electric_1", ..., "cusum"; NULL outside the enum. */
const char *rule_name(enum rule rule);

/* One line for a reader: "2 of 3 points beyond 2 sigma on one side". */
const char *rule_description(enum rule rule);

#endif
