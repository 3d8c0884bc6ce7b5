/* The autoscaler over hours of simulated time: a fab in which every context takes as long as it is told, and
 * defenders that appear and go as the machine says. */
#include "cmocka_setup.h"

#include "cli/autoscale.h"

#include <stdlib.h>
#include <string.h>

#define SECOND_US INT64_C(1000000)
#define MINUTES(n) ((n)*60 * SECOND_US)
#define MS_NS INT64_C(1000000)

enum { POLL_S = 5, DEFENDERS_MAX = 16 };

struct world {
    struct autoscale autoscale;
    struct autoscale_sample counted[DEFENDERS_MAX];
    size_t running;
    size_t silent; /* of the running ones, those that do not answer */
    int64_t now_us;
    int64_t waiting;
    int64_t next_process;
    enum autoscale_decision last;
    size_t outs, ins;
    int64_t changed_us[64]; /* when it was scaled, out or in */
    size_t changes;
};

static void start_one(struct world *world)
{
    world->counted[world->running++] = (struct autoscale_sample){.process = world->next_process++};
}

static void begin(struct world *world, size_t least, size_t most)
{
    memset(world, 0, sizeof *world);
    world->autoscale.settings = autoscale_standard(least, most);
    world->now_us = 12345 * SECOND_US;
    world->next_process = 100;
    while (world->running < least)
        start_one(world);
}

static int make_world(void **state)
{
    *state = calloc(1, sizeof(struct world));
    return *state ? 0 : -1;
}

static int free_world(void **state)
{
    free(*state);
    return 0;
}

/* Ended contexts of one defender, all of which took `ms`. */
static void judge(struct autoscale_sample *sample, uint64_t contexts, int64_t ms)
{
    sample->count += contexts;
    sample->sum_ns += (int64_t)contexts * ms * MS_NS;
    for (size_t i = 0; i < PROMETHEUS_BOUNDS; i++)
        if (ms * MS_NS <= prometheus_bounds_ns[i])
            sample->within[i] += contexts;
}

static void obey(struct world *world, enum autoscale_decision decision)
{
    world->last = decision;
    if (decision != AUTOSCALE_OUT && decision != AUTOSCALE_IN)
        return;
    if (decision == AUTOSCALE_OUT) {
        start_one(world);
        world->outs++;
    } else {
        world->running--;
        world->ins++;
    }
    assert_true(world->changes < 64);
    world->changed_us[world->changes++] = world->now_us;
}

static void observe(struct world *world)
{
    struct autoscale_observation observation = {.samples = world->counted + world->silent,
                                                .sample_count = world->running - world->silent,
                                                .running = world->running,
                                                .waiting = world->waiting};
    obey(world, autoscale_step(&world->autoscale, world->now_us, &observation));
}

/* For so long, `contexts` end in all each second, and take `ms`. */
static void pass(struct world *world, int64_t time_us, uint64_t contexts, int64_t ms)
{
    for (int64_t end_us = world->now_us + time_us; world->now_us < end_us;) {
        world->now_us += POLL_S * SECOND_US;
        for (size_t i = 0; i < world->running; i++)
            judge(&world->counted[i], contexts * POLL_S / world->running, ms);
        observe(world);
    }
}

static void a_load_below_the_bound_changes_nothing(void **state)
{
    struct world *world = *state;
    begin(world, 3, 10);
    pass(world, MINUTES(300), 12, 4400);
    assert_int_equal(world->changes, 0);
    assert_in_range(world->autoscale.p95_ns, 4000 * MS_NS, 5000 * MS_NS);
}

static void over_the_bound_for_the_time_starts_one(void **state)
{
    struct world *world = *state;
    begin(world, 3, 10);
    pass(world, MINUTES(5), 12, 6000);
    assert_int_equal(world->outs, 0); /* it was first seen over 5 s after 5 s */
    pass(world, POLL_S * SECOND_US, 12, 6000);
    assert_int_equal(world->outs, 1);
    assert_int_equal(world->running, 4);
}

