/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdbool.h>

#include <base/mem.h>
#include <base/pool.h>

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)

/* Under AddressSanitizer nothing is kept, so that a late look at a block is found. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define KEEPS false
#else
#define KEEPS true
#endif

static void test_blocks_have_the_size_that_was_said(void **state)
{
    static const size_t sizes[] = {1,         100,           2048,      2049,         4096,
                                   4097,      32 * KIB,      100000,    MIB - 1,      MIB,
                                   MIB + 1,   5 * MIB + 123};
    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t cap = 0;
        char *p = wr_pool_get(sizes[i], &cap);
        assert_non_null(p);
        assert_true(cap >= sizes[i]);
        assert_true(cap < sizes[i] * 2 || cap == 4 * KIB);
        memset(p, 0x5a, cap);
        wr_pool_put(p, cap);
    }
    wr_pool_put(NULL, 0);
    wr_pool_put(NULL, 4096);
    wr_pool_trim();
}

static void test_a_block_is_used_again(void **state)
{
    size_t cap = 0, again = 0;
    (void)state;
    wr_pool_trim();
    void *p = wr_pool_get(20000, &cap);
    wr_pool_put(p, cap);
    void *q = wr_pool_get(30000, &again); /* the same class */
    assert_int_equal(again, cap);
    if (KEEPS)
        assert_ptr_equal(p, q);
    wr_pool_put(q, again);
    wr_pool_trim();
}

static void test_what_it_keeps_is_bounded(void **state)
{
    enum { N = 64 };
    void *p[N];
    size_t cap = 0;
    (void)state;
    wr_pool_trim();
    size_t before = wr_mem_used();
    for (int i = 0; i < N; i++)
        p[i] = wr_pool_get(MIB, &cap);
    assert_true(wr_mem_used() >= before + N * MIB);
    for (int i = 0; i < N; i++)
        wr_pool_put(p[i], cap);
    size_t kept = wr_mem_used() - before;
    assert_true(kept <= 5 * MIB);
    assert_true(KEEPS ? kept >= 3 * MIB : kept == 0);
    wr_pool_trim();
    assert_int_equal(wr_mem_used(), before);
    wr_pool_trim();
}

static void test_other_sizes_go_straight_back(void **state)
{
    static const size_t sizes[] = {100, 2048, MIB + 1, 3 * MIB};
    (void)state;
    wr_pool_trim();
    size_t before = wr_mem_used();
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t cap = 0;
        void *p = wr_pool_get(sizes[i], &cap);
        assert_int_equal(cap, sizes[i]);
        wr_pool_put(p, cap);
        assert_int_equal(wr_mem_used(), before);
    }
}

/* ---- Made on one thread, given back on another ---- */

enum { ROUNDS = 10000, SLOTS = 32 };

static struct {
    pthread_mutex_t mutex;
    unsigned char *p[SLOTS];
    size_t cap[SLOTS];
} table = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void *churn(void *arg)
{
    unsigned x = (unsigned)(uintptr_t)arg;
    for (int i = 0; i < ROUNDS; i++) {
        x = x * 1664525u + 1013904223u;
        size_t cap;
        unsigned char *mine = wr_pool_get(1 + (x >> 8) % (100 * KIB), &cap);
        mine[0] = mine[cap - 1] = (unsigned char)cap;
        unsigned slot = (x >> 3) % SLOTS;
        pthread_mutex_lock(&table.mutex);
        unsigned char *other = table.p[slot];
        size_t other_cap = table.cap[slot];
        table.p[slot] = mine;
        table.cap[slot] = cap;
        pthread_mutex_unlock(&table.mutex);
        if (other != NULL && (other[0] != (unsigned char)other_cap ||
                              other[other_cap - 1] != (unsigned char)other_cap))
            return mine; /* two had one block */
        wr_pool_put(other, other_cap);
    }
    return NULL;
}

static void test_threads_never_share_a_block(void **state)
{
    pthread_t threads[4];
    (void)state;
    wr_pool_trim();
    size_t before = wr_mem_used();
    for (uintptr_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
    for (int i = 0; i < 4; i++) {
        void *wrong = NULL;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    for (int i = 0; i < SLOTS; i++)
        wr_pool_put(table.p[i], table.cap[i]);
    wr_pool_trim();
    assert_int_equal(wr_mem_used(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks_have_the_size_that_was_said),
        cmocka_unit_test(test_a_block_is_used_again),
        cmocka_unit_test(test_what_it_keeps_is_bounded),
        cmocka_unit_test(test_other_sizes_go_straight_back),
        cmocka_unit_test(test_threads_never_share_a_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
