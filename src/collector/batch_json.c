/* The JSON form of start, data and end. */
#include "base/clock.h"
#include "collector/batch_forms.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int out_of_memory(struct error *err)
{
    return error_set(err, ERR_NO_MEMORY, "no memory for a message of samples");
}

/* The message as an object; NULL and *code when it is none. */
static json_t *load_object(const void *bytes, size_t length, int *code, struct error *err)
{
    json_error_t error;
    *code = batch_size_check(length, err);
    if (*code)
        return NULL;
    json_t *root = json_loadb(bytes, length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        *code = json_error_code(&error) == json_error_out_of_memory
                    ? out_of_memory(err)
                    : error_set(err, ERR_INVALID, "not JSON at byte %d: %.200s", error.position, error.text);
    else if (!json_is_object(root))
        *code = error_set(err, ERR_INVALID, "not a JSON object");
    if (*code) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static int read_id(const json_t *root, struct arena *arena, const char **id, struct error *err)
{
    const char *text = json_string_value(json_object_get(root, "context_id"));
    if (text == NULL)
        return error_set(err, ERR_INVALID, "context_id must be a string that names the run");
    int code = batch_id_check(text, err);
    if (code)
        return code;
    *id = arena_strdup(arena, text);
    return *id ? 0 : out_of_memory(err);
}

/* Times are RFC 3339 text or microseconds since 1970. `at` says where, as in "times[3]". */
static int read_time(const json_t *value, const char *field, size_t i, int64_t *us, struct error *err)
{
    if (json_is_integer(value)) {
        *us = json_integer_value(value);
        return 0;
    }
    const char *text = json_string_value(value);
    if (text == NULL)
        return error_set(err, ERR_INVALID,
                         "%s (%zu) must be a time: whole microseconds since 1970 in UTC, or RFC 3339 text",
                         field, i);
    int code = clock_parse_rfc3339(text, us, err);
    return code ? error_prefix(err, code, "%s (%zu)", field, i) : 0;
}

/* --- start --- */

/* The body's own names of tool and chamber are optional, and then must be the subject's. */
static int settle_name(json_t *root, const char *field, const char *name, struct error *err)
{
    const json_t *value = json_object_get(root, field);
    if (value && (!json_is_string(value) || strcmp(json_string_value(value), name) != 0))
        return error_set(err, ERR_INVALID,
                         "%s is not '%.100s' as in the subject; leave it out, or say the same", field, name);
    return json_object_set_new(root, field, json_string(name)) ? out_of_memory(err) : 0;
}

static int read_sensors(const json_t *list, struct arena *arena, struct batch_sensors *sensors,
                        struct error *err)
{
    if (!json_is_array(list))
        return error_set(err, ERR_INVALID,
                         "sensors must be an array: the name of every sensor of this context");
    size_t count = json_array_size(list);
    if (count > BATCH_SENSORS_MAX)
        return error_set(err, ERR_LIMIT, "%zu sensors; a context may have %d", count, BATCH_SENSORS_MAX);
    const char **names = arena_calloc(arena, count + 1, sizeof *names);
    if (names == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL)
            return error_set(err, ERR_INVALID, "sensors[%zu] must be a string", i);
        if ((names[i] = arena_strdup(arena, name)) == NULL)
            return out_of_memory(err);
    }
    return batch_sensors_index(names, count, arena, sensors, err);
}

/* The rest of a start is what announcements say, so it is read as one. */
static int read_context(json_t *root, struct arena *arena, struct context *context, struct error *err)
{
    json_t *started = json_object_get(root, "started_at");
    int64_t start_us;
    char text[CLOCK_RFC3339_BYTES];
    int code = read_time(started, "started_at", 0, &start_us, err);
    if (code)
        return code;
    clock_format_rfc3339(start_us, text);
    if (json_object_set_new(root, "started_at", json_string(text)) ||
        json_object_set_new(root, "ended_at", json_string(text)))
        return out_of_memory(err);
    char *announcement = json_dumps(root, JSON_COMPACT);
    if (announcement == NULL)
        return out_of_memory(err);
    code = context_parse(announcement, strlen(announcement), arena, context, err);
    free(announcement);
    return code;
}

int batch_start_read(const void *bytes, size_t length, const char *tool, const char *chamber,
                     struct arena *arena, struct batch_start *start, struct error *err)
{
    int code;
    json_t *root = load_object(bytes, length, &code, err);
    if (root == NULL)
        return code;
    const char *id;
    code = read_id(root, arena, &id, err);
    if (code == 0)
        code = settle_name(root, "tool_id", tool, err);
    if (code == 0)
        code = settle_name(root, "chamber_id", chamber, err);
    if (code == 0)
        code = read_sensors(json_object_get(root, "sensors"), arena, &start->sensors, err);
    /* What the collector says itself. */
    static const char *const ours[] = {"sensors", "svid_count",      "point_count", "chunk_count",
                                       "quality", "quality_reasons", "batches",     "batches_lost"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        json_object_del(root, ours[i]);
    if (code == 0)
        code = read_context(root, arena, &start->context, err);
    if (code == 0)
        start->context.svid_count = (int64_t)start->sensors.count;
    json_decref(root);
    return code;
}

int batch_start_write(const struct batch_start *start, struct strbuf *out, struct error *err)
{
    int code = context_check(&start->context, err);
    if (code)
        return code;
    /* A start has no end yet: the announcement's fields are cut down to what it knows. */
    struct context context = start->context;
    char text[CLOCK_RFC3339_BYTES];
    const struct {
        const char *key, *value;
    } fields[] = {{"context_id", context.id},
                  {"tool_id", context.tool},
                  {"chamber_id", context.chamber},
                  {"recipe", context.recipe},
                  {"lot", context.lot},
                  {"wafer", context.wafer},
                  {"started_at", clock_format_rfc3339(context.start_us, text)}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        strbuf_add(out, i ? ",\"" : "{\"");
        strbuf_add(out, fields[i].key);
        strbuf_add(out, "\":");
        strbuf_add_json(out, fields[i].value ? fields[i].value : "");
    }
    strbuf_add(out, ",\"sensors\":[");
    for (size_t i = 0; i < start->sensors.count; i++) {
        strbuf_add(out, i ? "," : "");
        strbuf_add_json(out, start->sensors.names[i]);
    }
    strbuf_add_char(out, ']');
    size_t extra = context.extra_json ? strlen(context.extra_json) : 0;
    if (extra > 2) { /* an object's text without its braces */
        strbuf_add_char(out, ',');
        strbuf_add_bytes(out, context.extra_json + 1, extra - 1);
    } else {
        strbuf_add_char(out, '}');
    }
    return out->failed ? out_of_memory(err) : 0;
}

/* --- end --- */

int batch_end_read(const void *bytes, size_t length, struct arena *arena, struct batch_end *end,
                   struct error *err)
{
    int code;
    json_t *root = load_object(bytes, length, &code, err);
    if (root == NULL)
        return code;
    const json_t *batches = json_object_get(root, "batches");
    code = read_id(root, arena, &end->context_id, err);
    if (code == 0)
        code = read_time(json_object_get(root, "ended_at"), "ended_at", 0, &end->end_us, err);
    if (code == 0 && (end->end_us < BATCH_TIME_MIN_US || end->end_us > BATCH_TIME_MAX_US))
        code = error_set(err, ERR_INVALID, "ended_at lies outside the years 1970 to 9999");
    if (code == 0 && (!json_is_integer(batches) || json_integer_value(batches) < 0 ||
                      json_integer_value(batches) > BATCH_SEQUENCE_MAX + 1))
        code = error_set(err, ERR_INVALID,
                         "batches must be a whole number from 0 to %d: how many batches the context had",
                         BATCH_SEQUENCE_MAX + 1);
    if (code == 0)
        end->batches = (uint32_t)json_integer_value(batches);
    json_decref(root);
    return code;
}

int batch_end_write(const struct batch_end *end, struct strbuf *out, struct error *err)
{
    char text[CLOCK_RFC3339_BYTES];
    int code = batch_id_check(end->context_id, err);
    if (code)
        return code;
    strbuf_add(out, "{\"context_id\":");
    strbuf_add_json(out, end->context_id);
    strbuf_printf(out, ",\"ended_at\":\"%s\",\"batches\":%u}", clock_format_rfc3339(end->end_us, text),
                  end->batches);
    return out->failed ? out_of_memory(err) : 0;
}

/* --- data --- */

static int read_sequence(const json_t *root, uint32_t *sequence, struct error *err)
{
    const json_t *value = json_object_get(root, "seq");
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return error_set(err, ERR_INVALID,
                         "seq must be a whole number: 0 for a context's first batch, then 1, 2");
    int code = batch_sequence_check((uint64_t)json_integer_value(value), err);
    *sequence = code ? 0 : (uint32_t)json_integer_value(value);
    return code;
}

int batch_json_label(const char *bytes, size_t length, struct arena *arena, struct batch_label *label,
                     struct error *err)
{
    int code;
    *label = (struct batch_label){.binary = false};
    json_t *root = load_object(bytes, length, &code, err);
    if (root == NULL)
        return code;
    code = read_id(root, arena, &label->context_id, err);
    if (code == 0)
        code = read_sequence(root, &label->sequence, err);
    json_decref(root);
    return code;
}

static int read_listed_times(const json_t *list, int64_t *times, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        int code = read_time(json_array_get(list, i), "times", i, &times[i], err);
        if (code)
            return code;
    }
    return 0;
}

static int read_regular_times(const json_t *object, int64_t *times, size_t count, struct error *err)
{
    const json_t *interval = json_object_get(object, "interval_us");
    int64_t first_us;
    int code = read_time(json_object_get(object, "first"), "first", 0, &first_us, err);
    if (code)
        return code;
    if (!json_is_integer(interval) || json_integer_value(interval) < 0)
        return error_set(err, ERR_INVALID, "interval_us must be whole microseconds between two samples");
    int64_t step_us = json_integer_value(interval);
    if (first_us < BATCH_TIME_MIN_US || first_us > BATCH_TIME_MAX_US ||
        step_us > (BATCH_TIME_MAX_US - first_us) / (int64_t)count)
        return error_set(err, ERR_INVALID, "first and interval_us lead outside the years 1970 to 9999");
    for (size_t i = 0; i < count; i++)
        times[i] = first_us + (int64_t)i * step_us;
    return 0;
}

static int read_column(const char *name, const json_t *list, size_t samples,
                       const struct batch_sensors *sensors, struct arena *arena, struct batch_column *column,
                       struct error *err)
{
    if (!batch_sensors_find(sensors, name, &column->sensor))
        return error_set(err, ERR_INVALID,
                         "sensor '%.100s' is not in the start's list; list all sensors there", name);
    if (!json_is_array(list) || json_array_size(list) != samples)
        return error_set(err, ERR_INVALID,
                         "values of '%.100s' must be an array of %zu numbers: one for each time", name,
                         samples);
    double *values = arena_alloc(arena, samples * sizeof *values);
    if (values == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < samples; i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_number(value) && !json_is_null(value))
            return error_set(err, ERR_INVALID,
                             "values of '%.100s' (%zu) must be a number, or null where there is none", name,
                             i);
        values[i] = json_is_null(value) ? (double)NAN : json_number_value(value);
    }
    column->value = values;
    return 0;
}

