#include "notify/sink.h"

#include "base/clock.h"
#include "notify/render.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SECRET_MAX_BYTES = 4096,
    CONNECT_TIMEOUT_MS = 5000,
    ANSWER_KEPT_BYTES = 200 /* of what the sink says when it refuses */
};

struct http {
    const struct sink_config *config;
    CURL *easy;
    char url[2048];
    char said[ANSWER_KEPT_BYTES + 1];
    size_t said_length;
    char error[CURL_ERROR_SIZE];
};

/* --- files that hold secrets: read at each message, so that a new one is in force at once --- */

static int read_secret(const char *path, char secret[static SECRET_MAX_BYTES + 1], size_t *length,
                       struct error *err)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return error_set(err, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    *length = fread(secret, 1, SECRET_MAX_BYTES + 1, file);
    bool failed = ferror(file);
    fclose(file);
    while (*length > 0 && (secret[*length - 1] == '\n' || secret[*length - 1] == '\r'))
        --*length;
    if (failed || *length == 0 || *length > SECRET_MAX_BYTES)
        return error_set(err, ERR_IO, "%s does not hold a secret of 1 to %d bytes", path, SECRET_MAX_BYTES);
    secret[*length] = '\0';
    return 0;
}

/* --- curl --- */

static size_t on_answer(char *data, size_t size, size_t count, void *arg)
{
    struct http *http = arg;
    size_t length = size * count, room = ANSWER_KEPT_BYTES - http->said_length;
    memcpy(http->said + http->said_length, data, length < room ? length : room);
    http->said_length += length < room ? length : room;
    http->said[http->said_length] = '\0';
    return length;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a;
    (void)b;
    (void)c;
    (void)d;
    const struct sink_job *job = arg;
    return atomic_load(job->stop);
}

static int http_open(const struct sink_config *config, void **state, struct error *err)
{
    struct http *http = calloc(1, sizeof *http);
    if (http == NULL || (http->easy = curl_easy_init()) == NULL) {
        free(http);
        return error_set(err, ERR_NO_MEMORY, "no memory for HTTP");
    }
    size_t length = strlen(config->url);
    while (config->kind == SINK_ALERTMANAGER && length > 0 && config->url[length - 1] == '/')
        length--;
    int written = snprintf(http->url, sizeof http->url, "%.*s%s", (int)length, config->url,
                           config->kind == SINK_ALERTMANAGER ? "/api/v2/alerts" : "");
    if (written < 0 || (size_t)written >= sizeof http->url) {
        curl_easy_cleanup(http->easy);
        free(http);
        return error_set(err, ERR_LIMIT, "the url is longer than %zu bytes", sizeof http->url - 32);
    }
    http->config = config;
    *state = http;
    return 0;
}

static void http_close(void *state)
{
    struct http *http = state;
    curl_easy_cleanup(http->easy);
    free(http);
}

static bool add_header(struct curl_slist **headers, const char *name, const char *value)
{
    char line[SECRET_MAX_BYTES + 128];
    snprintf(line, sizeof line, "%s: %s", name, value);
    struct curl_slist *longer = curl_slist_append(*headers, line);
    explicit_bzero(line, sizeof line);
    if (longer)
        *headers = longer;
    return longer != NULL;
}

static int make_headers(const struct http *http, const char *key, const char *body,
                        struct curl_slist **headers, struct error *err)
{
    const struct sink_config *config = http->config;
    char secret[SECRET_MAX_BYTES + 1], token[SECRET_MAX_BYTES + 16], signature[SIGNATURE_BYTES];
    size_t length;
    int code = 0;
    bool ok = add_header(headers, "Content-Type", "application/json") &&
              add_header(headers, "Idempotency-Key", key) && add_header(headers, "Expect", "");
    if (ok && config->secret_file) {
        code = read_secret(config->secret_file, secret, &length, err);
        if (code == 0)
            code =
                render_signature(secret, length, clock_wall_us() / CLOCK_US_PER_SECOND, body, signature, err);
        ok = code == 0 && add_header(headers, "Chamberlain-Signature", signature);
    }
    if (ok && config->bearer_token_file) {
        code = read_secret(config->bearer_token_file, secret, &length, err);
        snprintf(token, sizeof token, "Bearer %s", code ? "" : secret);
        ok = code == 0 && add_header(headers, "Authorization", token);
        explicit_bzero(token, sizeof token);
    }
    explicit_bzero(secret, sizeof secret);
    if (!ok && code == 0)
        code = error_set(err, ERR_NO_MEMORY, "no memory for headers");
    return code;
}

