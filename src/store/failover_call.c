/* The way of one call through the failover store. */
#include "store/failover_parts.h"

#include "base/clock.h"
#include "base/hash.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    RETRY_MS = 100,
    LATE_AGAIN_MS = 250 /* a call that stays without an answer fails again and again */
};

bool failover_is_away(int code)
{
    return code == ERR_UNAVAILABLE || code == ERR_TIMEOUT || code == ERR_IO;
}

/* --- what kind of call it is --- */

/* Looks for one thing that the other store may have. */
static bool is_look_up(enum store_op op)
{
    return op == STORE_OP_FETCH_TCHART || op == STORE_OP_FIND_CONTEXT || op == STORE_OP_FETCH_UCHART ||
           op == STORE_OP_FETCH_CHART_SET;
}

/* Should be answered in moments. Lists, counts and removals may take their time. */
static bool is_light(const struct store_call *call)
{
    switch (call->op) {
    case STORE_OP_EXPIRE:
    case STORE_OP_LIST_OUTBOX:
    case STORE_OP_LIST_CONTEXTS:
    case STORE_OP_LIST_HEADS:
    case STORE_OP_COUNT:
        return false;
    case STORE_OP_FETCH_HISTORY:
        return call->u.history.count == 1;
    case STORE_OP_PUT_UCHARTS:
        return call->u.ucharts.count == 1;
    default:
        return true;
    }
}

/* How many debts a write leaves at a side. */
static size_t debts_of(const struct job *job)
{
    const struct store_call *call = job->outer;
    if (job->side == SIDE_STANDBY)
        switch (call->op) {
        case STORE_OP_PUT_CHUNK:
        case STORE_OP_COMPLETE:
        case STORE_OP_MARK_DEAD:
        case STORE_OP_PUT_CHART_SET:
            return 1;
        case STORE_OP_PUT_UCHARTS:
            return call->u.ucharts.count;
        default:
            return 0;
        }
    size_t degraded = 0;
    for (size_t i = 0; call->op == STORE_OP_PUT_UCHARTS && i < call->u.ucharts.count; i++)
        degraded += store_call_ucharts(call)[i].degraded;
    return degraded;
}

static const struct store_uchart *nth_degraded(const struct store_call *call, size_t n)
{
    const struct store_uchart *uchart = store_call_ucharts(call);
    for (;; uchart++)
        if (uchart->degraded && n-- == 0)
            return uchart;
}

int64_t failover_put_us(struct failover *failover)
{
    int64_t now_us = clock_wall_us();
    failover->last_put_us = now_us > failover->last_put_us ? now_us : failover->last_put_us + 1;
    return failover->last_put_us;
}

/* --- order: the calls on one context are carried out as they came --- */

struct failover_slot *failover_slot(struct failover *failover, const char *context_id)
{
    return &failover->slots[hash64_text(context_id) % FAILOVER_SLOTS];
}

/* The i-th slot of a call; NULL beyond the last. */
static struct failover_slot *slot_at(struct failover *failover, const struct store_call *call, size_t i)
{
    switch (call->op) {
    case STORE_OP_PUT_CHUNK:
    case STORE_OP_COMPLETE:
    case STORE_OP_MARK_DEAD:
    case STORE_OP_FETCH_TCHART:
    case STORE_OP_FETCH_UCHART:
    case STORE_OP_FIND_CONTEXT:
        return i == 0 ? failover_slot(failover, call->key.context_id) : NULL;
    case STORE_OP_PUT_UCHARTS:
        return i < call->u.ucharts.count ? failover_slot(failover, store_call_ucharts(call)[i].key.context_id)
                                         : NULL;
    case STORE_OP_PUT_CHART_SET:
    case STORE_OP_FETCH_CHART_SET:
        return i == 0 ? &failover->slots[0] : NULL;
    default:
        return NULL;
    }
}

static bool may_run(struct failover *failover, const struct store_call *call, bool is_new)
{
    bool writes = store_op_writes(call->op);
    struct failover_slot *slot;
    for (size_t i = 0; (slot = slot_at(failover, call, i)) != NULL; i++) {
        if (slot->writes > 0 || (writes && slot->reads > 0) || (is_new && slot->waiting > 0))
            return false;
        if (!is_new &&
            (slot->held_write == failover->search || (writes && slot->held_read == failover->search)))
            return false;
    }
    return true;
}

