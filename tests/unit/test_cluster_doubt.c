/* Stories of outcomes that are not known, of clocks that jump, and of processes that wake with an old view.
 */
#include "cluster_stage.h"
#include "cmocka_setup.h"

#include <stdio.h>
#include <string.h>

static void claim_times_out(void **state)
{
    (void)state;
    for (int fault = FAULT_NOT_DONE; fault <= FAULT_DONE_LATE; fault++) {
        struct stage *stage = stage_new(NULL);
        stage_add_chambers(stage, 1, 30);
        stage_start_many(stage, 3);
        stage_fail_write(stage, 0, "defender-0", (enum stage_fault)fault);
        stage_run(stage, 15000);
        stage_print(stage);
        stage_check(stage, 30);
        stage_free(stage);
    }
}

static void writes_time_out(void **state)
{
    (void)state;
    static const char *const keys[] = {"defender-0", "defender-1",    "leader",
                                       "map",        "to.defender-1", "to.defender-3"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        for (int fault = FAULT_NOT_DONE; fault <= FAULT_DONE_LATE; fault++) {
            struct stage *stage = stage_new(NULL);
            stage_add_chambers(stage, 1, 60);
            stage_start_many(stage, 3);
            stage_run(stage, 6000);
            stage_check(stage, 60);
            stage_start(stage);
            stage_run(stage, 500);
            stage_fail_write(stage, 0, keys[k], (enum stage_fault)fault);
            stage_run(stage, 20000);
            print_message("---- %s %d\n", keys[k], fault);
            stage_print(stage);
            stage_check(stage, 60);
            stage_free(stage);
        }
    }
}

static void stall(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 60);
    stage_start_many(stage, 3);
    stage_run(stage, 8000);
    stage_kv_stall(stage, 9000);
    stage_run(stage, 30000);
    stage_print(stage);
    stage_check(stage, 60);
    stage_free(stage);
}

static void clocks_jump(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 60);
    stage_start_many(stage, 4);
    stage_run(stage, 8000);
    for (int p = 1; p <= 4; p++) {
        stage_jump_clock(stage, p, 7000);
        stage_run(stage, 700);
    }
    stage_run(stage, 8000);
    stage_print(stage);
    stage_check(stage, 60);
    stage_free(stage);
}

static void leader_paused(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 60);
    stage_start_many(stage, 4);
    stage_run(stage, 6000);
    stage_start(stage);
    stage_run_until(stage, "rebalance (quiet)", 5000);
    stage_pause(stage, 1);
    stage_run(stage, 12000);
    stage_resume(stage, 1);
    stage_run(stage, 10000);
    stage_print(stage);
    stage_check(stage, 60);
    stage_free(stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(claim_times_out), cmocka_unit_test(writes_time_out), cmocka_unit_test(stall),
        cmocka_unit_test(clocks_jump),     cmocka_unit_test(leader_paused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
