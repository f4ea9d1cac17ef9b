/* SPDX-License-Identifier: Apache-2.0
 *
 * Streams and requests against simple models: when a watermark moves, when a request is answered.
 */
#include "ack_rig.h"

/* ---- Streams ---- */

/* 10,000 events on 5 streams whose positions have gaps, ended in any order by any outcome that counts
 * as done, with any number of them on their way. */
static void test_the_watermark_is_the_contiguous_part(void **state)
{
    enum { STREAMS = 5, EACH = 2000, N = STREAMS * EACH };
    static struct wr_ack *ack[N];
    static uint32_t order[N];
    static bool done[STREAMS][EACH];
    uint32_t first[STREAMS] = {0};
    (void)state;
    for (int s = 0; s < STREAMS; s++) {
        open_stream(s);
        for (int64_t at = 0; at < EACH; at += 100)
            enter(rig.streams[s].s, NULL, at * (s + 1), 100, s + 1, &ack[s * EACH + at]);
    }
    shuffle(order, N);
    struct wr_ended ended = {0};
    for (uint32_t i = 0; i < N; i++) {
        uint32_t s = order[i] / EACH, k = order[i] % EACH;
        wr_ack_settle(ack[order[i]], any(WEIR_DEAD_LETTERED + 1), NULL, &ended);
        done[s][k] = true;
        while (first[s] < EACH && done[s][first[s]])
            first[s]++;
        if (any(7) != 0)
            continue;
        wr_ended_flush(&ended);
        wr_acks_collect(rig.acks);
        assert_int_equal(wr_acks_open(rig.acks), N - 1 - i);
        for (uint32_t x = 0; x < STREAMS; x++)
            assert_int_equal(rig.streams[x].committed, first[x] != 0 ? (int64_t)first[x] * (x + 1) : -1);
    }
    wr_ended_flush(&ended);
    wr_acks_collect(rig.acks);
    wr_acks_final(rig.acks);
    for (uint32_t x = 0; x < STREAMS; x++) {
        assert_int_equal(rig.streams[x].committed, EACH * (x + 1));
        assert_int_equal(rig.streams[x].n_final, 1);
        assert_int_equal(wr_stream_pending(rig.streams[x].s), 0);
    }
    assert_int_equal(wr_acks_failed(rig.acks), 0);
}

/* In and out all the time, so that the ring wraps and grows while it is in use. */
static void test_a_window_moves_along(void **state)
{
    enum { WINDOW = 3000, N = 100000 };
    static struct wr_ack *ack[WINDOW];
    static int64_t at[WINDOW];
    struct heard_stream *hs = open_stream(0);
    uint32_t n = 0;
    (void)state;
    for (int64_t next = 0; next < N || n != 0;) {
        uint32_t in = any(64), out = any(70);
        for (; in > 0 && next < N && n < WINDOW; in--) {
            enter(hs->s, NULL, next, 1, 1, &ack[n]);
            at[n++] = next++;
        }
        int64_t least = next;
        for (; out > 0 && n != 0; out--) {
            uint32_t i = any(n);
            settle(ack[i], WEIR_DELIVERED);
            ack[i] = ack[--n];
            at[i] = at[n];
        }
        for (uint32_t i = 0; i < n; i++)
            least = at[i] < least ? at[i] : least;
        wr_acks_collect(rig.acks);
        assert_int_equal(hs->committed, least != 0 ? least : -1);
        assert_int_equal(wr_stream_pending(hs->s), n);
    }
}

