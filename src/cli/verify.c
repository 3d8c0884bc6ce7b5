/* `chamberlain verify`: every stored U-chart recomputed from its T-chart, and the bits compared. */
#include "cli/command.h"
#include "base/json_writer.h"
#include "cli/options.h"
#include "cli/session.h"
#include "cli/terminal.h"
#include "cli/verify_context.h"

#include "base/clock.h"
#include "store/failover.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    QUEUE_MAX = 256,       /* contexts listed and not yet compared */
    KEPT_MAX = 10000,      /* differing contexts, and differences, kept for the report */
    SHOWN_MAX = 60,        /* differences in the text for people, */
    SHOWN_PER_CONTEXT = 3, /* of one context at most */
    SECOND_LOOK_MS = 500,  /* a context that is being judged again meanwhile is looked at once more */
    ATTEMPTS = 5,          /* for a store that is busy */
    ATTEMPT_DELAY_MS = 200,
    THREADS_MAX = 8,
    DRAIN_POLL_MS = 50,
    PRIMARY_PATIENCE_MS = 20 * 1000
};

static const struct command command = {
    .name = "verify",
    .operands = "",
    .summary = "Recomputes every stored U-chart from its T-chart, by the chart file that judged it, and "
               "compares the bits.\n"
               "Exit 1 with a list when any differs.",
    .examples = "  chamberlain verify --dir fab\n"
                "  chamberlain verify --dir fab --tool LAM9600 --strict --json",
};

struct key_copy {
    struct key_copy *next;
    struct store_key key; /* its texts follow the struct */
};

struct kept_difference {
    const char *tool, *chamber, *context;
    struct verify_difference difference;
};

struct verify {
    struct session session;
    struct stored_charts charts;
    struct store_list_query query;
    bool json, strict;
    struct progress progress;

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    struct key_copy *first, *last; /* the queue */
    size_t queued;
    bool listed_all;
    struct key_copy *suspects, *last_suspect; /* they differed at the first look */
    size_t suspect_count, suspects_dropped;
    size_t counts[VERIFY_EXPIRED + 1];
    size_t compared, pending, dead;
    struct arena arena; /* of the report */
    struct kept_difference *kept;
    size_t kept_count, differences;
    int code;
    struct error err;
};

/* --- keys --- */

static struct key_copy *copy_key(const struct store_key *key)
{
    size_t tool = strlen(key->tool) + 1, chamber = strlen(key->chamber) + 1, id = strlen(key->context_id) + 1;
    struct key_copy *copy = malloc(sizeof *copy + tool + chamber + id);
    if (copy == NULL)
        return NULL;
    char *text = (char *)(copy + 1);
    copy->next = NULL;
    copy->key.tool = memcpy(text, key->tool, tool);
    copy->key.chamber = memcpy(text + tool, key->chamber, chamber);
    copy->key.context_id = memcpy(text + tool + chamber, key->context_id, id);
    return copy;
}

static void free_keys(struct key_copy *key)
{
    for (struct key_copy *next; key; key = next) {
        next = key->next;
        free(key);
    }
}

/* Under the lock. */
static void fail(struct verify *verify, int code, const struct error *error)
{
    if (verify->code == 0) {
        verify->code = code;
        verify->err = *error;
    }
    pthread_cond_broadcast(&verify->changed);
}

/* --- the threads --- */

static int verify_patiently(struct verifier *verifier, const struct store_key *key,
                            enum verify_outcome *outcome, struct error *err)
{
    int code = verify_context(verifier, key, outcome, err);
    for (int i = 1; i < ATTEMPTS && error_is_transient(code); i++) {
        uv_sleep(ATTEMPT_DELAY_MS);
        code = verify_context(verifier, key, outcome, err);
    }
    return code;
}

/* The next key, NULL when there will be none. */
static struct key_copy *next_key(struct verify *verify)
{
    pthread_mutex_lock(&verify->lock);
    while (verify->first == NULL && !verify->listed_all && verify->code == 0)
        pthread_cond_wait(&verify->changed, &verify->lock);
    struct key_copy *key = verify->code == 0 ? verify->first : NULL;
    if (key) {
        verify->first = key->next;
        if (verify->first == NULL)
            verify->last = NULL;
        verify->queued--;
        pthread_cond_broadcast(&verify->changed);
    }
    pthread_mutex_unlock(&verify->lock);
    return key;
}

