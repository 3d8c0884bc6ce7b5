/* The server and a role's doors over real sockets. */
#include "cmocka_setup.h"

#include "http/role.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_echo(void *arg, const struct http_request *request, struct http_response *response)
{
    (void)arg;
    const char *name = http_request_parameter(request, "name");
    response->content_type = "text/plain";
    strbuf_printf(&response->body, "%s|%s|%s|%s", request->method, request->id, name ? name : "-",
                  request->body);
}

static const struct http_route routes[] = {
    {"GET", "/echo", on_echo, NULL},
    {"GET", "/echo/{id}", on_echo, NULL},
    {"POST", "/echo/{id}", on_echo, NULL},
};

static struct http_server *open_server(const char *bind, enum http_threads threads)
{
    struct http_server_options options = {
        .bind = bind, .threads = threads, .routes = routes, .route_count = sizeof routes / sizeof *routes};
    struct http_server *server;
    struct error err;
    assert_int_equal(http_server_open(&options, &server, &err), 0);
    assert_true(http_server_port(server) > 0);
    return server;
}

static int connect_to(int port)
{
    int out = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    assert_int_equal(connect(out, (struct sockaddr *)&address, sizeof address), 0);
    return out;
}

/* Sends the text and reads until the server closes. The caller frees. */
static char *exchange(int port, const char *request)
{
    int out = connect_to(port);
    size_t length = strlen(request), used = 0, capacity = 1 << 20;
    assert_int_equal(write(out, request, length), length);
    char *answer = malloc(capacity);
    for (ssize_t got; (got = read(out, answer + used, capacity - used - 1)) > 0;)
        used += (size_t)got;
    answer[used] = '\0';
    close(out);
    return answer;
}

static void assert_answer(int port, const char *request, const char *status, const char *part)
{
    char *answer = exchange(port, request);
    if (strncmp(answer + strlen("HTTP/1.1 "), status, strlen(status)) != 0 || !strstr(answer, part))
        fail_msg("expected %s with '%s', got:\n%s", status, part, answer);
    free(answer);
}

#define LOCAL " HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"

static void routes_requests(void **state)
{
    (void)state;
    struct http_server *server = open_server(NULL, HTTP_ONE_THREAD);
    int port = http_server_port(server);
    assert_answer(port, "GET /echo?name=a%26b" LOCAL "\r\n", "200", "GET||a&b|");
    assert_answer(port, "GET /echo/PM%2F1" LOCAL "\r\n", "200", "GET|PM/1|-|");
    assert_answer(port, "HEAD /echo" LOCAL "\r\n", "200", "Content-Length: 8");
    assert_answer(port, "POST /echo/7" LOCAL "Content-Length: 5\r\n\r\nhello", "200", "POST|7|-|hello");
    assert_answer(port, "GET /nothing" LOCAL "\r\n", "404", "application/problem+json");
    assert_answer(port, "GET /../../etc/passwd" LOCAL "\r\n", "404", "\"status\":404");
    assert_answer(port, "DELETE /echo/7" LOCAL "\r\n", "405", "Allow: GET, HEAD, POST");
    assert_answer(port, "POST /echo" LOCAL "Content-Length: 0\r\n\r\n", "405", "Allow: GET, HEAD\r");
    assert_answer(port, "GET /echo?name=%00" LOCAL "\r\n", "400", "\"status\":400");
    struct http_statistics statistics;
    http_server_statistics(server, &statistics);
    assert_int_equal(statistics.requests[2], 4);
    assert_int_equal(statistics.requests[4], 5);
    http_server_close(server);
}

static void sends_headers_that_guard_the_reader(void **state)
{
    (void)state;
    struct http_server *server = open_server(NULL, HTTP_ONE_THREAD);
    int port = http_server_port(server);
    const char *const headers[] = {"Content-Security-Policy: default-src 'self'",
                                   "X-Content-Type-Options: nosniff", "X-Frame-Options: DENY",
                                   "Cache-Control: no-store"};
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        assert_answer(port, "GET /echo" LOCAL "\r\n", "200", headers[i]);
        assert_answer(port, "GET /nothing" LOCAL "\r\n", "404", headers[i]);
    }
    http_server_close(server);
}

