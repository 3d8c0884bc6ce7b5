/* The collector's hands: carries out on NATS and the store what its heart (assembly.h) asks for, and tells it
 * what came of it. What may pass (store or NATS away) is tried again for ever here; the heart only hears
 * outcomes. Loop thread. */
#ifndef CHAMBERLAIN_COLLECTOR_HANDS_H
#define CHAMBERLAIN_COLLECTOR_HANDS_H

#include "bus/bus.h"
#include "bus/consumer.h"
#include "collector/assembly.h"
#include "store/store.h"

enum {
    HANDS_STORE_IN_FLIGHT_MAX = 16, /* store calls; more wait their turn, one a context at most */
    HANDS_BACKOFF_MIN_MS = 100,
    HANDS_BACKOFF_MAX_MS = 5000,
    HANDS_WANT_MAX = 1024 /* messages asked for at one time */
};

#define STREAM_SAMPLES_DEAD "eqp-dead"
#define HANDS_NOTES_BUCKET "collecting"

struct hands;

struct hands_options {
    const char *cell;
    int64_t ack_wait_ms; /* messages held are extended three times as often */
    int replicas;
    struct assembly_options assembly;
};

struct hands_ports {
    uv_loop_t *loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct store *store;
    struct collect_counts *counts;
    void (*capacity_changed)(void *arg);
    void *arg;
};

/* ERR_NO_MEMORY. */
int hands_open(const struct hands_options *options, const struct hands_ports *ports, struct hands **hands,
               struct error *err);

/* Only when hands_idle, or when the process ends anyway. */
void hands_close(struct hands *hands);

/* The bucket of notes is made when it is absent, then `ready`. Nothing happens while that is under way. */
void hands_on_connected(struct hands *hands, void (*ready)(void *arg), void *arg);

/* Takes a message. One that is held (by its stream sequence) only renews the acknowledgement's address. */
void hands_receive(struct hands *hands, const struct consumer_message *message);

/* How many more messages it would take now; 0 after hands_stop. */
int64_t hands_capacity(const struct hands *hands);

/* Lets time pass. `blind`: nothing could have come, so that silence does not count. */
void hands_tick(struct hands *hands, bool blind);

void hands_release_chamber(struct hands *hands, const char *subject); /* "eqp.{tool}.{chamber}.>" */
void hands_abandon_all(struct hands *hands);

/* Takes nothing new; stores what can be, and confirms it, until hands_idle. */
void hands_stop(struct hands *hands);
bool hands_idle(struct hands *hands);

/* What is held and under way, as members of a JSON object (without the braces). */
void hands_format(const struct hands *hands, struct strbuf *json);
const struct assembly *hands_assembly(const struct hands *hands);

#endif
