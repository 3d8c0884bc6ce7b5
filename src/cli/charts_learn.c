/* `chamberlain charts learn`: a chart file proposed from stored contexts that are known to be normal. */
#include "cli/chart_file.h"
#include "cli/charts.h"
#include "cli/command.h"
#include "base/json_writer.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "view/trace_reader.h"

#include "chart/learn.h"
#include "collector/labels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

enum { LEFT_OUT_SHOWN = 10, PATH_BYTES = 4096 };

static const struct command command = {
    .name = "charts learn",
    .operands = "",
    .summary =
        "Proposes a chart file from stored contexts that are taken to be normal: the useful statistics of "
        "every\n"
        "sensor in every step, with limits such that all charts together raise false alarms on a stated "
        "fraction\n"
        "of the contexts. Nothing is in force before `chamberlain charts use`.\n"
        "--runs names a runs.csv with labels; without it, every stored context that matches is learned from.",
    .examples =
        "  chamberlain charts learn --dir fab --runs runs.csv --only normal --limit 20 --per lot --out "
        "charts.yaml\n"
        "  chamberlain charts learn --dir fab --recipe ETCH_AL --limit 100 --per chamber --out etch.yaml\n"
        "  chamberlain charts use charts.yaml --dir fab",
};

/* How many contexts were taken of one group. */
struct group {
    const char *name;
    size_t taken;
    UT_hash_handle hh;
};

/* One context to learn from. */
struct choice {
    const char *tool, *chamber, *id, *announcement;
};

struct lesson {
    struct session session;
    struct arena arena; /* choices and groups */
    struct store_list_query query;
    const char *runs_path, *only, *per, *out, *statistics;
    int64_t limit; /* of each group; 0: all */
    double false_alarms;
    bool json;
    struct labels labels; /* of --runs */
    struct choice *choices;
    size_t count, capacity;
    struct group *groups;
    size_t stored_labels; /* rows of the runs.csv that are stored */
    size_t expired, damaged, unnamed;
    struct learn *learn;
    struct learn_result result;
    struct strbuf yaml;
    char old_path[PATH_BYTES]; /* where a file of that name went; "" when there was none */
    struct error err;
};

/* --- choosing contexts --- */

static const char *label_value(const struct lesson *lesson, const char *id)
{
    const struct label *label = labels_find(&lesson->labels, id);
    return label ? label->label : NULL;
}

/* The group a context belongs to: what the runs.csv says, else the context itself. NULL: it has no such
 * attribute. */
static const char *group_value(struct lesson *lesson, const struct context *context)
{
    const struct runs *runs = &lesson->labels.runs;
    const struct runs_row *row = lesson->runs_path ? runs_find(runs, context->id) : NULL;
    int field = runs_field(lesson->per);
    if (row && field >= 0 && runs->present[field])
        return row->field[field];
    for (size_t i = 0; row && i < runs->extra_count; i++)
        if (strcmp(runs->extra_names[i], lesson->per) == 0)
            return row->extra[i];
    return context_attribute(context, lesson->per, &lesson->arena);
}

static struct group *find_group(struct lesson *lesson, const char *name)
{
    struct group *group;
    HASH_FIND_STR(lesson->groups, name, group);
    if (group)
        return group;
    group = arena_calloc(&lesson->arena, 1, sizeof *group);
    char *copy = arena_strdup(&lesson->arena, name);
    if (group == NULL || copy == NULL)
        return NULL;
    group->name = copy;
    HASH_ADD_KEYPTR(hh, lesson->groups, group->name, strlen(group->name), group);
    return group;
}

static int grow_choices(struct lesson *lesson)
{
    if (lesson->count < lesson->capacity)
        return 0;
    size_t capacity = lesson->capacity ? lesson->capacity * 2 : 256;
    struct choice *choices = realloc(lesson->choices, capacity * sizeof *choices);
    if (choices == NULL)
        return error_set(&lesson->err, ERR_NO_MEMORY, "no memory for %zu contexts", capacity);
    lesson->choices = choices;
    lesson->capacity = capacity;
    return 0;
}

static int choose(struct lesson *lesson, const struct store_completion *completion)
{
    struct choice choice = {.tool = arena_strdup(&lesson->arena, completion->key.tool),
                            .chamber = arena_strdup(&lesson->arena, completion->key.chamber),
                            .id = arena_strdup(&lesson->arena, completion->key.context_id),
                            .announcement = arena_strdup(&lesson->arena, completion->announcement)};
    if (!choice.tool || !choice.chamber || !choice.id || !choice.announcement)
        return error_set(&lesson->err, ERR_NO_MEMORY, "no memory for the chosen contexts");
    int code = grow_choices(lesson);
    if (code == 0)
        lesson->choices[lesson->count++] = choice;
    return code;
}

