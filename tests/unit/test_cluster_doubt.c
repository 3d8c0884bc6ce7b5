/* Stories of outcomes that are not known, of clocks that jump, and of words that cannot be read. */
#include "cluster_stage.h"
#include "cmocka_setup.h"

#include <stdio.h>
#include <string.h>

static const enum stage_fault faults[] = {FAULT_NOT_DONE, FAULT_DONE, FAULT_DONE_LATE};
enum { FAULTS = sizeof faults / sizeof *faults };

static void a_claim_times_out(void **state)
{
    (void)state;
    static const char *const stories[FAULTS] = {
        /* Not done: another has the number meanwhile. */
        "1 > claim defender-0\n2 > claim defender-0: held\n1 > claim defender-2: held\n",
        /* Done: the watch tells before the time is up. */
        "1 > claim defender-0: held\n2 > claim defender-1: held\n3 > claim defender-2: held\n",
        /* Done late, when another has the number: refused. */
        "2 > claim defender-0: held\n1 > claim defender-2: held\n1 > (late write of defender-0 refused)\n",
    };
    for (size_t i = 0; i < FAULTS; i++) {
        struct stage *stage = stage_new(NULL);
        stage_add_chambers(stage, 1, 30);
        stage_fail_write(stage, 1, "defender-0", faults[i]);
        stage_start_many(stage, 3);
        stage_run(stage, 20000);
        stage_expect(stage, stories[i]);
        assert_int_equal(stage_count(stage, "lost"), 0);
        stage_check(stage, 30);
        stage_free(stage);
    }
}

/* A claim that comes true late for a number that nobody has: its process has another by then. */
static void a_claim_comes_late(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 30);
    stage_start_many(stage, 2);
    stage_run(stage, 8000);
    stage_fail_write(stage, 3, "defender-2", FAULT_DONE_LATE);
    stage_start(stage);
    stage_run(stage, 30000);
    stage_check(stage, 30);
    assert_int_equal(stage_holder(stage, "defender-2"), 3);
    stage_free(stage);
}

/* Renewals of claims and of the lease: nobody loses anything, whatever became of one of them. */
static void a_renewal_times_out(void **state)
{
    (void)state;
    static const char *const keys[] = {"defender-0", "defender-2", "leader"};
    for (size_t k = 0; k < 3 * FAULTS; k++) {
        struct stage *stage = stage_new(NULL);
        stage_add_chambers(stage, 1, 60);
        stage_start_many(stage, 3);
        stage_run(stage, 6000);
        stage_fail_write(stage, 0, keys[k / FAULTS], faults[k % FAULTS]);
        stage_run(stage, 20000);
        assert_int_equal(stage_count(stage, "lost"), 0);
        assert_int_equal(stage_count(stage, "leads, token"), 1);
        assert_int_equal(stage_count(stage, "stops acting"), 0);
        assert_int_equal(stage_count(stage, "version 2"), 0);
        stage_check(stage, 60);
        stage_free(stage);
    }
}

/* Any write of a commit: it is finished as one version. */
static void a_commit_times_out(void **state)
{
    (void)state;
    static const char *const keys[] = {"map", "to.defender-0", "to.defender-1", "to.defender-3"};
    for (size_t k = 0; k < 4 * FAULTS; k++) {
        struct stage *stage = stage_new(NULL);
        stage_add_chambers(stage, 1, 60);
        stage_start_many(stage, 3);
        stage_run(stage, 6000);
        stage_start(stage);
        stage_run(stage, 500);
        stage_fail_write(stage, 1, keys[k / FAULTS], faults[k % FAULTS]);
        stage_run(stage, 20000);
        assert_int_equal(stage_count(stage, "leads, token"), 1);
        assert_int_equal(stage_count(stage, "rebalance: 12 chambers moved, 0 placed, 4 members, version 2"),
                         1);
        assert_int_equal(stage_count(stage, "version 3"), 0);
        stage_check(stage, 60);
        stage_free(stage);
    }
}

/* The first write of the map, and that of the lease. */
static void a_beginning_times_out(void **state)
{
    (void)state;
    static const char *const keys[] = {"map", "leader"};
    for (size_t k = 0; k < 2 * FAULTS; k++) {
        struct stage *stage = stage_new(NULL);
        stage_add_chambers(stage, 1, 60);
        stage_fail_write(stage, 0, keys[k / FAULTS], faults[k % FAULTS]);
        stage_start_many(stage, 3);
        stage_run(stage, 20000);
        assert_int_equal(stage_count(stage, "chambers moved"), 1);
        stage_check(stage, 60);
        stage_free(stage);
    }
}

