#include "invariants.h"

#include "memory.h"

#include "assign/assign.h"
#include "base/arena.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOK_MS = 500,
    SETTLED_LOOK_MS = 4000, /* once the world is in order */
    MEASURE_MS = 100,
    EXCUSE_MS = 3000, /* so long after a pause or a cut a process may still believe what no longer is */
    WELL_MS = 8000,   /* undisturbed so long: it must not be declared dead */
    LEADER_BOUND_MS = 13000,
    DELIVERY_BOUND_MS = 40000 /* the ack wait, for what a dead connection swallowed, and some */
};

/* What a to.* key said before the header that commits it. */
struct staged {
    uint64_t version;
    const struct process *writer;
    uint64_t writer_life;
    uint32_t *chambers;
    size_t count;
};

struct measurement {
    bool running;
    enum fault_kind kind;
    uint64_t serial;
    int64_t since_us, unserved_us;
};

struct invariants {
    uint64_t checked[INVARIANT_COUNT];
    int64_t settled_us;   /* from then on everything is to be in order */
    int64_t disturbed_us; /* when the last fault began or ended */
    int64_t led_us;       /* when there was a leader last */

    struct process *lease_holder;
    uint64_t lease_life, lease_first, lease_newest;

    int32_t *claimants; /* of each ID: slot of the process that wrote its claim; NATS_NOBODY */
    uint64_t *claimant_lives;

    struct staged *staged; /* by ID */
    int32_t *owners;       /* by chamber, as committed; ASSIGN_NOBODY */
    uint64_t *assigned;    /* by ID, as committed: the version of its key; 0: not in the map */
    uint64_t *touched; /* by chamber: version of the first write since the last commit that gives or takes it;
                          0: none */
    size_t members;
    size_t unserved; /* the chamber last seen so */
    uint64_t map_version, map_token;
    struct arena arena;

    bool rolling, roll_disturbed;
    uint64_t roll_version;

    struct measurement measurement;
    struct recovery recoveries[FAULT_COUNT];
};

static const char *const NAMES[INVARIANT_COUNT] = {"one-judge", "one-id", "holder-only", "filtered",
                                                   "lease",     "commit", "movement",    "roll",
                                                   "alive",     "leader", "owned",       "delivered"};

const char *invariant_name(enum invariant invariant)
{
    return NAMES[invariant];
}

int invariant_parse(const char *name)
{
    for (int i = 0; i < INVARIANT_COUNT; i++)
        if (strcmp(NAMES[i], name) == 0)
            return i;
    return -1;
}

uint64_t invariants_checked(const struct invariants *invariants, enum invariant invariant)
{
    return invariants->checked[invariant];
}

const struct recovery *invariants_recovery(const struct invariants *invariants, enum fault_kind kind)
{
    return &invariants->recoveries[kind];
}

__attribute__((format(printf, 3, 4))) static void violated(struct world *world, enum invariant invariant,
                                                           const char *format, ...)
{
    if (world->failed || (world->options.only >= 0 && world->options.only != (int)invariant))
        return;
    world->failed = true;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("VIOLATED %s at %.3f s of seed %llu: %s\n", NAMES[invariant], (double)world->now_us / 1e6,
           (unsigned long long)world->options.seed, text);
}

#define CHECK(world, invariant, holds, ...)                                                                  \
    do {                                                                                                     \
        (world)->invariants->checked[invariant]++;                                                           \
        if (!(holds))                                                                                        \
            violated((world), (invariant), __VA_ARGS__);                                                     \
    } while (0)

/* --- disturbances --- */

void invariants_disturbed(struct world *world, int64_t bound_ms)
{
    struct invariants *invariants = world->invariants;
    int64_t until_us = world->now_us + bound_ms * SIM_MS_US;
    if (until_us > invariants->settled_us)
        invariants->settled_us = until_us;
    invariants->disturbed_us = world->now_us;
}

bool invariants_settled(const struct world *world)
{
    return world->now_us >= world->invariants->settled_us;
}

static bool excused(const struct process *process)
{
    return !process->alive || process->paused || process->cut || !process->told_connected ||
           process->world->now_us - process->disturbed_us < EXCUSE_MS * (int64_t)SIM_MS_US ||
           process->world->now_us - process->disconnected_us < EXCUSE_MS * (int64_t)SIM_MS_US;
}

