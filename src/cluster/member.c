/* A stable ID: found, claimed, kept, handed over.
 *
 *     LOOKING ──► CLAIMING ──► HOLDING ──► RELEASING ──► GONE
 *        ▲           │  ▲         │
 *        │           ▼  │         │ lost: another has the number, or this process was fenced
 *        │         STANDBY        │
 *        └────────────────────────┘ (as a new incarnation)
 *
 * A claim is created, never put, and kept by compare-and-set on its revision, so that two can never both
 * believe the server has given it to them. */
#include "cluster/machine.h"

#include "base/hash.h"

#include <stdio.h>
#include <string.h>

enum { MEMBER_TRIES = 3 };

static int64_t member_limit_ms(const struct cluster *c)
{
    int64_t third = c->config.id_ttl_ms / 3;
    return third < c->config.request_ms ? third : c->config.request_ms;
}

bool member_holds(const struct cluster *c)
{
    return c->member.phase == MEMBER_HOLDING;
}

bool member_is_certain(const struct cluster *c)
{
    if (PLANTED(PLANT_DEAF))
        return member_holds(c);
    const struct member *m = &c->member;
    /* While NATS was away a leader may have taken the ID, and another may have it: only a renewal since
     * tells. */
    bool renewed = m->renewed_ms >= m->doubted_ms && c->now_ms - m->renewed_ms <= c->config.id_ttl_ms;
    return member_holds(c) && (!c->connected || renewed);
}

bool member_inherits(const struct cluster *c)
{
    return c->config.predecessor != 0 && c->member.lives == 0;
}

void member_start(struct cluster *c)
{
    c->member = (struct member){.number = -1, .incarnation = c->config.incarnation};
}

/* ---- looking ---- */

static void member_look(struct cluster *c)
{
    struct member *m = &c->member;
    m->phase = MEMBER_LOOKING;
    m->number = -1;
    m->id[0] = '\0';
    m->why[0] = '\0';
    m->losses = 0;
    m->in_doubt = false;
    m->request.token = 0;
    m->retry_ms = c->now_ms;
    watch_begin(c, WATCH_CLAIMS, BUCKET_STABLE_IDS, ">");
    watch_begin(c, WATCH_MAP, BUCKET_ASSIGNMENTS, "map");
    listen_begin(c);
}

static struct claim member_claim_text(const struct cluster *c)
{
    struct claim claim = {.incarnation = c->member.incarnation, .share = c->config.share};
    memcpy(claim.version, c->version, sizeof claim.version);
    memcpy(claim.group, c->group, sizeof claim.group);
    return claim;
}

/* Writes the claim of the ID in `member`; revision 0 creates it. */
static void member_write(struct cluster *c, enum member_question question, uint64_t revision)
{
    struct member *m = &c->member;
    struct claim claim = member_claim_text(c);
    struct strbuf json;
    strbuf_init(&json);
    if (!claim_format(&claim, &json))
        c->failed = true;
    m->question = question;
    m->asked_revision = m->revision;
    m->request = revision ? ask_update(c, BUCKET_STABLE_IDS, m->id, json.text, revision)
                          : ask_create(c, BUCKET_STABLE_IDS, m->id, json.text);
    strbuf_free(&json);
}

/* Whether a create may succeed: nobody holds the number as far as is known. */
static bool number_is_free(const struct cluster *c, int number)
{
    if (PLANTED(PLANT_EARLY_CLAIM))
        return true;
    if ((size_t)number >= c->peers.count)
        return true;
    const struct peer *peer = &c->peers.items[number];
    if (peer->claimed)
        return peer_is_stale(c, peer);
    /* A claim can run out while its holder lives and cannot write: a number that is heard is not free. */
    return peer->released || !peer->heard || c->now_ms - peer->heard_ms > c->config.id_ttl_ms;
}

static int lowest_free(const struct cluster *c)
{
    for (int number = 0; number < c->config.pool; number++)
        if (number_is_free(c, number))
            return number;
    return -1;
}

/* A number of this group that was given back before anything was ever assigned. */
static int lowest_given_back(const struct cluster *c)
{
    for (size_t number = 0; number < c->peers.count; number++) {
        const struct peer *peer = &c->peers.items[number];
        if (peer->released && peer->claim.incarnation != 0 && strcmp(peer->claim.group, c->group) == 0)
            return (int)number;
    }
    return -1;
}

/* A number that owns chambers by the map and that nobody of another group holds or held: who takes it changes
 * nothing. */
