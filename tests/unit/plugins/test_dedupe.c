/* SPDX-License-Identifier: Apache-2.0
 *
 * The transform dedupe in the engine: what passes, what waits, what is remembered, and when.
 */
#include "flow_rig.h"

static int no_batches; /* so many batches more find no memory */

void *__real_wr_alloc(size_t size);
void *__wrap_wr_alloc(size_t size);

void *__wrap_wr_alloc(size_t size)
{
    if (no_batches > 0 && size == sizeof(struct wr_batch)) {
        no_batches--;
        return NULL;
    }
    return __real_wr_alloc(size);
}

#define BY_K "type: dedupe, key: '{{ k }}'"

/* An event with the key x is the word {"k":"x"}; its short form in what the sink has seen. */
#define A "{\"k\":\"a\"}"
#define B "{\"k\":\"b\"}"
#define C "{\"k\":\"c\"}"

static const char *seen(const struct rig *r, uint32_t sink)
{
    static char text[4096];
    size_t n = 0;
    for (const char *at = r->script[sink].seen; (at = strstr(at, "\"k\":\"")) != NULL;)
        text[n++] = (at += 5)[0];
    text[n] = '\0';
    return text;
}

static void test_the_first_passes_and_is_remembered(void **state)
{
    struct rig *r = flow_line(BY_K ", ttl: 10s", A " " B);
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(seen(r, 2), "ab");
    rig_words(r, A " " B " " A);
    rig_advance(r, 9 * WEIR_NS_PER_S);
    assert_string_equal(seen(r, 2), "ab");
    assert_true(flow_discarded(r, "duplicate") == 3);
    rig_words(r, A);
    rig_advance(r, 2 * WEIR_NS_PER_S); /* what was met is not remembered for longer */
    assert_string_equal(seen(r, 2), "aba");
    rig_advance(r, 20 * WEIR_NS_PER_S);
    assert_true(flow_metric(r, "dedupe_keys", NULL) == 0);
    rig_done(r);
}

/* Met again it is younger than others, but its time is over before theirs. */
static void test_a_key_that_was_met_ends_all_the_same(void **state)
{
    struct rig *r = flow_line(BY_K ", ttl: 10s", A);
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    rig_words(r, B);
    rig_advance(r, 2 * WEIR_NS_PER_S);
    rig_words(r, A);
    rig_advance(r, 3 * WEIR_NS_PER_S);
    assert_string_equal(seen(r, 2), "ab");
    rig_words(r, A " " B);
    rig_advance(r, 6 * WEIR_NS_PER_S);
    assert_string_equal(seen(r, 2), "aba");
    rig_done(r);
}

static void test_a_duplicate_waits_for_its_first(void **state)
{
    struct rig *r = flow_line(BY_K, A " " B " " A);
    (void)state;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 2);
    rig_words(r, A " " C);
    rig_step(r, 3); /* the lane does not wait with it */
    assert_true(flow_metric(r, "component_sent_events_total", "component=\"t\"") == 3);
    assert_string_equal(seen(r, 2), "ab");
    assert_int_equal(atomic_load(&r->p->units[1]->held_events), 2);
    assert_int_equal(r->script[0].committed, -1);
    r->script[2].verdict = NULL;
    rig_complete(&r->script[2], 0);
    rig_complete(&r->script[2], 1);
    rig_step(r, 3);
    assert_string_equal(seen(r, 2), "abc");
    assert_true(flow_discarded(r, "duplicate") == 2);
    assert_int_equal(atomic_load(&r->p->units[1]->held_events), 0);
    rig_done(r);
    assert_true(r->script[0].committed >= 2002);
}

static enum weir_verdict first_is_rejected(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    return write == 0 ? WEIR_VERDICT_REJECTED : WEIR_VERDICT_OK;
}

static void test_a_duplicate_of_what_failed_is_the_first(void **state)
{
    struct rig *r = flow_line(BY_K, A " " A " " A);
    (void)state;
    r->script[2].verdict = first_is_rejected;
    rig_open(r);
    rig_step(r, 5);
    assert_string_equal(seen(r, 2), "aa");
    assert_true(flow_discarded(r, "duplicate") == 1);
    assert_int_equal(r->script[0].committed, 1003);
    rig_done(r);
}

static void test_what_was_dropped_is_not_remembered(void **state)
{
    struct rig *r = flow_line(BY_K, A);
    (void)state;
    r->script[2].verdict = first_is_rejected;
    rig_open(r);
    rig_step(r, 3);
    rig_words(r, A);
    rig_step(r, 3);
    rig_words(r, A);
    rig_step(r, 3);
    assert_string_equal(seen(r, 2), "aa");
    rig_done(r);
}

