/* The SQLite store: one writer thread, which groups what waits into one transaction; some reader threads; and
 * a keeper, which copies the WAL back into the database, so that no writer has to. Each has a connection of
 * its own.
 *
 *     caller -> submit -> writes -> writer   -> done
 *                      -> reads  -> reader n -> done
 *
 * Order: calls on one context are carried out as they came. A read that finds writes of its context waiting
 * is put behind them, into the writer's queue; a write waits until reads of its context that came before it
 * have ended. Which contexts have calls waiting is counted by the hash of the key, so that now and then two
 * contexts wait for each other: harmless. */
#include "store/sqlite_connection.h"

#include "base/hash.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SLOTS = 1024,
    GROUP_MAX_BYTES =
        32 * 1024 * 1024, /* of chunks, in one transaction: the cache holds what was not written yet */
    BUSY_DEFAULT_MS = 5000,
    READERS_DEFAULT = 2,
    /* Pages in the WAL after which the keeper copies them back, and after which it makes writers wait for
       that. */
    CHECKPOINT_PAGES = 1024,
    CHECKPOINT_RESTART_PAGES = 8192,
    CHECKPOINT_RESTART_WAIT_MS = 1000
};

struct call_list {
    struct store_call *first;
    struct store_call **end;
    size_t waiting; /* that count against STORE_QUEUE_MAX_CALLS */
};

/* Calls that are waiting or running on the contexts of one hash. */
struct slot {
    uint32_t reads, writes;
};

struct sqlite_store {
    struct store base;
    char *path;
    bool read_only;

    pthread_mutex_t lock; /* guards everything up to `threads` */
    pthread_cond_t reads_ready, writes_ready, reads_ended, idle, keeper_ready;
    struct call_list reads, writes;
    size_t in_flight; /* calls whose `done` has not returned */
    int wal_pages;    /* as the writer saw it last; 0 once the keeper has been */
    bool closing;     /* no new calls */
    bool stopping;    /* threads end */
    struct slot slots[SLOTS];

    /* Set before the threads start. */
    pthread_t writer, keeper;
    bool has_writer, has_keeper;
    struct sqlite_connection writer_connection, keeper_connection;
    struct sqlite_reader {
        struct sqlite_store *store;
        struct sqlite_connection connection;
        pthread_t thread;
        bool started;
    } * readers;
    size_t reader_count;
};

/* --- queues and order --- */

static void list_init(struct call_list *list)
{
    *list = (struct call_list){0};
    list->end = &list->first;
}

static void list_push(struct call_list *list, struct store_call *call)
{
    call->next = NULL;
    *list->end = call;
    list->end = &call->next;
    list->waiting++;
}

static struct store_call *list_pop(struct call_list *list)
{
    struct store_call *call = list->first;
    list->first = call->next;
    if (list->first == NULL)
        list->end = &list->first;
    list->waiting--;
    return call;
}

static struct slot *slot_of_key(struct sqlite_store *store, const struct store_key *key)
{
    return &store->slots[hash64_texts(key->tool, key->chamber, key->context_id, NULL) % SLOTS];
}

/* The i-th slot that a call takes; NULL beyond the last. */
static struct slot *slot_of_call(struct sqlite_store *store, const struct store_call *call, size_t i)
{
    switch (call->op) {
    case STORE_OP_PUT_CHUNK:
    case STORE_OP_COMPLETE:
    case STORE_OP_MARK_DEAD:
    case STORE_OP_FETCH_TCHART:
    case STORE_OP_FETCH_UCHART:
        return i == 0 ? slot_of_key(store, &call->key) : NULL;
    case STORE_OP_PUT_UCHARTS:
        return i < call->u.ucharts.count ? slot_of_key(store, &store_call_ucharts(call)[i].key) : NULL;
    case STORE_OP_PUT_CHART_SET:
    case STORE_OP_FETCH_CHART_SET:
        return i == 0 ? &store->slots[0] : NULL;
    default:
        return NULL;
    }
}

