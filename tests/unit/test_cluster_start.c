/* Stories of beginnings: cold start, claims, restart. */
#include "cluster_stage.h"
#include "cmocka_setup.h"

static void cold_start_of_five(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 100);
    stage_start_many(stage, 5);
    stage_run(stage, 4000);
    stage_print(stage);
    stage_check(stage, 100);
    stage_free(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cold_start_of_five),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
