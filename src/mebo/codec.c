/* Payload codecs: none, zstd (one frame), S2 (one block), LZ4 (one raw block, whose decoded size nothing
 * states). */
#include "mebo/codec.h"
#include "mebo/wire.h"

#include <lz4.h>
#include <zstd.h>

enum { ZSTD_COUNT_CHUNK = 16 * 1024 };

static int above_limit(size_t limit_bytes, struct error *err)
{
    return error_set(
        err, ERR_LIMIT,
        "decompresses to more than the limit of %zu bytes; raise the limit if the blob is trusted",
        limit_bytes);
}

static int out_of_memory(size_t bytes, struct error *err)
{
    return error_set(err, ERR_NO_MEMORY, "no memory for a payload of %zu bytes", bytes);
}

/* The decoded size of a frame that does not state it, by decoding it to nowhere. */
static int zstd_count(struct mebo_bytes in, size_t limit_bytes, size_t *size, struct error *err)
{
    unsigned char chunk[ZSTD_COUNT_CHUNK];
    ZSTD_DStream *stream = ZSTD_createDStream();
    if (stream == NULL)
        return out_of_memory(ZSTD_DStreamOutSize(), err);
    ZSTD_inBuffer from = {.src = in.data, .size = in.length};
    *size = 0;
    int rc = 0;
    for (size_t more = 1; more != 0 && rc == 0;) {
        ZSTD_outBuffer to = {.dst = chunk, .size = sizeof chunk};
        size_t before = from.pos;
        more = ZSTD_decompressStream(stream, &to, &from);
        *size += to.pos;
        if (ZSTD_isError(more))
            rc = error_set(err, ERR_CORRUPT, "byte %zu: zstd: %s", from.pos, ZSTD_getErrorName(more));
        else if (*size > limit_bytes)
            rc = above_limit(limit_bytes, err);
        else if (more != 0 && to.pos == 0 && from.pos == before)
            rc = error_set(err, ERR_CORRUPT, "byte %zu: the zstd frame is cut", from.pos);
    }
    ZSTD_freeDStream(stream);
    return rc;
}

static int zstd_open(struct mebo_bytes in, size_t limit_bytes, struct arena *arena, struct mebo_bytes *out,
                     struct error *err)
{
    unsigned long long stated = ZSTD_getFrameContentSize(in.data, in.length);
    size_t size = (size_t)stated;
    if (stated == ZSTD_CONTENTSIZE_ERROR)
        return error_set(err, ERR_CORRUPT, "byte 0: no zstd frame begins here");
    if (stated == ZSTD_CONTENTSIZE_UNKNOWN) {
        int rc = zstd_count(in, limit_bytes, &size, err);
        if (rc)
            return rc;
    } else if (stated > limit_bytes) {
        return above_limit(limit_bytes, err);
    }
    unsigned char *to = arena_alloc(arena, size);
    if (to == NULL)
        return out_of_memory(size, err);
    size_t got = ZSTD_decompress(to, size, in.data, in.length);
    if (ZSTD_isError(got))
        return error_set(err, ERR_CORRUPT, "byte 0: zstd: %s", ZSTD_getErrorName(got));
    if (got != size)
        return error_set(err, ERR_CORRUPT, "byte 0: the zstd frame states %zu bytes and holds %zu", size,
                         got);
    *out = (struct mebo_bytes){to, size};
    return 0;
}

static int s2_open(struct mebo_bytes in, size_t limit_bytes, struct arena *arena, struct mebo_bytes *out,
                   struct error *err)
{
    uint64_t size;
    size_t at;
    int rc = mebo_s2_length(in, &size, &at, err);
    if (rc)
        return rc;
    if (size > limit_bytes)
        return above_limit(limit_bytes, err);
    unsigned char *to = arena_alloc(arena, (size_t)size);
    if (to == NULL)
        return out_of_memory((size_t)size, err);
    *out = (struct mebo_bytes){to, (size_t)size};
    return mebo_s2_decode(in, at, to, (size_t)size, err);
}

/* An LZ4 length: the token's nibble, and for 15 bytes that are added up to the first one below 255. */
static bool lz4_length(const unsigned char *p, size_t length, size_t *at, size_t *value)
{
    if (*value != 15)
        return true;
    unsigned char b;
    do {
        if (*at >= length)
            return false;
        b = p[(*at)++];
        *value += b;
    } while (b == 255);
    return true;
}

/* The decoded size of an LZ4 block, by walking its sequences: token, literals, offset of 2 bytes, match of 4
 * or more; the last sequence ends with its literals. */
