/* Memory for the simulation itself, which has no way to go on without: it says so and aborts. */
#ifndef CHAMBERLAIN_SIM_MEMORY_H
#define CHAMBERLAIN_SIM_MEMORY_H

#include <stddef.h>

/* Zeroed. */
void *sim_alloc(size_t count, size_t size);

/* A larger array for `*capacity` elements of `size` bytes; capacity is at least doubled, what is new is not
 * set. */
void *sim_grow(void *items, size_t *capacity, size_t size);

#endif
