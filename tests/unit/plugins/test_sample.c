/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform sample: rates as text, places of keys, and what the engine makes of them.
 */
#include "flow_rig.h"

#include <math.h>

#include "../../../plugins/sample/share.c"

static void test_rates_are_read(void **state)
{
    static const struct {
        const char *text;
        double share;
    } good[] = {{"0", 0},      {"1", 1},         {"0.25", 0.25}, {"25%", 0.25},     {"1/4", 0.25}, {"100%", 1},
                {"2/8", 0.25}, {"0.5%", 0.005},  {"0/3", 0},     {"3/3", 1},        {"0.0", 0},    {"1.0", 1},
                {"1/1000000000", 1e-9},          {"00.1", 0.1},  {"0.5/2", 0.25},   {"1/2.5", 0.4}};
    (void)state;
    for (size_t i = 0; i < WR_COUNT(good); i++) {
        double share = -1;
        size_t offset;
        const char *wrong = share_parse(weir_cstr(good[i].text), &share, &offset);
        if (wrong != NULL || fabs(share - good[i].share) > 1e-15)
            fail_msg("%s: %s %g", good[i].text, wrong, share);
    }
}

static void test_wrong_rates_are_refused_at_their_place(void **state)
{
    static const struct {
        const char *text;
        size_t offset;
    } bad[] = {{"", 0},     {"x", 0},     {"-0.1", 0},  {"+1", 0},   {".5", 0},     {"1.", 1},   {"1e-3", 1},
               {"0x1", 1},  {"nan", 0},   {"inf", 0},   {"10 %", 2}, {"10%%", 3},   {"1/", 2},   {"1/x", 2},
               {"1/0", 2},  {"1/0.0", 2}, {"1/-4", 2},  {"1/4/4", 3}, {"2", 0},     {"101%", 0}, {"5/4", 0},
               {"1/4%", 3}, {" 1", 0},    {"1 ", 1},    {"0,1", 1},
               {"0.00000000000000000000000000000000000000000001", 0}};
    (void)state;
    for (size_t i = 0; i < WR_COUNT(bad); i++) {
        double share = -1;
        size_t offset = 1000;
        const char *wrong = share_parse(weir_cstr(bad[i].text), &share, &offset);
        if (wrong == NULL || offset != bad[i].offset || share != -1)
            fail_msg("\"%s\": %s at %zu, %g", bad[i].text, wrong, offset, share);
    }
}

static double place(const char *key, uint64_t seed)
{
    return share_place(weir_cstr(key), seed);
}

/* Users rely on it: whoever changes the hash samples other users than before. */
static void test_the_places_of_keys_never_change(void **state)
{
    (void)state;
    assert_true(place("", 0) == 0x1.ef4c513ca7032p-2);
    assert_true(place("u1", 0) == 0x1.65d3985c2cf3dp-1);
    assert_true(place("u1", 1) == 0x1.88eef4dc72cd6p-1);
    assert_true(place("user-00000042", UINT64_MAX) == 0x1.a2957e883452bp-1);
}

static void test_places_are_spread_evenly(void **state)
{
    enum { N = 200000, PARTS = 50 };
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        uint32_t part[PARTS] = {0}, both = 0;
        for (int i = 0; i < N; i++) {
            char key[32];
            snprintf(key, sizeof(key), "user-%08d", i);
            double at = place(key, seed);
            assert_true(at >= 0 && at < 1);
            part[(int)(at * PARTS)]++;
            both += at < 0.5 && place(key, seed + 1) < 0.5; /* seeds have nothing to do with each other */
        }
        double chi = 0, want = (double)N / PARTS;
        for (int i = 0; i < PARTS; i++)
            chi += ((double)part[i] - want) * ((double)part[i] - want) / want;
        assert_true(chi < 100); /* 49 degrees of freedom: less than 1 in 10,000 by chance */
        assert_true(fabs((double)both / N - 0.25) < 0.005);
    }
}

static void test_bits_become_places(void **state)
{
    (void)state;
    assert_true(share_of_bits(0) == 0);
    assert_true(share_of_bits(UINT64_MAX) < 1);
    assert_true(share_of_bits(UINT64_C(1) << 63) == 0.5);
}