static int lz4_size(struct mebo_bytes in, size_t limit_bytes, size_t *size, struct error *err)
{
    const unsigned char *p = in.data;
    size_t at = 0;
    *size = 0;
    while (at < in.length) {
        size_t sequence = at;
        unsigned token = p[at++];
        size_t literals = token >> 4, match = token & 15;
        if (!lz4_length(p, in.length, &at, &literals) || literals > in.length - at)
            return error_set(err, ERR_CORRUPT, "byte %zu: the literals of an LZ4 sequence are cut", sequence);
        at += literals;
        *size += literals;
        if (at == in.length)
            return *size > limit_bytes ? above_limit(limit_bytes, err) : 0;
        if (in.length - at < 2)
            break;
        at += 2;
        if (!lz4_length(p, in.length, &at, &match))
            break;
        *size += match + 4;
        if (*size > limit_bytes)
            return above_limit(limit_bytes, err);
    }
    return error_set(err, ERR_CORRUPT, "byte %zu: the LZ4 block is cut", at);
}

static int lz4_open(struct mebo_bytes in, size_t limit_bytes, struct arena *arena, struct mebo_bytes *out,
                    struct error *err)
{
    size_t size;
    if (limit_bytes > LZ4_MAX_INPUT_SIZE)
        limit_bytes = LZ4_MAX_INPUT_SIZE;
    if (in.length > INT32_MAX)
        return error_set(err, ERR_LIMIT, "an LZ4 block of %zu bytes, at most 2 GiB are possible", in.length);
    int rc = lz4_size(in, limit_bytes, &size, err);
    if (rc)
        return rc;
    unsigned char *to = arena_alloc(arena, size);
    if (to == NULL)
        return out_of_memory(size, err);
    int got = LZ4_decompress_safe(in.data, (char *)to, (int)in.length, (int)size);
    if (got < 0 || (size_t)got != size)
        return error_set(err, ERR_CORRUPT, "byte %lld: the LZ4 block is malformed", -(long long)got - 1);
    *out = (struct mebo_bytes){to, size};
    return 0;
}

int mebo_payload_open(enum mebo_codec codec, struct mebo_bytes in, size_t limit_bytes, struct arena *arena,
                      struct mebo_bytes *out, struct error *err)
{
    *out = in;
    if (in.length == 0)
        return 0;
    switch (codec) {
    case MEBO_NONE:
        return in.length > limit_bytes ? above_limit(limit_bytes, err) : 0;
    case MEBO_ZSTD:
        return zstd_open(in, limit_bytes, arena, out, err);
    case MEBO_S2:
        return s2_open(in, limit_bytes, arena, out, err);
    case MEBO_LZ4:
        return lz4_open(in, limit_bytes, arena, out, err);
    }
    return error_set(err, ERR_UNSUPPORTED, "unknown codec %d", (int)codec);
}

size_t mebo_payload_bound(enum mebo_codec codec, size_t length)
{
    switch (codec) {
    case MEBO_ZSTD:
        return ZSTD_compressBound(length);
    case MEBO_S2:
        return mebo_s2_bound(length);
    case MEBO_LZ4:
        return length > LZ4_MAX_INPUT_SIZE ? length : (size_t)LZ4_compressBound((int)length);
    case MEBO_NONE:
        break;
    }
    return length;
}

static int zstd_pack(int level, struct mebo_bytes in, unsigned char *out, size_t *written, struct error *err)
{
    size_t got = ZSTD_compress(out, ZSTD_compressBound(in.length), in.data, in.length, level ? level : 3);
    if (ZSTD_isError(got))
        return error_set(err, ERR_NO_MEMORY, "zstd: %s", ZSTD_getErrorName(got));
    *written = got;
    return 0;
}

int mebo_payload_pack(enum mebo_codec codec, int zstd_level, struct mebo_bytes in, unsigned char *out,
                      size_t *written, struct error *err)
{
    *written = 0;
    if (in.length == 0)
        return 0;
    switch (codec) {
    case MEBO_NONE:
        memmove(out, in.data, in.length);
        *written = in.length;
        return 0;
    case MEBO_ZSTD:
        return zstd_pack(zstd_level, in, out, written, err);
    case MEBO_S2:
        if (in.length > UINT32_MAX)
            return error_set(err, ERR_LIMIT, "a payload of %zu bytes, S2 takes at most 4 GiB", in.length);
        *written = mebo_s2_encode(in.data, in.length, out);
        return 0;
    case MEBO_LZ4:
        if (in.length > LZ4_MAX_INPUT_SIZE)
            return error_set(err, ERR_LIMIT, "a payload of %zu bytes, LZ4 takes at most %d", in.length,
                             LZ4_MAX_INPUT_SIZE);
        *written = (size_t)LZ4_compress_default(in.data, (char *)out, (int)in.length,
                                                LZ4_compressBound((int)in.length));
        return *written ? 0 : error_set(err, ERR_NO_MEMORY, "LZ4 could not compress %zu bytes", in.length);
    }
    return error_set(err, ERR_INVALID, "unknown codec %d", (int)codec);
}
