/* Writing one blob. The series are kept until the end, because the index stands before the columns and V2
 * sorts it. Columns are encoded straight to their place behind the table; only compressed payloads are moved
 * once more. */
#include "base/hash.h"
#include "mebo/codec.h"
#include "mebo/column.h"
#include "mebo/layout.h"
#include "mebo/wire.h"

#include <stdlib.h>

struct mebo_options mebo_options_default(void)
{
    return (struct mebo_options){.version = MEBO_V1,
                                 .times_encoding = MEBO_DELTA,
                                 .values_encoding = MEBO_GORILLA,
                                 .times_codec = MEBO_NONE,
                                 .values_codec = MEBO_NONE};
}

struct mebo_options mebo_options_tchart(void)
{
    return (struct mebo_options){.version = MEBO_V2,
                                 .times_encoding = MEBO_DELTA,
                                 .values_encoding = MEBO_ALP,
                                 .times_codec = MEBO_NONE,
                                 .values_codec = MEBO_NONE,
                                 .shared_timestamps = true,
                                 .names = true};
}

void mebo_encoder_init(struct mebo_encoder *encoder, const struct mebo_options *options,
                       int64_t start_time_us, struct arena *arena)
{
    *encoder = (struct mebo_encoder){.options = *options, .start_time_us = start_time_us, .arena = arena};
}

