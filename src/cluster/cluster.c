/* The composition: one event goes to the parts that it concerns, then time passes for all of them, in a fixed
 * order. */
#include "cluster/machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- configuration ---- */

struct setting {
    const char *name;
    int64_t *value;
    int64_t standard;
};

static int config_times(struct cluster_config *config, struct error *err)
{
    struct setting settings[] = {
        {"heartbeat_ms", &config->heartbeat_ms, 1000},
        {"probe_after_ms", &config->probe_after_ms, 1500},
        {"confirm_ms", &config->confirm_ms, 500},
        {"silence_ms", &config->silence_ms, 6000},
        {"id_ttl_ms", &config->id_ttl_ms, 10000},
        {"lease_ttl_ms", &config->lease_ttl_ms, 3000},
        {"lease_margin_ms", &config->lease_margin_ms, 500},
        {"cold_window_ms", &config->cold_window_ms, 30000},
        {"scale_window_ms", &config->scale_window_ms, 10000},
        {"quiet_ms", &config->quiet_ms, 2000},
        {"grace_ms", &config->grace_ms, 6000},
        {"roster_settle_ms", &config->roster_settle_ms, 200},
        {"orphan_scan_ms", &config->orphan_scan_ms, 2000},
        {"reweigh_ms", &config->reweigh_ms, 3600000},
        {"request_ms", &config->request_ms, 2000},
        {"default_weight", &config->default_weight, 1000},
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (*settings[i].value == 0)
            *settings[i].value = settings[i].standard;
        if (*settings[i].value < 1 || *settings[i].value > INT64_C(1000000000000))
            return error_set(err, ERR_INVALID, "%s is %lld; it must be positive", settings[i].name,
                             (long long)*settings[i].value);
    }
    if (config->lease_margin_ms * 3 > config->lease_ttl_ms)
        return error_set(err, ERR_INVALID,
                         "lease_margin_ms %lld leaves no time to renew: at most a third of lease_ttl_ms",
                         (long long)config->lease_margin_ms);
    if (config->probe_after_ms < config->heartbeat_ms || config->silence_ms < config->probe_after_ms)
        return error_set(err, ERR_INVALID,
                         "heartbeat_ms, probe_after_ms and silence_ms must rise in this order");
    return 0;
}

static int config_counts(struct cluster_config *config, struct error *err)
{
    if (config->pool == 0)
        config->pool = 1000;
    if (config->restart_known == 0)
        config->restart_known = 10;
    if (config->restart_alive == 0)
        config->restart_alive = 5;
    if (config->pool < 1 || config->pool > CLUSTER_MEMBERS_MAX)
        return error_set(err, ERR_INVALID, "pool is %d; it must be 1 to %d", config->pool,
                         CLUSTER_MEMBERS_MAX);
    if (config->expected_members < 0 || config->expected_members > config->pool)
        return error_set(err, ERR_INVALID, "expected_members is %d; it must be 0 to the pool's %d",
                         config->expected_members, config->pool);
    if (config->restart_known < 0 || config->restart_alive < 0)
        return error_set(err, ERR_INVALID, "restart_known and restart_alive must not be negative");
    if (config->incarnation == 0)
        return error_set(err, ERR_INVALID, "incarnation must not be 0");
    return 0;
}

static int config_fractions(struct cluster_config *config, struct error *err)
{
    if (config->balance_max == 0)
        config->balance_max = 1.20;
    if (config->balance_min == 0)
        config->balance_min = 0.80;
    if (config->movement_budget == 0)
        config->movement_budget = 0.20;
    if (!(config->share >= 0 && config->share <= 1))
        return error_set(err, ERR_INVALID, "share is %g; it must be 0 to 1", config->share);
    if (!(config->balance_max >= 1) || !(config->balance_min >= 0 && config->balance_min <= 1) ||
        !(config->movement_budget >= 0 && config->movement_budget <= 1))
        return error_set(err, ERR_INVALID,
                         "balance_max %g, balance_min %g or movement_budget %g is out of range",
                         config->balance_max, config->balance_min, config->movement_budget);
    return 0;
}

static int config_text(const char *what, const char *from, const char *standard,
                       char to[static CLUSTER_NAME_BYTES], size_t limit, struct error *err)
{
    if (from == NULL || *from == '\0')
        from = standard;
    if (strlen(from) >= limit)
        return error_set(err, ERR_INVALID, "%s is longer than %zu bytes", what, limit - 1);
    strcpy(to, from);
    return 0;
}

