/* The leader's judgement: when is the assignment to change, and for whom?
 *
 *     STABLE ─┬─ joined, leaves ──────► SCALING ────┬─ quiet, complete, time is up ─► REBALANCING
 *             ├─ start, restart ──────► COLD_START ─┘
 *             └─ a member is dead ────► EMERGENCY: fence it, its chambers to the others
 *
 * The lifecycle is not stored: it follows from who is in the map, who is alive, whether a window is open and
 * a commit under way. So a new leader comes to the same judgement from the buckets, and what happens during a
 * commit is seen after it. */
#include "cluster/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONTROLLER_FENCE_RETRY_MS = 500,
    CONTROLLER_FENCE_PATIENCE_MS = 250 /* for those that died a moment later */
};

/* An imbalance from changed weights is worth moving chambers when it is this much beyond the bound. */
#define CONTROLLER_DRIFT 1.05

void controller_start(struct cluster *c)
{
    struct controller *k = &c->controller;
    commit_abandon(c);
    struct commit commit = k->commit;
    *k = (struct controller){
        .running = true, .trusted_ms = k->trusted_ms, .started_ms = c->now_ms, .commit = commit};
    k->changed_ms = c->now_ms;
    k->next_reweigh_ms = c->now_ms + c->config.reweigh_ms;
    k->next_orphans_ms = c->now_ms + c->config.orphan_scan_ms;
    peers_clear(c);
    roster_clear(c);
    watch_begin(c, WATCH_CLAIMS, BUCKET_STABLE_IDS, ">");
    listen_begin(c);
    watch_begin(c, WATCH_TO_ALL, BUCKET_ASSIGNMENTS, "to.>");
    watch_begin(c, WATCH_ROSTER, BUCKET_CHAMBERS, ">");
    controller_on_header(c);
}

void controller_stop(struct cluster *c)
{
    struct controller *k = &c->controller;
    if (!k->running)
        return;
    commit_abandon(c);
    k->running = k->loaded = k->stamped = k->window_open = false;
    watch_end(c, WATCH_TO_ALL);
    watch_end(c, WATCH_ROSTER);
    watch_end(c, WATCH_CLAIMS);
    listen_end(c);
    peers_clear(c);
    roster_clear(c);
}

void controller_note_change(struct cluster *c)
{
    c->controller.changed_ms = c->now_ms;
}

/* ---- what is known ---- */

void controller_on_connected(struct cluster *c)
{
    struct controller *k = &c->controller;
    k->trusted_ms = c->now_ms + c->config.grace_ms;
    k->orphans.token = 0;
    k->loaded = false; /* until all watches have told what there is now */
}

void controller_on_header(struct cluster *c)
{
    struct controller *k = &c->controller;
    for (size_t n = 0; n < c->peers.count; n++)
        c->peers.items[n].in_map = false;
    for (size_t i = 0; i < c->header.member_count; i++) {
        struct peer *peer = peers_get(c, c->header.members[i].number);
        if (peer == NULL)
            return;
        peer->in_map = true;
        peer->header = c->header.members[i];
        if (!peer->heard && peer->heard_ms == 0)
            peer->heard_ms = c->now_ms;
    }
    if (c->header.token > c->election.token) {
        election_step_down(c, "the map is under a higher token");
        return;
    }
    commit_on_header(c);
    if (k->stamped && (!c->header.present || c->header.token != c->election.token)) {
        trace(c, "map version %llu is under another token: stamping it anew",
              (unsigned long long)c->header.version);
        commit_abandon(c);
        k->stamped = false;
    }
}

static bool owned_take(struct cluster *c, struct peer *peer, const struct held_set *set)
{
    uint32_t *owned = malloc((set->count ? set->count : 1) * sizeof *owned);
    if (owned == NULL)
        return false;
    free(peer->owned);
    peer->owned = owned;
    peer->owned_count = 0;
    peer->owned_hash = 0;
    for (size_t i = 0; i < set->count; i++) {
        int64_t place = roster_place(c, set->chambers[i]);
        if (place < 0)
            continue;
        struct chamber *chamber = &c->roster.items[place];
        chamber->placed = true;
        owned[peer->owned_count++] = (uint32_t)place;
        peer->owned_hash = owned_hash_add(peer->owned_hash, chamber->hash);
    }
    return true;
}

