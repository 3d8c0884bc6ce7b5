/* The simulated world: processes with clocks of their own, links that delay and hold, one NATS server, all
 * from one seed.
 *
 * Everything happens in calls from one queue (queue.h) on one thread. A process is src/cluster, unchanged,
 * and a carrier (process.c, carrier.c) that does what the defender's shell does in production. */
#ifndef CHAMBERLAIN_SIM_WORLD_H
#define CHAMBERLAIN_SIM_WORLD_H

#include "nats.h"
#include "queue.h"
#include "random.h"

#include "cluster/cluster.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SIM_SECOND_US = 1000000,
    SIM_MS_US = 1000,
    SIM_CONNECTIONS_MAX = 8, /* of one process: its own, and dead ones the server still believes in */
    SIM_KEY_BYTES = 64,
    SIM_WATCHES_MAX = 16,
    SIM_IN_FLIGHT_MAX = 8, /* contexts at work in one process */
    SIM_WANTED_MAX = 16,   /* messages asked for */
    SIM_NAME_BYTES = 16,   /* of a chamber: "T00012.1" */
    SIM_HELD_BEATS_MAX = 64
};

struct world;
struct process;
struct faults;
struct invariants;

struct sim_options {
    uint64_t seed;
    size_t defenders;
    size_t chambers;
    double hours;
    double publish_per_s;
    uint64_t faults; /* a bit for each enum fault_kind */
    bool trace;
    int only; /* the one invariant that counts (enum invariant); -1: all */
};

/* --- network.c --- */

enum packet_kind {
    /* to the server */
    PACKET_CONNECT,
    PACKET_CLOSE,
    PACKET_KV,
    PACKET_WATCH,
    PACKET_UNWATCH,
    PACKET_CONSUMER_SET,
    PACKET_CONSUMER_RESET,
    PACKET_CONSUMER_DELETE,
    PACKET_PULL,
    PACKET_ACK,
    PACKET_EXTEND,
    PACKET_SUBJECTS,
    PACKET_BEAT,
    PACKET_SUBSCRIBE,
    PACKET_PROBE,
    PACKET_PROBE_ANSWER,
    /* to the process */
    PACKET_CONNECTED,
    PACKET_CLOSED,
    PACKET_DONE,
    PACKET_ENTRY,
    PACKET_CURRENT,
    PACKET_MESSAGE,
    PACKET_DELETED,
    PACKET_HEARD,
    PACKET_ASKED
};

struct beat {
    unsigned refs;
    struct cluster_heartbeat heartbeat;
};

struct packet {
    enum packet_kind kind;
    struct packet *next; /* in a list of held ones */
    struct process *process;
    uint64_t epoch; /* the connection it travels on */
    uint64_t request;
    int code;
    int bucket;
    int consumer;
    enum cluster_action_kind write; /* PACKET_KV */
    bool create;                    /* PACKET_CONSUMER_SET */
    bool fence;                     /* PACKET_CONSUMER_DELETE */
    bool delayed;                   /* has been slowed down once */
    char key[SIM_KEY_BYTES];
    struct nats_value *value;
    uint64_t revision;
    uint64_t watch;
    uint64_t sequence, deliveries;
    uint32_t chamber;
    uint32_t *chambers; /* owned */
    size_t count;
    struct beat *beat;
    size_t asker; /* PACKET_ASKED, PACKET_PROBE_ANSWER: the process that asked, on which connection */
    uint64_t asker_epoch;
};

struct packet *packet_new(struct process *process, enum packet_kind kind);

/* From the process to the server on its connection; dropped when it has none. Takes the packet. */
void network_send(struct process *process, struct packet *packet);

/* Starts trying to connect. */
void network_connect(struct process *process);

/* The link holds everything back, or lets it go. */
void network_cut(struct process *process);
void network_heal(struct process *process);

/* What was held for a paused process arrives now. */
void network_flush(struct process *process);

/* The process is gone: the server hears of it now, or (its host is gone too) by its pings. */
void network_process_gone(struct process *process, bool host_too);

/* One connection is reset; the whole server goes away, or comes back. */
void network_reset(struct process *process);
void network_server_down(struct world *world);
void network_server_up(struct world *world);

/* JetStream answers nothing until then; core NATS goes on. */
void network_stall(struct world *world, int64_t until_us);

/* The publisher of contexts: a client of the server too. */
void network_publish(struct world *world, uint32_t chamber);

struct nats_hooks network_hooks(struct world *world);
void network_free(struct world *world);

/* --- process.c --- */

enum request_kind { REQUEST_KV, REQUEST_PROBE, REQUEST_FENCE, REQUEST_SUBJECTS, REQUEST_CONSUMER };

struct request {
    uint64_t id;
    enum request_kind kind;
    uint64_t token;
};

struct watch {
    uint64_t id;
    int bucket;
    char pattern[SIM_KEY_BYTES];
    bool current; /* the server has answered */
};

struct job {
    uint64_t sequence;
    uint32_t chamber;
    int consumer;
    bool running;
    bool orphaned; /* no longer ours; it only runs to its end */
};

enum carrier_step { STEP_IDLE, STEP_DELETE, STEP_SHRINK, STEP_WARM, STEP_GROW, STEP_RESET };

struct chamber_set {
    uint32_t *items; /* ascending */
    size_t count;
};

