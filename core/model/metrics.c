/* SPDX-License-Identifier: Apache-2.0
 *
 * model/metrics.c: families of series, kept sorted so that the text of a scrape is always in the
 * same order.
 *
 * Names and label values may come from scripts and from the outside (a topic, a path): names are
 * brought into Prometheus' alphabet, values are cut and escaped, the number of series is capped.
 * Locks, taken in this order: `scrape` is held while callbacks run and a text is made, `lock` while
 * families and series are looked up or walked. Changing a series takes none.
 */
#include <base/check.h>
#include <base/mem.h>
#include <base/str.h>
#include <inttypes.h>
#include <math.h>
#include <model/metrics.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define LABELS_MAX 16
#define LABEL_VALUE_MAX 512
#define NAME_MAX_BYTES 200
#define CACHE_LINE 64

static const double bounds[] = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                0.025,  0.05,    0.1,    0.25,  0.5,    1,     2.5,
                                5,      10,      25,     50,    100};
#define N_BUCKETS (WR_COUNT(bounds) + 1)

/* The padding keeps what other threads write off this series' cache lines, wherever the heap puts
 * it. */
struct weir_metric {
    enum wr_metric_type type;
    char *labels; /* a="x",b="y": also its identity inside the family */
    char pad_before[CACHE_LINE];
    _Atomic uint64_t value;    /* counter; bits of a double: gauge, sum of a histogram */
    _Atomic uint64_t *buckets; /* histogram: N_BUCKETS, each counted once */
    char pad_after[CACHE_LINE];
};

struct family {
    char *name;
    char *help;
    enum wr_metric_type type;
    struct weir_metric **series; /* by labels */
    uint32_t n, cap;
};

struct callback {
    void (*fn)(void *arg);
    void *arg;
};

struct wr_metrics {
    pthread_mutex_t scrape;
    struct callback *callbacks;
    uint32_t n_callbacks;
    pthread_mutex_t lock;
    struct family **families; /* by name */
    uint32_t n, cap;
    uint32_t n_series, max_series;
    struct weir_metric *dropped;
};

/* ---- Names and labels ---- */

/* Prometheus' alphabet; anything else becomes '_'. */
static void put_name(struct wr_buf *b, const char *name)
{
    if (name == NULL || name[0] == '\0' || (name[0] >= '0' && name[0] <= '9'))
        wr_buf_text(b, "_");
    for (size_t i = 0; name != NULL && name[i] != '\0' && i < NAME_MAX_BYTES; i++) {
        char c = name[i];
        bool ok =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        wr_buf_add(b, ok ? &c : "_", 1);
    }
}

/* Escapes for a label value; with quote false for a HELP text. NUL and bytes that are not UTF-8
 * become U+FFFD. */
static void put_escaped(struct wr_buf *b, struct weir_str s, bool quote)
{
    while (s.len > 0) {
        size_t good = wr_utf8_check(s);
        for (size_t i = 0; i < good; i++) {
            if (s.ptr[i] == '\\')
                wr_buf_text(b, "\\\\");
            else if (s.ptr[i] == '\n')
                wr_buf_text(b, "\\n");
            else if (s.ptr[i] == '"' && quote)
                wr_buf_text(b, "\\\"");
            else if (s.ptr[i] == '\0')
                wr_buf_text(b, "\xef\xbf\xbd");
            else
                wr_buf_add(b, s.ptr + i, 1);
        }
        if (good < s.len)
            wr_buf_text(b, "\xef\xbf\xbd");
        size_t step = good < s.len ? good + 1 : good;
        s = weir_str_n(s.ptr + step, s.len - step);
    }
}

/* At most LABEL_VALUE_MAX bytes, cut between characters. */
static struct weir_str cut_value(struct weir_str v)
{
    if (v.len <= LABEL_VALUE_MAX)
        return v;
    v.len = LABEL_VALUE_MAX;
    while (v.len > 0 && ((unsigned char)v.ptr[v.len] & 0xc0) == 0x80)
        v.len--;
    return v;
}

struct named_label {
    struct wr_buf name;
    struct weir_str value;
};

static bool name_taken(const struct named_label *labels, uint32_t n, struct weir_str name)
{
    for (uint32_t i = 0; i < n; i++) {
        if (wr_str_eq(wr_buf_view(&labels[i].name), name))
            return true;
    }
    return wr_str_is(name, "le");
}

static int by_label_name(const void *a, const void *b)
{
    return strcmp(((const struct named_label *)a)->name.ptr,
                  ((const struct named_label *)b)->name.ptr);
}

