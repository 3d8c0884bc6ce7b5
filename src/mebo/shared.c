/* The shared timestamp table: groups of metrics with one timestamp column between them.
 *
 *     groups u16, then per group: canonical metric u16, members u16, members x metric u16 */
#include "mebo/layout.h"
#include "mebo/wire.h"

static int table_cut(size_t at, struct error *err)
{
    return error_set(err, ERR_CORRUPT, "offset %zu: the shared timestamp table is cut", at);
}

/* A metric may stand in the table once. Until mebo_shared_apply has run, times_length 1 marks those that did.
 */
static int claim(struct mebo_metric *metrics, uint32_t count, uint32_t metric, size_t at, struct error *err)
{
    if (metric >= count)
        return error_set(err, ERR_CORRUPT,
                         "offset %zu: metric %u in the shared timestamp table of %u metrics", at, metric,
                         count);
    if (metrics[metric].times_length)
        return error_set(err, ERR_CORRUPT, "offset %zu: metric %u stands twice in the shared timestamp table",
                         at, metric);
    metrics[metric].times_length = 1;
    return 0;
}

int mebo_shared_read(const struct mebo_header *header, const unsigned char *p, size_t at, size_t end,
                     struct mebo_metric *metrics, struct error *err)
{
    bool big = header->big_endian;
    if (end - at < 2)
        return table_cut(at, err);
    unsigned groups = wire_load16(p + at, big);
    at += 2;
    if (groups == 0)
        return error_set(err, ERR_CORRUPT, "offset %zu: a shared timestamp table without groups", at - 2);
    for (unsigned g = 0; g < groups; g++) {
        if (end - at < 4)
            return table_cut(at, err);
        uint32_t canonical = wire_load16(p + at, big), members = wire_load16(p + at + 2, big);
        int rc = claim(metrics, header->metric_count, canonical, at, err);
        if (rc)
            return rc;
        at += 4;
        if ((end - at) / 2 < members)
            return table_cut(at, err);
        for (uint32_t m = 0; m < members; m++, at += 2) {
            uint32_t metric = wire_load16(p + at, big);
            if ((rc = claim(metrics, header->metric_count, metric, at, err)) != 0)
                return rc;
            metrics[metric].times_of = canonical;
        }
    }
    if (at != end)
        return error_set(err, ERR_CORRUPT, "offset %zu: %zu bytes are left after the shared timestamp table",
                         at, end - at);
    return 0;
}

int mebo_shared_apply(struct mebo_metric *metrics, uint32_t count, struct error *err)
{
    for (uint32_t i = 0; i < count; i++) {
        struct mebo_metric *m = &metrics[i];
        const struct mebo_metric *canonical = &metrics[m->times_of];
        if (canonical == m)
            continue;
        if (m->times_length != 0 || m->count != canonical->count)
            return error_set(
                err, ERR_CORRUPT,
                "metric %u (id %016llx): shares the timestamps of metric %u but has %zu bytes of its own "
                "and %u points to its %u",
                i, (unsigned long long)m->id, m->times_of, m->times_length, m->count, canonical->count);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct mebo_metric *m = &metrics[i];
        m->times_offset = metrics[m->times_of].times_offset;
        m->times_length = metrics[m->times_of].times_length;
    }
    return 0;
}

size_t mebo_shared_bytes(const struct mebo_metric *metrics, uint32_t count, uint32_t *members)
{
    memset(members, 0, count * sizeof *members);
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t canonical = metrics[i].times_of;
        if (canonical == i)
            continue;
        bytes += members[canonical]++ == 0 ? 4 + 2 : 2;
    }
    return bytes ? bytes + 2 : 0;
}

void mebo_shared_write(const struct mebo_header *header, const struct mebo_metric *metrics,
                       const uint32_t *members, uint32_t *cursor, unsigned char *p)
{
    bool big = header->big_endian;
    unsigned groups = 0;
    uint32_t at = 2;
    for (uint32_t i = 0; i < header->metric_count; i++) {
        if (members[i] == 0)
            continue;
        wire_store16(p + at, (uint16_t)i, big);
        wire_store16(p + at + 2, (uint16_t)members[i], big);
        cursor[i] = at + 4;
        at += 4 + 2 * members[i];
        groups++;
    }
    wire_store16(p, (uint16_t)groups, big);
    for (uint32_t i = 0; i < header->metric_count; i++) {
        uint32_t canonical = metrics[i].times_of;
        if (canonical == i)
            continue;
        wire_store16(p + cursor[canonical], (uint16_t)i, big);
        cursor[canonical] += 2;
    }
}
