/* Links and connections: delay, order, holding back, ending; and the server's side of each request. */
#include "invariants.h"
#include "memory.h"
#include "world.h"

#include "base/error.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    LINK_FAST_US = 150,
    LINK_USUAL_US = 900,
    LINK_SLOW_US = 20 * SIM_MS_US,   /* one packet in a hundred */
    PING_MIN_US = 8 * SIM_SECOND_US, /* two lost pings of 5 s: a dead connection is noticed about then */
    PING_MAX_US = 12 * SIM_SECOND_US,
    RECONNECT_MIN_US = 100 * SIM_MS_US,
    RECONNECT_MAX_US = 300 * SIM_MS_US,
    RECONNECT_SLOW_US = 5 * SIM_SECOND_US, /* one in ten, when the server comes back to everybody at once */
    SLOW_WRITE_MIN_US = 100 * SIM_MS_US,
    SLOW_WRITE_MAX_US = 2500 * SIM_MS_US
};
static const double LOST_IN_STALL = 0.3; /* of requests that arrive while there is no JetStream leader */
static const double LOST_WRITE = 0.15, LOST_ANSWER = 0.15; /* while writes are lossy */

/* --- packets --- */

struct packet *packet_new(struct process *process, enum packet_kind kind)
{
    struct world *world = process->world;
    struct packet *packet = world->free_packets;
    if (packet)
        world->free_packets = packet->next;
    else
        packet = sim_alloc(1, sizeof *packet);
    *packet = (struct packet){.kind = kind, .process = process};
    return packet;
}

static void packet_free(struct packet *packet)
{
    struct world *world = packet->process->world;
    nats_value_drop(packet->value);
    free(packet->chambers);
    if (packet->beat && --packet->beat->refs == 0)
        free(packet->beat);
    packet->next = world->free_packets;
    world->free_packets = packet;
}

static void hold(struct packet ***end, struct packet *packet)
{
    packet->next = NULL;
    **end = packet;
    *end = &packet->next;
}

static void free_held(struct packet **list, struct packet ***end)
{
    while (*list) {
        struct packet *packet = *list;
        *list = packet->next;
        packet_free(packet);
    }
    *end = list;
}

static int64_t link_delay_us(struct process *process)
{
    struct world *world = process->world;
    if (world->now_us < process->slow_until_us)
        return sim_random_between(&world->random, process->slow_us / 2, process->slow_us);
    if (sim_random_chance(&world->random, 0.01))
        return sim_random_between(&world->random, LINK_USUAL_US, LINK_SLOW_US);
    return sim_random_between(&world->random, LINK_FAST_US, LINK_USUAL_US);
}

/* --- connections, as the server sees them --- */

static size_t connection_of(const struct process *process, uint64_t epoch)
{
    for (size_t i = 0; i < SIM_CONNECTIONS_MAX; i++)
        if (epoch && process->connections[i] == epoch)
            return i;
    return SIM_CONNECTIONS_MAX;
}

static bool is_open(const struct process *process, uint64_t epoch)
{
    return connection_of(process, epoch) < SIM_CONNECTIONS_MAX;
}

/* Which process a connection belongs to is in its number. */
static struct process *process_of(struct world *world, uint64_t client)
{
    return &world->processes[client % world->slots];
}

static void arrive_down(void *world, void *target, uint64_t argument);

static void send_down_on(struct process *process, uint64_t epoch, struct packet *packet)
{
    struct world *world = process->world;
    packet->epoch = epoch;
    int64_t at_us = world->now_us + link_delay_us(process);
    if (at_us < process->last_down_us)
        at_us = process->last_down_us;
    process->last_down_us = at_us;
    sim_queue_add(&world->queue, at_us, arrive_down, packet, 0);
}

static void close_connection(struct process *process, uint64_t epoch, bool tell)
{
    size_t i = connection_of(process, epoch);
    if (i == SIM_CONNECTIONS_MAX)
        return;
    process->connections[i] = 0;
    process->subscribed[i] = NATS_NOBODY;
    nats_client_gone(process->world->nats, epoch);
    if (tell)
        send_down_on(process, epoch, packet_new(process, PACKET_CLOSED));
}

