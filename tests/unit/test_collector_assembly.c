/* The collector's heart, as stories: each outcome that docs/collect.md promises; and at random: whatever is
 * sent twice, mixed up, delivered again, or interrupted by crashes, the stored trace is that of the clean
 * run. */
#include "cmocka_setup.h"

#include "collector_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int set_up(void **state)
{
    *state = stage_new();
    return 0;
}

static int tear_down(void **state)
{
    stage_free(*state);
    return 0;
}

static void publish_run(struct stage *stage, const char *id, uint32_t batches)
{
    stage_publish_start(stage, id);
    for (uint32_t b = 0; b < batches; b++)
        stage_publish_data(stage, id, b, b % 2);
    stage_publish_end(stage, id, batches);
}

static void expect_good(struct stage *stage, const char *id)
{
    const struct stage_context *context = stage_context(stage, id);
    assert_non_null(context->announcement);
    assert_null(strstr(context->announcement, "\"quality\""));
    assert_true(context->announced > 0);
}

static void expect_reason(struct stage *stage, const char *id, const char *reason)
{
    const struct stage_context *context = stage_context(stage, id);
    if (context->announcement == NULL || strstr(context->announcement, "\"quality\":\"low\"") == NULL ||
        strstr(context->announcement, reason) == NULL)
        fail_msg("%s does not say '%s'", context->announcement ? context->announcement : "nothing", reason);
}

static void a_run_becomes_a_context(void **state)
{
    struct stage *stage = *state;
    publish_run(stage, "c1", 12);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 12, NULL);
    expect_good(stage, "c1");
    const char *announcement = stage_context(stage, "c1")->announcement;
    assert_non_null(strstr(announcement, "\"tool_id\":\"T.1\",\"chamber_id\":\"A\""));
    assert_non_null(strstr(announcement, "\"ended_at\":\"2023-11-14T22:13:32Z\""));
    assert_non_null(strstr(announcement, "\"svid_count\":3,\"point_count\":252,\"chunk_count\":1"));
    assert_non_null(strstr(announcement, "\"product\":\"P\",\"batches\":12,\"batches_lost\":0"));
    assert_int_equal(stage_context(stage, "c1")->weight, 252);
    assert_int_equal(stage_waiting(stage), 0);
    assert_int_equal(assembly_messages(stage->assembly), 0);
    assert_int_equal(assembly_bytes(stage->assembly), 0);
}

/* Chunks are stored while the run goes on; each is acknowledged when the next is begun. */
static void a_long_run_is_stored_in_chunks(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 30; b++) {
        stage_publish_data(stage, "c1", b, true);
        stage_deliver_all(stage);
        stage_pass(stage, STAGE_SECOND);
    }
    assert_true(stage->counts.chunks >= 4);
    assert_true(stage_waiting(stage) <= 14); /* the start, the newest chunk, and what is not stored yet */
    stage_publish_end(stage, "c1", 30);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 30, NULL);
    expect_good(stage, "c1");
    assert_true(stage_context(stage, "c1")->chunk_count >= 5);
    assert_int_equal(stage_waiting(stage), 0);
    assert_null(stage_context(stage, "c1")->note);
}

/* A crash with chunk k noted: before it was stored, after it, and after the store's answer. */
static void a_crash_between_note_and_store_loses_nothing(void **state)
{
    struct stage *stage = *state;
    for (int moment = 0; moment < 4; moment++) {
        char id[16];
        snprintf(id, sizeof id, "c%d", moment);
        stage_publish_start(stage, id);
        for (uint32_t b = 0; b < 8; b++)
            stage_publish_data(stage, id, b, true);
        stage_deliver_all(stage);
        stage->by_hand = true;
        stage_pass(stage, 6 * STAGE_SECOND);
        assert_int_equal(stage->errands[0].kind, ASSEMBLY_NOTE);
        stage_work(stage, 0, moment == 0); /* noted; at moment 0 the answer is lost */
        if (moment >= 2)
            stage_work(stage, 0, moment == 2);
        stage_crash(stage);
        while (stage->errand_count > 0) /* what the dead process had sent arrives after all */
            stage_work(stage, 0, false);
        stage->by_hand = false;
        stage_deliver_all(stage);
        stage_publish_data(stage, id, 8, true);
        stage_publish_end(stage, id, 9);
        stage_deliver_all(stage);
        stage_expect_trace(stage, id, 9, NULL);
        expect_good(stage, id);
        assert_int_equal(stage_waiting(stage), 0);
    }
    assert_int_equal(stage->counts.taken_over, 4);
}

