#include "collector/number.h"

#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NUMBER_MAX_BYTES = 64, EXACT_POWER_MAX = 22, EXPONENT_DIGITS_MAX = 5 };

/* 2^53: every integer up to it is a double. */
#define EXACT_MANTISSA_MAX UINT64_C(9007199254740992)

#define STAMP_MIN_US (INT64_C(-62167219200) * CLOCK_US_PER_SECOND) /* 0000-01-01 */
#define STAMP_MAX_US (INT64_C(253402300800) * CLOCK_US_PER_SECOND - 1)

/* A number's parts: value = mantissa * 10^exponent, exact when `exact`. */
struct decimal {
    uint64_t mantissa;
    int exponent;
    bool negative;
    bool exact;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Checks the form and collects up to 19 digits. */
static bool decimal_scan(const char *text, size_t length, char mark, struct decimal *out)
{
    size_t i = 0;
    size_t digits = 0;
    bool fraction = false;
    *out = (struct decimal){.exact = true};
    if (i < length && (text[i] == '-' || text[i] == '+'))
        out->negative = text[i++] == '-';
    for (; i < length; i++) {
        if (text[i] == mark && !fraction) {
            fraction = true;
        } else if (is_digit(text[i])) {
            digits++;
            if (out->mantissa < UINT64_C(1000000000000000000)) {
                out->mantissa = out->mantissa * 10 + (uint64_t)(text[i] - '0');
                out->exponent -= fraction;
            } else {
                out->exact = false;
                out->exponent += !fraction;
            }
        } else {
            break;
        }
    }
    if (digits == 0)
        return false;
    if (i == length)
        return true;
    if ((text[i] != 'e' && text[i] != 'E') || ++i == length)
        return false;
    bool down = text[i] == '-';
    i += text[i] == '-' || text[i] == '+';
    if (i == length || length - i > EXPONENT_DIGITS_MAX)
        return false;
    int exponent = 0;
    for (; i < length; i++) {
        if (!is_digit(text[i]))
            return false;
        exponent = exponent * 10 + (text[i] - '0');
    }
    out->exponent += down ? -exponent : exponent;
    return true;
}

/* For what the exact path cannot do: the C library, in the C locale whatever the process's is. */
static bool parse_slowly(const char *text, size_t length, char mark, double *value)
{
    char copy[NUMBER_MAX_BYTES + 1];
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (mark != '.') {
        char *at = memchr(copy, mark, length);
        if (at != NULL)
            *at = '.';
    }
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0)
        return false;
    char *end = NULL;
    *value = strtod_l(copy, &end, c_locale);
    freelocale(c_locale);
    return end == copy + length && isfinite(*value);
}

bool number_parse(const char *text, size_t length, char decimal, double *value)
{
    static const double powers[EXACT_POWER_MAX + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                       1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                       1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    struct decimal parts;
    if (length == 0 || length > NUMBER_MAX_BYTES || !decimal_scan(text, length, decimal, &parts))
        return false;
    /* Both factors are exact doubles, so that one multiplication or division rounds once: correctly (Clinger
     * 1990). */
    if (!parts.exact || parts.mantissa > EXACT_MANTISSA_MAX || parts.exponent > EXACT_POWER_MAX ||
        parts.exponent < -EXACT_POWER_MAX)
        return parse_slowly(text, length, decimal, value);
    double magnitude = (double)parts.mantissa;
    magnitude =
        parts.exponent >= 0 ? magnitude * powers[parts.exponent] : magnitude / powers[-parts.exponent];
    *value = parts.negative ? -magnitude : magnitude;
    return true;
}

bool stamp_format_parse(const char *text, enum stamp_format *format)
{
    static const char *const names[] = {"auto", "rfc3339", "seconds", "ms", "us", "ns"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *format = (enum stamp_format)i;
            return true;
        }
    }
    return false;
}

bool stamp_resolve(struct stamp_rule *rule, const char *text, size_t length)
{
    const double from_s = 315532800.0; /* 1980-01-01 */
    const double to_s = 4102444800.0;  /* 2100-01-01 */
    static const struct {
        enum stamp_format format;
        double per_second;
    } scales[] = {{STAMP_SECONDS, 1}, {STAMP_MS, 1e3}, {STAMP_US, 1e6}, {STAMP_NS, 1e9}};
    double value;
    if (!number_parse(text, length, rule->decimal == '\0' ? '.' : rule->decimal, &value)) {
        rule->format = STAMP_RFC3339;
        int64_t us;
        return stamp_parse(rule, text, length, &us);
    }
    for (size_t i = 0; i < sizeof(scales) / sizeof(scales[0]); i++) {
        if (value >= from_s * scales[i].per_second && value < to_s * scales[i].per_second) {
            rule->format = scales[i].format;
            return true;
        }
    }
    return false;
}

/* Microseconds of a decimal that counts units of `unit_us` (or of `per_us` to the microsecond), cut towards
 * zero. */
