/* One process: its clock, its cluster machine, and the carrying out of what that asks for. */
#include "invariants.h"
#include "memory.h"
#include "world.h"

#include "base/error.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REQUEST_TIMEOUT_MS = 5000,
    PROBE_TIMEOUT_MS = 500,
    EXTEND_EVERY_MS = 10000,
    TICK_FAR_MS = 60000,
    CLOCK_OFFSET_MAX_S = 1000000,
    START_MAX_MS = 300
};
static const double CLOCK_DRIFT_MAX = 5e-4; /* far beyond what a quartz does */

/* --- the clock --- */

int64_t process_now_ms(const struct process *process)
{
    int64_t age_us = process->world->now_us - process->born_us;
    return (process->offset_us + process->jump_us + (int64_t)((double)age_us * process->rate)) / 1000;
}

static void tick(void *world, void *target, uint64_t life);

static void schedule_tick(struct process *process)
{
    struct world *world = process->world;
    int64_t wait_ms = cluster_next_tick_ms(process->cluster) - process_now_ms(process);
    if (wait_ms > TICK_FAR_MS)
        wait_ms = TICK_FAR_MS;
    if (wait_ms < 1)
        wait_ms = 1;
    int64_t at_us = world->now_us + (int64_t)((double)wait_ms * 1000.0 / process->rate) + 1;
    if (process->tick_due_us > world->now_us && process->tick_due_us <= at_us)
        return; /* one that comes earlier looks again */
    process->tick_due_us = at_us;
    sim_queue_add(&world->queue, at_us, tick, process, process->life);
}

static void tick(void *context, void *target, uint64_t life)
{
    struct world *world = context;
    struct process *process = target;
    if (!process->alive || process->life != life || process->paused || process->tick_due_us > world->now_us)
        return;
    process->tick_due_us = 0;
    if (cluster_next_tick_ms(process->cluster) > process_now_ms(process))
        schedule_tick(process);
    else
        process_step(process, &(struct cluster_event){.kind = EVENT_TICK});
}

void process_jump_clock(struct process *process, int64_t by_us)
{
    process->jump_us += by_us;
    process->tick_due_us = 0;
    schedule_tick(process);
}

/* --- requests --- */

static void time_out(void *world, void *target, uint64_t request);

uint64_t process_request(struct process *process, enum request_kind kind, uint64_t token, int64_t timeout_ms)
{
    if (process->request_count == process->request_capacity)
        process->requests =
            sim_grow(process->requests, &process->request_capacity, sizeof *process->requests);
    uint64_t id = ++process->next_request;
    process->requests[process->request_count++] = (struct request){id, kind, token};
    world_after(process->world, timeout_ms * SIM_MS_US, time_out, process, id);
    return id;
}

static void settle_request(struct process *process, const struct request *request, int code,
                           const struct packet *done)
{
    struct cluster_event event = {.token = request->token, .code = code};
    switch (request->kind) {
    case REQUEST_CONSUMER:
        carrier_answered(process, code);
        return;
    case REQUEST_KV:
        event.kind = EVENT_KV_DONE;
        event.revision = done ? done->revision : 0;
        break;
    case REQUEST_PROBE:
        event.kind = EVENT_PROBED;
        break;
    case REQUEST_FENCE:
        event.kind = EVENT_FENCED;
        event.code = code == ERR_NOT_FOUND ? 0 : code;
        break;
    case REQUEST_SUBJECTS: {
        if (code)
            return;
        size_t count = done->count;
        const char **names = sim_alloc(count, sizeof *names);
        for (size_t i = 0; i < count; i++)
            names[i] = process->world->names[done->chambers[i]];
        event.kind = EVENT_SUBJECTS;
        event.chambers = names;
        event.chamber_count = count;
        process_step(process, &event);
        free(names);
        return;
    }
    }
    process_step(process, &event);
}

static bool take_request(struct process *process, uint64_t id, struct request *request)
{
    for (size_t i = 0; i < process->request_count; i++)
        if (process->requests[i].id == id) {
            *request = process->requests[i];
            process->requests[i] = process->requests[--process->request_count];
            return true;
        }
    return false;
}

