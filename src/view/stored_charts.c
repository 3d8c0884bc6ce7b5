#include "view/stored_charts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void stored_charts_init(struct stored_charts *charts, struct store *store)
{
    *charts = (struct stored_charts){.store = store};
    pthread_mutex_init(&charts->lock, NULL);
}

void stored_charts_free(struct stored_charts *charts)
{
    for (struct stored_charts_entry *next; charts->entries; charts->entries = next) {
        next = charts->entries->next;
        chart_set_free(charts->entries->set);
        free(charts->entries);
    }
    pthread_mutex_destroy(&charts->lock);
}

/* Fetches and parses; id 0 is the one in force. `*found_id` says which it is. */
static int load(struct store *store, uint64_t id, struct chart_set **set, uint64_t *found_id,
                struct error *err)
{
    struct store_wait *wait = store_wait_new();
    if (wait == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a chart file");
    store_fetch_chart_set(store, id, store_wait_done, wait);
    struct store_reply *reply = store_wait_reply(wait);
    int code = reply->code;
    if (code && err)
        *err = reply->error;
    if (code == 0) {
        char name[64];
        snprintf(name, sizeof name, "stored chart file %016" PRIx64, reply->id);
        *found_id = reply->id;
        code = chart_set_parse(reply->text, strlen(reply->text), name, set, NULL, err);
    }
    store_reply_free(reply);
    store_wait_free(wait);
    return code;
}

static struct stored_charts_entry *find(const struct stored_charts *charts, uint64_t id)
{
    for (struct stored_charts_entry *entry = charts->entries; entry; entry = entry->next)
        if (entry->id == id)
            return entry;
    return NULL;
}

/* Under the lock. */
static struct stored_charts_entry *remember(struct stored_charts *charts, uint64_t id)
{
    struct stored_charts_entry *entry = calloc(1, sizeof *entry);
    if (entry) {
        entry->id = id;
        entry->next = charts->entries;
        charts->entries = entry;
    }
    return entry;
}

int stored_charts_get(struct stored_charts *charts, uint64_t id, struct chart_set **set, struct error *err)
{
    *set = NULL;
    if (id == 0)
        return 0;
    int code = 0;
    pthread_mutex_lock(&charts->lock);
    struct stored_charts_entry *entry = find(charts, id);
    if (entry == NULL) {
        uint64_t found;
        entry = remember(charts, id);
        if (entry)
            load(charts->store, id, &entry->set, &found, &entry->error);
    }
    if (entry == NULL) {
        code = error_set(err, ERR_NO_MEMORY, "no memory for a chart file");
    } else if (entry->set == NULL) {
        code = entry->error.code;
        if (err)
            *err = entry->error;
    }
    *set = entry ? entry->set : NULL;
    pthread_mutex_unlock(&charts->lock);
    return code;
}

int stored_charts_current(struct stored_charts *charts, struct chart_set **set, struct error *err)
{
    uint64_t id = 0;
    struct chart_set *loaded = NULL;
    *set = NULL;
    int code = load(charts->store, 0, &loaded, &id, err);
    if (code == ERR_NOT_FOUND)
        return error_set(
            err, code,
            "no chart file is in force; write one or let `chamberlain charts learn` propose it, then "
            "`chamberlain charts use FILE`");
    if (code)
        return code;
    pthread_mutex_lock(&charts->lock);
    struct stored_charts_entry *entry = find(charts, id);
    if (entry == NULL && (entry = remember(charts, id)) != NULL)
        entry->set = loaded;
    else
        chart_set_free(loaded);
    *set = entry ? entry->set : NULL;
    pthread_mutex_unlock(&charts->lock);
    return *set ? 0 : error_set(err, ERR_NO_MEMORY, "no memory for a chart file");
}
