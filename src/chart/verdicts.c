#include "chart/plan.h"

#include "base/hash.h"

#include <math.h>
#include <string.h>

#define NOWHERE UINT32_MAX

enum {
    TILE = 32,   /* charts whose history is laid out together: a row's values of a tile are 4 cache lines */
    ABSENT = 128 /* beside the point flags: some row has no point of the chart */
};

/* One context of the history. */
struct row {
    struct uchart_view view;
    uint32_t *places; /* of the plan's charts in this row; NULL while they stand where the plan has them */
};

/* One judgement under way. */
struct judge {
    const struct judge_plan *plan;
    struct arena *arena;
    struct error *err;
    struct row *rows; /* newest first */
    size_t row_count;
    uint64_t *series; /* of this context, by chart */
    uint32_t *slots; /* charts by series: open addressing, index + 1; made when a row is arranged otherwise */
    size_t slot_count;
    double *good;     /* values the limits come from; filled from the end, so that the oldest comes first */
    double *sequence; /* values, then z, of the points the rules see */
    double *scratch;
    double *tile;         /* TILE columns of row_count values, oldest first */
    uint32_t flags[TILE]; /* of all points of a column together */
    const struct context *context;
    const char *attribute, *attribute_value; /* the context attribute looked up last */
    uint32_t low_quality;                    /* POINT_LOW_QUALITY or 0 */
    const char *low_reason;
};

static int no_memory(struct judge *judge)
{
    return error_set(judge->err, ERR_NO_MEMORY, "out of memory while judging %zu indicators",
                     judge->plan->chart_count);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    unsigned char bytes[16];
    for (size_t i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)(a >> (8 * i));
        bytes[8 + i] = (unsigned char)(b >> (8 * i));
    }
    return hash64(bytes, sizeof bytes);
}

/* The hash of a baseline's attributes and their values; an absent attribute counts as "". */
static uint64_t baseline_hash(const struct plan_baseline *baseline, const struct context *context,
                              struct arena *arena)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < baseline->count; i++) {
        const char *value = context_attribute(context, baseline->attributes[i], arena);
        hash = mix(hash, hash64_texts(baseline->attributes[i], value ? value : "", NULL));
    }
    return hash;
}

static int name_series(struct judge *judge, const struct context *context)
{
    const struct judge_plan *plan = judge->plan;
    uint64_t *baselines = arena_calloc(judge->arena, plan->baseline_count, sizeof *baselines);
    judge->series = arena_calloc(judge->arena, plan->chart_count, sizeof *judge->series);
    if (baselines == NULL || judge->series == NULL)
        return no_memory(judge);
    for (size_t i = 0; i < plan->baseline_count; i++)
        baselines[i] = baseline_hash(&plan->baselines[i], context, judge->arena);
    for (size_t i = 0; i < plan->chart_count; i++)
        judge->series[i] = mix(plan->charts[i].series, baselines[plan->charts[i].baseline]);
    return 0;
}

static int open_rows(struct judge *judge, const struct judge_history_row *history, size_t count)
{
    judge->row_count = count < judge->plan->lookback ? count : judge->plan->lookback;
    judge->rows = arena_calloc(judge->arena, judge->row_count, sizeof *judge->rows);
    judge->good = arena_alloc(judge->arena, judge->row_count * sizeof(double));
    judge->sequence = arena_alloc(judge->arena, (judge->row_count + 1) * sizeof(double));
    judge->scratch = arena_alloc(judge->arena, judge->row_count * sizeof(double));
    judge->tile = arena_calloc(judge->arena, judge->row_count, TILE * sizeof(double));
    if (!judge->rows || !judge->good || !judge->sequence || !judge->scratch || !judge->tile)
        return no_memory(judge);
    for (size_t i = 0; i < judge->row_count; i++) {
        int code =
            uchart_view_open(history[i].points, history[i].points_length, &judge->rows[i].view, judge->err);
        if (code)
            return error_prefix(judge->err, code, "history row %zu", i);
    }
    return 0;
}

static int index_series(struct judge *judge)
{
    judge->slot_count = 2;
    while (judge->slot_count < 2 * judge->plan->chart_count)
        judge->slot_count *= 2;
    judge->slots = arena_calloc(judge->arena, judge->slot_count, sizeof *judge->slots);
    if (judge->slots == NULL)
        return no_memory(judge);
    for (size_t i = 0; i < judge->plan->chart_count; i++) {
        size_t slot = (size_t)judge->series[i] & (judge->slot_count - 1);
        while (judge->slots[slot])
            slot = (slot + 1) & (judge->slot_count - 1);
        judge->slots[slot] = (uint32_t)i + 1;
    }
    return 0;
}

