#include "bus/kv.h"

#include "base/log.h"
#include "base/strbuf.h"
#include "bus/consumer.h"
#include "bus/jetstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KV_NAME_BYTES = 512,
    WATCH_HEARTBEAT_MS = 2000,
    WATCH_TICK_MS = 250,
    WATCH_INACTIVE_S = 30,
    WATCH_RETRY_MS = 500
};

/* --- one operation on a key --- */

struct kv_call {
    struct bus *bus;
    char *bucket;
    char *key;
    kv_done *done;
    kv_answer *answer;
    void *arg;
    /* kv_create only: the value, for the second try over a delete marker */
    void *value;
    size_t length;
};

static struct kv_call *kv_call_new(struct bus *bus, const char *bucket, const char *key, void *arg)
{
    struct kv_call *call;
    while ((call = calloc(1, sizeof *call)) == NULL)
        uv_sleep(1);
    call->bus = bus;
    while ((call->bucket = strdup(bucket)) == NULL)
        uv_sleep(1);
    while ((call->key = strdup(key)) == NULL)
        uv_sleep(1);
    call->arg = arg;
    return call;
}

static void kv_call_free(struct kv_call *call)
{
    free(call->bucket);
    free(call->key);
    free(call->value);
    free(call);
}

static void on_ensured(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)response;
    struct kv_call *call = arg;
    if (api_error == JETSTREAM_STREAM_NAME_IN_USE)
        code = 0; /* there, with settings of its own */
    call->done(call->arg, code, error, 0);
    kv_call_free(call);
}

void kv_ensure(struct bus *bus, const struct kv_spec *spec, kv_done *done, void *arg)
{
    struct kv_call *call = kv_call_new(bus, spec->bucket, "", arg);
    call->done = done;
    char name[BUS_SUBJECT_MAX_BYTES + 8], subject[BUS_SUBJECT_MAX_BYTES + 16],
        verb[BUS_SUBJECT_MAX_BYTES + 24];
    snprintf(name, sizeof name, "KV_%s", spec->bucket);
    snprintf(subject, sizeof subject, "$KV.%s.>", spec->bucket);
    snprintf(verb, sizeof verb, "STREAM.CREATE.%s",
             name); /* cut, it is still too long for the bus, which refuses it */
    /* The duplicate window may not be longer than the age; two minutes is the server's own default. */
    int64_t window_ms = spec->ttl_ms && spec->ttl_ms < 120000 ? spec->ttl_ms : 120000;
    json_t *config =
        json_pack("{s:s, s:[s], s:i, s:s, s:b, s:b, s:b, s:s, s:I, s:I, s:I, s:i}", "name", name, "subjects",
                  subject, "max_msgs_per_subject", spec->history ? spec->history : 1, "discard", "new",
                  "allow_rollup_hdrs", 1, "deny_delete", 1, "allow_direct", 1, "storage", "file", "max_age",
                  (json_int_t)(spec->ttl_ms * 1000000), "max_msg_size",
                  (json_int_t)(spec->max_value_bytes ? spec->max_value_bytes : -1), "duplicate_window",
                  (json_int_t)(window_ms * 1000000), "num_replicas", spec->replicas ? spec->replicas : 1);
    jetstream_call(bus, verb, config, 0, on_ensured, call);
    json_decref(config);
}

static void on_written(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    struct kv_call *call = arg;
    uint64_t revision = code ? 0 : (uint64_t)json_integer_value(json_object_get(response, "seq"));
    call->done(call->arg, code, error, revision);
    kv_call_free(call);
}

static void publish_value(struct kv_call *call, const struct bus_header *headers, size_t header_count,
                          const void *value, size_t length, jetstream_answer *answer)
{
    struct strbuf subject;
    strbuf_init(&subject);
    strbuf_printf(&subject, "$KV.%s.%s", call->bucket, call->key); /* too long a one is refused by the bus */
    jetstream_publish(call->bus, subject.text, headers, header_count, value, length, answer, call);
    strbuf_free(&subject);
}

static void publish_expecting(struct kv_call *call, uint64_t revision, const void *value, size_t length,
                              jetstream_answer *answer)
{
    char expected[24];
    snprintf(expected, sizeof expected, "%llu", (unsigned long long)revision);
    const struct bus_header header = {"Nats-Expected-Last-Subject-Sequence", expected};
    publish_value(call, &header, 1, value, length, answer);
}

