#include "cli/shipment.h"

#include "base/clock.h"
#include "bus/jetstream.h"
#include "bus/kv.h"
#include "bus/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

/* A chamber that the roster has been told of. */
struct known_chamber {
    UT_hash_handle hh;
    char key[]; /* "{tool}.{chamber}" as subject tokens */
};

static void ship_to_store(struct shipment *shipment);
static void ship_to_stream(struct shipment *shipment);

/* --- taking and ending: shipments are used again and again, with their memory --- */

void shipping_begin(struct shipping *shipping, struct session *session, const char *command,
                    const volatile sig_atomic_t *hurry)
{
    *shipping = (struct shipping){.session = session, .command = command, .hurry = hurry};
}

struct shipment *shipping_take(struct shipping *shipping)
{
    struct shipment *shipment = shipping->idle;
    if (shipment) {
        shipping->idle = shipment->next;
        arena_reset(&shipment->arena);
    } else {
        shipment = calloc(1, sizeof *shipment);
        if (shipment == NULL)
            return NULL;
        shipment->shipping = shipping;
        arena_init(&shipment->arena, 0);
        uv_timer_init(&shipping->session->loop, &shipment->timer);
        shipment->timer.data = shipment;
        shipping->open++;
    }
    shipment->give_up_ns = clock_mono_ns() + SHIPMENT_PATIENCE_MS * INT64_C(1000000);
    shipping->in_flight++;
    return shipment;
}

static void shipment_end(struct shipment *shipment)
{
    struct shipping *shipping = shipment->shipping;
    shipping->in_flight--;
    shipment->next = shipping->idle;
    shipping->idle = shipment;
}

void shipment_drop(struct shipment *shipment, const struct error *error)
{
    struct shipping *shipping = shipment->shipping;
    if (error && shipping->failed == 0) {
        shipping->failed = error->code;
        shipping->error = *error;
    }
    shipment_end(shipment);
}

static void shipment_failed(struct shipment *shipment, int code, const struct error *error)
{
    struct error named = *error;
    named.code = code;
    error_prefix(&named, code, "context %s", shipment->completion.key.context_id);
    shipment_drop(shipment, &named);
}

int shipping_wait_below(struct shipping *shipping, size_t most, struct error *err)
{
    while (shipping->in_flight >= most && shipping->failed == 0)
        uv_run(&shipping->session->loop, UV_RUN_ONCE);
    if (shipping->failed && err)
        *err = shipping->error;
    return shipping->failed;
}

int shipping_drain(struct shipping *shipping, struct error *err)
{
    while (shipping->in_flight > 0)
        uv_run(&shipping->session->loop, UV_RUN_ONCE);
    if (shipping->failed && err)
        *err = shipping->error;
    return shipping->failed;
}

static void on_closed(uv_handle_t *handle)
{
    struct shipment *shipment = handle->data;
    shipment->shipping->open--;
    arena_free(&shipment->arena);
    free(shipment);
}

void shipping_end(struct shipping *shipping)
{
    for (struct shipment *shipment = shipping->idle, *next; shipment; shipment = next) {
        next = shipment->next;
        uv_close((uv_handle_t *)&shipment->timer, on_closed);
    }
    shipping->idle = NULL;
    while (shipping->open > 0)
        uv_run(&shipping->session->loop, UV_RUN_ONCE);
    struct known_chamber *known, *next;
    HASH_ITER(hh, shipping->chambers, known, next)
    {
        HASH_DEL(shipping->chambers, known);
        free(known);
    }
}

/* --- packing --- */