static void record_first_look(struct verify *verify, struct key_copy *key, int code,
                              enum verify_outcome outcome, const struct error *error)
{
    pthread_mutex_lock(&verify->lock);
    verify->compared++;
    if (code) {
        fail(verify, code, error);
    } else if (outcome == VERIFY_DIFFERENT && verify->suspect_count < KEPT_MAX) {
        key->next = NULL;
        if (verify->last_suspect)
            verify->last_suspect->next = key;
        else
            verify->suspects = key;
        verify->last_suspect = key;
        verify->suspect_count++;
        key = NULL;
    } else {
        verify->suspects_dropped += outcome == VERIFY_DIFFERENT;
        verify->counts[outcome]++;
    }
    pthread_mutex_unlock(&verify->lock);
    free(key);
}

static void *work(void *arg)
{
    struct verify *verify = arg;
    struct verifier verifier;
    struct error err;
    enum verify_outcome outcome;
    int code = verifier_init(&verifier, verify->session.store, &verify->charts, &err);
    if (code) {
        pthread_mutex_lock(&verify->lock);
        fail(verify, code, &err);
        pthread_mutex_unlock(&verify->lock);
    }
    for (struct key_copy *key; code == 0 && (key = next_key(verify)) != NULL;) {
        int verify_code = verify_patiently(&verifier, &key->key, &outcome, &err);
        record_first_look(verify, key, verify_code, outcome, &err);
    }
    verifier_free(&verifier);
    return NULL;
}

/* --- listing --- */

static int enqueue(struct verify *verify, const struct store_key *key)
{
    struct key_copy *copy = copy_key(key);
    if (copy == NULL)
        return error_set(&verify->err, ERR_NO_MEMORY, "no memory for a context's name");
    pthread_mutex_lock(&verify->lock);
    while (verify->queued >= QUEUE_MAX && verify->code == 0)
        pthread_cond_wait(&verify->changed, &verify->lock);
    if (verify->last)
        verify->last->next = copy;
    else
        verify->first = copy;
    verify->last = copy;
    verify->queued++;
    int code = verify->code;
    size_t compared = verify->compared;
    pthread_cond_broadcast(&verify->changed);
    pthread_mutex_unlock(&verify->lock);
    progress_update(&verify->progress, (int64_t)compared);
    return code;
}

static int visit(void *arg, const struct store_completion *completion)
{
    struct verify *verify = arg;
    if (completion->state == STORE_PENDING) {
        verify->pending++;
        return 0;
    }
    if (completion->state == STORE_DEAD) {
        verify->dead++;
        return 0;
    }
    return enqueue(verify, &completion->key);
}

static size_t thread_count(void)
{
    unsigned available = uv_available_parallelism();
    return available > THREADS_MAX ? THREADS_MAX : available < 1 ? 1 : available;
}

static void drain(struct verify *verify)
{
    pthread_mutex_lock(&verify->lock);
    verify->listed_all = true;
    pthread_cond_broadcast(&verify->changed);
    while (verify->queued > 0 && verify->code == 0) {
        size_t compared = verify->compared;
        pthread_mutex_unlock(&verify->lock);
        progress_update(&verify->progress, (int64_t)compared);
        uv_sleep(DRAIN_POLL_MS);
        pthread_mutex_lock(&verify->lock);
    }
    pthread_mutex_unlock(&verify->lock);
}

