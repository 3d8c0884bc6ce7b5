/* One stored context with what was made of it. */
#ifndef CHAMBERLAIN_VIEW_JUDGED_CONTEXT_H
#define CHAMBERLAIN_VIEW_JUDGED_CONTEXT_H

#include "chart/context.h"
#include "chart/uchart.h"
#include "store/store.h"

struct judged_context {
    struct arena arena;
    struct store_reply *found, *judged; /* hold what the members below point to */
    const struct store_completion *completion;
    struct context context;            /* as announced; of a dead one that was never stored, the key alone */
    const struct store_uchart *stored; /* NULL: it has no U-chart */
    struct uchart uchart;              /* decoded; empty without one */
};

/* Fetches a context and its U-chart by the context's id, and waits for them. ERR_NOT_FOUND says so and how to
 * look for it; ERR_CORRUPT for an announcement or a U-chart that cannot be read; the store's errors. Give it
 * back with judged_context_free, also after an error. */
int judged_context_fetch(struct store *store, const char *id, struct judged_context *judged,
                         struct error *err);
void judged_context_free(struct judged_context *judged);

/* What is known of a stored context: as it was announced; without an announcement, or with one that cannot be
 * read (then errors as context_parse), what its completion says. Texts are the completion's or `arena`'s. */
int judged_context_read(const struct store_completion *completion, struct arena *arena,
                        struct context *context, struct error *err);

/* How many of its indicators are in that state. */
size_t judged_context_count(const struct judged_context *judged, enum verdict_state state);

struct json_writer;

/* The members that say which context it is: context_id to ended_at. */
void judged_context_add_which(struct json_writer *json, const struct context *context);

/* Those, and how it stands: context_id to quality. */
void judged_context_add_json(struct json_writer *json, const struct judged_context *judged);

const char *judged_context_state(const struct judged_context *judged); /* "pending", "judged", "dead" */

#endif
