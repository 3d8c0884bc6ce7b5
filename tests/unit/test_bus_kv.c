#include "nats_fixture.h"

#include "cmocka_setup.h"

#include "base/clock.h"
#include "bus/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WATCHES = 2, MANY = 2000 };

struct done {
    int count;
    int code;
    uint64_t revision;
    struct error error;
};

struct got {
    int count;
    int code;
    char value[128];
    size_t length;
    uint64_t revision;
    enum kv_operation operation;
};

struct sight {
    struct kv_watch *watch;
    int currents;
    int entries;
    int deletions;
    uint64_t last_revision;
    bool out_of_order;
    bool stop_at_next;
    char seen[4096]; /* "key=value;" or "key!;" for a deletion, "." for current; the first 4 KiB */
};

struct story {
    struct nats_server *server;
    struct nats_client client;
    struct done done;
    struct got got;
    struct sight sights[WATCHES];
    struct heard heard;
};

static int open_server(void **state)
{
    struct nats_server *server = calloc(1, sizeof *server);
    *state = server;
    return server ? nats_server_open(server, NULL) : -1;
}

static int close_server(void **state)
{
    nats_server_close(*state);
    free(*state);
    return 0;
}

static void on_done(void *arg, int code, const struct error *error, uint64_t revision)
{
    struct done *done = arg;
    done->count++;
    done->code = code;
    done->error = *error;
    done->revision = revision;
}

static void on_got(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    (void)error;
    struct got *got = arg;
    got->count++;
    got->code = code;
    assert_true((code == 0) == (entry != NULL));
    if (entry) {
        snprintf(got->value, sizeof got->value, "%s", entry->value);
        got->length = entry->length;
        got->revision = entry->revision;
        got->operation = entry->operation;
    }
}

#define WAIT_DONE(story) RUN_UNTIL(&(story)->client, (story)->done.count == 1)

static void make_bucket(struct story *story, const char *bucket, int64_t ttl_ms)
{
    struct kv_spec spec = {.bucket = bucket, .ttl_ms = ttl_ms, .replicas = 1};
    story->done = (struct done){0};
    kv_ensure(story->client.bus, &spec, on_done, &story->done);
    WAIT_DONE(story);
    if (story->done.code)
        fail_msg("%s", story->done.error.text);
}

/* A bucket without keys, whatever an earlier test left. */
static void clear_bucket(struct story *story, const char *bucket, int64_t ttl_ms)
{
    char call[64];
    snprintf(call, sizeof call, "STREAM.DELETE.KV_%s", bucket);
    nats_client_call(&story->client, call, NULL, &story->heard);
    heard_forget(&story->heard);
    make_bucket(story, bucket, ttl_ms);
}

static int open_story(void **state)
{
    struct story *story = calloc(1, sizeof *story);
    story->server = *state;
    *state = story;
    if (story->server->pid == 0 && nats_server_start(story->server))
        return -1;
    nats_client_open(&story->client, story->server->url);
    RUN_UNTIL(&story->client, bus_is_connected(story->client.bus));
    clear_bucket(story, "b", 0);
    return 0;
}

static int close_story(void **state)
{
    struct story *story = *state;
    for (int i = 0; i < WATCHES; i++)
        if (story->sights[i].watch)
            kv_watch_stop(story->sights[i].watch);
    nats_client_close(&story->client);
    heard_forget(&story->heard);
    *state = story->server;
    free(story);
    return 0;
}

static int create(struct story *story, const char *key, const char *value)
{
    story->done = (struct done){0};
    kv_create(story->client.bus, "b", key, value, strlen(value), on_done, &story->done);
    WAIT_DONE(story);
    return story->done.code;
}

static int put(struct story *story, const char *key, const char *value)
{
    story->done = (struct done){0};
    kv_put(story->client.bus, "b", key, value, strlen(value), on_done, &story->done);
    WAIT_DONE(story);
    return story->done.code;
}

static int update(struct story *story, const char *key, const char *value, uint64_t revision)
{
    story->done = (struct done){0};
    kv_update(story->client.bus, "b", key, value, strlen(value), revision, on_done, &story->done);
    WAIT_DONE(story);
    return story->done.code;
}

static int delete_key(struct story *story, const char *key, uint64_t revision)
{
    story->done = (struct done){0};
    kv_delete(story->client.bus, "b", key, revision, on_done, &story->done);
    WAIT_DONE(story);
    return story->done.code;
}

