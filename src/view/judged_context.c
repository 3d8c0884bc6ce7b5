#include "view/judged_context.h"

#include "base/json_writer.h"
#include "view/verdict_text.h"

#include <string.h>

static int find(struct store *store, struct store_wait *wait, const char *id, struct judged_context *judged,
                struct error *err)
{
    store_find_context(store, id, store_wait_done, wait);
    judged->found = store_wait_reply(wait);
    int code = judged->found->code;
    if (code == ERR_NOT_FOUND)
        return error_set(
            err, code,
            "no context '%s' is stored; ids are listed by `chamberlain alarms` and `chamberlain charts "
            "show`, and announced by `chamberlain import`",
            id);
    if (code) {
        *err = judged->found->error;
        return code;
    }
    judged->completion = &judged->found->completions[0];
    return 0;
}

int judged_context_read(const struct store_completion *completion, struct arena *arena,
                        struct context *context, struct error *err)
{
    const char *text = completion->announcement;
    int code = 0;
    if (text && *text) {
        code = context_parse(text, strlen(text), arena, context, err);
        if (code == 0)
            return 0;
    }
    *context = (struct context){.id = completion->key.context_id,
                                .tool = completion->key.tool,
                                .chamber = completion->key.chamber,
                                .recipe = completion->recipe ? completion->recipe : "",
                                .lot = completion->lot ? completion->lot : "",
                                .wafer = "",
                                .start_us = completion->end_us,
                                .end_us = completion->end_us,
                                .extra_json = "{}"};
    return code;
}

static int fetch(struct store *store, struct store_wait *wait, const char *id, struct judged_context *judged,
                 struct error *err)
{
    int code = find(store, wait, id, judged, err);
    if (code)
        return code;
    code = judged_context_read(judged->completion, &judged->arena, &judged->context, err);
    if (code)
        return error_prefix(err, code, "stored announcement of %s", id);
    store_fetch_uchart(store, &judged->completion->key, store_wait_done, wait);
    judged->judged = store_wait_reply(wait);
    code = judged->judged->code;
    if (code == ERR_NOT_FOUND)
        return 0;
    if (code) {
        *err = judged->judged->error;
        return code;
    }
    judged->stored = &judged->judged->ucharts[0];
    return verdict_decode(judged->stored, &judged->arena, &judged->uchart, err);
}

int judged_context_fetch(struct store *store, const char *id, struct judged_context *judged,
                         struct error *err)
{
    *judged = (struct judged_context){0};
    arena_init(&judged->arena, 0);
    struct store_wait *wait = store_wait_new();
    if (wait == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a context");
    int code = fetch(store, wait, id, judged, err);
    store_wait_free(wait);
    return code;
}

void judged_context_free(struct judged_context *judged)
{
    if (judged->judged)
        store_reply_free(judged->judged);
    if (judged->found)
        store_reply_free(judged->found);
    arena_free(&judged->arena);
    *judged = (struct judged_context){0};
}

size_t judged_context_count(const struct judged_context *judged, enum verdict_state state)
{
    size_t count = 0;
    for (size_t i = 0; i < judged->uchart.count; i++)
        count += judged->uchart.points[i].state == state;
    return count;
}

const char *judged_context_state(const struct judged_context *judged)
{
    switch (judged->completion->state) {
    case STORE_JUDGED:
        return "judged";
    case STORE_DEAD:
        return "dead";
    case STORE_PENDING:
        break;
    }
    return judged->stored ? "judged" : "pending";
}

void judged_context_add_which(struct json_writer *json, const struct context *context)
{
    json_add_text(json, "context_id", context->id);
    json_add_text(json, "tool_id", context->tool);
    json_add_text(json, "chamber_id", context->chamber);
    json_add_text(json, "recipe", context->recipe);
    json_add_text(json, "lot", context->lot);
    json_add_text(json, "wafer", context->wafer);
    json_add_time(json, "started_at", context->start_us);
    json_add_time(json, "ended_at", context->end_us);
}

void judged_context_add_json(struct json_writer *json, const struct judged_context *judged)
{
    const struct context *context = &judged->context;
    judged_context_add_which(json, context);
    json_add_raw(json, "attributes", context->extra_json);
    json_add_text(json, "state", judged_context_state(judged));
    json_add_text(json, "dead_reason",
                  judged->completion->state == STORE_DEAD ? judged->completion->dead_reason : NULL);
    json_add_text(json, "quality", context_is_low_quality(context) ? "low" : "good");
}
