/* The Cassandra store: WORKERS threads carry out calls, each of which keeps up to CASSANDRA_WAVE requests in
 * flight.
 *
 *     caller -> submit -> waiting (in order) -> worker n -> done
 *
 * Order: the calls on one context are carried out as they came. A worker takes the first call in the queue
 * none of whose contexts has a call before it, running or waiting, that must not be overtaken (two reads may
 * run side by side). Contexts are told apart by a hash of their ids, so that now and then two wait for each
 * other: harmless, and a look-up by the id alone has its order too.
 *
 * Bounds: WORKERS x CASSANDRA_WAVE small requests; TCHART_READS_MAX calls that fetch a T-chart, with at most
 * 4 MiB on their way each. More T-charts at once are slower, not faster: a few hundred KB each fill the
 * servers' and the driver's buffers, and the small requests behind them wait. */
#include "store/cassandra_init.h"
#include "store/cassandra_session.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum {
    WORKERS = 16,
    SLOTS = 1024,
    TCHART_READS_MAX = 8,
    JOBS = 2 * STORE_QUEUE_MAX_CALLS + WORKERS /* waiting and running calls */
};

/* A call that waits, in a list by age. */
struct job {
    struct store_call *call;
    struct job *next;
    int32_t slot; /* of its only context; -1: none; SLOTS: several (see the call) */
};

/* Calls that are running on the contexts of one hash; `held` in a search: a call in the queue stands before.
 */
struct slot {
    uint32_t reads, writes;
    uint64_t held_read, held_write; /* number of the search that found one waiting */
};

struct cassandra_store {
    struct store base;
    struct cassandra_session session;
    bool read_only;

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t ready, idle;
    struct job *first, **end, *free_jobs;
    struct store_call *refused; /* answered, to be finished */
    size_t waiting_reads, waiting_writes, tchart_reads, in_flight;
    uint64_t search;
    bool closing, stopping;
    struct slot slots[SLOTS];
    struct job jobs[JOBS];

    pthread_t workers[WORKERS]; /* set before they start */
    size_t worker_count;
};

/* --- order --- */

static int32_t slot_of_id(const char *context_id)
{
    return (int32_t)(hash64_text(context_id) % SLOTS);
}

static int32_t slot_of_call(const struct store_call *call)
{
    switch (call->op) {
    case STORE_OP_PUT_CHUNK:
    case STORE_OP_COMPLETE:
    case STORE_OP_MARK_DEAD:
    case STORE_OP_FETCH_TCHART:
    case STORE_OP_FETCH_UCHART:
    case STORE_OP_FIND_CONTEXT:
        return slot_of_id(call->key.context_id);
    case STORE_OP_PUT_UCHARTS:
        return call->u.ucharts.count == 1 ? slot_of_id(store_call_ucharts(call)->key.context_id) : SLOTS;
    case STORE_OP_PUT_CHART_SET:
    case STORE_OP_FETCH_CHART_SET:
        return 0;
    default:
        return -1;
    }
}

/* The i-th slot of a job; NULL beyond the last. */
static struct slot *slot_at(struct cassandra_store *store, const struct job *job, size_t i)
{
    if (job->slot < SLOTS)
        return i == 0 && job->slot >= 0 ? &store->slots[job->slot] : NULL;
    const struct store_call *call = job->call;
    return i < call->u.ucharts.count ? &store->slots[slot_of_id(call->u.ucharts.items[i].key.context_id)]
                                     : NULL;
}

static bool may_run(struct cassandra_store *store, const struct job *job)
{
    bool writes = store_op_writes(job->call->op);
    struct slot *slot;
    for (size_t i = 0; (slot = slot_at(store, job, i)) != NULL; i++) {
        if (slot->writes > 0 || slot->held_write == store->search)
            return false;
        if (writes && (slot->reads > 0 || slot->held_read == store->search))
            return false;
    }
    return true;
}

static void hold(struct cassandra_store *store, const struct job *job)
{
    bool writes = store_op_writes(job->call->op);
    struct slot *slot;
    for (size_t i = 0; (slot = slot_at(store, job, i)) != NULL; i++)
        *(writes ? &slot->held_write : &slot->held_read) = store->search;
}

static void count_running(struct cassandra_store *store, const struct job *job, bool begins)
{
    bool writes = store_op_writes(job->call->op);
    struct slot *slot;
    for (size_t i = 0; (slot = slot_at(store, job, i)) != NULL; i++) {
        uint32_t *running = writes ? &slot->writes : &slot->reads;
        *running = begins ? *running + 1 : *running - 1;
    }
    if (job->call->op == STORE_OP_FETCH_TCHART)
        store->tchart_reads = begins ? store->tchart_reads + 1 : store->tchart_reads - 1;
}

/* The oldest call that may run now, taken off the queue; NULL when none may. */
static struct job *take(struct cassandra_store *store)
{
    store->search++;
    for (struct job **link = &store->first; *link; link = &(*link)->next) {
        struct job *job = *link;
        bool enough = job->call->op == STORE_OP_FETCH_TCHART && store->tchart_reads >= TCHART_READS_MAX;
        if (enough || !may_run(store, job)) {
            hold(store, job);
            continue;
        }
        *link = job->next;
        if (store->end == &job->next)
            store->end = link;
        count_running(store, job, true);
        *(store_op_writes(job->call->op) ? &store->waiting_writes : &store->waiting_reads) -= 1;
        return job;
    }
    return NULL;
}

