#include "collector/piece.h"

#include <stdlib.h>
#include <string.h>

/* Sensors of one class have had the same times so far, so that they share one array of them. */
struct classes {
    uint32_t *of_sensor;
    uint32_t count;
};

/* Which samples of each group are kept depends on where each class stood before: classes begin by that. */
static void classify_by_last(struct classes *classes, const int64_t *last_us, size_t sensors, int64_t *seen)
{
    classes->count = 0;
    for (size_t s = 0; s < sensors; s++) {
        uint32_t c = classes->count; /* most often the newest class, so it is looked at first */
        while (c > 0 && seen[c - 1] != last_us[s])
            c--;
        if (c == 0) {
            seen[classes->count++] = last_us[s];
            c = classes->count;
        }
        classes->of_sensor[s] = c - 1;
    }
}

/* The sensors of `group` leave the others of their classes. `renamed` and `stamp` have room for every class.
 */
static void refine(struct classes *classes, const struct batch_group *group, uint32_t *renamed,
                   uint64_t *stamp, uint64_t now)
{
    for (size_t c = 0; c < group->column_count; c++) {
        uint32_t *of = &classes->of_sensor[group->columns[c].sensor];
        if (stamp[*of] != now) {
            stamp[*of] = now;
            renamed[*of] = classes->count++;
        }
        *of = renamed[*of];
    }
}

static size_t count_columns(const struct batch_data *const *batches, size_t count)
{
    size_t columns = 0;
    for (size_t b = 0; b < count; b++)
        for (size_t g = 0; g < batches[b]->group_count; g++)
            columns += batches[b]->groups[g].column_count;
    return columns;
}

struct builder {
    const struct batch_sensors *sensors;
    const struct batch_data *const *batches;
    size_t batch_count;
    int64_t *last_us;
    struct classes classes;
    int64_t **times; /* by class; NULL: no sensor of it was built yet */
    size_t *counts;  /* by sensor: samples before any is left out */
};

static int find_classes(struct builder *builder, struct arena *arena)
{
    size_t sensors = builder->sensors->count;
    size_t most = sensors + count_columns(builder->batches, builder->batch_count) + 1;
    builder->classes.of_sensor = arena_calloc(arena, sensors, sizeof(uint32_t));
    builder->times = arena_calloc(arena, most, sizeof *builder->times);
    builder->counts = arena_calloc(arena, sensors, sizeof *builder->counts);
    int64_t *seen = arena_alloc(arena, sensors * sizeof *seen);
    uint32_t *renamed = arena_alloc(arena, most * sizeof *renamed);
    uint64_t *stamp = arena_calloc(arena, most, sizeof *stamp), now = 0;
    if (builder->classes.of_sensor == NULL || builder->times == NULL || builder->counts == NULL ||
        seen == NULL || renamed == NULL || stamp == NULL)
        return ERR_NO_MEMORY;
    classify_by_last(&builder->classes, builder->last_us, sensors, seen);
    for (size_t b = 0; b < builder->batch_count; b++) {
        for (size_t g = 0; g < builder->batches[b]->group_count; g++) {
            const struct batch_group *group = &builder->batches[b]->groups[g];
            refine(&builder->classes, group, renamed, stamp, ++now);
            for (size_t c = 0; c < group->column_count; c++)
                builder->counts[group->columns[c].sensor] += group->sample_count;
        }
    }
    return 0;
}

/* The first sample of a group that is kept; all after it are, because a group's times never descend. */
static size_t first_kept(const struct batch_group *group, int64_t last_us)
{
    size_t i = 0;
    while (i < group->sample_count && group->time_us[i] < last_us)
        i++;
    return i;
}

static int start_column(struct builder *builder, size_t sensor, struct piece *piece,
                        struct tchart_column **columns)
{
    size_t samples = builder->counts[sensor];
    struct tchart_column *column = &piece->columns[piece->column_count++];
    columns[sensor] = column;
    column->name = arena_strdup(&piece->arena, builder->sensors->names[sensor]);
    column->value = arena_alloc(&piece->arena, samples * sizeof(double));
    int64_t **times = &builder->times[builder->classes.of_sensor[sensor]];
    if (*times == NULL)
        *times = arena_alloc(&piece->arena, samples * sizeof(int64_t));
    column->time_us = *times;
    return column->name && column->value && *times ? 0 : ERR_NO_MEMORY;
}

/* The times of a class are written again by each of its sensors, always the same. */
static void add_group(struct builder *builder, const struct batch_group *group, struct piece *piece,
                      struct tchart_column **columns)
{
    for (size_t c = 0; c < group->column_count; c++) {
        uint32_t sensor = group->columns[c].sensor;
        struct tchart_column *column = columns[sensor];
        size_t from = first_kept(group, builder->last_us[sensor]), kept = group->sample_count - from;
        double *values = (double *)(uintptr_t)column->value;
        piece->disordered += from;
        if (kept == 0)
            continue;
        memcpy(values + column->count, group->columns[c].value + from, kept * sizeof *values);
        memcpy(builder->times[builder->classes.of_sensor[sensor]] + column->count, group->time_us + from,
               kept * sizeof(int64_t));
        column->count += kept;
        piece->points += kept;
        builder->last_us[sensor] = group->time_us[group->sample_count - 1];
        if (builder->last_us[sensor] > piece->last_us)
            piece->last_us = builder->last_us[sensor];
    }
}

static int build(struct builder *builder, struct piece *piece, struct arena *scratch)
{
    size_t sensors = builder->sensors->count;
    struct tchart_column **columns = arena_calloc(scratch, sensors, sizeof *columns);
    piece->columns = arena_calloc(&piece->arena, sensors, sizeof *piece->columns);
    if (columns == NULL || piece->columns == NULL || find_classes(builder, scratch))
        return ERR_NO_MEMORY;
    for (size_t s = 0; s < sensors; s++)
        if (builder->counts[s] > 0 && start_column(builder, s, piece, columns))
            return ERR_NO_MEMORY;
    for (size_t b = 0; b < builder->batch_count; b++)
        for (size_t g = 0; g < builder->batches[b]->group_count; g++)
            add_group(builder, &builder->batches[b]->groups[g], piece, columns);
    size_t used = 0;
    for (size_t i = 0; i < piece->column_count; i++)
        if (piece->columns[i].count > 0)
            piece->columns[used++] = piece->columns[i];
    piece->column_count = used;
    return 0;
}

int piece_make(const struct batch_sensors *sensors, const struct batch_data *const *batches, size_t count,
               int64_t *last_us, struct piece **out, struct error *err)
{
    struct piece *piece = calloc(1, sizeof *piece);
    struct builder builder = {
        .sensors = sensors, .batches = batches, .batch_count = count, .last_us = last_us};
    struct arena scratch;
    int code = piece ? 0 : ERR_NO_MEMORY;
    arena_init(&scratch, 0);
    if (piece) {
        arena_init(&piece->arena, 0);
        piece->last_us = INT64_MIN;
        code = build(&builder, piece, &scratch);
    }
    arena_free(&scratch);
    if (code) {
        if (piece)
            piece_free(piece);
        return error_set(err, code, "no memory for a chunk of %zu batches", count);
    }
    *out = piece;
    return 0;
}

void piece_free(struct piece *piece)
{
    arena_free(&piece->arena);
    free(piece);
}
