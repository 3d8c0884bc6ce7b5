#include "bus/names.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int names_check_cell(const char *cell, struct error *err)
{
    size_t length = strlen(cell);
    if (length > NAMES_CELL_MAX_BYTES || strspn(cell, "abcdefghijklmnopqrstuvwxyz0123456789_") != length)
        return error_set(err, ERR_INVALID, "cell '%.64s': use at most %d of a-z, 0-9 and _", cell,
                         NAMES_CELL_MAX_BYTES);
    return 0;
}

const char *names_stream(const char *cell, const char *name, char out[static NAMES_BYTES])
{
    snprintf(out, NAMES_BYTES, "%s%s%s", cell, *cell ? "-" : "", name);
    return out;
}

const char *names_subject(const char *cell, const char *subject, char out[static NAMES_BYTES])
{
    snprintf(out, NAMES_BYTES, "%s%s%s", cell, *cell ? "." : "", subject);
    return out;
}

static bool is_plain(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-_+:/#@~", c));
}

int names_escape(const char *raw, char out[static NAMES_BYTES], struct error *err)
{
    static const char hex[] = "0123456789ABCDEF";
    size_t length = strlen(raw);
    if (length == 0)
        return error_set(err, ERR_INVALID, "an empty name cannot stand in a subject");
    if (length > NAMES_RAW_MAX_BYTES)
        return error_set(err, ERR_LIMIT, "'%.40s...' has %zu bytes; a name may have %d", raw, length,
                         NAMES_RAW_MAX_BYTES);
    char *o = out;
    for (const unsigned char *s = (const unsigned char *)raw; *s; s++) {
        if (is_plain(*s)) {
            *o++ = (char)*s;
        } else {
            *o++ = '%';
            *o++ = hex[*s >> 4];
            *o++ = hex[*s & 15];
        }
    }
    *o = '\0';
    return 0;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int names_unescape(const char *token, size_t length, char out[static NAMES_BYTES], struct error *err)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        int value = (unsigned char)token[i];
        if (token[i] == '%') {
            int high = length - i > 2 ? hex_digit(token[i + 1]) : -1;
            int low = length - i > 2 ? hex_digit(token[i + 2]) : -1;
            value = high < 0 || low < 0 ? 0 : high * 16 + low;
            i += 2;
            if (value == 0 || is_plain((unsigned char)value))
                return error_set(err, ERR_INVALID, "'%.*s' is not an escaped name", (int)length, token);
        } else if (!is_plain((unsigned char)value)) {
            return error_set(err, ERR_INVALID, "'%.*s' is not an escaped name", (int)length, token);
        }
        if (used == NAMES_RAW_MAX_BYTES)
            return error_set(err, ERR_LIMIT, "a name of more than %d bytes", NAMES_RAW_MAX_BYTES);
        out[used++] = (char)value;
    }
    out[used] = '\0';
    if (used == 0)
        return error_set(err, ERR_INVALID, "an empty name in a subject");
    return 0;
}

int names_chamber_key(const char *tool, const char *chamber, char out[static NAMES_BYTES], struct error *err)
{
    char tool_token[NAMES_BYTES], chamber_token[NAMES_BYTES];
    int code = names_escape(tool, tool_token, err);
    if (code)
        return error_prefix(err, code, "tool");
    code = names_escape(chamber, chamber_token, err);
    if (code)
        return error_prefix(err, code, "chamber");
    if (snprintf(out, NAMES_BYTES, "%s.%s", tool_token, chamber_token) >= NAMES_BYTES)
        return error_set(err, ERR_LIMIT, "the subject of tool '%.40s...' would be longer than %d bytes", tool,
                         NAMES_BYTES);
    return 0;
}

int names_for_chamber(const char *cell, const char *prefix, const char *tool, const char *chamber,
                      char out[static NAMES_BYTES], struct error *err)
{
    char key[NAMES_BYTES];
    int code = names_chamber_key(tool, chamber, key, err);
    if (code)
        return code;
    if (snprintf(out, NAMES_BYTES, "%s%s%s.%s", cell, *cell ? "." : "", prefix, key) >= NAMES_BYTES)
        return error_set(err, ERR_LIMIT, "the subject of tool '%.40s...' would be longer than %d bytes", tool,
                         NAMES_BYTES);
    return 0;
}

