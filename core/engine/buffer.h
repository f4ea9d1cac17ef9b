/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/buffer.h: what stands between lanes and an outlet, and nowhere else.
 *
 * An entry is one pushed batch. Its room is taken until its events are settled, in any order, not until
 * they are taken: the events' own bytes one by one, and what else the batch keeps alive (few events of a
 * large body) with the last of them. An empty buffer takes any batch, however big.
 *
 * A buffer is a table of calls, so that one on disk can take the place of the one in memory. Such a
 * *durable* one settles the acks of what was pushed itself, on a thread of its own, once that is safe and not
 * before. What it gives out has acks of its own, as a source's: records are positions, and the watermark is
 * how far it may forget them, dead letters included. What failed stays, and the end does not empty it.
 */
#ifndef WR_ENGINE_BUFFER_H
#define WR_ENGINE_BUFFER_H

#include <model/batch.h>

#include <stdatomic.h>

struct wr_buffer;

struct wr_entry {
    struct wr_entry *next;
    struct wr_buffer *buffer;
    struct wr_batch *batch;
    int64_t pushed_ns;
    size_t pinned;           /* bytes charged besides its events' own: taken back with the last one */
    _Atomic uint32_t n_left; /* events that are not settled */
};

/* Somebody who waits for room. One push at a time each. */
struct wr_waiter {
    struct wr_waiter *next;
    bool queued;
    bool tells; /* it calls wr_buffer_tell itself, once for several pushes */
    void (*wake)(void *arg);
    void *arg;
};

struct wr_buffer_ops {
    /* Takes the frozen batch and returns true, or puts the waiter in the queue for room, and has the
     * first one that waits told by `filled`. [any] */
    bool (*push)(struct wr_buffer *buf, struct wr_batch *take_b, int64_t now, struct wr_waiter *w);
    /* The waiter does not wait for room any more, if it did. [any] */
    void (*forget)(struct wr_buffer *buf, struct wr_waiter *w);
    /* The oldest entry not taken yet, or NULL. [outlet] */
    struct wr_entry *(*take)(struct wr_buffer *buf);
    /* n events with these bytes in all have ended; the entry is gone with its last one. [outlet] */
    void (*settle)(struct wr_buffer *buf, struct wr_entry *entry, uint32_t n, size_t bytes);
    void (*free)(struct wr_buffer *take_buf);
    /* Of a durable one, else NULL: its thread begins. [control] */
    void (*start)(struct wr_buffer *buf);
    /* Of a durable one, else NULL: the deadline has come. What cannot be made durable now ends as failed. [any] */
    void (*give_up)(struct wr_buffer *buf);
    /* Of a durable one, else NULL: its thread ends, and nothing calls `filled` any more. [control] */
    void (*stop)(struct wr_buffer *buf);
};

struct wr_buffer {
    const struct wr_buffer_ops *ops;
    bool durable;
    bool drains;               /* durable, and the end empties it all the same */
    size_t max_event;          /* bytes of the largest event that it takes, 0 = any */
    void (*filled)(void *arg); /* something can be taken. [any] */
    void *arg;
    _Atomic int untold;        /* `filled` is owed by somebody who tells */
    _Atomic int wanted;        /* somebody waits for room: nothing comes that a write could wait for */
    _Atomic size_t bytes;
    _Atomic uint64_t events;
    size_t cap_bytes;
};

/* Memory that a frozen batch keeps alive, as a buffer charges it. [lane, of its own batch] */
size_t wr_batch_memory(const struct wr_batch *b);

struct wr_buffer *wr_buffer_memory(size_t cap_bytes, void (*filled)(void *arg), void *arg);

static inline bool wr_buffer_push(struct wr_buffer *buf, struct wr_batch *take_b, int64_t now,
                                  struct wr_waiter *w)
{
    return buf->ops->push(buf, take_b, now, w);
}

static inline void wr_buffer_forget(struct wr_buffer *buf, struct wr_waiter *w)
{
    buf->ops->forget(buf, w);
}

/* Says now that something can be taken, where a push has left that out. [any] */
static inline void wr_buffer_tell(struct wr_buffer *buf)
{
    if (atomic_load(&buf->untold) != 0 && atomic_exchange(&buf->untold, 0) != 0)
        buf->filled(buf->arg);
}

static inline struct wr_entry *wr_buffer_take(struct wr_buffer *buf)
{
    return buf->ops->take(buf);
}

/* The end leaves in it what is there. */
static inline bool wr_buffer_keeps(const struct wr_buffer *buf)
{
    return buf->durable && !buf->drains;
}

static inline void wr_buffer_settle(struct wr_entry *entry, uint32_t n, size_t bytes)
{
    entry->buffer->ops->settle(entry->buffer, entry, n, bytes);
}

#endif
