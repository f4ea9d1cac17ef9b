/* SPDX-License-Identifier: Apache-2.0
 *
 * base/count.h: a sum that many threads change all the time and few read. Each thread has a cache line of
 * its own (16 of them, so that threads beyond that share), and a reader adds them up.
 */
#ifndef WR_BASE_COUNT_H
#define WR_BASE_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

#define WR_COUNT_STRIPES 16u

struct wr_count {
    struct {
        _Alignas(64) _Atomic int64_t n;
    } stripes[WR_COUNT_STRIPES];
};

/* The calling thread's stripe. */
uint32_t wr_count_stripe(void);

/* Thread: any. */
static inline void wr_count_add(struct wr_count *c, int64_t n)
{
    atomic_fetch_add_explicit(&c->stripes[wr_count_stripe()].n, n, memory_order_relaxed);
}

/* Exact where nobody adds meanwhile. */
int64_t wr_count_sum(struct wr_count *c);

#endif