void controller_on_to(struct cluster *c, int number, const char *value, size_t length, uint64_t revision)
{
    struct peer *peer = peers_get(c, number);
    if (peer == NULL || revision < peer->to_revision)
        return;
    peer->to_confirmed = true;
    if (revision == peer->to_revision)
        return;
    struct held_set set = {0};
    struct error err;
    int code = value ? to_parse(value, length, &set, &err) : 0;
    if (code)
        trace(c, "assignment of %s-%d not readable: %.120s", c->role, number, err.text);
    if (code == ERR_NO_MEMORY || !owned_take(c, peer, &set))
        c->failed = true;
    peer->to_present = value != NULL;
    peer->to_version = set.version;
    peer->to_revision = revision;
    if (c->controller.highest_version < set.version)
        c->controller.highest_version = set.version;
    held_set_free(&set);
    commit_on_to(c, number);
}

static void controller_drop_unconfirmed(struct cluster *c)
{
    for (size_t n = 0; n < c->peers.count; n++) {
        struct peer *peer = &c->peers.items[n];
        if (peer->to_confirmed || !peer->to_present)
            continue;
        peer->to_present = false;
        peer->to_version = peer->to_revision = 0;
        peer->owned_count = 0;
        peer->owned_hash = 0;
    }
}

void controller_on_current(struct cluster *c, enum watch_kind kind)
{
    if (kind == WATCH_TO_ALL)
        controller_drop_unconfirmed(c);
}

static bool peer_is_there(const struct peer *peer)
{
    return peer->heard && !peer->dead && !peer->released && (peer->claimed || peer->in_map);
}

static struct census controller_count(const struct cluster *c)
{
    struct census census = {0};
    for (size_t n = 0; n < c->peers.count; n++) {
        const struct peer *peer = &c->peers.items[n];
        bool there = peer_is_there(peer) && !peer->leaving;
        census.alive += there;
        census.joined += there && !peer->in_map && peer->claimed;
        census.differing += peer_is_begun(c, peer);
        if (!peer->in_map)
            continue;
        census.leaving += peer->leaving && !peer->released && !peer->dead;
        census.left += peer->released && !peer->dead;
        census.dead += peer->dead;
        census.silent += !peer->released && !peer->dead && peer->probe.sent_ms != 0;
        census.undecided += !peer->heard && !peer->released && !peer->dead;
        census.differing += !peer->to_present || peer->to_version != peer->header.assigned ||
                            peer->to_revision != peer->header.revision;
    }
    return census;
}

size_t controller_count_alive(const struct cluster *c)
{
    return c->controller.running ? (size_t)c->controller.census.alive : 0;
}

enum cluster_lifecycle controller_lifecycle(const struct cluster *c)
{
    const struct controller *k = &c->controller;
    if (!k->stamped)
        return LIFECYCLE_STABLE;
    if (k->commit.phase != COMMIT_IDLE)
        return k->commit.kind == COMMIT_EMERGENCY ? LIFECYCLE_EMERGENCY : LIFECYCLE_REBALANCING;
    if (k->window_open && k->window_cold)
        return LIFECYCLE_COLD_START;
    if (k->census.dead > 0)
        return LIFECYCLE_EMERGENCY;
    return k->window_open ? LIFECYCLE_SCALING : LIFECYCLE_STABLE;
}

/* ---- beginning to lead ---- */

static void controller_open(struct cluster *c, bool cold, const char *why)
{
    struct controller *k = &c->controller;
    k->window_open = true;
    k->window_cold = cold;
    k->opened_ms = c->now_ms;
    trace(c, "%s: %s, up to %.1f s for others to come or go", cold ? "cold start" : "scaling", why,
          (double)(cold ? c->config.cold_window_ms : c->config.scale_window_ms) / 1000);
}

static void controller_load(struct cluster *c)
{
    struct controller *k = &c->controller;
    if (k->loaded || !c->watches[WATCH_CLAIMS].current || !c->watches[WATCH_TO_ALL].current ||
        !c->watches[WATCH_ROSTER].current || !c->watches[WATCH_MAP].current)
        return;
    k->loaded = true;
    if (k->asked_predecessor)
        return;
    k->asked_predecessor = true;
    int predecessor = c->election.predecessor;
    struct peer *peer =
        predecessor >= 0 && predecessor != c->member.number ? peers_get(c, predecessor) : NULL;
    /* Its lease ran out: ask at once, and believe it when nobody listens there. Otherwise only silence counts
     * from now on: a store that stalls keeps the living from renewing, too. */
    if (peer && (peer->in_map || peer->claimed))
        peer->heard_ms = c->now_ms - c->config.probe_after_ms - c->config.confirm_ms;
}

