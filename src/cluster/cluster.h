/* Who is alive, who leads, who owns what: the cluster's protocol as pure machines.
 *
 *     cluster_step(cluster, now, event, actions)      event in, actions out; no clock, thread, socket
 *
 * One `struct cluster` is one process's view. A carrier (src/defender in production, tests/sim in simulation)
 * feeds it what happens and carries out what it asks for; every request has a token, and its outcome comes
 * back as an event with that token. An outcome may be ERR_TIMEOUT: perhaps done. The carrier may drop nothing
 * else.
 *
 * Inside, each a file of its own: member.c claims and keeps a stable ID; election.c holds the leader's lease;
 * holder.c makes this process own what the committed assignment says; and on the leader peers.c watches the
 * others, roster.c knows the chambers and their weights, controller.c decides when to assign anew, commit.c
 * writes what was decided.
 *
 * Buckets (all names with the cell's prefix are the carrier's business):
 *
 *     stable-ids    defender-N       {"incarnation","version","group","share"}
 *                                    TTL id_ttl_ms
 *     election      leader           {"id","incarnation","serial"}
 *                                    TTL lease_ttl_ms; the revision of its acquisition is the fencing token
 *     assignments   to.defender-N    {"version","chambers":[...]}
 *                                    what N owns at that version
 *                   map              {"version","token","lifecycle","leader",
 *                                     "members":[{"id","assigned","revision","count","weight"}],
 *                                     "moved","least","placed","heaviest","rebalances","emergencies"}
 *                                    the header, written last, by compare-and-set. What N owns is in force
 *                                    when the header names, for N, the version (`assigned`) and the KV
 *                                    revision of its key to.defender-N
 *     chambers      TOOL.CHAMBER     {"weight","observed"}
 *                                    the roster (tokens as in subjects): points of a run, as registered;
 *                                    points an hour, as observed by its owner (observer.h), or absent
 *
 * Incarnations are written as decimal text ("123"): JSON numbers of 64 bits do not survive every reader.
 *
 * Who sees what: the watch of a bucket costs every watcher every change, so a follower watches only its own
 * keys, `map` and `leader`. One that looks for an ID also watches all of stable-ids and hears heartbeats
 * (ACTION_LISTEN); the leader watches everything. */
#ifndef CHAMBERLAIN_CLUSTER_CLUSTER_H
#define CHAMBERLAIN_CLUSTER_CLUSTER_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CLUSTER_NAME_BYTES = 64,  /* of an ID, version or group */
    CLUSTER_KEY_BYTES = 1300, /* of a key: two escaped names and a dot */
    CLUSTER_MEMBERS_MAX = 4096,
    CLUSTER_CHAMBERS_MAX = 200000,
    CLUSTER_TRACE_BYTES = 256
};

enum cluster_bucket { BUCKET_STABLE_IDS, BUCKET_ELECTION, BUCKET_ASSIGNMENTS, BUCKET_CHAMBERS, BUCKET_COUNT };

/* As in DESIGN's states: what this process is doing. */
enum cluster_state {
    CLUSTER_INIT,
    CLUSTER_CLAIMING, /* looking for a free ID */
    CLUSTER_STANDBY,  /* waiting for one: the pool is full, or another version runs */
    CLUSTER_ELECTION, /* has an ID, does not know a leader yet */
    CLUSTER_FOLLOWER,
    CLUSTER_LEADER,
    CLUSTER_DEGRADED, /* NATS is away: keeps what it owns, trusts no absence */
    CLUSTER_SHUTDOWN, /* stopping: finishes, releases */
    CLUSTER_STOPPED   /* nothing more will be asked for: the process may end */
};

/* What the controller of a leader is doing. */
enum cluster_lifecycle {
    LIFECYCLE_STABLE,
    LIFECYCLE_COLD_START, /* window open after a first start or a restart of the whole cluster */
    LIFECYCLE_SCALING,    /* join or leave seen, window open */
    LIFECYCLE_REBALANCING,
    LIFECYCLE_EMERGENCY /* a crash: no window */
};

