/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include <base/budget.h>
#include <base/count.h>
#include <model/batch.h>

#define MIB ((size_t)1 << 20)

static int no_limit(void **state)
{
    (void)state;
    wr_budget_set(0);
    return 0;
}

static void test_without_a_limit_nothing_is_short(void **state)
{
    (void)state;
    wr_budget_set(0);
    assert_false(wr_budget_short(0));
    assert_int_equal(wr_budget_held_max(), 256 * MIB);
}

static void test_short_by_what_is_resident(void **state)
{
    (void)state;
    size_t resident = wr_budget_resident();
    assert_true(resident > 100 * 1024);
    uint64_t before = wr_budget_shortages();
    wr_budget_set(resident * 8);
    assert_false(wr_budget_short(1));
    wr_budget_set(resident);
    assert_true(wr_budget_short(1));
    assert_int_equal(wr_budget_shortages(), before + 1);
}

/* More comes, goes again, and what the allocator keeps of it does not count. */
static void test_it_becomes_short_and_ends(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* their shadow and quarantine are resident as well */
#endif
    size_t size = 64 * MIB;
    int64_t now = 1;
    wr_budget_set((wr_budget_resident() + 48 * MIB) / 7 * 8);
    assert_false(wr_budget_short(now));
    char *p = malloc(size);
    assert_non_null(p);
    memset(p, 1, size);
    assert_false(wr_budget_short(now)); /* it looks every few milliseconds only */
    assert_true(wr_budget_short(now += WR_BUDGET_LOOK_NS));
    assert_true(wr_budget_short(now += WR_BUDGET_LOOK_NS));
    free(p);
    assert_false(wr_budget_short(now + WR_BUDGET_LOOK_NS));
}

static void test_uses(void **state)
{
    (void)state;
    assert_string_equal(wr_budget_use_name(WR_USE_EVENTS), "events");
    uint32_t lua = wr_budget_use("lua"), other = wr_budget_use("librdkafka");
    assert_int_not_equal(lua, other);
    assert_int_equal(wr_budget_use("lua"), lua);
    wr_budget_charge(lua, 1000);
    wr_budget_charge(other, 7);
    wr_budget_charge(lua, -400);
    assert_int_equal(wr_budget_used(lua), 600);
    assert_int_equal(wr_budget_used(other), 7);
    assert_string_equal(wr_budget_use_name(lua), "lua");
    assert_null(wr_budget_use_name(WR_BUDGET_USES));
    static const char *const many[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};
    for (size_t i = 0; i < 9; i++)
        assert_true(wr_budget_use(many[i]) < WR_BUDGET_USES);
    wr_budget_charge(lua, -600);
    wr_budget_charge(other, -7);
}

static void *add_many(void *count)
{
    for (int i = 0; i < 100000; i++) {
        wr_count_add(count, 3);
        wr_count_add(count, -1);
    }
    return NULL;
}

static void test_a_count_of_many_threads(void **state)
{
    static struct wr_count count;
    pthread_t threads[20];
    (void)state;
    for (int i = 0; i < 20; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_many, &count), 0);
    for (int i = 0; i < 20; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(wr_count_sum(&count), 20 * 100000 * 2);
}

static void dispose(void *arg)
{
    (void)arg;
}

/* Once, whatever shares it, until the last one has let go. */
static void test_a_body_is_charged_once(void **state)
{
    (void)state;
    size_t before = wr_budget_used(WR_USE_EVENTS);
    struct wr_body *body = wr_body_new();
    struct wr_batch *b = wr_batch_new(body, 8);
    wr_body_unref(body);
    assert_non_null(wr_arena_alloc(&body->arena, 100000));
    assert_true(wr_batch_attach(&b->pub, dispose, NULL, 5000000));
    wr_body_charge(body);
    size_t one = wr_budget_used(WR_USE_EVENTS) - before;
    assert_true(one >= 5100000 && one < 5300000);
    assert_non_null(wr_event_add(&b->pub));
    struct wr_batch *clone = wr_batch_clone(b);
    assert_non_null(wr_arena_alloc(&body->arena, 1000000));
    wr_batch_freeze(b);
    wr_batch_freeze(clone);
    size_t two = wr_budget_used(WR_USE_EVENTS) - before;
    assert_true(two >= 6100000 && two < 7300000);
    wr_batch_free(b);
    assert_true(wr_budget_used(WR_USE_EVENTS) - before >= 6100000);
    wr_batch_free(clone);
    assert_int_equal(wr_budget_used(WR_USE_EVENTS), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_without_a_limit_nothing_is_short, no_limit),
        cmocka_unit_test_teardown(test_short_by_what_is_resident, no_limit),
        cmocka_unit_test_teardown(test_it_becomes_short_and_ends, no_limit),
        cmocka_unit_test(test_uses),
        cmocka_unit_test(test_a_count_of_many_threads),
        cmocka_unit_test(test_a_body_is_charged_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
