/* Time: wall-clock microseconds since the Unix epoch for events, monotonic nanoseconds for durations. */
#ifndef CHAMBERLAIN_BASE_CLOCK_H
#define CHAMBERLAIN_BASE_CLOCK_H

#include "base/error.h"

#include <stdint.h>

enum { CLOCK_RFC3339_BYTES = 40 };

#define CLOCK_US_PER_SECOND INT64_C(1000000)

int64_t clock_wall_us(void);
int64_t clock_mono_ns(void);

/* RFC 3339 in UTC with as many fraction digits as the value needs (none, 3 or 6): "1995-03-06T08:10:11.946Z".
 * Years 0000 to 9999; outside them the text is "out-of-range". Returns `text`. */
const char *clock_format_rfc3339(int64_t us, char text[static CLOCK_RFC3339_BYTES]);

/* Reads RFC 3339 with any offset and up to 9 fraction digits (cut to microseconds). ERR_INVALID otherwise. */
int clock_parse_rfc3339(const char *text, int64_t *us, struct error *err);

/* Days since 1970-01-01 of a proleptic Gregorian date (month 1-12). */
int64_t clock_days_from_civil(int64_t year, unsigned month, unsigned day);

#endif
