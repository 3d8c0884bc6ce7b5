#include "bus/bus.h"

#include "base/log.h"

#include <errno.h>
#include <limits.h>
#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uthash.h>
#include <utlist.h>

enum {
    TIMEOUT_TICK_MS = 50,
    CONNECT_TIMEOUT_MS = 2000,
    PING_INTERVAL_MS = 5000, /* two lost pings: a dead connection is noticed after 10 s at most */
    CLOSE_FLUSH_MS = 1000,
    PENDING_MESSAGES_MAX = 1 << 20
};

struct pending_request {
    uint64_t token;
    int64_t deadline_ns;
    bus_answer *answer;
    void *arg;
    UT_hash_handle hh;
};

/* A request that could not be sent, on its way to its answer. */
struct refusal {
    bus_answer *answer;
    void *arg;
    struct error error;
};

struct bus_subscription {
    struct bus *bus;
    natsSubscription *native;
    bus_handler *handler; /* NULL once unsubscribed */
    void *arg;
    bool unsubscribed; /* the caller has let go of it */
    bool ended;        /* no letter names it any more */
    struct bus_subscription *next, *previous;
};

struct bus {
    uv_loop_t *loop;
    struct mailbox *mailbox;
    struct bus_events events;
    natsConnection *connection;
    bool connected;
    bool closing;
    uint64_t connections; /* how often the connection was made */
    char inbox[128];      /* prefix of the answers' subjects, with the dot */
    struct bus_subscription *answers;
    struct pending_request *pending; /* by token */
    uint64_t next_token;
    size_t refusals; /* on their way through the mailbox */
    struct bus_subscription *subscriptions;
    uv_timer_t timer; /* runs while something is pending */

    pthread_mutex_t lock; /* guards native_users */
    pthread_cond_t unused;
    size_t native_users; /* NATS threads may call with this bus: one for the connection, one a subscription */
};

/* A letter from a NATS thread: the message and whom it is for. */
struct delivery {
    struct bus_subscription *subscription;
    natsMsg *message;
};

static int status_to_code(natsStatus status)
{
    switch (status) {
    case NATS_OK:
        return 0;
    case NATS_TIMEOUT:
        return ERR_TIMEOUT;
    case NATS_NO_MEMORY:
        return ERR_NO_MEMORY;
    case NATS_INVALID_ARG:
    case NATS_INVALID_SUBJECT:
    case NATS_ADDRESS_MISSING:
        return ERR_INVALID;
    case NATS_MAX_PAYLOAD:
        return ERR_LIMIT;
    default:
        return ERR_UNAVAILABLE;
    }
}

/* --- who may still call from NATS's threads ---
 *
 * The connection's last callback is "closed", a subscription's is "complete". Until all of them have come the
 * bus may not be freed; bus_close waits for them. They do no more than post a letter, so it does not wait
 * long. */

static void native_users_add(struct bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    bus->native_users++;
    pthread_mutex_unlock(&bus->lock);
}

static void native_users_remove(struct bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    if (--bus->native_users == 0)
        pthread_cond_signal(&bus->unused);
    pthread_mutex_unlock(&bus->lock);
}

static void native_users_wait(struct bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    while (bus->native_users > 0)
        pthread_cond_wait(&bus->unused, &bus->lock);
    pthread_mutex_unlock(&bus->lock);
}

/* --- connection state --- */

static void answer_pending(struct bus *bus, int code, const char *text)
{
    struct error error;
    error_set(&error, code, "%s", text);
    struct pending_request *request, *next;
    struct pending_request *all = bus->pending;
    bus->pending = NULL; /* an answer may start new requests: they are not among these */
    HASH_ITER(hh, all, request, next)
    {
        HASH_DEL(all, request);
        request->answer(request->arg, code, &error, NULL);
        free(request);
    }
}

static void run_connected(void *target, void *argument)
{
    (void)argument;
    struct bus *bus = target;
    if (bus->connected || bus->closing)
        return;
    bus->connected = true;
    bus->connections++;
    if (bus->events.connected)
        bus->events.connected(bus->events.arg);
}

/* The connection that bus_open made itself. It may be lost again before the loop hears of it: then the
 * callback of the next one tells. */
static void run_opened(void *target, void *argument)
{
    struct bus *bus = target;
    if (!bus->closing && natsConnection_Status(bus->connection) == NATS_CONN_STATUS_CONNECTED)
        run_connected(target, argument);
}

