#include "defender/carrier.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/kv.h"
#include "bus/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROBE_TIMEOUT_MS = 500,
    BUCKET_RETRY_MS = 250,
    DRAIN_POLL_MS = 5,
    PAUSE_MS = 3000 /* a loop that stood still so long was stopped: what it holds may be another's by now */
};

struct carrier_watch {
    struct carrier *carrier;
    enum cluster_bucket bucket;
    char pattern[CLUSTER_KEY_BYTES];
    struct kv_watch *native;
    struct carrier_watch *next;
};

/* One request on its way: its answer becomes an event. */
struct errand {
    struct carrier *carrier;
    uint64_t token;
    struct histogram *timing; /* NULL, or takes how long the answer took */
    int64_t begun_ns;
};

/* Which chambers to own, step by step: shrink, warm, grow, confirm. */
enum holding { HOLDING_IDLE, HOLDING_SHRINK, HOLDING_WARM, HOLDING_GROW, HOLDING_CONFIRM };

struct chamber_list {
    struct arena arena;
    const char **tokens; /* "{tool}.{chamber}", sorted */
    size_t count;
};

struct carrier {
    struct carrier_options options;
    struct carrier_ports ports;
    char cell[64];
    char stream[NAMES_BYTES];
    char buckets[BUCKET_COUNT][NAMES_BYTES];
    struct cluster *cluster;
    uv_timer_t timer; /* the cluster's next tick */
    uv_timer_t retry; /* buckets that could not be made */
    uv_timer_t pulse; /* notices that the process was stopped */
    int64_t last_pulse_ms;
    size_t buckets_made;
    bool connected; /* the cluster has been told so */
    bool draining, stopped;
    struct carrier_watch *watches;
    struct bus_subscription *heartbeats;
    char id[CLUSTER_NAME_BYTES]; /* whose consumer `consumer` is */
    struct consumer *consumer;
    bool pulling;
    bool interrupted; /* the connection was lost since the filters were last set: nothing is pulled until then
                       */

    enum holding holding;
    uint64_t version;
    struct chamber_list owned;  /* the server's consumer filters on these */
    struct chamber_list wanted; /* and is to filter on these */
    int64_t filters_set_ns;     /* when it was last asked to */
    int open_errands;
    int open_handles;
    bool closing;
};

static void feed(struct carrier *carrier, const struct cluster_event *event);

static int64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

static void *must_calloc(size_t size)
{
    void *memory;
    while ((memory = calloc(1, size)) == NULL)
        uv_sleep(1);
    return memory;
}

static void free_if_done(struct carrier *carrier)
{
    if (!carrier->closing || carrier->open_errands > 0 || carrier->open_handles > 0)
        return;
    cluster_destroy(carrier->cluster);
    arena_free(&carrier->owned.arena);
    arena_free(&carrier->wanted.arena);
    free(carrier);
}

static struct errand *errand_new(struct carrier *carrier, uint64_t token)
{
    struct errand *errand = must_calloc(sizeof *errand);
    *errand = (struct errand){.carrier = carrier, .token = token};
    carrier->open_errands++;
    return errand;
}

/* The carrier, unless it is closing; then the errand's answer is of no use to anyone. */
static struct carrier *errand_end(struct errand *errand)
{
    struct carrier *carrier = errand->carrier;
    free(errand);
    carrier->open_errands--;
    if (!carrier->closing)
        return carrier;
    free_if_done(carrier);
    return NULL;
}

/* --- lists of chambers --- */

