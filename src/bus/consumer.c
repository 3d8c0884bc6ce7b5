#include "bus/consumer.h"

#include "base/log.h"
#include "bus/jetstream.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STREAM_NAME_MAX_BYTES = 256, /* with the terminator */
    DURABLE_NAME_MAX_BYTES = 128,
    RETRY_UNAVAILABLE_MS = 250,
    RESET_TIMEOUT_MS = 2000,
    API_LEVEL_RESET = 4,  /* of a server that knows CONSUMER.RESET: 2.14 and newer */
    TELL_EVERY_MS = 5000, /* that a change is still tried */
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
    STEP_WAIT, /* for the answer to a call of the change that was replaced: until then it is not known what is
                  held */
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
    char stream[STREAM_NAME_MAX_BYTES];
    char durable[DURABLE_NAME_MAX_BYTES];
    int64_t ack_wait_ms;
    int64_t max_ack_pending;
    int replicas;
    bool asks_for_reset;       /* what the server can do is asked of it */
    enum consumer_reset reset; /* AUTO: not known yet */

    /* Filters: what the server's consumer holds (at least), and the change under way. */
    struct filter_set in_force;
    bool unsure; /* the server may hold more: at the start, after a call without an answer, after a lost
                    connection */
    bool behind; /* a subject may have been gained since the consumer was last set back to the stream's
                    beginning */
    struct filter_set wanted;
    enum step step;
    uint64_t epoch; /* of the change: answers to an older one only tell what is held */
    uint64_t life;  /* of the server's consumer: grows when it is lost */
    bool changing;  /* an update or a deletion is on its way */
    consumer_done *done;
    void *done_arg;
    uv_timer_t retry;
    uint64_t trying_since_ms, told_ms; /* of the change under way; 0: no step has failed yet */

    /* Pulling. */
    bool ready; /* the consumer is there: pull requests make sense */
    struct bus_subscription *inbox_subscription;
    char inbox[BUS_SUBJECT_MAX_BYTES];
    struct pull pulls[CONSUMER_PULLS_MAX]; /* oldest first */
    size_t pull_count;
    uint64_t next_pull_id;
    uint64_t first_pull_id; /* older ones were made to a consumer or a connection that is gone */
    int64_t wanted_messages;
    bool asking_whether_there;
    bool pull_paused;  /* until the next tick: the server has refused a request */
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
    uint64_t life;
    enum step step;
    struct filter_set filters; /* what an update asked for */
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
    consumer->trying_since_ms = 0;
    consumer->done = NULL;
    if (done)
        done(arg, code, error);
}

static void on_retry(uv_timer_t *timer)
{
    consumer_advance(timer->data);
}

static const char *step_name(enum step step)
{
    static const char *const names[] = {"idle",  "wait",   "shrink", "grow",
                                        "reset", "delete", "create", "release"};
    return names[step];
}

/* A step that is tried for long is told once in a while: it may be all that an operator sees of a fault. */
static void retry_later(struct consumer *consumer, int64_t after_ms, const struct error *error)
{
    uint64_t now_ms = uv_now(bus_loop(consumer->bus));
    if (consumer->trying_since_ms == 0)
        consumer->trying_since_ms = consumer->told_ms = now_ms;
    if (now_ms - consumer->told_ms >= TELL_EVERY_MS) {
        consumer->told_ms = now_ms;
        LOG_WARN("the consumer's filters are not in force yet; trying on",
                 LOG_STR("consumer", consumer->durable), LOG_STR("step", step_name(consumer->step)),
                 LOG_INT("seconds", (now_ms - consumer->trying_since_ms) / 1000),
                 LOG_STR("error", error->text));
    } else {
        LOG_DEBUG("a step towards the consumer's filters is tried again",
                  LOG_STR("consumer", consumer->durable), LOG_STR("step", step_name(consumer->step)),
                  LOG_STR("error", error->text));
    }
    uv_timer_start(&consumer->retry, on_retry, (uint64_t)after_ms, 0);
}

static void pull_more(struct consumer *consumer);

static void in_force_and_ready(struct consumer *consumer)
{
    struct error none = {0};
    consumer->ready = true;
    consumer->pull_paused = false;
    consumer->silent_ms = 0;
    pull_more(consumer); /* requests that wait at the server have survived update and reset: they count */
    finish(consumer, 0, &none);
}

static void forget_pulls(struct consumer *consumer)
{
    consumer->ready = false;
    consumer->pull_count = 0;
    consumer->first_pull_id = consumer->next_pull_id + 1;
}

