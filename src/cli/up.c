/* `chamberlain up`: a whole cluster on this machine under one process. nats-server (unless one is given), a
 * defender, and the state of both under one directory. */
#include "cli/chart_file.h"
#include "cli/command.h"
#include "cli/natsserver.h"
#include "cli/session.h"
#include "cli/supervisor.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SERVER_START_MS = 20 * 1000,
    READY_MS = 60 * 1000,
    POLL_MS = 50,
    SERVER_STOP_MS = 10 * 1000,
    DEFENDER_STOP_MS = 28 * 1000 /* its own drain takes 25 s at most */
};

static const struct command command = {
    .name = "up",
    .operands = "",
    .summary = "Starts a whole cluster on this machine and keeps it running: nats-server (or the one at "
               "CHAMBERLAIN_NATS), a\n"
               "defender with the embedded SQLite store. Prints `ready` when contexts can be announced. "
               "Ctrl-C ends all of\n"
               "it; a second start finds the data again.",
    .examples = "  chamberlain up --dir fab\n"
                "  chamberlain up --dir fab --charts charts.yaml --nats-port 14222",
};

struct up {
    const char *dir_given, *charts_file, *store_kind, *log_level, *log_format;
    int64_t nats_port, http_port, defenders;
    const char *sweep_age, *sweep_interval, *ack_wait, *missing_delay, *tchart_retention, *uchart_retention;
    bool retain_by_event;

    char dir[PATH_MAX];
    char self[PATH_MAX];
    char nats_url[SESSION_PATH_BYTES];
    char store_url[SESSION_PATH_BYTES];
    bool own_server;
    int port;
    int lock;
    uv_loop_t loop;
    uv_signal_t term, interrupt;
    bool stopping;
    struct supervisor *supervisor;
    struct supervised *server, *defender;
};

/* --- the directory --- */

static int make_dir(struct up *up, struct error *err)
{
    const char *given = up->dir_given ? up->dir_given : "chamberlain-data";
    if (mkdir(given, 0755) && errno != EEXIST)
        return error_set(err, ERR_IO, "cannot make %s: %s", given, strerror(errno));
    if (realpath(given, up->dir) == NULL)
        return error_set(err, ERR_IO, "cannot find %s: %s", given, strerror(errno));
    char path[PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/up.lock", up->dir);
    up->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (up->lock < 0)
        return error_set(err, ERR_IO, "cannot open %s: %s", path, strerror(errno));
    if (flock(up->lock, LOCK_EX | LOCK_NB))
        return error_set(err, ERR_CONFLICT,
                         "another `chamberlain up` runs in %s; stop it first, or choose another --dir",
                         up->dir);
    return 0;
}

/* What other commands find the cluster by. Written anew, under another name first, whenever a child has
 * changed. */
static void write_cluster_file(void *arg)
{
    struct up *up = arg;
    char path[PATH_MAX + 32], temporary[PATH_MAX + 40];
    snprintf(path, sizeof path, "%s/cluster.json", up->dir);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    json_t *children = json_object();
    if (up->server)
        json_object_set_new(children, "nats-server", json_integer(supervised_pid(up->server)));
    if (up->defender)
        json_object_set_new(children, "defender-0", json_integer(supervised_pid(up->defender)));
    json_t *cluster = json_pack("{s:s, s:s, s:s, s:i, s:o}", "nats", up->nats_url, "store", up->store_url,
                                "cell", "", "pid", (int)getpid(), "children", children);
    if (json_dump_file(cluster, temporary, JSON_INDENT(2)) || rename(temporary, path))
        LOG_WARN("cannot write cluster.json", LOG_STR("path", path), LOG_STR("error", strerror(errno)));
    json_decref(cluster);
}

/* The port of the last time, so that clients which remember it find the cluster again. */
static int remembered_port(const struct up *up)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/cluster.json", up->dir);
    json_t *cluster = json_load_file(path, 0, NULL);
    const char *url = json_string_value(json_object_get(cluster, "nats"));
    const char *colon = url ? strrchr(url, ':') : NULL;
    int port = colon ? atoi(colon + 1) : 0;
    json_decref(cluster);
    return port > 0 ? port : NATSSERVER_DEFAULT_PORT;
}

/* --- store and charts --- */

