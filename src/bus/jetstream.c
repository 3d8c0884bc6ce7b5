#include "bus/jetstream.h"

#include "base/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct js_call {
    char what[160]; /* for messages: the call or the subject */
    jetstream_answer *answer;
    void *arg;
};

static struct js_call *js_call_new(const char *what, jetstream_answer *answer, void *arg)
{
    struct js_call *call;
    while ((call = calloc(1, sizeof *call)) == NULL)
        uv_sleep(1);
    snprintf(call->what, sizeof call->what, "%s", what);
    call->answer = answer;
    call->arg = arg;
    return call;
}

static int api_error_to_code(int http_code, int api_error)
{
    switch (api_error) {
    case JETSTREAM_CONSUMER_NOT_FOUND:
    case JETSTREAM_CONSUMER_DOES_NOT_EXIST:
    case JETSTREAM_NO_MESSAGE_FOUND:
    case JETSTREAM_STREAM_NOT_FOUND:
        return ERR_NOT_FOUND;
    case JETSTREAM_STREAM_NAME_IN_USE:
    case JETSTREAM_WRONG_LAST_SEQUENCE:
    case JETSTREAM_WRONG_LAST_SEQUENCE_CONSTANT:
    case JETSTREAM_WORK_QUEUE_CONSUMER_NOT_UNIQUE:
        return ERR_CONFLICT;
    default:
        return http_code == 404 ? ERR_NOT_FOUND : http_code >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
    }
}

static void on_answer(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    struct js_call *call = arg;
    struct error err = *error;
    json_t *response = NULL;
    int api_error = 0;
    if (code) {
        error_prefix(&err, code, "%s", call->what);
    } else {
        json_error_t parse;
        response = json_loadb(message->data, message->length, 0, &parse);
        if (response == NULL && json_error_code(&parse) == json_error_numeric_overflow)
            /* Older servers write -1 as 2^64-1 here and there: better all numbers rounded than none read. */
            response = json_loadb(message->data, message->length, JSON_DECODE_INT_AS_REAL, &parse);
        const json_t *refusal = json_object_get(response, "error");
        if (response == NULL) {
            code = error_set(&err, ERR_CORRUPT, "%s: the answer is not JSON: %s", call->what, parse.text);
        } else if (refusal) {
            api_error = (int)json_integer_value(json_object_get(refusal, "err_code"));
            code = api_error_to_code((int)json_integer_value(json_object_get(refusal, "code")), api_error);
            const char *description = json_string_value(json_object_get(refusal, "description"));
            error_set(&err, code, "%s: %s (%d)", call->what, description ? description : "refused",
                      api_error);
        }
    }
    call->answer(call->arg, code, api_error, &err, code ? NULL : response);
    json_decref(response);
    free(call);
}

void jetstream_call(struct bus *bus, const char *name, const json_t *body, int64_t timeout_ms,
                    jetstream_answer *answer, void *arg)
{
    struct strbuf subject;
    strbuf_init(&subject);
    strbuf_printf(&subject, "$JS.API.%s", name); /* too long a one is refused by the bus */
    char *text = NULL;
    while (body && (text = json_dumps(body, JSON_COMPACT)) == NULL)
        uv_sleep(1);
    bus_request(bus, subject.text, NULL, 0, text ? text : "", text ? strlen(text) : 0, timeout_ms, on_answer,
                js_call_new(name, answer, arg));
    free(text);
    strbuf_free(&subject);
}

void jetstream_publish(struct bus *bus, const char *subject, const struct bus_header *headers,
                       size_t header_count, const void *data, size_t length, jetstream_answer *answer,
                       void *arg)
{
    bus_request(bus, subject, headers, header_count, data, length, 0, on_answer,
                js_call_new(subject, answer, arg));
}

/* --- streams --- */

struct ensure_call {
    struct bus *bus;
    char name[BUS_SUBJECT_MAX_BYTES];
    char subject[BUS_SUBJECT_MAX_BYTES];
    char retention[16];
    jetstream_answer *answer;
    void *arg;
};

