#include "bus/consumer.h"

#include "base/log.h"
#include "bus/jetstream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RETRY_UNAVAILABLE_MS = 250,
    RESET_TIMEOUT_MS = 2000, /* a server that does not know the call does not answer at all */
    TICK_MS = 1000
};

struct filter_set {
    char **subjects; /* sorted */
    size_t count;
};

struct pull {
    uint64_t id; /* 0: free */
    int64_t remaining;
};

enum step {
    STEP_IDLE,
    STEP_SHRINK,
    STEP_GROW,
    STEP_RESET,
    STEP_DELETE_FOR_CREATE,
    STEP_CREATE,
    STEP_RELEASE
};

struct consumer {
    struct bus *bus;
    struct consumer_events events;
    char stream[BUS_SUBJECT_MAX_BYTES];
    char durable[128];
    int64_t ack_wait_ms;
    int64_t max_ack_pending;
    int replicas;
    enum consumer_reset reset;

    /* Filters: what the server has, and the change under way. */
    struct filter_set in_force;
    struct filter_set wanted;
    enum step step;
    uint64_t epoch; /* of the change: answers to an older one are ignored */
    consumer_done *done;
    void *done_arg;
    uv_timer_t retry;

    /* Pulling. */
    bool ready; /* the consumer is there: pull requests make sense */
    struct bus_subscription *inbox_subscription;
    char inbox[BUS_SUBJECT_MAX_BYTES];
    struct pull pulls[CONSUMER_PULLS_MAX]; /* oldest first */
    size_t pull_count;
    uint64_t next_pull_id;
    int64_t wanted_messages;
    int64_t silent_ms; /* since the server was last heard on the inbox */
    uv_timer_t tick;
    bool closing;
    int open_handles;
    int open_calls; /* API calls whose answer is still to come */
};

static void consumer_advance(struct consumer *consumer);

/* --- filter sets --- */

static int compare_subjects(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void filter_set_clear(struct filter_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        free(set->subjects[i]);
    free(set->subjects);
    *set = (struct filter_set){0};
}

static void filter_set_copy(struct filter_set *set, const char *const *subjects, size_t count)
{
    filter_set_clear(set);
    if (count == 0)
        return;
    while ((set->subjects = calloc(count, sizeof *set->subjects)) == NULL)
        uv_sleep(1);
    for (size_t i = 0; i < count; i++)
        while ((set->subjects[i] = strdup(subjects[i])) == NULL)
            uv_sleep(1);
    set->count = count;
    qsort(set->subjects, count, sizeof *set->subjects, compare_subjects);
}

static bool filter_set_has(const struct filter_set *set, const char *subject)
{
    return set->count &&
           bsearch(&subject, set->subjects, set->count, sizeof *set->subjects, compare_subjects) != NULL;
}

static void filter_set_intersect(struct filter_set *out, const struct filter_set *a,
                                 const struct filter_set *b)
{
    const char **kept;
    while ((kept = calloc(a->count + 1, sizeof *kept)) == NULL)
        uv_sleep(1);
    size_t count = 0;
    for (size_t i = 0; i < a->count; i++)
        if (filter_set_has(b, a->subjects[i]))
            kept[count++] = a->subjects[i];
    struct filter_set copy = {0};
    filter_set_copy(&copy, kept, count);
    free(kept);
    filter_set_clear(out);
    *out = copy;
}

static bool filter_set_equal(const struct filter_set *a, const struct filter_set *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->subjects[i], b->subjects[i]) != 0)
            return false;
    return true;
}

/* --- the change of filters, step by step --- */

struct step_call {
    struct consumer *consumer;
    uint64_t epoch;
    struct filter_set filters; /* what the call asked for */
};

static void consumer_free_if_done(struct consumer *consumer)
{
    if (!consumer->closing || consumer->open_handles > 0 || consumer->open_calls > 0)
        return;
    filter_set_clear(&consumer->in_force);
    filter_set_clear(&consumer->wanted);
    free(consumer);
}

static void finish(struct consumer *consumer, int code, const struct error *error)
{
    consumer_done *done = consumer->done;
    void *arg = consumer->done_arg;
    consumer->step = STEP_IDLE;
    consumer->done = NULL;
    if (done)
        done(arg, code, error);
}