static int get(struct story *story, const char *key)
{
    story->got = (struct got){0};
    kv_get(story->client.bus, "b", key, on_got, &story->got);
    RUN_UNTIL(&story->client, story->got.count == 1);
    return story->got.code;
}

static void a_key_is_created_once(void **state)
{
    struct story *story = *state;
    assert_int_equal(create(story, "leader", "one"), 0);
    uint64_t first = story->done.revision;
    assert_true(first > 0);
    assert_int_equal(create(story, "leader", "two"), ERR_CONFLICT);
    assert_non_null(strstr(story->done.error.text, "leader"));
    assert_int_equal(get(story, "leader"), 0);
    assert_string_equal(story->got.value, "one");
    assert_int_equal(story->got.revision, first);
    assert_int_equal(create(story, "other", "x"), 0); /* another key is another matter */
    assert_true(story->done.revision > first);
}

static void an_update_wants_the_newest_revision(void **state)
{
    struct story *story = *state;
    assert_int_equal(create(story, "k", "one"), 0);
    uint64_t first = story->done.revision;
    assert_int_equal(update(story, "k", "two", first), 0);
    uint64_t second = story->done.revision;
    assert_true(second > first);
    assert_int_equal(update(story, "k", "three", first), ERR_CONFLICT);
    assert_int_equal(get(story, "k"), 0);
    assert_string_equal(story->got.value, "two");
    assert_int_equal(put(story, "k", "four"), 0); /* whatever was there */
    assert_int_equal(update(story, "k", "five", second), ERR_CONFLICT);
    assert_int_equal(get(story, "k"), 0);
    assert_string_equal(story->got.value, "four");
    assert_int_equal(update(story, "absent", "x", 7), ERR_CONFLICT);
}

static void a_deleted_key_is_not_there_and_can_be_created(void **state)
{
    struct story *story = *state;
    assert_int_equal(get(story, "k"), ERR_NOT_FOUND);
    assert_int_equal(create(story, "k", "one"), 0);
    uint64_t first = story->done.revision;
    assert_int_equal(delete_key(story, "k", first + 100), ERR_CONFLICT);
    assert_int_equal(get(story, "k"), 0);
    assert_int_equal(delete_key(story, "k", first), 0);
    assert_int_equal(get(story, "k"), ERR_NOT_FOUND);
    assert_int_equal(update(story, "k", "late", first), ERR_CONFLICT);
    assert_int_equal(create(story, "k", "again"), 0);
    assert_int_equal(get(story, "k"), 0);
    assert_string_equal(story->got.value, "again");
    assert_int_equal(create(story, "k", "twice"), ERR_CONFLICT);
    assert_int_equal(delete_key(story, "k", 0), 0);
    assert_int_equal(delete_key(story, "never", 0), 0);
    assert_int_equal(get(story, "k"), ERR_NOT_FOUND);
}

static void values_may_be_empty_binary_or_large(void **state)
{
    struct story *story = *state;
    assert_int_equal(put(story, "empty", ""), 0);
    assert_int_equal(get(story, "empty"), 0);
    assert_int_equal(story->got.length, 0);
    assert_int_equal(create(story, "empty", "x"), ERR_CONFLICT); /* empty is not deleted */
    story->done = (struct done){0};
    kv_put(story->client.bus, "b", "binary", "a\0b\r\n", 5, on_done, &story->done);
    WAIT_DONE(story);
    assert_int_equal(get(story, "binary"), 0);
    assert_int_equal(story->got.length, 5);
    size_t length = 2 << 20;
    char *large = calloc(1, length);
    story->done = (struct done){0};
    kv_put(story->client.bus, "b", "large", large, length, on_done, &story->done);
    WAIT_DONE(story);
    assert_int_equal(story->done.code, ERR_LIMIT);
    free(large);
}

