#include "notify/config.h"

#include "chart/glob.h"
#include "chart/yamltree.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_MS INT64_C(1000)
#define MINUTE_MS (60 * SECOND_MS)
#define HOUR_MS (60 * MINUTE_MS)
#define DAY_MS (24 * HOUR_MS)

static const char *const kind_names[] = {"alertmanager", "webhook", "file", "terminal"};
enum { KINDS = sizeof kind_names / sizeof *kind_names };

#define FOR(kind) (1u << (kind))
#define FOR_HTTP (FOR(SINK_ALERTMANAGER) | FOR(SINK_WEBHOOK))
#define FOR_ALL (FOR_HTTP | FOR(SINK_FILE) | FOR(SINK_TERMINAL))

const char *sink_kind_name(enum sink_kind kind)
{
    return kind_names[kind];
}

struct reader {
    struct notify_config *config;
    notify_problem *report;
    void *arg;
    bool problems, out_of_memory;
};

__attribute__((format(printf, 3, 4))) static void problem(struct reader *reader, const struct yaml_node *node,
                                                          const char *format, ...)
{
    char message[400];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    reader->problems = true;
    reader->report(reader->arg, node->line, node->column, message);
}

static void on_yaml_problem(void *arg, size_t line, size_t column, const char *message)
{
    struct reader *reader = arg;
    reader->problems = true;
    reader->report(reader->arg, line, column, message);
}

/* --- values --- */

static bool read_text(struct reader *reader, const char *key, const struct yaml_node *node, const char **text)
{
    if (node->kind != YAML_SCALAR || node->length == 0) {
        problem(reader, node, "'%s' wants a text", key);
        return false;
    }
    *text = node->text; /* in the arena */
    return true;
}

static bool read_number(struct reader *reader, const char *key, const struct yaml_node *node, int64_t least,
                        int64_t most, int64_t *value)
{
    char *end = NULL;
    errno = 0;
    long long number = node->kind == YAML_SCALAR && node->length ? strtoll(node->text, &end, 10) : 0;
    if (end == NULL || *end || errno || number < least || number > most) {
        problem(reader, node, "'%s' wants a whole number from %lld to %lld", key, (long long)least,
                (long long)most);
        return false;
    }
    *value = number;
    return true;
}

/* A number with one of the units; 0 when there is no such text. */
static bool read_scaled(const struct yaml_node *node, const char *const *units, const int64_t *factors,
                        int64_t *value)
{
    if (node->kind != YAML_SCALAR || node->length == 0)
        return false;
    char *end;
    errno = 0;
    long long number = strtoll(node->text, &end, 10);
    if (end == node->text || errno || number < 0)
        return false;
    for (size_t i = 0; units[i]; i++)
        if (strcmp(end, units[i]) == 0)
            return !__builtin_mul_overflow((int64_t)number, factors[i], value);
    return false;
}

static bool read_duration(struct reader *reader, const char *key, const struct yaml_node *node, int64_t least,
                          int64_t most, int64_t *ms)
{
    static const char *const units[] = {"ms", "s", "min", "h", "d", NULL};
    static const int64_t factors[] = {1, SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS};
    int64_t value = 0;
    if (node->kind == YAML_SCALAR && node->text && strcmp(node->text, "0") == 0) {
        value = 0;
    } else if (!read_scaled(node, units, factors, &value)) {
        problem(reader, node, "'%s' wants a time such as 500ms, 30s, 10min, 2h or 1d", key);
        return false;
    }
    if (value < least || value > most) {
        problem(reader, node, "'%s' must be between %lld ms and %lld s", key, (long long)least,
                (long long)(most / SECOND_MS));
        return false;
    }
    *ms = value;
    return true;
}

