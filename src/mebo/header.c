/* The fixed header:
 *
 *     0 options u16 (little endian always)   2 encodings   3 codecs   4 start time i64   12 metrics u32
 *     16 index offset u32   20 times offset u32   24 values offset u32   28 tags offset u32
 *
 * options: bit 0 tags, 1 big endian, 2 names, 3 shared timestamps, 4..15 magic. Encodings and codecs: low
 * nibble for the times, high nibble for the values. */
#include "mebo/layout.h"
#include "mebo/wire.h"

bool mebo_times_encoding_known(unsigned encoding)
{
    return encoding == MEBO_RAW || encoding == MEBO_DELTA || encoding == MEBO_DELTA_PACKED;
}

bool mebo_values_encoding_known(unsigned encoding)
{
    return encoding == MEBO_RAW || encoding == MEBO_GORILLA || encoding == MEBO_CHIMP || encoding == MEBO_ALP;
}

bool mebo_codec_known(unsigned codec)
{
    return codec >= MEBO_NONE && codec <= MEBO_LZ4;
}

size_t mebo_entry_bytes(enum mebo_version version)
{
    return version == MEBO_V2_EXTENDED ? MEBO_ENTRY_EXTENDED_BYTES : MEBO_ENTRY_BYTES;
}

const char *mebo_encoding_name(enum mebo_encoding encoding)
{
    switch (encoding) {
    case MEBO_RAW:
        return "raw";
    case MEBO_DELTA:
        return "delta";
    case MEBO_GORILLA:
        return "gorilla";
    case MEBO_CHIMP:
        return "chimp";
    case MEBO_DELTA_PACKED:
        return "deltapacked";
    case MEBO_ALP:
        return "alp";
    }
    return "?";
}

const char *mebo_codec_name(enum mebo_codec codec)
{
    switch (codec) {
    case MEBO_NONE:
        return "none";
    case MEBO_ZSTD:
        return "zstd";
    case MEBO_S2:
        return "s2";
    case MEBO_LZ4:
        return "lz4";
    }
    return "?";
}

bool mebo_encoding_parse(const char *name, enum mebo_encoding *encoding)
{
    for (unsigned e = MEBO_RAW; e <= MEBO_ALP; e++) {
        if (strcmp(name, mebo_encoding_name((enum mebo_encoding)e)) == 0) {
            *encoding = (enum mebo_encoding)e;
            return true;
        }
    }
    return false;
}

bool mebo_codec_parse(const char *name, enum mebo_codec *codec)
{
    for (unsigned c = MEBO_NONE; c <= MEBO_LZ4; c++) {
        if (strcmp(name, mebo_codec_name((enum mebo_codec)c)) == 0) {
            *codec = (enum mebo_codec)c;
            return true;
        }
    }
    return false;
}

static int read_options(struct mebo_header *h, const unsigned char *p, struct error *err)
{
    unsigned options = wire_load16(p, false), magic = options & MEBO_MAGIC_MASK;
    if (magic == MEBO_TEXT_MAGIC)
        return error_set(err, ERR_UNSUPPORTED,
                         "offset 0: a text blob (magic eb10); only numeric blobs are read");
    if (magic != MEBO_V1 && magic != MEBO_V2 && magic != MEBO_V2_EXTENDED)
        return error_set(err, ERR_CORRUPT,
                         "offset 0: magic %04x is none of ea10, ea20, ea30; this is no numeric blob", magic);
    h->version = (enum mebo_version)magic;
    h->has_tags = options & MEBO_FLAG_TAGS;
    h->big_endian = options & MEBO_FLAG_BIG_ENDIAN;
    h->has_names = options & MEBO_FLAG_NAMES;
    h->has_shared_timestamps = options & MEBO_FLAG_SHARED;
    if (h->has_shared_timestamps && h->version == MEBO_V1)
        return error_set(err, ERR_CORRUPT, "offset 0: shared timestamps in a V1 blob, which has none");
    unsigned times = p[2] & 15, values = p[2] >> 4;
    if (!mebo_times_encoding_known(times) || !mebo_values_encoding_known(values))
        return error_set(err, ERR_UNSUPPORTED, "offset 2: encodings %u (times) and %u (values) are not known",
                         times, values);
    h->times_encoding = (enum mebo_encoding)times;
    h->values_encoding = (enum mebo_encoding)values;
    times = p[3] & 15;
    values = p[3] >> 4;
    if (!mebo_codec_known(times) || !mebo_codec_known(values))
        return error_set(err, ERR_UNSUPPORTED, "offset 3: codecs %u (times) and %u (values) are not known",
                         times, values);
    h->times_codec = (enum mebo_codec)times;
    h->values_codec = (enum mebo_codec)values;
    return 0;
}

