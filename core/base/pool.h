/* SPDX-License-Identifier: Apache-2.0
 *
 * base/pool.h: recycled blocks for arenas and event arrays. Thread: any.
 *
 * A batch lives some milliseconds and dies on another thread than it was made on. What it leaves is warm
 * in the cache and mapped already: it goes to the next batch instead of back to the system. What the
 * pool keeps is bounded.
 */
#ifndef WR_BASE_POOL_H
#define WR_BASE_POOL_H

#include <stddef.h>

/* At least size bytes, not zeroed; *ret_cap tells how many. NULL when memory is used up. */
void *wr_pool_get(size_t size, size_t *ret_cap);
/* cap: what get said. NULL is allowed. */
void wr_pool_put(void *take_p, size_t cap);
/* Frees what is kept. */
void wr_pool_trim(void);
/* Keeps no more than that of each size, and never more than 4 MiB. */
void wr_pool_bound(size_t bytes);

#endif