static bool read_bytes(struct reader *reader, const char *key, const struct yaml_node *node, int64_t least,
                       int64_t most, int64_t *bytes)
{
    static const char *const units[] = {"B", "kB", "KB", "MB", "GB", NULL};
    static const int64_t factors[] = {1, 1000, 1000, 1000 * 1000, 1000 * 1000 * 1000};
    int64_t value = 0;
    if (!read_scaled(node, units, factors, &value) || value < least || value > most) {
        problem(reader, node, "'%s' wants a size from %lld B to %lld GB, such as 10MB", key, (long long)least,
                (long long)(most / factors[4]));
        return false;
    }
    *bytes = value;
    return true;
}

/* --- sinks --- */

enum value_kind { VALUE_TEXT, VALUE_NUMBER, VALUE_DURATION, VALUE_BYTES };

/* What a sink may be given beside name, type, url and group_by. */
static const struct sink_key {
    const char *name;
    unsigned kinds;
    enum value_kind value;
    size_t offset;
    int64_t least, most;
} sink_keys[] = {
    {"path", FOR(SINK_FILE), VALUE_TEXT, offsetof(struct sink_config, path)},
    {"secret_file", FOR(SINK_WEBHOOK), VALUE_TEXT, offsetof(struct sink_config, secret_file)},
    {"bearer_token_file", FOR_HTTP, VALUE_TEXT, offsetof(struct sink_config, bearer_token_file)},
    {"ca_file", FOR_HTTP, VALUE_TEXT, offsetof(struct sink_config, ca_file)},
    {"certificate_file", FOR_HTTP, VALUE_TEXT, offsetof(struct sink_config, certificate_file)},
    {"key_file", FOR_HTTP, VALUE_TEXT, offsetof(struct sink_config, key_file)},
    {"timeout", FOR_HTTP, VALUE_DURATION, offsetof(struct sink_config, timeout_ms), 100, MINUTE_MS},
    {"resolve_after", FOR(SINK_ALERTMANAGER), VALUE_DURATION, offsetof(struct sink_config, resolve_after_ms),
     SECOND_MS, 7 * DAY_MS},
    {"rotate_size", FOR(SINK_FILE), VALUE_BYTES, offsetof(struct sink_config, rotate_bytes), 1000,
     INT64_C(100000000000)},
    {"rotate_keep", FOR(SINK_FILE), VALUE_NUMBER, offsetof(struct sink_config, rotate_keep), 1, 100},
    {"group_wait", FOR_ALL, VALUE_DURATION, offsetof(struct sink_config, group_wait_ms), 0, HOUR_MS},
    {"group_max", FOR_ALL, VALUE_NUMBER, offsetof(struct sink_config, group_max), 1, 500},
    {"cool_down", FOR_ALL, VALUE_DURATION, offsetof(struct sink_config, cool_down_ms), 0, 7 * DAY_MS},
    {"since", FOR_ALL, VALUE_DURATION, offsetof(struct sink_config, since_ms), 0, 90 * DAY_MS},
    {"retry_first", FOR_ALL, VALUE_DURATION, offsetof(struct sink_config, retry_first_ms), 10, MINUTE_MS},
    {"retry_most", FOR_ALL, VALUE_DURATION, offsetof(struct sink_config, retry_most_ms), 10, HOUR_MS},
};
enum { SINK_KEYS = sizeof sink_keys / sizeof *sink_keys };

static void list_sink_keys(unsigned kind, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "name, type, group_by%s", kind & FOR_HTTP ? ", url" : "");
    for (size_t i = 0; i < SINK_KEYS; i++)
        if (sink_keys[i].kinds & kind && used < size)
            used += (size_t)snprintf(text + used, size - used, ", %s", sink_keys[i].name);
}

static void read_group_by(struct reader *reader, const struct yaml_node *node, struct sink_config *sink)
{
    sink->group_by = 0;
    if (node->kind != YAML_LIST) {
        problem(reader, node, "'group_by' wants a list, such as [tool, chamber]; [] makes one group of all");
        return;
    }
    for (const struct yaml_node *item = node->first; item; item = item->next) {
        int field = item->kind == YAML_SCALAR ? notice_find_field(item->text) : -1;
        if (field < 0)
            problem(reader, item,
                    "group_by: no field of that name; there are severity, tool, chamber, chart, rule, "
                    "recipe, lot "
                    "and context");
        else
            sink->group_by |= 1u << field;
    }
}