/* Someone else has deleted the server's consumer, or it cannot be found. A change under way ends with it:
 * carried on, it would bring back what another meant to be gone. `certain`: it is known to be gone. */
static void lose(struct consumer *consumer, bool certain, const char *reason)
{
    forget_pulls(consumer);
    filter_set_clear(&consumer->in_force);
    consumer->unsure = !certain;
    consumer->behind = false;
    consumer->life++;
    if (consumer->step != STEP_IDLE) {
        struct error err;
        consumer->epoch++;
        uv_timer_stop(&consumer->retry);
        finish(consumer, error_set(&err, ERR_NOT_FOUND, "consumer %s: %s", consumer->durable, reason), &err);
    }
    if (!consumer->closing)
        consumer->events.lost(consumer->events.arg, reason);
}

/* After an update was accepted: what is still missing to what is wanted. */
static void next_step(struct consumer *consumer)
{
    if (!filter_set_equal(&consumer->in_force, &consumer->wanted))
        consumer->step = STEP_GROW;
    else if (consumer->behind)
        consumer->step = STEP_RESET;
    else {
        in_force_and_ready(consumer);
        return;
    }
    consumer_advance(consumer);
}

/* Which way is known again when it has been asked for: the server may be another one now. */
static void doubt_reset(struct consumer *consumer)
{
    if (consumer->asks_for_reset)
        consumer->reset = CONSUMER_RESET_AUTO;
}

static void after_reset(struct consumer *consumer, int code, const struct error *error)
{
    if (code == 0) {
        consumer->behind = false;
        next_step(consumer);
    } else if (code == ERR_NOT_FOUND) {
        lose(consumer, true, "the consumer was deleted");
    } else {
        doubt_reset(consumer);
        retry_later(consumer, RETRY_UNAVAILABLE_MS, error);
    }
}

static void after_delete(struct consumer *consumer, int code, const struct error *error)
{
    struct error none = {0};
    if (code && code != ERR_NOT_FOUND) {
        retry_later(consumer, RETRY_UNAVAILABLE_MS, error);
    } else if (consumer->step == STEP_RELEASE) {
        finish(consumer, 0, &none);
    } else {
        consumer->step = STEP_CREATE;
        consumer_advance(consumer);
    }
}

static void after_update(struct consumer *consumer, int code, int api_error, const struct error *error)
{
    if (code == 0) {
        next_step(consumer);
    } else if (api_error == JETSTREAM_WORK_QUEUE_CONSUMER_NOT_UNIQUE) {
        retry_later(consumer, CONSUMER_GROW_RETRY_MS, error);
    } else if (error_is_transient(code)) {
        retry_later(consumer, RETRY_UNAVAILABLE_MS, error);
    } else if (api_error == JETSTREAM_CONSUMER_DOES_NOT_EXIST || api_error == JETSTREAM_CONSUMER_NOT_FOUND) {
        lose(consumer, true, "the consumer was deleted");
    } else {
        consumer->ready = false;
        finish(consumer, code, error);
    }
}

/* What an answer tells of the server's consumer, whether or not the change that asked is still wanted. An
 * update without an answer may have been done: what is surely held is then what both outcomes have in common.
 */
static void learn_held(struct consumer *consumer, struct step_call *call, int code)
{
    bool perhaps_done = code && error_is_transient(code);
    if (call->step == STEP_RESET)
        return;
    if (call->life != consumer->life) {
        filter_set_clear(&consumer->in_force);
        consumer->unsure = true;
    } else if (call->step == STEP_DELETE_FOR_CREATE || call->step == STEP_RELEASE) {
        if (code == 0 || code == ERR_NOT_FOUND || perhaps_done)
            filter_set_clear(&consumer->in_force);
        consumer->unsure = code && code != ERR_NOT_FOUND;
    } else if (code == 0 || (perhaps_done && call->step == STEP_SHRINK)) {
        filter_set_clear(&consumer->in_force);
        consumer->in_force = call->filters;
        call->filters = (struct filter_set){0};
        consumer->unsure = code != 0;
        if (call->step == STEP_CREATE)
            consumer->behind = false; /* a new consumer starts at the stream's beginning */
    } else if (perhaps_done) {
        consumer->unsure = true;
    }
}

static void plan_change(struct consumer *consumer);

