/* SPDX-License-Identifier: Apache-2.0
 *
 * Lane, chain, buffer, outlet and acks, turned by hand with a clock of the test's own.
 */
#include "rig.h"

/* ---- Scripts ---- */

static enum weir_verdict first_write_away(struct rig_script *s, const struct weir_event *ev,
                                          uint32_t write)
{
    (void)s;
    (void)ev;
    return write == 0 ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_OK;
}

static enum weir_verdict reject_x(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)write;
    return ev->payload.ptr[0] == 'x' ? WEIR_VERDICT_REJECTED : WEIR_VERDICT_OK;
}

static enum weir_verdict always_retry(struct rig_script *s, const struct weir_event *ev,
                                      uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_RETRY;
}

static enum weir_verdict never(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_UNAVAILABLE;
}

static double metric_of(struct rig *r, const char *line)
{
    struct wr_buf out = {0};
    double v = -1;
    wr_metrics_print(r->metrics, &out);
    const char *at = strstr(out.ptr, line);
    if (at != NULL)
        v = strtod(at + strlen(line), NULL);
    wr_buf_done(&out);
    return v;
}

/* ---- Acks and the watermark ---- */

static void test_delivers_and_commits(void **state)
{
    struct rig *r = rig_pair("a b c");
    (void)state;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[1].seen, "a,b,c,|");
    assert_int_equal(r->script[0].committed, 1003);
    rig_done(r);
    assert_true(r->script[0].final);
}

static void test_watermark_waits_for_the_first(void **state)
{
    struct rig *r = rig_pair("a b c");
    struct rig_script *sink = &r->script[1];
    (void)state;
    sink->verdict = rig_pending;
    rig_open(r);
    rig_step(r, 3);
    rig_complete(sink, 2);
    rig_complete(sink, 1);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, -1);
    rig_complete(sink, 0);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, 1003);
    rig_done(r);
}

static void test_double_completion_is_ignored(void **state)
{
    struct rig *r = rig_pair("a b");
    struct rig_script *sink = &r->script[1];
    (void)state;
    sink->verdict = rig_pending;
    rig_open(r);
    rig_step(r, 3);
    rig_complete(sink, 0);
    rig_complete(sink, 0);
    rig_complete(sink, 77);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, -1);
    rig_complete(sink, 1);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, 1002);
    rig_done(r);
}

static void test_fan_out_waits_for_both(void **state)
{
    struct rig *r = rig_pair("a b");
    (void)state;
    uint32_t second = rig_add(r, WEIR_SINK, "second");
    rig_wire(r, 0, second);
    r->script[second].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[1].seen, "a,b,|");
    assert_int_equal(r->script[0].committed, -1);
    rig_complete(&r->script[second], 0);
    rig_complete(&r->script[second], 1);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, 1002);
    rig_done(r);
}

/* Of three words the second poll's come while the stream is closed: no commit, no write. */
static void test_closed_stream_is_abandoned(void **state)
{
    struct rig *r = rig_pair("a b c");
    (void)state;
    r->script[1].verdict = first_write_away;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[1].seen, "a,b,c,|");
    r->script[0].h->stream_close(r->script[0].stream);
    r->script[0].stream = NULL;
    rig_advance(r, 20 * WEIR_NS_PER_S);
    assert_string_equal(r->script[1].seen, "a,b,c,|");
    assert_int_equal(r->script[0].committed, -1);
    rig_done(r);
}

/* ---- Verdicts ---- */

static void test_unavailable_is_retried_in_order(void **state)
{
    struct rig *r = rig_pair("a b c");
    (void)state;
    r->script[1].verdict = first_write_away;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[1].seen, "a,b,c,|");
    rig_words(r, "d");
    rig_step(r, 3); /* no write while it waits */
    assert_string_equal(r->script[1].seen, "a,b,c,|");
    rig_advance(r, WEIR_NS_PER_S);
    assert_string_equal(r->script[1].seen, "a,b,c,|a,b,c,|d,|");
    assert_true(r->script[0].committed > 2000);
    rig_done(r);
}

static void test_rejected_is_dropped_by_choice(void **state)
{
    struct rig *r = rig_pair("a x c");
    (void)state;
    r->script[1].verdict = reject_x;
    rig_open(r);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, 1003);
    assert_true(metric_of(r, "weir_component_discarded_events_total{component=\"out\",kind=\"sink\","
                             "pipeline=\"rig\",reason=\"scripted\",type=\"script\"} ") == 1);
    rig_done(r);
}

