#include "defender/alarm.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/strbuf.h"
#include "bus/names.h"
#include "chart/rules.h"

#include <stdio.h>
#include <string.h>

static const struct uchart_point *find_point(const struct uchart *uchart, const char *chart, size_t hint)
{
    if (uchart == NULL)
        return NULL;
    if (hint < uchart->count && strcmp(uchart->points[hint].chart, chart) == 0)
        return &uchart->points[hint];
    for (size_t i = 0; i < uchart->count; i++)
        if (strcmp(uchart->points[i].chart, chart) == 0)
            return &uchart->points[i];
    return NULL;
}

static void add_text(struct strbuf *json, const char *key, const char *value)
{
    strbuf_printf(json, ",\"%s\":", key);
    strbuf_add_json(json, value);
}

static void add_number(struct strbuf *json, const char *key, double value)
{
    strbuf_printf(json, ",\"%s\":", key);
    strbuf_add_json_double(json, value);
}

static void format_alarm(struct strbuf *json, const struct alarm *alarm, const struct context *context,
                         const struct uchart_point *point, enum rule rule, int64_t raised_us)
{
    char when[CLOCK_RFC3339_BYTES];
    strbuf_printf(json, "{\"alarm_id\":\"%s\"", alarm->id);
    add_text(json, "severity", severity_name(point->severity));
    add_text(json, "context_id", context->id);
    add_text(json, "tool_id", context->tool);
    add_text(json, "chamber_id", context->chamber);
    add_text(json, "recipe", context->recipe);
    add_text(json, "lot", context->lot);
    add_text(json, "wafer", context->wafer);
    add_text(json, "ended_at", clock_format_rfc3339(context->end_us, when));
    add_text(json, "chart", point->chart);
    add_text(json, "rule", rule_name(rule));
    add_text(json, "rule_text", rule_description(rule));
    add_number(json, "value", point->value);
    add_number(json, "centre", point->centre);
    add_number(json, "lower", point->lower);
    add_number(json, "upper", point->upper);
    add_text(json, "unit", point->unit);
    add_text(json, "quality", point->flags & POINT_LOW_QUALITY ? "low" : "good");
    add_text(json, "raised_at", clock_format_rfc3339(raised_us, when));
    strbuf_add_char(json, '}');
}

static int make_alarm(const char *cell, const struct context *context, const struct uchart_point *point,
                      enum rule rule, int64_t raised_us, struct arena *arena, struct alarm *alarm,
                      struct error *err)
{
    char prefix[32], subject[NAMES_BYTES];
    snprintf(prefix, sizeof prefix, "alarms.%s", severity_name(point->severity));
    int code = names_for_chamber(cell, prefix, context->tool, context->chamber, subject, err);
    if (code)
        return code;
    alarm->severity = point->severity;
    snprintf(alarm->id, sizeof alarm->id, "%016llx",
             (unsigned long long)hash64_texts(context->tool, context->chamber, context->id, point->chart,
                                              rule_name(rule), NULL));
    struct strbuf json;
    strbuf_init(&json);
    format_alarm(&json, alarm, context, point, rule, raised_us);
    alarm->subject = arena_strdup(arena, subject);
    alarm->json = json.failed ? NULL : arena_strdup(arena, json.text);
    strbuf_free(&json);
    if (alarm->subject == NULL || alarm->json == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for an alarm");
    return 0;
}

int alarm_list(const char *cell, const struct context *context, const struct uchart *uchart,
               const struct uchart *before, int64_t raised_us, struct arena *arena, struct alarm **alarms,
               size_t *count, struct error *err)
{
    size_t most = 0;
    for (size_t i = 0; i < uchart->count; i++)
        most += (size_t)__builtin_popcount(uchart->points[i].rules);
    *count = 0;
    *alarms = arena_calloc(arena, most, sizeof **alarms);
    if (*alarms == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu alarms", most);
    for (size_t i = 0; i < uchart->count; i++) {
        const struct uchart_point *point = &uchart->points[i];
        if (point->state != VERDICT_ALARM)
            continue;
        const struct uchart_point *old = find_point(before, point->chart, i);
        uint32_t fresh = point->rules & ~(old ? old->rules : 0);
        for (int rule = 0; rule < RULE_COUNT; rule++) {
            if (!(fresh & (1u << rule)))
                continue;
            int code =
                make_alarm(cell, context, point, (enum rule)rule, raised_us, arena, &(*alarms)[*count], err);
            if (code)
                return code;
            (*count)++;
        }
    }
    return 0;
}
