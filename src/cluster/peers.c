/* What this process knows of the others: their claims, their heartbeats, who is silent and who is dead.
 *
 * Kept while looking for an ID (which numbers are free?) and while leading (who is alive?). The claim is the
 * word on which incarnation holds a number; a heartbeat under that number by anyone else is at most a sign
 * that it is in use. */
#include "cluster/machine.h"

#include <stdlib.h>
#include <string.h>

struct peer *peers_get(struct cluster *c, int number)
{
    struct peers *peers = &c->peers;
    if (number < 0 || number >= c->config.pool)
        return NULL;
    if ((size_t)number < peers->count)
        return &peers->items[number];
    size_t count = (size_t)number + 16;
    struct peer *items = realloc(peers->items, count * sizeof *items);
    if (items == NULL) {
        c->failed = true;
        return NULL;
    }
    memset(items + peers->count, 0, (count - peers->count) * sizeof *items);
    peers->items = items;
    peers->count = count;
    return &items[number];
}

void peers_clear(struct cluster *c)
{
    for (size_t i = 0; i < c->peers.count; i++)
        free(c->peers.items[i].owned);
    free(c->peers.items);
    c->peers = (struct peers){0};
}

void peers_on_connected(struct cluster *c)
{
    for (size_t i = 0; i < c->peers.count; i++) {
        struct peer *peer = &c->peers.items[i];
        peer->confirmed = peer->to_confirmed = peer->met = false;
        peer->claim_revision = peer->to_revision = 0; /* a store that was lost counts from 1 again */
        if (!PLANTED(PLANT_TRUST_ABSENCE))
            peer->heard_ms = c->now_ms;
        peer->claim_seen_ms = c->now_ms;
        peer->probe.token = 0;
    }
}

void peers_shift(struct cluster *c, int64_t slept_ms)
{
    for (size_t i = 0; i < c->peers.count; i++) {
        c->peers.items[i].heard_ms += slept_ms;
        c->peers.items[i].claim_seen_ms += slept_ms;
    }
}

static void peer_release(struct cluster *c, struct peer *peer, int number)
{
    bool told = c->controller.stamped && peer->claimed && !peer->dead;
    peer->claimed = false;
    peer->released = !peer->dead; /* of a dead one the claim is taken away by the leader: no leave */
    if (told) {
        trace(c, "%s-%d has released its ID", c->role, number);
        controller_note_change(c);
    }
}

/* Another process has the number now. */
static void peer_replace(struct cluster *c, struct peer *peer, int number, const struct claim *claim)
{
    bool first_seen = peer->claim.incarnation == 0;
    peer->claim = *claim;
    peer->leaving = peer->released = peer->dead = peer->fenced = false;
    peer->probe = peer->fence = (struct request){0};
    peer->in_force = 0;
    if (!c->controller.stamped)
        return;
    if (PLANTED(PLANT_ROLL_MOVES) && peer->in_map) {
        peer->owned_count = 0;
        peer->to_present = false;
    }
    if (peer->in_map && first_seen)
        return; /* no one else was ever seen under it */
    if (peer->in_map)
        trace(c, "%s-%d is held by another process now, and keeps its %zu chambers", c->role, number,
              peer->header.count);
    else
        trace(c, "%s-%d has joined", c->role, number);
    controller_note_change(c);
}

void peers_on_claim(struct cluster *c, int number, const struct claim *claim, uint64_t revision)
{
    struct peer *peer = peers_get(c, number);
    if (peer == NULL || revision < peer->claim_revision)
        return;
    peer->claim_revision = revision;
    peer->confirmed = true;
    if (claim == NULL) {
        peer_release(c, peer, number);
        return;
    }
    if (peer->claim.incarnation != claim->incarnation)
        peer_replace(c, peer, number, claim);
    else if (!peer->claimed && !peer->dead && !peer->in_map && c->controller.stamped)
        controller_note_change(c);
    peer->claimed = true;
    peer->released = false;
    peer->claim_seen_ms = c->now_ms;
    if (peer->dead)
        return;
    peer->heard_ms = c->now_ms;
    if (c->watches[WATCH_CLAIMS].current) /* what was stored before may be of one long dead */
        peer->heard = peer->met = true;
}

void peers_on_claims_current(struct cluster *c)
{
    /* What the bucket no longer has ran out: that is no word of leaving. */
    for (size_t i = 0; i < c->peers.count; i++)
        if (!c->peers.items[i].confirmed)
            c->peers.items[i].claimed = false;
}

