/* Verdicts for people and machines: the words and figures that the commands share. Pure. */
#ifndef CHAMBERLAIN_VIEW_VERDICT_TEXT_H
#define CHAMBERLAIN_VIEW_VERDICT_TEXT_H

#include "base/strbuf.h"
#include "chart/chartset.h"
#include "chart/context.h"
#include "chart/uchart.h"
#include "base/json_writer.h"
#include "store/store.h"

/* The rules of a bit set by name, separated by ", ". */
void verdict_add_rules(uint32_t rules, struct strbuf *out);

/* How far the value lies from the centre, in half widths of the limits on its side: 1 is on the limit. NaN
 * when there is no centre or no limit; infinity when the limits have no width. */
double verdict_ratio(const struct uchart_point *point);

/* "good" or "low". */
const char *verdict_quality(const struct uchart_point *point);

/* The members of a point: chart, state, value, unit, centre, lower, upper, rules, severity, quality, history,
 * reason. */
void verdict_add_json(struct json_writer *json, const struct uchart_point *point);

/* What a chart's limits are, in words: "mean +- 3 sigma of the last 100 (20 at least)". */
void verdict_add_limits(const struct limits_spec *limits, struct strbuf *out);

/* A chart's rules: "western_electric, nelson_3 (critical)"; a severity of its own stands behind its rule. */
void verdict_add_chart_rules(const struct chart *chart, struct strbuf *out);

/* Decodes a stored U-chart into `arena`. Errors as uchart_decode, with the context's name. */
int verdict_decode(const struct store_uchart *stored, struct arena *arena, struct uchart *uchart,
                   struct error *err);

/* The points in the order of showing: alarms by severity and distance, then what has no value, what is
 * learning, what is normal. An array of uchart->count in `arena`; NULL without memory. */
const struct uchart_point **verdict_sort(const struct uchart *uchart, struct arena *arena);

/* The point of that chart; NULL when the U-chart has none. */
const struct uchart_point *verdict_find(const struct uchart *uchart, const char *chart);

#endif
