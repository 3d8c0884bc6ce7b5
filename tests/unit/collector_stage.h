/* A collector's heart on a stage: a stream that gives again what was not acknowledged, a bucket and a store
 * in memory, and a carrier whose answers come when the story says so. */
#ifndef CHAMBERLAIN_TESTS_COLLECTOR_STAGE_H
#define CHAMBERLAIN_TESTS_COLLECTOR_STAGE_H

#include "collector/assembly.h"

enum {
    STAGE_MESSAGES = 4096,
    STAGE_CONTEXTS = 16,
    STAGE_CHUNKS = 256,
    STAGE_ERRANDS = 64,
    STAGE_SECOND = 1000000
};

struct stage_message {
    enum names_sample_kind kind;
    char *bytes;
    size_t length;
    bool taken;     /* acknowledged: gone from the stream */
    bool delivered; /* to the collector that runs now, and not forgotten by it */
};

struct stage_context {
    char id[64];
    char *note;
    uint64_t revision;
    unsigned char *chunks[STAGE_CHUNKS];
    size_t lengths[STAGE_CHUNKS];
    int32_t chunk_count; /* once complete */
    char *announcement;  /* NULL: not complete */
    int announced;
    int64_t weight;
};

/* What was asked for and has not been done yet. */
struct stage_errand {
    enum assembly_action_kind kind;
    uint64_t context;
    char id[64];
    struct piece *piece;
    int32_t chunk, chunk_count;
    char *text;
    uint64_t revision;
    int crew; /* of which life of the collector */
};

struct stage {
    struct assembly_options options;
    struct collect_counts counts;
    struct assembly *assembly;
    struct assembly_actions actions;
    int64_t now_us;
    int crew;
    bool by_hand; /* errands wait for stage_work; otherwise each is done at once */
    struct stage_message stream[STAGE_MESSAGES];
    size_t stream_count;
    struct stage_context contexts[STAGE_CONTEXTS];
    size_t context_count;
    struct stage_errand errands[STAGE_ERRANDS];
    size_t errand_count;
    char graves[64][64]; /* reason classes */
    size_t grave_count;
    uint64_t last_revision;
};

struct stage *stage_new(void);
void stage_free(struct stage *stage);

/* Into the stream. Batches: two sensors at 10 Hz and a slow one, a function of id and sequence alone. */
void stage_publish_start(struct stage *stage, const char *id);
void stage_publish_data(struct stage *stage, const char *id, uint32_t sequence, bool binary);
void stage_publish_end(struct stage *stage, const char *id, uint32_t batches);
void stage_publish_text(struct stage *stage, enum names_sample_kind kind, const char *text);

/* Gives one message, or all that are in the stream and not with the collector, in their order. */
void stage_deliver(struct stage *stage, size_t message);
void stage_deliver_all(struct stage *stage);

void stage_step(struct stage *stage, const struct assembly_event *event);
void stage_pass(struct stage *stage, int64_t us); /* time, in steps of 100 ms */

/* Carries one errand out (and answers, unless `silently`). An errand of an earlier life still has its effect.
 */
void stage_work(struct stage *stage, size_t errand, bool silently);

/* kill -9 and a new process: all that was not acknowledged is to be delivered again. */
void stage_crash(struct stage *stage);

size_t stage_waiting(const struct stage *stage); /* messages that are still in the stream */
struct stage_context *stage_context(struct stage *stage, const char *id);

/* Fails the test unless the stored trace is that of batches 0 to batches - 1 without those in `without`
 * (-1 at its end; may be NULL), to the bit. */
void stage_expect_trace(struct stage *stage, const char *id, uint32_t batches, const int *without);

#endif