static int compare_tokens(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void list_set(struct chamber_list *list, const char *const *tokens, size_t count)
{
    arena_free(&list->arena);
    arena_init(&list->arena, 0);
    list->count = count;
    while ((list->tokens = arena_calloc(&list->arena, count + 1, sizeof *list->tokens)) == NULL)
        uv_sleep(1);
    for (size_t i = 0; i < count; i++)
        while ((list->tokens[i] = arena_strdup(&list->arena, tokens[i])) == NULL)
            uv_sleep(1);
    if (count > 0)
        qsort(list->tokens, count, sizeof *list->tokens, compare_tokens);
}

static bool list_has(const struct chamber_list *list, const char *token)
{
    return list->count > 0 &&
           bsearch(&token, list->tokens, list->count, sizeof *list->tokens, compare_tokens) != NULL;
}

/* The tokens of `a` that are (not) in `b`, borrowed from `a`. Returns their number; *out is malloc'ed. */
static size_t list_select(const struct chamber_list *a, const struct chamber_list *b, bool in,
                          const char ***out)
{
    const char **chosen = must_calloc((a->count + 1) * sizeof *chosen);
    size_t count = 0;
    for (size_t i = 0; i < a->count; i++)
        if (list_has(b, a->tokens[i]) == in)
            chosen[count++] = a->tokens[i];
    *out = chosen;
    return count;
}

/* The subjects of each token's chamber, in `arena`: "dc.{tool}.{chamber}.completed". */
static const char **subjects_of(struct carrier *carrier, const char *const *tokens, size_t count,
                                struct arena *arena)
{
    const struct carrier_kind *kind = &carrier->options.kind;
    const char **subjects;
    while ((subjects = arena_calloc(arena, count + 1, sizeof *subjects)) == NULL)
        uv_sleep(1);
    for (size_t i = 0; i < count; i++)
        while ((subjects[i] = arena_printf(arena, "%s%s%s%s%s", carrier->cell, *carrier->cell ? "." : "",
                                           kind->subject_prefix, tokens[i], kind->subject_suffix)) == NULL)
            uv_sleep(1);
    return subjects;
}

/* The names behind tokens, for the store. */
static struct prewarm_chamber *names_of(const char *const *tokens, size_t count, struct arena *arena)
{
    struct prewarm_chamber *names;
    while ((names = arena_calloc(arena, count + 1, sizeof *names)) == NULL)
        uv_sleep(1);
    for (size_t i = 0; i < count; i++) {
        char tool[NAMES_BYTES] = "", chamber[NAMES_BYTES] = "";
        const char *dot = strchr(tokens[i], '.');
        if (dot) {
            names_unescape(tokens[i], (size_t)(dot - tokens[i]), tool, NULL);
            names_unescape(dot + 1, strlen(dot + 1), chamber, NULL);
        }
        while ((names[i].tool = arena_strdup(arena, tool)) == NULL)
            uv_sleep(1);
        while ((names[i].chamber = arena_strdup(arena, chamber)) == NULL)
            uv_sleep(1);
    }
    return names;
}

/* --- owning chambers --- */

static int64_t capacity(const struct carrier *carrier)
{
    return carrier->ports.worker.capacity(carrier->ports.worker.arg);
}

static void apply_want(struct carrier *carrier)
{
    if (carrier->consumer)
        consumer_want(carrier->consumer, carrier->pulling ? capacity(carrier) : 0);
}

static void on_message(void *arg, const struct consumer_message *message)
{
    struct carrier *carrier = arg;
    carrier->ports.worker.receive(carrier->ports.worker.arg, message);
}

static void on_lost(void *arg, const char *reason)
{
    struct carrier *carrier = arg;
    LOG_WARN("fenced: another has deleted this process's consumer", LOG_STR("reason", reason));
    feed(carrier, &(struct cluster_event){.kind = EVENT_CONSUMER_LOST});
}

/* Pulls no more and forgets the consumer; at the server it stays as it is. */
static void leave_consumer(struct carrier *carrier)
{
    carrier->pulling = false;
    carrier->interrupted = false;
    carrier->holding = HOLDING_IDLE;
    if (carrier->consumer)
        consumer_free(carrier->consumer);
    carrier->consumer = NULL;
    list_set(&carrier->owned, NULL, 0);
}

/* Makes the consumer of that ID; an earlier ID's is let go. */
static bool have_consumer(struct carrier *carrier, const char *id)
{
    if (carrier->consumer && strcmp(carrier->id, id) == 0)
        return true;
    leave_consumer(carrier);
    snprintf(carrier->id, sizeof carrier->id, "%s", id);
    struct consumer_options options = {.stream = carrier->stream,
                                       .durable = carrier->id,
                                       .ack_wait_ms = carrier->options.ack_wait_ms,
                                       .max_ack_pending = carrier->options.max_ack_pending,
                                       .replicas = carrier->options.replicas};
    struct consumer_events events = {.message = on_message, .lost = on_lost, .arg = carrier};
    struct error err;
    if (consumer_new(carrier->ports.bus, &options, &events, &carrier->consumer, &err) == 0)
        return true;
    LOG_WARN("no consumer yet", LOG_STR("error", err.text));
    return false;
}

/* What is no longer owned: its waiting messages are another's, and so is its history. */
static void let_go(struct carrier *carrier)
{
    const char **gone;
    size_t count = list_select(&carrier->owned, &carrier->wanted, false, &gone);
    struct arena arena;
    arena_init(&arena, 0);
    const char **subjects = subjects_of(carrier, gone, count, &arena);
    for (size_t i = 0; i < count; i++)
        carrier->ports.worker.release_chamber(carrier->ports.worker.arg, subjects[i]);
    arena_free(&arena);
    free(gone);
}

static void hold_next(struct carrier *carrier);

static void on_confirmed(void *arg)
{
    struct carrier *carrier = arg;
    LOG_DEBUG("the chambers assigned are held", LOG_INT("chambers", carrier->wanted.count),
              LOG_INT("capacity", capacity(carrier)));
    carrier->holding = HOLDING_IDLE;
    list_set(&carrier->owned, carrier->wanted.tokens, carrier->wanted.count);
    carrier->pulling = !carrier->draining;
    apply_want(carrier);
    feed(carrier, &(struct cluster_event){.kind = EVENT_FILTERS_IN_FORCE, .version = carrier->version});
}

static void on_filters(void *arg, int code, const struct error *error)
{
    struct carrier *carrier = arg;
    if (code == ERR_CLOSED || carrier->closing)
        return; /* replaced by a later change */
    if (code) {
        LOG_WARN("filters not in force", LOG_STR("error", error->text));
        feed(carrier, &(struct cluster_event){
                          .kind = EVENT_FILTERS_IN_FORCE, .version = carrier->version, .code = code});
        return;
    }
    histogram_record(carrier->ports.filters, clock_mono_ns() - carrier->filters_set_ns);
    hold_next(carrier);
}

static void on_warm(void *arg)
{
    hold_next(arg);
}

static void set_filters(struct carrier *carrier, const char *const *tokens, size_t count)
{
    struct arena arena;
    arena_init(&arena, 0);
    const char **subjects = subjects_of(carrier, tokens, count, &arena);
    carrier->filters_set_ns = clock_mono_ns();
    consumer_set_filters(carrier->consumer, subjects, count, on_filters, carrier);
    arena_free(&arena);
}

static void with_gained(struct carrier *carrier,
                        void (*warm)(struct prewarm *, const struct prewarm_chamber *, size_t,
                                     void (*)(void *), void *),
                        void (*done)(void *))
{
    if (carrier->ports.prewarm == NULL) {
        done(carrier);
        return;
    }
    const char **gained;
    size_t count = list_select(&carrier->wanted, &carrier->owned, false, &gained);
    struct arena arena;
    arena_init(&arena, 0);
    warm(carrier->ports.prewarm, names_of(gained, count, &arena), count, done, carrier);
    arena_free(&arena);
    free(gained);
}

/* One step further in taking over what is wanted. Messages of gained chambers come with the growth, but none
 * is pulled before their histories are confirmed. */
static void hold_next(struct carrier *carrier)
{
    switch (carrier->holding) {
    case HOLDING_SHRINK:
        carrier->holding = HOLDING_WARM;
        with_gained(carrier, prewarm_begin, on_warm);
        break;
    case HOLDING_WARM:
        carrier->holding = HOLDING_GROW;
        carrier->pulling = false;
        apply_want(carrier);
        set_filters(carrier, carrier->wanted.tokens, carrier->wanted.count);
        break;
    case HOLDING_GROW:
        carrier->holding = HOLDING_CONFIRM;
        with_gained(carrier, prewarm_confirm, on_confirmed);
        break;
    case HOLDING_CONFIRM:
    case HOLDING_IDLE:
        break;
    }
}

/* From `owned` to `wanted`, which has just been set. */
static void hold_wanted(struct carrier *carrier)
{
    LOG_DEBUG("taking hold of the chambers assigned", LOG_INT("owned", carrier->owned.count),
              LOG_INT("wanted", carrier->wanted.count), LOG_INT("holding", carrier->holding));
    carrier->interrupted = false;
    let_go(carrier);
    carrier->holding = HOLDING_SHRINK;
    const char **kept;
    size_t count = list_select(&carrier->owned, &carrier->wanted, true, &kept);
    if (count < carrier->owned.count)
        set_filters(carrier, kept, count); /* at once: others wait for these */
    else
        hold_next(carrier);
    if (count == 0 && carrier->wanted.count > 0 && carrier->owned.count > 0)
        list_set(&carrier->owned, NULL, 0);
    free(kept);
}

static void hold(struct carrier *carrier, const struct cluster_action *action)
{
    list_set(&carrier->wanted, action->chambers, action->chamber_count);
    carrier->version = action->version;
    if (!have_consumer(carrier, action->id)) {
        feed(carrier, &(struct cluster_event){.kind = EVENT_FILTERS_IN_FORCE,
                                              .version = action->version,
                                              .code = ERR_UNAVAILABLE});
        return;
    }
    hold_wanted(carrier);
}

/* After the connection was lost the same chambers are taken up again, as soon as it is certain that no other
 * process has got the ID meanwhile. */
static void hold_again(struct carrier *carrier)
{
    struct cluster_status status;
    if (!carrier->interrupted || !carrier->connected || carrier->consumer == NULL || carrier->draining)
        return;
    cluster_read_status(carrier->cluster, &status);
    if (status.certain)
        hold_wanted(carrier);
}

/* --- errands: requests whose answers become events --- */

static void on_kv_done(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)error;
    struct errand *errand = arg;
    uint64_t token = errand->token;
    if (errand->timing && code == 0)
        histogram_record(errand->timing, clock_mono_ns() - errand->begun_ns);
    struct carrier *carrier = errand_end(errand);
    if (carrier)
        feed(carrier, &(struct cluster_event){
                          .kind = EVENT_KV_DONE, .token = token, .code = code, .revision = revision});
}

