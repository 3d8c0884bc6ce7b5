/* Values as XOR with the previous one, after Liakos et al., "Chimp: Efficient Lossless Floating Point
 * Compression for Time Series Databases", VLDB 2022 (the variant without the history of 128 values). A bit
 * stream:
 *
 *     first value   64 bits
 *     then each     00                              same as the previous value
 *                   01 leading:3 size:6 block:size  many trailing zeros; size 0 means 64
 *                   10 block:(64 - stored)          as many leading zeros as stored
 *                   11 leading:3 block:(64 - new)   new number of leading zeros, which is stored
 *
 * `leading` numbers a bucket; 00 and 01 forget the stored one. */
#include "mebo/column.h"
#include "mebo/wire.h"

enum {
    CHIMP_READ_BYTES = 24,    /* one element may touch this many bytes from its first bit on */
    CHIMP_TRAILING_ZEROS = 6, /* more than this many are worth their own form */
    CHIMP_NOTHING_STORED = 65
};

static const unsigned char bucket_leading[8] = {0, 8, 12, 16, 18, 20, 22, 24};

static unsigned bucket_of(unsigned leading)
{
    static const unsigned char bucket[64] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 4, 5, 5,
                                             6, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
                                             7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
    return bucket[leading];
}

struct chimp_reader {
    size_t at;         /* bit position */
    uint64_t previous; /* bits of the last value */
    unsigned stored;   /* leading zeros, or CHIMP_NOTHING_STORED */
    uint32_t done;     /* values written */
    const char *fault; /* what is wrong with the element at `at` */
};

/* Decodes elements that begin at or before bit `last` of `base`, up to `count` values in all.
 * CHIMP_READ_BYTES must be readable there. Stops with `fault` set on an element that no writer makes. */
static void decode_run(struct chimp_reader *r, const unsigned char *base, size_t last, uint32_t count,
                       double *values)
{
    struct chimp_reader s = *r; /* in registers, whatever `values` may alias */
    while (s.done < count && s.at <= last) {
        uint64_t word = wire_peek_bits(base, s.at);
        if (word >> 63) {
            /* 10 or 11, without a branch: which of them is as good as random in full-precision data. */
            unsigned fresh = (unsigned)(word >> 62) & 1;
            unsigned mask = 0 - fresh;
            unsigned leading = (bucket_leading[word >> 59 & 7] & mask) | (s.stored & ~mask);
            if (leading == CHIMP_NOTHING_STORED) {
                s.fault = "reuse of leading zeros that are not stored";
                break;
            }
            size_t block_at = s.at + 2 + 3 * fresh;
            s.stored = leading;
            s.previous ^= wire_get_bits(base, block_at, 64 - leading);
            s.at = block_at + 64 - leading;
        } else if (word >> 62) {
            unsigned leading = bucket_leading[word >> 59 & 7], size = (unsigned)(word >> 53) & 63;
            size = size ? size : 64;
            if (leading + size > 64) {
                s.fault = "block wider than 64 bits";
                break;
            }
            s.previous ^= wire_get_bits(base, s.at + 11, size) << (64 - leading - size);
            s.stored = CHIMP_NOTHING_STORED;
            s.at += 11 + size;
        } else {
            s.stored = CHIMP_NOTHING_STORED;
            s.at += 2;
        }
        values[s.done++] = wire_double_of(s.previous);
    }
    *r = s;
}

int mebo_chimp_decode(const unsigned char *p, size_t length, uint32_t count, double *values,
                      struct error *err)
{
    if (length < 8)
        return error_set(err, ERR_CORRUPT, "byte 0: the first value is cut, the column has %zu bytes",
                         length);
    struct chimp_reader r = {
        .at = 64, .previous = wire_load64(p, true), .stored = CHIMP_NOTHING_STORED, .done = 1};
    values[0] = wire_double_of(r.previous);
    if (length >= CHIMP_READ_BYTES)
        decode_run(&r, p, (length - CHIMP_READ_BYTES) * 8, count, values);
    if (r.fault == NULL && r.done < count) {
        /* The last elements are read from a copy with room behind it, so that whole words can be loaded. */
        unsigned char tail[2 * CHIMP_READ_BYTES + 8] = {0};
        size_t from = r.at / 8;
        from = from < length ? from : length;
        size_t kept = length - from;
        memcpy(tail, p + from, kept);
        r.at -= from * 8;
        if (kept > 0 && r.at < kept * 8)
            decode_run(&r, tail, kept * 8 - 1, count, values);
        r.at += from * 8;
    }
    if (r.fault)
        return error_set(err, ERR_CORRUPT, "bit %zu: point %u: %s", r.at, r.done, r.fault);
    if (r.done < count || r.at > length * 8)
        return error_set(err, ERR_CORRUPT, "bit %zu: point %u is cut by the column's end (%zu bytes)", r.at,
                         r.done, length);
    if ((r.at + 7) / 8 != length)
        return error_set(err, ERR_CORRUPT, "byte %zu: %zu bytes are left after the last of %u points",
                         (r.at + 7) / 8, length - (r.at + 7) / 8, count);
    return 0;
}

unsigned char *mebo_chimp_encode(unsigned char *out, const double *values, uint32_t count)
{
    struct wire_bit_writer w = {.p = out};
    uint64_t previous = wire_bits_of(values[0]);
    wire_put_long(&w, previous, 64);
    unsigned stored = CHIMP_NOTHING_STORED;
    for (uint32_t i = 1; i < count; i++) {
        uint64_t bits = wire_bits_of(values[i]);
        uint64_t x = bits ^ previous;
        previous = bits;
        if (x == 0) {
            wire_put_bits(&w, 0, 2);
            stored = CHIMP_NOTHING_STORED;
            continue;
        }
        unsigned bucket = bucket_of((unsigned)__builtin_clzll(x));
        unsigned leading = bucket_leading[bucket];
        unsigned trailing = (unsigned)__builtin_ctzll(x);
        if (trailing > CHIMP_TRAILING_ZEROS) {
            unsigned size = 64 - leading - trailing;
            wire_put_bits(&w, (uint64_t)1 << 9 | bucket << 6 | size, 11);
            wire_put_long(&w, x >> trailing, size);
            stored = CHIMP_NOTHING_STORED;
        } else {
            /* 10 or 11, without a branch: which of them is as good as random in full-precision data. */
            unsigned fresh = leading != stored;
            uint64_t head = (uint64_t)(2 | fresh) << 3 * fresh | (bucket & (0 - fresh));
            unsigned high_bits = 32 - leading; /* leading is at most 24 */
            wire_put_bits(&w, head << high_bits | x >> 32, 2 + 3 * fresh + high_bits);
            wire_put_bits(&w, x & 0xFFFFFFFFU, 32);
            stored = leading;
        }
    }
    return wire_end_bits(&w);
}
