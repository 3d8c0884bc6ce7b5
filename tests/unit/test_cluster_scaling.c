/* Stories of scaling, rolling updates and canaries. */
#include "cluster_stage.h"
#include "cmocka_setup.h"

#include <string.h>

static struct stage *stage_with(int processes, int chambers)
{
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, chambers);
    stage_start_many(stage, processes);
    stage_run(stage, 10000);
    stage_check(stage, chambers);
    return stage;
}

static void scale_up_and_down(void **state)
{
    (void)state;
    struct stage *stage = stage_with(4, 120);
    stage_start_many(stage, 2);
    stage_run(stage, 5000);
    stage_check(stage, 120);
    stage_stop(stage, 6);
    stage_run(stage, 100);
    stage_stop(stage, 5);
    stage_run(stage, 6000);
    stage_print(stage);
    stage_check(stage, 120);
    stage_free(stage);
}

static void rolling_update(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60);
    for (int p = 1; p <= 3; p++) {
        stage_start_as(stage, "v2", "", 0);
        stage_run(stage, 1000);
        stage_stop(stage, p);
        stage_run(stage, 3000);
        stage_check(stage, 60);
    }
    stage_print(stage);
    stage_free(stage);
}

static void canary(void **state)
{
    (void)state;
    struct stage *stage = stage_with(4, 200);
    stage_start_as(stage, "v2", "canary", 0.05);
    stage_run(stage, 6000);
    stage_print(stage);
    stage_check(stage, 200);
    print_message("canary %zu\n", stage_filters(stage, "defender-4"));
    stage_free(stage);
}

static void roster(void **state)
{
    (void)state;
    struct stage *stage = stage_with(3, 60);
    stage_add_chambers(stage, 61, 6);
    stage_run(stage, 1000);
    stage_check(stage, 66);
    stage_remove_chamber(stage, 5);
    stage_run(stage, 1000);
    stage_check(stage, 65);
    stage_add_orphan(stage, "T9999.C2");
    stage_run(stage, 4000);
    stage_print(stage);
    stage_check(stage, 66);
    stage_free(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scale_up_and_down),
        cmocka_unit_test(rolling_update),
        cmocka_unit_test(canary),
        cmocka_unit_test(roster),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
