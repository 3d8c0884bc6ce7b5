#include "cmocka_setup.h"

#include "base/clock.h"
#include "base/log.h"

#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Standard error goes to a file while a test writes records. */
struct capture {
    FILE *file;
    int saved;
    char text[1 << 20];
};

static int open_capture(void **state)
{
    *state = calloc(1, sizeof(struct capture));
    return *state ? 0 : -1;
}

static int close_capture(void **state)
{
    free(*state);
    return 0;
}

static void capture_begin(struct capture *capture)
{
    capture->file = tmpfile();
    assert_non_null(capture->file);
    capture->saved = dup(STDERR_FILENO);
    dup2(fileno(capture->file), STDERR_FILENO);
}

static const char *capture_end(struct capture *capture)
{
    dup2(capture->saved, STDERR_FILENO);
    close(capture->saved);
    rewind(capture->file);
    size_t length = fread(capture->text, 1, sizeof capture->text - 1, capture->file);
    capture->text[length] = '\0';
    fclose(capture->file);
    return capture->text;
}

static void a_json_record_is_one_object_a_line(void **state)
{
    struct capture *capture = *state;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "de\"fend");
    capture_begin(capture);
    LOG_WARN("a \"quoted\"\nmessage \x01", LOG_STR("text", "tab\t back\\slash \xff caf\xc3\xa9"),
             LOG_STR("none", NULL), LOG_INT("int", INT64_C(-9007199254740993)), LOG_DOUBLE("real", 0.1),
             LOG_DOUBLE("nan", (double)NAN), LOG_BOOL("yes", true), LOG_BOOL("no", false),
             LOG_STR("empty", ""));
    const char *text = capture_end(capture);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    json_error_t where;
    json_t *record = json_loads(text, 0, &where);
    if (record == NULL)
        fail_msg("%s: %s", where.text, text);
    int64_t us;
    assert_int_equal(clock_parse_rfc3339(json_string_value(json_object_get(record, "time")), &us, NULL), 0);
    assert_true(llabs(clock_wall_us() - us) < 60 * CLOCK_US_PER_SECOND);
    assert_string_equal(json_string_value(json_object_get(record, "level")), "warn");
    assert_string_equal(json_string_value(json_object_get(record, "role")), "de\"fend");
    assert_string_equal(json_string_value(json_object_get(record, "msg")), "a \"quoted\"\nmessage \x01");
    assert_string_equal(json_string_value(json_object_get(record, "text")),
                        "tab\t back\\slash \xef\xbf\xbd caf\xc3\xa9");
    assert_true(json_is_null(json_object_get(record, "none")));
    assert_int_equal(json_integer_value(json_object_get(record, "int")), INT64_C(-9007199254740993));
    assert_true(json_real_value(json_object_get(record, "real")) == 0.1);
    assert_true(json_is_null(json_object_get(record, "nan")));
    assert_true(json_is_true(json_object_get(record, "yes")));
    assert_true(json_is_false(json_object_get(record, "no")));
    assert_string_equal(json_string_value(json_object_get(record, "empty")), "");
    json_decref(record);
}

static void text_values_are_bare_only_when_they_cannot_be_misread(void **state)
{
    struct capture *capture = *state;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "up");
    capture_begin(capture);
    LOG_INFO("ready", LOG_STR("a", "plain-1.2:3/x"), LOG_STR("b", "two words"), LOG_STR("c", "k=v"),
             LOG_STR("d", "q\"q"), LOG_STR("e", "line\nbreak"), LOG_STR("f", "\x1b[31mred"), LOG_STR("g", ""),
             LOG_STR("h", NULL), LOG_INT("i", 7), LOG_DOUBLE("j", 1.5), LOG_BOOL("k", true),
             LOG_STR("l", "bad\xff"));
    const char *text = capture_end(capture);
    const char *message = strstr(text, " info  up: ");
    assert_non_null(message);
    assert_string_equal(message, " info  up: ready a=plain-1.2:3/x b=\"two words\" c=\"k=v\" d=\"q\\\"q\" "
                                 "e=\"line\\u000abreak\" f=\"\\u001b[31mred\" g=\"\" h=null i=7 j=1.5 k=true "
                                 "l=\"bad\\ufffd\"\n");
}

static void a_text_message_cannot_break_its_line(void **state)
{
    struct capture *capture = *state;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "up");
    capture_begin(capture);
    LOG_ERROR("one\ntwo\x1b[2J");
    const char *text = capture_end(capture);
    assert_non_null(strstr(text, " error up: one\\x0atwo\\x1b[2J\n"));
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
}

