/* The inside of a cluster machine, shared by the files of this room.
 *
 * One struct holds all state. A step runs from the event to the parts in a fixed order (cluster.c); parts
 * speak to each other by the functions below and to the world by appending actions. Whoever runs out of
 * memory sets `failed`, and goes on as far as is safe: the step then ends with ERR_NO_MEMORY, for good. */
#ifndef CHAMBERLAIN_CLUSTER_MACHINE_H
#define CHAMBERLAIN_CLUSTER_MACHINE_H

#include "cluster/cluster.h"
#include "cluster/plant.h"

enum {
    CLUSTER_PASS_MS = 50,    /* how often the leader looks at everybody */
    CLUSTER_IDLE_MS = 500,   /* how often anybody looks at the time at least */
    CLUSTER_RETRY_MS = 50,   /* before asking again after a refusal whose reason the watch has yet to tell */
    CLUSTER_STAGGER_MS = 10, /* between candidates for the lease ... */
    CLUSTER_STAGGER_STEPS = 16,    /* ... of which so many are told apart */
    CLUSTER_WRITES_IN_FLIGHT = 64, /* of one commit */
    CLUSTER_ADOPTIONS_MAX = 256,   /* orphan chambers listed in the roster in one scan */
    CLUSTER_DOUBT_TRIES = 3        /* refusals of a renewal in doubt before the lease counts as lost */
};

/* A question under way. token 0: none. */
struct request {
    uint64_t token;
    int64_t sent_ms;
};

/* What is watched. One pattern each, so that the end of a first pass can be told apart. */
enum watch_kind {
    WATCH_CLAIMS, /* stable-ids > */
    WATCH_CLAIM,  /* stable-ids, own key */
    WATCH_LEASE,
    WATCH_MAP,
    WATCH_TO,     /* assignments, own key */
    WATCH_TO_ALL, /* assignments to.> */
    WATCH_ROSTER,
    WATCH_COUNT
};

struct watch {
    bool active;
    bool current; /* everything that existed has been given since the last (re)start */
    enum cluster_bucket bucket;
    char pattern[CLUSTER_NAME_BYTES + 16];
};

/* documents.c: what is written in the buckets. The parsers check every field; ERR_CORRUPT names the one at
 * fault. */
struct claim {
    uint64_t incarnation;
    char version[CLUSTER_NAME_BYTES];
    char group[CLUSTER_NAME_BYTES];
    double share;
};

struct lease {
    char id[CLUSTER_NAME_BYTES];
    uint64_t incarnation;
    uint64_t
        serial; /* counts this process's writes of the lease, so that the watch tells which one has arrived */
};

struct header_member {
    int number;
    uint64_t assigned; /* version of its to.* key that is in force */
    uint64_t revision; /* KV revision of that very write */
    size_t count;
    int64_t weight;
};

struct header {
    bool present;
    uint64_t revision; /* of the key `map`, 0 none seen */
    uint64_t version;
    uint64_t token;
    uint64_t rebalances, emergencies; /* ever */
    struct header_member *members;    /* by ascending number */
    size_t member_count;
};

struct held_set {
    uint64_t version;
    uint64_t revision; /* 0: none seen */
    char **chambers;   /* sorted */
    size_t count;
};

/* member.c */
enum member_phase {
    MEMBER_LOOKING,  /* waits for the first pass over the claims */
    MEMBER_CLAIMING, /* a claim is under way or about to be */
    MEMBER_STANDBY,
    MEMBER_HOLDING,
    MEMBER_RELEASING,
    MEMBER_GONE
};

enum member_question { CLAIM_CREATE, CLAIM_TAKE_OVER, CLAIM_RENEW, CLAIM_RECREATE, CLAIM_RELEASE };

struct member {
    enum member_phase phase;
    int number; /* of the ID held or asked for; -1 */
    char id[CLUSTER_NAME_BYTES];
    uint64_t incarnation; /* the config's, mixed with the number of lives */
    unsigned lives;
    uint64_t revision;       /* of the claim */
    uint64_t asked_revision; /* what it was when the question was asked */
    uint64_t seen_revision;  /* of the number asked for, as the watch knew it when it was asked for */
    bool in_doubt;           /* a renewal's outcome is not known */
    enum member_question question;
    struct request request;
    int64_t renewed_ms; /* when the newest write that succeeded was sent */
    int64_t doubted_ms; /* when the connection in use began, or this process last woke from a sleep */
    int64_t next_renewal_ms, next_beat_ms, retry_ms;
    bool inheriting; /* the claim asked for is the predecessor's */
    bool stopping, drained;
    bool news; /* something has changed since it last looked for an ID */
    int64_t next_look_ms;
    uint64_t filters_in_force;     /* what the server's consumer filters on */
    int losses;                    /* claims lost to others since the last success */
    char why[CLUSTER_TRACE_BYTES]; /* why it stands by, as last traced */
};