static void time_out(void *context, void *target, uint64_t id)
{
    struct process *process = target;
    struct request request;
    if (process->paused) /* its timers run when it does */
        world_after(context, 50 * SIM_MS_US, time_out, target, id);
    else if (process->alive && take_request(process, id, &request))
        settle_request(process, &request, ERR_TIMEOUT, NULL);
}

/* --- what the cluster asks for --- */

static void refuse(void *context, void *target, uint64_t id)
{
    (void)context;
    struct process *process = target;
    struct request request;
    if (process->alive && take_request(process, id, &request))
        settle_request(process, &request, ERR_UNAVAILABLE, NULL);
}

/* Sends it; or, without a connection, says so at once (but not before the caller has returned). */
static void send_request(struct process *process, struct packet *packet)
{
    if (!process->connected)
        world_after(process->world, 1, refuse, process, packet->request);
    network_send(process, packet);
}

static void ask_write(struct process *process, const struct cluster_action *action)
{
    struct packet *packet = packet_new(process, PACKET_KV);
    packet->request = process_request(process, REQUEST_KV, action->token, REQUEST_TIMEOUT_MS);
    packet->write = action->kind;
    packet->bucket = (int)action->bucket;
    packet->revision = action->revision;
    snprintf(packet->key, sizeof packet->key, "%s", action->key);
    if (action->value)
        packet->value = nats_value_new(action->value,
                                       action->value_length ? action->value_length : strlen(action->value));
    send_request(process, packet);
}

static void watch_late(void *world, void *target, uint64_t id);

static void send_watch(struct process *process, struct watch *watch)
{
    watch->id = ++process->next_watch; /* what an earlier one still brings is not ours */
    watch->current = false;
    world_after(process->world, REQUEST_TIMEOUT_MS * SIM_MS_US, watch_late, process, watch->id);
    struct packet *packet = packet_new(process, PACKET_WATCH);
    packet->watch = watch->id;
    packet->bucket = watch->bucket;
    snprintf(packet->key, sizeof packet->key, "%s", watch->pattern);
    network_send(process, packet);
}

/* As src/bus/kv.c: a watch that the server has not answered is asked for again. */
static void watch_late(void *world, void *target, uint64_t id)
{
    struct process *process = target;
    if (process->paused)
        world_after(world, REQUEST_TIMEOUT_MS * SIM_MS_US, watch_late, target, id);
    for (size_t i = 0; process->alive && !process->paused && i < process->watch_count; i++)
        if (process->watches[i].id == id && !process->watches[i].current && process->told_connected)
            send_watch(process, &process->watches[i]);
}

static void end_watch(struct process *process, size_t i)
{
    struct packet *packet = packet_new(process, PACKET_UNWATCH);
    packet->watch = process->watches[i].id;
    network_send(process, packet);
    process->watches[i] = process->watches[--process->watch_count];
}

static void ask_watch(struct process *process, const struct cluster_action *action)
{
    for (size_t i = 0; i < process->watch_count; i++)
        if (process->watches[i].bucket == (int)action->bucket &&
            strcmp(process->watches[i].pattern, action->key) == 0) {
            end_watch(process, i);
            break;
        }
    if (action->value == NULL)
        return;
    assert(process->watch_count < SIM_WATCHES_MAX);
    struct watch *watch = &process->watches[process->watch_count++];
    *watch = (struct watch){.bucket = (int)action->bucket};
    snprintf(watch->pattern, sizeof watch->pattern, "%s", action->key);
    send_watch(process, watch);
}

static void ask_beat(struct process *process, const struct cluster_action *action)
{
    struct packet *packet = packet_new(process, PACKET_BEAT);
    packet->beat = sim_alloc(1, sizeof *packet->beat);
    *packet->beat = (struct beat){.refs = 1, .heartbeat = *action->heartbeat};
    network_send(process, packet);
}

