/* S2 blocks: a Snappy block with one element more, the repeat of the last offset. Layout:
 *
 *     varint decoded length | elements
 *     element by the low 2 bits of its first byte t:
 *       00 literal  n = t >> 2: n + 1 bytes follow, or for 60..63 a length - 1 of 1..4 bytes and then the
 * bytes 01 copy     length 4 + (t >> 2 & 7), offset (t & 0xE0) << 3 | next byte; offset 0 is the repeat: L =
 * t >> 2 & 7: length L + 4, or for 5, 6, 7 a length of 1, 2, 3 bytes plus 8, 260, 65540 10 copy     length 1
 * + (t >> 2), offset of 2 bytes 11 copy     length 1 + (t >> 2), offset of 4 bytes all little endian; a copy
 * may overlap itself. */
#include "mebo/codec.h"
#include "mebo/wire.h"

enum { LITERAL = 0, COPY1 = 1, COPY2 = 2, COPY4 = 3 };
enum { REPEAT_BASE_1 = 8, REPEAT_BASE_2 = 260, REPEAT_BASE_3 = 65540 };

int mebo_s2_length(struct mebo_bytes in, uint64_t *length, size_t *elements_at, struct error *err)
{
    const unsigned char *p = in.data, *next = wire_read_varint(p, p + in.length, length);
    if (next == NULL)
        return error_set(err, ERR_CORRUPT, "byte 0: the decoded length is cut or too long");
    *elements_at = (size_t)(next - p);
    return 0;
}

struct element {
    unsigned kind;
    size_t length;
    size_t offset; /* of a copy; 0 with COPY1 is the repeat */
    size_t bytes;  /* of the element's head */
};

static uint32_t load_le(const unsigned char *p, unsigned bytes)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint32_t)p[i] << 8 * i;
    return v;
}

/* Reads an element's head from the `left` bytes at p; false when it is cut. */
static bool read_head(const unsigned char *p, size_t left, struct element *e)
{
    static const size_t repeat_base[3] = {REPEAT_BASE_1, REPEAT_BASE_2, REPEAT_BASE_3};
    unsigned tag = p[0], high = tag >> 2;
    *e = (struct element){.kind = tag & 3};
    unsigned extra;
    switch (e->kind) {
    case LITERAL:
        extra = high < 60 ? 0 : high - 59;
        if (left <= extra)
            return false;
        e->length = (extra ? (size_t)load_le(p + 1, extra) : high) + 1;
        break;
    case COPY1:
        extra = 1;
        if (left <= extra)
            return false;
        e->offset = (size_t)(tag & 0xE0) << 3 | p[1];
        high &= 7;
        e->length = 4 + high;
        if (e->offset == 0 && high >= 5) {
            unsigned more = high - 4;
            extra += more;
            if (left <= extra)
                return false;
            e->length = load_le(p + 2, more) + repeat_base[more - 1];
        }
        break;
    default:
        extra = e->kind == COPY2 ? 2 : 4;
        if (left <= extra)
            return false;
        e->offset = load_le(p + 1, extra);
        e->length = 1 + high;
    }
    e->bytes = 1 + extra;
    return true;
}

static void copy_within(unsigned char *out, size_t to, size_t offset, size_t length)
{
    unsigned char *d = out + to;
    const unsigned char *s = d - offset;
    if (offset >= length) {
        memcpy(d, s, length);
    } else if (offset == 1) {
        memset(d, *s, length);
    } else {
        while (length > offset) { /* what was written doubles what may be copied at once */
            memcpy(d, s, offset);
            d += offset;
            length -= offset;
            offset *= 2;
        }
        memcpy(d, s, length);
    }
}

struct s2_reader {
    const unsigned char *in;
    size_t in_length, at;
    unsigned char *out;
    size_t length, done, last_offset;
};

enum { FAST_LITERAL = 16, FAST_ROOM = 80 };

/* Short literals and copies from 16 bytes back or more, as long as both sides have room to move whole blocks
 * of 16 bytes. Returns at the first element that is anything else, or wrong. */
