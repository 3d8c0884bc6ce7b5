/* Inside of the board. Only its own files include this; every function here is called under the lock. */
#ifndef CHAMBERLAIN_WEB_BOARD_STRUCT_H
#define CHAMBERLAIN_WEB_BOARD_STRUCT_H

#include "base/json_writer.h"
#include "web/board.h"

#include <pthread.h>
#include <uthash.h>

struct board_alarm {
    char id[17];
    uint64_t sequence;
    enum severity severity;
    int64_t raised_us;
    char *json;    /* the message, an object */
    char *context; /* its context's id */
    struct board_chamber *chamber;
    struct board_alarm *newer, *older; /* of the chamber */
    UT_hash_handle hh;                 /* by id */
};

struct board_ack {
    char id[17];
    char *by, *comment;
    int64_t at_us;
    UT_hash_handle hh;
};

struct board_chamber {
    char *tool, *chamber;
    char *key; /* both with their terminators */
    size_t key_length;
    char owner[CLUSTER_NAME_BYTES]; /* "" for none */
    int64_t weight;                 /* negative: not known */

    struct board_alarm *newest_alarm; /* the chain */
    int64_t open;                     /* alarms; of them the worst: */
    enum severity severity;
    int64_t since_us, newest_us;

    bool asked;         /* the store was asked for what follows */
    char *last_context; /* NULL: nothing is known to be judged */
    int64_t last_end_us, last_judged_us;
    enum severity last_severity;
    int32_t last_alarms;

    bool changed; /* is in the list of those to tell */
    UT_hash_handle hh;
};

struct board_member {
    struct cluster_heartbeat heartbeat;
    int64_t heard_us;
    bool alive;     /* as last told */
    json_t *status; /* its newest answer; NULL */
    UT_hash_handle hh;
};

struct board_minute {
    int64_t minute; /* since 1970 */
    int64_t judged, alarmed, timed;
    struct histogram process;
};

struct board {
    pthread_mutex_t lock;
    struct events *events;
    char version[CLUSTER_NAME_BYTES], cell[64], store_kind[16];

    bool connected;
    int64_t connected_us;
    struct board_member *members; /* by id */
    json_t *map;                  /* NULL: none */

    struct board_chamber *chambers; /* by key */
    struct board_chamber **sorted;  /* HASH_COUNT of them */
    size_t sorted_capacity;
    bool sorted_stale;
    struct board_chamber **changed; /* to be told, once each */
    size_t changed_count, changed_capacity;

    struct board_alarm *alarms; /* by id */
    struct board_alarm **ring;  /* alarm_count of them from alarm_first, by sequence */
    size_t alarm_first, alarm_count;
    uint64_t alarm_sequence; /* of the newest */
    struct board_ack *acks;
    int64_t open_alarms[SEVERITY_CRITICAL + 1];

    struct board_minute minutes[BOARD_MINUTES];
    uint64_t judged; /* heard of since this process began */

    bool counted; /* the store has answered */
    struct store_counts counts;
    bool store_available;
    struct error store_error;
    int64_t waiting; /* messages; negative: not known */
};

/* board_chambers.c */
struct board_chamber *board_chamber_get(struct board *board, const char *tool, const char *chamber,
                                        bool create);
void board_chamber_touch(struct board *board, struct board_chamber *chamber); /* it is to be told */
void board_chambers_free(struct board *board);

/* board_alarms.c */
void board_alarms_free(struct board *board);

const char *board_text_of(const json_t *object, const char *key); /* "" when it is no text */
enum severity board_severity_of(const char *name);

#endif
