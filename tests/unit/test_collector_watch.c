#include "cmocka_setup.h"

#include "collector/watch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECOND = 1000000, LIMIT = 8 };

/* A folder, a ledger beside it, and a clock of its own. */
struct scene {
    char *root;
    char dir[4096];
    char ledger[4096];
    int64_t now_us;
    struct watch *watch;
    struct watch_file files[LIMIT];
    size_t count;
    struct error err;
};

static void scene_open(struct scene *scene)
{
    struct watch_options options = {.dir = scene->dir, .ledger = scene->ledger, .settle_us = 2 * SECOND};
    if (watch_open(&options, &scene->watch, &scene->err) != 0)
        fail_msg("%s", scene->err.text);
}

static int scene_setup(void **state)
{
    const char *dir = getenv("TMPDIR");
    struct scene *scene = calloc(1, sizeof(*scene));
    assert_true(asprintf(&scene->root, "%s/test_collector_watch_XXXXXX", dir != NULL ? dir : "/tmp") > 0);
    assert_non_null(mkdtemp(scene->root));
    snprintf(scene->dir, sizeof(scene->dir), "%s/in", scene->root);
    snprintf(scene->ledger, sizeof(scene->ledger), "%s/ledger.db", scene->root);
    assert_int_equal(mkdir(scene->dir, 0700), 0);
    scene->now_us = INT64_C(1700000000) * SECOND;
    scene_open(scene);
    *state = scene;
    return 0;
}

static int scene_teardown(void **state)
{
    struct scene *scene = *state;
    char command[8300];
    watch_close(scene->watch);
    snprintf(command, sizeof(command), "rm -rf '%s'", scene->root);
    assert_int_equal(system(command), 0);
    free(scene->root);
    free(scene);
    return 0;
}

/* Writes a file whose time of change is `age` seconds after some moment. */
static void put(struct scene *scene, const char *name, const char *text, int age)
{
    char path[8200];
    snprintf(path, sizeof(path), "%s/%s", scene->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    struct timespec times[2] = {{.tv_sec = 1600000000 + age}, {.tv_sec = 1600000000 + age}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* Lets `seconds` pass and looks. */
static size_t scan_after(struct scene *scene, int seconds)
{
    scene->now_us += (int64_t)seconds * SECOND;
    if (watch_scan(scene->watch, scene->now_us, scene->files, LIMIT, &scene->count, &scene->err) != 0)
        fail_msg("%s", scene->err.text);
    return scene->count;
}

static void take(struct scene *scene, size_t i)
{
    assert_int_equal(watch_taken(scene->watch, &scene->files[i], 1, scene->now_us, &scene->err), 0);
}

static void files_are_given_when_they_have_settled_and_once(void **state)
{
    struct scene *scene = *state;
    put(scene, "b.csv", "b", 0);
    put(scene, "a.csv.gz", "a", 0);
    put(scene, ".hidden.csv", "x", 0);
    put(scene, "c.csv.tmp", "x", 0);
    put(scene, "runs.csv", "x", 0);
    assert_int_equal(scan_after(scene, 0), 0);
    assert_int_equal(watch_waiting(scene->watch), 2);
    assert_int_equal(scan_after(scene, 1), 0);
    assert_int_equal(scan_after(scene, 1), 2);
    assert_string_equal(scene->files[0].name, "a.csv.gz");
    assert_string_equal(scene->files[1].name, "b.csv");
    assert_non_null(strstr(scene->files[1].path, "/in/b.csv"));
    assert_int_equal(scene->files[1].size, 1);
    take(scene, 0);
    /* What was neither taken nor failed is given again. */
    assert_int_equal(scan_after(scene, 1), 1);
    assert_string_equal(scene->files[0].name, "b.csv");
    take(scene, 0);
    assert_int_equal(scan_after(scene, 10), 0);
    assert_int_equal(watch_waiting(scene->watch), 0);
}

static void a_file_that_is_still_being_written_is_left_alone(void **state)
{
    struct scene *scene = *state;
    put(scene, "a.csv", "1", 0);
    assert_int_equal(scan_after(scene, 0), 0);
    put(scene, "a.csv", "12", 1);
    assert_int_equal(scan_after(scene, 2), 0);
    put(scene, "a.csv", "123", 1); /* same time, other size */
    assert_int_equal(scan_after(scene, 2), 0);
    assert_int_equal(scan_after(scene, 2), 1);
    assert_int_equal(scene->files[0].size, 3);
}

static void taken_files_stay_taken_after_a_restart(void **state)
{
    struct scene *scene = *state;
    put(scene, "a.csv", "a", 0);
    put(scene, "b.csv", "b", 0);
    scan_after(scene, 0);
    assert_int_equal(scan_after(scene, 2), 2);
    take(scene, 0);
    /* The process dies here: b was given but not taken. */
    watch_close(scene->watch);
    scene_open(scene);
    assert_int_equal(scan_after(scene, 0), 0);
    assert_int_equal(scan_after(scene, 2), 1);
    assert_string_equal(scene->files[0].name, "b.csv");
    take(scene, 0);
    watch_close(scene->watch);
    scene_open(scene);
    scan_after(scene, 0);
    assert_int_equal(scan_after(scene, 5), 0);
}

static void touched_is_not_changed(void **state)
{
    struct scene *scene = *state;
    put(scene, "a.csv", "same", 0);
    scan_after(scene, 0);
    assert_int_equal(scan_after(scene, 2), 1);
    assert_false(scene->files[0].again);
    uint64_t hash = scene->files[0].hash;
    take(scene, 0);
    put(scene, "a.csv", "same", 5);
    scan_after(scene, 1);
    assert_int_equal(scan_after(scene, 2), 0);
    put(scene, "a.csv", "else",
        5); /* the size and time that were just noted: only a real change of either is seen */
    scan_after(scene, 1);
    assert_int_equal(scan_after(scene, 2), 0);
    put(scene, "a.csv", "other", 6);
    scan_after(scene, 1);
    assert_int_equal(scan_after(scene, 2), 1);
    assert_true(scene->files[0].again);
    assert_true(scene->files[0].hash != hash);
}

static void failures_are_tried_again_later_and_later(void **state)
{
    struct scene *scene = *state;
    put(scene, "a.csv", "a", 0);
    scan_after(scene, 0);
    assert_int_equal(scan_after(scene, 2), 1);
    int waits[] = {1, 2, 4, 8, 16, 32, 60, 60};
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        assert_int_equal(watch_failed(scene->watch, &scene->files[0], ERR_UNAVAILABLE, "store away",
                                      scene->now_us, &scene->err),
                         0);
        assert_int_equal(scan_after(scene, waits[i] - 1), 0);
        assert_int_equal(watch_waiting(scene->watch), 1);
        assert_int_equal(scan_after(scene, 1), 1);
    }
    put(scene, "a.csv", "ab", 1);
    assert_int_equal(scan_after(scene, 0), 0);
    assert_int_equal(scan_after(scene, 2), 1); /* a changed file starts afresh */
}

static void faulty_files_wait_to_be_mended(void **state)
{
    struct scene *scene = *state;
    put(scene, "a.csv", "bad", 0);
    scan_after(scene, 0);
    assert_int_equal(scan_after(scene, 2), 1);
    assert_int_equal(
        watch_failed(scene->watch, &scene->files[0], ERR_CORRUPT, "cut off", scene->now_us, &scene->err), 0);
    assert_int_equal(scan_after(scene, 100), 0);
    watch_close(scene->watch);
    scene_open(scene);
    scan_after(scene, 0);
    assert_int_equal(scan_after(scene, 5), 0);
    put(scene, "a.csv", "bad", 9); /* touched: its mapping may have been mended */
    scan_after(scene, 0);
    assert_int_equal(scan_after(scene, 2), 1);
    assert_false(scene->files[0].again);
}

static void more_files_than_fit_come_with_the_next_scan(void **state)
{
    struct scene *scene = *state;
    char name[32];
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "f%02d.csv", i);
        put(scene, name, name, i);
    }
    scan_after(scene, 0);
    size_t taken = 0;
    while (scan_after(scene, 2) > 0)
        for (size_t i = 0; i < scene->count; i++) {
            snprintf(name, sizeof(name), "f%02zu.csv", taken++);
            assert_string_equal(scene->files[i].name, name);
            take(scene, i);
        }
    assert_int_equal(taken, 20);
}

