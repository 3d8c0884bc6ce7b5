#include "web/api.h"

#include "base/clock.h"
#include "base/json_writer.h"
#include "web/query.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct json_writer api_json(struct http_response *response)
{
    response->content_type = "application/json";
    return (struct json_writer){.out = &response->body};
}

struct store_wait *api_wait(struct http_response *response)
{
    struct store_wait *wait = store_wait_new();
    if (wait == NULL)
        http_problem(response, 503, "no memory for a question to the store");
    return wait;
}

bool api_reply_failed(const struct store_reply *reply, struct http_response *response)
{
    if (reply->code)
        query_fail(response, &reply->error);
    return reply->code != 0;
}

/* --- from the board --- */

/* A stream sequence of at most 18 digits: what a pager may give. */
#define CURSOR_MAX INT64_C(999999999999999999)

static const char *const no_parameters[] = {NULL};
static const char *const severities[] = {"info", "warning", "critical", NULL};

static void get_status(void *arg, const struct http_request *request, struct http_response *response)
{
    struct api *api = arg;
    if (query_open(request, response, no_parameters, NULL).failed)
        return;
    api_json(response);
    board_write_status(api->board, clock_wall_us(), &response->body);
}

static void get_throughput(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"minutes", NULL};
    struct api *api = arg;
    struct query query = query_open(request, response, allowed, NULL);
    int minutes = (int)query_integer(&query, "minutes", 1, BOARD_MINUTES, BOARD_MINUTES);
    if (query.failed)
        return;
    api_json(response);
    board_write_throughput(api->board, minutes, clock_wall_us(), &response->body);
}

static void list_members(void *arg, const struct http_request *request, struct http_response *response)
{
    struct api *api = arg;
    if (query_open(request, response, no_parameters, NULL).failed)
        return;
    api_json(response);
    board_write_members(api->board, clock_wall_us(), &response->body);
}

static void get_cache(void *arg, const struct http_request *request, struct http_response *response)
{
    struct api *api = arg;
    if (query_open(request, response, no_parameters, NULL).failed)
        return;
    api_json(response);
    board_write_cache(api->board, clock_wall_us(), &response->body);
}

static void get_assignments(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"chambers", NULL};
    struct api *api = arg;
    struct query query = query_open(request, response, allowed, NULL);
    bool chambers = query_flag(&query, "chambers");
    if (query.failed)
        return;
    api_json(response);
    board_write_assignments(api->board, chambers, &response->body);
}

static void list_chambers(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"tool", "severity", NULL};
    struct api *api = arg;
    struct query query = query_open(request, response, allowed, NULL);
    struct board_chamber_filter filter = {
        .tool = query_name(&query, "tool", false),
        .least = (enum severity)(query_choice(&query, "severity", severities, -1) + 1)};
    if (query.failed)
        return;
    api_json(response);
    board_write_chambers(api->board, &filter, clock_wall_us(), &response->body);
}

static void list_alarms(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"severity", "tool",  "chamber", "context",
                                          "state",    "limit", "cursor",  NULL};
    static const char *const states[] = {"all", "open", "acknowledged", NULL};
    struct api *api = arg;
    struct query query = query_open(request, response, allowed, NULL);
    struct board_alarm_filter filter = {
        .severity = (enum severity)(query_choice(&query, "severity", severities, -1) + 1),
        .tool = query_name(&query, "tool", false),
        .chamber = query_name(&query, "chamber", false),
        .context = query_name(&query, "context", false),
        .state = (enum board_alarm_state)query_choice(&query, "state", states, 0),
        .limit = (size_t)query_integer(&query, "limit", 1, 1000, 100),
        .before = (uint64_t)query_integer(&query, "cursor", 1, CURSOR_MAX, 0)};
    if (query.failed)
        return;
    api_json(response);
    board_write_alarms(api->board, &filter, &response->body);
}

static void get_events(void *arg, const struct http_request *request, struct http_response *response)
{
    struct api *api = arg;
    struct error err;
    if (query_open(request, response, no_parameters, NULL).failed)
        return;
    if (strcmp(request->method, "HEAD") == 0)
        response->content_type = "text/event-stream";
    else if (events_read(api->events, http_request_header(request, "Last-Event-ID"), &response->stream, &err))
        http_problem(response, 503, "%s", err.text);
    else
        response->content_type = "text/event-stream";
}

size_t api_routes(struct api *api, struct http_route routes[static API_ROUTES_MAX])
{
    const struct http_route table[] = {
        {"GET", "/api/v1/status", get_status, api},
        {"GET", "/api/v1/throughput", get_throughput, api},
        {"GET", "/api/v1/members", list_members, api},
        {"GET", "/api/v1/assignments", get_assignments, api},
        {"GET", "/api/v1/cache", get_cache, api},
        {"GET", "/api/v1/chambers", list_chambers, api},
        {"GET", "/api/v1/chamber", api_get_chamber, api},
        {"GET", "/api/v1/contexts", api_list_contexts, api},
        {"GET", "/api/v1/contexts/{id}", api_get_context, api},
        {"GET", "/api/v1/charts", api_list_charts, api},
        {"GET", "/api/v1/series", api_get_series, api},
        {"GET", "/api/v1/traces", api_get_traces, api},
        {"GET", "/api/v1/alarms", list_alarms, api},
        {"POST", "/api/v1/alarms/{id}/acknowledge", api_acknowledge, api},
        {"GET", "/api/v1/events", get_events, api},
    };
    _Static_assert(sizeof table / sizeof *table <= API_ROUTES_MAX, "more routes than there is room for");
    memcpy(routes, table, sizeof table);
    return sizeof table / sizeof *table;
}
