#include "web/events.h"

#include "base/clock.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct event {
    const char *name;
    char *json;
};

struct events {
    pthread_mutex_t lock;
    pthread_cond_t told;
    struct event ring[EVENTS_KEPT]; /* number n at n % EVENTS_KEPT */
    uint64_t next;                  /* number of the next event; numbers begin at 1 */
    uint64_t oldest;                /* number of the oldest one kept */
    int64_t process;                /* tells this process from others */
    size_t readers;
    bool stopped;
};

struct reader {
    struct events *events;
    uint64_t next;
    bool reset;         /* is to be told so */
    struct strbuf text; /* on its way to it, */
    size_t sent;        /* of which so much is gone */
};

struct events *events_new(void)
{
    struct events *events = calloc(1, sizeof *events);
    if (events == NULL)
        return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&events->told, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&events->lock, NULL);
    events->next = events->oldest = 1;
    events->process = clock_wall_us();
    return events;
}

void events_free(struct events *events)
{
    for (size_t i = 0; i < EVENTS_KEPT; i++)
        free(events->ring[i].json);
    pthread_cond_destroy(&events->told);
    pthread_mutex_destroy(&events->lock);
    free(events);
}

void events_stop(struct events *events)
{
    pthread_mutex_lock(&events->lock);
    events->stopped = true;
    pthread_cond_broadcast(&events->told);
    pthread_mutex_unlock(&events->lock);
}

void events_tell(struct events *events, const char *name, const char *json)
{
    char *copy = strdup(json);
    pthread_mutex_lock(&events->lock);
    struct event *place = &events->ring[events->next % EVENTS_KEPT];
    free(place->json);
    *place = (struct event){name, copy};
    events->next++;
    if (events->next - events->oldest > EVENTS_KEPT)
        events->oldest = events->next - EVENTS_KEPT;
    if (copy == NULL) /* a hole: who is before it must begin anew */
        events->oldest = events->next;
    pthread_cond_broadcast(&events->told);
    pthread_mutex_unlock(&events->lock);
}

/* --- readers --- */

/* Under the lock: waits for something to say; false when the reader is to end. */
static bool wait_for_more(struct reader *reader)
{
    struct events *events = reader->events;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += EVENTS_COMMENT_MS / 1000;
    int waited = 0;
    while (!events->stopped && !reader->reset && reader->next == events->next && waited == 0)
        waited = pthread_cond_timedwait(&events->told, &events->lock, &until);
    return !events->stopped;
}

/* Under the lock: everything that is due, as text. */
static void write_due(struct reader *reader)
{
    struct events *events = reader->events;
    if (reader->next < events->oldest) {
        reader->reset = true;
        reader->next = events->next;
    }
    if (reader->reset)
        strbuf_printf(&reader->text, "retry: %d\nid: %" PRId64 "-%" PRIu64 "\nevent: reset\ndata: {}\n\n",
                      EVENTS_RETRY_MS, events->process, reader->next - 1);
    else if (reader->next == events->next)
        strbuf_add(&reader->text, ":\n\n");
    reader->reset = false;
    for (; reader->next < events->next; reader->next++) {
        const struct event *event = &events->ring[reader->next % EVENTS_KEPT];
        strbuf_printf(&reader->text, "id: %" PRId64 "-%" PRIu64 "\nevent: %s\ndata: ", events->process,
                      reader->next, event->name);
        strbuf_add(&reader->text, event->json);
        strbuf_add(&reader->text, "\n\n");
    }
}

static ssize_t read_events(void *arg, char *buffer, size_t capacity)
{
    struct reader *reader = arg;
    if (reader->sent == reader->text.length) {
        strbuf_clear(&reader->text);
        reader->sent = 0;
        pthread_mutex_lock(&reader->events->lock);
        bool more = wait_for_more(reader);
        if (more)
            write_due(reader);
        pthread_mutex_unlock(&reader->events->lock);
        if (!more || reader->text.failed)
            return -1;
    }
    size_t length = reader->text.length - reader->sent;
    if (length > capacity)
        length = capacity;
    memcpy(buffer, reader->text.text + reader->sent, length);
    reader->sent += length;
    return (ssize_t)length;
}

static void close_reader(void *arg)
{
    struct reader *reader = arg;
    pthread_mutex_lock(&reader->events->lock);
    reader->events->readers--;
    pthread_mutex_unlock(&reader->events->lock);
    strbuf_free(&reader->text);
    free(reader);
}

/* Under the lock: where a reader goes on. */
static void place_reader(struct reader *reader, const char *last_id)
{
    struct events *events = reader->events;
    int64_t process;
    uint64_t last;
    bool known = last_id && sscanf(last_id, "%" SCNd64 "-%" SCNu64, &process, &last) == 2 &&
                 process == events->process && last < events->next;
    reader->reset = !known;
    reader->next = known ? last + 1 : events->next;
}

int events_read(struct events *events, const char *last_id, struct http_stream *stream, struct error *err)
{
    struct reader *reader = calloc(1, sizeof *reader);
    if (reader == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for one more reader");
    reader->events = events;
    strbuf_init(&reader->text);
    pthread_mutex_lock(&events->lock);
    bool room = events->readers < EVENTS_READERS_MAX && !events->stopped;
    if (room)
        events->readers++;
    place_reader(reader, last_id);
    pthread_mutex_unlock(&events->lock);
    if (!room) {
        free(reader);
        return error_set(err, ERR_LIMIT, "%d readers follow the events already", EVENTS_READERS_MAX);
    }
    *stream = (struct http_stream){.read = read_events, .close = close_reader, .arg = reader};
    return 0;
}

size_t events_readers(struct events *events)
{
    pthread_mutex_lock(&events->lock);
    size_t readers = events->readers;
    pthread_mutex_unlock(&events->lock);
    return readers;
}
