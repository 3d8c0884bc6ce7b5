/* One context judged, from stored bytes to stored bytes: decode, calculate, evaluate. The defender, `replay`
 * and `verify` all come through here, which is why they agree bit by bit. Pure; runs on any thread. */
#ifndef CHAMBERLAIN_DEFENDER_JUDGEMENT_H
#define CHAMBERLAIN_DEFENDER_JUDGEMENT_H

#include "base/arena.h"
#include "base/error.h"
#include "chart/chartset.h"
#include "chart/context.h"
#include "chart/judge.h"
#include "chart/uchart.h"
#include "store/store.h"

struct judgement_input {
    struct chart_set *set; /* NULL: no chart file is in force, the U-chart is empty */
    const struct context *context;
    const struct store_chunk *chunks;
    size_t chunk_count;
    const struct store_uchart
        *stored; /* when the T-chart has expired: the values come from here. May be NULL */
    const struct store_uchart *history; /* newest first */
    size_t history_count;
    bool degraded; /* the store's answers came from a standby */
};

struct judgement {
    struct uchart uchart;
    struct uchart_bytes bytes;
    int64_t decode_ns, calculate_ns, evaluate_ns;
};

/* Everything lives in `arena`. ERR_CORRUPT, ERR_LIMIT, ERR_UNSUPPORTED, ERR_INVALID: the T-chart, or a row of
 * the history, cannot be used (poison); ERR_NO_MEMORY. */
int judgement_compute(const struct judgement_input *input, struct arena *arena, struct judgement *judgement,
                      struct error *err);

/* How many contexts of history the set wants for a recipe (0 with no set). */
int judgement_lookback(struct chart_set *set, const char *recipe, size_t *lookback, struct error *err);

#endif
