#include "notify/grouper.h"

#include "base/clock.h"
#include "base/hash.h"

#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>
#include <utlist.h>

enum place { PLACE_NONE, PLACE_ESCALATING, PLACE_COOLING, PLACE_GROUP, PLACE_SENDING };

struct held {
    uint64_t id, handle, topic;
    struct notice *notice;
    enum place place;
    int64_t due_ms; /* escalating: when to ask */
    bool checking;  /* the question is under way */
    bool forced;    /* told although its topic is cool */
    struct held *prev, *next;
    UT_hash_handle hh;
};

struct told {
    uint64_t id;
    bool confirmed;    /* it will not be delivered any more */
    UT_hash_handle hh; /* in the order of being told */
};

struct topic {
    uint64_t key;
    int64_t until_ms;
    struct held *cooling;
    size_t cooling_count;
    UT_hash_handle hh;
};

struct group {
    uint64_t key;
    int64_t ready_ms;
    struct held *members;
    size_t count;
    UT_hash_handle hh;
};

/* One message from being made until it is over. */
struct sending {
    bool active;
    bool waiting; /* for the outcome; else for retry_ms */
    bool burying;
    unsigned attempt;
    int64_t retry_ms;
    char key[17];
    char *message;
    uint64_t *ids, *topics;
    size_t id_count, topic_count;
    struct held *members; /* fewer than ids after a restart, until they are delivered again */
};

/* What stands in one line of a message. */
struct entry {
    uint64_t topic;
    const struct notice *newest;
    size_t count;
    int64_t first_ms, last_ms;
};

struct grouper {
    struct grouper_policy policy;
    char sink[128];
    int64_t now_ms;
    uint64_t random;
    bool out_of_memory;
    struct held *held; /* by id */
    struct told *told;
    struct topic *topics;
    struct group *groups;
    struct held *escalating;
    size_t escalating_count, cooling_count;
    struct sending sending;

    uint64_t counted, early;
    struct grouper_actions *actions;
};

/* --- small parts --- */

static uint64_t next_random(struct grouper *grouper)
{
    grouper->random ^= grouper->random << 13; /* xorshift64 (Marsaglia 2003) */
    grouper->random ^= grouper->random >> 7;
    grouper->random ^= grouper->random << 17;
    return grouper->random;
}

static void act(struct grouper *grouper, struct grouper_action action)
{
    struct grouper_actions *actions = grouper->actions;
    if (actions->count == actions->capacity) {
        size_t capacity = actions->capacity ? 2 * actions->capacity : 16;
        struct grouper_action *items = realloc(actions->items, capacity * sizeof *items);
        if (items == NULL) {
            grouper->out_of_memory = true;
            return;
        }
        actions->items = items;
        actions->capacity = capacity;
    }
    actions->items[actions->count++] = action;
}

static void release(struct grouper *grouper, uint64_t handle, uint64_t id, enum grouper_why why)
{
    act(grouper, (struct grouper_action){.kind = GROUPER_RELEASE, .handle = handle, .id = id, .why = why});
}

static void remember_told(struct grouper *grouper, uint64_t id)
{
    struct told *told;
    HASH_FIND(hh, grouper->told, &id, sizeof id, told);
    if (told)
        return;
    if (HASH_COUNT(grouper->told) >= GROUPER_TOLD_MAX) {
        told = grouper->told;
        HASH_DEL(grouper->told, told);
    } else {
        told = malloc(sizeof *told);
    }
    if (told == NULL) {
        grouper->out_of_memory = true;
        return;
    }
    told->id = id;
    told->confirmed = false;
    HASH_ADD(hh, grouper->told, id, sizeof told->id, told);
}

static void confirm(struct grouper *grouper, uint64_t id)
{
    struct told *told;
    HASH_FIND(hh, grouper->told, &id, sizeof id, told);
    if (told)
        told->confirmed = true;
}

