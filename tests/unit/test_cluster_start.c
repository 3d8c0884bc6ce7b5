/* Stories of beginnings: cold start, claims, standby, restart. */
#include "cluster_stage.h"
#include "cmocka_setup.h"

#include <stdio.h>
#include <string.h>

static void five_start_at_once(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 100);
    stage_start_many(stage, 5);
    stage_run(stage, 4000);
    stage_expect(stage, "1 > claim defender-0\n"
                        "5 > claim defender-0\n"
                        "1 > claim defender-0: held\n"
                        "2 > claim defender-0: taken by another\n"
                        "2 > claim defender-1\n"
                        "2 > claim defender-1: held\n"
                        "1 > defender-0 leads, token 1\n"
                        "1 > map version 0 is under token 1\n"
                        "1 > cold start: no assignment yet, up to 30.0 s for others to come or go\n"
                        "1 > defender-4 has joined\n"
                        "1 > cold start (quiet): 5 joined, 0 left\n"
                        "1 > defender-0 owns 20 chambers, version 1\n"
                        "1 > cold start: 0 chambers moved, 100 placed, 5 members, version 1\n"
                        "5 > defender-4 owns 20 chambers, version 1\n"
                        "1 > version 1 is in force at all 5 members after");
    assert_int_equal(stage_count(stage, "leads, token"), 1);
    assert_int_equal(stage_count(stage, "chambers moved"), 1);
    assert_true(stage_time_of(stage, "version 1 is in force") < 2500);
    stage_check(stage, 100);
    stage_free(stage);
}

static void all_expected_are_there(void **state)
{
    (void)state;
    struct stage *stage = stage_new(&(struct cluster_config){.expected_members = 3});
    stage_add_chambers(stage, 1, 30);
    stage_start_many(stage, 2);
    stage_run(stage, 5000);
    /* Two of three: quiet is not enough. */
    assert_int_equal(stage_count(stage, "cold start ("), 0);
    stage_start(stage);
    stage_run_until(stage, "is in force at all 3 members", 500);
    stage_expect(stage, "1 > cold start: no assignment yet\n"
                        "1 > defender-2 has joined\n"
                        "1 > cold start (all expected are there): 3 joined, 0 left\n");
    stage_check(stage, 30);
    stage_free(stage);
}

static void the_cold_window_has_an_end(void **state)
{
    (void)state;
    struct stage *stage = stage_new(&(struct cluster_config){.expected_members = 9});
    stage_add_chambers(stage, 1, 30);
    stage_start_many(stage, 2);
    stage_run(stage, 31000);
    stage_expect(stage, "1 > cold start (time is up): 2 joined, 0 left\n");
    stage_check(stage, 30);
    stage_free(stage);
}

static void one_more_than_the_pool_has(void **state)
{
    (void)state;
    struct stage *stage = stage_new(&(struct cluster_config){.pool = 2});
    stage_add_chambers(stage, 1, 20);
    stage_start_many(stage, 3);
    stage_run(stage, 5000);
    struct cluster_status status;
    stage_status(stage, 3, &status);
    assert_int_equal(status.state, CLUSTER_STANDBY);
    assert_string_equal(status.id, "");
    stage_stop(stage, 2);
    stage_run(stage, 1000);
    stage_expect(stage, "3 > standing by: all 2 IDs are taken\n"
                        "2 > defender-1 stops: finishing what is in flight\n"
                        "2 > stopped\n"
                        "3 > claim defender-1: held\n"
                        "3 > defender-1 owns 10 chambers, version 1\n");
    assert_int_equal(stage_holder(stage, "defender-1"), 3);
    stage_check(stage, 20);
    stage_free(stage);
}

/* Everybody is killed and started again before any claim has run out. */
static void everybody_restarts(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 240);
    stage_start_many(stage, 12);
    stage_run(stage, 9000);
    stage_check(stage, 240);
    for (int p = 1; p <= 12; p++)
        stage_kill(stage, p);
    stage_run(stage, 1000);
    stage_start_many(stage, 3);
    stage_run_until(stage, "cold start: restart, the map knows 12, 3 are alive", 8000);
    stage_start_many(stage, 9);
    stage_run(stage, 12000);
    stage_expect(stage, "cold start: restart, the map knows 12, 3 are alive\n"
                        "cold start (quiet): 12 joined, 0 left\n"
                        "cold start: 240 chambers moved, 0 placed, 12 members, version 2\n");
    assert_int_equal(stage_count(stage, "emergency"), 0);
    stage_check(stage, 240);
    stage_free(stage);
}

/* The whole cluster stops in order and starts again: the same IDs, the same chambers, at once. */
static void everybody_comes_back(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 240);
    stage_start_many(stage, 12);
    stage_run(stage, 9000);
    for (int p = 12; p >= 1; p--)
        stage_stop(stage, p);
    stage_run(stage, 60000);
    stage_start_many(stage, 12);
    stage_run(stage, 200);
    stage_check(stage, 240);
    stage_run(stage, 20000);
    assert_int_equal(stage_count(stage, "chambers moved"), 1);
    assert_int_equal(stage_count(stage, "dead"), 0);
    stage_check(stage, 240);
    stage_free(stage);
}

static void a_supervisor_restarts_one(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 60);
    stage_start_many(stage, 3);
    stage_run(stage, 8000);
    stage_kill(stage, 1); /* the leader, too */
    stage_run(stage, 300);
    int again = stage_restart(stage, 1);
    stage_run(stage, 50);
    stage_check(stage, 60);
    assert_int_equal(stage_leader(stage), again);
    stage_run(stage, 12000);
    stage_expect(stage, "4 > claim defender-0: from the process that this one replaces\n"
                        "4 > claim defender-0: held\n"
                        "4 > defender-0 owns 20 chambers, version 1\n"
                        "4 > defender-0 leads\n");
    assert_int_equal(stage_count(stage, "chambers moved"), 1);
    stage_check(stage, 60);
    stage_free(stage);
}

/* The server has lost its disk: everything is written again, and counted on. */
static void the_store_is_lost(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 100);
    stage_start_many(stage, 5);
    stage_run(stage, 8000);
    stage_nats_away(stage);
    stage_run(stage, 1000);
    stage_nats_back(stage, true);
    stage_add_chambers(stage, 1, 100);
    stage_run(stage, 8000);
    stage_expect(stage, "2 > cut off: keeping 20 chambers, trusting no absence\n"
                        "2 > connected again\n"
                        "2 > the map is gone\n"
                        "2 > defender-0 leads, token 1\n"
                        "2 > cold start: no assignment yet\n"
                        "2 > cold start: 0 chambers moved, 100 placed, 5 members");
    stage_check(stage, 100);
    stage_free(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(five_start_at_once),         cmocka_unit_test(all_expected_are_there),
        cmocka_unit_test(the_cold_window_has_an_end), cmocka_unit_test(one_more_than_the_pool_has),
        cmocka_unit_test(everybody_restarts),         cmocka_unit_test(everybody_comes_back),
        cmocka_unit_test(a_supervisor_restarts_one),  cmocka_unit_test(the_store_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
