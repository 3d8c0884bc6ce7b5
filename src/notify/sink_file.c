/* Sinks on this machine: a file of JSON lines, and the terminal. */
#include "notify/sink.h"

#include "notify/render.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TAIL_BYTES = 1024 * 1024 /* more than any line */ };

struct log_file {
    const struct sink_config *config;
    int fd; /* -1: not open */
    int64_t size;
    char last_key[32]; /* of the line written last: a message that comes again after a crash is known by it */
};

/* A new name lasts when its folder has been written too. */
static int sync_folder(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int failed = fsync(fd);
    close(fd);
    return failed;
}

static void note_last_key(struct log_file *file, char *tail, size_t length)
{
    file->last_key[0] = '\0';
    if (length == 0)
        return;
    tail[--length] = '\0'; /* the line's end */
    const char *before = memrchr(tail, '\n', length);
    json_t *line = json_loads(before ? before + 1 : tail, 0, NULL);
    const char *key = json_string_value(json_object_get(line, "key"));
    snprintf(file->last_key, sizeof file->last_key, "%s", key ? key : "");
    json_decref(line);
}

/* A line that was cut by a crash was not acknowledged: it goes, and comes again whole. */
static int look_at_tail(struct log_file *file)
{
    char *tail = malloc(TAIL_BYTES);
    if (tail == NULL)
        return -1;
    off_t from = file->size > TAIL_BYTES ? (off_t)(file->size - TAIL_BYTES) : 0;
    ssize_t length = pread(file->fd, tail, TAIL_BYTES, from);
    int failed = length < 0 ? -1 : 0;
    if (length > 0 && tail[length - 1] != '\n') {
        const char *end = memrchr(tail, '\n', (size_t)length);
        length = end ? end - tail + 1 : 0;
        file->size = from + length;
        failed = ftruncate(file->fd, (off_t)file->size);
    }
    if (!failed)
        note_last_key(file, tail, (size_t)length);
    free(tail);
    return failed;
}

static int open_log(struct log_file *file)
{
    struct stat stat;
    file->fd = open(file->config->path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (file->fd < 0)
        return -1;
    if (fstat(file->fd, &stat) == 0) {
        file->size = stat.st_size;
        if (look_at_tail(file) == 0 && sync_folder(file->config->path) == 0)
            return 0;
    }
    int saved = errno;
    close(file->fd);
    file->fd = -1;
    errno = saved;
    return -1;
}

static void close_log(struct log_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}

/* path.4 becomes path.5, ..., path becomes path.1. */
static int rotate(struct log_file *file)
{
    char from[PATH_MAX + 16], to[PATH_MAX + 16];
    close_log(file);
    for (int64_t i = file->config->rotate_keep; i > 0; i--) {
        snprintf(to, sizeof to, "%s.%lld", file->config->path, (long long)i);
        snprintf(from, sizeof from, i > 1 ? "%s.%lld" : "%s", file->config->path, (long long)i - 1);
        if (rename(from, to) && errno != ENOENT)
            return -1;
    }
    return open_log(file);
}

static int write_line(struct log_file *file, const char *line, size_t length)
{
    size_t written = 0;
    while (written < length) {
        ssize_t now = write(file->fd, line + written, length - written);
        if (now < 0 && errno == EINTR)
            continue;
        if (now <= 0)
            return -1;
        written += (size_t)now;
    }
    return fsync(file->fd);
}

static int append(struct log_file *file, const struct sink_job *job)
{
    size_t length = strlen(job->message);
    char *line = malloc(length + 1);
    if (line == NULL)
        return -1;
    memcpy(line, job->message, length);
    line[length++] = '\n';
    int failed = 0;
    if (file->size > 0 && file->size + (int64_t)length > file->config->rotate_bytes)
        failed = rotate(file);
    if (!failed)
        failed = write_line(file, line, length);
    if (!failed) {
        file->size += (int64_t)length;
        snprintf(file->last_key, sizeof file->last_key, "%s", job->key);
    }
    free(line);
    return failed;
}

static int file_open(const struct sink_config *config, void **state, struct error *err)
{
    if (strlen(config->path) >= PATH_MAX)
        return error_set(err, ERR_LIMIT, "the path is too long");
    struct log_file *file = calloc(1, sizeof *file);
    if (file == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a file");
    file->config = config;
    file->fd = -1; /* opened with the first line, again after each failure */
    *state = file;
    return 0;
}

static void file_send(void *state, const struct sink_job *job, struct sink_result *result)
{
    struct log_file *file = state;
    if (file->fd < 0 && open_log(file)) {
        sink_say(result, SINK_FAILED, "cannot open %s: %s", file->config->path, strerror(errno));
        return;
    }
    bool written = strcmp(file->last_key, job->key) == 0; /* before a crash, or before fsync has failed */
    if (written ? fsync(file->fd) : append(file, job)) {
        sink_say(result, SINK_FAILED, "cannot write %s: %s", file->config->path, strerror(errno));
        close_log(file); /* what was written of the line goes when it is opened again */
        return;
    }
    sink_say(result, SINK_ACCEPTED, "written");
}

static void file_close(void *state)
{
    close_log(state);
    free(state);
}

const struct sink_transport sink_file = {file_open, file_send, file_close};

/* --- terminal --- */

static int terminal_open(const struct sink_config *config, void **state, struct error *err)
{
    (void)config;
    (void)err;
    *state = NULL;
    return 0;
}

static void terminal_send(void *state, const struct sink_job *job, struct sink_result *result)
{
    (void)state;
    struct strbuf lines;
    struct error err;
    strbuf_init(&lines);
    int code =
        render_terminal(job->message, isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL, &lines, &err);
    if (code)
        sink_say(result, code == ERR_CORRUPT ? SINK_REFUSED : SINK_FAILED, "%s", err.text);
    else if (fputs(lines.text, stdout) == EOF || fflush(stdout) == EOF)
        sink_say(result, SINK_FAILED, "cannot write to standard output: %s", strerror(errno));
    else
        sink_say(result, SINK_ACCEPTED, "shown");
    strbuf_free(&lines);
}

static void terminal_close(void *state)
{
    (void)state;
}

const struct sink_transport sink_terminal = {terminal_open, terminal_send, terminal_close};
