/* `chamberlain context show ID`: what became of one context, chart by chart. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "view/judged_context.h"
#include "view/verdict_text.h"

#include "base/clock.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command command = {
    .name = "context show",
    .operands = "ID",
    .summary = "Shows one context: what it was, whether it has been judged, and the verdict of every chart, "
               "alarms first.",
    .examples = "  chamberlain context show l2920 --dir fab\n"
                "  chamberlain context show l2920 --dir fab --alarms-only\n"
                "  chamberlain context show l2920 --dir fab --json",
    .min_operands = 1,
    .max_operands = 1,
};

static void format_json(const struct judged_context *judged, const struct uchart_point *const *points,
                        bool alarms_only, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    judged_context_add_json(&json, judged);
    if (judged->stored) {
        json_add_id(&json, "chart_set", judged->stored->chart_set);
        json_add_time(&json, "judged_at", judged->stored->judged_us);
    }
    json_add_size(&json, "alarms", judged_context_count(judged, VERDICT_ALARM));
    json_begin_array(&json, "verdicts");
    for (size_t i = 0; i < judged->uchart.count; i++) {
        if (alarms_only && points[i]->state != VERDICT_ALARM)
            continue;
        json_begin_object(&json, NULL);
        verdict_add_json(&json, points[i]);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    strbuf_add_char(out, '\n');
}

static void format_quality(const struct context *context, struct strbuf *out)
{
    json_error_t parse;
    json_t *extra = json_loads(context->extra_json, 0, &parse);
    const char *key;
    json_t *value;
    json_object_foreach(extra, key, value)
    {
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        const char *shown = json_is_string(value) ? json_string_value(value) : text;
        strbuf_printf(out, "  %-9s  %s\n", key, shown ? shown : "");
        free(text);
    }
    json_decref(extra);
}

static void format_state(const struct judged_context *judged, struct strbuf *out)
{
    char when[CLOCK_RFC3339_BYTES];
    if (judged->completion->state == STORE_DEAD) {
        strbuf_printf(out, "  state      dead: %s\n", judged->completion->dead_reason);
        return;
    }
    if (judged->stored == NULL) {
        strbuf_add(out, "  state      pending: no defender has judged it yet (see `chamberlain status`)\n");
        return;
    }
    strbuf_printf(out, "  state      judged %s", clock_format_rfc3339(judged->stored->judged_us, when));
    if (judged->stored->chart_set == 0)
        strbuf_add(out, " while no chart file was in force (see `chamberlain charts use --help`)\n");
    else
        strbuf_printf(out, " by chart file %016" PRIx64 "\n", judged->stored->chart_set);
    if (judged->uchart.count > 0)
        strbuf_printf(
            out, "  verdicts   %zu alarmed, %zu normal, %zu learning, %zu without a value\n",
            judged_context_count(judged, VERDICT_ALARM), judged_context_count(judged, VERDICT_NORMAL),
            judged_context_count(judged, VERDICT_LEARNING), judged_context_count(judged, VERDICT_MISSING));
}

static void format_head(const struct judged_context *judged, struct strbuf *out)
{
    char from[CLOCK_RFC3339_BYTES], to[CLOCK_RFC3339_BYTES];
    const struct context *context = &judged->context;
    strbuf_printf(out, "%s\n  chamber    %s:%s\n", context->id, context->tool, context->chamber);
    if (*context->recipe)
        strbuf_printf(out, "  recipe     %s\n", context->recipe);
    if (*context->lot || *context->wafer)
        strbuf_printf(out, "  lot        %s%s%s\n", context->lot, *context->wafer ? "  wafer " : "",
                      context->wafer);
    if (context->end_us != 0) /* 0: announced only, never stored */
        strbuf_printf(out, "  run        %s to %s\n", clock_format_rfc3339(context->start_us, from),
                      clock_format_rfc3339(context->end_us, to));
    if (context->svid_count > 0)
        strbuf_printf(out, "  trace      %" PRId64 " sensors, %" PRId64 " points\n", context->svid_count,
                      context->point_count);
    format_quality(context, out);
    format_state(judged, out);
}

static void add_row(struct table *table, const struct uchart_point *point)
{
    struct strbuf rules;
    strbuf_init(&rules);
    verdict_add_rules(point->rules, &rules);
    table_add(table, point->state == VERDICT_ALARM ? severity_name(point->severity)
                                                   : verdict_state_name(point->state));
    table_add(table, point->chart);
    table_add_number(table, point->value);
    table_add(table, point->unit);
    table_add_number(table, point->centre);
    table_add_number(table, point->lower);
    table_add_number(table, point->upper);
    table_add(table, rules.text);
    table_add(table, point->flags & POINT_LOW_QUALITY ? "low" : "");
    table_add(table, point->reason);
    strbuf_free(&rules);
}

static void format_text(const struct judged_context *judged, const struct uchart_point *const *points,
                        bool alarms_only, struct strbuf *out)
{
    static const struct table_column columns[] = {
        {"verdict", false}, {"chart", false}, {"value", true},  {"unit", false},    {"centre", true},
        {"lower", true},    {"upper", true},  {"rules", false}, {"quality", false}, {"reason", false}};
    struct table table;
    table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < judged->uchart.count; i++)
        if (!alarms_only || points[i]->state == VERDICT_ALARM)
            add_row(&table, points[i]);
    format_head(judged, out);
    if (table_rows(&table) > 0) {
        strbuf_add_char(out, '\n');
        table_format(&table, 0, out);
    }
    table_free(&table);
}

static int show(struct session *session, const char *id, bool json, bool alarms_only)
{
    struct judged_context judged;
    struct strbuf out;
    struct error err;
    strbuf_init(&out);
    int code = judged_context_fetch(session->store, id, &judged, &err);
    const struct uchart_point **points = code ? NULL : verdict_sort(&judged.uchart, &judged.arena);
    if (code == 0 && points == NULL)
        code = error_set(&err, ERR_NO_MEMORY, "no memory for %zu verdicts", judged.uchart.count);
    int exit_code;
    if (code) {
        exit_code = command_failed(&command, &err);
    } else {
        (json ? format_json : format_text)(&judged, points, alarms_only, &out);
        exit_code = terminal_print(&out);
    }
    judged_context_free(&judged);
    strbuf_free(&out);
    return exit_code;
}

static int context_show(int argc, char **argv)
{
    const char *dir = NULL;
    bool json = false, alarms_only = false;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        {"alarms-only", OPTION_FLAG, &alarms_only, NULL, "leave out the charts that did not alarm"},
        OPTION_JSON(&json),
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct session session;
    struct error err;
    if (session_open(&session, dir, SESSION_STORE, &err))
        return command_failed(&command, &err);
    int exit_code = show(&session, argv[1], json, alarms_only);
    session_close(&session);
    return exit_code;
}

int cli_context(int argc, char **argv)
{
    if (argc >= 2 && strcmp(argv[1], "show") == 0)
        return context_show(argc - 1, argv + 1);
    bool help = argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    fprintf(
        help ? stdout : stderr,
        "Usage: chamberlain context show ID [options]\n\n"
        "Shows one context and the verdict of every chart; `chamberlain context show --help` says more.\n");
    return help ? 0 : EXIT_USAGE;
}
