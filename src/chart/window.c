#include "chart/window.h"

#include <inttypes.h>
#include <math.h>

void window_init(struct window *window)
{
    *window = (struct window){.kind = WINDOW_ALL, .from = INT64_MIN, .to = INT64_MAX};
}

static bool cut_equal(const struct window_cut *a, const struct window_cut *b)
{
    return a->us == b->us && a->samples == b->samples;
}

bool window_equal(const struct window *a, const struct window *b)
{
    return a->kind == b->kind && a->step_first == b->step_first && a->step_last == b->step_last &&
           a->from == b->from && a->to == b->to && a->visit == b->visit && cut_equal(&a->skip, &b->skip) &&
           cut_equal(&a->drop, &b->drop);
}

static void format_seconds(int64_t us, struct strbuf *text)
{
    strbuf_add_json_double(text, (double)us / 1e6);
    strbuf_add_char(text, 's');
}

static void format_bounds(const struct window *window, struct strbuf *text)
{
    if (window->from != INT64_MIN) {
        if (window->kind == WINDOW_TIME)
            format_seconds(window->from, text);
        else
            strbuf_printf(text, "%" PRId64, window->from);
    }
    strbuf_add(text, "..");
    if (window->to == INT64_MAX)
        return;
    if (window->kind == WINDOW_TIME)
        format_seconds(window->to, text);
    else
        strbuf_printf(text, "%" PRId64, window->to);
}

static void format_cut(const char *name, const struct window_cut *cut, struct strbuf *text)
{
    if (cut->us > 0) {
        strbuf_printf(text, ", %s ", name);
        format_seconds(cut->us, text);
    }
    if (cut->samples > 0)
        strbuf_printf(text, ", %s %" PRId64 " samples", name, cut->samples);
}

void window_format(const struct window *window, struct strbuf *text)
{
    switch (window->kind) {
    case WINDOW_ALL:
        break;
    case WINDOW_STEP:
        strbuf_add(text, ", step ");
        if (isfinite(window->step_first))
            strbuf_add_json_double(text, window->step_first);
        if (window->step_first != window->step_last)
            strbuf_add(text, "..");
        if (window->step_first != window->step_last && isfinite(window->step_last))
            strbuf_add_json_double(text, window->step_last);
        if (window->visit < 0)
            strbuf_add(text, ", visit last");
        if (window->visit > 0)
            strbuf_printf(text, ", visit %" PRId32, window->visit);
        break;
    case WINDOW_TIME:
        strbuf_add(text, ", time ");
        format_bounds(window, text);
        break;
    case WINDOW_SAMPLES:
        strbuf_add(text, ", samples ");
        format_bounds(window, text);
        break;
    }
    format_cut("skip", &window->skip, text);
    format_cut("drop", &window->drop, text);
}

