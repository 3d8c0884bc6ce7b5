#include "defender/pipeline.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/names.h"
#include "defender/pipeline_job.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 20, EXTENSIONS_PER_ACK_WAIT = 3, JOB_ARENA_BYTES = 4096, TASK_ARENA_BYTES = 256 * 1024 };

static void pipeline_start_ready(struct pipeline *pipeline);

static void *must_calloc(size_t size)
{
    void *memory;
    while ((memory = calloc(1, size)) == NULL)
        uv_sleep(1);
    return memory;
}

/* --- chambers --- */

static struct chamber *find_chamber(struct pipeline *pipeline, const char *subject)
{
    struct chamber *chamber;
    HASH_FIND_STR(pipeline->chambers, subject, chamber);
    return chamber;
}

static struct chamber *get_chamber(struct pipeline *pipeline, const char *subject)
{
    struct chamber *chamber = find_chamber(pipeline, subject);
    if (chamber)
        return chamber;
    chamber = must_calloc(sizeof *chamber);
    while ((chamber->subject = strdup(subject)) == NULL)
        uv_sleep(1);
    HASH_ADD_KEYPTR(hh, pipeline->chambers, chamber->subject, strlen(chamber->subject), chamber);
    return chamber;
}

static void free_heads(struct chamber *chamber)
{
    for (struct recipe_head *next; chamber->heads; chamber->heads = next) {
        next = chamber->heads->next;
        free(chamber->heads->recipe);
        free(chamber->heads->context_id);
        free(chamber->heads);
    }
}

struct recipe_head *chamber_head(struct chamber *chamber, const char *recipe, bool create)
{
    for (struct recipe_head *head = chamber->heads; head; head = head->next)
        if (strcmp(head->recipe, recipe) == 0)
            return head;
    if (!create)
        return NULL;
    struct recipe_head *head = must_calloc(sizeof *head);
    while ((head->recipe = strdup(recipe)) == NULL)
        uv_sleep(1);
    head->next = chamber->heads;
    chamber->heads = head;
    return head;
}

void head_advance(struct recipe_head *head, int64_t end_us, const char *context_id)
{
    if (head->context_id && context_compare_event(end_us, context_id, head->end_us, head->context_id) <= 0)
        return;
    free(head->context_id);
    while ((head->context_id = strdup(context_id)) == NULL)
        uv_sleep(1);
    head->end_us = end_us;
}

static void chamber_offer(struct pipeline *pipeline, struct chamber *chamber)
{
    if (chamber->busy || chamber->ready || chamber->first == NULL)
        return;
    chamber->ready = true;
    chamber->next_ready = NULL;
    if (pipeline->last_ready)
        pipeline->last_ready->next_ready = chamber;
    else
        pipeline->first_ready = chamber;
    pipeline->last_ready = chamber;
}

/* --- jobs --- */

static void job_free(struct job *job)
{
    struct pipeline *pipeline = job->pipeline;
    if (!job->void_ack)
        HASH_DEL(pipeline->jobs, job);
    else
        DL_DELETE2(pipeline->orphans, job, prev_orphan, next_orphan);
    pipeline->held--;
    task_release(job);
    arena_free(&job->task.arena);
    store_reply_free(job->ripple.page);
    arena_free(&job->arena);
    free(job);
}

static void job_begin(struct job *job)
{
    struct pipeline *pipeline = job->pipeline;
    job->stage = JOB_JUDGING;
    pipeline->in_flight++;
    if (!job->parsed) {
        struct error err;
        error_set(&err, ERR_INVALID, "%s", job->grave_reason);
        job_bury(job, "poison", ERR_INVALID, &err);
        return;
    }
    task_begin(job, job->announced.id, job->announced.recipe, job->announced.end_us,
               chartsets_current_id(pipeline->ports.chartsets), true);
}

