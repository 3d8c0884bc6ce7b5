/* The notifier's configuration: sinks, and routes that lead alarms to them (docs/alarms.md). */
#ifndef CHAMBERLAIN_NOTIFY_CONFIG_H
#define CHAMBERLAIN_NOTIFY_CONFIG_H

#include "base/arena.h"
#include "base/error.h"
#include "notify/notice.h"

#include <stdbool.h>

enum {
    NOTIFY_SINKS_MAX = 32,
    NOTIFY_ROUTES_MAX = 256,
    NOTIFY_NAME_MAX_BYTES = 32, /* of a sink */
    NOTIFY_CONFIG_MAX_BYTES = 256 * 1024
};

enum sink_kind { SINK_ALERTMANAGER, SINK_WEBHOOK, SINK_FILE, SINK_TERMINAL };

struct sink_config {
    const char *name;
    enum sink_kind kind;
    const char *url;                                   /* alertmanager, webhook */
    const char *secret_file, *bearer_token_file;       /* NULL, or files that hold them */
    const char *ca_file, *certificate_file, *key_file; /* NULL, or PEM */
    const char *path;                                  /* file */
    int64_t rotate_bytes, rotate_keep;                 /* ... */
    int64_t timeout_ms;
    int64_t resolve_after_ms; /* alertmanager */
    unsigned group_by;
    int64_t group_wait_ms, group_max, cool_down_ms, since_ms, retry_first_ms, retry_most_ms;
};

struct route_config {
    unsigned severities;                         /* bits of enum notice_severity */
    const char *tool, *chamber, *chart, *recipe; /* globs */
    uint32_t sinks;                              /* bits of sinks */
    uint32_t escalate_to;
    int64_t escalate_after_ms;
};

struct notify_config {
    struct arena arena; /* everything lives here */
    struct sink_config *sinks;
    size_t sink_count;
    struct route_config *routes;
    size_t route_count;
};

/* Where a problem is (from 1) and what it is. */
typedef void notify_problem(void *arg, size_t line, size_t column, const char *message);

/* Reads the text of a configuration. Every problem is reported. ERR_INVALID when there was one;
 * ERR_NO_MEMORY. notify_config_free in any case. */
int notify_config_parse(const char *text, size_t length, notify_problem *report, void *arg,
                        struct notify_config *config, struct error *err);

/* The same from a file. ERR_IO, ERR_LIMIT. */
int notify_config_load(const char *path, notify_problem *report, void *arg, struct notify_config *config,
                       struct error *err);

void notify_config_free(struct notify_config *config);

/* Whether the sink is to be told of the alarm, and how long after it was raised: *after_ms 0, or the shortest
 * escalation that leads there. */
bool notify_config_route(const struct notify_config *config, size_t sink, const struct notice *notice,
                         int64_t *after_ms);

const char *sink_kind_name(enum sink_kind kind);

#endif
