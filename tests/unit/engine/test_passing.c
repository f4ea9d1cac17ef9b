/* SPDX-License-Identifier: Apache-2.0
 *
 * A transform that lets a part of its batch go and waits with the rest, one whose end is that the user
 * asked for it, and ticks while a lane waits. In this program batches can be made to find no memory.
 */
#include "rig.h"

#include <engine/transform_host.h>

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

static double discarded(struct rig *r, const char *reason)
{
    struct wr_buf out = {0};
    char label[64];
    snprintf(label, sizeof(label), "reason=\"%s\"", reason);
    wr_metrics_print(r->metrics, &out);
    const char *at = strstr(out.ptr, label);
    double n = at != NULL ? strtod(strchr(at, '}') + 1, NULL) : 0;
    wr_buf_done(&out);
    return n;
}

/* ---- A part goes ahead ---- */

static int64_t next_at;
static uint32_t n_calls, n_left, n_again_passed;

/* One event a second goes; the one behind it is dropped with it where it is a "drop". */
static enum weir_status one_a_second(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    const struct weir_host *h = s->h;
    n_calls++;
    n_left = b->n_events;
    n_again_passed += (weir_event_at(b, 0)->flags & WEIR_EVENT_PASSED) != 0;
    if (h->now(h) >= next_at) {
        struct weir_event *next = b->n_events > 1 ? weir_event_at(b, 1) : NULL;
        next_at = h->now(h) + WEIR_NS_PER_S;
        if (next != NULL && wr_str_eq(next->payload, weir_cstr("drop")))
            h->event_drop(h, b, next, "unwanted");
        if (b->n_events == 1)
            return WEIR_OK;
        h->event_pass(h, b, weir_event_at(b, 0));
    }
    *again = next_at;
    return WEIR_AGAIN;
}

static struct rig *slowly(const char *words)
{
    struct rig *r = rig_triple(words);
    r->script[1].apply = one_a_second;
    rig_open(r);
    next_at = 0;
    n_calls = n_left = n_again_passed = 0;
    no_batches = 0;
    return r;
}

static void test_a_part_leaves_and_the_rest_comes_again(void **state)
{
    struct rig *r = slowly("a b c");
    (void)state;
    rig_step(r, 4);
    assert_string_equal(r->script[2].seen, "a,|");
    assert_int_equal(n_left, 2);
    assert_int_equal(r->script[0].committed, 1001); /* it has ended, the others have not */
    assert_true(r->script[0].n_empty_polls > 0);
    rig_advance(r, WEIR_NS_PER_S);
    assert_string_equal(r->script[2].seen, "a,|b,|");
    assert_int_equal(n_left, 1);
    rig_words(r, "d");
    rig_advance(r, WEIR_NS_PER_S);
    assert_string_equal(r->script[2].seen, "a,|b,|c,|");
    assert_int_equal(r->script[0].committed, 1003);
    rig_advance(r, WEIR_NS_PER_S);
    assert_string_equal(r->script[2].seen, "a,|b,|c,|d,|");
    rig_done(r);
}

static void test_what_is_gone_leaves_with_it(void **state)
{
    struct rig *r = slowly("a drop c");
    (void)state;
    rig_step(r, 4);
    assert_int_equal(n_left, 1);
    assert_int_equal(r->script[0].committed, 1002);
    assert_true(discarded(r, "unwanted") == 1);
    rig_advance(r, WEIR_NS_PER_S);
    assert_string_equal(r->script[2].seen, "a,|c,|");
    rig_done(r);
}

static void test_without_memory_it_waits_with_the_rest(void **state)
{
    struct rig *r = slowly("a b c");
    (void)state;
    struct wr_lane *lane = r->p->lanes[0];
    next_at = INT64_MAX;
    (void)wr_lane_step(lane, r->now); /* the batch is parked: nothing may go yet */
    assert_int_equal(n_left, 3);
    next_at = 0;
    no_batches = 1;
    wr_host_wake(r->script[1].h);
    (void)wr_lane_step(lane, r->now);
    assert_int_equal(no_batches, 0);
    assert_string_equal(r->script[2].seen, "");
    rig_advance(r, WEIR_NS_PER_S);
    assert_true(n_again_passed > 0);
    for (int i = 0; i < 4; i++)
        rig_advance(r, WEIR_NS_PER_S);
    assert_int_equal(r->script[0].committed, 1003);
    assert_non_null(strstr(r->script[2].seen, "a,"));
    assert_non_null(strstr(r->script[2].seen, "b,"));
    assert_non_null(strstr(r->script[2].seen, "c,"));
    rig_done(r);
}

