#include "web/board_struct.h"

#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct board *board_new(const char *version, const char *cell, const char *store_kind, struct events *events)
{
    struct board *board = calloc(1, sizeof *board);
    if (board == NULL)
        return NULL;
    board->ring = calloc(BOARD_ALARMS_MAX, sizeof *board->ring);
    if (board->ring == NULL) {
        free(board);
        return NULL;
    }
    pthread_mutex_init(&board->lock, NULL);
    board->events = events;
    board->waiting = -1;
    snprintf(board->version, sizeof board->version, "%s", version);
    snprintf(board->cell, sizeof board->cell, "%s", cell);
    snprintf(board->store_kind, sizeof board->store_kind, "%s", store_kind);
    return board;
}

static void member_free(struct board *board, struct board_member *member)
{
    HASH_DEL(board->members, member);
    json_decref(member->status);
    free(member);
}

void board_free(struct board *board)
{
    struct board_member *member, *next;
    HASH_ITER(hh, board->members, member, next)
    {
        member_free(board, member);
    }
    board_alarms_free(board);
    board_chambers_free(board);
    json_decref(board->map);
    pthread_mutex_destroy(&board->lock);
    free(board);
}

const char *board_text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

enum severity board_severity_of(const char *name)
{
    for (int severity = SEVERITY_INFO; severity <= SEVERITY_CRITICAL; severity++)
        if (strcmp(name, severity_name((enum severity)severity)) == 0)
            return (enum severity)severity;
    return SEVERITY_NONE;
}

void board_on_nats(struct board *board, bool connected, int64_t now_us)
{
    pthread_mutex_lock(&board->lock);
    board->connected = connected;
    board->connected_us = now_us;
    pthread_mutex_unlock(&board->lock);
}

/* --- members --- */

static void tell_member(struct board *board, const struct board_member *member)
{
    struct strbuf text;
    strbuf_init(&text);
    strbuf_add(&text, "{\"id\":");
    strbuf_add_json(&text, member->heartbeat.id);
    strbuf_printf(&text, ",\"state\":\"%s\",\"alive\":%s}", cluster_state_name(member->heartbeat.state),
                  member->alive ? "true" : "false");
    events_tell(board->events, "member", text.text);
    strbuf_free(&text);
}

static struct board_member *member_get(struct board *board, const char *id)
{
    struct board_member *member;
    HASH_FIND_STR(board->members, id, member);
    if (member || HASH_COUNT(board->members) >= CLUSTER_MEMBERS_MAX)
        return member;
    member = calloc(1, sizeof *member);
    if (member == NULL)
        return NULL;
    snprintf(member->heartbeat.id, sizeof member->heartbeat.id, "%s", id);
    HASH_ADD(hh, board->members, heartbeat.id, strlen(member->heartbeat.id), member);
    return member;
}

void board_on_heartbeat(struct board *board, const struct cluster_heartbeat *heartbeat, int64_t now_us)
{
    pthread_mutex_lock(&board->lock);
    struct board_member *member = member_get(board, heartbeat->id);
    if (member) {
        bool news = !member->alive || member->heartbeat.state != heartbeat->state;
        member->heartbeat = *heartbeat;
        member->heard_us = now_us;
        member->alive = true;
        if (news)
            tell_member(board, member);
    }
    pthread_mutex_unlock(&board->lock);
}

void board_on_status(struct board *board, const char *json, size_t length, int64_t now_us)
{
    json_t *status = json_loadb(json, length, 0, NULL);
    const char *id = board_text_of(status, "id");
    pthread_mutex_lock(&board->lock);
    struct board_member *member = NULL;
    HASH_FIND_STR(board->members, id, member);
    if (member) {
        json_decref(member->status);
        member->status = json_incref(status);
        member->heard_us = now_us;
    }
    pthread_mutex_unlock(&board->lock);
    json_decref(status);
}

size_t board_list_alive(struct board *board, char (*ids)[CLUSTER_NAME_BYTES], size_t most)
{
    size_t count = 0;
    pthread_mutex_lock(&board->lock);
    for (struct board_member *member = board->members; member && count < most; member = member->hh.next)
        if (member->alive)
            memcpy(ids[count++], member->heartbeat.id, CLUSTER_NAME_BYTES);
    pthread_mutex_unlock(&board->lock);
    return count;
}

