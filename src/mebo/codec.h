/* The payload codecs. Internal to src/mebo. */
#ifndef CHAMBERLAIN_MEBO_CODEC_H
#define CHAMBERLAIN_MEBO_CODEC_H

#include "base/arena.h"
#include "base/error.h"
#include "mebo/mebo.h"

/* Decompresses a whole payload: `out` is `in` itself for MEBO_NONE, else memory of the arena. An empty
 * payload is empty. ERR_LIMIT when it would be larger than `limit_bytes`, which is found before the memory is
 * taken. */
int mebo_payload_open(enum mebo_codec codec, struct mebo_bytes in, size_t limit_bytes, struct arena *arena,
                      struct mebo_bytes *out, struct error *err);

/* The most bytes that mebo_payload_pack may write. */
size_t mebo_payload_bound(enum mebo_codec codec, size_t length);

/* Compresses a payload to `out`, where mebo_payload_bound bytes are writable, and gives the `*written` bytes.
 * `in` and `out` may be the same only for MEBO_NONE. `zstd_level` is used by zstd alone. */
int mebo_payload_pack(enum mebo_codec codec, int zstd_level, struct mebo_bytes in, unsigned char *out,
                      size_t *written, struct error *err);

/* ---- S2 blocks (s2.c) ---- */

/* The decoded length that stands before the elements, and the offset of the first element. */
int mebo_s2_length(struct mebo_bytes in, uint64_t *length, size_t *elements_at, struct error *err);

/* Decodes the elements of `in` from byte `at` on into exactly `length` bytes. */
int mebo_s2_decode(struct mebo_bytes in, size_t at, unsigned char *out, size_t length, struct error *err);

size_t mebo_s2_bound(size_t length);

/* One S2 block; returns its length. At most 4 GiB - 1 in. */
size_t mebo_s2_encode(const unsigned char *in, size_t length, unsigned char *out);

#endif
