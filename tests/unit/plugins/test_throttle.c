/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform throttle: its buckets by themselves, and in the engine with a clock that the test moves.
 */
#include "flow_rig.h"

#include <engine/host.h>
#include <math.h>

#include "../../../plugins/throttle/buckets.c"

/* ---- Buckets ---- */

static uint64_t host_random(const struct weir_host *h)
{
    (void)h;
    return 42;
}

static struct buckets *make(double rate, int64_t burst, uint32_t keys)
{
    struct weir_host h = *wr_host_control();
    const struct buckets_config config = {rate, burst, keys};
    h.random = host_random;
    return buckets_new(&h, &config);
}

static struct weir_str one = {"k", 1};

/* Takes n tokens as soon as there are some; each wake-up comes so much too late. Returns the seconds. */
static double time_of(struct buckets *b, uint32_t n, int64_t late_ns)
{
    int64_t begin = 5 * WEIR_NS_PER_S, now = begin, when = 0;
    bool waits = false;
    for (uint32_t i = 0; i < n;) {
        if (buckets_take(b, one, now, waits ? 10 * WEIR_NS_PER_MS : 0, &when) == BUCKET_TAKEN) {
            i++;
            continue;
        }
        assert_true(when > now);
        now = when + late_ns;
        waits = true;
    }
    return (double)(now - begin) / 1e9;
}

static void test_the_rate_is_exact_over_long_runs(void **state)
{
    static const double rates[] = {0.001, 0.3, 1, 3, 7.3, 99.9, 1000.0 / 3, 12345.678, 1e6, 3e8};
    (void)state;
    for (size_t i = 0; i < WR_COUNT(rates); i++) {
        uint32_t n = 1000001;
        struct buckets *b = make(rates[i], 1, 1);
        double expected = (n - 1) / rates[i], took = time_of(b, n, 0);
        assert_true(fabs(took - expected) <= expected * 1e-9 + 2e-9);
        buckets_free(b);
    }
}

static void test_a_late_wake_up_loses_nothing_of_the_rate(void **state)
{
    (void)state;
    struct buckets *b = make(100, 1, 1);
    double took = time_of(b, 10001, 9 * WEIR_NS_PER_MS);
    assert_true(fabs(took - 100) < 0.02);
    buckets_free(b);
    b = make(10000, 1, 1); /* tens of tokens each time */
    took = time_of(b, 100001, 5 * WEIR_NS_PER_MS);
    assert_true(fabs(took - 10) < 0.02);
    buckets_free(b);
    b = make(10, 1, 1); /* and one that comes far too late does not make up for it */
    took = time_of(b, 101, 50 * WEIR_NS_PER_MS);
    assert_true(took > 13);
    buckets_free(b);
}

static uint32_t take_all(struct buckets *b, int64_t now)
{
    uint32_t n = 0;
    int64_t when;
    while (buckets_take(b, one, now, 0, &when) == BUCKET_TAKEN)
        n++;
    return n;
}

static void test_after_a_pause_there_is_a_burst_and_no_more(void **state)
{
    int64_t now = WEIR_NS_PER_S;
    (void)state;
    struct buckets *b = make(10, 25, 1);
    assert_int_equal(take_all(b, now), 25);
    assert_int_equal(take_all(b, now), 0);
    now += WEIR_NS_PER_S / 2;
    assert_int_equal(take_all(b, now), 5);
    now += 100 * WEIR_NS_PER_S;
    assert_int_equal(take_all(b, now), 25);
    now += WEIR_NS_PER_S / 10 - 1;
    assert_int_equal(take_all(b, now), 0);
    assert_int_equal(take_all(b, now + 1), 1);
    buckets_free(b);
}

static void test_the_largest_numbers_do_not_overflow(void **state)
{
    int64_t when = 0;
    (void)state;
    struct buckets *b = make(RATE_MIN, 1000000000, 1);
    assert_int_equal(buckets_take(b, one, INT64_MAX / 2, 0, &when), BUCKET_TAKEN);
    buckets_free(b);
    b = make(RATE_MIN, 1, 1);
    assert_int_equal(buckets_take(b, one, INT64_MAX - 1, 0, &when), BUCKET_TAKEN);
    assert_int_equal(buckets_take(b, one, INT64_MAX - 1, 0, &when), BUCKET_EMPTY);
    assert_true(when == INT64_MAX);
    buckets_free(b);
    b = make(RATE_MAX, 1, 1);
    assert_int_equal(take_all(b, 0), 1);
    assert_int_equal(take_all(b, 1), 1);
    buckets_free(b);
}

