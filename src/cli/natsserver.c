#include "cli/natsserver.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static bool is_program(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode) && access(path, X_OK) == 0;
}

static bool find_on_path(char path[static NATSSERVER_PATH_BYTES])
{
    const char *folders = getenv("PATH");
    for (const char *s = folders ? folders : ""; *s;) {
        size_t length = strcspn(s, ":");
        snprintf(path, NATSSERVER_PATH_BYTES, "%.*s/nats-server", (int)length, s);
        if (length > 0 && is_program(path))
            return true;
        s += length + (s[length] == ':');
    }
    return false;
}

int natsserver_find(char path[static NATSSERVER_PATH_BYTES], struct error *err)
{
    const char *given = getenv("CHAMBERLAIN_NATS_SERVER");
    if (given) {
        snprintf(path, NATSSERVER_PATH_BYTES, "%s", given);
        return is_program(path)
                   ? 0
                   : error_set(err, ERR_NOT_FOUND, "CHAMBERLAIN_NATS_SERVER=%s is no program", given);
    }
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache)
        snprintf(path, NATSSERVER_PATH_BYTES, "%s/chamberlain/bin/nats-server", cache);
    else
        snprintf(path, NATSSERVER_PATH_BYTES, "%s/.cache/chamberlain/bin/nats-server", home ? home : "");
    if (is_program(path) || find_on_path(path))
        return 0;
    return error_set(
        err, ERR_NOT_FOUND,
        "no nats-server: run scripts/setup, or put nats-server 2.14 or newer on the PATH, or name it in "
        "CHAMBERLAIN_NATS_SERVER");
}

int natsserver_write_config(const char *dir, int port, char path[static NATSSERVER_PATH_BYTES],
                            struct error *err)
{
    snprintf(path, NATSSERVER_PATH_BYTES, "%s/nats.conf", dir);
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return error_set(err, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    fprintf(file,
            "# Written by `chamberlain up` at every start; changes are lost.\n"
            "listen: 127.0.0.1:%d\n"
            "server_name: chamberlain\n"
            "jetstream {\n"
            "    store_dir: \"%s/nats\"\n"
            "    # An acknowledged message is on the disk: the server's default flushes every two minutes.\n"
            "    sync_interval: always\n"
            "}\n",
            port, dir);
    bool failed = ferror(file) != 0;
    failed = fclose(file) != 0 || failed;
    return failed ? error_set(err, ERR_IO, "cannot write %s: %s", path, strerror(errno)) : 0;
}

static struct sockaddr_in loopback(int port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* Binds to a port (0: any) and lets it go again; the port, or 0 when it is taken. */
static int try_port(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = loopback(port);
    socklen_t length = sizeof address;
    bool bound = bind(fd, (struct sockaddr *)&address, length) == 0 && listen(fd, 1) == 0 &&
                 getsockname(fd, (struct sockaddr *)&address, &length) == 0;
    close(fd);
    return bound ? ntohs(address.sin_port) : 0;
}

bool natsserver_port_is_free(int port)
{
    return try_port(port) == port;
}

int natsserver_choose_port(int preferred)
{
    return preferred > 0 && natsserver_port_is_free(preferred) ? preferred : try_port(0);
}

bool natsserver_answers(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    struct timeval patience = {.tv_sec = 1};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct sockaddr_in address = loopback(port);
    char greeting[5] = "";
    bool answers = connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                   recv(fd, greeting, 5, MSG_WAITALL) == 5 && memcmp(greeting, "INFO ", 5) == 0;
    close(fd);
    return answers;
}
