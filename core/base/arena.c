/* SPDX-License-Identifier: Apache-2.0
 *
 * Bump allocation from chunks; see arena.h. What the newest chunk cannot hold begins a new one; the rest
 * of the old chunk stays unused.
 */
#include <base/arena.h>

#include <base/check.h>
#include <base/mem.h>
#include <base/pool.h>

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN 16u
#define CHUNK_MIN 4096u
#define CHUNK_MAX (1024u * 1024u)
#define ALLOC_MAX (SIZE_MAX / 4)

static_assert(sizeof(struct wr_chunk) % ALIGN == 0, "chunk memory stays aligned");

static size_t aligned(size_t size)
{
    return (size + (ALIGN - 1)) & ~(size_t)(ALIGN - 1);
}

static char *chunk_memory(struct wr_chunk *c)
{
    return (char *)(c + 1);
}

static void chunk_free(struct wr_chunk *c)
{
    if (c != NULL)
        wr_pool_put(c, sizeof(*c) + c->cap);
}

void wr_arena_init(struct weir_arena *a, size_t chunk_min)
{
    *a = (struct weir_arena){.chunk_min = chunk_min};
}

void wr_arena_done(struct weir_arena *a)
{
    for (struct wr_chunk *c = a->chunks, *next; c != NULL; c = next) {
        next = c->next;
        chunk_free(c);
    }
    wr_arena_init(a, a->chunk_min);
}

void wr_arena_clear(struct weir_arena *a, size_t keep)
{
    struct wr_chunk *best = NULL;
    for (struct wr_chunk *c = a->chunks, *next; c != NULL; c = next) {
        next = c->next;
        if (c->cap <= keep && (best == NULL || c->cap > best->cap)) {
            chunk_free(best);
            best = c;
        } else {
            chunk_free(c);
        }
    }
    wr_arena_init(a, a->chunk_min);
    if (best == NULL)
        return;
    best->next = NULL;
    a->chunks = best;
    a->at = chunk_memory(best);
    a->end = a->at + best->cap;
    a->footprint = best->cap + sizeof(*best);
}

/* Chunks double with the arena, so that the number of them stays small. */
static bool add_chunk(struct weir_arena *a, size_t size)
{
    size_t cap = (a->chunk_min != 0 ? a->chunk_min : CHUNK_MIN) - sizeof(struct wr_chunk);
    size_t more = a->footprint < CHUNK_MAX ? a->footprint : CHUNK_MAX;
    if (cap + sizeof(struct wr_chunk) < more)
        cap = more - sizeof(struct wr_chunk); /* powers of two stay powers of two */
    if (cap < size)
        cap = size;
    size_t got;
    struct wr_chunk *c = wr_pool_get(sizeof(*c) + cap, &got);
    if (c == NULL)
        return false;
    cap = got - sizeof(*c);
    c->next = a->chunks;
    c->cap = cap;
    a->chunks = c;
    a->at = chunk_memory(c);
    a->end = a->at + cap;
    a->footprint += sizeof(*c) + cap;
    return true;
}

void *wr_arena_alloc(struct weir_arena *a, size_t size)
{
    if (size > ALLOC_MAX)
        return NULL;
    size = aligned(size);
    bool has_room = a->at != NULL && (size_t)(a->end - a->at) >= size; /* NULL would mean no memory */
    if (!has_room && !add_chunk(a, size))
        return NULL;
    void *p = a->at;
    a->at += size;
    return p;
}

/* What grows by and by would leave a chunk for each of its sizes. */
static void drop_second(struct weir_arena *a, struct wr_chunk *c)
{
    if (a->chunks->next != c)
        return;
    a->chunks->next = c->next;
    a->footprint -= sizeof(*c) + c->cap;
    chunk_free(c);
}

void *wr_arena_realloc(struct weir_arena *a, void *p, size_t old_size, size_t size)
{
    if (p == NULL)
        return wr_arena_alloc(a, size);
    if (size > ALLOC_MAX)
        return NULL;
    bool newest = (char *)p + aligned(old_size) == a->at;
    if (newest && (size_t)(a->end - (char *)p) >= aligned(size)) {
        a->at = (char *)p + aligned(size);
        return p;
    }
    if (size <= old_size)
        return p;
    if (newest)
        a->at = p; /* the new place may be this one's chunk again only if it fits, which it does not */
    struct wr_chunk *left = newest && p == chunk_memory(a->chunks) ? a->chunks : NULL;
    void *grown = wr_arena_alloc(a, size);
    if (grown != NULL)
        memmove(grown, p, old_size);
    else if (newest)
        a->at = (char *)p + aligned(old_size);
    if (grown != NULL && left != NULL)
        drop_second(a, left);
    return grown;
}

void wr_arena_free(struct weir_arena *a, void *p, size_t size)
{
    if (p != NULL && (char *)p + aligned(size) == a->at)
        a->at = p;
}

struct weir_str wr_arena_copy(struct weir_arena *a, struct weir_str s)
{
    if (s.ptr == NULL)
        return weir_str_n(NULL, 0);
    char *copy = wr_arena_alloc(a, s.len + 1);
    if (copy == NULL)
        return weir_str_n(NULL, 0);
    if (s.len != 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return weir_str_n(copy, s.len);
}

WEIR_PRINTF(2, 0)
static struct weir_str print(struct weir_arena *a, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0)
        return weir_str_n(NULL, 0);
    char *text = wr_arena_alloc(a, (size_t)n + 1);
    if (text == NULL)
        return weir_str_n(NULL, 0);
    vsnprintf(text, (size_t)n + 1, fmt, ap);
    return weir_str_n(text, (size_t)n);
}

struct weir_str wr_arena_printf(struct weir_arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct weir_str s = print(a, fmt, ap);
    va_end(ap);
    return s;
}

static void *must(void *p)
{
    if (p == NULL) {
        fputs("weir: out of memory\n", stderr);
        abort();
    }
    return p;
}

void *wr_arena_xalloc(struct weir_arena *a, size_t size)
{
    return memset(must(wr_arena_alloc(a, size)), 0, size);
}

struct weir_str wr_arena_xcopy(struct weir_arena *a, struct weir_str s)
{
    char *copy = must(wr_arena_alloc(a, s.len + 1));
    if (s.len != 0)
        memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return weir_str_n(copy, s.len);
}

struct weir_str wr_arena_xprintf(struct weir_arena *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    struct weir_str s = print(a, fmt, ap);
    va_end(ap);
    must((void *)(uintptr_t)s.ptr);
    return s;
}