static void first_look(struct verify *verify)
{
    pthread_t threads[THREADS_MAX];
    size_t wanted = thread_count(), started = 0;
    struct error err = {0};
    while (started < wanted && pthread_create(&threads[started], NULL, work, verify) == 0)
        started++;
    int code = started > 0 ? session_each_context(&verify->session, &verify->query, visit, verify, &err)
                           : error_set(&err, ERR_NO_MEMORY, "no thread can be started");
    pthread_mutex_lock(&verify->lock);
    if (code)
        fail(verify, code, &err);
    pthread_mutex_unlock(&verify->lock);
    drain(verify);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

/* --- the second look --- */

static int keep_differences(struct verify *verify, const struct verifier *verifier,
                            const struct store_key *key)
{
    verify->differences += verifier->difference_count;
    const char *tool = arena_strdup(&verify->arena, key->tool);
    const char *chamber = arena_strdup(&verify->arena, key->chamber);
    const char *context = arena_strdup(&verify->arena, key->context_id);
    bool complete = tool && chamber && context;
    for (size_t i = 0; i < verifier->difference_count && complete && verify->kept_count < KEPT_MAX; i++) {
        const struct verify_difference *found = &verifier->differences[i];
        struct kept_difference *kept = &verify->kept[verify->kept_count++];
        *kept = (struct kept_difference){
            tool,
            chamber,
            context,
            {arena_strdup(&verify->arena, found->chart), arena_strdup(&verify->arena, found->field),
             arena_strdup(&verify->arena, found->stored), arena_strdup(&verify->arena, found->recomputed)}};
        complete = kept->difference.chart && kept->difference.field && kept->difference.stored &&
                   kept->difference.recomputed;
    }
    return complete ? 0 : error_set(&verify->err, ERR_NO_MEMORY, "no memory for the list of differences");
}

static int look_again(struct verify *verify, struct verifier *verifier, const struct store_key *key)
{
    enum verify_outcome outcome;
    int code = verify_patiently(verifier, key, &outcome, &verify->err);
    if (code)
        return code;
    verify->counts[outcome]++;
    return outcome == VERIFY_DIFFERENT ? keep_differences(verify, verifier, key) : 0;
}

static int second_look(struct verify *verify)
{
    if (verify->suspects == NULL)
        return 0;
    verify->kept = calloc(KEPT_MAX, sizeof *verify->kept);
    if (verify->kept == NULL)
        return error_set(&verify->err, ERR_NO_MEMORY, "no memory for the list of differences");
    struct verifier verifier;
    int code = verifier_init(&verifier, verify->session.store, &verify->charts, &verify->err);
    uv_sleep(SECOND_LOOK_MS);
    for (struct key_copy *key = verify->suspects; key && code == 0; key = key->next)
        code = look_again(verify, &verifier, &key->key);
    verifier_free(&verifier);
    return code;
}

/* --- the report --- */

static void format_json(const struct verify *verify, double seconds, bool passed, struct strbuf *out)
{
    struct json_writer json = {.out = out};
    json_begin_object(&json, NULL);
    json_add_bool(&json, "passed", passed);
    json_add_size(&json, "verified", verify->counts[VERIFY_EQUAL] + verify->counts[VERIFY_DEGRADED]);
    json_add_size(&json, "degraded", verify->counts[VERIFY_DEGRADED]);
    json_add_size(&json, "different", verify->counts[VERIFY_DIFFERENT]);
    json_add_size(&json, "expired", verify->counts[VERIFY_EXPIRED]);
    json_add_size(&json, "pending", verify->pending + verify->counts[VERIFY_UNJUDGED]);
    json_add_size(&json, "dead", verify->dead);
    json_add_double(&json, "seconds", seconds);
    json_begin_array(&json, "differences");
    for (size_t i = 0; i < verify->kept_count; i++) {
        const struct kept_difference *kept = &verify->kept[i];
        json_begin_object(&json, NULL);
        json_add_text(&json, "tool", kept->tool);
        json_add_text(&json, "chamber", kept->chamber);
        json_add_text(&json, "context_id", kept->context);
        json_add_text(&json, "chart", kept->difference.chart);
        json_add_text(&json, "field", kept->difference.field);
        json_add_text(&json, "stored", kept->difference.stored);
        json_add_text(&json, "recomputed", kept->difference.recomputed);
        json_end_object(&json);
    }
    json_end_array(&json);
    json_end_object(&json);
    strbuf_add_char(out, '\n');
}

static void add_difference(const struct kept_difference *kept, struct strbuf *out)
{
    const struct verify_difference *difference = &kept->difference;
    strbuf_printf(out, "%s (%s:%s)", kept->context, kept->tool, kept->chamber);
    if (*difference->chart)
        strbuf_printf(out, "  %s", difference->chart);
    if (*difference->recomputed || *difference->chart)
        strbuf_printf(out, "  %s: stored %s, recomputed %s\n", difference->field,
                      *difference->stored ? difference->stored : "nothing",
                      *difference->recomputed ? difference->recomputed : "nothing");
    else
        strbuf_printf(out, "  %s: %s\n", difference->field, difference->stored);
}

static void add_differences(const struct verify *verify, struct strbuf *out)
{
    const char *context = NULL;
    size_t shown = 0, of_context = 0;
    for (size_t i = 0; i < verify->kept_count && shown < SHOWN_MAX; i++) {
        const struct kept_difference *kept = &verify->kept[i];
        of_context = kept->context == context ? of_context + 1 : 0; /* those of one context share its text */
        context = kept->context;
        if (of_context >= SHOWN_PER_CONTEXT)
            continue;
        add_difference(kept, out);
        shown++;
    }
    if (verify->differences > shown)
        strbuf_printf(out, "%zu differences in all (--json lists up to %d)\n", verify->differences, KEPT_MAX);
}

static void format_text(const struct verify *verify, double seconds, struct strbuf *out)
{
    size_t equal = verify->counts[VERIFY_EQUAL] + verify->counts[VERIFY_DEGRADED];
    size_t pending = verify->pending + verify->counts[VERIFY_UNJUDGED];
    add_differences(verify, out);
    strbuf_printf(out, "%zu U-charts are what their T-charts give, %zu differ (%.0f/s, %.1f s)\n", equal,
                  verify->counts[VERIFY_DIFFERENT], seconds > 0 ? (double)verify->compared / seconds : 0.0,
                  seconds);
    if (verify->counts[VERIFY_DIFFERENT] > 0)
        strbuf_add(out, "`chamberlain replay` judges contexts again: right after an upgrade that computes "
                        "otherwise; look "
                        "for the cause first after anything else\n");
    if (verify->counts[VERIFY_DEGRADED] > 0)
        strbuf_printf(out, "%zu of them are marked as judged while a standby store answered\n",
                      verify->counts[VERIFY_DEGRADED]);
    if (verify->counts[VERIFY_EXPIRED] > 0)
        strbuf_printf(out, "%zu were not compared: their T-charts have expired\n",
                      verify->counts[VERIFY_EXPIRED]);
    if (pending > 0)
        strbuf_printf(out, "%zu contexts are complete and not judged yet\n", pending);
    if (verify->dead > 0)
        strbuf_printf(out, "%zu contexts are dead (`chamberlain context show ID` says why)\n", verify->dead);
}

static int report(const struct verify *verify, double seconds)
{
    bool passed = verify->counts[VERIFY_DIFFERENT] == 0 &&
                  !(verify->strict && verify->pending + verify->counts[VERIFY_UNJUDGED] > 0);
    struct strbuf out;
    strbuf_init(&out);
    if (verify->json)
        format_json(verify, seconds, passed, &out);
    else
        format_text(verify, seconds, &out);
    int exit_code = terminal_print(&out);
    strbuf_free(&out);
    return exit_code ? exit_code : passed ? 0 : EXIT_FAILED;
}

static int64_t judged_total(struct session *session)
{
    store_count(session->store, store_wait_done, session->wait);
    struct store_reply *reply = session_reply(session);
    int64_t judged = reply->code == 0 ? reply->counts.judged : 0;
    store_reply_free(reply);
    return judged;
}

static int run(struct verify *verify)
{
    bool all = !verify->query.tool && !verify->query.chamber && !verify->query.recipe && !verify->query.lot;
    int64_t start_ns = clock_mono_ns();
    progress_begin(&verify->progress, "verified", all ? judged_total(&verify->session) : 0);
    first_look(verify);
    int code = verify->code ? verify->code : second_look(verify);
    progress_end(&verify->progress);
    double seconds = (double)(clock_mono_ns() - start_ns) / 1e9;
    return code ? command_failed(&command, &verify->err) : report(verify, seconds);
}

/* A standby store has not everything that verdicts were made from. */
static int wait_for_primary(struct verify *verify)
{
    struct store_health health;
    for (int waited_ms = 0; waited_ms <= PRIMARY_PATIENCE_MS; waited_ms += DRAIN_POLL_MS) {
        store_health(verify->session.store, &health);
        if (health.mode == STORE_MODE_SINGLE || health.mode == STORE_MODE_PRIMARY)
            return 0;
        uv_sleep(DRAIN_POLL_MS);
    }
    return error_set(
        &verify->err, ERR_UNAVAILABLE,
        "the primary store is away, or does not have everything yet (%s): verify once it is back",
        store_mode_name(health.mode));
}

int cli_verify(int argc, char **argv)
{
    struct verify verify = {0};
    const char *dir = NULL;
    const struct command_option options[] = {
        OPTION_DIR(&dir),
        OPTION_TOOL(&verify.query.tool),
        OPTION_CHAMBER(&verify.query.chamber),
        OPTION_RECIPE(&verify.query.recipe),
        OPTION_LOT(&verify.query.lot),
        {"strict", OPTION_FLAG, &verify.strict, NULL, "contexts that are not judged yet fail it too"},
        OPTION_JSON(&verify.json),
    };
    enum command_next next = command_parse(&command, options, OPTION_COUNT(options), argc, argv, NULL);
    if (next != COMMAND_RUN)
        return next == COMMAND_HELP ? 0 : EXIT_USAGE;
    if (session_open(&verify.session, dir, SESSION_STORE, &verify.err))
        return command_failed(&command, &verify.err);
    stored_charts_init(&verify.charts, verify.session.store);
    pthread_mutex_init(&verify.lock, NULL);
    pthread_cond_init(&verify.changed, NULL);
    arena_init(&verify.arena, 0);
    int exit_code = wait_for_primary(&verify) ? command_failed(&command, &verify.err) : run(&verify);
    arena_free(&verify.arena);
    free(verify.kept);
    free_keys(verify.suspects);
    free_keys(verify.first);
    pthread_cond_destroy(&verify.changed);
    pthread_mutex_destroy(&verify.lock);
    stored_charts_free(&verify.charts);
    session_close(&verify.session);
    return exit_code;
}
