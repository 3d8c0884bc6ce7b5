/* `chamberlain status`: who is at work, what has been judged, how long it took. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/session.h"

#include "bus/names.h"
#include "cli/table.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { DETAILED_MEMBERS_MAX = 3, WATCH_POLL_MS = 200 };

static const struct command command = {
    .name = "status",
    .operands = "",
    .summary = "Shows the defenders, the contexts announced, judged and dead-lettered, and the process time "
               "of each step.",
    .examples = "  chamberlain status --dir fab\n"
                "  chamberlain status --dir fab --json",
};

static json_t *gather(struct session *session, struct error *err)
{
    store_count(session->store, store_wait_done, session->wait);
    struct store_reply *reply = session_reply(session);
    if (reply->code) {
        *err = reply->error;
        store_reply_free(reply);
        return NULL;
    }
    json_t *contexts =
        json_pack("{s:I, s:I, s:I}", "announced", (json_int_t)reply->counts.completed, "judged",
                  (json_int_t)reply->counts.judged, "dead", (json_int_t)reply->counts.dead);
    store_reply_free(reply);
    int64_t messages = -1;
    struct error nats_error = {0};
    session_waiting_messages(session, &messages, &nats_error);
    json_t *members = session_defenders(session, NULL), *collectors = session_collectors(session, NULL);
    json_t *leader = json_null();
    size_t i;
    json_t *member;
    json_int_t map_version = 0;
    json_array_foreach(members, i, member)
    {
        json_int_t seen = json_integer_value(json_object_get(member, "map_version"));
        map_version = seen > map_version ? seen : map_version;
        if (json_is_true(json_object_get(member, "leads")))
            leader = json_object_get(member, "id");
    }
    json_t *status =
        json_pack("{s:s, s:s, s:O, s:O, s:I, s:o}", "nats", session->nats_url, "store", session->store_url,
                  "members", members, "leader", leader, "map_version", map_version, "contexts", contexts);
    json_object_set_new(status, "collectors", collectors);
    json_object_set_new(status, "messages_waiting", messages >= 0 ? json_integer(messages) : json_null());
    if (nats_error.code)
        json_object_set_new(status, "nats_error", json_string(nats_error.text));
    json_decref(members);
    return status;
}

static double number(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(object, key));
}

static void print_steps(const json_t *member)
{
    static const char *const names[] = {"fetch", "history", "decode", "calculate", "evaluate",
                                        "alarm", "store",   "cache",  "total"};
    const json_t *steps = json_object_get(member, "steps");
    printf("    %-10s %10s %10s %10s %10s %10s\n", "step (ms)", "count", "p50", "p95", "p99", "max");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *step = json_object_get(steps, names[i]);
        printf("    %-10s %10.0f %10.3f %10.3f %10.3f %10.3f\n", names[i], number(step, "count"),
               number(step, "p50_ms"), number(step, "p95_ms"), number(step, "p99_ms"),
               number(step, "max_ms"));
    }
}

static void print_member(const json_t *member)
{
    const json_t *counts = json_object_get(member, "counts");
    const json_t *cache = json_object_get(member, "cache");
    double hits = number(cache, "hits"), misses = number(cache, "misses");
    printf("  %s  %s  version %s  pid %.0f%s\n", json_string_value(json_object_get(member, "id")),
           json_string_value(json_object_get(member, "state")),
           json_string_value(json_object_get(member, "version")), number(member, "pid"),
           json_is_true(json_object_get(member, "leads")) ? "  leader" : "");
    if (number(counts, "received") <= 0) {
        printf("    nothing to judge yet\n");
        return;
    }
    printf("    since it started: judged %.0f, judged again %.0f, repeated %.0f, dead %.0f, retried %.0f, "
           "alarms %.0f, "
           "announced again %.0f\n",
           number(counts, "judged"), number(counts, "rejudged"), number(counts, "repeated"),
           number(counts, "dead"), number(counts, "retried"), number(counts, "alarms"),
           number(counts, "swept"));
    printf("    history cache: %.1f %% hits, %.1f MB\n",
           hits + misses > 0 ? 100 * hits / (hits + misses) : 0.0, number(cache, "bytes") / 1e6);
    print_steps(member);
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

/* Collectors: a line each. */
static void print_collectors(const json_t *collectors)
{
    static const struct table_column columns[] = {
        {"collector", false},  {"state", false}, {"version", false}, {"pid", true},
        {"chambers", true},    {"open", true},   {"held MB", true},  {"contexts", true},
        {"low quality", true}, {"dead", true}};
    struct table table;
    struct strbuf out;
    table_init(&table, columns, sizeof columns / sizeof *columns);
    strbuf_init(&out);
    for (size_t i = 0; i < json_array_size(collectors); i++) {
        const json_t *collector = json_array_get(collectors, i),
                     *counts = json_object_get(collector, "counts");
        table_add(&table, text_of(collector, "id"));
        table_addf(&table, "%s%s", text_of(collector, "state"),
                   json_is_true(json_object_get(collector, "leads")) ? " *" : "");
        table_add(&table, text_of(collector, "version"));
        table_addf(&table, "%.0f", number(collector, "pid"));
        table_addf(&table, "%.0f", number(collector, "chambers"));
        table_addf(&table, "%.0f", number(collector, "open"));
        table_addf(&table, "%.1f", number(collector, "held_bytes") / 1e6);
        table_addf(&table, "%.0f", number(counts, "contexts"));
        table_addf(&table, "%.0f", number(counts, "low_quality"));
        table_addf(&table, "%.0f", number(counts, "dead"));
    }
    table_format(&table, 2, &out);
    fputs(out.text, stdout);
    strbuf_free(&out);
    table_free(&table);
}

