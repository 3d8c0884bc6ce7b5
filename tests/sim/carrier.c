/* The client side of a defender's consumer and the judging of its messages, as the defender's shell does it:
 *
 *   shrink at once -> warm the cache -> grow (again every 50 ms while another holds a subject) -> reset -> in
 * force
 *
 * An ID's first filters, and the first after the consumer was lost, are set by delete and create: nothing is
 * known of what the server has. After a lost connection nothing is pulled until the cluster, sure of its ID
 * again, sets the filters once more. */
#include "invariants.h"
#include "memory.h"
#include "world.h"

#include "base/error.h"
#include "cluster/plant.h"

#include <stdlib.h>
#include <string.h>

enum {
    REQUEST_TIMEOUT_MS = 5000,
    RESET_TIMEOUT_MS = 2000,
    GROW_RETRY_MS = 50,
    RETRY_MS = 250,
    WARM_MIN_MS = 20,
    WARM_MAX_MS = 600,
    JUDGE_MIN_MS = 3,
    JUDGE_USUAL_MS = 60,
    JUDGE_LONG_MS = 3000 /* one in fifty */
};

/* --- sets of chambers --- */

static int compare_chambers(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void set_clear(struct chamber_set *set)
{
    free(set->items);
    *set = (struct chamber_set){0};
}

static bool set_has(const struct chamber_set *set, uint32_t chamber)
{
    return set->count && bsearch(&chamber, set->items, set->count, sizeof chamber, compare_chambers);
}

static struct chamber_set set_copy(const struct chamber_set *set)
{
    struct chamber_set copy = {sim_alloc(set->count, sizeof *copy.items), set->count};
    if (set->count)
        memcpy(copy.items, set->items, set->count * sizeof *copy.items);
    return copy;
}

static struct chamber_set set_common(const struct chamber_set *a, const struct chamber_set *b)
{
    struct chamber_set common = {sim_alloc(a->count, sizeof *common.items), 0};
    for (size_t i = 0; i < a->count; i++)
        if (set_has(b, a->items[i]))
            common.items[common.count++] = a->items[i];
    return common;
}

static bool set_equal(const struct chamber_set *a, const struct chamber_set *b)
{
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->items, b->items, a->count * sizeof *a->items) == 0);
}

/* --- changing the consumer --- */

static const char *const STEP_NAMES[] = {
    [STEP_IDLE] = "idle", [STEP_DELETE] = "delete", [STEP_SHRINK] = "shrink",
    [STEP_WARM] = "warm", [STEP_GROW] = "grow",     [STEP_RESET] = "reset"};

static void advance(struct process *process);

static void retry(void *context, void *target, uint64_t change)
{
    struct process *process = target;
    if (!process->alive || process->carrier.change != change)
        return;
    if (process->paused)
        world_after(context, GROW_RETRY_MS * SIM_MS_US, retry, target, change);
    else
        advance(process);
}

static void retry_later(struct process *process, int64_t wait_ms)
{
    world_after(process->world, wait_ms * SIM_MS_US, retry, process, process->carrier.change);
}

static void send_step(struct process *process, enum packet_kind kind, const struct chamber_set *filters,
                      bool create)
{
    struct carrier *carrier = &process->carrier;
    if (!process->connected) {
        carrier->step = STEP_IDLE;
        carrier->resume = true;
        return;
    }
    struct packet *packet = packet_new(process, kind);
    packet->request = process_request(process, REQUEST_CONSUMER, 0,
                                      kind == PACKET_CONSUMER_RESET ? RESET_TIMEOUT_MS : REQUEST_TIMEOUT_MS);
    packet->consumer = carrier->consumer;
    packet->create = create;
    if (filters) {
        struct chamber_set copy = set_copy(filters);
        packet->chambers = copy.items;
        packet->count = copy.count;
    }
    carrier->changing = true;
    if (!carrier->refused)
        world_trace(process->world, process, "consumer of defender-%d: %s, %zu filters", carrier->consumer,
                    STEP_NAMES[carrier->step], packet->count);
    network_send(process, packet);
}

