#include "chart/context.h"

#include "base/clock.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

/* The fields that are not "extra", in the order in which they are written. */
enum field {
    FIELD_ID,
    FIELD_TOOL,
    FIELD_CHAMBER,
    FIELD_RECIPE,
    FIELD_LOT,
    FIELD_WAFER,
    FIELD_STARTED_AT,
    FIELD_ENDED_AT,
    FIELD_SVID_COUNT,
    FIELD_POINT_COUNT,
    FIELD_CHUNK_COUNT,
    FIELD_COUNT
};

static const char *const FIELD_NAMES[FIELD_COUNT] = {"context_id", "tool_id",     "chamber_id", "recipe",
                                                     "lot",        "wafer",       "started_at", "ended_at",
                                                     "svid_count", "point_count", "chunk_count"};

static bool field_known(const char *name)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(name, FIELD_NAMES[i]) == 0)
            return true;
    }
    return false;
}

static int out_of_memory(struct error *err)
{
    return error_set(err, ERR_NO_MEMORY, "out of memory while reading an announcement");
}

/* A JSON number's text; a real keeps its point, so that it stays one. */
static void number_format(const json_t *value, struct strbuf *text)
{
    if (json_is_integer(value)) {
        strbuf_printf(text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        return;
    }
    size_t begin = text->length;
    strbuf_add_json_double(text, json_real_value(value));
    if (strpbrk(text->text + begin, ".eEn") == NULL)
        strbuf_add(text, ".0");
}

/* jansson's own writer would give 0.1 as 0.10000000000000001; here a number is the shortest text that reads
 * the same. The depth is bounded by the parser's (JSON_PARSER_MAX_DEPTH). */
static void json_format(const json_t *value, struct strbuf *text)
{
    size_t i;
    const char *key;
    json_t *item;
    const char *comma = "";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        strbuf_add_char(text, '{');
        json_object_foreach((json_t *)(uintptr_t)value, key, item)
        {
            strbuf_add(text, comma);
            strbuf_add_json(text, key);
            strbuf_add_char(text, ':');
            json_format(item, text);
            comma = ",";
        }
        strbuf_add_char(text, '}');
        break;
    case JSON_ARRAY:
        strbuf_add_char(text, '[');
        json_array_foreach(value, i, item)
        {
            strbuf_add(text, comma);
            json_format(item, text);
            comma = ",";
        }
        strbuf_add_char(text, ']');
        break;
    case JSON_STRING:
        strbuf_add_json(text, json_string_value(value));
        break;
    case JSON_INTEGER:
    case JSON_REAL:
        number_format(value, text);
        break;
    case JSON_TRUE:
        strbuf_add(text, "true");
        break;
    case JSON_FALSE:
        strbuf_add(text, "false");
        break;
    case JSON_NULL:
        strbuf_add(text, "null");
        break;
    }
}