static void ask_about_id(struct process *process, const struct cluster_action *action)
{
    bool fence = action->kind == ACTION_FENCE;
    struct packet *packet = packet_new(process, fence ? PACKET_CONSUMER_DELETE : PACKET_PROBE);
    packet->request = process_request(process, fence ? REQUEST_FENCE : REQUEST_PROBE, action->token,
                                      fence ? REQUEST_TIMEOUT_MS : PROBE_TIMEOUT_MS);
    packet->consumer = world_defender_number(action->id);
    packet->fence = fence;
    send_request(process, packet);
}

static void ask_subjects(struct process *process, const struct cluster_action *action)
{
    struct packet *packet = packet_new(process, PACKET_SUBJECTS);
    packet->request = process_request(process, REQUEST_SUBJECTS, action->token, REQUEST_TIMEOUT_MS);
    send_request(process, packet);
}

static void carry_out(struct process *process, const struct cluster_action *action)
{
    invariants_asked(process->world, process, action);
    switch (action->kind) {
    case ACTION_KV_CREATE:
    case ACTION_KV_UPDATE:
    case ACTION_KV_PUT:
    case ACTION_KV_DELETE:
        ask_write(process, action);
        break;
    case ACTION_HEARTBEAT:
        ask_beat(process, action);
        break;
    case ACTION_PROBE:
    case ACTION_FENCE:
        ask_about_id(process, action);
        break;
    case ACTION_SET_FILTERS:
        carrier_set_filters(process, action);
        break;
    case ACTION_KEEP_CONSUMER:
        carrier_keep(process);
        break;
    case ACTION_LISTEN:
        process->listening = action->value != NULL;
        break;
    case ACTION_LIST_SUBJECTS:
        ask_subjects(process, action);
        break;
    case ACTION_WATCH:
        ask_watch(process, action);
        break;
    case ACTION_DRAIN:
        carrier_drain(process);
        break;
    case ACTION_STATE:
        break;
    case ACTION_TRACE:
        world_trace(process->world, process, "%s", action->trace);
        break;
    }
}

/* --- stepping --- */

static void subscribe(struct process *process)
{
    struct packet *packet = packet_new(process, PACKET_SUBSCRIBE);
    packet->consumer = process->id;
    network_send(process, packet);
}

static void exit_process(void *context, void *target, uint64_t life)
{
    (void)context;
    struct process *process = target;
    if (process->alive && process->life == life)
        process_kill(process, false);
}

static void drained(void *context, void *target, uint64_t life)
{
    (void)context;
    struct process *process = target;
    if (process->alive && process->life == life && !process->paused)
        process_step(process, &(struct cluster_event){.kind = EVENT_DRAINED});
    else if (process->alive && process->life == life)
        process->drained_told = false;
}

static void look_at_state(struct process *process)
{
    struct cluster_status status = process_status(process);
    int id = status.id[0] ? world_defender_number(status.id) : NATS_NOBODY;
    if (id != process->id) {
        process->id = id;
        process->held_us = process->world->now_us;
        subscribe(process);
    }
    if (status.state == CLUSTER_STOPPED && !process->stopping) {
        process->stopping = true;
        world_after(process->world, SIM_MS_US, exit_process, process, process->life);
    }
}

void process_step(struct process *process, const struct cluster_event *event)
{
    struct world *world = process->world;
    struct error err;
    assert(process->alive && !process->paused);
    assert(process->actions.count == 0); /* one step at a time */
    world->steps++;
    if (cluster_step(process->cluster, process_now_ms(process), event, &process->actions, &err)) {
        fprintf(stderr, "sim: cluster_step: %s\n", err.text);
        abort();
    }
    for (size_t i = 0; i < process->actions.count; i++)
        carry_out(process, &process->actions.items[i]);
    cluster_actions_clear(&process->actions);
    look_at_state(process);
    carrier_look(process);
    invariants_stepped(world, process);
    if (process->draining && !process->drained_told && process->job_count == 0) {
        process->drained_told = true;
        world_after(world, 1, drained, process, process->life);
    }
    schedule_tick(process);
}