static bool was_told(const struct grouper *grouper, uint64_t id)
{
    struct told *told;
    HASH_FIND(hh, grouper->told, &id, sizeof id, told);
    return told != NULL;
}

static void forget_held(struct grouper *grouper, struct held *held)
{
    HASH_DEL(grouper->held, held);
    free(held->notice);
    free(held);
}

/* --- topics --- */

static struct topic *find_topic(const struct grouper *grouper, uint64_t key)
{
    struct topic *topic;
    HASH_FIND(hh, grouper->topics, &key, sizeof key, topic);
    return topic;
}

static bool is_cool(const struct grouper *grouper, uint64_t key)
{
    const struct topic *topic = find_topic(grouper, key);
    return topic && topic->until_ms > grouper->now_ms;
}

/* Makes room: topics that are over go, and when none is, the one that ends first among those that hold
 * nothing. */
static void drop_topics(struct grouper *grouper)
{
    struct topic *topic, *next, *first = NULL;
    HASH_ITER(hh, grouper->topics, topic, next)
    {
        if (topic->cooling)
            continue;
        if (topic->until_ms <= grouper->now_ms) {
            HASH_DEL(grouper->topics, topic);
            free(topic);
        } else if (first == NULL || topic->until_ms < first->until_ms) {
            first = topic;
        }
    }
    if (first && HASH_COUNT(grouper->topics) >= GROUPER_TOPICS_MAX) {
        HASH_DEL(grouper->topics, first);
        free(first);
    }
}

static void cool(struct grouper *grouper, uint64_t key, int64_t until_ms)
{
    struct topic *topic = find_topic(grouper, key);
    if (topic == NULL) {
        if (HASH_COUNT(grouper->topics) >= GROUPER_TOPICS_MAX)
            drop_topics(grouper);
        topic = calloc(1, sizeof *topic);
        if (topic == NULL) {
            grouper->out_of_memory = true;
            return;
        }
        topic->key = key;
        HASH_ADD(hh, grouper->topics, key, sizeof topic->key, topic);
    }
    topic->until_ms = until_ms;
}

/* --- groups --- */

static struct group *open_group(struct grouper *grouper, uint64_t key, int64_t ready_ms)
{
    struct group *group;
    HASH_FIND(hh, grouper->groups, &key, sizeof key, group);
    if (group) {
        if (ready_ms < group->ready_ms)
            group->ready_ms = ready_ms;
        return group;
    }
    group = calloc(1, sizeof *group);
    if (group == NULL) {
        grouper->out_of_memory = true;
        return NULL;
    }
    group->key = key;
    group->ready_ms = ready_ms;
    HASH_ADD(hh, grouper->groups, key, sizeof group->key, group);
    return group;
}

static void close_group(struct grouper *grouper, struct group *group)
{
    HASH_DEL(grouper->groups, group);
    free(group);
}

static void put_in_group(struct grouper *grouper, struct held *held, int64_t ready_ms)
{
    struct group *group = open_group(grouper, notice_group(held->notice, grouper->policy.group_by), ready_ms);
    if (group == NULL)
        return;
    held->place = PLACE_GROUP;
    DL_APPEND(group->members, held);
    if (++group->count >= grouper->policy.group_max)
        group->ready_ms = grouper->now_ms;
}

static void put_to_cool(struct grouper *grouper, struct held *held)
{
    struct topic *topic = find_topic(grouper, held->topic);
    held->place = PLACE_COOLING;
    DL_APPEND(topic->cooling, held);
    topic->cooling_count++;
    grouper->cooling_count++;
}

/* To the group, or to where it waits until its topic may be told again. */
static void admit(struct grouper *grouper, struct held *held)
{
    if (is_cool(grouper, held->topic))
        put_to_cool(grouper, held);
    else
        put_in_group(grouper, held, grouper->now_ms + grouper->policy.group_wait_ms);
}

