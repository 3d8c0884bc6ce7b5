/* Alarms: one JSON message for each rule that fired on an indicator, on `alarms.{severity}.{tool}.{chamber}`.
 * Its message ID is a hash of context, chart and rule, so that a second judgement raises no second alarm. */
#ifndef CHAMBERLAIN_DEFENDER_ALARM_H
#define CHAMBERLAIN_DEFENDER_ALARM_H

#include "base/arena.h"
#include "base/error.h"
#include "chart/context.h"
#include "chart/uchart.h"

struct alarm {
    const char *subject;
    char id[17]; /* 16 hex digits: the message ID */
    enum severity severity;
    const char *json;
};

/* The alarms of a judged context that `before` (its U-chart judged earlier, NULL when there is none) did not
 * raise already. Texts live in `arena`. ERR_NO_MEMORY; ERR_INVALID when a name cannot stand in a subject. */
int alarm_list(const char *cell, const struct context *context, const struct uchart *uchart,
               const struct uchart *before, int64_t raised_us, struct arena *arena, struct alarm **alarms,
               size_t *count, struct error *err);

#endif
