/* Holding chambers: from those that the consumer filters on to those assigned, step by step: shrink, warm,
 * grow, confirm. */
#include "defender/carrier_parts.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- lists of chambers --- */

int carrier_compare_tokens(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void list_set(struct chamber_list *list, const char *const *tokens, size_t count)
{
    arena_free(&list->arena);
    arena_init(&list->arena, 0);
    list->count = count;
    while ((list->tokens = arena_calloc(&list->arena, count + 1, sizeof *list->tokens)) == NULL)
        uv_sleep(1);
    for (size_t i = 0; i < count; i++)
        while ((list->tokens[i] = arena_strdup(&list->arena, tokens[i])) == NULL)
            uv_sleep(1);
    if (count > 0)
        qsort(list->tokens, count, sizeof *list->tokens, carrier_compare_tokens);
}

static bool list_has(const struct chamber_list *list, const char *token)
{
    return list->count > 0 &&
           bsearch(&token, list->tokens, list->count, sizeof *list->tokens, carrier_compare_tokens) != NULL;
}

/* The tokens of `a` that are (not) in `b`, borrowed from `a`. Returns their number; *out is malloc'ed. */
static size_t list_select(const struct chamber_list *a, const struct chamber_list *b, bool in,
                          const char ***out)
{
    const char **chosen = carrier_must_calloc((a->count + 1) * sizeof *chosen);
    size_t count = 0;
    for (size_t i = 0; i < a->count; i++)
        if (list_has(b, a->tokens[i]) == in)
            chosen[count++] = a->tokens[i];
    *out = chosen;
    return count;
}

/* The subjects of each token's chamber, in `arena`: "dc.{tool}.{chamber}.completed". */
static const char **subjects_of(struct carrier *carrier, const char *const *tokens, size_t count,
                                struct arena *arena)
{
    const struct carrier_kind *kind = &carrier->options.kind;
    const char **subjects;
    while ((subjects = arena_calloc(arena, count + 1, sizeof *subjects)) == NULL)
        uv_sleep(1);
    for (size_t i = 0; i < count; i++)
        while ((subjects[i] = arena_printf(arena, "%s%s%s%s%s", carrier->cell, *carrier->cell ? "." : "",
                                           kind->subject_prefix, tokens[i], kind->subject_suffix)) == NULL)
            uv_sleep(1);
    return subjects;
}

/* The names behind tokens, for the store. */
static struct prewarm_chamber *names_of(const char *const *tokens, size_t count, struct arena *arena)
{
    struct prewarm_chamber *names;
    while ((names = arena_calloc(arena, count + 1, sizeof *names)) == NULL)
        uv_sleep(1);
    for (size_t i = 0; i < count; i++) {
        char tool[NAMES_BYTES] = "", chamber[NAMES_BYTES] = "";
        const char *dot = strchr(tokens[i], '.');
        if (dot) {
            names_unescape(tokens[i], (size_t)(dot - tokens[i]), tool, NULL);
            names_unescape(dot + 1, strlen(dot + 1), chamber, NULL);
        }
        while ((names[i].tool = arena_strdup(arena, tool)) == NULL)
            uv_sleep(1);
        while ((names[i].chamber = arena_strdup(arena, chamber)) == NULL)
            uv_sleep(1);
    }
    return names;
}

/* --- owning chambers --- */

static int64_t capacity(const struct carrier *carrier)
{
    return carrier->ports.worker.capacity(carrier->ports.worker.arg);
}

void carrier_apply_want(struct carrier *carrier)
{
    if (carrier->consumer)
        consumer_want(carrier->consumer, carrier->pulling ? capacity(carrier) : 0);
}

static void on_message(void *arg, const struct consumer_message *message)
{
    struct carrier *carrier = arg;
    carrier->ports.worker.receive(carrier->ports.worker.arg, message);
}

static void on_lost(void *arg, const char *reason)
{
    struct carrier *carrier = arg;
    LOG_WARN("fenced: another has deleted this process's consumer", LOG_STR("reason", reason));
    carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_CONSUMER_LOST});
}

/* Pulls no more and forgets the consumer; at the server it stays as it is. */
static void leave_consumer(struct carrier *carrier)
{
    carrier->pulling = false;
    carrier->interrupted = false;
    carrier->holding = HOLDING_IDLE;
    if (carrier->consumer)
        consumer_free(carrier->consumer);
    carrier->consumer = NULL;
    list_set(&carrier->owned, NULL, 0);
}

/* Makes the consumer of that ID; an earlier ID's is let go. */
static bool have_consumer(struct carrier *carrier, const char *id)
{
    if (carrier->consumer && strcmp(carrier->id, id) == 0)
        return true;
    leave_consumer(carrier);
    snprintf(carrier->id, sizeof carrier->id, "%s", id);
    struct consumer_options options = {.stream = carrier->stream,
                                       .durable = carrier->id,
                                       .ack_wait_ms = carrier->options.ack_wait_ms,
                                       .max_ack_pending = carrier->options.max_ack_pending,
                                       .replicas = carrier->options.replicas};
    struct consumer_events events = {.message = on_message, .lost = on_lost, .arg = carrier};
    struct error err;
    if (consumer_new(carrier->ports.bus, &options, &events, &carrier->consumer, &err) == 0)
        return true;
    LOG_WARN("no consumer yet", LOG_STR("error", err.text));
    return false;
}

