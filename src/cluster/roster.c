/* The chambers and their weights, as the leader knows them: a table that only grows while it leads, found by
 * name. */
#include "cluster/machine.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define ROSTER_IDLE 0.1
#define ROSTER_HEAVIEST 9e15

/* Where `name` is or belongs. */
static size_t roster_slot(const struct roster *roster, const char *name, uint64_t hash)
{
    size_t mask = roster->slot_count - 1;
    size_t slot = (size_t)hash & mask;
    while (roster->slots[slot] != 0) {
        const struct chamber *chamber = &roster->items[roster->slots[slot] - 1];
        if (chamber->hash == hash && strcmp(chamber->name, name) == 0)
            break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

struct chamber *roster_find(const struct roster *roster, const char *name)
{
    if (roster->slot_count == 0)
        return NULL;
    uint32_t place = roster->slots[roster_slot(roster, name, hash64_text(name))];
    return place ? &roster->items[place - 1] : NULL;
}

static bool roster_grow_slots(struct roster *roster)
{
    size_t slot_count = roster->slot_count ? 2 * roster->slot_count : 256;
    uint32_t *slots = calloc(slot_count, sizeof *slots);
    if (slots == NULL)
        return false;
    free(roster->slots);
    roster->slots = slots;
    roster->slot_count = slot_count;
    for (size_t i = 0; i < roster->count; i++)
        slots[roster_slot(roster, roster->items[i].name, roster->items[i].hash)] = (uint32_t)i + 1;
    return true;
}

static bool roster_reserve(struct roster *roster)
{
    if (2 * (roster->count + 1) > roster->slot_count && !roster_grow_slots(roster))
        return false;
    if (roster->count < roster->capacity)
        return true;
    size_t capacity = roster->capacity ? 2 * roster->capacity : 128;
    struct chamber *items = realloc(roster->items, capacity * sizeof *items);
    if (items == NULL)
        return false;
    roster->items = items;
    roster->capacity = capacity;
    return true;
}

int64_t roster_place(struct cluster *c, const char *name)
{
    struct roster *roster = &c->roster;
    struct chamber *known = roster_find(roster, name);
    if (known)
        return known - roster->items;
    if (roster->count >= CLUSTER_CHAMBERS_MAX) {
        if (!roster->full)
            trace(c, "more than %d chambers: the rest has no owner; divide the fab into cells",
                  CLUSTER_CHAMBERS_MAX);
        roster->full = true;
        return -1;
    }
    char *copy = strdup(name);
    if (copy == NULL || !roster_reserve(roster)) {
        free(copy);
        c->failed = true;
        return -1;
    }
    uint64_t hash = hash64_text(name);
    int64_t weight = c->config.default_weight;
    roster->slots[roster_slot(roster, name, hash)] = (uint32_t)roster->count + 1;
    roster->items[roster->count] = (struct chamber){
        .name = copy, .hash = hash, .registered = weight, .observed = -1, .weight = weight, .owner = -1};
    return (int64_t)roster->count++;
}

static void roster_note_change(struct cluster *c)
{
    if (!c->roster.changed)
        c->roster.changed_ms = c->now_ms;
    c->roster.changed = true;
}

void roster_on_entry(struct cluster *c, const char *key, const char *value, size_t length)
{
    int64_t weight = c->config.default_weight;
    double observed = -1;
    struct error err;
    int code = value ? weight_parse(value, length, &weight, &observed, &err) : 0;
    if (code)
        trace(c, "chamber %.60s counts with weight %lld: %.100s", key, (long long)weight, err.text);
    int64_t place = strlen(key) < CLUSTER_KEY_BYTES ? roster_place(c, key) : -1;
    if (place < 0)
        return;
    struct chamber *chamber = &c->roster.items[place];
    bool news = value ? !chamber->placed : chamber->placed;
    chamber->removed = value == NULL;
    chamber->listed = value != NULL;
    if (news)
        roster_note_change(c);
    bool same =
        weight == chamber->registered && !(observed < chamber->observed) && !(observed > chamber->observed);
    if (value == NULL || same)
        return;
    chamber->registered = weight;
    chamber->observed = observed;
    c->roster.unweighed = true;
    c->roster.reweighed |= chamber->placed;
}

static int ratio_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What a point an hour counts: the median, over the chambers that are observed, of what was registered by
 * what is observed. So observed chambers and those that are only registered are of one unit, and a few
 * chambers whose registration says nothing do not move it. 0: none is observed. */
static double roster_ratio(struct cluster *c)
{
    const struct roster *roster = &c->roster;
    double *ratios = malloc((roster->count ? roster->count : 1) * sizeof *ratios);
    size_t count = 0;
    if (ratios == NULL) {
        c->failed = true;
        return 0;
    }
    for (size_t i = 0; i < roster->count; i++) {
        const struct chamber *chamber = &roster->items[i];
        if (chamber->listed && chamber->observed > 0)
            ratios[count++] = (double)chamber->registered / chamber->observed;
    }
    if (count > 1)
        qsort(ratios, count, sizeof *ratios, ratio_order);
    double ratio = count ? ratios[count / 2] : 0;
    free(ratios);
    return ratio;
}

/* A chamber counts with what is observed, and never with less than ROSTER_IDLE of what was registered: an
 * idle one may start again at any moment. */
void roster_weigh(struct cluster *c)
{
    if (!c->roster.unweighed)
        return;
    c->roster.unweighed = false;
    double ratio = roster_ratio(c);
    for (size_t i = 0; i < c->roster.count; i++) {
        struct chamber *chamber = &c->roster.items[i];
        double weight = (double)chamber->registered;
        if (ratio > 0 && chamber->observed >= 0) {
            double least = weight * ROSTER_IDLE;
            weight = chamber->observed * ratio;
            weight = weight < least ? least : weight < ROSTER_HEAVIEST ? weight : ROSTER_HEAVIEST;
        }
        chamber->weight = weight < 1 ? 1 : (int64_t)weight;
    }
}

void roster_on_subjects(struct cluster *c, const struct cluster_event *event)
{
    if (PLANTED(PLANT_NO_ORPHANS))
        return;
    int adopted = 0;
    for (size_t i = 0; i < event->chamber_count && adopted < CLUSTER_ADOPTIONS_MAX; i++) {
        const char *name = event->chambers[i];
        const struct chamber *chamber = roster_find(&c->roster, name);
        if (strlen(name) >= CLUSTER_KEY_BYTES || (chamber && chamber->listed))
            continue;
        struct strbuf json;
        strbuf_init(&json);
        strbuf_printf(&json, "{\"weight\":%lld}", (long long)c->config.default_weight);
        if (json.failed)
            c->failed = true;
        /* Placed when the watch tells that it was written. */
        ask_create(c, BUCKET_CHAMBERS, name, json.text);
        strbuf_free(&json);
        if (adopted++ == 0)
            trace(c, "%.120s has messages and is not in the roster: added", name);
    }
    if (adopted > 1)
        trace(c, "and %d more chambers", adopted - 1);
    if (adopted == CLUSTER_ADOPTIONS_MAX) /* there may be more: no need to wait for the next scan's time */
        c->controller.next_orphans_ms = c->now_ms + c->config.roster_settle_ms;
}

void roster_clear(struct cluster *c)
{
    for (size_t i = 0; i < c->roster.count; i++)
        free(c->roster.items[i].name);
    free(c->roster.items);
    free(c->roster.slots);
    c->roster = (struct roster){0};
}
