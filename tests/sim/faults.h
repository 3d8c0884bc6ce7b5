/* What goes wrong, and when: chosen from the seed, overlapping half of the time, with calm between. */
#ifndef CHAMBERLAIN_SIM_FAULTS_H
#define CHAMBERLAIN_SIM_FAULTS_H

#include "world.h"

enum fault_kind {
    FAULT_CRASH,
    FAULT_CRASH_MANY,
    FAULT_LEADER_CRASH,
    FAULT_LEADER_IN_REBALANCE, /* killed between two writes of a commit */
    FAULT_PAUSE,
    FAULT_LEADER_PAUSE,
    FAULT_PARTITION,
    FAULT_LEADER_PARTITION,
    FAULT_MACHINE, /* power lost: no connection is closed */
    FAULT_RESET,   /* one connection ends, the process lives */
    FAULT_SERVER,  /* NATS goes away, and comes back */
    FAULT_STALL,   /* a JetStream election: core NATS goes on */
    FAULT_SLOW_WRITES,
    FAULT_LOST_WRITES,
    FAULT_SLOW_LINK,
    FAULT_CLOCK,
    FAULT_RESTART_ALL,
    FAULT_SCALE_UP,
    FAULT_SCALE_DOWN,
    FAULT_ROLL,
    FAULT_ROSTER,
    FAULT_ORPHAN,
    FAULT_WEIGHTS,
    FAULT_COUNT
};

struct faults;

struct faults *faults_open(struct world *world);
void faults_close(struct faults *faults);
const char *fault_name(enum fault_kind kind);

/* FAULT_COUNT: no such name. */
enum fault_kind fault_parse(const char *name, size_t length);
uint64_t faults_injected(const struct faults *faults, enum fault_kind kind);

/* A commit has begun to be written: the armed one strikes now. */
void faults_on_commit_write(struct world *world, struct process *leader);

#endif