static void on_probed(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    (void)error;
    (void)message;
    uint64_t token = ((struct errand *)arg)->token;
    struct carrier *carrier = errand_end(arg);
    if (carrier)
        feed(carrier, &(struct cluster_event){.kind = EVENT_PROBED, .token = token, .code = code});
}

static void on_fenced(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)error;
    (void)response;
    uint64_t token = ((struct errand *)arg)->token;
    struct carrier *carrier = errand_end(arg);
    if (carrier)
        feed(carrier, &(struct cluster_event){
                          .kind = EVENT_FENCED, .token = token, .code = code == ERR_NOT_FOUND ? 0 : code});
}

/* The "{tool}.{chamber}" of a subject of the stream, NULL when it is not one. Chambers may have several. */
static const char *token_of(struct carrier *carrier, const char *subject, struct arena *arena)
{
    char prefix[NAMES_BYTES], tool[NAMES_BYTES], chamber[NAMES_BYTES];
    names_subject(carrier->cell, carrier->options.kind.subject_prefix, prefix);
    size_t skip = strlen(prefix);
    if (strncmp(subject, prefix, skip) != 0)
        return NULL;
    const char *token = subject + skip, *dot = strchr(token, '.'), *end = dot ? strchr(dot + 1, '.') : NULL;
    const char *suffix = carrier->options.kind.subject_suffix;
    if (end == NULL || (strcmp(suffix, ".>") != 0 && strcmp(suffix, end) != 0) ||
        names_unescape(token, (size_t)(dot - token), tool, NULL) ||
        names_unescape(dot + 1, (size_t)(end - dot - 1), chamber, NULL))
        return NULL;
    return arena_strndup(arena, token, (size_t)(end - token));
}

