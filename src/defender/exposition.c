#include "defender/exposition.h"

#include "base/prometheus.h"

#include <stdlib.h>
#include <string.h>

/* A metric with one sample. */
struct single {
    const char *name;
    enum prometheus_kind kind;
    const char *help;
    double value;
};

static void add_singles(struct strbuf *out, const struct single *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        prometheus_single(out, items[i].name, items[i].kind, items[i].help, items[i].value);
}

#define COUNT(table) (sizeof(table) / sizeof *(table))

static void add_build(const struct exposition *e, struct strbuf *out)
{
    struct prometheus_label labels[] = {
        {"version", e->version}, {"group", e->group}, {"role", "defend"}, {"store", e->store}};
    prometheus_begin(out, "chamberlain_build_info", PROMETHEUS_GAUGE,
                     "Always 1; the labels say which version and group this is.");
    prometheus_add(out, "chamberlain_build_info", labels, COUNT(labels), 1);
}

/* The number in defender-N; -1 while it has no ID. */
static double stable_id(const char *id)
{
    const char *dash = strrchr(id, '-');
    return dash ? (double)strtol(dash + 1, NULL, 10) : -1;
}

static void add_states(const struct exposition *e, struct strbuf *out)
{
    prometheus_begin(out, "defender_state", PROMETHEUS_GAUGE,
                     "1 for the state that the defender is in, 0 for others.");
    for (int state = CLUSTER_INIT; state <= CLUSTER_STOPPED; state++) {
        struct prometheus_label label = {"state", cluster_state_name((enum cluster_state)state)};
        prometheus_add(out, "defender_state", &label, 1, (int)e->cluster->state == state);
    }
    prometheus_begin(out, "defender_state_transitions_total", PROMETHEUS_COUNTER,
                     "How often each state was come to.");
    for (int state = CLUSTER_INIT; state <= CLUSTER_STOPPED; state++) {
        struct prometheus_label label = {"state", cluster_state_name((enum cluster_state)state)};
        prometheus_add(out, "defender_state_transitions_total", &label, 1,
                       (double)e->metrics->state_entered[state]);
    }
}

static void add_member(const struct exposition *e, struct strbuf *out)
{
    const struct cluster_status *cluster = e->cluster;
    const struct single items[] = {
        {"defender_is_leader", PROMETHEUS_GAUGE, "1 while this defender may act as leader.", cluster->leads},
        {"defender_stable_id", PROMETHEUS_GAUGE, "N of its ID defender-N; -1 while it has none.",
         stable_id(cluster->id)},
        {"defender_assigned_chambers", PROMETHEUS_GAUGE, "Chambers owned here.", (double)cluster->chambers},
        {"defender_assignment_version", PROMETHEUS_GAUGE, "Version of the assignment that is in force here.",
         (double)cluster->assignment},
        {"defender_assignment_newest_version", PROMETHEUS_GAUGE, "Version of the newest assignment seen.",
         (double)cluster->map_version},
        {"defender_nats_connected", PROMETHEUS_GAUGE, "1 while connected to NATS.", e->connected},
        {"defender_nats_reconnects_total", PROMETHEUS_COUNTER, "Connections that replaced a lost one.",
         (double)e->reconnects},
        {"defender_nats_pending_requests", PROMETHEUS_GAUGE, "Requests to NATS that wait for an answer.",
         (double)e->pending},
        {"defender_heartbeat_errors_total", PROMETHEUS_COUNTER, "Heartbeats that could not be sent.",
         (double)e->metrics->heartbeat_errors},
    };
    add_singles(out, items, COUNT(items));
    prometheus_single_histogram(out, "defender_subscription_update_duration_seconds",
                                "From a change of the consumer's filters until it is in force.",
                                &e->metrics->filters);
    prometheus_single_histogram(out, "defender_election_acquire_seconds",
                                "Writes of the leader's lease by one who does not have it.",
                                &e->metrics->acquire);
    prometheus_single_histogram(out, "defender_election_renew_seconds",
                                "Writes of the leader's lease by the leader.", &e->metrics->renew);
}

