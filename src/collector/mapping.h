/* How the columns of a trace file become contexts: the mapping file (YAML, docs/import.md has every key).
 *
 *     name: phm2016_cmp
 *     context: "cmp_{WAFER_ID}_{STAGE}"    # rows of the same context id are one context
 *     tool: "CMP-{MACHINE_ID}"
 *     chamber: {text: "{CHAMBER:int}", values: {"1": "1-3", "2": "1-3"}}
 *     time: {column: TIMESTAMP, format: seconds, origin: "2001-01-01T00:00:00Z"}
 *     step: CHAMBER
 *     sensors: all
 *     quality: {min_samples: 10}
 *
 * A name is a text with columns in braces, `{COLUMN}` or `{COLUMN:FORMAT}`; FORMAT is int (1.0 becomes 1),
 * lower, upper, or a number of digits to pad to (03). `{@file}` is the file's name without folder and
 * endings, `{@dir}` its folder's name.
 * `{{` and `}}` are braces. */
#ifndef CHAMBERLAIN_COLLECTOR_MAPPING_H
#define CHAMBERLAIN_COLLECTOR_MAPPING_H

#include "base/arena.h"
#include "base/error.h"
#include "base/strbuf.h"
#include "collector/number.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MAPPING_FILE_MAX_BYTES = 1024 * 1024,
    MAPPING_LIST_MAX = 4096,     /* entries of one list or table in a mapping */
    MAPPING_PIECES_MAX = 32,     /* of one name's text */
    MAPPING_MIN_SAMPLES = 10,    /* default of quality.min_samples */
    MAPPING_TAIL_CUT_SAMPLES = 2 /* default of quality.tail_cut_samples */
};

/* The names of a context that a mapping can give. */
enum mapping_name {
    MAPPING_CONTEXT,
    MAPPING_TOOL,
    MAPPING_CHAMBER,
    MAPPING_RECIPE,
    MAPPING_LOT,
    MAPPING_WAFER,
    MAPPING_NAMES
};

enum mapping_piece_kind { PIECE_LITERAL, PIECE_COLUMN, PIECE_FILE, PIECE_DIR };
enum mapping_piece_format { FORMAT_PLAIN, FORMAT_INT, FORMAT_LOWER, FORMAT_UPPER };

struct mapping_piece {
    enum mapping_piece_kind kind;
    const char *text; /* the literal, or the column's name */
    enum mapping_piece_format format;
    int digits; /* FORMAT_INT: pad with zeros to this many; 0: no padding */
};

struct mapping_pair {
    const char *from;
    const char *to;
};

/* A text made of a row's cells. `count` 0: the mapping does not give it. */
struct mapping_text {
    const struct mapping_piece *pieces;
    size_t count;
    const struct mapping_pair *values; /* what the finished text is replaced by; others stay */
    size_t value_count;
};

struct mapping_attribute {
    const char *name;
    struct mapping_text text;
};

struct mapping_sensor {
    const char *column;
    const char *name; /* in the T-chart */
};

struct mapping_step_value {
    const char *from;
    double to;
};

/* One set of steps that makes a context complete. */
struct mapping_step_set {
    const double *steps;
    size_t count;
};

/* What a sound context looks like (docs/import.md, "What becomes of bad data"). */
struct quality_rules {
    size_t min_samples;
    size_t tail_cut_samples; /* samples before their time at the very end that are cut without lowering the
                                quality */
    int64_t max_gap_us;      /* between two samples; 0: any */
    double
        max_bad_fraction; /* of unreadable cells, and of unreadable rows, that does not lower the quality */
    const struct mapping_step_set *step_sets; /* at least one of them must be there in full */
    size_t step_set_count;
};

/* Where relative times start. */
enum mapping_origin { ORIGIN_FIXED, ORIGIN_COLUMN, ORIGIN_RUN };

struct mapping {
    struct arena arena;
    const char *name;   /* "default" when it came from no file */
    const char *source; /* the file, for messages */
    const char *files;  /* glob over file names (without folder) that the mapping is for; NULL: any */
    char delimiter;     /* '\0': told by the file */
    char decimal;       /* '.' or ',' */
    size_t skip_lines;
    struct mapping_text names[MAPPING_NAMES];
    const struct mapping_attribute *attributes;
    size_t attribute_count;

    const char *time_column;
    struct stamp_rule time;
    enum mapping_origin origin;
    const char *origin_column; /* ORIGIN_COLUMN */
    struct stamp_rule origin_time;

    const char *step_column; /* NULL: no step */
    bool step_required;      /* a file without the column is an error */
    const struct mapping_step_value *step_values;
    size_t step_value_count;

    bool all_sensors;                     /* every column that has no other use, but for `except` */
    const struct mapping_sensor *sensors; /* with all_sensors: other names for some of them */
    size_t sensor_count;
    const char *const *except;
    size_t except_count;
    const char *const *missing; /* cells that say "no value", beside the empty one */
    size_t missing_count;

    struct quality_rules quality;
};

/* Reads a mapping. ERR_INVALID names file, line, column, and what is allowed there; ERR_NOT_FOUND, ERR_IO,
 * ERR_LIMIT, ERR_NO_MEMORY. mapping_free gives it back. */
int mapping_load(const char *path, struct mapping **mapping, struct error *err);

/* As mapping_load, from memory; `source` stands in messages. */
int mapping_parse(const char *source, const char *text, size_t length, struct mapping **mapping,
                  struct error *err);

/* What is used without a mapping file, with runs.csv: `time` (its format told by its first value), `step`
 * when there is such a column, every other column a sensor. NULL when out of memory. */
struct mapping *mapping_default(void);

void mapping_free(struct mapping *mapping);

/* The key of a name in mappings and in runs.csv: "context" -> MAPPING_CONTEXT ... */
const char *mapping_name_key(enum mapping_name name);

/* True when `file_name` (no folder) is one the mapping is for. */
bool mapping_fits(const struct mapping *mapping, const char *file_name);

/* A cell's text by its column's name; NULL when there is none. */
typedef const char *mapping_lookup(void *arg, const char *column);

/* Appends the text for a row. ERR_INVALID names the piece: its column's value is not what its format needs.
 */
int mapping_text_render(const struct mapping_text *text, mapping_lookup *lookup, void *arg,
                        const char *file_stem, const char *dir_name, struct strbuf *out, struct error *err);

#endif
