#include "defender/chartsets.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loaded_set {
    struct loaded_set *next;
    struct chart_set *set;
    uint64_t id;
};

struct chartsets {
    struct store *store;
    struct mailbox *mailbox;
    struct loaded_set *loaded;
    struct chart_set *current;
};

struct set_call {
    struct chartsets *sets;
    chartsets_done *done;
    void *arg;
    uint64_t id; /* 0: the one in force */
};

int chartsets_open(struct store *store, struct mailbox *mailbox, struct chartsets **out, struct error *err)
{
    struct chartsets *sets = calloc(1, sizeof *sets);
    if (sets == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the chart sets");
    sets->store = store;
    sets->mailbox = mailbox;
    *out = sets;
    return 0;
}

void chartsets_close(struct chartsets *sets)
{
    if (sets == NULL)
        return;
    for (struct loaded_set *next; sets->loaded; sets->loaded = next) {
        next = sets->loaded->next;
        chart_set_free(sets->loaded->set);
        free(sets->loaded);
    }
    free(sets);
}

struct chart_set *chartsets_current(const struct chartsets *sets)
{
    return sets->current;
}

uint64_t chartsets_current_id(const struct chartsets *sets)
{
    return sets->current ? chart_set_id(sets->current) : 0;
}

struct chart_set *chartsets_find(const struct chartsets *sets, uint64_t id)
{
    for (struct loaded_set *one = sets->loaded; one; one = one->next)
        if (one->id == id)
            return one->set;
    return NULL;
}

static int add_set(struct chartsets *sets, uint64_t id, const char *text, struct chart_set **set,
                   struct error *err)
{
    *set = chartsets_find(sets, id);
    if (*set)
        return 0;
    char name[40];
    snprintf(name, sizeof name, "chart set %016" PRIx64, id);
    struct loaded_set *one = calloc(1, sizeof *one);
    if (one == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a chart set");
    int code = chart_set_parse(text, strlen(text), name, &one->set, NULL, err);
    if (code) {
        free(one);
        return code;
    }
    one->id = id;
    one->next = sets->loaded;
    sets->loaded = one;
    *set = one->set;
    return 0;
}

/* On the loop: the store has answered. */
static void run_fetched(void *target, void *argument)
{
    struct set_call *call = target;
    struct store_reply *reply = argument;
    struct chartsets *sets = call->sets;
    struct error err = reply->error;
    int code = reply->code;
    struct chart_set *set = NULL;
    if (code == 0)
        code = add_set(sets, reply->id, reply->text, &set, &err);
    if (call->id == 0 && code == 0 && set != sets->current) {
        sets->current = set;
        LOG_INFO("chart file in force", LOG_INT("charts", chart_set_count(set)));
    } else if (call->id == 0 && code == ERR_NOT_FOUND) {
        code = 0;
    }
    if (call->done)
        call->done(call->arg, code, &err);
    store_reply_free(reply);
    free(call);
}

static void on_fetched(void *arg, struct store_reply *reply)
{
    struct set_call *call = arg;
    mailbox_post(call->sets->mailbox, run_fetched, call, reply);
}

void chartsets_load(struct chartsets *sets, uint64_t id, chartsets_done *done, void *arg)
{
    struct set_call *call;
    while ((call = calloc(1, sizeof *call)) == NULL)
        uv_sleep(1);
    *call = (struct set_call){.sets = sets, .done = done, .arg = arg, .id = id};
    store_fetch_chart_set(sets->store, id, on_fetched, call);
}

void chartsets_refresh(struct chartsets *sets, chartsets_done *done, void *arg)
{
    chartsets_load(sets, 0, done, arg);
}
