/* The board: what `chamberlain web` knows of a running fab, kept in memory so that a page with 4,000 chambers
 * is written in milliseconds. Filled by live.c from what NATS tells, read by the API.
 *
 * From any thread: a lock guards all of it. Nothing here waits for anyone. Writers tell readers along of what
 * changed (events.h). */
#ifndef CHAMBERLAIN_WEB_BOARD_H
#define CHAMBERLAIN_WEB_BOARD_H

#include "base/error.h"
#include "base/histogram.h"
#include "base/strbuf.h"
#include "chart/uchart.h"
#include "cluster/cluster.h"
#include "store/store.h"
#include "web/events.h"

#include <jansson.h>

enum {
    BOARD_ALARMS_MAX = 50000, /* the newest; older ones count no more */
    BOARD_MINUTES = 60,       /* of throughput */
    BOARD_CHAMBERS_MAX = CLUSTER_CHAMBERS_MAX,
    BOARD_EVENT_ROWS = 500,           /* chambers in one event */
    BOARD_MEMBER_ALIVE_MS = 6000,     /* silence after which a defender counts as gone */
    BOARD_MEMBER_FORGET_MS = 60000,   /* ... and is no longer listed */
    BOARD_ALARM_MAX_BYTES = 64 * 1024 /* of one message; longer ones are no alarms of ours */
};

struct board;

/* `events` outlives the board. NULL: no memory. */
struct board *board_new(const char *version, const char *cell, const char *store_kind, struct events *events);
void board_free(struct board *board);

/* --- filling; `now_us` is the wall clock --- */

void board_on_nats(struct board *board, bool connected, int64_t now_us);
void board_on_heartbeat(struct board *board, const struct cluster_heartbeat *heartbeat, int64_t now_us);

/* What a defender answered to `status`: JSON of `length` bytes. */
void board_on_status(struct board *board, const char *json, size_t length, int64_t now_us);

/* The IDs of the defenders that are alive, `most` at most; how many. */
size_t board_list_alive(struct board *board, char (*ids)[CLUSTER_NAME_BYTES], size_t most);

/* Looks who has fallen silent. Call once a second. */
void board_on_second(struct board *board, int64_t now_us);

/* The header of the assignment; NULL: there is none. */
void board_on_map(struct board *board, const char *json, size_t length);

/* What a defender was assigned: "{tool}.{chamber}" tokens in the document `json`; NULL: nothing any more. */
void board_on_assigned(struct board *board, const char *id, const char *json, size_t length);

/* A chamber of the roster (tokens as in subjects). weight negative: not said. */
void board_on_chamber(struct board *board, const char *tool_token, const char *chamber_token,
                      size_t tool_length, int64_t weight);

/* What `cluster.judged` says. */
void board_on_judged(struct board *board, const char *json, size_t length, int64_t now_us);

/* The newest verdicts that the store has of chambers, for those that nothing newer is known of. */
void board_on_heads(struct board *board, const struct store_uchart *heads, size_t count);

/* An alarm of the stream. `news`: it was raised just now, and readers along are told. */
void board_on_alarm(struct board *board, const char *json, size_t length, uint64_t sequence, bool news);

/* Someone has seen an alarm; `by` NULL: nobody any more. It may come before the alarm does. */
void board_on_acknowledged(struct board *board, const char *alarm_id, const char *by, const char *comment,
                           int64_t at_us);

void board_on_cluster_event(struct board *board, const char *json, size_t length);
void board_on_counts(struct board *board, const struct store_reply *reply); /* of store_count */
void board_on_waiting(struct board *board, int64_t messages);               /* negative: not known */

/* Tells readers along of the chambers that changed since the last call. Call twice a second. */
void board_tell_chambers(struct board *board);
void board_tell_status(struct board *board, int64_t now_us);

/* Up to `limit` chambers whose newest verdict has not been asked for yet; they count as asked for from now
 * on. Texts live in `arena`. Returns how many. */
size_t board_take_unknown(struct board *board, struct arena *arena, struct store_key *keys, size_t limit);

/* --- reading: JSON as docs/api/openapi.yaml says --- */

void board_write_status(struct board *board, int64_t now_us, struct strbuf *out);
void board_write_members(struct board *board, int64_t now_us, struct strbuf *out);
void board_write_assignments(struct board *board, bool chambers, struct strbuf *out);
void board_write_cache(struct board *board, int64_t now_us, struct strbuf *out);
void board_write_throughput(struct board *board, int minutes, int64_t now_us, struct strbuf *out);

struct board_chamber_filter {
    const char *tool; /* NULL: every */
    enum severity least;
};
void board_write_chambers(struct board *board, const struct board_chamber_filter *filter, int64_t now_us,
                          struct strbuf *out);

/* The members of one chamber's row, without braces. False when it is not known. */
bool board_write_chamber(struct board *board, const char *tool, const char *chamber, struct strbuf *out);

enum board_alarm_state { BOARD_ALARM_ALL, BOARD_ALARM_OPEN, BOARD_ALARM_ACKNOWLEDGED };

struct board_alarm_filter {
    const char *tool, *chamber, *context; /* NULL: every */
    enum severity severity;               /* SEVERITY_NONE: every */
    enum board_alarm_state state;
    uint64_t before; /* sequence, 0: the newest */
    size_t limit;
};
void board_write_alarms(struct board *board, const struct board_alarm_filter *filter, struct strbuf *out);

/* False when there is no such alarm. */
bool board_write_alarm(struct board *board, const char *alarm_id, struct strbuf *out);

/* For /metrics: the gauges of the whole cluster. */
void board_write_metrics(struct board *board, int64_t now_us, struct strbuf *out);

#endif
