/* The leader's lease: acquired, renewed, observed, resigned.
 *
 *      sent            ttl - margin            ttl
 *       │◄───────── may act ────────►│          │
 *       │                                       │◄── others may acquire ──►
 *
 * The time starts when the write was SENT, the others' when they saw it arrive: later, on any clock that runs
 * at the same rate. The lease's revision at its acquisition is the fencing token, which is stamped into the
 * map before anything is decided: whoever led before can then commit nothing any more, whatever its clock
 * says. */
#include "cluster/machine.h"

#include <string.h>

static int64_t election_limit_ms(const struct cluster *c)
{
    int64_t third = c->config.lease_ttl_ms / 3;
    return third < c->config.request_ms ? third : c->config.request_ms;
}

/* Candidates come one after the other, so that most see the winner before they try. */
static int64_t election_stagger_ms(const struct cluster *c)
{
    int number = c->member.number < 0 ? 0 : c->member.number;
    return (int64_t)(number % CLUSTER_STAGGER_STEPS) * CLUSTER_STAGGER_MS;
}

static bool election_takes_part(const struct cluster *c)
{
    return member_holds(c) && !c->member.stopping;
}

bool election_acts(const struct cluster *c)
{
    if (PLANTED(PLANT_LATE_LEADER))
        return c->election.held;
    return c->election.held && c->connected && c->now_ms < c->election.acting_until_ms;
}

bool election_knows(const struct cluster *c)
{
    const struct election *e = &c->election;
    return e->present && e->lease.incarnation != c->member.incarnation &&
           c->now_ms - e->seen_ms <= c->config.lease_ttl_ms;
}

void election_start(struct cluster *c)
{
    c->election = (struct election){.predecessor = -1, .retry_ms = c->now_ms};
    watch_begin(c, WATCH_LEASE, BUCKET_ELECTION, "leader");
}

/* ---- asking ---- */

static void election_write(struct cluster *c, enum election_question question, uint64_t revision)
{
    struct election *e = &c->election;
    struct lease lease = {.incarnation = c->member.incarnation, .serial = ++e->serial};
    memcpy(lease.id, c->member.id, sizeof lease.id);
    struct strbuf json;
    strbuf_init(&json);
    if (!lease_format(&lease, &json))
        c->failed = true;
    e->question = question;
    e->asked_revision = e->held_revision;
    e->serial_sent_ms = c->now_ms;
    e->request = revision ? ask_update(c, BUCKET_ELECTION, "leader", json.text, revision)
                          : ask_create(c, BUCKET_ELECTION, "leader", json.text);
    strbuf_free(&json);
}

static void election_extend(struct cluster *c, uint64_t revision, int64_t sent_ms)
{
    struct election *e = &c->election;
    e->held_revision = revision;
    e->acting_until_ms = sent_ms + c->config.lease_ttl_ms - c->config.lease_margin_ms;
    e->next_renewal_ms = sent_ms + c->config.lease_ttl_ms / 3;
    e->in_doubt = false;
    e->refusals = 0;
    e->seen_ms = c->now_ms;
}

static void election_acquired(struct cluster *c, uint64_t revision, int64_t sent_ms)
{
    struct election *e = &c->election;
    e->held = true;
    e->token = revision;
    e->take_over = false;
    trace(c, "%s leads, token %llu", c->member.id, (unsigned long long)revision);
    election_extend(c, revision, sent_ms);
    controller_start(c);
}

static void election_lost(struct cluster *c, const char *why)
{
    struct election *e = &c->election;
    trace(c, "%s no longer leads: %s", c->member.id, why);
    e->held = false;
    e->token = 0;
    e->was_acting = false;
    e->predecessor = -1;
    e->retry_ms = c->now_ms + CLUSTER_RETRY_MS + election_stagger_ms(c);
    controller_stop(c);
}

void election_step_down(struct cluster *c, const char *why)
{
    struct election *e = &c->election;
    if (!e->held)
        return;
    ask_delete(c, BUCKET_ELECTION, "leader", e->held_revision);
    e->request.token = 0;
    election_lost(c, why);
}

