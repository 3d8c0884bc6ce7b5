/* Timestamps as in delta.c, but from the third point on in groups of four behind a control byte:
 *
 *     control: c3 c2 c1 c0 (2 bits each, c0 lowest), value k takes 1 << ck bytes, little endian
 *     then the values; the last group of a column may have 1..3 of them */
#include "mebo/column.h"
#include "mebo/wire.h"

static const uint64_t size_mask[4] = {0xFF, 0xFFFF, 0xFFFFFFFF, UINT64_MAX};

static int cut(size_t at, uint32_t i, struct error *err)
{
    return error_set(err, ERR_CORRUPT, "byte %zu: point %u is cut by the column's end", at, i);
}

/* The value of `bytes` (1, 2, 4, 8) little-endian bytes, reading only those. */
static uint64_t load_short(const unsigned char *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned k = 0; k < bytes; k++)
        v |= (uint64_t)p[k] << 8 * k;
    return v;
}

int mebo_delta_packed_decode(const unsigned char *p, size_t length, uint32_t count, int64_t *times,
                             struct error *err)
{
    const unsigned char *start = p, *end = p + length, *next;
    uint64_t t, delta = 0, z;
    if ((next = wire_read_varint(p, end, &t)) == NULL)
        return cut(0, 0, err);
    p = next;
    times[0] = (int64_t)t;
    if (count > 1) {
        if ((next = wire_read_varint(p, end, &z)) == NULL)
            return cut((size_t)(p - start), 1, err);
        p = next;
        delta = wire_unzigzag(z);
        t += delta;
        times[1] = (int64_t)t;
    }
    uint32_t i = 2;
    while (i < count && count - i >= 4 && end - p >= 33) { /* a whole group: 1 + 4 * 8 bytes */
        unsigned control = *p++;
        if (control == 0 && wire_load32(p, false) == 0) {
            for (unsigned k = 0; k < 4; k++)
                times[i + k] = (int64_t)(t + (k + 1) * delta);
            t += 4 * delta;
            i += 4;
            p += 4;
            continue;
        }
        for (unsigned k = 0; k < 4; k++) {
            unsigned code = control >> 2 * k & 3;
            z = wire_load64(p, false) & size_mask[code];
            p += (size_t)1 << code;
            delta += wire_unzigzag(z);
            t += delta;
            times[i + k] = (int64_t)t;
        }
        i += 4;
    }
    while (i < count) {
        if (p == end)
            return cut((size_t)(p - start), i, err);
        unsigned control = *p++;
        for (unsigned k = 0; k < 4 && i < count; k++, i++) {
            unsigned bytes = 1U << (control >> 2 * k & 3);
            if ((size_t)(end - p) < bytes)
                return cut((size_t)(p - start), i, err);
            delta += wire_unzigzag(load_short(p, bytes));
            p += bytes;
            t += delta;
            times[i] = (int64_t)t;
        }
    }
    if (p != end)
        return error_set(err, ERR_CORRUPT, "byte %zu: %zu bytes are left after the last of %u points",
                         (size_t)(p - start), (size_t)(end - p), count);
    return 0;
}

static unsigned size_code(uint64_t z)
{
    return (unsigned)(z > 0xFF) + (z > 0xFFFF) + (z > 0xFFFFFFFF);
}

unsigned char *mebo_delta_packed_encode(unsigned char *out, const int64_t *times, uint32_t count)
{
    uint64_t t = (uint64_t)times[0], delta = 0;
    out = wire_write_varint(out, t);
    if (count > 1) {
        delta = (uint64_t)times[1] - t;
        t = (uint64_t)times[1];
        out = wire_write_varint(out, wire_zigzag((int64_t)delta));
    }
    for (uint32_t i = 2; i < count;) {
        unsigned char *control = out++;
        unsigned codes = 0;
        for (unsigned k = 0; k < 4 && i < count; k++, i++) {
            uint64_t d = (uint64_t)times[i] - t;
            uint64_t z = wire_zigzag((int64_t)(d - delta));
            unsigned code = size_code(z);
            wire_store64(out, z, false);
            out += (size_t)1 << code;
            codes |= code << 2 * k;
            t = (uint64_t)times[i];
            delta = d;
        }
        *control = (unsigned char)codes;
    }
    return out;
}
