#include "cli/session.h"

#include "bus/jetstream.h"
#include "bus/names.h"
#include "chart/context.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_DIR "chamberlain-data"

enum { PAGE_ROWS = 500, ROLL_CALL_TIMEOUT_MS = 1000, TIME_OVER_REPEAT_MS = 20 };

static int locate_by_dir(struct session *session, const char *dir, struct error *err)
{
    char path[SESSION_PATH_BYTES + 32];
    snprintf(session->dir, sizeof session->dir, "%s", dir);
    snprintf(path, sizeof path, "%s/cluster.json", dir);
    json_error_t parse;
    json_t *cluster = json_load_file(path, 0, &parse);
    if (cluster == NULL)
        return error_set(
            err, ERR_NOT_FOUND,
            "no cluster in %s (%s); start one with `chamberlain up --dir %s`, or set CHAMBERLAIN_NATS and "
            "CHAMBERLAIN_STORE",
            dir, parse.text, dir);
    const char *nats = json_string_value(json_object_get(cluster, "nats"));
    const char *store = json_string_value(json_object_get(cluster, "store"));
    const char *cell = json_string_value(json_object_get(cluster, "cell"));
    if (nats && store) {
        snprintf(session->nats_url, sizeof session->nats_url, "%s", nats);
        snprintf(session->store_url, sizeof session->store_url, "%s", store);
        snprintf(session->cell, sizeof session->cell, "%s", cell ? cell : "");
    }
    json_decref(cluster);
    return nats && store ? 0
                         : error_set(err, ERR_CORRUPT,
                                     "%s names no NATS or store; start the cluster again: "
                                     "`chamberlain up --dir %s` writes it",
                                     path, dir);
}

int session_locate(struct session *session, const char *dir, struct error *err)
{
    const char *nats = getenv("CHAMBERLAIN_NATS");
    const char *store = getenv("CHAMBERLAIN_STORE");
    const char *cell = getenv("CHAMBERLAIN_CELL");
    if (dir)
        return locate_by_dir(session, dir, err);
    if (nats == NULL && store == NULL)
        return locate_by_dir(session, DEFAULT_DIR, err);
    if (nats == NULL || store == NULL)
        return error_set(err, ERR_INVALID, "%s is set, but not %s; set both, or give --dir",
                         nats ? "CHAMBERLAIN_NATS" : "CHAMBERLAIN_STORE",
                         nats ? "CHAMBERLAIN_STORE" : "CHAMBERLAIN_NATS");
    snprintf(session->nats_url, sizeof session->nats_url, "%s", nats);
    snprintf(session->store_url, sizeof session->store_url, "%s", store);
    snprintf(session->cell, sizeof session->cell, "%s", cell ? cell : "");
    return 0;
}

/* Opening a SQLite store makes the file where there is none: right for `up`, and a trap for a mistyped path.
 */
static int check_store_exists(const struct session *session, struct error *err)
{
    static const char scheme[] = "sqlite:";
    const char *path = session->store_url + strlen(scheme);
    if (strncmp(session->store_url, scheme, strlen(scheme)) == 0 && access(path, F_OK) != 0)
        return error_set(err, ERR_NOT_FOUND, "no store at %s; is the path right? `chamberlain up` makes one",
                         path);
    return 0;
}

int session_open(struct session *session, const char *dir, int needs, struct error *err)
{
    *session = (struct session){0};
    int code = session_locate(session, dir, err);
    if (code)
        return code;
    uv_loop_init(&session->loop);
    code = mailbox_open(&session->loop, &session->mailbox, err);
    session->wait = store_wait_new();
    if (code == 0 && session->wait == NULL)
        code = error_set(err, ERR_NO_MEMORY, "no memory");
    if (code == 0 && (needs & SESSION_STORE))
        code = check_store_exists(session, err);
    if (code == 0 && (needs & SESSION_STORE))
        code = store_open(session->store_url, NULL, &session->store, err);
    struct bus_options options = {.url = session->nats_url,
                                  .name = "chamberlain-cli",
                                  .credentials_file = getenv("CHAMBERLAIN_NATS_CREDENTIALS"),
                                  .ca_file = getenv("CHAMBERLAIN_NATS_CA"),
                                  .certificate_file = getenv("CHAMBERLAIN_NATS_CERTIFICATE"),
                                  .key_file = getenv("CHAMBERLAIN_NATS_KEY"),
                                  .must_be_there = true};
    if (code == 0 && (needs & SESSION_NATS))
        code = bus_open(&options, &session->loop, session->mailbox, NULL, &session->bus, err);
    if (code == 0 && session->bus) /* the bus tells of its connection from the loop */
        uv_run(&session->loop, UV_RUN_NOWAIT);
    if (code)
        session_close(session);
    return code;
}

