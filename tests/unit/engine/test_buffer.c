/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory buffer by itself: what it lets in, whom it calls, when it lets go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/mem.h>
#include <base/pool.h>
#include <base/wake.h>
#include <engine/buffer.h>

static int n_filled;

static void filled(void *arg)
{
    assert_ptr_equal(arg, &n_filled);
    n_filled++;
}

static struct wr_buffer *buffer(size_t cap_bytes)
{
    n_filled = 0;
    return wr_buffer_memory(cap_bytes, filled, &n_filled);
}

static void free_buffer(struct wr_buffer *buf)
{
    buf->ops->free(buf);
}

/* n events that cost `cost` bytes each, and keep nothing else alive. */
static struct wr_batch *batch(uint32_t n, size_t cost)
{
    static char memory[100000];
    struct wr_batch *b = wr_batch_new(NULL, n);
    for (uint32_t i = 0; i < n; i++) {
        struct weir_event *ev = wr_event_add(&b->pub);
        size_t len = cost - sizeof(*ev);
        ev->payload = weir_str_n(memory, len - len / 2);
        ev->key = weir_str_n(ev->payload.ptr, len / 2); /* keys count as well */
        assert_int_equal(wr_event_cost(ev), cost);
    }
    wr_batch_freeze(b);
    return b;
}

struct caller {
    struct wr_waiter waiter;
    int calls;
};

static void count_call(void *arg)
{
    ((struct caller *)arg)->calls++;
}

static struct caller *caller(struct caller *c)
{
    *c = (struct caller){.waiter = {.wake = count_call, .arg = c}};
    return c;
}

static bool push(struct wr_buffer *buf, struct wr_batch *b, struct caller *c)
{
    bool in = wr_buffer_push(buf, b, 5, &c->waiter);
    if (!in)
        wr_batch_free(b);
    return in;
}

static void settle_all(struct wr_entry *e, uint32_t n, size_t cost)
{
    for (uint32_t i = 0; i < n; i++)
        wr_buffer_settle(e, 1, cost);
}

/* ---- In and out ---- */

static void test_entries_come_out_in_their_order(void **state)
{
    struct wr_buffer *buf = buffer(1 << 20);
    struct caller c;
    struct wr_batch *b[3];
    (void)state;
    caller(&c);
    assert_false(buf->durable);
    assert_null(wr_buffer_take(buf));
    for (int i = 0; i < 3; i++) {
        b[i] = batch((uint32_t)i + 1, 1000);
        assert_true(push(buf, b[i], &c));
    }
    assert_int_equal(n_filled, 1); /* of an empty one only */
    assert_int_equal(atomic_load(&buf->bytes), 6000);
    assert_int_equal(atomic_load(&buf->events), 6);
    for (int i = 0; i < 3; i++) {
        struct wr_entry *e = wr_buffer_take(buf);
        assert_ptr_equal(e->batch, b[i]);
        assert_int_equal(e->pushed_ns, 5);
        settle_all(e, (uint32_t)i + 1, 1000);
    }
    assert_null(wr_buffer_take(buf));
    assert_int_equal(atomic_load(&buf->bytes), 0);
    assert_int_equal(atomic_load(&buf->events), 0);
    assert_true(push(buf, batch(1, 1000), &c));
    assert_int_equal(n_filled, 2);
    assert_int_equal(c.calls, 0);
    free_buffer(buf); /* with one inside */
}

static void test_who_tells_later_is_not_forgotten(void **state)
{
    struct wr_buffer *buf = buffer(1 << 20);
    struct caller lane, other;
    (void)state;
    caller(&lane)->waiter.tells = true;
    caller(&other);
    assert_true(push(buf, batch(1, 1000), &lane));
    assert_true(push(buf, batch(1, 1000), &other)); /* not empty any more: it is the lane's to tell */
    assert_int_equal(n_filled, 0);
    wr_buffer_tell(buf);
    wr_buffer_tell(buf);
    assert_int_equal(n_filled, 1);
    settle_all(wr_buffer_take(buf), 1, 1000);
    settle_all(wr_buffer_take(buf), 1, 1000);
    wr_buffer_tell(buf);
    assert_true(push(buf, batch(1, 1000), &other));
    assert_int_equal(n_filled, 2);
    free_buffer(buf);
}