static enum weir_status pass_then_finish(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    if (b->n_events == 1)
        return WEIR_OK;
    s->h->event_pass(s->h, b, weir_event_at(b, 0));
    *again = 1;
    return WEIR_AGAIN;
}

/* The lane sleeps afterwards: the time at which it was to go on is nobody's any more. */
static void test_a_call_that_was_repeated_at_once_leaves_no_time_behind(void **state)
{
    struct rig *r = slowly("a b");
    (void)state;
    r->script[1].apply = pass_then_finish;
    rig_step(r, 3);
    assert_string_equal(r->script[2].seen, "a,b,|");
    assert_true(wr_lane_step(r->p->lanes[0], r->now) == INT64_MAX);
    rig_done(r);
}

/* ---- Filtered for a reason ---- */

static enum weir_status watch_all(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    for (uint32_t i = 0; i < b->n_events; i++)
        assert_true(s->h->event_watch(s->h, b, weir_event_at(b, i), 42));
    return WEIR_OK;
}

static enum weir_status filter_all(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    for (uint32_t i = 0; i < b->n_events; i++) {
        s->h->event_filter(s->h, b, weir_event_at(b, i), "unasked");
        s->h->event_drop(s->h, b, weir_event_at(b, i), "too late");
    }
    return WEIR_OK;
}

static void test_filtered_is_no_drop_and_has_its_reason(void **state)
{
    static struct rig r;
    (void)state;
    rig_init(&r);
    uint32_t in = rig_add(&r, WEIR_SOURCE, "in"), watch = rig_add(&r, WEIR_TRANSFORM, "watch");
    uint32_t filter = rig_add(&r, WEIR_TRANSFORM, "filter");
    rig_wire(&r, in, watch);
    rig_wire(&r, watch, filter);
    rig_wire(&r, filter, rig_add(&r, WEIR_SINK, "out"));
    r.script[0].poll = rig_poll_words;
    rig_words(&r, "a b");
    r.script[1].apply = watch_all;
    r.script[2].apply = filter_all;
    r.script[1].settled = WEIR_FAILED;
    rig_open(&r);
    rig_step(&r, 3);
    assert_int_equal(r.script[1].n_settled, 2);
    assert_int_equal(r.script[1].settled, WEIR_FILTERED);
    assert_true(discarded(&r, "unasked") == 2);
    assert_true(discarded(&r, "too late") == 0);
    assert_int_equal(r.script[0].committed, 1002);
    rig_done(&r);
}

/* ---- Ticks ---- */

static int n_ticks[RIG_MAX];
static bool gate_is_open;

static int64_t each_second(const struct weir_host *h, const void *config)
{
    (void)h;
    (void)config;
    return WEIR_NS_PER_S;
}

static enum weir_status count_tick(struct rig_script *s, struct weir_batch *b, bool final)
{
    (void)b;
    (void)final;
    n_ticks[s - rig_now->script]++;
    return WEIR_OK;
}

static enum weir_status pass_all(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)s;
    (void)b;
    (void)again;
    return WEIR_OK;
}

static enum weir_status gate(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)s;
    (void)b;
    (void)again;
    return gate_is_open ? WEIR_OK : WEIR_AGAIN;
}

/* in ─▶ before ─▶ gate ─▶ behind ─▶ out */
static struct rig *with_gate(void)
{
    static struct rig r;
    static const char *const ids[] = {"before", "gate", "behind"};
    rig_init(&r);
    (void)rig_add(&r, WEIR_SOURCE, "in");
    for (uint32_t i = 1; i <= 3; i++) {
        (void)rig_add(&r, WEIR_TRANSFORM, ids[i - 1]);
        rig_wire(&r, i - 1, i);
        r.types[i].interval = each_second;
        r.script[i].apply = i == 2 ? gate : pass_all;
        r.script[i].tick = count_tick;
    }
    (void)rig_add(&r, WEIR_SINK, "out");
    rig_wire(&r, 3, 4);
    r.script[0].poll = rig_poll_words;
    memset(n_ticks, 0, sizeof(n_ticks));
    gate_is_open = false;
    return &r;
}