static int cluster_configure(struct cluster *c, struct error *err)
{
    int code = config_times(&c->config, err);
    if (code == 0)
        code = config_counts(&c->config, err);
    if (code == 0)
        code = config_fractions(&c->config, err);
    if (code == 0)
        code = config_text("version", c->config.version, "", c->version, CLUSTER_NAME_BYTES, err);
    if (code == 0)
        code = config_text("group", c->config.group, "", c->group, CLUSTER_NAME_BYTES, err);
    if (code == 0) /* leaves room for the number */
        code = config_text("role", c->config.role, "defender", c->role, CLUSTER_NAME_BYTES - 12, err);
    c->config.version = c->version;
    c->config.group = c->group;
    c->config.role = c->role;
    return code;
}

int cluster_create(const struct cluster_config *config, struct cluster **cluster, struct error *err)
{
    struct cluster *c = calloc(1, sizeof *c);
    if (c == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the cluster's state");
    c->config = *config;
    arena_init(&c->controller.commit.arena, 256 * 1024);
    int code = cluster_configure(c, err);
    if (code) {
        cluster_destroy(c);
        return code;
    }
    member_start(c);
    c->election.predecessor = -1;
    *cluster = c;
    return 0;
}

void cluster_destroy(struct cluster *c)
{
    if (c == NULL)
        return;
    free(c->controller.commit.header);
    arena_free(&c->controller.commit.arena);
    peers_clear(c);
    roster_clear(c);
    holder_free(c);
    free(c);
}

/* ---- state ---- */

static enum cluster_state cluster_state(const struct cluster *c)
{
    const struct member *m = &c->member;
    if (m->phase == MEMBER_GONE)
        return CLUSTER_STOPPED;
    if (m->stopping)
        return CLUSTER_SHUTDOWN;
    if (!c->connected)
        return c->ever_connected ? CLUSTER_DEGRADED : CLUSTER_INIT;
    if (m->phase == MEMBER_STANDBY)
        return CLUSTER_STANDBY;
    if (m->phase != MEMBER_HOLDING)
        return CLUSTER_CLAIMING;
    if (election_acts(c))
        return CLUSTER_LEADER;
    return election_knows(c) ? CLUSTER_FOLLOWER : CLUSTER_ELECTION;
}

static const char *cluster_leader(const struct cluster *c)
{
    if (election_acts(c))
        return c->member.id;
    return member_holds(c) && election_knows(c) ? c->election.lease.id : "";
}

static const char *cluster_id(const struct cluster *c)
{
    return c->member.phase == MEMBER_HOLDING || c->member.phase == MEMBER_RELEASING ? c->member.id : "";
}

static void cluster_tell_state(struct cluster *c)
{
    enum cluster_state state = cluster_state(c);
    enum cluster_lifecycle lifecycle = controller_lifecycle(c);
    if (state == c->state && lifecycle == c->controller.lifecycle && strcmp(c->told_id, cluster_id(c)) == 0 &&
        strcmp(c->told_leader, cluster_leader(c)) == 0)
        return;
    c->state = state;
    c->controller.lifecycle = lifecycle;
    snprintf(c->told_id, sizeof c->told_id, "%s", cluster_id(c));
    snprintf(c->told_leader, sizeof c->told_leader, "%s", cluster_leader(c));
    actions_add(c, ACTION_STATE);
}

static double weight_variation(const struct header *header)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < header->member_count; i++)
        sum += (double)header->members[i].weight;
    double mean = header->member_count ? sum / (double)header->member_count : 0;
    for (size_t i = 0; i < header->member_count; i++)
        squares += ((double)header->members[i].weight - mean) * ((double)header->members[i].weight - mean);
    return mean > 0 ? sqrt(squares / (double)header->member_count) / mean : 0;
}

void cluster_read_status(const struct cluster *c, struct cluster_status *status)
{
    const struct controller *k = &c->controller;
    *status = (struct cluster_status){
        .state = cluster_state(c),
        .lifecycle = controller_lifecycle(c),
        .id = cluster_id(c),
        .certain = member_is_certain(c),
        .leader = cluster_leader(c),
        .leads = election_acts(c) && k->stamped,
        .token = c->election.held ? c->election.token : 0,
        .map_version = c->header.version,
        .assignment = c->holder.owned.version,
        .chambers = c->holder.owned.count,
        .members_alive = controller_count_alive(c),
        .rebalances = k->rebalances,
        .emergencies = k->emergencies,
        .moved = k->moved,
        .restarts = k->restarts,
        .weight_variation = weight_variation(&c->header),
    };
}

static int text_order(const void *key, const void *item)
{
    return strcmp(key, *(char *const *)item);
}

