/* The children of `up`: their commands, ports and logs, their start, their states and their end. */
#include "cli/up_parts.h"

#include "base/clock.h"
#include "bus/names.h"
#include "cli/natsserver.h"
#include "notify/config.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SERVER_START_MS = 20 * 1000,
    READY_MS = 60 * 1000,
    ASK_TIMEOUT_MS = 500,
    SERVER_STOP_MS = 10 * 1000,
    CASSANDRA_STOP_MS = 20 * 1000,
    WEB_STOP_MS = 5 * 1000,
    METRICS_PORT_ATTEMPTS = 32
};

void up_pause_ms(struct up *up, int ms)
{
    uv_run(&up->loop, UV_RUN_NOWAIT);
    usleep((unsigned)ms * 1000);
    uv_run(&up->loop, UV_RUN_NOWAIT);
}

void up_print_log_tail(const char *path)
{
    FILE *file = fopen(path, "r");
    char line[512];
    if (file == NULL)
        return;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    fseek(file, size > 1500 ? size - 1500 : 0, SEEK_SET);
    while (fgets(line, sizeof line, file))
        fprintf(stderr, "  | %s", line);
    fclose(file);
}

int up_start_server(struct up *up, struct error *err)
{
    const char *given = getenv("CHAMBERLAIN_NATS");
    if (given) {
        snprintf(up->nats_url, sizeof up->nats_url, "%s", given);
        return 0;
    }
    char program[NATSSERVER_PATH_BYTES], config[NATSSERVER_PATH_BYTES], log[PATH_MAX + 32];
    int code = natsserver_find(program, err);
    if (code)
        return code;
    if (up->nats_port > 0 && !natsserver_port_is_free((int)up->nats_port))
        return error_set(err, ERR_CONFLICT, "port %lld is taken; choose another --nats-port, or leave it out",
                         (long long)up->nats_port);
    up->port = up->nats_port > 0 ? (int)up->nats_port : natsserver_choose_port(up_remembered_port(up));
    snprintf(up->nats_url, sizeof up->nats_url, "nats://127.0.0.1:%d", up->port);
    code = natsserver_write_config(up->dir, up->port, config, err);
    if (code)
        return code;
    snprintf(log, sizeof log, "%s/nats-server.log", up->dir);
    const char *const argv[] = {program, "-c", config, NULL};
    code = supervisor_start(up->supervisor, "nats-server", argv, log, &up->server, err);
    if (code)
        return code;
    int64_t give_up_ns = clock_mono_ns() + SERVER_START_MS * INT64_C(1000000);
    while (!natsserver_answers(up->port) && !up->stopping) {
        if (supervised_restarts(up->server) > 2 || clock_mono_ns() > give_up_ns) {
            up_print_log_tail(log);
            return error_set(err, ERR_UNAVAILABLE,
                             "nats-server does not come up; its last words are above, all of them in %s",
                             log);
        }
        up_pause_ms(up, UP_POLL_MS);
    }
    return 0;
}

/* A port for one child's metrics that no other one here has. 0: none are asked for, or to be had. */
static int choose_metrics_port(const struct up *up)
{
    bool taken = up->http_port >= 0;
    int port = 0;
    for (int attempt = 0; taken && attempt < METRICS_PORT_ATTEMPTS; attempt++) {
        port = natsserver_choose_port(0);
        taken = port == (int)up->http_port || port == up->notify_port;
        for (size_t i = 0; i < up->seat_count; i++)
            taken |= up->metrics_ports[i] == port;
        for (size_t i = 0; i < up->collector_count; i++)
            taken |= up->collector_ports[i] == port;
    }
    return taken ? 0 : port;
}

