/* The encodings of one metric's column. Internal to src/mebo.
 *
 * Decoders take the column's exact bytes and the number of points from the index, and must find that the
 * points use up the bytes: anything else is ERR_CORRUPT, with the byte of the column. They read nothing
 * outside [p, p + length) and write exactly `count` items. Encoders write at `out`, where mebo_*_bound(count)
 * bytes must be writable (the bound includes scribbling room beyond the end), and return the byte after the
 * column. `count` is at least 1 for encoders; decoders are not called for empty columns. */
#ifndef CHAMBERLAIN_MEBO_COLUMN_H
#define CHAMBERLAIN_MEBO_COLUMN_H

#include "base/error.h"
#include "mebo/mebo.h"

int mebo_raw_decode(const unsigned char *p, size_t length, uint32_t count, bool big, void *out,
                    struct error *err);
unsigned char *mebo_raw_encode(unsigned char *out, const void *words, uint32_t count, bool big);

int mebo_delta_decode(const unsigned char *p, size_t length, uint32_t count, int64_t *times,
                      struct error *err);
/* NULL when two differences are 2^62 microseconds or more apart: the Go library's reader stops at such a
 * point. */
unsigned char *mebo_delta_encode(unsigned char *out, const int64_t *times, uint32_t count);

int mebo_delta_packed_decode(const unsigned char *p, size_t length, uint32_t count, int64_t *times,
                             struct error *err);
unsigned char *mebo_delta_packed_encode(unsigned char *out, const int64_t *times, uint32_t count);

int mebo_gorilla_decode(const unsigned char *p, size_t length, uint32_t count, double *values,
                        struct error *err);
unsigned char *mebo_gorilla_encode(unsigned char *out, const double *values, uint32_t count);

int mebo_chimp_decode(const unsigned char *p, size_t length, uint32_t count, double *values,
                      struct error *err);
unsigned char *mebo_chimp_encode(unsigned char *out, const double *values, uint32_t count);

int mebo_alp_decode(const unsigned char *p, size_t length, uint32_t count, bool big, double *values,
                    struct error *err);
/* `left_counts` are 65,536 zeroes, and are so again afterwards. */
unsigned char *mebo_alp_encode(unsigned char *out, const double *values, uint32_t count, bool big,
                               uint32_t *left_counts);

/* The powers of ten of ALP, 10^k and the double nearest to 10^-k, k = 0..MEBO_ALP_MAX_POWER. */
enum { MEBO_ALP_MAX_POWER = 18 };
extern const double mebo_alp_power[MEBO_ALP_MAX_POWER + 1];
extern const double mebo_alp_inverse[MEBO_ALP_MAX_POWER + 1];

enum mebo_alp_scheme { MEBO_ALP_MAIN = 0, MEBO_ALP_SPLIT = 1, MEBO_ALP_RAW = 2 };
enum {
    MEBO_ALP_MAIN_BYTES = 16,     /* scheme, e, f, w, u32 exceptions, i64 min */
    MEBO_ALP_MAIN_EXCEPTION = 12, /* u32 position, u64 bits */
    MEBO_ALP_SPLIT_BYTES = 8,     /* scheme, r, c, entries, u32 exceptions */
    MEBO_ALP_SPLIT_EXCEPTION = 6, /* u32 position, u16 left part */
    MEBO_ALP_DICTIONARY = 8,      /* most entries */
    MEBO_ALP_LEFT_VALUES = 65536
};

/* Bytes that must be writable for one column of `count` points in this encoding. */
size_t mebo_column_bound(enum mebo_encoding encoding, uint32_t count);

#endif
