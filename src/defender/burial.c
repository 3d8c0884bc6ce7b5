/* Dead letters: what cannot be judged goes to the stream `dc-dead` with its reason, is marked in the store,
 * and only then leaves the work queue. Each step can be done again. */
#include "base/clock.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/names.h"
#include "defender/pipeline_job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *must_copy(struct job *job, const char *text)
{
    char *copy;
    while ((copy = arena_strdup(&job->arena, text)) == NULL)
        uv_sleep(1);
    return copy;
}

static void count_burial(struct job *job)
{
    job->pipeline->ports.metrics->dead++;
    job->pipeline->ports.metrics->missing += strcmp(job->grave_class, "missing") == 0;
}

static void run_marked(void *target, void *argument)
{
    struct job *job = target;
    struct store_reply *reply = argument;
    struct error err = reply->error;
    int code = reply->code;
    store_reply_free(reply);
    if (store_is_away(code)) {
        job_retry_transient(job, &err);
        return;
    }
    if (code)
        LOG_ERROR("a dead context could not be marked", LOG_STR("context", job->announced.id),
                  LOG_STR("error", err.text));
    count_burial(job);
    job_finish(job);
}

static void on_marked(void *arg, struct store_reply *reply)
{
    struct job *job = arg;
    mailbox_post(job->pipeline->ports.mailbox, run_marked, job, reply);
}

static void on_buried(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)response;
    struct job *job = arg;
    if (code) {
        if (job->pipeline->ports.stream_missing)
            job->pipeline->ports.stream_missing(job->pipeline->ports.arg);
        job_retry_transient(job, error);
        return;
    }
    if (!job->parsed) { /* no context is known: there is nothing to mark */
        count_burial(job);
        job_finish(job);
        return;
    }
    struct store_key key = {job->announced.tool, job->announced.chamber, job->announced.id};
    store_mark_dead(job->pipeline->ports.store, &key, job->grave_reason, clock_wall_us(), on_marked, job);
}

/* The dead letter: why, where from, and the message as it came. */
static void format_letter(const struct job *job, struct strbuf *json)
{
    char when[CLOCK_RFC3339_BYTES];
    const struct {
        const char *key, *value;
    } fields[] = {{"reason", job->grave_reason},
                  {"class", job->grave_class},
                  {"error", job->grave_error},
                  {"subject", job->subject},
                  {"context_id", job->parsed ? job->announced.id : NULL},
                  {"tool_id", job->parsed ? job->announced.tool : NULL},
                  {"chamber_id", job->parsed ? job->announced.chamber : NULL},
                  {"defender", job->pipeline->defender_id},
                  {"at", clock_format_rfc3339(clock_wall_us(), when)},
                  {"announcement", job->body}};
    strbuf_add_char(json, '{');
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        strbuf_printf(json, "%s\"%s\":", i ? "," : "", fields[i].key);
        if (fields[i].value)
            strbuf_add_json(json, fields[i].value);
        else
            strbuf_add(json, "null");
    }
    strbuf_add_char(json, '}');
}

/* Header values must stay on one line. */
static char *one_line(struct job *job, const char *text)
{
    char *line = must_copy(job, text);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7E)
            *c = ' ';
    return line;
}

void bury_resume(struct job *job)
{
    char subject[NAMES_BYTES], id[64];
    const char *tool = job->parsed ? job->announced.tool : "unknown";
    const char *chamber = job->parsed ? job->announced.chamber : "unknown";
    names_for_chamber(job->pipeline->cell, "dead", tool, chamber, subject,
                      NULL); /* checked by context_parse */
    snprintf(id, sizeof id, "dead-%llu-%lld", (unsigned long long)job->sequence, (long long)job->stored_us);
    struct strbuf json;
    strbuf_init(&json);
    format_letter(job, &json);
    struct bus_header headers[] = {{"Nats-Msg-Id", id},
                                   {"Chamberlain-Class", job->grave_class},
                                   {"Chamberlain-Reason", one_line(job, job->grave_reason)}};
    jetstream_publish(job->pipeline->ports.bus, subject, headers, 3, json.text, json.length, on_buried, job);
    strbuf_free(&json);
}

void job_bury(struct job *job, const char *class_name, int code, const struct error *error)
{
    job->stage = JOB_BURYING;
    job->grave_class = class_name;
    job->grave_error = error_name(code);
    job->grave_reason = must_copy(job, error->text);
    task_release(job);
    LOG_WARN("context cannot be judged: dead-lettered", LOG_STR("class", class_name),
             LOG_STR("context", job->parsed ? job->announced.id : NULL), LOG_STR("subject", job->subject),
             LOG_STR("reason", job->grave_reason));
    bury_resume(job);
}