void session_close(struct session *session)
{
    if (session->bus)
        bus_close(session->bus);
    if (session->store)
        store_close(session->store);
    if (session->wait)
        store_wait_free(session->wait);
    if (session->mailbox)
        mailbox_close(session->mailbox);
    uv_run(&session->loop, UV_RUN_DEFAULT);
    uv_loop_close(&session->loop);
    session->bus = NULL;
    session->store = NULL;
    session->wait = NULL;
    session->mailbox = NULL;
}

/* --- NATS --- */

struct answer {
    bool done;
    int code;
    struct error error;
    json_t *response;
};

static void on_call_answer(void *arg, int code, int api_error, const struct error *error,
                           const json_t *response)
{
    (void)api_error;
    struct answer *answer = arg;
    answer->code = code;
    answer->error = *error;
    answer->response = response ? json_deep_copy(response) : NULL;
    answer->done = true;
}

static void on_ask_answer(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    struct answer *answer = arg;
    answer->code = code;
    answer->error = *error;
    if (code == 0) {
        json_error_t parse;
        answer->response = json_loadb(message->data, message->length, 0, &parse);
        if (answer->response == NULL)
            answer->code = error_set(&answer->error, ERR_CORRUPT, "the answer is not JSON: %s", parse.text);
    }
    answer->done = true;
}

