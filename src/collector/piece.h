/* A piece of a context's trace: the batches of one chunk, sensor by sensor. Pure. */
#ifndef CHAMBERLAIN_COLLECTOR_PIECE_H
#define CHAMBERLAIN_COLLECTOR_PIECE_H

#include "collector/batch.h"
#include "collector/pack.h"

struct piece {
    struct arena arena; /* holds everything below, names too */
    struct tchart_column *columns;
    size_t column_count; /* sensors that have samples */
    size_t points;
    size_t disordered; /* samples left out because their time lies before one of an earlier batch */
    int64_t last_us;   /* the latest sample; INT64_MIN when there is none */
};

/* Puts batches, in the order of their numbers, one after the other. last_us[sensors->count] is the time of
 * each sensor's latest sample in the batches before (INT64_MIN: none) and is brought up to date: a sample
 * that is earlier is left out, so that times never descend however the trace is cut. Copies everything. The
 * piece is the caller's: piece_free. ERR_NO_MEMORY. */
int piece_make(const struct batch_sensors *sensors, const struct batch_data *const *batches, size_t count,
               int64_t *last_us, struct piece **piece, struct error *err);

void piece_free(struct piece *piece);

#endif
