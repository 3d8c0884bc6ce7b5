#include "collector/mapping_text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS_MAX = 9 };

/* "int", "lower", "upper", "03"; false when it is none of them. */
static bool format_parse(const char *text, struct mapping_piece *piece)
{
    if (strcmp(text, "int") == 0)
        piece->format = FORMAT_INT;
    else if (strcmp(text, "lower") == 0)
        piece->format = FORMAT_LOWER;
    else if (strcmp(text, "upper") == 0)
        piece->format = FORMAT_UPPER;
    else if (text[0] == '0' && text[1] >= '1' && text[1] <= '0' + DIGITS_MAX && text[2] == '\0') {
        piece->format = FORMAT_INT;
        piece->digits = text[1] - '0';
    } else
        return false;
    return true;
}

/* The piece between braces: `text` is COLUMN, COLUMN:FORMAT, @file or @dir. */
static int braces_parse(char *text, struct mapping_piece *piece, struct error *err)
{
    if (strcmp(text, "@file") == 0) {
        piece->kind = PIECE_FILE;
        return 0;
    }
    if (strcmp(text, "@dir") == 0) {
        piece->kind = PIECE_DIR;
        return 0;
    }
    piece->kind = PIECE_COLUMN;
    piece->text = text;
    char *colon = strrchr(text, ':'); /* the last one, since columns may have colons in their names */
    if (colon != NULL) {
        if (!format_parse(colon + 1, piece))
            return error_set(err, ERR_INVALID,
                             "\"%s\" is no format; use int, lower, upper, or 01 to 09 for a padded number",
                             colon + 1);
        *colon = '\0';
    }
    if (text[0] == '\0')
        return error_set(err, ERR_INVALID, "the braces name no column; write {COLUMN}, {@file} or {@dir}");
    return 0;
}

/* Takes one piece from `*at`. */
static int piece_parse(const char **at, struct arena *arena, struct mapping_piece *piece, struct error *err)
{
    const char *text = *at;
    *piece = (struct mapping_piece){.kind = PIECE_LITERAL};
    if (text[0] == '{' && text[1] != '{') {
        const char *close = strchr(text, '}');
        if (close == NULL)
            return error_set(err, ERR_INVALID,
                             "a brace is opened and never closed; write {COLUMN}, or {{ for a brace");
        char *inside = arena_strndup(arena, text + 1, (size_t)(close - text) - 1);
        *at = close + 1;
        return inside == NULL ? error_set(err, ERR_NO_MEMORY, "no memory") : braces_parse(inside, piece, err);
    }
    if (text[0] == '}' && text[1] != '}')
        return error_set(err, ERR_INVALID, "a brace is closed that was not opened; write }} for a brace");
    size_t length = 1;
    bool brace = text[0] == '{' || text[0] == '}';
    if (!brace)
        length = strcspn(text, "{}");
    piece->text = arena_strndup(arena, text, length);
    *at = text + length + brace;
    return piece->text == NULL ? error_set(err, ERR_NO_MEMORY, "no memory") : 0;
}

int mapping_text_parse(const char *source, struct arena *arena, struct mapping_text *text, struct error *err)
{
    struct mapping_piece *pieces = arena_calloc(arena, MAPPING_PIECES_MAX, sizeof(*pieces));
    if (pieces == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory");
    size_t count = 0;
    while (*source != '\0') {
        if (count == MAPPING_PIECES_MAX)
            return error_set(err, ERR_LIMIT, "the text has more than %d pieces", MAPPING_PIECES_MAX);
        int code = piece_parse(&source, arena, &pieces[count++], err);
        if (code != 0)
            return code;
    }
    text->pieces = pieces;
    text->count = count;
    return 0;
}

/* A whole number however it was written: 1, 1.0, 1e0. */
static int render_int(const struct mapping_piece *piece, const char *cell, struct strbuf *out,
                      struct error *err)
{
    double value;
    if (!number_parse(cell, strlen(cell), '.', &value) || value != trunc(value) || fabs(value) > 9e15)
        return error_set(err, ERR_INVALID, "column \"%s\" is \"%.40s\", which is no whole number",
                         piece->text, cell);
    strbuf_printf(out, "%0*lld", piece->digits, (long long)value);
    return 0;
}

static int render_column(const struct mapping_piece *piece, mapping_lookup *lookup, void *arg,
                         struct strbuf *out, struct error *err)
{
    const char *cell = lookup(arg, piece->text);
    if (cell == NULL)
        return error_set(err, ERR_INVALID, "there is no column \"%s\"", piece->text);
    if (piece->format == FORMAT_PLAIN)
        strbuf_add(out, cell);
    else if (piece->format == FORMAT_INT)
        return render_int(piece, cell, out, err);
    else
        for (; *cell != '\0'; cell++) {
            char c = *cell;
            bool change = piece->format == FORMAT_LOWER ? c >= 'A' && c <= 'Z' : c >= 'a' && c <= 'z';
            strbuf_add_char(out, change ? (char)(c ^ 0x20) : c);
        }
    return 0;
}

int mapping_text_render(const struct mapping_text *text, mapping_lookup *lookup, void *arg,
                        const char *file_stem, const char *dir_name, struct strbuf *out, struct error *err)
{
    size_t start = out->length;
    for (size_t i = 0; i < text->count; i++) {
        const struct mapping_piece *piece = &text->pieces[i];
        int code = 0;
        if (piece->kind == PIECE_COLUMN)
            code = render_column(piece, lookup, arg, out, err);
        else
            strbuf_add(out, piece->kind == PIECE_LITERAL ? piece->text
                            : piece->kind == PIECE_FILE  ? file_stem
                                                         : dir_name);
        if (code != 0)
            return code;
    }
    for (size_t i = 0; i < text->value_count && !out->failed; i++) {
        if (strcmp(out->text + start, text->values[i].from) != 0)
            continue;
        out->length = start;
        strbuf_add(out, text->values[i].to);
        break;
    }
    return out->failed ? error_set(err, ERR_NO_MEMORY, "no memory for a name") : 0;
}
