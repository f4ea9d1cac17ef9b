/* SPDX-License-Identifier: Apache-2.0
 *
 * Contracts in queue.h.
 */
#include "queue.h"

bool queue_reserve(struct queue *q, const struct weir_host *h, uint32_t n)
{
    uint32_t cap = q->cap == 0 ? 64 : q->cap;
    if (n > UINT32_MAX / 4 || q->n > UINT32_MAX / 4)
        return false;
    while (cap < q->n + n)
        cap *= 2;
    if (cap == q->cap)
        return true;
    struct item *items = h->alloc(sizeof(*items) * cap);
    if (items == NULL)
        return false;
    for (uint32_t i = 0; i < q->n; i++)
        items[i] = q->items[(q->first + i) & (q->cap - 1)];
    if (q->items != NULL)
        h->free(q->items);
    q->items = items;
    q->first = 0;
    q->cap = cap;
    return true;
}

void queue_done(struct queue *q, const struct weir_host *h)
{
    if (q->items != NULL)
        h->free(q->items);
    *q = (struct queue){0};
}
