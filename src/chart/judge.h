/* From a chart set and a context to a U-chart: the one door through which defender, replay, verify and learn
 * go.
 *
 *     judge_plan_for(set, recipe)      which charts apply, which sensors they read, how far back they look
 *     judge_compute(plan, trace)       every indicator's value
 *     judge_verdicts(plan, context, values, history)   limits from history, rules, severities
 *
 * All pure: equal inputs give equal bits. */
#ifndef CHAMBERLAIN_CHART_JUDGE_H
#define CHAMBERLAIN_CHART_JUDGE_H

#include "base/arena.h"
#include "base/error.h"
#include "chart/context.h"
#include "chart/trace.h"
#include "chart/uchart.h"

#include <stddef.h>
#include <stdint.h>

struct chart_set; /* chartset.h */
struct judge_plan;

/* The compiled plan of the charts whose recipe pattern matches. Plans are made at first use, cached in the
 * set, and live as long as it. Thread-safe. Never NULL but on ERR_NO_MEMORY; a plan may hold no charts. */
int judge_plan_for(struct chart_set *set, const char *recipe, const struct judge_plan **plan,
                   struct error *err);

size_t judge_plan_chart_count(const struct judge_plan *plan);

/* The sensors the plan reads (ids ascending, without duplicates; the step column among them when a window
 * needs it). */
const uint64_t *judge_plan_sensors(const struct judge_plan *plan, size_t *count);

/* How many of the newest contexts of the same tool, chamber and recipe must be offered as history. */
size_t judge_plan_lookback(const struct judge_plan *plan);

/* Fills values[judge_plan_chart_count(plan)]; NaN with reasons[i] set (static text or in `arena`) where an
 * indicator has no value. Each needed sensor's samples are read once. ERR_NO_MEMORY; ERR_INVALID for a trace
 * no equation can be applied to (columns of one sampling with different lengths, times going backwards). */
int judge_compute(const struct judge_plan *plan, const struct trace *trace, struct arena *arena,
                  double *values, const char **reasons, struct error *err);

/* One context of the history, as stored: see uchart_view. */
struct judge_history_row {
    const void *points;
    size_t points_length;
};

/* Judges values against `history` (newest first, all of them events before this context, at most the
 * look-back is read). `degraded` marks every verdict of low quality (a standby store). The U-chart lives in
 * `arena`. ERR_CORRUPT when a history row cannot be read (its index is named); ERR_NO_MEMORY. */
int judge_verdicts(const struct judge_plan *plan, const struct context *context, const double *values,
                   const char *const *reasons, const struct judge_history_row *history, size_t history_count,
                   int degraded, struct arena *arena, struct uchart *uchart, struct error *err);

#endif
