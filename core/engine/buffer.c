/* SPDX-License-Identifier: Apache-2.0
 *
 * The buffer in memory: a queue of batches bounded by the bytes of their unsettled events.
 */
#include <engine/buffer.h>

#include <base/mem.h>

#include <pthread.h>

struct memory_buffer {
    struct wr_buffer base; /* first */
    pthread_mutex_t mutex;
    struct wr_entry *first, *last;
    struct wr_waiter *waiters, *last_waiter;
};

static size_t batch_cost(const struct wr_batch *b)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < b->pub.n_events; i++)
        bytes += wr_event_cost(&wr_batch_events(b)[i]);
    return bytes;
}

/* What the batch keeps alive beyond its events' own bytes. Its bodies may still grow by other branches
 * of the same lane, which is the thread that pushes. */
static size_t batch_pinned(const struct wr_batch *b, size_t cost)
{
    size_t footprint = b->events_bytes;
    for (uint32_t i = 0; i < b->n_bodies; i++)
        footprint += wr_body_footprint(b->bodies[i]);
    return footprint > cost ? footprint - cost : 0;
}

size_t wr_batch_memory(const struct wr_batch *b)
{
    size_t cost = batch_cost(b);
    return cost + batch_pinned(b, cost);
}

static void wait_for_room(struct memory_buffer *m, struct wr_waiter *w)
{
    if (w->queued)
        return;
    w->queued = true;
    w->next = NULL;
    if (m->waiters == NULL)
        m->waiters = w;
    else
        m->last_waiter->next = w;
    m->last_waiter = w;
}

/* A waiter that got its room without being called. */
static void wait_no_more(struct memory_buffer *m, struct wr_waiter *w)
{
    if (!w->queued)
        return;
    w->queued = false;
    struct wr_waiter **at = &m->waiters;
    m->last_waiter = NULL;
    while (*at != NULL) {
        if (*at == w)
            *at = w->next;
        else
            at = &(m->last_waiter = *at)->next;
    }
    atomic_store(&m->base.wanted, m->waiters != NULL);
}

static void memory_forget(struct wr_buffer *buf, struct wr_waiter *w)
{
    struct memory_buffer *m = (struct memory_buffer *)(void *)buf;
    pthread_mutex_lock(&m->mutex);
    wait_no_more(m, w);
    pthread_mutex_unlock(&m->mutex);
}

static bool memory_push(struct wr_buffer *buf, struct wr_batch *take_b, int64_t now,
                        struct wr_waiter *w)
{
    struct memory_buffer *m = (struct memory_buffer *)(void *)buf;
    size_t cost = batch_cost(take_b), pinned = batch_pinned(take_b, cost);
    struct wr_entry *entry = wr_alloc(sizeof(*entry));
    pthread_mutex_lock(&m->mutex);
    size_t bytes = atomic_load_explicit(&buf->bytes, memory_order_relaxed);
    bool fits = entry != NULL && (bytes == 0 || bytes + cost + pinned <= buf->cap_bytes);
    if (!fits) {
        wait_for_room(m, w);
        bool first = atomic_exchange(&buf->wanted, 1) == 0;
        pthread_mutex_unlock(&m->mutex);
        wr_free(entry);
        if (first)
            buf->filled(buf->arg);
        return false;
    }
    wait_no_more(m, w);
    entry->buffer = buf;
    entry->batch = take_b;
    entry->pushed_ns = now;
    entry->pinned = pinned;
    atomic_init(&entry->n_left, take_b->pub.n_events);
    bool was_empty = m->first == NULL;
    if (was_empty)
        m->first = entry;
    else
        m->last->next = entry;
    m->last = entry;
    atomic_store_explicit(&buf->bytes, bytes + cost + pinned, memory_order_relaxed);
    atomic_fetch_add_explicit(&buf->events, take_b->pub.n_events, memory_order_relaxed);
    pthread_mutex_unlock(&m->mutex);
    if (was_empty && w->tells)
        atomic_store(&buf->untold, 1);
    else if (was_empty)
        buf->filled(buf->arg);
    return true;
}

static struct wr_entry *memory_take(struct wr_buffer *buf)
{
    struct memory_buffer *m = (struct memory_buffer *)(void *)buf;
    pthread_mutex_lock(&m->mutex);
    struct wr_entry *entry = m->first;
    if (entry != NULL)
        m->first = entry->next;
    pthread_mutex_unlock(&m->mutex);
    return entry;
}

static void entry_free(struct wr_entry *take_entry)
{
    wr_batch_free(take_entry->batch);
    wr_free(take_entry);
}

/* All waiters look again: those that find no room come back. A quarter of the room must be free, so
 * that they do not wake for every event. */
static struct wr_waiter *waiters_with_room(struct memory_buffer *m, size_t bytes)
{
    struct wr_waiter *waiters = m->waiters;
    if (waiters == NULL || (bytes != 0 && bytes > m->base.cap_bytes - m->base.cap_bytes / 4))
        return NULL;
    m->waiters = m->last_waiter = NULL;
    atomic_store(&m->base.wanted, 0);
    return waiters;
}

static void memory_settle(struct wr_buffer *buf, struct wr_entry *entry, uint32_t n, size_t bytes)
{
    struct memory_buffer *m = (struct memory_buffer *)(void *)buf;
    size_t pinned = entry->pinned;
    if (atomic_fetch_sub_explicit(&entry->n_left, n, memory_order_acq_rel) == n) {
        bytes += pinned;
        entry_free(entry);
    }
    pthread_mutex_lock(&m->mutex);
    size_t left = atomic_load_explicit(&buf->bytes, memory_order_relaxed) - bytes;
    atomic_store_explicit(&buf->bytes, left, memory_order_relaxed);
    atomic_fetch_sub_explicit(&buf->events, n, memory_order_relaxed);
    for (struct wr_waiter *w = waiters_with_room(m, left), *next; w != NULL; w = next) {
        next = w->next;
        w->queued = false;
        w->wake(w->arg); /* under the lock: w is its owner's again afterwards */
    }
    pthread_mutex_unlock(&m->mutex);
}

static void memory_free(struct wr_buffer *take_buf)
{
    struct memory_buffer *m = (struct memory_buffer *)(void *)take_buf;
    for (struct wr_entry *e = m->first, *next; e != NULL; e = next) {
        next = e->next;
        entry_free(e);
    }
    pthread_mutex_destroy(&m->mutex);
    wr_free(m);
}

struct wr_buffer *wr_buffer_memory(size_t cap_bytes, void (*filled)(void *arg), void *arg)
{
    static const struct wr_buffer_ops ops = {.push = memory_push, .forget = memory_forget,
                                             .take = memory_take, .settle = memory_settle,
                                             .free = memory_free};
    struct memory_buffer *m = wr_xalloc(sizeof(*m));
    m->base.ops = &ops;
    m->base.filled = filled;
    m->base.arg = arg;
    m->base.cap_bytes = cap_bytes;
    pthread_mutex_init(&m->mutex, NULL);
    return &m->base;
}
