#include "cmocka_setup.h"

#include "chart/uchart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct uchart_point POINTS[] = {
    {.series = 0x1122334455667788,
     .value = 1.5,
     .flags = POINT_ALARMED,
     .chart = "a",
     .unit = "mTorr",
     .centre = 1,
     .lower = 0.5,
     .upper = 1.25,
     .rules = 0x4001,
     .history_count = 100,
     .state = VERDICT_ALARM,
     .severity = SEVERITY_CRITICAL,
     .reason = ""},
    {.series = 2,
     .value = -0.0,
     .flags = 0,
     .chart = "b\xC3\xA9",
     .unit = "",
     .centre = 1e300,
     .lower = 0,
     .upper = 2,
     .rules = 0,
     .history_count = 0,
     .state = VERDICT_NORMAL,
     .severity = SEVERITY_NONE,
     .reason = ""},
    {.series = UINT64_MAX,
     .flags = POINT_MISSING | POINT_LOW_QUALITY,
     .chart = "c",
     .unit = "s",
     .state = VERDICT_MISSING,
     .reason = "sensor X is not in the trace"},
};

static struct uchart example(void)
{
    POINTS[2].value = POINTS[2].centre = POINTS[2].lower = POINTS[2].upper = (double)NAN;
    return (struct uchart){.chart_set = 0xABCDEF, .count = 3, .points = POINTS};
}

static void both_forms_read_back(void **state)
{
    (void)state;
    struct arena arena;
    struct uchart u = example(), back;
    struct uchart_bytes bytes, again;
    struct error err;
    arena_init(&arena, 0);
    assert_int_equal(uchart_encode(&u, &arena, &bytes, &err), 0);
    assert_int_equal(uchart_decode(&bytes, &arena, &back, &err), 0);
    assert_int_equal(back.count, 3);
    assert_true(back.chart_set == 0xABCDEF);
    for (size_t i = 0; i < 3; i++) {
        const struct uchart_point *a = &u.points[i], *b = &back.points[i];
        assert_true(a->series == b->series && a->flags == b->flags && a->rules == b->rules);
        assert_true(a->history_count == b->history_count && a->state == b->state &&
                    a->severity == b->severity);
        assert_true(memcmp(&a->value, &b->value, 8) == 0 || (isnan(a->value) && isnan(b->value)));
        assert_true(a->centre == b->centre || (isnan(a->centre) && isnan(b->centre)));
        assert_true(a->lower == b->lower || (isnan(a->lower) && isnan(b->lower)));
        assert_true(a->upper == b->upper || (isnan(a->upper) && isnan(b->upper)));
        assert_string_equal(a->chart, b->chart);
        assert_string_equal(a->unit, b->unit);
        assert_string_equal(a->reason, b->reason);
    }
    assert_int_equal(uchart_worst_severity(&back), SEVERITY_CRITICAL);
    assert_int_equal(uchart_encode(&back, &arena, &again, &err), 0);
    assert_int_equal(again.points_length, bytes.points_length);
    assert_memory_equal(again.points, bytes.points, bytes.points_length);
    assert_int_equal(again.verdicts_length, bytes.verdicts_length);
    assert_memory_equal(again.verdicts, bytes.verdicts, bytes.verdicts_length);
    arena_free(&arena);
}

static void nan_has_one_form(void **state)
{
    (void)state;
    struct arena arena;
    struct uchart u = example();
    struct uchart_bytes one, other;
    arena_init(&arena, 0);
    assert_int_equal(uchart_encode(&u, &arena, &one, NULL), 0);
    u.points[2].value = -(double)NAN;
    assert_int_equal(uchart_encode(&u, &arena, &other, NULL), 0);
    assert_memory_equal(one.points, other.points, one.points_length);
    arena_free(&arena);
}

