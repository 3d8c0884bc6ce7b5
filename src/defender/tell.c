/* What was judged, told to whoever watches: `cluster.judged.{tool}.{chamber}` on core NATS. */
#include "base/clock.h"
#include "bus/names.h"
#include "defender/pipeline_job.h"

static void add_text(struct strbuf *json, const char *key, const char *value)
{
    strbuf_printf(json, ",\"%s\":", key);
    strbuf_add_json(json, value);
}

void task_tell(struct job *job)
{
    const struct task *task = &job->task;
    char subject[NAMES_BYTES], when[CLOCK_RFC3339_BYTES];
    if (names_for_chamber(job->pipeline->cell, "cluster.judged", job->announced.tool, job->announced.chamber,
                          subject, NULL))
        return;
    struct strbuf json;
    strbuf_init(&json);
    strbuf_add(&json, "{\"context_id\":");
    strbuf_add_json(&json, task->context_id);
    add_text(&json, "tool_id", job->announced.tool);
    add_text(&json, "chamber_id", job->announced.chamber);
    add_text(&json, "recipe", task->recipe);
    add_text(&json, "ended_at", clock_format_rfc3339(task->row.end_us, when));
    add_text(&json, "judged_at", clock_format_rfc3339(task->row.judged_us, when));
    add_text(&json, "severity", severity_name((enum severity)task->row.severity));
    /* A later context that was judged again took no time of its own. */
    strbuf_printf(&json, ",\"alarms\":%d,\"again\":%s,\"process_ms\":%.3f}", (int)task->row.alarm_count,
                  task->own ? "false" : "true",
                  task->own ? (double)(clock_mono_ns() - job->received_ns) / 1e6 : 0.0);
    bus_publish(job->pipeline->ports.bus, subject, json.text, json.length, NULL);
    strbuf_free(&json);
}
