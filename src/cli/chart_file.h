/* A chart file on disk, and what is wrong with it. */
#ifndef CHAMBERLAIN_CLI_CHART_FILE_H
#define CHAMBERLAIN_CLI_CHART_FILE_H

#include "base/strbuf.h"
#include "chart/chartset.h"

/* Reads a whole file into `text`. ERR_NOT_FOUND, ERR_IO with the path; ERR_LIMIT over CHART_FILE_MAX_BYTES;
 * ERR_NO_MEMORY. */
int chart_file_read(const char *path, struct strbuf *text, struct error *err);

/* Reads and parses. Problems are appended to `problems` (initialised). ERR_INVALID: the file has errors,
 * which are all in `problems`; other codes: chart_file_read's, or none of the file's own doing. */
int chart_file_load(const char *path, struct chart_set **set, struct chart_problems *problems,
                    struct error *err);

/* "path:line:column: error: message", a line each. */
void chart_file_add_problems(const char *path, const struct chart_problems *problems, struct strbuf *out);

#endif
