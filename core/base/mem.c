/* SPDX-License-Identifier: Apache-2.0
 *
 * The one door to the heap. What is in use is counted by the allocator's own block sizes, so that no
 * header of ours stands in front of a block.
 */
#include <base/mem.h>

#include <base/count.h>

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct wr_count used_bytes;

static void *counted(void *p)
{
    if (p != NULL)
        wr_count_add(&used_bytes, (int64_t)malloc_usable_size(p));
    return p;
}

static void uncounted(void *p)
{
    if (p != NULL)
        wr_count_add(&used_bytes, -(int64_t)malloc_usable_size(p));
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
    wr_count_add(&used_bytes, -(int64_t)before);
    return counted(p);
}

void wr_free(void *take_p)
{
    uncounted(take_p);
    free(take_p);
}

/* ---- The control path ---- */

/* Set aside for the time when there is no more: what fails then on the path of events ends as a dead letter, a
 * metric and a log line, and those want memory too. */
#define RESERVE ((size_t)256 * 1024)
static _Atomic(void *) reserve;

static void keep_reserve(void)
{
    if (atomic_load_explicit(&reserve, memory_order_relaxed) != NULL)
        return;
    void *mine = malloc(RESERVE), *none = NULL;
    if (!atomic_compare_exchange_strong(&reserve, &none, mine))
        free(mine);
}

/* Lets go of the reserve. Where it is gone already, the process ends: what it has not acknowledged comes again. */
static void draw_reserve(void)
{
    void *p = atomic_exchange(&reserve, NULL);
    if (p == NULL) {
        fputs("weir: out of memory\n", stderr);
        abort();
    }
    free(p);
}

void *wr_xalloc(size_t size)
{
    void *p;
    keep_reserve();
    while ((p = wr_alloc(size)) == NULL)
        draw_reserve();
    return p;
}

void *wr_xrealloc(void *take_p, size_t size)
{
    void *p;
    keep_reserve();
    while ((p = wr_realloc(take_p, size)) == NULL)
        draw_reserve();
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
    return (size_t)wr_count_sum(&used_bytes);
}