static size_t drop_repeated(const char **tokens, size_t count)
{
    size_t kept = 0;
    if (count > 0)
        qsort(tokens, count, sizeof *tokens, compare_tokens);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || strcmp(tokens[i], tokens[kept - 1]) != 0)
            tokens[kept++] = tokens[i];
    return kept;
}

static void on_subjects(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)error;
    uint64_t token = ((struct errand *)arg)->token;
    struct carrier *carrier = errand_end(arg);
    if (carrier == NULL)
        return;
    struct arena arena;
    arena_init(&arena, 0);
    json_t *subjects = code ? NULL : json_object_get(json_object_get(response, "state"), "subjects");
    const char **tokens = arena_calloc(&arena, json_object_size(subjects) + 1, sizeof *tokens);
    size_t count = 0;
    const char *subject;
    json_t *waiting;
    json_object_foreach(subjects, subject, waiting)
    {
        if (tokens && (tokens[count] = token_of(carrier, subject, &arena)) != NULL)
            count++;
    }
    feed(carrier, &(struct cluster_event){.kind = EVENT_SUBJECTS,
                                          .token = token,
                                          .code = code,
                                          .chambers = tokens,
                                          .chamber_count = tokens ? drop_repeated(tokens, count) : 0});
    arena_free(&arena);
}

