/* Inside the server model: what nats_kv.c and nats_stream.c share. */
#ifndef CHAMBERLAIN_SIM_NATS_SERVER_H
#define CHAMBERLAIN_SIM_NATS_SERVER_H

#include "nats.h"

struct nats_bucket {
    struct nats_entry *entries;
    size_t count, capacity;
    size_t *slots; /* a hash table of entries: index + 1, 0 when free */
    size_t slot_count;
    uint64_t revision;
};

struct nats_watch {
    uint64_t client, id;
    int bucket;
    char pattern[NATS_NAME_BYTES];
};

struct nats_message {
    uint32_t chamber;
    bool acknowledged;
    int64_t published_us;
};

struct nats_pending {
    uint64_t sequence;
    uint64_t deliveries;
    int64_t deadline_us; /* 0: to be delivered again as soon as someone pulls */
};

struct nats_pull {
    uint64_t client;
    size_t remaining;
};

struct nats_consumer {
    bool exists;
    bool everything; /* its filter set is empty */
    uint32_t *filters;
    size_t filter_count;
    uint64_t position; /* the next sequence to look at */
    struct nats_pending *pending;
    size_t pending_count, pending_capacity;
    struct nats_pull *pulls;
    size_t pull_count, pull_capacity;
};

struct nats {
    struct nats_config config;
    struct nats_hooks hooks;
    struct nats_bucket buckets[NATS_BUCKETS];
    struct nats_watch *watches;
    size_t watch_count, watch_capacity;

    struct nats_message *messages; /* of sequences first, first + 1, ... */
    size_t message_count, message_capacity;
    uint64_t first;
    size_t waiting;

    struct nats_consumer *consumers;
    int32_t *holders; /* of each chamber */
    bool stalled;
};

void nats_bucket_free(struct nats_bucket *bucket);
void nats_watches_gone(struct nats *nats, uint64_t client);

#endif