static void add_messages(const struct exposition *e, struct strbuf *out)
{
    const struct metrics *metrics = e->metrics;
    const struct single items[] = {
        {"defender_messages_received_total", PROMETHEUS_COUNTER, "Contexts received, without redeliveries.",
         (double)metrics->received},
        {"defender_messages_redelivered_total", PROMETHEUS_COUNTER, "Messages that were held already.",
         (double)metrics->redelivered},
        {"defender_messages_processed_total", PROMETHEUS_COUNTER, "Contexts judged, or found judged already.",
         (double)(metrics->judged + metrics->repeated)},
        {"defender_messages_failed_total", PROMETHEUS_COUNTER, "Contexts that could not be judged.",
         (double)metrics->dead},
        {"defender_contexts_judged_total", PROMETHEUS_COUNTER, "Contexts whose U-chart was written.",
         (double)metrics->judged},
        {"defender_contexts_rejudged_total", PROMETHEUS_COUNTER,
         "Contexts judged again because an earlier one came late.", (double)metrics->rejudged},
        {"defender_attempts_retried_total", PROMETHEUS_COUNTER,
         "Attempts put off: the store or NATS is away, or the T-chart is not there yet.",
         (double)metrics->retried},
        {"defender_outbox_announced_total", PROMETHEUS_COUNTER,
         "Contexts announced again from the store's outbox.", (double)metrics->swept},
        {"defender_messages_held", PROMETHEUS_GAUGE,
         "Messages held here, at work or waiting for their chamber.", (double)e->held},
        {"defender_messages_in_flight", PROMETHEUS_GAUGE, "Contexts at work.", (double)e->in_flight},
    };
    add_singles(out, items, COUNT(items));
    prometheus_begin(out, "defender_dead_letters_total", PROMETHEUS_COUNTER,
                     "Contexts dead-lettered, by class.");
    struct prometheus_label class = {"class", "poison"};
    prometheus_add(out, "defender_dead_letters_total", &class, 1, (double)(metrics->dead - metrics->missing));
    class.value = "missing";
    prometheus_add(out, "defender_dead_letters_total", &class, 1, (double)metrics->missing);
    prometheus_begin(out, "defender_alarms_raised_total", PROMETHEUS_COUNTER,
                     "Alarms published, by severity.");
    for (int severity = SEVERITY_INFO; severity <= SEVERITY_CRITICAL; severity++) {
        struct prometheus_label label = {"severity", severity_name((enum severity)severity)};
        prometheus_add(out, "defender_alarms_raised_total", &label, 1, (double)metrics->alarms_of[severity]);
    }
}

static void add_times(const struct exposition *e, struct strbuf *out)
{
    prometheus_single_histogram(out, "defender_process_time_seconds",
                                "From receipt to acknowledgement of a context.",
                                &e->metrics->steps[STEP_TOTAL]);
    prometheus_single_histogram(out, "defender_delivery_seconds",
                                "From when the stream had taken a context until its defender received it.",
                                &e->metrics->delivery);
    prometheus_single_histogram(out, "defender_announcement_seconds",
                                "From when a context was announced until its defender received it.",
                                &e->metrics->announcement);
    prometheus_begin(out, "defender_step_duration_seconds", PROMETHEUS_HISTOGRAM,
                     "Each step of the process time.");
    for (int step = 0; step < STEP_TOTAL; step++) {
        struct prometheus_label label = {"step", metrics_step_name((enum metrics_step)step)};
        prometheus_add_histogram(out, "defender_step_duration_seconds", &label, 1, &e->metrics->steps[step]);
    }
}

static void add_cache(const struct exposition *e, struct strbuf *out)
{
    const struct cache_statistics *cache = e->cache;
    double asked = (double)(cache->hits + cache->misses);
    const struct single items[] = {
        {"defender_cache_hits_total", PROMETHEUS_COUNTER, "History look-ups that the cache answered.",
         (double)cache->hits},
        {"defender_cache_misses_total", PROMETHEUS_COUNTER, "History look-ups that the store had to answer.",
         (double)cache->misses},
        {"defender_cache_hit_rate", PROMETHEUS_GAUGE,
         "Hits by look-ups since the start, 0 to 1; 1 before the first.",
         asked > 0 ? (double)cache->hits / asked : 1},
        {"defender_cache_evictions_total", PROMETHEUS_COUNTER, "Histories dropped to stay within the budget.",
         (double)cache->evictions},
        {"defender_cache_rows", PROMETHEUS_GAUGE, "U-charts in the cache.", (double)cache->rows},
        {"defender_cache_bytes", PROMETHEUS_GAUGE, "Memory of the cache, as estimated.",
         (double)cache->bytes},
    };
    add_singles(out, items, COUNT(items));
    prometheus_begin(out, "defender_cache_lookup_seconds", PROMETHEUS_HISTOGRAM,
                     "History look-ups; a miss includes the store's answer.");
    struct prometheus_label label = {"result", "hit"};
    prometheus_add_histogram(out, "defender_cache_lookup_seconds", &label, 1, &e->metrics->cache_hit);
    label.value = "miss";
    prometheus_add_histogram(out, "defender_cache_lookup_seconds", &label, 1, &e->metrics->cache_miss);
}