static void names_that_are_too_long_are_refused_and_not_cut(void **state)
{
    struct story *story = *state;
    char key[2 * BUS_SUBJECT_MAX_BYTES];
    memset(key, 'k', sizeof key);
    key[sizeof key - 1] = '\0';
    assert_int_equal(put(story, key, "x"), ERR_LIMIT);
    assert_int_equal(create(story, key, "x"), ERR_LIMIT);
    assert_int_equal(get(story, key), ERR_LIMIT);
    key[700] = '\0';
    assert_int_equal(put(story, key, "seven hundred"), 0);
    key[699] = '\0';
    assert_int_equal(get(story, key), ERR_NOT_FOUND);
    struct kv_watch *watch = NULL;
    struct kv_watch_events events = {0};
    struct error err;
    assert_int_equal(kv_watch_start(story->client.bus, "b", key, &events, &watch, &err), ERR_LIMIT);
    assert_null(watch);
}

static void a_bucket_that_is_there_is_taken_as_it_is(void **state)
{
    struct story *story = *state;
    make_bucket(story, "b", 0);
    make_bucket(story, "b", 5000);
    assert_int_equal(nats_client_call(&story->client, "STREAM.INFO.KV_b", NULL, &story->heard), 0);
    const json_t *config = json_object_get(story->heard.response, "config");
    assert_int_equal(json_integer_value(json_object_get(config, "max_age")), 0);
    assert_int_equal(json_integer_value(json_object_get(config, "max_msgs_per_subject")), 1);
    assert_true(json_is_true(json_object_get(config, "allow_direct")));
    assert_true(json_is_true(json_object_get(config, "deny_delete")));
    heard_forget(&story->heard);
    story->got = (struct got){0};
    kv_get(story->client.bus, "nobucket", "k", on_got, &story->got);
    RUN_UNTIL(&story->client, story->got.count);
    assert_int_equal(story->got.code, ERR_UNAVAILABLE);
}

static void a_key_expires_and_can_be_created_again(void **state)
{
    struct story *story = *state;
    clear_bucket(story, "b", 1000);
    assert_int_equal(create(story, "lease", "first"), 0);
    uint64_t revision = story->done.revision;
    assert_int_equal(create(story, "lease", "second"), ERR_CONFLICT);
    int64_t end_ns = nats_client_end_ns(NATS_FIXTURE_PATIENCE_MS);
    while (get(story, "lease") == 0 && clock_mono_ns() < end_ns)
        RUN_FOR(&story->client, 50);
    assert_int_equal(story->got.code, ERR_NOT_FOUND);
    assert_int_equal(update(story, "lease", "late", revision),
                     ERR_CONFLICT); /* a lease lost cannot be kept */
    assert_int_equal(create(story, "lease", "third"), 0);
    assert_int_equal(get(story, "lease"), 0);
    assert_string_equal(story->got.value, "third");
    /* An update prolongs it. */
    revision = story->done.revision;
    for (int i = 0; i < 8; i++) {
        RUN_FOR(&story->client, 250);
        assert_int_equal(update(story, "lease", "held", revision), 0);
        revision = story->done.revision;
    }
    clear_bucket(story, "b", 0);
}

/* --- watching --- */

static void on_entry(void *arg, const struct kv_entry *entry)
{
    struct sight *sight = arg;
    sight->entries++;
    sight->deletions += entry->operation == KV_DELETED;
    sight->out_of_order |= entry->revision <= sight->last_revision;
    sight->last_revision = entry->revision;
    size_t used = strlen(sight->seen);
    if (entry->operation == KV_DELETED)
        snprintf(sight->seen + used, sizeof sight->seen - used, "%s!;", entry->key);
    else
        snprintf(sight->seen + used, sizeof sight->seen - used, "%s=%.*s;", entry->key, (int)entry->length,
                 entry->value);
    assert_true(entry->stored_us > 0);
    if (sight->stop_at_next) {
        kv_watch_stop(sight->watch);
        sight->watch = NULL;
    }
}

static void on_current(void *arg)
{
    struct sight *sight = arg;
    sight->currents++;
    sight->last_revision = 0; /* a restart gives them again */
    size_t used = strlen(sight->seen);
    snprintf(sight->seen + used, sizeof sight->seen - used, ".");
}

static void watch(struct story *story, int i, const char *pattern)
{
    struct kv_watch_events events = {.entry = on_entry, .current = on_current, .arg = &story->sights[i]};
    struct error err;
    assert_int_equal(kv_watch_start(story->client.bus, "b", pattern, &events, &story->sights[i].watch, &err),
                     0);
}

static void a_watch_of_an_empty_bucket_is_current_at_once(void **state)
{
    struct story *story = *state;
    watch(story, 0, ">");
    RUN_UNTIL(&story->client, story->sights[0].currents == 1);
    assert_string_equal(story->sights[0].seen, ".");
}

