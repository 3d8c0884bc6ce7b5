/* `chamberlain evaluate`: verdicts beside what is known about the runs. */
#include "chart/rules.h"
#include "cli/command.h"
#include "cli/session.h"
#include "view/judged_context.h"
#include "base/json_writer.h"
#include "cli/options.h"
#include "view/stored_charts.h"
#include "cli/table.h"
#include "cli/terminal.h"
#include "view/verdict_text.h"
#include "collector/labels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALARMS_KEPT = 5, MISSING_SHOWN = 10 }; /* of one context: the farthest out */

static const struct command command = {
    .name = "evaluate",
    .operands = "",
    .summary = "Compares the stored verdicts with the labels of a runs.csv: which faults were found and by "
               "which chart,\n"
               "and which normal runs alarmed falsely. Contexts that the chart file was learned from are "
               "counted apart.",
    .examples = "  chamberlain evaluate --dir fab --labels data/lam9600/runs.csv\n"
                "  chamberlain evaluate --dir fab --labels data/lam9600/runs.csv --json",
};

/* One labelled run and what was made of it. */
struct outcome {
    const struct label *label;
    bool fault, normal, learned;
    bool stored, judged, alarmed;
    bool other_set; /* judged by another chart file than the one in force */
    size_t alarm_count;
    struct uchart_point *alarms; /* the farthest out, ALARMS_KEPT at most; texts in the evaluation's arena */
    size_t kept;
};

struct evaluation {
    struct session session;
    struct stored_charts charts;
    struct arena arena;
    struct labels labels;
    struct chart_set *set; /* in force; NULL when none is */
    const char *labels_path;
    bool json;
    const char **learned_ids; /* that the set was learned from, sorted */
    size_t learned_id_count;
    struct outcome *outcomes; /* one for each row of the labels */
    size_t faults, found, normal, false_alarms, learned, learned_alarmed, later, later_alarmed, missing,
        others;
    struct error err;
};

/* --- gathering --- */

static double alarm_weight(const struct uchart_point *point)
{
    double ratio = verdict_ratio(point);
    return isnan(ratio) ? 0 : ratio;
}

static int farthest_first(const void *a, const void *b)
{
    const struct uchart_point *x = a, *y = b;
    double x_weight = alarm_weight(x), y_weight = alarm_weight(y);
    if (x_weight != y_weight)
        return x_weight > y_weight ? -1 : 1;
    return strcmp(x->chart, y->chart);
}

static int keep_alarms(struct evaluation *evaluation, const struct uchart *uchart, struct outcome *outcome)
{
    struct uchart_point *alarms = calloc(outcome->alarm_count, sizeof *alarms);
    outcome->alarms = arena_calloc(&evaluation->arena, ALARMS_KEPT, sizeof *outcome->alarms);
    if (alarms == NULL || outcome->alarms == NULL) {
        free(alarms);
        return error_set(&evaluation->err, ERR_NO_MEMORY, "no memory for the alarms");
    }
    size_t count = 0;
    bool complete = true;
    for (size_t i = 0; i < uchart->count; i++)
        if (uchart->points[i].state == VERDICT_ALARM)
            alarms[count++] = uchart->points[i];
    qsort(alarms, count, sizeof *alarms, farthest_first);
    outcome->kept = count < ALARMS_KEPT ? count : ALARMS_KEPT;
    for (size_t i = 0; i < outcome->kept; i++) {
        struct uchart_point *point = &outcome->alarms[i];
        *point = alarms[i];
        point->chart = arena_strdup(&evaluation->arena, point->chart);
        point->unit = arena_strdup(&evaluation->arena, point->unit);
        point->reason = arena_strdup(&evaluation->arena, point->reason);
        complete &= point->chart && point->unit && point->reason;
    }
    free(alarms);
    return complete ? 0 : error_set(&evaluation->err, ERR_NO_MEMORY, "no memory for the alarms");
}

static int take_judged(struct evaluation *evaluation, const struct judged_context *judged,
                       struct outcome *outcome)
{
    outcome->stored = true;
    outcome->judged = judged->stored != NULL;
    if (!outcome->judged)
        return 0;
    outcome->other_set = evaluation->set && judged->stored->chart_set != chart_set_id(evaluation->set);
    outcome->alarm_count = judged_context_count(judged, VERDICT_ALARM);
    outcome->alarmed = outcome->alarm_count > 0;
    return outcome->alarmed ? keep_alarms(evaluation, &judged->uchart, outcome) : 0;
}

