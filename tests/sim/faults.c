#include "faults.h"

#include "invariants.h"
#include "memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_FAULT_MS = 70000, /* after the cold start has had its bound */
    CLOSE_MIN_MS = 200,     /* to the next fault, when it is to fall into the last one */
    CLOSE_MAX_MS = 9000,
    CALM_MIN_MS = 25000, /* when it is not */
    CALM_MAX_MS = 110000,
    ROLL_LOOK_MS = 100,
    ROLL_PATIENCE_MS = 60000,
    LIFE_MIN = 2 /* processes are left alone when so few live */
};
/* Bounds from a fault, or its end, to a world in order: REQUIREMENTS R3 and R5. */
enum { BOUND_MS = 15000, BOUND_JOIN_MS = 20000, BOUND_COLD_MS = 45000 };
static const double CLOSE_PROBABILITY = 0.4;

enum roll_step { ROLL_NONE, ROLL_START, ROLL_WAIT_READY, ROLL_WAIT_GONE };

struct faults {
    uint64_t injected[FAULT_COUNT];
    size_t target; /* how many processes there should be */
    int version;
    bool armed; /* the next commit's leader is killed */
    enum roll_step roll;
    struct process *next; /* the standby that has been started */
    uint64_t next_life;
    int64_t roll_since_us;
};

static const char *const NAMES[FAULT_COUNT] = {
    "crash",       "crash-many",   "leader-crash", "leader-in-rebalance",
    "pause",       "leader-pause", "partition",    "leader-partition",
    "machine",     "reset",        "server",       "stall",
    "slow-writes", "lost-writes",  "slow-link",    "clock",
    "restart-all", "scale-up",     "scale-down",   "roll",
    "roster",      "orphan",       "weights"};

/* How often each, beside the others. */
static const int WEIGHTS[FAULT_COUNT] = {10, 4, 6, 5, 7, 4, 7, 4, 4, 4, 3, 5,
                                         4,  5, 4, 4, 1, 5, 5, 2, 3, 3, 2};

const char *fault_name(enum fault_kind kind)
{
    return NAMES[kind];
}

enum fault_kind fault_parse(const char *name, size_t length)
{
    for (int i = 0; i < FAULT_COUNT; i++)
        if (strlen(NAMES[i]) == length && strncmp(NAMES[i], name, length) == 0)
            return (enum fault_kind)i;
    return FAULT_COUNT;
}

uint64_t faults_injected(const struct faults *faults, enum fault_kind kind)
{
    return faults->injected[kind];
}

/* --- processes that come and go --- */

static size_t alive(const struct world *world)
{
    size_t count = 0;
    for (size_t i = 0; i < world->slots; i++)
        count += world->processes[i].alive && !world->processes[i].stopping;
    return count;
}

static void start(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    struct world *world = context;
    if (alive(world) >= world->faults->target)
        return; /* scaled down meanwhile */
    invariants_disturbed(world, BOUND_JOIN_MS);
    if (process_start(world, world->faults->version) ==
        NULL) /* the server still believes in too many dead ones */
        world_after(world, SIM_SECOND_US, start, NULL, 0);
}

static void start_later(struct world *world)
{
    struct sim_random *random = &world->random;
    int64_t wait_ms = sim_random_chance(random, 0.7) ? sim_random_between(random, 200, 2000)
                                                     : sim_random_between(random, 5000, 30000);
    world_after(world, wait_ms * SIM_MS_US, start, NULL, 0);
}

static bool any(const struct process *process)
{
    return process->alive && !process->stopping && !process->draining;
}

static bool healthy(const struct process *process)
{
    return any(process) && !process->paused && !process->cut && process->connected;
}

static void kill_one(struct world *world, struct process *process, bool host_too)
{
    process_kill(process, host_too);
    start_later(world);
}

static bool few_left(const struct world *world)
{
    return alive(world) <= LIFE_MIN;
}

/* --- the faults. Each returns false when it does not fit now. --- */

