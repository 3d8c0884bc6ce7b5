/* Measures encoding and decoding of T-chart blobs: nanoseconds a point, the least of several runs, and bytes
 * a point.
 *
 *     bench_mebo [--runs N] [--lam DIR] [--export DIR]
 *
 * Decoding is mebo_blob_open, all timestamps, all values, and one pass over both (XOR of all bits, so that
 * nothing is skipped). --export writes the same data for peer/, one file a kind: u32 metrics, u32 points,
 * then for each metric u64 id, points x i64 microseconds, points x f64, all little endian. */
#include "base/clock.h"
#include "base/hash.h"
#include "mebo/mebo.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { METRICS = 100, POINTS = 1000, DEFAULT_RUNS = 25, LAM_COLUMNS = 20, LAM_RUNS = 160, LAM_POINTS = 400 };

struct data {
    const char *kind;
    struct mebo_series *series; /* blobs x metrics */
    uint32_t blobs, metrics;
    uint64_t points;
};

static uint64_t random_next(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Uniform in [-1, 1). */
static double random_signed(uint64_t *state)
{
    return (double)(int64_t)random_next(state) * 0x1p-63;
}

static void *need(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "bench_mebo: out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

/* A relative walk of full precision with jittered times of its own for each metric, or rounded to 0.1 on a
 * regular 10 Hz that all metrics share. */
static struct data make_walk(struct arena *arena, bool decimal)
{
    const int64_t start_us = INT64_C(1764028807000021), period_us = 100000;
    struct data data = {.kind =
                            decimal ? "decimal 0.1, regular 10 Hz, shared" : "walk, full precision, jittered",
                        .blobs = 1,
                        .metrics = METRICS,
                        .points = METRICS * POINTS};
    uint64_t random = 42;
    data.series = need(arena_calloc(arena, METRICS, sizeof *data.series));
    for (unsigned m = 0; m < METRICS; m++) {
        int64_t *times = need(arena_alloc(arena, POINTS * sizeof *times));
        double *values = need(arena_alloc(arena, POINTS * sizeof *values));
        double walk = 20 + 400 * fabs(random_signed(&random));
        for (int i = 0; i < POINTS; i++) {
            double jitter = decimal ? 0 : random_signed(&random) * 0.001 * (double)period_us;
            walk *= 1 + 0.005 * random_signed(&random);
            times[i] = start_us + i * period_us + (int64_t)jitter;
            values[i] = decimal ? round(walk * 10) / 10 : walk;
        }
        data.series[m] =
            (struct mebo_series){.name = need(arena_printf(arena, "ETCH01.svid%u.sensor", 1000 + m)),
                                 .count = POINTS,
                                 .times_us = times,
                                 .values = values};
    }
    return data;
}

/* ---- recipe traces: one blob a file of data/lam9600, a metric a column ---- */

static uint32_t read_trace(const char *path, struct arena *arena, struct mebo_series *series)
{
    char line[1024];
    FILE *file = fopen(path, "r");
    if (file == NULL || fgets(line, sizeof line, file) == NULL) {
        fprintf(stderr, "bench_mebo: cannot read %s\n", path);
        exit(EXIT_FAILURE);
    }
    uint32_t count = 0, columns = 0;
    line[strcspn(line, "\r\n")] = '\0';
    strtok(line, ",");
    for (char *name; (name = strtok(NULL, ",")) != NULL && columns < LAM_COLUMNS; columns++)
        series[columns].name = need(arena_strdup(arena, name));
    int64_t *times = need(arena_alloc(arena, LAM_POINTS * sizeof *times));
    double(*values)[LAM_POINTS] = need(arena_alloc(arena, sizeof(double[LAM_COLUMNS][LAM_POINTS])));
    while (count < LAM_POINTS && fgets(line, sizeof line, file)) {
        char *text = strtok(line, ",\r\n");
        if (clock_parse_rfc3339(text, &times[count], NULL))
            continue;
        for (uint32_t c = 0; c < columns && (text = strtok(NULL, ",\r\n")) != NULL; c++)
            values[c][count] = strtod(text, NULL);
        count++;
    }
    fclose(file);
    for (uint32_t c = 0; c < columns; c++) {
        series[c].count = count;
        series[c].times_us = times;
        series[c].values = values[c];
    }
    return columns;
}

static struct data read_lam(struct arena *arena, const char *folder)
{
    struct data data = {.kind = "recipe traces (lam9600)"};
    DIR *dir = opendir(folder);
    data.series = need(arena_calloc(arena, LAM_RUNS * LAM_COLUMNS, sizeof *data.series));
    for (struct dirent *entry; dir && data.blobs < LAM_RUNS && (entry = readdir(dir)) != NULL;) {
        if (entry->d_name[0] != 'l' || strstr(entry->d_name, ".csv") == NULL)
            continue;
        struct mebo_series *series = data.series + data.blobs * LAM_COLUMNS;
        data.metrics = read_trace(need(arena_printf(arena, "%s/%s", folder, entry->d_name)), arena, series);
        data.points += (uint64_t)data.metrics * series[0].count;
        data.blobs++;
    }
    if (dir)
        closedir(dir);
    return data;
}

/* ---- measuring ---- */

struct result {
    double encode_ns, decode_ns, bytes;
};

static struct mebo_bytes encode_blob(const struct data *data, uint32_t blob,
                                     const struct mebo_options *options, struct arena *arena)
{
    struct mebo_encoder encoder;
    struct mebo_bytes bytes;
    struct error err;
    const struct mebo_series *series = data->series + (size_t)blob * data->metrics;
    mebo_encoder_init(&encoder, options, series[0].times_us[0], arena);
    int rc = 0;
    for (uint32_t m = 0; m < data->metrics && rc == 0; m++)
        rc = mebo_encoder_add(&encoder, &series[m], &err);
    if (rc || mebo_encoder_finish(&encoder, &bytes, &err)) {
        fprintf(stderr, "bench_mebo: %s\n", err.text);
        exit(EXIT_FAILURE);
    }
    return bytes;
}

static uint64_t decode_blob(struct mebo_bytes bytes, double *values, struct arena *arena)
{
    struct mebo_blob blob;
    struct error err = {0};
    uint64_t seen = 0;
    int rc = mebo_blob_open(&blob, bytes.data, bytes.length, arena, NULL, &err);
    for (uint32_t m = 0; rc == 0 && m < blob.header.metric_count; m++) {
        const int64_t *times;
        uint32_t count = blob.metrics[m].count;
        rc = mebo_blob_timestamps(&blob, m, &times, &err);
        if (rc == 0)
            rc = mebo_blob_values(&blob, m, values, &err);
        for (uint32_t i = 0; rc == 0 && i < count; i++) {
            uint64_t bits;
            memcpy(&bits, &values[i], sizeof bits);
            seen ^= bits ^ (uint64_t)times[i];
        }
    }
    if (rc) {
        fprintf(stderr, "bench_mebo: %s\n", err.text);
        exit(EXIT_FAILURE);
    }
    return seen;
}

static uint64_t checksum(const struct data *data)
{
    uint64_t seen = 0;
    for (size_t s = 0; s < (size_t)data->blobs * data->metrics; s++) {
        for (uint32_t i = 0; i < data->series[s].count; i++) {
            uint64_t bits;
            memcpy(&bits, &data->series[s].values[i], sizeof bits);
            seen ^= bits ^ (uint64_t)data->series[s].times_us[i];
        }
    }
    return seen;
}

/* Blobs are written into one arena and read from copies, as they would come from a store. */
static struct result measure(const struct data *data, const struct mebo_options *options, int runs)
{
    struct result result = {.encode_ns = INFINITY, .decode_ns = INFINITY};
    struct arena arena, kept;
    struct mebo_bytes *blobs = need(calloc(data->blobs, sizeof *blobs));
    double *values = need(malloc(POINTS * sizeof *values));
    arena_init(&arena, 1 << 20);
    arena_init(&kept, 1 << 20);
    for (int run = 0; run < runs; run++) {
        int64_t start = clock_mono_ns();
        for (uint32_t b = 0; b < data->blobs; b++) {
            struct mebo_bytes bytes = encode_blob(data, b, options, &arena);
            if (run == 0) {
                blobs[b] =
                    (struct mebo_bytes){need(arena_strndup(&kept, bytes.data, bytes.length)), bytes.length};
                result.bytes += (double)bytes.length / (double)data->points;
            }
            arena_reset(&arena);
        }
        result.encode_ns = fmin(result.encode_ns, (double)(clock_mono_ns() - start) / (double)data->points);
    }
    uint64_t want = checksum(data);
    for (int run = 0; run < runs; run++) {
        uint64_t seen = 0;
        int64_t start = clock_mono_ns();
        for (uint32_t b = 0; b < data->blobs; b++) {
            seen ^= decode_blob(blobs[b], values, &arena);
            arena_reset(&arena);
        }
        result.decode_ns = fmin(result.decode_ns, (double)(clock_mono_ns() - start) / (double)data->points);
        if (seen != want) {
            fprintf(stderr, "bench_mebo: decoded points differ from the encoded ones\n");
            exit(EXIT_FAILURE);
        }
    }
    free(blobs);
    free(values);
    arena_free(&arena);
    arena_free(&kept);
    return result;
}

static void print_row(const struct data *data, struct mebo_options options, int runs)
{
    struct result r = measure(data, &options, runs);
    printf("| %s+%s %s%s | %.2f | %.2f | %.3f |\n", mebo_encoding_name(options.times_encoding),
           mebo_encoding_name(options.values_encoding), mebo_codec_name(options.values_codec),
           options.shared_timestamps ? " v2shared" : "", r.encode_ns, r.decode_ns, r.bytes);
    fflush(stdout);
}

static void print_table(const struct data *data, int runs)
{
    static const enum mebo_encoding times[] = {MEBO_RAW, MEBO_DELTA, MEBO_DELTA_PACKED};
    static const enum mebo_encoding values[] = {MEBO_RAW, MEBO_GORILLA, MEBO_CHIMP, MEBO_ALP};
    printf(
        "\n## %u blob%s of %u metrics, %llu points: %s\n\n| encoding | encode ns/pt | decode ns/pt | B/pt |\n"
        "|---|---|---|---|\n",
        data->blobs, data->blobs == 1 ? "" : "s", data->metrics, (unsigned long long)data->points,
        data->kind);
    struct mebo_options options = mebo_options_default();
    for (unsigned i = 0; i < 12; i++) {
        options.times_encoding = times[i / 4];
        options.values_encoding = values[i % 4];
        print_row(data, options, runs);
    }
    for (enum mebo_codec codec = MEBO_ZSTD; codec <= MEBO_LZ4; codec++) {
        options.times_codec = options.values_codec = codec;
        options.times_encoding = options.values_encoding = MEBO_RAW;
        print_row(data, options, runs);
        options.times_encoding = MEBO_DELTA;
        options.values_encoding = MEBO_GORILLA;
        print_row(data, options, runs);
    }
    options.version = MEBO_V2;
    options.shared_timestamps = true;
    for (enum mebo_codec codec = MEBO_NONE; codec <= MEBO_ZSTD; codec++) {
        options.times_codec = options.values_codec = codec;
        for (unsigned i = 1; i < 4; i++) {
            options.values_encoding = values[i];
            print_row(data, options, runs);
        }
    }
}

static void export_data(const struct data *data, const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.bin", folder, name);
    FILE *file = fopen(path, "wb");
    const uint32_t shape[2] = {data->metrics, data->series[0].count};
    bool sound = file && fwrite(shape, sizeof shape, 1, file) == 1;
    for (uint32_t m = 0; sound && m < data->metrics; m++) {
        const struct mebo_series *s = &data->series[m];
        uint64_t id = hash64_text(s->name);
        sound = fwrite(&id, sizeof id, 1, file) == 1 &&
                fwrite(s->times_us, sizeof *s->times_us, s->count, file) == s->count &&
                fwrite(s->values, sizeof *s->values, s->count, file) == s->count;
    }
    if (!sound || fclose(file) != 0) {
        fprintf(stderr, "bench_mebo: cannot write %s\n", path);
        exit(EXIT_FAILURE);
    }
}

int main(int argc, char **argv)
{
    int runs = DEFAULT_RUNS;
    const char *lam = NULL, *folder = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--runs") == 0)
            runs = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--lam") == 0)
            lam = argv[i + 1];
        else if (strcmp(argv[i], "--export") == 0)
            folder = argv[i + 1];
    }
    struct arena arena;
    arena_init(&arena, 1 << 20);
    struct data walk = make_walk(&arena, false), decimal = make_walk(&arena, true);
    if (folder) {
        export_data(&walk, folder, "walk");
        export_data(&decimal, folder, "decimal");
    }
    printf("# libmebo, one thread, least of %d runs\n", runs);
    print_table(&walk, runs);
    print_table(&decimal, runs);
    if (lam) {
        struct data traces = read_lam(&arena, lam);
        if (traces.blobs > 0)
            print_table(&traces, runs);
    }
    arena_free(&arena);
    return EXIT_SUCCESS;
}