static void server_ping(void *world, void *target, uint64_t epoch)
{
    (void)world;
    struct process *process = target;
    bool answers = process->alive && !process->paused && !process->cut && process->epoch == epoch;
    if (!answers)
        close_connection(process, epoch, true);
}

static void watch_connection(struct process *process, uint64_t epoch)
{
    struct world *world = process->world;
    if (epoch)
        world_after(world, sim_random_between(&world->random, PING_MIN_US, PING_MAX_US), server_ping, process,
                    epoch);
}

static void client_ping(void *world, void *target, uint64_t epoch)
{
    (void)world;
    struct process *process = target;
    if (process->alive && process->cut && !process->paused && process->epoch == epoch)
        process_disconnected(process);
}

static void try_connect(void *context, void *target, uint64_t life)
{
    struct world *world = context;
    struct process *process = target;
    if (!process->alive || process->life != life || process->connected)
        return;
    if (process->paused || process->cut || !world->server_up) {
        bool slow = !world->server_up && sim_random_chance(&world->random, 0.1);
        world_after(
            world,
            sim_random_between(&world->random, RECONNECT_MIN_US, slow ? RECONNECT_SLOW_US : RECONNECT_MAX_US),
            try_connect, process, life);
        return;
    }
    process->epoch = ++world->next_epoch * world->slots + process->index;
    process->connected = true; /* may send; the cluster is told when the answer is here */
    network_send(process, packet_new(process, PACKET_CONNECT));
}

void network_connect(struct process *process)
{
    struct world *world = process->world;
    world_after(world, sim_random_between(&world->random, RECONNECT_MIN_US, RECONNECT_MAX_US), try_connect,
                process, process->life);
}

void network_reset(struct process *process)
{
    close_connection(process, process->epoch, true);
}

void network_server_down(struct world *world)
{
    world->server_up = false;
    for (size_t p = 0; p < world->slots; p++)
        for (size_t i = 0; i < SIM_CONNECTIONS_MAX; i++)
            close_connection(&world->processes[p], world->processes[p].connections[i], true);
}

void network_server_up(struct world *world)
{
    world->server_up = true;
}

/* --- to the process --- */

static void arrive_down(void *context, void *target, uint64_t argument)
{
    (void)context;
    (void)argument;
    struct packet *packet = target;
    struct process *process = packet->process;
    if (!process->alive || process->epoch != packet->epoch) {
        packet_free(packet);
    } else if (process->cut || process->paused) {
        hold(&process->held_down_end, packet);
    } else {
        process_receive(process, packet);
        packet_free(packet);
    }
}

static void release(struct process *process, struct packet **list, struct packet ***end, sim_call *arrive)
{
    struct packet *packet = *list;
    *list = NULL;
    *end = list;
    while (packet) {
        struct packet *next = packet->next;
        sim_queue_add(&process->world->queue, process->world->now_us, arrive, packet, 0);
        packet = next;
    }
    process->held_beats = 0;
}

void network_flush(struct process *process)
{
    if (!process->cut && !process->paused)
        release(process, &process->held_down, &process->held_down_end, arrive_down);
}

/* --- to the server --- */

static void arrive_up(void *world, void *target, uint64_t argument);

void network_send(struct process *process, struct packet *packet)
{
    struct world *world = process->world;
    if (!process->connected || process->epoch == 0) {
        packet_free(packet);
        return;
    }
    packet->epoch = process->epoch;
    int64_t at_us = world->now_us + link_delay_us(process);
    if (at_us < process->last_up_us)
        at_us = process->last_up_us;
    process->last_up_us = at_us;
    sim_queue_add(&world->queue, at_us, arrive_up, packet, 0);
}

void network_cut(struct process *process)
{
    struct world *world = process->world;
    process->cut = true;
    for (size_t i = 0; i < SIM_CONNECTIONS_MAX; i++)
        watch_connection(process, process->connections[i]);
    if (process->epoch)
        world_after(world, sim_random_between(&world->random, PING_MIN_US, PING_MAX_US), client_ping, process,
                    process->epoch);
}

void network_heal(struct process *process)
{
    process->cut = false;
    release(process, &process->held_up, &process->held_up_end, arrive_up);
    network_flush(process);
}

