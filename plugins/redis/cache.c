/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash table with chains, and a list in the order of entry, newest first. Using an entry only marks
 * it; when room is needed the oldest goes, but one that is marked is spared once and becomes the
 * newest: nearly the order of use, without touching the neighbors at each use.
 *
 * The table is allocated once, for as many entries as there may be; an entry is one allocation with
 * its key behind it. The hash is seeded, so that nobody outside can aim at one chain.
 */
#include "cache.h"

#include "../common/hash.h"
#include <pthread.h>
#include <string.h>

struct entry {
    struct entry *chain;
    struct entry *newer, *older;
    struct blob *blob; /* NULL: known to be missing */
    int64_t end_ns;
    uint64_t hash;
    size_t key_len;
    bool used; /* since it became the newest */
    char key[];
};

struct cache {
    pthread_mutex_t lock;
    void *(*alloc)(size_t size);
    void (*free)(void *take_p);
    struct cache_limits limits;
    uint64_t seed;
    uint32_t n_entries;
    size_t n_bytes;
    size_t mask;
    struct entry *newest, *oldest;
    struct entry *table[];
};

struct blob *blob_new(const struct weir_host *h, struct weir_str bytes)
{
    struct blob *blob = h->alloc(sizeof(*blob) + bytes.len);
    if (blob == NULL)
        return NULL;
    atomic_init(&blob->refs, 1);
    blob->free = h->free;
    blob->len = bytes.len;
    if (bytes.len > 0)
        memcpy(blob->data, bytes.ptr, bytes.len);
    return blob;
}

void blob_ref(struct blob *blob)
{
    atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
}

void blob_unref(struct blob *take_blob)
{
    if (take_blob == NULL ||
        atomic_fetch_sub_explicit(&take_blob->refs, 1, memory_order_acq_rel) != 1)
        return;
    take_blob->free(take_blob);
}

struct cache *cache_new(const struct weir_host *h, struct cache_limits limits, uint64_t seed)
{
    size_t n = 16;
    while (n < limits.entries)
        n *= 2;
    struct cache *c = h->alloc(sizeof(*c) + sizeof(c->table[0]) * n);
    if (c == NULL)
        return NULL;
    pthread_mutex_init(&c->lock, NULL);
    c->alloc = h->alloc;
    c->free = h->free;
    c->limits = limits;
    c->seed = seed;
    c->mask = n - 1;
    return c;
}

static size_t cost(const struct entry *e)
{
    return sizeof(*e) + e->key_len + (e->blob == NULL ? 0 : sizeof(*e->blob) + e->blob->len);
}

static void unlink_entry(struct cache *c, struct entry *e)
{
    if (e->newer != NULL)
        e->newer->older = e->older;
    else
        c->newest = e->older;
    if (e->older != NULL)
        e->older->newer = e->newer;
    else
        c->oldest = e->newer;
}

static void link_newest(struct cache *c, struct entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    if (c->newest != NULL)
        c->newest->newer = e;
    else
        c->oldest = e;
    c->newest = e;
}

static struct entry **find(struct cache *c, struct weir_str key, uint64_t hash)
{
    struct entry **at = &c->table[hash & c->mask];
    while (*at != NULL && ((*at)->hash != hash || (*at)->key_len != key.len ||
                           memcmp((*at)->key, key.ptr, key.len) != 0))
        at = &(*at)->chain;
    return at;
}

static void drop(struct cache *c, struct entry **at)
{
    struct entry *e = *at;
    *at = e->chain;
    unlink_entry(c, e);
    c->n_entries--;
    c->n_bytes -= cost(e);
    blob_unref(e->blob);
    c->free(e);
}

static void drop_oldest(struct cache *c)
{
    struct entry *e = c->oldest;
    for (; e->used; e = c->oldest) {
        e->used = false;
        unlink_entry(c, e);
        link_newest(c, e);
    }
    drop(c, find(c, weir_str_n(e->key, e->key_len), e->hash));
}

void cache_free(struct cache *take_cache)
{
    if (take_cache == NULL)
        return;
    while (take_cache->oldest != NULL)
        drop_oldest(take_cache);
    pthread_mutex_destroy(&take_cache->lock);
    take_cache->free(take_cache);
}

void cache_lock(struct cache *c)
{
    pthread_mutex_lock(&c->lock);
}

void cache_unlock(struct cache *c)
{
    pthread_mutex_unlock(&c->lock);
}

enum cache_result cache_get(struct cache *c, struct weir_str key, int64_t now_ns,
                            struct blob **ret_blob)
{
    if (c->n_entries == 0)
        return CACHE_MISS;
    struct entry **at = find(c, key, hash_bytes(key.ptr, key.len, c->seed));
    struct entry *e = *at;
    if (e == NULL)
        return CACHE_MISS;
    if (e->end_ns <= now_ns) {
        drop(c, at);
        return CACHE_MISS;
    }
    e->used = true;
    if (e->blob == NULL)
        return CACHE_KNOWN_MISSING;
    blob_ref(e->blob);
    *ret_blob = e->blob;
    return CACHE_FOUND;
}

void cache_put(struct cache *c, struct weir_str key, struct blob *blob, int64_t end_ns)
{
    uint64_t hash = hash_bytes(key.ptr, key.len, c->seed);
    struct entry **at = find(c, key, hash);
    if (*at != NULL)
        drop(c, at);
    struct entry *e = c->limits.entries == 0 ? NULL : c->alloc(sizeof(*e) + key.len);
    if (e == NULL)
        return; /* a cache may forget */
    e->hash = hash;
    e->end_ns = end_ns;
    e->key_len = key.len;
    memcpy(e->key, key.ptr, key.len);
    e->blob = blob;
    if (cost(e) > c->limits.bytes) {
        c->free(e);
        return;
    }
    while (c->n_entries >= c->limits.entries || c->n_bytes + cost(e) > c->limits.bytes)
        drop_oldest(c);
    if (blob != NULL)
        blob_ref(blob);
    at = &c->table[hash & c->mask];
    e->chain = *at;
    *at = e;
    link_newest(c, e);
    c->n_entries++;
    c->n_bytes += cost(e);
}