static void end_cooling(struct grouper *grouper, struct topic *topic, bool forced)
{
    struct held *held, *next;
    DL_FOREACH_SAFE(topic->cooling, held, next)
    {
        DL_DELETE(topic->cooling, held);
        held->forced = forced;
        put_in_group(grouper, held, grouper->now_ms);
    }
    grouper->cooling_count -= topic->cooling_count;
    topic->cooling_count = 0;
}

static void end_coolings(struct grouper *grouper)
{
    struct topic *topic, *next;
    if (grouper->cooling_count == 0)
        return;
    HASH_ITER(hh, grouper->topics, topic, next)
    {
        if (topic->cooling && topic->until_ms <= grouper->now_ms)
            end_cooling(grouper, topic, false);
    }
}

/* --- escalation --- */

static void end_escalating(struct grouper *grouper, struct held *held)
{
    DL_DELETE(grouper->escalating, held);
    grouper->escalating_count--;
}

static void check_escalations(struct grouper *grouper)
{
    struct held *held;
    DL_FOREACH(grouper->escalating, held)
    {
        if (held->checking || held->due_ms > grouper->now_ms)
            continue;
        held->checking = true;
        act(grouper, (struct grouper_action){.kind = GROUPER_CHECK, .id = held->id});
    }
}

static void on_checked(struct grouper *grouper, uint64_t id, int code)
{
    struct held *held;
    HASH_FIND(hh, grouper->held, &id, sizeof id, held);
    if (held == NULL || held->place != PLACE_ESCALATING)
        return;
    held->checking = false;
    if (code == 0) {
        end_escalating(grouper, held);
        release(grouper, held->handle, held->id, GROUPER_WAS_SETTLED);
        forget_held(grouper, held);
    } else if (code == ERR_NOT_FOUND) {
        end_escalating(grouper, held);
        admit(grouper, held);
    } else {
        held->due_ms = grouper->now_ms + GROUPER_RECHECK_MS;
    }
}

/* --- a message --- */

static void add_time(struct strbuf *json, const char *key, int64_t ms)
{
    char when[CLOCK_RFC3339_BYTES];
    strbuf_printf(json, ",\"%s\":\"%s\"", key, clock_format_rfc3339(ms * 1000, when));
}

static void format_message(const struct grouper *grouper, const struct entry *entries, size_t count,
                           struct strbuf *json)
{
    const struct notice *some = entries[0].newest;
    enum notice_severity worst = NOTICE_INFO;
    int64_t first_ms = INT64_MAX, last_ms = INT64_MIN;
    for (size_t i = 0; i < count; i++) {
        worst = entries[i].newest->severity > worst ? entries[i].newest->severity : worst;
        first_ms = entries[i].first_ms < first_ms ? entries[i].first_ms : first_ms;
        last_ms = entries[i].last_ms > last_ms ? entries[i].last_ms : last_ms;
    }
    strbuf_printf(json, "{\"key\":\"%s\",\"sink\":", grouper->sending.key);
    strbuf_add_json(json, grouper->sink);
    strbuf_add(json, ",\"group\":{");
    for (int field = 0, shown = 0; field < NOTICE_FIELDS; field++) {
        if (!(grouper->policy.group_by & (1u << field)))
            continue;
        strbuf_printf(json, "%s\"%s\":", shown++ ? "," : "", notice_field_name((enum notice_field)field));
        strbuf_add_json(json, some->fields[field]);
    }
    strbuf_printf(json, "},\"severity\":\"%s\",\"count\":%zu", notice_severity_name(worst),
                  grouper->sending.id_count);
    add_time(json, "first_raised_at", first_ms);
    add_time(json, "last_raised_at", last_ms);
    strbuf_add(json, ",\"alarms\":[");
    for (size_t i = 0; i < count; i++) {
        strbuf_printf(json, "%s{\"count\":%zu", i ? "," : "", entries[i].count);
        add_time(json, "first_raised_at", entries[i].first_ms);
        add_time(json, "last_raised_at", entries[i].last_ms);
        strbuf_printf(json, ",\"alarm\":%s}", entries[i].newest->json);
    }
    strbuf_add(json, "]}");
}