/* How many samples a group has: as many as its times, or as its first column where times are regular. */
static size_t count_samples(const json_t *object, const json_t *values)
{
    const json_t *times = json_object_get(object, "times");
    if (times)
        return json_array_size(times);
    void *first = json_object_iter((json_t *)(uintptr_t)values);
    return first ? json_array_size(json_object_iter_value(first)) : 0;
}

static int read_group(const json_t *object, const struct batch_sensors *sensors, struct arena *arena,
                      struct batch_group *group, struct error *err)
{
    const json_t *values = json_object_get(object, "values");
    const json_t *times = json_object_get(object, "times");
    if (!json_is_object(values) || json_object_size(values) == 0)
        return error_set(err, ERR_INVALID, "values must be an object: for each sensor an array of numbers");
    if (times && !json_is_array(times))
        return error_set(err, ERR_INVALID, "times must be an array: when each sample was taken");
    size_t samples = count_samples(object, values);
    if (samples == 0)
        return error_set(err, ERR_INVALID, "a batch without samples; leave it out");
    if (samples > BATCH_POINTS_MAX / json_object_size(values))
        return error_set(err, ERR_LIMIT, "more than %d values; send smaller batches", BATCH_POINTS_MAX);
    int64_t *time_us = arena_alloc(arena, samples * sizeof *time_us);
    *group = (struct batch_group){.sample_count = samples,
                                  .time_us = time_us,
                                  .columns =
                                      arena_calloc(arena, json_object_size(values), sizeof *group->columns)};
    if (time_us == NULL || group->columns == NULL)
        return out_of_memory(err);
    int code = times ? read_listed_times(times, time_us, samples, err)
                     : read_regular_times(object, time_us, samples, err);
    const char *name;
    json_t *list;
    json_object_foreach((json_t *)(uintptr_t)values, name, list)
    {
        if (code == 0)
            code =
                read_column(name, list, samples, sensors, arena, &group->columns[group->column_count++], err);
    }
    return code;
}

