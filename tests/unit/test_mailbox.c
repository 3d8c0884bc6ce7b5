#include "cmocka_setup.h"

#include "base/mailbox.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, LETTERS = 20000 };

struct story {
    uv_loop_t loop;
    struct mailbox *mailbox;
    pthread_t owner;
    int next[THREADS]; /* the letter that must come next from each thread */
    int total;
    bool wrong_order;
    bool wrong_thread;
    char trace[32];
};

static int open_story(void **state)
{
    struct story *story = calloc(1, sizeof *story);
    struct error err;
    if (story == NULL || uv_loop_init(&story->loop) || mailbox_open(&story->loop, &story->mailbox, &err))
        return -1;
    story->owner = pthread_self();
    *state = story;
    return 0;
}

static int close_story(void **state)
{
    struct story *story = *state;
    if (story->mailbox)
        mailbox_close(story->mailbox);
    uv_run(&story->loop, UV_RUN_DEFAULT);
    int status = uv_loop_close(&story->loop);
    free(story);
    return status;
}

struct post {
    struct story *story;
    int thread;
    int number;
};

static void take_post(void *target, void *argument)
{
    struct story *story = target;
    struct post *post = argument;
    story->wrong_thread |= !pthread_equal(pthread_self(), story->owner);
    story->wrong_order |= post->number != story->next[post->thread];
    story->next[post->thread] = post->number + 1;
    story->total++;
    free(post);
}

struct poster {
    struct story *story;
    int thread;
};

static void *post_many(void *arg)
{
    struct poster *poster = arg;
    for (int i = 0; i < LETTERS; i++) {
        struct post *post = malloc(sizeof *post);
        if (post == NULL)
            abort();
        *post = (struct post){.story = poster->story, .thread = poster->thread, .number = i};
        mailbox_post(poster->story->mailbox, take_post, poster->story, post);
    }
    return NULL;
}

static void letters_of_several_threads_come_all_in_order_on_the_loop(void **state)
{
    struct story *story = *state;
    pthread_t threads[THREADS];
    struct poster posters[THREADS];
    for (int i = 0; i < THREADS; i++) {
        posters[i] = (struct poster){.story = story, .thread = i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    while (story->total < THREADS * LETTERS)
        uv_run(&story->loop, UV_RUN_ONCE);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_false(story->wrong_order);
    assert_false(story->wrong_thread);
    assert_int_equal(story->total, THREADS * LETTERS);
}

static void note(void *target, void *argument)
{
    struct story *story = target;
    strcat(story->trace, argument);
}

static void note_and_drain(void *target, void *argument)
{
    struct story *story = target;
    strcat(story->trace, argument);
    mailbox_post(story->mailbox, note, story, "4");
    mailbox_drain(story->mailbox);
    strcat(story->trace, ")");
}

static void a_letter_may_drain_the_mailbox_and_the_order_stays(void **state)
{
    struct story *story = *state;
    mailbox_post(story->mailbox, note, story, "1");
    mailbox_post(story->mailbox, note_and_drain, story, "(");
    mailbox_post(story->mailbox, note, story, "2");
    mailbox_post(story->mailbox, note, story, "3");
    mailbox_drain(story->mailbox);
    assert_string_equal(story->trace, "1(234)");
}

static void post_again(void *target, void *argument)
{
    struct story *story = target;
    strcat(story->trace, argument);
    mailbox_post(story->mailbox, note, story, "b");
}

static void a_drain_runs_what_was_waiting_and_not_what_it_posts(void **state)
{
    struct story *story = *state;
    mailbox_post(story->mailbox, post_again, story, "a");
    mailbox_drain(story->mailbox);
    assert_string_equal(story->trace, "a");
    uv_run(&story->loop, UV_RUN_ONCE);
    assert_string_equal(story->trace, "ab");
}

static void closing_runs_what_is_waiting_and_what_that_posts(void **state)
{
    struct story *story = *state;
    mailbox_post(story->mailbox, post_again, story, "a");
    mailbox_close(story->mailbox);
    story->mailbox = NULL;
    assert_string_equal(story->trace, "ab");
    assert_int_equal(uv_run(&story->loop, UV_RUN_DEFAULT), 0);
}

static void close_from_within(void *target, void *argument)
{
    struct story *story = target;
    strcat(story->trace, argument);
    mailbox_close(story->mailbox);
}

static void a_letter_may_close_the_mailbox(void **state)
{
    struct story *story = *state;
    mailbox_post(story->mailbox, close_from_within, story, "1");
    mailbox_post(story->mailbox, note, story, "2");
    uv_run(&story->loop, UV_RUN_DEFAULT); /* returns: the mailbox no longer keeps the loop alive */
    story->mailbox = NULL;
    assert_string_equal(story->trace, "12");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(letters_of_several_threads_come_all_in_order_on_the_loop, open_story,
                                        close_story),
        cmocka_unit_test_setup_teardown(a_letter_may_drain_the_mailbox_and_the_order_stays, open_story,
                                        close_story),
        cmocka_unit_test_setup_teardown(a_drain_runs_what_was_waiting_and_not_what_it_posts, open_story,
                                        close_story),
        cmocka_unit_test_setup_teardown(closing_runs_what_is_waiting_and_what_that_posts, open_story,
                                        close_story),
        cmocka_unit_test_setup_teardown(a_letter_may_close_the_mailbox, open_story, close_story),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
