#include "base/prometheus.h"

#include "base/clock.h"

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MS INT64_C(1000000)

const int64_t prometheus_bounds_ns[PROMETHEUS_BOUNDS] = {
    MS / 20,   MS / 10,   MS / 2,    1 * MS,     2 * MS,     5 * MS,     10 * MS,    20 * MS,
    50 * MS,   100 * MS,  200 * MS,  500 * MS,   1000 * MS,  1500 * MS,  2000 * MS,  3000 * MS,
    5000 * MS, 7000 * MS, 8000 * MS, 10000 * MS, 12000 * MS, 15000 * MS, 30000 * MS, 60000 * MS};

void prometheus_begin(struct strbuf *out, const char *name, enum prometheus_kind kind, const char *help)
{
    static const char *const kinds[] = {
        [PROMETHEUS_COUNTER] = "counter", [PROMETHEUS_GAUGE] = "gauge", [PROMETHEUS_HISTOGRAM] = "histogram"};
    strbuf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kinds[kind]);
}

/* Backslash, quote and line feed are the format's own; the rest of UTF-8 stands as it is. */
static void add_label_value(struct strbuf *out, const char *value)
{
    for (const char *c = value; *c; c++) {
        if (*c == '\\' || *c == '"')
            strbuf_add_char(out, '\\');
        if (*c == '\n')
            strbuf_add(out, "\\n");
        else
            strbuf_add_char(out, *c);
    }
}

/* "{a="b",le="0.5"}"; nothing without labels. `bound` may be NULL. */
static void add_labels(struct strbuf *out, const struct prometheus_label *labels, size_t count,
                       const char *bound)
{
    if (count == 0 && bound == NULL)
        return;
    strbuf_add_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        strbuf_printf(out, "%s%s=\"", i ? "," : "", labels[i].name);
        add_label_value(out, labels[i].value ? labels[i].value : "");
        strbuf_add_char(out, '"');
    }
    if (bound)
        strbuf_printf(out, "%sle=\"%s\"", count ? "," : "", bound);
    strbuf_add_char(out, '}');
}

static void add_value(struct strbuf *out, double value)
{
    if (isnan(value))
        strbuf_add(out, " NaN\n");
    else if (isinf(value))
        strbuf_add(out, value > 0 ? " +Inf\n" : " -Inf\n");
    else if (value == floor(value) && fabs(value) < 9007199254740992.0) /* 2^53: whole numbers are exact */
        strbuf_printf(out, " %" PRId64 "\n", (int64_t)value);
    else
        strbuf_printf(out, " %.12g\n", value);
}

void prometheus_add(struct strbuf *out, const char *name, const struct prometheus_label *labels,
                    size_t label_count, double value)
{
    strbuf_add(out, name);
    add_labels(out, labels, label_count, NULL);
    add_value(out, value);
}

void prometheus_single(struct strbuf *out, const char *name, enum prometheus_kind kind, const char *help,
                       double value)
{
    prometheus_begin(out, name, kind, help);
    prometheus_add(out, name, NULL, 0, value);
}

static void add_bucket(struct strbuf *out, const char *name, const struct prometheus_label *labels,
                       size_t label_count, const char *bound, uint64_t count)
{
    strbuf_printf(out, "%s_bucket", name);
    add_labels(out, labels, label_count, bound);
    strbuf_printf(out, " %" PRIu64 "\n", count);
}

void prometheus_add_histogram(struct strbuf *out, const char *name, const struct prometheus_label *labels,
                              size_t label_count, const struct histogram *histogram)
{
    uint64_t counts[PROMETHEUS_BOUNDS];
    histogram_count_until(histogram, prometheus_bounds_ns, PROMETHEUS_BOUNDS, counts);
    for (size_t i = 0; i < PROMETHEUS_BOUNDS; i++) {
        char bound[32];
        snprintf(bound, sizeof bound, "%.9g", (double)prometheus_bounds_ns[i] / 1e9);
        add_bucket(out, name, labels, label_count, bound, counts[i]);
    }
    add_bucket(out, name, labels, label_count, "+Inf", histogram->count);
    strbuf_printf(out, "%s_sum", name);
    add_labels(out, labels, label_count, NULL);
    add_value(out, (double)histogram->sum_ns / 1e9);
    strbuf_printf(out, "%s_count", name);
    add_labels(out, labels, label_count, NULL);
    strbuf_printf(out, " %" PRIu64 "\n", histogram->count);
}

void prometheus_single_histogram(struct strbuf *out, const char *name, const char *help,
                                 const struct histogram *histogram)
{
    prometheus_begin(out, name, PROMETHEUS_HISTOGRAM, help);
    prometheus_add_histogram(out, name, NULL, 0, histogram);
}

/* --- the process --- */

/* Resident bytes and threads, from the lines "VmRSS: N kB" and "Threads: N". */
static void add_memory(struct strbuf *out)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    long long value;
    if (file == NULL)
        return;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "VmRSS: %lld kB", &value) == 1)
            prometheus_single(out, "process_resident_memory_bytes", PROMETHEUS_GAUGE,
                              "Resident memory in bytes.", (double)value * 1024);
        else if (sscanf(line, "Threads: %lld", &value) == 1)
            prometheus_single(out, "process_threads", PROMETHEUS_GAUGE, "Threads of the process.",
                              (double)value);
    }
    fclose(file);
}

static void add_files(struct strbuf *out)
{
    DIR *dir = opendir("/proc/self/fd");
    double count = -1; /* the directory itself */
    if (dir == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    prometheus_single(out, "process_open_fds", PROMETHEUS_GAUGE, "Open file descriptors.", count);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        prometheus_single(out, "process_max_fds", PROMETHEUS_GAUGE, "How many may be open.",
                          (double)limit.rlim_cur);
}

void prometheus_add_process(struct strbuf *out, int64_t started_us)
{
    struct rusage usage;
    prometheus_single(out, "process_start_time_seconds", PROMETHEUS_GAUGE,
                      "When the process started, in seconds since 1970.",
                      (double)started_us / (double)CLOCK_US_PER_SECOND);
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        prometheus_single(out, "process_cpu_seconds_total", PROMETHEUS_COUNTER,
                          "User and system time used, in seconds.",
                          (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                              (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    add_memory(out);
    add_files(out);
}