bool cluster_owns(const struct cluster *c, const char *chamber)
{
    const struct held_set *owned = &c->holder.owned;
    return member_is_certain(c) && owned->count > 0 &&
           bsearch(chamber, owned->chambers, owned->count, sizeof *owned->chambers, text_order) != NULL;
}

/* ---- events ---- */

static void cluster_on_connected(struct cluster *c)
{
    c->member.news = true;
    trace(c, c->ever_connected ? "connected again" : "connected");
    c->connected = c->ever_connected = true;
    for (int kind = 0; kind < WATCH_COUNT; kind++)
        c->watches[kind].current = false;
    holder_on_connected(c);
    peers_on_connected(c);
    controller_on_connected(c);
    election_on_connected(c);
    member_on_connected(c);
}

static void cluster_on_disconnected(struct cluster *c)
{
    if (!c->connected)
        return;
    c->connected = false;
    trace(c, "cut off: keeping %zu chambers, trusting no absence", c->holder.owned.count);
}

/* NULL into `claim` means deleted; false: not readable. */
static bool cluster_read_claim(struct cluster *c, const struct cluster_event *event, struct claim *claim)
{
    struct error err;
    int code = event->value ? claim_parse(event->value, event->value_length, claim, &err) : 0;
    if (code)
        trace(c, "claim of %.60s not readable: %.120s", event->key, err.text);
    return code == 0;
}

static void cluster_on_claim(struct cluster *c, const struct cluster_event *event)
{
    struct claim read = {0};
    int number = id_parse(c, event->key);
    if (number < 0 || !cluster_read_claim(c, event, &read))
        return;
    const struct claim *claim = event->value ? &read : NULL;
    c->member.news = true;
    if (c->watches[WATCH_CLAIMS].active)
        peers_on_claim(c, number, claim, event->revision);
    bool holds = c->member.phase == MEMBER_HOLDING || c->member.phase == MEMBER_RELEASING;
    if (holds && number == c->member.number)
        member_on_own_claim(c, claim, event->revision);
}

static void cluster_on_lease(struct cluster *c, const struct cluster_event *event)
{
    struct lease lease;
    struct error err;
    if (strcmp(event->key, "leader") != 0 || !c->watches[WATCH_LEASE].active)
        return;
    if (event->value && lease_parse(event->value, event->value_length, &lease, &err)) {
        trace(c, "lease not readable: %.120s", err.text);
        return;
    }
    election_on_lease(c, event->value ? &lease : NULL, event->revision);
}

static void cluster_on_assignment(struct cluster *c, const struct cluster_event *event)
{
    if (strcmp(event->key, "map") == 0) {
        c->member.news = true;
        holder_on_header(c, event->value, event->value_length, event->revision);
        return;
    }
    int number = strncmp(event->key, "to.", 3) == 0 ? id_parse(c, event->key + 3) : -1;
    if (number < 0)
        return;
    if (number == c->member.number && c->watches[WATCH_TO].active)
        holder_on_to(c, event->value, event->value_length, event->revision);
    if (c->controller.running)
        controller_on_to(c, number, event->value, event->value_length, event->revision);
}

static void cluster_on_entry(struct cluster *c, const struct cluster_event *event)
{
    switch (event->bucket) {
    case BUCKET_STABLE_IDS:
        cluster_on_claim(c, event);
        break;
    case BUCKET_ELECTION:
        cluster_on_lease(c, event);
        break;
    case BUCKET_ASSIGNMENTS:
        cluster_on_assignment(c, event);
        break;
    case BUCKET_CHAMBERS:
        if (c->controller.running)
            roster_on_entry(c, event->key, event->value, event->value_length);
        break;
    case BUCKET_COUNT:
        break;
    }
}

static void cluster_on_current(struct cluster *c, const struct cluster_event *event)
{
    for (int i = 0; i < WATCH_COUNT; i++) {
        struct watch *watch = &c->watches[i];
        enum watch_kind kind = (enum watch_kind)i;
        if (!watch->active || watch->bucket != event->bucket || strcmp(watch->pattern, event->key) != 0)
            continue;
        if (kind == WATCH_CLAIMS)
            peers_on_claims_current(c);
        else if (kind == WATCH_LEASE)
            election_on_current(c);
        else if (kind == WATCH_MAP || kind == WATCH_TO)
            holder_on_current(c, kind);
        else if (kind == WATCH_TO_ALL)
            controller_on_current(c, kind);
        watch->current = c->member.news = true;
    }
}

static void cluster_on_filters(struct cluster *c, uint64_t version)
{
    if (version != c->holder.owned.version)
        return;
    c->member.filters_in_force = version;
    member_beat(c);
}

