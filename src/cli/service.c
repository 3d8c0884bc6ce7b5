#include "cli/service.h"

#include "base/log.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
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

void service_member_begin(struct service_member *member,
                          struct command_option table[static SERVICE_MEMBER_OPTIONS])
{
    *member = (struct service_member){.place = {.nats_url = getenv("CHAMBERLAIN_NATS"),
                                                .store_url = getenv("CHAMBERLAIN_STORE"),
                                                .cell = getenv("CHAMBERLAIN_CELL"),
                                                .credentials_file = getenv("CHAMBERLAIN_NATS_CREDENTIALS"),
                                                .ca_file = getenv("CHAMBERLAIN_NATS_CA"),
                                                .certificate_file = getenv("CHAMBERLAIN_NATS_CERTIFICATE"),
                                                .key_file = getenv("CHAMBERLAIN_NATS_KEY"),
                                                .version = CHAMBERLAIN_VERSION},
                                      .log_level = "info",
                                      .log_format = "text"};
    struct workplace_options *place = &member->place;
    const struct command_option options[SERVICE_MEMBER_OPTIONS] = {
        {"nats", OPTION_TEXT, &place->nats_url, "URL", "NATS server, or several with commas"},
        {"store", OPTION_TEXT, &place->store_url, "URL",
         "sqlite:PATH, cassandra:HOSTS/KEYSPACE or failover:PRIMARY,,STANDBY"},
        {"cell", OPTION_TEXT, &place->cell, "NAME",
         "part of the fab whose names are prefixed (default none)"},
        {"seat", OPTION_TEXT, &place->seat, "FILE",
         "a file of this process's own: restarted on it, it is back in its place at once"},
        {"group", OPTION_TEXT, &place->group, "NAME", "blue, canary, ...: shown in status"},
        {"pool", OPTION_INTEGER, &member->pool, "N",
         "how many IDs there are; who finds none free stands by (default 1000)"},
        {"expected", OPTION_INTEGER, &member->expected_members, "N",
         "how many of its kind there will be: windows close early"},
        {"version-label", OPTION_TEXT, &place->version, "TEXT",
         "version shown in status (default: the software's)"},
        {"replicas", OPTION_INTEGER, &member->replicas, "N",
         "replicas of the streams, 3 in a NATS cluster (default 1)"},
        {"http-port", OPTION_INTEGER, &member->http_port, "PORT",
         "answers /metrics, /health/live and /health/ready there (default 0: not at all)"},
        {"http-bind", OPTION_TEXT, &place->http_bind, "ADDRESS", "address for that (default 127.0.0.1)"},
        {"log-level", OPTION_TEXT, &member->log_level, "LEVEL", "debug, info, warn or error (default info)"},
        {"log-format", OPTION_TEXT, &member->log_format, "FORMAT", "text or json (default text)"},
    };
    memcpy(table, options, sizeof options);
}

int service_member_settle(struct service_member *member, const char *name, struct error *err)
{
    struct workplace_options *place = &member->place;
    int code = service_set_up_log(member->log_level, member->log_format, name, err);
    if (code)
        return code;
    if (member->http_port > 65535)
        return error_set(err, ERR_INVALID, "--http-port %lld: choose 1 to 65535, or 0 for none",
                         (long long)member->http_port);
    if (place->nats_url == NULL || place->store_url == NULL)
        return error_set(err, ERR_INVALID,
                         "where are NATS and the store? Give --nats and --store, or set CHAMBERLAIN_NATS and "
                         "CHAMBERLAIN_STORE");
    place->pool = (int)member->pool;
    place->expected_members = (int)member->expected_members;
    place->replicas = (int)member->replicas;
    place->http_port = (int)member->http_port;
    return 0;
}
