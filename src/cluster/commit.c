/* One commit: who owns what is computed, written key by key, and put in force by the header.
 *
 *     plan ──► to.defender-N of all that gain ──► of all that only lose ──► map
 *              compare-and-set on its revision                              compare-and-set: the commit point
 *
 * An outcome that is not known is settled by the watch, or by writing the same again. Gainers come first, so
 * that a commit which ends half-way (its leader died) leaves no chamber out of every key: the next leader
 * reads a chamber that stands in two keys as belonging to the newer one. */
#include "cluster/machine.h"

#include "assign/assign.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t owned_hash_add(uint64_t sum, uint64_t chamber_hash)
{
    return sum + (chamber_hash ^ (chamber_hash >> 29)) * UINT64_C(0x9E3779B97F4A7C15) + 1;
}

/* ---- what is so ---- */

static bool peer_lives(const struct peer *peer)
{
    return !peer->dead && !peer->released && !peer->leaving;
}

/* May be dead: not the one to give more to, as long as most are heard. */
static bool peer_is_doubtful(const struct cluster *c, const struct peer *peer)
{
    return !c->controller.commit.few && c->now_ms - peer->heard_ms > c->config.heartbeat_ms * 5 / 4;
}

static bool few_are_heard(const struct cluster *c)
{
    size_t heard = 0, silent = 0;
    for (size_t n = 0; n < c->peers.count; n++) {
        const struct peer *peer = &c->peers.items[n];
        bool counts = peer->in_map && !peer->removing && peer_lives(peer);
        bool doubtful = peer_is_doubtful(c, peer);
        heard += counts && !doubtful;
        silent += counts && doubtful;
    }
    return heard < silent;
}

/* Keeps exactly what it has, because it is on its way out or may be. */
static bool peer_is_frozen(const struct cluster *c, const struct peer *peer)
{
    return peer->in_map && !peer->removing && (!peer_lives(peer) || peer_is_doubtful(c, peer));
}

/* A newcomer that a commit half done has given chambers: the way on is shorter than the way back. */
bool peer_is_begun(const struct cluster *c, const struct peer *peer)
{
    return !peer->in_map && peer->claimed && peer_lives(peer) && peer->to_present &&
           peer->to_version > c->header.version;
}

/* Its key says who owns, or is about to. What is left of a member that is gone says nothing. */
static bool peer_key_counts(const struct cluster *c, const struct peer *peer)
{
    return peer->to_present && (peer->in_map || peer_is_begun(c, peer));
}

static void owners_collect(struct cluster *c)
{
    struct roster *roster = &c->roster;
    for (size_t i = 0; i < roster->count; i++)
        roster->items[i].owner = -1;
    for (size_t n = 0; n < c->peers.count; n++) {
        const struct peer *peer = &c->peers.items[n];
        if (!peer_key_counts(c, peer))
            continue;
        for (size_t k = 0; k < peer->owned_count; k++) {
            int32_t *owner = &roster->items[peer->owned[k]].owner;
            if (*owner < 0 || c->peers.items[*owner].to_version < peer->to_version)
                *owner = (int32_t)n;
        }
    }
}

/* ---- what is to be ---- */

struct plan_input {
    struct assign_input assign;
    struct assign_chamber *chambers;
    uint32_t *places; /* in the roster, of the chambers */
    struct assign_defender *defenders;
};

static bool defender_takes_part(const struct cluster *c, const struct peer *peer, enum commit_kind kind)
{
    if (!peer_lives(peer) || peer->removing || peer_is_doubtful(c, peer))
        return false;
    bool joined = peer->claimed && peer->heard;
    bool may_join = kind == COMMIT_PLANNED || kind == COMMIT_RELEVEL;
    return peer->in_map || peer_is_begun(c, peer) || (may_join && joined);
}

static size_t defenders_collect(const struct cluster *c, enum commit_kind kind,
                                struct assign_defender *defenders)
{
    size_t count = 0;
    for (size_t n = 0; n < c->peers.count; n++)
        if (defender_takes_part(c, &c->peers.items[n], kind))
            defenders[count++] = (struct assign_defender){(int32_t)n, c->peers.items[n].claim.share};
    return count;
}

