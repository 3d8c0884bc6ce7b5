/* Charts and their series: one indicator of one chamber over contexts. */
#include "base/clock.h"
#include "base/json_writer.h"
#include "chart/context.h"
#include "chart/glob.h"
#include "view/verdict_text.h"
#include "web/api.h"
#include "web/query.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- charts --- */

/* Each sensor that the equation names, once. */
static void add_sensors(struct json_writer *json, const struct equation *equation)
{
    json_begin_array(json, "sensors");
    for (size_t i = 0; i < equation->term_count; i++) {
        const struct equation_sensor *sensors[] = {&equation->terms[i].sensor, &equation->terms[i].other};
        for (size_t s = 0; s < 2; s++) {
            bool known = sensors[s]->name == NULL;
            for (size_t k = 0; k < i && !known; k++)
                known = equation->terms[k].sensor.id == sensors[s]->id ||
                        (equation->terms[k].other.name && equation->terms[k].other.id == sensors[s]->id);
            known |= s == 1 && sensors[s]->name && sensors[0]->id == sensors[1]->id;
            if (!known)
                json_add_text(json, NULL, sensors[s]->name);
        }
    }
    json_end_array(json);
}

static void add_chart(struct json_writer *json, const struct chart *chart)
{
    struct strbuf words;
    strbuf_init(&words);
    json_begin_object(json, NULL);
    json_add_text(json, "name", chart->name);
    json_add_text(json, "recipe", chart->recipe);
    json_add_text(json, "equation", chart->equation.text);
    add_sensors(json, &chart->equation);
    json_add_text(json, "unit", chart->unit);
    json_add_text(json, "severity", severity_name(chart->severity));
    verdict_add_limits(&chart->limits, &words);
    json_add_text(json, "limits", words.text);
    strbuf_clear(&words);
    verdict_add_chart_rules(chart, &words);
    json_add_text(json, "rules", words.text);
    json_add_text(json, "notes", chart->notes);
    json_end_object(json);
    json->out->failed |= words.failed;
    strbuf_free(&words);
}

void api_list_charts(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"recipe", NULL};
    struct api *api = arg;
    struct chart_set *set = NULL;
    struct error err;
    struct query query = query_open(request, response, allowed, NULL);
    const char *recipe = query_name(&query, "recipe", false);
    if (query.failed)
        return;
    int code = stored_charts_current(api->charts, &set, &err);
    if (code && code != ERR_NOT_FOUND) {
        query_fail(response, &err);
        return;
    }
    struct json_writer json = api_json(response);
    json_begin_object(&json, NULL);
    if (set)
        json_add_id(&json, "chart_set", chart_set_id(set));
    else
        json_add_raw(&json, "chart_set", "null");
    json_begin_array(&json, "charts");
    for (size_t i = 0; set && i < chart_set_count(set); i++)
        if (recipe == NULL || glob_match(chart_set_at(set, i)->recipe, recipe))
            add_chart(&json, chart_set_at(set, i));
    json_end_array(&json);
    json_end_object(&json);
}

/* --- a series --- */

struct series {
    struct api *api;
    struct http_response *response;
    struct store_wait *wait;
    struct store_key chamber;
    const char *recipe, *chart;
    char *own_recipe; /* where it was not given */
    struct store_reply *history;
    struct json_writer json;
    struct arena arena;
    bool met; /* a context that the chart judged */
};

/* The recipe, if there is only one to be meant. */
static bool choose_recipe(struct series *series)
{
    if (series->recipe)
        return true;
    store_list_heads(series->api->store, &series->chamber, 1, store_wait_done, series->wait);
    struct store_reply *heads = store_wait_reply(series->wait);
    bool well = !api_reply_failed(heads, series->response);
    if (well && heads->uchart_count == 1)
        series->recipe = series->own_recipe = strdup(heads->ucharts[0].recipe);
    else if (well && heads->uchart_count == 0)
        http_problem(series->response, 404, "nothing was judged in chamber '%.200s' of tool '%.200s'",
                     series->chamber.chamber, series->chamber.tool);
    else if (well)
        http_problem(series->response, 400, "the chamber has run %zu recipes; say which with 'recipe'",
                     heads->uchart_count);
    store_reply_free(heads);
    return series->recipe != NULL;
}

static void add_point(struct series *series, const struct store_uchart *row, const struct uchart_point *point,
                      const struct context *context)
{
    struct json_writer *json = &series->json;
    json_begin_object(json, NULL);
    json_add_text(json, "context_id", row->key.context_id);
    json_add_text(json, "lot", context->lot);
    json_add_text(json, "wafer", context->wafer);
    json_add_time(json, "ended_at", row->end_us);
    verdict_add_json(json, point);
    json_end_object(json);
}

/* The contexts of the rows, in their order: pages of the store's list, read along with the rows. */
struct companion {
    struct series *series;
    struct store_list_query query;
    struct store_reply *page;
    size_t next;
    bool ended;
    char after[QUERY_NAME_MAX * 4 + 1];
};

