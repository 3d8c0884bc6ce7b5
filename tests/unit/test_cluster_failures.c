/* Stories of failures: who is found dead, how soon, and what moves. */
#include "cluster_stage.h"
#include "cmocka_setup.h"

#include <string.h>

static struct stage *five_with_100(void)
{
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 100);
    stage_start_many(stage, 5);
    stage_run(stage, 10000);
    stage_check(stage, 100);
    return stage;
}

static void one_crashes(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    int64_t killed_ms = stage_now(stage);
    stage_kill(stage, 3);
    stage_run(stage, 4000);
    stage_expect(stage, "3 > (killed)\n"
                        "1 > defender-2 silent for 1.5 s: asking\n"
                        "1 > defender-2 silent for 2.0 s and has no connection: dead\n"
                        "1 > defender-2: taking its consumer away\n"
                        "1 > emergency, defender-2: 20 chambers moved, 0 placed, 4 members, version 2\n"
                        "1 > version 2 is in force at all 4 members\n");
    /* Detected in 2 s, owned in 3 s. */
    assert_true(stage_time_of(stage, "no connection: dead") - killed_ms <= 2000);
    assert_true(stage_time_of(stage, "version 2 is in force") - killed_ms <= 3000);
    /* Its claim does not stand in the way of the next. */
    assert_null(stage_value(stage, BUCKET_STABLE_IDS, "defender-2"));
    assert_null(stage_value(stage, BUCKET_ASSIGNMENTS, "to.defender-2"));
    stage_check(stage, 100);
    stage_free(stage);
}

static void five_crash_at_once(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 300);
    stage_start_many(stage, 15);
    stage_run(stage, 10000);
    int64_t killed_ms = stage_now(stage);
    for (int p = 3; p < 8; p++) {
        stage_kill(stage, p);
        stage_run(stage, 20);
    }
    stage_run(stage, 4000);
    struct cluster_status status;
    stage_status(stage, 1, &status);
    /* Few go first to one that is about to be found dead: those that missed a heartbeat get none. */
    assert_in_range(status.moved, 100, 110);
    assert_int_equal(status.members_alive, 10);
    assert_true(stage_time_of(stage, "is in force at all 10 members") - killed_ms <= 3000);
    stage_check(stage, 300);
    stage_free(stage);
}

/* A process hangs, with its connection: only silence tells. When it wakes, its consumer is gone. */
static void one_hangs_and_wakes(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    int64_t paused_ms = stage_now(stage);
    stage_pause(stage, 4);
    stage_run(stage, 8000);
    stage_check(stage, 100);
    assert_true(stage_time_of(stage, "dead") - paused_ms <= 6000);
    stage_run(stage, 12000);
    stage_resume(stage, 4);
    stage_run(stage, 5000);
    stage_expect(stage, "4 > (paused)\n"
                        "1 > defender-3 silent for 1.5 s: asking\n"
                        "1 > defender-3 silent for 6.0 s: dead\n"
                        "1 > defender-3: taking its consumer away\n"
                        "1 > emergency, defender-3: 20 chambers moved, 0 placed, 4 members, version 2\n"
                        "4 > (resumed)\n"
                        "4 > was asleep for 20.0 s\n"
                        "4 > defender-3 is lost: fenced, its consumer was deleted\n"
                        "4 > claim defender-3: held\n"
                        "1 > scaling: 1 joined, 0 leaving, 0 left\n"
                        "1 > rebalance (quiet): 1 joined, 0 left\n");
    stage_check(stage, 100);
    stage_free(stage);
}

/* A short pause is no death: it answers late, and nothing has changed. */
static void one_hangs_for_a_moment(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_pause(stage, 4);
    stage_run(stage, 5000);
    stage_resume(stage, 4);
    stage_run(stage, 10000);
    stage_expect(stage, "1 > defender-3 silent for 1.5 s: asking\n"
                        "4 > was asleep for 5.0 s\n");
    assert_int_equal(stage_count(stage, "dead"), 0);
    assert_int_equal(stage_count(stage, "version 2"), 0);
    stage_check(stage, 100);
    stage_free(stage);
}