static int read_groups(const json_t *root, const struct batch_sensors *sensors, struct arena *arena,
                       struct batch_data *data, struct error *err)
{
    const json_t *list = json_object_get(root, "groups");
    if (list && !json_is_array(list))
        return error_set(err, ERR_INVALID, "groups must be an array of objects with times and values");
    data->group_count = list ? json_array_size(list) : 1;
    if (data->group_count > BATCH_GROUPS_MAX)
        return error_set(err, ERR_LIMIT, "%zu groups; a batch may have %d", data->group_count,
                         BATCH_GROUPS_MAX);
    data->groups = arena_calloc(arena, data->group_count + 1, sizeof *data->groups);
    if (data->groups == NULL)
        return out_of_memory(err);
    for (size_t i = 0; i < data->group_count; i++) {
        int code = read_group(list ? json_array_get(list, i) : root, sensors, arena, &data->groups[i], err);
        if (code)
            return list ? error_prefix(err, code, "groups[%zu]", i) : code;
    }
    return 0;
}

int batch_json_read(const char *bytes, size_t length, const struct batch_sensors *sensors,
                    struct arena *arena, struct batch_data *data, struct error *err)
{
    int code;
    *data = (struct batch_data){.group_count = 0};
    json_t *root = load_object(bytes, length, &code, err);
    if (root == NULL)
        return code;
    code = read_id(root, arena, &data->context_id, err);
    if (code == 0)
        code = read_sequence(root, &data->sequence, err);
    if (code == 0)
        code = read_groups(root, sensors, arena, data, err);
    json_decref(root);
    return code;
}