static void advance(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    switch (carrier->step) {
    case STEP_DELETE:
        carrier->ready = false;
        carrier->credit = 0;
        send_step(process, PACKET_CONSUMER_DELETE, NULL, false);
        break;
    case STEP_SHRINK: {
        struct chamber_set kept = set_common(&carrier->held, &carrier->wanted);
        send_step(process, PACKET_CONSUMER_SET, &kept, false);
        set_clear(&kept);
        break;
    }
    case STEP_WARM:
        carrier->step = STEP_GROW;
        carrier->warmed = true;
        retry_later(process, sim_random_between(&process->world->random, WARM_MIN_MS, WARM_MAX_MS));
        break;
    case STEP_GROW:
        carrier->behind = !PLANTED(PLANT_NO_RESET);
        send_step(process, PACKET_CONSUMER_SET, &carrier->wanted, carrier->held.count == 0);
        break;
    case STEP_RESET:
        send_step(process, PACKET_CONSUMER_RESET, NULL, false);
        break;
    case STEP_IDLE:
        break;
    }
}

static void plan(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    struct chamber_set kept = set_common(&carrier->held, &carrier->wanted);
    carrier->again = false;
    carrier->warmed = false;
    if (carrier->fresh || (kept.count == 0 && !(PLANTED(PLANT_EMPTY_FILTERS) && carrier->held.count > 0)))
        carrier->step = STEP_DELETE;
    else if (PLANTED(PLANT_GROW_FIRST) && carrier->wanted.count > kept.count)
        carrier->step = STEP_GROW; /* lets go of nothing before all that is new has been got */
    else
        carrier->step = STEP_SHRINK; /* when nothing changes, too: it proves that the consumer is there */
    set_clear(&kept);
    advance(process);
}

static void in_force(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    carrier->step = STEP_IDLE;
    carrier->ready = carrier->held.count > 0;
    world_trace(process->world, process, "consumer of defender-%d: in force", carrier->consumer);
    process_step(process,
                 &(struct cluster_event){.kind = EVENT_FILTERS_IN_FORCE, .version = carrier->version});
}

static void next_step(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    if (!set_equal(&carrier->held, &carrier->wanted))
        carrier->step = carrier->warmed ? STEP_GROW : STEP_WARM;
    else if (carrier->behind)
        carrier->step = STEP_RESET;
    else {
        in_force(process);
        return;
    }
    advance(process);
}

static void hold_now(struct carrier *carrier, const struct chamber_set *set)
{
    struct chamber_set copy = set_copy(set);
    set_clear(&carrier->held);
    carrier->held = copy;
}

void carrier_answered(struct process *process, int code)
{
    struct carrier *carrier = &process->carrier;
    carrier->changing = false;
    if (code && !(carrier->refused && code == ERR_CONFLICT))
        world_trace(process->world, process, "consumer of defender-%d: %s: %s", carrier->consumer,
                    STEP_NAMES[carrier->step], error_name(code));
    carrier->refused = code == ERR_CONFLICT;
    bool transient = code == ERR_TIMEOUT || code == ERR_UNAVAILABLE;
    bool created = carrier->step == STEP_GROW && carrier->held.count == 0;
    if (carrier->step == STEP_DELETE && (code == 0 || code == ERR_NOT_FOUND)) {
        set_clear(&carrier->held);
        carrier->fresh = false;
        carrier->behind = false;
    } else if (carrier->step == STEP_SHRINK && code == 0) {
        struct chamber_set kept = set_common(&carrier->held, &carrier->wanted);
        hold_now(carrier, &kept);
        set_clear(&kept);
    } else if (carrier->step == STEP_GROW && code == 0) {
        hold_now(carrier, &carrier->wanted);
        carrier->behind &= !created; /* a new one starts at the stream's beginning */
    } else if (carrier->step == STEP_GROW && transient) {
        carrier->fresh |= created;
    }
    if (carrier->again) {
        plan(process);
    } else if (carrier->step == STEP_IDLE) {
        return;
    } else if (transient) {
        retry_later(process, RETRY_MS);
    } else if (code == ERR_CONFLICT) {
        retry_later(process, GROW_RETRY_MS);
    } else if (code == ERR_NOT_FOUND && carrier->step != STEP_DELETE) {
        carrier_lost(process, carrier->consumer);
    } else if (carrier->step == STEP_RESET) {
        carrier->behind = false;
        next_step(process);
    } else {
        next_step(process);
    }
}

