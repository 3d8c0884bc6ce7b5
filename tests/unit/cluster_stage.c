#include "cluster_stage.h"
#include "cmocka_setup.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    STAGE_KEYS_MAX = 8192,
    STAGE_WATCHES_MAX = 16,
    STAGE_FAULTS_MAX = 16,
    STAGE_CONSUMERS_MAX = 128,
    STAGE_TIMEOUT_MS = 2500, /* later than the machine itself gives up */
    STAGE_PROBE_MS = 500,
    STAGE_GROW_MS = 50,
    STAGE_LATE_MS = 4000
};

struct entry {
    enum cluster_bucket bucket;
    char *key, *value; /* value NULL: deleted, or ran out */
    bool marker;       /* deleted: watchers are told */
    uint64_t revision;
    int64_t stored_ms;
};

struct stage_watch {
    enum cluster_bucket bucket;
    char pattern[96];
};

/* What goes over the wire, to the server or to a process. */
struct letter {
    int64_t due_ms;
    uint64_t order;
    int process; /* it goes to, or comes from */
    bool to_server;
    bool own_time;                /* a timer of the process's carrier: comes though the connection is gone */
    struct cluster_action action; /* to the server */
    struct cluster_event event;   /* to the process */
    struct cluster_heartbeat heartbeat;
    char *key, *value;
    const char *chambers[64];
};

struct process {
    struct cluster *cluster;
    bool alive, paused, connected, listening;
    int64_t clock_ms; /* ahead of the stage's */
    struct stage_watch watches[STAGE_WATCHES_MAX];
    size_t watch_count;
    struct letter *waiting; /* for a paused process */
    size_t waiting_count;
    /* the filters it wants */
    char consumer[64];
    char **wanted;
    size_t wanted_count;
    uint64_t wanted_version;
    bool growing;
    int64_t drain_ms;
    uint64_t incarnation;
};

struct consumer_of {
    char id[64];
    int process;
    char **filters;
    size_t count;
    bool exists;
};

struct fault {
    int process;
    char key[64];
    enum stage_fault fault;
    bool kills, done;
};

struct line {
    int64_t at_ms;
    int process;
    char text[CLUSTER_TRACE_BYTES];
};

struct stage {
    struct cluster_config config;
    int64_t now_ms;
    bool away;
    int64_t stalled_until_ms;
    uint64_t order;
    struct process processes[STAGE_PROCESSES_MAX + 1];
    int process_count;
    struct entry *entries;
    size_t entry_count;
    uint64_t revisions[BUCKET_COUNT];
    struct letter *letters; /* a heap by due_ms, order */
    size_t letter_count, letter_capacity;
    struct consumer_of consumers[STAGE_CONSUMERS_MAX];
    size_t consumer_count;
    struct fault faults[STAGE_FAULTS_MAX];
    size_t fault_count;
    char *orphans[16];
    size_t orphan_count;
    struct line *lines;
    size_t line_count, line_capacity, told;
    struct cluster_actions actions;
};

static void process_step(struct stage *stage, int process, const struct cluster_event *event);
static void line_add(struct stage *stage, int process, const char *text);

static void *must(void *memory)
{
    if (memory == NULL)
        abort();
    return memory;
}

/* ---- letters ---- */

