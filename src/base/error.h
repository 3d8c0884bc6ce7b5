/* Errors: a named code that a program can act on, and a message that a person can act on.
 *
 * A function that can fail returns `int` (0, or one of the negative codes below) and takes a `struct error *`
 * as its last parameter, which it fills on failure. NULL is allowed where the caller does not want the words.
 * The message says what went wrong, where (file, line, offset, name), and what to do about it. */
#ifndef CHAMBERLAIN_BASE_ERROR_H
#define CHAMBERLAIN_BASE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

enum error_code {
    ERR_NONE = 0,
    ERR_INVALID = -1,      /* the caller's or user's input is wrong; trying again changes nothing */
    ERR_CORRUPT = -2,      /* stored or received bytes are not what their format allows */
    ERR_NOT_FOUND = -3,    /* the thing asked for does not exist (yet) */
    ERR_NO_MEMORY = -4,    /* an allocation failed */
    ERR_LIMIT = -5,        /* a stated bound would be exceeded */
    ERR_UNAVAILABLE = -6,  /* another system is away or busy; trying again later may succeed */
    ERR_TIMEOUT = -7,      /* no answer in time; it may or may not have been done */
    ERR_CONFLICT = -8,     /* someone else was first (compare-and-set lost, subject already taken) */
    ERR_IO = -9,           /* the operating system refused: disk full, permission, broken file */
    ERR_UNSUPPORTED = -10, /* valid, but not something this version can do */
    ERR_CLOSED = -11       /* the object is shutting down and takes no more work */
};

enum { ERROR_TEXT_BYTES = 512 };

struct error {
    int code;
    char text[ERROR_TEXT_BYTES]; /* always terminated; cut at the end if too long */
};

/* Sets `err` (may be NULL) and returns `code`, so that a caller can write `return error_set(...)`. */
int error_set(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* As error_set, with the arguments in a va_list. */
int error_vset(struct error *err, int code, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

/* Puts "context: " before the message already in `err` (may be NULL). Returns err->code, or `code` if err is
 * NULL; pass the code that was returned with the error. */
int error_prefix(struct error *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The code's name as written in logs and JSON ("invalid", "corrupt", ...). Never NULL. */
const char *error_name(int code);

/* True for the codes after which the same call may succeed later without anyone changing its input. */
int error_is_transient(int code);

#endif
