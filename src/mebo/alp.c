/* Reading ALP columns, after Afroozeh, Kuffo and Boncz, "ALP: Adaptive Lossless floating-Point Compression",
 * SIGMOD 2024. The first byte says the scheme; fixed fields stand in the blob's byte order, packed codes are
 * least significant bit first always:
 *
 *     0 main    e:8 f:8 width:8 exceptions:32 min:64 | count x width bits | exceptions x (position:32
 * bits:64) value = (code + min) * 10^f * 10^-e 1 split   right:8 width:8 entries:8 exceptions:32 | entries x
 * left:16 | count x width bits, codes of the left parts | count x right bits | exceptions x (position:32
 * left:16) 2 raw     count x 64 bits */
#include "mebo/column.h"
#include "mebo/wire.h"

const double mebo_alp_power[MEBO_ALP_MAX_POWER + 1] = {
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18};
const double mebo_alp_inverse[MEBO_ALP_MAX_POWER + 1] = {1e-0,  1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,
                                                         1e-7,  1e-8,  1e-9,  1e-10, 1e-11, 1e-12, 1e-13,
                                                         1e-14, 1e-15, 1e-16, 1e-17, 1e-18};

enum {
    MIN_SPLIT_RIGHT = 48, /* bits: the left part has at most 16 */
    MAX_SPLIT_RIGHT = 63,
    MAX_SPLIT_WIDTH = 3 /* bits of a dictionary code */
};

/* `count` codes of `width` bits packed from p on. */
struct packed {
    const unsigned char *p;
    size_t bytes;
    unsigned width;
};

static size_t packed_bytes(uint32_t count, unsigned width)
{
    return (size_t)(((uint64_t)count * width + 7) / 8);
}

/* The 1..64 bits from bit `at` on; 9 bytes must be readable there. */
static inline uint64_t unpack(const unsigned char *p, size_t at, unsigned width)
{
    const unsigned char *q = p + (at >> 3);
    unsigned shift = at & 7;
    uint64_t v = wire_load64(q, false) >> shift;
    if (width > 57)
        v |= (uint64_t)q[8] << (63 - shift) << 1;
    return v & UINT64_MAX >> (64 - width);
}

/* How many codes from the first on can be unpacked from the area itself, without reading behind it. */
static uint32_t direct_codes(const struct packed *area, uint32_t count)
{
    if (area->width == 0)
        return count;
    if (area->bytes < 9)
        return 0;
    uint64_t codes =
        ((uint64_t)(area->bytes - 9) * 8 + 7) / area->width + 1; /* begin at or before byte bytes - 9 */
    return codes < count ? (uint32_t)codes : count;
}

enum { TAIL_BYTES = 32 };

/* The codes from direct_codes on, in a copy with room behind it; `*skip` is the first one's bit in `tail`. */
static void copy_tail(const struct packed *area, uint32_t direct, unsigned char tail[static TAIL_BYTES],
                      size_t *skip)
{
    size_t at = (size_t)direct * area->width;
    size_t from = at / 8;
    memset(tail, 0, TAIL_BYTES);
    memcpy(tail, area->p + from, area->bytes - from);
    *skip = at - from * 8;
}

static int exception_order(size_t at, uint32_t position, uint32_t count, struct error *err)
{
    return error_set(err, ERR_CORRUPT, "byte %zu: exception position %u is not ascending below the %u points",
                     at, position, count);
}

static inline double main_value(uint64_t code, uint64_t min, double power, double inverse)
{
    return (double)(int64_t)(code + min) * power * inverse;
}

/* Unpacks 8 codes at a time, as the bits of `codes`, as long as `direct` allows; returns how many. With a
 * `width` known to the compiler all shifts and offsets are constants. */
static inline __attribute__((always_inline)) uint32_t
unpack_eights(const unsigned char *p, unsigned width, uint32_t direct, uint64_t add, double *codes)
{
    uint32_t i = 0;
    for (; i + 8 <= direct; i += 8, p += width, codes += 8) {
        for (unsigned k = 0; k < 8; k++)
            codes[k] = wire_double_of(unpack(p, (size_t)k * width, width) + add);
    }
    return i;
}

#define UNPACK_CASE(w)                                                                                       \
    case w:                                                                                                  \
        return unpack_eights(p, w, direct, add, codes)
#define UNPACK_CASES(w)                                                                                      \
    UNPACK_CASE(w);                                                                                          \
    UNPACK_CASE(w + 1);                                                                                      \
    UNPACK_CASE(w + 2);                                                                                      \
    UNPACK_CASE(w + 3)

