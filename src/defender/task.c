/* One context judged: gather what it needs, compute, alarm, write. Each function is one step; the next is
 * called when the step's answers are in. A step that fails ends the task; nothing before the last write is
 * seen by anyone, and everything can be done again. */
#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "defender/pipeline_job.h"

#include <stdlib.h>
#include <string.h>

static void task_gather(struct job *job);

static struct store_key task_key(const struct job *job)
{
    return (struct store_key){job->announced.tool, job->announced.chamber, job->task.context_id};
}

void task_release(struct job *job)
{
    struct task *task = &job->task;
    store_reply_free(task->tchart);
    store_reply_free(task->prior_reply);
    store_reply_free(task->history_reply);
    store_reply_free(task->found);
    struct arena arena = task->arena;
    arena_reset(&arena);
    *task = (struct task){.arena = arena};
}

/* --- gathering: T-chart, earlier U-chart and history, side by side --- */

static void record(struct job *job, enum metrics_step step, int64_t ns)
{
    if (job->task.own)
        histogram_record(&job->pipeline->ports.metrics->steps[step], ns);
}

static void count_read(struct job *job, int64_t ns, const struct store_reply *reply)
{
    histogram_record(&job->pipeline->ports.metrics->store_read, ns);
    job->pipeline->ports.metrics->store_read_errors += reply->code != 0 && reply->code != ERR_NOT_FOUND;
}

bool store_is_away(int code)
{
    return error_is_transient(code) || code == ERR_CLOSED || code == ERR_CORRUPT || code == ERR_UNSUPPORTED;
}

/* One row that is damaged, in a store that otherwise answers: nothing will come of waiting, and the chambers
 * whose rows are sound must go on. Whether it answers is seen by asking it for the context's record. */
static bool is_damage(const struct task *task, const struct store_reply *reply)
{
    return reply && reply->code == ERR_CORRUPT && reply != task->found && task->found &&
           task->found->code == 0;
}

static bool must_look_for_damage(const struct task *task)
{
    const struct store_reply *replies[] = {task->tchart, task->prior_reply, task->history_reply};
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
        if (replies[i] && replies[i]->code == ERR_CORRUPT)
            return task->found == NULL;
    return false;
}

/* The first answer that means "away"; NULL when there is none. */
static const struct error *transient_answer(const struct task *task)
{
    const struct store_reply *replies[] = {task->tchart, task->prior_reply, task->history_reply, task->found};
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
        if (replies[i] && store_is_away(replies[i]->code) && !is_damage(task, replies[i]))
            return &replies[i]->error;
    return NULL;
}

static void task_compute(struct job *job);

static void run_found(void *target, void *argument)
{
    struct job *job = target;
    job->task.found = argument;
    job->task.waiting--;
    task_gather(job);
}

static void on_found(void *arg, struct store_reply *reply)
{
    struct job *job = arg;
    mailbox_post(job->pipeline->ports.mailbox, run_found, job, reply);
}

static void run_history(void *target, void *argument)
{
    struct job *job = target;
    struct task *task = &job->task;
    struct store_reply *reply = argument;
    task->history_reply = reply;
    task->waiting--;
    int64_t elapsed_ns = clock_mono_ns() - task->history_start_ns;
    record(job, STEP_HISTORY, elapsed_ns);
    histogram_record(&job->pipeline->ports.metrics->cache_miss, elapsed_ns);
    count_read(job, elapsed_ns, reply);
    if (reply->code == 0) {
        task->history = reply->ucharts;
        task->history_count = reply->uchart_count;
    }
    task_gather(job);
}

static void on_history(void *arg, struct store_reply *reply)
{
    struct job *job = arg;
    mailbox_post(job->pipeline->ports.mailbox, run_history, job, reply);
}

static struct store_history_query history_query(const struct job *job, size_t lookback)
{
    return (struct store_history_query){.tool = job->announced.tool,
                                        .chamber = job->announced.chamber,
                                        .recipe = job->task.recipe,
                                        .end_us = job->task.end_us,
                                        .context_id = job->task.context_id,
                                        .limit = lookback};
}

