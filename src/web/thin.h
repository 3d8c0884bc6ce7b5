/* Thins a trace out for drawing. Pure. */
#ifndef CHAMBERLAIN_WEB_THIN_H
#define CHAMBERLAIN_WEB_THIN_H

#include <stddef.h>
#include <stdint.h>

/* Cuts [from_us, to_us] into `pixels` stretches of equal time and keeps, of each, the least and the greatest
 * of its samples in the order in which they came (one where they are the same; the first where none has a
 * value). Writes the kept samples' indices, ascending, into `kept`, which has room for 2 * pixels or `count`,
 * whichever is less. Returns how many. Times ascend; what lies outside counts to the outermost stretch. */
size_t thin_trace(const int64_t *times_us, const double *values, size_t count, int64_t from_us, int64_t to_us,
                  size_t pixels, size_t *kept);

#endif