void process_receive(struct process *process, struct packet *packet)
{
    struct request request;
    switch (packet->kind) {
    case PACKET_CONNECTED:
        process_connected(process);
        break;
    case PACKET_CLOSED:
        process_disconnected(process);
        break;
    case PACKET_DONE:
        if (take_request(process, packet->request, &request))
            settle_request(process, &request, packet->code, packet);
        break;
    case PACKET_ENTRY:
    case PACKET_CURRENT:
        for (size_t i = 0; i < process->watch_count; i++) {
            if (process->watches[i].id != packet->watch)
                continue;
            process->watches[i].current |= packet->kind == PACKET_CURRENT;
            struct cluster_event event = {
                .kind = packet->kind == PACKET_ENTRY ? EVENT_KV_ENTRY : EVENT_KV_CURRENT,
                .bucket = (enum cluster_bucket)process->watches[i].bucket,
                .key = packet->kind == PACKET_ENTRY ? packet->key : process->watches[i].pattern,
                .value = packet->value ? packet->value->text : NULL,
                .value_length = packet->value ? packet->value->length : 0,
                .revision = packet->revision};
            process_step(process, &event);
            break;
        }
        break;
    case PACKET_MESSAGE:
        carrier_message(process, packet);
        break;
    case PACKET_DELETED:
        carrier_lost(process, packet->consumer);
        break;
    case PACKET_HEARD:
        process_step(process,
                     &(struct cluster_event){.kind = EVENT_HEARTBEAT, .heartbeat = &packet->beat->heartbeat});
        break;
    case PACKET_ASKED: {
        struct packet *here = packet_new(process, PACKET_PROBE_ANSWER);
        here->request = packet->request;
        here->asker = packet->asker;
        here->asker_epoch = packet->asker_epoch;
        network_send(process, here);
        break;
    }
    default:
        abort();
    }
}

void process_connected(struct process *process)
{
    process->disconnected_us = process->world->now_us;
    process->told_connected = true;
    for (size_t i = 0; i < process->watch_count; i++)
        send_watch(process, &process->watches[i]);
    if (process->id != NATS_NOBODY)
        subscribe(process);
    process_step(process, &(struct cluster_event){.kind = EVENT_CONNECTED});
}

void process_disconnected(struct process *process)
{
    process->connected = process->told_connected = false;
    process->epoch = 0;
    process->disconnected_us = process->world->now_us;
    carrier_disconnected(process);
    process_step(process, &(struct cluster_event){.kind = EVENT_DISCONNECTED});
    uint64_t newest =
        process->next_request; /* what is asked for from here on knows that there is no connection */
    for (size_t i = 0; i < process->request_count;) {
        struct request request = process->requests[i];
        if (request.id > newest || !take_request(process, request.id, &request)) {
            i++;
            continue;
        }
        settle_request(process, &request, ERR_TIMEOUT, NULL);
        i = 0;
    }
    network_connect(process);
}

/* --- life and death --- */

static void extend(void *context, void *target, uint64_t life)
{
    struct process *process = target;
    if (!process->alive || process->life != life)
        return;
    if (!process->paused)
        carrier_extend(process);
    world_after(context, EXTEND_EVERY_MS * SIM_MS_US, extend, target, life);
}

static void begin(void *context, void *target, uint64_t life)
{
    (void)context;
    struct process *process = target;
    if (!process->alive || process->life != life)
        return;
    process_step(process, &(struct cluster_event){.kind = EVENT_TICK});
    network_connect(process);
}

static bool is_free(const struct process *process)
{
    bool connected = false;
    for (size_t i = 0; i < SIM_CONNECTIONS_MAX; i++)
        connected |= process->connections[i] != 0;
    return !process->alive && !connected;
}