static int lowest_vacant(const struct cluster *c)
{
    if (c->header.member_count == 0)
        return lowest_given_back(c);
    for (size_t i = 0; i < c->header.member_count; i++) {
        int number = c->header.members[i].number;
        if (!number_is_free(c, number))
            continue;
        const struct peer *peer = (size_t)number < c->peers.count ? &c->peers.items[number] : NULL;
        if (peer == NULL || peer->claim.incarnation == 0 || strcmp(peer->claim.group, c->group) == 0)
            return number;
    }
    return -1;
}

/* The number that the ended predecessor still holds; -1: none. */
static int predecessor_number(const struct cluster *c)
{
    for (size_t i = 0; c->config.predecessor && i < c->peers.count; i++)
        if (c->peers.items[i].claimed && c->peers.items[i].claim.incarnation == c->config.predecessor)
            return (int)i;
    return -1;
}

/* Says in `why` what there is to wait for; false: nothing. */
static bool member_must_wait(const struct cluster *c, char why[static CLUSTER_TRACE_BYTES])
{
    int held = 0;
    for (size_t i = 0; i < c->peers.count; i++) {
        const struct peer *peer = &c->peers.items[i];
        if (!peer->claimed || peer_is_stale(c, peer))
            continue;
        held++;
        if (peer->claim.incarnation == 0 || strcmp(peer->claim.group, c->group) != 0 ||
            strcmp(peer->claim.version, c->version) == 0)
            continue;
        snprintf(why, CLUSTER_TRACE_BYTES, "version %s still runs", peer->claim.version);
        return true;
    }
    if (c->config.expected_members > 0 && held >= c->config.expected_members) {
        snprintf(why, CLUSTER_TRACE_BYTES, "all %d expected are there", c->config.expected_members);
        return true;
    }
    if (held >= c->config.pool) {
        snprintf(why, CLUSTER_TRACE_BYTES, "all %d IDs are taken", c->config.pool);
        return true;
    }
    return false;
}

static void member_stand_by(struct cluster *c, const char *why)
{
    struct member *m = &c->member;
    if (m->phase != MEMBER_STANDBY || strcmp(m->why, why) != 0)
        trace(c, "standing by: %s", why);
    m->phase = MEMBER_STANDBY;
    snprintf(m->why, sizeof m->why, "%s", why);
}

static void member_ask_for(struct cluster *c, int number)
{
    struct member *m = &c->member;
    m->phase = MEMBER_CLAIMING;
    m->number = number;
    id_format(c, number, m->id);
    const struct peer *peer = peers_get(c, number);
    m->seen_revision = peer ? peer->claim_revision : 0;
    trace(c, "claim %s", m->id);
    member_write(c, CLAIM_CREATE, 0);
}

/* The number of a process that is known to have ended, and whose claim still stands: -1, none. */
static int inherited_number(const struct cluster *c)
{
    for (size_t i = 0; member_inherits(c) && i < c->peers.count; i++)
        if (c->peers.items[i].claimed && c->peers.items[i].claim.incarnation == c->config.predecessor)
            return (int)i;
    return -1;
}

static void member_inherit(struct cluster *c, int number)
{
    struct member *m = &c->member;
    m->phase = MEMBER_CLAIMING;
    m->number = number;
    id_format(c, number, m->id);
    m->inheriting = true;
    m->seen_revision = c->peers.items[number].claim_revision;
    trace(c, "claim %s: from the process that this one replaces", m->id);
    member_write(c, CLAIM_TAKE_OVER, m->seen_revision);
}

static void member_seek(struct cluster *c)
{
    struct member *m = &c->member;
    if (!m->news && c->now_ms < m->next_look_ms)
        return;
    if (m->stopping || !c->connected || m->request.token || c->now_ms < m->retry_ms ||
        !c->watches[WATCH_CLAIMS].current || !c->watches[WATCH_MAP].current)
        return;
    m->news = false;
    m->next_look_ms = c->now_ms + CLUSTER_IDLE_MS;
    int inherited = inherited_number(c);
    if (inherited >= 0) {
        member_inherit(c, inherited);
        return;
    }
    char why[CLUSTER_TRACE_BYTES];
    bool wait = member_must_wait(c, why);
    int number = predecessor_number(c);
    if (number < 0)
        number = wait ? lowest_vacant(c) : lowest_free(c);
    if (number >= 0)
        member_ask_for(c, number);
    else
        member_stand_by(c, wait ? why : "no ID is free");
}

