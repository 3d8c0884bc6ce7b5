/* Stories of change on purpose: scaling, rolling updates, canaries, the roster. */
#include "cluster_stage.h"
#include "cmocka_setup.h"

#include <stdlib.h>
#include <string.h>

static struct stage *stage_with(int processes, int chambers, const struct cluster_config *config)
{
    struct stage *stage = stage_new(config);
    stage_add_chambers(stage, 1, chambers);
    stage_start_many(stage, processes);
    stage_run(stage, 10000);
    stage_check(stage, chambers);
    return stage;
}

static void two_join(void **state)
{
    (void)state;
    struct stage *stage = stage_with(4, 120, NULL);
    int64_t started_ms = stage_now(stage);
    stage_start(stage);
    stage_run(stage, 800);
    stage_start(stage);
    stage_run(stage, 5000);
    stage_expect(stage, "1 > defender-4 has joined\n"
                        "1 > scaling: 1 joined, 0 leaving, 0 left, up to 10.0 s for others to come or go\n"
                        "1 > defender-5 has joined\n"
                        "1 > rebalance (quiet): 2 joined, 0 left\n"
                        "1 > rebalance: 24 chambers moved, 0 placed, 6 members, version 2\n");
    assert_true(stage_time_of(stage, "version 2 is in force at all 6") - started_ms < 3000);
    stage_check(stage, 120);
    stage_free(stage);
}

static void the_scale_window_has_an_end(void **state)
{
    (void)state;
    struct stage *stage = stage_with(4, 120, NULL);
    for (int i = 0; i < 8; i++) { /* it is never quiet */
        stage_start(stage);
        stage_run(stage, 1500);
    }
    stage_run(stage, 6000);
    stage_expect(stage, "1 > scaling: 1 joined, 0 leaving, 0 left\n"
                        "1 > rebalance (time is up): 7 joined, 0 left\n"
                        "1 > rebalance (quiet): 1 joined, 0 left\n");
    stage_check(stage, 120);
    stage_free(stage);
}

static void two_leave(void **state)
{
    (void)state;
    struct stage *stage = stage_with(6, 120, NULL);
    stage_stop(stage, 6);
    stage_run(stage, 100);
    stage_stop(stage, 5);
    stage_run(stage, 6000);
    stage_expect(stage, "6 > defender-5 stops: finishing what is in flight\n"
                        "1 > defender-5 is leaving\n"
                        "1 > defender-5 has released its ID\n"
                        "1 > scaling: 0 joined, 0 leaving, 1 left\n"
                        "1 > defender-4 has released its ID\n"
                        "1 > defender-5: taking its consumer away\n"
                        "1 > rebalance (quiet): 0 joined, 2 left\n"
                        "1 > rebalance: 40 chambers moved, 0 placed, 4 members, version 2\n");
    assert_int_equal(stage_count(stage, "dead"), 0);
    stage_check(stage, 120);
    stage_free(stage);
}

/* One that has much in flight holds the window open until it is done, but not for ever. */
static void one_leaves_slowly(void **state)
{
    (void)state;
    struct stage *stage = stage_with(4, 120, NULL);
    stage_slow_drain(stage, 4, 6000);
    stage_stop(stage, 4);
    stage_run(stage, 5900);
    assert_int_equal(stage_count(stage, "rebalance"), 0);
    stage_run(stage, 3000);
    stage_expect(stage, "1 > scaling: 0 joined, 1 leaving, 0 left\n"
                        "1 > defender-3 has released its ID\n"
                        "4 > stopped\n"
                        "1 > rebalance (quiet): 0 joined, 1 left\n");
    stage_check(stage, 120);
    stage_slow_drain(stage, 3, 25000);
    stage_stop(stage, 3);
    stage_run(stage, 12000);
    stage_expect(stage, "1 > defender-2: taking its consumer away\n"
                        "1 > rebalance (time is up): 0 joined, 1 left\n");
    stage_run(stage, 20000);
    stage_check(stage, 120);
    stage_free(stage);
}

