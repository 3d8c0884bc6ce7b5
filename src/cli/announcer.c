#include "cli/announcer.h"

#include "base/clock.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "chart/context.h"
#include "defender/pipeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

enum { POLL_MS = 100, MESSAGE_ID_BYTES = CONTEXT_NAME_MAX_BYTES + 64 };

/* One context, held or on its way. */
struct announcement {
    struct announcer *announcer;
    struct arena arena;
    const char *key; /* of the held ones: the three names with their terminators */
    size_t key_length;
    const char *subject, *body;
    char message_id[MESSAGE_ID_BYTES];
    const char *context_id;
    bool no_ripple;
    int64_t give_up_ns;
    uv_timer_t timer; /* between attempts */
    UT_hash_handle hh;
};

void announcer_begin(struct announcer *announcer, struct session *session, bool alarms)
{
    *announcer = (struct announcer){.session = session, .alarms = alarms};
    progress_begin(&announcer->progress, "announced", 0);
}

static void fail(struct announcer *announcer, int code, const struct error *error)
{
    if (announcer->code)
        return;
    announcer->code = code;
    announcer->error = *error;
}

static void announcement_free(struct announcement *announcement)
{
    arena_free(&announcement->arena);
    free(announcement);
}

/* --- sending --- */

static void send_one(struct announcement *announcement);

static void on_closed(uv_handle_t *handle)
{
    struct announcement *announcement = handle->data;
    announcement->announcer->in_flight--;
    announcement_free(announcement);
}

static void on_retry(uv_timer_t *timer)
{
    send_one(timer->data);
}

static void on_answer(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    struct announcement *announcement = arg;
    struct announcer *announcer = announcement->announcer;
    if (error_is_transient(code) && announcer->code == 0 && clock_mono_ns() < announcement->give_up_ns) {
        uv_timer_start(&announcement->timer, on_retry, ANNOUNCER_RETRY_MS, 0);
        return;
    }
    if (code) {
        fail(announcer, code, error);
    } else {
        uint64_t sequence = (uint64_t)json_integer_value(json_object_get(response, "seq"));
        announcer->last_sequence = sequence > announcer->last_sequence ? sequence : announcer->last_sequence;
        announcer->announced++;
        progress_update(&announcer->progress, (int64_t)announcer->announced);
    }
    uv_close((uv_handle_t *)&announcement->timer, on_closed);
}

/* The message id stays the same over the attempts: one that was taken after all is not taken twice. */
static void send_one(struct announcement *announcement)
{
    struct announcer *announcer = announcement->announcer;
    struct bus_header headers[3] = {{"Nats-Msg-Id", announcement->message_id},
                                    {PIPELINE_HEADER_REPLAY, announcer->alarms ? "alarms" : "quiet"}};
    size_t count = 2;
    if (announcement->no_ripple)
        headers[count++] = (struct bus_header){PIPELINE_HEADER_RIPPLE, "no"};
    jetstream_publish(announcer->session->bus, announcement->subject, headers, count, announcement->body,
                      strlen(announcement->body), on_answer, announcement);
}

static void launch(struct announcement *announcement, bool no_ripple)
{
    struct announcer *announcer = announcement->announcer;
    int64_t now_us = clock_wall_us();
    announcer->last_id_us = now_us > announcer->last_id_us ? now_us : announcer->last_id_us + 1;
    snprintf(announcement->message_id, sizeof announcement->message_id, "replay-%s-%" PRId64,
             announcement->context_id, announcer->last_id_us);
    announcement->no_ripple = no_ripple;
    announcement->give_up_ns = clock_mono_ns() + (int64_t)ANNOUNCER_PATIENCE_MS * 1000000;
    uv_timer_init(&announcer->session->loop, &announcement->timer);
    announcement->timer.data = announcement;
    announcer->in_flight++;
    send_one(announcement);
    uv_run(&announcer->session->loop, UV_RUN_NOWAIT);
    while (announcer->in_flight >= ANNOUNCER_IN_FLIGHT_MAX)
        uv_run(&announcer->session->loop, UV_RUN_ONCE);
}

/* --- holding --- */

static int make_key(struct announcement *announcement, const struct store_completion *completion)
{
    const char *const parts[] = {completion->key.tool, completion->key.chamber,
                                 completion->recipe ? completion->recipe : ""};
    size_t lengths[3], total = 0;
    for (size_t i = 0; i < 3; i++)
        total += lengths[i] = strlen(parts[i]) + 1;
    char *key = arena_alloc(&announcement->arena, total);
    if (key == NULL)
        return ERR_NO_MEMORY;
    announcement->key = key;
    announcement->key_length = total;
    for (size_t i = 0; i < 3; key += lengths[i++])
        memcpy(key, parts[i], lengths[i]);
    return 0;
}