static bool crash(struct world *world, struct process *process, bool host_too)
{
    if (process == NULL || few_left(world))
        return false;
    process_disturbed(process);
    kill_one(world, process, host_too);
    invariants_disturbed(world, BOUND_MS);
    return true;
}

static bool crash_many(struct world *world)
{
    size_t living = alive(world);
    if (living <= LIFE_MIN + 1)
        return false;
    size_t count = 2 + sim_random_below(&world->random, living - LIFE_MIN);
    if (count > living - LIFE_MIN)
        count = living - LIFE_MIN;
    for (size_t i = 0; i < count; i++) {
        struct process *process = world_choose(world, any);
        if (process)
            kill_one(world, process, false);
    }
    invariants_disturbed(world, alive(world) < 5 ? BOUND_COLD_MS : BOUND_MS);
    return true;
}

static void wake(void *context, void *target, uint64_t life)
{
    struct process *process = target;
    if (process->life != life || !process->alive)
        return;
    process_wake(process);
    invariants_disturbed(context, BOUND_JOIN_MS);
}

static bool pause_one(struct world *world, struct process *process)
{
    if (process == NULL)
        return false;
    process_pause(process);
    invariants_disturbed(world, BOUND_MS);
    world_after(world, sim_random_between(&world->random, 300, 30000) * SIM_MS_US, wake, process,
                process->life);
    return true;
}

static void heal(void *context, void *target, uint64_t life)
{
    struct world *world = context;
    struct process *process = target;
    if (process->life != life || !process->alive || !process->cut)
        return;
    world_trace(world, process, "its link is back");
    network_heal(process);
    process_disturbed(process);
    invariants_disturbed(world, BOUND_JOIN_MS);
}

static bool cut_one(struct world *world, struct process *process)
{
    if (process == NULL)
        return false;
    world_trace(world, process, "cut off");
    process_disturbed(process);
    network_cut(process);
    invariants_disturbed(world, BOUND_MS);
    world_after(world, sim_random_between(&world->random, 300, 30000) * SIM_MS_US, heal, process,
                process->life);
    return true;
}

static bool reset_one(struct world *world)
{
    struct process *process = world_choose(world, healthy);
    if (process == NULL)
        return false;
    world_trace(world, process, "its connection ends");
    process_disturbed(process);
    network_reset(process);
    invariants_disturbed(world, BOUND_MS);
    return true;
}

static void server_back(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    world_trace(context, NULL, "NATS is back");
    network_server_up(context);
    invariants_disturbed(context, BOUND_JOIN_MS);
}

static bool server_away(struct world *world)
{
    if (!world->server_up)
        return false;
    world_trace(world, NULL, "NATS goes away");
    network_server_down(world);
    int64_t away_ms = sim_random_between(&world->random, 200, 25000);
    invariants_disturbed(world, away_ms + BOUND_JOIN_MS);
    world_after(world, away_ms * SIM_MS_US, server_back, NULL, 0);
    return true;
}

static bool stall(struct world *world)
{
    int64_t stalls_ms = sim_random_between(&world->random, 4000, 9000);
    world_trace(world, NULL, "JetStream stalls for %lld ms", (long long)stalls_ms);
    network_stall(world, world->now_us + stalls_ms * SIM_MS_US);
    invariants_disturbed(world, stalls_ms + BOUND_JOIN_MS);
    return true;
}

static bool bad_writes(struct world *world, int64_t *until_us, const char *what)
{
    int64_t lasts_ms = sim_random_between(&world->random, 2000, 20000);
    world_trace(world, NULL, "%s for %lld ms", what, (long long)lasts_ms);
    *until_us = world->now_us + lasts_ms * SIM_MS_US;
    invariants_disturbed(world, lasts_ms + BOUND_JOIN_MS);
    return true;
}

