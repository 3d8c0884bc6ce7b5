/* Opening, the keeper (a thread that times everything), and the state of a failover store. */
#include "store/failover_parts.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

enum {
    TICK_MS = 50,
    OPEN_AGAIN_MS = 500, /* pause before a store that could not be opened is tried again, doubled up to */
    OPEN_AGAIN_MAX_MS = 5000,
    OPEN_PATIENCE_MS = 8000, /* for the second store, once the first is open */
    OPTION_MAX_MS = 24 * 3600 * 1000
};

static const struct failover_times default_times = {
    .call_ms = 2000, .give_up_ms = 5000, .poll_ms = 3000, .grace_ms = 5000, .hold_ms = 5000};

/* --- the mode --- */

const char *store_mode_name(enum store_mode mode)
{
    static const char *const names[] = {"single", "primary", "standby", "reconciling"};
    return names[mode];
}

static enum store_mode mode_of(enum breaker_state state)
{
    switch (state) {
    case BREAKER_CLOSED:
        return STORE_MODE_PRIMARY;
    case BREAKER_PROVEN:
        return STORE_MODE_RECONCILING;
    default:
        return STORE_MODE_STANDBY;
    }
}

static void tell_mode(const struct failover *failover, int64_t lasted_us)
{
    const struct side *primary = &failover->sides[SIDE_PRIMARY], *standby = &failover->sides[SIDE_STANDBY];
    const char *error = primary->store ? primary->failed.text : primary->open_error.text;
    int64_t lasted_ms = lasted_us / 1000;
    if (failover->mode == STORE_MODE_STANDBY)
        LOG_WARN(
            "the primary store is away: the standby answers, verdicts are of low quality; bring the primary "
            "back, the rest goes by itself",
            LOG_STR("primary", primary->url), LOG_STR("standby", standby->url), LOG_STR("error", error),
            LOG_INT("before_ms", lasted_ms));
    else if (failover->mode == STORE_MODE_RECONCILING)
        LOG_INFO("the primary store is well again: what the standby took is being copied",
                 LOG_STR("primary", primary->url), LOG_INT("away_ms", lasted_ms));
    else
        LOG_INFO("the primary store answers again, and has everything", LOG_STR("primary", primary->url),
                 LOG_INT("debts_paid", failover->debts_paid), LOG_INT("reconciled_in_ms", lasted_ms));
}

static int64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

void failover_event(struct failover *failover, enum breaker_event event)
{
    if (!breaker_step(&failover->breaker, event, now_ms()))
        return;
    enum store_mode mode = mode_of(failover->breaker.state);
    if (mode == failover->mode)
        return;
    int64_t now_us = clock_wall_us(), lasted_us = now_us - failover->mode_since_us;
    failover->mode = mode;
    failover->mode_since_us = now_us;
    if (mode != STORE_MODE_RECONCILING)
        failover->holding = false;
    tell_mode(failover, lasted_us);
    pthread_cond_broadcast(&failover->changed);
    pthread_cond_signal(&failover->pay_wake);
    pthread_cond_signal(&failover->keeper_wake);
}

/* --- probing --- */

static void on_probe(void *arg, struct store_reply *reply)
{
    struct failover *failover = arg;
    pthread_mutex_lock(&failover->lock);
    bool away = reply->code != 0;
    failover->probe_pending = false;
    failover_note(failover, SIDE_PRIMARY, true, &reply->error, away);
    if (!failover->probe_late)
        failover_event(failover, away ? BREAKER_PROBE_FAILED : BREAKER_PROBE_GOOD);
    if (--failover->in_flight == 0)
        pthread_cond_broadcast(&failover->idle);
    pthread_mutex_unlock(&failover->lock);
    store_reply_free(reply);
}

/* A real write: a store whose reads work while its lock is held, or its disk is full, is not well. */
static void send_probe(struct failover *failover)
{
    struct store *primary = failover->sides[SIDE_PRIMARY].store;
    static const struct store_debt probe = {.kind = STORE_DEBT_PROBE,
                                            .key = {.tool = "", .chamber = "", .context_id = "probe"}};
    if (failover->options.read_only)
        store_count(primary, on_probe, failover);
    else
        store_put_debt(primary, &probe, on_probe, failover);
}