static void set_options(struct http *http, const struct sink_job *job, const char *body,
                        struct curl_slist *headers)
{
    CURL *easy = http->easy;
    const struct sink_config *config = http->config;
    curl_easy_reset(easy); /* connections stay open */
    curl_easy_setopt(easy, CURLOPT_URL, http->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY,
                     ""); /* whatever the environment says: sinks are named in one file */
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)config->timeout_ms);
    curl_easy_setopt(
        easy, CURLOPT_CONNECTTIMEOUT_MS,
        (long)(config->timeout_ms < CONNECT_TIMEOUT_MS ? config->timeout_ms : CONNECT_TIMEOUT_MS));
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "chamberlain");
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_answer);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, http->error);
    curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(easy, CURLOPT_XFERINFODATA, (void *)(uintptr_t)job);
    if (config->ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, config->ca_file);
    if (config->certificate_file) {
        curl_easy_setopt(easy, CURLOPT_SSLCERT, config->certificate_file);
        curl_easy_setopt(easy, CURLOPT_SSLKEY, config->key_file);
    }
}

static void judge_answer(struct http *http, CURLcode done, struct sink_result *result)
{
    long status = 0;
    curl_off_t retry_after_s = 0;
    if (done != CURLE_OK) {
        sink_say(result, SINK_FAILED, "%s", *http->error ? http->error : curl_easy_strerror(done));
        return;
    }
    curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(http->easy, CURLINFO_RETRY_AFTER, &retry_after_s);
    result->retry_after_ms = retry_after_s < 24 * 3600 ? retry_after_s * 1000 : INT64_C(24) * 3600 * 1000;
    if (status >= 200 && status < 300)
        sink_say(result, SINK_ACCEPTED, "HTTP %ld", status);
    else if (status >= 400 && status < 500 && status != 408 && status != 429)
        sink_say(result, SINK_REFUSED, "HTTP %ld: %s", status, http->said);
    else if (status >= 300 && status < 400)
        sink_say(result, SINK_FAILED, "HTTP %ld: it has moved; write the new address into the configuration",
                 status);
    else
        sink_say(result, SINK_FAILED, "HTTP %ld: %s", status, http->said);
}

static void http_send(void *state, const struct sink_job *job, struct sink_result *result)
{
    struct http *http = state;
    struct curl_slist *headers = NULL;
    struct strbuf body;
    struct error err;
    strbuf_init(&body);
    int code = 0;
    if (http->config->kind == SINK_ALERTMANAGER)
        code = render_alertmanager(job->message, clock_wall_us() / 1000, http->config->resolve_after_ms,
                                   &body, &err);
    const char *text = http->config->kind == SINK_ALERTMANAGER ? body.text : job->message;
    if (code == 0)
        code = make_headers(http, job->key, text, &headers, &err);
    if (code == 0) {
        http->said_length = 0;
        http->said[0] = http->error[0] = '\0';
        set_options(http, job, text, headers);
        judge_answer(http, curl_easy_perform(http->easy), result);
    } else {
        sink_say(result, code == ERR_CORRUPT ? SINK_REFUSED : SINK_FAILED, "%s", err.text);
    }
    curl_slist_free_all(headers);
    strbuf_free(&body);
}

const struct sink_transport sink_http = {http_open, http_send, http_close};