/* A write of the lease by the leader renews it; by another, it acquires it. */
static void time_election(struct carrier *carrier, struct errand *errand)
{
    struct cluster_status status;
    cluster_read_status(carrier->cluster, &status);
    errand->timing = status.leads ? carrier->ports.renew : carrier->ports.acquire;
    errand->begun_ns = clock_mono_ns();
}

static void write_key(struct carrier *carrier, const struct cluster_action *action)
{
    const char *bucket = carrier->buckets[action->bucket];
    struct errand *errand = errand_new(carrier, action->token);
    if (action->bucket == BUCKET_ELECTION && action->kind != ACTION_KV_DELETE)
        time_election(carrier, errand);
    struct bus *bus = carrier->ports.bus;
    switch (action->kind) {
    case ACTION_KV_CREATE:
        kv_create(bus, bucket, action->key, action->value, action->value_length, on_kv_done, errand);
        break;
    case ACTION_KV_UPDATE:
        kv_update(bus, bucket, action->key, action->value, action->value_length, action->revision, on_kv_done,
                  errand);
        break;
    case ACTION_KV_PUT:
        kv_put(bus, bucket, action->key, action->value, action->value_length, on_kv_done, errand);
        break;
    default:
        kv_delete(bus, bucket, action->key, action->revision, on_kv_done, errand);
        break;
    }
}

static void publish_heartbeat(struct carrier *carrier, const struct cluster_heartbeat *heartbeat)
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

static void probe(struct carrier *carrier, const struct cluster_action *action)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    snprintf(own, sizeof own, "cluster.ask.%s", action->id);
    bus_request(carrier->ports.bus, names_subject(carrier->cell, own, subject), NULL, 0, "probe",
                strlen("probe"), PROBE_TIMEOUT_MS, on_probed, errand_new(carrier, action->token));
}

static void fence(struct carrier *carrier, const struct cluster_action *action)
{
    char call[NAMES_BYTES + CLUSTER_NAME_BYTES + 32];
    snprintf(call, sizeof call, "CONSUMER.DELETE.%s.%s", carrier->stream, action->id);
    jetstream_call(carrier->ports.bus, call, NULL, 0, on_fenced, errand_new(carrier, action->token));
}

static void list_subjects(struct carrier *carrier, const struct cluster_action *action)
{
    char call[NAMES_BYTES + 16], own[NAMES_BYTES], all[NAMES_BYTES];
    snprintf(own, sizeof own, "%s>", carrier->options.kind.subject_prefix);
    snprintf(call, sizeof call, "STREAM.INFO.%s", carrier->stream);
    json_t *body = json_pack("{s:s}", "subjects_filter", names_subject(carrier->cell, own, all));
    jetstream_call(carrier->ports.bus, call, body, 0, on_subjects, errand_new(carrier, action->token));
    json_decref(body);
}

/* --- watches --- */

static void on_watched(void *arg, const struct kv_entry *entry)
{
    struct carrier_watch *watch = arg;
    feed(watch->carrier, &(struct cluster_event){.kind = EVENT_KV_ENTRY,
                                                 .bucket = watch->bucket,
                                                 .key = entry->key,
                                                 .value = entry->operation == KV_PUT ? entry->value : NULL,
                                                 .value_length = entry->length,
                                                 .revision = entry->revision});
}

