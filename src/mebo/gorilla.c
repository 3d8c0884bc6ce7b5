/* Values as XOR with the previous one, after Pelkonen et al., "Gorilla: A Fast, Scalable, In-Memory Time
 * Series Database", VLDB 2015, section 4.1.2. A bit stream:
 *
 *     first value   64 bits
 *     then each     0                                       same as the previous value
 *                   10 block                                XOR within the last window
 *                   11 leading:5 (size-1):6 block:size      XOR in a new window of `size` bits after
 * `leading` zeros
 */
#include "mebo/column.h"
#include "mebo/wire.h"

enum {
    GORILLA_READ_BYTES = 24, /* one element may touch this many bytes from its first bit on */
    GORILLA_HEADER_BITS = 13,
    GORILLA_MAX_LEADING = 31,
    GORILLA_ONE_PUT = 54,  /* largest window that is written at once with its '10' */
    GORILLA_RUN_BITS = 56, /* equal values taken at once */
    GORILLA_ONE_WORD = 55  /* largest window that one load shows together with its '10' */
};

struct gorilla_reader {
    size_t at;         /* bit position */
    uint64_t previous; /* bits of the last value */
    unsigned size;     /* of the window, 0 before the first */
    unsigned trailing; /* zeros right of the window */
    uint32_t done;     /* values written */
};

/* Decodes elements that begin at or before bit `last` of `base`, up to `count` values in all.
 * GORILLA_READ_BYTES must be readable there. False on an element that no writer makes (its bit is r->at). */
static bool decode_run(struct gorilla_reader *r, const unsigned char *base, size_t last, uint32_t count,
                       double *values)
{
    size_t at = r->at; /* in registers, whatever `values` may alias */
    uint64_t previous = r->previous;
    unsigned size = r->size, trailing = r->trailing;
    double *out = values + r->done, *end = values + count;
    bool sound = true;
    while (out < end && at <= last) {
        uint64_t word = wire_peek_bits(base, at);
        if (word >> 62 == 2 && size - 1 < GORILLA_ONE_WORD) {
            /* The common case, in a loop of its own: blocks of one window that a single word holds. */
            uint64_t window = ~(UINT64_MAX >> size); /* the block's bits behind '10', left-aligned */
            unsigned leading = 64 - size - trailing;
            do {
                previous ^= (word << 2 & window) >> leading;
                *out++ = wire_double_of(previous);
                at += size + 2;
                if (out == end || at > last)
                    break;
                word = wire_peek_bits(base, at);
            } while (word >> 62 == 2);
        } else if (!(word >> 63)) {
            /* A run of equal values is a run of zero bits: take all that this word shows. */
            size_t run = word ? (unsigned)__builtin_clzll(word) : GORILLA_RUN_BITS;
            run = run < GORILLA_RUN_BITS ? run : GORILLA_RUN_BITS;
            run = run < (size_t)(end - out) ? run : (size_t)(end - out);
            run = run < last - at + 1 ? run : last - at + 1;
            for (size_t k = 0; k < run; k++)
                out[k] = wire_double_of(previous);
            out += run;
            at += run;
        } else {
            size_t block_at = at + 2;
            if (word >> 62 == 3) {
                unsigned leading = (unsigned)(word >> 57) & 31, wide = ((unsigned)(word >> 51) & 63) + 1;
                sound = leading + wide <= 64;
                size = wide;
                trailing = 64 - leading - wide;
                block_at = at + GORILLA_HEADER_BITS;
            } else {
                sound = size != 0;
            }
            if (!sound)
                break;
            previous ^= wire_get_bits(base, block_at, size) << trailing;
            *out++ = wire_double_of(previous);
            at = block_at + size;
        }
    }
    *r = (struct gorilla_reader){
        .at = at, .previous = previous, .size = size, .trailing = trailing, .done = (uint32_t)(out - values)};
    return sound;
}

