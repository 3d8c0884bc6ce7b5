#include "cli/autoscale.h"

#include <assert.h>
#include <string.h>

#define MINUTE_US (INT64_C(60) * 1000 * 1000)
#define P95 0.95

struct autoscale_settings autoscale_standard(size_t least, size_t most)
{
    return (struct autoscale_settings){.least = least,
                                       .most = most,
                                       .p95_ns = INT64_C(5000) * 1000 * 1000,
                                       .after_us = 5 * MINUTE_US,
                                       .idle_p95_ns = INT64_C(1000) * 1000 * 1000,
                                       .idle_at_work = 0.5,
                                       .idle_us = 10 * MINUTE_US,
                                       .window_us = MINUTE_US,
                                       .per_us = 60 * MINUTE_US,
                                       .changes = 2};
}

/* --- the window --- */

static struct autoscale_sample *last_of(struct autoscale *autoscale, int64_t process)
{
    for (size_t i = 0; i < autoscale->last_count; i++)
        if (autoscale->last[i].process == process)
            return &autoscale->last[i];
    return NULL;
}

static struct autoscale_slot *slot_at(struct autoscale *autoscale, int64_t now_us)
{
    int64_t slot_us = autoscale->settings.window_us / AUTOSCALE_SLOTS;
    int64_t begin_us = now_us - now_us % (slot_us > 0 ? slot_us : 1);
    struct autoscale_slot *slot =
        &autoscale->slots[(size_t)(begin_us / (slot_us > 0 ? slot_us : 1)) % AUTOSCALE_SLOTS];
    if (slot->at_us != begin_us)
        *slot = (struct autoscale_slot){.at_us = begin_us};
    return slot;
}

/* A process that was not there, or that counts less than it did, has counted from zero. */
static void add_growth(struct autoscale_slot *slot, const struct autoscale_sample *before,
                       const struct autoscale_sample *sample)
{
    bool from_zero = before == NULL || before->count > sample->count;
    slot->count += sample->count - (from_zero ? 0 : before->count);
    slot->sum_ns += sample->sum_ns - (from_zero ? 0 : before->sum_ns);
    for (size_t i = 0; i < PROMETHEUS_BOUNDS; i++)
        slot->within[i] += sample->within[i] - (from_zero ? 0 : before->within[i]);
}

/* Who does not answer this time keeps what it had: it may only be slow. */
static void remember(struct autoscale *autoscale, const struct autoscale_sample *sample)
{
    struct autoscale_sample *place = last_of(autoscale, sample->process);
    if (place == NULL && autoscale->last_count < AUTOSCALE_MEMBERS_MAX)
        place = &autoscale->last[autoscale->last_count++];
    if (place)
        *place = *sample;
}

static void take(struct autoscale *autoscale, int64_t now_us, const struct autoscale_observation *observation)
{
    struct autoscale_slot *slot = slot_at(autoscale, now_us);
    for (size_t i = 0; i < observation->sample_count; i++)
        add_growth(slot, last_of(autoscale, observation->samples[i].process), &observation->samples[i]);
    /* Those that have gone make room, once all that there should be have answered. */
    if (observation->sample_count >= observation->running)
        autoscale->last_count = 0;
    for (size_t i = 0; i < observation->sample_count; i++)
        remember(autoscale, &observation->samples[i]);
}

static struct autoscale_slot sum_of_window(const struct autoscale *autoscale, int64_t now_us)
{
    struct autoscale_slot sum = {0};
    for (size_t i = 0; i < AUTOSCALE_SLOTS; i++) {
        const struct autoscale_slot *slot = &autoscale->slots[i];
        if (slot->at_us <= now_us - autoscale->settings.window_us)
            continue;
        sum.count += slot->count;
        sum.sum_ns += slot->sum_ns;
        for (size_t bound = 0; bound < PROMETHEUS_BOUNDS; bound++)
            sum.within[bound] += slot->within[bound];
    }
    return sum;
}

/* As histogram_quantile: linear within a bucket; what is beyond the last bound counts as that bound. */
static int64_t quantile_ns(const struct autoscale_slot *sum, double fraction)
{
    double rank = fraction * (double)sum->count;
    uint64_t below = 0;
    int64_t low_ns = 0;
    for (size_t i = 0; i < PROMETHEUS_BOUNDS; i++) {
        int64_t high_ns = prometheus_bounds_ns[i];
        if (sum->within[i] > below && (double)sum->within[i] >= rank)
            return low_ns + (int64_t)((double)(high_ns - low_ns) * (rank - (double)below) /
                                      (double)(sum->within[i] - below));
        below = sum->within[i];
        low_ns = high_ns;
    }
    return prometheus_bounds_ns[PROMETHEUS_BOUNDS - 1];
}