static struct entry *find_entry(struct entry *entries, size_t count, uint64_t topic)
{
    for (size_t i = 0; i < count; i++)
        if (entries[i].topic == topic)
            return &entries[i];
    return NULL;
}

static void add_to_entry(struct entry *entry, const struct held *held)
{
    int64_t raised_ms = held->notice->raised_ms;
    if (entry->count == 0)
        *entry = (struct entry){held->topic, held->notice, 0, raised_ms, raised_ms};
    entry->count++;
    entry->first_ms = raised_ms < entry->first_ms ? raised_ms : entry->first_ms;
    if (raised_ms >= entry->last_ms) {
        entry->last_ms = raised_ms;
        entry->newest = held->notice;
    }
}

/* Moves what fits from the group into the message. Returns the number of entries. */
static size_t fill_message(struct grouper *grouper, struct group *group, struct entry *entries)
{
    struct sending *sending = &grouper->sending;
    size_t count = 0, bytes = 0;
    struct held *held, *next;
    DL_FOREACH_SAFE(group->members, held, next)
    {
        size_t length = strlen(held->notice->json);
        struct entry *entry =
            grouper->policy.cool_down_ms > 0 ? find_entry(entries, count, held->topic) : NULL;
        if (entry == NULL &&
            (count == grouper->policy.group_max || (count > 0 && bytes + length > GROUPER_MESSAGE_MAX_BYTES)))
            continue;
        if (entry == NULL) {
            entry = &entries[count++];
            bytes += length;
        }
        grouper->counted += entry->count > 0;
        add_to_entry(entry, held);
        DL_DELETE(group->members, held);
        group->count--;
        held->place = PLACE_SENDING;
        DL_APPEND(sending->members, held);
        sending->id_count++;
    }
    return count;
}

static bool note_ids(struct grouper *grouper, const struct entry *entries, size_t count)
{
    struct sending *sending = &grouper->sending;
    sending->ids = malloc(sending->id_count * sizeof *sending->ids);
    sending->topics = malloc(count * sizeof *sending->topics);
    if (sending->ids == NULL || sending->topics == NULL)
        return false;
    size_t i = 0;
    struct held *held;
    DL_FOREACH(sending->members, held)
    {
        sending->ids[i++] = held->id;
    }
    for (i = 0; i < count; i++)
        sending->topics[i] = entries[i].topic;
    sending->topic_count = count;
    uint64_t key =
        hash64(sending->ids, sending->id_count * sizeof *sending->ids) ^ hash64_text(grouper->sink);
    snprintf(sending->key, sizeof sending->key, "%016" PRIx64, key);
    return true;
}

static void ask_to_send(struct grouper *grouper)
{
    struct sending *sending = &grouper->sending;
    sending->waiting = true;
    sending->attempt++;
    act(grouper, (struct grouper_action){.kind = sending->burying ? GROUPER_BURY : GROUPER_SEND,
                                         .message = sending->message,
                                         .key = sending->key,
                                         .attempt = sending->attempt});
}

static void make_message(struct grouper *grouper, struct group *group)
{
    struct entry *entries = calloc(grouper->policy.group_max, sizeof *entries);
    struct strbuf json;
    strbuf_init(&json);
    grouper->sending.active = true;
    grouper->sending.attempt = 0;
    size_t count = entries ? fill_message(grouper, group, entries) : 0;
    if (count == 0 || !note_ids(grouper, entries, count)) {
        grouper->out_of_memory = true;
    } else {
        format_message(grouper, entries, count, &json);
        grouper->sending.message = strbuf_take(&json);
        grouper->out_of_memory |= grouper->sending.message == NULL;
    }
    strbuf_free(&json);
    free(entries);
    if (!grouper->out_of_memory)
        ask_to_send(grouper);
    if (group->members == NULL)
        close_group(grouper, group);
}

