/* What is written in the buckets, as JSON. Unknown fields are ignored, so that a newer version may add some.
 */
#include "cluster/machine.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void id_format(const struct cluster *c, int number, char id[static CLUSTER_NAME_BYTES])
{
    int room = CLUSTER_NAME_BYTES - 12; /* for the hyphen and any int */
    snprintf(id, CLUSTER_NAME_BYTES, "%.*s-%d", room, c->role, number);
}

int id_parse(const struct cluster *c, const char *id)
{
    size_t prefix = strlen(c->role);
    if (strncmp(id, c->role, prefix) != 0 || id[prefix] != '-')
        return -1;
    const char *digits = id + prefix + 1;
    size_t length = strspn(digits, "0123456789");
    if (length == 0 || length > 6 || digits[length] != '\0' || (length > 1 && digits[0] == '0'))
        return -1;
    int number = atoi(digits);
    return number < c->config.pool ? number : -1;
}

static json_t *document_load(const char *what, const char *json, size_t length, struct error *err)
{
    json_error_t problem;
    json_t *document = json_loadb(json, length, 0, &problem);
    if (document == NULL || !json_is_object(document)) {
        error_set(err, ERR_CORRUPT, "%s is not a JSON object: %s", what,
                  document ? "another type" : problem.text);
        json_decref(document);
        return NULL;
    }
    return document;
}

/* A counter written as a JSON integer; -1: absent or out of range. */
static int64_t document_integer(const json_t *document, const char *field)
{
    const json_t *value = json_object_get(document, field);
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return -1;
    return json_integer_value(value);
}

static bool document_text(const json_t *document, const char *field, char text[static CLUSTER_NAME_BYTES])
{
    const char *value = json_string_value(json_object_get(document, field));
    if (value == NULL || strlen(value) >= CLUSTER_NAME_BYTES)
        return false;
    strcpy(text, value);
    return true;
}

static bool document_incarnation(const json_t *document, uint64_t *incarnation)
{
    const char *text = json_string_value(json_object_get(document, "incarnation"));
    if (text == NULL || *text < '0' || *text > '9' || strlen(text) > 20)
        return false;
    char *end;
    *incarnation = strtoull(text, &end, 10);
    return *end == '\0' && *incarnation != 0;
}

bool claim_format(const struct claim *claim, struct strbuf *json)
{
    strbuf_printf(json, "{\"incarnation\":\"%" PRIu64 "\",\"version\":", claim->incarnation);
    strbuf_add_json(json, claim->version);
    strbuf_add(json, ",\"group\":");
    strbuf_add_json(json, claim->group);
    strbuf_add(json, ",\"share\":");
    strbuf_add_json_double(json, claim->share);
    strbuf_add_char(json, '}');
    return !json->failed;
}

/* Fields shared by a claim and a heartbeat. */
static int document_claim(const json_t *document, struct claim *claim, struct error *err)
{
    if (!document_incarnation(document, &claim->incarnation))
        return error_set(err, ERR_CORRUPT, "field incarnation is not a positive number in quotes");
    if (!document_text(document, "version", claim->version) ||
        !document_text(document, "group", claim->group))
        return error_set(err, ERR_CORRUPT, "fields version and group are not texts below %d bytes",
                         CLUSTER_NAME_BYTES);
    const json_t *share = json_object_get(document, "share");
    claim->share = json_number_value(share);
    if (!json_is_number(share) || !(claim->share >= 0 && claim->share <= 1))
        return error_set(err, ERR_CORRUPT, "field share is not a number from 0 to 1");
    return 0;
}

int claim_parse(const char *json, size_t length, struct claim *claim, struct error *err)
{
    json_t *document = document_load("claim", json, length, err);
    if (document == NULL)
        return ERR_CORRUPT;
    int code = document_claim(document, claim, err);
    json_decref(document);
    return code;
}

bool lease_format(const struct lease *lease, struct strbuf *json)
{
    strbuf_add(json, "{\"id\":");
    strbuf_add_json(json, lease->id);
    strbuf_printf(json, ",\"incarnation\":\"%" PRIu64 "\",\"serial\":%" PRIu64 "}", lease->incarnation,
                  lease->serial);
    return !json->failed;
}

int lease_parse(const char *json, size_t length, struct lease *lease, struct error *err)
{
    json_t *document = document_load("lease", json, length, err);
    if (document == NULL)
        return ERR_CORRUPT;
    int64_t serial = document_integer(document, "serial");
    int code = 0;
    if (!document_text(document, "id", lease->id) || !document_incarnation(document, &lease->incarnation) ||
        serial < 0)
        code = error_set(err, ERR_CORRUPT, "fields id, incarnation and serial do not describe a lease");
    lease->serial = (uint64_t)serial;
    json_decref(document);
    return code;
}

