#include "notify/render.h"

#include "base/clock.h"

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static json_t *parse_message(const char *message, struct error *err)
{
    json_error_t parse;
    json_t *root = json_loads(message, 0, &parse);
    if (json_is_array(json_object_get(root, "alarms")))
        return root;
    json_decref(root);
    error_set(err, ERR_CORRUPT, "a message that cannot be read: %s", root ? "no alarms in it" : parse.text);
    return NULL;
}

static void format_number(const json_t *number, char text[static 32])
{
    if (json_is_number(number))
        snprintf(text, 32, "%.6g", json_number_value(number));
    else
        snprintf(text, 32, "-");
}

/* Texts come from equipment: no control character of theirs reaches a terminal. */
static void make_printable(struct strbuf *text, size_t from)
{
    for (size_t i = from; i < text->length; i++)
        if ((unsigned char)text->text[i] < 0x20 || text->text[i] == 0x7F)
            text->text[i] = '?';
}

/* --- Alertmanager --- */

static void add_member(struct strbuf *body, bool *first, const char *key, const char *value)
{
    if (*value == '\0') /* an empty label is none */
        return;
    strbuf_printf(body, "%s\"%s\":", *first ? "" : ",", key);
    strbuf_add_json(body, value);
    *first = false;
}

static void add_labels(struct strbuf *body, const json_t *alarm)
{
    static const struct {
        const char *label, *key;
    } labels[] = {{"severity", "severity"}, {"tool", "tool_id"}, {"chamber", "chamber_id"},
                  {"chart", "chart"},       {"rule", "rule"},    {"recipe", "recipe"}};
    bool first = true;
    strbuf_add(body, "\"labels\":{");
    add_member(body, &first, "alertname", "ChamberlainAlarm");
    for (size_t i = 0; i < sizeof labels / sizeof *labels; i++)
        add_member(body, &first, labels[i].label, text_of(alarm, labels[i].key));
    strbuf_add_char(body, '}');
}

static void add_annotations(struct strbuf *body, const json_t *entry, const json_t *alarm)
{
    static const struct {
        const char *annotation, *key;
    } texts[] = {{"context", "context_id"}, {"lot", "lot"},         {"wafer", "wafer"},
                 {"unit", "unit"},          {"quality", "quality"}, {"rule_text", "rule_text"},
                 {"alarm_id", "alarm_id"}};
    static const char *const numbers[] = {"value", "centre", "lower", "upper"};
    char summary[2048], values[4][32], count[32];
    for (size_t i = 0; i < 4; i++)
        format_number(json_object_get(alarm, numbers[i]), values[i]);
    snprintf(summary, sizeof summary, "%s:%s %s is %s%s%s (limits %s to %s): %s", text_of(alarm, "tool_id"),
             text_of(alarm, "chamber_id"), text_of(alarm, "chart"), values[0],
             *text_of(alarm, "unit") ? " " : "", text_of(alarm, "unit"), values[2], values[3],
             text_of(alarm, "rule_text"));
    snprintf(count, sizeof count, "%lld", (long long)json_integer_value(json_object_get(entry, "count")));
    bool first = true;
    strbuf_add(body, "\"annotations\":{");
    add_member(body, &first, "summary", summary);
    for (size_t i = 0; i < 4; i++)
        add_member(body, &first, numbers[i], values[i]);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add_member(body, &first, texts[i].annotation, text_of(alarm, texts[i].key));
    add_member(body, &first, "count", count);
    strbuf_add_char(body, '}');
}

int render_alertmanager(const char *message, int64_t now_ms, int64_t resolve_after_ms, struct strbuf *body,
                        struct error *err)
{
    json_t *root = parse_message(message, err), *entry;
    if (root == NULL)
        return ERR_CORRUPT;
    char ends[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339((now_ms + resolve_after_ms) * 1000, ends);
    size_t i;
    strbuf_add_char(body, '[');
    json_array_foreach(json_object_get(root, "alarms"), i, entry)
    {
        const json_t *alarm = json_object_get(entry, "alarm");
        strbuf_add(body, i ? ",{" : "{");
        add_labels(body, alarm);
        strbuf_add_char(body, ',');
        add_annotations(body, entry, alarm);
        strbuf_printf(body, ",\"startsAt\":\"%s\",\"endsAt\":\"%s\"}", text_of(entry, "first_raised_at"),
                      ends);
    }
    strbuf_add_char(body, ']');
    json_decref(root);
    return body->failed ? error_set(err, ERR_NO_MEMORY, "no memory for a message") : 0;
}

/* --- terminal --- */

static void add_line(struct strbuf *lines, const json_t *entry, bool colour)
{
    const json_t *alarm = json_object_get(entry, "alarm");
    const char *severity = text_of(alarm, "severity"), *unit = text_of(alarm, "unit");
    json_int_t count = json_integer_value(json_object_get(entry, "count"));
    bool red = colour && strcmp(severity, "critical") == 0;
    char value[32], lower[32], upper[32];
    format_number(json_object_get(alarm, "value"), value);
    format_number(json_object_get(alarm, "lower"), lower);
    format_number(json_object_get(alarm, "upper"), upper);
    strbuf_add(lines, red ? "\033[31m" : "");
    size_t from = lines->length;
    strbuf_printf(lines, "%-24s  %-8s  %s:%s  %s  %s %s%s%s (limits %s to %s)  %s",
                  text_of(alarm, "raised_at"), severity, text_of(alarm, "tool_id"),
                  text_of(alarm, "chamber_id"), text_of(alarm, "context_id"), text_of(alarm, "chart"), value,
                  *unit ? " " : "", unit, lower, upper, text_of(alarm, "rule"));
    if (count > 1)
        strbuf_printf(lines, "  (%lld times)", (long long)count);
    make_printable(lines, from);
    strbuf_add(lines, red ? "\033[0m\n" : "\n");
}

int render_terminal(const char *message, bool colour, struct strbuf *lines, struct error *err)
{
    json_t *root = parse_message(message, err), *entry;
    if (root == NULL)
        return ERR_CORRUPT;
    size_t i;
    json_array_foreach(json_object_get(root, "alarms"), i, entry)
    {
        add_line(lines, entry, colour);
    }
    json_decref(root);
    return lines->failed ? error_set(err, ERR_NO_MEMORY, "no memory for a message") : 0;
}

/* --- signature --- */

int render_signature(const char *secret, size_t secret_length, int64_t now_s, const char *body,
                     char signature[static SIGNATURE_BYTES], struct error *err)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    char stamp[32];
    int stamp_length = snprintf(stamp, sizeof stamp, "%lld.", (long long)now_s);
    size_t body_length = strlen(body), total = (size_t)stamp_length + body_length;
    char *text = malloc(total + 1);
    if (text == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to sign a message");
    memcpy(text, stamp, (size_t)stamp_length);
    memcpy(text + stamp_length, body, body_length + 1);
    const unsigned char *done =
        HMAC(EVP_sha256(), secret, (int)secret_length, (const unsigned char *)text, total, digest, &length);
    free(text);
    if (done == NULL)
        return error_set(err, ERR_UNSUPPORTED, "OpenSSL cannot make an HMAC-SHA256 here");
    int used = snprintf(signature, SIGNATURE_BYTES, "t=%lld,v1=", (long long)now_s);
    for (unsigned int i = 0; i < length; i++)
        used += snprintf(signature + used, SIGNATURE_BYTES - (size_t)used, "%02x", digest[i]);
    return 0;
}
