/* `chamberlain charts check`: every mistake in a chart file, with its place. */
#include "cli/chart_file.h"
#include "cli/charts.h"
#include "cli/command.h"
#include "cli/context_keys.h"
#include "base/json_writer.h"
#include "cli/options.h"
#include "cli/terminal.h"
#include "view/trace_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXTS_READ_MAX = 200 }; /* T-charts looked into for the sensors that exist */

static const struct command command = {
    .name = "charts check",
    .operands = "FILE",
    .summary =
        "Finds every mistake in a chart file: \"file:line:column: error: what, and what to write instead\".\n"
        "With --dir also sensors that no stored context has. Exit 1 when there are errors (not for "
        "warnings).",
    .examples = "  chamberlain charts check charts.yaml\n"
                "  chamberlain charts check charts.yaml --dir fab",
    .min_operands = 1,
    .max_operands = 1,
};

/* The sensors' names that stored contexts have, each once. */
struct sensor_names {
    struct arena arena;
    const char **names;
    size_t count, capacity;
};

static int name_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int add_names(struct sensor_names *sensors, const char *const *names, size_t count, struct error *err)
{
    if (sensors->count + count > sensors->capacity) {
        size_t capacity = (sensors->count + count) * 2;
        const char **grown = realloc(sensors->names, capacity * sizeof *grown);
        if (grown == NULL)
            return error_set(err, ERR_NO_MEMORY, "no memory for %zu sensors", capacity);
        sensors->names = grown;
        sensors->capacity = capacity;
    }
    for (size_t i = 0; i < count; i++)
        sensors->names[sensors->count++] = names[i];
    size_t kept = 0;
    qsort(sensors->names, sensors->count, sizeof *sensors->names, name_order);
    for (size_t i = 0; i < sensors->count; i++)
        if (kept == 0 || strcmp(sensors->names[kept - 1], sensors->names[i]) != 0)
            sensors->names[kept++] = sensors->names[i];
    sensors->count = kept;
    return 0;
}

/* A T-chart that has expired, or cannot be read, tells nothing about sensors: not this command's business. */
static int read_newest(struct session *session, const struct context_key *key, struct sensor_names *sensors,
                       size_t *read, struct error *err)
{
    struct store_key where = {key->tool, key->chamber, key->newest_id};
    store_fetch_tchart(session->store, &where, store_wait_done, session->wait);
    struct store_reply *reply = session_reply(session);
    const char *const *names;
    size_t count;
    int code = reply->code;
    if (code == 0 &&
        trace_read_names(reply->chunks, reply->chunk_count, &sensors->arena, &names, &count, NULL) == 0) {
        code = add_names(sensors, names, count, err);
        (*read)++;
    } else if (error_is_transient(code)) {
        *err = reply->error;
    } else {
        code = 0;
    }
    store_reply_free(reply);
    return code;
}

static int check_sensors(struct session *session, const struct chart_set *set,
                         struct chart_problems *problems, struct error *err)
{
    struct sensor_names sensors = {0};
    struct context_keys keys;
    size_t read = 0;
    arena_init(&sensors.arena, 0);
    int code = context_keys_collect(session, &(struct store_list_query){0}, &keys, err);
    for (struct context_key *key = keys.first; key && code == 0 && read < CONTEXTS_READ_MAX;
         key = key->hh.next)
        code = read_newest(session, key, &sensors, &read, err);
    if (code == 0 && read == 0)
        fprintf(
            stderr,
            "chamberlain charts check: no stored trace tells which sensors exist; they were not checked\n");
    else if (code == 0)
        code = chart_set_check_sensors(set, sensors.names, sensors.count, problems, err);
    context_keys_free(&keys);
    free(sensors.names);
    arena_free(&sensors.arena);
    return code;
}

static int check_against_cluster(const char *dir, const struct chart_set *set,
                                 struct chart_problems *problems, struct error *err)
{
    struct session session;
    int code = session_open(&session, dir, SESSION_STORE, err);
    if (code)
        return code;
    code = check_sensors(&session, set, problems, err);
    session_close(&session);
    return code;
}

static void format_json(const char *path, size_t charts, const struct chart_problems *problems,
                        struct strbuf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    json_add_text(&json, "file", path);
    json_add_size(&json, "charts", charts);
    json_add_size(&json, "errors", problems->errors);
    json_add_size(&json, "warnings", problems->warnings);
    json_begin_array(&json, "problems");
    for (size_t i = 0; i < problems->count; i++) {
        const struct chart_problem *problem = &problems->items[i];
        json_begin_object(&json, NULL);
        json_add_size(&json, "line", problem->line);
        json_add_size(&json, "column", problem->column);
        json_add_text(&json, "severity", problem->warning ? "warning" : "error");
        json_add_text(&json, "message", problem->message);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    strbuf_add_char(out, '\n');
}

static int report(const char *path, const struct chart_set *set, const struct chart_problems *problems,
                  bool json)
{
    struct strbuf out;
    strbuf_init(&out);
    size_t charts = set ? chart_set_count(set) : 0;
    if (json) {
        format_json(path, charts, problems, &out);
    } else {
        chart_file_add_problems(path, problems, &out);
        if (set)
            strbuf_printf(&out, "%zu charts, ", charts);
        strbuf_printf(&out, "%zu errors, %zu warnings\n", problems->errors, problems->warnings);
    }
    int exit_code = terminal_print(&out);
    strbuf_free(&out);
    return exit_code ? exit_code : problems->errors > 0 ? EXIT_FAILED : 0;
}

int charts_check(int argc, char **argv)
{
    const char *dir = NULL;
    bool json = false;
    const struct command_option options[] = {
        {"dir", OPTION_TEXT, &dir, "DIR", "check sensors against the contexts stored in this cluster"},
        OPTION_JSON(&json),
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct chart_problems problems;
    struct chart_set *set = NULL;
    struct error err;
    chart_problems_init(&problems);
    int code = chart_file_load(argv[1], &set, &problems, &err);
    bool told = code == ERR_INVALID && problems.errors > 0;
    if (code == 0 && dir)
        code = check_against_cluster(dir, set, &problems, &err);
    int exit_code = code && !told ? command_failed(&command, &err) : report(argv[1], set, &problems, json);
    if (set)
        chart_set_free(set);
    chart_problems_free(&problems);
    return exit_code;
}
