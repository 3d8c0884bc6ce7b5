/* What the commands that stay (defend, collect, notify, web) have in common. */
#ifndef CHAMBERLAIN_CLI_SERVICE_H
#define CHAMBERLAIN_CLI_SERVICE_H

#include "cli/command.h"
#include "defender/workplace.h"

/* Ends this process with SIGTERM when `up`, which started it, is gone: a supervisor that is killed leaves no
 * orphans behind. Does nothing for a process that `up` did not start. */
void service_die_with_parent(void);

/* Logs as --log-level and --log-format say, under that name. ERR_INVALID: one of them is no such word. */
int service_set_up_log(const char *level, const char *format, const char *name, struct error *err);

/* What the members of a cluster (defend, collect) are told alike on the command line. */
struct service_member {
    struct workplace_options place;
    int64_t pool, expected_members, replicas, http_port; /* as given; 0: not */
    const char *log_level, *log_format;
};

/* Of a member's own table, the entries that are service_member_begin's. */
enum { SERVICE_MEMBER_OPTIONS = 13 };

/* Takes from the environment what may come from there, and fills in the first entries of `table`, which set
 * the rest of `member`. */
void service_member_begin(struct service_member *member,
                          struct command_option table[static SERVICE_MEMBER_OPTIONS]);

/* After command_parse: sets up the log under that name, then puts the numbers where they belong.
 * ERR_INVALID: NATS or the store is not given, or a value is none. */
int service_member_settle(struct service_member *member, const char *name, struct error *err);

#endif
