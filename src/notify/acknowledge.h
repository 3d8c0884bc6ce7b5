/* Who has seen an alarm: the bucket `alarm-states`, one key an alarm (its alarm_id, 16 hex digits).
 *
 *     value    {"by", "comment", "at"}
 *
 * Keys run out with the alarms, after 90 days. The newest word counts. */
#ifndef CHAMBERLAIN_NOTIFY_ACKNOWLEDGE_H
#define CHAMBERLAIN_NOTIFY_ACKNOWLEDGE_H

#include "base/strbuf.h"
#include "bus/bus.h"
#include "bus/kv.h"

enum {
    ACKNOWLEDGE_ID_BYTES = 17,
    ACKNOWLEDGE_BY_BYTES = 401, /* 100 characters */
    ACKNOWLEDGE_COMMENT_BYTES = 4001
};

#define ACKNOWLEDGE_BUCKET "alarm-states"

struct acknowledgement {
    char by[ACKNOWLEDGE_BY_BYTES];
    char comment[ACKNOWLEDGE_COMMENT_BYTES];
    int64_t at_us;
};

/* True for 16 of 0-9 a-f. */
bool acknowledge_is_id(const char *alarm_id);

/* Makes the bucket when it is absent. */
void acknowledge_ensure(struct bus *bus, const char *cell, int replicas, kv_done *done, void *arg);

/* Writes, over what was there. The bucket must be there. Answers as kv_put. */
void acknowledge_put(struct bus *bus, const char *cell, const char *alarm_id,
                     const struct acknowledgement *acknowledgement, kv_done *done, void *arg);

/* `acknowledgement` is NULL unless code is 0. ERR_NOT_FOUND: nobody has. ERR_CORRUPT: another program wrote
 * it. */
typedef void acknowledge_answer(void *arg, int code, const struct error *error,
                                const struct acknowledgement *acknowledgement);
void acknowledge_get(struct bus *bus, const char *cell, const char *alarm_id, acknowledge_answer *answer,
                     void *arg);

/* The value of a key, for whoever watches the bucket. ERR_CORRUPT. */
void acknowledge_format(const struct acknowledgement *acknowledgement, struct strbuf *json);
int acknowledge_parse(const char *json, size_t length, struct acknowledgement *acknowledgement,
                      struct error *err);

#endif