/* From the cache at once, or from the store later. */
static int ask_history(struct job *job, struct error *err)
{
    struct task *task = &job->task;
    size_t lookback;
    int code = judgement_lookback(task->set, task->recipe, &lookback, err);
    if (code)
        return code;
    task->history = NULL;
    task->history_count = 0;
    if (lookback == 0)
        return 0;
    struct store_history_query query = history_query(job, lookback);
    task->history_start_ns = clock_mono_ns();
    code = cache_lookup(job->pipeline->ports.cache, &query, &task->arena, &task->history,
                        &task->history_count, err);
    if (code == 0) {
        int64_t elapsed_ns = clock_mono_ns() - task->history_start_ns;
        record(job, STEP_HISTORY, elapsed_ns);
        histogram_record(&job->pipeline->ports.metrics->cache_hit, elapsed_ns);
        return 0;
    }
    task->waiting++;
    store_fetch_history(job->pipeline->ports.store, &query, on_history, job);
    return 0;
}

static void run_tchart(void *target, void *argument)
{
    struct job *job = target;
    job->task.tchart = argument;
    job->task.waiting--;
    int64_t elapsed_ns = clock_mono_ns() - job->task.fetch_start_ns;
    record(job, STEP_FETCH, elapsed_ns);
    count_read(job, elapsed_ns, job->task.tchart);
    task_gather(job);
}

static void on_tchart(void *arg, struct store_reply *reply)
{
    struct job *job = arg;
    mailbox_post(job->pipeline->ports.mailbox, run_tchart, job, reply);
}

static void run_prior(void *target, void *argument)
{
    struct job *job = target;
    job->task.prior_reply = argument;
    job->task.waiting--;
    count_read(job, clock_mono_ns() - job->task.fetch_start_ns, job->task.prior_reply);
    task_gather(job);
}

static void on_prior(void *arg, struct store_reply *reply)
{
    struct job *job = arg;
    mailbox_post(job->pipeline->ports.mailbox, run_prior, job, reply);
}

static void task_fetch(struct job *job)
{
    struct task *task = &job->task;
    struct error err;
    task->set = task->set_id ? chartsets_find(job->pipeline->ports.chartsets, task->set_id) : NULL;
    struct store_key key = task_key(job);
    task->fetch_start_ns = clock_mono_ns();
    task->waiting = 2;
    int code = ask_history(job, &err);
    if (code) {
        task->waiting = 0;
        job_retry_transient(job, &err); /* only ERR_NO_MEMORY can be */
        return;
    }
    store_fetch_tchart(job->pipeline->ports.store, &key, on_tchart, job);
    store_fetch_uchart(job->pipeline->ports.store, &key, on_prior, job);
}

static void on_set_loaded(void *arg, int code, const struct error *error)
{
    struct job *job = arg;
    if (code == 0)
        task_fetch(job);
    else if (error_is_transient(code) || code == ERR_CLOSED)
        job_retry_transient(job, error);
    else
        job_task_failed(job, "poison", code, error);
}

void task_begin(struct job *job, const char *context_id, const char *recipe, int64_t end_us, uint64_t set_id,
                bool own)
{
    struct task *task = &job->task;
    task_release(job);
    task->context_id = context_id;
    task->recipe = recipe;
    task->end_us = end_us;
    task->set_id = set_id;
    task->own = own;
    task->begun_us = clock_wall_us();
    if (own) {
        job->owed_begun_us = task->begun_us;
        job->degraded = false;
    }
    struct chartsets *sets = job->pipeline->ports.chartsets;
    if (set_id && chartsets_find(sets, set_id) == NULL)
        chartsets_load(sets, set_id, on_set_loaded, job);
    else
        task_fetch(job);
}

/* The announcement is a hint: what the store has of the context is the truth, and where they differ the
 * history that was asked for is the wrong one. */
static bool adopt_truth(struct job *job, const struct store_completion *completion)
{
    struct task *task = &job->task;
    struct error err;
    int code = context_parse(completion->announcement, strlen(completion->announcement), &task->arena,
                             &task->context, &err);
    if (code == ERR_NO_MEMORY) {
        job_retry_transient(job, &err);
        return false;
    }
    if (code) {
        error_prefix(&err, code, "the stored announcement");
        job_task_failed(job, "poison", code, &err);
        return false;
    }
    bool same = strcmp(task->context.recipe, task->recipe) == 0 && task->context.end_us == task->end_us;
    task->recipe = task->context.recipe;
    task->end_us = task->context.end_us;
    task->truth_known = true;
    if (same)
        return true;
    store_reply_free(task->history_reply);
    task->history_reply = NULL;
    code = ask_history(job, &err);
    if (code) {
        job_retry_transient(job, &err);
        return false;
    }
    return task->waiting == 0;
}