/* --- calls --- */

static void cassandra_submit(struct store *base, struct store_call *call)
{
    struct cassandra_store *store = (struct cassandra_store *)base;
    pthread_mutex_lock(&store->lock);
    struct store_door door = {.kind = "cassandra:",
                              .place = store->session.place,
                              .closing = store->closing,
                              .read_only = store->read_only,
                              .waiting =
                                  store_op_writes(call->op) ? store->waiting_writes : store->waiting_reads};
    store->in_flight++;
    if (store_call_refuse(call, &door)) {
        call->next = store->refused;
        store->refused = call;
    } else {
        struct job *job = store->free_jobs;
        store->free_jobs = job->next;
        *job = (struct job){.call = call, .slot = slot_of_call(call)};
        *store->end = job;
        store->end = &job->next;
        *(store_op_writes(call->op) ? &store->waiting_writes : &store->waiting_reads) += 1;
    }
    pthread_cond_signal(&store->ready);
    pthread_mutex_unlock(&store->lock);
}

static void carry_out(struct cassandra_store *store, struct store_call *call)
{
    if (store_op_writes(call->op))
        cassandra_write_call(&store->session, call);
    else
        cassandra_read_call(&store->session, call, store->read_only);
    if (call->reply.code && call->reply.error.code != call->reply.code)
        error_set(&call->reply.error, call->reply.code, "store cassandra:%s: %s", store->session.place,
                  error_name(call->reply.code));
}

static void *run_worker(void *arg)
{
    struct cassandra_store *store = arg;
    pthread_mutex_lock(&store->lock);
    for (;;) {
        struct store_call *call = store->refused;
        struct job *job = NULL;
        if (call)
            store->refused = call->next;
        else if ((job = take(store)) != NULL)
            call = job->call;
        if (call == NULL && store->stopping)
            break;
        if (call == NULL) {
            pthread_cond_wait(&store->ready, &store->lock);
            continue;
        }
        pthread_mutex_unlock(&store->lock);
        if (job)
            carry_out(store, call);
        pthread_mutex_lock(&store->lock);
        if (job) {
            count_running(store, job, false);
            job->next = store->free_jobs;
            store->free_jobs = job;
            pthread_cond_signal(&store->ready); /* a call that had to wait for this one may run */
        }
        pthread_mutex_unlock(&store->lock);
        store_call_finish(call);
        pthread_mutex_lock(&store->lock);
        if (--store->in_flight == 0)
            pthread_cond_broadcast(&store->idle);
    }
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* --- opening and closing --- */

static void destroy(struct cassandra_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->stopping = true;
    pthread_cond_broadcast(&store->ready);
    pthread_mutex_unlock(&store->lock);
    for (size_t i = 0; i < store->worker_count; i++)
        pthread_join(store->workers[i], NULL);
    cassandra_session_close(&store->session);
    pthread_cond_destroy(&store->ready);
    pthread_cond_destroy(&store->idle);
    pthread_mutex_destroy(&store->lock);
    free(store);
}

static struct cassandra_store *allocate(const struct store_options *options)
{
    struct cassandra_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    store->base.ops = &store_cassandra_ops;
    store->read_only = options->read_only;
    store->end = &store->first;
    for (size_t i = 0; i < JOBS; i++) {
        store->jobs[i].next = store->free_jobs;
        store->free_jobs = &store->jobs[i];
    }
    return store;
}

static int start_workers(struct cassandra_store *store, struct error *err)
{
    for (; store->worker_count < WORKERS; store->worker_count++) {
        int result = pthread_create(&store->workers[store->worker_count], NULL, run_worker, store);
        if (result)
            return error_set(err, ERR_NO_MEMORY, "store: cannot start a thread: %s", strerror(result));
    }
    return 0;
}

static int cassandra_open(const char *place, const struct store_options *options, struct store **opened,
                          struct error *err)
{
    struct cassandra_store *store = allocate(options);
    if (store == NULL)
        return error_set(err, ERR_NO_MEMORY, "store cassandra:%s: out of memory", place);
    int code = cassandra_session_open(&store->session, place, true, err);
    if (code) {
        free(store);
        return code;
    }
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->ready, NULL);
    pthread_cond_init(&store->idle, NULL);
    code = cassandra_schema_check(&store->session, err);
    if (code == 0)
        code = cassandra_session_prepare(&store->session, err);
    if (code == 0)
        code = start_workers(store, err);
    if (code) {
        destroy(store);
        return code;
    }
    *opened = &store->base;
    return 0;
}

static void cassandra_close(struct store *base)
{
    struct cassandra_store *store = (struct cassandra_store *)base;
    pthread_mutex_lock(&store->lock);
    store->closing = true;
    while (store->in_flight > 0)
        pthread_cond_wait(&store->idle, &store->lock);
    pthread_mutex_unlock(&store->lock);
    destroy(store);
}

bool cassandra_is_built(void)
{
    return true;
}

const struct store_ops store_cassandra_ops = {
    .scheme = "cassandra", .open = cassandra_open, .submit = cassandra_submit, .close = cassandra_close};
