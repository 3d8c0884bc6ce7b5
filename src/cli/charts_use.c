/* `chamberlain charts use`: brings a chart file in force, and lets it judge what no chart has judged yet. */
#include "cli/announcer.h"
#include "cli/chart_file.h"
#include "cli/charts.h"
#include "cli/command.h"
#include "cli/context_keys.h"
#include "base/json_writer.h"
#include "cli/options.h"
#include "cli/terminal.h"

#include "base/clock.h"
#include "bus/names.h"
#include "chart/context.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

enum { LOAD_TIMEOUT_MS = 10 * 1000, LOAD_POLL_MS = 100, PAGE_ROWS = 1000, ID_BYTES = 17 };

static const struct command command = {
    .name = "charts use",
    .operands = "FILE",
    .summary = "Checks a chart file and brings it in force: every defender judges by it from now on. "
               "Contexts that came\n"
               "while no chart file was in force are judged by it too; those that another chart file has "
               "judged keep\n"
               "their verdicts until `chamberlain replay`.",
    .examples = "  chamberlain charts use charts.yaml --dir fab\n"
                "  chamberlain charts use charts.yaml --dir fab --no-replay",
    .min_operands = 1,
    .max_operands = 1,
};

/* A context whose U-chart was made while no chart file was in force. */
struct unjudged {
    const char *id;
    UT_hash_handle hh;
};

struct use {
    struct session session;
    struct announcer announcer;
    struct arena arena;
    const char *path;
    struct chart_set *set;
    bool json, no_replay;
    uint64_t previous; /* in force before; 0: none */
    size_t defenders;
    size_t by_this, by_others; /* stored U-charts */
    struct unjudged *unjudged;
    size_t unjudged_count;
    struct error err;
};

/* --- in force --- */

static int put(struct use *use)
{
    struct session *session = &use->session;
    size_t length;
    store_fetch_chart_set(session->store, 0, store_wait_done, session->wait);
    struct store_reply *reply = session_reply(session);
    use->previous = reply->code == 0 ? reply->id : 0;
    store_reply_free(reply);
    store_put_chart_set(session->store, chart_set_id(use->set), chart_set_text(use->set, &length), true,
                        clock_wall_us(), store_wait_done, session->wait);
    reply = session_reply(session);
    int code = reply->code;
    if (code)
        use->err = reply->error;
    store_reply_free(reply);
    return code;
}

static int notify(struct use *use)
{
    char subject[NAMES_BYTES], id[ID_BYTES];
    snprintf(id, sizeof id, "%016" PRIx64, chart_set_id(use->set));
    return bus_publish(use->session.bus, names_subject(use->session.cell, "cluster.charts", subject), id,
                       strlen(id), &use->err);
}

/* A defender that has not loaded the set yet, NULL when all have. */
static const char *find_late(const json_t *defenders, uint64_t set)
{
    char wanted[ID_BYTES];
    snprintf(wanted, sizeof wanted, "%016" PRIx64, set);
    size_t i;
    json_t *defender;
    json_array_foreach(defenders, i, defender)
    {
        const char *loaded = json_string_value(json_object_get(defender, "chart_set"));
        const char *id = json_string_value(json_object_get(defender, "id"));
        if (loaded == NULL || strcmp(loaded, wanted) != 0)
            return id ? id : "a defender";
    }
    return NULL;
}

/* The notice may be lost, as core NATS messages may: it is repeated with each look. */
static int wait_for_defenders(struct use *use)
{
    int64_t until_ns = clock_mono_ns() + (int64_t)LOAD_TIMEOUT_MS * 1000000;
    const bool never = false;
    for (;;) {
        int code = notify(use);
        if (code)
            return code;
        session_run_until(&use->session, &never, LOAD_POLL_MS);
        json_t *defenders = session_defenders(&use->session, NULL);
        const char *late = find_late(defenders, chart_set_id(use->set));
        use->defenders = json_array_size(defenders);
        if (late && clock_mono_ns() > until_ns)
            code =
                error_set(&use->err, ERR_TIMEOUT,
                          "the chart file is stored, but %s has not loaded it within %d s; its log says why",
                          late, LOAD_TIMEOUT_MS / 1000);
        json_decref(defenders);
        if (code || late == NULL)
            return code;
    }
}