static void read_url(struct reader *reader, const struct yaml_node *node, struct sink_config *sink)
{
    if (!read_text(reader, "url", node, &sink->url))
        return;
    bool http = strncmp(sink->url, "http://", 7) == 0;
    if (!http && strncmp(sink->url, "https://", 8) != 0) {
        problem(reader, node, "'url' begins with https:// or http://");
        return;
    }
    const char *host = sink->url + (http ? 7 : 8);
    size_t length = strcspn(host, "/?#");
    if (length == 0)
        problem(reader, node, "'url' names no host");
    if (memchr(host, '@', length))
        problem(reader, node,
                "'url' holds a name or password; secrets go into a file: bearer_token_file, secret_file");
    for (const char *c = sink->url; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7F) {
            problem(reader, node, "'url' holds a blank or a control character");
            break;
        }
}

static void read_sink_key(struct reader *reader, const struct yaml_node *key, const struct yaml_node *value,
                          struct sink_config *sink)
{
    char known[400];
    for (size_t i = 0; i < SINK_KEYS; i++) {
        const struct sink_key *entry = &sink_keys[i];
        if (strcmp(entry->name, key->text) != 0)
            continue;
        if (!(entry->kinds & FOR(sink->kind))) {
            problem(reader, key, "'%s' is not for a sink of type %s", key->text, kind_names[sink->kind]);
            return;
        }
        char *place = (char *)sink + entry->offset;
        if (entry->value == VALUE_TEXT)
            read_text(reader, key->text, value, (const char **)(void *)place);
        else if (entry->value == VALUE_NUMBER)
            read_number(reader, key->text, value, entry->least, entry->most, (int64_t *)(void *)place);
        else if (entry->value == VALUE_DURATION)
            read_duration(reader, key->text, value, entry->least, entry->most, (int64_t *)(void *)place);
        else
            read_bytes(reader, key->text, value, entry->least, entry->most, (int64_t *)(void *)place);
        return;
    }
    list_sink_keys(FOR(sink->kind), known, sizeof known);
    problem(reader, key, "a sink of type %s has no '%s'; it may have %s", kind_names[sink->kind], key->text,
            known);
}

static const struct yaml_node *find_key(const struct yaml_node *mapping, const char *name)
{
    for (const struct yaml_node *key = mapping->first; key; key = key->next->next)
        if (key->kind == YAML_SCALAR && strcmp(key->text, name) == 0)
            return key;
    return NULL;
}

static bool is_name(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
    return length > 0 && text[length] == '\0' && length <= NOTIFY_NAME_MAX_BYTES;
}

/* Name and type: without them the rest makes no sense. */
static bool read_sink_identity(struct reader *reader, const struct yaml_node *node, struct sink_config *sink)
{
    const struct yaml_node *name = find_key(node, "name"), *type = find_key(node, "type");
    const char *text;
    if (name == NULL || type == NULL) {
        problem(reader, node, "a sink needs a 'name' and a 'type'");
        return false;
    }
    if (!read_text(reader, "name", name->next, &sink->name) || !read_text(reader, "type", type->next, &text))
        return false;
    if (!is_name(sink->name)) {
        problem(reader, name->next, "the name of a sink has 1 to %d of a-z, 0-9 and -",
                NOTIFY_NAME_MAX_BYTES);
        return false;
    }
    for (size_t i = 0; i < reader->config->sink_count; i++)
        if (strcmp(reader->config->sinks[i].name, sink->name) == 0)
            problem(reader, name->next, "another sink is called '%s' already", sink->name);
    for (int kind = 0; kind < KINDS; kind++)
        if (strcmp(kind_names[kind], text) == 0) {
            sink->kind = (enum sink_kind)kind;
            return true;
        }
    problem(reader, type->next,
            "no sinks of type '%.40s'; there are alertmanager, webhook, file and terminal", text);
    return false;
}

