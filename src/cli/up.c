/* `chamberlain up`: a whole cluster on this machine under one process. nats-server (unless one is given), the
 * defenders, a Cassandra node when asked for, and the state of all under one directory. */
#include "cli/up_parts.h"

#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command command = {
    .name = "up",
    .operands = "",
    .summary =
        "Starts a whole cluster on this machine and keeps it running: nats-server (or the one at "
        "CHAMBERLAIN_NATS), some\n"
        "defenders, and their store: the embedded one, or a Cassandra node. Prints `ready` when contexts "
        "can be\n"
        "announced. Ctrl-C ends all of it; a second start finds the data again.",
    .examples = "  chamberlain up --dir fab\n"
                "  chamberlain up --dir fab --charts charts.yaml --nats-port 14222\n"
                "  chamberlain up --dir fab --store cassandra\n"
                "  chamberlain up --dir fab --store cassandra:10.0.0.1,10.0.0.2/chamberlain",
};

/* --- scaling --- */

static int scale_out(struct up *up, struct session *session, struct error *err)
{
    int code = up_start_defender(up, up->seat_count, &up->seats[up->seat_count], err);
    if (code)
        return code;
    up->seat_count++;
    up_write_cluster_file(up);
    return up_wait_for_state(up, session, up->seats[up->seat_count - 1], up_is_at_work, err);
}

/* The newest goes, and finishes what it has in flight. It keeps its place in the list until it has ended. */
static void scale_in(struct up *up)
{
    struct supervised *leaving = up->seats[up->seat_count - 1];
    supervised_end(leaving, SIGTERM, UP_DEFENDER_STOP_MS);
    while (supervised_is_running(leaving))
        up_pause_ms(up, 10);
    up->seats[--up->seat_count] = NULL;
    up_write_cluster_file(up);
}

static void scale(struct up *up, struct session *session)
{
    struct error err;
    enum autoscale_decision decision = scaler_ask(&up->scaler, session, up->seat_count);
    if (decision == AUTOSCALE_OUT && scale_out(up, session, &err))
        LOG_ERROR("could not start one more defender", LOG_STR("error", err.text));
    else if (decision == AUTOSCALE_IN)
        scale_in(up);
}

static void on_scale_timer(uv_timer_t *timer)
{
    struct up *up = timer->data;
    up->scale_due = true;
    uv_stop(&up->loop);
}

/* --- running --- */

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct up *up = handle->data;
    up->stopping = true;
    uv_stop(&up->loop);
}

static void on_roll_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct up *up = handle->data;
    up->roll_asked = true;
    uv_stop(&up->loop);
}

static int stay(struct up *up, struct error *err)
{
    struct session session;
    int code = session_open(&session, up->dir, SESSION_NATS, err);
    if (code)
        return code;
    code = up_wait_until_ready(up, &session, err);
    if (code == 0 && !up->stopping) {
        fprintf(stderr, "NATS %s, store %s; logs in %s\n", up->nats_url, up->store_url, up->dir);
        if (up->web)
            fprintf(stderr, "dashboard and API: http://127.0.0.1:%lld/\n", (long long)up->http_port);
        printf("ready\n");
        fflush(stdout);
    }
    if (scaler_is_on(&up->scaler))
        uv_timer_start(&up->scale_timer, on_scale_timer, scaler_interval_ms(&up->scaler),
                       scaler_interval_ms(&up->scaler));
    while (code == 0 && !up->stopping) {
        uv_run(&up->loop, UV_RUN_DEFAULT);
        if (up->scale_due && !up->stopping)
            scale(up, &session);
        up->scale_due = false;
        if (up->roll_asked)
            up_roll_defenders(up, &session);
        up->roll_asked = false;
    }
    session_close(&session);
    return code;
}

static int run(struct up *up, struct error *err)
{
    int code = up_start_cassandra(up, err);
    if (code == 0)
        code = up_start_server(up, err);
    if (code == 0)
        code = up_wait_for_cassandra(up, err);
    if (code == 0 && up->cassandra && !up->stopping)
        code = up_prepare_store(up, err);
    if (code || up->stopping)
        return code;
    up_write_cluster_file(up);
    setenv("CHAMBERLAIN_PARENT_PID", up->pid_text, 1);
    code = up_start_web(up, err);
    if (code == 0)
        code = up_start_defenders(up, err);
    if (code == 0)
        code = up_start_collectors(up, err);
    if (code == 0)
        code = up_start_notify(up, err);
    up_write_cluster_file(up);
    return code || up->stopping ? code : stay(up, err);
}

static int open_supervision(struct up *up, struct error *err)
{
    ssize_t length = readlink("/proc/self/exe", up->self, sizeof up->self - 1);
    if (length <= 0)
        return error_set(err, ERR_IO, "cannot find my own program: %s", strerror(errno));
    up->self[length] = '\0';
    snprintf(up->pid_text, sizeof up->pid_text, "%ld", (long)getpid());
    uv_loop_init(&up->loop);
    uv_signal_init(&up->loop, &up->term);
    uv_signal_init(&up->loop, &up->interrupt);
    up->term.data = up->interrupt.data = up;
    uv_signal_start(&up->term, on_signal, SIGTERM);
    uv_signal_start(&up->interrupt, on_signal, SIGINT);
    uv_signal_init(&up->loop, &up->roll_signal);
    up->roll_signal.data = up;
    uv_timer_init(&up->loop, &up->scale_timer);
    up->scale_timer.data = up;
    uv_signal_start(&up->roll_signal, on_roll_signal, SIGUSR1);
    return supervisor_open(&up->loop, up_write_cluster_file, up, &up->supervisor, err);
}

