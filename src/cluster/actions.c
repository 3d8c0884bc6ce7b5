#include "cluster/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cluster_actions_init(struct cluster_actions *actions)
{
    *actions = (struct cluster_actions){0};
    arena_init(&actions->arena, 16 * 1024);
}

void cluster_actions_clear(struct cluster_actions *actions)
{
    arena_reset(&actions->arena);
    actions->count = 0;
}

void cluster_actions_free(struct cluster_actions *actions)
{
    arena_free(&actions->arena);
    free(actions->items);
    *actions = (struct cluster_actions){0};
}

static bool actions_reserve(struct cluster_actions *actions)
{
    if (actions->count < actions->capacity)
        return true;
    size_t capacity = actions->capacity ? 2 * actions->capacity : 16;
    struct cluster_action *items = realloc(actions->items, capacity * sizeof *items);
    if (items == NULL)
        return false;
    actions->items = items;
    actions->capacity = capacity;
    return true;
}

struct cluster_action *actions_add(struct cluster *c, enum cluster_action_kind kind)
{
    struct cluster_action *action = &c->discarded;
    if (actions_reserve(c->actions))
        action = &c->actions->items[c->actions->count++];
    else
        c->failed = true;
    *action = (struct cluster_action){.kind = kind};
    return action;
}

const char *actions_text(struct cluster *c, const char *text)
{
    const char *copy = arena_strdup(&c->actions->arena, text);
    if (copy == NULL)
        c->failed = true;
    return copy ? copy : "";
}

void trace(struct cluster *c, const char *format, ...)
{
    char text[CLUSTER_TRACE_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    const char *copy = actions_text(c, text);
    actions_add(c, ACTION_TRACE)->trace = copy;
}

static struct request ask_kv(struct cluster *c, enum cluster_action_kind kind, enum cluster_bucket bucket,
                             const char *key, const char *value, uint64_t revision)
{
    const char *own_key = actions_text(c, key);
    const char *own_value = value ? actions_text(c, value) : NULL;
    struct cluster_action *action = actions_add(c, kind);
    action->token = ++c->last_token;
    action->bucket = bucket;
    action->key = own_key;
    action->value = own_value;
    action->value_length = own_value ? strlen(own_value) : 0;
    action->revision = revision;
    return (struct request){action->token, c->now_ms};
}

struct request ask_create(struct cluster *c, enum cluster_bucket bucket, const char *key, const char *value)
{
    return ask_kv(c, ACTION_KV_CREATE, bucket, key, value, 0);
}

struct request ask_update(struct cluster *c, enum cluster_bucket bucket, const char *key, const char *value,
                          uint64_t revision)
{
    return ask_kv(c, ACTION_KV_UPDATE, bucket, key, value, revision);
}

struct request ask_delete(struct cluster *c, enum cluster_bucket bucket, const char *key, uint64_t revision)
{
    return ask_kv(c, ACTION_KV_DELETE, bucket, key, NULL, revision);
}

struct request ask(struct cluster *c, enum cluster_action_kind kind, const char *id)
{
    const char *own_id = id ? actions_text(c, id) : NULL;
    struct cluster_action *action = actions_add(c, kind);
    action->token = ++c->last_token;
    action->id = own_id;
    return (struct request){action->token, c->now_ms};
}

bool request_expire(const struct cluster *c, struct request *request, int64_t limit_ms)
{
    if (request->token == 0 || c->now_ms - request->sent_ms < limit_ms)
        return false;
    request->token = 0;
    return true;
}

bool request_is(const struct request *request, const struct cluster_event *event)
{
    return request->token != 0 && request->token == event->token;
}

static void watch_tell(struct cluster *c, const struct watch *watch)
{
    const char *pattern = actions_text(c, watch->pattern);
    struct cluster_action *action = actions_add(c, ACTION_WATCH);
    action->bucket = watch->bucket;
    action->key = pattern;
    action->value = watch->active ? "" : NULL;
}

void watch_begin(struct cluster *c, enum watch_kind kind, enum cluster_bucket bucket, const char *pattern)
{
    struct watch *watch = &c->watches[kind];
    if (watch->active && strcmp(watch->pattern, pattern) == 0)
        return;
    watch_end(c, kind);
    *watch = (struct watch){.active = true, .bucket = bucket};
    snprintf(watch->pattern, sizeof watch->pattern, "%s", pattern);
    watch_tell(c, watch);
}

void watch_end(struct cluster *c, enum watch_kind kind)
{
    struct watch *watch = &c->watches[kind];
    if (!watch->active)
        return;
    watch->active = watch->current = false;
    watch_tell(c, watch);
}

void listen_begin(struct cluster *c)
{
    if (c->listening)
        return;
    c->listening = true;
    actions_add(c, ACTION_LISTEN)->value = "";
}

void listen_end(struct cluster *c)
{
    if (!c->listening)
        return;
    c->listening = false;
    actions_add(c, ACTION_LISTEN)->value = NULL;
}