/* election.c */
enum election_question { LEASE_CREATE, LEASE_TAKE_OVER, LEASE_RENEW, LEASE_RESIGN };

struct election {
    bool present, confirmed;
    struct lease lease;
    uint64_t revision;     /* newest the watch has told of */
    int64_t seen_ms;       /* of the newest update */
    int64_t free_since_ms; /* while absent */
    bool held;
    uint64_t token, held_revision;
    uint64_t asked_revision; /* what held_revision was when the question was asked */
    int64_t acting_until_ms;
    bool was_acting;
    uint64_t serial;
    int64_t serial_sent_ms;
    bool in_doubt;
    int refusals;
    bool told_late; /* that the leader's lease ran out */
    bool take_over; /* the stale lease is still stored: go over its revision */
    enum election_question question;
    struct request request;
    int64_t retry_ms, next_renewal_ms;
    int predecessor; /* number of the leader whose lease ran out, -1: asked after first */
    int64_t predecessor_seen_ms;
};

/* holder.c */
struct holder {
    struct held_set to; /* own key as last seen */
    bool to_confirmed;
    struct held_set owned; /* in force here */
    bool header_confirmed;
};

/* peers.c: the others (and this one), by number. */
struct peer {
    bool claimed, confirmed;
    uint64_t claim_revision;
    int64_t claim_seen_ms;
    struct claim claim; /* incarnation 0: nobody ever seen */
    int64_t heard_ms;   /* newest sign of life */
    bool heard;         /* there was one, not only a claim that was stored before */
    bool met;           /* ... since this process is connected: absence now means something */
    bool leaving, released, dead;
    uint64_t dead_claim; /* revision of the claim to take away when the fence holds */
    struct request probe, fence;
    bool fenced;
    bool removing; /* leaves the map with the commit under way */
    uint64_t in_force;
    /* assignment */
    bool in_map;
    struct header_member header;
    bool to_present;
    uint64_t to_version, to_revision;
    bool to_confirmed;
    uint32_t *owned; /* places in the roster */
    size_t owned_count;
    uint64_t owned_hash; /* of the set */
};

struct peers {
    struct peer *items;
    size_t count; /* numbers 0 .. count-1 have a place */
};

/* roster.c */
struct chamber {
    char *name;
    uint64_t hash;
    int64_t registered; /* points of a run, or the default */
    double observed;    /* points an hour; negative: not known */
    int64_t weight;     /* what it counts with: roster_weigh makes it of both */
    bool listed;        /* in the bucket */
    bool removed;       /* its key was deleted */
    bool placed;        /* some defender owns it by the committed assignment */
    int32_t owner;      /* scratch of commit.c: number, or -1 */
};

struct roster {
    struct chamber *items;
    size_t count, capacity;
    uint32_t *slots; /* open addressing, place + 1 */
    size_t slot_count;
    bool full;      /* more chambers than CLUSTER_CHAMBERS_MAX were named */
    bool changed;   /* there is something to place or to drop */
    bool unweighed; /* roster_weigh has something to do */
    int64_t changed_ms;
    bool reweighed;
};

/* commit.c */
enum commit_kind {
    COMMIT_STAMP,     /* the same assignment under a new leader's token */
    COMMIT_PLACE,     /* chambers that nobody owns */
    COMMIT_EMERGENCY, /* those of the dead */
    COMMIT_PLANNED,   /* everything may move within its budget */
    COMMIT_RELEVEL    /* as planned, for weights that changed */
};

enum commit_phase { COMMIT_IDLE, COMMIT_WRITING, COMMIT_HEADER };

struct commit_part {
    int number;
    uint32_t *chambers;
    size_t count;
    int64_t weight;
    uint64_t hash;
    size_t gained;
    bool changed, written;
    uint64_t revision; /* of its key, once written */
    struct request request;
    int64_t retry_ms;
};

struct commit {
    enum commit_phase phase;
    enum commit_kind kind;
    bool cold;
    bool few;           /* most are silent: then silence says more about this process than about them */
    struct arena arena; /* parts and their chambers */
    struct commit_part *parts;
    size_t part_count;
    uint64_t version;
    struct request request; /* of the header */
    int64_t retry_ms;
    char *header;
    size_t moved, placed, moved_least, dropped;
    double heaviest;
    int64_t started_ms;
    char what[CLUSTER_TRACE_BYTES];
};

