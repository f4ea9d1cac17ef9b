/* SPDX-License-Identifier: Apache-2.0
 *
 * base/budget.h: the one limit of memory that the process has, who uses how much of it, and whether what
 * is left is short. Thread: any, but for set.
 *
 *      0 ──────────────────────────── low ───── high ───── limit
 *        sources are polled as always      │       └ the kernel would kill
 *                                          └ from here on, until it is below `low`, memory is short:
 *                                            nothing more comes in
 *
 * What decides is what the system counts, resident memory, read at most every few milliseconds: all that
 * libraries and the allocator keep is in it. What the parts say of themselves is for the metrics.
 */
#ifndef WR_BASE_BUDGET_H
#define WR_BASE_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WR_BUDGET_LOOK_NS INT64_C(5000000)
#define WR_BUDGET_USES 8u

/* What bodies and event arrays take. */
#define WR_USE_EVENTS 0u

/* 0: no limit. Before there are threads, or in tests. */
void wr_budget_set(size_t limit);
size_t wr_budget_limit(void);

/* The use of that name (a static string), made on first use; where there are too many, the last one. */
uint32_t wr_budget_use(const char *name);
/* NULL behind the last. */
const char *wr_budget_use_name(uint32_t use);
void wr_budget_charge(uint32_t use, int64_t bytes);
size_t wr_budget_used(uint32_t use);

/* Resident memory as the system counts it now; 0 where it does not tell. */
size_t wr_budget_resident(void);
/* True near the limit. `now` is the host clock's. */
bool wr_budget_short(int64_t now);
/* How often it became short. */
uint64_t wr_budget_shortages(void);
/* Most that the events held by one component may take. */
size_t wr_budget_held_max(void);

#endif