static void test_an_empty_one_takes_any_batch(void **state)
{
    struct wr_buffer *buf = buffer(1000);
    struct caller c;
    (void)state;
    caller(&c);
    assert_true(push(buf, batch(5, 100000), &c));
    assert_false(push(buf, batch(1, 300), &c));
    struct wr_entry *e = wr_buffer_take(buf);
    settle_all(e, 4, 100000);
    assert_int_equal(c.calls, 0); /* still 100 times too full */
    wr_buffer_settle(e, 1, 100000);
    assert_int_equal(c.calls, 1);
    assert_true(push(buf, batch(1, 300), &c));
    free_buffer(buf);
}

static void test_room_is_taken_until_events_have_ended(void **state)
{
    struct wr_buffer *buf = buffer(10000);
    struct caller c;
    (void)state;
    caller(&c);
    assert_true(push(buf, batch(5, 1000), &c));
    assert_true(push(buf, batch(5, 1000), &c)); /* to the byte */
    assert_false(push(buf, batch(1, 300), &c));
    struct wr_entry *one = wr_buffer_take(buf), *two = wr_buffer_take(buf);
    assert_false(push(buf, batch(1, 300), &c)); /* taken is not ended */
    wr_buffer_settle(two, 1, 1000);
    assert_int_equal(atomic_load(&buf->bytes), 9000);
    assert_true(push(buf, batch(1, 1000), &c));
    assert_false(push(buf, batch(1, 1000), &c));
    settle_all(two, 4, 1000); /* the later one first */
    settle_all(one, 5, 1000);
    struct wr_entry *three = wr_buffer_take(buf);
    wr_buffer_settle(three, 1, 1000);
    assert_int_equal(atomic_load(&buf->bytes), 0);
    free_buffer(buf);
}

static void test_what_few_events_keep_alive_is_charged(void **state)
{
    struct wr_buffer *buf = buffer(100000);
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 2);
    struct caller c;
    (void)state;
    caller(&c);
    wr_body_unref(body);
    (void)wr_arena_xalloc(&body->arena, 50000); /* of events that were dropped on the way */
    for (int i = 0; i < 2; i++)
        wr_event_add(&b->pub)->payload = weir_cstr("x");
    size_t cost = wr_event_cost(&wr_batch_events(b)[0]);
    wr_batch_freeze(b);
    assert_true(push(buf, b, &c));
    assert_true(atomic_load(&buf->bytes) > 50000);
    struct wr_entry *e = wr_buffer_take(buf);
    wr_buffer_settle(e, 1, cost);
    assert_true(atomic_load(&buf->bytes) > 49000); /* the other event still needs it */
    wr_buffer_settle(e, 1, cost);
    assert_int_equal(atomic_load(&buf->bytes), 0);
    free_buffer(buf);
}

/* ---- Those that wait ---- */

static void test_a_waiter_is_called_once(void **state)
{
    struct wr_buffer *buf = buffer(10000);
    struct caller a, b;
    (void)state;
    caller(&a);
    caller(&b);
    assert_true(push(buf, batch(10, 1000), &a));
    assert_false(push(buf, batch(1, 1000), &a));
    assert_false(push(buf, batch(1, 1000), &a)); /* the same again: in the queue once */
    assert_false(push(buf, batch(1, 1000), &b));
    struct wr_entry *e = wr_buffer_take(buf);
    settle_all(e, 2, 1000);
    assert_int_equal(a.calls + b.calls, 0); /* not for every event: a quarter must be free */
    settle_all(e, 1, 1000);
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 1);
    settle_all(e, 1, 1000);
    assert_int_equal(a.calls, 1); /* nobody waits any more */
    assert_true(push(buf, batch(4, 1000), &a));
    assert_false(push(buf, batch(4, 1000), &b)); /* b was too late, and waits again */
    settle_all(e, 6, 1000);
    assert_int_equal(a.calls, 1);
    assert_int_equal(b.calls, 2);
    free_buffer(buf);
}

