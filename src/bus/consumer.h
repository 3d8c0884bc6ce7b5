/* One defender's durable pull consumer: which subjects it filters on, and the messages it is given.
 *
 * Two facts of JetStream's work queues shape it (measured on nats-server 2.15; docs/protocol.md draws both):
 *   - two consumers may not filter on one subject: growing is refused (10100) until the other has let go. So
 * filters are first shrunk, at once, and then grown, again and again every CONSUMER_GROW_RETRY_MS until it is
 * accepted;
 *   - a consumer that gains a subject has already gone past the messages that wait there. So after growing it
 * is set back to the stream's first message: CONSUMER.RESET where the server has it (2.14), delete and create
 * otherwise. A work queue holds only what is not acknowledged, so nothing done is read again; what is in
 * flight here comes a second time, and is known by its stream sequence. An empty set of filters would mean
 * "everything" to the server: the consumer is deleted instead. */
#ifndef CHAMBERLAIN_BUS_CONSUMER_H
#define CHAMBERLAIN_BUS_CONSUMER_H

#include "bus/bus.h"

enum {
    CONSUMER_GROW_RETRY_MS = 50,
    CONSUMER_PULL_EXPIRES_MS = 30000,
    CONSUMER_HEARTBEAT_MS = 5000,
    CONSUMER_FILTERS_MAX = 100000,
    CONSUMER_PULLS_MAX = 8 /* pull requests waiting at the server at one time */
};

struct consumer;

/* A message of the stream, valid during the call. */
struct consumer_message {
    const struct bus_message *bus;
    uint64_t stream_sequence;
    uint64_t consumer_sequence; /* counts the consumer's deliveries from 1 */
    uint64_t deliveries;        /* 1: the first */
    int64_t stored_us;          /* when the stream took it, wall clock of the server */
    const char *ack_reply;      /* where consumer_ack and its siblings go */
};

struct consumer_events {
    void (*message)(void *arg, const struct consumer_message *message);
    /* The consumer is gone at the server (deleted by another: fenced; or the stream was lost). Nothing is
     * pulled until consumer_set_filters is called again. A change under way has ended with ERR_NOT_FOUND just
     * before. */
    void (*lost)(void *arg, const char *reason);
    void *arg;
};

enum consumer_reset { CONSUMER_RESET_AUTO, CONSUMER_RESET_BY_API, CONSUMER_RESET_BY_CREATE };

struct consumer_options {
    const char *stream;
    const char *durable;
    int64_t ack_wait_ms;
    int64_t max_ack_pending;
    int replicas;
    enum consumer_reset reset; /* AUTO: as the level of the server's API says */
};

/* Copies the options. Nothing is sent before consumer_set_filters. ERR_NO_MEMORY, ERR_UNAVAILABLE,
 * ERR_INVALID and ERR_LIMIT (the names). */
int consumer_new(struct bus *bus, const struct consumer_options *options,
                 const struct consumer_events *events, struct consumer **consumer, struct error *err);

/* Stops pulling and frees, once the loop turns and open calls are answered. A change under way gets
 * ERR_CLOSED, before this returns. The consumer stays at the server, with what it has not acknowledged. May
 * be called from an event. */
void consumer_free(struct consumer *consumer);

typedef void consumer_done(void *arg, int code, const struct error *error);

/* Makes the server's consumer filter on exactly these subjects (borrowed during the call only), creating it
 * when absent, and sets it back to the stream's beginning if it gained one or the connection was lost since.
 * At the first call and after `lost` the consumer is made anew; one that was known to be there is only
 * updated, so that what another has deleted does not come back. A call while another is under way replaces
 * it: the earlier `done` gets ERR_CLOSED. `done` runs once, when it is in force (0), or cannot be
 * (ERR_NOT_FOUND: no stream, or the consumer was deleted by another meanwhile; ERR_INVALID). What may pass
 * (no connection, no leader, subject still held by another) is tried again without end. */
void consumer_set_filters(struct consumer *consumer, const char *const *filters, size_t count,
                          consumer_done *done, void *arg);

/* Deletes the consumer at the server; done gets 0 also when it was not there. */
void consumer_release(struct consumer *consumer, consumer_done *done, void *arg);

/* From now on `wanted` more messages may come (this replaces the number of before; 0 stops pulling, though
 * what the server was asked for before may still come). */
void consumer_want(struct consumer *consumer, int64_t wanted);

/* The connection was lost: pull requests at the server are gone with it, and perhaps messages on their way.
 * Nothing is pulled until consumer_set_filters is called again. */
void consumer_on_disconnected(struct consumer *consumer);

/* Acknowledgements: fire and forget. A lost one means a redelivery, which is idempotent. */
void consumer_ack(struct bus *bus, const char *ack_reply);
void consumer_extend(struct bus *bus, const char *ack_reply); /* +WPI: still at work */
/* -NAK: deliver it again after a while (here, or to whoever has the subject then). Until then it counts as
 * pending. */
void consumer_postpone(struct bus *bus, const char *ack_reply, int64_t delay_ms);
/* +TERM: never again. The work queue lets go of the message, as if it had been acknowledged: whoever wants to
 * keep it has copied it before. */
void consumer_terminate(struct bus *bus, const char *ack_reply);

/* Reads the parts of an ack subject: "$JS.ACK.S.C.deliveries.sseq.cseq.ns.pending", or with domain and
 * account before S. ERR_INVALID when it is none. */
int consumer_parse_ack(const char *reply, struct consumer_message *message, struct error *err);

#endif
