/* One blob: opening it, finding metrics, decoding their columns. */
#include "base/hash.h"
#include "mebo/codec.h"
#include "mebo/column.h"
#include "mebo/layout.h"
#include "mebo/wire.h"

#include <stdlib.h>

struct mebo_limits mebo_limits_default(void)
{
    return (struct mebo_limits){.payload_bytes = (size_t)128 << 20,
                                .set_bytes = (size_t)1 << 30,
                                .metrics = MEBO_MAX_METRICS,
                                .points = UINT64_C(1) << 26};
}

static int read_index(struct mebo_blob *blob, const unsigned char *p, size_t length,
                      struct mebo_metric *metrics, struct error *err)
{
    const struct mebo_header *h = &blob->header;
    size_t index_at = MEBO_HEADER_BYTES;
    int rc = 0;
    if (h->has_names && (rc = mebo_names_read(h, p, length, metrics, &index_at, blob->arena, err)) != 0)
        return rc;
    if (h->index_offset != index_at)
        return error_set(err, ERR_CORRUPT, "offset 16: index offset %u, but the index begins at %zu",
                         h->index_offset, index_at);
    size_t index_bytes = h->metric_count * mebo_entry_bytes(h->version);
    if (index_bytes > length - index_at)
        return error_set(err, ERR_CORRUPT,
                         "offset %zu: an index of %u metrics is beyond the blob's %zu bytes", index_at,
                         h->metric_count, length);
    size_t index_end = index_at + index_bytes;
    if (h->times_offset < index_end || (!h->has_shared_timestamps && h->times_offset != index_end))
        return error_set(err, ERR_CORRUPT,
                         "offset 20: timestamp payload offset %u, but the index of %u metrics ends at %zu",
                         h->times_offset, h->metric_count, index_end);
    if ((rc = mebo_index_read(h, p, index_at, metrics, err)) != 0)
        return rc;
    if (h->has_shared_timestamps)
        rc = mebo_shared_read(h, p, index_end, h->times_offset, metrics, err);
    return rc;
}

static int open_payload(struct mebo_blob *blob, const char *what, enum mebo_codec codec,
                        const unsigned char *p, size_t from, size_t to, size_t limit_bytes,
                        struct mebo_bytes *payload, struct error *err)
{
    struct mebo_bytes packed = {p + from, to - from};
    int rc = mebo_payload_open(codec, packed, limit_bytes, blob->arena, payload, err);
    if (rc)
        return error_prefix(err, rc, "%s payload at offset %zu (%s, %zu bytes)", what, from,
                            mebo_codec_name(codec), to - from);
    if (payload->data != packed.data)
        blob->decompressed_bytes += payload->length;
    return 0;
}

static int open_payloads(struct mebo_blob *blob, const unsigned char *p, size_t length, size_t limit_bytes,
                         struct error *err)
{
    const struct mebo_header *h = &blob->header;
    int rc = open_payload(blob, "timestamp", h->times_codec, p, h->times_offset, h->values_offset,
                          limit_bytes, &blob->times, err);
    if (rc == 0)
        rc = open_payload(blob, "value", h->values_codec, p, h->values_offset, h->tags_offset, limit_bytes,
                          &blob->values, err);
    if (rc == 0 && h->has_tags)
        rc = open_payload(blob, "tag", MEBO_ZSTD, p, h->tags_offset, length, limit_bytes, &blob->tags, err);
    return rc;
}

struct id_at {
    uint64_t id;
    uint32_t at;
};