/* The labels in the order of their names, so that the order of the caller makes no difference. A
 * name that is taken gets "exported_" in front, as Prometheus itself does it. */
static void put_labels(struct wr_buf *out, const struct wr_label *labels, uint32_t n)
{
    struct named_label tmp[LABELS_MAX] = {0};
    uint32_t count = 0;
    for (uint32_t i = 0; i < n && count < LABELS_MAX; i++) {
        struct named_label *l = &tmp[count];
        put_name(&l->name, labels[i].name);
        while (name_taken(tmp, count, wr_buf_view(&l->name))) {
            struct wr_buf longer = {0};
            wr_buf_printf(&longer, "exported_%s", l->name.ptr);
            wr_buf_done(&l->name);
            l->name = longer;
        }
        l->value = cut_value(labels[i].value);
        count++;
    }
    qsort(tmp, count, sizeof(tmp[0]), by_label_name);
    for (uint32_t i = 0; i < count; i++) {
        wr_buf_printf(out, "%s%s=\"", i > 0 ? "," : "", tmp[i].name.ptr);
        put_escaped(out, tmp[i].value, true);
        wr_buf_text(out, "\"");
        wr_buf_done(&tmp[i].name);
    }
}

/* ---- Families and series, under the lock ---- */

/* Index of the family with that name, or where it belongs. */
static uint32_t family_place(const struct wr_metrics *m, const char *name, bool *ret_found)
{
    uint32_t lo = 0, hi = m->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = strcmp(m->families[mid]->name, name);
        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_found = false;
    return lo;
}

static uint32_t series_place(const struct family *f, const char *labels, bool *ret_found)
{
    uint32_t lo = 0, hi = f->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = strcmp(f->series[mid]->labels, labels);
        if (c == 0) {
            *ret_found = true;
            return mid;
        }
        if (c < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    *ret_found = false;
    return lo;
}

static const char *const histogram_ends[] = {"_bucket", "_count", "_sum"};

/* A histogram x also owns the names x_bucket, x_count and x_sum. */
static bool collides(const struct wr_metrics *m, const char *name, enum wr_metric_type type)
{
    bool found = false;
    for (size_t i = 0; i < WR_COUNT(histogram_ends) && !found; i++) {
        struct wr_buf other = {0};
        size_t len = strlen(name), end = strlen(histogram_ends[i]);
        if (type == WR_HISTOGRAM) {
            wr_buf_printf(&other, "%s%s", name, histogram_ends[i]);
            family_place(m, other.ptr, &found);
        } else if (len > end && strcmp(name + len - end, histogram_ends[i]) == 0) {
            wr_buf_add(&other, name, len - end);
            uint32_t at = family_place(m, other.ptr, &found);
            found = found && m->families[at]->type == WR_HISTOGRAM;
        }
        wr_buf_done(&other);
    }
    return found;
}

/* Room for one more of `size` at place `at` of an array of n. */
static void *open_gap(void *array, size_t size, uint32_t at, uint32_t n, uint32_t *cap)
{
    if (n == *cap) {
        *cap = *cap == 0 ? 8 : *cap * 2;
        array = wr_xrealloc(array, (size_t)*cap * size);
    }
    memmove((char *)array + (at + 1) * size, (char *)array + at * size, (n - at) * size);
    return array;
}

static struct family *find_family(struct wr_metrics *m, enum wr_metric_type type, const char *name,
                                  const char *help)
{
    bool found;
    uint32_t at = family_place(m, name, &found);
    if (found)
        return m->families[at]->type == type ? m->families[at] : NULL;
    if (m->n_series >= m->max_series) {
        wr_metric_add(m->dropped, 1);
        return NULL;
    }
    if (collides(m, name, type))
        return NULL;
    struct family *f = wr_xalloc(sizeof(*f));
    f->name = wr_xstrdup(name);
    f->help = wr_xstrdup(help != NULL ? help : "");
    f->type = type;
    m->families = open_gap(m->families, sizeof(*m->families), at, m->n, &m->cap);
    m->families[at] = f;
    m->n++;
    return f;
}

static struct weir_metric *find_series(struct wr_metrics *m, struct family *f, const char *labels)
{
    bool found;
    uint32_t at = series_place(f, labels, &found);
    if (found)
        return f->series[at];
    if (m->n_series >= m->max_series) {
        wr_metric_add(m->dropped, 1);
        return NULL;
    }
    struct weir_metric *metric = wr_xalloc(sizeof(*metric));
    metric->type = f->type;
    metric->labels = wr_xstrdup(labels);
    if (f->type == WR_HISTOGRAM)
        metric->buckets = wr_xalloc(N_BUCKETS * sizeof(*metric->buckets));
    f->series = open_gap(f->series, sizeof(*f->series), at, f->n, &f->cap);
    f->series[at] = metric;
    f->n++;
    m->n_series++;
    return metric;
}

struct weir_metric *wr_metric(struct wr_metrics *m, enum wr_metric_type type, const char *name,
                              const char *help, const struct wr_label *labels, uint32_t n_labels)
{
    struct wr_buf full = {0}, text = {0};
    wr_buf_text(&full, "weir_");
    put_name(&full, name);
    wr_buf_text(&text, "");
    put_labels(&text, labels, n_labels);
    pthread_mutex_lock(&m->lock);
    struct weir_metric *metric = NULL;
    struct family *f = find_family(m, type, full.ptr, help);
    if (f != NULL)
        metric = find_series(m, f, text.ptr != NULL ? text.ptr : "");
    pthread_mutex_unlock(&m->lock);
    wr_buf_done(&full);
    wr_buf_done(&text);
    return metric;
}

struct wr_metrics *wr_metrics_new(uint32_t max_series)
{
    struct wr_metrics *m = wr_xalloc(sizeof(*m));
    pthread_mutex_init(&m->scrape, NULL);
    pthread_mutex_init(&m->lock, NULL);
    m->max_series = UINT32_MAX;
    m->dropped =
        wr_metric(m, WR_COUNTER, "metrics_series_dropped_total",
                  "Series that were asked for beyond the limit and are not there.", NULL, 0);
    m->max_series = max_series;
    m->n_series = 0;
    return m;
}

static void free_family(struct family *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        wr_free(f->series[i]->labels);
        wr_free(f->series[i]->buckets);
        wr_free(f->series[i]);
    }
    wr_free(f->series);
    wr_free(f->name);
    wr_free(f->help);
    wr_free(f);
}

