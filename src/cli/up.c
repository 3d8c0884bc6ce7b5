/* `chamberlain up`: a whole cluster on this machine under one process. nats-server (unless one is given), the
 * defenders, a Cassandra node when asked for, and the state of all under one directory. */
#include "cli/cassandranode.h"
#include "cli/chart_file.h"
#include "cli/command.h"
#include "cli/natsserver.h"
#include "cli/scaler.h"
#include "cli/session.h"
#include "cli/supervisor.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/names.h"
#include "notify/config.h"
#include "store/cassandra_init.h"

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
    ASK_TIMEOUT_MS = 500,
    UP_DEFENDERS_MAX = 512,
    UP_COLLECTORS_MAX = 64,
    SERVER_STOP_MS = 10 * 1000,
    CASSANDRA_START_MS = 180 * 1000,
    CASSANDRA_STOP_MS = 20 * 1000,
    WEB_STOP_MS = 5 * 1000,
    METRICS_PORT_ATTEMPTS = 32,
    DEFENDER_STOP_MS = 28 * 1000 /* its own drain takes 25 s at most */
};

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

struct up {
    const char *dir_given, *charts_file, *store_given, *log_level, *log_format, *defenders_given;
    int64_t nats_port, http_port;
    size_t defenders; /* to begin with */
    struct scaler_options scale;
    const char *compute_threads, *sweep_age, *sweep_interval, *ack_wait, *missing_delay, *tchart_retention,
        *uchart_retention;
    bool retain_by_event;

