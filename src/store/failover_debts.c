/* Paying what the standby owes to the primary: one thread decides (the reconciler), some copy (the payers).
 *
 * A debt is cleared only after the copy succeeded, by the time it was put: a debt that was put meanwhile
 * stays. Everything can be done twice, by two processes at once too. */
#include "store/failover_parts.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MIRROR_MS = 10000,     /* between looks whether the standby has the chart file in force */
    STUCK_TOLD_MS = 60000, /* between two lines in the log about debts that cannot be paid */
    SETTLE_PAUSE_MS = 100,
    STANDBY_PAUSE_MS = 500,
    ELSEWHERE_AT_A_TIME =
        64 /* debts paid in one round while the primary is in use: other processes pay too */
};

/* --- one context --- */

struct copying {
    struct failover *failover;
    struct store *from, *to;
    struct store_wait *wait;
    struct store_key key;
    int64_t put_us; /* of its newest debt */
    struct error err;
    bool conflict; /* the primary has it with other content */
    enum failover_side side_failed;
};

/* Waits for the answer of a call that was made with copying->wait; NULL when it failed with another code than
 * `allowed`. The caller owns the reply. */
static struct store_reply *answer(struct copying *copying, enum failover_side side, int allowed, int *code)
{
    struct store_reply *reply = store_wait_reply(copying->wait);
    struct failover *failover = copying->failover;
    bool away = failover_is_away(reply->code);
    pthread_mutex_lock(&failover->lock);
    failover_note(failover, side, false, &reply->error, away);
    pthread_mutex_unlock(&failover->lock);
    *code = reply->code == allowed ? 0 : reply->code;
    if (*code == 0)
        return reply;
    copying->err = reply->error;
    copying->side_failed = side;
    store_reply_free(reply);
    return NULL;
}

static int answer_code(struct copying *copying, enum failover_side side, int allowed)
{
    int code;
    store_reply_free(answer(copying, side, allowed, &code));
    return code;
}

/* store.h asks for complete contexts; what has come of others is asked for here. */
static void fetch_received(struct copying *copying)
{
    struct store_call *call = calloc(1, sizeof *call);
    while (call == NULL) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        call = calloc(1, sizeof *call);
    }
    arena_init(&call->reply.arena, 0);
    call->op = STORE_OP_FETCH_TCHART;
    call->key = copying->key;
    call->u.tchart.received = true;
    call->done = store_wait_done;
    call->arg = copying->wait;
    copying->from->ops->submit(copying->from, call);
}

static int copy_chunks(struct copying *copying, const struct store_reply *trace)
{
    int code = 0;
    for (size_t i = 0; i < trace->chunk_count && code == 0; i++) {
        store_put_chunk(copying->to, &copying->key, &trace->chunks[i], store_wait_done, copying->wait);
        code = answer_code(copying, SIDE_PRIMARY, ERR_CONFLICT); /* complete there already: that stands */
    }
    return code;
}

static int copy_completion(struct copying *copying, const struct store_reply *trace)
{
    store_complete(copying->to, trace->completions, trace->chunks, trace->chunk_count, store_wait_done,
                   copying->wait);
    int code;
    struct store_reply *reply = answer(copying, SIDE_PRIMARY, ERR_CONFLICT, &code);
    if (reply == NULL && code != 0)
        return code;
    copying->conflict = false;
    if (reply && reply->code == ERR_CONFLICT) {
        copying->conflict = true;
        LOG_WARN("a context was completed with other content in each store: the primary's stays",
                 LOG_STR("context", copying->key.context_id), LOG_STR("error", reply->error.text));
    }
    store_reply_free(reply);
    return 0;
}

static int copy_death(struct copying *copying, const struct store_completion *completion)
{
    if (completion->state != STORE_DEAD || copying->conflict)
        return 0;
    store_mark_dead(copying->to, &copying->key, completion->dead_reason, copying->put_us, store_wait_done,
                    copying->wait);
    return answer_code(copying, SIDE_PRIMARY, 0);
}

