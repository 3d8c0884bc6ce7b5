#include "cli/supervisor.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct supervised {
    struct supervisor *supervisor;
    struct supervised *next;
    char *name;
    char *log;
    char *argv[SUPERVISOR_ARGUMENTS_MAX + 1];
    pid_t pid;
    bool ending;
    int restarts;
    int64_t backoff_ms;
    uint64_t started_ms;
    uv_timer_t timer; /* to restart, or to lose patience */
};

struct supervisor {
    uv_loop_t *loop;
    uv_signal_t child_signal;
    struct supervised *children;
    void (*changed)(void *arg);
    void *arg;
};

static void tell(struct supervisor *supervisor)
{
    if (supervisor->changed)
        supervisor->changed(supervisor->arg);
}

/* In the child, between fork and exec: only what is safe there. */
static void become(const struct supervised *child, pid_t parent, int log)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(child->argv[0], child->argv);
    _exit(127);
}

static int spawn(struct supervised *child, struct error *err)
{
    int log = open(child->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0)
        return error_set(err, ERR_IO, "cannot open %s: %s", child->log, strerror(errno));
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(child, parent, log);
    close(log);
    if (pid < 0)
        return error_set(err, ERR_IO, "cannot start %s: %s", child->name, strerror(errno));
    child->pid = pid;
    child->started_ms = uv_now(child->supervisor->loop);
    return 0;
}

static void on_restart(uv_timer_t *timer)
{
    struct supervised *child = timer->data;
    struct error err;
    if (child->ending)
        return;
    child->restarts++;
    if (spawn(child, &err)) {
        LOG_ERROR("restart failed; trying again", LOG_STR("child", child->name), LOG_STR("error", err.text));
        uv_timer_start(timer, on_restart, SUPERVISOR_RESTART_MOST_MS, 0);
        return;
    }
    LOG_INFO("restarted", LOG_STR("child", child->name), LOG_INT("pid", child->pid));
    tell(child->supervisor);
}

static void describe_end(const struct supervised *child, int status)
{
    if (child->ending)
        LOG_DEBUG("ended", LOG_STR("child", child->name), LOG_INT("status", status));
    else if (WIFSIGNALED(status))
        LOG_WARN("died; restarting", LOG_STR("child", child->name),
                 LOG_STR("signal", strsignal(WTERMSIG(status))), LOG_STR("log", child->log));
    else
        LOG_WARN("ended by itself; restarting", LOG_STR("child", child->name),
                 LOG_INT("exit", WEXITSTATUS(status)), LOG_STR("log", child->log));
}

static void child_died(struct supervised *child, int status)
{
    struct supervisor *supervisor = child->supervisor;
    describe_end(child, status);
    child->pid = 0;
    uv_timer_stop(&child->timer);
    if (!child->ending) {
        bool steady = uv_now(supervisor->loop) - child->started_ms > SUPERVISOR_STEADY_MS;
        child->backoff_ms =
            steady || child->backoff_ms == 0 ? SUPERVISOR_RESTART_FIRST_MS : child->backoff_ms * 2;
        if (child->backoff_ms > SUPERVISOR_RESTART_MOST_MS)
            child->backoff_ms = SUPERVISOR_RESTART_MOST_MS;
        uv_timer_start(&child->timer, on_restart, (uint64_t)child->backoff_ms, 0);
    }
    tell(supervisor);
}

static void on_child_signal(uv_signal_t *handle, int number)
{
    (void)number;
    struct supervisor *supervisor = handle->data;
    uv_update_time(supervisor->loop);
    for (struct supervised *child = supervisor->children; child; child = child->next) {
        int status;
        if (child->pid > 0 && waitpid(child->pid, &status, WNOHANG) == child->pid)
            child_died(child, status);
    }
}

int supervisor_open(uv_loop_t *loop, void (*changed)(void *arg), void *arg, struct supervisor **out,
                    struct error *err)
{
    struct supervisor *supervisor = calloc(1, sizeof *supervisor);
    if (supervisor == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a supervisor");
    supervisor->loop = loop;
    supervisor->changed = changed;
    supervisor->arg = arg;
    uv_signal_init(loop, &supervisor->child_signal);
    supervisor->child_signal.data = supervisor;
    uv_signal_start(&supervisor->child_signal, on_child_signal, SIGCHLD);
    *out = supervisor;
    return 0;
}

static void free_child(uv_handle_t *handle)
{
    struct supervised *child = handle->data;
    for (size_t i = 0; child->argv[i]; i++)
        free(child->argv[i]);
    free(child->name);
    free(child->log);
    free(child);
}

static void free_supervisor(uv_handle_t *handle)
{
    free(handle->data);
}

void supervisor_close(struct supervisor *supervisor)
{
    struct supervised *next;
    for (struct supervised *child = supervisor->children; child; child = next) {
        next = child->next;
        uv_close((uv_handle_t *)&child->timer, free_child);
    }
    uv_close((uv_handle_t *)&supervisor->child_signal, free_supervisor);
}

int supervisor_start(struct supervisor *supervisor, const char *name, const char *const *argv,
                     const char *log, struct supervised **out, struct error *err)
{
    struct supervised *child = calloc(1, sizeof *child);
    if (child == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %s", name);
    child->supervisor = supervisor;
    child->name = strdup(name);
    child->log = strdup(log);
    bool complete = child->name && child->log;
    for (size_t i = 0; argv[i] && i < SUPERVISOR_ARGUMENTS_MAX; i++)
        complete = (child->argv[i] = strdup(argv[i])) != NULL && complete;
    uv_timer_init(supervisor->loop, &child->timer);
    child->timer.data = child;
    int code = complete ? spawn(child, err) : error_set(err, ERR_NO_MEMORY, "no memory for %s", name);
    if (code) {
        uv_close((uv_handle_t *)&child->timer, free_child);
        return code;
    }
    child->next = supervisor->children;
    supervisor->children = child;
    *out = child;
    return 0;
}

static void on_patience_lost(uv_timer_t *timer)
{
    struct supervised *child = timer->data;
    LOG_WARN("did not end in time; killed", LOG_STR("child", child->name));
    if (child->pid > 0)
        kill(child->pid, SIGKILL);
}

void supervised_end(struct supervised *child, int signal_number, int64_t patience_ms)
{
    child->ending = true;
    uv_timer_stop(&child->timer);
    if (child->pid <= 0)
        return;
    kill(child->pid, signal_number);
    uv_timer_start(&child->timer, on_patience_lost, (uint64_t)patience_ms, 0);
}

bool supervised_is_running(const struct supervised *child)
{
    return child && child->pid > 0;
}

const char *supervised_name(const struct supervised *child)
{
    return child->name;
}

pid_t supervised_pid(const struct supervised *child)
{
    return child ? child->pid : 0;
}

int supervised_restarts(const struct supervised *child)
{
    return child->restarts;
}