static void a_crash_before_the_acknowledgement_changes_nothing(void **state)
{
    struct stage *stage = *state;
    for (int moment = 0; moment < 2; moment++) {
        char id[16];
        snprintf(id, sizeof id, "c%d", moment);
        publish_run(stage, id, 5);
        stage->by_hand = true;
        stage_deliver_all(stage);
        while (stage->errands[0].kind != (moment ? ASSEMBLY_ANNOUNCE : ASSEMBLY_COMPLETE))
            stage_work(stage, 0, false);
        stage_work(stage, 0, true);
        stage_crash(stage);
        stage->by_hand = false;
        stage_deliver_all(stage);
        stage_expect_trace(stage, id, 5, NULL);
        expect_good(stage, id);
        assert_int_equal(stage_waiting(stage), 0);
    }
}

static void order_does_not_matter(void **state)
{
    struct stage *stage = *state;
    publish_run(stage, "c1", 6); /* messages: 0 start, 1-6 batches, 7 end */
    static const size_t order[] = {3, 7, 1, 6, 0, 5, 2, 4};
    for (size_t i = 0; i < 8; i++)
        stage_deliver(stage, order[i]);
    stage_expect_trace(stage, "c1", 6, NULL);
    expect_good(stage, "c1");
    assert_true(stage->counts.out_of_order > 0);
    assert_int_equal(stage_waiting(stage), 0);
}

static void duplicates_are_counted_and_dropped(void **state)
{
    struct stage *stage = *state;
    publish_run(stage, "c1", 4);
    for (uint32_t b = 0; b < 4; b++)
        stage_publish_data(stage, "c1", b, true);
    stage_publish_start(stage, "c1");
    stage_publish_end(stage, "c1", 4);
    stage_deliver(stage, 0);
    for (size_t i = stage->stream_count; i-- > 1;)
        stage_deliver(stage, i);
    stage_expect_trace(stage, "c1", 4, NULL);
    expect_good(stage, "c1");
    publish_run(stage, "c1", 4); /* all of it, after it was completed */
    stage_deliver_all(stage);
    assert_int_equal(stage_waiting(stage), 0);
    assert_int_equal(stage->counts.duplicates, 12);
    assert_int_equal(stage->counts.contexts, 1);
    assert_int_equal(stage->grave_count, 0);
}

/* A process that knows nothing of the context asks the store. */
static void what_comes_again_after_a_restart_is_known_from_the_store(void **state)
{
    struct stage *stage = *state;
    publish_run(stage, "c1", 4);
    stage_deliver_all(stage);
    stage_crash(stage);
    stage_publish_data(stage, "c1", 2, true);
    stage_publish_end(stage, "c1", 4);
    stage_publish_data(stage, "c1", 4, true); /* there is no such batch */
    stage_deliver_all(stage);
    assert_int_equal(stage_waiting(stage), 0);
    assert_int_equal(stage->counts.duplicates, 2);
    for (int with_a_batch = 0; with_a_batch < 2; with_a_batch++) {
        stage_crash(stage);
        stage_publish_start(stage, "c1");
        if (with_a_batch)
            stage_publish_data(stage, "c1", 2, true);
        stage_deliver_all(stage);
        stage_pass(stage, 6 * STAGE_SECOND);
        assert_int_equal(stage_waiting(stage), 0);
    }
    assert_int_equal(stage->counts.duplicates, 5);
    assert_int_equal(stage->counts.late, 1);
    assert_string_equal(stage->graves[0], "late");
}

static void a_missing_batch_is_waited_for_then_given_up(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 6; b++)
        if (b != 2 && b != 5)
            stage_publish_data(stage, "c1", b, true);
    stage_publish_end(stage, "c1", 6);
    stage_deliver_all(stage);
    stage_pass(stage, 29 * STAGE_SECOND);
    assert_null(stage_context(stage, "c1")->announcement);
    stage_pass(stage, 2 * STAGE_SECOND);
    stage_expect_trace(stage, "c1", 6, (const int[]){2, 5, -1});
    expect_reason(stage, "c1", "gap: 2 of 6 batches never came");
    assert_int_equal(stage->counts.lost_batches, 2);
    assert_int_equal(stage->counts.low_quality, 1);
    stage_publish_data(stage, "c1", 2, true);
    stage_deliver_all(stage);
    assert_int_equal(stage->counts.late, 1);
    assert_string_equal(stage->graves[0], "late");
    assert_int_equal(stage_waiting(stage), 0);
}

