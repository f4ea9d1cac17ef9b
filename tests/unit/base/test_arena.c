/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/arena.h>
#include <base/mem.h>
#include <base/pool.h>

/* Sizes that no machine has are asked for below: NULL is expected, not a report. */
WEIR_EXPORT const char *__asan_default_options(void);
WEIR_EXPORT const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
    return "allocator_may_return_null=1";
}

static bool is_aligned(const void *p)
{
    return p != NULL && (uintptr_t)p % 16 == 0;
}

static void test_every_allocation_is_aligned_and_its_own(void **state)
{
    enum { N = 3000 };
    struct weir_arena a = {0};
    static unsigned char *p[N];
    static size_t size[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        size[i] = (size_t)(i * 37 % 700);
        p[i] = wr_arena_alloc(&a, size[i]);
        assert_true(is_aligned(p[i]));
        memset(p[i], i & 0xff, size[i]);
    }
    for (int i = 0; i < N; i++)
        for (size_t k = 0; k < size[i]; k++)
            assert_int_equal(p[i][k], i & 0xff);
    wr_arena_done(&a);
}

/* Nothing was asked for, and it was had: NULL would read as "memory is used up". */
static void test_no_bytes_are_no_failure(void **state)
{
    struct weir_arena a = {0};
    (void)state;
    assert_true(is_aligned(wr_arena_alloc(&a, 0)));
    assert_non_null(wr_arena_xalloc(&a, 0));
    char *grown = wr_arena_realloc(&a, wr_arena_alloc(&a, 0), 0, 100);
    assert_true(is_aligned(grown));
    memset(grown, 1, 100);
    wr_arena_done(&a);
}

static void test_the_newest_grows_and_shrinks_in_place(void **state)
{
    struct weir_arena a;
    (void)state;
    wr_arena_init(&a, 64 * 1024);
    char *p = wr_arena_alloc(&a, 100);
    memset(p, 'x', 100);
    assert_ptr_equal(wr_arena_realloc(&a, p, 100, 5000), p);
    assert_int_equal(p[99], 'x');
    assert_ptr_equal(wr_arena_realloc(&a, p, 5000, 16), p);
    assert_ptr_equal((char *)wr_arena_alloc(&a, 16), p + 16); /* the rest was given back */
    wr_arena_done(&a);
}

/* A reader's block, by a half at a time: the chunks of its former sizes do not stay. */
static void test_what_the_newest_outgrew_is_given_back(void **state)
{
    enum { FIRST = 1 << 20 };
    struct weir_arena a = {0};
    size_t size = FIRST;
    (void)state;
    char *kept = wr_arena_alloc(&a, FIRST), *p = wr_arena_alloc(&a, size);
    memset(kept, 'k', FIRST);
    memset(p, 'x', FIRST);
    for (int i = 0; i < 8; i++) {
        size_t more = size + size / 2;
        p = wr_arena_realloc(&a, p, size, more);
        assert_true(is_aligned(p));
        size = more;
    }
    for (int i = 0; i < FIRST; i++)
        assert_true(kept[i] == 'k' && p[i] == 'x');
    assert_in_range(a.footprint, FIRST + size, FIRST + size + FIRST / 2);
    wr_arena_done(&a);
    assert_int_equal(a.footprint, 0);
}

static void test_an_older_one_is_copied(void **state)
{
    struct weir_arena a = {0};
    (void)state;
    char *old = wr_arena_alloc(&a, 32);
    memset(old, 'o', 32);
    char *newest = wr_arena_alloc(&a, 32);
    memset(newest, 'n', 32);
    char *grown = wr_arena_realloc(&a, old, 32, 64);
    assert_ptr_not_equal(grown, old);
    memset(grown + 32, 'g', 32);
    for (int i = 0; i < 32; i++) {
        assert_int_equal(grown[i], 'o');
        assert_int_equal(newest[i], 'n');
    }
    assert_ptr_equal(wr_arena_realloc(&a, old, 32, 8), old);
    assert_ptr_equal(wr_arena_realloc(&a, NULL, 0, 8), grown + 64);
    wr_arena_done(&a);
}

/* What yyjson does with a text that is longer than the chunk. */
static void test_growing_over_the_chunk_keeps_the_bytes(void **state)
{
    struct weir_arena a;
    (void)state;
    wr_arena_init(&a, 4096);
    size_t size = 16;
    unsigned char *p = wr_arena_alloc(&a, size);
    memset(p, 0, size);
    for (int i = 1; i <= 18; i++) {
        p = wr_arena_realloc(&a, p, size, size * 2);
        assert_true(is_aligned(p));
        memset(p + size, i, size);
        size *= 2;
    }
    for (size_t at = 16, i = 1; at < size; at *= 2, i++) {
        assert_int_equal(p[at], i);
        assert_int_equal(p[at * 2 - 1], i);
    }
    wr_arena_done(&a);
}