/* ---- holding ---- */

static void member_hold(struct cluster *c, uint64_t revision, int64_t sent_ms)
{
    struct member *m = &c->member;
    m->phase = MEMBER_HOLDING;
    m->revision = m->seen_revision = revision;
    m->renewed_ms = sent_ms;
    m->next_renewal_ms = sent_ms + c->config.id_ttl_ms / 3;
    m->next_beat_ms = c->now_ms;
    m->request.token = 0;
    m->losses = 0;
    m->in_doubt = false;
    m->filters_in_force = 0;
    trace(c, "claim %s: held", m->id);
    watch_end(c, WATCH_CLAIMS);
    listen_end(c);
    peers_clear(c);
    watch_begin(c, WATCH_CLAIM, BUCKET_STABLE_IDS, m->id);
    holder_start(c);
    election_start(c);
}

static void member_gone(struct cluster *c)
{
    trace(c, "stopped");
    c->member.phase = MEMBER_GONE;
    c->member.number = -1;
    c->member.id[0] = '\0';
    for (int kind = 0; kind < WATCH_COUNT; kind++)
        watch_end(c, (enum watch_kind)kind);
    listen_end(c);
}

static void member_lose(struct cluster *c, const char *why)
{
    if (PLANTED(PLANT_DEAF))
        return;
    struct member *m = &c->member;
    trace(c, "%s is lost: %s", m->id, why);
    holder_stop(c);
    election_stop(c);
    watch_end(c, WATCH_CLAIM);
    watch_end(c, WATCH_TO);
    watch_end(c, WATCH_LEASE);
    uint64_t life[2] = {c->config.incarnation, ++m->lives};
    m->incarnation = hash64(life, sizeof life) | 1;
    if (m->stopping)
        member_gone(c);
    else
        member_look(c);
}

static void member_renewed(struct cluster *c, uint64_t revision, int64_t sent_ms)
{
    struct member *m = &c->member;
    m->revision = revision;
    m->renewed_ms = sent_ms;
    m->in_doubt = false;
    m->losses = 0;
    m->next_renewal_ms = sent_ms + c->config.id_ttl_ms / 3;
    holder_evaluate(c);
}

static void member_renew(struct cluster *c)
{
    struct member *m = &c->member;
    if (m->question == CLAIM_RECREATE && m->losses > 0)
        member_write(c, CLAIM_RECREATE, 0);
    else
        member_write(c, CLAIM_RENEW, m->revision);
    m->next_renewal_ms = c->now_ms + c->config.id_ttl_ms / 3;
}

static void member_release(struct cluster *c)
{
    struct member *m = &c->member;
    m->question = CLAIM_RELEASE;
    m->request = ask_delete(c, BUCKET_STABLE_IDS, m->id, m->revision);
}

/* ---- events ---- */

void member_on_slept(struct cluster *c)
{
    c->member.doubted_ms = c->member.next_renewal_ms = c->now_ms;
}

void member_on_connected(struct cluster *c)
{
    struct member *m = &c->member;
    m->doubted_ms = c->now_ms;
    if (m->phase == MEMBER_LOOKING || m->phase == MEMBER_CLAIMING || m->phase == MEMBER_STANDBY)
        m->retry_ms = c->now_ms;
    if (m->phase == MEMBER_LOOKING)
        member_look(c);
    if (m->phase == MEMBER_HOLDING)
        m->next_renewal_ms = m->next_beat_ms = c->now_ms;
}

static void member_on_claimed(struct cluster *c, const struct cluster_event *event, int64_t sent_ms)
{
    struct member *m = &c->member;
    struct peer *peer = peers_get(c, m->number);
    if (event->code == 0 && m->stopping) {
        m->revision = event->revision;
        m->phase = MEMBER_RELEASING;
        member_release(c);
        return;
    }
    if (event->code == 0) {
        member_hold(c, event->revision, sent_ms);
        return;
    }
    if (event->code != ERR_CONFLICT || peer == NULL) {
        /* Perhaps done: the watch has time to tell before it is tried again. */
        m->retry_ms = c->now_ms + 5 * CLUSTER_RETRY_MS;
        return;
    }
    if (m->question == CLAIM_CREATE && (peer_is_stale(c, peer) || PLANTED(PLANT_EARLY_CLAIM)) &&
        peer->claim_revision != 0) {
        trace(c, "claim %s: over a claim that was not renewed", m->id);
        member_write(c, CLAIM_TAKE_OVER, peer->claim_revision);
        return;
    }
    if (m->question == CLAIM_TAKE_OVER && m->inheriting) {
        m->inheriting = false; /* it has run out, or another has it */
        member_write(c, CLAIM_CREATE, 0);
        return;
    }
    m->losses++;
    trace(c, "claim %s: taken by another", m->id);
    if (peer->claim_revision == m->seen_revision) {
        /* The watch has yet to tell of it. */
        peer->claimed = true;
        peer->released = false;
        peer->claim = (struct claim){0};
        peer->claim_seen_ms = c->now_ms;
    }
}

