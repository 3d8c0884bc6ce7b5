#include "base/log.h"

#include "base/clock.h"
#include "base/strbuf.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum { LOG_MAX_FIELDS = 32 };

static struct {
    enum log_level level;
    enum log_format format;
    const char *role;
} logger = {LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "chamberlain"};

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const format_names[] = {"text", "json"};

void log_setup(enum log_level level, enum log_format format, const char *role)
{
    logger.level = level;
    logger.format = format;
    logger.role = role;
}

bool log_enabled(enum log_level level)
{
    return level >= logger.level;
}

bool log_level_parse(const char *text, enum log_level *level)
{
    for (int i = 0; i < 4; i++)
        if (strcmp(text, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    return false;
}

bool log_format_parse(const char *text, enum log_format *format)
{
    for (int i = 0; i < 2; i++)
        if (strcmp(text, format_names[i]) == 0) {
            *format = (enum log_format)i;
            return true;
        }
    return false;
}

/* True for text that can stand bare in a line: printable ASCII, nothing that separates, nothing empty. */
static bool is_bare(const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s; s++)
        if (*s <= ' ' || *s > '~' || *s == '"' || *s == '\\' || *s == '=')
            return false;
    return *text != '\0';
}

/* The message of a text record: as it is, but it may not break the line or move a terminal's cursor. */
static void add_message(struct strbuf *line, const char *message)
{
    for (const unsigned char *s = (const unsigned char *)message; *s; s++) {
        if (*s < ' ' || *s == 0x7F)
            strbuf_printf(line, "\\x%02x", *s);
        else
            strbuf_add_char(line, (char)*s);
    }
}

static void add_value(struct strbuf *line, const struct log_field *field)
{
    bool text = logger.format == LOG_FORMAT_TEXT;
    switch (field->kind) {
    case LOG_FIELD_STR:
        if (field->str == NULL)
            strbuf_add(line, "null");
        else if (text && is_bare(field->str))
            strbuf_add(line, field->str);
        else
            strbuf_add_json(line, field->str);
        break;
    case LOG_FIELD_INT:
        strbuf_printf(line, "%lld", (long long)field->integer);
        break;
    case LOG_FIELD_DOUBLE:
        if (text)
            strbuf_printf(line, "%.6g", field->real);
        else
            strbuf_add_json_double(line, field->real);
        break;
    case LOG_FIELD_BOOL:
        strbuf_add(line, field->integer ? "true" : "false");
        break;
    }
}

static void add_json_record(struct strbuf *line, const char *when, enum log_level level, const char *message,
                            const struct log_field *fields, size_t count)
{
    strbuf_printf(line, "{\"time\":\"%s\",\"level\":\"%s\",\"role\":", when, level_names[level]);
    strbuf_add_json(line, logger.role);
    strbuf_add(line, ",\"msg\":");
    strbuf_add_json(line, message);
    for (size_t i = 0; i < count; i++) {
        strbuf_add_char(line, ',');
        strbuf_add_json(line, fields[i].key);
        strbuf_add_char(line, ':');
        add_value(line, &fields[i]);
    }
    strbuf_add(line, "}\n");
}

static void add_text_record(struct strbuf *line, const char *when, enum log_level level, const char *message,
                            const struct log_field *fields, size_t count)
{
    strbuf_printf(line, "%s %-5s %s: ", when, level_names[level], logger.role);
    add_message(line, message);
    for (size_t i = 0; i < count; i++) {
        strbuf_printf(line, " %s=", fields[i].key);
        add_value(line, &fields[i]);
    }
    strbuf_add_char(line, '\n');
}

void log_write(enum log_level level, const char *message, ...)
{
    struct log_field fields[LOG_MAX_FIELDS];
    size_t count = 0;
    va_list args;
    va_start(args, message);
    for (struct log_field field = va_arg(args, struct log_field); field.key;
         field = va_arg(args, struct log_field))
        if (count < LOG_MAX_FIELDS)
            fields[count++] = field;
    va_end(args);

    char when[CLOCK_RFC3339_BYTES];
    clock_format_rfc3339(clock_wall_us() / 1000 * 1000, when);
    struct strbuf line;
    strbuf_init(&line);
    if (logger.format == LOG_FORMAT_JSON)
        add_json_record(&line, when, level, message, fields, count);
    else
        add_text_record(&line, when, level, message, fields, count);
    /* One write a record: records of several threads and processes do not mix within a line. A pipe that is
     * full may take a part of a long one. */
    for (size_t done = 0; !line.failed && done < line.length;) {
        ssize_t written = write(STDERR_FILENO, line.text + done, line.length - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            break; /* nowhere to say so */
        done += (size_t)written;
    }
    strbuf_free(&line);
}
