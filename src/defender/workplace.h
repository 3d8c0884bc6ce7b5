/* What a process that shares chambers with others of its kind stands on, whatever its work is (a defender
 * judges, a collector makes T-charts): a loop with its mailbox, the store, NATS with the streams, the
 * cluster, the doors for metrics and health, the subjects on which it is asked how it is, and a graceful end.
 *
 *     workplace_open         store, mailbox, NATS; the owner's work is opened on them
 *     workplace_join         seat, streams, cluster, HTTP, questions
 *     workplace_run          until it is over
 *     workplace_leave        HTTP, cluster, streams: nothing new comes
 *     workplace_disconnect   NATS, signals, store; the owner's work is closed
 *     workplace_close        mailbox, loop
 *
 * The last three close what is open, also after an error of the first two. Loop thread. */
#ifndef CHAMBERLAIN_DEFENDER_WORKPLACE_H
#define CHAMBERLAIN_DEFENDER_WORKPLACE_H

#include "defender/carrier.h"
#include "defender/provision.h"
#include "defender/seat.h"
#include "http/role.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

/* Defaults stand beside the fields; 0 and NULL choose them. */
struct workplace_options {
    const char *version;   /* of the software, shown in status: CHAMBERLAIN_VERSION */
    const char *nats_url;  /* required */
    const char *store_url; /* required */
    const char *cell;      /* "" */
    const char *seat;      /* none: a file of this process's place (seat.h) */
    const char *group;     /* "": blue, canary, ... shown in status */
    int pool;              /* 1,000: how many IDs there are; who finds none free stands by */
    int expected_members;  /* not known: windows then close on quiet alone */
    int replicas;          /* of streams and buckets: 1 */
    const char *credentials_file, *ca_file, *certificate_file, *key_file; /* none */
    const char *http_bind;                                                /* 127.0.0.1 */
    int http_port; /* 0: no metrics and no health over HTTP */
};

/* What is special to the owner. */
struct workplace_role {
    const char *name; /* "defend", "collect": in the name of its NATS connection */
    int drain_ms;     /* a graceful stop takes this long at most */

    void (*connected)(void *arg);       /* NATS is there (again): provision_begin when work may begin */
    void (*streams_ready)(void *arg);   /* they exist: carrier_on_connected when the owner is ready too */
    void (*stream_replaced)(void *arg); /* as provision_events.replaced */
    /* The cluster's state, leadership or ownership is another: place->cluster has it. NULL: not told. */
    void (*changed)(void *arg, const struct cluster_status *before);
    void (*stopping)(void *arg, int signal); /* SIGTERM or SIGINT came, once; the cluster is left next */
    /* Sets ERR_TIMEOUT and what is still under way after drain_ms. */
    int (*overdue)(void *arg, struct error *err);
    /* Adds to the status what comes after what the cluster says: `,"key":value`, as often as it likes. */
    void (*add_status)(void *arg, struct strbuf *json);
    void (*write_metrics)(void *arg, struct strbuf *out); /* everything for /metrics */
    void *arg;
};

/* A member of its owner, who sets it to 0 first and reads it as it likes. */
struct workplace {
    const struct workplace_options *options;
    struct workplace_role role;
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct store *store;
    struct bus *bus;
    struct provision *provision;
    struct carrier *carrier;       /* NULL before workplace_join */
    struct http_role *http;        /* NULL: no port was given */
    struct cluster_status cluster; /* as of the last change */
    char id[CLUSTER_NAME_BYTES];   /* whose questions are answered; "" for none */
    int64_t started_us;
    bool stopping;

    /* Of workplace.c alone. */
    struct seat seat;
    struct bus_subscription *questions;
    bool working; /* the streams were there once: a conflict after that is not fatal */
    bool placed;  /* it has had an ID, or stood by for one */
    bool finished;
    uv_signal_t term, interrupt;
    uv_timer_t drain_timer;
    int exit_code;
    struct error exit_error;
};

/* Fills in the defaults of cell, group and replicas. ERR_INVALID: the cell has no valid name. */
int workplace_settle_options(struct workplace_options *options, struct error *err);

/* `options`, settled, is kept. Waits for a store that is away. Errors as store_open, mailbox_open, bus_open.
 */
int workplace_open(struct workplace *place, const struct workplace_options *options,
                   const struct workplace_role *role, struct error *err);

/* Takes a place among the others; nothing is sent before the loop runs. `streams` is kept. Of `cluster` and
 * `ports` the owner sets what is its own (the kind, the worker, times, bounds); what the options and this
 * workplace know is filled in here. ERR_CONFLICT: the seat is taken; errors as seat_take, provision_open,
 * carrier_open, http_role_open, bus_subscribe. */
int workplace_join(struct workplace *place, const struct provision_stream *streams, size_t stream_count,
                   const struct carrier_options *cluster, const struct carrier_ports *ports,
                   struct error *err);

/* The owner's work would take more or less than before. May be told before workplace_join. */
void workplace_on_capacity(struct workplace *place);

/* Runs the loop until SIGTERM or SIGINT and the end of what is under way then. Returns 0; ERR_TIMEOUT when
 * that took longer than drain_ms; ERR_CONFLICT when a stream was found with other settings at first. */
int workplace_run(struct workplace *place, struct error *err);

void workplace_leave(struct workplace *place);
void workplace_disconnect(struct workplace *place);
/* Nothing may be under way on threads any more. */
void workplace_close(struct workplace *place);

#endif