static void forget_foreign(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    size_t kept = 0;
    if (PLANTED(PLANT_KEEP_JUDGING))
        return;
    for (size_t i = 0; i < process->job_count; i++) {
        struct job *job = &process->jobs[i];
        bool ours = job->consumer == carrier->consumer && set_has(&carrier->wanted, job->chamber) &&
                    !process->draining;
        job->orphaned = job->running && !ours;
        if (ours || job->running)
            process->jobs[kept++] = *job;
    }
    process->job_count = kept;
}

void carrier_set_filters(struct process *process, const struct cluster_action *action)
{
    struct carrier *carrier = &process->carrier;
    struct world *world = process->world;
    int consumer = world_defender_number(action->id);
    if (consumer != carrier->consumer) {
        carrier->consumer = consumer;
        carrier->fresh = true;
        carrier->ready = false;
        carrier->credit = 0;
        set_clear(&carrier->held);
    }
    set_clear(&carrier->wanted);
    carrier->wanted.items = sim_alloc(action->chamber_count, sizeof *carrier->wanted.items);
    for (size_t i = 0; i < action->chamber_count; i++)
        carrier->wanted.items[carrier->wanted.count++] = (uint32_t)world_chamber(world, action->chambers[i]);
    if (carrier->wanted.count)
        qsort(carrier->wanted.items, carrier->wanted.count, sizeof *carrier->wanted.items, compare_chambers);
    carrier->version = action->version;
    carrier->detached = false;
    carrier->change++;
    forget_foreign(process);
    carrier->resume = !process->told_connected;
    if (carrier->resume)
        return;
    if (carrier->changing)
        carrier->again = true;
    else
        plan(process);
}

/* Starts nothing more, and forgets what has not begun: the stream still has it. */
void carrier_drain(struct process *process)
{
    process->draining = true;
    forget_foreign(process);
}

/* Lets everything be as it is: the next holder of the ID goes on with it. */
void carrier_keep(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    carrier->detached = true;
    carrier->ready = false;
    carrier->again = false;
    carrier->step = STEP_IDLE;
    carrier->change++;
    carrier->resume = false;
    carrier->consumer = NATS_NOBODY; /* whatever comes next begins afresh */
    set_clear(&carrier->wanted);
    forget_foreign(process);
}

/* Its consumer is gone, by another's hand. */
void carrier_lost(struct process *process, int consumer)
{
    struct carrier *carrier = &process->carrier;
    /* The answer to a pull of before a delete of our own, or under an ID of before, is no news. */
    if (consumer != carrier->consumer || carrier->step == STEP_DELETE || carrier->fresh ||
        carrier->detached || (carrier->step == STEP_GROW && carrier->held.count == 0) ||
        (carrier->step == STEP_WARM && carrier->held.count == 0))
        return;
    world_trace(process->world, process, "consumer of defender-%d: is gone", carrier->consumer);
    carrier->fresh = true;
    carrier->ready = false;
    carrier->credit = 0;
    carrier->step = STEP_IDLE;
    carrier->change++;
    set_clear(&carrier->held);
    set_clear(&carrier->wanted);
    forget_foreign(process);
    process_step(process, &(struct cluster_event){.kind = EVENT_CONSUMER_LOST});
}

void carrier_disconnected(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    carrier->ready = false;
    carrier->credit = 0;
    carrier->behind = true; /* what was on its way here would otherwise come after the ack wait only */
    carrier->step = STEP_IDLE;
    carrier->resume = true;
    carrier->change++;
}

/* The connection is back: goes on as soon as the ID is certainly still ours, and not before. */
static void resume(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    if (!carrier->resume || !process->told_connected || carrier->changing ||
        carrier->consumer == NATS_NOBODY || carrier->consumer != process->id ||
        !process_status(process).certain)
        return;
    carrier->resume = false;
    carrier->change++;
    plan(process);
}

/* --- judging --- */

static void judged(void *world, void *target, uint64_t sequence);

static bool chamber_runs(const struct process *process, uint32_t chamber)
{
    for (size_t i = 0; i < process->job_count; i++)
        if (process->jobs[i].running && process->jobs[i].chamber == chamber)
            return true;
    return false;
}

static size_t running(const struct process *process)
{
    size_t count = 0;
    for (size_t i = 0; i < process->job_count; i++)
        count += process->jobs[i].running;
    return count;
}