/* Cut off from NATS: it goes on owning what it had, and is found out when it is back. */
static void one_is_cut_off(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_cut(stage, 5);
    stage_run(stage, 15000);
    struct cluster_status status;
    stage_status(stage, 5, &status);
    assert_int_equal(status.state, CLUSTER_DEGRADED);
    assert_int_equal(status.chambers, 20);
    stage_mend(stage, 5);
    stage_run(stage, 8000);
    stage_expect(stage, "5 > cut off: keeping 20 chambers, trusting no absence\n"
                        "1 > defender-4 silent for 2.0 s and has no connection: dead\n"
                        "1 > emergency, defender-4: 20 chambers moved\n"
                        "5 > connected again\n"
                        "1 > rebalance (quiet): 1 joined, 0 left\n");
    stage_check(stage, 100);
    stage_free(stage);
}

static void the_leader_crashes(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    int64_t killed_ms = stage_now(stage);
    stage_kill(stage, 1);
    stage_run(stage, 8000);
    stage_expect(stage, "1 > (killed)\n"
                        "2 > leader defender-0 has not renewed its lease\n"
                        "2 > defender-1 leads, token\n"
                        "2 > map version 1 is under token\n"
                        "2 > defender-0 silent for 2.0 s: asking\n"
                        "2 > defender-0 silent for 2.0 s and has no connection: dead\n"
                        "2 > emergency, defender-0: 20 chambers moved, 0 placed, 4 members, version 2\n");
    assert_int_equal(stage_count(stage, "leads, token"), 2);
    assert_true(stage_time_of(stage, "version 2 is in force") - killed_ms <= 4000);
    stage_check(stage, 100);
    stage_free(stage);
}

static void the_leader_stops(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    int64_t stopped_ms = stage_now(stage);
    stage_stop(stage, 1);
    stage_run(stage, 8000);
    stage_expect(stage, "1 > defender-0 stops: finishing what is in flight\n"
                        "1 > defender-0 no longer leads: resigned\n"
                        "1 > stopped\n"
                        "2 > defender-1 leads, token\n"
                        "2 > scaling: 0 joined, 0 leaving, 1 left, up to 10.0 s for others to come or go\n"
                        "2 > defender-0: taking its consumer away\n"
                        "2 > rebalance (quiet): 0 joined, 1 left\n"
                        "2 > rebalance: 20 chambers moved, 0 placed, 4 members, version 2\n");
    assert_true(stage_time_of(stage, "map version 1 is under token") - stopped_ms <= 100);
    stage_check(stage, 100);
    stage_free(stage);
}

/* The leader dies between the keys and the map. Its successor goes on, under a version of its own. */
static void the_leader_dies_in_a_commit(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_start_many(stage, 2);
    stage_kill_at_write(stage, 1, "map", false);
    stage_run(stage, 15000);
    stage_expect(stage, "1 > rebalance (quiet): 2 joined, 0 left\n"
                        "1 > (killed)\n"
                        "2 > defender-1 leads\n"
                        "2 > map version 1 is under token\n"
                        "2 > keys that differ from the map: 0 chambers placed, 0 dropped, version 3\n"
                        "7 > defender-6 owns 10 chambers, version 3\n"
                        "2 > emergency, defender-0: 17 chambers moved, 0 placed, 6 members, version 4\n");
    stage_check(stage, 100);
    stage_free(stage);
}

/* It dies when the map is written, but before it knows. */
static void the_leader_dies_after_a_commit(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_start_many(stage, 2);
    stage_kill_at_write(stage, 1, "map", true);
    stage_run(stage, 15000);
    stage_expect(stage, "1 > (killed)\n"
                        "7 > defender-6 owns 10 chambers, version 2\n"
                        "2 > map version 2 is under token\n"
                        "2 > emergency, defender-0: 17 chambers moved, 0 placed, 6 members, version 3\n");
    stage_check(stage, 100);
    stage_free(stage);
}

/* ... and while only some of the keys are. */
static void the_leader_dies_amid_the_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {"to.defender-6", "to.defender-5", "to.defender-1", "to.defender-4"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        struct stage *stage = five_with_100();
        stage_start_many(stage, 2);
        stage_kill_at_write(stage, 1, keys[i], i % 2 == 0);
        stage_run(stage, 20000);
        assert_int_equal(stage_count(stage, "(killed)"), 1);
        stage_check(stage, 100);
        stage_free(stage);
    }
}

