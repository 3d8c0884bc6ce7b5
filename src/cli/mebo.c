#include "cli/mebo.h"

#include "base/strbuf.h"
#include "mebo/mebo.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, READ_CHUNK_BYTES = 1 << 16 };

static const char usage_text[] =
    "Usage: chamberlain mebo dump FILE\n"
    "       chamberlain mebo encode [FILE|-] -o OUT\n"
    "\n"
    "dump    prints a Mebo blob (FILE, or - for standard input) as one JSON object: its encodings, and for "
    "every\n"
    "        metric the id, name, count, timestamps (microseconds since 1970) and the values' 64 bits in "
    "hex.\n"
    "encode  reads such a JSON object (FILE or standard input) and writes the blob to OUT (- for standard "
    "output).\n"
    "        It needs metrics[] with timestamps and either values_hex or values (plain numbers), and an id "
    "or a\n"
    "        name. What else it does not state is as for T-charts: V2, delta, alp, none, little endian, "
    "shared\n"
    "        timestamps, and names when every metric has one.\n"
    "\n"
    "Example:\n"
    "  chamberlain mebo dump run.mebo > run.json\n"
    "  chamberlain mebo encode run.json -o again.mebo\n"
    "  echo '{\"metrics\":[{\"name\":\"Pressure\",\"timestamps\":[0,100000],\"values\":[1227,1229]}]}' |\n"
    "    chamberlain mebo encode - -o two.mebo\n";

static int complain(const char *what, const struct error *err)
{
    fprintf(stderr, "chamberlain mebo: %s: %s\n", what, err->text);
    return EXIT_FAILURE;
}

/* Reads a whole file, or standard input for "-", into the malloc'ed buf. */
static int read_file(const char *path, struct strbuf *buf, struct error *err)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdin : fopen(path, "rb");
    if (file == NULL)
        return error_set(err, ERR_IO, "cannot open: %s", strerror(errno));
    char chunk[READ_CHUNK_BYTES];
    size_t got;
    while ((got = fread(chunk, 1, sizeof chunk, file)) > 0)
        strbuf_add_bytes(buf, chunk, got);
    int rc = ferror(file) ? error_set(err, ERR_IO, "cannot read: %s", strerror(errno)) : 0;
    if (rc == 0 && buf->failed)
        rc = error_set(err, ERR_NO_MEMORY, "no memory for the file");
    if (!standard)
        fclose(file);
    return rc;
}

static int write_file(const char *path, struct mebo_bytes bytes, struct error *err)
{
    bool standard = strcmp(path, "-") == 0;
    FILE *file = standard ? stdout : fopen(path, "wb");
    if (file == NULL)
        return error_set(err, ERR_IO, "cannot open: %s", strerror(errno));
    bool written = fwrite(bytes.data, 1, bytes.length, file) == bytes.length;
    bool closed = (standard ? fflush(file) : fclose(file)) == 0;
    if (written && closed)
        return 0;
    int rc = error_set(err, ERR_IO, "cannot write: %s", strerror(errno));
    if (!standard)
        remove(path);
    return rc;
}

/* ---- dump ---- */

/* Text that may hold zero bytes, which JSON writes as \u0000. */
static void add_text(struct strbuf *out, struct mebo_text text)
{
    strbuf_add_char(out, '"');
    for (size_t at = 0; at <= text.length;) {
        struct strbuf part, quoted;
        size_t length = strnlen(text.text + at, text.length - at);
        strbuf_init(&part);
        strbuf_init(&quoted);
        strbuf_add_bytes(&part, text.text + at, length);
        strbuf_add_json(&quoted, part.text);
        strbuf_add_bytes(out, quoted.text + 1, quoted.length > 2 ? quoted.length - 2 : 0);
        out->failed = out->failed || part.failed || quoted.failed;
        strbuf_free(&part);
        strbuf_free(&quoted);
        at += length + 1;
        if (at <= text.length)
            strbuf_add(out, "\\u0000");
    }
    strbuf_add_char(out, '"');
}

static void add_header(struct strbuf *out, const char *path, size_t size, const struct mebo_header *h)
{
    const char *slash = strrchr(path, '/');
    const char *file = slash ? slash + 1 : path;
    strbuf_add(out, "{\"file\":");
    add_text(out, (struct mebo_text){file, strlen(file)});
    strbuf_printf(out, ",\"size\":%zu,\"ts_encoding\":\"%s\",\"value_encoding\":\"%s\"", size,
                  mebo_encoding_name(h->times_encoding), mebo_encoding_name(h->values_encoding));
    strbuf_printf(out, ",\"ts_compression\":\"%s\",\"value_compression\":\"%s\"",
                  mebo_codec_name(h->times_codec), mebo_codec_name(h->values_codec));
    strbuf_printf(out,
                  ",\"big_endian\":%s,\"has_tags\":%s,\"has_metric_names\":%s,\"has_shared_timestamps\":%s",
                  h->big_endian ? "true" : "false", h->has_tags ? "true" : "false",
                  h->has_names ? "true" : "false", h->has_shared_timestamps ? "true" : "false");
    strbuf_printf(out, ",\"magic\":\"0x%04x\",\"start_time_us\":%" PRId64 ",\"metrics\":[",
                  (unsigned)h->version, h->start_time_us);
}

