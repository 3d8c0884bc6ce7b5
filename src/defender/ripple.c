/* A context that came late changes the history of those that ended after it. So that every stored verdict is
 * what a recomputation gives, they are judged again, each by the chart file that judged it, in event order,
 * until as many as the look-back in a row came out unchanged. Only then is the late one acknowledged: a crash
 * on the way repeats it. */
#include "base/log.h"
#include "defender/pipeline_job.h"

#include <stdlib.h>
#include <string.h>

static void ripple_next(struct job *job);

static void run_page(void *target, void *argument)
{
    struct job *job = target;
    struct store_reply *reply = argument;
    if (reply->code) {
        struct error err = reply->error;
        store_reply_free(reply);
        if (err.code == ERR_CORRUPT) { /* waiting does not mend a row */
            error_prefix(&err, err.code, "judged, but the later contexts could not be judged again");
            job_bury(job, "poison", err.code, &err);
        } else {
            job_retry_transient(job, &err);
        }
        return;
    }
    job->degraded = job->degraded || reply->degraded;
    store_reply_free(job->ripple.page);
    job->ripple.page = reply;
    job->ripple.next = 0;
    job->ripple.last_page = reply->uchart_count < RIPPLE_PAGE_ROWS;
    if (reply->uchart_count > 0) {
        const struct store_uchart *last = &reply->ucharts[reply->uchart_count - 1];
        job->ripple.tail_end_us = last->end_us;
        while ((job->ripple.tail_id = arena_strdup(&job->arena, last->key.context_id)) == NULL)
            uv_sleep(1);
    }
    ripple_next(job);
}

static void on_page(void *arg, struct store_reply *reply)
{
    struct job *job = arg;
    mailbox_post(job->pipeline->ports.mailbox, run_page, job, reply);
}

static void ask_page(struct job *job, int64_t after_end_us, const char *after_id)
{
    struct store_history_query query = {.tool = job->announced.tool,
                                        .chamber = job->announced.chamber,
                                        .recipe = job->announced.recipe,
                                        .end_us = after_end_us,
                                        .context_id = after_id,
                                        .later = true,
                                        .limit = RIPPLE_PAGE_ROWS};
    store_fetch_history(job->pipeline->ports.store, &query, on_page, job);
}

void ripple_begin(struct job *job)
{
    task_release(job);
    job->stage = JOB_RIPPLING;
    job->ripple.unchanged = 0;
    job->ripple.tail_end_us = job->announced.end_us;
    job->ripple.tail_id = job->announced.id;
    ask_page(job, job->announced.end_us, job->announced.id);
}

void ripple_resume(struct job *job)
{
    if (job->ripple.page == NULL)
        ask_page(job, job->announced.end_us, job->announced.id);
    else
        ripple_next(job);
}

/* Everything that the job was for is stored. */
static void job_end(struct job *job)
{
    if (job->owed && !job->degraded)
        job_settle(job, job->announced.id, job->announced.end_us, job->owed_begun_us);
    job_finish(job);
}

static void ripple_end(struct job *job)
{
    /* Nothing ended after the tail: it is the newest of all, of what the store that answered has. */
    if (job->ripple.last_page && !job->degraded)
        head_advance(chamber_head(job->chamber, job->announced.recipe, true), job->ripple.tail_end_us,
                     job->ripple.tail_id);
    job_end(job);
}

/* The row at ripple.next is the next to be judged again. */
static void ripple_next(struct job *job)
{
    struct ripple *ripple = &job->ripple;
    task_release(job);
    bool page_done = ripple->next >= ripple->page->uchart_count;
    if (ripple->unchanged >= ripple->lookback || (page_done && ripple->last_page)) {
        ripple_end(job);
        return;
    }
    if (page_done) {
        ask_page(job, ripple->tail_end_us, ripple->tail_id);
        return;
    }
    const struct store_uchart *row = &ripple->page->ucharts[ripple->next];
    task_begin(job, row->key.context_id, row->recipe, row->end_us, row->chart_set, false);
}

/* Whether other contexts of the recipe ended after this one. What was judged here is remembered; before
 * anything was, the store is asked. */
static bool may_have_later(struct job *job)
{
    const struct recipe_head *head = chamber_head(job->chamber, job->announced.recipe, false);
    return head == NULL || head->context_id == NULL ||
           context_compare_event(job->announced.end_us, job->announced.id, head->end_us, head->context_id) <
               0;
}

/* How many later contexts may have this one in their history: by the chart file that judged it now, and by
 * the one that did before, whose indicators this context no longer has. */
static size_t widest_lookback(const struct job *job)
{
    const struct task *task = &job->task;
    size_t now = 0, before = 0;
    judgement_lookback(task->set, task->recipe, &now, NULL);
    if (task->prior && task->prior->chart_set != task->set_id && task->prior->chart_set != 0) {
        struct chart_set *old = chartsets_find(job->pipeline->ports.chartsets, task->prior->chart_set);
        before = RIPPLE_UNKNOWN_LOOKBACK;
        if (old)
            judgement_lookback(old, task->recipe, &before, NULL);
    }
    return now > before ? now : before;
}

void job_task_done(struct job *job)
{
    struct task *task = &job->task;
    struct ripple *ripple = &job->ripple;
    size_t lookback = widest_lookback(job);
    job->backoff_ms = 0;
    if (!task->own) {
        if (lookback > ripple->lookback)
            ripple->lookback = lookback;
        if (job->owed &&
            !job->degraded) /* it has been judged from everything: its own debt is paid by this */
            job_settle(job, task->context_id, task->end_us, task->begun_us);
        ripple->unchanged = task->changed ? 0 : ripple->unchanged + 1;
        ripple->next++;
        ripple_next(job);
        return;
    }
    /* From here on the store's word counts, not the announcement's. */
    job->announced.end_us = task->end_us;
    job->announced.recipe = arena_strdup(&job->arena, task->recipe);
    while (job->announced.recipe == NULL) {
        uv_sleep(1);
        job->announced.recipe = arena_strdup(&job->arena, task->recipe);
    }
    if (task->history_reply && task->history_reply->newest)
        head_advance(chamber_head(job->chamber, job->announced.recipe, true), task->end_us,
                     job->announced.id);
    ripple->lookback = lookback;
    if (job->no_ripple) {
        job_end(job);
    } else if (may_have_later(job)) {
        ripple_begin(job);
    } else {
        head_advance(chamber_head(job->chamber, job->announced.recipe, true), job->announced.end_us,
                     job->announced.id);
        job_end(job);
    }
}

void job_task_failed(struct job *job, const char *class_name, int code, const struct error *error)
{
    struct error copy = *error;
    if (!job->task.own) { /* a later context that cannot be judged again keeps the verdict it has */
        LOG_WARN("a later context could not be judged again", LOG_STR("context", job->task.context_id),
                 LOG_STR("error", copy.text));
        job->ripple.next++;
        ripple_next(job);
        return;
    }
    if (job->owed) {
        LOG_WARN("a verdict from a standby store cannot be made again: it stays as it is",
                 LOG_STR("context", job->announced.id), LOG_STR("error", copy.text));
        task_release(job);
        job_end(job);
        return;
    }
    bool missing = strcmp(class_name, "missing") == 0;
    if (missing && ++job->missing_attempts < PIPELINE_MISSING_ATTEMPTS)
        job_sleep(job, job->pipeline->options.missing_delay_ms << (job->missing_attempts - 1), false);
    else
        job_bury(job, class_name, code, &copy);
}
