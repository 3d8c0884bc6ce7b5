#include "cmocka_setup.h"

#include "notify/grouper.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECOND = 1000, MINUTE = 60 * SECOND };

/* --- a stage for one machine: each action is a word in `trace` --- */

struct stage {
    struct grouper *grouper;
    int64_t now_ms;
    uint64_t next_handle;
    char trace[8192];
    char message[65536]; /* of the last SEND */
    char key[17];
};

static struct grouper_policy policy(void)
{
    return (struct grouper_policy){.sink = "pager",
                                   .group_by = 1u << NOTICE_BY_TOOL | 1u << NOTICE_BY_CHAMBER,
                                   .group_wait_ms = 5 * SECOND,
                                   .cool_down_ms = 10 * MINUTE,
                                   .group_max = 3,
                                   .held_max = 100,
                                   .retry_first_ms = 1000,
                                   .retry_most_ms = 8000,
                                   .seed = 7};
}

static void open_stage(struct stage *stage, const struct grouper_policy *policy)
{
    *stage = (struct stage){.now_ms = INT64_C(1700000000000)};
    assert_int_equal(grouper_create(policy, &stage->grouper, NULL), 0);
}

static void close_stage(struct stage *stage)
{
    grouper_destroy(stage->grouper);
}

static struct notice *alarm_of(uint64_t id, const char *tool, const char *chart, int64_t raised_ms)
{
    char json[512];
    int length = snprintf(json, sizeof json,
                          "{\"alarm_id\":\"%016llx\",\"severity\":\"critical\",\"tool_id\":\"%s\","
                          "\"chamber_id\":\"PM1\",\"chart\":\"%s\",\"rule\":\"limits\",\"recipe\":\"R\"}",
                          (unsigned long long)id, tool, chart);
    struct notice *notice;
    assert_int_equal(notice_parse(json, (size_t)length, raised_ms, &notice, NULL), 0);
    return notice;
}

static void note(struct stage *stage, const struct grouper_action *action)
{
    static const char *const whys[GROUPER_WHYS] = {"told", "buried", "settled", "repeated"};
    char word[64];
    if (action->kind == GROUPER_RELEASE) {
        snprintf(word, sizeof word, "%s(%llu) ", whys[action->why], (unsigned long long)action->handle);
    } else if (action->kind == GROUPER_CHECK) {
        snprintf(word, sizeof word, "check(%llu) ", (unsigned long long)action->id);
    } else {
        json_t *message = json_loads(action->message, 0, NULL);
        assert_non_null(message);
        snprintf(word, sizeof word, "%s(%lld in %zu, try %u) ",
                 action->kind == GROUPER_SEND ? "send" : "bury",
                 (long long)json_integer_value(json_object_get(message, "count")),
                 json_array_size(json_object_get(message, "alarms")), action->attempt);
        json_decref(message);
        snprintf(stage->message, sizeof stage->message, "%s", action->message);
        snprintf(stage->key, sizeof stage->key, "%s", action->key);
    }
    strncat(stage->trace, word, sizeof stage->trace - strlen(stage->trace) - 1);
}

static void happen(struct stage *stage, struct grouper_event event)
{
    struct grouper_actions actions = {0};
    assert_int_equal(grouper_step(stage->grouper, stage->now_ms, &event, &actions, NULL), 0);
    for (size_t i = 0; i < actions.count; i++)
        note(stage, &actions.items[i]);
    free(actions.items);
}

static void raise_alarm(struct stage *stage, uint64_t id, const char *tool, const char *chart,
                        int64_t after_ms)
{
    happen(stage, (struct grouper_event){.kind = GROUPER_ALARM,
                                         .notice = alarm_of(id, tool, chart, stage->now_ms),
                                         .handle = ++stage->next_handle,
                                         .after_ms = after_ms});
}

/* Lets time pass, waking the machine only when it asks for it. */
static void pass(struct stage *stage, int64_t ms)
{
    int64_t end_ms = stage->now_ms + ms;
    while (grouper_next_ms(stage->grouper) <= end_ms) {
        int64_t next_ms = grouper_next_ms(stage->grouper);
        stage->now_ms = next_ms > stage->now_ms ? next_ms : stage->now_ms;
        happen(stage, (struct grouper_event){.kind = GROUPER_TICK});
    }
    stage->now_ms = end_ms;
}