int window_scan_steps(const struct trace_column *column, struct arena *arena, struct window_steps *steps,
                      struct error *err)
{
    size_t changes = 0;
    double current = (double)NAN;
    for (size_t i = 0; i < column->count; i++) {
        if (isnan(column->value[i]) || column->value[i] == current)
            continue;
        current = column->value[i];
        changes++;
    }
    struct window_stretch *stretches = arena_calloc(arena, changes, sizeof *stretches);
    if (stretches == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for %zu step changes", changes);
    *steps = (struct window_steps){.column = column, .stretches = stretches};
    for (size_t i = 0; i < column->count; i++) {
        double step = column->value[i];
        if (isnan(step) || (steps->count > 0 && step == stretches[steps->count - 1].step))
            continue;
        stretches[steps->count++] = (struct window_stretch){.step = step, .begin = i};
    }
    return 0;
}

static int64_t add_saturated(int64_t a, int64_t b)
{
    int64_t sum;
    if (!__builtin_add_overflow(a, b, &sum))
        return sum;
    return b > 0 ? INT64_MAX : INT64_MIN;
}

/* The first index in [begin, end) whose time is at or after `us`. */
static size_t lower_bound(const int64_t *time_us, size_t begin, size_t end, int64_t us)
{
    while (begin < end) {
        size_t mid = begin + (end - begin) / 2;
        if (time_us[mid] < us)
            begin = mid + 1;
        else
            end = mid;
    }
    return begin;
}

/* The first index whose time is after `us`. */
static size_t upper_bound(const int64_t *time_us, size_t begin, size_t end, int64_t us)
{
    return us == INT64_MAX ? end : lower_bound(time_us, begin, end, us + 1);
}

static struct window_range cut(const struct window *window, const struct trace_column *column,
                               struct window_range range)
{
    const int64_t *time_us = column->time_us;
    if (range.begin >= range.end)
        return range;
    int64_t first = time_us[range.begin], last = time_us[range.end - 1];
    if (window->skip.us > 0)
        range.begin = lower_bound(time_us, range.begin, range.end, add_saturated(first, window->skip.us));
    if (window->drop.us > 0)
        range.end = upper_bound(time_us, range.begin, range.end, add_saturated(last, -window->drop.us));
    size_t skip = (size_t)window->skip.samples, drop = (size_t)window->drop.samples;
    size_t left = range.end - range.begin;
    range.begin += skip < left ? skip : left;
    left = range.end - range.begin;
    range.end -= drop < left ? drop : left;
    return range;
}

/* A stay, as indices into the stretches, in samples of `column`. */
static struct window_range visit_range(const struct window_steps *steps, size_t first, size_t after,
                                       const struct trace_column *column)
{
    const struct trace_column *source = steps->column;
    size_t begin = steps->stretches[first].begin;
    size_t end = after < steps->count ? steps->stretches[after].begin : source->count;
    if (column->time_us == source->time_us)
        return (struct window_range){begin, end};
    return (struct window_range){lower_bound(column->time_us, 0, column->count, source->time_us[begin]),
                                 after < steps->count
                                     ? lower_bound(column->time_us, 0, column->count, source->time_us[end])
                                     : column->count};
}

static int resolve_steps(const struct window *window, const struct window_steps *steps,
                         const struct trace_column *column, struct arena *arena, struct window_ranges *ranges,
                         struct error *err)
{
    if (steps == NULL || steps->count == 0)
        return 0;
    /* A visit needs a stretch outside before the next one can begin. */
    size_t most = steps->count / 2 + 1, visits = 0, kept = 0;
    struct window_range *list = arena_calloc(arena, most, sizeof *list);
    if (list == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for the visits of a window");
    for (size_t i = 0; i < steps->count; i++) {
        size_t first = i;
        while (i < steps->count && steps->stretches[i].step >= window->step_first &&
               steps->stretches[i].step <= window->step_last)
            i++;
        if (i == first)
            continue;
        visits++;
        if (window->visit > 0 && visits != (size_t)window->visit)
            continue;
        struct window_range range = cut(window, column, visit_range(steps, first, i, column));
        if (window->visit < 0)
            kept = 0;
        if (range.begin < range.end)
            list[kept++] = range;
    }
    *ranges = (struct window_ranges){.count = kept, .ranges = list};
    return 0;
}

static struct window_range resolve_one(const struct window *window, const struct trace *trace,
                                       const struct trace_column *column)
{
    struct window_range range = {0, column->count};
    if (window->kind == WINDOW_TIME) {
        if (window->from != INT64_MIN)
            range.begin =
                lower_bound(column->time_us, 0, column->count, add_saturated(trace->start_us, window->from));
        if (window->to != INT64_MAX)
            range.end =
                lower_bound(column->time_us, 0, column->count, add_saturated(trace->start_us, window->to));
    }
    if (window->kind == WINDOW_SAMPLES) {
        size_t from = window->from == INT64_MIN ? 0 : (size_t)window->from;
        range.begin = from < column->count ? from : column->count;
        if (window->to != INT64_MAX && (size_t)window->to < column->count)
            range.end = (size_t)window->to + 1;
    }
    return cut(window, column, range);
}

int window_resolve(const struct window *window, const struct trace *trace, const struct window_steps *steps,
                   const struct trace_column *column, struct arena *arena, struct window_ranges *ranges,
                   struct error *err)
{
    *ranges = (struct window_ranges){0};
    if (window->kind == WINDOW_STEP)
        return resolve_steps(window, steps, column, arena, ranges, err);
    struct window_range range = resolve_one(window, trace, column);
    if (range.begin >= range.end)
        return 0;
    struct window_range *list = arena_alloc(arena, sizeof *list);
    if (list == NULL)
        return error_set(err, ERR_NO_MEMORY, "out of memory for a window");
    *list = range;
    *ranges = (struct window_ranges){.count = 1, .ranges = list};
    return 0;
}