static void count_waiting(struct failover *failover, const struct store_call *call, bool begins)
{
    struct failover_slot *slot;
    for (size_t i = 0; (slot = slot_at(failover, call, i)) != NULL; i++)
        slot->waiting += begins ? 1u : UINT32_MAX;
    failover->waiting_count += begins ? 1 : SIZE_MAX;
}

static void count_running(struct failover *failover, const struct store_call *call, bool begins)
{
    struct failover_slot *slot;
    for (size_t i = 0; (slot = slot_at(failover, call, i)) != NULL; i++)
        *(store_op_writes(call->op) ? &slot->writes : &slot->reads) += begins ? 1u : UINT32_MAX;
}

static void hold_back(struct failover *failover, const struct store_call *call)
{
    struct failover_slot *slot;
    for (size_t i = 0; (slot = slot_at(failover, call, i)) != NULL; i++)
        *(store_op_writes(call->op) ? &slot->held_write : &slot->held_read) = failover->search;
}

/* --- a job's parts --- */

static void push(struct job **list, struct job *job)
{
    job->todo = *list;
    *list = job;
}

/* Jobs in the order in which they were pushed. */
static struct job *reversed(struct job *list)
{
    struct job *result = NULL;
    while (list) {
        struct job *next = list->todo;
        list->todo = result;
        result = list;
        list = next;
    }
    return result;
}

static void link_job(struct failover *failover, struct job *job)
{
    job->prev = failover->last_job;
    *(failover->last_job ? &failover->last_job->next : &failover->jobs) = job;
    failover->last_job = job;
    failover->job_count++;
}

static void unlink_job(struct failover *failover, struct job *job)
{
    *(job->prev ? &job->prev->next : &failover->jobs) = job->next;
    *(job->next ? &job->next->prev : &failover->last_job) = job->prev;
    failover->job_count--;
}

/* Where calls go now. */
static enum failover_side side_now(const struct failover *failover)
{
    return failover->mode == STORE_MODE_PRIMARY ? SIDE_PRIMARY : SIDE_STANDBY;
}

static void choose_side(struct job *job, enum failover_side side)
{
    struct failover *failover = job->failover;
    if (side == SIDE_STANDBY && !(job->state == JOB_RUNNING && job->side == SIDE_STANDBY))
        failover->on_standby++;
    job->side = side;
    job->state = JOB_RUNNING;
    job->debts_put = 0;
    job->late_again_ns = 0;
    job->step = debts_of(job) > 0 ? STEP_DEBT : STEP_MAIN;
}

/* Gives the job an answer of our own. */
static void answer_with(struct job *job, int code, const char *what, const char *detail)
{
    struct store_reply *reply = &job->outer->reply;
    reply->code = error_set(&reply->error, code, "store failover: %s%s", what, detail);
    if (job->kept)
        store_reply_free(&job->kept->reply);
    job->kept = NULL;
}

/* Under the lock. Puts the job where it goes next: to a store, or (neither can be asked) to its end. */
static void begin(struct job *job, struct job **todo, struct job **over)
{
    struct failover *failover = job->failover;
    enum failover_side side = side_now(failover);
    if (failover->sides[side].store) {
        choose_side(job, side);
        push(todo, job);
        return;
    }
    job->state = JOB_RUNNING;
    job->side = SIDE_PRIMARY;
    answer_with(job, ERR_UNAVAILABLE, "the primary is away, and the standby cannot be opened: ",
                failover->sides[side].open_error.text);
    push(over, job);
}

void failover_take_startable(struct failover *failover, struct job **todo)
{
    struct job *list = NULL, *over = NULL;
    failover->search++;
    size_t left = failover->holding ? 0 : failover->waiting_count;
    for (struct job *job = failover->jobs; job && left > 0; job = job->next) {
        if (job->state != JOB_WAITING)
            continue;
        left--;
        if (!may_run(failover, job->outer, false)) {
            hold_back(failover, job->outer);
            continue;
        }
        count_waiting(failover, job->outer, false);
        count_running(failover, job->outer, true);
        begin(job, &list, &over);
    }
    /* Those that cannot be asked anywhere are finished like the others: by failover_run. */
    list = reversed(list);
    while (over) {
        struct job *next = over->todo;
        push(&list, over);
        over = next;
    }
    while (list) {
        struct job *next = list->todo;
        push(todo, list);
        list = next;
    }
    *todo = reversed(*todo);
}

/* --- copies: an attempt on the primary may outlive its job --- */