static void on_current(void *arg)
{
    struct carrier_watch *watch = arg;
    feed(watch->carrier,
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

static void watch(struct carrier *carrier, const struct cluster_action *action)
{
    unwatch(carrier, action->bucket, action->key);
    if (action->value == NULL)
        return;
    struct carrier_watch *made = must_calloc(sizeof *made);
    made->carrier = carrier;
    made->bucket = action->bucket;
    snprintf(made->pattern, sizeof made->pattern, "%s", action->key);
    made->next = carrier->watches;
    carrier->watches = made;
    if (carrier->connected)
        start_watch(made);
}

/* Watches rest while the connection is away, and begin anew after the cluster has heard that it is back: what
 * they give then is the newest, and their "current" is never mistaken for one from before. */
static void rest_watches(struct carrier *carrier)
{
    for (struct carrier_watch *watch = carrier->watches; watch; watch = watch->next)
        stop_watch(watch);
}

static void resume_watches(struct carrier *carrier)
{
    for (struct carrier_watch *watch = carrier->watches; watch; watch = watch->next)
        if (watch->native == NULL)
            start_watch(watch);
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
    feed(carrier, &(struct cluster_event){.kind = EVENT_HEARTBEAT, .heartbeat = &heartbeat});
}

static void hear(struct carrier *carrier, bool on)
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

/* --- carrying out --- */

/* Into the log, and to whoever watches (`status --watch`). */
static void tell_decision(struct carrier *carrier, const char *what)
{
    struct cluster_status status;
    char subject[NAMES_BYTES], when[CLOCK_RFC3339_BYTES];
    cluster_read_status(carrier->cluster, &status);
    LOG_INFO(what, LOG_STR("id", status.id));
    struct strbuf json;
    strbuf_init(&json);
    strbuf_printf(&json, "{\"at\":\"%s\",\"id\":", clock_format_rfc3339(clock_wall_us() / 1000 * 1000, when));
    strbuf_add_json(&json, status.id);
    strbuf_add(&json, ",\"what\":");
    strbuf_add_json(&json, what);
    strbuf_add_char(&json, '}');
    bus_publish(carrier->ports.bus, names_subject(carrier->cell, "cluster.events", subject), json.text,
                json.length, NULL);
    strbuf_free(&json);
}

static void begin_drain(struct carrier *carrier)
{
    carrier->draining = true;
    carrier->pulling = false;
    apply_want(carrier);
    carrier->ports.worker.stop(carrier->ports.worker.arg);
}

static void carry_out(struct carrier *carrier, const struct cluster_action *action)
{
    switch (action->kind) {
    case ACTION_KV_CREATE:
    case ACTION_KV_UPDATE:
    case ACTION_KV_PUT:
    case ACTION_KV_DELETE:
        write_key(carrier, action);
        break;
    case ACTION_HEARTBEAT:
        publish_heartbeat(carrier, action->heartbeat);
        break;
    case ACTION_PROBE:
        probe(carrier, action);
        break;
    case ACTION_FENCE:
        fence(carrier, action);
        break;
    case ACTION_SET_FILTERS:
        hold(carrier, action);
        break;
    case ACTION_KEEP_CONSUMER:
        list_set(&carrier->wanted, NULL, 0);
        let_go(carrier);
        leave_consumer(carrier);
        break;
    case ACTION_LIST_SUBJECTS:
        list_subjects(carrier, action);
        break;
    case ACTION_WATCH:
        watch(carrier, action);
        break;
    case ACTION_LISTEN:
        hear(carrier, action->value != NULL);
        break;
    case ACTION_DRAIN:
        begin_drain(carrier);
        break;
    case ACTION_STATE:
        if (carrier->ports.changed)
            carrier->ports.changed(carrier->ports.arg);
        break;
    case ACTION_TRACE:
        tell_decision(carrier, action->trace);
        break;
    }
}

/* --- events in --- */

static void on_tick(uv_timer_t *timer);

static void schedule(struct carrier *carrier)
{
    int64_t due_ms = cluster_next_tick_ms(carrier->cluster) - now_ms();
    uv_update_time(carrier->ports.loop);
    uv_timer_start(&carrier->timer, on_tick, due_ms > 0 ? (uint64_t)due_ms : 0, 0);
}

static void tell_if_stopped(struct carrier *carrier)
{
    struct cluster_status status;
    cluster_read_status(carrier->cluster, &status);
    if (status.state != CLUSTER_STOPPED || carrier->stopped)
        return;
    carrier->stopped = true;
    uv_timer_stop(&carrier->timer);
    if (carrier->ports.stopped)
        carrier->ports.stopped(carrier->ports.arg);
}

/* Steps the cluster and carries out what it asks for. An action may feed the next event at once (an answer
 * that needs no network): the list of actions is then taken apart first. */
static void feed(struct carrier *carrier, const struct cluster_event *event)
{
    if (carrier->closing || carrier->stopped)
        return;
    struct cluster_actions actions;
    struct error err;
    cluster_actions_init(&actions);
    if (cluster_step(carrier->cluster, now_ms(), event, &actions, &err)) {
        /* It no longer knows where it stands. A crash is what the others know how to handle. */
        LOG_ERROR("the cluster's machine failed: ending this process", LOG_STR("error", err.text));
        abort();
    }
    for (size_t i = 0; i < actions.count; i++)
        carry_out(carrier, &actions.items[i]);
    cluster_actions_free(&actions);
    hold_again(carrier);
    schedule(carrier);
    tell_if_stopped(carrier);
}

static void on_tick(uv_timer_t *timer)
{
    feed(timer->data, &(struct cluster_event){.kind = EVENT_TICK});
}

/* A process that was stopped (SIGSTOP, a swapped-out machine) wakes with an old view: before anything of it
 * is written, it lets go of what it holds. The stream delivers it again, here or elsewhere. */
static void on_pulse(uv_timer_t *timer)
{
    struct carrier *carrier = timer->data;
    int64_t now = now_ms(), gap_ms = now - carrier->last_pulse_ms;
    carrier->last_pulse_ms = now;
    if (gap_ms < PAUSE_MS)
        return;
    LOG_WARN("stood still; letting go of what is held", LOG_INT("ms", gap_ms));
    carrier->ports.worker.abandon_all(carrier->ports.worker.arg);
}

/* --- connection --- */

static void make_next_bucket(struct carrier *carrier);

static void on_bucket_retry(uv_timer_t *timer)
{
    make_next_bucket(timer->data);
}

static void on_bucket_made(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    struct carrier *carrier = errand_end(arg);
    if (carrier == NULL || !bus_is_connected(carrier->ports.bus))
        return;
    if (code) {
        LOG_WARN("bucket not ready; trying again", LOG_STR("error", error->text));
        uv_timer_start(&carrier->retry, on_bucket_retry, BUCKET_RETRY_MS, 0);
        return;
    }
    carrier->buckets_made++;
    make_next_bucket(carrier);
}

static int64_t bucket_ttl_ms(const struct carrier *carrier, enum cluster_bucket bucket)
{
    switch (bucket) {
    case BUCKET_STABLE_IDS:
        return carrier->options.cluster.id_ttl_ms;
    case BUCKET_ELECTION:
        return carrier->options.cluster.lease_ttl_ms;
    default:
        return 0;
    }
}

static void make_next_bucket(struct carrier *carrier)
{
    if (carrier->buckets_made == BUCKET_COUNT) {
        if (!carrier->connected) {
            carrier->connected = true;
            feed(carrier, &(struct cluster_event){.kind = EVENT_CONNECTED});
            resume_watches(carrier);
        }
        return;
    }
    enum cluster_bucket bucket = (enum cluster_bucket)carrier->buckets_made;
    struct kv_spec spec = {.bucket = carrier->buckets[bucket],
                           .ttl_ms = bucket_ttl_ms(carrier, bucket),
                           .replicas = carrier->options.replicas};
    kv_ensure(carrier->ports.bus, &spec, on_bucket_made, errand_new(carrier, 0));
}

void carrier_on_connected(struct carrier *carrier)
{
    if (carrier->connected)
        return;
    uv_timer_stop(&carrier->retry);
    carrier->buckets_made = 0; /* the broker may have lost them with its disk */
    make_next_bucket(carrier);
}

void carrier_on_disconnected(struct carrier *carrier)
{
    if (carrier->consumer) {
        consumer_on_disconnected(carrier->consumer);
        carrier->interrupted = true;
    }
    if (!carrier->connected)
        return;
    carrier->connected = false;
    rest_watches(carrier);
    feed(carrier, &(struct cluster_event){.kind = EVENT_DISCONNECTED});
}

/* --- the doors --- */

void carrier_on_capacity(struct carrier *carrier)
{
    apply_want(carrier);
    if (carrier->draining && !carrier->stopped && carrier->ports.worker.idle(carrier->ports.worker.arg)) {
        carrier->draining = false;
        feed(carrier, &(struct cluster_event){.kind = EVENT_DRAINED});
    }
}

static void on_drain_check(uv_timer_t *timer)
{
    struct carrier *carrier = timer->data;
    carrier_on_capacity(carrier);
    if (!carrier->draining)
        uv_timer_stop(timer);
}

void carrier_stop(struct carrier *carrier)
{
    feed(carrier, &(struct cluster_event){.kind = EVENT_STOP});
    if (carrier->draining) /* nothing may be in flight at all: then no capacity changes any more */
        uv_timer_start(&carrier->retry, on_drain_check, DRAIN_POLL_MS, DRAIN_POLL_MS);
}

void carrier_status(const struct carrier *carrier, struct cluster_status *status)
{
    cluster_read_status(carrier->cluster, status);
}

bool carrier_owns(const struct carrier *carrier, const char *chamber)
{
    return cluster_owns(carrier->cluster, chamber);
}

static void init_timer(struct carrier *carrier, uv_timer_t *timer)
{
    uv_timer_init(carrier->ports.loop, timer);
    timer->data = carrier;
    carrier->open_handles++;
}

int carrier_open(const struct carrier_options *options, const struct carrier_ports *ports,
                 struct carrier **out, struct error *err)
{
    struct carrier *carrier = calloc(1, sizeof *carrier);
    if (carrier == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the cluster");
    carrier->options = *options;
    carrier->ports = *ports;
    snprintf(carrier->cell, sizeof carrier->cell, "%s", options->cell);
    names_stream(carrier->cell, options->kind.stream, carrier->stream);
    for (int bucket = 0; bucket < BUCKET_COUNT; bucket++) {
        char name[NAMES_BYTES];
        snprintf(name, sizeof name, "%s%s", options->kind.bucket_prefix,
                 cluster_bucket_name((enum cluster_bucket)bucket));
        names_stream(carrier->cell, name, carrier->buckets[bucket]);
    }
    arena_init(&carrier->owned.arena, 0);
    arena_init(&carrier->wanted.arena, 0);
    int code = cluster_create(&options->cluster, &carrier->cluster, err);
    if (code) {
        free(carrier);
        return code;
    }
    init_timer(carrier, &carrier->timer);
    init_timer(carrier, &carrier->retry);
    init_timer(carrier, &carrier->pulse);
    carrier->last_pulse_ms = now_ms();
    uv_timer_start(&carrier->pulse, on_pulse, PAUSE_MS / 10, PAUSE_MS / 10);
    *out = carrier;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct carrier *carrier = handle->data;
    carrier->open_handles--;
    free_if_done(carrier);
}

void carrier_close(struct carrier *carrier)
{
    carrier->closing = true;
    hear(carrier, false);
    while (carrier->watches) {
        struct carrier_watch *next = carrier->watches->next;
        stop_watch(carrier->watches);
        free(carrier->watches);
        carrier->watches = next;
    }
    if (carrier->consumer)
        consumer_free(carrier->consumer);
    uv_close((uv_handle_t *)&carrier->timer, on_handle_closed);
    uv_close((uv_handle_t *)&carrier->retry, on_handle_closed);
    uv_close((uv_handle_t *)&carrier->pulse, on_handle_closed);
}