static void expect(struct stage *stage, const char *trace)
{
    size_t length = strlen(stage->trace);
    if (length > 0)
        stage->trace[length - 1] = '\0';
    assert_string_equal(stage->trace, trace);
    stage->trace[0] = '\0';
}

static void answer(struct stage *stage, enum grouper_event_kind kind)
{
    happen(stage, (struct grouper_event){.kind = kind});
}

/* --- stories --- */

static void alarms_of_a_chamber_go_out_together_after_the_wait(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    pass(&stage, 3 * SECOND);
    raise_alarm(&stage, 2, "E1", "b", 0);
    expect(&stage, "");
    pass(&stage, 2 * SECOND);
    expect(&stage, "send(2 in 2, try 1)");
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "told(1) told(2)");
    close_stage(&stage);
}

static void a_full_group_does_not_wait(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    raise_alarm(&stage, 2, "E1", "b", 0);
    raise_alarm(&stage, 3, "E1", "c", 0);
    expect(&stage, "send(3 in 3, try 1)");
    close_stage(&stage);
}

static void chambers_go_out_one_message_after_the_other(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    raise_alarm(&stage, 2, "E2", "a", 0);
    pass(&stage, 5 * SECOND);
    expect(&stage, "send(1 in 1, try 1)");
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "told(1) send(1 in 1, try 1)");
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "told(2)");
    close_stage(&stage);
}

static void what_was_told_is_cool_and_then_told_as_one(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    pass(&stage, 5 * SECOND);
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "send(1 in 1, try 1) told(1)");
    for (uint64_t id = 2; id <= 9; id++)
        raise_alarm(&stage, id, "E1", "a", 0);
    pass(&stage, 10 * MINUTE - 1);
    expect(&stage, "");
    pass(&stage, 1);
    expect(&stage, "send(8 in 1, try 1)");
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "told(2) told(3) told(4) told(5) told(6) told(7) told(8) told(9)");
    close_stage(&stage);
}

static void another_chart_is_not_cooled(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    pass(&stage, 5 * SECOND);
    answer(&stage, GROUPER_ACCEPTED);
    raise_alarm(&stage, 2, "E1", "b", 0);
    pass(&stage, 5 * SECOND);
    expect(&stage, "send(1 in 1, try 1) told(1) send(1 in 1, try 1)");
    close_stage(&stage);
}

static void while_the_sink_is_away_groups_collect(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    pass(&stage, 5 * SECOND);
    expect(&stage, "send(1 in 1, try 1)");
    raise_alarm(&stage, 2, "E1", "a", 0); /* the same topic: told already when its turn comes */
    raise_alarm(&stage, 3, "E1", "b", 0);
    answer(&stage, GROUPER_FAILED);
    pass(&stage, 1 * SECOND);
    expect(&stage, "send(1 in 1, try 2)");
    answer(&stage, GROUPER_FAILED);
    pass(&stage, 2 * SECOND);
    expect(&stage, "send(1 in 1, try 3)");
    pass(&stage, 5 * SECOND);
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "told(1) send(1 in 1, try 1)"); /* b alone */
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "told(3)");
    pass(&stage, 10 * MINUTE);
    expect(&stage, "send(1 in 1, try 1)");
    close_stage(&stage);
}

static void back_off_doubles_up_to_its_bound_with_jitter(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    pass(&stage, 5 * SECOND);
    int64_t bound_ms = 1000;
    bool differs = false;
    for (int i = 0; i < 12; i++) {
        answer(&stage, GROUPER_FAILED);
        int64_t pause_ms = grouper_next_ms(stage.grouper) - stage.now_ms;
        assert_in_range(pause_ms, bound_ms / 2, bound_ms);
        differs |= pause_ms != bound_ms / 2 && pause_ms != bound_ms;
        pass(&stage, pause_ms);
        bound_ms = bound_ms < 8000 ? 2 * bound_ms : bound_ms;
    }
    assert_true(differs);
    happen(&stage, (struct grouper_event){.kind = GROUPER_FAILED, .retry_after_ms = 30 * SECOND});
    assert_int_equal(grouper_next_ms(stage.grouper) - stage.now_ms, 30 * SECOND);
    pass(&stage, 30 * SECOND);
    happen(&stage, (struct grouper_event){.kind = GROUPER_FAILED, .retry_after_ms = INT64_C(1000000000000)});
    assert_int_equal(grouper_next_ms(stage.grouper) - stage.now_ms, GROUPER_RETRY_AFTER_MAX_MS);
    close_stage(&stage);
}