static const char *copy_text(struct arena *arena, const char *text, bool *good)
{
    char *copy = text ? arena_strdup(arena, text) : NULL;
    *good = *good && (copy || text == NULL);
    return copy;
}

static const void *copy_bytes(struct arena *arena, const void *bytes, size_t length, bool *good)
{
    if (bytes == NULL)
        return NULL;
    void *copy = arena_alloc(arena, length);
    *good = *good && copy;
    if (copy && length > 0)
        memcpy(copy, bytes, length);
    return copy;
}

static struct store_key copy_key(struct arena *arena, const struct store_key *key, bool *good)
{
    return (struct store_key){copy_text(arena, key->tool, good), copy_text(arena, key->chamber, good),
                              copy_text(arena, key->context_id, good)};
}

static void copy_complete(struct arena *arena, struct store_call *call, bool *good)
{
    struct store_completion *completion = &call->u.complete.completion;
    completion->key = call->key;
    completion->recipe = copy_text(arena, completion->recipe, good);
    completion->lot = copy_text(arena, completion->lot, good);
    completion->announcement = copy_text(arena, completion->announcement, good);
    size_t count = call->u.complete.count;
    struct store_chunk *chunks = arena_calloc(arena, count, sizeof *chunks);
    *good = *good && chunks;
    for (size_t i = 0; *good && i < count; i++) {
        chunks[i] = call->u.complete.chunks[i];
        chunks[i].bytes = copy_bytes(arena, chunks[i].bytes, chunks[i].length, good);
    }
    call->u.complete.chunks = chunks;
    call->u.complete.hashes = NULL;
}

static void copy_uchart(struct arena *arena, struct store_uchart *uchart, bool *good)
{
    uchart->key = copy_key(arena, &uchart->key, good);
    uchart->recipe = copy_text(arena, uchart->recipe, good);
    uchart->points = copy_bytes(arena, uchart->points, uchart->points_length, good);
    uchart->verdicts = copy_bytes(arena, uchart->verdicts, uchart->verdicts_length, good);
}

static void copy_ucharts(struct arena *arena, struct store_call *call, bool *good)
{
    size_t count = call->u.ucharts.count;
    if (call->u.ucharts.items == NULL) {
        copy_uchart(arena, &call->u.ucharts.one, good);
        return;
    }
    struct store_uchart *items = arena_calloc(arena, count, sizeof *items);
    *good = *good && items;
    for (size_t i = 0; *good && i < count; i++) {
        items[i] = call->u.ucharts.items[i];
        copy_uchart(arena, &items[i], good);
    }
    call->u.ucharts.items = items;
}

static void copy_query(struct arena *arena, struct store_history_query *query, bool *good)
{
    query->tool = copy_text(arena, query->tool, good);
    query->chamber = copy_text(arena, query->chamber, good);
    query->recipe = copy_text(arena, query->recipe, good);
    query->context_id = copy_text(arena, query->context_id, good);
}

static void copy_queries(struct arena *arena, struct store_call *call, bool *good)
{
    if (call->u.history.items == NULL) {
        copy_query(arena, &call->u.history.one, good);
        return;
    }
    struct store_history_query *items = arena_calloc(arena, call->u.history.count, sizeof *items);
    *good = *good && items;
    for (size_t i = 0; *good && i < call->u.history.count; i++) {
        items[i] = call->u.history.items[i];
        copy_query(arena, &items[i], good);
    }
    call->u.history.items = items;
}

static void copy_heads(struct arena *arena, struct store_call *call, bool *good)
{
    struct store_key *items = arena_calloc(arena, call->u.heads.count, sizeof *items);
    *good = *good && items;
    for (size_t i = 0; *good && i < call->u.heads.count; i++)
        items[i] = copy_key(arena, &call->u.heads.items[i], good);
    call->u.heads.items = items;
}

