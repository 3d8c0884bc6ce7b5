/* xxHash64 with seed 0: metric ids, alarm ids, chamber placement. The same on every machine. */
#ifndef CHAMBERLAIN_BASE_HASH_H
#define CHAMBERLAIN_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash64(const void *bytes, size_t length);
uint64_t hash64_text(const char *text);

/* A hash of several texts in order, each with its terminator, so that ("a","bc") and ("ab","c") differ.
 * The list ends with NULL. */
uint64_t hash64_texts(const char *first, ...) __attribute__((sentinel));

#endif
