/* Contexts: a page of them, one with its verdicts, and the newest of a chamber. */
#include "base/json_writer.h"
#include "view/judged_context.h"
#include "view/verdict_text.h"
#include "web/api.h"
#include "web/query.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* --- a page --- */

struct page {
    struct store_list_query query;
    const char *wafer, *search;
    int state; /* enum store_state; -1: every */
    size_t limit, found, scanned;
    struct json_writer json;
    struct strbuf cursor; /* of the last context looked at */
};

static bool has_part(const char *text, const char *part)
{
    return text && strcasestr(text, part) != NULL;
}

static bool page_wants(const struct page *page, const struct store_completion *completion,
                       const struct context *context)
{
    if (page->state >= 0 && page->state != (int)completion->state)
        return false;
    if (page->wafer && strcmp(page->wafer, context->wafer) != 0)
        return false;
    return page->search == NULL || has_part(context->id, page->search) ||
           has_part(context->tool, page->search) || has_part(context->chamber, page->search) ||
           has_part(context->recipe, page->search) || has_part(context->lot, page->search) ||
           has_part(context->wafer, page->search);
}

static void add_summary(struct json_writer *json, const struct store_completion *completion,
                        const struct context *context)
{
    static const char *const states[] = {
        [STORE_PENDING] = "pending", [STORE_JUDGED] = "judged", [STORE_DEAD] = "dead"};
    json_begin_object(json, NULL);
    judged_context_add_which(json, context);
    json_add_text(json, "state", states[completion->state]);
    json_add_text(json, "dead_reason", completion->state == STORE_DEAD ? completion->dead_reason : NULL);
    json_end_object(json);
}

/* Adds what is wanted of one reply. False: the page is full. */
static bool take_reply(struct page *page, const struct store_reply *reply)
{
    struct arena arena;
    arena_init(&arena, 0);
    bool room = true;
    for (size_t i = 0; i < reply->completion_count && room; i++) {
        const struct store_completion *completion = &reply->completions[i];
        struct context context;
        (void)judged_context_read(completion, &arena, &context, NULL); /* listed by its key all the same */
        if (page_wants(page, completion, &context)) {
            add_summary(&page->json, completion, &context);
            page->found++;
        }
        strbuf_clear(&page->cursor);
        strbuf_printf(&page->cursor, "%" PRId64 "~%s", completion->end_us, completion->key.context_id);
        room = page->found < page->limit;
        if (!room) /* the last of a full page may be the last of all */
            page->scanned += i + 1 < reply->completion_count;
        arena_reset(&arena);
    }
    arena_free(&arena);
    return room;
}

/* Asks page by page until there is enough, or enough was looked at. */
static void fill_page(struct api *api, struct page *page, struct store_wait *wait,
                      struct http_response *response)
{
    char after[QUERY_NAME_MAX * 4 + 1];
    bool more = true;
    for (size_t looked = 0; more;) {
        page->query.limit = API_SCAN_PAGE;
        store_list_contexts(api->store, &page->query, store_wait_done, wait);
        struct store_reply *reply = store_wait_reply(wait);
        if (api_reply_failed(reply, response)) {
            store_reply_free(reply);
            return;
        }
        size_t before = page->scanned;
        bool room = take_reply(page, reply);
        bool cut = page->scanned > before; /* rows of this reply are left */
        more = reply->more || cut;
        looked += reply->completion_count;
        if (reply->completion_count > 0) {
            const struct store_completion *last = &reply->completions[reply->completion_count - 1];
            strncpy(after, last->key.context_id, sizeof after - 1);
            after[sizeof after - 1] = '\0';
            page->query.after_context_id = after;
            page->query.after_end_us = last->end_us;
        }
        store_reply_free(reply);
        if (!room || looked >= API_SCAN_MAX)
            break;
    }
    json_end_array(&page->json);
    json_add_text(&page->json, "next", more && page->cursor.length ? page->cursor.text : NULL);
    json_end_object(&page->json);
}

void api_list_contexts(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"tool",  "chamber", "recipe", "lot",   "wafer",  "search",
                                          "state", "from",    "to",     "limit", "cursor", NULL};
    static const char *const states[] = {"pending", "judged", "dead", NULL};
    struct api *api = arg;
    struct query query = query_open(request, response, allowed, NULL);
    struct page page = {.query = {.tool = query_name(&query, "tool", false),
                                  .chamber = query_name(&query, "chamber", false),
                                  .recipe = query_name(&query, "recipe", false),
                                  .lot = query_name(&query, "lot", false),
                                  .from_end_us = query_time(&query, "from", 0),
                                  .to_end_us = query_time(&query, "to", 0)},
                        .wafer = query_name(&query, "wafer", false),
                        .search = query_name(&query, "search", false),
                        .state = query_choice(&query, "state", states, -1),
                        .limit = (size_t)query_integer(&query, "limit", 1, 1000, 100)};
    query_cursor(&query, &page.query.after_end_us, &page.query.after_context_id);
    struct store_wait *wait = query.failed ? NULL : api_wait(response);
    if (wait == NULL)
        return;
    strbuf_init(&page.cursor);
    page.json = api_json(response);
    json_begin_object(&page.json, NULL);
    json_begin_array(&page.json, "contexts");
    fill_page(api, &page, wait, response);
    strbuf_free(&page.cursor);
    store_wait_free(wait);
}

