/* The parameters of a request, checked one by one. The first thing that is wrong becomes the answer (400),
 * and what is read after it are defaults: a handler reads all it wants, then asks once. */
#ifndef CHAMBERLAIN_WEB_QUERY_H
#define CHAMBERLAIN_WEB_QUERY_H

#include "http/server.h"

enum { QUERY_NAME_MAX = 200 }; /* characters */

struct query {
    const struct http_request *request;
    struct http_response *response; /* takes the problem */
    bool failed;
};

/* `allowed` ends with NULL; anything else is refused, and so is a parameter that comes twice, but for
 * `repeated` (may be NULL). */
struct query query_open(const struct http_request *request, struct http_response *response,
                        const char *const *allowed, const char *repeated);

/* What goes wrong otherwise. Keeps the first problem. */
void query_refuse(struct query *query, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* A name of 1 to QUERY_NAME_MAX characters; NULL when it is not given and not required. */
const char *query_name(struct query *query, const char *parameter, bool required);

/* As query_name, for a text that is not a parameter (`what` says which). */
bool query_check_name(struct query *query, const char *what, const char *text);

int64_t query_integer(struct query *query, const char *parameter, int64_t least, int64_t most,
                      int64_t otherwise);
bool query_flag(struct query *query, const char *parameter); /* "true" or "false"; false when not given */

/* Microseconds since 1970; `otherwise` when it is not given. */
int64_t query_time(struct query *query, const char *parameter, int64_t otherwise);

/* The place of the value in `choices` (ends with NULL); `otherwise` when it is not given. */
int query_choice(struct query *query, const char *parameter, const char *const *choices, int otherwise);

/* A cursor "{end_us}~{context_id}"; false when none is given. */
bool query_cursor(struct query *query, int64_t *end_us, const char **context_id);

/* Answers with the HTTP status that goes with an error of ours. */
void query_fail(struct http_response *response, const struct error *err);

#endif
