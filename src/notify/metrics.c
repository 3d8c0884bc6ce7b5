#include "notify/metrics.h"

#include "base/prometheus.h"

#include <stddef.h>

static void write_counters(const struct notify_metrics *metrics, struct strbuf *out)
{
    static const struct {
        const char *name, *help;
        size_t offset;
        enum prometheus_kind kind;
    } rows[] = {
#define COUNTER(name, member, help)                                                                          \
    {"notify_" name, help, offsetof(struct notify_sink_metrics, member), PROMETHEUS_COUNTER}
#define GAUGE(name, member, help)                                                                            \
    {                                                                                                        \
        "notify_" name, help, offsetof(struct notify_sink_metrics, member), PROMETHEUS_GAUGE                 \
    }
        COUNTER("alarms_received_total", received, "Alarms read from the stream for this sink"),
        COUNTER("alarms_told_total", told, "Alarms in messages that the sink has accepted"),
        COUNTER("alarms_counted_total", counted, "Alarms told as part of the count of another"),
        COUNTER("alarms_buried_total", buried, "Alarms whose message the sink refused for good"),
        COUNTER("alarms_settled_total", settled, "Alarms acknowledged before their escalation was due"),
        COUNTER("alarms_repeated_total", repeated, "Deliveries of alarms that were known already"),
        COUNTER("alarms_unrouted_total", unrouted, "Alarms that no route leads to this sink"),
        COUNTER("alarms_unreadable_total", unreadable, "Messages of the alarms stream that are no alarms"),
        COUNTER("alarms_early_total", early, "Alarms told before their cool-down was over, for want of room"),
        COUNTER("messages_total", messages, "Messages that the sink has accepted"),
        COUNTER("failures_total", failures, "Attempts to tell the sink that failed"),
        GAUGE("alarms_held", held, "Alarms taken from the stream and not told yet"),
        GAUGE("alarms_cooling", cooling, "Held alarms that wait for the end of a cool-down"),
        GAUGE("alarms_escalating", escalating, "Held alarms that wait for an acknowledgement"),
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        prometheus_begin(out, rows[i].name, rows[i].kind, rows[i].help);
        for (size_t sink = 0; sink < metrics->sink_count; sink++) {
            const struct prometheus_label label = {"sink", metrics->sinks[sink].sink};
            const char *place = (const char *)&metrics->sinks[sink] + rows[i].offset;
            prometheus_add(out, rows[i].name, &label, 1, (double)*(const uint64_t *)(const void *)place);
        }
    }
}

void notify_metrics_write(const struct notify_metrics *metrics, struct strbuf *out)
{
    prometheus_single(out, "notify_active", PROMETHEUS_GAUGE, "1 when this notifier is the one at work",
                      metrics->active ? 1 : 0);
    write_counters(metrics, out);
    prometheus_begin(out, "notify_attempt", PROMETHEUS_GAUGE,
                     "Which attempt the message under way is; 0 when there is none");
    for (size_t i = 0; i < metrics->sink_count; i++) {
        const struct prometheus_label label = {"sink", metrics->sinks[i].sink};
        prometheus_add(out, "notify_attempt", &label, 1, metrics->sinks[i].attempt);
    }
    prometheus_begin(out, "notify_last_accepted_timestamp_seconds", PROMETHEUS_GAUGE,
                     "When the sink has accepted a message last; 0 when never since the start");
    for (size_t i = 0; i < metrics->sink_count; i++) {
        const struct prometheus_label label = {"sink", metrics->sinks[i].sink};
        prometheus_add(out, "notify_last_accepted_timestamp_seconds", &label, 1,
                       (double)metrics->sinks[i].accepted_us / 1e6);
    }
    prometheus_begin(out, "notify_send_duration_seconds", PROMETHEUS_HISTOGRAM,
                     "How long each attempt to tell the sink took");
    for (size_t i = 0; i < metrics->sink_count; i++) {
        const struct prometheus_label label = {"sink", metrics->sinks[i].sink};
        prometheus_add_histogram(out, "notify_send_duration_seconds", &label, 1, &metrics->sinks[i].send);
    }
}