void kv_put(struct bus *bus, const char *bucket, const char *key, const void *value, size_t length,
            kv_done *done, void *arg)
{
    struct kv_call *call = kv_call_new(bus, bucket, key, arg);
    call->done = done;
    publish_value(call, NULL, 0, value, length, on_written);
}

void kv_update(struct bus *bus, const char *bucket, const char *key, const void *value, size_t length,
               uint64_t revision, kv_done *done, void *arg)
{
    struct kv_call *call = kv_call_new(bus, bucket, key, arg);
    call->done = done;
    publish_expecting(call, revision, value, length, on_written);
}

void kv_delete(struct bus *bus, const char *bucket, const char *key, uint64_t revision, kv_done *done,
               void *arg)
{
    struct kv_call *call = kv_call_new(bus, bucket, key, arg);
    call->done = done;
    char expected[24];
    snprintf(expected, sizeof expected, "%llu", (unsigned long long)revision);
    const struct bus_header headers[] = {{"KV-Operation", "DEL"},
                                         {"Nats-Expected-Last-Subject-Sequence", expected}};
    publish_value(call, headers, revision ? 2 : 1, "", 0, on_written);
}

/* --- reading --- */

static enum kv_operation read_operation(const struct bus_message *message)
{
    const char *operation = bus_message_header(message, "KV-Operation");
    return operation && (strcmp(operation, "DEL") == 0 || strcmp(operation, "PURGE") == 0) ? KV_DELETED
                                                                                           : KV_PUT;
}

/* The entry whatever it is: ERR_NOT_FOUND with `entry` set is a delete marker. */
static void on_direct_get(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    struct kv_call *call = arg;
    struct error err = *error;
    struct kv_entry entry = {.key = call->key};
    const struct kv_entry *found = NULL;
    const char *sequence = code ? NULL : bus_message_header(message, "Nats-Sequence");
    if (code == 0 && sequence == NULL && bus_message_status(message) == 404) {
        code = error_set(&err, ERR_NOT_FOUND, "bucket %s has no key %s", call->bucket, call->key);
    } else if (code == 0 && sequence == NULL) {
        code = error_set(&err, ERR_UNAVAILABLE, "bucket %s: status %d", call->bucket,
                         bus_message_status(message));
    } else if (code == 0) {
        entry.operation = read_operation(message);
        entry.value = message->data;
        entry.length = message->length;
        entry.revision = strtoull(sequence, NULL, 10);
        found = &entry;
        if (entry.operation == KV_DELETED)
            code = error_set(&err, ERR_NOT_FOUND, "key %s of bucket %s was deleted", call->key, call->bucket);
    }
    call->answer(call->arg, code, &err, found);
    kv_call_free(call);
}

static void direct_get(struct bus *bus, const char *bucket, const char *key, kv_answer *answer, void *arg)
{
    struct kv_call *call = kv_call_new(bus, bucket, key, arg);
    call->answer = answer;
    struct strbuf subject;
    strbuf_init(&subject);
    strbuf_printf(&subject, "$JS.API.DIRECT.GET.KV_%s.$KV.%s.%s", bucket, bucket, key);
    bus_request(bus, subject.text, NULL, 0, "", 0, 0, on_direct_get, call);
    strbuf_free(&subject);
}

struct get_call {
    kv_answer *answer;
    void *arg;
};

static void on_got(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    struct get_call *get = arg;
    get->answer(get->arg, code, error, code ? NULL : entry);
    free(get);
}

void kv_get(struct bus *bus, const char *bucket, const char *key, kv_answer *answer, void *arg)
{
    struct get_call *get;
    while ((get = calloc(1, sizeof *get)) == NULL)
        uv_sleep(1);
    *get = (struct get_call){.answer = answer, .arg = arg};
    direct_get(bus, bucket, key, on_got, get);
}

/* --- creating: over nothing, or over a delete marker --- */

static void on_marker_read(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    struct kv_call *call = arg;
    if (code == ERR_NOT_FOUND) {
        publish_expecting(call, entry ? entry->revision : 0, call->value, call->length, on_written);
        return;
    }
    struct error err = *error;
    if (code == 0)
        code = error_set(&err, ERR_CONFLICT, "key %s of bucket %s exists", call->key, call->bucket);
    call->done(call->arg, code, &err, 0);
    kv_call_free(call);
}