static void run_disconnected(void *target, void *argument)
{
    (void)argument;
    struct bus *bus = target;
    if (!bus->connected || bus->closing)
        return;
    bus->connected = false;
    answer_pending(bus, ERR_UNAVAILABLE, "the connection to NATS was lost; it may or may not have been done");
    if (bus->events.disconnected)
        bus->events.disconnected(bus->events.arg);
}

static void on_connected(natsConnection *connection, void *closure)
{
    (void)connection;
    struct bus *bus = closure;
    mailbox_post(bus->mailbox, run_connected, bus, NULL);
}

static void on_disconnected(natsConnection *connection, void *closure)
{
    (void)connection;
    struct bus *bus = closure;
    mailbox_post(bus->mailbox, run_disconnected, bus, NULL);
}

static void run_closed(void *target, void *argument)
{
    (void)argument;
    struct bus *bus = target;
    if (!bus->closing)
        LOG_ERROR("NATS has refused the credentials twice and is not tried again; mend them and restart");
}

static void on_closed(natsConnection *connection, void *closure)
{
    (void)connection;
    struct bus *bus = closure;
    mailbox_post(bus->mailbox, run_closed, bus, NULL);
    native_users_remove(bus);
}

static void on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status,
                     void *closure)
{
    (void)subscription;
    (void)closure;
    const char *text = NULL;
    natsConnection_GetLastError(connection, &text);
    LOG_WARN("nats error", LOG_STR("status", natsStatus_GetText(status)), LOG_STR("text", text));
}

/* --- messages --- */

static void run_delivery(void *target, void *argument)
{
    (void)target;
    struct delivery *delivery = argument;
    struct bus_subscription *subscription = delivery->subscription;
    if (subscription->handler) {
        natsMsg *native = delivery->message;
        struct bus_message message = {.subject = natsMsg_GetSubject(native),
                                      .reply = natsMsg_GetReply(native) ? natsMsg_GetReply(native) : "",
                                      .data = natsMsg_GetData(native) ? natsMsg_GetData(native) : "",
                                      .length = (size_t)natsMsg_GetDataLength(native),
                                      .native = native};
        subscription->handler(subscription->arg, &message);
    }
    natsMsg_Destroy(delivery->message);
    free(delivery);
}

static void on_message(natsConnection *connection, natsSubscription *native, natsMsg *message, void *closure)
{
    (void)connection;
    (void)native;
    struct bus_subscription *subscription = closure;
    struct delivery *delivery = malloc(sizeof *delivery);
    if (delivery == NULL) {
        /* Not delivered is not lost: JetStream delivers again, and a request times out. */
        natsMsg_Destroy(message);
        return;
    }
    *delivery = (struct delivery){.subscription = subscription, .message = message};
    mailbox_post(subscription->bus->mailbox, run_delivery, subscription->bus, delivery);
}

static void subscription_free_if_done(struct bus_subscription *subscription)
{
    if (!subscription->unsubscribed || !subscription->ended)
        return;
    DL_DELETE2(subscription->bus->subscriptions, subscription, previous, next);
    natsSubscription_Destroy(subscription->native);
    free(subscription);
}

static void run_ended(void *target, void *argument)
{
    (void)target;
    struct bus_subscription *subscription = argument;
    subscription->ended = true;
    subscription_free_if_done(subscription);
}

static void on_ended(void *closure)
{
    struct bus_subscription *subscription = closure;
    struct bus *bus = subscription->bus;
    mailbox_post(bus->mailbox, run_ended, bus,
                 subscription); /* after its last delivery: the same thread posts both */
    native_users_remove(bus);
}

static void answer_request(void *arg, const struct bus_message *message)
{
    struct bus *bus = arg;
    uint64_t token = strtoull(message->subject + strlen(bus->inbox), NULL, 16);
    struct pending_request *request;
    HASH_FIND(hh, bus->pending, &token, sizeof token, request);
    if (request == NULL)
        return; /* answered after its time-out */
    HASH_DEL(bus->pending, request);
    struct error error = {0};
    if (bus_message_status(message) == 503) {
        error_set(&error, ERR_UNAVAILABLE, "nobody answers there (no responders)");
        request->answer(request->arg, error.code, &error, NULL);
    } else {
        request->answer(request->arg, 0, &error, message);
    }
    free(request);
}