/* Under the lock; true when a probe is to be sent. */
static bool look_at_probe(struct failover *failover, int64_t now_ns)
{
    bool late = now_ns - failover->probe_start_ns > failover->times.call_ms * 1000000;
    if (failover->probe_pending && late && !failover->probe_late) {
        failover->probe_late = true;
        failover_event(failover, BREAKER_PROBE_FAILED);
    }
    if (failover->closing || failover->probe_pending || failover->sides[SIDE_PRIMARY].store == NULL ||
        !breaker_probe_due(&failover->breaker, now_ms()))
        return false;
    failover->probe_pending = true;
    failover->probe_late = false;
    failover->probe_start_ns = now_ns;
    failover->in_flight++;
    failover_event(failover, BREAKER_PROBE_SENT);
    return true;
}

/* --- the keeper --- */

static struct timespec in_ms(int64_t ms)
{
    int64_t at = clock_mono_ns() + ms * 1000000;
    return (struct timespec){.tv_sec = (time_t)(at / 1000000000), .tv_nsec = (long)(at % 1000000000)};
}

static void finish_answered(struct failover *failover, struct store_call *call)
{
    while (call) {
        struct store_call *next = call->next;
        store_call_finish(call);
        call = next;
        pthread_mutex_lock(&failover->lock);
        if (--failover->in_flight == 0)
            pthread_cond_broadcast(&failover->idle);
        pthread_mutex_unlock(&failover->lock);
    }
}

static void *run_keeper(void *arg)
{
    struct failover *failover = arg;
    pthread_mutex_lock(&failover->lock);
    while (!failover->stopping) {
        struct job *todo = NULL, *over = NULL;
        struct store_call *answered = failover->answered;
        failover->answered = NULL;
        int64_t now_ns = clock_mono_ns();
        failover_look_after(failover, now_ns, &todo, &over);
        failover_take_startable(failover, &todo);
        bool probe = look_at_probe(failover, now_ns);
        pthread_mutex_unlock(&failover->lock);
        finish_answered(failover, answered);
        failover_run(todo, over);
        if (probe)
            send_probe(failover);
        pthread_mutex_lock(&failover->lock);
        struct timespec until = in_ms(TICK_MS);
        if (!failover->stopping && failover->answered == NULL)
            pthread_cond_timedwait(&failover->keeper_wake, &failover->lock, &until);
    }
    pthread_mutex_unlock(&failover->lock);
    return NULL;
}

/* --- opening each store, however long it takes --- */

/* These will not pass by waiting. */
static bool is_fatal(int code)
{
    return code == ERR_INVALID || code == ERR_UNSUPPORTED || code == ERR_NOT_FOUND;
}

struct opening {
    struct failover *failover;
    enum failover_side side;
};

static void *run_opener(void *arg)
{
    struct opening opening = *(struct opening *)arg;
    struct failover *failover = opening.failover;
    struct side *side = &failover->sides[opening.side];
    free(arg);
    int64_t pause_ms = OPEN_AGAIN_MS;
    bool open = false;
    while (!open) {
        struct store *store = NULL;
        struct error err;
        int code = store_open(side->url, &failover->options, &store, &err);
        pthread_mutex_lock(&failover->lock);
        bool first = !side->tried;
        side->tried = true;
        side->store = store;
        open = code == 0 || failover->stopping || (first && is_fatal(code));
        if (code)
            side->open_error = err;
        else if (!first)
            LOG_INFO("a store could be opened", LOG_STR("store", side->url));
        if (code && first)
            LOG_WARN("a store cannot be opened; trying again", LOG_STR("store", side->url),
                     LOG_STR("error", err.text));
        pthread_cond_broadcast(&failover->changed);
        pthread_cond_signal(&failover->pay_wake);
        struct timespec until = in_ms(pause_ms);
        while (!open && !failover->stopping)
            if (pthread_cond_timedwait(&failover->changed, &failover->lock, &until) == ETIMEDOUT)
                break;
        open = open || failover->stopping;
        pthread_mutex_unlock(&failover->lock);
        pause_ms = pause_ms * 2 < OPEN_AGAIN_MAX_MS ? pause_ms * 2 : OPEN_AGAIN_MAX_MS;
    }
    return NULL;
}

