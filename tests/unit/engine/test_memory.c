/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine near the process's limit of memory: the sources wait, and never all of them for ever.
 */
#include "rig.h"

#include <base/budget.h>

/* Every look finds memory short, or none does. */
static void make_short(bool is_short)
{
    wr_budget_set(is_short ? 1 << 20 : (size_t)1 << 50);
}

static void test_no_more_comes_in_until_events_have_ended(void **state)
{
    (void)state;
    struct rig *r = rig_pair("a b");
    r->script[1].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[1].seen, "a,b,|");
    make_short(true);
    rig_words(r, "c d");
    uint32_t empty = r->script[0].n_empty_polls;
    rig_advance(r, WR_BUDGET_LOOK_NS);
    rig_step(r, 5);
    assert_string_equal(r->script[1].seen, "a,b,|");
    assert_true(r->script[0].n_empty_polls >= empty + 5); /* it is served all the same */
    rig_complete(&r->script[1], 0);
    rig_step(r, 3);
    assert_string_equal(r->script[1].seen, "a,b,|"); /* b has not ended */
    rig_complete(&r->script[1], 1);
    rig_step(r, 4);
    assert_string_equal(r->script[1].seen, "a,b,|c,d,|"); /* with nothing under way it goes on */
    rig_words(r, "e");
    rig_step(r, 4);
    assert_string_equal(r->script[1].seen, "a,b,|c,d,|");
    make_short(false);
    rig_advance(r, WR_BUDGET_LOOK_NS);
    rig_step(r, 4);
    assert_string_equal(r->script[1].seen, "a,b,|c,d,|"); /* the write before it is under way */
    rig_complete(&r->script[1], 0);
    rig_complete(&r->script[1], 1);
    rig_step(r, 4);
    assert_string_equal(r->script[1].seen, "a,b,|c,d,|e,|");
    rig_complete(&r->script[1], 0);
    rig_step(r, 2);
    wr_budget_set(0);
    rig_done(r);
}

static void test_it_looks_again_by_itself(void **state)
{
    (void)state;
    struct rig *r = rig_pair("a");
    r->script[1].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 3);
    make_short(true);
    rig_advance(r, WR_BUDGET_LOOK_NS);
    uint32_t polls = r->script[0].n_polls;
    int64_t next = wr_lane_step(r->p->lanes[0], INT64_MAX);
    assert_true(next <= r->now + WR_BUDGET_LOOK_NS);
    assert_int_equal(r->script[0].n_polls, polls);
    make_short(false);
    rig_words(r, "b");
    rig_advance(r, WR_BUDGET_LOOK_NS);
    assert_true(r->script[0].n_polls > polls);
    rig_complete(&r->script[1], 0);
    rig_step(r, 4);
    rig_complete(&r->script[1], 0);
    rig_step(r, 2);
    wr_budget_set(0);
    rig_done(r);
}

static size_t reported;

static enum weir_status report_and_poll(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    const struct weir_memory_extension *memory = s->h->extension(s->h, WEIR_MEMORY_EXTENSION);
    assert_non_null(memory);
    memory->report(s->h, "test", reported);
    return rig_poll_words(s, b, room);
}

static void test_what_an_instance_reports_goes_with_it(void **state)
{
    (void)state;
    struct rig *r = rig_pair("a");
    r->script[0].poll = report_and_poll;
    reported = 5000;
    rig_open(r);
    rig_step(r, 1);
    uint32_t use = wr_budget_use("test");
    assert_int_equal(wr_budget_used(use), 5000);
    reported = 3000;
    rig_step(r, 3);
    assert_int_equal(wr_budget_used(use), 3000);
    rig_done(r);
    assert_int_equal(wr_budget_used(use), 0);
}

/* Everything that was charged for events is paid back when they have gone. */
static void test_events_are_charged_while_they_live(void **state)
{
    (void)state;
    size_t before = wr_budget_used(WR_USE_EVENTS);
    struct rig *r = rig_pair("a b c");
    r->script[1].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 3);
    assert_true(wr_budget_used(WR_USE_EVENTS) >= before + 4096);
    for (uint32_t i = 0; i < 3; i++)
        rig_complete(&r->script[1], i);
    rig_step(r, 3);
    rig_done(r);
    assert_int_equal(wr_budget_used(WR_USE_EVENTS), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_more_comes_in_until_events_have_ended),
        cmocka_unit_test(test_it_looks_again_by_itself),
        cmocka_unit_test(test_what_an_instance_reports_goes_with_it),
        cmocka_unit_test(test_events_are_charged_while_they_live),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
