/* A growing text buffer. Always terminated. An allocation failure is remembered and everything after it is a
 * no-op, so a caller builds the whole text and asks once at the end. */
#ifndef CHAMBERLAIN_BASE_STRBUF_H
#define CHAMBERLAIN_BASE_STRBUF_H

#include <stdbool.h>
#include <stddef.h>

struct strbuf {
    char *text; /* terminated; "" (static) while empty: never NULL */
    size_t length;
    size_t capacity;
    bool failed; /* an allocation failed; the text is incomplete */
};

void strbuf_init(struct strbuf *buf);
void strbuf_free(struct strbuf *buf);
void strbuf_clear(struct strbuf *buf);
void strbuf_add(struct strbuf *buf, const char *text);
void strbuf_add_bytes(struct strbuf *buf, const void *bytes, size_t length);
void strbuf_add_char(struct strbuf *buf, char c);
void strbuf_printf(struct strbuf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* `text` as a JSON string, quotes included; bytes that are not UTF-8 become U+FFFD. */
void strbuf_add_json(struct strbuf *buf, const char *text);

/* A double as JSON: the shortest text that reads back to the same bits; null for NaN and the infinities. */
void strbuf_add_json_double(struct strbuf *buf, double value);

/* Hands the malloc'ed text to the caller (never NULL unless `failed`); the buffer is empty again. */
char *strbuf_take(struct strbuf *buf);

#endif