static void on_step_answer(void *arg, int code, int api_error, const struct error *error,
                           const json_t *response)
{
    (void)response;
    struct step_call *call = arg;
    struct consumer *consumer = call->consumer;
    consumer->open_calls--;
    if (call->step != STEP_RESET)
        consumer->changing = false;
    learn_held(consumer, call, code);
    if (consumer->closing) {
        /* nobody waits for it */
    } else if (call->epoch == consumer->epoch) {
        if (call->step == STEP_RESET)
            after_reset(consumer, code, error);
        else if (call->step == STEP_DELETE_FOR_CREATE || call->step == STEP_RELEASE)
            after_delete(consumer, code, error);
        else
            after_update(consumer, code, api_error, error);
    } else if (consumer->step == STEP_WAIT && call->step != STEP_RESET) {
        plan_change(consumer);
    }
    filter_set_clear(&call->filters);
    free(call);
    consumer_free_if_done(consumer);
}

static void send_step(struct consumer *consumer, const char *verb, const json_t *body, int64_t timeout_ms,
                      const struct filter_set *filters)
{
    char name[STREAM_NAME_MAX_BYTES + DURABLE_NAME_MAX_BYTES + 32];
    snprintf(name, sizeof name, "CONSUMER.%s.%s.%s", verb, consumer->stream, consumer->durable);
    struct step_call *call;
    while ((call = calloc(1, sizeof *call)) == NULL)
        uv_sleep(1);
    *call = (struct step_call){
        .consumer = consumer, .epoch = consumer->epoch, .life = consumer->life, .step = consumer->step};
    if (filters)
        filter_set_copy(&call->filters, (const char *const *)filters->subjects, filters->count);
    consumer->open_calls++;
    if (call->step != STEP_RESET)
        consumer->changing = true;
    jetstream_call(consumer->bus, name, body, timeout_ms, on_step_answer, call);
}

static void send_update(struct consumer *consumer, const struct filter_set *filters)
{
    assert(filters->count > 0); /* the server would take an empty set for "everything" */
    json_t *subjects = json_array();
    for (size_t i = 0; i < filters->count; i++)
        json_array_append_new(subjects, json_string(filters->subjects[i]));
    /* "update" never makes a consumer anew: one that another has deleted stays deleted. */
    json_t *body =
        json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:I, s:i, s:I, s:s, s:i, s:o}}", "stream_name",
                  consumer->stream, "action", consumer->step == STEP_CREATE ? "" : "update", "config",
                  "durable_name", consumer->durable, "ack_policy", "explicit", "deliver_policy", "all",
                  "ack_wait", (json_int_t)(consumer->ack_wait_ms * 1000000), "max_deliver", -1,
                  "max_ack_pending", (json_int_t)consumer->max_ack_pending, "replay_policy", "instant",
                  "num_replicas", consumer->replicas, "filter_subjects", subjects);
    send_step(consumer, "CREATE", body, 0, filters);
    json_decref(body);
}

static void send_shrink(struct consumer *consumer)
{
    struct filter_set kept = {0};
    filter_set_intersect(&kept, &consumer->in_force, &consumer->wanted);
    send_update(consumer, &kept);
    filter_set_clear(&kept);
}

/* Servers before 2.14 do not answer CONSUMER.RESET at all, and neither does a consumer whose leader is being
 * elected. Which it is, the level of the server's API tells. */
static void on_api_level(void *arg, int code, int api_error, const struct error *error,
                         const json_t *response)
{
    (void)api_error;
    struct step_call *call = arg;
    struct consumer *consumer = call->consumer;
    consumer->open_calls--;
    if (!consumer->closing && call->epoch == consumer->epoch) {
        double level = json_number_value(json_object_get(json_object_get(response, "api"), "level"));
        if (code) {
            retry_later(consumer, RETRY_UNAVAILABLE_MS, error);
        } else {
            consumer->reset = level >= API_LEVEL_RESET ? CONSUMER_RESET_BY_API : CONSUMER_RESET_BY_CREATE;
            if (consumer->reset == CONSUMER_RESET_BY_CREATE)
                LOG_INFO(
                    "the server does not know CONSUMER.RESET; the consumer is deleted and created instead",
                    LOG_STR("consumer", consumer->durable), LOG_INT("api_level", (int64_t)level));
            consumer_advance(consumer);
        }
    }
    free(call);
    consumer_free_if_done(consumer);
}

