/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/shares.h: the fixed shares of the process's memory: what the options of all pipelines together
 * let components take (those with WEIR_OPT_MEMORY, and the buffers), made to fit before anything starts.
 *
 * Defaults are lowered, all by the same factor; what a file gives stays as it is, or does not fit.
 */
#ifndef WR_ENGINE_SHARES_H
#define WR_ENGINE_SHARES_H

#include <engine/plan.h>

/* The least limit that can be worked with. */
#define WR_SHARES_LIMIT_MIN (UINT64_C(32) << 20)

struct wr_shares;

/* Collects them. The plans must outlive it; NULL among them are passed over. */
struct wr_shares *wr_shares_new(struct wr_plan *const *plans, uint32_t n);
void wr_shares_free(struct wr_shares *take_s);
/* Of a plan that takes the place of `old`, which runs: components that go on as they are keep what they have,
 * which is written into the plan. */
struct wr_shares *wr_shares_new_for(struct wr_plan *plan, const struct wr_plan *old);
/* Takes back what wr_shares_fit lowered. */
void wr_shares_restore(struct wr_shares *s);
/* Of a plan that runs: its components have their memory, and it stays what it is. */
void wr_shares_add_running(struct wr_shares *s, const struct wr_plan *plan);

/* Lowers defaults in the plans' config structs until all shares fit into what `limit` leaves beside the
 * program itself. False with errors in d (of which the plans' positions are) where they cannot; once. */
bool wr_shares_fit(struct wr_shares *s, uint64_t limit, struct wr_diags *d);
/* Of a limit, what is there for the shares. */
uint64_t wr_shares_room(uint64_t limit);

uint64_t wr_shares_total(const struct wr_shares *s);
/* How many were lowered. */
uint32_t wr_shares_lowered(const struct wr_shares *s);
/* "orders: sources.in.prefetch 2 x 16MiB -> 4MiB; ...": those that were lowered. */
void wr_shares_table(const struct wr_shares *s, struct wr_buf *out);

/* Lanes that a source has: never more than cores, unless the user asked. */
uint32_t wr_lanes_of(const struct wr_component *source);

#endif