static bool slow_link(struct world *world)
{
    struct process *process = world_choose(world, healthy);
    if (process == NULL)
        return false;
    int64_t lasts_ms = sim_random_between(&world->random, 2000, 15000);
    process->slow_us = sim_random_between(&world->random, 20, 400) * SIM_MS_US;
    process->slow_until_us = world->now_us + lasts_ms * SIM_MS_US;
    world_trace(world, process, "its link delays by %lld ms for %lld ms",
                (long long)(process->slow_us / SIM_MS_US), (long long)lasts_ms);
    invariants_disturbed(world, lasts_ms + BOUND_MS);
    return true;
}

static bool clock_jumps(struct world *world)
{
    struct process *process = world_choose(world, healthy);
    if (process == NULL)
        return false;
    int64_t by_ms = sim_random_chance(&world->random, 0.3)
                        ? sim_random_between(&world->random, 10000, 3600000)
                        : sim_random_between(&world->random, 100, 10000);
    world_trace(world, process, "its clock jumps by %lld ms", (long long)by_ms);
    process_jump_clock(process, by_ms * SIM_MS_US);
    invariants_disturbed(world, BOUND_JOIN_MS);
    return true;
}

static bool restart_all(struct world *world)
{
    world_trace(world, NULL, "everything is restarted");
    for (size_t i = 0; i < world->slots; i++)
        if (world->processes[i].alive) {
            process_kill(&world->processes[i], false);
            world_after(world, sim_random_between(&world->random, 500, 4000) * SIM_MS_US, start, NULL, 0);
        }
    invariants_disturbed(world, 4000 + BOUND_COLD_MS);
    return true;
}

static bool scale_up(struct world *world)
{
    struct faults *faults = world->faults;
    size_t most = world->options.defenders + world->options.defenders / 2;
    if (faults->target >= most)
        return false;
    size_t more = 1 + sim_random_below(&world->random, most - faults->target);
    faults->target += more;
    for (size_t i = 0; i < more; i++)
        world_after(world, sim_random_between(&world->random, 0, 1500) * SIM_MS_US, start, NULL, 0);
    invariants_disturbed(world, BOUND_JOIN_MS);
    return true;
}

static bool scale_down(struct world *world)
{
    struct faults *faults = world->faults;
    size_t least = world->options.defenders / 2 > LIFE_MIN ? world->options.defenders / 2 : LIFE_MIN;
    if (faults->target <= least)
        return false;
    size_t fewer = 1 + sim_random_below(&world->random, faults->target - least);
    faults->target -= fewer;
    while (fewer-- > 0) {
        struct process *process = world_choose(world, healthy);
        if (process && alive(world) > LIFE_MIN)
            process_stop(process);
    }
    invariants_disturbed(world, BOUND_JOIN_MS);
    return true;
}

static void disarm(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    ((struct world *)context)->faults->armed = false;
}

static bool arm(struct world *world)
{
    struct faults *faults = world->faults;
    if (faults->armed || few_left(world))
        return false;
    faults->armed = true;
    world_after(world, 30 * SIM_SECOND_US, disarm, NULL, 0);
    if (!scale_up(world) && !scale_down(world)) /* what makes it commit */
        crash(world, world_choose(world, any), false);
    return true;
}

static void strike(void *context, void *target, uint64_t life)
{
    struct process *process = target;
    if (process->alive && process->life == life && !few_left(context)) {
        kill_one(context, process, false);
        invariants_disturbed(context, BOUND_JOIN_MS);
    }
}

void faults_on_commit_write(struct world *world, struct process *leader)
{
    struct faults *faults = world->faults;
    if (faults == NULL || !faults->armed)
        return;
    faults->armed = false;
    world_trace(world, leader, "will be killed while it commits");
    world_after(world, sim_random_between(&world->random, 1, 3000), strike, leader, leader->life);
}

static bool roster_grows(struct world *world)
{
    if (world->chamber_count == world->chambers_max)
        return false;
    size_t more = 1 + sim_random_below(&world->random, 1 + world->options.chambers / 10);
    world_trace(world, NULL, "the roster grows by up to %zu", more);
    while (more-- > 0 && world->chamber_count < world->chambers_max)
        world_register(world, (uint32_t)world->chamber_count++);
    invariants_disturbed(world, BOUND_MS);
    return true;
}

