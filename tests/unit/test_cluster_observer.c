/* The load of chambers as their owner observes it, and when the roster is told. */
#include "cluster/observer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE };

/* A run of `points` every `every_ms`, from `from_ms` to before `to_ms`. */
static void run_evenly(struct observer *observer, const char *chamber, int64_t points, int64_t every_ms,
                       int64_t from_ms, int64_t to_ms)
{
    for (int64_t now_ms = from_ms; now_ms < to_ms; now_ms += every_ms)
        observer_note(observer, chamber, points, now_ms);
}

static void assert_near(double value, double expected, double relative)
{
    if (value < expected * (1 - relative) || value > expected * (1 + relative))
        fail_msg("%g is not within %g %% of %g", value, relative * 100, expected);
}

static void an_even_chamber_shows_an_even_rate(void **state)
{
    (void)state;
    /* From many runs in the memory to one and a half. */
    const int64_t every[] = {MINUTE, 5 * MINUTE, 30 * MINUTE, 80 * MINUTE};
    for (size_t i = 0; i < sizeof every / sizeof *every; i++) {
        struct observer *observer = observer_new(2 * HOUR, 0.25);
        for (int64_t now_ms = 0; now_ms < 40 * HOUR; now_ms += every[i]) {
            observer_note(observer, "T1.A", 6000, now_ms);
            for (int part = 1; part < 4; part++) {
                double rate = observer_rate(observer, "T1.A", now_ms + every[i] * part / 4);
                if (rate >= 0)
                    assert_near(rate, 6000.0 * HOUR / (double)every[i], 0.05);
            }
        }
        assert_true(observer_rate(observer, "T1.A", 40 * HOUR) > 0);
        observer_free(observer);
    }
}

static void little_is_known_at_first(void **state)
{
    (void)state;
    struct observer *observer = observer_new(2 * HOUR, 0.25);
    double rate;
    assert_true(observer_rate(observer, "T1.A", 0) < 0);
    run_evenly(observer, "T1.A", 100, 10 * MINUTE, 0, 59 * MINUTE); /* enough runs, not enough time */
    assert_true(observer_rate(observer, "T1.A", 59 * MINUTE) < 0);
    assert_null(observer_next(observer, 59 * MINUTE, &rate));
    assert_near(observer_rate(observer, "T1.A", HOUR), 600, 0.05);

    observer_note(observer, "T2.A", 100, 0); /* enough time, not enough runs */
    assert_true(observer_rate(observer, "T2.A", 3 * HOUR) < 0);
    double seldom = observer_rate(observer, "T2.A", 4 * HOUR); /* but in the end a rare run is rare */
    assert_true(seldom > 0 && seldom < 50);
    observer_free(observer);
}

static void the_roster_is_told_once_and_again_after_a_lasting_change(void **state)
{
    (void)state;
    struct observer *observer = observer_new(2 * HOUR, 0.25);
    double rate;
    run_evenly(observer, "T1.A", 1000, 5 * MINUTE, 0, 2 * HOUR);
    assert_string_equal(observer_next(observer, 2 * HOUR, &rate), "T1.A");
    assert_near(rate, 12000, 0.05);
    assert_null(observer_next(observer, 2 * HOUR, &rate)); /* under way */
    observer_told(observer, "T1.A", 12000, 2 * HOUR);

    for (int64_t now_ms = 2 * HOUR; now_ms < 10 * HOUR; now_ms += 5 * MINUTE) {
        observer_note(observer, "T1.A", 1000, now_ms);
        assert_null(observer_next(observer, now_ms, &rate));
    }
    int64_t told_ms = 0;
    for (int64_t now_ms = 10 * HOUR; now_ms < 20 * HOUR;
         now_ms += 2 * MINUTE + MINUTE / 2) { /* twice as often */
        observer_note(observer, "T1.A", 1000, now_ms);
        if (observer_next(observer, now_ms, &rate) == NULL)
            continue;
        assert_true(rate > 12000 * 1.25 && rate < 24500);
        if (told_ms == 0)
            told_ms = now_ms;
        observer_told(observer, "T1.A", rate, now_ms);
    }
    assert_in_range(told_ms, 10 * HOUR + 30 * MINUTE, 12 * HOUR);
    assert_near(observer_rate(observer, "T1.A", 20 * HOUR), 24000, 0.05);
    observer_free(observer);
}

static void a_short_burst_is_not_told(void **state)
{
    (void)state;
    struct observer *observer = observer_new(2 * HOUR, 0.25);
    double rate;
    run_evenly(observer, "T1.A", 1000, 5 * MINUTE, 0, 4 * HOUR);
    assert_non_null(observer_next(observer, 4 * HOUR, &rate));
    observer_told(observer, "T1.A", rate, 4 * HOUR);
    /* What waited for seven runs' time comes at once. */
    for (int i = 0; i < 7; i++)
        observer_note(observer, "T1.A", 1000, 4 * HOUR + 35 * MINUTE);
    for (int64_t now_ms = 4 * HOUR + 40 * MINUTE; now_ms < 8 * HOUR; now_ms += 5 * MINUTE) {
        observer_note(observer, "T1.A", 1000, now_ms);
        assert_null(observer_next(observer, now_ms, &rate));
    }
    observer_free(observer);
}