/* Called in event order: the first of each group are the earliest. */
static int visit(void *arg, const struct store_completion *completion)
{
    struct lesson *lesson = arg;
    if (completion->announcement == NULL || *completion->announcement == '\0')
        return 0;
    const char *label = lesson->runs_path ? label_value(lesson, completion->key.context_id) : NULL;
    lesson->stored_labels += label != NULL;
    if (lesson->runs_path && (label == NULL || (lesson->only && strcmp(label, lesson->only) != 0)))
        return 0;
    struct context context;
    if (context_parse(completion->announcement, strlen(completion->announcement), &lesson->arena, &context,
                      NULL)) {
        lesson->damaged++;
        return 0;
    }
    const char *name = lesson->per ? group_value(lesson, &context) : "";
    struct group *group = find_group(lesson, name ? name : "");
    if (group == NULL)
        return error_set(&lesson->err, ERR_NO_MEMORY, "no memory for the groups");
    if (lesson->limit > 0 && group->taken >= (size_t)lesson->limit)
        return 0;
    group->taken++;
    return choose(lesson, completion);
}

static int load_labels(struct lesson *lesson)
{
    struct import_summary summary = {0};
    if (lesson->runs_path == NULL && lesson->only)
        return error_set(&lesson->err, ERR_INVALID, "--only '%s' needs --runs with the labels", lesson->only);
    if (lesson->runs_path == NULL)
        return 0;
    return labels_load(lesson->runs_path, NULL, &summary, &lesson->labels, &lesson->err);
}

static int choose_all(struct lesson *lesson)
{
    int code = load_labels(lesson);
    if (code == 0)
        code = session_each_context(&lesson->session, &lesson->query, visit, lesson, &lesson->err);
    if (code || lesson->count > 0)
        return code;
    if (lesson->runs_path && lesson->stored_labels == 0)
        return error_set(&lesson->err, ERR_NOT_FOUND,
                         "none of the %zu runs of %s is stored here; `chamberlain import` them first",
                         lesson->labels.count, lesson->runs_path);
    if (lesson->runs_path && lesson->only)
        return error_set(&lesson->err, ERR_NOT_FOUND, "no stored run of %s is labelled '%s'",
                         lesson->runs_path, lesson->only);
    return error_set(&lesson->err, ERR_NOT_FOUND,
                     "no stored context matches; `chamberlain import` some first");
}

/* --- learning --- */

static int parse_statistics(const struct lesson *lesson, uint32_t *bits, struct error *err)
{
    if (lesson->statistics == NULL)
        return 0;
    *bits = 0;
    for (const char *word = lesson->statistics; *word;) {
        size_t length = strcspn(word, ",");
        int found = -1;
        for (int i = 0; i < STATISTIC_KINDS && found < 0; i++)
            if (strlen(statistic_name((enum statistic)i)) == length &&
                strncmp(statistic_name((enum statistic)i), word, length) == 0)
                found = i;
        if (found < 0)
            return error_set(err, ERR_INVALID,
                             "--statistics: there is no statistic '%.*s'; docs/charts.md lists them",
                             (int)length, word);
        *bits |= 1u << found;
        word += length + (word[length] == ',');
    }
    return 0;
}

/* Labels are not part of a context: no chart can tell groups apart by them. */
static bool contexts_have(const char *attribute)
{
    int field = attribute ? runs_field(attribute) : RUNS_LABEL;
    return field != RUNS_LABEL && field != RUNS_FAULT && field != RUNS_CONTEXT_ID && field != RUNS_STARTED_AT;
}

static int begin_learning(struct lesson *lesson)
{
    struct learn_options options;
    learn_options_default(&options);
    options.false_alarms = lesson->false_alarms;
    options.group = contexts_have(lesson->per) ? lesson->per : NULL;
    int code = parse_statistics(lesson, &options.statistics, &lesson->err);
    return code ? code : learn_create(&options, &lesson->learn, &lesson->err);
}

/* One context's T-chart into the lesson. One that has expired or cannot be read is counted and left out. */
static int take(struct lesson *lesson, const struct choice *choice, struct arena *arena)
{
    struct session *session = &lesson->session;
    struct store_key key = {choice->tool, choice->chamber, choice->id};
    store_fetch_tchart(session->store, &key, store_wait_done, session->wait);
    struct store_reply *reply = session_reply(session);
    struct context context;
    struct trace trace;
    const char *const *names;
    size_t unnamed = 0;
    int code = reply->code;
    if (code == ERR_NOT_FOUND) {
        lesson->expired++;
        code = 0;
    } else if (code) {
        lesson->err = reply->error;
    } else if (context_parse(choice->announcement, strlen(choice->announcement), arena, &context, NULL) ||
               trace_read(reply->chunks, reply->chunk_count, arena, &trace, &names, &unnamed, &lesson->err)) {
        lesson->damaged++;
    } else {
        trace.start_us = context.start_us;
        trace.end_us = context.end_us;
        code = learn_add(lesson->learn, &context, &trace, names, &lesson->err);
        if (code == ERR_INVALID) { /* this context's fault, not the lesson's */
            lesson->damaged++;
            code = 0;
        }
    }
    lesson->unnamed += unnamed > 0;
    store_reply_free(reply);
    return code;
}

