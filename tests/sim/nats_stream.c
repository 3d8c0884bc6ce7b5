/* The work-queue stream and its pull consumers. */
#include "nats_server.h"

#include "memory.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

enum { COMPACT_MESSAGES = 4096 }; /* acknowledged ones at the front are let go of in such portions */

struct nats *nats_new(const struct nats_config *config, const struct nats_hooks *hooks)
{
    struct nats *nats = sim_alloc(1, sizeof *nats);
    nats->config = *config;
    nats->hooks = *hooks;
    nats->first = 1;
    nats->consumers = sim_alloc(config->consumers, sizeof *nats->consumers);
    nats->holders = sim_alloc(config->chambers, sizeof *nats->holders);
    for (size_t i = 0; i < config->chambers; i++)
        nats->holders[i] = NATS_NOBODY;
    return nats;
}

void nats_free(struct nats *nats)
{
    for (int i = 0; i < NATS_BUCKETS; i++)
        nats_bucket_free(&nats->buckets[i]);
    for (size_t i = 0; i < nats->config.consumers; i++) {
        free(nats->consumers[i].filters);
        free(nats->consumers[i].pending);
        free(nats->consumers[i].pulls);
    }
    free(nats->watches);
    free(nats->messages);
    free(nats->consumers);
    free(nats->holders);
    free(nats);
}

static struct nats_message *message_of(const struct nats *nats, uint64_t sequence)
{
    if (sequence < nats->first || sequence - nats->first >= nats->message_count)
        return NULL;
    return &nats->messages[sequence - nats->first];
}

static bool waits(const struct nats *nats, uint64_t sequence)
{
    const struct nats_message *message = message_of(nats, sequence);
    return message && !message->acknowledged;
}

/* --- delivering --- */

static void use_pull(struct nats_consumer *consumer)
{
    if (--consumer->pulls[0].remaining == 0) {
        consumer->pull_count--;
        memmove(&consumer->pulls[0], &consumer->pulls[1], consumer->pull_count * sizeof *consumer->pulls);
    }
}

static void give(struct nats *nats, int64_t now_us, int n, struct nats_pending *pending)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    uint64_t client = consumer->pulls[0].client;
    pending->deadline_us = now_us + nats->config.ack_wait_us;
    pending->deliveries++;
    use_pull(consumer);
    nats->hooks.message(nats->hooks.context, client, n, pending->sequence,
                        message_of(nats, pending->sequence)->chamber, pending->deliveries);
}

static void drop_pending(struct nats_consumer *consumer, size_t i)
{
    consumer->pending_count--;
    memmove(&consumer->pending[i], &consumer->pending[i + 1],
            (consumer->pending_count - i) * sizeof *consumer->pending);
}

static void give_again(struct nats *nats, int64_t now_us, int n)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    for (size_t i = 0; i < consumer->pending_count && consumer->pull_count > 0;) {
        if (!waits(nats, consumer->pending[i].sequence)) {
            drop_pending(consumer, i);
            continue;
        }
        if (consumer->pending[i].deadline_us == 0)
            give(nats, now_us, n, &consumer->pending[i]);
        i++;
    }
}

static void deliver(struct nats *nats, int64_t now_us, int n)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    if (nats->stalled || !consumer->exists)
        return;
    give_again(nats, now_us, n);
    if (consumer->position < nats->first)
        consumer->position = nats->first;
    while (consumer->pull_count > 0 && consumer->pending_count < nats->config.max_ack_pending &&
           consumer->position - nats->first < nats->message_count) {
        uint64_t sequence = consumer->position++;
        const struct nats_message *message = message_of(nats, sequence);
        if (message->acknowledged || (!consumer->everything && nats->holders[message->chamber] != n))
            continue;
        if (consumer->pending_count == consumer->pending_capacity)
            consumer->pending =
                sim_grow(consumer->pending, &consumer->pending_capacity, sizeof *consumer->pending);
        struct nats_pending *pending = &consumer->pending[consumer->pending_count++];
        *pending = (struct nats_pending){.sequence = sequence};
        give(nats, now_us, n, pending);
    }
}

void nats_expire(struct nats *nats, int64_t now_us)
{
    if (nats->stalled)
        return;
    for (size_t n = 0; n < nats->config.consumers; n++) {
        struct nats_consumer *consumer = &nats->consumers[n];
        bool expired = false;
        for (size_t i = 0; i < consumer->pending_count; i++)
            if (consumer->pending[i].deadline_us <= now_us) {
                consumer->pending[i].deadline_us = 0;
                expired = true;
            }
        if (expired)
            deliver(nats, now_us, (int)n);
    }
}

void nats_stall(struct nats *nats, int64_t now_us, bool stalled)
{
    nats->stalled = stalled;
    for (size_t n = 0; !stalled && n < nats->config.consumers; n++)
        deliver(nats, now_us, (int)n);
}

/* --- the stream --- */

static void compact(struct nats *nats)
{
    size_t done = 0;
    while (done < nats->message_count && nats->messages[done].acknowledged)
        done++;
    if (done < COMPACT_MESSAGES)
        return;
    nats->message_count -= done;
    nats->first += done;
    memmove(nats->messages, &nats->messages[done], nats->message_count * sizeof *nats->messages);
}

uint64_t nats_publish(struct nats *nats, int64_t now_us, uint32_t chamber)
{
    if (nats->message_count == nats->message_capacity) {
        compact(nats);
        if (nats->message_count == nats->message_capacity)
            nats->messages = sim_grow(nats->messages, &nats->message_capacity, sizeof *nats->messages);
    }
    nats->messages[nats->message_count++] = (struct nats_message){.chamber = chamber, .published_us = now_us};
    nats->waiting++;
    uint64_t sequence = nats->first + nats->message_count - 1;
    if (nats->holders[chamber] != NATS_NOBODY)
        deliver(nats, now_us, nats->holders[chamber]);
    return sequence;
}

