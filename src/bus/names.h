/* The names that other programs rely on: streams, subjects, buckets (docs/protocol.md), each with the cell's
 * prefix.
 *
 * A cell is a part of a fab with a stream, buckets and defenders of its own. With the empty cell nothing is
 * prefixed; with cell "west": stream "west-dc-notifications", subject "west.dc.>", bucket "west-stable-ids".
 *
 * Equipment names become subject tokens by escaping: every byte but A-Z a-z 0-9 - _ + : / # @ ~ is written
 * %XX. So "PM.1" is the token "PM%2E1". The escape is reversible, and two names never share a token. */
#ifndef CHAMBERLAIN_BUS_NAMES_H
#define CHAMBERLAIN_BUS_NAMES_H

#include "base/error.h"

#include <stddef.h>

enum {
    NAMES_BYTES = 1024, /* room for any name made here */
    NAMES_CELL_MAX_BYTES = 32,
    NAMES_RAW_MAX_BYTES = 200 /* of a tool or chamber before escaping */
};

#define STREAM_NOTIFICATIONS "dc-notifications"
#define STREAM_DEAD "dc-dead"
#define STREAM_ALARMS "alarms"

/* When an announcement was sent, in microseconds of wall time: how long it was under way. */
#define BUS_HEADER_ANNOUNCED "Chamberlain-Announced-Us"
#define STREAM_SAMPLES "eqp-samples"

/* A cell is "" or up to NAMES_CELL_MAX_BYTES of a-z 0-9 _. ERR_INVALID says so. */
int names_check_cell(const char *cell, struct error *err);

/* "dc-notifications" or "west-dc-notifications"; works for streams and buckets. Returns `out`. */
const char *names_stream(const char *cell, const char *name, char out[static NAMES_BYTES]);

/* A subject under the cell: names_subject("west", "alarms.>") is "west.alarms.>". Returns `out`. */
const char *names_subject(const char *cell, const char *subject, char out[static NAMES_BYTES]);

/* Writes the token for `raw`. ERR_INVALID when it is empty, ERR_LIMIT when longer than NAMES_RAW_MAX_BYTES.
 */
int names_escape(const char *raw, char out[static NAMES_BYTES], struct error *err);

/* The name behind the `length` bytes of `token`. ERR_INVALID when no name escapes to that. */
int names_unescape(const char *token, size_t length, char out[static NAMES_BYTES], struct error *err);

/* "dc.{tool}.{chamber}.completed" under the cell. Errors as names_escape, with which name is meant. */
int names_completed(const char *cell, const char *tool, const char *chamber, char out[static NAMES_BYTES],
                    struct error *err);

/* The tool and chamber of such a subject. ERR_INVALID when it is not one. */
int names_parse_completed(const char *cell, const char *subject, char tool[static NAMES_BYTES],
                          char chamber[static NAMES_BYTES], struct error *err);

/* What equipment says on "eqp.{tool}.{chamber}.{start|data|end}" (docs/collect.md). */
enum names_sample_kind { NAMES_SAMPLE_START, NAMES_SAMPLE_DATA, NAMES_SAMPLE_END };

/* Such a subject under the cell. Errors as names_escape, with which name is meant. */
int names_samples(const char *cell, const char *tool, const char *chamber, enum names_sample_kind kind,
                  char out[static NAMES_BYTES], struct error *err);

/* The tool, chamber and kind of such a subject. ERR_INVALID when it is not one. */
int names_parse_samples(const char *cell, const char *subject, char tool[static NAMES_BYTES],
                        char chamber[static NAMES_BYTES], enum names_sample_kind *kind, struct error *err);

/* "{tool}.{chamber}": the key of a chamber in the rosters' buckets. Errors as names_completed. */
int names_chamber_key(const char *tool, const char *chamber, char out[static NAMES_BYTES], struct error *err);

/* "{prefix}.{tool}.{chamber}" under the cell, as alarms and dead letters use it. */
int names_for_chamber(const char *cell, const char *prefix, const char *tool, const char *chamber,
                      char out[static NAMES_BYTES], struct error *err);

#endif