static void slots_take(struct sqlite_store *store, const struct store_call *call)
{
    struct slot *slot;
    for (size_t i = 0; (slot = slot_of_call(store, call, i)) != NULL; i++) {
        if (store_op_writes(call->op))
            slot->writes++;
        else
            slot->reads++;
    }
}

static void slots_give(struct sqlite_store *store, const struct store_call *call)
{
    struct slot *slot;
    for (size_t i = 0; (slot = slot_of_call(store, call, i)) != NULL; i++) {
        if (store_op_writes(call->op))
            slot->writes--;
        else if (--slot->reads == 0)
            pthread_cond_signal(&store->reads_ended);
    }
}

/* A context is found by its id alone: which slot is not known, so any write may be before it. */
static bool must_follow_writes(struct sqlite_store *store, const struct store_call *call)
{
    if (call->op == STORE_OP_FIND_CONTEXT)
        return store->writes.first != NULL;
    struct slot *slot = slot_of_call(store, call, 0);
    return slot && slot->writes > 0;
}

static bool reads_are_before(struct sqlite_store *store, const struct store_call *call)
{
    struct slot *slot;
    for (size_t i = 0; (slot = slot_of_call(store, call, i)) != NULL; i++)
        if (slot->reads > 0)
            return true;
    return false;
}

static void sqlite_submit(struct store *base, struct store_call *call)
{
    struct sqlite_store *store = (struct sqlite_store *)base;
    pthread_mutex_lock(&store->lock);
    bool refused = call->reply.code != 0;
    bool to_writer = !refused && (store_op_writes(call->op) || must_follow_writes(store, call));
    struct call_list *list = to_writer ? &store->writes : &store->reads;
    struct store_door door = {.kind = "",
                              .place = store->path,
                              .closing = store->closing,
                              .read_only = store->read_only,
                              .waiting = list->waiting};
    if (store_call_refuse(call, &door))
        list = &store->reads; /* a reader ends it */
    else if (!to_writer ||
             store_op_writes(call->op)) /* a read in the writer's queue has its order from there */
        slots_take(store, call);
    store->in_flight++;
    list_push(list, call);
    pthread_cond_signal(list == &store->writes ? &store->writes_ready : &store->reads_ready);
    pthread_mutex_unlock(&store->lock);
}

static void finish(struct sqlite_store *store, struct store_call *call)
{
    store_call_finish(call);
    pthread_mutex_lock(&store->lock);
    if (--store->in_flight == 0)
        pthread_cond_broadcast(&store->idle);
    pthread_mutex_unlock(&store->lock);
}

/* --- threads --- */

