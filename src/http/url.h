/* Paths and queries of requests, taken apart. Pure. */
#ifndef CHAMBERLAIN_HTTP_URL_H
#define CHAMBERLAIN_HTTP_URL_H

#include "http/server.h"

/* Unescapes %XX (and, in a query, + as a space) of `length` bytes into `out`, which has room for length + 1.
 * False for a broken escape, a control character, or what is not UTF-8. */
bool url_unescape(const char *text, size_t length, bool query, char *out);

/* Takes "a=1&b=2" apart, in `text` itself, into `parameters`. Returns their number; -1 when there are more
 * than `most` or one cannot be unescaped. Empty parts are skipped; one without "=" has the value "". */
int url_parse_query(char *text, struct http_parameter *parameters, size_t most);

/* Whether `path` (as it came, escaped) is of the form `pattern`. `id` takes what stands for {id}, unescaped;
 * it is
 * "" without. */
bool url_match(const char *pattern, const char *path, char id[static HTTP_ID_MAX_BYTES]);

/* Whether a Host header ("name", "name:port", "[::1]:port") names this machine's loopback. */
bool url_host_is_local(const char *host);

/* True when `length` bytes are UTF-8 (RFC 3629) without control characters (below 0x20, 0x7F). */
bool url_text_is_clean(const char *text, size_t length);

#endif