/* Replaces what `call` borrows by copies in its own arena. False: out of memory. */
static bool copy_arguments(struct store_call *call)
{
    struct arena *arena = &call->reply.arena;
    bool good = true;
    call->key = copy_key(arena, &call->key, &good);
    switch (call->op) {
    case STORE_OP_PUT_CHUNK:
        call->u.chunk.bytes = copy_bytes(arena, call->u.chunk.bytes, call->u.chunk.length, &good);
        break;
    case STORE_OP_COMPLETE:
        copy_complete(arena, call, &good);
        break;
    case STORE_OP_MARK_DEAD:
        call->u.dead.reason = copy_text(arena, call->u.dead.reason, &good);
        break;
    case STORE_OP_PUT_UCHARTS:
        copy_ucharts(arena, call, &good);
        break;
    case STORE_OP_PUT_CHART_SET:
        call->u.chart_set.text = copy_text(arena, call->u.chart_set.text, &good);
        break;
    case STORE_OP_PUT_DEBT:
    case STORE_OP_CLEAR_DEBT:
        call->u.debt.key = call->key;
        break;
    case STORE_OP_FETCH_HISTORY:
        copy_queries(arena, call, &good);
        break;
    case STORE_OP_LIST_HEADS:
        copy_heads(arena, call, &good);
        break;
    case STORE_OP_LIST_CONTEXTS:
        call->u.list.tool = copy_text(arena, call->u.list.tool, &good);
        call->u.list.chamber = copy_text(arena, call->u.list.chamber, &good);
        call->u.list.recipe = copy_text(arena, call->u.list.recipe, &good);
        call->u.list.lot = copy_text(arena, call->u.list.lot, &good);
        call->u.list.after_context_id = copy_text(arena, call->u.list.after_context_id, &good);
        break;
    default:
        break;
    }
    return good;
}

/* --- attempts --- */

static void on_answer(void *arg, struct store_reply *reply);

/* Under the lock: the debt that is to be noted before (or again after) the write. */
static struct store_debt debt_to_put(struct job *job)
{
    const struct store_call *call = job->outer;
    struct failover *failover = job->failover;
    struct store_debt debt = {.kind = STORE_DEBT_COPY,
                              .key = call->key,
                              .owner = failover->instance,
                              .put_us = failover_put_us(failover)};
    debt.at_us = debt.put_us;
    if (job->side == SIDE_PRIMARY) {
        const struct store_uchart *uchart = nth_degraded(call, job->debts_put);
        debt.kind = STORE_DEBT_JUDGE;
        debt.key = uchart->key;
        debt.at_us = uchart->end_us;
    } else if (call->op == STORE_OP_PUT_UCHARTS) {
        debt.key = store_call_ucharts(call)[job->debts_put].key;
    } else if (call->op == STORE_OP_PUT_CHART_SET) {
        debt.kind = STORE_DEBT_CHART_SET;
        debt.key = (struct store_key){"", "", NULL};
    }
    return debt;
}

static struct store_call *inner_call(struct job *job, struct attempt *attempt, struct store_debt debt)
{
    struct store_call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return NULL;
    arena_init(&call->reply.arena, 0);
    call->done = on_answer;
    call->arg = attempt;
    bool good = true;
    if (job->step == STEP_MAIN || job->step == STEP_OTHER) {
        call->op = job->outer->op;
        call->key = job->outer->key;
        call->u = job->outer->u;
        good = attempt->side == SIDE_STANDBY || copy_arguments(call);
    } else {
        if (debt.key.context_id == NULL)
            debt.key.context_id =
                arena_printf(&call->reply.arena, "%016llx", (unsigned long long)job->outer->u.chart_set.id);
        good = debt.key.context_id != NULL;
        call->op = STORE_OP_PUT_DEBT;
        call->u.debt = debt;
        call->key = debt.key;
        good = good && copy_arguments(call);
    }
    if (good)
        return call;
    arena_free(&call->reply.arena);
    free(call);
    return NULL;
}

static void start(struct job *job)
{
    struct failover *failover = job->failover;
    struct attempt *attempt = calloc(1, sizeof *attempt);
    struct store_call *call = NULL;
    struct store_debt debt = {0};
    enum failover_side side = job->side;
    if (job->step == STEP_OTHER)
        side = side == SIDE_PRIMARY ? SIDE_STANDBY : SIDE_PRIMARY;
    pthread_mutex_lock(&failover->lock);
    if (job->step == STEP_DEBT || job->step == STEP_LATE_DEBT)
        debt = debt_to_put(job);
    if (job->step == STEP_DEBT && job->debts_put == 0)
        job->debt_put_ns = clock_mono_ns();
    pthread_mutex_unlock(&failover->lock);
    if (attempt) {
        *attempt = (struct attempt){.failover = failover, .side = side, .start_ns = clock_mono_ns()};
        call = inner_call(job, attempt, debt);
    }
    if (call == NULL) {
        free(attempt);
        answer_with(job, ERR_NO_MEMORY, "out of memory for a call", "");
        failover_run(NULL, job);
        return;
    }
    pthread_mutex_lock(&failover->lock);
    attempt->job = job;
    attempt->call = call;
    job->attempt = attempt;
    struct store *store = failover->sides[side].store;
    pthread_mutex_unlock(&failover->lock);
    store->ops->submit(store, call);
}