static void test_rejected_goes_to_the_dead_letter(void **state)
{
    struct rig *r = rig_pair("a x\xff c");
    (void)state;
    uint32_t dead = rig_add(r, WEIR_SINK, "dead");
    r->comps[1].dead_letter = (int32_t)dead;
    r->comps[1].opt.sink.on_reject = WR_ON_DEAD_LETTER;
    r->comps[dead].is_dead_letter = true;
    r->comps[dead].opt.sink.on_reject = WR_ON_STOP;
    r->script[1].verdict = reject_x;
    r->script[dead].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 4);
    assert_int_equal(r->script[0].committed, 1001); /* until the dead letter is safe */
    rig_complete(&r->script[dead], 0);
    rig_step(r, 4);
    assert_int_equal(r->script[0].committed, 1003);
    const char *seen = r->script[dead].seen;
    assert_non_null(strstr(seen, "\"payload_base64\":\"eP8=\""));
    assert_non_null(strstr(seen, "\"code\":\"scripted\""));
    assert_non_null(strstr(seen, "\"reason\":\"as the test says\""));
    assert_non_null(strstr(seen, "\"component\":\"out\""));
    assert_non_null(strstr(seen, "\"origin\":{\"name\":\"rig\",\"partition\":0,\"offset\":1001}"));
    assert_non_null(strstr(seen, "\"id\":\"rig-0-1001\""));
    rig_done(r);
}

static void test_stop_fails_what_is_left(void **state)
{
    struct rig *r = rig_pair("a x c");
    (void)state;
    r->comps[1].opt.sink.on_reject = WR_ON_STOP;
    r->script[1].verdict = reject_x;
    rig_open(r);
    rig_step(r, 6);
    assert_int_equal(r->script[0].committed, 1001);
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_STOPPED);
    assert_non_null(strstr(wr_pipeline_reason(r->p), "sink 'out' rejected an event: scripted"));
    assert_false(wr_pipeline_ready(r->p));
    rig_done(r);
}

static void test_attempts_are_bounded(void **state)
{
    struct rig *r = rig_pair("a");
    (void)state;
    r->comps[1].opt.sink.retry.attempts = 3;
    r->script[1].verdict = always_retry;
    rig_open(r);
    rig_step(r, 3);
    for (int i = 0; i < 10; i++)
        rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_string_equal(r->script[1].seen, "a,|a,|a,|");
    assert_int_equal(r->script[0].committed, 1001); /* dropped, as on_reject says */
    rig_done(r);
}

/* k1 fails, k2 of the same key went through: an overwriting sink writes both again, in order. */
static enum weir_verdict first_k1_again(struct rig_script *s, const struct weir_event *ev,
                                        uint32_t write)
{
    (void)s;
    return write == 0 && wr_str_is(ev->payload, "k1") ? WEIR_VERDICT_RETRY : WEIR_VERDICT_OK;
}

static void test_order_of_a_key(void **state)
{
    for (int overwrites = 0; overwrites < 2; overwrites++) {
        struct rig *r = rig_pair("j1 k1 k2 j2");
        (void)state;
        r->comps[1].traits = overwrites ? WEIR_TRAIT_OVERWRITES : 0;
        r->script[1].verdict = first_k1_again;
        rig_open(r);
        rig_step(r, 3);
        rig_words(r, "k3");
        rig_advance(r, 10 * WEIR_NS_PER_S);
        assert_string_equal(r->script[1].seen, overwrites ? "j1,k1,k2,j2,|k1,k2,|k3,|"
                                                          : "j1,k1,k2,j2,|k1,|k3,|");
        rig_done(r);
    }
}

/* ---- Transforms ---- */

static enum weir_status split_and_drop(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    uint32_t n = b->n_events;
    (void)again;
    for (uint32_t i = 0; i < n; i++) {
        char first = weir_event_at(b, i)->payload.ptr[0];
        if (first == 's') {
            uint32_t child = s->h->event_derive(s->h, b, i);
            struct weir_event *ev = weir_event_at(b, child);
            s->h->event_set_payload(s->h, b, ev, weir_cstr("child"));
            assert_string_equal(ev->id.ptr, "rig-0-1001/1");
        }
        if (first == 'd')
            s->h->event_drop(s->h, b, weir_event_at(b, i), NULL);
    }
    return WEIR_OK;
}

