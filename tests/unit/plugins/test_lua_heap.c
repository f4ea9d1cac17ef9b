/* SPDX-License-Identifier: Apache-2.0
 *
 * The memory of a Lua state by itself: small blocks keep what is in them, what is free goes back to the host,
 * and a block can always shrink.
 */
#include <engine/host.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "../../../plugins/lua/heap.c"

#define BLOCKS 4000
#define WITHOUT_LISTS "small blocks come from the host, so that AddressSanitizer sees them"

static struct weir_host host;
static int n_live;
static bool no_memory;

static void *count_alloc(size_t size)
{
    n_live += !no_memory;
    return no_memory ? NULL : wr_host_control()->alloc(size);
}

static void *count_realloc(void *p, size_t size)
{
    n_live += !no_memory && p == NULL;
    return no_memory ? NULL : wr_host_control()->realloc(p, size);
}

static void host_free(void *p)
{
    n_live -= p != NULL;
    wr_host_control()->free(p);
}

static struct heap heap_of(size_t limit)
{
    host = *wr_host_control();
    host.alloc = count_alloc;
    host.realloc = count_realloc;
    host.free = host_free;
    no_memory = false;
    struct heap heap = {.h = &host, .limit = limit};
    assert_true(heap_init(&heap));
    return heap;
}

static void end(struct heap *heap)
{
    heap_done(heap);
    assert_int_equal(n_live, 0);
}

static void test_free_slabs_go_back(void **state)
{
    static void *blocks[BLOCKS];
    struct heap heap = heap_of(SIZE_MAX / 2);
    (void)state;
    if (LARGEST == 0) {
        end(&heap);
        print_message(WITHOUT_LISTS "\n");
        skip();
    }
    assert_false(heap_trim(&heap));
    for (int i = 0; i < BLOCKS; i++)
        memset(blocks[i] = heap_realloc(&heap, NULL, 0, 100), i, 100);
    assert_false(heap_trim(&heap));
    for (int i = 0; i < BLOCKS; i++)
        if (i != 17 && i != BLOCKS - 1)
            heap_free(&heap, blocks[i], 100);
    assert_true(heap_trim(&heap));
    assert_int_equal(n_live, 3); /* of the two that are in use, and the spare one */
    assert_int_equal(heap.taken, 3 * SLAB);
    assert_int_equal(((unsigned char *)blocks[17])[99], 17);
    heap_free(&heap, blocks[17], 100);
    heap_free(&heap, blocks[BLOCKS - 1], 100);
    assert_true(heap_trim(&heap));
    assert_int_equal(heap.taken, SLAB);
    assert_non_null(heap_realloc(&heap, NULL, 0, 16)); /* it begins anew */
    end(&heap);
}

static void test_a_block_can_always_shrink(void **state)
{
    struct heap heap = heap_of(SIZE_MAX / 2);
    void *blocks[8];
    (void)state;
    for (int i = 0; i < 8; i++)
        memset(blocks[i] = heap_realloc(&heap, NULL, 0, 1000), i, 1000);
    no_memory = LARGEST != 0;
    for (int i = 0; i < 8; i++) {
        blocks[i] = heap_realloc(&heap, blocks[i], 1000, 60);
        assert_non_null(blocks[i]);
        assert_int_equal(((unsigned char *)blocks[i])[59], i);
    }
    for (int i = 0; i < 8; i++)
        heap_free(&heap, blocks[i], 60);
    end(&heap);
}

struct block {
    unsigned char *p;
    size_t size;
    unsigned char fill;
};

static void check(const struct block *b)
{
    for (size_t i = 0; i < b->size; i++)
        if (b->p[i] != b->fill)
            fail_msg("byte %zu of %zu is %d, not %d", i, b->size, b->p[i], b->fill);
}

/* Sizes on both sides of what is small; every operation on every kind of block. */
static void test_blocks_keep_what_is_in_them(void **state)
{
    static struct block blocks[500];
    struct heap heap = heap_of(1 << 20);
    uint32_t x = 1;
    (void)state;
    for (int round = 0; round < 100000; round++) {
        x = x * 1664525 + 1013904223;
        struct block *b = &blocks[x % 500];
        size_t size = (x >> 12) % (round % 3 == 0 ? 300 : 129);
        check(b);
        if (size == 0) {
            heap_free(&heap, b->p, b->size);
            *b = (struct block){0};
        } else {
            unsigned char *p = heap_realloc(&heap, b->p, b->size, size);
            assert_non_null(p);
            struct block moved = {p, size < b->size ? size : b->size, b->fill};
            check(&moved);
            *b = (struct block){p, size, (unsigned char)round};
            memset(p, b->fill, size);
        }
        if (round % 5000 == 0)
            (void)heap_trim(&heap);
    }
    for (size_t i = 0; i < 500; i++) {
        check(&blocks[i]);
        heap_free(&heap, blocks[i].p, blocks[i].size);
    }
    (void)heap_trim(&heap);
    assert_int_equal(heap.taken, LARGEST != 0 ? SLAB : 0);
    end(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_slabs_go_back),
        cmocka_unit_test(test_a_block_can_always_shrink),
        cmocka_unit_test(test_blocks_keep_what_is_in_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
