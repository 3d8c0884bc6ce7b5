/* Buckets: keys with revisions, compare-and-set, delete markers, silent expiry, watches. */
#include "nats_server.h"

#include "memory.h"

#include "base/error.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

struct nats_value *nats_value_new(const char *text, size_t length)
{
    struct nats_value *value = sim_alloc(1, sizeof *value + length + 1);
    value->refs = 1;
    value->length = length;
    memcpy(value->text, text, length);
    return value;
}

struct nats_value *nats_value_hold(struct nats_value *value)
{
    if (value)
        value->refs++;
    return value;
}

void nats_value_drop(struct nats_value *value)
{
    if (value && --value->refs == 0)
        free(value);
}

static size_t *slot_of(struct nats_bucket *bucket, const char *key)
{
    size_t mask = bucket->slot_count - 1;
    size_t at = (size_t)hash64_text(key) & mask;
    while (bucket->slots[at] && strcmp(bucket->entries[bucket->slots[at] - 1].key, key) != 0)
        at = (at + 1) & mask;
    return &bucket->slots[at];
}

static void grow_slots(struct nats_bucket *bucket)
{
    free(bucket->slots);
    bucket->slot_count = bucket->slot_count ? bucket->slot_count * 2 : 64;
    bucket->slots = sim_alloc(bucket->slot_count, sizeof *bucket->slots);
    for (size_t i = 0; i < bucket->count; i++)
        *slot_of(bucket, bucket->entries[i].key) = i + 1;
}

/* Entries stay for ever: an expired one is told by its age. */
static struct nats_entry *entry_of(struct nats_bucket *bucket, const char *key, bool add)
{
    if (add && bucket->count * 2 >= bucket->slot_count)
        grow_slots(bucket);
    if (bucket->slot_count == 0)
        return NULL;
    size_t *slot = slot_of(bucket, key);
    if (*slot == 0 && add) {
        if (bucket->count == bucket->capacity)
            bucket->entries = sim_grow(bucket->entries, &bucket->capacity, sizeof *bucket->entries);
        char *copy = sim_alloc(1, strlen(key) + 1);
        memcpy(copy, key, strlen(key));
        bucket->entries[bucket->count++] = (struct nats_entry){.key = copy};
        *slot = bucket->count;
    }
    return *slot ? &bucket->entries[*slot - 1] : NULL;
}

void nats_bucket_free(struct nats_bucket *bucket)
{
    for (size_t i = 0; i < bucket->count; i++) {
        free((char *)bucket->entries[i].key);
        nats_value_drop(bucket->entries[i].value);
    }
    free(bucket->entries);
    free(bucket->slots);
}

/* Written, and not gone by age. */
static bool in_stream(const struct nats *nats, int64_t now_us, int bucket, const struct nats_entry *entry)
{
    int64_t ttl_us = nats->config.ttl_us[bucket];
    return entry && entry->revision > 0 && (ttl_us == 0 || now_us - entry->stored_us < ttl_us);
}

const struct nats_entry *nats_kv_get(const struct nats *nats, int64_t now_us, int bucket, const char *key)
{
    const struct nats_entry *entry = entry_of((struct nats_bucket *)&nats->buckets[bucket], key, false);
    return in_stream(nats, now_us, bucket, entry) && entry->value ? entry : NULL;
}

static bool pattern_matches(const char *pattern, const char *key)
{
    for (;;) {
        if (strcmp(pattern, ">") == 0)
            return *key != '\0';
        size_t wanted = strcspn(pattern, "."), has = strcspn(key, ".");
        bool any = wanted == 1 && pattern[0] == '*';
        if (!any && (wanted != has || memcmp(pattern, key, has) != 0))
            return false;
        pattern += wanted;
        key += has;
        if (*pattern == '\0' || *key == '\0')
            return *pattern == *key;
        pattern++;
        key++;
    }
}

