#include "cmocka_setup.h"

#include "store/cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 400 };

struct fixture {
    struct cache *cache;
    struct arena arena;
};

static int set_up(void **state)
{
    static struct fixture fix;
    struct error err;
    arena_init(&fix.arena, 0);
    *state = &fix;
    return cache_open(0, &fix.cache, &err);
}

static int tear_down(void **state)
{
    struct fixture *fix = *state;
    cache_close(fix->cache);
    arena_free(&fix->arena);
    return 0;
}

static struct store_history_query query_of(int64_t end_us, const char *id, size_t limit)
{
    return (struct store_history_query){
        .tool = "T1", .chamber = "A", .recipe = "R", .end_us = end_us, .context_id = id, .limit = limit};
}

/* A row whose id and points tell its end: c0042, p42. */
static struct store_uchart row_of(int64_t end_us)
{
    static char texts[4096][2][16];
    static size_t next;
    char *id = texts[next % 4096][0], *points = texts[next % 4096][1];
    next++;
    snprintf(id, 16, "c%04d", (int)end_us);
    snprintf(points, 16, "p%d", (int)end_us);
    return (struct store_uchart){.key = {.tool = "T1", .chamber = "A", .context_id = id},
                                 .recipe = "R",
                                 .end_us = end_us,
                                 .judged_us = end_us + 1,
                                 .chart_set = UINT64_C(0xffffffff00000000),
                                 .alarm_count = 3,
                                 .severity = 2,
                                 .points = points,
                                 .points_length = strlen(points)};
}

/* Fills with rows newest .. newest - count + 1, in steps of 1, as a reply to `query`. */
static void fill(struct fixture *fix, struct store_history_query query, int64_t newest, size_t count,
                 bool is_newest)
{
    struct store_uchart rows[MANY];
    assert_true(count <= MANY);
    for (size_t i = 0; i < count; i++)
        rows[i] = row_of(newest - (int64_t)i);
    struct error err;
    assert_int_equal(cache_fill(fix->cache, &query, rows, count, is_newest, &err), 0);
}

static void put(struct fixture *fix, int64_t end_us)
{
    struct store_uchart row = row_of(end_us);
    struct error err;
    assert_int_equal(cache_put(fix->cache, &row, &err), 0);
}

/* "miss", or the ends of the rows: "9 8 7". */
static const char *look_up(struct fixture *fix, int64_t end_us, size_t limit)
{
    static char text[4096];
    struct store_history_query query = query_of(end_us, "", limit);
    struct store_uchart *rows;
    size_t count;
    struct error err;
    int code = cache_lookup(fix->cache, &query, &fix->arena, &rows, &count, &err);
    if (code) {
        assert_int_equal(code, ERR_NOT_FOUND);
        assert_int_equal(count, 0);
        return "miss";
    }
    text[0] = '\0';
    for (size_t i = 0; i < count; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%d", i ? " " : "", (int)rows[i].end_us);
    return text;
}

static void a_hit_gives_what_was_filled(void **state)
{
    struct fixture *fix = *state;
    assert_string_equal(look_up(fix, 10, 3), "miss");
    fill(fix, query_of(10, "", 3), 9, 3, true);
    struct store_history_query query = query_of(10, "", 3);
    struct store_uchart *rows;
    size_t count;
    struct error err;
    assert_int_equal(cache_lookup(fix->cache, &query, &fix->arena, &rows, &count, &err), 0);
    assert_int_equal(count, 3);
    struct store_uchart expected = row_of(9);
    assert_string_equal(rows[0].key.tool, "T1");
    assert_string_equal(rows[0].key.chamber, "A");
    assert_string_equal(rows[0].key.context_id, expected.key.context_id);
    assert_string_equal(rows[0].recipe, "R");
    assert_int_equal(rows[0].judged_us, 10);
    assert_true(rows[0].chart_set == expected.chart_set);
    assert_int_equal(rows[0].alarm_count, 3);
    assert_int_equal(rows[0].severity, 2);
    assert_int_equal(rows[0].points_length, 2);
    assert_memory_equal(rows[0].points, "p9", 2);
    assert_null(rows[0].verdicts);
    assert_string_equal(rows[2].key.context_id, "c0007");
    struct cache_statistics statistics;
    cache_read_statistics(fix->cache, &statistics);
    assert_int_equal(statistics.hits, 1);
    assert_int_equal(statistics.misses, 1);
    assert_int_equal(statistics.rows, 3);
}

static void later_stretches_and_verdicts_are_for_the_store(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(INT64_MAX, "", 5), 9, 3, false);
    struct store_history_query query = query_of(10, "", 3);
    struct store_uchart *rows;
    size_t count;
    struct error err;
    query.later = true;
    assert_int_equal(cache_lookup(fix->cache, &query, &fix->arena, &rows, &count, &err), ERR_NOT_FOUND);
    assert_int_equal(cache_fill(fix->cache, &query, NULL, 0, true, &err), ERR_INVALID);
    query.later = false;
    query.verdicts = true;
    assert_int_equal(cache_lookup(fix->cache, &query, &fix->arena, &rows, &count, &err), ERR_NOT_FOUND);
}

