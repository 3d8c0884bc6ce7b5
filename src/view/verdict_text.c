#include "view/verdict_text.h"

#include "chart/rules.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void verdict_add_rules(uint32_t rules, struct strbuf *out)
{
    const char *separator = "";
    for (int rule = 0; rule < RULE_COUNT; rule++) {
        if (!(rules & (1u << rule)))
            continue;
        strbuf_printf(out, "%s%s", separator, rule_name((enum rule)rule));
        separator = ", ";
    }
}

double verdict_ratio(const struct uchart_point *point)
{
    double distance = point->value - point->centre;
    double half = distance >= 0 ? point->upper - point->centre : point->centre - point->lower;
    if (isnan(half)) /* one-sided limits: the side that has one */
        half = distance >= 0 ? point->centre - point->lower : point->upper - point->centre;
    if (isnan(distance) || isnan(half))
        return NAN;
    if (distance == 0)
        return 0;
    return half > 0 ? fabs(distance) / half : INFINITY;
}

const char *verdict_quality(const struct uchart_point *point)
{
    return point->flags & POINT_LOW_QUALITY ? "low" : "good";
}

void verdict_add_json(struct json_writer *json, const struct uchart_point *point)
{
    json_add_text(json, "chart", point->chart);
    json_add_text(json, "state", verdict_state_name(point->state));
    json_add_double(json, "value", point->value);
    json_add_text(json, "unit", point->unit);
    json_add_double(json, "centre", point->centre);
    json_add_double(json, "lower", point->lower);
    json_add_double(json, "upper", point->upper);
    json_begin_array(json, "rules");
    for (int rule = 0; rule < RULE_COUNT; rule++)
        if (point->rules & (1u << rule))
            json_add_text(json, NULL, rule_name((enum rule)rule));
    json_end_array(json);
    json_add_text(json, "severity", severity_name(point->severity));
    json_add_text(json, "quality", verdict_quality(point));
    json_add_integer(json, "history", point->history_count);
    json_add_text(json, "reason", point->reason);
}

/* Where the centre comes from: a given one, or the history by the method. */
static void add_centre(const struct limits_spec *limits, struct strbuf *out)
{
    if (!isnan(limits->target))
        strbuf_printf(out, "%.6g", limits->target);
    else if (limits->method == LIMITS_ROBUST)
        strbuf_add(out, "median");
    else if (limits->method == LIMITS_SHEWHART || limits->method == LIMITS_INDIVIDUALS)
        strbuf_add(out, "mean");
    else
        strbuf_printf(out, "%s centre", limits_method_name(limits->method));
}

static void add_fixed(const struct limits_spec *limits, struct strbuf *out)
{
    if (!isnan(limits->lower) && !isnan(limits->upper))
        strbuf_printf(out, "fixed %.6g to %.6g", limits->lower, limits->upper);
    else if (!isnan(limits->lower))
        strbuf_printf(out, "fixed, at least %.6g", limits->lower);
    else
        strbuf_printf(out, "fixed, at most %.6g", limits->upper);
}

void verdict_add_limits(const struct limits_spec *limits, struct strbuf *out)
{
    static const char *const signs[] = {[LIMITS_BOTH] = "+-", [LIMITS_LOWER] = "-", [LIMITS_UPPER] = "+"};
    if (limits->method == LIMITS_FIXED) {
        add_fixed(limits, out);
        return;
    }
    add_centre(limits, out);
    strbuf_printf(out, " %s %.4g ", signs[limits->side], limits->sigma);
    if (isnan(limits->stdev))
        strbuf_add(out, limits->method == LIMITS_INDIVIDUALS ? "moving-range sigma" : "sigma");
    else
        strbuf_printf(out, "x %.4g", limits->stdev);
    if (limits_need_history(limits))
        strbuf_printf(out, " of the last %zu (%zu at least)", limits->history, limits->min_history);
}

