/* A stored T-chart with every sensor it has, by name. */
#ifndef CHAMBERLAIN_VIEW_TRACE_READER_H
#define CHAMBERLAIN_VIEW_TRACE_READER_H

#include "chart/trace.h"
#include "store/store.h"

/* Every sensor of a T-chart's chunks, decoded. `(*names)[i]` is the name of trace->columns[i]; all in
 * `arena`. Metrics without a name are left out: no equation could read them; *unnamed counts them. `times` of
 * the context are the caller's to set. ERR_CORRUPT, ERR_LIMIT, ERR_UNSUPPORTED: the blobs; ERR_NO_MEMORY. */
int trace_read(const struct store_chunk *chunks, size_t chunk_count, struct arena *arena, struct trace *trace,
               const char *const **names, size_t *unnamed, struct error *err);

/* As trace_read for the sensors of `names` alone (any order; of several with one name one). Those that the
 * trace lacks are left out; columns are ascending by sensor. */
int trace_read_sensors(const struct store_chunk *chunks, size_t chunk_count, const char *const *names,
                       size_t count, struct arena *arena, struct trace *trace, struct error *err);

/* Only the names, ascending by sensor; cheaper: no column is decoded. */
int trace_read_names(const struct store_chunk *chunks, size_t chunk_count, struct arena *arena,
                     const char *const **names, size_t *count, struct error *err);

#endif
