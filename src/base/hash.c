#include "base/hash.h"

#include <stdarg.h>
#include <string.h>
#include <xxhash.h>

uint64_t hash64(const void *bytes, size_t length)
{
    return XXH64(bytes, length, 0);
}

uint64_t hash64_text(const char *text)
{
    return hash64(text, strlen(text));
}

uint64_t hash64_texts(const char *first, ...)
{
    uint64_t hash = 0;
    va_list args;
    va_start(args, first);
    /* Each text is hashed with the hash so far as its seed. */
    for (const char *text = first; text; text = va_arg(args, const char *))
        hash = XXH64(text, strlen(text) + 1, hash);
    va_end(args);
    return hash;
}
