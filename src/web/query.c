#include "web/query.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CURSOR_MAX_BYTES = 1024 };

void query_refuse(struct query *query, int status, const char *format, ...)
{
    char detail[ERROR_TEXT_BYTES];
    if (query->failed)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(detail, sizeof detail, format, args);
    va_end(args);
    query->failed = true;
    http_problem(query->response, status, "%s", detail);
}

static bool is_listed(const char *const *names, const char *name)
{
    for (; *names; names++)
        if (strcmp(*names, name) == 0)
            return true;
    return false;
}

struct query query_open(const struct http_request *request, struct http_response *response,
                        const char *const *allowed, const char *repeated)
{
    struct query query = {.request = request, .response = response};
    for (size_t i = 0; i < request->parameter_count; i++) {
        const char *name = request->parameters[i].name;
        if (!is_listed(allowed, name))
            query_refuse(&query, 400, "no parameter '%.100s' is known here; docs/api/openapi.yaml names them",
                         name);
        for (size_t k = 0; k < i; k++)
            if (strcmp(request->parameters[k].name, name) == 0 &&
                (repeated == NULL || strcmp(repeated, name) != 0))
                query_refuse(&query, 400, "the parameter '%.100s' is given twice", name);
    }
    return query;
}

static size_t count_characters(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += ((unsigned char)*text & 0xC0) != 0x80;
    return count;
}

bool query_check_name(struct query *query, const char *what, const char *text)
{
    if (*text == '\0')
        query_refuse(query, 400, "'%s' is empty", what);
    else if (count_characters(text) > QUERY_NAME_MAX)
        query_refuse(query, 400, "'%s' is longer than %d characters", what, QUERY_NAME_MAX);
    return !query->failed;
}

const char *query_name(struct query *query, const char *parameter, bool required)
{
    const char *text = http_request_parameter(query->request, parameter);
    if (text == NULL && required)
        query_refuse(query, 400, "the parameter '%s' is needed", parameter);
    if (text == NULL || !query_check_name(query, parameter, text))
        return NULL;
    return text;
}

int64_t query_integer(struct query *query, const char *parameter, int64_t least, int64_t most,
                      int64_t otherwise)
{
    const char *text = http_request_parameter(query->request, parameter);
    char *end;
    if (text == NULL)
        return otherwise;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    const char *digits = *text == '-' ? text + 1 : text;
    bool whole = *digits && strspn(digits, "0123456789") == strlen(digits) && *end == '\0' && errno == 0 &&
                 (digits[0] != '0' || digits[1] == '\0');
    if (whole && value >= least && value <= most)
        return value;
    query_refuse(query, 400, "'%s' takes a whole number of %" PRId64 " to %" PRId64, parameter, least, most);
    return otherwise;
}

bool query_flag(struct query *query, const char *parameter)
{
    static const char *const words[] = {"false", "true", NULL};
    return query_choice(query, parameter, words, 0) == 1;
}

int64_t query_time(struct query *query, const char *parameter, int64_t otherwise)
{
    const char *text = http_request_parameter(query->request, parameter);
    int64_t us;
    if (text == NULL)
        return otherwise;
    if (clock_parse_rfc3339(text, &us, NULL) == 0)
        return us;
    query_refuse(query, 400,
                 "'%s' takes a time such as 2026-03-01T08:00:00Z (RFC 3339; a + is escaped as %%2B)",
                 parameter);
    return otherwise;
}

int query_choice(struct query *query, const char *parameter, const char *const *choices, int otherwise)
{
    const char *text = http_request_parameter(query->request, parameter);
    char all[128] = "";
    if (text == NULL)
        return otherwise;
    for (int i = 0; choices[i]; i++) {
        if (strcmp(choices[i], text) == 0)
            return i;
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", used ? ", " : "", choices[i]);
    }
    query_refuse(query, 400, "'%s' takes one of: %s", parameter, all);
    return otherwise;
}

bool query_cursor(struct query *query, int64_t *end_us, const char **context_id)
{
    const char *text = http_request_parameter(query->request, "cursor");
    char *end = NULL;
    if (text == NULL)
        return false;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    bool valid =
        end != text && *end == '~' && end[1] != '\0' && errno == 0 && strlen(text) < CURSOR_MAX_BYTES;
    if (!valid) {
        query_refuse(query, 400, "'cursor' takes what an earlier page gave as 'next'");
        return false;
    }
    *end_us = value;
    *context_id = end + 1;
    return true;
}

void query_fail(struct http_response *response, const struct error *err)
{
    int status = 500;
    switch (err->code) {
    case ERR_NOT_FOUND:
        status = 404;
        break;
    case ERR_INVALID:
    case ERR_LIMIT:
        status = 400;
        break;
    case ERR_UNAVAILABLE:
    case ERR_TIMEOUT:
    case ERR_CLOSED:
    case ERR_IO:
        status = 503;
        break;
    default:
        break;
    }
    http_problem(response, status, "%s", err->text);
}
