/* What equipment says of a context, in messages: a start, batches of samples, an end (docs/collect.md).
 *
 *     eqp.{tool}.{chamber}.start   JSON            the context and the names of its sensors
 *     eqp.{tool}.{chamber}.data    JSON or binary  one batch of samples, numbered 0, 1, 2, ...
 *     eqp.{tool}.{chamber}.end     JSON            how many batches there were
 *
 * The binary form of a batch, little endian; varints are LEB128 (7 bits a byte, low ones first, high bit:
 * more follows):
 *
 *     offset  bytes
 *          0      4   "CHB1": the 1 is the version
 *          4      4   number of the batch
 *          8      2   groups
 *         10      1   length of the context's id, n
 *         11      1   0
 *         12      n   the context's id
 *                     then each group: sensors that were sampled together
 *                         varint  samples, s
 *                         varint  columns
 *                         8       time of the first sample, microseconds since the Unix epoch
 *                         byte    1: regular   varint: microseconds between two samples
 *                                 2: irregular varint: microseconds to the one before; s - 1 of them
 *                         then each column:
 *                             varint  sensor: its place in the start's list less that of the column before,
 *                                     less 1 (first column: its place). So columns ascend by sensor
 *                             byte    1: raw      8 bytes a value (IEEE 754)
 *                                     2: constant 8 bytes: one value for all
 *                                     3 + k, k = 0..9: decimal with k places: value x 10^k as whole numbers:
 *                                             varints of zigzag(number - the number before), the first from 0
 *        end      8   xxHash64 of everything before
 *
 * Pure. Readers accept any bytes: what is wrong is an error that says where and how to mend it, never a crash
 * or an allocation beyond the limits below. */
#ifndef CHAMBERLAIN_COLLECTOR_BATCH_H
#define CHAMBERLAIN_COLLECTOR_BATCH_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "chart/context.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BATCH_MESSAGE_MAX_BYTES = 8 * 1024 * 1024,
    BATCH_SENSORS_MAX = 20000,
    BATCH_POINTS_MAX = 1 << 20, /* of one batch, all sensors together */
    BATCH_GROUPS_MAX = 4096,
    BATCH_SEQUENCE_MAX = 9999999, /* the highest number of a batch */
    BATCH_DECIMAL_PLACES_MAX = 9
};

/* The names of a context's sensors, in the order in which batches count them. */
struct batch_sensors {
    const char *const *names;
    size_t count;
    const uint32_t *slots; /* private: a hash table of names, places + 1; NULL: not made yet */
    size_t slot_count;
};

struct batch_start {
    struct context context; /* end_us is start_us; svid_count the number of sensors */
    struct batch_sensors sensors;
};

struct batch_column {
    uint32_t sensor; /* place in the start's list */
    const double *value;
};

/* Sensors that were sampled at the same times. */
struct batch_group {
    size_t sample_count;
    const int64_t *time_us; /* never descending */
    size_t column_count;
    struct batch_column *columns;
};

struct batch_data {
    const char *context_id;
    uint32_t sequence; /* 0, 1, 2, ... */
    size_t group_count;
    struct batch_group *groups; /* a sensor is in one group at most */
};

struct batch_end {
    const char *context_id;
    int64_t end_us;
    uint32_t batches; /* how many there were: numbers 0 to batches - 1 */
};

/* What a message is about, cheaply: enough to sort it. */
struct batch_label {
    const char *context_id; /* in the arena */
    uint32_t sequence;      /* of a batch; 0 for start and end */
    bool binary;
};

/* Lists names for batch_data_read of JSON; they are borrowed, the table is in `arena`. ERR_INVALID: an empty
 * name, one of more than CONTEXT_NAME_MAX_BYTES, a name twice, or none at all; ERR_LIMIT; ERR_NO_MEMORY. */
int batch_sensors_index(const char *const *names, size_t count, struct arena *arena,
                        struct batch_sensors *sensors, struct error *err);

/* --- reading; everything found lives in `arena` --- */

/* `tool` and `chamber` are the subject's; a body that names others is refused. ERR_INVALID names the field
 * and what it should be, ERR_LIMIT a bound, ERR_NO_MEMORY. */
int batch_start_read(const void *bytes, size_t length, const char *tool, const char *chamber,
                     struct arena *arena, struct batch_start *start, struct error *err);

int batch_end_read(const void *bytes, size_t length, struct arena *arena, struct batch_end *end,
                   struct error *err);

/* Which context and which batch, of a `data` message in either form. ERR_INVALID, ERR_CORRUPT (binary: cut,
 * or the checksum differs), ERR_UNSUPPORTED (another version), ERR_LIMIT, ERR_NO_MEMORY. */
int batch_label_read(const void *bytes, size_t length, struct arena *arena, struct batch_label *label,
                     struct error *err);

/* The whole batch. `sensors` are those of the context's start: a place or name outside it is ERR_INVALID. */
int batch_data_read(const void *bytes, size_t length, const struct batch_sensors *sensors,
                    struct arena *arena, struct batch_data *data, struct error *err);

/* --- writing; appended to `out`. ERR_INVALID or ERR_LIMIT: what the reader would refuse; ERR_NO_MEMORY ---
 */

int batch_start_write(const struct batch_start *start, struct strbuf *out, struct error *err);
int batch_end_write(const struct batch_end *end, struct strbuf *out, struct error *err);

/* JSON: not-a-number becomes null; infinite values are ERR_INVALID. `sensors` gives the names. */
int batch_data_write_json(const struct batch_data *data, const struct batch_sensors *sensors,
                          struct strbuf *out, struct error *err);

/* Binary: every bit of every value is kept. Columns of a group must ascend by sensor. */
int batch_data_write(const struct batch_data *data, struct strbuf *out, struct error *err);

#endif
