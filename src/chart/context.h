/* A context: one run of one recipe in one chamber, and the JSON message that announces it.
 *
 * The message (docs/protocol.md): context_id, tool_id, chamber_id, recipe, lot, wafer, started_at, ended_at
 * (RFC 3339, UTC), svid_count, point_count, chunk_count. Fields that are not known here are kept as they came
 * and passed on; they can be used as baseline attributes of a chart. */
#ifndef CHAMBERLAIN_CHART_CONTEXT_H
#define CHAMBERLAIN_CHART_CONTEXT_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CONTEXT_NAME_MAX_BYTES = 200,      /* of an id, tool, chamber, recipe, lot or wafer */
    CONTEXT_JSON_MAX_BYTES = 64 * 1024 /* of one announcement */
};

struct context {
    const char *id;      /* never NULL, never empty once parsed */
    const char *tool;    /* likewise */
    const char *chamber; /* likewise */
    const char *recipe;  /* "" when the equipment gave none; likewise lot and wafer */
    const char *lot;
    const char *wafer;
    int64_t start_us; /* of the run, microseconds since the Unix epoch */
    int64_t end_us;
    int64_t svid_count; /* sensors, points and chunks of the T-chart as announced; 0 when not said */
    int64_t point_count;
    int64_t chunk_count;
    const char *extra_json; /* the unknown fields as one JSON object's text; "{}" when there are none */
};

/* Reads an announcement of `length` bytes; texts live in `arena`. ERR_INVALID names the field and what it
 * should be; ERR_LIMIT when it is over CONTEXT_JSON_MAX_BYTES or a name over CONTEXT_NAME_MAX_BYTES;
 * ERR_NO_MEMORY. */
int context_parse(const char *json, size_t length, struct arena *arena, struct context *context,
                  struct error *err);

/* Appends the announcement to `json`. Known fields come first, in the order above, then the unknown ones. */
void context_format(const struct context *context, struct strbuf *json);

/* Checks what context_parse checks, for a context that was built otherwise. */
int context_check(const struct context *context, struct error *err);

/* The value of an attribute by its name: "tool", "chamber", "recipe", "lot", "wafer", or an unknown field
 * whose value is a string, number or boolean (as text). NULL when the context has none. */
const char *context_attribute(const struct context *context, const char *name, struct arena *arena);

/* True when the unknown fields carry "quality": "low" (a T-chart that was repaired or cut, see
 * docs/import.md). */
bool context_is_low_quality(const struct context *context);

/* The order of a chamber's history: by end time, ties by id. Negative when a comes first. */
int context_compare_event(int64_t a_end_us, const char *a_id, int64_t b_end_us, const char *b_id);

#endif
