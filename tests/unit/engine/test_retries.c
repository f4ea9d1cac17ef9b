/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens behind a failed write: who is repeated and when, what a sink's odd answers lead to, and how the
 * end of a pipeline cuts it short. Turned by hand.
 */
#include "rig.h"

/* What a sink never completed stays for ever, since the sink may still look at it: no leak to report. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#define EXPECT_LEFT_BEGIN() __lsan_disable()
#define EXPECT_LEFT_END() __lsan_enable()
#else
#define EXPECT_LEFT_BEGIN() ((void)0)
#define EXPECT_LEFT_END() ((void)0)
#endif

/* ---- Scripts ---- */

static enum weir_verdict always_reopen(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_REOPEN;
}

static struct rig *pair(const char *words)
{
    struct rig *r = rig_pair(words);
    r->script[1].verdict = rig_pending;
    return r;
}

/* ---- Repeating ---- */

static void test_what_is_repeated_is_alone(void **state)
{
    struct rig *r = pair("k1");
    struct rig_script *sink = &r->script[1];
    (void)state;
    r->comps[1].opt.sink.in_flight = 4;
    rig_open(r);
    rig_step(r, 3);
    rig_complete_as(sink, sink->last_ticket, 0, WEIR_VERDICT_RETRY, 0);
    rig_step(r, 2);
    rig_advance(r, 10 * WEIR_NS_PER_S);
    rig_words(r, "k2");
    rig_step(r, 4);
    assert_string_equal(sink->seen, "k1,|k1,|"); /* the repetition is under way */
    rig_complete_as(sink, sink->last_ticket, 0, WEIR_VERDICT_OK, 0);
    rig_step(r, 4);
    assert_string_equal(sink->seen, "k1,|k1,|k2,|");
    rig_complete_as(sink, sink->last_ticket, 0, WEIR_VERDICT_OK, 0);
    rig_done(r);
}

static void test_a_repetition_keeps_to_the_batch_size(void **state)
{
    struct rig *r = pair("a b c");
    struct rig_script *sink = &r->script[1];
    (void)state;
    r->comps[1].opt.sink.batch.bytes = (int64_t)(2 * (sizeof(struct weir_event) + 2));
    sink->verdict = rig_pending;
    r->comps[1].opt.sink.in_flight = 2;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(sink->seen, "a,b,|c,|");
    uint64_t second = sink->last_ticket;
    rig_complete_as(sink, second, 0, WEIR_VERDICT_UNAVAILABLE, 0);
    rig_complete_as(sink, second - 1, 0, WEIR_VERDICT_UNAVAILABLE, 0);
    rig_complete_as(sink, second - 1, 1, WEIR_VERDICT_UNAVAILABLE, 0);
    rig_step(r, 2);
    rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_string_equal(sink->seen, "a,b,|c,|a,b,|");
    sink->verdict = NULL;
    rig_complete_as(sink, sink->last_ticket, 0, WEIR_VERDICT_OK, 0);
    rig_complete_as(sink, sink->last_ticket, 1, WEIR_VERDICT_OK, 0);
    rig_step(r, 4);
    assert_string_equal(sink->seen, "a,b,|c,|a,b,|c,|");
    rig_done(r);
}

static void test_retry_after_is_kept_and_bounded(void **state)
{
    static const int64_t wishes[] = {60 * WEIR_NS_PER_S, INT64_MAX - 5};
    static const int64_t waits[] = {60 * WEIR_NS_PER_S, 3600 * WEIR_NS_PER_S};
    for (int i = 0; i < 2; i++) {
        struct rig *r = pair("a");
        struct rig_script *sink = &r->script[1];
        (void)state;
        r->comps[1].opt.sink.in_flight = 2;
        rig_open(r);
        rig_step(r, 3);
        uint64_t first = sink->last_ticket;
        rig_words(r, "b");
        rig_step(r, 3);
        rig_complete_as(sink, first, 0, WEIR_VERDICT_RETRY, wishes[i]);
        rig_complete_as(sink, sink->last_ticket, 0, WEIR_VERDICT_OK, 0); /* another's success changes nothing */
        rig_step(r, 2);
        rig_advance(r, waits[i] - WEIR_NS_PER_S);
        assert_string_equal(sink->seen, "a,|b,|");
        rig_advance(r, 2 * WEIR_NS_PER_S);
        assert_string_equal(sink->seen, "a,|b,|a,|");
        rig_complete_as(sink, sink->last_ticket, 0, WEIR_VERDICT_OK, 0);
        rig_done(r);
    }
}

