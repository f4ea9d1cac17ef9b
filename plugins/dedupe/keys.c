/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash table with chains, which doubles as it fills; SEEN keys stand in a list in the order of use. A
 * key is one allocation with its text behind it, and is known by all of it, never by a hash alone: a
 * collision would lose an event. The hash is seeded, so that nobody outside can aim at one chain.
 */
#include "keys.h"

#include "../common/hash.h"
#include <pthread.h>
#include <string.h>

#define TABLE_MIN 1024u
#define HELD_BYTES_MAX ((size_t)64 << 20) /* of duplicates that wait; the host gives up at 256 MiB */
#define EXPIRE_MAX 1000u                  /* at once: others wait for the lock */
#define OVERHEAD 32u                      /* of a key: its place in the table, and the allocator's */

struct keys {
    pthread_mutex_t lock;
    void *(*alloc)(size_t size);
    void (*free)(void *take_p);
    struct keys_config config;
    uint64_t seed;
    struct key **table;
    size_t mask;
    struct key *newest, *oldest; /* SEEN */
    uint64_t n_keys, n_busy, n_evicted;
    size_t n_bytes, busy_bytes; /* of all; of those that are not SEEN */
    uint32_t n_held;
    size_t held_bytes;
    struct lane *lanes;
};

/* ---- Life ---- */

struct keys *keys_new(const struct weir_host *h, const struct keys_config *config)
{
    struct keys *k = h->alloc(sizeof(*k));
    struct key **table = k != NULL ? h->alloc(TABLE_MIN * sizeof(struct key *)) : NULL;
    if (table == NULL) {
        h->free(k);
        return NULL;
    }
    pthread_mutex_init(&k->lock, NULL);
    k->alloc = h->alloc;
    k->free = h->free;
    k->config = *config;
    k->seed = h->random(h);
    k->table = table;
    k->mask = TABLE_MIN - 1;
    return k;
}

static void free_key(struct keys *k, struct key *take_key)
{
    struct waiter *w;
    while (take_key->state == KEY_BUSY && (w = waiters_pop(&take_key->waiters)) != NULL)
        k->free(w);
    k->free(take_key);
}

void keys_free(struct keys *take_keys)
{
    struct keys *k = take_keys;
    if (k == NULL)
        return;
    for (size_t i = 0; i <= k->mask; i++)
        for (struct key *key = k->table[i], *next; key != NULL; key = next) {
            next = key->chain;
            free_key(k, key);
        }
    pthread_mutex_destroy(&k->lock);
    k->free(k->table);
    k->free(k);
}

void keys_lock(struct keys *k)
{
    pthread_mutex_lock(&k->lock);
}

void keys_unlock(struct keys *k)
{
    pthread_mutex_unlock(&k->lock);
}

struct lane **keys_lanes(struct keys *k)
{
    return &k->lanes;
}

/* ---- The table ---- */

uint64_t keys_hash(const struct keys *k, struct weir_str text)
{
    return hash_bytes(text.ptr, text.len, k->seed);
}

static size_t cost(const struct key *key)
{
    return sizeof(*key) + key->len + OVERHEAD;
}

/* Without memory the chains get longer. */
static void grow(struct keys *k)
{
    size_t n = 2 * (k->mask + 1);
    struct key **table = k->alloc(n * sizeof(struct key *));
    if (table == NULL)
        return;
    for (size_t i = 0; i <= k->mask; i++)
        for (struct key *key = k->table[i], *next; key != NULL; key = next) {
            next = key->chain;
            key->chain = table[key->hash & (n - 1)];
            table[key->hash & (n - 1)] = key;
        }
    k->free(k->table);
    k->table = table;
    k->mask = n - 1;
}

/* In a large table each look is at memory that is in no cache. */
void keys_fetch(const struct keys *k, uint64_t next, uint64_t soon)
{
    __builtin_prefetch(k->table[next & k->mask]);
    __builtin_prefetch(&k->table[soon & k->mask]);
}

static struct key *find(const struct keys *k, struct weir_str text, uint64_t hash)
{
    struct key *key = k->table[hash & k->mask];
    while (key != NULL && (key->hash != hash || key->len != text.len ||
                           memcmp(key->text, text.ptr, text.len) != 0))
        key = key->chain;
    return key;
}

static void unlink_seen(struct keys *k, struct key *key)
{
    if (key->newer != NULL)
        key->newer->older = key->older;
    else
        k->newest = key->older;
    if (key->older != NULL)
        key->older->newer = key->newer;
    else
        k->oldest = key->newer;
}

static void link_newest(struct keys *k, struct key *key)
{
    key->newer = NULL;
    key->older = k->newest;
    if (k->newest != NULL)
        k->newest->newer = key;
    else
        k->oldest = key;
    k->newest = key;
}

