/* A NATS server as the cluster sees it: key-value buckets, and one work-queue stream with its consumers. No
 * network and no clock: whoever calls says what time it is and who asks. What it does follows measurements of
 * nats-server 2.15 (docs/protocol.md); tests/unit/test_sim_nats.c states them:
 *
 *   - a key that expires tells no watcher; writing it anew by create succeeds, by update of its old revision
 * conflicts;
 *   - a watch gives the newest value of each key (delete markers too), then every change;
 *   - a filter that another consumer holds refuses the whole update (10100), and the consumer stays as it
 * was;
 *   - a consumer's position does not go back when it gains a filter: what waited there is not delivered until
 * a reset;
 *   - a consumer without filters receives everything;
 *   - what is in flight is delivered again after the ack wait; a late acknowledgement is accepted;
 *   - deleting a consumer answers the pulls that wait at it. */
#ifndef CHAMBERLAIN_SIM_NATS_H
#define CHAMBERLAIN_SIM_NATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NATS_BUCKETS = 4, NATS_NAME_BYTES = 64, NATS_NOT_UNIQUE = 10100, NATS_NOBODY = -1 };

/* A text that several hold: the server, and packets on their way. */
struct nats_value {
    unsigned refs;
    size_t length;
    char text[];
};

struct nats_value *nats_value_new(const char *text, size_t length);
struct nats_value *nats_value_hold(struct nats_value *value); /* NULL is allowed, here and below */
void nats_value_drop(struct nats_value *value);

struct nats_entry {
    const char *key;
    struct nats_value *value; /* NULL: a delete marker */
    uint64_t revision;
    int64_t stored_us;
};

/* What the server tells of its own accord. `client` is what the asker gave. */
struct nats_hooks {
    void (*entry)(void *context, uint64_t client, uint64_t watch, const struct nats_entry *entry);
    void (*current)(void *context, uint64_t client, uint64_t watch);
    void (*message)(void *context, uint64_t client, int consumer, uint64_t sequence, uint32_t chamber,
                    uint64_t deliveries);
    void (*deleted)(void *context, uint64_t client,
                    int consumer); /* a waiting pull: 409, or no such consumer */
    void *context;
};

struct nats_config {
    int64_t ttl_us[NATS_BUCKETS]; /* 0: keys do not expire */
    int64_t ack_wait_us;
    size_t max_ack_pending;
    size_t chambers;  /* how many there can be: subjects of the stream */
    size_t consumers; /* how many there can be: consumer N belongs to defender-N */
};

struct nats;

struct nats *nats_new(const struct nats_config *config, const struct nats_hooks *hooks);
void nats_free(struct nats *nats);

/* Writes. ERR_CONFLICT when the condition does not hold. `expected` 0 in a delete: whatever is there. */
int nats_kv_create(struct nats *nats, int64_t now_us, int bucket, const char *key, struct nats_value *value,
                   uint64_t *revision);
int nats_kv_update(struct nats *nats, int64_t now_us, int bucket, const char *key, struct nats_value *value,
                   uint64_t expected, uint64_t *revision);
int nats_kv_put(struct nats *nats, int64_t now_us, int bucket, const char *key, struct nats_value *value,
                uint64_t *revision);
int nats_kv_delete(struct nats *nats, int64_t now_us, int bucket, const char *key, uint64_t expected,
                   uint64_t *revision);

/* The newest value; NULL when there is none, it was deleted or has expired. */
const struct nats_entry *nats_kv_get(const struct nats *nats, int64_t now_us, int bucket, const char *key);

/* Follows the keys that match `pattern` (tokens, `*`, `>` at the end). Gives what is there, then current. */
void nats_watch(struct nats *nats, int64_t now_us, uint64_t client, uint64_t watch, int bucket,
                const char *pattern);
void nats_unwatch(struct nats *nats, uint64_t client, uint64_t watch);

/* The stream. Its sequences count from 1. */
uint64_t nats_publish(struct nats *nats, int64_t now_us, uint32_t chamber);
size_t nats_waiting(const struct nats *nats); /* messages not acknowledged */

/* When the oldest message not acknowledged was published, and for whom; false when there is none. */
bool nats_oldest(const struct nats *nats, int64_t *published_us, uint32_t *chamber, uint64_t *sequence);

/* Marks in `present` (one for each chamber) those that have messages. */
void nats_subjects(const struct nats *nats, bool *present);

/* Makes consumer `n` filter on exactly those. create: makes it, at the stream's beginning, when absent; else
 * ERR_NOT_FOUND. ERR_CONFLICT: another holds one of them (10100). */
int nats_consumer_set(struct nats *nats, int64_t now_us, int n, bool create, const uint32_t *chambers,
                      size_t count);
int nats_consumer_reset(struct nats *nats, int64_t now_us, int n); /* ERR_NOT_FOUND */
int nats_consumer_delete(struct nats *nats, int n);                /* ERR_NOT_FOUND */
bool nats_consumer_exists(const struct nats *nats, int n);
size_t nats_consumer_filters(const struct nats *nats, int n, const uint32_t **chambers);
int nats_holder(const struct nats *nats, uint32_t chamber); /* the consumer that filters on it; NATS_NOBODY */

void nats_pull(struct nats *nats, int64_t now_us, int n, uint64_t client, size_t count);
void nats_ack(struct nats *nats, int64_t now_us, int n, uint64_t sequence);
void nats_extend(struct nats *nats, int64_t now_us, int n, uint64_t sequence);

/* Delivers again what was not acknowledged in time. */
void nats_expire(struct nats *nats, int64_t now_us);

/* A connection has ended: its watches and waiting pulls with it. */
void nats_client_gone(struct nats *nats, uint64_t client);

/* While true nothing is delivered and no watcher told (a server election); what was written meanwhile comes
 * afterwards. */
void nats_stall(struct nats *nats, int64_t now_us, bool stalled);

#endif