static void a_short_history_is_known_to_its_beginning(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(10, "", 5), 9, 2, true); /* 2 of 5: there are no more */
    assert_string_equal(look_up(fix, 10, 5), "9 8");
    assert_string_equal(look_up(fix, 10, 300), "9 8");
    assert_string_equal(look_up(fix, 9, 300), "8");
    assert_string_equal(look_up(fix, 2, 300), "");
    put(fix, 3); /* a late one, older than all */
    assert_string_equal(look_up(fix, 10, 300), "9 8 3");
}

static void an_empty_history_is_a_hit(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(10, "", 5), 0, 0, true);
    assert_string_equal(look_up(fix, 10, 5), "");
    put(fix, 10);
    assert_string_equal(look_up(fix, 11, 5), "10");
}

static void a_cut_history_is_not_vouched_for_below_its_oldest(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(10, "", 3), 9, 3, true);
    assert_string_equal(look_up(fix, 10, 4), "miss");
    assert_string_equal(look_up(fix, 9, 3), "miss");
    assert_string_equal(look_up(fix, 9, 2), "8 7");
    put(fix, 2); /* below: what lies between is not known */
    assert_string_equal(look_up(fix, 10, 4), "miss");
}

static void what_is_judged_next_is_known(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(10, "", 3), 9, 3, true);
    put(fix, 10);
    assert_string_equal(look_up(fix, 12, 4), "10 9 8 7");
    put(fix, 12);
    put(fix, 11); /* out of order */
    put(fix, 11); /* and judged again */
    assert_string_equal(look_up(fix, 20, 5), "12 11 10 9 8");
    assert_string_equal(look_up(fix, 12, 2), "11 10");
}

static void a_history_read_from_an_old_context_does_not_vouch_for_newer_ones(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(10, "", 3), 9, 3, false); /* the store has some at 10 or later */
    assert_string_equal(look_up(fix, 10, 3), "9 8 7");
    put(fix, 12);
    assert_string_equal(look_up(fix, 13, 3), "miss");
    assert_string_equal(look_up(fix, 10, 3), "9 8 7");
    /* Reading on joins the two. */
    fill(fix, query_of(13, "", 4), 12, 4, true);
    assert_string_equal(look_up(fix, 13, 5), "12 11 10 9 8");
}

static void stretches_that_do_not_meet_are_not_joined(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(10, "", 3), 9, 3, false);
    fill(fix, query_of(INT64_MAX, "", 3), 99, 3, false); /* 97..99, for ever: worth more */
    assert_string_equal(look_up(fix, 200, 3), "99 98 97");
    assert_string_equal(look_up(fix, 10, 3), "miss");
    fill(fix, query_of(50, "", 3), 49, 3, false); /* an old one again: not taken */
    assert_string_equal(look_up(fix, 50, 3), "miss");
    assert_string_equal(look_up(fix, 200, 3), "99 98 97");
    struct cache_statistics statistics;
    cache_read_statistics(fix->cache, &statistics);
    assert_int_equal(statistics.rows, 3);
}

