/* A sink that keeps what an import gives, for tests to look at. */
#ifndef CHAMBERLAIN_TESTS_IMPORT_RECORDER_H
#define CHAMBERLAIN_TESTS_IMPORT_RECORDER_H

#include "base/arena.h"
#include "base/strbuf.h"
#include "collector/report.h"

#include <stdlib.h>
#include <string.h>

struct recorder {
    struct arena arena;
    struct import_context contexts[400]; /* deep copies */
    size_t count;
    struct strbuf reports; /* a line each: "[event] FILE:LINE: ..." */
    struct import_summary summary;
    struct error err;
    int refuse_after; /* take fails after so many contexts; 0: never */
    int refusal;      /* with this code */
};

static int recorder_take(void *arg, const struct import_context *context, struct error *err)
{
    struct recorder *recorder = arg;
    if (recorder->refuse_after > 0 && recorder->count == (size_t)recorder->refuse_after)
        return error_set(err, recorder->refusal, "not now");
    assert_true(recorder->count < 400);
    struct arena *arena = &recorder->arena;
    struct import_context *copy = &recorder->contexts[recorder->count++];
    *copy = *context;
    copy->file = arena_strdup(arena, context->file);
    copy->context.id = arena_strdup(arena, context->context.id);
    copy->context.tool = arena_strdup(arena, context->context.tool);
    copy->context.chamber = arena_strdup(arena, context->context.chamber);
    copy->context.recipe = arena_strdup(arena, context->context.recipe);
    copy->context.lot = arena_strdup(arena, context->context.lot);
    copy->context.wafer = arena_strdup(arena, context->context.wafer);
    copy->context.extra_json = arena_strdup(arena, context->context.extra_json);
    int64_t *time_us = arena_calloc(arena, context->sample_count, sizeof(*time_us));
    memcpy(time_us, context->time_us, context->sample_count * sizeof(*time_us));
    copy->time_us = time_us;
    struct import_column *columns = arena_calloc(arena, context->column_count, sizeof(*columns));
    for (size_t i = 0; i < context->column_count; i++) {
        double *values = arena_calloc(arena, context->sample_count, sizeof(*values));
        memcpy(values, context->columns[i].value, context->sample_count * sizeof(*values));
        columns[i] = (struct import_column){arena_strdup(arena, context->columns[i].name), values};
    }
    copy->columns = columns;
    return 0;
}

static void recorder_report(void *arg, const struct import_report *report)
{
    struct recorder *recorder = arg;
    strbuf_printf(&recorder->reports, "[%s] ", import_event_name(report->event));
    import_report_format(report, &recorder->reports);
    strbuf_add_char(&recorder->reports, '\n');
}

static struct recorder *recorder_new(void)
{
    struct recorder *recorder = calloc(1, sizeof(*recorder));
    assert_non_null(recorder);
    arena_init(&recorder->arena, 0);
    strbuf_init(&recorder->reports);
    return recorder;
}

static void recorder_free(struct recorder *recorder)
{
    arena_free(&recorder->arena);
    strbuf_free(&recorder->reports);
    free(recorder);
}

static struct import_sink recorder_sink(struct recorder *recorder)
{
    return (struct import_sink){.take = recorder_take, .report = recorder_report, .arg = recorder};
}

#endif
