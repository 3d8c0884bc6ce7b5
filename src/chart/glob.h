/* Patterns over recipe names. */
#ifndef CHAMBERLAIN_CHART_GLOB_H
#define CHAMBERLAIN_CHART_GLOB_H

#include "base/error.h"

#include <stdbool.h>

/* True when `text` matches: `*` any text, `?` one character (a whole UTF-8 one), `[abc]`, `[a-z]`, `[!a-z]`
 * one of (not of) these bytes, `\` takes the next character as it is. Takes time in the product of the
 * lengths, never more. */
bool glob_match(const char *pattern, const char *text);

/* ERR_INVALID for a `[` without its `]`, an empty class, or a `\` at the end. */
int glob_check(const char *pattern, struct error *err);

#endif
