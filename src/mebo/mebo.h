/* Mebo numeric blobs: many metrics of (time, value) points packed by columns, byte-compatible with the Go
 * library github.com/arloliu/mebo (format of its v1.9). Decodes and encodes every encoding, codec, version
 * and byte order.
 *
 * Nothing here reads a clock, starts a thread or touches a file. All results live in arrays of the caller or
 * in a `struct arena` of the caller (libzstd and qsort take working memory of their own and give it back at
 * once).
 *
 * Reading one blob:
 *
 *     struct mebo_blob blob;
 *     if (mebo_blob_open(&blob, bytes, length, &arena, NULL, &err) == 0 &&
 *         mebo_blob_find_name(&blob, "Pressure", &i) == 0) {
 *         const int64_t *times_us;
 *         mebo_blob_timestamps(&blob, i, &times_us, &err);
 *         mebo_blob_values(&blob, i, values, &err);      // double values[blob.metrics[i].count]
 *     }
 *
 * Every function that can fail returns 0 or a negative `enum error_code`. Damaged bytes give ERR_CORRUPT with
 * the offset and the reason, bounds give ERR_LIMIT; no input makes a reader crash, read outside it or
 * allocate more than its limits allow. */
#ifndef CHAMBERLAIN_MEBO_MEBO_H
#define CHAMBERLAIN_MEBO_MEBO_H

#include "base/arena.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers are those of the wire. */
enum mebo_encoding {
    MEBO_RAW = 1,          /* times or values */
    MEBO_DELTA = 2,        /* times: delta of delta as varints */
    MEBO_GORILLA = 3,      /* values: XOR with the previous, window kept */
    MEBO_CHIMP = 4,        /* values: XOR with the previous, rounded leading zeros */
    MEBO_DELTA_PACKED = 5, /* times: delta of delta in groups of four */
    MEBO_ALP = 6           /* values: decimal integers, or split left and right halves */
};

enum mebo_codec { MEBO_NONE = 1, MEBO_ZSTD = 2, MEBO_S2 = 3, MEBO_LZ4 = 4 };

enum mebo_version {
    MEBO_V1 = 0xEA10,         /* metrics in the order added; columns of at most 65,535 bytes */
    MEBO_V2 = 0xEA20,         /* metrics sorted by id; shared timestamps possible */
    MEBO_V2_EXTENDED = 0xEA30 /* as V2 with 32-bit counts and column lengths */
};

/* "raw", "delta", "deltapacked", "gorilla", "chimp", "alp" / "none", "zstd", "s2", "lz4"; "?" for other
 * numbers. */
const char *mebo_encoding_name(enum mebo_encoding encoding);
const char *mebo_codec_name(enum mebo_codec codec);
/* The inverse; false when `name` is none of them. */
bool mebo_encoding_parse(const char *name, enum mebo_encoding *encoding);
bool mebo_codec_parse(const char *name, enum mebo_codec *codec);

struct mebo_bytes {
    const void *data;
    size_t length;
};

/* Text that need not be terminated. */
struct mebo_text {
    const char *text;
    size_t length;
};

/* What a reader accepts at most. */
struct mebo_limits {
    size_t payload_bytes; /* one payload (times, values, tags) after decompression */
    size_t set_bytes;     /* all payloads that were decompressed for one set */
    uint32_t metrics;     /* metrics in a blob */
    uint64_t points;      /* points of all metrics in a blob, and in all blobs of a set */
};

/* 128 MiB, 1 GiB, 65,536 metrics, 67,108,864 points. */
struct mebo_limits mebo_limits_default(void);

/* The fixed first 32 bytes, as read. */
struct mebo_header {
    enum mebo_version version;
    enum mebo_encoding times_encoding;
    enum mebo_encoding values_encoding;
    enum mebo_codec times_codec;
    enum mebo_codec values_codec;
    bool big_endian;
    bool has_tags;
    bool has_names;
    bool has_shared_timestamps;
    int64_t start_time_us;
    uint32_t metric_count;
    uint32_t index_offset;
    uint32_t times_offset;
    uint32_t values_offset;
    uint32_t tags_offset;
};

