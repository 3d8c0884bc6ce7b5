#include "base/strbuf.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char empty_text[1] = "";

void strbuf_init(struct strbuf *buf)
{
    *buf = (struct strbuf){.text = empty_text};
}

void strbuf_free(struct strbuf *buf)
{
    if (buf->capacity)
        free(buf->text);
    strbuf_init(buf);
}

void strbuf_clear(struct strbuf *buf)
{
    buf->length = 0;
    buf->failed = false;
    if (buf->capacity)
        buf->text[0] = '\0';
}

static bool strbuf_reserve(struct strbuf *buf, size_t more)
{
    if (buf->failed || more > SIZE_MAX / 2 - buf->length - 1) {
        buf->failed = true;
        return false;
    }
    size_t need = buf->length + more + 1;
    if (need <= buf->capacity)
        return true;
    size_t capacity = buf->capacity ? buf->capacity : 64;
    while (capacity < need)
        capacity *= 2;
    char *text = realloc(buf->capacity ? buf->text : NULL, capacity);
    if (text == NULL) {
        buf->failed = true;
        return false;
    }
    buf->text = text;
    buf->capacity = capacity;
    return true;
}

void strbuf_add_bytes(struct strbuf *buf, const void *bytes, size_t length)
{
    if (!strbuf_reserve(buf, length))
        return;
    memcpy(buf->text + buf->length, bytes, length);
    buf->length += length;
    buf->text[buf->length] = '\0';
}

void strbuf_add(struct strbuf *buf, const char *text)
{
    strbuf_add_bytes(buf, text, strlen(text));
}

void strbuf_add_char(struct strbuf *buf, char c)
{
    strbuf_add_bytes(buf, &c, 1);
}

void strbuf_printf(struct strbuf *buf, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length >= 0 && strbuf_reserve(buf, (size_t)length)) {
        vsnprintf(buf->text + buf->length, (size_t)length + 1, format, again);
        buf->length += (size_t)length;
    }
    va_end(again);
}

/* Length of the valid UTF-8 sequence at `s`, or 0. Overlong forms and surrogates are invalid (RFC 3629). */
static size_t utf8_sequence_length(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    size_t length = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC2 || s[0] > 0xF4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) || (s[0] == 0xF0 && s[1] < 0x90) ||
        (s[0] == 0xF4 && s[1] > 0x8F))
        return 0;
    return length;
}

void strbuf_add_json(struct strbuf *buf, const char *text)
{
    strbuf_add_char(buf, '"');
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t length = utf8_sequence_length(s);
        if (length == 0) {
            strbuf_add(buf, "\\ufffd");
            s++;
        } else if (*s == '"' || *s == '\\') {
            strbuf_printf(buf, "\\%c", *s++);
        } else if (*s < 0x20 || *s == 0x7F) {
            strbuf_printf(buf, "\\u%04x", *s++);
        } else {
            strbuf_add_bytes(buf, s, length);
            s += length;
        }
    }
    strbuf_add_char(buf, '"');
}

void strbuf_add_json_double(struct strbuf *buf, double value)
{
    if (!isfinite(value)) {
        strbuf_add(buf, "null");
        return;
    }
    char text[32];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        double back = strtod(text, NULL);
        if (memcmp(&back, &value, sizeof value) == 0)
            break;
    }
    strbuf_add(buf, text);
}

char *strbuf_take(struct strbuf *buf)
{
    char *text = NULL;
    if (!buf->failed && strbuf_reserve(buf, 0)) {
        text = buf->text;
        buf->text[buf->length] = '\0';
        strbuf_init(buf);
    }
    return text;
}