static void ask_api_level(struct consumer *consumer)
{
    struct step_call *call;
    while ((call = calloc(1, sizeof *call)) == NULL)
        uv_sleep(1);
    *call = (struct step_call){.consumer = consumer, .epoch = consumer->epoch};
    consumer->open_calls++;
    jetstream_call(consumer->bus, "INFO", NULL, 0, on_api_level, call);
}

static void send_reset(struct consumer *consumer)
{
    json_t *body = json_pack("{s:i}", "seq", 1);
    send_step(consumer, "RESET", body, RESET_TIMEOUT_MS, NULL);
    json_decref(body);
}

/* Sends what the present step needs. Called at its start and again after each pause. */
static void consumer_advance(struct consumer *consumer)
{
    uv_timer_stop(&consumer->retry);
    if (consumer->step == STEP_RESET && consumer->reset == CONSUMER_RESET_BY_CREATE)
        consumer->step = STEP_DELETE_FOR_CREATE;
    switch (consumer->step) {
    case STEP_SHRINK:
        send_shrink(consumer);
        break;
    case STEP_GROW:
        consumer->behind = true;
        send_update(consumer, &consumer->wanted);
        break;
    case STEP_CREATE:
        send_update(consumer, &consumer->wanted);
        break;
    case STEP_RESET:
        if (consumer->reset == CONSUMER_RESET_AUTO)
            ask_api_level(consumer);
        else
            send_reset(consumer);
        break;
    case STEP_DELETE_FOR_CREATE:
    case STEP_RELEASE:
        forget_pulls(consumer); /* the server answers them with "Consumer Deleted", which is then no news */
        send_step(consumer, "DELETE", NULL, 0, NULL);
        break;
    case STEP_WAIT:
    case STEP_IDLE:
        break;
    }
}

/* Chooses the first step from what is held to what is wanted. A lost subject must be let go before a new one
 * is asked for, or two consumers that exchange subjects wait for each other for ever. */
static void plan_change(struct consumer *consumer)
{
    struct filter_set kept = {0};
    filter_set_intersect(&kept, &consumer->in_force, &consumer->wanted);
    bool keeps_all = filter_set_equal(&kept, &consumer->in_force);
    if (consumer->wanted.count == 0)
        consumer->step = STEP_RELEASE;
    else if (consumer->in_force.count == 0 && !consumer->unsure)
        consumer->step = STEP_CREATE;
    else if (kept.count == 0)
        consumer->step = STEP_DELETE_FOR_CREATE; /* an update would pass through the empty set */
    else if (keeps_all && !consumer->unsure && kept.count < consumer->wanted.count)
        consumer->step = STEP_GROW;
    else
        consumer->step = STEP_SHRINK; /* when nothing changes, too: it proves that the consumer is there */
    filter_set_clear(&kept);
    consumer_advance(consumer);
}