void controller_on_stamped(struct cluster *c)
{
    c->controller.stamped = true;
    c->controller.changed_ms = c->now_ms;
}

/* What kind of beginning is this? Whether everything restarts shows after a heartbeat; that it does not, as
 * soon as enough are heard. */
static bool controller_classify(struct cluster *c)
{
    struct controller *k = &c->controller;
    size_t known = c->header.member_count;
    char why[CLUSTER_TRACE_BYTES];
    if (k->classified)
        return true;
    bool large = c->header.version > 0 && known >= (size_t)c->config.restart_known;
    bool few = k->census.alive < c->config.restart_alive;
    if (large && few && c->now_ms - k->started_ms < c->config.heartbeat_ms * 5 / 4)
        return false;
    k->classified = true;
    snprintf(why, sizeof why, "restart, the map knows %zu, %d are alive", known, k->census.alive);
    if (c->header.version == 0)
        controller_open(c, true, "no assignment yet");
    else if (large && few)
        controller_open(c, true, why);
    k->restarts += c->header.version > 0 && large && few;
    return true;
}

/* ---- deciding ---- */

/* Fences all that `leaves` marks by `removing`. Returns whether everything that can be waited for is there.
 */
static bool controller_fence(struct cluster *c)
{
    struct controller *k = &c->controller;
    int fenced = 0, pending = 0;
    for (size_t n = 0; n < c->peers.count; n++) {
        struct peer *peer = &c->peers.items[n];
        if (!peer->removing)
            continue;
        peer->fenced |= PLANTED(PLANT_NO_FENCE);
        fenced += peer->fenced;
        pending += !peer->fenced;
        if (peer->fenced ||
            (peer->fence.token && c->now_ms - peer->fence.sent_ms < CONTROLLER_FENCE_RETRY_MS))
            continue;
        char id[CLUSTER_NAME_BYTES];
        id_format(c, (int)n, id);
        if (peer->fence.token == 0)
            trace(c, "%s: taking its consumer away", id);
        peer->fence = ask(c, ACTION_FENCE, id);
    }
    return pending == 0 || (fenced > 0 && c->now_ms - k->fenced_ms >= CONTROLLER_FENCE_PATIENCE_MS);
}

/* Those not fenced yet stay in the map for now. */
static void controller_keep_unfenced(struct cluster *c)
{
    for (size_t n = 0; n < c->peers.count; n++)
        c->peers.items[n].removing &= c->peers.items[n].fenced;
}

bool controller_on_fenced(struct cluster *c, const struct cluster_event *event)
{
    for (size_t n = 0; n < c->peers.count; n++) {
        struct peer *peer = &c->peers.items[n];
        if (!request_is(&peer->fence, event))
            continue;
        if (event->code == 0) {
            peer->fence.token = 0;
            peer->fenced = true;
            if (c->controller.fenced_ms == 0)
                c->controller.fenced_ms = c->now_ms;
        }
        return true;
    }
    return false;
}

static void controller_mark(struct cluster *c, bool dead, bool left, bool leaving)
{
    for (size_t n = 0; n < c->peers.count; n++) {
        struct peer *peer = &c->peers.items[n];
        bool gone = (dead && peer->dead) || (left && peer->released && !peer->dead) ||
                    (leaving && peer->leaving && !peer->dead);
        peer->removing = peer->in_map && gone;
    }
}

/* Returns whether a commit has begun. */
static bool controller_begin(struct cluster *c, enum commit_kind kind, bool cold, const char *what)
{
    c->controller.fenced_ms = 0;
    bool begun = commit_begin(c, kind, cold, what);
    if (!begun)
        commit_abandon(c);
    return begun;
}

