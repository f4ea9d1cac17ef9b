/* SPDX-License-Identifier: Apache-2.0
 *
 * Metrics: the text, its order and escapes, limits, hostile names, scrapes beside writers.
 */
#include <base/check.h>
#include <model/metrics.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define DROPPED                                                                                    \
    "# HELP weir_metrics_series_dropped_total Series that were asked for beyond the limit and "    \
    "are "                                                                                         \
    "not there.\n# TYPE weir_metrics_series_dropped_total counter\n"                               \
    "weir_metrics_series_dropped_total "

static struct weir_metric *counter(struct wr_metrics *m, const char *name, const char *label,
                                   const char *value)
{
    const struct wr_label l = {label, weir_cstr(value)};
    return wr_metric(m, WR_COUNTER, name, "Help.", &l, 1);
}

static void assert_text(struct wr_metrics *m, const char *expected)
{
    struct wr_buf b = {0};
    wr_metrics_print(m, &b);
    assert_string_equal(b.ptr, expected);
    wr_buf_done(&b);
}

static void text_is_sorted(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(100);
    const struct wr_label ab[] = {{"a", weir_cstr("1")}, {"b", weir_cstr("2")}};
    const struct wr_label ba[] = {{"b", weir_cstr("2")}, {"a", weir_cstr("1")}};
    struct weir_metric *z = wr_metric(m, WR_GAUGE, "z", "The last.", NULL, 0);
    struct weir_metric *two = wr_metric(m, WR_COUNTER, "a_total", "The first.", ab, 2);
    struct weir_metric *one = counter(m, "a_total", "a", "0");
    assert_non_null(z);
    assert_ptr_equal(wr_metric(m, WR_COUNTER, "a_total", "Ignored.", ba, 2), two);
    wr_metric_add(one, 3);
    wr_metric_add(one, UINT64_MAX - 3);
    wr_metric_set(z, -1.5);
    assert_text(m, "# HELP weir_a_total The first.\n"
                   "# TYPE weir_a_total counter\n"
                   "weir_a_total{a=\"0\"} 18446744073709551615\n"
                   "weir_a_total{a=\"1\",b=\"2\"} 0\n" DROPPED "0\n"
                   "# HELP weir_z The last.\n"
                   "# TYPE weir_z gauge\n"
                   "weir_z -1.5\n");
    assert_true(wr_metric_value(z) == -1.5);
    wr_metrics_free(m);
}

static void histogram_text(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(100);
    const struct wr_label l = {"p", weir_cstr("x")};
    struct weir_metric *h = wr_metric(m, WR_HISTOGRAM, "h_seconds", "Time.", &l, 1);
    wr_metric_observe(h, 0.0001); /* a bound belongs to its bucket */
    wr_metric_observe_n(h, 0.3, 4);
    wr_metric_observe(h, 1000);
    wr_metric_observe(h, -5); /* counts as 0 */
    wr_metric_observe(h, NAN);
    struct wr_buf b = {0};
    wr_metrics_print(m, &b);
    static const char *const lines[] = {"# TYPE weir_h_seconds histogram\n",
                                        "weir_h_seconds_bucket{p=\"x\",le=\"0.0001\"} 2\n",
                                        "weir_h_seconds_bucket{p=\"x\",le=\"0.25\"} 2\n",
                                        "weir_h_seconds_bucket{p=\"x\",le=\"0.5\"} 6\n",
                                        "weir_h_seconds_bucket{p=\"x\",le=\"100\"} 6\n",
                                        "weir_h_seconds_bucket{p=\"x\",le=\"+Inf\"} 7\n",
                                        "weir_h_seconds_sum{p=\"x\"} 1001.2001\n",
                                        "weir_h_seconds_count{p=\"x\"} 7\n"};
    for (size_t i = 0; i < WR_COUNT(lines); i++) {
        if (strstr(b.ptr, lines[i]) == NULL)
            fail_msg("%s is not in\n%s", lines[i], b.ptr);
    }
    wr_buf_done(&b);
    wr_metrics_free(m);
}

static void histogram_without_labels(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(100);
    wr_metric_observe(wr_metric(m, WR_HISTOGRAM, "h", "", NULL, 0), 2);
    struct wr_buf b = {0};
    wr_metrics_print(m, &b);
    assert_non_null(strstr(b.ptr, "weir_h_bucket{le=\"2.5\"} 1\n"));
    assert_non_null(strstr(b.ptr, "\nweir_h_sum 2\nweir_h_count 1\n"));
    wr_buf_done(&b);
    wr_metrics_free(m);
}

