/* SPDX-License-Identifier: Apache-2.0
 *
 * heap.h: the memory of one Lua state. Lua makes and drops small objects all the time, most of them
 * strings read from events, and says their size when it frees them: those come from free lists by size,
 * without a lock or a header. Larger ones are the host's. What the lists hold goes back to the host with
 * the state, or by heap_trim. The caller counts what is in use; `limit` bounds what is taken from the host.
 */
#ifndef LUA_HEAP_H
#define LUA_HEAP_H

#include <weir/plugin.h>

#define HEAP_STEP 16u
#define HEAP_SMALL 128u /* the largest that comes from a list */

struct heap_slab;

struct heap {
    const struct weir_host *h;
    size_t limit, taken; /* bytes of the host */
    struct heap_slab *slabs; /* newest first */
    struct heap_slab *spare; /* for blocks that shrink, which must not fail */
    uint32_t n_slabs;
    char *at, *end; /* what is left of the newest slab */
    void *lists[HEAP_SMALL / HEAP_STEP];
};

/* `h` and `limit` are set. False: no memory. */
bool heap_init(struct heap *heap);
/* As realloc, with the size that p had. NULL when memory or the limit is used up: p is still good. */
void *heap_realloc(struct heap *heap, void *p, size_t before, size_t size);
/* NULL is allowed. */
void heap_free(struct heap *heap, void *take_p, size_t size);
/* Gives slabs of which nothing is in use back to the host. True: there were some. It walks over all that
 * is free, so it is for when memory is short. */
bool heap_trim(struct heap *heap);
/* Everything small goes at once. */
void heap_done(struct heap *heap);

#endif