static void a_batch_that_comes_within_the_wait_is_taken(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 1; b < 6; b++)
        stage_publish_data(stage, "c1", b, true);
    stage_publish_end(stage, "c1", 6);
    stage_deliver_all(stage);
    stage_pass(stage, 25 * STAGE_SECOND);
    stage_publish_data(stage, "c1", 0, true);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 6, NULL);
    expect_good(stage, "c1");
}

static void without_a_start_nothing_can_be_made(void **state)
{
    struct stage *stage = *state;
    stage_publish_data(stage, "c1", 0, true);
    stage_publish_data(stage, "c1", 1, false);
    stage_publish_end(stage, "c1", 2);
    stage_deliver_all(stage);
    stage_pass(stage, 29 * STAGE_SECOND);
    assert_int_equal(stage_waiting(stage), 3);
    stage_pass(stage, 3 * STAGE_SECOND);
    assert_int_equal(stage_waiting(stage), 0);
    assert_int_equal(stage->counts.no_start, 3);
    assert_int_equal(stage->grave_count, 3);
    assert_string_equal(stage->graves[2], "no_start");
    assert_int_equal(assembly_contexts(stage->assembly), 0);
    assert_int_equal(assembly_bytes(stage->assembly), 0);
}

static void a_silent_tool_cuts_its_context(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 3; b++)
        stage_publish_data(stage, "c1", b, true);
    stage_deliver_all(stage);
    stage_pass(stage, 100 * STAGE_SECOND);
    for (int i = 0; i < 300; i++) { /* silence in which nothing could come does not count */
        stage->now_us += STAGE_SECOND;
        stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_BLIND});
    }
    stage_pass(stage, 119 * STAGE_SECOND);
    assert_null(stage_context(stage, "c1")->announcement);
    stage_pass(stage, 2 * STAGE_SECOND);
    stage_expect_trace(stage, "c1", 3, NULL);
    expect_reason(stage, "c1", "truncated: the tool fell silent");
    assert_non_null(strstr(stage_context(stage, "c1")->announcement, "\"ended_at\":\"2023-11-14T22:13:22.9"));
    assert_int_equal(stage->counts.silent, 1);
    stage_publish_data(stage, "c1", 3, true);
    stage_publish_end(stage, "c1", 4);
    stage_deliver_all(stage);
    assert_int_equal(stage->counts.late, 1);
    assert_int_equal(stage_waiting(stage), 0);
}

static void a_second_start_ends_the_context_before(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 3; b++)
        stage_publish_data(stage, "c1", b, true);
    publish_run(stage, "c2", 4);
    stage_deliver_all(stage);
    expect_good(stage, "c2");
    stage_pass(stage, 29 * STAGE_SECOND);
    assert_null(stage_context(stage, "c1")->announcement);
    stage_pass(stage, 2 * STAGE_SECOND);
    stage_expect_trace(stage, "c1", 3, NULL);
    expect_reason(stage, "c1", "truncated: the chamber began another context");
    assert_int_equal(stage->counts.superseded, 1);
    assert_int_equal(stage->counts.silent, 0);
}

static void an_end_that_is_overtaken_by_the_next_start_still_counts(void **state)
{
    struct stage *stage = *state;
    publish_run(stage, "c1", 3); /* 0 to 4 */
    publish_run(stage, "c2", 3); /* 5 to 9 */
    for (size_t i = 0; i < 10; i++)
        if (i != 4)
            stage_deliver(stage, i);
    stage_pass(stage, 10 * STAGE_SECOND);
    stage_deliver(stage, 4);
    expect_good(stage, "c1");
    expect_good(stage, "c2");
    stage_expect_trace(stage, "c1", 3, NULL);
}

