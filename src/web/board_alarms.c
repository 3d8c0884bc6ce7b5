/* The alarms on the board: the newest BOARD_ALARMS_MAX of the stream, each open until someone has
 * acknowledged it. */
#include "web/board_struct.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct board_ack *find_ack(const struct board *board, const char *id)
{
    struct board_ack *ack;
    HASH_FIND_STR(board->acks, id, ack);
    return ack;
}

/* Counts a chamber's open alarms anew. Those of one severity as bad as any give its age. */
static void recount(struct board *board, struct board_chamber *chamber)
{
    chamber->open = 0;
    chamber->severity = SEVERITY_NONE;
    for (const struct board_alarm *alarm = chamber->newest_alarm; alarm; alarm = alarm->older) {
        if (find_ack(board, alarm->id))
            continue;
        chamber->open++;
        if (alarm->severity > chamber->severity) {
            chamber->severity = alarm->severity;
            chamber->since_us = chamber->newest_us = alarm->raised_us;
        } else if (alarm->severity == chamber->severity) {
            chamber->since_us = alarm->raised_us < chamber->since_us ? alarm->raised_us : chamber->since_us;
            chamber->newest_us =
                alarm->raised_us > chamber->newest_us ? alarm->raised_us : chamber->newest_us;
        }
    }
    board_chamber_touch(board, chamber);
}

/* A new open alarm makes a chamber only worse: no need to look at all of them. */
static void count_one(struct board *board, struct board_chamber *chamber, const struct board_alarm *alarm)
{
    bool worse = alarm->severity > chamber->severity;
    chamber->open++;
    if (worse || (alarm->severity == chamber->severity && alarm->raised_us < chamber->since_us))
        chamber->since_us = alarm->raised_us;
    if (worse || (alarm->severity == chamber->severity && alarm->raised_us > chamber->newest_us))
        chamber->newest_us = alarm->raised_us;
    if (worse)
        chamber->severity = alarm->severity;
    board_chamber_touch(board, chamber);
}

static void alarm_free(struct board_alarm *alarm)
{
    free(alarm->json);
    free(alarm->context);
    free(alarm);
}

static void ack_free(struct board *board, struct board_ack *ack)
{
    HASH_DEL(board->acks, ack);
    free(ack->by);
    free(ack->comment);
    free(ack);
}

static void drop_oldest(struct board *board)
{
    struct board_alarm *alarm = board->ring[board->alarm_first];
    struct board_chamber *chamber = alarm->chamber;
    board->alarm_first = (board->alarm_first + 1) % BOARD_ALARMS_MAX;
    board->alarm_count--;
    HASH_DEL(board->alarms, alarm);
    if (alarm->newer)
        alarm->newer->older = alarm->older;
    else
        chamber->newest_alarm = alarm->older;
    if (alarm->older)
        alarm->older->newer = alarm->newer;
    struct board_ack *ack;
    HASH_FIND_STR(board->acks, alarm->id, ack);
    if (ack) {
        ack_free(board, ack);
    } else {
        board->open_alarms[alarm->severity]--;
        recount(board, chamber);
    }
    alarm_free(alarm);
}

void board_alarms_free(struct board *board)
{
    struct board_ack *ack, *next;
    for (size_t i = 0; i < board->alarm_count; i++) {
        struct board_alarm *alarm = board->ring[(board->alarm_first + i) % BOARD_ALARMS_MAX];
        HASH_DEL(board->alarms, alarm);
        alarm_free(alarm);
    }
    HASH_ITER(hh, board->acks, ack, next)
    {
        ack_free(board, ack);
    }
    free(board->ring);
}

/* --- writing --- */