static void test_a_waiter_that_found_room_is_not_called(void **state)
{
    struct wr_buffer *buf = buffer(10000);
    struct caller c[3];
    (void)state;
    for (int i = 0; i < 3; i++)
        caller(&c[i]);
    assert_true(push(buf, batch(10, 1000), &c[0]));
    for (int i = 0; i < 3; i++)
        assert_false(push(buf, batch(2, 1000), &c[i]));
    struct wr_entry *e = wr_buffer_take(buf);
    settle_all(e, 2, 1000);
    assert_true(push(buf, batch(2, 1000), &c[1])); /* the one in the middle tried again by itself */
    settle_all(e, 8, 1000);
    assert_int_equal(c[0].calls, 1);
    assert_int_equal(c[1].calls, 0);
    assert_int_equal(c[2].calls, 1);
    /* The queue is whole: the last one may go, and others may come. */
    assert_true(push(buf, batch(8, 1000), &c[0]));
    assert_false(push(buf, batch(2, 1000), &c[2]));
    assert_false(push(buf, batch(2, 1000), &c[1]));
    e = wr_buffer_take(buf);
    settle_all(e, 2, 1000);
    assert_int_equal(c[1].calls, 0);
    e = wr_buffer_take(buf);
    settle_all(e, 2, 1000);
    assert_int_equal(c[1].calls, 1);
    assert_int_equal(c[2].calls, 2);
    settle_all(e, 6, 1000);
    assert_int_equal(c[2].calls, 2);
    free_buffer(buf);
}

/* ---- Letting go ---- */

static int n_disposed;

static void dispose(void *arg)
{
    (void)arg;
    n_disposed++;
}

static struct wr_batch *attached_batch(uint32_t n)
{
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, n);
    wr_body_unref(body);
    for (uint32_t i = 0; i < n; i++)
        (void)wr_event_add(&b->pub);
    assert_true(wr_batch_attach(&b->pub, dispose, NULL, 100));
    wr_batch_freeze(b);
    return b;
}

static void test_an_entry_goes_with_its_last_event(void **state)
{
    struct wr_buffer *buf = buffer(1 << 20);
    struct caller c;
    (void)state;
    caller(&c);
    n_disposed = 0;
    assert_true(push(buf, attached_batch(7), &c));
    struct wr_entry *e = wr_buffer_take(buf);
    wr_buffer_settle(e, 4, 4 * sizeof(struct weir_event));
    wr_buffer_settle(e, 2, 2 * sizeof(struct weir_event));
    assert_int_equal(n_disposed, 0);
    wr_buffer_settle(e, 1, sizeof(struct weir_event));
    assert_int_equal(n_disposed, 1);
    assert_int_equal(atomic_load(&buf->bytes), 0);
    free_buffer(buf);
}

static void test_free_lets_go_of_what_was_not_taken(void **state)
{
    wr_pool_trim();
    size_t before = wr_mem_used();
    struct wr_buffer *buf = buffer(1 << 20);
    struct caller c;
    (void)state;
    caller(&c);
    n_disposed = 0;
    for (int i = 0; i < 10; i++)
        assert_true(push(buf, attached_batch(3), &c));
    settle_all(wr_buffer_take(buf), 3, sizeof(struct weir_event));
    assert_int_equal(n_disposed, 1);
    free_buffer(buf);
    assert_int_equal(n_disposed, 10);
    wr_pool_trim();
    assert_int_equal(wr_mem_used(), before);
}

/* ---- Threads: lanes push, shards take and settle ---- */

enum { PUSHERS = 3, TAKERS = 2, BATCHES = 4000 };

static struct {
    struct wr_buffer *buf;
    struct wr_wake taker[TAKERS];
    _Atomic int pushed, taken;
    _Atomic uint64_t events;
    _Atomic int too_full;
} crowd;

static void wake_takers(void *arg)
{
    (void)arg;
    for (int i = 0; i < TAKERS; i++)
        wr_wake_signal(&crowd.taker[i]);
}

