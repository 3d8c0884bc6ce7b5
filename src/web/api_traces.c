/* T-charts: the trace of one context, thinned out for drawing, and where a chart's windows lie in it. */
#include "base/hash.h"
#include "base/json_writer.h"
#include "chart/window.h"
#include "view/judged_context.h"
#include "view/trace_reader.h"
#include "web/api.h"
#include "web/query.h"
#include "web/thin.h"

#include <stdlib.h>
#include <string.h>

enum { SVIDS_MAX = 32, SENSORS_MAX = SVIDS_MAX + 2 * EQUATION_MAX_TERMS + 1 };

struct tracing {
    struct api *api;
    struct http_response *response;
    struct store_wait *wait;
    struct judged_context judged;
    struct store_reply *tchart;
    const char
        *names[SENSORS_MAX]; /* asked for: first by svid, then by the chart; the step column is the last */
    size_t shown;            /* of them those that are to be given */
    size_t count;
    const struct chart *chart; /* NULL: none was asked for */
    size_t pixels;             /* 0: every sample */
    struct trace trace;
    struct window_steps steps;
    bool has_steps;
    struct json_writer json;
};

static void ask_for(struct tracing *tracing, const char *name)
{
    for (size_t i = 0; i < tracing->count; i++)
        if (strcmp(tracing->names[i], name) == 0)
            return;
    tracing->names[tracing->count++] = name;
}

/* The chart as it judged the context; one that did not (no verdict yet, or another file) as it is in force.
 */
static bool find_chart(struct tracing *tracing, const char *name)
{
    struct chart_set *set = NULL;
    struct error err;
    const struct store_uchart *stored = tracing->judged.stored;
    if (stored && stored->chart_set &&
        stored_charts_get(tracing->api->charts, stored->chart_set, &set, &err) == 0)
        tracing->chart = chart_set_find(set, name);
    if (tracing->chart == NULL && stored_charts_current(tracing->api->charts, &set, &err) == 0)
        tracing->chart = chart_set_find(set, name);
    if (tracing->chart == NULL)
        http_problem(tracing->response, 404, "no chart '%.200s' judged this context, and none is in force",
                     name);
    return tracing->chart != NULL;
}

static void ask_for_chart(struct tracing *tracing)
{
    for (size_t i = 0; i < tracing->chart->equation.term_count; i++) {
        const struct equation_term *term = &tracing->chart->equation.terms[i];
        ask_for(tracing, term->sensor.name);
        if (term->other.name)
            ask_for(tracing, term->other.name);
    }
}

/* --- decoding --- */

static bool fetch(struct tracing *tracing, const char *id)
{
    struct error err;
    if (judged_context_fetch(tracing->api->store, id, &tracing->judged, &err)) {
        if (err.code == ERR_NOT_FOUND)
            http_problem(tracing->response, 404, "no context '%.400s' is stored", id);
        else
            query_fail(tracing->response, &err);
        return false;
    }
    store_fetch_tchart(tracing->api->store, &tracing->judged.completion->key, store_wait_done, tracing->wait);
    tracing->tchart = store_wait_reply(tracing->wait);
    return !api_reply_failed(tracing->tchart, tracing->response);
}

static bool decode(struct tracing *tracing)
{
    struct error err;
    struct arena *arena = &tracing->judged.arena;
    const struct store_reply *tchart = tracing->tchart;
    ask_for(tracing, TRACE_STEP_NAME);
    int code = trace_read_sensors(tchart->chunks, tchart->chunk_count, tracing->names, tracing->count, arena,
                                  &tracing->trace, &err);
    tracing->trace.start_us = tracing->judged.context.start_us;
    tracing->trace.end_us = tracing->judged.context.end_us;
    const struct trace_column *step = code ? NULL : trace_find(&tracing->trace, hash64_text(TRACE_STEP_NAME));
    if (step)
        code = window_scan_steps(step, arena, &tracing->steps, &err);
    tracing->has_steps = step != NULL;
    if (code)
        query_fail(tracing->response, &err);
    return code == 0;
}

