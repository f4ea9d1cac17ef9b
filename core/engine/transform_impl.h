/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/transform_impl.h: what transform_host.c and transform_hold.c share. Nobody else includes it.
 */
#ifndef WR_ENGINE_TRANSFORM_IMPL_H
#define WR_ENGINE_TRANSFORM_IMPL_H

#include <base/check.h>
#include <engine/runtime.h>
#include <engine/transform_host.h>

static inline struct wr_instance *inst_of(const struct weir_host *h)
{
    return (struct wr_instance *)h->priv;
}

/* For functions tagged [lane]: a call from another thread is a bug of the plugin. */
static inline struct wr_instance *here(const struct weir_host *h)
{
    struct wr_instance *inst = inst_of(h);
    WR_DEBUG_ON(inst->lane != NULL && !wr_lane_is_here(inst->lane));
    return inst;
}

/* From the first derived event on, each event carries the place it will leave in. */
static inline void number_events(struct wr_batch *b)
{
    if (b->n_derived != 0)
        return;
    for (uint32_t i = 0; i < b->pub.n_events; i++)
        wr_batch_events(b)[i].host_order = i;
}

#endif
