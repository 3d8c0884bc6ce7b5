#include "collector/hands.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "bus/jetstream.h"
#include "bus/kv.h"
#include "bus/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

enum {
    NOTE_TTL_MS = 7 * 24 * 3600 * 1000, /* of contexts that nobody completed */
    ACK_REPLY_BYTES = 256,
    TYPICAL_MESSAGE_BYTES = 16 * 1024
};

/* A message that is neither acknowledged nor forgotten. */
struct message_entry {
    uint64_t sequence;
    int64_t stored_us;
    int64_t extended_ms;
    char *ack_reply;
    UT_hash_handle hh;
};

/* Something asked for by the heart, on its way. */
struct errand {
    struct hands *hands;
    struct errand *next; /* waiting for its turn at the store */
    enum assembly_action_kind kind;
    struct arena arena; /* holds the texts below */
    uint64_t context, message, revision;
    const char *tool, *chamber, *context_id, *key, *text, *subject;
    size_t length;
    const void *bytes;
    const char *reason, *reason_class, *message_id;
    struct piece *piece;
    int32_t chunk;
    int64_t weight;
    int64_t stored_us; /* of the message: when the stream took it */
    const char *bucket;
    struct assembly_completion completion;
    struct tchart_blobs blobs;
    struct store_chunk stored;
    int code; /* of packing */
    struct error error;
    int64_t backoff_ms;
    uv_work_t work;
    uv_timer_t timer;
};

struct hands {
    struct hands_options options;
    struct hands_ports ports;
    char cell[64];
    char notes_bucket[NAMES_BYTES], chambers_bucket[NAMES_BYTES], own_chambers_bucket[NAMES_BYTES];
    struct assembly *assembly;
    struct assembly_actions actions;
    struct message_entry *messages;
    struct errand *queue_first, *queue_last; /* for the store */
    int store_calls;
    int64_t errands;
    bool stopping;
    bool making_bucket;
    void (*ready)(void *arg);
    void *ready_arg;
};

static int64_t mono_us(void)
{
    return clock_mono_ns() / 1000;
}

static void *need(void *memory)
{
    if (memory == NULL)
        abort(); /* nothing is lost by it: the stream gives everything again */
    return memory;
}

static const char *copy(struct errand *errand, const char *text)
{
    return text ? need(arena_strdup(&errand->arena, text)) : NULL;
}

/* Backing off helps: away, busy, or a disk that is full until someone makes room. */
static bool may_pass(int code)
{
    return error_is_transient(code) || code == ERR_IO || code == ERR_NO_MEMORY;
}

/* --- the heart --- */

static void carry_out(struct hands *hands, const struct assembly_action *action);

static void carry_out_all(struct hands *hands)
{
    for (size_t i = 0; i < hands->actions.count; i++)
        carry_out(hands, &hands->actions.items[i]);
    assembly_actions_clear(&hands->actions);
    hands->ports.capacity_changed(hands->ports.arg);
}

static void feed(struct hands *hands, const struct assembly_event *event)
{
    assembly_step(hands->assembly, mono_us(), event, &hands->actions);
    carry_out_all(hands);
}

/* --- messages --- */

static struct message_entry *message_of(struct hands *hands, uint64_t sequence)
{
    struct message_entry *entry;
    HASH_FIND(hh, hands->messages, &sequence, sizeof sequence, entry);
    return entry;
}

static void drop_message(struct hands *hands, struct message_entry *entry)
{
    HASH_DEL(hands->messages, entry);
    free(entry->ack_reply);
    free(entry);
}

static void acknowledge(struct hands *hands, uint64_t sequence)
{
    struct message_entry *entry = message_of(hands, sequence);
    if (entry == NULL)
        return;
    consumer_ack(hands->ports.bus, entry->ack_reply);
    drop_message(hands, entry);
}

static void forget(struct hands *hands, uint64_t sequence)
{
    struct message_entry *entry = message_of(hands, sequence);
    if (entry)
        drop_message(hands, entry);
}

static void extend_all(struct hands *hands)
{
    int64_t now_ms = mono_us() / 1000;
    struct message_entry *entry, *next;
    HASH_ITER(hh, hands->messages, entry, next)
    {
        if (now_ms - entry->extended_ms < hands->options.ack_wait_ms / 3)
            continue;
        entry->extended_ms = now_ms;
        consumer_extend(hands->ports.bus, entry->ack_reply);
    }
}

