/* What one sink is told, and when: grouping, cool-down, escalation and retries as a pure machine.
 *
 *     grouper_step(grouper, now, event, actions)      event in, actions out; no clock, thread, socket
 *
 * An alarm is held from the event that brings it until the action that releases it, and is released only when
 * the sink has accepted a message that has it or counts it, when its message was buried, or when nobody needs
 * to be told. Until then the stream keeps it unacknowledged, so a process that dies loses nothing.
 *
 *     alarm --> escalating --checked, nobody has acknowledged--> |
 *       |                                                        v
 *       +------------------------------------------------------> in a group --taken--> sending --accepted-->
 * released ^    |                 ^   | expired  |    v topic is cool   +---+ failed: back-off cooling
 *
 * A topic (tool, chamber, chart, rule) that was told is cool for cool_down_ms: what comes meanwhile is
 * counted and told as one when that time is over. One message is under way at a time; while it is, and while
 * the sink is away, groups go on collecting.
 *
 * Times are wall-clock milliseconds, so that they hold over a restart; one that goes back stands still here.
 */
#ifndef CHAMBERLAIN_NOTIFY_GROUPER_H
#define CHAMBERLAIN_NOTIFY_GROUPER_H

#include "base/error.h"
#include "base/strbuf.h"
#include "notify/notice.h"

#include <stdbool.h>

enum {
    GROUPER_TOLD_MAX = 16384,        /* alarms remembered as told, the oldest forgotten first */
    GROUPER_TOPICS_MAX = 16384,      /* cool topics; beyond it the one that ends first is forgotten */
    GROUPER_SAVED_TOPICS_MAX = 4096, /* ... in a saved state */
    GROUPER_SAVED_TOLD_MAX = 4096,
    GROUPER_RECHECK_MS = 1000, /* when it could not be learned whether an alarm is acknowledged */
    GROUPER_RETRY_AFTER_MAX_MS = 10 * 60 * 1000, /* what a sink may ask for */
    GROUPER_MESSAGE_MAX_BYTES = 256 * 1024 /* of the alarms in one message; the rest goes into the next */
};

struct grouper;

struct grouper_policy {
    const char *sink;                      /* its name: copied */
    unsigned group_by;                     /* bits of enum notice_field */
    int64_t group_wait_ms;                 /* how long a group collects after its first alarm */
    int64_t cool_down_ms;                  /* 0: every alarm is told on its own */
    size_t group_max;                      /* alarms listed in one message */
    size_t held_max;                       /* alarms held at a time */
    int64_t retry_first_ms, retry_most_ms; /* back-off, doubled, each between half and all of it */
    uint64_t seed;                         /* of the jitter */
};

enum grouper_event_kind {
    GROUPER_TICK,
    GROUPER_ALARM,    /* notice (taken over), handle, after_ms */
    GROUPER_CHECKED,  /* id, code 0: acknowledged; ERR_NOT_FOUND: not; else it is not known */
    GROUPER_ACCEPTED, /* the message under way */
    GROUPER_REFUSED,  /* ... never will be: it is to be buried */
    GROUPER_FAILED,   /* ... not now; retry_after_ms 0, or what the sink asked for */
    GROUPER_BURIED,   /* the message under way is kept elsewhere */
    GROUPER_CONFIRMED /* id: the stream will not deliver it any more */
};

struct grouper_event {
    enum grouper_event_kind kind;
    struct notice *notice; /* freed by the machine, also when the step fails */
    uint64_t handle;       /* the caller's name for this delivery: the stream sequence */
    int64_t after_ms;      /* 0, or: to be told so long after it was raised if nobody has acknowledged it */
    uint64_t id;
    int code;
    int64_t retry_after_ms;
};

enum grouper_action_kind {
    GROUPER_SEND,   /* message, key, attempt (from 1); answer with ACCEPTED, REFUSED or FAILED */
    GROUPER_BURY,   /* likewise; answer with BURIED or FAILED */
    GROUPER_CHECK,  /* id: has anybody acknowledged it? answer with CHECKED */
    GROUPER_RELEASE /* handle, id, why; when the stream has confirmed it: CONFIRMED */
};

enum grouper_why {
    GROUPER_WAS_TOLD, /* now */
    GROUPER_WAS_BURIED,
    GROUPER_WAS_SETTLED,  /* acknowledged before its escalation was due */
    GROUPER_WAS_REPEATED, /* an alarm that is held or was told already */
    GROUPER_WHYS
};

struct grouper_action {
    enum grouper_action_kind kind;
    const char *message; /* JSON (docs/alarms.md, "The message"); lives until the message under way is over */
    const char *key;     /* 16 hex digits: the same at each attempt, also after a restart */
    unsigned attempt;
    uint64_t id, handle;
    enum grouper_why why;
};

struct grouper_actions {
    struct grouper_action *items;
    size_t count, capacity;
};

/* Copies the policy. ERR_NO_MEMORY. */
int grouper_create(const struct grouper_policy *policy, struct grouper **grouper, struct error *err);
void grouper_destroy(struct grouper *grouper);

/* Appends to `actions` (free its items with free()). ERR_NO_MEMORY: the machine no longer knows where it
 * stands; the caller ends the process, and everything that is held comes again. */
int grouper_step(struct grouper *grouper, int64_t now_ms, const struct grouper_event *event,
                 struct grouper_actions *actions, struct error *err);

/* When grouper_step must be called with GROUPER_TICK if nothing else happens; INT64_MAX: never. */
int64_t grouper_next_ms(const struct grouper *grouper);

/* How many more alarms it may be given. */
size_t grouper_room(const struct grouper *grouper);

/* The state that must survive a crash, as a JSON object: the message under way, what was told and is not
 * confirmed, cool topics. Write it where it lasts before carrying out a GROUPER_SEND of attempt 1 and after a
 * message is over: then the same message goes out again under the same key, or not at all. */
void grouper_save(const struct grouper *grouper, struct strbuf *json);

/* Takes such a state into a machine that has held nothing yet. ERR_CORRUPT, ERR_NO_MEMORY. */
int grouper_restore(struct grouper *grouper, const char *json, size_t length, struct error *err);

struct grouper_status {
    size_t held, cooling, escalating, groups, topics;
    bool sending;     /* a message is under way */
    unsigned attempt; /* ... which one this is */
    uint64_t counted; /* alarms told as part of another's count, so far */
    uint64_t early;   /* alarms told before their cool-down was over because too many were held */
};
void grouper_read_status(const struct grouper *grouper, struct grouper_status *status);

#endif
