/* Owns here what the committed assignment says.
 *
 * The own key says what may come, the header what is in force: the two are watched apart and arrive in any
 * order, so the header names the very write (its KV revision) that it means. Until both are there, what was
 * owned stays owned. */
#include "cluster/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct header_member *holder_entry(const struct cluster *c)
{
    for (size_t i = 0; i < c->header.member_count; i++)
        if (c->header.members[i].number == c->member.number)
            return &c->header.members[i];
    return NULL;
}

static bool held_set_copy(const struct held_set *from, struct held_set *to)
{
    *to = (struct held_set){.version = from->version, .revision = from->revision};
    to->chambers = calloc(from->count ? from->count : 1, sizeof *to->chambers);
    if (to->chambers == NULL)
        return false;
    for (size_t i = 0; i < from->count; i++) {
        to->chambers[i] = strdup(from->chambers[i]);
        if (to->chambers[i] == NULL) {
            held_set_free(to);
            return false;
        }
        to->count++;
    }
    return true;
}

/* Tells the carrier what is owned from now on. */
static void holder_tell(struct cluster *c)
{
    const struct held_set *owned = &c->holder.owned;
    const char *id = actions_text(c, c->member.id);
    const char **chambers = arena_calloc(&c->actions->arena, owned->count + 1, sizeof *chambers);
    if (chambers == NULL) {
        c->failed = true;
        return;
    }
    for (size_t i = 0; i < owned->count; i++)
        chambers[i] = actions_text(c, owned->chambers[i]);
    struct cluster_action *action = actions_add(c, ACTION_SET_FILTERS);
    action->id = id;
    action->version = owned->version;
    action->chambers = chambers;
    action->chamber_count = owned->count;
    trace(c, "%s owns %zu chambers, version %llu", c->member.id, owned->count,
          (unsigned long long)owned->version);
}

static void holder_own(struct cluster *c, const struct held_set *set)
{
    held_set_free(&c->holder.owned);
    if (!held_set_copy(set, &c->holder.owned)) {
        c->failed = true;
        return;
    }
    holder_tell(c);
}

void holder_evaluate(struct cluster *c)
{
    struct holder *h = &c->holder;
    /* Uncertain of the ID, the consumer under its name may be another's: it is left alone. */
    if (!member_is_certain(c) || c->member.drained)
        return;
    /* Version 0 is a map before anything was assigned. After a store was lost, what is owned stays owned
     * until the next. */
    if (!c->header.present || c->header.version == 0)
        return;
    const struct header_member *entry = holder_entry(c);
    if (entry == NULL) {
        if (h->owned.count > 0)
            holder_own(c, &(struct held_set){.version = c->header.version});
        return;
    }
    bool there = h->to.revision != 0 && h->to.revision == entry->revision && h->to.version == entry->assigned;
    bool known = h->owned.version == entry->assigned && h->owned.revision == entry->revision;
    if (there && !known)
        holder_own(c, &h->to);
}

void holder_start(struct cluster *c)
{
    char key[CLUSTER_NAME_BYTES + 4];
    snprintf(key, sizeof key, "to.%s", c->member.id);
    held_set_free(&c->holder.to);
    held_set_free(&c->holder.owned);
    watch_begin(c, WATCH_TO, BUCKET_ASSIGNMENTS, key);
}

void holder_stop(struct cluster *c)
{
    const char *id = actions_text(c, c->member.id);
    actions_add(c, ACTION_KEEP_CONSUMER)->id = id;
    held_set_free(&c->holder.to);
    held_set_free(&c->holder.owned);
}

void holder_on_connected(struct cluster *c)
{
    c->holder.to_confirmed = c->holder.header_confirmed = false;
    c->holder.to.revision = 0;
    c->header.revision = 0;
}

void holder_on_current(struct cluster *c, enum watch_kind kind)
{
    struct holder *h = &c->holder;
    if (kind == WATCH_TO && !h->to_confirmed)
        held_set_free(&h->to);
    if (kind == WATCH_MAP && !h->header_confirmed && c->header.present) {
        /* The server has lost its store. What is owned stays owned until a new header says otherwise. */
        trace(c, "the map is gone");
        header_free(&c->header);
        if (c->controller.running)
            controller_on_header(c);
    }
}

void holder_on_to(struct cluster *c, const char *value, size_t length, uint64_t revision)
{
    struct holder *h = &c->holder;
    if (revision < h->to.revision)
        return;
    struct held_set set = {0};
    struct error err;
    if (value) {
        int code = to_parse(value, length, &set, &err);
        if (code == ERR_NO_MEMORY)
            c->failed = true;
        if (code)
            trace(c, "own assignment not readable: %s", err.text);
        if (code)
            return;
    }
    held_set_free(&h->to);
    h->to = set;
    h->to.revision = revision;
    h->to_confirmed = true;
    holder_evaluate(c);
}

void holder_on_header(struct cluster *c, const char *value, size_t length, uint64_t revision)
{
    if (revision < c->header.revision)
        return;
    c->holder.header_confirmed = true;
    if (revision == c->header.revision && c->header.present)
        return;
    struct header header = {0};
    struct error err;
    if (value) {
        int code = header_parse(c, value, length, &header, &err);
        if (code == ERR_NO_MEMORY)
            c->failed = true;
        if (code)
            trace(c, "map not readable: %s", err.text);
        if (code)
            return;
    }
    header_free(&c->header);
    c->header = header;
    c->header.revision = revision;
    holder_evaluate(c);
    if (c->controller.running)
        controller_on_header(c);
}

void holder_free(struct cluster *c)
{
    held_set_free(&c->holder.to);
    held_set_free(&c->holder.owned);
    header_free(&c->header);
}
