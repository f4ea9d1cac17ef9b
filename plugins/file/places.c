/* SPDX-License-Identifier: Apache-2.0
 *
 * The table of files and their positions; see places.h. A second run with the same state file is
 * refused by a lock beside it.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_NS (60 * WEIR_NS_PER_S)
#define PACK_S INT64_C(86400)
#define SAVE_NS WEIR_NS_PER_S

static uint64_t hash_of(const unsigned char *p, uint32_t len)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a: what is stored must stay what it is */
    for (uint32_t i = 0; i < len; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static char *copy_text(const struct places *p, const char *text, size_t len)
{
    char *copy = p->alloc(len + 1);
    if (copy != NULL)
        memcpy(copy, text, len);
    return copy;
}

struct place *place_add(struct places *p, const char *path, size_t len)
{
    struct place *at = p->alloc(sizeof(*at));
    char *copy = copy_text(p, path, len);
    if (at == NULL || copy == NULL) {
        p->free(at);
        p->free(copy);
        return NULL;
    }
    at->path = copy;
    at->done = -1;
    at->next = p->list;
    p->list = at;
    p->n++;
    p->changed = true;
    return at;
}

void places_save(struct places *p, const struct weir_host *h, bool now)
{
    if (p->path == NULL)
        return;
    pthread_mutex_lock(&p->lock);
    int64_t at_ns = h->now(h);
    int error = 0;
    if (p->n_held == 0 && p->changed && (now || at_ns - p->saved_ns >= SAVE_NS)) {
        error = state_write(p, h);
        p->changed = error != 0;
        p->saved_ns = at_ns;
    }
    pthread_mutex_unlock(&p->lock);
    if (error == 0)
        return;
    struct weir_kv kv[] = {weir_kv_text("state", p->path), weir_kv_text("reason", strerror(error))};
    h->log(h, WEIR_LOG_ERROR, "cannot keep the positions: a restart would read again", kv, 2);
}

/* ---- Opening and closing --------------------------------------------------------------------- */

static enum weir_status lock_state(struct places *p, const struct weir_host *h,
                                   struct weir_error *err)
{
    size_t len = strlen(p->path);
    char *name = p->alloc(len + sizeof(".lock"));
    if (name == NULL)
        return h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the positions");
    memcpy(name, p->path, len);
    memcpy(name + len, ".lock", sizeof(".lock"));
    p->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    int error = p->lock_fd < 0 ? errno : 0;
    p->free(name);
    if (error != 0)
        return h->error(
            err, WEIR_E_CONFIG, "state_unwritable",
            "cannot keep positions in \"%s\": cannot make \"%s.lock\": %s; check option "
            "`state` and its folder",
            p->path, p->path, strerror(error));
    if (flock(p->lock_fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return h->error( /* in a reload it may be the one in whose place this comes */
            err, WEIR_E_RETRY, "state_locked",
            "the positions in \"%s\" are in use by another source or another weir; give "
            "each its own `state`",
            p->path);
    return WEIR_OK;
}

static enum weir_status open_state(struct places *p, const struct weir_host *h,
                                   struct weir_str path, struct weir_error *err)
{
    p->path = copy_text(p, path.ptr, path.len);
    p->temp = p->alloc(path.len + sizeof(".new"));
    struct weir_arena *a = h->arena_new(h);
    enum weir_status st = WEIR_OK;
    if (p->path == NULL || p->temp == NULL || a == NULL) {
        st = h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the positions");
    } else {
        memcpy(p->temp, path.ptr, path.len);
        memcpy(p->temp + path.len, ".new", sizeof(".new"));
        st = lock_state(p, h, err);
        if (st == WEIR_OK)
            st = state_read(p, h, a, err);
        if (st == WEIR_OK) { /* what cannot be kept is to be known now */
            int error = p->known ? state_write(p, h) : state_test(p);
            if (error != 0)
                st = h->error(err, WEIR_E_CONFIG, "state_unwritable",
                              "cannot keep positions in \"%s\": %s; check option `state` and its "
                              "folder",
                              p->path, strerror(error));
        }
    }
    if (a != NULL)
        h->arena_free(a);
    return st;
}

static void places_free(struct places *p)
{
    for (struct place *at = p->list, *next; at != NULL; at = next) {
        next = at->next;
        p->free(at->path);
        p->free(at);
    }
    if (p->lock_fd >= 0)
        close(p->lock_fd);
    pthread_mutex_destroy(&p->lock);
    p->free(p->path);
    p->free(p->temp);
    p->free(p);
}

struct places *places_open(const struct weir_host *h, struct weir_str path, struct weir_error *err)
{
    struct places *p = h->alloc(sizeof(*p));
    if (p == NULL) {
        h->error(err, WEIR_E_NOMEM, "no_memory", "no memory for the positions");
        return NULL;
    }
    p->alloc = h->alloc;
    p->free = h->free;
    p->lock_fd = -1;
    pthread_mutex_init(&p->lock, NULL);
    if (path.len == 0 || open_state(p, h, path, err) == WEIR_OK)
        return p;
    places_free(p);
    return NULL;
}

void places_start_over(struct places *p)
{
    for (struct place *at = p->list; at != NULL; at = at->next)
        at->stale = true;
}

void places_hold(struct places *p, uint32_t n_lanes)
{
    if (!p->known)
        p->n_held = n_lanes;
}

void places_scanned(struct places *p)
{
    pthread_mutex_lock(&p->lock);
    p->n_held -= p->n_held > 0;
    p->changed = p->changed || !p->known; /* also where there was nothing */
    pthread_mutex_unlock(&p->lock);
}

void places_close(struct places *take_p)
{
    places_free(take_p);
}

bool places_known(const struct places *p)
{
    return p->known;
}

/* ---- Which file is which --------------------------------------------------------------------- */

/* An inode number is used again when its file is gone. */
static bool same_birth(const struct place *at, const struct looks *looks)
{
    return at->born_ns == 0 || looks->born_ns == 0 || at->born_ns == looks->born_ns;
}

static bool same_head(const struct place *at, const struct looks *looks)
{
    return at->head_len == 0 ||
           (at->head_len <= looks->head_len && at->head == hash_of(looks->head, at->head_len));
}

/* Learns what has been written to the head since. */
static void learn(struct places *p, struct place *at, const struct looks *looks)
{
    if (at->head_len == looks->head_len)
        return;
    at->head_len = looks->head_len;
    at->head = hash_of(looks->head, looks->head_len);
    p->changed = true;
}

static struct place *by_inode(const struct places *p, uint64_t dev, uint64_t ino)
{
    struct place *at = p->list;
    while (at != NULL && (at->ino != ino || at->dev != dev || at->gone))
        at = at->next;
    return at;
}

bool places_found(struct places *p, const struct weir_host *h, const struct looks *looks,
                  int64_t scan_ns)
{
    pthread_mutex_lock(&p->lock);
    struct place *at = by_inode(p, looks->dev, looks->ino);
    if (at != NULL && !same_birth(at, looks))
        at = NULL;
    if (at != NULL) {
        at->found_ns = scan_ns;
        at->seen_s = h->wall(h) / WEIR_NS_PER_S;
    }
    bool done = at != NULL && !at->stale && at->done >= 0 && at->done == looks->size;
    pthread_mutex_unlock(&p->lock);
    return !done;
}

/* Truncated a moment ago, and the other file is no older than that: so copies come. */
static bool is_copied(const struct place *at, const struct find *f)
{
    const struct looks *looks = f->looks;
    bool here = at->ino == looks->ino && at->dev == looks->dev;
    return !looks->unpacked && !at->unpacked && at->gone && !here && at->gone_ns != 0 &&
           f->scan_ns - at->gone_ns < COPY_NS && at->offset <= looks->size;
}

/* It was there not long ago, and now there is a gzip file that begins as it did, perhaps at the
 * same inode. */
static bool is_packed(const struct place *at, const struct find *f, int64_t now_s)
{
    return f->looks->unpacked && !at->unpacked && at->found_ns < f->scan_ns &&
           now_s - at->seen_s < PACK_S;
}

/* The place that this new file goes on with; *ret_busy: what it could be a copy of is still read,
 * or the copy still written. */
static struct place *by_head(const struct places *p, const struct find *f, int64_t now_s,
                             bool *ret_busy)
{
    struct place *found = NULL;
    *ret_busy = false;
    for (struct place *at = p->list; at != NULL && f->looks->head_len >= HEAD_MIN; at = at->next) {
        if (at->head_len < HEAD_MIN || at->unpacked || !same_head(at, f->looks))
            continue;
        enum tail tail = TAIL_LATER;
        if (!at->open) {
            bool candidate = at->tail_at != 0 && (is_copied(at, f) || is_packed(at, f, now_s));
            tail = candidate ? f->tail(f->arg, at) : TAIL_OTHER;
        }
        if (tail == TAIL_SAME)
            found = at;
        *ret_busy = *ret_busy || tail == TAIL_LATER;
    }
    return found;
}

static enum take open_place(struct places *p, struct place *at, const struct find *f,
                            enum take what, struct place **ret)
{
    at->dev = f->looks->dev;
    at->ino = f->looks->ino;
    at->born_ns = f->looks->born_ns;
    at->gone = false;
    at->gone_ns = 0;
    at->unpacked = f->looks->unpacked;
    at->open = true;
    at->done = -1;
    if (at->stale)
        at->offset = f->start;
    at->stale = false;
    at->found_ns = f->scan_ns;
    learn(p, at, f->looks);
    p->changed = true;
    *ret = at;
    return what;
}

/* The lock is held. */
static enum take take(struct places *p, const struct weir_host *h, const struct find *f,
                      struct place **ret)
{
    const struct looks *looks = f->looks;
    bool busy;
    struct place *at = by_inode(p, looks->dev, looks->ino);
    bool same = at != NULL && same_birth(at, looks);
    if (same && at->open)
        return TAKE_BUSY;
    if (same && same_head(at, looks) && (looks->unpacked || at->offset <= looks->size)) {
        at->found_ns = f->scan_ns;
        if (!at->stale && at->done >= 0 && at->done == looks->size)
            return TAKE_DONE;
        return open_place(p, at, f, TAKE_KNOWN, ret);
    }
    if (at != NULL) { /* other content at that inode */
        at->gone = true;
        at->gone_ns = f->scan_ns;
    }
    at = by_head(p, f, h->wall(h) / WEIR_NS_PER_S, &busy);
    if (at != NULL)
        return open_place(p, at, f, TAKE_KNOWN, ret);
    if (busy && f->wait)
        return TAKE_LATER;
    at = place_add(p, f->path, strlen(f->path));
    if (at == NULL)
        return TAKE_FAILED;
    at->offset = f->start;
    at->tag = h->random(h);
    at->seen_s = h->wall(h) / WEIR_NS_PER_S;
    return open_place(p, at, f, TAKE_NEW, ret);
}

enum take places_take(struct places *p, const struct weir_host *h, const struct find *f,
                      struct place **ret)
{
    pthread_mutex_lock(&p->lock);
    enum take result = take(p, h, f, ret);
    pthread_mutex_unlock(&p->lock);
    return result;
}

bool places_same(struct places *p, struct place *place, const struct looks *looks)
{
    pthread_mutex_lock(&p->lock);
    bool same = same_head(place, looks);
    if (same)
        learn(p, place, looks);
    pthread_mutex_unlock(&p->lock);
    return same;
}

void places_tail(struct places *p, struct place *place, int64_t at, const unsigned char *bytes,
                 uint32_t len)
{
    pthread_mutex_lock(&p->lock);
    place->tail_at = at;
    place->tail = hash_of(bytes, len);
    p->changed = true;
    pthread_mutex_unlock(&p->lock);
}

bool places_is_tail(const struct place *place, const unsigned char *bytes, uint32_t len)
{
    return place->tail == hash_of(bytes, len);
}

void places_commit(struct places *p, struct place *place, int64_t offset)
{
    pthread_mutex_lock(&p->lock);
    if (offset > place->offset) {
        place->offset = offset;
        p->changed = true;
    }
    pthread_mutex_unlock(&p->lock);
}

void places_done(struct places *p, struct place *place, int64_t size)
{
    pthread_mutex_lock(&p->lock);
    place->done = size;
    p->changed = true;
    pthread_mutex_unlock(&p->lock);
}

void places_gone(struct places *p, const struct weir_host *h, struct place *place)
{
    pthread_mutex_lock(&p->lock);
    place->gone = true;
    place->gone_ns = h->now(h);
    p->changed = true;
    pthread_mutex_unlock(&p->lock);
}

void places_release(struct places *p, struct place *take_place)
{
    pthread_mutex_lock(&p->lock);
    take_place->open = false;
    pthread_mutex_unlock(&p->lock);
}
