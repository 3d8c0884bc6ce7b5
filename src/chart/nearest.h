/* "Did you mean": the nearest of several names. */
#ifndef CHAMBERLAIN_CHART_NEAREST_H
#define CHAMBERLAIN_CHART_NEAREST_H

#include <stddef.h>

/* The one of `count` names that takes the fewest single-character edits (insert, delete, replace, swap of
 * neighbours; case does not count) to become `name`; NULL when none is within a third of its length, at
 * least 2. */
const char *nearest_name(const char *name, const char *const *names, size_t count);

#endif