/* --- judging --- */

void invariants_judging(struct world *world, struct process *process, const struct job *job)
{
    int holder = nats_holder(world->nats, job->chamber);
    CHECK(world, INVARIANT_ONE_JUDGE, holder == process->id || holder == NATS_NOBODY || excused(process),
          "process %zu (defender-%d) begins to judge %s, which the consumer of defender-%d has",
          process->index, process->id, world->names[job->chamber], holder);
    for (size_t p = 0; p < world->slots; p++) {
        struct process *other = &world->processes[p];
        if (other == process || !other->alive)
            continue;
        for (size_t i = 0; i < other->job_count; i++) {
            const struct job *theirs = &other->jobs[i];
            if (!theirs->running || theirs->orphaned || theirs->chamber != job->chamber || excused(other) ||
                excused(process))
                continue;
            CHECK(
                world, INVARIANT_ONE_JUDGE, !cluster_owns(other->cluster, world->names[job->chamber]),
                "process %zu (defender-%d) begins to judge %s while process %zu (defender-%d) does, and both "
                "believe they own it",
                process->index, process->id, world->names[job->chamber], other->index, other->id);
        }
    }
    world->invariants->checked[INVARIANT_ONE_JUDGE]++;
}

void invariants_judged(struct world *world, struct process *process, const struct job *job)
{
    (void)world;
    (void)process;
    (void)job;
}

/* --- IDs and consumers --- */

void invariants_stepped(struct world *world, struct process *process)
{
    if (process->id == process->checked_id)
        return;
    process->checked_id = process->id;
    if (process->id == NATS_NOBODY || !process_status(process).certain)
        return;
    for (size_t p = 0; p < world->slots; p++) {
        struct process *other = &world->processes[p];
        if (other == process || !other->alive || other->id != process->id || excused(other))
            continue;
        CHECK(world, INVARIANT_ONE_ID, !process_status(other).certain,
              "processes %zu and %zu both hold defender-%d for certain", process->index, other->index,
              process->id);
    }
    world->invariants->checked[INVARIANT_ONE_ID]++;
}

void invariants_died(struct world *world, struct process *process)
{
    (void)world;
    process->checked_id = NATS_NOBODY;
}

void invariants_consumer_changed(struct world *world, const struct packet *packet)
{
    struct invariants *invariants = world->invariants;
    struct process *process = packet->process;
    if (packet->kind == PACKET_CONSUMER_SET)
        CHECK(world, INVARIANT_FILTERED, packet->count > 0,
              "process %zu leaves the consumer of defender-%d without filters", process->index,
              packet->consumer);
    int32_t claimant = invariants->claimants[packet->consumer];
    bool theirs =
        claimant == (int32_t)process->index && invariants->claimant_lives[packet->consumer] == process->life;
    char key[SIM_KEY_BYTES];
    snprintf(key, sizeof key, "defender-%d", packet->consumer);
    bool claimed = nats_kv_get(world->nats, world->now_us, BUCKET_STABLE_IDS, key) != NULL;
    /* What was sent before a pause or on a slow link arrives when it arrives. */
    bool late = excused(process) || world->now_us < process->slow_until_us + SIM_SECOND_US;
    CHECK(world, INVARIANT_HOLDER_ONLY, theirs || !claimed || late,
          "process %zu changes the consumer of defender-%d, whose ID process %d holds", process->index,
          packet->consumer, claimant);
}

/* --- what the leader does --- */

static bool holds_newest_lease(const struct world *world, const struct process *process)
{
    const struct invariants *invariants = world->invariants;
    return invariants->lease_holder == process && invariants->lease_life == process->life;
}

/* A process that holds that ID and has been well all the time, apart from what befalls all. */
static const struct process *well_holder(const struct world *world, int id)
{
    for (size_t p = 0; p < world->slots; p++) {
        const struct process *process = &world->processes[p];
        if (process->alive && process->id == id &&
            world->now_us - process->held_us > EXCUSE_MS * (int64_t)SIM_MS_US && !process->paused &&
            !process->cut && !process->draining &&
            world->now_us - process->disturbed_us > WELL_MS * (int64_t)SIM_MS_US &&
            world->now_us > process->slow_until_us && process_status(process).certain)
            return process;
    }
    return NULL;
}