/* One index entry. Offsets and lengths are bytes in the uncompressed payloads. */
struct mebo_metric {
    uint64_t id;
    const char *name; /* terminated, in the arena; NULL when the blob has no names section */
    size_t name_length;
    uint32_t count;    /* points */
    uint32_t times_of; /* the metric whose timestamp column this one uses: itself unless shared */
    size_t times_offset, times_length;
    size_t values_offset, values_length;
    size_t tags_offset, tags_length;
};

enum { MEBO_RECENT_TIMES = 4 };

/* An opened blob. Borrows the bytes and the arena: both must outlive it. One thread at a time. The caller may
 * read `header`, `metrics` (header.metric_count of them, in the blob's order) and `points`; the rest is
 * private. */
struct mebo_blob {
    struct mebo_header header;
    const struct mebo_metric *metrics;
    uint64_t points;           /* of all metrics */
    size_t decompressed_bytes; /* taken from the arena for payloads that were compressed */

    struct arena *arena;
    struct mebo_bytes times, values, tags; /* uncompressed */
    const uint32_t *by_id;       /* metric indices in ascending id, NULL when the metrics are so themselves */
    const int64_t **times_cache; /* by metric */
    uint32_t recent[MEBO_RECENT_TIMES]; /* metrics whose timestamp columns were looked at last, + 1 */
    uint32_t recent_next;
};

/* Reads header, names, index and shared table, and decompresses the payloads; `limits` NULL means the
 * defaults. Columns are checked when they are decoded. ERR_CORRUPT damaged or cut; ERR_UNSUPPORTED another
 * magic (text blobs) or an unknown encoding or codec; ERR_LIMIT above a limit; ERR_NO_MEMORY. */
int mebo_blob_open(struct mebo_blob *blob, const void *bytes, size_t length, struct arena *arena,
                   const struct mebo_limits *limits, struct error *err);

/* The index of the first metric with this id, or ERR_NOT_FOUND. Binary search. */
int mebo_blob_find(const struct mebo_blob *blob, uint64_t id, uint32_t *metric);

/* The index of the metric with this name (its xxHash64 is the id; the names section, if any, decides between
 * names of one hash), or ERR_NOT_FOUND. */
int mebo_blob_find_name(const struct mebo_blob *blob, const char *name, uint32_t *metric);

/* Decodes a metric's values into `values[metrics[metric].count]`. This and the next: ERR_CORRUPT when the
 * column does not hold exactly its points, ERR_INVALID for a metric the blob has not. */
int mebo_blob_values(const struct mebo_blob *blob, uint32_t metric, double *values, struct error *err);

/* Decodes a metric's timestamps, microseconds since the Unix epoch, into `times_us[metrics[metric].count]`.
 */
int mebo_blob_read_timestamps(const struct mebo_blob *blob, uint32_t metric, int64_t *times_us,
                              struct error *err);

/* As mebo_blob_read_timestamps, into the blob's arena: decoded once for all metrics that share their
 * timestamps, by the shared table or because their encoded columns are the same bytes; they get the same
 * pointer. */
int mebo_blob_timestamps(struct mebo_blob *blob, uint32_t metric, const int64_t **times_us,
                         struct error *err);

/* The metric that stands for all metrics with the same timestamps as this one, as far as cheaply known. */
uint32_t mebo_blob_times_class(struct mebo_blob *blob, uint32_t metric);

/* A metric's tags into `tags[metrics[metric].count]`, pointing into the blob's payload; all empty without
 * tags. */
int mebo_blob_tags(const struct mebo_blob *blob, uint32_t metric, struct mebo_text *tags, struct error *err);

/* ---- several blobs of one trace ---- */

/* Blobs in the order of their start times (equal ones in the order given). Same ownership as a blob. */
struct mebo_set {
    struct mebo_blob *blobs;
    size_t count;
    uint64_t points; /* of all metrics of all blobs */
    struct arena *arena;
};