static bool orphan(struct world *world)
{
    if (world->chamber_count == world->chambers_max)
        return false;
    world_trace(world, NULL, "a context of %s, which nobody knows", world->names[world->chamber_count]);
    network_publish(world, (uint32_t)world->chamber_count++);
    invariants_disturbed(world, BOUND_MS);
    return true;
}

static bool weights_change(struct world *world)
{
    world_trace(world, NULL, "weights change");
    size_t count = 1 + sim_random_below(&world->random, world->chamber_count);
    bool observed = sim_random_chance(&world->random, 0.5);
    for (size_t i = 0; i < count; i++) {
        uint32_t chamber = (uint32_t)sim_random_below(&world->random, world->chamber_count);
        if (observed)
            world->observed[chamber] = sim_random_between(&world->random, 0, 120000);
        else
            world->weights[chamber] = sim_random_between(&world->random, 100, 12000);
        world_register(world, chamber);
    }
    invariants_disturbed(world, BOUND_JOIN_MS);
    return true;
}

/* --- a rolling update: a standby of the next version, then one of the old is told to stop, and so on --- */

static bool is_old(const struct process *process)
{
    return any(process) && process->version != process->world->faults->version;
}

static bool is_old_and_idle(const struct process *process)
{
    return is_old(process) && process->id == NATS_NOBODY;
}

static void roll(void *context, void *target, uint64_t argument);

static void roll_next(struct world *world)
{
    struct faults *faults = world->faults;
    if (world_choose(world, is_old) == NULL) {
        world_trace(world, NULL, "all are rolled");
        faults->roll = ROLL_NONE;
        invariants_rolled(world);
        invariants_disturbed(world, BOUND_JOIN_MS);
        return;
    }
    struct process *idle = world_choose(world, is_old_and_idle);
    if (idle) { /* it lost its ID on the way: nobody has to succeed it */
        if (!idle->paused)
            process_stop(idle);
        faults->next = NULL;
        faults->roll = ROLL_START;
        return;
    }
    faults->next = process_start(world, faults->version);
    faults->next_life = faults->next ? faults->next->life : 0;
    faults->roll = faults->next ? ROLL_WAIT_READY : ROLL_START;
    faults->roll_since_us = world->now_us;
}

static void roll_look(struct world *world)
{
    struct faults *faults = world->faults;
    struct process *next = faults->next;
    bool lives = next && next->alive && next->life == faults->next_life;
    bool late = world->now_us - faults->roll_since_us > ROLL_PATIENCE_MS * (int64_t)SIM_MS_US;
    if (faults->roll == ROLL_START || !lives || late) {
        roll_next(world);
    } else if (faults->roll == ROLL_WAIT_READY && process_status(next).state == CLUSTER_STANDBY) {
        struct process *old = world_choose(world, is_old);
        if (old && !old->paused)
            process_stop(old);
        faults->roll = ROLL_WAIT_GONE;
    } else if (next->id != NATS_NOBODY && process_status(next).state != CLUSTER_CLAIMING) {
        roll_next(world);
    }
}

static void roll(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    struct world *world = context;
    if (world->faults->roll == ROLL_NONE)
        return;
    invariants_disturbed(world, BOUND_JOIN_MS);
    roll_look(world);
    world_after(world, ROLL_LOOK_MS * SIM_MS_US, roll, NULL, 0);
}

static bool begin_roll(struct world *world)
{
    struct faults *faults = world->faults;
    if (faults->roll != ROLL_NONE)
        return false;
    faults->version++;
    world_trace(world, NULL, "a rolling update to version 1.%d", faults->version);
    invariants_rolling(world);
    faults->roll = ROLL_START;
    world_after(world, ROLL_LOOK_MS * SIM_MS_US, roll, NULL, 0);
    return true;
}

/* --- choosing --- */