static int take_all(struct lesson *lesson)
{
    struct progress progress;
    struct arena arena;
    int code = 0;
    arena_init(&arena, 1 << 20);
    progress_begin(&progress, "contexts learned from", (int64_t)lesson->count);
    for (size_t i = 0; i < lesson->count && code == 0; i++) {
        arena_reset(&arena);
        code = take(lesson, &lesson->choices[i], &arena);
        progress_update(&progress, (int64_t)i + 1);
    }
    progress_end(&progress);
    arena_free(&arena);
    if (code == 0 && lesson->expired == lesson->count)
        return error_set(
            &lesson->err, ERR_NOT_FOUND,
            "the traces of all %zu chosen contexts have expired (a T-chart is kept for 3 days); import "
            "them again into a new cluster, or choose newer ones",
            lesson->count);
    return code;
}

/* --- writing --- */

static bool file_has(const char *path, const struct strbuf *text, bool *exists)
{
    struct strbuf old;
    strbuf_init(&old);
    int code = chart_file_read(path, &old, NULL);
    *exists = code != ERR_NOT_FOUND;
    bool same = code == 0 && old.length == text->length && memcmp(old.text, text->text, old.length) == 0;
    strbuf_free(&old);
    return same;
}

static int write_new(const char *path, const struct strbuf *text, struct error *err)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        return error_set(err, ERR_IO, "cannot write %s: %s", path, strerror(errno));
    bool written = fwrite(text->text, 1, text->length, file) == text->length;
    bool closed = fclose(file) == 0;
    return written && closed ? 0 : error_set(err, ERR_IO, "cannot write %s: %s", path, strerror(errno));
}

/* A file of that name may hold an engineer's changes: it is kept beside the new one. */
static int write_file(struct lesson *lesson)
{
    bool exists;
    if (file_has(lesson->out, &lesson->yaml, &exists))
        return 0;
    if (exists) {
        snprintf(lesson->old_path, sizeof lesson->old_path, "%s.old", lesson->out);
        if (rename(lesson->out, lesson->old_path))
            return error_set(&lesson->err, ERR_IO, "cannot keep the old %s as %s: %s", lesson->out,
                             lesson->old_path, strerror(errno));
    }
    return write_new(lesson->out, &lesson->yaml, &lesson->err);
}

static int write_charts(struct lesson *lesson)
{
    int code = learn_write(lesson->learn, &lesson->yaml, &lesson->result, &lesson->err);
    if (code)
        return code;
    if (lesson->out && strcmp(lesson->out, "-") != 0)
        return write_file(lesson);
    if (!lesson->json && fwrite(lesson->yaml.text, 1, lesson->yaml.length, stdout) != lesson->yaml.length)
        return error_set(&lesson->err, ERR_IO, "cannot write the output: %s", strerror(errno));
    return 0;
}

/* --- the summary --- */

static void format_json(const struct lesson *lesson, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    json_add_text(&json, "file", lesson->out);
    json_add_size(&json, "contexts", lesson->result.contexts);
    json_begin_object(&json, "groups");
    for (const struct group *group = lesson->groups; group; group = group->hh.next)
        json_add_size(&json, group->name, group->taken);
    json_end_object(&json);
    json_add_size(&json, "recipes", lesson->result.recipes);
    json_add_size(&json, "charts", lesson->result.charts);
    json_add_size(&json, "left_out", lesson->result.left_out);
    json_add_size(&json, "expired", lesson->expired);
    json_add_size(&json, "damaged", lesson->damaged);
    json_add_double(&json, "false_alarms", lesson->false_alarms);
    if (lesson->out == NULL || strcmp(lesson->out, "-") == 0)
        json_add_text(&json, "yaml", lesson->yaml.text);
    json_end_object(&json);
    strbuf_add_char(out, '\n');
}

/* The file's header says what was left out and why; its first lines are shown. */
static void add_left_out(const struct lesson *lesson, struct strbuf *out)
{
    static const char mark[] = "#   left out: ";
    size_t shown = 0;
    for (const char *line = lesson->yaml.text; line && *line == '#';
         line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, mark, strlen(mark)) != 0)
            continue;
        if (shown++ < LEFT_OUT_SHOWN)
            strbuf_printf(out, "  left out: %.*s\n", (int)(strcspn(line, "\n") - strlen(mark)),
                          line + strlen(mark));
    }
    if (shown > LEFT_OUT_SHOWN)
        strbuf_printf(out, "  (%zu more lines of this in the file)\n", shown - LEFT_OUT_SHOWN);
}

