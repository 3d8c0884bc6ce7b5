/* What a step of the assembly asks for: the list of actions, and each kind that several parts give. */
#include "collector/assembly_parts.h"

#include <stdlib.h>
#include <string.h>

void assembly_actions_init(struct assembly_actions *actions)
{
    *actions = (struct assembly_actions){.count = 0};
    arena_init(&actions->arena, 16 * 1024);
}

void assembly_actions_clear(struct assembly_actions *actions)
{
    actions->count = 0;
    arena_reset(&actions->arena);
}

void assembly_actions_free(struct assembly_actions *actions)
{
    arena_free(&actions->arena);
    free(actions->items);
}

struct assembly_action *assembly_act(struct assembly *a, enum assembly_action_kind kind,
                                     const struct context_entry *context)
{
    struct assembly_actions *actions = a->actions;
    actions->items =
        assembly_grow(actions->items, actions->count, &actions->capacity, sizeof *actions->items);
    struct assembly_action *action = &actions->items[actions->count++];
    *action = (struct assembly_action){.kind = kind};
    if (context) {
        action->context = context->number;
        action->tool = assembly_need(arena_strdup(&actions->arena, context->chamber->tool));
        action->chamber = assembly_need(arena_strdup(&actions->arena, context->chamber->name));
        action->token = assembly_need(arena_strdup(&actions->arena, context->chamber->token));
        action->context_id = assembly_need(arena_strdup(&actions->arena, context->id));
    }
    return action;
}

const void *assembly_keep_bytes(struct assembly *a, const void *bytes, size_t length)
{
    void *copy = assembly_need(arena_alloc(&a->actions->arena, length + 1));
    memcpy(copy, bytes, length);
    ((char *)copy)[length] = '\0';
    return copy;
}

void assembly_acknowledge(struct assembly *a, uint64_t message)
{
    assembly_act(a, ASSEMBLY_ACK, NULL)->message = message;
    a->messages--;
}

void assembly_acknowledge_all(struct assembly *a, struct messages *messages)
{
    for (size_t i = 0; i < messages->count; i++)
        assembly_acknowledge(a, messages->items[i]);
    messages->count = 0;
}

void assembly_bury(struct assembly *a, const struct chamber *chamber, const char *context_id,
                   uint64_t message, enum names_sample_kind kind, const void *bytes, size_t length,
                   const char *reason_class, const char *reason)
{
    struct assembly_action *action = assembly_act(a, ASSEMBLY_BURY, NULL);
    struct arena *arena = &a->actions->arena;
    action->message = message;
    action->tool = chamber ? assembly_need(arena_strdup(arena, chamber->tool)) : NULL;
    action->chamber = chamber ? assembly_need(arena_strdup(arena, chamber->name)) : NULL;
    action->context_id = context_id ? assembly_need(arena_strdup(arena, context_id)) : NULL;
    action->subject_kind = kind;
    action->bytes = assembly_keep_bytes(a, bytes, length);
    action->length = length;
    action->reason_class = reason_class;
    action->reason = assembly_need(arena_strdup(arena, reason));
    a->counts->dead++;
    a->messages--;
}

void assembly_forget_message(struct assembly *a, uint64_t message)
{
    assembly_act(a, ASSEMBLY_FORGET, NULL)->message = message;
    a->messages--;
}
