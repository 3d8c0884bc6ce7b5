#include "defender/weigher.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/kv.h"
#include "bus/names.h"
#include "cluster/cluster.h"
#include "cluster/observer.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of a look's interval: the memory by this. */
enum { WEIGHER_LOOKS_A_MEMORY = 120 };

struct weigher {
    struct weigher_ports ports;
    struct observer *observer;
    char prefix[NAMES_BYTES]; /* before a chamber in a subject: "dc." under the cell */
    char bucket[NAMES_BYTES];
    uv_timer_t look;
    int in_flight;
    bool closed, timer_closed;
};

/* One chamber's key, being read and then written. */
struct weighing {
    struct weigher *weigher;
    double rate; /* points an hour */
    char chamber[];
};

static int64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

static void free_if_done(struct weigher *weigher)
{
    if (!weigher->closed || !weigher->timer_closed || weigher->in_flight > 0)
        return;
    observer_free(weigher->observer);
    free(weigher);
}

/* `told`: what the roster says now; negative: not known. */
static void weighing_end(struct weighing *weighing, double told)
{
    struct weigher *weigher = weighing->weigher;
    observer_told(weigher->observer, weighing->chamber, told, now_ms());
    free(weighing);
    weigher->in_flight--;
    free_if_done(weigher);
}

static void on_written(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    struct weighing *weighing = arg;
    /* Another was first, or nobody knows: it is looked at again later. */
    if (code)
        LOG_DEBUG("observed load not told", LOG_STR("chamber", weighing->chamber),
                  LOG_STR("error", error->text));
    else
        LOG_INFO("load of a chamber, as observed", LOG_STR("chamber", weighing->chamber),
                 LOG_INT("points_an_hour", (int64_t)weighing->rate));
    weighing_end(weighing, code ? -1 : weighing->rate);
}

static void write_observed(struct weighing *weighing, json_t *document, uint64_t revision)
{
    struct weigher *weigher = weighing->weigher;
    json_object_set_new(document, "observed", json_integer((json_int_t)weighing->rate));
    char *text = json_dumps(document, JSON_COMPACT);
    if (text == NULL) {
        weighing_end(weighing, -1);
        return;
    }
    kv_update(weigher->ports.bus, weigher->bucket, weighing->chamber, text, strlen(text), revision,
              on_written, weighing);
    free(text);
}

static void on_read(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    (void)error;
    struct weighing *weighing = arg;
    const struct weigher *weigher = weighing->weigher;
    json_t *document = code ? NULL : json_loadb(entry->value, entry->length, 0, NULL);
    if (!json_is_object(document) || weigher->closed) { /* not registered; or not what a chamber looks like */
        json_decref(document);
        weighing_end(weighing, -1);
        return;
    }
    const json_t *observed = json_object_get(document, "observed");
    double told = json_is_number(observed) ? json_number_value(observed) : -1;
    if (told >= 0 && !observer_differs(weigher->observer, told, weighing->rate))
        weighing_end(weighing, told);
    else
        write_observed(weighing, document, entry->revision);
    json_decref(document);
}

static void begin_weighing(struct weigher *weigher, const char *chamber, double rate)
{
    size_t length = strlen(chamber);
    struct weighing *weighing = malloc(sizeof *weighing + length + 1);
    if (weighing == NULL) {
        observer_told(weigher->observer, chamber, -1, now_ms());
        return;
    }
    weighing->weigher = weigher;
    weighing->rate = floor(rate);
    memcpy(weighing->chamber, chamber, length + 1);
    weigher->in_flight++;
    kv_get(weigher->ports.bus, weigher->bucket, chamber, on_read, weighing);
}

static void on_look(uv_timer_t *timer)
{
    struct weigher *weigher = timer->data;
    const char *chamber;
    double rate;
    observer_keep(weigher->observer, weigher->ports.owns, weigher->ports.arg);
    while (weigher->in_flight < WEIGHER_IN_FLIGHT_MAX &&
           (chamber = observer_next(weigher->observer, now_ms(), &rate)) != NULL)
        begin_weighing(weigher, chamber, rate);
}

void weigher_note(struct weigher *weigher, const char *subject, int64_t points)
{
    char chamber[CLUSTER_KEY_BYTES];
    size_t skip = strlen(weigher->prefix), end = strlen(".completed"), length = strlen(subject);
    if (length <= skip + end || length - skip - end >= sizeof chamber)
        return;
    memcpy(chamber, subject + skip, length - skip - end);
    chamber[length - skip - end] = '\0';
    observer_note(weigher->observer, chamber, points, now_ms());
}

int weigher_open(const struct weigher_ports *ports, const char *cell, int64_t memory_ms, struct weigher **out,
                 struct error *err)
{
    struct weigher *weigher = calloc(1, sizeof *weigher);
    struct observer *observer = observer_new(memory_ms, OBSERVER_CHANGE);
    if (weigher == NULL || observer == NULL) {
        observer_free(observer);
        free(weigher);
        return error_set(err, ERR_NO_MEMORY, "no memory to observe the load");
    }
    weigher->ports = *ports;
    weigher->observer = observer;
    names_subject(cell, "dc.", weigher->prefix);
    names_stream(cell, cluster_bucket_name(BUCKET_CHAMBERS), weigher->bucket);
    int64_t look_ms = (memory_ms > 0 ? memory_ms : OBSERVER_MEMORY_MS) / WEIGHER_LOOKS_A_MEMORY;
    look_ms = look_ms < WEIGHER_LOOK_MIN_MS   ? WEIGHER_LOOK_MIN_MS
              : look_ms > WEIGHER_LOOK_MAX_MS ? WEIGHER_LOOK_MAX_MS
                                              : look_ms;
    uv_timer_init(ports->loop, &weigher->look);
    weigher->look.data = weigher;
    uv_timer_start(&weigher->look, on_look, (uint64_t)look_ms, (uint64_t)look_ms);
    *out = weigher;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct weigher *weigher = handle->data;
    weigher->timer_closed = true;
    free_if_done(weigher);
}

void weigher_close(struct weigher *weigher)
{
    weigher->closed = true;
    uv_close((uv_handle_t *)&weigher->look, on_timer_closed);
}