static int start_opener(struct failover *failover, enum failover_side side, struct error *err)
{
    struct opening *opening = malloc(sizeof *opening);
    if (opening == NULL)
        return error_set(err, ERR_NO_MEMORY, "store failover: out of memory");
    *opening = (struct opening){failover, side};
    int result = pthread_create(&failover->sides[side].opener, NULL, run_opener, opening);
    if (result) {
        free(opening);
        return error_set(err, ERR_NO_MEMORY, "store failover: cannot start a thread: %s", strerror(result));
    }
    failover->sides[side].has_opener = true;
    return 0;
}

/* Until both have been tried, or one is open and the other takes its time. */
static int wait_for_stores(struct failover *failover, struct error *err)
{
    struct side *primary = &failover->sides[SIDE_PRIMARY], *standby = &failover->sides[SIDE_STANDBY];
    struct timespec until = in_ms(OPEN_PATIENCE_MS);
    int code = 0;
    pthread_mutex_lock(&failover->lock);
    while (!(primary->tried && standby->tried)) {
        bool one = primary->store || standby->store;
        if (!one)
            pthread_cond_wait(&failover->changed, &failover->lock);
        else if (pthread_cond_timedwait(&failover->changed, &failover->lock, &until) == ETIMEDOUT)
            break;
    }
    for (int i = 0; i < SIDES && code == 0; i++)
        if (failover->sides[i].store == NULL && is_fatal(failover->sides[i].open_error.code)) {
            *err = failover->sides[i].open_error;
            code = err->code;
        }
    if (code == 0 && primary->store == NULL && standby->store == NULL)
        code = error_set(err, ERR_UNAVAILABLE, "neither store can be opened: %.200s; %.200s",
                         primary->open_error.text, standby->open_error.text);
    pthread_mutex_unlock(&failover->lock);
    return code;
}

/* --- the address --- */

struct named_option {
    const char *name;
    int64_t *ms;
    int32_t *count;
};

static int read_option(const char *text, size_t length, const struct named_option *table, size_t options,
                       struct error *err)
{
    for (size_t i = 0; i < options; i++) {
        size_t name = strlen(table[i].name);
        if (length <= name + 1 || strncmp(text, table[i].name, name) != 0 || text[name] != '=')
            continue;
        char *end = NULL;
        long value = strtol(text + name + 1, &end, 10);
        if (end != text + length || value < 1 || value > OPTION_MAX_MS)
            break;
        if (table[i].ms)
            *table[i].ms = value;
        else
            *table[i].count = (int32_t)value;
        return 0;
    }
    return error_set(err, ERR_INVALID,
                     "store failover: the option \"%.*s\" cannot be read; write NAME=NUMBER with a name of "
                     "docs/store.md and a number of at least 1",
                     (int)(length > 100 ? 100 : length), text);
}

static int read_options(struct failover *failover, const char *text, struct breaker_options *breaker,
                        struct error *err)
{
    struct failover_times *times = &failover->times;
    const struct named_option table[] = {{"call_ms", &times->call_ms, NULL},
                                         {"give_up_ms", &times->give_up_ms, NULL},
                                         {"poll_ms", &times->poll_ms, NULL},
                                         {"grace_ms", &times->grace_ms, NULL},
                                         {"hold_ms", &times->hold_ms, NULL},
                                         {"fail_ms", &breaker->fail_ms, NULL},
                                         {"window_ms", &breaker->window_ms, NULL},
                                         {"open_ms", &breaker->open_ms, NULL},
                                         {"open_max_ms", &breaker->open_max_ms, NULL},
                                         {"calm_ms", &breaker->calm_ms, NULL},
                                         {"probe_ms", &breaker->probe_ms, NULL},
                                         {"probe_max_ms", &breaker->probe_max_ms, NULL},
                                         {"good_ms", &breaker->good_ms, NULL},
                                         {"failures", NULL, &breaker->failures},
                                         {"window_calls", NULL, &breaker->window_calls},
                                         {"window_percent", NULL, &breaker->window_percent},
                                         {"good_probes", NULL, &breaker->good_probes}};
    int code = 0;
    while (code == 0 && *text) {
        size_t length = strcspn(text, ",");
        code = read_option(text, length, table, sizeof table / sizeof *table, err);
        text += length + (text[length] == ',');
    }
    return code;
}