/* A dead mark of a context that was never complete. */
static int copy_lone_death(struct copying *copying)
{
    store_find_context(copying->from, copying->key.context_id, store_wait_done, copying->wait);
    int code;
    struct store_reply *reply = answer(copying, SIDE_STANDBY, ERR_NOT_FOUND, &code);
    if (reply == NULL || code)
        return code;
    const struct store_completion *found = reply->code == 0 ? reply->completions : NULL;
    if (found && strcmp(found->key.tool, copying->key.tool) == 0 &&
        strcmp(found->key.chamber, copying->key.chamber) == 0)
        code = copy_death(copying, found);
    store_reply_free(reply);
    return code;
}

static int copy_trace(struct copying *copying)
{
    fetch_received(copying);
    int code;
    struct store_reply *trace = answer(copying, SIDE_STANDBY, ERR_NOT_FOUND, &code);
    if (code)
        return code;
    if (trace->code == ERR_NOT_FOUND)
        code = copy_lone_death(copying);
    else if (trace->completion_count == 0)
        code = copy_chunks(copying, trace);
    else
        code = copy_completion(copying, trace);
    if (code == 0 && trace->completion_count == 1)
        code = copy_death(copying, trace->completions);
    store_reply_free(trace);
    return code;
}

/* The debt comes before the U-chart: a crash between the two judges a context again for nothing, the other
 * way round it would leave a verdict of low quality for ever. */
static int copy_newer_uchart(struct copying *copying, const struct store_uchart *uchart, bool copy)
{
    struct failover *failover = copying->failover;
    pthread_mutex_lock(&failover->lock);
    struct store_debt debt = {.kind = STORE_DEBT_JUDGE,
                              .key = copying->key,
                              .at_us = uchart->end_us,
                              .put_us = failover_put_us(failover),
                              .owner = failover->instance};
    pthread_mutex_unlock(&failover->lock);
    store_put_debt(copying->to, &debt, store_wait_done, copying->wait);
    int code = answer_code(copying, SIDE_PRIMARY, 0);
    if (code || !copy)
        return code;
    store_put_uchart(copying->to, uchart, store_wait_done, copying->wait);
    return answer_code(copying, SIDE_PRIMARY, 0);
}

static int copy_uchart(struct copying *copying)
{
    if (copying->conflict)
        return 0;
    int code;
    store_fetch_uchart(copying->from, &copying->key, store_wait_done, copying->wait);
    struct store_reply *ours = answer(copying, SIDE_STANDBY, ERR_NOT_FOUND, &code);
    if (code)
        return code;
    if (ours->code == ERR_NOT_FOUND) {
        store_reply_free(ours);
        return 0;
    }
    store_fetch_uchart(copying->to, &copying->key, store_wait_done, copying->wait);
    struct store_reply *theirs = answer(copying, SIDE_PRIMARY, ERR_NOT_FOUND, &code);
    if (code == 0) {
        bool there = theirs->code == 0;
        int64_t judged_us = there ? theirs->ucharts->judged_us : 0;
        if (!there || judged_us <= ours->ucharts->judged_us)
            code = copy_newer_uchart(copying, ours->ucharts, !there || judged_us < ours->ucharts->judged_us);
    }
    store_reply_free(theirs);
    store_reply_free(ours);
    return code;
}

/* --- chart sets --- */

/* The set in force at a store: 0 and *id 0 when there is none. */
static int current_set(struct copying *copying, enum failover_side side, uint64_t *id, int64_t *when_us)
{
    int code;
    struct store *store = side == SIDE_PRIMARY ? copying->to : copying->from;
    store_fetch_chart_set(store, 0, store_wait_done, copying->wait);
    struct store_reply *reply = answer(copying, side, ERR_NOT_FOUND, &code);
    *id = 0;
    *when_us = 0;
    if (reply && reply->code == 0) {
        *id = reply->id;
        *when_us = reply->when_us;
    }
    store_reply_free(reply);
    return code;
}

