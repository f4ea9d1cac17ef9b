/* SPDX-License-Identifier: Apache-2.0
 *
 * A durable buffer in the place of the one in memory: it acks what it was given when the test says that
 * it is safe, and gives it out then with acks of its own, by which it knows how far it may forget.
 */
#include "rig.h"

#include <engine/outlet_impl.h>

struct store {
    struct wr_buffer base; /* first */
    struct wr_entry *given, *safe;
    struct wr_acks *acks;
    struct weir_stream *stream;
    int64_t n_stored, forgotten; /* records, and how many of them from the first on have ended */
    int64_t now;
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
    st->now = now;
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

static void store_settle(struct wr_buffer *buf, struct wr_entry *entry, uint32_t n, size_t bytes)
{
    (void)buf;
    (void)bytes;
    if (atomic_fetch_sub(&entry->n_left, n) == n)
        entry_free(entry);
}

/* What nobody took is as good as failed: it stays stored. */
static void store_free(struct wr_buffer *take_buf)
{
    struct store *st = (struct store *)(void *)take_buf;
    struct wr_ended ended = {0};
    assert_null(st->given);
    for (struct wr_entry *e; (e = store_take(take_buf)) != NULL; entry_free(e))
        for (uint32_t i = 0; i < e->batch->pub.n_events; i++)
            wr_ack_settle(wr_batch_events(e->batch)[i].host_ack, WEIR_FAILED, NULL, &ended);
    wr_ended_flush(&ended);
    wr_acks_collect(st->acks);
    wr_acks_final(st->acks);
    assert_int_equal(wr_acks_open(st->acks), 0);
    wr_acks_free(st->acks);
}

static void forget(void *self, struct weir_stream *stream, void *user, int64_t next, bool final)
{
    struct store *st = self;
    (void)user;
    (void)final;
    assert_ptr_equal(stream, st->stream);
    assert_true(next >= st->forgotten && next <= st->n_stored);
    st->forgotten = next;
}

static void store_wake(void *arg)
{
    (void)arg;
}

/* The disk has it: its source hears so, and what comes out is the store's. */
static void sync_store(struct store *st)
{
    struct wr_ended ended = {0};
    for (struct wr_entry *e = st->given, *next; e != NULL; e = next) {
        next = e->next;
        e->next = NULL;
        for (uint32_t i = 0; i < e->batch->pub.n_events; i++) {
            struct weir_event *ev = &wr_batch_events(e->batch)[i];
            wr_ack_settle(ev->host_ack, WEIR_DELIVERED, NULL, &ended);
            ev->stream = st->stream;
            ev->position = st->n_stored++;
            ev->next = st->n_stored;
        }
        assert_true(wr_acks_enter(st->acks, e->batch, st->now));
        append(&st->safe, e);
    }
    st->given = NULL;
    wr_ended_flush(&ended);
    st->base.filled(st->base.arg);
}

static int64_t forgotten(struct store *st)
{
    wr_acks_collect(st->acks);
    return st->forgotten;
}

/* In front of component 1. */
static void put_in(struct store *st, struct rig *r)
{
    static const struct wr_buffer_ops ops = {.push = store_push, .take = store_take, .settle = store_settle,
                                             .free = store_free};
    static const struct weir_source reader = {.size = sizeof(reader), .commit = forget};
    static const struct wr_acks_ops acks_ops = {.wake = store_wake};
    static const struct weir_origin origin = {{"store", 5}, 0};
    struct wr_outlet *o = r->p->units[1]->outlet;
    *st = (struct store){.base = {.ops = &ops, .durable = true, .filled = o->buffer->filled,
                                  .arg = o->buffer->arg}};
    st->acks = wr_acks_new(&reader, &acks_ops, st);
    wr_acks_source(st->acks, st);
    st->stream = wr_stream_open(st->acks, &origin, st);
    o->buffer->ops->free(o->buffer);
    o->buffer = &st->base;
}

static struct rig *open_with(struct store *st, const char *words)
{
    struct rig *r = rig_pair(words);
    rig_open(r);
    put_in(st, r);
    return r;
}

static void store_all(struct rig *r, struct store *st)
{
    rig_step(r, 4);
    sync_store(st);
    rig_step(r, 10);
}

static enum weir_verdict unavailable(struct rig_script *s, const struct weir_event *ev, uint32_t write)
{
    (void)s;
    (void)ev;
    (void)write;
    return WEIR_VERDICT_UNAVAILABLE;
}

static enum weir_verdict rejects_b(struct rig_script *s, const struct weir_event *ev, uint32_t write)
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
    assert_int_equal(r->script[0].committed, -1);
    assert_int_equal(r->script[1].n_writes, 0);
    sync_store(&st);
    rig_step(r, 10);
    assert_int_equal(r->script[0].committed, 1003);
    assert_int_equal(r->script[1].n_writes, 1);
    assert_int_equal(forgotten(&st), 0);
    r->script[1].verdict = NULL;
    rig_advance(r, 10 * WEIR_NS_PER_S);
    assert_string_equal(r->script[1].seen, "a,b,c,|a,b,c,|");
    assert_int_equal(forgotten(&st), 3);
    rig_done(r);
}

