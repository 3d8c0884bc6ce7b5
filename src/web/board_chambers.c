/* The chambers on the board: who owns them, what was judged there last, and how fast all of it goes. */
#include "web/board_struct.h"

#include "base/clock.h"
#include "base/prometheus.h"
#include "bus/names.h"
#include "chart/context.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX_BYTES = 2 * (NAMES_BYTES + 1) };

static size_t make_key(const char *tool, const char *chamber, char key[static KEY_MAX_BYTES])
{
    size_t tool_bytes = strlen(tool) + 1, chamber_bytes = strlen(chamber) + 1;
    if (tool_bytes + chamber_bytes > KEY_MAX_BYTES)
        return 0;
    memcpy(key, tool, tool_bytes);
    memcpy(key + tool_bytes, chamber, chamber_bytes);
    return tool_bytes + chamber_bytes;
}

static struct board_chamber *chamber_new(const char *key, size_t key_length)
{
    struct board_chamber *chamber = calloc(1, sizeof *chamber);
    if (chamber == NULL)
        return NULL;
    chamber->key = malloc(key_length);
    if (chamber->key == NULL) {
        free(chamber);
        return NULL;
    }
    memcpy(chamber->key, key, key_length);
    chamber->key_length = key_length;
    chamber->tool = chamber->key;
    chamber->chamber = chamber->key + strlen(chamber->key) + 1;
    chamber->weight = -1;
    return chamber;
}

struct board_chamber *board_chamber_get(struct board *board, const char *tool, const char *chamber_name,
                                        bool create)
{
    char key[KEY_MAX_BYTES];
    size_t length = make_key(tool, chamber_name, key);
    struct board_chamber *chamber = NULL;
    if (length == 0 || *tool == '\0' || *chamber_name == '\0')
        return NULL;
    HASH_FIND(hh, board->chambers, key, length, chamber);
    if (chamber || !create || HASH_COUNT(board->chambers) >= BOARD_CHAMBERS_MAX)
        return chamber;
    chamber = chamber_new(key, length);
    if (chamber == NULL)
        return NULL;
    HASH_ADD_KEYPTR(hh, board->chambers, chamber->key, chamber->key_length, chamber);
    board->sorted_stale = true;
    board_chamber_touch(board, chamber);
    return chamber;
}

void board_chamber_touch(struct board *board, struct board_chamber *chamber)
{
    if (chamber->changed)
        return;
    if (board->changed_count == board->changed_capacity) {
        size_t capacity = board->changed_capacity ? 2 * board->changed_capacity : 256;
        struct board_chamber **grown = realloc(board->changed, capacity * sizeof *grown);
        if (grown == NULL)
            return; /* readers see it when they fetch all */
        board->changed = grown;
        board->changed_capacity = capacity;
    }
    chamber->changed = true;
    board->changed[board->changed_count++] = chamber;
}

void board_chambers_free(struct board *board)
{
    struct board_chamber *chamber, *next;
    HASH_ITER(hh, board->chambers, chamber, next)
    {
        HASH_DEL(board->chambers, chamber);
        free(chamber->key);
        free(chamber->last_context);
        free(chamber);
    }
    free(board->sorted);
    free(board->changed);
}

/* --- filling --- */

void board_on_chamber(struct board *board, const char *tool_token, const char *chamber_token,
                      size_t tool_length, int64_t weight)
{
    char tool[NAMES_BYTES], name[NAMES_BYTES];
    if (names_unescape(tool_token, tool_length, tool, NULL) ||
        names_unescape(chamber_token, strlen(chamber_token), name, NULL))
        return;
    pthread_mutex_lock(&board->lock);
    struct board_chamber *chamber = board_chamber_get(board, tool, name, true);
    if (chamber && weight >= 0 && chamber->weight != weight) {
        chamber->weight = weight;
        board_chamber_touch(board, chamber);
    }
    pthread_mutex_unlock(&board->lock);
}