/* Times in milliseconds; 0 takes the default that stands beside each. */
struct cluster_config {
    uint64_t incarnation;   /* of this process: never the same twice */
    uint64_t predecessor;   /* 0, or the incarnation of a process that is known to have ended (a lock or a
                               supervisor says so): its claim and its lease are taken over at once */
    const char *version;    /* of the software */
    const char *group;      /* "" or a name: blue, canary */
    const char *role;       /* before the number in an ID; NULL or "": defender */
    double share;           /* 0, or the part of all weight that this member may hold (a canary: 0.1) */
    int pool;               /* how many IDs there are: 1,000 */
    int expected_members;   /* 0: not known; windows then close on quiet alone */
    int64_t heartbeat_ms;   /* 1,000 */
    int64_t probe_after_ms; /* 1,500: silence after which the leader asks */
    int64_t confirm_ms;   /* 500: that nobody listens there is believed when it is still so after so much more
                             silence */
    int64_t silence_ms;   /* 6,000: silence that proves a hang or a partition */
    int64_t id_ttl_ms;    /* 10,000; renewed three times as often */
    int64_t lease_ttl_ms; /* 3,000; renewed three times as often */
    int64_t lease_margin_ms;  /* 500: a leader stops acting this long before its lease can have expired */
    int64_t cold_window_ms;   /* 30,000 */
    int64_t scale_window_ms;  /* 10,000 */
    int64_t quiet_ms;         /* 2,000: a window closes early after so much quiet */
    int64_t grace_ms;         /* 6,000: after NATS is back, before absence is believed */
    int64_t roster_settle_ms; /* 200: new chambers are collected this long */
    int64_t orphan_scan_ms;   /* 2,000: how often the leader looks for subjects that no one owns */
    int64_t reweigh_ms;       /* 3,600,000: at most this often for changed weights alone */
    int restart_known;        /* 10: a map that knows so many ... */
    int restart_alive;        /* 5: ... of which fewer are alive is a restart */
    double balance_max;       /* 1.20 */
    double balance_min;       /* 0.80 */
    double movement_budget;   /* 0.20 */
    int64_t default_weight;   /* 1,000: of a chamber nobody has described */
    int64_t request_ms; /* 2,000: an outcome that takes longer counts as ERR_TIMEOUT; leases and claims ask
                           again after a third of their TTL if that is sooner. Later outcomes are ignored */
};

/* What a defender says of itself once in heartbeat_ms (JSON on core NATS, not stored). */
struct cluster_heartbeat {
    char id[CLUSTER_NAME_BYTES];
    uint64_t incarnation;
    char version[CLUSTER_NAME_BYTES];
    char group[CLUSTER_NAME_BYTES];
    double share;
    enum cluster_state state;
    uint64_t assignment; /* version that is in force here: its consumer's filters are those */
    int32_t chambers;
    bool leaving; /* a graceful leave, said before the ID is released */
};

enum cluster_event_kind {
    EVENT_TICK,      /* time has passed */
    EVENT_CONNECTED, /* NATS is there (again); buckets exist. Watches asked for before start again by
                        themselves: all that exists is given once more, then EVENT_KV_CURRENT; likewise
                        ACTION_LISTEN */
    EVENT_DISCONNECTED,
    EVENT_KV_DONE,    /* outcome of a write: token, code, revision */
    EVENT_KV_ENTRY,   /* watched: bucket, key, value (NULL: deleted), revision */
    EVENT_KV_CURRENT, /* watched: bucket, key: the pattern as asked for; all that existed has been given */
    EVENT_HEARTBEAT,  /* of another defender (or this one's own) */
    EVENT_PROBED,     /* token; code 0: it answered; ERR_UNAVAILABLE: no responders; ERR_TIMEOUT: silence */
    EVENT_FENCED,     /* token; code 0: that consumer is gone; otherwise not known */
    EVENT_FILTERS_IN_FORCE, /* version: the server's consumer filters on exactly that */
    EVENT_CONSUMER_LOST, /* the consumer of the ID held now was deleted by another: this process was fenced */
    EVENT_SUBJECTS,      /* token; the chambers that have messages waiting */
    EVENT_DRAINED,       /* after ACTION_DRAIN: nothing is in flight */
    EVENT_STOP           /* SIGTERM */
};

struct cluster_event {
    enum cluster_event_kind kind;
    uint64_t token;
    int code;
    enum cluster_bucket bucket;
    const char *key;
    const char *value; /* terminated JSON text */
    size_t value_length;
    uint64_t revision;
    const struct cluster_heartbeat *heartbeat;
    uint64_t version;
    const char *const *chambers; /* EVENT_SUBJECTS: "{tool}.{chamber}" tokens */
    size_t chamber_count;
};

