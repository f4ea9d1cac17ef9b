/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream whose watermark can move no more, because an event was left where it was: the others go on, as
 * many as there are, and none of them counts.
 */
#include "ack_rig.h"

#define ROUND 4096u

static void the_window_of_a_stuck_stream_is_never_full(void **state)
{
    struct heard_stream *hs = open_stream(0);
    static struct wr_ack *acks[ROUND];
    (void)state;
    enter(hs->s, NULL, 0, 3, 1, acks);
    settle(acks[0], WEIR_DELIVERED);
    settle(acks[1], WEIR_ABANDONED);
    settle(acks[2], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(hs->committed, 1);
    for (int64_t at = 3; at < 3 * (1 << 20); at += ROUND) {
        enter(hs->s, NULL, at, ROUND, 1, acks);
        assert_int_equal(wr_stream_pending(hs->s), ROUND);
        for (uint32_t i = 0; i < ROUND; i++)
            settle(acks[i], i % 7 == 0 ? WEIR_ABANDONED : i % 5 == 0 ? WEIR_FAILED : WEIR_DELIVERED);
        wr_acks_collect(rig.acks);
        assert_false(wr_acks_full(rig.acks));
    }
    assert_int_equal(wr_stream_pending(hs->s), 0);
    wr_acks_final(rig.acks);
    assert_int_equal(hs->committed, 1);
}

/* What came before the head was stuck keeps its place, in whatever order it ends. */
static void what_was_under_way_ends_as_ever(void **state)
{
    struct heard_stream *hs = open_stream(0);
    struct wr_ack *acks[4], *late[2];
    (void)state;
    enter(hs->s, NULL, 0, 4, 1, acks);
    settle(acks[2], WEIR_FAILED);
    wr_acks_collect(rig.acks);
    enter(hs->s, NULL, 4, 1, 1, late); /* it is not the head yet */
    settle(acks[0], WEIR_DELIVERED);
    settle(acks[1], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(hs->committed, 2);
    enter(hs->s, NULL, 5, 1, 1, late + 1);
    settle(late[1], WEIR_DELIVERED);
    settle(late[0], WEIR_DELIVERED);
    settle(acks[3], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(wr_stream_pending(hs->s), 0);
    wr_acks_final(rig.acks);
    assert_int_equal(hs->committed, 2);
}

static void a_stuck_stream_can_be_closed_early(void **state)
{
    struct heard_stream *hs = open_stream(0);
    struct wr_ack *acks[2], *late[1];
    (void)state;
    enter(hs->s, NULL, 0, 2, 1, acks);
    settle(acks[0], WEIR_ABANDONED);
    wr_acks_collect(rig.acks);
    enter(hs->s, NULL, 2, 1, 1, late);
    wr_stream_close(hs->s);
    settle(acks[1], WEIR_DELIVERED);
    settle(late[0], WEIR_DELIVERED); /* the stream goes with it */
    wr_acks_collect(rig.acks);
    assert_int_equal(hs->committed, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_window_of_a_stuck_stream_is_never_full, begin, end),
        cmocka_unit_test_setup_teardown(what_was_under_way_ends_as_ever, begin, end),
        cmocka_unit_test_setup_teardown(a_stuck_stream_can_be_closed_early, begin, end),
    };
    return cmocka_run_group_tests_name("ack_stuck", tests, NULL, NULL);
}
