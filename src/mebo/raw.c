/* Raw columns: 8 bytes a point in the blob's byte order, times and values alike. */
#include "mebo/column.h"
#include "mebo/wire.h"

int mebo_raw_decode(const unsigned char *p, size_t length, uint32_t count, bool big, void *out,
                    struct error *err)
{
    if (length != (size_t)count * 8)
        return error_set(err, ERR_CORRUPT, "raw column of %zu bytes for %u points, which need %zu", length,
                         count, (size_t)count * 8);
    if (big == WIRE_HOST_BIG) {
        memcpy(out, p, length);
        return 0;
    }
    unsigned char *to = out;
    for (size_t i = 0; i < length; i += 8) {
        uint64_t v = wire_load64(p + i, big);
        memcpy(to + i, &v, sizeof v);
    }
    return 0;
}

unsigned char *mebo_raw_encode(unsigned char *out, const void *words, uint32_t count, bool big)
{
    const unsigned char *from = words;
    size_t length = (size_t)count * 8;
    if (big == WIRE_HOST_BIG) {
        memcpy(out, from, length);
        return out + length;
    }
    for (size_t i = 0; i < length; i += 8) {
        uint64_t v;
        memcpy(&v, from + i, sizeof v);
        wire_store64(out + i, v, big);
    }
    return out + length;
}