/* Under the lock. */
static void own(struct board *board, const char *id, const char *token)
{
    char tool[NAMES_BYTES], name[NAMES_BYTES];
    const char *dot = strchr(token, '.');
    if (dot == NULL || names_unescape(token, (size_t)(dot - token), tool, NULL) ||
        names_unescape(dot + 1, strlen(dot + 1), name, NULL))
        return;
    struct board_chamber *chamber = board_chamber_get(board, tool, name, true);
    if (chamber == NULL || strcmp(chamber->owner, id) == 0)
        return;
    snprintf(chamber->owner, sizeof chamber->owner, "%s", id);
    board_chamber_touch(board, chamber);
}

/* Under the lock. Those that `id` had and that are not in the list: `kept` of them stay. */
static void disown(struct board *board, const char *id)
{
    for (struct board_chamber *chamber = board->chambers; chamber; chamber = chamber->hh.next) {
        if (strcmp(chamber->owner, id) != 0)
            continue;
        chamber->owner[0] = '\0';
        board_chamber_touch(board, chamber);
    }
}

void board_on_assigned(struct board *board, const char *id, const char *text, size_t length)
{
    json_t *document = text ? json_loadb(text, length, 0, NULL) : NULL, *token;
    size_t i;
    pthread_mutex_lock(&board->lock);
    disown(board, id);
    json_array_foreach(json_object_get(document, "chambers"), i, token)
    {
        if (json_is_string(token))
            own(board, id, json_string_value(token));
    }
    pthread_mutex_unlock(&board->lock);
    json_decref(document);
}

/* Under the lock. Takes a verdict if it is of a newer run than what is known (or of the same, judged again).
 */
static bool take_verdict(struct board_chamber *chamber, const char *context, int64_t end_us,
                         int64_t judged_us, enum severity severity, int32_t alarms)
{
    if (chamber->last_context &&
        context_compare_event(end_us, context, chamber->last_end_us, chamber->last_context) < 0)
        return false;
    char *copy = strdup(context);
    if (copy == NULL)
        return false;
    free(chamber->last_context);
    chamber->last_context = copy;
    chamber->last_end_us = end_us;
    chamber->last_judged_us = judged_us;
    chamber->last_severity = severity;
    chamber->last_alarms = alarms;
    return true;
}

void board_on_heads(struct board *board, const struct store_uchart *heads, size_t count)
{
    pthread_mutex_lock(&board->lock);
    for (size_t i = 0; i < count; i++) {
        const struct store_uchart *head = &heads[i];
        struct board_chamber *chamber = board_chamber_get(board, head->key.tool, head->key.chamber, true);
        if (chamber && take_verdict(chamber, head->key.context_id, head->end_us, head->judged_us,
                                    (enum severity)head->severity, head->alarm_count))
            board_chamber_touch(board, chamber);
    }
    pthread_mutex_unlock(&board->lock);
}

/* Under the lock. The minute's place in the ring, emptied when it held an earlier one. */
static struct board_minute *minute_at(struct board *board, int64_t now_us)
{
    int64_t minute = now_us / (60 * CLOCK_US_PER_SECOND);
    struct board_minute *place = &board->minutes[minute % BOARD_MINUTES];
    if (place->minute != minute)
        *place = (struct board_minute){.minute = minute};
    return place;
}

/* Under the lock. */
static void count_judged(struct board *board, const json_t *event, int64_t now_us)
{
    struct board_minute *minute = minute_at(board, now_us);
    if (json_is_true(json_object_get(event, "again")))
        return;
    board->judged++;
    minute->judged++;
    minute->alarmed += json_integer_value(json_object_get(event, "alarms")) > 0;
    double process_ms = json_number_value(json_object_get(event, "process_ms"));
    if (process_ms >= 0 && process_ms < 1e12)
        histogram_record(&minute->process, (int64_t)(process_ms * 1e6));
}