void election_stop(struct cluster *c)
{
    election_step_down(c, "resigned");
    c->election.request.token = 0;
}

/* ---- events ---- */

void election_on_connected(struct cluster *c)
{
    struct election *e = &c->election;
    e->confirmed = false;
    e->revision = 0;
    e->seen_ms = c->now_ms; /* the silence may have been ours */
    e->next_renewal_ms = c->now_ms;
    e->retry_ms = c->now_ms;
}

void election_on_current(struct cluster *c)
{
    struct election *e = &c->election;
    if (!e->confirmed) {
        e->present = false;
        e->free_since_ms = c->now_ms;
    }
}

/* A lease of ours has arrived, whether or not its outcome is known. */
static void election_on_own(struct cluster *c, const struct lease *lease, uint64_t revision)
{
    struct election *e = &c->election;
    bool newest = lease->serial == e->serial;
    if (e->held) {
        if (revision > e->held_revision && newest)
            election_extend(c, revision, e->serial_sent_ms);
        else if (revision > e->held_revision)
            e->held_revision =
                revision; /* an earlier one: when it was sent is forgotten, so it gives no time */
        return;
    }
    if (c->member.stopping) {
        ask_delete(c, BUCKET_ELECTION, "leader", revision); /* asked for before, and come too late */
        return;
    }
    bool asked = e->question == LEASE_CREATE || e->question == LEASE_TAKE_OVER;
    if (newest && asked && election_takes_part(c) && e->serial > 0) {
        e->request.token = 0;
        election_acquired(c, revision, e->serial_sent_ms);
    }
}

void election_on_lease(struct cluster *c, const struct lease *lease, uint64_t revision)
{
    struct election *e = &c->election;
    if (revision < e->revision)
        return;
    bool newer = revision > e->revision;
    e->revision = revision;
    e->confirmed = true;
    if (lease == NULL) {
        e->present = false;
        if (newer)
            e->free_since_ms = c->now_ms;
        e->take_over = false;
        if (e->held && revision > e->held_revision)
            election_lost(c, "the lease was taken away");
        return;
    }
    e->present = true;
    e->lease = *lease;
    if (newer) {
        e->seen_ms = c->now_ms;
        e->take_over = e->told_late = false;
    }
    if (lease->incarnation == c->member.incarnation)
        election_on_own(c, lease, revision);
    else if (e->held && revision > e->held_revision)
        election_lost(c, "another holds the lease");
}

static void election_on_asked(struct cluster *c, const struct cluster_event *event, int64_t sent_ms)
{
    struct election *e = &c->election;
    if (event->code == 0) {
        election_acquired(c, event->revision, sent_ms);
        return;
    }
    e->retry_ms = c->now_ms + CLUSTER_RETRY_MS + election_stagger_ms(c);
    /* Refused to create what ran out by our clock: the server still stores it, so go over its revision. */
    e->take_over = event->code == ERR_CONFLICT && e->question == LEASE_CREATE && e->present;
}

static void election_on_renewed(struct cluster *c, const struct cluster_event *event, int64_t sent_ms)
{
    struct election *e = &c->election;
    if (event->code == 0) {
        if (event->revision >= e->held_revision)
            election_extend(c, event->revision, sent_ms);
        return;
    }
    e->next_renewal_ms = c->now_ms + CLUSTER_RETRY_MS;
    if (event->code != ERR_CONFLICT) {
        e->in_doubt = true;
        return;
    }
    if (e->held_revision != e->asked_revision)
        return; /* one of ours had arrived, as the watch has told meanwhile */
    if (e->in_doubt && ++e->refusals < CLUSTER_DOUBT_TRIES)
        return;
    election_lost(c, "the lease ran out");
}