/* --- errands --- */

static struct errand *errand_new(struct hands *hands, const struct assembly_action *action)
{
    struct errand *errand = need(calloc(1, sizeof *errand));
    errand->hands = hands;
    errand->kind = action->kind;
    arena_init(&errand->arena, 2048);
    errand->context = action->context;
    errand->message = action->message;
    errand->revision = action->revision;
    errand->piece = action->piece;
    errand->chunk = action->chunk;
    errand->weight = action->weight;
    errand->tool = copy(errand, action->tool);
    errand->chamber = copy(errand, action->chamber);
    errand->context_id = copy(errand, action->context_id);
    errand->reason = copy(errand, action->reason);
    errand->reason_class = action->reason_class;
    errand->text = copy(errand, action->text);
    errand->length = action->length;
    errand->completion = action->completion;
    errand->completion.recipe = copy(errand, action->completion.recipe);
    errand->completion.lot = copy(errand, action->completion.lot);
    errand->completion.announcement = copy(errand, action->completion.announcement);
    errand->backoff_ms = HANDS_BACKOFF_MIN_MS;
    uv_timer_init(hands->ports.loop, &errand->timer);
    errand->timer.data = errand->work.data = errand;
    hands->errands++;
    return errand;
}

static void on_errand_closed(uv_handle_t *handle)
{
    struct errand *errand = handle->data;
    if (errand->piece)
        piece_free(errand->piece);
    arena_free(&errand->arena);
    free(errand);
}

static void errand_end(struct errand *errand)
{
    errand->hands->errands--;
    uv_close((uv_handle_t *)&errand->timer, on_errand_closed);
}

/* Tells the heart, and ends. */
static void answer(struct errand *errand, enum assembly_event_kind kind, int code, const char *text,
                   uint64_t revision)
{
    struct hands *hands = errand->hands;
    struct assembly_event event = {
        .kind = kind, .context = errand->context, .code = code, .text = text, .revision = revision};
    feed(hands, &event);
    errand_end(errand);
}

static void retry_later(struct errand *errand, uv_timer_cb again, const struct error *error, const char *what)
{
    LOG_WARN(what, LOG_STR("context", errand->context_id), LOG_STR("error", error->text),
             LOG_INT("retry_ms", errand->backoff_ms));
    uv_timer_start(&errand->timer, again, (uint64_t)errand->backoff_ms, 0);
    errand->backoff_ms =
        2 * errand->backoff_ms < HANDS_BACKOFF_MAX_MS ? 2 * errand->backoff_ms : HANDS_BACKOFF_MAX_MS;
}

static void retry_bus(struct errand *errand, uv_timer_cb again, const struct error *error)
{
    errand->hands->ports.counts->bus_retries++;
    retry_later(errand, again, error, "NATS does not take it; trying again");
}

/* --- the store: pack on a thread, then write --- */

static void serve_queue(struct hands *hands);
static void on_store_again(uv_timer_t *timer);

static void run_stored(void *target, void *argument)
{
    struct errand *errand = target;
    struct store_reply *reply = argument;
    struct hands *hands = errand->hands;
    struct error err = reply->error;
    int code = reply->code;
    store_reply_free(reply);
    hands->store_calls--;
    if (code && may_pass(code)) {
        hands->ports.counts->store_retries++;
        retry_later(errand, on_store_again, &err, "the store does not take it; trying again");
    } else {
        if (code && code != ERR_CONFLICT)
            LOG_ERROR("the store refuses a context", LOG_STR("context", errand->context_id),
                      LOG_STR("error", err.text));
        answer(errand, errand->kind == ASSEMBLY_PUT ? ASSEMBLE_PUT : ASSEMBLE_COMPLETED, code, err.text, 0);
    }
    serve_queue(hands);
}

/* On a thread of the store's. */
static void on_stored(void *arg, struct store_reply *reply)
{
    struct errand *errand = arg;
    mailbox_post(errand->hands->ports.mailbox, run_stored, errand, reply);
}

static bool names_context(const struct store_reply *reply, const struct errand *errand)
{
    return reply->code == 0 && reply->completion_count > 0 &&
           strcmp(reply->completions[0].key.tool, errand->tool) == 0 &&
           strcmp(reply->completions[0].key.chamber, errand->chamber) == 0 &&
           reply->completions[0].announcement && *reply->completions[0].announcement;
}