static void decode_fast(struct s2_reader *r)
{
    const unsigned char *in = r->in;
    size_t at = r->at, done = r->done, last_offset = r->last_offset;
    while (r->in_length - at >= FAST_ROOM && r->length - done >= FAST_ROOM) {
        unsigned tag = in[at], high = tag >> 2;
        unsigned char *to = r->out + done;
        size_t length, offset, bytes;
        if ((tag & 3) == LITERAL) {
            if (high >= FAST_LITERAL)
                break;
            memcpy(to, in + at + 1, FAST_LITERAL);
            at += high + 2;
            done += high + 1;
            continue;
        }
        if ((tag & 3) == COPY2) {
            length = high + 1;
            offset = wire_load16(in + at + 1, false);
            bytes = 3;
        } else if ((tag & 3) == COPY1) {
            length = 4 + (high & 7);
            offset = (size_t)(tag & 0xE0) << 3 | in[at + 1];
            bytes = 2;
            if (offset == 0) {
                offset = last_offset;
                if (length > 8)
                    break;
            }
        } else {
            break;
        }
        if (offset < 16 || offset > done)
            break;
        for (size_t k = 0; k < length; k += 16)
            memcpy(to + k, to + k - offset, 16);
        last_offset = offset;
        at += bytes;
        done += length;
    }
    r->at = at;
    r->done = done;
    r->last_offset = last_offset;
}

static int decode_element(struct s2_reader *r, struct error *err)
{
    struct element e;
    size_t at = r->at;
    if (!read_head(r->in + at, r->in_length - at, &e))
        return error_set(err, ERR_CORRUPT, "byte %zu: an S2 element is cut by the payload's end", at);
    if (e.length > r->length - r->done)
        return error_set(err, ERR_CORRUPT,
                         "byte %zu: an S2 element of %zu bytes, but only %zu of %zu are missing", at,
                         e.length, r->length - r->done, r->length);
    r->at += e.bytes;
    if (e.kind == LITERAL) {
        if (e.length > r->in_length - r->at)
            return error_set(err, ERR_CORRUPT,
                             "byte %zu: an S2 literal of %zu bytes is cut by the payload's end", at,
                             e.length);
        memcpy(r->out + r->done, r->in + r->at, e.length);
        r->at += e.length;
    } else {
        if (e.kind != COPY1 || e.offset != 0)
            r->last_offset = e.offset;
        if (r->last_offset == 0 || r->last_offset > r->done)
            return error_set(err, ERR_CORRUPT,
                             "byte %zu: an S2 copy from %zu bytes back, where %zu are written", at,
                             r->last_offset, r->done);
        copy_within(r->out, r->done, r->last_offset, e.length);
    }
    r->done += e.length;
    return 0;
}

int mebo_s2_decode(struct mebo_bytes in, size_t at, unsigned char *out, size_t length, struct error *err)
{
    struct s2_reader r = {.in = in.data, .in_length = in.length, .at = at, .out = out, .length = length};
    int rc = 0;
    decode_fast(&r);
    while (r.at < r.in_length && rc == 0) {
        rc = decode_element(&r, err);
        if (rc == 0)
            decode_fast(&r);
    }
    if (rc == 0 && r.done != length)
        rc = error_set(err, ERR_CORRUPT, "byte %zu: the S2 block ends after %zu of %zu bytes", r.at, r.done,
                       length);
    return rc;
}

/* ---- encoder: greedy matches of 6 bytes or more found through one hash table ---- */

enum {
    HASH_BITS = 13,
    MATCH_MIN = 6, /* the bytes that are hashed; shorter ones gain little in columns of 8-byte words */
    WORD_BYTES = 8,
    COPY1_OFFSETS = 2048,
    COPY2_OFFSETS = 65536,
    COPY_LENGTH = 64, /* the longest copy that is no repeat */
    SKIP_SHIFT = 6    /* the longer nothing is found, the larger the steps */
};

size_t mebo_s2_bound(size_t length)
{
    return WIRE_VARINT_BYTES + length + length / 6 + 32;
}

static unsigned char *emit_literal(unsigned char *out, const unsigned char *from, size_t length)
{
    if (length == 0)
        return out;
    uint64_t n = length - 1;
    if (n < 60) {
        *out++ = (unsigned char)(n << 2);
    } else {
        unsigned extra = (wire_bit_length(n) + 7) / 8;
        *out++ = (unsigned char)((59 + extra) << 2);
        for (unsigned i = 0; i < extra; i++)
            *out++ = (unsigned char)(n >> 8 * i);
    }
    memcpy(out, from, length);
    return out + length;
}