static void on_time_over(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

static void ignore_close(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

bool session_run_until(struct session *session, const bool *done, int64_t timeout_ms)
{
    uv_timer_t timer;
    bool over = false;
    uv_timer_init(&session->loop, &timer);
    timer.data = &over;
    /* Repeating: libuv runs a timer that is due before it waits, and would then wait without end. */
    uv_timer_start(&timer, on_time_over, (uint64_t)timeout_ms, TIME_OVER_REPEAT_MS);
    while (!*done && !over)
        uv_run(&session->loop, UV_RUN_ONCE);
    bool in_time = *done;
    bool closed = false;
    timer.data = &closed;
    uv_close((uv_handle_t *)&timer, ignore_close);
    while (!closed)
        uv_run(&session->loop, UV_RUN_NOWAIT);
    return in_time;
}

static json_t *wait_for_answer(struct session *session, struct answer *answer, struct error *err)
{
    /* The bus answers by itself after its time-out: this loop always ends. */
    while (!answer->done)
        uv_run(&session->loop, UV_RUN_ONCE);
    if (answer->code && err)
        *err = answer->error;
    return answer->response;
}

json_t *session_call(struct session *session, const char *call, const json_t *body, struct error *err)
{
    struct answer answer = {0};
    jetstream_call(session->bus, call, body, SESSION_DEFAULT_TIMEOUT_MS, on_call_answer, &answer);
    return wait_for_answer(session, &answer, err);
}

json_t *session_ask(struct session *session, const char *subject, const char *question, int64_t timeout_ms,
                    struct error *err)
{
    struct answer answer = {0};
    bus_request(session->bus, subject, NULL, 0, question, strlen(question), timeout_ms, on_ask_answer,
                &answer);
    return wait_for_answer(session, &answer, err);
}

int session_waiting_messages(struct session *session, int64_t *count, struct error *err)
{
    char stream[NAMES_BYTES], call[NAMES_BYTES + 16];
    snprintf(call, sizeof call, "STREAM.INFO.%s", names_stream(session->cell, STREAM_NOTIFICATIONS, stream));
    struct error own;
    json_t *info = session_call(session, call, NULL, &own);
    if (info == NULL) {
        if (err)
            *err = own;
        return own.code;
    }
    *count = json_integer_value(json_object_get(json_object_get(info, "state"), "messages"));
    json_decref(info);
    return 0;
}

/* One question to each defender, all at once. */
struct roll_call {
    json_t *answers;
    size_t waiting;
    bool done;
};

static void on_roll_answer(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    (void)error;
    struct roll_call *call = arg;
    json_t *answer = code ? NULL : json_loadb(message->data, message->length, 0, NULL);
    if (answer)
        json_array_append_new(call->answers, answer);
    call->done = --call->waiting == 0;
}

static void ask_member(struct session *session, const char *id, struct roll_call *call)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    snprintf(own, sizeof own, "cluster.ask.%s", id);
    call->waiting++;
    bus_request(session->bus, names_subject(session->cell, own, subject), NULL, 0, "status", strlen("status"),
                ROLL_CALL_TIMEOUT_MS, on_roll_answer, call);
}

/* Who has claimed an ID (a released one leaves its key behind: nobody answers for it). */
static json_t *claimed_ids(struct session *session, const char *ids, struct error *err)
{
    char bucket[NAMES_BYTES], call[NAMES_BYTES + 16];
    snprintf(call, sizeof call, "STREAM.INFO.KV_%s", names_stream(session->cell, ids, bucket));
    json_t *body = json_pack("{s:s}", "subjects_filter", ">");
    json_t *info = session_call(session, call, body, err);
    json_decref(body);
    json_t *subjects = json_incref(json_object_get(json_object_get(info, "state"), "subjects"));
    json_decref(info);
    return subjects;
}

static int compare_ids(const void *a, const void *b)
{
    const char *left = json_string_value(json_object_get(*(json_t *const *)a, "id"));
    const char *right = json_string_value(json_object_get(*(json_t *const *)b, "id"));
    return strverscmp(left ? left : "", right ? right : "");
}

static json_t *sorted_by_id(json_t *answers)
{
    size_t count = json_array_size(answers);
    json_t **items = calloc(count + 1, sizeof *items);
    if (items == NULL)
        return answers;
    for (size_t i = 0; i < count; i++)
        items[i] = json_incref(json_array_get(answers, i));
    qsort(items, count, sizeof *items, compare_ids);
    json_array_clear(answers);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(answers, items[i]);
    free(items);
    return answers;
}

static json_t *call_roll(struct session *session, const char *ids, const char *first, struct error *err)
{
    struct roll_call call = {.answers = json_array()};
    json_t *subjects = claimed_ids(session, ids, err), *count;
    const char *subject;
    json_object_foreach(subjects, subject, count)
    {
        const char *id = strrchr(subject, '.');
        if (id)
            ask_member(session, id + 1, &call);
    }
    if (subjects == NULL) /* no bucket yet: perhaps the first is just starting */
        ask_member(session, first, &call);
    json_decref(subjects);
    if (call.waiting > 0)
        session_run_until(session, &call.done, 2 * ROLL_CALL_TIMEOUT_MS);
    return sorted_by_id(call.answers);
}

json_t *session_defenders(struct session *session, struct error *err)
{
    return call_roll(session, "stable-ids", "defender-0", err);
}

json_t *session_collectors(struct session *session, struct error *err)
{
    return call_roll(session, "collector-stable-ids", "collector-0", err);
}

/* --- store --- */

struct store_reply *session_reply(struct session *session)
{
    return store_wait_reply(session->wait);
}

int session_each_context(struct session *session, const struct store_list_query *given, session_visit *visit,
                         void *arg, struct error *err)
{
    struct store_list_query query = *given;
    query.limit = PAGE_ROWS;
    char after[CONTEXT_NAME_MAX_BYTES + 1];
    for (bool more = true; more;) {
        store_list_contexts(session->store, &query, store_wait_done, session->wait);
        struct store_reply *reply = session_reply(session);
        int code = reply->code;
        if (code && err)
            *err = reply->error;
        for (size_t i = 0; code == 0 && i < reply->completion_count; i++)
            code = visit(arg, &reply->completions[i]);
        more = code == 0 && reply->more && reply->completion_count > 0;
        if (more) {
            const struct store_completion *last = &reply->completions[reply->completion_count - 1];
            snprintf(after, sizeof after, "%s", last->key.context_id);
            query.after_context_id = after;
            query.after_end_us = last->end_us;
        }
        store_reply_free(reply);
        if (code)
            return code;
    }
    return 0;
}