size_t nats_waiting(const struct nats *nats)
{
    return nats->waiting;
}

bool nats_oldest(const struct nats *nats, int64_t *published_us, uint32_t *chamber, uint64_t *sequence)
{
    for (size_t i = 0; nats->waiting > 0 && i < nats->message_count; i++)
        if (!nats->messages[i].acknowledged) {
            *published_us = nats->messages[i].published_us;
            *chamber = nats->messages[i].chamber;
            *sequence = nats->first + i;
            return true;
        }
    return false;
}

void nats_subjects(const struct nats *nats, bool *present)
{
    for (size_t i = 0; i < nats->message_count; i++)
        if (!nats->messages[i].acknowledged)
            present[nats->messages[i].chamber] = true;
}

/* --- consumers --- */

static void let_go(struct nats *nats, struct nats_consumer *consumer)
{
    for (size_t i = 0; i < consumer->filter_count; i++)
        nats->holders[consumer->filters[i]] = NATS_NOBODY;
}

int nats_consumer_set(struct nats *nats, int64_t now_us, int n, bool create, const uint32_t *chambers,
                      size_t count)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    if (!consumer->exists && !create)
        return ERR_NOT_FOUND;
    for (size_t i = 0; i < count; i++)
        if (nats->holders[chambers[i]] != NATS_NOBODY && nats->holders[chambers[i]] != n)
            return ERR_CONFLICT;
    if (!consumer->exists)
        consumer->position = nats->first;
    consumer->exists = true;
    consumer->everything = count == 0;
    let_go(nats, consumer);
    free(consumer->filters);
    consumer->filters = sim_alloc(count, sizeof *chambers);
    consumer->filter_count = count;
    if (count)
        memcpy(consumer->filters, chambers, count * sizeof *chambers);
    for (size_t i = 0; i < count; i++)
        nats->holders[chambers[i]] = n;
    deliver(nats, now_us, n);
    return 0;
}

int nats_consumer_reset(struct nats *nats, int64_t now_us, int n)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    if (!consumer->exists)
        return ERR_NOT_FOUND;
    consumer->position = nats->first;
    consumer->pending_count = 0;
    deliver(nats, now_us, n);
    return 0;
}

int nats_consumer_delete(struct nats *nats, int n)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    if (!consumer->exists)
        return ERR_NOT_FOUND;
    let_go(nats, consumer);
    size_t pulls = consumer->pull_count;
    consumer->exists = false;
    consumer->everything = false;
    consumer->filter_count = 0;
    consumer->pending_count = 0;
    consumer->pull_count = 0;
    for (size_t i = 0; i < pulls; i++)
        nats->hooks.deleted(nats->hooks.context, consumer->pulls[i].client, n);
    return 0;
}

bool nats_consumer_exists(const struct nats *nats, int n)
{
    return nats->consumers[n].exists;
}

size_t nats_consumer_filters(const struct nats *nats, int n, const uint32_t **chambers)
{
    *chambers = nats->consumers[n].filters;
    return nats->consumers[n].filter_count;
}

int nats_holder(const struct nats *nats, uint32_t chamber)
{
    return nats->holders[chamber];
}

void nats_pull(struct nats *nats, int64_t now_us, int n, uint64_t client, size_t count)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    if (!consumer->exists) {
        nats->hooks.deleted(nats->hooks.context, client, n);
        return;
    }
    for (size_t i = 0; i < consumer->pull_count; i++)
        if (consumer->pulls[i].client == client) {
            consumer->pulls[i].remaining += count;
            deliver(nats, now_us, n);
            return;
        }
    if (consumer->pull_count == consumer->pull_capacity)
        consumer->pulls = sim_grow(consumer->pulls, &consumer->pull_capacity, sizeof *consumer->pulls);
    consumer->pulls[consumer->pull_count++] = (struct nats_pull){client, count};
    deliver(nats, now_us, n);
}

void nats_ack(struct nats *nats, int64_t now_us, int n, uint64_t sequence)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    for (size_t i = 0; i < consumer->pending_count; i++) {
        if (consumer->pending[i].sequence != sequence)
            continue;
        drop_pending(consumer, i);
        struct nats_message *message = message_of(nats, sequence);
        if (message && !message->acknowledged) {
            message->acknowledged = true;
            nats->waiting--;
        }
        deliver(nats, now_us, n);
        return;
    }
}

void nats_extend(struct nats *nats, int64_t now_us, int n, uint64_t sequence)
{
    struct nats_consumer *consumer = &nats->consumers[n];
    for (size_t i = 0; i < consumer->pending_count; i++)
        if (consumer->pending[i].sequence == sequence && consumer->pending[i].deadline_us > 0)
            consumer->pending[i].deadline_us = now_us + nats->config.ack_wait_us;
}

void nats_client_gone(struct nats *nats, uint64_t client)
{
    nats_watches_gone(nats, client);
    for (size_t n = 0; n < nats->config.consumers; n++) {
        struct nats_consumer *consumer = &nats->consumers[n];
        for (size_t i = 0; i < consumer->pull_count; i++)
            if (consumer->pulls[i].client == client) {
                consumer->pull_count--;
                memmove(&consumer->pulls[i], &consumer->pulls[i + 1],
                        (consumer->pull_count - i) * sizeof *consumer->pulls);
                break;
            }
    }
}