/* No T-chart: it never came, it has not come yet, or it has expired and the U-chart is what is left. */
static bool look_for_expired(struct job *job)
{
    struct task *task = &job->task;
    if (task->prior && task->found == NULL) {
        task->waiting++;
        store_find_context(job->pipeline->ports.store, task->context_id, on_found, job);
        return false;
    }
    if (task->prior && task->found->code == 0 && task->found->completion_count == 1)
        return task->truth_known || adopt_truth(job, &task->found->completions[0]);
    job_task_failed(job, "missing", ERR_NOT_FOUND, &task->tchart->error);
    return false;
}

static bool already_judged(const struct job *job)
{
    const struct task *task = &job->task;
    return task->own && !job->replay && task->prior && task->prior->chart_set == task->set_id;
}

static void keep_row(struct job *job, const struct store_uchart *row)
{
    struct cache *cache = job->pipeline->ports.cache;
    if (cache_put(cache, row, NULL))
        cache_forget(cache, row->key.tool, row->key.chamber, row->recipe);
}

/* The store's history into the cache. The context itself is no part of its own history, but when it has been
 * judged before it is one of all that follow: without it the cache would vouch for a history with a hole. */
static void keep_history(struct job *job)
{
    struct task *task = &job->task;
    size_t lookback;
    if (task->history_reply == NULL || task->history_reply->degraded ||
        judgement_lookback(task->set, task->recipe, &lookback, NULL))
        return; /* a standby's may have holes, and outlive its time in the cache */
    struct store_history_query query = history_query(job, lookback);
    bool newest = task->history_reply->newest && !is_damage(task, task->prior_reply);
    cache_fill(job->pipeline->ports.cache, &query, task->history, task->history_count, newest, NULL);
    if (task->prior)
        keep_row(job, task->prior);
}

static bool is_degraded(const struct task *task)
{
    return task->tchart->degraded || (task->history_reply && task->history_reply->degraded);
}

/* While a standby store answers: what only the primary can have waits for it in the stream, so that its
 * chamber goes on; and what is owed is not paid with verdicts of low quality. */
static bool leave_to_the_primary(struct job *job)
{
    struct task *task = &job->task;
    job->degraded = job->degraded || is_degraded(task) || task->prior_reply->degraded;
    if (job->owed && job->degraded) {
        job_postpone(job, PIPELINE_POSTPONE_MS);
        return true;
    }
    if (task->tchart->code != ERR_UNAVAILABLE || !task->tchart->degraded)
        return false;
    struct error copy = task->tchart->error;
    if (task->own)
        job_postpone(job, PIPELINE_POSTPONE_MS);
    else
        job_task_failed(job, "missing", copy.code, &copy);
    return true;
}

/* Called after every answer; goes on when all are in. */
static void task_gather(struct job *job)
{
    struct task *task = &job->task;
    if (task->waiting > 0)
        return;
    if (job->abandoned) {
        job_abandon(job);
        return;
    }
    if (must_look_for_damage(task)) {
        task->waiting++;
        store_find_context(job->pipeline->ports.store, task->context_id, on_found, job);
        return;
    }
    if (leave_to_the_primary(job))
        return;
    const struct error *away = transient_answer(task);
    if (away) {
        struct error copy = *away;
        job_retry_transient(job, &copy);
        return;
    }
    if (task->prior_reply->code == 0)
        task->prior = &task->prior_reply->ucharts[0];
    /* A U-chart from before that is damaged counts as none: this judgement replaces it. */
    const struct store_reply *replies[] = {task->tchart, task->history_reply,
                                           is_damage(task, task->prior_reply) ? NULL : task->prior_reply};
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        if (replies[i] && replies[i]->code && replies[i]->code != ERR_NOT_FOUND) {
            struct error copy = replies[i]->error;
            job_task_failed(job, "poison", copy.code, &copy);
            return;
        }
    }
    if (task->tchart->code == ERR_NOT_FOUND) {
        if (!look_for_expired(job))
            return;
    } else if (!task->truth_known && !adopt_truth(job, &task->tchart->completions[0])) {
        return;
    }
    keep_history(job);
    if (already_judged(job)) {
        /* Perhaps by another defender, after this one read the chamber's history. */
        if (cache_put(job->pipeline->ports.cache, task->prior, NULL))
            cache_forget(job->pipeline->ports.cache, job->announced.tool, job->announced.chamber,
                         task->recipe);
        job->pipeline->ports.metrics->repeated++;
        job_task_done(job);
        return;
    }
    task_compute(job);
}