static void test_only_the_newest_can_be_given_back(void **state)
{
    struct weir_arena a = {0};
    (void)state;
    char *one = wr_arena_alloc(&a, 40), *two = wr_arena_alloc(&a, 40);
    wr_arena_free(&a, one, 40); /* not the newest: nothing happens */
    char *three = wr_arena_alloc(&a, 1);
    assert_true(three > two);
    wr_arena_free(&a, three, 1);
    wr_arena_free(&a, two, 40);
    assert_ptr_equal(wr_arena_alloc(&a, 200), two);
    wr_arena_free(&a, NULL, 0);
    wr_arena_done(&a);
}

static void test_clear_keeps_the_largest_chunk_that_it_may(void **state)
{
    struct weir_arena a;
    (void)state;
    wr_arena_init(&a, 4096);
    wr_arena_clear(&a, 1 << 20); /* of an empty one */
    (void)wr_arena_alloc(&a, 100);
    (void)wr_arena_alloc(&a, 30000);
    (void)wr_arena_alloc(&a, 300000);
    assert_true(a.footprint > 330000);
    wr_arena_clear(&a, 64 * 1024);
    assert_true(a.footprint >= 30000 && a.footprint <= 65 * 1024);
    size_t kept = a.footprint;
    void *first = wr_arena_alloc(&a, 30000); /* goes into what was kept */
    assert_int_equal(a.footprint, kept);
    wr_arena_clear(&a, 64 * 1024);
    assert_ptr_equal(wr_arena_alloc(&a, 8), first);
    wr_arena_clear(&a, 0);
    assert_int_equal(a.footprint, 0);
    assert_true(is_aligned(wr_arena_alloc(&a, 8)));
    wr_arena_done(&a);
}

static void test_sizes_that_nobody_has_fail_cleanly(void **state)
{
    struct weir_arena a = {0};
    (void)state;
    char *p = wr_arena_alloc(&a, 64);
    memset(p, 'k', 64);
    size_t footprint = a.footprint;
    static const size_t huge[] = {SIZE_MAX,     SIZE_MAX - 15,    SIZE_MAX / 2,
                                  SIZE_MAX / 4, SIZE_MAX / 4 - 64};
    for (size_t i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
        assert_null(wr_arena_alloc(&a, huge[i]));
        assert_null(wr_arena_realloc(&a, p, 64, huge[i]));
        assert_null(wr_arena_realloc(&a, NULL, 0, huge[i]));
    }
    assert_int_equal(a.footprint, footprint);
    /* What was there is still there, and still the newest. */
    assert_int_equal(p[63], 'k');
    assert_ptr_equal(wr_arena_realloc(&a, p, 64, 128), p);
    wr_arena_done(&a);
}

static void test_copies_end_in_a_nul(void **state)
{
    struct weir_arena a = {0};
    (void)state;
    struct weir_str s = wr_arena_copy(&a, weir_str_n("a\0b", 3));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.ptr, "a\0b", 4);
    s = wr_arena_copy(&a, weir_str_n(NULL, 0));
    assert_null(s.ptr); /* nothing and empty are not the same */
    s = wr_arena_copy(&a, weir_cstr(""));
    assert_non_null(s.ptr);
    assert_string_equal(s.ptr, "");
    s = wr_arena_printf(&a, "%d-%s", 7, "seven");
    assert_int_equal(s.len, 7);
    assert_string_equal(s.ptr, "7-seven");
    s = wr_arena_printf(&a, "%*s", 100000, "x"); /* larger than a chunk */
    assert_int_equal(s.len, 100000);
    assert_string_equal(wr_arena_xcopy(&a, weir_str_n(NULL, 0)).ptr, "");
    assert_string_equal(wr_arena_xprintf(&a, "%s", "").ptr, "");
    char *zeroed = wr_arena_xalloc(&a, 100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(zeroed[i], 0);
    wr_arena_done(&a);
}

static void test_done_gives_everything_back(void **state)
{
    struct weir_arena a;
    (void)state;
    wr_pool_trim();
    size_t before = wr_mem_used();
    wr_arena_init(&a, 8192);
    for (int i = 0; i < 100; i++)
        assert_non_null(wr_arena_alloc(&a, (size_t)i * 1000));
    assert_true(wr_mem_used() > before + 4000000);
    wr_arena_done(&a);
    assert_int_equal(a.footprint, 0);
    assert_int_equal(a.chunk_min, 8192); /* usable again, as it was made */
    assert_non_null(wr_arena_alloc(&a, 1));
    wr_arena_done(&a);
    wr_pool_trim();
    assert_int_equal(wr_mem_used(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation_is_aligned_and_its_own),
        cmocka_unit_test(test_no_bytes_are_no_failure),
        cmocka_unit_test(test_the_newest_grows_and_shrinks_in_place),
        cmocka_unit_test(test_what_the_newest_outgrew_is_given_back),
        cmocka_unit_test(test_an_older_one_is_copied),
        cmocka_unit_test(test_growing_over_the_chunk_keeps_the_bytes),
        cmocka_unit_test(test_only_the_newest_can_be_given_back),
        cmocka_unit_test(test_clear_keeps_the_largest_chunk_that_it_may),
        cmocka_unit_test(test_sizes_that_nobody_has_fail_cleanly),
        cmocka_unit_test(test_copies_end_in_a_nul),
        cmocka_unit_test(test_done_gives_everything_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
