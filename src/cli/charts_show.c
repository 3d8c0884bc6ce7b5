/* `chamberlain charts show`: one chart over the contexts of one chamber, drawn and as a table. */
#include "cli/charts.h"

#include "base/clock.h"
#include "chart/context.h"
#include "chart/glob.h"
#include "chart/nearest.h"
#include "cli/command.h"
#include "cli/context_keys.h"
#include "cli/options.h"
#include "view/stored_charts.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "cli/terminal_chart.h"
#include "view/verdict_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_LAST = 50, LAST_MAX = 100000, PAGE_ROWS = 200, CHART_ROWS = 16, CHOICES_SHOWN = 5 };

static const struct command command = {
    .name = "charts show",
    .operands = "NAME",
    .summary = "Shows one chart over the contexts of one chamber: each value with the limits it was judged "
               "by and the\n"
               "rules that fired, drawn and as a table. --tool, --chamber and --recipe may be left out where "
               "only one\n"
               "has contexts.",
    .examples = "  chamberlain charts show etch.pressure.mean --dir fab --tool LAM9600 --chamber PM1\n"
                "  chamberlain charts show etch.pressure.mean --dir fab --lot exp29 --last 20 --json",
    .min_operands = 1,
    .max_operands = 1,
};

/* One context of the chamber. */
struct row {
    const char *id, *wafer, *lot;
    int64_t end_us;
    enum store_state state;
    bool charted; /* `point` is this chart's; its texts live in the arena */
    struct uchart_point point;
};

struct show {
    struct session session;
    struct stored_charts charts;
    struct arena arena;
    const char *name;
    const struct chart *chart;
    struct store_list_query query; /* tool, chamber, recipe, lot */
    size_t last;
    bool json, ascii;
    struct row *rows; /* a ring of `last` while they are gathered, then in event order */
    size_t seen, count;
    struct error err;
};

/* --- which chart, which chamber --- */