static void wake_pusher(void *arg)
{
    wr_wake_signal(arg);
}

static void *push_all(void *arg)
{
    struct wr_wake wake;
    struct wr_waiter waiter = {.wake = wake_pusher, .arg = &wake};
    unsigned x = (unsigned)(uintptr_t)arg;
    wr_wake_init(&wake, NULL, NULL);
    for (int i = 0; i < BATCHES; i++) {
        x = x * 1664525u + 1013904223u;
        uint32_t n = 1 + (x >> 10) % 9;
        struct wr_batch *b = batch(n, 300);
        atomic_fetch_add(&crowd.events, n);
        for (;;) {
            wr_wake_clear(&wake);
            if (wr_buffer_push(crowd.buf, b, i, &waiter))
                break;
            wr_wake_wait(&wake, wr_clock_system(), INT64_MAX);
        }
        if (atomic_load(&crowd.buf->bytes) > crowd.buf->cap_bytes)
            atomic_store(&crowd.too_full, 1);
    }
    atomic_fetch_add(&crowd.pushed, 1);
    wake_takers(NULL);
    wr_wake_done(&wake);
    return NULL;
}

static void *take_all(void *arg)
{
    struct wr_wake *wake = arg;
    for (;;) {
        wr_wake_clear(wake);
        bool over = atomic_load(&crowd.pushed) == PUSHERS;
        struct wr_entry *e = wr_buffer_take(crowd.buf);
        if (e == NULL && over)
            return NULL;
        if (e == NULL) {
            wr_wake_wait(wake, wr_clock_system(), INT64_MAX);
            continue;
        }
        uint32_t n = e->batch->pub.n_events;
        atomic_fetch_add(&crowd.taken, 1);
        atomic_fetch_sub(&crowd.events, n);
        if (n > 1)
            wr_buffer_settle(e, n - 1, (size_t)(n - 1) * 300);
        wr_buffer_settle(e, 1, 300);
    }
}

static void test_lanes_and_shards_lose_nothing(void **state)
{
    pthread_t pushers[PUSHERS], takers[TAKERS];
    (void)state;
    crowd.buf = wr_buffer_memory(9000, wake_takers, NULL);
    for (int i = 0; i < TAKERS; i++) {
        wr_wake_init(&crowd.taker[i], NULL, NULL);
        assert_int_equal(pthread_create(&takers[i], NULL, take_all, &crowd.taker[i]), 0);
    }
    for (uintptr_t i = 0; i < PUSHERS; i++)
        assert_int_equal(pthread_create(&pushers[i], NULL, push_all, (void *)(i + 1)), 0);
    for (int i = 0; i < PUSHERS; i++)
        pthread_join(pushers[i], NULL);
    for (int i = 0; i < TAKERS; i++)
        pthread_join(takers[i], NULL);
    assert_int_equal(atomic_load(&crowd.taken), PUSHERS * BATCHES);
    assert_int_equal(atomic_load(&crowd.events), 0);
    assert_int_equal(atomic_load(&crowd.too_full), 0);
    assert_int_equal(atomic_load(&crowd.buf->bytes), 0);
    assert_int_equal(atomic_load(&crowd.buf->events), 0);
    free_buffer(crowd.buf);
    for (int i = 0; i < TAKERS; i++)
        wr_wake_done(&crowd.taker[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_come_out_in_their_order),
        cmocka_unit_test(test_who_tells_later_is_not_forgotten),
        cmocka_unit_test(test_an_empty_one_takes_any_batch),
        cmocka_unit_test(test_room_is_taken_until_events_have_ended),
        cmocka_unit_test(test_what_few_events_keep_alive_is_charged),
        cmocka_unit_test(test_a_waiter_is_called_once),
        cmocka_unit_test(test_a_waiter_that_found_room_is_not_called),
        cmocka_unit_test(test_an_entry_goes_with_its_last_event),
        cmocka_unit_test(test_free_lets_go_of_what_was_not_taken),
        cmocka_unit_test(test_lanes_and_shards_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