static bool parse_count(const char *text, size_t length, char mark, int64_t unit_us, int64_t per_us,
                        int64_t *us)
{
    struct decimal parts;
    if (length == 0 || length > NUMBER_MAX_BYTES || !decimal_scan(text, length, mark, &parts))
        return false;
    /* Integers all the way: a double holds today's microseconds only to a quarter of one, and not a
     * nanosecond at all. */
    const uint64_t too_large = (uint64_t)STAMP_MAX_US * 1000;
    __extension__ unsigned __int128 value = parts.mantissa;
    value *= (uint64_t)unit_us;
    for (int e = parts.exponent; e > 0 && value > 0 && value <= too_large; e--)
        value *= 10;
    for (int e = parts.exponent; e < 0 && value > 0; e++)
        value /= 10;
    value /= (uint64_t)per_us;
    if (value > (uint64_t)STAMP_MAX_US)
        return false;
    *us = parts.negative ? -(int64_t)value : (int64_t)value;
    return true;
}

static bool parse_since(const struct stamp_rule *rule, const char *text, size_t length, int64_t *us)
{
    char mark = rule->decimal == '\0' ? '.' : rule->decimal;
    int64_t unit_us = rule->format == STAMP_SECONDS ? CLOCK_US_PER_SECOND
                      : rule->format == STAMP_MS    ? 1000
                                                    : 1;
    int64_t count;
    if (!parse_count(text, length, mark, unit_us, rule->format == STAMP_NS ? 1000 : 1, &count))
        return false;
    *us = rule->origin_us + count; /* both within +-2^58 */
    return *us >= STAMP_MIN_US && *us <= STAMP_MAX_US;
}

/* Two-digit and longer numbers in date patterns: at most `width` digits, at least one. */
static bool take_number(const char **text, const char *end, int width, int *value)
{
    const char *from = *text;
    *value = 0;
    while (*text < end && *text - from < width && is_digit(**text))
        *value = *value * 10 + (*(*text)++ - '0');
    return *text > from;
}

/* What a date pattern collects. */
struct stamp_parts {
    int year, month, day, year_day, hour, minute, second;
    int64_t fraction_us;
    int half; /* 0: 24 hours; 1: AM; 2: PM */
    bool has_offset;
    int64_t offset_us;
};

static bool take_fraction(const char **text, const char *end, int64_t *fraction_us)
{
    int64_t scale = CLOCK_US_PER_SECOND;
    const char *from = *text;
    *fraction_us = 0;
    for (; *text < end && is_digit(**text); (*text)++) {
        scale /= 10;
        *fraction_us += (**text - '0') * scale;
    }
    return *text > from && *text - from <= 9;
}

/* "Z", "+09:00", "-0330" or "+02". */
static bool take_offset(const char **text, const char *end, struct stamp_parts *parts)
{
    parts->has_offset = true;
    parts->offset_us = 0;
    if (*text < end && (**text == 'Z' || **text == 'z')) {
        (*text)++;
        return true;
    }
    if (*text == end || (**text != '+' && **text != '-'))
        return false;
    int sign = *(*text)++ == '-' ? -1 : 1;
    int hours = 0;
    int minutes = 0;
    if (!take_number(text, end, 2, &hours))
        return false;
    if (*text < end && **text == ':')
        (*text)++;
    if (*text < end && is_digit(**text) && !take_number(text, end, 2, &minutes))
        return false;
    parts->offset_us = sign * (hours * INT64_C(60) + minutes) * 60 * CLOCK_US_PER_SECOND;
    return hours < 24 && minutes < 60;
}

static bool take_month_name(const char **text, const char *end, int *month)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    if (end - *text < 3)
        return false;
    for (int i = 0; i < 12; i++) {
        if (strncasecmp(*text, names + (ptrdiff_t)3 * i, 3) == 0) {
            *month = i + 1;
            *text += 3;
            return true;
        }
    }
    return false;
}

static bool take_half(const char **text, const char *end, int *half)
{
    if (end - *text < 2 || ((*text)[1] | 0x20) != 'm')
        return false;
    int first = (*text)[0] | 0x20;
    *half = first == 'a' ? 1 : 2;
    *text += 2;
    return first == 'a' || first == 'p';
}

static bool take_part(char letter, const char **text, const char *end, struct stamp_parts *parts)
{
    switch (letter) {
    case 'Y':
        return take_number(text, end, 4, &parts->year);
    case 'y':
        if (!take_number(text, end, 2, &parts->year))
            return false;
        parts->year += parts->year < 69 ? 2000 : 1900; /* as POSIX strptime */
        return true;
    case 'm':
        return take_number(text, end, 2, &parts->month);
    case 'd':
        return take_number(text, end, 2, &parts->day);
    case 'j':
        return take_number(text, end, 3, &parts->year_day);
    case 'H':
    case 'I':
        return take_number(text, end, 2, &parts->hour);
    case 'M':
        return take_number(text, end, 2, &parts->minute);
    case 'S':
        return take_number(text, end, 2, &parts->second);
    case 'f':
        return take_fraction(text, end, &parts->fraction_us);
    case 'b':
        return take_month_name(text, end, &parts->month);
    case 'p':
        return take_half(text, end, &parts->half);
    case 'z':
        return take_offset(text, end, parts);
    case '%':
        return *text < end && *(*text)++ == '%';
    default:
        return false;
    }
}