static int make_room(struct mebo_encoder *encoder, struct error *err)
{
    enum { FIRST_CAPACITY = 64 };
    if (encoder->count < encoder->capacity)
        return 0;
    uint32_t capacity = encoder->capacity ? encoder->capacity * 2 : FIRST_CAPACITY;
    struct mebo_series *series = arena_alloc(encoder->arena, capacity * sizeof *series);
    if (series == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %u metrics", capacity);
    if (encoder->count)
        memcpy(series, encoder->series, encoder->count * sizeof *series);
    encoder->series = series;
    encoder->capacity = capacity;
    return 0;
}

int mebo_encoder_add(struct mebo_encoder *encoder, const struct mebo_series *series, struct error *err)
{
    struct mebo_series s = *series;
    uint32_t most = encoder->options.names ? MEBO_MAX_NAMED_METRICS : MEBO_MAX_METRICS;
    if (encoder->count == most)
        return error_set(err, ERR_LIMIT, "a blob takes at most %u metrics; start another one", most);
    if (s.name && s.name_length == 0)
        s.name_length = strlen(s.name);
    if (s.name == NULL && (s.id == 0 || encoder->options.names))
        return error_set(err, ERR_INVALID,
                         "metric %u (id %016llx) has no name; give it one or write without names",
                         encoder->count, (unsigned long long)s.id);
    if (s.name_length > UINT16_MAX)
        return error_set(err, ERR_INVALID, "metric %u: a name of %zu bytes, at most 65535 are possible",
                         encoder->count, s.name_length);
    uint64_t hash = s.name ? hash64(s.name, s.name_length) : s.id;
    if (s.id == 0)
        s.id = hash;
    if (s.id != hash)
        return error_set(
            err, ERR_INVALID, "metric %u (%.*s): id %016llx is not its name's hash %016llx; give one of them",
            encoder->count, (int)s.name_length, s.name, (unsigned long long)s.id, (unsigned long long)hash);
    if (s.count == 0)
        return error_set(err, ERR_INVALID, "metric %u (id %016llx) has no points; leave it out",
                         encoder->count, (unsigned long long)s.id);
    int rc = make_room(encoder, err);
    if (rc)
        return rc;
    encoder->series[encoder->count++] = s;
    return 0;
}

size_t mebo_column_bound(enum mebo_encoding encoding, uint32_t count)
{
    size_t point = encoding == MEBO_RAW || encoding == MEBO_ALP ? 8 : 10;
    return point * count + 2 * WIRE_SLACK_BYTES;
}

/* Everything mebo_encoder_finish knows while it works; all memory is the arena's. */
struct job {
    const struct mebo_encoder *encoder;
    struct mebo_header header;
    const struct mebo_series **series; /* in the blob's order */
    struct mebo_metric *metrics;       /* likewise */
    uint32_t *members, *cursor;        /* of the shared table, by metric */
    size_t names_bytes, shared_bytes;
    unsigned char *out;
    struct mebo_bytes times, values, tags; /* payloads, uncompressed, in `out` behind the table */
};

static int check_options(const struct mebo_options *o, struct error *err)
{
    if (o->version != MEBO_V1 && o->version != MEBO_V2 && o->version != MEBO_V2_EXTENDED)
        return error_set(err, ERR_INVALID, "version %04x is none of V1, V2, V2 extended",
                         (unsigned)o->version);
    if (!mebo_times_encoding_known((unsigned)o->times_encoding))
        return error_set(err, ERR_INVALID,
                         "timestamps cannot be encoded as %s; use raw, delta or deltapacked",
                         mebo_encoding_name(o->times_encoding));
    if (!mebo_values_encoding_known((unsigned)o->values_encoding))
        return error_set(err, ERR_INVALID, "values cannot be encoded as %s; use raw, gorilla, chimp or alp",
                         mebo_encoding_name(o->values_encoding));
    if (!mebo_codec_known((unsigned)o->times_codec) || !mebo_codec_known((unsigned)o->values_codec))
        return error_set(err, ERR_INVALID, "codecs %d and %d are not known; use none, zstd, s2 or lz4",
                         (int)o->times_codec, (int)o->values_codec);
    if (o->shared_timestamps && o->version == MEBO_V1)
        return error_set(err, ERR_INVALID, "V1 has no shared timestamps; write V2");
    return 0;
}

static int compare_series(const void *a, const void *b)
{
    const struct mebo_series *x = *(const struct mebo_series *const *)a,
                             *y = *(const struct mebo_series *const *)b;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x < y ? -1 : x > y; /* as added */
}

static int check_twins(const struct mebo_series *const *sorted, uint32_t count, bool names, struct error *err)
{
    for (uint32_t i = 1; i < count; i++) {
        const struct mebo_series *a = sorted[i - 1], *b = sorted[i];
        if (a->id != b->id)
            continue;
        if (!names || (a->name_length == b->name_length && memcmp(a->name, b->name, a->name_length) == 0))
            return error_set(err, ERR_INVALID,
                             "two metrics have the id %016llx; add each once (or write the names "
                             "section if their names differ)",
                             (unsigned long long)a->id);
    }
    return 0;
}

/* Puts the series into the blob's order and refuses equal ones. */
static int order_series(struct job *job, struct error *err)
{
    uint32_t count = job->encoder->count;
    const struct mebo_series **sorted = arena_alloc(job->encoder->arena, count * sizeof *sorted);
    if (job->series == NULL || sorted == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to order %u metrics", count);
    for (uint32_t i = 0; i < count; i++)
        sorted[i] = job->series[i] = &job->encoder->series[i];
    qsort(sorted, count, sizeof *sorted, compare_series);
    if (job->header.version != MEBO_V1)
        job->series = sorted;
    return check_twins(sorted, count, job->header.has_names, err);
}

static bool has_tags(const struct mebo_encoder *encoder)
{
    for (uint32_t i = 0; i < encoder->count; i++) {
        const struct mebo_series *s = &encoder->series[i];
        for (uint32_t k = 0; s->tags && k < s->count; k++) {
            if (s->tags[k].length > 0)
                return true;
        }
    }
    return false;
}

/* ---- which metrics share their timestamps ---- */

static bool same_times(const struct mebo_series *a, const struct mebo_series *b)
{
    return a->count == b->count && (a->times_us == b->times_us ||
                                    memcmp(a->times_us, b->times_us, a->count * sizeof *a->times_us) == 0);
}

/* A cheap key: few columns that differ have the same length, ends and middle. */
static uint64_t times_key(const struct mebo_series *s)
{
    uint64_t words[4] = {s->count, (uint64_t)s->times_us[0], (uint64_t)s->times_us[s->count / 2],
                         (uint64_t)s->times_us[s->count - 1]};
    return hash64(words, sizeof words);
}

static int group_times(struct job *job, struct error *err)
{
    uint32_t count = job->encoder->count, slots = 4;
    while (slots < 2 * count)
        slots *= 2;
    uint32_t *table = arena_calloc(job->encoder->arena, slots, sizeof *table); /* canonical + 1 */
    if (table == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to compare the timestamps of %u metrics", count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = (uint32_t)times_key(job->series[i]) & (slots - 1);
        while (table[slot] && !same_times(job->series[table[slot] - 1], job->series[i]))
            slot = (slot + 1) & (slots - 1);
        if (table[slot] == 0)
            table[slot] = i + 1;
        job->metrics[i].times_of = table[slot] - 1;
    }
    job->shared_bytes = mebo_shared_bytes(job->metrics, count, job->members);
    job->header.has_shared_timestamps = job->shared_bytes > 0;
    return 0;
}

/* ---- columns ---- */

static unsigned char *encode_times(const struct job *job, const struct mebo_series *s, unsigned char *out)
{
    switch (job->header.times_encoding) {
    case MEBO_DELTA:
        return mebo_delta_encode(out, s->times_us, s->count);
    case MEBO_DELTA_PACKED:
        return mebo_delta_packed_encode(out, s->times_us, s->count);
    default:
        return mebo_raw_encode(out, s->times_us, s->count, job->header.big_endian);
    }
}

static unsigned char *encode_values(const struct job *job, const struct mebo_series *s, unsigned char *out)
{
    switch (job->header.values_encoding) {
    case MEBO_GORILLA:
        return mebo_gorilla_encode(out, s->values, s->count);
    case MEBO_CHIMP:
        return mebo_chimp_encode(out, s->values, s->count);
    case MEBO_ALP:
        return mebo_alp_encode(out, s->values, s->count, job->header.big_endian, job->encoder->left_counts);
    default:
        return mebo_raw_encode(out, s->values, s->count, job->header.big_endian);
    }
}

static unsigned char *encode_tags(const struct mebo_series *s, unsigned char *out)
{
    for (uint32_t k = 0; k < s->count; k++) {
        size_t length = s->tags ? s->tags[k].length : 0;
        out = wire_write_varint(out, length);
        if (length)
            memcpy(out, s->tags[k].text, length);
        out += length;
    }
    return out;
}

static int encode_columns(struct job *job, unsigned char *out, struct error *err)
{
    uint32_t count = job->encoder->count;
    unsigned char *start = out;
    for (uint32_t i = 0; i < count; i++) {
        job->metrics[i].times_offset = (size_t)(out - start);
        if (job->metrics[i].times_of != i)
            continue;
        out = encode_times(job, job->series[i], out);
        if (out == NULL)
            return error_set(
                err, ERR_INVALID,
                "metric %u (id %016llx): timestamps jump by 2^62 microseconds or more, which delta cannot "
                "hold; use raw or deltapacked",
                i, (unsigned long long)job->metrics[i].id);
    }
    job->times = (struct mebo_bytes){start, (size_t)(out - start)};
    start = out;
    for (uint32_t i = 0; i < count; i++) {
        job->metrics[i].values_offset = (size_t)(out - start);
        out = encode_values(job, job->series[i], out);
    }
    job->values = (struct mebo_bytes){start, (size_t)(out - start)};
    start = out;
    for (uint32_t i = 0; i < count && job->header.has_tags; i++) {
        job->metrics[i].tags_offset = (size_t)(out - start);
        out = encode_tags(job->series[i], out);
    }
    job->tags = (struct mebo_bytes){start, (size_t)(out - start)};
    return 0;
}

/* The longest column, or the largest count, that the index has to hold. A last column's length is not
 * written. */
static size_t largest_number(const struct job *job)
{
    size_t largest = 0;
    for (uint32_t i = 0; i < job->encoder->count; i++) {
        const struct mebo_metric *m = &job->metrics[i], *previous = i ? m - 1 : m;
        size_t numbers[4] = {m->count, m->times_offset - previous->times_offset,
                             m->values_offset - previous->values_offset,
                             m->tags_offset - previous->tags_offset};
        for (unsigned k = 0; k < 4; k++)
            largest = numbers[k] > largest ? numbers[k] : largest;
    }
    return largest;
}

/* Finds whether the 16-byte index holds the columns; V2 takes the wider one where it does not. */
static int settle_version(struct job *job, struct error *err)
{
    size_t largest = largest_number(job);
    if (largest > UINT32_MAX)
        return error_set(err, ERR_LIMIT,
                         "a column of %zu bytes, a blob has at most 4 GiB; write shorter blobs", largest);
    if (largest <= MEBO_COMPACT_MAX)
        return 0;
    if (job->header.version == MEBO_V1)
        return error_set(
            err, ERR_LIMIT,
            "V1 holds at most %d points and column bytes a metric, here are %zu; write V2 or shorter blobs",
            MEBO_COMPACT_MAX, largest);
    job->header.version = MEBO_V2_EXTENDED;
    return 0;
}

/* ---- the blob ---- */

static size_t names_bytes(const struct mebo_encoder *encoder)
{
    size_t bytes = 2;
    for (uint32_t i = 0; i < encoder->count; i++)
        bytes += 2 + encoder->series[i].name_length;
    return bytes;
}

static size_t tags_bound(const struct job *job)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < job->encoder->count && job->header.has_tags; i++) {
        const struct mebo_series *s = job->series[i];
        for (uint32_t k = 0; k < s->count; k++)
            bytes += (size_t)WIRE_VARINT_BYTES + (s->tags ? s->tags[k].length : 0);
    }
    return bytes;
}