void consumer_set_filters(struct consumer *consumer, const char *const *filters, size_t count,
                          consumer_done *done, void *arg)
{
    assert(count <= CONSUMER_FILTERS_MAX);
    consumer_done *replaced = consumer->done;
    void *replaced_arg = consumer->done_arg;
    uv_timer_stop(&consumer->retry);
    filter_set_copy(&consumer->wanted, filters, count);
    consumer->epoch++;
    consumer->trying_since_ms = 0;
    consumer->done = done;
    consumer->done_arg = arg;
    consumer->step = STEP_WAIT;
    if (!consumer->changing)
        plan_change(consumer);
    if (replaced) {
        struct error err;
        replaced(replaced_arg, error_set(&err, ERR_CLOSED, "replaced by a later change"), &err);
    }
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

/* `count` messages fewer are to come for the requests at the server, whichever. */
static void settle(struct consumer *consumer, int64_t count)
{
    while (count > 0 && consumer->pull_count > 0) {
        struct pull *oldest = &consumer->pulls[0];
        int64_t part = count < oldest->remaining ? count : oldest->remaining;
        oldest->remaining -= part;
        count -= part;
        if (oldest->remaining == 0) {
            consumer->pull_count--;
            memmove(&consumer->pulls[0], &consumer->pulls[1], consumer->pull_count * sizeof *consumer->pulls);
        }
    }
}

/* Request `id` has ended with `unused` messages not sent. A message does not say which request it answers,
 * and the server takes turns between them: so what our table has for this one may belong to the others, and
 * the other way round. Only the sum is right, and stays so. False when our table has nothing left for it. */
static bool end_pull(struct consumer *consumer, uint64_t id, int64_t unused)
{
    for (size_t i = 0; i < consumer->pull_count; i++) {
        if (consumer->pulls[i].id != id)
            continue;
        int64_t excess = consumer->pulls[i].remaining - unused;
        consumer->pull_count--;
        memmove(&consumer->pulls[i], &consumer->pulls[i + 1],
                (consumer->pull_count - i) * sizeof *consumer->pulls);
        if (excess > 0 && consumer->pull_count > 0)
            consumer->pulls[consumer->pull_count - 1].remaining += excess;
        else
            settle(consumer, -excess);
        return true;
    }
    return false;
}

static void pull_more(struct consumer *consumer)
{
    int64_t waiting = outstanding(consumer);
    int64_t missing = consumer->wanted_messages - waiting;
    /* Ask when half is used up, not for every single message. */
    bool worth_it = waiting == 0 || missing * 2 >= consumer->wanted_messages;
    if (!consumer->ready || consumer->pull_paused || missing <= 0 || !worth_it ||
        consumer->pull_count == CONSUMER_PULLS_MAX)
        return;
    char body[160], subject[STREAM_NAME_MAX_BYTES + DURABLE_NAME_MAX_BYTES + 64],
        reply[BUS_SUBJECT_MAX_BYTES + 24];
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
    forget_pulls(consumer);
    consumer->unsure = true;
    consumer->behind = true; /* what was on its way here would otherwise come after ack_wait only */
}

struct presence_call {
    struct consumer *consumer;
    uint64_t first_pull_id; /* when it was asked: another one by now, and the answer tells nothing */
};

static void on_presence(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)error;
    (void)response;
    struct presence_call *call = arg;
    struct consumer *consumer = call->consumer;
    consumer->open_calls--;
    consumer->asking_whether_there = false;
    if (!consumer->closing && consumer->ready && code == ERR_NOT_FOUND &&
        call->first_pull_id == consumer->first_pull_id)
        lose(consumer, true, "the consumer is not there");
    free(call);
    consumer_free_if_done(consumer);
}

/* Nobody took the request. Either the consumer is gone, or it has no leader at the moment, or this node of
 * the NATS cluster has not heard of that leader yet. */
static void ask_whether_there(struct consumer *consumer)
{
    if (consumer->asking_whether_there)
        return;
    char name[STREAM_NAME_MAX_BYTES + DURABLE_NAME_MAX_BYTES + 32];
    snprintf(name, sizeof name, "CONSUMER.INFO.%s.%s", consumer->stream, consumer->durable);
    struct presence_call *call;
    while ((call = calloc(1, sizeof *call)) == NULL)
        uv_sleep(1);
    *call = (struct presence_call){.consumer = consumer, .first_pull_id = consumer->first_pull_id};
    consumer->open_calls++;
    consumer->asking_whether_there = true;
    jetstream_call(consumer->bus, name, NULL, 0, on_presence, call);
}

/* A request has ended without (all of) its messages. One from before forget_pulls ended with a consumer or
 * a connection that is gone already, and tells nothing. */
static void on_status(struct consumer *consumer, int status, const struct bus_message *message)
{
    const char *description = bus_message_header(message, "Description");
    const char *pending = bus_message_header(message, "Nats-Pending-Messages");
    uint64_t id = strtoull(message->subject + strlen(consumer->inbox) + 1, NULL, 16);
    int64_t remaining = 0;
    for (size_t i = 0; i < consumer->pull_count; i++)
        if (consumer->pulls[i].id == id)
            remaining = consumer->pulls[i].remaining;
    if (id < consumer->first_pull_id)
        return;
    int64_t unused = pending ? strtoll(pending, NULL, 10) : remaining;
    LOG_DEBUG("a pull request has ended", LOG_STR("consumer", consumer->durable), LOG_INT("status", status),
              LOG_STR("description", description ? description : ""), LOG_INT("unused", unused));
    if (!end_pull(consumer, id, unused))
        settle(consumer, unused);
    if (consumer->ready && status == 409 && description && strstr(description, "Consumer Deleted")) {
        lose(consumer, true, "the consumer was deleted");
        return;
    }
    if (consumer->ready && status == 503)
        ask_whether_there(consumer);
    if (status != 408) /* not merely expired: the next may be refused as fast */
        consumer->pull_paused = true;
    pull_more(consumer);
}