static void add_store(const struct exposition *e, struct strbuf *out)
{
    struct prometheus_label store = {"store", e->store};
    prometheus_begin(out, "defender_cassandra_read_duration_seconds", PROMETHEUS_HISTOGRAM,
                     "Reads from the store for contexts being judged; the label names the store.");
    prometheus_add_histogram(out, "defender_cassandra_read_duration_seconds", &store, 1,
                             &e->metrics->store_read);
    prometheus_begin(out, "defender_cassandra_write_duration_seconds", PROMETHEUS_HISTOGRAM,
                     "Writes of U-charts to the store; the label names the store.");
    prometheus_add_histogram(out, "defender_cassandra_write_duration_seconds", &store, 1,
                             &e->metrics->store_write);
    prometheus_begin(out, "defender_store_errors_total", PROMETHEUS_COUNTER,
                     "Calls to the store that failed.");
    struct prometheus_label operation = {"operation", "read"};
    prometheus_add(out, "defender_store_errors_total", &operation, 1, (double)e->metrics->store_read_errors);
    operation.value = "write";
    prometheus_add(out, "defender_store_errors_total", &operation, 1, (double)e->metrics->store_write_errors);
}

/* Of a store with a standby; any other is `single`. */
static void add_failover(const struct exposition *e, struct strbuf *out)
{
    const struct store_health *health = e->store_health;
    prometheus_begin(out, "defender_store_mode", PROMETHEUS_GAUGE,
                     "1 for what the store with a standby is at, 0 for others; single: it has none.");
    for (int mode = STORE_MODE_SINGLE; mode <= STORE_MODE_RECONCILING; mode++) {
        struct prometheus_label label = {"mode", store_mode_name((enum store_mode)mode)};
        prometheus_add(out, "defender_store_mode", &label, 1, (int)health->mode == mode);
    }
    prometheus_single(out, "defender_store_debts", PROMETHEUS_GAUGE,
                      "Writes that the standby has and the primary has not yet, as listed last.",
                      health->debts_known > 0 ? (double)health->debts_known : 0);
    prometheus_single(out, "defender_store_debts_stuck", PROMETHEUS_GAUGE,
                      "Such writes that could not be copied although both stores answer.",
                      (double)health->debts_stuck);
}

/* Of the leader; on the others the gauges are 0 and the counters stand. */
static void add_leader(const struct exposition *e, struct strbuf *out)
{
    const struct cluster_status *cluster = e->cluster;
    const struct single items[] = {
        {"defender_active_defenders", PROMETHEUS_GAUGE, "On the leader: defenders alive.",
         cluster->leads ? (double)cluster->members_alive : 0},
        {"defender_assignment_weight_variance_percent", PROMETHEUS_GAUGE,
         "On the leader: standard deviation of the defenders' weights, in percent of their mean.",
         cluster->leads ? 100 * cluster->weight_variation : 0},
        {"defender_rebalance_under_way_seconds", PROMETHEUS_GAUGE,
         "On the leader: how long a change of the assignment has been under way; 0: none.",
         (double)e->rebalancing_ns / 1e9},
        {"defender_rebalance_events_total", PROMETHEUS_COUNTER, "Rebalances decided here.",
         (double)cluster->rebalances},
        {"defender_chamber_movements_total", PROMETHEUS_COUNTER, "Chambers moved by what was decided here.",
         (double)cluster->moved},
        {"defender_emergency_events_total", PROMETHEUS_COUNTER, "Crashes handled here.",
         (double)cluster->emergencies},
        {"defender_restart_detected_total", PROMETHEUS_COUNTER,
         "Restarts of the whole cluster recognised here.", (double)cluster->restarts},
    };
    add_singles(out, items, COUNT(items));
    prometheus_begin(out, "defender_trigger_total", PROMETHEUS_COUNTER,
                     "How often the controller came to each state, on the leader.");
    for (int state = LIFECYCLE_STABLE; state <= LIFECYCLE_EMERGENCY; state++) {
        struct prometheus_label label = {"state", cluster_lifecycle_name((enum cluster_lifecycle)state)};
        prometheus_add(out, "defender_trigger_total", &label, 1, (double)e->metrics->triggered[state]);
    }
    prometheus_single_histogram(out, "defender_rebalance_duration_seconds",
                                "On the leader: from the begin of a change until it is stable again.",
                                &e->metrics->rebalance);
}

void exposition_write(const struct exposition *exposition, struct strbuf *out)
{
    add_build(exposition, out);
    add_states(exposition, out);
    add_member(exposition, out);
    add_messages(exposition, out);
    add_times(exposition, out);
    add_cache(exposition, out);
    add_store(exposition, out);
    add_failover(exposition, out);
    add_leader(exposition, out);
    prometheus_add_process(out, exposition->started_us);
}