/* The client side of one defender's consumer, as src/bus/consumer.c. */
struct carrier {
    int consumer;                    /* N of the ID under which it works; NATS_NOBODY */
    struct chamber_set wanted, held; /* asked for by the cluster; what the server's consumer holds at least */
    uint64_t version;
    bool fresh;    /* nothing is known of the server's consumer: it is made anew */
    bool behind;   /* it must be set back to the stream's beginning */
    bool changing; /* a request is open: its outcome decides what is held */
    bool again;    /* another change has been asked for meanwhile */
    bool ready;    /* may pull */
    enum carrier_step step;
    uint64_t change; /* counts changes, so that a timer of an earlier one does nothing */
    size_t credit;   /* messages that the server may still send */
    bool detached;   /* ACTION_KEEP_CONSUMER */
    bool refused;    /* another still holds one of the filters */
    bool resume;     /* the connection was lost: the filters must be set again */
    bool warmed;
};

struct process {
    struct world *world;
    size_t index;
    uint64_t life; /* processes that this slot has had */
    bool alive, paused, cut;
    uint64_t incarnation;
    int version;
    struct cluster *cluster;
    struct cluster_actions actions;

    int64_t born_us, offset_us, jump_us;
    double rate;
    int64_t tick_due_us; /* the earliest tick in the queue */

    bool connected;                            /* it may send */
    bool told_connected;                       /* the cluster knows */
    uint64_t epoch;                            /* its connection; 0: none */
    uint64_t connections[SIM_CONNECTIONS_MAX]; /* as the server sees it; 0: free */
    int subscribed[SIM_CONNECTIONS_MAX];       /* N of the ID whose probes go there */
    int64_t last_up_us, last_down_us;          /* packets of a link arrive in order */
    int64_t slow_until_us, slow_us;
    struct packet *held_up, **held_up_end, *held_down, **held_down_end;
    size_t held_beats;

    struct request *requests;
    size_t request_count, request_capacity;
    uint64_t next_request;
    struct watch watches[SIM_WATCHES_MAX];
    size_t watch_count;
    uint64_t next_watch;

    int id;          /* N of its stable ID; NATS_NOBODY */
    int64_t held_us; /* since when */
    int checked_id;  /* ... that has been checked for another holder */
    struct carrier carrier;
    struct job *jobs;
    size_t job_count, job_capacity;
    bool listening; /* hears everybody's heartbeats */
    bool draining, drained_told, stopping;

    int64_t disturbed_us; /* when it was last paused, cut off, slowed, or cured of it: in person, not with all
                             others */
    int64_t disconnected_us; /* when it last lost or regained its connection, for whatever reason */
};

/* A new process in a free slot; NULL when there is none. */
struct process *process_start(struct world *world, int version);

/* SIGKILL; or the whole machine, whose connections nobody closes. */
void process_kill(struct process *process, bool host_too);
void process_pause(struct process *process);
void process_wake(struct process *process);
void process_stop(struct process *process); /* SIGTERM */
void process_jump_clock(struct process *process, int64_t by_us);
void process_free(struct process *process);

int64_t process_now_ms(const struct process *process);
struct cluster_status process_status(const struct process *process);
void process_step(struct process *process, const struct cluster_event *event);
void process_receive(struct process *process, struct packet *packet);
void process_connected(struct process *process);
void process_disconnected(struct process *process);
uint64_t process_request(struct process *process, enum request_kind kind, uint64_t token, int64_t timeout_ms);
void process_disturbed(struct process *process);

/* --- carrier.c --- */

void carrier_set_filters(struct process *process, const struct cluster_action *action);
void carrier_drain(struct process *process);
void carrier_keep(struct process *process);
void carrier_answered(struct process *process, int code);
void carrier_lost(struct process *process, int consumer);
void carrier_disconnected(struct process *process);
void carrier_message(struct process *process, const struct packet *packet);
void carrier_look(
    struct process *process); /* after each step: start what may start, pull what may be pulled */
void carrier_extend(struct process *process);
void carrier_free(struct process *process);
bool carrier_serves(const struct process *process, uint32_t chamber);

/* --- world.c --- */

struct world {
    struct sim_options options;
    struct sim_random random;
    struct sim_queue queue;
    int64_t now_us;
    uint64_t steps; /* of cluster machines */

    struct nats *nats;
    bool server_up;
    int64_t stalled_until_us;
    int64_t slow_until_us, lossy_until_us; /* writes are slow; writes or their answers get lost */
    uint64_t next_epoch;
    uint64_t next_incarnation;
    struct packet *free_packets;

    struct process *processes;
    size_t slots;

    char (*names)[SIM_NAME_BYTES]; /* "tool.chamber" */
    int64_t *weights;              /* as registered: points of a run */
    int64_t *observed;             /* as its owner tells: points an hour; -1: not yet */
    bool *known;                   /* published to, or in the roster: someone must own it */
    size_t chamber_count;          /* in use, of chambers_max */
    size_t chambers_max;

    struct faults *faults;
    struct invariants *invariants;
    bool failed;
};

void world_open(struct world *world, const struct sim_options *options);
void world_close(struct world *world);

/* Runs to the end or to the first violation; true when all went well. */
bool world_run(struct world *world);

/* As text, in the trace: simulated time, then the words. */
void world_trace(const struct world *world, const struct process *process, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts chamber `chamber` into the roster. */
void world_register(struct world *world, uint32_t chamber);

/* SIZE_MAX: no such chamber. */
size_t world_chamber(const struct world *world, const char *name);

/* N of a "defender-N"; NATS_NOBODY if it is none. */
int world_defender_number(const char *id);

/* A process that fits, chosen by chance; NULL when none does. */
typedef bool world_fits(const struct process *process);
struct process *world_choose(struct world *world, world_fits *fits);
struct process *world_leader(struct world *world);

void world_after(struct world *world, int64_t delay_us, sim_call *call, void *target, uint64_t argument);

#endif
