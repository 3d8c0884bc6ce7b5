/* `chamberlain charts`: its subcommands, and the simplest of them, `list`. */
#include "cli/charts.h"

#include "chart/glob.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"
#include "view/stored_charts.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "view/verdict_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} subcommands[] = {
    {"check", charts_check, "find every mistake in a chart file"},
    {"learn", charts_learn, "propose a chart file from contexts known to be normal"},
    {"use", charts_use, "bring a chart file in force"},
    {"list", charts_list, "list the charts in force"},
    {"show", charts_show, "show one chart over contexts, drawn and as a table"},
};

enum { SUBCOMMANDS = sizeof subcommands / sizeof *subcommands };

static void print_usage(FILE *out)
{
    fprintf(out, "Usage: chamberlain charts COMMAND [options]\n\nCommands:\n");
    for (int i = 0; i < SUBCOMMANDS; i++)
        fprintf(out, "  %-6s %s\n", subcommands[i].name, subcommands[i].summary);
    fprintf(out, "\n`chamberlain charts COMMAND --help` explains each, with an example.\n");
}

int cli_charts(int argc, char **argv)
{
    if (argc >= 2)
        for (int i = 0; i < SUBCOMMANDS; i++)
            if (strcmp(argv[1], subcommands[i].name) == 0)
                return subcommands[i].run(argc - 1, argv + 1);
    bool help = argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    if (argc >= 2 && !help)
        fprintf(stderr, "chamberlain charts: no command '%s'\n", argv[1]);
    print_usage(help ? stdout : stderr);
    return help ? 0 : EXIT_USAGE;
}

/* --- list --- */

static const struct command list_command = {
    .name = "charts list",
    .operands = "",
    .summary = "Lists the charts of the chart file in force: equation, limits, rules and severity.",
    .examples = "  chamberlain charts list --dir fab\n"
                "  chamberlain charts list --dir fab --recipe ETCH_AL --json",
};

static bool applies(const struct chart *chart, const char *recipe)
{
    return recipe == NULL || glob_match(chart->recipe, recipe);
}

static void list_json(const struct chart_set *set, const char *recipe, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    struct strbuf words;
    strbuf_init(&words);
    json_begin_object(&json, NULL);
    json_add_id(&json, "chart_set", chart_set_id(set));
    json_begin_array(&json, "charts");
    for (size_t i = 0; i < chart_set_count(set); i++) {
        const struct chart *chart = chart_set_at(set, i);
        if (!applies(chart, recipe))
            continue;
        json_begin_object(&json, NULL);
        json_add_text(&json, "name", chart->name);
        json_add_text(&json, "recipe", chart->recipe);
        json_add_text(&json, "equation", chart->equation.text);
        json_add_text(&json, "unit", chart->unit);
        json_begin_array(&json, "baseline");
        for (size_t k = 0; k < chart->baseline_count; k++)
            json_add_text(&json, NULL, chart->baseline[k]);
        json_end_array(&json);
        strbuf_clear(&words);
        verdict_add_limits(&chart->limits, &words);
        json_add_text(&json, "limits", words.text);
        strbuf_clear(&words);
        verdict_add_chart_rules(chart, &words);
        json_add_text(&json, "rules", words.text);
        json_add_text(&json, "severity", severity_name(chart->severity));
        json_add_text(&json, "notes", chart->notes);
        json_add_size(&json, "line", chart->line);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    strbuf_add_char(out, '\n');
    strbuf_free(&words);
}

static void list_text(const struct chart_set *set, const char *recipe, struct strbuf *out)
{
    static const struct table_column columns[] = {{"chart", false},  {"recipe", false}, {"equation", false},
                                                  {"limits", false}, {"rules", false},  {"severity", false}};
    struct table table;
    struct strbuf words;
    strbuf_init(&words);
    table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < chart_set_count(set); i++) {
        const struct chart *chart = chart_set_at(set, i);
        if (!applies(chart, recipe))
            continue;
        table_add(&table, chart->name);
        table_add(&table, chart->recipe);
        table_add(&table, chart->equation.text);
        strbuf_clear(&words);
        verdict_add_limits(&chart->limits, &words);
        table_add(&table, words.text);
        strbuf_clear(&words);
        verdict_add_chart_rules(chart, &words);
        table_add(&table, words.text);
        table_add(&table, severity_name(chart->severity));
    }
    if (table_rows(&table) > 0)
        table_format(&table, 0, out);
    strbuf_printf(out, "%zu of %zu charts of chart file %016" PRIx64 "\n", table_rows(&table),
                  chart_set_count(set), chart_set_id(set));
    table_free(&table);
    strbuf_free(&words);
}

static int list(struct session *session, const char *recipe, bool json)
{
    struct stored_charts charts;
    struct chart_set *set;
    struct strbuf out;
    struct error err;
    int exit_code;
    strbuf_init(&out);
    stored_charts_init(&charts, session->store);
    if (stored_charts_current(&charts, &set, &err)) {
        exit_code = command_failed(&list_command, &err);
    } else {
        (json ? list_json : list_text)(set, recipe, &out);
        exit_code = terminal_print(&out);
    }
    stored_charts_free(&charts);
    strbuf_free(&out);
    return exit_code;
}

int charts_list(int argc, char **argv)
{
    const char *dir = NULL, *recipe = NULL;
    bool json = false;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        {"recipe", OPTION_TEXT, &recipe, "R", "only charts that judge this recipe"},
        OPTION_JSON(&json),
    };
    enum command_next next = command_parse(&list_command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct session session;
    struct error err;
    if (session_open(&session, dir, SESSION_STORE, &err))
        return command_failed(&list_command, &err);
    int exit_code = list(&session, recipe, json);
    session_close(&session);
    return exit_code;
}
