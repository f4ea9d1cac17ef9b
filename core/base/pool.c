/* SPDX-License-Identifier: Apache-2.0
 *
 * One stack of free blocks for each power of two from 4 KiB to 1 MiB; larger and smaller ones go
 * straight to the heap. One lock a block, that is a few a batch.
 */
#include <base/pool.h>

#include <base/mem.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define SHIFT_MIN 12
#define SHIFT_MAX 20
#define KEEP_BYTES ((size_t)4 << 20) /* a class */
/* A recycled block would hide from AddressSanitizer that somebody still looks at it. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#undef KEEP_BYTES
#define KEEP_BYTES ((size_t)0)
#endif

struct block {
    struct block *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct block *stacks[SHIFT_MAX + 1];
static size_t kept[SHIFT_MAX + 1];
static size_t keep_bytes = KEEP_BYTES;

/* 0: not a size of the pool. */
static int class_of(size_t size)
{
    if (size > (size_t)1 << SHIFT_MAX || size <= (size_t)1 << (SHIFT_MIN - 1))
        return 0;
    int shift = SHIFT_MIN;
    while ((size_t)1 << shift < size)
        shift++;
    return shift;
}

void *wr_pool_get(size_t size, size_t *ret_cap)
{
    int shift = class_of(size);
    *ret_cap = shift != 0 ? (size_t)1 << shift : size;
    if (shift == 0)
        return wr_alloc_raw(size);
    pthread_mutex_lock(&mutex);
    struct block *b = stacks[shift];
    if (b != NULL) {
        stacks[shift] = b->next;
        kept[shift] -= *ret_cap;
    }
    pthread_mutex_unlock(&mutex);
    return b != NULL ? (void *)b : wr_alloc_raw(*ret_cap);
}

void wr_pool_put(void *take_p, size_t cap)
{
    int shift = class_of(cap);
    bool keep = false;
    if (take_p != NULL && shift != 0 && (size_t)1 << shift == cap) {
        pthread_mutex_lock(&mutex);
        keep = kept[shift] + cap <= keep_bytes;
        if (keep) {
            struct block *b = take_p;
            b->next = stacks[shift];
            stacks[shift] = b;
            kept[shift] += cap;
        }
        pthread_mutex_unlock(&mutex);
    }
    if (!keep)
        wr_free(take_p);
}

void wr_pool_bound(size_t bytes)
{
    size_t most = KEEP_BYTES;
    pthread_mutex_lock(&mutex);
    keep_bytes = bytes < most ? bytes : most;
    pthread_mutex_unlock(&mutex);
}

void wr_pool_trim(void)
{
    pthread_mutex_lock(&mutex);
    for (int shift = SHIFT_MIN; shift <= SHIFT_MAX; shift++) {
        for (struct block *b = stacks[shift], *next; b != NULL; b = next) {
            next = b->next;
            wr_free(b);
        }
        stacks[shift] = NULL;
        kept[shift] = 0;
    }
    pthread_mutex_unlock(&mutex);
}