static void tell(struct nats *nats, const struct nats_watch *watch, const struct nats_entry *entry)
{
    if (pattern_matches(watch->pattern, entry->key))
        nats->hooks.entry(nats->hooks.context, watch->client, watch->id, entry);
}

static int write_entry(struct nats *nats, int64_t now_us, int bucket, struct nats_entry *entry,
                       struct nats_value *value, uint64_t *revision)
{
    nats_value_drop(entry->value);
    entry->value = nats_value_hold(value);
    entry->revision = ++nats->buckets[bucket].revision;
    entry->stored_us = now_us;
    if (revision)
        *revision = entry->revision;
    for (size_t i = 0; i < nats->watch_count; i++)
        if (nats->watches[i].bucket == bucket)
            tell(nats, &nats->watches[i], entry);
    return 0;
}

int nats_kv_create(struct nats *nats, int64_t now_us, int bucket, const char *key, struct nats_value *value,
                   uint64_t *revision)
{
    if (nats_kv_get(nats, now_us, bucket, key))
        return ERR_CONFLICT;
    return write_entry(nats, now_us, bucket, entry_of(&nats->buckets[bucket], key, true), value, revision);
}

static bool is_newest(const struct nats *nats, int64_t now_us, int bucket, const struct nats_entry *entry,
                      uint64_t expected)
{
    return in_stream(nats, now_us, bucket, entry) ? entry->revision == expected : expected == 0;
}

int nats_kv_update(struct nats *nats, int64_t now_us, int bucket, const char *key, struct nats_value *value,
                   uint64_t expected, uint64_t *revision)
{
    if (!is_newest(nats, now_us, bucket, entry_of(&nats->buckets[bucket], key, false), expected))
        return ERR_CONFLICT;
    return write_entry(nats, now_us, bucket, entry_of(&nats->buckets[bucket], key, true), value, revision);
}

int nats_kv_put(struct nats *nats, int64_t now_us, int bucket, const char *key, struct nats_value *value,
                uint64_t *revision)
{
    return write_entry(nats, now_us, bucket, entry_of(&nats->buckets[bucket], key, true), value, revision);
}

int nats_kv_delete(struct nats *nats, int64_t now_us, int bucket, const char *key, uint64_t expected,
                   uint64_t *revision)
{
    struct nats_entry *entry = entry_of(&nats->buckets[bucket], key, true);
    if (expected && !is_newest(nats, now_us, bucket, entry, expected))
        return ERR_CONFLICT;
    return write_entry(nats, now_us, bucket, entry, NULL, revision);
}

void nats_watch(struct nats *nats, int64_t now_us, uint64_t client, uint64_t watch, int bucket,
                const char *pattern)
{
    if (nats->watch_count == nats->watch_capacity)
        nats->watches = sim_grow(nats->watches, &nats->watch_capacity, sizeof *nats->watches);
    struct nats_watch *added = &nats->watches[nats->watch_count++];
    *added = (struct nats_watch){.client = client, .id = watch, .bucket = bucket};
    strncpy(added->pattern, pattern, sizeof added->pattern - 1);
    for (size_t i = 0; i < nats->buckets[bucket].count; i++)
        if (in_stream(nats, now_us, bucket, &nats->buckets[bucket].entries[i]))
            tell(nats, added, &nats->buckets[bucket].entries[i]);
    nats->hooks.current(nats->hooks.context, client, watch);
}

static void remove_watches(struct nats *nats, uint64_t client, uint64_t watch, bool all)
{
    size_t kept = 0;
    for (size_t i = 0; i < nats->watch_count; i++)
        if (nats->watches[i].client != client || (!all && nats->watches[i].id != watch))
            nats->watches[kept++] = nats->watches[i];
    nats->watch_count = kept;
}

void nats_unwatch(struct nats *nats, uint64_t client, uint64_t watch)
{
    remove_watches(nats, client, watch, false);
}

void nats_watches_gone(struct nats *nats, uint64_t client)
{
    remove_watches(nats, client, 0, true);
}
