#include "defender/rejudge.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "chart/context.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rejudge {
    struct sweep_ports ports;
    char cell[64];
    uv_timer_t timer;
    bool busy; /* a round is under way */
    struct store_reply *debts;
    size_t picks[REJUDGE_CHAMBERS]; /* the oldest debt of each chamber */
    size_t pick_count, next;
    size_t publishing, announced;
    bool closing, timer_closed;
};

static void ask_next(struct rejudge *rejudge);

static void free_if_done(struct rejudge *rejudge)
{
    if (rejudge->closing && rejudge->timer_closed && !rejudge->busy)
        free(rejudge);
}

static void end_round(struct rejudge *rejudge)
{
    if (rejudge->announced > 0)
        LOG_INFO("verdicts that a standby store had a part in are made again",
                 LOG_INT("chambers", rejudge->announced),
                 LOG_INT("contexts_listed", rejudge->debts->debt_count));
    store_reply_free(rejudge->debts);
    rejudge->debts = NULL;
    rejudge->announced = 0;
    rejudge->busy = false;
    free_if_done(rejudge);
}

/* --- announcing --- */

static void on_announced(void *arg, int code, int api_error, const struct error *error,
                         const json_t *response)
{
    (void)api_error;
    (void)error;
    struct rejudge *rejudge = arg;
    /* A failure is no loss: the debt stays. */
    rejudge->announced += code == 0 && !json_is_true(json_object_get(response, "duplicate"));
    rejudge->publishing--;
    ask_next(rejudge);
}

static void announce(struct rejudge *rejudge, const struct store_completion *completion)
{
    char subject[NAMES_BYTES], id[CONTEXT_NAME_MAX_BYTES + 64];
    if (names_completed(rejudge->cell, completion->key.tool, completion->key.chamber, subject, NULL)) {
        ask_next(rejudge);
        return;
    }
    snprintf(id, sizeof id, "owed-%s-%lld", completion->key.context_id,
             (long long)(clock_wall_us() / 1000 / REJUDGE_INSIST_MS));
    struct bus_header headers[] = {{"Nats-Msg-Id", id}, {PIPELINE_HEADER_REPLAY, "owed"}};
    rejudge->publishing++;
    jetstream_publish(rejudge->ports.bus, subject, headers, 2, completion->announcement,
                      strlen(completion->announcement), on_announced, rejudge);
}

static void run_cleared(void *target, void *argument)
{
    store_reply_free(argument);
    ask_next(target);
}

static void on_cleared(void *arg, struct store_reply *reply)
{
    struct rejudge *rejudge = arg;
    mailbox_post(rejudge->ports.mailbox, run_cleared, rejudge, reply);
}

static void run_found(void *target, void *argument)
{
    struct rejudge *rejudge = target;
    struct store_reply *reply = argument;
    const struct store_debt *debt = &rejudge->debts->debts[rejudge->picks[rejudge->next - 1]];
    const struct store_completion *found = reply->code == 0 ? reply->completions : NULL;
    bool is_it = found && strcmp(found->key.tool, debt->key.tool) == 0 &&
                 strcmp(found->key.chamber, debt->key.chamber) == 0;
    if (is_it && found->announcement[0]) {
        announce(rejudge, found);
    } else if (reply->code == 0 || reply->code == ERR_NOT_FOUND) {
        LOG_WARN("a context that was to be judged again was never completed, or is no longer there",
                 LOG_STR("context", debt->key.context_id));
        store_clear_debt(rejudge->ports.store, debt, on_cleared, rejudge);
    } else {
        ask_next(rejudge);
    }
    store_reply_free(reply);
}

static void on_found(void *arg, struct store_reply *reply)
{
    struct rejudge *rejudge = arg;
    mailbox_post(rejudge->ports.mailbox, run_found, rejudge, reply);
}

/* One after the other: this is no hurry, and the store has other things to do. */
static void ask_next(struct rejudge *rejudge)
{
    if (rejudge->next >= rejudge->pick_count || rejudge->closing) {
        if (rejudge->publishing == 0)
            end_round(rejudge);
        return;
    }
    const struct store_debt *debt = &rejudge->debts->debts[rejudge->picks[rejudge->next++]];
    store_find_context(rejudge->ports.store, debt->key.context_id, on_found, rejudge);
}

/* --- a round --- */

static bool is_picked(const struct rejudge *rejudge, const struct store_debt *debt)
{
    for (size_t i = 0; i < rejudge->pick_count; i++) {
        const struct store_debt *pick = &rejudge->debts->debts[rejudge->picks[i]];
        if (strcmp(pick->key.tool, debt->key.tool) == 0 && strcmp(pick->key.chamber, debt->key.chamber) == 0)
            return true;
    }
    return false;
}

static void run_listed(void *target, void *argument)
{
    struct rejudge *rejudge = target;
    rejudge->debts = argument;
    rejudge->pick_count = rejudge->next = rejudge->publishing = 0;
    /* Listed by event: the first of a chamber is its oldest. */
    bool good =
        rejudge->debts->code == 0 && !rejudge->debts->degraded && bus_is_connected(rejudge->ports.bus);
    for (size_t i = 0; good && i < rejudge->debts->debt_count && rejudge->pick_count < REJUDGE_CHAMBERS; i++)
        if (!is_picked(rejudge, &rejudge->debts->debts[i]))
            rejudge->picks[rejudge->pick_count++] = i;
    ask_next(rejudge);
}

static void on_listed(void *arg, struct store_reply *reply)
{
    struct rejudge *rejudge = arg;
    mailbox_post(rejudge->ports.mailbox, run_listed, rejudge, reply);
}

static void on_timer(uv_timer_t *timer)
{
    struct rejudge *rejudge = timer->data;
    if (rejudge->busy || rejudge->closing || !bus_is_connected(rejudge->ports.bus) ||
        !rejudge->ports.leads(rejudge->ports.arg))
        return;
    rejudge->busy = true;
    store_list_debts(rejudge->ports.store, STORE_DEBT_JUDGE, REJUDGE_LISTED, on_listed, rejudge);
}

int rejudge_open(const struct sweep_ports *ports, const char *cell, struct rejudge **out, struct error *err)
{
    struct rejudge *rejudge = calloc(1, sizeof *rejudge);
    if (rejudge == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for judging again");
    rejudge->ports = *ports;
    snprintf(rejudge->cell, sizeof rejudge->cell, "%s", cell);
    uv_timer_init(ports->loop, &rejudge->timer);
    rejudge->timer.data = rejudge;
    uv_timer_start(&rejudge->timer, on_timer, REJUDGE_INTERVAL_MS, REJUDGE_INTERVAL_MS);
    *out = rejudge;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct rejudge *rejudge = handle->data;
    rejudge->timer_closed = true;
    free_if_done(rejudge);
}

void rejudge_close(struct rejudge *rejudge)
{
    rejudge->closing = true;
    uv_close((uv_handle_t *)&rejudge->timer, on_timer_closed);
}
