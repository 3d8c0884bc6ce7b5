/* `chamberlain collect`: one collector process. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/service.h"
#include "collector/collector.h"

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

int cli_collect(int argc, char **argv)
{
    struct service_member member;
    struct collector_options options = {0};
    int64_t ack_wait_us = 0, buffer_mb = 0, stream_mb = 0;
    struct command_option table[] = {
        [SERVICE_MEMBER_OPTIONS] = {"flush", OPTION_DURATION, &options.flush_us, "TIME",
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
    };
    service_member_begin(&member, table);
    enum command_next next = command_parse(&command, table, OPTION_COUNT(table), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    if (service_member_settle(&member, "collect", &err)) {
        command_failed(&command, &err);
        return EXIT_USAGE;
    }
    options.place = member.place;
    options.ack_wait_ms = ack_wait_us / 1000;
    options.buffer_bytes = buffer_mb * 1000 * 1000;
    options.stream_bytes = stream_mb * 1000 * 1000;
    service_die_with_parent();
    return collector_run(&options, &err) ? command_failed(&command, &err) : 0;
}
