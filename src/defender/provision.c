#include "defender/provision.h"

#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RETRY_MS = 500,
    DUPLICATE_WINDOW_S = 120,
    ALARM_DUPLICATE_WINDOW_S = 3600, /* a context judged again within it raises no alarm twice */
    ALARM_MAX_AGE_S = 90 * 86400,
    DEAD_MAX_AGE_S = 365 * 86400
};

const struct provision_stream provision_context_streams[PROVISION_CONTEXT_STREAMS] = {
    {STREAM_NOTIFICATIONS, "dc.>", "workqueue", 0, 0, DUPLICATE_WINDOW_S},
    {STREAM_DEAD, "dead.>", "limits", DEAD_MAX_AGE_S, 0, DUPLICATE_WINDOW_S},
    {STREAM_ALARMS, "alarms.>", "limits", ALARM_MAX_AGE_S, 0, ALARM_DUPLICATE_WINDOW_S},
};

struct provision {
    struct bus *bus;
    char cell[64];
    int replicas;
    struct provision_events events;
    const struct provision_stream *streams;
    size_t stream_count;
    size_t next; /* the stream that is looked at */
    bool busy;
    char created[64]; /* birthday of the first */
    uv_timer_t retry;
    int open_calls;
    bool closing, timer_closed;
};

static void free_if_done(struct provision *provision)
{
    if (provision->closing && provision->timer_closed && provision->open_calls == 0)
        free(provision);
}

static struct stream_spec stream_spec_at(const struct provision *provision, size_t i,
                                         char name[static NAMES_BYTES], char subject[static NAMES_BYTES])
{
    const struct provision_stream *stream = &provision->streams[i];
    return (struct stream_spec){.name = names_stream(provision->cell, stream->name, name),
                                .subject = names_subject(provision->cell, stream->subject, subject),
                                .retention = stream->retention,
                                .max_age_s = stream->max_age_s,
                                .max_bytes = stream->max_bytes,
                                .duplicate_window_s = stream->duplicate_window_s,
                                .replicas = provision->replicas};
}

static void on_retry(uv_timer_t *timer)
{
    provision_begin(timer->data);
}

static void note_birthday(struct provision *provision, const json_t *response)
{
    const char *created = json_string_value(json_object_get(response, "created"));
    if (created == NULL)
        return;
    bool replaced = provision->created[0] && strcmp(provision->created, created) != 0;
    snprintf(provision->created, sizeof provision->created, "%s", created);
    if (replaced) {
        LOG_WARN("a stream was created anew: what was waiting in it is lost there",
                 LOG_STR("stream", provision->streams[0].name));
        provision->events.replaced(provision->events.arg);
    }
}

static void look_at_next(struct provision *provision);

static void on_stream(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    struct provision *provision = arg;
    provision->open_calls--;
    if (provision->closing || !provision->busy) {
        free_if_done(provision);
        return;
    }
    if (code == ERR_CONFLICT) {
        provision->busy = false;
        provision->events.refused(provision->events.arg, code, error);
        return;
    }
    if (code) {
        provision->busy = false;
        LOG_WARN("streams not ready; trying again", LOG_STR("error", error->text));
        uv_timer_start(&provision->retry, on_retry, RETRY_MS, 0);
        return;
    }
    if (provision->next == 0)
        note_birthday(provision, response);
    provision->next++;
    look_at_next(provision);
}

static void look_at_next(struct provision *provision)
{
    if (provision->next == provision->stream_count) {
        provision->busy = false;
        provision->events.ready(provision->events.arg);
        return;
    }
    char name[NAMES_BYTES], subject[NAMES_BYTES];
    struct stream_spec spec = stream_spec_at(provision, provision->next, name, subject);
    provision->open_calls++;
    stream_ensure(provision->bus, &spec, on_stream, provision);
}

void provision_begin(struct provision *provision)
{
    if (provision->busy || !bus_is_connected(provision->bus))
        return;
    uv_timer_stop(&provision->retry);
    provision->busy = true;
    provision->next = 0;
    look_at_next(provision);
}

void provision_on_disconnected(struct provision *provision)
{
    provision->busy = false;
    uv_timer_stop(&provision->retry);
}

int provision_open(struct bus *bus, uv_loop_t *loop, const char *cell, int replicas,
                   const struct provision_stream *streams, size_t stream_count,
                   const struct provision_events *events, struct provision **out, struct error *err)
{
    struct provision *provision = calloc(1, sizeof *provision);
    if (provision == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the streams");
    provision->bus = bus;
    provision->replicas = replicas;
    provision->streams = streams;
    provision->stream_count = stream_count;
    provision->events = *events;
    snprintf(provision->cell, sizeof provision->cell, "%s", cell);
    uv_timer_init(loop, &provision->retry);
    provision->retry.data = provision;
    *out = provision;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct provision *provision = handle->data;
    provision->timer_closed = true;
    free_if_done(provision);
}

void provision_close(struct provision *provision)
{
    provision->closing = true;
    uv_close((uv_handle_t *)&provision->retry, on_timer_closed);
}
