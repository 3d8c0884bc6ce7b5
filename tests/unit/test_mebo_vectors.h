/* The vectors in tests/data/mebo: blobs written by the Go library, and what they hold as JSON. */
#ifndef CHAMBERLAIN_TESTS_MEBO_VECTORS_H
#define CHAMBERLAIN_TESTS_MEBO_VECTORS_H

#include "cmocka_setup.h"

#include "mebo/mebo.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VECTOR_COUNT = 19, VECTOR_PATH_BYTES = 512 };

struct vector {
    char name[128]; /* without ".mebo" */
    unsigned char *bytes;
    size_t length;
    struct mebo_options options;
    int64_t start_time_us;
    bool has_tags;
    uint32_t magic;
    struct mebo_series *series;
    uint32_t count;
};

struct vectors {
    struct vector items[VECTOR_COUNT];
    struct arena arena;
};

static unsigned char *vector_read(const char *name, const char *ending, size_t *length)
{
    char path[VECTOR_PATH_BYTES];
    snprintf(path, sizeof path, "%s/mebo/%s%s", TEST_DATA, name, ending);
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail_msg("cannot open %s", path);
    fseek(file, 0, SEEK_END);
    *length = (size_t)ftell(file);
    rewind(file);
    unsigned char *bytes = malloc(*length + 1); /* one more for text; blobs are copied to their exact size */
    assert_int_equal(fread(bytes, 1, *length, file), *length);
    bytes[*length] = 0;
    fclose(file);
    return bytes;
}

static bool vector_flag(const json_t *root, const char *key)
{
    json_t *flag = json_object_get(root, key);
    assert_true(json_is_boolean(flag));
    return json_is_true(flag);
}

static const char *vector_text(const json_t *root, const char *key)
{
    const char *text = json_string_value(json_object_get(root, key));
    assert_non_null(text);
    return text;
}

static void vector_series(struct arena *arena, const json_t *metric, struct mebo_series *series)
{
    json_t *times = json_object_get(metric, "timestamps"), *values = json_object_get(metric, "values_hex");
    json_t *tags = json_object_get(metric, "tags"), *name = json_object_get(metric, "name");
    uint32_t count = (uint32_t)json_array_size(times);
    assert_int_equal(json_integer_value(json_object_get(metric, "count")), count);
    int64_t *t = arena_alloc(arena, count * sizeof *t);
    double *v = arena_alloc(arena, count * sizeof *v);
    struct mebo_text *g = tags ? arena_alloc(arena, count * sizeof *g) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        t[i] = json_integer_value(json_array_get(times, i));
        uint64_t bits = strtoull(json_string_value(json_array_get(values, i)), NULL, 16);
        memcpy(&v[i], &bits, sizeof bits);
        if (g) {
            const char *tag = arena_strdup(arena, json_string_value(json_array_get(tags, i)));
            g[i] = (struct mebo_text){tag, strlen(tag)};
        }
    }
    *series = (struct mebo_series){.id = strtoull(vector_text(metric, "id"), NULL, 16),
                                   .name = name ? arena_strdup(arena, json_string_value(name)) : NULL,
                                   .count = count,
                                   .times_us = t,
                                   .values = v,
                                   .tags = g};
}

static void vector_load(struct arena *arena, struct vector *vector)
{
    unsigned char *blob = vector_read(vector->name, ".mebo", &vector->length);
    vector->bytes = malloc(vector->length);
    memcpy(vector->bytes, blob, vector->length);
    free(blob);
    size_t length;
    char *text = (char *)vector_read(vector->name, ".json", &length);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    vector->magic = (uint32_t)strtoul(vector_text(root, "magic"), NULL, 16);
    vector->options.version = (enum mebo_version)vector->magic;
    vector->options.big_endian = vector_flag(root, "big_endian");
    vector->options.names = vector_flag(root, "has_metric_names");
    vector->options.shared_timestamps = vector_flag(root, "has_shared_timestamps");
    vector->has_tags = vector_flag(root, "has_tags");
    vector->start_time_us = json_integer_value(json_object_get(root, "start_time_us"));
    assert_true(mebo_encoding_parse(vector_text(root, "ts_encoding"), &vector->options.times_encoding));
    assert_true(mebo_encoding_parse(vector_text(root, "value_encoding"), &vector->options.values_encoding));
    assert_true(mebo_codec_parse(vector_text(root, "ts_compression"), &vector->options.times_codec));
    assert_true(mebo_codec_parse(vector_text(root, "value_compression"), &vector->options.values_codec));
    json_t *metrics = json_object_get(root, "metrics");
    vector->count = (uint32_t)json_array_size(metrics);
    vector->series = arena_calloc(arena, vector->count, sizeof *vector->series);
    for (uint32_t i = 0; i < vector->count; i++)
        vector_series(arena, json_array_get(metrics, i), &vector->series[i]);
    json_decref(root);
    free(text);
}

static int vector_order(const void *a, const void *b)
{
    return strcmp(((const struct vector *)a)->name, ((const struct vector *)b)->name);
}

static int vectors_setup(void **state)
{
    struct vectors *vectors = calloc(1, sizeof *vectors);
    arena_init(&vectors->arena, 0);
    DIR *dir = opendir(TEST_DATA "/mebo");
    if (dir == NULL)
        fail_msg("no %s/mebo", TEST_DATA);
    size_t found = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        size_t length = strlen(entry->d_name);
        if (length < 5 || strcmp(entry->d_name + length - 5, ".mebo") != 0)
            continue;
        assert_true(found < VECTOR_COUNT);
        snprintf(vectors->items[found++].name, sizeof vectors->items[0].name, "%.*s", (int)(length - 5),
                 entry->d_name);
    }
    closedir(dir);
    assert_int_equal(found, VECTOR_COUNT);
    qsort(vectors->items, VECTOR_COUNT, sizeof vectors->items[0], vector_order);
    for (size_t i = 0; i < VECTOR_COUNT; i++)
        vector_load(&vectors->arena, &vectors->items[i]);
    *state = vectors;
    return 0;
}

static int vectors_teardown(void **state)
{
    struct vectors *vectors = *state;
    for (size_t i = 0; i < VECTOR_COUNT; i++)
        free(vectors->items[i].bytes);
    arena_free(&vectors->arena);
    free(vectors);
    return 0;
}

/* Writes `series` with `options`; fails the test where that fails. */
static inline struct mebo_bytes series_encode(struct arena *arena, const struct mebo_options *options,
                                              int64_t start_time_us, const struct mebo_series *series,
                                              uint32_t count)
{
    struct mebo_encoder encoder;
    struct mebo_bytes blob;
    struct error err = {0};
    mebo_encoder_init(&encoder, options, start_time_us, arena);
    for (uint32_t i = 0; i < count; i++) {
        if (mebo_encoder_add(&encoder, &series[i], &err) != 0)
            fail_msg("%s", err.text);
    }
    if (mebo_encoder_finish(&encoder, &blob, &err) != 0)
        fail_msg("%s", err.text);
    return blob;
}

#endif