int up_start_defender(struct up *up, size_t seat, struct supervised **child, struct error *err)
{
    char name[64], log[PATH_MAX + 96];
    snprintf(name, sizeof name, "defender-%zu", seat);
    snprintf(log, sizeof log, "%s/%s.log", up->dir, name);
    char expected[32], seat_file[PATH_MAX + 96];
    snprintf(seat_file, sizeof seat_file, "%s/%s.%d.seat", up->dir, name, up->rolls);
    /* Where the number changes nobody knows how many there will be. */
    snprintf(expected, sizeof expected, "%zu", scaler_is_on(&up->scaler) ? 0 : up->defenders);
    const char *argv[SUPERVISOR_ARGUMENTS_MAX] = {
        up->self,      "defend",      "--nats",       up->nats_url,   "--store",         up->store_url,
        "--log-level", up->log_level, "--log-format", up->log_format, "--version-label", up->version,
        "--expected",  expected,      "--seat",       seat_file};
    size_t count = 16;
    const struct {
        const char *option, *value;
    } passed[] = {{"--sweep-age", up->sweep_age},
                  {"--sweep-interval", up->sweep_interval},
                  {"--ack-wait", up->ack_wait},
                  {"--missing-delay", up->missing_delay},
                  {"--tchart-retention", up->tchart_retention},
                  {"--uchart-retention", up->uchart_retention},
                  {"--compute-threads", up->compute_threads}};
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        if (passed[i].value) {
            argv[count++] = passed[i].option;
            argv[count++] = passed[i].value;
        }
    if (up->retain_by_event)
        argv[count++] = "--retain-by-event";
    char port[16];
    up->metrics_ports[seat] = choose_metrics_port(up);
    if (up->metrics_ports[seat]) {
        snprintf(port, sizeof port, "%d", up->metrics_ports[seat]);
        argv[count++] = "--http-port";
        argv[count++] = port;
    }
    return supervisor_start(up->supervisor, name, argv, log, child, err);
}

int up_start_defenders(struct up *up, struct error *err)
{
    int code = 0;
    while (code == 0 && up->seat_count < up->defenders) {
        code = up_start_defender(up, up->seat_count, &up->seats[up->seat_count], err);
        if (code == 0)
            up->seat_count++;
    }
    return code;
}

int up_check_collectors(const struct up *up, struct error *err)
{
    return up->collectors_wanted <= UP_COLLECTORS_MAX
               ? 0
               : error_set(err, ERR_INVALID, "--collectors %lld: choose 0 to %d",
                           (long long)up->collectors_wanted, UP_COLLECTORS_MAX);
}

static int start_collector(struct up *up, size_t number, struct error *err)
{
    char name[64], log[PATH_MAX + 96], seat_file[PATH_MAX + 96], expected[32], port[16];
    up->collector_ports[number] = choose_metrics_port(up);
    snprintf(name, sizeof name, "collector-%zu", number);
    snprintf(log, sizeof log, "%s/%s.log", up->dir, name);
    snprintf(seat_file, sizeof seat_file, "%s/%s.seat", up->dir, name);
    snprintf(expected, sizeof expected, "%lld", (long long)up->collectors_wanted);
    snprintf(port, sizeof port, "%d", up->collector_ports[number]);
    const char *const argv[] = {up->self,       "collect",      "--nats", up->nats_url,  "--store",
                                up->store_url,  "--expected",   expected, "--log-level", up->log_level,
                                "--log-format", up->log_format, "--seat", seat_file,     "--version-label",
                                up->version,    "--http-port",  port,     NULL};
    return supervisor_start(up->supervisor, name, argv, log, &up->collectors[number], err);
}

/* Like defenders, but not part of a roll. */
int up_start_collectors(struct up *up, struct error *err)
{
    int code = 0;
    while (code == 0 && up->collector_count < (size_t)up->collectors_wanted) {
        code = start_collector(up, up->collector_count, err);
        if (code == 0)
            up->collector_count++;
    }
    return code;
}

int up_start_web(struct up *up, struct error *err)
{
    char log[PATH_MAX + 32], port[16];
    if (up->http_port < 0)
        return 0;
    if (up->http_port == 0)
        up->http_port = natsserver_choose_port(0);
    else if (!natsserver_port_is_free((int)up->http_port))
        return error_set(err, ERR_CONFLICT, "port %lld is taken; choose another --http-port",
                         (long long)up->http_port);
    snprintf(log, sizeof log, "%s/web.log", up->dir);
    snprintf(port, sizeof port, "%lld", (long long)up->http_port);
    const char *const argv[] = {
        up->self,      "web",          "--dir",        up->dir,           "--http-port", port, "--log-level",
        up->log_level, "--log-format", up->log_format, "--version-label", up->version,   NULL};
    return supervisor_start(up->supervisor, "web", argv, log, &up->web, err);
}

static void print_notify_problem(void *arg, size_t line, size_t column, const char *message)
{
    const struct up *up = arg;
    fprintf(stderr, "%s:%zu:%zu: %s\n", up->notify_given, line, column, message);
}

int up_check_notify(struct up *up, struct error *err)
{
    struct notify_config config;
    if (up->notify_given == NULL)
        return 0;
    if (realpath(up->notify_given, up->notify_file) == NULL)
        return error_set(err, ERR_IO, "cannot find %s: %s", up->notify_given, strerror(errno));
    int code = notify_config_load(up->notify_file, print_notify_problem, up, &config, err);
    notify_config_free(&config);
    if (code == ERR_INVALID)
        error_set(err, ERR_INVALID, "%s has the problems above", up->notify_given);
    return code;
}

