/* The parts of the failover store. Internal to its files.
 *
 * A call becomes a job. A job makes attempts, one at a time: an attempt is one call on one of the two stores,
 * whose answer comes on a thread of that store. An attempt on the primary has copies of all that it was
 * given, so that it can be abandoned (the primary does not answer) while the job goes on at the standby.
 *
 * Lock order: failover.lock, then the stores' own. Nothing is submitted and no `done` runs under the lock. */
#ifndef CHAMBERLAIN_STORE_FAILOVER_PARTS_H
#define CHAMBERLAIN_STORE_FAILOVER_PARTS_H

#include "store/breaker.h"
#include "store/failover.h"
#include "store/store_ops.h"

#include <pthread.h>

enum failover_side { SIDE_PRIMARY, SIDE_STANDBY, SIDES };

enum {
    FAILOVER_SLOTS = 1024,
    FAILOVER_PAYERS = 4,                            /* contexts copied side by side */
    FAILOVER_HOLD_BELOW = 32,                       /* debts left when calls are held for the last of them */
    FAILOVER_BATCH = 512,                           /* debts paid in one round */
    FAILOVER_QUEUE_MAX = STORE_QUEUE_MAX_CALLS - 64 /* jobs; the rest is for probes and payers */
};

struct failover_times {
    int64_t call_ms;    /* a call without an answer, while nothing else is answered either, has failed */
    int64_t give_up_ms; /* a call that has failed for so long opens the breaker alone */
    int64_t poll_ms;    /* between looks for debts that others left */
    int64_t grace_ms;   /* a debt of another process is paid after so long: its write may be under way */
    int64_t hold_ms;    /* calls are held no longer than this */
};

enum job_step {
    STEP_DEBT,     /* notes what the write will owe, before it */
    STEP_MAIN,     /* the call itself */
    STEP_OTHER,    /* not found: the other store is asked */
    STEP_LATE_DEBT /* the write took so long that its debt may have been paid before it: noted again */
};

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_SLEEPING };

struct attempt {
    struct job *job; /* NULL: abandoned */
    struct failover *failover;
    enum failover_side side;
    int64_t start_ns;
    struct store_call *call;
};

struct job {
    struct job *prev, *next; /* in failover.jobs */
    struct job *todo;        /* in a list of jobs to be started or finished, outside the lock */
    struct failover *failover;
    struct store_call *outer;
    enum job_state state;
    enum failover_side side;
    enum job_step step;
    size_t debts_put;        /* of this write: several U-charts have several */
    int64_t debt_put_ns;     /* the first of them */
    struct attempt *attempt; /* under way; NULL between two */
    struct store_call *kept; /* an answer that is given if nothing better comes */
    int64_t trouble_ns;      /* its first failure; 0: none */
    int64_t wake_ns;
    int64_t late_again_ns;
};

struct failover_slot {
    uint32_t reads, writes; /* running */
    uint32_t waiting;
    uint64_t held_read, held_write; /* number of the search that found one waiting */
};

struct side {
    char *url;
    struct store *store; /* NULL until it could be opened */
    pthread_t opener;
    bool has_opener, tried; /* tried: the first attempt to open it is over */
    struct error open_error;
    int64_t calls, failures, failed_us;
    struct error failed;
    int64_t good_ns[2]; /* when a read, a write was last answered */
};

/* A context with debts, or a chart set. */
struct due {
    size_t first, count; /* in the batch's debts */
};

struct failover {
    struct store base;
    struct store_options options;
    struct failover_times times;
    uint64_t instance; /* names this process in its debts */

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed, idle, keeper_wake, pay_wake, pay_done;
    struct side sides[SIDES];
    struct breaker breaker;
    enum store_mode mode;
    int64_t mode_since_us;
    bool holding; /* nothing is started */
    struct job *jobs, *last_job;
    struct store_call *answered; /* without either store; the keeper finishes them */
    size_t job_count, waiting_count, sleeping_count, on_standby;
    size_t in_flight; /* calls whose `done` has not returned */
    int64_t abandoned;
    uint64_t search;
    int64_t last_put_us;
    struct failover_slot slots[FAILOVER_SLOTS];
    bool closing, stopping;

    bool probe_pending, probe_late;
    int64_t probe_start_ns;

    /* debts: failover_debts.c */
    int64_t debts_known, debts_paid, debts_stuck;
    bool expire_wanted;
    struct store_retention expire_retention;
    int64_t expire_now_us;
    size_t expire_limit;
    struct {
        const struct store_debt *debts;
        struct due *dues;
        size_t count, next, busy;
        size_t paid, stuck, away;
    } batch;
    uint64_t mirrored; /* the chart set that both have in force */
    int64_t mirror_at_ns, stuck_told_ns;

    pthread_t keeper, reconciler, payers[FAILOVER_PAYERS];
    size_t payer_count;
    bool has_keeper, has_reconciler;
};

/* failover_call.c */
void failover_submit(struct store *base, struct store_call *call);
bool failover_is_away(int code); /* the codes after which the other store is asked */

/* Under the lock: puts the jobs that may start now onto *todo. */
void failover_take_startable(struct failover *failover, struct job **todo);

/* Under the lock: what has become late is abandoned, sleepers wake; jobs to be started go onto *todo, jobs
 * that are over onto *over. */
void failover_look_after(struct failover *failover, int64_t now_ns, struct job **todo, struct job **over);

/* Outside the lock: starts and finishes what was put onto the lists. */
void failover_run(struct job *todo, struct job *over);

/* The slot of a context. */
struct failover_slot *failover_slot(struct failover *failover, const char *context_id);

/* Under the lock: a wall-clock time that no other debt of this process has. */
int64_t failover_put_us(struct failover *failover);

/* Under the lock: the breaker takes an event, and the mode follows it. */
void failover_event(struct failover *failover, enum breaker_event event);

/* Under the lock: notes an answer of a side. */
void failover_note(struct failover *failover, enum failover_side side, bool writes, const struct error *error,
                   bool away);

/* failover_debts.c */
void *failover_run_reconciler(void *arg);
void *failover_run_payer(void *arg);

#endif
