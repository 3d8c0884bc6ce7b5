/* A machine that runs out of memory, at every allocation it makes: it says so, says so again, and leaks
 * nothing.
 *
 * Linked with --wrap for the allocator, so that this file decides which call fails. */
#include "cluster/cluster.h"
#include "cmocka_setup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

static bool counting;
static long calls, failing; /* the call that fails, 0: none */

static bool fails_now(void)
{
    return counting && ++calls == failing;
}

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails_now() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
    return fails_now() ? NULL : __real_strdup(text);
}

enum { WORLD_EVENTS_MAX = 512, WORLD_KEY_BYTES = 64, WORLD_VALUE_BYTES = 2048 };

/* What happens next, in order; texts live here. */
struct happening {
    struct cluster_event event;
    char key[WORLD_KEY_BYTES], value[WORLD_VALUE_BYTES];
};

/* One process, and a server that grants everything at once. */
struct world {
    struct cluster *cluster;
    struct cluster_actions actions;
    struct happening queue[WORLD_EVENTS_MAX];
    size_t first, last;
    uint64_t revision;
    int64_t now_ms;
    int code;
};

static void happen(struct world *world, struct cluster_event event)
{
    assert_true(world->last < WORLD_EVENTS_MAX);
    struct happening *happening = &world->queue[world->last++];
    happening->event = event;
    if (event.key)
        snprintf(happening->key, sizeof happening->key, "%s", event.key);
    if (event.value)
        snprintf(happening->value, sizeof happening->value, "%s", event.value);
}

static void entry(struct world *world, enum cluster_bucket bucket, const char *key, const char *value)
{
    happen(world, (struct cluster_event){.kind = EVENT_KV_ENTRY,
                                         .bucket = bucket,
                                         .key = key,
                                         .value = value,
                                         .revision = ++world->revision});
}

static void chambers_exist(struct world *world)
{
    char key[WORLD_KEY_BYTES];
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof key, "T%02d.C1", i);
        entry(world, BUCKET_CHAMBERS, key, "{\"weight\":1000}");
    }
}

static void perform(struct world *world, const struct cluster_action *action)
{
    struct cluster_event done = {.kind = EVENT_KV_DONE, .token = action->token};
    switch (action->kind) {
    case ACTION_KV_CREATE:
    case ACTION_KV_UPDATE:
    case ACTION_KV_DELETE:
        entry(world, action->bucket, action->key, action->value);
        done.revision = world->revision;
        happen(world, done);
        break;
    case ACTION_WATCH:
        if (action->value && action->bucket == BUCKET_CHAMBERS)
            chambers_exist(world);
        if (action->value)
            happen(world, (struct cluster_event){
                              .kind = EVENT_KV_CURRENT, .bucket = action->bucket, .key = action->key});
        break;
    case ACTION_PROBE:
        happen(world,
               (struct cluster_event){.kind = EVENT_PROBED, .token = action->token, .code = ERR_UNAVAILABLE});
        break;
    case ACTION_FENCE:
        happen(world, (struct cluster_event){.kind = EVENT_FENCED, .token = action->token});
        break;
    case ACTION_SET_FILTERS:
        happen(world, (struct cluster_event){.kind = EVENT_FILTERS_IN_FORCE, .version = action->version});
        break;
    case ACTION_DRAIN:
        happen(world, (struct cluster_event){.kind = EVENT_DRAINED});
        break;
    default:
        break;
    }
}

static void step(struct world *world, const struct cluster_event *event)
{
    struct error err;
    cluster_actions_clear(&world->actions);
    counting = true;
    world->code = cluster_step(world->cluster, world->now_ms, event, &world->actions, &err);
    counting = false;
    for (size_t i = 0; world->code == 0 && i < world->actions.count; i++)
        perform(world, &world->actions.items[i]);
}

static void pass(struct world *world, int64_t ms)
{
    for (int64_t until_ms = world->now_ms + ms; world->code == 0 && world->now_ms < until_ms;) {
        while (world->code == 0 && world->first < world->last) {
            struct happening happening = world->queue[world->first++];
            struct cluster_event event = happening.event;
            event.key = event.key ? happening.key : NULL;
            event.value = event.value ? happening.value : NULL;
            event.value_length = event.value ? strlen(event.value) : 0;
            step(world, &event);
        }
        world->first = world->last = 0;
        int64_t next_ms = cluster_next_tick_ms(world->cluster);
        world->now_ms = next_ms < until_ms ? next_ms : until_ms;
        if (world->code == 0)
            step(world, &(struct cluster_event){.kind = EVENT_TICK});
    }
}

/* Claims, leads, assigns; another joins, is given chambers, dies; then this one stops. Returns the last code.
 */
static int live(struct world *world)
{
    struct cluster_heartbeat beat = {
        .id = "defender-1", .incarnation = 9, .version = "v1", .state = CLUSTER_FOLLOWER};
    const char *claim = "{\"incarnation\":\"9\",\"version\":\"v1\",\"group\":\"\",\"share\":0}";
    happen(world, (struct cluster_event){.kind = EVENT_CONNECTED});
    pass(world, 3000);
    entry(world, BUCKET_STABLE_IDS, "defender-1", claim);
    happen(world, (struct cluster_event){.kind = EVENT_HEARTBEAT, .heartbeat = &beat});
    pass(world, 1000);
    happen(world, (struct cluster_event){.kind = EVENT_HEARTBEAT, .heartbeat = &beat});
    pass(world, 1000);
    happen(world, (struct cluster_event){.kind = EVENT_HEARTBEAT, .heartbeat = &beat});
    pass(world, 6000);
    happen(world, (struct cluster_event){.kind = EVENT_STOP});
    pass(world, 1000);
    return world->code;
}

static struct world *world_new(void)
{
    struct world *world = calloc(1, sizeof *world);
    struct cluster_config config = {.incarnation = 1, .version = "v1"};
    assert_non_null(world);
    cluster_actions_init(&world->actions);
    assert_int_equal(cluster_create(&config, &world->cluster, NULL), 0);
    return world;
}

static void world_free(struct world *world)
{
    cluster_destroy(world->cluster);
    cluster_actions_free(&world->actions);
    free(world);
}

static void every_allocation_fails_once(void **state)
{
    (void)state;
    failing = 0;
    calls = 0;
    struct world *world = world_new();
    struct cluster_status status;
    assert_int_equal(live(world), 0);
    cluster_read_status(world->cluster, &status);
    assert_int_equal(status.state, CLUSTER_STOPPED);
    assert_true(status.map_version >= 3); /* the life above was as full as it says */
    world_free(world);
    long total = calls;
    assert_true(total > 200);
    for (long nth = 1; nth <= total; nth++) {
        failing = nth;
        calls = 0;
        world = world_new();
        assert_int_equal(live(world), ERR_NO_MEMORY);
        /* From then on nothing is certain, and it says so. */
        step(world, &(struct cluster_event){.kind = EVENT_TICK});
        assert_int_equal(world->code, ERR_NO_MEMORY);
        assert_int_equal(world->actions.count, 0);
        world_free(world);
    }
}

static void a_machine_that_cannot_be_made(void **state)
{
    (void)state;
    struct cluster_config config = {.incarnation = 1};
    struct cluster *cluster = NULL;
    calls = 0;
    failing = 1;
    counting = true;
    int code = cluster_create(&config, &cluster, NULL);
    counting = false;
    assert_int_equal(code, ERR_NO_MEMORY);
    assert_null(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(a_machine_that_cannot_be_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
