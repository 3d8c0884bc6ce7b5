/* `chamberlain web`: the HTTP API and the dashboard of a cluster. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/service.h"
#include "cli/session.h"

#include "web/web.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command command = {
    .name = "web",
    .operands = "",
    .summary = "Serves the dashboard, the HTTP API (docs/api.md) and the metrics of the whole cluster, until "
               "SIGTERM or "
               "SIGINT.\n"
               "On this machine only, unless --http-bind says otherwise: it asks nobody for a password.",
    .examples = "  chamberlain web --dir fab\n"
                "  chamberlain web --dir fab --http-port 9000",
};

static void on_listening(void *arg, int port)
{
    const struct web_options *options = arg;
    const char *bind = options->bind ? options->bind : "127.0.0.1";
    bool six = strchr(bind, ':') != NULL;
    printf("http://%s%s%s:%d/\n", six ? "[" : "", bind, six ? "]" : "", port);
    fflush(stdout);
}

int cli_web(int argc, char **argv)
{
    const char *dir = NULL, *level = "info", *format = "text";
    int64_t port = WEB_DEFAULT_PORT;
    struct web_options options = {.version = CHAMBERLAIN_VERSION,
                                  .credentials_file = getenv("CHAMBERLAIN_NATS_CREDENTIALS"),
                                  .ca_file = getenv("CHAMBERLAIN_NATS_CA"),
                                  .certificate_file = getenv("CHAMBERLAIN_NATS_CERTIFICATE"),
                                  .key_file = getenv("CHAMBERLAIN_NATS_KEY"),
                                  .listening = on_listening,
                                  .arg = &options};
    const struct command_option table[] = {
        OPTION_DIR(&dir),
        {"http-port", OPTION_INTEGER, &port, "PORT", "default 8080; 0: a free one, which is printed"},
        {"http-bind", OPTION_TEXT, &options.bind, "ADDRESS", "address to listen on (default 127.0.0.1)"},
        {"version-label", OPTION_TEXT, &options.version, "TEXT", "version shown (default: the software's)"},
        {"log-level", OPTION_TEXT, &level, "LEVEL", "debug, info, warn or error (default info)"},
        {"log-format", OPTION_TEXT, &format, "FORMAT", "text or json (default text)"},
    };
    enum command_next next = command_parse(&command, table, OPTION_COUNT(table), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    struct session session = {0};
    int code = service_set_up_log(level, format, "web", &err);
    if (code == 0 && port > 65535)
        code = error_set(&err, ERR_INVALID, "--http-port %lld: choose 1 to 65535, or 0 for a free one",
                         (long long)port);
    if (code == 0)
        code = session_locate(&session, dir, &err);
    if (code)
        return command_failed(&command, &err);
    options.port = (int)port;
    options.nats_url = session.nats_url;
    options.store_url = session.store_url;
    options.cell = session.cell;
    service_die_with_parent();
    return web_run(&options, &err) ? command_failed(&command, &err) : 0;
}