static void a_peak_that_is_over_in_time_starts_none(void **state)
{
    struct world *world = *state;
    begin(world, 3, 10);
    for (int peak = 0; peak < 10; peak++) {
        pass(world, MINUTES(3), 12, 9000); /* and its window, 1 min */
        pass(world, MINUTES(3), 12, 2000);
    }
    assert_int_equal(world->changes, 0);
}

/* Five in a hundred may be slow, not six. */
static void it_is_the_95th_percentile(void **state)
{
    struct world *world = *state;
    for (int slow = 4; slow <= 6; slow += 2) {
        begin(world, 1, 2);
        for (int i = 0; i < 120; i++) {
            world->now_us += POLL_S * SECOND_US;
            judge(&world->counted[0], (uint64_t)(100 - slow), 2000);
            judge(&world->counted[0], (uint64_t)slow, 30000);
            observe(world);
        }
        assert_int_equal(world->outs, slow > 5);
    }
}

/* The percentile is that of the window: hours of quick contexts before do not hide slow ones, nor the
 * reverse. */
static void the_past_does_not_count(void **state)
{
    struct world *world = *state;
    begin(world, 3, 10);
    pass(world, MINUTES(600), 120, 2000);
    pass(world, MINUTES(7), 6, 8000);
    assert_int_equal(world->outs, 1);
    pass(world, MINUTES(2), 6, 2000);
    assert_in_range(world->autoscale.p95_ns, 1500 * MS_NS, 2000 * MS_NS);
}

static void at_most_two_changes_an_hour(void **state)
{
    struct world *world = *state;
    begin(world, 3, 10);
    pass(world, MINUTES(59), 12, 8000);
    assert_int_equal(world->outs, 2);
    assert_int_equal(world->last, AUTOSCALE_HELD);
    pass(world, MINUTES(6 * 60), 12, 8000);
    assert_int_equal(world->running, 10);
    assert_int_equal(world->last, AUTOSCALE_AT_MOST);
    for (size_t i = 2; i < world->changes; i++)
        assert_true(world->changed_us[i] - world->changed_us[i - 2] >= MINUTES(60));
}

static void it_never_leaves_its_bounds(void **state)
{
    struct world *world = *state;
    begin(world, 3, 4);
    pass(world, MINUTES(300), 12, 20000);
    assert_int_equal(world->running, 4);
    assert_int_equal(world->last, AUTOSCALE_AT_MOST);
    pass(world, MINUTES(600), 1, 5);
    assert_int_equal(world->running, 3);
    assert_int_equal(world->ins, 1);
    assert_int_equal(world->last, AUTOSCALE_STAY);
}

static void who_is_idle_for_the_time_goes(void **state)
{
    struct world *world = *state;
    begin(world, 1, 4);
    pass(world, MINUTES(70), 4, 8000);
    size_t most = world->running;
    assert_true(most > 1);
    pass(world, MINUTES(150), 0, 0); /* nothing happens at all */
    assert_int_equal(world->running, 1);
    assert_int_equal(world->ins, most - 1);
}

/* Quick contexts, but so many that those that were left would be busy: 30/s of 200 ms are 6 at work. */
static void quick_is_not_idle(void **state)
{
    struct world *world = *state;
    begin(world, 2, 4);
    start_one(world);
    pass(world, MINUTES(300), 30, 200);
    assert_int_equal(world->changes, 0);
    assert_true(world->autoscale.at_work > 5.5 && world->autoscale.at_work < 6.5);
}

static void a_load_that_flaps_changes_at_most_as_the_limit_says(void **state)
{
    struct world *world = *state;
    begin(world, 2, 8);
    for (int i = 0; i < 60; i++) { /* each half lasts long enough to be acted upon */
        pass(world, MINUTES(8), 12, 9000);
        pass(world, MINUTES(12), 1, 5);
    }
    assert_true(world->outs > 2 && world->ins > 2);
    for (size_t i = 2; i < world->changes; i++)
        assert_true(world->changed_us[i] - world->changed_us[i - 2] >= MINUTES(60));
    size_t before = world->changes;
    for (int i = 0; i < 100; i++) { /* quicker than the times: the middle of nowhere */
        pass(world, MINUTES(3), 12, 9000);
        pass(world, MINUTES(6), 1, 5);
    }
    assert_int_equal(world->changes, before);
}