/* What is no longer owned: its waiting messages are another's, and so is its history. */
static void let_go(struct carrier *carrier)
{
    const char **gone;
    size_t count = list_select(&carrier->owned, &carrier->wanted, false, &gone);
    struct arena arena;
    arena_init(&arena, 0);
    const char **subjects = subjects_of(carrier, gone, count, &arena);
    for (size_t i = 0; i < count; i++)
        carrier->ports.worker.release_chamber(carrier->ports.worker.arg, subjects[i]);
    arena_free(&arena);
    free(gone);
}

static void hold_next(struct carrier *carrier);

static void on_confirmed(void *arg)
{
    struct carrier *carrier = arg;
    LOG_DEBUG("the chambers assigned are held", LOG_INT("chambers", carrier->wanted.count),
              LOG_INT("capacity", capacity(carrier)));
    carrier->holding = HOLDING_IDLE;
    list_set(&carrier->owned, carrier->wanted.tokens, carrier->wanted.count);
    carrier->pulling = !carrier->draining;
    carrier_apply_want(carrier);
    carrier_feed(carrier,
                 &(struct cluster_event){.kind = EVENT_FILTERS_IN_FORCE, .version = carrier->version});
}

static void on_filters(void *arg, int code, const struct error *error)
{
    struct carrier *carrier = arg;
    if (code == ERR_CLOSED || carrier->closing)
        return; /* replaced by a later change */
    if (code) {
        LOG_WARN("filters not in force", LOG_STR("error", error->text));
        carrier_feed(carrier, &(struct cluster_event){
                                  .kind = EVENT_FILTERS_IN_FORCE, .version = carrier->version, .code = code});
        return;
    }
    histogram_record(carrier->ports.filters, clock_mono_ns() - carrier->filters_set_ns);
    hold_next(carrier);
}

static void on_warm(void *arg)
{
    hold_next(arg);
}

static void set_filters(struct carrier *carrier, const char *const *tokens, size_t count)
{
    struct arena arena;
    arena_init(&arena, 0);
    const char **subjects = subjects_of(carrier, tokens, count, &arena);
    carrier->filters_set_ns = clock_mono_ns();
    consumer_set_filters(carrier->consumer, subjects, count, on_filters, carrier);
    arena_free(&arena);
}

static void with_gained(struct carrier *carrier,
                        void (*warm)(struct prewarm *, const struct prewarm_chamber *, size_t,
                                     void (*)(void *), void *),
                        void (*done)(void *))
{
    if (carrier->ports.prewarm == NULL) {
        done(carrier);
        return;
    }
    const char **gained;
    size_t count = list_select(&carrier->wanted, &carrier->owned, false, &gained);
    struct arena arena;
    arena_init(&arena, 0);
    warm(carrier->ports.prewarm, names_of(gained, count, &arena), count, done, carrier);
    arena_free(&arena);
    free(gained);
}

/* One step further in taking over what is wanted. Messages of gained chambers come with the growth, but none
 * is pulled before their histories are confirmed. */
static void hold_next(struct carrier *carrier)
{
    switch (carrier->holding) {
    case HOLDING_SHRINK:
        carrier->holding = HOLDING_WARM;
        with_gained(carrier, prewarm_begin, on_warm);
        break;
    case HOLDING_WARM:
        carrier->holding = HOLDING_GROW;
        carrier->pulling = false;
        carrier_apply_want(carrier);
        set_filters(carrier, carrier->wanted.tokens, carrier->wanted.count);
        break;
    case HOLDING_GROW:
        carrier->holding = HOLDING_CONFIRM;
        with_gained(carrier, prewarm_confirm, on_confirmed);
        break;
    case HOLDING_CONFIRM:
    case HOLDING_IDLE:
        break;
    }
}

/* From `owned` to `wanted`, which has just been set. */
static void hold_wanted(struct carrier *carrier)
{
    LOG_DEBUG("taking hold of the chambers assigned", LOG_INT("owned", carrier->owned.count),
              LOG_INT("wanted", carrier->wanted.count), LOG_INT("holding", carrier->holding));
    carrier->interrupted = false;
    let_go(carrier);
    carrier->holding = HOLDING_SHRINK;
    const char **kept;
    size_t count = list_select(&carrier->owned, &carrier->wanted, true, &kept);
    if (count < carrier->owned.count)
        set_filters(carrier, kept, count); /* at once: others wait for these */
    else
        hold_next(carrier);
    if (count == 0 && carrier->wanted.count > 0 && carrier->owned.count > 0)
        list_set(&carrier->owned, NULL, 0);
    free(kept);
}

void carrier_hold_chambers(struct carrier *carrier, const struct cluster_action *action)
{
    list_set(&carrier->wanted, action->chambers, action->chamber_count);
    carrier->version = action->version;
    if (!have_consumer(carrier, action->id)) {
        carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_FILTERS_IN_FORCE,
                                                      .version = action->version,
                                                      .code = ERR_UNAVAILABLE});
        return;
    }
    hold_wanted(carrier);
}

void carrier_hold_again(struct carrier *carrier)
{
    struct cluster_status status;
    if (!carrier->interrupted || !carrier->connected || carrier->consumer == NULL || carrier->draining)
        return;
    cluster_read_status(carrier->cluster, &status);
    if (status.certain)
        hold_wanted(carrier);
}

void carrier_keep_consumer(struct carrier *carrier)
{
    list_set(&carrier->wanted, NULL, 0);
    let_go(carrier);
    leave_consumer(carrier);
}
