/* What is known to be stored of a context that is not complete yet: one small JSON document in the bucket
 * `collecting`, so that any collector can go on where another stopped.
 *
 * Chunks are numbered 0, 1, 2, ... and each covers the batches [from, to). The document names the newest one
 * that was begun, and is written BEFORE that chunk is, by compare-and-set:
 *
 *     {"context_id", "chunk": k, "from": a, "to": b, "points", "lost", "disordered", "lost_here": [..],
 *      "last": [[sensors, time], ...]}
 *
 *     chunks 0 .. k-1    are in the store, and batches below `from` are done with
 *     chunk k            may be in the store or not. None of its batches was acknowledged yet, so all of them
 *                        come again, and it is written again from the same batches: the same bytes.
 *                        from = to: it was not begun
 *
 * `points`, `lost`, `disordered` and `last` (each sensor's latest sample, in runs of equal ones) are as they
 * were before chunk k; `lost_here` are the batches of [a, b) that were given up. Pure. */
#ifndef CHAMBERLAIN_COLLECTOR_PROGRESS_H
#define CHAMBERLAIN_COLLECTOR_PROGRESS_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"

#include <stddef.h>
#include <stdint.h>

struct progress_note {
    const char *context_id;
    uint32_t chunk;
    uint32_t from, to;
    uint64_t points;
    uint64_t lost;       /* batches below `from` that were given up */
    uint64_t disordered; /* samples below `from` that were left out */
    const uint32_t *lost_here;
    size_t lost_here_count;
    const int64_t *last_us; /* by sensor; INT64_MIN: none */
    size_t sensor_count;
};

void progress_note_format(const struct progress_note *note, struct strbuf *json);

/* ERR_CORRUPT: it is none, or not for `sensor_count` sensors. ERR_NO_MEMORY. */
int progress_note_parse(const char *json, size_t length, size_t sensor_count, struct arena *arena,
                        struct progress_note *note, struct error *err);

#endif