static void reading_further_back_widens(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(INT64_MAX, "", 3), 99, 3, false);
    fill(fix, query_of(98, "", 5), 97, 5, false);
    assert_string_equal(look_up(fix, 100, 5), "99 98 97 96 95");
    assert_string_equal(look_up(fix, 100, 7), "99 98 97 96 95 94 93");
    assert_string_equal(look_up(fix, 100, 8), "miss");
}

static void ties_go_by_id(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(INT64_MAX, "", 5), 9, 2, false);
    struct store_uchart twin = row_of(9);
    twin.key.context_id = "c0009b";
    struct error err;
    assert_int_equal(cache_put(fix->cache, &twin, &err), 0);
    struct store_history_query query = query_of(9, "c0009b", 5);
    struct store_uchart *rows;
    size_t count;
    assert_int_equal(cache_lookup(fix->cache, &query, &fix->arena, &rows, &count, &err), 0);
    assert_int_equal(count, 2);
    assert_string_equal(rows[0].key.context_id, "c0009");
}

static void histories_are_trimmed_to_what_is_asked(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(INT64_MAX, "", 80), 0, 0, false);
    for (int i = 1; i <= MANY; i++)
        put(fix, i);
    struct cache_statistics statistics;
    cache_read_statistics(fix->cache, &statistics);
    assert_int_equal(statistics.rows, 80 + 80 / 8 + 8);
    assert_true(strncmp(look_up(fix, MANY + 1, 80), "400 399 398", 11) == 0);
    assert_true(strncmp(look_up(fix, MANY - 15, 80), "384", 3) == 0);
    assert_string_equal(look_up(fix, MANY - 40, 80), "miss");
    assert_string_equal(look_up(fix, 5, 1), "miss");
}

static void forgetting_is_by_key_or_chamber(void **state)
{
    struct fixture *fix = *state;
    fill(fix, query_of(10, "", 3), 9, 2, true);
    struct store_history_query other = query_of(10, "", 3);
    other.recipe = "S";
    fill(fix, other, 9, 2, true);
    cache_forget(fix->cache, "T1", "A", "S");
    assert_string_equal(look_up(fix, 10, 3), "9 8");
    fill(fix, other, 9, 2, true);
    cache_forget(fix->cache, "T1", "B", NULL);
    assert_string_equal(look_up(fix, 10, 3), "9 8");
    cache_forget(fix->cache, "T1", "A", NULL);
    assert_string_equal(look_up(fix, 10, 3), "miss");
    struct cache_statistics statistics;
    cache_read_statistics(fix->cache, &statistics);
    assert_int_equal(statistics.rows, 0);
    assert_int_equal(statistics.bytes, 0);
}

static void put_without_a_fill_is_ignored(void **state)
{
    struct fixture *fix = *state;
    put(fix, 10);
    assert_string_equal(look_up(fix, 11, 1), "miss");
    struct cache_statistics statistics;
    cache_read_statistics(fix->cache, &statistics);
    assert_int_equal(statistics.rows, 0);
}

/* One history of `rows` rows of 2,000 bytes for chamber `chamber`. */
static void fill_chamber(struct cache *cache, int chamber, size_t rows)
{
    static char points[2000];
    char name[16];
    snprintf(name, sizeof name, "C%d", chamber);
    struct store_uchart items[MANY];
    for (size_t i = 0; i < rows; i++) {
        items[i] = row_of(1000 - (int64_t)i);
        items[i].key.chamber = name;
        items[i].points = points;
        items[i].points_length = sizeof points;
    }
    struct store_history_query query = query_of(INT64_MAX, "", rows);
    query.chamber = name;
    struct error err;
    assert_int_equal(cache_fill(cache, &query, items, rows, true, &err), 0);
}

static bool is_held(struct cache *cache, struct arena *arena, int chamber)
{
    char name[16];
    snprintf(name, sizeof name, "C%d", chamber);
    struct store_history_query query = query_of(INT64_MAX, "", 10);
    query.chamber = name;
    struct store_uchart *rows;
    size_t count;
    struct error err;
    return cache_lookup(cache, &query, arena, &rows, &count, &err) == 0;
}

