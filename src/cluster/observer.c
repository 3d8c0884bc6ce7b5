#include "cluster/observer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#define HOUR_MS 3600000.0

struct observed {
    UT_hash_handle hh;
    int64_t begun_ms, noted_ms; /* the first context, the newest */
    int64_t contexts;
    double sum;         /* of points, as faded at noted_ms */
    double newest;      /* points of the newest context */
    double told;        /* points an hour; negative: not known */
    int64_t differs_ms; /* since when the rate is away from that; -1: it is not */
    int64_t not_before_ms;
    bool under_way;
    char chamber[];
};

struct observer {
    struct observed *chambers; /* by name, in the order in which they came */
    double memory_ms, change;
};

struct observer *observer_new(int64_t memory_ms, double change)
{
    struct observer *observer = calloc(1, sizeof *observer);
    if (observer == NULL)
        return NULL;
    observer->memory_ms = (double)(memory_ms > 0 ? memory_ms : OBSERVER_MEMORY_MS);
    observer->change = change;
    return observer;
}

static struct observed *find(const struct observer *observer, const char *chamber)
{
    struct observed *observed;
    HASH_FIND_STR(observer->chambers, chamber, observed);
    return observed;
}

static void drop(struct observer *observer, struct observed *observed)
{
    HASH_DEL(observer->chambers, observed);
    free(observed);
}

void observer_free(struct observer *observer)
{
    if (observer == NULL)
        return;
    struct observed *observed, *next;
    HASH_ITER(hh, observer->chambers, observed, next)
    {
        drop(observer, observed);
    }
    free(observer);
}

static struct observed *begin(struct observer *observer, const char *chamber, int64_t now_ms)
{
    size_t length = strlen(chamber);
    struct observed *observed = calloc(1, sizeof *observed + length + 1);
    if (observed == NULL)
        return NULL;
    memcpy(observed->chamber, chamber, length + 1);
    observed->begun_ms = observed->noted_ms = now_ms;
    observed->told = -1;
    observed->differs_ms = -1;
    HASH_ADD_STR(observer->chambers, chamber, observed);
    return observed;
}

static double faded(const struct observer *observer, int64_t from_ms, int64_t to_ms)
{
    return exp(-(double)(to_ms - from_ms) / observer->memory_ms);
}

void observer_note(struct observer *observer, const char *chamber, int64_t points, int64_t now_ms)
{
    struct observed *observed = find(observer, chamber);
    double count = points > 0 ? (double)points : 0;
    if (observed == NULL) {
        observed = begin(observer, chamber, now_ms);
        if (observed == NULL)
            return;
        observed->sum = count / 2;
    } else {
        observed->sum = observed->sum * faded(observer, observed->noted_ms, now_ms) + count;
    }
    observed->newest = count;
    observed->noted_ms = now_ms;
    observed->contexts++;
}

void observer_forget(struct observer *observer, const char *chamber)
{
    struct observed *observed = find(observer, chamber);
    if (observed)
        drop(observer, observed);
}

void observer_keep(struct observer *observer, bool (*owned)(void *arg, const char *chamber), void *arg)
{
    struct observed *observed, *next;
    HASH_ITER(hh, observer->chambers, observed, next)
    {
        if (!owned(arg, observed->chamber))
            drop(observer, observed);
    }
}

/* Points a millisecond that `sum` means at `now_ms`. */
static double rate_of(const struct observer *observer, const struct observed *observed, double sum,
                      int64_t now_ms)
{
    double weight_ms = observer->memory_ms * (1 - faded(observer, observed->begun_ms, now_ms));
    return weight_ms > 0 ? sum / weight_ms : 0;
}

static double rate_now(const struct observer *observer, const struct observed *observed, int64_t now_ms)
{
    double since = observed->sum * faded(observer, observed->noted_ms, now_ms);
    double most = rate_of(observer, observed, since + observed->newest / 2, now_ms);
    if (observed->contexts < 2)
        return most * HOUR_MS;
    double even = rate_of(observer, observed, observed->sum - observed->newest / 2, observed->noted_ms);
    return (most < even ? most : even) * HOUR_MS;
}

static bool known_well(const struct observer *observer, const struct observed *observed, int64_t now_ms)
{
    double age_ms = (double)(now_ms - observed->begun_ms);
    return (observed->contexts >= OBSERVER_CONTEXTS_MIN && age_ms >= observer->memory_ms / 2) ||
           age_ms >= 2 * observer->memory_ms;
}

double observer_rate(const struct observer *observer, const char *chamber, int64_t now_ms)
{
    const struct observed *observed = find(observer, chamber);
    return observed && known_well(observer, observed, now_ms) ? rate_now(observer, observed, now_ms) : -1;
}

bool observer_differs(const struct observer *observer, double told, double rate)
{
    return fabs(rate - told) > observer->change * told;
}

/* Whether the roster is to be told of it now. */
static bool is_due(const struct observer *observer, struct observed *observed, double rate, int64_t now_ms)
{
    if (observed->told < 0)
        return true;
    if (!observer_differs(observer, observed->told, rate)) {
        observed->differs_ms = -1;
        return false;
    }
    if (observed->differs_ms < 0)
        observed->differs_ms = now_ms;
    return (double)(now_ms - observed->differs_ms) >= observer->memory_ms / 4;
}

const char *observer_next(struct observer *observer, int64_t now_ms, double *rate)
{
    struct observed *observed, *next;
    HASH_ITER(hh, observer->chambers, observed, next)
    {
        if (observed->under_way || now_ms < observed->not_before_ms ||
            !known_well(observer, observed, now_ms))
            continue;
        *rate = rate_now(observer, observed, now_ms);
        if (!is_due(observer, observed, *rate, now_ms))
            continue;
        observed->under_way = true;
        return observed->chamber;
    }
    return NULL;
}

void observer_told(struct observer *observer, const char *chamber, double rate, int64_t now_ms)
{
    struct observed *observed = find(observer, chamber);
    if (observed == NULL)
        return;
    observed->under_way = false;
    if (rate >= 0) {
        observed->told = rate;
        observed->differs_ms = -1;
    } else {
        observed->not_before_ms = now_ms + (int64_t)(observer->memory_ms / 4);
    }
}
