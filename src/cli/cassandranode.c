#include "cli/cassandranode.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int cassandranode_find(const char *self, char path[static CASSANDRANODE_PATH_BYTES], struct error *err)
{
    static const char *const places[] = {"/../scripts/cassandra",
                                         "/../libexec/chamberlain/scripts/cassandra"};
    const char *given = getenv("CHAMBERLAIN_CASSANDRA_SCRIPT");
    if (given) {
        snprintf(path, CASSANDRANODE_PATH_BYTES, "%s", given);
        return access(path, X_OK) == 0
                   ? 0
                   : error_set(err, ERR_NOT_FOUND, "CHAMBERLAIN_CASSANDRA_SCRIPT=%s is no program", given);
    }
    const char *slash = strrchr(self, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof *places; i++) {
        int length = snprintf(path, CASSANDRANODE_PATH_BYTES, "%.*s%s", (int)(slash - self), self, places[i]);
        if (length < CASSANDRANODE_PATH_BYTES && access(path, X_OK) == 0)
            return 0;
    }
    return error_set(err, ERR_NOT_FOUND,
                     "the script that starts a Cassandra node is neither in ../scripts nor in "
                     "../libexec/chamberlain/scripts "
                     "beside %s; name Chamberlain's scripts/cassandra in CHAMBERLAIN_CASSANDRA_SCRIPT, or "
                     "give a Cassandra "
                     "that runs: --store cassandra:HOSTS/KEYSPACE",
                     self);
}

int cassandranode_port(const char *dir)
{
    char path[CASSANDRANODE_PATH_BYTES], line[128];
    int port = 0;
    snprintf(path, sizeof path, "%s/settings", dir);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "port=", 5) == 0)
            port = atoi(line + 5);
    if (file)
        fclose(file);
    return port > 0 && port < 65536 ? port : 0;
}

bool cassandranode_answers(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool answers = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return answers;
}
