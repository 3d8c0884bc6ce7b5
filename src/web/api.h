/* The HTTP API (docs/api/openapi.yaml): what each handler works with. Handlers run on the server's threads
 * and wait for the store there. */
#ifndef CHAMBERLAIN_WEB_API_H
#define CHAMBERLAIN_WEB_API_H

#include "bus/bus.h"
#include "http/server.h"
#include "store/store.h"
#include "view/stored_charts.h"
#include "web/board.h"
#include "web/events.h"

enum {
    API_SCAN_MAX = 20000,      /* contexts that one request looks at */
    API_SCAN_PAGE = 500,       /* ... a call to the store */
    API_SAMPLES_MAX = 1000000, /* of one answer without `pixels` */
    API_ACKNOWLEDGE_MS = 5000, /* for NATS to take an acknowledgement */
    API_ROUTES_MAX = 32
};

struct api {
    struct board *board;
    struct events *events;
    struct store *store;
    struct stored_charts *charts;
    struct mailbox *mailbox; /* of the loop that `bus` belongs to */
    struct bus *bus;
    const char *cell;
};

/* The API's routes, with `api` as their argument; how many. */
size_t api_routes(struct api *api, struct http_route routes[static API_ROUTES_MAX]);

/* api_contexts.c */
void api_list_contexts(void *api, const struct http_request *request, struct http_response *response);
void api_get_context(void *api, const struct http_request *request, struct http_response *response);
void api_get_chamber(void *api, const struct http_request *request, struct http_response *response);

/* api_series.c */
void api_list_charts(void *api, const struct http_request *request, struct http_response *response);
void api_get_series(void *api, const struct http_request *request, struct http_response *response);

/* api_traces.c */
void api_get_traces(void *api, const struct http_request *request, struct http_response *response);

/* api_acknowledge.c */
void api_acknowledge(void *api, const struct http_request *request, struct http_response *response);

/* A call to the store that a handler waits for:
 *
 *     struct store_wait *wait = api_wait(response);      NULL: the response says why
 *     store_find_context(api->store, id, store_wait_done, wait);
 *     struct store_reply *reply = store_wait_reply(wait);
 *     if (api_reply_failed(reply, response)) ...
 */
struct store_wait *api_wait(struct http_response *response);
bool api_reply_failed(const struct store_reply *reply, struct http_response *response);

/* The response is JSON from here on. */
struct json_writer;
struct json_writer api_json(struct http_response *response);

#endif
