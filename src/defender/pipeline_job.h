/* Inside the pipeline: a job is one message on its way; a task is one context being judged for it (the
 * message's own, then any later context that must be judged again). Only the pipeline's own files include
 * this. */
#ifndef CHAMBERLAIN_DEFENDER_PIPELINE_JOB_H
#define CHAMBERLAIN_DEFENDER_PIPELINE_JOB_H

#include "defender/alarm.h"
#include "defender/judgement.h"
#include "defender/pipeline.h"

#include <uthash.h>
#include <utlist.h>

enum {
    RIPPLE_PAGE_ROWS = 64,
    RIPPLE_UNKNOWN_LOOKBACK = 1000, /* of a chart file that is not loaded */
    ACK_REPLY_BYTES = 512
};

/* The newest context that was judged of a (chamber, recipe), by event order. */
struct recipe_head {
    struct recipe_head *next;
    char *recipe;
    char *context_id;
    int64_t end_us;
};

struct chamber {
    char *subject;            /* its key */
    struct job *first, *last; /* waiting, in stream order */
    bool busy;
    bool ready; /* in the pipeline's list of chambers that could start */
    struct chamber *next_ready;
    struct recipe_head *heads;
    UT_hash_handle hh;
};

/* One context being judged. Everything is in `arena` or in the replies, and goes when the task is done. */
struct task {
    struct arena arena;
    const char *context_id;
    const char *recipe;
    int64_t end_us;
    uint64_t set_id; /* the chart file to judge by */
    struct chart_set *set;
    bool own;         /* the message's own context, not a later one */
    bool truth_known; /* recipe and end are the store's, not the announcement's */
    int64_t begun_us; /* wall clock */

    int waiting; /* store calls under way */
    struct store_reply *tchart, *prior_reply, *history_reply, *found;
    const struct store_uchart *prior; /* the U-chart it had before; NULL for none */
    struct store_uchart *history;     /* newest first */
    size_t history_count;
    struct context context; /* as the store has it */

    uv_work_t work;
    int work_code;
    struct error work_error;
    struct judgement judgement;

    struct alarm *alarms;
    size_t alarm_count;
    size_t alarms_waiting;
    int alarm_code;
    struct store_uchart row; /* as written */
    bool changed;            /* it differs from what was stored */

    int64_t fetch_start_ns, history_start_ns, alarm_start_ns, store_start_ns;
};

/* Later contexts to be judged again, a page at a time. */
struct ripple {
    struct store_reply *page; /* oldest first */
    size_t next;
    size_t unchanged; /* in a row: as many as the look-back end the ripple */
    size_t lookback;
    bool last_page;
    int64_t tail_end_us; /* the last context seen, where the next page begins */
    const char *tail_id;
};

enum job_stage { JOB_WAITING, JOB_JUDGING, JOB_RIPPLING, JOB_BURYING };

struct job {
    struct pipeline *pipeline;
    struct chamber *chamber;
    struct job *next; /* in the chamber's queue */
    struct job *next_sleeping;
    struct job *prev_orphan, *next_orphan;
    struct arena arena;
    uint64_t sequence;
    int64_t stored_us;
    UT_hash_handle hh; /* by sequence */

    const char *subject;
    const char *body;
    size_t body_length;
    char ack_reply[ACK_REPLY_BYTES];
    bool void_ack; /* the stream was replaced: its sequences mean other messages */
    bool replay, replay_alarms, no_ripple;
    bool owed;     /* a debt asked for this: it is cleared when all is done */
    bool degraded; /* a standby store answered something */
    struct context announced;
    bool parsed;    /* `announced` is valid */
    bool abandoned; /* not to be written any more: pipeline_abandon_all */

    enum job_stage stage;
    int missing_attempts;
    int64_t backoff_ms;
    int64_t wake_ns;
    bool transient; /* asleep because something is away */
    int64_t received_ns;

    struct task task;
    struct ripple ripple;
    int64_t owed_begun_us; /* when the own task began */

    const char *grave_class; /* dead-lettering: "poison", "missing" */
    const char *grave_reason;
    const char *grave_error;
};

struct pipeline {
    struct pipeline_options options;
    struct pipeline_ports ports;
    char cell[64];
    char defender_id[64];
    struct chamber *chambers; /* by subject */
    struct job *jobs;         /* by sequence */
    int64_t held, in_flight, sleeping_transient;
    struct chamber *first_ready, *last_ready;
    struct job *sleeping;
    struct job *orphans; /* jobs whose stream is gone: their sequences mean nothing any more */
    bool stopping;
    uv_timer_t tick;     /* wakes sleepers */
    uv_timer_t extender; /* +WPI */
};

/* pipeline.c */
void job_abandon(struct job *job); /* lets go without an acknowledgement; the job is gone afterwards */
void job_finish(struct job *job);  /* acknowledge, free, let the chamber go on */
void job_postpone(struct job *job,
                  int64_t ms); /* gives it back to the stream for a while; it is gone afterwards */
void job_sleep(struct job *job, int64_t ms,
               bool transient); /* the job may be gone afterwards (shutting down) */
void job_retry_transient(struct job *job, const struct error *error);
struct recipe_head *chamber_head(struct chamber *chamber, const char *recipe, bool create);
void head_advance(struct recipe_head *head, int64_t end_us, const char *context_id);

/* True for what a store says when the same call may succeed later, damage to the whole database included:
 * such a context is kept, not buried. */
bool store_is_away(int code);

/* task.c: judges job->task; ends in job_task_done, job_retry_transient, job_task_missing or job_task_poison
 */
void task_begin(struct job *job, const char *context_id, const char *recipe, int64_t end_us, uint64_t set_id,
                bool own);
void task_release(struct job *job);

/* tell.c: whoever watches (`chamberlain web`) hears of the verdict that was just written. Core NATS, nobody
 * waits for it: the store has the truth. */
void task_tell(struct job *job);

/* what comes after a task: ripple.c */
void job_task_done(struct job *job);
void job_task_failed(struct job *job, const char *class_name, int code, const struct error *error);
void ripple_begin(struct job *job);
void ripple_resume(struct job *job); /* after a pause */

/* settle.c: clears the debt that a context was to be judged again, as of the time when that began. Nobody
 * waits for it: a debt that stays is asked for again. */
void job_settle(struct job *job, const char *context_id, int64_t end_us, int64_t begun_us);

/* burial.c: to the dead letters, to the store, and out of the stream */
void job_bury(struct job *job, const char *class_name, int code, const struct error *error);
void bury_resume(struct job *job);

#endif
