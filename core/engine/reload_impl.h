/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/reload_impl.h: what reload.c, reload_swap.c and lane_swap.c share.
 */
#ifndef WR_ENGINE_RELOAD_IMPL_H
#define WR_ENGINE_RELOAD_IMPL_H

#include <engine/lane_impl.h>
#include <engine/outlet_impl.h>
#include <engine/reload.h>

#define WR_SWAP_LOOK_NS (50 * WEIR_NS_PER_MS) /* how often those that wait look, and the caller is asked */

/* What becomes of one lane that stays. */
struct wr_lane_swap {
    struct wr_lane *lane;
    bool *goes;                /* by old component: its instance here is closed */
    struct wr_instance **inst; /* by new component: opened for it; NULL: none, or the old one stays */
    uint32_t ticked;           /* old components below it have had their final tick. [lane] */
};

/* What becomes of one sink of the new plan. */
struct wr_sink_swap {
    struct wr_outlet *outlet;  /* a new one; NULL: the old one stays */
    struct wr_instance **inst; /* by shard: to take over in the old outlet; NULL: they stay */
};

/* Who is to rest: first the lanes, which may wait for what sinks deliver, then the sinks, which may wait for
 * dead letters to be taken, then all. */
enum wr_swap_rest { WR_REST_LANES, WR_REST_SINKS, WR_REST_DEAD };

struct wr_swap {
    struct wr_pipeline *p;
    uint32_t refs;    /* of the reload and of each thread that looks into it; under the pipeline's swap_mutex */
    _Atomic int rest; /* enum wr_swap_rest */
    struct wr_graph old, new;
    uint32_t *new_of;           /* by old component; WR_NOWHERE: gone, or another one of the same id */
    uint32_t *old_of;           /* by new component: what it was, be it that it changed; WR_NOWHERE: new */
    bool *same;                 /* by new component: goes on as it is */
    bool *told;                 /* by old component: its lanes were told to leave, by this reload */
    bool *beside;               /* by new component: a source that is open though the old one still runs */
    struct wr_lane_swap *lanes;
    uint32_t n_lanes;
    struct wr_sink_swap *sinks; /* by new component */
    struct wr_lane **added;     /* of sources that changed or are new */
    uint32_t n_added;
    uint32_t n_resting;         /* threads; under the pipeline's swap_mutex */
    bool lanes_rest;            /* all of them did at once, and stay; under that, too */
};

/* Nothing is left for this shard to do before the swap. */
bool wr_shard_rests(const struct wr_shard *s, const struct wr_swap *swap);
/* With the last of those that look: one may still be at it when the reload has failed. */
void wr_swap_unref(struct wr_pipeline *p, struct wr_swap *take_swap);
/* NULL: it leaves. */
struct wr_lane_swap *wr_swap_of_lane(const struct wr_swap *swap, const struct wr_lane *lane);

/* ---- reload_swap.c ---- */

/* Puts the new graph in place. Every lane and shard rests, or there are no threads. */
void wr_swap_apply(struct wr_swap *swap);

/* ---- reload_reap.c ---- */

/* Of a source that goes, once it has finished. [control] */
void wr_reload_reap_lanes(struct wr_pipeline *p);
void wr_reload_close_lane(struct wr_lane *take_lane);

/* ---- plan_same.c ---- */

/* Where the plan has the component of that kind and id; WR_NOWHERE where it has none. */
uint32_t wr_component_find(const struct wr_plan *plan, const struct wr_component *comp);
/* The same type with the same options, and what those name reads the same. */
bool wr_component_same(const struct wr_component *a, const struct wr_component *b);
/* The name of what a sink's outlet is built for and cannot change: NULL where it can go on as `b`, be it with
 * other options of the type. */
const char *wr_outlet_misfit(const struct wr_component *a, const struct wr_component *b);
bool wr_outlet_fits(const struct wr_component *a, const struct wr_component *b);
/* Both are sinks whose buffers on disk are one and the same. */
bool wr_buffer_same_folder(const struct wr_component *a, const struct wr_component *b);

#endif
