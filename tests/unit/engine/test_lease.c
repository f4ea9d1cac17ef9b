/* SPDX-License-Identifier: Apache-2.0
 *
 * What a source says of its instance while it runs: until when its streams' events may be written, and
 * that it can do nothing for want of a right. Turned by hand.
 */
#include "rig.h"

static const struct weir_lease_extension *lease_of(struct rig *r)
{
    const struct weir_host *h = r->script[0].h;
    const struct weir_lease_extension *lease = h->extension(h, WEIR_LEASE_EXTENSION);
    assert_non_null(lease);
    return lease;
}

/* ---- Leases ---- */

static void test_what_another_may_own_is_not_written(void **state)
{
    struct rig *r = rig_pair("a b");
    struct rig_script *source = &r->script[0], *sink = &r->script[1];
    (void)state;
    rig_open(r);
    lease_of(r)->until(source->stream, r->now + 10);
    r->now += 10;
    rig_step(r, 4);
    assert_string_equal(sink->seen, "");
    assert_int_equal(source->h->stream_pending(source->stream), 2);
    lease_of(r)->until(source->stream, r->now + 10);
    rig_step(r, 4);
    assert_string_equal(sink->seen, "a,b,|"); /* it was heard of: nothing is lost, or out of order */
    rig_done(r);
}

static void test_what_another_owns_is_let_go(void **state)
{
    struct rig *r = rig_pair("a b");
    struct rig_script *source = &r->script[0], *sink = &r->script[1];
    (void)state;
    rig_open(r);
    lease_of(r)->until(source->stream, r->now);
    rig_step(r, 4);
    source->h->stream_close(source->stream);
    struct weir_origin origin = {weir_cstr("next"), 0};
    source->stream = source->h->stream_open(source->h, &origin, source);
    rig_words(r, "c");
    rig_step(r, 4);
    assert_string_equal(sink->seen, "c,|");
    rig_done(r);
}

static enum weir_verdict once_more(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    return write == 0 && ev->payload.ptr[0] != 'a' ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_OK;
}

static void test_what_another_may_own_is_not_repeated(void **state)
{
    struct rig *r = rig_pair("a b c");
    struct rig_script *source = &r->script[0], *sink = &r->script[1];
    (void)state;
    sink->verdict = once_more;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(sink->seen, "a,b,c,|");
    lease_of(r)->until(source->stream, r->now + 1);
    rig_advance(r, 600 * WEIR_NS_PER_S);
    assert_string_equal(sink->seen, "a,b,c,|");
    lease_of(r)->until(source->stream, WEIR_NEVER);
    rig_words(r, "d");
    rig_step(r, 4);
    assert_string_equal(sink->seen, "a,b,c,|b,c,|d,|");
    rig_done(r);
}

/* ---- Readiness ---- */

static void test_an_instance_that_lacks_a_right_is_not_ready(void **state)
{
    struct rig *r = rig_pair("a");
    char text[WEIR_ERROR_TEXT];
    (void)state;
    rig_open(r);
    rig_step(r, 1);
    const struct weir_host *source = r->script[0].h, *sink = r->script[1].h;
    const struct weir_ready_extension *ready = source->extension(source, WEIR_READY_EXTENSION);
    assert_true(wr_pipeline_ready(r->p));
    ready->set(source, NULL); /* takes back what was never said */
    assert_true(wr_pipeline_ready(r->p));
    assert_false(wr_pipeline_unready(r->p, text, sizeof(text)));
    ready->set(source, "no login");
    ready->set(sink, "no right");
    ready->set(source, "no login yet");
    assert_false(wr_pipeline_ready(r->p));
    assert_true(wr_pipeline_unready(r->p, text, sizeof(text)));
    assert_non_null(strstr(text, "source '"));
    assert_non_null(strstr(text, "': no login yet"));
    ready->set(source, NULL);
    assert_false(wr_pipeline_ready(r->p));
    assert_true(wr_pipeline_unready(r->p, text, 12)); /* cut, not overrun */
    assert_int_equal(strlen(text), 11);
    ready->set(sink, NULL);
    assert_true(wr_pipeline_ready(r->p));
    ready->set(sink, "left at the end");
    rig_done(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_another_may_own_is_not_written),
        cmocka_unit_test(test_what_another_owns_is_let_go),
        cmocka_unit_test(test_what_another_may_own_is_not_repeated),
        cmocka_unit_test(test_an_instance_that_lacks_a_right_is_not_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