    char dir[PATH_MAX];
    char self[PATH_MAX];
    char pid_text[32]; /* of this process, for the children: who is to die with it */
    char nats_url[SESSION_PATH_BYTES];
    char store_url[SESSION_PATH_BYTES];
    char store_text[SESSION_PATH_BYTES]; /* what --store said, now or the last time */
    int port;
    int lock;
    uv_loop_t loop;
    uv_signal_t term, interrupt;
    bool stopping;
    struct supervisor *supervisor;
    struct supervised *server, *cassandra; /* NULL: not ours to run */
    struct supervised
        *seats[UP_DEFENDERS_MAX];        /* a defender each; which ID it has is the cluster's business */
    int metrics_ports[UP_DEFENDERS_MAX]; /* of the seats' defenders; 0: none */
    size_t seat_count;
    struct supervised *collectors[UP_COLLECTORS_MAX];
    int collector_ports[UP_COLLECTORS_MAX]; /* likewise of their metrics */
    size_t collector_count;
    int64_t collectors_wanted;
    struct supervised *web; /* NULL: no --http-port was given */
    const char *notify_given;
    char notify_file[PATH_MAX];
    struct supervised *notify; /* NULL: no --notify was given */
    int notify_port;           /* of its metrics; 0: none */
    const char *version;       /* label of what is started from now on */
    char version_text[128];
    uv_signal_t roll_signal;
    bool roll_asked;
    int rolls; /* successors have seats of their own */
    struct scaler scaler;
    uv_timer_t scale_timer;
    bool scale_due;
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

/* Writes `document` under another name first, so that nobody reads half of it. Takes the document. */
static void write_document(const struct up *up, const char *name, json_t *document)
{
    char path[PATH_MAX + 64], temporary[PATH_MAX + 72];
    snprintf(path, sizeof path, "%s/%s", up->dir, name);
    snprintf(temporary, sizeof temporary, "%s.new", path);
    if (json_dump_file(document, temporary, JSON_INDENT(2)) || rename(temporary, path))
        LOG_WARN("cannot write a file", LOG_STR("path", path), LOG_STR("error", strerror(errno)));
    json_decref(document);
}

static json_t *scrape_target(int port, const char *role, const char *child)
{
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    return json_pack("{s:[s], s:{s:s, s:s}}", "targets", address, "labels", "role", role, "child", child);
}

/* Where Prometheus finds the metrics of all: its file_sd_configs read this file, and read it again when it
 * changes. */
static void write_targets_file(const struct up *up)
{
    json_t *targets = json_array();
    for (size_t i = 0; i < up->seat_count; i++)
        if (up->seats[i] && up->metrics_ports[i])
            json_array_append_new(
                targets, scrape_target(up->metrics_ports[i], "defend", supervised_name(up->seats[i])));
    for (size_t i = 0; i < up->collector_count; i++)
        if (up->collector_ports[i])
            json_array_append_new(targets, scrape_target(up->collector_ports[i], "collect",
                                                         supervised_name(up->collectors[i])));
    if (up->web)
        json_array_append_new(targets, scrape_target((int)up->http_port, "web", "web"));
    if (up->notify_port)
        json_array_append_new(targets, scrape_target(up->notify_port, "notify", "notify"));
    write_document(up, "prometheus-targets.json", targets);
}

/* What other commands find the cluster by. Written anew, under another name first, whenever a child has
 * changed. */
static void write_cluster_file(void *arg)
{
    struct up *up = arg;
    json_t *children = json_object(), *http = json_object();
    if (up->server)
        json_object_set_new(children, "nats-server", json_integer(supervised_pid(up->server)));
    if (up->cassandra)
        json_object_set_new(children, "cassandra", json_integer(supervised_pid(up->cassandra)));
    for (size_t i = 0; i < up->seat_count; i++) {
        if (up->seats[i] == NULL)
            continue;
        const char *name = supervised_name(up->seats[i]);
        json_object_set_new(children, name, json_integer(supervised_pid(up->seats[i])));
        if (up->metrics_ports[i])
            json_object_set_new(http, name, json_integer(up->metrics_ports[i]));
    }
    for (size_t i = 0; i < up->collector_count; i++) {
        const char *name = supervised_name(up->collectors[i]);
        json_object_set_new(children, name, json_integer(supervised_pid(up->collectors[i])));
        if (up->collector_ports[i])
            json_object_set_new(http, name, json_integer(up->collector_ports[i]));
    }
    if (up->web) {
        json_object_set_new(children, "web", json_integer(supervised_pid(up->web)));
        json_object_set_new(http, "web", json_integer(up->http_port));
    }
    if (up->notify)
        json_object_set_new(children, "notify", json_integer(supervised_pid(up->notify)));
    if (up->notify_port)
        json_object_set_new(http, "notify", json_integer(up->notify_port));
    json_t *cluster = json_pack("{s:s, s:s, s:s, s:s, s:i, s:o, s:o}", "nats", up->nats_url, "store",
                                up->store_url, "store_option", up->store_text, "cell", "", "pid",
                                (int)getpid(), "children", children, "http", http);
    write_document(up, "cluster.json", cluster);
    if (up->http_port >= 0)
        write_targets_file(up);
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

/* --store, or what it was the last time, or "sqlite". */
static void take_store_option(struct up *up)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/cluster.json", up->dir);
    json_t *cluster = up->store_given ? NULL : json_load_file(path, 0, NULL);
    const char *last = json_string_value(json_object_get(cluster, "store_option"));
    const char *text = up->store_given ? up->store_given : last ? last : "sqlite";
    snprintf(up->store_text, sizeof up->store_text, "%s", text);
    json_decref(cluster);
}

static bool store_is(const struct up *up, const char *kind)
{
    return strcmp(up->store_text, kind) == 0;
}

/* The store's URL, but for a Cassandra node of ours, whose port is not known yet. Other commands read the URL
 * from cluster.json in other working directories: a path becomes absolute. */
static int name_store(struct up *up, struct error *err)
{
    static const char scheme[] = "sqlite:";
    const char *path = up->store_text + strlen(scheme);
    char here[PATH_MAX] = "";
    bool file = strncmp(up->store_text, scheme, strlen(scheme)) == 0;
    if (store_is(up, "cassandra"))
        return 0;
    int length;
    if (store_is(up, "sqlite"))
        length = snprintf(up->store_url, sizeof up->store_url, "sqlite:%s/store.db", up->dir);
    else if (file && *path && *path != '/' && getcwd(here, sizeof here))
        length = snprintf(up->store_url, sizeof up->store_url, "sqlite:%s/%s", here, path);
    else if (strchr(up->store_text, ':'))
        length = snprintf(up->store_url, sizeof up->store_url, "%s", up->store_text);
    else
        return error_set(err, ERR_INVALID,
                         "--store %s: write sqlite, sqlite:PATH, cassandra (a node of its own), "
                         "cassandra:HOSTS/KEYSPACE or failover:...",
                         up->store_text);
    if (length < 0 || (size_t)length >= sizeof up->store_url)
        return error_set(err, ERR_LIMIT, "the path of the store is too long");
    if (file) /* the next start finds it from anywhere */
        snprintf(up->store_text, sizeof up->store_text, "%s", up->store_url);
    return 0;
}

/* Opened once here, so that a store that cannot be used is said at once and by name. */
static int prepare_store(struct up *up, struct error *err)
{
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

/* Starts the node; it takes some seconds until it answers. */
static int start_cassandra(struct up *up, struct error *err)
{
    char script[CASSANDRANODE_PATH_BYTES], dir[PATH_MAX + 32], log[PATH_MAX + 32];
    if (!store_is(up, "cassandra"))
        return 0;
    if (!cassandra_is_built()) {
        struct cassandra_init_result none;
        return cassandra_init("127.0.0.1/chamberlain", "1", &none, err); /* says how to mend it */
    }
    int code = cassandranode_find(up->self, script, err);
    if (code)
        return code;
    snprintf(dir, sizeof dir, "%s/cassandra", up->dir);
    snprintf(log, sizeof log, "%s/cassandra.log", up->dir);
    setenv("CASSANDRA_PORT", "0", 0); /* a free one, and the same for ever after */
    const char *const argv[] = {script, "run", dir, NULL};
    return supervisor_start(up->supervisor, "cassandra", argv, log, &up->cassandra, err);
}

/* Until it answers, and has the tables. */
static int wait_for_cassandra(struct up *up, struct error *err)
{
    char dir[PATH_MAX + 32];
    int64_t give_up_ns = clock_mono_ns() + CASSANDRA_START_MS * INT64_C(1000000);
    snprintf(dir, sizeof dir, "%s/cassandra", up->dir);
    while (up->cassandra && !up->stopping) {
        int port = supervised_is_running(up->cassandra) ? cassandranode_port(dir) : 0;
        if (port && cassandranode_answers(port)) {
            struct cassandra_init_result result;
            snprintf(up->store_url, sizeof up->store_url, "cassandra:127.0.0.1:%d/chamberlain", port);
            int code = cassandra_init(up->store_url + strlen("cassandra:"), "1", &result, err);
            if (code != ERR_UNAVAILABLE)
                return code;
        }
        if (supervised_restarts(up->cassandra) > 2 || clock_mono_ns() > give_up_ns) {
            char log[PATH_MAX + 32];
            snprintf(log, sizeof log, "%s/cassandra.log", up->dir);
            print_log_tail(log);
            return error_set(err, ERR_UNAVAILABLE,
                             "Cassandra does not come up; its last words are above, all of them in %s and %s",
                             log, dir);
        }
        pause_ms(up, POLL_MS);
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

static int start_defender(struct up *up, size_t seat, struct supervised **child, struct error *err)
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

static int check_collectors(const struct up *up, struct error *err)
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

/* Collectors are started like defenders, and are not part of a roll. */
static int start_collectors(struct up *up, struct error *err)
{
    int code = 0;
    while (code == 0 && up->collector_count < (size_t)up->collectors_wanted) {
        code = start_collector(up, up->collector_count, err);
        if (code == 0)
            up->collector_count++;
    }
    return code;
}

static int start_web(struct up *up, struct error *err)
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

/* Before anything is started, so that a mistake is said at once. */
static int check_notify(struct up *up, struct error *err)
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

static int start_notify(struct up *up, struct error *err)
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

static bool is_at_work(const char *state)
{
    return strcmp(state, "FOLLOWER") == 0 || strcmp(state, "LEADER") == 0;
}

/* Waits until a defender is in a state that `wanted` accepts. */
static int wait_for_state(struct up *up, struct session *session, struct supervised *child,
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
            print_log_tail(log);
            return error_set(err, ERR_UNAVAILABLE,
                             "%s does not come up; its last words are above, all of them in %s",
                             supervised_name(child), log);
        }
        pause_ms(up, POLL_MS);
    }
    return 0;
}

/* Ready when every defender and every collector has its place. */
static int wait_until_ready(struct up *up, struct session *session, struct error *err)
{
    int code = 0;
    for (size_t i = 0; i < up->seat_count && code == 0; i++)
        code = wait_for_state(up, session, up->seats[i], is_at_work, err);
    for (size_t i = 0; i < up->collector_count && code == 0; i++)
        code = wait_for_state(up, session, up->collectors[i], is_at_work, err);
    return code;
}

/* --- rolling --- */

static bool may_take_over(const char *state)
{
    return strcmp(state, "STANDBY") == 0 || is_at_work(state);
}

/* One seat: the successor stands by, the predecessor leaves, the successor takes its ID with its chambers. */
static int roll_seat(struct up *up, struct session *session, size_t seat, struct error *err)
{
    struct supervised *old = up->seats[seat], *new;
    int old_port = up->metrics_ports[seat];
    int code = start_defender(up, seat, &new, err);
    if (code)
        return code;
    code = wait_for_state(up, session, new, may_take_over, err);
    if (code) {
        up->metrics_ports[seat] = old_port;
        supervised_end(new, SIGTERM, DEFENDER_STOP_MS);
        return code;
    }
    supervised_end(old, SIGTERM, DEFENDER_STOP_MS);
    up->seats[seat] = new;
    write_cluster_file(up);
    while (supervised_is_running(old) && !up->stopping)
        pause_ms(up, 5);
    return wait_for_state(up, session, new, is_at_work, err);
}

static void roll_path(const struct up *up, char path[static PATH_MAX + 32])
{
    snprintf(path, PATH_MAX + 32, "%s/roll", up->dir);
}

/* `up roll` has left the new version's label in a file; it waits for the file to go. */
static void roll(struct up *up, struct session *session)
{
    char path[PATH_MAX + 32], line[96] = "";
    roll_path(up, path);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    if (fgets(line, sizeof line, file))
        line[strcspn(line, "\n")] = '\0';
    fclose(file);
    snprintf(up->version_text, sizeof up->version_text, "%s", line);
    up->version = up->version_text;
    up->rolls++;
    LOG_INFO("rolling", LOG_STR("version", up->version), LOG_INT("defenders", up->seat_count));
    struct error err;
    int code = 0;
    for (size_t i = 0; i < up->seat_count && code == 0 && !up->stopping; i++)
        code = roll_seat(up, session, i, &err);
    if (code)
        LOG_ERROR("rolling stopped", LOG_STR("error", err.text));
    else
        LOG_INFO("rolled", LOG_STR("version", up->version));
    unlink(path);
}

static void on_roll_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct up *up = handle->data;
    up->roll_asked = true;
    uv_stop(&up->loop);
}

/* --- scaling --- */

static int scale_out(struct up *up, struct session *session, struct error *err)
{
    int code = start_defender(up, up->seat_count, &up->seats[up->seat_count], err);
    if (code)
        return code;
    up->seat_count++;
    write_cluster_file(up);
    return wait_for_state(up, session, up->seats[up->seat_count - 1], is_at_work, err);
}

/* The newest goes, and finishes what it has in flight. It keeps its place in the list until it has ended. */
static void scale_in(struct up *up)
{
    struct supervised *leaving = up->seats[up->seat_count - 1];
    supervised_end(leaving, SIGTERM, DEFENDER_STOP_MS);
    while (supervised_is_running(leaving))
        pause_ms(up, 10);
    up->seats[--up->seat_count] = NULL;
    write_cluster_file(up);
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

/* Defenders first, so that what they finish can still be acknowledged. */
static void stop_children(struct up *up)
{
    up->stopping = true;
    if (up->web)
        supervised_end(up->web, SIGTERM, WEB_STOP_MS);
    if (up->notify)
        supervised_end(up->notify, SIGTERM, WEB_STOP_MS);
    for (size_t i = 0; i < up->collector_count; i++)
        supervised_end(up->collectors[i], SIGTERM, DEFENDER_STOP_MS);
    for (size_t i = 0; i < up->seat_count; i++)
        supervised_end(up->seats[i], SIGTERM, DEFENDER_STOP_MS);
    for (size_t i = 0; i < up->collector_count; i++)
        while (supervised_is_running(up->collectors[i]))
            pause_ms(up, 10);
    for (size_t i = 0; i < up->seat_count; i++)
        while (supervised_is_running(up->seats[i]))
            pause_ms(up, 10);
    while (supervised_is_running(up->notify))
        pause_ms(up, 10);
    if (up->server)
        supervised_end(up->server, SIGTERM, SERVER_STOP_MS);
    if (up->cassandra)
        supervised_end(up->cassandra, SIGTERM, CASSANDRA_STOP_MS);
    while (supervised_is_running(up->server) || supervised_is_running(up->cassandra) ||
           supervised_is_running(up->web))
        pause_ms(up, 10);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct up *up = handle->data;
    up->stopping = true;
    uv_stop(&up->loop);
}

static int start_defenders(struct up *up, struct error *err)
{
    int code = 0;
    while (code == 0 && up->seat_count < up->defenders) {
        code = start_defender(up, up->seat_count, &up->seats[up->seat_count], err);
        if (code == 0)
            up->seat_count++;
    }
    return code;
}

static int stay(struct up *up, struct error *err)
{
    struct session session;
    int code = session_open(&session, up->dir, SESSION_NATS, err);
    if (code)
        return code;
    code = wait_until_ready(up, &session, err);
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
            roll(up, &session);
        up->roll_asked = false;
    }
    session_close(&session);
    return code;
}

static int run(struct up *up, struct error *err)
{
    int code = start_cassandra(up, err);
    if (code == 0)
        code = start_server(up, err);
    if (code == 0)
        code = wait_for_cassandra(up, err);
    if (code == 0 && up->cassandra && !up->stopping)
        code = prepare_store(up, err);
    if (code || up->stopping)
        return code;
    write_cluster_file(up);
    setenv("CHAMBERLAIN_PARENT_PID", up->pid_text, 1);
    code = start_web(up, err);
    if (code == 0)
        code = start_defenders(up, err);
    if (code == 0)
        code = start_collectors(up, err);
    if (code == 0)
        code = start_notify(up, err);
    write_cluster_file(up);
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
    return supervisor_open(&up->loop, write_cluster_file, up, &up->supervisor, err);
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

/* --- `up roll` --- */

static const struct command roll_command = {
    .name = "up roll",
    .operands = "",
    .summary = "Replaces the defenders of a running cluster one by one: each successor stands by, takes over "
               "the ID of its\n"
               "predecessor with its chambers, and no chamber moves. Returns when all are replaced.",
    .examples = "  chamberlain up roll --dir fab --version-label 1.4.2",
};

static pid_t running_up(const char *dir)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/cluster.json", dir);
    json_t *cluster = json_load_file(path, 0, NULL);
    pid_t pid = (pid_t)json_integer_value(json_object_get(cluster, "pid"));
    json_decref(cluster);
    return pid > 0 && kill(pid, 0) == 0 ? pid : 0;
}

static int cli_up_roll(int argc, char **argv)
{
    const char *dir = "chamberlain-data", *label = NULL;
    const struct command_option table[] = {
        {"dir", OPTION_TEXT, &dir, "DIR", "the cluster's directory (default ./chamberlain-data)"},
        {"version-label", OPTION_TEXT, &label, "TEXT", "version the new defenders show (default: the time)"},
    };
    enum command_next next =
        command_parse(&roll_command, table, sizeof table / sizeof *table, argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct error err;
    char path[PATH_MAX + 32], when[CLOCK_RFC3339_BYTES];
    pid_t pid = running_up(dir);
    if (pid == 0) {
        error_set(&err, ERR_NOT_FOUND, "no `chamberlain up` runs in %s", dir);
        return command_failed(&roll_command, &err);
    }
    snprintf(path, sizeof path, "%s/roll", dir);
    FILE *file = fopen(path, "wx");
    if (file == NULL) {
        error_set(&err, ERR_CONFLICT, "%s: %s; is another roll under way?", path, strerror(errno));
        return command_failed(&roll_command, &err);
    }
    fprintf(file, "%s\n", label ? label : clock_format_rfc3339(clock_wall_us(), when));
    fclose(file);
    kill(pid, SIGUSR1);
    while (access(path, F_OK) == 0 && running_up(dir))
        usleep(POLL_MS * 1000);
    return 0;
}

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
        code = check_collectors(&up, &err);
    }
    if (code == 0) {
        code = check_notify(&up, &err);
        if (code == 0)
            code = make_dir(&up, &err);
    }
    if (code == 0) {
        take_store_option(&up);
        code = name_store(&up, &err);
    }
    if (code == 0 && !store_is(&up, "cassandra"))
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
