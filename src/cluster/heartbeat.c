/* A heartbeat on the wire:
 *
 *     {"id":"defender-7","incarnation":"812...","version":"0.2.0","group":"","share":0,"state":"FOLLOWER",
 *      "assignment":12,"chambers":80,"leaving":false}
 */
#include "cluster/machine.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

void cluster_heartbeat_format(const struct cluster_heartbeat *beat, struct strbuf *json)
{
    strbuf_add(json, "{\"id\":");
    strbuf_add_json(json, beat->id);
    strbuf_printf(json, ",\"incarnation\":\"%" PRIu64 "\",\"version\":", beat->incarnation);
    strbuf_add_json(json, beat->version);
    strbuf_add(json, ",\"group\":");
    strbuf_add_json(json, beat->group);
    strbuf_add(json, ",\"share\":");
    strbuf_add_json_double(json, beat->share);
    strbuf_printf(
        json, ",\"state\":\"%s\",\"assignment\":%" PRIu64 ",\"chambers\":%" PRId32 ",\"leaving\":%s}",
        cluster_state_name(beat->state), beat->assignment, beat->chambers, beat->leaving ? "true" : "false");
}

static bool state_parse(const char *name, enum cluster_state *state)
{
    for (int i = CLUSTER_INIT; name && i <= CLUSTER_STOPPED; i++) {
        if (strcmp(name, cluster_state_name((enum cluster_state)i)) != 0)
            continue;
        *state = (enum cluster_state)i;
        return true;
    }
    return false;
}

static int heartbeat_read(const json_t *document, struct cluster_heartbeat *beat, struct error *err)
{
    const char *id = json_string_value(json_object_get(document, "id"));
    const json_t *assignment = json_object_get(document, "assignment");
    const json_t *chambers = json_object_get(document, "chambers");
    const json_t *leaving = json_object_get(document, "leaving");
    if (id == NULL || *id == '\0' || strlen(id) >= CLUSTER_NAME_BYTES)
        return error_set(err, ERR_INVALID, "a heartbeat has no id below %d bytes", CLUSTER_NAME_BYTES);
    if (!state_parse(json_string_value(json_object_get(document, "state")), &beat->state))
        return error_set(err, ERR_INVALID, "the heartbeat of %s names no known state", id);
    if (!json_is_integer(assignment) || json_integer_value(assignment) < 0 || !json_is_integer(chambers) ||
        json_integer_value(chambers) < 0 || json_integer_value(chambers) > CLUSTER_CHAMBERS_MAX ||
        !json_is_boolean(leaving))
        return error_set(err, ERR_INVALID, "the heartbeat of %s lacks assignment, chambers or leaving", id);
    strcpy(beat->id, id);
    beat->assignment = (uint64_t)json_integer_value(assignment);
    beat->chambers = (int32_t)json_integer_value(chambers);
    beat->leaving = json_is_true(leaving);
    return 0;
}

int cluster_heartbeat_parse(const char *json, size_t length, struct cluster_heartbeat *beat,
                            struct error *err)
{
    /* A heartbeat has the fields of a claim, and more. */
    struct claim claim;
    *beat = (struct cluster_heartbeat){0};
    int code = claim_parse(json, length, &claim, err);
    if (code)
        return error_prefix(err, err ? (err->code = ERR_INVALID) : ERR_INVALID, "heartbeat");
    json_t *document = json_loadb(json, length, 0, NULL);
    if (document == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a heartbeat of %zu bytes", length);
    beat->incarnation = claim.incarnation;
    beat->share = claim.share;
    memcpy(beat->version, claim.version, sizeof beat->version);
    memcpy(beat->group, claim.group, sizeof beat->group);
    code = heartbeat_read(document, beat, err);
    json_decref(document);
    return code;
}