static void pipeline_start_ready(struct pipeline *pipeline)
{
    while (!pipeline->stopping && pipeline->first_ready &&
           pipeline->in_flight < pipeline->options.max_in_flight) {
        struct chamber *chamber = pipeline->first_ready;
        pipeline->first_ready = chamber->next_ready;
        if (pipeline->first_ready == NULL)
            pipeline->last_ready = NULL;
        chamber->ready = false;
        struct job *job = chamber->first;
        chamber->first = job->next;
        if (chamber->first == NULL)
            chamber->last = NULL;
        chamber->busy = true;
        job_begin(job);
    }
}

static void tell_capacity(struct pipeline *pipeline)
{
    if (pipeline->ports.capacity_changed)
        pipeline->ports.capacity_changed(pipeline->ports.arg);
}

void job_finish(struct job *job)
{
    struct pipeline *pipeline = job->pipeline;
    struct chamber *chamber = job->chamber;
    if (!job->void_ack && job->stage == JOB_BURYING)
        consumer_terminate(pipeline->ports.bus, job->ack_reply);
    else if (!job->void_ack)
        consumer_ack(pipeline->ports.bus, job->ack_reply);
    int64_t total_ns = clock_mono_ns() - job->received_ns;
    histogram_record(&pipeline->ports.metrics->steps[STEP_TOTAL], total_ns);
    pipeline->ports.metrics->last_acknowledged_us = clock_wall_us();
    LOG_DEBUG("context done", LOG_STR("context", job->parsed ? job->announced.id : NULL),
              LOG_STR("subject", job->subject),
              LOG_STR("outcome", job->grave_class ? job->grave_class : "judged"),
              LOG_INT("total_us", total_ns / 1000));
    pipeline->in_flight--;
    chamber->busy = false;
    job_free(job);
    chamber_offer(pipeline, chamber);
    pipeline_start_ready(pipeline);
    tell_capacity(pipeline);
}

void job_postpone(struct job *job, int64_t ms)
{
    job->pipeline->ports.metrics->retried++;
    if (!job->void_ack)
        consumer_postpone(job->pipeline->ports.bus, job->ack_reply, ms);
    job_abandon(job);
}

/* Lets go of a job without an acknowledgement: the stream delivers it again, here or elsewhere. */
void job_abandon(struct job *job)
{
    struct pipeline *pipeline = job->pipeline;
    struct chamber *chamber = job->chamber;
    chamber->busy = false;
    pipeline->in_flight--;
    job_free(job);
    chamber_offer(pipeline, chamber);
    pipeline_start_ready(pipeline);
    tell_capacity(pipeline);
}

/* --- sleeping --- */

