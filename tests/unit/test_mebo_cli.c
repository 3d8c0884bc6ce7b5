/* `chamberlain mebo`: a dump is the vector's JSON, and encoding a dump gives the blob back. */
#include "test_mebo_vectors.h"

#include "cli/mebo.h"

#include <fcntl.h>
#include <unistd.h>

enum { PATH_BYTES = 512, MOST_ARGUMENTS = 8 };

static char work[PATH_BYTES]; /* where the test's files are */

/* Runs the command with standard output and error in `work`/out and `work`/err. */
static int run(const char *first, ...)
{
    char *argv[MOST_ARGUMENTS + 1] = {"mebo"}, path[PATH_BYTES + 8];
    int argc = 1, kept[2], fds[2];
    va_list args;
    va_start(args, first);
    for (const char *word = first; word; word = va_arg(args, const char *)) {
        assert_true(argc < MOST_ARGUMENTS);
        argv[argc++] = (char *)(uintptr_t)word;
    }
    va_end(args);
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", work, i ? "err" : "out");
        fds[i] = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
        assert_true(fds[i] >= 0);
        kept[i] = dup(i + 1);
        dup2(fds[i], i + 1);
        close(fds[i]);
    }
    int rc = cli_mebo(argc, argv);
    fflush(stdout);
    fflush(stderr);
    for (int i = 0; i < 2; i++) {
        dup2(kept[i], i + 1);
        close(kept[i]);
    }
    return rc;
}

static char *slurp(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t got = 0, capacity = 1 << 20;
    char *text = malloc(capacity + 1);
    got = fread(text, 1, capacity, file);
    assert_true(got < capacity);
    text[got] = '\0';
    fclose(file);
    if (length)
        *length = got;
    return text;
}

static char *output(const char *name)
{
    char path[PATH_BYTES + 8];
    snprintf(path, sizeof path, "%s/%s", work, name);
    return slurp(path, NULL);
}

/* The vector's JSON without what only its author knows: how data were made, and names that are not in the
 * blob. */
static json_t *expected(const struct vector *v)
{
    size_t length, i;
    char *text = (char *)vector_read(v->name, ".json", &length);
    json_t *root = json_loads(text, 0, NULL), *metric;
    json_object_del(root, "note");
    json_array_foreach(json_object_get(root, "metrics"), i, metric)
    {
        json_object_del(metric, "kind");
        if (!v->options.names)
            json_object_del(metric, "name");
    }
    free(text);
    return root;
}

static void a_dump_is_the_vectors_json_and_encodes_back(void **state)
{
    struct vectors *vectors = *state;
    for (size_t n = 0; n < VECTOR_COUNT; n++) {
        const struct vector *v = &vectors->items[n];
        char blob[VECTOR_PATH_BYTES], json[PATH_BYTES + 8], again[PATH_BYTES + 8];
        snprintf(blob, sizeof blob, "%s/mebo/%s.mebo", TEST_DATA, v->name);
        assert_int_equal(run("dump", blob, NULL), 0);
        char *text = output("out");
        json_t *got = json_loads(text, 0, NULL), *want = expected(v);
        if (!json_equal(got, want))
            fail_msg("%s: the dump differs", v->name);
        snprintf(json, sizeof json, "%s/in", work);
        snprintf(again, sizeof again, "%s/blob", work);
        assert_int_equal(json_dump_file(got, json, 0), 0);
        assert_int_equal(run("encode", json, "-o", again, NULL), 0);
        size_t length;
        char *bytes = slurp(again, &length);
        if (v->options.times_codec == MEBO_NONE && v->options.values_codec == MEBO_NONE && !v->has_tags) {
            assert_int_equal(length, v->length);
            assert_memory_equal(bytes, v->bytes, length);
        }
        assert_int_equal(run("dump", again, NULL), 0);
        char *second = output("out");
        json_t *twice = json_loads(second, 0, NULL);
        json_object_del(twice, "file");
        json_object_del(twice, "size");
        json_object_del(want, "file");
        json_object_del(want, "size");
        assert_true(json_equal(twice, want));
        json_decref(twice);
        json_decref(got);
        json_decref(want);
        free(bytes);
        free(text);
        free(second);
    }
}

