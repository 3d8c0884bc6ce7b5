/* Whether a context's samples are sound, and which of them are kept. Pure. */
#ifndef CHAMBERLAIN_COLLECTOR_QUALITY_H
#define CHAMBERLAIN_COLLECTOR_QUALITY_H

#include "base/strbuf.h"
#include "collector/mapping.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Marks in keep[count] the samples of a longest run of never descending times: as few samples as possible are
 * given up, whether one is early, one is late, or the clock was set back. Of several such runs it is the one
 * that is complete first, so that samples at the end go before samples at the beginning. Returns how many are
 * kept, or SIZE_MAX when out of memory. O(count log count); O(count) when nothing is out of order. (Longest
 * increasing subsequence by patience sorting: M. L. Fredman, Discrete Mathematics 11, 1975.) */
size_t quality_keep_ordered(const int64_t *time_us, size_t count, unsigned char *keep);

/* A context's samples, row by row, and what was found while they were read. */
struct quality_series {
    const int64_t *time_us;
    const double *values; /* samples x columns */
    size_t count;
    size_t columns;
    size_t step_column; /* SIZE_MAX: none */
};

/* Takes the mark off kept samples that say the same as the kept one before them, to the bit. Returns how
 * many. */
size_t quality_drop_repeated(const struct quality_series *series, unsigned char *keep);

/* True when the samples that are not kept are the last ones, `most` at most. */
bool quality_is_tail(const unsigned char *keep, size_t count, size_t most);

/* The longest time between neighbours of an ordered series; `*at` is the later one's index. 0 below two
 * samples. */
int64_t quality_longest_gap(const int64_t *time_us, size_t count, size_t *at);

/* The first step that is missing from the set of steps that comes nearest to complete; false when one set is
 * complete (or none is asked for). */
bool quality_missing_step(const struct quality_rules *rules, const struct quality_series *series,
                          double *step);

#endif
