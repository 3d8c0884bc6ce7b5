/* An arena: many small allocations that die together. Not thread-safe; one owner at a time. */
#ifndef CHAMBERLAIN_BASE_ARENA_H
#define CHAMBERLAIN_BASE_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *first;
    struct arena_block *current;
    size_t block_bytes; /* size of a new block */
    size_t used_bytes;  /* handed out since the last reset, for the caller's limits */
};

/* Prepares an empty arena; allocates nothing yet. `block_bytes` 0 means 64 KiB. */
void arena_init(struct arena *arena, size_t block_bytes);

/* Uninitialised memory aligned for any type (16 bytes), or NULL when out of memory. Size 0 gives a valid
 * pointer. */
void *arena_alloc(struct arena *arena, size_t bytes);

/* As arena_alloc(count * size), zeroed; NULL also when the product overflows. */
void *arena_calloc(struct arena *arena, size_t count, size_t size);

/* A terminated copy of `length` bytes of `text`; NULL when out of memory. */
char *arena_strndup(struct arena *arena, const char *text, size_t length);
char *arena_strdup(struct arena *arena, const char *text);

/* printf into the arena; NULL when out of memory. */
char *arena_printf(struct arena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Forgets every allocation and keeps the blocks for reuse. */
void arena_reset(struct arena *arena);

/* Gives everything back. The arena may be used again. */
void arena_free(struct arena *arena);

#endif