void invariants_asked(struct world *world, struct process *process, const struct cluster_action *action)
{
    bool assigns = (action->kind == ACTION_KV_UPDATE || action->kind == ACTION_KV_PUT ||
                    action->kind == ACTION_KV_CREATE) &&
                   action->bucket == BUCKET_ASSIGNMENTS;
    if (!assigns && action->kind != ACTION_FENCE)
        return;
    CHECK(world, INVARIANT_LEASE, holds_newest_lease(world, process),
          "process %zu (defender-%d) %s %s though it no longer holds the newest lease", process->index,
          process->id, assigns ? "writes" : "fences", assigns ? action->key : action->id);
    if (assigns && strncmp(action->key, "to.", 3) == 0)
        faults_on_commit_write(world, process);
    if (action->kind == ACTION_FENCE) {
        const struct process *holder = well_holder(world, world_defender_number(action->id));
        CHECK(world, INVARIANT_ALIVE, holder == NULL, "%s (process %zu) is fenced, and is well", action->id,
              holder ? holder->index : 0);
    }
}

/* --- the assignment --- */

static json_t *document(const struct packet *packet)
{
    json_t *json = packet->value ? json_loadb(packet->value->text, packet->value->length, 0, NULL) : NULL;
    if (json == NULL) {
        printf("sim: key %s holds no JSON\n", packet->key);
        abort();
    }
    return json;
}

static uint64_t number(const json_t *json, const char *field)
{
    return (uint64_t)json_integer_value(json_object_get(json, field));
}

static bool listed(const struct staged *staged, uint32_t chamber)
{
    for (size_t i = 0; i < staged->count; i++)
        if (staged->chambers[i] == chamber)
            return true;
    return false;
}

/* Notes those of `some` that are not in `others`. */
static void touch(struct invariants *invariants, const struct staged *some, const struct staged *others,
                  uint64_t version)
{
    for (size_t i = 0; i < some->count; i++)
        if (invariants->touched[some->chambers[i]] == 0 && !listed(others, some->chambers[i]))
            invariants->touched[some->chambers[i]] = version;
}

static void stage(struct world *world, const struct packet *packet)
{
    struct invariants *invariants = world->invariants;
    int id = world_defender_number(packet->key + 3);
    struct staged *staged = &invariants->staged[id];
    struct staged now = {.writer = packet->process, .writer_life = packet->process->life};
    if (invariants->assigned[id] == 0)
        staged->count = 0; /* left by one that is not in the map: says nothing */
    if (packet->write != ACTION_KV_DELETE) {
        json_t *json = document(packet);
        const json_t *chambers = json_object_get(json, "chambers");
        now.version = number(json, "version");
        now.chambers = sim_alloc(json_array_size(chambers), sizeof *now.chambers);
        for (size_t i = 0; i < json_array_size(chambers); i++)
            now.chambers[now.count++] =
                (uint32_t)world_chamber(world, json_string_value(json_array_get(chambers, i)));
        touch(invariants, &now, staged, now.version);
        touch(invariants, staged, &now, now.version);
        json_decref(json);
    }
    world_trace(world, NULL, "stored: %s, version %llu, %zu chambers", packet->key,
                (unsigned long long)now.version, now.count);
    free(staged->chambers);
    *staged = now;
}

struct commit {
    int32_t *owners;
    struct assign_defender *members;
    size_t member_count;
    bool emergency;
    uint64_t version;
    const struct process *leader;
};

static bool is_member(const struct commit *commit, int32_t id)
{
    for (size_t i = 0; i < commit->member_count; i++)
        if (commit->members[i].number == id)
            return true;
    return false;
}

static void keep_committed(struct world *world, struct commit *commit, int id)
{
    for (size_t c = 0; c < world->chambers_max; c++)
        if (world->invariants->owners[c] == id && commit->owners[c] == ASSIGN_NOBODY)
            commit->owners[c] = id;
}