/* What was told by another message since it joined the group waits like what comes after it. */
static void move_cool_members(struct grouper *grouper, struct group *group)
{
    struct held *held, *next;
    DL_FOREACH_SAFE(group->members, held, next)
    {
        if (held->forced || !is_cool(grouper, held->topic))
            continue;
        DL_DELETE(group->members, held);
        group->count--;
        put_to_cool(grouper, held);
    }
}

static struct group *first_ready(const struct grouper *grouper)
{
    struct group *group, *next, *first = NULL;
    HASH_ITER(hh, grouper->groups, group, next)
    {
        if (group->ready_ms <= grouper->now_ms && (first == NULL || group->ready_ms < first->ready_ms))
            first = group;
    }
    return first;
}

static void take_ready(struct grouper *grouper)
{
    struct group *group;
    while (!grouper->out_of_memory && !grouper->sending.active && (group = first_ready(grouper)) != NULL) {
        move_cool_members(grouper, group);
        if (group->members)
            make_message(grouper, group);
        else
            close_group(grouper, group);
    }
}

static void clear_sending(struct sending *sending)
{
    free(sending->message);
    free(sending->ids);
    free(sending->topics);
    *sending = (struct sending){0};
}

static void end_message(struct grouper *grouper, enum grouper_why why)
{
    struct sending *sending = &grouper->sending;
    struct held *held, *next;
    for (size_t i = 0; i < sending->id_count; i++)
        remember_told(grouper, sending->ids[i]);
    for (size_t i = 0; i < sending->topic_count && grouper->policy.cool_down_ms > 0; i++)
        cool(grouper, sending->topics[i], grouper->now_ms + grouper->policy.cool_down_ms);
    DL_FOREACH_SAFE(sending->members, held, next)
    {
        DL_DELETE(sending->members, held);
        release(grouper, held->handle, held->id, why);
        forget_held(grouper, held);
    }
    clear_sending(sending);
}

static void put_off(struct grouper *grouper, int64_t retry_after_ms)
{
    struct sending *sending = &grouper->sending;
    int64_t pause_ms = grouper->policy.retry_first_ms;
    for (unsigned i = 1; i < sending->attempt && pause_ms < grouper->policy.retry_most_ms; i++)
        pause_ms *= 2;
    pause_ms = pause_ms < grouper->policy.retry_most_ms ? pause_ms : grouper->policy.retry_most_ms;
    pause_ms = pause_ms / 2 + (int64_t)(next_random(grouper) % (uint64_t)(pause_ms / 2 + 1));
    if (retry_after_ms > GROUPER_RETRY_AFTER_MAX_MS)
        retry_after_ms = GROUPER_RETRY_AFTER_MAX_MS;
    sending->retry_ms = grouper->now_ms + (retry_after_ms > pause_ms ? retry_after_ms : pause_ms);
    sending->waiting = false;
}

static void on_outcome(struct grouper *grouper, const struct grouper_event *event)
{
    struct sending *sending = &grouper->sending;
    if (!sending->active || !sending->waiting)
        return;
    switch (event->kind) {
    case GROUPER_ACCEPTED:
        end_message(grouper, GROUPER_WAS_TOLD);
        break;
    case GROUPER_BURIED:
        end_message(grouper, GROUPER_WAS_BURIED);
        break;
    case GROUPER_REFUSED:
        sending->burying = true;
        sending->attempt = 0;
        ask_to_send(grouper);
        break;
    default:
        put_off(grouper, event->retry_after_ms);
    }
}

/* --- events --- */

static bool is_under_way(const struct grouper *grouper, uint64_t id)
{
    for (size_t i = 0; i < grouper->sending.id_count; i++)
        if (grouper->sending.ids[i] == id)
            return true;
    return false;
}

