/* SPDX-License-Identifier: Apache-2.0
 *
 * No wake-up is lost, and none comes for something that is gone. What TSan has to see here is in the
 * ping-pongs: run it with -DWEIR_SANITIZE=thread too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sched.h>

#include <base/mem.h>
#include <base/wake.h>
#include <weir/base.h>

#define ROUNDS 100000
#define LOST_NS (30 * WEIR_NS_PER_S) /* nobody waits so long but for a lost wake-up */

static int64_t now_in(int64_t ns)
{
    return wr_now(wr_clock_system()) + ns;
}

/* ---- One thread ---- */

static void test_a_signal_before_the_wait_is_kept(void **state)
{
    struct wr_wake w;
    (void)state;
    wr_wake_init(&w, NULL, NULL);
    assert_false(wr_wake_is_pending(&w));
    wr_wake_signal(&w);
    wr_wake_signal(&w);
    assert_true(wr_wake_is_pending(&w));
    int64_t before = now_in(0);
    wr_wake_wait(&w, wr_clock_system(), INT64_MAX);
    wr_wake_wait(&w, wr_clock_system(), INT64_MAX); /* until it is cleared */
    assert_true(now_in(0) - before < WEIR_NS_PER_S);
    wr_wake_clear(&w);
    assert_false(wr_wake_is_pending(&w));
    wr_wake_done(&w);
}

static void test_a_wait_ends_at_its_deadline(void **state)
{
    struct wr_wake w;
    (void)state;
    wr_wake_init(&w, NULL, NULL);
    int64_t before = now_in(0);
    wr_wake_wait(&w, wr_clock_system(), before - WEIR_NS_PER_S);
    wr_wake_wait(&w, wr_clock_system(), INT64_MIN);
    assert_true(now_in(0) - before < WEIR_NS_PER_S);
    before = now_in(0);
    wr_wake_wait(&w, wr_clock_system(), before + 20 * WEIR_NS_PER_MS);
    assert_true(now_in(0) - before >= 20 * WEIR_NS_PER_MS);
    wr_wake_done(&w);
}

static void count_call(void *arg)
{
    ++*(int *)arg;
}

static void test_the_hook_is_for_the_bracket_only(void **state)
{
    struct wr_wake w;
    int calls = 0;
    (void)state;
    wr_wake_init(&w, count_call, &calls);
    wr_wake_signal(&w); /* outside: kept, not called */
    assert_int_equal(calls, 0);
    assert_false(wr_wake_enter(&w)); /* pending: do not wait */
    wr_wake_leave(&w);
    wr_wake_clear(&w);
    assert_true(wr_wake_enter(&w));
    wr_wake_signal(&w);
    wr_wake_signal(&w);
    assert_int_equal(calls, 1); /* one is enough until it was looked at */
    wr_wake_leave(&w);
    wr_wake_clear(&w);
    wr_wake_signal(&w);
    assert_int_equal(calls, 1);
    wr_wake_done(&w);
}

/* ---- Two that wait for each other ---- */

/* How a side sleeps, and what the other has sent it. */
struct side {
    struct wr_wake wake;
    _Atomic int sent;
    struct side *other;
    bool first;
    bool by_hook;
    /* What a plugin's poll waits on; woken is sticky. */
    struct wr_wake inner;
    const char *wrong;
};

static void wake_inner(void *arg)
{
    wr_wake_signal(&((struct side *)arg)->inner);
}

static void sleep_once(struct side *s)
{
    int64_t deadline = now_in(LOST_NS);
    if (!s->by_hook) {
        wr_wake_wait(&s->wake, wr_clock_system(), deadline);
    } else if (wr_wake_enter(&s->wake)) {
        wr_wake_wait(&s->inner, wr_clock_system(), deadline);
        wr_wake_clear(&s->inner);
        wr_wake_leave(&s->wake);
    }
    if (now_in(0) >= deadline)
        s->wrong = "a wake-up was lost";
}

