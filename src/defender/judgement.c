#include "defender/judgement.h"

#include "base/clock.h"
#include "mebo/mebo.h"

#include <string.h>

int judgement_lookback(struct chart_set *set, const char *recipe, size_t *lookback, struct error *err)
{
    *lookback = 0;
    if (set == NULL)
        return 0;
    const struct judge_plan *plan;
    int code = judge_plan_for(set, recipe, &plan, err);
    if (code == 0)
        *lookback = judge_plan_lookback(plan);
    return code;
}

/* The sensors the plan needs, as columns over all chunks. A sensor that the trace lacks is left out: the
 * indicators that name it say so. */
static int decode_trace(const struct judgement_input *input, const struct judge_plan *plan,
                        struct arena *arena, struct trace *trace, struct error *err)
{
    size_t sensor_count;
    const uint64_t *sensors = judge_plan_sensors(plan, &sensor_count);
    struct mebo_bytes *blobs = arena_calloc(arena, input->chunk_count, sizeof *blobs);
    struct mebo_column *found = arena_calloc(arena, sensor_count, sizeof *found);
    struct trace_column *columns = arena_calloc(arena, sensor_count, sizeof *columns);
    if (blobs == NULL || found == NULL || columns == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory to decode the T-chart");
    for (size_t i = 0; i < input->chunk_count; i++)
        blobs[i] = (struct mebo_bytes){input->chunks[i].bytes, input->chunks[i].length};
    struct mebo_set set;
    int code = mebo_set_open(&set, blobs, input->chunk_count, arena, NULL, err);
    if (code == 0)
        code = mebo_set_columns(&set, sensors, sensor_count, found, err);
    if (code)
        return error_prefix(err, code, "T-chart");
    *trace = (struct trace){
        .columns = columns, .start_us = input->context->start_us, .end_us = input->context->end_us};
    for (size_t i = 0; i < sensor_count; i++)
        if (found[i].found)
            columns[trace->count++] = (struct trace_column){.sensor = sensors[i],
                                                            .count = found[i].count,
                                                            .time_us = found[i].times_us,
                                                            .value = found[i].values};
    return 0;
}

/* The T-chart has expired; its indicators have not. Only a U-chart of the same chart file can stand in for
 * it. */
static int take_stored_values(const struct judgement_input *input, size_t count, struct arena *arena,
                              double *values, const char **reasons, struct error *err)
{
    const struct store_uchart *stored = input->stored;
    if (stored == NULL || stored->chart_set != chart_set_id(input->set))
        return error_set(
            err, ERR_INVALID,
            "the T-chart is gone and no U-chart of this chart file is stored: it cannot be judged "
            "again");
    struct uchart uchart;
    struct uchart_bytes bytes = {stored->points, stored->points_length, stored->verdicts,
                                 stored->verdicts_length};
    int code = uchart_decode(&bytes, arena, &uchart, err);
    if (code)
        return error_prefix(err, code, "stored U-chart");
    if (uchart.count != count)
        return error_set(err, ERR_CORRUPT, "the stored U-chart has %zu indicators, its chart file %zu",
                         uchart.count, count);
    for (size_t i = 0; i < count; i++) {
        values[i] = uchart.points[i].value;
        reasons[i] = uchart.points[i].reason;
    }
    return 0;
}

static int compute_values(const struct judgement_input *input, const struct judge_plan *plan,
                          struct arena *arena, double *values, const char **reasons,
                          struct judgement *judgement, struct error *err)
{
    if (input->chunk_count == 0)
        return take_stored_values(input, judge_plan_chart_count(plan), arena, values, reasons, err);
    struct trace trace;
    int64_t start_ns = clock_mono_ns();
    int code = decode_trace(input, plan, arena, &trace, err);
    int64_t decoded_ns = clock_mono_ns();
    if (code == 0)
        code = judge_compute(plan, &trace, arena, values, reasons, err);
    judgement->decode_ns = decoded_ns - start_ns;
    judgement->calculate_ns = clock_mono_ns() - decoded_ns;
    return code;
}

static int evaluate(const struct judgement_input *input, const struct judge_plan *plan, const double *values,
                    const char *const *reasons, struct arena *arena, struct judgement *judgement,
                    struct error *err)
{
    size_t lookback = judge_plan_lookback(plan);
    size_t count = input->history_count < lookback ? input->history_count : lookback;
    struct judge_history_row *rows = arena_calloc(arena, count, sizeof *rows);
    if (rows == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the history");
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct judge_history_row){input->history[i].points, input->history[i].points_length};
    int64_t start_ns = clock_mono_ns();
    int code = judge_verdicts(plan, input->context, values, reasons, rows, count, input->degraded, arena,
                              &judgement->uchart, err);
    judgement->evaluate_ns = clock_mono_ns() - start_ns;
    return code;
}

int judgement_compute(const struct judgement_input *input, struct arena *arena, struct judgement *judgement,
                      struct error *err)
{
    *judgement = (struct judgement){0};
    if (input->set) {
        const struct judge_plan *plan;
        int code = judge_plan_for(input->set, input->context->recipe, &plan, err);
        if (code)
            return code;
        size_t count = judge_plan_chart_count(plan);
        double *values = arena_calloc(arena, count, sizeof *values);
        const char **reasons = arena_calloc(arena, count, sizeof *reasons);
        if (values == NULL || reasons == NULL)
            return error_set(err, ERR_NO_MEMORY, "no memory for %zu indicators", count);
        code = compute_values(input, plan, arena, values, reasons, judgement, err);
        if (code == 0)
            code = evaluate(input, plan, values, reasons, arena, judgement, err);
        if (code)
            return code;
    }
    return uchart_encode(&judgement->uchart, arena, &judgement->bytes, err);
}