void board_on_judged(struct board *board, const char *text, size_t length, int64_t now_us)
{
    json_t *event = json_loadb(text, length, 0, NULL);
    int64_t end_us, judged_us;
    if (event && clock_parse_rfc3339(board_text_of(event, "ended_at"), &end_us, NULL) == 0 &&
        clock_parse_rfc3339(board_text_of(event, "judged_at"), &judged_us, NULL) == 0) {
        pthread_mutex_lock(&board->lock);
        count_judged(board, event, now_us);
        struct board_chamber *chamber = board_chamber_get(board, board_text_of(event, "tool_id"),
                                                          board_text_of(event, "chamber_id"), true);
        if (chamber && take_verdict(chamber, board_text_of(event, "context_id"), end_us, judged_us,
                                    board_severity_of(board_text_of(event, "severity")),
                                    (int32_t)json_integer_value(json_object_get(event, "alarms"))))
            board_chamber_touch(board, chamber);
        pthread_mutex_unlock(&board->lock);
    }
    json_decref(event);
}

size_t board_take_unknown(struct board *board, struct arena *arena, struct store_key *keys, size_t limit)
{
    size_t count = 0;
    pthread_mutex_lock(&board->lock);
    for (struct board_chamber *chamber = board->chambers; chamber && count < limit;
         chamber = chamber->hh.next) {
        if (chamber->asked)
            continue;
        keys[count] = (struct store_key){.tool = arena_strdup(arena, chamber->tool),
                                         .chamber = arena_strdup(arena, chamber->chamber),
                                         .context_id = ""};
        if (keys[count].tool == NULL || keys[count].chamber == NULL)
            break;
        chamber->asked = true;
        count++;
    }
    pthread_mutex_unlock(&board->lock);
    return count;
}

/* --- reading --- */

static int chamber_order(const void *a, const void *b)
{
    const struct board_chamber *x = *(struct board_chamber *const *)a, *y = *(struct board_chamber *const *)b;
    int order = strcmp(x->tool, y->tool);
    return order ? order : strcmp(x->chamber, y->chamber);
}

/* Under the lock. False: no memory. */
static bool sort_chambers(struct board *board)
{
    size_t count = HASH_COUNT(board->chambers);
    if (!board->sorted_stale)
        return true;
    if (count > board->sorted_capacity) {
        struct board_chamber **grown = realloc(board->sorted, 2 * count * sizeof *grown);
        if (grown == NULL)
            return false;
        board->sorted = grown;
        board->sorted_capacity = 2 * count;
    }
    size_t i = 0;
    for (struct board_chamber *chamber = board->chambers; chamber; chamber = chamber->hh.next)
        board->sorted[i++] = chamber;
    qsort(board->sorted, count, sizeof *board->sorted, chamber_order);
    board->sorted_stale = false;
    return true;
}

static void add_maybe_time(struct json_writer *json, const char *key, bool known, int64_t us)
{
    if (known)
        json_add_time(json, key, us);
    else
        json_add_raw(json, key, "null");
}

static void add_row(struct json_writer *json, const struct board_chamber *chamber)
{
    json_add_text(json, "tool_id", chamber->tool);
    json_add_text(json, "chamber_id", chamber->chamber);
    json_add_text(json, "owner", chamber->owner[0] ? chamber->owner : NULL);
    if (chamber->weight >= 0)
        json_add_integer(json, "weight", chamber->weight);
    else
        json_add_raw(json, "weight", "null");
    json_add_text(json, "severity", severity_name(chamber->severity));
    add_maybe_time(json, "since", chamber->open > 0, chamber->since_us);
    add_maybe_time(json, "newest", chamber->open > 0, chamber->newest_us);
    json_add_integer(json, "open", chamber->open);
    if (chamber->last_context == NULL) {
        json_add_raw(json, "last", "null");
        return;
    }
    json_begin_object(json, "last");
    json_add_text(json, "context_id", chamber->last_context);
    json_add_time(json, "ended_at", chamber->last_end_us);
    json_add_time(json, "judged_at", chamber->last_judged_us);
    json_add_text(json, "severity", severity_name(chamber->last_severity));
    json_add_integer(json, "alarms", chamber->last_alarms);
    json_end_object(json);
}