int shipment_pack(struct shipment *shipment, const struct context *context, const struct tchart_blobs *blobs,
                  struct error *err)
{
    struct arena *arena = &shipment->arena;
    struct context announced = *context;
    struct strbuf json;
    announced.chunk_count = (int64_t)blobs->count;
    strbuf_init(&json);
    context_format(&announced, &json);
    struct store_completion made = {.key = {arena_strdup(arena, context->tool),
                                            arena_strdup(arena, context->chamber),
                                            arena_strdup(arena, context->id)},
                                    .recipe = arena_strdup(arena, context->recipe),
                                    .lot = arena_strdup(arena, context->lot),
                                    .end_us = context->end_us,
                                    .chunk_count = (int32_t)blobs->count,
                                    .announcement = json.failed ? NULL : arena_strdup(arena, json.text)};
    strbuf_free(&json);
    struct store_chunk *chunks = arena_calloc(arena, blobs->count, sizeof *chunks);
    if (chunks == NULL || made.key.tool == NULL || made.key.chamber == NULL || made.key.context_id == NULL ||
        made.recipe == NULL || made.lot == NULL || made.announcement == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for context %s", context->id);
    for (size_t i = 0; i < blobs->count; i++)
        chunks[i] = (struct store_chunk){
            .index = (int32_t)i, .bytes = blobs->blobs[i].data, .length = blobs->blobs[i].length};
    shipment->completion = made;
    shipment->chunks = chunks;
    shipment->chunk_count = blobs->count;
    shipment->points = context->point_count > 0 ? (size_t)context->point_count : 0;
    shipment->bytes = blobs->bytes;
    return 0;
}

/* --- the roster: so that a new chamber is owned before its first announcement comes --- */

static void on_registered(void *arg, int code, const struct error *error, uint64_t revision)
{
    /* A chamber that is not registered is found by its messages, a moment later. */
    (void)arg;
    (void)code;
    (void)error;
    (void)revision;
}

static void register_chamber(const struct shipment *shipment)
{
    struct shipping *shipping = shipment->shipping;
    const struct store_key *key = &shipment->completion.key;
    char token[NAMES_BYTES], bucket[NAMES_BYTES], value[64];
    if (names_chamber_key(key->tool, key->chamber, token, NULL))
        return;
    size_t length = strlen(token);
    struct known_chamber *known;
    HASH_FIND(hh, shipping->chambers, token, length, known);
    if (known || (known = malloc(sizeof *known + length + 1)) == NULL)
        return;
    memcpy(known->key, token, length + 1);
    HASH_ADD_KEYPTR(hh, shipping->chambers, known->key, length, known);
    /* Points a run: sensors x frequency x duration. */
    int used =
        snprintf(value, sizeof value, "{\"weight\":%zu}", shipment->points ? shipment->points : (size_t)1);
    kv_create(shipping->session->bus, names_stream(shipping->session->cell, "chambers", bucket), token, value,
              (size_t)used, on_registered, NULL);
}

/* --- on the way --- */

static void on_retry_store(uv_timer_t *timer)
{
    ship_to_store(timer->data);
}

static void on_retry_stream(uv_timer_t *timer)
{
    ship_to_stream(timer->data);
}

static void retry_or_fail(struct shipment *shipment, uv_timer_cb again, int code, const struct error *error)
{
    struct shipping *shipping = shipment->shipping;
    bool hurry = shipping->hurry && *shipping->hurry;
    if (!error_is_transient(code) || hurry || clock_mono_ns() >= shipment->give_up_ns) {
        shipment_failed(shipment, code, error);
        return;
    }
    if (!shipping->told_waiting)
        fprintf(stderr, "chamberlain %s: %s; trying again for %d s\n", shipping->command, error->text,
                SHIPMENT_PATIENCE_MS / 1000);
    shipping->told_waiting = true;
    uv_timer_start(&shipment->timer, again, SHIPMENT_RETRY_MS, 0);
}

static void on_announced(void *arg, int code, int api_error, const struct error *error,
                         const json_t *response)
{
    (void)api_error;
    (void)response;
    struct shipment *shipment = arg;
    struct shipping *shipping = shipment->shipping;
    if (code == ERR_NOT_FOUND)
        code = ERR_UNAVAILABLE; /* no stream yet: a defender makes it */
    if (code) {
        struct error copy = *error;
        error_prefix(&copy, code,
                     "stored, but not announced (a running defender announces it from the store within "
                     "minutes)");
        retry_or_fail(shipment, on_retry_stream, code, &copy);
        return;
    }
    shipping->announced++;
    shipping->points += shipment->points;
    shipping->bytes += shipment->bytes;
    shipment_end(shipment);
}

static void ship_to_stream(struct shipment *shipment)
{
    struct session *session = shipment->shipping->session;
    const struct store_completion *completion = &shipment->completion;
    char subject[NAMES_BYTES];
    struct error err;
    int code = names_completed(session->cell, completion->key.tool, completion->key.chamber, subject, &err);
    if (code) {
        shipment_failed(shipment, code, &err);
        return;
    }
    char now[24];
    snprintf(now, sizeof now, "%lld", (long long)clock_wall_us());
    struct bus_header headers[] = {{"Nats-Msg-Id", completion->key.context_id}, {BUS_HEADER_ANNOUNCED, now}};
    jetstream_publish(session->bus, subject, headers, 2, completion->announcement,
                      strlen(completion->announcement), on_announced, shipment);
}

static void run_stored(void *target, void *argument)
{
    struct shipment *shipment = target;
    struct shipping *shipping = shipment->shipping;
    struct store_reply *reply = argument;
    struct error err = reply->error;
    int code = reply->code;
    if (code == 0 && reply->existed)
        shipping->existed++;
    store_reply_free(reply);
    if (code == ERR_CONFLICT) { /* the stored one stands */
        if (shipping->conflicts++ == 0)
            fprintf(stderr, "chamberlain %s: %s\n", shipping->command, err.text);
        shipment_end(shipment);
    } else if (code) {
        retry_or_fail(shipment, on_retry_store, code, &err);
    } else {
        ship_to_stream(shipment);
    }
}

static void on_stored(void *arg, struct store_reply *reply)
{
    struct shipment *shipment = arg;
    mailbox_post(shipment->shipping->session->mailbox, run_stored, shipment, reply);
}

static void ship_to_store(struct shipment *shipment)
{
    store_complete(shipment->shipping->session->store, &shipment->completion, shipment->chunks,
                   shipment->chunk_count, on_stored, shipment);
}

void shipment_send(struct shipment *shipment)
{
    register_chamber(shipment);
    ship_to_store(shipment);
}