/* Bytes for everything uncompressed, whatever the columns turn out to be. Pages that are not written cost
 * nothing. */
static size_t blob_bound(const struct job *job)
{
    size_t bytes =
        MEBO_HEADER_BYTES + job->names_bytes + job->shared_bytes + tags_bound(job) + WIRE_SLACK_BYTES;
    for (uint32_t i = 0; i < job->encoder->count; i++) {
        bytes +=
            MEBO_ENTRY_EXTENDED_BYTES + mebo_column_bound(job->header.values_encoding, job->series[i]->count);
        if (job->metrics[i].times_of == i)
            bytes += mebo_column_bound(job->header.times_encoding, job->series[i]->count);
    }
    return bytes;
}

static size_t payloads_at(const struct job *job)
{
    return MEBO_HEADER_BYTES + job->names_bytes +
           job->encoder->count * mebo_entry_bytes(job->header.version) + job->shared_bytes;
}

static void write_front(struct job *job)
{
    const struct mebo_header *h = &job->header;
    unsigned char *p = job->out + MEBO_HEADER_BYTES;
    mebo_header_write(h, job->out);
    if (h->has_names) {
        wire_store16(p, (uint16_t)h->metric_count, h->big_endian);
        p += 2;
        for (uint32_t i = 0; i < h->metric_count; i++) {
            const struct mebo_series *s = job->series[i];
            wire_store16(p, (uint16_t)s->name_length, h->big_endian);
            memcpy(p + 2, s->name, s->name_length);
            p += 2 + s->name_length;
        }
    }
    for (uint32_t i = 0; i < h->metric_count; i++, p += mebo_entry_bytes(h->version))
        mebo_entry_write(h, &job->metrics[i], i ? &job->metrics[i - 1] : NULL, p);
    if (h->has_shared_timestamps)
        mebo_shared_write(h, job->metrics, job->members, job->cursor, p);
}