/* A family of rules that is enabled as a whole goes by the family's name. */
static bool add_family(const struct rules_spec *rules, enum rule first, enum rule last, const char *name,
                       uint32_t *left, const char **separator, struct strbuf *out)
{
    uint32_t family = 0;
    for (int rule = (int)first; rule <= (int)last; rule++) {
        if (rules->severity[rule] != rules->severity[first])
            return false;
        family |= 1u << rule;
    }
    if ((*left & family) != family)
        return false;
    *left &= ~family;
    strbuf_printf(out, "%s%s", *separator, name);
    *separator = ", ";
    return true;
}

static void add_severity(const struct chart *chart, enum rule rule, struct strbuf *out)
{
    enum severity own = chart->rules.severity[rule];
    if (own != SEVERITY_NONE && own != chart->severity)
        strbuf_printf(out, " (%s)", severity_name(own));
}

void verdict_add_chart_rules(const struct chart *chart, struct strbuf *out)
{
    uint32_t left = chart->rules.enabled;
    const char *separator = "";
    if (left & (1u << RULE_LIMITS)) {
        strbuf_add(out, rule_name(RULE_LIMITS));
        add_severity(chart, RULE_LIMITS, out);
        separator = ", ";
        left &= ~(1u << RULE_LIMITS);
    }
    if (add_family(&chart->rules, RULE_WESTERN_ELECTRIC_1, RULE_WESTERN_ELECTRIC_4, "western_electric", &left,
                   &separator, out))
        add_severity(chart, RULE_WESTERN_ELECTRIC_1, out);
    if (add_family(&chart->rules, RULE_NELSON_1, RULE_NELSON_8, "nelson", &left, &separator, out))
        add_severity(chart, RULE_NELSON_1, out);
    for (int rule = 0; rule < RULE_COUNT; rule++) {
        if (!(left & (1u << rule)))
            continue;
        strbuf_printf(out, "%s%s", separator, rule_name((enum rule)rule));
        add_severity(chart, (enum rule)rule, out);
        separator = ", ";
    }
}

int verdict_decode(const struct store_uchart *stored, struct arena *arena, struct uchart *uchart,
                   struct error *err)
{
    struct uchart_bytes bytes = {stored->points, stored->points_length, stored->verdicts,
                                 stored->verdicts_length};
    int code = uchart_decode(&bytes, arena, uchart, err);
    return code ? error_prefix(err, code, "stored U-chart of %s", stored->key.context_id) : 0;
}

static int verdict_order(const void *a, const void *b)
{
    static const int rank[] = {
        [VERDICT_ALARM] = 0, [VERDICT_MISSING] = 1, [VERDICT_LEARNING] = 2, [VERDICT_NORMAL] = 3};
    const struct uchart_point *x = *(const struct uchart_point *const *)a;
    const struct uchart_point *y = *(const struct uchart_point *const *)b;
    if (x->state != y->state)
        return rank[x->state] - rank[y->state];
    if (x->state == VERDICT_ALARM && x->severity != y->severity)
        return (int)y->severity - (int)x->severity;
    double x_ratio = verdict_ratio(x), y_ratio = verdict_ratio(y);
    x_ratio = isnan(x_ratio) ? 0 : x_ratio;
    y_ratio = isnan(y_ratio) ? 0 : y_ratio;
    if (x->state == VERDICT_ALARM && x_ratio != y_ratio)
        return x_ratio > y_ratio ? -1 : 1;
    return x < y ? -1 : 1; /* the order of the chart file */
}

const struct uchart_point **verdict_sort(const struct uchart *uchart, struct arena *arena)
{
    const struct uchart_point **points = arena_calloc(arena, uchart->count, sizeof *points);
    if (points == NULL)
        return NULL;
    for (size_t i = 0; i < uchart->count; i++)
        points[i] = &uchart->points[i];
    qsort(points, uchart->count, sizeof *points, verdict_order);
    return points;
}

const struct uchart_point *verdict_find(const struct uchart *uchart, const char *chart)
{
    for (size_t i = 0; i < uchart->count; i++)
        if (strcmp(uchart->points[i].chart, chart) == 0)
            return &uchart->points[i];
    return NULL;
}