static void member_on_renewed(struct cluster *c, const struct cluster_event *event, int64_t sent_ms)
{
    struct member *m = &c->member;
    if (event->code == 0) {
        if (m->question == CLAIM_RECREATE)
            trace(c, "claim %s had run out: made again", m->id);
        member_renewed(c, event->revision, sent_ms);
        return;
    }
    m->next_renewal_ms = c->now_ms + CLUSTER_RETRY_MS;
    if (event->code != ERR_CONFLICT) {
        m->in_doubt = true;
        return;
    }
    if (m->revision != m->asked_revision)
        return; /* one of ours had arrived, as the watch has told meanwhile */
    m->losses++;
    if (m->in_doubt && m->losses < MEMBER_TRIES)
        return; /* one of ours may have arrived: the watch tells its revision */
    if (m->question == CLAIM_RENEW) {
        /* It ran out, or another has it; a create tells which. */
        m->losses = 1;
        member_write(c, CLAIM_RECREATE, 0);
        return;
    }
    member_lose(c, "another has claimed it");
}

static void member_on_released(struct cluster *c, const struct cluster_event *event)
{
    struct member *m = &c->member;
    if (event->code != 0 && ++m->losses < MEMBER_TRIES) {
        m->retry_ms = c->now_ms + CLUSTER_RETRY_MS;
        return;
    }
    member_gone(c);
}

bool member_on_done(struct cluster *c, const struct cluster_event *event)
{
    struct member *m = &c->member;
    if (!request_is(&m->request, event))
        return false;
    int64_t sent_ms = m->request.sent_ms;
    m->request.token = 0;
    m->news = true;
    if (m->question == CLAIM_RELEASE)
        member_on_released(c, event);
    else if (m->phase == MEMBER_HOLDING)
        member_on_renewed(c, event, sent_ms);
    else if (m->phase == MEMBER_CLAIMING)
        member_on_claimed(c, event, sent_ms);
    return true;
}

void member_on_own_claim(struct cluster *c, const struct claim *claim, uint64_t revision)
{
    struct member *m = &c->member;
    if (revision <= m->revision)
        return;
    bool ours = claim && claim->incarnation == m->incarnation;
    if (ours) {
        member_renewed(c, revision, m->request.sent_ms);
        return;
    }
    if (m->phase == MEMBER_RELEASING) {
        m->request.token = 0;
        member_gone(c);
        return;
    }
    member_lose(c, claim ? "another holds it" : "it was taken away");
}

void member_on_consumer_lost(struct cluster *c)
{
    struct member *m = &c->member;
    if (m->phase != MEMBER_HOLDING)
        return;
    ask_delete(c, BUCKET_STABLE_IDS, m->id, m->revision);
    member_lose(c, "fenced, its consumer was deleted");
}

void member_on_stop(struct cluster *c)
{
    struct member *m = &c->member;
    if (m->stopping)
        return;
    m->stopping = true;
    if (m->phase == MEMBER_HOLDING) {
        trace(c, "%s stops: finishing what is in flight", m->id);
        election_stop(c);
        member_beat(c);
        actions_add(c, ACTION_DRAIN);
    } else if (m->request.token == 0) {
        member_gone(c);
    }
}

void member_on_drained(struct cluster *c)
{
    struct member *m = &c->member;
    if (m->phase != MEMBER_HOLDING || !m->stopping || m->drained)
        return;
    m->drained = true;
    const char *id = actions_text(c, m->id);
    actions_add(c, ACTION_KEEP_CONSUMER)->id = id;
    m->retry_ms = c->now_ms;
    m->losses = 0;
}