static void on_retry(uv_timer_t *timer)
{
    consumer_advance(timer->data);
}

static void retry_later(struct consumer *consumer, int64_t after_ms)
{
    uv_timer_start(&consumer->retry, on_retry, (uint64_t)after_ms, 0);
}

static void pull_more(struct consumer *consumer);

static void in_force_and_ready(struct consumer *consumer)
{
    struct error none = {0};
    consumer->ready = true;
    consumer->pull_count = 0;
    consumer->silent_ms = 0;
    pull_more(consumer);
    finish(consumer, 0, &none);
}

/* The server may lack CONSUMER.RESET: then, and from then on, the consumer is deleted and created. */
static bool reset_is_unknown(int code, int api_error)
{
    return code == ERR_TIMEOUT || (code == ERR_UNAVAILABLE && api_error == 0) || code == ERR_INVALID;
}

static void after_reset(struct consumer *consumer, int code, int api_error)
{
    if (code == 0) {
        in_force_and_ready(consumer);
    } else if (api_error == JETSTREAM_CONSUMER_NOT_FOUND) {
        filter_set_clear(&consumer->in_force);
        consumer->step = STEP_CREATE;
        consumer_advance(consumer);
    } else if (consumer->reset == CONSUMER_RESET_AUTO && reset_is_unknown(code, api_error) &&
               bus_is_connected(consumer->bus)) {
        consumer->reset = CONSUMER_RESET_BY_CREATE;
        consumer->step = STEP_DELETE_FOR_CREATE;
        consumer_advance(consumer);
    } else {
        retry_later(consumer, RETRY_UNAVAILABLE_MS);
    }
}

static void after_delete(struct consumer *consumer, int code, const struct error *error)
{
    if (code && code != ERR_NOT_FOUND) {
        retry_later(consumer, RETRY_UNAVAILABLE_MS);
        return;
    }
    filter_set_clear(&consumer->in_force);
    consumer->ready = false;
    if (consumer->step == STEP_RELEASE) {
        struct error none = {0};
        (void)error;
        finish(consumer, 0, &none);
        return;
    }
    consumer->step = STEP_CREATE;
    consumer_advance(consumer);
}

static void after_update(struct consumer *consumer, struct filter_set *asked, int code, int api_error,
                         const struct error *error)
{
    if (code == 0) {
        filter_set_clear(&consumer->in_force);
        consumer->in_force = *asked;
        *asked = (struct filter_set){0};
        if (consumer->step == STEP_SHRINK)
            consumer->step = STEP_GROW;
        else if (consumer->step == STEP_CREATE)
            consumer->step = STEP_IDLE; /* a new consumer starts at the stream's beginning */
        else
            consumer->step = STEP_RESET;
        if (consumer->step == STEP_IDLE)
            in_force_and_ready(consumer);
        else
            consumer_advance(consumer);
    } else if (api_error == JETSTREAM_WORK_QUEUE_CONSUMER_NOT_UNIQUE) {
        retry_later(consumer, CONSUMER_GROW_RETRY_MS);
    } else if (error_is_transient(code)) {
        retry_later(consumer, RETRY_UNAVAILABLE_MS);
    } else {
        consumer->ready = false;
        finish(consumer, code, error);
    }
}

static void on_step_answer(void *arg, int code, int api_error, const struct error *error,
                           const json_t *response)
{
    (void)response;
    struct step_call *call = arg;
    struct consumer *consumer = call->consumer;
    consumer->open_calls--;
    if (!consumer->closing && call->epoch == consumer->epoch) {
        switch (consumer->step) {
        case STEP_SHRINK:
        case STEP_GROW:
        case STEP_CREATE:
            after_update(consumer, &call->filters, code, api_error, error);
            break;
        case STEP_RESET:
            after_reset(consumer, code, api_error);
            break;
        case STEP_DELETE_FOR_CREATE:
        case STEP_RELEASE:
            after_delete(consumer, code, error);
            break;
        case STEP_IDLE:
            break;
        }
    }
    filter_set_clear(&call->filters);
    free(call);
    consumer_free_if_done(consumer);
}

