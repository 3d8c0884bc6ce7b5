#include "notify/owner.h"

#include "base/clock.h"
#include "base/log.h"
#include "bus/kv.h"
#include "bus/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY "owner"

struct owner {
    struct bus *bus;
    struct owner_events events;
    char bucket[NAMES_BYTES];
    char value[256];
    int replicas;
    bool bucket_made, asking, holds, told;
    uint64_t revision;
    int64_t asked_ms; /* when the write under way was sent */
    int64_t until_ms; /* holder: when it stops, unless it has renewed */
    int64_t pause_until_ms;
    uv_timer_t timer;
    bool closing, timer_closed;
    void (*closed)(void *arg);
    void *closed_arg;
};

static int64_t now_ms(void)
{
    return clock_mono_ns() / 1000000;
}

static void free_if_done(struct owner *owner)
{
    if (!owner->closing || !owner->timer_closed || owner->asking)
        return;
    void (*closed)(void *arg) = owner->closed;
    void *arg = owner->closed_arg;
    free(owner);
    closed(arg);
}

static void lose(struct owner *owner, const char *reason)
{
    owner->holds = false;
    owner->told = false;
    owner->events.lost(owner->events.arg, reason);
}

static void on_released(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)code; /* it runs out by itself */
    (void)error;
    (void)revision;
    struct owner *owner = arg;
    owner->asking = false;
    free_if_done(owner);
}

static void release(struct owner *owner)
{
    owner->holds = false;
    owner->asking = true;
    kv_delete(owner->bus, owner->bucket, KEY, owner->revision, on_released, owner);
}

static void on_bucket(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)error;
    (void)revision;
    struct owner *owner = arg;
    owner->asking = false;
    owner->bucket_made = code == 0;
    owner->asked_ms = code == 0 ? 0 : owner->asked_ms; /* no need to wait now */
    free_if_done(owner);
}

static void on_acquired(void *arg, int code, const struct error *error, uint64_t revision)
{
    struct owner *owner = arg;
    owner->asking = false;
    if (code == 0) {
        owner->holds = true;
        owner->revision = revision;
        owner->until_ms = owner->asked_ms + OWNER_TTL_MS - OWNER_MARGIN_MS;
    } else if (code == ERR_CONFLICT && !owner->told) {
        owner->told = true;
        LOG_INFO("another notifier is at work; standing by");
    } else if (code != ERR_CONFLICT) {
        owner->bucket_made = false; /* perhaps the server was emptied */
        LOG_DEBUG("cannot ask for the notifier's place", LOG_STR("error", error->text));
    }
    if (owner->holds && owner->closing)
        release(owner);
    else if (owner->holds)
        owner->events.won(owner->events.arg);
    free_if_done(owner);
}

static void on_renewed(void *arg, int code, const struct error *error, uint64_t revision)
{
    struct owner *owner = arg;
    owner->asking = false;
    if (code == 0 && owner->holds) {
        owner->revision = revision;
        owner->until_ms = owner->asked_ms + OWNER_TTL_MS - OWNER_MARGIN_MS;
    } else if (owner->holds && !error_is_transient(code)) {
        lose(owner, error->text);
    }
    if (owner->closing && owner->holds)
        release(owner);
    free_if_done(owner);
}

static void on_tick(uv_timer_t *timer)
{
    struct owner *owner = timer->data;
    if (owner->holds && now_ms() >= owner->until_ms)
        lose(owner, "the place was not renewed in time");
    if (owner->asking || !bus_is_connected(owner->bus) || now_ms() < owner->pause_until_ms ||
        now_ms() - owner->asked_ms < OWNER_RENEW_MS)
        return;
    owner->asking = true;
    owner->asked_ms = now_ms();
    const struct kv_spec spec = {
        .bucket = owner->bucket, .ttl_ms = OWNER_TTL_MS, .replicas = owner->replicas};
    if (owner->holds)
        kv_update(owner->bus, owner->bucket, KEY, owner->value, strlen(owner->value), owner->revision,
                  on_renewed, owner);
    else if (!owner->bucket_made)
        kv_ensure(owner->bus, &spec, on_bucket, owner);
    else
        kv_create(owner->bus, owner->bucket, KEY, owner->value, strlen(owner->value), on_acquired, owner);
}

bool owner_holds(const struct owner *owner)
{
    return owner->holds;
}

void owner_resign(struct owner *owner)
{
    owner->pause_until_ms = now_ms() + OWNER_RENEW_MS;
    if (!owner->holds)
        return;
    owner->holds = false;
    if (!owner->asking)
        release(owner);
}

int owner_open(struct bus *bus, const char *cell, int replicas, const char *name,
               const struct owner_events *events, struct owner **out, struct error *err)
{
    struct owner *owner = calloc(1, sizeof *owner);
    if (owner == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for the notifier's place");
    owner->bus = bus;
    owner->events = *events;
    owner->replicas = replicas;
    names_stream(cell, "notify-owner", owner->bucket);
    snprintf(owner->value, sizeof owner->value, "%s", name);
    uv_timer_init(bus_loop(bus), &owner->timer);
    owner->timer.data = owner;
    uv_timer_start(&owner->timer, on_tick, 0, OWNER_RENEW_MS / 4);
    *out = owner;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct owner *owner = handle->data;
    owner->timer_closed = true;
    free_if_done(owner);
}

void owner_close(struct owner *owner, void (*done)(void *arg), void *arg)
{
    owner->closing = true;
    owner->closed = done;
    owner->closed_arg = arg;
    uv_close((uv_handle_t *)&owner->timer, on_timer_closed);
    if (owner->holds && !owner->asking)
        release(owner);
}
