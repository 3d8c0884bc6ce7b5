/* What the commands that stay (defend, collect, notify, web) have in common. */
#ifndef CHAMBERLAIN_CLI_SERVICE_H
#define CHAMBERLAIN_CLI_SERVICE_H

#include "base/error.h"

/* Ends this process with SIGTERM when `up`, which started it, is gone: a supervisor that is killed leaves no
 * orphans behind. Does nothing for a process that `up` did not start. */
void service_die_with_parent(void);

/* Logs as --log-level and --log-format say, under that name. ERR_INVALID: one of them is no such word. */
int service_set_up_log(const char *level, const char *format, const char *name, struct error *err);

#endif
