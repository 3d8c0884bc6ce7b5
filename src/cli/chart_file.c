#include "cli/chart_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { READ_BYTES = 1 << 16 };

int chart_file_read(const char *path, struct strbuf *text, struct error *err)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return error_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot read %s: %s", path,
                         strerror(errno));
    char chunk[READ_BYTES];
    size_t got;
    int code = 0;
    errno = 0;
    while (code == 0 && (got = fread(chunk, 1, sizeof chunk, file)) > 0) {
        strbuf_add_bytes(text, chunk, got);
        if (text->length > CHART_FILE_MAX_BYTES)
            code = error_set(err, ERR_LIMIT, "%s is larger than a chart file may be (%d MiB)", path,
                             CHART_FILE_MAX_BYTES >> 20);
    }
    if (code == 0 && ferror(file))
        code = error_set(err, ERR_IO, "cannot read %s: %s", path, strerror(errno));
    if (code == 0 && text->failed)
        code = error_set(err, ERR_NO_MEMORY, "no memory for %s", path);
    fclose(file);
    return code;
}

int chart_file_load(const char *path, struct chart_set **set, struct chart_problems *problems,
                    struct error *err)
{
    struct strbuf text;
    strbuf_init(&text);
    int code = chart_file_read(path, &text, err);
    if (code == 0)
        code = chart_set_parse(text.text, text.length, path, set, problems, err);
    strbuf_free(&text);
    return code;
}

void chart_file_add_problems(const char *path, const struct chart_problems *problems, struct strbuf *out)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct chart_problem *problem = &problems->items[i];
        strbuf_printf(out, "%s:%zu:%zu: %s: %s\n", path, problem->line, problem->column,
                      problem->warning ? "warning" : "error", problem->message);
    }
}