static void add_groups(const struct lesson *lesson, struct strbuf *out)
{
    size_t shown = 0;
    if (lesson->per == NULL)
        return;
    for (const struct group *group = lesson->groups; group; group = group->hh.next)
        if (shown++ < LEFT_OUT_SHOWN)
            strbuf_printf(out, "  %s %s: %zu contexts\n", lesson->per, *group->name ? group->name : "(none)",
                          group->taken);
    if (shown > LEFT_OUT_SHOWN)
        strbuf_printf(out, "  and %zu more of %s\n", shown - LEFT_OUT_SHOWN, lesson->per);
}

static void format_text(const struct lesson *lesson, struct strbuf *out)
{
    bool file = lesson->out && strcmp(lesson->out, "-") != 0;
    strbuf_printf(out, "learned %zu charts from %zu contexts%s%s\n", lesson->result.charts,
                  lesson->result.contexts, file ? ", written to " : "", file ? lesson->out : "");
    add_groups(lesson, out);
    strbuf_printf(out, "  false alarms: %g %% of the contexts of a recipe, over all its charts together\n",
                  lesson->false_alarms * 100);
    add_left_out(lesson, out);
    if (lesson->expired > 0)
        strbuf_printf(out, "  %zu contexts were left out: their traces have expired\n", lesson->expired);
    if (lesson->damaged > 0)
        strbuf_printf(out, "  %zu contexts were left out: they cannot be read\n", lesson->damaged);
    if (lesson->unnamed > 0)
        strbuf_printf(out, "  %zu contexts have sensors without names, which no chart can read\n",
                      lesson->unnamed);
    if (*lesson->old_path)
        strbuf_printf(out, "  the file that was there before is now %s\n", lesson->old_path);
    if (file)
        strbuf_printf(out, "next: read it, then `chamberlain charts use %s%s%s`\n", lesson->out,
                      *lesson->session.dir ? " --dir " : "", lesson->session.dir);
}

static int run(struct lesson *lesson)
{
    int code = choose_all(lesson);
    if (code == 0)
        code = begin_learning(lesson);
    if (code == 0)
        code = take_all(lesson);
    if (code == 0)
        code = write_charts(lesson);
    if (code)
        return command_failed(&command, &lesson->err);
    struct strbuf out;
    strbuf_init(&out);
    int exit_code = 0;
    if (lesson->json) {
        format_json(lesson, &out);
        exit_code = terminal_print(&out);
    } else {
        format_text(lesson, &out);
        bool to_stdout = lesson->out && strcmp(lesson->out, "-") != 0; /* else the charts are there */
        fputs(out.text, to_stdout ? stdout : stderr);
    }
    strbuf_free(&out);
    return exit_code;
}

int charts_learn(int argc, char **argv)
{
    struct lesson lesson = {.false_alarms = LEARN_FALSE_ALARMS};
    const char *dir = NULL;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        {"runs", OPTION_TEXT, &lesson.runs_path, "FILE",
         "a runs.csv: only runs in it, with what it says of them"},
        {"only", OPTION_TEXT, &lesson.only, "LABEL", "only runs with this label (\"normal\")"},
        {"limit", OPTION_INTEGER, &lesson.limit, "N",
         "the first N of each group, by the end of the run (default: all)"},
        {"per", OPTION_TEXT, &lesson.per, "ATTR",
         "what makes a group: lot, tool, recipe, or any other attribute;\n"
         "                               each group gets deviations of its own"},
        {"out", OPTION_TEXT, &lesson.out, "FILE", "where to write (default: standard output)"},
        {"false-alarms", OPTION_FRACTION, &lesson.false_alarms, "F",
         "contexts that may alarm falsely (default: 1%)"},
        {"statistics", OPTION_TEXT, &lesson.statistics, "LIST", "which to chart (default: mean,std,count)"},
        OPTION_TOOL(&lesson.query.tool),
        OPTION_CHAMBER(&lesson.query.chamber),
        OPTION_RECIPE(&lesson.query.recipe),
        OPTION_LOT(&lesson.query.lot),
        OPTION_JSON(&lesson.json),
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    if (session_open(&lesson.session, dir, SESSION_STORE, &lesson.err))
        return command_failed(&command, &lesson.err);
    arena_init(&lesson.arena, 0);
    strbuf_init(&lesson.yaml);
    int exit_code = run(&lesson);
    learn_free(lesson.learn);
    strbuf_free(&lesson.yaml);
    labels_free(&lesson.labels);
    HASH_CLEAR(hh, lesson.groups);
    free(lesson.choices);
    arena_free(&lesson.arena);
    session_close(&lesson.session);
    return exit_code;
}
