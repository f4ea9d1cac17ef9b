/* SPDX-License-Identifier: Apache-2.0
 *
 * Events of the sink on their way, in order: a ring that grows.
 */
#ifndef REDIS_QUEUE_H
#define REDIS_QUEUE_H

#include "servers.h"

/* A write with events that have no result yet. */
struct op {
    struct weir_batch *batch; /* valid until its last result */
    uint64_t ticket;
    int64_t deadline_ns;
    uint32_t n_left;
};

/* One event of a write. */
struct item {
    struct op *op;
    struct server *target; /* of an ASK: where it goes next; else NULL */
    uint32_t index;        /* in the batch */
    uint8_t n_redirects;
    uint8_t first_part; /* of its commands those in front of it were done elsewhere */
    bool whole_script;  /* the server does not know the guard's script */
    bool asking;        /* ASKING went in front of each of its commands, with a reply of its own */
};

/* All-zero is empty. */
struct queue {
    struct item *items;
    uint32_t first, n, cap; /* cap is 0 or a power of two */
};

/* Room for n more; false when memory is used up. */
bool queue_reserve(struct queue *q, const struct weir_host *h, uint32_t n);
void queue_done(struct queue *q, const struct weir_host *h);

/* There is room. */
static inline void queue_push(struct queue *q, struct item item)
{
    q->items[(q->first + q->n++) & (q->cap - 1)] = item;
}

/* It is not empty. */
static inline struct item *queue_first(const struct queue *q)
{
    return &q->items[q->first];
}

/* It is not empty. */
static inline struct item queue_pop(struct queue *q)
{
    struct item item = q->items[q->first];
    q->first = (q->first + 1) & (q->cap - 1);
    q->n--;
    return item;
}

#endif
