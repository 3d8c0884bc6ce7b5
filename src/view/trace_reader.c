#include "view/trace_reader.h"

#include "base/hash.h"
#include "mebo/mebo.h"

#include <stdlib.h>

struct sensor {
    uint64_t id;
    const char *name;
};

static int sensor_order(const void *a, const void *b)
{
    const struct sensor *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t keep_distinct(struct sensor *sensors, size_t count)
{
    size_t kept = 0;
    qsort(sensors, count, sizeof *sensors, sensor_order);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || sensors[kept - 1].id != sensors[i].id)
            sensors[kept++] = sensors[i];
    return kept;
}

static int open_set(const struct store_chunk *chunks, size_t chunk_count, struct arena *arena,
                    struct mebo_set *set, struct error *err)
{
    struct mebo_bytes *blobs = arena_calloc(arena, chunk_count, sizeof *blobs);
    if (blobs == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu blobs", chunk_count);
    for (size_t i = 0; i < chunk_count; i++)
        blobs[i] = (struct mebo_bytes){chunks[i].bytes, chunks[i].length};
    return mebo_set_open(set, blobs, chunk_count, arena, NULL, err);
}

/* The named sensors of all blobs, ascending by id, each once. */
static int list_sensors(const struct mebo_set *set, struct arena *arena, struct sensor **out, size_t *count,
                        size_t *unnamed, struct error *err)
{
    size_t most = 0, used = 0;
    for (size_t i = 0; i < set->count; i++)
        most += set->blobs[i].header.metric_count;
    struct sensor *sensors = arena_calloc(arena, most, sizeof *sensors);
    if (sensors == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu sensors", most);
    *unnamed = 0;
    for (size_t i = 0; i < set->count; i++) {
        for (uint32_t k = 0; k < set->blobs[i].header.metric_count; k++) {
            const struct mebo_metric *metric = &set->blobs[i].metrics[k];
            if (metric->name)
                sensors[used++] = (struct sensor){metric->id, metric->name};
            else
                (*unnamed)++;
        }
    }
    *out = sensors;
    *count = keep_distinct(sensors, used);
    return 0;
}

static const char **copy_names(const struct sensor *sensors, size_t count, struct arena *arena)
{
    const char **names = arena_calloc(arena, count, sizeof *names);
    for (size_t i = 0; names && i < count; i++)
        names[i] = sensors[i].name;
    return names;
}

int trace_read_names(const struct store_chunk *chunks, size_t chunk_count, struct arena *arena,
                     const char *const **names, size_t *count, struct error *err)
{
    struct mebo_set set;
    struct sensor *sensors;
    size_t unnamed;
    int code = open_set(chunks, chunk_count, arena, &set, err);
    if (code == 0)
        code = list_sensors(&set, arena, &sensors, count, &unnamed, err);
    if (code)
        return code;
    *names = copy_names(sensors, *count, arena);
    return *names ? 0 : error_set(err, ERR_NO_MEMORY, "no memory for %zu names", *count);
}

static int decode_columns(struct mebo_set *set, const struct sensor *sensors, size_t count,
                          struct arena *arena, struct trace *trace, struct error *err)
{
    uint64_t *ids = arena_calloc(arena, count, sizeof *ids);
    struct mebo_column *found = arena_calloc(arena, count, sizeof *found);
    struct trace_column *columns = arena_calloc(arena, count, sizeof *columns);
    if (ids == NULL || found == NULL || columns == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu sensors", count);
    for (size_t i = 0; i < count; i++)
        ids[i] = sensors[i].id;
    int code = mebo_set_columns(set, ids, count, found, err);
    *trace = (struct trace){.columns = columns};
    for (size_t i = 0; code == 0 && i < count; i++)
        if (found[i].found)
            columns[trace->count++] = (struct trace_column){.sensor = sensors[i].id,
                                                            .count = found[i].count,
                                                            .time_us = found[i].times_us,
                                                            .value = found[i].values};
    return code;
}

int trace_read_sensors(const struct store_chunk *chunks, size_t chunk_count, const char *const *names,
                       size_t count, struct arena *arena, struct trace *trace, struct error *err)
{
    struct mebo_set set;
    struct sensor *sensors = arena_calloc(arena, count, sizeof *sensors);
    if (sensors == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu sensors", count);
    for (size_t i = 0; i < count; i++)
        sensors[i] = (struct sensor){hash64_text(names[i]), names[i]};
    size_t distinct = keep_distinct(sensors, count);
    int code = open_set(chunks, chunk_count, arena, &set, err);
    if (code == 0)
        code = decode_columns(&set, sensors, distinct, arena, trace, err);
    return code;
}

int trace_read(const struct store_chunk *chunks, size_t chunk_count, struct arena *arena, struct trace *trace,
               const char *const **names, size_t *unnamed, struct error *err)
{
    struct mebo_set set;
    struct sensor *sensors;
    size_t count;
    int code = open_set(chunks, chunk_count, arena, &set, err);
    if (code == 0)
        code = list_sensors(&set, arena, &sensors, &count, unnamed, err);
    if (code == 0)
        code = decode_columns(&set, sensors, count, arena, trace, err);
    if (code)
        return code;
    *names = copy_names(sensors, count, arena);
    return *names ? 0 : error_set(err, ERR_NO_MEMORY, "no memory for %zu names", count);
}
