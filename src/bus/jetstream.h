/* JetStream over the bus: API calls, acknowledged publishes, and the streams Chamberlain needs.
 *
 * Answers carry, beside the bus's own codes, what the server said: ERR_NOT_FOUND (no such stream, consumer,
 * message), ERR_CONFLICT (name in use with another configuration, wrong last sequence, subject taken on a
 * work queue), ERR_UNAVAILABLE (JetStream is electing, starting, or out of resources), ERR_INVALID
 * (everything else it refused). */
#ifndef CHAMBERLAIN_BUS_JETSTREAM_H
#define CHAMBERLAIN_BUS_JETSTREAM_H

#include "bus/bus.h"

#include <jansson.h>

/* Error numbers of the JetStream API that the protocol turns on (nats-server's errors.json). */
enum jetstream_error {
    JETSTREAM_CONSUMER_NOT_FOUND = 10014,
    JETSTREAM_NO_MESSAGE_FOUND = 10037,
    JETSTREAM_STREAM_NAME_IN_USE = 10058,
    JETSTREAM_STREAM_NOT_FOUND = 10059,
    JETSTREAM_WRONG_LAST_SEQUENCE = 10071,
    JETSTREAM_WORK_QUEUE_CONSUMER_NOT_UNIQUE = 10100,
    JETSTREAM_CONSUMER_DOES_NOT_EXIST = 10149, /* an update of what is not there */
    JETSTREAM_WRONG_LAST_SEQUENCE_CONSTANT = 10164
};

/* `response` is the parsed answer (borrowed), NULL unless code is 0. `api_error` is the server's number, 0 if
 * it gave none. */
typedef void jetstream_answer(void *arg, int code, int api_error, const struct error *error,
                              const json_t *response);

/* Calls `$JS.API.{call}` with a JSON body (NULL: none, otherwise borrowed only during this call). */
void jetstream_call(struct bus *bus, const char *call, const json_t *body, int64_t timeout_ms,
                    jetstream_answer *answer, void *arg);

/* Publishes to a stream and waits for its acknowledgement ("seq", "duplicate" in the response). `headers` may
 * hold Nats-Msg-Id and the like. */
void jetstream_publish(struct bus *bus, const char *subject, const struct bus_header *headers,
                       size_t header_count, const void *data, size_t length, jetstream_answer *answer,
                       void *arg);

/* A stream as Chamberlain wants it. Numbers of 0 mean the server's default or no limit. */
struct stream_spec {
    const char *name;
    const char *subject;
    const char *retention; /* "workqueue" or "limits" */
    int64_t max_age_s;
    int64_t max_bytes; /* oldest go first; never on the work queue, which refuses instead */
    int64_t duplicate_window_s;
    int replicas;
};

/* Creates the stream when it is absent. When it is there, its subjects, retention and storage are checked:
 * ERR_CONFLICT names the difference and how to mend it; other differences are left alone (an operator may
 * have chosen them). */
void stream_ensure(struct bus *bus, const struct stream_spec *spec, jetstream_answer *answer, void *arg);

#endif