/* The old leader hangs in the middle of a commit, and wakes when another leads. */
static void the_leader_hangs_in_a_commit(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_start(stage);
    stage_run_until(stage, "rebalance (quiet)", 5000);
    stage_pause(stage, 1);
    stage_run(stage, 12000);
    stage_resume(stage, 1);
    stage_run(stage, 10000);
    stage_expect(stage, "1 > (paused)\n"
                        "2 > defender-1 leads, token\n"
                        "2 > keys that differ from the map: 0 chambers placed, 0 dropped, version 3\n"
                        "2 > defender-0 silent for 6.0 s: dead\n"
                        "2 > emergency, defender-0:\n"
                        "1 > (resumed)\n"
                        "1 > defender-0 stops acting: its lease could not be renewed in time\n"
                        "1 > defender-0 no longer leads: another holds the lease\n"
                        "1 > defender-0 is lost\n"
                        "1 > claim defender-0: held\n"
                        "2 > rebalance (quiet): 1 joined, 0 left\n");
    stage_check(stage, 100);
    stage_free(stage);
}

/* The old leader's write of the map is on its way while another takes over: too late. */
static void a_deposed_leader_commits_nothing(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_start_many(stage, 2);
    stage_fail_write(stage, 1, "map", FAULT_DONE_LATE);
    stage_run_until(stage, "rebalance (quiet)", 5000);
    stage_run(stage, 10);
    stage_kill(stage, 1);
    stage_run(stage, 20000);
    stage_expect(stage, "1 > (killed)\n"
                        "2 > defender-1 leads, token\n"
                        "2 > keys that differ from the map\n"
                        "1 > (late write of map refused)\n");
    stage_check(stage, 100);
    stage_free(stage);
}

static void nats_is_away_for_9_s(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_nats_away(stage);
    stage_run(stage, 9000);
    stage_nats_back(stage, false);
    stage_run(stage, 20000);
    stage_expect(stage, "5 > cut off: keeping 20 chambers, trusting no absence\n"
                        "5 > connected again\n"
                        "2 > defender-1 leads, token\n"
                        "2 > map version 1 is under token\n");
    assert_int_equal(stage_count(stage, "dead"), 0);
    assert_int_equal(stage_count(stage, "lost"), 0);
    assert_int_equal(stage_count(stage, "chambers moved"), 1);
    stage_check(stage, 100);
    stage_free(stage);
}

/* NATS is back, one process is not: it is dead, but only the grace period tells. */
static void one_does_not_come_back(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_nats_away(stage);
    stage_run(stage, 3000);
    stage_kill(stage, 3);
    stage_run(stage, 1000);
    int64_t back_ms = stage_now(stage);
    stage_nats_back(stage, false);
    stage_run(stage, 12000);
    int64_t dead_ms = stage_time_of(stage, "dead");
    assert_true(dead_ms - back_ms >= 6000 && dead_ms - back_ms <= 8000);
    assert_int_equal(stage_count(stage, "dead"), 1);
    stage_check(stage, 100);
    stage_free(stage);
}

/* JetStream has no leader for 9 s; the defenders hear each other all the while. */
static void the_store_stalls_for_9_s(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_kv_stall(stage, 9000);
    stage_run(stage, 30000);
    stage_expect(stage, "1 > defender-0 stops acting: its lease could not be renewed in time\n"
                        "2 > leader defender-0 has not renewed its lease\n"
                        "2 > defender-1 leads, token\n");
    assert_int_equal(stage_count(stage, "dead"), 0);
    assert_int_equal(stage_count(stage, "chambers moved"), 1);
    stage_check(stage, 100);
    stage_free(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_crashes),
        cmocka_unit_test(five_crash_at_once),
        cmocka_unit_test(one_hangs_and_wakes),
        cmocka_unit_test(one_hangs_for_a_moment),
        cmocka_unit_test(one_is_cut_off),
        cmocka_unit_test(the_leader_crashes),
        cmocka_unit_test(the_leader_stops),
        cmocka_unit_test(the_leader_dies_in_a_commit),
        cmocka_unit_test(the_leader_dies_after_a_commit),
        cmocka_unit_test(the_leader_dies_amid_the_keys),
        cmocka_unit_test(the_leader_hangs_in_a_commit),
        cmocka_unit_test(a_deposed_leader_commits_nothing),
        cmocka_unit_test(nats_is_away_for_9_s),
        cmocka_unit_test(one_does_not_come_back),
        cmocka_unit_test(the_store_stalls_for_9_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