int names_completed(const char *cell, const char *tool, const char *chamber, char out[static NAMES_BYTES],
                    struct error *err)
{
    char base[NAMES_BYTES];
    int code = names_for_chamber(cell, "dc", tool, chamber, base, err);
    if (code)
        return code;
    if (snprintf(out, NAMES_BYTES, "%s.completed", base) >= NAMES_BYTES)
        return error_set(err, ERR_LIMIT, "the subject of tool '%.40s...' would be longer than %d bytes", tool,
                         NAMES_BYTES);
    return 0;
}

/* Reads "{prefix}{tool}.{chamber}.{rest}" and sets *rest; NULL there when the subject is not of that form. */
static int parse_chamber(const char *subject, const char *prefix, char tool[static NAMES_BYTES],
                         char chamber[static NAMES_BYTES], const char **rest, struct error *err)
{
    *rest = NULL;
    if (strncmp(subject, prefix, strlen(prefix)) != 0)
        return 0;
    const char *s = subject + strlen(prefix);
    const char *dot = strchr(s, '.');
    const char *end = dot ? strchr(dot + 1, '.') : NULL;
    if (end == NULL)
        return 0;
    int code = names_unescape(s, (size_t)(dot - s), tool, err);
    if (code == 0)
        code = names_unescape(dot + 1, (size_t)(end - dot - 1), chamber, err);
    if (code)
        return error_prefix(err, code, "subject %.200s", subject);
    *rest = end + 1;
    return 0;
}

int names_parse_completed(const char *cell, const char *subject, char tool[static NAMES_BYTES],
                          char chamber[static NAMES_BYTES], struct error *err)
{
    char prefix[NAMES_BYTES];
    const char *rest;
    int code = parse_chamber(subject, names_subject(cell, "dc.", prefix), tool, chamber, &rest, err);
    if (code)
        return code;
    if (rest && strcmp(rest, "completed") == 0)
        return 0;
    return error_set(err, ERR_INVALID, "subject '%.200s' is not %s{tool}.{chamber}.completed", subject,
                     prefix);
}

static const char *const SAMPLE_KINDS[] = {"start", "data", "end"};
enum { SAMPLE_KIND_COUNT = sizeof SAMPLE_KINDS / sizeof *SAMPLE_KINDS };

int names_samples(const char *cell, const char *tool, const char *chamber, enum names_sample_kind kind,
                  char out[static NAMES_BYTES], struct error *err)
{
    char base[NAMES_BYTES];
    int code = names_for_chamber(cell, "eqp", tool, chamber, base, err);
    if (code)
        return code;
    if (snprintf(out, NAMES_BYTES, "%s.%s", base, SAMPLE_KINDS[kind]) >= NAMES_BYTES)
        return error_set(err, ERR_LIMIT, "the subject of tool '%.40s...' would be longer than %d bytes", tool,
                         NAMES_BYTES);
    return 0;
}

int names_parse_samples(const char *cell, const char *subject, char tool[static NAMES_BYTES],
                        char chamber[static NAMES_BYTES], enum names_sample_kind *kind, struct error *err)
{
    char prefix[NAMES_BYTES];
    const char *rest;
    int code = parse_chamber(subject, names_subject(cell, "eqp.", prefix), tool, chamber, &rest, err);
    if (code)
        return code;
    for (int i = 0; rest && i < SAMPLE_KIND_COUNT; i++) {
        if (strcmp(rest, SAMPLE_KINDS[i]) == 0) {
            *kind = (enum names_sample_kind)i;
            return 0;
        }
    }
    return error_set(err, ERR_INVALID,
                     "subject '%.200s' is not %s{tool}.{chamber}.start, .data or .end; publish there",
                     subject, prefix);
}