static void an_end_leaves_what_the_sink_could_not_take(void **state)
{
    struct store st;
    struct rig *r = open_with(&st, "a b c");
    (void)state;
    r->script[1].verdict = unavailable;
    store_all(r, &st);
    assert_true(ends_at_once(r));
    struct wr_pipeline_left left = wr_pipeline_close(r->p);
    assert_int_equal(left.events, 0);
    assert_false(left.timed_out);
    assert_int_equal(st.n_stored, 3);
    assert_int_equal(st.forgotten, 0);
    rig_done(r);
}

static void an_end_waits_for_writes_under_way_and_starts_no_other(void **state)
{
    struct store st;
    struct rig *r = open_with(&st, "a b c");
    (void)state;
    r->comps[1].opt.sink.batch.events = 1;
    r->script[1].verdict = rig_pending;
    store_all(r, &st);
    assert_string_equal(r->script[1].seen, "a,|");
    assert_false(ends_at_once(r));
    rig_complete(&r->script[1], 0);
    rig_step(r, 10);
    assert_true(atomic_load(&r->p->done));
    assert_string_equal(r->script[1].seen, "a,|");
    rig_done(r);
    assert_int_equal(st.forgotten, 1);
}

static void what_nobody_wants_stays_where_the_sink_stops(void **state)
{
    struct store st;
    struct rig *r = open_with(&st, "a b c");
    (void)state;
    r->comps[1].opt.sink.on_reject = WR_ON_STOP;
    r->script[1].verdict = rejects_b;
    store_all(r, &st);
    assert_true(wr_pipeline_reason(r->p)[0] != '\0');
    rig_done(r);
    assert_int_equal(st.forgotten, 1);
}

static struct rig *open_with_dead_letter(
    struct store *st,
    enum weir_verdict (*verdict)(struct rig_script *s, const struct weir_event *ev, uint32_t write))
{
    struct rig *r = rig_pair("a b c");
    uint32_t dead = rig_add(r, WEIR_SINK, "dead");
    r->comps[1].dead_letter = (int32_t)dead;
    r->comps[1].opt.sink.on_reject = WR_ON_DEAD_LETTER;
    r->comps[dead].is_dead_letter = true;
    r->script[1].verdict = rejects_b;
    r->script[dead].verdict = verdict;
    rig_open(r);
    put_in(st, r);
    store_all(r, st);
    assert_int_equal(r->script[dead].n_writes, 1);
    assert_int_equal(forgotten(st), 1);
    return r;
}

static void a_record_stays_until_its_dead_letter_is_written(void **state)
{
    struct store st;
    struct rig *r = open_with_dead_letter(&st, rig_pending);
    (void)state;
    rig_complete(&r->script[2], 0);
    rig_step(r, 4);
    assert_int_equal(forgotten(&st), 3);
    rig_done(r);
}

static void a_record_stays_whose_dead_letter_is_not_written(void **state)
{
    struct store st;
    struct rig *r = open_with_dead_letter(&st, unavailable);
    (void)state;
    rig_done(r); /* the deadline comes first */
    assert_int_equal(st.forgotten, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_hears_when_it_is_safe_whatever_the_sink_does),
        cmocka_unit_test(an_end_leaves_what_the_sink_could_not_take),
        cmocka_unit_test(an_end_waits_for_writes_under_way_and_starts_no_other),
        cmocka_unit_test(what_nobody_wants_stays_where_the_sink_stops),
        cmocka_unit_test(a_record_stays_until_its_dead_letter_is_written),
        cmocka_unit_test(a_record_stays_whose_dead_letter_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
