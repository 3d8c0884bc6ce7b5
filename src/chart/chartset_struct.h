/* Inside of a chart set: for chartset.c, which makes it, and plan.c, which keeps its plans in it. */
#ifndef CHAMBERLAIN_CHART_CHARTSET_STRUCT_H
#define CHAMBERLAIN_CHART_CHARTSET_STRUCT_H

#include "chart/chartset.h"

struct plan_cache; /* plan.c */

struct chart_set {
    struct arena arena; /* holds the charts, their equations and texts */
    const char *text;
    size_t length;
    uint64_t id;
    struct chart *charts;
    size_t count;
    size_t *slots; /* charts by name: open addressing, index + 1, 0 empty */
    size_t slot_count;
    size_t lookback;
    const char **learned; /* ids of contexts */
    size_t learned_count;
    struct plan_cache *plans;
};

int plan_cache_new(struct plan_cache **cache, struct error *err);
void plan_cache_free(struct plan_cache *cache);

#endif