void wr_metrics_free(struct wr_metrics *m)
{
    if (m == NULL)
        return;
    for (uint32_t i = 0; i < m->n; i++)
        free_family(m->families[i]);
    wr_free(m->families);
    wr_free(m->callbacks);
    pthread_mutex_destroy(&m->scrape);
    pthread_mutex_destroy(&m->lock);
    wr_free(m);
}

/* ---- Changing a series ---- */

static double get_real(const _Atomic uint64_t *bits)
{
    uint64_t raw = atomic_load_explicit(bits, memory_order_relaxed);
    double v;
    memcpy(&v, &raw, sizeof(v));
    return v;
}

static void add_real(_Atomic uint64_t *bits, double delta)
{
    uint64_t old = atomic_load_explicit(bits, memory_order_relaxed), raw;
    do {
        double v;
        memcpy(&v, &old, sizeof(v));
        v += delta;
        memcpy(&raw, &v, sizeof(raw));
    } while (!atomic_compare_exchange_weak_explicit(bits, &old, raw, memory_order_relaxed,
                                                    memory_order_relaxed));
}

void wr_metric_add(struct weir_metric *metric, uint64_t n)
{
    if (metric == NULL)
        return;
    WR_DEBUG_ON(metric->type == WR_HISTOGRAM);
    if (metric->type == WR_COUNTER)
        atomic_fetch_add_explicit(&metric->value, n, memory_order_relaxed);
    else if (metric->type == WR_GAUGE)
        add_real(&metric->value, (double)n);
}

void wr_metric_set(struct weir_metric *metric, double v)
{
    if (metric == NULL)
        return;
    WR_DEBUG_ON(metric->type != WR_GAUGE);
    if (metric->type != WR_GAUGE)
        return;
    uint64_t raw;
    memcpy(&raw, &v, sizeof(raw));
    atomic_store_explicit(&metric->value, raw, memory_order_relaxed);
}

void wr_metric_observe(struct weir_metric *metric, double seconds)
{
    wr_metric_observe_n(metric, seconds, 1);
}

void wr_metric_observe_n(struct weir_metric *metric, double seconds, uint64_t n)
{
    if (metric == NULL || n == 0 || isnan(seconds))
        return;
    WR_DEBUG_ON(metric->type != WR_HISTOGRAM);
    if (metric->type != WR_HISTOGRAM)
        return;
    double v = seconds > 0 ? seconds : 0; /* a clock that was set back makes no negative time */
    size_t i = 0;
    while (i < WR_COUNT(bounds) && v > bounds[i])
        i++;
    atomic_fetch_add_explicit(&metric->buckets[i], n, memory_order_relaxed);
    add_real(&metric->value, v * (double)n);
}

