#include "collector/quality.h"

#include <stdlib.h>
#include <string.h>

static bool is_ordered(const int64_t *time_us, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (time_us[i] < time_us[i - 1])
            return false;
    return true;
}

/* The first pile whose top is later than `time`: there a run that may end in `time` becomes one longer. */
static size_t find_pile(const int64_t *time_us, const size_t *top, size_t piles, int64_t time)
{
    size_t low = 0;
    size_t high = piles;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (time_us[top[middle]] > time)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

size_t quality_keep_ordered(const int64_t *time_us, size_t count, unsigned char *keep)
{
    if (count == 0)
        return 0;
    if (is_ordered(time_us, count)) {
        memset(keep, 1, count);
        return count;
    }
    size_t *before = malloc(count * sizeof(*before)); /* the sample ahead of each in its run */
    size_t *top = malloc(
        count * sizeof(*top)); /* by length - 1: where the run of that length with the earliest end ends */
    size_t piles = 0;
    if (before != NULL && top != NULL) {
        size_t last = 0;
        for (size_t i = 0; i < count; i++) {
            size_t pile = find_pile(time_us, top, piles, time_us[i]);
            before[i] = pile > 0 ? top[pile - 1] : SIZE_MAX;
            top[pile] = i;
            if (pile == piles) {
                piles++;
                last = i;
            }
        }
        memset(keep, 0, count);
        for (size_t i = last; i != SIZE_MAX; i = before[i])
            keep[i] = 1;
    }
    size_t kept = before != NULL && top != NULL ? piles : SIZE_MAX;
    free(before);
    free(top);
    return kept;
}

size_t quality_drop_repeated(const struct quality_series *series, unsigned char *keep)
{
    size_t dropped = 0;
    size_t last = SIZE_MAX;
    size_t row_bytes = series->columns * sizeof(*series->values);
    for (size_t i = 0; i < series->count; i++) {
        if (keep[i] == 0)
            continue;
        if (last != SIZE_MAX && series->time_us[i] == series->time_us[last] &&
            memcmp(series->values + i * series->columns, series->values + last * series->columns,
                   row_bytes) == 0) {
            keep[i] = 0;
            dropped++;
        } else {
            last = i;
        }
    }
    return dropped;
}

bool quality_is_tail(const unsigned char *keep, size_t count, size_t most)
{
    size_t end = count;
    while (end > 0 && keep[end - 1] == 0)
        end--;
    return count - end <= most && memchr(keep, 0, end) == NULL;
}

int64_t quality_longest_gap(const int64_t *time_us, size_t count, size_t *at)
{
    int64_t longest = 0;
    *at = 0;
    for (size_t i = 1; i < count; i++) {
        if (time_us[i] - time_us[i - 1] > longest) {
            longest = time_us[i] - time_us[i - 1];
            *at = i;
        }
    }
    return longest;
}

static bool has_step(const struct quality_series *series, double step)
{
    if (series->step_column == SIZE_MAX)
        return false;
    for (size_t i = 0; i < series->count; i++)
        if (series->values[i * series->columns + series->step_column] == step)
            return true;
    return false;
}

bool quality_missing_step(const struct quality_rules *rules, const struct quality_series *series,
                          double *step)
{
    size_t fewest = SIZE_MAX;
    for (size_t s = 0; s < rules->step_set_count; s++) {
        const struct mapping_step_set *set = &rules->step_sets[s];
        size_t missing = 0;
        double first = 0;
        for (size_t i = 0; i < set->count; i++) {
            if (has_step(series, set->steps[i]))
                continue;
            first = missing++ == 0 ? set->steps[i] : first;
        }
        if (missing == 0)
            return false;
        if (missing < fewest)
            *step = first;
        fewest = missing < fewest ? missing : fewest;
    }
    return rules->step_set_count > 0;
}
