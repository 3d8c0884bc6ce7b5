/* A circuit breaker: whether a store that sometimes fails is to be asked. Pure: results and the time go in,
 * a state comes out; no clock, no thread.
 *
 *     CLOSED     it is asked. Opens after `failures` calls in a row of one kind (reads, or writes) failed
 * over at least `fail_ms`, or when `window_percent` of at least `window_calls` calls of the last `window_ms`
 * failed OPEN       it is not asked. After `open_ms` one probe, then one after growing pauses (`probe_ms`,
 *                doubled up to `probe_max_ms`) until one is good
 *     HALF_OPEN  the last probe was good. `good_probes` in a row over at least `good_ms` prove it; one that
 *                fails opens it again
 *     PROVEN     it is well, and its owner may close the breaker (once what was missed meanwhile is made up
 *                for). Probes go on
 *
 * Against flapping: when it opens again within `calm_ms` of having been closed, `open_ms` doubles, up to
 * `open_max_ms`; a calm time takes it back to the first. */
#ifndef CHAMBERLAIN_STORE_BREAKER_H
#define CHAMBERLAIN_STORE_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum { BREAKER_WINDOW_PARTS = 10 };

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN, BREAKER_PROVEN };

enum breaker_event {
    BREAKER_READ_GOOD,
    BREAKER_READ_FAILED,
    BREAKER_WRITE_GOOD,
    BREAKER_WRITE_FAILED,
    BREAKER_GAVE_UP,    /* one call failed for too long: opens at once */
    BREAKER_PROBE_SENT, /* no other is due before it is answered */
    BREAKER_PROBE_GOOD,
    BREAKER_PROBE_FAILED,
    BREAKER_OWES,   /* CLOSED to PROVEN: it is well, but something must be made up for first */
    BREAKER_MADE_UP /* PROVEN to CLOSED */
};

struct breaker_options {
    int32_t failures;
    int32_t window_calls, window_percent;
    int32_t good_probes;
    int64_t fail_ms, window_ms;
    int64_t open_ms, open_max_ms, calm_ms;
    int64_t probe_ms, probe_max_ms, good_ms;
};

extern const struct breaker_options breaker_defaults;

struct breaker {
    struct breaker_options options;
    enum breaker_state state;
    int64_t since_ms; /* when it came into this state */
    int64_t opened;   /* how often it has opened */

    int32_t in_a_row[2]; /* failures of reads, of writes */
    int64_t first_failed_ms[2];
    struct {
        int64_t part; /* number of the part of time; 0: never used */
        int32_t good, failed;
    } window[BREAKER_WINDOW_PARTS];

    int64_t open_for_ms, closed_ms; /* of this opening; when it was closed last */
    int64_t probe_at_ms, probe_pause_ms;
    bool probing;
    int32_t good;
    int64_t good_since_ms;
};

/* Times are of any clock that never goes back. NULL options: the defaults. */
void breaker_init(struct breaker *breaker, const struct breaker_options *options, int64_t now_ms);

/* Takes an event; true when the state has changed. */
bool breaker_step(struct breaker *breaker, enum breaker_event event, int64_t now_ms);

/* Whether a probe is to be sent now. */
bool breaker_probe_due(const struct breaker *breaker, int64_t now_ms);

const char *breaker_state_name(enum breaker_state state);

#endif