static void on_inbox(void *arg, const struct bus_message *message)
{
    struct consumer *consumer = arg;
    consumer->silent_ms = 0;
    struct consumer_message own = {.bus = message};
    struct error err;
    int code = consumer_parse_ack(message->reply, &own, &err);
    int status = code ? bus_message_status(message) : 0; /* a stream's message may have any header */
    if (status) {
        if (status != 100) /* a heartbeat */
            on_status(consumer, status, message);
        return;
    }
    if (code) {
        LOG_WARN("message without an acknowledgement subject ignored", LOG_STR("error", err.text));
        return;
    }
    settle(consumer, 1);
    if (consumer->wanted_messages > 0)
        consumer->wanted_messages--;
    consumer->events.message(consumer->events.arg, &own);
}

/* Two heartbeats missed: the server has forgotten our requests (restarted, moved its leader). Ask again. */
static void on_tick(uv_timer_t *timer)
{
    struct consumer *consumer = timer->data;
    consumer->silent_ms += TICK_MS;
    consumer->pull_paused = false;
    if (consumer->silent_ms > 2 * CONSUMER_HEARTBEAT_MS + TICK_MS) {
        LOG_DEBUG("the consumer is silent; pulling anew", LOG_STR("consumer", consumer->durable),
                  LOG_INT("requests", consumer->pull_count), LOG_INT("wanted", consumer->wanted_messages));
        consumer->silent_ms = 0;
        consumer->pull_count = 0;
        consumer->first_pull_id = consumer->next_pull_id + 1;
    }
    pull_more(consumer);
}

/* --- life --- */

/* The name becomes one token of the API's subjects. */
static int check_name(const char *what, const char *name, size_t max_bytes, struct error *err)
{
    if (strlen(name) >= max_bytes)
        return error_set(err, ERR_LIMIT, "%s name '%.40s...' is longer than %zu bytes", what, name,
                         max_bytes - 1);
    if (*name == '\0' || strpbrk(name, " .*>/\\\t\r\n"))
        return error_set(err, ERR_INVALID, "%s name '%s' is empty or has a space, a slash or one of . * >",
                         what, name);
    return 0;
}

int consumer_new(struct bus *bus, const struct consumer_options *options,
                 const struct consumer_events *events, struct consumer **out, struct error *err)
{
    int code = check_name("stream", options->stream, STREAM_NAME_MAX_BYTES, err);
    if (code == 0)
        code = check_name("consumer", options->durable, DURABLE_NAME_MAX_BYTES, err);
    if (code)
        return code;
    struct consumer *consumer = calloc(1, sizeof *consumer);
    if (consumer == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a consumer");
    consumer->unsure = true; /* an earlier process may have left one with other filters */
    consumer->bus = bus;
    consumer->events = *events;
    snprintf(consumer->stream, sizeof consumer->stream, "%s", options->stream);
    snprintf(consumer->durable, sizeof consumer->durable, "%s", options->durable);
    consumer->ack_wait_ms = options->ack_wait_ms;
    consumer->max_ack_pending = options->max_ack_pending;
    consumer->replicas = options->replicas;
    consumer->reset = options->reset;
    consumer->asks_for_reset = options->reset == CONSUMER_RESET_AUTO;
    bus_new_inbox(bus, consumer->inbox);
    char all[BUS_SUBJECT_MAX_BYTES + 2];
    snprintf(all, sizeof all, "%s.*", consumer->inbox);
    code = bus_subscribe(bus, all, on_inbox, consumer, &consumer->inbox_subscription, err);
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
    struct error err;
    finish(consumer, error_set(&err, ERR_CLOSED, "the consumer is being closed"), &err);
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

void consumer_postpone(struct bus *bus, const char *ack_reply, int64_t delay_ms)
{
    char word[64];
    snprintf(word, sizeof word, "-NAK {\"delay\": %lld}", (long long)delay_ms * 1000000);
    send_ack(bus, ack_reply, word);
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
    for (size_t i = stream + 2; i < stream + 7; i++) {
        size_t digits = strspn(tokens[i], "0123456789");
        if (digits == 0 || (tokens[i][digits] != '.' && tokens[i][digits] != '\0'))
            return error_set(err, ERR_INVALID, "'%.200s' is not an acknowledgement subject", reply);
    }
    message->deliveries = strtoull(tokens[stream + 2], NULL, 10);
    message->stream_sequence = strtoull(tokens[stream + 3], NULL, 10);
    message->consumer_sequence = strtoull(tokens[stream + 4], NULL, 10);
    message->stored_us = strtoll(tokens[stream + 5], NULL, 10) / 1000;
    message->ack_reply = reply;
    return 0;
}