static void send_step(struct consumer *consumer, const char *verb, const json_t *body, int64_t timeout_ms,
                      const struct filter_set *filters)
{
    char name[BUS_SUBJECT_MAX_BYTES + 192];
    snprintf(name, sizeof name, "CONSUMER.%s.%s.%s", verb, consumer->stream, consumer->durable);
    struct step_call *call;
    while ((call = calloc(1, sizeof *call)) == NULL)
        uv_sleep(1);
    call->consumer = consumer;
    call->epoch = consumer->epoch;
    if (filters)
        filter_set_copy(&call->filters, (const char *const *)filters->subjects, filters->count);
    consumer->open_calls++;
    jetstream_call(consumer->bus, name, body, timeout_ms, on_step_answer, call);
}

static void send_update(struct consumer *consumer, const struct filter_set *filters)
{
    assert(filters->count > 0); /* the server would take an empty set for "everything" */
    json_t *subjects = json_array();
    for (size_t i = 0; i < filters->count; i++)
        json_array_append_new(subjects, json_string(filters->subjects[i]));
    json_t *body =
        json_pack("{s:s, s:{s:s, s:s, s:s, s:I, s:i, s:I, s:s, s:i, s:o}}", "stream_name", consumer->stream,
                  "config", "durable_name", consumer->durable, "ack_policy", "explicit", "deliver_policy",
                  "all", "ack_wait", (json_int_t)(consumer->ack_wait_ms * 1000000), "max_deliver", -1,
                  "max_ack_pending", (json_int_t)consumer->max_ack_pending, "replay_policy", "instant",
                  "num_replicas", consumer->replicas, "filter_subjects", subjects);
    char verb[] = "CREATE";
    send_step(consumer, verb, body, 0, filters);
    json_decref(body);
}

/* Sends what the present step needs. Called at its start and again after each pause. */
static void consumer_advance(struct consumer *consumer)
{
    uv_timer_stop(&consumer->retry);
    struct filter_set kept = {0};
    switch (consumer->step) {
    case STEP_SHRINK:
        filter_set_intersect(&kept, &consumer->in_force, &consumer->wanted);
        send_update(consumer, &kept);
        filter_set_clear(&kept);
        break;
    case STEP_GROW:
    case STEP_CREATE:
        send_update(consumer, &consumer->wanted);
        break;
    case STEP_RESET:
        if (consumer->reset == CONSUMER_RESET_BY_CREATE) {
            consumer->step = STEP_DELETE_FOR_CREATE;
            send_step(consumer, "DELETE", NULL, 0, NULL);
        } else {
            json_t *body = json_pack("{s:i}", "seq", 1);
            send_step(consumer, "RESET", body, RESET_TIMEOUT_MS, NULL);
            json_decref(body);
        }
        break;
    case STEP_DELETE_FOR_CREATE:
    case STEP_RELEASE:
        send_step(consumer, "DELETE", NULL, 0, NULL);
        break;
    case STEP_IDLE:
        break;
    }
}

static void replace_change(struct consumer *consumer, consumer_done *done, void *arg)
{
    struct error err;
    error_set(&err, ERR_CLOSED, "replaced by a later change");
    consumer->epoch++;
    uv_timer_stop(&consumer->retry);
    finish(consumer, ERR_CLOSED, &err);
    consumer->done = done;
    consumer->done_arg = arg;
}

void consumer_set_filters(struct consumer *consumer, const char *const *filters, size_t count,
                          consumer_done *done, void *arg)
{
    assert(count <= CONSUMER_FILTERS_MAX);
    filter_set_copy(&consumer->wanted, filters, count);
    replace_change(consumer, done, arg);
    struct filter_set kept = {0};
    filter_set_intersect(&kept, &consumer->in_force, &consumer->wanted);
    if (count == 0)
        consumer->step = STEP_RELEASE;
    else if (consumer->in_force.count > 0 && kept.count == 0)
        consumer->step =
            STEP_DELETE_FOR_CREATE; /* nothing is kept: an update would pass through the empty set */
    else if (!filter_set_equal(&kept, &consumer->in_force))
        consumer->step = STEP_SHRINK;
    else
        consumer->step = STEP_GROW;
    filter_set_clear(&kept);
    consumer_advance(consumer);
}