static void a_watch_gives_what_is_there_then_every_change_in_order(void **state)
{
    struct story *story = *state;
    put(story, "a", "1");
    put(story, "b", "1");
    put(story, "a", "2");
    put(story, "gone", "1");
    delete_key(story, "gone", 0);
    put(story, "members.x", "1");
    watch(story, 0, ">");
    watch(story, 1, "members.*");
    RUN_UNTIL(&story->client, story->sights[0].currents == 1 && story->sights[1].currents == 1);
    assert_string_equal(story->sights[0].seen, "b=1;a=2;gone!;members.x=1;.");
    /* One by one: of a key's changes that follow at once the server may give the newest alone (history 1). */
    put(story, "a", "3");
    RUN_UNTIL(&story->client, story->sights[0].entries == 5);
    delete_key(story, "a", 0);
    RUN_UNTIL(&story->client, story->sights[0].entries == 6);
    put(story, "a", "4");
    RUN_UNTIL(&story->client, story->sights[0].entries == 7);
    put(story, "members.y", "2");
    put(story, "e", "");
    RUN_UNTIL(&story->client, story->sights[0].entries == 9 && story->sights[1].entries == 2);
    assert_string_equal(story->sights[0].seen, "b=1;a=2;gone!;members.x=1;.a=3;a!;a=4;members.y=2;e=;");
    assert_string_equal(story->sights[1].seen, "members.x=1;.members.y=2;");
    assert_int_equal(story->sights[0].currents, 1);
}

static void put_many(struct story *story, struct done *done, int count, const char *value)
{
    for (int i = 0; i < count; i++) {
        char key[32];
        snprintf(key, sizeof key, "many.%d", i);
        kv_put(story->client.bus, "b", key, value, strlen(value), on_done, done);
    }
}

static void many_keys_are_seen_each_before_current(void **state)
{
    struct story *story = *state;
    struct sight *sight = &story->sights[0];
    story->done = (struct done){0};
    put_many(story, &story->done, MANY, "1");
    RUN_UNTIL(&story->client, story->done.count == MANY);
    watch(story, 0, ">");
    RUN_UNTIL(&story->client, sight->currents == 1);
    assert_int_equal(sight->entries, MANY);
    assert_false(sight->out_of_order);
    put_many(story, &story->done, MANY, "2");
    RUN_UNTIL(&story->client, sight->entries == 2 * MANY);
    assert_false(sight->out_of_order);
    assert_int_equal(sight->currents, 1);
}

/* Written to while the watch starts: the newest value of each key is seen, in order, whatever it overlaps
 * with. */
static void a_watch_that_starts_amid_changes_misses_nothing(void **state)
{
    struct story *story = *state;
    struct sight *sight = &story->sights[0];
    story->done = (struct done){0};
    put_many(story, &story->done, 200, "1");
    watch(story, 0, ">");
    put_many(story, &story->done, 200, "2");
    RUN_UNTIL(&story->client, story->done.count == 400);
    put(story, "last", "x");
    RUN_UNTIL(&story->client, strstr(sight->seen, "last") || sight->last_revision == story->done.revision);
    assert_false(sight->out_of_order);
    assert_int_equal(sight->currents, 1);
    assert_true(sight->entries >= 201);
}

static void a_watch_survives_a_server_restart(void **state)
{
    struct story *story = *state;
    struct sight *sight = &story->sights[0];
    put(story, "a", "1");
    put(story, "b", "1");
    watch(story, 0, ">");
    RUN_UNTIL(&story->client, sight->currents == 1);
    for (int round = 1; round <= 2; round++) {
        nats_server_kill(story->server);
        RUN_UNTIL(&story->client, !bus_is_connected(story->client.bus));
        if (round == 2)
            RUN_FOR(&story->client, 500);
        assert_int_equal(nats_server_start(story->server), 0);
        RUN_UNTIL(&story->client, bus_is_connected(story->client.bus));
        int64_t start_ns = clock_mono_ns();
        RUN_UNTIL(&story->client, sight->currents == 1 + round);
        assert_true(clock_mono_ns() - start_ns < INT64_C(4000000000)); /* sooner than by its silence */
        assert_int_equal(sight->entries, 2 + 2 * round);
    }
    assert_string_equal(sight->seen, "a=1;b=1;.a=1;b=1;.a=1;b=1;.");
    put(story, "c", "1");
    RUN_UNTIL(&story->client, sight->entries == 7);
}