static int add_metric(struct strbuf *out, struct mebo_blob *blob, uint32_t i, struct arena *arena,
                      struct error *err)
{
    const struct mebo_metric *m = &blob->metrics[i];
    const int64_t *times;
    double *values = arena_alloc(arena, m->count * sizeof *values);
    struct mebo_text *tags = arena_alloc(arena, m->count * sizeof *tags);
    if (values == NULL || tags == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %u points", m->count);
    int rc = mebo_blob_values(blob, i, values, err);
    if (rc == 0)
        rc = mebo_blob_timestamps(blob, i, &times, err);
    if (rc == 0)
        rc = mebo_blob_tags(blob, i, tags, err);
    if (rc)
        return rc;
    strbuf_printf(out, "%s{\"id\":\"%016" PRIx64 "\"", i ? "," : "", m->id);
    if (m->name) {
        strbuf_add(out, ",\"name\":");
        add_text(out, (struct mebo_text){m->name, m->name_length});
    }
    strbuf_printf(out, ",\"count\":%u,\"timestamps\":[", m->count);
    for (uint32_t k = 0; k < m->count; k++)
        strbuf_printf(out, "%s%" PRId64, k ? "," : "", times[k]);
    strbuf_add(out, "],\"values_hex\":[");
    for (uint32_t k = 0; k < m->count; k++) {
        uint64_t bits;
        memcpy(&bits, &values[k], sizeof bits);
        strbuf_printf(out, "%s\"%016" PRIx64 "\"", k ? "," : "", bits);
    }
    strbuf_add_char(out, ']');
    if (blob->header.has_tags) {
        strbuf_add(out, ",\"tags\":[");
        for (uint32_t k = 0; k < m->count; k++) {
            strbuf_add(out, k ? "," : "");
            add_text(out, tags[k]);
        }
        strbuf_add_char(out, ']');
    }
    strbuf_add_char(out, '}');
    return 0;
}

static int dump_blob(const char *path, const struct strbuf *bytes, struct arena *arena, struct strbuf *out,
                     struct error *err)
{
    struct mebo_blob blob;
    int rc = mebo_blob_open(&blob, bytes->text, bytes->length, arena, NULL, err);
    if (rc)
        return rc;
    add_header(out, path, bytes->length, &blob.header);
    for (uint32_t i = 0; i < blob.header.metric_count && rc == 0; i++)
        rc = add_metric(out, &blob, i, arena, err);
    strbuf_add(out, "]}\n");
    if (rc == 0 && out->failed)
        rc = error_set(err, ERR_NO_MEMORY, "no memory for the JSON text");
    return rc;
}

static int dump(const char *path)
{
    struct strbuf bytes, out;
    struct arena arena;
    struct error err;
    strbuf_init(&bytes);
    strbuf_init(&out);
    arena_init(&arena, 0);
    int rc = read_file(path, &bytes, &err);
    if (rc == 0)
        rc = dump_blob(path, &bytes, &arena, &out, &err);
    if (rc == 0)
        rc = write_file("-", (struct mebo_bytes){out.text, out.length}, &err);
    strbuf_free(&bytes);
    strbuf_free(&out);
    arena_free(&arena);
    return rc ? complain(path, &err) : EXIT_SUCCESS;
}

/* ---- encode ---- */

static int wrong(const char *where, const char *expected, struct error *err)
{
    return error_set(err, ERR_INVALID, "%s: expected %s", where, expected);
}

static int read_encoding(const json_t *root, const char *key, enum mebo_encoding *encoding, struct error *err)
{
    json_t *text = json_object_get(root, key);
    if (text && !(json_is_string(text) && mebo_encoding_parse(json_string_value(text), encoding)))
        return wrong(key, "one of raw, delta, deltapacked, gorilla, chimp, alp", err);
    return 0;
}

static int read_codec(const json_t *root, const char *key, enum mebo_codec *codec, struct error *err)
{
    json_t *text = json_object_get(root, key);
    if (text && !(json_is_string(text) && mebo_codec_parse(json_string_value(text), codec)))
        return wrong(key, "one of none, zstd, s2, lz4", err);
    return 0;
}

static int read_flag(const json_t *root, const char *key, bool *flag, struct error *err)
{
    json_t *value = json_object_get(root, key);
    if (value && !json_is_boolean(value))
        return wrong(key, "true or false", err);
    *flag = value ? json_is_true(value) : *flag;
    return 0;
}

static int read_version(const json_t *root, enum mebo_version *version, struct error *err)
{
    json_t *magic = json_object_get(root, "magic");
    if (magic == NULL)
        return 0;
    const char *text = json_is_string(magic) ? json_string_value(magic) : "";
    char *end;
    *version = (enum mebo_version)strtoul(text, &end, 16);
    if (end == text || *end || (*version != MEBO_V1 && *version != MEBO_V2 && *version != MEBO_V2_EXTENDED))
        return wrong("magic", "\"0xea10\" (V1), \"0xea20\" (V2) or \"0xea30\" (V2 extended)", err);
    return 0;
}

static bool all_named(const json_t *metrics)
{
    size_t i;
    json_t *metric;
    json_array_foreach(metrics, i, metric)
    {
        if (!json_is_string(json_object_get(metric, "name")))
            return false;
    }
    return true;
}

static int read_options(const json_t *root, const json_t *metrics, struct mebo_options *o,
                        int64_t *start_time_us, struct error *err)
{
    int rc = 0;
    *o = mebo_options_tchart();
    o->names = all_named(metrics);
    if ((rc = read_version(root, &o->version, err)) != 0)
        return rc;
    o->shared_timestamps = o->version != MEBO_V1;
    if ((rc = read_encoding(root, "ts_encoding", &o->times_encoding, err)) != 0 ||
        (rc = read_encoding(root, "value_encoding", &o->values_encoding, err)) != 0 ||
        (rc = read_codec(root, "ts_compression", &o->times_codec, err)) != 0 ||
        (rc = read_codec(root, "value_compression", &o->values_codec, err)) != 0 ||
        (rc = read_flag(root, "big_endian", &o->big_endian, err)) != 0 ||
        (rc = read_flag(root, "has_metric_names", &o->names, err)) != 0 ||
        (rc = read_flag(root, "has_shared_timestamps", &o->shared_timestamps, err)) != 0)
        return rc;
    json_t *start = json_object_get(root, "start_time_us");
    json_t *first = json_array_get(json_object_get(json_array_get(metrics, 0), "timestamps"), 0);
    if (start && !json_is_integer(start))
        return wrong("start_time_us", "an integer, microseconds since 1970", err);
    *start_time_us = json_integer_value(start ? start : first);
    return 0;
}

static int read_hex(const char *text, uint64_t *value)
{
    char *end;
    if (text == NULL || text[0] == '\0' || strspn(text, "0123456789abcdefABCDEF") != strlen(text) ||
        strlen(text) > 16)
        return ERR_INVALID;
    *value = strtoull(text, &end, 16);
    return 0;
}

static int read_times(const json_t *array, uint32_t count, struct arena *arena, const int64_t **out,
                      struct error *err)
{
    int64_t *times = arena_alloc(arena, count * sizeof *times);
    if (times == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %u points", count);
    for (uint32_t i = 0; i < count; i++) {
        json_t *time = json_array_get(array, i);
        if (!json_is_integer(time))
            return error_set(err, ERR_INVALID, "timestamps[%u]: expected an integer, microseconds since 1970",
                             i);
        times[i] = json_integer_value(time);
    }
    *out = times;
    return 0;
}

static int read_values(const json_t *hex, const json_t *plain, uint32_t count, struct arena *arena,
                       const double **out, struct error *err)
{
    double *values = arena_alloc(arena, count * sizeof *values);
    if (values == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %u points", count);
    if (json_array_size(hex ? hex : plain) != count)
        return error_set(err, ERR_INVALID, "%s: %zu items for %u timestamps", hex ? "values_hex" : "values",
                         json_array_size(hex ? hex : plain), count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bits = 0;
        if (hex && read_hex(json_string_value(json_array_get(hex, i)), &bits))
            return error_set(err, ERR_INVALID,
                             "values_hex[%u]: expected the 16 hex digits of a double's bits", i);
        if (!hex && !json_is_number(json_array_get(plain, i)))
            return error_set(err, ERR_INVALID, "values[%u]: expected a number", i);
        values[i] = json_number_value(json_array_get(plain, i));
        if (hex)
            memcpy(&values[i], &bits, sizeof bits);
    }
    *out = values;
    return 0;
}

static int read_tags(const json_t *array, uint32_t count, struct arena *arena, const struct mebo_text **out,
                     struct error *err)
{
    if (array == NULL)
        return 0;
    struct mebo_text *tags = arena_alloc(arena, count * sizeof *tags);
    if (tags == NULL)
        return error_set(err, ERR_NO_MEMORY, "no memory for %u tags", count);
    if (json_array_size(array) != count)
        return error_set(err, ERR_INVALID, "tags: %zu items for %u timestamps", json_array_size(array),
                         count);
    for (uint32_t i = 0; i < count; i++) {
        json_t *tag = json_array_get(array, i);
        if (!json_is_string(tag))
            return error_set(err, ERR_INVALID, "tags[%u]: expected text", i);
        tags[i] = (struct mebo_text){json_string_value(tag), json_string_length(tag)};
    }
    *out = tags;
    return 0;
}

/* Texts stay in the JSON tree, which outlives the encoder. */
static int read_series(const json_t *metric, struct arena *arena, struct mebo_series *s, struct error *err)
{
    json_t *id = json_object_get(metric, "id"), *name = json_object_get(metric, "name");
    json_t *times = json_object_get(metric, "timestamps");
    *s = (struct mebo_series){0};
    if (id && read_hex(json_string_value(id), &s->id))
        return wrong("id", "16 hex digits", err);
    if (name && !json_is_string(name))
        return wrong("name", "text", err);
    s->name = json_string_value(name);
    s->name_length = name ? json_string_length(name) : 0;
    if (!json_is_array(times) || json_array_size(times) > UINT32_MAX)
        return wrong("timestamps", "an array of integers", err);
    s->count = (uint32_t)json_array_size(times);
    int rc = read_times(times, s->count, arena, &s->times_us, err);
    if (rc == 0)
        rc = read_values(json_object_get(metric, "values_hex"), json_object_get(metric, "values"), s->count,
                         arena, &s->values, err);
    if (rc == 0)
        rc = read_tags(json_object_get(metric, "tags"), s->count, arena, &s->tags, err);
    return rc;
}

static int encode_json(const json_t *root, struct arena *arena, struct mebo_bytes *blob, struct error *err)
{
    json_t *metrics = json_object_get(root, "metrics"), *metric;
    struct mebo_options options;
    struct mebo_encoder encoder;
    int64_t start_time_us = 0;
    size_t i;
    if (!json_is_array(metrics))
        return wrong("metrics", "an array", err);
    int rc = read_options(root, metrics, &options, &start_time_us, err);
    if (rc)
        return rc;
    mebo_encoder_init(&encoder, &options, start_time_us, arena);
    json_array_foreach(metrics, i, metric)
    {
        struct mebo_series series;
        rc = read_series(metric, arena, &series, err);
        if (rc == 0)
            rc = mebo_encoder_add(&encoder, &series, err);
        if (rc)
            return error_prefix(err, rc, "metrics[%zu]", i);
    }
    return mebo_encoder_finish(&encoder, blob, err);
}

static int encode_text(const struct strbuf *text, const char *out, struct error *err)
{
    json_error_t where;
    json_t *root = json_loadb(text->text, text->length, JSON_ALLOW_NUL, &where);
    if (root == NULL)
        return error_set(err, ERR_INVALID, "line %d, column %d: %s", where.line, where.column, where.text);
    struct arena arena;
    struct mebo_bytes blob;
    arena_init(&arena, 0);
    int rc = encode_json(root, &arena, &blob, err);
    if (rc == 0 && (rc = write_file(out, blob, err)) != 0)
        error_prefix(err, rc, "%s", out);
    arena_free(&arena);
    json_decref(root);
    return rc;
}

static int encode(const char *in, const char *out)
{
    struct strbuf text;
    struct error err;
    strbuf_init(&text);
    int rc = read_file(in, &text, &err);
    if (rc == 0)
        rc = encode_text(&text, out, &err);
    strbuf_free(&text);
    return rc ? complain(in, &err) : EXIT_SUCCESS;
}

/* ---- the command line ---- */

static int usage_error(const char *problem)
{
    fprintf(stderr, "chamberlain mebo: %s\n\n%s", problem, usage_text);
    return EXIT_USAGE;
}

static int encode_command(int argc, char **argv)
{
    const char *in = NULL, *out = NULL;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "-o") == 0) {
            if (++i == argc)
                return usage_error("-o needs a file");
            out = argv[i];
        } else if (in == NULL && (argv[i][0] != '-' || argv[i][1] == '\0')) {
            in = argv[i];
        } else {
            return usage_error("encode takes one FILE and -o OUT");
        }
    }
    return out ? encode(in ? in : "-", out) : usage_error("encode needs -o OUT");
}

int cli_mebo(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage_text, stdout);
            return EXIT_SUCCESS;
        }
    }
    if (argc < 2)
        return usage_error("say dump or encode");
    if (strcmp(argv[1], "dump") == 0)
        return argc == 3 ? dump(argv[2]) : usage_error("dump takes one FILE");
    if (strcmp(argv[1], "encode") == 0)
        return encode_command(argc - 2, argv + 2);
    return usage_error("the command is neither dump nor encode");
}