static void on_create_tried(void *arg, int code, int api_error, const struct error *error,
                            const json_t *response)
{
    struct kv_call *call = arg;
    if (code == ERR_CONFLICT)
        direct_get(call->bus, call->bucket, call->key, on_marker_read, call);
    else
        on_written(arg, code, api_error, error, response);
}

void kv_create(struct bus *bus, const char *bucket, const char *key, const void *value, size_t length,
               kv_done *done, void *arg)
{
    struct kv_call *call = kv_call_new(bus, bucket, key, arg);
    call->done = done;
    while ((call->value = malloc(length + 1)) == NULL)
        uv_sleep(1);
    memcpy(call->value, value, length);
    call->length = length;
    publish_expecting(call, 0, value, length, on_create_tried);
}

/* --- watching: an ephemeral push consumer that is made anew whenever its sequence has a hole --- */

struct kv_watch {
    struct bus *bus;
    struct kv_watch_events events;
    char bucket[KV_NAME_BYTES];
    char pattern[KV_NAME_BYTES];
    struct bus_subscription *subscription; /* of the present consumer */
    uint64_t generation;                   /* of the present consumer */
    uint64_t next_sequence;                /* of the consumer's deliveries */
    uint64_t connection;                   /* bus_connections when the present consumer was asked for */
    bool creating;
    bool told_current;
    bool stopped;
    int64_t silent_ms;
    int open_calls;
    bool tick_closed;
    uv_timer_t tick;
};

struct watch_call {
    struct kv_watch *watch;
    uint64_t generation;
};

static void watch_restart(struct kv_watch *watch);

static void watch_free_if_done(struct kv_watch *watch)
{
    if (watch->stopped && watch->tick_closed && watch->open_calls == 0)
        free(watch);
}

static void tell_current(struct kv_watch *watch)
{
    if (watch->told_current)
        return;
    watch->told_current = true;
    if (watch->events.current)
        watch->events.current(watch->events.arg);
}

static void on_watch_created(void *arg, int code, int api_error, const struct error *error,
                             const json_t *response)
{
    (void)api_error;
    struct watch_call *call = arg;
    struct kv_watch *watch = call->watch;
    watch->open_calls--;
    if (!watch->stopped && call->generation == watch->generation) {
        watch->creating = false;
        if (code)
            LOG_DEBUG("bucket cannot be watched yet", LOG_STR("bucket", watch->bucket),
                      LOG_STR("error", error->text));
        else if (json_integer_value(json_object_get(response, "num_pending")) == 0 &&
                 watch->next_sequence == 1)
            tell_current(watch);
        /* A failure is tried again by the tick. */
        watch->silent_ms = code ? 2 * WATCH_HEARTBEAT_MS - WATCH_RETRY_MS : 0;
    }
    free(call);
    watch_free_if_done(watch);
}

static void on_watch_message(void *arg, const struct bus_message *message)
{
    struct kv_watch *watch = arg;
    watch->silent_ms = 0;
    if (strncmp(message->reply, "$JS.ACK.", 8) != 0 && bus_message_status(message) == 100) {
        const char *stalled = bus_message_header(message, "Nats-Consumer-Stalled");
        if (*message->reply) /* flow control: the server waits for this echo */
            bus_publish(watch->bus, message->reply, "", 0, NULL);
        else if (stalled)
            bus_publish(watch->bus, stalled, "", 0, NULL);
        const char *last = bus_message_header(message, "Nats-Last-Consumer");
        if (last && strtoull(last, NULL, 10) >= watch->next_sequence)
            watch_restart(watch); /* something was sent that has not come */
        return;
    }
    /* $JS.ACK.stream.consumer.deliveries.sseq.cseq.ns.pending */
    struct consumer_message meta = {0};
    if (consumer_parse_ack(message->reply, &meta, NULL))
        return;
    const char *pending = strrchr(message->reply, '.');
    if (meta.consumer_sequence != watch->next_sequence) {
        watch_restart(watch);
        return;
    }
    watch->next_sequence++;
    struct kv_entry entry = {.key = message->subject + strlen("$KV.") + strlen(watch->bucket) + 1,
                             .operation = read_operation(message),
                             .value = message->data,
                             .length = message->length,
                             .revision = meta.stream_sequence,
                             .stored_us = meta.stored_us};
    watch->events.entry(watch->events.arg, &entry);
    if (!watch->stopped && pending && strcmp(pending, ".0") == 0)
        tell_current(watch);
}

