/* The store of a cluster that `up` runs: which it is, the charts put into it, and a Cassandra node of its
 * own. */
#include "cli/up_parts.h"

#include "base/clock.h"
#include "cli/cassandranode.h"
#include "cli/chart_file.h"
#include "store/cassandra_init.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CASSANDRA_START_MS = 180 * 1000 };

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

void up_take_store_option(struct up *up)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/cluster.json", up->dir);
    json_t *cluster = up->store_given ? NULL : json_load_file(path, 0, NULL);
    const char *last = json_string_value(json_object_get(cluster, "store_option"));
    const char *text = up->store_given ? up->store_given : last ? last : "sqlite";
    snprintf(up->store_text, sizeof up->store_text, "%s", text);
    json_decref(cluster);
}

bool up_store_is(const struct up *up, const char *kind)
{
    return strcmp(up->store_text, kind) == 0;
}

/* Other commands read the URL from cluster.json in other working directories: a path becomes absolute. */
int up_name_store(struct up *up, struct error *err)
{
    static const char scheme[] = "sqlite:";
    const char *path = up->store_text + strlen(scheme);
    char here[PATH_MAX] = "";
    bool file = strncmp(up->store_text, scheme, strlen(scheme)) == 0;
    if (up_store_is(up, "cassandra"))
        return 0;
    int length;
    if (up_store_is(up, "sqlite"))
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

int up_prepare_store(struct up *up, struct error *err)
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

/* --- a node of its own --- */

int up_start_cassandra(struct up *up, struct error *err)
{
    char script[CASSANDRANODE_PATH_BYTES], dir[PATH_MAX + 32], log[PATH_MAX + 32];
    if (!up_store_is(up, "cassandra"))
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

int up_wait_for_cassandra(struct up *up, struct error *err)
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
            up_print_log_tail(log);
            return error_set(err, ERR_UNAVAILABLE,
                             "Cassandra does not come up; its last words are above, all of them in %s and %s",
                             log, dir);
        }
        up_pause_ms(up, UP_POLL_MS);
    }
    return 0;
}
