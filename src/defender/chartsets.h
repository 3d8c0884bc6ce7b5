/* The chart files in use by one process: the one in force, and older ones that U-charts still refer to. Loop
 * thread. */
#ifndef CHAMBERLAIN_DEFENDER_CHARTSETS_H
#define CHAMBERLAIN_DEFENDER_CHARTSETS_H

#include "base/mailbox.h"
#include "chart/chartset.h"
#include "store/store.h"

#include <stdbool.h>

struct chartsets;

/* Nothing is in force until chartsets_refresh has been answered. ERR_NO_MEMORY. */
int chartsets_open(struct store *store, struct mailbox *mailbox, struct chartsets **sets, struct error *err);

/* Call when no request is under way any more (store closed, mailbox drained). Frees every set. */
void chartsets_close(struct chartsets *sets);

/* Asks the store which chart file is in force and loads it if it is new. `done` (may be NULL) runs later on
 * the loop with 0, also when none is in force; transient codes when the store is away; ERR_INVALID when the
 * file does not parse: then the one before stays in force. */
typedef void chartsets_done(void *arg, int code, const struct error *error);
void chartsets_refresh(struct chartsets *sets, chartsets_done *done, void *arg);

/* The set in force; NULL when none is. Its id, 0 for none. */
struct chart_set *chartsets_current(const struct chartsets *sets);
uint64_t chartsets_current_id(const struct chartsets *sets);

/* A set by id, from memory; NULL when it is not loaded. */
struct chart_set *chartsets_find(const struct chartsets *sets, uint64_t id);

/* Loads a set by id, if need be. `done` runs later on the loop; ERR_NOT_FOUND, ERR_INVALID and transient
 * codes. */
void chartsets_load(struct chartsets *sets, uint64_t id, chartsets_done *done, void *arg);

#endif