static size_t chambers_collect(const struct cluster *c, struct plan_input *input)
{
    size_t count = 0;
    for (size_t i = 0; i < c->roster.count; i++) {
        const struct chamber *chamber = &c->roster.items[i];
        bool frozen = chamber->owner >= 0 && peer_is_frozen(c, &c->peers.items[chamber->owner]);
        /* Named by nobody but the key of someone gone: dropped. */
        bool exists = chamber->listed || chamber->owner >= 0;
        if (chamber->removed || frozen || !exists)
            continue;
        input->chambers[count] = (struct assign_chamber){chamber->name, chamber->weight, chamber->owner};
        input->places[count++] = (uint32_t)i;
    }
    return count;
}

static bool input_collect(struct cluster *c, enum commit_kind kind, struct plan_input *input)
{
    struct arena *arena = &c->controller.commit.arena;
    input->chambers = arena_calloc(arena, c->roster.count, sizeof *input->chambers);
    input->places = arena_calloc(arena, c->roster.count, sizeof *input->places);
    input->defenders = arena_calloc(arena, c->peers.count, sizeof *input->defenders);
    if (input->chambers == NULL || input->places == NULL || input->defenders == NULL) {
        c->failed = true;
        return false;
    }
    input->assign = (struct assign_input){
        .chambers = input->chambers,
        .chamber_count = chambers_collect(c, input),
        .defenders = input->defenders,
        .defender_count = defenders_collect(c, kind, input->defenders),
        .options = {c->config.balance_max, c->config.balance_min, c->config.movement_budget},
        .mode = kind == COMMIT_PLANNED                                   ? ASSIGN_NORMAL
                : kind == COMMIT_RELEVEL || PLANTED(PLANT_EMERGENCY_ALL) ? ASSIGN_RELEVEL
                                                                         : ASSIGN_EMERGENCY,
    };
    if (input->assign.defender_count == 0) /* nobody of the map is left: whoever is there must do */
        input->assign.defender_count = defenders_collect(c, COMMIT_PLANNED, input->defenders);
    return input->assign.defender_count > 0;
}

/* Computes the new owner of every chamber into the roster's scratch. */
static bool owners_compute(struct cluster *c, enum commit_kind kind)
{
    struct commit *commit = &c->controller.commit;
    struct plan_input input;
    if (!input_collect(c, kind, &input))
        return false;
    struct assign_result result;
    struct error err;
    int code = assign_compute(&input.assign, &commit->arena, &result, &err);
    if (code) {
        c->failed |= code == ERR_NO_MEMORY;
        trace(c, "no assignment: %s", err.text);
        return false;
    }
    for (size_t i = 0; i < c->roster.count; i++) {
        struct chamber *chamber = &c->roster.items[i];
        commit->dropped += chamber->removed && chamber->owner >= 0;
        if (chamber->removed)
            chamber->owner = -1;
    }
    for (size_t i = 0; i < input.assign.chamber_count; i++)
        c->roster.items[input.places[i]].owner = result.owners[i];
    commit->moved = result.statistics.moved;
    commit->placed = result.statistics.placed;
    commit->moved_least = result.statistics.moved_least;
    commit->heaviest = result.statistics.heaviest;
    return true;
}

/* ---- parts: one a member of the new map ---- */

static bool peer_is_member(const struct cluster *c, enum commit_kind kind, size_t number, const bool *owns)
{
    const struct peer *peer = &c->peers.items[number];
    return (peer->in_map && !peer->removing) || defender_takes_part(c, peer, kind) || owns[number];
}

static bool parts_allocate(struct cluster *c, enum commit_kind kind)
{
    struct commit *commit = &c->controller.commit;
    size_t numbers = c->peers.count;
    size_t *counts = arena_calloc(&commit->arena, numbers, sizeof *counts);
    bool *owns = arena_calloc(&commit->arena, numbers, sizeof *owns);
    commit->parts = arena_calloc(&commit->arena, numbers, sizeof *commit->parts);
    if (counts == NULL || owns == NULL || commit->parts == NULL)
        return false;
    for (size_t i = 0; i < c->roster.count; i++) {
        int32_t owner = c->roster.items[i].owner;
        if (owner < 0)
            continue;
        counts[owner]++;
        owns[owner] = true;
    }
    for (size_t n = 0; n < numbers; n++) {
        if (!peer_is_member(c, kind, n, owns))
            continue;
        struct commit_part *part = &commit->parts[commit->part_count++];
        part->number = (int)n;
        part->chambers = arena_calloc(&commit->arena, counts[n], sizeof *part->chambers);
        if (part->chambers == NULL)
            return false;
    }
    return true;
}