/* The payloads follow each other in job->out, uncompressed; a wider index than planned moves them as one. */
static void place_payloads(struct job *job, size_t offsets[static 4])
{
    size_t at = payloads_at(job);
    memmove(job->out + at, job->times.data, job->times.length + job->values.length);
    offsets[0] = at;
    offsets[1] = at + job->times.length;
    offsets[2] = offsets[3] = offsets[1] + job->values.length;
}

/* Compresses the payloads into a new buffer, which becomes job->out. */
static int pack_payloads(struct job *job, size_t offsets[static 4], struct error *err)
{
    const struct mebo_options *o = &job->encoder->options;
    const enum mebo_codec codecs[3] = {o->times_codec, o->values_codec, MEBO_ZSTD};
    const struct mebo_bytes payloads[3] = {job->times, job->values, job->tags};
    size_t bound = payloads_at(job);
    for (unsigned i = 0; i < 3; i++)
        bound += mebo_payload_bound(codecs[i], payloads[i].length);
    unsigned char *to = arena_alloc(job->encoder->arena, bound);
    if (to == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a blob of up to %zu bytes", bound);
    offsets[0] = payloads_at(job);
    for (unsigned i = 0; i < 3; i++) {
        size_t written;
        int rc = mebo_payload_pack(codecs[i], o->zstd_level, payloads[i], to + offsets[i], &written, err);
        if (rc)
            return rc;
        offsets[i + 1] = offsets[i] + written;
    }
    job->out = to;
    return 0;
}

static int finish_payloads(struct job *job, size_t *end, struct error *err)
{
    const struct mebo_options *o = &job->encoder->options;
    size_t offsets[4] = {0}; /* of times, values, tags, and the end */
    int rc = 0;
    if (o->times_codec == MEBO_NONE && o->values_codec == MEBO_NONE && !job->header.has_tags)
        place_payloads(job, offsets);
    else
        rc = pack_payloads(job, offsets, err);
    if (rc)
        return rc;
    if (offsets[3] > UINT32_MAX)
        return error_set(err, ERR_LIMIT,
                         "a blob of %zu bytes, at most 4 GiB are possible; write shorter blobs", offsets[3]);
    job->header.index_offset = (uint32_t)(MEBO_HEADER_BYTES + job->names_bytes);
    job->header.times_offset = (uint32_t)offsets[0];
    job->header.values_offset = (uint32_t)offsets[1];
    job->header.tags_offset = (uint32_t)offsets[2];
    *end = offsets[3];
    return 0;
}

static int prepare(struct job *job, struct error *err)
{
    const struct mebo_encoder *encoder = job->encoder;
    const struct mebo_options *o = &encoder->options;
    job->header = (struct mebo_header){.version = o->version,
                                       .times_encoding = o->times_encoding,
                                       .values_encoding = o->values_encoding,
                                       .times_codec = o->times_codec,
                                       .values_codec = o->values_codec,
                                       .big_endian = o->big_endian,
                                       .has_names = o->names,
                                       .has_tags = has_tags(encoder),
                                       .start_time_us = encoder->start_time_us,
                                       .metric_count = encoder->count};
    job->series = arena_alloc(encoder->arena, encoder->count * sizeof *job->series);
    job->metrics = arena_calloc(encoder->arena, encoder->count, sizeof *job->metrics);
    job->members = arena_calloc(encoder->arena, encoder->count, sizeof *job->members);
    job->cursor = arena_calloc(encoder->arena, encoder->count, sizeof *job->cursor);
    if (job->series == NULL || job->metrics == NULL || job->members == NULL || job->cursor == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for an index of %u metrics", encoder->count);
    int rc = order_series(job, err);
    for (uint32_t i = 0; i < encoder->count && rc == 0; i++)
        job->metrics[i] =
            (struct mebo_metric){.id = job->series[i]->id, .count = job->series[i]->count, .times_of = i};
    job->names_bytes = o->names ? names_bytes(encoder) : 0;
    return rc == 0 && o->shared_timestamps ? group_times(job, err) : rc;
}

int mebo_encoder_finish(struct mebo_encoder *encoder, struct mebo_bytes *blob, struct error *err)
{
    struct job job = {.encoder = encoder};
    int rc = check_options(&encoder->options, err);
    if (rc)
        return rc;
    if (encoder->count == 0)
        return error_set(err, ERR_INVALID, "a blob needs at least one metric; add some first");
    if (encoder->options.values_encoding == MEBO_ALP && encoder->left_counts == NULL) {
        encoder->left_counts =
            arena_calloc(encoder->arena, MEBO_ALP_LEFT_VALUES, sizeof *encoder->left_counts);
        if (encoder->left_counts == NULL)
            return error_set(err, ERR_NO_MEMORY, "no memory for the ALP encoder's counts");
    }
    if ((rc = prepare(&job, err)) != 0)
        return rc;
    size_t bound = blob_bound(&job), end = 0;
    job.out = arena_alloc(encoder->arena, bound);
    if (job.out == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a blob of up to %zu bytes", bound);
    if ((rc = encode_columns(&job, job.out + payloads_at(&job), err)) != 0)
        return rc;
    if ((rc = settle_version(&job, err)) != 0 || (rc = finish_payloads(&job, &end, err)) != 0)
        return rc;
    write_front(&job);
    *blob = (struct mebo_bytes){job.out, end};
    return 0;
}
