#include "world.h"

#include "faults.h"
#include "invariants.h"
#include "memory.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXPIRE_EVERY_MS = 1000,
    CONSUMERS_MIN = 64,
    SPARE_SLOTS = 16,
    ACK_WAIT_S = 30,
    BURST = 12, /* contexts of one chamber at once */
    MAX_ACK_PENDING = 64,
    WEIGHT_MIN = 100,
    WEIGHT_MAX = 12000 /* 120-fold */
};

void world_trace(const struct world *world, const struct process *process, const char *format, ...)
{
    if (!world->options.trace)
        return;
    printf("[%11.3f] ", (double)world->now_us / 1e6);
    if (process && process->id != NATS_NOBODY)
        printf("process %zu, defender-%d: ", process->index, process->id);
    else if (process)
        printf("process %zu: ", process->index);
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

void world_after(struct world *world, int64_t delay_us, sim_call *call, void *target, uint64_t argument)
{
    sim_queue_add(&world->queue, world->now_us + delay_us, call, target, argument);
}

/* --- chambers --- */

size_t world_chamber(const struct world *world, const char *name)
{
    unsigned tool, chamber;
    if (sscanf(name, "T%u.%u", &tool, &chamber) != 2)
        return SIZE_MAX;
    size_t index = (size_t)tool * 2 + chamber - 1;
    return index < world->chambers_max ? index : SIZE_MAX;
}

void world_register(struct world *world, uint32_t chamber)
{
    char text[64];
    int length = snprintf(text, sizeof text, "{\"weight\":%" PRId64, world->weights[chamber]);
    if (world->observed[chamber] >= 0)
        length += snprintf(text + length, sizeof text - (size_t)length, ",\"observed\":%" PRId64,
                           world->observed[chamber]);
    length += snprintf(text + length, sizeof text - (size_t)length, "}");
    struct nats_value *value = nats_value_new(text, (size_t)length);
    nats_kv_put(world->nats, world->now_us, BUCKET_CHAMBERS, world->names[chamber], value, NULL);
    nats_value_drop(value);
    world->known[chamber] = true;
}

static void open_chambers(struct world *world)
{
    size_t count = world->options.chambers;
    world->chamber_count = count;
    world->chambers_max = count + count / 2 + 32;
    world->names = sim_alloc(world->chambers_max, sizeof *world->names);
    world->weights = sim_alloc(world->chambers_max, sizeof *world->weights);
    world->observed = sim_alloc(world->chambers_max, sizeof *world->observed);
    world->known = sim_alloc(world->chambers_max, sizeof *world->known);
    bool equal = sim_random_chance(&world->random, 0.3);
    for (size_t i = 0; i < world->chambers_max; i++) {
        snprintf(world->names[i], sizeof world->names[i], "T%05zu.%zu", i / 2 % 100000, i % 2 + 1);
        world->weights[i] = equal ? 1000 : sim_random_between(&world->random, WEIGHT_MIN, WEIGHT_MAX);
        world->observed[i] = -1;
    }
}

/* --- processes --- */

int world_defender_number(const char *id)
{
    static const char prefix[] = "defender-";
    if (strncmp(id, prefix, sizeof prefix - 1) != 0)
        return NATS_NOBODY;
    int n = atoi(id + sizeof prefix - 1);
    return n >= 0 && n < CLUSTER_MEMBERS_MAX ? n : NATS_NOBODY;
}

struct process *world_choose(struct world *world, world_fits *fits)
{
    size_t fitting = 0;
    for (size_t i = 0; i < world->slots; i++)
        fitting += fits(&world->processes[i]);
    if (fitting == 0)
        return NULL;
    size_t at = sim_random_below(&world->random, fitting);
    for (size_t i = 0; i < world->slots; i++)
        if (fits(&world->processes[i]) && at-- == 0)
            return &world->processes[i];
    return NULL;
}

struct process *world_leader(struct world *world)
{
    for (size_t i = 0; i < world->slots; i++) {
        struct process *process = &world->processes[i];
        if (process->alive && !process->paused && !process->cut && !process->stopping &&
            process_status(process).leads)
            return process;
    }
    return NULL;
}

/* --- what goes on by itself --- */

static void expire(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    struct world *world = context;
    if (world->server_up)
        nats_expire(world->nats, world->now_us);
    world_after(world, EXPIRE_EVERY_MS * SIM_MS_US, expire, NULL, 0);
}

static void contexts(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    struct world *world = context;
    uint32_t chamber = (uint32_t)sim_random_below(&world->random, world->chamber_count);
    int count = sim_random_chance(&world->random, 0.02) ? BURST : 1; /* a tool that was cut off catches up */
    for (int i = 0; i < count && world->known[chamber]; i++)
        network_publish(world, chamber);
    double wait_s = 2 * sim_random_unit(&world->random) / world->options.publish_per_s;
    world_after(world, (int64_t)(wait_s * SIM_SECOND_US) + 1, contexts, NULL, 0);
}

static void open_server(struct world *world)
{
    size_t consumers = world->slots * 2 > CONSUMERS_MIN ? world->slots * 2 : CONSUMERS_MIN;
    struct nats_config config = {.ack_wait_us = ACK_WAIT_S * (int64_t)SIM_SECOND_US,
                                 .max_ack_pending = MAX_ACK_PENDING,
                                 .chambers = world->chambers_max,
                                 .consumers = consumers};
    config.ttl_us[BUCKET_STABLE_IDS] = 10 * (int64_t)SIM_SECOND_US;
    config.ttl_us[BUCKET_ELECTION] = 3 * (int64_t)SIM_SECOND_US;
    struct nats_hooks hooks = network_hooks(world);
    world->nats = nats_new(&config, &hooks);
    world->server_up = true;
}

void world_open(struct world *world, const struct sim_options *options)
{
    *world = (struct world){.options = *options};
    sim_random_seed(&world->random, options->seed);
    open_chambers(world);
    world->slots = options->defenders * 2 + SPARE_SLOTS;
    world->processes = sim_alloc(world->slots, sizeof *world->processes);
    for (size_t i = 0; i < world->slots; i++) {
        struct process *process = &world->processes[i];
        process->world = world;
        process->index = i;
        process->id = NATS_NOBODY;
        process->held_up_end = &process->held_up;
        process->held_down_end = &process->held_down;
    }
    open_server(world);
    invariants_open(world);
    for (size_t i = 0; i < world->chamber_count; i++)
        world_register(world, (uint32_t)i);
    faults_open(world);
    world_after(world, EXPIRE_EVERY_MS * SIM_MS_US, expire, NULL, 0);
    world_after(world, 1, contexts, NULL, 0);
}

bool world_run(struct world *world)
{
    int64_t end_us = (int64_t)(world->options.hours * 3600.0 * SIM_SECOND_US);
    struct sim_item item;
    while (!world->failed && sim_queue_take(&world->queue, &item)) {
        if (item.at_us > end_us) {
            sim_queue_add(&world->queue, item.at_us, item.call, item.target, item.argument);
            break;
        }
        world->now_us = item.at_us;
        item.call(world, item.target, item.argument);
    }
    return !world->failed;
}

void world_close(struct world *world)
{
    for (size_t i = 0; i < world->slots; i++)
        process_free(&world->processes[i]);
    network_free(world);
    nats_free(world->nats);
    faults_close(world->faults);
    invariants_close(world->invariants);
    sim_queue_free(&world->queue);
    free(world->processes);
    free(world->names);
    free(world->weights);
    free(world->observed);
    free(world->known);
}
