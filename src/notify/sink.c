#include "notify/sink.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sink {
    const struct sink_transport *transport;
    void *state;
    struct mailbox *mailbox;
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t wake;
    atomic_bool stop;

    /* Under the lock. */
    char *message;
    char key[32];
    bool has_job;

    /* The loop's. `result` is the thread's while busy. */
    struct sink_result result;
    sink_done *done;
    void *arg;
    bool busy;
};

void sink_say(struct sink_result *result, enum sink_outcome outcome, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(result->reason, sizeof result->reason, format, args);
    va_end(args);
    for (char *c = result->reason; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7F)
            *c = ' ';
    result->outcome = outcome;
}

static void on_result(void *target, void *argument)
{
    (void)argument;
    struct sink *sink = target;
    sink_done *done = sink->done;
    sink->busy = false;
    sink->done = NULL;
    if (done)
        done(sink->arg, &sink->result);
}

static void work(void *arg)
{
    struct sink *sink = arg;
    for (;;) {
        uv_mutex_lock(&sink->lock);
        while (!sink->has_job && !atomic_load(&sink->stop))
            uv_cond_wait(&sink->wake, &sink->lock);
        uv_mutex_unlock(&sink->lock);
        if (atomic_load(&sink->stop))
            return;
        const struct sink_job job = {sink->message, sink->key, &sink->stop};
        int64_t begun_ns = clock_mono_ns();
        sink->result = (struct sink_result){0};
        sink->transport->send(sink->state, &job, &sink->result);
        sink->result.duration_ns = clock_mono_ns() - begun_ns;
        free(sink->message);
        sink->message = NULL;
        sink->has_job = false;
        mailbox_post(sink->mailbox, on_result, sink, NULL);
    }
}

static const struct sink_transport *transport_of(enum sink_kind kind)
{
    switch (kind) {
    case SINK_FILE:
        return &sink_file;
    case SINK_TERMINAL:
        return &sink_terminal;
    default:
        return &sink_http;
    }
}

int sink_open(const struct sink_config *config, struct mailbox *mailbox, struct sink **out, struct error *err)
{
    struct sink *sink = calloc(1, sizeof *sink);
    if (sink == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for sink %s", config->name);
    sink->transport = transport_of(config->kind);
    sink->mailbox = mailbox;
    int code = sink->transport->open(config, &sink->state, err);
    if (code) {
        free(sink);
        return error_prefix(err, code, "sink %s", config->name);
    }
    uv_mutex_init(&sink->lock);
    uv_cond_init(&sink->wake);
    if (uv_thread_create(&sink->thread, work, sink)) {
        sink->transport->close(sink->state);
        uv_cond_destroy(&sink->wake);
        uv_mutex_destroy(&sink->lock);
        free(sink);
        return error_set(err, ERR_IO, "sink %s: cannot start a thread", config->name);
    }
    *out = sink;
    return 0;
}

void sink_send(struct sink *sink, const char *message, const char *key, sink_done *done, void *arg)
{
    char *copy;
    while ((copy = strdup(message)) == NULL)
        uv_sleep(1);
    sink->busy = true;
    sink->done = done;
    sink->arg = arg;
    uv_mutex_lock(&sink->lock);
    sink->message = copy;
    snprintf(sink->key, sizeof sink->key, "%s", key);
    sink->has_job = true;
    uv_cond_signal(&sink->wake);
    uv_mutex_unlock(&sink->lock);
}

bool sink_is_busy(const struct sink *sink)
{
    return sink->busy;
}

void sink_abandon(struct sink *sink)
{
    sink->done = NULL;
}

void sink_close(struct sink *sink)
{
    sink->done = NULL;
    atomic_store(&sink->stop, true);
    uv_mutex_lock(&sink->lock);
    uv_cond_signal(&sink->wake);
    uv_mutex_unlock(&sink->lock);
    uv_thread_join(&sink->thread);
    mailbox_drain(sink->mailbox); /* its last letter */
    sink->transport->close(sink->state);
    uv_cond_destroy(&sink->wake);
    uv_mutex_destroy(&sink->lock);
    free(sink->message);
    free(sink);
}
