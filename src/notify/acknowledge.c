#include "notify/acknowledge.h"

#include "base/clock.h"
#include "bus/names.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_MAX_BYTES = 32 * 1024 };

#define KEPT_MS (INT64_C(90) * 86400 * 1000)

bool acknowledge_is_id(const char *alarm_id)
{
    return strlen(alarm_id) == ACKNOWLEDGE_ID_BYTES - 1 &&
           strspn(alarm_id, "0123456789abcdef") == ACKNOWLEDGE_ID_BYTES - 1;
}

void acknowledge_ensure(struct bus *bus, const char *cell, int replicas, kv_done *done, void *arg)
{
    char bucket[NAMES_BYTES];
    const struct kv_spec spec = {.bucket = names_stream(cell, ACKNOWLEDGE_BUCKET, bucket),
                                 .ttl_ms = KEPT_MS,
                                 .max_value_bytes = VALUE_MAX_BYTES,
                                 .replicas = replicas};
    kv_ensure(bus, &spec, done, arg);
}

void acknowledge_format(const struct acknowledgement *acknowledgement, struct strbuf *json)
{
    char when[CLOCK_RFC3339_BYTES];
    strbuf_add(json, "{\"by\":");
    strbuf_add_json(json, acknowledgement->by);
    strbuf_add(json, ",\"comment\":");
    strbuf_add_json(json, acknowledgement->comment);
    strbuf_printf(json, ",\"at\":\"%s\"}", clock_format_rfc3339(acknowledgement->at_us, when));
}

int acknowledge_parse(const char *json, size_t length, struct acknowledgement *acknowledgement,
                      struct error *err)
{
    json_error_t parse;
    json_t *value = json_loadb(json, length, 0, &parse);
    const char *by = json_string_value(json_object_get(value, "by"));
    const char *comment = json_string_value(json_object_get(value, "comment"));
    const char *at = json_string_value(json_object_get(value, "at"));
    int code = 0;
    if (by == NULL || at == NULL || clock_parse_rfc3339(at, &acknowledgement->at_us, NULL)) {
        code = error_set(err, ERR_CORRUPT, "an acknowledgement without 'by' or 'at'");
    } else {
        snprintf(acknowledgement->by, sizeof acknowledgement->by, "%s", by);
        snprintf(acknowledgement->comment, sizeof acknowledgement->comment, "%s", comment ? comment : "");
    }
    json_decref(value);
    return code;
}

void acknowledge_put(struct bus *bus, const char *cell, const char *alarm_id,
                     const struct acknowledgement *acknowledgement, kv_done *done, void *arg)
{
    char bucket[NAMES_BYTES];
    struct strbuf json;
    do {
        strbuf_init(&json);
        acknowledge_format(acknowledgement, &json);
    } while (json.failed && (strbuf_free(&json), uv_sleep(1), true));
    kv_put(bus, names_stream(cell, ACKNOWLEDGE_BUCKET, bucket), alarm_id, json.text, json.length, done, arg);
    strbuf_free(&json);
}

struct question {
    acknowledge_answer *answer;
    void *arg;
};

static void on_value(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    struct question *question = arg;
    struct acknowledgement found = {0};
    struct error err = *error;
    if (code == 0)
        code = acknowledge_parse(entry->value, entry->length, &found, &err);
    question->answer(question->arg, code, &err, code ? NULL : &found);
    free(question);
}

void acknowledge_get(struct bus *bus, const char *cell, const char *alarm_id, acknowledge_answer *answer,
                     void *arg)
{
    char bucket[NAMES_BYTES];
    struct question *question;
    while ((question = malloc(sizeof *question)) == NULL)
        uv_sleep(1);
    *question = (struct question){answer, arg};
    kv_get(bus, names_stream(cell, ACKNOWLEDGE_BUCKET, bucket), alarm_id, on_value, question);
}