static void the_budget_evicts_what_was_not_used_for_longest(void **state)
{
    (void)state;
    struct cache *cache;
    struct error err;
    struct arena arena;
    arena_init(&arena, 0);
    assert_int_equal(cache_open(1250 * 1000, &cache, &err), 0);
    for (int chamber = 0; chamber < 4; chamber++) /* four times about 276 KB */
        fill_chamber(cache, chamber, 100);
    assert_true(is_held(cache, &arena, 0)); /* and so it is not the oldest any more */
    fill_chamber(cache, 4, 100);
    assert_true(is_held(cache, &arena, 0));
    assert_false(is_held(cache, &arena, 1));
    assert_true(is_held(cache, &arena, 2));
    assert_true(is_held(cache, &arena, 4));
    struct cache_statistics statistics;
    cache_read_statistics(cache, &statistics);
    assert_int_equal(statistics.evictions, 1);
    assert_true(statistics.bytes <= 1250 * 1000);
    assert_int_equal(statistics.rows, 400);

    for (int chamber = 5; chamber < 60; chamber++)
        fill_chamber(cache, chamber, 100);
    cache_read_statistics(cache, &statistics);
    assert_true(statistics.bytes <= 1250 * 1000);
    cache_close(cache);

    /* A history that is larger than the budget is not held, and nothing breaks. */
    assert_int_equal(cache_open(10 * 1000, &cache, &err), 0);
    fill_chamber(cache, 0, 100);
    assert_false(is_held(cache, &arena, 0));
    cache_read_statistics(cache, &statistics);
    assert_int_equal(statistics.bytes, 0);
    cache_close(cache);
    arena_free(&arena);
}

/* A plain model of one key's stored history: which ends exist. The cache must never answer otherwise than it.
 */
static void random_use_never_differs_from_the_store(void **state)
{
    struct fixture *fix = *state;
    bool stored[MANY] = {false};
    unsigned random = 12345;
    int hits = 0;
    for (int step = 0; step < 20000; step++) {
        random = random * 1664525u + 1013904223u;
        int end = (int)(random >> 16) % MANY;
        size_t limit = 1 + (random >> 8) % 12;
        /* What the store would say. */
        struct store_uchart rows[12];
        size_t count = 0;
        bool newest = true;
        for (int i = end - 1; i >= 0 && count < limit; i--)
            if (stored[i])
                rows[count++] = row_of(i);
        for (int i = end; i < MANY; i++)
            newest = newest && !stored[i];
        struct store_history_query query = query_of(end, "", limit);
        struct store_uchart *got;
        size_t got_count;
        struct error err;
        arena_reset(&fix->arena);
        int code = cache_lookup(fix->cache, &query, &fix->arena, &got, &got_count, &err);
        if (code == 0) {
            hits++;
            assert_int_equal(got_count, count);
            for (size_t i = 0; i < count; i++)
                assert_int_equal(got[i].end_us, rows[i].end_us);
        } else if (random % 3 == 0) {
            assert_int_equal(cache_fill(fix->cache, &query, rows, count, newest, &err), 0);
        }
        if (random % 7 == 0) {
            stored[end] = true;
            put(fix, end);
        }
        if (step % 1000 == 999) {
            memset(stored, 0, sizeof stored);
            cache_forget(fix->cache, "T1", "A", NULL);
        }
    }
    assert_true(hits > 1000);
}

#define STORY(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_hit_gives_what_was_filled),
        STORY(later_stretches_and_verdicts_are_for_the_store),
        STORY(a_short_history_is_known_to_its_beginning),
        STORY(an_empty_history_is_a_hit),
        STORY(a_cut_history_is_not_vouched_for_below_its_oldest),
        STORY(what_is_judged_next_is_known),
        STORY(a_history_read_from_an_old_context_does_not_vouch_for_newer_ones),
        STORY(stretches_that_do_not_meet_are_not_joined),
        STORY(reading_further_back_widens),
        STORY(ties_go_by_id),
        STORY(histories_are_trimmed_to_what_is_asked),
        STORY(forgetting_is_by_key_or_chamber),
        STORY(put_without_a_fill_is_ignored),
        STORY(the_budget_evicts_what_was_not_used_for_longest),
        STORY(random_use_never_differs_from_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