static int64_t chance;

static uint64_t as_chance_has_it(struct wr_clock *c)
{
    (void)c;
    return (uint64_t)chance;
}

static enum weir_verdict away(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_UNAVAILABLE;
}

/* The pause behind the i-th failure: anything from a tenth of its bound to the bound, as chance has it. */
static int64_t choose_pause(uint32_t i)
{
    int64_t bound = (i < 3 ? INT64_C(1) << i : 8) * WEIR_NS_PER_S;
    chance = i % 2 != 0 ? bound - bound / 10 : 0;
    return i % 2 != 0 ? bound : bound / 10;
}

static void fail_for_a_while(struct rig *r)
{
    const struct rig_script *sink = &r->script[1];
    uint32_t before = sink->n_writes;
    int64_t pause = choose_pause(0);
    rig_step(r, 3);
    for (uint32_t i = 1; i < 8; i++) {
        int64_t next = choose_pause(i);
        rig_advance(r, pause - 1);
        assert_int_equal(sink->n_writes - before, i);
        rig_advance(r, 1);
        assert_int_equal(sink->n_writes - before, i + 1);
        pause = next;
    }
}

static void test_pauses_double_up_to_their_limit_and_are_random_below_it(void **state)
{
    struct rig *r = pair("a");
    struct rig_script *sink = &r->script[1];
    (void)state;
    r->clock.random = as_chance_has_it;
    sink->verdict = away;
    rig_open(r);
    fail_for_a_while(r);
    sink->verdict = NULL;
    rig_advance(r, 8 * WEIR_NS_PER_S);
    assert_int_equal(r->script[0].committed, 1001);
    sink->verdict = away; /* from the beginning, once it went well */
    rig_words(r, "b");
    fail_for_a_while(r);
    rig_done(r);
}

/* ---- Odd answers ---- */

static void test_a_verdict_that_is_none_is_no_loss(void **state)
{
    struct rig *r = pair("a");
    struct rig_script *sink = &r->script[1];
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    rig_complete_as(sink, sink->last_ticket, 0, 99, 0);
    rig_step(r, 2);
    rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_string_equal(sink->seen, "a,|a,|");
    rig_complete_as(sink, sink->last_ticket, 0, WEIR_VERDICT_OK, 0);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, 1001);
    rig_done(r);
}

static void test_an_outage_that_is_used_up_is_kept_whatever_on_reject_says(void **state)
{
    struct rig *r = pair("a");
    (void)state;
    uint32_t dead = rig_add(r, WEIR_SINK, "dead");
    r->comps[1].dead_letter = (int32_t)dead;
    r->comps[dead].is_dead_letter = true;
    r->comps[1].opt.sink.on_reject = WR_ON_DROP;
    r->comps[1].opt.sink.on_unavailable = WR_UNAVAILABLE_DEAD_LETTER;
    r->comps[1].opt.sink.retry.attempts = 2;
    r->script[1].verdict = always_reopen;
    rig_open(r);
    for (int i = 0; i < 6; i++)
        rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_string_equal(r->script[1].seen, "a,|a,|");
    assert_non_null(strstr(r->script[dead].seen, "\"payload\":\"a\""));
    assert_int_equal(r->script[0].committed, 1001);
    rig_done(r);
}

static enum weir_verdict b_is_behind_a(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)write;
    return ev->payload.ptr[0] == 'a' ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_BEHIND;
}

static void test_what_waits_behind_another_event_is_never_used_up(void **state)
{
    struct rig *r = pair("a b");
    (void)state;
    uint32_t dead = rig_add(r, WEIR_SINK, "dead");
    r->comps[1].dead_letter = (int32_t)dead;
    r->comps[dead].is_dead_letter = true;
    r->comps[1].opt.sink.on_reject = WR_ON_DEAD_LETTER;
    r->comps[1].opt.sink.on_unavailable = WR_UNAVAILABLE_DEAD_LETTER;
    r->comps[1].opt.sink.retry.attempts = 2;
    r->script[1].verdict = b_is_behind_a;
    rig_open(r);
    for (int i = 0; i < 12; i++)
        rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_non_null(strstr(r->script[1].seen, "a,b,|a,b,|b,|b,|b,|"));
    assert_non_null(strstr(r->script[dead].seen, "\"payload\":\"a\""));
    assert_null(strstr(r->script[dead].seen, "\"payload\":\"b\""));
    r->script[1].verdict = NULL;
    rig_advance(r, 100 * WEIR_NS_PER_S);
    assert_int_equal(r->script[0].committed, 1002);
    rig_done(r);
}