static void on_timer(uv_timer_t *timer)
{
    struct bus *bus = timer->data;
    int64_t now_ns = (int64_t)uv_hrtime();
    struct pending_request *request, *next, *expired = NULL;
    HASH_ITER(hh, bus->pending, request, next)
    {
        if (request->deadline_ns <= now_ns) {
            HASH_DEL(bus->pending, request);
            HASH_ADD(hh, expired, token, sizeof request->token, request);
        }
    }
    struct error error;
    error_set(&error, ERR_TIMEOUT, "no answer in time; it may or may not have been done");
    HASH_ITER(hh, expired, request, next)
    {
        HASH_DEL(expired, request);
        request->answer(request->arg, ERR_TIMEOUT, &error, NULL);
        free(request);
    }
    if (bus->pending == NULL)
        uv_timer_stop(timer);
}

/* --- opening and closing --- */

enum { SERVERS_MAX = 32, URLS_MAX_BYTES = 4096 };

/* "nats://a:4222,nats://b:4222": nats.c takes several as an array. */
static natsStatus set_servers(natsOptions *native, const char *urls)
{
    char list[URLS_MAX_BYTES];
    const char *servers[SERVERS_MAX];
    int count = 0;
    if (strlen(urls) >= sizeof list)
        return NATS_INVALID_ARG;
    snprintf(list, sizeof list, "%s", urls);
    char *rest = list;
    for (char *one; (one = strsep(&rest, ",")) != NULL;) {
        if (count == SERVERS_MAX)
            return NATS_INVALID_ARG;
        servers[count++] = one;
    }
    return natsOptions_SetServers(native, servers, count);
}

static natsStatus set_options(natsOptions *native, const struct bus_options *options, struct bus *bus)
{
    natsStatus status = set_servers(native, options->url);
    if (status == NATS_OK)
        status = natsOptions_SetName(native, options->name);
    if (status == NATS_OK)
        status = natsOptions_SetTimeout(native, CONNECT_TIMEOUT_MS);
    if (status == NATS_OK)
        status = natsOptions_SetPingInterval(native, PING_INTERVAL_MS);
    if (status == NATS_OK)
        status = natsOptions_SetMaxReconnect(native, -1);
    if (status == NATS_OK)
        status = natsOptions_SetReconnectWait(native, BUS_RECONNECT_WAIT_MS);
    if (status == NATS_OK)
        status = natsOptions_SetReconnectJitter(native, BUS_RECONNECT_WAIT_MS, BUS_RECONNECT_WAIT_MS);
    /* What is published while the connection is away is refused, not kept: a pull request that was kept would
     * be a second one to the new connection. */
    if (status == NATS_OK)
        status = natsOptions_SetReconnectBufSize(native, 0);
    if (status == NATS_OK)
        status = natsOptions_SetMaxPendingMsgs(native, PENDING_MESSAGES_MAX);
    if (status == NATS_OK)
        status = natsOptions_SetSendAsap(native, true);
    if (status == NATS_OK && !options->must_be_there)
        status = natsOptions_SetRetryOnFailedConnect(native, true, on_connected, bus);
    if (status == NATS_OK)
        status = natsOptions_SetReconnectedCB(native, on_connected, bus);
    if (status == NATS_OK)
        status = natsOptions_SetDisconnectedCB(native, on_disconnected, bus);
    if (status == NATS_OK)
        status = natsOptions_SetClosedCB(native, on_closed, bus);
    if (status == NATS_OK)
        status = natsOptions_SetErrorHandler(native, on_error, bus);
    if (status == NATS_OK && options->credentials_file)
        status = natsOptions_SetUserCredentialsFromFiles(native, options->credentials_file, NULL);
    if (status == NATS_OK && (options->ca_file || options->certificate_file))
        status = natsOptions_SetSecure(native, true);
    if (status == NATS_OK && options->ca_file)
        status = natsOptions_LoadCATrustedCertificates(native, options->ca_file);
    if (status == NATS_OK && options->certificate_file)
        status = natsOptions_LoadCertificatesChain(native, options->certificate_file, options->key_file);
    return status;
}