void board_on_second(struct board *board, int64_t now_us)
{
    struct board_member *member, *next;
    pthread_mutex_lock(&board->lock);
    HASH_ITER(hh, board->members, member, next)
    {
        /* Without NATS nobody can be heard: silence means nothing then. */
        int64_t silent_ms = board->connected ? (now_us - member->heard_us) / 1000 : 0;
        if (member->alive && silent_ms > BOARD_MEMBER_ALIVE_MS) {
            member->alive = false;
            tell_member(board, member);
        }
        if (silent_ms > BOARD_MEMBER_FORGET_MS)
            member_free(board, member);
    }
    pthread_mutex_unlock(&board->lock);
}

static int member_order(const void *a, const void *b)
{
    const struct board_member *const *x = a, *const *y = b;
    return strverscmp((*x)->heartbeat.id, (*y)->heartbeat.id);
}

/* A malloc'ed array of the members by ID, `*count` of them. NULL: no memory, or none. */
static struct board_member **sorted_members(struct board *board, size_t *count)
{
    struct board_member **items = calloc(HASH_COUNT(board->members) + 1, sizeof *items);
    *count = 0;
    for (struct board_member *member = board->members; items && member; member = member->hh.next)
        items[(*count)++] = member;
    if (items)
        qsort(items, *count, sizeof *items, member_order);
    return items;
}

static void add_number(struct json_writer *json, const char *key, const json_t *object)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_integer(value))
        json_add_integer(json, key, json_integer_value(value));
}

static void add_document(struct json_writer *json, const char *key, const json_t *document)
{
    char *text = json_dumps(document, JSON_COMPACT);
    if (text)
        json_add_raw(json, key, text);
    free(text);
}

static void add_cache_members(struct json_writer *json, int64_t hits, int64_t misses, int64_t evictions,
                              int64_t rows, int64_t bytes)
{
    json_add_integer(json, "hits", hits);
    json_add_integer(json, "misses", misses);
    json_add_integer(json, "evictions", evictions);
    json_add_integer(json, "rows", rows);
    json_add_integer(json, "bytes", bytes);
    json_add_double(json, "hit_rate", hits + misses > 0 ? (double)hits / (double)(hits + misses) : NAN);
}

static int64_t integer_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void add_cache(struct json_writer *json, const json_t *cache)
{
    add_cache_members(json, integer_of(cache, "hits"), integer_of(cache, "misses"),
                      integer_of(cache, "evictions"), integer_of(cache, "rows"), integer_of(cache, "bytes"));
}

static void add_member(struct json_writer *json, const struct board_member *member)
{
    const struct cluster_heartbeat *heartbeat = &member->heartbeat;
    json_begin_object(json, NULL);
    json_add_text(json, "id", heartbeat->id);
    json_add_bool(json, "alive", member->alive);
    json_add_time(json, "heard_at", member->heard_us);
    json_add_text(json, "state", cluster_state_name(heartbeat->state));
    json_add_text(json, "version", heartbeat->version);
    json_add_text(json, "group", heartbeat->group);
    json_add_integer(json, "assignment", (int64_t)heartbeat->assignment);
    json_add_integer(json, "chambers", heartbeat->chambers);
    json_add_bool(json, "leads", heartbeat->state == CLUSTER_LEADER);
    const json_t *status = member->status;
    if (status) {
        add_number(json, "pid", status);
        if (*board_text_of(status, "started_at"))
            json_add_text(json, "started_at", board_text_of(status, "started_at"));
        add_number(json, "in_flight", status);
        add_number(json, "held", status);
        add_document(json, "counts", json_object_get(status, "counts"));
        add_document(json, "steps", json_object_get(status, "steps"));
        json_begin_object(json, "cache");
        add_cache(json, json_object_get(status, "cache"));
        json_end_object(json);
    }
    json_end_object(json);
}

void board_write_members(struct board *board, int64_t now_us, struct strbuf *out)
{
    (void)now_us;
    struct json_writer json = {.out = out};
    size_t count;
    json_begin_object(&json, NULL);
    json_begin_array(&json, "members");
    pthread_mutex_lock(&board->lock);
    struct board_member **members = sorted_members(board, &count);
    for (size_t i = 0; i < count; i++)
        add_member(&json, members[i]);
    pthread_mutex_unlock(&board->lock);
    free(members);
    json_end_array(&json);
    json_end_object(&json);
}