/* A text field; lot, wafer and recipe may also come as a whole number or null. */
static int read_text(const json_t *root, enum field field, struct arena *arena, const char **text,
                     struct error *err)
{
    bool required = field == FIELD_ID || field == FIELD_TOOL || field == FIELD_CHAMBER;
    const json_t *value = json_object_get(root, FIELD_NAMES[field]);
    *text = "";
    if (!required && (value == NULL || json_is_null(value)))
        return 0;
    if (value == NULL)
        return error_set(err, ERR_INVALID,
                         "the announcement has no %s; it must be a string that is not empty",
                         FIELD_NAMES[field]);
    if (!required && json_is_integer(value))
        *text = arena_printf(arena, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    else if (json_is_string(value))
        *text = arena_strdup(arena, json_string_value(value));
    else
        return error_set(err, ERR_INVALID, "%s must be a string", FIELD_NAMES[field]);
    return *text ? 0 : out_of_memory(err);
}

static int read_time(const json_t *root, enum field field, int64_t *us, struct error *err)
{
    const char *text = json_string_value(json_object_get(root, FIELD_NAMES[field]));
    if (text == NULL)
        return error_set(err, ERR_INVALID,
                         "%s must be a time as RFC 3339 text, such as \"2026-01-31T08:00:00Z\"",
                         FIELD_NAMES[field]);
    int code = clock_parse_rfc3339(text, us, err);
    return code ? error_prefix(err, code, "%s", FIELD_NAMES[field]) : 0;
}

static int read_count(const json_t *root, enum field field, int64_t *count, struct error *err)
{
    const json_t *value = json_object_get(root, FIELD_NAMES[field]);
    *count = 0;
    if (value == NULL || json_is_null(value))
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return error_set(err, ERR_INVALID, "%s must be a whole number, 0 or more", FIELD_NAMES[field]);
    *count = json_integer_value(value);
    return 0;
}

static int read_extra(json_t *root, struct arena *arena, const char **extra, struct error *err)
{
    struct strbuf text;
    strbuf_init(&text);
    const char *key, *comma = "";
    json_t *value;
    strbuf_add_char(&text, '{');
    json_object_foreach(root, key, value)
    {
        if (field_known(key))
            continue;
        strbuf_add(&text, comma);
        strbuf_add_json(&text, key);
        strbuf_add_char(&text, ':');
        json_format(value, &text);
        comma = ",";
    }
    strbuf_add_char(&text, '}');
    *extra = text.failed ? NULL : arena_strndup(arena, text.text, text.length);
    strbuf_free(&text);
    return *extra ? 0 : out_of_memory(err);
}

static int read_fields(json_t *root, struct arena *arena, struct context *context, struct error *err)
{
    const struct {
        enum field field;
        const char **text;
    } texts[] = {{FIELD_ID, &context->id},           {FIELD_TOOL, &context->tool},
                 {FIELD_CHAMBER, &context->chamber}, {FIELD_RECIPE, &context->recipe},
                 {FIELD_LOT, &context->lot},         {FIELD_WAFER, &context->wafer}};
    int code = 0;
    for (size_t i = 0; code == 0 && i < sizeof texts / sizeof *texts; i++)
        code = read_text(root, texts[i].field, arena, texts[i].text, err);
    if (code == 0)
        code = read_time(root, FIELD_STARTED_AT, &context->start_us, err);
    if (code == 0)
        code = read_time(root, FIELD_ENDED_AT, &context->end_us, err);
    if (code == 0)
        code = read_count(root, FIELD_SVID_COUNT, &context->svid_count, err);
    if (code == 0)
        code = read_count(root, FIELD_POINT_COUNT, &context->point_count, err);
    if (code == 0)
        code = read_count(root, FIELD_CHUNK_COUNT, &context->chunk_count, err);
    if (code == 0)
        code = read_extra(root, arena, &context->extra_json, err);
    return code ? code : context_check(context, err);
}

int context_parse(const char *json, size_t length, struct arena *arena, struct context *context,
                  struct error *err)
{
    if (length > CONTEXT_JSON_MAX_BYTES)
        return error_set(err, ERR_LIMIT, "the announcement has %zu bytes; at most %d are read", length,
                         CONTEXT_JSON_MAX_BYTES);
    json_error_t problem;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &problem);
    if (root == NULL)
        return error_set(err,
                         json_error_code(&problem) == json_error_out_of_memory ? ERR_NO_MEMORY : ERR_INVALID,
                         "the announcement is not JSON: line %d, column %d: %s", problem.line, problem.column,
                         problem.text);
    *context = (struct context){0};
    int code = json_is_object(root) ? read_fields(root, arena, context, err)
                                    : error_set(err, ERR_INVALID, "the announcement must be a JSON object");
    json_decref(root);
    return code;
}

static int check_name(enum field field, const char *text, bool required, struct error *err)
{
    const char *name = FIELD_NAMES[field];
    if (text == NULL || (required && *text == '\0'))
        return error_set(err, ERR_INVALID, "%s must not be empty", name);
    if (strlen(text) > CONTEXT_NAME_MAX_BYTES)
        return error_set(err, ERR_LIMIT, "%s has %zu bytes; at most %d are allowed", name, strlen(text),
                         CONTEXT_NAME_MAX_BYTES);
    for (const char *p = text; *p; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return error_set(err, ERR_INVALID, "%s has a control character (0x%02x) at byte %zu", name,
                             (unsigned)(unsigned char)*p, (size_t)(p - text));
    }
    return 0;
}

