/* SPDX-License-Identifier: Apache-2.0
 *
 * Splits a descriptor's bytes into lines that are views into large blocks.
 *
 * A block is read into until it is nearly full; the beginning of the line that does not fit is then
 * copied to the next one: the only copy there is. A block goes back to its pool when the reader and
 * the last batch with one of its lines have let go of it, on whatever thread that happens, perhaps
 * after the source is closed: so the pool counts its references as well.
 */
#include "file.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define BLOCK_BYTES ((size_t)256 << 10)
#define MIN_READ ((size_t)32 << 10) /* less room than that, and a new block is taken */
#define MAX_SPARE 8                 /* blocks kept for the next fill */

struct pool {
    atomic_uint refs; /* of the reader and of each block */
    pthread_mutex_t lock;
    struct block *spare;
    unsigned n_spare;
    void (*free)(void *take_p);
};

struct block {
    atomic_uint refs;
    struct pool *pool;
    struct block *next;
    size_t cap;
    char data[];
};

struct pool *pool_new(const struct weir_host *h)
{
    struct pool *pool = h->alloc(sizeof(*pool));
    if (pool == NULL)
        return NULL;
    atomic_init(&pool->refs, 1);
    pthread_mutex_init(&pool->lock, NULL);
    pool->free = h->free;
    return pool;
}

static void pool_unref(struct pool *pool)
{
    if (atomic_fetch_sub_explicit(&pool->refs, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&pool->lock);
    pool->free(pool);
}

/* The reader lets go: spare blocks are freed, and no block becomes spare any more. */
void pool_close(struct pool *take_pool)
{
    struct pool *pool = take_pool;
    if (pool == NULL)
        return;
    pthread_mutex_lock(&pool->lock);
    struct block *block = pool->spare;
    pool->spare = NULL;
    pool->n_spare = MAX_SPARE;
    pthread_mutex_unlock(&pool->lock);
    while (block != NULL) {
        struct block *next = block->next;
        pool->free(block);
        block = next;
    }
    pool_unref(pool);
}

static struct block *pool_take_spare(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    struct block *block = pool->spare;
    if (block != NULL) {
        pool->spare = block->next;
        pool->n_spare--;
    }
    pthread_mutex_unlock(&pool->lock);
    return block;
}

static struct block *block_new(const struct weir_host *h, struct pool *pool, size_t cap)
{
    struct block *block = cap == BLOCK_BYTES ? pool_take_spare(pool) : NULL;
    if (block == NULL) {
        block = h->alloc(sizeof(*block) + cap);
        if (block == NULL)
            return NULL;
        block->cap = cap;
        block->pool = pool;
    }
    atomic_fetch_add_explicit(&pool->refs, 1, memory_order_relaxed);
    atomic_init(&block->refs, 1);
    return block;
}

void block_ref(struct block *block)
{
    atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
}

void block_unref(void *take_block)
{
    struct block *block = take_block;
    if (block == NULL || atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) != 1)
        return;
    struct pool *pool = block->pool;
    pthread_mutex_lock(&pool->lock);
    bool keep = block->cap == BLOCK_BYTES && pool->n_spare < MAX_SPARE;
    if (keep) {
        block->next = pool->spare;
        pool->spare = block;
        pool->n_spare++;
    }
    pthread_mutex_unlock(&pool->lock);
    if (!keep)
        pool->free(block);
    pool_unref(pool);
}

void lines_init(struct lines *l, const struct weir_host *h, struct pool *pool, int fd,
                size_t max_line)
{
    *l = (struct lines){.h = h, .pool = pool, .fd = fd, .max_line = max_line, .limit = INT64_MAX};
}

void lines_done(struct lines *l)
{
    block_unref(l->block);
    l->block = NULL;
}

bool lines_seek(struct lines *l, int64_t start)
{
    if (start == 0)
        return true;
    /* From the byte before: where that is a line's end, the line at `start` is ours. */
    l->base = start - 1;
    l->skip = SKIP_FIRST_PART;
    return lseek(l->fd, (off_t)l->base, SEEK_SET) == (off_t)l->base;
}

void lines_begin(struct lines *l, int64_t start, int64_t n_before)
{
    l->base = start;
    l->n_before = n_before;
}

void lines_rest(struct lines *l)
{
    if (l->block == NULL || l->at != l->end)
        return;
    l->base += (int64_t)l->at;
    l->at = l->scan = l->end = 0;
    block_unref(l->block);
    l->block = NULL;
}

/* Drops what is read up to the end of the line that is skipped; true when that end was there. */
static bool skip_part(struct lines *l, const char *newline)
{
    l->at = newline == NULL ? l->end : (size_t)(newline + 1 - l->block->data);
    l->scan = l->at;
    return newline != NULL;
}

