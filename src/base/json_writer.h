/* Writes JSON for machines: one text, numbers as the shortest digits that read back the same. Pure. */
#ifndef CHAMBERLAIN_BASE_JSON_WRITER_H
#define CHAMBERLAIN_BASE_JSON_WRITER_H

#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

struct json_writer {
    struct strbuf *out; /* borrowed */
    bool follows;       /* something stands before the next item: a comma is due */
};

/* `key` is NULL inside an array and for the outermost value. */
void json_begin_object(struct json_writer *json, const char *key);
void json_end_object(struct json_writer *json);
void json_begin_array(struct json_writer *json, const char *key);
void json_end_array(struct json_writer *json);

void json_add_text(struct json_writer *json, const char *key, const char *text); /* NULL: null */
void json_add_integer(struct json_writer *json, const char *key, int64_t value);
void json_add_size(struct json_writer *json, const char *key, size_t value);
void json_add_double(struct json_writer *json, const char *key, double value); /* not finite: null */
void json_add_bool(struct json_writer *json, const char *key, bool value);
void json_add_time(struct json_writer *json, const char *key, int64_t us);     /* RFC 3339 */
void json_add_id(struct json_writer *json, const char *key, uint64_t id);      /* 16 hex digits */
void json_add_raw(struct json_writer *json, const char *key, const char *raw); /* JSON text as it is */

#endif