/* --- computing, on a thread of the pool --- */

static void on_work(uv_work_t *work)
{
    struct job *job = work->data;
    struct task *task = &job->task;
    bool expired = task->tchart->code != 0;
    struct judgement_input input = {.set = task->set,
                                    .context = &task->context,
                                    .chunks = expired ? NULL : task->tchart->chunks,
                                    .chunk_count = expired ? 0 : task->tchart->chunk_count,
                                    .stored = task->prior,
                                    .history = task->history,
                                    .history_count = task->history_count,
                                    .degraded = is_degraded(task)};
    task->work_code = judgement_compute(&input, &task->arena, &task->judgement, &task->work_error);
}

static void task_alarm(struct job *job);

static void after_work(uv_work_t *work, int status)
{
    struct job *job = work->data;
    struct task *task = &job->task;
    if (job->abandoned) {
        job_abandon(job);
        return;
    }
    if (status || task->work_code == ERR_NO_MEMORY) {
        if (status)
            error_set(&task->work_error, ERR_UNAVAILABLE, "the work was cancelled");
        struct error copy = task->work_error;
        job_retry_transient(job, &copy);
        return;
    }
    if (task->work_code) {
        struct error copy = task->work_error;
        job_task_failed(job, "poison", copy.code, &copy);
        return;
    }
    record(job, STEP_DECODE, task->judgement.decode_ns);
    record(job, STEP_CALCULATE, task->judgement.calculate_ns);
    record(job, STEP_EVALUATE, task->judgement.evaluate_ns);
    task_alarm(job);
}

static void task_compute(struct job *job)
{
    job->task.work.data = job;
    uv_queue_work(job->pipeline->ports.loop, &job->task.work, on_work, after_work);
}

/* --- alarms --- */

static void task_write(struct job *job);

static void on_alarm_answer(void *arg, int code, int api_error, const struct error *error,
                            const json_t *response)
{
    (void)api_error;
    (void)response;
    struct job *job = arg;
    struct task *task = &job->task;
    if (code && task->alarm_code == 0) {
        task->alarm_code = code;
        task->work_error = *error;
    }
    if (--task->alarms_waiting > 0)
        return;
    if (task->alarm_code) {
        struct error copy = task->work_error;
        if (job->pipeline->ports.stream_missing)
            job->pipeline->ports.stream_missing(job->pipeline->ports.arg);
        job_retry_transient(job, &copy);
        return;
    }
    record(job, STEP_ALARM, clock_mono_ns() - task->alarm_start_ns);
    job->pipeline->ports.metrics->alarms += (int64_t)task->alarm_count;
    for (size_t i = 0; i < task->alarm_count; i++)
        job->pipeline->ports.metrics->alarms_of[task->alarms[i].severity]++;
    task_write(job);
}

/* The U-chart from before says which alarms were raised then. (Not so when a replay asks for alarms: the
 * judgement before it may have been a quiet one; their message IDs keep the stream from taking one twice.) */
static int decode_prior(struct job *job, struct uchart *before, bool *known, struct error *err)
{
    struct task *task = &job->task;
    *known = false;
    if (task->prior == NULL || task->prior->alarm_count == 0)
        return 0;
    struct uchart_bytes bytes = {task->prior->points, task->prior->points_length, task->prior->verdicts,
                                 task->prior->verdicts_length};
    int code = uchart_decode(&bytes, &task->arena, before, err);
    *known = code == 0;
    return code == ERR_NO_MEMORY ? code : 0; /* an unreadable one raised nothing that we know of */
}

