/* The circuit breaker under simulated time: tables of what happens and what it says, and properties that hold
 * whatever happens. */
#include "cmocka_setup.h"

#include "store/breaker.h"

#include <stdio.h>
#include <string.h>

static const struct breaker_options options = {.failures = 3,
                                               .window_calls = 10,
                                               .window_percent = 50,
                                               .good_probes = 3,
                                               .fail_ms = 1000,
                                               .window_ms = 10000,
                                               .open_ms = 2000,
                                               .open_max_ms = 16000,
                                               .calm_ms = 60000,
                                               .probe_ms = 500,
                                               .probe_max_ms = 4000,
                                               .good_ms = 3000};

/* A story: at each time an event, and the state after it. */
struct line {
    int64_t at_ms;
    enum breaker_event event;
    enum breaker_state after;
};

static void story_goes(struct breaker *breaker, const struct line *lines, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        enum breaker_state before = breaker->state;
        bool changed = breaker_step(breaker, lines[i].event, lines[i].at_ms);
        if (breaker->state != lines[i].after)
            fprintf(stderr, "line %zu: %s instead of %s\n", i, breaker_state_name(breaker->state),
                    breaker_state_name(lines[i].after));
        assert_int_equal(breaker->state, lines[i].after);
        if (before != breaker->state)
            assert_true(changed);
    }
}

#define STORY_GOES(breaker, lines) story_goes(breaker, lines, sizeof(lines) / sizeof *(lines))

static void failures_in_a_row_open_it_after_a_while(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    static const struct line lines[] = {
        {0, BREAKER_WRITE_FAILED, BREAKER_CLOSED},    {1, BREAKER_WRITE_FAILED, BREAKER_CLOSED},
        {2, BREAKER_WRITE_FAILED, BREAKER_CLOSED}, /* a burst within a moment is a blip */
        {500, BREAKER_WRITE_GOOD, BREAKER_CLOSED},    {600, BREAKER_WRITE_FAILED, BREAKER_CLOSED},
        {1599, BREAKER_WRITE_FAILED, BREAKER_CLOSED}, {1599, BREAKER_WRITE_FAILED, BREAKER_CLOSED},
        {1600, BREAKER_WRITE_FAILED, BREAKER_OPEN},   {1601, BREAKER_WRITE_GOOD, BREAKER_OPEN}};
    STORY_GOES(&breaker, lines);
    assert_int_equal(breaker.opened, 1);
}

static void reads_that_work_do_not_hide_writes_that_do_not(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    static const struct line lines[] = {{0, BREAKER_WRITE_FAILED, BREAKER_CLOSED},
                                        {100, BREAKER_READ_GOOD, BREAKER_CLOSED},
                                        {600, BREAKER_WRITE_FAILED, BREAKER_CLOSED},
                                        {700, BREAKER_READ_GOOD, BREAKER_CLOSED},
                                        {1000, BREAKER_WRITE_FAILED, BREAKER_OPEN}};
    STORY_GOES(&breaker, lines);
}

static void every_second_call_that_fails_opens_it(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    int64_t now = 0;
    int calls = 0;
    while (breaker.state == BREAKER_CLOSED && calls < 100) {
        breaker_step(&breaker, calls % 2 ? BREAKER_READ_GOOD : BREAKER_READ_FAILED, now);
        calls++;
        now += 200;
    }
    assert_in_range(calls, 10, 13);
    breaker_init(&breaker, &options, 0);
    for (int i = 0; i < 1000; i++) /* every third does not */
        breaker_step(&breaker, i % 3 ? BREAKER_READ_GOOD : BREAKER_READ_FAILED, i * 200);
    assert_int_equal(breaker.state, BREAKER_CLOSED);
}

static void one_call_that_fails_for_too_long_opens_it(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    static const struct line lines[] = {{0, BREAKER_READ_FAILED, BREAKER_CLOSED},
                                        {10, BREAKER_READ_GOOD, BREAKER_CLOSED},
                                        {20, BREAKER_GAVE_UP, BREAKER_OPEN},
                                        {30, BREAKER_GAVE_UP, BREAKER_OPEN}};
    STORY_GOES(&breaker, lines);
    assert_int_equal(breaker.opened, 1);
}

static void good_probes_over_a_while_prove_it(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    static const struct line lines[] = {
        {0, BREAKER_GAVE_UP, BREAKER_OPEN},
        {2000, BREAKER_PROBE_GOOD, BREAKER_HALF_OPEN},
        {2500, BREAKER_PROBE_GOOD, BREAKER_HALF_OPEN},
        {3000, BREAKER_PROBE_GOOD, BREAKER_HALF_OPEN}, /* enough, but too soon */
        {4999, BREAKER_PROBE_GOOD, BREAKER_HALF_OPEN},
        {5000, BREAKER_PROBE_GOOD, BREAKER_PROVEN},
        {5500, BREAKER_PROBE_GOOD, BREAKER_PROVEN},
        {5600, BREAKER_MADE_UP, BREAKER_CLOSED},
        {5700, BREAKER_PROBE_FAILED, BREAKER_CLOSED}};
    STORY_GOES(&breaker, lines);
}

static void one_bad_probe_begins_anew(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    static const struct line lines[] = {{0, BREAKER_GAVE_UP, BREAKER_OPEN},
                                        {2000, BREAKER_PROBE_GOOD, BREAKER_HALF_OPEN},
                                        {3500, BREAKER_PROBE_GOOD, BREAKER_HALF_OPEN},
                                        {4900, BREAKER_PROBE_FAILED, BREAKER_OPEN},
                                        {5900, BREAKER_PROBE_GOOD, BREAKER_HALF_OPEN},
                                        {7000, BREAKER_PROBE_GOOD, BREAKER_HALF_OPEN},
                                        {8900, BREAKER_PROBE_GOOD, BREAKER_PROVEN},
                                        {9000, BREAKER_PROBE_FAILED, BREAKER_OPEN},
                                        {9100, BREAKER_MADE_UP, BREAKER_OPEN}};
    STORY_GOES(&breaker, lines);
}

