/* Follows a stream: its newest messages, then each that comes, in order, without holes and without
 * repetition. An ephemeral push consumer underneath, made anew whenever it is lost or its deliveries have a
 * hole. Loop thread. */
#ifndef CHAMBERLAIN_WEB_FOLLOW_H
#define CHAMBERLAIN_WEB_FOLLOW_H

#include "bus/bus.h"

struct follow;

struct follow_events {
    /* `behind`: how many more the stream had when this one was sent. */
    void (*message)(void *arg, const struct bus_message *message, uint64_t sequence, uint64_t behind);
    void *arg;
};

/* Begins with the newest `newest` messages. Neither the connection nor the stream need be there yet.
 * ERR_NO_MEMORY, ERR_LIMIT. */
int follow_start(struct bus *bus, const char *stream, uint64_t newest, const struct follow_events *events,
                 struct follow **follow, struct error *err);

/* No message comes after it. Before bus_close. */
void follow_stop(struct follow *follow);

#endif
