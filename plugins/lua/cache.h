/* SPDX-License-Identifier: Apache-2.0
 *
 * cache.h: weir.cache: what all lanes of one component remember, bounded in bytes.
 *
 * A hash table with a list by last use; the least used goes when the bound is reached. Thread: any,
 * one lock, held for one entry's copy at most.
 */
#ifndef LUA_CACHE_H
#define LUA_CACHE_H

#include <weir/host.h>

struct cache;

/* A value as its bytes and what they mean. */
enum cache_type { CACHE_BOOL = 1, CACHE_INT, CACHE_FLOAT, CACHE_STRING, CACHE_JSON };

struct cache_value {
    enum cache_type type;
    union {
        int64_t num; /* BOOL, INT */
        double real;
    } u;
    struct weir_str text; /* STRING, JSON */
};

struct cache *cache_new(const struct weir_host *h, int64_t max_bytes);
void cache_free(struct cache *take_c);

/* False where there is none, or it is too old. The text is copied into `a`; text.ptr NULL with type
 * STRING or JSON: it is longer than max, or memory is used up. */
bool cache_get(struct cache *c, struct weir_str key, int64_t now, struct weir_arena *a, size_t max,
               struct cache_value *ret);
/* until: monotonic ns, WEIR_NEVER for ever. False: it is larger than the whole cache, or memory is
 * used up; nothing has changed then. */
bool cache_set(struct cache *c, struct weir_str key, const struct cache_value *v, int64_t until);
/* Adds n to the integer there, or to 0, in one step; a new entry lives until `until`. False: it
 * is no integer, or there is no memory. */
bool cache_add(struct cache *c, struct weir_str key, int64_t n, int64_t now, int64_t until,
               int64_t *ret);
bool cache_remove(struct cache *c, struct weir_str key);
/* Bytes in use. */
size_t cache_used(struct cache *c);

#endif