static void run_found(void *target, void *argument)
{
    struct errand *errand = target;
    struct store_reply *reply = argument;
    struct hands *hands = errand->hands;
    hands->store_calls--;
    if (reply->code && reply->code != ERR_NOT_FOUND) {
        hands->ports.counts->store_retries++;
        retry_later(errand, on_store_again, &reply->error, "the store does not answer; trying again");
    } else if (names_context(reply, errand)) {
        answer(errand, ASSEMBLE_FOUND, 0, reply->completions[0].announcement, 0);
    } else {
        answer(errand, ASSEMBLE_FOUND, ERR_NOT_FOUND, NULL, 0);
    }
    store_reply_free(reply);
    serve_queue(hands);
}

static void on_found(void *arg, struct store_reply *reply)
{
    struct errand *errand = arg;
    mailbox_post(errand->hands->ports.mailbox, run_found, errand, reply);
}

static void call_store(struct errand *errand)
{
    struct hands *hands = errand->hands;
    struct store *store = hands->ports.store;
    struct store_key key = {
        .tool = errand->tool, .chamber = errand->chamber, .context_id = errand->context_id};
    hands->store_calls++;
    if (errand->kind == ASSEMBLY_FIND) {
        store_find_context(store, errand->context_id, on_found, errand);
    } else if (errand->kind == ASSEMBLY_PUT) {
        store_put_chunk(store, &key, &errand->stored, on_stored, errand);
    } else {
        struct store_completion completion = {.key = key,
                                              .recipe = errand->completion.recipe,
                                              .lot = errand->completion.lot,
                                              .end_us = errand->completion.end_us,
                                              .chunk_count = errand->completion.chunk_count,
                                              .announcement = errand->completion.announcement};
        store_complete(store, &completion, &errand->stored, errand->piece ? 1 : 0, on_stored, errand);
    }
}

static void serve_queue(struct hands *hands)
{
    while (hands->queue_first && hands->store_calls < HANDS_STORE_IN_FLIGHT_MAX) {
        struct errand *errand = hands->queue_first;
        hands->queue_first = errand->next;
        call_store(errand);
    }
}

static void queue_for_store(struct errand *errand)
{
    struct hands *hands = errand->hands;
    errand->next = NULL;
    if (hands->queue_first)
        hands->queue_last->next = errand;
    else
        hands->queue_first = errand;
    hands->queue_last = errand;
    serve_queue(hands);
}

static void on_store_again(uv_timer_t *timer)
{
    queue_for_store(timer->data);
}

/* On a thread: samples into a blob. */
static void pack(uv_work_t *work)
{
    struct errand *errand = work->data;
    struct piece *piece = errand->piece;
    errand->code = tchart_pack(piece->columns, piece->column_count, SIZE_MAX, &piece->arena, &errand->blobs,
                               &errand->error);
}

static void begin_pack(struct errand *errand);

static void on_pack_again(uv_timer_t *timer)
{
    begin_pack(timer->data);
}

static void on_packed(uv_work_t *work, int status)
{
    (void)status;
    struct errand *errand = work->data;
    if (errand->code == ERR_NO_MEMORY) {
        retry_later(errand, on_pack_again, &errand->error, "a chunk cannot be packed yet");
    } else if (errand->code) {
        LOG_ERROR("a chunk cannot be packed", LOG_STR("context", errand->context_id),
                  LOG_STR("error", errand->error.text));
        answer(errand, errand->kind == ASSEMBLY_PUT ? ASSEMBLE_PUT : ASSEMBLE_COMPLETED, errand->code,
               errand->error.text, 0);
    } else {
        errand->stored = (struct store_chunk){.index = errand->chunk,
                                              .bytes = errand->blobs.blobs[0].data,
                                              .length = errand->blobs.blobs[0].length};
        queue_for_store(errand);
    }
}

static void begin_pack(struct errand *errand)
{
    if (errand->piece)
        uv_queue_work(errand->hands->ports.loop, &errand->work, pack, on_packed);
    else
        queue_for_store(errand);
}

/* --- notes --- */

/* "{tool}.{chamber}.{hash of the context's id}": ids need not be fit for subjects. */
static void set_note_key(struct errand *errand, const char *token)
{
    errand->key =
        need(arena_printf(&errand->arena, "%s.%016" PRIx64, token, hash64_text(errand->context_id)));
}

