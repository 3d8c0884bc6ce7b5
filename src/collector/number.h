/* Numbers and times as they stand in trace files. None of this asks the process's locale. */
#ifndef CHAMBERLAIN_COLLECTOR_NUMBER_H
#define CHAMBERLAIN_COLLECTOR_NUMBER_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads a decimal number (sign, digits, fraction, exponent) of exactly `length` bytes, correctly rounded;
 * `decimal` is the fraction's mark, '.' or ','. False when it is anything else: hexadecimal, infinities,
 * "nan", a number beyond a double, over 64 bytes, blanks. */
bool number_parse(const char *text, size_t length, char decimal, double *value);

enum stamp_format {
    STAMP_AUTO,    /* told by the first value: see stamp_resolve */
    STAMP_RFC3339, /* also with a blank instead of the T, and without an offset (then utc_offset_us is meant)
                    */
    STAMP_SECONDS, /* since origin_us, with a fraction */
    STAMP_MS,      /* milliseconds since origin_us */
    STAMP_US,
    STAMP_NS,
    STAMP_PATTERN /* strptime's letters: Y m d H M S y b j p I z f (fraction of a second) % */
};

struct stamp_rule {
    enum stamp_format format;
    const char *pattern;   /* STAMP_PATTERN only; borrowed */
    int64_t origin_us;     /* what the numeric formats count from; 0: the Unix epoch */
    int64_t utc_offset_us; /* local time minus UTC, for times that do not say it */
    char decimal;          /* 0 means '.' */
};

/* The format by its name in a mapping ("rfc3339", "seconds", "ms", "us", "ns", "auto"); false when there is
 * none. */
bool stamp_format_parse(const char *text, enum stamp_format *format);

/* Turns STAMP_AUTO into the format of the sample `text`: a date is RFC 3339; a number is seconds,
 * milliseconds, microseconds or nanoseconds since 1970, whichever puts it between 1980 and 2100. False when
 * none of them does. */
bool stamp_resolve(struct stamp_rule *rule, const char *text, size_t length);

/* The time in microseconds since the Unix epoch, digits beyond microseconds cut off. False when `text` does
 * not follow the rule or the time lies outside the years 0000 to 9999. STAMP_AUTO must have been resolved. */
bool stamp_parse(const struct stamp_rule *rule, const char *text, size_t length, int64_t *us);

/* Checks a pattern. ERR_INVALID names the letter that is not known, or the part that is missing (a date needs
 * year, month and day, or year and day of the year). */
int stamp_check_pattern(const char *pattern, struct error *err);

#endif