static void what_is_refused_is_buried_and_the_next_goes_out(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    raise_alarm(&stage, 2, "E2", "a", 0);
    pass(&stage, 5 * SECOND);
    answer(&stage, GROUPER_REFUSED);
    expect(&stage, "send(1 in 1, try 1) bury(1 in 1, try 1)");
    answer(&stage, GROUPER_FAILED);
    pass(&stage, 1 * SECOND);
    expect(&stage, "bury(1 in 1, try 2)");
    answer(&stage, GROUPER_BURIED);
    expect(&stage, "buried(1) send(1 in 1, try 1)");
    close_stage(&stage);
}

static void an_alarm_that_is_known_is_not_told_again(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    happen(&stage, (struct grouper_event){
                       .kind = GROUPER_ALARM, .notice = alarm_of(1, "E1", "a", stage.now_ms), .handle = 1});
    expect(&stage, "");                   /* delivered again while it is held */
    raise_alarm(&stage, 1, "E1", "a", 0); /* raised again: another message of the stream */
    expect(&stage, "repeated(2)");
    pass(&stage, 5 * SECOND);
    answer(&stage, GROUPER_ACCEPTED);
    raise_alarm(&stage, 1, "E1", "a", 0);
    expect(&stage, "send(1 in 1, try 1) told(1) repeated(3)");
    close_stage(&stage);
}

static void an_acknowledged_alarm_does_not_escalate(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 15 * MINUTE);
    raise_alarm(&stage, 2, "E1", "b", 15 * MINUTE);
    pass(&stage, 15 * MINUTE - 1);
    expect(&stage, "");
    pass(&stage, 1);
    expect(&stage, "check(1) check(2)");
    happen(&stage, (struct grouper_event){.kind = GROUPER_CHECKED, .id = 1, .code = 0});
    expect(&stage, "settled(1)");
    happen(&stage, (struct grouper_event){.kind = GROUPER_CHECKED, .id = 2, .code = ERR_UNAVAILABLE});
    pass(&stage, GROUPER_RECHECK_MS);
    expect(&stage, "check(2)");
    happen(&stage, (struct grouper_event){.kind = GROUPER_CHECKED, .id = 2, .code = ERR_NOT_FOUND});
    pass(&stage, 5 * SECOND);
    expect(&stage, "send(1 in 1, try 1)");
    close_stage(&stage);
}

static void without_room_something_is_told_before_its_time(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    rules.held_max = 5;
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    pass(&stage, 5 * SECOND);
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "send(1 in 1, try 1) told(1)");
    for (uint64_t id = 2; id <= 5; id++)
        raise_alarm(&stage, id, "E1", "a", 0);
    expect(&stage, "");
    raise_alarm(&stage, 6, "E1", "a", 0);
    expect(&stage, "send(5 in 1, try 1)");
    assert_int_equal(grouper_room(stage.grouper), 0);
    answer(&stage, GROUPER_ACCEPTED);
    assert_int_equal(grouper_room(stage.grouper), 5);
    close_stage(&stage);
}

static void restart(struct stage *stage, const struct grouper_policy *rules)
{
    struct strbuf saved;
    strbuf_init(&saved);
    grouper_save(stage->grouper, &saved);
    grouper_destroy(stage->grouper);
    assert_int_equal(grouper_create(rules, &stage->grouper, NULL), 0);
    assert_int_equal(grouper_restore(stage->grouper, saved.text, saved.length, NULL), 0);
    strbuf_free(&saved);
}