/* controller.c: everybody, counted by what is to be done about them. */
struct census {
    int alive;     /* members and newcomers, heard and not leaving */
    int joined;    /* alive, not in the map */
    int leaving;   /* in the map, said so, still there */
    int left;      /* in the map, ID released */
    int dead;      /* in the map */
    int undecided; /* in the map, not heard yet, not dead either */
    int silent;    /* in the map, being asked whether it is alive */
    int differing; /* in the map, but its key is not what the map means */
};

struct controller {
    bool running, loaded, stamped, classified;
    bool asked_predecessor;
    struct census census; /* as of the last pass */
    int64_t trusted_ms;   /* absence is believed from then on */
    int64_t started_ms;
    bool window_open, window_cold;
    int64_t opened_ms, changed_ms;
    int64_t next_pass_ms, next_orphans_ms, next_reweigh_ms;
    int64_t fenced_ms; /* when the first of those that leave was fenced, 0: none */
    struct request orphans;
    uint64_t highest_version; /* used or seen */
    struct commit commit;
    bool settled; /* the newest version has been reported in force by all */
    int64_t committed_ms;
    enum cluster_lifecycle lifecycle; /* as last told */
    uint64_t rebalances, emergencies, moved, restarts;
};

struct cluster {
    struct cluster_config config;
    char version[CLUSTER_NAME_BYTES], group[CLUSTER_NAME_BYTES], role[CLUSTER_NAME_BYTES];
    int64_t now_ms, next_tick_ms;
    bool stepped, connected, ever_connected, failed;
    bool listening;
    uint64_t last_token;
    struct watch watches[WATCH_COUNT];
    struct member member;
    struct election election;
    struct header header;
    struct holder holder;
    struct peers peers;
    struct roster roster;
    struct controller controller;
    enum cluster_state state; /* as last told */
    char told_id[CLUSTER_NAME_BYTES], told_leader[CLUSTER_NAME_BYTES];
    struct cluster_actions *actions; /* during a step */
    struct cluster_action discarded; /* what is written into when there is no memory for an action */
};