static void test_behind_a_transform_that_waits_there_are_ticks(void **state)
{
    struct rig *r = with_gate();
    (void)state;
    rig_words(r, "a");
    rig_open(r);
    rig_step(r, 2);
    memset(n_ticks, 0, sizeof(n_ticks));
    for (int i = 0; i < 3; i++)
        rig_advance(r, WEIR_NS_PER_S);
    assert_int_equal(n_ticks[1], 0); /* what it gave would meet a call that is not over */
    assert_int_equal(n_ticks[2], 0);
    assert_int_equal(n_ticks[3], 3);
    wr_host_wake(r->script[3].h);
    rig_step(r, 1);
    assert_int_equal(n_ticks[3], 4);
    gate_is_open = true;
    wr_host_wake(r->script[2].h);
    rig_advance(r, WEIR_NS_PER_S);
    assert_string_equal(r->script[4].seen, "a,|");
    assert_true(n_ticks[1] > 0 && n_ticks[2] > 0);
    rig_done(r);
}

/* ---- After the final tick ---- */

static struct weir_held *late, *kept;
static bool let_late_go;
static int n_final;

static enum weir_status hold_late(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    late = s->h->event_hold(s->h, b, weir_event_at(b, 0));
    assert_non_null(late);
    return WEIR_OK;
}

static enum weir_status give_late(struct rig_script *s, struct weir_batch *b, bool final)
{
    n_final += final;
    if (late != NULL && let_late_go)
        assert_int_equal(s->h->held_release(s->h, b, late), 0);
    if (let_late_go)
        late = NULL;
    return WEIR_OK;
}

static enum weir_status keep_it(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    kept = s->h->event_hold(s->h, b, weir_event_at(b, 0));
    assert_non_null(kept);
    return WEIR_OK;
}

static enum weir_status give_at_the_end(struct rig_script *s, struct weir_batch *b, bool final)
{
    if (final && kept != NULL)
        assert_int_equal(s->h->held_release(s->h, b, kept), 0);
    kept = final ? NULL : kept;
    return WEIR_OK;
}

static void test_what_comes_after_the_final_tick_is_not_kept_behind(void **state)
{
    static struct rig r;
    (void)state;
    rig_init(&r);
    uint32_t in = rig_add(&r, WEIR_SOURCE, "in"), first = rig_add(&r, WEIR_TRANSFORM, "late");
    uint32_t second = rig_add(&r, WEIR_TRANSFORM, "keeper");
    rig_wire(&r, in, first);
    rig_wire(&r, first, second);
    rig_wire(&r, second, rig_add(&r, WEIR_SINK, "out"));
    r.script[0].poll = rig_poll_words;
    r.script[1].apply = hold_late;
    r.script[1].tick = give_late;
    r.script[2].apply = keep_it;
    r.script[2].tick = give_at_the_end;
    let_late_go = false;
    n_final = 0;
    rig_words(&r, "a");
    rig_open(&r);
    rig_step(&r, 2);
    wr_pipeline_drain(r.p, r.now + 100 * WEIR_NS_PER_S);
    rig_step(&r, 4);
    assert_true(n_final > 0);
    assert_int_equal(wr_pipeline_state(r.p), WR_PIPELINE_DRAINING); /* its ack keeps the lane */
    let_late_go = true;
    wr_host_wake(r.script[1].h);
    rig_step(&r, 4);
    assert_string_equal(r.script[3].seen, "a,|");
    assert_int_equal(wr_pipeline_state(r.p), WR_PIPELINE_DONE);
    assert_int_equal(r.script[0].committed, 1001);
    rig_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_part_leaves_and_the_rest_comes_again),
        cmocka_unit_test(test_what_is_gone_leaves_with_it),
        cmocka_unit_test(test_a_call_that_was_repeated_at_once_leaves_no_time_behind),
        cmocka_unit_test(test_without_memory_it_waits_with_the_rest),
        cmocka_unit_test(test_filtered_is_no_drop_and_has_its_reason),
        cmocka_unit_test(test_behind_a_transform_that_waits_there_are_ticks),
        cmocka_unit_test(test_what_comes_after_the_final_tick_is_not_kept_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