static void check_sink(struct reader *reader, const struct yaml_node *node, const struct sink_config *sink)
{
    bool http = FOR(sink->kind) & FOR_HTTP;
    if (http && sink->url == NULL)
        problem(reader, node, "the sink '%s' needs a 'url'", sink->name);
    if (sink->kind == SINK_FILE && sink->path == NULL)
        problem(reader, node, "the sink '%s' needs a 'path'", sink->name);
    if ((sink->certificate_file == NULL) != (sink->key_file == NULL))
        problem(reader, node, "'certificate_file' and 'key_file' go together");
    if (sink->retry_most_ms < sink->retry_first_ms)
        problem(reader, node, "'retry_most' is less than 'retry_first'");
}

static void read_sink(struct reader *reader, const struct yaml_node *node)
{
    struct sink_config sink = {.timeout_ms = 10 * SECOND_MS,
                               .rotate_bytes = 100 * 1000 * 1000,
                               .rotate_keep = 5,
                               .resolve_after_ms = HOUR_MS,
                               .group_by = FOR(NOTICE_BY_TOOL) | FOR(NOTICE_BY_CHAMBER),
                               .group_max = 100,
                               .retry_first_ms = 500,
                               .retry_most_ms = MINUTE_MS};
    if (node->kind != YAML_MAPPING) {
        problem(reader, node, "a sink is a mapping with a name, a type, ...");
        return;
    }
    if (!read_sink_identity(reader, node, &sink))
        return;
    if (FOR(sink.kind) & FOR_HTTP) {
        sink.group_wait_ms = 5 * SECOND_MS;
        sink.cool_down_ms = 10 * MINUTE_MS;
    }
    for (const struct yaml_node *key = node->first; key; key = key->next->next) {
        if (key->kind != YAML_SCALAR || strcmp(key->text, "name") == 0 || strcmp(key->text, "type") == 0)
            continue;
        if (strcmp(key->text, "group_by") == 0)
            read_group_by(reader, key->next, &sink);
        else if (strcmp(key->text, "url") == 0 && FOR(sink.kind) & FOR_HTTP)
            read_url(reader, key->next, &sink);
        else
            read_sink_key(reader, key, key->next, &sink);
    }
    check_sink(reader, node, &sink);
    reader->config->sinks[reader->config->sink_count++] = sink;
}

/* --- routes --- */

static void read_sink_names(struct reader *reader, const char *key, const struct yaml_node *node,
                            uint32_t *set)
{
    if (node->kind != YAML_LIST || node->count == 0) {
        problem(reader, node, "'%s' wants a list of sinks' names, such as [pager]", key);
        return;
    }
    for (const struct yaml_node *item = node->first; item; item = item->next) {
        size_t i = 0, count = reader->config->sink_count;
        while (i < count &&
               !(item->kind == YAML_SCALAR && strcmp(item->text, reader->config->sinks[i].name) == 0))
            i++;
        if (i == count)
            problem(reader, item, "no sink is called '%.40s'", item->kind == YAML_SCALAR ? item->text : "");
        else
            *set |= UINT32_C(1) << i;
    }
}

static void read_severities(struct reader *reader, const struct yaml_node *node, unsigned *set)
{
    const struct yaml_node *item = node->kind == YAML_LIST ? node->first : node;
    *set = 0;
    if (item == NULL)
        problem(reader, node, "'severity' wants at least one of info, warning and critical");
    for (; item; item = node->kind == YAML_LIST ? item->next : NULL) {
        int severity = item->kind == YAML_SCALAR ? notice_find_severity(item->text) : -1;
        if (severity < 0)
            problem(reader, item, "'severity' is info, warning or critical, or a list of them");
        else
            *set |= 1u << severity;
    }
}

static void read_glob(struct reader *reader, const char *key, const struct yaml_node *node, const char **glob)
{
    struct error err;
    if (read_text(reader, key, node, glob) && glob_check(*glob, &err))
        problem(reader, node, "'%s': %.200s", key, err.text);
}

