/* SPDX-License-Identifier: Apache-2.0
 *
 * base/arena.h: bump allocator behind struct weir_arena. One thread at a time.
 *
 * Memory comes from chunks that are freed together. The newest allocation can be resized in place,
 * which is what yyjson's reader wants. `doc` and `nested` belong to model/value.c: the mutable document
 * whose values live in this arena, and whether any of them was put together from arrays or objects.
 */
#ifndef WR_BASE_ARENA_H
#define WR_BASE_ARENA_H

#include <weir/event.h>

struct wr_chunk {
    struct wr_chunk *next;
    size_t cap; /* bytes behind this header */
};

struct weir_arena {
    struct wr_chunk *chunks; /* newest first; bump memory is in the first */
    char *at;                /* next free byte */
    char *end;
    void *doc;
    size_t footprint; /* bytes of all chunks */
    size_t chunk_min;
    bool nested;
};

/* In place; all-zero is a valid empty arena too. */
void wr_arena_init(struct weir_arena *a, size_t chunk_min);
/* Frees every chunk; the arena is empty and usable. */
void wr_arena_done(struct weir_arena *a);
/* Empty and reusable; keeps the largest chunk if it has at most `keep` bytes. */
void wr_arena_clear(struct weir_arena *a, size_t keep);

/* 16-byte aligned, not zeroed; NULL when memory is used up. */
void *wr_arena_alloc(struct weir_arena *a, size_t size);
/* Grows or shrinks in place where p is the newest, else copies. */
void *wr_arena_realloc(struct weir_arena *a, void *p, size_t old_size, size_t size);
/* Gives back the newest allocation; nothing for others. */
void wr_arena_free(struct weir_arena *a, void *p, size_t size);
/* Copies with a NUL behind; {NULL, 0} when memory is used up or s.ptr is NULL. */
struct weir_str wr_arena_copy(struct weir_arena *a, struct weir_str s);
struct weir_str wr_arena_printf(struct weir_arena *a, const char *fmt, ...) WEIR_PRINTF(2, 3);
/* The same for the control path: never NULL, zeroed. */
void *wr_arena_xalloc(struct weir_arena *a, size_t size);
struct weir_str wr_arena_xcopy(struct weir_arena *a, struct weir_str s);
struct weir_str wr_arena_xprintf(struct weir_arena *a, const char *fmt, ...) WEIR_PRINTF(2, 3);

#endif