static void read_members(struct world *world, const json_t *json, struct commit *commit)
{
    struct invariants *invariants = world->invariants;
    const json_t *members = json_object_get(json, "members");
    commit->owners = arena_alloc(&invariants->arena, world->chambers_max * sizeof *commit->owners);
    commit->members = arena_calloc(&invariants->arena, json_array_size(members) + 1, sizeof *commit->members);
    for (size_t c = 0; c < world->chambers_max; c++)
        commit->owners[c] = ASSIGN_NOBODY;
    memset(invariants->assigned, 0, CLUSTER_MEMBERS_MAX * sizeof *invariants->assigned);
    for (size_t m = 0; m < json_array_size(members); m++) {
        const json_t *member = json_array_get(members, m);
        int id = world_defender_number(json_string_value(json_object_get(member, "id")));
        commit->members[commit->member_count++].number = id;
        const struct staged *staged = &invariants->staged[id];
        invariants->assigned[id] = number(member, "assigned");
        bool late = staged->version > number(member, "assigned") &&
                    !(staged->writer == commit->leader && staged->writer_life == commit->leader->life);
        if (late) { /* what one that led before had sent arrives last: not in force, and to be written over */
            keep_committed(world, commit, id);
            continue;
        }
        CHECK(world, INVARIANT_COMMIT,
              staged->version == number(member, "assigned") && staged->count == number(member, "count"),
              "the map commits version %llu of to.defender-%d, which is at %llu",
              (unsigned long long)number(member, "assigned"), id, (unsigned long long)staged->version);
        for (size_t i = 0; i < staged->count; i++) {
            int32_t *owner = &commit->owners[staged->chambers[i]];
            CHECK(world, INVARIANT_COMMIT, *owner == ASSIGN_NOBODY,
                  "%s is given to defender-%d and defender-%d", world->names[staged->chambers[i]], *owner,
                  id);
            *owner = id;
        }
    }
    invariants->members = commit->member_count;
}

/* A new leader has put its token on what is in force. What one before it has written and not committed may
 * stand in the members' keys: that is not in force, and the next commit writes it over. */
static void check_stamp(struct world *world, const json_t *json)
{
    struct invariants *invariants = world->invariants;
    const json_t *members = json_object_get(json, "members");
    bool same = json_array_size(members) == invariants->members;
    for (size_t m = 0; same && m < json_array_size(members); m++) {
        const json_t *member = json_array_get(members, m);
        int id = world_defender_number(json_string_value(json_object_get(member, "id")));
        same = invariants->assigned[id] == number(member, "assigned");
    }
    CHECK(world, INVARIANT_COMMIT, same, "version %llu changes under a new token",
          (unsigned long long)invariants->map_version);
}