static void test_children_follow_their_parent(void **state)
{
    struct rig *r = rig_triple("a s1 d1 b");
    (void)state;
    r->script[1].apply = split_and_drop;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[2].seen, "a,s1,child,b,|");
    rig_complete(&r->script[2], 0);
    rig_complete(&r->script[2], 1); /* the parent, not its child */
    rig_complete(&r->script[2], 3);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, -1);
    rig_complete(&r->script[2], 2);
    rig_step(r, 3);
    assert_int_equal(r->script[0].committed, 1004);
    rig_done(r);
}

static enum weir_status fail_x(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    struct weir_result r = {.verdict = WEIR_VERDICT_REJECTED, .code = "bad",
                            .message = weir_cstr("no good")};
    (void)again;
    for (uint32_t i = 0; i < b->n_events; i++) {
        struct weir_event *ev = weir_event_at(b, i);
        s->h->event_set_payload(s->h, b, ev, weir_cstr("changed"));
        if (wr_event_source_payload(ev).ptr[0] == 'x')
            s->h->event_fail(s->h, b, ev, &r);
    }
    return WEIR_OK;
}

static void test_failed_event_leaves_as_it_entered(void **state)
{
    struct rig *r = rig_triple("a x1");
    (void)state;
    uint32_t dead = rig_add(r, WEIR_SINK, "dead");
    r->comps[1].dead_letter = (int32_t)dead;
    r->comps[1].opt.transform.on_error = WR_ON_DEAD_LETTER;
    r->comps[dead].is_dead_letter = true;
    r->script[1].apply = fail_x;
    rig_open(r);
    rig_step(r, 4);
    assert_string_equal(r->script[2].seen, "changed,|");
    assert_non_null(strstr(r->script[dead].seen, "\"payload\":\"x1\",\"reason\":\"no good\""));
    assert_null(strstr(r->script[dead].seen, "changed"));
    assert_int_equal(r->script[0].committed, 1002);
    rig_done(r);
}

static enum weir_status again_once(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    if (s->n_polls++ == 0) {
        *again = rig_now->now + 5 * WEIR_NS_PER_S;
        return WEIR_AGAIN;
    }
    assert_int_equal(b->n_events, 2);
    return WEIR_OK;
}

static void test_again_parks_until_its_time(void **state)
{
    struct rig *r = rig_triple("a b");
    (void)state;
    r->script[1].apply = again_once;
    rig_open(r);
    rig_step(r, 4);
    assert_int_equal(r->script[1].n_polls, 1);
    rig_advance(r, 5 * WEIR_NS_PER_S);
    assert_int_equal(r->script[1].n_polls, 2);
    assert_string_equal(r->script[2].seen, "a,b,|");
    rig_done(r);
}

static void test_again_ends_with_a_wake(void **state)
{
    struct rig *r = rig_triple("a b");
    (void)state;
    r->script[1].apply = again_once;
    rig_open(r);
    rig_step(r, 2);
    r->script[1].h->wake(r->script[1].h);
    rig_step(r, 2);
    assert_string_equal(r->script[2].seen, "a,b,|");
    rig_done(r);
}

/* Holds everything; a tick joins what is held into one event. */
static struct weir_held *held[8];
static uint32_t n_held;

static enum weir_status hold_all(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    for (uint32_t i = 0; i < b->n_events; i++)
        held[n_held++] = s->h->event_hold(s->h, b, weir_event_at(b, i));
    return WEIR_OK;
}

static enum weir_status join_held(struct rig_script *s, struct weir_batch *b, bool final)
{
    if (!final || n_held == 0)
        return WEIR_OK;
    uint32_t i = s->h->event_join(s->h, b, NULL, 0, held, n_held);
    assert_int_equal(i, 0);
    s->h->event_set_payload(s->h, b, weir_event_at(b, i), weir_cstr("sum"));
    for (uint32_t k = 0; k < n_held; k++)
        s->h->held_drop(s->h, held[k]);
    n_held = 0;
    return WEIR_OK;
}

static void test_held_events_end_with_what_was_made_of_them(void **state)
{
    struct rig *r = rig_triple("a b c");
    (void)state;
    n_held = 0;
    r->script[1].apply = hold_all;
    r->script[1].tick = join_held;
    r->script[2].verdict = rig_pending;
    rig_open(r);
    rig_step(r, 4);
    assert_int_equal(n_held, 3);
    wr_pipeline_drain(r->p, r->now + 100 * WEIR_NS_PER_S);
    rig_step(r, 4);
    assert_string_equal(r->script[2].seen, "sum,|");
    assert_int_equal(r->script[0].committed, -1);
    rig_complete(&r->script[2], 0);
    rig_step(r, 4);
    assert_int_equal(r->script[0].committed, 1003);
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_DONE);
    rig_done(r);
}