static void look_up(struct errand *errand);

static void on_look_up_again(uv_timer_t *timer)
{
    look_up(timer->data);
}

static void on_note_read(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    struct errand *errand = arg;
    if (code && code != ERR_NOT_FOUND)
        retry_bus(errand, on_look_up_again, error);
    else
        answer(errand, ASSEMBLE_LOOKED_UP, 0, code ? NULL : entry->value, code ? 0 : entry->revision);
}

static void look_up(struct errand *errand)
{
    kv_get(errand->hands->ports.bus, errand->hands->notes_bucket, errand->key, on_note_read, errand);
}

static void write_note(struct errand *errand);

static void on_write_again(uv_timer_t *timer)
{
    write_note(timer->data);
}

/* A write whose answer was lost is in conflict with itself: what stands there decides. */
static void on_note_checked(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    struct errand *errand = arg;
    if (code && code != ERR_NOT_FOUND) {
        retry_bus(errand, on_write_again, error);
        return;
    }
    bool own = code == 0 && entry->length == errand->length &&
               memcmp(entry->value, errand->text, entry->length) == 0;
    answer(errand, ASSEMBLE_NOTED, own ? 0 : ERR_CONFLICT, NULL, own ? entry->revision : 0);
}

static void on_note_written(void *arg, int code, const struct error *error, uint64_t revision)
{
    struct errand *errand = arg;
    if (code == 0)
        answer(errand, ASSEMBLE_NOTED, 0, NULL, revision);
    else if (code == ERR_CONFLICT)
        kv_get(errand->hands->ports.bus, errand->hands->notes_bucket, errand->key, on_note_checked, errand);
    else
        retry_bus(errand, on_write_again, error);
}

static void write_note(struct errand *errand)
{
    struct bus *bus = errand->hands->ports.bus;
    const char *bucket = errand->hands->notes_bucket;
    if (errand->revision)
        kv_update(bus, bucket, errand->key, errand->text, errand->length, errand->revision, on_note_written,
                  errand);
    else
        kv_create(bus, bucket, errand->key, errand->text, errand->length, on_note_written, errand);
}

/* A note that stays behind goes by itself, when the bucket's time is over. */
static void on_note_dropped(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)code;
    (void)error;
    (void)revision;
    errand_end(arg);
}

/* --- publishing --- */

static void publish(struct errand *errand);

static void on_publish_again(uv_timer_t *timer)
{
    publish(timer->data);
}

static void on_published(void *arg, int code, int api_error, const struct error *error,
                         const json_t *response)
{
    (void)api_error;
    (void)response;
    struct errand *errand = arg;
    if (code && (may_pass(code) || errand->kind == ASSEMBLY_ANNOUNCE)) {
        retry_bus(errand, on_publish_again, error);
        return;
    }
    if (errand->kind == ASSEMBLY_ANNOUNCE) {
        answer(errand, ASSEMBLE_ANNOUNCED, 0, NULL, 0);
        return;
    }
    if (code)
        LOG_ERROR("a dead letter is not taken; only its reason is kept, here",
                  LOG_STR("reason", errand->reason), LOG_STR("error", error->text));
    /* The stream may have been made anew meanwhile: then another message has that number. */
    const struct message_entry *entry = message_of(errand->hands, errand->message);
    if (entry && entry->stored_us == errand->stored_us)
        acknowledge(errand->hands, errand->message);
    errand_end(errand);
}

static void publish(struct errand *errand)
{
    struct bus *bus = errand->hands->ports.bus;
    char now[24];
    snprintf(now, sizeof now, "%lld", (long long)clock_wall_us());
    const struct bus_header announcement[] = {{"Nats-Msg-Id", errand->message_id},
                                              {BUS_HEADER_ANNOUNCED, now}},
                            burial[] = {{"Nats-Msg-Id", errand->message_id},
                                        {"Chamberlain-Class", errand->reason_class},
                                        {"Chamberlain-Reason", errand->reason},
                                        {"Chamberlain-Subject", errand->text},
                                        {"Chamberlain-Context", errand->context_id}};
    if (errand->kind == ASSEMBLY_ANNOUNCE)
        jetstream_publish(bus, errand->subject, announcement, 2, errand->bytes, errand->length, on_published,
                          errand);
    else
        jetstream_publish(bus, errand->subject, burial, errand->context_id ? 5 : 4, errand->bytes,
                          errand->length, on_published, errand);
}