static void job_wake(struct job *job)
{
    if (job->transient)
        job->pipeline->sleeping_transient--;
    job->transient = false;
    switch (job->stage) {
    case JOB_JUDGING:
        task_begin(job, job->announced.id, job->announced.recipe, job->announced.end_us,
                   chartsets_current_id(job->pipeline->ports.chartsets), true);
        break;
    case JOB_RIPPLING:
        ripple_resume(job);
        break;
    case JOB_BURYING:
        bury_resume(job);
        break;
    case JOB_WAITING:
        assert(false);
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct pipeline *pipeline = timer->data;
    int64_t now_ns = clock_mono_ns();
    struct job *awake = NULL;
    for (struct job **link = &pipeline->sleeping; *link;) {
        struct job *job = *link;
        if (job->wake_ns <= now_ns) {
            *link = job->next_sleeping;
            job->next_sleeping = awake;
            awake = job;
        } else {
            link = &job->next_sleeping;
        }
    }
    if (pipeline->sleeping == NULL)
        uv_timer_stop(timer);
    for (struct job *next; awake; awake = next) {
        next = awake->next_sleeping;
        job_wake(awake);
    }
    tell_capacity(pipeline);
}

void job_sleep(struct job *job, int64_t ms, bool transient)
{
    struct pipeline *pipeline = job->pipeline;
    task_release(job);
    if (pipeline->stopping) {
        job_abandon(job);
        return;
    }
    pipeline->ports.metrics->retried++;
    job->transient = transient;
    if (transient)
        pipeline->sleeping_transient++;
    job->wake_ns = clock_mono_ns() + ms * 1000000;
    job->next_sleeping = pipeline->sleeping;
    pipeline->sleeping = job;
    if (!uv_is_active((uv_handle_t *)&pipeline->tick))
        uv_timer_start(&pipeline->tick, on_tick, TICK_MS, TICK_MS);
    tell_capacity(pipeline);
}

void job_retry_transient(struct job *job, const struct error *error)
{
    job->backoff_ms = job->backoff_ms ? job->backoff_ms * 2 : PIPELINE_BACKOFF_MIN_MS;
    if (job->backoff_ms > PIPELINE_BACKOFF_MAX_MS)
        job->backoff_ms = PIPELINE_BACKOFF_MAX_MS;
    if (job->pipeline->sleeping_transient == 0)
        LOG_WARN("something is away; trying again", LOG_STR("error", error->text),
                 LOG_STR("context", job->parsed ? job->announced.id : NULL),
                 LOG_INT("after_ms", job->backoff_ms));
    job_sleep(job, job->backoff_ms, true);
}

/* --- receiving --- */

/* Reads the announcement. What is wrong with it is kept for the burial, which comes in the chamber's turn. */
static void job_parse(struct job *job)
{
    struct error err;
    char tool[NAMES_BYTES], chamber[NAMES_BYTES];
    int code = names_parse_completed(job->pipeline->cell, job->subject, tool, chamber, &err);
    if (code == 0)
        code = context_parse(job->body, job->body_length, &job->arena, &job->announced, &err);
    if (code == 0 && (strcmp(tool, job->announced.tool) != 0 || strcmp(chamber, job->announced.chamber) != 0))
        code = error_set(&err, ERR_INVALID,
                         "the subject says tool '%s' chamber '%s', the announcement '%s' '%s'", tool, chamber,
                         job->announced.tool, job->announced.chamber);
    job->parsed = code == 0;
    if (code) {
        job->grave_reason = arena_strdup(&job->arena, err.text);
        if (job->grave_reason == NULL)
            job->grave_reason = "the announcement cannot be read";
    }
}

static void read_headers(struct job *job, const struct bus_message *message)
{
    const char *replay = bus_message_header(message, PIPELINE_HEADER_REPLAY);
    const char *ripple = bus_message_header(message, PIPELINE_HEADER_RIPPLE);
    job->replay = replay != NULL;
    job->replay_alarms = replay && strcmp(replay, "alarms") == 0;
    job->owed = replay && strcmp(replay, "owed") == 0;
    job->no_ripple = ripple && strcmp(ripple, "no") == 0;
}

/* How long the message was under way. What waited in the stream, for an owner or for its turn, is in it. */
static void time_delivery(struct metrics *metrics, const struct consumer_message *message)
{
    const char *announced = bus_message_header(message->bus, BUS_HEADER_ANNOUNCED);
    int64_t now_us = clock_wall_us(), announced_us = announced ? strtoll(announced, NULL, 10) : 0;
    if (message->deliveries > 1)
        return;
    if (now_us >= message->stored_us)
        histogram_record(&metrics->delivery, 1000 * (now_us - message->stored_us));
    if (announced_us > 0 && now_us >= announced_us)
        histogram_record(&metrics->announcement, 1000 * (now_us - announced_us));
}

static struct job *job_new(struct pipeline *pipeline, const struct consumer_message *message)
{
    struct job *job = must_calloc(sizeof *job);
    job->pipeline = pipeline;
    job->sequence = message->stream_sequence;
    job->stored_us = message->stored_us;
    job->received_ns = clock_mono_ns();
    arena_init(&job->arena, JOB_ARENA_BYTES);
    arena_init(&job->task.arena, TASK_ARENA_BYTES);
    snprintf(job->ack_reply, sizeof job->ack_reply, "%s", message->ack_reply);
    while ((job->subject = arena_strdup(&job->arena, message->bus->subject)) == NULL)
        uv_sleep(1);
    while ((job->body = arena_strndup(&job->arena, message->bus->data, message->bus->length)) == NULL)
        uv_sleep(1);
    job->body_length = message->bus->length;
    read_headers(job, message->bus);
    job_parse(job);
    return job;
}

void pipeline_receive(struct pipeline *pipeline, const struct consumer_message *message)
{
    struct job *job;
    uint64_t sequence = message->stream_sequence;
    HASH_FIND(hh, pipeline->jobs, &sequence, sizeof sequence, job);
    if (job && job->stored_us == message->stored_us) {
        snprintf(job->ack_reply, sizeof job->ack_reply, "%s", message->ack_reply);
        pipeline->ports.metrics->redelivered++;
        return;
    }
    if (job) /* the same sequence of another stream: the old one is gone */
        pipeline_on_stream_replaced(pipeline);
    if (pipeline->stopping)
        return; /* it stays in the stream */
    struct metrics *metrics = pipeline->ports.metrics;
    metrics->received++;
    time_delivery(metrics, message);
    if (metrics->first_received_us == 0)
        metrics->first_received_us = clock_wall_us();
    job = job_new(pipeline, message);
    HASH_ADD(hh, pipeline->jobs, sequence, sizeof job->sequence, job);
    pipeline->held++;
    job->chamber = get_chamber(pipeline, job->subject);
    if (job->chamber->last)
        job->chamber->last->next = job;
    else
        job->chamber->first = job;
    job->chamber->last = job;
    chamber_offer(pipeline, job->chamber);
    pipeline_start_ready(pipeline);
}

/* --- the whole --- */

static void extend_all(uv_timer_t *timer)
{
    struct pipeline *pipeline = timer->data;
    struct job *job, *next;
    HASH_ITER(hh, pipeline->jobs, job, next)
    {
        consumer_extend(pipeline->ports.bus, job->ack_reply);
    }
}

int pipeline_open(const struct pipeline_options *options, const struct pipeline_ports *ports,
                  struct pipeline **out, struct error *err)
{
    struct pipeline *pipeline = calloc(1, sizeof *pipeline);
    if (pipeline == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the pipeline");
    pipeline->options = *options;
    pipeline->ports = *ports;
    snprintf(pipeline->cell, sizeof pipeline->cell, "%s", options->cell);
    snprintf(pipeline->defender_id, sizeof pipeline->defender_id, "%s", options->defender_id);
    if (pipeline->options.max_in_flight <= 0)
        pipeline->options.max_in_flight = PIPELINE_MAX_IN_FLIGHT;
    if (pipeline->options.missing_delay_ms <= 0)
        pipeline->options.missing_delay_ms = PIPELINE_MISSING_DELAY_MS;
    uv_timer_init(ports->loop, &pipeline->tick);
    uv_timer_init(ports->loop, &pipeline->extender);
    pipeline->tick.data = pipeline->extender.data = pipeline;
    uint64_t every_ms = (uint64_t)(options->ack_wait_ms / EXTENSIONS_PER_ACK_WAIT);
    uv_timer_start(&pipeline->extender, extend_all, every_ms, every_ms);
    *out = pipeline;
    return 0;
}

static void free_when_closed(uv_handle_t *handle)
{
    free(handle->data);
}

/* One after the other: libuv does not say in which order it closes two. */
static void close_extender(uv_handle_t *tick)
{
    struct pipeline *pipeline = tick->data;
    uv_close((uv_handle_t *)&pipeline->extender, free_when_closed);
}

void pipeline_close(struct pipeline *pipeline)
{
    assert(pipeline_idle(pipeline));
    struct chamber *chamber, *next;
    HASH_ITER(hh, pipeline->chambers, chamber, next)
    {
        HASH_DEL(pipeline->chambers, chamber);
        free_heads(chamber);
        free(chamber->subject);
        free(chamber);
    }
    uv_close((uv_handle_t *)&pipeline->tick, close_extender);
}

int64_t pipeline_capacity(const struct pipeline *pipeline)
{
    if (pipeline->stopping || pipeline->sleeping_transient > 0)
        return 0;
    int64_t most = (int64_t)pipeline->options.max_in_flight * PIPELINE_HELD_PER_IN_FLIGHT;
    return pipeline->held < most ? most - pipeline->held : 0;
}

static void drop_waiting_of(struct chamber *chamber)
{
    while (chamber->first) {
        struct job *job = chamber->first;
        chamber->first = job->next;
        job_free(job);
    }
    chamber->last = NULL;
}

static void drop_waiting(struct pipeline *pipeline)
{
    struct chamber *chamber, *next;
    HASH_ITER(hh, pipeline->chambers, chamber, next)
    {
        drop_waiting_of(chamber);
        chamber->ready = false;
    }
    pipeline->first_ready = pipeline->last_ready = NULL;
}

/* Sleepers hold nothing that is not stored. */
static void drop_sleeping(struct pipeline *pipeline)
{
    while (pipeline->sleeping) {
        struct job *job = pipeline->sleeping;
        pipeline->sleeping = job->next_sleeping;
        if (job->transient)
            pipeline->sleeping_transient--;
        job_abandon(job);
    }
}

void pipeline_stop(struct pipeline *pipeline)
{
    pipeline->stopping = true;
    drop_waiting(pipeline);
    drop_sleeping(pipeline);
}

bool pipeline_idle(const struct pipeline *pipeline)
{
    return pipeline->held == 0;
}

int64_t pipeline_held(const struct pipeline *pipeline)
{
    return pipeline->held;
}

int64_t pipeline_in_flight(const struct pipeline *pipeline)
{
    return pipeline->in_flight;
}

bool pipeline_holds(const struct pipeline *pipeline, const char *context_id)
{
    for (struct job *job = pipeline->jobs; job; job = job->hh.next)
        if (job->parsed && strcmp(job->announced.id, context_id) == 0)
            return true;
    return false;
}

void pipeline_on_stream_replaced(struct pipeline *pipeline)
{
    struct job *job, *next;
    HASH_ITER(hh, pipeline->jobs, job, next)
    {
        HASH_DEL(pipeline->jobs, job);
        job->void_ack = true;
        DL_APPEND2(pipeline->orphans, job, prev_orphan, next_orphan);
    }
}

static void leave_ready(struct pipeline *pipeline, struct chamber *chamber)
{
    struct chamber **link = &pipeline->first_ready;
    pipeline->last_ready = NULL;
    while (*link) {
        if (*link == chamber) {
            *link = chamber->next_ready;
            chamber->ready = false;
        } else {
            pipeline->last_ready = *link;
            link = &(*link)->next_ready;
        }
    }
}

void pipeline_release_chamber(struct pipeline *pipeline, const char *subject)
{
    char tool[NAMES_BYTES], name[NAMES_BYTES];
    if (names_parse_completed(pipeline->cell, subject, tool, name, NULL) == 0)
        cache_forget(pipeline->ports.cache, tool, name, NULL);
    struct chamber *chamber = find_chamber(pipeline, subject);
    if (chamber == NULL)
        return;
    drop_waiting_of(chamber);
    leave_ready(pipeline, chamber);
    free_heads(chamber);
}

void pipeline_abandon_all(struct pipeline *pipeline)
{
    drop_waiting(pipeline);
    drop_sleeping(pipeline);
    for (struct job *job = pipeline->jobs; job; job = job->hh.next)
        job->abandoned = true; /* let go at its next step, before anything is written */
    struct chamber *chamber, *next;
    HASH_ITER(hh, pipeline->chambers, chamber, next)
    {
        free_heads(chamber);
    }
}