static int look_up(struct evaluation *evaluation, struct outcome *outcome)
{
    struct judged_context judged;
    int code = judged_context_fetch(evaluation->session.store, outcome->label->context_id, &judged,
                                    &evaluation->err);
    if (code == 0)
        code = take_judged(evaluation, &judged, outcome);
    else if (code == ERR_NOT_FOUND)
        code = 0;
    judged_context_free(&judged);
    return code;
}

static int id_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int sort_learned(struct evaluation *evaluation)
{
    size_t count = 0;
    const char *const *ids = evaluation->set ? chart_set_learned(evaluation->set, &count) : NULL;
    evaluation->learned_ids = arena_calloc(&evaluation->arena, count, sizeof *evaluation->learned_ids);
    if (evaluation->learned_ids == NULL)
        return error_set(&evaluation->err, ERR_NO_MEMORY, "no memory for %zu learned contexts", count);
    for (size_t i = 0; i < count; i++)
        evaluation->learned_ids[i] = ids[i];
    evaluation->learned_id_count = count;
    qsort(evaluation->learned_ids, count, sizeof *evaluation->learned_ids, id_order);
    return 0;
}

static bool is_learned(const struct evaluation *evaluation, const char *id)
{
    return bsearch(&id, evaluation->learned_ids, evaluation->learned_id_count,
                   sizeof *evaluation->learned_ids, id_order) != NULL;
}

static void count_outcome(struct evaluation *evaluation, const struct outcome *outcome)
{
    bool alarmed = outcome->alarmed;
    evaluation->missing += !outcome->judged;
    evaluation->others += outcome->other_set;
    evaluation->faults += outcome->fault;
    evaluation->found += outcome->fault && alarmed;
    if (!outcome->normal)
        return;
    evaluation->normal++;
    evaluation->false_alarms += alarmed;
    if (outcome->learned) {
        evaluation->learned++;
        evaluation->learned_alarmed += alarmed;
    } else {
        evaluation->later++;
        evaluation->later_alarmed += alarmed;
    }
}

/* A run labelled neither normal nor fault, but with a fault named, is a fault; one of which nothing is known
 * counts for nothing. */
static void read_label(struct outcome *outcome)
{
    const struct label *label = outcome->label;
    outcome->normal = strcmp(label->label, "normal") == 0;
    outcome->fault = !outcome->normal && (strcmp(label->label, "fault") == 0 || *label->fault);
}

static int gather(struct evaluation *evaluation)
{
    size_t count = evaluation->labels.count;
    struct progress progress;
    evaluation->outcomes = arena_calloc(&evaluation->arena, count, sizeof *evaluation->outcomes);
    if (evaluation->outcomes == NULL)
        return error_set(&evaluation->err, ERR_NO_MEMORY, "no memory for %zu runs", count);
    int code = sort_learned(evaluation);
    bool any = false;
    progress_begin(&progress, "contexts looked up", (int64_t)count);
    for (size_t i = 0; i < count && code == 0; i++) {
        struct outcome *outcome = &evaluation->outcomes[i];
        outcome->label = &evaluation->labels.rows[i];
        read_label(outcome);
        outcome->learned = is_learned(evaluation, outcome->label->context_id);
        code = look_up(evaluation, outcome);
        if (outcome->normal || outcome->fault)
            count_outcome(evaluation, outcome);
        any |= outcome->stored;
        progress_update(&progress, (int64_t)i + 1);
    }
    progress_end(&progress);
    if (code == 0 && !any)
        return error_set(&evaluation->err, ERR_NOT_FOUND,
                         "none of the %zu runs of %s is stored here; `chamberlain import` them first", count,
                         evaluation->labels_path);
    return code;
}

/* --- for programs --- */

static void outcome_json(struct json_writer *json, const struct outcome *outcome)
{
    json_begin_object(json, NULL);
    json_add_text(json, "id", outcome->label->context_id);
    json_add_text(json, "label", outcome->label->label);
    json_add_text(json, "fault", outcome->label->fault);
    json_add_text(json, "lot", outcome->label->lot);
    json_add_bool(json, "learned", outcome->learned);
    json_add_bool(json, "judged", outcome->judged);
    json_add_bool(json, "alarmed", outcome->alarmed);
    json_add_size(json, "alarm_count", outcome->alarm_count);
    json_begin_array(json, "charts");
    for (size_t i = 0; i < outcome->kept; i++) {
        json_begin_object(json, NULL);
        verdict_add_json(json, &outcome->alarms[i]);
        json_add_double(json, "ratio", verdict_ratio(&outcome->alarms[i]));
        json_end_object(json);
    }
    json_end_array(json);
    json_end_object(json);
}