bool election_on_done(struct cluster *c, const struct cluster_event *event)
{
    struct election *e = &c->election;
    if (!request_is(&e->request, event))
        return false;
    int64_t sent_ms = e->request.sent_ms;
    e->request.token = 0;
    if (e->question == LEASE_RENEW)
        election_on_renewed(c, event, sent_ms);
    else
        election_on_asked(c, event, sent_ms);
    return true;
}

/* ---- time ---- */

/* When this candidate may try, as far as is known now. */
static int64_t election_turn_ms(const struct cluster *c)
{
    const struct election *e = &c->election;
    int64_t turn;
    if (!e->present)
        turn = e->free_since_ms + election_stagger_ms(c);
    else if (e->lease.incarnation == c->member.incarnation ||
             (c->config.predecessor && e->lease.incarnation == c->config.predecessor))
        turn = c->now_ms; /* ours, from before it was lost or while its outcome was unknown */
    else if (member_inherits(c) && e->lease.incarnation == c->config.predecessor)
        turn = c->now_ms;
    else
        turn = e->seen_ms + c->config.lease_ttl_ms + 1 + election_stagger_ms(c);
    return turn > e->retry_ms ? turn : e->retry_ms;
}

static void election_campaign(struct cluster *c)
{
    struct election *e = &c->election;
    if (PLANTED(PLANT_NO_CAMPAIGN) && e->present)
        return;
    if (!c->watches[WATCH_LEASE].current || c->now_ms < election_turn_ms(c))
        return;
    e->predecessor = -1;
    if (e->present && e->lease.incarnation != c->member.incarnation) {
        e->predecessor = id_parse(c, e->lease.id);
        e->predecessor_seen_ms = e->seen_ms;
        if (!e->told_late && c->now_ms - e->seen_ms > c->config.lease_ttl_ms)
            trace(c, "leader %s has not renewed its lease", e->lease.id);
    }
    /* At first, that is: should it have run out at the server, only a create helps. */
    if (e->present && !e->told_late && member_inherits(c) && e->lease.incarnation == c->config.predecessor)
        e->take_over = true;
    e->told_late = true;
    if (e->present && e->take_over)
        election_write(c, LEASE_TAKE_OVER, e->revision);
    else
        election_write(c, LEASE_CREATE, 0);
}

static void election_expire(struct cluster *c)
{
    struct election *e = &c->election;
    int64_t sent_ms = e->request.sent_ms;
    if (!request_expire(c, &e->request, election_limit_ms(c)))
        return;
    struct cluster_event late = {.kind = EVENT_KV_DONE, .code = ERR_TIMEOUT};
    if (e->question == LEASE_RENEW)
        election_on_renewed(c, &late, sent_ms);
    else
        election_on_asked(c, &late, sent_ms);
}

void election_tick(struct cluster *c)
{
    struct election *e = &c->election;
    if (!election_takes_part(c))
        return;
    election_expire(c);
    bool acting = election_acts(c);
    if (e->held && e->was_acting && !acting)
        trace(c, "%s stops acting: its lease could not be renewed in time", c->member.id);
    else if (e->held && !e->was_acting && acting && c->controller.stamped)
        trace(c, "%s acts again", c->member.id);
    e->was_acting = acting;
    if (!c->connected || e->request.token)
        return;
    if (e->held && c->now_ms >= e->next_renewal_ms)
        election_write(c, LEASE_RENEW, e->held_revision);
    else if (!e->held)
        election_campaign(c);
}

int64_t election_due_ms(const struct cluster *c)
{
    const struct election *e = &c->election;
    int64_t due = c->now_ms + CLUSTER_IDLE_MS;
    int64_t next = due;
    if (!election_takes_part(c) || !c->connected)
        return due;
    if (e->request.token)
        next = e->request.sent_ms + election_limit_ms(c);
    else if (e->held)
        next = e->next_renewal_ms;
    else if (c->watches[WATCH_LEASE].current)
        next = election_turn_ms(c);
    if (e->held && e->was_acting && e->acting_until_ms < next)
        next = e->acting_until_ms;
    return next < due ? next : due;
}