int context_check(const struct context *context, struct error *err)
{
    int code = check_name(FIELD_ID, context->id, true, err);
    if (code == 0)
        code = check_name(FIELD_TOOL, context->tool, true, err);
    if (code == 0)
        code = check_name(FIELD_CHAMBER, context->chamber, true, err);
    if (code == 0)
        code = check_name(FIELD_RECIPE, context->recipe, false, err);
    if (code == 0)
        code = check_name(FIELD_LOT, context->lot, false, err);
    if (code == 0)
        code = check_name(FIELD_WAFER, context->wafer, false, err);
    if (code)
        return code;
    if (context->end_us < context->start_us)
        return error_set(err, ERR_INVALID, "ended_at lies before started_at (by %" PRId64 " us)",
                         context->start_us - context->end_us);
    if (context->svid_count < 0 || context->point_count < 0 || context->chunk_count < 0)
        return error_set(err, ERR_INVALID, "svid_count, point_count and chunk_count must not be negative");
    if (context->extra_json == NULL || context->extra_json[0] != '{')
        return error_set(err, ERR_INVALID,
                         "the unknown fields must be the text of a JSON object (\"{}\" for none)");
    return 0;
}

void context_format(const struct context *context, struct strbuf *json)
{
    const char *texts[] = {context->id,     context->tool, context->chamber,
                           context->recipe, context->lot,  context->wafer};
    const int64_t counts[] = {context->svid_count, context->point_count, context->chunk_count};
    char start[CLOCK_RFC3339_BYTES], end[CLOCK_RFC3339_BYTES];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        strbuf_printf(json, "%s\"%s\":", i ? "," : "{", FIELD_NAMES[i]);
        strbuf_add_json(json, texts[i]);
    }
    strbuf_printf(json, ",\"%s\":\"%s\",\"%s\":\"%s\"", FIELD_NAMES[FIELD_STARTED_AT],
                  clock_format_rfc3339(context->start_us, start), FIELD_NAMES[FIELD_ENDED_AT],
                  clock_format_rfc3339(context->end_us, end));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        strbuf_printf(json, ",\"%s\":%" PRId64, FIELD_NAMES[FIELD_SVID_COUNT + i], counts[i]);
    size_t extra = strlen(context->extra_json);
    if (extra > 2) {
        strbuf_add_char(json, ',');
        strbuf_add_bytes(json, context->extra_json + 1, extra - 2);
    }
    strbuf_add_char(json, '}');
}

static json_t *extra_load(const struct context *context)
{
    if (context->extra_json == NULL || strcmp(context->extra_json, "{}") == 0)
        return NULL;
    return json_loads(context->extra_json, 0, NULL);
}

static const char *extra_attribute(const json_t *value, struct arena *arena)
{
    if (json_is_string(value))
        return arena_strdup(arena, json_string_value(value));
    if (json_is_boolean(value))
        return json_is_true(value) ? "true" : "false";
    if (!json_is_number(value))
        return NULL;
    struct strbuf text;
    strbuf_init(&text);
    number_format(value, &text);
    const char *copy = text.failed ? NULL : arena_strdup(arena, text.text);
    strbuf_free(&text);
    return copy;
}

const char *context_attribute(const struct context *context, const char *name, struct arena *arena)
{
    const struct {
        const char *name, *value;
    } known[] = {{"tool", context->tool},
                 {"chamber", context->chamber},
                 {"recipe", context->recipe},
                 {"lot", context->lot},
                 {"wafer", context->wafer}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0)
            return known[i].value;
    }
    json_t *extra = extra_load(context);
    const char *value = extra_attribute(json_object_get(extra, name), arena);
    json_decref(extra);
    return value;
}

bool context_is_low_quality(const struct context *context)
{
    json_t *extra = extra_load(context);
    const char *quality = json_string_value(json_object_get(extra, "quality"));
    bool low = quality && strcmp(quality, "low") == 0;
    json_decref(extra);
    return low;
}

int context_compare_event(int64_t a_end_us, const char *a_id, int64_t b_end_us, const char *b_id)
{
    if (a_end_us != b_end_us)
        return a_end_us < b_end_us ? -1 : 1;
    return strcmp(a_id, b_id);
}
