/* The notifier: alarms from the stream to the sinks of a configuration (docs/alarms.md). One libuv loop, and
 * a thread for each sink. */
#ifndef CHAMBERLAIN_NOTIFY_NOTIFY_H
#define CHAMBERLAIN_NOTIFY_NOTIFY_H

#include "notify/config.h"
#include "notify/metrics.h"

enum { NOTIFY_ACK_WAIT_MS = 30000, NOTIFY_ACK_WAIT_LEAST_MS = 1000 };

struct notify_options {
    const char *nats_url, *cell; /* cell may be NULL */
    const char *credentials_file, *ca_file, *certificate_file, *key_file;
    const struct notify_config *config;
    int replicas;        /* of buckets and consumers; 0: 1 */
    int64_t ack_wait_ms; /* 0: NOTIFY_ACK_WAIT_MS. After so long another notifier gets what a dead one held */
    const char *http_bind;
    int http_port; /* -1: no metrics and health over HTTP; 0: a free port */
};

/* Works until SIGTERM or SIGINT; then what is under way is broken off (it comes again) and 0 is returned.
 * Errors: ERR_INVALID, ERR_NO_MEMORY, ERR_IO, ERR_CONFLICT (HTTP port). NATS may be away: it is waited for.
 */
int notify_run(const struct notify_options *options, struct error *err);

#endif
