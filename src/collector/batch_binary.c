/* The binary form of a batch; batch.h draws it. */
#include "base/hash.h"
#include "collector/batch_forms.h"

#include <math.h>
#include <string.h>

enum {
    MAGIC_BYTES = 3, /* then the version */
    VERSION = '1',
    HEADER_BYTES = 12,
    CHECKSUM_BYTES = 8,
    VARINT_MAX_BYTES = 10,
    TIMES_REGULAR = 1,
    TIMES_IRREGULAR = 2,
    VALUES_RAW = 1,
    VALUES_CONSTANT = 2,
    VALUES_DECIMAL = 3, /* + places */
    ENCODE_BUFFER_BYTES = 4096
};

static const char MAGIC[MAGIC_BYTES] = {'C', 'H', 'B'};

static const double POWERS[BATCH_DECIMAL_PLACES_MAX + 1] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9};

/* Whole numbers up to here, divided by a power of ten, give the double nearest to that decimal: both are
 * exact, and IEEE 754 rounds the one division correctly. */
#define DECIMAL_MAX 9007199254740992.0 /* 2^53 */

bool batch_is_binary(const void *bytes, size_t length)
{
    return length >= MAGIC_BYTES && memcmp(bytes, MAGIC, MAGIC_BYTES) == 0;
}

/* --- reading --- */

struct reader {
    const unsigned char *at, *end, *begin;
    struct error *err;
};

static int corrupt(struct reader *reader, const char *what)
{
    return error_set(reader->err, ERR_CORRUPT, "binary batch, byte %zu: %s; send it again as it was made",
                     (size_t)(reader->at - reader->begin), what);
}