static struct commit_part *part_find(struct commit *commit, int number)
{
    size_t low = 0, high = commit->part_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (commit->parts[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < commit->part_count && commit->parts[low].number == number ? &commit->parts[low] : NULL;
}

static void parts_fill(struct cluster *c)
{
    for (size_t i = 0; i < c->roster.count; i++) {
        const struct chamber *chamber = &c->roster.items[i];
        struct commit_part *part =
            chamber->owner >= 0 ? part_find(&c->controller.commit, chamber->owner) : NULL;
        if (part == NULL)
            continue;
        part->chambers[part->count++] = (uint32_t)i;
        part->weight += chamber->weight;
        part->hash = owned_hash_add(part->hash, chamber->hash);
    }
}

/* Marks the parts whose keys must be written. Returns whether the map changes at all. */
static bool parts_compare(struct cluster *c)
{
    struct commit *commit = &c->controller.commit;
    bool differs = false;
    for (size_t n = 0; n < c->peers.count; n++)
        differs |= c->peers.items[n].removing && c->peers.items[n].in_map;
    for (size_t i = 0; i < commit->part_count; i++) {
        struct commit_part *part = &commit->parts[i];
        const struct peer *peer = &c->peers.items[part->number];
        bool in_force = peer->in_map && peer->to_present && peer->header.assigned == peer->to_version &&
                        peer->header.revision == peer->to_revision;
        part->changed = !in_force || part->hash != peer->owned_hash || part->count != peer->owned_count;
        part->revision = peer->to_revision;
        differs |= part->changed;
    }
    return differs;
}

/* Which of the changed parts hold a chamber that they did not hold before. */
static void parts_find_gains(struct cluster *c)
{
    struct commit *commit = &c->controller.commit;
    for (size_t i = 0; i < commit->part_count; i++)
        commit->parts[i].gained = commit->parts[i].count;
    for (size_t i = 0; i < commit->part_count; i++) {
        struct commit_part *part = &commit->parts[i];
        const struct peer *peer = &c->peers.items[part->number];
        if (!peer_key_counts(c, peer))
            continue;
        for (size_t k = 0; k < peer->owned_count; k++)
            if (c->roster.items[peer->owned[k]].owner == part->number && part->gained > 0)
                part->gained--;
    }
}

static bool parts_make(struct cluster *c, enum commit_kind kind)
{
    if (!parts_allocate(c, kind)) {
        c->failed = true;
        return false;
    }
    parts_fill(c);
    if (!parts_compare(c))
        return false;
    parts_find_gains(c);
    return true;
}

/* ---- writing ---- */

static void commit_reset(struct commit *commit)
{
    free(commit->header);
    struct arena arena = commit->arena;
    arena_reset(&arena);
    *commit = (struct commit){.arena = arena};
}

bool commit_begin(struct cluster *c, enum commit_kind kind, bool cold, const char *what)
{
    struct controller *k = &c->controller;
    struct commit *commit = &k->commit;
    commit_reset(commit);
    commit->kind = kind;
    commit->cold = cold;
    commit->started_ms = c->now_ms;
    commit->phase = COMMIT_WRITING;
    snprintf(commit->what, sizeof commit->what, "%s", what);
    if (kind == COMMIT_STAMP) {
        commit->version = c->header.version;
        commit->phase = COMMIT_HEADER;
        return true;
    }
    commit->few = few_are_heard(c);
    roster_weigh(c);
    owners_collect(c);
    if (!owners_compute(c, kind) || !parts_make(c, kind)) {
        commit_reset(commit);
        return false;
    }
    if (k->highest_version < c->header.version)
        k->highest_version = c->header.version;
    commit->version = ++k->highest_version;
    return true;
}

void commit_abandon(struct cluster *c)
{
    commit_reset(&c->controller.commit);
    for (size_t n = 0; n < c->peers.count; n++)
        c->peers.items[n].removing = false;
}

static void part_write(struct cluster *c, struct commit_part *part)
{
    const struct peer *peer = &c->peers.items[part->number];
    char id[CLUSTER_NAME_BYTES], key[CLUSTER_NAME_BYTES + 4];
    id_format(c, part->number, id);
    snprintf(key, sizeof key, "to.%s", id);
    struct strbuf json;
    strbuf_init(&json);
    strbuf_printf(&json, "{\"version\":%llu,\"chambers\":[",
                  (unsigned long long)c->controller.commit.version);
    for (size_t i = 0; i < part->count; i++) {
        if (i)
            strbuf_add_char(&json, ',');
        strbuf_add_json(&json, c->roster.items[part->chambers[i]].name);
    }
    strbuf_add(&json, "]}");
    c->failed |= json.failed;
    part->request = peer->to_present ? ask_update(c, BUCKET_ASSIGNMENTS, key, json.text, peer->to_revision)
                                     : ask_create(c, BUCKET_ASSIGNMENTS, key, json.text);
    strbuf_free(&json);
}

/* Its key has just been written by this commit. */
static void part_written(struct cluster *c, struct commit_part *part, uint64_t revision)
{
    struct peer *peer = &c->peers.items[part->number];
    uint32_t *owned = malloc((part->count ? part->count : 1) * sizeof *owned);
    if (owned == NULL) {
        c->failed = true;
        return;
    }
    memcpy(owned, part->chambers, part->count * sizeof *owned);
    free(peer->owned);
    peer->owned = owned;
    peer->owned_count = part->count;
    peer->owned_hash = part->hash;
    peer->to_present = peer->to_confirmed = true;
    peer->to_version = c->controller.commit.version;
    peer->to_revision = part->revision = revision;
    part->written = true;
    part->request.token = 0;
}

/* Starts what may be started of those that gain, or of those that only lose. Returns how many are yet to be
 * written. */
static size_t parts_write(struct cluster *c, bool gaining)
{
    struct commit *commit = &c->controller.commit;
    size_t unwritten = 0, in_flight = 0;
    for (size_t i = 0; i < commit->part_count; i++)
        in_flight += commit->parts[i].request.token != 0;
    for (size_t i = 0; i < commit->part_count; i++) {
        struct commit_part *part = &commit->parts[i];
        if (!part->changed || part->written || (part->gained > 0) != gaining)
            continue;
        unwritten++;
        if (request_expire(c, &part->request, c->config.request_ms))
            in_flight--;
        if (part->request.token || c->now_ms < part->retry_ms || in_flight >= CLUSTER_WRITES_IN_FLIGHT)
            continue;
        part_write(c, part);
        in_flight++;
    }
    return unwritten;
}

static void header_add_member(struct strbuf *json, const struct cluster *c,
                              const struct header_member *member, bool first)
{
    char id[CLUSTER_NAME_BYTES];
    id_format(c, member->number, id);
    strbuf_add(json, first ? "{\"id\":" : ",{\"id\":");
    strbuf_add_json(json, id);
    strbuf_printf(json, ",\"assigned\":%llu,\"revision\":%llu,\"count\":%zu,\"weight\":%lld}",
                  (unsigned long long)member->assigned, (unsigned long long)member->revision, member->count,
                  (long long)member->weight);
}

static void header_add_members(struct strbuf *json, const struct cluster *c, const struct commit *commit)
{
    if (commit->kind == COMMIT_STAMP) {
        for (size_t i = 0; i < c->header.member_count; i++)
            header_add_member(json, c, &c->header.members[i], i == 0);
        return;
    }
    for (size_t i = 0; i < commit->part_count; i++) {
        const struct commit_part *part = &commit->parts[i];
        const struct peer *peer = &c->peers.items[part->number];
        struct header_member member = {.number = part->number,
                                       .assigned = part->changed ? commit->version : peer->header.assigned,
                                       .revision = part->revision,
                                       .count = part->count,
                                       .weight = part->weight};
        header_add_member(json, c, &member, i == 0);
    }
}

/* Operators read it: the lifecycle that led to the version. */
static const char *commit_lifecycle(const struct commit *commit)
{
    if (commit->kind == COMMIT_EMERGENCY)
        return cluster_lifecycle_name(LIFECYCLE_EMERGENCY);
    if (commit->kind == COMMIT_PLANNED)
        return cluster_lifecycle_name(commit->cold ? LIFECYCLE_COLD_START : LIFECYCLE_SCALING);
    return cluster_lifecycle_name(LIFECYCLE_STABLE);
}

static bool commit_counts_as_rebalance(const struct commit *commit)
{
    return commit->kind == COMMIT_PLANNED || commit->kind == COMMIT_RELEVEL;
}

static char *header_compose(struct cluster *c)
{
    const struct commit *commit = &c->controller.commit;
    uint64_t rebalances = c->header.rebalances + (commit_counts_as_rebalance(commit) ? 1 : 0);
    uint64_t emergencies = c->header.emergencies + (commit->kind == COMMIT_EMERGENCY ? 1 : 0);
    struct strbuf json;
    strbuf_init(&json);
    strbuf_printf(&json, "{\"version\":%llu,\"token\":%llu,\"lifecycle\":\"%s\",\"leader\":",
                  (unsigned long long)commit->version, (unsigned long long)c->election.token,
                  commit_lifecycle(commit));
    strbuf_add_json(&json, c->member.id);
    strbuf_add(&json, ",\"members\":[");
    header_add_members(&json, c, commit);
    strbuf_printf(&json, "],\"moved\":%zu,\"least\":%zu,\"placed\":%zu,\"heaviest\":", commit->moved,
                  commit->moved_least, commit->placed);
    strbuf_add_json_double(&json, commit->heaviest);
    strbuf_printf(&json, ",\"rebalances\":%llu,\"emergencies\":%llu}", (unsigned long long)rebalances,
                  (unsigned long long)emergencies);
    if (json.failed)
        c->failed = true;
    char *text = strbuf_take(&json);
    strbuf_free(&json);
    return text;
}

static void header_write(struct cluster *c)
{
    struct commit *commit = &c->controller.commit;
    request_expire(c, &commit->request, c->config.request_ms);
    if (commit->request.token || c->now_ms < commit->retry_ms)
        return;
    if (commit->header == NULL)
        commit->header = header_compose(c);
    if (commit->header == NULL)
        return;
    commit->request = c->header.present
                          ? ask_update(c, BUCKET_ASSIGNMENTS, "map", commit->header, c->header.revision)
                          : ask_create(c, BUCKET_ASSIGNMENTS, "map", commit->header);
    if (PLANTED(PLANT_NO_CAS))
        c->actions->items[c->actions->count - 1].kind = ACTION_KV_PUT;
}

void commit_continue(struct cluster *c)
{
    struct commit *commit = &c->controller.commit;
    if (commit->phase == COMMIT_WRITING) {
        size_t unwritten = parts_write(c, true);
        if (unwritten == 0)
            unwritten = parts_write(c, false);
        if (unwritten == 0)
            commit->phase = COMMIT_HEADER;
    }
    if (commit->phase == COMMIT_HEADER)
        header_write(c);
}

/* ---- outcomes ---- */

static void part_on_done(struct cluster *c, struct commit_part *part, const struct cluster_event *event)
{
    part->request.token = 0;
    if (event->code == 0 && event->revision >= c->peers.items[part->number].to_revision)
        part_written(c, part, event->revision);
    else
        part->retry_ms = c->now_ms + CLUSTER_RETRY_MS;
}

bool commit_on_done(struct cluster *c, const struct cluster_event *event)
{
    struct commit *commit = &c->controller.commit;
    for (size_t i = 0; i < commit->part_count; i++) {
        if (!request_is(&commit->parts[i].request, event))
            continue;
        part_on_done(c, &commit->parts[i], event);
        return true;
    }
    if (!request_is(&commit->request, event))
        return false;
    commit->request.token = 0;
    commit->retry_ms = c->now_ms + CLUSTER_RETRY_MS; /* by then the watch has told what stands there */
    if (event->code == 0) {
        char *header = commit->header;
        commit->header = NULL; /* it ends with the commit */
        holder_on_header(c, header, strlen(header), event->revision);
        free(header);
    }
    return true;
}

void commit_on_to(struct cluster *c, int number)
{
    struct commit *commit = &c->controller.commit;
    struct commit_part *part =
        commit->phase == COMMIT_WRITING || commit->phase == COMMIT_HEADER ? part_find(commit, number) : NULL;
    if (part == NULL || !part->changed)
        return;
    const struct peer *peer = &c->peers.items[number];
    part->written = peer->to_present && peer->to_version == commit->version &&
                    peer->owned_hash == part->hash && peer->owned_count == part->count;
    part->revision = peer->to_revision;
    if (part->written) {
        part->request.token = 0;
        return;
    }
    commit->phase = COMMIT_WRITING; /* written over by one that led before: once more */
    free(commit->header);
    commit->header = NULL;
}

static void commit_trace(struct cluster *c)
{
    const struct commit *commit = &c->controller.commit;
    unsigned long long version = commit->version;
    if (commit->kind == COMMIT_STAMP)
        trace(c, "map version %llu is under token %llu", version, (unsigned long long)c->election.token);
    else if (commit->kind == COMMIT_PLACE)
        trace(c, "%s: %zu chambers placed, %zu dropped, version %llu", commit->what,
              commit->placed + commit->moved, commit->dropped, version);
    else
        trace(c, "%s: %zu chambers moved, %zu placed, %zu members, version %llu", commit->what, commit->moved,
              commit->placed, commit->part_count, version);
}

/* Takes away what is left of a member that is no longer in the map. */
static void peer_bury(struct cluster *c, struct peer *peer, int number)
{
    char id[CLUSTER_NAME_BYTES], key[CLUSTER_NAME_BYTES + 4];
    id_format(c, number, id);
    snprintf(key, sizeof key, "to.%s", id);
    if (peer->to_present)
        ask_delete(c, BUCKET_ASSIGNMENTS, key, peer->to_revision);
    if (peer->dead && peer->dead_claim)
        ask_delete(c, BUCKET_STABLE_IDS, id, peer->dead_claim);
    if (peer->dead)
        peer->claimed = false;
    peer->leaving &= !peer->dead; /* one that still drains must not count as a newcomer */
    peer->dead = peer->fenced = false;
    peer->dead_claim = 0;
    peer->heard = false;
    peer->fence.token = 0;
}

static void roster_settle(struct cluster *c)
{
    struct roster *roster = &c->roster;
    bool unplaced = false;
    for (size_t i = 0; i < roster->count; i++) {
        struct chamber *chamber = &roster->items[i];
        chamber->placed = chamber->owner >= 0;
        unplaced |= chamber->placed ? chamber->removed : chamber->listed;
    }
    if (!unplaced)
        roster->changed = false;
}

static void commit_finish(struct cluster *c)
{
    struct controller *k = &c->controller;
    struct commit *commit = &k->commit;
    commit_trace(c);
    if (commit->kind != COMMIT_STAMP) {
        roster_settle(c);
        for (size_t n = 0; n < c->peers.count; n++)
            if (c->peers.items[n].removing)
                peer_bury(c, &c->peers.items[n], (int)n);
        k->settled = false;
        k->committed_ms = c->now_ms;
    }
    k->rebalances += commit_counts_as_rebalance(commit) ? 1 : 0;
    k->emergencies += commit->kind == COMMIT_EMERGENCY ? 1 : 0;
    k->moved += commit->moved;
    bool stamp = commit->kind == COMMIT_STAMP;
    commit_abandon(c);
    if (stamp)
        controller_on_stamped(c);
}

void commit_on_header(struct cluster *c)
{
    struct commit *commit = &c->controller.commit;
    if (commit->kind == COMMIT_STAMP && commit->phase == COMMIT_HEADER &&
        c->header.token != c->election.token) {
        /* What one that led before had sent has arrived first: the stamp goes on that. */
        commit->version = c->header.version;
        commit->request.token = 0;
        free(commit->header);
        commit->header = NULL;
    }
    if (commit->phase == COMMIT_HEADER && c->header.present && c->header.token == c->election.token &&
        c->header.version == commit->version)
        commit_finish(c);
}