/* A release whose outcome is not known: the process ends in any case, the ID is taken over. */
static void a_release_times_out(void **state)
{
    (void)state;
    for (size_t i = 0; i < FAULTS; i++) {
        struct stage *stage = stage_new(NULL);
        stage_add_chambers(stage, 1, 60);
        stage_start_many(stage, 3);
        stage_run(stage, 6000);
        stage_start_as(stage, "v2", "", 0);
        stage_run(stage, 500);
        stage_fail_write(stage, 3, "defender-2", faults[i]);
        stage_stop(stage, 3);
        stage_run(stage, 15000);
        stage_expect(stage, "4 > standing by: version v1 still runs\n3 > stopped\n");
        assert_int_equal(stage_holder(stage, "defender-2"), 4);
        assert_int_equal(stage_count(stage, "rebalance"), 0);
        stage_check(stage, 60);
        stage_free(stage);
    }
}

/* A lease that was asked for comes late, to one that is stopping: it is given back at once. */
static void a_lease_comes_too_late(void **state)
{
    (void)state;
    struct stage *stage = stage_new(NULL);
    stage_add_chambers(stage, 1, 60);
    stage_start_many(stage, 3);
    stage_run(stage, 6000);
    stage_slow_drain(stage, 2, 10000);
    stage_fail_write(stage, 2, "leader", FAULT_DONE_LATE);
    stage_stop(stage, 1);
    stage_run(stage, 100);
    stage_stop(stage, 2);
    stage_kill(stage, 3);
    stage_run(stage, 8000);
    stage_start(stage);
    stage_run(stage, 500);
    stage_expect(stage, "2 > defender-1 stops\n"
                        "2 > (late write of leader accepted)\n"
                        "4 > defender-0 leads\n");
    assert_int_equal(stage_count(stage, "has not renewed"), 0);
    stage_run(stage, 20000);
    stage_check(stage, 60);
    stage_free(stage);
}

/* A clock that jumps makes nobody dead and nobody a leader. */
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
    stage_expect(stage, "1 > was asleep for 7.0 s\n"
                        "1 > defender-0 stops acting: its lease could not be renewed in time\n"
                        "1 > defender-0 acts again\n"
                        "2 > was asleep for\n"
                        "3 > was asleep for\n");
    assert_int_equal(stage_count(stage, "leads, token"), 1);
    assert_int_equal(stage_count(stage, "dead"), 0);
    assert_int_equal(stage_count(stage, "version 2"), 0);
    stage_check(stage, 60);
    stage_free(stage);
}

/* A machine by itself, for words that no stage would say. */
struct lone {
    struct cluster *cluster;
    struct cluster_actions actions;
};

static struct lone lone_new(const struct cluster_config *config)
{
    struct lone lone;
    struct error err;
    assert_int_equal(cluster_create(config, &lone.cluster, &err), 0);
    cluster_actions_init(&lone.actions);
    return lone;
}

static void lone_step(struct lone *lone, int64_t now_ms, struct cluster_event event)
{
    struct error err;
    if (event.value)
        event.value_length = strlen(event.value);
    assert_int_equal(cluster_step(lone->cluster, now_ms, &event, &lone->actions, &err), 0);
}

static void lone_free(struct lone *lone)
{
    cluster_actions_free(&lone->actions);
    cluster_destroy(lone->cluster);
}

static const struct cluster_action *last_of(const struct lone *lone, enum cluster_action_kind kind)
{
    for (size_t i = lone->actions.count; i-- > 0;)
        if (lone->actions.items[i].kind == kind)
            return &lone->actions.items[i];
    return NULL;
}

