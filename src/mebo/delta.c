/* Timestamps as varints: the first time, the first difference (zigzag), then differences of differences
 * (zigzag). Regular sampling makes the last kind zero, one byte a point. */
#include "mebo/column.h"
#include "mebo/wire.h"

/* Varints of 3 to 8 bytes in one load: the continuation bits say the length, then 7-bit groups are pushed
 * together. */
static const unsigned char *read_long(const unsigned char *p, const unsigned char *end, uint64_t *value)
{
    if (end - p < 8)
        return wire_read_varint(p, end, value);
    uint64_t word = wire_load64(p, false);
    uint64_t stops = ~word & 0x8080808080808080U;
    if (stops == 0)
        return wire_read_varint(p, end, value);
    unsigned bits = (unsigned)__builtin_ctzll(stops) + 1;
    word &= UINT64_MAX >> (64 - bits);
    word &= 0x7F7F7F7F7F7F7F7FU;
    word = (word & 0x007F007F007F007FU) | (word & 0x7F007F007F007F00U) >> 1;
    word = (word & 0x00003FFF00003FFFU) | (word & 0x3FFF00003FFF0000U) >> 2;
    *value = (word & 0x000000000FFFFFFFU) | (word & 0x0FFFFFFF00000000U) >> 4;
    return p + bits / 8;
}

static int cut(const unsigned char *start, const unsigned char *p, uint32_t i, struct error *err)
{
    return error_set(err, ERR_CORRUPT,
                     "byte %zu: the varint of point %u is cut by the column's end or too long",
                     (size_t)(p - start), i);
}

/* Jittered sampling gives varints of one and two bytes in random order, which no branch predictor follows.
 * Four of them lie in any 8 bytes; their ends are the clear high bits of `word`, taken one after the other
 * without a branch. */
static inline unsigned read_four(uint64_t word, uint64_t z[static 4])
{
    uint64_t stops = ~word & 0x8080808080808080U, below = 0;
    unsigned begin = 0;
    for (unsigned k = 0; k < 4; k++) {
        uint64_t upto = stops ^ (stops - 1); /* this stop and all bits below it */
        uint64_t piece = (word & (upto ^ below)) >> begin;
        z[k] = (piece & 0x7F) | (piece >> 1 & 0x3F80);
        below = upto;
        begin = (unsigned)__builtin_ctzll(stops) + 1;
        stops &= stops - 1;
    }
    return begin / 8;
}

/* At least 8 bytes with no varint of three or more in them. */
static inline bool only_short(uint64_t word)
{
    uint64_t more = word & 0x8080808080808080U;
    return (more & more << 8) == 0;
}

int mebo_delta_decode(const unsigned char *p, size_t length, uint32_t count, int64_t *times,
                      struct error *err)
{
    const unsigned char *start = p, *end = p + length, *next;
    uint64_t t, delta = 0, z[4];
    if ((next = wire_read_varint(p, end, &t)) == NULL)
        return cut(start, p, 0, err);
    times[0] = (int64_t)t;
    p = next;
    uint32_t i = 1;
    while (i < count) {
        if (WIRE_LIKELY(end - p >= 8 && count - i >= 8)) {
            uint64_t word = wire_load64(p, false);
            if (word == 0) { /* regular sampling */
                for (unsigned k = 0; k < 8; k++)
                    times[i + k] = (int64_t)(t + (k + 1) * delta);
                t += 8 * delta;
                i += 8;
                p += 8;
                continue;
            }
            if (WIRE_LIKELY(only_short(word))) {
                p += read_four(word, z);
                for (unsigned k = 0; k < 4; k++) {
                    delta += wire_unzigzag(z[k]);
                    t += delta;
                    times[i + k] = (int64_t)t;
                }
                i += 4;
                continue;
            }
        }
        if ((next = read_long(p, end, &z[0])) == NULL)
            return cut(start, p, i, err);
        p = next;
        delta += wire_unzigzag(z[0]);
        t += delta;
        times[i++] = (int64_t)t;
    }
    if (p != end)
        return error_set(err, ERR_CORRUPT, "byte %zu: %zu bytes are left after the last of %u points",
                         (size_t)(p - start), (size_t)(end - p), count);
    return 0;
}

/* Any varint of up to 8 bytes without a branch: its 7-bit groups are spread over the bytes of a word. */
static inline unsigned char *write_spread(unsigned char *out, uint64_t z)
{
    unsigned top = 63 - (unsigned)__builtin_clzll(z | 1); /* highest bit set */
    unsigned before = top * 37 >> 8;                      /* top / 7: bytes before the last */
    z = (z & 0x000000000FFFFFFFU) | (z & 0x00FFFFFFF0000000U) << 4;
    z = (z & 0x00003FFF00003FFFU) | (z & 0x0FFFC0000FFFC000U) << 2;
    z = (z & 0x007F007F007F007FU) | (z & 0x3F803F803F803F80U) << 1;
    wire_store64(out, z | (0x8080808080808080U & ((UINT64_C(1) << 8 * before) - 1)), false);
    return out + before + 1;
}

unsigned char *mebo_delta_encode(unsigned char *out, const int64_t *times, uint32_t count)
{
    uint64_t t = (uint64_t)times[0], delta = 0, seen = 0;
    out = wire_write_varint(out, t);
    for (uint32_t i = 1; i < count; i++) {
        uint64_t next = (uint64_t)times[i];
        uint64_t z = wire_zigzag((int64_t)(next - t - delta));
        delta = next - t;
        t = next;
        seen |= z;
        if (WIRE_LIKELY(z < 0x4000)) { /* one or two bytes without a branch between them */
            unsigned two = z >= 0x80;
            wire_store16(out, (uint16_t)((z & 0x7F) | two << 7 | (z & 0x3F80) << 1), false);
            out += 1 + two;
        } else if (WIRE_LIKELY(z >> 56 == 0)) {
            out = write_spread(out, z);
        } else {
            out = wire_write_varint(out, z);
        }
    }
    return seen >> 63 ? NULL : out;
}