static void place_alarm(struct grouper *grouper, struct held *held, int64_t after_ms)
{
    if (is_under_way(grouper, held->id)) { /* only after a restart: it was not held */
        held->place = PLACE_SENDING;
        DL_APPEND(grouper->sending.members, held);
    } else if (after_ms > 0) {
        held->place = PLACE_ESCALATING;
        held->due_ms = held->notice->raised_ms + after_ms;
        DL_APPEND(grouper->escalating, held);
        grouper->escalating_count++;
    } else {
        admit(grouper, held);
    }
}

static void on_alarm(struct grouper *grouper, const struct grouper_event *event)
{
    struct notice *notice = event->notice;
    struct held *held;
    HASH_FIND(hh, grouper->held, &notice->id, sizeof notice->id, held);
    if (held || was_told(grouper, notice->id)) {
        if (held == NULL || held->handle != event->handle)
            release(grouper, event->handle, notice->id, GROUPER_WAS_REPEATED);
        free(notice);
        return;
    }
    held = calloc(1, sizeof *held);
    if (held == NULL) {
        free(notice);
        grouper->out_of_memory = true;
        return;
    }
    held->id = notice->id;
    held->handle = event->handle;
    held->topic = notice_topic(notice);
    held->notice = notice;
    HASH_ADD(hh, grouper->held, id, sizeof held->id, held);
    place_alarm(grouper, held, event->after_ms);
}

static struct topic *most_cooling(const struct grouper *grouper)
{
    struct topic *topic, *next, *most = NULL;
    HASH_ITER(hh, grouper->topics, topic, next)
    {
        if (topic->cooling && (most == NULL || topic->cooling_count > most->cooling_count))
            most = topic;
    }
    return most;
}

/* Nothing more can be taken in, and the sink waits: something is told before its time rather than stand
 * still. */
static void relieve(struct grouper *grouper)
{
    if (HASH_COUNT(grouper->held) < grouper->policy.held_max || grouper->sending.active ||
        first_ready(grouper))
        return;
    struct group *group, *next;
    HASH_ITER(hh, grouper->groups, group, next)
    {
        group->ready_ms = grouper->now_ms;
    }
    if (grouper->groups)
        return;
    struct topic *topic = most_cooling(grouper);
    if (topic) {
        grouper->early += topic->cooling_count;
        end_cooling(grouper, topic, true);
    } else if (grouper->escalating && grouper->escalating->due_ms > grouper->now_ms) {
        grouper->early++;
        grouper->escalating->due_ms = grouper->now_ms;
    }
}

