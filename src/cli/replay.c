/* `chamberlain replay`: stored contexts judged again by the chart file in force. */
#include "cli/announcer.h"
#include "cli/command.h"
#include "base/json_writer.h"
#include "cli/options.h"
#include "cli/terminal.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>

static const struct command command = {
    .name = "replay",
    .operands = "",
    .summary = "Judges stored contexts again by the chart file in force, in event order, and waits until it "
               "is done.\n"
               "Without filters all of them. No alarms are raised unless --alarms is given. Dead contexts "
               "are tried\n"
               "again too.",
    .examples = "  chamberlain replay --dir fab\n"
                "  chamberlain replay --dir fab --tool LAM9600 --chamber PM1 --lot exp29 --alarms\n"
                "  chamberlain replay --dir fab --context l2920",
};

struct replay {
    struct session session;
    struct announcer announcer;
    struct store_list_query query; /* tool, chamber, recipe */
    const char *lot, *context_id;
    struct store_reply *found; /* of --context: holds what the query then points to */
    bool json, alarms, no_wait;
    struct error err;
};

/* One context: the rest of its history is looked at too, to know what comes after it. */
static int look_up_context(struct replay *replay)
{
    store_find_context(replay->session.store, replay->context_id, store_wait_done, replay->session.wait);
    replay->found = session_reply(&replay->session);
    if (replay->found->code == ERR_NOT_FOUND)
        return error_set(&replay->err, ERR_NOT_FOUND, "no context '%s' is stored", replay->context_id);
    if (replay->found->code) {
        replay->err = replay->found->error;
        return replay->err.code;
    }
    const struct store_completion *completion = &replay->found->completions[0];
    if (completion->announcement == NULL || *completion->announcement == '\0')
        return error_set(&replay->err, ERR_NOT_FOUND,
                         "context '%s' was announced, but never stored: there is nothing to judge",
                         replay->context_id);
    replay->query.tool = completion->key.tool;
    replay->query.chamber = completion->key.chamber;
    replay->query.recipe = completion->recipe && *completion->recipe ? completion->recipe : NULL;
    replay->query.from_end_us = completion->end_us;
    return 0;
}

static int visit(void *arg, const struct store_completion *completion)
{
    struct replay *replay = arg;
    bool selected =
        (replay->lot == NULL || (completion->lot && strcmp(completion->lot, replay->lot) == 0)) &&
        (replay->context_id == NULL || strcmp(completion->key.context_id, replay->context_id) == 0);
    return announcer_offer(&replay->announcer, completion, selected, &replay->err);
}

static int announce(struct replay *replay)
{
    int code = replay->context_id ? look_up_context(replay) : 0;
    if (code)
        return code;
    announcer_begin(&replay->announcer, &replay->session, replay->alarms);
    code = session_each_context(&replay->session, &replay->query, visit, replay, &replay->err);
    struct error finish;
    int finish_code = announcer_finish(&replay->announcer, &finish);
    if (code == 0 && finish_code)
        replay->err = finish;
    code = code ? code : finish_code;
    if (code == 0 && replay->announcer.announced == 0)
        return error_set(&replay->err, ERR_NOT_FOUND,
                         "no stored context matches; `chamberlain status` counts them");
    return code;
}

static int report(const struct replay *replay, double seconds)
{
    const struct announcer *announcer = &replay->announcer;
    struct strbuf out;
    struct json_writer json = {.out = &out};
    strbuf_init(&out);
    if (replay->json) {
        json_begin_object(&json, NULL);
        json_add_size(&json, "announced", announcer->announced);
        json_add_size(&json, "skipped", announcer->skipped);
        json_add_bool(&json, "waited", !replay->no_wait);
        json_add_double(&json, "seconds", seconds);
        json_end_object(&json);
        strbuf_add_char(&out, '\n');
    } else {
        strbuf_printf(&out, "%zu contexts %s in %.1f s\n", announcer->announced,
                      replay->no_wait ? "announced again" : "judged again", seconds);
        if (announcer->skipped > 0)
            strbuf_printf(&out, "%zu skipped: they were never stored completely\n", announcer->skipped);
    }
    int exit_code = terminal_print(&out);
    strbuf_free(&out);
    return exit_code;
}

static int run(struct replay *replay)
{
    int64_t start_ns = clock_mono_ns();
    int code = replay->no_wait ? 0 : announcer_check_defenders(&replay->session, &replay->err);
    if (code == 0)
        code = announce(replay);
    if (code == 0 && !replay->no_wait)
        code = announcer_wait(&replay->announcer, &replay->err);
    if (code)
        return command_failed(&command, &replay->err);
    return report(replay, (double)(clock_mono_ns() - start_ns) / 1e9);
}

int cli_replay(int argc, char **argv)
{
    struct replay replay = {0};
    const char *dir = NULL;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        OPTION_TOOL(&replay.query.tool),
        OPTION_CHAMBER(&replay.query.chamber),
        OPTION_RECIPE(&replay.query.recipe),
        OPTION_LOT(&replay.lot),
        {"context", OPTION_TEXT, &replay.context_id, "ID", "only this context"},
        {"alarms", OPTION_FLAG, &replay.alarms, NULL,
         "raise alarms (those raised before are not raised again)"},
        {"no-wait", OPTION_FLAG, &replay.no_wait, NULL, "return when all are announced"},
        OPTION_JSON(&replay.json),
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    if (session_open(&replay.session, dir, SESSION_STORE | SESSION_NATS, &replay.err))
        return command_failed(&command, &replay.err);
    int exit_code = run(&replay);
    if (replay.found)
        store_reply_free(replay.found);
    session_close(&replay.session);
    return exit_code;
}
