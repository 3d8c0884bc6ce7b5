/* Contexts out of one trace file: one (with its row of runs.csv), or many (the mapping names each row's
 * context). */
#ifndef CHAMBERLAIN_COLLECTOR_TRACEFILE_H
#define CHAMBERLAIN_COLLECTOR_TRACEFILE_H

#include "base/error.h"
#include "collector/mapping.h"
#include "collector/report.h"
#include "collector/runs.h"

#include <stddef.h>

enum { TRACEFILE_CONTEXTS_MAX = 100000 };

#define TRACEFILE_BYTES_MAX ((size_t)1 << 30) /* of samples held while a file is read */

struct tracefile_options {
    const struct mapping *mapping;
    const struct runs *runs;    /* NULL: the mapping gives all names */
    const struct runs_row *run; /* with runs: this file's row. Its names go before the mapping's */
    size_t max_bytes;           /* of samples held; 0: TRACEFILE_BYTES_MAX */
};

/* Reads a file and gives its contexts to the sink in the order of their end times. Nothing is given before
 * the whole file has been read, so that a damaged or cut file gives nothing at all.
 *
 * Errors of the file (counted in files_failed and reported, then returned): ERR_NOT_FOUND, ERR_IO,
 * ERR_CORRUPT; ERR_INVALID when a column of the mapping is not in the file; ERR_LIMIT over max_bytes or
 * TRACEFILE_CONTEXTS_MAX. Others: ERR_NO_MEMORY, or whatever the sink returned. */
int tracefile_read(const char *path, const struct tracefile_options *options, const struct import_sink *sink,
                   struct import_summary *summary, struct error *err);

/* As tracefile_read, from memory. */
int tracefile_read_bytes(const char *name, const void *bytes, size_t length,
                         const struct tracefile_options *options, const struct import_sink *sink,
                         struct import_summary *summary, struct error *err);

/* A file's name without its folder, .gz, and then one more ending: "a/l2901.csv.gz" -> "l2901". NULL when out
 * of memory. */
char *tracefile_stem(const char *path, struct arena *arena);

/* True for the names of trace files: .csv, .tsv or .txt, each also with .gz. runs.csv and hidden files are
 * none. */
bool tracefile_is_name(const char *file_name);

#endif