/* --- who judged what is stored --- */

static int remember_unjudged(struct use *use, const struct store_uchart *stored)
{
    struct unjudged *entry = arena_calloc(&use->arena, 1, sizeof *entry);
    char *id = arena_printf(&use->arena, "%s\n%s\n%s", stored->key.tool, stored->key.chamber,
                            stored->key.context_id);
    if (entry == NULL || id == NULL)
        return error_set(&use->err, ERR_NO_MEMORY, "no memory for the contexts to judge");
    entry->id = id;
    HASH_ADD_KEYPTR(hh, use->unjudged, entry->id, strlen(entry->id), entry);
    use->unjudged_count++;
    return 0;
}

static int take_uchart(struct use *use, const struct store_uchart *stored)
{
    if (stored->chart_set == 0)
        return remember_unjudged(use, stored);
    if (stored->chart_set == chart_set_id(use->set))
        use->by_this++;
    else
        use->by_others++;
    return 0;
}

static int look_through_history(struct use *use, const struct context_key *key)
{
    struct session *session = &use->session;
    char id[CONTEXT_NAME_MAX_BYTES + 1] = "";
    struct store_history_query query = {.tool = key->tool,
                                        .chamber = key->chamber,
                                        .recipe = key->recipe,
                                        .end_us = INT64_MAX,
                                        .context_id = id,
                                        .limit = PAGE_ROWS};
    int code = 0;
    for (bool more = true; more && code == 0;) {
        store_fetch_history(session->store, &query, store_wait_done, session->wait);
        struct store_reply *reply = session_reply(session);
        code = reply->code;
        if (code)
            use->err = reply->error;
        for (size_t i = 0; i < reply->uchart_count && code == 0; i++)
            code = take_uchart(use, &reply->ucharts[i]);
        more = reply->uchart_count == PAGE_ROWS;
        if (more) {
            query.end_us = reply->ucharts[PAGE_ROWS - 1].end_us;
            snprintf(id, sizeof id, "%s", reply->ucharts[PAGE_ROWS - 1].key.context_id);
        }
        store_reply_free(reply);
    }
    return code;
}

static int look_through_store(struct use *use)
{
    struct context_keys keys;
    int code = context_keys_collect(&use->session, &(struct store_list_query){0}, &keys, &use->err);
    for (const struct context_key *key = keys.first; key && code == 0; key = key->hh.next)
        code = look_through_history(use, key);
    context_keys_free(&keys);
    return code;
}

/* --- judging what no chart has judged --- */

static int visit(void *arg, const struct store_completion *completion)
{
    struct use *use = arg;
    char id[3 * (CONTEXT_NAME_MAX_BYTES + 1)];
    struct unjudged *entry;
    snprintf(id, sizeof id, "%s\n%s\n%s", completion->key.tool, completion->key.chamber,
             completion->key.context_id);
    HASH_FIND_STR(use->unjudged, id, entry);
    return announcer_offer(&use->announcer, completion, entry != NULL, &use->err);
}

static int judge_unjudged(struct use *use)
{
    announcer_begin(&use->announcer, &use->session, false);
    int code = session_each_context(&use->session, &(struct store_list_query){0}, visit, use, &use->err);
    struct error finish;
    int finish_code = announcer_finish(&use->announcer, &finish);
    if (code == 0 && finish_code)
        use->err = finish;
    code = code ? code : finish_code;
    if (code == 0)
        code = announcer_wait(&use->announcer, &use->err);
    return code;
}

/* --- the whole --- */

