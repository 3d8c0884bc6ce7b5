#include "base/json_writer.h"

#include "base/clock.h"

#include <inttypes.h>

static void begin_item(struct json_writer *json, const char *key)
{
    if (json->follows)
        strbuf_add_char(json->out, ',');
    if (key) {
        strbuf_add_json(json->out, key);
        strbuf_add_char(json->out, ':');
    }
    json->follows = true;
}

void json_begin_object(struct json_writer *json, const char *key)
{
    begin_item(json, key);
    strbuf_add_char(json->out, '{');
    json->follows = false;
}

void json_end_object(struct json_writer *json)
{
    strbuf_add_char(json->out, '}');
    json->follows = true;
}

void json_begin_array(struct json_writer *json, const char *key)
{
    begin_item(json, key);
    strbuf_add_char(json->out, '[');
    json->follows = false;
}

void json_end_array(struct json_writer *json)
{
    strbuf_add_char(json->out, ']');
    json->follows = true;
}

void json_add_text(struct json_writer *json, const char *key, const char *text)
{
    begin_item(json, key);
    if (text)
        strbuf_add_json(json->out, text);
    else
        strbuf_add(json->out, "null");
}

void json_add_integer(struct json_writer *json, const char *key, int64_t value)
{
    begin_item(json, key);
    strbuf_printf(json->out, "%" PRId64, value);
}

void json_add_size(struct json_writer *json, const char *key, size_t value)
{
    begin_item(json, key);
    strbuf_printf(json->out, "%zu", value);
}

void json_add_double(struct json_writer *json, const char *key, double value)
{
    begin_item(json, key);
    strbuf_add_json_double(json->out, value);
}

void json_add_bool(struct json_writer *json, const char *key, bool value)
{
    begin_item(json, key);
    strbuf_add(json->out, value ? "true" : "false");
}

void json_add_time(struct json_writer *json, const char *key, int64_t us)
{
    char text[CLOCK_RFC3339_BYTES];
    json_add_text(json, key, clock_format_rfc3339(us, text));
}

void json_add_id(struct json_writer *json, const char *key, uint64_t id)
{
    begin_item(json, key);
    strbuf_printf(json->out, "\"%016" PRIx64 "\"", id);
}

void json_add_raw(struct json_writer *json, const char *key, const char *raw)
{
    begin_item(json, key);
    strbuf_add(json->out, raw);
}