static int read_place(struct failover *failover, const char *place, struct error *err)
{
    static const char between[] = ",,";
    struct breaker_options breaker = breaker_defaults;
    const char *second = strstr(place, between);
    const char *third = second ? strstr(second + 2, between) : NULL;
    if (second == NULL || second == place || second[2] == '\0' || third == second + 2)
        return error_set(err, ERR_INVALID,
                         "store failover:%s: write failover:PRIMARY,,STANDBY with two stores' addresses",
                         place);
    if (strncmp(place, "failover:", 9) == 0 || strncmp(second + 2, "failover:", 9) == 0)
        return error_set(err, ERR_INVALID, "store failover:%s: a failover store wraps two others, not itself",
                         place);
    failover->sides[SIDE_PRIMARY].url = strndup(place, (size_t)(second - place));
    failover->sides[SIDE_STANDBY].url =
        third ? strndup(second + 2, (size_t)(third - second - 2)) : strdup(second + 2);
    if (failover->sides[SIDE_PRIMARY].url == NULL || failover->sides[SIDE_STANDBY].url == NULL)
        return error_set(err, ERR_NO_MEMORY, "store failover:%s: out of memory", place);
    int code = third ? read_options(failover, third + 2, &breaker, err) : 0;
    breaker_init(&failover->breaker, &breaker, now_ms());
    return code;
}

/* --- opening and closing --- */

