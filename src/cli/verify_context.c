#include "cli/verify_context.h"

#include "chart/rules.h"
#include "view/verdict_text.h"
#include "defender/judgement.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ARENA_BLOCK_BYTES = 1 << 20 };

int verifier_init(struct verifier *verifier, struct store *store, struct stored_charts *charts,
                  struct error *err)
{
    *verifier = (struct verifier){.store = store, .charts = charts};
    arena_init(&verifier->arena, ARENA_BLOCK_BYTES);
    verifier->wait = store_wait_new();
    return verifier->wait ? 0 : error_set(err, ERR_NO_MEMORY, "no memory to verify");
}

void verifier_free(struct verifier *verifier)
{
    if (verifier->wait)
        store_wait_free(verifier->wait);
    arena_free(&verifier->arena);
    *verifier = (struct verifier){0};
}

/* The replies that one comparison reads. */
struct evidence {
    struct store_reply *uchart, *tchart, *history;
    const struct store_uchart *stored;
    struct context context;
    struct chart_set *set;
    struct judgement judgement;
};

static void evidence_free(struct evidence *evidence)
{
    struct store_reply *replies[] = {evidence->uchart, evidence->tchart, evidence->history};
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++)
        if (replies[i])
            store_reply_free(replies[i]);
}

/* --- differences --- */

static void add_difference(struct verifier *verifier, const char *chart, const char *field,
                           const char *stored, const char *recomputed)
{
    if (verifier->difference_count >= VERIFY_DIFFERENCES_MAX)
        return;
    if (verifier->differences == NULL)
        verifier->differences =
            arena_calloc(&verifier->arena, VERIFY_DIFFERENCES_MAX, sizeof *verifier->differences);
    if (verifier->differences == NULL)
        return; /* the outcome still says that there is one */
    struct verify_difference *difference = &verifier->differences[verifier->difference_count++];
    const char *texts[] = {arena_strdup(&verifier->arena, chart), arena_strdup(&verifier->arena, field),
                           arena_strdup(&verifier->arena, stored),
                           arena_strdup(&verifier->arena, recomputed)};
    for (size_t i = 0; i < 4; i++)
        texts[i] = texts[i] ? texts[i] : "";
    *difference = (struct verify_difference){texts[0], texts[1], texts[2], texts[3]};
}

/* Something that cannot even be compared. */
static int report_damage(struct verifier *verifier, const char *field, const struct error *error,
                         enum verify_outcome *outcome)
{
    *outcome = VERIFY_DIFFERENT;
    add_difference(verifier, "", field, error->text, "");
    return 0;
}

static void compare_double(struct verifier *verifier, const char *chart, const char *field, double stored,
                           double recomputed)
{
    if (memcmp(&stored, &recomputed, sizeof stored) == 0)
        return;
    char a[32], b[32];
    snprintf(a, sizeof a, "%.17g", stored);
    snprintf(b, sizeof b, "%.17g", recomputed);
    add_difference(verifier, chart, field, a, b);
}

static void compare_integer(struct verifier *verifier, const char *chart, const char *field, int64_t stored,
                            int64_t recomputed)
{
    if (stored == recomputed)
        return;
    char a[24], b[24];
    snprintf(a, sizeof a, "%" PRId64, stored);
    snprintf(b, sizeof b, "%" PRId64, recomputed);
    add_difference(verifier, chart, field, a, b);
}

static void compare_id(struct verifier *verifier, const char *chart, const char *field, uint64_t stored,
                       uint64_t recomputed)
{
    if (stored == recomputed)
        return;
    char a[24], b[24];
    snprintf(a, sizeof a, "%016" PRIx64, stored);
    snprintf(b, sizeof b, "%016" PRIx64, recomputed);
    add_difference(verifier, chart, field, a, b);
}

static void compare_text(struct verifier *verifier, const char *chart, const char *field, const char *stored,
                         const char *recomputed)
{
    if (strcmp(stored, recomputed) != 0)
        add_difference(verifier, chart, field, stored, recomputed);
}

