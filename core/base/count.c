/* SPDX-License-Identifier: Apache-2.0
 *
 * Which stripe of a count is a thread's; see count.h.
 */
#include <base/count.h>

uint32_t wr_count_stripe(void)
{
    static _Atomic uint32_t n_threads;
    static _Thread_local uint32_t mine; /* its stripe + 1 */
    if (__builtin_expect(mine == 0, 0))
        mine = atomic_fetch_add_explicit(&n_threads, 1, memory_order_relaxed) % WR_COUNT_STRIPES + 1;
    return mine - 1;
}

int64_t wr_count_sum(struct wr_count *c)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < WR_COUNT_STRIPES; i++)
        sum += atomic_load_explicit(&c->stripes[i].n, memory_order_relaxed);
    return sum;
}
