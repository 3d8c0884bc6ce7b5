/* The chart files in the store, parsed once each: the one in force, and those that judged earlier. */
#ifndef CHAMBERLAIN_VIEW_STORED_CHARTS_H
#define CHAMBERLAIN_VIEW_STORED_CHARTS_H

#include "chart/chartset.h"
#include "store/store.h"

#include <pthread.h>

struct stored_charts_entry {
    struct stored_charts_entry *next;
    uint64_t id;
    struct chart_set *set; /* NULL: it could not be loaded, `error` says why */
    struct error error;
};

/* May be used from several threads at once. Sets live until stored_charts_free. */
struct stored_charts {
    struct store *store;
    pthread_mutex_t lock; /* guards entries */
    struct stored_charts_entry *entries;
};

void stored_charts_init(struct stored_charts *charts, struct store *store);
void stored_charts_free(struct stored_charts *charts);

/* The set of that id; NULL for id 0, which means that no chart file was in force. Blocks while it is loaded.
 * ERR_NOT_FOUND: the store has none of that id; ERR_INVALID: it no longer parses; the store's errors. */
int stored_charts_get(struct stored_charts *charts, uint64_t id, struct chart_set **set, struct error *err);

/* The set in force. ERR_NOT_FOUND says how to bring one in force. */
int stored_charts_current(struct stored_charts *charts, struct chart_set **set, struct error *err);

#endif