/* In force in the primary too, unless another was put in force there later. */
static int copy_chart_set(struct copying *copying)
{
    uint64_t id = strtoull(copying->key.context_id, NULL, 16), ours = 0, theirs = 0;
    int64_t our_us = 0, their_us = 0;
    int code;
    store_fetch_chart_set(copying->from, id, store_wait_done, copying->wait);
    struct store_reply *set = answer(copying, SIDE_STANDBY, ERR_NOT_FOUND, &code);
    if (code)
        return code;
    if (set->code == 0) {
        code = current_set(copying, SIDE_STANDBY, &ours, &our_us);
        if (code == 0)
            code = current_set(copying, SIDE_PRIMARY, &theirs, &their_us);
        if (code == 0) {
            bool current = ours == id && (theirs == 0 || our_us > their_us);
            store_put_chart_set(copying->to, id, set->text, current, set->when_us, store_wait_done,
                                copying->wait);
            code = answer_code(copying, SIDE_PRIMARY, 0);
        }
    }
    store_reply_free(set);
    return code;
}

/* The standby knows by which chart file to judge before it is needed. Failures are tried again later. */
static void mirror_chart_set(struct failover *failover, struct store_wait *wait)
{
    struct copying copying = {.failover = failover,
                              .from = failover->sides[SIDE_STANDBY].store,
                              .to = failover->sides[SIDE_PRIMARY].store,
                              .wait = wait};
    uint64_t id = 0, theirs = 0;
    int64_t when_us, their_us;
    if (current_set(&copying, SIDE_PRIMARY, &id, &when_us) || id == 0 || id == failover->mirrored ||
        current_set(&copying, SIDE_STANDBY, &theirs, &their_us))
        return;
    if (id != theirs) {
        int code;
        store_fetch_chart_set(copying.to, id, store_wait_done, wait);
        struct store_reply *set = answer(&copying, SIDE_PRIMARY, 0, &code);
        if (set == NULL)
            return;
        store_put_chart_set(copying.from, id, set->text, true, set->when_us, store_wait_done, wait);
        code = answer_code(&copying, SIDE_STANDBY, 0);
        store_reply_free(set);
        if (code)
            return;
    }
    failover->mirrored = id;
}

/* --- payers --- */

static int clear_debts(struct copying *copying, const struct store_debt *debts, size_t count)
{
    int code = 0;
    for (size_t i = 0; i < count && code == 0; i++) {
        store_clear_debt(copying->from, &debts[i], store_wait_done, copying->wait);
        code = answer_code(copying, SIDE_STANDBY, 0);
    }
    return code;
}

static int pay(struct failover *failover, struct store_wait *wait, const struct store_debt *debts,
               size_t count, struct copying *copying)
{
    *copying = (struct copying){.failover = failover,
                                .from = failover->sides[SIDE_STANDBY].store,
                                .to = failover->sides[SIDE_PRIMARY].store,
                                .wait = wait,
                                .key = debts->key,
                                .put_us = debts[count - 1].put_us};
    int code = debts->kind == STORE_DEBT_CHART_SET ? copy_chart_set(copying) : copy_trace(copying);
    if (code == 0 && debts->kind == STORE_DEBT_COPY)
        code = copy_uchart(copying);
    return code ? code : clear_debts(copying, debts, count);
}

static void tell_stuck(struct failover *failover, const struct copying *copying)
{
    int64_t now_ns = clock_mono_ns();
    if (failover->stuck_told_ns && now_ns - failover->stuck_told_ns < STUCK_TOLD_MS * INT64_C(1000000))
        return;
    failover->stuck_told_ns = now_ns;
    LOG_ERROR("what the standby store took cannot be copied to the primary; it stays in the standby's debts, "
              "and is "
              "tried again",
              LOG_STR("context", copying->key.context_id), LOG_STR("error", copying->err.text));
}

