/* Structured logging: one record a line, as text for people or JSON for machines, on standard error.
 *
 *     LOG_WARN("store away, pulling stopped", LOG_STR("store", name), LOG_INT("retry_ms", wait));
 *
 * The process has one logger (the only global): it may be used from any thread; a line is written whole. */
#ifndef CHAMBERLAIN_BASE_LOG_H
#define CHAMBERLAIN_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum log_field_kind { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_DOUBLE, LOG_FIELD_BOOL };

struct log_field {
    const char *key;
    enum log_field_kind kind;
    const char *str; /* NULL is written as null */
    int64_t integer;
    double real;
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .str = (v)})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_INT, .integer = (int64_t)(v)})
#define LOG_DOUBLE(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_DOUBLE, .real = (v)})
#define LOG_BOOL(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_BOOL, .integer = (v) ? 1 : 0})

/* Sets what is written and how; `role` ("defend", "up", ...) stands in every record. Call once, before
 * threads. */
void log_setup(enum log_level level, enum log_format format, const char *role);

bool log_enabled(enum log_level level);

/* Parses "debug", "info", "warn", "error" / "text", "json"; false when it is none of them. */
bool log_level_parse(const char *text, enum log_level *level);
bool log_format_parse(const char *text, enum log_format *format);

/* Closes the field list that the macros below pass on. */
#define LOG_END ((struct log_field){.key = NULL})

/* Writes one record: the message, then `struct log_field` arguments up to LOG_END. Use the macros. */
void log_write(enum log_level level, const char *message, ...);

#define LOG_AT(level, ...)                                                                                   \
    do {                                                                                                     \
        if (log_enabled(level))                                                                              \
            log_write((level), __VA_ARGS__, LOG_END);                                                        \
    } while (0)

#define LOG_DEBUG(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define LOG_INFO(...) LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define LOG_WARN(...) LOG_AT(LOG_LEVEL_WARN, __VA_ARGS__)
#define LOG_ERROR(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