static bool controller_rescue(struct cluster *c)
{
    controller_mark(c, true, false, false);
    if (!controller_fence(c))
        return false;
    controller_keep_unfenced(c);
    char what[CLUSTER_TRACE_BYTES] = "emergency";
    size_t used = strlen(what), dead = 0;
    for (size_t n = 0; n < c->peers.count; n++) {
        if (!c->peers.items[n].removing || ++dead > 4 || used >= sizeof what - 40)
            continue;
        used +=
            (size_t)snprintf(what + used, sizeof what - used, "%s %s-%zu", dead > 1 ? "," : ",", c->role, n);
    }
    if (dead > 4)
        snprintf(what + used, sizeof what - used, " and %zu more", dead - 4);
    return controller_begin(c, COMMIT_EMERGENCY, false, what);
}

/* Why the window closes now, or NULL. */
static const char *controller_closes(const struct cluster *c, const struct census *census)
{
    const struct controller *k = &c->controller;
    int64_t open_ms = c->now_ms - k->opened_ms, quiet_ms = c->now_ms - k->changed_ms;
    int expected = c->config.expected_members;
    if (open_ms >= (k->window_cold ? c->config.cold_window_ms : c->config.scale_window_ms))
        return "time is up";
    if (census->leaving > 0 && open_ms < c->config.scale_window_ms)
        return NULL; /* it finishes what it has begun, and another may take its ID over */
    if (census->silent > 0)
        return NULL; /* would it be dead, its chambers had to move right after */
    if (k->window_cold && census->undecided > 0 && census->alive != expected)
        return NULL; /* back, or dead: soon known */
    if (expected > 0 && census->alive == expected && quiet_ms >= c->config.roster_settle_ms &&
        open_ms >= c->config.roster_settle_ms)
        return "all expected are there";
    /* Fewer than expected are waited for while some come; who has left for good leaves chambers that nobody
     * serves. */
    bool complete = census->alive >= expected || (!k->window_cold && census->joined == 0 && census->left > 0);
    if (quiet_ms >= c->config.quiet_ms && complete)
        return "quiet";
    return NULL;
}

static bool controller_scale(struct cluster *c, const struct census *census)
{
    struct controller *k = &c->controller;
    const char *why = controller_closes(c, census);
    if (why == NULL)
        return false;
    /* Those that still finish what they had begun have had their time. */
    bool up = c->now_ms - k->opened_ms >= c->config.scale_window_ms;
    controller_mark(c, k->window_cold, true, up);
    if (!controller_fence(c))
        return false;
    controller_keep_unfenced(c);
    bool cold = k->window_cold;
    k->window_open = k->window_cold = false;
    char what[CLUSTER_TRACE_BYTES];
    snprintf(what, sizeof what, "%s (%s): %d joined, %d left", cold ? "cold start" : "rebalance", why,
             census->joined, census->left + (up ? census->leaving : 0));
    trace(c, "%s", what);
    bool begun = controller_begin(c, COMMIT_PLANNED, cold, cold ? "cold start" : "rebalance");
    if (!begun)
        trace(c, "nothing to move");
    return begun;
}

static bool controller_weights_drifted(const struct cluster *c)
{
    int64_t total = 0, heaviest = 0, members = 0;
    for (size_t n = 0; n < c->peers.count; n++) {
        const struct peer *peer = &c->peers.items[n];
        if (!peer->in_map || peer->claim.share > 0)
            continue;
        int64_t weight = 0;
        for (size_t i = 0; i < peer->owned_count; i++)
            weight += c->roster.items[peer->owned[i]].weight;
        members++;
        total += weight;
        if (weight > heaviest)
            heaviest = weight;
    }
    double mean = members ? (double)total / (double)members : 0;
    return (double)heaviest > mean * c->config.balance_max * CONTROLLER_DRIFT;
}

static bool controller_reweigh(struct cluster *c)
{
    struct controller *k = &c->controller;
    if (!c->roster.reweighed || c->now_ms < k->next_reweigh_ms)
        return false;
    c->roster.reweighed = false;
    k->next_reweigh_ms = c->now_ms + c->config.reweigh_ms;
    roster_weigh(c);
    return controller_weights_drifted(c) &&
           controller_begin(c, COMMIT_RELEVEL, false, "weights have changed");
}

/* A newcomer that died before it was given anything: only its claim is in the way. */
static void controller_clear_newcomers(struct cluster *c)
{
    for (size_t n = 0; n < c->peers.count; n++) {
        struct peer *peer = &c->peers.items[n];
        if (!peer->dead || peer->in_map)
            continue;
        char id[CLUSTER_NAME_BYTES];
        id_format(c, (int)n, id);
        if (peer->dead_claim)
            ask_delete(c, BUCKET_STABLE_IDS, id, peer->dead_claim);
        peer->dead = peer->claimed = peer->heard = false;
        peer->dead_claim = 0;
    }
}

