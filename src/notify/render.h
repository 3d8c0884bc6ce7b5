/* A message of the grouper in the words of each kind of sink. Pure. */
#ifndef CHAMBERLAIN_NOTIFY_RENDER_H
#define CHAMBERLAIN_NOTIFY_RENDER_H

#include "base/error.h"
#include "base/strbuf.h"

#include <stdbool.h>
#include <stdint.h>

/* The body of POST /api/v2/alerts: one alert for each alarm of the message. startsAt is when it was first
 * raised, endsAt `resolve_after_ms` from now: an alarm is an event and has no end of its own. ERR_CORRUPT (no
 * such message), ERR_NO_MEMORY. */
int render_alertmanager(const char *message, int64_t now_ms, int64_t resolve_after_ms, struct strbuf *body,
                        struct error *err);

/* Lines for people, one an alarm. Errors as above. */
int render_terminal(const char *message, bool colour, struct strbuf *lines, struct error *err);

enum { SIGNATURE_BYTES = 112 };

/* "t=SECONDS,v1=HEX": HMAC-SHA256 (RFC 2104, FIPS 180-4) of "SECONDS.BODY" under the secret.
 * ERR_NO_MEMORY, ERR_UNSUPPORTED. */
int render_signature(const char *secret, size_t secret_length, int64_t now_s, const char *body,
                     char signature[static SIGNATURE_BYTES], struct error *err);

#endif
