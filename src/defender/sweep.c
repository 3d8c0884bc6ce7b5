#include "defender/sweep.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "chart/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sweep {
    struct sweep_ports ports;
    char cell[64];
    int64_t age_ms;
    uv_timer_t timer;
    bool busy;         /* a round is under way */
    size_t publishing; /* announcements not acknowledged yet */
    size_t announced;  /* in this round */
    struct store_reply *outbox;
    bool closing;
    bool timer_closed;
};

static void free_if_done(struct sweep *sweep)
{
    if (sweep->closing && sweep->timer_closed && !sweep->busy)
        free(sweep);
}

static void end_round(struct sweep *sweep)
{
    store_reply_free(sweep->outbox);
    sweep->outbox = NULL;
    if (sweep->announced > 0)
        LOG_INFO("announced again from the store", LOG_INT("contexts", sweep->announced));
    sweep->announced = 0;
    sweep->busy = false;
    free_if_done(sweep);
}

static void on_announced(void *arg, int code, int api_error, const struct error *error,
                         const json_t *response)
{
    (void)api_error;
    (void)error;
    struct sweep *sweep = arg;
    /* A failure is no loss: the context stays in the outbox for the next round. */
    if (code == 0 && !json_is_true(json_object_get(response, "duplicate"))) {
        sweep->announced++;
        sweep->ports.metrics->swept++;
    }
    if (--sweep->publishing == 0)
        end_round(sweep);
}

static void announce(struct sweep *sweep, const struct store_completion *completion, int64_t now_us)
{
    char subject[NAMES_BYTES], id[CONTEXT_NAME_MAX_BYTES + 64];
    struct error err;
    if (names_completed(sweep->cell, completion->key.tool, completion->key.chamber, subject, &err)) {
        LOG_ERROR("a context in the store cannot be announced",
                  LOG_STR("context", completion->key.context_id), LOG_STR("error", err.text));
        return;
    }
    /* An ID of its own: the first announcement's is perhaps still in the server's duplicate window. */
    snprintf(id, sizeof id, "sweep-%s-%lld", completion->key.context_id,
             (long long)(now_us / 1000 / SWEEP_INSIST_MS));
    struct bus_header header = {"Nats-Msg-Id", id};
    sweep->publishing++;
    jetstream_publish(sweep->ports.bus, subject, &header, 1, completion->announcement,
                      strlen(completion->announcement), on_announced, sweep);
}

/* A context whose chamber has messages waiting is most likely among them. */
static bool is_waiting(const struct sweep *sweep, const json_t *subjects,
                       const struct store_completion *completion, int64_t now_us)
{
    char subject[NAMES_BYTES];
    if (pipeline_holds(sweep->ports.pipeline, completion->key.context_id))
        return true;
    if ((now_us - completion->completed_us) / 1000 > SWEEP_INSIST_MS)
        return false;
    return names_completed(sweep->cell, completion->key.tool, completion->key.chamber, subject, NULL) == 0 &&
           json_object_get(subjects, subject) != NULL;
}

static void on_stream_info(void *arg, int code, int api_error, const struct error *error,
                           const json_t *response)
{
    (void)api_error;
    struct sweep *sweep = arg;
    if (code || sweep->closing) {
        if (code)
            LOG_DEBUG("sweep put off", LOG_STR("error", error->text));
        end_round(sweep);
        return;
    }
    const json_t *subjects = json_object_get(json_object_get(response, "state"), "subjects");
    int64_t now_us = clock_wall_us();
    sweep->publishing = 1; /* this loop itself */
    for (size_t i = 0; i < sweep->outbox->completion_count; i++)
        if (!is_waiting(sweep, subjects, &sweep->outbox->completions[i], now_us))
            announce(sweep, &sweep->outbox->completions[i], now_us);
    if (--sweep->publishing == 0)
        end_round(sweep);
}

static void run_outbox(void *target, void *argument)
{
    struct sweep *sweep = target;
    sweep->outbox = argument;
    if (sweep->closing || sweep->outbox->code || sweep->outbox->completion_count == 0 ||
        !bus_is_connected(sweep->ports.bus)) {
        end_round(sweep);
        return;
    }
    char stream[NAMES_BYTES], all[NAMES_BYTES], call[NAMES_BYTES + 16];
    snprintf(call, sizeof call, "STREAM.INFO.%s", names_stream(sweep->cell, STREAM_NOTIFICATIONS, stream));
    json_t *body = json_pack("{s:s}", "subjects_filter", names_subject(sweep->cell, "dc.>", all));
    jetstream_call(sweep->ports.bus, call, body, 0, on_stream_info, sweep);
    json_decref(body);
}

static void on_outbox(void *arg, struct store_reply *reply)
{
    struct sweep *sweep = arg;
    mailbox_post(sweep->ports.mailbox, run_outbox, sweep, reply);
}

static void on_timer(uv_timer_t *timer)
{
    struct sweep *sweep = timer->data;
    if (sweep->busy || sweep->closing || !bus_is_connected(sweep->ports.bus) ||
        !sweep->ports.leads(sweep->ports.arg))
        return;
    sweep->busy = true;
    store_list_outbox(sweep->ports.store, clock_wall_us() - sweep->age_ms * 1000, SWEEP_BATCH, on_outbox,
                      sweep);
}

int sweep_open(const struct sweep_ports *ports, const char *cell, int64_t age_ms, int64_t interval_ms,
               struct sweep **out, struct error *err)
{
    struct sweep *sweep = calloc(1, sizeof *sweep);
    if (sweep == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the sweep");
    sweep->ports = *ports;
    sweep->age_ms = age_ms > 0 ? age_ms : SWEEP_AGE_MS;
    snprintf(sweep->cell, sizeof sweep->cell, "%s", cell);
    uv_timer_init(ports->loop, &sweep->timer);
    sweep->timer.data = sweep;
    uint64_t every_ms = (uint64_t)(interval_ms > 0 ? interval_ms : SWEEP_INTERVAL_MS);
    uv_timer_start(&sweep->timer, on_timer, every_ms, every_ms);
    *out = sweep;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct sweep *sweep = handle->data;
    sweep->timer_closed = true;
    free_if_done(sweep);
}

void sweep_close(struct sweep *sweep)
{
    sweep->closing = true;
    uv_close((uv_handle_t *)&sweep->timer, on_timer_closed);
}