static void one_watcher_and_a_sound_ledger(void **state)
{
    struct scene *scene = *state;
    struct watch_options options = {.dir = scene->dir, .ledger = scene->ledger};
    struct watch *second = NULL;
    assert_int_equal(watch_open(&options, &second, &scene->err), ERR_CONFLICT);
    assert_non_null(strstr(scene->err.text, "another process has this ledger"));
    assert_null(second);
    options.dir = "/nowhere";
    assert_int_equal(watch_open(&options, &second, &scene->err), ERR_NOT_FOUND);
    char path[8200];
    snprintf(path, sizeof(path), "%s/broken.db", scene->root);
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 3000; i++)
        fputs("no database ", file);
    fclose(file);
    options = (struct watch_options){.dir = scene->dir, .ledger = path};
    assert_int_equal(watch_open(&options, &second, &scene->err), ERR_CORRUPT);
    assert_non_null(strstr(scene->err.text, "move it away"));
    options.ledger = "/nowhere/ledger.db";
    assert_int_equal(watch_open(&options, &second, &scene->err), ERR_IO);
    /* A clock that is set back does not hold a file for ever. */
    put(scene, "a.csv", "a", 0);
    scan_after(scene, 0);
    scan_after(scene, -100000);
    assert_int_equal(scan_after(scene, 2), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(files_are_given_when_they_have_settled_and_once, scene_setup,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_still_being_written_is_left_alone, scene_setup,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(taken_files_stay_taken_after_a_restart, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(touched_is_not_changed, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(failures_are_tried_again_later_and_later, scene_setup,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(faulty_files_wait_to_be_mended, scene_setup, scene_teardown),
        cmocka_unit_test_setup_teardown(more_files_than_fit_come_with_the_next_scan, scene_setup,
                                        scene_teardown),
        cmocka_unit_test_setup_teardown(one_watcher_and_a_sound_ledger, scene_setup, scene_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