static void silence_shows(void **state)
{
    (void)state;
    struct observer *observer = observer_new(2 * HOUR, 0.25);
    double rate;
    run_evenly(observer, "T1.A", 1000, 5 * MINUTE, 0, 6 * HOUR);
    assert_non_null(observer_next(observer, 6 * HOUR, &rate));
    observer_told(observer, "T1.A", rate, 6 * HOUR);
    assert_null(observer_next(observer, 6 * HOUR + 20 * MINUTE, &rate)); /* within what may be */
    assert_null(observer_next(observer, 7 * HOUR, &rate));               /* away, but not for long */
    assert_non_null(observer_next(observer, 7 * HOUR + 30 * MINUTE, &rate));
    assert_true(rate < 9000);
    observer_told(observer, "T1.A", rate, 7 * HOUR + 30 * MINUTE);
    /* In the end no more than half a run in the memory: 250 an hour. */
    assert_near(observer_rate(observer, "T1.A", 30 * HOUR), 250, 0.01);
    observer_free(observer);
}

static void what_could_not_be_told_is_due_again(void **state)
{
    (void)state;
    struct observer *observer = observer_new(2 * HOUR, 0.25);
    double rate;
    run_evenly(observer, "T1.A", 1000, 5 * MINUTE, 0, 2 * HOUR);
    run_evenly(observer, "T2.A", 1000, 5 * MINUTE, 0, 2 * HOUR);
    assert_string_equal(observer_next(observer, 2 * HOUR, &rate), "T1.A");
    observer_told(observer, "T1.A", -1, 2 * HOUR);
    assert_string_equal(observer_next(observer, 2 * HOUR, &rate), "T2.A");
    assert_null(observer_next(observer, 2 * HOUR + 29 * MINUTE, &rate));
    assert_string_equal(observer_next(observer, 2 * HOUR + 30 * MINUTE, &rate), "T1.A");
    observer_free(observer);
}

/* An earlier owner has told of it: only what differs from that, and lasts, is told anew. */
static void what_an_earlier_owner_told_stands(void **state)
{
    (void)state;
    struct observer *observer = observer_new(2 * HOUR, 0.25);
    double rate;
    run_evenly(observer, "T1.A", 1000, 5 * MINUTE, 0, 2 * HOUR);
    assert_non_null(observer_next(observer, 2 * HOUR, &rate));
    assert_true(observer_differs(observer, 8000, rate));
    assert_false(observer_differs(observer, 10000, rate));
    observer_told(observer, "T1.A", 8000, 2 * HOUR); /* so the roster says */
    assert_null(observer_next(observer, 2 * HOUR + MINUTE, &rate));
    run_evenly(observer, "T1.A", 1000, 5 * MINUTE, 2 * HOUR, 3 * HOUR);
    assert_non_null(observer_next(observer, 3 * HOUR, &rate));
    observer_free(observer);
}

static bool is_not_the_second(void *arg, const char *chamber)
{
    (void)arg;
    return strcmp(chamber, "T2.A") != 0;
}

static void chambers_that_are_anothers_are_forgotten(void **state)
{
    (void)state;
    struct observer *observer = observer_new(2 * HOUR, 0.25);
    double rate;
    run_evenly(observer, "T1.A", 1000, 5 * MINUTE, 0, 2 * HOUR);
    run_evenly(observer, "T2.A", 1000, 5 * MINUTE, 0, 2 * HOUR);
    run_evenly(observer, "T3.A", 1000, 5 * MINUTE, 0, 2 * HOUR);
    observer_keep(observer, is_not_the_second, NULL);
    observer_forget(observer, "T3.A");
    observer_forget(observer, "T4.A");
    assert_string_equal(observer_next(observer, 2 * HOUR, &rate), "T1.A");
    assert_null(observer_next(observer, 2 * HOUR, &rate));
    observer_told(observer, "T2.A", 5, 2 * HOUR); /* the answer comes late: it means nothing */
    assert_true(observer_rate(observer, "T2.A", 2 * HOUR) < 0);
    observer_free(observer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_even_chamber_shows_an_even_rate),
        cmocka_unit_test(little_is_known_at_first),
        cmocka_unit_test(the_roster_is_told_once_and_again_after_a_lasting_change),
        cmocka_unit_test(a_short_burst_is_not_told),
        cmocka_unit_test(silence_shows),
        cmocka_unit_test(what_could_not_be_told_is_due_again),
        cmocka_unit_test(what_an_earlier_owner_told_stands),
        cmocka_unit_test(chambers_that_are_anothers_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