static void cluster_on_event(struct cluster *c, const struct cluster_event *event)
{
    switch (event->kind) {
    case EVENT_TICK:
        break;
    case EVENT_CONNECTED:
        cluster_on_connected(c);
        break;
    case EVENT_DISCONNECTED:
        cluster_on_disconnected(c);
        break;
    case EVENT_KV_DONE:
        (void)(member_on_done(c, event) || election_on_done(c, event) || commit_on_done(c, event));
        break;
    case EVENT_KV_ENTRY:
        cluster_on_entry(c, event);
        break;
    case EVENT_KV_CURRENT:
        cluster_on_current(c, event);
        break;
    case EVENT_HEARTBEAT:
        if (c->listening)
            peers_on_heartbeat(c, event->heartbeat);
        break;
    case EVENT_PROBED:
        peers_on_probed(c, event);
        break;
    case EVENT_FENCED:
        controller_on_fenced(c, event);
        break;
    case EVENT_FILTERS_IN_FORCE:
        cluster_on_filters(c, event->version);
        break;
    case EVENT_CONSUMER_LOST:
        member_on_consumer_lost(c);
        break;
    case EVENT_SUBJECTS:
        controller_on_subjects(c, event);
        break;
    case EVENT_DRAINED:
        member_on_drained(c);
        break;
    case EVENT_STOP:
        member_on_stop(c);
        break;
    }
}

/* ---- time ---- */

/* This process was not running for a while: what it did not hear then was not silence. */
static void cluster_on_slept(struct cluster *c, int64_t slept_ms)
{
    trace(c, "was asleep for %.1f s", (double)slept_ms / 1000);
    peers_shift(c, slept_ms);
    c->election.seen_ms += slept_ms;
    if (c->controller.trusted_ms > c->now_ms - slept_ms) /* the grace period is time spent listening */
        c->controller.trusted_ms += slept_ms;
    member_on_slept(c);
}

static void cluster_advance(struct cluster *c, int64_t now_ms)
{
    if (now_ms < c->now_ms)
        now_ms = c->now_ms;
    int64_t awaited_ms = c->stepped ? c->next_tick_ms : now_ms;
    int64_t slept_ms = now_ms - (awaited_ms > c->now_ms ? awaited_ms : c->now_ms);
    c->now_ms = now_ms;
    c->stepped = true;
    if (slept_ms >= c->config.lease_margin_ms / 2)
        cluster_on_slept(c, slept_ms);
}

static int64_t cluster_due_ms(const struct cluster *c)
{
    int64_t due = member_due_ms(c), other = election_due_ms(c);
    due = other < due ? other : due;
    other = controller_due_ms(c);
    due = other < due ? other : due;
    return due > c->now_ms ? due : c->now_ms + 1;
}

int cluster_step(struct cluster *c, int64_t now_ms, const struct cluster_event *event,
                 struct cluster_actions *actions, struct error *err)
{
    if (!c->failed && c->member.phase != MEMBER_GONE) {
        c->actions = actions;
        cluster_advance(c, now_ms);
        cluster_on_event(c, event);
        member_tick(c);
        election_tick(c);
        controller_tick(c);
        cluster_tell_state(c);
        c->next_tick_ms = cluster_due_ms(c);
        c->actions = NULL;
    }
    return c->failed
               ? error_set(err, ERR_NO_MEMORY, "the cluster's state ran out of memory: end this process")
               : 0;
}

int64_t cluster_next_tick_ms(const struct cluster *c)
{
    return c->member.phase == MEMBER_GONE ? INT64_MAX : c->next_tick_ms;
}

/* ---- names ---- */

const char *cluster_state_name(enum cluster_state state)
{
    static const char *const names[] = {"INIT",   "CLAIMING", "STANDBY",  "ELECTION", "FOLLOWER",
                                        "LEADER", "DEGRADED", "SHUTDOWN", "STOPPED"};
    return (size_t)state < sizeof names / sizeof *names ? names[state] : "?";
}

const char *cluster_lifecycle_name(enum cluster_lifecycle lifecycle)
{
    static const char *const names[] = {"STABLE", "COLD_START", "SCALING", "REBALANCING", "EMERGENCY"};
    return (size_t)lifecycle < sizeof names / sizeof *names ? names[lifecycle] : "?";
}

const char *cluster_bucket_name(enum cluster_bucket bucket)
{
    static const char *const names[BUCKET_COUNT] = {"stable-ids", "election", "assignments", "chambers"};
    return (size_t)bucket < BUCKET_COUNT ? names[bucket] : "?";
}