int mebo_gorilla_decode(const unsigned char *p, size_t length, uint32_t count, double *values,
                        struct error *err)
{
    if (length < 8)
        return error_set(err, ERR_CORRUPT, "byte 0: the first value is cut, the column has %zu bytes",
                         length);
    struct gorilla_reader r = {.at = 64, .previous = wire_load64(p, true), .done = 1};
    values[0] = wire_double_of(r.previous);
    bool sound = true;
    if (length >= GORILLA_READ_BYTES)
        sound = decode_run(&r, p, (length - GORILLA_READ_BYTES) * 8, count, values);
    if (sound && r.done < count) {
        /* The last elements are read from a copy with room behind it, so that whole words can be loaded. */
        unsigned char tail[2 * GORILLA_READ_BYTES + 8] = {0};
        size_t from = r.at / 8;
        from = from < length ? from : length;
        size_t kept = length - from;
        memcpy(tail, p + from, kept);
        r.at -= from * 8;
        if (kept > 0 && r.at < kept * 8)
            sound = decode_run(&r, tail, kept * 8 - 1, count, values);
        r.at += from * 8;
    }
    if (!sound)
        return error_set(err, ERR_CORRUPT, "bit %zu: point %u: %s", r.at, r.done,
                         r.size == 0 ? "reuse of a window before there is one" : "window wider than 64 bits");
    if (r.done < count || r.at > length * 8)
        return error_set(err, ERR_CORRUPT, "bit %zu: point %u is cut by the column's end (%zu bytes)", r.at,
                         r.done, length);
    if ((r.at + 7) / 8 != length)
        return error_set(err, ERR_CORRUPT, "byte %zu: %zu bytes are left after the last of %u points",
                         (r.at + 7) / 8, length - (r.at + 7) / 8, count);
    return 0;
}

struct gorilla_writer {
    struct wire_bit_writer bits;
    unsigned leading, trailing, size; /* of the window; leading 65, which nothing reaches, before the first */
};

/* One XOR, whatever it is. */
static void write_element(struct gorilla_writer *w, uint64_t x)
{
    if (x == 0) {
        wire_put_bits(&w->bits, 0, 1);
        return;
    }
    unsigned leading = (unsigned)__builtin_clzll(x);
    unsigned trailing = (unsigned)__builtin_ctzll(x);
    if (leading > GORILLA_MAX_LEADING) {
        /* Five bits hold 31. The format's writer takes the excess off the trailing zeros as well. */
        unsigned excess = leading - GORILLA_MAX_LEADING;
        leading = GORILLA_MAX_LEADING;
        trailing = trailing > excess ? trailing - excess : 0;
    }
    if (leading >= w->leading && trailing >= w->trailing) {
        wire_put_bits(&w->bits, 2, 2);
        wire_put_long(&w->bits, x >> w->trailing, w->size);
        return;
    }
    w->leading = leading;
    w->trailing = trailing;
    w->size = 64 - leading - trailing;
    wire_put_bits(&w->bits, (uint64_t)3 << 11 | leading << 6 | (w->size - 1), GORILLA_HEADER_BITS);
    wire_put_long(&w->bits, x >> trailing, w->size);
}

unsigned char *mebo_gorilla_encode(unsigned char *out, const double *values, uint32_t count)
{
    struct gorilla_writer w = {.bits = {.p = out}, .leading = 65};
    uint64_t previous = wire_bits_of(values[0]);
    wire_put_long(&w.bits, previous, 64);
    for (uint32_t i = 1; i < count;) {
        uint64_t bits = wire_bits_of(values[i++]);
        write_element(&w, bits ^ previous);
        previous = bits;
        if (w.size - 1 > GORILLA_ONE_PUT - 1)
            continue;
        /* As long as XORs lie in the window, and have so few leading zeros that the quirk above is far: no
         * need to count zeros. */
        struct wire_bit_writer put = w.bits;
        const uint64_t outside = ~(UINT64_MAX >> (64 - w.size) << w.trailing),
                       control = (uint64_t)2 << w.size;
        for (; i < count; i++) {
            bits = wire_bits_of(values[i]);
            uint64_t x = bits ^ previous;
            if (x == 0) {
                wire_put_bits(&put, 0, 1);
                continue;
            }
            if ((x & outside) != 0 || x >> (64 - GORILLA_MAX_LEADING) == 0)
                break;
            previous = bits;
            wire_put_bits(&put, control | x >> w.trailing, w.size + 2);
        }
        w.bits = put;
    }
    return wire_end_bits(&w.bits);
}