static bool inject(struct world *world, enum fault_kind kind)
{
    struct sim_random *random = &world->random;
    switch (kind) {
    case FAULT_CRASH:
        return crash(world, world_choose(world, any), false);
    case FAULT_CRASH_MANY:
        return crash_many(world);
    case FAULT_LEADER_CRASH:
        return crash(world, world_leader(world), false);
    case FAULT_LEADER_IN_REBALANCE:
        return arm(world);
    case FAULT_PAUSE:
        return pause_one(world, world_choose(world, healthy));
    case FAULT_LEADER_PAUSE:
        return pause_one(world, world_leader(world));
    case FAULT_PARTITION:
        return cut_one(world, world_choose(world, healthy));
    case FAULT_LEADER_PARTITION:
        return cut_one(world, world_leader(world));
    case FAULT_MACHINE:
        return crash(world, sim_random_chance(random, 0.3) ? world_leader(world) : world_choose(world, any),
                     true);
    case FAULT_RESET:
        return reset_one(world);
    case FAULT_SERVER:
        return server_away(world);
    case FAULT_STALL:
        return stall(world);
    case FAULT_SLOW_WRITES:
        return bad_writes(world, &world->slow_until_us, "JetStream is slow");
    case FAULT_LOST_WRITES:
        return bad_writes(world, &world->lossy_until_us, "writes and their answers get lost");
    case FAULT_SLOW_LINK:
        return slow_link(world);
    case FAULT_CLOCK:
        return clock_jumps(world);
    case FAULT_RESTART_ALL:
        return restart_all(world);
    case FAULT_SCALE_UP:
        return scale_up(world);
    case FAULT_SCALE_DOWN:
        return scale_down(world);
    case FAULT_ROLL:
        return begin_roll(world);
    case FAULT_ROSTER:
        return roster_grows(world);
    case FAULT_ORPHAN:
        return orphan(world);
    case FAULT_WEIGHTS:
        return weights_change(world);
    case FAULT_COUNT:
        break;
    }
    return false;
}

static enum fault_kind choose_kind(struct world *world)
{
    int total = 0;
    for (int i = 0; i < FAULT_COUNT; i++)
        total += world->options.faults >> i & 1 ? WEIGHTS[i] : 0;
    int at = total ? (int)sim_random_below(&world->random, (size_t)total) : 0;
    for (int i = 0; total > 0 && i < FAULT_COUNT; i++) {
        at -= world->options.faults >> i & 1 ? WEIGHTS[i] : 0;
        if (at < 0)
            return (enum fault_kind)i;
    }
    return FAULT_COUNT;
}

static void next_fault(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    struct world *world = context;
    struct faults *faults = world->faults;
    /* An update is mostly left in peace, so that what it must not do can be told; else it is one more thing
     * to go wrong. */
    bool in_peace = faults->roll != ROLL_NONE && sim_random_chance(&world->random, 0.9);
    enum fault_kind kind = choose_kind(world);
    if (!in_peace && kind != FAULT_COUNT) {
        bool settled = invariants_settled(world);
        if (inject(world, kind)) {
            faults->injected[kind]++;
            invariants_injected(world, kind, settled);
        }
    }
    struct sim_random *random = &world->random;
    int64_t wait_ms = sim_random_chance(random, CLOSE_PROBABILITY)
                          ? sim_random_between(random, CLOSE_MIN_MS, CLOSE_MAX_MS)
                          : sim_random_between(random, CALM_MIN_MS, CALM_MAX_MS);
    world_after(world, wait_ms * SIM_MS_US, next_fault, NULL, 0);
}

struct faults *faults_open(struct world *world)
{
    struct faults *faults = sim_alloc(1, sizeof *faults);
    world->faults = faults;
    faults->target = world->options.defenders;
    for (size_t i = 0; i < faults->target; i++)
        world_after(world, sim_random_between(&world->random, 0, 2000) * SIM_MS_US, start, NULL, 0);
    invariants_disturbed(world, 2000 + BOUND_COLD_MS);
    world_after(world, FIRST_FAULT_MS * (int64_t)SIM_MS_US, next_fault, NULL, 0);
    return faults;
}

void faults_close(struct faults *faults)
{
    free(faults);
}