/* The store is away: nothing ends, much waits. No reason to stop anybody, and none to start one. */
static void standstill_is_neither_load_nor_rest(void **state)
{
    struct world *world = *state;
    begin(world, 2, 8);
    start_one(world);
    world->waiting = 500;
    pass(world, MINUTES(120), 0, 0);
    assert_int_equal(world->changes, 0);
    world->waiting = -1; /* not known */
    pass(world, MINUTES(120), 0, 0);
    assert_int_equal(world->changes, 0);
    world->waiting = 0;
    pass(world, MINUTES(11), 0, 0);
    assert_int_equal(world->ins, 1);
}

/* One that is only slow to answer is not gone: what it has counted counts once. */
static void who_does_not_answer_is_still_there(void **state)
{
    struct world *world = *state;
    begin(world, 2, 8);
    start_one(world);
    pass(world, MINUTES(2), 3, 1);
    world->silent = 1;
    pass(world, MINUTES(60), 3, 1);
    assert_int_equal(world->changes, 0); /* idle, as far as is known */
    world->silent = 0;
    pass(world, MINUTES(9), 3, 1);
    assert_int_equal(world->changes, 0);
    pass(world, MINUTES(2), 3, 1);
    assert_int_equal(world->ins, 1);
}

/* A defender that was restarted counts from zero under another process id, and even under the same. */
static void a_restart_does_not_upset_the_count(void **state)
{
    struct world *world = *state;
    begin(world, 1, 2);
    pass(world, MINUTES(60), 10, 2000);
    world->counted[0] = (struct autoscale_sample){.process = 999};
    pass(world, MINUTES(1), 10, 2000);
    world->counted[0] = (struct autoscale_sample){.process = 999};
    pass(world, MINUTES(1), 10, 2000);
    assert_int_equal(world->changes, 0);
    assert_in_range(world->autoscale.p95_ns, 1500 * MS_NS, 2000 * MS_NS);
    assert_true(world->autoscale.at_work > 19 && world->autoscale.at_work < 21);
}

static void compressed_times_work_the_same(void **state)
{
    struct world *world = *state;
    begin(world, 1, 2);
    world->autoscale.settings.window_us = 400 * 1000;
    world->autoscale.settings.after_us = 1 * SECOND_US;
    world->autoscale.settings.idle_us = 2 * SECOND_US;
    world->autoscale.settings.per_us = 10 * SECOND_US;
    for (int i = 0; i < 60; i++) {
        world->now_us += 20 * 1000;
        judge(&world->counted[0], 2, 7000);
        observe(world);
    }
    assert_int_equal(world->outs, 1);
    for (int i = 0; i < 130; i++) {
        world->now_us += 20 * 1000;
        observe(world);
    }
    assert_int_equal(world->ins, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_load_below_the_bound_changes_nothing, make_world, free_world),
        cmocka_unit_test_setup_teardown(over_the_bound_for_the_time_starts_one, make_world, free_world),
        cmocka_unit_test_setup_teardown(a_peak_that_is_over_in_time_starts_none, make_world, free_world),
        cmocka_unit_test_setup_teardown(it_is_the_95th_percentile, make_world, free_world),
        cmocka_unit_test_setup_teardown(the_past_does_not_count, make_world, free_world),
        cmocka_unit_test_setup_teardown(at_most_two_changes_an_hour, make_world, free_world),
        cmocka_unit_test_setup_teardown(it_never_leaves_its_bounds, make_world, free_world),
        cmocka_unit_test_setup_teardown(who_is_idle_for_the_time_goes, make_world, free_world),
        cmocka_unit_test_setup_teardown(quick_is_not_idle, make_world, free_world),
        cmocka_unit_test_setup_teardown(a_load_that_flaps_changes_at_most_as_the_limit_says, make_world,
                                        free_world),
        cmocka_unit_test_setup_teardown(standstill_is_neither_load_nor_rest, make_world, free_world),
        cmocka_unit_test_setup_teardown(who_does_not_answer_is_still_there, make_world, free_world),
        cmocka_unit_test_setup_teardown(a_restart_does_not_upset_the_count, make_world, free_world),
        cmocka_unit_test_setup_teardown(compressed_times_work_the_same, make_world, free_world),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
