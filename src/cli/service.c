#include "cli/service.h"

#include "base/log.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

void service_die_with_parent(void)
{
    const char *parent = getenv("CHAMBERLAIN_PARENT_PID");
    if (parent == NULL)
        return;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != (pid_t)atoi(parent)) /* gone before the line above */
        raise(SIGTERM);
}

int service_set_up_log(const char *level_text, const char *format_text, const char *name, struct error *err)
{
    enum log_level level;
    enum log_format format;
    if (!log_level_parse(level_text, &level))
        return error_set(err, ERR_INVALID, "--log-level '%s': write debug, info, warn or error", level_text);
    if (!log_format_parse(format_text, &format))
        return error_set(err, ERR_INVALID, "--log-format '%s': write text or json", format_text);
    log_setup(level, format, name);
    return 0;
}