static bool letter_before(const struct letter *a, const struct letter *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void letter_post(struct stage *stage, struct letter letter)
{
    if (stage->letter_count == stage->letter_capacity) {
        stage->letter_capacity = stage->letter_capacity ? 2 * stage->letter_capacity : 1024;
        stage->letters = must(realloc(stage->letters, stage->letter_capacity * sizeof *stage->letters));
    }
    letter.order = ++stage->order;
    size_t at = stage->letter_count++;
    while (at > 0 && letter_before(&letter, &stage->letters[(at - 1) / 2])) {
        stage->letters[at] = stage->letters[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    stage->letters[at] = letter;
}

static struct letter letter_take(struct stage *stage)
{
    struct letter first = stage->letters[0];
    struct letter last = stage->letters[--stage->letter_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= stage->letter_count)
            break;
        if (child + 1 < stage->letter_count &&
            letter_before(&stage->letters[child + 1], &stage->letters[child]))
            child++;
        if (!letter_before(&stage->letters[child], &last))
            break;
        stage->letters[at] = stage->letters[child];
        at = child;
    }
    if (stage->letter_count > 0)
        stage->letters[at] = last;
    return first;
}

static void letter_free(struct letter *letter)
{
    free(letter->key);
    free(letter->value);
}

static void tell(struct stage *stage, int process, struct cluster_event event, int64_t delay_ms,
                 bool own_time)
{
    struct letter letter = {
        .due_ms = stage->now_ms + delay_ms, .process = process, .own_time = own_time, .event = event};
    if (event.key)
        letter.key = must(strdup(event.key));
    if (event.value)
        letter.value = must(strdup(event.value));
    if (event.heartbeat)
        letter.heartbeat = *event.heartbeat;
    for (size_t i = 0; i < event.chamber_count; i++)
        letter.chambers[i] = event.chambers[i];
    letter_post(stage, letter);
}

static void letter_deliver(struct stage *stage, struct letter *letter)
{
    struct cluster_event event = letter->event;
    event.key = letter->key;
    event.value = letter->value;
    event.value_length = letter->value ? strlen(letter->value) : 0;
    if (event.heartbeat)
        event.heartbeat = &letter->heartbeat;
    event.chambers = letter->chambers;
    process_step(stage, letter->process, &event);
}

/* ---- the key-value store ---- */

static struct entry *entry_find(const struct stage *stage, enum cluster_bucket bucket, const char *key)
{
    for (size_t i = 0; i < stage->entry_count; i++)
        if (stage->entries[i].bucket == bucket && strcmp(stage->entries[i].key, key) == 0)
            return &stage->entries[i];
    return NULL;
}

static int64_t bucket_ttl_ms(const struct stage *stage, enum cluster_bucket bucket)
{
    int64_t id_ttl_ms = stage->config.id_ttl_ms ? stage->config.id_ttl_ms : 10000;
    int64_t lease_ttl_ms = stage->config.lease_ttl_ms ? stage->config.lease_ttl_ms : 3000;
    return bucket == BUCKET_STABLE_IDS ? id_ttl_ms : bucket == BUCKET_ELECTION ? lease_ttl_ms : INT64_MAX;
}

/* Keys run out without a word. */
static void entries_expire(struct stage *stage)
{
    for (size_t i = 0; i < stage->entry_count; i++) {
        struct entry *entry = &stage->entries[i];
        if (stage->now_ms - entry->stored_ms < bucket_ttl_ms(stage, entry->bucket))
            continue;
        free(entry->value);
        entry->value = NULL;
        entry->marker = false;
        entry->revision = 0;
    }
}

static bool pattern_matches(const char *pattern, const char *key)
{
    size_t length = strlen(pattern);
    if (length > 0 && pattern[length - 1] == '>')
        return strncmp(pattern, key, length - 1) == 0;
    return strcmp(pattern, key) == 0;
}

static void entry_tell(struct stage *stage, int process, const struct entry *entry)
{
    tell(stage, process,
         (struct cluster_event){.kind = EVENT_KV_ENTRY,
                                .bucket = entry->bucket,
                                .key = entry->key,
                                .value = entry->value,
                                .revision = entry->revision},
         STAGE_LATENCY_MS, false);
}

static void entry_announce(struct stage *stage, const struct entry *entry)
{
    for (int p = 1; p <= stage->process_count; p++) {
        const struct process *process = &stage->processes[p];
        if (!process->alive || !process->connected)
            continue;
        for (size_t w = 0; w < process->watch_count; w++)
            if (process->watches[w].bucket == entry->bucket &&
                pattern_matches(process->watches[w].pattern, entry->key))
                entry_tell(stage, p, entry);
    }
}

static void watch_replay(struct stage *stage, int process, const struct stage_watch *watch)
{
    for (size_t i = 0; i < stage->entry_count; i++) {
        const struct entry *entry = &stage->entries[i];
        if (entry->bucket == watch->bucket && (entry->value || entry->marker) &&
            pattern_matches(watch->pattern, entry->key))
            entry_tell(stage, process, entry);
    }
    tell(stage, process,
         (struct cluster_event){.kind = EVENT_KV_CURRENT, .bucket = watch->bucket, .key = watch->pattern},
         STAGE_LATENCY_MS, false);
}

static void entry_write(struct stage *stage, enum cluster_bucket bucket, const char *key, const char *value)
{
    struct entry *entry = entry_find(stage, bucket, key);
    if (entry == NULL) {
        assert(stage->entry_count < STAGE_KEYS_MAX);
        entry = &stage->entries[stage->entry_count++];
        *entry = (struct entry){.bucket = bucket, .key = must(strdup(key))};
    }
    free(entry->value);
    entry->value = value ? must(strdup(value)) : NULL;
    entry->marker = value == NULL;
    entry->revision = ++stage->revisions[bucket];
    entry->stored_ms = stage->now_ms;
    entry_announce(stage, entry);
}

static int kv_apply(struct stage *stage, const struct letter *letter, uint64_t *revision)
{
    const struct cluster_action *action = &letter->action;
    entries_expire(stage);
    const struct entry *entry = entry_find(stage, action->bucket, letter->key);
    uint64_t newest = entry ? entry->revision : 0;
    bool exists = entry && entry->value;
    if (action->kind == ACTION_KV_CREATE && exists)
        return ERR_CONFLICT;
    if (action->kind == ACTION_KV_UPDATE && newest != action->revision)
        return ERR_CONFLICT;
    if (action->kind == ACTION_KV_DELETE && action->revision && newest != action->revision)
        return ERR_CONFLICT;
    entry_write(stage, action->bucket, letter->key, action->kind == ACTION_KV_DELETE ? NULL : letter->value);
    *revision = stage->revisions[action->bucket];
    return 0;
}

/* Takes a planted fault that meets this write, if there is one. */
static bool fault_take(struct stage *stage, const struct letter *letter, struct fault *fault)
{
    for (size_t i = 0; i < stage->fault_count; i++) {
        *fault = stage->faults[i];
        if ((fault->process && fault->process != letter->process) ||
            strncmp(fault->key, letter->key, strlen(fault->key)) != 0)
            continue;
        stage->faults[i] = stage->faults[--stage->fault_count];
        return true;
    }
    return false;
}

/* Says so when a write that was thought lost comes at last. */
static void late_tell(struct stage *stage, const struct letter *letter, int code)
{
    char text[96];
    if (letter->action.token)
        return;
    snprintf(text, sizeof text, "(late write of %.40s %s)", letter->key, code ? "refused" : "accepted");
    line_add(stage, letter->process, text);
}

static void kv_serve(struct stage *stage, struct letter *letter)
{
    struct fault fault;
    uint64_t token = letter->action.token, revision = 0;
    struct cluster_event late = {.kind = EVENT_KV_DONE, .token = token, .code = ERR_TIMEOUT};
    if (stage->now_ms < stage->stalled_until_ms) {
        tell(stage, letter->process, late, STAGE_TIMEOUT_MS, true);
        return;
    }
    bool faulty = fault_take(stage, letter, &fault);
    if (faulty && fault.kills && !fault.done) {
        stage_kill(stage, letter->process);
        return;
    }
    if (faulty && !fault.kills && fault.fault == FAULT_DONE_LATE) {
        struct letter again = *letter;
        again.key = must(strdup(letter->key));
        again.value = letter->value ? must(strdup(letter->value)) : NULL;
        again.action.token = 0;
        again.due_ms = stage->now_ms + STAGE_LATE_MS;
        letter_post(stage, again);
    }
    if (faulty && !fault.kills && fault.fault != FAULT_DONE) {
        tell(stage, letter->process, late, STAGE_TIMEOUT_MS, true);
        return;
    }
    int code = kv_apply(stage, letter, &revision);
    late_tell(stage, letter, code);
    if (faulty && fault.kills) {
        stage_kill(stage, letter->process);
        return;
    }
    if (faulty) {
        tell(stage, letter->process, late, STAGE_TIMEOUT_MS, true);
        return;
    }
    tell(stage, letter->process,
         (struct cluster_event){.kind = EVENT_KV_DONE, .token = token, .code = code, .revision = revision},
         STAGE_LATENCY_MS, false);
}

/* ---- consumers ---- */

static struct consumer_of *consumer_find(struct stage *stage, const char *id)
{
    for (size_t i = 0; i < stage->consumer_count; i++)
        if (strcmp(stage->consumers[i].id, id) == 0)
            return &stage->consumers[i];
    assert(stage->consumer_count < STAGE_CONSUMERS_MAX);
    struct consumer_of *consumer = &stage->consumers[stage->consumer_count++];
    *consumer = (struct consumer_of){0};
    snprintf(consumer->id, sizeof consumer->id, "%s", id);
    return consumer;
}

static void texts_free(char **texts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(texts[i]);
    free(texts);
}

static char **texts_copy(const char *const *texts, size_t count)
{
    char **copy = must(calloc(count + 1, sizeof *copy));
    for (size_t i = 0; i < count; i++)
        copy[i] = must(strdup(texts[i]));
    return copy;
}

static bool texts_have(char *const *texts, size_t count, const char *text)
{
    size_t low = 0, high = count; /* sorted, as the machine gives them */
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(texts[middle], text);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

/* What the server holds against it: filters of another consumer (10100). */
static bool filters_overlap(const struct stage *stage, const struct process *process)
{
    for (size_t k = 0; k < stage->consumer_count; k++) {
        const struct consumer_of *other = &stage->consumers[k];
        if (!other->exists || strcmp(other->id, process->consumer) == 0)
            continue;
        for (size_t i = 0; i < process->wanted_count; i++)
            if (texts_have(other->filters, other->count, process->wanted[i]))
                return true;
    }
    return false;
}

static void consumer_set(struct consumer_of *consumer, int process, char *const *filters, size_t count)
{
    texts_free(consumer->filters, consumer->count);
    consumer->filters = texts_copy((const char *const *)filters, count);
    consumer->count = count;
    consumer->exists = count > 0;
    consumer->process = process;
}

/* Shrinks at once to what it had and still wants. */
static void consumer_shrink(struct stage *stage, int number)
{
    struct process *process = &stage->processes[number];
    struct consumer_of *consumer = consumer_find(stage, process->consumer);
    char **kept = must(calloc(process->wanted_count + 1, sizeof *kept));
    size_t count = 0;
    for (size_t i = 0; i < process->wanted_count; i++)
        if (texts_have(consumer->filters, consumer->count, process->wanted[i]))
            kept[count++] = process->wanted[i];
    consumer_set(consumer, number, kept, count);
    free(kept);
}

static void consumer_grow(struct stage *stage, int number)
{
    struct process *process = &stage->processes[number];
    if (!process->growing || !process->connected || stage->now_ms < stage->stalled_until_ms)
        return;
    if (filters_overlap(stage, process))
        return;
    process->growing = false;
    consumer_set(consumer_find(stage, process->consumer), number, process->wanted, process->wanted_count);
    tell(stage, number,
         (struct cluster_event){.kind = EVENT_FILTERS_IN_FORCE, .version = process->wanted_version},
         STAGE_LATENCY_MS, true);
}

static void process_set_filters(struct stage *stage, int number, const struct cluster_action *action)
{
    struct process *process = &stage->processes[number];
    texts_free(process->wanted, process->wanted_count);
    process->wanted = texts_copy(action->chambers, action->chamber_count);
    process->wanted_count = action->chamber_count;
    process->wanted_version = action->version;
    process->growing = true;
    snprintf(process->consumer, sizeof process->consumer, "%s", action->id);
    if (process->connected)
        consumer_shrink(stage, number);
    consumer_grow(stage, number);
}

static void process_keep_consumer(struct stage *stage, int number)
{
    struct process *process = &stage->processes[number];
    process->growing = false;
    for (size_t k = 0; k < stage->consumer_count; k++)
        if (stage->consumers[k].process == number)
            stage->consumers[k].process = 0;
    process->consumer[0] = '\0';
}

static void fence_serve(struct stage *stage, const struct letter *letter)
{
    struct consumer_of *consumer = consumer_find(stage, letter->key);
    int holder = consumer->exists ? consumer->process : 0;
    consumer_set(consumer, 0, NULL, 0);
    tell(stage, letter->process, (struct cluster_event){.kind = EVENT_FENCED, .token = letter->action.token},
         STAGE_LATENCY_MS, false);
    if (holder)
        tell(stage, holder, (struct cluster_event){.kind = EVENT_CONSUMER_LOST}, STAGE_LATENCY_MS, false);
}

static void probe_serve(struct stage *stage, const struct letter *letter)
{
    struct cluster_event answer = {
        .kind = EVENT_PROBED, .token = letter->action.token, .code = ERR_UNAVAILABLE};
    int64_t delay_ms = STAGE_LATENCY_MS;
    for (int p = 1; p <= stage->process_count; p++) {
        const struct process *process = &stage->processes[p];
        struct cluster_status status;
        if (!process->alive || !process->connected)
            continue;
        cluster_read_status(process->cluster, &status);
        if (strcmp(status.id, letter->key) != 0)
            continue;
        answer.code = process->paused ? ERR_TIMEOUT : 0;
        delay_ms = process->paused ? STAGE_PROBE_MS : 2 * STAGE_LATENCY_MS;
    }
    tell(stage, letter->process, answer, delay_ms, false);
}

static void serve(struct stage *stage, struct letter *letter)
{
    switch (letter->action.kind) {
    case ACTION_KV_CREATE:
    case ACTION_KV_UPDATE:
    case ACTION_KV_PUT:
    case ACTION_KV_DELETE:
        kv_serve(stage, letter);
        break;
    case ACTION_HEARTBEAT:
        for (int p = 1; p <= stage->process_count; p++)
            if (stage->processes[p].alive && stage->processes[p].connected && stage->processes[p].listening)
                tell(stage, p,
                     (struct cluster_event){.kind = EVENT_HEARTBEAT, .heartbeat = &letter->heartbeat},
                     STAGE_LATENCY_MS, false);
        break;
    case ACTION_PROBE:
        probe_serve(stage, letter);
        break;
    case ACTION_FENCE:
        fence_serve(stage, letter);
        break;
    case ACTION_LIST_SUBJECTS:
        tell(stage, letter->process,
             (struct cluster_event){.kind = EVENT_SUBJECTS,
                                    .token = letter->action.token,
                                    .chambers = (const char *const *)stage->orphans,
                                    .chamber_count = stage->orphan_count},
             STAGE_LATENCY_MS, false);
        break;
    default:
        abort();
    }
}

/* ---- processes ---- */

static void line_add(struct stage *stage, int process, const char *text)
{
    if (stage->line_count == stage->line_capacity) {
        stage->line_capacity = stage->line_capacity ? 2 * stage->line_capacity : 256;
        stage->lines = must(realloc(stage->lines, stage->line_capacity * sizeof *stage->lines));
    }
    struct line *line = &stage->lines[stage->line_count++];
    *line = (struct line){.at_ms = stage->now_ms, .process = process};
    snprintf(line->text, sizeof line->text, "%s", text);
}

static void process_watch(struct stage *stage, int number, const struct cluster_action *action)
{
    struct process *process = &stage->processes[number];
    struct stage_watch watch = {.bucket = action->bucket};
    snprintf(watch.pattern, sizeof watch.pattern, "%s", action->key);
    for (size_t i = 0; i < process->watch_count; i++) {
        if (process->watches[i].bucket != watch.bucket ||
            strcmp(process->watches[i].pattern, watch.pattern) != 0)
            continue;
        process->watches[i] = process->watches[--process->watch_count];
        break;
    }
    if (action->value == NULL)
        return;
    assert(process->watch_count < STAGE_WATCHES_MAX);
    process->watches[process->watch_count++] = watch;
    entries_expire(stage);
    if (process->connected)
        watch_replay(stage, number, &watch);
}

static void action_send(struct stage *stage, int number, const struct cluster_action *action)
{
    struct process *process = &stage->processes[number];
    if (!process->connected) {
        if (action->token)
            tell(stage, number,
                 (struct cluster_event){
                     .kind = EVENT_KV_DONE, .token = action->token, .code = ERR_UNAVAILABLE},
                 0, true);
        return;
    }
    struct letter letter = {
        .due_ms = stage->now_ms + STAGE_LATENCY_MS, .process = number, .to_server = true, .action = *action};
    const char *key = action->key ? action->key : action->id;
    if (key)
        letter.key = must(strdup(key));
    if (action->value)
        letter.value = must(strdup(action->value));
    if (action->heartbeat)
        letter.heartbeat = *action->heartbeat;
    letter_post(stage, letter);
}

static void action_perform(struct stage *stage, int number, const struct cluster_action *action)
{
    struct process *process = &stage->processes[number];
    switch (action->kind) {
    case ACTION_TRACE:
        line_add(stage, number, action->trace);
        break;
    case ACTION_STATE:
        break;
    case ACTION_WATCH:
        process_watch(stage, number, action);
        break;
    case ACTION_LISTEN:
        process->listening = action->value != NULL;
        break;
    case ACTION_SET_FILTERS:
        process_set_filters(stage, number, action);
        break;
    case ACTION_KEEP_CONSUMER:
        process_keep_consumer(stage, number);
        break;
    case ACTION_DRAIN:
        tell(stage, number, (struct cluster_event){.kind = EVENT_DRAINED}, process->drain_ms, true);
        break;
    default:
        action_send(stage, number, action);
        break;
    }
}

static void process_step(struct stage *stage, int number, const struct cluster_event *event)
{
    struct process *process = &stage->processes[number];
    struct error err;
    cluster_actions_clear(&stage->actions);
    int code =
        cluster_step(process->cluster, stage->now_ms + process->clock_ms, event, &stage->actions, &err);
    assert_int_equal(code, 0);
    for (size_t i = 0; i < stage->actions.count; i++)
        action_perform(stage, number, &stage->actions.items[i]);
    struct cluster_status status;
    cluster_read_status(process->cluster, &status);
    if (status.state == CLUSTER_STOPPED)
        process->alive = process->connected = false;
}

static void process_connect(struct stage *stage, int number)
{
    struct process *process = &stage->processes[number];
    process->connected = true;
    tell(stage, number, (struct cluster_event){.kind = EVENT_CONNECTED}, 0, true);
    entries_expire(stage);
    for (size_t w = 0; w < process->watch_count; w++)
        watch_replay(stage, number, &process->watches[w]);
    if (process->consumer[0])
        consumer_shrink(stage, number);
}

static void process_disconnect(struct stage *stage, int number)
{
    struct process *process = &stage->processes[number];
    if (!process->alive || !process->connected)
        return;
    process->connected = false;
    tell(stage, number, (struct cluster_event){.kind = EVENT_DISCONNECTED}, 0, true);
}

static void letter_arrive(struct stage *stage, struct letter *letter)
{
    struct process *process = &stage->processes[letter->process];
    if (letter->to_server) {
        /* Sent before the connection broke: on its way all the same, unless the server is gone. */
        if (!stage->away)
            serve(stage, letter);
        letter_free(letter);
        return;
    }
    if (!process->alive || (!process->connected && !letter->own_time)) {
        letter_free(letter);
        return;
    }
    if (process->paused) {
        process->waiting =
            must(realloc(process->waiting, (process->waiting_count + 1) * sizeof *process->waiting));
        process->waiting[process->waiting_count++] = *letter;
        return;
    }
    letter_deliver(stage, letter);
    letter_free(letter);
}

static int64_t stage_next_ms(const struct stage *stage)
{
    int64_t next = stage->letter_count ? stage->letters[0].due_ms : INT64_MAX;
    for (int p = 1; p <= stage->process_count; p++) {
        const struct process *process = &stage->processes[p];
        if (!process->alive || process->paused)
            continue;
        int64_t tick = cluster_next_tick_ms(process->cluster) - process->clock_ms;
        next = tick < next ? tick : next;
    }
    return next;
}

static void stage_tick(struct stage *stage)
{
    for (int p = 1; p <= stage->process_count; p++) {
        struct process *process = &stage->processes[p];
        if (!process->alive || process->paused)
            continue;
        if (process->growing && stage->now_ms % STAGE_GROW_MS == 0)
            consumer_grow(stage, p);
        if (cluster_next_tick_ms(process->cluster) - process->clock_ms <= stage->now_ms)
            process_step(stage, p, &(struct cluster_event){.kind = EVENT_TICK});
    }
}

static bool stage_grows(const struct stage *stage)
{
    for (int p = 1; p <= stage->process_count; p++)
        if (stage->processes[p].alive && stage->processes[p].growing)
            return true;
    return false;
}

static void stage_advance(struct stage *stage, int64_t until_ms)
{
    int64_t next = stage_next_ms(stage);
    if (stage_grows(stage)) {
        int64_t grow_ms = (stage->now_ms / STAGE_GROW_MS + 1) * STAGE_GROW_MS;
        next = grow_ms < next ? grow_ms : next;
    }
    if (next > until_ms)
        next = until_ms;
    if (next > stage->now_ms)
        stage->now_ms = next;
    while (stage->letter_count && stage->letters[0].due_ms <= stage->now_ms) {
        struct letter letter = letter_take(stage);
        letter_arrive(stage, &letter);
    }
    stage_tick(stage);
}

/* ---- what a story calls ---- */

struct stage *stage_new(const struct cluster_config *config)
{
    struct stage *stage = must(calloc(1, sizeof *stage));
    stage->entries = must(calloc(STAGE_KEYS_MAX, sizeof *stage->entries));
    if (config)
        stage->config = *config;
    stage->now_ms = 0;
    cluster_actions_init(&stage->actions);
    return stage;
}

static void process_free(struct process *process)
{
    cluster_destroy(process->cluster);
    texts_free(process->wanted, process->wanted_count);
    for (size_t i = 0; i < process->waiting_count; i++)
        letter_free(&process->waiting[i]);
    free(process->waiting);
}

void stage_free(struct stage *stage)
{
    for (int p = 1; p <= stage->process_count; p++)
        process_free(&stage->processes[p]);
    for (size_t i = 0; i < stage->letter_count; i++)
        letter_free(&stage->letters[i]);
    for (size_t i = 0; i < stage->entry_count; i++) {
        free(stage->entries[i].key);
        free(stage->entries[i].value);
    }
    for (size_t i = 0; i < stage->consumer_count; i++)
        texts_free(stage->consumers[i].filters, stage->consumers[i].count);
    for (size_t i = 0; i < stage->orphan_count; i++)
        free(stage->orphans[i]);
    free(stage->letters);
    free(stage->entries);
    free(stage->lines);
    cluster_actions_free(&stage->actions);
    free(stage);
}

void stage_set_weight(struct stage *stage, int number, int weight)
{
    char key[32], value[32];
    snprintf(key, sizeof key, "T%04d.C1", number);
    snprintf(value, sizeof value, "{\"weight\":%d}", weight);
    entry_write(stage, BUCKET_CHAMBERS, key, value);
}

void stage_observe(struct stage *stage, int number, int weight, int per_hour)
{
    char key[32], value[64];
    snprintf(key, sizeof key, "T%04d.C1", number);
    snprintf(value, sizeof value, "{\"weight\":%d,\"observed\":%d}", weight, per_hour);
    entry_write(stage, BUCKET_CHAMBERS, key, value);
}

void stage_add_chambers(struct stage *stage, int first, int count)
{
    for (int i = first; i < first + count; i++)
        stage_set_weight(stage, i, 1000);
}

void stage_remove_chamber(struct stage *stage, int number)
{
    char key[32];
    snprintf(key, sizeof key, "T%04d.C1", number);
    entry_write(stage, BUCKET_CHAMBERS, key, NULL);
}

void stage_add_orphan(struct stage *stage, const char *chamber)
{
    assert(stage->orphan_count < sizeof stage->orphans / sizeof *stage->orphans);
    stage->orphans[stage->orphan_count++] = must(strdup(chamber));
}

static int stage_start_with(struct stage *stage, const char *version, const char *group, double share,
                            int predecessor)
{
    assert(stage->process_count < STAGE_PROCESSES_MAX);
    int number = ++stage->process_count;
    struct process *process = &stage->processes[number];
    struct cluster_config config = stage->config;
    config.incarnation = 1000 + (uint64_t)number;
    config.version = version;
    config.group = group;
    config.share = share;
    config.predecessor = predecessor ? 1000 + (uint64_t)predecessor : 0;
    struct error err;
    assert_int_equal(cluster_create(&config, &process->cluster, &err), 0);
    process->alive = true;
    process->clock_ms = 1000 * number; /* no two clocks agree */
    process_step(stage, number, &(struct cluster_event){.kind = EVENT_TICK});
    if (!stage->away)
        process_connect(stage, number);
    return number;
}

int stage_start_as(struct stage *stage, const char *version, const char *group, double share)
{
    return stage_start_with(stage, version, group, share, 0);
}

int stage_restart(struct stage *stage, int predecessor)
{
    return stage_start_with(stage, "v1", "", 0, predecessor);
}

int stage_start(struct stage *stage)
{
    return stage_start_as(stage, "v1", "", 0);
}

void stage_start_many(struct stage *stage, int count)
{
    for (int i = 0; i < count; i++)
        stage_start(stage);
}

void stage_run(struct stage *stage, int64_t ms)
{
    int64_t until_ms = stage->now_ms + ms;
    while (stage->now_ms < until_ms)
        stage_advance(stage, until_ms);
}

void stage_run_until(struct stage *stage, const char *text, int64_t limit_ms)
{
    size_t from = stage->line_count;
    int64_t until_ms = stage->now_ms + limit_ms;
    while (stage->now_ms < until_ms) {
        stage_advance(stage, until_ms);
        for (; from < stage->line_count; from++)
            if (strstr(stage->lines[from].text, text))
                return;
    }
    stage_print(stage);
    fail_msg("not within %" PRId64 " ms: %s", limit_ms, text);
}

void stage_stop(struct stage *stage, int process)
{
    tell(stage, process, (struct cluster_event){.kind = EVENT_STOP}, 0, true);
}

void stage_kill(struct stage *stage, int process)
{
    stage->processes[process].alive = stage->processes[process].connected = false;
    line_add(stage, process, "(killed)");
}

void stage_pause(struct stage *stage, int process)
{
    stage->processes[process].paused = true;
    line_add(stage, process, "(paused)");
}

void stage_resume(struct stage *stage, int number)
{
    struct process *process = &stage->processes[number];
    line_add(stage, number, "(resumed)");
    process->paused = false;
    /* Its own timers fire first: the worst order. */
    process_step(stage, number, &(struct cluster_event){.kind = EVENT_TICK});
    for (size_t i = 0; i < process->waiting_count; i++) {
        if (process->alive)
            letter_deliver(stage, &process->waiting[i]);
        letter_free(&process->waiting[i]);
    }
    process->waiting_count = 0;
}

void stage_cut(struct stage *stage, int process)
{
    line_add(stage, process, "(cut off)");
    process_disconnect(stage, process);
}

void stage_mend(struct stage *stage, int process)
{
    line_add(stage, process, "(mended)");
    process_connect(stage, process);
}

void stage_jump_clock(struct stage *stage, int process, int64_t ms)
{
    stage->processes[process].clock_ms += ms;
}

void stage_slow_drain(struct stage *stage, int process, int64_t ms)
{
    stage->processes[process].drain_ms = ms;
}

void stage_nats_away(struct stage *stage)
{
    line_add(stage, 0, "(NATS away)");
    stage->away = true;
    for (int p = 1; p <= stage->process_count; p++)
        process_disconnect(stage, p);
}

static void store_lose(struct stage *stage)
{
    for (size_t i = 0; i < stage->entry_count; i++) {
        free(stage->entries[i].key);
        free(stage->entries[i].value);
    }
    stage->entry_count = 0;
    memset(stage->revisions, 0, sizeof stage->revisions);
    for (size_t i = 0; i < stage->consumer_count; i++) {
        struct consumer_of *consumer = &stage->consumers[i];
        if (consumer->exists && consumer->process)
            tell(stage, consumer->process, (struct cluster_event){.kind = EVENT_CONSUMER_LOST}, 5, false);
        consumer_set(consumer, 0, NULL, 0);
    }
}

void stage_nats_back(struct stage *stage, bool store_lost)
{
    line_add(stage, 0, "(NATS back)");
    stage->away = false;
    if (store_lost)
        store_lose(stage);
    for (int p = 1; p <= stage->process_count; p++)
        if (stage->processes[p].alive)
            process_connect(stage, p);
}

void stage_kv_stall(struct stage *stage, int64_t ms)
{
    line_add(stage, 0, "(store stalls)");
    stage->stalled_until_ms = stage->now_ms + ms;
}

static struct fault *fault_add(struct stage *stage, int process, const char *key)
{
    assert(stage->fault_count < STAGE_FAULTS_MAX);
    struct fault *fault = &stage->faults[stage->fault_count++];
    *fault = (struct fault){.process = process};
    snprintf(fault->key, sizeof fault->key, "%s", key);
    return fault;
}

void stage_fail_write(struct stage *stage, int process, const char *key, enum stage_fault fault)
{
    fault_add(stage, process, key)->fault = fault;
}

void stage_kill_at_write(struct stage *stage, int process, const char *key, bool done)
{
    struct fault *fault = fault_add(stage, process, key);
    fault->kills = true;
    fault->done = done;
}

/* ---- what a story asks ---- */

void stage_print(const struct stage *stage)
{
    for (size_t i = 0; i < stage->line_count; i++) {
        const struct line *line = &stage->lines[i];
        print_message("[%7" PRId64 "] %2d > %s\n", line->at_ms, line->process, line->text);
    }
}

static bool line_matches(const struct line *line, int process, const char *text, size_t length)
{
    return (process == 0 || process == line->process) && strncmp(line->text, text, length) == 0;
}

void stage_expect(struct stage *stage, const char *story)
{
    for (const char *line = story; *line;) {
        size_t length = strcspn(line, "\n");
        int process = 0, skip = 0;
        if (sscanf(line, "%d > %n", &process, &skip) < 1 || skip == 0)
            process = skip = 0;
        size_t at = stage->told;
        while (at < stage->line_count &&
               !line_matches(&stage->lines[at], process, line + skip, length - (size_t)skip))
            at++;
        if (at == stage->line_count) {
            stage_print(stage);
            fail_msg("not in the trace, in its place: %.*s", (int)length, line);
        }
        stage->told = at + 1;
        line += length + (line[length] == '\n');
    }
}

int stage_count(const struct stage *stage, const char *text)
{
    int count = 0;
    for (size_t i = 0; i < stage->line_count; i++)
        count += strstr(stage->lines[i].text, text) != NULL;
    return count;
}

int64_t stage_now(const struct stage *stage)
{
    return stage->now_ms;
}

int64_t stage_time_of(const struct stage *stage, const char *text)
{
    for (size_t i = stage->line_count; i-- > 0;)
        if (strstr(stage->lines[i].text, text))
            return stage->lines[i].at_ms;
    return -1;
}

void stage_status(const struct stage *stage, int process, struct cluster_status *status)
{
    cluster_read_status(stage->processes[process].cluster, status);
}

int stage_holder(const struct stage *stage, const char *id)
{
    int holder = 0;
    for (int p = 1; p <= stage->process_count; p++) {
        struct cluster_status status;
        if (!stage->processes[p].alive || stage->processes[p].paused)
            continue;
        stage_status(stage, p, &status);
        if (strcmp(status.id, id) != 0 || !status.certain)
            continue;
        if (holder)
            fail_msg("%s is held by processes %d and %d", id, holder, p);
        holder = p;
    }
    return holder;
}

int stage_leader(const struct stage *stage)
{
    int leader = 0;
    for (int p = 1; p <= stage->process_count; p++) {
        struct cluster_status status;
        if (!stage->processes[p].alive || stage->processes[p].paused)
            continue;
        stage_status(stage, p, &status);
        if (!status.leads)
            continue;
        if (leader)
            fail_msg("processes %d and %d both lead", leader, p);
        leader = p;
    }
    return leader;
}

const char *stage_value(const struct stage *stage, enum cluster_bucket bucket, const char *key)
{
    const struct entry *entry = entry_find(stage, bucket, key);
    return entry ? entry->value : NULL;
}

size_t stage_filters(const struct stage *stage, const char *id)
{
    for (size_t i = 0; i < stage->consumer_count; i++)
        if (strcmp(stage->consumers[i].id, id) == 0)
            return stage->consumers[i].count;
    return 0;
}

/* Chambers of an assignment in the store, without reading it as the machine does. */
static bool assigned_by_store(const struct stage *stage, const char *id, const char *chamber)
{
    char key[80], quoted[96];
    snprintf(key, sizeof key, "to.%s", id);
    snprintf(quoted, sizeof quoted, "\"%s\"", chamber);
    const char *value = stage_value(stage, BUCKET_ASSIGNMENTS, key);
    return value && strstr(value, quoted);
}

static int consumers_check(const struct stage *stage)
{
    int owned = 0;
    for (size_t k = 0; k < stage->consumer_count; k++) {
        const struct consumer_of *consumer = &stage->consumers[k];
        if (!consumer->exists)
            continue;
        int holder = stage_holder(stage, consumer->id);
        if (holder == 0)
            fail_msg("the consumer of %s has no process", consumer->id);
        for (size_t i = 0; i < consumer->count; i++) {
            if (!assigned_by_store(stage, consumer->id, consumer->filters[i]))
                fail_msg("%s filters on %s, which the store does not assign to it", consumer->id,
                         consumer->filters[i]);
            if (!cluster_owns(stage->processes[holder].cluster, consumer->filters[i]))
                fail_msg("%s filters on %s and does not know that it owns it", consumer->id,
                         consumer->filters[i]);
        }
        owned += (int)consumer->count;
    }
    return owned;
}

void stage_check(struct stage *stage, int chambers)
{
    int owned = consumers_check(stage);
    if (owned != chambers) {
        stage_print(stage);
        fail_msg("%d of %d chambers are in somebody's filters", owned, chambers);
    }
    for (int p = 1; p <= stage->process_count; p++) {
        struct cluster_status status;
        stage_status(stage, p, &status);
        if (stage->processes[p].alive && status.id[0])
            (void)stage_holder(stage, status.id);
    }
    (void)stage_leader(stage);
}
