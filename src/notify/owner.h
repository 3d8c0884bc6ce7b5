/* Which of several notifiers works: the holder of one key in the bucket `notify-owner`, which runs out when
 * it is not renewed. The others stand by.
 *
 * The lease decides who tries; that no message goes out twice even when a holder was asleep and does not know
 * that it has lost is the journal's compare-and-set (lane.h). */
#ifndef CHAMBERLAIN_NOTIFY_OWNER_H
#define CHAMBERLAIN_NOTIFY_OWNER_H

#include "bus/bus.h"

enum {
    OWNER_TTL_MS = 5000,
    OWNER_RENEW_MS = 1000,
    OWNER_MARGIN_MS = 1000 /* a holder stops so long before its key can have run out */
};

struct owner;

struct owner_events {
    void (*won)(void *arg);
    void (*lost)(void *arg, const char *reason);
    void *arg;
};

/* Asks for nothing before the bus is connected. ERR_NO_MEMORY. */
int owner_open(struct bus *bus, const char *cell, int replicas, const char *name,
               const struct owner_events *events, struct owner **owner, struct error *err);

bool owner_holds(const struct owner *owner);

/* Lets go: another may have it at once, this one after a pause. `lost` is not called. */
void owner_resign(struct owner *owner);

/* Lets go (done runs once, whatever comes of it) and frees. */
void owner_close(struct owner *owner, void (*done)(void *arg), void *arg);

#endif