static void finish(struct job *job)
{
    struct failover *failover = job->failover;
    struct store_call *outer = job->outer;
    struct job *todo = NULL;
    if (job->kept) { /* the reply is the caller's, in the call it knows */
        arena_free(&outer->reply.arena);
        outer->reply = job->kept->reply;
        free(job->kept);
    }
    pthread_mutex_lock(&failover->lock);
    count_running(failover, outer, false);
    failover->on_standby -= job->side == SIDE_STANDBY;
    unlink_job(failover, job);
    failover_take_startable(failover, &todo);
    if (failover->holding && failover->on_standby == 0)
        pthread_cond_broadcast(&failover->changed);
    pthread_mutex_unlock(&failover->lock);
    free(job);
    store_call_finish(outer);
    failover_run(todo, NULL);
    pthread_mutex_lock(&failover->lock);
    if (--failover->in_flight == 0)
        pthread_cond_broadcast(&failover->idle);
    pthread_mutex_unlock(&failover->lock);
}

void failover_run(struct job *todo, struct job *over)
{
    while (todo) {
        struct job *job = todo;
        todo = job->todo;
        /* One that has its answer already (neither store can be asked) is over. */
        if (job->outer->reply.code)
            finish(job);
        else
            start(job);
    }
    while (over) {
        struct job *job = over;
        over = job->todo;
        finish(job);
    }
}

/* --- answers --- */

void failover_note(struct failover *failover, enum failover_side side, bool writes, const struct error *error,
                   bool away)
{
    struct side *of = &failover->sides[side];
    of->calls++;
    if (away) {
        of->failures++;
        of->failed_us = clock_wall_us();
        of->failed = *error;
    } else {
        of->good_ns[writes] = clock_mono_ns();
    }
}

static void keep(struct job *job, struct store_call *answer)
{
    if (job->kept)
        store_reply_free(&job->kept->reply);
    job->kept = answer;
}

static void turn_into_unavailable(struct store_call *call, const char *why)
{
    struct error before = call->reply.error;
    call->reply.code = error_set(&call->reply.error, ERR_UNAVAILABLE, "%s (%.300s)", why, before.text);
}

/* What the standby has not, or not all of, the primary may have. */
static void doubt(struct job *job, struct store_call *answer)
{
    enum store_op op = job->outer->op;
    bool complete_lacks = op == STORE_OP_COMPLETE && answer->reply.code == ERR_INVALID;
    bool lacks = is_look_up(op) && op != STORE_OP_FETCH_UCHART && answer->reply.code == ERR_NOT_FOUND;
    if (complete_lacks || lacks)
        turn_into_unavailable(answer, "the standby does not have it, the primary may: wait until it is back");
}

/* Under the lock: the primary is away for this call. */
static void on_primary_away(struct job *job, struct store_call *answer, struct job **todo, struct job **over)
{
    struct failover *failover = job->failover;
    bool writes = store_op_writes(job->outer->op);
    int64_t now_ns = clock_mono_ns();
    if (job->trouble_ns == 0)
        job->trouble_ns = now_ns;
    keep(job, answer);
    if (failover->sides[SIDE_STANDBY].store == NULL) { /* as if there were no standby */
        push(over, job);
        return;
    }
    failover_event(failover, writes ? BREAKER_WRITE_FAILED : BREAKER_READ_FAILED);
    if (now_ns - job->trouble_ns > failover->times.give_up_ms * 1000000)
        failover_event(failover, BREAKER_GAVE_UP);
    if (failover->mode == STORE_MODE_PRIMARY) {
        job->state = JOB_SLEEPING;
        job->wake_ns = now_ns + RETRY_MS * INT64_C(1000000);
        failover->sleeping_count++;
        return;
    }
    keep(job, NULL);
    choose_side(job, SIDE_STANDBY);
    push(todo, job);
}