static bool check_size(struct tracing *tracing)
{
    size_t samples = 0;
    for (size_t i = 0; i < tracing->trace.count; i++)
        samples += tracing->trace.columns[i].count;
    if (tracing->pixels || samples <= API_SAMPLES_MAX)
        return true;
    http_problem(tracing->response, 400, "that is %zu samples; say with 'pixels' how wide they are drawn",
                 samples);
    return false;
}

/* --- writing --- */

static bool add_sensor_names(struct tracing *tracing)
{
    const char *const *names;
    size_t count;
    struct error err;
    if (trace_read_names(tracing->tchart->chunks, tracing->tchart->chunk_count, &tracing->judged.arena,
                         &names, &count, &err)) {
        query_fail(tracing->response, &err);
        return false;
    }
    const char **sorted = arena_calloc(&tracing->judged.arena, count, sizeof *sorted);
    json_begin_array(&tracing->json, "sensors");
    for (size_t i = 0; sorted && i < count; i++) {
        size_t place = i;
        for (; place > 0 && strcmp(sorted[place - 1], names[i]) > 0; place--)
            sorted[place] = sorted[place - 1];
        sorted[place] = names[i];
    }
    for (size_t i = 0; sorted && i < count; i++)
        json_add_text(&tracing->json, NULL, sorted[i]);
    json_end_array(&tracing->json);
    return true;
}

static void add_range(struct tracing *tracing, int64_t from_us, int64_t to_us)
{
    json_add_integer(&tracing->json, "from_us", from_us - tracing->trace.start_us);
    json_add_integer(&tracing->json, "to_us", to_us - tracing->trace.start_us);
}

static void add_steps(struct tracing *tracing)
{
    json_begin_array(&tracing->json, "steps");
    for (size_t i = 0; tracing->has_steps && i < tracing->steps.count; i++) {
        const struct window_stretch *stretch = &tracing->steps.stretches[i];
        const struct trace_column *column = tracing->steps.column;
        bool last = i + 1 == tracing->steps.count;
        json_begin_object(&tracing->json, NULL);
        json_add_double(&tracing->json, "step", stretch->step);
        add_range(tracing, column->time_us[stretch->begin],
                  last ? column->time_us[column->count - 1] : column->time_us[stretch[1].begin]);
        json_end_object(&tracing->json);
    }
    json_end_array(&tracing->json);
}

static void add_samples(struct tracing *tracing, const struct trace_column *column, const size_t *kept,
                        size_t count)
{
    json_begin_array(&tracing->json, "times_us");
    for (size_t i = 0; i < count; i++)
        json_add_integer(&tracing->json, NULL, column->time_us[kept ? kept[i] : i] - tracing->trace.start_us);
    json_end_array(&tracing->json);
    json_begin_array(&tracing->json, "values");
    for (size_t i = 0; i < count; i++)
        json_add_double(&tracing->json, NULL, column->value[kept ? kept[i] : i]);
    json_end_array(&tracing->json);
}

static void add_trace(struct tracing *tracing, const char *name)
{
    const struct trace_column *column = trace_find(&tracing->trace, hash64_text(name));
    size_t *kept = NULL, count = column ? column->count : 0;
    if (column == NULL)
        return;
    if (tracing->pixels && count > 2 * tracing->pixels) {
        kept = arena_calloc(&tracing->judged.arena, 2 * tracing->pixels, sizeof *kept);
        if (kept == NULL) {
            tracing->response->body.failed = true;
            return;
        }
        int64_t from_us = tracing->trace.start_us, to_us = tracing->trace.end_us;
        count = thin_trace(column->time_us, column->value, count, from_us, to_us, tracing->pixels, kept);
    }
    json_begin_object(&tracing->json, NULL);
    json_add_text(&tracing->json, "svid", name);
    json_add_size(&tracing->json, "samples", column->count);
    add_samples(tracing, column, kept, count);
    json_end_object(&tracing->json);
}

/* Where one term's window lies in one sensor. A window that a term before it had there already is left out.
 */
