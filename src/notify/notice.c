#include "notify/notice.h"

#include "base/clock.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *const severity_names[NOTICE_SEVERITIES] = {"info", "warning", "critical"};
static const char *const field_names[NOTICE_FIELDS] = {"severity", "tool",   "chamber", "chart",
                                                       "rule",     "recipe", "lot",     "context"};
/* What the fields are called in the message. */
static const char *const field_keys[NOTICE_FIELDS] = {"severity", "tool_id", "chamber_id", "chart",
                                                      "rule",     "recipe",  "lot",        "context_id"};

const char *notice_severity_name(enum notice_severity severity)
{
    return severity_names[severity];
}

const char *notice_field_name(enum notice_field field)
{
    return field_names[field];
}

static int find(const char *const *names, int count, const char *text)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], text) == 0)
            return i;
    return -1;
}

int notice_find_severity(const char *text)
{
    return find(severity_names, NOTICE_SEVERITIES, text);
}

int notice_find_field(const char *text)
{
    return find(field_names, NOTICE_FIELDS, text);
}

static uint64_t id_of(const json_t *alarm, const char *json, size_t length)
{
    const char *text = json_string_value(json_object_get(alarm, "alarm_id"));
    char *end = NULL;
    uint64_t id = text ? strtoull(text, &end, 16) : 0;
    return id && *end == '\0' ? id : hash64(json, length);
}

static int fill(const json_t *alarm, const char *json, size_t length, struct notice **out, struct error *err)
{
    size_t bytes = sizeof(struct notice) + length + 1;
    const char *texts[NOTICE_FIELDS];
    for (int i = 0; i < NOTICE_FIELDS; i++) {
        const char *text = json_string_value(json_object_get(alarm, field_keys[i]));
        texts[i] = text ? text : "";
        if (strlen(texts[i]) > NOTICE_TEXT_MAX_BYTES)
            return error_set(err, ERR_CORRUPT, "an alarm whose %s is longer than %d bytes", field_keys[i],
                             NOTICE_TEXT_MAX_BYTES);
        bytes += strlen(texts[i]) + 1;
    }
    int severity = notice_find_severity(texts[NOTICE_BY_SEVERITY]);
    if (severity < 0)
        return error_set(err, ERR_CORRUPT, "an alarm of severity '%s'", texts[NOTICE_BY_SEVERITY]);
    struct notice *notice = malloc(bytes);
    if (notice == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for an alarm");
    char *place = (char *)(notice + 1);
    *notice = (struct notice){.id = id_of(alarm, json, length), .severity = (enum notice_severity)severity};
    memcpy(place, json, length);
    place[length] = '\0';
    notice->json = place;
    place += length + 1;
    for (int i = 0; i < NOTICE_FIELDS; i++) {
        notice->fields[i] = place;
        place = stpcpy(place, texts[i]) + 1;
    }
    *out = notice;
    return 0;
}

int notice_parse(const char *json, size_t length, int64_t stored_ms, struct notice **notice,
                 struct error *err)
{
    if (length > NOTICE_MAX_BYTES)
        return error_set(err, ERR_CORRUPT, "an alarm of %zu bytes; at most %d are read", length,
                         NOTICE_MAX_BYTES);
    json_error_t parse;
    json_t *alarm = json_loadb(json, length, JSON_REJECT_DUPLICATES, &parse);
    if (!json_is_object(alarm)) {
        json_decref(alarm);
        return error_set(err, ERR_CORRUPT, "an alarm that is no JSON object: %s", alarm ? "" : parse.text);
    }
    int code = fill(alarm, json, length, notice, err);
    int64_t raised_us;
    const char *raised = json_string_value(json_object_get(alarm, "raised_at"));
    if (code == 0)
        (*notice)->raised_ms =
            raised && clock_parse_rfc3339(raised, &raised_us, NULL) == 0 ? raised_us / 1000 : stored_ms;
    json_decref(alarm);
    return code;
}

uint64_t notice_topic(const struct notice *notice)
{
    return notice_group(notice, 1u << NOTICE_BY_TOOL | 1u << NOTICE_BY_CHAMBER | 1u << NOTICE_BY_CHART |
                                    1u << NOTICE_BY_RULE);
}

uint64_t notice_group(const struct notice *notice, unsigned set)
{
    const char *texts[NOTICE_FIELDS];
    for (int i = 0; i < NOTICE_FIELDS; i++)
        texts[i] = set & (1u << i) ? notice->fields[i] : "";
    return hash64_texts(texts[0], texts[1], texts[2], texts[3], texts[4], texts[5], texts[6], texts[7], NULL);
}
