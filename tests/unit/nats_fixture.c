#include "nats_fixture.h"

#include "cmocka_setup.h"

#include "base/clock.h"
#include "cli/natsserver.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_TRIES = 5, START_MS = 10000, PULSE_MS = 3 };

/* --- the server --- */

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)kind;
    (void)where;
    remove(path);
    return 0;
}

static void remove_folder(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int nats_server_prepare(struct nats_server *server, const char *program)
{
    *server = (struct nats_server){0};
    struct error err;
    if (program)
        snprintf(server->program, sizeof server->program, "%s", program);
    else if (natsserver_find(server->program, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    const char *temporary = getenv("TMPDIR");
    snprintf(server->folder, sizeof server->folder, "%.200s/nats-test-XXXXXX",
             temporary ? temporary : "/tmp");
    if (mkdtemp(server->folder) == NULL) {
        fprintf(stderr, "cannot make the folder %s: %s\n", server->folder, strerror(errno));
        server->folder[0] = '\0';
        return -1;
    }
    server->port = natsserver_choose_port(0);
    snprintf(server->url, sizeof server->url, "nats://127.0.0.1:%d", server->port);
    return server->port > 0 ? 0 : -1;
}

static pid_t spawn(const struct nats_server *server, const char *config)
{
    char log[sizeof server->folder + 16];
    snprintf(log, sizeof log, "%s/log", server->folder);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when the test program crashes */
    if (getppid() != parent)
        _exit(1);
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd >= 0) {
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
    }
    execl(server->program, server->program, "-c", config, (char *)NULL);
    _exit(127);
}

int nats_server_start(struct nats_server *server)
{
    char config[NATSSERVER_PATH_BYTES];
    struct error err;
    if (natsserver_write_config(server->folder, server->port, config, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return -1;
    }
    server->pid = spawn(server, config);
    int64_t end_ns = nats_client_end_ns(START_MS);
    while (server->pid > 0 && clock_mono_ns() < end_ns) {
        if (natsserver_answers(server->port))
            return 0;
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
            server->pid = 0;
            break;
        }
        uv_sleep(10);
    }
    fprintf(stderr, "%s does not start; its log is in %s\n", server->program, server->folder);
    return -1;
}

int nats_server_open(struct nats_server *server, const char *program)
{
    /* Another program may take the port between choosing and listening. */
    for (int i = 0; i < START_TRIES; i++) {
        if (nats_server_prepare(server, program))
            return -1;
        if (nats_server_start(server) == 0)
            return 0;
        nats_server_close(server);
    }
    return -1;
}

static void end_with(struct nats_server *server, int signal_number)
{
    if (server->pid <= 0)
        return;
    kill(server->pid, signal_number);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

void nats_server_stop(struct nats_server *server)
{
    end_with(server, SIGTERM);
}

void nats_server_kill(struct nats_server *server)
{
    end_with(server, SIGKILL);
}

void nats_server_wipe(struct nats_server *server)
{
    char store[sizeof server->folder + 8];
    snprintf(store, sizeof store, "%s/nats", server->folder);
    remove_folder(store);
}

void nats_server_close(struct nats_server *server)
{
    nats_server_kill(server);
    if (server->folder[0])
        remove_folder(server->folder);
    server->folder[0] = '\0';
}

const char *nats_server_find_old(char path[static NATS_FIXTURE_PATH_BYTES])
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache)
        snprintf(path, NATS_FIXTURE_PATH_BYTES, "%s/chamberlain/nats-server-old/nats-server", cache);
    else
        snprintf(path, NATS_FIXTURE_PATH_BYTES, "%s/.cache/chamberlain/nats-server-old/nats-server",
                 home ? home : "");
    return access(path, X_OK) == 0 ? path : NULL;
}

/* --- the client --- */

static void add_trace(struct nats_client *client, char event)
{
    size_t length = strlen(client->trace);
    if (length + 1 < sizeof client->trace)
        client->trace[length] = event;
}

static void on_connected(void *arg)
{
    struct nats_client *client = arg;
    add_trace(client, 'c');
    if (client->on_connected)
        client->on_connected(client->arg);
}

static void on_disconnected(void *arg)
{
    struct nats_client *client = arg;
    add_trace(client, 'd');
    if (client->on_disconnected)
        client->on_disconnected(client->arg);
}

static void on_pulse(uv_timer_t *timer)
{
    (void)timer;
}

void nats_client_open(struct nats_client *client, const char *url)
{
    memset(client, 0, sizeof *client);
    struct error err = {0};
    assert_int_equal(uv_loop_init(&client->loop), 0);
    uv_timer_init(&client->loop, &client->pulse);
    uv_timer_start(&client->pulse, on_pulse, PULSE_MS, PULSE_MS);
    assert_int_equal(mailbox_open(&client->loop, &client->mailbox, &err), 0);
    struct bus_options options = {.url = url, .name = "test"};
    struct bus_events events = {.connected = on_connected, .disconnected = on_disconnected, .arg = client};
    if (bus_open(&options, &client->loop, client->mailbox, &events, &client->bus, &err))
        fail_msg("%s", err.text);
}

void nats_client_close(struct nats_client *client)
{
    if (client->mailbox == NULL)
        return;
    if (client->bus)
        bus_close(client->bus);
    client->bus = NULL;
    mailbox_close(client->mailbox);
    client->mailbox = NULL;
    uv_timer_stop(&client->pulse);
    uv_close((uv_handle_t *)&client->pulse, NULL);
    /* A handle that somebody forgot would keep the loop turning: a few turns must do. */
    for (int i = 0; i < 100 && uv_run(&client->loop, UV_RUN_NOWAIT); i++)
        uv_sleep(1);
    assert_int_equal(uv_loop_close(&client->loop), 0);
}

int64_t nats_client_end_ns(int64_t after_ms)
{
    return clock_mono_ns() + after_ms * 1000000;
}

bool nats_client_turn(struct nats_client *client, int64_t end_ns)
{
    uv_run(&client->loop, UV_RUN_ONCE);
    return clock_mono_ns() < end_ns;
}

/* --- calls that wait --- */

void heard_forget(struct heard *heard)
{
    json_decref(heard->response);
    *heard = (struct heard){0};
}

void heard_answer(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    struct heard *heard = arg;
    heard->count++;
    heard->code = code;
    heard->api_error = api_error;
    heard->error = *error;
    json_decref(heard->response);
    heard->response = response ? json_deep_copy(response) : NULL;
}

int nats_client_call(struct nats_client *client, const char *call, json_t *body_owned, struct heard *heard)
{
    heard_forget(heard);
    jetstream_call(client->bus, call, body_owned, 0, heard_answer, heard);
    json_decref(body_owned);
    RUN_UNTIL(client, heard->count > 0);
    return heard->code;
}

void nats_client_make_queue(struct nats_client *client, const char *stream, const char *subject)
{
    struct heard heard = {0};
    char call[256];
    snprintf(call, sizeof call, "STREAM.DELETE.%s", stream);
    int code = nats_client_call(client, call, NULL, &heard);
    assert_true(code == 0 || code == ERR_NOT_FOUND);
    heard_forget(&heard);
    struct stream_spec spec = {.name = stream, .subject = subject, .retention = "workqueue", .replicas = 1};
    stream_ensure(client->bus, &spec, heard_answer, &heard);
    RUN_UNTIL(client, heard.count > 0);
    if (heard.code)
        fail_msg("%s", heard.error.text);
    heard_forget(&heard);
}

uint64_t nats_client_publish(struct nats_client *client, const char *subject, const char *data)
{
    struct heard heard = {0};
    jetstream_publish(client->bus, subject, NULL, 0, data, strlen(data), heard_answer, &heard);
    RUN_UNTIL(client, heard.count > 0);
    if (heard.code)
        fail_msg("%s", heard.error.text);
    uint64_t sequence = (uint64_t)json_integer_value(json_object_get(heard.response, "seq"));
    heard_forget(&heard);
    return sequence;
}

int64_t nats_client_count(struct nats_client *client, const char *stream)
{
    struct heard heard = {0};
    char call[256];
    snprintf(call, sizeof call, "STREAM.INFO.%s", stream);
    assert_int_equal(nats_client_call(client, call, NULL, &heard), 0);
    int64_t count = json_integer_value(json_object_get(json_object_get(heard.response, "state"), "messages"));
    heard_forget(&heard);
    return count;
}
