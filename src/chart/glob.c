#include "chart/glob.h"

#include <stddef.h>
#include <string.h>

/* The end of the class that begins at `[`, or NULL without a `]`. A `]` that comes first belongs to the
 * class. */
static const char *class_end(const char *pattern)
{
    const char *p = pattern + 1;
    if (*p == '!')
        p++;
    if (*p == ']')
        p++;
    return strchr(p, ']');
}

static bool class_has(const char *pattern, const char *end, unsigned char c)
{
    const char *p = pattern + 1;
    bool negated = *p == '!', found = false;
    if (negated)
        p++;
    while (p < end) {
        unsigned char low = (unsigned char)*p++, high = low;
        if (*p == '-' && p + 1 < end) {
            high = (unsigned char)p[1];
            p += 2;
        }
        found = found || (low <= c && c <= high);
    }
    return found != negated;
}

static size_t character_bytes(const char *text)
{
    size_t n = 1;
    while (((unsigned char)text[n] & 0xC0) == 0x80)
        n++;
    return n;
}

/* Bytes of `text` that the first element of `pattern` (not `*`) takes; 0 when it does not match. */
static size_t match_one(const char *pattern, const char *text, size_t *pattern_bytes)
{
    *pattern_bytes = 1;
    if (*text == '\0')
        return 0;
    if (*pattern == '?')
        return character_bytes(text);
    if (*pattern == '[') {
        const char *end = class_end(pattern);
        if (end == NULL)
            return 0;
        *pattern_bytes = (size_t)(end - pattern) + 1;
        return class_has(pattern, end, (unsigned char)*text) ? 1 : 0;
    }
    if (*pattern == '\\' && pattern[1] != '\0') {
        *pattern_bytes = 2;
        pattern++;
    }
    return *pattern == *text ? 1 : 0;
}

bool glob_match(const char *pattern, const char *text)
{
    /* Only the last `*` needs to be tried again: an earlier one that took more could not help. */
    const char *star = NULL, *star_text = NULL;
    for (;;) {
        if (*pattern == '*') {
            star = ++pattern;
            star_text = text;
            continue;
        }
        if (*pattern == '\0' && *text == '\0')
            return true;
        size_t pattern_bytes, bytes = *pattern ? match_one(pattern, text, &pattern_bytes) : 0;
        if (bytes > 0) {
            pattern += pattern_bytes;
            text += bytes;
            continue;
        }
        if (star == NULL || *star_text == '\0')
            return false;
        star_text += character_bytes(star_text);
        text = star_text;
        pattern = star;
    }
}

int glob_check(const char *pattern, struct error *err)
{
    for (const char *p = pattern; *p; p++) {
        if (*p == '\\' && *++p == '\0')
            return error_set(err, ERR_INVALID,
                             "the pattern '%s' ends with '\\'; write '\\\\' for the character itself",
                             pattern);
        if (*p != '[' || (p > pattern && p[-1] == '\\'))
            continue;
        const char *end = class_end(p);
        if (end == NULL)
            return error_set(err, ERR_INVALID, "the pattern '%s' has a '[' without its ']'", pattern);
        p = end;
    }
    return 0;
}
