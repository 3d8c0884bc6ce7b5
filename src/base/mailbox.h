/* A mailbox: work from any thread, carried out in its order on the thread of one libuv loop.
 *
 * NATS and the store answer on threads of their own; whoever owns a loop gets their answers as calls on that
 * loop, and so needs no locks for its own state. */
#ifndef CHAMBERLAIN_BASE_MAILBOX_H
#define CHAMBERLAIN_BASE_MAILBOX_H

#include "base/error.h"

#include <uv.h>

struct mailbox;

typedef void mailbox_run(void *target, void *argument);

/* A mailbox on `loop`. It keeps the loop alive until mailbox_close. ERR_NO_MEMORY, ERR_IO. */
int mailbox_open(uv_loop_t *loop, struct mailbox **mailbox, struct error *err);

/* From any thread: `run(target, argument)` will be called on the loop's thread. Letters are never dropped:
 * when memory is short the caller waits. Must not be called after mailbox_close has returned. */
void mailbox_post(struct mailbox *mailbox, mailbox_run *run, void *target, void *argument);

/* On the loop's thread: runs what is waiting now, without going through the loop; not what those letters
 * post. May be called from within a letter: the order stays. */
void mailbox_drain(struct mailbox *mailbox);

/* On the loop's thread: runs what is waiting and what that posts, then frees the mailbox once the loop has
 * let go of it. May be called from within a letter. */
void mailbox_close(struct mailbox *mailbox);

#endif