static void compare_rules(struct verifier *verifier, const char *chart, uint32_t stored, uint32_t recomputed)
{
    if (stored == recomputed)
        return;
    struct strbuf a, b;
    strbuf_init(&a);
    strbuf_init(&b);
    verdict_add_rules(stored, &a);
    verdict_add_rules(recomputed, &b);
    add_difference(verifier, chart, "rules", a.text, b.text);
    strbuf_free(&a);
    strbuf_free(&b);
}

static void compare_point(struct verifier *verifier, const struct uchart_point *stored,
                          const struct uchart_point *recomputed)
{
    const char *chart = recomputed->chart;
    compare_text(verifier, chart, "chart", stored->chart, recomputed->chart);
    compare_id(verifier, chart, "series", stored->series, recomputed->series);
    compare_double(verifier, chart, "value", stored->value, recomputed->value);
    compare_double(verifier, chart, "centre", stored->centre, recomputed->centre);
    compare_double(verifier, chart, "lower", stored->lower, recomputed->lower);
    compare_double(verifier, chart, "upper", stored->upper, recomputed->upper);
    compare_rules(verifier, chart, stored->rules, recomputed->rules);
    compare_text(verifier, chart, "state", verdict_state_name(stored->state),
                 verdict_state_name(recomputed->state));
    compare_text(verifier, chart, "severity", severity_name(stored->severity),
                 severity_name(recomputed->severity));
    compare_integer(verifier, chart, "flags", stored->flags, recomputed->flags);
    compare_integer(verifier, chart, "history", stored->history_count, recomputed->history_count);
    compare_text(verifier, chart, "unit", stored->unit, recomputed->unit);
    compare_text(verifier, chart, "reason", stored->reason, recomputed->reason);
}

/* The bytes differ: which fields are they? */
static int find_fields(struct verifier *verifier, const struct evidence *evidence,
                       enum verify_outcome *outcome)
{
    struct uchart stored;
    struct error error;
    int code = verdict_decode(evidence->stored, &verifier->arena, &stored, &error);
    if (code == ERR_NO_MEMORY)
        return code;
    if (code)
        return report_damage(verifier, "the stored U-chart cannot be read", &error, outcome);
    const struct uchart *recomputed = &evidence->judgement.uchart;
    size_t before = verifier->difference_count;
    compare_id(verifier, "", "chart_set", stored.chart_set, recomputed->chart_set);
    compare_integer(verifier, "", "charts", (int64_t)stored.count, (int64_t)recomputed->count);
    for (size_t i = 0; i < stored.count && i < recomputed->count; i++)
        compare_point(verifier, &stored.points[i], &recomputed->points[i]);
    if (verifier->difference_count == before)
        add_difference(verifier, "", "bytes", "the same fields in other bytes", "");
    *outcome = VERIFY_DIFFERENT;
    return 0;
}

static bool same_bytes(const struct store_uchart *stored, const struct uchart_bytes *bytes)
{
    return stored->points_length == bytes->points_length &&
           stored->verdicts_length == bytes->verdicts_length &&
           memcmp(stored->points, bytes->points, bytes->points_length) == 0 &&
           memcmp(stored->verdicts, bytes->verdicts, bytes->verdicts_length) == 0;
}

/* What stands in the row beside the two byte strings. */
static void compare_row(struct verifier *verifier, const struct evidence *evidence,
                        enum verify_outcome *outcome)
{
    const struct store_uchart *stored = evidence->stored;
    const struct uchart *uchart = &evidence->judgement.uchart;
    size_t before = verifier->difference_count;
    int64_t alarms = 0;
    for (size_t i = 0; i < uchart->count; i++)
        alarms += uchart->points[i].state == VERDICT_ALARM;
    compare_integer(verifier, "", "alarm count of the row", stored->alarm_count, alarms);
    compare_integer(verifier, "", "severity of the row", stored->severity,
                    (int64_t)uchart_worst_severity(uchart));
    compare_integer(verifier, "", "end of the row", stored->end_us, evidence->context.end_us);
    compare_text(verifier, "", "recipe of the row", stored->recipe, evidence->context.recipe);
    if (verifier->difference_count > before)
        *outcome = VERIFY_DIFFERENT;
}

