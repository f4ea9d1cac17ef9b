/* SPDX-License-Identifier: Apache-2.0
 *
 * dedupe/keys.h: the keys of events that are on their way or have ended, for all lanes of a component.
 *
 *   new ──▶ BUSY ──ended well──▶ SEEN, until ttl or eviction      (kept in memory)
 *             │        └───────▶ WRITING ──▶ gone                 (a store outside keeps it)
 *             └────failed──────▶ the next duplicate is the first, or gone
 *
 * Duplicates of a BUSY key stand in its list and wait. Bounded in keys and bytes: a SEEN key goes when
 * room is needed, the one that was not met for longest first; a BUSY one stays, but when BUSY keys alone use
 * up the room, the lanes wait (keys_full).
 *
 * Every call but new and free is made between keys_lock and keys_unlock.
 */
#ifndef DEDUPE_KEYS_H
#define DEDUPE_KEYS_H

#include <weir/plugin.h>

struct lane;

enum verdict { VERDICT_DUPLICATE, VERDICT_PASS, VERDICT_REFUSED };

/* A duplicate that waits for its first, then for its lane. */
struct waiter {
    struct waiter *next;
    struct lane *lane; /* that holds it */
    struct weir_held *held;
    struct key *key;
    size_t bytes;
    enum verdict verdict; /* once it waits for its lane */
};

struct waiters {
    struct waiter *first, *last;
};

enum key_state { KEY_BUSY, KEY_WRITING, KEY_SEEN };

struct key {
    struct key *chain;
    uint64_t hash;
    union {
        struct waiters waiters; /* BUSY */
        struct {
            struct key *newer, *older; /* SEEN: in the order of use */
        };
    };
    int64_t end_ns; /* SEEN */
    uint32_t len;
    enum key_state state;
    char text[];
};

struct keys_config {
    uint64_t entries;
    size_t bytes;
    int64_t ttl_ns;
    uint32_t held; /* duplicates that may wait, about */
};

/* What all lanes share. Owned by keys.c but for the lanes' own part. */
struct keys;

/* NULL when memory is used up. Only the host's alloc and free are kept. */
struct keys *keys_new(const struct weir_host *h, const struct keys_config *config);
/* Frees all keys and waiters; what the waiters held is the host's. NULL is allowed. */
void keys_free(struct keys *take_keys);

void keys_lock(struct keys *k);
void keys_unlock(struct keys *k);

uint64_t keys_hash(const struct keys *k, struct weir_str text);

/* Keys with these hashes will be met next, and soon behind it: what that will look at is fetched. */
void keys_fetch(const struct keys *k, uint64_t next, uint64_t soon);

enum keys_result {
    KEYS_NEW,       /* BUSY now: the caller's event is its first */
    KEYS_BUSY,      /* its first is on its way */
    KEYS_DUPLICATE, /* it has ended well */
    KEYS_NO_MEMORY
};

/* Looks the key up and adds it where it is not known, or not any more. ret_key: not of NO_MEMORY. */
enum keys_result keys_meet(struct keys *k, struct weir_str text, uint64_t hash, int64_t now_ns,
                           struct key **ret_key);
/* A BUSY or WRITING key, without waiters: is SEEN until now + ttl; is WRITING; is forgotten. */
void keys_see(struct keys *k, struct key *key, int64_t now_ns);
void keys_write(struct keys *k, struct key *key);
void keys_forget(struct keys *k, struct key *take_key);
/* Forgets SEEN keys whose time is over, some at a time: true where there are more. */
bool keys_expire(struct keys *k, int64_t now_ns);

/* Adds a waiter to a BUSY key's list, or ends its waiting. */
void keys_hold(struct keys *k, struct waiter *w);
void keys_release(struct keys *k, struct waiter *take_w);
void waiters_push(struct waiters *list, struct waiter *w);
struct waiter *waiters_pop(struct waiters *list); /* NULL where it is empty */

/* BUSY keys and waiters have used up their room: nothing more may come. */
bool keys_full(const struct keys *k);

struct keys_report {
    uint64_t n_keys, n_bytes;
    uint64_t n_evicted; /* before their time was over, since the last report */
};
struct keys_report keys_report(struct keys *k);

/* The lanes, for lane.c: those that wait for room are woken when there is some. */
struct lane **keys_lanes(struct keys *k);

#endif