enum cluster_action_kind {
    ACTION_KV_CREATE,     /* bucket, key, value; only if absent */
    ACTION_KV_UPDATE,     /* ...; only if `revision` is the newest */
    ACTION_KV_PUT,        /* whatever is there; the protocol as it is now never asks for it */
    ACTION_KV_DELETE,     /* revision 0: whatever is there */
    ACTION_HEARTBEAT,     /* publish `heartbeat` */
    ACTION_PROBE,         /* ask defender `id` on its own subject; answered within 500 ms or timed out */
    ACTION_FENCE,         /* delete the consumer of defender `id` */
    ACTION_SET_FILTERS,   /* the consumer of `id` owns exactly `chambers` from now on, as `version`: shrink at
                             once, warm the cache, grow until accepted, then EVENT_FILTERS_IN_FORCE. None:
                             delete the consumer */
    ACTION_KEEP_CONSUMER, /* stop pulling, but leave the consumer of `id` and its filters as they are: another
                             process may hold the ID. Ends what ACTION_SET_FILTERS began */
    ACTION_LIST_SUBJECTS, /* ask the stream which chambers have messages */
    ACTION_WATCH,  /* begin (or, `value` NULL, end) watching `bucket` for keys matching `key`: a key, ">" or
                      "to.>" */
    ACTION_LISTEN, /* begin (or, `value` NULL, end) hearing the heartbeats of all defenders */
    ACTION_DRAIN,  /* stop pulling, finish what is in flight, say EVENT_DRAINED */
    ACTION_STATE,  /* tell: state, lifecycle, id, leader changed (cluster_read_status has them) */
    ACTION_TRACE   /* tell: one decision, in words, for the log and for tests */
};

struct cluster_action {
    enum cluster_action_kind kind;
    uint64_t token;
    enum cluster_bucket bucket;
    const char *key;
    const char *value;
    size_t value_length;
    uint64_t revision;
    const char *id;
    const struct cluster_heartbeat *heartbeat;
    uint64_t version;
    const char *const *chambers;
    size_t chamber_count;
    const char *trace;
};

/* A list of actions, in the order to carry them out. Everything they point to is in `arena` and lives until
 * the next cluster_actions_clear. */
struct cluster_actions {
    struct arena arena;
    struct cluster_action *items;
    size_t count, capacity;
};

void cluster_actions_init(struct cluster_actions *actions);
void cluster_actions_clear(struct cluster_actions *actions);
void cluster_actions_free(struct cluster_actions *actions);

struct cluster;

/* ERR_NO_MEMORY; ERR_INVALID names the setting that makes no sense. The texts of `config` are copied. */
int cluster_create(const struct cluster_config *config, struct cluster **cluster, struct error *err);
void cluster_destroy(struct cluster *cluster);

/* `now_ms` is monotonic and belongs to this process: clocks of different processes are never compared. It may
 * jump forward (the process was stopped): silence that lies in a jump is not held against anyone. Appends to
 * `actions`, which live until cluster_actions_clear. `event` is borrowed during the call.
 *
 * ERR_NO_MEMORY: the machine no longer knows where it stands; every later call returns it again. The carrier
 * ends the process: a crash is what the others know how to handle. */
int cluster_step(struct cluster *cluster, int64_t now_ms, const struct cluster_event *event,
                 struct cluster_actions *actions, struct error *err);

/* When cluster_step must be called with EVENT_TICK if nothing else happens before. */
int64_t cluster_next_tick_ms(const struct cluster *cluster);

struct cluster_status {
    enum cluster_state state;
    enum cluster_lifecycle lifecycle; /* on the leader */
    const char *id;                   /* "" while it has none */
    bool certain;         /* the claim was renewed within its TTL, and since the connection in use began or
                             this process last slept: nobody else can hold the ID */
    const char *leader;   /* "" while none is known */
    bool leads;           /* may act as leader now */
    uint64_t token;       /* fencing token of the lease held; 0 */
    uint64_t map_version; /* of the newest header seen */
    uint64_t assignment;  /* in force here */
    size_t chambers;      /* owned here */
    size_t members_alive; /* on the leader */
    uint64_t rebalances, emergencies, moved; /* since this process leads */
    uint64_t restarts;                       /* of the whole cluster, seen since this process leads */
    double weight_variation; /* standard deviation of the members' weights by their mean, of the newest
                                header; 0 without members */
};

void cluster_read_status(const struct cluster *cluster, struct cluster_status *status);

/* Whether this process owns a chamber by the assignment it knows to be in force: what a message may be judged
 * under. False while the claim is uncertain though NATS is there (this process has slept). A process that is
 * cut off goes on owning what it had: that no chamber is served by two is the server's word (filters never
 * overlap, fencing deletes). */
bool cluster_owns(const struct cluster *cluster, const char *chamber);

/* Heartbeats on the wire. ERR_INVALID, ERR_NO_MEMORY. */
void cluster_heartbeat_format(const struct cluster_heartbeat *heartbeat, struct strbuf *json);
int cluster_heartbeat_parse(const char *json, size_t length, struct cluster_heartbeat *heartbeat,
                            struct error *err);

const char *cluster_state_name(enum cluster_state state); /* "FOLLOWER", ... */
const char *cluster_lifecycle_name(enum cluster_lifecycle lifecycle);
const char *cluster_bucket_name(enum cluster_bucket bucket); /* "stable-ids", ... */

#endif
