#include "chart/yamltree.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

struct builder {
    yaml_parser_t parser;
    struct arena *arena;
    yaml_report_fn *report;
    void *arg;
    struct yaml_node *open[YAML_DEPTH_MAX]; /* lists and mappings that are being read */
    struct yaml_node *last[YAML_DEPTH_MAX]; /* the newest child of each */
    size_t depth;
    struct yaml_node *root;
    size_t documents;
    bool problems, stopped, out_of_memory;
};

static void report(struct builder *builder, const yaml_mark_t *mark, const char *message)
{
    builder->problems = true;
    builder->report(builder->arg, mark->line + 1, mark->column + 1, message);
}

static void stop(struct builder *builder, const yaml_mark_t *mark, const char *message)
{
    report(builder, mark, message);
    builder->stopped = true;
}

/* A reader error (bytes that are not UTF-8) comes with an offset instead of a mark. */
static yaml_mark_t mark_at(const char *text, size_t length, size_t offset)
{
    yaml_mark_t mark = {0};
    for (size_t i = 0; i < offset && i < length; i++) {
        if (text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if (((unsigned char)text[i] & 0xC0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

static void report_syntax(struct builder *builder, const char *text, size_t length)
{
    const yaml_parser_t *parser = &builder->parser;
    char message[256];
    if (parser->error == YAML_MEMORY_ERROR) {
        builder->out_of_memory = true;
        return;
    }
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_READER_ERROR)
        mark = mark_at(text, length, parser->problem_offset);
    snprintf(message, sizeof message, "not YAML: %s%s%s", parser->problem ? parser->problem : "syntax error",
             parser->context ? ", " : "", parser->context ? parser->context : "");
    stop(builder, &mark, message);
}

static struct yaml_node *add_node(struct builder *builder, enum yaml_kind kind, const yaml_mark_t *mark)
{
    struct yaml_node *node = arena_calloc(builder->arena, 1, sizeof *node);
    if (node == NULL) {
        builder->out_of_memory = builder->stopped = true;
        return NULL;
    }
    node->kind = kind;
    node->line = mark->line + 1;
    node->column = mark->column + 1;
    if (builder->depth == 0) {
        builder->root = node;
        return node;
    }
    struct yaml_node *parent = builder->open[builder->depth - 1], *last = builder->last[builder->depth - 1];
    if (last)
        last->next = node;
    else
        parent->first = node;
    builder->last[builder->depth - 1] = node;
    parent->count++; /* of a mapping: keys and values; halved when it ends */
    return node;
}

static enum yaml_style style_of(yaml_scalar_style_t style)
{
    switch (style) {
    case YAML_SINGLE_QUOTED_SCALAR_STYLE:
        return YAML_SINGLE_QUOTED;
    case YAML_DOUBLE_QUOTED_SCALAR_STYLE:
        return YAML_DOUBLE_QUOTED;
    case YAML_LITERAL_SCALAR_STYLE:
    case YAML_FOLDED_SCALAR_STYLE:
        return YAML_BLOCK;
    default:
        return YAML_PLAIN;
    }
}

static void add_scalar(struct builder *builder, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (length > YAML_SCALAR_MAX_BYTES) {
        stop(builder, &event->start_mark, "a text of more than 65536 bytes");
        return;
    }
    if (memchr(text, '\0', length)) {
        stop(builder, &event->start_mark, "a text with a zero byte");
        return;
    }
    struct yaml_node *node = add_node(builder, YAML_SCALAR, &event->start_mark);
    if (node == NULL)
        return;
    node->style = style_of(event->data.scalar.style);
    node->text = arena_strndup(builder->arena, text, length);
    node->length = length;
    if (node->text == NULL)
        builder->out_of_memory = builder->stopped = true;
}

static void begin_collection(struct builder *builder, enum yaml_kind kind, const yaml_event_t *event)
{
    struct yaml_node *node = add_node(builder, kind, &event->start_mark);
    if (node == NULL)
        return;
    if (builder->depth == YAML_DEPTH_MAX) {
        stop(builder, &event->start_mark, "nested deeper than a chart file can be (16 levels)");
        return;
    }
    builder->last[builder->depth] = NULL;
    builder->open[builder->depth++] = node;
}

static void check_keys(struct builder *builder, const struct yaml_node *mapping)
{
    yaml_mark_t mark = {.line = mapping->line - 1, .column = mapping->column - 1};
    if (mapping->count > YAML_KEYS_MAX) {
        stop(builder, &mark, "a mapping of more than 256 keys");
        return;
    }
    for (const struct yaml_node *key = mapping->first; key; key = key->next->next) {
        mark = (yaml_mark_t){.line = key->line - 1, .column = key->column - 1};
        if (key->kind != YAML_SCALAR) {
            report(builder, &mark, "a key must be a single word");
            continue;
        }
        for (const struct yaml_node *other = mapping->first; other != key; other = other->next->next) {
            char message[256];
            if (other->kind != YAML_SCALAR || strcmp(other->text, key->text) != 0)
                continue;
            snprintf(message, sizeof message, "the key '%.100s' is given a second time (first in line %zu)",
                     key->text, other->line);
            report(builder, &mark, message);
            break;
        }
    }
}

static void end_collection(struct builder *builder)
{
    struct yaml_node *node = builder->open[--builder->depth];
    if (node->kind != YAML_MAPPING)
        return;
    node->count /= 2;
    check_keys(builder, node);
}

static void refuse_references(struct builder *builder, const yaml_event_t *event, const void *anchor,
                              const void *tag)
{
    if (anchor)
        stop(builder, &event->start_mark,
             "anchors (&) are not read in chart files; what charts share goes under 'defaults:'");
    else if (tag)
        stop(builder, &event->start_mark, "tags (!) are not read in chart files");
}

static void take_event(struct builder *builder, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++builder->documents > 1)
            stop(builder, &event->start_mark, "a second document; a chart file is one document");
        break;
    case YAML_ALIAS_EVENT:
        stop(builder, &event->start_mark,
             "aliases (*) are not read in chart files; what charts share goes under 'defaults:' "
             "(a text that begins with * needs quotes)");
        break;
    case YAML_SCALAR_EVENT:
        refuse_references(builder, event, event->data.scalar.anchor, event->data.scalar.tag);
        if (!builder->stopped)
            add_scalar(builder, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        refuse_references(builder, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
        if (!builder->stopped)
            begin_collection(builder, YAML_LIST, event);
        break;
    case YAML_MAPPING_START_EVENT:
        refuse_references(builder, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        if (!builder->stopped)
            begin_collection(builder, YAML_MAPPING, event);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        end_collection(builder);
        break;
    default:
        break;
    }
}

int yaml_tree_parse(const char *text, size_t length, struct arena *arena, yaml_report_fn *report_fn,
                    void *arg, struct yaml_node **root, struct error *err)
{
    struct builder builder = {.arena = arena, .report = report_fn, .arg = arg};
    *root = NULL;
    if (!yaml_parser_initialize(&builder.parser))
        return error_set(err, ERR_NO_MEMORY, "out of memory while reading YAML");
    yaml_parser_set_input_string(&builder.parser, (const unsigned char *)text, length);
    yaml_parser_set_encoding(&builder.parser, YAML_UTF8_ENCODING);
    for (bool done = false; !done && !builder.stopped;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&builder.parser, &event)) {
            report_syntax(&builder, text, length);
            break;
        }
        done = event.type == YAML_STREAM_END_EVENT;
        take_event(&builder, &event);
        yaml_event_delete(&event);
    }
    bool syntax = builder.parser.error != YAML_NO_ERROR;
    yaml_parser_delete(&builder.parser);
    if (builder.out_of_memory)
        return error_set(err, ERR_NO_MEMORY, "out of memory while reading YAML");
    if (!builder.stopped && !syntax)
        *root = builder.root;
    return builder.problems ? error_set(err, ERR_INVALID, "the YAML has problems") : 0;
}

/* A place in the file. */
struct place {
    const char *p, *end;
    size_t line, column;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Over one character (a UTF-8 sequence counts once). */
static void step(struct place *place)
{
    if (place->p == place->end)
        return;
    char c = *place->p++;
    if (c == '\n') {
        place->line++;
        place->column = 1;
        return;
    }
    while (place->p < place->end && ((unsigned char)*place->p & 0xC0) == 0x80)
        place->p++;
    place->column++;
}

static void skip_blanks(struct place *place, enum yaml_style style)
{
    while (place->p < place->end) {
        bool fold = style == YAML_DOUBLE_QUOTED && *place->p == '\\' && place->p + 1 < place->end &&
                    is_blank(place->p[1]);
        bool escaped = style == YAML_DOUBLE_QUOTED && *place->p == '\\' && place->p + 1 < place->end &&
                       (place->p[1] == 't' || place->p[1] == 'n' || place->p[1] == 'r');
        if (!fold && !escaped && !is_blank(*place->p))
            return;
        if (fold || escaped)
            step(place);
        step(place);
    }
}

/* Over what stands in the file for one character that is not blank. */
static void skip_one(struct place *place, enum yaml_style style)
{
    static const char hex_escapes[] = "xuU";
    static const size_t hex_digits[] = {2, 4, 8};
    bool more = place->p + 1 < place->end;
    if (style == YAML_SINGLE_QUOTED && more && place->p[0] == '\'' && place->p[1] == '\'')
        step(place);
    if (style == YAML_DOUBLE_QUOTED && more && *place->p == '\\') {
        step(place);
        const char *hex = strchr(hex_escapes, *place->p);
        for (size_t i = hex && *hex ? hex_digits[hex - hex_escapes] : 0; i > 0; i--)
            step(place);
    }
    step(place);
}

void yaml_tree_locate(const char *file, size_t file_length, const struct yaml_node *scalar, size_t offset,
                      size_t *line, size_t *column)
{
    struct place place = {file, file + file_length, 1, 1};
    while (place.p < place.end && place.line < scalar->line) {
        const char *newline = memchr(place.p, '\n', (size_t)(place.end - place.p));
        place.p = newline ? newline + 1 : place.end;
        place.line++;
    }
    while (place.p < place.end && place.column < scalar->column)
        step(&place);
    if (scalar->style == YAML_SINGLE_QUOTED || scalar->style == YAML_DOUBLE_QUOTED)
        step(&place);
    size_t line_before = place.line;
    while (scalar->style == YAML_BLOCK && place.p < place.end && place.line == line_before)
        step(&place);
    for (size_t i = 0; i < offset && i < scalar->length; i++) {
        if (is_blank(scalar->text[i]) || ((unsigned char)scalar->text[i] & 0xC0) == 0x80)
            continue;
        skip_blanks(&place, scalar->style);
        skip_one(&place, scalar->style);
    }
    if (offset < scalar->length)
        skip_blanks(&place, scalar->style);
    *line = place.line;
    *column = place.column;
}