static void read_escalation(struct reader *reader, const struct yaml_node *node, struct route_config *route)
{
    if (node->kind != YAML_MAPPING) {
        problem(reader, node, "'escalate' wants 'after' (a time) and 'to' (a list of sinks)");
        return;
    }
    for (const struct yaml_node *key = node->first; key; key = key->next->next) {
        if (key->kind != YAML_SCALAR)
            continue;
        if (strcmp(key->text, "after") == 0)
            read_duration(reader, "after", key->next, 1, 7 * DAY_MS, &route->escalate_after_ms);
        else if (strcmp(key->text, "to") == 0)
            read_sink_names(reader, "to", key->next, &route->escalate_to);
        else
            problem(reader, key, "'escalate' has no '%.40s'; it has after and to", key->text);
    }
    if (find_key(node, "after") == NULL || find_key(node, "to") == NULL)
        problem(reader, node, "'escalate' wants both 'after' and 'to'");
}

static void read_route_key(struct reader *reader, const struct yaml_node *key, struct route_config *route)
{
    const struct {
        const char *name;
        const char **glob;
    } globs[] = {{"tool", &route->tool},
                 {"chamber", &route->chamber},
                 {"chart", &route->chart},
                 {"recipe", &route->recipe}};
    for (size_t i = 0; i < sizeof globs / sizeof *globs; i++)
        if (strcmp(key->text, globs[i].name) == 0) {
            read_glob(reader, key->text, key->next, globs[i].glob);
            return;
        }
    if (strcmp(key->text, "severity") == 0)
        read_severities(reader, key->next, &route->severities);
    else if (strcmp(key->text, "sinks") == 0)
        read_sink_names(reader, "sinks", key->next, &route->sinks);
    else if (strcmp(key->text, "escalate") == 0)
        read_escalation(reader, key->next, route);
    else
        problem(
            reader, key,
            "a route has no '%.40s'; it may have severity, tool, chamber, chart, recipe, sinks and escalate",
            key->text);
}

static void read_route(struct reader *reader, const struct yaml_node *node)
{
    struct route_config route = {.severities = (1u << NOTICE_SEVERITIES) - 1,
                                 .tool = "*",
                                 .chamber = "*",
                                 .chart = "*",
                                 .recipe = "*"};
    if (node->kind != YAML_MAPPING) {
        problem(reader, node, "a route is a mapping with the 'sinks' it leads to");
        return;
    }
    for (const struct yaml_node *key = node->first; key; key = key->next->next)
        if (key->kind == YAML_SCALAR)
            read_route_key(reader, key, &route);
    if (find_key(node, "sinks") == NULL && find_key(node, "escalate") == NULL)
        problem(reader, node, "a route needs 'sinks', or it leads nowhere");
    reader->config->routes[reader->config->route_count++] = route;
}

/* --- the file --- */

static void read_list(struct reader *reader, const struct yaml_node *root, const char *name, size_t most,
                      void (*read)(struct reader *reader, const struct yaml_node *node))
{
    const struct yaml_node *key = find_key(root, name);
    const struct yaml_node *list = key ? key->next : NULL;
    if (list == NULL) {
        problem(reader, root, "'%s:' is missing", name);
        return;
    }
    if (list->kind != YAML_LIST || list->count == 0 || list->count > most) {
        problem(reader, list, "'%s:' wants a list of 1 to %zu", name, most);
        return;
    }
    for (const struct yaml_node *item = list->first; item; item = item->next)
        read(reader, item);
}

static void check_every_sink_is_used(struct reader *reader, const struct yaml_node *root)
{
    uint32_t used = 0;
    for (size_t i = 0; i < reader->config->route_count; i++)
        used |= reader->config->routes[i].sinks | reader->config->routes[i].escalate_to;
    for (size_t i = 0; i < reader->config->sink_count; i++)
        if (!(used & (UINT32_C(1) << i)))
            problem(reader, root, "no route leads to the sink '%s'", reader->config->sinks[i].name);
}