static void add_pair(struct json_writer *json, const char *key, const char *first, size_t first_value,
                     const char *second, size_t second_value)
{
    json_begin_object(json, key);
    json_add_size(json, first, first_value);
    json_add_size(json, second, second_value);
    json_end_object(json);
}

static void format_json(const struct evaluation *evaluation, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    size_t count = evaluation->labels.count;
    json_begin_object(&json, NULL);
    add_pair(&json, "faults", "found", evaluation->found, "total", evaluation->faults);
    add_pair(&json, "false_alarms", "count", evaluation->false_alarms, "normal", evaluation->normal);
    add_pair(&json, "learned", "contexts", evaluation->learned, "alarmed", evaluation->learned_alarmed);
    add_pair(&json, "later_normal", "count", evaluation->later, "alarmed", evaluation->later_alarmed);
    json_add_size(&json, "judged_by_other_charts", evaluation->others);
    json_begin_array(&json, "missing");
    for (size_t i = 0; i < count; i++)
        if (!evaluation->outcomes[i].judged)
            json_add_text(&json, NULL, evaluation->outcomes[i].label->context_id);
    json_end_array(&json);
    json_begin_array(&json, "contexts");
    for (size_t i = 0; i < count; i++)
        outcome_json(&json, &evaluation->outcomes[i]);
    json_end_array(&json);
    json_end_object(&json);
    strbuf_add_char(out, '\n');
}

/* --- for people --- */

static void add_ratio(struct table *table, const struct uchart_point *point)
{
    double ratio = verdict_ratio(point);
    if (isnan(ratio))
        table_add(table, "-");
    else if (isinf(ratio))
        table_add(table, "no width");
    else
        table_addf(table, "%.2f", ratio);
}

static void add_point(struct table *table, const struct outcome *outcome)
{
    const struct uchart_point *point = &outcome->alarms[0];
    struct strbuf rules;
    strbuf_init(&rules);
    verdict_add_rules(point->rules, &rules);
    table_addf(table, "%zu", outcome->alarm_count);
    table_add(table, point->chart);
    table_add_number(table, point->value);
    table_add_number(table, point->lower);
    table_add_number(table, point->upper);
    add_ratio(table, point);
    table_add(table, rules.text);
    strbuf_free(&rules);
}

static const struct table_column fault_columns[] = {
    {"fault", false},          {"lot", false},  {"context", false}, {"found", false}, {"alarms", true},
    {"farthest chart", false}, {"value", true}, {"lower", true},    {"upper", true},  {"of limit", true},
    {"rules", false}};

static const struct table_column false_columns[] = {
    {"context", false}, {"lot", false},  {"learned", false}, {"alarms", true},   {"farthest chart", false},
    {"value", true},    {"lower", true}, {"upper", true},    {"of limit", true}, {"rules", false}};

static int fault_order(const void *a, const void *b)
{
    const struct outcome *x = *(const struct outcome *const *)a, *y = *(const struct outcome *const *)b;
    int order = strcmp(x->label->fault, y->label->fault);
    order = order ? order : strcmp(x->label->lot, y->label->lot);
    return order ? order : x->label->order < y->label->order ? -1 : x->label->order > y->label->order;
}

static int add_faults(const struct evaluation *evaluation, struct strbuf *out)
{
    const struct outcome **sorted = calloc(evaluation->faults + 1, sizeof *sorted);
    if (sorted == NULL)
        return ERR_NO_MEMORY;
    size_t count = 0;
    struct table table;
    table_init(&table, fault_columns, sizeof fault_columns / sizeof *fault_columns);
    for (size_t i = 0; i < evaluation->labels.count; i++)
        if (evaluation->outcomes[i].fault)
            sorted[count++] = &evaluation->outcomes[i];
    qsort(sorted, count, sizeof *sorted, fault_order);
    for (size_t i = 0; i < count; i++) {
        const struct outcome *outcome = sorted[i];
        table_add(&table, *outcome->label->fault ? outcome->label->fault : outcome->label->label);
        table_add(&table, outcome->label->lot);
        table_add(&table, outcome->label->context_id);
        table_add(&table, !outcome->judged ? "not judged" : outcome->alarmed ? "yes" : "NO");
        if (outcome->alarmed)
            add_point(&table, outcome);
        else
            for (size_t k = 4; k < table.column_count; k++)
                table_add(&table, "");
    }
    if (count > 0)
        table_format(&table, 0, out);
    table_free(&table);
    free(sorted);
    return 0;
}