/* Where each chart's point stands in a row that was not written by this plan. */
static int find_places(struct judge *judge, struct row *row)
{
    if (judge->slots == NULL && index_series(judge))
        return ERR_NO_MEMORY;
    row->places = arena_alloc(judge->arena, judge->plan->chart_count * sizeof *row->places);
    if (row->places == NULL)
        return no_memory(judge);
    memset(row->places, 0xFF, judge->plan->chart_count * sizeof *row->places);
    for (size_t i = 0; i < row->view.count; i++) {
        uint64_t series = uchart_view_series(&row->view, i);
        size_t slot = (size_t)series & (judge->slot_count - 1);
        while (judge->slots[slot] && judge->series[judge->slots[slot] - 1] != series)
            slot = (slot + 1) & (judge->slot_count - 1);
        if (judge->slots[slot])
            row->places[judge->slots[slot] - 1] = (uint32_t)i;
    }
    return 0;
}

static int arrange_rows(struct judge *judge)
{
    for (size_t r = 0; r < judge->row_count; r++) {
        struct row *row = &judge->rows[r];
        bool same = uchart_view_begins_with(&row->view, judge->series, judge->plan->chart_count);
        int code = same ? 0 : find_places(judge, row);
        if (code)
            return code;
    }
    return 0;
}

/* Lays the history of charts first..first+count-1 out chart by chart. */
static void fill_tile(struct judge *judge, size_t first, size_t count)
{
    size_t rows = judge->row_count;
    memset(judge->flags, 0, sizeof judge->flags);
    for (size_t r = 0; r < rows; r++) {
        const struct row *row = &judge->rows[r];
        double *column = judge->tile + (rows - 1 - r), values[TILE];
        if (row->places == NULL) {
            uchart_view_values(&row->view, first, count, values);
            for (size_t i = 0; i < count; i++) {
                column[i * rows] = values[i];
                judge->flags[i] |= row->view.flags[first + i];
            }
            continue;
        }
        for (size_t i = 0; i < count; i++) {
            size_t place = row->places[first + i];
            judge->flags[i] |= place == NOWHERE ? ABSENT : row->view.flags[place];
            if (place != NOWHERE)
                column[i * rows] = uchart_view_value(&row->view, place);
        }
    }
}

/* What one chart sees of the history, oldest first. */
struct past {
    const double *good; /* for the limits */
    size_t good_count;
    double *sequence; /* for the rules; room for the judged point behind it */
    size_t sequence_count;
    size_t restart; /* index in the sequence after its newest alarmed point */
};

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The common case: every row has the chart's point, and none is missing, alarmed or of low quality. */
static void recall_all(const struct judge *judge, size_t chart, size_t wanted_good, size_t wanted,
                       struct past *past)
{
    size_t rows = least(judge->row_count, judge->plan->charts[chart].lookback);
    const double *end = judge->tile + (chart % TILE + 1) * judge->row_count;
    size_t good = least(rows, wanted_good), seen = least(rows, wanted);
    double *sequence = judge->sequence + judge->row_count - seen;
    memcpy(sequence, end - seen, seen * sizeof *sequence);
    *past = (struct past){end - good, good, sequence, seen, 0};
}

/* Point by point. A tracked centre takes in what other limits leave out: it cuts what is too far, and would
 * stand still without it. */
static void recall_some(const struct judge *judge, size_t chart, size_t wanted_good, size_t wanted,
                        struct past *past)
{
    const struct plan_chart *plan = &judge->plan->charts[chart];
    size_t rows = least(judge->row_count, plan->lookback), good = 0, seen = 0, since_alarm = 0;
    bool alarmed = false, tracked = plan->chart->limits.method == LIMITS_TRACKED;
    double *good_end = judge->good + judge->row_count, *sequence_end = judge->sequence + judge->row_count;
    for (size_t r = 0; r < rows && (good < wanted_good || seen < wanted); r++) {
        const struct row *row = &judge->rows[r];
        size_t place = row->places ? row->places[chart] : chart;
        if (place == NOWHERE)
            continue;
        uint32_t flags = uchart_view_flags(&row->view, place);
        if (flags & POINT_MISSING)
            continue;
        double value = uchart_view_value(&row->view, place);
        if (good < wanted_good && (tracked || !(flags & (POINT_ALARMED | POINT_LOW_QUALITY))))
            good_end[-1 - (ptrdiff_t)good++] = value;
        if (flags & POINT_LOW_QUALITY)
            continue;
        alarmed = alarmed || (flags & POINT_ALARMED);
        if (seen < wanted) {
            sequence_end[-1 - (ptrdiff_t)seen++] = value;
            since_alarm += alarmed ? 0 : 1;
        }
    }
    *past = (struct past){good_end - good, good, sequence_end - seen, seen, seen - since_alarm};
}

static void recall(const struct judge *judge, size_t chart, struct past *past)
{
    const struct chart *spec = judge->plan->charts[chart].chart;
    size_t wanted_good = limits_need_history(&spec->limits) ? spec->limits.history : 0;
    size_t wanted = rules_need_history(&spec->rules) ? plan_chart_memory(spec) - 1 : 0;
    if (judge->flags[chart % TILE] == 0)
        recall_all(judge, chart, wanted_good, wanted, past);
    else
        recall_some(judge, chart, wanted_good, wanted, past);
}