static void what_cannot_be_read_is_dead_lettered(void **state)
{
    struct stage *stage = *state;
    stage_publish_text(stage, NAMES_SAMPLE_START, "{\"context_id\":5}");
    stage_publish_text(stage, NAMES_SAMPLE_DATA, "CHB1 is not enough");
    stage_publish_text(stage, NAMES_SAMPLE_END, "end");
    stage_publish_start(stage, "c1");
    stage_publish_data(stage, "c1", 0, true);
    stage_publish_text(
        stage, NAMES_SAMPLE_DATA,
        "{\"context_id\":\"c1\",\"seq\":1,\"times\":[1700000001000000],\"values\":{\"Pressur\":[1]}}");
    stage_publish_data(stage, "c1", 2, true);
    stage_publish_end(stage, "c1", 3);
    stage_deliver_all(stage);
    assert_int_equal(stage->counts.undecodable, 4);
    assert_int_equal(stage->grave_count, 4);
    assert_string_equal(stage->graves[3], "undecodable");
    stage_expect_trace(stage, "c1", 3, (const int[]){1, -1}); /* at once: it is known that it will not come */
    expect_reason(stage, "c1", "gap: 1 of 3 batches never came");
    assert_int_equal(stage_waiting(stage), 0);
}

static void a_clock_that_makes_no_sense_is_told(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    stage_publish_data(stage, "c1", 0, true);
    stage_publish_text(
        stage, NAMES_SAMPLE_DATA,
        "{\"context_id\":\"c1\",\"seq\":1,\"times\":[1600000001000000],\"values\":{\"Pressure\":[1]}}");
    stage_publish_data(stage, "c1", 2, true);
    stage_publish_text(stage, NAMES_SAMPLE_DATA, /* back by two seconds */
                       "{\"context_id\":\"c1\",\"seq\":3,\"times\":[1700000001000000,1700000001500000],"
                       "\"values\":{\"Pressure\":[1,2]}}");
    stage_publish_text(stage, NAMES_SAMPLE_END,
                       "{\"context_id\":\"c1\",\"batches\":4,\"ended_at\":\"2001-01-01T00:00:00Z\"}");
    stage_deliver_all(stage);
    assert_int_equal(stage->counts.clock, 1);
    assert_int_equal(stage->counts.disordered, 2);
    assert_string_equal(stage->graves[0], "clock");
    stage_expect_trace(stage, "c1", 3, (const int[]){1, -1});
    expect_reason(stage, "c1", "out_of_order: 2 samples");
    expect_reason(stage, "c1", "clock: ended_at does not fit started_at");
    assert_non_null(strstr(stage_context(stage, "c1")->announcement, "\"ended_at\":\"2023-11-14T22:13:22.9"));
}

/* Where time stood is remembered with the chunks, sensor by sensor. */
static void a_clock_set_back_is_seen_by_the_next_process_too(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 14; b++) {
        stage_publish_data(stage, "c1", b, true);
        stage_deliver_all(stage);
        stage_pass(stage, STAGE_SECOND);
    }
    assert_true(stage->counts.chunks >= 2);
    stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_TICK});
    stage_crash(stage);
    stage_deliver_all(stage);
    stage_publish_text(
        stage, NAMES_SAMPLE_DATA,
        "{\"context_id\":\"c1\",\"seq\":14,\"times\":[1700000001000000],\"values\":{\"Power\":[1]}}");
    stage_publish_end(stage, "c1", 15);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 14, NULL);
    expect_reason(stage, "c1", "out_of_order: 1 samples");
}

/* Of the chunks that another has confirmed nothing comes again: only the note knows where time stood. */
static void a_clock_set_back_after_a_hand_over_is_seen(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 4; b++)
        stage_publish_data(stage, "c1", b, true);
    stage_deliver_all(stage);
    stage_pass(stage, 6 * STAGE_SECOND);
    assert_int_equal(stage->counts.chunks, 1);
    assembly_actions_clear(&stage->actions);
    assert_true(assembly_flush(stage->assembly, stage->now_us, &stage->actions));
    assert_int_equal(stage->actions.count, 1);
    const struct assembly_action *confirmation = &stage->actions.items[0];
    assert_int_equal(confirmation->kind, ASSEMBLY_NOTE);
    struct stage_context *context = stage_context(stage, "c1");
    assert_int_equal(confirmation->revision, context->revision);
    free(context->note);
    context->note = strdup(confirmation->text);
    stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_NOTED,
                                               .context = confirmation->context,
                                               .revision = ++context->revision});
    assert_int_equal(stage_waiting(stage), 1); /* the start */
    stage_crash(stage);
    stage_publish_text(
        stage, NAMES_SAMPLE_DATA,
        "{\"context_id\":\"c1\",\"seq\":4,\"times\":[1700000001000000],\"values\":{\"Power\":[1]}}");
    stage_publish_end(stage, "c1", 5);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 4, NULL);
    expect_reason(stage, "c1", "out_of_order: 1 samples");
}