static void begin_announcement(struct errand *errand)
{
    char subject[NAMES_BYTES];
    struct error err;
    if (names_completed(errand->hands->cell, errand->tool, errand->chamber, subject, &err))
        abort(); /* the names came from a subject */
    errand->subject = copy(errand, subject);
    errand->message_id = errand->context_id;
    errand->bytes = errand->completion.announcement;
    errand->length = strlen(errand->completion.announcement);
    publish(errand);
}

/* Header values must stay on one line. */
static const char *one_line(struct errand *errand, const char *text)
{
    char *line = need(arena_strdup(&errand->arena, text));
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7E)
            *c = ' ';
    return line;
}

static void begin_burial(struct hands *hands, struct errand *errand, const struct assembly_action *action)
{
    char subject[NAMES_BYTES];
    const struct message_entry *entry = message_of(hands, action->message);
    bool named = errand->tool && errand->chamber;
    LOG_WARN("dead-lettered", LOG_STR("class", errand->reason_class), LOG_STR("tool", errand->tool),
             LOG_STR("chamber", errand->chamber), LOG_STR("reason", errand->reason));
    errand->stored_us = entry ? entry->stored_us : 0;
    void *bytes = need(arena_alloc(&errand->arena, action->length + 1));
    memcpy(bytes, action->bytes, action->length);
    errand->bytes = bytes;
    errand->reason = one_line(errand, errand->reason);
    errand->context_id = errand->context_id ? one_line(errand, errand->context_id) : NULL;
    if (!named ||
        names_samples(hands->cell, errand->tool, errand->chamber, action->subject_kind, subject, NULL))
        snprintf(subject, sizeof subject, "unknown");
    errand->text = one_line(errand, subject);
    if (!named ||
        names_for_chamber(hands->cell, STREAM_SAMPLES_DEAD, errand->tool, errand->chamber, subject, NULL))
        names_subject(hands->cell, STREAM_SAMPLES_DEAD ".unknown.unknown", subject);
    errand->subject = copy(errand, subject);
    errand->message_id =
        need(arena_printf(&errand->arena, "eqp-%" PRIu64 "-%" PRId64, action->message, errand->stored_us));
    publish(errand);
}

/* --- the roster: what a run of the chamber weighs --- */

static void on_weight_written(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    if (code && code != ERR_CONFLICT)
        LOG_DEBUG("a chamber's weight was not written", LOG_STR("error", error->text));
    errand_end(arg);
}

/* Other members of the entry are another's (what was observed), and stay. */
static void on_weight_read(void *arg, int code, const struct error *error, const struct kv_entry *entry)
{
    struct errand *errand = arg;
    struct bus *bus = errand->hands->ports.bus;
    json_t *root = code == 0 ? json_loadb(entry->value, entry->length, 0, NULL) : NULL;
    int64_t known = json_integer_value(json_object_get(root, "weight"));
    int64_t difference = known > errand->weight ? known - errand->weight : errand->weight - known;
    if ((code && code != ERR_NOT_FOUND) || (code == 0 && difference * 10 <= known)) {
        json_decref(root);
        on_weight_written(errand, code, error, 0);
        return;
    }
    if (!json_is_object(root)) {
        json_decref(root);
        root = need(json_object());
    }
    json_object_set_new(root, "weight", json_integer(errand->weight));
    char *text = need(json_dumps(root, JSON_COMPACT));
    if (code == 0)
        kv_update(bus, errand->bucket, errand->key, text, strlen(text), entry->revision, on_weight_written,
                  errand);
    else
        kv_create(bus, errand->bucket, errand->key, text, strlen(text), on_weight_written, errand);
    free(text);
    json_decref(root);
}

static void register_weight(struct hands *hands, const struct assembly_action *action, const char *bucket)
{
    struct errand *errand = errand_new(hands, action);
    errand->key = copy(errand, action->token);
    errand->bucket = bucket;
    kv_get(hands->ports.bus, bucket, errand->key, on_weight_read, errand);
}

/* --- what the heart asks for --- */