/* It is not in the list of those SEEN. */
static void remove_key(struct keys *k, struct key *take_key)
{
    struct key **at = &k->table[take_key->hash & k->mask];
    while (*at != take_key)
        at = &(*at)->chain;
    *at = take_key->chain;
    k->n_keys--;
    k->n_bytes -= cost(take_key);
    k->free(take_key);
}

static void drop_oldest(struct keys *k)
{
    struct key *key = k->oldest;
    unlink_seen(k, key);
    remove_key(k, key);
}

/* Up to n whose time is over. */
static bool expire(struct keys *k, int64_t now_ns, uint32_t n)
{
    for (; k->oldest != NULL && k->oldest->end_ns <= now_ns; n--) {
        if (n == 0)
            return true;
        drop_oldest(k);
    }
    return false;
}

bool keys_expire(struct keys *k, int64_t now_ns)
{
    return expire(k, now_ns, EXPIRE_MAX);
}

/* Keys end as fast as others come. */
static void make_room(struct keys *k, int64_t now_ns)
{
    (void)expire(k, now_ns, 2);
    while (k->oldest != NULL && (k->n_keys > k->config.entries || k->n_bytes > k->config.bytes)) {
        k->n_evicted += k->oldest->end_ns > now_ns;
        drop_oldest(k);
    }
}

/* ---- States ---- */

static void be_busy(struct keys *k, struct key *key)
{
    key->state = KEY_BUSY;
    key->waiters = (struct waiters){NULL, NULL};
    k->n_busy++;
    k->busy_bytes += cost(key);
}

static void be_busy_no_more(struct keys *k, const struct key *key)
{
    k->n_busy--;
    k->busy_bytes -= cost(key);
}

static struct key *add(struct keys *k, struct weir_str text, uint64_t hash)
{
    struct key *key = k->alloc(sizeof(*key) + text.len);
    if (key == NULL)
        return NULL;
    if (k->n_keys > k->mask)
        grow(k);
    key->hash = hash;
    key->len = (uint32_t)text.len;
    memcpy(key->text, text.ptr, text.len);
    key->chain = k->table[hash & k->mask];
    k->table[hash & k->mask] = key;
    k->n_keys++;
    k->n_bytes += cost(key);
    return key;
}

enum keys_result keys_meet(struct keys *k, struct weir_str text, uint64_t hash, int64_t now_ns,
                           struct key **ret_key)
{
    struct key *key = find(k, text, hash);
    if (key != NULL && key->state != KEY_SEEN) {
        *ret_key = key;
        return key->state == KEY_BUSY ? KEYS_BUSY : KEYS_DUPLICATE;
    }
    if (key != NULL) {
        *ret_key = key;
        unlink_seen(k, key);
        if (key->end_ns > now_ns) {
            link_newest(k, key);
            return KEYS_DUPLICATE;
        }
    } else if ((key = add(k, text, hash)) == NULL) {
        return KEYS_NO_MEMORY;
    }
    *ret_key = key;
    be_busy(k, key);
    make_room(k, now_ns);
    return KEYS_NEW;
}

void keys_see(struct keys *k, struct key *key, int64_t now_ns)
{
    be_busy_no_more(k, key);
    key->state = KEY_SEEN;
    key->end_ns = k->config.ttl_ns > INT64_MAX - now_ns ? INT64_MAX : now_ns + k->config.ttl_ns;
    link_newest(k, key);
    make_room(k, now_ns);
}

void keys_write(struct keys *k, struct key *key)
{
    (void)k;
    key->state = KEY_WRITING;
}

void keys_forget(struct keys *k, struct key *take_key)
{
    be_busy_no_more(k, take_key);
    remove_key(k, take_key);
}

/* ---- Waiters ---- */

void waiters_push(struct waiters *list, struct waiter *w)
{
    w->next = NULL;
    if (list->last != NULL)
        list->last->next = w;
    else
        list->first = w;
    list->last = w;
}

struct waiter *waiters_pop(struct waiters *list)
{
    struct waiter *w = list->first;
    if (w == NULL)
        return NULL;
    list->first = w->next;
    if (list->first == NULL)
        list->last = NULL;
    return w;
}

void keys_hold(struct keys *k, struct waiter *w)
{
    k->n_held++;
    k->held_bytes += w->bytes;
    waiters_push(&w->key->waiters, w);
}

void keys_release(struct keys *k, struct waiter *take_w)
{
    k->n_held--;
    k->held_bytes -= take_w->bytes;
    k->free(take_w);
}

bool keys_full(const struct keys *k)
{
    return k->n_held >= k->config.held || k->held_bytes >= HELD_BYTES_MAX ||
           k->n_busy >= k->config.entries || k->busy_bytes >= k->config.bytes;
}

struct keys_report keys_report(struct keys *k)
{
    struct keys_report report = {k->n_keys, k->n_bytes, k->n_evicted};
    k->n_evicted = 0;
    return report;
}