/* actions.c. Texts are copied into the arena of the actions. */
struct cluster_action *actions_add(struct cluster *c, enum cluster_action_kind kind);
const char *actions_text(struct cluster *c, const char *text);
void trace(struct cluster *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct request ask_create(struct cluster *c, enum cluster_bucket bucket, const char *key, const char *value);
struct request ask_update(struct cluster *c, enum cluster_bucket bucket, const char *key, const char *value,
                          uint64_t revision);
struct request ask_delete(struct cluster *c, enum cluster_bucket bucket, const char *key, uint64_t revision);
struct request ask(struct cluster *c, enum cluster_action_kind kind,
                   const char *id); /* PROBE, FENCE, LIST_SUBJECTS */
/* True when `request` is under way longer than `limit_ms`: it is then forgotten, and its outcome not known.
 */
bool request_expire(const struct cluster *c, struct request *request, int64_t limit_ms);
bool request_is(const struct request *request, const struct cluster_event *event);
void watch_begin(struct cluster *c, enum watch_kind kind, enum cluster_bucket bucket, const char *pattern);
void watch_end(struct cluster *c, enum watch_kind kind);
void listen_begin(struct cluster *c);
void listen_end(struct cluster *c);

/* documents.c */
void id_format(const struct cluster *c, int number, char id[static CLUSTER_NAME_BYTES]);
int id_parse(const struct cluster *c, const char *id); /* -1: no ID of this role and pool */
bool claim_format(const struct claim *claim, struct strbuf *json);
int claim_parse(const char *json, size_t length, struct claim *claim, struct error *err);
bool lease_format(const struct lease *lease, struct strbuf *json);
int lease_parse(const char *json, size_t length, struct lease *lease, struct error *err);
/* Fills `header` but for `revision`; members are malloc'ed: header_free. */
int header_parse(const struct cluster *c, const char *json, size_t length, struct header *header,
                 struct error *err);
void header_free(struct header *header);
/* Chambers are malloc'ed and sorted: held_set_free. */
int to_parse(const char *json, size_t length, struct held_set *set, struct error *err);
void held_set_free(struct held_set *set);
/* `observed`: negative when there is none. */
int weight_parse(const char *json, size_t length, int64_t *weight, double *observed, struct error *err);

/* member.c */
void member_start(struct cluster *c);
void member_on_connected(struct cluster *c);
void member_on_slept(struct cluster *c);
void member_on_own_claim(struct cluster *c, const struct claim *claim, uint64_t revision);
bool member_on_done(struct cluster *c, const struct cluster_event *event);
void member_on_consumer_lost(struct cluster *c);
void member_on_stop(struct cluster *c);
void member_on_drained(struct cluster *c);
void member_tick(struct cluster *c);
void member_beat(struct cluster *c); /* says a heartbeat now */
bool member_holds(const struct cluster *c);
bool member_is_certain(const struct cluster *c);
bool member_inherits(const struct cluster *c); /* what the config's predecessor held */
int64_t member_due_ms(const struct cluster *c);

/* election.c */
void election_start(struct cluster *c); /* an ID is held: takes part */
void election_stop(struct cluster *c);  /* no ID any more, or stopping: resigns */
void election_on_connected(struct cluster *c);
void election_on_current(struct cluster *c);
void election_on_lease(struct cluster *c, const struct lease *lease, uint64_t revision);
bool election_on_done(struct cluster *c, const struct cluster_event *event);
void election_tick(struct cluster *c);
void election_step_down(struct cluster *c, const char *why);
bool election_acts(const struct cluster *c);  /* may act as leader now */
bool election_knows(const struct cluster *c); /* a leader other than this one */
int64_t election_due_ms(const struct cluster *c);

/* holder.c */
void holder_start(struct cluster *c);
void holder_stop(struct cluster *c); /* owns nothing from now on, and leaves the consumer alone */
void holder_on_connected(struct cluster *c);
void holder_on_current(struct cluster *c, enum watch_kind kind);
void holder_on_to(struct cluster *c, const char *value, size_t length, uint64_t revision);
void holder_on_header(struct cluster *c, const char *value, size_t length, uint64_t revision);
void holder_evaluate(struct cluster *c);
void holder_free(struct cluster *c);

/* peers.c */
struct peer *peers_get(struct cluster *c, int number); /* NULL: not in the pool, or no memory */
void peers_on_connected(struct cluster *c);
void peers_on_claim(struct cluster *c, int number, const struct claim *claim, uint64_t revision);
void peers_on_claims_current(struct cluster *c);
void peers_on_heartbeat(struct cluster *c, const struct cluster_heartbeat *heartbeat);
void peers_shift(struct cluster *c, int64_t slept_ms); /* silence while this process slept does not count */
void peers_watch(struct cluster *c); /* one pass: asks after the silent, declares the dead */
bool peers_on_probed(struct cluster *c, const struct cluster_event *event);
bool peer_is_stale(const struct cluster *c, const struct peer *peer); /* its claim may be taken over */
void peers_clear(struct cluster *c);

/* roster.c */
struct chamber *roster_find(const struct roster *roster, const char *name);
/* Finds or adds; -1: no memory or CLUSTER_CHAMBERS_MAX. */
int64_t roster_place(struct cluster *c, const char *name);
void roster_on_entry(struct cluster *c, const char *key, const char *value, size_t length);
void roster_on_subjects(struct cluster *c, const struct cluster_event *event);
void roster_weigh(struct cluster *c); /* before weights are used */
void roster_clear(struct cluster *c);

/* controller.c */
void controller_start(struct cluster *c);
void controller_stop(struct cluster *c);
void controller_on_connected(struct cluster *c);
void controller_on_current(struct cluster *c, enum watch_kind kind);
void controller_on_header(struct cluster *c); /* c->header has changed */
void controller_on_to(struct cluster *c, int number, const char *value, size_t length, uint64_t revision);
bool controller_on_done(struct cluster *c, const struct cluster_event *event);
bool controller_on_fenced(struct cluster *c, const struct cluster_event *event);
bool controller_on_subjects(struct cluster *c, const struct cluster_event *event);
void controller_on_stamped(struct cluster *c);  /* the map is under this leader's token */
void controller_note_change(struct cluster *c); /* someone joined, left or was replaced */
void controller_tick(struct cluster *c);
int64_t controller_due_ms(const struct cluster *c);
enum cluster_lifecycle controller_lifecycle(const struct cluster *c);
size_t controller_count_alive(const struct cluster *c);

/* commit.c */
/* Plans and begins to write. Peers marked `removing` leave the map. Returns false when nothing would change,
 * or nobody is there to own anything: no commit is then under way. */
bool commit_begin(struct cluster *c, enum commit_kind kind, bool cold, const char *what);
void commit_continue(struct cluster *c);
bool commit_on_done(struct cluster *c, const struct cluster_event *event);
void commit_on_to(struct cluster *c, int number); /* peer's key has changed */
void commit_on_header(struct cluster *c);         /* the header has changed */
void commit_abandon(struct cluster *c);
bool peer_is_begun(const struct cluster *c, const struct peer *peer);
uint64_t owned_hash_add(uint64_t sum, uint64_t chamber_hash); /* of a set: in any order */

#endif
