#include "cli/scaler.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdlib.h>

enum { SCALER_WINDOWS = 5, SCALER_WINDOW_LEAST_US = 1000 * 1000 };

int scaler_parse_range(const char *text, size_t limit, size_t *least, size_t *most, struct error *err)
{
    char *end;
    long low = strtol(text, &end, 10), high = low;
    bool right = end != text;
    if (right && end[0] == '.' && end[1] == '.') {
        const char *second = end + 2;
        high = strtol(second, &end, 10);
        right = end != second;
    }
    if (!right || *end || low < 1 || high < low || (size_t)high > limit)
        return error_set(err, ERR_INVALID,
                         "--defenders %s: write a number, or a range such as 3..10, of 1 to %zu", text,
                         limit);
    *least = (size_t)low;
    *most = (size_t)high;
    return 0;
}

void scaler_init(struct scaler *scaler, size_t least, size_t most, const struct scaler_options *options)
{
    struct autoscale_settings settings = autoscale_standard(least, most);
    if (options->p95_us > 0) {
        settings.idle_p95_ns = options->p95_us * 1000 / (settings.p95_ns / settings.idle_p95_ns);
        settings.p95_ns = options->p95_us * 1000;
    }
    if (options->after_us > 0) {
        settings.after_us = options->after_us;
        settings.window_us = options->after_us / SCALER_WINDOWS;
        if (settings.window_us < SCALER_WINDOW_LEAST_US)
            settings.window_us = SCALER_WINDOW_LEAST_US;
    }
    if (options->idle_us > 0)
        settings.idle_us = options->idle_us;
    if (options->per_us > 0)
        settings.per_us = options->per_us;
    *scaler = (struct scaler){.autoscale.settings = settings, .last = AUTOSCALE_STAY};
}

bool scaler_is_on(const struct scaler *scaler)
{
    return scaler->autoscale.settings.most > scaler->autoscale.settings.least;
}

uint64_t scaler_interval_ms(const struct scaler *scaler)
{
    return (uint64_t)(scaler->autoscale.settings.window_us / AUTOSCALE_SLOTS / 1000);
}

/* False when the answer has no buckets, or others than ours: a defender of another version. */
static bool read_sample(const json_t *member, struct autoscale_sample *sample)
{
    const json_t *time = json_object_get(member, "process_time");
    const json_t *within = json_object_get(time, "within");
    if (json_array_size(within) != PROMETHEUS_BOUNDS)
        return false;
    sample->process = json_integer_value(json_object_get(member, "pid"));
    sample->count = (uint64_t)json_integer_value(json_object_get(time, "count"));
    sample->sum_ns = json_integer_value(json_object_get(time, "sum_ns"));
    for (size_t i = 0; i < PROMETHEUS_BOUNDS; i++)
        sample->within[i] = (uint64_t)json_integer_value(json_array_get(within, i));
    return true;
}

static void tell(struct scaler *scaler, enum autoscale_decision decision, size_t running)
{
    static const char *const words[] = {
        [AUTOSCALE_STAY] = NULL,
        [AUTOSCALE_OUT] = "process times are over the bound: starting one more defender",
        [AUTOSCALE_IN] = "the defenders are idle: stopping one",
        [AUTOSCALE_AT_MOST] = "process times are over the bound, and all the defenders allowed are running",
        [AUTOSCALE_HELD] = "the number of defenders should change, and has changed too lately"};
    bool again = decision == scaler->last && decision != AUTOSCALE_OUT && decision != AUTOSCALE_IN;
    scaler->last = decision;
    if (words[decision] == NULL || again)
        return;
    LOG_INFO(words[decision], LOG_INT("defenders", running),
             LOG_INT("p95_ms", scaler->autoscale.p95_ns < 0 ? -1 : scaler->autoscale.p95_ns / 1000000),
             LOG_INT("bound_ms", scaler->autoscale.settings.p95_ns / 1000000));
}

enum autoscale_decision scaler_ask(struct scaler *scaler, struct session *session, size_t running)
{
    struct autoscale_observation observation = {.running = running, .waiting = -1};
    struct error err;
    json_t *members = session_defenders(session, &err);
    size_t count = json_array_size(members);
    struct autoscale_sample *samples = calloc(count + 1, sizeof *samples);
    for (size_t i = 0; samples && i < count && observation.sample_count < AUTOSCALE_MEMBERS_MAX; i++)
        observation.sample_count +=
            read_sample(json_array_get(members, i), &samples[observation.sample_count]);
    if (session_waiting_messages(session, &observation.waiting, &err))
        observation.waiting = -1;
    observation.samples = samples;
    enum autoscale_decision decision =
        autoscale_step(&scaler->autoscale, clock_mono_ns() / 1000 + 1, &observation);
    tell(scaler, decision, running);
    free(samples);
    json_decref(members);
    return decision;
}
