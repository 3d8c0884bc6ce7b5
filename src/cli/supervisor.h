/* Child processes under care: started, restarted when they die, ended in order. Used by `up`. One libuv loop.
 */
#ifndef CHAMBERLAIN_CLI_SUPERVISOR_H
#define CHAMBERLAIN_CLI_SUPERVISOR_H

#include "base/error.h"

#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

enum {
    SUPERVISOR_CHILDREN_MAX = 1024,
    SUPERVISOR_ARGUMENTS_MAX = 64,
    SUPERVISOR_RESTART_FIRST_MS = 100, /* doubled with each death */
    SUPERVISOR_RESTART_MOST_MS = 5000,
    SUPERVISOR_STEADY_MS = 10000 /* alive this long: the next restart is quick again */
};

struct supervisor;
struct supervised;

/* `changed` is called when a child has started or died. ERR_NO_MEMORY, ERR_IO. */
int supervisor_open(uv_loop_t *loop, void (*changed)(void *arg), void *arg, struct supervisor **supervisor,
                    struct error *err);

/* When every child has ended (supervised_end). */
void supervisor_close(struct supervisor *supervisor);

/* Starts `argv` (copied, NULL at its end) with its output appended to the file `log`, in a process group of
 * its own, so that a Ctrl-C at the terminal reaches the supervisor alone. When the supervisor is killed the
 * child gets SIGTERM from the kernel. ERR_IO. */
int supervisor_start(struct supervisor *supervisor, const char *name, const char *const *argv,
                     const char *log, struct supervised **child, struct error *err);

/* Sends `signal_number`, and SIGKILL when the child is still there after `patience_ms`; it is not restarted
 * any more. */
void supervised_end(struct supervised *child, int signal_number, int64_t patience_ms);

bool supervised_is_running(const struct supervised *child);
const char *supervised_name(const struct supervised *child);
pid_t supervised_pid(const struct supervised *child); /* 0 while it is not running */
int supervised_restarts(const struct supervised *child);

#endif
