#include "defender/prewarm.h"

#include "base/arena.h"
#include "base/log.h"
#include "defender/judgement.h"

#include <stdlib.h>
#include <string.h>

enum { QUERIES_A_CALL = 64 };

/* One run over a list of chambers, a few at a time: list the heads, then (warming) read the histories, or
 * (confirming) compare. A run that was replaced lives on until its last answer and then goes by itself. */
struct prewarm_run {
    struct prewarm *prewarm;
    struct arena arena;
    struct store_key *chambers;
    size_t count, next;
    bool confirming;
    bool replaced;
    struct store_reply *heads;
    size_t next_head;
    struct store_history_query *queries;
    size_t query_count;
    void (*done)(void *arg);
    void *arg;
};

struct prewarm {
    struct mailbox *mailbox;
    struct store *store;
    struct cache *cache;
    struct chartsets *chartsets;
    uv_timer_t patience;
    struct prewarm_run *current;
};

static void run_next(struct prewarm_run *run);

static void run_free(struct prewarm_run *run)
{
    store_reply_free(run->heads);
    arena_free(&run->arena);
    free(run);
}

/* Tells the caller, once. The run itself may still have an answer to come. */
static void run_tell(struct prewarm_run *run)
{
    struct prewarm *prewarm = run->prewarm;
    if (run->replaced)
        return;
    run->replaced = true;
    prewarm->current = NULL;
    uv_timer_stop(&prewarm->patience);
    run->done(run->arg);
}

static void run_end(struct prewarm_run *run)
{
    run_tell(run);
    run_free(run);
}

/* --- confirming: does the cache end where the store ends? --- */

static void confirm_head(struct prewarm *prewarm, const struct store_uchart *head)
{
    struct arena arena;
    struct store_uchart *rows;
    size_t count = 0;
    arena_init(&arena, 0);
    struct store_history_query newest = {.tool = head->key.tool,
                                         .chamber = head->key.chamber,
                                         .recipe = head->recipe,
                                         .end_us = INT64_MAX,
                                         .context_id = "",
                                         .limit = 1};
    int code = cache_lookup(prewarm->cache, &newest, &arena, &rows, &count, NULL);
    bool same = code == 0 && count == 1 && strcmp(rows[0].key.context_id, head->key.context_id) == 0 &&
                rows[0].points_length == head->points_length &&
                memcmp(rows[0].points, head->points, head->points_length) == 0;
    if (code == 0 && !same)
        cache_forget(prewarm->cache, head->key.tool, head->key.chamber, head->recipe);
    arena_free(&arena);
}

/* --- warming --- */

static void run_histories(void *target, void *argument)
{
    struct prewarm_run *run = target;
    struct store_reply *reply = argument;
    const struct store_uchart *rows = reply->ucharts;
    /* A standby's histories may have holes, which the cache would vouch for. */
    bool whole = reply->code == 0 && !reply->degraded;
    for (size_t i = 0; whole && i < run->query_count; i++) {
        /* Nothing ended later when the heads were read; what came since is found by prewarm_confirm. */
        cache_fill(run->prewarm->cache, &run->queries[i], rows, reply->query_counts[i], true, NULL);
        rows += reply->query_counts[i];
    }
    bool away = reply->code != 0;
    if (away)
        LOG_DEBUG("histories not read ahead", LOG_STR("error", reply->error.text));
    store_reply_free(reply);
    if (run->replaced || away)
        run_end(run);
    else
        run_next(run);
}

static void on_histories(void *arg, struct store_reply *reply)
{
    struct prewarm_run *run = arg;
    mailbox_post(run->prewarm->mailbox, run_histories, run, reply);
}

/* Asks for the histories behind the next heads. False when none is left to ask for. */
static bool ask_histories(struct prewarm_run *run)
{
    struct chart_set *set = chartsets_current(run->prewarm->chartsets);
    run->query_count = 0;
    while (run->next_head < run->heads->uchart_count && run->query_count < QUERIES_A_CALL) {
        const struct store_uchart *head = &run->heads->ucharts[run->next_head++];
        size_t lookback = 0;
        if (judgement_lookback(set, head->recipe, &lookback, NULL) || lookback == 0)
            continue;
        run->queries[run->query_count++] = (struct store_history_query){.tool = head->key.tool,
                                                                        .chamber = head->key.chamber,
                                                                        .recipe = head->recipe,
                                                                        .end_us = INT64_MAX,
                                                                        .context_id = "",
                                                                        .limit = lookback};
    }
    if (run->query_count == 0)
        return false;
    store_fetch_history_bulk(run->prewarm->store, run->queries, run->query_count, on_histories, run);
    return true;
}