static void new_life(struct process *process, int version)
{
    struct world *world = process->world;
    struct sim_random *random = &world->random;
    struct process old = *process;
    *process =
        (struct process){.world = world,
                         .index = old.index,
                         .life = old.life + 1,
                         .alive = true,
                         .incarnation = ++world->next_incarnation,
                         .version = version,
                         .born_us = world->now_us,
                         .offset_us = sim_random_between(random, 0, CLOCK_OFFSET_MAX_S) * SIM_SECOND_US,
                         .rate = 1 + CLOCK_DRIFT_MAX * (2 * sim_random_unit(random) - 1),
                         .last_up_us = old.last_up_us,
                         .last_down_us = old.last_down_us,
                         .next_request = old.next_request,
                         .requests = old.requests,
                         .request_capacity = old.request_capacity,
                         .jobs = old.jobs,
                         .job_capacity = old.job_capacity,
                         .next_watch = old.next_watch,
                         .id = NATS_NOBODY,
                         .checked_id = NATS_NOBODY,
                         .disturbed_us = INT64_MIN / 2,
                         .disconnected_us = world->now_us};
    process->carrier.consumer = NATS_NOBODY;
    process->held_up_end = &process->held_up;
    process->held_down_end = &process->held_down;
    for (size_t i = 0; i < SIM_CONNECTIONS_MAX; i++)
        process->subscribed[i] = NATS_NOBODY;
}

struct process *process_start(struct world *world, int version)
{
    struct process *process = NULL;
    for (size_t i = 0; i < world->slots && process == NULL; i++)
        if (is_free(&world->processes[i]))
            process = &world->processes[i];
    if (process == NULL)
        return NULL;
    new_life(process, version);
    char name[16];
    snprintf(name, sizeof name, "1.%d", version);
    struct cluster_config config = {.incarnation = process->incarnation, .version = name, .group = ""};
    struct error err;
    if (cluster_create(&config, &process->cluster, &err)) {
        fprintf(stderr, "sim: cluster_create: %s\n", err.text);
        abort();
    }
    cluster_actions_init(&process->actions);
    world_trace(world, process, "started, version %s", name);
    world_after(world, sim_random_between(&world->random, 0, START_MAX_MS) * SIM_MS_US, begin, process,
                process->life);
    world_after(world, EXTEND_EVERY_MS * SIM_MS_US, extend, process, process->life);
    return process;
}

void process_kill(struct process *process, bool host_too)
{
    if (!process->alive)
        return;
    world_trace(process->world, process,
                process->stopping ? "ended"
                : host_too        ? "its machine died"
                                  : "killed");
    invariants_died(process->world, process);
    network_process_gone(process, host_too);
    process->alive = false;
    process->paused = false;
    process->cut = false;
    process->id = NATS_NOBODY;
    process->request_count = 0;
    process->job_count = 0;
    carrier_free(process);
    cluster_destroy(process->cluster);
    process->cluster = NULL;
    cluster_actions_free(&process->actions);
}

void process_free(struct process *process)
{
    if (process->alive) {
        carrier_free(process);
        cluster_destroy(process->cluster);
        cluster_actions_free(&process->actions);
    }
    free(process->requests);
    free(process->jobs);
}

void process_disturbed(struct process *process)
{
    process->disturbed_us = process->world->now_us;
}

static void server_gives_up(void *context, void *target, uint64_t epoch);

void process_pause(struct process *process)
{
    struct world *world = process->world;
    process->paused = true;
    process_disturbed(process);
    world_trace(world, process, "paused");
    if (process->epoch)
        world_after(world, sim_random_between(&world->random, 8, 12) * SIM_SECOND_US, server_gives_up,
                    process, process->epoch);
}

/* The server's pings have not been answered. */
static void server_gives_up(void *context, void *target, uint64_t epoch)
{
    (void)context;
    struct process *process = target;
    if (process->paused && process->epoch == epoch)
        network_reset(process);
}

void process_wake(struct process *process)
{
    if (!process->alive || !process->paused)
        return;
    world_trace(process->world, process, "wakes");
    process->paused = false;
    process_disturbed(process);
    if (sim_random_chance(&process->world->random, 0.5)) {
        process_step(process,
                     &(struct cluster_event){.kind = EVENT_TICK}); /* timers first, then what has come */
        network_flush(process);
    } else {
        network_flush(process);
        process->tick_due_us = 0;
        schedule_tick(process);
    }
}

void process_stop(struct process *process)
{
    world_trace(process->world, process, "told to stop");
    process_step(process, &(struct cluster_event){.kind = EVENT_STOP});
}

struct cluster_status process_status(const struct process *process)
{
    struct cluster_status status;
    cluster_read_status(process->cluster, &status);
    return status;
}