void consumer_release(struct consumer *consumer, consumer_done *done, void *arg)
{
    consumer_set_filters(consumer, NULL, 0, done, arg);
}

/* --- pulling --- */

static int64_t outstanding(const struct consumer *consumer)
{
    int64_t sum = 0;
    for (size_t i = 0; i < consumer->pull_count; i++)
        sum += consumer->pulls[i].remaining;
    return sum;
}

static void remove_pull(struct consumer *consumer, size_t i)
{
    consumer->pull_count--;
    memmove(&consumer->pulls[i], &consumer->pulls[i + 1],
            (consumer->pull_count - i) * sizeof *consumer->pulls);
}

static void pull_more(struct consumer *consumer)
{
    int64_t waiting = outstanding(consumer);
    int64_t missing = consumer->wanted_messages - waiting;
    /* Ask when half is used up, not for every single message; the last place in the table is kept for a
     * request when nothing at all is waiting. */
    bool worth_it = waiting == 0 || missing * 2 >= consumer->wanted_messages;
    if (!consumer->ready || missing <= 0 || !worth_it || consumer->pull_count == CONSUMER_PULLS_MAX)
        return;
    char body[160], subject[BUS_SUBJECT_MAX_BYTES + 192], reply[BUS_SUBJECT_MAX_BYTES + 24];
    uint64_t id = ++consumer->next_pull_id;
    int length =
        snprintf(body, sizeof body, "{\"batch\":%lld,\"expires\":%lld,\"idle_heartbeat\":%lld}",
                 (long long)missing, CONSUMER_PULL_EXPIRES_MS * 1000000LL, CONSUMER_HEARTBEAT_MS * 1000000LL);
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.MSG.NEXT.%s.%s", consumer->stream, consumer->durable);
    snprintf(reply, sizeof reply, "%s.%llx", consumer->inbox, (unsigned long long)id);
    if (bus_publish_with_reply(consumer->bus, subject, reply, body, (size_t)length, NULL) == 0)
        consumer->pulls[consumer->pull_count++] = (struct pull){.id = id, .remaining = missing};
}

void consumer_want(struct consumer *consumer, int64_t wanted)
{
    consumer->wanted_messages = wanted;
    pull_more(consumer);
}

void consumer_on_disconnected(struct consumer *consumer)
{
    consumer->pull_count = 0;
    consumer->ready = false;
}

static void lose(struct consumer *consumer, const char *reason)
{
    if (!consumer->ready)
        return;
    consumer->ready = false;
    consumer->pull_count = 0;
    filter_set_clear(&consumer->in_force);
    consumer->events.lost(consumer->events.arg, reason);
}

static void on_status(struct consumer *consumer, int status, const struct bus_message *message)
{
    if (status == 100)
        return; /* heartbeat */
    const char *description = bus_message_header(message, "Description");
    uint64_t id = strtoull(message->subject + strlen(consumer->inbox) + 1, NULL, 16);
    bool deleted = status == 409 && description && strstr(description, "Consumer Deleted");
    for (size_t i = 0; i < consumer->pull_count; i++)
        if (consumer->pulls[i].id == id) {
            remove_pull(consumer, i);
            break;
        }
    if (deleted || status == 404 || status == 503)
        lose(consumer, deleted ? "the consumer was deleted" : "the consumer is not there");
    else
        pull_more(consumer);
}

static void on_inbox(void *arg, const struct bus_message *message)
{
    struct consumer *consumer = arg;
    consumer->silent_ms = 0;
    int status = bus_message_status(message);
    if (status) {
        on_status(consumer, status, message);
        return;
    }
    for (size_t i = 0; i < consumer->pull_count; i++)
        if (consumer->pulls[i].remaining > 0) {
            if (--consumer->pulls[i].remaining == 0)
                remove_pull(consumer, i);
            break;
        }
    if (consumer->wanted_messages > 0)
        consumer->wanted_messages--;
    struct consumer_message own = {.bus = message};
    struct error err;
    if (consumer_parse_ack(message->reply, &own, &err))
        LOG_WARN("message without an acknowledgement subject ignored", LOG_STR("error", err.text));
    else
        consumer->events.message(consumer->events.arg, &own);
}