/* --- gathering --- */

static struct store_reply *wait_reply(struct verifier *verifier)
{
    return store_wait_reply(verifier->wait);
}

/* No U-chart: not judged, gone with its retention since it was listed, or lost. */
static int explain_missing(struct verifier *verifier, const struct store_key *key,
                           enum verify_outcome *outcome, struct error *err)
{
    store_find_context(verifier->store, key->context_id, store_wait_done, verifier->wait);
    struct store_reply *reply = wait_reply(verifier);
    int code = reply->code == ERR_NOT_FOUND ? 0 : reply->code;
    if (code)
        *err = reply->error;
    *outcome = VERIFY_UNJUDGED;
    if (reply->code == 0 && reply->completions[0].state == STORE_JUDGED &&
        strcmp(reply->completions[0].key.tool, key->tool) == 0 &&
        strcmp(reply->completions[0].key.chamber, key->chamber) == 0) {
        *outcome = VERIFY_DIFFERENT;
        add_difference(verifier, "", "its U-chart", "gone, though the store says that it was judged", "");
    }
    store_reply_free(reply);
    return code;
}

/* 0 to go on; otherwise *done says whether an outcome was found or the code is an error. */
static int fetch_uchart(struct verifier *verifier, const struct store_key *key, struct evidence *evidence,
                        bool *done, enum verify_outcome *outcome, struct error *err)
{
    store_fetch_uchart(verifier->store, key, store_wait_done, verifier->wait);
    evidence->uchart = wait_reply(verifier);
    int code = evidence->uchart->code;
    *done = code != 0;
    if (code == 0) {
        evidence->stored = &evidence->uchart->ucharts[0];
        return 0;
    }
    if (code == ERR_NOT_FOUND)
        return explain_missing(verifier, key, outcome, err);
    if (code == ERR_CORRUPT)
        return report_damage(verifier, "the stored U-chart cannot be read", &evidence->uchart->error,
                             outcome);
    *err = evidence->uchart->error;
    return code;
}

static int fetch_tchart(struct verifier *verifier, const struct store_key *key, struct evidence *evidence,
                        bool *done, enum verify_outcome *outcome, struct error *err)
{
    store_fetch_tchart(verifier->store, key, store_wait_done, verifier->wait);
    evidence->tchart = wait_reply(verifier);
    int code = evidence->tchart->code;
    *done = code != 0;
    if (code == ERR_NOT_FOUND) {
        *outcome = VERIFY_EXPIRED;
        return 0;
    }
    if (code == ERR_CORRUPT)
        return report_damage(verifier, "the T-chart cannot be read", &evidence->tchart->error, outcome);
    if (code) {
        *err = evidence->tchart->error;
        return code;
    }
    const char *announcement = evidence->tchart->completions[0].announcement;
    struct error error;
    code = context_parse(announcement, strlen(announcement), &verifier->arena, &evidence->context, &error);
    *done = code != 0;
    if (code == ERR_NO_MEMORY) {
        *err = error;
        return code;
    }
    return code ? report_damage(verifier, "the announcement cannot be read", &error, outcome) : 0;
}

static int fetch_set(struct verifier *verifier, struct evidence *evidence, bool *done,
                     enum verify_outcome *outcome, struct error *err)
{
    struct error error;
    int code = stored_charts_get(verifier->charts, evidence->stored->chart_set, &evidence->set, &error);
    *done = code != 0;
    if (error_is_transient(code) || code == ERR_NO_MEMORY) {
        *err = error;
        return code;
    }
    return code ? report_damage(verifier, "the chart file that judged it", &error, outcome) : 0;
}