static void start_jobs(struct process *process)
{
    struct world *world = process->world;
    for (size_t i = 0; i < process->job_count && running(process) < SIM_IN_FLIGHT_MAX; i++) {
        struct job *job = &process->jobs[i];
        if (job->running || chamber_runs(process, job->chamber) || process->draining ||
            (!PLANTED(PLANT_KEEP_JUDGING) && !cluster_owns(process->cluster, world->names[job->chamber])))
            continue;
        job->running = true;
        invariants_judging(world, process, job);
        int64_t takes_ms = sim_random_chance(&world->random, 0.02)
                               ? sim_random_between(&world->random, JUDGE_USUAL_MS, JUDGE_LONG_MS)
                               : sim_random_between(&world->random, JUDGE_MIN_MS, JUDGE_USUAL_MS);
        world_after(world, takes_ms * SIM_MS_US, judged, process,
                    job->sequence * 4096 + process->life % 4096);
    }
}

static void judged(void *context, void *target, uint64_t argument)
{
    struct process *process = target;
    if (!process->alive || process->life % 4096 != argument % 4096)
        return;
    if (process->paused) {
        world_after(context, GROW_RETRY_MS * SIM_MS_US, judged, target, argument);
        return;
    }
    for (size_t i = 0; i < process->job_count; i++) {
        struct job job = process->jobs[i];
        if (job.sequence != argument / 4096 || !job.running)
            continue;
        struct packet *ack = packet_new(process, PACKET_ACK);
        ack->consumer = job.consumer;
        ack->sequence = job.sequence;
        network_send(process, ack);
        memmove(&process->jobs[i], &process->jobs[i + 1],
                (process->job_count - i - 1) * sizeof *process->jobs);
        process->job_count--;
        invariants_judged(process->world, process, &job);
        process_step(process, &(struct cluster_event){.kind = EVENT_TICK});
        return;
    }
}

void carrier_message(struct process *process, const struct packet *packet)
{
    struct carrier *carrier = &process->carrier;
    if (carrier->credit > 0)
        carrier->credit--;
    bool known = false;
    for (size_t i = 0; i < process->job_count; i++)
        known |= process->jobs[i].sequence == packet->sequence;
    if (!known && !process->draining && packet->consumer == carrier->consumer &&
        set_has(&carrier->wanted, packet->chamber)) {
        if (process->job_count == process->job_capacity)
            process->jobs = sim_grow(process->jobs, &process->job_capacity, sizeof *process->jobs);
        size_t at = process->job_count++;
        while (at > 0 && process->jobs[at - 1].sequence > packet->sequence) {
            process->jobs[at] = process->jobs[at - 1];
            at--;
        }
        process->jobs[at] = (struct job){
            .sequence = packet->sequence, .chamber = packet->chamber, .consumer = packet->consumer};
    }
    if (packet->deliveries > 1 || known || !set_has(&carrier->wanted, packet->chamber))
        world_trace(process->world, process, "context %llu of %s, delivery %llu: %s",
                    (unsigned long long)packet->sequence, process->world->names[packet->chamber],
                    (unsigned long long)packet->deliveries,
                    known                                        ? "in hand"
                    : set_has(&carrier->wanted, packet->chamber) ? "taken"
                                                                 : "not ours");
    carrier_look(process);
}

void carrier_look(struct process *process)
{
    struct carrier *carrier = &process->carrier;
    resume(process);
    start_jobs(process);
    if (!carrier->ready || carrier->detached || process->draining || !process->connected)
        return;
    size_t in_hand = process->job_count + carrier->credit;
    if (in_hand + SIM_WANTED_MAX / 2 > SIM_WANTED_MAX)
        return;
    struct packet *pull = packet_new(process, PACKET_PULL);
    pull->consumer = carrier->consumer;
    pull->count = SIM_WANTED_MAX - in_hand;
    carrier->credit += pull->count;
    network_send(process, pull);
}

void carrier_extend(struct process *process)
{
    for (size_t i = 0; i < process->job_count; i++) {
        struct packet *packet = packet_new(process, PACKET_EXTEND);
        packet->consumer = process->jobs[i].consumer;
        packet->sequence = process->jobs[i].sequence;
        network_send(process, packet);
    }
}

void carrier_free(struct process *process)
{
    set_clear(&process->carrier.wanted);
    set_clear(&process->carrier.held);
}

bool carrier_serves(const struct process *process, uint32_t chamber)
{
    const struct carrier *carrier = &process->carrier;
    return process->alive && !process->paused && !process->cut && process->connected && carrier->ready &&
           !carrier->detached && !process->draining && set_has(&carrier->held, chamber);
}