static enum weir_status watch_all(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    for (uint32_t i = 0; i < b->n_events; i++)
        assert_true(s->h->event_watch(s->h, b, weir_event_at(b, i), 42));
    return WEIR_OK;
}

static void test_watcher_hears_the_outcome(void **state)
{
    struct rig *r = rig_triple("x1");
    (void)state;
    r->script[1].apply = watch_all;
    r->script[2].verdict = reject_x;
    rig_open(r);
    rig_step(r, 4);
    assert_int_equal(r->script[1].n_settled, 1);
    assert_int_equal(r->script[1].settled, WEIR_DROPPED);
    assert_int_equal(r->script[0].committed, 1001);
    rig_done(r);
}

static enum weir_status words_then_broken(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    enum weir_status status = rig_poll_words(s, b, room);
    return status == WEIR_OK ? WEIR_E_FATAL : status;
}

static void test_broken_source_delivers_what_it_gave(void **state)
{
    struct rig *r = rig_pair("a b");
    (void)state;
    r->plan.shutdown_timeout = 30 * WEIR_NS_PER_S;
    r->script[0].poll = words_then_broken;
    rig_open(r);
    rig_step(r, 6);
    assert_string_equal(r->script[1].seen, "a,b,|");
    assert_int_equal(r->script[0].committed, 1002);
    assert_int_equal(wr_pipeline_state(r->p), WR_PIPELINE_STOPPED);
    rig_done(r);
}

/* ---- Requests ---- */

static enum weir_status poll_request(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    (void)room;
    if (s->n_polls != 1)
        return WEIR_AGAIN;
    struct weir_request *one = s->h->request_begin(s->h, NULL);
    struct weir_request *none = s->h->request_begin(s->h, NULL);
    for (int i = 0; i < 3; i++) {
        struct weir_event *ev = rig_emit(s, b, i == 1 ? "x" : "a", i);
        ev->stream = NULL;
        ev->request = one;
    }
    s->h->request_seal(one, 3);
    s->h->request_seal(none, 0);
    return WEIR_OK;
}

static void test_request_is_answered_once(void **state)
{
    struct rig *r = rig_pair("");
    (void)state;
    r->script[0].poll = poll_request;
    r->script[1].verdict = reject_x;
    rig_open(r);
    rig_step(r, 4);
    /* Delivered, dropped, delivered; and the empty one. */
    assert_string_equal(r->script[0].answers, "121||");
    rig_done(r);
}

static void test_deadline_fails_requests(void **state)
{
    struct rig *r = rig_pair("");
    (void)state;
    r->script[0].poll = poll_request;
    r->script[1].verdict = never;
    rig_open(r);
    rig_step(r, 4);
    wr_pipeline_drain(r->p, r->now + WEIR_NS_PER_S);
    rig_step(r, 4);
    assert_string_equal(r->script[0].answers, "|");
    rig_advance(r, 2 * WEIR_NS_PER_S);
    rig_advance(r, 2 * WEIR_NS_PER_S);
    assert_string_equal(r->script[0].answers, "|555|");
    rig_done(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivers_and_commits),
        cmocka_unit_test(test_watermark_waits_for_the_first),
        cmocka_unit_test(test_double_completion_is_ignored),
        cmocka_unit_test(test_fan_out_waits_for_both),
        cmocka_unit_test(test_closed_stream_is_abandoned),
        cmocka_unit_test(test_unavailable_is_retried_in_order),
        cmocka_unit_test(test_rejected_is_dropped_by_choice),
        cmocka_unit_test(test_rejected_goes_to_the_dead_letter),
        cmocka_unit_test(test_stop_fails_what_is_left),
        cmocka_unit_test(test_attempts_are_bounded),
        cmocka_unit_test(test_order_of_a_key),
        cmocka_unit_test(test_children_follow_their_parent),
        cmocka_unit_test(test_failed_event_leaves_as_it_entered),
        cmocka_unit_test(test_again_parks_until_its_time),
        cmocka_unit_test(test_again_ends_with_a_wake),
        cmocka_unit_test(test_held_events_end_with_what_was_made_of_them),
        cmocka_unit_test(test_watcher_hears_the_outcome),
        cmocka_unit_test(test_broken_source_delivers_what_it_gave),
        cmocka_unit_test(test_request_is_answered_once),
        cmocka_unit_test(test_deadline_fails_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