static void wait_for(struct side *s, int n)
{
    while (s->wrong == NULL) {
        wr_wake_clear(&s->wake);
        if (atomic_load(&s->sent) >= n)
            return;
        sleep_once(s);
    }
}

static void *play(void *arg)
{
    struct side *s = arg;
    for (int i = 1; i <= ROUNDS && s->wrong == NULL; i++) {
        if (!s->first)
            wait_for(s, i);
        atomic_fetch_add(&s->other->sent, 1);
        wr_wake_signal(&s->other->wake);
        if (s->first)
            wait_for(s, i);
    }
    return NULL;
}

static void ping_pong(bool by_hook)
{
    struct side sides[2] = {{.first = true}, {.first = false}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        sides[i].other = &sides[1 - i];
        sides[i].by_hook = by_hook;
        wr_wake_init(&sides[i].inner, NULL, NULL);
        wr_wake_init(&sides[i].wake, by_hook ? wake_inner : NULL, &sides[i]);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, play, &sides[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        assert_null(sides[i].wrong);
        assert_int_equal(atomic_load(&sides[i].sent), ROUNDS);
        wr_wake_done(&sides[i].wake);
        wr_wake_done(&sides[i].inner);
    }
}

static void test_ping_pong_on_the_condition(void **state)
{
    (void)state;
    ping_pong(false);
}

static void test_ping_pong_through_a_plugin_s_wait(void **state)
{
    (void)state;
    ping_pong(true);
}

/* ---- Many that wake one ---- */

enum { SENDERS = 4, EACH = 50000 };

static void *send_many(void *arg)
{
    struct side *to = arg;
    for (int i = 0; i < EACH; i++) {
        atomic_fetch_add(&to->sent, 1);
        wr_wake_signal(&to->wake);
    }
    return NULL;
}

static void test_many_wake_one(void **state)
{
    struct side s = {0};
    pthread_t threads[SENDERS];
    (void)state;
    wr_wake_init(&s.wake, NULL, NULL);
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, &s), 0);
    wait_for(&s, SENDERS * EACH);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    assert_null(s.wrong);
    wr_wake_done(&s.wake);
}

/* ---- A sink that is closed and opened anew ---- */

/* What the hook looks at may go as soon as leave() has returned. */
struct owner {
    struct wr_wake wake;
    int *instance;
    _Atomic int stop;
};

static void touch_instance(void *arg)
{
    struct owner *o = arg;
    for (int i = 0; i < 3; i++) {
        ++*o->instance;
        sched_yield(); /* a plugin's wake takes its time */
    }
}

static void *keep_waking(void *arg)
{
    struct owner *o = arg;
    while (!atomic_load(&o->stop))
        wr_wake_signal(&o->wake);
    return NULL;
}

static void test_no_hook_runs_once_the_bracket_is_left(void **state)
{
    struct owner o = {.instance = wr_xalloc(sizeof(int))};
    pthread_t threads[2];
    (void)state;
    wr_wake_init(&o.wake, touch_instance, &o);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_waking, &o), 0);
    for (int i = 0; i < 10000; i++) {
        wr_wake_clear(&o.wake);
        if (wr_wake_enter(&o.wake)) {
            while (!wr_wake_is_pending(&o.wake))
                sched_yield();
            wr_wake_leave(&o.wake);
        }
        /* Closed and opened anew: a late hook would count in one that is gone. */
        *o.instance = -1000000;
        wr_free(o.instance);
        o.instance = wr_xalloc(sizeof(int));
    }
    atomic_store(&o.stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    wr_free(o.instance);
    wr_wake_done(&o.wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_signal_before_the_wait_is_kept),
        cmocka_unit_test(test_a_wait_ends_at_its_deadline),
        cmocka_unit_test(test_the_hook_is_for_the_bracket_only),
        cmocka_unit_test(test_ping_pong_on_the_condition),
        cmocka_unit_test(test_ping_pong_through_a_plugin_s_wait),
        cmocka_unit_test(test_many_wake_one),
        cmocka_unit_test(test_no_hook_runs_once_the_bracket_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