static void test_keys_are_bounded_and_the_longest_unused_goes(void **state)
{
    uint32_t n_keys;
    uint64_t forgotten;
    int64_t when, now = WEIR_NS_PER_S;
    (void)state;
    size_t before = wr_mem_used();
    struct buckets *b = make(1, 1, 100);
    for (int i = 0; i < 100000; i++) {
        char text[16];
        struct weir_str key = {text, (size_t)snprintf(text, sizeof(text), "%d", i)};
        assert_int_equal(buckets_take(b, key, now, 0, &when), BUCKET_TAKEN);
        assert_int_equal(buckets_take(b, (struct weir_str){"0", 1}, now, 0, &when), BUCKET_EMPTY);
    }
    buckets_report(b, &n_keys, &forgotten);
    assert_int_equal(n_keys, 100);
    assert_int_equal(forgotten, 100000 - 100);
    buckets_report(b, &n_keys, &forgotten);
    assert_int_equal(forgotten, 0);
    now += 2 * WEIR_NS_PER_S; /* nothing is lost with a bucket that is full again */
    for (int i = 0; i < 200; i++) {
        char text[16];
        struct weir_str key = {text, (size_t)snprintf(text, sizeof(text), "n%d", i)};
        now += WEIR_NS_PER_S;
        assert_int_equal(buckets_take(b, key, now, 0, &when), BUCKET_TAKEN);
    }
    buckets_report(b, &n_keys, &forgotten);
    assert_int_equal(n_keys, 100);
    assert_int_equal(forgotten, 0);
    buckets_free(b);
    assert_int_equal(wr_mem_used(), before);
}

/* ---- In the engine ---- */

static uint32_t n_seen(struct rig *r, uint32_t sink)
{
    uint32_t n = 0;
    for (const char *at = r->script[sink].seen; *at != '\0'; at++)
        n += *at == ',';
    return n;
}

static const char hundred[] =
    "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 "
    "35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65 66 "
    "67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82 83 84 85 86 87 88 89 90 91 92 93 94 95 96 97 98 "
    "99";

static void test_what_waits_goes_one_by_one_in_its_order(void **state)
{
    struct rig *r = flow_line("type: throttle, rate: 10, burst: 3", hundred);
    (void)state;
    rig_open(r);
    rig_step(r, 4);
    assert_string_equal(r->script[2].seen, "0,1,2,|");
    for (uint32_t i = 1; i <= 97; i++) {
        r->now += WEIR_NS_PER_S / 10 - 1;
        rig_step(r, 2);
        assert_int_equal(n_seen(r, 2), 2 + i);
        r->now += 1;
        rig_step(r, 3);
        assert_int_equal(n_seen(r, 2), 3 + i);
        assert_int_equal(r->script[0].committed, 1003 + i);
    }
    char *at = r->script[2].seen;
    for (int i = 0; i < 100; i++) {
        at += *at == '|';
        assert_int_equal(strtol(at, &at, 10), i);
        assert_int_equal(*at++, ',');
    }
    assert_true(r->script[0].n_empty_polls > 0);
    assert_true(flow_metric(r, "throttle_waited_events_total", NULL) == 97);
    assert_true(flow_metric(r, "component_discarded_events_total", NULL) == 0);
    rig_done(r);
}

static void test_a_high_rate_wakes_the_lane_for_many_at_once(void **state)
{
    static char words[4000];
    (void)state;
    for (int i = 0; i < 1000; i++)
        memcpy(words + 2 * i, "x ", 3);
    struct rig *r = flow_line("type: throttle, rate: 100000, burst: 1", words);
    rig_open(r);
    int64_t begin = r->now, n_calls = 0;
    while (r->script[0].committed < 0 || n_seen(r, 2) < 900) {
        int64_t next = wr_lane_step(r->p->lanes[0], r->now);
        (void)wr_shard_step(wr_outlet_shard(r->p->units[2]->outlet, 0), r->now);
        if (next > r->now && next != INT64_MAX)
            r->now = next;
        n_calls++;
        assert_true(n_calls < 1000);
    }
    assert_in_range(r->now - begin, 9 * WEIR_NS_PER_MS - WEIR_NS_PER_MS, 11 * WEIR_NS_PER_MS);
    rig_words(r, "");
    rig_done(r);
}

static void test_a_sink_that_was_slow_is_not_flooded_afterwards(void **state)
{
    struct rig *r = flow_line("type: throttle, rate: 10, burst: 2", hundred);
    (void)state;
    r->comps[2].opt.sink.buffer.size = 1; /* takes one batch at a time */
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 4);
    assert_int_equal(n_seen(r, 2), 2);
    rig_advance(r, WEIR_NS_PER_S / 10);
    rig_advance(r, 60 * WEIR_NS_PER_S); /* parked in front of the buffer */
    r->script[2].verdict = NULL;
    rig_complete(&r->script[2], 0);
    rig_complete(&r->script[2], 1);
    rig_step(r, 8);
    assert_in_range(n_seen(r, 2), 3, 2 + 1 + 2 + 1);
    rig_done(r);
}