/* Under the lock. */
static void note_paid(struct failover *failover, const struct copying *copying, int code, size_t count)
{
    if (code == 0) {
        failover->batch.paid += count;
        failover->debts_paid += (int64_t)count;
    } else if (failover_is_away(code) || code == ERR_CLOSED) {
        failover->batch.away += count;
        if (copying->side_failed == SIDE_PRIMARY && code != ERR_CLOSED)
            failover_event(failover, failover->mode == STORE_MODE_PRIMARY ? BREAKER_WRITE_FAILED
                                                                          : BREAKER_PROBE_FAILED);
    } else {
        failover->batch.stuck += count;
        tell_stuck(failover, copying);
    }
}

void *failover_run_payer(void *arg)
{
    struct failover *failover = arg;
    struct store_wait *wait = store_wait_new();
    pthread_mutex_lock(&failover->lock);
    while (!failover->stopping) {
        if (wait == NULL || failover->batch.next >= failover->batch.count) {
            pthread_cond_wait(&failover->changed, &failover->lock);
            continue;
        }
        struct due due = failover->batch.dues[failover->batch.next++];
        const struct store_debt *debts = failover->batch.debts + due.first;
        failover->batch.busy++;
        bool go_on = failover->batch.away == 0;
        pthread_mutex_unlock(&failover->lock);
        struct copying copying = {0};
        int code = go_on ? pay(failover, wait, debts, due.count, &copying) : ERR_CLOSED;
        pthread_mutex_lock(&failover->lock);
        note_paid(failover, &copying, code, due.count);
        failover->batch.busy--;
        pthread_cond_signal(&failover->pay_done);
    }
    pthread_mutex_unlock(&failover->lock);
    store_wait_free(wait);
    return NULL;
}

/* --- rounds --- */

struct round {
    size_t listed, payable, paid, stuck, away;
    size_t awaited; /* not payable yet, but older than this reconciliation: it does not end without them */
    bool full;      /* there may be more than were listed */
};

static int compare_keys(const struct store_debt *a, const struct store_debt *b)
{
    int order = strcmp(a->key.context_id, b->key.context_id);
    if (order == 0)
        order = strcmp(a->key.tool, b->key.tool);
    return order ? order : strcmp(a->key.chamber, b->key.chamber);
}

static int by_key(const void *a, const void *b)
{
    const struct store_debt *first = a, *second = b;
    int order = compare_keys(first, second);
    if (order)
        return order;
    return first->put_us < second->put_us ? -1 : first->put_us > second->put_us;
}

/* Under the lock. A debt is noted before its write: while that may be under way, there is nothing to copy
 * yet. Of our own we know; another process has put the debt again when its write took long. */
static bool is_payable(struct failover *failover, const struct store_debt *debt, int64_t now_us)
{
    bool idle = failover_slot(failover, debt->key.context_id)->writes == 0;
    if (debt->kind == STORE_DEBT_CHART_SET)
        idle = failover->slots[0].writes == 0;
    return idle &&
           (debt->owner == failover->instance || now_us - debt->put_us >= failover->times.grace_ms * 1000);
}

/* Moves the payable ones to the front, a fair choice of them when they are too many, and gives their number.
 */
static size_t choose(struct failover *failover, struct store_debt *debts, size_t count, struct round *round)
{
    size_t kept = 0, most = failover->mode == STORE_MODE_PRIMARY ? ELSEWHERE_AT_A_TIME : FAILOVER_BATCH;
    int64_t now_us = clock_wall_us();
    for (size_t i = 0; i < count; i++) {
        if (is_payable(failover, &debts[i], now_us))
            debts[kept++] = debts[i];
        else if (debts[i].owner != failover->instance && debts[i].put_us < failover->mode_since_us)
            round->awaited++;
    }
    round->payable += kept;
    if (kept <= most)
        return kept;
    /* Other processes pay too: each begins elsewhere. */
    size_t first = (size_t)(hash64(&failover->instance, sizeof failover->instance) % (kept - most + 1));
    memmove(debts, debts + first, most * sizeof *debts);
    return most;
}