static void close_supervision(struct up *up)
{
    supervisor_close(up->supervisor);
    uv_close((uv_handle_t *)&up->term, NULL);
    uv_close((uv_handle_t *)&up->interrupt, NULL);
    uv_close((uv_handle_t *)&up->roll_signal, NULL);
    uv_close((uv_handle_t *)&up->scale_timer, NULL);
    uv_run(&up->loop, UV_RUN_DEFAULT);
    uv_loop_close(&up->loop);
}

/* --- the command --- */

int cli_up(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "roll") == 0)
        return cli_up_roll(argc - 1, argv + 1);
    static struct up up = {.http_port = -1,
                           .log_level = "info",
                           .log_format = "text",
                           .defenders_given = "1",
                           .collectors_wanted = 1,
                           .version = CHAMBERLAIN_VERSION};
    const struct command_option table[] = {
        {"dir", OPTION_TEXT, &up.dir_given, "DIR", "where all state is kept (default ./chamberlain-data)"},
        {"nats-port", OPTION_INTEGER, &up.nats_port, "PORT",
         "of nats-server (default: last time's, else 4222, else a free one)"},
        {"http-port", OPTION_INTEGER, &up.http_port, "PORT",
         "serves the dashboard and the API there, on this machine only, and gives each defender a port for "
         "its metrics "
         "(0: a free one; default: neither)"},
        {"notify", OPTION_TEXT, &up.notify_given, "FILE",
         "tells the sinks of this configuration of alarms (docs/alarms.md)"},
        {"defenders", OPTION_TEXT, &up.defenders_given, "N",
         "how many defenders (default 1), or from how many to how many as load asks for: 3..10"},
        {"scale-p95", OPTION_DURATION, &up.scale.p95_us, "TIME",
         "one more when the process time's 95th percentile is over this (default 5s)"},
        {"scale-after", OPTION_DURATION, &up.scale.after_us, "TIME",
         "... for this long (default 5min; the percentile is that of a fifth of it)"},
        {"scale-idle", OPTION_DURATION, &up.scale.idle_us, "TIME",
         "one less after so long at rest, with a fifth of that percentile (default 10min)"},
        {"scale-per", OPTION_DURATION, &up.scale.per_us, "TIME",
         "at most two such changes in this time (default 1h)"},
        {"collectors", OPTION_INTEGER, &up.collectors_wanted, "N",
         "how many collectors, for equipment that publishes samples (default 1; 0: none)"},
        {"compute-threads", OPTION_TEXT, &up.compute_threads, "N",
         "threads of each defender that calculate (default: one a core)"},
        {"version-label", OPTION_TEXT, &up.version, "TEXT",
         "version the defenders show (default: the software's)"},
        {"charts", OPTION_TEXT, &up.charts_file, "FILE",
         "chart file to put in force (default: the one in force stays)"},
        {"store", OPTION_TEXT, &up.store_given, "STORE",
         "sqlite, sqlite:PATH, cassandra (runs a node), cassandra:HOSTS/KEYSPACE, failover:... (default: "
         "last "
         "time's, else sqlite)"},
        {"sweep-age", OPTION_TEXT, &up.sweep_age, "TIME",
         "unjudged contexts older than this are announced again (default 60s)"},
        {"sweep-interval", OPTION_TEXT, &up.sweep_interval, "TIME",
         "how often that is looked for (default 10s)"},
        {"ack-wait", OPTION_TEXT, &up.ack_wait, "TIME",
         "silence after which a message is redelivered (default 30s)"},
        {"missing-delay", OPTION_TEXT, &up.missing_delay, "TIME",
         "first wait for a T-chart that is not there (default 1s)"},
        {"tchart-retention", OPTION_TEXT, &up.tchart_retention, "TIME",
         "traces are kept this long (default 3d)"},
        {"uchart-retention", OPTION_TEXT, &up.uchart_retention, "TIME",
         "verdicts are kept this long (default 365d)"},
        {"retain-by-event", OPTION_FLAG, &up.retain_by_event, NULL,
         "count retention from the run's end, not from storing"},
        {"log-level", OPTION_TEXT, &up.log_level, "LEVEL",
         "of the defender: debug, info, warn or error (default info)"},
        {"log-format", OPTION_TEXT, &up.log_format, "FORMAT", "of the defender: text or json (default text)"},
    };
    enum command_next next = command_parse(&command, table, sizeof table / sizeof *table, argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "up");
    size_t most;
    if (up.http_port > 65535) {
        error_set(&err, ERR_INVALID, "--http-port %lld: choose 1 to 65535, or 0 for a free one",
                  (long long)up.http_port);
        command_failed(&command, &err);
        return EXIT_USAGE;
    }
    int code = scaler_parse_range(up.defenders_given, UP_DEFENDERS_MAX, &up.defenders, &most, &err);
    if (code == 0) {
        scaler_init(&up.scaler, up.defenders, most, &up.scale);
        code = up_check_collectors(&up, &err);
    }
    if (code == 0) {
        code = up_check_notify(&up, &err);
        if (code == 0)
            code = up_make_dir(&up, &err);
    }
    if (code == 0) {
        up_take_store_option(&up);
        code = up_name_store(&up, &err);
    }
    if (code == 0 && !up_store_is(&up, "cassandra"))
        code = up_prepare_store(&up, &err);
    if (code)
        return command_failed(&command, &err);
    code = open_supervision(&up, &err);
    if (code == 0) {
        code = run(&up, &err);
        up_stop_children(&up);
        close_supervision(&up);
    }
    return code ? command_failed(&command, &err) : 0;
}