/* Two heartbeats missed: the server has forgotten our requests (restarted, moved its leader). Ask again. */
static void on_tick(uv_timer_t *timer)
{
    struct consumer *consumer = timer->data;
    consumer->silent_ms += TICK_MS;
    if (consumer->silent_ms > 2 * CONSUMER_HEARTBEAT_MS + TICK_MS) {
        consumer->silent_ms = 0;
        consumer->pull_count = 0;
    }
    pull_more(consumer);
}

/* --- life --- */

int consumer_new(struct bus *bus, const struct consumer_options *options,
                 const struct consumer_events *events, struct consumer **out, struct error *err)
{
    struct consumer *consumer = calloc(1, sizeof *consumer);
    if (consumer == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a consumer");
    consumer->bus = bus;
    consumer->events = *events;
    snprintf(consumer->stream, sizeof consumer->stream, "%s", options->stream);
    snprintf(consumer->durable, sizeof consumer->durable, "%s", options->durable);
    consumer->ack_wait_ms = options->ack_wait_ms;
    consumer->max_ack_pending = options->max_ack_pending;
    consumer->replicas = options->replicas;
    consumer->reset = options->reset;
    bus_new_inbox(bus, consumer->inbox);
    char all[BUS_SUBJECT_MAX_BYTES + 2];
    snprintf(all, sizeof all, "%s.*", consumer->inbox);
    int code = bus_subscribe(bus, all, on_inbox, consumer, &consumer->inbox_subscription, err);
    if (code) {
        free(consumer);
        return code;
    }
    uv_loop_t *loop = bus_loop(bus);
    uv_timer_init(loop, &consumer->retry);
    uv_timer_init(loop, &consumer->tick);
    consumer->retry.data = consumer->tick.data = consumer;
    consumer->open_handles = 2;
    uv_timer_start(&consumer->tick, on_tick, TICK_MS, TICK_MS);
    *out = consumer;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct consumer *consumer = handle->data;
    consumer->open_handles--;
    consumer_free_if_done(consumer);
}

void consumer_free(struct consumer *consumer)
{
    consumer->closing = true;
    consumer->ready = false;
    bus_unsubscribe(consumer->inbox_subscription);
    uv_close((uv_handle_t *)&consumer->retry, on_handle_closed);
    uv_close((uv_handle_t *)&consumer->tick, on_handle_closed);
}

/* --- acknowledgements --- */

static void send_ack(struct bus *bus, const char *ack_reply, const char *word)
{
    bus_publish(bus, ack_reply, word, strlen(word), NULL);
}

void consumer_ack(struct bus *bus, const char *ack_reply)
{
    send_ack(bus, ack_reply, "+ACK");
}

void consumer_extend(struct bus *bus, const char *ack_reply)
{
    send_ack(bus, ack_reply, "+WPI");
}

void consumer_terminate(struct bus *bus, const char *ack_reply)
{
    send_ack(bus, ack_reply, "+TERM");
}

int consumer_parse_ack(const char *reply, struct consumer_message *message, struct error *err)
{
    /* Numbers stand at the same places counted from the stream's name: token 2 in the short form, 4 in the
     * long. */
    const char *tokens[16];
    size_t count = 0;
    if (strncmp(reply, "$JS.ACK.", 8) == 0)
        for (const char *s = reply; s && count < 16; s = strchr(s, '.') ? strchr(s, '.') + 1 : NULL)
            tokens[count++] = s;
    size_t stream = count == 9 ? 2 : count >= 11 ? 4 : 0;
    if (stream == 0)
        return error_set(err, ERR_INVALID, "'%.200s' is not an acknowledgement subject", reply);
    message->deliveries = strtoull(tokens[stream + 2], NULL, 10);
    message->stream_sequence = strtoull(tokens[stream + 3], NULL, 10);
    message->consumer_sequence = strtoull(tokens[stream + 4], NULL, 10);
    message->stored_us = strtoll(tokens[stream + 5], NULL, 10) / 1000;
    message->ack_reply = reply;
    return 0;
}
