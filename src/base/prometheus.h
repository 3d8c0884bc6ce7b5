/* Metrics as Prometheus reads them: the text exposition format 0.0.4 (prometheus.io/docs/instrumenting).
 *
 *     # HELP name what it is          prometheus_begin, once a name
 *     # TYPE name counter
 *     name{label="value"} 3           prometheus_add, once a set of labels
 *
 * Pure. An allocation failure is the strbuf's to remember. */
#ifndef CHAMBERLAIN_BASE_PROMETHEUS_H
#define CHAMBERLAIN_BASE_PROMETHEUS_H

#include "base/histogram.h"
#include "base/strbuf.h"

#include <stddef.h>
#include <stdint.h>

enum prometheus_kind { PROMETHEUS_COUNTER, PROMETHEUS_GAUGE, PROMETHEUS_HISTOGRAM };

struct prometheus_label {
    const char *name;
    const char *value; /* any text: it is escaped */
};

/* Begins a metric. `name` is as its samples are called (without _bucket, _sum, _count); `help` is one line.
 */
void prometheus_begin(struct strbuf *out, const char *name, enum prometheus_kind kind, const char *help);

/* One sample of the metric begun last. `labels` may be NULL when label_count is 0. */
void prometheus_add(struct strbuf *out, const char *name, const struct prometheus_label *labels,
                    size_t label_count, double value);

/* A metric with one sample and no label. */
void prometheus_single(struct strbuf *out, const char *name, enum prometheus_kind kind, const char *help,
                       double value);

/* The samples of a histogram in seconds, with PROMETHEUS_BOUNDS buckets and the one without a bound. A
 * duration is counted by the upper end of its step of `histogram`, so up to 3 % below a bound it may already
 * count as beyond it. */
void prometheus_add_histogram(struct strbuf *out, const char *name, const struct prometheus_label *labels,
                              size_t label_count, const struct histogram *histogram);

/* A histogram without labels. */
void prometheus_single_histogram(struct strbuf *out, const char *name, const char *help,
                                 const struct histogram *histogram);

/* Upper bounds of the buckets in nanoseconds, ascending: every bound that an alert or a requirement names
 * (docs/metrics.md) and a few a decade between them. */
enum { PROMETHEUS_BOUNDS = 24 };
extern const int64_t prometheus_bounds_ns[PROMETHEUS_BOUNDS];

/* The process's own: start time, CPU seconds, resident memory, threads, open files; by the names that every
 * Prometheus client uses. Reads /proc/self; what cannot be read is left out. */
void prometheus_add_process(struct strbuf *out, int64_t started_us);

#endif