static void a_watch_whose_consumer_vanishes_starts_again(void **state)
{
    struct story *story = *state;
    struct sight *sight = &story->sights[0];
    put(story, "a", "1");
    watch(story, 0, ">");
    RUN_UNTIL(&story->client, sight->currents == 1);
    assert_int_equal(nats_client_call(&story->client, "CONSUMER.NAMES.KV_b", NULL, &story->heard), 0);
    const char *name =
        json_string_value(json_array_get(json_object_get(story->heard.response, "consumers"), 0));
    assert_non_null(name);
    char call[128];
    snprintf(call, sizeof call, "CONSUMER.DELETE.KV_b.%s", name);
    assert_int_equal(nats_client_call(&story->client, call, NULL, &story->heard), 0);
    put(story, "a", "2"); /* not delivered: the silence tells */
    RUN_UNTIL(&story->client, sight->currents == 2);
    assert_string_equal(sight->seen, "a=1;.a=2;.");
}

static void a_watch_waits_for_its_bucket(void **state)
{
    struct story *story = *state;
    nats_client_call(&story->client, "STREAM.DELETE.KV_b", NULL, &story->heard);
    watch(story, 0, ">");
    RUN_FOR(&story->client, 300);
    assert_int_equal(story->sights[0].currents, 0);
    make_bucket(story, "b", 0);
    RUN_UNTIL(&story->client, story->sights[0].currents == 1);
}

static void a_watch_can_be_stopped_while_it_is_busy(void **state)
{
    struct story *story = *state;
    struct sight *sight = &story->sights[0];
    story->done = (struct done){0};
    put_many(story, &story->done, 500, "1");
    RUN_UNTIL(&story->client, story->done.count == 500);
    watch(story, 0, ">");
    kv_watch_stop(sight->watch); /* before its consumer is made */
    RUN_FOR(&story->client, 100);
    assert_int_equal(sight->entries, 0);
    watch(story, 0, ">");
    sight->stop_at_next = true; /* from its own event */
    RUN_UNTIL(&story->client, sight->watch == NULL);
    RUN_FOR(&story->client, 100);
    assert_int_equal(sight->entries, 1);
    assert_int_equal(sight->currents, 0);
}

static void what_is_under_way_when_the_server_dies_is_answered(void **state)
{
    struct story *story = *state;
    story->done = (struct done){0};
    watch(story, 0, ">");
    put_many(story, &story->done, 300, "1");
    kv_create(story->client.bus, "b", "many.1", "x", 1, on_done, &story->done);
    kv_get(story->client.bus, "b", "many.1", on_got, &story->got);
    nats_server_kill(story->server);
    RUN_UNTIL(&story->client, story->done.count == 301 && story->got.count == 1);
    put(story, "k", "x");
    assert_int_equal(story->done.code, ERR_UNAVAILABLE);
    assert_int_equal(get(story, "k"), ERR_UNAVAILABLE);
}

#define STORY(name) cmocka_unit_test_setup_teardown(name, open_story, close_story)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_key_is_created_once),
        STORY(an_update_wants_the_newest_revision),
        STORY(a_deleted_key_is_not_there_and_can_be_created),
        STORY(values_may_be_empty_binary_or_large),
        STORY(names_that_are_too_long_are_refused_and_not_cut),
        STORY(a_bucket_that_is_there_is_taken_as_it_is),
        STORY(a_key_expires_and_can_be_created_again),
        STORY(a_watch_of_an_empty_bucket_is_current_at_once),
        STORY(a_watch_gives_what_is_there_then_every_change_in_order),
        STORY(many_keys_are_seen_each_before_current),
        STORY(a_watch_that_starts_amid_changes_misses_nothing),
        STORY(a_watch_survives_a_server_restart),
        STORY(a_watch_whose_consumer_vanishes_starts_again),
        STORY(a_watch_waits_for_its_bucket),
        STORY(a_watch_can_be_stopped_while_it_is_busy),
        STORY(what_is_under_way_when_the_server_dies_is_answered),
    };
    return cmocka_run_group_tests(tests, open_server, close_server);
}
