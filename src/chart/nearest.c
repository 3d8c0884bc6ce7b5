#include "chart/nearest.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum { NEAREST_MAX_BYTES = 64 /* longer names are not compared */ };

static bool same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Optimal string alignment distance: Levenshtein's with a swap of neighbours as one edit. */
static size_t edits(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][NEAREST_MAX_BYTES + 1];
    size_t *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = above[j - 1] + (same(a[i - 1], b[j - 1]) ? 0 : 1);
            best = smaller(best, smaller(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]))
                best = smaller(best, before[j - 2] + 1);
            row[j] = best;
        }
        size_t *next = before;
        before = above;
        above = row;
        row = next;
    }
    return above[b_length];
}

const char *nearest_name(const char *name, const char *const *names, size_t count)
{
    size_t length = strlen(name);
    if (length == 0 || length > NEAREST_MAX_BYTES)
        return NULL;
    size_t best = length / 3 < 2 ? 2 : length / 3;
    const char *nearest = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t other = strlen(names[i]);
        if (other > NEAREST_MAX_BYTES || other + best < length || length + best < other)
            continue;
        size_t distance = edits(name, length, names[i], other);
        /* Everything replaced is no resemblance. */
        if (distance > best || distance >= length || (nearest && distance == best))
            continue;
        best = distance;
        nearest = names[i];
    }
    return nearest;
}