/* Turns the values in force for the rules into z; only as many as some rule reads. */
static uint32_t apply_rules(const struct rules_spec *rules, const struct limits *limits, double value,
                            struct past *past)
{
    double *z = past->sequence;
    size_t count = past->sequence_count + 1, first = 0;
    uint32_t whole = 1u << RULE_EWMA | 1u << RULE_CUSUM;
    z[count - 1] = value;
    if (!(rules->enabled & whole) && count > RULES_RUN_MEMORY)
        first = count - RULES_RUN_MEMORY;
    if (rules->enabled & ~(1u << RULE_LIMITS)) {
        for (size_t i = first; i < count; i++)
            z[i] = rules_z(z[i], limits->centre, limits->sigma);
    }
    size_t restart = past->restart > first ? past->restart - first : 0;
    return rules_fired(rules, limits, value, z + first, count - first, restart);
}

static enum severity worst_of(const struct chart *chart, uint32_t fired)
{
    enum severity worst = SEVERITY_NONE;
    for (size_t i = 0; i < RULE_COUNT; i++) {
        if (!(fired & 1u << i))
            continue;
        enum severity own = chart->rules.severity[i];
        own = own == SEVERITY_NONE ? chart->severity : own;
        worst = own > worst ? own : worst;
    }
    return worst;
}

/* What the chart says about its limits, for this context. */
static struct limits_spec limits_of(struct judge *judge, const struct chart *chart)
{
    struct limits_spec spec = chart->limits;
    if (spec.stdev_attribute == NULL)
        return spec;
    if (judge->attribute == NULL || strcmp(judge->attribute, spec.stdev_attribute) != 0) {
        judge->attribute = spec.stdev_attribute;
        judge->attribute_value = context_attribute(judge->context, spec.stdev_attribute, judge->arena);
    }
    spec.stdev = limits_stdev_for(&spec, judge->attribute_value);
    return spec;
}

static void judge_point(struct judge *judge, size_t i, double value, const char *reason,
                        struct uchart_point *point)
{
    const struct chart *chart = judge->plan->charts[i].chart;
    *point = (struct uchart_point){.series = judge->series[i],
                                   .value = value,
                                   .flags = judge->low_quality,
                                   .chart = chart->name,
                                   .unit = chart->unit,
                                   .centre = (double)NAN,
                                   .lower = (double)NAN,
                                   .upper = (double)NAN,
                                   .severity = SEVERITY_NONE,
                                   .reason = judge->low_reason};
    if (!isfinite(value)) {
        point->value = (double)NAN;
        point->flags |= POINT_MISSING;
        point->state = VERDICT_MISSING;
        point->reason = reason && *reason ? reason : "no value";
        return;
    }
    struct past past;
    struct limits limits;
    recall(judge, i, &past);
    struct limits_spec spec = limits_of(judge, chart);
    limits_compute(&spec, past.good, past.good_count, judge->scratch, &limits);
    point->history_count = (uint32_t)limits.history_count;
    if (limits.learning) {
        point->state = VERDICT_LEARNING;
        return;
    }
    point->centre = limits.centre;
    point->lower = limits.lower;
    point->upper = limits.upper;
    point->rules = apply_rules(&chart->rules, &limits, value, &past);
    point->state = point->rules ? VERDICT_ALARM : VERDICT_NORMAL;
    point->flags |= point->rules ? POINT_ALARMED : 0;
    point->severity = worst_of(chart, point->rules);
}

static void set_quality(struct judge *judge, const struct context *context, bool degraded)
{
    bool low = context_is_low_quality(context);
    judge->low_quality = low || degraded ? POINT_LOW_QUALITY : 0;
    judge->low_reason = low && degraded ? "the trace is of low quality; the history came from a standby store"
                        : low           ? "the trace is of low quality"
                        : degraded      ? "the history came from a standby store"
                                        : "";
}

int judge_verdicts(const struct judge_plan *plan, const struct context *context, const double *values,
                   const char *const *reasons, const struct judge_history_row *history, size_t history_count,
                   int degraded, struct arena *arena, struct uchart *uchart, struct error *err)
{
    struct judge judge = {.plan = plan, .arena = arena, .err = err, .context = context};
    set_quality(&judge, context, degraded != 0);
    int code = name_series(&judge, context);
    if (code == 0)
        code = open_rows(&judge, history, history_count);
    if (code == 0)
        code = arrange_rows(&judge);
    if (code)
        return code;
    *uchart = (struct uchart){.chart_set = chart_set_id(plan->set), .count = plan->chart_count};
    uchart->points = arena_calloc(arena, plan->chart_count, sizeof *uchart->points);
    if (uchart->points == NULL)
        return no_memory(&judge);
    for (size_t i = 0; i < plan->chart_count; i++) {
        if (i % TILE == 0)
            fill_tile(&judge, i, least(TILE, plan->chart_count - i));
        judge_point(&judge, i, values[i], reasons ? reasons[i] : NULL, &uchart->points[i]);
    }
    return 0;
}