static int beyond(unsigned at, const char *what, uint32_t offset, size_t length, struct error *err)
{
    return error_set(err, ERR_CORRUPT,
                     "offset %u: %s offset %u is beyond the blob's %zu bytes; the blob is cut or damaged", at,
                     what, offset, length);
}

static int check_offsets(const struct mebo_header *h, size_t length, struct error *err)
{
    if (h->index_offset > length)
        return beyond(16, "index", h->index_offset, length, err);
    if (h->times_offset > length)
        return beyond(20, "timestamp payload", h->times_offset, length, err);
    if (h->values_offset > length)
        return beyond(24, "value payload", h->values_offset, length, err);
    if (h->tags_offset > length)
        return beyond(28, "tag payload", h->tags_offset, length, err);
    if (h->index_offset < MEBO_HEADER_BYTES || h->index_offset > h->times_offset ||
        h->times_offset > h->values_offset || h->values_offset > h->tags_offset)
        return error_set(err, ERR_CORRUPT,
                         "offset 16: index, timestamp, value and tag offsets %u, %u, %u, %u are not in order",
                         h->index_offset, h->times_offset, h->values_offset, h->tags_offset);
    if (h->has_tags && h->tags_offset == length)
        return error_set(err, ERR_CORRUPT,
                         "offset 28: the tag payload offset %u is the blob's end; the tags are cut",
                         h->tags_offset);
    if (!h->has_tags && h->tags_offset != length)
        return error_set(
            err, ERR_CORRUPT,
            "offset 28: the payloads end at %u but the blob has %zu bytes and no tags; cut it there",
            h->tags_offset, length);
    return 0;
}

int mebo_header_read(struct mebo_header *header, const unsigned char *p, size_t length, struct error *err)
{
    *header = (struct mebo_header){0};
    if (length < MEBO_HEADER_BYTES)
        return error_set(err, ERR_CORRUPT, "offset 0: %zu bytes, a blob has at least its %d bytes of header",
                         length, MEBO_HEADER_BYTES);
    int rc = read_options(header, p, err);
    if (rc)
        return rc;
    bool big = header->big_endian;
    header->start_time_us = (int64_t)wire_load64(p + 4, big);
    header->metric_count = wire_load32(p + 12, big);
    header->index_offset = wire_load32(p + 16, big);
    header->times_offset = wire_load32(p + 20, big);
    header->values_offset = wire_load32(p + 24, big);
    header->tags_offset = wire_load32(p + 28, big);
    if (header->metric_count == 0 || header->metric_count > MEBO_MAX_METRICS)
        return error_set(err, ERR_CORRUPT, "offset 12: %u metrics, a blob has 1 to %d", header->metric_count,
                         MEBO_MAX_METRICS);
    return check_offsets(header, length, err);
}

void mebo_header_write(const struct mebo_header *h, unsigned char *p)
{
    unsigned options = (unsigned)h->version | (h->has_tags ? MEBO_FLAG_TAGS : 0U) |
                       (h->big_endian ? MEBO_FLAG_BIG_ENDIAN : 0U) | (h->has_names ? MEBO_FLAG_NAMES : 0U) |
                       (h->has_shared_timestamps ? MEBO_FLAG_SHARED : 0U);
    wire_store16(p, (uint16_t)options, false);
    p[2] = (unsigned char)(h->times_encoding | h->values_encoding << 4);
    p[3] = (unsigned char)(h->times_codec | h->values_codec << 4);
    wire_store64(p + 4, (uint64_t)h->start_time_us, h->big_endian);
    wire_store32(p + 12, h->metric_count, h->big_endian);
    wire_store32(p + 16, h->index_offset, h->big_endian);
    wire_store32(p + 20, h->times_offset, h->big_endian);
    wire_store32(p + 24, h->values_offset, h->big_endian);
    wire_store32(p + 28, h->tags_offset, h->big_endian);
}