/* The message with its acknowledgement before the closing brace. */
static void add_alarm(const struct board *board, const struct board_alarm *alarm, struct strbuf *out)
{
    const struct board_ack *ack = find_ack(board, alarm->id);
    char when[CLOCK_RFC3339_BYTES];
    strbuf_add_bytes(out, alarm->json, strlen(alarm->json) - 1);
    strbuf_add(out, ",\"acknowledged\":");
    if (ack == NULL) {
        strbuf_add(out, "null}");
        return;
    }
    strbuf_add(out, "{\"by\":");
    strbuf_add_json(out, ack->by);
    strbuf_add(out, ",\"comment\":");
    strbuf_add_json(out, ack->comment);
    strbuf_printf(out, ",\"at\":\"%s\"}}", clock_format_rfc3339(ack->at_us, when));
}

static void tell_alarm(struct board *board, const char *name, const struct board_alarm *alarm)
{
    struct strbuf out;
    strbuf_init(&out);
    add_alarm(board, alarm, &out);
    events_tell(board->events, name, out.text);
    strbuf_free(&out);
}

static bool matches(const struct board *board, const struct board_alarm_filter *filter,
                    const struct board_alarm *alarm)
{
    if ((filter->tool && strcmp(filter->tool, alarm->chamber->tool) != 0) ||
        (filter->chamber && strcmp(filter->chamber, alarm->chamber->chamber) != 0) ||
        (filter->context && strcmp(filter->context, alarm->context) != 0) ||
        (filter->severity && filter->severity != alarm->severity))
        return false;
    bool open = find_ack(board, alarm->id) == NULL;
    return filter->state == BOARD_ALARM_ALL || (filter->state == BOARD_ALARM_OPEN) == open;
}

void board_write_alarms(struct board *board, const struct board_alarm_filter *filter, struct strbuf *out)
{
    size_t found = 0;
    uint64_t last = 0;
    bool more = false;
    strbuf_add(out, "{\"alarms\":[");
    pthread_mutex_lock(&board->lock);
    for (size_t i = board->alarm_count; i > 0 && !more; i--) {
        const struct board_alarm *alarm = board->ring[(board->alarm_first + i - 1) % BOARD_ALARMS_MAX];
        if ((filter->before && alarm->sequence >= filter->before) || !matches(board, filter, alarm))
            continue;
        more = found == filter->limit;
        if (more)
            break;
        if (found++ > 0)
            strbuf_add_char(out, ',');
        add_alarm(board, alarm, out);
        last = alarm->sequence;
    }
    pthread_mutex_unlock(&board->lock);
    if (more)
        strbuf_printf(out, "],\"next\":\"%llu\"}", (unsigned long long)last);
    else
        strbuf_add(out, "],\"next\":null}");
}

bool board_write_alarm(struct board *board, const char *alarm_id, struct strbuf *out)
{
    struct board_alarm *alarm;
    pthread_mutex_lock(&board->lock);
    HASH_FIND_STR(board->alarms, alarm_id, alarm);
    if (alarm)
        add_alarm(board, alarm, out);
    pthread_mutex_unlock(&board->lock);
    return alarm != NULL;
}

/* --- filling --- */

/* What an alarm must have to stand on the board; NULL: it is none of ours. */
static struct board_alarm *alarm_new(struct board *board, const json_t *message, uint64_t sequence)
{
    const char *id = board_text_of(message, "alarm_id");
    enum severity severity = board_severity_of(board_text_of(message, "severity"));
    int64_t raised_us;
    if (strlen(id) != 16 || severity == SEVERITY_NONE ||
        clock_parse_rfc3339(board_text_of(message, "raised_at"), &raised_us, NULL))
        return NULL;
    struct board_chamber *chamber = board_chamber_get(board, board_text_of(message, "tool_id"),
                                                      board_text_of(message, "chamber_id"), true);
    struct board_alarm *alarm = chamber ? calloc(1, sizeof *alarm) : NULL;
    if (alarm == NULL)
        return NULL;
    memcpy(alarm->id, id, sizeof alarm->id);
    alarm->severity = severity;
    alarm->raised_us = raised_us;
    alarm->sequence = sequence;
    alarm->chamber = chamber;
    alarm->json = json_dumps(message, JSON_COMPACT);
    alarm->context = strdup(board_text_of(message, "context_id"));
    if (alarm->json && alarm->context)
        return alarm;
    alarm_free(alarm);
    return NULL;
}