/* A metric's points over a whole set: contiguous, in the set's order. */
struct mebo_column {
    const double *values;
    const int64_t *times_us; /* one pointer for metrics known to have the same timestamps in every blob */
    size_t count;
    bool found; /* some blob has the metric; without it both pointers are NULL and count is 0 */
};

/* Opens `count` chunks. An error is prefixed with the chunk's position in `chunks`. ERR_INVALID for none. */
int mebo_set_open(struct mebo_set *set, const struct mebo_bytes *chunks, size_t count, struct arena *arena,
                  const struct mebo_limits *limits, struct error *err);

/* Decodes the metrics `ids[count]` into `columns[count]`, arrays in the set's arena. A metric that no blob
 * has is no error (`found` is false). Each call decodes anew: ask once for everything that is needed.
 * ERR_CORRUPT a damaged column, with its blob, metric and byte; ERR_NO_MEMORY. */
int mebo_set_columns(struct mebo_set *set, const uint64_t *ids, size_t count, struct mebo_column *columns,
                     struct error *err);

/* ---- writing ---- */

struct mebo_options {
    enum mebo_version version; /* MEBO_V2 becomes MEBO_V2_EXTENDED by itself where a column needs it */
    enum mebo_encoding times_encoding;
    enum mebo_encoding values_encoding;
    enum mebo_codec times_codec;
    enum mebo_codec values_codec;
    bool big_endian;
    bool shared_timestamps; /* V2: equal timestamp columns are written once */
    bool names;             /* write the names section: every metric then needs a name */
    int zstd_level;         /* 0 means 3 */
};

/* What the Go library's default encoder writes: V1, little endian, delta + gorilla, uncompressed, no names.
 */
struct mebo_options mebo_options_default(void);

/* What this project writes for T-charts: V2, little endian, shared timestamps, names, delta + ALP,
 * uncompressed. On recipe traces this is the smallest form without compression (1.27 bytes a point; delta +
 * Gorilla 1.54) and the fastest to read (1.2 ns a point; 3.0). zstd on top saves another 8 % and makes
 * reading eight times slower. Figures in bench/mebo/README.md. */
struct mebo_options mebo_options_tchart(void);

/* One metric to write. `id` 0 means the xxHash64 of `name`. All arrays are borrowed until
 * mebo_encoder_finish. */
struct mebo_series {
    uint64_t id;
    const char *name;   /* may be NULL when `id` is given */
    size_t name_length; /* 0 with a name means strlen(name) */
    uint32_t count;     /* points, at least 1 */
    const int64_t *times_us;
    const double *values;
    const struct mebo_text *tags; /* `count` of them, or NULL for none */
};

/* Collects series and writes one blob. Lives in the arena; no clean-up of its own. */
struct mebo_encoder {
    struct mebo_options options;
    int64_t start_time_us;
    struct arena *arena;
    struct mebo_series *series; /* private from here on */
    uint32_t count;
    uint32_t capacity;
    uint32_t *left_counts; /* scratch of the ALP encoder */
};

void mebo_encoder_init(struct mebo_encoder *encoder, const struct mebo_options *options,
                       int64_t start_time_us, struct arena *arena);

/* ERR_INVALID no points, no id and no name, an id that is not the name's hash, or a missing name where names
 * are written; ERR_LIMIT more than 65,536 metrics (65,535 with names); ERR_NO_MEMORY. */
int mebo_encoder_add(struct mebo_encoder *encoder, const struct mebo_series *series, struct error *err);

/* Writes the blob into the arena. Columns, index and shared table are byte for byte those of the Go encoder
 * for the same options; compressed payloads depend on the compressor. The encoder may be finished again after
 * more series. ERR_INVALID no metric, two equal ids without names that differ, options that do not exist or
 * do not go together; ERR_LIMIT a count or column that V1 cannot hold, or a blob above 4 GiB; ERR_NO_MEMORY.
 */
int mebo_encoder_finish(struct mebo_encoder *encoder, struct mebo_bytes *blob, struct error *err);

#endif
