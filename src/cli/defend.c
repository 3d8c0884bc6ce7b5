/* `chamberlain defend`: one worker process. */
#include "cli/command.h"
#include "cli/service.h"
#include "defender/defender.h"

#include <signal.h>
#include <stdlib.h>

static const struct command command = {
    .name = "defend",
    .operands = "",
    .summary =
        "Runs one defender until SIGTERM or SIGINT: judges the contexts of its chambers.\n"
        "NATS and the store are found by --nats and --store, or by CHAMBERLAIN_NATS and CHAMBERLAIN_STORE.",
    .examples =
        "  chamberlain defend --nats nats://127.0.0.1:4222 --store sqlite:/var/lib/chamberlain/store.db\n"
        "  chamberlain defend --group canary --share 10% --log-format json --log-level debug",
};

int cli_defend(int argc, char **argv)
{
    struct defender_options options = {.nats_url = getenv("CHAMBERLAIN_NATS"),
                                       .store_url = getenv("CHAMBERLAIN_STORE"),
                                       .cell = getenv("CHAMBERLAIN_CELL"),
                                       .credentials_file = getenv("CHAMBERLAIN_NATS_CREDENTIALS"),
                                       .ca_file = getenv("CHAMBERLAIN_NATS_CA"),
                                       .certificate_file = getenv("CHAMBERLAIN_NATS_CERTIFICATE"),
                                       .key_file = getenv("CHAMBERLAIN_NATS_KEY"),
                                       .version = CHAMBERLAIN_VERSION};
    int64_t pool = 0, expected = 0, in_flight = 0, threads = 0, replicas = 0, cache_mb = 0, ack_wait_us = 0,
            sweep_age_us = 0, sweep_interval_us = 0, missing_delay_us = 0, http_port = 0, load_memory_us = 0,
            reweigh_us = 0;
    const char *level = "info", *format = "text";
    const struct command_option table[] = {
        {"nats", OPTION_TEXT, &options.nats_url, "URL", "NATS server, or several with commas"},
        {"store", OPTION_TEXT, &options.store_url, "URL", "sqlite:PATH"},
        {"cell", OPTION_TEXT, &options.cell, "NAME",
         "part of the fab whose names are prefixed (default none)"},
        {"seat", OPTION_TEXT, &options.seat, "FILE",
         "a file of this defender's own: restarted on it, it is back in its place at once"},
        {"group", OPTION_TEXT, &options.group, "NAME", "blue, canary, ...: shown in status"},
        {"share", OPTION_FRACTION, &options.share, "PART",
         "the most of all weight this one may hold, e.g. 10%"},
        {"pool", OPTION_INTEGER, &pool, "N",
         "how many IDs there are; who finds none free stands by (default 1000)"},
        {"expected", OPTION_INTEGER, &expected, "N", "how many defenders there will be: windows close early"},
        {"version-label", OPTION_TEXT, &options.version, "TEXT",
         "version shown in status (default: the software's)"},
        {"max-in-flight", OPTION_INTEGER, &in_flight, "N", "contexts judged side by side (default 64)"},
        {"compute-threads", OPTION_INTEGER, &threads, "N", "threads that calculate (default: one a core)"},
        {"replicas", OPTION_INTEGER, &replicas, "N",
         "replicas of the streams, 3 in a NATS cluster (default 1)"},
        {"cache-mb", OPTION_INTEGER, &cache_mb, "MB", "history cache (default 100)"},
        {"ack-wait", OPTION_DURATION, &ack_wait_us, "TIME",
         "silence after which a message is redelivered (default 30s)"},
        {"sweep-age", OPTION_DURATION, &sweep_age_us, "TIME",
         "unjudged contexts older than this are announced again (default 60s)"},
        {"sweep-interval", OPTION_DURATION, &sweep_interval_us, "TIME",
         "how often that is looked for (default 10s)"},
        {"missing-delay", OPTION_DURATION, &missing_delay_us, "TIME",
         "first wait for a T-chart that is not there, doubled 3 times (default 1s)"},
        {"load-memory", OPTION_DURATION, &load_memory_us, "TIME",
         "the load of chambers is observed over this time (default 2h)"},
        {"reweigh", OPTION_DURATION, &reweigh_us, "TIME",
         "chambers move for a changed load alone at most this often (default 1h)"},
        {"tchart-retention", OPTION_DURATION, &options.tchart_retention_us, "TIME",
         "traces are kept this long (default 3d)"},
        {"uchart-retention", OPTION_DURATION, &options.uchart_retention_us, "TIME",
         "verdicts are kept this long (default 365d)"},
        {"retain-by-event", OPTION_FLAG, &options.retain_by_event, NULL,
         "count retention from the run's end, not from storing"},
        {"http-port", OPTION_INTEGER, &http_port, "PORT",
         "answers /metrics, /health/live and /health/ready there (default 0: not at all)"},
        {"http-bind", OPTION_TEXT, &options.http_bind, "ADDRESS", "address for that (default 127.0.0.1)"},
        {"log-level", OPTION_TEXT, &level, "LEVEL", "debug, info, warn or error (default info)"},
        {"log-format", OPTION_TEXT, &format, "FORMAT", "text or json (default text)"},
    };
    enum command_next next = command_parse(&command, table, sizeof table / sizeof *table, argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    int code = service_set_up_log(level, format, "defend", &err);
    if (code == 0 && http_port > 65535)
        code = error_set(&err, ERR_INVALID, "--http-port %lld: choose 1 to 65535, or 0 for none",
                         (long long)http_port);
    if (code == 0 && (options.nats_url == NULL || options.store_url == NULL))
        code = error_set(&err, ERR_INVALID,
                         "where are NATS and the store? Give --nats and --store, or set "
                         "CHAMBERLAIN_NATS and CHAMBERLAIN_STORE");
    if (code) {
        command_failed(&command, &err);
        return EXIT_USAGE;
    }
    options.pool = (int)pool;
    options.http_port = (int)http_port;
    options.expected_members = (int)expected;
    options.max_in_flight = (int)in_flight;
    options.compute_threads = (int)threads;
    options.replicas = (int)replicas;
    options.cache_bytes = cache_mb * 1000 * 1000;
    options.ack_wait_ms = ack_wait_us / 1000;
    options.sweep_age_ms = sweep_age_us / 1000;
    options.sweep_interval_ms = sweep_interval_us / 1000;
    options.missing_delay_ms = missing_delay_us / 1000;
    options.load_memory_ms = load_memory_us / 1000;
    options.reweigh_ms = reweigh_us / 1000;
    service_die_with_parent();
    return defender_run(&options, &err) ? command_failed(&command, &err) : 0;
}
