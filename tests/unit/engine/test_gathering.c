/* SPDX-License-Identifier: Apache-2.0
 *
 * Batches and buffers, turned by hand: when a sink writes, what a full buffer does to its lane, and that
 * payloads are not copied on their way.
 */
#include "rig.h"

static enum weir_verdict never(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_UNAVAILABLE;
}

static void test_batch_waits_for_its_timeout(void **state)
{
    struct rig *r = rig_pair("a");
    (void)state;
    r->comps[1].opt.sink.batch.timeout = 5 * WEIR_NS_PER_S;
    rig_open(r);
    rig_step(r, 3);
    rig_advance(r, 3 * WEIR_NS_PER_S);
    assert_string_equal(r->script[1].seen, "");
    rig_words(r, "b");
    rig_step(r, 3);
    rig_advance(r, 3 * WEIR_NS_PER_S);
    assert_string_equal(r->script[1].seen, "a,b,|");
    rig_done(r);
}

static void test_batch_is_cut_at_its_size(void **state)
{
    struct rig *r = rig_pair("a b c d e");
    (void)state;
    r->comps[1].opt.sink.batch.events = 2;
    rig_open(r);
    rig_step(r, 4);
    assert_string_equal(r->script[1].seen, "a,b,|c,d,|e,|");
    rig_done(r);
}

static void test_full_buffer_parks_the_lane(void **state)
{
    struct rig *r = rig_pair("a b");
    (void)state;
    r->comps[1].opt.sink.buffer.size = 1; /* an empty buffer takes any batch, a second one waits */
    r->script[1].verdict = never;
    rig_open(r);
    rig_step(r, 2);
    rig_words(r, "c");
    rig_step(r, 1);
    uint32_t polls = r->script[0].n_polls;
    rig_words(r, "d");
    rig_step(r, 5);
    assert_int_equal(r->script[0].n_polls, polls); /* served with room 0 only */
    assert_true(r->script[0].n_empty_polls >= 5);
    r->script[1].verdict = NULL;
    rig_advance(r, 60 * WEIR_NS_PER_S);
    rig_step(r, 5);
    assert_non_null(strstr(r->script[1].seen, "a,b,|c,|d,|"));
    rig_done(r);
}

static void test_full_buffer_waits_for_no_batch(void **state)
{
    struct rig *r = rig_pair("a");
    (void)state;
    r->comps[1].opt.sink.buffer.size = 1;
    r->comps[1].opt.sink.batch.timeout = 3600 * WEIR_NS_PER_S;
    rig_open(r);
    rig_step(r, 3);
    assert_string_equal(r->script[1].seen, ""); /* others may come */
    rig_words(r, "b");
    rig_step(r, 3); /* they cannot */
    assert_string_equal(r->script[1].seen, "a,|");
    rig_done(r);
}

static void test_as_many_lanes_as_are_asked_for(void **state)
{
    struct rig *r = rig_pair("");
    (void)state;
    r->comps[0].opt.source.lanes = 100;
    rig_open(r);
    assert_int_equal(r->p->n_lanes, 100);
    rig_done(r);
}

/* ---- No copies ---- */

static const char constant[] = "{\"n\":1}";

static enum weir_status poll_constant(struct rig_script *s, struct weir_batch *b, uint32_t room)
{
    (void)room;
    if (s->n_polls > 3)
        return WEIR_AGAIN;
    struct weir_event *ev = rig_emit(s, b, "", s->n_polls);
    ev->payload = weir_cstr(constant);
    ev->key = weir_str_n(constant + 2, 1);
    return WEIR_OK;
}

static enum weir_verdict not_copied(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    assert_ptr_equal(ev->payload.ptr, constant);
    assert_ptr_equal(ev->key.ptr, constant + 2);
    return write == 0 ? WEIR_VERDICT_UNAVAILABLE : WEIR_VERDICT_OK;
}

static enum weir_status read_and_split(struct rig_script *s, struct weir_batch *b, int64_t *again)
{
    (void)again;
    for (uint32_t i = 0; i < b->n_events; i++) {
        assert_non_null(s->h->event_value(s->h, b, weir_event_at(b, i)));
        s->h->event_send(s->h, weir_event_at(b, i), (uint32_t)weir_event_at(b, i)->position % 2);
    }
    return WEIR_OK;
}

/* Through a transform that reads, by ports, to two sinks, gathered, and repeated. */
static void test_payloads_are_not_copied_on_their_way(void **state)
{
    static struct weir_str ports[] = {{"a", 1}, {"b", 1}};
    struct rig *r = rig_triple("");
    (void)state;
    uint32_t second = rig_add(r, WEIR_SINK, "second");
    r->comps[1].ports = ports;
    r->comps[1].n_ports = 2;
    r->edges[1][0] = (struct wr_edge){2, 1};
    r->edges[1][1] = (struct wr_edge){2, 2};
    r->edges[1][2] = (struct wr_edge){second, 1};
    r->comps[1].n_outs = 3;
    r->script[0].poll = poll_constant;
    r->script[1].apply = read_and_split;
    r->script[2].verdict = r->script[second].verdict = not_copied;
    r->comps[2].opt.sink.batch.events = 3;
    r->comps[2].opt.sink.batch.timeout = 3600 * WEIR_NS_PER_S;
    rig_open(r);
    rig_step(r, 8);
    rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_string_equal(r->script[2].seen, "{\"n\":1},{\"n\":1},{\"n\":1},|{\"n\":1},{\"n\":1},{\"n\":1},|");
    assert_int_equal(r->script[second].n_writes, 2);
    assert_int_equal(r->script[0].committed, 4);
    rig_done(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_waits_for_its_timeout),
        cmocka_unit_test(test_batch_is_cut_at_its_size),
        cmocka_unit_test(test_full_buffer_parks_the_lane),
        cmocka_unit_test(test_full_buffer_waits_for_no_batch),
        cmocka_unit_test(test_as_many_lanes_as_are_asked_for),
        cmocka_unit_test(test_payloads_are_not_copied_on_their_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
