#include "collector/pack.h"

#include <assert.h>

/* The first sample at or after `time_us`, not before `from`. */
static size_t find_cut(const struct tchart_column *column, size_t from, int64_t time_us)
{
    size_t low = from;
    size_t high = column->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (column->time_us[middle] < time_us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The column with the most samples: its times say where to cut. */
static const struct tchart_column *longest_column(const struct tchart_column *columns, size_t count)
{
    const struct tchart_column *longest = &columns[0];
    for (size_t i = 1; i < count; i++)
        longest = columns[i].count > longest->count ? &columns[i] : longest;
    return longest;
}

/* The earliest time from `from[i]` on, of the columns that have samples before `to[i]`. False when none has.
 */
static bool stretch_start(const struct tchart_column *columns, size_t count, const size_t *from,
                          const size_t *to, int64_t *start_us)
{
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        if (from[i] == to[i])
            continue;
        int64_t time_us = columns[i].time_us[from[i]];
        *start_us = !any || time_us < *start_us ? time_us : *start_us;
        any = true;
    }
    return any;
}

static int pack_stretch(const struct tchart_column *columns, size_t count, const size_t *from,
                        const size_t *to, struct arena *arena, struct tchart_blobs *out, struct error *err)
{
    struct mebo_options options = mebo_options_tchart();
    struct mebo_encoder encoder;
    int64_t start_us = 0;
    int code = 0;
    if (!stretch_start(columns, count, from, to, &start_us))
        return 0; /* samples of one time are never cut apart, so a stretch can be empty */
    mebo_encoder_init(&encoder, &options, start_us, arena);
    for (size_t i = 0; i < count && code == 0; i++) {
        if (from[i] == to[i])
            continue;
        struct mebo_series series = {.name = columns[i].name,
                                     .count = (uint32_t)(to[i] - from[i]),
                                     .times_us = columns[i].time_us + from[i],
                                     .values = columns[i].value + from[i]};
        code = mebo_encoder_add(&encoder, &series, err);
    }
    if (code == 0)
        code = mebo_encoder_finish(&encoder, &out->blobs[out->count], err);
    if (code != 0)
        return error_prefix(err, code, "chunk %zu of the T-chart", out->count);
    out->bytes += out->blobs[out->count++].length;
    return 0;
}

int tchart_pack(const struct tchart_column *columns, size_t count, size_t chunk_points, struct arena *arena,
                struct tchart_blobs *out, struct error *err)
{
    assert(arena != NULL && out != NULL);
    *out = (struct tchart_blobs){.count = 0};
    size_t points = 0;
    for (size_t i = 0; i < count; i++)
        points += columns[i].count;
    if (points == 0)
        return error_set(err, ERR_INVALID, "a T-chart needs at least one sample");
    if (chunk_points == 0)
        chunk_points = TCHART_CHUNK_POINTS;
    const struct tchart_column *longest = longest_column(columns, count);
    size_t chunks = points / chunk_points + (points % chunk_points != 0);
    if (chunks > longest->count)
        chunks = longest->count;
    size_t *from = arena_calloc(arena, count, sizeof(*from));
    size_t *to = arena_calloc(arena, count, sizeof(*to));
    out->blobs = arena_calloc(arena, chunks, sizeof(*out->blobs));
    if (from == NULL || to == NULL || out->blobs == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a T-chart of %zu chunks", chunks);
    for (size_t k = 1; k <= chunks; k++) {
        size_t share = longest->count / chunks * k + longest->count % chunks * k / chunks;
        for (size_t i = 0; i < count; i++)
            to[i] = k == chunks ? columns[i].count : find_cut(&columns[i], from[i], longest->time_us[share]);
        int code = pack_stretch(columns, count, from, to, arena, out, err);
        if (code != 0)
            return code;
        for (size_t i = 0; i < count; i++)
            from[i] = to[i];
    }
    return 0;
}

int tchart_pack_import(const struct import_context *context, struct arena *arena, struct tchart_blobs *out,
                       struct error *err)
{
    struct tchart_column *columns = arena_calloc(arena, context->column_count, sizeof(*columns));
    if (columns == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a T-chart of %zu sensors", context->column_count);
    for (size_t i = 0; i < context->column_count; i++)
        columns[i] = (struct tchart_column){.name = context->columns[i].name,
                                            .count = context->sample_count,
                                            .time_us = context->time_us,
                                            .value = context->columns[i].value};
    int code = tchart_pack(columns, context->column_count, 0, arena, out, err);
    return code == 0 ? 0
                     : error_prefix(err, code, "%s:%zu: context %s", context->file, context->line,
                                    context->context.id);
}