static int find_chart(struct show *show)
{
    struct chart_set *set;
    int code = stored_charts_current(&show->charts, &set, &show->err);
    if (code)
        return code;
    show->chart = chart_set_find(set, show->name);
    if (show->chart)
        return 0;
    size_t count = chart_set_count(set);
    const char **names = arena_calloc(&show->arena, count, sizeof *names);
    for (size_t i = 0; names && i < count; i++)
        names[i] = chart_set_at(set, i)->name;
    const char *nearest = names ? nearest_name(show->name, names, count) : NULL;
    return error_set(&show->err, ERR_NOT_FOUND,
                     "no chart '%s' is in force%s%s%s; `chamberlain charts list` shows all", show->name,
                     nearest ? ": did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

static int choose_key(struct show *show, const struct context_keys *keys)
{
    const struct context_key *chosen = NULL;
    size_t matching = 0;
    struct strbuf choices;
    strbuf_init(&choices);
    for (const struct context_key *key = keys->first; key; key = key->hh.next) {
        if (!glob_match(show->chart->recipe, key->recipe))
            continue;
        chosen = key;
        if (matching++ < CHOICES_SHOWN)
            strbuf_printf(&choices, "\n  --tool %s --chamber %s --recipe %s", key->tool, key->chamber,
                          key->recipe);
    }
    int code = 0;
    if (matching == 0 && keys->count == 0)
        code = error_set(&show->err, ERR_NOT_FOUND, "no stored context is of that tool, chamber and recipe");
    else if (matching == 0)
        code = error_set(
            &show->err, ERR_NOT_FOUND,
            "no stored context has a recipe that the chart judges ('%s'): its %zu recipes and chambers do "
            "not match",
            show->chart->recipe, keys->count);
    else if (matching > 1)
        code = error_set(&show->err, ERR_INVALID, "%zu histories have this chart; choose one:%s%s", matching,
                         choices.text, matching > CHOICES_SHOWN ? "\n  ..." : "");
    strbuf_free(&choices);
    if (code)
        return code;
    show->query.tool = arena_strdup(&show->arena, chosen->tool);
    show->query.chamber = arena_strdup(&show->arena, chosen->chamber);
    show->query.recipe = arena_strdup(&show->arena, chosen->recipe);
    if (show->query.tool == NULL || show->query.chamber == NULL || show->query.recipe == NULL)
        return error_set(&show->err, ERR_NO_MEMORY, "no memory");
    return 0;
}

static int choose_chamber(struct show *show)
{
    struct context_keys keys;
    struct store_list_query query = show->query;
    query.lot = NULL; /* a lot that does not exist is better told than an unknown chamber */
    int code = context_keys_collect(&show->session, &query, &keys, &show->err);
    if (code == 0)
        code = choose_key(show, &keys);
    context_keys_free(&keys);
    return code;
}

/* --- its contexts --- */

static int take_context(void *arg, const struct store_completion *completion)
{
    struct show *show = arg;
    if (completion->recipe == NULL || strcmp(completion->recipe, show->query.recipe) != 0)
        return 0; /* an empty recipe cannot be asked for: NULL means any */
    struct context context = {.wafer = ""};
    if (completion->announcement && *completion->announcement)
        context_parse(completion->announcement, strlen(completion->announcement), &show->arena, &context,
                      NULL);
    struct row *row = &show->rows[show->seen++ % show->last];
    *row = (struct row){.id = arena_strdup(&show->arena, completion->key.context_id),
                        .lot = arena_strdup(&show->arena, completion->lot ? completion->lot : ""),
                        .wafer = context.wafer ? context.wafer : "",
                        .end_us = completion->end_us,
                        .state = completion->state};
    return row->id && row->lot ? 0 : error_set(&show->err, ERR_NO_MEMORY, "no memory for the contexts");
}

static int gather_contexts(struct show *show)
{
    struct row *ring = calloc(show->last, sizeof *ring);
    show->rows = ring;
    if (ring == NULL)
        return error_set(&show->err, ERR_NO_MEMORY, "no memory for %zu contexts", show->last);
    int code = session_each_context(&show->session, &show->query, take_context, show, &show->err);
    if (code)
        return code;
    show->count = show->seen < show->last ? show->seen : show->last;
    if (show->count == 0)
        return error_set(&show->err, ERR_NOT_FOUND, "no context of lot '%s' in %s:%s", show->query.lot,
                         show->query.tool, show->query.chamber);
    struct row *ordered = calloc(show->count, sizeof *ordered);
    if (ordered == NULL)
        return error_set(&show->err, ERR_NO_MEMORY, "no memory for %zu contexts", show->count);
    for (size_t i = 0; i < show->count; i++)
        ordered[i] = ring[(show->seen - show->count + i) % show->last];
    free(ring);
    show->rows = ordered;
    return 0;
}

/* --- their verdicts --- */

static struct row *find_row(const struct show *show, int64_t end_us, const char *id)
{
    size_t low = 0, high = show->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct row *row = &show->rows[middle];
        int order = context_compare_event(end_us, id, row->end_us, row->id);
        if (order == 0)
            return row;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static int take_uchart(struct show *show, const struct store_uchart *stored, struct arena *scratch)
{
    struct row *row = find_row(show, stored->end_us, stored->key.context_id);
    if (row == NULL)
        return 0;
    struct uchart uchart;
    arena_reset(scratch);
    int code = verdict_decode(stored, scratch, &uchart, &show->err);
    if (code)
        return code;
    const struct uchart_point *point = verdict_find(&uchart, show->name);
    if (point == NULL)
        return 0;
    row->charted = true;
    row->point = *point;
    row->point.chart = show->name;
    row->point.unit = arena_strdup(&show->arena, point->unit);
    row->point.reason = arena_strdup(&show->arena, point->reason);
    return row->point.unit && row->point.reason
               ? 0
               : error_set(&show->err, ERR_NO_MEMORY, "no memory for verdicts");
}

/* Pages of U-charts, newest first, from the last row to the first. */
static int gather_verdicts(struct show *show)
{
    struct arena scratch;
    arena_init(&scratch, 0);
    struct store_history_query query = {.tool = show->query.tool,
                                        .chamber = show->query.chamber,
                                        .recipe = show->query.recipe,
                                        .end_us = show->rows[show->count - 1].end_us + 1,
                                        .context_id = "",
                                        .verdicts = true,
                                        .limit = PAGE_ROWS};
    char id[CONTEXT_NAME_MAX_BYTES + 1] = "";
    int code = 0;
    for (bool more = true; more && code == 0;) {
        store_fetch_history(show->session.store, &query, store_wait_done, show->session.wait);
        struct store_reply *reply = session_reply(&show->session);
        code = reply->code;
        if (code)
            show->err = reply->error;
        for (size_t i = 0; i < reply->uchart_count && code == 0; i++)
            code = take_uchart(show, &reply->ucharts[i], &scratch);
        more = code == 0 && reply->uchart_count == PAGE_ROWS;
        if (more) {
            const struct store_uchart *oldest = &reply->ucharts[reply->uchart_count - 1];
            snprintf(id, sizeof id, "%s", oldest->key.context_id);
            query.end_us = oldest->end_us;
            query.context_id = id;
            more = oldest->end_us >= show->rows[0].end_us;
        }
        store_reply_free(reply);
    }
    arena_free(&scratch);
    return code;
}

/* --- output --- */

static const char *row_state(const struct row *row)
{
    static const char *const names[] = {
        [STORE_PENDING] = "pending", [STORE_JUDGED] = "no such chart then", [STORE_DEAD] = "dead"};
    return row->charted ? verdict_state_name(row->point.state) : names[row->state];
}

static void format_json(const struct show *show, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    struct strbuf limits;
    strbuf_init(&limits);
    verdict_add_limits(&show->chart->limits, &limits);
    json_begin_object(&json, NULL);
    json_add_text(&json, "chart", show->name);
    json_add_text(&json, "tool", show->query.tool);
    json_add_text(&json, "chamber", show->query.chamber);
    json_add_text(&json, "recipe", show->query.recipe);
    json_add_text(&json, "equation", show->chart->equation.text);
    json_add_text(&json, "limits", limits.text);
    json_begin_array(&json, "contexts");
    for (size_t i = 0; i < show->count; i++) {
        const struct row *row = &show->rows[i];
        json_begin_object(&json, NULL);
        json_add_text(&json, "context_id", row->id);
        json_add_text(&json, "lot", row->lot);
        json_add_text(&json, "wafer", row->wafer);
        json_add_time(&json, "ended_at", row->end_us);
        if (row->charted)
            verdict_add_json(&json, &row->point);
        else
            json_add_text(&json, "state", row->state == STORE_JUDGED ? "not_charted" : row_state(row));
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    strbuf_add_char(out, '\n');
    strbuf_free(&limits);
}

static int draw(const struct show *show, struct strbuf *out, struct error *err)
{
    struct terminal_chart_point *points = calloc(show->count, sizeof *points);
    if (points == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the drawing");
    for (size_t i = 0; i < show->count; i++) {
        const struct uchart_point *point = &show->rows[i].point;
        points[i] = (struct terminal_chart_point){.value = NAN, .centre = NAN, .lower = NAN, .upper = NAN};
        if (show->rows[i].charted)
            points[i] = (struct terminal_chart_point){.value = point->value,
                                                      .centre = point->centre,
                                                      .lower = point->lower,
                                                      .upper = point->upper,
                                                      .alarmed = point->state == VERDICT_ALARM};
    }
    struct terminal_chart_style style = {
        .columns = terminal_columns(), .rows = CHART_ROWS, .ascii = show->ascii, .colour = terminal_colour()};
    int code = terminal_chart_draw(points, show->count, &style, out, err);
    free(points);
    return code;
}

static void add_row(struct table *table, const struct row *row)
{
    char when[CLOCK_RFC3339_BYTES];
    struct strbuf rules;
    strbuf_init(&rules);
    if (row->charted)
        verdict_add_rules(row->point.rules, &rules);
    table_add(table, row->id);
    table_add(table, row->lot);
    table_add(table, row->wafer);
    table_add(table, clock_format_rfc3339(row->end_us / CLOCK_US_PER_SECOND * CLOCK_US_PER_SECOND, when));
    table_add_number(table, row->charted ? row->point.value : NAN);
    table_add_number(table, row->charted ? row->point.centre : NAN);
    table_add_number(table, row->charted ? row->point.lower : NAN);
    table_add_number(table, row->charted ? row->point.upper : NAN);
    table_add(table, row_state(row));
    table_add(table, rules.text);
    table_add(table, row->charted ? verdict_quality(&row->point) : "");
    table_add(table, row->charted ? row->point.reason : "");
    strbuf_free(&rules);
}

static void format_head(const struct show *show, struct strbuf *out)
{
    const struct chart *chart = show->chart;
    strbuf_printf(out, "%s  %s%s%s%s\n", chart->name, chart->equation.text, *chart->unit ? " [" : "",
                  chart->unit, *chart->unit ? "]" : "");
    strbuf_printf(out, "%s:%s  %s  limits: ", show->query.tool, show->query.chamber, show->query.recipe);
    verdict_add_limits(&chart->limits, out);
    strbuf_add(out, "  rules: ");
    verdict_add_chart_rules(chart, out);
    strbuf_add(out, "\n\n");
}

static int format_text(struct show *show, struct strbuf *out)
{
    static const struct table_column columns[] = {{"context", false}, {"lot", false},     {"wafer", false},
                                                  {"ended", false},   {"value", true},    {"centre", true},
                                                  {"lower", true},    {"upper", true},    {"state", false},
                                                  {"rules", false},   {"quality", false}, {"reason", false}};
    struct table table;
    format_head(show, out);
    int code = draw(show, out, &show->err);
    if (code)
        return code;
    strbuf_printf(out, "%11s %s to %s   %s\n\n", "", show->rows[0].id, show->rows[show->count - 1].id,
                  show->ascii ? "o value  X alarm  - centre  . limits"
                              : "\u2716 alarm  \u2500 centre  \u254c limits");
    table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < show->count; i++)
        add_row(&table, &show->rows[i]);
    table_format(&table, 0, out);
    table_free(&table);
    if (show->seen > show->count)
        strbuf_printf(out, "the last %zu of %zu contexts (--last N shows more)\n", show->count, show->seen);
    return 0;
}

static int run(struct show *show)
{
    struct strbuf out;
    strbuf_init(&out);
    int code = find_chart(show);
    if (code == 0)
        code = choose_chamber(show);
    if (code == 0)
        code = gather_contexts(show);
    if (code == 0)
        code = gather_verdicts(show);
    if (code == 0 && show->json)
        format_json(show, &out);
    else if (code == 0)
        code = format_text(show, &out);
    int exit_code = code ? command_failed(&command, &show->err) : terminal_print(&out);
    strbuf_free(&out);
    return exit_code;
}

int charts_show(int argc, char **argv)
{
    struct show show = {0};
    const char *dir = NULL;
    int64_t last = DEFAULT_LAST;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        OPTION_TOOL(&show.query.tool),
        OPTION_CHAMBER(&show.query.chamber),
        OPTION_RECIPE(&show.query.recipe),
        OPTION_LOT(&show.query.lot),
        {"last", OPTION_INTEGER, &last, "N", "the newest N contexts (default: 50)"},
        {"ascii", OPTION_FLAG, &show.ascii, NULL, "draw with ASCII characters only"},
        OPTION_JSON(&show.json),
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    if (last < 1 || last > LAST_MAX) {
        error_set(&show.err, ERR_INVALID, "--last takes 1 to %d contexts", LAST_MAX);
        command_failed(&command, &show.err);
        return EXIT_USAGE;
    }
    show.name = argv[1];
    show.last = (size_t)last;
    if (session_open(&show.session, dir, SESSION_STORE, &show.err))
        return command_failed(&command, &show.err);
    arena_init(&show.arena, 0);
    stored_charts_init(&show.charts, show.session.store);
    int exit_code = run(&show);
    free(show.rows);
    stored_charts_free(&show.charts);
    arena_free(&show.arena);
    session_close(&show.session);
    return exit_code;
}
