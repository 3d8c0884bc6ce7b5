#include "cmocka_setup.h"

#include "bus/consumer.h"
#include "bus/names.h"

#include <stdio.h>
#include <string.h>

static void cells_are_short_words_or_nothing(void **state)
{
    (void)state;
    struct error err;
    assert_int_equal(names_check_cell("", &err), 0);
    assert_int_equal(names_check_cell("west_2", &err), 0);
    assert_int_equal(names_check_cell("abcdefghijklmnopqrstuvwxyz012345", &err), 0); /* 32 */
    assert_int_equal(names_check_cell("abcdefghijklmnopqrstuvwxyz0123456", &err), ERR_INVALID);
    static const char *const bad[] = {"West", "a.b", "a b", "a*", "a>", "a-b", "é"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(names_check_cell(bad[i], &err), ERR_INVALID);
}

static void the_cell_stands_before_every_name(void **state)
{
    (void)state;
    char out[NAMES_BYTES];
    struct error err;
    assert_string_equal(names_stream("", STREAM_NOTIFICATIONS, out), "dc-notifications");
    assert_string_equal(names_stream("west", STREAM_NOTIFICATIONS, out), "west-dc-notifications");
    assert_string_equal(names_subject("", "alarms.>", out), "alarms.>");
    assert_string_equal(names_subject("west", "alarms.>", out), "west.alarms.>");
    assert_int_equal(names_completed("", "ETCH01", "PM.1", out, &err), 0);
    assert_string_equal(out, "dc.ETCH01.PM%2E1.completed");
    assert_int_equal(names_completed("west", "ETCH01", "PM.1", out, &err), 0);
    assert_string_equal(out, "west.dc.ETCH01.PM%2E1.completed");
    assert_int_equal(names_for_chamber("west", "alarms", "T 1", "A", out, &err), 0);
    assert_string_equal(out, "west.alarms.T%201.A");
    assert_int_equal(names_chamber_key("T 1", "PM.1", out, &err), 0);
    assert_string_equal(out, "T%201.PM%2E1");
    assert_int_equal(names_chamber_key("T 1", "", out, &err), ERR_INVALID);
}

static void escaping_is_reversible_for_every_byte(void **state)
{
    (void)state;
    char token[NAMES_BYTES], back[NAMES_BYTES];
    struct error err;
    for (int c = 1; c < 256; c++) {
        char raw[4] = {'a', (char)c, 'b', '\0'};
        assert_int_equal(names_escape(raw, token, &err), 0);
        assert_null(strpbrk(token, ". *>\t\r\n"));
        assert_int_equal(names_unescape(token, strlen(token), back, &err), 0);
        assert_string_equal(back, raw);
    }
    assert_int_equal(names_escape("Az09-_+:/#@~", token, &err), 0);
    assert_string_equal(token, "Az09-_+:/#@~");
    assert_int_equal(names_escape("a.b*c>d e%", token, &err), 0);
    assert_string_equal(token, "a%2Eb%2Ac%3Ed%20e%25");
}

static void what_no_name_escapes_to_is_refused(void **state)
{
    (void)state;
    char out[NAMES_BYTES];
    struct error err;
    static const char *const bad[] = {"",    "a.b",
                                      "a b", "%",
                                      "%2",  "a%2",
                                      "a%",  "%2e", /* lower case */
                                      "%41", /* A needs no escape */ "%00",
                                      "%G0", "%%41",
                                      "*",   ">",
                                      "é"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (names_unescape(bad[i], strlen(bad[i]), out, &err) != ERR_INVALID)
            fail_msg("'%s' was accepted", bad[i]);
    /* The length bounds it: what stands behind is not read. */
    assert_int_equal(names_unescape("a%2E", 3, out, &err), ERR_INVALID);
    assert_int_equal(names_unescape("ab%", 2, out, &err), 0);
    assert_string_equal(out, "ab");
}

static void lengths_are_bounded(void **state)
{
    (void)state;
    char raw[NAMES_RAW_MAX_BYTES + 2], out[NAMES_BYTES], back[NAMES_BYTES];
    struct error err;
    assert_int_equal(names_escape("", out, &err), ERR_INVALID);
    memset(raw, '.', sizeof raw);
    raw[NAMES_RAW_MAX_BYTES] = '\0';
    assert_int_equal(names_escape(raw, out, &err), 0);
    assert_int_equal(strlen(out), 3 * NAMES_RAW_MAX_BYTES);
    assert_int_equal(names_unescape(out, strlen(out), back, &err), 0);
    assert_string_equal(back, raw);
    /* Two such do not fit into a subject. */
    assert_int_equal(names_completed("", raw, raw, out, &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "subject"));
    raw[NAMES_RAW_MAX_BYTES] = '.';
    raw[NAMES_RAW_MAX_BYTES + 1] = '\0';
    assert_int_equal(names_escape(raw, out, &err), ERR_LIMIT);
    assert_int_equal(names_completed("", "ok", raw, out, &err), ERR_LIMIT);
    assert_non_null(strstr(err.text, "chamber"));
    memset(out, 'a', NAMES_RAW_MAX_BYTES + 1);
    assert_int_equal(names_unescape(out, NAMES_RAW_MAX_BYTES + 1, back, &err), ERR_LIMIT);
}

static void a_completed_subject_names_tool_and_chamber(void **state)
{
    (void)state;
    char subject[NAMES_BYTES], tool[NAMES_BYTES], chamber[NAMES_BYTES];
    struct error err;
    static const char *const cells[] = {"", "west"};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(names_completed(cells[i], "Tool No. 1", "PM%1", subject, &err), 0);
        assert_int_equal(names_parse_completed(cells[i], subject, tool, chamber, &err), 0);
        assert_string_equal(tool, "Tool No. 1");
        assert_string_equal(chamber, "PM%1");
    }
    static const char *const bad[] = {"",
                                      "d",
                                      "dc.",
                                      "dc.t",
                                      "dc.t.c",
                                      "dc.t.c.complete",
                                      "dc.t.c.completed.x",
                                      "dc..c.completed",
                                      "dc.t..completed",
                                      "dc.t.c d.completed",
                                      "dx.t.c.completed",
                                      "west.dc.t.c.completed"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (names_parse_completed("", bad[i], tool, chamber, &err) != ERR_INVALID)
            fail_msg("'%s' was accepted", bad[i]);
    assert_int_equal(names_parse_completed("west", "dc.t.c.completed", tool, chamber, &err), ERR_INVALID);
}

static void sample_subjects_read_back(void **state)
{
    (void)state;
    static const char *const kinds[] = {"start", "data", "end"};
    char subject[NAMES_BYTES], tool[NAMES_BYTES], chamber[NAMES_BYTES], expected[NAMES_BYTES];
    struct error err;
    for (int i = 0; i < 3; i++) {
        enum names_sample_kind kind;
        snprintf(expected, sizeof expected, "west.eqp.ETCH%%2E1.A.%s", kinds[i]);
        assert_int_equal(names_samples("west", "ETCH.1", "A", (enum names_sample_kind)i, subject, &err), 0);
        assert_string_equal(subject, expected);
        assert_int_equal(names_parse_samples("west", subject, tool, chamber, &kind, &err), 0);
        assert_string_equal(tool, "ETCH.1");
        assert_string_equal(chamber, "A");
        assert_int_equal(kind, i);
    }
    static const char *const wrong[] = {"eqp.T.C",          "eqp.T.C.stop", "eqp.T.C.data.x", "dc.T.C.data",
                                        "west.eqp.T.C.end", "eqp..C.data",  "eqp.T.%41.data"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        enum names_sample_kind kind;
        assert_int_equal(names_parse_samples("", wrong[i], tool, chamber, &kind, &err), ERR_INVALID);
    }
}

static void ack_subjects_are_read_in_both_forms(void **state)
{
    (void)state;
    struct error err;
    struct consumer_message message = {0};
    const char *plain = "$JS.ACK.S.C.3.17.29.1700000000123456789.5";
    assert_int_equal(consumer_parse_ack(plain, &message, &err), 0);
    assert_int_equal(message.deliveries, 3);
    assert_int_equal(message.stream_sequence, 17);
    assert_int_equal(message.consumer_sequence, 29);
    assert_int_equal(message.stored_us, INT64_C(1700000000123456));
    assert_ptr_equal(message.ack_reply, plain);
    message = (struct consumer_message){0};
    assert_int_equal(consumer_parse_ack("$JS.ACK.hub.ACCT.S.C.1.2.3.4000.5", &message, &err), 0);
    assert_int_equal(message.stream_sequence, 2);
    assert_int_equal(message.stored_us, 4);
    assert_int_equal(consumer_parse_ack("$JS.ACK.hub.ACCT.S.C.1.2.3.4000.5.random", &message, &err), 0);
    assert_int_equal(message.consumer_sequence, 3);
    static const char *const bad[] = {"",
                                      "_INBOX.a.b",
                                      "$JS.ACK.",
                                      "$JS.ACK.S.C.1.2.3.4",
                                      "$JS.ACK.S.C.1.2.3.4.5.6",
                                      "$JS.ACK.S.C.x.2.3.4.5",
                                      "$JS.ACK.S.C.1..3.4.5",
                                      "$JS.ACK.S.C.1.2x.3.4.5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (consumer_parse_ack(bad[i], &message, &err) != ERR_INVALID)
            fail_msg("'%s' was accepted", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cells_are_short_words_or_nothing),
        cmocka_unit_test(the_cell_stands_before_every_name),
        cmocka_unit_test(escaping_is_reversible_for_every_byte),
        cmocka_unit_test(what_no_name_escapes_to_is_refused),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(a_completed_subject_names_tool_and_chamber),
        cmocka_unit_test(sample_subjects_read_back),
        cmocka_unit_test(ack_subjects_are_read_in_both_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
