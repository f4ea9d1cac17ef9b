/* SPDX-License-Identifier: Apache-2.0
 *
 * Free lists in front of the host's memory; see heap.h.
 */
#include "heap.h"

#include <stdlib.h>
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
    size_t n_free; /* bytes of it that are free, while heap_trim looks */
};

static char *slab_memory(struct heap_slab *slab)
{
    return (char *)(slab + 1);
}

#define SLAB_BYTES (SLAB - sizeof(struct heap_slab))

static size_t rounded(size_t size)
{
    return (size + HEAP_STEP - 1) / HEAP_STEP * HEAP_STEP;
}

static void **list_of(struct heap *heap, size_t size)
{
    return &heap->lists[(size - 1) / HEAP_STEP];
}

static struct heap_slab *take_slab(struct heap *heap)
{
    struct heap_slab *slab = heap->taken + SLAB <= heap->limit ? heap->h->alloc(SLAB) : NULL;
    if (slab != NULL)
        heap->taken += SLAB;
    return slab;
}

/* What is left of the old slab goes to the list that it fits. */
static bool add_slab(struct heap *heap, bool shrinks)
{
    struct heap_slab *slab = take_slab(heap);
    if (slab == NULL && shrinks) {
        slab = heap->spare;
        heap->spare = NULL;
    } else if (slab != NULL && heap->spare == NULL) {
        heap->spare = take_slab(heap);
    }
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
    heap->n_slabs++;
    heap->at = slab_memory(slab);
    heap->end = heap->at + SLAB_BYTES;
    return true;
}

static void *take_small(struct heap *heap, size_t size, bool shrinks)
{
    void **list = list_of(heap, size), *p = *list;
    if (p != NULL) {
        memcpy(list, p, sizeof(*list));
        return p;
    }
    size = rounded(size);
    if ((size_t)(heap->end - heap->at) < size && !add_slab(heap, shrinks))
        return NULL;
    p = heap->at;
    heap->at += size;
    return p;
}

static void *take(struct heap *heap, size_t size, bool shrinks)
{
    if (size <= LARGEST)
        return take_small(heap, size, shrinks);
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
    void *moved = take(heap, size, p != NULL && size < before);
    if (moved == NULL || p == NULL)
        return moved;
    memcpy(moved, p, before < size ? before : size);
    heap_free(heap, p, before);
    return moved;
}

/* ---- Giving back ---- */

static int by_address(const void *a, const void *b)
{
    const struct heap_slab *x = *(struct heap_slab *const *)a, *y = *(struct heap_slab *const *)b;
    return x < y ? -1 : x > y;
}

/* The slab that p points into. NULL for a large block that had to become a small one where it stands. */
static struct heap_slab *slab_of(struct heap_slab *const *sorted, uint32_t n, const void *p)
{
    uint32_t low = 0;
    for (uint32_t high = n; high - low > 1;) {
        uint32_t middle = low + (high - low) / 2;
        if ((const void *)sorted[middle] <= p)
            low = middle;
        else
            high = middle;
    }
    const char *start = (const char *)sorted[low], *at = p;
    return at >= start && at < start + SLAB ? sorted[low] : NULL;
}

static bool is_free(const struct heap_slab *slab)
{
    return slab != NULL && slab->n_free == SLAB_BYTES;
}

static void count_free(struct heap *heap, struct heap_slab *const *sorted)
{
    for (struct heap_slab *slab = heap->slabs; slab != NULL; slab = slab->next)
        slab->n_free = 0;
    heap->slabs->n_free = (size_t)(heap->end - heap->at);
    for (uint32_t i = 0; i < HEAP_SMALL / HEAP_STEP; i++)
        for (void *p = heap->lists[i]; p != NULL; memcpy(&p, p, sizeof(p))) {
            struct heap_slab *slab = slab_of(sorted, heap->n_slabs, p);
            if (slab != NULL)
                slab->n_free += (i + 1) * (size_t)HEAP_STEP;
        }
}

/* Takes what lies in free slabs out of the lists. */
static void clear_lists(struct heap *heap, struct heap_slab *const *sorted)
{
    for (uint32_t i = 0; i < HEAP_SMALL / HEAP_STEP; i++) {
        void *kept = NULL;
        for (void *p = heap->lists[i], *next; p != NULL; p = next) {
            memcpy(&next, p, sizeof(next));
            if (is_free(slab_of(sorted, heap->n_slabs, p)))
                continue;
            memcpy(p, &kept, sizeof(kept));
            kept = p;
        }
        heap->lists[i] = kept;
    }
    if (is_free(heap->slabs))
        heap->at = heap->end = NULL;
}

bool heap_trim(struct heap *heap)
{
    uint32_t n = 0, before = heap->n_slabs;
    struct heap_slab **sorted = before != 0 ? heap->h->alloc(before * sizeof(*sorted)) : NULL;
    if (sorted == NULL)
        return false;
    for (struct heap_slab *slab = heap->slabs; slab != NULL; slab = slab->next)
        sorted[n++] = slab;
    qsort(sorted, n, sizeof(*sorted), by_address);
    count_free(heap, sorted);
    clear_lists(heap, sorted);
    for (struct heap_slab **at = &heap->slabs, *slab; (slab = *at) != NULL;) {
        if (!is_free(slab)) {
            at = &slab->next;
            continue;
        }
        *at = slab->next;
        heap->h->free(slab);
        heap->taken -= SLAB;
        heap->n_slabs--;
    }
    heap->h->free(sorted);
    return heap->n_slabs != before;
}

bool heap_init(struct heap *heap)
{
    heap->spare = LARGEST != 0 ? take_slab(heap) : NULL;
    return LARGEST == 0 || heap->spare != NULL;
}

void heap_done(struct heap *heap)
{
    for (struct heap_slab *slab = heap->slabs, *next; slab != NULL; slab = next) {
        next = slab->next;
        heap->h->free(slab);
    }
    heap->h->free(heap->spare);
    *heap = (struct heap){.h = heap->h, .limit = heap->limit};
}