static uint32_t unpack_many(const unsigned char *p, unsigned width, uint32_t direct, uint64_t add,
                            double *codes)
{
    switch (width) { /* what sensors need; others are rare */
        UNPACK_CASES(1);
        UNPACK_CASES(5);
        UNPACK_CASES(9);
        UNPACK_CASES(13);
        UNPACK_CASES(17);
        UNPACK_CASES(21);
    default:
        return unpack_eights(p, width, direct, add, codes);
    }
}

/* 1.5 * 2^52: an integer of less than 51 bits added to its bits is the double (1.5 * 2^52 + integer). */
static const double integer_magic = 6755399441055744.0;
#define INTEGER_RANGE (INT64_C(1) << 51)

/* The codes before `direct`: integers are turned into doubles by the trick above, two or more at once. */
static uint32_t decode_small_codes(const struct packed *area, uint64_t min, double power, double inverse,
                                   uint32_t direct, double *values)
{
    uint32_t done = unpack_many(area->p, area->width, direct, min + wire_bits_of(integer_magic), values);
    for (uint32_t i = 0; i < done; i++)
        values[i] = (values[i] - integer_magic) * power * inverse;
    return done;
}

static bool is_small(uint64_t min, unsigned width)
{
    int64_t low = (int64_t)min;
    return width <= 50 && low > -INTEGER_RANGE && low < INTEGER_RANGE - (INT64_C(1) << width);
}

static void decode_main_codes(const struct packed *area, uint64_t min, double power, double inverse,
                              uint32_t count, double *values)
{
    unsigned width = area->width;
    if (width == 0) {
        double same = main_value(0, min, power, inverse);
        for (uint32_t i = 0; i < count; i++)
            values[i] = same;
        return;
    }
    uint32_t direct = direct_codes(area, count), i = 0;
    if (is_small(min, width))
        i = decode_small_codes(area, min, power, inverse, direct, values);
    size_t at = (size_t)i * width;
    for (; i < direct; i++, at += width)
        values[i] = main_value(unpack(area->p, at, width), min, power, inverse);
    if (direct == count)
        return;
    unsigned char tail[TAIL_BYTES];
    copy_tail(area, direct, tail, &at);
    for (; i < count; i++, at += width)
        values[i] = main_value(unpack(tail, at, width), min, power, inverse);
}

static int decode_main(const unsigned char *p, size_t length, uint32_t count, bool big, double *values,
                       struct error *err)
{
    if (length < MEBO_ALP_MAIN_BYTES)
        return error_set(err, ERR_CORRUPT, "byte 0: %zu bytes, the fixed fields need %d", length,
                         MEBO_ALP_MAIN_BYTES);
    unsigned e = p[1], f = p[2];
    struct packed area = {.p = p + MEBO_ALP_MAIN_BYTES, .width = p[3]};
    uint32_t exceptions = wire_load32(p + 4, big);
    uint64_t min = wire_load64(p + 8, big);
    if (e > MEBO_ALP_MAX_POWER || f > MEBO_ALP_MAX_POWER || area.width > 64)
        return error_set(err, ERR_CORRUPT,
                         "byte 1: exponents %u and %u (at most %d), %u bits a code (at most 64)", e, f,
                         MEBO_ALP_MAX_POWER, area.width);
    area.bytes = packed_bytes(count, area.width);
    uint64_t need = MEBO_ALP_MAIN_BYTES + area.bytes + (uint64_t)exceptions * MEBO_ALP_MAIN_EXCEPTION;
    if (exceptions > count || need != length)
        return error_set(err, ERR_CORRUPT,
                         "byte 4: %u points of %u bits and %u exceptions need %llu bytes, not %zu", count,
                         area.width, exceptions, (unsigned long long)need, length);
    decode_main_codes(&area, min, mebo_alp_power[f], mebo_alp_inverse[e], count, values);
    const unsigned char *x = area.p + area.bytes;
    uint32_t next = 0; /* the lowest position still allowed */
    for (uint32_t i = 0; i < exceptions; i++, x += MEBO_ALP_MAIN_EXCEPTION) {
        uint32_t position = wire_load32(x, big);
        if (position < next || position >= count)
            return exception_order((size_t)(x - p), position, count, err);
        values[position] = wire_double_of(wire_load64(x + 4, big));
        next = position + 1;
    }
    return 0;
}

