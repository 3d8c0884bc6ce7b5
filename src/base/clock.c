#include "base/clock.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t clock_read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t clock_wall_us(void)
{
    return clock_read_ns(CLOCK_REALTIME) / 1000;
}

int64_t clock_mono_ns(void)
{
    return clock_read_ns(CLOCK_MONOTONIC);
}

/* Howard Hinnant's days_from_civil (http://howardhinnant.github.io/date_algorithms.html): years start in
 * March, so that the leap day is the last of its year; eras are 400 years. */
int64_t clock_days_from_civil(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned year_of_era = (unsigned)(year - era * 400);
    unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + (int64_t)day_of_era - 719468;
}

static void civil_from_days(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned doe = (unsigned)(days - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned shifted = (5 * doy + 2) / 153;
    *day = doy - (153 * shifted + 2) / 5 + 1;
    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = (int64_t)yoe + era * 400 + (*month <= 2);
}

const char *clock_format_rfc3339(int64_t us, char text[static CLOCK_RFC3339_BYTES])
{
    int64_t seconds = us / CLOCK_US_PER_SECOND;
    int64_t fraction = us % CLOCK_US_PER_SECOND;
    if (fraction < 0) {
        fraction += CLOCK_US_PER_SECOND;
        seconds--;
    }
    int64_t days = seconds / 86400;
    int64_t in_day = seconds % 86400;
    if (in_day < 0) {
        in_day += 86400;
        days--;
    }
    int64_t year;
    unsigned month, day;
    civil_from_days(days, &year, &month, &day);
    if (year < 0 || year > 9999) {
        snprintf(text, CLOCK_RFC3339_BYTES, "out-of-range");
        return text;
    }
    int used = snprintf(text, CLOCK_RFC3339_BYTES, "%04d-%02u-%02uT%02d:%02d:%02d", (int)year, month, day,
                        (int)(in_day / 3600), (int)(in_day / 60 % 60), (int)(in_day % 60));
    size_t room = CLOCK_RFC3339_BYTES - (size_t)used;
    if (fraction == 0)
        snprintf(text + used, room, "Z");
    else if (fraction % 1000 == 0)
        snprintf(text + used, room, ".%03dZ", (int)(fraction / 1000));
    else
        snprintf(text + used, room, ".%06dZ", (int)fraction);
    return text;
}

/* Reads exactly `digits` decimal digits at *s and moves past them. */
static bool read_digits(const char **s, int digits, unsigned *value)
{
    *value = 0;
    for (int i = 0; i < digits; i++, (*s)++) {
        if (!isdigit((unsigned char)**s))
            return false;
        *value = *value * 10 + (unsigned)(**s - '0');
    }
    return true;
}

static bool read_char(const char **s, char wanted)
{
    if (toupper((unsigned char)**s) != wanted)
        return false;
    (*s)++;
    return true;
}

static bool read_fraction_us(const char **s, int64_t *us)
{
    *us = 0;
    if (**s != '.')
        return true;
    (*s)++;
    int digits = 0;
    for (; isdigit((unsigned char)**s); (*s)++, digits++)
        if (digits < 6)
            *us = *us * 10 + (**s - '0');
    if (digits == 0 || digits > 9)
        return false;
    for (; digits < 6; digits++)
        *us *= 10;
    return true;
}

static bool read_offset_seconds(const char **s, int64_t *offset)
{
    *offset = 0;
    if (read_char(s, 'Z'))
        return true;
    int sign = **s == '-' ? -1 : **s == '+' ? 1 : 0;
    unsigned hours, minutes;
    if (sign == 0)
        return false;
    (*s)++;
    if (!read_digits(s, 2, &hours) || !read_char(s, ':') || !read_digits(s, 2, &minutes) || hours > 23 ||
        minutes > 59)
        return false;
    *offset = sign * ((int64_t)hours * 3600 + (int64_t)minutes * 60);
    return true;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap ? 1u : 0u);
}

int clock_parse_rfc3339(const char *text, int64_t *us, struct error *err)
{
    const char *s = text;
    unsigned year, month, day, hour, minute, second;
    int64_t fraction, offset;
    bool ok = read_digits(&s, 4, &year) && read_char(&s, '-') && read_digits(&s, 2, &month) &&
              read_char(&s, '-') && read_digits(&s, 2, &day) &&
              (*s == ' ' ? s++ != NULL : read_char(&s, 'T')) && read_digits(&s, 2, &hour) &&
              read_char(&s, ':') && read_digits(&s, 2, &minute) && read_char(&s, ':') &&
              read_digits(&s, 2, &second) && read_fraction_us(&s, &fraction) &&
              read_offset_seconds(&s, &offset) && *s == '\0';
    ok = ok && month >= 1 && month <= 12 && day >= 1 && day <= days_in_month(year, month) && hour < 24 &&
         minute < 60 && second <= 60;
    if (!ok)
        return error_set(err, ERR_INVALID,
                         "'%.40s' is not an RFC 3339 time; write it like 1995-03-06T08:10:11.946Z", text);
    int64_t seconds = clock_days_from_civil(year, month, day) * 86400 + (int64_t)hour * 3600 +
                      (int64_t)minute * 60 + second - offset;
    *us = seconds * CLOCK_US_PER_SECOND + fraction;
    return 0;
}