static void test_the_longest_not_met_is_forgotten_first(void **state)
{
    struct rig *r = flow_line(BY_K ", entries: 2", A);
    static const char *const words[] = {B, A, C, A, B}; /* c takes the place of b */
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    for (size_t i = 0; i < WR_COUNT(words); i++) {
        rig_words(r, words[i]);
        rig_step(r, 3);
    }
    assert_string_equal(seen(r, 2), "abcb");
    rig_advance(r, WEIR_NS_PER_S);
    assert_true(flow_metric(r, "dedupe_evicted_keys_total", NULL) == 2);
    assert_true(flow_metric(r, "dedupe_keys", NULL) == 2);
    rig_done(r);
}

static void test_memory_is_bounded_whatever_the_keys(void **state)
{
    struct rig *r = flow_line(BY_K ", memory: 64KiB, ttl: 10s", "");
    static char word[5000];
    (void)state;
    rig_open(r);
    for (int i = 0; i < 500; i++) {
        char *end = word + snprintf(word, sizeof(word), "{\"k\":\"%d-", i);
        memset(end, 'x', 40);
        snprintf(end + 40, 4, "\"}");
        rig_words(r, word);
        rig_step(r, 3);
        r->script[2].seen[0] = '\0';
        if (i % 50 == 0)
            rig_advance(r, 2 * WEIR_NS_PER_S);
        assert_true(flow_metric(r, "dedupe_bytes", NULL) <= 64 * 1024);
    }
    assert_true(flow_metric(r, "component_sent_events_total", "component=\"t\"") == 500);
    rig_advance(r, 20 * WEIR_NS_PER_S);
    rig_advance(r, 2 * WEIR_NS_PER_S);
    assert_true(flow_metric(r, "dedupe_bytes", NULL) == 0);
    rig_done(r);
}

static enum weir_status poll_numbers(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    for (uint32_t i = 0; s->n_polls <= 50 && i < 100 && i < room; i++) {
        char text[40];
        snprintf(text, sizeof(text), "{\"k\":%u}", s->n_polls * 100 + i);
        (void)rig_emit(s, b, text, (int64_t)(s->n_polls * 1000 + i));
    }
    return b->n_events != 0 ? WEIR_OK : WEIR_AGAIN;
}

static void test_keys_end_as_fast_as_they_came(void **state)
{
    struct rig *r = flow_line(BY_K ", ttl: 10s", "");
    (void)state;
    r->script[0].poll = poll_numbers;
    rig_open(r);
    for (int i = 0; i < 60; i++) {
        rig_step(r, 1);
        r->script[2].seen[0] = '\0';
    }
    rig_advance(r, WEIR_NS_PER_S);
    assert_true(flow_metric(r, "dedupe_keys", NULL) == 5000);
    rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_true(flow_metric(r, "dedupe_keys", NULL) == 0);
    assert_true(flow_metric(r, "dedupe_evicted_keys_total", NULL) == 0);
    rig_done(r);
}

/* ---- Room ---- */

static void test_too_many_that_wait_stop_the_lane(void **state)
{
    struct rig *r = flow_line(BY_K ", held: 1", A " " A);
    (void)state;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 2);
    rig_words(r, B " " A);
    rig_step(r, 4);
    assert_true(r->script[0].n_empty_polls > 0);
    assert_string_equal(seen(r, 2), "a");
    r->script[2].verdict = NULL;
    rig_complete(&r->script[2], 0);
    rig_step(r, 4);
    assert_string_equal(seen(r, 2), "ab");
    assert_true(flow_discarded(r, "duplicate") == 2);
    assert_int_equal(r->script[0].committed % 1000, 2);
    rig_done(r);
}

static void test_keys_on_their_way_alone_stop_the_lane(void **state)
{
    struct rig *r = flow_line(BY_K ", entries: 1", A);
    (void)state;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 2);
    rig_words(r, B);
    rig_step(r, 4);
    assert_string_equal(seen(r, 2), "a");
    assert_true(r->script[0].n_empty_polls > 0);
    r->script[2].verdict = NULL;
    rig_complete(&r->script[2], 0);
    rig_step(r, 4);
    assert_string_equal(seen(r, 2), "ab");
    rig_done(r);
}

/* The duplicate that goes on as the first finds no batch to leave in, and comes again with the others. */
static void test_what_could_not_leave_is_no_duplicate_of_itself(void **state)
{
    struct rig *r = flow_line(BY_K ", held: 1", A " " A);
    (void)state;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 2);
    rig_words(r, B);
    rig_step(r, 2);
    assert_string_equal(seen(r, 2), "a");
    r->script[2].verdict = NULL;
    rig_complete_as(&r->script[2], r->script[2].last_ticket, 0, WEIR_VERDICT_REJECTED, 0);
    (void)wr_shard_step(wr_outlet_shard(r->p->units[2]->outlet, 0), r->now);
    no_batches = 1;
    rig_step(r, 4);
    assert_int_equal(no_batches, 0);
    assert_string_equal(seen(r, 2), "aba"); /* behind the one that it came to */
    assert_int_equal(r->script[0].committed % 1000, 1);
    rig_done(r);
}