void peers_on_heartbeat(struct cluster *c, const struct cluster_heartbeat *heartbeat)
{
    int number = id_parse(c, heartbeat->id);
    struct peer *peer = peers_get(c, number);
    if (peer == NULL)
        return;
    bool its_own = peer->claim.incarnation == heartbeat->incarnation;
    if (peer->dead && its_own)
        return; /* it was given up; it comes back once the map no longer has it */
    peer->heard = peer->met = true;
    peer->heard_ms = c->now_ms;
    if (!its_own && !peer->claimed && !peer->released && peer->claim.incarnation == 0) {
        peer->claim = (struct claim){.incarnation = heartbeat->incarnation, .share = heartbeat->share};
        memcpy(peer->claim.version, heartbeat->version, sizeof heartbeat->version);
        memcpy(peer->claim.group, heartbeat->group, sizeof heartbeat->group);
        its_own = true;
    }
    if (!its_own)
        return;
    peer->in_force = heartbeat->assignment;
    if (c->controller.highest_version < heartbeat->assignment)
        c->controller.highest_version = heartbeat->assignment; /* known to it, if no longer to the store */
    if (heartbeat->leaving && !peer->leaving && !peer->released) {
        peer->leaving = true;
        if (c->controller.stamped) {
            trace(c, "%s is leaving", heartbeat->id);
            controller_note_change(c);
        }
    }
}

bool peer_is_stale(const struct cluster *c, const struct peer *peer)
{
    if (peer->claimed && c->config.predecessor && peer->claim.incarnation == c->config.predecessor)
        return true;
    int64_t sign_ms = peer->claim_seen_ms;
    if (peer->heard && peer->heard_ms > sign_ms)
        sign_ms = peer->heard_ms;
    return peer->claimed && c->now_ms - sign_ms > c->config.id_ttl_ms;
}

static void peer_die(struct cluster *c, struct peer *peer)
{
    peer->dead = true;
    peer->leaving = false;
    peer->dead_claim = peer->claimed ? peer->claim_revision : 0;
    peer->probe.token = 0;
    controller_note_change(c);
}

/* Whether silence now is theirs: within the grace period after this process was cut off, it may only mean
 * that they are not back yet. */
static bool peer_absence_counts(const struct cluster *c, const struct peer *peer)
{
    return c->connected &&
           (PLANTED(PLANT_TRUST_ABSENCE) || peer->met || c->now_ms >= c->controller.trusted_ms);
}

static void peer_watch(struct cluster *c, struct peer *peer, int number)
{
    if (peer->dead || peer->released || !(peer->in_map || peer->claimed))
        return;
    int64_t silent_ms = c->now_ms - peer->heard_ms;
    if (silent_ms < c->config.probe_after_ms) {
        peer->probe = (struct request){0};
        return;
    }
    if (silent_ms >= c->config.silence_ms && peer_absence_counts(c, peer)) {
        trace(c, "%s-%d silent for %.1f s: dead", c->role, number, (double)silent_ms / 1000);
        peer_die(c, peer);
        return;
    }
    bool first = peer->probe.sent_ms == 0;
    if (!first && c->now_ms - peer->probe.sent_ms < c->config.confirm_ms)
        return;
    char id[CLUSTER_NAME_BYTES];
    id_format(c, number, id);
    if (first)
        trace(c, "%s silent for %.1f s: asking", id, (double)silent_ms / 1000);
    peer->probe = ask(c, ACTION_PROBE, id);
}

void peers_watch(struct cluster *c)
{
    for (size_t i = 0; i < c->peers.count; i++) {
        struct peer *peer = &c->peers.items[i];
        if ((int)i == c->member.number) {
            peer->heard = peer->met = true;
            peer->heard_ms = c->now_ms;
        } else {
            peer_watch(c, peer, (int)i);
        }
    }
}

static void peer_on_probed(struct cluster *c, struct peer *peer, int number, int code)
{
    peer->probe.token = 0;
    int64_t silent_ms = c->now_ms - peer->heard_ms;
    if (code == 0) {
        peer->heard = peer->met = true;
        peer->heard_ms = c->now_ms;
        trace(c, "%s-%d answers", c->role, number);
    } else if (code == ERR_UNAVAILABLE && peer_absence_counts(c, peer) && !peer->dead &&
               silent_ms >= c->config.probe_after_ms + c->config.confirm_ms) {
        /* Asked at least twice: whose server died is connected elsewhere by now. */
        trace(c, "%s-%d silent for %.1f s and has no connection: dead", c->role, number,
              (double)silent_ms / 1000);
        peer_die(c, peer);
    }
}

bool peers_on_probed(struct cluster *c, const struct cluster_event *event)
{
    for (size_t i = 0; i < c->peers.count; i++) {
        struct peer *peer = &c->peers.items[i];
        if (!request_is(&peer->probe, event))
            continue;
        peer_on_probed(c, peer, (int)i, event->code);
        return true;
    }
    return false;
}