/* A chamber is unserved from the stop of the one to the start of the other: milliseconds. Nothing moves. */
static void a_new_version_rolls_out(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60, NULL);
    for (int p = 1; p <= 3; p++) {
        stage_start_as(stage, "v2", "", 0);
        stage_run(stage, 1000);
        stage_stop(stage, p);
        stage_run(stage, 20);
        stage_check(stage, 60);
        stage_run(stage, 3000);
    }
    stage_run(stage, 20000);
    stage_expect(stage, "4 > standing by: version v1 still runs\n"
                        "1 > defender-0 no longer leads: resigned\n"
                        "1 > stopped\n"
                        "4 > claim defender-0: held\n"
                        "4 > defender-0 owns 20 chambers, version 1\n"
                        "4 > defender-0 leads, token\n"
                        "5 > standing by: version v1 still runs\n"
                        "2 > stopped\n"
                        "4 > defender-1 is held by another process now, and keeps its 20 chambers\n"
                        "5 > defender-1 owns 20 chambers, version 1\n"
                        "6 > standing by: version v1 still runs\n"
                        "6 > defender-2 owns 20 chambers, version 1\n");
    assert_int_equal(stage_count(stage, "rebalance"), 0);
    assert_int_equal(stage_count(stage, "version 2"), 0);
    stage_check(stage, 60);
    stage_free(stage);
}

/* Before anything is assigned, who stands by takes what a predecessor gives back, too. */
static void a_new_version_rolls_out_in_the_cold_window(void **state)
{
    (void)state;
    struct stage *stage = stage_new(&(struct cluster_config){.expected_members = 9});
    stage_add_chambers(stage, 1, 60);
    stage_start_many(stage, 3);
    stage_run(stage, 500);
    for (int p = 1; p <= 3; p++) {
        stage_start_as(stage, "v2", "", 0);
        stage_run(stage, 1000);
        stage_stop(stage, p);
        stage_run(stage, 1000);
    }
    stage_expect(stage, "4 > standing by: version v1 still runs\n"
                        "1 > stopped\n"
                        "4 > claim defender-0: held\n"
                        "5 > standing by: version v1 still runs\n"
                        "2 > stopped\n"
                        "5 > claim defender-1: held\n"
                        "3 > stopped\n"
                        "6 > claim defender-2: held\n");
    stage_run(stage, 40000);
    stage_check(stage, 60);
    stage_free(stage);
}

/* A standby is no reason to wait: the others take a crashed member's chambers. */
static void one_crashes_in_a_rolling_update(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60, NULL);
    stage_start_as(stage, "v2", "", 0);
    stage_run(stage, 1000);
    stage_kill(stage, 2);
    stage_run(stage, 8000);
    stage_expect(stage, "1 > emergency, defender-1: 20 chambers moved, 0 placed, 2 members, version 2\n");
    stage_check(stage, 60);
    stage_free(stage);
}

/* A canary is no rolling update: it does not wait, and holds no more than its share. */
static void a_canary_joins(void **state)
{
    (void)state;
    struct stage *stage = stage_with(4, 200, NULL);
    int canary = stage_start_as(stage, "v2", "canary", 0.05);
    stage_run(stage, 6000);
    assert_int_equal(stage_holder(stage, "defender-4"), canary);
    assert_in_range(stage_filters(stage, "defender-4"), 5, 10);
    assert_non_null(strstr(stage_value(stage, BUCKET_STABLE_IDS, "defender-4"), "\"group\":\"canary\""));
    stage_check(stage, 200);
    /* After a crash it still holds no more. */
    stage_kill(stage, 3);
    stage_run(stage, 5000);
    assert_in_range(stage_filters(stage, "defender-4"), 5, 10);
    stage_check(stage, 200);
    stage_free(stage);
}

static void the_roster_grows_and_shrinks(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60, NULL);
    stage_add_chambers(stage, 61, 3);
    stage_run(stage, 100);
    stage_add_chambers(stage, 64, 3);
    stage_run(stage, 900);
    stage_check(stage, 66);
    stage_remove_chamber(stage, 5);
    stage_run(stage, 1000);
    stage_expect(stage, "1 > roster: 6 chambers placed, 0 dropped, version 2\n"
                        "1 > roster: 0 chambers placed, 1 dropped, version 3\n");
    stage_check(stage, 65);
    /* One comes back. */
    stage_add_chambers(stage, 5, 1);
    stage_run(stage, 1000);
    stage_check(stage, 66);
    stage_free(stage);
}

static void an_orphan_is_adopted(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60, NULL);
    stage_add_orphan(stage, "T9999.C2");
    stage_run(stage, 4000);
    stage_expect(stage, "1 > T9999.C2 has messages and is not in the roster: added\n"
                        "1 > roster: 1 chambers placed, 0 dropped, version 2\n");
    assert_string_equal(stage_value(stage, BUCKET_CHAMBERS, "T9999.C2"), "{\"weight\":1000}");
    assert_int_equal(stage_count(stage, "T9999.C2 has messages"), 1);
    stage_check(stage, 61);
    stage_free(stage);
}