static enum weir_status poll_then_no_memory(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    enum weir_status st = flow_poll(s, b, room);
    no_batches = st == WEIR_OK;
    return st;
}

/* It cannot wait: it has failed, and is not passed on as if it were a first. */
static void test_a_duplicate_that_cannot_be_held_fails(void **state)
{
    struct rig *r = flow_line(BY_K, A " " A " " B);
    (void)state;
    r->script[0].poll = poll_then_no_memory;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 2);
    assert_int_equal(no_batches, 0);
    assert_string_equal(seen(r, 2), "ab");
    assert_true(flow_metric(r, "component_errors_total", "error_type=\"no_memory\"") == 1);
    assert_int_equal(atomic_load(&r->p->units[1]->held_events), 0);
    r->script[2].verdict = NULL;
    rig_complete(&r->script[2], 0);
    rig_complete(&r->script[2], 1);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, 1003);
    rig_done(r);
}

static struct weir_held *window[8];
static uint32_t n_window;

static enum weir_status keep_in_window(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    for (uint32_t i = 0; i < b->n_events; i++)
        window[n_window++] = s->h->event_hold(s->h, b, weir_event_at(b, i));
    return WEIR_OK;
}

static enum weir_status end_window(struct rig_script *s, struct weir_batch *b, bool final)
{
    (void)final;
    while (n_window > 0)
        (void)s->h->held_release(s->h, b, window[--n_window]);
    return WEIR_OK;
}

static int64_t each_second(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_NS_PER_S;
}

/* What it waits for is kept by a transform behind it until the next tick. */
static void test_a_window_behind_it_is_no_deadlock(void **state)
{
    static struct rig r;
    (void)state;
    rig_init(&r);
    (void)rig_add(&r, WEIR_SOURCE, "in");
    (void)rig_add(&r, WEIR_TRANSFORM, "t");
    (void)rig_add(&r, WEIR_TRANSFORM, "window");
    (void)rig_add(&r, WEIR_SINK, "out");
    for (uint32_t i = 0; i < 3; i++)
        rig_wire(&r, i, i + 1);
    flow_put(&r, 1, BY_K ", held: 1, entries: 1");
    r.script[0].poll = flow_poll;
    r.types[2].interval = each_second;
    r.script[2].apply = keep_in_window;
    r.script[2].tick = end_window;
    n_window = 0;
    rig_words(&r, A " " A);
    rig_open(&r);
    r.now += WEIR_NS_PER_S / 2;
    rig_step(&r, 2);
    rig_words(&r, B);
    rig_step(&r, 2);
    rig_words(&r, "");
    for (int i = 0; i < 4; i++)
        rig_advance(&r, WEIR_NS_PER_S);
    assert_string_equal(seen(&r, 3), "ab");
    rig_done(&r);
}

/* ---- Several lanes ---- */

static void test_lanes_share_the_keys(void **state)
{
    struct rig *r = flow_two_lanes(BY_K, A, A " " B);
    (void)state;
    rig_step(r, 4);
    assert_string_equal(seen(r, 3), "ab");
    assert_int_equal(r->script[1].committed, -1); /* its first event waits for the other lane's */
    r->script[3].verdict = NULL;
    rig_complete(&r->script[3], 0);
    rig_complete(&r->script[3], 1);
    rig_step(r, 4);
    assert_string_equal(seen(r, 3), "ab");
    assert_int_equal(r->script[0].committed, 1001);
    assert_int_equal(r->script[1].committed, 1002);
    assert_true(flow_discarded(r, "duplicate") == 1);
    rig_done(r);
}

static enum weir_verdict reject_once(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)ev;
    (void)write;
    return s->arg == NULL ? (s->arg = s, WEIR_VERDICT_REJECTED) : WEIR_VERDICT_OK;
}

static void test_another_lane_is_told_that_its_event_is_the_first(void **state)
{
    struct rig *r = flow_two_lanes(BY_K, A, A " " A);
    (void)state;
    r->script[3].verdict = reject_once;
    rig_step(r, 6);
    assert_string_equal(seen(r, 3), "aa");
    assert_true(flow_discarded(r, "duplicate") == 1);
    assert_int_equal(r->script[0].committed, 1001);
    assert_int_equal(r->script[1].committed, 1002);
    rig_done(r);
}