static const struct store_completion *companion_peek(struct companion *companion)
{
    while (!companion->ended &&
           (companion->page == NULL || companion->next == companion->page->completion_count)) {
        struct store_reply *old = companion->page;
        if (old && (!old->more || old->completion_count == 0)) {
            companion->ended = true;
            break;
        }
        if (old) {
            const struct store_completion *last = &old->completions[old->completion_count - 1];
            strncpy(companion->after, last->key.context_id, sizeof companion->after - 1);
            companion->query.after_context_id = companion->after;
            companion->query.after_end_us = last->end_us;
        }
        store_reply_free(old);
        store_list_contexts(companion->series->api->store, &companion->query, store_wait_done,
                            companion->series->wait);
        companion->page = store_wait_reply(companion->series->wait);
        companion->next = 0;
        companion->ended = companion->page->code != 0; /* lot and wafer are worth no failure */
    }
    return companion->ended ? NULL : &companion->page->completions[companion->next];
}

/* The context of a row; without one (it was judged and never stored) only what the row says. */
static struct context companion_find(struct companion *companion, const struct store_uchart *row,
                                     struct arena *arena)
{
    struct context context;
    const struct store_completion *completion;
    while ((completion = companion_peek(companion)) != NULL) {
        int order = context_compare_event(completion->end_us, completion->key.context_id, row->end_us,
                                          row->key.context_id);
        if (order > 0)
            break;
        companion->next++;
        if (order == 0 && completion->announcement &&
            context_parse(completion->announcement, strlen(completion->announcement), arena, &context,
                          NULL) == 0)
            return context;
    }
    return (struct context){.lot = "", .wafer = ""};
}

/* Oldest first: the store gives the newest first. */
static bool add_points(struct series *series)
{
    const struct store_reply *history = series->history;
    if (history->uchart_count == 0)
        return true;
    struct companion companion = {.series = series,
                                  .query = {.tool = series->chamber.tool,
                                            .chamber = series->chamber.chamber,
                                            .recipe = series->recipe,
                                            .from_end_us = history->ucharts[history->uchart_count - 1].end_us,
                                            .to_end_us = history->ucharts[0].end_us + 1,
                                            .limit = API_SCAN_PAGE}};
    bool well = true;
    for (size_t i = history->uchart_count; well && i > 0; i--) {
        const struct store_uchart *row = &history->ucharts[i - 1];
        struct uchart uchart;
        struct error err;
        arena_reset(&series->arena);
        well = verdict_decode(row, &series->arena, &uchart, &err) == 0;
        if (!well) {
            query_fail(series->response, &err);
            break;
        }
        const struct uchart_point *point = verdict_find(&uchart, series->chart);
        if (point == NULL)
            continue;
        struct context context = companion_find(&companion, row, &series->arena);
        series->met = true;
        add_point(series, row, point, &context);
    }
    store_reply_free(companion.page);
    return well;
}

/* The chart's unit, from the file in force; "" for a chart that is no longer in it. */
static const char *unit_of(struct series *series, bool *known)
{
    struct chart_set *set = NULL;
    const struct chart *chart = NULL;
    if (stored_charts_current(series->api->charts, &set, NULL) == 0)
        chart = chart_set_find(set, series->chart);
    *known = chart != NULL;
    return chart ? chart->unit : "";
}

static void write_series(struct series *series, size_t limit)
{
    const struct store_reply *history = series->history;
    struct strbuf cursor;
    bool known;
    series->json = api_json(series->response);
    struct json_writer *json = &series->json;
    json_begin_object(json, NULL);
    json_add_text(json, "tool_id", series->chamber.tool);
    json_add_text(json, "chamber_id", series->chamber.chamber);
    json_add_text(json, "recipe", series->recipe);
    json_add_text(json, "chart", series->chart);
    json_add_text(json, "unit", unit_of(series, &known));
    json_begin_array(json, "points");
    if (!add_points(series))
        return;
    json_end_array(json);
    strbuf_init(&cursor);
    if (history->uchart_count == limit) {
        const struct store_uchart *oldest = &history->ucharts[history->uchart_count - 1];
        strbuf_printf(&cursor, "%" PRId64 "~%s", oldest->end_us, oldest->key.context_id);
    }
    json_add_text(json, "next", cursor.length ? cursor.text : NULL);
    strbuf_free(&cursor);
    json_end_object(json);
    if (!series->met && !known)
        http_problem(series->response, 404, "no chart '%.200s' is in force, and none judged these contexts",
                     series->chart);
}

void api_get_series(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"tool", "chamber", "recipe", "chart", "limit", "cursor", NULL};
    struct query query = query_open(request, response, allowed, NULL);
    struct series series = {.api = arg,
                            .response = response,
                            .chamber = {.tool = query_name(&query, "tool", true),
                                        .chamber = query_name(&query, "chamber", true),
                                        .context_id = ""},
                            .recipe = query_name(&query, "recipe", false),
                            .chart = query_name(&query, "chart", true)};
    struct store_history_query history = {.tool = series.chamber.tool,
                                          .chamber = series.chamber.chamber,
                                          .end_us = INT64_MAX,
                                          .context_id = "",
                                          .verdicts = true,
                                          .limit = (size_t)query_integer(&query, "limit", 1, 1000, 100)};
    query_cursor(&query, &history.end_us, &history.context_id);
    series.wait = query.failed ? NULL : api_wait(response);
    if (series.wait == NULL)
        return;
    arena_init(&series.arena, 0);
    if (choose_recipe(&series)) {
        history.recipe = series.recipe;
        store_fetch_history(series.api->store, &history, store_wait_done, series.wait);
        series.history = store_wait_reply(series.wait);
        if (!api_reply_failed(series.history, response))
            write_series(&series, history.limit);
        store_reply_free(series.history);
    }
    free(series.own_recipe);
    arena_free(&series.arena);
    store_wait_free(series.wait);
}