static void watch_restart(struct kv_watch *watch)
{
    if (watch->subscription)
        bus_unsubscribe(watch->subscription);
    watch->subscription = NULL;
    watch->creating = false;
    watch->connection = bus_connections(watch->bus);
    watch->generation++;
    watch->next_sequence = 1;
    watch->told_current = false;
    watch->silent_ms = 0;
    char inbox[BUS_SUBJECT_MAX_BYTES], verb[KV_NAME_BYTES + 32], stream[KV_NAME_BYTES + 8],
        filter[2 * KV_NAME_BYTES + 8];
    bus_new_inbox(watch->bus, inbox);
    if (bus_subscribe(watch->bus, inbox, on_watch_message, watch, &watch->subscription, NULL))
        return; /* the tick tries again */
    snprintf(stream, sizeof stream, "KV_%s", watch->bucket);
    snprintf(verb, sizeof verb, "CONSUMER.CREATE.%s", stream);
    snprintf(filter, sizeof filter, "$KV.%s.%s", watch->bucket, watch->pattern);
    json_t *body =
        json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:b, s:i}}", "stream_name", stream,
                  "config", "deliver_subject", inbox, "deliver_policy", "last_per_subject", "ack_policy",
                  "none", "replay_policy", "instant", "filter_subject", filter, "flow_control", 1,
                  "idle_heartbeat", (json_int_t)(WATCH_HEARTBEAT_MS * 1000000LL), "inactive_threshold",
                  (json_int_t)(WATCH_INACTIVE_S * 1000000000LL), "mem_storage", 1, "num_replicas", 1);
    struct watch_call *call;
    while ((call = calloc(1, sizeof *call)) == NULL)
        uv_sleep(1);
    *call = (struct watch_call){.watch = watch, .generation = watch->generation};
    watch->creating = true;
    watch->open_calls++;
    jetstream_call(watch->bus, verb, body, 0, on_watch_created, call);
    json_decref(body);
}

static void on_watch_tick(uv_timer_t *timer)
{
    struct kv_watch *watch = timer->data;
    watch->silent_ms += WATCH_TICK_MS;
    /* The server may have lost the consumer with the connection: not worth waiting for its silence. */
    bool reconnected = bus_connections(watch->bus) != watch->connection;
    bool silent = !watch->creating && watch->silent_ms > 2 * WATCH_HEARTBEAT_MS;
    if (bus_is_connected(watch->bus) && (reconnected || silent))
        watch_restart(watch);
}

int kv_watch_start(struct bus *bus, const char *bucket, const char *pattern,
                   const struct kv_watch_events *events, struct kv_watch **out, struct error *err)
{
    if (strlen(bucket) >= KV_NAME_BYTES || strlen(pattern) >= KV_NAME_BYTES)
        return error_set(err, ERR_LIMIT, "bucket and key pattern of a watch may have %d bytes",
                         KV_NAME_BYTES - 1);
    struct kv_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to watch bucket %s", bucket);
    watch->bus = bus;
    watch->events = *events;
    snprintf(watch->bucket, sizeof watch->bucket, "%s", bucket);
    snprintf(watch->pattern, sizeof watch->pattern, "%s", pattern);
    uv_timer_init(bus_loop(bus), &watch->tick);
    watch->tick.data = watch;
    uv_timer_start(&watch->tick, on_watch_tick, WATCH_TICK_MS, WATCH_TICK_MS);
    watch_restart(watch);
    *out = watch;
    return 0;
}

static void on_watch_tick_closed(uv_handle_t *handle)
{
    struct kv_watch *watch = handle->data;
    watch->tick_closed = true;
    watch_free_if_done(watch);
}

void kv_watch_stop(struct kv_watch *watch)
{
    watch->stopped = true;
    if (watch->subscription)
        bus_unsubscribe(watch->subscription);
    watch->subscription = NULL;
    uv_close((uv_handle_t *)&watch->tick, on_watch_tick_closed);
}
