/* Loads, stores and bit streams of the wire format. Internal to src/mebo. */
#ifndef CHAMBERLAIN_MEBO_WIRE_H
#define CHAMBERLAIN_MEBO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define WIRE_HOST_BIG 1
#else
#define WIRE_HOST_BIG 0
#endif

#define WIRE_LIKELY(x) __builtin_expect(!!(x), 1)
#define WIRE_UNLIKELY(x) __builtin_expect(!!(x), 0)

static inline uint64_t wire_load64(const unsigned char *p, bool big)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return big == WIRE_HOST_BIG ? v : __builtin_bswap64(v);
}

static inline uint32_t wire_load32(const unsigned char *p, bool big)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return big == WIRE_HOST_BIG ? v : __builtin_bswap32(v);
}

static inline uint16_t wire_load16(const unsigned char *p, bool big)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return big == WIRE_HOST_BIG ? v : __builtin_bswap16(v);
}

static inline void wire_store64(unsigned char *p, uint64_t v, bool big)
{
    if (big != WIRE_HOST_BIG)
        v = __builtin_bswap64(v);
    memcpy(p, &v, sizeof v);
}

static inline void wire_store32(unsigned char *p, uint32_t v, bool big)
{
    if (big != WIRE_HOST_BIG)
        v = __builtin_bswap32(v);
    memcpy(p, &v, sizeof v);
}

static inline void wire_store16(unsigned char *p, uint16_t v, bool big)
{
    if (big != WIRE_HOST_BIG)
        v = __builtin_bswap16(v);
    memcpy(p, &v, sizeof v);
}

static inline uint64_t wire_bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double wire_double_of(uint64_t bits)
{
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t wire_zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline uint64_t wire_unzigzag(uint64_t z)
{
    return (z >> 1) ^ (0 - (z & 1));
}

/* Bits needed for v: 0 for 0, 64 for the largest. */
static inline unsigned wire_bit_length(uint64_t v)
{
    return v ? 64 - (unsigned)__builtin_clzll(v) : 0;
}

enum {
    WIRE_VARINT_BYTES = 10, /* the longest varint of 64 bits */
    WIRE_SLACK_BYTES = 16   /* what a writer may scribble beyond the bytes it reports */
};

/* Reads an unsigned LEB128 of up to 10 bytes from [p, end). The next byte, or NULL when it is cut, longer
 * than 10 bytes or above 64 bits. */
static inline const unsigned char *wire_read_varint(const unsigned char *p, const unsigned char *end,
                                                    uint64_t *value)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70 && p < end; shift += 7) {
        unsigned char b = *p++;
        if (shift == 63 && b > 1)
            return NULL;
        v |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) {
            *value = v;
            return p;
        }
    }
    return NULL;
}

static inline unsigned char *wire_write_varint(unsigned char *p, uint64_t v)
{
    while (v >= 0x80) {
        *p++ = (unsigned char)(v | 0x80);
        v >>= 7;
    }
    *p++ = (unsigned char)v;
    return p;
}

/* ---- bit streams, first bit = most significant bit of byte 0 ---- */

struct wire_bit_writer {
    unsigned char *p; /* where the pending bits belong; 8 bytes from here on must be writable */
    uint64_t pending; /* left-aligned */
    unsigned used;    /* 0..7 bits of `pending` */
};

/* Appends the low n <= 56 bits of v (the others must be 0). */
static inline void wire_put_bits(struct wire_bit_writer *w, uint64_t v, unsigned n)
{
    unsigned total = w->used + n;
    uint64_t pending = w->pending | (v << (63 - total) << 1);
    wire_store64(w->p, pending, true);
    w->p += total >> 3;
    w->pending = pending << (total & 0x38);
    w->used = total & 7;
}

/* As wire_put_bits for n <= 64. */
static inline void wire_put_long(struct wire_bit_writer *w, uint64_t v, unsigned n)
{
    if (n <= 56) {
        wire_put_bits(w, v, n);
        return;
    }
    wire_put_bits(w, v >> 32, n - 32);
    wire_put_bits(w, v & 0xFFFFFFFFU, 32);
}

/* The byte after the stream; the last one is padded with zero bits. */
static inline unsigned char *wire_end_bits(const struct wire_bit_writer *w)
{
    return w->p + (w->used != 0);
}

/* The 57 or more bits from bit `at` of `base` on, left-aligned. 8 bytes must be readable there. */
static inline uint64_t wire_peek_bits(const unsigned char *base, size_t at)
{
    return wire_load64(base + (at >> 3), true) << (at & 7);
}

/* The n (1..64) bits from bit `at` on. 9 bytes must be readable there. */
static inline uint64_t wire_get_bits(const unsigned char *base, size_t at, unsigned n)
{
    const unsigned char *p = base + (at >> 3);
    unsigned shift = at & 7;
    uint64_t high = wire_load64(p, true) << shift;
    uint64_t low = (uint64_t)p[8] >> (8 - shift);
    return (high | low) >> (64 - n);
}

#endif