static int fetch_history(struct verifier *verifier, const struct store_key *key, struct evidence *evidence,
                         bool *done, enum verify_outcome *outcome, struct error *err)
{
    size_t lookback;
    int code = judgement_lookback(evidence->set, evidence->context.recipe, &lookback, err);
    *done = code != 0;
    if (code || lookback == 0)
        return code;
    struct store_history_query query = {.tool = key->tool,
                                        .chamber = key->chamber,
                                        .recipe = evidence->context.recipe,
                                        .end_us = evidence->context.end_us,
                                        .context_id = key->context_id,
                                        .limit = lookback};
    store_fetch_history(verifier->store, &query, store_wait_done, verifier->wait);
    evidence->history = wait_reply(verifier);
    code = evidence->history->code;
    *done = code != 0;
    if (code == ERR_CORRUPT)
        return report_damage(verifier, "its history cannot be read", &evidence->history->error, outcome);
    if (code)
        *err = evidence->history->error;
    return code;
}

static int gather(struct verifier *verifier, const struct store_key *key, struct evidence *evidence,
                  bool *done, enum verify_outcome *outcome, struct error *err)
{
    int code = fetch_uchart(verifier, key, evidence, done, outcome, err);
    if (code == 0 && !*done)
        code = fetch_tchart(verifier, key, evidence, done, outcome, err);
    if (code == 0 && !*done)
        code = fetch_set(verifier, evidence, done, outcome, err);
    if (code == 0 && !*done)
        code = fetch_history(verifier, key, evidence, done, outcome, err);
    return code;
}

/* --- recomputing --- */

static int recompute(struct verifier *verifier, struct evidence *evidence, bool degraded, struct error *error)
{
    struct judgement_input input = {.set = evidence->set,
                                    .context = &evidence->context,
                                    .chunks = evidence->tchart->chunks,
                                    .chunk_count = evidence->tchart->chunk_count,
                                    .history = evidence->history ? evidence->history->ucharts : NULL,
                                    .history_count = evidence->history ? evidence->history->uchart_count : 0,
                                    .degraded = degraded};
    return judgement_compute(&input, &verifier->arena, &evidence->judgement, error);
}

static int compare(struct verifier *verifier, struct evidence *evidence, enum verify_outcome *outcome,
                   struct error *err)
{
    struct error error;
    int code = recompute(verifier, evidence, false, &error);
    bool equal = code == 0 && same_bytes(evidence->stored, &evidence->judgement.bytes);
    *outcome = VERIFY_EQUAL;
    if (code == 0 && !equal) {
        /* With a standby store's history the same verdict is marked as of low quality. */
        struct judgement plain = evidence->judgement;
        code = recompute(verifier, evidence, true, &error);
        equal = code == 0 && same_bytes(evidence->stored, &evidence->judgement.bytes);
        *outcome = VERIFY_DEGRADED;
        if (!equal)
            evidence->judgement = plain;
    }
    if (code == ERR_NO_MEMORY) {
        *err = error;
        return code;
    }
    if (code)
        return report_damage(verifier, "it cannot be judged again", &error, outcome);
    if (!equal)
        code = find_fields(verifier, evidence, outcome);
    if (code)
        return error_set(err, code, "no memory to compare %s", evidence->context.id);
    compare_row(verifier, evidence, outcome);
    return 0;
}

int verify_context(struct verifier *verifier, const struct store_key *key, enum verify_outcome *outcome,
                   struct error *err)
{
    struct evidence evidence = {0};
    bool done = false;
    arena_reset(&verifier->arena);
    verifier->differences = NULL;
    verifier->difference_count = 0;
    int code = gather(verifier, key, &evidence, &done, outcome, err);
    if (code == 0 && !done)
        code = compare(verifier, &evidence, outcome, err);
    evidence_free(&evidence);
    return code;
}