/* A site whose name was pointed at 127.0.0.1 is not answered; a server for others cannot know its names. */
static void answers_on_loopback_only_to_loopback_names(void **state)
{
    (void)state;
    struct http_server *server = open_server(NULL, HTTP_ONE_THREAD);
    int port = http_server_port(server);
    assert_answer(port, "GET /echo HTTP/1.1\r\nHost: localhost:80\r\nConnection: close\r\n\r\n", "200",
                  "GET|");
    assert_answer(port, "GET /echo HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "421",
                  "problem");
    http_server_close(server);
    server = open_server("0.0.0.0", HTTP_ONE_THREAD);
    port = http_server_port(server);
    assert_answer(port, "GET /echo HTTP/1.1\r\nHost: fab.example\r\nConnection: close\r\n\r\n", "200",
                  "GET|");
    http_server_close(server);
}

static char *long_request(size_t path, size_t body)
{
    char *text = malloc(path + body + 512);
    int used = sprintf(text, "POST /echo/");
    memset(text + used, 'x', path);
    used += (int)path;
    used += sprintf(text + used, LOCAL "Content-Length: %zu\r\n\r\n", body);
    memset(text + used, 'y', body);
    text[(size_t)used + body] = '\0';
    return text;
}

static void refuses_what_is_too_long(void **state)
{
    (void)state;
    struct http_server *server = open_server(NULL, HTTP_ONE_THREAD);
    int port = http_server_port(server);
    char *request = long_request(1, HTTP_BODY_MAX_BYTES);
    assert_answer(port, request, "200", "POST|x|");
    free(request);
    request = long_request(1, HTTP_BODY_MAX_BYTES + 1);
    assert_answer(port, request, "413", "\"status\":413");
    free(request);
    request = long_request(64 * 1024, 0);
    assert_answer(port, request, "414", "");
    free(request);
    /* Chunked: the length is not said before. */
    char *chunked = malloc(64 * 1024);
    int used = sprintf(chunked, "POST /echo/1" LOCAL "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 5; i++)
        used += sprintf(chunked + used, "1000\r\n%04096d\r\n", i);
    sprintf(chunked + used, "0\r\n\r\n");
    assert_answer(port, chunked, "413", "\"status\":413");
    free(chunked);
    http_server_close(server);
}

static void says_why_it_cannot_listen(void **state)
{
    (void)state;
    struct http_server *server = open_server(NULL, HTTP_ONE_THREAD), *second;
    struct error err;
    struct http_server_options options = {.port = http_server_port(server)};
    assert_int_equal(http_server_open(&options, &second, &err), ERR_CONFLICT);
    assert_non_null(strstr(err.text, "is taken"));
    options = (struct http_server_options){.bind = "localhost"};
    assert_int_equal(http_server_open(&options, &second, &err), ERR_INVALID);
    options = (struct http_server_options){.port = 70000};
    assert_int_equal(http_server_open(&options, &second, &err), ERR_INVALID);
    http_server_close(server);
}

/* --- a role's doors --- */

static void write_metrics(void *arg, struct strbuf *out)
{
    ++*(int *)arg;
    strbuf_add(out, "# HELP x X.\n# TYPE x gauge\nx 1\n");
}

struct asking {
    int port;
    const char *request;
    char *answer;
    uv_loop_t *loop;
    pthread_t thread;
    bool done;
    struct mailbox *mailbox;
};

static void run_done(void *target, void *argument)
{
    (void)argument;
    ((struct asking *)target)->done = true;
}

static void *ask(void *arg)
{
    struct asking *asking = arg;
    asking->answer = exchange(asking->port, asking->request);
    mailbox_post(asking->mailbox, run_done, asking, NULL);
    return NULL;
}

/* Asks from another thread while the loop turns here. The caller frees the answer. */
static char *ask_while_turning(uv_loop_t *loop, struct mailbox *mailbox, int port, const char *request)
{
    struct asking asking = {.port = port, .request = request, .mailbox = mailbox};
    pthread_create(&asking.thread, NULL, ask, &asking);
    while (!asking.done)
        uv_run(loop, UV_RUN_ONCE);
    pthread_join(asking.thread, NULL);
    return asking.answer;
}

static void assert_contains(char *answer, const char *part)
{
    if (strstr(answer, part) == NULL)
        fail_msg("expected '%s' in:\n%s", part, answer);
    free(answer);
}

static void a_role_tells_its_metrics_and_health(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct http_role *role;
    struct error err;
    int written = 0;
    uv_loop_init(&loop);
    assert_int_equal(mailbox_open(&loop, &mailbox, &err), 0);
    struct http_role_options options = {.write_metrics = write_metrics, .arg = &written};
    assert_int_equal(http_role_open(&options, &loop, mailbox, &role, &err), 0);
    int port = http_role_port(role);
    assert_contains(ask_while_turning(&loop, mailbox, port, "GET /metrics" LOCAL "\r\n"),
                    "\nx 1\n# HELP http_requests_total");
    assert_int_equal(written, 1);
    assert_contains(exchange(port, "GET /health/ready" LOCAL "\r\n"), "503 Service Unavailable");
    http_role_set_health(role, HTTP_READY, "STANDBY");
    assert_contains(exchange(port, "GET /health/ready" LOCAL "\r\n"), "\"state\":\"STANDBY\"");
    assert_contains(exchange(port, "GET /health/ready" LOCAL "\r\n"), "200 OK");
    assert_contains(exchange(port, "GET /health/live" LOCAL "\r\n"), "\"status\":\"live\"");
    http_role_set_health(role, HTTP_STOPPING, "SHUTDOWN");
    assert_contains(exchange(port, "GET /health/ready" LOCAL "\r\n"), "503 Service Unavailable");
    /* Nobody turns the loop: the metrics are not to be had, and closing does not wait for them. */
    assert_contains(exchange(port, "GET /metrics" LOCAL "\r\n"), "503 Service Unavailable");
    http_role_close(role);
    mailbox_close(mailbox);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(written, 1);
}

/* Requests are answered while the loop stands still: that is how it is noticed. */
static void a_loop_that_stands_still_is_not_live(void **state)
{
    (void)state;
    uv_loop_t loop;
    struct mailbox *mailbox;
    struct http_role *role;
    struct error err;
    int written = 0;
    uv_loop_init(&loop);
    assert_int_equal(mailbox_open(&loop, &mailbox, &err), 0);
    struct http_role_options options = {.stuck_ms = 1500, .write_metrics = write_metrics, .arg = &written};
    assert_int_equal(http_role_open(&options, &loop, mailbox, &role, &err), 0);
    int port = http_role_port(role);
    http_role_set_health(role, HTTP_READY, "FOLLOWER");
    usleep(1600 * 1000);
    assert_contains(exchange(port, "GET /health/live" LOCAL "\r\n"), "503 Service Unavailable");
    assert_contains(exchange(port, "GET /health/live" LOCAL "\r\n"), "\"status\":\"stuck\"");
    assert_contains(ask_while_turning(&loop, mailbox, port, "GET /metrics" LOCAL "\r\n"), "200 OK");
    usleep(1000);
    uv_run(&loop, UV_RUN_NOWAIT);
    assert_contains(exchange(port, "GET /health/live" LOCAL "\r\n"), "\"status\":\"live\"");
    http_role_close(role);
    mailbox_close(mailbox);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(routes_requests),
        cmocka_unit_test(sends_headers_that_guard_the_reader),
        cmocka_unit_test(answers_on_loopback_only_to_loopback_names),
        cmocka_unit_test(refuses_what_is_too_long),
        cmocka_unit_test(says_why_it_cannot_listen),
        cmocka_unit_test(a_role_tells_its_metrics_and_health),
        cmocka_unit_test(a_loop_that_stands_still_is_not_live),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
