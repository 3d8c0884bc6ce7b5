/* The names section and the index.
 *
 *     names: count u16, then count x (length u16, bytes)
 *     entry, 16 bytes: id u64, points u16, then the lengths of the PREVIOUS metric's columns u16: times,
 * values, tags entry, 32 bytes: id u64, points u32, the same three u32, 8 zero bytes */
#include "base/hash.h"
#include "mebo/layout.h"
#include "mebo/wire.h"

int mebo_names_read(const struct mebo_header *header, const unsigned char *p, size_t length,
                    struct mebo_metric *metrics, size_t *behind, struct arena *arena, struct error *err)
{
    size_t at = MEBO_HEADER_BYTES;
    if (length - at < 2)
        return error_set(err, ERR_CORRUPT, "offset %zu: the names section is cut", at);
    uint32_t count = wire_load16(p + at, header->big_endian);
    if (count != header->metric_count)
        return error_set(err, ERR_CORRUPT, "offset %zu: %u names for %u metrics", at, count,
                         header->metric_count);
    at += 2;
    for (uint32_t i = 0; i < count; i++) {
        size_t name_length = length - at < 2 ? SIZE_MAX : wire_load16(p + at, header->big_endian);
        if (name_length > length - at - 2)
            return error_set(err, ERR_CORRUPT, "offset %zu: the name of metric %u is cut", at, i);
        metrics[i].name = arena_strndup(arena, (const char *)p + at + 2, name_length);
        metrics[i].name_length = name_length;
        if (metrics[i].name == NULL)
            return error_set(err, ERR_NO_MEMORY, "no memory for the names of %u metrics", count);
        at += 2 + name_length;
    }
    *behind = at;
    return 0;
}

struct entry {
    uint64_t id;
    uint32_t count, times, values, tags;
};

static struct entry read_entry(const struct mebo_header *h, const unsigned char *p)
{
    bool big = h->big_endian;
    struct entry e = {.id = wire_load64(p, big)};
    if (h->version == MEBO_V2_EXTENDED) {
        e.count = wire_load32(p + 8, big);
        e.times = wire_load32(p + 12, big);
        e.values = wire_load32(p + 16, big);
        e.tags = wire_load32(p + 20, big);
    } else {
        e.count = wire_load16(p + 8, big);
        e.times = wire_load16(p + 10, big);
        e.values = wire_load16(p + 12, big);
        e.tags = wire_load16(p + 14, big);
    }
    return e;
}

static int check_entry(const struct mebo_header *h, const struct entry *e, const unsigned char *p, size_t at,
                       uint32_t i, const struct mebo_metric *metrics, struct error *err)
{
    if (h->version == MEBO_V2_EXTENDED && wire_load64(p + at + 24, false) != 0)
        return error_set(err, ERR_CORRUPT, "offset %zu: the reserved bytes of metric %u are not zero",
                         at + 24, i);
    if (i == 0 && (e->times != 0 || e->values != 0 || e->tags != 0))
        return error_set(err, ERR_CORRUPT, "offset %zu: the first metric's columns do not begin at 0", at);
    if (!h->has_tags && e->tags != 0)
        return error_set(err, ERR_CORRUPT, "offset %zu: metric %u has a tag column in a blob without tags",
                         at, i);
    if (metrics[i].name && hash64(metrics[i].name, metrics[i].name_length) != e->id)
        return error_set(err, ERR_CORRUPT,
                         "offset %zu: metric %u has id %016llx, which is not the hash of its name %s", at, i,
                         (unsigned long long)e->id, metrics[i].name);
    if (h->version != MEBO_V1 && i > 0 && e->id < metrics[i - 1].id)
        return error_set(err, ERR_CORRUPT,
                         "offset %zu: metric %u has id %016llx, lower than the one before it", at, i,
                         (unsigned long long)e->id);
    return 0;
}

int mebo_index_read(const struct mebo_header *header, const unsigned char *p, size_t at,
                    struct mebo_metric *metrics, struct error *err)
{
    size_t times = 0, values = 0, tags = 0;
    for (uint32_t i = 0; i < header->metric_count; i++, at += mebo_entry_bytes(header->version)) {
        struct entry e = read_entry(header, p + at);
        int rc = check_entry(header, &e, p, at, i, metrics, err);
        if (rc)
            return rc;
        metrics[i].id = e.id;
        metrics[i].count = e.count;
        metrics[i].times_of = i;
        metrics[i].times_offset = times += e.times;
        metrics[i].values_offset = values += e.values;
        metrics[i].tags_offset = tags += e.tags;
    }
    return 0;
}

static int outside(const struct mebo_metric *m, uint32_t i, const char *what, size_t offset, size_t bytes,
                   struct error *err)
{
    return error_set(
        err, ERR_CORRUPT,
        "metric %u (id %016llx): its %s column begins at %zu of a payload of %zu bytes; the index and the "
        "payload do not belong together",
        i, (unsigned long long)m->id, what, offset, bytes);
}

int mebo_index_lengths(struct mebo_metric *metrics, uint32_t count, size_t times_bytes, size_t values_bytes,
                       size_t tags_bytes, struct error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mebo_metric *m = &metrics[i];
        bool last = i + 1 == count;
        size_t times_end = last ? times_bytes : m[1].times_offset;
        size_t values_end = last ? values_bytes : m[1].values_offset;
        size_t tags_end = last ? tags_bytes : m[1].tags_offset;
        if (m->times_offset > times_bytes || times_end > times_bytes)
            return outside(m, i, "timestamp", m->times_offset, times_bytes, err);
        if (m->values_offset > values_bytes || values_end > values_bytes)
            return outside(m, i, "value", m->values_offset, values_bytes, err);
        if (m->tags_offset > tags_bytes || tags_end > tags_bytes)
            return outside(m, i, "tag", m->tags_offset, tags_bytes, err);
        m->times_length = times_end - m->times_offset;
        m->values_length = values_end - m->values_offset;
        m->tags_length = tags_end - m->tags_offset;
    }
    return 0;
}

void mebo_entry_write(const struct mebo_header *header, const struct mebo_metric *metric,
                      const struct mebo_metric *previous, unsigned char *p)
{
    bool big = header->big_endian;
    size_t times = previous ? metric->times_offset - previous->times_offset : 0;
    size_t values = previous ? metric->values_offset - previous->values_offset : 0;
    size_t tags = previous ? metric->tags_offset - previous->tags_offset : 0;
    wire_store64(p, metric->id, big);
    if (header->version == MEBO_V2_EXTENDED) {
        wire_store32(p + 8, metric->count, big);
        wire_store32(p + 12, (uint32_t)times, big);
        wire_store32(p + 16, (uint32_t)values, big);
        wire_store32(p + 20, (uint32_t)tags, big);
        memset(p + 24, 0, 8);
        return;
    }
    wire_store16(p + 8, (uint16_t)metric->count, big);
    wire_store16(p + 10, (uint16_t)times, big);
    wire_store16(p + 12, (uint16_t)values, big);
    wire_store16(p + 14, (uint16_t)tags, big);
}
