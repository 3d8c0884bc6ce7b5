#include "collector/progress.h"

#include "collector/batch.h"

#include <inttypes.h>
#include <jansson.h>

void progress_note_format(const struct progress_note *note, struct strbuf *json)
{
    strbuf_add(json, "{\"context_id\":");
    strbuf_add_json(json, note->context_id);
    strbuf_printf(json,
                  ",\"chunk\":%u,\"from\":%u,\"to\":%u,\"points\":%" PRIu64 ",\"lost\":%" PRIu64
                  ",\"disordered\":%" PRIu64 ",\"lost_here\":[",
                  note->chunk, note->from, note->to, note->points, note->lost, note->disordered);
    for (size_t i = 0; i < note->lost_here_count; i++)
        strbuf_printf(json, "%s%u", i ? "," : "", note->lost_here[i]);
    strbuf_add(json, "],\"last\":[");
    for (size_t i = 0, run; i < note->sensor_count; i += run) {
        for (run = 1; i + run < note->sensor_count && note->last_us[i + run] == note->last_us[i];)
            run++;
        strbuf_printf(json, "%s[%zu,", i ? "," : "", run);
        if (note->last_us[i] == INT64_MIN)
            strbuf_add(json, "null]");
        else
            strbuf_printf(json, "%" PRId64 "]", note->last_us[i]);
    }
    strbuf_add(json, "]}");
}

static int corrupt(struct error *err, const char *what)
{
    return error_set(err, ERR_CORRUPT, "progress of a context: %s", what);
}

static int read_last(const json_t *runs, int64_t *last_us, size_t sensor_count, struct error *err)
{
    size_t sensor = 0;
    for (size_t i = 0; i < json_array_size(runs); i++) {
        const json_t *run = json_array_get(runs, i), *time = json_array_get(run, 1);
        json_int_t length = json_integer_value(json_array_get(run, 0));
        if (length < 1 || (size_t)length > sensor_count - sensor ||
            (!json_is_integer(time) && !json_is_null(time)))
            return corrupt(err, "`last` does not fit the start's sensors");
        for (; length > 0; length--)
            last_us[sensor++] = json_is_null(time) ? INT64_MIN : json_integer_value(time);
    }
    return sensor == sensor_count ? 0 : corrupt(err, "`last` does not fit the start's sensors");
}

static int read_lost(const json_t *list, struct progress_note *note, struct arena *arena, struct error *err)
{
    size_t count = json_array_size(list);
    uint32_t *lost = arena_calloc(arena, count + 1, sizeof *lost);
    if (lost == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the progress of a context");
    for (size_t i = 0; i < count; i++) {
        json_int_t sequence = json_integer_value(json_array_get(list, i));
        if (sequence < note->from || sequence >= note->to)
            return corrupt(err, "`lost_here` lies outside the chunk");
        lost[i] = (uint32_t)sequence;
    }
    note->lost_here = lost;
    note->lost_here_count = count;
    return 0;
}

static int read_note(const json_t *root, size_t sensor_count, struct arena *arena, struct progress_note *note,
                     struct error *err)
{
    static const char *const keys[] = {"chunk", "from", "to", "points", "lost", "disordered"};
    json_int_t numbers[6];
    for (size_t i = 0; i < 6; i++) {
        const json_t *value = json_object_get(root, keys[i]);
        numbers[i] = json_integer_value(value);
        if (!json_is_integer(value) || numbers[i] < 0 || (i < 3 && numbers[i] > BATCH_SEQUENCE_MAX + 1))
            return corrupt(err, "a number is missing or out of range");
    }
    if (numbers[1] > numbers[2])
        return corrupt(err, "a chunk that ends before it begins");
    int64_t *last_us = arena_alloc(arena, sensor_count * sizeof *last_us);
    const char *id = json_string_value(json_object_get(root, "context_id"));
    *note = (struct progress_note){.context_id = id ? arena_strdup(arena, id) : NULL,
                                   .chunk = (uint32_t)numbers[0],
                                   .from = (uint32_t)numbers[1],
                                   .to = (uint32_t)numbers[2],
                                   .points = (uint64_t)numbers[3],
                                   .lost = (uint64_t)numbers[4],
                                   .disordered = (uint64_t)numbers[5],
                                   .last_us = last_us,
                                   .sensor_count = sensor_count};
    if (id == NULL)
        return corrupt(err, "no context_id");
    if (note->context_id == NULL || last_us == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the progress of a context");
    int code = read_lost(json_object_get(root, "lost_here"), note, arena, err);
    return code ? code : read_last(json_object_get(root, "last"), last_us, sensor_count, err);
}

int progress_note_parse(const char *json, size_t length, size_t sensor_count, struct arena *arena,
                        struct progress_note *note, struct error *err)
{
    json_t *root = json_loadb(json, length, 0, NULL);
    int code = root ? read_note(root, sensor_count, arena, note, err) : corrupt(err, "not JSON");
    json_decref(root);
    return code;
}
