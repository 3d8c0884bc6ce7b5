#include "http/url.h"

#include <string.h>
#include <strings.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* How many bytes the character at `text` has; 0 when it is none that RFC 3629 allows. */
static size_t utf8_length(const unsigned char *text, size_t left)
{
    unsigned char first = text[0];
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xC0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies beyond U+10FFFF. */
    if ((first == 0xE0 && text[1] < 0xA0) || (first == 0xED && text[1] > 0x9F) ||
        (first == 0xF0 && text[1] < 0x90) || (first == 0xF4 && text[1] > 0x8F))
        return 0;
    return length;
}

bool url_text_is_clean(const char *text, size_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t step = utf8_length(bytes + i, length - i);
        if (step == 0 || bytes[i] < 0x20 || bytes[i] == 0x7F)
            return false;
        i += step;
    }
    return true;
}

bool url_unescape(const char *text, size_t length, bool query, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        if (c == '%') {
            int high = i + 1 < length ? hex_value(text[i + 1]) : -1;
            int low = i + 2 < length ? hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (query && c == '+') {
            c = ' ';
        }
        out[used++] = c;
    }
    out[used] = '\0';
    return url_text_is_clean(out, used);
}

int url_parse_query(char *text, struct http_parameter *parameters, size_t most)
{
    size_t count = 0;
    for (char *part = text, *next; part; part = next) {
        next = strchr(part, '&');
        if (next)
            *next++ = '\0';
        if (*part == '\0')
            continue;
        if (count == most)
            return -1;
        char *equals = strchr(part, '=');
        char *value = equals ? equals + 1 : part + strlen(part);
        if (equals)
            *equals = '\0';
        /* Unescaping never makes a text longer: each is written over itself. */
        if (!url_unescape(part, strlen(part), true, part) || !url_unescape(value, strlen(value), true, value))
            return -1;
        parameters[count++] = (struct http_parameter){part, value};
    }
    return (int)count;
}

bool url_match(const char *pattern, const char *path, char id[static HTTP_ID_MAX_BYTES])
{
    static const char hole[] = "{id}";
    id[0] = '\0';
    const char *gap = strstr(pattern, hole);
    if (gap == NULL)
        return strcmp(pattern, path) == 0;
    size_t before = (size_t)(gap - pattern);
    const char *after = gap + strlen(hole);
    if (strncmp(pattern, path, before) != 0)
        return false;
    size_t length = strcspn(path + before, "/");
    if (length == 0 || strcmp(path + before + length, after) != 0)
        return false;
    char whole[3 * HTTP_ID_MAX_BYTES]; /* every byte may be escaped */
    if (length >= sizeof whole || !url_unescape(path + before, length, false, whole) ||
        strlen(whole) >= HTTP_ID_MAX_BYTES)
        return false;
    strcpy(id, whole);
    return true;
}

bool http_address_is_loopback(const char *address)
{
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

bool url_host_is_local(const char *host)
{
    char name[256];
    size_t length = host[0] == '[' ? strcspn(host, "]") : strcspn(host, ":");
    const char *from = host[0] == '[' ? host + 1 : host;
    length -= host[0] == '[' && length > 0;
    if (length >= sizeof name)
        return false;
    memcpy(name, from, length);
    name[length] = '\0';
    if (strcasecmp(name, "localhost") == 0)
        return true;
    /* An address, not a name that begins like one: 127.0.0.1.example.org. */
    bool digits = strspn(name, "0123456789.") == length;
    return (digits || host[0] == '[') && http_address_is_loopback(name);
}
