#include "defender/metrics.h"

#include "base/prometheus.h"

#include <stddef.h>

static const char *const step_names[STEP_COUNT] = {"fetch", "history", "decode", "calculate", "evaluate",
                                                   "alarm", "store",   "cache",  "total"};

const char *metrics_step_name(enum metrics_step step)
{
    return step_names[step];
}

static void add_histogram(struct strbuf *json, const char *name, const struct histogram *histogram)
{
    static const struct {
        const char *name;
        double fraction;
    } quantiles[] = {{"p50_ms", 0.5}, {"p95_ms", 0.95}, {"p99_ms", 0.99}, {"p999_ms", 0.999}};
    strbuf_printf(json, "\"%s\":{\"count\":%llu", name, (unsigned long long)histogram->count);
    for (size_t i = 0; i < sizeof quantiles / sizeof *quantiles; i++)
        strbuf_printf(json, ",\"%s\":%.4f", quantiles[i].name,
                      (double)histogram_quantile_ns(histogram, quantiles[i].fraction) / 1e6);
    strbuf_printf(json, ",\"max_ms\":%.4f}", (double)histogram->max_ns / 1e6);
}

/* Counts since the start by bounds, so that the difference of two answers is a window's. */
static void add_process_time(struct strbuf *json, const struct histogram *histogram)
{
    uint64_t within[PROMETHEUS_BOUNDS];
    histogram_count_until(histogram, prometheus_bounds_ns, PROMETHEUS_BOUNDS, within);
    strbuf_printf(json, "\"process_time\":{\"count\":%llu,\"sum_ns\":%lld,\"within\":[",
                  (unsigned long long)histogram->count, (long long)histogram->sum_ns);
    for (size_t i = 0; i < PROMETHEUS_BOUNDS; i++)
        strbuf_printf(json, "%s%llu", i ? "," : "", (unsigned long long)within[i]);
    strbuf_add(json, "]}");
}

void metrics_format(const struct metrics *metrics, struct strbuf *json)
{
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {
        {"received", metrics->received},
        {"redelivered", metrics->redelivered},
        {"judged", metrics->judged},
        {"repeated", metrics->repeated},
        {"rejudged", metrics->rejudged},
        {"dead", metrics->dead},
        {"retried", metrics->retried},
        {"alarms", metrics->alarms},
        {"swept", metrics->swept},
        {"first_received_us", metrics->first_received_us},
        {"last_acknowledged_us", metrics->last_acknowledged_us},
    };
    strbuf_add(json, "\"counts\":{");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        strbuf_printf(json, "%s\"%s\":%lld", i ? "," : "", counts[i].name, (long long)counts[i].value);
    strbuf_add(json, "},\"steps\":{");
    for (int i = 0; i < STEP_COUNT; i++) {
        add_histogram(json, step_names[i], &metrics->steps[i]);
        strbuf_add_char(json, ',');
    }
    add_histogram(json, "cache_hit", &metrics->cache_hit);
    strbuf_add_char(json, ',');
    add_histogram(json, "cache_miss", &metrics->cache_miss);
    strbuf_add_char(json, ',');
    add_histogram(json, "delivery", &metrics->delivery);
    strbuf_add_char(json, ',');
    add_histogram(json, "announcement", &metrics->announcement);
    strbuf_add(json, "},");
    add_process_time(json, &metrics->steps[STEP_TOTAL]);
    strbuf_add(json, ",\"election\":{");
    add_histogram(json, "acquire", &metrics->acquire);
    strbuf_add_char(json, ',');
    add_histogram(json, "renew", &metrics->renew);
    strbuf_add_char(json, '}');
}