/* --- the rule --- */

static void measure(struct autoscale *autoscale, int64_t now_us, const struct autoscale_slot *sum)
{
    int64_t seen_us = now_us - autoscale->first_us;
    if (seen_us > autoscale->settings.window_us)
        seen_us = autoscale->settings.window_us;
    autoscale->p95_ns = sum->count > 0 ? quantile_ns(sum, P95) : -1;
    autoscale->at_work = seen_us > 0 ? (double)sum->sum_ns / 1000 / (double)seen_us : 0;
}

/* Nothing ended in the window although something waits: the store may be away. That is neither load nor rest,
 * so a load that was seen before it is not forgotten. */
static bool is_over(const struct autoscale *autoscale, const struct autoscale_observation *observation)
{
    if (autoscale->p95_ns >= 0)
        return autoscale->p95_ns > autoscale->settings.p95_ns;
    return autoscale->over_since_us != 0 && observation->waiting != 0;
}

/* What waits is less than what a window gets done: no backlog. */
static bool is_idle(const struct autoscale *autoscale, const struct autoscale_observation *observation,
                    const struct autoscale_slot *sum)
{
    const struct autoscale_settings *settings = &autoscale->settings;
    return observation->running > settings->least && observation->sample_count >= observation->running &&
           observation->waiting >= 0 && (uint64_t)observation->waiting <= sum->count &&
           autoscale->p95_ns < settings->idle_p95_ns &&
           autoscale->at_work <= settings->idle_at_work * (double)(observation->running - 1);
}

static bool may_change(const struct autoscale *autoscale, int64_t now_us)
{
    size_t changes = autoscale->settings.changes;
    return autoscale->changed_count < changes ||
           now_us - autoscale->changed_us[(autoscale->changed_count - changes) % AUTOSCALE_CHANGES_MAX] >=
               autoscale->settings.per_us;
}

static enum autoscale_decision change(struct autoscale *autoscale, int64_t now_us,
                                      enum autoscale_decision decision)
{
    if (!may_change(autoscale, now_us))
        return AUTOSCALE_HELD;
    autoscale->changed_us[autoscale->changed_count++ % AUTOSCALE_CHANGES_MAX] = now_us;
    autoscale->over_since_us = autoscale->idle_since_us = 0;
    return decision;
}

/* Since when it is so; the time itself is never 0. */
static void keep_since(int64_t *since_us, bool is_so, int64_t now_us)
{
    if (!is_so)
        *since_us = 0;
    else if (*since_us == 0)
        *since_us = now_us;
}

static bool has_lasted(int64_t since_us, int64_t now_us, int64_t wanted_us)
{
    return since_us != 0 && now_us - since_us >= wanted_us;
}

enum autoscale_decision autoscale_step(struct autoscale *autoscale, int64_t now_us,
                                       const struct autoscale_observation *observation)
{
    const struct autoscale_settings *settings = &autoscale->settings;
    assert(now_us > 0 && observation->sample_count <= AUTOSCALE_MEMBERS_MAX);
    assert(settings->changes >= 1 && settings->changes <= AUTOSCALE_CHANGES_MAX);
    if (autoscale->first_us == 0)
        autoscale->first_us = now_us;
    take(autoscale, now_us, observation);
    struct autoscale_slot sum = sum_of_window(autoscale, now_us);
    measure(autoscale, now_us, &sum);
    keep_since(&autoscale->over_since_us, is_over(autoscale, observation), now_us);
    keep_since(&autoscale->idle_since_us, is_idle(autoscale, observation, &sum), now_us);
    if (autoscale->p95_ns >= 0 && has_lasted(autoscale->over_since_us, now_us, settings->after_us))
        return observation->running < settings->most ? change(autoscale, now_us, AUTOSCALE_OUT)
                                                     : AUTOSCALE_AT_MOST;
    if (has_lasted(autoscale->idle_since_us, now_us, settings->idle_us))
        return change(autoscale, now_us, AUTOSCALE_IN);
    return AUTOSCALE_STAY;
}
