#include "cmocka_setup.h"

#include "base/strbuf.h"
#include "collector/csv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

/* The rows of a text as "a|b|c" lines, with "!problem@column" for those that cannot be read; line numbers
 * before a colon. */
static char *read_all(const char *text, size_t length, const struct csv_options *options)
{
    struct strbuf out;
    struct csv_reader *reader = NULL;
    struct csv_row row;
    struct error err;
    strbuf_init(&out);
    assert_int_equal(csv_open_bytes("text", text, length, options, &reader, &err), 0);
    int got;
    while ((got = csv_next(reader, &row, &err)) == 1) {
        strbuf_printf(&out, "%zu:", row.line);
        if (row.problem != CSV_FINE)
            strbuf_printf(&out, "!%d@%zu", (int)row.problem, row.problem_column);
        for (size_t i = 0; i < row.count; i++) {
            assert_int_equal(strlen(row.fields[i].text), row.fields[i].length);
            strbuf_printf(&out, "%s%s", i > 0 ? "|" : "", row.fields[i].text);
        }
        strbuf_add_char(&out, '\n');
    }
    if (got < 0)
        strbuf_printf(&out, "error %s", error_name(got));
    csv_close(reader);
    return strbuf_take(&out);
}

static void expect_rows(const char *text, const struct csv_options *options, const char *rows)
{
    char *got = read_all(text, strlen(text), options);
    assert_string_equal(got != NULL ? got : "", rows);
    free(got);
}

static void plain_rows_with_either_line_end(void **state)
{
    (void)state;
    expect_rows("a,b\n1,2\n", NULL, "1:a|b\n2:1|2\n");
    expect_rows("a,b\r\n1,2\r\n3,4", NULL, "1:a|b\n2:1|2\n3:3|4\n");
    expect_rows("a,b\n\n  \n1,\n", NULL, "1:a|b\n4:1|\n");
    expect_rows("\xEF\xBB\xBF"
                "a,b\n",
                NULL, "1:a|b\n");
    expect_rows(" a , b\n", NULL, "1:a|b\n");
    expect_rows(",\n", NULL, "1:|\n");
}

static void delimiter_is_told_by_the_first_line(void **state)
{
    (void)state;
    expect_rows("a\tb,c\td\n1\t2\t3\n", NULL, "1:a|b,c|d\n2:1|2|3\n");
    expect_rows("a;b;c\n1,5;2;3\n", NULL, "1:a|b|c\n2:1,5|2|3\n");
    expect_rows("\"a;;;;\",b\n", NULL, "1:a;;;;|b\n");
    expect_rows("lonely\n1\n", NULL, "1:lonely\n2:1\n");
    struct csv_options pipe = {.delimiter = '|', .skip_lines = 2};
    expect_rows("Tool 5\nexported, today\nx|y,z\n", &pipe, "3:x|y,z\n");
}

static void quotes_as_in_rfc_4180(void **state)
{
    (void)state;
    expect_rows("a,\"b \"\"c\"\", d\",e\n", NULL, "1:a|b \"c\", d|e\n");
    expect_rows("\"two\nlines\",x\nnext,y\n", NULL, "1:two\nlines|x\n3:next|y\n");
    expect_rows("5\" wafer,12\"\"\n\"\",b\n", NULL, "1:5\" wafer|12\"\"\n2:|b\n");
    expect_rows("  \"a\"  ,b\n", NULL, "1:a|b\n");
}

static void bad_rows_are_told_and_passed_over(void **state)
{
    (void)state;
    expect_rows("a,b\n1,\"open\n2,3\n", NULL, "1:a|b\n2:!3@0\n3:2|3\n");
    expect_rows("a,b\n\"x\"y,1\n2,3\n", NULL, "1:a|b\n2:!4@1\n3:2|3\n");
    struct csv_options few = {.max_columns = 2};
    expect_rows("a,b\n1,2,3\n4,5\n", &few, "1:a|b\n2:!2@3\n3:4|5\n");
    char *got = read_all("a,b\n1,\0002\n3,4\n", 13, NULL);
    assert_string_equal(got, "1:a|b\n2:!5@0\n3:3|4\n");
    free(got);
}