static void begin_errand(struct hands *hands, const struct assembly_action *action)
{
    struct errand *errand = errand_new(hands, action);
    switch (action->kind) {
    case ASSEMBLY_PUT:
    case ASSEMBLY_COMPLETE:
        begin_pack(errand);
        break;
    case ASSEMBLY_FIND:
        queue_for_store(errand);
        break;
    case ASSEMBLY_LOOK_UP:
        set_note_key(errand, action->token);
        look_up(errand);
        break;
    case ASSEMBLY_NOTE:
        set_note_key(errand, action->token);
        write_note(errand);
        break;
    case ASSEMBLY_DROP_NOTE:
        set_note_key(errand, action->token);
        kv_delete(hands->ports.bus, hands->notes_bucket, errand->key, 0, on_note_dropped, errand);
        break;
    case ASSEMBLY_ANNOUNCE:
        begin_announcement(errand);
        break;
    default:
        begin_burial(hands, errand, action);
        break;
    }
}

static void carry_out(struct hands *hands, const struct assembly_action *action)
{
    switch (action->kind) {
    case ASSEMBLY_ACK:
        acknowledge(hands, action->message);
        break;
    case ASSEMBLY_FORGET:
        forget(hands, action->message);
        break;
    case ASSEMBLY_REGISTER:
        register_weight(hands, action, hands->chambers_bucket);
        register_weight(hands, action, hands->own_chambers_bucket);
        break;
    default:
        begin_errand(hands, action);
        break;
    }
}

/* --- the doors --- */

static void take_message(struct hands *hands, const struct consumer_message *message)
{
    struct message_entry *entry = need(calloc(1, sizeof *entry));
    entry->sequence = message->stream_sequence;
    entry->stored_us = message->stored_us;
    entry->extended_ms = mono_us() / 1000;
    entry->ack_reply = need(strdup(message->ack_reply));
    HASH_ADD(hh, hands->messages, sequence, sizeof entry->sequence, entry);
}

/* A subject of the stream that is none of the three: nobody could have meant it. */
static void refuse_subject(struct hands *hands, const struct consumer_message *message,
                           const struct error *err)
{
    struct assembly_action action = {.kind = ASSEMBLY_BURY,
                                     .message = message->stream_sequence,
                                     .reason = err->text,
                                     .reason_class = "undecodable",
                                     .bytes = message->bus->data,
                                     .length = message->bus->length};
    hands->ports.counts->messages++;
    hands->ports.counts->undecodable++;
    hands->ports.counts->dead++;
    begin_errand(hands, &action);
}

void hands_receive(struct hands *hands, const struct consumer_message *message)
{
    struct message_entry *known = message_of(hands, message->stream_sequence);
    char tool[NAMES_BYTES], chamber[NAMES_BYTES], token[2 * NAMES_BYTES];
    enum names_sample_kind kind;
    struct error err;
    if (known) {
        hands->ports.counts->redelivered++;
        free(known->ack_reply);
        known->ack_reply = need(strdup(message->ack_reply));
        known->extended_ms = mono_us() / 1000;
        return;
    }
    take_message(hands, message);
    if (names_parse_samples(hands->cell, message->bus->subject, tool, chamber, &kind, &err)) {
        refuse_subject(hands, message, &err);
        return;
    }
    /* The two tokens between "eqp." and the kind. */
    const char *begin = message->bus->subject + strlen(hands->cell) + (*hands->cell ? 1 : 0) + strlen("eqp.");
    snprintf(token, sizeof token, "%.*s", (int)(strrchr(begin, '.') - begin), begin);
    feed(hands, &(struct assembly_event){.kind = ASSEMBLE_MESSAGE,
                                         .message = message->stream_sequence,
                                         .tool = tool,
                                         .chamber = chamber,
                                         .token = token,
                                         .subject_kind = kind,
                                         .bytes = message->bus->data,
                                         .length = message->bus->length});
}

int64_t hands_capacity(const struct hands *hands)
{
    size_t limit = hands->options.assembly.buffer_bytes, used = assembly_bytes(hands->assembly);
    const struct collect_counts *counts = hands->ports.counts;
    size_t typical = counts->messages > 0 ? (size_t)(counts->bytes / counts->messages) : 0;
    if (hands->stopping || used >= limit)
        return 0;
    /* Decoded, a message takes several times its size. */
    size_t messages =
        (limit - used) / (8 * (typical > TYPICAL_MESSAGE_BYTES ? typical : TYPICAL_MESSAGE_BYTES));
    return messages < 1 ? 1 : messages > HANDS_WANT_MAX ? HANDS_WANT_MAX : (int64_t)messages;
}