static void test_a_failed_event_holds_the_watermark(void **state)
{
    struct heard_stream *hs = open_stream(0);
    struct wr_ack *ack[5];
    (void)state;
    enter(hs->s, NULL, 10, 5, 1, ack);
    settle(ack[1], WEIR_FAILED);
    for (int i = 0; i < 5; i++)
        if (i != 1)
            settle(ack[i], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    wr_acks_final(rig.acks);
    assert_int_equal(hs->committed, 11);
    assert_int_equal(wr_acks_failed(rig.acks), 1);
}

static void test_what_never_moved_is_not_stored(void **state)
{
    struct heard_stream *hs = open_stream(0);
    struct wr_ack *ack[2];
    (void)state;
    wr_acks_final(rig.acks);
    enter(hs->s, NULL, 0, 2, 1, ack);
    settle(ack[1], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    wr_acks_final(rig.acks);
    assert_int_equal(hs->n_commits, 0);
    settle(ack[0], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(hs->committed, 2);
}

static void test_a_closed_stream_is_nobody_s(void **state)
{
    struct heard_stream *hs = open_stream(0), *other = open_stream(1);
    struct wr_ack *ack[3], *left[2], *child, *parents[2];
    (void)state;
    enter(hs->s, NULL, 0, 3, 1, ack);
    enter(other->s, NULL, 0, 2, 1, left);
    wr_ack_ref(ack[2]);
    wr_ack_ref(left[0]);
    parents[0] = ack[2];
    parents[1] = left[0];
    child = wr_acks_child(rig.acks, parents, 2, NULL, 0);
    settle(ack[0], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(hs->committed, 1);
    assert_false(is_gone(ack[1]));
    wr_stream_close(hs->s);
    assert_true(is_gone(ack[1]));
    assert_false(is_gone(left[0]));
    assert_false(is_gone(child)); /* one of its parents still counts */
    settle(ack[1], WEIR_ABANDONED);
    settle(ack[2], WEIR_DELIVERED);
    settle(left[0], WEIR_DELIVERED);
    settle(child, WEIR_DELIVERED);
    settle(left[1], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    wr_acks_final(rig.acks);
    assert_int_equal(hs->n_commits, 1);
    assert_int_equal(other->committed, 2);
    assert_int_equal(wr_acks_failed(rig.acks), 0); /* abandoned is not failed */
}

static void test_what_has_no_lease_any_more_waits(void **state)
{
    struct heard_stream *hs = open_stream(0), *other = open_stream(1);
    struct wr_ack *ack[2], *left[1], *child, *parents[2];
    (void)state;
    enter(hs->s, NULL, 0, 2, 1, ack);
    enter(other->s, NULL, 0, 1, 1, left);
    parents[0] = ack[1];
    parents[1] = left[0];
    child = wr_acks_child(rig.acks, parents, 2, NULL, 0);
    assert_int_equal(wr_ack_fate(ack[0], WEIR_NEVER - 1), WR_FATE_WRITE);
    wr_stream_lease(hs->s, 10);
    assert_int_equal(wr_ack_fate(ack[0], 9), WR_FATE_WRITE);
    assert_int_equal(wr_ack_fate(ack[0], 10), WR_FATE_WAIT);
    assert_int_equal(wr_ack_fate(left[0], 10), WR_FATE_WRITE);
    assert_int_equal(wr_ack_fate(child, 9), WR_FATE_WRITE);
    assert_int_equal(wr_ack_fate(child, 10), WR_FATE_WAIT); /* one of its parents may have another owner */
    wr_stream_lease(hs->s, 20);
    assert_int_equal(wr_ack_fate(child, 19), WR_FATE_WRITE);
    wr_stream_close(hs->s);
    assert_int_equal(wr_ack_fate(ack[0], 5), WR_FATE_GONE);
    assert_int_equal(wr_ack_fate(child, 30), WR_FATE_WRITE);
    settle(ack[0], WEIR_ABANDONED);
    settle(child, WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
}

static void test_a_child_of_closed_streams_is_abandoned(void **state)
{
    struct wr_ack *ack[2], *child;
    (void)state;
    for (int i = 0; i < 2; i++)
        enter(open_stream(i)->s, NULL, 0, 1, 1, &ack[i]);
    child = wr_acks_child(rig.acks, ack, 2, NULL, 0);
    wr_stream_close(rig.streams[0].s);
    assert_false(is_gone(child));
    wr_stream_close(rig.streams[1].s);
    assert_true(is_gone(child));
    assert_false(is_gone(NULL));
    settle(child, WEIR_ABANDONED);
    wr_acks_collect(rig.acks);
}

/* What a tick makes of nothing, and is watched, came at no time: it hides nothing that came later. */
static void test_a_child_of_nobody_is_not_the_oldest(void **state)
{
    struct wr_ack *ack, *child = wr_acks_child(rig.acks, NULL, 0, WATCHER, 1);
    (void)state;
    rig.settled = wr_alloc(2);
    assert_int_equal(wr_acks_oldest(rig.acks), INT64_MAX);
    enter(open_stream(0)->s, NULL, 0, 1, 1, &ack);
    assert_int_equal(wr_acks_oldest(rig.acks), rig.now);
    settle(ack, WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(wr_acks_oldest(rig.acks), INT64_MAX);
    settle(child, WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(rig.n_settled, 1);
}

/* A transform that joins each event to what it joined before: asking must not go down the whole line. */
static void test_a_long_line_of_children_is_not_walked(void **state)
{
    struct wr_ack *last;
    (void)state;
    enter(open_stream(0)->s, NULL, 0, 1, 1, &last);
    wr_stream_close(rig.streams[0].s);
    for (int i = 0; i < 300000; i++) {
        last = wr_acks_child(rig.acks, &last, 1, NULL, 0);
        if (i < 10)
            assert_true(is_gone(last));
    }
    assert_false(is_gone(last)); /* not known */
    settle(last, WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
}

/* As a source does that gives up partitions from inside its commit. */
static void close_some(struct heard_stream *hs)
{
    int i = (int)(hs - rig.streams);
    assert_true(wr_stream_pending(hs->s) <= 1);
    if (i != 3)
        return;
    for (int k = 0; k < MAX_STREAMS; k++)
        if (k != 5)
            wr_stream_close(rig.streams[k].s);
}

static void test_commit_may_close_streams(void **state)
{
    struct wr_ack *ack[MAX_STREAMS][2];
    (void)state;
    rig.in_commit = close_some;
    for (int i = 0; i < MAX_STREAMS; i++)
        enter(open_stream(i)->s, NULL, 0, 2, 1, ack[i]);
    for (int i = 0; i < MAX_STREAMS; i++) {
        settle(ack[i][0], WEIR_DELIVERED);
        if (i % 2 != 0)
            settle(ack[i][1], WEIR_DELIVERED);
    }
    wr_acks_collect(rig.acks);
    assert_int_equal(rig.streams[3].n_commits, 1);
    assert_int_equal(rig.streams[5].committed, 2);
    int others = 0;
    for (int i = 0; i < MAX_STREAMS; i += 2) {
        others += rig.streams[i].n_commits;
        settle(ack[i][1], WEIR_DELIVERED);
    }
    wr_acks_collect(rig.acks);
    for (int i = 0; i < MAX_STREAMS; i += 2)
        others -= rig.streams[i].n_commits;
    assert_int_equal(others, 0);
    wr_acks_final(rig.acks);
    assert_int_equal(rig.streams[5].n_final, 1);
}

static void close_all(struct heard_stream *hs)
{
    if (hs->n_final != 0)
        for (int k = 0; k < 4; k++)
            wr_stream_close(rig.streams[k].s);
}

static void test_the_final_commit_may_close_streams(void **state)
{
    struct wr_ack *ack[4];
    (void)state;
    for (int i = 0; i < 4; i++) {
        enter(open_stream(i)->s, NULL, 0, 1, 1, &ack[i]);
        settle(ack[i], WEIR_DELIVERED);
    }
    wr_acks_collect(rig.acks);
    rig.in_commit = close_all;
    wr_acks_final(rig.acks);
    int final = 0;
    for (int i = 0; i < 4; i++)
        final += rig.streams[i].n_final;
    assert_int_equal(final, 1);
}

static void test_a_full_window_counts_as_a_full_buffer(void **state)
{
    enum { N = 1 << 20, EACH = 4096 };
    struct wr_ack **ack = wr_xalloc(N * sizeof(*ack));
    struct heard_stream *hs = open_stream(0);
    (void)state;
    for (int64_t at = 0; at < N; at += EACH) {
        assert_false(wr_acks_full(rig.acks));
        enter(hs->s, NULL, at, EACH, 1, ack + at);
    }
    assert_true(wr_acks_full(rig.acks));
    struct wr_ended ended = {0};
    for (int64_t i = N - 1; i > 0; i--)
        wr_ack_settle(ack[i], WEIR_DELIVERED, NULL, &ended);
    wr_ended_flush(&ended);
    wr_acks_collect(rig.acks);
    assert_true(wr_acks_full(rig.acks)); /* the first one is still on its way */
    settle(ack[0], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_false(wr_acks_full(rig.acks));
    assert_int_equal(hs->committed, N);
    wr_free(ack);
}

static void test_the_oldest_is_known(void **state)
{
    struct heard_stream *hs = open_stream(0);
    struct wr_ack *a[2], *b[2];
    (void)state;
    assert_int_equal(wr_acks_oldest(rig.acks), INT64_MAX);
    enter(hs->s, NULL, 0, 2, 1, a);
    int64_t first = rig.now;
    enter(hs->s, NULL, 2, 2, 1, b);
    assert_int_equal(wr_acks_oldest(rig.acks), first);
    settle(b[0], WEIR_DELIVERED);
    settle(a[1], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(wr_acks_oldest(rig.acks), first);
    settle(a[0], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(wr_acks_oldest(rig.acks), first + 1);
    settle(b[1], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(wr_acks_oldest(rig.acks), INT64_MAX);
}

static void test_a_source_may_wait_for_nothing(void **state)
{
    struct wr_ack *ack[10];
    (void)state;
    enter(NULL, NULL, 0, 10, 1, ack);
    for (int i = 0; i < 10; i++)
        settle(ack[i], WEIR_FAILED);
    wr_acks_collect(rig.acks);
    assert_int_equal(wr_acks_failed(rig.acks), 10);
    wr_ack_ref(NULL);
    wr_ack_note(NULL, NULL);
    settle(NULL, WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    assert_int_equal(wr_acks_failed(rig.acks), 10);
}

/* ---- Requests ---- */

static void test_requests_are_answered_once_with_every_outcome(void **state)
{
    enum { N = 2000, MAX_ITEMS = 20 };
    static struct {
        uint32_t n, entered, ended;
        bool sealed;
        struct wr_ack *ack[MAX_ITEMS];
        enum weir_outcome outcome[MAX_ITEMS];
    } model[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        model[i].n = any(MAX_ITEMS + 1);
        assert_non_null(begin_request(i));
    }
    assert_int_equal(wr_acks_requests(rig.acks), N);
    for (int left = N; left > 0;) {
        int i = (int)any(N);
        bool was_over = model[i].sealed && model[i].ended == model[i].n;
        switch (any(3)) {
        case 0: /* some more of its items, by a poll of their own */
            if (model[i].entered < model[i].n) {
                uint32_t n = 1 + any(model[i].n - model[i].entered);
                enter(NULL, rig.requests[i].r, model[i].entered, n, 1,
                      &model[i].ack[model[i].entered]);
                model[i].entered += n;
            }
            break;
        case 1:
            if (model[i].entered == model[i].n && !model[i].sealed) {
                wr_request_seal(rig.requests[i].r, model[i].n);
                assert_int_equal(rig.requests[i].n_answers, 0); /* never inside the call */
                model[i].sealed = true;
            }
            break;
        default:
            if (model[i].ended < model[i].entered) {
                uint32_t k = model[i].ended++;
                model[i].outcome[k] = any(WEIR_FAILED + 1);
                settle(model[i].ack[k], model[i].outcome[k]);
            }
        }
        wr_acks_collect(rig.acks);
        bool over = model[i].sealed && model[i].ended == model[i].n;
        assert_int_equal(rig.requests[i].n_answers, over);
        left -= over && !was_over;
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(rig.requests[i].n_answers, 1);
        assert_int_equal(rig.requests[i].n, model[i].n);
        for (uint32_t k = 0; k < model[i].n; k++)
            assert_int_equal(rig.requests[i].ends[k], model[i].outcome[k]);
    }
    assert_int_equal(wr_acks_requests(rig.acks), 0);
}

static struct wr_why why_of(enum weir_outcome outcome, const char *component, const char *code,
                            const char *message)
{
    return (struct wr_why){outcome, weir_cstr(component), code, weir_cstr(message), NULL};
}

static void test_the_worst_reason_is_told_and_of_equals_the_first(void **state)
{
    struct wr_ack *ack;
    struct wr_ended ended = {0};
    char text[] = "duplicate";
    (void)state;
    enter(NULL, begin_request(0), 0, 1, 1, &ack);
    wr_request_seal(rig.requests[0].r, 1);
    for (int i = 0; i < 4; i++)
        wr_ack_ref(ack);
    struct wr_why dropped = why_of(WEIR_DROPPED, "a", "late", "too late");
    struct wr_why dead = why_of(WEIR_DEAD_LETTERED, "store", "e11000", text);
    struct wr_why second = why_of(WEIR_DEAD_LETTERED, "b", "other", "the second of its kind");
    wr_ack_settle(ack, WEIR_DROPPED, &dropped, &ended);
    wr_ack_note(ack, &dead); /* told now, settled later */
    memset(text, 'x', sizeof(text) - 1); /* texts are copied */
    wr_ack_settle(ack, WEIR_DEAD_LETTERED, &second, &ended);
    wr_ack_settle(ack, WEIR_DROPPED, &dropped, &ended);
    wr_ack_settle(ack, WEIR_DELIVERED, NULL, &ended);
    wr_ack_settle(ack, WEIR_DEAD_LETTERED, NULL, &ended);
    wr_ended_flush(&ended);
    wr_acks_collect(rig.acks);
    assert_int_equal(rig.requests[0].ends[0], WEIR_DEAD_LETTERED);
    assert_string_equal(rig.requests[0].text, "e11000 store duplicate");
}

static void test_a_reason_shows_no_secret(void **state)
{
    static const struct wr_secret secret = {{"hunter2", 7}, NULL};
    struct wr_ack *ack;
    struct wr_ended ended = {0};
    struct wr_why why = why_of(WEIR_DROPPED, "a", "late", "hunter2 and hunter3");
    (void)state;
    enter(NULL, begin_request(0), 0, 1, 1, &ack);
    wr_request_seal(rig.requests[0].r, 1);
    why.secrets = &secret;
    wr_ack_settle(ack, WEIR_DROPPED, &why, &ended);
    wr_ended_flush(&ended);
    wr_acks_collect(rig.acks);
    assert_string_equal(rig.requests[0].text, "late a ******* and hunter3");
}

static void test_at_the_deadline_requests_fail_and_late_ends_change_nothing(void **state)
{
    struct wr_ack *ack[3], *open_some[4], *over;
    struct wr_why why = why_of(WEIR_FAILED, "", "shutdown", "the end");
    (void)state;
    enter(NULL, begin_request(0), 0, 3, 1, ack);
    wr_request_seal(rig.requests[0].r, 3);
    settle(ack[1], WEIR_DELIVERED);
    enter(NULL, begin_request(1), 0, 2, 2, open_some); /* not sealed: items 0, 2, 3, 4 */
    enter(NULL, rig.requests[1].r, 3, 2, 1, open_some + 2);
    settle(open_some[1], WEIR_DELIVERED);
    settle(open_some[2], WEIR_DEAD_LETTERED);
    begin_request(2);                                  /* with nothing in it */
    enter(NULL, begin_request(3), 0, 1, 1, &over);
    wr_request_seal(rig.requests[3].r, 1);
    settle(over, WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    wr_acks_fail_requests(rig.acks, &why);
    for (int i = 0; i < 4; i++)
        assert_int_equal(rig.requests[i].n_answers, 1);
    assert_int_equal(rig.requests[0].n, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rig.requests[0].ends[i], i == 1 ? WEIR_DELIVERED : WEIR_FAILED);
    assert_string_equal(rig.requests[0].text, "shutdown  the end");
    static const enum weir_outcome of_open[] = {WEIR_FAILED, WEIR_FAILED, WEIR_DELIVERED,
                                                WEIR_DEAD_LETTERED, WEIR_FAILED};
    assert_int_equal(rig.requests[1].n, 5);
    for (int i = 0; i < 5; i++)
        assert_int_equal(rig.requests[1].ends[i], of_open[i]);
    assert_int_equal(rig.requests[2].n, 0);
    assert_int_equal(rig.requests[3].ends[0], WEIR_DELIVERED);
    assert_int_equal(wr_acks_requests(rig.acks), 0);
    struct wr_why late = why_of(WEIR_FAILED, "late", "late", "late");
    struct wr_ended ended = {0};
    wr_ack_settle(ack[0], WEIR_FAILED, &late, &ended);
    wr_ended_flush(&ended);
    settle(ack[2], WEIR_DELIVERED);
    settle(open_some[0], WEIR_DELIVERED);
    settle(open_some[3], WEIR_DELIVERED);
    wr_acks_collect(rig.acks);
    wr_acks_fail_requests(rig.acks, &why);
    for (int i = 0; i < 4; i++)
        assert_int_equal(rig.requests[i].n_answers, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ACKS(test_the_watermark_is_the_contiguous_part),
        ACKS(test_a_window_moves_along),
        ACKS(test_a_failed_event_holds_the_watermark),
        ACKS(test_what_never_moved_is_not_stored),
        ACKS(test_a_closed_stream_is_nobody_s),
        ACKS(test_what_has_no_lease_any_more_waits),
        ACKS(test_a_child_of_closed_streams_is_abandoned),
        ACKS(test_a_child_of_nobody_is_not_the_oldest),
        ACKS(test_a_long_line_of_children_is_not_walked),
        ACKS(test_commit_may_close_streams),
        ACKS(test_the_final_commit_may_close_streams),
        ACKS(test_a_full_window_counts_as_a_full_buffer),
        ACKS(test_the_oldest_is_known),
        ACKS(test_a_source_may_wait_for_nothing),
        ACKS(test_requests_are_answered_once_with_every_outcome),
        ACKS(test_the_worst_reason_is_told_and_of_equals_the_first),
        ACKS(test_a_reason_shows_no_secret),
        ACKS(test_at_the_deadline_requests_fail_and_late_ends_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