static void format_json(const struct use *use, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    json_add_id(&json, "chart_set", chart_set_id(use->set));
    json_add_size(&json, "charts", chart_set_count(use->set));
    if (use->previous)
        json_add_id(&json, "previous", use->previous);
    else
        json_add_text(&json, "previous", NULL);
    json_add_size(&json, "defenders", use->defenders);
    json_add_size(&json, "judged_by_this", use->by_this + use->announcer.announced);
    json_add_size(&json, "judged_by_others", use->by_others);
    json_add_size(&json, "judged_by_none", use->unjudged_count - use->announcer.announced);
    json_add_size(&json, "announced", use->announcer.announced);
    json_end_object(&json);
    strbuf_add_char(out, '\n');
}

static void format_text(const struct use *use, struct strbuf *out)
{
    strbuf_printf(out, "%s is in force: %zu charts, chart file %016" PRIx64 "%s\n", use->path,
                  chart_set_count(use->set), chart_set_id(use->set),
                  use->previous == chart_set_id(use->set) ? " (as before)" : "");
    if (use->defenders > 0)
        strbuf_printf(out, "%zu defender%s judge%s by it\n", use->defenders, use->defenders == 1 ? "" : "s",
                      use->defenders == 1 ? "s" : "");
    size_t announced = use->announcer.announced;
    if (announced > 0)
        strbuf_printf(out, "%zu contexts that no chart had judged have been judged by it\n", announced);
    if (use->unjudged_count > announced)
        strbuf_printf(out,
                      "%zu stored contexts have not been judged by any chart; `chamberlain replay` does so\n",
                      use->unjudged_count - announced);
    if (use->by_others > 0)
        strbuf_printf(
            out,
            "%zu stored contexts keep the verdicts of another chart file; `chamberlain replay` judges them "
            "again\n",
            use->by_others);
}

static int run(struct use *use)
{
    int code = put(use);
    if (code == 0)
        code = wait_for_defenders(use);
    if (code == 0 && use->defenders == 0)
        fprintf(stderr,
                "chamberlain charts use: no defender is running; they load the chart file when they start\n");
    if (code == 0)
        code = look_through_store(use);
    if (code == 0 && use->unjudged_count > 0 && use->defenders > 0 && !use->no_replay)
        code = judge_unjudged(use);
    if (code)
        return command_failed(&command, &use->err);
    struct strbuf out;
    strbuf_init(&out);
    (use->json ? format_json : format_text)(use, &out);
    int exit_code = terminal_print(&out);
    strbuf_free(&out);
    return exit_code;
}

/* Shows what is wrong with the file; false when it cannot be used. */
static bool load_file(struct use *use)
{
    struct chart_problems problems;
    struct strbuf text;
    chart_problems_init(&problems);
    strbuf_init(&text);
    int code = chart_file_load(use->path, &use->set, &problems, &use->err);
    chart_file_add_problems(use->path, &problems, &text);
    fputs(text.text, stderr);
    if (code && problems.errors > 0)
        fprintf(stderr,
                "chamberlain charts use: %s has %zu errors and is not used; the chart file in force stays\n",
                use->path, problems.errors);
    else if (code)
        command_failed(&command, &use->err);
    strbuf_free(&text);
    chart_problems_free(&problems);
    return code == 0;
}

int charts_use(int argc, char **argv)
{
    struct use use = {0};
    const char *dir = NULL;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        {"no-replay", OPTION_FLAG, &use.no_replay, NULL,
         "do not judge the contexts that no chart has judged"},
        OPTION_JSON(&use.json),
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    use.path = argv[1];
    if (!load_file(&use))
        return EXIT_FAILED;
    int exit_code;
    if (session_open(&use.session, dir, SESSION_STORE | SESSION_NATS, &use.err)) {
        exit_code = command_failed(&command, &use.err);
    } else {
        arena_init(&use.arena, 0);
        exit_code = run(&use);
        HASH_CLEAR(hh, use.unjudged);
        arena_free(&use.arena);
        session_close(&use.session);
    }
    chart_set_free(use.set);
    return exit_code;
}