/* Joins dictionary code and right part. False if a code has no entry. */
static bool decode_split_codes(const struct packed *codes, const struct packed *rights,
                               const uint64_t dictionary[static MEBO_ALP_DICTIONARY], unsigned entries,
                               uint32_t count, double *values)
{
    unsigned highest = 0;
    uint32_t direct = direct_codes(rights, count), i = 0;
    unsigned char tail[TAIL_BYTES];
    size_t tail_at = 0;
    if (direct < count)
        copy_tail(rights, direct, tail, &tail_at);
    for (; i < count; i++) {
        size_t at = (size_t)i * codes->width;
        unsigned pair = codes->width ? codes->p[at >> 3] : 0;
        if ((at & 7) + codes->width > 8)
            pair |= (unsigned)codes->p[(at >> 3) + 1] << 8;
        unsigned code = pair >> (at & 7) & ((1U << codes->width) - 1);
        highest = code > highest ? code : highest;
        uint64_t right = i < direct
                             ? unpack(rights->p, (size_t)i * rights->width, rights->width)
                             : unpack(tail, tail_at + (size_t)(i - direct) * rights->width, rights->width);
        values[i] = wire_double_of(dictionary[code] << rights->width | right);
    }
    return highest < entries;
}

static int decode_split(const unsigned char *p, size_t length, uint32_t count, bool big, double *values,
                        struct error *err)
{
    if (length < MEBO_ALP_SPLIT_BYTES)
        return error_set(err, ERR_CORRUPT, "byte 0: %zu bytes, the fixed fields need %d", length,
                         MEBO_ALP_SPLIT_BYTES);
    unsigned entries = p[3];
    struct packed rights = {.width = p[1]}, codes = {.width = p[2]};
    uint32_t exceptions = wire_load32(p + 4, big);
    if (rights.width < MIN_SPLIT_RIGHT || rights.width > MAX_SPLIT_RIGHT || codes.width > MAX_SPLIT_WIDTH ||
        entries > MEBO_ALP_DICTIONARY || entries == 0)
        return error_set(err, ERR_CORRUPT,
                         "byte 1: %u right bits (48..63), %u code bits (0..3), %u entries (1..8)",
                         rights.width, codes.width, entries);
    rights.bytes = packed_bytes(count, rights.width);
    codes.bytes = packed_bytes(count, codes.width);
    uint64_t need = MEBO_ALP_SPLIT_BYTES + (uint64_t)entries * 2 + codes.bytes + rights.bytes +
                    (uint64_t)exceptions * MEBO_ALP_SPLIT_EXCEPTION;
    if (exceptions > count || need != length)
        return error_set(err, ERR_CORRUPT,
                         "byte 4: %u points of %u + %u bits and %u exceptions need %llu bytes, not %zu",
                         count, codes.width, rights.width, exceptions, (unsigned long long)need, length);
    uint64_t dictionary[MEBO_ALP_DICTIONARY] = {0};
    for (unsigned i = 0; i < entries; i++)
        dictionary[i] = wire_load16(p + MEBO_ALP_SPLIT_BYTES + 2 * i, big);
    codes.p = p + MEBO_ALP_SPLIT_BYTES + (size_t)entries * 2;
    rights.p = codes.p + codes.bytes;
    if (!decode_split_codes(&codes, &rights, dictionary, entries, count, values))
        return error_set(err, ERR_CORRUPT, "byte %zu: a code above the dictionary's %u entries",
                         (size_t)(codes.p - p), entries);
    const unsigned char *x = rights.p + rights.bytes;
    uint64_t mask = UINT64_MAX >> (64 - rights.width);
    uint32_t next = 0; /* the lowest position still allowed */
    for (uint32_t i = 0; i < exceptions; i++, x += MEBO_ALP_SPLIT_EXCEPTION) {
        uint32_t position = wire_load32(x, big);
        if (position < next || position >= count)
            return exception_order((size_t)(x - p), position, count, err);
        uint64_t left = wire_load16(x + 4, big);
        values[position] = wire_double_of(left << rights.width | (wire_bits_of(values[position]) & mask));
        next = position + 1;
    }
    return 0;
}

int mebo_alp_decode(const unsigned char *p, size_t length, uint32_t count, bool big, double *values,
                    struct error *err)
{
    if (length == 0)
        return error_set(err, ERR_CORRUPT, "byte 0: an empty column for %u points", count);
    switch (p[0]) {
    case MEBO_ALP_MAIN:
        return decode_main(p, length, count, big, values, err);
    case MEBO_ALP_SPLIT:
        return decode_split(p, length, count, big, values, err);
    case MEBO_ALP_RAW:
        return mebo_raw_decode(p + 1, length - 1, count, big, values, err);
    default:
        return error_set(err, ERR_CORRUPT, "byte 0: ALP scheme %u is none of 0, 1, 2", p[0]);
    }
}