/* --- one --- */

static void add_verdicts(struct json_writer *json, const struct uchart *uchart, struct arena *arena)
{
    const struct uchart_point **points = verdict_sort(uchart, arena);
    json->out->failed |= points == NULL;
    json_begin_array(json, "verdicts");
    for (size_t i = 0; points && i < uchart->count; i++) {
        json_begin_object(json, NULL);
        verdict_add_json(json, points[i]);
        json_end_object(json);
    }
    json_end_array(json);
}

void api_get_context(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {NULL};
    struct api *api = arg;
    struct error err;
    struct judged_context judged;
    struct query query = query_open(request, response, allowed, NULL);
    if (query.failed || !query_check_name(&query, "id", request->id))
        return;
    if (judged_context_fetch(api->store, request->id, &judged, &err)) {
        if (err.code == ERR_NOT_FOUND)
            http_problem(response, 404, "no context '%.400s' is stored", request->id);
        else
            query_fail(response, &err);
        judged_context_free(&judged);
        return;
    }
    struct json_writer json = api_json(response);
    json_begin_object(&json, NULL);
    judged_context_add_json(&json, &judged);
    json_add_text(&json, "severity", severity_name(uchart_worst_severity(&judged.uchart)));
    json_add_size(&json, "alarms", judged_context_count(&judged, VERDICT_ALARM));
    if (judged.stored) {
        json_add_time(&json, "judged_at", judged.stored->judged_us);
        json_add_id(&json, "chart_set", judged.stored->chart_set);
    } else {
        json_add_raw(&json, "judged_at", "null");
        json_add_raw(&json, "chart_set", "null");
    }
    add_verdicts(&json, &judged.uchart, &judged.arena);
    json_end_object(&json);
    judged_context_free(&judged);
}

/* --- a chamber --- */

/* The newest U-chart of a recipe with its verdicts. False: the response says why. */
static bool add_recipe(struct api *api, const struct store_uchart *head, struct store_wait *wait,
                       struct json_writer *json, struct http_response *response)
{
    struct arena arena;
    struct uchart uchart;
    struct error err;
    store_fetch_uchart(api->store, &head->key, store_wait_done, wait);
    struct store_reply *reply = store_wait_reply(wait);
    bool failed = reply->code != ERR_NOT_FOUND && api_reply_failed(reply, response);
    arena_init(&arena, 0);
    if (reply->code == 0 && verdict_decode(&reply->ucharts[0], &arena, &uchart, &err)) {
        query_fail(response, &err);
        failed = true;
    }
    if (reply->code == 0 && !failed) {
        json_begin_object(json, NULL);
        json_add_text(json, "recipe", head->recipe);
        json_add_text(json, "context_id", head->key.context_id);
        json_add_time(json, "ended_at", head->end_us);
        json_add_text(json, "severity", severity_name((enum severity)reply->ucharts[0].severity));
        add_verdicts(json, &uchart, &arena);
        json_end_object(json);
    }
    arena_free(&arena);
    store_reply_free(reply);
    return !failed;
}

void api_get_chamber(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {"tool", "chamber", NULL};
    struct api *api = arg;
    struct query query = query_open(request, response, allowed, NULL);
    struct store_key key = {.tool = query_name(&query, "tool", true),
                            .chamber = query_name(&query, "chamber", true),
                            .context_id = ""};
    struct store_wait *wait = query.failed ? NULL : api_wait(response);
    if (wait == NULL)
        return;
    struct json_writer json = api_json(response);
    json_begin_object(&json, NULL);
    if (!board_write_chamber(api->board, key.tool, key.chamber, &response->body)) {
        http_problem(response, 404, "no chamber '%.200s' of a tool '%.200s' is known", key.chamber, key.tool);
        store_wait_free(wait);
        return;
    }
    json.follows = true;
    json_begin_array(&json, "recipes");
    store_list_heads(api->store, &key, 1, store_wait_done, wait);
    struct store_reply *heads = store_wait_reply(wait);
    bool well = !api_reply_failed(heads, response);
    for (size_t i = 0; well && i < heads->uchart_count; i++)
        well = add_recipe(api, &heads->ucharts[i], wait, &json, response);
    store_reply_free(heads);
    store_wait_free(wait);
    if (!well)
        return;
    json_end_array(&json);
    json_end_object(&json);
}