static void after_a_restart_the_same_message_goes_out_under_the_same_key(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    raise_alarm(&stage, 1, "E1", "a", 0);
    raise_alarm(&stage, 2, "E1", "b", 0);
    pass(&stage, 5 * SECOND);
    char key[17], message[65536];
    memcpy(key, stage.key, sizeof key);
    memcpy(message, stage.message, sizeof message);
    restart(&stage, &rules);
    stage.trace[0] = '\0';
    pass(&stage, 0);
    expect(&stage, "send(2 in 2, try 1)");
    assert_string_equal(stage.key, key);
    assert_string_equal(stage.message, message);
    happen(&stage, (struct grouper_event){
                       .kind = GROUPER_ALARM, .notice = alarm_of(1, "E1", "a", stage.now_ms), .handle = 1});
    answer(&stage, GROUPER_ACCEPTED);
    expect(&stage, "told(1)");
    happen(&stage, (struct grouper_event){
                       .kind = GROUPER_ALARM, .notice = alarm_of(2, "E1", "b", stage.now_ms), .handle = 2});
    expect(&stage, "repeated(2)");
    restart(&stage, &rules); /* what was told last and the cool-down are known still */
    happen(&stage, (struct grouper_event){
                       .kind = GROUPER_ALARM, .notice = alarm_of(2, "E1", "b", stage.now_ms), .handle = 2});
    raise_alarm(&stage, 3, "E1", "a", 0);
    pass(&stage, 9 * MINUTE);
    expect(&stage, "repeated(2)");
    pass(&stage, 1 * MINUTE);
    expect(&stage, "send(1 in 1, try 1)");
    close_stage(&stage);
}

static void a_damaged_state_is_refused(void **state)
{
    (void)state;
    struct stage stage;
    struct grouper_policy rules = policy();
    open_stage(&stage, &rules);
    assert_int_equal(grouper_restore(stage.grouper, "{\"format\":2}", 12, NULL), ERR_CORRUPT);
    assert_int_equal(grouper_restore(stage.grouper, "nonsense", 8, NULL), ERR_CORRUPT);
    close_stage(&stage);
}

/* --- the property: over simulated time, with faults of every kind --- */

enum { WORLD_ALARMS = 600, WORLD_SEEDS = 100, WORLD_KEYS = 4096 };

/* One alarm of the simulated stream. */
struct raised {
    uint64_t id;
    char tool[8], chart[8];
    int64_t raised_ms, after_ms;
    bool acked;        /* at the stream */
    bool acknowledged; /* by a person */
    bool delivered;    /* to the machine that lives now */
    int64_t redeliver_ms;
    int accepted; /* messages under different keys that have or count it */
    int buried, settled;
};

struct world {
    uint64_t random;
    struct grouper_policy policy;
    struct grouper *grouper;
    struct strbuf journal;
    int64_t now_ms;
    struct raised alarms[WORLD_ALARMS];
    size_t count;
    struct {
        char key[17];
        bool accepted;
    } keys[WORLD_KEYS]; /* what the sink has seen, by idempotency key */
    size_t key_count;
    bool out; /* a message is under way, to be answered at answer_ms */
    bool burying;
    int64_t answer_ms;
    char key[17];
    size_t checks;
    uint64_t confirms[WORLD_ALARMS];
    size_t confirm_count;
    uint64_t check[WORLD_ALARMS];
};

static uint64_t chance(struct world *world, uint64_t of)
{
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return world->random % of;
}

static void journal_state(struct world *world)
{
    strbuf_clear(&world->journal);
    grouper_save(world->grouper, &world->journal);
}

/* The sink takes a message: a key it knows is the same message once more. The ids are those of the journal,
 * which was written before. */
static void sink_takes(struct world *world, bool bury)
{
    for (size_t i = 0; i < world->key_count; i++)
        if (strcmp(world->keys[i].key, world->key) == 0)
            return;
    assert_true(world->key_count < WORLD_KEYS);
    memcpy(world->keys[world->key_count++].key, world->key, sizeof world->key);
    json_t *journal = json_loads(world->journal.text, 0, NULL);
    size_t i;
    json_t *id;
    json_array_foreach(json_object_get(journal, "ids"), i, id)
    {
        size_t at = (size_t)strtoull(json_string_value(id), NULL, 16) - 1;
        assert_true(at < world->count);
        if (bury)
            world->alarms[at].buried++;
        else
            world->alarms[at].accepted++;
    }
    json_decref(journal);
}