static void label_values_are_escaped(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(100);
    const struct wr_label l = {"a", weir_str_n("q\" b\\ n\n z\0 \xff", 13)};
    wr_metric(m, WR_GAUGE, "g", "back\\slash, \"quotes\"\nand line", &l, 1);
    struct wr_buf b = {0};
    wr_metrics_print(m, &b);
    static const char expected[] =
        "# HELP weir_g back\\\\slash, \"quotes\"\\nand line\n# TYPE weir_g gauge\n"
        "weir_g{a=\"q\\\" b\\\\ n\\n z\xef\xbf\xbd \xef\xbf\xbd\"} 0\n";
    assert_true(strncmp(b.ptr, expected, sizeof(expected) - 1) == 0);
    wr_buf_done(&b);
    wr_metrics_free(m);
}

static void hostile_names(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(100);
    const struct wr_label labels[] = {{"le", weir_cstr("1")},
                                      {"a b", weir_cstr("2")},
                                      {"a-b", weir_cstr("3")},
                                      {"", weir_cstr("4")},
                                      {"9", weir_cstr("5")}};
    wr_metric(m, WR_GAUGE, "x{y} 1\n#", "", labels, WR_COUNT(labels));
    struct wr_buf b = {0};
    wr_metrics_print(m, &b);
    assert_non_null(strstr(b.ptr, "\nweir_x_y__1__{_=\"4\",_9=\"5\",a_b=\"2\",exported_a_b=\"3\","
                                  "exported_le=\"1\"} 0\n"));
    wr_buf_done(&b);
    wr_metrics_free(m);
}

static void long_values_are_cut(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(100);
    static char big[4096];
    for (size_t i = 0; i + 3 <= sizeof(big); i += 3)
        memcpy(big + i, "\xe2\x82\xac", 3);
    const struct wr_label l = {"a", weir_str_n(big, sizeof(big))};
    wr_metric(m, WR_GAUGE, "g", "", &l, 1);
    struct wr_buf b = {0};
    wr_metrics_print(m, &b);
    const char *at = strstr(b.ptr, "weir_g{a=\"");
    assert_non_null(at);
    assert_int_equal(strcspn(at + 10, "\""), 510); /* 170 characters, none cut in two */
    wr_buf_done(&b);
    wr_metrics_free(m);
}

static void odd_numbers(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(100);
    struct weir_metric *g = wr_metric(m, WR_GAUGE, "z", "", NULL, 0);
    static const struct {
        double v;
        const char *text;
    } cases[] = {{INFINITY, "weir_z +Inf\n"},
                 {-INFINITY, "weir_z -Inf\n"}, {1.0 / 3, "weir_z 0.33333333333333331\n"},
                 {1e18, "weir_z 1e+18\n"},     {1700000000.25, "weir_z 1700000000.25\n"}};
    for (size_t i = 0; i < WR_COUNT(cases); i++) {
        wr_metric_set(g, cases[i].v);
        struct wr_buf b = {0};
        wr_metrics_print(m, &b);
        assert_non_null(strstr(b.ptr, cases[i].text));
        wr_buf_done(&b);
    }
    wr_metric_set(g, NAN);
    struct wr_buf none = {0};
    wr_metrics_print(m, &none);
    assert_null(strstr(none.ptr, "\nweir_z"));
    wr_buf_done(&none);
    wr_metric_set(g, 1);
    wr_metric_add(g, 2);
    assert_true(wr_metric_value(g) == 3);
    wr_metrics_free(m);
}

static void types_do_not_mix(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(100);
    assert_non_null(wr_metric(m, WR_COUNTER, "x", "", NULL, 0));
    assert_null(wr_metric(m, WR_GAUGE, "x", "", NULL, 0));
    assert_non_null(wr_metric(m, WR_HISTOGRAM, "h", "", NULL, 0));
    assert_null(wr_metric(m, WR_COUNTER, "h_count", "", NULL, 0));
    assert_null(wr_metric(m, WR_GAUGE, "h_bucket", "", NULL, 0));
    assert_non_null(wr_metric(m, WR_GAUGE, "k_sum", "", NULL, 0));
    assert_null(wr_metric(m, WR_HISTOGRAM, "k", "", NULL, 0));
    wr_metrics_free(m);
}