/* The library's own words for a file that cannot be read are "Error": so they are looked at first. */
static int check_files(const struct bus_options *options, struct error *err)
{
    const struct {
        const char *what, *path;
    } files[] = {{"credentials", options->credentials_file},
                 {"authority's certificate", options->ca_file},
                 {"client certificate", options->certificate_file},
                 {"client key", options->key_file}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (files[i].path && access(files[i].path, R_OK) != 0)
            return error_set(err, ERR_INVALID, "the file with the %s for NATS cannot be read: %s: %s",
                             files[i].what, files[i].path, strerror(errno));
    if (!options->certificate_file != !options->key_file)
        return error_set(err, ERR_INVALID,
                         "a client certificate for NATS needs its key, and the other way round");
    return 0;
}

static bool mentions(const char *text, const char *word)
{
    return text && strcasestr(text, word) != NULL;
}

/* Why the server was not reached, and what to look at. */
static int cannot_reach(const struct bus_options *options, natsStatus status, struct error *err)
{
    const char *text = natsStatus_GetText(status), *last = nats_GetLastError(NULL);
    int code = status_to_code(status);
    if (last == NULL || *last == '\0')
        last = text;
    if (status == NATS_SSL_ERROR || mentions(last, "certificate"))
        return error_set(err, code,
                         "no TLS connection to NATS at %s (%s); was the server's certificate signed by the "
                         "authority of %s, and does it accept this client's?",
                         options->url, last, options->ca_file ? options->ca_file : "the system");
    if (status == NATS_CONNECTION_AUTH_FAILED || mentions(last, "authori") || mentions(last, "authenti"))
        return error_set(err, code, "NATS at %s refuses the credentials (%s): look at %s", options->url, last,
                         options->credentials_file ? options->credentials_file
                                                   : "CHAMBERLAIN_NATS_CREDENTIALS, which names no file");
    return error_set(err, code,
                     "cannot reach NATS at %s (%s); is the server running, and is the URL right? "
                     "`chamberlain up` starts one",
                     options->url, text);
}

static int connect_native(struct bus *bus, const struct bus_options *options, struct error *err)
{
    natsOptions *native = NULL;
    int code = check_files(options, err);
    if (code)
        return code;
    natsStatus status = natsOptions_Create(&native);
    if (status == NATS_OK)
        status = set_options(native, options, bus);
    if (status != NATS_OK) {
        natsOptions_Destroy(native);
        return error_set(err, ERR_INVALID, "NATS options: %s (%s); check the URL %s and the credential files",
                         natsStatus_GetText(status), nats_GetLastError(NULL), options->url);
    }
    native_users_add(bus);
    status = natsConnection_Connect(&bus->connection, native);
    natsOptions_Destroy(native);
    if (status == NATS_OK || status == NATS_NOT_YET_CONNECTED) {
        bus->connected = status == NATS_OK;
        return 0;
    }
    native_users_remove(bus); /* a connection that never was does not call on_closed */
    return cannot_reach(options, status, err);
}

int bus_open(const struct bus_options *options, uv_loop_t *loop, struct mailbox *mailbox,
             const struct bus_events *events, struct bus **out, struct error *err)
{
    struct bus *bus = calloc(1, sizeof *bus);
    if (bus == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a NATS connection");
    bus->loop = loop;
    bus->mailbox = mailbox;
    if (events)
        bus->events = *events;
    pthread_mutex_init(&bus->lock, NULL);
    pthread_cond_init(&bus->unused, NULL);
    uv_timer_init(loop, &bus->timer);
    bus->timer.data = bus;
    int code = connect_native(bus, options, err);
    if (code == 0) {
        char inbox[BUS_SUBJECT_MAX_BYTES];
        bus_new_inbox(bus, inbox);
        snprintf(bus->inbox, sizeof bus->inbox, "%.100s.", inbox);
        char all[sizeof bus->inbox + 1];
        snprintf(all, sizeof all, "%s*", bus->inbox);
        code = bus_subscribe(bus, all, answer_request, bus, &bus->answers, err);
    }
    if (code) {
        bus_close(bus);
        return code;
    }
    *out = bus;
    if (bus->connected && bus->events.connected) {
        bus->connected = false; /* tell it from the loop, like every later connection */
        mailbox_post(mailbox, run_opened, bus, NULL);
    }
    return 0;
}

static void free_when_timer_closed(uv_handle_t *handle)
{
    struct bus *bus = handle->data;
    struct bus_subscription *one, *next;
    DL_FOREACH_SAFE2(bus->subscriptions, one, next, next)
    {
        natsSubscription_Destroy(one->native);
        free(one);
    }
    natsConnection_Destroy(bus->connection);
    pthread_cond_destroy(&bus->unused);
    pthread_mutex_destroy(&bus->lock);
    free(bus);
}

void bus_close(struct bus *bus)
{
    bus->closing = true;
    if (bus->connected)
        natsConnection_FlushTimeout(bus->connection, CLOSE_FLUSH_MS);
    natsConnection_Close(bus->connection);
    native_users_wait(bus);
    mailbox_drain(
        bus->mailbox); /* no letter may name this bus after it is gone; what has been answered, is */
    answer_pending(bus, ERR_CLOSED, "the NATS connection is being closed");
    while (bus->refusals > 0) /* what those answers asked for is refused */
        mailbox_drain(bus->mailbox);
    uv_close((uv_handle_t *)&bus->timer, free_when_timer_closed);
}

bool bus_is_connected(const struct bus *bus)
{
    return bus->connected;
}

uint64_t bus_connections(const struct bus *bus)
{
    return bus->connections;
}

size_t bus_pending_requests(const struct bus *bus)
{
    return HASH_COUNT(bus->pending);
}

uv_loop_t *bus_loop(struct bus *bus)
{
    return bus->loop;
}

/* --- sending and receiving --- */

const char *bus_message_header(const struct bus_message *message, const char *key)
{
    const char *value = NULL;
    return natsMsgHeader_Get(message->native, key, &value) == NATS_OK ? value : NULL;
}

int bus_message_status(const struct bus_message *message)
{
    if (message->length > 0)
        return 0;
    const char *status = bus_message_header(message, "Status");
    return status ? atoi(status) : 0;
}

static int check_size(const char *subject, size_t length, struct error *err)
{
    if (strlen(subject) >= BUS_SUBJECT_MAX_BYTES)
        return error_set(err, ERR_LIMIT, "subject %.60s... is longer than %d bytes", subject,
                         BUS_SUBJECT_MAX_BYTES - 1);
    if (length > INT_MAX)
        return error_set(err, ERR_LIMIT, "%zu bytes on %s are more than NATS can carry", length, subject);
    return 0;
}

int bus_publish_with_reply(struct bus *bus, const char *subject, const char *reply, const void *data,
                           size_t length, struct error *err)
{
    int code = check_size(subject, length, err);
    if (code)
        return code;
    if (!bus->connected)
        return error_set(err, ERR_UNAVAILABLE, "not connected to NATS");
    natsStatus status =
        reply && *reply ? natsConnection_PublishRequest(bus->connection, subject, reply, data, (int)length)
                        : natsConnection_Publish(bus->connection, subject, data, (int)length);
    if (status != NATS_OK)
        return error_set(err, status_to_code(status), "publish on %s: %s", subject,
                         natsStatus_GetText(status));
    return 0;
}

int bus_publish(struct bus *bus, const char *subject, const void *data, size_t length, struct error *err)
{
    return bus_publish_with_reply(bus, subject, NULL, data, length, err);
}

/* Failures of sending are answered like failures of the far end: later, from the loop. */
static void run_refusal(void *target, void *argument)
{
    struct bus *bus = target;
    struct refusal *refusal = argument;
    bus->refusals--;
    refusal->answer(refusal->arg, refusal->error.code, &refusal->error, NULL);
    free(refusal);
}

static void refuse(struct bus *bus, const struct error *error, bus_answer *answer, void *arg)
{
    struct refusal *refusal;
    while ((refusal = malloc(sizeof *refusal)) == NULL)
        uv_sleep(1);
    *refusal = (struct refusal){.answer = answer, .arg = arg, .error = *error};
    bus->refusals++;
    mailbox_post(bus->mailbox, run_refusal, bus, refusal);
}

static natsStatus send_native(struct bus *bus, const char *subject, const char *reply,
                              const struct bus_header *headers, size_t header_count, const void *data,
                              size_t length)
{
    if (header_count == 0)
        return natsConnection_PublishRequest(bus->connection, subject, reply, data, (int)length);
    natsMsg *message = NULL;
    natsStatus status = natsMsg_Create(&message, subject, reply, data, (int)length);
    for (size_t i = 0; status == NATS_OK && i < header_count; i++)
        status = natsMsgHeader_Set(message, headers[i].key, headers[i].value);
    if (status == NATS_OK)
        status = natsConnection_PublishMsg(bus->connection, message);
    natsMsg_Destroy(message);
    return status;
}

static int send_request(struct bus *bus, const char *subject, const char *reply,
                        const struct bus_header *headers, size_t header_count, const void *data,
                        size_t length, struct error *err)
{
    if (bus->closing)
        return error_set(err, ERR_CLOSED, "the NATS connection is being closed");
    int code = check_size(subject, length, err);
    if (code)
        return code;
    for (size_t i = 0; i < header_count; i++) /* a line break would end the header and begin another */
        if (strpbrk(headers[i].value, "\r\n"))
            return error_set(err, ERR_INVALID, "header %s on %s has a line break in its value",
                             headers[i].key, subject);
    if (!bus->connected)
        return error_set(err, ERR_UNAVAILABLE, "not connected to NATS");
    natsStatus status = send_native(bus, subject, reply, headers, header_count, data, length);
    return status == NATS_OK ? 0
                             : error_set(err, status_to_code(status), "request on %s (%zu bytes): %s",
                                         subject, length, natsStatus_GetText(status));
}

void bus_request(struct bus *bus, const char *subject, const struct bus_header *headers, size_t header_count,
                 const void *data, size_t length, int64_t timeout_ms, bus_answer *answer, void *arg)
{
    if (timeout_ms <= 0)
        timeout_ms = BUS_DEFAULT_TIMEOUT_MS;
    if (timeout_ms > BUS_TIMEOUT_MAX_MS)
        timeout_ms = BUS_TIMEOUT_MAX_MS;
    uint64_t token = ++bus->next_token;
    char reply[sizeof bus->inbox + 20];
    snprintf(reply, sizeof reply, "%s%llx", bus->inbox, (unsigned long long)token);
    struct error error = {0};
    if (send_request(bus, subject, reply, headers, header_count, data, length, &error)) {
        refuse(bus, &error, answer, arg);
        return;
    }
    struct pending_request *request;
    while ((request = calloc(1, sizeof *request)) == NULL)
        uv_sleep(1);
    *request = (struct pending_request){.token = token,
                                        .deadline_ns = (int64_t)uv_hrtime() + timeout_ms * 1000000,
                                        .answer = answer,
                                        .arg = arg};
    HASH_ADD(hh, bus->pending, token, sizeof request->token, request);
    if (!uv_is_active((uv_handle_t *)&bus->timer))
        uv_timer_start(&bus->timer, on_timer, TIMEOUT_TICK_MS, TIMEOUT_TICK_MS);
}

int bus_subscribe(struct bus *bus, const char *subject, bus_handler *handler, void *arg,
                  struct bus_subscription **out, struct error *err)
{
    struct bus_subscription *subscription = calloc(1, sizeof *subscription);
    if (subscription == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for a subscription");
    *subscription = (struct bus_subscription){.bus = bus, .handler = handler, .arg = arg};
    natsStatus status =
        natsConnection_Subscribe(&subscription->native, bus->connection, subject, on_message, subscription);
    if (status != NATS_OK) {
        free(subscription);
        return error_set(err, status_to_code(status), "subscribe to %s: %s", subject,
                         natsStatus_GetText(status));
    }
    native_users_add(bus);
    if (natsSubscription_SetOnCompleteCB(subscription->native, on_ended, subscription) != NATS_OK) {
        native_users_remove(bus); /* ended already: the connection was closed meanwhile */
        subscription->ended = true;
    }
    natsSubscription_SetPendingLimits(subscription->native, -1, -1);
    DL_APPEND2(bus->subscriptions, subscription, previous, next);
    *out = subscription;
    return 0;
}

void bus_unsubscribe(struct bus_subscription *subscription)
{
    /* Letters may be under way that name it: it stays in the bus's list, deaf, until the last has come. */
    subscription->handler = NULL;
    subscription->unsubscribed = true;
    natsSubscription_Unsubscribe(subscription->native);
    subscription_free_if_done(subscription);
}

void bus_new_inbox(struct bus *bus, char inbox[static BUS_SUBJECT_MAX_BYTES])
{
    (void)bus;
    natsInbox *native = NULL;
    while (natsInbox_Create(&native) != NATS_OK)
        uv_sleep(1);
    snprintf(inbox, BUS_SUBJECT_MAX_BYTES, "%s", native);
    natsInbox_Destroy(native);
}