void board_write_cache(struct board *board, int64_t now_us, struct strbuf *out)
{
    (void)now_us;
    struct json_writer json = {.out = out};
    int64_t hits = 0, misses = 0, evictions = 0, rows = 0, bytes = 0;
    size_t count;
    json_begin_object(&json, NULL);
    json_begin_array(&json, "members");
    pthread_mutex_lock(&board->lock);
    struct board_member **members = sorted_members(board, &count);
    for (size_t i = 0; i < count; i++) {
        const json_t *cache = json_object_get(members[i]->status, "cache");
        if (cache == NULL)
            continue;
        json_begin_object(&json, NULL);
        json_add_text(&json, "id", members[i]->heartbeat.id);
        add_cache(&json, cache);
        json_end_object(&json);
        hits += integer_of(cache, "hits");
        misses += integer_of(cache, "misses");
        evictions += integer_of(cache, "evictions");
        rows += integer_of(cache, "rows");
        bytes += integer_of(cache, "bytes");
    }
    pthread_mutex_unlock(&board->lock);
    free(members);
    json_end_array(&json);
    json_begin_object(&json, "total");
    add_cache_members(&json, hits, misses, evictions, rows, bytes);
    json_end_object(&json);
    json_end_object(&json);
}

/* --- the assignment --- */

static void add_assigned(struct json_writer *json, struct board *board, const json_t *assigned, bool chambers)
{
    const char *id = board_text_of(assigned, "id");
    struct board_member *member;
    HASH_FIND_STR(board->members, id, member);
    json_begin_object(json, NULL);
    json_add_text(json, "id", id);
    json_add_integer(json, "assigned", integer_of(assigned, "assigned"));
    if (member && member->alive)
        json_add_integer(json, "in_force", (int64_t)member->heartbeat.assignment);
    else
        json_add_raw(json, "in_force", "null");
    json_add_integer(json, "count", integer_of(assigned, "count"));
    json_add_integer(json, "weight", integer_of(assigned, "weight"));
    if (chambers) {
        json_begin_array(json, "chambers");
        for (struct board_chamber *chamber = board->chambers; chamber; chamber = chamber->hh.next) {
            if (strcmp(chamber->owner, id) != 0)
                continue;
            json_begin_object(json, NULL);
            json_add_text(json, "tool_id", chamber->tool);
            json_add_text(json, "chamber_id", chamber->chamber);
            json_end_object(json);
        }
        json_end_array(json);
    }
    json_end_object(json);
}

/* Under the lock. */
static void write_assignments(struct board *board, bool chambers, struct strbuf *out)
{
    static const char *const numbers[] = {"moved", "least", "placed", "rebalances", "emergencies"};
    struct json_writer json = {.out = out};
    const json_t *members = json_object_get(board->map, "members"), *member;
    size_t i;
    json_begin_object(&json, NULL);
    json_add_integer(&json, "version", integer_of(board->map, "version"));
    json_add_text(&json, "lifecycle", board->map ? board_text_of(board->map, "lifecycle") : "UNKNOWN");
    json_add_text(&json, "leader", board_text_of(board->map, "leader"));
    for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
        json_add_integer(&json, numbers[k], integer_of(board->map, numbers[k]));
    json_add_double(&json, "heaviest", json_number_value(json_object_get(board->map, "heaviest")));
    json_begin_array(&json, "members");
    json_array_foreach(members, i, member) add_assigned(&json, board, member, chambers);
    json_end_array(&json);
    json_end_object(&json);
}

void board_write_assignments(struct board *board, bool chambers, struct strbuf *out)
{
    pthread_mutex_lock(&board->lock);
    write_assignments(board, chambers, out);
    pthread_mutex_unlock(&board->lock);
}

void board_on_map(struct board *board, const char *text, size_t length)
{
    json_t *map = text ? json_loadb(text, length, 0, NULL) : NULL;
    struct strbuf out;
    strbuf_init(&out);
    pthread_mutex_lock(&board->lock);
    json_decref(board->map);
    board->map = map;
    write_assignments(board, false, &out);
    pthread_mutex_unlock(&board->lock);
    events_tell(board->events, "assignment", out.text);
    strbuf_free(&out);
}

void board_on_cluster_event(struct board *board, const char *text, size_t length)
{
    json_t *event = json_loadb(text, length, 0, NULL);
    struct strbuf out;
    struct json_writer json = {.out = &out};
    if (event == NULL)
        return;
    strbuf_init(&out);
    json_begin_object(&json, NULL);
    json_add_text(&json, "at", board_text_of(event, "at"));
    json_add_text(&json, "id", board_text_of(event, "id"));
    json_add_text(&json, "what", board_text_of(event, "what"));
    json_end_object(&json);
    events_tell(board->events, "cluster", out.text);
    strbuf_free(&out);
    json_decref(event);
}

