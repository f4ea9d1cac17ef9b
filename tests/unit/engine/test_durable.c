/* SPDX-License-Identifier: Apache-2.0
 *
 * A durable buffer in the place of the one in memory: it acks what it was given when the test says that
 * it is safe, gives it out then, and counts what its outlet ended and what it left.
 */
#include "rig.h"

#include <engine/outlet_impl.h>

struct store {
    struct wr_buffer base; /* first */
    struct wr_entry *given, *safe;
    uint32_t n_given, n_ended, n_kept;
};

static void append(struct wr_entry **list, struct wr_entry *entry)
{
    while (*list != NULL)
        list = &(*list)->next;
    *list = entry;
}

static bool store_push(struct wr_buffer *buf, struct wr_batch *take_b, int64_t now, struct wr_waiter *w)
{
    struct store *st = (struct store *)(void *)buf;
    struct wr_entry *entry = wr_xalloc(sizeof(*entry));
    (void)w;
    *entry = (struct wr_entry){.buffer = buf, .batch = take_b, .pushed_ns = now};
    atomic_init(&entry->n_left, take_b->pub.n_events);
    append(&st->given, entry);
    st->n_given += take_b->pub.n_events;
    return true;
}

static struct wr_entry *store_take(struct wr_buffer *buf)
{
    struct store *st = (struct store *)(void *)buf;
    struct wr_entry *entry = st->safe;
    if (entry != NULL)
        st->safe = entry->next;
    return entry;
}

static void entry_free(struct wr_entry *take_entry)
{
    wr_batch_free(take_entry->batch);
    wr_free(take_entry);
}

static void store_settle(struct wr_buffer *buf, struct wr_entry *entry, uint32_t n, size_t bytes,
                         bool failed)
{
    struct store *st = (struct store *)(void *)buf;
    (void)bytes;
    *(failed ? &st->n_kept : &st->n_ended) += n;
    if (atomic_fetch_sub(&entry->n_left, n) == n)
        entry_free(entry);
}

static void store_free(struct wr_buffer *take_buf)
{
    struct store *st = (struct store *)(void *)take_buf;
    while (st->safe != NULL)
        entry_free(store_take(take_buf));
    assert_null(st->given);
}

/* The disk has it. */
static void sync_store(struct store *st)
{
    struct wr_ended ended = {0};
    for (struct wr_entry *e = st->given, *next; e != NULL; e = next) {
        next = e->next;
        e->next = NULL;
        for (uint32_t i = 0; i < e->batch->pub.n_events; i++) {
            struct weir_event *ev = &wr_batch_events(e->batch)[i];
            wr_ack_settle(ev->host_ack, WEIR_DELIVERED, NULL, &ended);
            ev->host_ack = NULL;
        }
        append(&st->safe, e);
    }
    st->given = NULL;
    wr_ended_flush(&ended);
    st->base.filled(st->base.arg);
}

static struct rig *open_with(struct store *st, const char *words)
{
    static const struct wr_buffer_ops ops = {store_push, store_take, store_settle, store_free};
    struct rig *r = rig_pair(words);
    rig_open(r);
    struct wr_outlet *o = r->p->units[1].outlet;
    *st = (struct store){.base = {.ops = &ops, .durable = true, .filled = o->buffer->filled,
                                  .arg = o->buffer->arg}};
    o->buffer->ops->free(o->buffer);
    o->buffer = &st->base;
    return r;
}

static enum weir_verdict unavailable(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_UNAVAILABLE;
}

static enum weir_verdict rejected(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)write;
    return ev->payload.ptr[0] == 'b' ? WEIR_VERDICT_REJECTED : WEIR_VERDICT_OK;
}

/* Ends the pipeline with all the time in the world; true: it took none of it. */
static bool ends_at_once(struct rig *r)
{
    wr_pipeline_drain(r->p, r->now + 3600 * WEIR_NS_PER_S);
    rig_step(r, 10);
    return atomic_load(&r->p->done) != 0;
}

/* ---- Tests ---- */

static void a_source_hears_when_it_is_safe_whatever_the_sink_does(void **state)
{
    struct store st;
    struct rig *r = open_with(&st, "a b c");
    (void)state;
    r->script[1].verdict = unavailable;
    rig_step(r, 10);
    assert_int_equal(st.n_given, 3);
    assert_int_equal(r->script[0].committed, -1);
    assert_int_equal(r->script[1].n_writes, 0);
    sync_store(&st);
    rig_step(r, 10);
    assert_int_equal(r->script[0].committed, 1003);
    assert_int_equal(r->script[1].n_writes, 1);
    r->script[1].verdict = NULL;
    rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_string_equal(r->script[1].seen, "a,b,c,|a,b,c,|");
    assert_int_equal(st.n_ended, 3);
    rig_done(r);
    assert_int_equal(st.n_kept, 0);
}

static void an_end_leaves_what_the_sink_could_not_take(void **state)
{
    struct store st;
    struct rig *r = open_with(&st, "a b c");
    (void)state;
    r->script[1].verdict = unavailable;
    rig_step(r, 4);
    sync_store(&st);
    rig_step(r, 10);
    assert_true(ends_at_once(r));
    assert_int_equal(st.n_ended, 0);
    assert_int_equal(st.n_kept, 3);
    struct wr_pipeline_left left = wr_pipeline_close(r->p);
    assert_int_equal(left.events, 0);
    assert_false(left.timed_out);
    rig_done(r);
}

static void an_end_waits_for_writes_under_way_and_starts_no_other(void **state)
{
    struct store st;
    struct rig *r = open_with(&st, "a b");
    (void)state;
    r->comps[1].opt.sink.batch.events = 1;
    r->script[1].verdict = rig_pending;
    rig_step(r, 4);
    sync_store(&st);
    rig_step(r, 10);
    assert_string_equal(r->script[1].seen, "a,|");
    assert_false(ends_at_once(r));
    rig_complete(&r->script[1], 0);
    rig_step(r, 10);
    assert_true(atomic_load(&r->p->done));
    assert_string_equal(r->script[1].seen, "a,|");
    assert_int_equal(st.n_ended, 1);
    rig_done(r);
    assert_int_equal(st.n_ended, 1);
}

static void what_nobody_wants_stays_where_the_sink_stops(void **state)
{
    struct store st;
    struct rig *r = open_with(&st, "a b c");
    (void)state;
    r->comps[1].opt.sink.on_reject = WR_ON_STOP;
    r->script[1].verdict = rejected;
    rig_step(r, 4);
    sync_store(&st);
    rig_step(r, 10);
    assert_true(wr_pipeline_reason(r->p)[0] != '\0');
    assert_int_equal(st.n_ended, 2);
    assert_int_equal(st.n_kept, 1);
    rig_done(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_hears_when_it_is_safe_whatever_the_sink_does),
        cmocka_unit_test(an_end_leaves_what_the_sink_could_not_take),
        cmocka_unit_test(an_end_waits_for_writes_under_way_and_starts_no_other),
        cmocka_unit_test(what_nobody_wants_stays_where_the_sink_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
