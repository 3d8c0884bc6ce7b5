#include "collector/batch.h"

#include "base/hash.h"
#include "collector/batch_forms.h"

#include <string.h>

int batch_sensors_index(const char *const *names, size_t count, struct arena *arena,
                        struct batch_sensors *sensors, struct error *err)
{
    if (count == 0)
        return error_set(err, ERR_INVALID, "sensors is empty; list the name of every sensor");
    if (count > BATCH_SENSORS_MAX)
        return error_set(err, ERR_LIMIT, "%zu sensors; a context may have %d", count, BATCH_SENSORS_MAX);
    size_t slot_count = 16;
    while (slot_count < 2 * count)
        slot_count *= 2;
    uint32_t *slots = arena_calloc(arena, slot_count, sizeof *slots);
    if (slots == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the names of %zu sensors", count);
    *sensors =
        (struct batch_sensors){.names = names, .count = count, .slots = slots, .slot_count = slot_count};
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(names[i]);
        if (length == 0)
            return error_set(err, ERR_INVALID, "sensors[%zu] is empty; a sensor needs a name", i);
        if (length > CONTEXT_NAME_MAX_BYTES)
            return error_set(err, ERR_LIMIT, "sensors[%zu] has a name of %zu bytes; it may have %d", i,
                             length, CONTEXT_NAME_MAX_BYTES);
        size_t slot = hash64_text(names[i]) & (slot_count - 1);
        for (; slots[slot]; slot = (slot + 1) & (slot_count - 1))
            if (strcmp(names[slots[slot] - 1], names[i]) == 0)
                return error_set(err, ERR_INVALID,
                                 "sensors[%zu] and sensors[%u] are both '%.100s'; names differ", i,
                                 slots[slot] - 1, names[i]);
        slots[slot] = (uint32_t)i + 1;
    }
    return 0;
}

bool batch_sensors_find(const struct batch_sensors *sensors, const char *name, uint32_t *sensor)
{
    size_t mask = sensors->slot_count - 1;
    for (size_t slot = hash64_text(name) & mask; sensors->slots[slot]; slot = (slot + 1) & mask) {
        *sensor = sensors->slots[slot] - 1;
        if (strcmp(sensors->names[*sensor], name) == 0)
            return true;
    }
    return false;
}

int batch_id_check(const char *id, struct error *err)
{
    size_t length = strlen(id);
    if (length == 0)
        return error_set(err, ERR_INVALID, "context_id is empty; it must name the run");
    if (length > CONTEXT_NAME_MAX_BYTES)
        return error_set(err, ERR_LIMIT, "context_id has %zu bytes; it may have %d", length,
                         CONTEXT_NAME_MAX_BYTES);
    for (const char *c = id; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return error_set(err, ERR_INVALID, "context_id has a control character at byte %zu; use text",
                             (size_t)(c - id));
    return 0;
}

int batch_sequence_check(uint64_t sequence, struct error *err)
{
    return sequence <= BATCH_SEQUENCE_MAX
               ? 0
               : error_set(err, ERR_LIMIT, "seq is above %d; number a context's batches 0, 1, 2, ...",
                           BATCH_SEQUENCE_MAX);
}

static int check_group(const struct batch_group *group, size_t number, struct error *err)
{
    if (group->sample_count == 0 || group->column_count == 0)
        return error_set(err, ERR_INVALID, "group %zu has no samples; leave it out", number);
    for (size_t i = 0; i < group->sample_count; i++) {
        if (group->time_us[i] < BATCH_TIME_MIN_US || group->time_us[i] > BATCH_TIME_MAX_US)
            return error_set(
                err, ERR_INVALID,
                "group %zu: time %zu lies outside the years 1970 to 9999; times are microseconds "
                "since 1970 in UTC",
                number, i);
        if (i > 0 && group->time_us[i] < group->time_us[i - 1])
            return error_set(err, ERR_INVALID,
                             "group %zu: time %zu is earlier than the one before it; put samples in order",
                             number, i);
    }
    return 0;
}

/* A sensor that came in two groups would have its samples in an order that nobody has stated. */
static int mark_seen(const struct batch_group *group, size_t number, unsigned char *seen, struct error *err)
{
    for (size_t c = 0; c < group->column_count; c++) {
        uint32_t sensor = group->columns[c].sensor;
        if (sensor >= BATCH_SENSORS_MAX)
            return error_set(err, ERR_LIMIT, "group %zu: sensor %u is above %d", number, sensor,
                             BATCH_SENSORS_MAX - 1);
        if (seen[sensor / 8] & (1U << sensor % 8))
            return error_set(err, ERR_INVALID,
                             "group %zu: sensor %u comes a second time; a batch gives each sensor once",
                             number, sensor);
        seen[sensor / 8] = (unsigned char)(seen[sensor / 8] | 1U << sensor % 8);
    }
    return 0;
}

int batch_data_check(const struct batch_data *data, struct error *err)
{
    unsigned char seen[BATCH_SENSORS_MAX / 8] = {0};
    size_t points = 0;
    int code = batch_id_check(data->context_id, err);
    if (code == 0)
        code = batch_sequence_check(data->sequence, err);
    if (code == 0 && data->group_count > BATCH_GROUPS_MAX)
        code =
            error_set(err, ERR_LIMIT, "%zu groups; a batch may have %d", data->group_count, BATCH_GROUPS_MAX);
    for (size_t i = 0; i < data->group_count && code == 0; i++) {
        const struct batch_group *group = &data->groups[i];
        code = check_group(group, i, err);
        if (code == 0)
            code = mark_seen(group, i, seen, err);
        if (code == 0 && group->sample_count > (BATCH_POINTS_MAX - points) / group->column_count)
            code = error_set(err, ERR_LIMIT, "more than %d values; send smaller batches", BATCH_POINTS_MAX);
        points += group->sample_count * group->column_count;
    }
    return code;
}

int batch_size_check(size_t length, struct error *err)
{
    if (length == 0)
        return error_set(err, ERR_INVALID, "the message is empty");
    return length <= BATCH_MESSAGE_MAX_BYTES
               ? 0
               : error_set(err, ERR_LIMIT, "a message of %zu bytes; at most %d are taken", length,
                           BATCH_MESSAGE_MAX_BYTES);
}

int batch_label_read(const void *bytes, size_t length, struct arena *arena, struct batch_label *label,
                     struct error *err)
{
    int code = batch_size_check(length, err);
    if (code)
        return code;
    return batch_is_binary(bytes, length) ? batch_binary_label(bytes, length, arena, label, err)
                                          : batch_json_label(bytes, length, arena, label, err);
}

int batch_data_read(const void *bytes, size_t length, const struct batch_sensors *sensors,
                    struct arena *arena, struct batch_data *data, struct error *err)
{
    int code = batch_size_check(length, err);
    if (code)
        return code;
    code = batch_is_binary(bytes, length) ? batch_binary_read(bytes, length, sensors, arena, data, err)
                                          : batch_json_read(bytes, length, sensors, arena, data, err);
    return code ? code : batch_data_check(data, err);
}
