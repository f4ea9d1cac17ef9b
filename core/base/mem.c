/* SPDX-License-Identifier: Apache-2.0
 *
 * The one door to the heap. What is in use is counted by the allocator's own block sizes, so that no
 * header of ours stands in front of a block.
 */
#include <base/mem.h>

#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic size_t used_bytes;

static void *counted(void *p)
{
    if (p != NULL)
        atomic_fetch_add_explicit(&used_bytes, malloc_usable_size(p), memory_order_relaxed);
    return p;
}

static void uncounted(void *p)
{
    if (p != NULL)
        atomic_fetch_sub_explicit(&used_bytes, malloc_usable_size(p), memory_order_relaxed);
}

void *wr_alloc(size_t size)
{
    return counted(calloc(1, size != 0 ? size : 1));
}

void *wr_alloc_raw(size_t size)
{
    return counted(malloc(size != 0 ? size : 1));
}

void *wr_realloc(void *take_p, size_t size)
{
    size_t before = take_p != NULL ? malloc_usable_size(take_p) : 0;
    void *p = realloc(take_p, size != 0 ? size : 1);
    if (p == NULL)
        return NULL;
    atomic_fetch_sub_explicit(&used_bytes, before, memory_order_relaxed);
    return counted(p);
}

void wr_free(void *take_p)
{
    uncounted(take_p);
    free(take_p);
}

_Noreturn static void no_memory(void)
{
    fputs("weir: out of memory\n", stderr);
    abort();
}

void *wr_xalloc(size_t size)
{
    void *p = wr_alloc(size);
    if (p == NULL)
        no_memory();
    return p;
}

void *wr_xrealloc(void *take_p, size_t size)
{
    void *p = wr_realloc(take_p, size);
    if (p == NULL)
        no_memory();
    return p;
}

char *wr_xmemdup(const char *ptr, size_t len)
{
    char *copy = wr_xalloc(len + 1);
    if (len != 0)
        memcpy(copy, ptr, len);
    return copy;
}

char *wr_xstrdup(const char *text)
{
    return wr_xmemdup(text, strlen(text));
}

size_t wr_mem_used(void)
{
    return atomic_load_explicit(&used_bytes, memory_order_relaxed);
}
