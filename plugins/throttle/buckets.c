/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash table with chains, and a list in the order of use. The hash is seeded, so that nobody outside can
 * aim at one chain.
 *
 * The arithmetic is the generic cell rate algorithm. `empty_at` is when the bucket's debts are paid; a
 * token moves it on by the time that one takes to come. There is a token as long as it lies less than
 * the time of burst - 1 tokens ahead:
 *
 *      now ──────────── empty_at - (burst - 1) * gap ── empty_at
 *       └── taken ──────┘ wait until here
 */
#include "buckets.h"

#include "../common/hash.h"
#include <pthread.h>
#include <string.h>

/* Nanoseconds in parts of 2^-32. */
__extension__ typedef __int128 fixed;
#define ONE_NS ((fixed)1 << 32)

struct bucket {
    struct bucket *chain;
    struct bucket *newer, *older;
    fixed empty_at;
    uint64_t hash;
    size_t key_len;
    char key[];
};

struct buckets {
    pthread_mutex_t lock;
    void *(*alloc)(size_t size);
    void (*free)(void *take_p);
    fixed gap;   /* from one token to the next */
    fixed ahead; /* of burst - 1 tokens */
    uint64_t seed, n_forgotten;
    uint32_t n_keys, max_keys;
    size_t mask;
    struct bucket *newest, *oldest;
    struct bucket *table[];
};

struct buckets *buckets_new(const struct weir_host *h, const struct buckets_config *config)
{
    size_t n = 1;
    while (n < config->keys)
        n *= 2;
    struct buckets *b = h->alloc(sizeof(*b) + n * sizeof(b->table[0]));
    if (b == NULL)
        return NULL;
    pthread_mutex_init(&b->lock, NULL);
    b->alloc = h->alloc;
    b->free = h->free;
    b->gap = (fixed)((long double)WEIR_NS_PER_S / config->rate * (long double)ONE_NS + 0.5L);
    b->ahead = b->gap * (config->burst - 1);
    b->seed = h->random(h);
    b->max_keys = config->keys;
    b->mask = n - 1;
    return b;
}

/* ---- The table, under the lock ---- */

static void unlink_bucket(struct buckets *b, struct bucket *k)
{
    if (k->newer != NULL)
        k->newer->older = k->older;
    else
        b->newest = k->older;
    if (k->older != NULL)
        k->older->newer = k->newer;
    else
        b->oldest = k->newer;
}

static void link_newest(struct buckets *b, struct bucket *k)
{
    k->newer = NULL;
    k->older = b->newest;
    if (b->newest != NULL)
        b->newest->newer = k;
    else
        b->oldest = k;
    b->newest = k;
}

static struct bucket *find(const struct buckets *b, struct weir_str key, uint64_t hash)
{
    struct bucket *k = b->table[hash & b->mask];
    while (k != NULL && (k->hash != hash || k->key_len != key.len ||
                         (key.len != 0 && memcmp(k->key, key.ptr, key.len) != 0)))
        k = k->chain;
    return k;
}

static void drop_oldest(struct buckets *b)
{
    struct bucket *k = b->oldest, **at = &b->table[k->hash & b->mask];
    while (*at != k)
        at = &(*at)->chain;
    *at = k->chain;
    unlink_bucket(b, k);
    b->n_keys--;
    b->free(k);
}

/* A full one, which has never been used. NULL when memory is used up. */
static struct bucket *add(struct buckets *b, struct weir_str key, uint64_t hash, fixed now)
{
    struct bucket *k = b->alloc(sizeof(*k) + key.len);
    if (k == NULL)
        return NULL;
    if (b->n_keys == b->max_keys) {
        b->n_forgotten += b->oldest->empty_at > now;
        drop_oldest(b);
    }
    k->empty_at = now;
    k->hash = hash;
    k->key_len = key.len;
    if (key.len != 0)
        memcpy(k->key, key.ptr, key.len);
    k->chain = b->table[hash & b->mask];
    b->table[hash & b->mask] = k;
    link_newest(b, k);
    b->n_keys++;
    return k;
}

void buckets_free(struct buckets *take_buckets)
{
    if (take_buckets == NULL)
        return;
    while (take_buckets->oldest != NULL)
        drop_oldest(take_buckets);
    pthread_mutex_destroy(&take_buckets->lock);
    take_buckets->free(take_buckets);
}

/* ---- Tokens ---- */

/* Rounded up, so that nobody looks too early. */
static int64_t to_ns(fixed t)
{
    fixed ns = (t + ONE_NS - 1) / ONE_NS;
    return ns > INT64_MAX ? INT64_MAX : (int64_t)ns;
}

static enum bucket_result take(struct buckets *b, struct weir_str key, int64_t now_ns,
                               int64_t late_ns, int64_t *ret_when_ns)
{
    fixed now = now_ns * ONE_NS, full = now - late_ns * ONE_NS;
    uint64_t hash = hash_bytes(key.ptr, key.len, b->seed);
    struct bucket *k = find(b, key, hash);
    if (k == NULL)
        k = add(b, key, hash, now);
    if (k == NULL)
        return BUCKET_NO_MEMORY;
    if (b->newest != k) {
        unlink_bucket(b, k);
        link_newest(b, k);
    }
    if (k->empty_at < full)
        k->empty_at = full;
    if (now < k->empty_at - b->ahead) {
        *ret_when_ns = to_ns(k->empty_at - b->ahead);
        return BUCKET_EMPTY;
    }
    k->empty_at += b->gap;
    return BUCKET_TAKEN;
}

enum bucket_result buckets_take(struct buckets *b, struct weir_str key, int64_t now_ns,
                                int64_t late_ns, int64_t *ret_when_ns)
{
    pthread_mutex_lock(&b->lock);
    enum bucket_result result = take(b, key, now_ns, late_ns, ret_when_ns);
    pthread_mutex_unlock(&b->lock);
    return result;
}

void buckets_report(struct buckets *b, uint32_t *ret_keys, uint64_t *ret_forgotten)
{
    pthread_mutex_lock(&b->lock);
    *ret_keys = b->n_keys;
    *ret_forgotten = b->n_forgotten;
    b->n_forgotten = 0;
    pthread_mutex_unlock(&b->lock);
}