/* Many defenders: a line each. */
static void print_members(const json_t *members)
{
    static const struct table_column columns[] = {
        {"defender", false},  {"state", false},      {"version", false}, {"pid", true},
        {"chambers", true},   {"assignment", true},  {"judged", true},   {"in flight", true},
        {"cache hits", true}, {"total p95 ms", true}};
    struct table table;
    struct strbuf out;
    table_init(&table, columns, sizeof columns / sizeof *columns);
    strbuf_init(&out);
    for (size_t i = 0; i < json_array_size(members); i++) {
        const json_t *member = json_array_get(members, i), *cache = json_object_get(member, "cache");
        double hits = number(cache, "hits"), misses = number(cache, "misses");
        table_add(&table, text_of(member, "id"));
        table_addf(&table, "%s%s", text_of(member, "state"),
                   json_is_true(json_object_get(member, "leads")) ? " *" : "");
        table_add(&table, text_of(member, "version"));
        table_addf(&table, "%.0f", number(member, "pid"));
        table_addf(&table, "%.0f", number(member, "chambers"));
        table_addf(&table, "%.0f", number(member, "assignment"));
        table_addf(&table, "%.0f", number(json_object_get(member, "counts"), "judged"));
        table_addf(&table, "%.0f", number(member, "in_flight"));
        table_addf(&table, "%.1f %%", hits + misses > 0 ? 100 * hits / (hits + misses) : 0.0);
        table_addf(&table, "%.2f",
                   number(json_object_get(json_object_get(member, "steps"), "total"), "p95_ms"));
    }
    table_format(&table, 2, &out);
    fputs(out.text, stdout);
    strbuf_free(&out);
    table_free(&table);
}

/* A failover store that is not on its primary: how many defenders say so, and why. */
static void print_store_modes(const json_t *members)
{
    static const char *const modes[] = {"standby", "reconciling"};
    static const char *const means[] = {"is away: the standby answers, verdicts are of low quality",
                                        "is back: what the standby took is being copied"};
    for (size_t m = 0; m < 2; m++) {
        size_t count = 0, i;
        const json_t *member, *first = NULL;
        json_array_foreach(members, i, member)
        {
            const json_t *store = json_object_get(member, "store");
            if (strcmp(text_of(store, "mode"), modes[m]) != 0)
                continue;
            first = first ? first : store;
            count++;
        }
        if (first)
            printf("          the primary %s (%zu of %zu defenders; since %s; %s)\n", means[m], count,
                   json_array_size(members), text_of(first, "since"), text_of(first, "error"));
    }
}

static void print_status(const json_t *status)
{
    const json_t *contexts = json_object_get(status, "contexts");
    const json_t *members = json_object_get(status, "members");
    const json_t *messages = json_object_get(status, "messages_waiting");
    printf("NATS      %s%s\n", json_string_value(json_object_get(status, "nats")),
           json_is_null(messages) ? "  (no notification stream: is a defender running?)" : "");
    printf("store     %s\n", json_string_value(json_object_get(status, "store")));
    print_store_modes(members);
    printf("contexts  %.0f announced, %.0f judged, %.0f dead-lettered", number(contexts, "announced"),
           number(contexts, "judged"), number(contexts, "dead"));
    if (!json_is_null(messages))
        printf(", %.0f messages waiting", json_number_value(messages));
    printf("\ndefenders %zu, assignment version %.0f\n", json_array_size(members),
           number(status, "map_version"));
    if (json_array_size(members) > DETAILED_MEMBERS_MAX)
        print_members(members);
    for (size_t i = 0; i < json_array_size(members) && json_array_size(members) <= DETAILED_MEMBERS_MAX; i++)
        print_member(json_array_get(members, i));
    const json_t *collectors = json_object_get(status, "collectors");
    if (json_array_size(collectors) > 0) {
        printf("collectors %zu\n", json_array_size(collectors));
        print_collectors(collectors);
    }
}

/* --- watching --- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static void on_cluster_event(void *arg, const struct bus_message *message)
{
    (void)arg;
    json_t *event = json_loadb(message->data, message->length, 0, NULL);
    printf("%s  %-14s %s\n", text_of(event, "at"), text_of(event, "id"), text_of(event, "what"));
    fflush(stdout);
    json_decref(event);
}

/* Prints the cluster's decisions as they are made, until Ctrl-C. */
static int watch_events(struct session *session, struct error *err)
{
    char subject[NAMES_BYTES];
    struct bus_subscription *subscription;
    bool never = false;
    int code = bus_subscribe(session->bus, names_subject(session->cell, "cluster.events", subject),
                             on_cluster_event, NULL, &subscription, err);
    if (code)
        return code;
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    while (!interrupted)
        session_run_until(session, &never, WATCH_POLL_MS);
    return 0;
}

int cli_status(int argc, char **argv)
{
    const char *dir = NULL;
    bool json = false, watch = false;
    const struct command_option table[] = {
        OPTION_DIR(&dir),
        {"watch", OPTION_FLAG, &watch, NULL, "then what happens in the cluster, as it happens, until Ctrl-C"},
        OPTION_JSON(&json),
    };
    enum command_next next = command_parse(&command, table, OPTION_COUNT(table), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    struct session session;
    struct error err;
    if (session_open(&session, dir, SESSION_STORE | SESSION_NATS, &err))
        return command_failed(&command, &err);
    json_t *status = gather(&session, &err);
    if (status && json)
        json_dumpf(status, stdout, JSON_INDENT(2));
    else if (status)
        print_status(status);
    if (status && json)
        putchar('\n');
    fflush(stdout);
    bool failed = status == NULL || (watch && watch_events(&session, &err) != 0);
    json_decref(status);
    session_close(&session);
    return failed ? command_failed(&command, &err) : 0;
}