static void a_run_without_samples_is_no_context(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    stage_publish_end(stage, "c1", 0);
    stage_deliver_all(stage);
    assert_int_equal(stage->counts.empty, 1);
    assert_string_equal(stage->graves[0], "empty");
    assert_int_equal(stage_waiting(stage), 0);
    assert_int_equal(assembly_contexts(stage->assembly), 0);
}

/* Cut short by one process, complete in the stream: the next finds it complete, and buries the rest. */
static void a_context_completed_by_another_is_not_completed_anew(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 3; b++)
        stage_publish_data(stage, "c1", b, true);
    stage_deliver_all(stage);
    stage->by_hand = true;
    stage_pass(stage, 4 * STAGE_SECOND);
    stage->now_us += 130 * STAGE_SECOND;
    stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_TICK});
    assert_int_equal(stage->errands[0].kind, ASSEMBLY_COMPLETE);
    stage_work(stage, 0, true);
    stage_crash(stage);
    stage->by_hand = false;
    stage_publish_data(stage, "c1", 3, true);
    stage_publish_end(stage, "c1", 4);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 3, NULL);
    assert_int_equal(stage->counts.conflicts, 1);
    assert_int_equal(stage->counts.late, 1);
    assert_int_equal(stage->counts.duplicates, 5);
    assert_int_equal(stage_waiting(stage), 0);
}

/* Two processes that both believe to have the chamber: the bucket decides, and nothing is lost. */
static void a_process_that_lost_its_chamber_cannot_spoil_a_chunk(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 6; b++)
        stage_publish_data(stage, "c1", b, true);
    stage_deliver_all(stage);
    stage->by_hand = true;
    stage_pass(stage, 6 * STAGE_SECOND);
    stage_work(stage, 0, false); /* noted chunk 0 = [0, 6); its PUT is on its way for long */
    assert_int_equal(stage->errands[0].kind, ASSEMBLY_PUT);
    stage_crash(stage);
    struct stage_errand late = stage->errands[0];
    stage->errand_count = 0;
    stage->by_hand = false;
    for (uint32_t b = 6; b < 14; b++)
        stage_publish_data(stage, "c1", b, true);
    stage_deliver_all(stage);
    stage_pass(stage, 12 * STAGE_SECOND); /* the new owner has stored two chunks and more */
    assert_true(stage->counts.chunks >= 2);
    stage->errands[stage->errand_count++] = late;
    stage_work(stage, 0, false);
    stage_publish_end(stage, "c1", 14);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 14, NULL);
    expect_good(stage, "c1");
}

static void a_released_chamber_leaves_everything_to_its_next_owner(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 20; b++) {
        stage_publish_data(stage, "c1", b, true);
        stage_deliver_all(stage);
        stage_pass(stage, STAGE_SECOND);
    }
    stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_RELEASE, .token = "T%2E1.A"});
    assert_int_equal(assembly_messages(stage->assembly), 0);
    assert_int_equal(assembly_bytes(stage->assembly), 0);
    stage_publish_end(stage, "c1", 20);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 20, NULL);
    expect_good(stage, "c1");
}