static int write_values(const struct batch_column *column, size_t count, const struct batch_sensors *sensors,
                        struct strbuf *out, struct error *err)
{
    if (column->sensor >= sensors->count)
        return error_set(err, ERR_INVALID, "sensor %u, but there are %zu", column->sensor, sensors->count);
    strbuf_add_json(out, sensors->names[column->sensor]);
    strbuf_add(out, ":[");
    for (size_t i = 0; i < count; i++) {
        double value = column->value[i];
        if (isinf(value))
            return error_set(err, ERR_INVALID,
                             "sensor '%.100s' is infinite, which JSON cannot say; use binary",
                             sensors->names[column->sensor]);
        strbuf_add(out, i ? "," : "");
        if (value == 0)
            strbuf_add(out, signbit(value) ? "-0.0" : "0"); /* "-0" would be read as a whole number, 0 */
        else
            strbuf_add_json_double(out, value);
    }
    strbuf_add_char(out, ']');
    return 0;
}

int batch_data_write_json(const struct batch_data *data, const struct batch_sensors *sensors,
                          struct strbuf *out, struct error *err)
{
    int code = batch_data_check(data, err);
    if (code)
        return code;
    strbuf_add(out, "{\"context_id\":");
    strbuf_add_json(out, data->context_id);
    strbuf_printf(out, ",\"seq\":%u,\"groups\":[", data->sequence);
    for (size_t g = 0; g < data->group_count && code == 0; g++) {
        const struct batch_group *group = &data->groups[g];
        strbuf_add(out, g ? ",{\"times\":[" : "{\"times\":[");
        for (size_t i = 0; i < group->sample_count; i++)
            strbuf_printf(out, "%s%lld", i ? "," : "", (long long)group->time_us[i]);
        strbuf_add(out, "],\"values\":{");
        for (size_t c = 0; c < group->column_count && code == 0; c++) {
            strbuf_add(out, c ? "," : "");
            code = write_values(&group->columns[c], group->sample_count, sensors, out, err);
        }
        strbuf_add(out, "}}");
    }
    strbuf_add(out, "]}");
    if (code)
        return code;
    return out->failed ? out_of_memory(err) : 0;
}