static void probes_come_at_growing_pauses(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    breaker_step(&breaker, BREAKER_GAVE_UP, 0);
    static const int64_t expected[] = {2000, 3000, 5000, 9000, 13000, 17000};
    int64_t now = 0;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        while (!breaker_probe_due(&breaker, now))
            now++;
        assert_int_equal(now, expected[i]);
        breaker_step(&breaker, BREAKER_PROBE_SENT, now);
        assert_false(breaker_probe_due(&breaker, now + 100000)); /* one at a time */
        breaker_step(&breaker, BREAKER_PROBE_FAILED, now);
    }
}

/* Opens it, and brings it back as soon as it lets itself be; how long that took. */
static int64_t fall_and_rise(struct breaker *breaker, int64_t *now)
{
    int64_t start = *now;
    breaker_step(breaker, BREAKER_GAVE_UP, *now);
    while (breaker->state != BREAKER_PROVEN) {
        ++*now;
        if (breaker_probe_due(breaker, *now))
            breaker_step(breaker, BREAKER_PROBE_GOOD, *now);
    }
    breaker_step(breaker, BREAKER_MADE_UP, *now);
    return *now - start;
}

static void who_falls_again_soon_stays_down_longer(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    int64_t now = 0;
    assert_int_equal(fall_and_rise(&breaker, &now), 5000);
    now += 1000;
    assert_int_equal(fall_and_rise(&breaker, &now), 7000);
    now += 1000;
    assert_int_equal(fall_and_rise(&breaker, &now), 11000);
    for (int i = 0; i < 5; i++)
        fall_and_rise(&breaker, &now);
    assert_int_equal(fall_and_rise(&breaker, &now), 19000); /* open_max_ms and the good probes */
    now += options.calm_ms;
    assert_int_equal(fall_and_rise(&breaker, &now), 5000);
}

static void what_is_owed_is_made_up_before_it_closes(void **state)
{
    (void)state;
    struct breaker breaker;
    breaker_init(&breaker, &options, 0);
    static const struct line lines[] = {
        {0, BREAKER_OWES, BREAKER_PROVEN},        {1, BREAKER_OWES, BREAKER_PROVEN},
        {2, BREAKER_READ_FAILED, BREAKER_PROVEN}, {3, BREAKER_MADE_UP, BREAKER_CLOSED},
        {4, BREAKER_OWES, BREAKER_PROVEN},        {5, BREAKER_PROBE_FAILED, BREAKER_OPEN},
        {6, BREAKER_OWES, BREAKER_OPEN}};
    STORY_GOES(&breaker, lines);
}

/* A store that comes and goes at random, the breaker asked 10 times a second: whatever happens, it never
 * closes before open_ms and good_ms are over and the probes of that time were good, and it does close when
 * all is well for long. */
static void whatever_happens_the_bounds_hold(void **state)
{
    (void)state;
    uint32_t random = 1;
    for (int world = 0; world < 200; world++) {
        struct breaker breaker;
        breaker_init(&breaker, &options, 0);
        bool up = true;
        int64_t opened_ms = 0, last_bad_ms = -1, transitions = 0;
        for (int64_t now = 0; now < 600000; now += 100) {
            random = random * 1664525u + 1013904223u;
            bool settled = now > 400000; /* from here on all is well */
            if (settled)
                up = true;
            else if ((random >> 8) % 40 == 0)
                up = !up;
            if (!up)
                last_bad_ms = now;
            enum breaker_state before = breaker.state;
            if (before == BREAKER_CLOSED)
                breaker_step(&breaker,
                             random & 0x10000 ? up ? BREAKER_READ_GOOD : BREAKER_READ_FAILED
                             : up             ? BREAKER_WRITE_GOOD
                                              : BREAKER_WRITE_FAILED,
                             now);
            else if (breaker_probe_due(&breaker, now))
                breaker_step(&breaker, up ? BREAKER_PROBE_GOOD : BREAKER_PROBE_FAILED, now);
            if (breaker.state == BREAKER_PROVEN && before != BREAKER_PROVEN)
                assert_true(now - opened_ms >= options.open_ms);
            if (before == BREAKER_CLOSED && breaker.state == BREAKER_OPEN) {
                assert_true(last_bad_ms >= 0);
                opened_ms = now;
                transitions++;
            }
            if (breaker.state == BREAKER_PROVEN)
                breaker_step(&breaker, BREAKER_MADE_UP, now);
        }
        assert_int_equal(breaker.state, BREAKER_CLOSED);
        assert_true(transitions <= 400000 / (options.open_ms + options.good_ms) + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(failures_in_a_row_open_it_after_a_while),
                                       cmocka_unit_test(reads_that_work_do_not_hide_writes_that_do_not),
                                       cmocka_unit_test(every_second_call_that_fails_opens_it),
                                       cmocka_unit_test(one_call_that_fails_for_too_long_opens_it),
                                       cmocka_unit_test(good_probes_over_a_while_prove_it),
                                       cmocka_unit_test(one_bad_probe_begins_anew),
                                       cmocka_unit_test(probes_come_at_growing_pauses),
                                       cmocka_unit_test(who_falls_again_soon_stays_down_longer),
                                       cmocka_unit_test(what_is_owed_is_made_up_before_it_closes),
                                       cmocka_unit_test(whatever_happens_the_bounds_hold)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