/* ---- Ends ---- */

static enum weir_status words_then_end(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    return rig_poll_words(s, b, room) == WEIR_OK ? WEIR_OK : WEIR_END;
}

static void test_the_end_of_the_sources_fills_no_batch(void **state)
{
    struct rig *r = pair("a b");
    (void)state;
    r->script[0].poll = words_then_end;
    r->script[1].verdict = NULL;
    r->comps[1].opt.sink.batch.timeout = 3600 * WEIR_NS_PER_S;
    rig_open(r);
    rig_step(r, 6);
    assert_string_equal(r->script[1].seen, "a,b,|");
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_DONE);
    rig_done(r);
}

static void test_what_is_known_counts_when_the_rest_is_given_up(void **state)
{
    EXPECT_LEFT_BEGIN();
    struct rig *r = pair("a b");
    struct rig_script *sink = &r->script[1];
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    rig_complete_as(sink, sink->last_ticket, 0, WEIR_VERDICT_OK, 0);
    rig_step(r, 2);
    wr_pipeline_drain(r->p, r->now);
    for (int i = 0; i < 10; i++)
        rig_advance(r, WEIR_NS_PER_S);
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_DONE);
    assert_int_equal(r->script[0].committed, 1001); /* a is delivered, b is not */
    rig_done(r);
    EXPECT_LEFT_END();
}

static uint64_t late_ticket;

static void complete_at_last(void *self)
{
    rig_complete_as(self, late_ticket, 0, WEIR_VERDICT_OK, 0);
    rig_complete_as(self, late_ticket, 0, WEIR_VERDICT_UNAVAILABLE, 0);
}

/* The one instance is closed while every shard that it may complete for is there. */
static void test_a_shared_sink_may_complete_until_it_is_closed(void **state)
{
    EXPECT_LEFT_BEGIN();
    struct rig *r = pair("a b c d");
    (void)state;
    r->comps[1].traits = WEIR_TRAIT_SHARED;
    r->comps[1].opt.sink.concurrency = 4;
    r->types[1].close = complete_at_last;
    rig_open(r);
    rig_step(r, 3);
    late_ticket = r->script[1].last_ticket; /* of the last shard that wrote: not the first one */
    assert_true(late_ticket >> 16 & 0xffff);
    rig_complete_as(&r->script[1], late_ticket, 99, WEIR_VERDICT_OK, 0); /* a list is there, and kept */
    rig_step(r, 1);
    rig_done(r);
    EXPECT_LEFT_END();
}

/* ---- Changing events ---- */

static enum weir_status change_parent_and_child(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    const struct weir_host *h = s->h;
    (void)again;
    struct weir_event *ev = weir_event_at(b, 0);
    h->object_set(b->arena, h->event_edit(h, b, ev), weir_cstr("n"), h->make_int(b->arena, 1));
    (void)h->event_payload(h, b, ev);
    h->object_set(b->arena, h->event_edit(h, b, ev), weir_cstr("n"), h->make_int(b->arena, 2));
    struct weir_event *child = weir_event_at(b, h->event_derive(h, b, 0));
    h->object_set(b->arena, h->event_edit(h, b, child), weir_cstr("n"), h->make_int(b->arena, 3));
    return WEIR_OK;
}

static void test_changes_behind_others_are_kept_apart(void **state)
{
    struct rig *r = rig_triple("{}");
    (void)state;
    r->script[1].apply = change_parent_and_child;
    rig_open(r);
    rig_step(r, 4);
    assert_string_equal(r->script[2].seen, "{\"n\":2},{\"n\":3},|");
    rig_done(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_repeated_is_alone),
        cmocka_unit_test(test_a_repetition_keeps_to_the_batch_size),
        cmocka_unit_test(test_retry_after_is_kept_and_bounded),
        cmocka_unit_test(test_pauses_double_up_to_their_limit_and_are_random_below_it),
        cmocka_unit_test(test_a_verdict_that_is_none_is_no_loss),
        cmocka_unit_test(test_an_outage_that_is_used_up_is_kept_whatever_on_reject_says),
        cmocka_unit_test(test_what_waits_behind_another_event_is_never_used_up),
        cmocka_unit_test(test_the_end_of_the_sources_fills_no_batch),
        cmocka_unit_test(test_what_is_known_counts_when_the_rest_is_given_up),
        cmocka_unit_test(test_a_shared_sink_may_complete_until_it_is_closed),
        cmocka_unit_test(test_changes_behind_others_are_kept_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