static json_t *stream_config(const struct stream_spec *spec)
{
    json_t *config = json_pack("{s:s, s:[s], s:s, s:s, s:i, s:s}", "name", spec->name, "subjects",
                               spec->subject, "retention", spec->retention, "storage", "file", "num_replicas",
                               spec->replicas ? spec->replicas : 1, "discard",
                               spec->max_bytes && strcmp(spec->retention, "workqueue") == 0 ? "new" : "old");
    if (spec->max_age_s)
        json_object_set_new(config, "max_age", json_integer(spec->max_age_s * INT64_C(1000000000)));
    if (spec->max_bytes)
        json_object_set_new(config, "max_bytes", json_integer(spec->max_bytes));
    if (spec->duplicate_window_s)
        json_object_set_new(config, "duplicate_window",
                            json_integer(spec->duplicate_window_s * INT64_C(1000000000)));
    return config;
}

static int check_stream(const struct ensure_call *ensure, const json_t *response, struct error *err)
{
    const json_t *config = json_object_get(response, "config");
    const char *retention = json_string_value(json_object_get(config, "retention"));
    const char *storage = json_string_value(json_object_get(config, "storage"));
    const json_t *subjects = json_object_get(config, "subjects");
    const char *subject = json_string_value(json_array_get(subjects, 0));
    const char *difference = NULL;
    if (retention == NULL || strcmp(retention, ensure->retention) != 0)
        difference = "retention";
    else if (storage == NULL || strcmp(storage, "file") != 0)
        difference = "storage";
    else if (json_array_size(subjects) != 1 || subject == NULL || strcmp(subject, ensure->subject) != 0)
        difference = "subjects";
    if (difference)
        return error_set(err, ERR_CONFLICT,
                         "stream %s exists with other %s (wanted: retention %s, file storage, subject %s); "
                         "mend it with `nats stream edit`, or delete it and it is created again",
                         ensure->name, difference, ensure->retention, ensure->subject);
    return 0;
}

static void on_stream_info(void *arg, int code, int api_error, const struct error *error,
                           const json_t *response)
{
    struct ensure_call *ensure = arg;
    struct error err = *error;
    if (code == 0)
        code = check_stream(ensure, response, &err);
    ensure->answer(ensure->arg, code, api_error, &err, code ? NULL : response);
    free(ensure);
}

static void on_stream_created(void *arg, int code, int api_error, const struct error *error,
                              const json_t *response)
{
    struct ensure_call *ensure = arg;
    if (api_error == JETSTREAM_STREAM_NAME_IN_USE) {
        char call[BUS_SUBJECT_MAX_BYTES + 16];
        snprintf(call, sizeof call, "STREAM.INFO.%s", ensure->name);
        jetstream_call(ensure->bus, call, NULL, 0, on_stream_info, ensure);
        return;
    }
    ensure->answer(ensure->arg, code, api_error, error, response);
    free(ensure);
}

void stream_ensure(struct bus *bus, const struct stream_spec *spec, jetstream_answer *answer, void *arg)
{
    struct ensure_call *ensure;
    while ((ensure = calloc(1, sizeof *ensure)) == NULL)
        uv_sleep(1);
    ensure->bus = bus;
    ensure->answer = answer;
    ensure->arg = arg;
    snprintf(ensure->name, sizeof ensure->name, "%s", spec->name);
    snprintf(ensure->subject, sizeof ensure->subject, "%s", spec->subject);
    snprintf(ensure->retention, sizeof ensure->retention, "%s", spec->retention);
    char call[BUS_SUBJECT_MAX_BYTES + 16];
    snprintf(call, sizeof call, "STREAM.CREATE.%s", spec->name);
    json_t *config = stream_config(spec);
    jetstream_call(bus, call, config, 0, on_stream_created, ensure);
    json_decref(config);
}