int up_start_notify(struct up *up, struct error *err)
{
    char log[PATH_MAX + 32], port[16];
    if (up->notify_given == NULL)
        return 0;
    snprintf(log, sizeof log, "%s/notify.log", up->dir);
    const char *argv[16] = {up->self,      "notify",       "--dir",        up->dir,        "--log-level",
                            up->log_level, "--log-format", up->log_format, up->notify_file};
    size_t count = 9;
    if (up->http_port >= 0)
        up->notify_port = choose_metrics_port(up);
    if (up->notify_port) {
        snprintf(port, sizeof port, "%d", up->notify_port);
        argv[count++] = "--http-port";
        argv[count++] = port;
    }
    return supervisor_start(up->supervisor, "notify", argv, log, &up->notify, err);
}

/* --- their states --- */

/* What a process says of its state: "FOLLOWER"; "" while it does not answer. */
static void ask_state(struct session *session, pid_t pid, char state[static 32])
{
    char own[64], subject[NAMES_BYTES];
    snprintf(own, sizeof own, "cluster.ask.pid-%ld", (long)pid);
    json_t *answer =
        session_ask(session, names_subject(session->cell, own, subject), "status", ASK_TIMEOUT_MS, NULL);
    const char *text = json_string_value(json_object_get(answer, "state"));
    snprintf(state, 32, "%s", text ? text : "");
    json_decref(answer);
}

bool up_is_at_work(const char *state)
{
    return strcmp(state, "FOLLOWER") == 0 || strcmp(state, "LEADER") == 0;
}

int up_wait_for_state(struct up *up, struct session *session, struct supervised *child,
                      bool (*wanted)(const char *state), struct error *err)
{
    int64_t give_up_ns = clock_mono_ns() + READY_MS * INT64_C(1000000);
    char state[32] = "";
    while (!up->stopping) {
        if (supervised_is_running(child))
            ask_state(session, supervised_pid(child), state);
        if (wanted(state))
            return 0;
        if (supervised_restarts(child) > 2 || clock_mono_ns() > give_up_ns) {
            char log[PATH_MAX + 96];
            snprintf(log, sizeof log, "%s/%s.log", up->dir, supervised_name(child));
            up_print_log_tail(log);
            return error_set(err, ERR_UNAVAILABLE,
                             "%s does not come up; its last words are above, all of them in %s",
                             supervised_name(child), log);
        }
        up_pause_ms(up, UP_POLL_MS);
    }
    return 0;
}

int up_wait_until_ready(struct up *up, struct session *session, struct error *err)
{
    int code = 0;
    for (size_t i = 0; i < up->seat_count && code == 0; i++)
        code = up_wait_for_state(up, session, up->seats[i], up_is_at_work, err);
    for (size_t i = 0; i < up->collector_count && code == 0; i++)
        code = up_wait_for_state(up, session, up->collectors[i], up_is_at_work, err);
    return code;
}

/* --- their end --- */

void up_stop_children(struct up *up)
{
    up->stopping = true;
    if (up->web)
        supervised_end(up->web, SIGTERM, WEB_STOP_MS);
    if (up->notify)
        supervised_end(up->notify, SIGTERM, WEB_STOP_MS);
    for (size_t i = 0; i < up->collector_count; i++)
        supervised_end(up->collectors[i], SIGTERM, UP_DEFENDER_STOP_MS);
    for (size_t i = 0; i < up->seat_count; i++)
        supervised_end(up->seats[i], SIGTERM, UP_DEFENDER_STOP_MS);
    for (size_t i = 0; i < up->collector_count; i++)
        while (supervised_is_running(up->collectors[i]))
            up_pause_ms(up, 10);
    for (size_t i = 0; i < up->seat_count; i++)
        while (supervised_is_running(up->seats[i]))
            up_pause_ms(up, 10);
    while (supervised_is_running(up->notify))
        up_pause_ms(up, 10);
    if (up->server)
        supervised_end(up->server, SIGTERM, SERVER_STOP_MS);
    if (up->cassandra)
        supervised_end(up->cassandra, SIGTERM, CASSANDRA_STOP_MS);
    while (supervised_is_running(up->server) || supervised_is_running(up->cassandra) ||
           supervised_is_running(up->web))
        up_pause_ms(up, 10);
}
