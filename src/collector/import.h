/* What `chamberlain import PATH...` reads: a path becomes files, and files become contexts.
 *
 * | PATH | what is read |
 * | --- | --- |
 * | a folder with runs.csv, or a runs.csv | every run of it, in its order: `<context_id>.csv` or .tsv, each
 * also .gz | | a folder without | every trace file that the mapping is for, in the order of their names | | a
 * file, its folder has a runs.csv that lists it | that run | | any other file | the contexts the mapping
 * finds in it | A mapping that names contexts itself (key `context`) does not look at runs.csv. */
#ifndef CHAMBERLAIN_COLLECTOR_IMPORT_H
#define CHAMBERLAIN_COLLECTOR_IMPORT_H

#include "base/error.h"
#include "collector/mapping.h"
#include "collector/report.h"

enum { IMPORT_FOLDER_FILES_MAX = 1000000 };

/* Reads one path and gives its contexts to the sink. A file that cannot be read is reported, counted and
 * passed over, so that one bad file does not hold up a thousand good ones: look at summary->files_failed.
 * `mapping` NULL means mapping_default.
 *
 * Errors: ERR_NOT_FOUND (no such path, or a folder without trace files), ERR_IO, ERR_INVALID (runs.csv cannot
 * be used), ERR_LIMIT, ERR_NO_MEMORY, or whatever the sink returned: these end the import. */
int import_path(const char *path, const struct mapping *mapping, const struct import_sink *sink,
                struct import_summary *summary, struct error *err);

/* Reads one trace file as it would be read by import_path, but returns the file's own error too.
 * ERR_NOT_FOUND also when the folder's runs.csv does not list the file (yet): a watch tries it again later.
 */
int import_file(const char *path, const struct mapping *mapping, const struct import_sink *sink,
                struct import_summary *summary, struct error *err);

#endif
