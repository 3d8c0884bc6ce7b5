#include "cli/context_keys.h"

#include "chart/context.h"

#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = 3 * (CONTEXT_NAME_MAX_BYTES + 1) };

struct collecting {
    struct context_keys *keys;
    struct error *err;
};

/* The three names one after the other; returns the length. */
static size_t format_key(const struct store_completion *completion, char text[static KEY_BYTES])
{
    const char *const parts[] = {completion->key.tool, completion->key.chamber,
                                 completion->recipe ? completion->recipe : ""};
    size_t length = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        size_t part = strnlen(parts[i], CONTEXT_NAME_MAX_BYTES);
        memcpy(text + length, parts[i], part);
        text[length + part] = '\0';
        length += part + 1;
    }
    return length;
}

static struct context_key *add_key(struct context_keys *keys, const char *text, size_t length)
{
    struct context_key *key = arena_calloc(&keys->arena, 1, sizeof *key);
    char *copy = arena_alloc(&keys->arena, length);
    if (key == NULL || copy == NULL)
        return NULL;
    memcpy(copy, text, length);
    key->text = copy;
    key->tool = copy;
    key->chamber = key->tool + strlen(key->tool) + 1;
    key->recipe = key->chamber + strlen(key->chamber) + 1;
    HASH_ADD_KEYPTR(hh, keys->first, key->text, length, key);
    keys->count++;
    return key;
}

static int visit(void *arg, const struct store_completion *completion)
{
    struct collecting *collecting = arg;
    struct context_keys *keys = collecting->keys;
    char text[KEY_BYTES];
    size_t length = format_key(completion, text);
    struct context_key *key;
    HASH_FIND(hh, keys->first, text, length, key);
    if (key == NULL && keys->count >= CONTEXT_KEYS_MAX)
        return error_set(collecting->err, ERR_LIMIT, "more than %d combinations of tool, chamber and recipe",
                         CONTEXT_KEYS_MAX);
    if (key == NULL)
        key = add_key(keys, text, length);
    char *id = strdup(completion->key.context_id);
    if (key == NULL || id == NULL) {
        free(id);
        return error_set(collecting->err, ERR_NO_MEMORY, "no memory for the list of chambers");
    }
    free(key->newest_id); /* contexts come in event order: the last one seen is the newest */
    key->newest_id = id;
    key->newest_end_us = completion->end_us;
    key->count++;
    return 0;
}

int context_keys_collect(struct session *session, const struct store_list_query *query,
                         struct context_keys *keys, struct error *err)
{
    *keys = (struct context_keys){0};
    arena_init(&keys->arena, 0);
    struct collecting collecting = {keys, err};
    return session_each_context(session, query, visit, &collecting, err);
}

void context_keys_free(struct context_keys *keys)
{
    for (struct context_key *key = keys->first; key; key = key->hh.next)
        free(key->newest_id);
    HASH_CLEAR(hh, keys->first);
    arena_free(&keys->arena);
    *keys = (struct context_keys){0};
}
