/* Errands: requests on their way (keys, probes, fences, the subjects of the stream), whose answers become
 * events. */
#include "defender/carrier_parts.h"

#include "base/clock.h"
#include "bus/jetstream.h"
#include "bus/kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROBE_TIMEOUT_MS = 500 };

struct errand *carrier_begin_errand(struct carrier *carrier, uint64_t token)
{
    struct errand *errand = carrier_must_calloc(sizeof *errand);
    *errand = (struct errand){.carrier = carrier, .token = token};
    carrier->open_errands++;
    return errand;
}

struct carrier *carrier_end_errand(struct errand *errand)
{
    struct carrier *carrier = errand->carrier;
    free(errand);
    carrier->open_errands--;
    if (!carrier->closing)
        return carrier;
    carrier_free_if_done(carrier);
    return NULL;
}

static void on_kv_done(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)error;
    struct errand *errand = arg;
    uint64_t token = errand->token;
    if (errand->timing && code == 0)
        histogram_record(errand->timing, clock_mono_ns() - errand->begun_ns);
    struct carrier *carrier = carrier_end_errand(errand);
    if (carrier)
        carrier_feed(carrier, &(struct cluster_event){
                                  .kind = EVENT_KV_DONE, .token = token, .code = code, .revision = revision});
}

static void on_probed(void *arg, int code, const struct error *error, const struct bus_message *message)
{
    (void)error;
    (void)message;
    uint64_t token = ((struct errand *)arg)->token;
    struct carrier *carrier = carrier_end_errand(arg);
    if (carrier)
        carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_PROBED, .token = token, .code = code});
}

static void on_fenced(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)error;
    (void)response;
    uint64_t token = ((struct errand *)arg)->token;
    struct carrier *carrier = carrier_end_errand(arg);
    if (carrier)
        carrier_feed(carrier, &(struct cluster_event){.kind = EVENT_FENCED,
                                                      .token = token,
                                                      .code = code == ERR_NOT_FOUND ? 0 : code});
}

/* The "{tool}.{chamber}" of a subject of the stream, NULL when it is not one. Chambers may have several. */
static const char *token_of(struct carrier *carrier, const char *subject, struct arena *arena)
{
    char prefix[NAMES_BYTES], tool[NAMES_BYTES], chamber[NAMES_BYTES];
    names_subject(carrier->cell, carrier->options.kind.subject_prefix, prefix);
    size_t skip = strlen(prefix);
    if (strncmp(subject, prefix, skip) != 0)
        return NULL;
    const char *token = subject + skip, *dot = strchr(token, '.'), *end = dot ? strchr(dot + 1, '.') : NULL;
    const char *suffix = carrier->options.kind.subject_suffix;
    if (end == NULL || (strcmp(suffix, ".>") != 0 && strcmp(suffix, end) != 0) ||
        names_unescape(token, (size_t)(dot - token), tool, NULL) ||
        names_unescape(dot + 1, (size_t)(end - dot - 1), chamber, NULL))
        return NULL;
    return arena_strndup(arena, token, (size_t)(end - token));
}

static size_t drop_repeated(const char **tokens, size_t count)
{
    size_t kept = 0;
    if (count > 0)
        qsort(tokens, count, sizeof *tokens, carrier_compare_tokens);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || strcmp(tokens[i], tokens[kept - 1]) != 0)
            tokens[kept++] = tokens[i];
    return kept;
}

static void on_subjects(void *arg, int code, int api_error, const struct error *error, const json_t *response)
{
    (void)api_error;
    (void)error;
    uint64_t token = ((struct errand *)arg)->token;
    struct carrier *carrier = carrier_end_errand(arg);
    if (carrier == NULL)
        return;
    struct arena arena;
    arena_init(&arena, 0);
    json_t *subjects = code ? NULL : json_object_get(json_object_get(response, "state"), "subjects");
    const char **tokens = arena_calloc(&arena, json_object_size(subjects) + 1, sizeof *tokens);
    size_t count = 0;
    const char *subject;
    json_t *waiting;
    json_object_foreach(subjects, subject, waiting)
    {
        if (tokens && (tokens[count] = token_of(carrier, subject, &arena)) != NULL)
            count++;
    }
    carrier_feed(carrier,
                 &(struct cluster_event){.kind = EVENT_SUBJECTS,
                                         .token = token,
                                         .code = code,
                                         .chambers = tokens,
                                         .chamber_count = tokens ? drop_repeated(tokens, count) : 0});
    arena_free(&arena);
}

/* A write of the lease by the leader renews it; by another, it acquires it. */
static void time_election(struct carrier *carrier, struct errand *errand)
{
    struct cluster_status status;
    cluster_read_status(carrier->cluster, &status);
    errand->timing = status.leads ? carrier->ports.renew : carrier->ports.acquire;
    errand->begun_ns = clock_mono_ns();
}

void carrier_write_key(struct carrier *carrier, const struct cluster_action *action)
{
    const char *bucket = carrier->buckets[action->bucket];
    struct errand *errand = carrier_begin_errand(carrier, action->token);
    if (action->bucket == BUCKET_ELECTION && action->kind != ACTION_KV_DELETE)
        time_election(carrier, errand);
    struct bus *bus = carrier->ports.bus;
    switch (action->kind) {
    case ACTION_KV_CREATE:
        kv_create(bus, bucket, action->key, action->value, action->value_length, on_kv_done, errand);
        break;
    case ACTION_KV_UPDATE:
        kv_update(bus, bucket, action->key, action->value, action->value_length, action->revision, on_kv_done,
                  errand);
        break;
    case ACTION_KV_PUT:
        kv_put(bus, bucket, action->key, action->value, action->value_length, on_kv_done, errand);
        break;
    default:
        kv_delete(bus, bucket, action->key, action->revision, on_kv_done, errand);
        break;
    }
}

void carrier_probe_member(struct carrier *carrier, const struct cluster_action *action)
{
    char own[NAMES_BYTES], subject[NAMES_BYTES];
    snprintf(own, sizeof own, "cluster.ask.%s", action->id);
    bus_request(carrier->ports.bus, names_subject(carrier->cell, own, subject), NULL, 0, "probe",
                strlen("probe"), PROBE_TIMEOUT_MS, on_probed, carrier_begin_errand(carrier, action->token));
}

void carrier_fence_consumer(struct carrier *carrier, const struct cluster_action *action)
{
    char call[NAMES_BYTES + CLUSTER_NAME_BYTES + 32];
    snprintf(call, sizeof call, "CONSUMER.DELETE.%s.%s", carrier->stream, action->id);
    jetstream_call(carrier->ports.bus, call, NULL, 0, on_fenced,
                   carrier_begin_errand(carrier, action->token));
}

void carrier_list_subjects(struct carrier *carrier, const struct cluster_action *action)
{
    char call[NAMES_BYTES + 16], own[NAMES_BYTES], all[NAMES_BYTES];
    snprintf(own, sizeof own, "%s>", carrier->options.kind.subject_prefix);
    snprintf(call, sizeof call, "STREAM.INFO.%s", carrier->stream);
    json_t *body = json_pack("{s:s}", "subjects_filter", names_subject(carrier->cell, own, all));
    jetstream_call(carrier->ports.bus, call, body, 0, on_subjects,
                   carrier_begin_errand(carrier, action->token));
    json_decref(body);
}