/* ---- In the engine ---- */

static uint64_t any(struct wr_clock *c)
{
    static uint64_t x = 1;
    (void)c;
    x += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static uint32_t n_kept;

static enum weir_verdict count_kept(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)ev;
    (void)write;
    s->seen[0] = '\0';
    n_kept++;
    return WEIR_VERDICT_OK;
}

/* Users 0 to 99, over and over. */
static enum weir_status poll_users(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    for (uint32_t i = 0; s->n_polls <= 100 && i < 100 && i < room; i++) {
        char text[40];
        snprintf(text, sizeof(text), "{\"u\":%u,\"n\":%u}", i, s->n_polls);
        (void)rig_emit(s, b, text, (int64_t)(s->n_polls * 1000 + i));
    }
    return b->n_events != 0 ? WEIR_OK : WEIR_AGAIN;
}

static uint32_t sampled(const char *options, double *ret_discarded)
{
    struct rig *r = flow_line(options, "");
    r->clock.random = any;
    r->script[0].poll = poll_users;
    r->script[2].verdict = count_kept;
    n_kept = 0;
    rig_open(r);
    rig_step(r, 110);
    *ret_discarded = flow_discarded(r, "sampled");
    assert_true(*ret_discarded + n_kept == 10000);
    assert_int_equal(r->script[0].committed, 100100);
    rig_done(r);
    return n_kept;
}

static void test_chance_keeps_about_as_many(void **state)
{
    double discarded;
    (void)state;
    assert_in_range(sampled("type: sample, rate: 0.2", &discarded), 1800, 2200);
    assert_int_equal(sampled("type: sample, rate: 1", &discarded), 10000);
    assert_int_equal(sampled("type: sample, rate: 0", &discarded), 0);
}

static void test_a_key_is_kept_always_or_never(void **state)
{
    double discarded;
    (void)state;
    uint32_t n = sampled("type: sample, rate: 1/4, by: '{{ u }}'", &discarded);
    assert_int_equal(n % 100, 0);
    assert_in_range(n, 1000, 4000);
    uint32_t more = sampled("type: sample, rate: 50%, by: '{{ u }}'", &discarded);
    assert_true(more % 100 == 0 && more > n);
    uint32_t n_seven = 0;
    for (int u = 0; u < 100; u++) {
        char key[8];
        snprintf(key, sizeof(key), "%d", u);
        n_seven += place(key, 7) < 0.25 ? 100 : 0;
    }
    assert_int_equal(sampled("type: sample, rate: 1/4, by: '{{ u }}', seed: 7", &discarded), n_seven);
}

static void test_some_are_always_kept(void **state)
{
    double discarded;
    (void)state;
    assert_int_equal(sampled("type: sample, rate: 0, always: event.u < 5", &discarded), 500);
    assert_int_equal(
        sampled("type: sample, rate: 0, by: '{{ nobody }}', always: event.u >= 0", &discarded), 10000);
}

static void test_without_the_key_an_event_fails_unless_it_is_always_kept(void **state)
{
    struct rig *r = flow_line("type: sample, rate: 1, by: '{{ k }}', always: event.vip == true",
                              "{\"k\":1} {} {\"vip\":true} [1] {bad {\"k\":null} null 5 \"x\" {\"k\":[]}");
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[2].seen, "{\"k\":1},{\"vip\":true},{\"k\":[]},|");
    assert_true(flow_metric(r, "sample_always_events_total", NULL) == 1);
    assert_true(flow_metric(r, "component_errors_total", NULL) == 7);
    assert_int_equal(r->script[0].committed, 1010);
    rig_done(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_are_read),
        cmocka_unit_test(test_wrong_rates_are_refused_at_their_place),
        cmocka_unit_test(test_the_places_of_keys_never_change),
        cmocka_unit_test(test_places_are_spread_evenly),
        cmocka_unit_test(test_bits_become_places),
        cmocka_unit_test(test_chance_keeps_about_as_many),
        cmocka_unit_test(test_a_key_is_kept_always_or_never),
        cmocka_unit_test(test_some_are_always_kept),
        cmocka_unit_test(test_without_the_key_an_event_fails_unless_it_is_always_kept),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    flow_end();
    return failed;
}
