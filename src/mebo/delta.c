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
 * Four of them lie in any 8 bytes without a longer one. Where they lie is looked up by the 8 continuation
 * bits. */
struct four {
    uint64_t mask;          /* the 7-bit groups of varint k, once it lies in bits 16 * k on */
    unsigned char shift[3]; /* bits before varints 1, 2, 3 */
    unsigned char bytes;    /* of all four, 0 when one of the 8 bytes belongs to a longer varint */
};

#define MORE(m, at) ((unsigned)(m) >> (at)&1)
#define AT_1(m) (1 + MORE(m, 0))
#define AT_2(m) (AT_1(m) + 1 + MORE(m, AT_1(m)))
#define AT_3(m) (AT_2(m) + 1 + MORE(m, AT_2(m)))
#define AT_4(m) (AT_3(m) + 1 + MORE(m, AT_3(m)))
#define GROUPS(m, at) (MORE(m, at) ? UINT64_C(0x7F7F) : UINT64_C(0x7F))
#define LONGER(m) (((m) & (m) << 1 & 0xFF) != 0)
#define FOUR(m)                                                                                              \
    {                                                                                                        \
        GROUPS(m, 0) | GROUPS(m, AT_1(m)) << 16 | GROUPS(m, AT_2(m)) << 32 | GROUPS(m, AT_3(m)) << 48,       \
            {8 * AT_1(m), 8 * AT_2(m), 8 * AT_3(m)}, LONGER(m) ? 0 : AT_4(m)                                 \
    }
#define FOURS_4(m) FOUR(m), FOUR(m + 1), FOUR(m + 2), FOUR(m + 3)
#define FOURS_16(m) FOURS_4(m), FOURS_4(m + 4), FOURS_4(m + 8), FOURS_4(m + 12)
#define FOURS_64(m) FOURS_16(m), FOURS_16(m + 16), FOURS_16(m + 32), FOURS_16(m + 48)

static const struct four fours[256] = {FOURS_64(0), FOURS_64(64), FOURS_64(128), FOURS_64(192)};

static inline const struct four *find_four(uint64_t word)
{
    uint64_t more = word >> 7 & 0x0101010101010101U;
    return &fours[more * 0x0102040810204080U >> 56]; /* gathers the bits in the top byte */
}

/* The four varints of `word`, un-zigzagged, as four signed 16-bit lanes. */
static inline uint64_t read_four(uint64_t word, const struct four *four)
{
    uint64_t z = (word & 0xFFFF) | (word >> four->shift[0] & 0xFFFF) << 16 |
                 (word >> four->shift[1] & 0xFFFF) << 32 | word >> four->shift[2] << 48;
    z &= four->mask;
    z = (z & 0x007F007F007F007FU) | (z >> 1 & 0x3F803F803F803F80U);
    return (z >> 1 & 0x1FFF1FFF1FFF1FFFU) ^ (z & 0x0001000100010001U) * 0xFFFF;
}

int mebo_delta_decode(const unsigned char *p, size_t length, uint32_t count, int64_t *times,
                      struct error *err)
{
    const unsigned char *start = p, *end = p + length, *next;
    uint64_t t, delta = 0, z;
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
            const struct four *four = find_four(word);
            if (WIRE_LIKELY(four->bytes)) {
                uint64_t lanes = read_four(word, four);
                for (unsigned k = 0; k < 4; k++) {
                    delta += (uint64_t)(int64_t)(int16_t)(lanes >> 16 * k);
                    t += delta;
                    times[i + k] = (int64_t)t;
                }
                p += four->bytes;
                i += 4;
                continue;
            }
        }
        if ((next = read_long(p, end, &z)) == NULL)
            return cut(start, p, i, err);
        p = next;
        delta += wire_unzigzag(z);
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
        if (WIRE_LIKELY(z < 0x4000)) {                   /* one or two bytes without a branch between them */
            unsigned two = (unsigned)(z + 0x3F80) >> 14; /* z >= 0x80 */
            unsigned groups = (unsigned)(z + (z & 0x3F80));
            wire_store16(out, (uint16_t)(groups | two << 7), false);
            out += 1 + two;
        } else if (WIRE_LIKELY(z >> 56 == 0)) {
            out = write_spread(out, z);
        } else {
            out = wire_write_varint(out, z);
        }
    }
    return seen >> 63 ? NULL : out;
}