void hands_tick(struct hands *hands, bool blind)
{
    extend_all(hands);
    feed(hands, &(struct assembly_event){.kind = blind ? ASSEMBLE_BLIND : ASSEMBLE_TICK});
}

void hands_release_chamber(struct hands *hands, const char *subject)
{
    char prefix[NAMES_BYTES], token[NAMES_BYTES];
    names_subject(hands->cell, "eqp.", prefix);
    size_t skip = strlen(prefix), length = strlen(subject), suffix = strlen(".>");
    if (length <= skip + suffix)
        return;
    snprintf(token, sizeof token, "%.*s", (int)(length - skip - suffix), subject + skip);
    feed(hands, &(struct assembly_event){.kind = ASSEMBLE_RELEASE, .token = token});
}

void hands_abandon_all(struct hands *hands)
{
    feed(hands, &(struct assembly_event){.kind = ASSEMBLE_ABANDON});
    struct message_entry *entry, *next;
    HASH_ITER(hh, hands->messages, entry, next)
    {
        drop_message(hands, entry); /* dead letters on their way acknowledge nothing any more */
    }
}

void hands_stop(struct hands *hands)
{
    hands->stopping = true;
}

bool hands_idle(struct hands *hands)
{
    bool under_way = false;
    if (hands->stopping) {
        under_way = assembly_flush(hands->assembly, mono_us(), &hands->actions);
        for (size_t i = 0; i < hands->actions.count; i++)
            carry_out(hands, &hands->actions.items[i]);
        assembly_actions_clear(&hands->actions);
    }
    return !under_way && hands->errands == 0;
}

static void on_bucket(void *arg, int code, const struct error *error, uint64_t revision)
{
    (void)revision;
    struct errand *errand = arg;
    struct hands *hands = errand->hands;
    if (code)
        LOG_WARN("the bucket of notes is not ready; trying again", LOG_STR("error", error->text));
    errand_end(errand);
    hands->making_bucket = false;
    if (code == 0)
        hands->ready(hands->ready_arg);
    else if (bus_is_connected(hands->ports.bus))
        hands_on_connected(hands, hands->ready, hands->ready_arg);
}

void hands_on_connected(struct hands *hands, void (*ready)(void *arg), void *arg)
{
    if (hands->making_bucket)
        return;
    hands->making_bucket = true;
    hands->ready = ready;
    hands->ready_arg = arg;
    struct kv_spec spec = {
        .bucket = hands->notes_bucket, .ttl_ms = NOTE_TTL_MS, .replicas = hands->options.replicas};
    kv_ensure(hands->ports.bus, &spec, on_bucket,
              errand_new(hands, &(struct assembly_action){.kind = ASSEMBLY_LOOK_UP}));
}

void hands_format(const struct hands *hands, struct strbuf *json)
{
    strbuf_printf(json, "\"open\":%zu,\"held\":%zu,\"held_bytes\":%zu,\"store_calls\":%d,\"errands\":%lld",
                  assembly_contexts(hands->assembly), assembly_messages(hands->assembly),
                  assembly_bytes(hands->assembly), hands->store_calls, (long long)hands->errands);
}

const struct assembly *hands_assembly(const struct hands *hands)
{
    return hands->assembly;
}

int hands_open(const struct hands_options *options, const struct hands_ports *ports, struct hands **out,
               struct error *err)
{
    struct hands *hands = calloc(1, sizeof *hands);
    if (hands == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a collector");
    hands->options = *options;
    hands->ports = *ports;
    snprintf(hands->cell, sizeof hands->cell, "%s", options->cell);
    names_stream(hands->cell, HANDS_NOTES_BUCKET, hands->notes_bucket);
    names_stream(hands->cell, "chambers", hands->chambers_bucket);
    names_stream(hands->cell, "collector-chambers", hands->own_chambers_bucket);
    int code = assembly_create(&options->assembly, ports->counts, &hands->assembly, err);
    if (code) {
        free(hands);
        return code;
    }
    assembly_actions_init(&hands->actions);
    *out = hands;
    return 0;
}

void hands_close(struct hands *hands)
{
    struct message_entry *entry, *next;
    HASH_ITER(hh, hands->messages, entry, next)
    {
        drop_message(hands, entry);
    }
    assembly_free(hands->assembly);
    assembly_actions_free(&hands->actions);
    free(hands);
}