static void add_window(struct tracing *tracing, size_t term_index, const struct equation_sensor *sensor)
{
    const struct equation *equation = &tracing->chart->equation;
    const struct window *window = &equation->terms[term_index].window;
    for (size_t k = 0; k < term_index; k++)
        if (equation->terms[k].sensor.id == sensor->id && window_equal(&equation->terms[k].window, window))
            return;
    const struct trace_column *column = trace_find(&tracing->trace, sensor->id);
    struct window_ranges ranges;
    if (column == NULL || window_resolve(window, &tracing->trace, tracing->has_steps ? &tracing->steps : NULL,
                                         column, &tracing->judged.arena, &ranges, NULL))
        return;
    struct strbuf text;
    strbuf_init(&text);
    window_format(window, &text);
    json_begin_object(&tracing->json, NULL);
    json_add_text(&tracing->json, "svid", sensor->name);
    json_add_text(&tracing->json, "text",
                  text.length > 2 ? text.text + 2 : "the whole run"); /* behind ", " */
    json_begin_array(&tracing->json, "ranges");
    for (size_t i = 0; i < ranges.count; i++) {
        json_begin_object(&tracing->json, NULL);
        add_range(tracing, column->time_us[ranges.ranges[i].begin],
                  column->time_us[ranges.ranges[i].end - 1]);
        json_end_object(&tracing->json);
    }
    json_end_array(&tracing->json);
    json_end_object(&tracing->json);
    strbuf_free(&text);
}

static void add_windows(struct tracing *tracing)
{
    json_begin_array(&tracing->json, "windows");
    for (size_t i = 0; tracing->chart && i < tracing->chart->equation.term_count; i++) {
        const struct equation_term *term = &tracing->chart->equation.terms[i];
        add_window(tracing, i, &term->sensor);
        if (term->other.name)
            add_window(tracing, i, &term->other);
    }
    json_end_array(&tracing->json);
}

static void write_traces(struct tracing *tracing)
{
    const struct context *context = &tracing->judged.context;
    tracing->json = api_json(tracing->response);
    struct json_writer *json = &tracing->json;
    json_begin_object(json, NULL);
    json_add_text(json, "context_id", context->id);
    json_add_text(json, "tool_id", context->tool);
    json_add_text(json, "chamber_id", context->chamber);
    json_add_text(json, "recipe", context->recipe);
    json_add_time(json, "started_at", context->start_us);
    json_add_time(json, "ended_at", context->end_us);
    if (!add_sensor_names(tracing))
        return;
    add_steps(tracing);
    json_begin_array(json, "traces");
    for (size_t i = 0; i < tracing->shown; i++)
        add_trace(tracing, tracing->names[i]);
    json_end_array(json);
    add_windows(tracing);
    json_end_object(json);
}

static void take_svids(struct tracing *tracing, struct query *query)
{
    for (size_t i = 0; i < query->request->parameter_count && !query->failed; i++) {
        const struct http_parameter *parameter = &query->request->parameters[i];
        if (strcmp(parameter->name, "svid") != 0 || !query_check_name(query, "svid", parameter->value))
            continue;
        if (tracing->count == SVIDS_MAX)
            query_refuse(query, 400, "'svid' may be given %d times at most", SVIDS_MAX);
        else
            ask_for(tracing, parameter->value);
    }
}

void api_get_traces(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"context", "svid", "chart", "pixels", NULL};
    struct query query = query_open(request, response, allowed, "svid");
    struct tracing *tracing = calloc(1, sizeof *tracing);
    if (tracing == NULL) {
        http_problem(response, 503, "no memory for a trace");
        return;
    }
    *tracing = (struct tracing){.api = arg, .response = response};
    const char *id = query_name(&query, "context", true), *chart = query_name(&query, "chart", false);
    tracing->pixels = (size_t)query_integer(&query, "pixels", 16, 8192, 0);
    take_svids(tracing, &query);
    tracing->wait = query.failed ? NULL : api_wait(response);
    bool well = tracing->wait != NULL;
    if (well) {
        well = fetch(tracing, id) && (chart == NULL || find_chart(tracing, chart));
        if (well && tracing->chart)
            ask_for_chart(tracing);
        tracing->shown = tracing->count;
        if (well && (tracing->shown == 0 || (decode(tracing) && check_size(tracing))))
            write_traces(tracing);
        store_reply_free(tracing->tchart);
        judged_context_free(&tracing->judged);
        store_wait_free(tracing->wait);
    }
    free(tracing);
}