static void init_cond(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

static struct failover *allocate(const struct store_options *options)
{
    struct failover *failover = calloc(1, sizeof *failover);
    if (failover == NULL)
        return NULL;
    failover->base.ops = &store_failover_ops;
    failover->options = *options;
    failover->times = default_times;
    failover->mode = STORE_MODE_PRIMARY;
    failover->mode_since_us = clock_wall_us();
    failover->debts_known = -1;
    if (getrandom(&failover->instance, sizeof failover->instance, 0) != (ssize_t)sizeof failover->instance)
        failover->instance = (uint64_t)clock_mono_ns() ^ (uint64_t)clock_wall_us() << 20;
    pthread_mutex_init(&failover->lock, NULL);
    pthread_cond_t *conds[] = {&failover->changed, &failover->idle, &failover->keeper_wake,
                               &failover->pay_wake, &failover->pay_done};
    for (size_t i = 0; i < sizeof conds / sizeof *conds; i++)
        init_cond(conds[i]);
    return failover;
}

static void stop_threads(struct failover *failover)
{
    pthread_mutex_lock(&failover->lock);
    failover->stopping = true;
    pthread_cond_broadcast(&failover->changed);
    pthread_cond_broadcast(&failover->keeper_wake);
    pthread_cond_broadcast(&failover->pay_wake);
    pthread_cond_broadcast(&failover->pay_done);
    pthread_mutex_unlock(&failover->lock);
    if (failover->has_reconciler)
        pthread_join(failover->reconciler, NULL);
    for (size_t i = 0; i < failover->payer_count; i++)
        pthread_join(failover->payers[i], NULL);
    if (failover->has_keeper)
        pthread_join(failover->keeper, NULL);
    for (int i = 0; i < SIDES; i++)
        if (failover->sides[i].has_opener)
            pthread_join(failover->sides[i].opener, NULL);
}

static void destroy(struct failover *failover)
{
    stop_threads(failover);
    for (int i = 0; i < SIDES; i++) {
        store_close(failover->sides[i].store); /* answers what was abandoned there */
        free(failover->sides[i].url);
    }
    pthread_cond_t *conds[] = {&failover->changed, &failover->idle, &failover->keeper_wake,
                               &failover->pay_wake, &failover->pay_done};
    for (size_t i = 0; i < sizeof conds / sizeof *conds; i++)
        pthread_cond_destroy(conds[i]);
    pthread_mutex_destroy(&failover->lock);
    free(failover);
}

static int start_thread(pthread_t *thread, void *(*run)(void *), struct failover *failover, struct error *err)
{
    int result = pthread_create(thread, NULL, run, failover);
    if (result)
        return error_set(err, ERR_NO_MEMORY, "store failover: cannot start a thread: %s", strerror(result));
    return 0;
}

static int start_threads(struct failover *failover, struct error *err)
{
    int code = start_thread(&failover->keeper, run_keeper, failover, err);
    failover->has_keeper = code == 0;
    if (code || failover->options.read_only)
        return code;
    for (; failover->payer_count < FAILOVER_PAYERS && code == 0; failover->payer_count += code == 0)
        code = start_thread(&failover->payers[failover->payer_count], failover_run_payer, failover, err);
    if (code == 0)
        code = start_thread(&failover->reconciler, failover_run_reconciler, failover, err);
    failover->has_reconciler = code == 0;
    return code;
}

/* What the standby owes since an earlier run is copied before the primary is asked anything. */
static void look_for_debts(struct failover *failover)
{
    struct store *standby = failover->sides[SIDE_STANDBY].store;
    struct store_wait *wait = standby ? store_wait_new() : NULL;
    if (wait == NULL)
        return;
    store_list_debts(standby, STORE_DEBT_COPY, STORE_DEBTS_LISTED, store_wait_done, wait);
    struct store_reply *reply = store_wait_reply(wait);
    pthread_mutex_lock(&failover->lock);
    if (reply->code == 0)
        failover->debts_known = (int64_t)reply->debt_count;
    if (failover->debts_known > 0 && !failover->options.read_only)
        failover_event(failover, BREAKER_OWES);
    pthread_mutex_unlock(&failover->lock);
    store_reply_free(reply);
    store_wait_free(wait);
}

static int failover_open(const char *place, const struct store_options *options, struct store **opened,
                         struct error *err)
{
    struct failover *failover = allocate(options);
    if (failover == NULL)
        return error_set(err, ERR_NO_MEMORY, "store failover:%s: out of memory", place);
    int code = read_place(failover, place, err);
    for (enum failover_side side = SIDE_PRIMARY; side < SIDES && code == 0; side++)
        code = start_opener(failover, side, err);
    if (code == 0)
        code = wait_for_stores(failover, err);
    if (code == 0) {
        pthread_mutex_lock(&failover->lock);
        bool primary = failover->sides[SIDE_PRIMARY].store != NULL;
        if (!primary)
            failover_event(failover, BREAKER_GAVE_UP);
        pthread_mutex_unlock(&failover->lock);
        if (primary)
            look_for_debts(failover);
        code = start_threads(failover, err);
    }
    if (code) {
        destroy(failover);
        return code;
    }
    *opened = &failover->base;
    return 0;
}

static void failover_close(struct store *base)
{
    struct failover *failover = (struct failover *)base;
    pthread_mutex_lock(&failover->lock);
    failover->closing = true;
    failover->holding = false;
    pthread_cond_broadcast(&failover->changed);
    pthread_cond_signal(&failover->keeper_wake);
    while (failover->in_flight > 0)
        pthread_cond_wait(&failover->idle, &failover->lock);
    pthread_mutex_unlock(&failover->lock);
    destroy(failover);
}

const struct store_ops store_failover_ops = {
    .scheme = "failover", .open = failover_open, .submit = failover_submit, .close = failover_close};

/* --- for people --- */

static struct store_side_health side_health(const struct side *side)
{
    return (struct store_side_health){.open = side->store != NULL,
                                      .calls = side->calls,
                                      .failures = side->failures,
                                      .failed_us = side->failed_us,
                                      .failed = side->store ? side->failed : side->open_error};
}

void store_health(struct store *store, struct store_health *health)
{
    *health = (struct store_health){.mode = STORE_MODE_SINGLE};
    if (store->ops != &store_failover_ops)
        return;
    struct failover *failover = (struct failover *)store;
    pthread_mutex_lock(&failover->lock);
    *health = (struct store_health){.mode = failover->mode,
                                    .since_us = failover->mode_since_us,
                                    .opened = failover->breaker.opened,
                                    .debts_known = failover->debts_known,
                                    .debts_paid = failover->debts_paid,
                                    .debts_stuck = failover->debts_stuck,
                                    .abandoned = failover->abandoned,
                                    .primary = side_health(&failover->sides[SIDE_PRIMARY]),
                                    .standby = side_health(&failover->sides[SIDE_STANDBY])};
    pthread_mutex_unlock(&failover->lock);
}
