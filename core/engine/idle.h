/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/idle.h: how long a thread had nothing to do, for the gauge weir_utilization. One thread writes,
 * any may read, also in the middle of a long wait.
 */
#ifndef WR_ENGINE_IDLE_H
#define WR_ENGINE_IDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct wr_idle {
    _Atomic int64_t total; /* ns of waits that have ended */
    _Atomic int64_t since; /* when the running one began, 0 = none */
};

static inline void wr_idle_begin(struct wr_idle *idle, int64_t now)
{
    atomic_store_explicit(&idle->since, now, memory_order_relaxed);
}

/* counts: it was a wait; else the time was spent on work after all. */
static inline void wr_idle_end(struct wr_idle *idle, int64_t now, bool counts)
{
    int64_t since = atomic_load_explicit(&idle->since, memory_order_relaxed);
    if (counts && since != 0)
        atomic_fetch_add_explicit(&idle->total, now - since, memory_order_relaxed);
    atomic_store_explicit(&idle->since, 0, memory_order_relaxed);
}

static inline int64_t wr_idle_total(const struct wr_idle *idle, int64_t now)
{
    int64_t since = atomic_load_explicit(&idle->since, memory_order_relaxed);
    int64_t total = atomic_load_explicit(&idle->total, memory_order_relaxed);
    return total + (since != 0 && now > since ? now - since : 0);
}

#endif