static enum line_result give_line(struct lines *l, const char *stop, size_t next,
                                  struct line *ret_line)
{
    const char *start = l->block->data + l->at;
    size_t len = (size_t)(stop - start);
    if (len > 0 && start[len - 1] == '\r')
        len--;
    if (len > l->max_line)
        return LINE_TOO_LONG;
    ret_line->text = weir_str_n(start, len);
    ret_line->offset = l->base + (int64_t)l->at;
    ret_line->next = l->base + (int64_t)next;
    ret_line->number = ++l->n_before;
    l->at = next;
    l->scan = next;
    return len == 0 ? LINE_EMPTY : LINE_OK;
}

enum line_result lines_next(struct lines *l, struct line *ret_line)
{
    for (;;) {
        if (l->skip == SKIP_NOTHING && l->base + (int64_t)l->at >= l->limit)
            return LINE_END;
        const char *newline = NULL;
        if (l->scan < l->end)
            newline = memchr(l->block->data + l->scan, '\n', l->end - l->scan);
        enum skip skip = l->skip;
        if (skip != SKIP_NOTHING) {
            bool ended = skip_part(l, newline);
            if (!ended && !l->eof)
                return LINE_MORE;
            l->skip = SKIP_NOTHING;
            if (skip == SKIP_FIRST_PART)
                continue;
            *ret_line = (struct line){
                .offset = l->skip_from, .next = l->base + (int64_t)l->at, .number = ++l->n_before};
            return LINE_SKIPPED;
        }
        if (newline != NULL)
            return give_line(l, newline, (size_t)(newline + 1 - l->block->data), ret_line);
        l->scan = l->end;
        size_t len = l->end - l->at;
        if (!l->eof)
            return len > l->max_line + 1 ? LINE_TOO_LONG : LINE_MORE; /* 1: it may be a CR */
        if (len == 0)
            return LINE_END;
        return give_line(l, l->block->data + l->end, l->end, ret_line);
    }
}

void lines_back(struct lines *l, const struct line *line)
{
    l->at = (size_t)(line->offset - l->base);
    l->scan = l->at;
    l->n_before--;
}

/* How much of it is left without a character that is cut off at its end. */
static size_t whole_characters(const char *p, size_t len)
{
    size_t n = 0; /* of the last one, behind its first byte */
    while (n < 3 && n < len && ((unsigned char)p[len - n - 1] & 0xc0) == 0x80)
        n++;
    if (n == len)
        return len;
    unsigned char first = (unsigned char)p[len - n - 1];
    size_t want = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
    return want > n + 1 ? len - n - 1 : len;
}

struct weir_str lines_first_part(const struct lines *l, size_t max)
{
    const char *start = l->block->data + l->at;
    size_t len = l->end - l->at < max ? l->end - l->at : max;
    const char *newline = memchr(start, '\n', len);
    if (newline != NULL)
        return weir_str_n(start, (size_t)(newline - start));
    return weir_str_n(start, whole_characters(start, len));
}

void lines_skip(struct lines *l)
{
    l->skip = SKIP_LONG_LINE;
    l->skip_from = l->base + (int64_t)l->at;
    l->scan = l->at;
}

/* Makes room for a read behind `end`; false when memory is used up. */
static bool make_room(struct lines *l)
{
    if (l->block != NULL && l->block->cap - l->end >= MIN_READ)
        return true;
    size_t left = l->end - l->at;
    size_t cap = BLOCK_BYTES;
    while (cap < left + MIN_READ || cap < 2 * left)
        cap *= 2;
    struct block *block = block_new(l->h, l->pool, cap);
    if (block == NULL)
        return false;
    if (left > 0)
        memcpy(block->data, l->block->data + l->at, left);
    block_unref(l->block);
    l->block = block;
    l->base += (int64_t)l->at;
    l->scan -= l->at;
    l->end = left;
    l->at = 0;
    return true;
}

/* A byte order mark at the very start is not part of the first line. */
static void skip_mark(struct lines *l)
{
    if (l->base != 0 || l->at != 0 || l->end < 3 || memcmp(l->block->data, "\xef\xbb\xbf", 3) != 0)
        return;
    l->at = 3;
    l->scan = l->scan > 3 ? l->scan : 3;
}

int lines_fill(struct lines *l)
{
    if (!make_room(l))
        return ENOMEM;
    ssize_t n;
    char *at = l->block->data + l->end;
    do
        n = l->read != NULL ? l->read(l->read_arg, at, l->block->cap - l->end)
                            : read(l->fd, at, l->block->cap - l->end);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno;
    if (n == 0 && l->follow)
        return EAGAIN;
    l->eof = n == 0;
    l->end += (size_t)n;
    skip_mark(l);
    return 0;
}