static void write_input(const char *text, char path[static PATH_BYTES + 8])
{
    snprintf(path, PATH_BYTES + 8, "%s/in", work);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void plain_numbers_and_names_are_enough(void **state)
{
    (void)state;
    char in[PATH_BYTES + 8], out[PATH_BYTES + 8];
    write_input("{\"metrics\":[{\"name\":\"Pressure\",\"timestamps\":[5,100000],\"values\":[1227,1229.5],"
                "\"tags\":[\"a\\u0000b\",\"\"]}]}",
                in);
    snprintf(out, sizeof out, "%s/blob", work);
    assert_int_equal(run("encode", in, "-o", out, NULL), 0);
    assert_int_equal(run("dump", out, NULL), 0);
    char *text = output("out");
    assert_non_null(strstr(text, "\"magic\":\"0xea20\",\"start_time_us\":5"));
    assert_non_null(strstr(text, "\"name\":\"Pressure\",\"count\":2,\"timestamps\":[5,100000],"
                                 "\"values_hex\":[\"40932c0000000000\",\"4093360000000000\"],"
                                 "\"tags\":[\"a\\u0000b\",\"\"]"));
    free(text);
}

static void mistakes_are_named_with_their_place(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"{", "line 1"},
        {"{}", "metrics: expected an array"},
        {"{\"metrics\":[]}", "at least one metric"},
        {"{\"metrics\":[{\"name\":\"a\",\"timestamps\":[1.5],\"values\":[1]}]}",
         "metrics[0]: timestamps[0]: expected an integer"},
        {"{\"metrics\":[{\"name\":\"a\",\"timestamps\":[1],\"values\":[1,2]}]}",
         "metrics[0]: values: 2 items for 1 timestamps"},
        {"{\"metrics\":[{\"name\":\"a\",\"timestamps\":[1],\"values\":[\"x\"]}]}",
         "metrics[0]: values[0]: expected a number"},
        {"{\"metrics\":[{\"name\":\"a\",\"timestamps\":[1],\"values_hex\":[\"xyz\"]}]}",
         "values_hex[0]: expected the 16 hex"},
        {"{\"metrics\":[{\"timestamps\":[1],\"values\":[1]}]}",
         "metrics[0]: metric 0 (id 0000000000000000) has no name"},
        {"{\"magic\":\"ea40\",\"metrics\":[]}", "magic: expected \"0xea10\""},
        {"{\"ts_encoding\":\"alp\",\"metrics\":[{\"name\":\"a\",\"timestamps\":[1],\"values\":[1]}]}",
         "timestamps cannot be encoded as alp; use raw, delta or deltapacked"},
        {"{\"big_endian\":1,\"metrics\":[]}", "big_endian: expected true or false"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char in[PATH_BYTES + 8], out[PATH_BYTES + 8];
        write_input(cases[i].json, in);
        snprintf(out, sizeof out, "%s/none", work);
        int rc = run("encode", in, "-o", out, NULL);
        char *text = output("err");
        if (rc != 1 || strstr(text, cases[i].words) == NULL)
            fail_msg("expected \"%s\", got %d \"%s\"", cases[i].words, rc, text);
        free(text);
        assert_int_not_equal(access(out, F_OK), 0);
    }
}

static void the_command_line_explains_itself(void **state)
{
    (void)state;
    assert_int_equal(run("--help", NULL), 0);
    char *text = output("out");
    assert_non_null(strstr(text, "Example:"));
    free(text);
    assert_int_equal(run("dump", "--help", NULL), 0);
    assert_int_equal(run("encode", "--help", NULL), 0);
    assert_int_equal(run("dump", NULL), 2);
    assert_int_equal(run("encode", "x", NULL), 2);
    assert_int_equal(run("encode", "x", "y", "-o", "z", NULL), 2);
    assert_int_equal(run("encode", "x", "-o", NULL), 2);
    assert_int_equal(run("view", NULL), 2);
    assert_int_equal(run(NULL, NULL), 2);
    assert_int_equal(run("dump", "/nonexistent", NULL), 1);
    assert_int_equal(run("dump", TEST_DATA "/mebo/01_raw_raw_le_v1.json", NULL), 1);
    text = output("err");
    assert_non_null(strstr(text, "offset 0: magic"));
    free(text);
}

static int setup(void **state)
{
    const char *parent = getenv("TMPDIR");
    snprintf(work, sizeof work, "%s/mebo-cli-XXXXXX", parent ? parent : "/tmp");
    return mkdtemp(work) ? vectors_setup(state) : -1;
}

static int teardown(void **state)
{
    static const char *const names[] = {"out", "err", "in", "blob"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[PATH_BYTES + 8];
        snprintf(path, sizeof path, "%s/%s", work, names[i]);
        remove(path);
    }
    rmdir(work);
    return vectors_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dump_is_the_vectors_json_and_encodes_back),
        cmocka_unit_test(plain_numbers_and_names_are_enough),
        cmocka_unit_test(mistakes_are_named_with_their_place),
        cmocka_unit_test(the_command_line_explains_itself),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
