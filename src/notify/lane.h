/* The way to one sink: its consumer of the alarms stream, its grouper, its thread, and its journal.
 *
 * The journal is the grouper's saved state under the sink's name in the bucket `notify`. It is written before
 * a message goes out and after its alarms were acknowledged to the stream, each time by compare-and-set: a
 * notifier that was asleep while another took its place cannot send, and one that follows a crash sends the
 * very same message again, under the same key. */
#ifndef CHAMBERLAIN_NOTIFY_LANE_H
#define CHAMBERLAIN_NOTIFY_LANE_H

#include "base/mailbox.h"
#include "bus/bus.h"
#include "notify/config.h"
#include "notify/metrics.h"

enum {
    LANE_HELD_MAX = 4096,
    LANE_RETRY_MS = 500 /* until the journal is tried again */
};

#define LANE_BUCKET "notify"

struct lane;

struct lane_options {
    struct bus *bus;
    struct mailbox *mailbox;
    const char *cell;
    const struct notify_config *config; /* borrowed */
    size_t sink;                        /* index */
    int replicas;
    int64_t ack_wait_ms;
    uint64_t seed;
};

struct lane_events {
    void (*superseded)(void *arg, const char *sink);      /* another notifier has written the journal */
    void (*failed)(void *arg, const struct error *error); /* no memory: the process must end */
    void *arg;
};

/* ERR_NO_MEMORY, ERR_IO, ERR_UNAVAILABLE. */
int lane_open(const struct lane_options *options, const struct lane_events *events, struct lane **lane,
              struct error *err);

/* This process is the one at work; it is no longer. After lane_stop nothing goes out. */
void lane_start(struct lane *lane);
void lane_stop(struct lane *lane);

void lane_read_metrics(const struct lane *lane, struct notify_sink_metrics *metrics);

/* Waits for the sink's thread; frees once open calls are answered. */
void lane_close(struct lane *lane);

#endif
