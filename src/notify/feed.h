/* The alarms stream as one sink sees it: a durable pull consumer of its own, kept at the server over
 * restarts.
 *
 * Unlike src/bus/consumer.h, which shares a work queue out, it never changes what it filters on and is never
 * made anew as long as the server has it: its position in the stream is what makes delivery certain. */
#ifndef CHAMBERLAIN_NOTIFY_FEED_H
#define CHAMBERLAIN_NOTIFY_FEED_H

#include "bus/bus.h"
#include "bus/consumer.h"

enum {
    FEED_BATCH_MAX = 256,
    FEED_EXPIRES_MS = 30000,
    FEED_HEARTBEAT_MS = 5000,
    FEED_SILENCE_MS = 12000, /* more than two heartbeats missed: asked anew */
    FEED_RETRY_MS = 500
};

struct feed;

struct feed_options {
    const char *stream, *durable;
    int64_t ack_wait_ms;
    int64_t max_ack_pending;
    int64_t since_us; /* a new consumer begins with what was stored then */
    int replicas;
};

struct feed_events {
    void (*message)(void *arg, const struct consumer_message *message);
    void *arg;
};

/* Copies the options; asks for nothing yet. ERR_NO_MEMORY, ERR_UNAVAILABLE, ERR_LIMIT. */
int feed_open(struct bus *bus, const struct feed_options *options, const struct feed_events *events,
              struct feed **feed, struct error *err);

/* From now on (or no longer) messages are asked for: the consumer is made when it is absent; while there is
 * no stream yet it is tried again. */
void feed_start(struct feed *feed);
void feed_stop(struct feed *feed);

/* How many more messages may come. */
void feed_want(struct feed *feed, size_t wanted);

/* Frees once open calls are answered; no event comes any more. */
void feed_close(struct feed *feed);

#endif