/* Lets the payers copy these, and waits for them. */
static void pay_all(struct failover *failover, struct store_debt *debts, size_t count, struct due *dues,
                    struct round *round)
{
    size_t due_count = 0;
    qsort(debts, count, sizeof *debts, by_key);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || compare_keys(&debts[i - 1], &debts[i]) != 0)
            dues[due_count++] = (struct due){.first = i};
        dues[due_count - 1].count++;
    }
    pthread_mutex_lock(&failover->lock);
    failover->batch.debts = debts;
    failover->batch.dues = dues;
    failover->batch.next = failover->batch.paid = failover->batch.stuck = failover->batch.away = 0;
    failover->batch.count = due_count;
    pthread_cond_broadcast(&failover->changed);
    while (failover->batch.busy > 0 || (failover->batch.next < failover->batch.count && !failover->stopping))
        pthread_cond_wait(&failover->pay_done, &failover->lock);
    failover->batch.count = failover->batch.next = 0;
    round->paid += failover->batch.paid;
    round->stuck += failover->batch.stuck;
    round->away += failover->batch.away;
    pthread_mutex_unlock(&failover->lock);
}

static void pay_kind(struct failover *failover, struct store_wait *wait, enum store_debt_kind kind,
                     struct due *dues, struct round *round)
{
    store_list_debts(failover->sides[SIDE_STANDBY].store, kind, STORE_DEBTS_LISTED, store_wait_done, wait);
    struct store_reply *reply = store_wait_reply(wait);
    bool away = reply->code != 0;
    pthread_mutex_lock(&failover->lock);
    failover_note(failover, SIDE_STANDBY, false, &reply->error, failover_is_away(reply->code));
    size_t chosen = away ? 0 : choose(failover, reply->debts, reply->debt_count, round);
    pthread_mutex_unlock(&failover->lock);
    round->away += away;
    round->listed += away ? 0 : reply->debt_count;
    round->full = round->full || (!away && reply->debt_count == STORE_DEBTS_LISTED);
    if (chosen > 0)
        pay_all(failover, reply->debts, chosen, dues, round);
    store_reply_free(reply);
}

static struct round pay_round(struct failover *failover, struct store_wait *wait, struct due *dues)
{
    struct round round = {0};
    pay_kind(failover, wait, STORE_DEBT_CHART_SET, dues, &round);
    if (round.away == 0)
        pay_kind(failover, wait, STORE_DEBT_COPY, dues, &round);
    pthread_mutex_lock(&failover->lock);
    failover->debts_stuck = (int64_t)round.stuck;
    if (round.away == 0)
        failover->debts_known = (int64_t)(round.listed > round.paid ? round.listed - round.paid : 0);
    pthread_mutex_unlock(&failover->lock);
    return round;
}

/* --- deciding --- */

