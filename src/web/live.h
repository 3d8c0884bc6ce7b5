/* What the board is filled from: heartbeats, the assignment and the roster in their buckets, verdicts,
 * decisions, the stream of alarms, and what defenders and the store answer when they are asked. Loop thread.
 */
#ifndef CHAMBERLAIN_WEB_LIVE_H
#define CHAMBERLAIN_WEB_LIVE_H

#include "bus/bus.h"
#include "store/store.h"
#include "web/board.h"

struct live;

struct live_ports {
    uv_loop_t *loop;
    struct mailbox *mailbox;
    struct bus *bus;
    struct store *store;
    struct board *board;
    const char *cell;
};

/* ERR_NO_MEMORY, ERR_LIMIT. The connection need not be there yet. */
int live_open(const struct live_ports *ports, struct live **live, struct error *err);

void live_on_connected(struct live *live);
void live_on_disconnected(struct live *live);

/* Before bus_close; it is freed once the store is closed and the mailbox drained (live_free). */
void live_close(struct live *live);
void live_free(struct live *live);

#endif
