/* Samples into T-chart blobs: what the collector stores (Mebo, the T-chart preset of mebo.h). */
#ifndef CHAMBERLAIN_COLLECTOR_PACK_H
#define CHAMBERLAIN_COLLECTOR_PACK_H

#include "base/arena.h"
#include "base/error.h"
#include "collector/report.h"
#include "mebo/mebo.h"

#include <stddef.h>
#include <stdint.h>

/* Points of one blob: 1 MiB of values before they are packed. A typical context (100 sensors x 1,200 samples)
 * is one blob. */
enum { TCHART_CHUNK_POINTS = 131072 };

/* One sensor's samples; columns may have different times. */
struct tchart_column {
    const char *name;       /* its xxHash64 is the metric's id */
    size_t count;           /* 0: the column is left out */
    const int64_t *time_us; /* never descending; sensors that were sampled together best share one array */
    const double *value;
};

struct tchart_blobs {
    struct mebo_bytes *blobs; /* in the arena, in the order of time: chunk 0, 1, 2, ... */
    size_t count;
    size_t bytes; /* of all */
};

/* Packs columns into as few blobs of about `chunk_points` points (0: TCHART_CHUNK_POINTS) as they fill, cut
 * at the same moment in every column. A blob holds at least one sample of every column in its stretch, so
 * more columns than chunk_points make larger blobs. ERR_INVALID: no samples at all, or two columns of one
 * name; ERR_LIMIT: more columns than a blob can have; ERR_NO_MEMORY. */
int tchart_pack(const struct tchart_column *columns, size_t count, size_t chunk_points, struct arena *arena,
                struct tchart_blobs *out, struct error *err);

/* tchart_pack of an imported context. */
int tchart_pack_import(const struct import_context *context, struct arena *arena, struct tchart_blobs *out,
                       struct error *err);

#endif
