/* SPDX-License-Identifier: Apache-2.0
 *
 * Free lists in front of the host's memory; see heap.h.
 */
#include "heap.h"

#include <string.h>

#define SLAB 8192u

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__ /* it would not see into the lists */
#define LARGEST ((size_t)0)
#else
#define LARGEST ((size_t)HEAP_SMALL)
#endif

struct heap_slab {
    struct heap_slab *next;
    size_t unused; /* keeps what is behind it aligned */
};

static size_t rounded(size_t size)
{
    return (size + HEAP_STEP - 1) / HEAP_STEP * HEAP_STEP;
}

static void **list_of(struct heap *heap, size_t size)
{
    return &heap->lists[(size - 1) / HEAP_STEP];
}

/* What is left of the old slab goes to the list that it fits. */
static bool add_slab(struct heap *heap)
{
    struct heap_slab *slab =
        heap->taken + SLAB <= heap->limit ? heap->h->alloc(SLAB) : NULL;
    if (slab == NULL)
        return false;
    size_t left = (size_t)(heap->end - heap->at);
    if (left != 0) {
        void **list = list_of(heap, left);
        memcpy(heap->at, list, sizeof(*list));
        *list = heap->at;
    }
    slab->next = heap->slabs;
    heap->slabs = slab;
    heap->taken += SLAB;
    heap->at = (char *)(slab + 1);
    heap->end = (char *)slab + SLAB;
    return true;
}

static void *take_small(struct heap *heap, size_t size)
{
    void **list = list_of(heap, size), *p = *list;
    if (p != NULL) {
        memcpy(list, p, sizeof(*list));
        return p;
    }
    size = rounded(size);
    if ((size_t)(heap->end - heap->at) < size && !add_slab(heap))
        return NULL;
    p = heap->at;
    heap->at += size;
    return p;
}

static void *take(struct heap *heap, size_t size)
{
    if (size <= LARGEST)
        return take_small(heap, size);
    void *p = heap->taken + size <= heap->limit ? heap->h->realloc(NULL, size) : NULL;
    if (p != NULL)
        heap->taken += size;
    return p;
}

void heap_free(struct heap *heap, void *take_p, size_t size)
{
    if (take_p == NULL)
        return;
    if (size <= LARGEST) {
        void **list = list_of(heap, size);
        memcpy(take_p, list, sizeof(*list));
        *list = take_p;
        return;
    }
    heap->h->free(take_p);
    heap->taken -= size;
}

static void *resize_large(struct heap *heap, void *p, size_t before, size_t size)
{
    if (size > before && heap->taken + (size - before) > heap->limit)
        return NULL;
    void *grown = heap->h->realloc(p, size);
    if (grown != NULL)
        heap->taken += size - before; /* may wrap round: it is a sum */
    return grown;
}

void *heap_realloc(struct heap *heap, void *p, size_t before, size_t size)
{
    if (p != NULL && before > LARGEST && size > LARGEST)
        return resize_large(heap, p, before, size);
    if (p != NULL && before <= LARGEST && size <= LARGEST && rounded(before) == rounded(size))
        return p;
    void *moved = take(heap, size);
    if (moved == NULL || p == NULL)
        return moved;
    memcpy(moved, p, before < size ? before : size);
    heap_free(heap, p, before);
    return moved;
}

void heap_done(struct heap *heap)
{
    for (struct heap_slab *slab = heap->slabs, *next; slab != NULL; slab = next) {
        next = slab->next;
        heap->h->free(slab);
    }
    *heap = (struct heap){.h = heap->h, .limit = heap->limit};
}