static void read_root(struct reader *reader, const struct yaml_node *root)
{
    for (const struct yaml_node *key = root->first; key; key = key->next->next)
        if (key->kind == YAML_SCALAR && strcmp(key->text, "sinks") != 0 && strcmp(key->text, "routes") != 0)
            problem(reader, key, "no '%.40s' here; a configuration has sinks and routes", key->text);
    read_list(reader, root, "sinks", NOTIFY_SINKS_MAX, read_sink);
    bool sinks_are_known = !reader->problems;
    if (sinks_are_known || reader->config->sink_count > 0)
        read_list(reader, root, "routes", NOTIFY_ROUTES_MAX, read_route);
    if (!reader->problems)
        check_every_sink_is_used(reader, root);
}

int notify_config_parse(const char *text, size_t length, notify_problem *report, void *arg,
                        struct notify_config *config, struct error *err)
{
    struct reader reader = {.config = config, .report = report, .arg = arg};
    struct yaml_node *root;
    *config = (struct notify_config){0};
    arena_init(&config->arena, 0);
    config->sinks = arena_calloc(&config->arena, NOTIFY_SINKS_MAX, sizeof *config->sinks);
    config->routes = arena_calloc(&config->arena, NOTIFY_ROUTES_MAX, sizeof *config->routes);
    if (config->sinks == NULL || config->routes == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the configuration");
    int code = yaml_tree_parse(text, length, &config->arena, on_yaml_problem, &reader, &root, err);
    if (code)
        return code;
    if (root == NULL || root->kind != YAML_MAPPING) {
        report(arg, 1, 1, "a configuration is a mapping with sinks and routes");
        return error_set(err, ERR_INVALID, "the configuration is empty");
    }
    read_root(&reader, root);
    return reader.problems ? error_set(err, ERR_INVALID, "the configuration has problems") : 0;
}

int notify_config_load(const char *path, notify_problem *report, void *arg, struct notify_config *config,
                       struct error *err)
{
    *config = (struct notify_config){0};
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return error_set(err, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    char *text = malloc(NOTIFY_CONFIG_MAX_BYTES + 1);
    size_t length = text ? fread(text, 1, NOTIFY_CONFIG_MAX_BYTES + 1, file) : 0;
    int code = 0;
    if (text == NULL)
        code = error_set(err, ERR_NO_MEMORY, "no memory for %s", path);
    else if (ferror(file))
        code = error_set(err, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    else if (length > NOTIFY_CONFIG_MAX_BYTES)
        code = error_set(err, ERR_LIMIT, "%s is larger than %d bytes", path, NOTIFY_CONFIG_MAX_BYTES);
    else
        code = notify_config_parse(text, length, report, arg, config, err);
    free(text);
    fclose(file);
    return code;
}

void notify_config_free(struct notify_config *config)
{
    arena_free(&config->arena);
}

static bool route_takes(const struct route_config *route, const struct notice *notice)
{
    return route->severities & (1u << notice->severity) &&
           glob_match(route->tool, notice->fields[NOTICE_BY_TOOL]) &&
           glob_match(route->chamber, notice->fields[NOTICE_BY_CHAMBER]) &&
           glob_match(route->chart, notice->fields[NOTICE_BY_CHART]) &&
           glob_match(route->recipe, notice->fields[NOTICE_BY_RECIPE]);
}

bool notify_config_route(const struct notify_config *config, size_t sink, const struct notice *notice,
                         int64_t *after_ms)
{
    const uint32_t bit = UINT32_C(1) << sink;
    bool escalates = false;
    *after_ms = 0;
    for (size_t i = 0; i < config->route_count; i++) {
        const struct route_config *route = &config->routes[i];
        if (!((route->sinks | route->escalate_to) & bit) || !route_takes(route, notice))
            continue;
        if (route->sinks & bit) {
            *after_ms = 0;
            return true;
        }
        if (!escalates || route->escalate_after_ms < *after_ms)
            *after_ms = route->escalate_after_ms;
        escalates = true;
    }
    return escalates;
}