static void long_lines_are_bounded(void **state)
{
    (void)state;
    struct csv_options small = {.max_bytes = 200000};
    static char text[500100];
    size_t length = 500000;
    size_t at = (size_t)sprintf(text, "a,b\n");
    memset(text + at, 'x', length);
    at += length;
    at += (size_t)sprintf(text + at, "\n1,2\n\"");
    char *got = read_all(text, at, &small);
    assert_string_equal(got, "1:a|b\n2:!1@0\n3:1|2\n4:!3@0\n");
    free(got);
    /* A quote that swallows the rest of a large file costs a bounded look-ahead, and the rows behind it are
     * read. */
    at = (size_t)sprintf(text, "a,b\n\"x,1\n");
    for (int i = 0; i < 300; i++)
        at += (size_t)sprintf(text + at, "%d,2\n", i);
    got = read_all(text, at, NULL);
    assert_non_null(strstr(got, "2:!3@0\n3:0|2\n4:1|2\n"));
    assert_non_null(strstr(got, "302:299|2\n"));
    free(got);
}

static void utf16_is_refused_with_advice(void **state)
{
    (void)state;
    struct csv_reader *reader = NULL;
    struct csv_row row;
    struct error err;
    assert_int_equal(csv_open_bytes("excel.csv",
                                    "\xFF\xFE"
                                    "a\0",
                                    4, NULL, &reader, &err),
                     0);
    assert_int_equal(csv_next(reader, &row, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "excel.csv: the file is UTF-16"));
    assert_int_equal(csv_next(reader, &row, &err), ERR_INVALID);
    csv_close(reader);
}

/* Writes `length` bytes to a new file under TMPDIR; the caller frees the path. */
static char *write_file(const void *bytes, size_t length)
{
    const char *dir = getenv("TMPDIR");
    char *path = NULL;
    assert_true(asprintf(&path, "%s/test_collector_csv_XXXXXX", dir != NULL ? dir : "/tmp") > 0);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, length), (ssize_t)length);
    close(fd);
    return path;
}

static size_t count_rows(const char *path, int *code, struct error *err)
{
    struct csv_reader *reader = NULL;
    struct csv_row row;
    size_t rows = 0;
    *code = csv_open(path, NULL, &reader, err);
    while (*code == 0 && (*code = csv_next(reader, &row, err)) == 1) {
        rows +=
            row.problem == CSV_FINE && row.count == 2; /* damaged data may read as anything before its end */
        *code = 0;
    }
    csv_close(reader);
    return rows;
}

static void gzip_is_told_by_its_bytes(void **state)
{
    (void)state;
    char *path = write_file("", 0);
    gzFile gz = gzopen(path, "wb");
    for (int i = 0; i < 50000; i++)
        gzprintf(gz, "%d,%d\n", i, i * 7);
    gzclose(gz);
    struct error err;
    int code;
    assert_int_equal(count_rows(path, &code, &err), 50000);
    assert_int_equal(code, 0);
    /* Cut off in the middle: an error, not an early end. */
    FILE *file = fopen(path, "rb");
    static char bytes[1 << 20];
    size_t length = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    assert_in_range(length, 1000, sizeof(bytes) - 1);
    assert_int_equal(truncate(path, (off_t)(length / 2)), 0);
    assert_in_range(count_rows(path, &code, &err), 1, 49999);
    assert_int_equal(code, ERR_CORRUPT);
    assert_non_null(strstr(err.text, "gzip -t"));
    unlink(path);
    free(path);
    /* And with a byte turned over. */
    bytes[length / 2] ^= 0x55;
    path = write_file(bytes, length);
    count_rows(path, &code, &err);
    assert_int_equal(code, ERR_CORRUPT);
    unlink(path);
    assert_int_equal(count_rows(path, &code, &err), 0);
    assert_int_equal(code, ERR_NOT_FOUND);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_rows_with_either_line_end),
        cmocka_unit_test(delimiter_is_told_by_the_first_line),
        cmocka_unit_test(quotes_as_in_rfc_4180),
        cmocka_unit_test(bad_rows_are_told_and_passed_over),
        cmocka_unit_test(long_lines_are_bounded),
        cmocka_unit_test(utf16_is_refused_with_advice),
        cmocka_unit_test(gzip_is_told_by_its_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
