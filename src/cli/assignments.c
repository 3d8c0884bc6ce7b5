/* `chamberlain assignments`: which defender owns what, by the assignment in force. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/table.h"

#include "bus/kv.h"
#include "bus/names.h"

#include <stdio.h>
#include <string.h>

static const struct command command = {
    .name = "assignments",
    .operands = "",
    .summary = "Shows the assignment in force: version, balance, and what each defender owns.\n"
               "--moves: what the last changes moved, beside the least that any change could; --chambers: "
               "each chamber's owner.",
    .examples = "  chamberlain assignments --dir fab\n"
                "  chamberlain assignments --dir fab --chambers --json",
};

struct value {
    bool done;
    int code;
    struct error error;
    json_t *document;
};

static void on_value(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    struct value *value = arg;
    value->code = code;
    value->error = *error;
    value->document = code ? NULL : json_loadb(entry->value, entry->length, 0, NULL);
    if (code == 0 && value->document == NULL)
        value->code = error_set(&value->error, ERR_CORRUPT, "key %s is not JSON", entry->key);
    value->done = true;
}

/* The document under a key of the bucket `assignments`; the caller decrefs. NULL with `err`. */
static json_t *read_key(struct session *session, const char *key, struct error *err)
{
    char bucket[NAMES_BYTES];
    struct value value = {0};
    kv_get(session->bus, names_stream(session->cell, "assignments", bucket), key, on_value, &value);
    while (!value.done)
        uv_run(&session->loop, UV_RUN_ONCE);
    if (value.code)
        *err = value.error;
    return value.document;
}

/* The chambers of a member as "tool:chamber" names. */
static json_t *read_chambers(struct session *session, const char *id)
{
    char key[128];
    struct error err;
    snprintf(key, sizeof key, "to.%.100s", id);
    json_t *document = read_key(session, key, &err), *names = json_array(), *token;
    size_t i;
    json_array_foreach(json_object_get(document, "chambers"), i, token)
    {
        char tool[NAMES_BYTES], chamber[NAMES_BYTES], name[2 * NAMES_BYTES + 2];
        const char *text = json_string_value(token), *dot = text ? strchr(text, '.') : NULL;
        if (dot == NULL || names_unescape(text, (size_t)(dot - text), tool, NULL) ||
            names_unescape(dot + 1, strlen(dot + 1), chamber, NULL))
            continue;
        snprintf(name, sizeof name, "%s:%s", tool, chamber);
        json_array_append_new(names, json_string(name));
    }
    json_decref(document);
    return names;
}

static void add_all_chambers(struct session *session, json_t *map)
{
    json_t *members = json_object_get(map, "members"), *member;
    size_t i;
    json_array_foreach(members, i, member)
    {
        const char *id = json_string_value(json_object_get(member, "id"));
        if (id)
            json_object_set_new(member, "chambers", read_chambers(session, id));
    }
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void print_members(const json_t *map)
{
    static const struct table_column columns[] = {{"defender", false},
                                                  {"chambers", true},
                                                  {"weight", true},
                                                  {"of the mean", true},
                                                  {"since version", true}};
    const json_t *members = json_object_get(map, "members");
    double total = 0;
    for (size_t i = 0; i < json_array_size(members); i++)
        total += number(json_array_get(members, i), "weight");
    double mean = total / (double)(json_array_size(members) ? json_array_size(members) : 1);
    struct table table;
    struct strbuf out;
    table_init(&table, columns, sizeof columns / sizeof *columns);
    strbuf_init(&out);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i);
        table_add(&table, text_of(member, "id"));
        table_addf(&table, "%.0f", number(member, "count"));
        table_addf(&table, "%.0f", number(member, "weight"));
        table_addf(&table, "%.2f", mean > 0 ? number(member, "weight") / mean : 0.0);
        table_addf(&table, "%.0f", number(member, "assigned"));
    }
    table_format(&table, 0, &out);
    fputs(out.text, stdout);
    strbuf_free(&out);
    table_free(&table);
}

static void print_chambers(const json_t *map)
{
    const json_t *members = json_object_get(map, "members");
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i), *chambers = json_object_get(member, "chambers");
        for (size_t k = 0; k < json_array_size(chambers); k++)
            printf("%s  %s\n", json_string_value(json_array_get(chambers, k)), text_of(member, "id"));
    }
}

static void print_moves(const json_t *map)
{
    printf("the last change moved %.0f chambers (any change to this balance moves %.0f at least) and placed "
           "%.0f new "
           "ones\n",
           number(map, "moved"), number(map, "least"), number(map, "placed"));
    printf("%.0f rebalances and %.0f emergencies since the map was begun\n", number(map, "rebalances"),
           number(map, "emergencies"));
}

int cli_assignments(int argc, char **argv)
{
    const char *dir = NULL;
    bool json = false, moves = false, chambers = false;
    const struct command_option table[] = {
        OPTION_DIR(&dir),
        {"moves", OPTION_FLAG, &moves, NULL, "what the last changes moved"},
        {"chambers", OPTION_FLAG, &chambers, NULL, "each chamber with its owner"},
        OPTION_JSON(&json),
    };
    enum command_next next = command_parse(&command, table, sizeof table / sizeof *table, argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct session session;
    struct error err;
    if (session_open(&session, dir, SESSION_NATS, &err))
        return command_failed(&command, &err);
    json_t *map = read_key(&session, "map", &err);
    if (map && chambers)
        add_all_chambers(&session, map);
    session_close(&session);
    if (map == NULL) {
        if (err.code == ERR_NOT_FOUND)
            error_set(&err, ERR_NOT_FOUND,
                      "nothing is assigned yet: no chamber is known, or no defender runs");
        return command_failed(&command, &err);
    }
    if (json) {
        json_dumpf(map, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        printf("version %.0f, %s, heaviest %.2f x the mean, by %s\n", number(map, "version"),
               text_of(map, "lifecycle"), number(map, "heaviest"), text_of(map, "leader"));
        if (moves)
            print_moves(map);
        print_members(map);
        if (chambers)
            print_chambers(map);
    }
    json_decref(map);
    return 0;
}
