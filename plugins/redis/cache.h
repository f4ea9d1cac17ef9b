/* SPDX-License-Identifier: Apache-2.0
 *
 * A bounded cache of replies: by the bytes of a command, shared by the lanes of a component.
 *
 * Bounded in entries and in bytes; what was not used for long goes first; every entry has an end.
 */
#ifndef REDIS_CACHE_H
#define REDIS_CACHE_H

#include <stdatomic.h>
#include <weir/plugin.h>

/* The bytes of a reply, shared by the cache and the batches that use it. */
struct blob {
    atomic_uint refs;
    void (*free)(void *take_p);
    size_t len;
    char data[];
};

/* One reference, the caller's; NULL when memory is used up. */
struct blob *blob_new(const struct weir_host *h, struct weir_str bytes);
void blob_ref(struct blob *blob);
void blob_unref(struct blob *take_blob); /* NULL is allowed */

struct cache;

struct cache_limits {
    uint32_t entries; /* 0: nothing is kept */
    size_t bytes;
};

enum cache_result { CACHE_MISS, CACHE_FOUND, CACHE_KNOWN_MISSING };

/* NULL when memory is used up. Only the host's alloc and free are kept. */
struct cache *cache_new(const struct weir_host *h, struct cache_limits limits, uint64_t seed);
void cache_free(struct cache *take_cache);

/* Between these two come any number of cache_get and cache_put. Thread: any. */
void cache_lock(struct cache *c);
void cache_unlock(struct cache *c);

/* FOUND: *ret_blob is a reference of the caller's. */
enum cache_result cache_get(struct cache *c, struct weir_str key, int64_t now_ns,
                            struct blob **ret_blob);
/* Keeps a reply, or (blob NULL) that there is none, until end_ns. Takes a reference of its own. */
void cache_put(struct cache *c, struct weir_str key, struct blob *blob, int64_t end_ns);

#endif
