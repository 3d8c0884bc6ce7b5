#include "cmocka_setup.h"

#include "web/events.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct http_stream read_from(struct events *events, const char *last_id)
{
    struct http_stream stream;
    struct error err;
    assert_int_equal(events_read(events, last_id, &stream, &err), 0);
    return stream;
}

/* What a reader is given at once, in small pieces. The caller frees. */
static char *take(struct http_stream *stream, size_t piece)
{
    char *text = calloc(1, 1 << 20), buffer[256];
    size_t used = 0;
    do {
        ssize_t got = stream->read(stream->arg, buffer, piece);
        assert_true(got > 0);
        memcpy(text + used, buffer, (size_t)got);
        used += (size_t)got;
    } while (used < 2 || strcmp(text + used - 2, "\n\n") != 0);
    return text;
}

static void assert_takes(struct http_stream *stream, const char *part)
{
    char *text = take(stream, sizeof(char[256]));
    if (strstr(text, part) == NULL)
        fail_msg("expected '%s' in:\n%s", part, text);
    free(text);
}

static void last_id(const char *text, char id[static 64])
{
    const char *found = NULL;
    for (const char *at = text; (at = strstr(at, "id: ")) != NULL; at++)
        found = at + 4;
    assert_non_null(found);
    snprintf(id, 64, "%.*s", (int)strcspn(found, "\n"), found);
}

static void a_reader_hears_what_is_told(void **state)
{
    (void)state;
    struct events *events = events_new();
    events_tell(events, "alarm", "{\"before\":1}");
    struct http_stream stream = read_from(events, NULL);
    assert_int_equal(events_readers(events), 1);
    assert_takes(&stream, "event: reset\ndata: {}\n\n");
    events_tell(events, "alarm", "{\"n\":1}");
    char *text = take(&stream, 7);
    assert_non_null(strstr(text, "event: alarm\ndata: {\"n\":1}\n\n"));
    assert_null(strstr(text, "before"));
    free(text);
    stream.close(stream.arg);
    assert_int_equal(events_readers(events), 0);
    events_free(events);
}

static void a_reader_goes_on_where_it_was(void **state)
{
    (void)state;
    struct events *events = events_new();
    struct http_stream stream = read_from(events, NULL);
    char id[64], *text = take(&stream, 256);
    last_id(text, id);
    free(text);
    stream.close(stream.arg);
    events_tell(events, "alarm", "{\"n\":1}");
    events_tell(events, "alarm", "{\"n\":2}");
    stream = read_from(events, id);
    text = take(&stream, 256);
    assert_null(strstr(text, "reset"));
    assert_non_null(strstr(text, "{\"n\":1}"));
    free(text);
    stream.close(stream.arg);
    const char *const strangers[] = {"1-1", "", "x", "99999999999999999999999-1", "-"};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        stream = read_from(events, strangers[i]);
        assert_takes(&stream, "event: reset");
        stream.close(stream.arg);
    }
    events_free(events);
}

static void who_missed_too_much_begins_anew(void **state)
{
    (void)state;
    struct events *events = events_new();
    struct http_stream stream = read_from(events, NULL);
    char id[64], *text = take(&stream, 256);
    last_id(text, id);
    free(text);
    for (int i = 0; i < EVENTS_KEPT; i++)
        events_tell(events, "alarm", "{}");
    struct http_stream in_time = read_from(events, id);
    text = take(&in_time, 256);
    assert_null(strstr(text, "reset"));
    free(text);
    events_tell(events, "alarm", "{\"one\":\"more\"}");
    assert_takes(&stream, "event: reset"); /* it was there all the while, and did not keep up */
    struct http_stream late = read_from(events, id);
    assert_takes(&late, "event: reset");
    stream.close(stream.arg);
    in_time.close(in_time.arg);
    late.close(late.arg);
    events_free(events);
}

static void readers_are_bounded(void **state)
{
    (void)state;
    struct events *events = events_new();
    struct http_stream streams[EVENTS_READERS_MAX], extra;
    struct error err;
    for (size_t i = 0; i < EVENTS_READERS_MAX; i++)
        streams[i] = read_from(events, NULL);
    assert_int_equal(events_read(events, NULL, &extra, &err), ERR_LIMIT);
    streams[0].close(streams[0].arg);
    streams[0] = read_from(events, NULL);
    for (size_t i = 0; i < EVENTS_READERS_MAX; i++)
        streams[i].close(streams[i].arg);
    events_free(events);
}

static void *wait_for_end(void *arg)
{
    struct http_stream *stream = arg;
    char buffer[256];
    while (stream->read(stream->arg, buffer, sizeof buffer) > 0)
        ;
    return NULL;
}

static void stopping_ends_a_reader_that_waits(void **state)
{
    (void)state;
    struct events *events = events_new();
    struct http_stream stream = read_from(events, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, wait_for_end, &stream);
    usleep(50 * 1000);
    events_stop(events);
    pthread_join(thread, NULL); /* else the test's time runs out */
    stream.close(stream.arg);
    struct error err;
    assert_int_equal(events_read(events, NULL, &stream, &err), ERR_LIMIT);
    events_free(events);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reader_hears_what_is_told),       cmocka_unit_test(a_reader_goes_on_where_it_was),
        cmocka_unit_test(who_missed_too_much_begins_anew),   cmocka_unit_test(readers_are_bounded),
        cmocka_unit_test(stopping_ends_a_reader_that_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
