/* What members hear of each other: watches on the buckets, and heartbeats. */
#include "defender/carrier_parts.h"

#include "base/log.h"
#include "bus/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- watches --- */

static void on_watched(void *arg, const struct kv_entry *entry)
{
    struct carrier_watch *watch = arg;
    carrier_feed(watch->carrier,
                 &(struct cluster_event){.kind = EVENT_KV_ENTRY,
                                         .bucket = watch->bucket,
                                         .key = entry->key,
                                         .value = entry->operation == KV_PUT ? entry->value : NULL,
                                         .value_length = entry->length,
                                         .revision = entry->revision});
}

static void on_current(void *arg)
{
    struct carrier_watch *watch = arg;
    carrier_feed(
        watch->carrier,
        &(struct cluster_event){.kind = EVENT_KV_CURRENT, .bucket = watch->bucket, .key = watch->pattern});
}

static void unwatch(struct carrier *carrier, enum cluster_bucket bucket, const char *pattern)
{
    for (struct carrier_watch **link = &carrier->watches; *link;) {
        struct carrier_watch *watch = *link;
        if (watch->bucket == bucket && (pattern == NULL || strcmp(watch->pattern, pattern) == 0)) {
            *link = watch->next;
            if (watch->native)
                kv_watch_stop(watch->native);
            free(watch);
        } else {
            link = &watch->next;
        }
    }
}

static void start_watch(struct carrier_watch *watch)
{
    struct carrier *carrier = watch->carrier;
    struct kv_watch_events events = {.entry = on_watched, .current = on_current, .arg = watch};
    struct error err;
    if (kv_watch_start(carrier->ports.bus, carrier->buckets[watch->bucket], watch->pattern, &events,
                       &watch->native, &err)) {
        LOG_ERROR("a bucket cannot be watched", LOG_STR("error", err.text));
        watch->native = NULL;
    }
}

static void stop_watch(struct carrier_watch *watch)
{
    if (watch->native)
        kv_watch_stop(watch->native);
    watch->native = NULL;
}

void carrier_watch_key(struct carrier *carrier, const struct cluster_action *action)
{
    unwatch(carrier, action->bucket, action->key);
    if (action->value == NULL)
        return;
    struct carrier_watch *made = carrier_must_calloc(sizeof *made);
    made->carrier = carrier;
    made->bucket = action->bucket;
    snprintf(made->pattern, sizeof made->pattern, "%s", action->key);
    made->next = carrier->watches;
    carrier->watches = made;
    if (carrier->connected)
        start_watch(made);
}

void carrier_rest_watches(struct carrier *carrier)
{
    for (struct carrier_watch *watch = carrier->watches; watch; watch = watch->next)
        stop_watch(watch);
}

void carrier_resume_watches(struct carrier *carrier)
{
    for (struct carrier_watch *watch = carrier->watches; watch; watch = watch->next)
        if (watch->native == NULL)
            start_watch(watch);
}

void carrier_end_watches(struct carrier *carrier)
{
    while (carrier->watches) {
        struct carrier_watch *next = carrier->watches->next;
        stop_watch(carrier->watches);
        free(carrier->watches);
        carrier->watches = next;
    }
}

/* --- heartbeats --- */

static void on_heartbeat(void *arg, const struct bus_message *message)
{
    struct carrier *carrier = arg;
    struct cluster_heartbeat heartbeat;
    struct error err;
    if (cluster_heartbeat_parse(message->data, message->length, &heartbeat, &err)) {
        LOG_DEBUG("heartbeat not understood", LOG_STR("error", err.text));
        return;
    }
    carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_HEARTBEAT, .heartbeat = &heartbeat});
}

void carrier_hear_heartbeats(struct carrier *carrier, bool on)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    struct error err;
    snprintf(own, sizeof own, "%s.*", carrier->options.kind.heartbeats);
    if (carrier->heartbeats)
        bus_unsubscribe(carrier->heartbeats);
    carrier->heartbeats = NULL;
    if (on && bus_subscribe(carrier->ports.bus, names_subject(carrier->cell, own, subject), on_heartbeat,
                            carrier, &carrier->heartbeats, &err))
        LOG_ERROR("heartbeats cannot be heard", LOG_STR("error", err.text));
}

void carrier_publish_heartbeat(struct carrier *carrier, const struct cluster_heartbeat *heartbeat)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    struct strbuf json;
    strbuf_init(&json);
    cluster_heartbeat_format(heartbeat, &json);
    snprintf(own, sizeof own, "%s.%s", carrier->options.kind.heartbeats, heartbeat->id);
    names_subject(carrier->cell, own, subject);
    if (bus_publish(carrier->ports.bus, subject, json.text, json.length, NULL))
        ++*carrier->ports.heartbeat_errors;
    strbuf_free(&json);
}