static void *run_reader(void *arg)
{
    struct sqlite_reader *reader = arg;
    struct sqlite_store *store = reader->store;
    pthread_mutex_lock(&store->lock);
    for (;;) {
        while (store->reads.first == NULL && !store->stopping)
            pthread_cond_wait(&store->reads_ready, &store->lock);
        if (store->reads.first == NULL)
            break;
        struct store_call *call = list_pop(&store->reads);
        bool refused = call->reply.code != 0;
        pthread_mutex_unlock(&store->lock);
        if (!refused)
            sqlite_read_call(&reader->connection, call);
        if (!refused) {
            pthread_mutex_lock(&store->lock);
            slots_give(store, call);
            pthread_mutex_unlock(&store->lock);
        }
        finish(store, call);
        pthread_mutex_lock(&store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

static size_t bytes_of(const struct store_call *call)
{
    size_t bytes = 0;
    if (call->op == STORE_OP_PUT_CHUNK)
        bytes = call->u.chunk.length;
    for (size_t i = 0; call->op == STORE_OP_COMPLETE && i < call->u.complete.count; i++)
        bytes += call->u.complete.chunks[i].length;
    return bytes;
}

/* The next writes that go together; a read, or a removal, goes alone. */
static size_t take_group(struct sqlite_store *store, struct store_call *group[static GROUP_MAX_CALLS])
{
    size_t count = 0, bytes = 0;
    while (store->writes.first && count < GROUP_MAX_CALLS && bytes < GROUP_MAX_BYTES) {
        struct store_call *next = store->writes.first;
        bool alone = !store_op_writes(next->op) || next->op == STORE_OP_EXPIRE;
        if (alone && count > 0)
            break;
        while (reads_are_before(store, next) && store_op_writes(next->op))
            pthread_cond_wait(&store->reads_ended, &store->lock);
        group[count++] = list_pop(&store->writes);
        bytes += bytes_of(next);
        if (alone)
            break;
    }
    return count;
}

static void wake_keeper(struct sqlite_store *store)
{
    store->wal_pages = store->writer_connection.wal_pages;
    if (store->wal_pages >= CHECKPOINT_PAGES)
        pthread_cond_signal(&store->keeper_ready);
}

static void *run_writer(void *arg)
{
    struct sqlite_store *store = arg;
    struct sqlite_connection *connection = &store->writer_connection;
    struct store_call *group[GROUP_MAX_CALLS];
    pthread_mutex_lock(&store->lock);
    for (;;) {
        while (store->writes.first == NULL && !store->stopping)
            pthread_cond_wait(&store->writes_ready, &store->lock);
        if (store->writes.first == NULL)
            break;
        size_t count = take_group(store, group);
        pthread_mutex_unlock(&store->lock);
        if (store_op_writes(group[0]->op))
            sqlite_write_group(connection, group, count);
        else
            sqlite_read_call(connection, group[0]);
        pthread_mutex_lock(&store->lock);
        for (size_t i = 0; i < count; i++)
            if (store_op_writes(group[i]->op))
                slots_give(store, group[i]);
        wake_keeper(store);
        pthread_mutex_unlock(&store->lock);
        for (size_t i = 0; i < count; i++)
            finish(store, group[i]);
        pthread_mutex_lock(&store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* Copies the WAL back. Usually no one has to wait; but readers and writers that never pause together can keep
 * the WAL from starting anew, so when it has grown long, writers are held back (briefly) until it can. */
static void checkpoint(struct sqlite_store *store, int wal_pages)
{
    struct sqlite_connection *connection = &store->keeper_connection;
    int mode = wal_pages >= CHECKPOINT_RESTART_PAGES ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE;
    int result = sqlite3_wal_checkpoint_v2(connection->db, NULL, mode, NULL, NULL);
    if (result == SQLITE_OK || (result & 0xff) == SQLITE_BUSY)
        return;
    struct error err;
    sqlite_error(connection, result, "copying the WAL back", &err);
    LOG_WARN("store checkpoint failed; the WAL file grows until it succeeds", LOG_STR("error", err.text));
}

static void *run_keeper(void *arg)
{
    struct sqlite_store *store = arg;
    pthread_mutex_lock(&store->lock);
    for (;;) {
        while (store->wal_pages < CHECKPOINT_PAGES && !store->stopping)
            pthread_cond_wait(&store->keeper_ready, &store->lock);
        if (store->stopping)
            break;
        int wal_pages = store->wal_pages;
        store->wal_pages = 0;
        pthread_mutex_unlock(&store->lock);
        checkpoint(store, wal_pages);
        pthread_mutex_lock(&store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* --- opening and closing --- */

static int start_thread(pthread_t *thread, bool *started, void *(*run)(void *), void *arg, struct error *err)
{
    int result = pthread_create(thread, NULL, run, arg);
    *started = result == 0;
    if (result)
        return error_set(err, ERR_NO_MEMORY, "store: cannot start a thread: %s", strerror(result));
    return 0;
}

static int start_writer_and_keeper(struct sqlite_store *store, int64_t busy_ms, struct error *err)
{
    int code = sqlite_connection_open(&store->writer_connection, store->path, SQL_MODE_CREATE, busy_ms, err);
    if (code == 0)
        code = sqlite_connection_open(&store->keeper_connection, store->path, SQL_MODE_WRITE,
                                      CHECKPOINT_RESTART_WAIT_MS, err);
    if (code == 0)
        code = start_thread(&store->writer, &store->has_writer, run_writer, store, err);
    return code ? code : start_thread(&store->keeper, &store->has_keeper, run_keeper, store, err);
}

static int start_readers(struct sqlite_store *store, int64_t busy_ms, struct error *err)
{
    enum sqlite_mode mode = store->read_only ? SQL_MODE_READ_ONLY : SQL_MODE_READ;
    for (size_t i = 0; i < store->reader_count; i++) {
        struct sqlite_reader *reader = &store->readers[i];
        reader->store = store;
        int code = sqlite_connection_open(&reader->connection, store->path, mode, busy_ms, err);
        if (code == 0)
            code = start_thread(&reader->thread, &reader->started, run_reader, reader, err);
        if (code)
            return code;
    }
    return 0;
}

static void stop_threads(struct sqlite_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_cond_broadcast(&store->reads_ready);
    pthread_cond_broadcast(&store->writes_ready);
    pthread_cond_broadcast(&store->keeper_ready);
    pthread_mutex_unlock(&store->lock);
    for (size_t i = 0; i < store->reader_count; i++)
        if (store->readers[i].started)
            pthread_join(store->readers[i].thread, NULL);
    if (store->has_writer)
        pthread_join(store->writer, NULL);
    if (store->has_keeper)
        pthread_join(store->keeper, NULL);
}

static void destroy(struct sqlite_store *store)
{
    stop_threads(store);
    for (size_t i = 0; i < store->reader_count; i++)
        sqlite_connection_close(&store->readers[i].connection);
    sqlite_connection_close(&store->keeper_connection);
    sqlite_connection_close(&store->writer_connection);
    pthread_cond_destroy(&store->reads_ready);
    pthread_cond_destroy(&store->writes_ready);
    pthread_cond_destroy(&store->reads_ended);
    pthread_cond_destroy(&store->idle);
    pthread_cond_destroy(&store->keeper_ready);
    pthread_mutex_destroy(&store->lock);
    free(store->readers);
    free(store->path);
    free(store);
}

static struct sqlite_store *allocate(const char *place, const struct store_options *options)
{
    struct sqlite_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    store->base.ops = &store_sqlite_ops;
    store->read_only = options->read_only;
    store->reader_count = options->reader_threads ? (size_t)options->reader_threads : READERS_DEFAULT;
    list_init(&store->reads);
    list_init(&store->writes);
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->reads_ready, NULL);
    pthread_cond_init(&store->writes_ready, NULL);
    pthread_cond_init(&store->reads_ended, NULL);
    pthread_cond_init(&store->idle, NULL);
    pthread_cond_init(&store->keeper_ready, NULL);
    store->path = strdup(place);
    store->readers = calloc(store->reader_count, sizeof *store->readers);
    if (store->path && store->readers)
        return store;
    store->reader_count = store->readers ? store->reader_count : 0;
    destroy(store);
    return NULL;
}

static int sqlite_open(const char *place, const struct store_options *options, struct store **opened,
                       struct error *err)
{
    struct sqlite_store *store = allocate(place, options);
    if (store == NULL)
        return error_set(err, ERR_NO_MEMORY, "store %s: out of memory", place);
    int64_t busy_ms = options->busy_timeout_ms ? options->busy_timeout_ms : BUSY_DEFAULT_MS;
    int code = store->read_only ? 0 : start_writer_and_keeper(store, busy_ms, err);
    if (code == 0)
        code = start_readers(store, busy_ms, err);
    if (code) {
        destroy(store);
        return code;
    }
    *opened = &store->base;
    return 0;
}

static void sqlite_close(struct store *base)
{
    struct sqlite_store *store = (struct sqlite_store *)base;
    pthread_mutex_lock(&store->lock);
    store->closing = true;
    while (store->in_flight > 0)
        pthread_cond_wait(&store->idle, &store->lock);
    pthread_mutex_unlock(&store->lock);
    destroy(store);
}

const struct store_ops store_sqlite_ops = {
    .scheme = "sqlite", .open = sqlite_open, .submit = sqlite_submit, .close = sqlite_close};
