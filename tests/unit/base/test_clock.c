/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <time.h>

#include <base/clock.h>
#include <weir/base.h>

static void test_the_monotonic_scale_only_grows(void **state)
{
    struct wr_clock *c = wr_clock_system();
    int64_t last = wr_now(c);
    (void)state;
    assert_true(last > 0);
    for (int i = 0; i < 10000; i++) {
        int64_t now = wr_now(c);
        assert_true(now >= last);
        last = now;
    }
}

static void test_wall_is_the_time_of_day(void **state)
{
    struct wr_clock *c = wr_clock_system();
    (void)state;
    int64_t before = (int64_t)time(NULL);
    int64_t wall = c->wall(c);
    /* time() may lag by a tick. */
    assert_in_range(wall / WEIR_NS_PER_S, before - 1, before + 2);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Jitter and ids: 64 bits never repeat in practice, and each bit is set half of the time. */
static void test_random_bits_are_even_and_do_not_repeat(void **state)
{
    enum { N = 20000 };
    static uint64_t seen[N];
    struct wr_clock *c = wr_clock_system();
    unsigned bits[64] = {0};
    (void)state;
    for (int i = 0; i < N; i++) {
        seen[i] = c->random(c);
        for (int b = 0; b < 64; b++)
            bits[b] += (unsigned)(seen[i] >> b & 1);
    }
    for (int b = 0; b < 64; b++) /* 10 standard deviations */
        assert_in_range(bits[b], N / 2 - 707, N / 2 + 707);
    qsort(seen, N, sizeof(seen[0]), by_value);
    for (int i = 1; i < N; i++)
        assert_true(seen[i] != seen[i - 1]);
}

static void *draw(void *arg)
{
    uint64_t *out = arg;
    struct wr_clock *c = wr_clock_system();
    for (int i = 0; i < 5000; i++)
        out[i] = c->random(c);
    return NULL;
}

static void test_threads_draw_different_numbers(void **state)
{
    static uint64_t out[4][5000];
    pthread_t threads[4];
    (void)state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, draw, out[i]), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    qsort(out, 20000, sizeof(uint64_t), by_value);
    for (int i = 1; i < 20000; i++)
        assert_true((&out[0][0])[i] != (&out[0][0])[i - 1]);
}

static void test_a_wait_ends_at_its_deadline(void **state)
{
    struct wr_clock *c = wr_clock_system();
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t cond;
    (void)state;
    wr_cond_init(&cond);
    pthread_mutex_lock(&mutex);
    int64_t before = wr_now(c);
    c->wait(c, &cond, &mutex, INT64_MIN); /* long gone */
    c->wait(c, &cond, &mutex, before);
    assert_true(wr_now(c) - before < WEIR_NS_PER_S);
    before = wr_now(c);
    int64_t deadline = before + 30 * WEIR_NS_PER_MS;
    while (wr_now(c) < deadline)
        c->wait(c, &cond, &mutex, deadline);
    assert_true(wr_now(c) - before < 10 * WEIR_NS_PER_S);
    pthread_mutex_unlock(&mutex);
    pthread_cond_destroy(&cond);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_monotonic_scale_only_grows),
        cmocka_unit_test(test_wall_is_the_time_of_day),
        cmocka_unit_test(test_random_bits_are_even_and_do_not_repeat),
        cmocka_unit_test(test_threads_draw_different_numbers),
        cmocka_unit_test(test_a_wait_ends_at_its_deadline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
