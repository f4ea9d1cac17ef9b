/* SPDX-License-Identifier: Apache-2.0
 *
 * model/metrics.h: counters, gauges and histograms, and their Prometheus text.
 *
 * Series are made at start (locked) and changed with relaxed atomics: one add a batch, not an
 * event. Names get the prefix "weir_". Thread: any.
 */
#ifndef WR_MODEL_METRICS_H
#define WR_MODEL_METRICS_H

#include <base/buf.h>
#include <weir/host.h>

struct wr_metrics;

enum wr_metric_type { WR_COUNTER, WR_GAUGE, WR_HISTOGRAM };

struct wr_label {
    const char *name;
    struct weir_str value;
};

struct wr_metrics *wr_metrics_new(uint32_t max_series);
void wr_metrics_free(struct wr_metrics *m);

/* The series with that name and these labels, made on first use; all is copied. NULL where
 * max_series is reached (counted in weir_metrics_series_dropped_total), or where the name exists
 * with another type. Counter names should end in _total. */
struct weir_metric *wr_metric(struct wr_metrics *m, enum wr_metric_type type, const char *name,
                              const char *help, const struct wr_label *labels, uint32_t n_labels);

/* NULL is allowed as metric in all of these. */
void wr_metric_add(struct weir_metric *metric, uint64_t n);
void wr_metric_set(struct weir_metric *metric, double v); /* NaN: left out of scrapes until set */
void wr_metric_observe(struct weir_metric *metric, double seconds);
void wr_metric_observe_n(struct weir_metric *metric, double seconds, uint64_t n);
double wr_metric_value(const struct weir_metric *metric); /* counter, gauge; sum of a histogram */

/* fn runs before each scrape, to set gauges that are read from live state. */
void wr_metrics_on_scrape(struct wr_metrics *m, void (*fn)(void *arg), void *arg);
void wr_metrics_off_scrape(struct wr_metrics *m, void *arg); /* waits for a running scrape */

/* Prometheus text format 0.0.4: HELP and TYPE once a family, labels escaped. */
void wr_metrics_print(struct wr_metrics *m, struct wr_buf *out);

#endif
