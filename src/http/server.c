#include "http/server.h"

#include "base/log.h"
#include "http/url.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { STREAM_BLOCK_BYTES = 16 * 1024, STACK_BYTES = 512 * 1024, METHODS_BYTES = 64 };

struct http_server {
    struct MHD_Daemon *daemon;
    const struct http_route *routes;
    size_t route_count;
    bool local; /* listens on loopback: only requests for loopback names are answered */
    int port;
    atomic_uint_fast64_t requests[6];
};

/* A request from its first line until it is answered. */
struct exchange {
    char *target;        /* path and query as they came */
    bool begun;          /* the headers have been seen */
    struct strbuf body;  /* of the request */
    bool too_long;       /* the body: it is read on, and forgotten */
    const char *refusal; /* why it is not answered by a route; NULL */
    int refusal_status;
};

static struct exchange *exchange_new(const char *target)
{
    struct exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return NULL;
    exchange->target = strdup(target);
    strbuf_init(&exchange->body);
    if (exchange->target)
        return exchange;
    free(exchange);
    return NULL;
}

static void exchange_free(struct exchange *exchange)
{
    free(exchange->target);
    strbuf_free(&exchange->body);
    free(exchange);
}

/* --- answers --- */

const char *http_status_text(int status)
{
    const char *text = MHD_get_reason_phrase_for((unsigned)status);
    return text ? text : "Unknown";
}

void http_problem(struct http_response *response, int status, const char *format, ...)
{
    char detail[ERROR_TEXT_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    response->status = status;
    response->content_type = "application/problem+json";
    strbuf_clear(&response->body);
    strbuf_add(&response->body, "{\"type\":\"about:blank\",\"title\":");
    strbuf_add_json(&response->body, http_status_text(status));
    strbuf_printf(&response->body, ",\"status\":%d,\"detail\":", status);
    strbuf_add_json(&response->body, detail);
    strbuf_add(&response->body, "}\n");
    if (status == MHD_HTTP_SERVICE_UNAVAILABLE && response->retry_after_s == 0)
        response->retry_after_s = 1;
}

static ssize_t read_stream(void *arg, uint64_t position, char *buffer, size_t capacity)
{
    (void)position;
    struct http_stream *stream = arg;
    ssize_t length = stream->read(stream->arg, buffer, capacity);
    return length > 0 ? length : MHD_CONTENT_READER_END_OF_STREAM;
}

static void close_stream(void *arg)
{
    struct http_stream *stream = arg;
    stream->close(stream->arg);
    free(stream);
}

static struct MHD_Response *make_stream(const struct http_stream *given)
{
    struct http_stream *stream = malloc(sizeof *stream);
    struct MHD_Response *native = NULL;
    if (stream) {
        *stream = *given;
        native = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, stream,
                                                   close_stream);
    }
    if (native == NULL) {
        given->close(given->arg);
        free(stream);
    }
    return native;
}

static struct MHD_Response *make_body(struct strbuf *body)
{
    size_t length = body->length;
    char *text = strbuf_take(body);
    if (text == NULL)
        return NULL;
    struct MHD_Response *native = MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE);
    if (native == NULL)
        free(text);
    return native;
}

/* No page of this server runs scripts or styles but its own files, is framed, or guesses a type. */
static void add_headers(struct MHD_Response *native, const struct http_response *response, const char *allow)
{
    static const char *const always[][2] = {
        {"Content-Security-Policy",
         "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
         "frame-ancestors 'none'"},
        {"X-Content-Type-Options", "nosniff"},
        {"X-Frame-Options", "DENY"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Cross-Origin-Opener-Policy", "same-origin"},
    };
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        MHD_add_response_header(native, always[i][0], always[i][1]);
    MHD_add_response_header(native, MHD_HTTP_HEADER_CACHE_CONTROL,
                            response->cache_control ? response->cache_control : "no-store");
    if (response->content_type)
        MHD_add_response_header(native, MHD_HTTP_HEADER_CONTENT_TYPE, response->content_type);
    if (response->etag)
        MHD_add_response_header(native, MHD_HTTP_HEADER_ETAG, response->etag);
    if (response->content_encoding)
        MHD_add_response_header(native, MHD_HTTP_HEADER_CONTENT_ENCODING, response->content_encoding);
    if (response->vary)
        MHD_add_response_header(native, MHD_HTTP_HEADER_VARY, response->vary);
    if (allow)
        MHD_add_response_header(native, MHD_HTTP_HEADER_ALLOW, allow);
    if (response->retry_after_s > 0) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%d", response->retry_after_s);
        MHD_add_response_header(native, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
    }
}

static enum MHD_Result answer(struct http_server *server, struct MHD_Connection *connection,
                              struct http_response *response, const char *allow)
{
    bool streams = response->stream.read != NULL;
    if (!streams && response->body.failed)
        LOG_ERROR("no memory for an answer");
    struct MHD_Response *native = streams ? make_stream(&response->stream) : make_body(&response->body);
    strbuf_free(&response->body);
    if (native == NULL)
        return MHD_NO;
    add_headers(native, response, allow);
    unsigned status = (unsigned)response->status;
    atomic_fetch_add_explicit(&server->requests[status / 100 < 6 ? status / 100 : 0], 1,
                              memory_order_relaxed);
    enum MHD_Result result = MHD_queue_response(connection, status, native);
    MHD_destroy_response(native);
    return result;
}

static enum MHD_Result answer_problem(struct http_server *server, struct MHD_Connection *connection,
                                      int status, const char *allow, const char *detail)
{
    struct http_response response = {.status = status};
    strbuf_init(&response.body);
    http_problem(&response, status, "%s", detail);
    return answer(server, connection, &response, allow);
}

/* --- requests --- */

const char *http_request_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->native, MHD_HEADER_KIND, name);
}