void network_process_gone(struct process *process, bool host_too)
{
    if (!host_too && !process->cut)
        network_send(process, packet_new(process, PACKET_CLOSE));
    for (size_t i = 0; i < SIM_CONNECTIONS_MAX; i++)
        watch_connection(process, process->connections[i]);
    process->connected = false;
    process->epoch = 0;
    free_held(&process->held_up, &process->held_up_end);
    free_held(&process->held_down, &process->held_down_end);
    process->held_beats = 0;
}

static bool needs_jetstream(enum packet_kind kind)
{
    return kind >= PACKET_KV && kind <= PACKET_SUBJECTS;
}

static void answer(struct packet *request, int code, uint64_t revision)
{
    struct packet *done = packet_new(request->process, PACKET_DONE);
    done->request = request->request;
    done->code = code;
    done->revision = revision;
    send_down_on(request->process, request->epoch, done);
}

static int write_key(struct world *world, const struct packet *packet, uint64_t *revision)
{
    int64_t now_us = world->now_us;
    switch (packet->write) {
    case ACTION_KV_CREATE:
        return nats_kv_create(world->nats, now_us, packet->bucket, packet->key, packet->value, revision);
    case ACTION_KV_UPDATE:
        return nats_kv_update(world->nats, now_us, packet->bucket, packet->key, packet->value,
                              packet->revision, revision);
    case ACTION_KV_PUT:
        return nats_kv_put(world->nats, now_us, packet->bucket, packet->key, packet->value, revision);
    default:
        return nats_kv_delete(world->nats, now_us, packet->bucket, packet->key, packet->revision, revision);
    }
}

static void serve_write(struct world *world, struct packet *packet)
{
    uint64_t revision = 0;
    bool lossy = world->now_us < world->lossy_until_us;
    if (lossy && sim_random_chance(&world->random, LOST_WRITE))
        return;
    int code = write_key(world, packet, &revision);
    if (code == 0)
        invariants_written(world, packet, revision);
    if (lossy && sim_random_chance(&world->random, LOST_ANSWER))
        return;
    answer(packet, code, revision);
}

static void serve_subjects(struct world *world, struct packet *request)
{
    bool *present = sim_alloc(world->chambers_max, sizeof *present);
    struct packet *done = packet_new(request->process, PACKET_DONE);
    done->request = request->request;
    done->chambers = sim_alloc(world->chambers_max, sizeof *done->chambers);
    nats_subjects(world->nats, present);
    for (size_t i = 0; i < world->chambers_max; i++)
        if (present[i])
            done->chambers[done->count++] = (uint32_t)i;
    free(present);
    send_down_on(request->process, request->epoch, done);
}

/* Asks everyone who listens for that ID; nobody: the server says so itself. */
static void serve_probe(struct world *world, struct packet *packet)
{
    bool asked = false;
    for (size_t p = 0; p < world->slots; p++)
        for (size_t i = 0; i < SIM_CONNECTIONS_MAX; i++) {
            struct process *process = &world->processes[p];
            if (process->connections[i] == 0 || process->subscribed[i] != packet->consumer)
                continue;
            struct packet *question = packet_new(process, PACKET_ASKED);
            question->request = packet->request;
            question->asker = packet->process->index;
            question->asker_epoch = packet->epoch;
            send_down_on(process, process->connections[i], question);
            asked = true;
        }
    if (!asked)
        answer(packet, ERR_UNAVAILABLE, 0);
}

static void serve_probe_answer(struct world *world, const struct packet *packet)
{
    struct process *asker = &world->processes[packet->asker];
    if (!is_open(asker, packet->asker_epoch))
        return;
    struct packet *done = packet_new(asker, PACKET_DONE);
    done->request = packet->request;
    send_down_on(asker, packet->asker_epoch, done);
}

static void hear(struct process *process, struct beat *beat)
{
    if (!process->listening || !process->alive || !process->connected || !is_open(process, process->epoch))
        return;
    if (!process->cut && !process->paused) {
        process_step(process,
                     &(struct cluster_event){.kind = EVENT_HEARTBEAT, .heartbeat = &beat->heartbeat});
        return;
    }
    if (process->held_beats++ >= SIM_HELD_BEATS_MAX)
        return;
    struct packet *packet = packet_new(process, PACKET_HEARD);
    packet->epoch = process->epoch;
    packet->beat = beat;
    beat->refs++;
    hold(&process->held_down_end, packet);
}