static int put_charts(struct up *up, struct store *store, struct store_wait *wait, struct error *err)
{
    struct chart_problems problems;
    struct chart_set *set = NULL;
    struct strbuf text;
    chart_problems_init(&problems);
    strbuf_init(&text);
    int code = chart_file_load(up->charts_file, &set, &problems, err);
    chart_file_add_problems(up->charts_file, &problems, &text);
    fputs(text.text, stderr);
    strbuf_free(&text);
    chart_problems_free(&problems);
    if (code)
        return code;
    size_t length;
    store_put_chart_set(store, chart_set_id(set), chart_set_text(set, &length), true, clock_wall_us(),
                        store_wait_done, wait);
    struct store_reply *reply = store_wait_reply(wait);
    code = reply->code;
    if (code)
        *err = reply->error;
    store_reply_free(reply);
    chart_set_free(set);
    return code;
}

/* Opened once here, so that a store that cannot be used is said at once and by name. */
static int prepare_store(struct up *up, struct error *err)
{
    if (strcmp(up->store_kind, "sqlite") != 0)
        return error_set(err, ERR_UNSUPPORTED,
                         "--store %s: this version has the embedded store only: --store sqlite",
                         up->store_kind);
    int length = snprintf(up->store_url, sizeof up->store_url, "sqlite:%s/store.db", up->dir);
    if (length < 0 || (size_t)length >= sizeof up->store_url)
        return error_set(err, ERR_LIMIT, "the path of --dir is too long");
    struct store *store;
    int code = store_open(up->store_url, NULL, &store, err);
    if (code)
        return code;
    struct store_wait *wait = store_wait_new();
    if (wait == NULL)
        code = error_set(err, ERR_NO_MEMORY, "no memory");
    if (code == 0 && up->charts_file)
        code = put_charts(up, store, wait, err);
    store_close(store);
    if (wait)
        store_wait_free(wait);
    return code;
}

/* --- children --- */

/* Lets the loop run for a moment: deaths and signals are handled. */
static void pause_ms(struct up *up, int ms)
{
    uv_run(&up->loop, UV_RUN_NOWAIT);
    usleep((unsigned)ms * 1000);
    uv_run(&up->loop, UV_RUN_NOWAIT);
}

static void print_log_tail(const char *path)
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

static int start_server(struct up *up, struct error *err)
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
    up->port = up->nats_port > 0 ? (int)up->nats_port : natsserver_choose_port(remembered_port(up));
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
            print_log_tail(log);
            return error_set(err, ERR_UNAVAILABLE,
                             "nats-server does not come up; its last words are above, all of them in %s",
                             log);
        }
        pause_ms(up, POLL_MS);
    }
    return 0;
}

static int start_defender(struct up *up, struct error *err)
{
    char log[PATH_MAX + 32], parent[32];
    snprintf(log, sizeof log, "%s/defender-0.log", up->dir);
    snprintf(parent, sizeof parent, "%ld", (long)getpid());
    setenv("CHAMBERLAIN_PARENT_PID", parent, 1);
    const char *argv[SUPERVISOR_ARGUMENTS_MAX] = {
        up->self,  "defend",      "--id",        "defender-0",  "--nats",       up->nats_url,
        "--store", up->store_url, "--log-level", up->log_level, "--log-format", up->log_format};
    size_t count = 12;
    const struct {
        const char *option, *value;
    } passed[] = {{"--sweep-age", up->sweep_age},
                  {"--sweep-interval", up->sweep_interval},
                  {"--ack-wait", up->ack_wait},
                  {"--missing-delay", up->missing_delay},
                  {"--tchart-retention", up->tchart_retention},
                  {"--uchart-retention", up->uchart_retention}};
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        if (passed[i].value) {
            argv[count++] = passed[i].option;
            argv[count++] = passed[i].value;
        }
    if (up->retain_by_event)
        argv[count++] = "--retain-by-event";
    return supervisor_start(up->supervisor, "defender-0", argv, log, &up->defender, err);
}