static uint64_t load_u64(const unsigned char *p)
{
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

static double load_double(const unsigned char *p)
{
    uint64_t bits = load_u64(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int read_varint(struct reader *reader, uint64_t *value)
{
    const unsigned char *p = reader->at;
    if (p < reader->end && *p < 0x80) { /* most are one byte */
        *value = *p;
        reader->at++;
        return 0;
    }
    *value = 0;
    for (unsigned shift = 0; p < reader->end && shift < 64; shift += 7, p++) {
        if (shift == 63 && *p > 1)
            break;
        *value |= (uint64_t)(*p & 0x7f) << shift;
        if (*p < 0x80) {
            reader->at = p + 1;
            return 0;
        }
    }
    return corrupt(reader, p == reader->end ? "cut in a number" : "a number of more than 64 bits");
}

static int read_byte(struct reader *reader, unsigned *value)
{
    if (reader->at == reader->end)
        return corrupt(reader, "cut");
    *value = *reader->at++;
    return 0;
}

static size_t bytes_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

/* The checksum covers what the fields say, so nothing is believed before it. */
static int open_message(struct reader *reader, const unsigned char *bytes, size_t length, struct arena *arena,
                        struct batch_data *data, struct error *err)
{
    *reader = (struct reader){.begin = bytes, .at = bytes, .end = bytes + length, .err = err};
    if (length < HEADER_BYTES + CHECKSUM_BYTES)
        return corrupt(reader, "shorter than any batch");
    if (bytes[MAGIC_BYTES] != VERSION)
        return error_set(err, ERR_UNSUPPORTED,
                         "binary batch of version '%c'; this collector reads '%c': update it, or send JSON",
                         bytes[MAGIC_BYTES] >= 0x20 && bytes[MAGIC_BYTES] < 0x7f ? bytes[MAGIC_BYTES] : '?',
                         VERSION);
    reader->end -= CHECKSUM_BYTES;
    if (load_u64(reader->end) != hash64(bytes, length - CHECKSUM_BYTES))
        return error_set(
            err, ERR_CORRUPT,
            "binary batch: its checksum differs from its %zu bytes; send it again as it was made",
            length - CHECKSUM_BYTES);
    size_t id_length = bytes[10];
    if (bytes[11] != 0)
        return error_set(err, ERR_UNSUPPORTED, "binary batch, byte 11: must be 0");
    reader->at += HEADER_BYTES;
    if (bytes_left(reader) < id_length)
        return corrupt(reader, "cut in the context's id");
    if (memchr(reader->at, 0, id_length))
        return corrupt(reader, "a zero byte in the context's id");
    const char *id = arena_strndup(arena, (const char *)reader->at, id_length);
    if (id == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a batch");
    reader->at += id_length;
    *data = (struct batch_data){.context_id = id,
                                .sequence = (uint32_t)(load_u64(bytes + 4) & 0xffffffff),
                                .group_count = bytes[8] | (size_t)bytes[9] << 8};
    int code = batch_id_check(id, err);
    return code ? code : batch_sequence_check(data->sequence, err);
}

int batch_binary_label(const unsigned char *bytes, size_t length, struct arena *arena,
                       struct batch_label *label, struct error *err)
{
    struct reader reader;
    struct batch_data data;
    int code = open_message(&reader, bytes, length, arena, &data, err);
    if (code == 0)
        *label =
            (struct batch_label){.context_id = data.context_id, .sequence = data.sequence, .binary = true};
    return code;
}

static int read_times(struct reader *reader, int64_t *times, size_t count)
{
    unsigned kind = 0;
    uint64_t step = 0;
    if (bytes_left(reader) < 8)
        return corrupt(reader, "cut in a time");
    uint64_t first = load_u64(reader->at);
    reader->at += 8;
    if (first > (uint64_t)BATCH_TIME_MAX_US)
        return corrupt(reader, "a time outside the years 1970 to 9999");
    int code = read_byte(reader, &kind);
    if (code == 0 && kind != TIMES_REGULAR && kind != TIMES_IRREGULAR)
        code = corrupt(reader, "times of an unknown kind");
    if (code == 0 && kind == TIMES_REGULAR)
        code = read_varint(reader, &step);
    times[0] = (int64_t)first;
    for (size_t i = 1; i < count && code == 0; i++) {
        if (kind == TIMES_IRREGULAR)
            code = read_varint(reader, &step);
        if (code == 0 && step > (uint64_t)(BATCH_TIME_MAX_US - times[i - 1]))
            code = corrupt(reader, "a time outside the years 1970 to 9999");
        if (code == 0)
            times[i] = times[i - 1] + (int64_t)step;
    }
    return code;
}

static int read_decimal(struct reader *reader, double *values, size_t count, unsigned places)
{
    int64_t number = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t zigzag;
        int code = read_varint(reader, &zigzag);
        if (code)
            return code;
        /* Unsigned, so that a damaged sum wraps where a signed one would be undefined. */
        number = (int64_t)((uint64_t)number + ((zigzag >> 1) ^ (0 - (zigzag & 1))));
        values[i] = (double)number / POWERS[places];
    }
    return 0;
}

static int read_values(struct reader *reader, double *values, size_t count)
{
    unsigned kind = 0;
    int code = read_byte(reader, &kind);
    if (code)
        return code;
    if (kind >= VALUES_DECIMAL && kind <= VALUES_DECIMAL + BATCH_DECIMAL_PLACES_MAX)
        return read_decimal(reader, values, count, kind - VALUES_DECIMAL);
    if (kind != VALUES_RAW && kind != VALUES_CONSTANT)
        return corrupt(reader, "values of an unknown kind");
    size_t stored = kind == VALUES_RAW ? count : 1;
    if (bytes_left(reader) / 8 < stored)
        return corrupt(reader, "cut in the values");
    for (size_t i = 0; i < stored; i++)
        values[i] = load_double(reader->at + 8 * i);
    for (size_t i = stored; i < count; i++)
        values[i] = values[0];
    reader->at += 8 * stored;
    return 0;
}

static int read_column(struct reader *reader, struct batch_column *column, size_t samples,
                       uint64_t *next_sensor, size_t sensor_count, struct arena *arena)
{
    uint64_t gap;
    int code = read_varint(reader, &gap);
    if (code)
        return code;
    if (gap >= sensor_count || *next_sensor + gap >= sensor_count)
        return error_set(
            reader->err, ERR_INVALID,
            "binary batch, byte %zu: sensor %llu, but the start lists %zu; list all of them there",
            (size_t)(reader->at - reader->begin), (unsigned long long)(*next_sensor + gap), sensor_count);
    column->sensor = (uint32_t)(*next_sensor + gap);
    *next_sensor += gap + 1;
    double *values = arena_alloc(arena, samples * sizeof *values);
    if (values == NULL)
        return error_set(reader->err, ERR_NO_MEMORY, "no memory for a column of %zu values", samples);
    column->value = values;
    return read_values(reader, values, samples);
}

static int read_group(struct reader *reader, struct batch_group *group, size_t *points, size_t sensor_count,
                      struct arena *arena)
{
    uint64_t samples, columns, next_sensor = 0;
    int code = read_varint(reader, &samples);
    if (code == 0)
        code = read_varint(reader, &columns);
    if (code)
        return code;
    if (samples == 0 || columns == 0)
        return corrupt(reader, "a group without samples");
    if (columns > sensor_count)
        return error_set(reader->err, ERR_INVALID,
                         "binary batch: %llu columns, but the start lists %zu sensors",
                         (unsigned long long)columns, sensor_count);
    if (samples > (BATCH_POINTS_MAX - *points) / columns)
        return error_set(reader->err, ERR_LIMIT, "more than %d values; send smaller batches",
                         BATCH_POINTS_MAX);
    *points += (size_t)(samples * columns);
    int64_t *times = arena_alloc(arena, (size_t)samples * sizeof *times);
    *group = (struct batch_group){.sample_count = (size_t)samples,
                                  .time_us = times,
                                  .column_count = (size_t)columns,
                                  .columns = arena_calloc(arena, (size_t)columns, sizeof *group->columns)};
    if (times == NULL || group->columns == NULL)
        return error_set(reader->err, ERR_NO_MEMORY, "no memory for a batch");
    code = read_times(reader, times, group->sample_count);
    for (size_t c = 0; c < group->column_count && code == 0; c++)
        code =
            read_column(reader, &group->columns[c], group->sample_count, &next_sensor, sensor_count, arena);
    return code;
}

int batch_binary_read(const unsigned char *bytes, size_t length, const struct batch_sensors *sensors,
                      struct arena *arena, struct batch_data *data, struct error *err)
{
    struct reader reader;
    int code = open_message(&reader, bytes, length, arena, data, err);
    if (code)
        return code;
    if (data->group_count > BATCH_GROUPS_MAX)
        return error_set(err, ERR_LIMIT, "%zu groups; a batch may have %d", data->group_count,
                         BATCH_GROUPS_MAX);
    size_t points = 0;
    data->groups = arena_calloc(arena, data->group_count + 1, sizeof *data->groups);
    if (data->groups == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a batch");
    for (size_t i = 0; i < data->group_count && code == 0; i++)
        code = read_group(&reader, &data->groups[i], &points, sensors->count, arena);
    if (code == 0 && reader.at != reader.end)
        code = corrupt(&reader, "bytes after the last group");
    return code;
}

/* --- writing --- */

/* Gathers bytes before they go into the buffer, so that one number costs no call. */
struct writer {
    struct strbuf *out;
    size_t used;
    unsigned char bytes[ENCODE_BUFFER_BYTES];
};

static void flush(struct writer *writer)
{
    strbuf_add_bytes(writer->out, writer->bytes, writer->used);
    writer->used = 0;
}

static void make_room(struct writer *writer)
{
    if (writer->used + VARINT_MAX_BYTES > sizeof writer->bytes)
        flush(writer);
}

static void write_varint(struct writer *writer, uint64_t value)
{
    make_room(writer);
    for (; value >= 0x80; value >>= 7)
        writer->bytes[writer->used++] = (unsigned char)(value | 0x80);
    writer->bytes[writer->used++] = (unsigned char)value;
}

static void write_byte(struct writer *writer, unsigned value)
{
    make_room(writer);
    writer->bytes[writer->used++] = (unsigned char)value;
}

static void write_u64(struct writer *writer, uint64_t value)
{
    make_room(writer);
    for (int i = 0; i < 8; i++)
        writer->bytes[writer->used++] = (unsigned char)(value >> 8 * i);
}

static void write_double(struct writer *writer, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    write_u64(writer, bits);
}

static void write_times(struct writer *writer, const int64_t *times, size_t count)
{
    int64_t step = count > 1 ? times[1] - times[0] : 0;
    bool regular = true;
    for (size_t i = 2; i < count && regular; i++)
        regular = times[i] - times[i - 1] == step;
    write_u64(writer, (uint64_t)times[0]);
    write_byte(writer, regular ? TIMES_REGULAR : TIMES_IRREGULAR);
    if (regular)
        write_varint(writer, (uint64_t)step);
    for (size_t i = 1; i < count && !regular; i++)
        write_varint(writer, (uint64_t)(times[i] - times[i - 1]));
}

static bool same_bits(double a, double b)
{
    return memcmp(&a, &b, sizeof a) == 0;
}

static bool is_decimal(double value, unsigned places)
{
    double scaled = value * POWERS[places];
    if (!(fabs(scaled) <= DECIMAL_MAX)) /* also when it is not a number */
        return false;
    return same_bits((double)llround(scaled) / POWERS[places], value);
}

/* The fewest places with which every value is a decimal; false when there are none. A value that needs more
 * places than those before it moves the search on, and those before need not be looked at again: whoever is a
 * decimal of k places within the bound is one of more places too, unless it leaves the bound. */
static bool find_places(const double *values, size_t count, unsigned *places)
{
    *places = 0;
    for (size_t i = 0; i < count; i++)
        while (!is_decimal(values[i], *places))
            if (++*places > BATCH_DECIMAL_PLACES_MAX)
                return false;
    for (size_t i = 0; i < count; i++)
        if (!is_decimal(values[i], *places))
            return false;
    return true;
}

static size_t varint_bytes(uint64_t value)
{
    size_t bytes = 1;
    for (; value >= 0x80; value >>= 7)
        bytes++;
    return bytes;
}

static uint64_t zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

static size_t decimal_bytes(const double *values, size_t count, unsigned places)
{
    size_t bytes = 0;
    int64_t before = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t number = llround(values[i] * POWERS[places]);
        bytes += varint_bytes(zigzag(number - before));
        before = number;
    }
    return bytes;
}

static void write_values(struct writer *writer, const double *values, size_t count)
{
    unsigned places;
    bool constant = true;
    for (size_t i = 1; i < count && constant; i++)
        constant = same_bits(values[i], values[0]);
    size_t plain = 8 * (constant ? 1 : count);
    if (find_places(values, count, &places) && decimal_bytes(values, count, places) < plain) {
        int64_t before = 0;
        write_byte(writer, VALUES_DECIMAL + places);
        for (size_t i = 0; i < count; i++) {
            int64_t number = llround(values[i] * POWERS[places]);
            write_varint(writer, zigzag(number - before));
            before = number;
        }
        return;
    }
    write_byte(writer, constant ? VALUES_CONSTANT : VALUES_RAW);
    for (size_t i = 0; i < (constant ? 1 : count); i++)
        write_double(writer, values[i]);
}

static int write_group(struct writer *writer, const struct batch_group *group, struct error *err)
{
    uint32_t next_sensor = 0;
    write_varint(writer, group->sample_count);
    write_varint(writer, group->column_count);
    write_times(writer, group->time_us, group->sample_count);
    for (size_t c = 0; c < group->column_count; c++) {
        const struct batch_column *column = &group->columns[c];
        if (column->sensor < next_sensor)
            return error_set(err, ERR_INVALID, "column %zu is of sensor %u; put columns in ascending order",
                             c, column->sensor);
        write_varint(writer, column->sensor - next_sensor);
        next_sensor = column->sensor + 1;
        write_values(writer, column->value, group->sample_count);
    }
    return 0;
}

int batch_data_write(const struct batch_data *data, struct strbuf *out, struct error *err)
{
    int code = batch_data_check(data, err);
    if (code)
        return code;
    struct writer writer = {.out = out};
    size_t begin = out->length, id_length = strlen(data->context_id);
    strbuf_add_bytes(out, MAGIC, MAGIC_BYTES);
    write_byte(&writer, VERSION);
    for (int i = 0; i < 4; i++)
        write_byte(&writer, data->sequence >> 8 * i & 0xff);
    write_byte(&writer, data->group_count & 0xff);
    write_byte(&writer, (unsigned)(data->group_count >> 8));
    write_byte(&writer, (unsigned)id_length);
    write_byte(&writer, 0);
    flush(&writer);
    strbuf_add_bytes(out, data->context_id, id_length);
    for (size_t i = 0; i < data->group_count && code == 0; i++)
        code = write_group(&writer, &data->groups[i], err);
    if (code)
        return code;
    flush(&writer);
    if (!out->failed)
        write_u64(&writer, hash64(out->text + begin, out->length - begin));
    flush(&writer);
    if (out->failed)
        return error_set(err, ERR_NO_MEMORY, "no memory to write a batch");
    return batch_size_check(out->length - begin, err);
}
