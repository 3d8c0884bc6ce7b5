/* The U-chart history cache of one defender: the `points` form of the newest contexts of each (tool, chamber,
 * recipe), in an in-memory SQLite database, under a byte budget; whole histories that were not used for
 * longest go first. Not thread-safe: it belongs to the defender's loop thread. */
#ifndef CHAMBERLAIN_STORE_CACHE_H
#define CHAMBERLAIN_STORE_CACHE_H

#include "store/store.h"

struct cache;

enum { CACHE_DEFAULT_BUDGET_BYTES = 100 * 1000 * 1000 };

struct cache_statistics {
    int64_t hits;
    int64_t misses;
    int64_t evictions; /* histories dropped to stay within the budget */
    int64_t rows;
    int64_t bytes; /* of memory for them, as estimated: keys and half-full pages included */
};

/* ERR_NO_MEMORY, ERR_IO. budget_bytes 0: the default. */
int cache_open(size_t budget_bytes, struct cache **cache, struct error *err);
void cache_close(struct cache *cache);

/* The rows a store would give for `query` (earlier, without verdicts), if the cache can vouch for it that
 * they are all: 0 and rows in `arena` (a hit, newest first), or ERR_NOT_FOUND (a miss: ask the store, then
 * cache_fill). */
int cache_lookup(struct cache *cache, const struct store_history_query *query, struct arena *arena,
                 struct store_uchart **rows, size_t *count, struct error *err);

/* Takes the store's reply to `query` (earlier, newest first). The cache can vouch for that key's history from
 * the oldest row given, or from the beginning of time when fewer than query->limit came, up to the start of
 * the query; and, when `newest` (reply->newest, or query->end_us is INT64_MAX), for everything after it too,
 * because whatever is judged from now on comes by cache_put. Without it a later look-up would miss rows that
 * the store had beyond the start: the verdict would differ from its recomputation. What was held of the key
 * already is kept where the two stretches meet. */
int cache_fill(struct cache *cache, const struct store_history_query *query, const struct store_uchart *rows,
               size_t count, bool newest, struct error *err);

/* Adds or replaces one context's points after the store has taken them. Ignored when the key is not cached.
 */
int cache_put(struct cache *cache, const struct store_uchart *uchart, struct error *err);

/* Forgets one key's history (all of a chamber's recipes when recipe is NULL). */
void cache_forget(struct cache *cache, const char *tool, const char *chamber, const char *recipe);

void cache_read_statistics(const struct cache *cache, struct cache_statistics *statistics);

#endif
