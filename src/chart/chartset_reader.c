#include "chart/chartset_reader.h"

#include "chart/chartset_struct.h"
#include "chart/nearest.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void complain(struct chart_reader *reader, const struct yaml_node *node, bool warning,
                     const char *format, va_list args) __attribute__((format(printf, 4, 0)));

static void complain(struct chart_reader *reader, const struct yaml_node *node, bool warning,
                     const char *format, va_list args)
{
    struct error text;
    error_vset(&text, ERR_INVALID, format, args);
    chart_problems_add(reader->problems, node->line, node->column, warning, text.text);
}

void reader_wrong(struct chart_reader *reader, const struct yaml_node *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(reader, node, false, format, args);
    va_end(args);
}

void reader_warn(struct chart_reader *reader, const struct yaml_node *node, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(reader, node, true, format, args);
    va_end(args);
}

void reader_no_memory(struct chart_reader *reader)
{
    reader->code = error_set(reader->err, ERR_NO_MEMORY, "out of memory while reading a chart file");
}

const char *reader_keep(struct chart_reader *reader, const char *text, size_t length)
{
    const char *copy = arena_strndup(&reader->set->arena, text, length);
    if (copy == NULL)
        reader_no_memory(reader);
    return copy ? copy : "";
}

const char *reader_kind_name(const struct yaml_node *node)
{
    return node->kind == YAML_LIST ? "a list" : node->kind == YAML_MAPPING ? "a mapping" : "a single value";
}

/* "unknown KIND 'NAME'; did you mean 'X'?" */
static void unknown(struct chart_reader *reader, const struct yaml_node *node, const char *kind,
                    const char *const *names, size_t count)
{
    const char *nearest = nearest_name(node->text, names, count);
    char known[256] = "";
    for (size_t i = 0, used = 0; nearest == NULL && i < count; i++) {
        size_t room = sizeof known - used;
        int written = snprintf(known + used, room, "%s%s", i ? ", " : "", names[i]);
        if (written < 0 || (size_t)written >= room)
            break;
        used += (size_t)written;
    }
    if (nearest)
        reader_wrong(reader, node, "unknown %s '%.100s'; did you mean '%s'?", kind, node->text, nearest);
    else
        reader_wrong(reader, node, "unknown %s '%.100s' (known: %s)", kind, node->text, known);
}

/* Sorts the values of a mapping by the list of known keys: values[i] is that of keys[i] or NULL. `where`
 * names the mapping. False when the node is no mapping. */
bool reader_mapping(struct chart_reader *reader, const struct yaml_node *node, const char *where,
                    const char *const *keys, size_t count, const struct yaml_node **values)
{
    for (size_t i = 0; i < count; i++)
        values[i] = NULL;
    if (node->kind != YAML_MAPPING) {
        reader_wrong(reader, node, "%s must be a mapping of keys and values, but is %s", where,
                     reader_kind_name(node));
        return false;
    }
    for (const struct yaml_node *key = node->first; key; key = key->next->next) {
        if (key->kind != YAML_SCALAR)
            continue; /* reported by the tree */
        size_t i = 0;
        while (i < count && strcmp(key->text, keys[i]) != 0)
            i++;
        char kind[64];
        snprintf(kind, sizeof kind, "key in %s", where);
        if (i == count)
            unknown(reader, key, kind, keys, count);
        else if (values[i] == NULL)
            values[i] = key->next;
    }
    return true;
}

/* A text of 1 (or 0, when `empty`) to `most` bytes without control characters; NULL after a complaint. */
const char *reader_text(struct chart_reader *reader, const struct yaml_node *node, const char *key,
                        size_t most, bool empty)
{
    if (node->kind != YAML_SCALAR) {
        reader_wrong(reader, node, "%s must be a text, but is %s", key, reader_kind_name(node));
        return NULL;
    }
    if (node->length == 0 && !empty) {
        reader_wrong(reader, node, "%s must not be empty", key);
        return NULL;
    }
    if (node->length > most) {
        reader_wrong(reader, node, "%s has %zu bytes; at most %zu are allowed", key, node->length, most);
        return NULL;
    }
    for (const char *p = node->text; *p; p++) {
        if (((unsigned char)*p < 0x20 && !(*p == '\n' && most == CHART_NOTES_MAX_BYTES)) || *p == 0x7f) {
            reader_wrong(reader, node, "%s must not contain control characters", key);
            return NULL;
        }
    }
    return reader_keep(reader, node->text, node->length);
}

static bool reader_number(struct chart_reader *reader, const struct yaml_node *node, const char *key,
                          double *number)
{
    bool plain = node->kind == YAML_SCALAR && node->style == YAML_PLAIN && node->length > 0;
    char *end = NULL;
    double value = plain ? strtod(node->text, &end) : 0;
    /* strtod also reads hexadecimal, "inf" and "nan". */
    if (!plain || *end != '\0' || !isfinite(value) || strpbrk(node->text, "xXnN \t\n")) {
        reader_wrong(reader, node, "%s must be a number, but is %s%.60s%s", key,
                     node->kind == YAML_SCALAR ? "'" : "",
                     node->kind == YAML_SCALAR ? node->text : reader_kind_name(node),
                     node->kind == YAML_SCALAR ? "'" : "");
        return false;
    }
    *number = value;
    return true;
}

/* A number in low..high; the bounds themselves belong to it unless `open`. */
void reader_bounded(struct chart_reader *reader, const struct yaml_node *node, const char *key, double low,
                    double high, bool open, double *number)
{
    double value;
    if (!reader_number(reader, node, key, &value))
        return;
    if (open ? value <= low || value > high : value < low || value > high)
        reader_wrong(reader, node, "%s is %g; it must be %s %g and at most %g", key, value,
                     open ? "over" : "at least", low, high);
    else
        *number = value;
}

void reader_size(struct chart_reader *reader, const struct yaml_node *node, const char *key, size_t low,
                 size_t high, size_t *size)
{
    double value;
    if (!reader_number(reader, node, key, &value))
        return;
    if (value != floor(value) || value < (double)low || value > (double)high)
        reader_wrong(reader, node, "%s is %g; it must be a whole number from %zu to %zu", key, value, low,
                     high);
    else
        *size = (size_t)value;
}

void reader_boolean(struct chart_reader *reader, const struct yaml_node *node, const char *key, bool *value)
{
    bool yes = node->kind == YAML_SCALAR && strcmp(node->text, "true") == 0;
    bool no = node->kind == YAML_SCALAR && strcmp(node->text, "false") == 0;
    if (!yes && !no)
        reader_wrong(reader, node, "%s must be true or false", key);
    else
        *value = yes;
}

/* The index of a scalar among names; `count` after a complaint. */
size_t reader_choice(struct chart_reader *reader, const struct yaml_node *node, const char *kind,
                     const char *const *names, size_t count)
{
    if (node->kind != YAML_SCALAR) {
        reader_wrong(reader, node, "%s must be one word, but is %s", kind, reader_kind_name(node));
        return count;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(node->text, names[i]) == 0)
            return i;
    }
    unknown(reader, node, kind, names, count);
    return count;
}

void reader_severity(struct chart_reader *reader, const struct yaml_node *node, enum severity *severity)
{
    static const char *const names[] = {"info", "warning", "critical"};
    size_t i = reader_choice(reader, node, "severity", names, 3);
    if (i < 3)
        *severity = (enum severity)(SEVERITY_INFO + i);
}
