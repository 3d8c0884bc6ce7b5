/* Stories of crashes: who is found dead, how soon, and what moves. */
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

static void crash_of_one(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    int64_t killed = stage_now(stage);
    stage_kill(stage, 3);
    stage_run(stage, 4000);
    stage_print(stage);
    print_message("detected %lld\n", (long long)(stage_time_of(stage, "dead") - killed));
    stage_check(stage, 100);
    stage_free(stage);
}

static void hang(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_pause(stage, 4);
    stage_run(stage, 20000);
    stage_check(stage, 100);
    stage_resume(stage, 4);
    stage_run(stage, 5000);
    stage_print(stage);
    stage_check(stage, 100);
    stage_free(stage);
}

static void leader_crash(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_kill(stage, 1);
    stage_run(stage, 8000);
    stage_print(stage);
    stage_check(stage, 100);
    stage_free(stage);
}

static void leader_stops(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_stop(stage, 1);
    stage_run(stage, 8000);
    stage_print(stage);
    stage_check(stage, 100);
    stage_free(stage);
}

static void five_at_once(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 300);
    stage_start_many(stage, 15);
    stage_run(stage, 10000);
    for (int p = 3; p < 8; p++) {
        stage_kill(stage, p);
        stage_run(stage, 20);
    }
    stage_run(stage, 4000);
    stage_print(stage);
    stage_check(stage, 300);
    stage_free(stage);
}

static void leader_dies_in_commit(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_start_many(stage, 2);
    stage_kill_at_write(stage, 1, "map", false);
    stage_run(stage, 15000);
    stage_print(stage);
    stage_check(stage, 100);
    stage_free(stage);
}

static void nats_away(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_nats_away(stage);
    stage_run(stage, 9000);
    stage_nats_back(stage, false);
    stage_run(stage, 15000);
    stage_print(stage);
    stage_check(stage, 100);
    stage_free(stage);
}

static void store_lost(void **state)
{
    (void)state;
    struct stage *stage = five_with_100();
    stage_nats_away(stage);
    stage_run(stage, 1000);
    stage_nats_back(stage, true);
    stage_add_chambers(stage, 1, 100);
    stage_run(stage, 15000);
    stage_print(stage);
    stage_check(stage, 100);
    stage_free(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crash_of_one), cmocka_unit_test(hang),
        cmocka_unit_test(leader_crash), cmocka_unit_test(leader_stops),
        cmocka_unit_test(five_at_once), cmocka_unit_test(leader_dies_in_commit),
        cmocka_unit_test(nats_away),    cmocka_unit_test(store_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