/* Ready when the defender says that its consumer is in force. */
static int wait_until_ready(struct up *up, struct error *err)
{
    char log[PATH_MAX + 32];
    struct session session;
    snprintf(log, sizeof log, "%s/defender-0.log", up->dir);
    int code = session_open(&session, up->dir, SESSION_NATS, err);
    if (code)
        return code;
    int64_t give_up_ns = clock_mono_ns() + READY_MS * INT64_C(1000000);
    bool ready = false;
    while (!ready && !up->stopping && code == 0) {
        pause_ms(up, POLL_MS);
        json_t *members = session_defenders(&session, NULL);
        const char *state = json_string_value(json_object_get(json_array_get(members, 0), "state"));
        ready = state && strcmp(state, "STABLE") == 0;
        json_decref(members);
        if (!ready && (supervised_restarts(up->defender) > 2 || clock_mono_ns() > give_up_ns)) {
            print_log_tail(log);
            code =
                error_set(err, ERR_UNAVAILABLE,
                          "the defender does not come up; its last words are above, all of them in %s", log);
        }
    }
    session_close(&session);
    return code;
}

/* Defenders first, so that what they finish can still be acknowledged. */
static void stop_children(struct up *up)
{
    up->stopping = true;
    if (up->defender)
        supervised_end(up->defender, SIGTERM, DEFENDER_STOP_MS);
    while (supervised_is_running(up->defender))
        pause_ms(up, 10);
    if (up->server)
        supervised_end(up->server, SIGTERM, SERVER_STOP_MS);
    while (supervised_is_running(up->server))
        pause_ms(up, 10);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct up *up = handle->data;
    up->stopping = true;
    uv_stop(&up->loop);
}

static int run(struct up *up, struct error *err)
{
    int code = start_server(up, err);
    if (code == 0 && !up->stopping) {
        write_cluster_file(up);
        code = start_defender(up, err);
    }
    if (code == 0 && !up->stopping) {
        write_cluster_file(up);
        code = wait_until_ready(up, err);
    }
    if (code || up->stopping)
        return code;
    fprintf(stderr, "NATS %s, store %s; logs in %s\n", up->nats_url, up->store_url, up->dir);
    printf("ready\n");
    fflush(stdout);
    while (!up->stopping)
        uv_run(&up->loop, UV_RUN_DEFAULT);
    return 0;
}

static int open_supervision(struct up *up, struct error *err)
{
    ssize_t length = readlink("/proc/self/exe", up->self, sizeof up->self - 1);
    if (length <= 0)
        return error_set(err, ERR_IO, "cannot find my own program: %s", strerror(errno));
    up->self[length] = '\0';
    uv_loop_init(&up->loop);
    uv_signal_init(&up->loop, &up->term);
    uv_signal_init(&up->loop, &up->interrupt);
    up->term.data = up->interrupt.data = up;
    uv_signal_start(&up->term, on_signal, SIGTERM);
    uv_signal_start(&up->interrupt, on_signal, SIGINT);
    return supervisor_open(&up->loop, write_cluster_file, up, &up->supervisor, err);
}

static void close_supervision(struct up *up)
{
    supervisor_close(up->supervisor);
    uv_close((uv_handle_t *)&up->term, NULL);
    uv_close((uv_handle_t *)&up->interrupt, NULL);
    uv_run(&up->loop, UV_RUN_DEFAULT);
    uv_loop_close(&up->loop);
}

int cli_up(int argc, char **argv)
{
    static struct up up = {.store_kind = "sqlite", .log_level = "info", .log_format = "text", .defenders = 1};
    const struct command_option table[] = {
        {"dir", OPTION_TEXT, &up.dir_given, "DIR", "where all state is kept (default ./chamberlain-data)"},
        {"nats-port", OPTION_INTEGER, &up.nats_port, "PORT",
         "of nats-server (default: last time's, else 4222, else a free one)"},
        {"http-port", OPTION_INTEGER, &up.http_port, "PORT",
         "kept for the dashboard, which this version does not have yet"},
        {"defenders", OPTION_INTEGER, &up.defenders, "N", "this version runs one"},
        {"charts", OPTION_TEXT, &up.charts_file, "FILE",
         "chart file to put in force (default: the one in force stays)"},
        {"store", OPTION_TEXT, &up.store_kind, "KIND", "sqlite (the default)"},
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
    int code = up.defenders == 1 ? 0
                                 : error_set(&err, ERR_UNSUPPORTED, "--defenders %lld: this version runs one",
                                             (long long)up.defenders);
    if (code == 0)
        code = make_dir(&up, &err);
    if (code == 0)
        code = prepare_store(&up, &err);
    if (code)
        return command_failed(&command, &err);
    code = open_supervision(&up, &err);
    if (code == 0) {
        code = run(&up, &err);
        stop_children(&up);
        close_supervision(&up);
    }
    return code ? command_failed(&command, &err) : 0;
}
