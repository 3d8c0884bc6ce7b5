#include "memory.h"

#include <stdio.h>
#include <stdlib.h>

static void *checked(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "sim: out of memory\n");
        abort();
    }
    return memory;
}

void *sim_alloc(size_t count, size_t size)
{
    return checked(calloc(count ? count : 1, size));
}

void *sim_grow(void *items, size_t *capacity, size_t size)
{
    *capacity = *capacity ? *capacity * 2 : 16;
    return checked(realloc(items, *capacity * size));
}
