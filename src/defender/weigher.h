/* Tells the roster what load the chambers of this defender were seen to bring: it carries out what
 * cluster/observer.h decides. The key of a chamber keeps what was registered and gets what is observed beside
 * it, by compare-and-set: {"weight":120000,"observed":1440000}. Loop thread. */
#ifndef CHAMBERLAIN_DEFENDER_WEIGHER_H
#define CHAMBERLAIN_DEFENDER_WEIGHER_H

#include "base/error.h"
#include "bus/bus.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum {
    WEIGHER_LOOK_MAX_MS = 60 * 1000, /* between two looks; less when the memory is short */
    WEIGHER_LOOK_MIN_MS = 50,
    WEIGHER_IN_FLIGHT_MAX = 4 /* chambers whose keys are being read or written: a bounded rate */
};

struct weigher;

struct weigher_ports {
    uv_loop_t *loop;
    struct bus *bus;
    /* Whether the chamber ("{tool}.{chamber}", as subject tokens) is this defender's now. */
    bool (*owns)(void *arg, const char *chamber);
    void *arg;
};

/* memory_ms 0: OBSERVER_MEMORY_MS. ERR_NO_MEMORY. */
int weigher_open(const struct weigher_ports *ports, const char *cell, int64_t memory_ms, struct weigher **out,
                 struct error *err);

/* After the bus is closed (which answers what is under way). The loop must run once more. */
void weigher_close(struct weigher *weigher);

/* A context announced on `subject` ("dc.{tool}.{chamber}.completed" under the cell) was judged. */
void weigher_note(struct weigher *weigher, const char *subject, int64_t points);

#endif