const char *http_request_parameter(const struct http_request *request, const char *name)
{
    for (size_t i = 0; i < request->parameter_count; i++)
        if (strcmp(request->parameters[i].name, name) == 0)
            return request->parameters[i].value;
    return NULL;
}

static bool method_matches(const struct http_route *route, const char *method)
{
    return strcmp(route->method, method) == 0 ||
           (strcmp(route->method, "GET") == 0 && strcmp(method, "HEAD") == 0);
}

/* The route for a request. NULL: none; `allow` is then empty (no such path) or names the path's methods. */
static const struct http_route *find_route(const struct http_server *server, const char *method,
                                           const char *path, char id[static HTTP_ID_MAX_BYTES],
                                           char allow[static METHODS_BYTES])
{
    const struct http_route *rest = NULL;
    allow[0] = '\0';
    for (size_t i = 0; i < server->route_count; i++) {
        const struct http_route *route = &server->routes[i];
        if (strcmp(route->path, "*") == 0) {
            rest = method_matches(route, method) ? route : rest;
            continue;
        }
        if (!url_match(route->path, path, id))
            continue;
        if (method_matches(route, method))
            return route;
        size_t used = strlen(allow);
        snprintf(allow + used, METHODS_BYTES - used, "%s%s", used ? ", " : "",
                 strcmp(route->method, "GET") == 0 ? "GET, HEAD" : route->method);
    }
    id[0] = '\0';
    return allow[0] == '\0' ? rest : NULL;
}

static enum MHD_Result dispatch(struct http_server *server, struct MHD_Connection *connection,
                                struct exchange *exchange, const char *method)
{
    char *query = strchr(exchange->target, '?');
    if (query)
        *query++ = '\0';
    char id[HTTP_ID_MAX_BYTES], allow[METHODS_BYTES];
    const struct http_route *route = find_route(server, method, exchange->target, id, allow);
    if (route == NULL && allow[0])
        return answer_problem(server, connection, MHD_HTTP_METHOD_NOT_ALLOWED, allow,
                              "this path does not take that method; the header Allow names those it takes");
    if (route == NULL)
        return answer_problem(server, connection, MHD_HTTP_NOT_FOUND, NULL,
                              "there is nothing under this path; docs/api.md names what there is");
    struct http_parameter parameters[HTTP_PARAMETERS_MAX];
    int count = query ? url_parse_query(query, parameters, HTTP_PARAMETERS_MAX) : 0;
    if (count < 0)
        return answer_problem(server, connection, MHD_HTTP_BAD_REQUEST, NULL,
                              "the query cannot be read: at most 64 parameters, each UTF-8 without control "
                              "characters, escaped with %XX");
    struct http_request request = {.method = method,
                                   .path = exchange->target,
                                   .id = id,
                                   .parameters = parameters,
                                   .parameter_count = (size_t)count,
                                   .body = exchange->body.text,
                                   .body_length = exchange->body.length,
                                   .native = connection};
    struct http_response response = {.status = MHD_HTTP_OK};
    strbuf_init(&response.body);
    route->handle(route->arg, &request, &response);
    return answer(server, connection, &response, NULL);
}

static void refuse(struct exchange *exchange, int status, const char *why)
{
    exchange->refusal_status = status;
    exchange->refusal = why;
}