/* The acknowledgement to the stream arrives and is confirmed, is not confirmed, or is lost. */
static void note_release(struct world *world, struct raised *raised)
{
    uint64_t luck = chance(world, 10);
    raised->acked = luck > 0;
    raised->delivered = luck > 0;
    raised->redeliver_ms = world->now_ms + 30 * SECOND;
    if (luck > 1)
        world->confirms[world->confirm_count++] = raised->id;
}

static void world_step(struct world *world, struct grouper_event event)
{
    struct grouper_actions actions = {0};
    bool save = event.kind == GROUPER_ACCEPTED || event.kind == GROUPER_BURIED;
    assert_int_equal(grouper_step(world->grouper, world->now_ms, &event, &actions, NULL), 0);
    for (size_t i = 0; i < actions.count; i++) {
        const struct grouper_action *action = &actions.items[i];
        if (action->kind == GROUPER_RELEASE) {
            struct raised *raised = &world->alarms[action->handle - 1];
            raised->settled += action->why == GROUPER_WAS_SETTLED;
            note_release(world, raised);
        } else if (action->kind == GROUPER_CHECK) {
            assert_true(world->checks < WORLD_ALARMS);
            world->check[world->checks++] = action->id;
        } else {
            assert_false(world->out); /* one message at a time */
            world->out = true;
            world->burying = action->kind == GROUPER_BURY;
            world->answer_ms = world->now_ms + (int64_t)chance(world, 3000);
            memcpy(world->key, action->key, sizeof world->key);
            save |= action->attempt == 1;
        }
    }
    free(actions.items);
    if (save)
        journal_state(world);
}

static void answer_message(struct world *world)
{
    uint64_t luck = chance(world, 10);
    world->out = false;
    if (luck < 5) {
        sink_takes(world, world->burying);
        world_step(world, (struct grouper_event){.kind = world->burying ? GROUPER_BURIED : GROUPER_ACCEPTED});
    } else if (luck < 7) { /* taken, and the answer is lost */
        sink_takes(world, world->burying);
        world_step(world, (struct grouper_event){.kind = GROUPER_FAILED});
    } else if (luck == 7 && !world->burying && chance(world, 10) == 0) {
        world_step(world, (struct grouper_event){.kind = GROUPER_REFUSED});
    } else {
        world_step(world, (struct grouper_event){.kind = GROUPER_FAILED});
    }
}

static void answer_checks(struct world *world)
{
    while (world->checks > 0) {
        uint64_t id = world->check[--world->checks];
        int code = world->alarms[id - 1].acknowledged ? 0 : ERR_NOT_FOUND;
        if (chance(world, 5) == 0)
            code = ERR_TIMEOUT;
        world_step(world, (struct grouper_event){.kind = GROUPER_CHECKED, .id = id, .code = code});
    }
}

/* The process dies and another follows: what is not acknowledged to the stream is delivered again, later. */
static void crash(struct world *world)
{
    grouper_destroy(world->grouper);
    assert_int_equal(grouper_create(&world->policy, &world->grouper, NULL), 0);
    if (world->journal.length > 0)
        assert_int_equal(grouper_restore(world->grouper, world->journal.text, world->journal.length, NULL),
                         0);
    world->out = false;
    world->checks = world->confirm_count = 0;
    for (size_t i = 0; i < world->count; i++)
        if (!world->alarms[i].acked) {
            world->alarms[i].delivered = false;
            world->alarms[i].redeliver_ms = world->now_ms + (int64_t)chance(world, 30 * SECOND);
        }
    world_step(world, (struct grouper_event){.kind = GROUPER_TICK});
}

static void deliver(struct world *world)
{
    for (size_t i = 0; i < world->count; i++) {
        struct raised *raised = &world->alarms[i];
        if (raised->acked || raised->delivered || raised->redeliver_ms > world->now_ms)
            continue;
        if (grouper_room(world->grouper) == 0)
            return;
        raised->delivered = true;
        world_step(world, (struct grouper_event){
                              .kind = GROUPER_ALARM,
                              .notice = alarm_of(raised->id, raised->tool, raised->chart, raised->raised_ms),
                              .handle = raised->id,
                              .after_ms = raised->after_ms});
    }
}

