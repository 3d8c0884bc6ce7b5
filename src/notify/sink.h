/* One sink: a thread that carries one message at a time to where it belongs, so that a sink which hangs keeps
 * nobody else waiting. */
#ifndef CHAMBERLAIN_NOTIFY_SINK_H
#define CHAMBERLAIN_NOTIFY_SINK_H

#include "base/mailbox.h"
#include "notify/config.h"

#include <stdatomic.h>

enum { SINK_REASON_BYTES = 400 };

enum sink_outcome {
    SINK_ACCEPTED, /* it is theirs now */
    SINK_REFUSED,  /* never will be: a 4xx other than 408 and 429 */
    SINK_FAILED    /* not now; perhaps they have it all the same */
};

struct sink_result {
    enum sink_outcome outcome;
    int64_t retry_after_ms; /* what it asked for; 0 */
    int64_t duration_ns;
    char reason[SINK_REASON_BYTES]; /* printable, without secrets */
};

struct sink;
typedef void sink_done(void *arg, const struct sink_result *result);

/* `config` is borrowed until sink_close. ERR_IO, ERR_NO_MEMORY. */
int sink_open(const struct sink_config *config, struct mailbox *mailbox, struct sink **sink,
              struct error *err);

/* Takes one message (copied); `done` runs on the mailbox's loop, once, unless the sink is closed or
 * sink_abandon is called before. One at a time. */
void sink_send(struct sink *sink, const char *message, const char *key, sink_done *done, void *arg);

bool sink_is_busy(const struct sink *sink);

/* Nobody waits for the message under way any more. */
void sink_abandon(struct sink *sink);

/* Breaks off what is under way, waits for the thread, and frees. On the loop's thread, before the mailbox
 * closes. */
void sink_close(struct sink *sink);

/* --- for the kinds of sinks --- */

struct sink_job {
    const char *message, *key;
    const atomic_bool *stop; /* set when it is to be broken off */
};

/* Runs on the sink's thread; `send` fills all of the result but the duration. */
struct sink_transport {
    int (*open)(const struct sink_config *config, void **state, struct error *err);
    void (*send)(void *state, const struct sink_job *job, struct sink_result *result);
    void (*close)(void *state);
};

extern const struct sink_transport sink_http, sink_file, sink_terminal;

__attribute__((format(printf, 3, 4))) void sink_say(struct sink_result *result, enum sink_outcome outcome,
                                                    const char *format, ...);

#endif