void board_write_chambers(struct board *board, const struct board_chamber_filter *filter, int64_t now_us,
                          struct strbuf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    json_add_time(&json, "at", now_us);
    json_begin_array(&json, "chambers");
    pthread_mutex_lock(&board->lock);
    out->failed |= !sort_chambers(board);
    size_t count = out->failed ? 0 : HASH_COUNT(board->chambers);
    for (size_t i = 0; i < count; i++) {
        const struct board_chamber *chamber = board->sorted[i];
        if ((filter->tool && strcmp(filter->tool, chamber->tool) != 0) || chamber->severity < filter->least)
            continue;
        json_begin_object(&json, NULL);
        add_row(&json, chamber);
        json_end_object(&json);
    }
    pthread_mutex_unlock(&board->lock);
    json_end_array(&json);
    json_end_object(&json);
}

bool board_write_chamber(struct board *board, const char *tool, const char *name, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    pthread_mutex_lock(&board->lock);
    struct board_chamber *chamber = board_chamber_get(board, tool, name, false);
    if (chamber)
        add_row(&json, chamber);
    pthread_mutex_unlock(&board->lock);
    return chamber != NULL;
}

void board_tell_chambers(struct board *board)
{
    struct strbuf out;
    struct json_writer json = {.out = &out};
    strbuf_init(&out);
    pthread_mutex_lock(&board->lock);
    size_t count = board->changed_count < BOARD_EVENT_ROWS ? board->changed_count : BOARD_EVENT_ROWS;
    json_begin_object(&json, NULL);
    json_begin_array(&json, "chambers");
    for (size_t i = 0; i < count; i++) {
        board->changed[i]->changed = false;
        json_begin_object(&json, NULL);
        add_row(&json, board->changed[i]);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    board->changed_count -= count;
    if (board->changed_count > 0)
        memmove(board->changed, board->changed + count, board->changed_count * sizeof *board->changed);
    pthread_mutex_unlock(&board->lock);
    if (count > 0 && !out.failed)
        events_tell(board->events, "chambers", out.text);
    strbuf_free(&out);
}

static void add_minute(struct json_writer *json, const struct board_minute *minute, int64_t number)
{
    static const struct {
        const char *name;
        double fraction;
    } quantiles[] = {{"p50_ms", 0.5}, {"p95_ms", 0.95}, {"p99_ms", 0.99}};
    bool known = minute->minute == number;
    bool timed = known && minute->process.count > 0;
    json_begin_object(json, NULL);
    json_add_time(json, "at", number * 60 * CLOCK_US_PER_SECOND);
    json_add_integer(json, "judged", known ? minute->judged : 0);
    json_add_integer(json, "alarmed", known ? minute->alarmed : 0);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        json_add_double(json, quantiles[i].name,
                        timed ? (double)histogram_quantile_ns(&minute->process, quantiles[i].fraction) / 1e6
                              : (double)NAN);
    json_add_double(json, "max_ms", timed ? (double)minute->process.max_ns / 1e6 : (double)NAN);
    json_end_object(json);
}

void board_write_throughput(struct board *board, int minutes, int64_t now_us, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    int64_t now = now_us / (60 * CLOCK_US_PER_SECOND);
    json_begin_object(&json, NULL);
    json_begin_array(&json, "minutes");
    pthread_mutex_lock(&board->lock);
    for (int64_t number = now - minutes + 1; number <= now; number++)
        add_minute(&json, &board->minutes[number % BOARD_MINUTES], number);
    pthread_mutex_unlock(&board->lock);
    json_end_array(&json);
    json_end_object(&json);
}

/* --- metrics --- */

static void add_gauge(struct strbuf *out, const char *name, const char *help, double value)
{
    prometheus_single(out, name, PROMETHEUS_GAUGE, help, value);
}

static void add_contexts(const struct board *board, struct strbuf *out)
{
    prometheus_begin(out, "cluster_contexts", PROMETHEUS_GAUGE,
                     "Contexts in the store, by what became of them.");
    const struct {
        const char *state;
        int64_t value;
    } items[] = {{"announced", board->counts.completed},
                 {"judged", board->counts.judged},
                 {"dead", board->counts.dead}};
    for (size_t i = 0; board->counted && i < sizeof items / sizeof *items; i++) {
        struct prometheus_label label = {"state", items[i].state};
        prometheus_add(out, "cluster_contexts", &label, 1, (double)items[i].value);
    }
}

static void add_chambers(const struct board *board, struct strbuf *out)
{
    int64_t by_severity[SEVERITY_CRITICAL + 1] = {0}, owned = 0;
    for (const struct board_chamber *chamber = board->chambers; chamber; chamber = chamber->hh.next) {
        by_severity[chamber->severity]++;
        owned += chamber->owner[0] != '\0';
    }
    add_gauge(out, "cluster_chambers", "Chambers known.", HASH_COUNT(board->chambers));
    add_gauge(out, "cluster_chambers_unassigned", "Chambers that no defender owns.",
              (double)HASH_COUNT(board->chambers) - (double)owned);
    prometheus_begin(out, "cluster_chambers_open", PROMETHEUS_GAUGE, "Chambers by their worst open verdict.");
    for (int severity = SEVERITY_NONE; severity <= SEVERITY_CRITICAL; severity++) {
        struct prometheus_label label = {"severity", severity_name((enum severity)severity)};
        prometheus_add(out, "cluster_chambers_open", &label, 1, (double)by_severity[severity]);
    }
    prometheus_begin(out, "cluster_open_alarms", PROMETHEUS_GAUGE, "Alarms that nobody has acknowledged.");
    for (int severity = SEVERITY_INFO; severity <= SEVERITY_CRITICAL; severity++) {
        struct prometheus_label label = {"severity", severity_name((enum severity)severity)};
        prometheus_add(out, "cluster_open_alarms", &label, 1, (double)board->open_alarms[severity]);
    }
}

void board_write_metrics(struct board *board, int64_t now_us, struct strbuf *out)
{
    (void)now_us;
    pthread_mutex_lock(&board->lock);
    size_t alive = 0;
    for (const struct board_member *member = board->members; member; member = member->hh.next)
        alive += member->alive;
    add_gauge(out, "cluster_defenders_alive", "Defenders whose heartbeat is heard.", (double)alive);
    add_gauge(out, "cluster_defenders_known", "Defenders heard within the last minute.",
              HASH_COUNT(board->members));
    add_gauge(out, "cluster_defenders_assigned", "Defenders in the assignment.",
              (double)json_array_size(json_object_get(board->map, "members")));
    add_gauge(out, "cluster_assignment_version", "Version of the newest assignment.",
              (double)json_integer_value(json_object_get(board->map, "version")));
    add_gauge(out, "cluster_store_available", "1 while the store answers.", board->store_available);
    add_gauge(out, "web_nats_connected", "1 while this process is connected to NATS.", board->connected);
    if (board->waiting >= 0)
        add_gauge(out, "cluster_messages_waiting", "Messages in the notification stream.",
                  (double)board->waiting);
    prometheus_single(out, "web_verdicts_heard_total", PROMETHEUS_COUNTER, "Verdicts that defenders told of.",
                      (double)board->judged);
    add_contexts(board, out);
    add_chambers(board, out);
    pthread_mutex_unlock(&board->lock);
}