static void unreadable_words_change_nothing(void **state)
{
    (void)state;
    static const char *const words[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"incarnation\":7}",
        "{\"version\":-1}",
        "{\"version\":1,\"chambers\":[1]}",
        "{\"version\":1,\"token\":1,\"rebalances\":0,\"emergencies\":0,\"members\":[{}]}",
        "{\"id\":\"defender-0\",\"incarnation\":\"x\",\"serial\":1}"};
    static const struct {
        enum cluster_bucket bucket;
        const char *key;
    } places[] = {{BUCKET_STABLE_IDS, "defender-0"}, {BUCKET_STABLE_IDS, "defender-1"},
                  {BUCKET_STABLE_IDS, "other"},      {BUCKET_ELECTION, "leader"},
                  {BUCKET_ASSIGNMENTS, "map"},       {BUCKET_ASSIGNMENTS, "to.defender-0"},
                  {BUCKET_ASSIGNMENTS, "to.x"},      {BUCKET_CHAMBERS, "T1.C1"}};
    struct lone lone = lone_new(&(struct cluster_config){.incarnation = 1, .version = "v1"});
    lone_step(&lone, 0, (struct cluster_event){.kind = EVENT_CONNECTED});
    lone_step(&lone, 1,
              (struct cluster_event){.kind = EVENT_KV_CURRENT, .bucket = BUCKET_STABLE_IDS, .key = ">"});
    lone_step(&lone, 1,
              (struct cluster_event){.kind = EVENT_KV_CURRENT, .bucket = BUCKET_ASSIGNMENTS, .key = "map"});
    const struct cluster_action *create = last_of(&lone, ACTION_KV_CREATE);
    assert_string_equal(create->key, "defender-0");
    lone_step(&lone, 2, (struct cluster_event){.kind = EVENT_KV_DONE, .token = create->token, .revision = 5});
    uint64_t revision = 10;
    for (size_t p = 0; p < sizeof places / sizeof *places; p++)
        for (size_t w = 0; w < sizeof words / sizeof *words; w++)
            lone_step(&lone, 3,
                      (struct cluster_event){.kind = EVENT_KV_ENTRY,
                                             .bucket = places[p].bucket,
                                             .key = places[p].key,
                                             .value = words[w],
                                             .revision = ++revision});
    struct cluster_status status;
    cluster_read_status(lone.cluster, &status);
    assert_string_equal(status.id, "defender-0");
    assert_int_equal(status.map_version, 0);
    lone_free(&lone);
}

static void settings_that_make_no_sense(void **state)
{
    (void)state;
    static const struct {
        struct cluster_config config;
        const char *says;
    } cases[] = {
        {{.incarnation = 0}, "incarnation"},
        {{.incarnation = 1, .pool = 5000}, "pool"},
        {{.incarnation = 1, .pool = 5, .expected_members = 6}, "expected_members"},
        {{.incarnation = 1, .share = 1.5}, "share"},
        {{.incarnation = 1, .lease_ttl_ms = 1000}, "lease_margin_ms"},
        {{.incarnation = 1, .heartbeat_ms = -1}, "heartbeat_ms"},
        {{.incarnation = 1, .heartbeat_ms = 5000}, "probe_after_ms"},
        {{.incarnation = 1, .balance_max = 0.9}, "balance_max"},
        {{.incarnation = 1, .role = "a-role-whose-name-is-much-longer-than-any-name-of-a-role-should-be"},
         "role"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cluster *cluster = NULL;
        struct error err = {0};
        assert_int_equal(cluster_create(&cases[i].config, &cluster, &err), ERR_INVALID);
        assert_non_null(strstr(err.text, cases[i].says));
        assert_null(cluster);
    }
}

static void heartbeats_survive_the_wire(void **state)
{
    (void)state;
    struct cluster_heartbeat said = {.id = "defender-17",
                                     .incarnation = UINT64_MAX - 1,
                                     .version = "1.2 \"rc\"",
                                     .group = "blue",
                                     .share = 0.1,
                                     .state = CLUSTER_LEADER,
                                     .assignment = 4000000000,
                                     .chambers = 80,
                                     .leaving = true};
    struct cluster_heartbeat heard;
    struct strbuf json;
    struct error err;
    strbuf_init(&json);
    cluster_heartbeat_format(&said, &json);
    assert_int_equal(cluster_heartbeat_parse(json.text, json.length, &heard, &err), 0);
    assert_string_equal(heard.id, said.id);
    assert_true(heard.incarnation == said.incarnation);
    assert_string_equal(heard.version, said.version);
    assert_string_equal(heard.group, said.group);
    assert_true(heard.share == said.share);
    assert_int_equal(heard.state, said.state);
    assert_true(heard.assignment == said.assignment);
    assert_int_equal(heard.chambers, said.chambers);
    assert_true(heard.leaving);
    /* Cut anywhere, it is refused. */
    for (size_t length = 0; length < json.length; length++)
        assert_int_equal(cluster_heartbeat_parse(json.text, length, &heard, &err), ERR_INVALID);
    strbuf_free(&json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claim_times_out),
        cmocka_unit_test(a_claim_comes_late),
        cmocka_unit_test(a_renewal_times_out),
        cmocka_unit_test(a_commit_times_out),
        cmocka_unit_test(a_beginning_times_out),
        cmocka_unit_test(a_release_times_out),
        cmocka_unit_test(a_lease_comes_too_late),
        cmocka_unit_test(clocks_jump),
        cmocka_unit_test(unreadable_words_change_nothing),
        cmocka_unit_test(settings_that_make_no_sense),
        cmocka_unit_test(heartbeats_survive_the_wire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
