#include "base/error.h"

#include <stdio.h>
#include <string.h>

int error_vset(struct error *err, int code, const char *format, va_list args)
{
    if (err == NULL)
        return code;
    err->code = code;
    vsnprintf(err->text, sizeof err->text, format, args);
    return code;
}

int error_set(struct error *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error_vset(err, code, format, args);
    va_end(args);
    return code;
}

int error_prefix(struct error *err, int code, const char *format, ...)
{
    if (err == NULL)
        return code;
    char old[ERROR_TEXT_BYTES];
    memcpy(old, err->text, sizeof old);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof err->text)
        snprintf(err->text + used, sizeof err->text - (size_t)used, ": %s", old);
    return err->code;
}

const char *error_name(int code)
{
    switch (code) {
    case ERR_NONE:
        return "none";
    case ERR_INVALID:
        return "invalid";
    case ERR_CORRUPT:
        return "corrupt";
    case ERR_NOT_FOUND:
        return "not_found";
    case ERR_NO_MEMORY:
        return "no_memory";
    case ERR_LIMIT:
        return "limit";
    case ERR_UNAVAILABLE:
        return "unavailable";
    case ERR_TIMEOUT:
        return "timeout";
    case ERR_CONFLICT:
        return "conflict";
    case ERR_IO:
        return "io";
    case ERR_UNSUPPORTED:
        return "unsupported";
    case ERR_CLOSED:
        return "closed";
    default:
        return "unknown";
    }
}

int error_is_transient(int code)
{
    return code == ERR_UNAVAILABLE || code == ERR_TIMEOUT || code == ERR_IO || code == ERR_NO_MEMORY;
}