static void stopping_confirms_what_is_stored(void **state)
{
    struct stage *stage = *state;
    stage_publish_start(stage, "c1");
    for (uint32_t b = 0; b < 3; b++)
        stage_publish_data(stage, "c1", b, true);
    stage_deliver_all(stage);
    stage->by_hand = true;
    for (int i = 0; i < 10; i++) {
        assembly_actions_clear(&stage->actions);
        if (!assembly_flush(stage->assembly, stage->now_us, &stage->actions) && i > 0)
            break;
        for (size_t k = 0; k < stage->actions.count; k++) {
            const struct assembly_action *action = &stage->actions.items[k];
            stage->errands[stage->errand_count] =
                (struct stage_errand){.kind = action->kind,
                                      .context = action->context,
                                      .text = action->text ? strdup(action->text) : NULL,
                                      .revision = action->revision,
                                      .id = "c1"};
            stage->errand_count++;
        }
        while (stage->errand_count > 0)
            stage_work(stage, 0, false);
    }
    assert_int_equal(stage_waiting(stage), 1); /* the start */
    stage_crash(stage);
    stage->by_hand = false;
    stage_publish_data(stage, "c1", 3, true);
    stage_publish_end(stage, "c1", 4);
    stage_deliver_all(stage);
    stage_expect_trace(stage, "c1", 4, NULL);
    expect_good(stage, "c1");
}

static void memory_is_bounded(void **state)
{
    struct stage *stage = *state;
    stage_free(stage);
    stage = *state = stage_new();
    stage->options.buffer_bytes = 200 * 1000;
    stage_crash(stage);
    stage_publish_start(stage, "c1");
    size_t most = 0;
    for (uint32_t b = 0; b < 400; b++) {
        if (b != 100)
            stage_publish_data(stage, "c1", b, true);
        if (assembly_bytes(stage->assembly) < stage->options.buffer_bytes)
            stage_deliver_all(stage);
        stage_pass(stage, 100000);
        most = assembly_bytes(stage->assembly) > most ? assembly_bytes(stage->assembly) : most;
    }
    assert_true(stage->counts.pressed > 0);
    assert_true(most < 2 * stage->options.buffer_bytes);
    stage_publish_data(stage, "c1", 100, true);
    stage_publish_end(stage, "c1", 400);
    for (int i = 0; i < 100 && stage_waiting(stage) > 0; i++) {
        for (size_t m = 0; m < stage->stream_count; m++)
            if (!stage->stream[m].taken && !stage->stream[m].delivered && m == stage->stream_count - 2)
                stage_deliver(stage, m);
        stage_deliver_all(stage);
        stage_pass(stage, STAGE_SECOND);
    }
    stage_expect_trace(stage, "c1", 400, NULL);
    expect_good(stage, "c1");
}

/* --- at random --- */

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13, *seed ^= *seed >> 7, *seed ^= *seed << 17;
    return *seed;
}

static uint64_t below(uint64_t *seed, uint64_t bound)
{
    return (next(seed) >> 11) % bound;
}

enum { RANDOM_RUNS = 3, RANDOM_BATCHES = 40 };

/* Three contexts, messages swapped and doubled: what equipment and network might do. */
static void publish_at_random(struct stage *stage, uint64_t *seed, uint32_t *batches)
{
    struct {
        int run, what; /* -1: start, -2: end */
    } plan[RANDOM_RUNS * (RANDOM_BATCHES + 2) * 2];
    size_t count = 0;
    for (int run = 0; run < RANDOM_RUNS; run++) {
        batches[run] = 1 + (uint32_t)below(seed, RANDOM_BATCHES);
        for (int what = -1; what <= (int)batches[run]; what++) {
            plan[count].run = run;
            plan[count++].what = what == (int)batches[run] ? -2 : what;
            if (below(seed, 6) == 0) {
                plan[count] = plan[count - 1];
                count++;
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        size_t other = i + below(seed, 12);
        if (other < count && below(seed, 3) == 0) {
            __typeof__(plan[0]) swap = plan[i];
            plan[i] = plan[other];
            plan[other] = swap;
        }
    }
    for (size_t i = 0; i < count; i++) {
        char id[16];
        snprintf(id, sizeof id, "r%d", plan[i].run);
        if (plan[i].what == -1)
            stage_publish_start(stage, id);
        else if (plan[i].what == -2)
            stage_publish_end(stage, id, batches[plan[i].run]);
        else
            stage_publish_data(stage, id, (uint32_t)plan[i].what, below(seed, 4) != 0);
    }
}

/* One thing happens: a delivery, an answer, a lost answer, a crash, time. */
static void happen(struct stage *stage, uint64_t *seed, size_t *published)
{
    uint64_t what = below(seed, 1000);
    if (what < 500) {
        size_t window = *published + 1 < stage->stream_count ? *published + 1 : stage->stream_count;
        size_t message = below(seed, window);
        for (size_t i = 0; i < window; i++, message = (message + 1) % window) {
            if (!stage->stream[message].taken && !stage->stream[message].delivered) {
                stage_deliver(stage, message);
                break;
            }
        }
        *published = window;
    } else if (what < 900) {
        if (stage->errand_count > 0)
            stage_work(stage, below(seed, stage->errand_count), false);
    } else if (what < 985) {
        stage->now_us += (int64_t)below(seed, 800000);
        stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_TICK});
    } else if (what < 993) {
        stage_crash(stage);
        while (stage->errand_count > STAGE_ERRANDS / 2)
            stage_work(stage, 0, true);
    } else {
        stage_step(stage, &(struct assembly_event){.kind = ASSEMBLE_RELEASE, .token = "T%2E1.A"});
    }
}

