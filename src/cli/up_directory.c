/* The directory of a cluster that `up` runs: its lock, cluster.json and prometheus-targets.json. */
#include "cli/up_parts.h"

#include "base/log.h"
#include "cli/natsserver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int up_make_dir(struct up *up, struct error *err)
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

void up_write_cluster_file(void *arg)
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

int up_remembered_port(const struct up *up)
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