static void lower_levels_are_silent(void **state)
{
    struct capture *capture = *state;
    log_setup(LOG_LEVEL_WARN, LOG_FORMAT_TEXT, "up");
    assert_false(log_enabled(LOG_LEVEL_INFO));
    assert_true(log_enabled(LOG_LEVEL_WARN));
    capture_begin(capture);
    LOG_DEBUG("d");
    LOG_INFO("i");
    LOG_WARN("w");
    LOG_ERROR("e");
    const char *text = capture_end(capture);
    assert_null(strstr(text, ": d"));
    assert_null(strstr(text, ": i"));
    assert_non_null(strstr(text, "warn  up: w\n"));
    assert_non_null(strstr(text, "error up: e\n"));
}

static void level_and_format_names_are_read(void **state)
{
    (void)state;
    enum log_level level = LOG_LEVEL_DEBUG;
    enum log_format format = LOG_FORMAT_TEXT;
    assert_true(log_level_parse("error", &level));
    assert_int_equal(level, LOG_LEVEL_ERROR);
    assert_true(log_level_parse("debug", &level));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_false(log_level_parse("Info", &level));
    assert_false(log_level_parse("", &level));
    assert_true(log_format_parse("json", &format));
    assert_int_equal(format, LOG_FORMAT_JSON);
    assert_false(log_format_parse("xml", &format));
}

static void more_fields_than_there_is_room_for_are_cut_not_smashed(void **state)
{
    struct capture *capture = *state;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "up");
    capture_begin(capture);
#define TEN(p)                                                                                               \
    LOG_INT(p "0", 0), LOG_INT(p "1", 1), LOG_INT(p "2", 2), LOG_INT(p "3", 3), LOG_INT(p "4", 4),           \
        LOG_INT(p "5", 5), LOG_INT(p "6", 6), LOG_INT(p "7", 7), LOG_INT(p "8", 8), LOG_INT(p "9", 9)
    LOG_INFO("many", TEN("a"), TEN("b"), TEN("c"), TEN("d"));
#undef TEN
    json_t *record = json_loads(capture_end(capture), 0, NULL);
    assert_non_null(record);
    assert_int_equal(json_object_size(record), 4 + 32);
    json_decref(record);
}

enum { WRITERS = 4, RECORDS = 200 };

static void *write_records(void *arg)
{
    char filler[600];
    memset(filler, 'x', sizeof filler);
    filler[sizeof filler - 1] = '\0';
    for (int i = 0; i < RECORDS; i++)
        LOG_INFO("record", LOG_INT("writer", *(int *)arg), LOG_INT("i", i), LOG_STR("filler", filler));
    return NULL;
}

static void records_of_several_threads_do_not_mix(void **state)
{
    struct capture *capture = *state;
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "up");
    pthread_t threads[WRITERS];
    int ids[WRITERS], next[WRITERS] = {0};
    capture_begin(capture);
    /* Appending, as to a terminal, a pipe or a log file opened for it. */
    FILE *append = fopen("/proc/self/fd/2", "a");
    if (append)
        dup2(fileno(append), STDERR_FILENO);
    for (int i = 0; i < WRITERS; i++) {
        ids[i] = i;
        pthread_create(&threads[i], NULL, write_records, &ids[i]);
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    capture_end(capture);
    if (append)
        fclose(append);
    int lines = 0;
    char *rest = capture->text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL && *line; lines++) {
        json_t *record = json_loads(line, 0, NULL);
        assert_non_null(record);
        int64_t writer = json_integer_value(json_object_get(record, "writer"));
        assert_int_equal(json_integer_value(json_object_get(record, "i")), next[writer]++);
        json_decref(record);
    }
    assert_int_equal(lines, WRITERS * RECORDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_json_record_is_one_object_a_line, open_capture, close_capture),
        cmocka_unit_test_setup_teardown(text_values_are_bare_only_when_they_cannot_be_misread, open_capture,
                                        close_capture),
        cmocka_unit_test_setup_teardown(a_text_message_cannot_break_its_line, open_capture, close_capture),
        cmocka_unit_test_setup_teardown(lower_levels_are_silent, open_capture, close_capture),
        cmocka_unit_test_setup_teardown(level_and_format_names_are_read, open_capture, close_capture),
        cmocka_unit_test_setup_teardown(more_fields_than_there_is_room_for_are_cut_not_smashed, open_capture,
                                        close_capture),
        cmocka_unit_test_setup_teardown(records_of_several_threads_do_not_mix, open_capture, close_capture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
