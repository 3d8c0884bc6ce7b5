/* One stored U-chart compared with its recomputation, bit by bit. */
#ifndef CHAMBERLAIN_CLI_VERIFY_CONTEXT_H
#define CHAMBERLAIN_CLI_VERIFY_CONTEXT_H

#include "view/stored_charts.h"
#include "store/store.h"

#include <stddef.h>

enum { VERIFY_DIFFERENCES_MAX = 200 }; /* kept of one context */

enum verify_outcome {
    VERIFY_EQUAL,
    VERIFY_DEGRADED, /* equal, but marked as judged with a standby store's history */
    VERIFY_DIFFERENT,
    VERIFY_UNJUDGED, /* it has no U-chart */
    VERIFY_EXPIRED   /* the T-chart is gone: nothing to recompute from */
};

struct verify_difference {
    const char *chart; /* "" when it is not about one chart */
    const char *field; /* what differs, "centre"; or what is the matter */
    const char *stored, *recomputed;
};

/* What one thread works with. */
struct verifier {
    struct store *store;
    struct stored_charts *charts; /* shared by the threads */
    struct store_wait *wait;
    struct arena arena; /* of the context at hand: its differences live here until the next */
    struct verify_difference *differences;
    size_t difference_count; /* VERIFY_DIFFERENCES_MAX at most */
};

/* ERR_NO_MEMORY. */
int verifier_init(struct verifier *verifier, struct store *store, struct stored_charts *charts,
                  struct error *err);
void verifier_free(struct verifier *verifier);

/* Recomputes one context's U-chart with the chart file that judged it and compares. Damage is a difference
 * like any other. Fails only for the store's transient errors and ERR_NO_MEMORY. */
int verify_context(struct verifier *verifier, const struct store_key *key, enum verify_outcome *outcome,
                   struct error *err);

#endif