static int member_order(const void *a, const void *b)
{
    const struct header_member *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static int header_member_parse(const struct cluster *c, const json_t *item, struct header_member *member,
                               struct error *err)
{
    char id[CLUSTER_NAME_BYTES];
    if (!document_text(item, "id", id))
        return error_set(err, ERR_CORRUPT, "a member of the map has no id");
    int64_t assigned = document_integer(item, "assigned");
    int64_t revision = document_integer(item, "revision");
    int64_t count = document_integer(item, "count");
    int64_t weight = document_integer(item, "weight");
    if (assigned < 0 || revision < 0 || count < 0 || weight < 0)
        return error_set(err, ERR_CORRUPT, "member %s of the map lacks assigned, revision, count or weight",
                         id);
    /* An ID beyond the pool (which was larger once) stays out: its chambers count as nobody's. */
    *member = (struct header_member){id_parse(c, id), (uint64_t)assigned, (uint64_t)revision, (size_t)count,
                                     weight};
    return 0;
}

static int header_members_parse(const struct cluster *c, const json_t *list, struct header *header,
                                struct error *err)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > CLUSTER_MEMBERS_MAX)
        return error_set(err, ERR_CORRUPT, "the map's members are not a list of up to %d",
                         CLUSTER_MEMBERS_MAX);
    header->members = calloc(count ? count : 1, sizeof *header->members);
    if (header->members == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the %zu members of the map", count);
    for (size_t i = 0; i < count; i++) {
        struct header_member *member = &header->members[header->member_count];
        int code = header_member_parse(c, json_array_get(list, i), member, err);
        if (code)
            return code;
        if (member->number >= 0)
            header->member_count++;
    }
    qsort(header->members, header->member_count, sizeof *header->members, member_order);
    return 0;
}

int header_parse(const struct cluster *c, const char *json, size_t length, struct header *header,
                 struct error *err)
{
    *header = (struct header){.present = true};
    json_t *document = document_load("map", json, length, err);
    if (document == NULL)
        return ERR_CORRUPT;
    int64_t version = document_integer(document, "version");
    int64_t token = document_integer(document, "token");
    int64_t rebalances = document_integer(document, "rebalances");
    int64_t emergencies = document_integer(document, "emergencies");
    int code = 0;
    if (version < 0 || token < 0 || rebalances < 0 || emergencies < 0)
        code = error_set(err, ERR_CORRUPT, "the map lacks version, token, rebalances or emergencies");
    header->version = (uint64_t)version;
    header->token = (uint64_t)token;
    header->rebalances = (uint64_t)rebalances;
    header->emergencies = (uint64_t)emergencies;
    if (code == 0)
        code = header_members_parse(c, json_object_get(document, "members"), header, err);
    json_decref(document);
    if (code)
        header_free(header);
    return code;
}

void header_free(struct header *header)
{
    free(header->members);
    *header = (struct header){0};
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int chambers_parse(const json_t *list, struct held_set *set, struct error *err)
{
    size_t count = json_array_size(list);
    if (!json_is_array(list) || count > CLUSTER_CHAMBERS_MAX)
        return error_set(err, ERR_CORRUPT, "chambers are not a list of up to %d", CLUSTER_CHAMBERS_MAX);
    set->chambers = calloc(count ? count : 1, sizeof *set->chambers);
    if (set->chambers == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %zu chambers", count);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        if (name == NULL || *name == '\0' || strlen(name) >= CLUSTER_KEY_BYTES)
            return error_set(err, ERR_CORRUPT, "chamber %zu has no name of 1 to %d bytes", i,
                             CLUSTER_KEY_BYTES - 1);
        set->chambers[i] = strdup(name);
        if (set->chambers[i] == NULL)
            return error_set(err, ERR_NO_MEMORY, "no memory for %zu chambers", count);
        set->count++;
    }
    qsort(set->chambers, set->count, sizeof *set->chambers, text_order);
    return 0;
}

int to_parse(const char *json, size_t length, struct held_set *set, struct error *err)
{
    *set = (struct held_set){0};
    json_t *document = document_load("assignment", json, length, err);
    if (document == NULL)
        return ERR_CORRUPT;
    int64_t version = document_integer(document, "version");
    int code = version < 0 ? error_set(err, ERR_CORRUPT, "an assignment has no version")
                           : chambers_parse(json_object_get(document, "chambers"), set, err);
    set->version = (uint64_t)version;
    json_decref(document);
    if (code)
        held_set_free(set);
    return code;
}

void held_set_free(struct held_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        free(set->chambers[i]);
    free(set->chambers);
    *set = (struct held_set){0};
}

int weight_parse(const char *json, size_t length, int64_t *weight, double *observed, struct error *err)
{
    json_t *document = document_load("chamber", json, length, err);
    if (document == NULL)
        return ERR_CORRUPT;
    const json_t *value = json_object_get(document, "weight");
    double number = json_number_value(value);
    int code = 0;
    if (!json_is_number(value) || !(number >= 0 && number < 9e15))
        code = error_set(err, ERR_CORRUPT, "a chamber's weight is not a number from 0 to 9e15");
    *weight = number >= 1 ? (int64_t)number : 1;
    value = json_object_get(document, "observed");
    *observed = json_is_number(value) ? json_number_value(value) : -1;
    json_decref(document);
    return code;
}
