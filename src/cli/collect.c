/* `chamberlain collect`: one collector process. */
#include "cli/command.h"
#include "cli/service.h"
#include "collector/collector.h"

#include <signal.h>
#include <stdlib.h>

static const struct command command = {
    .name = "collect",
    .operands = "",
    .summary =
        "Runs one collector until SIGTERM or SIGINT: makes T-charts of the batches of samples that "
        "equipment\n"
        "publishes on eqp.{tool}.{chamber}.{start|data|end}, and announces each context when it is stored.\n"
        "NATS and the store are found by --nats and --store, or by CHAMBERLAIN_NATS and CHAMBERLAIN_STORE.",
    .examples =
        "  chamberlain collect --nats nats://127.0.0.1:4222 --store sqlite:/var/lib/chamberlain/store.db\n"
        "  chamberlain collect --flush 30s --silence 20m --buffer-mb 1000",
};

static int check(const struct collector_options *options, struct error *err)
{
    if (options->nats_url == NULL || options->store_url == NULL)
        return error_set(err, ERR_INVALID,
                         "where are NATS and the store? Give --nats and --store, or set CHAMBERLAIN_NATS and "
                         "CHAMBERLAIN_STORE");
    return options->http_port > 65535
               ? error_set(err, ERR_INVALID, "--http-port %d: choose 1 to 65535, or 0 for none",
                           options->http_port)
               : 0;
}

int cli_collect(int argc, char **argv)
{
    struct collector_options options = {.nats_url = getenv("CHAMBERLAIN_NATS"),
                                        .store_url = getenv("CHAMBERLAIN_STORE"),
                                        .cell = getenv("CHAMBERLAIN_CELL"),
                                        .credentials_file = getenv("CHAMBERLAIN_NATS_CREDENTIALS"),
                                        .ca_file = getenv("CHAMBERLAIN_NATS_CA"),
                                        .certificate_file = getenv("CHAMBERLAIN_NATS_CERTIFICATE"),
                                        .key_file = getenv("CHAMBERLAIN_NATS_KEY"),
                                        .version = CHAMBERLAIN_VERSION};
    int64_t pool = 0, expected = 0, replicas = 0, ack_wait_us = 0, buffer_mb = 0, stream_mb = 0,
            http_port = 0;
    const char *level = "info", *format = "text";
    const struct command_option table[] = {
        {"nats", OPTION_TEXT, &options.nats_url, "URL", "NATS server, or several with commas"},
        {"store", OPTION_TEXT, &options.store_url, "URL", "sqlite:PATH or cassandra:HOSTS/KEYSPACE"},
        {"cell", OPTION_TEXT, &options.cell, "NAME",
         "part of the fab whose names are prefixed (default none)"},
        {"seat", OPTION_TEXT, &options.seat, "FILE",
         "a file of this collector's own: restarted on it, it is back in its place at once"},
        {"flush", OPTION_DURATION, &options.flush_us, "TIME",
         "samples are stored when the oldest has waited so long (default 15s)"},
        {"gap-wait", OPTION_DURATION, &options.gap_us, "TIME",
         "how long a missing batch, start or end is waited for (default 150s)"},
        {"silence", OPTION_DURATION, &options.silent_us, "TIME",
         "a context whose tool says nothing for so long is cut (default 10m)"},
        {"context-max", OPTION_DURATION, &options.context_max_us, "TIME",
         "samples lie within so long after their start (default 24h)"},
        {"buffer-mb", OPTION_INTEGER, &buffer_mb, "MB",
         "memory for samples; when it is full nothing more is pulled (default 256)"},
        {"stream-mb", OPTION_INTEGER, &stream_mb, "MB",
         "size of the stream eqp-samples, which refuses more (default 1024)"},
        {"stream-age", OPTION_DURATION, &options.stream_age_us, "TIME",
         "eqp-samples forgets what is older than this (default 48h)"},
        {"ack-wait", OPTION_DURATION, &ack_wait_us, "TIME",
         "silence after which a message is redelivered (default 60s)"},
        {"group", OPTION_TEXT, &options.group, "NAME", "blue, canary, ...: shown in status"},
        {"pool", OPTION_INTEGER, &pool, "N",
         "how many IDs there are; who finds none free stands by (default 1000)"},
        {"expected", OPTION_INTEGER, &expected, "N",
         "how many collectors there will be: windows close early"},
        {"version-label", OPTION_TEXT, &options.version, "TEXT",
         "version shown in status (default: the software's)"},
        {"replicas", OPTION_INTEGER, &replicas, "N",
         "replicas of the streams, 3 in a NATS cluster (default 1)"},
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
    options.pool = (int)pool;
    options.expected_members = (int)expected;
    options.replicas = (int)replicas;
    options.ack_wait_ms = ack_wait_us / 1000;
    options.buffer_bytes = buffer_mb * 1000 * 1000;
    options.stream_bytes = stream_mb * 1000 * 1000;
    options.http_port = http_port > 65535 ? 65536 : (int)http_port;
    int code = service_set_up_log(level, format, "collect", &err);
    if (code == 0)
        code = check(&options, &err);
    if (code) {
        command_failed(&command, &err);
        return EXIT_USAGE;
    }
    service_die_with_parent();
    return collector_run(&options, &err) ? command_failed(&command, &err) : 0;
}