static void run_heads(void *target, void *argument)
{
    struct prewarm_run *run = target;
    store_reply_free(run->heads);
    run->heads = argument;
    run->next_head = 0;
    if (run->replaced || run->heads->code) {
        run_end(run);
        return;
    }
    if (run->confirming) {
        for (size_t i = 0; i < run->heads->uchart_count; i++)
            confirm_head(run->prewarm, &run->heads->ucharts[i]);
        run->next_head = run->heads->uchart_count;
    }
    run_next(run);
}

static void on_heads(void *arg, struct store_reply *reply)
{
    struct prewarm_run *run = arg;
    mailbox_post(run->prewarm->mailbox, run_heads, run, reply);
}

static void run_next(struct prewarm_run *run)
{
    if (run->heads && ask_histories(run))
        return;
    if (run->next == run->count) {
        run_end(run);
        return;
    }
    size_t left = run->count - run->next;
    size_t now = left < PREWARM_CHAMBERS_A_CALL ? left : PREWARM_CHAMBERS_A_CALL;
    const struct store_key *first = &run->chambers[run->next];
    run->next += now;
    store_list_heads(run->prewarm->store, first, now, on_heads, run);
}

/* --- the doors --- */

static void on_patience_over(uv_timer_t *timer)
{
    struct prewarm *prewarm = timer->data;
    struct prewarm_run *run = prewarm->current;
    if (run == NULL)
        return;
    LOG_INFO("taking over before every history is read", LOG_INT("chambers", run->count),
             LOG_INT("read", run->next));
    if (run->confirming) /* what could not be confirmed is not to be relied on */
        for (size_t i = 0; i < run->count; i++)
            cache_forget(prewarm->cache, run->chambers[i].tool, run->chambers[i].chamber, NULL);
    run_tell(run);
}

static void begin(struct prewarm *prewarm, const struct prewarm_chamber *chambers, size_t count,
                  bool confirming, void (*done)(void *arg), void *arg)
{
    if (prewarm->current)
        prewarm->current->replaced = true;
    struct prewarm_run *run;
    while ((run = calloc(1, sizeof *run)) == NULL)
        uv_sleep(1);
    *run = (struct prewarm_run){
        .prewarm = prewarm, .count = count, .confirming = confirming, .done = done, .arg = arg};
    arena_init(&run->arena, 0);
    prewarm->current = run;
    run->chambers = arena_calloc(&run->arena, count, sizeof *run->chambers);
    run->queries = arena_calloc(&run->arena, QUERIES_A_CALL, sizeof *run->queries);
    bool complete = run->chambers && run->queries;
    for (size_t i = 0; complete && i < count; i++) {
        run->chambers[i] = (struct store_key){arena_strdup(&run->arena, chambers[i].tool),
                                              arena_strdup(&run->arena, chambers[i].chamber), NULL};
        complete = run->chambers[i].tool && run->chambers[i].chamber;
    }
    if (!complete) {
        run->count = 0; /* no memory to read ahead: a cold cache is slow, not wrong */
        if (confirming)
            for (size_t i = 0; i < count; i++)
                cache_forget(prewarm->cache, chambers[i].tool, chambers[i].chamber, NULL);
    }
    uv_timer_start(&prewarm->patience, on_patience_over, PREWARM_PATIENCE_MS, 0);
    run_next(run);
}

int prewarm_open(uv_loop_t *loop, struct mailbox *mailbox, struct store *store, struct cache *cache,
                 struct chartsets *chartsets, struct prewarm **out, struct error *err)
{
    struct prewarm *prewarm = calloc(1, sizeof *prewarm);
    if (prewarm == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to read ahead");
    *prewarm = (struct prewarm){.mailbox = mailbox, .store = store, .cache = cache, .chartsets = chartsets};
    uv_timer_init(loop, &prewarm->patience);
    prewarm->patience.data = prewarm;
    *out = prewarm;
    return 0;
}

static void free_when_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void prewarm_close(struct prewarm *prewarm)
{
    if (prewarm->current)
        prewarm->current->replaced = true;
    prewarm->current = NULL;
    uv_close((uv_handle_t *)&prewarm->patience, free_when_closed);
}

void prewarm_begin(struct prewarm *prewarm, const struct prewarm_chamber *chambers, size_t count,
                   void (*done)(void *arg), void *arg)
{
    begin(prewarm, chambers, count, false, done, arg);
}

void prewarm_confirm(struct prewarm *prewarm, const struct prewarm_chamber *chambers, size_t count,
                     void (*done)(void *arg), void *arg)
{
    begin(prewarm, chambers, count, true, done, arg);
}