/* --- status --- */

void board_on_counts(struct board *board, const struct store_reply *reply)
{
    pthread_mutex_lock(&board->lock);
    board->store_available = reply->code == 0;
    board->store_error = reply->error;
    board->counted = reply->code == 0;
    board->counts = reply->counts;
    pthread_mutex_unlock(&board->lock);
}

void board_on_waiting(struct board *board, int64_t messages)
{
    pthread_mutex_lock(&board->lock);
    board->waiting = messages;
    pthread_mutex_unlock(&board->lock);
}

static void add_maybe(struct json_writer *json, const char *key, bool known, int64_t value)
{
    if (known)
        json_add_integer(json, key, value);
    else
        json_add_raw(json, key, "null");
}

static size_t count_alive(const struct board *board)
{
    size_t alive = 0;
    for (const struct board_member *member = board->members; member; member = member->hh.next)
        alive += member->alive;
    return alive;
}

static size_t count_owned(const struct board *board)
{
    size_t owned = 0;
    for (const struct board_chamber *chamber = board->chambers; chamber; chamber = chamber->hh.next)
        owned += chamber->owner[0] != '\0';
    return owned;
}

/* What the leader says that it does now; the map's word is of the last commit. */
static const char *lifecycle_now(const struct board *board, const char **leader)
{
    for (const struct board_member *member = board->members; member; member = member->hh.next) {
        if (!member->alive || member->heartbeat.state != CLUSTER_LEADER)
            continue;
        *leader = member->heartbeat.id;
        const char *lifecycle = board_text_of(member->status, "lifecycle");
        return *lifecycle ? lifecycle : "UNKNOWN";
    }
    *leader = NULL;
    return "UNKNOWN";
}

static void add_nats_and_store(struct json_writer *json, const struct board *board)
{
    json_begin_object(json, "nats");
    json_add_bool(json, "connected", board->connected);
    if (board->connected_us)
        json_add_time(json, "since", board->connected_us);
    else
        json_add_raw(json, "since", "null");
    json_end_object(json);
    json_begin_object(json, "store");
    json_add_text(json, "kind", board->store_kind);
    json_add_bool(json, "available", board->store_available);
    json_add_text(json, "error",
                  board->store_available || board->store_error.code == 0 ? NULL : board->store_error.text);
    json_end_object(json);
}

/* Under the lock. */
static void write_status(struct board *board, int64_t now_us, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    const char *leader, *lifecycle = lifecycle_now(board, &leader);
    json_begin_object(&json, NULL);
    json_add_time(&json, "at", now_us);
    json_add_text(&json, "version", board->version);
    json_add_text(&json, "cell", board->cell);
    add_nats_and_store(&json, board);
    json_add_text(&json, "leader", leader);
    json_add_text(&json, "lifecycle", lifecycle);
    json_add_integer(&json, "map_version", integer_of(board->map, "version"));
    json_begin_object(&json, "members");
    json_add_size(&json, "alive", count_alive(board));
    json_add_size(&json, "known", HASH_COUNT(board->members));
    json_end_object(&json);
    json_begin_object(&json, "chambers");
    json_add_size(&json, "known", HASH_COUNT(board->chambers));
    json_add_size(&json, "owned", count_owned(board));
    json_end_object(&json);
    json_begin_object(&json, "contexts");
    add_maybe(&json, "announced", board->counted, board->counts.completed);
    add_maybe(&json, "judged", board->counted, board->counts.judged);
    add_maybe(&json, "dead", board->counted, board->counts.dead);
    json_end_object(&json);
    add_maybe(&json, "messages_waiting", board->waiting >= 0, board->waiting);
    json_begin_object(&json, "open_alarms");
    for (int severity = SEVERITY_INFO; severity <= SEVERITY_CRITICAL; severity++)
        json_add_integer(&json, severity_name((enum severity)severity), board->open_alarms[severity]);
    json_end_object(&json);
    json_end_object(&json);
}

void board_write_status(struct board *board, int64_t now_us, struct strbuf *out)
{
    pthread_mutex_lock(&board->lock);
    write_status(board, now_us, out);
    pthread_mutex_unlock(&board->lock);
}

void board_tell_status(struct board *board, int64_t now_us)
{
    struct strbuf out;
    strbuf_init(&out);
    board_write_status(board, now_us, &out);
    events_tell(board->events, "status", out.text);
    strbuf_free(&out);
}