/* The partition of the first gets a new owner before the sink takes the event. */
static void test_a_duplicate_of_what_was_abandoned_passes(void **state)
{
    struct rig *r = flow_two_lanes(BY_K, B, "");
    (void)state;
    rig_step(r, 2); /* b keeps the sink busy */
    r->script[0].arg = (void *)(uintptr_t)A;
    rig_step(r, 2);
    r->script[1].arg = (void *)(uintptr_t)A;
    rig_step(r, 2);
    assert_string_equal(seen(r, 3), "b");
    r->script[0].h->stream_close(r->script[0].stream);
    r->script[0].stream = NULL;
    r->script[3].verdict = NULL;
    rig_complete(&r->script[3], 0);
    rig_step(r, 6);
    assert_string_equal(seen(r, 3), "ba");
    assert_int_equal(r->script[1].committed % 1000, 1);
    rig_done(r);
}

/* ---- The end ---- */

static void drain(struct rig *r)
{
    wr_pipeline_drain(r->p, r->now + 100 * WEIR_NS_PER_S);
    rig_step(r, 4);
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_DRAINING);
}

static void test_at_the_end_a_duplicate_still_waits(void **state)
{
    struct rig *r = flow_line(BY_K, A " " A);
    (void)state;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 2);
    drain(r);
    rig_complete(&r->script[2], 0);
    rig_step(r, 5);
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_DONE);
    assert_string_equal(seen(r, 2), "a");
    assert_int_equal(r->script[0].committed, 1002);
    assert_true(r->script[0].final);
    rig_done(r);
}

static void test_at_the_end_a_duplicate_of_what_failed_is_delivered(void **state)
{
    struct rig *r = flow_line(BY_K, A " " A);
    (void)state;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 2);
    drain(r);
    r->script[2].verdict = NULL;
    rig_complete_as(&r->script[2], r->script[2].last_ticket, 0, WEIR_VERDICT_REJECTED, 0);
    rig_step(r, 6);
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_DONE);
    assert_string_equal(seen(r, 2), "aa");
    assert_int_equal(r->script[0].committed, 1002);
    rig_done(r);
}

static void test_the_deadline_ends_what_waits(void **state)
{
    struct rig *r = flow_line(BY_K, A " " A " " A);
    (void)state;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 2);
    drain(r);
    rig_advance(r, 200 * WEIR_NS_PER_S);
    rig_complete_as(&r->script[2], r->script[2].last_ticket, 0, WEIR_VERDICT_UNAVAILABLE, 0);
    rig_done(r);
    assert_int_equal(r->script[0].committed, -1); /* nothing counts as done */
}

/* ---- Keys that are none ---- */

static void test_what_has_no_key_fails(void **state)
{
    static char words[6000];
    (void)state;
    snprintf(words, sizeof(words), "{} {\"k\":null} {\"k\":\"\"} [1] {bad {\"k\":{}} {\"k\":\"%0*d\"} " A,
             5000, 0);
    struct rig *r = flow_line(BY_K, words);
    rig_open(r);
    rig_step(r, 3);
    assert_true(flow_metric(r, "component_errors_total", "error_type=\"missing_field\"") == 3);
    assert_true(flow_metric(r, "component_errors_total", "error_type=\"empty_key\"") == 1);
    assert_true(flow_metric(r, "component_errors_total", NULL) >= 5);
    assert_non_null(strstr(r->script[2].seen, A));
    assert_non_null(strstr(r->script[2].seen, "{\"k\":{}}"));
    rig_done(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_passes_and_is_remembered),
        cmocka_unit_test(test_a_key_that_was_met_ends_all_the_same),
        cmocka_unit_test(test_a_duplicate_waits_for_its_first),
        cmocka_unit_test(test_a_duplicate_of_what_failed_is_the_first),
        cmocka_unit_test(test_what_was_dropped_is_not_remembered),
        cmocka_unit_test(test_the_longest_not_met_is_forgotten_first),
        cmocka_unit_test(test_memory_is_bounded_whatever_the_keys),
        cmocka_unit_test(test_keys_end_as_fast_as_they_came),
        cmocka_unit_test(test_too_many_that_wait_stop_the_lane),
        cmocka_unit_test(test_keys_on_their_way_alone_stop_the_lane),
        cmocka_unit_test(test_what_could_not_leave_is_no_duplicate_of_itself),
        cmocka_unit_test(test_a_duplicate_that_cannot_be_held_fails),
        cmocka_unit_test(test_a_window_behind_it_is_no_deadlock),
        cmocka_unit_test(test_lanes_share_the_keys),
        cmocka_unit_test(test_another_lane_is_told_that_its_event_is_the_first),
        cmocka_unit_test(test_a_duplicate_of_what_was_abandoned_passes),
        cmocka_unit_test(test_at_the_end_a_duplicate_still_waits),
        cmocka_unit_test(test_at_the_end_a_duplicate_of_what_failed_is_delivered),
        cmocka_unit_test(test_the_deadline_ends_what_waits),
        cmocka_unit_test(test_what_has_no_key_fails),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    flow_end();
    return failed;
}
