/* The chambers and recipes that stored contexts belong to: each (tool, chamber, recipe) is one history. */
#ifndef CHAMBERLAIN_CLI_CONTEXT_KEYS_H
#define CHAMBERLAIN_CLI_CONTEXT_KEYS_H

#include "cli/session.h"

#include <uthash.h>

enum { CONTEXT_KEYS_MAX = 1000000 };

struct context_key {
    const char *tool, *chamber, *recipe;
    size_t count;    /* contexts */
    char *newest_id; /* by event order */
    int64_t newest_end_us;
    const char *text; /* the three names with their terminators: the hash's key */
    UT_hash_handle hh;
};

struct context_keys {
    struct arena arena;
    struct context_key *first; /* in the order of their first context; next: hh.next */
    size_t count;
};

/* The keys of the contexts that match `query`. ERR_LIMIT over CONTEXT_KEYS_MAX; the store's errors. Give them
 * back with context_keys_free, also after an error. */
int context_keys_collect(struct session *session, const struct store_list_query *query,
                         struct context_keys *keys, struct error *err);
void context_keys_free(struct context_keys *keys);

#endif
