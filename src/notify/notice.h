/* An alarm of the stream as the notifier reads it (the message is in docs/protocol.md), and the fields by
 * which alarms are routed and grouped. */
#ifndef CHAMBERLAIN_NOTIFY_NOTICE_H
#define CHAMBERLAIN_NOTIFY_NOTICE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

enum {
    NOTICE_MAX_BYTES = 64 * 1024, /* of an alarm's JSON; defenders write less than 2 KiB */
    NOTICE_TEXT_MAX_BYTES = 1024  /* of one field */
};

enum notice_severity { NOTICE_INFO, NOTICE_WARNING, NOTICE_CRITICAL, NOTICE_SEVERITIES };

/* Fields that alarms can be grouped by; bit 1 << field of a set. */
enum notice_field {
    NOTICE_BY_SEVERITY,
    NOTICE_BY_TOOL,
    NOTICE_BY_CHAMBER,
    NOTICE_BY_CHART,
    NOTICE_BY_RULE,
    NOTICE_BY_RECIPE,
    NOTICE_BY_LOT,
    NOTICE_BY_CONTEXT,
    NOTICE_FIELDS
};

/* One allocation holds it with all its texts. */
struct notice {
    uint64_t id; /* of the alarm: the same for the same context, chart and rule */
    int64_t raised_ms;
    enum notice_severity severity;
    const char *fields[NOTICE_FIELDS]; /* "" where the alarm has none */
    const char *json;                  /* as it was published */
};

/* Reads an alarm; `stored_ms` stands in for a raised_at that is missing. The caller frees it with free().
 * ERR_CORRUPT (not such a JSON object, or too long), ERR_NO_MEMORY. */
int notice_parse(const char *json, size_t length, int64_t stored_ms, struct notice **notice,
                 struct error *err);

/* What the cool-down goes by: tool, chamber, chart and rule. */
uint64_t notice_topic(const struct notice *notice);

/* The value of the fields in `set` as one number. */
uint64_t notice_group(const struct notice *notice, unsigned set);

const char *notice_severity_name(enum notice_severity severity);
const char *notice_field_name(enum notice_field field); /* "severity", "tool", ... */

/* The index of `text`, -1 when it is none of them. */
int notice_find_severity(const char *text);
int notice_find_field(const char *text);

#endif