static void on_main_answer(struct job *job, struct store_call *answer, struct job **todo, struct job **over)
{
    struct failover *failover = job->failover;
    enum store_op op = job->outer->op;
    enum failover_side other = job->side == SIDE_PRIMARY ? SIDE_STANDBY : SIDE_PRIMARY;
    bool on_standby = job->side == SIDE_STANDBY, writes = store_op_writes(op);
    /* Whether something is owed is looked for now and then; a trace that is not there is looked for at once.
     */
    bool owing = failover->debts_known != 0 || op == STORE_OP_FETCH_TCHART;
    bool other_may =
        failover->sides[other].store && (on_standby ? failover->mode != STORE_MODE_STANDBY : owing);
    answer->reply.degraded = on_standby && !failover_is_away(answer->reply.code);
    if (on_standby)
        answer->reply.newest = false;
    keep(job, answer);
    if (op == STORE_OP_EXPIRE && answer->reply.code == 0) {
        failover->expire_wanted = true;
        failover->expire_retention = job->outer->u.expire.retention;
        failover->expire_now_us = job->outer->u.expire.now_us;
        failover->expire_limit = job->outer->u.expire.limit;
        pthread_cond_signal(&failover->pay_wake);
    }
    if (is_look_up(op) && answer->reply.code == ERR_NOT_FOUND && other_may) {
        job->step = STEP_OTHER;
        push(todo, job);
        return;
    }
    if (on_standby || (owing && op == STORE_OP_COMPLETE))
        doubt(job, answer);
    bool slow = on_standby && writes && debts_of(job) > 0 &&
                clock_mono_ns() - job->debt_put_ns > failover->times.grace_ms * 500000;
    if (slow && answer->reply.code == 0) {
        job->step = STEP_LATE_DEBT;
        job->debts_put = 0;
        push(todo, job);
        return;
    }
    push(over, job);
}

static void on_step_answer(struct job *job, struct store_call *answer, struct job **todo, struct job **over)
{
    struct failover *failover = job->failover;
    enum failover_side side =
        (job->step == STEP_OTHER) == (job->side == SIDE_STANDBY) ? SIDE_PRIMARY : SIDE_STANDBY;
    int code = answer->reply.code;
    bool away = failover_is_away(code), writes = store_op_writes(answer->op);
    failover_note(failover, side, writes, &answer->reply.error, away);
    if (side == SIDE_PRIMARY && !away)
        failover_event(failover, writes ? BREAKER_WRITE_GOOD : BREAKER_READ_GOOD);
    if (side == SIDE_PRIMARY && away && job->step != STEP_OTHER) {
        on_primary_away(job, answer, todo, over);
        return;
    }
    switch (job->step) {
    case STEP_MAIN:
        on_main_answer(job, answer, todo, over);
        return;
    case STEP_OTHER:
        if (code == 0) {
            answer->reply.degraded = true;
            answer->reply.newest = false;
            keep(job, answer);
        } else {
            store_reply_free(&answer->reply);
            if (job->side == SIDE_STANDBY)
                doubt(job, job->kept);
        }
        push(over, job);
        return;
    case STEP_DEBT:
    case STEP_LATE_DEBT:
        if (code) {
            keep(job, answer);
            push(over, job);
            return;
        }
        store_reply_free(&answer->reply);
        if (++job->debts_put < debts_of(job)) {
            push(todo, job);
        } else if (job->step == STEP_DEBT) {
            job->step = STEP_MAIN;
            push(todo, job);
        } else {
            push(over, job);
        }
    }
}

static void on_answer(void *arg, struct store_reply *reply)
{
    struct attempt *attempt = arg;
    struct failover *failover = attempt->failover;
    struct store_call *answer = (struct store_call *)reply; /* the reply is its first member */
    struct job *todo = NULL, *over = NULL;
    pthread_mutex_lock(&failover->lock);
    struct job *job = attempt->job;
    if (job) {
        job->attempt = NULL;
        on_step_answer(job, answer, &todo, &over);
    } else {
        failover->abandoned--;
        pthread_cond_broadcast(&failover->changed);
    }
    pthread_mutex_unlock(&failover->lock);
    free(attempt);
    if (job == NULL)
        store_reply_free(reply);
    failover_run(todo, over);
}

/* --- looking after jobs --- */

static void abandon(struct job *job, struct job **todo, struct job **over)
{
    struct failover *failover = job->failover;
    job->attempt->job = NULL;
    job->attempt = NULL;
    failover->abandoned++;
    if (job->step == STEP_OTHER) { /* the standby's answer stands */
        doubt(job, job->kept);
        push(over, job);
        return;
    }
    keep(job, NULL);
    choose_side(job, SIDE_STANDBY);
    push(todo, job);
}