/* Weights that have changed a lot are worth moving chambers, once in a while. */
static void weights_change(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60, &(struct cluster_config){.reweigh_ms = 20000});
    /* All that one member owns becomes heavy. */
    const char *owned = stage_value(stage, BUCKET_ASSIGNMENTS, "to.defender-1");
    for (const char *at = strstr(owned, "\"T"); at; at = strstr(at + 1, "\"T"))
        stage_set_weight(stage, atoi(at + 2), 9000);
    stage_run(stage, 5000);
    assert_int_equal(stage_count(stage, "weights"), 0);
    stage_run(stage, 10000);
    stage_expect(stage, "1 > weights have changed:");
    for (int i = 1; i <= 60; i += 3)
        stage_set_weight(stage, i, 1000);
    stage_run(stage, 15000);
    assert_int_equal(stage_count(stage, "weights have changed"), 1);
    stage_check(stage, 60);
    stage_free(stage);
}

static size_t owned_by(const struct stage *stage, const char *key, int chambers[static 64])
{
    size_t count = 0;
    const char *owned = stage_value(stage, BUCKET_ASSIGNMENTS, key);
    for (const char *at = strstr(owned, "\"T"); at && count < 64; at = strstr(at + 1, "\"T"))
        chambers[count++] = atoi(at + 2);
    return count;
}

/* Owners tell of 12 runs an hour of each chamber, as registered: that moves nothing. Then the chambers of one
 * member turn out to be three times as busy: what moves is what the bounds demand, once, and every member
 * that gains stays within them. */
static void load_is_observed(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60, &(struct cluster_config){.reweigh_ms = 20000});
    for (int i = 1; i <= 60; i++)
        stage_observe(stage, i, 1000, i % 2 ? 12000 : 12600);
    stage_run(stage, 21000);
    assert_int_equal(stage_count(stage, "weights have changed"), 0);

    int busy[64];
    size_t count = owned_by(stage, "to.defender-1", busy);
    for (size_t i = 0; i < count; i++)
        stage_observe(stage, busy[i], 1000, 36000);
    stage_run(stage, 21000);
    stage_expect(stage, "1 > weights have changed:");
    const char *map = stage_value(stage, BUCKET_ASSIGNMENTS, "map");
    double heaviest = atof(strstr(map, "\"heaviest\":") + strlen("\"heaviest\":"));
    int moved = atoi(strstr(map, "\"moved\":") + strlen("\"moved\":"));
    int least = atoi(strstr(map, "\"least\":") + strlen("\"least\":"));
    assert_true(heaviest <= 1.2);
    assert_in_range(moved, least, least + 1);
    assert_in_range(moved, 1, 12);

    stage_run(stage, 60000); /* nothing has changed since */
    assert_int_equal(stage_count(stage, "weights have changed"), 1);
    stage_check(stage, 60);
    stage_free(stage);
}

/* Half the chambers are observed, the others registered only: both count in one unit, and nothing moves, be
 * an hour's points many more than a run's. A chamber that is idle counts with a tenth, not with nothing. */
static void some_are_observed(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60, &(struct cluster_config){.reweigh_ms = 20000});
    for (int i = 1; i <= 60; i += 2)
        stage_observe(stage, i, 1000, 120000);
    stage_run(stage, 21000);
    assert_int_equal(stage_count(stage, "weights have changed"), 0);

    int idle[64];
    size_t count = owned_by(stage, "to.defender-1", idle);
    for (size_t i = 0; i < count; i++)
        stage_observe(stage, idle[i], 1000, 0);
    stage_run(stage, 21000);
    stage_expect(stage, "1 > weights have changed:");
    const char *map = stage_value(stage, BUCKET_ASSIGNMENTS, "map");
    const char *member = strstr(map, "\"defender-1\"");
    int64_t weight = atoll(strstr(member, "\"weight\":") + strlen("\"weight\":"));
    assert_true(weight >= 10000);
    stage_check(stage, 60);
    stage_free(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_join),
        cmocka_unit_test(the_scale_window_has_an_end),
        cmocka_unit_test(two_leave),
        cmocka_unit_test(one_leaves_slowly),
        cmocka_unit_test(a_new_version_rolls_out),
        cmocka_unit_test(a_new_version_rolls_out_in_the_cold_window),
        cmocka_unit_test(one_crashes_in_a_rolling_update),
        cmocka_unit_test(a_canary_joins),
        cmocka_unit_test(the_roster_grows_and_shrinks),
        cmocka_unit_test(an_orphan_is_adopted),
        cmocka_unit_test(weights_change),
        cmocka_unit_test(load_is_observed),
        cmocka_unit_test(some_are_observed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