static void series_are_capped(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(3);
    char value[16];
    for (int i = 0; i < 10; i++) {
        snprintf(value, sizeof(value), "v%d", i);
        assert_true((counter(m, "c_total", "a", value) != NULL) == (i < 3));
    }
    assert_null(wr_metric(m, WR_GAUGE, "another", "", NULL, 0));
    assert_non_null(counter(m, "c_total", "a", "v0")); /* what is there is still found */
    assert_text(
        m, "# HELP weir_c_total Help.\n# TYPE weir_c_total counter\n"
           "weir_c_total{a=\"v0\"} 0\nweir_c_total{a=\"v1\"} 0\nweir_c_total{a=\"v2\"} 0\n" DROPPED
           "8\n");
    wr_metrics_free(m);
}

static void no_metric_is_fine(void **state)
{
    (void)state;
    wr_metric_add(NULL, 1);
    wr_metric_set(NULL, 1);
    wr_metric_observe(NULL, 1);
    wr_metric_observe_n(NULL, 1, 2);
    assert_true(wr_metric_value(NULL) == 0);
    wr_metrics_free(NULL);
}

struct live {
    struct wr_metrics *m;
    struct weir_metric *gauge;
    int calls;
};

static void on_scrape(void *arg)
{
    struct live *live = arg;
    live->calls++;
    wr_metric_set(live->gauge, live->calls);
    counter(live->m, "made_in_a_scrape_total", "a", "b"); /* allowed */
}

static void callbacks_run_before_the_text(void **state)
{
    (void)state;
    struct live live = {.m = wr_metrics_new(10)};
    live.gauge = wr_metric(live.m, WR_GAUGE, "live", "", NULL, 0);
    wr_metrics_on_scrape(live.m, on_scrape, &live);
    struct wr_buf b = {0};
    wr_metrics_print(live.m, &b);
    assert_non_null(strstr(b.ptr, "\nweir_live 1\n"));
    wr_metrics_off_scrape(live.m, &live);
    wr_metrics_print(live.m, &b);
    assert_int_equal(live.calls, 1);
    wr_buf_done(&b);
    wr_metrics_free(live.m);
}

#define ROUNDS 20000

static void *add_many(void *arg)
{
    struct wr_metrics *m = arg;
    struct weir_metric *c = counter(m, "shared_total", "a", "b");
    struct weir_metric *h = wr_metric(m, WR_HISTOGRAM, "shared_seconds", "", NULL, 0);
    char name[16];
    for (int i = 0; i < ROUNDS; i++) {
        wr_metric_add(c, 2);
        wr_metric_observe_n(h, 0.5, 3);
        if (i % 1000 == 0) {
            snprintf(name, sizeof(name), "v%d", i);
            wr_metric_add(counter(m, "made_total", "a", name), 1);
        }
    }
    return NULL;
}

/* Every text of a scrape beside four writers is consistent in itself. */
static void threads_write_while_scraped(void **state)
{
    (void)state;
    struct wr_metrics *m = wr_metrics_new(1000);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, m), 0);
    for (int i = 0; i < 50; i++) {
        struct live live = {.m = m, .gauge = NULL};
        wr_metrics_on_scrape(m, on_scrape, &live);
        struct wr_buf b = {0};
        wr_metrics_print(m, &b);
        const char *inf = strstr(b.ptr, "weir_shared_seconds_bucket{le=\"+Inf\"} ");
        const char *count = strstr(b.ptr, "weir_shared_seconds_count ");
        if (inf != NULL)
            assert_int_equal(strtoull(inf + 38, NULL, 10), strtoull(count + 26, NULL, 10));
        wr_buf_done(&b);
        wr_metrics_off_scrape(m, &live);
        assert_int_equal(live.calls, 1);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_true(wr_metric_value(counter(m, "shared_total", "a", "b")) == 4.0 * ROUNDS * 2);
    assert_true(wr_metric_value(wr_metric(m, WR_HISTOGRAM, "shared_seconds", "", NULL, 0)) ==
                4.0 * ROUNDS * 1.5);
    assert_true(wr_metric_value(counter(m, "made_total", "a", "v0")) == 4);
    wr_metrics_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_sorted),
        cmocka_unit_test(histogram_text),
        cmocka_unit_test(histogram_without_labels),
        cmocka_unit_test(label_values_are_escaped),
        cmocka_unit_test(hostile_names),
        cmocka_unit_test(long_values_are_cut),
        cmocka_unit_test(odd_numbers),
        cmocka_unit_test(types_do_not_mix),
        cmocka_unit_test(series_are_capped),
        cmocka_unit_test(no_metric_is_fine),
        cmocka_unit_test(callbacks_run_before_the_text),
        cmocka_unit_test(threads_write_while_scraped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
