/* `chamberlain notify`: alarms to Alertmanager, webhooks, files and the terminal; `notify check`: is its
 * configuration right? */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/service.h"
#include "cli/session.h"
#include "notify/notify.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command command = {
    .name = "notify",
    .operands = "FILE",
    .summary =
        "Tells the sinks of a configuration file of alarms, until SIGTERM or SIGINT: Alertmanager, webhooks, "
        "files, the\n"
        "terminal (docs/alarms.md). Of several that run side by side one works and the others stand by.",
    .examples = "  chamberlain notify --dir fab notify.yaml\n"
                "  chamberlain notify check notify.yaml",
    .min_operands = 1,
    .max_operands = 1,
};

static const struct command check_command = {
    .name = "notify check",
    .operands = "FILE",
    .summary = "Reads a configuration and explains what is wrong with it, with line and column. Exits 1 when "
               "something is.",
    .examples = "  chamberlain notify check notify.yaml",
    .min_operands = 1,
    .max_operands = 1,
};

static void print_problem(void *arg, size_t line, size_t column, const char *message)
{
    fprintf(stderr, "%s:%zu:%zu: %s\n", (const char *)arg, line, column, message);
}

static void print_names(const struct notify_config *config, uint32_t set)
{
    for (size_t i = 0, shown = 0; i < config->sink_count; i++)
        if (set & (UINT32_C(1) << i))
            printf("%s%s", shown++ ? ", " : " ", config->sinks[i].name);
}

static void print_config(const struct notify_config *config)
{
    for (size_t i = 0; i < config->route_count; i++) {
        const struct route_config *route = &config->routes[i];
        for (int severity = NOTICE_SEVERITIES - 1, shown = 0; severity >= 0; severity--)
            if (route->severities & (1u << severity))
                printf("%s%s", shown++ ? ", " : "", notice_severity_name((enum notice_severity)severity));
        printf(" of %s:%s, chart %s, recipe %s ->", route->tool, route->chamber, route->chart, route->recipe);
        print_names(config, route->sinks);
        if (route->escalate_to) {
            printf("%s after %lld s unacknowledged ->", route->sinks ? ";" : "",
                   (long long)(route->escalate_after_ms / 1000));
            print_names(config, route->escalate_to);
        }
        putchar('\n');
    }
}

static int run_check(int argc, char **argv)
{
    struct notify_config config;
    struct error err;
    enum command_next next = command_parse(&check_command, NULL, 0, argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    int code = notify_config_load(argv[1], print_problem, argv[1], &config, &err);
    if (code == 0)
        print_config(&config);
    notify_config_free(&config);
    if (code == ERR_INVALID)
        return EXIT_FAILED; /* the problems have been printed */
    return code ? command_failed(&check_command, &err) : 0;
}

/* By --nats, or found as every command finds it. */
static int find_nats(const char *dir, struct session *session, struct notify_options *options,
                     struct error *err)
{
    if (options->nats_url)
        return 0;
    int code = session_open(session, dir, 0, err);
    if (code)
        return code;
    options->nats_url = session->nats_url;
    if (*session->cell)
        options->cell = session->cell;
    session_close(session);
    return 0;
}

static int run(const char *file, const char *dir, struct notify_options *options, struct error *err)
{
    struct session session = {0};
    struct notify_config config;
    int code = find_nats(dir, &session, options, err);
    if (code)
        return code;
    code = notify_config_load(file, print_problem, (void *)(uintptr_t)file, &config, err);
    if (code == ERR_INVALID)
        error_set(err, ERR_INVALID, "%s has the problems above", file);
    options->config = &config;
    if (code == 0)
        code = notify_run(options, err);
    notify_config_free(&config);
    return code;
}

int cli_notify(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "check") == 0)
        return run_check(argc - 1, argv + 1);
    struct notify_options options = {.cell = getenv("CHAMBERLAIN_CELL"),
                                     .credentials_file = getenv("CHAMBERLAIN_NATS_CREDENTIALS"),
                                     .ca_file = getenv("CHAMBERLAIN_NATS_CA"),
                                     .certificate_file = getenv("CHAMBERLAIN_NATS_CERTIFICATE"),
                                     .key_file = getenv("CHAMBERLAIN_NATS_KEY")};
    const char *dir = NULL, *level = "info", *format = "text";
    int64_t ack_wait_us = 0, replicas = 0, http_port = -1;
    const struct command_option table[] = {
        OPTION_DIR(&dir),
        {"nats", OPTION_TEXT, &options.nats_url, "URL",
         "NATS server, or several with commas, instead of --dir"},
        {"cell", OPTION_TEXT, &options.cell, "NAME",
         "part of the fab whose names are prefixed (default none)"},
        {"ack-wait", OPTION_DURATION, &ack_wait_us, "TIME",
         "silence after which another notifier gets what a dead one held (default 30s)"},
        {"replicas", OPTION_INTEGER, &replicas, "N",
         "of buckets and consumers, 3 in a NATS cluster (default 1)"},
        {"http-port", OPTION_INTEGER, &http_port, "PORT",
         "serves /metrics and /health on it; 0: a free one (default: none)"},
        {"http-bind", OPTION_TEXT, &options.http_bind, "ADDRESS", "address of that (default 127.0.0.1)"},
        {"log-level", OPTION_TEXT, &level, "LEVEL", "debug, info, warn or error (default info)"},
        {"log-format", OPTION_TEXT, &format, "FORMAT", "text or json (default text)"},
    };
    enum command_next next = command_parse(&command, table, OPTION_COUNT(table), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    int code = service_set_up_log(level, format, "notify", &err);
    if (code) {
        command_failed(&command, &err);
        return EXIT_USAGE;
    }
    options.ack_wait_ms = ack_wait_us / 1000;
    options.replicas = (int)replicas;
    options.http_port = (int)http_port;
    service_die_with_parent();
    return run(argv[1], dir, &options, &err) ? command_failed(&command, &err) : 0;
}