static void add_to_board(struct board *board, struct board_alarm *alarm)
{
    struct board_chamber *chamber = alarm->chamber;
    if (board->alarm_count == BOARD_ALARMS_MAX)
        drop_oldest(board);
    board->ring[(board->alarm_first + board->alarm_count++) % BOARD_ALARMS_MAX] = alarm;
    HASH_ADD_STR(board->alarms, id, alarm);
    alarm->older = chamber->newest_alarm;
    if (alarm->older)
        alarm->older->newer = alarm;
    chamber->newest_alarm = alarm;
    if (find_ack(board, alarm->id))
        return;
    board->open_alarms[alarm->severity]++;
    count_one(board, chamber, alarm);
}

void board_on_alarm(struct board *board, const char *text, size_t length, uint64_t sequence, bool news)
{
    json_t *message = length <= BOARD_ALARM_MAX_BYTES ? json_loadb(text, length, 0, NULL) : NULL;
    struct board_alarm *alarm = NULL, *known;
    pthread_mutex_lock(&board->lock);
    if (sequence > board->alarm_sequence) { /* else it came already, by a consumer before this one */
        board->alarm_sequence = sequence;
        alarm = json_is_object(message) ? alarm_new(board, message, sequence) : NULL;
    }
    if (alarm) {
        HASH_FIND_STR(board->alarms, alarm->id, known);
        if (known) {
            alarm_free(alarm);
        } else {
            add_to_board(board, alarm);
            if (news)
                tell_alarm(board, "alarm", alarm);
        }
    }
    pthread_mutex_unlock(&board->lock);
    json_decref(message);
}

/* Replaces what is known; without `by` nothing is. False: nothing has changed (or there is no memory). */
static bool set_ack(struct board *board, const char *id, const char *by, const char *comment, int64_t at_us)
{
    struct board_ack *old, *ack;
    HASH_FIND_STR(board->acks, id, old);
    if (by == NULL) {
        if (old)
            ack_free(board, old);
        return old != NULL;
    }
    if (old && old->at_us == at_us && strcmp(old->by, by) == 0 && strcmp(old->comment, comment) == 0)
        return false;
    if (old == NULL && HASH_COUNT(board->acks) >= 2 * BOARD_ALARMS_MAX)
        return false;
    ack = calloc(1, sizeof *ack);
    if (ack == NULL)
        return false;
    snprintf(ack->id, sizeof ack->id, "%s", id);
    ack->by = strdup(by);
    ack->comment = strdup(comment);
    ack->at_us = at_us;
    if (old)
        ack_free(board, old);
    HASH_ADD_STR(board->acks, id, ack);
    if (ack->by && ack->comment)
        return true;
    ack_free(board, ack);
    return false;
}

void board_on_acknowledged(struct board *board, const char *alarm_id, const char *by, const char *comment,
                           int64_t at_us)
{
    struct board_alarm *alarm;
    if (strlen(alarm_id) != 16)
        return;
    pthread_mutex_lock(&board->lock);
    bool before = find_ack(board, alarm_id) != NULL;
    bool changed = set_ack(board, alarm_id, by, comment, at_us);
    bool after = find_ack(board, alarm_id) != NULL;
    HASH_FIND_STR(board->alarms, alarm_id, alarm);
    if (alarm && before != after) {
        board->open_alarms[alarm->severity] += before ? 1 : -1;
        recount(board, alarm->chamber);
    }
    if (alarm && changed)
        tell_alarm(board, "acknowledged", alarm);
    pthread_mutex_unlock(&board->lock);
}
