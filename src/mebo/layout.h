/* The parts of a blob before its payloads. Internal to src/mebo.
 *
 *     header | [names] | index | [shared table] | times payload | values payload | [tags payload]
 */
#ifndef CHAMBERLAIN_MEBO_LAYOUT_H
#define CHAMBERLAIN_MEBO_LAYOUT_H

#include "mebo/mebo.h"

enum {
    MEBO_HEADER_BYTES = 32,
    MEBO_ENTRY_BYTES = 16,          /* V1 and V2 */
    MEBO_ENTRY_EXTENDED_BYTES = 32, /* V2 extended */
    MEBO_MAX_METRICS = 65536,
    MEBO_MAX_NAMED_METRICS = 65535, /* the names section counts in 16 bits */
    MEBO_COMPACT_MAX = 65535,       /* count and column length in a 16-byte entry */
    MEBO_TEXT_MAGIC = 0xEB10,       /* the text blob, another layout */

    MEBO_FLAG_TAGS = 1,
    MEBO_FLAG_BIG_ENDIAN = 2,
    MEBO_FLAG_NAMES = 4,
    MEBO_FLAG_SHARED = 8,
    MEBO_MAGIC_MASK = 0xFFF0
};

/* Which numbers of the wire mean something for times, values and payloads. */
bool mebo_times_encoding_known(unsigned encoding);
bool mebo_values_encoding_known(unsigned encoding);
bool mebo_codec_known(unsigned codec);

size_t mebo_entry_bytes(enum mebo_version version);

int mebo_header_read(struct mebo_header *header, const unsigned char *p, size_t length, struct error *err);
void mebo_header_write(const struct mebo_header *header, unsigned char *p);

/* Reads the names section into `metrics` (header->metric_count of them) and gives the offset behind it. */
int mebo_names_read(const struct mebo_header *header, const unsigned char *p, size_t length,
                    struct mebo_metric *metrics, size_t *behind, struct arena *arena, struct error *err);

/* Reads the index entries that begin at `at`: ids, counts, column offsets; checks names against ids. Lengths
 * come with mebo_index_lengths, when the payloads' sizes are known. */
int mebo_index_read(const struct mebo_header *header, const unsigned char *p, size_t at,
                    struct mebo_metric *metrics, struct error *err);
int mebo_index_lengths(struct mebo_metric *metrics, uint32_t count, size_t times_bytes, size_t values_bytes,
                       size_t tags_bytes, struct error *err);
void mebo_entry_write(const struct mebo_header *header, const struct mebo_metric *metric,
                      const struct mebo_metric *previous, unsigned char *p);

/* Reads the shared timestamp table in [at, end): sets `times_of`. */
int mebo_shared_read(const struct mebo_header *header, const unsigned char *p, size_t at, size_t end,
                     struct mebo_metric *metrics, struct error *err);
/* After mebo_index_lengths: members take the canonical's column. */
int mebo_shared_apply(struct mebo_metric *metrics, uint32_t count, struct error *err);
/* Bytes of the table that `times_of` describes, 0 when no metric shares; `members[count]` becomes the number
 * of members by canonical metric. */
size_t mebo_shared_bytes(const struct mebo_metric *metrics, uint32_t count, uint32_t *members);
/* Writes it, from what mebo_shared_bytes counted; `cursor` are words of scratch, one a metric. */
void mebo_shared_write(const struct mebo_header *header, const struct mebo_metric *metrics,
                       const uint32_t *members, uint32_t *cursor, unsigned char *p);

#endif