static void test_two_lanes_share_the_rate(void **state)
{
    static struct rig r;
    (void)state;
    rig_init(&r);
    (void)rig_add(&r, WEIR_SOURCE, "one");
    (void)rig_add(&r, WEIR_SOURCE, "two");
    (void)rig_add(&r, WEIR_TRANSFORM, "t");
    (void)rig_add(&r, WEIR_SINK, "out");
    rig_wire(&r, 0, 2);
    rig_wire(&r, 1, 2);
    rig_wire(&r, 2, 3);
    flow_put(&r, 2, "type: throttle, rate: 10, burst: 1");
    r.script[0].poll = r.script[1].poll = flow_poll;
    r.script[0].arg = r.script[1].arg = (void *)(uintptr_t)hundred;
    rig_open(&r);
    rig_step(&r, 4);
    for (int i = 0; i < 100; i++)
        rig_advance(&r, WEIR_NS_PER_S / 10);
    assert_in_range(n_seen(&r, 3), 100, 101);
    rig_done(&r);
}

#define A "{\"k\":\"a\"}"
#define B "{\"k\":\"b\"}"

static void test_what_is_too_much_is_dropped(void **state)
{
    struct rig *r = flow_line("type: throttle, rate: 1, burst: 2, mode: drop, key: '{{ k }}', keys: 2",
                              A " " A " " A " " B " " A " " B " " B);
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[2].seen, A "," A "," B "," B ",|");
    assert_true(flow_discarded(r, "throttled") == 3);
    assert_int_equal(r->script[0].committed, 1007);
    rig_words(r, A " " A);
    rig_advance(r, WEIR_NS_PER_S);
    assert_true(flow_discarded(r, "throttled") == 4);
    rig_words(r, "{\"k\":\"c\"}"); /* takes b's place, which still had debts */
    rig_step(r, 3);
    assert_true(flow_metric(r, "throttle_forgotten_keys_total", NULL) == 1);
    assert_true(flow_metric(r, "throttle_keys", NULL) == 2);
    rig_done(r);
}

static void test_what_is_too_much_fails(void **state)
{
    struct rig *r = flow_line("type: throttle, rate: 0.5, mode: error", A " " A);
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[2].seen, A ",|");
    assert_true(flow_metric(r, "component_errors_total", "error_type=\"throttled\"") == 1);
    rig_words(r, A);
    rig_advance(r, 2 * WEIR_NS_PER_S);
    assert_string_equal(r->script[2].seen, A ",|" A ",|");
    rig_done(r);
}

static void test_events_without_the_key_fail_and_hold_nobody_up(void **state)
{
    static char words[6000];
    (void)state;
    snprintf(words, sizeof(words), "{} " A " {\"k\":null} [1] {bad {\"k\":\"%0*d\"} " A " {} " A, 5000, 0);
    struct rig *r = flow_line("type: throttle, rate: 1, burst: 1, key: '{{ k }}'", words);
    rig_open(r);
    rig_step(r, 4);
    assert_string_equal(r->script[2].seen, A ",|");
    assert_true(flow_metric(r, "component_errors_total", "error_type=\"missing_field\"") == 3);
    assert_true(flow_metric(r, "component_errors_total", "error_type=\"key_too_long\"") == 1);
    assert_int_equal(r->script[0].committed, 1006);
    rig_advance(r, WEIR_NS_PER_S);
    rig_advance(r, WEIR_NS_PER_S);
    assert_string_equal(r->script[2].seen, A ",|" A ",|" A ",|");
    assert_int_equal(r->script[0].committed, 1009);
    rig_done(r);
}

static void test_the_end_keeps_the_rate_and_the_deadline_loses_nothing(void **state)
{
    struct rig *r = flow_line("type: throttle, rate: 10, burst: 1", hundred);
    (void)state;
    rig_open(r);
    rig_step(r, 4);
    wr_pipeline_drain(r->p, r->now + 5 * WEIR_NS_PER_S);
    for (int i = 0; i < 30; i++)
        rig_advance(r, WEIR_NS_PER_S / 10);
    assert_int_equal(n_seen(r, 2), 31);
    for (int i = 0; i < 30; i++)
        rig_advance(r, WEIR_NS_PER_S / 10);
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_DONE);
    assert_in_range(n_seen(r, 2), 49, 51);
    assert_int_equal(r->script[0].committed, 1000 + n_seen(r, 2)); /* the others come again */
    rig_done(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_rate_is_exact_over_long_runs),
        cmocka_unit_test(test_a_late_wake_up_loses_nothing_of_the_rate),
        cmocka_unit_test(test_after_a_pause_there_is_a_burst_and_no_more),
        cmocka_unit_test(test_the_largest_numbers_do_not_overflow),
        cmocka_unit_test(test_keys_are_bounded_and_the_longest_unused_goes),
        cmocka_unit_test(test_what_waits_goes_one_by_one_in_its_order),
        cmocka_unit_test(test_a_high_rate_wakes_the_lane_for_many_at_once),
        cmocka_unit_test(test_a_sink_that_was_slow_is_not_flooded_afterwards),
        cmocka_unit_test(test_two_lanes_share_the_rate),
        cmocka_unit_test(test_what_is_too_much_is_dropped),
        cmocka_unit_test(test_what_is_too_much_fails),
        cmocka_unit_test(test_events_without_the_key_fail_and_hold_nobody_up),
        cmocka_unit_test(test_the_end_keeps_the_rate_and_the_deadline_loses_nothing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    flow_end();
    return failed;
}
