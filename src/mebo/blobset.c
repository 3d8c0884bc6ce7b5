/* Several blobs as one trace: ordered by start time, each needed metric decoded into one contiguous column.
 */
#include "mebo/mebo.h"

#include <string.h>

#define ABSENT UINT32_MAX

/* Few blobs, mostly in order already: insertion keeps equal start times in the order given. */
static void order_by_start(struct mebo_blob *blobs, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct mebo_blob moving = blobs[i];
        size_t at = i;
        while (at > 0 && blobs[at - 1].header.start_time_us > moving.header.start_time_us) {
            blobs[at] = blobs[at - 1];
            at--;
        }
        blobs[at] = moving;
    }
}

int mebo_set_open(struct mebo_set *set, const struct mebo_bytes *chunks, size_t count, struct arena *arena,
                  const struct mebo_limits *limits, struct error *err)
{
    struct mebo_limits left = limits ? *limits : mebo_limits_default();
    *set = (struct mebo_set){.count = count, .arena = arena};
    if (count == 0)
        return error_set(err, ERR_INVALID, "a set of no blobs");
    set->blobs = arena_calloc(arena, count, sizeof *set->blobs);
    if (set->blobs == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a set of %zu blobs", count);
    for (size_t i = 0; i < count; i++) {
        if (left.payload_bytes > left.set_bytes)
            left.payload_bytes = left.set_bytes;
        int rc = mebo_blob_open(&set->blobs[i], chunks[i].data, chunks[i].length, arena, &left, err);
        if (rc == 0 && set->blobs[i].decompressed_bytes > left.set_bytes)
            rc = error_set(err, ERR_LIMIT, "the set's blobs decompress to more than its limit");
        if (rc)
            return error_prefix(err, rc, "chunk %zu of %zu", i, count);
        left.set_bytes -= set->blobs[i].decompressed_bytes;
        left.points -= set->blobs[i].points;
        set->points += set->blobs[i].points;
    }
    order_by_start(set->blobs, count);
    return 0;
}

/* Where one metric stands in every blob, and which timestamps it has there. */
struct place {
    uint32_t metric; /* or ABSENT */
    uint32_t class;  /* see mebo_blob_times_class */
};

/* A timestamp column that was decoded for this call. */
struct times_group {
    const struct place *places;
    const int64_t *times_us;
    uint64_t hash; /* of the classes */
};

struct columns_job {
    struct mebo_set *set;
    struct times_group *groups;
    size_t group_count;
};

static size_t locate(struct mebo_set *set, uint64_t id, struct place *places, uint64_t *hash, bool *found)
{
    size_t points = 0;
    *found = false;
    *hash = 0;
    for (size_t b = 0; b < set->count; b++) {
        places[b] = (struct place){ABSENT, ABSENT};
        if (mebo_blob_find(&set->blobs[b], id, &places[b].metric) == 0) {
            places[b].class = mebo_blob_times_class(&set->blobs[b], places[b].metric);
            points += set->blobs[b].metrics[places[b].metric].count;
            *found = true;
        } else {
            places[b].metric = ABSENT;
        }
        *hash = (*hash ^ places[b].class) * UINT64_C(0x9E3779B97F4A7C15);
    }
    return points;
}

static bool same_classes(const struct place *a, const struct place *b, size_t count)
{
    size_t i = 0;
    while (i < count && a[i].class == b[i].class)
        i++;
    return i == count;
}

static int decode_values(const struct mebo_set *set, const struct place *places, double *values,
                         struct error *err)
{
    for (size_t b = 0; b < set->count; b++) {
        if (places[b].metric == ABSENT)
            continue;
        int rc = mebo_blob_values(&set->blobs[b], places[b].metric, values, err);
        if (rc)
            return error_prefix(err, rc, "blob %zu of %zu in time order", b, set->count);
        values += set->blobs[b].metrics[places[b].metric].count;
    }
    return 0;
}

static int decode_times(const struct mebo_set *set, const struct place *places, int64_t *times,
                        struct error *err)
{
    for (size_t b = 0; b < set->count; b++) {
        if (places[b].metric == ABSENT)
            continue;
        int rc = mebo_blob_read_timestamps(&set->blobs[b], places[b].class, times, err);
        if (rc)
            return error_prefix(err, rc, "blob %zu of %zu in time order", b, set->count);
        times += set->blobs[b].metrics[places[b].class].count;
    }
    return 0;
}

/* The column's timestamps, those of an earlier column where the classes are the same in every blob. */
static int find_times(struct columns_job *job, const struct place *places, uint64_t hash,
                      struct mebo_column *column, struct error *err)
{
    struct mebo_set *set = job->set;
    for (size_t g = 0; g < job->group_count; g++) {
        if (job->groups[g].hash == hash && same_classes(job->groups[g].places, places, set->count)) {
            column->times_us = job->groups[g].times_us;
            return 0;
        }
    }
    struct times_group *group = &job->groups[job->group_count];
    struct place *kept = arena_alloc(set->arena, set->count * sizeof *kept);
    int64_t *times = arena_alloc(set->arena, column->count * sizeof *times);
    if (kept == NULL || times == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu timestamps", column->count);
    int rc = decode_times(set, places, times, err);
    if (rc)
        return rc;
    memcpy(kept, places, set->count * sizeof *kept);
    *group = (struct times_group){.places = kept, .times_us = times, .hash = hash};
    job->group_count++;
    column->times_us = times;
    return 0;
}

int mebo_set_columns(struct mebo_set *set, const uint64_t *ids, size_t count, struct mebo_column *columns,
                     struct error *err)
{
    struct columns_job job = {.set = set, .groups = arena_calloc(set->arena, count, sizeof *job.groups)};
    struct place *places = arena_calloc(set->arena, set->count, sizeof *places);
    if (places == NULL || job.groups == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu columns", count);
    for (size_t i = 0; i < count; i++) {
        struct mebo_column *column = &columns[i];
        uint64_t hash;
        *column = (struct mebo_column){0};
        column->count = locate(set, ids[i], places, &hash, &column->found);
        if (!column->found)
            continue;
        double *values = arena_alloc(set->arena, column->count * sizeof *values);
        if (values == NULL)
            return error_set(err, ERR_NO_MEMORY, "no memory for %zu values", column->count);
        column->values = values;
        int rc = decode_values(set, places, values, err);
        if (rc == 0)
            rc = find_times(&job, places, hash, column, err);
        if (rc)
            return rc;
    }
    return 0;
}