/* An attempt on the primary that has no answer. */
static void look_at_attempt(struct job *job, int64_t now_ns, struct job **todo, struct job **over)
{
    struct failover *failover = job->failover;
    const struct side *primary = &failover->sides[SIDE_PRIMARY];
    bool writes = store_op_writes(job->outer->op);
    int64_t patience_ns = failover->times.call_ms * 1000000;
    if (now_ns - job->attempt->start_ns < patience_ns || failover->sides[SIDE_STANDBY].store == NULL)
        return;
    bool silent = now_ns - primary->good_ns[writes] >= patience_ns;
    if (failover->mode == STORE_MODE_PRIMARY && silent && is_light(job->outer)) {
        if (now_ns >= job->late_again_ns) {
            failover_note(failover, SIDE_PRIMARY, writes,
                          &(struct error){.code = ERR_TIMEOUT, .text = "a call has had no answer in time"},
                          true);
            failover_event(failover, writes ? BREAKER_WRITE_FAILED : BREAKER_READ_FAILED);
            job->late_again_ns = now_ns + LATE_AGAIN_MS * INT64_C(1000000);
        }
        if (now_ns - job->attempt->start_ns >= failover->times.give_up_ms * 1000000)
            failover_event(failover, BREAKER_GAVE_UP);
    }
    if (failover->mode != STORE_MODE_PRIMARY)
        abandon(job, todo, over);
}

void failover_look_after(struct failover *failover, int64_t now_ns, struct job **todo, struct job **over)
{
    for (struct job *job = failover->jobs; job; job = job->next) {
        if (job->attempt && job->attempt->side == SIDE_PRIMARY)
            look_at_attempt(job, now_ns, todo, over);
        bool wakes = job->state == JOB_SLEEPING && !failover->holding &&
                     (job->wake_ns <= now_ns || failover->mode != STORE_MODE_PRIMARY);
        if (!wakes)
            continue;
        failover->sleeping_count--;
        keep(job, NULL);
        begin(job, todo, over);
    }
    *todo = reversed(*todo);
}

/* --- the door --- */

/* Those that neither store is asked: refused, or meaningless while the primary is away. */
static bool answer_at_once(struct failover *failover, struct store_call *call)
{
    struct store_reply *reply = &call->reply;
    struct store_door door = {.kind = "",
                              .place = "failover",
                              .closing = failover->closing,
                              .read_only = failover->options.read_only};
    if (store_call_refuse(call, &door))
        return true;
    if (failover->job_count >= FAILOVER_QUEUE_MAX) {
        reply->code =
            error_set(&reply->error, ERR_UNAVAILABLE,
                      "store failover: %d calls are under way already; try again when some have ended",
                      FAILOVER_QUEUE_MAX);
        return true;
    }
    bool waits =
        call->op == STORE_OP_EXPIRE || call->op == STORE_OP_LIST_DEBTS || call->op == STORE_OP_CLEAR_DEBT;
    reply->degraded = waits && failover->mode != STORE_MODE_PRIMARY;
    return reply->degraded;
}

void failover_submit(struct store *base, struct store_call *call)
{
    struct failover *failover = (struct failover *)base;
    struct job *job = calloc(1, sizeof *job), *todo = NULL, *over = NULL;
    pthread_mutex_lock(&failover->lock);
    failover->in_flight++;
    if (job == NULL && call->reply.code == 0)
        call->reply.code =
            error_set(&call->reply.error, ERR_NO_MEMORY, "store failover: out of memory for a call");
    if (answer_at_once(failover, call)) {
        call->next = failover->answered;
        failover->answered = call;
        pthread_cond_signal(&failover->keeper_wake);
        pthread_mutex_unlock(&failover->lock);
        free(job);
        return;
    }
    job->failover = failover;
    job->outer = call;
    link_job(failover, job);
    if (failover->holding || !may_run(failover, call, true)) {
        count_waiting(failover, call, true);
    } else {
        count_running(failover, call, true);
        begin(job, &todo, &over);
    }
    if (over) { /* on a thread of the store, not on the caller's */
        job->state = JOB_SLEEPING;
        failover->sleeping_count++;
        job->wake_ns = 0;
        call->reply.code = 0;
        pthread_cond_signal(&failover->keeper_wake);
    }
    pthread_mutex_unlock(&failover->lock);
    failover_run(todo, NULL);
}
