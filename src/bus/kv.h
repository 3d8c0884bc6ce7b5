/* Key-value buckets of JetStream (the protocol is the server's ADR-8): a bucket B is a stream KV_B, a key K
 * its subject $KV.B.K, a revision the message's sequence. Keys are made of subject tokens (names.h escapes).
 *
 * A key that expires by the bucket's TTL produces no event: whoever waits for one keeps the time itself. */
#ifndef CHAMBERLAIN_BUS_KV_H
#define CHAMBERLAIN_BUS_KV_H

#include "bus/bus.h"

struct kv_spec {
    const char *bucket;
    int64_t ttl_ms;          /* 0: keys do not expire */
    int history;             /* revisions kept of a key; 0: 1 */
    int64_t max_value_bytes; /* 0: no limit */
    int replicas;
};

enum kv_operation { KV_PUT, KV_DELETED };

struct kv_entry {
    const char *key;
    enum kv_operation operation;
    const char *value; /* `length` bytes and a terminating zero */
    size_t length;
    uint64_t revision;
    int64_t stored_us; /* server's wall clock; 0 when not known */
};

/* The code is 0 or as in jetstream.h; ERR_CONFLICT: another revision is in force. */
typedef void kv_done(void *arg, int code, const struct error *error, uint64_t revision);
typedef void kv_answer(void *arg, int code, const struct error *error, const struct kv_entry *entry);

/* Creates the bucket when it is absent. A bucket that is there is taken as it is. */
void kv_ensure(struct bus *bus, const struct kv_spec *spec, kv_done *done, void *arg);

/* The newest value. ERR_NOT_FOUND: no such key, deleted, or expired. ERR_UNAVAILABLE also when there is no
 * such bucket. */
void kv_get(struct bus *bus, const char *bucket, const char *key, kv_answer *answer, void *arg);

/* Writes, whatever was there. */
void kv_put(struct bus *bus, const char *bucket, const char *key, const void *value, size_t length,
            kv_done *done, void *arg);

/* Writes only if the key does not exist (never written, deleted, expired). */
void kv_create(struct bus *bus, const char *bucket, const char *key, const void *value, size_t length,
               kv_done *done, void *arg);

/* Writes only if the key's newest revision is `revision`. */
void kv_update(struct bus *bus, const char *bucket, const char *key, const void *value, size_t length,
               uint64_t revision, kv_done *done, void *arg);

/* Leaves a delete marker, which watchers see. revision 0: whatever is there; else only if that is the newest.
 */
void kv_delete(struct bus *bus, const char *bucket, const char *key, uint64_t revision, kv_done *done,
               void *arg);

struct kv_watch;

struct kv_watch_events {
    void (*entry)(void *arg, const struct kv_entry *entry);
    void (*current)(void *arg); /* every value that existed when the watch (re)started has been given */
    void *arg;
};

/* Follows the keys that match `pattern` (">" for all): first the newest value of each, then every change, in
 * order. After a gap, a silence or a lost connection it starts again by itself: the newest values are given
 * once more, then `current`. */
/* ERR_NO_MEMORY, ERR_LIMIT (names too long). Neither the connection nor the bucket need be there yet. */
int kv_watch_start(struct bus *bus, const char *bucket, const char *pattern,
                   const struct kv_watch_events *events, struct kv_watch **watch, struct error *err);
/* No event comes after it. May be called from an event. Before bus_close. */
void kv_watch_stop(struct kv_watch *watch);

#endif