static void raise_some(struct world *world)
{
    struct raised *raised = &world->alarms[world->count++];
    *raised = (struct raised){.id = world->count, .raised_ms = world->now_ms};
    snprintf(raised->tool, sizeof raised->tool, "E%u", (unsigned)chance(world, 3));
    snprintf(raised->chart, sizeof raised->chart, "c%u", (unsigned)chance(world, 4));
    raised->after_ms = chance(world, 4) == 0 ? 2 * MINUTE : 0;
    raised->acknowledged = chance(world, 2) == 0;
}

static bool all_acked(const struct world *world)
{
    for (size_t i = 0; i < world->count; i++)
        if (!world->alarms[i].acked)
            return false;
    return true;
}

static void turn(struct world *world)
{
    world->now_ms += 1 + (int64_t)chance(world, 2000);
    if (world->count < WORLD_ALARMS && chance(world, 2) == 0)
        raise_some(world);
    deliver(world);
    answer_checks(world);
    while (world->confirm_count > 0)
        world_step(world, (struct grouper_event){.kind = GROUPER_CONFIRMED,
                                                 .id = world->confirms[--world->confirm_count]});
    if (world->out && world->answer_ms <= world->now_ms)
        answer_message(world);
    if (chance(world, 150) == 0)
        crash(world);
    world_step(world, (struct grouper_event){.kind = GROUPER_TICK});
}

static void judge(const struct world *world, uint64_t seed)
{
    for (size_t i = 0; i < world->count; i++) {
        const struct raised *raised = &world->alarms[i];
        bool known = raised->accepted + raised->buried > 0;
        if (!raised->acked)
            fail_msg("seed %llu: alarm %zu was never released", (unsigned long long)seed, i + 1);
        if (raised->accepted > 1)
            fail_msg("seed %llu: alarm %zu was told %d times", (unsigned long long)seed, i + 1,
                     raised->accepted);
        if (!known && !raised->settled)
            fail_msg("seed %llu: alarm %zu was never told", (unsigned long long)seed, i + 1);
        if (raised->settled && !raised->acknowledged)
            fail_msg("seed %llu: alarm %zu was settled though nobody has seen it", (unsigned long long)seed,
                     i + 1);
    }
}

static void live(uint64_t seed)
{
    static struct world world;
    world = (struct world){.random = seed * 0x9E3779B97F4A7C15u + 1, .now_ms = INT64_C(1700000000000)};
    world.policy = policy();
    world.policy.seed = seed;
    world.policy.held_max = 8 + chance(&world, 100);
    world.policy.group_max = 1 + chance(&world, 10);
    world.policy.cool_down_ms = (int64_t)chance(&world, 3) * MINUTE;
    world.policy.group_wait_ms = (int64_t)chance(&world, 8) * SECOND;
    strbuf_init(&world.journal);
    assert_int_equal(grouper_create(&world.policy, &world.grouper, NULL), 0);
    for (int turns = 0; turns < 20000 && (world.count < WORLD_ALARMS || !all_acked(&world)); turns++)
        turn(&world);
    judge(&world, seed);
    grouper_destroy(world.grouper);
    strbuf_free(&world.journal);
}

static void every_alarm_is_told_or_counted_and_none_twice(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= WORLD_SEEDS; seed++)
        live(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alarms_of_a_chamber_go_out_together_after_the_wait),
        cmocka_unit_test(a_full_group_does_not_wait),
        cmocka_unit_test(chambers_go_out_one_message_after_the_other),
        cmocka_unit_test(what_was_told_is_cool_and_then_told_as_one),
        cmocka_unit_test(another_chart_is_not_cooled),
        cmocka_unit_test(while_the_sink_is_away_groups_collect),
        cmocka_unit_test(back_off_doubles_up_to_its_bound_with_jitter),
        cmocka_unit_test(what_is_refused_is_buried_and_the_next_goes_out),
        cmocka_unit_test(an_alarm_that_is_known_is_not_told_again),
        cmocka_unit_test(an_acknowledged_alarm_does_not_escalate),
        cmocka_unit_test(without_room_something_is_told_before_its_time),
        cmocka_unit_test(after_a_restart_the_same_message_goes_out_under_the_same_key),
        cmocka_unit_test(a_damaged_state_is_refused),
        cmocka_unit_test(every_alarm_is_told_or_counted_and_none_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