static void member_beat_at(struct cluster *c)
{
    struct member *m = &c->member;
    struct cluster_heartbeat *beat = arena_calloc(&c->actions->arena, 1, sizeof *beat);
    if (beat == NULL) {
        c->failed = true;
        return;
    }
    memcpy(beat->id, m->id, sizeof beat->id);
    memcpy(beat->version, c->version, sizeof beat->version);
    memcpy(beat->group, c->group, sizeof beat->group);
    beat->incarnation = m->incarnation;
    beat->share = c->config.share;
    beat->state = m->stopping         ? CLUSTER_SHUTDOWN
                  : election_acts(c)  ? CLUSTER_LEADER
                  : election_knows(c) ? CLUSTER_FOLLOWER
                                      : CLUSTER_ELECTION;
    beat->assignment = m->filters_in_force;
    beat->chambers = (int32_t)c->holder.owned.count;
    beat->leaving = m->stopping;
    actions_add(c, ACTION_HEARTBEAT)->heartbeat = beat;
}

void member_beat(struct cluster *c)
{
    struct member *m = &c->member;
    if (m->phase != MEMBER_HOLDING || !c->connected)
        return;
    member_beat_at(c);
    m->next_beat_ms = c->now_ms + c->config.heartbeat_ms;
}

static void member_expire(struct cluster *c)
{
    struct member *m = &c->member;
    int64_t sent_ms = m->request.sent_ms;
    if (!request_expire(c, &m->request, member_limit_ms(c)))
        return;
    struct cluster_event late = {.kind = EVENT_KV_DONE, .code = ERR_TIMEOUT};
    if (m->question == CLAIM_RELEASE)
        member_on_released(c, &late);
    else if (m->phase == MEMBER_HOLDING)
        member_on_renewed(c, &late, sent_ms);
    else if (m->stopping)
        member_gone(c);
    else
        member_on_claimed(c, &late, sent_ms);
}

/* A claim of ours that was thought not to have been written. */
static void member_find_own(struct cluster *c)
{
    struct member *m = &c->member;
    for (size_t i = 0; i < c->peers.count; i++) {
        struct peer *peer = &c->peers.items[i];
        if (!peer->claimed || peer->claim.incarnation != m->incarnation || (int)i == m->number)
            continue;
        id_format(c, (int)i, m->id);
        m->number = (int)i;
        trace(c, "claim %s: had been written after all", m->id);
        member_hold(c, peer->claim_revision, m->request.sent_ms);
        return;
    }
    if (m->phase == MEMBER_CLAIMING && m->number >= 0 && (size_t)m->number < c->peers.count &&
        c->peers.items[m->number].claimed && c->peers.items[m->number].claim.incarnation == m->incarnation)
        member_hold(c, c->peers.items[m->number].claim_revision, m->request.sent_ms);
}

void member_tick(struct cluster *c)
{
    struct member *m = &c->member;
    member_expire(c);
    switch (m->phase) {
    case MEMBER_LOOKING:
    case MEMBER_CLAIMING:
    case MEMBER_STANDBY:
        if (m->stopping && m->request.token == 0)
            member_gone(c);
        else if (!m->stopping && m->news)
            member_find_own(c);
        if (m->phase <= MEMBER_STANDBY)
            member_seek(c);
        break;
    case MEMBER_HOLDING:
        if (m->drained && m->request.token == 0) {
            if (!c->connected) {
                member_gone(c);
                break;
            }
            m->phase = MEMBER_RELEASING;
            member_release(c);
            break;
        }
        if (c->connected && m->request.token == 0 && c->now_ms >= m->next_renewal_ms)
            member_renew(c);
        if (c->now_ms >= m->next_beat_ms)
            member_beat(c);
        break;
    case MEMBER_RELEASING:
        if (m->request.token == 0 && c->now_ms >= m->retry_ms)
            member_release(c);
        break;
    case MEMBER_GONE:
        break;
    }
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t member_due_ms(const struct cluster *c)
{
    const struct member *m = &c->member;
    int64_t due = c->now_ms + CLUSTER_IDLE_MS;
    if (m->request.token)
        due = earlier(due, m->request.sent_ms + member_limit_ms(c));
    if (m->phase == MEMBER_HOLDING && c->connected)
        due = earlier(due, m->request.token ? m->next_beat_ms : earlier(m->next_beat_ms, m->next_renewal_ms));
    if (m->phase != MEMBER_HOLDING && m->request.token == 0 && m->retry_ms > c->now_ms)
        due = earlier(due, m->retry_ms);
    return due;
}
