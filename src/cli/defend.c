/* `chamberlain defend`: one worker process. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/service.h"
#include "defender/defender.h"

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
    struct service_member member;
    struct defender_options options = {0};
    int64_t in_flight = 0, threads = 0, cache_mb = 0, ack_wait_us = 0, sweep_age_us = 0,
            sweep_interval_us = 0, missing_delay_us = 0, load_memory_us = 0, reweigh_us = 0;
    struct command_option table[] = {
        [SERVICE_MEMBER_OPTIONS] = {"share", OPTION_FRACTION, &options.share, "PART",
                                    "the most of all weight this one may hold, e.g. 10%"},
        {"max-in-flight", OPTION_INTEGER, &in_flight, "N", "contexts judged side by side (default 64)"},
        {"compute-threads", OPTION_INTEGER, &threads, "N", "threads that calculate (default: one a core)"},
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
    };
    service_member_begin(&member, table);
    enum command_next next = command_parse(&command, table, OPTION_COUNT(table), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    if (service_member_settle(&member, "defend", &err)) {
        command_failed(&command, &err);
        return EXIT_USAGE;
    }
    options.place = member.place;
    options.max_in_flight = (int)in_flight;
    options.compute_threads = (int)threads;
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
