/* SPDX-License-Identifier: Apache-2.0
 *
 * engine/lane_impl.h: what lane.c and chain.c share. Nobody else includes it.
 */
#ifndef WR_ENGINE_LANE_IMPL_H
#define WR_ENGINE_LANE_IMPL_H

#include <engine/idle.h>
#include <engine/runtime.h>

/* A batch in front of a component. */
struct wr_work {
    struct wr_batch *b;
    uint32_t component;
    bool again; /* apply has answered AGAIN for this batch */
};

struct wr_lane {
    struct wr_pipeline *p;
    struct wr_instance *src;
    const struct weir_source *type; /* of it */
    uint32_t source;                /* its component; WR_NOWHERE: its graph has gone on without it */
    uint32_t index, count;
    struct wr_instance **inst; /* by component; NULL where this lane has none */
    uint32_t n_inst;
    struct wr_acks *acks;
    struct wr_wake wake;
    struct wr_waiter waiter;
    pthread_t thread;
    bool has_thread;
    pthread_t owner; /* the thread that steps it, once it has been stepped: for checks */
    bool owned;

    struct wr_work *stack; /* the next one is the last */
    uint32_t n_work, cap_work;
    bool parked;       /* the top of the stack cannot go on now */
    int64_t resume_at; /* try again then, at the latest */
    struct wr_batch *spare;
    struct wr_batch *early, *last_early; /* what the source gave though it was told room 0 */
    uint32_t seal;
    bool make_ids; /* some component reads ids */
    bool waits_for_memory;

    bool polling, stopped, ended;
    _Atomic bool leaves;            /* its source goes, the pipeline stays */
    _Atomic bool flushed, finished; /* its own; read by the thread that reloads */
    _Atomic bool left;              /* flushed, and its transforms hold nothing any more */
    struct wr_instance **late;      /* transforms that still hear what becomes of events, behind the graph */
    uint32_t n_late;
    uint32_t final_at;  /* components below it have had their final tick */
    uint32_t room; /* events that a poll may give */
    uint32_t idle_spins, last_polled;
    uint32_t n_untold; /* batches since the outlets were told of any */
    int64_t next_serve; /* of an ended source */
    struct wr_idle idle;
};

#define WR_NOWHERE UINT32_MAX
#define WR_ROOM_WAITING 512u /* where a transform waits for others: once a batch */

/* Runs the work on the stack until it is empty or parked. */
void wr_chain_run(struct wr_lane *lane, int64_t now);
/* Puts the batch in front of every reader of that component. Takes it. */
void wr_chain_emit(struct wr_lane *lane, uint32_t component, struct wr_batch *take_b);
/* As emit, behind a call of that component: what it dropped or failed is ended first, and its dead
 * letters go ahead of the rest. */
void wr_chain_leave(struct wr_lane *lane, uint32_t component, struct wr_batch *take_b);
/* Calls a transform's tick and emits what it gave. False: no memory for the call. */
bool wr_chain_tick(struct wr_lane *lane, struct wr_instance *inst, bool final);
/* Ends everything on the stack and everything held as failed. */
void wr_chain_abort(struct wr_lane *lane);


/* ---- lane_swap.c ---- */

/* A swap is wanted: does what has to come first in the old graph. True where nothing is left of that. */
bool wr_lane_rests(struct wr_lane *lane, const struct wr_swap *swap, int64_t now);
/* It leaves and is flushed: notes whether the graph can go on without it. */
void wr_lane_has_left(struct wr_lane *lane);

#endif
