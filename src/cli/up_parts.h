/* Inside `chamberlain up`: the cluster of one directory, and what the parts of the command ask of each other.
 * Only up*.c include this. One thread, the loop's. */
#ifndef CHAMBERLAIN_CLI_UP_PARTS_H
#define CHAMBERLAIN_CLI_UP_PARTS_H

#include "cli/command.h"
#include "cli/scaler.h"
#include "cli/session.h"
#include "cli/supervisor.h"

#include <limits.h>

enum {
    UP_DEFENDERS_MAX = 512,
    UP_COLLECTORS_MAX = 64,
    UP_POLL_MS = 50,
    UP_DEFENDER_STOP_MS = 28 * 1000 /* its own drain takes 25 s at most */
};

struct up {
    const char *dir_given, *charts_file, *store_given, *log_level, *log_format, *defenders_given;
    int64_t nats_port, http_port;
    size_t defenders; /* to begin with */
    struct scaler_options scale;
    const char *compute_threads, *sweep_age, *sweep_interval, *ack_wait, *missing_delay, *tchart_retention,
        *uchart_retention;
    bool retain_by_event;

    char dir[PATH_MAX];
    char self[PATH_MAX];
    char pid_text[32]; /* of this process, for the children: who is to die with it */
    char nats_url[SESSION_PATH_BYTES];
    char store_url[SESSION_PATH_BYTES];
    char store_text[SESSION_PATH_BYTES]; /* what --store said, now or the last time */
    int port;
    int lock;
    uv_loop_t loop;
    uv_signal_t term, interrupt;
    bool stopping;
    struct supervisor *supervisor;
    struct supervised *server, *cassandra; /* NULL: not ours to run */
    struct supervised
        *seats[UP_DEFENDERS_MAX];        /* a defender each; which ID it has is the cluster's business */
    int metrics_ports[UP_DEFENDERS_MAX]; /* of the seats' defenders; 0: none */
    size_t seat_count;
    struct supervised *collectors[UP_COLLECTORS_MAX];
    int collector_ports[UP_COLLECTORS_MAX]; /* likewise of their metrics */
    size_t collector_count;
    int64_t collectors_wanted;
    struct supervised *web; /* NULL: no --http-port was given */
    const char *notify_given;
    char notify_file[PATH_MAX];
    struct supervised *notify; /* NULL: no --notify was given */
    int notify_port;           /* of its metrics; 0: none */
    const char *version;       /* label of what is started from now on */
    char version_text[128];
    uv_signal_t roll_signal;
    bool roll_asked;
    int rolls; /* successors have seats of their own */
    struct scaler scaler;
    uv_timer_t scale_timer;
    bool scale_due;
};

/* --- up_directory.c: the directory, and the files that others find the cluster by --- */

/* Makes it, and keeps others out. ERR_IO; ERR_CONFLICT: another runs there. */
int up_make_dir(struct up *up, struct error *err);

/* cluster.json, and prometheus-targets.json where metrics are served. Written anew, under another name first,
 * whenever a child has changed. `arg` is the struct up: the supervisor calls it too. */
void up_write_cluster_file(void *arg);

/* The port of the last time, so that clients which remember it find the cluster again. */
int up_remembered_port(const struct up *up);

/* --- up_store.c: the store and the charts in it --- */

/* --store, or what it was the last time, or "sqlite". */
void up_take_store_option(struct up *up);
bool up_store_is(const struct up *up, const char *kind);

/* The store's URL, but for a Cassandra node of ours, whose port is not known yet. ERR_INVALID, ERR_LIMIT. */
int up_name_store(struct up *up, struct error *err);

/* Opened once here, so that a store that cannot be used is said at once and by name; takes the charts in. */
int up_prepare_store(struct up *up, struct error *err);

/* Starts the node, if there is to be one; it takes some seconds until it answers, and has the tables. */
int up_start_cassandra(struct up *up, struct error *err);
int up_wait_for_cassandra(struct up *up, struct error *err);

/* --- up_children.c: the other processes --- */

/* Lets the loop run for a moment: deaths and signals are handled. */
void up_pause_ms(struct up *up, int ms);

/* The last words of a child that does not come up, to stderr. */
void up_print_log_tail(const char *path);

/* Before anything is started, so that a mistake is said at once. ERR_INVALID, ERR_IO. */
int up_check_collectors(const struct up *up, struct error *err);
int up_check_notify(struct up *up, struct error *err);

int up_start_server(struct up *up, struct error *err); /* unless one is given; until it answers */
int up_start_defender(struct up *up, size_t seat, struct supervised **child, struct error *err);
int up_start_defenders(struct up *up, struct error *err);
int up_start_collectors(struct up *up, struct error *err);
int up_start_web(struct up *up, struct error *err);
int up_start_notify(struct up *up, struct error *err);

/* Has its place in the cluster: FOLLOWER or LEADER. */
bool up_is_at_work(const char *state);

/* Waits until a defender or a collector is in a state that `wanted` accepts. ERR_UNAVAILABLE. */
int up_wait_for_state(struct up *up, struct session *session, struct supervised *child,
                      bool (*wanted)(const char *state), struct error *err);

/* Ready when every defender and every collector has its place. */
int up_wait_until_ready(struct up *up, struct session *session, struct error *err);

/* Defenders first, so that what they finish can still be acknowledged. */
void up_stop_children(struct up *up);

/* --- up_roll.c: replacing the defenders one by one --- */

/* `up roll` has left the new version's label in a file; it waits for the file to go. */
void up_roll_defenders(struct up *up, struct session *session);

int cli_up_roll(int argc, char **argv);

#endif