/* A repeat of 4..16,842,755 bytes. */
static unsigned char *emit_repeat(unsigned char *out, size_t length)
{
    unsigned more = length < REPEAT_BASE_1 ? 0 : length < REPEAT_BASE_2 ? 1 : length < REPEAT_BASE_3 ? 2 : 3;
    size_t rest = length - (more == 0   ? 4U
                            : more == 1 ? (size_t)REPEAT_BASE_1
                            : more == 2 ? (size_t)REPEAT_BASE_2
                                        : (size_t)REPEAT_BASE_3);
    *out++ = (unsigned char)((more ? more + 4 : rest) << 2 | COPY1);
    *out++ = 0;
    for (unsigned i = 0; i < more; i++)
        *out++ = (unsigned char)(rest >> 8 * i);
    return out;
}

/* One copy of at most 64 bytes (at most 11 where the short form is to be used). */
static unsigned char *emit_short_copy(unsigned char *out, size_t offset, size_t length)
{
    if (length >= 4 && length <= 11 && offset < COPY1_OFFSETS) {
        *out++ = (unsigned char)(offset >> 8 << 5 | (length - 4) << 2 | COPY1);
        *out++ = (unsigned char)offset;
        return out;
    }
    bool far = offset >= COPY2_OFFSETS;
    *out++ = (unsigned char)((length - 1) << 2 | (far ? COPY4 : COPY2));
    wire_store16(out, (uint16_t)offset, false);
    if (far)
        wire_store16(out + 2, (uint16_t)(offset >> 16), false);
    return out + (far ? 4 : 2);
}

static unsigned char *emit_copy(unsigned char *out, size_t offset, size_t length, size_t *last_offset)
{
    enum { REPEAT_MAX = REPEAT_BASE_3 + 0xFFFFFF };
    if (offset != *last_offset) {
        size_t first = length <= COPY_LENGTH ? length : COPY_LENGTH - 4; /* leaves a repeat at least 4 */
        out = emit_short_copy(out, offset, first);
        length -= first;
        *last_offset = offset;
    }
    while (length > 0) {
        size_t part = length;
        if (part > REPEAT_MAX)
            part = REPEAT_MAX - 4;
        out = emit_repeat(out, part);
        length -= part;
    }
    return out;
}

/* The first MATCH_MIN bytes at p, in the high bytes of a word. WORD_BYTES must be readable. */
static uint64_t load_key(const unsigned char *p)
{
    return wire_load64(p, false) << 8 * (WORD_BYTES - MATCH_MIN);
}

static uint32_t hash_key(uint64_t key)
{
    return (uint32_t)(key * 0x9E3779B97F4A7C15U >> (64 - HASH_BITS));
}

static size_t match_length(const unsigned char *in, size_t length, size_t a, size_t b)
{
    size_t start = b;
    while (b + 8 <= length) {
        uint64_t differ = wire_load64(in + a, false) ^ wire_load64(in + b, false);
        if (differ)
            return b - start + (unsigned)__builtin_ctzll(differ) / 8;
        a += 8;
        b += 8;
    }
    while (b < length && in[a] == in[b]) {
        a++;
        b++;
    }
    return b - start;
}

size_t mebo_s2_encode(const unsigned char *in, size_t length, unsigned char *out)
{
    uint32_t table[1 << HASH_BITS]; /* position + 1 of the last word with this hash */
    memset(table, 0, sizeof table);
    unsigned char *start = out;
    out = wire_write_varint(out, length);
    size_t at = 0, literal = 0, last_offset = 0;
    while (at + WORD_BYTES <= length) {
        uint64_t key = load_key(in + at);
        uint32_t *slot = &table[hash_key(key)];
        size_t candidate = *slot;
        *slot = (uint32_t)(at + 1);
        if (candidate == 0 || load_key(in + candidate - 1) != key) {
            at += 1 + ((at - literal) >> SKIP_SHIFT);
            continue;
        }
        candidate -= 1;
        size_t matched = MATCH_MIN + match_length(in, length, candidate + MATCH_MIN, at + MATCH_MIN);
        while (at > literal && candidate > 0 && in[at - 1] == in[candidate - 1]) {
            at--;
            candidate--;
            matched++;
        }
        out = emit_literal(out, in + literal, at - literal);
        out = emit_copy(out, at - candidate, matched, &last_offset);
        at += matched;
        literal = at;
    }
    out = emit_literal(out, in + literal, length - literal);
    return (size_t)(out - start);
}
