#include "store/breaker.h"

#include <string.h>

const struct breaker_options breaker_defaults = {.failures = 3,
                                                 .window_calls = 20,
                                                 .window_percent = 50,
                                                 .good_probes = 3,
                                                 .fail_ms = 1000,
                                                 .window_ms = 10000,
                                                 .open_ms = 2000,
                                                 .open_max_ms = 60000,
                                                 .calm_ms = 60000,
                                                 .probe_ms = 500,
                                                 .probe_max_ms = 5000,
                                                 .good_ms = 3000};

static void forget_calls(struct breaker *breaker)
{
    memset(breaker->in_a_row, 0, sizeof breaker->in_a_row);
    memset(breaker->window, 0, sizeof breaker->window);
}

void breaker_init(struct breaker *breaker, const struct breaker_options *options, int64_t now_ms)
{
    *breaker = (struct breaker){.options = options ? *options : breaker_defaults, .since_ms = now_ms};
    breaker->open_for_ms = breaker->options.open_ms;
    breaker->closed_ms = now_ms - breaker->options.calm_ms;
}

static bool enter(struct breaker *breaker, enum breaker_state state, int64_t now_ms)
{
    breaker->state = state;
    breaker->since_ms = now_ms;
    return true;
}

static bool open_up(struct breaker *breaker, int64_t now_ms)
{
    const struct breaker_options *options = &breaker->options;
    bool calm = now_ms - breaker->closed_ms >= options->calm_ms;
    int64_t twice = breaker->open_for_ms * 2;
    breaker->open_for_ms = calm                           ? options->open_ms
                           : twice < options->open_max_ms ? twice
                                                          : options->open_max_ms;
    breaker->opened++;
    breaker->probe_pause_ms = options->probe_ms;
    breaker->probe_at_ms = now_ms + breaker->open_for_ms;
    breaker->good = 0;
    forget_calls(breaker);
    return enter(breaker, BREAKER_OPEN, now_ms);
}

static void count_in_window(struct breaker *breaker, bool good, int64_t now_ms)
{
    int64_t length = breaker->options.window_ms / BREAKER_WINDOW_PARTS;
    int64_t part = now_ms / (length > 0 ? length : 1) + 1;
    size_t i = (size_t)(part % BREAKER_WINDOW_PARTS);
    if (breaker->window[i].part != part) {
        breaker->window[i].part = part;
        breaker->window[i].good = breaker->window[i].failed = 0;
    }
    *(good ? &breaker->window[i].good : &breaker->window[i].failed) += 1;
}

/* Whether too many calls of the window failed, spread over more than one part of it: a burst within a moment
 * is judged by the calls in a row. */
static bool window_is_bad(const struct breaker *breaker, int64_t now_ms)
{
    int64_t length = breaker->options.window_ms / BREAKER_WINDOW_PARTS;
    int64_t now_part = now_ms / (length > 0 ? length : 1) + 1;
    int64_t good = 0, failed = 0, first = 0;
    for (size_t i = 0; i < BREAKER_WINDOW_PARTS; i++) {
        int64_t part = breaker->window[i].part;
        if (part == 0 || part <= now_part - BREAKER_WINDOW_PARTS)
            continue;
        good += breaker->window[i].good;
        failed += breaker->window[i].failed;
        if (breaker->window[i].failed > 0 && (first == 0 || part < first))
            first = part;
    }
    bool spread = first > 0 && (now_part - first) * length >= breaker->options.fail_ms;
    return spread && good + failed >= breaker->options.window_calls &&
           failed * 100 >= (good + failed) * breaker->options.window_percent;
}

static bool take_result(struct breaker *breaker, int kind, bool good, int64_t now_ms)
{
    if (breaker->state != BREAKER_CLOSED)
        return false; /* a call that was under way when it opened */
    count_in_window(breaker, good, now_ms);
    if (good) {
        breaker->in_a_row[kind] = 0;
        return false;
    }
    if (breaker->in_a_row[kind]++ == 0)
        breaker->first_failed_ms[kind] = now_ms;
    bool too_many = breaker->in_a_row[kind] >= breaker->options.failures &&
                    now_ms - breaker->first_failed_ms[kind] >= breaker->options.fail_ms;
    return (too_many || window_is_bad(breaker, now_ms)) && open_up(breaker, now_ms);
}

static bool take_good_probe(struct breaker *breaker, int64_t now_ms)
{
    breaker->probe_pause_ms = breaker->options.probe_ms;
    breaker->probe_at_ms = now_ms + breaker->probe_pause_ms;
    if (breaker->state == BREAKER_OPEN) {
        breaker->good = 1;
        breaker->good_since_ms = now_ms;
        enter(breaker, BREAKER_HALF_OPEN, now_ms);
        /* proven at once where one probe is enough */
    } else if (breaker->state == BREAKER_HALF_OPEN) {
        breaker->good++;
    } else {
        return false;
    }
    if (breaker->good >= breaker->options.good_probes &&
        now_ms - breaker->good_since_ms >= breaker->options.good_ms)
        enter(breaker, BREAKER_PROVEN, now_ms);
    return true;
}

static bool take_failed_probe(struct breaker *breaker, int64_t now_ms)
{
    int64_t twice = breaker->probe_pause_ms * 2;
    if (breaker->state == BREAKER_CLOSED)
        return false;
    breaker->probe_pause_ms = twice < breaker->options.probe_max_ms ? twice : breaker->options.probe_max_ms;
    breaker->probe_at_ms = now_ms + breaker->probe_pause_ms;
    breaker->good = 0;
    return breaker->state != BREAKER_OPEN && enter(breaker, BREAKER_OPEN, now_ms);
}

bool breaker_step(struct breaker *breaker, enum breaker_event event, int64_t now_ms)
{
    switch (event) {
    case BREAKER_READ_GOOD:
    case BREAKER_READ_FAILED:
        return take_result(breaker, 0, event == BREAKER_READ_GOOD, now_ms);
    case BREAKER_WRITE_GOOD:
    case BREAKER_WRITE_FAILED:
        return take_result(breaker, 1, event == BREAKER_WRITE_GOOD, now_ms);
    case BREAKER_GAVE_UP:
        return breaker->state == BREAKER_CLOSED && open_up(breaker, now_ms);
    case BREAKER_PROBE_SENT:
        breaker->probing = true;
        return false;
    case BREAKER_PROBE_GOOD:
        breaker->probing = false;
        return take_good_probe(breaker, now_ms);
    case BREAKER_PROBE_FAILED:
        breaker->probing = false;
        return take_failed_probe(breaker, now_ms);
    case BREAKER_OWES:
        if (breaker->state != BREAKER_CLOSED)
            return false;
        forget_calls(breaker);
        breaker->probe_pause_ms = breaker->options.probe_ms;
        breaker->probe_at_ms = now_ms + breaker->probe_pause_ms;
        return enter(breaker, BREAKER_PROVEN, now_ms);
    case BREAKER_MADE_UP:
        if (breaker->state != BREAKER_PROVEN)
            return false;
        breaker->closed_ms = now_ms;
        return enter(breaker, BREAKER_CLOSED, now_ms);
    }
    return false;
}

bool breaker_probe_due(const struct breaker *breaker, int64_t now_ms)
{
    return breaker->state != BREAKER_CLOSED && !breaker->probing && now_ms >= breaker->probe_at_ms;
}

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "open", "half_open", "proven"};
    return names[state];
}