static void add_false_alarms(const struct evaluation *evaluation, struct strbuf *out)
{
    if (evaluation->false_alarms == 0)
        return;
    struct table table;
    table_init(&table, false_columns, sizeof false_columns / sizeof *false_columns);
    for (size_t i = 0; i < evaluation->labels.count; i++) {
        const struct outcome *outcome = &evaluation->outcomes[i];
        if (!outcome->normal || !outcome->alarmed)
            continue;
        table_add(&table, outcome->label->context_id);
        table_add(&table, outcome->label->lot);
        table_add(&table, outcome->learned ? "yes" : "");
        add_point(&table, outcome);
    }
    strbuf_add(out, "\nfalse alarms\n");
    table_format(&table, 0, out);
    table_free(&table);
}

static void add_missing(const struct evaluation *evaluation, struct strbuf *out)
{
    size_t shown = 0;
    for (size_t i = 0; i < evaluation->labels.count; i++) {
        if (evaluation->outcomes[i].judged)
            continue;
        if (shown == 0)
            strbuf_add(out, "not judged:");
        if (shown++ < MISSING_SHOWN)
            strbuf_printf(out, " %s", evaluation->outcomes[i].label->context_id);
    }
    if (shown > MISSING_SHOWN)
        strbuf_printf(out, " and %zu more", shown - MISSING_SHOWN);
    if (shown > 0)
        strbuf_add(out, " (were they imported? see `chamberlain status`)\n");
}

static void add_totals(const struct evaluation *evaluation, struct strbuf *out)
{
    strbuf_printf(out, "\nfaults found %zu of %zu; false alarms ", evaluation->found, evaluation->faults);
    if (evaluation->learned > 0)
        strbuf_printf(out, "%zu of %zu later normal runs (%zu of the %zu learned from)\n",
                      evaluation->later_alarmed, evaluation->later, evaluation->learned_alarmed,
                      evaluation->learned);
    else
        strbuf_printf(out, "%zu of %zu normal runs\n", evaluation->false_alarms, evaluation->normal);
    add_missing(evaluation, out);
    if (evaluation->set == NULL)
        strbuf_add(out,
                   "no chart file is in force: nothing can alarm (see `chamberlain charts learn --help`)\n");
    if (evaluation->others > 0)
        strbuf_printf(
            out,
            "%zu contexts were judged by another chart file than the one in force; `chamberlain replay` "
            "judges them again\n",
            evaluation->others);
}

static int format_text(struct evaluation *evaluation, struct strbuf *out)
{
    if (add_faults(evaluation, out))
        return error_set(&evaluation->err, ERR_NO_MEMORY, "no memory for the table");
    add_false_alarms(evaluation, out);
    add_totals(evaluation, out);
    return 0;
}

/* --- the whole --- */

static int load(struct evaluation *evaluation)
{
    struct import_summary summary = {0};
    int code = labels_load(evaluation->labels_path, NULL, &summary, &evaluation->labels, &evaluation->err);
    if (code)
        return code;
    code = stored_charts_current(&evaluation->charts, &evaluation->set, &evaluation->err);
    return code == ERR_NOT_FOUND ? 0 : code;
}

static int run(struct evaluation *evaluation)
{
    struct strbuf out;
    strbuf_init(&out);
    int code = load(evaluation);
    if (code == 0)
        code = gather(evaluation);
    if (code == 0 && evaluation->json)
        format_json(evaluation, &out);
    else if (code == 0)
        code = format_text(evaluation, &out);
    int exit_code = code ? command_failed(&command, &evaluation->err) : terminal_print(&out);
    strbuf_free(&out);
    return exit_code;
}

int cli_evaluate(int argc, char **argv)
{
    struct evaluation evaluation = {0};
    const char *dir = NULL;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        {"labels", OPTION_TEXT, &evaluation.labels_path, "FILE",
         "a runs.csv with the columns label and fault (required)"},
        OPTION_JSON(&evaluation.json),
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    if (evaluation.labels_path == NULL) {
        fprintf(stderr, "chamberlain evaluate: needs --labels FILE; see `chamberlain evaluate --help`\n");
        return EXIT_USAGE;
    }
    if (session_open(&evaluation.session, dir, SESSION_STORE, &evaluation.err))
        return command_failed(&command, &evaluation.err);
    arena_init(&evaluation.arena, 0);
    stored_charts_init(&evaluation.charts, evaluation.session.store);
    int exit_code = run(&evaluation);
    stored_charts_free(&evaluation.charts);
    labels_free(&evaluation.labels);
    arena_free(&evaluation.arena);
    session_close(&evaluation.session);
    return exit_code;
}