static void the_format_is_fixed(void **state)
{
    (void)state;
    struct arena arena;
    struct uchart u = example();
    struct uchart_bytes bytes;
    arena_init(&arena, 0);
    assert_int_equal(uchart_encode(&u, &arena, &bytes, NULL), 0);
    const unsigned char *p = bytes.points;
    assert_int_equal(bytes.points_length, 24 + 3 * 17);
    assert_memory_equal(p, "UP\x01\x00\x03\x00\x00\x00\xEF\xCD\xAB\x00\x00\x00\x00\x00", 16);
    assert_memory_equal(p + 24, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
    assert_memory_equal(p + 48, "\x00\x00\x00\x00\x00\x00\xF8\x3F", 8);
    assert_memory_equal(p + 72, "\x01\x00\x06", 3);
    arena_free(&arena);
}

static void a_view_reads_without_copying(void **state)
{
    (void)state;
    struct arena arena;
    struct uchart u = example();
    struct uchart_bytes bytes;
    struct uchart_view view;
    struct error err;
    arena_init(&arena, 0);
    assert_int_equal(uchart_encode(&u, &arena, &bytes, &err), 0);
    /* Off by one, as bytes from a database may be. */
    char *odd = arena_alloc(&arena, bytes.points_length + 1);
    memcpy(odd + 1, bytes.points, bytes.points_length);
    assert_int_equal(uchart_view_open(odd + 1, bytes.points_length, &view, &err), 0);
    assert_int_equal(view.count, 3);
    assert_true(uchart_view_series(&view, 0) == 0x1122334455667788 && uchart_view_value(&view, 0) == 1.5);
    assert_true(isnan(uchart_view_value(&view, 2)));
    assert_int_equal(uchart_view_flags(&view, 2), POINT_MISSING | POINT_LOW_QUALITY);
    arena_free(&arena);
}

/* A copy of exactly this length, so that a memory checker sees a byte read too far. */
static int decode_copy(const struct uchart_bytes *bytes, size_t points, size_t verdicts, size_t at,
                       unsigned char flip, struct error *err)
{
    struct arena arena;
    struct uchart back;
    unsigned char *p = malloc(points ? points : 1), *v = malloc(verdicts ? verdicts : 1);
    memcpy(p, bytes->points, points);
    memcpy(v, bytes->verdicts, verdicts);
    if (flip && at < points)
        p[at] ^= flip;
    else if (flip)
        v[at - points] ^= flip;
    arena_init(&arena, 0);
    int code = uchart_decode(&(struct uchart_bytes){p, points, v, verdicts}, &arena, &back, err);
    arena_free(&arena);
    free(p);
    free(v);
    return code;
}

static void every_damage_is_seen(void **state)
{
    (void)state;
    struct arena arena;
    struct uchart u = example();
    struct uchart_bytes bytes;
    struct error err;
    arena_init(&arena, 0);
    assert_int_equal(uchart_encode(&u, &arena, &bytes, NULL), 0);
    size_t points = bytes.points_length, verdicts = bytes.verdicts_length;
    assert_int_equal(decode_copy(&bytes, points, verdicts, 0, 0, &err), 0);
    for (size_t cut = 0; cut < points; cut++)
        assert_int_equal(decode_copy(&bytes, cut, verdicts, 0, 0, &err), ERR_CORRUPT);
    for (size_t cut = 0; cut < verdicts; cut++)
        assert_int_equal(decode_copy(&bytes, points, cut, 0, 0, &err), ERR_CORRUPT);
    for (size_t at = 0; at < points + verdicts; at++) {
        for (unsigned bit = 1; bit < 256; bit *= 2)
            assert_int_equal(decode_copy(&bytes, points, verdicts, at, (unsigned char)bit, &err),
                             ERR_CORRUPT);
    }
    assert_non_null(strstr(err.text, "offset"));
    arena_free(&arena);
}

static void verdicts_of_other_points_are_refused(void **state)
{
    (void)state;
    struct arena arena;
    struct uchart u = example(), back;
    struct uchart_bytes one, other;
    struct error err;
    arena_init(&arena, 0);
    assert_int_equal(uchart_encode(&u, &arena, &one, NULL), 0);
    u.points[0].value = 7;
    assert_int_equal(uchart_encode(&u, &arena, &other, NULL), 0);
    u.points[0].value = 1.5;
    one.verdicts = other.verdicts;
    assert_int_equal(uchart_decode(&one, &arena, &back, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.text, "belong to other points"));
    arena_free(&arena);
}

static void nothing_is_a_uchart_too(void **state)
{
    (void)state;
    struct arena arena;
    struct uchart none = {.chart_set = 1}, back;
    struct uchart_bytes bytes;
    arena_init(&arena, 0);
    assert_int_equal(uchart_encode(&none, &arena, &bytes, NULL), 0);
    assert_int_equal(uchart_decode(&bytes, &arena, &back, NULL), 0);
    assert_int_equal(back.count, 0);
    assert_int_equal(uchart_worst_severity(&back), SEVERITY_NONE);
    assert_string_equal(severity_name(SEVERITY_WARNING), "warning");
    assert_string_equal(verdict_state_name(VERDICT_LEARNING), "learning");
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_forms_read_back),    cmocka_unit_test(nan_has_one_form),
        cmocka_unit_test(the_format_is_fixed),     cmocka_unit_test(a_view_reads_without_copying),
        cmocka_unit_test(every_damage_is_seen),    cmocka_unit_test(verdicts_of_other_points_are_refused),
        cmocka_unit_test(nothing_is_a_uchart_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
