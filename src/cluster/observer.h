/* What a defender sees of the load of its chambers: how many points an hour each one brings, and when that
 * has changed so much that the roster is to be told.
 *
 * A chamber is registered with the points of one run; how often it runs, nobody knows beforehand. The owner
 * does, after a while. The load is a sum of points that fades with the time constant `memory_ms`:
 *
 *     sum(t) = sum of points(i) * exp(-(t - t(i)) / memory)
 *     rate   = (sum after the newest context - half of it) / (memory * (1 - exp(-age / memory)))
 *
 * The first and the newest context count half, as at the ends of the trapezoidal rule: then chambers that run
 * evenly show an even rate, however few runs fit into the memory. A chamber that has fallen silent shows the
 * smaller rate that the silence allows.
 *
 * Told is a rate that is known well (OBSERVER_CONTEXTS_MIN contexts and half the memory, or twice the memory
 * whatever came), at once when the roster has none, and otherwise when it has been away from what was told
 * by more than `change` for a quarter of the memory.
 *
 * Pure: the time is the caller's, monotonic, in milliseconds. One thread. */
#ifndef CHAMBERLAIN_CLUSTER_OBSERVER_H
#define CHAMBERLAIN_CLUSTER_OBSERVER_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { OBSERVER_CONTEXTS_MIN = 5, OBSERVER_MEMORY_MS = 2 * 3600 * 1000 };

#define OBSERVER_CHANGE 0.25

struct observer;

/* memory_ms 0: OBSERVER_MEMORY_MS. NULL: no memory. */
struct observer *observer_new(int64_t memory_ms, double change);
void observer_free(struct observer *observer);

/* A context of `points` points was judged now. The first one of a chamber begins its observation; without
 * memory for that it is not observed. */
void observer_note(struct observer *observer, const char *chamber, int64_t points, int64_t now_ms);

/* The chamber is another's from now on. */
void observer_forget(struct observer *observer, const char *chamber);

/* Forgets all for which `owned` is false. */
void observer_keep(struct observer *observer, bool (*owned)(void *arg, const char *chamber), void *arg);

/* Points an hour of a chamber; negative: not known well. */
double observer_rate(const struct observer *observer, const char *chamber, int64_t now_ms);

/* The next chamber whose rate is to be told, and the rate; NULL for none. It is under way until
 * observer_told. The text is the observer's. */
const char *observer_next(struct observer *observer, int64_t now_ms, double *rate);

/* What the roster says now: `rate`, of this process or an earlier owner; negative: it could not be told, and
 * is due again after a quarter of the memory. */
void observer_told(struct observer *observer, const char *chamber, double rate, int64_t now_ms);

/* Whether `rate` is further from `told` than `change`. */
bool observer_differs(const struct observer *observer, double told, double rate);

#endif