static int days_of_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

static bool join_parts(struct stamp_parts *parts, int64_t utc_offset_us, int64_t *us)
{
    if (parts->year_day > 0) {
        if (parts->year_day > 366 || (parts->year_day == 366 && days_of_month(parts->year, 2) == 28))
            return false;
        parts->month = 1;
        parts->day = 1;
    }
    if (parts->month < 1 || parts->month > 12 || parts->day < 1 ||
        parts->day > days_of_month(parts->year, parts->month))
        return false;
    if (parts->half != 0) {
        if (parts->hour < 1 || parts->hour > 12)
            return false;
        parts->hour = parts->hour % 12 + (parts->half == 2 ? 12 : 0);
    }
    if (parts->hour > 23 || parts->minute > 59 || parts->second > 60)
        return false;
    int64_t days = clock_days_from_civil(parts->year, (unsigned)parts->month, (unsigned)parts->day);
    days += parts->year_day > 0 ? parts->year_day - 1 : 0;
    int64_t seconds = days * 86400 + parts->hour * 3600 + parts->minute * 60 + parts->second;
    *us = seconds * CLOCK_US_PER_SECOND + parts->fraction_us -
          (parts->has_offset ? parts->offset_us : utc_offset_us);
    return *us >= STAMP_MIN_US && *us <= STAMP_MAX_US;
}

static bool parse_pattern(const struct stamp_rule *rule, const char *text, size_t length, int64_t *us)
{
    struct stamp_parts parts = {.month = 0};
    const char *end = text + length;
    for (const char *p = rule->pattern; *p != '\0'; p++) {
        if (*p == '%' && p[1] != '\0') {
            if (!take_part(*++p, &text, end, &parts))
                return false;
        } else if (text == end || *text++ != *p) {
            return false;
        }
    }
    return text == end && join_parts(&parts, rule->utc_offset_us, us);
}

/* RFC 3339, and what exporters make of it: "2026-01-31 08:10:11.946" is allowed too. */
static bool parse_rfc3339(const struct stamp_rule *rule, const char *text, size_t length, int64_t *us)
{
    struct stamp_parts parts = {.month = 0};
    const char *end = text + length;
    if (length < 19 || text[4] != '-' || text[7] != '-' ||
        (text[10] != 'T' && text[10] != 't' && text[10] != ' ') || text[13] != ':' || text[16] != ':')
        return false;
    const char *at = text;
    int *const numbers[] = {&parts.year, &parts.month, &parts.day, &parts.hour, &parts.minute, &parts.second};
    for (size_t i = 0; i < 6; i++) {
        int width = i == 0 ? 4 : 2;
        const char *from = at;
        if (!take_number(&at, end, width, numbers[i]) || at - from != width)
            return false;
        at += i < 5; /* the separators were looked at above */
    }
    if (at < end && *at == '.') {
        at++;
        if (!take_fraction(&at, end, &parts.fraction_us))
            return false;
    }
    if (at < end && !take_offset(&at, end, &parts))
        return false;
    return at == end && join_parts(&parts, rule->utc_offset_us, us);
}

bool stamp_parse(const struct stamp_rule *rule, const char *text, size_t length, int64_t *us)
{
    switch (rule->format) {
    case STAMP_AUTO:
        return false;
    case STAMP_RFC3339:
        return parse_rfc3339(rule, text, length, us);
    case STAMP_PATTERN:
        return parse_pattern(rule, text, length, us);
    case STAMP_SECONDS:
    case STAMP_MS:
    case STAMP_US:
    case STAMP_NS:
        return parse_since(rule, text, length, us);
    }
    return false;
}

int stamp_check_pattern(const char *pattern, struct error *err)
{
    bool year = false;
    bool month = false;
    bool day = false;
    for (const char *p = pattern; *p != '\0'; p++) {
        if (*p != '%')
            continue;
        p++;
        if (*p == '\0' || strchr("YymdHMSbjpIzf%", *p) == NULL)
            return error_set(
                err, ERR_INVALID,
                "the time pattern \"%s\" has %%%c, which is not known; use %%Y %%y %%m %%b %%d %%j %%H %%I "
                "%%p %%M %%S %%f %%z %%%%",
                pattern, *p == '\0' ? ' ' : *p);
        year = year || *p == 'Y' || *p == 'y';
        month = month || *p == 'm' || *p == 'b' || *p == 'j';
        day = day || *p == 'd' || *p == 'j';
    }
    if (!year || !month || !day)
        return error_set(err, ERR_INVALID, "the time pattern \"%s\" gives no %s; add it to the pattern",
                         pattern,
                         !year    ? "year (%Y)"
                         : !month ? "month (%m)"
                                  : "day (%d)");
    return 0;
}