static void wait_ms(struct failover *failover, int64_t ms)
{
    int64_t at = clock_mono_ns() + ms * 1000000;
    struct timespec until = {.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
    enum store_mode mode = failover->mode;
    while (!failover->stopping && failover->mode == mode && !failover->expire_wanted)
        if (pthread_cond_timedwait(&failover->pay_wake, &failover->lock, &until) != 0)
            return;
}

/* Under the lock: no call is started, and those at the standby end. */
static void begin_to_hold(struct failover *failover)
{
    failover->holding = true;
    int64_t end_ns = clock_mono_ns() + failover->times.hold_ms * 1000000;
    struct timespec until = {.tv_sec = (time_t)(end_ns / 1000000000), .tv_nsec = (long)(end_ns % 1000000000)};
    while (failover->holding && failover->on_standby > 0 && !failover->stopping)
        if (pthread_cond_timedwait(&failover->changed, &failover->lock, &until) != 0)
            break;
    if (failover->on_standby > 0)
        failover->holding = false;
}

/* Under the lock, after a round of paying in RECONCILING; true when the next is to begin at once. */
static bool decide(struct failover *failover, const struct round *round, int64_t *hold_end_ns)
{
    size_t left = round->payable - (round->paid < round->payable ? round->paid : round->payable);
    bool nothing_more = round->away == 0 && !round->full && left <= round->stuck && round->awaited == 0;
    if (failover->mode != STORE_MODE_RECONCILING || failover->closing)
        return false;
    if (failover->holding && nothing_more && round->paid == 0) {
        failover_event(failover, BREAKER_MADE_UP);
        failover->holding = false;
        pthread_cond_signal(&failover->keeper_wake);
        return false;
    }
    if (failover->holding && clock_mono_ns() > *hold_end_ns) {
        LOG_WARN("calls were held for the last debts, and go to the standby again: there are too many",
                 LOG_INT("debts", round->listed));
        failover->holding = false;
        pthread_cond_signal(&failover->keeper_wake);
        return false;
    }
    bool few = round->away == 0 && !round->full && round->awaited == 0 &&
               round->payable <= FAILOVER_HOLD_BELOW + round->stuck;
    if (!failover->holding && few && failover->abandoned == 0) {
        begin_to_hold(failover);
        *hold_end_ns = clock_mono_ns() + failover->times.hold_ms * 1000000;
        if (!failover->holding)
            pthread_cond_signal(&failover->keeper_wake);
        return failover->holding;
    }
    return round->away == 0 && round->paid > 0;
}

/* What is too old is removed from a SQLite standby as well; Cassandra's tables do it by themselves. */
static void expire_standby(struct failover *failover, struct store_wait *wait)
{
    struct side *standby = &failover->sides[SIDE_STANDBY];
    if (strncmp(standby->url, "sqlite:", 7) != 0)
        return;
    store_expire(standby->store, &failover->expire_retention, failover->expire_now_us, failover->expire_limit,
                 store_wait_done, wait);
    struct store_reply *reply = store_wait_reply(wait);
    if (reply->code)
        LOG_DEBUG("nothing could be removed from the standby", LOG_STR("error", reply->error.text));
    store_reply_free(reply);
}

/* While the primary is in use. */
static void keep_standby_ready(struct failover *failover, struct store_wait *wait)
{
    int64_t now_ns = clock_mono_ns();
    pthread_mutex_lock(&failover->lock);
    bool expire = failover->expire_wanted && failover->debts_known == 0;
    failover->expire_wanted = false;
    pthread_mutex_unlock(&failover->lock);
    if (now_ns >= failover->mirror_at_ns)
        mirror_chart_set(failover, wait);
    if (now_ns >= failover->mirror_at_ns)
        failover->mirror_at_ns = now_ns + MIRROR_MS * INT64_C(1000000);
    if (expire)
        expire_standby(failover, wait);
}

void *failover_run_reconciler(void *arg)
{
    struct failover *failover = arg;
    struct store_wait *wait = store_wait_new();
    struct due *dues = calloc(FAILOVER_BATCH, sizeof *dues);
    int64_t hold_end_ns = 0;
    pthread_mutex_lock(&failover->lock);
    while (!failover->stopping) {
        bool both = failover->sides[SIDE_PRIMARY].store && failover->sides[SIDE_STANDBY].store;
        if (wait == NULL || dues == NULL || !both || failover->mode == STORE_MODE_STANDBY ||
            failover->closing) {
            wait_ms(failover, STANDBY_PAUSE_MS);
            continue;
        }
        bool primary = failover->mode == STORE_MODE_PRIMARY;
        pthread_mutex_unlock(&failover->lock);
        struct round round = pay_round(failover, wait, dues);
        if (primary && round.away == 0)
            keep_standby_ready(failover, wait);
        pthread_mutex_lock(&failover->lock);
        bool at_once = primary ? round.paid > 0 && round.away == 0 : decide(failover, &round, &hold_end_ns);
        if (!at_once && !failover->stopping)
            wait_ms(failover, primary ? failover->times.poll_ms : SETTLE_PAUSE_MS);
    }
    pthread_mutex_unlock(&failover->lock);
    free(dues);
    store_wait_free(wait);
    return NULL;
}
