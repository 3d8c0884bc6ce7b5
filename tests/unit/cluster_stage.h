/* A stage for cluster stories: several processes, each a `struct cluster`, against one key-value store,
 * heartbeats, consumers and a stream in memory. Time is the stage's; every delay is stated; nothing is
 * random.
 *
 * A story lets time pass, breaks things, and states the decisions it expects, in the words of the log and in
 * their order. */
#ifndef CHAMBERLAIN_TESTS_CLUSTER_STAGE_H
#define CHAMBERLAIN_TESTS_CLUSTER_STAGE_H

#include "cluster/cluster.h"

enum { STAGE_PROCESSES_MAX = 64, STAGE_LATENCY_MS = 1 };

struct stage;

/* NULL for `config`: the standard one. Processes are numbered from 1 in the order in which they start. */
struct stage *stage_new(const struct cluster_config *config);
void stage_free(struct stage *stage);

/* `count` chambers "T0001.C1", ... of weight 1,000 each are registered. */
void stage_add_chambers(struct stage *stage, int first, int count);
void stage_remove_chamber(struct stage *stage, int number);
void stage_set_weight(struct stage *stage, int number, int weight);
/* The chamber, registered with `weight`, was seen to bring so many points an hour. */
void stage_observe(struct stage *stage, int number, int weight, int per_hour);
/* Messages wait in the stream for a chamber that nobody has registered. */
void stage_add_orphan(struct stage *stage, const char *chamber);

/* A new process; returns its number. */
int stage_start(struct stage *stage);
int stage_start_as(struct stage *stage, const char *version, const char *group, double share);
/* In place of one that has ended, as its supervisor knows. */
int stage_restart(struct stage *stage, int predecessor);
void stage_start_many(struct stage *stage, int count);

void stage_run(struct stage *stage, int64_t ms);
/* Until a trace contains the text, from now on; fails the test after `limit_ms`. */
void stage_run_until(struct stage *stage, const char *text, int64_t limit_ms);

void stage_stop(struct stage *stage, int process);  /* SIGTERM */
void stage_kill(struct stage *stage, int process);  /* SIGKILL: its connection is gone */
void stage_pause(struct stage *stage, int process); /* SIGSTOP: what comes for it waits */
void stage_resume(struct stage *stage, int process);
void stage_cut(struct stage *stage, int process); /* its connection only */
void stage_mend(struct stage *stage, int process);
void stage_jump_clock(struct stage *stage, int process, int64_t ms);
void stage_slow_drain(struct stage *stage, int process,
                      int64_t ms); /* what is in flight when it stops takes so long */

void stage_nats_away(struct stage *stage);
void stage_nats_back(struct stage *stage, bool store_lost);
void stage_kv_stall(struct stage *stage, int64_t ms); /* the store has no leader: writes time out */

enum stage_fault { FAULT_NOT_DONE, FAULT_DONE, FAULT_DONE_LATE };
/* The next write of `process` (0: of anyone) to a key that begins with `key` has the outcome ERR_TIMEOUT; it
 * was not done, done, or is done only 4 s later. */
void stage_fail_write(struct stage *stage, int process, const char *key, enum stage_fault fault);
/* The process is killed when such a write arrives, before (`done` false) or after it is done. */
void stage_kill_at_write(struct stage *stage, int process, const char *key, bool done);

/* Each line of `story`, "process > text" or "text", must be in the trace, in this order, from where the last
 * story ended. The text is the beginning of what was said. */
void stage_expect(struct stage *stage, const char *story);
/* How often the trace contains the text, from the beginning. */
int stage_count(const struct stage *stage, const char *text);
/* Since when the stage has run, and when the newest trace that contains the text was said; -1: never. */
int64_t stage_now(const struct stage *stage);
int64_t stage_time_of(const struct stage *stage, const char *text);

/* What is wrong now, printed with the trace: an ID held by two, a chamber in the filters of none or two, of
 * one whom the map does not name, an owner that disagrees with the map. Fails the test. `chambers` is how
 * many there must be. */
void stage_check(struct stage *stage, int chambers);
/* That nobody's filters overlap was checked all the while, by the stage's server. */

void stage_status(const struct stage *stage, int process, struct cluster_status *status);
int stage_holder(const struct stage *stage, const char *id); /* the process that holds it, 0: none */
int stage_leader(const struct stage *stage);                 /* the process that leads, 0: none */
const char *stage_value(const struct stage *stage, enum cluster_bucket bucket,
                        const char *key); /* NULL: none */
size_t stage_filters(const struct stage *stage, const char *id);
void stage_print(const struct stage *stage);

#endif