static bool controller_decide_window(struct cluster *c, const struct census *census)
{
    struct controller *k = &c->controller;
    bool pending = census->joined > 0 || census->left > 0 || census->leaving > 0;
    if (!k->window_open && pending) {
        char why[CLUSTER_TRACE_BYTES];
        snprintf(why, sizeof why, "%d joined, %d leaving, %d left", census->joined, census->leaving,
                 census->left);
        controller_open(c, false, why);
    } else if (k->window_open && !k->window_cold && !pending) {
        k->window_open = false;
        trace(c, "scaling: as before, nothing to move");
    }
    return k->window_open && controller_scale(c, census);
}

static void controller_decide(struct cluster *c)
{
    struct controller *k = &c->controller;
    const struct census census = k->census;
    bool cold = k->window_open && k->window_cold;
    controller_clear_newcomers(c);
    if (census.dead > 0 && !cold && controller_rescue(c))
        return;
    if (controller_decide_window(c, &census))
        return;
    if (cold)
        return;
    controller_mark(c, false, false, false);
    if (c->roster.changed && c->now_ms - c->roster.changed_ms >= c->config.roster_settle_ms &&
        controller_begin(c, COMMIT_PLACE, false, "roster"))
        return;
    if (census.differing > 0 && controller_begin(c, COMMIT_PLACE, false, "keys that differ from the map"))
        return;
    controller_reweigh(c);
}

/* How long it took until everybody's consumer was as the map says. */
static void controller_watch_settling(struct cluster *c)
{
    struct controller *k = &c->controller;
    if (k->settled || k->committed_ms == 0)
        return;
    size_t members = 0;
    for (size_t n = 0; n < c->peers.count; n++) {
        const struct peer *peer = &c->peers.items[n];
        if (!peer->in_map)
            continue;
        uint64_t in_force = (int)n == c->member.number ? c->member.filters_in_force : peer->in_force;
        if (in_force != peer->header.assigned)
            return;
        members++;
    }
    k->settled = true;
    trace(c, "version %llu is in force at all %zu members after %lld ms",
          (unsigned long long)c->header.version, members, (long long)(c->now_ms - k->committed_ms));
}

static void controller_scan_orphans(struct cluster *c)
{
    struct controller *k = &c->controller;
    request_expire(c, &k->orphans, c->config.request_ms);
    if (k->orphans.token || c->now_ms < k->next_orphans_ms)
        return;
    k->next_orphans_ms = c->now_ms + c->config.orphan_scan_ms;
    k->orphans = ask(c, ACTION_LIST_SUBJECTS, NULL);
}

bool controller_on_subjects(struct cluster *c, const struct cluster_event *event)
{
    if (!request_is(&c->controller.orphans, event))
        return false;
    c->controller.orphans.token = 0;
    if (event->code == 0 && election_acts(c))
        roster_on_subjects(c, event);
    return true;
}

void controller_tick(struct cluster *c)
{
    struct controller *k = &c->controller;
    if (!k->running)
        return;
    controller_load(c);
    if (!k->loaded || !election_acts(c))
        return;
    if (!k->stamped && k->commit.phase == COMMIT_IDLE)
        commit_begin(c, COMMIT_STAMP, false, "stamp");
    bool stamped = k->stamped;
    commit_continue(c);
    if (!stamped || c->now_ms < k->next_pass_ms)
        return;
    k->next_pass_ms = c->now_ms + CLUSTER_PASS_MS;
    peers_watch(c);
    controller_scan_orphans(c);
    controller_watch_settling(c);
    k->census = controller_count(c);
    if (k->commit.phase == COMMIT_IDLE && controller_classify(c))
        controller_decide(c);
    commit_continue(c);
}

int64_t controller_due_ms(const struct cluster *c)
{
    const struct controller *k = &c->controller;
    if (!k->running || !c->connected)
        return c->now_ms + CLUSTER_IDLE_MS;
    return k->stamped && k->next_pass_ms > c->now_ms ? k->next_pass_ms : c->now_ms + CLUSTER_PASS_MS;
}
