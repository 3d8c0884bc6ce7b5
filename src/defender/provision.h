/* The streams Chamberlain needs, made when absent and checked when present, at every connection: the broker
 * may have lost them with its disk. Loop thread. */
#ifndef CHAMBERLAIN_DEFENDER_PROVISION_H
#define CHAMBERLAIN_DEFENDER_PROVISION_H

#include "bus/bus.h"

struct provision;

/* Names and subjects without the cell. Numbers of 0: no limit. */
struct provision_stream {
    const char *name, *subject;
    const char *retention; /* "workqueue" or "limits" */
    int64_t max_age_s, max_bytes, duplicate_window_s;
};

/* What contexts travel by: dc-notifications (the first), dc-dead, alarms. */
enum { PROVISION_CONTEXT_STREAMS = 3 };
extern const struct provision_stream provision_context_streams[PROVISION_CONTEXT_STREAMS];

struct provision_events {
    void (*ready)(void *arg);
    /* A stream exists with other settings (ERR_CONFLICT): an operator must decide. Everything that may pass
     * is tried again without being told here. */
    void (*refused)(void *arg, int code, const struct error *error);
    /* The first stream has another birthday: its sequences mean other messages. */
    void (*replaced)(void *arg);
    void *arg;
};

/* `streams` is kept, not copied. ERR_NO_MEMORY. */
int provision_open(struct bus *bus, uv_loop_t *loop, const char *cell, int replicas,
                   const struct provision_stream *streams, size_t stream_count,
                   const struct provision_events *events, struct provision **provision, struct error *err);
void provision_close(struct provision *provision);

/* Looks at all streams, then says ready. Nothing happens while it is under way already or there is no
 * connection. */
void provision_begin(struct provision *provision);

void provision_on_disconnected(struct provision *provision);

#endif