/* What the headers alone tell. */
static void inspect(const struct http_server *server, struct MHD_Connection *connection,
                    struct exchange *exchange)
{
    const char *host = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);
    const char *length =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (server->local && host && !url_host_is_local(host))
        refuse(exchange, MHD_HTTP_MISDIRECTED_REQUEST,
               "the Host header names another machine; this server listens on loopback: ask for 127.0.0.1 or "
               "localhost");
    else if (length && strtoull(length, NULL, 10) > HTTP_BODY_MAX_BYTES)
        refuse(exchange, MHD_HTTP_CONTENT_TOO_LARGE, "the body is longer than 16 KiB");
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_length, void **context)
{
    (void)url;
    (void)version;
    struct http_server *server = arg;
    struct exchange *exchange = *context;
    if (exchange == NULL) /* no memory when it began */
        return MHD_NO;
    if (!exchange->begun) {
        exchange->begun = true;
        inspect(server, connection, exchange);
        return exchange->refusal == NULL
                   ? MHD_YES
                   : answer_problem(server, connection, exchange->refusal_status, NULL, exchange->refusal);
    }
    if (*upload_length > 0) {
        if (exchange->body.length + *upload_length > HTTP_BODY_MAX_BYTES)
            exchange->too_long = true;
        else
            strbuf_add_bytes(&exchange->body, upload, *upload_length);
        *upload_length = 0;
        return MHD_YES;
    }
    if (exchange->too_long)
        return answer_problem(server, connection, MHD_HTTP_CONTENT_TOO_LARGE, NULL,
                              "the body is longer than 16 KiB");
    return dispatch(server, connection, exchange, method);
}

static void *on_target(void *arg, const char *target, struct MHD_Connection *connection)
{
    (void)arg;
    (void)connection;
    return exchange_new(target);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    (void)arg;
    (void)connection;
    (void)code;
    if (*context)
        exchange_free(*context);
    *context = NULL;
}

/* The target is read by url.h, byte for byte: what the library makes of it is not used. */
static size_t keep_escaped(void *arg, struct MHD_Connection *connection, char *text)
{
    (void)arg;
    (void)connection;
    return strlen(text);
}

static void on_library_log(void *arg, const char *format, va_list args)
{
    (void)arg;
    char text[256];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    LOG_DEBUG("HTTP", LOG_STR("said", text));
}

/* --- life --- */

static int parse_address(const char *bind, int port, struct sockaddr_storage *address, struct error *err)
{
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    *address = (struct sockaddr_storage){0};
    if (port < 0 || port > 65535)
        return error_set(err, ERR_INVALID, "HTTP port %d: choose 1 to 65535, or 0 for a free one", port);
    if (inet_pton(AF_INET, bind, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        return 0;
    }
    if (inet_pton(AF_INET6, bind, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        return 0;
    }
    return error_set(err, ERR_INVALID,
                     "HTTP address '%s': write an IPv4 or IPv6 address, such as 127.0.0.1 or ::", bind);
}

static int start(struct http_server *server, const struct http_server_options *options, const char *bind,
                 struct error *err)
{
    struct sockaddr_storage address;
    int code = parse_address(bind, options->port, &address, err);
    if (code)
        return code;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ERROR_LOG | MHD_USE_ITC;
    if (options->threads == HTTP_THREAD_PER_CONNECTION)
        flags |= MHD_USE_THREAD_PER_CONNECTION;
    if (address.ss_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    /* clang-format off */
    server->daemon = MHD_start_daemon(flags, (uint16_t)options->port, NULL, NULL, on_request, server,
        MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL,
        MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)HTTP_IDLE_TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEADER_MAX_BYTES,
        MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
        MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escaped, NULL,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_END);
    /* clang-format on */
    if (server->daemon)
        return 0;
    int cause = errno;
    if (cause == EADDRINUSE)
        return error_set(err, ERR_CONFLICT, "HTTP port %d of %s is taken; choose another --http-port",
                         options->port, bind);
    return error_set(err, ERR_IO, "cannot listen on %s port %d: %s; see --http-bind and --http-port", bind,
                     options->port, strerror(cause));
}

int http_server_open(const struct http_server_options *options, struct http_server **out, struct error *err)
{
    const char *bind = options->bind ? options->bind : "127.0.0.1";
    struct http_server *server = calloc(1, sizeof *server);
    if (server == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for an HTTP server");
    server->routes = options->routes;
    server->route_count = options->route_count;
    server->local = http_address_is_loopback(bind);
    int code = start(server, options, bind, err);
    if (code) {
        free(server);
        return code;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_BIND_PORT);
    server->port = info ? info->port : options->port;
    *out = server;
    return 0;
}

int http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_close(struct http_server *server)
{
    MHD_stop_daemon(server->daemon);
    free(server);
}

void http_server_statistics(const struct http_server *server, struct http_statistics *statistics)
{
    for (size_t i = 0; i < sizeof server->requests / sizeof *server->requests; i++)
        statistics->requests[i] = atomic_load_explicit(&server->requests[i], memory_order_relaxed);
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    statistics->connections = info ? info->num_connections : 0;
}