static int compare_ratios(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* With what each chamber counts, by the words of docs/cluster.md. */
static int64_t *weigh(const struct world *world, struct arena *arena)
{
    int64_t *weights = arena_calloc(arena, world->chambers_max, sizeof *weights);
    double *ratios = arena_calloc(arena, world->chambers_max, sizeof *ratios);
    size_t count = 0;
    for (size_t c = 0; c < world->chambers_max; c++)
        if (world->observed[c] > 0)
            ratios[count++] = (double)world->weights[c] / (double)world->observed[c];
    qsort(ratios, count, sizeof *ratios, compare_ratios);
    for (size_t c = 0; c < world->chambers_max; c++) {
        double registered = (double)world->weights[c], weight = registered;
        if (count > 0 && world->observed[c] >= 0) {
            weight = (double)world->observed[c] * ratios[count / 2];
            weight = weight > registered / 10 ? weight : registered / 10;
        }
        weights[c] = weight < 1 ? 1 : (int64_t)weight;
    }
    return weights;
}

/* Moves allowed beside those of chambers whose owner has gone: the budget, or what balance needs at the
 * least. */
static size_t moves_allowed(struct world *world, const struct commit *commit, size_t chambers)
{
    struct invariants *invariants = world->invariants;
    struct assign_chamber *list = arena_calloc(&invariants->arena, world->chambers_max, sizeof *list);
    const int64_t *weights = weigh(world, &invariants->arena);
    size_t count = 0;
    for (size_t c = 0; c < world->chambers_max; c++)
        if (commit->owners[c] != ASSIGN_NOBODY)
            list[count++] = (struct assign_chamber){world->names[c], weights[c], invariants->owners[c]};
    struct assign_input input = {.chambers = list,
                                 .chamber_count = count,
                                 .defenders = commit->members,
                                 .defender_count = commit->member_count,
                                 .options = assign_options_default()};
    size_t most = (size_t)(input.options.movement_budget * (double)chambers) + 1;
    const enum assign_mode modes[] = {ASSIGN_NORMAL, ASSIGN_RELEVEL};
    for (int i = 0; i < 2; i++) {
        struct assign_result result;
        struct error err;
        input.mode = modes[i];
        int code = assign_compute(&input, &invariants->arena, &result, &err);
        if (code) {
            printf("sim: assign_compute: %s\n", err.text);
            abort();
        }
        if (result.statistics.moved > most)
            most = result.statistics.moved;
    }
    return most + most / 2; /* the leader leaves out whoever is silent or leaving, and so computes a little
                               differently */
}

/* What a leader has written and not committed is under way: whoever leads after it may finish or undo that.
 */
static void check_movement(struct world *world, const struct commit *commit)
{
    struct invariants *invariants = world->invariants;
    size_t moved = 0, chambers = 0;
    for (size_t c = 0; c < world->chambers_max; c++) {
        int32_t was = invariants->owners[c], is = commit->owners[c];
        bool under_way = invariants->touched[c] && invariants->touched[c] < commit->version;
        chambers += is != ASSIGN_NOBODY;
        if (under_way || was == ASSIGN_NOBODY || is == was || !is_member(commit, was))
            continue;
        moved++;
        world_trace(world, NULL, "%s moves from defender-%d to defender-%d", world->names[c], was, is);
    }
    if (invariants->rolling && invariants->map_version > 0) {
        size_t changed = 0;
        for (size_t c = 0; c < world->chambers_max; c++)
            changed += invariants->owners[c] != ASSIGN_NOBODY && invariants->owners[c] != commit->owners[c];
        CHECK(world, INVARIANT_ROLL, changed == 0 || invariants->roll_disturbed,
              "%zu chambers move during a rolling update", changed);
    }
    if (commit->emergency)
        CHECK(world, INVARIANT_MOVEMENT, moved == 0, "an emergency moves %zu chambers of the living", moved);
    else if (moved > 0)
        CHECK(world, INVARIANT_MOVEMENT, moved <= moves_allowed(world, commit, chambers),
              "%zu of %zu chambers move, %zu may", moved, chambers, moves_allowed(world, commit, chambers));
    else
        invariants->checked[INVARIANT_MOVEMENT]++;
}

static void check_commit(struct world *world, const struct packet *packet)
{
    struct invariants *invariants = world->invariants;
    json_t *json = document(packet);
    uint64_t version = number(json, "version"), token = number(json, "token");
    const char *lifecycle = json_string_value(json_object_get(json, "lifecycle"));
    struct commit commit = {.version = version,
                            .leader = packet->process,
                            .emergency = lifecycle &&
                                         strcmp(lifecycle, cluster_lifecycle_name(LIFECYCLE_EMERGENCY)) == 0};
    bool stamp = version == invariants->map_version && token > invariants->map_token;
    CHECK(world, INVARIANT_COMMIT, version > invariants->map_version || stamp,
          "the map goes from version %llu to %llu", (unsigned long long)invariants->map_version,
          (unsigned long long)version);
    CHECK(world, INVARIANT_COMMIT, token >= invariants->map_token,
          "a deposed leader commits: token %llu after %llu", (unsigned long long)token,
          (unsigned long long)invariants->map_token);
    world_trace(world, NULL, "stored: map, version %llu, token %llu, %s", (unsigned long long)version,
                (unsigned long long)token, lifecycle);
    if (stamp) {
        check_stamp(world, json);
    } else {
        read_members(world, json, &commit);
        check_movement(world, &commit);
        memcpy(invariants->owners, commit.owners, world->chambers_max * sizeof *commit.owners);
        memset(invariants->touched, 0, world->chambers_max * sizeof *invariants->touched);
    }
    invariants->map_version = version;
    invariants->map_token = token;
    arena_reset(&invariants->arena);
    json_decref(json);
}

static void note_claim(struct world *world, const struct packet *packet)
{
    struct invariants *invariants = world->invariants;
    int id = world_defender_number(packet->key);
    bool deleted = packet->write == ACTION_KV_DELETE;
    invariants->claimants[id] = deleted ? NATS_NOBODY : (int32_t)packet->process->index;
    invariants->claimant_lives[id] = packet->process->life;
}

/* A chamber that nobody had described: the leader gives it a weight. */
static void note_weight(struct world *world, const struct packet *packet)
{
    json_t *json = document(packet);
    size_t chamber = world_chamber(world, packet->key);
    world->weights[chamber] = (int64_t)json_number_value(json_object_get(json, "weight"));
    world->observed[chamber] = -1;
    json_decref(json);
}

static void note_lease(struct world *world, const struct packet *packet, uint64_t revision)
{
    struct invariants *invariants = world->invariants;
    if (packet->write == ACTION_KV_DELETE) {
        invariants->lease_holder = NULL;
        return;
    }
    if (!holds_newest_lease(world, packet->process))
        invariants->lease_first = revision;
    invariants->lease_holder = packet->process;
    invariants->lease_life = packet->process->life;
    invariants->lease_newest = revision;
}

void invariants_written(struct world *world, const struct packet *packet, uint64_t revision)
{
    if (packet->bucket == BUCKET_STABLE_IDS)
        note_claim(world, packet);
    else if (packet->bucket == BUCKET_ELECTION)
        note_lease(world, packet, revision);
    else if (packet->bucket == BUCKET_CHAMBERS)
        note_weight(world, packet);
    else if (packet->bucket == BUCKET_ASSIGNMENTS && strncmp(packet->key, "to.", 3) == 0)
        stage(world, packet);
    else if (packet->bucket == BUCKET_ASSIGNMENTS)
        check_commit(world, packet);
}

/* --- rolling updates --- */

void invariants_rolling(struct world *world)
{
    struct invariants *invariants = world->invariants;
    invariants->rolling = true;
    invariants->roll_disturbed = !invariants_settled(world);
    invariants->roll_version = invariants->map_version;
}

void invariants_rolled(struct world *world)
{
    world->invariants->rolling = false;
    world->invariants->checked[INVARIANT_ROLL]++;
}

/* --- looking at everything --- */

/* Starts looking with the chamber that was unserved last: it is the likeliest to be so still. */
static size_t first_unserved(struct world *world)
{
    size_t from = world->invariants->unserved;
    for (size_t i = 0; i < world->chamber_count; i++) {
        size_t c = (from + i) % world->chamber_count;
        if (!world->known[c])
            continue;
        int holder = nats_holder(world->nats, (uint32_t)c);
        bool served = false;
        for (size_t p = 0; holder != NATS_NOBODY && p < world->slots && !served; p++)
            served = world->processes[p].id == holder && carrier_serves(&world->processes[p], (uint32_t)c);
        if (!served)
            return world->invariants->unserved = c;
    }
    return SIZE_MAX;
}

static void check_owned(struct world *world)
{
    size_t unserved = first_unserved(world);
    CHECK(world, INVARIANT_OWNED, unserved == SIZE_MAX,
          "%s is served by nobody (consumer of defender-%d, map says defender-%d)", world->names[unserved],
          nats_holder(world->nats, (uint32_t)unserved), world->invariants->owners[unserved]);
    for (size_t c = 0; unserved == SIZE_MAX && c < world->chamber_count; c++) {
        if (!world->known[c])
            continue;
        int holder = nats_holder(world->nats, (uint32_t)c);
        if (holder != world->invariants->owners[c])
            CHECK(world, INVARIANT_OWNED, false, "%s is served by defender-%d, the map says defender-%d",
                  world->names[c], holder, world->invariants->owners[c]);
    }
}

static void check_delivered(struct world *world)
{
    int64_t published_us = 0;
    uint32_t chamber = 0;
    uint64_t sequence = 0;
    bool waits = nats_oldest(world->nats, &published_us, &chamber, &sequence);
    int64_t since_us =
        published_us > world->invariants->disturbed_us ? published_us : world->invariants->disturbed_us;
    if (world->invariants->settled_us > since_us)
        since_us = world->invariants->settled_us;
    CHECK(world, INVARIANT_DELIVERED,
          !waits || world->now_us - since_us < DELIVERY_BOUND_MS * (int64_t)SIM_MS_US,
          "message %llu of %s, published at %.3f s, has not been acknowledged", (unsigned long long)sequence,
          world->names[chamber], (double)published_us / 1e6);
}

static bool somebody_can_lead(const struct world *world)
{
    for (size_t p = 0; p < world->slots; p++) {
        const struct process *process = &world->processes[p];
        if (process->alive && !process->paused && !process->cut && process->told_connected &&
            process->id != NATS_NOBODY && !process->draining)
            return true;
    }
    return false;
}

static void check_leader(struct world *world)
{
    struct invariants *invariants = world->invariants;
    if (world_leader(world) || !somebody_can_lead(world))
        invariants->led_us = world->now_us;
    int64_t since_us =
        invariants->led_us > invariants->disturbed_us ? invariants->led_us : invariants->disturbed_us;
    if (!world->server_up || world->now_us < world->stalled_until_us ||
        world->now_us < world->lossy_until_us || world->now_us < world->slow_until_us)
        invariants->led_us = world->now_us;
    CHECK(world, INVARIANT_LEADER, world->now_us - since_us < LEADER_BOUND_MS * (int64_t)SIM_MS_US,
          "nobody leads since %.3f s", (double)invariants->led_us / 1e6);
}

static void look(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    struct world *world = context;
    check_leader(world);
    if (!somebody_can_lead(world)) /* all are cut off or paused: the bound begins when one is back */
        invariants_disturbed(world, 20000);
    bool settled = invariants_settled(world);
    if (settled) {
        check_owned(world);
        check_delivered(world);
    }
    world_after(world, (settled ? SETTLED_LOOK_MS : LOOK_MS) * SIM_MS_US, look, NULL, 0);
}

/* --- how long chambers go unserved --- */

static void measure(void *context, void *target, uint64_t serial)
{
    (void)target;
    struct world *world = context;
    struct measurement *measurement = &world->invariants->measurement;
    if (!measurement->running || measurement->serial != serial)
        return;
    if (first_unserved(world) != SIZE_MAX)
        measurement->unserved_us = world->now_us;
    if (invariants_settled(world)) {
        struct recovery *recovery = &world->invariants->recoveries[measurement->kind];
        double took_s = (double)(measurement->unserved_us - measurement->since_us) / 1e6;
        recovery->count++;
        recovery->sum_s += took_s;
        if (took_s > recovery->worst_s)
            recovery->worst_s = took_s;
        measurement->running = false;
        return;
    }
    world_after(world, MEASURE_MS * SIM_MS_US, measure, NULL, serial);
}

void invariants_injected(struct world *world, enum fault_kind kind, bool settled)
{
    struct invariants *invariants = world->invariants;
    struct measurement *measurement = &invariants->measurement;
    if (kind != FAULT_ROLL)
        invariants->roll_disturbed = true;
    measurement->running = settled && world->options.chambers <= 1000;
    measurement->kind = kind;
    measurement->serial++;
    measurement->since_us = measurement->unserved_us = world->now_us;
    if (measurement->running)
        measure(world, NULL, measurement->serial);
}

struct invariants *invariants_open(struct world *world)
{
    struct invariants *invariants = sim_alloc(1, sizeof *invariants);
    world->invariants = invariants;
    invariants->claimants = sim_alloc(CLUSTER_MEMBERS_MAX, sizeof *invariants->claimants);
    invariants->claimant_lives = sim_alloc(CLUSTER_MEMBERS_MAX, sizeof *invariants->claimant_lives);
    invariants->staged = sim_alloc(CLUSTER_MEMBERS_MAX, sizeof *invariants->staged);
    invariants->touched = sim_alloc(world->chambers_max, sizeof *invariants->touched);
    invariants->assigned = sim_alloc(CLUSTER_MEMBERS_MAX, sizeof *invariants->assigned);
    invariants->owners = sim_alloc(world->chambers_max, sizeof *invariants->owners);
    for (size_t i = 0; i < CLUSTER_MEMBERS_MAX; i++)
        invariants->claimants[i] = NATS_NOBODY;
    for (size_t i = 0; i < world->chambers_max; i++)
        invariants->owners[i] = ASSIGN_NOBODY;
    arena_init(&invariants->arena, 0);
    world_after(world, LOOK_MS * SIM_MS_US, look, NULL, 0);
    return invariants;
}

void invariants_close(struct invariants *invariants)
{
    for (size_t i = 0; i < CLUSTER_MEMBERS_MAX; i++)
        free(invariants->staged[i].chambers);
    free(invariants->claimants);
    free(invariants->claimant_lives);
    free(invariants->staged);
    free(invariants->assigned);
    free(invariants->touched);
    free(invariants->owners);
    arena_free(&invariants->arena);
    free(invariants);
}
