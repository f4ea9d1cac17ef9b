/* SPDX-License-Identifier: Apache-2.0
 *
 * The cache that the lanes of one component share; see cache.h.
 */
#include "cache.h"

#include "../common/hash.h"
#include <pthread.h>
#include <string.h>

#define ENTRY_COST 96 /* of an entry beside its bytes: itself, its allocation, its bucket */

struct entry {
    struct entry *next;          /* in its bucket */
    struct entry *newer, *older; /* by last use */
    uint64_t hash;
    int64_t until;
    struct cache_value v; /* text points behind the key */
    size_t key_len;
    char bytes[];
};

struct cache {
    pthread_mutex_t mutex;
    uint64_t seed;
    struct entry **buckets;
    size_t n_buckets; /* a power of 2 */
    size_t n_entries, used, max;
    struct entry *newest, *oldest;
    void *(*alloc)(size_t size);
    void (*free)(void *take_p);
    struct weir_str (*copy)(struct weir_arena *a, struct weir_str s);
};

struct cache *cache_new(const struct weir_host *h, int64_t max_bytes)
{
    struct cache *c = h->alloc(sizeof(*c));
    struct entry **buckets = h->alloc(64 * sizeof(struct entry *));
    if (c == NULL || buckets == NULL) {
        h->free(c);
        h->free(buckets);
        return NULL;
    }
    c->seed = h->random(h);
    c->buckets = buckets;
    c->n_buckets = 64;
    c->max = (size_t)max_bytes;
    c->alloc = h->alloc;
    c->free = h->free;
    c->copy = h->arena_copy;
    pthread_mutex_init(&c->mutex, NULL);
    return c;
}

void cache_free(struct cache *take_c)
{
    if (take_c == NULL)
        return;
    for (struct entry *e = take_c->newest, *next; e != NULL; e = next) {
        next = e->older;
        take_c->free(e);
    }
    pthread_mutex_destroy(&take_c->mutex);
    take_c->free(take_c->buckets);
    take_c->free(take_c);
}

static size_t cost_of(const struct entry *e)
{
    return ENTRY_COST + e->key_len + e->v.text.len;
}

/* ---- The list by last use ---- */

static void list_out(struct cache *c, struct entry *e)
{
    *(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
}

static void list_in(struct cache *c, struct entry *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e;
    c->newest = e;
}

/* ---- The table ---- */

static struct entry **place_of(struct cache *c, struct weir_str key, uint64_t hash)
{
    struct entry **at = &c->buckets[hash & (c->n_buckets - 1)];
    while (*at != NULL && ((*at)->hash != hash || (*at)->key_len != key.len ||
                           memcmp((*at)->bytes, key.ptr, key.len) != 0))
        at = &(*at)->next;
    return at;
}

static void take_out(struct cache *c, struct entry **at)
{
    struct entry *e = *at;
    *at = e->next;
    list_out(c, e);
    c->used -= cost_of(e);
    c->n_entries--;
    c->free(e);
}

static void evict(struct cache *c)
{
    while (c->used > c->max && c->oldest != NULL) {
        struct entry *e = c->oldest;
        take_out(c, place_of(c, weir_str_n(e->bytes, e->key_len), e->hash));
    }
}

/* Twice as many buckets; without memory the chains grow instead. */
static void grow(struct cache *c)
{
    size_t n = c->n_buckets * 2;
    struct entry **buckets = c->alloc(n * sizeof(struct entry *));
    if (buckets == NULL)
        return;
    for (struct entry *e = c->newest; e != NULL; e = e->older) {
        e->next = buckets[e->hash & (n - 1)];
        buckets[e->hash & (n - 1)] = e;
    }
    c->free(c->buckets);
    c->buckets = buckets;
    c->n_buckets = n;
}

/* The live entry of that key; one that is too old goes. */
static struct entry *find(struct cache *c, struct weir_str key, uint64_t hash, int64_t now)
{
    struct entry **at = place_of(c, key, hash);
    if (*at != NULL && (*at)->until <= now)
        take_out(c, at);
    else if (*at != NULL)
        return *at;
    return NULL;
}

static bool put(struct cache *c, struct weir_str key, uint64_t hash, const struct cache_value *v,
                int64_t until)
{
    struct entry *e = c->alloc(sizeof(*e) + key.len + v->text.len);
    if (e == NULL)
        return false;
    struct entry **at = place_of(c, key, hash);
    if (*at != NULL)
        take_out(c, at);
    if (c->n_entries >= c->n_buckets)
        grow(c);
    e->hash = hash;
    e->until = until;
    e->v = *v;
    e->key_len = key.len;
    e->v.text.ptr = e->bytes + key.len;
    memcpy(e->bytes, key.ptr, key.len);
    if (v->text.len != 0)
        memcpy(e->bytes + key.len, v->text.ptr, v->text.len);
    at = &c->buckets[hash & (c->n_buckets - 1)];
    e->next = *at;
    *at = e;
    list_in(c, e);
    c->n_entries++;
    c->used += cost_of(e);
    evict(c);
    return true;
}

/* ---- The calls ---- */

bool cache_get(struct cache *c, struct weir_str key, int64_t now, struct weir_arena *a, size_t max,
               struct cache_value *ret)
{
    uint64_t hash = hash_bytes(key.ptr, key.len, c->seed);
    pthread_mutex_lock(&c->mutex);
    struct entry *e = find(c, key, hash, now);
    if (e != NULL) {
        list_out(c, e);
        list_in(c, e);
        *ret = e->v;
        if (e->v.type >= CACHE_STRING)
            ret->text.ptr = e->v.text.len <= max ? c->copy(a, e->v.text).ptr : NULL;
    }
    pthread_mutex_unlock(&c->mutex);
    return e != NULL;
}

bool cache_set(struct cache *c, struct weir_str key, const struct cache_value *v, int64_t until)
{
    if (ENTRY_COST + key.len + v->text.len > c->max)
        return false;
    uint64_t hash = hash_bytes(key.ptr, key.len, c->seed);
    pthread_mutex_lock(&c->mutex);
    bool ok = put(c, key, hash, v, until);
    pthread_mutex_unlock(&c->mutex);
    return ok;
}

bool cache_add(struct cache *c, struct weir_str key, int64_t n, int64_t now, int64_t until,
               int64_t *ret)
{
    if (ENTRY_COST + key.len > c->max)
        return false;
    uint64_t hash = hash_bytes(key.ptr, key.len, c->seed);
    struct cache_value v = {.type = CACHE_INT, .u.num = n};
    pthread_mutex_lock(&c->mutex);
    struct entry *e = find(c, key, hash, now);
    bool ok = e == NULL ? put(c, key, hash, &v, until) : e->v.type == CACHE_INT;
    if (ok && e != NULL) {
        e->v.u.num = (int64_t)((uint64_t)e->v.u.num + (uint64_t)n);
        v.u.num = e->v.u.num;
        list_out(c, e);
        list_in(c, e);
    }
    pthread_mutex_unlock(&c->mutex);
    if (ok)
        *ret = v.u.num;
    return ok;
}

bool cache_remove(struct cache *c, struct weir_str key)
{
    uint64_t hash = hash_bytes(key.ptr, key.len, c->seed);
    pthread_mutex_lock(&c->mutex);
    struct entry **at = place_of(c, key, hash);
    bool there = *at != NULL;
    if (there)
        take_out(c, at);
    pthread_mutex_unlock(&c->mutex);
    return there;
}

size_t cache_used(struct cache *c)
{
    pthread_mutex_lock(&c->mutex);
    size_t used = c->used;
    pthread_mutex_unlock(&c->mutex);
    return used;
}
