#include "chart/chartset_reader.h"

#include <stdlib.h>
#include <string.h>

void chart_problems_init(struct chart_problems *problems)
{
    *problems = (struct chart_problems){0};
    arena_init(&problems->arena, 0);
}

void chart_problems_free(struct chart_problems *problems)
{
    arena_free(&problems->arena);
    chart_problems_init(problems);
}

/* Room for one more; the old array stays in the arena, at most as much again. */
static bool problems_grow(struct chart_problems *problems)
{
    if (problems->count < problems->capacity)
        return true;
    size_t capacity = problems->capacity ? problems->capacity * 2 : 8;
    struct chart_problem *items = arena_calloc(&problems->arena, capacity, sizeof *items);
    if (items == NULL)
        return false;
    if (problems->count > 0)
        memcpy(items, problems->items, problems->count * sizeof *items);
    problems->items = items;
    problems->capacity = capacity;
    return true;
}

void chart_problems_add(struct chart_problems *problems, size_t line, size_t column, bool warning,
                        const char *text)
{
    if (warning)
        problems->warnings++;
    else
        problems->errors++;
    if (problems->count > CHART_PROBLEMS_MAX)
        return;
    if (problems->count == CHART_PROBLEMS_MAX)
        text = "there are more problems, which are not listed";
    const char *message = arena_strdup(&problems->arena, text);
    if (message == NULL || !problems_grow(problems)) {
        problems->failed = true;
        return;
    }
    problems->failed = problems->failed || problems->count == CHART_PROBLEMS_MAX;
    problems->items[problems->count++] = (struct chart_problem){line, column, warning, message};
}

static int problem_compare(const void *a, const void *b)
{
    const struct chart_problem *x = a, *y = b;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return (x->column > y->column) - (x->column < y->column);
}

void chart_problems_sort(struct chart_problems *problems, size_t first)
{
    if (problems->count > first)
        qsort(problems->items + first, problems->count - first, sizeof *problems->items, problem_compare);
}
