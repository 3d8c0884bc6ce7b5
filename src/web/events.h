/* What changes, to whoever reads along: server-sent events (html.spec.whatwg.org, "Server-sent events").
 *
 * The newest EVENTS_KEPT are kept, so that a reader whose connection broke goes on where it was. Each has an
 * id
 * "{process}-{number}": after a restart of this process, or after too long, a reader is told `reset`.
 *
 * From any thread; a lock guards all. */
#ifndef CHAMBERLAIN_WEB_EVENTS_H
#define CHAMBERLAIN_WEB_EVENTS_H

#include "http/server.h"

enum {
    EVENTS_KEPT = 1024,
    EVENTS_READERS_MAX = 64,
    EVENTS_COMMENT_MS = 10 * 1000, /* a sign of life, and how a dead reader is noticed */
    EVENTS_RETRY_MS = 1000         /* how long a reader waits before it comes again */
};

struct events;

/* NULL: no memory. */
struct events *events_new(void);

/* No reader may be left: after http_server_close. */
void events_free(struct events *events);

/* Ends every reader, now and from now on. */
void events_stop(struct events *events);

/* Tells an event. `name` is static text; `json` is one line, copied. Without memory it is dropped, and
 * readers are told to reset. */
void events_tell(struct events *events, const char *name, const char *json);

/* A stream for one more reader, who had `last_id` last (NULL: a new one). ERR_LIMIT: EVENTS_READERS_MAX read
 * already; ERR_NO_MEMORY. */
int events_read(struct events *events, const char *last_id, struct http_stream *stream, struct error *err);

size_t events_readers(struct events *events);

#endif