int grouper_step(struct grouper *grouper, int64_t now_ms, const struct grouper_event *event,
                 struct grouper_actions *actions, struct error *err)
{
    grouper->now_ms = now_ms > grouper->now_ms ? now_ms : grouper->now_ms;
    grouper->actions = actions;
    if (grouper->out_of_memory) {
        if (event->kind == GROUPER_ALARM)
            free(event->notice);
        return error_set(err, ERR_NO_MEMORY, "no memory to hold alarms for %s", grouper->sink);
    }
    if (event->kind == GROUPER_ALARM)
        on_alarm(grouper, event);
    else if (event->kind == GROUPER_CHECKED)
        on_checked(grouper, event->id, event->code);
    else if (event->kind == GROUPER_CONFIRMED)
        confirm(grouper, event->id);
    else if (event->kind != GROUPER_TICK)
        on_outcome(grouper, event);
    end_coolings(grouper);
    relieve(grouper);
    check_escalations(grouper);
    struct sending *sending = &grouper->sending;
    if (sending->active && !sending->waiting && sending->retry_ms <= grouper->now_ms)
        ask_to_send(grouper);
    take_ready(grouper);
    return grouper->out_of_memory
               ? error_set(err, ERR_NO_MEMORY, "no memory to hold alarms for %s", grouper->sink)
               : 0;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t grouper_next_ms(const struct grouper *grouper)
{
    const struct sending *sending = &grouper->sending;
    int64_t next_ms = INT64_MAX;
    struct held *held;
    DL_FOREACH(grouper->escalating, held)
    {
        if (!held->checking)
            next_ms = earlier(next_ms, held->due_ms);
    }
    for (const struct topic *topic = grouper->cooling_count ? grouper->topics : NULL; topic;
         topic = topic->hh.next)
        if (topic->cooling)
            next_ms = earlier(next_ms, topic->until_ms);
    for (const struct group *group = sending->active ? NULL : grouper->groups; group; group = group->hh.next)
        next_ms = earlier(next_ms, group->ready_ms);
    if (sending->active && !sending->waiting)
        next_ms = earlier(next_ms, sending->retry_ms);
    return next_ms;
}

size_t grouper_room(const struct grouper *grouper)
{
    size_t held = HASH_COUNT(grouper->held);
    return held < grouper->policy.held_max ? grouper->policy.held_max - held : 0;
}

void grouper_read_status(const struct grouper *grouper, struct grouper_status *status)
{
    *status = (struct grouper_status){.held = HASH_COUNT(grouper->held),
                                      .cooling = grouper->cooling_count,
                                      .escalating = grouper->escalating_count,
                                      .groups = HASH_COUNT(grouper->groups),
                                      .topics = HASH_COUNT(grouper->topics),
                                      .sending = grouper->sending.active,
                                      .attempt = grouper->sending.attempt,
                                      .counted = grouper->counted,
                                      .early = grouper->early};
}

/* --- state that lasts --- */

static void save_numbers(struct strbuf *json, const char *key, const uint64_t *numbers, size_t count)
{
    strbuf_printf(json, ",\"%s\":[", key);
    for (size_t i = 0; i < count; i++)
        strbuf_printf(json, "%s\"%" PRIx64 "\"", i ? "," : "", numbers[i]);
    strbuf_add_char(json, ']');
}

/* Those that may be delivered once more. */
static void save_told(const struct grouper *grouper, struct strbuf *json)
{
    size_t unconfirmed = 0, shown = 0;
    for (const struct told *told = grouper->told; told; told = told->hh.next)
        unconfirmed += !told->confirmed;
    size_t skip = unconfirmed > GROUPER_SAVED_TOLD_MAX ? unconfirmed - GROUPER_SAVED_TOLD_MAX : 0;
    for (const struct told *told = grouper->told; told; told = told->hh.next)
        if (!told->confirmed && skip > 0)
            skip--;
        else if (!told->confirmed)
            strbuf_printf(json, "%s\"%" PRIx64 "\"", shown++ ? "," : "", told->id);
}

void grouper_save(const struct grouper *grouper, struct strbuf *json)
{
    const struct sending *sending = &grouper->sending;
    strbuf_add(json, "{\"format\":1,\"told\":[");
    save_told(grouper, json);
    strbuf_add_char(json, ']');
    if (sending->active) {
        strbuf_printf(json, ",\"key\":\"%s\",\"bury\":%s,\"message\":", sending->key,
                      sending->burying ? "true" : "false");
        strbuf_add_json(json, sending->message);
        save_numbers(json, "ids", sending->ids, sending->id_count);
        save_numbers(json, "topics", sending->topics, sending->topic_count);
    }
    strbuf_add(json, ",\"cool\":{");
    size_t count = 0;
    for (const struct topic *topic = grouper->topics; topic; topic = topic->hh.next)
        if (topic->until_ms > grouper->now_ms && count < GROUPER_SAVED_TOPICS_MAX)
            strbuf_printf(json, "%s\"%" PRIx64 "\":%" PRId64, count++ ? "," : "", topic->key,
                          topic->until_ms);
    strbuf_add(json, "}}");
}

static bool read_numbers(const json_t *list, uint64_t **numbers, size_t *count)
{
    *numbers = malloc((json_array_size(list) + 1) * sizeof **numbers);
    *count = 0;
    size_t i;
    json_t *item;
    if (*numbers == NULL)
        return false;
    json_array_foreach(list, i, item)
    {
        const char *text = json_string_value(item);
        (*numbers)[(*count)++] = text ? strtoull(text, NULL, 16) : 0;
    }
    return true;
}

static void restore_message(struct grouper *grouper, const json_t *state)
{
    struct sending *sending = &grouper->sending;
    const char *key = json_string_value(json_object_get(state, "key"));
    const char *message = json_string_value(json_object_get(state, "message"));
    if (key == NULL || message == NULL)
        return;
    snprintf(sending->key, sizeof sending->key, "%s", key);
    sending->message = strdup(message);
    grouper->out_of_memory |= !read_numbers(json_object_get(state, "ids"), &sending->ids, &sending->id_count);
    grouper->out_of_memory |=
        !read_numbers(json_object_get(state, "topics"), &sending->topics, &sending->topic_count);
    grouper->out_of_memory |= sending->message == NULL;
    sending->burying = json_is_true(json_object_get(state, "bury"));
    sending->active = true; /* and due: retry_ms is 0 */
}

int grouper_restore(struct grouper *grouper, const char *json, size_t length, struct error *err)
{
    assert(grouper->held == NULL && !grouper->sending.active);
    json_error_t parse;
    json_t *state = json_loadb(json, length, 0, &parse);
    if (!json_is_object(state) || json_integer_value(json_object_get(state, "format")) != 1) {
        json_decref(state);
        return error_set(err, ERR_CORRUPT, "the saved state of sink %s cannot be read", grouper->sink);
    }
    uint64_t *told = NULL;
    size_t told_count = 0;
    grouper->out_of_memory |= !read_numbers(json_object_get(state, "told"), &told, &told_count);
    for (size_t i = 0; i < told_count; i++)
        remember_told(grouper, told[i]);
    free(told);
    const char *key;
    json_t *until;
    json_object_foreach(json_object_get(state, "cool"), key, until)
    {
        cool(grouper, strtoull(key, NULL, 16), json_integer_value(until));
    }
    restore_message(grouper, state);
    json_decref(state);
    return grouper->out_of_memory ? error_set(err, ERR_NO_MEMORY, "no memory for sink %s", grouper->sink) : 0;
}

int grouper_create(const struct grouper_policy *policy, struct grouper **out, struct error *err)
{
    assert(policy->group_max > 0 && policy->held_max > 0 && policy->retry_first_ms > 0);
    struct grouper *grouper = calloc(1, sizeof *grouper);
    if (grouper == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for sink %s", policy->sink);
    grouper->policy = *policy;
    snprintf(grouper->sink, sizeof grouper->sink, "%s", policy->sink);
    grouper->policy.sink = grouper->sink;
    grouper->random = policy->seed ? policy->seed : 1;
    *out = grouper;
    return 0;
}

void grouper_destroy(struct grouper *grouper)
{
    struct held *held, *next_held;
    struct told *told, *next_told;
    struct topic *topic, *next_topic;
    struct group *group, *next_group;
    HASH_ITER(hh, grouper->held, held, next_held)
    {
        forget_held(grouper, held);
    }
    HASH_ITER(hh, grouper->told, told, next_told)
    {
        HASH_DEL(grouper->told, told);
        free(told);
    }
    HASH_ITER(hh, grouper->topics, topic, next_topic)
    {
        HASH_DEL(grouper->topics, topic);
        free(topic);
    }
    HASH_ITER(hh, grouper->groups, group, next_group)
    {
        close_group(grouper, group);
    }
    clear_sending(&grouper->sending);
    free(grouper);
}