/* To everyone at the same moment: one call instead of one a listener. */
static void fan_out(void *context, void *target, uint64_t argument)
{
    (void)argument;
    struct world *world = context;
    struct packet *packet = target;
    for (size_t p = 0; p < world->slots; p++)
        hear(&world->processes[p], packet->beat);
    packet_free(packet);
}

static void serve_connect(struct world *world, struct packet *packet)
{
    struct process *process = packet->process;
    for (size_t i = 0; i < SIM_CONNECTIONS_MAX; i++) {
        if (process->connections[i])
            continue;
        process->connections[i] = packet->epoch;
        process->subscribed[i] = NATS_NOBODY;
        send_down_on(process, packet->epoch, packet_new(process, PACKET_CONNECTED));
        (void)world;
        return;
    }
    send_down_on(process, packet->epoch, packet_new(process, PACKET_CLOSED));
}

static void serve_jetstream(struct world *world, struct packet *packet)
{
    struct nats *nats = world->nats;
    int64_t now_us = world->now_us;
    int code = 0;
    switch (packet->kind) {
    case PACKET_KV:
        serve_write(world, packet);
        return;
    case PACKET_WATCH:
        nats_watch(nats, now_us, packet->epoch, packet->watch, packet->bucket, packet->key);
        return;
    case PACKET_UNWATCH:
        nats_unwatch(nats, packet->epoch, packet->watch);
        return;
    case PACKET_CONSUMER_SET:
        invariants_consumer_changed(world, packet);
        code = nats_consumer_set(nats, now_us, packet->consumer, packet->create, packet->chambers,
                                 packet->count);
        break;
    case PACKET_CONSUMER_RESET:
        code = nats_consumer_reset(nats, now_us, packet->consumer);
        break;
    case PACKET_CONSUMER_DELETE:
        if (!packet->fence)
            invariants_consumer_changed(world, packet);
        code = nats_consumer_delete(nats, packet->consumer);
        break;
    case PACKET_PULL:
        nats_pull(nats, now_us, packet->consumer, packet->epoch, packet->count);
        return;
    case PACKET_ACK:
        nats_ack(nats, now_us, packet->consumer, packet->sequence);
        return;
    case PACKET_EXTEND:
        nats_extend(nats, now_us, packet->consumer, packet->sequence);
        return;
    default:
        serve_subjects(world, packet);
        return;
    }
    answer(packet, code, 0);
}

/* True when the packet will come again later, or never: it is not to be served now. */
static bool jetstream_delays(struct world *world, struct packet *packet)
{
    if (world->now_us < world->stalled_until_us) {
        /* A pull that is lost is asked again when it expires: it comes late. */
        if (packet->kind != PACKET_PULL && sim_random_chance(&world->random, LOST_IN_STALL))
            packet_free(packet);
        else
            sim_queue_add(&world->queue, world->stalled_until_us, arrive_up, packet, 0);
        return true;
    }
    if (world->now_us < world->slow_until_us && !packet->delayed && packet->request) {
        packet->delayed = true;
        world_after(world, sim_random_between(&world->random, SLOW_WRITE_MIN_US, SLOW_WRITE_MAX_US),
                    arrive_up, packet, 0);
        return true;
    }
    return false;
}