static int make_announcement(struct announcer *announcer, const struct store_completion *completion,
                             struct announcement **out, struct error *err)
{
    char subject[NAMES_BYTES];
    int code = names_completed(announcer->session->cell, completion->key.tool, completion->key.chamber,
                               subject, err);
    if (code)
        return error_prefix(err, code, "context %s", completion->key.context_id);
    struct announcement *announcement = calloc(1, sizeof *announcement);
    if (announcement == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to announce %s", completion->key.context_id);
    announcement->announcer = announcer;
    arena_init(&announcement->arena, 2048);
    announcement->subject = arena_strdup(&announcement->arena, subject);
    announcement->body =
        arena_strdup(&announcement->arena, completion->announcement ? completion->announcement : "");
    announcement->context_id = arena_strdup(&announcement->arena, completion->key.context_id);
    if (make_key(announcement, completion) || announcement->subject == NULL || announcement->body == NULL ||
        announcement->context_id == NULL) {
        announcement_free(announcement);
        return error_set(err, ERR_NO_MEMORY, "no memory to announce %s", completion->key.context_id);
    }
    *out = announcement;
    return 0;
}

int announcer_offer(struct announcer *announcer, const struct store_completion *completion, bool selected,
                    struct error *err)
{
    if (announcer->code) {
        *err = announcer->error;
        return announcer->code;
    }
    if (completion->announcement == NULL || *completion->announcement == '\0') {
        announcer->skipped += selected;
        return 0;
    }
    struct announcement *announcement, *held;
    int code = make_announcement(announcer, completion, &announcement, err);
    if (code)
        return code;
    HASH_FIND(hh, announcer->held, announcement->key, announcement->key_length, held);
    if (held) {
        HASH_DEL(announcer->held, held);
        launch(held, selected);
    }
    if (selected)
        HASH_ADD_KEYPTR(hh, announcer->held, announcement->key, announcement->key_length, announcement);
    else
        announcement_free(announcement);
    return 0;
}

int announcer_finish(struct announcer *announcer, struct error *err)
{
    struct announcement *held, *next;
    HASH_ITER(hh, announcer->held, held, next)
    {
        HASH_DEL(announcer->held, held);
        if (announcer->code == 0)
            launch(held, false);
        else
            announcement_free(held);
    }
    while (announcer->in_flight > 0)
        uv_run(&announcer->session->loop, UV_RUN_ONCE);
    progress_end(&announcer->progress);
    if (announcer->code && err)
        *err = announcer->error;
    return announcer->code;
}

/* --- waiting --- */

struct stream_state {
    int64_t messages;
    uint64_t first_sequence;
};

static int look(struct session *session, struct stream_state *state, struct error *err)
{
    char stream[NAMES_BYTES], call[NAMES_BYTES + 16];
    snprintf(call, sizeof call, "STREAM.INFO.%s", names_stream(session->cell, STREAM_NOTIFICATIONS, stream));
    json_t *info = session_call(session, call, NULL, err);
    if (info == NULL)
        return err->code;
    const json_t *found = json_object_get(info, "state");
    state->messages = json_integer_value(json_object_get(found, "messages"));
    state->first_sequence = (uint64_t)json_integer_value(json_object_get(found, "first_seq"));
    json_decref(info);
    return 0;
}

int announcer_check_defenders(struct session *session, struct error *err)
{
    json_t *defenders = session_defenders(session, NULL);
    size_t count = json_array_size(defenders);
    json_decref(defenders);
    return count > 0
               ? 0
               : error_set(
                     err, ERR_UNAVAILABLE,
                     "no defender is running, so nothing would be judged; start one with `chamberlain up`");
}

int announcer_wait(struct announcer *announcer, struct error *err)
{
    if (announcer->announced == 0)
        return 0;
    int code = announcer_check_defenders(announcer->session, err);
    if (code)
        return code;
    struct progress progress;
    struct stream_state state = {0}, last = {0};
    int64_t total = (int64_t)announcer->announced, moved_ns = clock_mono_ns();
    bool done = false;
    const bool never = false;
    progress_begin(&progress, "judged again", total);
    while (!done && code == 0) {
        code = look(announcer->session, &state, err);
        if (code == 0 && (state.messages != last.messages || state.first_sequence != last.first_sequence))
            moved_ns = clock_mono_ns();
        last = state;
        /* In a fab at work the stream is never empty: it is enough that it begins after the last of ours. */
        done = code == 0 && (state.messages == 0 || state.first_sequence > announcer->last_sequence);
        if (error_is_transient(code))
            code = 0;
        progress_update(&progress, state.messages < total ? total - state.messages : 0);
        if (code == 0 && !done && clock_mono_ns() - moved_ns > (int64_t)ANNOUNCER_STALL_MS * 1000000)
            code = error_set(err, ERR_TIMEOUT,
                             "%" PRId64
                             " messages wait in the stream and none has left it for %d s; see `chamberlain "
                             "status`",
                             state.messages, ANNOUNCER_STALL_MS / 1000);
        if (code == 0 && !done)
            session_run_until(announcer->session, &never, POLL_MS);
    }
    progress_end(&progress);
    return code;
}
