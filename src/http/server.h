/* A small HTTP server for the process's own doors: metrics, health, the API. libmicrohttpd underneath.
 *
 * Routes are a table; a path may have one `{id}` segment. The server answers by itself what no route is for
 * (404), a method no route takes (405 with Allow), what cannot be read (400), what is too long (413), and,
 * when it listens on loopback, a Host header that names another machine (421: a web site whose name was
 * rebound to 127.0.0.1 must not read a fab's data through an engineer's browser).
 *
 * Handlers run on threads of the server, several at a time unless HTTP_ONE_THREAD. Everything a request has
 * is bounded: see the constants. */
#ifndef CHAMBERLAIN_HTTP_SERVER_H
#define CHAMBERLAIN_HTTP_SERVER_H

#include "base/error.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    HTTP_BODY_MAX_BYTES = 16 * 1024, /* of a request: 413 beyond */
    HTTP_HEADER_MAX_BYTES =
        32 * 1024,              /* request line and headers together, with what the server notes of them */
    HTTP_PARAMETERS_MAX = 64,   /* in one query */
    HTTP_CONNECTIONS_MAX = 128, /* at a time; more are not accepted until one is free */
    HTTP_IDLE_TIMEOUT_S = 30,   /* of a connection that says nothing */
    HTTP_CONTENT_TYPE_BYTES = 64,
    HTTP_ID_MAX_BYTES = 1024 /* of the `{id}` of a path, unescaped */
};

struct http_server;

struct http_parameter {
    const char *name, *value; /* unescaped, UTF-8, without control characters */
};

/* A request, valid during the handler's call. */
struct http_request {
    const char *method;
    const char *path; /* as it came, without the query */
    const char *id;   /* what stands for {id}, unescaped; "" when the route has none */
    const struct http_parameter *parameters;
    size_t parameter_count;
    const char *body; /* terminated; "" when there is none */
    size_t body_length;
    void *native; /* for http_request_header */
};

/* The header's value or NULL. Names are compared without regard to case. */
const char *http_request_header(const struct http_request *request, const char *name);

/* The parameter's value, NULL when it was not given. (Of several, the first.) */
const char *http_request_parameter(const struct http_request *request, const char *name);

/* A body without end, read on the connection's own thread: `read` blocks until there are bytes and returns
 * their number, or a negative number to end. Not with HTTP_ONE_THREAD. */
struct http_stream {
    ssize_t (*read)(void *arg, char *buffer, size_t capacity);
    void (*close)(void *arg); /* runs once, whatever happens */
    void *arg;
};

/* What a handler fills. It comes with status 200, no content type, an empty body. */
struct http_response {
    int status;
    const char *content_type; /* static text */
    struct strbuf body;
    int retry_after_s;         /* 0: no such header */
    const char *cache_control; /* static text; NULL: no-store */
    const char *etag;          /* static text or NULL, as the next two */
    const char *content_encoding;
    const char *vary;
    struct http_stream stream; /* used instead of `body` when `read` is set */
};

typedef void http_handler(void *arg, const struct http_request *request, struct http_response *response);

struct http_route {
    const char *method; /* "GET" (HEAD goes with it), "POST" */
    const char *path;   /* "/api/v1/contexts/{id}"; "*" takes whatever no other route's path matches */
    http_handler *handle;
    void *arg;
};

enum http_threads { HTTP_ONE_THREAD, HTTP_THREAD_PER_CONNECTION };

struct http_server_options {
    const char *bind; /* IPv4 or IPv6 address; NULL: 127.0.0.1 */
    int port;         /* 0: a free one */
    enum http_threads threads;
    const struct http_route *routes; /* borrowed until http_server_close */
    size_t route_count;
};

/* Answers from now on. ERR_INVALID (address, port), ERR_CONFLICT (the port is taken), ERR_IO, ERR_NO_MEMORY;
 * the text says what to do. */
int http_server_open(const struct http_server_options *options, struct http_server **server,
                     struct error *err);

int http_server_port(const struct http_server *server);

/* Answers nothing new, waits for the handlers under way, ends streams at their next read, and frees. */
void http_server_close(struct http_server *server);

/* Counts since it was opened; from any thread. */
struct http_statistics {
    uint64_t requests[6]; /* by the hundreds of their status: [2] is 200 to 299 */
    uint64_t connections; /* open now */
};
void http_server_statistics(const struct http_server *server, struct http_statistics *statistics);

/* Makes the response an application/problem+json (RFC 9457) with that status. */
void http_problem(struct http_response *response, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The words that go with a status: "Not Found". */
const char *http_status_text(int status);

/* True for addresses of this machine alone: 127.0.0.0/8, ::1. */
bool http_address_is_loopback(const char *address);

#endif
