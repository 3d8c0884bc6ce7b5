/* Saying that someone has seen an alarm. The only request that changes anything: it must come from a page of
 * this server or from a program, never from a form or script of another site (docs/api.md, "Who may write").
 */
#include "base/clock.h"
#include "base/json_writer.h"
#include "notify/acknowledge.h"
#include "web/api.h"
#include "web/query.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* --- who may write --- */

/* The part of "http://host:port" behind the slashes. */
static const char *origin_host(const char *origin)
{
    const char *slashes = strstr(origin, "://");
    return slashes ? slashes + 3 : "";
}

/* A browser sends a header of this name only after asking the server whether it may, which this one never
 * answers: another site's script cannot. Its Origin, where there is one, must be ours as well. */
static bool may_write(const struct http_request *request, struct http_response *response)
{
    const char *own = http_request_header(request, "X-Chamberlain-Request");
    const char *origin = http_request_header(request, "Origin"), *host = http_request_header(request, "Host");
    const char *type = http_request_header(request, "Content-Type");
    if (own == NULL || strcmp(own, "1") != 0)
        http_problem(response, 403, "the header 'X-Chamberlain-Request: 1' is missing");
    else if (origin && (host == NULL || strcasecmp(origin_host(origin), host) != 0))
        http_problem(response, 403, "the request comes from another site");
    else if (type == NULL || strncasecmp(type, "application/json", strlen("application/json")) != 0 ||
             (type[strlen("application/json")] != '\0' &&
              strchr("; ", type[strlen("application/json")]) == NULL))
        http_problem(response, 415, "the body must be application/json, and say so in Content-Type");
    else
        return true;
    return false;
}

/* --- the body --- */

static size_t count_characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

static bool read_body(const struct http_request *request, struct http_response *response,
                      struct acknowledgement *acknowledgement)
{
    json_error_t parse;
    json_t *body = json_loadb(request->body, request->body_length, JSON_REJECT_DUPLICATES, &parse);
    const json_t *by = json_object_get(body, "by"), *comment = json_object_get(body, "comment");
    size_t known = (by ? 1u : 0u) + (comment ? 1u : 0u);
    if (body == NULL)
        http_problem(response, 400, "the body is not JSON: %.200s", parse.text);
    else if (!json_is_object(body) || json_object_size(body) != known)
        http_problem(response, 400, "the body takes 'by' and 'comment', and nothing else");
    else if (!json_is_string(by) || json_string_length(by) == 0 ||
             count_characters(json_string_value(by)) > 100)
        http_problem(response, 400, "'by' says who has seen it, in 1 to 100 characters");
    else if (comment && (!json_is_string(comment) || count_characters(json_string_value(comment)) > 1000))
        http_problem(response, 400, "'comment' takes up to 1,000 characters");
    else {
        snprintf(acknowledgement->by, sizeof acknowledgement->by, "%s", json_string_value(by));
        snprintf(acknowledgement->comment, sizeof acknowledgement->comment, "%s",
                 comment ? json_string_value(comment) : "");
        acknowledgement->at_us = clock_wall_us() / 1000 * 1000;
        json_decref(body);
        return true;
    }
    json_decref(body);
    return false;
}

/* --- to NATS, on its loop --- */

/* Belongs to the waiting thread and to the loop until each has let go of it. */
struct errand {
    struct api *api;
    char id[ACKNOWLEDGE_ID_BYTES];
    struct acknowledgement acknowledgement;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool answered;
    int holders;
    struct error error;
};

static void let_go(struct errand *errand)
{
    pthread_mutex_lock(&errand->lock);
    bool last = --errand->holders == 0;
    pthread_mutex_unlock(&errand->lock);
    if (!last)
        return;
    pthread_cond_destroy(&errand->done);
    pthread_mutex_destroy(&errand->lock);
    free(errand);
}

static void on_put(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    struct errand *errand = arg;
    if (code == 0)
        board_on_acknowledged(errand->api->board, errand->id, errand->acknowledgement.by,
                              errand->acknowledgement.comment, errand->acknowledgement.at_us);
    pthread_mutex_lock(&errand->lock);
    errand->error.code = 0;
    if (code)
        errand->error = *error;
    errand->answered = true;
    pthread_cond_signal(&errand->done);
    pthread_mutex_unlock(&errand->lock);
    let_go(errand);
}

static void run_put(void *target, void *argument)
{
    struct api *api = target;
    struct errand *errand = argument;
    acknowledge_put(api->bus, api->cell, errand->id, &errand->acknowledgement, on_put, errand);
}

static struct errand *errand_new(struct api *api, const char *id,
                                 const struct acknowledgement *acknowledgement)
{
    struct errand *errand = calloc(1, sizeof *errand);
    if (errand == NULL)
        return NULL;
    errand->api = api;
    snprintf(errand->id, sizeof errand->id, "%s", id);
    errand->acknowledgement = *acknowledgement;
    errand->holders = 2;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&errand->done, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&errand->lock, NULL);
    return errand;
}

/* 0 once NATS has it. */
static int put_and_wait(struct api *api, const char *id, const struct acknowledgement *acknowledgement,
                        struct error *err)
{
    struct errand *errand = errand_new(api, id, acknowledgement);
    struct timespec until;
    if (errand == NULL)
        return error_set(err, ERR_UNAVAILABLE, "no memory to acknowledge an alarm");
    mailbox_post(api->mailbox, run_put, api, errand);
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += API_ACKNOWLEDGE_MS / 1000;
    pthread_mutex_lock(&errand->lock);
    for (int waited = 0; !errand->answered && waited == 0;)
        waited = pthread_cond_timedwait(&errand->done, &errand->lock, &until);
    *err = errand->error;
    if (!errand->answered)
        error_set(err, ERR_TIMEOUT, "NATS did not answer; it may or may not have been noted");
    pthread_mutex_unlock(&errand->lock);
    let_go(errand);
    return err->code;
}

void api_acknowledge(void *arg, const struct http_request *request, struct http_response *response)
{
    static const char *const allowed[] = {NULL};
    struct api *api = arg;
    struct acknowledgement acknowledgement;
    struct error err = {0};
    if (!may_write(request, response) || query_open(request, response, allowed, NULL).failed ||
        !read_body(request, response, &acknowledgement))
        return;
    struct strbuf known;
    strbuf_init(&known);
    bool found = acknowledge_is_id(request->id) && board_write_alarm(api->board, request->id, &known);
    strbuf_free(&known);
    if (!found) {
        http_problem(response, 404, "no alarm '%.100s' is among the newest %d", request->id,
                     BOARD_ALARMS_MAX);
        return;
    }
    if (put_and_wait(api, request->id, &acknowledgement, &err)) {
        http_problem(response, 503, "%s", err.text);
        return;
    }
    api_json(response);
    board_write_alarm(api->board, request->id, &response->body);
}
