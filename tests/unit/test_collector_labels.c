#include "cmocka_setup.h"

#include "collector/labels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void the_labels_of_the_lam_set(void **state)
{
    (void)state;
    struct labels labels;
    struct error err;
    assert_int_equal(labels_load(PROJECT_ROOT "/data/lam9600/runs.csv", NULL, NULL, &labels, &err), 0);
    assert_int_equal(labels.count, 86);
    const struct label *fault = labels_find(&labels, "l3120");
    assert_string_equal(fault->label, "fault");
    assert_string_equal(fault->fault, "TCP +30");
    assert_string_equal(fault->lot, "exp31");
    assert_int_equal(fault->order, 62);
    assert_null(labels_find(&labels, "l9999"));
    size_t faults = 0;
    for (size_t i = 0; i < labels.count; i++)
        faults += strcmp(labels.rows[i].label, "fault") == 0;
    assert_int_equal(faults, 15);
    labels_free(&labels);
}

static void the_first_normal_runs_of_each_lot(void **state)
{
    (void)state;
    struct labels labels;
    struct error err;
    struct arena arena;
    const struct label **chosen = NULL;
    size_t count = 0;
    arena_init(&arena, 0);
    assert_int_equal(labels_load(PROJECT_ROOT "/data/lam9600/runs.csv", NULL, NULL, &labels, &err), 0);
    struct labels_choice choice = {.only = "normal", .limit = 20, .per = "lot"};
    assert_int_equal(labels_choose(&labels, &choice, &arena, &chosen, &count, &err), 0);
    assert_int_equal(count, 40);
    assert_string_equal(chosen[0]->context_id, "l2901");
    assert_string_equal(chosen[14]->context_id, "l2919"); /* 15 to 18 are faults */
    assert_string_equal(chosen[19]->context_id, "l2924");
    assert_string_equal(chosen[20]->context_id, "l3101");
    assert_string_equal(chosen[39]->context_id, "l3123"); /* 19 before the faults 20 to 22 */
    choice = (struct labels_choice){.only = "fault"};
    assert_int_equal(labels_choose(&labels, &choice, &arena, &chosen, &count, &err), 0);
    assert_int_equal(count, 15);
    choice = (struct labels_choice){.limit = 3};
    assert_int_equal(labels_choose(&labels, &choice, &arena, &chosen, &count, &err), 0);
    assert_int_equal(count, 3);
    choice = (struct labels_choice){.only = "strange"};
    assert_int_equal(labels_choose(&labels, &choice, &arena, &chosen, &count, &err), 0);
    assert_int_equal(count, 0);
    choice = (struct labels_choice){.per = "product"};
    assert_int_equal(labels_choose(&labels, &choice, &arena, &chosen, &count, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "no column product"));
    labels_free(&labels);
    arena_free(&arena);
}

static void groups_by_a_column_of_ones_own_and_bad_files(void **state)
{
    (void)state;
    const char *dir = getenv("TMPDIR");
    char path[4096];
    struct labels labels;
    struct error err;
    struct arena arena;
    const struct label **chosen = NULL;
    size_t count = 0;
    arena_init(&arena, 0);
    snprintf(path, sizeof(path), "%s/test_collector_labels_%d.csv", dir != NULL ? dir : "/tmp",
             (int)getpid());
    FILE *file = fopen(path, "w");
    fputs("context_id,tool,chamber,label,kit\n", file);
    for (int i = 0; i < 1000; i++)
        fprintf(file, "c%d,T,C,normal,k%d\n", i, i % 100);
    fputs("c5,T,C,normal,again\nshort,T\n", file);
    fclose(file);
    struct import_summary summary = {.files = 0};
    assert_int_equal(labels_load(path, NULL, &summary, &labels, &err), 0);
    assert_int_equal(labels.count, 1000);
    assert_int_equal(summary.events[IMPORT_BAD_ROW], 2);
    struct labels_choice choice = {.only = "normal", .limit = 2, .per = "kit"};
    assert_int_equal(labels_choose(&labels, &choice, &arena, &chosen, &count, &err), 0);
    assert_int_equal(count, 200);
    assert_string_equal(chosen[199]->context_id, "c199");
    assert_string_equal(labels_find(&labels, "c999")->lot, "");
    labels_free(&labels);
    file = fopen(path, "w");
    fputs("context_id,tool,chamber\n", file);
    fclose(file);
    assert_int_equal(labels_load(path, NULL, NULL, &labels, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "no column label"));
    labels_free(&labels);
    unlink(path);
    assert_int_equal(labels_load(path, NULL, NULL, &labels, &err), ERR_NOT_FOUND);
    labels_free(&labels);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_labels_of_the_lam_set),
        cmocka_unit_test(the_first_normal_runs_of_each_lot),
        cmocka_unit_test(groups_by_a_column_of_ones_own_and_bad_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