double wr_metric_value(const struct weir_metric *metric)
{
    if (metric == NULL)
        return 0;
    if (metric->type == WR_COUNTER)
        return (double)atomic_load_explicit(&metric->value, memory_order_relaxed);
    return get_real(&metric->value);
}

/* ---- Scrapes ---- */

void wr_metrics_on_scrape(struct wr_metrics *m, void (*fn)(void *arg), void *arg)
{
    pthread_mutex_lock(&m->scrape);
    m->callbacks = wr_xrealloc(m->callbacks, (m->n_callbacks + 1u) * sizeof(*m->callbacks));
    m->callbacks[m->n_callbacks++] = (struct callback){fn, arg};
    pthread_mutex_unlock(&m->scrape);
}

void wr_metrics_off_scrape(struct wr_metrics *m, void *arg)
{
    pthread_mutex_lock(&m->scrape);
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_callbacks; i++) {
        if (m->callbacks[i].arg != arg)
            m->callbacks[n++] = m->callbacks[i];
    }
    m->n_callbacks = n;
    pthread_mutex_unlock(&m->scrape);
}

static void print_real(struct wr_buf *out, double v)
{
    if (!isfinite(v)) {
        wr_buf_text(out, v > 0 ? "+Inf" : "-Inf");
        return;
    }
    char tmp[40];
    snprintf(tmp, sizeof(tmp), "%.15g", v);
    if (strtod(tmp, NULL) != v)
        snprintf(tmp, sizeof(tmp), "%.17g", v);
    wr_buf_text(out, tmp);
}

/* The count is the sum of the buckets as they were read, so that both always agree. */
static void print_histogram(struct wr_buf *out, const char *name, const struct weir_metric *s)
{
    const char *comma = s->labels[0] != '\0' ? "," : "";
    uint64_t count = 0;
    for (size_t i = 0; i < N_BUCKETS; i++) {
        count += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
        wr_buf_printf(out, "%s_bucket{%s%sle=\"", name, s->labels, comma);
        print_real(out, i < WR_COUNT(bounds) ? bounds[i] : INFINITY);
        wr_buf_printf(out, "\"} %" PRIu64 "\n", count);
    }
    const char *open = comma[0] != '\0' ? "{" : "", *close = comma[0] != '\0' ? "}" : "";
    wr_buf_printf(out, "%s_sum%s%s%s ", name, open, s->labels, close);
    print_real(out, get_real(&s->value));
    wr_buf_printf(out, "\n%s_count%s%s%s %" PRIu64 "\n", name, open, s->labels, close, count);
}

static void print_series(struct wr_buf *out, const char *name, const struct weir_metric *s)
{
    if (s->type == WR_GAUGE && isnan(get_real(&s->value)))
        return; /* it has no value now */
    if (s->type == WR_HISTOGRAM) {
        print_histogram(out, name, s);
        return;
    }
    wr_buf_text(out, name);
    if (s->labels[0] != '\0')
        wr_buf_printf(out, "{%s}", s->labels);
    wr_buf_text(out, " ");
    if (s->type == WR_COUNTER)
        wr_buf_printf(out, "%" PRIu64, atomic_load_explicit(&s->value, memory_order_relaxed));
    else
        print_real(out, get_real(&s->value));
    wr_buf_text(out, "\n");
}

void wr_metrics_print(struct wr_metrics *m, struct wr_buf *out)
{
    static const char *const type_names[] = {"counter", "gauge", "histogram"};
    pthread_mutex_lock(&m->scrape);
    for (uint32_t i = 0; i < m->n_callbacks; i++)
        m->callbacks[i].fn(m->callbacks[i].arg);
    pthread_mutex_lock(&m->lock);
    for (uint32_t i = 0; i < m->n; i++) {
        const struct family *f = m->families[i];
        if (f->n == 0)
            continue;
        wr_buf_printf(out, "# HELP %s ", f->name);
        put_escaped(out, weir_cstr(f->help), false);
        wr_buf_printf(out, "\n# TYPE %s %s\n", f->name, type_names[f->type]);
        for (uint32_t k = 0; k < f->n; k++)
            print_series(out, f->name, f->series[k]);
    }
    pthread_mutex_unlock(&m->lock);
    pthread_mutex_unlock(&m->scrape);
}