static void task_alarm(struct job *job)
{
    struct task *task = &job->task;
    struct error err;
    struct uchart before;
    bool known;
    if (uchart_worst_severity(&task->judgement.uchart) == SEVERITY_NONE ||
        (job->replay && !job->replay_alarms && !job->owed)) {
        task_write(job);
        return;
    }
    int code = decode_prior(job, &before, &known, &err);
    if (code == 0)
        code = alarm_list(job->pipeline->cell, &task->context, &task->judgement.uchart,
                          known && !job->replay_alarms ? &before : NULL, clock_wall_us(), &task->arena,
                          &task->alarms, &task->alarm_count, &err);
    if (code) {
        job_retry_transient(job, &err);
        return;
    }
    if (task->alarm_count == 0) {
        task_write(job);
        return;
    }
    task->alarm_start_ns = clock_mono_ns();
    task->alarms_waiting = task->alarm_count;
    for (size_t i = 0; i < task->alarm_count; i++) {
        struct bus_header header = {"Nats-Msg-Id", task->alarms[i].id};
        jetstream_publish(job->pipeline->ports.bus, task->alarms[i].subject, &header, 1, task->alarms[i].json,
                          strlen(task->alarms[i].json), on_alarm_answer, job);
    }
}

/* --- writing --- */

static bool same_as_stored(const struct task *task)
{
    const struct store_uchart *old = task->prior;
    const struct uchart_bytes *new = &task->judgement.bytes;
    return old && old->chart_set == task->set_id && old->points_length == new->points_length &&
           old->verdicts_length ==
               new->verdicts_length &&memcmp(old->points, new->points, new->points_length) == 0 &&
           memcmp(old->verdicts, new->verdicts, new->verdicts_length) == 0;
}

static void run_written(void *target, void *argument)
{
    struct job *job = target;
    struct task *task = &job->task;
    struct store_reply *reply = argument;
    struct error err = reply->error;
    int code = reply->code;
    store_reply_free(reply);
    int64_t start_ns = clock_mono_ns();
    histogram_record(&job->pipeline->ports.metrics->store_write, start_ns - task->store_start_ns);
    job->pipeline->ports.metrics->store_write_errors += code != 0;
    if (store_is_away(code)) {
        job_retry_transient(job, &err);
        return;
    }
    if (code) {
        job_task_failed(job, "poison", code, &err);
        return;
    }
    record(job, STEP_STORE, start_ns - task->store_start_ns);
    keep_row(job, &task->row);
    record(job, STEP_CACHE, clock_mono_ns() - start_ns);
    task_tell(job);
    if (task->own)
        job->pipeline->ports.metrics->judged++;
    else
        job->pipeline->ports.metrics->rejudged++;
    if (task->own && !job->replay)
        job->pipeline->ports.judged(job->pipeline->ports.arg, job->subject, task->context.point_count);
    job_task_done(job);
}

static void on_written(void *arg, struct store_reply *reply)
{
    struct job *job = arg;
    mailbox_post(job->pipeline->ports.mailbox, run_written, job, reply);
}

static void task_write(struct job *job)
{
    struct task *task = &job->task;
    if (job->abandoned) {
        job_abandon(job);
        return;
    }
    task->changed = !same_as_stored(task);
    if (!task->changed && !task->own) { /* a later context that came out the same */
        job_task_done(job);
        return;
    }
    int32_t alarm_count = 0;
    for (size_t i = 0; i < task->judgement.uchart.count; i++)
        alarm_count += task->judgement.uchart.points[i].state == VERDICT_ALARM;
    task->row = (struct store_uchart){.key = task_key(job),
                                      .recipe = task->recipe,
                                      .end_us = task->end_us,
                                      .judged_us = clock_wall_us(),
                                      .chart_set = task->set_id,
                                      .alarm_count = alarm_count,
                                      .severity = (int32_t)uchart_worst_severity(&task->judgement.uchart),
                                      .points = task->judgement.bytes.points,
                                      .points_length = task->judgement.bytes.points_length,
                                      .verdicts = task->judgement.bytes.verdicts,
                                      .verdicts_length = task->judgement.bytes.verdicts_length,
                                      .degraded = is_degraded(task)};
    task->store_start_ns = clock_mono_ns();
    store_put_uchart(job->pipeline->ports.store, &task->row, on_written, job);
}
