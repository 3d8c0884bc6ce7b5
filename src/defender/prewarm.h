/* Warms the history cache for chambers that this defender takes over, in bulk, before their messages come;
 * and afterwards makes sure that nothing was stored meanwhile that the cache does not have. Loop thread. */
#ifndef CHAMBERLAIN_DEFENDER_PREWARM_H
#define CHAMBERLAIN_DEFENDER_PREWARM_H

#include "base/mailbox.h"
#include "defender/chartsets.h"
#include "store/cache.h"
#include "store/store.h"

enum {
    PREWARM_CHAMBERS_A_CALL = 32,
    PREWARM_PATIENCE_MS =
        2000 /* taking over does not wait longer than this: a cold cache is slow, not wrong */
};

struct prewarm;

struct prewarm_chamber {
    const char *tool;
    const char *chamber;
};

/* ERR_NO_MEMORY. */
int prewarm_open(uv_loop_t *loop, struct mailbox *mailbox, struct store *store, struct cache *cache,
                 struct chartsets *chartsets, struct prewarm **prewarm, struct error *err);
void prewarm_close(struct prewarm *prewarm);

/* Reads the histories of these chambers (copied) into the cache. `done` runs once, after PREWARM_PATIENCE_MS
 * at the latest; a later call replaces one that is under way, whose `done` then does not run. */
void prewarm_begin(struct prewarm *prewarm, const struct prewarm_chamber *chambers, size_t count,
                   void (*done)(void *arg), void *arg);

/* The chambers are owned now, and every context of theirs that anyone has acknowledged is in the store:
 * histories in the cache that do not end where the store's end are forgotten. `done` as above. */
void prewarm_confirm(struct prewarm *prewarm, const struct prewarm_chamber *chambers, size_t count,
                     void (*done)(void *arg), void *arg);

#endif