static int compare_ids(const void *a, const void *b)
{
    const struct id_at *x = a, *y = b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* The same id may stand twice only under two names. */
static int check_twins(const struct mebo_metric *a, const struct mebo_metric *b, struct error *err)
{
    if (a->id != b->id)
        return 0;
    bool differ =
        a->name && (a->name_length != b->name_length || memcmp(a->name, b->name, a->name_length) != 0);
    return differ ? 0
                  : error_set(err, ERR_CORRUPT, "two metrics have the id %016llx", (unsigned long long)a->id);
}

static int order_by_id(struct mebo_blob *blob, struct error *err)
{
    uint32_t count = blob->header.metric_count, i = 1;
    const struct mebo_metric *metrics = blob->metrics;
    int rc = 0;
    while (i < count && metrics[i - 1].id <= metrics[i].id && rc == 0) {
        rc = check_twins(&metrics[i - 1], &metrics[i], err);
        i++;
    }
    if (rc || i >= count)
        return rc;
    struct id_at *order = arena_alloc(blob->arena, count * sizeof *order);
    uint32_t *by_id = arena_alloc(blob->arena, count * sizeof *by_id);
    if (order == NULL || by_id == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to sort %u metrics", count);
    for (i = 0; i < count; i++)
        order[i] = (struct id_at){metrics[i].id, i};
    qsort(order, count, sizeof *order, compare_ids);
    for (i = 0; i < count; i++) {
        by_id[i] = order[i].at;
        if (i > 0 && (rc = check_twins(&metrics[order[i - 1].at], &metrics[order[i].at], err)) != 0)
            return rc;
    }
    blob->by_id = by_id;
    return 0;
}

static int check_limits(const struct mebo_blob *blob, const struct mebo_limits *limits, struct error *err)
{
    if (blob->points > limits->points)
        return error_set(
            err, ERR_LIMIT, "%llu points in %u metrics, the limit is %llu; raise it if the blob is trusted",
            (unsigned long long)blob->points, blob->header.metric_count, (unsigned long long)limits->points);
    return 0;
}

int mebo_blob_open(struct mebo_blob *blob, const void *bytes, size_t length, struct arena *arena,
                   const struct mebo_limits *limits, struct error *err)
{
    struct mebo_limits defaults = mebo_limits_default();
    limits = limits ? limits : &defaults;
    *blob = (struct mebo_blob){.arena = arena};
    const unsigned char *p = bytes;
    int rc = mebo_header_read(&blob->header, p, length, err);
    if (rc)
        return rc;
    uint32_t count = blob->header.metric_count;
    if (count > limits->metrics)
        return error_set(err, ERR_LIMIT, "offset 12: %u metrics, the limit is %u", count, limits->metrics);
    if (count * mebo_entry_bytes(blob->header.version) > length) /* before memory is taken for them */
        return error_set(err, ERR_CORRUPT, "offset 12: %u metrics are beyond the blob's %zu bytes", count,
                         length);
    struct mebo_metric *metrics = arena_calloc(arena, count, sizeof *metrics);
    blob->times_cache = arena_calloc(arena, count, sizeof *blob->times_cache);
    if (metrics == NULL || blob->times_cache == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for an index of %u metrics", count);
    blob->metrics = metrics;
    if ((rc = read_index(blob, p, length, metrics, err)) != 0)
        return rc;
    for (uint32_t i = 0; i < count; i++)
        blob->points += metrics[i].count;
    if ((rc = check_limits(blob, limits, err)) != 0 ||
        (rc = open_payloads(blob, p, length, limits->payload_bytes, err)) != 0 ||
        (rc = mebo_index_lengths(metrics, count, blob->times.length, blob->values.length, blob->tags.length,
                                 err)) != 0 ||
        (rc = mebo_shared_apply(metrics, count, err)) != 0)
        return rc;
    return order_by_id(blob, err);
}

/* ---- finding ---- */

static uint32_t metric_at(const struct mebo_blob *blob, uint32_t rank)
{
    return blob->by_id ? blob->by_id[rank] : rank;
}

/* The first rank whose id is not below `id`. */
static uint32_t lower_rank(const struct mebo_blob *blob, uint64_t id)
{
    uint32_t low = 0, high = blob->header.metric_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (blob->metrics[metric_at(blob, middle)].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int mebo_blob_find(const struct mebo_blob *blob, uint64_t id, uint32_t *metric)
{
    uint32_t rank = lower_rank(blob, id);
    if (rank == blob->header.metric_count || blob->metrics[metric_at(blob, rank)].id != id)
        return ERR_NOT_FOUND;
    *metric = metric_at(blob, rank);
    return 0;
}

int mebo_blob_find_name(const struct mebo_blob *blob, const char *name, uint32_t *metric)
{
    size_t length = strlen(name);
    uint64_t id = hash64(name, length);
    for (uint32_t rank = lower_rank(blob, id); rank < blob->header.metric_count; rank++) {
        const struct mebo_metric *m = &blob->metrics[metric_at(blob, rank)];
        if (m->id != id)
            break;
        if (m->name && (m->name_length != length || memcmp(m->name, name, length) != 0))
            continue;
        *metric = metric_at(blob, rank);
        return 0;
    }
    return ERR_NOT_FOUND;
}

/* ---- columns ---- */

static int no_such_metric(const struct mebo_blob *blob, uint32_t metric, struct error *err)
{
    return error_set(err, ERR_INVALID, "metric %u of %u", metric, blob->header.metric_count);
}

/* The column's place for a message: payload offsets are counted after decompression. */
static int in_column(const struct mebo_metric *m, uint32_t metric, const char *what, size_t offset,
                     size_t length, int rc, struct error *err)
{
    return error_prefix(err, rc, "metric %u (id %016llx): %s column, payload offset %zu, %zu bytes", metric,
                        (unsigned long long)m->id, what, offset, length);
}

/* Column bytes for points there are none of, or the other way round. */
static int check_empty(const struct mebo_metric *m, size_t length, struct error *err)
{
    if (m->count == 0 && length != 0)
        return error_set(err, ERR_CORRUPT, "byte 0: the column is not empty but the index says 0 points");
    return 0;
}

int mebo_blob_values(const struct mebo_blob *blob, uint32_t metric, double *values, struct error *err)
{
    if (metric >= blob->header.metric_count)
        return no_such_metric(blob, metric, err);
    const struct mebo_metric *m = &blob->metrics[metric];
    const unsigned char *p = (const unsigned char *)blob->values.data + m->values_offset;
    size_t length = m->values_length;
    bool big = blob->header.big_endian;
    int rc = check_empty(m, length, err);
    if (rc == 0 && m->count > 0) {
        switch (blob->header.values_encoding) {
        case MEBO_GORILLA:
            rc = mebo_gorilla_decode(p, length, m->count, values, err);
            break;
        case MEBO_CHIMP:
            rc = mebo_chimp_decode(p, length, m->count, values, err);
            break;
        case MEBO_ALP:
            rc = mebo_alp_decode(p, length, m->count, big, values, err);
            break;
        default:
            rc = mebo_raw_decode(p, length, m->count, big, values, err);
        }
    }
    return rc ? in_column(m, metric, "value", m->values_offset, length, rc, err) : 0;
}

int mebo_blob_read_timestamps(const struct mebo_blob *blob, uint32_t metric, int64_t *times_us,
                              struct error *err)
{
    if (metric >= blob->header.metric_count)
        return no_such_metric(blob, metric, err);
    const struct mebo_metric *m = &blob->metrics[metric];
    const unsigned char *p = (const unsigned char *)blob->times.data + m->times_offset;
    size_t length = m->times_length;
    int rc = check_empty(m, length, err);
    if (rc == 0 && m->count > 0) {
        switch (blob->header.times_encoding) {
        case MEBO_DELTA:
            rc = mebo_delta_decode(p, length, m->count, times_us, err);
            break;
        case MEBO_DELTA_PACKED:
            rc = mebo_delta_packed_decode(p, length, m->count, times_us, err);
            break;
        default:
            rc = mebo_raw_decode(p, length, m->count, blob->header.big_endian, times_us, err);
        }
    }
    return rc ? in_column(m, metric, "timestamp", m->times_offset, length, rc, err) : 0;
}

static bool same_times(const struct mebo_blob *blob, uint32_t a, uint32_t b)
{
    const struct mebo_metric *x = &blob->metrics[a], *y = &blob->metrics[b];
    const unsigned char *payload = blob->times.data;
    if (x->count != y->count || x->times_length != y->times_length)
        return false;
    return x->times_offset == y->times_offset || x->times_length == 0 ||
           memcmp(payload + x->times_offset, payload + y->times_offset, x->times_length) == 0;
}

uint32_t mebo_blob_times_class(struct mebo_blob *blob, uint32_t metric)
{
    uint32_t canonical = blob->metrics[metric].times_of;
    for (unsigned i = 0; i < MEBO_RECENT_TIMES; i++) {
        if (blob->recent[i] && same_times(blob, blob->recent[i] - 1, canonical))
            return blob->recent[i] - 1;
    }
    blob->recent[blob->recent_next] = canonical + 1;
    blob->recent_next = (blob->recent_next + 1) % MEBO_RECENT_TIMES;
    return canonical;
}

int mebo_blob_timestamps(struct mebo_blob *blob, uint32_t metric, const int64_t **times_us, struct error *err)
{
    if (metric >= blob->header.metric_count)
        return no_such_metric(blob, metric, err);
    uint32_t class = mebo_blob_times_class(blob, metric);
    if (blob->times_cache[class] == NULL) {
        size_t bytes = (size_t)blob->metrics[class].count * sizeof(int64_t);
        int64_t *times = arena_alloc(blob->arena, bytes);
        if (times == NULL)
            return error_set(err, ERR_NO_MEMORY, "no memory for %zu bytes of timestamps", bytes);
        int rc = mebo_blob_read_timestamps(blob, class, times, err);
        if (rc)
            return rc;
        blob->times_cache[class] = times;
    }
    *times_us = blob->times_cache[class];
    return 0;
}

int mebo_blob_tags(const struct mebo_blob *blob, uint32_t metric, struct mebo_text *tags, struct error *err)
{
    if (metric >= blob->header.metric_count)
        return no_such_metric(blob, metric, err);
    const struct mebo_metric *m = &blob->metrics[metric];
    if (!blob->header.has_tags) {
        for (uint32_t i = 0; i < m->count; i++)
            tags[i] = (struct mebo_text){"", 0};
        return 0;
    }
    const unsigned char *start = (const unsigned char *)blob->tags.data + m->tags_offset, *p = start;
    const unsigned char *end = p + m->tags_length;
    int rc = 0;
    for (uint32_t i = 0; i < m->count && rc == 0; i++) {
        uint64_t length = 0;
        const unsigned char *text = wire_read_varint(p, end, &length);
        if (text == NULL || length > (uint64_t)(end - text)) {
            rc = error_set(err, ERR_CORRUPT, "byte %zu: the tag of point %u is cut", (size_t)(p - start), i);
            break;
        }
        tags[i] = (struct mebo_text){(const char *)text, (size_t)length};
        p = text + length;
    }
    if (rc == 0 && p != end)
        rc = error_set(err, ERR_CORRUPT, "byte %zu: %zu bytes are left after the last tag",
                       (size_t)(p - start), (size_t)(end - p));
    return rc ? in_column(m, metric, "tag", m->tags_offset, m->tags_length, rc, err) : 0;
}