static void arrive_up(void *context, void *target, uint64_t argument)
{
    (void)argument;
    struct world *world = context;
    struct packet *packet = target;
    struct process *process = packet->process;
    if (process->cut && process->alive) {
        hold(&process->held_up_end, packet);
        return;
    }
    if (packet->kind == PACKET_CONNECT ? !world->server_up : !is_open(process, packet->epoch)) {
        if (packet->kind == PACKET_CONNECT)
            send_down_on(process, packet->epoch, packet_new(process, PACKET_CLOSED));
        packet_free(packet);
        return;
    }
    if (needs_jetstream(packet->kind) && jetstream_delays(world, packet))
        return;
    switch (packet->kind) {
    case PACKET_CONNECT:
        serve_connect(world, packet);
        break;
    case PACKET_CLOSE:
        close_connection(process, packet->epoch, false);
        break;
    case PACKET_SUBSCRIBE:
        process->subscribed[connection_of(process, packet->epoch)] = packet->consumer;
        break;
    case PACKET_PROBE:
        serve_probe(world, packet);
        break;
    case PACKET_PROBE_ANSWER:
        serve_probe_answer(world, packet);
        break;
    case PACKET_BEAT:
        world_after(world, sim_random_between(&world->random, LINK_FAST_US, LINK_USUAL_US), fan_out, packet,
                    0);
        return;
    default:
        serve_jetstream(world, packet);
        break;
    }
    packet_free(packet);
}

static void stall_ends(void *context, void *target, uint64_t argument)
{
    (void)target;
    (void)argument;
    struct world *world = context;
    if (world->now_us >= world->stalled_until_us)
        nats_stall(world->nats, world->now_us, false);
}

void network_stall(struct world *world, int64_t until_us)
{
    if (until_us > world->stalled_until_us)
        world->stalled_until_us = until_us;
    nats_stall(world->nats, world->now_us, true);
    sim_queue_add(&world->queue, world->stalled_until_us, stall_ends, NULL, 0);
}

static void publish(void *context, void *target, uint64_t chamber)
{
    (void)target;
    struct world *world = context;
    if (world->server_up && world->now_us >= world->stalled_until_us)
        nats_publish(world->nats, world->now_us, (uint32_t)chamber);
    else /* a collector tries until it is acknowledged */
        world_after(world, SIM_SECOND_US, publish, NULL, chamber);
}

void network_publish(struct world *world, uint32_t chamber)
{
    world->known[chamber] = true;
    publish(world, NULL, chamber);
}

/* --- what the server says of its own accord --- */

static void on_entry(void *context, uint64_t client, uint64_t watch, const struct nats_entry *entry)
{
    struct process *process = process_of(context, client);
    struct packet *packet = packet_new(process, PACKET_ENTRY);
    assert(strlen(entry->key) < sizeof packet->key);
    strcpy(packet->key, entry->key);
    packet->value = nats_value_hold(entry->value);
    packet->revision = entry->revision;
    packet->watch = watch;
    send_down_on(process, client, packet);
}

static void on_current(void *context, uint64_t client, uint64_t watch)
{
    struct process *process = process_of(context, client);
    struct packet *packet = packet_new(process, PACKET_CURRENT);
    packet->watch = watch;
    send_down_on(process, client, packet);
}

static void on_message(void *context, uint64_t client, int consumer, uint64_t sequence, uint32_t chamber,
                       uint64_t deliveries)
{
    struct process *process = process_of(context, client);
    struct packet *packet = packet_new(process, PACKET_MESSAGE);
    packet->consumer = consumer;
    packet->sequence = sequence;
    packet->chamber = chamber;
    packet->deliveries = deliveries;
    send_down_on(process, client, packet);
}

static void on_deleted(void *context, uint64_t client, int consumer)
{
    struct process *process = process_of(context, client);
    struct packet *packet = packet_new(process, PACKET_DELETED);
    packet->consumer = consumer;
    send_down_on(process, client, packet);
}

struct nats_hooks network_hooks(struct world *world)
{
    return (struct nats_hooks){.entry = on_entry,
                               .current = on_current,
                               .message = on_message,
                               .deleted = on_deleted,
                               .context = world};
}

void network_free(struct world *world)
{
    for (size_t i = 0; i < world->queue.count; i++) {
        const struct sim_item *item = &world->queue.items[i];
        if (item->call == arrive_up || item->call == arrive_down) /* still under way */
            packet_free(item->target);
    }
    for (size_t i = 0; i < world->slots; i++) {
        free_held(&world->processes[i].held_up, &world->processes[i].held_up_end);
        free_held(&world->processes[i].held_down, &world->processes[i].held_down_end);
    }
    while (world->free_packets) {
        struct packet *packet = world->free_packets;
        world->free_packets = packet->next;
        free(packet);
    }
}