static void expect_same_as_clean(struct stage *stage, const uint32_t *batches, uint64_t seed)
{
    for (int run = 0; run < RANDOM_RUNS; run++) {
        char id[16];
        snprintf(id, sizeof id, "r%d", run);
        const struct stage_context *context = stage_context(stage, id);
        if (context->announcement == NULL || strstr(context->announcement, "\"quality\""))
            fail_msg("seed %llu: %s is %s", (unsigned long long)seed, id,
                     context->announcement ? context->announcement : "not complete");
        stage_expect_trace(stage, id, batches[run], NULL);
    }
}

static void whatever_happens_the_trace_is_the_same(void **state)
{
    struct stage *unused = *state;
    (void)unused;
    const char *rounds_text = getenv("ASSEMBLY_ROUNDS");
    long rounds = rounds_text ? atol(rounds_text) : 400;
    for (long round = 1; round <= rounds; round++) {
        uint64_t seed = (uint64_t)round * 0x9e3779b97f4a7c15u, first = seed;
        uint32_t batches[RANDOM_RUNS];
        struct stage *stage = stage_new();
        size_t published = 0;
        stage->by_hand = true;
        stage->options.flush_us = 2 * STAGE_SECOND;
        stage->options.gap_us =
            INT64_C(100000) * STAGE_SECOND; /* nothing is lost for good: it comes in time */
        stage->options.silent_us = stage->options.gap_us;
        stage_crash(stage);
        publish_at_random(stage, &seed, batches);
        for (long i = 0; i < 200000 && (stage_waiting(stage) > 0 || i < 100); i++)
            happen(stage, &seed, &published);
        if (stage_waiting(stage) > 0)
            fail_msg("seed %llu: %zu messages are still in the stream", (unsigned long long)first,
                     stage_waiting(stage));
        expect_same_as_clean(stage, batches, first);
        assert_int_equal(stage->grave_count, 0);
        stage_free(stage);
    }
}

int main(void)
{
#define STORY(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        STORY(a_run_becomes_a_context),
        STORY(a_long_run_is_stored_in_chunks),
        STORY(a_crash_between_note_and_store_loses_nothing),
        STORY(a_crash_before_the_acknowledgement_changes_nothing),
        STORY(order_does_not_matter),
        STORY(duplicates_are_counted_and_dropped),
        STORY(what_comes_again_after_a_restart_is_known_from_the_store),
        STORY(a_missing_batch_is_waited_for_then_given_up),
        STORY(a_batch_that_comes_within_the_wait_is_taken),
        STORY(without_a_start_nothing_can_be_made),
        STORY(a_silent_tool_cuts_its_context),
        STORY(a_second_start_ends_the_context_before),
        STORY(an_end_that_is_overtaken_by_the_next_start_still_counts),
        STORY(what_cannot_be_read_is_dead_lettered),
        STORY(a_clock_that_makes_no_sense_is_told),
        STORY(a_clock_set_back_is_seen_by_the_next_process_too),
        STORY(a_clock_set_back_after_a_hand_over_is_seen),
        STORY(a_run_without_samples_is_no_context),
        STORY(a_context_completed_by_another_is_not_completed_anew),
        STORY(a_process_that_lost_its_chamber_cannot_spoil_a_chunk),
        STORY(a_released_chamber_leaves_everything_to_its_next_owner),
        STORY(stopping_confirms_what_is_stored),
        STORY(memory_is_bounded),
        STORY(whatever_happens_the_trace_is_the_same),
    };
    return cmocka_run_group_tests_name("collector_assembly", tests, NULL, NULL);
}
